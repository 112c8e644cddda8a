"""The lines for a proxy in the documentation, in a real nginx and a real Caddy: they bring the page to its own host, and never to that of webhooks."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pages
from conftest import need
from doors import HEADER, PARAKEY, VALUE, Door, open_door, until
from ports import free_port
from roundsman.options.listen import ListenOptions
from worlds import event_logs

USER, PASSWORD = "ops", "a-password-of-ops"
GUIDE = "docs/guides/page.md"
HOOKS = sorted(page for page in pages.pages() if page.startswith("docs/guides/webhooks"))
WAYS_OUT = (
    "/",
    "/login",
    "/events",
    "/status.json",
    "//events",
    "/hooks/../events",
    "/hooks/..%2fevents",
    "/hooks/%2e%2e/events",
    "/hooks/%2e%2e%2fevents",
    "/hooks/doors/../../events",
    "/hooks//../events",
    "/hooks/..//events",
    "/roundsman/hooks/../events",
    "/roundsman/hooks/..%2fevents",
    "/roundsman/hooks/%2e%2e/status.json",
    "/roundsman/hooks../events",
    "/hooks../events",
)
"""Paths by which a caller from outside may try to get to the page."""


def servers(daemon: str) -> Iterator[tuple[str, str, int]]:
    """(page of the documentation, a server block on this machine, its port) of each server on the pages."""
    of_guide = [block.text for block in pages.blocks(GUIDE, "nginx")]
    found = [
        (GUIDE, block)
        for text in of_guide
        for block in re.findall(r"^server \{.*?^\}", text, re.MULTILINE | re.DOTALL)
    ]
    for page in HOOKS:
        lines = "\n".join(block.text for block in pages.blocks(page, "nginx"))
        found += [(page, f"server {{\n    listen 443 ssl;\n{lines}\n}}")] if lines else []
    for page, block in found:
        port = free_port()
        here = re.sub(r"listen (?:[\d.]+:)?443 ssl;", f"listen 127.0.0.1:{port};", block)
        here = re.sub(r"^ *ssl_certificate\w* .*\n", "", here, flags=re.MULTILINE)
        yield page, here.replace("http://127.0.0.1:8377", daemon), port


async def status(door: Door, port: int, path: str, *head: str) -> tuple[int, str]:
    """The answer to a GET of this path as it stands: its status, and its head in lower case."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", *(head or ["Host: hooks.example.org"]), "Connection: close"]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = (await reader.read()).decode("latin-1").partition("\r\n\r\n")[0].lower()
    writer.close()
    return int(answer.split()[1]), answer


async def test_the_lines_of_the_pages_keep_the_page_in(tmp_path: Path) -> None:
    need(shutil.which("nginx") is not None, "needs nginx: apt-get install nginx-light")
    table = {"user": USER, "password": PASSWORD, "host": "ops.example.org"}
    options = ListenOptions(address="127.0.0.1:0", page=table)
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options) as door:
        found = list(servers(door.url))
        assert len(found) >= 6, "each page with lines for nginx"
        config = tmp_path / "nginx.conf"
        temporary = "".join(
            f"{name}_temp_path {tmp_path}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/errors;\nevents {{}}\n"
            f"http {{\naccess_log off; root {tmp_path}/nothing;\n{temporary}{''.join(text for _, text, _ in found)}}}\n"
        )
        nginx = subprocess.Popen(["nginx", "-e", str(tmp_path / "errors"), "-c", str(config)])
        try:
            await until(lambda: all(is_open(port) for _, _, port in found))
            [(_, _, inside), *outside] = found
            for page, text, port in outside:
                prefix = "/roundsman" if "/roundsman/hooks/" in text else ""
                await keeps_the_page_in(door, port, page, prefix)
            await brings_the_page(door, inside)
        finally:
            nginx.terminate()
            nginx.wait()


async def keeps_the_page_in(door: Door, port: int, page: str, prefix: str = "") -> None:
    """The server on this port brings webhooks, and nothing of the page."""
    arrived, _ = await status(door, port, f"{prefix}/hooks/doors")
    assert arrived == 405, f"{page}: webhooks arrive"
    for path in WAYS_OUT:
        got, head = await status(door, port, path)
        assert "content-security-policy" not in head, (page, path, head)
        assert got in {400, 403, 404, 405}, (page, path, head)


async def brings_the_page(door: Door, port: int, *others: int) -> None:
    """The server on this port brings the page, by its host name alone. `others`: statuses for another host."""
    host = {"host": "ops.example.org"}
    url = f"http://127.0.0.1:{port}"
    login = await door.client.post(
        f"{url}/login",
        data={"user": USER, "secret": PASSWORD},
        headers={**host, "origin": "https://ops.example.org", "accept": "text/html"},
    )
    assert login.status_code == 303, login.text
    cookie = login.headers["set-cookie"]
    assert "Secure" in cookie
    known = {**host, "cookie": cookie.partition(";")[0]}
    assert (await door.client.get(url, headers=known)).status_code == 200
    other = await door.client.get(url, headers={**known, "host": "evil.example"})
    assert other.status_code in {404, 421, *others}
    assert "doors" not in other.text
    hook = {**host, HEADER: VALUE}
    assert (await door.client.post(f"{url}/hooks/doors", content=b"[]", headers=hook)).status_code == 200


async def test_the_lines_for_caddy_keep_the_page_in(tmp_path: Path) -> None:
    need(shutil.which("caddy") is not None, "needs caddy: apt-get install caddy")
    table = {"user": USER, "password": PASSWORD, "host": "ops.example.org"}
    options = ListenOptions(address="127.0.0.1:0", page=table)
    [block] = pages.blocks(GUIDE, "caddyfile")
    async with open_door(tmp_path, event_logs(webhook=PARAKEY), rounds=False, options=options) as door:
        inside, outside = free_port(), free_port()
        here = block.text.replace("127.0.0.1:8377", door.url.removeprefix("http://"))
        here = here.replace("ops.example.org {", f"http://ops.example.org:{inside} {{")
        here = here.replace(
            "hooks.example.org {", f"http://hooks.example.org:{outside} {{\n    bind 127.0.0.1"
        )
        config = tmp_path / "Caddyfile"
        config.write_text(f"{{\n    admin off\n}}\n{here.replace('10.0.0.5', '127.0.0.1')}")
        caddy = subprocess.Popen(
            ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"],
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "XDG_DATA_HOME": str(tmp_path),
                "XDG_CONFIG_HOME": str(tmp_path),
            },
            stderr=subprocess.DEVNULL,
        )
        try:
            await until(lambda: is_open(inside) and is_open(outside))
            await keeps_the_page_in(door, outside, GUIDE)
            await brings_the_page(
                door, inside, 200
            )  # for a host that it does not know, Caddy answers with nothing
        finally:
            caddy.terminate()
            caddy.wait()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
