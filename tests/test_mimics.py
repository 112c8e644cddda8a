"""The sandbox's list APIs answer as their vendors' documentation says, and go wrong on request."""

import json
import random
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from roundsman.sandbox.github import REPOSITORY, TOKEN, GitHub, Quirks as GitHubQuirks
from roundsman.sandbox.nvd import API_KEY as NVD_KEY, PATH as CVES, Nvd, Quirks as NvdQuirks
from roundsman.sandbox.okta import API_TOKEN, PATH as LOGS, Okta, Quirks as OktaQuirks
from roundsman.sandbox.paging import ELSEWHERE, Listing
from roundsman.sandbox.server import Sandbox
from roundsman.sandbox.vendor import Fault, Reply
from roundsman.sandbox.zendesk import (
    API_TOKEN as ZENDESK_TOKEN,
    EMAIL,
    PATH as TICKETS,
    Quirks as ZendeskQuirks,
    Zendesk,
)
from worlds import Time

HOST = "127.0.0.1:8399"
START_TEXT = "2026-05-01T06:00:00Z"
SINCE = 1332034771
MAY = {"lastModStartDate": "2026-05-01T00:00:00Z", "lastModEndDate": "2026-05-31T00:00:00Z"}
EVENTS = f"/repos/{REPOSITORY}/events"


def ask(vendor: Listing[Any], url: str, headers: dict[str, str], body: bytes = b"") -> Reply:
    """One request, as the server passes it on; POST if there is a body."""
    parts = urlsplit(url)
    vendor.body = body
    return vendor.answer(
        "POST" if body else "GET", parts.path, dict(parse_qsl(parts.query)), {"host": HOST, **headers}
    )


def links(reply: Reply) -> dict[str, str]:
    """The Link header: URLs by relation."""
    found = [each.split(";") for each in reply.headers.get("Link", "").split(", ") if each]
    return {rel.split('"')[1]: url[1:-1] for url, rel in found}


