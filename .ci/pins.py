"""Versions as constraints of pip: `lowest`, the lower bounds of pyproject.toml; `tested REPORT`, what pip's report would install."""

import json
import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
HEADER = "# The versions that CI tests with, on Linux and Python {python_version}: written by `make constraints`.\n"


def lowest() -> dict[str, str]:
    """The lower bound of each library that the program needs, with its extras, and of each tool of its tests."""
    stated = tomllib.loads(PROJECT.read_text())
    project = stated["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
        *stated["dependency-groups"]["test"],
    ]
    found = {}
    for each in wanted:
        bound = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", each)
        if bound is None:
            sys.exit(f"pyproject.toml: {each!r} has no lower bound; write {each.split()[0]}>=VERSION")
        found[bound[1]] = bound[2]
    return found


def tested(report: Path) -> dict[str, str]:
    """Each package of a report of pip, except the program."""
    installed = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    return {each["name"]: each["version"] for each in installed if each["name"] != "roundsman"}


def written(versions: dict[str, str]) -> str:
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in versions.items()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(names.items()))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["lowest"]:
            print(written(lowest()), end="")
        case ["tested", report]:
            environment = json.loads(Path(report).read_text())["environment"]
            print(HEADER.format(**environment) + written(tested(Path(report))), end="")
        case _:
            sys.exit("usage: pins.py lowest | pins.py tested REPORT")
