"""Places: how many registrations go on at once in one gateway, and whose turn it is at the gate.

Owns two bounds. Uploads take a seat at once or are refused: each holds a file and a connection. Examinations take a
core each, so few run at a time and the others wait, at most `WAIT_S`, in the order they came; a tenant never has more
than its part of either, so that nobody's uploads keep another tenant's from the gate.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator

from server.errors import Overloaded

WAIT_S = 30.0
"""How long an upload that has arrived waits for the gate."""
RETRY_AFTER_S = 10.0


class Places:
    """One gateway's. Of ``gates`` and ``seats``, one tenant may have ``gates_each`` and ``seats_each``."""

    def __init__(self, *, gates: int = 2, gates_each: int = 1, seats: int = 16, seats_each: int = 4) -> None:
        self._gates, self._gates_each = gates, gates_each
        self._seats, self._seats_each = seats, seats_each
        self._seated: Counter[str] = Counter()
        self._examined: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @contextlib.contextmanager
    def seat(self, tenant: str) -> Iterator[None]:
        """A place for a registration from its first byte to its end. Raises Overloaded at once."""
        if self._seated[tenant] >= self._seats_each or self._seated.total() >= self._seats:
            raise Overloaded("too many registrations are going on; try again", retry_after_s=RETRY_AFTER_S)
        self._seated[tenant] += 1
        try:
            yield
        finally:
            _less(self._seated, tenant)

    @contextlib.asynccontextmanager
    async def gate(self, tenant: str, wait_s: float = WAIT_S) -> AsyncIterator[None]:
        """A place for an examination, after a wait. Raises Overloaded where the wait was too long."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((tenant, turn))
        self._let_in()
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave(tenant)
            else:
                self._waiting.remove((tenant, turn))
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"the gate has been busy with other bundles for {wait_s:g} s; try again",
                    retry_after_s=RETRY_AFTER_S,
                ) from error
            raise
        try:
            yield
        finally:
            self._leave(tenant)

    def _leave(self, tenant: str) -> None:
        _less(self._examined, tenant)
        self._let_in()

    def _let_in(self) -> None:
        """Give every free place to the first in the row that may have one."""
        for tenant, turn in list(self._waiting):
            if self._examined.total() >= self._gates:
                return
            if self._examined[tenant] < self._gates_each and not turn.done():
                self._examined[tenant] += 1
                self._waiting.remove((tenant, turn))
                turn.set_result(None)


def _less(counter: Counter[str], tenant: str) -> None:
    counter[tenant] -= 1
    if not counter[tenant]:
        del counter[tenant]
