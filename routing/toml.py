"""The routing document as TOML, for people to edit: what `routing.document` reads back into the same table.

Owns the text's shape: families as lists of tickets, domains under their tenants, tiers in one line each, and nothing
that is as it would be anyway. Keys appear as their hashes, which is all that a table knows of them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from routing.table import Domain, Table, Tenant

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump_toml(table: Table) -> str:
    """The table's families and tenants; its version is not part of the text."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: Table) -> Iterator[str]:
    for name, tickets in table.families.items():
        for ticket in tickets:
            yield f"[[families.{_key(name)}]]"
            yield from _pairs(_set(ticket))
            yield ""
    for name, tenant in table.tenants.items():
        yield f"[tenants.{_key(name)}]"
        yield from _tenant(name, tenant)


def _tenant(name: str, tenant: Tenant) -> Iterator[str]:
    facts = _set(tenant)
    facts.pop("domains", None)
    yield from _pairs({"key_hashes": tenant.key_hashes} | facts)
    yield ""
    for domain_name, domain in tenant.domains.items():
        path = f"tenants.{_key(name)}.domains.{_key(domain_name)}"
        yield f"[{path}]"
        yield from _domain(domain)
        yield ""
        yield f"[{path}.tiers]"
        yield from _pairs(domain.tiers)
        yield ""


def _domain(domain: Domain) -> Iterator[str]:
    facts = _set(domain)
    facts.pop("tiers", None)
    yield from _pairs(facts)


def _pairs(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{_key(name)} = {_value(value)}"


def _set(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields of a struct that are not as they would be if nobody wrote them."""
    found = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if value != default:
            found[field.name] = value
    return found


def _value(value: object) -> str:
    if isinstance(value, msgspec.Struct):
        return _value(_set(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _quoted(str(value))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A basic string: JSON's escapes are TOML's too, except that TOML wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
