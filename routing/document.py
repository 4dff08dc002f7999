"""The routing document: TOML or JSON in, a checked `Table` out, and back to JSON.

Owns reading: whatever leaves here is complete and consistent (`routing.consistency` says what
that means), its families are ordered, and it holds no API key in clear (authored ``keys``
become hashes on reading). Every problem is reported with its path, all at once. It knows no
Redis and no files beyond the one it is asked to read.
"""

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from routing.consistency import join, problems_of
from routing.keys import KEY_FORM, key_hash
from routing.table import Domain, FamilyName, FamilyTicket, Name, Table, Tenant, Tier

MAX_DOCUMENT_BYTES = 16 << 20

_T = TypeVar("_T")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)


class DocumentError(ValueError):
    """A document that must not become the table. ``problems`` has one ``path: reason`` each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read_document(path: Path) -> Table:
    """The table authored in a ``.toml`` or ``.json`` file. Raises DocumentError, or OSError."""
    with open(path, "rb") as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    return parse_json(data) if path.suffix.lower() == ".json" else parse_toml(data)


def parse_toml(data: bytes) -> Table:
    """The table that an authored TOML document describes. Raises DocumentError."""
    try:
        return from_data(tomllib.loads(_text(data)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DocumentError([f"document: not valid TOML: {error}"]) from error


def parse_json(data: bytes) -> Table:
    """The table that an authored JSON document describes. Raises DocumentError."""
    try:
        return from_data(json.loads(_text(data), object_pairs_hook=_unique, parse_constant=_no_constant))
    except DocumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise DocumentError([f"document: not valid JSON: {error}"]) from error


def from_data(data: object) -> Table:
    """The table described by parsed TOML or JSON. Raises DocumentError with every problem's path."""
    reader = _Reader()
    table = reader.table(data)
    if reader.problems:
        raise DocumentError(reader.problems)
    return check(table)


def load_json(data: bytes) -> Table:
    """A table as `dump_json` wrote it: quick, and as strict. Raises DocumentError."""
    _bound(data)
    try:
        return check(msgspec.json.decode(data, type=Table))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DocumentError([f"document: {error}"]) from error


def dump_json(table: Table, *, indent: int | None = None) -> bytes:
    """The table as JSON; the same table gives the same bytes."""
    data = msgspec.json.encode(table, order="deterministic")
    return data if indent is None else msgspec.json.format(data, indent=indent)


def check(table: Table) -> Table:
    """The same table with its families in order, once every reference in it holds. Raises DocumentError."""
    problems = list(problems_of(table))
    if problems:
        raise DocumentError(problems)
    families = {name: sorted(tickets, key=_cost_order) for name, tickets in table.families.items()}
    return table if families == table.families else msgspec.structs.replace(table, families=families)


def _cost_order(ticket: FamilyTicket) -> tuple[float, float, str]:
    """Most expensive first; of two that cost the same, the better one."""
    return (-ticket.service_ms, -ticket.quality, ticket.id)


