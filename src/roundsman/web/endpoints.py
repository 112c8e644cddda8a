"""The endpoints of the listener, with the answers of each. The documentation is made of this, and a test compares it with the code."""

from typing import Any, NamedTuple

from roundsman.shapes import EventsAnswer, StatusAnswer


class Endpoint(NamedTuple):
    """A path, or several that answer alike."""

    paths: tuple[str, ...]
    methods: tuple[str, ...]
    what: str
    """What it is for."""
    answers: tuple[tuple[int, str], ...]
    """Each status, and when it is answered."""
    page: str = ""
    """The page of the documentation with more about it."""
    shape: Any = None
    """The shape of an answer in JSON."""


READ = ("GET", "HEAD")
PAGE = "guides/page.md"
NOT_IN = (
    401,
    "No login, or a wrong one. The header `WWW-Authenticate` names the way: `Basic` with `user`, `Bearer` with `token`.",
)
TO_LOGIN = (303, "A browser without a login: to `/login`.")
TOO_OFTEN = (
    429,
    (
        "Too many wrong logins. The header `Retry-After` has the seconds to wait; a right login is refused, too, until then. "
        "A browser that is logged in is not."
    ),
)
ANOTHER_HOST = (
    421,
    (
        "The header `Host` names neither the address of the socket, nor `localhost` on this machine, nor `host` of "
        "`[listen.page]`."
    ),
)
NO_STORE = (503, "The store cannot be read, or not within 10 seconds.")
OTHER_METHOD = (405, "Any other method. The header `Allow` names the right ones.")

ENDPOINTS = {
    "healthz": Endpoint(
        ("/healthz",),
        READ,
        "Whether the daemon works. For a supervisor that restarts it.",
        (
            (200, "Polls and deliveries go on. It does not matter whether vendors and receivers answer."),
            (
                503,
                "A poll is long overdue, the deliveries to a sink have ended, or the store does not answer.",
            ),
            OTHER_METHOD,
        ),
        "guides/monitoring.md",
    ),
    "readyz": Endpoint(
        ("/readyz",),
        READ,
        "Whether the daemon can take webhooks, and has polled every source. For a proxy, or to wait after a start.",
        (
            (
                200,
                "The store can be written, every source was polled once, with success or not, and a worker beats.",
            ),
            (503, "One of these is missing. The body names what, one line each."),
            OTHER_METHOD,
        ),
        "guides/monitoring.md",
    ),
    "metrics": Endpoint(
        ("/metrics",),
        READ,
        "The metrics for Prometheus.",
        ((200, "Always."), OTHER_METHOD),
        "reference/metrics.md",
    ),
    "hooks": Endpoint(
        ("/hooks/NAME", "/hooks/NAME/TOKEN"),
        ("POST", "GET", "HEAD"),
        "Webhooks for the source NAME. TOKEN is the `token` of its `webhook` table, if it has one.",
        (
            (
                200,
                (
                    "The webhook is on the disk, also if its content could not be read (`roundsman unread SOURCE`) or is about "
                    "something else. GET and HEAD, for a vendor that tests the address: the token is right. The sample of "
                    "`roundsman hooks test` is not stored, and is answered with a proof."
                ),
            ),
            (
                401,
                (
                    "The token, the header or the signature is missing or wrong, or the signature is older than "
                    "`signature_tolerance`. Token and header are checked before the body is read."
                ),
            ),
            (
                404,
                "There is no such source, it has no `webhook` table, or it has a table without `token`, and the path has one.",
            ),
            (
                405,
                "Any method but POST, except GET and HEAD for a vendor that tests the address (Mailchimp).",
            ),
            (413, "The body is larger than 1 MiB."),
            (
                503,
                (
                    "The store cannot be written or is damaged, or 32 MiB of bodies are in memory. Such bodies of sources without "
                    "token and header are counted apart. The header `Retry-After` has 5 seconds."
                ),
            ),
            (400, "The connection was closed before the whole body had come."),
            (500, "A bug. The log has `listen.failed`."),
        ),
        "explained/push-and-poll.md",
    ),
    "page": Endpoint(
        ("/",),
        READ,
        "The page for people, and the pages that it links to. They are there only with `[listen.page]`, as are the following endpoints.",
        ((200, "The page."), TO_LOGIN, NOT_IN, TOO_OFTEN, ANOTHER_HOST, OTHER_METHOD, NO_STORE),
        PAGE,
    ),
    "login": Endpoint(
        ("/login", "/logout"),
        (*READ, "POST"),
        "The form to log in with, and the button to log out. A login lasts a week; it ends with a new password.",
        (
            (200, "The form."),
            (303, "Logged in or out: to the page, or to the form."),
            (400, "The form cannot be read, or the connection was closed before it was whole."),
            (401, "The login is wrong: the form again. A program that is not logged in cannot log out."),
            (403, "The request comes from a page of another origin, or without the form's token."),
            (413, "The form is larger than 64 KiB."),
            (415, "The body is no form."),
            TOO_OFTEN,
            ANOTHER_HOST,
            OTHER_METHOD,
        ),
        PAGE,
    ),
    "status.json": Endpoint(
        ("/status.json",),
        READ,
        (
            "What `roundsman status --json` prints, for programs. Parameters: `limit`, the number of sources, 1 to 1000 "
            "(default 1000); `offset`, the number of sources before them, by name."
        ),
        (
            (200, "JSON."),
            (400, "A parameter is wrong. The body says what."),
            TO_LOGIN,
            NOT_IN,
            TOO_OFTEN,
            ANOTHER_HOST,
            OTHER_METHOD,
            NO_STORE,
        ),
        PAGE,
        StatusAnswer,
    ),
    "events": Endpoint(
        ("/events",),
        READ,
        (
            "Events in the order of the log, for programs that pull them. Parameters: `after`, the number after which to begin "
            "(default 0); `limit`, the most events, 1 to 1000 (default 100); `source`, `type` and `outcome`, a name or a glob "
            "each, which can be repeated. An answer has some 4 MiB at most, and looks at 20,000 numbers of the log at most: "
            "go on from `next` until it is `head`."
        ),
        (
            (200, "JSON."),
            (400, "A parameter is wrong. The body says what."),
            (
                409,
                (
                    "`after` is beyond the last event: the store was replaced, or restored from a backup, since the program got "
                    "this number. Begin again with `after=0`."
                ),
            ),
            TO_LOGIN,
            NOT_IN,
            TOO_OFTEN,
            ANOTHER_HOST,
            OTHER_METHOD,
            (
                503,
                "The store cannot be read, or not within 10 seconds, or eight such answers are under way. The header `Retry-After` has the seconds to wait.",
            ),
        ),
        PAGE,
        EventsAnswer,
    ),
}
"""All endpoints by name. Any other path is 404; a request that is no HTTP/1.1 is 400."""

LIMITS = (
    "A request must have come within 10 seconds, else the connection is closed.",
    "The head of a request has 64 KiB at most, else the connection is closed.",
    "An idle connection is closed after 75 seconds.",
    (
        "At most 1,000 connections are open, or half of the files that the process may open. Beyond that, the connections that have "
        "been idle longest are closed."
    ),
    "No answer is 410: Parakey never sends again after one.",
)
"""What holds for every endpoint."""
