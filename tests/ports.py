"""Ports for programs that bind them later."""

import os
import socket
from itertools import count
from random import SystemRandom

EACH = 1000
"""Ports of each process of pytest-xdist."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
FIRST = 20_000 + EACH * (WORKER % 12)
"""All are below those that Linux gives to connections and to servers without a port of their own, from 32768 on."""
_numbers = count(SystemRandom().randrange(EACH))  # another run of the tests may be under way


def free_port() -> int:
    """A port that no program on loopback uses now; each call gives another one."""
    for _ in range(EACH):
        port = FIRST + next(_numbers) % EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {FIRST} on is free")
