"""The report: a record becomes one self-contained page and its plots as PNG files beside it."""

from collections.abc import Callable
from pathlib import Path

from tickets.factory.pages.find import find
from tickets.factory.pages.lottery import lottery
from tickets.factory.pages.making import making
from tickets.factory.pages.page import Content, render
from tickets.factory.pages.transfer import other, patterns, transfer
from tickets.factory.record import RunRecord
from tickets.files import write_whole

PAGE = "report.html"
KINDS: dict[str, Callable[[RunRecord], Content]] = {
    "find": find, "lottery": lottery, "transfer": transfer, "patterns": patterns,
}  # fmt: skip


def content_of(record: RunRecord) -> Content:
    """What the page of this record says. Of a run that has found nothing yet: only how it stands and was made."""
    if not record.result and record.status != "done":
        return Content(record.id, "", making(record))
    return KINDS.get(record.kind, other)(record)


def write_report(record: RunRecord, folder: Path) -> list[Path]:
    """Write the page and the plots of a record; the page is the first of the paths. Raises OSError."""
    content = content_of(record)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / PAGE]
    for section in content.sections:
        for picture in section.pictures:
            written.append(folder / f"{picture.name}.png")
            write_whole(written[-1], picture.light)
    write_whole(written[0], render(record, content).encode())
    return written
