"""A pause that a vendor asked for: the daemon has stored it, and commands keep it, too."""

import asyncio
import time
from typing import TYPE_CHECKING

from roundsman.engine import policy
from roundsman.screen import spoken

if TYPE_CHECKING:
    from roundsman.plugin import Source
    from roundsman.store import View


async def pause(view: "View", source: "Source") -> str | None:
    """Why this source must not be asked now; None if it may be asked. Waits for the end of a pause of seconds,
    which also a webhook-triggered visit stores.
    """
    for entry in await view.sources():
        if entry.name == source.name:
            now = time.time()
            until = policy.restored(entry.status, now, source.interval).status.not_before
            if until - now > policy.DEBOUNCE:
                return f"the vendor asked to wait until {spoken(until)}; not asked"
            await asyncio.sleep(max(0.0, until - now))
    return None
