"""The service in systemd: its unit with its drop-ins, its state, and its log."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from glob import glob
from itertools import pairwise
from pathlib import Path

from roundsman.doctor.finding import Finding
from roundsman.doctor.outside import output, text_of
from roundsman.doctor.scrub import SHORT, Scrub, conceal, conceal_parts, conceal_url, is_secret_name
from roundsman.masking import MASK
from roundsman.service.units import CONFIG

UNIT = "roundsman.service"
LINES = 200
"""Lines of the log that are read."""
PROPERTIES = (
    *(
        "LoadState",
        "ActiveState",
        "SubState",
        "Result",
        "UnitFileState",
        "FragmentPath",
        "DropInPaths",
        "User",
    ),
    *("NRestarts", "ExecMainStartTimestamp", "ExecMainStatus", "ExecMainCode", "MemoryCurrent", "MemoryMax"),
    *("TasksCurrent", "LimitNOFILE", "WatchdogUSec", "WatchdogTimestamp", "NeedDaemonReload", "DynamicUser"),
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}=")
_SUDO = "" if os.geteuid() == 0 else "try sudo, or "
_HIDDEN = re.compile(
    r"(\s*(Environment|SetCredential|SetCredentialEncrypted|PassEnvironment|StandardInputText|StandardInputData|Exec\w+|X-[\w-]+)\s*=)(.*)"
)
"""The settings whose values may be secrets."""
_OURS = {"run", "once", "reload", "check", "healthy", "backup", "-c", "--config", "--live", "--force"}
"""Arguments of `roundsman` that are shown."""


@dataclass
class Unit:
    """What systemd knows about the service."""

    text: str = ""
    """The unit with its drop-ins, without secrets; or why there is none."""
    properties: str = ""
    log: list[str] = field(default_factory=list)
    """The last lines, as they were written."""
    environ: dict[str, str] = field(default_factory=dict)
    """The variables that the unit sets."""
    state: Path | None = None
    """The state folder of the system's unit, where relative paths of the service begin."""
    config: Path | None = None
    """The configuration that the unit runs."""
    findings: list[Finding] = field(default_factory=list)

    def folder_of(self, config: Path) -> Path:
        """The folder where the relative paths of this configuration begin."""
        ours = self.config is not None and os.path.realpath(self.config) == os.path.realpath(config)
        return self.state if ours and self.state is not None else config.absolute().parent


def unit(log: Path | None) -> Unit:
    """The unit of the system, or the user's own. Each value in it that may be a secret is masked from then on."""
    found, scope = Unit(), ["--system"]
    raw = output("systemctl", *scope, "cat", UNIT)
    if raw.why and os.geteuid() != 0:
        users = output("systemctl", "--user", "cat", UNIT)
        raw, scope = (users, ["--user"]) if not users.why else (raw, scope)
    if raw.why:
        found.text = raw.why
        found.findings.append(Finding("service", "ok", f"no unit {UNIT}: {raw.why}"))
    else:
        joined = re.sub(r"\\\r?\n\s*", " ", raw.text)
        _learn(joined, found.environ)
        if scope == ["--system"]:
            _folders(joined, found)
        found.text = "\n".join(_line(each) for each in joined.splitlines())
        shown = output("systemctl", *scope, "show", UNIT, f"--property={','.join(PROPERTIES)}")
        found.properties = shown.text or shown.why
        found.findings.append(_state(found.properties))
    found.findings.append(_read_log(found, log, [] if scope == ["--system"] else scope))
    return found


def _learn(text: str, environ: dict[str, str]) -> None:
    """Mask the variables, credentials and files of variables that the unit names."""
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        name = name.strip()
        if name == "Environment":
            _assignments(value, environ)
        elif name.startswith("SetCredential"):
            conceal([value.partition(":")[2]], surely=True)
        elif name.startswith("StandardInput"):
            conceal([value], surely=True)
        elif name.startswith(("Exec", "X-")):
            _arguments(line, value)
        elif name == "EnvironmentFile":
            for path in _files(value.strip().removeprefix("-")):
                with suppress(OSError):
                    for each in re.sub(r"\\\r?\n", "", text_of(path)).splitlines():
                        if not each.lstrip().startswith(("#", ";")):
                            _assignments(each, environ)
        elif name.startswith("LoadCredential"):
            place = Path(value.partition(":")[2] or "/nowhere")
            for path in [place, *(place.glob("*") if place.is_dir() else ())]:
                with suppress(OSError):
                    conceal([text_of(path).rstrip("\r\n")], surely=True)
    with suppress(OSError):
        for path in Path("/run/credentials", UNIT).iterdir():
            with suppress(OSError):
                conceal([text_of(path).rstrip("\r\n")], surely=True)


