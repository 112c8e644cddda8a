"""A reader of the documentation at work: a folder, a shell, simulated vendors, a daemon, and the names of the pages."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self
from uuid import uuid4

import httpx

import machine
import pages
import plugins
from ports import free_port
from tables import lines

TOKENS = {"newsletter": "sandbox-hook-token", "ledger": "sandbox-hook-token-2"}
LETTERS = 3
"""Events that the receiver refuses at first."""
INTERVAL = "3s"
PATIENCE = 120.0
"""Seconds to wait for another process: the machine may have much else to do."""
ADDRESS = ("base_url", "auth_url", "client_id")
"""Options of a source in which the sandbox differs from the vendor."""


def awaited(condition: Callable[[], Any], otherwise: Callable[[], str] = str) -> None:
    machine.awaited(condition, PATIENCE, otherwise)


def examples() -> dict[str, dict[str, Any]]:
    """The first table of each source on the pages of the sources, by name."""
    found: dict[str, dict[str, Any]] = {}
    for page in pages.pages():
        for block in pages.blocks(page, "toml") if page.startswith("docs/sources/") else ():
            for name, table in tomllib.loads(block.text).get("sources", {}).items():
                found.setdefault(name, table)
    return found


def form(line: str) -> str:
    """A line of output without its values: numbers, ids, times, paths, addresses."""
    line = re.sub(r"(?<=: answers), \d+ rows?$", "", line)  # if a row came just then
    line = re.sub(r" oldest=\S+", "", line)  # if an event waited just then
    line = re.sub(r'(?<=[a-z]=)(?:"[^"]*"|[^\s"]\S*)', "VALUE", line)
    line = re.sub(r"(?<!\S)'?(?:https?:/|\w*/)\S*[\w'*]", "VALUE", line)
    return re.sub(r"(?<!\S)[^\s=]*\d\S*", "VALUE", line)


class Others(ThreadingHTTPServer):
    """The other hosts of the pages: the sink's receiver, the API of "A source in TOML", acme, and the proxy."""

    daemon_threads = True

    def __init__(self, listener: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.listener = listener
        self.refused = 0
        self.refuses = True
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: Others

    def do_GET(self) -> None:
        if "/hooks/" in self.path:
            self._pass_on()
        elif self.path.startswith("/v1/audit"):
            rows = [
                {
                    "id": f"a{n:03d}",
                    "created": f"2026-04-01T10:{n:02d}:00Z",
                    "actor": {"login": "ada", "email": "ada@example.com"},
                    "action": "login",
                    "result": "FAILURE" if n % 7 == 0 else "OK",
                    "reason": "wrong password",
                }
                for n in range(1, 56)
            ]
            page = int((re.findall(r"[?&]page=(\d+)", self.path) or ["1"])[0])
            self._answer(200, {"data": {"items": rows[20 * page - 20 : 20 * page]}, "total": len(rows)})
        else:
            self._answer(200, [])

    def do_POST(self) -> None:
        if "/hooks/" in self.path:
            self._pass_on()
            return
        self.rfile.read(int(self.headers["content-length"]))
        refused = self.server.refuses and self.server.refused < LETTERS
        self.server.refused += refused
        self._answer(422 if refused else 200, {})

    def _pass_on(self) -> None:
        """As the proxies of the pages do."""
        path = self.path.removeprefix("/roundsman")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {key: value for key, value in self.headers.items() if key.lower() == "authorization"}
        try:
            answer = httpx.request(
                self.command, self.server.listener + path, content=body, headers=headers, timeout=60
            )
            status, content = answer.status_code, answer.content
        except httpx.TransportError:  # the daemon is stopped
            status, content = 502, b""
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Shell:
    """A folder and a shell in it, with the program on its path: `with Shell(folder) as shell`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        (self.home / "bin").mkdir(parents=True)
        self._running: list[Running] = []
        self._fresh = 0
        self.environ = {
            "PATH": f"{self.home}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(pages.ROOT / "src"),
        }
        program = f"#!{sys.executable}\nfrom roundsman.cli import main\n\nmain()\n"
        for name, text in (("roundsman", program), ("sudo", '#!/bin/sh\nexec "$@"\n')):
            script = self.home / "bin" / name
            script.write_text(text)
            script.chmod(0o755)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in reversed(self._running):
            running.kill()

    def types(
        self, line: str, *, stdin: str = "", folder: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a line as it is typed."""
        return subprocess.run(
            # Two lines: bash runs a single one in its own place, and a program could not find out its shell.
            ["bash", "-uo", "pipefail", "-c", f"{line}\nexit $?"],
            cwd=folder or self.folder,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def asks(self, line: str) -> Any:
        """The JSON that a command prints."""
        done = self.types(line)
        assert done.returncode == 0, (line, done.stderr)
        return json.loads(done.stdout)

    def starts(self, line: str, *, until: str, folder: Path | None = None) -> "Running":
        """Start a line that runs until it is stopped; returns once its output has `until`."""
        running = Running(line, folder or self.folder, self.environ)
        self._running.append(running)
        awaited(lambda: until in running.output() or running.ended(), otherwise=running.output)
        assert until in running.output(), running.output()
        return running

    def exports(self, printed: str) -> None:
        """Run the `export` lines of a configuration that the sandbox printed."""
        for line in re.findall(r"^# export (.*)$", printed, re.MULTILINE):
            self.environ |= dict(pair.split("=", 1) for pair in shlex.split(line))

    def fresh(self) -> Path:
        """A new empty folder."""
        self._fresh += 1
        folder = self.folder / f"fresh-{self._fresh}"
        folder.mkdir()
        return folder


class Reader(Shell):
    """A shell beside vendors and a daemon; each source has reported something."""

    def __enter__(self) -> Self:
        port = free_port()
        self.listener = f"http://127.0.0.1:{port}"
        self.others = Others(self.listener)
        try:
            self._set_up(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.others.close()

    # -- its making ------------------------------------------------------------------------------------------------

    def _set_up(self, port: int) -> None:
        line = f"python -m roundsman.sandbox --per-second 5 --listen 127.0.0.1:{port}"
        self.sandbox = self.starts(line, until="[sinks.archive]")
        printed = self.sandbox.output()
        self.exports(printed)
        self.vendor = re.findall(r"http://\S+", printed)[0]
        self.environ["AUDIT_TOKEN"] = "a-token-of-audit"
        self.environ["PAGE_PASSWORD"] = "a-password-of-ops"
        self._install_a_plugin()
        self.config = self.folder / "roundsman.toml"
        self.config.write_text("".join(lines(self._document(port, printed), "")))
        shutil.copy(self.config, self.folder / "all.toml")
        self.daemon = self.starts("roundsman run", until="daemon.started")
        self._until_all_have_reported()

    def _install_a_plugin(self) -> None:
        assert self.types("roundsman new source acme.orders").returncode == 0
        place = self.folder / "roundsman-acme-orders/src"
        plugins.install(place, "acme-orders", sources={"acme.orders": "acme_orders:AcmeOrders"})
        self.environ["PYTHONPATH"] += f":{place}"

    def _document(self, port: int, printed: str) -> dict[str, Any]:
        """The sources as their pages describe them, at the simulated vendors; and what else the pages name."""
        theirs = tomllib.loads(printed)["sources"]
        sources = {}
        for name, table in theirs.items():
            address = {key: table[key] for key in ADDRESS if key in table}
            sources[name] = examples()[name] | address | {"interval": INTERVAL}
        del sources["front-doors"]["domain_id"]  # the sandbox has one place
        sources["front-doors"]["webhook"] = theirs["front-doors"]["webhook"]
        for name, token in TOKENS.items():
            sources[name]["webhook"] = {"token": token}
        sources["audit"] = self._audit()
        sources["orders"] = {
            "type": "acme.orders",
            "base_url": self.others.url,
            "token": "a-token-of-acme",
            "interval": INTERVAL,
        }
        return {
            "daemon": {"store": "roundsman.db"},
            "listen": {
                "address": f"127.0.0.1:{port}",
                "page": {"user": "ops", "password": {"env": "PAGE_PASSWORD"}},
            },
            "sources": sources,
            "sinks": {
                "crm": {"type": "http", "url": f"{self.others.url}/events"},
                "archive": {"type": "file", "path": "events.jsonl"},
                "console": {"type": "stdout"},
            },
        }

    def _audit(self) -> dict[str, Any]:
        """The source that "A source in TOML" describes step by step."""
        page = "docs/guides/source-by-toml.md"
        steps = [block.text for block in pages.blocks(page, "toml") if "[sources.audit" in block.text]
        table: dict[str, Any] = tomllib.loads("\n".join(steps))["sources"]["audit"]
        return table | {"base_url": self.others.url}

    def _until_all_have_reported(self) -> None:
        awaited(self.submitted, otherwise=self.sandbox.output)
        assert self.types(f"roundsman track keys {self.submitted()[0]}").returncode == 0
        for path, body in (("front-doors", "no JSON"), (f"ledger/{TOKENS['ledger']}", "{}")):
            headers = {"Authorization": self.environ["PARAKEY_HOOK"]}
            answer = httpx.post(f"{self.listener}/hooks/{path}", content=body, headers=headers, timeout=60)
            assert answer.status_code == 200
        awaited(lambda: self.others.refused == LETTERS, otherwise=self.daemon.output)
        wanted = {"keys", "newsletter", "ledger", "audit"}
        awaited(lambda: wanted <= {each["source"] for each in self.asks("roundsman failures --json")})

    # -- what happens to it ----------------------------------------------------------------------------------------

    def reads_another_address(self) -> None:
        """The source front-doors reads the same vendor at another address now, and the daemon knows it."""
        head, table, rest = self.config.read_text().partition("[sources.front-doors]")
        options, following, others = rest.partition("\n[")
        here, there = ("127.0.0.1", "localhost") if "127.0.0.1" in options else ("localhost", "127.0.0.1")
        self.config.write_text(head + table + options.replace(here, there) + following + others)
        assert self.types("roundsman reload").returncode == 0

        def noticed() -> bool:
            sources = self.asks("roundsman status --json")["sources"]
            return any(each["reads"] for each in sources if each["name"] == "front-doors")

        awaited(noticed, otherwise=self.daemon.output)

    def damages_the_store(self) -> None:
        for path in self.folder.glob("roundsman.db*"):
            path.unlink()
        (self.folder / "roundsman.db").write_text("no store" * 1000)

    def submitted(self) -> list[str]:
        """The batches of keys that were submitted so far."""
        return re.findall(r"roundsman track keys (\w+)", self.sandbox.output())


class Running:
    """A process that runs until it is stopped; its output goes to a file."""

    def __init__(self, line: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._log = folder / f"output-{uuid4().hex}"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def output(self) -> str:
        return self._log.read_text()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def kill(self) -> None:
        if not self.ended():
            self._process.kill()
        self._process.wait()
