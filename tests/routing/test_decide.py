"""The decision, as a table that a product person can read: an ask, the workers, and what must come of it.

The banking family has three tickets: accurate (20 ms alone), balanced (10 ms), fast (2 ms), with
quality 0.97, 0.95 and 0.90. Tiers promise: accurate 100 ms, balanced 25 ms (the default), fast
10 ms, strict 50 ms at quality 0.96 or better, perfect 50 ms at 0.99. A ticket that a worker must
load first counts as 30 ms slower there. Workers that hold a ticket say that it costs there what
the table says, and nothing for further rows, where a row of the table below does not change that.
"""

from collections.abc import Mapping

import msgspec
import pytest

from routing.cost import Cost
from routing.decide import choose
from routing.table import Ask, Fleet, Refusal, Route, Table, Tier, WorkerView
from tests.routing.tables import ACCURATE, BALANCED, FAST, OTHER, example_table

ALL = "accurate balanced fast"
NAMES = {"accurate": ACCURATE, "balanced": BALANCED, "fast": FAST}
SERVICE_MS = {"accurate": 20.0, "balanced": 10.0, "fast": 2.0}
TABLE = example_table()


def worker(
    name: str, wait_ms: float = 0.0, holds: str = ALL, *, spread: float = 0.0, row_ms: float = 0.0
) -> WorkerView:
    """A worker that holds the named tickets and that is busy with a batch for another ``wait_ms``."""
    costs = {NAMES[tier]: Cost(SERVICE_MS[tier] - row_ms, row_ms, 0.0, spread) for tier in holds.split()}
    return WorkerView(name=name, costs=costs, running_ms=wait_ms)


def queue(name: str, tenants: Mapping[str, float], running_ms: float = 0.0) -> WorkerView:
    """A worker that holds everything, with so many milliseconds of each tenant waiting; all weights are 1."""
    waiting = {"queued_ms": sum(tenants.values()), "tenants": tenants, "active_weight": float(len(tenants))}
    return msgspec.structs.replace(worker(name), running_ms=running_ms, **waiting)


def decide(*workers: WorkerView, **ask: object) -> Route | Refusal:
    """The decision for acme's banking, unless ``ask`` says otherwise."""
    return decide_by(TABLE, *workers, **ask)


def decide_by(table: Table, *workers: WorkerView, **ask: object) -> Route | Refusal:
    """As `decide`, by another table."""
    asked = msgspec.convert({"tenant": "acme", "domain": "banking", **ask}, Ask)
    return choose(asked, table, Fleet(workers=workers))


