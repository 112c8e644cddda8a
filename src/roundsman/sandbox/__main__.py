"""`python -m roundsman.sandbox`: the sandbox alone, to point a daemon at. Prints its address."""

import argparse
import asyncio
import sys
from datetime import UTC, datetime, timedelta

from roundsman.sandbox.building import Building
from roundsman.sandbox.parakey import TOKEN, Parakey
from roundsman.sandbox.server import Sandbox


async def serve(port: int, rows: int, per_second: float) -> None:
    parakey = Parakey()
    building = Building(parakey)
    apart = timedelta(milliseconds=250)
    building.fill(rows, datetime.now(UTC) - rows * apart - timedelta(minutes=1), apart)
    async with Sandbox(parakey, port=port) as sandbox:
        print(f"{sandbox.url} access_token={TOKEN}", flush=True)  # noqa: T201 - it says where it is
        for pause in building.pauses(per_second or 1):
            await asyncio.sleep(pause)
            if per_second:
                building.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m roundsman.sandbox")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--rows", type=int, default=100, help="event logs to begin with")
    parser.add_argument("--per-second", type=float, default=1.0, help="new ones; 0: none")
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.port, args.rows, args.per_second))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(f"port {args.port}: {exc.strerror}")
