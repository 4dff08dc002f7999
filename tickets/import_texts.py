"""Texts for an imported ticket: its evidence file, and the answers that are recorded with it.

Owns the forms that an evidence file may have (CSV or TSV with columns text and label, JSON lines, or the bundle's
own ``evidence.json``) and what a ticket answers when it is packed. What is measured on evidence is
`tickets.evidence`'s.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tickets.bundle import BundleError, read_bytes
from tickets.evidence import Answer, EvidenceSet, Measured, measure
from tickets.import_error import ImportedError
from tickets.reference import Reference, Samples

OUT_OF_SCOPE = frozenset({"", "oos", "out_of_scope", "out-of-scope"})
"""Labels that say that a text is of no label, unless the ticket has a label of that name."""
DEFAULT_SAMPLES = 8
Rows = Iterator[tuple[str, str | None]]


class _Line(msgspec.Struct, frozen=True):
    text: str
    label: str | None


def read_evidence(path: Path, labels: Sequence[str]) -> EvidenceSet:
    """The texts and labels of a file. Raises ImportedError (``evidence``) that says which line is at fault."""
    readers = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _lines, ".json": _whole}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ImportedError("evidence", f"{path.name}: use one of {', '.join(sorted(readers))}")
    try:
        rows = list(reader(read_bytes(path).decode("utf-8-sig"), path))
    except OSError as error:
        raise ImportedError("evidence", f"{path}: {error.strerror or error}") from error
    except (BundleError, UnicodeDecodeError, csv.Error, msgspec.DecodeError) as error:
        raise ImportedError("evidence", f"{path.name}: {error}") from error
    known = set(labels)
    found = [None if label is None or (label in OUT_OF_SCOPE and label not in known) else label for _, label in rows]
    for number, label in enumerate(found, start=1):
        if label is not None and label not in known:
            raise ImportedError("evidence", f"{path.name}: row {number} has the label {label!r}, which is not one")
    if not rows:
        raise ImportedError("evidence", f"{path.name} has no texts")
    return EvidenceSet(texts=[text for text, _ in rows], labels=found)


def record_texts(reference: Reference, texts: Sequence[str]) -> bytes:
    """The member ``samples.json``: what the ticket answers to these texts. Raises BundleError where it cannot."""
    answers = reference.classify(texts)
    samples = Samples(
        texts=list(texts),
        labels=[label if ok else None for label, ok in zip(answers.labels, answers.in_scope, strict=True)],
        probabilities=[[round(float(p), 6) for p in row] for row in answers.probabilities],
    )
    return msgspec.json.encode(samples)


def measured(reference: Reference, evidence: EvidenceSet) -> Measured:
    """What the ticket is worth on its evidence. Raises BundleError where it cannot answer."""
    found = reference.classify(evidence.texts)
    answers = [
        Answer(
            label=found.labels[row],
            in_scope=bool(found.in_scope[row]),
            confidence=float(found.confidence[row]),
            is_label_first=bool(found.probability[row] >= found.confidence[row]),
        )
        for row in range(len(evidence.texts))
    ]
    return measure(evidence, answers)


def _delimited(content: str, path: Path) -> Rows:
    reader = csv.DictReader(io.StringIO(content), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = [column.strip().lower() for column in reader.fieldnames or []]
    if "text" not in columns or "label" not in columns:
        raise ImportedError("evidence", f"{path.name} needs the columns text and label; it has: {', '.join(columns)}")
    reader.fieldnames = columns
    for number, record in enumerate(reader, start=2):
        if None in record or None in record.values():
            raise ImportedError("evidence", f"{path.name}, line {number}: expected {len(columns)} columns")
        yield record["text"], record["label"].strip()


def _lines(content: str, path: Path) -> Rows:
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            try:
                record = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError as error:
                raise ImportedError("evidence", f"{path.name}, line {number}: {error}") from error
            yield record.text, record.label


def _whole(content: str, path: Path) -> Rows:
    evidence = msgspec.json.decode(content, type=EvidenceSet)
    if len(evidence.labels) != len(evidence.texts):
        raise ImportedError("evidence", f"{path.name}: texts and labels do not have the same number of rows")
    return zip(evidence.texts, evidence.labels, strict=True)