class _Reader:
    """Walks an authored document and notes what is wrong where, so that nobody fixes errors one by one."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def table(self, data: object) -> Table:
        fields = self._fields(data, "", Table.__struct_fields__)
        families = {
            name: self._family(value, path)
            for name, path, value in self._named(fields.get("families", {}), "families", FamilyName)
        }
        tenants = {
            name: self._tenant(value, path) for name, path, value in self._named(fields.get("tenants", {}), "tenants")
        }
        version = self._leaf({k: fields[k] for k in ("format", "version") if k in fields}, "", Table) or Table()
        return Table(version=version.version, families=families, tenants=tenants)

    def _family(self, value: object, path: str) -> list[FamilyTicket]:
        found = (self._leaf(item, f"{path}[{i}]", FamilyTicket) for i, item in enumerate(self._list(value, path)))
        return [ticket for ticket in found if ticket is not None]

    def _tenant(self, value: object, path: str) -> Tenant:
        fields = self._fields(value, path, ("keys", *Tenant.__struct_fields__))
        if "keys" not in fields and "key_hashes" not in fields:
            self.problems.append(f"{path}: needs keys or key_hashes (an empty list locks the tenant out)")
        hashes: dict[str, None] = {}  # an ordered set
        for i, key in enumerate(self._list(fields.get("keys", []), f"{path}.keys")):
            if isinstance(key, str) and KEY_FORM.fullmatch(key):
                hashes[key_hash(key)] = None
            else:  # never echo it: it may be a real key with a typing error
                self.problems.append(f"{path}.keys[{i}]: not an API key; make one with `tombola route key`")
        plain = {name: item for name, item in fields.items() if name not in ("keys", "domains")}
        written = self._leaf({"key_hashes": [], **plain, "domains": {}}, path, Tenant) or Tenant(
            key_hashes=[], domains={}
        )
        hashes |= dict.fromkeys(written.key_hashes)
        at = f"{path}.domains"
        domains = {name: self._domain(item, where) for name, where, item in self._named(fields.get("domains", {}), at)}
        kept = {k: v for k, v in domains.items() if v is not None}
        return msgspec.structs.replace(written, key_hashes=list(hashes), domains=kept)

    def _domain(self, value: object, path: str) -> Domain | None:
        fields = self._fields(value, path, Domain.__struct_fields__)
        tiers = {
            name: self._leaf(item, where, Tier)
            for name, where, item in self._named(fields.get("tiers", {}), f"{path}.tiers")
        }
        domain = self._leaf({**fields, "tiers": {}}, path, Domain)
        if domain is None:
            return None
        return msgspec.structs.replace(domain, tiers={k: v for k, v in tiers.items() if v is not None})

    def _fields(self, value: object, path: str, allowed: Sequence[str]) -> dict[str, object]:
        """The known fields of a mapping; unknown ones are noted."""
        found = self._mapping(value, path)
        for name in found:
            if name not in allowed:
                self.problems.append(f"{join(path, name)}: unknown field (known: {', '.join(allowed)})")
        return {name: item for name, item in found.items() if name in allowed}

    def _named(self, value: object, path: str, kind: type[str] = Name) -> list[tuple[str, str, object]]:
        """(name, path, item) of a mapping whose keys are ours to name; bad names are noted."""
        found = []
        for name, item in self._mapping(value, path).items():
            where = join(path, name)
            if self._leaf(name, where, kind) is not None:
                found.append((name, where, item))
        return found

    def _mapping(self, value: object, path: str) -> dict[str, object]:
        if isinstance(value, dict):
            return value
        self.problems.append(f"{path or 'document'}: expected a table of names, got {type(value).__name__}")
        return {}

    def _list(self, value: object, path: str) -> list[object]:
        if isinstance(value, list):
            return value
        self.problems.append(f"{path}: expected a list, got {type(value).__name__}")
        return []

    def _leaf(self, value: object, path: str, kind: type[_T]) -> _T | None:
        """``value`` as ``kind``, or None and a note."""
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, OverflowError, UnicodeError) as error:
            parts = _AT.fullmatch(str(error))
            what, where = (parts["what"], parts["where"]) if parts else (str(error), "")
            self.problems.append(f"{_dotted(path, where or '')}: {what[:1].lower()}{what[1:]}")
            return None


def _dotted(path: str, where: str) -> str:
    return f"{path}.{where}" if path and where else path or where or "document"


def _text(data: bytes) -> str:
    _bound(data)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DocumentError([f"document: not UTF-8: {error.reason} at byte {error.start}"]) from error


def _bound(data: bytes) -> None:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError([f"document: more than {MAX_DOCUMENT_BYTES} bytes"])


def _unique(pairs: list[tuple[str, _T]]) -> dict[str, _T]:
    found: dict[str, _T] = {}
    for name, value in pairs:
        if name in found:
            raise DocumentError([f"{json.dumps(name)}: written twice in one object"])
        found[name] = value
    return found


def _no_constant(name: str) -> float:
    raise DocumentError([f"document: {name} is not a number"])
