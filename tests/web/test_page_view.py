"""The page as persons see it: in a browser, with and without its script, by keyboard, on a small screen, and by axe's rules."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from conftest import need
from inside import done, visited
from roundsman.store import open_desk
from roundsman.store.sqlite.store import SqliteStore
from worlds import a_failure, an_event

USER, PASSWORD = "anna", "correct horse"
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(2)>'",
    "\u202eright to left\u202c",
    "\u05e9\u05dc\u05d5\u05dd",
    "x" * 200,
    "\x1b[31mred\x1b[0m",
    "{{ 7 * 7 }}{% raw %}",
    "</script></title><h1>",
)
LONG = "a" * 63
"""The longest name of a source."""
FAILURES = 60
CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --lang=en"
)


class Page(NamedTuple):
    """A daemon with its page, and a browser that has logged in."""

    url: str
    store: Path
    browser: Any
    cookies: list[dict[str, Any]]
    """Those of the reader who has logged in."""

    def go(self, path: str) -> None:
        self.browser.get(self.url + path)

    def one(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def every(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, selector))

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.every(selector)]

    def run(self, script: str, *values: object) -> Any:
        return self.browser.execute_script(script, *values)

    def until(self, true: Callable[[], Any]) -> None:
        WebDriverWait(self.browser, 60, 0.02, [WebDriverException]).until(lambda _: true())

    @contextmanager
    def turned(self) -> Iterator[None]:
        """What is done within leads to another page, which is there afterwards: a click does not wait for an answer that takes its time."""
        before = self.one("html")
        yield
        self.until(lambda: staleness_of(before)(self.browser))
        self.until(lambda: self.run("return document.readyState") == "complete")

    def log_in(self, password: str = PASSWORD) -> None:
        self.one("#user").send_keys(USER)
        self.one("#secret").send_keys(password)
        with self.turned():
            self.one("form.login button").click()

    def look(self, width: int, scheme: str) -> None:
        """As on a screen of this width, light or dark."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def reload_aside(self) -> None:
        """What the page does by itself after some seconds, at once."""
        self.run("document.dispatchEvent(new Event('visibilitychange'))")

    def tick_off(self, seq: int, who: str) -> None:
        """As a command in another process."""

        async def act() -> None:
            desk = await open_desk(self.store)
            await desk.tick_off([seq], who, None, time.time())
            await desk.close()

        done(act())