IDLE = [worker("idle")]
BEST_ACCURATE = "best ticket of tier accurate within 100 ms"
BEST_BALANCED = "best ticket for tier balanced within 25 ms: the one found for accurate"
FOR_STRICT = "best ticket for tier strict within 50 ms: the one found for accurate"
ROUTES = [
    # what is asked                       workers                                    answers      on       because
    # the best ticket of the family that makes it, whatever tier it was found for
    ({}, IDLE, ACCURATE, "idle", BEST_BALANCED),
    ({"tier": "accurate"}, IDLE, ACCURATE, "idle", BEST_ACCURATE),
    ({"tier": "strict"}, IDLE, ACCURATE, "idle", FOR_STRICT),
    ({"tier": "fast"}, IDLE, BALANCED, "idle", "stepped down from accurate: predicted 20 ms > 10 ms on every worker"),
    # the caller may shorten the promise, not lengthen it
    ({"deadline_ms": 20.0}, IDLE, ACCURATE, "idle",
     "best ticket for tier balanced within 20 ms: the one found for accurate"),
    ({"deadline_ms": 12.0}, IDLE, BALANCED, "idle",
     "stepped down from accurate: predicted 20 ms > 12 ms on every worker"),
    ({"deadline_ms": 99.0}, IDLE, ACCURATE, "idle", BEST_BALANCED),
    # under load it steps down the family
    ({}, [worker("a", 6)], BALANCED, "a", "stepped down from accurate: predicted 26 ms > 25 ms on every worker"),
    ({}, [worker("a", 16)], FAST, "a", "stepped down from accurate: predicted 36 ms > 25 ms on every worker"),
    # and back up as soon as one worker has room
    ({}, [worker("a", 16), worker("b", 5)], ACCURATE, "b", BEST_BALANCED),
    # a worker whose predictions have been 10 % off must make it with 20 % to spare
    ({}, [worker("a", 0, spread=0.1)], ACCURATE, "a", BEST_BALANCED),
    ({}, [worker("a", 1, spread=0.1)], BALANCED, "a",
     "stepped down from accurate: predicted 25.2 ms > 25 ms on every worker"),
    # the one that needs the least of its deadline wins, so predictable workers are preferred
    ({}, [worker("a", 1, spread=0.0), worker("b", 0, spread=0.1)], ACCURATE, "a", BEST_BALANCED),
    # predictions that are far off are believed up to a point, or nobody would ever ask again
    ({"tier": "accurate"}, [worker("a", 0, spread=99.0)], ACCURATE, "a", BEST_ACCURATE),
    # the shortest queue wins
    ({"tier": "accurate"}, [worker("a", 9), worker("b", 5)], ACCURATE, "b", BEST_ACCURATE),
    # many rows cost more
    ({"rows": 16}, [worker("a", row_ms=1.0)], BALANCED, "a",
     "stepped down from accurate: predicted 35 ms > 25 ms on every worker"),
    # holders are preferred while they make it, however idle the others are
    ({"tier": "accurate"}, [worker("a", 80), worker("b", 0, "")], ACCURATE, "a", BEST_ACCURATE),
    # a ticket spreads when its holders are too busy, and loading it (30 ms) fits the deadline
    ({"tier": "accurate"}, [worker("a", 81), worker("b", 0, "")], ACCURATE, "b", f"{BEST_ACCURATE}, loading it first"),
    # before a refusal, although this request may be late
    ({}, [worker("a", 99), worker("b", 0, "")], ACCURATE, "b", f"{BEST_BALANCED}, loading it first"),
    # where loading does not fit, a ticket that is ready goes before it
    ({}, [worker("a", 31), worker("b", 0, "fast")], FAST, "b",
     "stepped down from accurate: predicted 51 ms > 25 ms on every worker"),
    ({}, [worker("a", 0, "fast")], FAST, "a",
     "stepped down from accurate: no worker has it in memory and time to answer"),
    # where nothing is ready, the best that would make it is loaded
    ({}, [worker("a", 0, "")], ACCURATE, "a", f"{BEST_BALANCED}, loading it first"),
    # a pinned version is answered by that ticket or not at all
    ({"version": FAST[:8]}, IDLE, FAST, "idle", f"pinned to version {FAST[:8]}"),
    ({"version": ACCURATE}, IDLE, ACCURATE, "idle", f"pinned to version {ACCURATE}"),
    ({"version": ACCURATE, "tier": "strict"}, IDLE, ACCURATE, "idle", f"pinned to version {ACCURATE}"),
    # a worker that has failed this request is not asked again
    ({"not_workers": ["a"]}, [worker("a"), worker("b", 5)], ACCURATE, "b", BEST_BALANCED),
    # a ticket that could not be loaded is passed over for the next of the family
    ({"tier": "accurate", "not_tickets": [ACCURATE]}, IDLE, BALANCED, "idle",
     "stepped down to balanced: a better ticket could not be loaded"),
    # the ladder passes over the best for a while, but never over all
    ({"skip": 1}, IDLE, BALANCED, "idle", "stepped down from accurate: more than the workers can carry for now"),
    ({"skip": 1}, [worker("a", 16)], FAST, "a", "stepped down from balanced: predicted 26 ms > 25 ms on every worker"),
    ({"skip": 9}, IDLE, FAST, "idle", "stepped down from accurate: more than the workers can carry for now"),
    ({"skip": 9, "tier": "strict"}, IDLE, ACCURATE, "idle", FOR_STRICT),
    # another tenant's queue delays by 10 ms at most; the tenant's own at its share of the worker
    ({"tier": "accurate"}, [queue("a", {"globex": 9e9})], ACCURATE, "a", BEST_ACCURATE),
    ({"tier": "accurate"}, [queue("a", {"globex": 9e9, "acme": 35.0})], ACCURATE, "a", BEST_ACCURATE),
    ({"tier": "accurate"}, [queue("a", {"globex": 9e9, "acme": 36.0})], BALANCED, "a",
     "stepped down from accurate: predicted 102 ms > 100 ms on every worker"),
    # but never more than all that waits
    ({"tier": "accurate"}, [queue("a", {"globex": 1.0, "acme": 79.0})], ACCURATE, "a", BEST_ACCURATE),
    # what runs already is waited for in full
    ({"tier": "accurate"}, [queue("a", {"globex": 9e9}, 71.0)], BALANCED, "a",
     "stepped down from accurate: predicted 101 ms > 100 ms on every worker"),
]  # fmt: skip


