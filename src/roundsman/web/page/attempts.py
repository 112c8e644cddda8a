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
logged in before is counted for itself.
"""
MOST_KNOWN = 1_000
"""Addresses that have logged in, likewise."""
HERE = frozenset({"local", "127.0.0.1", "::/64"})
"""Addresses of this machine: those of every caller behind a proxy or a tunnel that names none."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of an address. Times are monotonic."""

    count: int
    """Wrong logins."""
    at: float
    """The last one."""
    until: float
    """No login is tried before."""


class Bucket:
    """So many wrong logins at once, and `RATE` a second in the long run."""

    __slots__ = ("_at", "_left", "_size", "entered")

    def __init__(self, size: float, now: float) -> None:
        self._size = self._left = size
        self._at = now
        self.entered = False
        """Whether a login was right."""

    def wait(self, now: float) -> float:
        """Seconds until the next one; 0 if it may be now."""
        self._left = min(self._size, self._left + (now - self._at) * RATE)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) / RATE

    def take(self, now: float) -> None:
        self.wait(now)
        self._left = max(0.0, self._left - 1)


class Attempts:
    """The wrong logins of the last hour.

    Whether a login is right is never said to one who has to wait: else waiting would slow no guesses. So an address from
    which a right login has come, and that others may share, has to wait a second at most.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wrong: OrderedDict[str, Record] = OrderedDict()
        self._known: OrderedDict[str, Bucket] = OrderedDict()
        self._here = {address: Bucket(FREE, monotonic()) for address in HERE}
        self._all = Bucket(BURST, monotonic())

    def wait(self, address: str) -> float:
        """Seconds until a login of this address may be tried; 0 if now."""
        now = self._monotonic()
        if (known := self._bucket(address)) is not None:
            return known.wait(now)
        record = self._wrong.get(address)
        if record is not None and record.until > now:
            return record.until - now
        return self._all.wait(now)

    def failed(self, address: str) -> None:
        """A login was tried, and was wrong."""
        now = self._monotonic()
        if (known := self._bucket(address)) is not None:
            known.take(now)
            return
        self._all.take(now)
        record = self._wrong.pop(address, None)
        count = 1 + (record.count if record is not None and now - record.at < FORGOTTEN else 0)
        over = min(count - FREE, 16)
        rest = min(LONGEST, SHORTEST * 2.0**over) if over >= 0 else 0.0
        self._wrong[address] = Record(count, now, now + rest)
        if len(self._wrong) > MOST:
            self._wrong.popitem(last=False)

    def succeeded(self, address: str) -> bool:
        """A login was right. Returns whether it is the first one of this address."""
        known = self.knows(address)
        new, known.entered = not known.entered, True
        return new

    def knows(self, address: str) -> Bucket:
        """A browser at this address is logged in."""
        self._wrong.pop(address, None)
        known = self._known.setdefault(address, Bucket(FREE, self._monotonic()))
        self._known.move_to_end(address)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    def _bucket(self, address: str) -> Bucket | None:
        """Of an address that has logged in, or is of this machine."""
        return self._here.get(address) or self._known.get(address)
