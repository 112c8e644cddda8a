"""Every mistake in one line that names the place, the value and what would be right; and secrets never."""

import json
import os
import socket
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from conftest import need
from plugins import install
from roundsman import config
from roundsman.config import advice, places
from roundsman.config.heartbeat import HeartbeatOptions
from roundsman.errors import ConfigError
from roundsman.http.transport import HttpOptions
from roundsman.masking import mask
from roundsman.options import secrets
from roundsman.options.listen import ListenOptions
from roundsman.options.secrets import Secret
from roundsman.options.values import duration, size
from roundsman.sinks import FOR_PEOPLE, SINKS
from roundsman.sources import SOURCES
from roundsman.store import Filter
from roundsman.times import spell

ROOT = Path(__file__).parent.parent
SINK = '[sinks.out]\ntype = "stdout"\n'
SOURCE = '[sources.doors]\ntype = "parakey.event_logs"\naccess_token = "s3cret-token"\n'
FINE = SOURCE + SINK
HEARTBEAT = "https://hc-ping.com/5f0d9c6a-0000-4000-8000-000000000000"
LISTEN = "[listen]\n"


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "roundsman.toml"
    path.write_text(text)
    path.chmod(0o600)
    return config.load(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    """The mistakes without the file and the line: tests/test_lines.py is about these."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value)
    return [str(replace(each, file=None, line=None, column=None)) for each in caught.value.found]


def test_a_fine_one_loads(tmp_path: Path) -> None:
    loaded = load(tmp_path, FINE)
    assert loaded.sources["doors"].name == "doors"
    assert loaded.sources["doors"].interval == 60
    assert "s3cret" not in repr(loaded)


@pytest.fixture
def secrets_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PARAKEY_ACCESS_TOKEN", "CRM_AUTH", "MAILCHIMP_API_KEY", "RAILZ_SECRET_KEY"):
        monkeypatch.setenv(variable, "x")
    monkeypatch.setenv("HEARTBEAT_URL", HEARTBEAT)
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql://roundsman:x@db.example.org/warehouse")
    monkeypatch.setenv("APPRISE_URL", "ntfys://ntfy.example.org/alarms")
    for variable in ("PARAKEY_HOOK", "MAILCHIMP_HOOK_TOKEN", "RAILZ_HOOK_SECRET", "PAGE_PASSWORD"):
        monkeypatch.setenv(variable, "0123456789abcdef")


@pytest.mark.usefixtures("secrets_of_the_example")
@pytest.mark.parametrize("name", ["config.example.toml", "src/roundsman/starter.toml"])
def test_what_we_hand_out_loads(name: str) -> None:
    config.load(ROOT / name)


@pytest.mark.usefixtures("secrets_of_the_example")
def test_the_example_has_every_option_with_its_default() -> None:
    text = (ROOT / "config.example.toml").read_text()
    shown = tomllib.loads(text)

    def options(model: Any, table: dict[str, Any], place: str) -> None:
        for field, info in model.model_fields.items():
            key = info.alias or field
            assert key in table or f"# {key} = " in text, f"{place}.{key} is not in the example"
            for inner in (info.annotation, *get_args(info.annotation)):
                if isinstance(inner, type) and hasattr(inner, "model_fields") and key in table:
                    options(inner, table[key], f"{place}.{key}")

    options(config.DaemonOptions, shown["daemon"], "daemon")
    options(HttpOptions, shown["http"], "http")
    options(ListenOptions, shown["listen"], "listen")
    options(HeartbeatOptions, shown["heartbeat"], "heartbeat")
    kinds = {table["type"]: name for name, table in shown["sources"].items()}
    assert set(kinds) == set(SOURCES)
    for kind, name in kinds.items():
        options(config.source_class(kind), shown["sources"][name], f"sources.{name}")
    filters = {"types", "sources", "outcomes"}
    for name in ("archive", "crm", "warehouse"):
        table = shown["sinks"][name]
        options(
            config.sinks_registry()[table["type"]].load(), table | dict.fromkeys(filters), f"sinks.{name}"
        )
    loaded = config.load(ROOT / "config.example.toml")
    needed = {
        "parakey.event_logs": {"access_token": "x", "domain_id": "dOmAiN0001"},
        "parakey.batches": {"access_token": "x"},
        "mailchimp.batches": {"api_key": "x"},
        "http.json": {
            "base_url": "https://api.example.com",
            "path": "/v1/audit",
            "rows": {"id": "id"},
            "pages": {"next": "link"},
            "since": {"param": "from", "row": "created"},
        },
        "railz.pushes": {"secret_key": "x", "client_id": "...", "connections": "discover"},
    }
    for kind, name in kinds.items():
        plain = config.source_class(kind)(type=kind, **needed[kind])
        without = loaded.sources[name].model_copy(update={"webhook": None})
        assert without == plain.named(name), "and they are the defaults"
    assert (
        loaded.sinks["archive"].batch
        == config.load_type(config.sinks_registry()["file"]).model_fields["batch"].default
    )
    assert loaded.daemon == config.DaemonOptions()
    assert loaded.http == HttpOptions()
    assert loaded.listen == ListenOptions(page={"user": "ops", "password": Secret("0123456789abcdef")})
    assert loaded.heartbeat == HeartbeatOptions(url=Secret(HEARTBEAT))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            FINE.replace("access_token", "acces_token"),
            "sources.doors.acces_token: unknown option; did you mean access_token?",
        ),
        (SOURCE + "frobnicate = 1\n" + SINK, "sources.doors.frobnicate: unknown option; known: "),
        (SINK + '[sources.doors]\ntype = "parakey.event_logs"\n', "sources.doors.access_token: is missing"),
        (
            FINE.replace("parakey.event_logs", "parakey.eventlogs"),
            "sources.doors.type: parakey.eventlogs is unknown; did you mean parakey.event_logs?",
        ),
        (SINK + "[sources.doors]\n", "sources.doors.type: is missing; one of parakey.event_logs"),
        (
            LISTEN + SOURCE + "[sources.doors.webhook]\n" + SINK,
            "sources.doors.webhook: authenticates no caller; set header and value, or token",
        ),
        (
            LISTEN + SOURCE + '[sources.doors.webhook]\nheader = "X-Key"\n' + SINK,
            "sources.doors.webhook: has only one of header and value; set both",
        ),
        (
            LISTEN + SOURCE + '[sources.doors.webhook]\ntoken = "short"\n' + SINK,
            "sources.doors.webhook.token: is not a token: 16 or more letters, digits, dots, dashes and underscores, made at random",
        ),
        (
            LISTEN + SOURCE + '[sources.doors.webhook]\nheader = "X-Key"\nvalue = "\u00e4"\n' + SINK,
            "sources.doors.webhook.value: is not printable ASCII, as a header requires",
        ),
        (
            LISTEN + SOURCE + '[sources.doors.webhook]\nheader = "X-Key"\nvalue = "a"\n' + SINK,
            "sources.doors.webhook.value: is too short: use at least 8 characters, made at random",
        ),
        (
            LISTEN
            + SOURCE
            + '[sources.doors.webhook]\nheader = "X-Key"\nvalue = "s3cret-with-blank "\n'
            + SINK,
            "sources.doors.webhook.value: begins or ends with a blank, which no header keeps",
        ),
        (
            LISTEN
            + SOURCE
            + '[sources.doors.webhook]\nheader = "Content-Type"\nvalue = "application/json"\n'
            + SINK,
            "sources.doors.webhook.header: Content-Type is a header that every client sends; set another one",
        ),
        (
            FINE + f'[listen]\naddress = "unix:/run/{"x" * 120}"\n',
            "listen.address: unix:/run/xxxxxx",
        ),
        (
            FINE + '[listen]\ntls_certificate = "none.pem"\ntls_key = "none.pem"\n',
            "listen: /",
        ),
        (
            LISTEN + SOURCE + '[sources.doors.webhook]\nsigning_secret = "x"\n' + SINK,
            "sources.doors.webhook.signing_secret: unknown option; known: token, header, value",
        ),
        (
            SOURCE + '[sources.doors.webhook]\ntoken = "0123456789abcdef"\n' + SINK,
            "sources.doors.webhook: no webhook is received without a listener; add [listen]",
        ),
        (
            FINE + '[listen]\naddress = "hooks.example.org"\n',
            'listen.address: hooks.example.org is not an address; write "127.0.0.1:8377", "[::1]:8377" or "unix:/',
        ),
        (
            FINE + '[listen]\naddress = "127.0.0.1:99999"\n',
            'listen.address: 127.0.0.1:99999 is not an address; write "127.0.0.1:8377"',
        ),
        (
            FINE + '[listen]\ntls_key = "key.pem"\n',
            "listen: names only one of tls_certificate and tls_key",
        ),
        (SOURCE + 'interval = "30s"\n' + SINK, "sources.doors.interval: 30s is under the 60s minimum"),
        (FINE + "[heartbeat]\n", "heartbeat.url: is missing"),
        ("heartbeat = 5\n" + FINE, "heartbeat: is not a table; write [heartbeat]"),
        (
            FINE + f'[heartbeat]\nurl = "{HEARTBEAT}"\nevery = "30s"\n',
            "heartbeat.every: 30s is under the 60s minimum",
        ),
        (FINE + f'[heartbeat]\nurl = "{HEARTBEAT}"\nevery = 0\n', "heartbeat.every: 0 is not more than 0"),
        (
            FINE + '[heartbeat]\nurl = "hc-ping.com/5f0d9c6a"\n',
            'heartbeat.url: is not an http(s) URL; write "https://host/path"',
        ),
        (
            FINE + f'[heartbeat]\nurl = "{HEARTBEAT}#x"\n',
            'heartbeat.url: has a fragment ("#..."), which is never sent',
        ),
        (
            FINE + '[heartbeat]\nurl = { env = "NO_SUCH_URL" }\n',
            "heartbeat.url: the environment has no variable NO_SUCH_URL",
        ),
        (FINE + "[hartbeat]\n", "hartbeat: unknown table; did you mean heartbeat?"),
        (
            SOURCE + 'interval = "soon"\n' + SINK,
            'sources.doors.interval: soon is not a duration; write "90s", "5m", "1h30m" or a number of seconds',
        ),
        (SOURCE + "interval = true\n" + SINK, "sources.doors.interval: true is not a duration; "),
        (
            SOURCE + "interval = -1\n" + SINK,
            "sources.doors.interval: -1 is not a duration between 0 and ten years",
        ),
        (SOURCE + "interval = 0\n" + SINK, "sources.doors.interval: 0 is not more than 0"),
        (
            SOURCE + "interval = nan\n" + SINK,
            "sources.doors.interval: nan is not a duration between 0 and ten years",
        ),
        (
            SOURCE + 'start = "2026-02-30"\n' + SINK,
            'sources.doors.start: 2026-02-30 is neither "now", "beginning" nor a date-time',
        ),
        (
            SOURCE + 'start = "yesterday"\n' + SINK,
            'sources.doors.start: yesterday is neither "now", "beginning" nor',
        ),
        (
            SOURCE + 'base_url = "ftp://x"\n' + SINK,
            'sources.doors.base_url: ftp://x is not an http(s) URL; write "https://host/path"',
        ),
        (SOURCE + 'base_url = "https://user:s3cret@x"\n' + SINK, "sources.doors.base_url: "),
        (SOURCE + "domain_id = 7\n" + SINK, "sources.doors.domain_id: 7 is not a text; write it in quotes"),
        (SOURCE + "paging = 7\n" + SINK, "sources.doors.paging: 7 is not a table"),
        (
            SOURCE + "[sources.doors.paging]\nlimit = 1\n" + SINK,
            "sources.doors.paging.limit: 1 is less than 2",
        ),
        (
            SOURCE + '[sources.doors.paging]\nlimit = "many"\n' + SINK,
            "sources.doors.paging.limit: many is not a whole number",
        ),
        (
            SOURCE + '[sources.doors.paging]\nmode = "kyset"\n' + SINK,
            "sources.doors.paging.mode: kyset is not one of auto, keyset, offset or grow; did you mean keyset?",
        ),
        (
            SOURCE + '[sources.doors.pagin]\nmode = "auto"\n' + SINK,
            "sources.doors.pagin: unknown option; did you mean paging?",
        ),
        (
            FINE.replace('"s3cret-token"', '{ env = "NO_SUCH_S" }'),
            "sources.doors.access_token: the environment has no variable NO_SUCH_S",
        ),
        (
            FINE.replace('"s3cret-token"', '{ file = "gone" }'),
            "sources.doors.access_token: the file gone cannot be read: No such file or directory",
        ),
        (
            FINE.replace('"s3cret-token"', '{ credential = "x" }'),
            "sources.doors.access_token: no credential x: $CREDENTIALS_DIRECTORY is not set",
        ),
        (
            FINE.replace('"s3cret-token"', '["s3cret"]'),
            'sources.doors.access_token: is not a secret; write { credential = "name" }',
        ),
        (
            FINE.replace('"s3cret-token"', '{ vault = "s3cret" }'),
            "sources.doors.access_token: vault is not a place for a secret; use one of credential, env, file",
        ),
        (
            FINE.replace('"s3cret-token"', '"s3cret\\nline"'),
            "sources.doors.access_token: the text holds a line break or a control character",
        ),
        (FINE.replace('"s3cret-token"', '""'), "sources.doors.access_token: the text is empty"),
        (SOURCE + '[sinks.out]\ntype = "file"\n', "sinks.out.path: is missing"),
        (
            SOURCE + '[sinks.out]\ntype = "http"\nurl = "https://x"\nsigning_secret = "s3cret"\n',
            "sinks.out.signing_secret: is not a signing secret; write",
        ),
        (
            SOURCE + '[sinks.a]\ntype = "file"\npath = "x"\n[sinks.b]\ntype = "file"\npath = "./x"\n',
            "is already written by sinks.a",
        ),
        (
            SOURCE + '[sinks.a]\ntype = "stdout"\n[sinks.b]\ntype = "stdout"\n',
            "sinks.b: standard output is already written by sinks.a",
        ),
        (
            '[daemon]\nstore = "x"\n' + SOURCE + '[sinks.a]\ntype = "file"\npath = "x"\n',
            "is already written by the store",
        ),
        (
            SOURCE + '[sinks.out]\ntype = "http"\nurl = "https://x"\nbatch = 5\n',
            'sinks.out: batch = 1 is all that content = "structured"',
        ),
        (
            '[http]\nproxy = "user:s3cret@proxy:3128"\n' + FINE,
            "http.proxy: ***@proxy:3128 is not an http(s) URL",
        ),
        (
            '[http]\nproxy = "ftp://user:s3/cret@proxy:3128"\n' + FINE,
            "http.proxy: ftp://***@proxy:3128 is not",
        ),
        (
            SOURCE + '[sources.doors.request]\nauth_header = "bad header"\n' + SINK,
            "request.auth_header: bad header is not the name of a header",
        ),
        (SOURCE + 'start = "0001-01-01"\n' + SINK, "sources.doors.start: 0001-01-01 is neither"),
        (
            SOURCE + '[sinks.a]\ntype = "file"\npath = "~nosuchuser/x"\n',
            "sinks.a.path: names the home of an unknown user",
        ),
        (SOURCE, "sinks: no sink; add a table such as [sinks.console]"),
        (SINK, "sources: no source; add a table such as [sources.front-doors]"),
        (
            '[sources."a b"]\ntype = "parakey.event_logs"\n' + SINK,
            "sources.a b: a name has at most 63 letters, digits, dots, dashes and underscores, and begins with",
        ),
        ("sources = 3\n" + SINK, "sources: is not a table; write [sources.some-name]"),
        ("[sources]\ndoors = 3\n" + SINK, "sources.doors: is not a table; write [sources.doors]"),
        ('store = "x.db"\n' + FINE, "store: stands above all tables; write it below [daemon]"),
        ("[demon]\n" + FINE, "demon: unknown table; did you mean daemon?"),
        (
            '[daemon]\nlog_level = "loud"\n' + FINE,
            "daemon.log_level: loud is not one of debug, info, warning or error",
        ),
        (
            '[http]\nmax_body = "big"\n' + FINE,
            'http.max_body: big is not a size; write "64MiB", "100MB" or a number of bytes',
        ),
        ('[http]\nca_file = "gone.pem"\n' + FINE, "http.ca_file: "),
        ("this is s3cret not = toml", "is not TOML: Expected '=' after a key in a key/value pair"),
        (
            "[daemon]\nstore = 's3cret'\nstore = 's3cret'\n",
            "is not TOML: daemon.store is set twice, first in line 2",
        ),
        (
            '[daemon]\nstore "s3cret"\n',
            "is not TOML: Expected '=' after a key in a key/value pair",
        ),
        ("[daemon\n", "is not TOML: Expected ']' at the end of a table declaration"),
        ("[daemon]\n[daemon]\n", "is not TOML: [daemon] is written twice, first in line 1"),
    ],
)
def test_each_mistake_is_one_line_that_helps(tmp_path: Path, text: str, line: str) -> None:
    found = problems(tmp_path, text)
    assert any(line in problem for problem in found), found
    assert len(found) <= 2


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        '[sources.doors]\ntype = "parakey.event_logs"\nintervall = 5\nstart = "x"\n[sinks.a]\ntype = "fil"\n'
    )
    found = problems(tmp_path, text)
    assert [problem.partition(":")[0] for problem in found] == [
        "sources.doors.access_token",
        "sources.doors.start",
        "sources.doors.intervall",
        "sinks.a.type",
    ] or len(found) == 4


def test_the_floor_is_waived_on_loopback_only(tmp_path: Path) -> None:
    for host in ("127.0.0.1:8399", "localhost", "[::1]:80"):
        assert (
            load(tmp_path, SOURCE + f'interval = 1\nbase_url = "http://{host}"\n' + SINK)
            .sources["doors"]
            .interval
            == 1
        )
    for host in ("localhost.example.org", "127.0.0.1.example.org", "10.0.0.1"):
        assert problems(tmp_path, SOURCE + f'interval = 1\nbase_url = "http://{host}"\n' + SINK)


def test_secrets_come_from_files_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-file\n")
    loaded = load(tmp_path, FINE.replace('"s3cret-token"', '{ file = "token" }'))
    assert loaded.sources["doors"].access_token.reveal() == "from-file"  # type: ignore[attr-defined]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    loaded = load(tmp_path, FINE.replace('"s3cret-token"', '{ credential = "token" }'))
    assert loaded.sources["doors"].access_token.reveal() == "from-file"  # type: ignore[attr-defined]
    assert problems(tmp_path, FINE.replace('"s3cret-token"', '{ credential = "../token" }'))


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that every user of this machine can look into; pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        need(
            all(above.stat().st_mode & 0o001 for above in folder.parents),
            "needs a TMPDIR that is everybody's",
        )
        yield folder


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_a_secret_that_is_no_file_is_refused_and_waited_for_never(kind: str, tmp_path: Path) -> None:
    """Reading a pipe without a writer would stop a daemon that reloads."""
    match kind:
        case "pipe":
            os.mkfifo(tmp_path / "token")
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(tmp_path / "token"))
        case "folder":
            (tmp_path / "token").mkdir()
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', '{ file = "token" }'))
    assert problem == (
        "sources.doors.access_token: the file token is not a regular file, and only a regular file is read"
    )


def test_a_file_that_is_no_secret_but_large_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "token").open("wb") as file:
        file.truncate(2**40)
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', '{ file = "token" }'))
    assert problem == "sources.doors.access_token: the file token has more than 64 KiB"


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbffrom-notepad\r\n")
    loaded = load(tmp_path, FINE.replace('"s3cret-token"', '{ file = "token" }'))
    assert loaded.sources["doors"].access_token.reveal() == "from-notepad"  # type: ignore[attr-defined]


def test_a_credential_that_came_after_the_start_needs_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', '{ credential = "new" }'))
    assert problem.endswith(
        "the credential new cannot be read: No such file or directory; systemd passes credentials only at a start: "
        "systemctl restart roundsman"
    )


def test_a_file_that_may_not_be_read_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person may be root; the service's user may not."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(secrets.os, "geteuid", lambda: 1000)
    assert secrets.forbidden(PermissionError()) == "; try sudo"
    assert secrets.forbidden(FileNotFoundError()) == ""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/roundsman.service")
    assert secrets.forbidden(PermissionError()) == ""
    assert secrets.forbidden(PermissionError(), "chmod 644 x") == "; chmod 644 x"


# -- which file it is --------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ours with a configuration, and a home without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "PLACES", (places.PLACES[0], tmp_path / "etc" / "roundsman.toml"))
    tmp_path.chmod(0o755)
    (tmp_path / "roundsman.toml").touch(0o644)
    return tmp_path


def trap(here: Path, kind: str) -> None:
    file = here / "roundsman.toml"
    match kind:
        case "a folder that all may write to":
            here.chmod(0o1777)
        case "a file that a group may write":
            file.chmod(0o664)
        case "a link":
            file.rename(here / "another")
            file.symlink_to("another")
        case "another user's file":
            os.chown(file, 65534, 0)
        case "another user's folder":
            os.chown(here, 65534, 0)


@pytest.mark.parametrize(
    "kind",
    [
        "a folder that all may write to",
        "a file that a group may write",
        "a link",
        "another user's file",
        "another user's folder",
    ],
)
def test_root_does_not_do_as_a_file_says_that_others_put_there(kind: str, here: Path) -> None:
    """In /tmp, or in a home: it would send root's secrets anywhere, and write anywhere."""
    need(os.geteuid() == 0 or "another user's" not in kind, "needs root, to give files away")
    trap(here, kind)
    environ = {"HOME": str(here / "home")}
    [line] = config.passed_over(environ, euid=0)
    assert line.startswith("./roundsman.toml is skipped: ")
    assert line.endswith("; -c ./roundsman.toml uses it")
    with pytest.raises(ConfigError) as caught:
        config.find(None, environ, euid=0)
    assert caught.value.problems[0].startswith(f"no configuration: neither {here}/home/.config/")
    assert "`roundsman init --service` one for the service" in caught.value.problems[0]
    (here / "etc").mkdir()
    (here / "etc" / "roundsman.toml").touch(0o664)
    assert config.find(None, environ, euid=0) == here / "etc" / "roundsman.toml"
    # Who is not root, or names it, gets it.
    assert config.find(None, environ, euid=1000) == Path("roundsman.toml")
    assert config.passed_over(environ, euid=1000) == []
    assert config.find(Path("roundsman.toml"), environ, euid=0) == Path("roundsman.toml")
    environ["ROUNDSMAN_CONFIG"] = "roundsman.toml"
    assert config.find(None, environ, euid=0) == Path("roundsman.toml")
    assert config.passed_over(environ, euid=0) == []


@pytest.mark.parametrize("home", ["/" + "x" * 300, None])
def test_a_user_without_a_home_has_no_file_there(
    home: str | None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be looked into, or a user of a container, who has no name."""
    (here / "roundsman.toml").unlink()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ConfigError, match="no configuration: neither "):
        config.find(None, {"HOME": home} if home else {}, euid=54321)


def test_root_takes_a_file_of_roots(here: Path) -> None:
    need(os.geteuid() == 0, "needs root, to have files of root's")
    assert config.find(None, {"HOME": str(here)}, euid=0) == Path("roundsman.toml")
    assert config.passed_over({"HOME": str(here)}, euid=0) == []


def test_root_does_not_take_a_users_own_either(here: Path) -> None:
    """`sudo -E` keeps whose home it is."""
    need(os.geteuid() == 0, "needs root, to give files away")
    (here / "roundsman.toml").unlink()
    theirs = here / ".config" / "roundsman" / "roundsman.toml"
    theirs.parent.mkdir(parents=True)
    theirs.touch(0o600)
    assert config.find(None, {"HOME": str(here)}, euid=0) == theirs
    os.chown(theirs.parent, 65534, 65534)
    [line] = config.passed_over({"HOME": str(here)}, euid=0)
    assert line.startswith(f"{theirs} is skipped")


def test_unwise_files_and_literal_secrets_are_warned_of(everybodys: Path) -> None:
    loaded = load(everybodys, FINE)
    assert len(advice.warnings(loaded)) == 1
    assert "a secret is in the file" in advice.warnings(loaded)[0]
    loaded.path.chmod(0o644)
    assert "lets every user of this machine read it: chmod 600" in advice.warnings(loaded)[1]
    secret = everybodys / "token"
    secret.write_text("x")
    secret.chmod(0o604)
    loaded = load(everybodys, FINE.replace('"s3cret-token"', '{ file = "token" }'))
    [warning] = advice.warnings(loaded)
    assert warning.startswith(f"{secret}: is a secret, and its mode 0604")


def test_a_secret_in_a_folder_that_keeps_others_out_is_not_warned_of(everybodys: Path) -> None:
    folder = everybodys / "credentials"
    folder.mkdir(mode=0o700)
    secret = folder / "token"
    secret.write_text("x")
    secret.chmod(0o644)
    loaded = load(everybodys, FINE.replace('"s3cret-token"', '{ credential = "token" }'))
    assert advice.warnings(loaded) == []
    folder.chmod(0o755)
    [warning] = advice.warnings(loaded)
    assert warning.startswith(
        f"{secret}: is a secret, and its mode 0644 lets every user of this machine read"
    )


def test_filters_that_match_nothing_are_warned_of(tmp_path: Path) -> None:
    sink = '[sinks.x]\ntype = "stdout"\ntypes = ["batch.completed"]\noutcomes = ["fail"]\nsources = ["dooors", "d*"]\n'
    found = advice.warnings(load(tmp_path, SOURCE + sink))
    assert "sinks.x.sources: dooors matches nothing; did you mean doors?" in found
    assert "sinks.x.outcomes: fail matches nothing; did you mean failed?" in found
    assert "sinks.x.types: batch.completed matches nothing; did you mean *.batch.completed?" in found
    assert not any("d*" in line for line in found)


def test_a_filter_for_the_events_of_the_daemon_is_not_warned_of(tmp_path: Path) -> None:
    sink = '[sinks.x]\ntype = "stdout"\nsources = ["daemon"]\n'
    assert not any("daemon" in line for line in advice.warnings(load(tmp_path, SOURCE + sink)))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("connections = []", 'is empty; write "discover" to watch all there are'),
        ('connections = "CON-x"', 'is neither "discover" nor a list; write ["CON-x"] if it is a connection'),
        ("connections = [7]", 'is neither "discover" nor a list of connections such as ["CON-..."]'),
    ],
)
def test_connections_that_are_none_are_said(options: str, line: str, tmp_path: Path) -> None:
    ledger = f'[sources.l]\ntype = "railz.pushes"\nclient_id = "a"\nsecret_key = "b"\n{options}\n'
    assert any(line in problem for problem in problems(tmp_path, ledger + SINK))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("event_logs", "id"), ("event_logs", "created_at"), ("event_logs", "door"), ("batches", "items")],
)
def test_a_field_without_a_path_is_a_mistake(kind: str, name: str, tmp_path: Path) -> None:
    doors = f'[sources.d]\ntype = "parakey.{kind}"\naccess_token = "x"\nfields.{name} = []\n'
    [line] = problems(tmp_path, doors + SINK)
    assert f"sources.d.fields.{name}: a list is empty; name at least one path" in line


@pytest.mark.parametrize("host", ["https://storage.googleapis.com/x", "*.googleapis.com", "", "a b"])
def test_result_hosts_are_plain_names(host: str, tmp_path: Path) -> None:
    news = f'[sources.n]\ntype = "mailchimp.batches"\napi_key = "a-us1"\nresult_hosts = ["{host}"]\n'
    assert any("is not a plain host name" in problem for problem in problems(tmp_path, news + SINK))


def test_paths_to_write_are_under_systemds_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[daemon]\nstore = "a.db"\n' + SOURCE + '[sinks.f]\ntype = "file"\npath = "b.jsonl"\n'
    assert load(tmp_path, text).store == tmp_path / "a.db"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/roundsman")
    loaded = load(tmp_path, text)
    assert loaded.store == Path("/var/lib/roundsman/a.db")
    assert loaded.sinks["f"].place() == "/var/lib/roundsman/b.jsonl"
    assert load(tmp_path, FINE).store == Path("/var/lib/roundsman/roundsman.db")


def test_commands_that_only_read_need_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.toml"
    path.write_text('[daemon]\nstore = "a.db"\n' + FINE.replace('"s3cret-token"', '{ credential = "x" }'))
    assert config.store_of(path) == tmp_path / "a.db"


def test_filters_are_known_without_the_other_options(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.toml"
    path.write_text(
        '[sinks.some]\ntype = "file"\ntypes = ["co.*"]\noutcomes = ["failed"]\n'
        '[sinks.wrong]\ntype = "http"\ntypes = "co.*"\nsources = [1]\n[sinks.gone]\ntype = "acme.gone"\n'
    )
    assert config.filters(path) == {
        "some": Filter(["co.*"], (), ["failed"]),
        "wrong": Filter(),
        "gone": Filter(),
    }
    path.write_text("sinks = 1")
    assert config.filters(path) == {}


def test_a_plugins_own_filter_counts_where_the_file_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a plugin may have one: the classes of our own sinks need not be asked."""
    install(tmp_path, "acme-alerts", sinks={"acme.alerts": "acme_alerts:Alerts"})
    (tmp_path / "acme_alerts.py").write_text(
        "from roundsman import Sink\n"
        "class Alerts(Sink):\n"
        "    outcomes: tuple[str, ...] = ('failed',)\n"
        "    for_people = True\n"
        "    def open(self, http, receipt): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "roundsman.toml"
    path.write_text('[sinks.a]\ntype = "acme.alerts"\ntypes = ["x"]\n')
    assert config.filters(path) == {"a": Filter(["x"], (), ("failed",))}
    (tmp_path / "acme_alerts.py").write_text(
        "from roundsman import Sink\nclass Alerts(Sink):\n    for_people = True\n    def open(self, http, receipt): ...\n"
    )
    monkeypatch.delitem(sys.modules, "acme_alerts")
    path.write_text('[sinks.a]\ntype = "acme.alerts"\nsources = ["x"]\n')
    assert config.filters(path) == {"a": Filter((), ["x"], (), for_people=True)}
    for kind in SINKS:
        found = config.load_type(config.sinks_registry()[kind])
        options = ("types", "sources", "outcomes")
        assert [found.model_fields[option].default for option in options] == [(), (), ()]
        assert found.for_people == (kind in FOR_PEOPLE)


def test_the_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    schema = config.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in ("config.example.toml", "src/roundsman/starter.toml"):
        document = json.loads(json.dumps(tomllib.loads((ROOT / name).read_text())))
        assert list(validator.iter_errors(document)) == []
    bad = tomllib.loads(FINE)
    bad["sources"]["doors"]["acces_token"] = "x"
    assert list(validator.iter_errors(bad))
    assert "description" in json.dumps(schema), "editors show what an option is for"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1d", 86400), ("250ms", 0.25), (7, 7)]
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == seconds
    assert duration(spell(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "5x", "m5", "1h banana", "99999d", [], None, "1.s"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)


def test_sizes() -> None:
    assert (size("64MiB"), size("1.5 kB"), size(7)) == (64 * 2**20, 1500, 7)


def test_a_secret_is_shown_nowhere() -> None:
    secret = Secret("s3cret")
    assert "s3cret" not in f"{secret} {secret!r} {[secret]} { ({'a': secret}) }"


# -- mistakes that pass for none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "${PARAKEY}",
        "$PARAKEY",
        "env:PARAKEY",
        "{{ parakey }}",
        "%{parakey}",
        "%PARAKEY%",
        "<token>",
        "op://vault/parakey",
        "$(cat token)",
        "Bearer ${PARAKEY}",
        "${PARAKEY}-us6",
        "!ENV ${PARAKEY}",
        "!secret parakey",
        "#{PARAKEY}",
        "{PARAKEY}",
        "$$PARAKEY",
        "%(PARAKEY)s",
        "${PARAKEY",
        "process.env.PARAKEY",
        "os.environ['PARAKEY']",
        "[PARAKEY]",
        "@/run/secrets/parakey",
        "/run/secrets/parakey",
        "ENC[AES256,data:x]",
        "ref+vault://x",
        "YOUR_TOKEN_HERE",
        "CHANGEME",
        "https://x.example/${TOKEN}/y",
        "{{ vault.parakey }}-us6",
    ],
)
def test_a_placeholder_that_nothing_fills_in_is_a_mistake(value: str, tmp_path: Path) -> None:
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', json.dumps(value)))
    assert problem.startswith(
        "sources.doors.access_token: is a placeholder that no program replaces; write {"
    )
    assert value not in problem


@pytest.mark.parametrize("place", ["env", "file", "credential"])
@pytest.mark.parametrize(
    "secret",
    [
        "0123456789abcdef0123456789abcdef-us6",
        "SB_9f8a7b6c5d4e",
        "xK7pQ2mN9vB4",
        "AbcDefGhiJkl",
        "A1B2C3D4E5F6G7H8",
    ],
)
def test_a_secret_in_the_place_of_a_name_is_not_printed(place: str, secret: str, tmp_path: Path) -> None:
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', f'{{ {place} = "{secret}" }}'))
    assert secret not in problem
    assert "may be the secret itself" in problem


@pytest.mark.parametrize("secret", ["sk-live-abcdef", "hunter2", "correct-horse-battery-staple", "Hunter"])
def test_what_no_variable_is_called_is_not_printed(secret: str, tmp_path: Path) -> None:
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', f'{{ env = "{secret}" }}'))
    assert secret not in problem


@pytest.mark.parametrize("name", ["parakey", "parakey-token", "token2", "TOKEN"])
def test_a_credentials_name_is_printed(name: str, tmp_path: Path) -> None:
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', f'{{ credential = "{name}" }}'))
    assert name in problem


@pytest.mark.parametrize("name", ["PARAKEY_ACCESS_TOKEN", "T", "TOKEN2"])
def test_a_name_is_printed(name: str, tmp_path: Path) -> None:
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', f'{{ env = "NO_{name}" }}'))
    assert problem.endswith(f"the environment has no variable NO_{name}")


@pytest.mark.parametrize("where", ["store", "path"])
@pytest.mark.parametrize("url", ["mysql://roundsman:s3cret@db/x", "postgresql//roundsman:s3cret@db/x"])
def test_a_url_in_the_place_of_a_path_is_a_mistake(where: str, url: str, tmp_path: Path) -> None:
    text = (
        f'[daemon]\nstore = "{url}"\n' + FINE
        if where == "store"
        else SOURCE + f'[sinks.a]\ntype = "file"\npath = "{url}"\n'
    )
    [problem] = problems(tmp_path, text)
    assert "is a URL and not a path" in problem
    assert "files only" not in problem
    assert "s3cret" not in problem
    assert not list(tmp_path.glob("*sql*"))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("https://x.example/?v=2", "has a query"),
        ("https://x.example/#a", "has a fragment"),
        (" https://x.example", "begins or ends with a blank"),
    ],
)
def test_a_base_url_that_paths_cannot_be_appended_to_is_a_mistake(
    url: str, what: str, tmp_path: Path
) -> None:
    [problem] = problems(tmp_path, SOURCE + f'base_url = "{url}"\n' + SINK)
    assert what in problem


