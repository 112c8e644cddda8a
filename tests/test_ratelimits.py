"""For how long a vendor asks for a pause, in every spelling that was seen."""

import httpx
import pytest

from roundsman.http.ratelimits import CAP, retry_after

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120, 30"}, 120),
        ({"Retry-After": "1790000030"}, 30),
        ({"Retry-After": "1790000030000"}, 30),
        ({"Retry-After": "99999999999"}, CAP),
        ({"Retry-After-Ms": "2500"}, 2.5),
        ({"X-RateLimit-Reset": "1790000002000"}, 2),
        ({"X-RateLimit-Reset": "1790000002000000"}, 2),
        ({"X-RateLimit-Reset": "6m0s"}, 360),
        ({"X-RateLimit-Reset": "2026-09-21T14:13:30Z"}, 10),
        ({"X-RateLimit-Reset": "Mon, 21 Sep 2026 14:13:35 GMT"}, 15),
        ({"X-Rate-Limit-Reset": "1790000040"}, 40),
        ({"RateLimit-Reset": "50"}, 50),
        ({"X-RateLimit-Reset-After": "1.5"}, 1.5),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"RateLimit": '"hour";r=5;t=900, "minute";r=0;t=7'}, 7),
        ({"X-RateLimit-Remaining": "0, 55", "X-RateLimit-Reset": "3, 1000"}, 3),
        ({"X-RateLimit-Reset": "9" * 40}, None),
        ({"Retry-After": "Monday"}, None),
    ],
)
def test_a_rest_is_understood_however_it_is_written(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(429, httpx.Headers(headers), NOW) == seconds


@pytest.mark.parametrize(
    "headers",
    [
        {"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": "1790000900"},
        {"RateLimit": '"hour";r=5;t=900'},
        {"RateLimit": "limit=100, remaining=20, reset=50"},
        {"X-RateLimit-Reset": "1790000900"},
        {"X-RateLimit-Remaining": "-1", "X-RateLimit-Reset": "90"},
    ],
)
def test_what_is_not_used_up_asks_for_no_rest(headers: dict[str, str]) -> None:
    assert retry_after(200, httpx.Headers(headers), NOW) is None


def test_a_reset_in_milliseconds_is_no_hour() -> None:
    headers = httpx.Headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW * 1000) + 2000)})
    assert retry_after(200, headers, NOW) == 2


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "120 seconds"}, 120),
        (429, {"Retry-After": "120;comment"}, 120),
        (503, {"Retry-After": '"30"'}, 30),
        (503, {"Retry-After": "+30"}, 30),
        (503, {"X-Retry-After": "30"}, 30),
        (200, {"X-RateLimit-Remaining": "0.0", "X-RateLimit-Reset": "90"}, 90),
        (200, {"X-RateLimit-Remaining": "0;w=60", "X-RateLimit-Reset": "90"}, 90),
        (200, {"RateLimit": "a;r=0;t=90, c;r=5;t=3000"}, 90),
        (200, {"RateLimit": f"limit=100, remaining=0, reset={NOW + 90:.0f}"}, 90),
    ],
)
def test_a_rest_is_understood_where_it_is_written_carelessly(
    status: int, headers: dict[str, str], seconds: float
) -> None:
    assert retry_after(status, httpx.Headers(headers), NOW) == pytest.approx(seconds, abs=1)
