"""What `tombola find` leaves in its output folder: tickets, family.json, REPORT.md and a plot."""

import fcntl
import json
from pathlib import Path

from tickets.factory.family import Family
from tickets.factory.report import markdown, plot
from tickets.files import write_whole


def write_family(family: Family, folder: Path) -> None:
    """Write the tickets first, then family.json, REPORT.md and the plot; other domains' entries stay."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:  # two domains may be found side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write_family(family, folder)


def file_name(family: Family, tier: str) -> str:
    """The name of a tier's ticket in the folder."""
    return f"{family.domain}-{tier}.ticket"


def _write_family(family: Family, folder: Path) -> None:
    index = folder / "family.json"
    document = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {"families": {}, "reports": {}}
    for ticket in family.bundles:
        write_whole(folder / file_name(family, ticket.tier), ticket.data)
    document["families"][family.domain] = [
        {"file": file_name(family, t.tier), "tier": t.tier, "id": t.id} for t in family.tickets
    ]
    document["reports"][family.domain] = family.report
    write_whole(index, (json.dumps(document, indent=1) + "\n").encode())
    pages = [markdown(report) for _, report in sorted(document["reports"].items())]
    write_whole(
        folder / "REPORT.md", ("# Families\n\n![Accuracy over speed](pareto.png)\n\n" + "\n".join(pages)).encode()
    )
    plot(document["reports"], folder / "pareto.png")
