"""Secrets that programs print: when they run, what they get, what of it is shown, and that nothing is left."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Self

import pytest
from pydantic import model_validator

from conftest import need
from roundsman import cli, config, program
from roundsman.config import advice, registry
from roundsman.errors import ConfigError
from roundsman.masking import mask
from roundsman.options.secrets import Secret
from roundsman.plugin import Poll, Source, State, Visit
from roundsman.service import units
from roundsman.service.fitness import out_of_reach
from roundsman.sources.parakey.event_logs import EventLogs

SECRET = "s3cret-of-the-vault"
SINK = '[sinks.out]\ntype = "stdout"\n'


def written(folder: Path, *secrets: str, more: str = "") -> Path:
    """A configuration with a source for each of these secrets, as they are written in TOML."""
    text = "".join(
        f'[sources.doors-{number}]\ntype = "parakey.event_logs"\naccess_token = {secret}\n'
        for number, secret in enumerate(secrets, 1)
    )
    path = folder / "roundsman.toml"
    path.write_text(f'[daemon]\nstore = "roundsman.db"\n{text}{SINK}{more}')
    path.chmod(0o600)
    return path


def shell(script: str, *more: str) -> str:
    """A table with a script of the shell."""
    quoted = ", ".join(f"'''{each}'''" for each in ("/bin/sh", "-c", script))
    return f"{{ {', '.join([f'command = [{quoted}]', *more])} }}"


def tokens(loaded: config.Config) -> list[str]:
    found = []
    for source in loaded.sources.values():
        assert isinstance(source, EventLogs)
        found.append(source.access_token.reveal())
    return found


def test_the_secret_is_what_the_program_prints(tmp_path: Path) -> None:
    loaded = config.load(written(tmp_path, shell(f"printf '{SECRET}\\r\\n\\n'")))
    assert tokens(loaded) == [SECRET]
    assert mask(f"x {SECRET} y") == "x *** y"
    assert advice.warnings(loaded) == []


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("{ command = 'op read x' }", 'is not a list, and no shell reads it; write the program and each argument as a text, such as ["op", "read", "op://vault/item/field"]'),
        ("{ command = [] }", 'names no program; write ["op", "read", "op://vault/item/field"]'),
        ("{ command = ['op', 7] }", "each argument must be a text"),
        ("{ command = ['no-such-vault'] }", "the program no-such-vault is in no folder of PATH; write its absolute path"),
        ("{ command = ['QW/erty12345uiop'] }", "the program of that name (the value may be the secret itself; write its name instead) cannot be started"),
        (f"{{ command = ['/{'x' * 300}'] }}", "the program of that name (the value may be the secret itself; write its name instead) cannot be started: File name too long"),
        ("{ command = ['/'] }", "the program / cannot be started: it is not a file"),
        ("{ command = ['true'], env = 'X' }", "has env beside command; only timeout can be there"),
        ("{ command = ['true'], timeout = '2m' }", "its timeout is not between 0 and 60 seconds"),
        ("{ command = ['true'], timeout = true }", "is not a duration"),
        ("{ command = ['true'] }", "what the program true printed is empty"),
        (shell("echo a; echo b"), "what the program /bin/sh printed holds a line break or a control character"),
        (shell(r"printf '\377'"), "the program /bin/sh printed what is not UTF-8 text"),
        (shell("cat /dev/zero"), "the program /bin/sh printed more than 64 KiB"),
        (shell("sleep 60", "timeout = '50ms'"), "the program /bin/sh: did not end within 50ms"),
        (shell("kill -9 $$"), "the program /bin/sh: ended by SIGKILL"),
        (shell("echo no session >&2; exit 3"), "the program /bin/sh: exit status 3: no session"),
        (shell(f"echo {SECRET}; echo {SECRET} is locked >&2; exit 3"), "the program /bin/sh: exit status 3: *** is locked"),
        (shell("echo 4-17; echo; echo 4-17 is locked >&2; exit 3"), "the program /bin/sh: exit status 3: *** is locked"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_sentence_without_the_secret(table: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, table))
    [found] = caught.value.problems
    assert f"sources.doors-1.access_token: {problem}" in found
    assert SECRET not in found


def test_a_program_gets_no_secret_and_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also none that is named behind it in the file, and nothing by which systemd speaks to the daemon."""
    for name in ("FIRST", "LATER", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example.org")
    seen = tmp_path / "seen"
    script = f'(cat; env) > "{seen}"; echo {SECRET}'
    config.load(written(tmp_path, '{ env = "FIRST" }', shell(script), '{ env = "LATER" }'))
    assert "value-of-" not in seen.read_text()
    assert "VAULT_ADDR=https://vault.example.org" in seen.read_text().splitlines()


def test_programs_run_side_by_side_and_each_once_in_a_load(tmp_path: Path) -> None:
    """Each waits until the other has begun."""
    met = f'mkdir "{tmp_path}/%s"; while ! [ -d "{tmp_path}/%s" ]; do sleep 0.01; done; echo {SECRET}-%s'
    one, two = (shell(met % pair, "timeout = '30s'") for pair in (("a", "b", "1"), ("b", "a", "2")))
    loaded = config.load(written(tmp_path, one, two, one))  # a second `mkdir` would fail
    assert tokens(loaded) == [f"{SECRET}-1", f"{SECRET}-2", f"{SECRET}-1"]


async def test_a_reload_runs_them_again_and_blocks_nothing(tmp_path: Path) -> None:
    runs, go = tmp_path / "runs", tmp_path / "go"
    script = (
        f'echo >> "{runs}"; while ! [ -e "{go}" ]; do sleep 0.01; done; echo {SECRET}-$(wc -l < "{runs}")'
    )
    path = written(tmp_path, shell(script, "timeout = '30s'"))
    loading = asyncio.create_task(config.load_beside(config.read(path)))
    while not runs.exists() and not loading.done():
        await asyncio.sleep(0)  # the loop is free while the program runs
    go.touch()
    assert tokens(await loading) == [f"{SECRET}-1"]
    assert tokens(await config.load_beside(config.read(path))) == [f"{SECRET}-2"]


class Vault(Source):
    """Reads a second secret once it has the first one."""

    type: Literal["vault"] = "vault"
    base_url: str = "http://127.0.0.1:1"
    access_token: Secret
    second: dict[str, Any]

    @model_validator(mode="after")
    def _read_second(self) -> Self:
        Secret.read(self.second)
        return self

    async def poll(self, visit: Visit, state: State) -> Poll:
        return Poll(state)


async def test_a_program_that_another_one_makes_necessary_runs_beside_the_loop_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gets no secret of the environment either."""
    point = SimpleNamespace(name="vault", group="roundsman.sources", load=lambda: Vault)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if "sources" in group else [])
    monkeypatch.setenv("LATER", "value-of-LATER")
    seen, go = tmp_path / "seen", tmp_path / "go"
    second = f'env > "{seen}"; while ! [ -e "{go}" ]; do sleep 0.01; done; echo {SECRET}'
    path = written(tmp_path, shell(f"echo {SECRET}"), '{ env = "LATER" }')
    text = path.read_text().replace("parakey.event_logs", "vault", 1)
    path.write_text(text.replace("[sources.doors-2]", f"second = {shell(second)}\n[sources.doors-2]"))
    loading = asyncio.create_task(config.load_beside(config.read(path)))
    while not seen.exists() and not loading.done():
        await asyncio.sleep(0)
    go.touch()
    assert set((await loading).sources) == {"doors-1", "doors-2"}
    assert "value-of-LATER" not in seen.read_text()
    assert set(config.load(path).sources) == {"doors-1", "doors-2"}


def test_a_table_that_only_looks_like_one_runs_nothing(tmp_path: Path) -> None:
    """The body of a request may have any members."""
    ran = tmp_path / "ran"
    more = (
        '[sources.list]\ntype = "http.json"\nbase_url = "http://127.0.0.1:1"\nmethod = "POST"\nrows = { id = "id" }\n'
        f'body = {{ command = ["touch", "{ran}"] }}\n'
    )
    config.load(written(tmp_path, f'"{SECRET}"', more=more))
    assert not ran.exists()


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "events",
        "failures",
        "schema config",
        "reload",
        "poll list --trace",
        "notify-test out",
        "service show --socket",
    ],
)
def test_a_command_that_needs_no_secret_runs_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    more = '[sources.list]\ntype = "http.json"\nbase_url = "http://127.0.0.1:1"\nrows = { id = "id" }\n'
    secret = shell(f'touch "{ran}"; echo {SECRET}')
    page = f'[listen]\naddress = "127.0.0.1:0"\n[listen.page]\nuser = "ops"\npassword = {secret}\n'
    beat = f"[heartbeat]\nurl = {secret}\n"
    path = written(tmp_path, secret, more=more + page + beat)
    if "service" in command:
        command += f" -c {path}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROUNDSMAN_CONFIG", str(path))
    monkeypatch.setattr(sys, "argv", ["roundsman", *command.split()])
    with pytest.raises(SystemExit):
        cli.main()
    assert not ran.exists()


def test_nothing_of_a_program_that_is_late_is_left(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f'sleep 60 & echo $! > "{pid}"; wait'
    with pytest.raises(ConfigError):
        config.load(written(tmp_path, shell(script, "timeout = '3s'")))
    assert_ends(int(pid.read_text()))


def test_a_program_that_cannot_be_killed_blocks_no_load(tmp_path: Path) -> None:
    """One that has become another user, as sudo does. The user of the command may not end it."""
    need(os.geteuid() == 0, "needs root, to start a program as another user")
    pid = tmp_path / "pid"
    script = f'trap "" TERM; echo $$ > "{pid}"; exec setpriv --reuid 65534 --clear-groups sleep 60'
    path = written(tmp_path, shell(script, "timeout = '4s'"))
    # Without CAP_KILL, root may end programs of root alone.
    command = ["setpriv", "--bounding-set", "-kill", sys.executable, "-m", "roundsman", "check", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "the program /bin/sh: did not end within 4s, and cannot be killed" in done.stderr
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_program_ends_with_the_command_that_started_it(tmp_path: Path) -> None:
    """It is killed even if that one is."""
    told, pid = tmp_path / "told", tmp_path / "pid"
    os.mkfifo(told)
    script = f'echo $$ > "{pid}"; echo > "{told}"; sleep 60'
    path = written(tmp_path, shell(script, "timeout = '60s'"))
    command = [sys.executable, "-m", "roundsman", "check", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told.read_text()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert_ends(int(pid.read_text()))


def assert_ends(process: int) -> None:
    """Wait for the end of a process that is no child of this one."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([handle], [], [], 10)
        assert ready
    finally:
        os.close(handle)


def test_a_program_that_others_may_change_is_warned_of(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.write_text(f"#!/bin/sh\necho {SECRET}\n")
    vault.chmod(0o777)
    [warning] = advice.warnings(config.load(written(tmp_path, '{ command = ["./vault"] }')))
    assert warning == (
        f"sources.doors-1: {vault}, which prints a secret, can be changed by other users; chmod go-w"
    )


def test_it_costs_nothing_unless_it_is_configured(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from roundsman import config; config.load(Path(sys.argv[1])); print('roundsman.program' in sys.modules)"
    for secret, imported in ((f'"{SECRET}"', "False"), (shell(f"echo {SECRET}"), "True")):
        path = str(written(tmp_path, secret))
        done: Any = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == imported


def test_the_last_words_are_without_what_was_printed() -> None:
    """A line may be the begin of a later one."""
    script = f"echo {SECRET}; echo {SECRET}-whole; echo x {SECRET}-whole {SECRET} >&2"
    ended = program.Run(["/bin/sh", "-c", script], {}, 10, limit=100).over()
    assert (ended.status, ended.output) == (0, f"{SECRET}\n{SECRET}-whole\n".encode())
    assert ended.words == "x *** ***"


def test_a_program_that_the_service_cannot_see_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "vault"
    vault.write_text(f"#!/bin/sh\necho {SECRET}\n")
    vault.chmod(0o700)
    monkeypatch.setattr(units, "HIDDEN", (tmp_path,))
    loaded = config.load(written(tmp_path, '{ command = ["./vault"] }'))
    found = [line for line in out_of_reach(loaded, socket=False) if line.startswith("sources.")]
    why = f"{tmp_path} is hidden from the service; move the program to /usr/local/bin"
    assert found == [f"sources.doors-1: {vault}: {why}"]
    monkeypatch.setattr(units, "HIDDEN", ())
    found = [line for line in out_of_reach(loaded, socket=False) if line.startswith("sources.")]
    assert found == [f"sources.doors-1: {vault} cannot be executed by the service's user; chmod o+rx"]
