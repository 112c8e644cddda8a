"""The work of `roundsman hooks`: list, create and delete a vendor's webhooks, or say what to enter."""

import re
from collections.abc import Sequence

import httpx

from roundsman.errors import HookError, RequestFailed
from roundsman.http.urls import is_loopback
from roundsman.options.secrets import Secret
from roundsman.plugin import Source
from roundsman.webhook import PATH, Registrar, Registration


def address(source: Source, url: str, *, local: bool = False) -> str:
    """The URL for the vendor: the public URL of the listener, and the path of the source.

    With `local`, it may also be of this machine, over http. HookError if the source takes no webhooks, or if `url` cannot be right.
    """
    hook = source.webhook
    if hook is None:
        raise HookError(f"there is no [sources.{source.name}.webhook] table, so no webhook would be received")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if not re.fullmatch(r"[0-9A-Za-z.:-]+", parsed.host):
        raise HookError("--url: is not a URL; write https://hooks.example.org")
    here = is_loopback(source.base_url) or (local and is_loopback(url))
    if parsed.scheme != "https" and not (parsed.scheme == "http" and here):
        raise HookError("--url: is not an https URL; vendors send only to https (http is for the sandbox)")
    if not parsed.host or parsed.query or parsed.fragment or parsed.userinfo:
        raise HookError(
            "--url: has a user, a query or a fragment; write only host and path, as in https://hooks.example.org"
        )
    base, path = url.rstrip("/"), hook.path(source.name)
    if base.endswith(path):
        return base
    if PATH in base + "/":
        raise HookError(
            f"--url: has another path than {hook.path(source.name, 'TOKEN')}; give the address without it"
        )
    return base + path


def masked(source: Source, url: str) -> str:
    """The URL with tokens masked: the source's own, or what follows a source's name."""
    token = source.webhook.token if source.webhook is not None else None
    url = url.replace(token.reveal(), "***") if token is not None else url
    return re.sub(rf"({PATH}[^/?#]+/)[^/?#\s]+", r"\1***", url)


def leads_here(source: Source, registration: Registration) -> bool:
    """Whether its URL ends with this source's path."""
    return source.webhook is not None and registration.url.rstrip("/").endswith(
        source.webhook.path(source.name)
    )


def troubles(source: Source, found: Sequence[Registration]) -> list[str]:
    """Problems with the webhooks that the vendor lists."""
    if source.webhook is None:
        return []
    ours = [each for each in found if leads_here(source, each)]
    path = source.webhook.path(source.name, "***")
    if not found:
        return [
            f"no webhook leads here yet: roundsman hooks create {source.name} --url https://... makes one"
        ]
    if len(ours) > 1:
        return ["several lead here, each with its own secret; at most one is accepted: delete the others"]
    if not ours:
        make = f"roundsman hooks create {source.name} --url https://... makes a new one"
        return [f"none of them leads to {path}: to delete a webhook, use the API key that created it; {make}"]
    found_wrong = [
        f"{each.id}: is disabled at the vendor and sends nothing" for each in ours if not each.enabled
    ]
    return found_wrong + unsigned(source, ours)


def unsigned(source: Source, found: Sequence[Registration]) -> list[str]:
    """Webhooks that lead here and are not signed, if the source requires signatures."""
    if source.webhook is None or not source.webhook.wants_signature:
        return []
    return [
        f"{each.id}: sends no signature and is refused here: delete it, create it again and store its secret"
        for each in found
        if each.signed is False and leads_here(source, each)
    ]


async def create(source: Source, registrar: Registrar, url: str) -> Registration:
    """Create a webhook at the vendor. HookError if it exists already, or the vendor refuses."""
    found = await registrar.list()
    there = [each.id for each in found if each.url.rstrip("/") == url]
    if there:
        raise HookError(
            f"{masked(source, url)}: exists already as {there[0]}; for a new secret: roundsman hooks delete {source.name} {there[0]}"
        )
    if len(found) >= registrar.most:
        raise HookError(
            f"the vendor allows {registrar.most} webhooks, and there are {len(found)}; roundsman hooks delete {source.name} ID makes room"
        )
    try:
        return await registrar.create(url)
    except RequestFailed as exc:
        hint = ""
        if exc.status == 400:
            hint = "; the vendor sends a GET to the address first: the daemon must run and be reachable there"
        raise HookError(masked(source, f"{exc}{hint}")) from None


def place_of(secret: Secret) -> str:
    """Where a secret is configured, for a message."""
    where = str(secret.origin)
    if where == "literal":
        return "the value in the configuration"
    if where.startswith("program "):
        return f"what the {where} prints"
    return f"the value of the variable {where[4:]}" if where.startswith("env ") else f"the content of {where}"


def advice(source: Source, url: str, *, reveal: bool) -> list[str]:
    """What a user has to enter at a vendor without an API for webhooks, line by line."""
    hook = source.webhook
    assert hook is not None

    def shown(secret: Secret) -> str:
        return secret.reveal() if reveal else place_of(secret)

    lines = ["This vendor has no API for webhooks. Enter", f"  {source.webhook_place}:"]
    lines.append(f"  URL: {url if reveal else masked(source, url)}")
    if hook.header is not None and hook.value is not None:
        lines.append(f"  header {hook.header}: {shown(hook.value)}")
    if not reveal and (hook.token is not None or hook.value is not None):
        lines.append("  (--reveal prints the secrets, too)")
    return lines
