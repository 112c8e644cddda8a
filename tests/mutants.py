"""Change one thing in a file, run the tests about it, and print the changes that no test notices.

    make mutants FILE=src/roundsman/walk.py N=60 SEED=1

Each mutant lives in a copy of the tree. Some that survive change nothing observable; the others need a test.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TESTS = {
    "store": "tests/test_store.py tests/test_upgrades.py tests/test_long_life.py",
    "engine/delivery": "tests/test_engine.py tests/test_notices.py",
    "sinks/exec": "tests/sinks/test_exec.py",
    "sinks/file": "tests/sinks/test_file.py",
    "program": "tests/sinks/test_exec.py tests/test_printed.py",
    "sinks/program": "tests/sinks/test_exec.py",
    "sinks/http": "tests/sinks/test_http_sink.py",
    "webhook": "tests/sources/test_webhooks.py tests/web/test_receiver.py",
    "engine/reception": "tests/web/test_receiver.py tests/test_rings.py",
    "kit/feed": "tests/sources/test_parakey.py tests/sources/test_feed.py",
    "kit/probing": "tests/sources/test_parakey.py tests/test_probing.py",
    "wire": "tests/test_wire.py tests/sources/test_every_source.py tests/test_http.py",
    "http": "tests/test_http.py tests/sinks/test_http_sink.py",
    "http/decoding": "tests/test_http.py",
    "http/ratelimits": "tests/test_ratelimits.py tests/test_http.py",
    "masking": "tests/test_masking.py tests/test_http.py",
    "sources/parakey": "tests/sources/test_parakey.py tests/sources/test_parakey_batches.py tests/sources/test_every_source.py",
    "kit": "tests/sources/test_every_job.py tests/sources/test_jobs.py tests/sources/test_every_source.py",
    "sources/http_json": "tests/sources/test_http_json.py tests/sources/test_every_source.py",
    "sources/mailchimp": "tests/sources/test_mailchimp.py tests/sources/test_every_source.py",
    "sources/railz": "tests/sources/test_railz.py tests/sources/test_every_source.py",
    "engine/visit": "tests/test_visit.py tests/test_engine.py tests/test_rings.py",
}
"""The tests about a file, by the beginning of its path; the longest that fits."""
PATIENCE = 300
COMPARE = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add}


class Mutant(NamedTuple):
    line: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every change of one thing."""
    tree = ast.parse(source)
    count = sum(1 for _ in ast.walk(tree))
    for number in range(count):
        for choice in range(2):
            changed = copy.deepcopy(tree)
            node = next(node for at, node in enumerate(ast.walk(changed)) if at == number)
            line = getattr(node, "lineno", 0)
            what = _change(node, choice)
            if what is not None:
                yield Mutant(line, what, ast.unparse(ast.fix_missing_locations(changed)))


def _change(node: ast.AST, choice: int) -> str | None:
    """Change it in place, and say how; None where there is nothing to change."""
    before = ast.unparse(node)[:60] if isinstance(node, ast.expr | ast.stmt) else ""
    match node:
        case ast.Compare(ops=[op]) if choice == 0 and type(op) in COMPARE:
            node.ops = [COMPARE[type(op)]()]
        case ast.BoolOp() if choice == 0:
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.BoolOp() if choice == 1:
            node.values = node.values[:-1]
        case ast.BinOp() if choice == 0 and type(node.op) in COMPUTE:
            node.op = COMPUTE[type(node.op)]()
        case ast.UnaryOp(op=ast.Not()) if choice == 0:
            node.op = ast.UAdd()
            node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
        case ast.If() | ast.While() if choice == 0 and isinstance(node, ast.If):
            node.test = ast.Constant(False)
        case ast.Constant(value=bool()) if choice == 0:
            node.value = not node.value
        case ast.Constant(value=int()) if choice == 0:
            node.value += 1
        case ast.Return(value=ast.expr()) if choice == 0 and not isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
        case ast.Expr(value=ast.Call() | ast.Await()) if choice == 0:
            node.value = ast.Constant(None)
        case _:
            return None
    after = ast.unparse(ast.fix_missing_locations(node))[:60] if before else ""
    return f"{before!r} became {after!r}"


def lives(mutant: Mutant, file: Path, tests: list[str]) -> bool:
    """Whether every test passes with it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        there = Path(folder)
        for name in ("src", "tests", "systemd"):
            shutil.copytree(ROOT / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "config.example.toml", "Makefile", "CHANGELOG.md"):
            shutil.copy(ROOT / name, there)
        (there / file).write_text(mutant.source)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environ = {**os.environ, "PYTHONPATH": str(there / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=there, env=environ, capture_output=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    file = args.file.resolve().relative_to(ROOT)
    name = str(file.relative_to("src/roundsman").with_suffix(""))
    fits = [beginning for beginning in TESTS if name.startswith(beginning)]
    tests = TESTS[max(fits, key=len)].split() if fits else ["tests"]
    original = Mutant(0, "", (ROOT / file).read_text())
    if not lives(original, file, tests):
        sys.exit("the tests fail without any change")
    found = list(mutants(original.source))
    chosen = random.Random(args.seed).sample(found, min(args.count, len(found)))
    with ThreadPoolExecutor(2) as pool:
        fates = pool.map(lambda mutant: lives(mutant, file, tests), chosen)
        survivors = [mutant for mutant, alive in zip(chosen, fates, strict=True) if alive]
    for mutant in sorted(survivors):
        print(f"{file}:{mutant.line}: {mutant.what}")
    print(f"{len(survivors)} of {len(chosen)} survive ({len(found)} possible, seed {args.seed})")


if __name__ == "__main__":
    main()