def _folders(text: str, found: Unit) -> None:
    """The state folder and the configuration. A drop-in comes later and replaces the value of the unit."""
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        words = _words(value.replace("--config=", "--config "))
        if name.strip() == "StateDirectory" and words:
            found.state = Path("/var/lib", words[0].partition(":")[0])
        elif name.strip() == "ExecStart" and words:
            named = [at for word, at in pairwise(words) if word in {"-c", "--config"}]
            found.config = Path(named[0]) if named else CONFIG


def _arguments(line: str, value: str) -> None:
    """Mask the arguments that `_line` hides."""
    shown = _line(line).split()
    for word in _words(value)[1:]:
        if word not in shown:
            conceal([word], surely=False)
            conceal_parts(word, surely=False)
            if login := re.fullmatch(r"[^:/\s]+:([^:/\s]+)", word):
                conceal([login[1]], surely=True)
            if "://" in word:
                conceal_url(word)


def _files(pattern: str) -> list[Path]:
    """The files that `EnvironmentFile=` names."""
    if not re.search(r"[*?\[]", pattern):
        return [Path(pattern)]
    try:
        return [Path(each) for each in glob(pattern)]  # noqa: PTH207 - a pattern with an absolute path
    except OSError:
        return []


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [text.strip("\"' ")]


def _assignments(text: str, environ: dict[str, str]) -> None:
    for name, _, value in (word.partition("=") for word in _words(text)):
        environ[name] = value
        # A short word, such as of AUTH=true, stands in other texts, too.
        place = name.endswith(("_FILE", "_PATH", "_DIR"))
        surely = is_secret_name(name) and not place and len(value) >= SHORT
        for each in {value, value.replace("%%", "%")}:
            conceal([each], surely=surely)
            conceal_parts(each, surely=surely)
            if "://" in each:
                conceal_url(each)


def _line(line: str) -> str:
    """A line of a unit, without the values of variables and credentials; comments may hold old ones."""
    if line.lstrip().startswith((";", "#")) and not line.startswith("# /"):
        return "# ..."
    hidden = _HIDDEN.match(line)
    if not hidden:
        return line
    words = _words(hidden[3])
    if hidden[2] == "Environment":
        names = [word.partition("=")[0] for word in words if _NAME.match(word)]
        return hidden[1] + (" ".join(f"{name}={MASK}" for name in names) or MASK)
    if hidden[2].startswith("Exec"):
        return hidden[1] + " ".join(_shown(words))
    return hidden[1] + MASK


def _shown(words: list[str]) -> Iterator[str]:
    """A command line: the program, and the arguments that Roundsman knows."""
    ours = bool(words) and Path(words[0].lstrip("-@:+!")).name == "roundsman"
    for number, word in enumerate(words):
        known = ours and (word in _OURS or words[number - 1] in {"-c", "--config"})
        yield word if number == 0 or known else MASK


def _state(properties: str) -> Finding:
    known = dict(line.partition("=")[::2] for line in properties.splitlines())
    state, restarts = known.get("ActiveState", "unknown"), known.get("NRestarts", "0")
    words = f"{state}, {restarts} restarts, result {known.get('Result', 'unknown')}"
    if state == "failed":
        return Finding(
            "service", "failure", words, "see the last lines of the log, then systemctl restart roundsman"
        )
    if known.get("NeedDaemonReload") == "yes":
        return Finding("service", "warning", f"{words}; the unit was changed", "systemctl daemon-reload")
    if restarts.isdigit() and int(restarts) > 3:
        return Finding("service", "warning", words, "see the last lines of the log for the reason")
    return Finding(
        "service",
        "ok" if state == "active" else "warning",
        words,
        "" if state == "active" else "systemctl start roundsman",
    )


def _read_log(found: Unit, log: Path | None, scope: list[str]) -> Finding:
    if log is not None:
        try:
            found.log = text_of(log, tail=True).splitlines()[-LINES:]
        except OSError as exc:
            return Finding(
                "log", "failure", f"{log} cannot be read: {exc.strerror}", f"{_SUDO}name another file"
            )
        return Finding("log", "ok", f"{len(found.log)} lines of {log}")
    said = output("journalctl", *scope, "-u", UNIT, "-n", str(LINES), "-o", "cat", "--no-pager", "-q")
    found.log = said.text.splitlines()[-LINES:]
    if found.log:
        return Finding("log", "ok", f"the last {len(found.log)} lines of the journal")
    why = said.why or "the journal has no line of the service that this user may read"
    return Finding("log", "warning", why, f"{_SUDO}name a file: --log FILE")


def scrubbed(found: Unit, scrub: Scrub) -> tuple[str, str, str]:
    """The unit, its properties and the log as a stranger may read them: after all secrets are known."""
    log = "\n".join(scrub.log_line(line) for line in found.log)
    return scrub(found.text), scrub(found.properties), log
