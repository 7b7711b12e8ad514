"""Names from outside, shown as they are unless they would deceive."""

import pytest

from tlapp import tables
from tlapp.errors import one_line, printable

LITERAL = [
    "ants and bees",
    "1\u202f000",
    "caf\u00e9\u00a0au lait",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0645\u06cc\u200c\u0631",
]
ESCAPED = {
    "a\nb": r"a\nb",
    "a\x1b[31mb": r"a\x1b[31mb",
    "a\x85b": r"a\x85b",
    "a\udcffb": r"a\udcffb",
}
TURNED = {
    "a\u202egnp.exe": r"a\u202egnp.exe",
    "a\u2066b\u2069": r"a\u2066b\u2069",
    "\u200fa": r"\u200fa",
    "a\u2028b": r"a\u2028b",
}


@pytest.mark.parametrize("text", LITERAL, ids=ascii)
def test_real_names_are_shown_as_they_are(text):
    assert printable(text) == one_line(text) == text
    assert tables.to_csv([[text]]) == f"{text}\r\n"


@pytest.mark.parametrize(("text", "shown"), ESCAPED.items(), ids=ascii)
def test_control_characters_and_undecodable_bytes_are_escaped(text, shown):
    assert printable(text) == one_line(text) == shown
    assert tables.to_csv([[text]]) == f"{shown}\r\n"


@pytest.mark.parametrize(("text", "shown"), TURNED.items(), ids=ascii)
def test_what_turns_or_breaks_a_line_is_escaped_but_for_tables(text, shown):
    assert printable(text) == shown
    assert tables.to_csv([[text]]) == f"{text}\r\n"
