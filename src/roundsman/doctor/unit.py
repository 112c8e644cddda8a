"""The service in systemd: its unit with its drop-ins, its state, and its log."""

import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from roundsman.doctor.finding import Finding
from roundsman.doctor.outside import output, text_of
from roundsman.doctor.scrub import Scrub, conceal, conceal_url
from roundsman.masking import MASK

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
_SUDO = "" if os.geteuid() == 0 else "try sudo, or "
_HIDDEN = re.compile(r"(\s*(?:Environment|SetCredential|SetCredentialEncrypted|PassEnvironment)\s*=)(.*)")


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
    findings: list[Finding] = field(default_factory=list)


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
        elif name == "EnvironmentFile":
            with suppress(OSError):
                for each in text_of(Path(value.strip().removeprefix("-"))).splitlines():
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


def _assignments(text: str, environ: dict[str, str]) -> None:
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text.strip("\"' ")]
    for name, _, value in (word.partition("=") for word in words):
        environ[name] = value
        conceal([value], surely=False)
        if "://" in value:
            conceal_url(value)


def _line(line: str) -> str:
    """A line of a unit, without the values of variables and credentials; comments may hold old ones."""
    if line.lstrip().startswith((";", "#")) and not line.startswith("# /"):
        return "# ..."
    hidden = _HIDDEN.match(line)
    if not hidden:
        return line
    names = re.findall(r"(?:^|[\s\"'])([A-Za-z_][A-Za-z0-9_]{0,40})(?==)", hidden[2])
    return hidden[1] + (" ".join(f"{name}={MASK}" for name in names) or MASK)


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
