"""CLINC150 whole: 150 intents, a small ticket, its dense parent, and the cascade of the two.

Reads what `tombola find --domain all` left (tickets, family.json, stages), packs the dense parent beside
the tickets as one that can be served, sets the cascade's thresholds as `tombola cascade` does, and keeps
every number, with the commands, in one JSON file. Accuracy counts right decisions: kept in scope with the
right label, or found out of scope. Costs are milliseconds of one core per text, all tickets in turns.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bench.dense import dense_ticket
from bench.run import commit, machine
from tickets import bundle as bundles
from tickets.bundle import Bundle
from tickets.cascade import CERTAINTY, CascadeError, Within, find_threshold, mean_cost
from tickets.factory.cascade import answers, counted, outcomes, split_report
from tickets.factory.data import WHOLE, DomainData, build
from tickets.factory.formats import load_rows
from tickets.factory.speed import BATCH_TEXTS
from tickets.files import write_whole
from tickets.reference import Reference

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
POINTS = (0.5, 1.0, 2.0)


@click.command(epilog="Example: python -m bench.clinc150 --data clinc150_full.json --family family/")
@click.option("--data", type=FILE, required=True, help="CLINC150's own JSON, the full version.")
@click.option("--family", type=FOLDER, required=True, help="What `tombola find --domain all` wrote with --out.")
@click.option("--runs", type=FOLDER, default=Path(".runs"), show_default=True, help="What it wrote with --runs.")
@click.option("--found-by", required=True, help="That command, for the record.")
@click.option("--out", type=FILE, default=Path("bench/results/clinc150-full.json"), show_default=True)
def main(data: Path, family: Path, runs: Path, found_by: str, out: Path) -> None:
    """Measure the family, its dense parent and their cascades on the test split."""
    document = json.loads((family / "family.json").read_text(encoding="utf-8"))
    examples = build(load_rows(data), WHOLE, 0)
    tickets = {entry["tier"]: bundles.read(family / entry["file"]) for entry in document["families"][WHOLE]}
    report = document["reports"][WHOLE]
    child = next(iter(tickets.values()))
    speeds = {name.removeprefix(f"{WHOLE}-"): entry["speed"] for name, entry in report["models"].items()
              if "speed" in entry}  # fmt: skip
    speeds["dense"] = speeds["dense-parent"]
    dense = dense_ticket(child, service_ms=speeds["dense"]["alone_ms"], data=examples, runs=runs)
    if not dense.is_trained:
        raise click.ClickException(f"{runs} does not hold the dense parent that these tickets descend from")
    members = {name: bytes(content) for name, content in dense.bundle.members.items()}
    write_whole(family / f"{WHOLE}-dense.ticket", bundles.pack(dense.bundle.manifest, members))
    tickets["dense"] = dense.bundle
    results = {
        "machine": machine(), "commit": commit(), "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commands": [found_by, f"python -m bench.clinc150 --data {data.name} --family {family} --runs {runs}"],
        "notes": report["notes"], "seconds": stage_seconds(runs, child.manifest.lineage.dense_parent or ""),
        "models": report["models"], **measure_cascades(tickets, speeds, examples),
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps(results, indent=1) + "\n").encode())
    click.echo(out)


def measure_cascades(tickets: Mapping[str, Bundle], speeds: Mapping[str, Any], data: DomainData) -> dict[str, Any]:
    """Each smaller ticket in front of the dense parent. ``speeds``: by ticket, as the family's report has them."""
    references = {name: Reference(ticket) for name, ticket in tickets.items()}
    cascades = [row for name in tickets if name != "dense" for row in _cascades(name, references, speeds, data)]
    return {"tickets": {name: ticket.id for name, ticket in tickets.items()}, "cascades": cascades}


def _cascades(
    small: str, references: Mapping[str, Reference], speeds: Mapping[str, Any], data: DomainData
) -> Iterator[dict[str, Any]]:
    """The ticket in front of the dense parent, for every promise. Both splits at validation's mix."""
    validation, test = (
        outcomes(
            answers(references[small], split, data.labels), answers(references["dense"], split, data.labels), split
        )
        for split in (counted(data.validation), counted(data.test))
    )
    mix = float(validation.in_scope.mean())
    for points in POINTS:
        named: dict[str, Any] = {"small": small, "large": "dense", "within_points": points, "certainty": CERTAINTY}
        try:
            threshold = find_threshold(validation, Within(points))
        except CascadeError as error:
            yield named | {"refused": str(error)}
            continue
        splits = {
            name: asdict(split_report(split, threshold.value, mix))
            for name, split in (("validation", validation), ("test", test))
        }
        by_small = splits["test"]["cascade"]["answered_by_small"]
        yield named | {"threshold": asdict(threshold), **splits} | _costs(speeds[small], speeds["dense"], by_small)


def _costs(small: Mapping[str, Any], large: Mapping[str, Any], by_small: float) -> dict[str, Any]:
    """``alone``: one text, tokenized and run. In batches: run alone."""
    costs = {
        "alone": (small["alone_ms"], large["alone_ms"]),
        f"in_batches_of_{BATCH_TEXTS}": (1000 / small["texts_per_s"], 1000 / large["texts_per_s"]),
    }
    return {
        "cost_ms": {
            how: {"always_small": first, "always_large": second, "cascade": mean_cost(first, second, by_small)}
            for how, (first, second) in costs.items()
        }
    }


def stage_seconds(runs: Path, dense_key: str) -> dict[str, int]:
    """How long the stages below a dense parent took, from start (or the last continuation) to end."""
    keys, out = {dense_key}, {}
    ended = {path.parent: json.loads(path.read_text(encoding="utf-8"))["key"] for path in runs.glob("*/done.json")}
    for _ in ended:  # a stage names the keys of those it was made from: follow them until nothing is added
        for folder, key in ended.items():
            start = folder / "description.json"
            if key in keys or any(known in start.read_text(encoding="utf-8") for known in keys):
                keys.add(key)
                out[folder.name] = round((folder / "done.json").stat().st_mtime - start.stat().st_mtime)
    return out


if __name__ == "__main__":
    main()
