"""Texts of unknown origin, made fit for terminals, logs, JSON and pages."""

import html
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core.text import MOST, printable, printable_message, printable_page

HOSTILE = {
    "escape code": "a\x1b[2Jb",
    "C1 control": "a\x9b31mb",
    "undecodable byte": "a_\udce9.onnx",
    "newline": "a\nERROR: b",
    "line separator": "a\u2028b",
    "bidirectional override": "a\u202exnno.b",
    "carriage return": "a\rb",
    "invisible": "a\u200bb",
}
# hypothesis leaves surrogates out of text unless they are asked for.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_a_terminal_would_act_on_is_escaped(text):
    shown = printable(text)
    assert shown.isprintable() and shown.startswith("a") and "\\" in shown


@pytest.mark.parametrize("text", ["ü.onnx", "模型/漢.rknn", "naïve café", "C:\\x"])
def test_ordinary_text_stays_readable(text):
    assert printable(text) == text
    assert printable(f"{text}\x1b") == f"{text}\\x1b"


@given(ANY_TEXT)
def test_any_text_becomes_one_line_that_utf_8_takes(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable(shown) == shown


@given(ANY_TEXT)
def test_any_message_keeps_its_lines_and_shows_no_line_that_is_not_its_own(text):
    first, *rest = printable_message(text).split("\n")
    assert len(rest) == text.count("\n")
    assert all(line.isprintable() for line in (first, *rest))
    assert all(not line or line.startswith("  ") for line in rest)


@given(ANY_TEXT)
def test_a_page_keeps_its_lines_and_nothing_else_that_moves_the_cursor(text):
    page = printable_page(text)
    assert page.count("\n") == text.count("\n")
    assert page.replace("\n", "").isprintable()


def test_a_text_of_megabytes_is_cut_in_the_middle_and_says_so():
    shown = printable("head" + "x" * 10**6 + "tail")
    assert shown.startswith("head") and shown.endswith("tail")
    assert "...(999" in shown and len(shown) < MOST + 50
    assert len(printable_message("\n".join(["x" * 10**5] * 1000))) < 10**6


def test_html_of_a_printable_text_is_encodable():
    html.escape(printable("<\udce9\x1b>")).encode("utf-8")
