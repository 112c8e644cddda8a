"""A secret in any option of any built-in source and sink: `roundsman doctor` shows it nowhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from roundsman.config import load_type, sinks_registry, sources_registry
from roundsman.doctor.scrub import Scrub
from roundsman.doctor.settings import SHOWN, settings

FORMS = {
    "text": '"{}"',
    "header": '"Bearer {}"',
    "arguments": '["--verbose", "--key={}"]',
    "table": '{{ mode = "{}" }}',
    "login": '"https://user:{}@host.example/"',
    "path of a URL": '"https://host.example/{}/messages"',
    "query": '"https://host.example/?a={}"',
    "address of a chat": '["chat://{}/room"]',
    "body": """'{{"text": "$summary", "x": "{}"}}'""",
    "name": '{{ env = "{}" }}',
}
CLASSES = [
    (section, name, load_type(entry))
    for section, registry in (("sources", sources_registry()), ("sinks", sinks_registry()))
    for name, entry in registry.items()
    if entry.value.startswith("roundsman.")
]


def options(table: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """The dotted key of each option that is no table."""
    for name, field in table.model_fields.items():
        key = field.alias or name
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)]
        for each in inner:
            yield from options(each, (*place, key))
        if not inner and (place or key not in {"type", "name"}):
            yield ".".join((*place, key))


@pytest.mark.parametrize("form", FORMS)
def test_no_option_shows_a_secret_that_is_in_it(form: str, tmp_path: Path) -> None:
    tables, lines, planted = [], [], {}
    for number, (section, kind, table) in enumerate(CLASSES):
        tables.append(f'[{section}.n{number}]\ntype = "{kind}"')
        for key in options(table):
            if (
                form in {"text", "header", "arguments", "body"}
                and key in SHOWN
                and (section, key) != ("sources", "path")
            ):
                continue  # of these, the whole text is shown
            secret = f"pL{len(planted):03d}-aNted"
            planted[secret] = f"{kind}: {key}"
            tables.append(f"{key} = {FORMS[form].format(secret)}")
            lines.append(f"refused {secret}, and /{secret}/")
    assert len(planted) > 150
    config = tmp_path / "roundsman.toml"
    config.write_text("\n".join(tables))
    scrub = Scrub()
    [shown] = settings(config, {}, scrub).files.values()
    shown += "\n".join(map(scrub.log_line, lines))
    assert [where for secret, where in planted.items() if secret in shown] == []
    assert shown.count("type = ") >= len(CLASSES)
