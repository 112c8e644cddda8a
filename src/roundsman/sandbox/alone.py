"""The sandbox alone, for `roundsman sandbox`: prints its address and a configuration for a daemon."""

import asyncio
import errno
import os
import secrets
import sys
from datetime import timedelta

from roundsman.sandbox.company import HOOK_SECRET, HOOK_TOKEN, HOOK_VALUE, Company
from roundsman.sandbox.mailchimp import API_KEY
from roundsman.sandbox.parakey import TOKEN
from roundsman.sandbox.railz import CLIENT_ID, SECRET_KEY
from roundsman.sandbox.server import Sandbox

CONFIGURATION = """
# The secrets, for your shell and for the daemon's:
# export PARAKEY_ACCESS_TOKEN={token} MAILCHIMP_API_KEY={key} RAILZ_SECRET_KEY={secret}
# export PARAKEY_HOOK="{hook}" MAILCHIMP_HOOK_TOKEN={hook_token} RAILZ_HOOK_SECRET={hook_secret}

# A store and a file of its own: what they have of the sandbox is of no use to a real account.
[daemon]
store = "sandbox.db"

[listen]
address = "{listen}"

[sources.front-doors]
type = "parakey.event_logs"
base_url = "{url}"
interval = "2s"
access_token = {{ env = "PARAKEY_ACCESS_TOKEN" }}

[sources.front-doors.webhook]
header = "Authorization"
value = {{ env = "PARAKEY_HOOK" }}

[sources.keys]
type = "parakey.batches"
base_url = "{url}"
interval = "2s"
access_token = {{ env = "PARAKEY_ACCESS_TOKEN" }}

[sources.keys.webhook]
header = "Authorization"
value = {{ env = "PARAKEY_HOOK" }}

[sources.newsletter]
type = "mailchimp.batches"
base_url = "{url}/3.0"
interval = "1m"
api_key = {{ env = "MAILCHIMP_API_KEY" }}

# While the daemon runs: roundsman hooks create newsletter --url http://{listen}
[sources.newsletter.webhook]
token = {{ env = "MAILCHIMP_HOOK_TOKEN" }}

[sources.ledger]
type = "railz.pushes"
base_url = "{url}"
auth_url = "{url}/getAccess"
interval = "2s"
client_id = "{client}"
secret_key = {{ env = "RAILZ_SECRET_KEY" }}
connections = "discover"

[sources.ledger.webhook]
signing_secrets = [{{ env = "RAILZ_HOOK_SECRET" }}]

[sinks.archive]
type = "file"
path = "sandbox.jsonl"
"""


def refusal(exc: OSError, port: int) -> str:
    """A sentence if the system refused the port. Any other error is raised again."""
    if exc.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EPERM}:
        raise exc
    return f"port {port}: {os.strerror(exc.errno)}"


async def serve(port: int, rows: int, per_second: float, listen: str) -> None:
    # Other ids at each start: the log, and a daemon that goes on, have those of the last one.
    company = Company(seed=secrets.randbits(32))
    company.fill(rows, timedelta(milliseconds=250))
    company.subscribe(f"http://{listen}", newsletter=False)
    async with Sandbox(company.town, port=port) as sandbox:
        words = {
            "url": sandbox.url,
            "token": TOKEN,
            "key": API_KEY,
            "secret": SECRET_KEY,
            "client": CLIENT_ID,
            "hook": HOOK_VALUE,
            "hook_token": HOOK_TOKEN,
            "hook_secret": HOOK_SECRET,
            "listen": listen,
        }
        # The whole output is TOML, to be saved as a file as it is.
        print(f"# {sandbox.url} is Parakey, Mailchimp and Railz, until Ctrl-C; webhooks go to {listen}.")  # noqa: T201 - a program that prints
        print(CONFIGURATION.format(**words), flush=True)  # noqa: T201 - its output
        if per_second:

            async def track(key: str) -> None:
                print(f"submitted: roundsman track keys {key}", file=sys.stderr)  # noqa: T201 - as above

            await company.live(per_second, track)
        await asyncio.Event().wait()
