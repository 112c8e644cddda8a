"""The addresses of the page, by the configuration: read without its secrets, which only the daemon may be able to read."""

import secrets
from pathlib import Path
from typing import Any, NamedTuple

from roundsman.config.document import read
from roundsman.config.sentences import read_table
from roundsman.errors import Problem
from roundsman.options.listen import ListenOptions
from roundsman.options.page import PageOptions
from roundsman.options.paths import relative_to
from roundsman.options.secrets import Secret


class PagePlace(NamedTuple):
    """Where the page is."""

    addresses: list[str]
    """To open in a browser; empty if that depends on a proxy, or on the port that the system chooses."""
    remark: str = ""
    """What is to be known about them, in a sentence."""


def page_place(path: Path) -> PagePlace | None:
    """Where the page is; None without `[listen.page]`. ConfigError lists the mistakes in what it depends on."""
    document = read(path)
    listen = document.tables.get("listen")
    if not isinstance(listen, dict) or "page" not in listen:
        return None
    problems: list[Problem] = []
    with relative_to(path.absolute().parent):
        page = read_table(PageOptions, ("listen", "page"), _without_secrets(listen["page"]), problems)
        address = {key: value for key, value in listen.items() if key == "address"}
        options = read_table(ListenOptions, ("listen",), address, problems)
    if problems:
        raise document.refused(problems)
    return _place(options, page, tls="tls_certificate" in listen)


def _without_secrets(table: Any) -> Any:
    """The table with another secret in place of each: that it is there is enough here."""
    if not isinstance(table, dict):
        return table
    stand_in = Secret(secrets.token_hex(16))
    return {key: stand_in if key in {"password", "token"} else value for key, value in table.items()}


def _place(listen: ListenOptions, page: PageOptions, *, tls: bool) -> PagePlace:
    address, scheme = listen.address, "https" if tls else "http"
    port = "" if address.port == (443 if tls else 80) else f":{address.port}"
    if page.host:
        # At an address that only this machine can reach, a name leads to a proxy, which has the certificate.
        begin, end = ("https", "") if address.is_local and not tls else (scheme, port)
        return PagePlace([f"{begin}://{_bracketed(name)}{end}/" for name in page.host])
    if address.path is not None:
        return PagePlace(
            [], f"{address}: the page is reached through a proxy; set its name: host in [listen.page]"
        )
    if address.port == 0:
        return PagePlace([], "the system chooses the port: the log line listen.started has it")
    if address.host in {"0.0.0.0", "::"}:  # noqa: S104 - it is looked for, not bound
        here = "127.0.0.1" if address.host == "0.0.0.0" else "[::1]"  # noqa: S104 - likewise
        return PagePlace(
            [f"{scheme}://{here}{port}/"],
            "from another machine, write the IP address of this one; a name needs host in [listen.page]",
        )
    return PagePlace([f"{scheme}://{_bracketed(address.host)}{port}/"])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