class TestGitHub:
    @pytest.fixture
    def time(self) -> Time:
        return Time()

    @pytest.fixture
    def github(self, time: Time) -> GitHub:
        return GitHub(time.utc)

    def get(self, github: GitHub, url: str = EVENTS, **headers: str) -> Reply:
        return ask(github, url, {"authorization": f"Bearer {TOKEN}", **headers})

    def walk(self, github: GitHub, url: str) -> Iterator[dict[str, Any]]:
        """All rows, from page to page by the Link header."""
        while url:
            reply = self.get(github, url)
            assert reply.status == 200
            yield from json.loads(reply.body)
            url = links(reply).get("next", "")

    def test_links_lead_through_all_events_newest_first(self, github: GitHub, time: Time) -> None:
        ids = []
        for _ in range(7):
            ids.append(github.add())
            time.advance(1)
        rows = list(self.walk(github, f"{EVENTS}?per_page=3"))
        assert [row["id"] for row in rows] == ids[::-1]
        assert set(ids) == github.expected() == github.current()
        assert {"type", "actor", "repo", "created_at"} <= rows[0].keys()
        assert rows[0]["created_at"] == "2026-05-01T06:00:06Z"

    def test_links_are_absolute_and_name_the_pages_around(self, github: GitHub) -> None:
        for _ in range(7):
            github.add()
        first = self.get(github, f"{EVENTS}?per_page=3")
        middle = self.get(github, f"{EVENTS}?per_page=3&page=2")
        assert links(first).keys() == {"next", "last"}
        assert links(middle).keys() == {"prev", "next", "last", "first"}
        assert links(self.get(github, links(middle)["last"])).keys() == {"prev", "first"}
        assert links(first)["next"] == f"http://{HOST}/repositories/1300192/events?per_page=3&page=2"

    def test_each_page_has_its_own_tag_so_a_late_event_leaves_page_1_unchanged(
        self, github: GitHub, time: Time
    ) -> None:
        for _ in range(4):
            github.add()
            time.advance(60)
        urls = [f"{EVENTS}?per_page=2&page={n}" for n in (1, 2)]
        tags = [self.get(github, url).headers["ETag"] for url in urls]
        late = github.add(at=time.utc() - timedelta(minutes=3), shown=time.utc())
        again = [self.get(github, url, **{"if-none-match": tag}) for url, tag in zip(urls, tags, strict=True)]
        assert [reply.status for reply in again] == [304, 200]
        assert late in github.current()
        assert again[0].headers["X-Poll-Interval"] == again[1].headers["X-Poll-Interval"] == "60"
        assert "Link" not in again[0].headers

    def test_a_late_event_is_not_expected_before_it_is_shown(self, github: GitHub, time: Time) -> None:
        late = github.add(shown=time.utc() + timedelta(hours=6))
        assert github.expected() == set()
        time.advance(6 * 3600)
        assert github.expected() == {late}
        assert [row["id"] for row in json.loads(self.get(github).body)] == [late]

    def test_the_list_ends_at_300_events_and_at_30_days(self, github: GitHub, time: Time) -> None:
        github.add(at=time.utc() - timedelta(days=31))
        assert github.expected() == set()
        newest = [github.add() for _ in range(301)][1:]
        assert {row["id"] for row in self.walk(github, f"{EVENTS}?per_page=100")} == set(newest)
        assert github.current() == set(newest)
        beyond = self.get(github, f"{EVENTS}?per_page=100&page=4")
        assert beyond.status == 422
        assert "pagination is limited" in json.loads(beyond.body)["message"]
        time.advance(30 * 86400)
        assert json.loads(self.get(github).body) == []

    def test_a_wrong_token_is_refused(self, github: GitHub) -> None:
        refused = ask(github, EVENTS, {"authorization": "Bearer guessed"})
        assert (refused.status, json.loads(refused.body)["message"]) == (401, "Bad credentials")

    def test_304_costs_nothing_of_the_rate_limit(self, github: GitHub, time: Time) -> None:
        github.quirks.limit = 2
        tag = self.get(github).headers["ETag"]
        for _ in range(3):
            assert self.get(github, **{"if-none-match": tag}).headers["X-RateLimit-Remaining"] == "1"
        assert self.get(github).status == 200
        refused = self.get(github)
        assert (refused.status, refused.headers["X-RateLimit-Remaining"]) == (403, "0")
        assert int(refused.headers["X-RateLimit-Reset"]) == time.wall + 3600
        time.advance(3600)
        assert self.get(github).status == 200

    def test_a_secondary_limit_says_how_long_to_wait(self, github: GitHub) -> None:
        github.quirks.secondary, github.quirks.limited = 1, 429
        refused = self.get(github)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "60")
        assert self.get(github).status == 200

    def test_equal_stamps_may_come_in_any_order(self, time: Time) -> None:
        def order(quirks: GitHubQuirks) -> list[str]:
            github = GitHub(time.utc, quirks)
            for number in range(6):
                github.add(str(number))
            return [row["id"] for row in json.loads(self.get(github).body)]

        assert order(GitHubQuirks()) == list("543210")
        assert order(GitHubQuirks(ties="oldest")) == list("012345")
        assert sorted(order(GitHubQuirks(ties="shuffled"))) == list("012345")

    def test_a_late_event_may_come_on_top(self, github: GitHub, time: Time) -> None:
        github.quirks.late = "on_top"
        github.add()
        time.advance(60)
        late = github.add(at=time.utc() - timedelta(hours=1), shown=time.utc())
        assert json.loads(self.get(github).body)[0]["id"] == late

    def test_tags_may_be_weak_and_may_cover_too_little(self, github: GitHub, time: Time) -> None:
        github.quirks.weak_tag = github.quirks.stale_tag = True
        github.add()
        tag = self.get(github).headers["ETag"]
        assert tag.startswith("W/")
        github.add(at=time.utc() - timedelta(hours=1), shown=time.utc())
        assert self.get(github, **{"if-none-match": tag}).status == 304

    def test_a_removed_event_may_have_been_reported(self, github: GitHub, time: Time) -> None:
        key = github.add()
        time.advance(60)
        github.remove(key)
        assert (github.expected(), github.current()) == ({key}, set())
        assert json.loads(self.get(github).body) == []

    def graphql(self, github: GitHub, **variables: Any) -> Any:
        body = {"query": "query($after: String) { repository { events } }", "variables": variables}
        reply = ask(github, "/graphql", {"authorization": f"Bearer {TOKEN}"}, json.dumps(body).encode())
        assert reply.status == 200
        return json.loads(reply.body)

    def test_a_graphql_cursor_leads_through_all_nodes_late_ones_included(
        self, github: GitHub, time: Time
    ) -> None:
        ids = [github.add() for _ in range(5)]
        after, found = None, []
        for more in (True, True, False):
            events = self.graphql(github, first=2, after=after)["data"]["repository"]["events"]
            found += [node["id"] for node in events["nodes"]]
            after = events["pageInfo"]["endCursor"]
            assert events["pageInfo"]["hasNextPage"] is more
        assert (found, events["totalCount"]) == (ids, 5)
        late = github.add(at=time.utc() - timedelta(hours=1))
        events = self.graphql(github, after=after)["data"]["repository"]["events"]
        assert [node["id"] for node in events["nodes"]] == [late]
        nothing = self.graphql(github, after=events["pageInfo"]["endCursor"])["data"]["repository"]["events"]
        assert (nothing["nodes"], nothing["pageInfo"]) == ([], {"endCursor": None, "hasNextPage": False})

    def test_graphql_errors_have_status_200(self, github: GitHub) -> None:
        kinds = [
            self.graphql(github, **variables)["errors"][0]["type"]
            for variables in ({"first": 101}, {"after": "!"}, {"after": b64encode(b"a:b").decode()})
        ]
        assert kinds == ["EXCESSIVE_PAGINATION", "INVALID_CURSOR_ARGUMENTS", "INVALID_CURSOR_ARGUMENTS"]