def test_a_file_that_windows_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "roundsman.toml"
    path.write_bytes(b"\xef\xbb\xbf" + FINE.replace("\n", "\r\n").encode())
    assert list(config.load(path).sources) == ["doors"]
    path.write_bytes(FINE.encode("utf-16"))
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        config.load(path)


@pytest.mark.parametrize("secret", [" s3cret-token", "s3cret-token ", "'s3cret-token'"])
def test_a_secret_as_people_paste_it_is_warned_of(secret: str, everybodys: Path) -> None:
    loaded = load(everybodys, FINE.replace('"s3cret-token"', json.dumps(secret)))
    assert any("part of it" in warning for warning in advice.warnings(loaded))
    assert not any("s3cret" in warning for warning in advice.warnings(loaded))


@pytest.mark.parametrize(
    "literal", ["$Summer2024", "$hunter", "p{a}ss-w0rd-1", "secret:abc123", "a$b%c#d", "$A", "a%(b)c"]
)
def test_a_password_that_only_looks_a_little_like_one_is_taken(literal: str, everybodys: Path) -> None:
    loaded = load(everybodys, FINE.replace('"s3cret-token"', json.dumps(literal)))
    assert loaded.sources["doors"].access_token.reveal() == literal  # type: ignore[attr-defined]
    assert not any("placeholder" in warning for warning in advice.warnings(loaded))


