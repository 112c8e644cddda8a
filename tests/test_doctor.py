"""`roundsman doctor`: what it checks, and that no secret is in its bundle."""

import asyncio
import base64
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from inside import done
from roundsman.sandbox import TOKEN, Sandbox
from roundsman.store.sqlite.store import SqliteStore

PLANTED = {
    name: f"pl{name}-Zq7'&/x{number}\""
    for number, name in enumerate(
        (
            *("file", "credential", "program", "env", "unit_env", "unit_file", "page"),
            *("header", "proxy", "logged", "replaced", "apprise", "stored", "pre", "flag", "input"),
        ),
        100,
    )
}
"""Secrets with characters that URLs and JSON escape, by where they are."""
IN_URLS = {
    "query": "qu9Xplanted77",
    "path": "T0PATHplanted88",
    "heartbeat": "hb-4planted-9911",
    "literal": "lit8Planted",
    "letters": "qUoXbRpLaNtEdWmZkT",
    "login": "planted.login-77",
    "template": "tmp-9planted-1",
    "bot": "bot-77planted:x9",
}
MAIL = "anna.berg@example.org"

PROGRAMS = {
    "systemctl": """#!/bin/sh
case "$*" in
*cat*) cat "$(dirname "$0")/unit.txt" ;;
*show*) printf 'ActiveState=active\\nNRestarts=0\\nResult=success\\n' ;;
*) echo 'systemd 252 (252.1)' ;;
esac
""",
    "journalctl": '#!/bin/sh\ncat "$(dirname "$0")/journal.txt"\n',
    "timedatectl": "#!/bin/sh\necho yes\n",
}


