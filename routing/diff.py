"""The differences between two routing tables, as paths and words. Pure: two tables in, a list out.

Owns how a change of the table is said to people and programs (`tombola route diff`, ``GET /v1/table/diff``, the audit
log). Tickets of a family are matched by their id, so that an insertion is one difference; hashes of keys and ids are
shortened. Versions are not compared: two tables that route alike have no differences.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from routing.consistency import join
from routing.table import Domain, FamilyTicket, Table, Tenant

SHORT_DIGITS = 12
"""Of a ticket's id or a key's hash, what people see."""
_LONG_HEX = re.compile(r"[0-9a-f]{40,}")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the newer table has, lacks, or has otherwise; ``str()`` is a line for people."""

    path: str
    """Where: ``tenants.acme.domains.home.tiers.fast.deadline_ms``."""
    kind: Literal["added", "removed", "changed"]
    words: str
    """What: ``100 -> 50``, ``a new ticket: tier fast, registered, quality 0.95``."""
    before: Any = None
    after: Any = None
    """The values where it was ``changed`` and they are single ones."""

    def __str__(self) -> str:
        """``path: words``."""
        return f"{self.path}: {self.words}"


def diff(old: Table | None, new: Table) -> list[Difference]:
    """All that has to be done to ``old`` (None: an empty table) to make it ``new``; order: families, then tenants."""
    return list(_walk(old or Table(), new))


def shorten(value: str) -> str:
    """A long hexadecimal id or hash as people see it; anything else unchanged."""
    return f"{value[:SHORT_DIGITS]}..." if _LONG_HEX.fullmatch(value) else value


def _walk(old: Table, new: Table) -> Iterator[Difference]:
    for path, name in _names("families", old.families, new.families):
        yield from _family(path, old.families.get(name), new.families.get(name))
    for path, name in _names("tenants", old.tenants, new.tenants):
        yield from _tenant(path, old.tenants.get(name), new.tenants.get(name))


def _family(path: str, old: list[FamilyTicket] | None, new: list[FamilyTicket] | None) -> Iterator[Difference]:
    if new is None or old is None:
        tickets = ", ".join(f"{ticket.tier} {shorten(ticket.id)}" for ticket in (old or new or []))
        yield _came_or_went(path, is_new=old is None, what=f"family of {tickets or 'no tickets'}")
        return
    before, after = {ticket.id: ticket for ticket in old}, {ticket.id: ticket for ticket in new}
    for identity in _order(before, after):
        at = f"{path}.{identity[:SHORT_DIGITS]}"
        was, is_now = before.get(identity), after.get(identity)
        if was is None or is_now is None:
            ticket = was or is_now
            assert ticket is not None
            facts = f"ticket: tier {ticket.tier}, {ticket.state}, quality {ticket.quality:g}, {ticket.service_ms:g} ms"
            yield _came_or_went(at, is_new=was is None, what=facts)
        else:
            yield from _fields(at, was, is_now, skip=("id",))


def _tenant(path: str, old: Tenant | None, new: Tenant | None) -> Iterator[Difference]:
    if new is None or old is None:
        domains = ", ".join(sorted((old or new or Tenant()).domains))
        what = f"tenant with domains {domains}" if domains else "tenant without domains"
        yield _came_or_went(path, is_new=old is None, what=what)
        return
    for digest in _order(dict.fromkeys(old.key_hashes), dict.fromkeys(new.key_hashes)):
        if (digest in old.key_hashes) != (digest in new.key_hashes):
            yield _came_or_went(f"{path}.key_hashes", is_new=digest in new.key_hashes, what=f"key {shorten(digest)}")
    yield from _fields(path, old, new, skip=("key_hashes", "domains"))
    for at, name in _names(f"{path}.domains", old.domains, new.domains):
        yield from _domain(at, old.domains.get(name), new.domains.get(name))


def _domain(path: str, old: Domain | None, new: Domain | None) -> Iterator[Difference]:
    if new is None or old is None:
        domain = old or new
        assert domain is not None
        yield _came_or_went(path, is_new=old is None, what=f"domain on family {domain.family}")
        return
    yield from _fields(path, old, new, skip=("tiers",))
    for at, name in _names(f"{path}.tiers", old.tiers, new.tiers):
        was, is_now = old.tiers.get(name), new.tiers.get(name)
        if was is None or is_now is None:
            tier = was or is_now
            assert tier is not None
            promise = f"tier: within {tier.deadline_ms:g} ms, quality >= {tier.quality_floor:g}"
            yield _came_or_went(at, is_new=was is None, what=promise)
        else:
            yield from _fields(at, was, is_now)


def _fields(path: str, old: msgspec.Struct, new: msgspec.Struct, skip: Sequence[str] = ()) -> Iterator[Difference]:
    """Differences of two structs of one kind, field by field; a struct inside is gone into where both have it."""
    for name in old.__struct_fields__:
        was, is_now = getattr(old, name), getattr(new, name)
        if name in skip or was == is_now:
            continue
        at = f"{path}.{name}"
        if isinstance(was, msgspec.Struct) and isinstance(is_now, msgspec.Struct):
            yield from _fields(at, was, is_now)
        elif was is None:
            yield Difference(path=at, kind="added", words=f"a new {name}: {_show(is_now)}")
        elif is_now is None:
            yield Difference(path=at, kind="removed", words=f"no {name} any more; it was {_show(was)}")
        else:
            shown = _show(was), _show(is_now)
            yield Difference(path=at, kind="changed", words=" -> ".join(shown), before=was, after=is_now)


def _came_or_went(path: str, *, is_new: bool, what: str) -> Difference:
    if is_new:
        return Difference(path=path, kind="added", words=f"a new {what}")
    return Difference(path=path, kind="removed", words=f"removed: {what}")


def _show(value: object) -> str:
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{name} {_show(getattr(value, name))}" for name in value.__struct_fields__)
    if isinstance(value, list):
        return ", ".join(map(_show, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.12g}"
    return shorten(str(value))


def _names(path: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in sorted({*old, *new}):
        yield join(path, name), name


def _order(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Every name once: those of ``new`` in its order, then those that are gone."""
    return [*new, *(name for name in old if name not in new)]
