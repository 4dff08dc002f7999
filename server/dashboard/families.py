"""The families of an overview: each ticket with what it is, what it answers now, and how its trials stand. Pure.

Owns the rule of what a tenant sees of a ticket's numbers: its own answers, and of what is about everybody's requests
only what is about a ticket that nobody else has been using.
"""

from collections import defaultdict
from collections.abc import Container, Sequence

from routing.sequential import BINS
from routing.table import Canary, FamilyTicket
from server.dashboard import series
from server.dashboard.buckets import quantile
from server.dashboard.facts import Facts, label_of
from server.dashboard.history import Window
from server.dashboard.shapes import Family, Standing, TicketRow, Use
from server.dashboard.traffic import Flows, in_ms, sla
from server.overseer import CanaryStanding


class _Numbers:
    """What the window says of tickets, by their labels."""

    def __init__(self, window: Window, labels: Container[str]) -> None:
        """``labels``: of the tickets that are wanted."""
        self._histograms: dict[tuple[str, str], list[float]] = {}
        self._bounds = {name: bounds.tolist() for name, bounds in window.bounds.items()}
        for name in (series.TICKET_SECONDS, series.RUN, series.RATIO):
            places = {bound: place for place, bound in enumerate(self._bounds.get(name, ()))}
            for key in window.keys(name):
                if key[1] in labels:
                    counts = self._histograms.setdefault((name, key[1]), [0.0] * len(places))
                    counts[places[float(key[2])]] += window.total(key)
        self.results: dict[str, dict[str, float]] = defaultdict(dict)
        for key in window.keys(series.TICKET_SLA):
            self.results[key[1]][key[2]] = window.total(key)
        self.resident: dict[str, float] = {}
        self.drift: dict[str, dict[str, float]] = defaultdict(dict)
        for process in window.processes.values():
            for key, value in process.gauges.items() if process.is_up else ():
                if key[0] == series.TICKET_RESIDENT:
                    self.resident[key[1]] = max(value, self.resident.get(key[1], 0.0))
                elif key[0] == series.DRIFT:
                    of_ticket = self.drift[key[1]]
                    of_ticket[key[2]] = max(round(value, 3), of_ticket.get(key[2], 0.0))

    def quantile(self, name: str, label: str, q: float) -> float | None:
        """Of a histogram by ticket."""
        counts = self._histograms.get((name, label))
        return None if counts is None else quantile(counts, self._bounds[name], q)


def families_of(facts: Facts, window: Window, flows: Flows, tenant: str | None) -> list[Family]:
    """The families that ``tenant`` uses; None: all there are."""
    table = facts.table
    if table is None:
        return []
    used_by: dict[str, list[Use]] = defaultdict(list)
    for owner, row in sorted(table.tenants.items()):
        if tenant is None or owner == tenant:
            for name, domain in sorted(row.domains.items()):
                used_by[domain.family].append(Use(tenant=owner, domain=name, policy=domain.policy))
    answers: dict[tuple[str, str, str], float] = defaultdict(float)
    for who in flows.sums:
        for label, count in flows.answers(who).items():
            answers[who[0], who[1], label] += count
    names = sorted(table.families if tenant is None else set(used_by) & set(table.families))
    numbers = _Numbers(window, {label_of(ticket.id) for name in names for ticket in table.families[name]})
    return [
        Family(
            family=name, is_shared="/" not in name, used_by=used_by[name],
            tickets=_Tickets(facts, window, numbers, answers, tenant).rows(table.families[name], used_by[name]),
        )
        for name in names
    ]  # fmt: skip


class _Tickets:
    """Makes the rows of a family's tickets."""

    def __init__(
        self, facts: Facts, window: Window, numbers: _Numbers, answers: dict[tuple[str, str, str], float],
        tenant: str | None,
    ) -> None:  # fmt: skip
        self._facts, self._window, self._numbers, self._answers, self._tenant = facts, window, numbers, answers, tenant

    def rows(self, family: Sequence[FamilyTicket], used_by: list[Use]) -> list[TicketRow]:
        counts = {
            ticket.id: sum(self._answers.get((use.tenant, use.domain, label_of(ticket.id)), 0.0) for use in used_by)
            for ticket in family
        }
        all_answers = sum(counts.values())
        return [self._row(ticket, counts[ticket.id], all_answers, used_by) for ticket in family]

    def _row(self, ticket: FamilyTicket, count: float, all_answers: float, used_by: list[Use]) -> TicketRow:
        label, numbers, covered_s = label_of(ticket.id), self._numbers, self._window.covered_s
        is_yours = self._tenant is None or self._facts.users.get(label, frozenset()) <= {self._tenant}

        def of(name: str, q: float) -> float | None:
            return numbers.quantile(name, label, q) if is_yours else None

        ratio = of(series.RATIO, 0.5)
        return TicketRow(
            ticket=ticket.id, tier=ticket.tier, state=ticket.state, quality=ticket.quality,
            service_ms=ticket.service_ms, bytes=ticket.bytes or None,
            rate_per_s=round(count / covered_s, 3) if covered_s else 0.0,
            share=round(count / all_answers, 4) if all_answers else None,
            is_yours=is_yours,
            p50_ms=in_ms(of(series.TICKET_SECONDS, 0.5)), p95_ms=in_ms(of(series.TICKET_SECONDS, 0.95)),
            p99_ms=in_ms(of(series.TICKET_SECONDS, 0.99)),
            sla=sla(numbers.results.get(label, {})) if is_yours else None,
            run_p50_ms=in_ms(of(series.RUN, 0.5)), run_p95_ms=in_ms(of(series.RUN, 0.95)),
            prediction_ratio=None if ratio is None else round(ratio, 3),
            resident_bytes=numbers.resident.get(label) if is_yours else None,
            drift=dict(sorted(numbers.drift.get(label, {}).items())) if is_yours else {},
            replaces=ticket.replaces, canaries=_standings(ticket.id, used_by, self._facts),
        )  # fmt: skip


def _standings(ticket: str, used_by: list[Use], facts: Facts) -> list[Standing]:
    assert facts.table is not None
    found = []
    for use in used_by:
        canary = facts.table.tenants[use.tenant].domains[use.domain].canary
        if canary is not None and canary.ticket == ticket:
            standing = facts.standings.get((use.tenant, use.domain))
            is_same = standing is not None and (standing.ticket, standing.started_at) == (ticket, canary.started_at)
            found.append(_standing(use, canary, standing if is_same else None))
    return found


def _standing(use: Use, canary: Canary, standing: CanaryStanding | None) -> Standing:
    arm = None if standing is None else standing.counts.canary
    return Standing(
        tenant=use.tenant, domain=use.domain, current=canary.current, mode=canary.mode, share=canary.share,
        is_automatic=canary.is_automatic, started_at=canary.started_at,
        outcome=None if standing is None else standing.verdict.outcome,
        words="" if standing is None else standing.verdict.words,
        asks=arm.asks if arm else 0, errors=arm.errors if arm else 0, late=arm.late if arm else 0,
        agreement=None if standing is None else _mean(standing.counts.agreement),
    )  # fmt: skip


def _mean(bins: Sequence[int]) -> float | None:
    total = sum(bins)
    return round(sum(number * count for number, count in enumerate(bins)) / BINS / total, 4) if total else None