class TestOkta:
    @pytest.fixture
    def time(self) -> Time:
        return Time()

    @pytest.fixture
    def okta(self, time: Time) -> Okta:
        return Okta(time.utc)

    def get(self, okta: Okta, url: str = LOGS) -> Reply:
        return ask(okta, url, {"authorization": f"SSWS {API_TOKEN}"})

    def uuids(self, reply: Reply) -> list[str]:
        assert reply.status == 200
        return [row["uuid"] for row in json.loads(reply.body)]

    def test_next_leads_through_all_rows_and_never_ends(self, okta: Okta, time: Time) -> None:
        keys = []
        for _ in range(5):
            keys.append(okta.add())
            time.advance(1)
        url, found = f"{LOGS}?limit=2", []
        for _ in range(3):
            reply = self.get(okta, url)
            found += self.uuids(reply)
            url = links(reply)["next"]
        assert found == keys
        assert okta.expected() == okta.current() == set(keys)
        empty = self.get(okta, url)
        assert self.uuids(empty) == []
        assert links(empty)["next"] == links(empty)["self"] == url
        new = okta.add()
        assert self.uuids(self.get(okta, url)) == [new]

    def test_rows_have_the_fields_of_the_worked_example(self, okta: Okta) -> None:
        okta.add(failed=True)
        [row] = json.loads(self.get(okta).body)
        assert row["outcome"] == {"result": "FAILURE", "reason": "INVALID_CREDENTIALS"}
        assert row["published"] == "2026-05-01T06:00:00.000Z"
        assert {"id", "displayName", "alternateId"} <= row["actor"].keys()
        assert row["eventType"] == "user.session.start"

    def test_a_late_row_comes_behind_a_kept_next_but_not_behind_a_time(self, okta: Okta, time: Time) -> None:
        first = okta.add()
        time.advance(60)
        late = okta.add(at=time.utc() - timedelta(hours=1), shown=time.utc() + timedelta(minutes=5))
        reply = self.get(okta)
        assert self.uuids(reply) == [first]
        time.advance(300)
        assert self.uuids(self.get(okta, links(reply)["next"])) == [late]
        bounded = f"{LOGS}?since={START_TEXT}&until=2026-05-02T00:00:00Z"
        assert self.uuids(self.get(okta, bounded)) == [first]

    def test_in_the_order_of_stamps_a_kept_next_loses_a_late_row(self, okta: Okta, time: Time) -> None:
        okta.quirks.order = "published"
        okta.add()
        reply = self.get(okta)
        okta.add(at=time.utc() - timedelta(hours=1))
        assert self.uuids(self.get(okta, links(reply)["next"])) == []
        assert len(okta.expected()) == 2

    def test_a_bounded_request_ends_and_includes_only_its_start(self, okta: Okta, time: Time) -> None:
        keys = []
        for _ in range(4):
            keys.append(okta.add())
            time.advance(60)
        reply = self.get(okta, f"{LOGS}?since={START_TEXT}&until=2026-05-01T06:03:00Z&limit=2")
        rest = self.get(okta, links(reply)["next"])
        assert self.uuids(reply) + self.uuids(rest) == keys[:3]
        assert links(rest).keys() == {"self"}
        newest = self.get(okta, f"{LOGS}?sortOrder=DESCENDING&limit=3")
        assert self.uuids(newest) == keys[:0:-1]
        assert self.uuids(self.get(okta, links(newest)["next"])) == keys[:1]

    def test_without_since_a_request_begins_7_days_ago(self, okta: Okta, time: Time) -> None:
        okta.add(at=time.utc() - timedelta(days=8))
        key = okta.add(at=time.utc() - timedelta(days=6))
        assert self.uuids(self.get(okta)) == [key]

    def test_errors_have_codes(self, okta: Okta, time: Time) -> None:
        okta.quirks.after_life = timedelta(hours=1)
        url = links(self.get(okta))["next"]
        time.advance(3601)
        answers = [
            ask(okta, LOGS, {"authorization": "SSWS guessed"}),
            self.get(okta, url),
            self.get(okta, f"{LOGS}?after=_"),
            self.get(okta, f"{LOGS}?since=yesterday"),
            self.get(okta, f"{LOGS}?limit=1001"),
        ]
        codes = [(reply.status, json.loads(reply.body)["errorCode"]) for reply in answers]
        assert codes == [(401, "E0000011"), *[(400, "E0000001")] * 4]

    def test_a_rate_limit_gives_the_moment_of_its_end(self, okta: Okta, time: Time) -> None:
        okta.quirks.limit = 1
        assert self.get(okta).headers["X-Rate-Limit-Remaining"] == "0"
        refused = self.get(okta)
        assert (refused.status, json.loads(refused.body)["errorCode"]) == (429, "E0000047")
        assert int(refused.headers["X-Rate-Limit-Reset"]) == time.wall + 60
        assert "Retry-After" not in refused.headers
        time.advance(60)
        assert self.get(okta).status == 200


