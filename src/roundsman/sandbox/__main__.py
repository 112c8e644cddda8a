"""`python -m roundsman.sandbox`: the sandbox alone, to point a daemon at. Prints its address, and a configuration."""

import argparse
import asyncio
import sys
from datetime import timedelta

from roundsman.sandbox.company import Company
from roundsman.sandbox.mailchimp import API_KEY
from roundsman.sandbox.parakey import TOKEN
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY
from roundsman.sandbox.server import Sandbox

CONFIGURATION = """
export PARAKEY_ACCESS_TOKEN={token} MAILCHIMP_API_KEY={key} RAILZ_SECRET_KEY={secret}

[sources.front-doors]
type = "parakey.event_logs"
base_url = "{url}"
interval = "2s"
access_token = {{ env = "PARAKEY_ACCESS_TOKEN" }}

[sources.keys]
type = "parakey.batches"
base_url = "{url}"
interval = "2s"
access_token = {{ env = "PARAKEY_ACCESS_TOKEN" }}

[sources.newsletter]
type = "mailchimp.batches"
base_url = "{url}/3.0"
interval = "2s"
api_key = {{ env = "MAILCHIMP_API_KEY" }}

[sources.ledger]
type = "railz.pushes"
base_url = "{url}"
auth_url = "{url}/getAccess"
interval = "2s"
client_id = "{client}"
secret_key = {{ env = "RAILZ_SECRET_KEY" }}
connections = "discover"

[sinks.archive]
type = "file"
path = "events.jsonl"
"""


async def serve(port: int, rows: int, per_second: float) -> None:
    company = Company()
    company.fill(rows, timedelta(milliseconds=250))
    async with Sandbox(company.town, port=port) as sandbox:
        words = {
            "url": sandbox.url,
            "token": TOKEN,
            "key": API_KEY,
            "secret": SECRET_KEY,
            "client": CLIENT_ID,
        }
        print(f"{sandbox.url} is Parakey, Mailchimp and Railz, until Ctrl-C. To point a daemon at them:")  # noqa: T201
        print(CONFIGURATION.format(**words), flush=True)  # noqa: T201 - it says where it is
        if per_second:
            tell = lambda key: print(f"submitted: roundsman track keys {key}", flush=True)  # noqa: E731, T201
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