DOUBTFUL = [
    *("my-secret-key", "your-token", "changeme", "[hunter]", "{abcdef}"),
    *("a${b}c", "x{{!}}y", "k%(q)s", "$$hunter"),
]


@pytest.mark.parametrize(
    "secret", ["$ECRETPASS1", "<S3cret-pass>", "%abc%", "vault:v1:abcd", "/run/secret-1"]
)
def test_a_variable_that_looks_like_a_reference_is_taken_and_warned_of(
    secret: str, everybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator set it: it may well be a generated password."""
    monkeypatch.setenv("PARAKEY_TOKEN", secret)
    loaded = load(everybodys, FINE.replace('"s3cret-token"', '{ env = "PARAKEY_TOKEN" }'))
    assert loaded.sources["doors"].access_token.reveal() == secret  # type: ignore[attr-defined]
    assert [warning for warning in advice.warnings(loaded) if "placeholder" in warning]


@pytest.mark.parametrize("place", ["literal", "env"])
@pytest.mark.parametrize("secret", DOUBTFUL)
def test_a_password_that_may_be_a_placeholder_is_taken_and_warned_of(
    secret: str, place: str, everybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", secret)
    said = json.dumps(secret) if place == "literal" else '{ env = "PARAKEY_TOKEN" }'
    loaded = load(everybodys, FINE.replace('"s3cret-token"', said))
    assert loaded.sources["doors"].access_token.reveal() == secret  # type: ignore[attr-defined]
    found = [warning for warning in advice.warnings(loaded) if "placeholder" in warning]
    assert found == ["sources.doors: a secret looks like a placeholder, and no program replaces it"]


def test_a_variable_that_holds_a_placeholder_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKEY_TOKEN", "${PARAKEY}")
    [problem] = problems(tmp_path, FINE.replace('"s3cret-token"', '{ env = "PARAKEY_TOKEN" }'))
    assert "the variable PARAKEY_TOKEN holds a placeholder" in problem


def test_a_placeholder_in_any_option_is_warned_of(everybodys: Path) -> None:
    loaded = load(everybodys, SOURCE + 'domain_id = "${DOMAIN}"\nrequest.query = { x = "{{ y }}" }\n' + SINK)
    found = [w for w in advice.warnings(loaded) if "placeholder" in w]
    assert [w.partition(" ")[0] for w in found] == ["sources.doors.domain_id", "sources.doors.request.query"]


@pytest.mark.parametrize(
    "store",
    [
        *(
            "sqlite:s.db",
            ":memory:",
            "file:s.db?mode=rw",
            "s.db?mode=ro",
            "postgres:x",
            "host=localhost dbname=x",
        ),
        *("jdbc:postgresql://x", ".", "s.db/", "/"),
    ],
)
def test_what_is_no_file_is_no_store(store: str, tmp_path: Path) -> None:
    [problem] = problems(tmp_path, f'[daemon]\nstore = "{store}"\n' + FINE)
    assert problem.startswith("daemon.store: ")


@pytest.mark.parametrize(
    "path", ["s.db", "s.db-wal", "s.db-shm", "s.db-journal", "s.db.lock", "roundsman.toml"]
)
def test_a_sink_writes_no_file_of_the_daemons(path: str, tmp_path: Path) -> None:
    text = f'[daemon]\nstore = "s.db"\n{SOURCE}[sinks.a]\ntype = "file"\npath = "{path}"\n'
    [problem] = problems(tmp_path, text)
    assert "is already written by" in problem


def test_credentials_in_the_clear_are_warned_of(everybodys: Path) -> None:
    for url, warned in (
        ("HTTP://vendor.example", True),
        ("http://vendor.example", True),
        ("http://127.0.0.1:1", False),
        ("https://vendor.example", False),
    ):
        loaded = load(everybodys, SOURCE + f'base_url = "{url}"\n' + SINK)
        found = [w for w in advice.warnings(loaded) if "without TLS" in w]
        assert bool(found) is warned


TABLE = '[sinks.table]\ntype = "postgres"\ntable = "events"\nurl = "postgresql://%s"\n'


@pytest.mark.parametrize(
    ("place", "host"),
    [
        ("db.example/events", "db.example"),
        ("ops@10.0.0.7:5433/events?connect_timeout=5", "10.0.0.7"),
        ("127.0.0.1,db2.example/events", "db2.example"),
        ("[2001:db8::1]/events", "2001:db8::1"),
        ("db.example/events?sslmode=verify-full", None),
        ("db.example/events?sslmode=disable", None),
        ("db.example/events?gssencmode=require", None),
        ("db.example/events?gssencmode=disable", "db.example"),
        ("db.example/events?sslrootcert=system", None),
        ("db.example/events?service=events", None),
        ("a.example,b.example/events?hostaddr=127.0.0.1,", "b.example"),
        ("a.example/events?hostaddr=127.0.0.1", None),
        ("db.example/events?channel_binding=require", None),
        ("LOCALHOST./events", None),
        ("db.localhost/events", None),
        ("[::ffff:127.0.0.1]/events", None),
        ("0.0.0.0/events", None),
        ("127.0.0.1:5432/events", None),
        ("[::1]/events", None),
        ("localhost/events", None),
        ("/events?host=/var/run/postgresql", None),
        ("/events?host=%40roundsman", None),
    ],
)
def test_a_database_elsewhere_is_warned_of_until_its_url_says_what_tls_it_has(
    place: str, host: str | None, everybodys: Path
) -> None:
    pytest.importorskip("psycopg")
    loaded = load(everybodys, SOURCE + TABLE % place)
    found = [w for w in advice.warnings(loaded) if "sslmode" in w]
    assert [w.split(" may be")[0] for w in found] == (
        [f"sinks.table.url: without sslmode, the connection to {host}"] if host else []
    )


def test_what_the_environment_says_of_tls_counts_for_a_database(
    everybodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    loaded = load(everybodys, SOURCE + TABLE % "db.example/events")
    assert not [w for w in advice.warnings(loaded) if "sslmode" in w]


def test_a_home_is_a_home_also_in_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/roundsman")
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = load(
        tmp_path,
        SOURCE + '[sinks.a]\ntype = "file"\npath = "~/x.jsonl"\n[sinks.b]\ntype = "file"\npath = "y.jsonl"\n',
    )
    assert loaded.sinks["a"].place() == str(tmp_path / "x.jsonl")
    assert loaded.sinks["b"].place() == "/var/lib/roundsman/y.jsonl"


def test_what_stands_in_urls_and_queries_is_masked(tmp_path: Path) -> None:
    load(
        tmp_path,
        SOURCE
        + '[sources.doors.request.query]\napikey = "query-secret-1"\n'
        + '[sinks.a]\ntype = "http"\nurl = "https://x.example/e?code=url-secret-123"\n',
    )
    assert mask("query-secret-1 url-secret-123 s3cret-token") == "*** *** ***"


def test_a_date_or_a_version_in_a_query_is_no_secret(tmp_path: Path) -> None:
    text = (
        SOURCE
        + '[sources.doors.request.query]\nfrom = "2024-01"\napi = "v2.1.0"\nkey = "a1b2c3"\npin = "4821-9917"\n'
        + SINK
    )
    load(tmp_path, text)
    assert mask("since 2024-01-05, v2.1.0, a1b2c3, 4821-9917") == "since 2024-01-05, v2.1.0, ***, ***"


def test_a_secret_in_the_place_of_its_table_is_not_printed(tmp_path: Path) -> None:
    source = '[sources.x]\ntype = "http.json"\nbase_url = "https://api.example"\nrows = { id = "id" }\n'
    found = problems(tmp_path, source + 'auth = "s3cret-token-1"\n' + SINK)
    assert found == ["sources.x.auth: the value is not a table"]


def test_what_machines_have_in_common_is_the_same_although_each_has_its_own_address_and_name(
    tmp_path: Path,
) -> None:
    common = load(tmp_path, FINE).common
    assert common == load(tmp_path, FINE + '[daemon]\nname = "two"\nlog_level = "debug"\n' + LISTEN).common
    assert common != load(tmp_path, FINE + '[daemon]\nretention = "9d"\n').common
    assert common != load(tmp_path, FINE.replace("access", "interval = '2m'\naccess")).common


def test_a_sink_of_one_machine_has_to_name_it_where_machines_share_the_store(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="needs roundsman[postgres]")
    sinks = (
        '[sinks.a]\ntype = "file"\npath = "a.jsonl"\n'
        '[sinks.b]\ntype = "exec"\ncommand = ["/bin/cat"]\n'
        '[sinks.c]\ntype = "http"\nurl = "https://tickets.example.org/"\n'
    )
    shared = '[daemon]\nname = "two"\nstore = "postgresql://roundsman@db.example.org/roundsman"\n'
    words = 'is missing: machines share the store, and one of them serves this sink; such as on = "two"'
    expected = [f"sinks.{name}.on: {words}" for name in ("out", "a", "b")]
    assert problems(tmp_path, shared + FINE + sinks) == expected
    named = sinks.replace('"file"', '"file"\non = "one"').replace('"exec"', '"exec"\non = "two"')
    loaded = load(tmp_path, shared + FINE.replace('"stdout"', '"stdout"\non = "two"') + named)
    assert getattr(loaded.sinks["a"], "on", None) == "one"
    assert load(tmp_path, FINE + sinks).sinks.keys() == {"out", "a", "b", "c"}


@pytest.mark.parametrize("written", ["pa55-of-libpq", "'pa55-of-libpq'"])
def test_a_password_in_the_form_of_libpq_that_is_no_url_is_not_shown(tmp_path: Path, written: str) -> None:
    text = f"host=db user=rm password={written} dbname=x"
    found = problems(
        tmp_path, f'[daemon]\nstore = "{text}"\n[sinks.w]\ntype = "postgres"\nurl = "{text}"\ntable = "t"\n'
    )
    assert any("is not the URL of a PostgreSQL database" in each for each in found)
    assert "pa55" not in mask("\n".join(found))