class TestZendesk:
    @pytest.fixture
    def time(self) -> Time:
        return Time()

    @pytest.fixture
    def zendesk(self, time: Time) -> Zendesk:
        return Zendesk(time.utc, ZendeskQuirks(limit=None))

    def get(self, zendesk: Zendesk, **query: Any) -> Reply:
        secret = b64encode(f"{EMAIL}/token:{ZENDESK_TOKEN}".encode()).decode()
        return ask(zendesk, f"{TICKETS}?{urlencode(query)}", {"authorization": f"Basic {secret}"})

    def page(self, zendesk: Zendesk, **query: Any) -> Any:
        reply = self.get(zendesk, **query)
        assert reply.status == 200
        return json.loads(reply.body)

    def walk(self, zendesk: Zendesk, **query: Any) -> tuple[list[str], str]:
        """The event ids of all rows from here, and the cursor of the last page."""
        found = []
        while True:
            page = self.page(zendesk, **query)
            found += [f"{row['id']}:{row['updated_at']}" for row in page["tickets"]]
            query = {**query, "cursor": page["after_cursor"]}
            query.pop("start_time", None)
            if page["end_of_stream"]:
                return found, page["after_cursor"]

    def test_a_cursor_leads_through_all_tickets_and_goes_on_later(self, zendesk: Zendesk, time: Time) -> None:
        for _ in range(5):
            zendesk.add()
        time.advance(60)
        found, cursor = self.walk(zendesk, start_time=SINCE, per_page=2)
        assert set(found) == zendesk.expected() == zendesk.current()
        assert (len(found), len(set(found))) == (5, 5)
        assert self.walk(zendesk, cursor=cursor) == ([], cursor)
        new = zendesk.add()
        time.advance(60)
        assert self.walk(zendesk, cursor=cursor)[0] == [f"{new}:2026-05-01T06:01:00Z"]

    def test_a_ticket_of_the_last_minute_is_left_out(self, zendesk: Zendesk, time: Time) -> None:
        zendesk.add()
        time.advance(59)
        assert self.page(zendesk, start_time=SINCE)["tickets"] == []
        assert zendesk.expected() == set()
        time.advance(1)
        assert len(self.page(zendesk, start_time=SINCE)["tickets"]) == 1

    def test_a_changed_ticket_comes_again_from_its_new_place(self, zendesk: Zendesk, time: Time) -> None:
        key, other = zendesk.add(), zendesk.add()
        time.advance(60)
        _, cursor = self.walk(zendesk, start_time=SINCE)
        zendesk.edit(key, status="solved")
        time.advance(60)
        page = self.page(zendesk, cursor=cursor)
        assert [(row["id"], row["status"]) for row in page["tickets"]] == [(int(key), "solved")]
        changed = f"{key}:2026-05-01T06:01:00Z"
        assert zendesk.current() == {changed, f"{other}:2026-05-01T06:00:00Z"}
        assert zendesk.expected() == {*zendesk.current(), f"{key}:2026-05-01T06:00:00Z"}
        found, _ = self.walk(zendesk, start_time=SINCE)
        assert found == [f"{other}:2026-05-01T06:00:00Z", changed]

    def test_a_version_that_no_visit_could_see_is_not_expected(self, zendesk: Zendesk, time: Time) -> None:
        key = zendesk.add()
        time.advance(30)
        zendesk.edit(key)
        time.advance(60)
        assert zendesk.expected() == {f"{key}:2026-05-01T06:00:30Z"}

    def test_a_deleted_ticket_comes_again_unless_excluded(self, zendesk: Zendesk, time: Time) -> None:
        zendesk.remove(zendesk.add())
        time.advance(60)
        [row] = self.page(zendesk, start_time=SINCE)["tickets"]
        assert row["status"] == "deleted"
        assert self.page(zendesk, start_time=SINCE, exclude_deleted="true")["tickets"] == []

    def test_an_update_by_the_system_sends_the_same_version_again(self, zendesk: Zendesk, time: Time) -> None:
        key = zendesk.add()
        time.advance(60)
        first, cursor = self.walk(zendesk, start_time=SINCE)
        zendesk.touch(key)
        time.advance(60)
        assert self.walk(zendesk, cursor=cursor)[0] == first

    def test_a_late_row_comes_behind_the_cursor_only_if_asked_to(self, time: Time) -> None:
        counts = []
        for quirks in (ZendeskQuirks(), ZendeskQuirks(late_behind=True)):
            zendesk = Zendesk(time.utc, quirks)
            zendesk.add(at=time.utc() - timedelta(hours=1))
            _, cursor = self.walk(zendesk, start_time=SINCE)
            zendesk.add(at=time.utc() - timedelta(hours=2), shown=time.utc() + timedelta(seconds=5))
            time.advance(65)
            counts.append(len(self.walk(zendesk, cursor=cursor)[0]))
            assert len(zendesk.current()) == 2
        assert counts == [1, 0]

    def test_rows_may_come_twice_across_pages(self, zendesk: Zendesk, time: Time) -> None:
        zendesk.quirks.repeats = 1
        for _ in range(4):
            zendesk.add()
        time.advance(60)
        found, _ = self.walk(zendesk, start_time=SINCE, per_page=2)
        assert (len(found), len(set(found))) == (6, 4)

    def test_an_empty_export_may_have_no_cursor(self, zendesk: Zendesk) -> None:
        assert self.page(zendesk, start_time=SINCE)["after_cursor"]
        zendesk.quirks.null_when_empty = True
        page = self.page(zendesk, start_time=SINCE)
        assert (page["after_cursor"], page["after_url"], page["end_of_stream"]) == (None, None, True)

    def test_a_page_may_name_itself_as_next(self, zendesk: Zendesk) -> None:
        cursor = self.page(zendesk, start_time=SINCE)["after_cursor"]
        zendesk.quirks.loops = True
        page = self.page(zendesk, cursor=cursor)
        assert (page["after_cursor"], page["end_of_stream"]) == (cursor, False)

    def test_what_is_refused(self, zendesk: Zendesk, time: Time) -> None:
        recent = int(time.wall) - 59
        answers = [
            ask(zendesk, TICKETS, {}),
            self.get(zendesk),
            self.get(zendesk, cursor="!"),
            self.get(zendesk, start_time=recent),
        ]
        assert [reply.status for reply in answers] == [401, 400, 400, 422]
        assert json.loads(answers[3].body)["description"].startswith("Too recent start_time.")
        zendesk.quirks.too_recent = 400
        assert json.loads(self.get(zendesk, start_time=recent).body)["error"] == "StartTimeTooRecent"

    def test_ten_requests_a_minute_are_granted(self, time: Time) -> None:
        zendesk = Zendesk(time.utc)
        time.advance(15)
        answers = [self.get(zendesk, start_time=SINCE) for _ in range(11)]
        assert [reply.status for reply in answers] == [200] * 10 + [429]
        assert answers[-1].headers["Retry-After"] == "45"
        time.advance(45)
        assert self.get(zendesk, start_time=SINCE).status == 200