def test_who_pins_a_version_and_names_no_tier_gets_it_whatever_its_quality() -> None:
    strict = msgspec.structs.replace(TABLE.tenants["acme"].domains["banking"], default_tier="strict")
    tenant = msgspec.structs.replace(TABLE.tenants["acme"], domains={"banking": strict})
    table, fleet = msgspec.structs.replace(TABLE, tenants={"acme": tenant}), Fleet(workers=(worker("a"),))
    pinned = choose(Ask(tenant="acme", domain="banking", version=FAST), table, fleet)
    assert isinstance(pinned, Route)
    assert pinned.ticket == FAST
    named = choose(Ask(tenant="acme", domain="banking", version=FAST, tier="strict"), table, fleet)
    assert isinstance(named, Refusal)


REFUSALS = [
    # what is asked                       workers    code                   retry  says
    ({"tenant": "nobody"}, IDLE, "unknown_domain", None, "unknown domain 'banking'"),
    ({"domain": "poetry"}, IDLE, "unknown_domain", None, "unknown domain 'poetry'"),
    ({"tier": "gold"}, IDLE, "unknown_tier", None, "no tier 'gold'; its tiers: accurate, balanced, fast"),
    ({"version": "ab"}, IDLE, "unknown_version", None, "at least its first 8 hex digits"),
    ({"version": FAST[:8].upper()}, IDLE, "unknown_version", None, "at least its first 8 hex digits"),
    ({"version": FAST + "c"}, IDLE, "unknown_version", None, "at least its first 8 hex digits"),
    ({"version": "12345678"}, IDLE, "unknown_version", None, "no ticket that serves this domain has it"),
    ({"version": OTHER}, IDLE, "unknown_version", None, "no ticket that serves this domain has it"),
    # the floor is a promise, also under load, for a version that is pinned in a tier by name, and on the ladder
    ({"tier": "perfect"}, IDLE, "below_quality_floor", None, "quality 0.99; the best ticket that may answer has 0.97"),
    ({"tier": "strict", "version": FAST}, IDLE, "below_quality_floor", None, "the best ticket that may answer has 0.9"),
    ({"tier": "strict"}, [worker("a", 31)], "overloaded", 0.05, "no ticket is predicted to answer within 50 ms"),
    ({"tier": "strict", "skip": 1}, [worker("a", 31)], "overloaded", 0.05, "no ticket is predicted to answer"),
    # a floor and a pinned version hold where tickets could not be loaded, too
    ({"tier": "strict", "not_tickets": [ACCURATE]}, IDLE, "below_quality_floor", None, "the best ticket that may"),
    ({"version": FAST, "not_tickets": [FAST]}, IDLE, "below_quality_floor", None, "the best ticket that may"),
    # nobody there
    ({}, [], "no_worker", 1.0, "no worker can be reached"),
    ({"not_workers": ["a"]}, [worker("a")], "no_worker", 1.0, "no worker can be reached"),
    # queues that are too long, for every ticket and with every worker
    ({}, [worker("a", 24), worker("b", 70, "")], "overloaded", 0.05, "the shortest queue is 24 ms"),
    ({}, [worker("a", 51), worker("b", 70)], "overloaded", 0.1, "the shortest queue is 51 ms"),
    ({}, [worker("a", 1500)], "overloaded", 2.0, "the shortest queue is 1500 ms"),
    ({}, [worker("a", float("inf"))], "overloaded", 60.0, "no ticket is predicted"),
    ({}, [worker("a", float("nan"))], "overloaded", 60.0, "no ticket is predicted"),
    # the margin counts
    ({"deadline_ms": 2.2}, [worker("a", spread=0.1)], "overloaded", None, "could work is 2.4 ms"),
    # a tenant's own flood is refused for itself, and tried again later
    ({}, [queue("a", {"acme": 600.0})], "overloaded", 0.6, "the shortest queue is 600 ms"),
    ({}, [queue("a", {"acme": 600.0, "globex": 5.0})], "overloaded", 0.65, "the shortest queue is 605 ms"),
    ({"version": ACCURATE, "tier": "fast"}, IDLE, "overloaded", None, "the smallest deadline that could work is 20 ms"),
    # deadlines that no idle worker could make: trying again does not help
    ({"deadline_ms": 1.5}, IDLE, "overloaded", None, "the smallest deadline that could work is 2 ms"),
    ({"deadline_ms": 0.0}, IDLE, "overloaded", None, "the smallest deadline that could work is 2 ms"),
    ({"deadline_ms": -7.0}, [worker("a", 900)], "overloaded", None, "the smallest deadline that could work is 2 ms"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "workers", "ticket", "name", "because"), ROUTES)
