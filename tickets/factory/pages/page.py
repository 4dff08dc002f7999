"""The page: header, contents, sections; everything inside one file, with no scripts and nothing to fetch.

Owns the frame and its safety (a content policy that lets nothing load or run). What stands in the sections belongs to
the modules of the kinds of runs.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from tickets.factory.pages.ink import Picture
from tickets.factory.pages.markup import EMPTY, Markup, join, scrolling, tag
from tickets.factory.pages.words import duration
from tickets.factory.record import RunRecord

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STATUS_WORDS = {
    "done": "done", "running": "still running", "failed": "failed", "interrupted": "interrupted",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page. ``anchor``: its address within the page; ``pictures``: its plots, for the files beside it."""

    anchor: str
    title: str
    body: Markup
    pictures: tuple[Picture, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Content:
    """What a kind of run has to say: the page's title, one sentence that sums it up, and the sections."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def render(record: RunRecord, content: Content) -> str:
    """The whole document."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"), tag("title", f"{content.title} · tombola"),
        tag("style", Markup(style)),
    )  # fmt: skip
    links = [tag("li", tag("a", section.title, href=f"#{section.anchor}")) for section in content.sections]
    body = tag(
        "body", tag("a", "To the results", class_="skip", href="#results"),
        tag(
            "div", _header(record, content), _banner(record), tag("nav", tag("ol", *links), aria_label="Contents"),
            tag("main", *(_section(section) for section in content.sections), id="results"), class_="frame",
        ),
    )  # fmt: skip
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


def figure(picture: Picture | None) -> Markup:
    """A plot for light and dark pages, and below it what its marks mean. Nothing where there is no plot."""
    if picture is None:
        return EMPTY
    width, height = picture.pixels
    image = tag(
        "picture", tag("source", srcset=_data(picture.dark), media="(prefers-color-scheme: dark)"),
        tag("img", src=_data(picture.light), alt=picture.alt, width=width, height=height,
            style=f"--widest: {round(1.15 * width)}px"),
    )  # fmt: skip
    return tag(
        "figure", scrolling(image, f"Plot: {picture.name}"), tag("figcaption", picture.caption, class_="caption")
    )


def pictured(anchor: str, title: str, pictures: Sequence[Picture | None], *body: str) -> Section:
    """A section with the plots that there are, before the rest."""
    found = tuple(picture for picture in pictures if picture is not None)
    return Section(anchor, title, join([*(figure(picture) for picture in found), *body]), found)


def _section(section: Section) -> Markup:
    name = f"{section.anchor}-title"
    return tag("section", tag("h2", section.title, id=name), section.body, id=section.anchor, aria_labelledby=name)


def _header(record: RunRecord, content: Content) -> Markup:
    facts = [
        ("Run", record.id),
        ("Status", STATUS_WORDS[record.status]),
        ("Started", record.started_at.replace("T", " ")),
    ]
    if record.seconds:
        facts.append(("Took", duration(record.seconds)))
    listed = [join([tag("div", tag("dt", name), tag("dd", value))]) for name, value in facts]
    return tag(
        "header", tag("h1", content.title), tag("dl", *listed, class_="facts"),
        tag("p", content.lead, class_="lead") if content.lead else EMPTY,
    )  # fmt: skip


def _banner(record: RunRecord) -> Markup:
    """What stands above everything where the run is not done."""
    if record.status == "done":
        return EMPTY
    earlier = (
        "The results below are of an earlier run of the same description." if record.result
        else "There are no results yet."
    )  # fmt: skip
    said = {
        "running": "This run is still going on. Make the page again when it is done.",
        "failed": "This run failed. Run its command again: it goes on where it stopped.",
        "interrupted": "This run was interrupted. Run its command again: it goes on where it stopped.",
    }[record.status]
    return tag(
        "div", tag("p", tag("strong", said), f" {earlier}"), tag("pre", record.error) if record.error else EMPTY,
        class_=f"banner {record.status}", role="region", aria_label="How the run stands",
    )  # fmt: skip


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