class TestNvd:
    @pytest.fixture
    def time(self) -> Time:
        return Time()

    @pytest.fixture
    def nvd(self, time: Time) -> Nvd:
        return Nvd(time.utc, NvdQuirks(limit=None))

    def get(self, nvd: Nvd, headers: dict[str, str] | None = None, **query: Any) -> Reply:
        return ask(nvd, f"{CVES}?{urlencode(query)}", headers or {})

    def page(self, nvd: Nvd, **query: Any) -> Any:
        reply = self.get(nvd, **query)
        assert reply.status == 200, reply.headers
        return json.loads(reply.body)

    def ids(self, page: Any) -> list[str]:
        return [f"{each['cve']['id']}:{each['cve']['lastModified']}" for each in page["vulnerabilities"]]

    def test_offsets_lead_through_all_records_of_a_window(self, nvd: Nvd, time: Time) -> None:
        for _ in range(5):
            nvd.add()
            time.advance(60)
        time.advance(0.123)
        found = []
        for start in (0, 2, 4):
            page = self.page(nvd, startIndex=start, resultsPerPage=2, **MAY)
            found += self.ids(page)
            assert (page["totalResults"], page["startIndex"]) == (5, start)
            assert page["resultsPerPage"] == len(page["vulnerabilities"])
        assert set(found) == nvd.expected() == nvd.current()
        assert page["timestamp"] == "2026-05-01T06:05:00.123"
        assert {"published", "vulnStatus", "descriptions"} <= page["vulnerabilities"][0]["cve"].keys()

    def test_a_changed_record_leaves_its_window(self, nvd: Nvd, time: Time) -> None:
        key, other = nvd.add(), nvd.add()
        time.advance(86400)
        nvd.edit(key, vulnStatus="Analyzed")
        day = {"lastModStartDate": "2026-05-01T00:00:00Z", "lastModEndDate": "2026-05-01T23:00:00.000"}
        assert self.ids(self.page(nvd, **day)) == [f"{other}:2026-05-01T06:00:00.000"]
        changed = f"{key}:2026-05-02T06:00:00.000"
        assert changed in self.ids(self.page(nvd, **MAY))
        assert nvd.current() == {changed, f"{other}:2026-05-01T06:00:00.000"}
        assert nvd.expected() == {*nvd.current(), f"{key}:2026-05-01T06:00:00.000"}
        nvd.remove(other)
        assert {each["cve"]["vulnStatus"] for each in self.page(nvd)["vulnerabilities"]} == {
            "Analyzed",
            "Rejected",
        }

    def test_a_late_record_is_in_no_window_before_it_is_shown(self, nvd: Nvd, time: Time) -> None:
        nvd.add(shown=time.utc() + timedelta(minutes=5))
        assert (self.ids(self.page(nvd, **MAY)), nvd.expected()) == ([], set())
        time.advance(300)
        assert set(self.ids(self.page(nvd, **MAY))) == nvd.expected() != set()

    def test_rows_come_by_publication_or_by_change(self, nvd: Nvd, time: Time) -> None:
        nvd.add("CVE-2026-1")
        time.advance(60)
        nvd.add("CVE-2026-2")
        time.advance(60)
        nvd.edit("CVE-2026-1")
        assert [each.split(":")[0] for each in self.ids(self.page(nvd))] == ["CVE-2026-1", "CVE-2026-2"]
        nvd.quirks.order = "modified"
        assert [each.split(":")[0] for each in self.ids(self.page(nvd))] == ["CVE-2026-2", "CVE-2026-1"]

    def test_a_window_may_include_its_ends_or_not_and_may_be_empty(self, nvd: Nvd, time: Time) -> None:
        nvd.add()
        exact = dict.fromkeys(("lastModStartDate", "lastModEndDate"), START_TEXT)
        assert self.page(nvd, **exact)["totalResults"] == 1
        nvd.quirks.inclusive = False
        empty = self.page(nvd, **exact)
        assert (empty["totalResults"], empty["vulnerabilities"]) == (0, [])

    @pytest.mark.parametrize(
        "query",
        [
            {"lastModStartDate": START_TEXT},
            {"lastModEndDate": START_TEXT},
            {"lastModStartDate": START_TEXT, "lastModEndDate": "soon"},
            {"lastModStartDate": "2026-01-01T00:00:00Z", "lastModEndDate": "2026-05-01T00:00:01Z"},
            {"lastModStartDate": "2026-05-02T00:00:00Z", "lastModEndDate": START_TEXT},
            {"resultsPerPage": 2001},
        ],
    )
    def test_errors_are_404_with_a_message_header(self, nvd: Nvd, query: dict[str, Any]) -> None:
        reply = self.get(nvd, **query)
        assert (reply.status, reply.body) == (404, b"")
        assert reply.headers["message"]

    def test_120_days_and_any_case_are_granted(self, nvd: Nvd) -> None:
        nvd.add()
        window = {"LASTMODSTARTDATE": "2026-01-02T00:00:00Z", "lastmodenddate": "2026-05-02T00:00:00Z"}
        assert self.page(nvd, **window)["totalResults"] == 1

    def test_a_page_over_2000_may_be_cut_instead_of_refused(self, nvd: Nvd) -> None:
        nvd.quirks.too_many = "capped"
        assert self.page(nvd, resultsPerPage=2001)["totalResults"] == 0

    def test_five_requests_in_30_seconds_are_granted_and_50_with_a_key(self, time: Time) -> None:
        nvd = Nvd(time.utc)
        assert self.get(nvd, {"apikey": "guessed"}).headers["message"] == "Invalid apiKey."
        statuses = []
        for _ in range(6):
            statuses.append(self.get(nvd).status)
            time.advance(5)
        assert statuses == [200] * 5 + [403]
        time.advance(1)
        assert self.get(nvd).status == 200
        assert "Retry-After" not in self.get(nvd).headers
        assert [self.get(nvd, {"apikey": NVD_KEY}).status for _ in range(40)] == [200] * 40

    def test_the_total_may_be_missing_and_pages_may_repeat(self, nvd: Nvd) -> None:
        nvd.quirks.no_total = nvd.quirks.loops = True
        nvd.add()
        page = self.page(nvd, startIndex=1)
        assert "totalResults" not in page
        assert (page["startIndex"], len(page["vulnerabilities"])) == (0, 1)