def test_routes(ask: dict[str, object], workers: list[WorkerView], ticket: str, name: str, because: str) -> None:
    """The ticket, the worker and the reason that stand in the table above."""
    route = decide(*workers, **ask)
    assert isinstance(route, Route)
    assert (route.ticket, route.worker, route.because) == (ticket, name, because)


@pytest.mark.parametrize(("ask", "workers", "code", "retry_after_s", "says"), REFUSALS)
def test_refusals(
    ask: dict[str, object], workers: list[WorkerView], code: str, retry_after_s: float | None, says: str
) -> None:
    """The code, the time to wait and the words that stand in the table above."""
    refusal = decide(*workers, **ask)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after_s) == (code, retry_after_s)
    assert says in refusal.message


def test_a_route_names_its_tier_and_the_deadline_that_holds() -> None:
    route = decide(*IDLE, deadline_ms=12.0)
    assert isinstance(route, Route)
    assert (route.tier, route.deadline_ms) == ("balanced", 12.0)


def test_another_tenants_domain_is_refused_in_the_words_for_one_that_exists_nowhere() -> None:
    """Globex has travel and acme has not; nobody has poetry. acme must not be able to tell."""
    travel, poetry = decide(*IDLE, domain="travel"), decide(*IDLE, domain="poetry")
    assert isinstance(travel, Refusal)
    assert isinstance(poetry, Refusal)
    assert travel.message.replace("travel", "poetry") == poetry.message
    assert msgspec.structs.replace(travel, message="") == msgspec.structs.replace(poetry, message="")


def test_an_ambiguous_version_is_refused_and_a_longer_prefix_is_not() -> None:
    twin = msgspec.structs.replace(TABLE.families["banking"][1], id=ACCURATE[:10] + "0" * 54)
    families = {**TABLE.families, "banking": [TABLE.families["banking"][0], twin]}
    table = msgspec.structs.replace(TABLE, families=families)
    short = choose(Ask(tenant="acme", domain="banking", version=ACCURATE[:10]), table, Fleet(workers=tuple(IDLE)))
    longer = choose(
        Ask(tenant="acme", domain="banking", tier="accurate", version=ACCURATE[:11]), table, Fleet(workers=tuple(IDLE))
    )
    assert isinstance(short, Refusal)
    assert "2 tickets begin with it" in short.message
    assert isinstance(longer, Route)
    assert longer.ticket == ACCURATE


def test_a_prediction_is_without_margin_and_counts_loading() -> None:
    for found, predicted_ms in (
        (decide(worker("a", 2, spread=0.05)), 22.0),
        (decide(worker("a", 3, ""), tier="accurate"), 53.0),
    ):
        assert isinstance(found, Route)
        assert found.predicted_ms == predicted_ms


def test_weights_set_what_a_tenants_own_queue_counts() -> None:
    """With four fifths of the worker, 40 ms of its own take 50 ms; with one half, 80."""
    view = msgspec.structs.replace(queue("a", {"acme": 40.0, "globex": 9e9}), active_weight=5.0)
    tenant = msgspec.structs.replace(TABLE.tenants["acme"], weight=4.0)
    heavy = msgspec.structs.replace(TABLE, tenants={**TABLE.tenants, "acme": tenant})
    route = decide_by(heavy, view, tier="accurate")
    assert isinstance(route, Route)
    assert route.predicted_ms == 50.0 + 10.0 + 20.0


def test_what_a_caller_wrote_comes_back_bounded() -> None:
    """A refusal is not an amplifier, and stays encodable whatever was in the request."""
    for ask in ({"domain": "x" * 10_000}, {"tier": "x" * 10_000}, {"version": "x" * 10_000}, {"domain": "\ud800"}):
        refusal = choose(
            msgspec.structs.replace(Ask(tenant="acme", domain="banking"), **ask), TABLE, Fleet(workers=tuple(IDLE))
        )
        assert isinstance(refusal, Refusal)
        assert len(msgspec.json.encode(refusal)) < 400


def test_a_tier_whose_deadline_no_ticket_of_the_family_can_make_says_so() -> None:
    table = example_table(fast=Tier(deadline_ms=1.0))
    refusal = choose(Ask(tenant="acme", domain="banking", tier="fast"), table, Fleet(workers=tuple(IDLE)))
    assert isinstance(refusal, Refusal)
    assert refusal.message == (
        "no ticket can answer within 1 ms, however idle the workers: the smallest deadline that could work is 2 ms"
    )
