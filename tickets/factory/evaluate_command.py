"""`tombola evaluate`: a packed ticket, measured from its file as the factory measures it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console

from tickets import bundle as bundles
from tickets.bundle import Bundle
from tickets.factory.data import DomainData, build
from tickets.factory.evaluation.gates import check, load_gates
from tickets.factory.evaluation.render import render
from tickets.factory.evaluation.suite import ParentAnswers, evaluate_ticket
from tickets.factory.formats import load_rows
from tickets.factory.quality import Calibrated, Floats, measure, with_last_column
from tickets.factory.rows import DataError
from tickets.factory.speed import cost
from tickets.factory.terminal import refusing
from tickets.reference import Reference

_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.command(
    epilog="Example: tombola evaluate banking-fast.ticket --data clinc150_full.json --parent banking-dense.ticket",
    short_help="Measure a ticket's quality on labelled texts (factory).",
)
@click.argument("ticket", type=_FILE)
@click.option("--data", type=_FILE, required=True, help="Labelled texts; the test split is used where there is one.")
@click.option("--domains", type=_FILE, help="JSON of domain -> labels, where the data file has no domain column.")
@click.option("--test", "test_file", type=_FILE, help="A second file that is the test split, where --data has none.")
@click.option("--parent", type=_FILE, help="Another ticket of the domain to compare with, such as the dense parent.")
@click.option("--gates", "gates_file", type=_FILE, help="A TOML file of gates. Default: the factory's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def evaluate(
    ticket: Path, data: Path, domains: Path | None, test_file: Path | None, parent: Path | None,
    gates_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure a packed ticket at its own frozen temperature and threshold.

    With --parent, what the ticket lost against it is measured too. With --parent or --gates the gates are checked: one
    that fails, or whose number was not measured, is named, and the command ends with status 1.
    """
    with refusing():
        gates = load_gates(gates_file)
        bundle = bundles.read(ticket)
        rows = load_rows(data, domains, test_file)
        examples = build(rows, bundle.manifest.domain, bundle.manifest.lineage.seeds.get("all", 0))
        _check_labels(bundle, examples)
        compared = None
        if parent is not None:
            other = bundles.read(parent)
            _check_labels(other, examples)
            compared = ParentAnswers(_answering(Reference(other), examples), examples, calibrated_of(other))
        answer = _answering(Reference(bundle), examples)
        costs = cost(bundle.size_bytes)
        evaluation = evaluate_ticket(answer, compared, examples, calibrated_of(bundle), cost=costs)
    checked = check(evaluation, gates) if compared is not None or gates_file is not None else []
    if as_json:
        report = evaluated(Reference(bundle), examples)
        gated = {"gates": [one.document() for one in checked]} if checked else {}
        click.echo(json.dumps(report | {"evaluation": evaluation} | gated, indent=1))
    else:
        Console().print(render(evaluation, checked))
    if any(not one.passed for one in checked):
        raise SystemExit(1)


def evaluated(reference: Reference, examples: DomainData) -> dict[str, Any]:
    """The quality report of an opened ticket on a domain's test split."""
    logits = with_last_column(reference.logits(examples.test.texts), len(examples.labels))
    report: dict[str, Any] = dict(
        measure(logits, examples.test.targets, _kinds(examples), calibrated_of(reference.bundle))
    )
    return report | {"bytes": reference.bundle.size_bytes}


def calibrated_of(bundle: Bundle) -> Calibrated:
    """A ticket's frozen temperature and threshold."""
    calibration = bundle.manifest.calibration
    scheme: Literal["class", "max_probability"] = "class" if calibration.out_of_scope == "class" else "max_probability"
    return Calibrated(calibration.temperature, calibration.threshold, scheme)


def _check_labels(bundle: Bundle, examples: DomainData) -> None:
    if list(examples.labels) != bundle.manifest.labels:
        raise DataError(f"the data's labels for domain {bundle.manifest.domain!r} are not the ticket's labels")


def _answering(reference: Reference, examples: DomainData) -> Callable[[Sequence[str]], Floats]:
    return lambda texts: with_last_column(reference.logits(list(texts)), len(examples.labels))


def _kinds(examples: DomainData) -> Any:  # noqa: ANN401 - an array of str
    import numpy as np

    return np.asarray(examples.test.kinds)
