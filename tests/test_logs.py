"""Logs: names and facts, no secrets, no control characters."""

import io
import json
import logging

import pytest
import structlog

from roundsman.store import New
from roundsman.system import logs


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_json_lines_carry_time_level_and_name_first(out: io.StringIO) -> None:
    logs.configure("info", "json", logs.Line(out))
    structlog.get_logger().warning("poll.failed", source="doors", error="no\nway \x1b[31m", wait=3)
    structlog.get_logger().debug("poll.unchanged")
    [line] = out.getvalue().splitlines()
    entry = json.loads(line)
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    assert entry["error"] == "no\\nway \\x1b[31m"


def test_no_text_from_outside_controls_a_terminal(out: io.StringIO) -> None:
    logs.configure("info", "console", logs.Line(out))
    structlog.get_logger().info("poll.failed", error="\x1b]0;owned\x07")
    assert "owned" in out.getvalue()
    assert "\x1b]" not in out.getvalue()


def test_a_list_is_written_for_a_person_on_a_terminal_and_stays_a_list_in_json(out: io.StringIO) -> None:
    for form in ("console", "json"):
        logs.configure("info", form, logs.Line(out))  # type: ignore[arg-type]
        structlog.get_logger().info("listen.started", address=["http://[::1]:1", "b\x1b[31m"], one=["a"])
    console, line = out.getvalue().splitlines()
    assert console.split()[-3:] == ["address='http://[::1]:1,", "b\\\\x1b[31m'", "one=a"]
    assert json.loads(line)["address"] == ["http://[::1]:1", "b\x1b[31m"]


def test_a_traceback_shows_no_variables(out: io.StringIO) -> None:
    for form in ("json", "console"):
        logs.configure("info", form, logs.Line(out))  # type: ignore[arg-type]
        password = "hunter2"
        try:
            {}[len(password)]
        except KeyError as exc:
            structlog.get_logger().error("poll.failed", exc_info=exc)
    assert "KeyError" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_what_libraries_say_is_one_of_our_lines(out: io.StringIO) -> None:
    logs.configure("info", "json", logs.Line(out))
    logging.getLogger("somebody").warning("odd: %s", 7)
    logging.getLogger("somebody").info("chatter")
    [line] = out.getvalue().splitlines()
    assert json.loads(line) | {"timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "event": "library.message",
        "logger": "somebody",
        "message": "odd: 7",
    }


def test_progress_stays_at_the_end_and_goes(out: io.StringIO) -> None:
    line = logs.Line(out)
    line.show("doors: 5 rows")
    line.msg("an entry")
    line.show("")
    assert out.getvalue() == "\r\x1b[Kdoors: 5 rows\r\x1b[Kan entry\ndoors: 5 rows\r\x1b[K"


def test_what_is_no_json_is_logged_all_the_same(out: io.StringIO) -> None:
    logs.configure("info", "json", logs.Line(out))
    structlog.get_logger().info("odd.value", thing=object(), half="\ud800")
    assert json.loads(out.getvalue())["event"] == "odd.value"


def test_a_number_is_a_number_in_json_also_beside_a_value_that_is_no_json(out: io.StringIO) -> None:
    logs.configure("info", "json", logs.Line(out))
    structlog.get_logger().info("poll.committed", new=New(3), rows=5)
    structlog.get_logger().info("poll.committed", new=New(3), rows=5, ms=2.5, odd=object(), none=None)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["new"], first["rows"]) == (3, 5)
    assert (second["new"], second["rows"], second["ms"], second["none"]) == (3, 5, 2.5, None)


def test_a_full_disk_behind_standard_error_ends_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    line = logs.Line(Full())
    line.msg("an entry")
    line.show("progress")


def test_a_librarys_chatter_and_its_slips_harm_nothing(out: io.StringIO) -> None:
    logs.configure("info", "json", logs.Line(out))
    chatty = logging.getLogger("chatty")
    chatty.setLevel(logging.DEBUG)
    chatty.debug("chatter")
    chatty.info("chatter")
    chatty.warning("%d rows", "seven")
    structlog.get_logger().info("poll.committed")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["library.message", "poll.committed"]
    assert lines[0]["message"] == "%d rows"


def test_no_color_is_respected(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    for value, colored in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        logs.configure("info", "console", logs.Line(out))
        out.truncate(out.seek(0))
        structlog.get_logger().warning("poll.failed", source="doors")
        assert ("\x1b[" in out.getvalue()) == colored


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_a_visit_has_bound_stands_in_every_line_of_it(out: io.StringIO) -> None:
    """Also in what a library logs meanwhile."""
    logs.configure("info", "json", logs.Line(out))
    with structlog.contextvars.bound_contextvars(source="doors", visit=7):
        structlog.get_logger().info("poll.committed", source="doors", new=1)
        logging.getLogger("somebody").warning("odd")
    structlog.get_logger().info("engine.stopped")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line.get("source"), line.get("visit")) for line in lines] == [
        ("doors", 7),
        ("doors", 7),
        (None, None),
    ]