def doctor(
    folder: Path, *arguments: str, config: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("ROUNDSMAN", "XDG"))}
    given |= {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), **environ}
    named = ("-c", str(config)) if config else ()
    return subprocess.run(
        [sys.executable, "-m", "roundsman", "doctor", *named, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=given,
        check=False,
        timeout=60,
    )


def members(bundle: Path) -> dict[str, str]:
    with tarfile.open(bundle) as tar:
        return {
            each.name: file.read().decode()
            for each in tar.getmembers()
            if (file := tar.extractfile(each)) is not None
        }


def forms(secret: str) -> set[str]:
    """The spellings in which a stranger could read a secret."""
    found = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret, safe="").lower(),
    }
    found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found.add(base64.b64encode(secret.encode()).decode().rstrip("="))
    found.add(base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="))
    found.add(base64.b64encode(f"user:{secret}".encode()).decode().rstrip("="))
    return found


def leaks(text: str) -> list[str]:
    secrets = [*PLANTED.values(), *IN_URLS.values(), MAIL]
    return [secret for secret in secrets for form in forms(secret) if form in text]


def toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def plant(folder: Path, url: str) -> Path:
    """A configuration and a system with a secret at each place that one can be at."""
    (folder / "token").write_text(PLANTED["file"] + "\n")
    (folder / "credentials").mkdir()
    (folder / "credentials" / "page-password").write_text(PLANTED["credential"])
    (folder / "printed").write_text(PLANTED["program"])
    (folder / "service.env").write_text(f"OTHER='{IN_URLS['literal']}-file'\n")
    config = folder / "roundsman.toml"
    config.write_text(f"""\
include = ["more.toml"]
[http]
proxy = "http://user:{quote(PLANTED["proxy"], safe="")}@127.0.0.1:9"
[daemon]
store = "roundsman.db"
[listen]
address = "127.0.0.1:0"
[listen.page]
user = "ops"
password = {{ credential = "page-password" }}
[heartbeat]
url = "http://127.0.0.1:1/{IN_URLS["heartbeat"]}"
[sources.doors]
type = "parakey.event_logs"
base_url = "{url}"
access_token = {{ env = "PLANTED_TOKEN" }}
[sinks.hook]
type = "http"
url = "http://127.0.0.1:1/services/{IN_URLS["path"]}?key={IN_URLS["query"]}"
headers = {{ X-Key = {toml(PLANTED["header"])}, X-Other = "Bearer {IN_URLS["letters"]}", path = "{IN_URLS["literal"]}" }}
content = "template"
body = '{{"text": "$summary", "pin": "{IN_URLS["template"]}"}}'
[sources.bot]
type = "http.json"
base_url = "{url}"
path = "/{IN_URLS["bot"]}/getUpdates"
rows = {{ id = "id" }}
# an old one: {PLANTED["replaced"]}
""")
    (folder / "more.toml").write_text(f"""\
[sources.more]
type = "parakey.event_logs"
base_url = "{url}"
access_token = {{ command = ["cat", "{folder}/printed"] }}
[sources.third]
type = "parakey.event_logs"
base_url = "{url}"
access_token = "{IN_URLS["literal"]}"
[sources.fourth]
type = "parakey.event_logs"
base_url = "{url}"
access_token = {{ file = "token" }}
[sinks.phones]
type = "notify"
urls = [{toml("json://user:" + quote(PLANTED["apprise"], safe="") + "@127.0.0.1/")}]
""")
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, text in PROGRAMS.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    unit_env = PLANTED["unit_env"].replace('"', '\\"')
    (bin_ / "unit.txt").write_text(f"""\
# /etc/systemd/system/roundsman.service
[Service]
ExecStart=/usr/bin/roundsman run --config {config} --token {shlex.quote(PLANTED["flag"])}
ExecStartPre=-/usr/bin/curl -u ops:{IN_URLS["login"]} --data pw={shlex.quote(PLANTED["pre"])} https://h.example/
StandardInputText={PLANTED["input"]}
X-Token={IN_URLS["letters"]}
StateDirectory=roundsman
Environment=LEVEL=info "UNIT_TOKEN={unit_env}" AUTH=true
SetCredential=x:{PLANTED["unit_file"]}
EnvironmentFile=-{folder}/serv*.env
""")
    spoken = [each for key, each in PLANTED.items() if key not in {"logged", "replaced", "page", "stored"}]
    lines = [
        json.dumps({"event": "poll.failed", "error": f"refused {each} and {quote(each, safe='')}"})
        for each in spoken
    ]
    lines += [
        f"plain {each} {base64.b64encode(each.encode()).decode()}" for each in (*spoken, *IN_URLS.values())
    ]
    lines += [
        json.dumps(
            {
                "event": "x",
                "warm": True,
                "token": PLANTED["logged"],
                "to": MAIL,
                "url": f"https://h.example/{IN_URLS['path']}",
            }
        )
    ]
    lines += [f"Authorization: Basic {base64.b64encode(('user:' + PLANTED['page']).encode()).decode()}"]
    (bin_ / "journal.txt").write_text("\n".join(lines) + "\n")
    return config


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    store = SqliteStore.open(tmp_path / "roundsman.db")
    done(store.record_check(f"damage near {PLANTED['file']} of {MAIL}"))
    done(store.close())
    return plant(tmp_path, "http://127.0.0.1:1")


def run_planted(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = config.parent
    path = f"{folder}/bin:{os.environ['PATH']}"
    return doctor(folder, *arguments, config=config, PATH=path, PLANTED_TOKEN=PLANTED["env"])


@pytest.mark.parametrize("broken", ["", "main", "included", "an option"])
def test_no_secret_is_in_the_bundle_or_in_what_is_printed(broken: str, planted: Path) -> None:
    folder = planted.parent
    if broken == "main":
        planted.write_text(planted.read_text() + f'[sinks.hook\nsecret = "{IN_URLS["literal"]}\n')
    elif broken == "included":
        with (folder / "more.toml").open("a") as file:
            file.write(f'token = "{IN_URLS["literal"]}\n')
    elif broken == "an option":
        planted.write_text(planted.read_text().replace("[http]", '[http]\nattempts = "many"'))
    said = run_planted(planted, "--bundle", "out.tar.gz")
    assert "Traceback" not in said.stderr
    found = members(folder / "out.tar.gz")
    for name, text in found.items():
        # No program runs for a configuration that is no TOML.
        known = {PLANTED["program"]} if broken in {"main", "included"} else set()
        assert set(leaks(text)) - known == set(), name
    if not broken:
        assert leaks(said.stdout + said.stderr) == []
        assert "roundsman.toml: no mistakes; 5 sources, 2 sinks" in said.stdout
    assert "roundsman.service" in found["roundsman-doctor/unit.txt"]
    unit = found["roundsman-doctor/unit.txt"]
    assert re.search(
        r"^ExecStart=/usr/bin/roundsman run --config /.*/roundsman.toml \*\*\* \*\*\*$", unit, re.MULTILINE
    )
    assert "ExecStartPre=-/usr/bin/curl *** *** *** *** ***\n" in unit
    assert "UNIT_TOKEN=***" in found["roundsman-doctor/unit.txt"]
    assert json.loads(found["roundsman-doctor/checks.json"])["ok"] is False
    assert '"warm": true' in found["roundsman-doctor/log.txt"]
    assert "poll.failed" in found["roundsman-doctor/log.txt"]
    assert "[sources.doors]" in found["roundsman-doctor/configuration/1.toml.txt"]
    assert (
        'type = "parakey.event_logs"' in found["roundsman-doctor/configuration/1.toml.txt"]
        or broken == "main"
    )


def test_the_bundle_is_the_users_alone_and_replaces_no_file_without_force(tmp_path: Path) -> None:
    out = tmp_path / "out.tar.gz"
    out.write_text("mine")
    out.chmod(0o644)
    said = doctor(tmp_path, "--bundle", str(out))
    assert (said.returncode, out.read_text()) == (1, "mine")
    assert "--force overwrites it" in said.stderr
    doctor(tmp_path, "--bundle", str(out), "--force")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "roundsman-doctor/README.txt" in members(out)


def test_the_url_of_a_database_is_shown_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="needs roundsman[postgres]")
    url = "postgresql://rm:pl9-planted%2F77@127.0.0.1:1/events?sslmode=disable"
    shown = url.replace(":pl9-planted%2F77", "")
    config = tmp_path / "roundsman.toml"
    config.write_text(
        '[daemon]\nstore = { env = "STORE" }\n'
        f'[sinks.table]\ntype = "postgres"\nurl = "{url}"\ntable = "events"\n'
    )
    config.chmod(0o600)
    said = doctor(tmp_path, "--bundle", "out.tar.gz", config=config, STORE=url)
    assert f"store: {shown} cannot be reached" in said.stdout, said
    found = members(tmp_path / "out.tar.gz")
    assert f'url = "{shown}"' in found["roundsman-doctor/configuration/1.toml.txt"]
    assert shown in found["roundsman-doctor/checks.json"]
    for text in (said.stdout, said.stderr, *found.values()):
        assert "pl9-planted" not in text


def test_a_bundle_has_the_ending_of_what_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    said = doctor(tmp_path, "--bundle", str(out))
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"{out}: a bundle is a .tar.gz: give it this ending, or .tgz\n"
    assert not out.exists()


def test_without_a_configuration_it_still_says_the_rest(tmp_path: Path) -> None:
    said = doctor(tmp_path, "--json", config=tmp_path / "none.toml")
    found = json.loads(said.stdout)
    assert (said.returncode, found["ok"]) == (1, False)
    states = {each["check"]: each["state"] for each in found["checks"]}
    assert states["configuration"] == "failure"
    assert states["roundsman"] == "ok"
    assert {"clock", "log", "service"} <= states.keys()


async def test_a_host_that_answers_is_ok_and_one_that_does_not_is_a_failure(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    config = tmp_path / "roundsman.toml"
    config.write_text(f"""\
[daemon]
store = "roundsman.db"
[sources.doors]
type = "parakey.event_logs"
base_url = "{sandbox.url}"
access_token = {{ env = "PARAKEY_TOKEN" }}
[sinks.hook]
type = "http"
url = "http://127.0.0.1:1/x"
""")
    said = await asyncio.to_thread(doctor, tmp_path, "--json", config=config, PARAKEY_TOKEN=TOKEN)
    checks = {each["check"]: each for each in json.loads(said.stdout)["checks"]}
    assert checks[sandbox.url]["state"] == "ok", checks
    assert checks["http://127.0.0.1:1"]["state"] == "failure"
    assert "refused" in checks["http://127.0.0.1:1"]["message"]
    assert said.returncode == 1


@pytest.mark.garbles
def test_a_damaged_store_is_a_failure(tmp_path: Path, planted: Path) -> None:
    (tmp_path / "roundsman.db").write_bytes(b"\xff" * 8192)
    said = run_planted(planted)
    assert said.returncode == 1
    assert "failure  store: " in said.stdout
    assert "is damaged" in said.stdout


def test_one_source_is_counted_as_one(tmp_path: Path) -> None:
    (tmp_path / "roundsman.toml").write_text("""\
[sources.doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "lit8Token"
[sinks.out]
type = "stdout"
""")
    said = doctor(tmp_path, config=tmp_path / "roundsman.toml").stdout
    assert "roundsman.toml: no mistakes; 1 source, 1 sink\n" in said
    assert "warning  configuration: sources.doors: a secret is in the file;" in said, "as check has it"


def test_what_check_says_of_a_file_doctor_says_as_well(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    text = """\
include = ["none.d/*.toml"]
[sources.doors]
type = "parakey.event_logs"
base_url = "http://doors.invalid"
access_token = { env = "DOORS_TOKEN" }
[sinks.table]
type = "postgres"
url = "postgresql://127.0.0.1:1/events"
table = "events"
"""
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "b.toml").write_text(text.replace("/events", "/events?sslmode=yes", 1))
    said = doctor(tmp_path, config=tmp_path / "a.toml", DOORS_TOKEN="lit8Token-lit8Token").stdout
    assert "matches no file" in said
    assert "doors.invalid gets credentials without TLS; write https://\n" in said
    said = doctor(tmp_path, config=tmp_path / "b.toml", DOORS_TOKEN="lit8Token-lit8Token").stdout
    assert "sslmode is yes: write one of disable," in said
    assert "no mistakes" not in said


def test_the_disks_are_those_of_the_files_that_a_sink_writes(tmp_path: Path, small_disk: Path) -> None:
    """A relative path begins at the folder of the configuration, and not at that of the store."""
    config = small_disk / "roundsman.toml"
    config.write_text(f"""\
[daemon]
store = "{tmp_path}/roundsman.db"
[sources.doors]
type = "parakey.event_logs"
base_url = "http://127.0.0.1:1"
access_token = "lit8Token"
[sinks.archive]
type = "file"
path = "logs/events.jsonl"
""")
    checks = [line for line in doctor(tmp_path, config=config).stdout.splitlines() if " disk: " in line]
    assert [re.search(r"\(.*\)", line)[0] for line in checks] == ["(store)", "(sinks.archive)"]  # type: ignore[index]
    # The unit of the service that runs this configuration has a state folder.
    (tmp_path / "systemctl").write_text(
        f"#!/bin/sh\necho '[Service]'; echo 'ExecStart=/usr/bin/roundsman run -c {config}'; echo 'StateDirectory=x'\n"
    )
    (tmp_path / "systemctl").chmod(0o755)
    said = doctor(tmp_path, config=config, PATH=f"{tmp_path}:{os.environ['PATH']}").stdout
    assert f"on the disk of {small_disk} " not in said, "its files are in the state folder"
