"""The lifecycle: which moves are legal, what each leaves behind, and what an illegal one says."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from routing.document import check
from routing.event import Event
from routing.lifecycle import LifecycleError, find_ticket, promote, register, retire, rollback, start_canary, withdraw
from routing.table import Cascade, Domain, FamilyTicket, Table, TicketState, Tier
from tests.routing.tables import ACCURATE, BALANCED, FAST, OTHER, example_table

NEW, NEWER, THIRD = "1a" * 32, "2b" * 32, "3c" * 32
ACME: dict[str, Any] = {"tenant": "acme", "actor": "tenant/acme/0123456789ab"}
HOME: dict[str, Any] = {**ACME, "domain": "banking"}


def made(ticket: str = NEW, **changes: Any) -> FamilyTicket:
    figures: dict[str, Any] = {"tier": "fast", "quality": 0.92, "service_ms": 3.0, "bytes": 4096}
    return FamilyTicket(id=ticket, **(figures | changes))


def registered(*tickets: str, table: Table | None = None) -> Table:
    """Acme's banking with these tickets of tier fast registered."""
    table = table or example_table()
    for number, ticket in enumerate(tickets):
        table, _ = register(table, **HOME, tier="fast", ticket=made(ticket, service_ms=3.0 + number))
    return check(table)


def states(table: Table, tenant: str = "acme", domain: str = "banking") -> dict[str, TicketState]:
    return {ticket.id: ticket.state for ticket in table.families[home(table, tenant, domain).family]}


def home(table: Table, tenant: str = "acme", domain: str = "banking") -> Domain:
    return table.tenants[tenant].domains[domain]


class TestRegister:
    def test_a_shared_family_is_copied_before_it_changes(self) -> None:
        table, event = register(example_table(), **HOME, tier="fast", ticket=made())
        assert table.families["banking"] == example_table().families["banking"]
        assert home(table).family == "acme/banking"
        assert states(table) == dict.fromkeys((ACCURATE, BALANCED, FAST), "promoted") | {NEW: "registered"}
        assert check(table) == table
        assert (event.action, event.subject, event.tenant) == ("ticket.register", NEW, "acme")
        assert event.after["bytes"] == 4096

    def test_a_family_of_its_own_is_kept(self) -> None:
        table = registered(NEW, NEWER)
        assert sorted(table.families) == ["acme/banking", "banking", "travel"]

    def test_what_the_bundle_says_of_its_state_does_not_count(self) -> None:
        table, _ = register(
            example_table(), **HOME, tier="fast", ticket=made(state="promoted", replaces=[FAST], tier="x")
        )
        _, found = find_ticket(table, "acme", NEW)
        assert (found.state, found.replaces, found.tier) == ("registered", [], "fast")

    def test_a_domain_that_is_not_there_is_made_and_answers_nothing_yet(self) -> None:
        table, _ = register(example_table(), **ACME, domain="cooking", tier="slow", ticket=made())
        cooking = home(check(table), domain="cooking")
        assert (cooking.family, cooking.default_tier) == ("acme/cooking", "slow")
        assert cooking.tiers == {"slow": Tier(deadline_ms=100.0)}
        assert states(table, domain="cooking") == {NEW: "registered"}

    def test_a_tier_that_is_not_there_is_made_with_its_promise(self) -> None:
        table, _ = register(example_table(), **HOME, tier="slow", ticket=made(), deadline_ms=300.0, quality_floor=0.9)
        assert home(table).tiers["slow"] == Tier(deadline_ms=300.0, quality_floor=0.9)

    def test_twice_is_a_conflict_and_a_tenant_must_be_there(self) -> None:
        with pytest.raises(LifecycleError, match="registered in domain banking already"):
            registered(NEW, NEW)
        with pytest.raises(LifecycleError) as refused:
            register(example_table(), tenant="nobody", domain="d", tier="t", ticket=made(), actor="x")
        assert refused.value.code == "unknown"

    def test_a_family_that_another_domain_uses_too_is_copied_even_where_it_is_the_tenants(self) -> None:
        table = registered(NEW)
        acme = table.tenants["acme"]
        twin = msgspec.structs.replace(acme, domains={**acme.domains, "twin": acme.domains["banking"]})
        table = check(msgspec.structs.replace(table, tenants={**table.tenants, "acme": twin}))
        after, _ = register(table, **ACME, domain="banking", tier="fast", ticket=made(NEWER))
        assert NEWER not in states(check(after), domain="twin")
        assert home(after).family == "acme/banking.2"


