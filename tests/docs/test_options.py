"""The tables of options on the pages of the sources: each option is the type's own, with its default."""

import re
import tomllib
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

import pages
from roundsman import config
from roundsman.sources import SOURCES


class Option(NamedTuple):
    place: str
    kind: str
    """The type of the source."""
    path: tuple[str, ...]
    default: str | None
    """As TOML; None if the page gives none, or gives it in words."""


def options() -> Iterator[Option]:
    """The rows of the tables."""
    for page in pages.pages():
        if page.startswith("docs/sources/"):
            yield from _of(page)


def _of(page: str) -> Iterator[Option]:
    kind = table = ""
    columns: list[str] = []
    kinds = re.findall(r'^type = "([a-z_.]+)"$', pages.text_of(page), re.MULTILINE)
    kinds = [each for each in kinds if each in config.sources_registry()]
    for number, line in enumerate(pages.text_of(page).splitlines(), 1):
        if heading := re.match(r"##+ (\S+)$", line):
            table = heading[1]
            kind = table if table in kinds else kind
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| option |"):
            columns = cells
        elif not line.startswith("|"):
            columns = []
        elif columns and line.startswith("| `"):
            yield from _row(
                f"{page}:{number}", kind or kinds[0], table, dict(zip(columns, cells, strict=True))
            )


def _row(place: str, kind: str, table: str, row: dict[str, str]) -> Iterator[Option]:
    names = re.findall(r"`([a-z_.]+)(?: = [^`]*)?`", row["option"])
    defaults = re.findall(r"`([^`]*)`", row.get("default", ""))
    prefix = (table,) if table in {"rows", "pages", "since", "event", "auth"} else ()
    for number, name in enumerate(names):
        default = defaults[number] if len(defaults) == len(names) else None
        yield Option(place, kind, (*prefix, *name.split(".")), default)


OPTIONS = list(options())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.kind}.{'.'.join(option.path)}")
def test_each_option_is_the_types_own_with_the_default_that_the_page_gives(option: Option) -> None:
    model: Any = config.source_class(option.kind)
    for name in option.path[:-1]:
        model = table_of(model, name)
    assert option.path[-1] in fields_of(model), option.place
    if option.default is not None:
        field = fields_of(model)[option.path[-1]]
        given = TypeAdapter(Annotated[field.annotation, *field.metadata, None]).validate_python(
            tomllib.loads(f"value = {option.default}")["value"]
        )
        assert given == field.get_default(call_default_factory=True), option.place


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields by the names of their options."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def table_of(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The model of an option that is a table."""
    annotation = fields_of(model)[name].annotation
    [found] = [each for each in (annotation, *get_args(annotation)) if is_table(each)]
    return found


def is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_each_page_of_a_source_has_a_table_of_options() -> None:
    assert {option.kind for option in OPTIONS} == set(SOURCES)
