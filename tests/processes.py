"""The real daemon as a process, as systemd would start it."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Self


class Daemon:
    """`roundsman run` in a process of its own: `async with Daemon(config) as daemon`."""

    def __init__(
        self,
        config: Path,
        *,
        folder: Path | None = None,
        stdout: int | None = None,
        program: str = "roundsman",
        **environ: str,
    ) -> None:
        """`program`: the module that runs it."""
        self.config = config
        self.program = program
        self.folder = folder or config.parent
        self.environ = environ
        self.stdout = asyncio.subprocess.PIPE if stdout is None else stdout
        self.said: list[str] = []
        """What it reported to systemd."""
        self.logs: list[dict[str, Any]] = []
        self.stderr = ""
        self.code: int | None = None

    async def __aenter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        address = f"\0roundsman-test-{os.getpid()}-{id(self)}"
        self._socket.bind(address)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("ROUNDSMAN", "XDG"))}
        environ |= {"NOTIFY_SOCKET": "@" + address[1:], "HOME": str(self.folder), **self.environ}
        if self.program != "roundsman":  # one of the tests
            here = str(Path(__file__).parent)
            environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, environ.get("PYTHONPATH")]))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.program,
            "run",
            "-c",
            str(self.config),
            env=environ,
            cwd=self.folder,
            stdout=self.stdout,
            stderr=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        self._reading = asyncio.create_task(self._read())
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._socket.close()

    async def ready(self) -> Self:
        await self.until(lambda: "READY=1" in self.said)
        return self

    async def until(self, condition: Any, seconds: float = 60) -> None:
        """Wait for what the daemon does; polls, because it is another process."""
        ends = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ends, self.stderr[-4000:]
            assert self.process.returncode is None or condition(), self.stderr[-4000:]
            await asyncio.sleep(0.005)

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.logs if entry["event"] == event]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> float:
        """Seconds that stopping took."""
        began = time.monotonic()
        self.send(number)
        self.code = await asyncio.wait_for(self.process.wait(), 60)
        await self._reading
        return time.monotonic() - began

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            text = line.decode()
            self.stderr += text
            if text.startswith("{"):
                self.logs.append(json.loads(text))

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.said += (await loop.sock_recv(self._socket, 4096)).decode().splitlines()


def configure(folder: Path, url: str, sinks: str, **options: Any) -> Path:
    """A configuration for a sandbox at `url`."""
    path = folder / "roundsman.toml"
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
    path.write_text(
        f'[daemon]\nstore = "roundsman.db"\nlog_format = "json"\n'
        f'[sources.doors]\ntype = "parakey.event_logs"\nbase_url = "{url}"\nstart = "beginning"\n'
        f'access_token = {{ env = "PARAKEY_TOKEN" }}\n{more}{sinks}'
    )
    path.chmod(0o600)
    return path
