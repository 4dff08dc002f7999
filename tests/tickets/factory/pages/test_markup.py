"""Markup: what is text stays text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickets.factory.pages.markup import EMPTY, Markup, join, safe, table, tag

pytestmark = [pytest.mark.torch]

HOSTILE = '<script>alert("x")</script>'


class Reader(HTMLParser):
    """What a browser would see: elements, attributes, text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


def test_text_is_escaped_and_markup_is_not() -> None:
    found = read(tag("p", HOSTILE, tag("b", "bold")))
    assert [name for name, _ in found.elements] == ["p", "b"]
    assert found.text == HOSTILE + "bold"


@given(st.text(), st.text())
def test_whatever_the_text_nothing_becomes_an_element_or_an_attribute(text: str, value: str) -> None:
    found = read(tag("p", text, title=value, class_="x"))
    assert [name for name, _ in found.elements] == ["p"]
    assert set(found.elements[0][1]) == {"title", "class"}


def test_attributes_may_be_flags_or_left_out() -> None:
    assert tag("input_", hidden=True, open=False, title=None, tabindex=0) == '<input_ hidden tabindex="0"></input_>'
    assert tag("img", alt='a "b"') == '<img alt="a &quot;b&quot;">'


def test_characters_that_turn_the_reading_direction_are_shown_as_such() -> None:
    assert safe("a\u202eb\x00c") == "a\ufffdb\ufffdc"


def test_a_table_has_headers_for_columns_and_rows() -> None:
    found = read(table("What", ["a", "b"], [["x", HOSTILE]]))
    headers = [attributes.get("scope") for name, attributes in found.elements if name == "th"]
    assert headers == ["col", "col", "row"]
    assert ("script", {}) not in found.elements


def test_joining_nothing_is_nothing() -> None:
    assert join([]) == EMPTY
    assert isinstance(join(["<"]), Markup)
