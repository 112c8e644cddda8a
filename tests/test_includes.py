"""A configuration in several files, and what is wrong with the syntax of one."""

import os
from pathlib import Path

import pytest

from roundsman import config
from roundsman.config.current import Current
from roundsman.errors import ConfigError

SOURCE = '[sources.{0}]\ntype = "parakey.event_logs"\naccess_token = "s3cret-token"\n'
SINK = '[sinks.out]\ntype = "stdout"\n'
MAIN = 'include = ["conf.d/*.toml"]\n' + SINK


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A main file that includes what is in `conf.d`, named as a user in its folder does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.d").mkdir(mode=0o755)
    (tmp_path / "roundsman.toml").write_text(MAIN)
    write("conf.d/b.toml", SOURCE.format("doors"))
    return Path("roundsman.toml")


def write(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")
    Path(name).chmod(0o644)


def mistakes(main: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(main)
    assert "s3cret" not in str(caught.value)
    return caught.value.problems


def test_included_files_are_one_configuration_with_the_main_file(main: Path) -> None:
    write("conf.d/a.toml", SOURCE.format("annex") + '[daemon]\nstore = "x.db"\n')
    assert list(config.load(main).sources) == ["annex", "doors"]
    assert config.names(main) == ({"annex", "doors"}, {"out"})
    assert config.store_of(main) == Path.cwd() / "x.db"


def test_a_name_in_two_files_is_a_mistake_that_names_both_places(main: Path) -> None:
    write("conf.d/c.toml", "# a comment\n" + SOURCE.format("doors"))
    assert mistakes(main) == [
        "conf.d/c.toml:2: sources.doors: is in conf.d/b.toml:1 already; give one of the two another name"
    ]


def test_a_table_of_the_daemon_stands_in_one_file_only(main: Path) -> None:
    write("conf.d/a.toml", "[http]\n")
    write("conf.d/c.toml", '\n[http]\n[heartbeat]\nurl = "https://hc.example/5f0d9c6a"\n')
    assert mistakes(main) == [
        "conf.d/c.toml:2: http: is in conf.d/a.toml:1 already; it may stand in one file only"
    ]


def test_mistakes_of_all_files_come_in_the_order_of_the_files(main: Path) -> None:
    write("conf.d/b.toml", 'include = ["x"]\n' + SOURCE.format("doors") + "intervall = 5\n")
    write("roundsman.toml", MAIN.replace("stdout", "stdot"))
    assert mistakes(main) == [
        "roundsman.toml:3: sinks.out.type: stdot is unknown; did you mean stdout?",
        "conf.d/b.toml:1: include: only the main file can include others",
        "conf.d/b.toml:5: sources.doors.intervall: unknown option; did you mean interval?",
    ]


@pytest.mark.parametrize("given", ['"conf.d/*.toml"', "[7]", '[""]'])
def test_an_include_that_is_no_list_of_names_is_a_mistake(given: str, main: Path) -> None:
    write("roundsman.toml", f"# main\ninclude = {given}\n" + SINK)
    assert mistakes(main) == [
        'roundsman.toml:2: include: is not a list of file names and patterns; write include = ["conf.d/*.toml"]'
    ]


def test_a_file_that_is_named_and_not_there_is_a_mistake_and_a_pattern_without_a_match_a_warning(
    main: Path,
) -> None:
    write("roundsman.toml", 'include = ["conf.d/*.toml", "none/*.toml"]\n' + SINK)
    found = config.read(main)
    assert [each.warning() for each in found.located(found.warnings)] == [
        "roundsman.toml:1: warning: include.1: none/*.toml matches no file"
    ]
    write("roundsman.toml", 'include = ["gone.toml"]\n' + SINK)
    assert mistakes(main) == [
        "roundsman.toml:1: include.0: gone.toml cannot be read: No such file or directory"
    ]
    write("gone.toml", "# s3cret\n[a]\n")
    Path("gone.toml").write_bytes(b"# s3cret\n# caf\xe9\n")
    assert mistakes(main) == ["gone.toml:2: is not UTF-8 text"]


def test_an_included_file_without_end_is_not_read_whole(main: Path) -> None:
    with Path("conf.d/b.toml").open("wb") as file:
        file.truncate(2**40)
    why = "conf.d/b.toml cannot be read: it has more than 64 MiB"
    assert mistakes(main) == [f"roundsman.toml:1: include.0: {why}"]
    assert config.digest(main) == ""


def test_the_store_is_known_without_the_included_files_if_the_main_file_names_it(main: Path) -> None:
    """They may hold secrets, which only the service's user can read."""
    write("roundsman.toml", MAIN + '[daemon]\nstore = "x.db"\n')
    write("conf.d/b.toml", "not TOML")
    assert config.store_of(main) == Path.cwd() / "x.db"
    write("roundsman.toml", MAIN)
    with pytest.raises(ConfigError, match="conf.d/b.toml:1:"):
        config.store_of(main)


def test_a_command_whose_configuration_is_a_pipe_uses_the_store_that_it_names(tmp_path: Path) -> None:
    """As in `roundsman status -c <(...)`: a pipe can be read once only."""
    reads, writes = os.pipe()
    try:
        text = f'[daemon]\nstore = "{tmp_path}/x.db"\n' + SOURCE.format("doors") + SINK
        os.write(writes, text.encode())
        os.close(writes)
        current = Current(Path(f"/dev/fd/{reads}"))
        current.renew()
        assert current.store == tmp_path / "x.db"
        assert current.names == ({"doors"}, {"out"})
    finally:
        os.close(reads)


def test_a_file_that_is_emptied_before_it_is_written_names_no_other_store(main: Path) -> None:
    text = main.read_text() + '[daemon]\nstore = "{}.db"\n'
    main.write_text(text.format("one"))
    current = Current(main)
    for half in ("", MAIN.splitlines()[0], text.format("two")[:-40]):
        main.write_text(half)
        Path("conf.d/b.toml").rename("conf.d/b")
        current.renew()
        Path("conf.d/b").rename("conf.d/b.toml")
        assert current.store == Path.cwd() / "one.db"
    main.write_text(text.format("two"))
    current.renew()
    assert current.store == Path.cwd() / "two.db"


def test_a_change_of_an_included_file_is_a_change_of_the_configuration(main: Path) -> None:
    digests = [config.digest(main)]
    write("conf.d/b.toml", SOURCE.format("annex"))
    digests.append(config.digest(main))
    write("conf.d/c.toml", "")
    digests.append(config.digest(main.absolute()))
    assert len(set(digests)) == 3
    assert config.digest(main) == digests[2], "with each path to the file"


def test_root_does_not_include_a_file_that_others_may_change(main: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo")
    Path("conf.d/b.toml").chmod(0o666)
    [problem] = mistakes(main)
    assert problem.startswith("conf.d/b.toml: is not included: another user than root may change it")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]\nb = 1\n\nb = 's3cret'\n", "4: is not TOML: a.b is set twice, first in line 2"),
        ("[a]\n[b]\n[a]\n", "3: is not TOML: [a] is written twice, first in line 1"),
        ("a = { b = 1, b = 's3cret' }\n", "1: is not TOML: a.b is set twice, first in line 1"),
        (
            "sources:\n  s3cret: x\n",
            "1:8: is not TOML: Expected '=' after a key in a key/value pair; it looks like YAML",
        ),
        ("a = \u201cs3cret\u201d\n", "1:5: is not TOML: Invalid value; curly quotes are no quotes in TOML"),
        ("a = s3cret\n", "1:5: is not TOML: Invalid value; a text stands in quotes"),
        ("a = 's3cret\n", '1:5: is not TOML: Expected "\'"; a text has no closing quote'),
        ("b = 'x' # it's\na = 's3cret\nc = 1\n", '2:5: is not TOML: Expected "\'"; a text has no closing'),
        (
            'b = """x"""\na = """s3cret\nc = "d"\n',
            "2:5: is not TOML: Unterminated string; a text has no closing",
        ),
        ("a = '''s3cret\nc = 'd'\n", "1:5: is not TOML: Expected "),
        (
            "a = {\n b = 's3cret'\n}\n",
            "a table between { and } stands in one line; several lines stand below",
        ),
        (
            "a = { b = 1,\n c = 's3cret' }\n",
            "1:13: is not TOML: Invalid initial character for a key part; a table",
        ),
        ("a = { b = 's3cret', }\n", "Invalid initial character for a key part; no comma stands before }"),
        (
            'a = "s3cret",\nb = 1\n',
            "Expected newline or end of document after a statement; no comma stands at",
        ),
        ("a = 5, # s3cret\n", "Expected newline or end of document after a statement; no comma stands at"),
        ('a = "s3cret\n', "1:12: is not TOML: Illegal character '\\n'; the text has no closing quote"),
        (
            'a = "C:\\s3cret"\n',
            "is not TOML: Unescaped '\\' in a string; in \"...\" a backslash begins an escape",
        ),
        (
            "a = True\n",
            "1:5: is not TOML: Invalid value; truth values are true and false, in small letters; write true",
        ),
        ("a =\n", "1:4: is not TOML: Invalid value; the value is missing"),
        ('{"a": "s3cret"}\n', "1:1: is not TOML: Invalid statement; it looks like JSON"),
        (
            'a = "it\'s" s3cret"\n',
            "is not TOML: Expected newline or end of document after a statement; the text ended",
        ),
        ("[[a]\n", "1:4: is not TOML: Expected ']]' at the end of an array declaration; [[ is closed by ]]"),
    ],
)
def test_a_syntax_error_has_its_place_the_parsers_words_and_the_likely_cause(
    text: str, problem: str, main: Path
) -> None:
    write("roundsman.toml", text)
    [found] = mistakes(main)
    assert found.startswith("roundsman.toml:")
    assert problem in found
