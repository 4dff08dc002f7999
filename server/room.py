"""The room for what waits: bounded as a whole, and fair to whoever finds it full.

Owns the choice of who makes place. When a bounded store that tenants share is full, a tenant that
holds less than the one that holds most (by weight) has that one's newest things put out in its favour
(longest queue drop: Suter et al., INFOCOM 1998), so that a flood fills only what nobody else wants.
Pure; what the things are, and who counts them, is their owner's business (`Room` counts for some).
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)


def displaced(
    tenant: str,
    amount: int,
    missing: int,
    held: Mapping[str, float],
    *,
    weight: Callable[[str], float],
    newest: Callable[[str], Iterable[tuple[Thing, int]]],
) -> list[Thing] | None:
    """What goes so that ``amount`` of a tenant's finds its place, of which so much is ``missing``; None: it finds none.

    ``held`` is what each tenant has here, ``newest`` gives a tenant's things with their amounts, the
    newest first. What goes is of one tenant, which still holds as much as the other afterwards.
    """
    largest = max(held, key=lambda name: held[name] / weight(name))
    if largest == tenant:
        return None
    out: list[Thing] = []
    left = held[largest]
    for thing, size in newest(largest):
        out.append(thing)
        missing -= size
        left -= size
        if missing <= 0:
            break
    claim = (held.get(tenant, 0) + amount) / weight(tenant)
    return out if missing <= 0 and claim <= left / weight(largest) else None


class Room(Generic[Thing]):
    """Counts what each tenant's things take of ``size``."""

    def __init__(self, size: int, weight: Callable[[str], float] = lambda _: 1.0) -> None:
        self.size = size
        self.used = 0
        self._weight = weight
        self._held: dict[str, int] = {}
        self._things: dict[str, dict[Thing, int]] = {}  # in order of arrival

    def make(self, tenant: str, amount: int) -> list[Thing] | None:
        """The things to put out so that ``amount`` of this tenant's finds a place; None when it gets none.

        Nothing changes yet. An empty room takes anything, so that nothing is refused for ever.
        """
        missing = self.used + amount - self.size
        if missing <= 0 or not self.used:
            return []
        return displaced(
            tenant, amount, missing, self._held, weight=self._weight,
            newest=lambda name: reversed(self._things[name].items()),
        )  # fmt: skip

    def enter(self, tenant: str, thing: Thing, amount: int) -> None:
        """A thing has come in, whether or not there is room for it."""
        self._things.setdefault(tenant, {})[thing] = amount
        self._held[tenant] = self._held.get(tenant, 0) + amount
        self.used += amount

    def leave(self, tenant: str, thing: Thing) -> None:
        """The thing is here no more."""
        amount = self._things[tenant].pop(thing)
        self._held[tenant] -= amount
        self.used -= amount
        if not self._things[tenant]:
            del self._things[tenant], self._held[tenant]
