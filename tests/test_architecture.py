"""The shape of the tree: imports point inward, SQL stands in one place, and so does what swallows errors."""

import ast
from pathlib import Path

SRC = Path(__file__).parent.parent / "src" / "roundsman"
INWARD: dict[str, set[str]] = {
    "masking": set(),
    "decoding": set(),
    "bounded": set(),
    "settings": {"masking"},
    "ratelimits": {"settings"},
    "threads": set(),
    "wire": set(),
    "logs": {"masking", "wire"},
    "events": {"masking", "wire"},
    "webhook": {"settings"},
    "meter": set(),
    "files": set(),
    "lean": set(),
    "described": set(),
    "unit": {"settings"},
    "silence": {"events"},
    "plugin": {
        "masking",
        "settings",
        "events",
        "http",
        "webhook",
        "wire",
    },  # events and http by name only, for annotations
    "http": {"bounded", "decoding", "masking", "plugin", "ratelimits", "settings", "wire"},
    "walk": {"events", "wire"},
    "unread": {"wire"},
    "follow": {"events"},
    "draft": {"events", "plugin", "unread", "wire"},
    "lenient": {"events"},
    "archive": {"settings", "wire"},
    "auth": {"http", "masking", "plugin", "wire"},
    "store": {"events", "files", "plugin", "store", "wire"},
    "alarms": set(),
    "clock": set(),
    "notices": {"events", "files", "settings", "store"},
    "delivery": {"events", "http", "meter", "notices", "plugin", "settings", "store"},
    "visit": {"clock", "events", "http", "meter", "plugin", "ratelimits", "silence", "store"},
    "reception": {"clock", "events", "meter", "plugin", "store", "visit", "webhook"},
    "engine": {
        *(
            "alarms",
            "clock",
            "delivery",
            "events",
            "http",
            "meter",
            "notices",
            "plugin",
            "ratelimits",
            "reception",
            "settings",
            "silence",
            "store",
            "threads",
            "visit",
        ),
    },
    "web": {"engine", "meter", "plugin", "settings", "store", "web", "webhook"},
    "sources": {
        *(
            "archive",
            "auth",
            "draft",
            "events",
            "follow",
            "http",
            "lenient",
            "plugin",
            "settings",
            "sources",
            "unread",
            "walk",
            "webhook",
            "wire",
        ),
    },
    "sinks": {"events", "files", "http", "plugin", "settings", "threads", "wire", "sinks"},
    "config": {"described", "events", "http", "masking", "plugin", "settings", "sinks", "sources", "store"},
    "advice": {"config", "events", "http", "plugin", "settings", "sources", "unit"},
    "hooks": {"http", "plugin", "settings", "webhook"},
    "memories": {"events", "plugin", "store"},
    "screen": {"events", "logs", "memories", "settings", "store"},
    "service": {
        *("alarms", "config", "engine", "http", "logs", "masking", "memories", "plugin", "settings"),
        *("store", "web"),
    },
}
OUTERMOST = {"cli", "__main__", "__init__", "sandbox"}


def modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in SRC.rglob("*.py"):
        found.setdefault(path.relative_to(SRC).parts[0].removesuffix(".py"), []).append(path)
    return found


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "roundsman":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in names if name in {*INWARD, *OUTERMOST}}


def test_imports_point_inward() -> None:
    for name, paths in modules().items():
        if name not in OUTERMOST:
            for path in paths:
                assert imports(path) <= INWARD[name], path.name


def test_only_the_command_line_knows_the_sandbox() -> None:
    knowing = {name for name, paths in modules().items() for path in paths if "sandbox" in imports(path)}
    assert knowing <= {"cli", "sandbox"}


def test_all_sql_is_in_the_store() -> None:
    words = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM", "PRAGMA ")
    for path in SRC.rglob("*.py"):
        if path.parent.name != "store":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not node.value.strip().startswith(words), path


def test_errors_are_swallowed_in_few_places() -> None:
    broad = {
        path.name
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "Exception"
    }
    # setup, running, cli's hooks: `check --live`, `poll` and `hooks` show what a plugin raised; config: importing somebody else's may raise anything.
    # reception: whatever a plugin raises about a webhook means "not understood". service: nor does a reload end without an answer.
    assert broad == {
        "visit.py",
        "delivery.py",
        "reception.py",
        "setup.py",
        "running.py",
        "hooks.py",
        "config.py",
        "service.py",
    }
