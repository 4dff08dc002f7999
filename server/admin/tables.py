"""The table as operators send and see it. Pure: documents in; a table, an event or an explanation out.

Owns what HTTP adds to `routing.document`: shortened hashes of keys, which may be sent back as they were shown, and
tenants that must not be lost unknowingly. Rights, HTTP and the commit belong to `server.admin.table_api`.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from routing.access import Caller
from routing.diff import Difference, diff, shorten
from routing.document import DocumentError, from_data, parse_json
from routing.event import Event
from routing.explain import Explanation
from routing.table import Ask, Domain, FamilyName, FamilyTicket, Name, Refusal, RefusalCode, Route, Table
from server.admin.edits import Standing
from server.errors import BadRequest, Conflict

EVENT_CHANGES = 100
"""So many differences are told one by one in the audit log."""
MAX_DIFFERENCES = 500
"""And so many in an answer."""
_MAX_PROBLEMS = 50
_SHORT_HASH = re.compile(r"[0-9a-f]{12}\.\.\.")
replace = msgspec.structs.replace


class TenantDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as a document says it and as it is shown."""

    keys: list[Annotated[str, Meta(pattern=r"^tk_[A-Za-z0-9_-]{16,128}\Z")]] = []
    """Keys that may call, in clear: only their hashes are kept, and nothing shows them again."""
    key_hashes: list[Annotated[str, Meta(pattern=r"^([0-9a-f]{64}|[0-9a-f]{12}\.\.\.)\Z")]] = []
    """Of keys that may call; shown shortened, and may be sent back so. A tenant needs this or ``keys``."""
    domains: dict[Name, Domain] = {}
    weight: Annotated[float, Meta(ge=0.01, le=1000.0)] = 1.0
    reserved_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0


class TableDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A table as a document says it and as it is shown. It is read by `parse`; this is its description."""

    format: Literal[1] = 1
    version: Annotated[int, Meta(ge=0)] = 0
    """Of the one that is shown; where one is sent, `If-Match` counts, and not this."""
    families: dict[FamilyName, list[FamilyTicket]] = {}
    tenants: dict[Name, TenantDocument] = {}


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request that is not made, to be told what would become of it now, on this gateway."""

    tenant: Annotated[str, Meta(max_length=64)]
    domain: Annotated[str, Meta(max_length=64)]
    tier: Annotated[str, Meta(max_length=64)] | None = None
    version: Annotated[str, Meta(max_length=64)] | None = None
    """A ticket id, or at least 8 hex digits of one, where it pins one."""
    deadline_ms: Annotated[float, Meta(ge=0.0, le=600_000.0)] | None = None
    rows: Annotated[int, Meta(ge=1, le=128)] = 1
    row_bytes: Annotated[int, Meta(ge=0, le=1 << 20)] = 40
    skip: Annotated[int, Meta(ge=0, le=100)] = 0
    """Suppose that load has brought it so many steps down its family."""

    def ask(self) -> Ask:
        """As `routing.decide` takes it."""
        return msgspec.convert(msgspec.structs.asdict(self), Ask)


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket of the family, and why it was taken or passed over."""

    ticket: str
    tier: str
    state: str
    quality: float
    service_ms: float
    is_chosen: bool
    why: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of the request: a ticket on a worker, or a refusal; and why."""

    table_version: int
    because: str
    """Why this ticket, or why none."""
    ticket: str | None = None
    worker: str | None = None
    predicted_ms: float | None = None
    refusal: RefusalCode | None = None
    tier: str | None = None
    deadline_ms: float | None = None
    quality_floor: float | None = None
    policy: str | None = None
    considered: list[Considered] = []
    """Every ticket of the family, in the order of choice."""


def parse(body: bytes, standing: Table) -> Table:
    """The table in a JSON document; hashes of keys may be shortened as `shown` does it. Raises DocumentError."""
    if b'..."' not in body:
        return parse_json(body)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return parse_json(body)  # which says what is wrong
    if not _lengthen(data, standing):
        return parse_json(body)
    try:
        parse_json(body)  # for what only the text shows: a name that is written twice
    except DocumentError as error:
        if any("written twice" in problem for problem in error.problems):
            raise
    return from_data(data)


