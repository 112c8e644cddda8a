"""The worlds that the tests of this folder share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inside import done, put
from rounds import Rounds, opened
from roundsman.plugin import Source
from roundsman.sandbox import Parakey, Vendor
from worlds import Time


@pytest.fixture
def rounds(tmp_path: Path, parakey: Parakey, time: Time) -> Iterator[Any]:
    """Visits of a Parakey source with these options."""
    yield from opened(lambda **options: Rounds(tmp_path, parakey, time, **options))


@pytest.fixture
def world_of(tmp_path: Path, time: Time) -> Iterator[Callable[..., Any]]:
    """Visits of a source to a vendor, which may begin with a state."""
    made: list[Rounds] = []

    async def make(vendor: Vendor, source: Source, state: Any = None) -> Rounds:
        made.append(Rounds(tmp_path, vendor, time, source))
        if state is not None:
            await put(made[-1].store, state=state, source=source.name)
            made[-1].reboot()
        return made[-1]

    yield make
    for world in made:
        done(world.store.close())
