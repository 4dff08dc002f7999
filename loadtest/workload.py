"""What is sent: who asks (tenant and key), about which domain, under which tier, with which text; seeded.

Turns that into ready HTTP/1.1 request bytes, so that sending costs a few joins and no
encoder. Reads mixes (TOML) and text files (lines, CSV, JSON, JSON lines). When a request
is due belongs to `loadtest.schedule`, the socket to `loadtest.client`.
"""

import bisect
import csv
import itertools
import json
import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from loadtest.sentences import sentences_for

MAX_TEXTS = 1_000_000


class WorkloadError(ValueError):
    """A mix or text file that cannot be used; the message says where and what to change."""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of request. An empty ``tier`` leaves the choice to the server."""

    tenant: str
    key: str
    domain: str
    tier: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot stand in an HTTP header or be drawn by weight."""
        if not (self.key.isascii() and self.key.isprintable() and self.key.strip() == self.key and self.key):
            raise ValueError(f"the key of tenant {self.tenant!r} is not one line of printable ASCII")
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"a weight is above 0, not {self.weight}")
        if not self.domain:
            raise ValueError("a target names its domain")


class Request(NamedTuple):
    """One request, ready to be written to a socket."""

    target: Target
    payload: bytes
    expected: str = ""
    """What a good answer says, for readers that check it (`loadtest.send.Read`); empty: anything."""


class Requests(Protocol):
    """Where a load's requests come from."""

    def requests(self, seed: str | int) -> Iterator[Request]:
        """Requests without end; the same seed gives the same ones."""

    def examples(self) -> Iterator[Request]:
        """One request of each kind: what a preflight sends."""


class Workload:
    """Draws requests for a list of targets, each as often as its weight says.

    ``texts`` are used for every target; None takes the built-in ones of the target's domain.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        texts: Sequence[str] | None = None,
        *,
        base_path: str = "",
        host: str = "localhost",
        deadline_ms: float | None = None,
    ) -> None:
        if not targets:
            raise WorkloadError("a workload needs at least one target")
        self.targets = tuple(targets)
        self._cumulative = list(itertools.accumulate(target.weight for target in targets))
        self._texts = [_encode_texts(texts or sentences_for(target.domain)) for target in targets]
        self._parts = [_parts(target, base_path=base_path, host=host, deadline_ms=deadline_ms) for target in targets]

    def requests(self, seed: str | int) -> Iterator[Request]:
        """Requests without end. The same seed gives the same targets, texts and bytes."""
        draw = random.Random(f"workload/{seed}").random
        cumulative, total = self._cumulative, self._cumulative[-1]
        while True:
            index = min(bisect.bisect(cumulative, draw() * total), len(cumulative) - 1)
            texts = self._texts[index]
            yield self._request(index, texts[int(draw() * len(texts))])

    def examples(self) -> Iterator[Request]:
        """One request of each target, in order: what a preflight sends."""
        for index in range(len(self.targets)):
            yield self._request(index, self._texts[index][0])

    def _request(self, index: int, text: bytes) -> Request:
        head, body = self._parts[index]
        length = len(body) + len(text) + 1
        return Request(self.targets[index], b"%s%d\r\n\r\n%s%s}" % (head, length, body, text))


def _encode_texts(texts: Sequence[str]) -> list[bytes]:
    return [msgspec.json.encode(text) for text in texts]


def _parts(target: Target, *, base_path: str, host: str, deadline_ms: float | None) -> tuple[bytes, bytes]:
    """The bytes of a request before the content length, and the body's before the text."""
    fields: dict[str, object] = {"domain": target.domain}
    if target.tier:
        fields["tier"] = target.tier
    if deadline_ms is not None:
        fields["deadline_ms"] = deadline_ms
    head = (
        f"POST {base_path}/v1/classify HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tombola-load\r\n"
        f"Authorization: Bearer {target.key}\r\nContent-Type: application/json\r\nContent-Length: "
    )
    return head.encode("ascii"), msgspec.json.encode(fields)[:-1] + b',"text":'


def cross(
    tenants: Mapping[str, str], domains: Mapping[str, float], tiers: Mapping[str, float] | None = None
) -> list[Target]:
    """Every tenant (name to key) with every domain and tier (name to weight); weights multiply."""
    return [
        Target(tenant=tenant, key=key, domain=domain, tier=tier, weight=domain_weight * tier_weight)
        for tenant, key in tenants.items()
        for domain, domain_weight in domains.items()
        for tier, tier_weight in (tiers or {"": 1.0}).items()
    ]


def parse_weights(items: Sequence[str], option: str) -> dict[str, float]:
    """``["fast=3", "accurate"]`` to names and weights (1 where none is named). Raises WorkloadError."""
    weights: dict[str, float] = {}
    for item in items:
        name, _, weight = item.partition("=")
        try:
            weights[name] = float(weight) if weight else 1.0
        except ValueError:
            raise WorkloadError(f"{option} {item!r}: write NAME or NAME=WEIGHT, such as fast=3") from None
        if not name:
            raise WorkloadError(f"{option} {item!r}: the name is missing")
    return weights


def read_mix(path: Path, environ: Mapping[str, str]) -> list[Target]:
    """The targets of a TOML file: ``[[target]]`` tables with tenant, key or key_env, domain, tier, weight.

    ``key_env`` names the environment variable that holds the key, so that the file holds no secret.
    Raises WorkloadError.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = msgspec.convert(document.get("target", []), list[dict[str, Any]])
        targets = [msgspec.convert(_with_key(table, environ), Target) for table in tables]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise WorkloadError(f"{path}: {error}") from error
    if not targets:
        raise WorkloadError(f"{path}: no [[target]] table")
    return targets


def _with_key(table: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    if "key_env" not in table:
        return table
    name = table["key_env"]
    if not environ.get(name):
        raise WorkloadError(f"the environment variable {name} is not set (key_env)")
    return {field: value for field, value in table.items() if field != "key_env"} | {"key": environ[name]}


def read_texts(path: Path) -> list[str]:
    """The texts of a file: ``.csv`` and ``.json``/``.jsonl`` by their ``text`` column, else one a line.

    Duplicates stay (they are part of a load's shape), empty ones go. Raises WorkloadError.
    """
    try:
        texts = [text for text in _raw_texts(path) if text.strip()]
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: not UTF-8: {error}") from error
    except (OSError, json.JSONDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path}: {error}") from error
    if not texts:
        raise WorkloadError(f"{path}: holds no text")
    return texts[:MAX_TEXTS]


def _raw_texts(path: Path) -> Iterator[str]:
    content = path.read_text(encoding="utf-8-sig")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = csv.DictReader(content.splitlines(keepends=True))
        if "text" not in (rows.fieldnames or []):
            raise WorkloadError(f"{path}: no column named text; found {', '.join(rows.fieldnames or ['none'])}")
        yield from (row["text"] or "" for row in rows)
    elif suffix in (".jsonl", ".ndjson"):
        yield from (_text_of(json.loads(line), path) for line in content.splitlines() if line.strip())
    elif suffix == ".json":
        document = json.loads(content)
        if not isinstance(document, list):
            raise WorkloadError(f"{path}: a list of texts, or of objects with a text member, is expected")
        yield from (_text_of(item, path) for item in document)
    else:
        yield from content.splitlines()


def _text_of(item: object, path: Path) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise WorkloadError(f"{path}: an item without a text: {str(item)[:80]}")
    return text