def shown(table: Table) -> Table:
    """The table with the hashes of keys shortened, as everybody sees it."""
    tenants = {
        name: replace(row, key_hashes=[shorten(digest) for digest in row.key_hashes])
        for name, row in table.tenants.items()
    }
    return replace(table, tenants=tenants)


def check_drops(standing: Standing, new: Table) -> None:
    """Raise Conflict where ``new`` takes the routes of tenants away who have accounts."""
    dropped = sorted(name for name in standing.table.tenants.keys() - new.tenants.keys() if name in standing.accounts)
    if dropped:
        names = ", ".join(dropped[:8]) + (f" and {len(dropped) - 8} more" if len(dropped) > 8 else "")
        raise Conflict(
            f"this table drops tenants that have accounts ({names}): nothing would answer them any more. Send "
            "drop_tenants=true if that is meant"
        )


def event(caller: Caller, action: str, old: Table, new: Table, reason: str = "", **facts: object) -> Event:
    """What the audit log is told of a new table."""
    changes = diff(old, new)
    lines = [str(change)[:500] for change in changes[:EVENT_CHANGES]]
    return Event(
        action=action, actor=caller.actor, subject="table", reason=reason, before={"version": old.version},
        after={"version": old.version + 1, "differences": len(changes), "changes": lines, **facts},
    )  # fmt: skip


def told(old: Table | None, new: Table) -> list[Difference]:
    """The differences of two tables; of very many, the first ones and how many more there are."""
    found = diff(old, new)
    if len(found) <= MAX_DIFFERENCES:
        return found
    more = Difference(path="", kind="changed", words=f"and {len(found) - MAX_DIFFERENCES} more differences")
    return [*found[:MAX_DIFFERENCES], more]


def refusal(problems: Sequence[str]) -> BadRequest:
    """What is said of a document that must not become the table."""
    more = f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
    return BadRequest("this cannot become the table: " + "; ".join(problems[:_MAX_PROBLEMS]) + more)


def answer(explanation: Explanation, table_version: int) -> Answer:
    """An explanation as it is told over HTTP."""
    outcome = explanation.outcome
    facts: dict[str, Any] = (
        {"ticket": outcome.ticket, "worker": outcome.worker, "predicted_ms": round(outcome.predicted_ms, 3)}
        if isinstance(outcome, Route)
        else {"refusal": outcome.code}
    )
    considered = [
        Considered(
            ticket=item.ticket.id, tier=item.ticket.tier, state=item.ticket.state, quality=item.ticket.quality,
            service_ms=item.ticket.service_ms, is_chosen=item.is_chosen, why=item.why,
        )
        for item in explanation.considered
    ]  # fmt: skip
    return Answer(
        table_version=table_version, because=outcome.message if isinstance(outcome, Refusal) else outcome.because,
        tier=explanation.tier, deadline_ms=explanation.deadline_ms, quality_floor=explanation.quality_floor,
        policy=explanation.policy, considered=considered, **facts,
    )  # fmt: skip


def _lengthen(data: object, standing: Table) -> bool:
    """Put whole hashes in the place of shortened ones, where the standing table knows which is meant."""
    changed = False
    tenants = data.get("tenants") if isinstance(data, dict) else None
    for name, row in tenants.items() if isinstance(tenants, dict) else ():
        known = standing.tenants.get(name)
        hashes = row.get("key_hashes") if isinstance(row, dict) else None
        if known is None or not isinstance(hashes, list):
            continue
        whole = {shorten(digest): digest for digest in known.key_hashes}
        for i, digest in enumerate(hashes):
            if isinstance(digest, str) and _SHORT_HASH.fullmatch(digest) and digest in whole:
                hashes[i] = whole[digest]
                changed = True
    return changed
