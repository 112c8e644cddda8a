"""configuration.md, from the types, defaults and docstrings of options."""

import re
from collections.abc import Iterator

from pydantic import BaseModel, TypeAdapter

from generated.kinds import default, kind, model_of, toml
from generated.markdown import DOCS, code, codes, document, item, link, prose, slug, wrapped
from generated.texts import below, doc, paragraph
from roundsman import config
from roundsman.config.daemon import DaemonOptions
from roundsman.config.heartbeat import HeartbeatOptions
from roundsman.config.schema import descriptions
from roundsman.http.transport import HttpOptions
from roundsman.options import paths, values
from roundsman.options.listen import ListenOptions
from roundsman.options.secrets import Secret
from roundsman.plugin import Sink, Source

LONGEST = 50
"""Characters of a default that stands beside its option; a longer one is in a paragraph of its own."""
INTRODUCTION = """
The configuration is one TOML file. `roundsman check` validates it, and `roundsman schema config` prints a JSON
Schema of it for an editor.

`include = ["conf.d/*.toml"]` at the top of the file names more files: see
[More than one file](../start/first-account.md#more-than-one-file).
"""


def page() -> str:
    return Page().text()


class Page:
    """The page, and which tables it has already."""

    def __init__(self) -> None:
        self._told: dict[type[BaseModel], str] = {}
        """The headings of tables that several options share."""

    def text(self) -> str:
        parts = [prose(INTRODUCTION), "## Kinds of values", *_kinds()]
        for model, name in (
            (DaemonOptions, "daemon"),
            (HttpOptions, "http"),
            (ListenOptions, "listen"),
            (HeartbeatOptions, "heartbeat"),
        ):
            parts += [f"## [{name}]", wrapped(_sentence(model)), *self._options(model, name, name, set())]
        for base, noun, registry in (
            (Source, "source", config.sources_registry()),
            (Sink, "sink", config.sinks_registry()),
        ):
            parts += self._common(base, noun)
            for name, entry in registry.items():
                parts += self._plugin(config.load_type(entry), name, base, noun)
        return document("Configuration", *parts)

    def _common(self, base: type[BaseModel], noun: str) -> Iterator[str]:
        yield f"## Options of every {noun}"
        yield wrapped(f"In each table `[{noun}s.NAME]`. NAME is a name of your choice.")
        yield from self._options(base, f"{noun}s.NAME", "", set())

    def _plugin(self, model: type[BaseModel], name: str, base: type[BaseModel], noun: str) -> Iterator[str]:
        shared = {
            option
            for option, field in base.model_fields.items()
            if model_of(field) is model_of(model.model_fields[option])
        }
        without = {text for option, text in _items(base) if option in shared}
        without |= {text for option, text in _items(model) if option == "type"}
        yield f"## {noun.capitalize()}: {name}"
        about = f'{doc(model)} Table `[{noun}s.NAME]` with `type = "{name}"`'
        yield wrapped(
            f"{about}, and the [options of every {noun}](#options-of-every-{noun}).{_more(name, noun)}"
        )
        yield from self._options(model, f"{noun}s.NAME", name, without)

    def _options(self, model: type[BaseModel], table: str, name: str, without: set[str]) -> Iterator[str]:
        """The options of a table, except the items `without`; then the tables inside it."""
        tables = {field.alias or option: model_of(field) for option, field in model.model_fields.items()}
        shown = [(option, text) for option, text in _items(model) if text not in without]
        for option, text in shown:
            inside = tables[option]
            heading = self._told.get(inside) if inside is not None else None
            yield text + (f"\n    Its options are those of [{heading}](#{slug(heading)})." if heading else "")
        for option, _ in shown:
            inside = tables[option]
            if inside is not None and inside not in self._told:
                heading = f"{name}{'.' if ': ' in name else ': '}{option}" if name else option
                self._told[inside] = heading
                yield f"### {heading}"
                yield wrapped(f"Table `[{table}.{option}]`: {_about(inside)}{_guides(heading)}")
                yield from self._options(inside, f"{table}.{option}", heading, set())


def _kinds() -> list[str]:
    """Values that are more than TOML's own."""
    value, path = below(values), below(paths)
    return [
        item("duration", value["Duration"]),
        item("size", value["Size"]),
        item("date-time", 'A date-time of TOML, a date, or a text such as `"2026-05-01T00:00:00Z"`.'),
        item("path", f"{path['FilePath']} {path['DataPath']}"),
        item("secret", paragraph(doc(Secret), 1)),
    ]


def _about(model: type[BaseModel]) -> str:
    """The docstring of a table, without its name."""
    return re.sub(r"^`[^`]*`: (.)", lambda match: match[1], doc(model))


def _more(name: str, noun: str) -> str:
    """A link to the page of a type of source or sink, if there is one."""
    names = dict.fromkeys((name.replace(".", "-"), name.partition(".")[0]))
    pages = [f"{noun}s/{each}.md" for each in names if (DOCS / f"{noun}s/{each}.md").exists()]
    return f" Guide: {link(pages[0])}." if pages else ""


def _guides(heading: str) -> str:
    """Links to the guides to the webhooks of a vendor, or of all vendors."""
    if not heading.endswith("webhook"):
        return ""
    vendor = heading.partition(".")[0] if "." in heading else "*"
    pages = sorted(DOCS.glob(f"guides/webhooks-{vendor}.md"))
    return f" Guides: {', '.join(link(str(page.relative_to(DOCS))) for page in pages)}."


def _items(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Each option, and the item of a list about it."""
    schema = TypeAdapter(model).json_schema()["properties"]
    texts = descriptions(model)
    for option, field in model.model_fields.items():
        name, inside = field.alias or option, model_of(field)
        sort = kind(field, schema[name])
        value = default(field, sort)
        text = " ".join(texts.get(option, "" if inside is None else _sentence(inside)).split())
        facts = [sort, "required"] if field.is_required() else [sort]
        if len(value) > LONGEST:
            text += f" Default: {codes(map(toml, field.default))}."
        elif value:
            facts.append(f"default {code(value)}")
        yield name, item(f"`{name}` ({', '.join(facts)})", text)


def _sentence(model: type[BaseModel]) -> str:
    text = _about(model)
    return text[0].upper() + text[1:]