class TestReaders:
    """Naive readers without a store, against random changes: what the mimics promise an exact reader holds."""

    @pytest.fixture(params=range(20))
    def dice(self, request: pytest.FixtureRequest) -> random.Random:
        return random.Random(request.param)

    def change(self, vendor: Any, dice: random.Random, time: Time) -> None:
        """Some seconds pass; then a row comes, perhaps late, or one changes."""
        time.advance(dice.choice([0, 1, 30, 90]))
        known = [v.key for v in vendor.versions if v.gone is None]
        if known and hasattr(vendor, "edit") and dice.random() < 0.4:
            vendor.edit(dice.choice(known))
        else:
            late = dice.choice([0, 0, 45, 300])
            vendor.add(at=time.utc() - timedelta(seconds=dice.choice([0, late])), shown=time.utc())

    def test_okta_by_a_kept_next(self, dice: random.Random) -> None:
        time = Time()
        okta, url, found = Okta(time.utc, OktaQuirks(limit=None)), f"{LOGS}?limit=2", list[str]()
        for _ in range(40):
            self.change(okta, dice, time)
            if dice.random() < 0.6:
                reply = ask(okta, url, {"authorization": f"SSWS {API_TOKEN}"})
                found += [row["uuid"] for row in json.loads(reply.body)]
                url = links(reply)["next"]
        while page := json.loads((reply := ask(okta, url, {"authorization": f"SSWS {API_TOKEN}"})).body):
            found += [row["uuid"] for row in page]
            url = links(reply)["next"]
        assert len(found) == len(set(found))
        assert set(found) == okta.expected()

    def test_zendesk_by_a_kept_cursor(self, dice: random.Random) -> None:
        time, read = Time(), TestZendesk()
        zendesk, query, found = (
            Zendesk(time.utc, ZendeskQuirks(limit=None)),
            {"start_time": str(SINCE)},
            set[str](),
        )
        for turn in range(40):
            self.change(zendesk, dice, time)
            if turn == 39:
                time.advance(60)
            if dice.random() < 0.4 or turn == 39:
                ids, cursor = read.walk(zendesk, per_page=2, **query)
                found.update(ids)
                query = {"cursor": cursor}
        assert zendesk.current() <= found <= zendesk.expected()

    def test_nvd_by_windows_that_overlap(self, dice: random.Random) -> None:
        time, read = Time(), TestNvd()
        nvd, found, since = Nvd(time.utc, NvdQuirks(limit=None)), set[str](), time.utc()
        for turn in range(40):
            self.change(nvd, dice, time)
            if dice.random() < 0.4 or turn == 39:
                start = (since - timedelta(minutes=10)).isoformat()
                window = {"lastModStartDate": start, "lastModEndDate": time.utc().isoformat()}
                index, total = 0, 1
                while index < total:
                    page = read.page(nvd, startIndex=index, resultsPerPage=2, **window)
                    found.update(read.ids(page))
                    index, total = index + page["resultsPerPage"], page["totalResults"]
                since = time.utc()
        assert nvd.current() <= found <= nvd.expected()

    def test_github_by_all_pages(self, dice: random.Random) -> None:
        time, read = Time(), TestGitHub()
        github, found = GitHub(time.utc), set[str]()
        for turn in range(40):
            self.change(github, dice, time)
            if dice.random() < 0.4 or turn == 39:
                found.update(row["id"] for row in read.walk(github, f"{EVENTS}?per_page=7"))
        assert found == github.expected() == github.current()


