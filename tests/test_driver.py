"""An installation without the driver of PostgreSQL: what needs it is refused in one sentence, and all else works."""

import os
import re
import subprocess
import sys
from pathlib import Path

from roundsman.options.server import NEEDS

ROOT = Path(__file__).parent.parent
HIDES = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(lambda name, *more: None if name.startswith("psycopg") else find(name, *more))
"""
"""What Python runs at its start: it finds no driver then."""
TABLES = """
[daemon]
store = "postgresql://rm@db.example/x"
[sources.doors]
type = "parakey.event_logs"
access_token = { env = "PARAKEY_TOKEN" }
[sinks.rows]
type = "postgres"
url = { env = "ROWS_URL" }
table = "events"
"""


def run(folder: Path, *args: object, **environ: str) -> tuple[int, str]:
    (folder / "sitecustomize.py").write_text(HIDES)
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "roundsman", *map(str, args)],
        env={**os.environ, "PYTHONPATH": path, "HOME": str(folder), "PARAKEY_TOKEN": "x", **environ},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_needs_the_driver_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "roundsman.toml"
    config.write_text(TABLES)
    config.chmod(0o600)
    code, said = run(tmp_path, "check", "-c", config, ROWS_URL="postgresql://rm:hunter22@db.example/x")
    assert (code, said.splitlines()) == (
        2,
        [
            f"{config}: 2 mistakes",
            f"{config}:3: daemon.store: postgresql://***@db.example/x {NEEDS}",
            f"{config}:9: sinks.rows.url: the text there {NEEDS}",
        ],
    )
    code, said = run(tmp_path, "status", "-c", config)
    assert (code, said) == (
        2,
        f"{config}: 1 mistake\n{config}:3: daemon.store: postgresql://***@db.example/x {NEEDS}\n",
    )
    code, said = run(tmp_path, "store", "copy", "postgresql://rm@db.example/x", tmp_path / "x.db")
    assert (code, said) == (1, f"postgresql://rm@db.example/x {NEEDS}\n")


def test_the_example_without_its_parts_about_postgresql_is_loaded(tmp_path: Path) -> None:
    example = (ROOT / "config.example.toml").read_text()
    head, _, rest = example.partition("[sinks.warehouse]")
    config = tmp_path / "roundsman.toml"
    config.write_text(head + rest[rest.index("\n[") :])
    config.chmod(0o600)
    names = dict.fromkeys(re.findall(r'env = "(\w+)"', config.read_text()), "https://hook.example/x")
    said = run(tmp_path, "check", "-c", config, **names)[1]
    assert "PostgreSQL" not in said
    assert "Traceback" not in said
