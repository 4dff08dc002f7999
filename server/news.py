"""The news: what gateways know of the tickets in this worker, and what of it they have to be told.

Owns the costs that gateways predict by (sizes in bytes of a row's input) as last told, so that a worker
with a thousand tickets tells what has changed, not what it has. Nothing here sends anything
(`server.worker` does) or measures (`server.measure`, `server.profile`).
"""

from collections.abc import Callable, Mapping

from routing.cost import Cost
from server.profile import Correction
from server.sessions import Change
from server.task import Task
from server.wire import Costs, Unloaded


class News:
    """The tickets that gateways have been told of. For one thread."""

    def __init__(self, task: Callable[[str], Task | None]) -> None:
        """``task`` finds a ticket's, which knows how bytes become its own sizes; None once it is unloaded."""
        self._task = task
        self._measured: dict[str, Cost] = {}
        self._told: dict[str, Cost] = {}

    def holds(self) -> list[str]:
        """The ids of the tickets, sorted."""
        return sorted(self._told)

    def everything(self) -> Costs:
        """For a gateway that knows nothing yet."""
        return Costs(dict(self._told))

    def changed(self, change: Change) -> list[Costs | Unloaded]:
        """Tickets have come or gone: what to tell everybody."""
        messages: list[Costs | Unloaded] = []
        gone = [ticket for ticket in change.unloaded if self._told.pop(ticket, None) is not None]
        for ticket in gone:
            del self._measured[ticket]
        if gone:
            messages.append(Unloaded(gone))
        tasks = {ticket: self._task(ticket) for ticket in change.loaded}
        loaded = {
            ticket: task.cost_in_bytes(change.loaded[ticket]) for ticket, task in tasks.items() if task is not None
        }
        if loaded:
            self._measured.update(loaded)
            self._told.update(loaded)
            messages.append(Costs(loaded))
        return messages

    def corrected(self, corrections: Mapping[str, Correction]) -> list[Costs]:
        """Costs have turned out to be other than told: what to tell everybody."""
        costs = {
            ticket: correction.of(self._measured[ticket])
            for ticket, correction in corrections.items()
            if ticket in self._measured
        }
        self._told.update(costs)
        return [Costs(costs)] if costs else []