class TestFaults:
    """The faults that every list API can simulate; shown on one."""

    def get(self, github: GitHub, url: str = f"{EVENTS}?per_page=2") -> Reply:
        return ask(github, url, {"authorization": f"Bearer {TOKEN}"})

    def test_links_may_lead_elsewhere(self) -> None:
        github = GitHub(Time().utc, GitHubQuirks(next_elsewhere=True))
        [github.add() for _ in range(3)]
        assert links(self.get(github))["next"].startswith(ELSEWHERE)

    def test_a_page_may_name_itself_as_next(self) -> None:
        github = GitHub(Time().utc, GitHubQuirks(loops=True))
        [github.add() for _ in range(3)]
        assert links(self.get(github))["next"].endswith("page=1")

    def test_the_next_answers_may_be_errors_in_200(self) -> None:
        github = GitHub(Time().utc, GitHubQuirks(errors_in_200=1))
        assert json.loads(self.get(github).body).keys() == {"errors"}
        assert json.loads(self.get(github).body) == []

    def test_pages_may_be_smaller_and_without_a_total(self) -> None:
        github = GitHub(Time().utc, GitHubQuirks(cap=1, no_total=True))
        [github.add() for _ in range(2)]
        reply = self.get(github)
        assert len(json.loads(reply.body)) == 1
        assert links(reply).keys() == {"next"}

    def test_rows_may_lack_their_id_and_are_not_expected(self) -> None:
        github = GitHub(Time().utc, GitHubQuirks(drop_ids=frozenset({"1"})))
        [github.add(key) for key in "123"]
        rows = json.loads(self.get(github, EVENTS).body)
        assert [row.get("id") for row in rows] == ["3", "2", None]
        assert github.expected() == github.current() == {"2", "3"}

    def test_a_body_may_be_cut(self) -> None:
        github = GitHub(Time().utc)
        github.add()
        body = self.get(github).body
        github.faults.append(Fault(200, body=body[:40]))
        with pytest.raises(ValueError):
            json.loads(self.get(github).body)
        assert json.loads(self.get(github).body)


async def test_over_a_socket_links_name_the_address_that_was_asked() -> None:
    github = GitHub()
    ids = [github.add() for _ in range(2)]
    async with (
        Sandbox(github) as box,
        httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http,
    ):
        first = await http.get(f"{box.url}{EVENTS}", params={"per_page": 1})
        second = await http.get(first.links["next"]["url"])
        assert first.links["next"]["url"].startswith(box.url)
        assert [row["id"] for row in first.json() + second.json()] == ids[::-1]
        answer = await http.post(f"{box.url}/graphql", json={"query": "{ repository { events } }"})
        assert [node["id"] for node in answer.json()["data"]["repository"]["events"]["nodes"]] == ids
