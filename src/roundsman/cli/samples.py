"""The work of `roundsman hooks test`: send a sample as the vendor would, and say where it arrived."""

import time
from collections.abc import Mapping

import httpx

from roundsman.cli.registrations import leads_here, masked, place_of, troubles
from roundsman.errors import HookError, NotAuthentic, RequestFailed
from roundsman.http.answers import Answer
from roundsman.http.client import Http
from roundsman.http.transport import Clients
from roundsman.http.urls import is_loopback
from roundsman.plugin import Source
from roundsman.times import spell
from roundsman.webhook import Call, Hook, Registrar, SignedHook, sample

OURS = {401: "not authentic", 404: "no such webhook", 503: "cannot be stored now"}
"""The bodies of a daemon's own answers. A proxy or another server has others."""


async def registered(source: Source, registrar: Registrar) -> list[str]:
    """The URLs of the webhooks that the vendor sends to this source. HookError if there is none."""
    rows = await registrar.list()
    urls = [row.url for row in rows if row.enabled and leads_here(source, row)]
    if not urls:
        raise HookError("; ".join(troubles(source, rows)))
    return urls


async def send(source: Source, hook: Hook, url: str, clients: Clients) -> tuple[bool, str]:
    """Send a sample to this URL. Returns whether a daemon with the same secrets received it, and a sentence."""
    shown = masked(source, url)
    if not url.startswith("https://") and not is_loopback(url):
        return False, f"{shown}: is not an https URL: the sample has secrets in it, and is not sent"
    made, now = sample(hook, source.name), clients.now()
    headers = {"content-type": "application/json", **hook.dressed(made.body, now)}
    _must_be_authentic(hook, Call(made.body, {key.lower(): value for key, value in headers.items()}, now))
    began = time.monotonic()
    try:
        answer = await Http(clients).send("POST", url, headers=headers, content=made.body)
    except RequestFailed as exc:
        hint = (
            "vendors connect from outside: check the DNS entry, the certificate, the firewall and the proxy"
        )
        return False, f"{exc}; {hint}"
    took = round((time.monotonic() - began) * 1000)
    begin = f"sent to {shown}: answered {answer.status} in {took} ms"
    text = answer.body.decode("utf-8", "replace").strip()
    if 200 <= answer.status < 300 and text == made.answer:
        return True, f"{begin}; the daemon with these secrets received it"
    return False, f"{begin}; {_wrong(source, hook, answer, text)}"


def _must_be_authentic(hook: Hook, call: Call) -> None:
    """HookError if the hook would refuse its own sample: a plugin's hook with a check of its own."""
    token = hook.token.reveal() if hook.token is not None else ""
    try:
        hook.check(Call(call.body, call.headers, call.now, token))
    except NotAuthentic as exc:
        kind = type(hook)
        raise HookError(
            f"a sample cannot be signed ({exc}): {kind.__module__}.{kind.__qualname__} has a check of its own, and needs "
            "a method dressed(body, now) for the headers that pass it"
        ) from None


def _wrong(source: Source, hook: Hook, answer: Answer, text: str) -> str:
    """What an answer without proof means, and what to do."""
    status = answer.status
    if OURS.get(status) == text or (status == 503 and text == "busy"):
        return _refused(hook, status)
    if 200 <= status < 300:
        return (
            "without the proof of the daemon: another server answers, such as a maintenance page; or the daemon is of a "
            f"version before 0.10, and has kept the sample: roundsman unread {source.name}"
        )
    if 300 <= status < 400:
        return f"it redirects{_to(source, answer.headers)}: vendors do not follow; register the address where it ends"
    return _STATUSES.get(status, "it is not the daemon that answers: see the log of the proxy")


_UPSTREAM = "the proxy does not reach the daemon: it does not run, or listens at another address than the proxy passes on to"
_STATUSES = {
    401: "it is not the daemon that answers: a proxy asks for a login, which vendors do not have",
    403: "it is not the daemon that answers: a firewall or a proxy refuses the request; POST to /hooks/ has to pass",
    404: "it is not the daemon that answers: the proxy does not pass on /hooks/, or another server has this name",
    405: "it is not the daemon that answers: POST is not passed on, or another server has this name",
    413: "the proxy limits bodies to less than this sample; the daemon takes 1 MiB: client_max_body_size 1m in nginx",
    429: "it is not the daemon that answers: a proxy limits the number of requests",
    502: _UPSTREAM,
    503: f"{_UPSTREAM}; or it shows a maintenance page",
    504: _UPSTREAM,
}
"""What the status of another server than the daemon means."""


def _refused(hook: Hook, status: int) -> str:
    """The daemon itself has refused the sample."""
    if status == 404:
        return (
            "a daemon received it and has no such webhook: after a change of the configuration, roundsman reload; if the "
            "address has a path in front of /hooks/, the proxy has to remove it"
        )
    if status == 503:
        return "a daemon received it and cannot store webhooks now: roundsman status"
    sources = sorted({place_of(secret) for secret in hook.proofs()})
    clock = ""
    if isinstance(hook, SignedHook) and hook.signing() and hook.signature_tolerance:
        clock = f"; and the clocks of both machines, which may differ by {spell(hook.signature_tolerance)}"
    return (
        f"a daemon received it and uses other secrets: compare {', '.join(sources)} with what the daemon has read (files: "
        f"at roundsman reload; variables and credentials: at its start){clock}; its log has webhook.refused with the reason"
    )


def _to(source: Source, headers: Mapping[str, str]) -> str:
    """Where a redirect leads, without secrets."""
    try:
        place = httpx.URL(headers.get("location", ""))
    except httpx.InvalidURL:
        return ""
    return (
        f" to {masked(source, str(place.copy_with(query=None, fragment=None, userinfo=b'')))}"
        if str(place)
        else ""
    )
