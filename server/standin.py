"""Stand-ins: who answers while a ticket that has just been promoted is being loaded.

A promotion reaches gateways before workers have the ticket in memory, and loading may take longer than callers allow.
So for PATIENCE_S after it the ticket that it replaced, which workers still hold, answers instead, and the new one is
loaded meanwhile. Owns which tickets these are. Afterwards `routing.decide`'s rules hold alone: a ticket that cannot be
loaded must not be covered up for ever. Times are `time.perf_counter`'s, and arguments.
"""

from collections.abc import Callable

import msgspec

from routing.reasons import LOADING
from routing.table import Ask, Refusal, Route, Table, Warm

PATIENCE_S = 10.0


class StandIns:
    """One gateway's."""

    def __init__(self) -> None:
        self._replaced: dict[str, tuple[str, float]] = {}

    def use(self, old: Table | None, new: Table, now: float) -> None:
        """``new`` replaces ``old``: note what it promotes in the place of what."""
        if old is None:
            return
        before = {ticket.id for family in old.families.values() for ticket in family if ticket.state == "promoted"}
        self._replaced = {id_: known for id_, known in self._replaced.items() if known[1] > now}
        for family in new.families.values():
            for ticket in family:
                if ticket.state == "promoted" and ticket.replaces and ticket.id not in before:
                    self._replaced[ticket.id] = ticket.replaces[0], now + PATIENCE_S

    def find(self, ask: Ask, route: Route, choose: Callable[[Ask], Route | Refusal], now: float) -> Route | None:
        """Another route for an ask that would have to wait for a ticket to be loaded; None where there is none.

        ``choose`` decides once more. The route says which ticket is to be loaded, where (`Route.warm`).
        """
        if not self._replaced or ask.version is not None or not route.because.endswith(LOADING):
            return None
        replaced, until = self._replaced.get(route.ticket, ("", now))
        if now >= until:
            return None
        other = choose(msgspec.structs.replace(ask, version=replaced))
        if isinstance(other, Refusal) or other.because.endswith(LOADING):
            return None
        because = f"stands in for ticket {route.ticket[:12]}, which has just been promoted and is being loaded"
        return msgspec.structs.replace(other, because=because, warm=Warm(ticket=route.ticket, worker=route.worker))
