"""The decision, as a table that a product person can read: an ask, the workers, and what must come of it.

The banking family has three tickets: accurate (20 ms alone), balanced (10 ms), fast (2 ms), with
quality 0.97, 0.95 and 0.90. Tiers promise: accurate 100 ms, balanced 25 ms (the default), fast
10 ms, strict 50 ms at quality 0.96 or better, perfect 50 ms at 0.99. A ticket that a worker must
load first counts as 30 ms slower there.
"""

import msgspec
import pytest

from routing.decide import choose
from routing.table import Ask, Fleet, Refusal, Route, Tier, WorkerView
from tests.routing.tables import ACCURATE, BALANCED, FAST, OTHER, example_table

ALL = "accurate balanced fast"
NAMES = {"accurate": ACCURATE, "balanced": BALANCED, "fast": FAST}
TABLE = example_table()


def worker(name: str, wait_ms: float = 0.0, holds: str = ALL) -> WorkerView:
    """A worker that holds the named tickets and whose queue takes ``wait_ms``."""
    return WorkerView(name=name, holds=frozenset(NAMES[tier] for tier in holds.split()), wait_ms=wait_ms)


def decide(*workers: WorkerView, **ask: object) -> Route | Refusal:
    """The decision for acme's banking, unless ``ask`` says otherwise."""
    asked = msgspec.convert({"tenant": "acme", "domain": "banking", **ask}, Ask)
    return choose(asked, TABLE, Fleet(workers=workers))


IDLE = [worker("idle")]
BEST_ACCURATE = "best ticket of tier accurate within 100 ms"
BEST_BALANCED = "best ticket of tier balanced within 25 ms"
FOR_STRICT = "best ticket for tier strict within 50 ms: the one found for accurate"
ROUTES = [
    # what is asked                       workers                                    answers      on       because
    ({}, IDLE, BALANCED, "idle", BEST_BALANCED),
    ({"tier": "accurate"}, IDLE, ACCURATE, "idle", BEST_ACCURATE),
    ({"tier": "fast"}, IDLE, FAST, "idle", "best ticket of tier fast within 10 ms"),
    # a tier that no ticket was found for begins with the best ticket of the family
    ({"tier": "strict"}, IDLE, ACCURATE, "idle", FOR_STRICT),
    # the caller may shorten the promise, not lengthen it
    ({"deadline_ms": 12.0}, IDLE, BALANCED, "idle", "best ticket of tier balanced within 12 ms"),
    ({"deadline_ms": 99.0}, IDLE, BALANCED, "idle", BEST_BALANCED),
    # under load it steps down the family
    ({}, [worker("a", 16)], FAST, "a", "stepped down from balanced: predicted 26 ms > 25 ms on every worker"),
    ({"deadline_ms": 5.0}, IDLE, FAST, "idle", "stepped down from balanced: predicted 10 ms > 5 ms on every worker"),
    # and back up as soon as one worker has room
    ({}, [worker("a", 16), worker("b", 15)], BALANCED, "b", BEST_BALANCED),
    # the shortest queue wins; loading a ticket costs 30 ms
    ({"tier": "accurate"}, [worker("a", 9), worker("b", 5)], ACCURATE, "b", BEST_ACCURATE),
    ({"tier": "accurate"}, [worker("a", 29), worker("b", 0, "")], ACCURATE, "a", BEST_ACCURATE),
    ({"tier": "accurate"}, [worker("a", 31), worker("b", 0, "")], ACCURATE, "b", f"{BEST_ACCURATE}, loading it first"),
    # a tie goes to the worker that holds it
    ({"tier": "accurate"}, [worker("a", 30), worker("b", 0, "")], ACCURATE, "a", BEST_ACCURATE),
    # a ticket that nobody holds is loaded, although loading it takes longer than the deadline
    ({}, [worker("a", 0, "")], BALANCED, "a", f"{BEST_BALANCED}, loading it first"),
    ({}, [worker("a", 0, "fast")], BALANCED, "a", f"{BEST_BALANCED}, loading it first"),
    # but where somebody holds it, a cheaper ticket that is ready goes before another loading
    ({}, [worker("a", 31), worker("b", 0, "fast")], FAST, "b",
     "stepped down from balanced: predicted 40 ms > 25 ms on every worker"),
    # a busy ticket spreads to a free worker rather than refuse
    ({}, [worker("a", 99), worker("b", 0, "")], BALANCED, "b", f"{BEST_BALANCED}, loading it first"),
    # a pinned version is answered by that ticket or not at all
    ({"version": FAST[:8]}, IDLE, FAST, "idle", f"pinned to version {FAST[:8]}"),
    ({"version": ACCURATE}, IDLE, ACCURATE, "idle", f"pinned to version {ACCURATE}"),
    ({"version": ACCURATE, "tier": "strict"}, IDLE, ACCURATE, "idle", f"pinned to version {ACCURATE}"),
    # a worker that has failed this request is not asked again
    ({"not_workers": ["a"]}, [worker("a"), worker("b", 9)], BALANCED, "b", BEST_BALANCED),
    # a ticket that could not be loaded is passed over for the next of the family
    ({"tier": "accurate", "not_tickets": [ACCURATE]}, IDLE, BALANCED, "idle",
     "stepped down to balanced: a better ticket could not be loaded"),
]  # fmt: skip

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
    # the floor is a promise, also under load and for a pinned version
    ({"tier": "perfect"}, IDLE, "below_quality_floor", None, "quality 0.99; the best ticket that may answer has 0.97"),
    ({"tier": "strict", "version": FAST}, IDLE, "below_quality_floor", None, "the best ticket that may answer has 0.9"),
    ({"tier": "strict"}, [worker("a", 31)], "overloaded", 0.05, "no ticket is predicted to answer within 50 ms"),
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


def test_idle_workers_that_load_nothing_yet_share_tickets_out_by_rendezvous() -> None:
    """Each ticket has its own favourite, and losing another worker does not move it."""
    workers = [worker(f"w{i}", 0, "") for i in range(8)]
    favourites = {}
    for tier in ("accurate", "balanced", "fast"):
        route = decide(*workers, tier=tier)
        assert isinstance(route, Route)
        favourites[tier] = route.worker
    assert len(set(favourites.values())) > 1
    others = [w for w in workers if w.name not in favourites.values()]
    for lost in others:
        route = decide(*(w for w in workers if w is not lost), tier="accurate")
        assert isinstance(route, Route)
        assert route.worker == favourites["accurate"]


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
