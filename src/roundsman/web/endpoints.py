"""The endpoints of the listener, with the answers of each. The documentation is made of this, and a test compares it with the code."""

from typing import NamedTuple


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


READ = ("GET", "HEAD")
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
            (200, "The store can be written, and every source was polled once, with success or not."),
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
