"""A simulated office building: who goes through which door, and what goes wrong there."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from roundsman.sandbox.parakey import Parakey

PLACE = {"id": "dOmAiN0001", "name": "Harbour House"}
DOORS = ["Main entrance", "Garage", "Server room", "Roof terrace", "Bicycle store", "Meeting room 3"]
PEOPLE = ["Ada", "Bo", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Kaisa", "Luca"]
KEYS = ["Staff", "Cleaning", "Visitor", "Parking"]
DENIED = 0.08
OFFLINE = 0.05


class Building:
    """Creates event logs in a sandbox's Parakey."""

    def __init__(self, parakey: Parakey, seed: int = 1) -> None:
        self.parakey = parakey
        self._random = random.Random(seed)

    def unlock(self, when: datetime | None = None, *, late: timedelta | None = None) -> None:
        """A person tries a door; `late` is how long the log took to arrive."""
        now = when or self.parakey.now()
        self.parakey.add(
            created=now, timestamp=now - (late or self._moment()), log_id=self._id(), **self._scene()
        )

    def step(self) -> int:
        """One step: usually one unlock, sometimes several from a lock that was offline. Returns how many."""
        if self._random.random() < OFFLINE:
            now = self.parakey.now()
            for minutes in range(self._random.randint(2, 5)):
                self.unlock(now, late=timedelta(minutes=7 * (minutes + 1)))
            return minutes + 1
        self.unlock()
        return 1

    def pauses(self, per_second: float) -> Iterator[float]:
        """Seconds between steps, randomly distributed."""
        while True:
            yield self._random.expovariate(per_second)

    def fill(self, count: int, first: datetime, apart: timedelta = timedelta(milliseconds=250)) -> None:
        """Add a history of `count` unlocks."""
        for number in range(count):
            self.unlock(first + number * apart)

    def _scene(self) -> dict[str, Any]:
        rnd = self._random
        door, person = rnd.randrange(len(DOORS)), rnd.randrange(len(PEOPLE))
        key = rnd.randrange(len(KEYS))
        name = PEOPLE[person]
        return {
            "domain": PLACE,
            "device": {"id": f"dEvIcE{door:04d}", "name": DOORS[door]},
            "access": {"id": f"aCcEsS{key:04d}", "name": KEYS[key]},
            "user": {"id": f"uSeR{person:06d}", "name": name, "email": f"{name.lower()}@harbour.example"},
            "success": rnd.random() >= DENIED,
        }

    def _moment(self) -> timedelta:
        return timedelta(milliseconds=self._random.randint(40, 900))

    def _id(self) -> str:
        """Ten random letters and digits, as the vendor's are."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(self._random.choices(letters, k=10))
