"""Numbers on the page."""

import pytest
from markupsafe import Markup

from roundsman.web.page import words


@pytest.mark.parametrize(("value", "text"), [(None, "?"), (0, "0"), (999, "999"), (2750, "2\u202f750")])
def test_a_number_has_its_thousands_apart(value: int | None, text: str) -> None:
    assert words.shown(words.number(value)) == text
    assert words.shown(Markup("#{}").format(words.number(value))) == "#" + text
