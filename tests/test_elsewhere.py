"""Texts that are no secrets and differ between machines: they may be in a variable, a file or a credential."""

from pathlib import Path

import jsonschema
import pytest

from roundsman import config
from roundsman.config import advice
from roundsman.errors import ConfigError
from roundsman.masking import mask
from roundsman.options.environment import environment_of_programs

HIDDEN = "/services/T0123456789/B0123456789/abcdefghijklmnopqrstuvwxyz"


def written(
    folder: Path, *, base_url: str = '"https://api.parakey.co"', url: str = '"https://a.example/"'
) -> Path:
    path = folder / "roundsman.toml"
    path.write_text(
        '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "a-long-token"\n'
        f'domain_id = {{ file = "place" }}\nbase_url = {base_url}\n'
        '[sources.ledger]\ntype = "railz.pushes"\nclient_id = { credential = "client" }\nsecret_key = "a-long-key"\n'
        f'connections = "discover"\n[sinks.crm]\ntype = "http"\nurl = {url}\n'
    )
    path.chmod(0o600)
    (folder / "place").write_text("place-7\n")
    (folder / "credentials").mkdir(exist_ok=True)
    (folder / "credentials/client").write_text("client-7\n")
    return path


def test_a_text_is_read_from_a_variable_a_file_or_a_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_URL", "https://parakey.example/v1/")
    monkeypatch.setenv("CRM_URL", f"https://hooks.example.org{HIDDEN}")
    path = written(tmp_path, base_url='{ env = "PARAKEY_URL" }', url='{ env = "CRM_URL" }')
    loaded = config.load(path)
    assert loaded.sources["doors"].origin() == "https://parakey.example/v1, domain_id place-7"
    assert loaded.sources["ledger"].origin().endswith("client_id client-7")
    assert getattr(loaded.sinks["crm"], "url") == f"https://hooks.example.org{HIDDEN}"  # noqa: B009 - of this sink only
    assert (
        mask("place-7 client-7 https://parakey.example/v1") == "place-7 client-7 https://parakey.example/v1"
    )
    assert HIDDEN not in mask(f"POST https://hooks.example.org{HIDDEN} failed")
    environment = environment_of_programs()
    assert "PARAKEY_URL" in environment
    assert "CRM_URL" not in environment, "it may hold a secret, so that no program gets it"


def test_a_value_that_moves_to_a_variable_is_the_same_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is reset or warned of: no cursor, no ETag."""
    before = config.load(written(tmp_path)).sources["doors"]
    monkeypatch.setenv("PARAKEY_URL", "https://api.parakey.co")
    after = config.load(written(tmp_path, base_url='{ env = "PARAKEY_URL" }')).sources["doors"]
    assert before.fingerprint(before.identity()) == after.fingerprint(after.identity())


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "the environment has no variable SOME_URL"),
        ("ftp://parakey.example", 'ftp://parakey.example is not an http(s) URL; write "https://host/path"'),
        ("https://parakey.example?a=b", "has a query, and paths are appended to it"),
        ("", "the variable SOME_URL is empty"),
        ("${PARAKEY_URL}", "the variable SOME_URL holds a placeholder that no program replaces"),
    ],
)
def test_a_mistake_shows_the_value(
    value: str | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("SOME_URL", value)
    [found] = problems(written(tmp_path, base_url='{ env = "SOME_URL" }'))
    assert f"sources.doors.base_url: {problem}" in found


@pytest.mark.parametrize(
    "url",
    [
        f"hooks.example.org{HIDDEN}",
        f"ftp://hooks.example.org{HIDDEN}",
        "https://user:a-password@hooks.example.org",
    ],
)
def test_a_url_that_may_hold_a_secret_is_not_shown(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_URL", url)
    [found] = problems(written(tmp_path, url='{ env = "SOME_URL" }'))
    assert ": sinks.crm.url: the text there " in found
    assert url[8:20] not in found


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("{ vault = 'x' }", "vault is not a place for a text; use one of credential, env, file, command"),
        ("{ env = 'A', file = 'b' }", "names several places; use one of credential, env, file, command"),
        ("{ }", 'is not a text; write { credential = "name" }, { env = "NAME" } or { file = "path" }'),
        ("{ env = 7 }", "is not a text"),
    ],
)
def test_a_table_that_names_no_place_is_a_mistake(table: str, problem: str, tmp_path: Path) -> None:
    [found] = problems(written(tmp_path, base_url=table))
    assert f"sources.doors.base_url: {problem}" in found.replace("a table ", "")


def test_the_host_of_a_url_without_a_path_is_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_URL", "http://receiver.example:9000/")
    config.load(written(tmp_path, url='{ env = "SOME_URL" }'))
    assert (
        mask("http://receiver.example:9000 cannot be reached")
        == "http://receiver.example:9000 cannot be reached"
    )


def test_the_interval_of_a_loopback_address_in_a_variable_may_be_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_URL", "http://127.0.0.1:1")
    path = written(tmp_path, base_url='{ env = "SOME_URL" }\ninterval = "1s"')
    assert config.load(path).sources["doors"].interval == 1
    path = written(tmp_path, base_url='{ env = "SOME_URL" }\ninterval = "1s"\nlimit = 7')
    assert len(problems(path)) == 1, "the unknown option alone"


def test_the_password_of_a_proxy_in_a_file_is_not_said_to_be_in_the_configuration(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "proxy").write_text("http://user:a-password@proxy.example:3128")
    for proxy, warned in (
        ('{ file = "proxy" }', False),
        ('"http://user:a-password@proxy.example:3128"', True),
    ):
        text = written(tmp_path).read_text()
        path.write_text(f"{text}[http]\nproxy = {proxy}\n")
        found = advice.warnings(config.load(path))
        assert ("http.proxy: a password is in the file" in found) == warned


def test_the_schema_has_the_places() -> None:
    validator = jsonschema.Draft202012Validator(config.json_schema())
    table = {"type": "parakey.event_logs", "access_token": {"command": ["op", "read"], "timeout": "5s"}}
    sinks = {"crm": {"type": "http", "url": {"credential": "crm"}}}
    for place, fine in (({"env": "A"}, True), ({"env": "A", "file": "b"}, False), ({"vault": "x"}, False)):
        document = {"sources": {"doors": {**table, "base_url": place}}, "sinks": sinks}
        assert (not list(validator.iter_errors(document))) == fine


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    return caught.value.problems
