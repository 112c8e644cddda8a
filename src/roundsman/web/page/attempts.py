"""Slows wrong logins: for each address, and for all addresses together. It keeps a bounded number of addresses."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
"""Wrong logins of an address before it has to wait."""
SHORTEST, LONGEST = 1.0, 60.0
"""Seconds that it waits then: twice as long after each further one."""
FORGOTTEN = 3600.0
"""Seconds after the last wrong login, after which an address begins again."""
MOST = 10_000
"""Addresses that are kept. Beyond that, the oldest is forgotten."""
BURST, RATE = 60.0, 1.0
"""Wrong logins of all addresses together: so many at once, and so many a second in the long run. An address that has
logged in before is not slowed by the others.
"""
MOST_KNOWN = 1_000
"""Addresses that have logged in, likewise."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of an address. Times are monotonic."""

    count: int
    """Wrong logins."""
    at: float
    """The last one."""
    until: float
    """No login is tried before."""


class Attempts:
    """The wrong logins of the last hour."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wrong: OrderedDict[str, Record] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._left, self._filled = BURST, monotonic()

    def wait(self, address: str) -> float:
        """Seconds until a login of this address may be tried; 0 if now."""
        now = self._monotonic()
        record = self._wrong.get(address)
        if record is not None and record.until > now:
            return record.until - now
        if address in self._known:
            return 0.0
        self._refill(now)
        return 0.0 if self._left >= 1 else (1 - self._left) / RATE

    def failed(self, address: str) -> None:
        """A login was tried, and was wrong."""
        now = self._monotonic()
        self._refill(now)
        self._left = max(0.0, self._left - 1)
        record = self._wrong.pop(address, None)
        count = 1 + (record.count if record is not None and now - record.at < FORGOTTEN else 0)
        over = min(count - FREE, 16)
        rest = min(LONGEST, SHORTEST * 2.0**over) if over >= 0 else 0.0
        self._wrong[address] = Record(count, now, now + rest)
        if len(self._wrong) > MOST:
            self._wrong.popitem(last=False)

    def succeeded(self, address: str) -> bool:
        """A login was right. Returns whether it is the first one of this address."""
        new = address not in self._known
        self._wrong.pop(address, None)
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return new

    def _refill(self, now: float) -> None:
        self._left = min(BURST, self._left + (now - self._filled) * RATE)
        self._filled = now
