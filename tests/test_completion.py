"""The words that a shell completes: asked by the real shells, from a configuration that may be half written."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from conftest import need
from roundsman.__main__ import main

ROOT = Path(__file__).parent.parent
CONFIG = """
include = ["conf.d/*.toml"]
[sources.front-doors]
type = "parakey.event_logs"
[sources.audit]
type = "http.json"
event = { type = "org.acme.refused" }
[sinks.archive]
type = "file"
"""
HOSTILE = '[sources."$(touch owned)"]\n[sources."a\'b"]\n[sources.extra]\ntype = "x"\n'


@cache
def installed(name: str) -> str:
    """What `roundsman --show-completion` prints for this shell."""
    env = os.environ | {"_ROUNDSMAN_COMPLETE": f"source_{name}"}
    command = [sys.executable, "-m", "roundsman"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in a folder with a configuration, with the program on its path."""
    (tmp_path / "roundsman.toml").write_text(CONFIG)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "more.toml").write_text(HOSTILE)
    os.mkfifo(tmp_path / "conf.d" / "pipe.toml")  # to read it would block the shell
    program = tmp_path / "bin" / "roundsman"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom roundsman.__main__ import main\n\nmain()\n")
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name in {"PYTHONPATH", "LANG"}}
    path = f"{program.parent}:/usr/bin:/bin"
    return {**kept, "PATH": path, "HOME": str(tmp_path), "PWD": str(tmp_path), "TERM": "dumb"}


@pytest.fixture
def completed(tmp_path: Path, shell: dict[str, str]) -> Callable[..., list[str]]:
    """What follows the words, the last of which is begun, by bash."""
    need(shutil.which("bash") is not None, "needs bash: apt-get install bash")

    def ask(*words: str) -> list[str]:
        script = (
            f'{installed("bash")}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
            '_roundsman_completion roundsman; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", script, "-", "roundsman", *words],
            cwd=tmp_path,
            env=shell,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.fixture
def offered(
    tmp_path: Path, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """What the program offers a bash for the words, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", shell["HOME"])
    monkeypatch.delenv("ROUNDSMAN_CONFIG", raising=False)
    monkeypatch.setenv("_ROUNDSMAN_COMPLETE", "complete_bash")
    monkeypatch.setattr(sys, "argv", ["roundsman"])

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(["roundsman", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            main()
        out, err = capsys.readouterr()
        assert err == ""
        return out.split()

    return ask


def test_names_are_completed_where_a_command_takes_them(
    completed: Callable[..., list[str]], offered: Callable[..., list[str]]
) -> None:
    assert completed("pause", "a") == ["audit", "archive"], "in the shell"
    assert offered("poll", "") == ["front-doors", "audit", "extra"], "also those of included files"
    assert offered("poll", "f") == ["front-doors"]
    assert offered("events", "-n", "3", "--source", "a") == ["audit"]
    assert offered("failures", "--source", "a") == ["audit"]
    assert offered("replay", "") == ["archive"]
    assert offered("pause", "a") == ["audit", "archive"]
    assert offered("events", "--outcome", "pa") == ["partial"]
    assert offered("events", "--type", "batch.c") == ["batch.completed"]
    assert offered("events", "--type", "org") == ["org.acme.refused"], "of a template"
    assert offered("help", "dead") == ["dead-letters"]
    assert offered("dead", "l") == ["list"]


def test_the_completion_reads_the_file_that_the_line_names(
    tmp_path: Path, completed: Callable[..., list[str]]
) -> None:
    (tmp_path / "other.toml").write_text("[sources.another]\n")
    assert completed("poll", "-c", "other.toml", "") == ["another"]


@pytest.mark.parametrize("text", ["[sources", 'include = ["/etc/*"]\nsources = 3', "\xff"])
def test_a_completion_is_silent_about_a_file_with_mistakes(
    text: str, tmp_path: Path, completed: Callable[..., list[str]]
) -> None:
    (tmp_path / "roundsman.toml").write_bytes(text.encode("latin-1"))
    assert completed("poll", "") == []


def test_a_completion_imports_nothing_slow(tmp_path: Path, shell: dict[str, str]) -> None:
    """Not even rich, where the help of commands is shown."""
    code = "import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from roundsman.__main__ import main\nmain()"
    for words, form in (("roundsman poll ", "zsh"), ("roundsman ", "fish")):
        env = {**shell, "_ROUNDSMAN_COMPLETE": f"complete_{form}", "_TYPER_COMPLETE_ARGS": words}
        env["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        assert ("front-doors" if form == "zsh" else "status\t") in done.stdout
        assert set(done.stderr.split()) & {"httpx", "rich.markup", "rich.console", "structlog"} == set()


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`/usr/share` of the Debian package, with the completions."""
    root = tmp_path_factory.mktemp("package")
    subprocess.run([ROOT / "debian/completions", root, sys.executable, "-m", "roundsman"], check=True)
    return root / "usr/share"


EVAL = 'eval "$(_ROUNDSMAN_COMPLETE=source_{} roundsman)"'
INIT = "autoload -Uz compinit; compinit -u -D"
BY_HAND = {"bash": EVAL.format("bash"), "zsh": f"{INIT}; {EVAL.format('zsh')}"}
PACKAGED = {
    "bash": ". {}/bash-completion/completions/roundsman",
    "zsh": "fpath=({}/zsh/vendor-completions $fpath); " + INIT,
}
"""As the shells load the files: bash at the first Tab, by the package bash-completion."""


@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize("setup", [BY_HAND, PACKAGED], ids=["by hand", "packaged"])
def test_tab_completes_a_name(
    name: str, setup: dict[str, str], packaged: Path, tmp_path: Path, shell: dict[str, str]
) -> None:
    need(shutil.which(name) is not None, f"needs {name}: apt-get install {name}")
    options = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[name]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [name, *options, "-i"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        cwd=tmp_path,
        env=shell,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, f'{setup[name].replace("{}", str(packaged))}; echo RE""ADY\n'.encode())
        until(ours, r"READY")
        os.write(ours, b": X; roundsman poll fro\t")
        until(ours, r"poll front-doors ")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not (tmp_path / "owned").exists()


def until(terminal: int, pattern: str) -> None:
    """Read what the shell shows until it has this."""
    seen, ends = "", time.monotonic() + 60
    while not re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x07\x08]", "", seen)):
        assert time.monotonic() < ends, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536).decode("utf-8", "replace")


def test_fish_offers_the_names(packaged: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    """fish finds the file by its place."""
    need(shutil.which("fish") is not None, "needs fish: apt-get install fish")
    done = subprocess.run(
        ["fish", "-c", "complete -C 'roundsman poll '"],
        cwd=tmp_path,
        env={**shell, "XDG_DATA_DIRS": str(packaged)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["audit", "extra", "front-doors"]
