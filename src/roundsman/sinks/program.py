"""A run of a program that the event loop waits for: it ends with the task that waits."""

import asyncio
import os
from collections.abc import Mapping, Sequence

from roundsman import program
from roundsman.program import Ended, Run
from roundsman.system.threads import in_thread


async def run(command: Sequence[str], environ: Mapping[str, str], given: bytes, seconds: float) -> Ended:
    """Start the program, write `given` to its standard input, and wait for its end, at most `seconds`.

    At the end, also of this task by cancelling, no process of its group is left. Raises OSError if it cannot be started.
    """
    stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    # In a thread of its own: starting a program from a dead disk must not block the event loop.
    task = asyncio.ensure_future(in_thread(Run(command, environ, seconds, stop).over, given))

    def ended(task: "asyncio.Task[Ended]") -> None:
        os.close(stop)
        if not task.cancelled():
            task.exception()  # taken note of, also if no caller is left

    task.add_done_callback(ended)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            os.eventfd_write(stop, 1)
            # Not for ever: a process in a call to a dead disk does not end.
            await asyncio.wait([task], timeout=2 * program.GRACE_AT_STOP)
        raise
