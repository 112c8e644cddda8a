"""What is installed: each type of source and sink, where it comes from, whether it loads, and what it can do."""

import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from roundsman.config.registry import GROUPS, installed, load_type
from roundsman.errors import ConfigError, reason
from roundsman.legacy import takes_a_visit
from roundsman.plugin import Receives, Registers, Rewinds, Sink, Source, Tracks

ABILITIES: Mapping[str, type] = {
    "webhooks": Receives,
    "track": Tracks,
    "rewind": Rewinds,
    "registers": Registers,
}
"""What a source can do. Without `webhooks`, it can `ring`: a webhook triggers a visit."""
BUILT_IN = "built in"


@dataclass(frozen=True)
class Installed:
    """One type, as `roundsman plugins --json` shows it."""

    type: str
    kind: str
    """`source` or `sink`."""
    origin: str
    """`built in`, or the distribution with its version."""
    folder: str | None
    """Where it is, if not among the libraries of this Python: an editable install, or a folder for plugins."""
    shadows: list[str]
    """The origins of types of the same name that it hides."""
    error: str | None
    """Why it does not load."""
    abilities: list[str]
    deprecated: bool
    """Its `poll` is that of versions before 0.6, which works until 1.0."""


def all_installed() -> Iterator[Installed]:
    """Every type, sources first."""
    for group, ours in GROUPS.items():
        kind: Literal["source", "sink"] = "source" if group == "roundsman.sources" else "sink"
        points: dict[str, list[EntryPoint]] = {}
        for point in installed(group, ours):
            points.setdefault(point.name, []).append(point)
        for same in points.values():
            yield _described(kind, same[-1], [_origin(each) for each in same[:-1]])


def _described(kind: Literal["source", "sink"], point: EntryPoint, shadows: list[str]) -> Installed:
    found, error = _loaded(point)
    return Installed(
        point.name,
        kind,
        _origin(point),
        _folder(point.dist),
        shadows,
        error,
        _abilities(found) if found is not None else [],
        found is not None and issubclass(found, Source) and not takes_a_visit(found),
    )


def _abilities(found: type[Source | Sink]) -> list[str]:
    names = [name for name, ability in ABILITIES.items() if issubclass(found, ability)]
    return ["ring", *names] if issubclass(found, Source) and not issubclass(found, Receives) else names


def _loaded(point: EntryPoint) -> tuple[type[Source | Sink] | None, str | None]:
    """The class, or why there is none."""
    try:
        with redirect_stdout(sys.stderr):  # standard output is for `--json`: a module may print, too
            found = load_type(point)
    except ConfigError as exc:
        return None, reason(exc)
    return found, _misnamed(found, point)


def _misnamed(found: type[Source | Sink], point: EntryPoint) -> str | None:
    """A message if the class and the entry point name different types: no table could have both."""
    own = get_args(found.model_fields["type"].annotation)
    if not own or point.name in own:
        return None
    return f'the entry point calls it "{point.name}", and its field type is "{own[0]}"'


def _origin(point: EntryPoint) -> str:
    return BUILT_IN if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _folder(dist: Distribution | None) -> str | None:
    if dist is None:
        return None
    with suppress(ValueError, KeyError, TypeError):
        url: dict[str, Any] = json.loads(dist.read_text("direct_url.json") or "")
        if url["dir_info"]["editable"]:
            return unquote(urlsplit(url["url"]).path)
    home = Path(str(dist.locate_file(""))).resolve()
    usual = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return None if home in usual else str(home)
