"""The shape of the tree: imports point inward, SQL stands in one place, and so does what swallows errors."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "roundsman"
FLOORS: tuple[str, ...] = (
    "masking times",
    "errors program sandbox",
    "wire options shapes summary",
    "events kinds system webhook",
    "http redaction terminal",
    "members",
    "plugin",
    "kit legacy store",
    "sources sinks",
    "config engine screen",
    "web testing",
    "service",
    "demo doctor",
    "cli",
    "__init__ __main__",
)
"""What may import what: a package imports those on the floors below it, and none beside it or above."""


def modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in SRC.rglob("*.py"):
        found.setdefault(path.relative_to(SRC).parts[0].removesuffix(".py"), []).append(path)
    return found


def imports(path: Path) -> set[str]:
    """The rooms that a file imports, also for its annotations only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "roundsman":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in names if not name.startswith("__")}


def test_imports_point_inward() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
    assert modules().keys() == floor.keys(), "each room stands on a floor"
    wrong = [
        f"{path.relative_to(SRC)} imports {other}"
        for name, paths in modules().items()
        for path in paths
        for other in imports(path)
        if other != name and floor[other] >= floor[name]
    ]
    assert wrong == []


def test_only_the_demo_knows_the_sandbox() -> None:
    knowing = {name for name, paths in modules().items() for path in paths if "sandbox" in imports(path)}
    assert knowing <= {"cli", "demo", "sandbox"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_only_the_face_of_the_store_knows_its_kinds(kind: str) -> None:
    knowing = {
        str(path.relative_to(SRC))
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"roundsman.store.{kind}."))
        or (isinstance(node, ast.ImportFrom) and node.module == "roundsman.store" and kind in names(node))
        or (isinstance(node, ast.Import) and any(f"store.{kind}" in name for name in names(node)))
    }
    assert {path for path in knowing if not path.startswith(f"store/{kind}/")} == {"store/__init__.py"}


def names(node: ast.Import | ast.ImportFrom) -> set[str]:
    """What a statement imports."""
    return {alias.name for alias in node.names}


def test_all_sql_is_in_the_stores_and_in_the_sink_that_writes_tables() -> None:
    words = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM", "PRAGMA ")
    places = ("store/sqlite", "store/postgres", "sinks/postgres")
    for path in SRC.rglob("*.py"):
        if not any(path.is_relative_to(SRC / place) for place in places):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not node.value.strip().startswith(words), path


def test_values_of_sql_have_names_or_stand_in_order() -> None:
    """Python 3.14 refuses a sequence of values for `?1`."""
    numbered = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in (SRC / "store").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\?\d", node.value)
    ]
    assert numbered == []


def test_the_type_of_a_field_names_no_attribute_of_its_class() -> None:
    """Python 3.14 reads annotations when the class is whole: `list` is then its attribute `list`."""
    found = []
    for path in SRC.rglob("*.py"):
        for kind in ast.walk(ast.parse(path.read_text())):
            if isinstance(kind, ast.ClassDef):
                fields = [each for each in kind.body if isinstance(each, ast.AnnAssign)]
                own = {each.target.id for each in fields if isinstance(each.target, ast.Name)}
                own |= {
                    each.name
                    for each in kind.body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                }
                used = [
                    name
                    for each in fields
                    for name in ast.walk(each.annotation)
                    if isinstance(name, ast.Name)
                ]
                found += [
                    f"{path.relative_to(SRC)}:{name.lineno}: {name.id}" for name in used if name.id in own
                ]
    assert found == []


def test_errors_are_swallowed_in_few_places() -> None:
    broad = {
        path.name
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and node.type is not None
        and any(isinstance(kind, ast.Name) and kind.id == "Exception" for kind in ast.walk(node.type))
    }
    # cli's live, run and hooks: `check --live`, `poll` and `hooks` show what a plugin raised; config's loading and registry: importing a plugin may raise anything.
    # advice: a plugin's own warnings are not worth a failure of the command.
    # gaps: what a visit found is committed even if a plugin cannot state its gap.
    # services: each service of Apprise is a plugin of a library.
    # testing's contract, promises and sinks: they find out what a plugin raises.
    # reception: any exception of a plugin about a webhook means "not understood". service: nor does a reload end without an answer.
    # writer: an error of a unit goes to its caller, and the next unit is written all the same.
    assert broad == {
        "advice.py",
        "visit.py",
        "delivery.py",
        "reception.py",
        "live.py",
        "run.py",
        "hooks.py",
        "loading.py",
        "registry.py",
        "service.py",
        "services.py",
        "contract.py",
        "gaps.py",
        "promises.py",
        "sinks.py",
        "writer.py",
    }


MANY = {
    "cli/status.py events": "options of a command",
    "cli/failures.py failures": "options of a command",
    "cli/forget.py forget": "options of a command",
    "engine/engine.py __init__": "to be split",
    "events.py notice": "options of a public function",
    "events.py of": "options of a public function",
    "engine/notices.py _own": "to be split",
    "store/protocol.py ack": "to be an object",
    "store/sqlite/books.py ack": "to be an object",
    "store/postgres/books.py ack": "to be an object",
    "cli/run.py poll": "options of a command",
    "cli/pausing.py pause": "options of a command",
    "cli/control.py rewind": "options of a command",
    "cli/status.py _last": "options of a command",
    "testing/visits.py visit": "options of a public function",
    "cli/failures.py failures_log": "options of a command",
    "screen/status.py status": "what a source's class knows, each without it left out",
}
"""Functions with more than five parameters, and why."""
NOT_COUNTED = {"self", "cls", "transaction"}
"""What a method is called on, and what a unit of a store writes in."""


def test_no_file_is_longer_than_a_reader_bears() -> None:
    long = {
        str(path.relative_to(SRC)) for path in SRC.rglob("*.py") if len(path.read_text().splitlines()) > 450
    }
    assert long == set()


def test_a_function_with_many_parameters_has_a_reason() -> None:
    many = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([each for each in given if each.arg not in NOT_COUNTED]) > 5:
                    many.add(f"{path.relative_to(SRC)} {node.name}")
    assert many == MANY.keys()


def files() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = ("roundsman", *path.relative_to(SRC).with_suffix("").parts)
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def test_no_circle_of_files() -> None:
    """Also for annotations only, and inside functions; but for a package's face, which only hands names on."""
    known = files()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("roundsman"):
                continue
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                other = whole if whole in known else str(node.module)
                if path.name != "__init__.py" and known[other].name != "__init__.py":
                    graph[name].add(other)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_proof_runs_each_file_of_tests_that_proves_by_number() -> None:
    tests = Path(__file__).parent
    makefile = (tests.parent / "Makefile").read_text()
    [proof] = re.findall(r"^proof:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    run = set(re.findall(r"tests/\S+[.]py", proof))
    counted = {
        f"tests/{path.relative_to(tests)}"
        for path in tests.rglob("test_*.py")
        if re.search("^from budgets import", path.read_text(), re.MULTILINE)
    }
    assert run == counted