class TestFinding:
    def test_a_prefix_names_a_ticket_and_an_ambiguous_or_foreign_one_does_not(self) -> None:
        table = registered(NEW)
        assert find_ticket(table, "acme", NEW[:8])[0] == "banking"
        for tenant, prefix in (
            ("globex", NEW),
            ("acme", OTHER),
            ("nobody", NEW),
            ("acme", NEW[:7]),
            ("acme", "zz" * 8),
        ):
            with pytest.raises(LifecycleError) as refused:
                find_ticket(table, tenant, prefix)
            assert refused.value.code == "unknown"

    def test_of_a_ticket_in_two_domains_the_domain_must_be_named(self) -> None:
        table = registered(NEW)
        table, _ = register(table, **ACME, domain="cooking", tier="fast", ticket=made())
        with pytest.raises(LifecycleError, match="name the domain") as refused:
            promote(table, **ACME, ticket=NEW)
        assert refused.value.code == "conflict"
        moved, _ = promote(table, **ACME, ticket=NEW, domain="cooking")
        assert states(moved, domain="cooking") == {NEW: "promoted"}
        assert states(moved)[NEW] == "registered"

    def test_two_tickets_that_begin_alike_need_more_digits(self) -> None:
        alike = NEW[:60] + "ffff"
        with pytest.raises(LifecycleError, match="give more digits"):
            find_ticket(registered(NEW, alike), "acme", NEW[:8])


class TestPromoteAndRollBack:
    def test_a_promoted_ticket_takes_the_place_of_its_tiers(self) -> None:
        table, event = promote(registered(NEW), **ACME, ticket=NEW[:12], reason="better")
        assert states(check(table)) == {ACCURATE: "promoted", BALANCED: "promoted", FAST: "registered", NEW: "promoted"}
        assert find_ticket(table, "acme", NEW)[1].replaces == [FAST]
        assert (event.action, event.reason, event.after["replaces"]) == ("ticket.promote", "better", [FAST])
        assert (event.before["state"], event.after["state"]) == ("registered", "promoted")

    def test_a_rollback_is_exact_the_promise_included_and_walks_further(self) -> None:
        first = registered(NEW, NEWER, THIRD)
        second, _ = promote(first, **ACME, ticket=NEW, deadline_ms=33.0, quality_floor=0.91)
        assert home(second).tiers["fast"] == Tier(deadline_ms=33.0, quality_floor=0.91)
        third, _ = promote(second, **ACME, ticket=NEWER)
        fourth, _ = promote(third, **ACME, ticket=NEW)  # one that has been there before
        back = fourth
        for earlier in (third, second, first):
            back, event = rollback(back, **HOME, reason="worse")
            assert check(back) == earlier
        assert (event.action, event.subject, event.after["promoted"]) == ("ticket.roll_back", NEW, [FAST])
        assert event.after["deadline_ms"] == 10.0
        with pytest.raises(LifecycleError, match="no promotion to roll back"):
            rollback(back, **HOME)

    def test_a_tier_may_be_named_else_the_latest_promotion_goes(self) -> None:
        table = registered(NEW)
        table, _ = register(table, **HOME, tier="accurate", ticket=made(NEWER, quality=0.98, service_ms=30.0))
        table, _ = promote(table, **ACME, ticket=NEW)
        both, _ = promote(table, **ACME, ticket=NEWER)
        assert rollback(both, **HOME)[0] == table
        assert states(rollback(both, **HOME, tier="fast")[0])[FAST] == "promoted"
        with pytest.raises(LifecycleError, match="of tier balanced"):
            rollback(both, **HOME, tier="balanced")

    def test_the_first_ticket_of_a_tier_can_be_rolled_back_the_first_of_a_domain_cannot(self) -> None:
        table, _ = register(example_table(), **HOME, tier="slow", ticket=made())
        table, _ = promote(table, **ACME, ticket=NEW)
        assert states(rollback(table, **HOME)[0])[NEW] == "registered"
        alone, _ = register(example_table(), **ACME, domain="cooking", tier="slow", ticket=made())
        alone, _ = promote(alone, **ACME, ticket=NEW)
        with pytest.raises(LifecycleError, match="answered nothing"):
            rollback(alone, **ACME, domain="cooking")

    def test_a_ticket_that_could_not_answer_its_tier_is_not_promoted(self) -> None:
        table = registered(NEW)
        with pytest.raises(LifecycleError, match="promote it with a lower quality_floor"):
            promote(table, **ACME, ticket=NEW, quality_floor=0.99)

    def test_a_rollback_brings_back_nothing_that_has_been_retired(self) -> None:
        table, _ = promote(registered(NEW, NEWER), **ACME, ticket=NEW, deadline_ms=20.0)
        table, _ = promote(table, **ACME, ticket=NEWER, deadline_ms=30.0)
        table, _ = retire(table, **ACME, ticket=NEW)
        back, _ = rollback(check(table), **HOME)
        assert states(check(back))[FAST] == "promoted"
        assert home(back).tiers["fast"] == home(registered(NEW)).tiers["fast"]

    def test_the_promise_of_a_step_that_is_gone_stays_with_the_one_before_it(self) -> None:
        table, _ = promote(registered(NEW, NEWER), **ACME, ticket=NEW)
        table, _ = promote(table, **ACME, ticket=NEWER, deadline_ms=30.0)
        table, _ = retire(table, **ACME, ticket=NEW)
        assert home(rollback(table, **HOME)[0]).tiers["fast"] == Tier(deadline_ms=10.0)


