"""The findings as one .tar.gz of plain texts, which a stranger can read without this program."""

import io
import json
import os
import tarfile
import time
from pathlib import Path

from roundsman.doctor.examine import Report

README = """\
What `roundsman doctor --bundle` has found on a machine.

checks.txt      each check, in a line
checks.json     the same, and the versions, as JSON
versions.txt    the versions of the program, of Python, SQLite and the system
configuration/  each file of the configuration, without secrets and comments
status.json     what `roundsman status --json` prints
unit.txt        the unit of systemd with its drop-ins, without variables' values
unit-state.txt  the unit's state
log.txt         the last lines of the log

*** stands in place of a secret, and of a value that may be one.
<id 1a2b3c4d> stands in place of an id or a long number: the same one at all places.
Addresses of e-mail are replaced by ***@***.

Look at it before you send it. Names of persons may remain in log.txt and in
status.json, and so may names of hosts, sources, files and users everywhere.
"""


def packed(report: Report) -> bytes:
    """The archive."""
    members = {
        "README.txt": README,
        "checks.txt": "\n".join(each.line() for each in report.findings) + "\n",
        "checks.json": json.dumps(document(report), indent=2) + "\n",
        "versions.txt": "".join(f"{name}: {each}\n" for name, each in report.versions.items()),
        "status.json": report.status + "\n",
        "unit.txt": report.unit + "\n",
        "unit-state.txt": report.properties + "\n",
        "log.txt": report.log + "\n",
    }
    for number, (path, text) in enumerate(report.files.items(), 1):
        members[f"configuration/{number}.toml.txt"] = f"# {path}\n\n{text}"
    out, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in members.items():
            content = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"roundsman-doctor/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, now
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def document(report: Report) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "ok": not report.fails,
        "versions": report.versions,
        "checks": [
            {"check": each.check, "state": each.state, "message": each.words, "advice": each.advice or None}
            for each in report.findings
        ],
    }


def write(path: Path, content: bytes, *, force: bool) -> None:
    """Write the bundle, readable only by this user. OSError if there is a file, and `force` is not given."""
    # With `force` a new file replaces the old one: its mode and its readers would stay with it.
    target = path.with_name(f".{path.name}.{os.getpid()}") if force else path
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if force:
            target.replace(path)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
