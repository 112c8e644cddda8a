"""`python -m roundsman.sandbox`: the sandbox alone, to point a daemon at. Prints addresses and what opens them."""

import argparse
import asyncio
import sys
from datetime import timedelta

from roundsman.sandbox.company import Company
from roundsman.sandbox.mailchimp import API_KEY
from roundsman.sandbox.parakey import TOKEN
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY
from roundsman.sandbox.server import Sandbox


async def serve(port: int, rows: int, per_second: float) -> None:
    company = Company()
    company.fill(rows, timedelta(milliseconds=250))
    async with Sandbox(company.town, port=port) as sandbox:
        print(f"{sandbox.url} access_token={TOKEN}")  # noqa: T201 - it says where it is
        print(f"{sandbox.url}/3.0 api_key={API_KEY}")  # noqa: T201 - likewise
        print(  # noqa: T201 - likewise
            f"{sandbox.url} auth_url={sandbox.url}/getAccess client_id={CLIENT_ID} secret_key={SECRET_KEY}",
            flush=True,
        )
        if per_second:
            tell = lambda key: print(f"batch of keys: {key}", flush=True)  # noqa: E731, T201 - one line says it
            await company.live(per_second, tell)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m roundsman.sandbox")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--rows", type=int, default=100, help="event logs to begin with")
    parser.add_argument("--per-second", type=float, default=1.0, help="new ones; 0: nothing happens any more")
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.port, args.rows, args.per_second))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(f"port {args.port}: {exc.strerror}")
