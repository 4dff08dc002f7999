"""Markup: the one way to make HTML here. Text is escaped by construction; only `Markup` goes into a page as it is.

Labels, notes and errors come from data that strangers wrote: a `<script>` among them must stay a word.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

_VOID = frozenset({"img", "meta", "source", "br", "link"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that would turn the direction of what stands after them."""


class Markup(str):
    """HTML that `tag` or `join` made. Nothing else makes it of text."""

    __slots__ = ()


EMPTY = Markup("")


def tag(name: str, /, *children: str, **attributes: str | int | bool | None) -> Markup:
    """One element. ``class_``, ``aria_label`` -> class, aria-label; True: without a value; None and False: left out."""
    told = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """Children one after the other; what is no Markup is escaped."""
    return Markup("".join(safe(child) for child in children))


def safe(text: str) -> Markup:
    """Markup as it is, text escaped."""
    return text if isinstance(text, Markup) else Markup(escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)))


def table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: bool = True, hidden: bool = True
) -> Markup:
    """A table that scrolls sideways where it is too wide. The first cell of a row is its heading. ``numeric``: the
    other cells are set to the right; ``hidden``: the caption is for those who cannot see the heading above.
    """
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [tag("tr", *(tag("th" if i == 0 else "td", cell, scope="row" if i == 0 else None)
                        for i, cell in enumerate(row))) for row in rows]  # fmt: skip
    whole = tag(
        "table", tag("caption", caption, class_="unseen" if hidden else None), tag("thead", head), tag("tbody", *body),
        class_="numbers" if numeric else None,
    )  # fmt: skip
    return scrolling(whole, caption)


def scrolling(content: Markup, label: str) -> Markup:
    """What may be wider than the page; the keyboard can reach and scroll it."""
    return tag("div", content, class_="scroll", tabindex="0", role="group", aria_label=label)


def folded(summary: str, *content: str) -> Markup:
    """What is shown when asked for."""
    return tag("details", tag("summary", summary), *content)


def missing(what: str) -> Markup:
    """Says that a part is not there, and why."""
    return tag("p", what, class_="missing")


def _attribute(key: str, value: str | int | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{safe(str(value))}"'