class TestCanary:
    def test_it_is_compared_with_the_promoted_ticket_of_its_tier(self) -> None:
        table, event = start_canary(registered(NEW), **ACME, ticket=NEW, share=0.2, mode="shadow", now=5.0)
        canary = home(check(table)).canary
        assert canary is not None
        assert (canary.ticket, canary.current, canary.share, canary.mode) == (NEW, FAST, 0.2, "shadow")
        assert (canary.started_at, canary.is_automatic) == (5.0, False)
        assert (event.action, event.after["current"]) == ("canary.start", FAST)
        assert table.canaries == {("acme", "banking"): canary}

    def test_it_is_withdrawn_or_rolled_back_and_all_is_as_before(self) -> None:
        before = registered(NEW)
        table, _ = start_canary(before, **ACME, ticket=NEW, now=1.0)
        for is_bad, action in ((False, "canary.withdraw"), (True, "canary.roll_back")):
            after, event = withdraw(table, **ACME, ticket=NEW, reason="why", is_rolled_back=is_bad)
            assert after == before
            assert (event.action, event.reason) == (action, "why")

    def test_promoting_it_ends_the_trial(self) -> None:
        table, _ = promote(start_canary(registered(NEW), **ACME, ticket=NEW, now=1.0)[0], **ACME, ticket=NEW)
        assert home(check(table)).canary is None
        assert states(table)[NEW] == "promoted"
        assert states(rollback(table, **HOME)[0]) == states(registered(NEW))

    @pytest.mark.parametrize("move", [
        lambda table: promote(table, **ACME, ticket=NEWER),
        lambda table: retire(table, **ACME, ticket=FAST),
        lambda table: retire(table, **ACME, ticket=NEW),
    ])  # fmt: skip
    def test_it_ends_with_the_ticket_that_it_is_compared_with_or_itself(
        self, move: Callable[[Table], tuple[Table, Event]]
    ) -> None:
        table, _ = move(start_canary(registered(NEW, NEWER), **ACME, ticket=NEW, now=1.0)[0])
        assert home(check(table)).canary is None
        assert states(table).get(NEW, "registered") == "registered"

    def test_another_tiers_promotion_leaves_it_alone(self) -> None:
        table = registered(NEW)
        table, _ = register(table, **HOME, tier="accurate", ticket=made(NEWER, quality=0.98))
        table, _ = start_canary(table, **ACME, ticket=NEW, now=1.0)
        table, _ = promote(table, **ACME, ticket=NEWER)
        assert home(check(table)).canary is not None

    def test_one_that_runs_in_a_shared_family_ends_where_its_domain_leaves_the_family(self) -> None:
        """An authored one: copied with its domain; the ticket that stays behind is nobody's canary."""
        table = start_canary(registered(NEW), **ACME, ticket=NEW, now=1.0)[0]
        banking = msgspec.structs.replace(home(table), family="shared")
        families = {"travel": table.families["travel"], "shared": table.families["acme/banking"]}
        acme = msgspec.structs.replace(table.tenants["acme"], domains={"banking": banking})
        table = check(Table(families=families, tenants={**table.tenants, "acme": acme}))
        table, _ = register(table, **HOME, tier="fast", ticket=made(NEWER))
        assert states(check(table))[NEW] == "canary"
        assert {ticket.id: ticket.state for ticket in table.families["shared"]}[NEW] == "registered"


