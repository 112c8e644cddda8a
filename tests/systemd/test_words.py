"""The messages to systemd, on a real socket."""

import os
import socket
from pathlib import Path

import pytest

from roundsman.service.systemd import Systemd


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_gets_each_message_in_one_datagram(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = f"@roundsman-words-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
        systemd.bind("\0" + name[1:] if kind == "abstract" else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        ours = Systemd()
        ours.say("RELOADING=1", "MONOTONIC_USEC=5")
        assert systemd.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=5"
        ours.status("all is well: Örebro")
        ours.status("all is well: Örebro")
        ours.say("READY=1")
        assert [systemd.recv(100).decode() for _ in range(2)] == ["STATUS=all is well: Örebro", "READY=1"]


@pytest.mark.parametrize("name", ["", "/no/such/socket", "vsock:2:1", "x"])
def test_without_a_listener_nothing_happens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    Systemd().say("READY=1")


def test_a_socket_that_is_full_blocks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        ours = Systemd()
        for _ in range(2000):
            ours.say("WATCHDOG=1")
