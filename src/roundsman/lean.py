"""Imported first by commands: libraries are kept from importing what we never use of them.

structlog and httpx import rich (and pygments) where it is installed, for tracebacks and a command line of theirs. It would take 4 MB of
the daemon's memory and a tenth of its start; our own tables import it when they are shown.
"""

import sys

LEFT_OUT = ("rich", "pygments")

if not set(LEFT_OUT) & set(sys.modules):
    for name in LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment] # for the import system: there is none
    try:
        import httpx
        import structlog
    finally:
        for name in LEFT_OUT:
            del sys.modules[name]

    __all__ = ["httpx", "structlog"]