class TestRetire:
    def test_a_registered_one_leaves_the_table(self) -> None:
        table, event = retire(registered(NEW, NEWER), **ACME, ticket=NEW, reason="old")
        assert NEW not in states(check(table))
        assert (event.before["state"], event.after["state"]) == ("registered", "retired")

    def test_a_promoted_one_only_while_others_answer_or_as_the_domains_last(self) -> None:
        table, _ = retire(example_table(), **ACME, ticket=FAST)
        assert FAST not in states(check(table))
        assert FAST in {ticket.id for ticket in table.families["banking"]}
        table, _ = retire(table, **ACME, ticket=BALANCED)
        with pytest.raises(LifecycleError, match="say that it is"):
            retire(table, **ACME, ticket=ACCURATE)
        gone, _ = retire(table, **ACME, ticket=ACCURATE, is_last=True)
        assert "banking" not in check(gone).tenants["acme"].domains
        assert "acme/banking" not in gone.families
        table, _ = register(table, **HOME, tier="fast", ticket=made())
        with pytest.raises(LifecycleError, match="promote another first"):
            retire(table, **ACME, ticket=ACCURATE, is_last=True)

    def test_a_cascade_goes_with_either_of_its_tickets(self) -> None:
        table = example_table()
        rule = Cascade(small=FAST, large=ACCURATE, threshold=0.9, accuracy=0.96)
        banking = msgspec.structs.replace(home(table), policy="cascade", cascade=rule)
        acme = msgspec.structs.replace(table.tenants["acme"], domains={"banking": banking})
        table = check(msgspec.structs.replace(table, tenants={**table.tenants, "acme": acme}))
        after, _ = retire(table, **ACME, ticket=FAST)
        assert (home(check(after)).policy, home(after).cascade) == ("best", None)


MOVES: dict[str, Callable[[Table], tuple[Table, Event]]] = {
    "promote": lambda table: promote(table, **ACME, ticket=NEW),
    "canary": lambda table: start_canary(table, **ACME, ticket=NEW, now=1.0),
    "withdraw": lambda table: withdraw(table, **ACME, ticket=NEW),
    "retire": lambda table: retire(table, **ACME, ticket=NEW),
}
LEGAL = {
    "registered": {"promote", "canary", "retire"},
    "canary": {"promote", "withdraw", "retire"},
    "promoted": {"retire"},
    "retired": set(),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("state", LEGAL)
def test_the_legal_moves_of_each_state(state: str, move: str) -> None:
    table = registered(NEW)
    if state != "registered":
        table, _ = MOVES[{"canary": "canary", "promoted": "promote", "retired": "retire"}[state]](table)
    if move in LEGAL[state]:
        check(MOVES[move](table)[0])
    else:
        with pytest.raises(LifecycleError) as refused:
            MOVES[move](table)
        assert refused.value.code == ("unknown" if state == "retired" else "conflict")


def test_a_second_canary_one_without_a_rival_and_one_without_a_share_are_refused() -> None:
    table = registered(NEW, NEWER)
    with pytest.raises(LifecycleError, match="share 0"):
        start_canary(table, **ACME, ticket=NEW, now=1.0, share=0.0)
    running, _ = start_canary(table, **ACME, ticket=NEW, now=1.0)
    with pytest.raises(LifecycleError, match="has a canary already"):
        start_canary(running, **ACME, ticket=NEWER, now=1.0)
    alone, _ = register(example_table(), **HOME, tier="slow", ticket=made())
    with pytest.raises(LifecycleError, match="no promoted ticket of tier slow"):
        start_canary(alone, **ACME, ticket=NEW, now=1.0)
    strict = registered(table=example_table(fast=Tier(deadline_ms=10.0, quality_floor=0.9)))
    weak, _ = register(strict, **HOME, tier="fast", ticket=made(quality=0.5))
    with pytest.raises(LifecycleError, match=r"below the 0\.9"):
        start_canary(weak, **ACME, ticket=NEW, now=1.0)
