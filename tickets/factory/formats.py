"""Data files: CSV, TSV, JSON lines and CLINC150's JSON, read into rows.

Owns columns and encodings. What the rows mean is decided in `tickets.factory.data`.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tickets.factory.rows import DataError, Row

TEXT_COLUMNS = ("text", "utterance", "query", "sentence")
LABEL_COLUMNS = ("label", "intent", "category")


def load_rows(path: Path, domains: Path | None = None, test: Path | None = None) -> list[Row]:
    """Read a data file by its suffix; the rows of ``test``, another file, are the test split.

    ``domains`` maps domain -> labels (JSON), for files without a domain column; CLINC150's JSON finds
    ``clinc150_domains.json`` or ``domains.json`` beside it.

    Raises DataError with the row or column at fault.
    """
    rows = _read(path)
    if test is not None:
        if any(row.split.lower() == "test" for row in rows):
            raise DataError(f"{path.name} has a test split of its own; do not name a second one ({test.name})")
        rows += [replace(row, split="test") for row in _read(test)]
    mapping = _domain_of_label(domains or _sibling_domains(path))
    if mapping:
        rows = [Row(r.text, r.label, r.split, r.domain or mapping.get(r.label, "")) for r in rows]
    return rows


def _read(path: Path) -> list[Row]:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"no such data file: {path}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from error
    readers = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _json_lines, ".json": _clinc}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name}: unknown data format; use {', '.join(sorted(readers))}")
    try:
        return list(reader(content, path))
    except csv.Error as error:
        raise DataError(f"{path.name}: {error}; is a quotation mark left open?") from error
    except RecursionError as error:
        raise DataError(f"{path.name}: JSON nested too deeply for labelled texts") from error


def _delimited(content: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(content), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = [c.strip().lower() for c in reader.fieldnames or []]
    reader.fieldnames = columns
    text, label = _column(columns, TEXT_COLUMNS, path), _column(columns, LABEL_COLUMNS, path)
    for number, record in enumerate(reader, start=2):
        if None in record or None in record.values():
            raise DataError(f"{path.name}, line {number}: expected {len(columns)} columns")
        yield Row(
            record[text], record[label].strip(), record.get("split", "").strip(), record.get("domain", "").strip()
        )


def _column(columns: list[str], wanted: tuple[str, ...], path: Path) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise DataError(
        f"{path.name} has no column {wanted[0]!r} (or {', '.join(wanted[1:])}); it has: {', '.join(columns)}"
    )


def _json_lines(content: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path.name}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path.name}, line {number}: expected an object")
        fields = {str(k).lower(): v for k, v in record.items()}
        text, label = _column(list(fields), TEXT_COLUMNS, path), _column(list(fields), LABEL_COLUMNS, path)
        values = (fields[text], fields[label], fields.get("split", ""), fields.get("domain", ""))
        if not all(isinstance(value, str) for value in values):
            raise DataError(f"{path.name}, line {number}: text, label, split and domain must be strings")
        yield Row(*values)


def _clinc(content: str, path: Path) -> Iterator[Row]:
    """CLINC150 (Larson et al. 2019): lists of [text, intent] under train, val, test and oos_*."""
    try:
        document: Any = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path.name}: not JSON ({error})") from error
    if not isinstance(document, dict) or "train" not in document:
        raise DataError(f"{path.name}: expected an object with train, val and test lists of [text, label]")
    for name, pairs in document.items():
        if not isinstance(pairs, list):
            raise DataError(f"{path.name}: {name} is not a list of [text, label] pairs")
        for number, pair in enumerate(pairs):
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)):
                raise DataError(f"{path.name}: {name}[{number}] is not a [text, label] pair")
            yield Row(pair[0], pair[1], name.removeprefix("oos_"))


def _sibling_domains(path: Path) -> Path | None:
    for name in ("clinc150_domains.json", "domains.json"):
        candidate = path.parent / name
        if path.suffix.lower() == ".json" and candidate.is_file() and candidate != path:
            return candidate
    return None


def _domain_of_label(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(label): str(domain) for domain, labels in document.items() for label in labels}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read the domains file {path}: {error}") from error
