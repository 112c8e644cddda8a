"""The likely cause of a syntax error in a TOML text: another format, another kind of quotes, no quotes.

A cause is a sentence without text of the file, which may be part of a secret.
"""

import re

_CURLY = re.compile("[\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb]")
_YAML = re.compile(r"""\s*(?:- )?["']?[A-Za-z_][\w.-]*["']?\s*:(?:\s|$)""")
_TRUTH = re.compile(r"(?:true|yes|on|false|no|off)\b", re.IGNORECASE)
_NULL = re.compile(r"(?:null|none|nil|undefined)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\s\"'\[\]{},#=]+")
UNCLOSED = ("Unterminated string", "Expected '\"", "Expected \"'")
"""The words of the parser at the end of a document in which a text is not closed."""


def likely_cause(text: str, line: int, column: int, words: str) -> str:
    """What the writer of this line has probably meant, and how TOML writes it; empty if nothing is likely.

    `words` is the parser's message, `line` and `column` its place, counted from 1.
    """
    here = text.split("\n")[line - 1] if text else ""
    rest = here[column - 1 :]
    before = here[: column - 1]
    if text.lstrip()[:1] == "{" or re.match(r'\s*\[\s*[{"]', text):
        return 'it looks like JSON; TOML is written in lines: [sources.name], and below it key = "value"'
    if _CURLY.search(here):
        return 'curly quotes are no quotes in TOML; write "..."'
    if words.startswith(("Expected '='", "Invalid statement")) and _YAML.match(here):
        return (
            'it looks like YAML; TOML writes key = "value", and [sources.name] above the options of a source'
        )
    if words.startswith("Invalid statement") and here.lstrip().startswith("- "):
        return "it looks like a list of YAML; TOML writes [ ... ]"
    if words.startswith(("Unescaped '\\'", "Invalid hex value", "Escaped character")):
        return "in \"...\" a backslash begins an escape; write '...', which takes it as it is, or \\\\"
    if words.startswith(("Illegal character '\\n'", "Found invalid character '\\n'")):
        return 'the text has no closing quote; a text of several lines stands between """ and """'
    if words.startswith(UNCLOSED):
        return "a text has no closing quote"
    if words.startswith("Expected ']") and before.lstrip().startswith("[["):
        return "[[ is closed by ]]"
    if words.startswith("Cannot mutate immutable namespace"):
        return "it was set as a whole before; write all of it there, or use a table of its own"
    if words.startswith("Expected newline"):
        return _after_a_value(before, rest)
    if words.startswith("Invalid value"):
        return _no_value(rest)
    if words.startswith("Unclosed array"):
        return "elements of a list are separated by commas, and ] ends it"
    if words.startswith("Invalid initial character") and "{" in before and not rest.strip():
        return "a table between { and } stands in one line; several lines stand below a [table] of their own"
    if words.startswith("Invalid initial character") and before.rstrip().endswith(","):
        return "no comma stands before }"
    if words.startswith("Unclosed inline table"):
        return "keys between { and } are separated by commas, and } ends the table, in the same line"
    return ""


def _no_value(rest: str) -> str:
    """The cause of "Invalid value"."""
    if not rest.strip() or rest.lstrip().startswith("#"):
        return 'the value is missing; a text without content is ""'
    truth = _TRUTH.match(rest)
    if truth:
        right = "true" if truth[0].lower() in {"true", "yes", "on"} else "false"
        return f"truth values are true and false, in small letters; write {right}"
    if _NULL.match(rest):
        return "TOML has no such value; leave the option out"
    if re.match(r"\$\{?\w|%\(|\{\{", rest):
        return 'TOML fills in no variables; for a secret, write { env = "NAME" }'
    word = _WORD.match(rest)
    if word and rest[word.end() :].lstrip()[:1] in {'"', "'"}:
        return "a text has no opening quote"
    return 'a text stands in quotes: write "..."' if word else ""


def _after_a_value(before: str, rest: str) -> str:
    """The cause of something behind a value, in its line."""
    value = before.partition("=")[2].strip()
    if value and re.fullmatch(r"\s*,\s*(?:#.*)?", rest):
        return "no comma stands at the end of a line"
    if value[:1] in {'"', "'"}:
        return 'the text ended before; a quote inside "..." is written \\", or use \'...\' around it'
    if before.lstrip().startswith("["):
        return "options stand below the [table], each in a line of its own"
    if value[:1] not in {"", "[", "{"} and rest.strip():
        return 'if it is a text, it stands in quotes: write "..."; each option has a line of its own'
    return "each option has a line of its own"