async def fill(path: Path) -> None:
    """A store with hostile names in every place where a name can be."""
    store, now = SqliteStore.open(path), time.time()
    await store.register(
        {"doors": "parakey.event_logs", LONG: "parakey.event_logs", "lost": "parakey.event_logs"},
        {"archive": "file", "receiver": "http"},
    )
    events = [
        an_event(
            number,
            outcome="denied" if number % 10 == 0 else "granted",
            user={
                "id": "u",
                "name": HOSTILE[number % 16 // 2] if number % 2 else f"Person {number}",
                "email": None,
            },
            door={"id": "d", "name": HOSTILE[number % 8]},
        )
        for number in range(140)
    ]
    found, status, _ = visited({}, events, now=now - 600)
    await store.commit("doors", 0, found, status, now - 600)
    failures = [
        a_failure(
            1000 + number,
            LONG,
            batch_id=f"b{number}",
            item_id=None,
            person={"id": f"p{number % 9}", "name": HOSTILE[number % 8], "email": None},
            about={"id": "key", "name": "Cleaning"},
            code="DENIED",
            message=HOSTILE[(number + 1) % 8],
        )
        for number in range(FAILURES)
    ]
    found, status, _ = visited({}, failures[:10], now=now - 500)
    await store.commit(LONG, 0, found, status, now - 500)
    first = [each.event.seq for each in await store.failures()]
    await store.tick_off(first, HOSTILE[0], HOSTILE[4], now - 400)
    found, status, _ = visited({}, failures[10:], now=now - 300)
    await store.commit(LONG, (await store.memory(LONG)).revision, found, status, now - 300)
    await store.pause("source", LONG, HOSTILE[1][:40], now - 200)
    for seq in (3, 4, 5):
        await store.bury_again("receiver", seq, HOSTILE[seq], now - 100)
    await store.close()


def source(name: str) -> str:
    return (
        f'[sources.{name}]\ntype = "parakey.event_logs"\nbase_url = "http://127.0.0.1:9"\ninterval = "1h"\n'
        'access_token = "page-test-token"\n'
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    need(shutil.which("chromium") is not None, "needs a browser: apt install chromium")
    need(shutil.which("chromedriver") is not None, "needs its driver: apt install chromium-driver")
    folder = tmp_path_factory.mktemp("page")
    done(fill(folder / "roundsman.db"))
    config = folder / "roundsman.toml"
    config.write_text(
        f'[daemon]\nstore = "roundsman.db"\nlog_format = "json"\n[listen]\naddress = "127.0.0.1:0"\n'
        f'[listen.page]\nuser = "{USER}"\npassword = "{PASSWORD}"\n'
        + "".join(map(source, ("doors", LONG, "lost")))
        + '[sinks.archive]\ntype = "file"\npath = "events.jsonl"\n'
        '[sinks.receiver]\ntype = "http"\nurl = "http://127.0.0.1:9/events"\n'
    )
    config.chmod(0o600)
    command = [sys.executable, "-m", "roundsman", "run", "-c", str(config)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        line = next(each for each in daemon.stderr if '"listen.started"' in each)
        url = json.loads(line)["address"][0]
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for each in [*CHROMIUM.split(), f"--user-data-dir={folder / 'browser'}"]:
            options.add_argument(each)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.ChromeService(
            executable_path=shutil.which("chromedriver"), env={"TZ": "Asia/Tokyo"}
        )
        browser = webdriver.Chrome(options=options, service=driver)
        try:
            page = Page(url, folder / "roundsman.db", browser, [])
            page.go("/")
            page.log_in()
            page.cookies.extend(browser.get_cookies())
            yield page
        finally:
            browser.quit()
            daemon.terminate()
            daemon.stderr.read()


@pytest.fixture(autouse=True)
def as_at_first(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins with a wide, light window, whose reader has logged in."""
    if "page" in request.fixturenames:
        page = request.getfixturevalue("page")
        page.look(1280, "light")
        page.browser.delete_all_cookies()
        for cookie in page.cookies:
            page.browser.add_cookie(cookie)
    yield


EVERY = (
    "/",
    "/sources",
    f"/source/{LONG}",
    "/source/lost",
    "/sink/receiver",
    "/failures",
    "/log",
    "/event/150",
    "/event/4",
)
"""Every kind of page."""


def test_a_wrong_password_leads_back_to_the_form_and_the_right_one_to_where_the_reader_was_going(
    page: Page,
) -> None:
    page.browser.delete_all_cookies()
    page.go("/log?outcome=denied")
    page.until(lambda: page.run("return document.activeElement.id") == "user")
    page.log_in("wrong horse")
    assert page.texts("[role=alert]") == ["The user or the password is wrong."]
    page.log_in()
    assert page.browser.current_url == page.url + "/log?outcome=denied"
    with page.turned():
        page.one(".leave button").click()
    page.go("/")
    assert "/login" in page.browser.current_url


def test_the_first_page_shows_the_state_of_everything(page: Page) -> None:
    page.go("/")
    rows = {
        row.find_element(By.CSS_SELECTOR, "th a").text: row.text for row in page.every("#sources tbody tr")
    }
    assert rows.keys() == {"doors", LONG, "lost"}
    assert "waits until a person resumes it" in rows[LONG]
    page.until(lambda: page.go("/") or "tries again in" in page.one("#sources").text)
    assert "cannot be reached" in page.one("#sources").text
    sinks = {row.find_element(By.CSS_SELECTOR, "th a").text: row for row in page.every("#sinks tbody tr")}
    assert sinks["receiver"].find_elements(By.TAG_NAME, "td")[-1].text == "3"
    assert "3 dead letters, the first " in sinks["receiver"].text
    assert page.one("#figures .raised").text.startswith("open failures\n5")
    assert len(page.every("#failures li")) == 5
    assert "Again: ticked off by <script>alert(1)</script>" in page.one("#failures").text
    assert len(page.every("#events li")) == 12


def test_a_page_of_a_source_or_a_sink_says_what_to_do(page: Page) -> None:
    page.go(f"/source/{LONG}")
    assert f"roundsman resume {LONG}" in page.texts(".advice code")
    page.go("/sink/receiver")
    assert page.texts("#dead p code") == [
        "roundsman dead retry receiver",
        "roundsman dead drop receiver --all",
    ]
    assert len(page.every("#dead tbody tr")) == 3
    page.go("/source/none")
    assert page.one("h1").text == "none: no such source"


def test_the_log_is_filtered_searched_and_paged(page: Page) -> None:
    page.go("/log")
    newest = page.texts(".log .what")
    assert len(newest) == 50
    with page.turned():
        page.one("a[rel=next]").click()
    older = page.texts(".log .what")
    assert len(older) == 50
    with page.turned():
        page.one("a[rel=prev]").click()
    assert page.texts(".log .what") == newest
    Select(page.one("#outcome")).select_by_value("denied")
    with page.turned():
        page.one("#q").send_keys("PERSON 2" + Keys.ENTER)
    assert "q=PERSON" in page.browser.current_url
    assert [text.split(":")[0] for text in page.texts(".log .what")] == ["Person 20"]
    assert page.one("#q").get_attribute("value") == "PERSON 2"
    page.go("/log?source=do*&type=event_log.created&before=5")
    assert len(page.every(".log li")) == 4
    page.go("/log?q=nowhere-to-be-found")
    assert page.one(".empty").text == "No event matches."


def test_a_failure_is_ticked_off_with_name_and_note_and_that_is_undone(page: Page) -> None:
    page.go("/failures")
    first = page.one(".failures li")
    number = first.get_attribute("id")
    assert first.find_element(By.NAME, "who").get_attribute("value") == USER
    first.find_element(By.TAG_NAME, "summary").click()
    first.find_element(By.NAME, "note").send_keys("called <b>him</b>")
    with page.turned():
        first.find_element(By.CSS_SELECTOR, ".act button").click()
    assert page.one(".notice p").text == f"Failure #{number[8:]} was ticked off by anna: called <b>him</b>."
    assert page.every(f"#{number}") == []
    assert "acted" not in page.browser.current_url, "a reload says it once"
    assert "called <b>him</b>" in page.one(".acts li").text
    with page.turned():
        page.one(".notice button").click()
    assert "opened again" in page.one(".notice").text
    assert page.one(f"#{number}").is_displayed()


def test_everything_works_without_javascript(page: Page) -> None:
    page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.go("/event/170")
        page.one("summary").click()
        page.one("input[name=note]").send_keys("done")
        with page.turned():
            page.one(".act button").click()
        assert page.every(".notice .undo")
        with page.turned():
            page.one(".notice button").click()
        assert page.every(".open summary")
        page.go("/log")
        with page.turned():
            page.one("#source").send_keys(LONG + Keys.ENTER)
        assert set(page.texts(".log .source")) == {LONG}
        assert page.one("time").text.count(":") == 2
        assert page.one("#zone").text == "UTC"
    finally:
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_times_are_those_of_the_browser(page: Page) -> None:
    page.go("/log")
    at = page.one(".log time")
    hour = int(at.get_attribute("datetime")[11:13])
    assert int(at.text[-8:-6]) == (hour + 9) % 24
    assert page.one("#zone").text == "Asia/Tokyo"


def test_a_refresh_shows_what_is_new_and_keeps_a_form_that_is_half_filled(page: Page) -> None:
    page.go("/failures")
    one, two = page.every(".failures li")[:2]
    kept, gone = one.get_attribute("id"), two.get_attribute("id")
    one.find_element(By.TAG_NAME, "summary").click()
    note = one.find_element(By.NAME, "note")
    note.send_keys("half a ")
    page.tick_off(int(gone[8:]), "björn")
    page.reload_aside()
    page.until(lambda: not page.every(f"#{gone}"))
    note.send_keys("sentence")
    assert page.one(f"#{kept} input[name=note]").get_attribute("value") == "half a sentence"
    assert page.run("return document.activeElement.name") == "note"
    page.until(lambda: "björn" in page.one(".acts").text)


def test_a_refresh_keeps_the_focus_and_a_reader_learns_that_the_daemon_does_not_answer(page: Page) -> None:
    page.go("/failures")
    number = page.every(".failures li")[3].get_attribute("id")
    page.run("document.querySelector(arguments[0]).focus()", f"#{number} summary")
    page.tick_off(int(page.every(".failures li")[1].get_attribute("id")[8:]), "cecilia")
    page.reload_aside()
    page.until(lambda: "cecilia" in page.one(".acts").text)
    assert page.run("return document.activeElement.closest('li')?.id") == number
    page.browser.execute_cdp_cmd("Network.enable", {})
    page.browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/failures*"]})
    page.reload_aside()
    page.until(lambda: "does not answer" in page.one("#stale").text)
    page.browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.reload_aside()
    page.until(lambda: page.one("#stale").text == "")


def test_the_keyboard_is_enough(page: Page) -> None:
    page.go("/")
    keys = webdriver.ActionChains(page.browser)
    keys.send_keys(Keys.TAB, Keys.ENTER).perform()
    page.until(lambda: page.run("return document.activeElement.id") == "main")
    for _ in range(40):
        keys = webdriver.ActionChains(page.browser)
        keys.send_keys(Keys.TAB).perform()
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "the focus is seen"
        if page.run("return document.activeElement.tagName") == "SUMMARY":
            break
    number = page.run("return document.activeElement.closest('li').id")
    with page.turned():
        webdriver.ActionChains(page.browser).send_keys(
            Keys.ENTER, Keys.TAB, "dora", Keys.TAB, "by keyboard", Keys.ENTER
        ).perform()
    assert page.one(".notice p").text == f"Failure #{number[8:]} was ticked off by dora: by keyboard."


def test_hostile_names_are_shown_as_texts_and_break_no_layout(page: Page) -> None:
    page.browser.get_log("browser")
    for path in EVERY:
        page.go(path)
        for width in (390, 1280):
            page.look(width, "light")
            assert page.run("return document.documentElement.scrollWidth") <= width, (path, width)
        assert page.run("return document.querySelectorAll('main script, main img').length") == 0
        text = page.run("return document.documentElement.outerHTML")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    page.go("/failures")
    shown = page.one("main").text
    for name in (
        "<script>alert(1)</script>",
        "\\u202eright",
        "שלום",
        "\\x1b[31mred",
        "{{ 7 * 7 }}",
        "/title>",
    ):
        assert name in shown, name
    assert page.browser.get_log("browser") == [], "no script ran, and none was refused"


def test_a_printed_page_has_every_column_and_nothing_to_press(page: Page) -> None:
    print_dark = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.look(718, "light")  # between the margins of A4
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", print_dark)
    try:
        for path, seen in (("/", "#sources th.wide"), ("/failures", ".failures .what"), ("/event/4", "pre")):
            page.go(path)
            assert page.one(seen).is_displayed()
            pressed = page.every("nav, button, input, summary, .onward")
            assert [each.get_attribute("outerHTML") for each in pressed if each.is_displayed()] == []
            assert page.run("return document.documentElement.scrollWidth") <= 718, path
            assert page.run("return getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.run("const e = arguments[0]; return e.scrollHeight <= e.clientHeight", page.one("pre"))
    finally:
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_request_leaves_the_page(page: Page) -> None:
    page.browser.get_log("performance")
    for path in EVERY:
        page.go(path)
    page.reload_aside()
    events = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    urls = {
        each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"
    }
    assert len(urls) > len(EVERY)
    assert {url for url in urls if not url.startswith(f"{page.url}/")} == set()


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page, on a wide and on a small screen, light and dark."""
    page.run((files("axe_core_python") / "axe.min.js").read_text())
    found = []
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page.look(width, scheme)
            result = page.browser.execute_async_script(
                "const done = arguments[0];"
                "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations))"
            )
            found += [
                f"{page.browser.current_url} {width} {scheme}: {each['id']}: {node['html'][:100]}: {node['failureSummary']}"
                for each in result
                for node in each["nodes"]
            ]
    return found


@pytest.mark.parametrize("path", EVERY)
def test_axe_finds_nothing(page: Page, path: str) -> None:
    page.go(path)
    page.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert violations(page) == []


def test_axe_finds_nothing_on_the_form_to_log_in(page: Page) -> None:
    page.browser.delete_all_cookies()
    page.go("/login")
    page.log_in("wrong horse")
    assert violations(page) == []
