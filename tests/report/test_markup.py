"""What is not markup is text, wherever it is put."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.report.markup import clean, el, inline_css, join
from tests.report.outline import assert_inert, outline
from tests.report.strategies import HOSTILE

anything = st.text() | st.sampled_from([text for text in HOSTILE if len(text) < 1000])


@given(anything, anything)
def test_text_and_attributes_are_read_back_as_they_were_put_in(text: str, value: str) -> None:
    (read,) = outline(el("p", text, data_label=value).markup).children
    assert not isinstance(read, str)
    assert read.attributes == {"data-label": clean(value)}
    assert "".join(map(str, read.children)) == clean(text)


@given(anything)
def test_what_stands_between_parts_is_text(text: str) -> None:
    joined = join([el("b"), el("i")], text).markup
    assert [each.tag for each in outline(joined).all()] == ["b", "i"]


def test_attributes_that_are_false_or_none_are_left_out() -> None:
    markup = el("details", class_=None, open=True, hidden=False, aria_label="a").markup
    assert markup == '<details open aria-label="a"></details>'


def test_a_style_sheet_cannot_end_its_element() -> None:
    with pytest.raises(ValueError, match="end its own element"):
        inline_css("</style>")


@pytest.mark.parametrize(
    "markup",
    [
        "<html><head><style></style></head><script></script></html>",
        "<html><head><style></style></head><p onclick=x></p></html>",
        "<html><head><style></style></head><a href=https://example.com></a></html>",
        "<html><head><style></style></head><a href=javascript:x></a></html>",
        "<html><head><style>@import 'x'</style></head></html>",
        "<html><head><style></style></head><p style=x></p></html>",
        "<html><head><style></style></head><p></html>",
    ],
)
def test_the_reader_of_these_tests_sees_what_is_not_inert(markup: str) -> None:
    with pytest.raises(AssertionError):
        assert_inert(markup)
