"""The places of sinks that can be looked at without a delivery, such as the table of a `postgres` sink."""

import asyncio

from roundsman.doctor.finding import Finding
from roundsman.errors import RequestFailed, reason
from roundsman.plugin import Sink

SECONDS = 10.0
"""Maximum time of one place."""


async def examined(sink: Sink) -> list[Finding]:
    """What is found of the place of a sink; nothing if it cannot be looked at."""
    check, advice = f"sinks.{sink.name}", "roundsman help sink-failing"
    try:
        async with asyncio.timeout(SECONDS):
            words = await sink.examined()
    except TimeoutError:
        return [Finding(check, "failure", f"no answer within {SECONDS:.0f}s", advice)]
    except (RequestFailed, OSError, ValueError, RuntimeError) as exc:
        return [Finding(check, "failure", reason(exc), advice)]
    return [Finding(check, "ok", words)] if words else []
