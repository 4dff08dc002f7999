"""server.roll: the order in which processes are replaced, and what is waited for."""

import asyncio
from collections.abc import Callable

import pytest

from server import roll
from server.parts import GATEWAY, WORKER
from server.probe import ProbeConnection
from server.roll import Roll, RollError, next_name
from server.supervisor import Part
from server.wire import Probed

TICKETS = {"a" * 64, "b" * 64}
WAIT_S = 30.0


class House:
    """Processes that are nothing but what they say of themselves. It is the keeper and the watcher of a Roll."""

    def __init__(self, workers: int, gateways: int) -> None:
        self.said: dict[str, ProbeConnection] = {}
        self.events: list[str] = []
        self.names = {f"worker-{i}": f"worker-{i}" for i in range(workers)}
        self.names |= {f"gateway-{i}": f"gateway-{i}" for i in range(gateways)}
        self.on_begin: Callable[[str], None] = self.comes_up
        for name in self.names:
            self.comes_up(name)

    def comes_up(self, name: str) -> None:
        """The process answers; a worker has loaded everything and is linked, a gateway knows the workers."""
        self.said[name] = connection = ProbeConnection()
        if name.startswith(WORKER):
            connection.holds = set(TICKETS)
            connection.last = Probed(1, name, 1.0, "a" * 64)
            for other, its in self.said.items():
                if other.startswith(GATEWAY):
                    self.knows(other, [*(its.last.workers if its.last else []), name])
        else:
            self.knows(name, [worker for worker in self.said if worker.startswith(WORKER)])

    def knows(self, gateway: str, workers: list[str]) -> None:
        self.said[gateway].last = Probed(1, gateway, 1.0, workers=workers)

    def part(self, place: str, name: str) -> Part:
        return Part(name, place.partition("-")[0], ("true",))

    def start(self, part: Part) -> None:
        self.events.append(f"start {part.name}")

    async def retire(self, name: str, grace_s: float) -> None:
        self.events.append(f"retire {name}")
        self.said.pop(name, None)
        for other, its in self.said.items():
            if other.startswith(GATEWAY) and its.last is not None:
                self.knows(other, [worker for worker in its.last.workers if worker != name])

    def begin(self, name: str) -> None:
        self.events.append(f"watch {name}")
        self.on_begin(name)

    def connection(self, name: str) -> ProbeConnection | None:
        return self.said.get(name)

    def roll(self, ready_within_s: float = WAIT_S) -> Roll:
        return Roll(self, self, self.names, self.part, ready_within_s=ready_within_s, grace_s=1.0)


@pytest.mark.parametrize(
    ("name", "expected"), [("worker-0", "worker-0.1"), ("worker-0.1", "worker-0.2"), ("worker-0.9", "worker-0.10")]
)
def test_every_process_of_a_place_gets_a_name_of_its_own(name: str, expected: str) -> None:
    assert next_name("worker-0", name) == expected


async def test_workers_go_first_and_the_new_one_is_there_before_the_old_one_ends() -> None:
    house, said = House(2, 1), list[str]()
    await house.roll().run(said.append)
    assert house.events == [
        f"{verb} {name}"
        for place in ("worker-0", "worker-1", "gateway-0")
        for verb, name in (("start", f"{place}.1"), ("watch", f"{place}.1"), ("retire", place))
    ]
    assert house.names == {place: f"{place}.1" for place in ("worker-0", "worker-1", "gateway-0")}
    assert [line.partition(":")[0] for line in said] == [
        f"{place}.1 has replaced {place}" for place in ("worker-0", "worker-1", "gateway-0")
    ]


async def test_a_second_restart_goes_on_from_the_first() -> None:
    house = House(1, 1)
    for _ in range(2):
        await house.roll().run(lambda _: None)
    assert house.names == {"worker-0": "worker-0.2", "gateway-0": "gateway-0.2"}


@pytest.mark.parametrize("missing", ["answer", "tickets", "link"])
async def test_the_old_worker_stays_until_the_new_one_is_ready(missing: str) -> None:
    house = House(1, 2)

    def comes_up_in_part(name: str) -> None:
        house.comes_up(name)
        if missing == "answer":
            del house.said[name]
        elif missing == "tickets":
            house.said[name].holds = {"a" * 64}
        else:
            house.knows("gateway-1", ["worker-0"])

    house.on_begin = comes_up_in_part
    rolling = asyncio.create_task(house.roll().run(lambda _: None))
    await asyncio.sleep(5 * roll.POLL_S)
    assert house.events == ["start worker-0.1", "watch worker-0.1"]
    house.on_begin = house.comes_up
    house.comes_up("worker-0.1")
    await asyncio.wait_for(rolling, WAIT_S)
    assert house.names["worker-0"] == "worker-0.1"


async def test_a_worker_that_holds_something_else_and_loads_no_more_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another name it may be placed other tickets, where not all of them fit."""
    monkeypatch.setattr(roll, "SETTLED_S", 0.2)
    house = House(1, 1)

    def with_other_tickets(name: str) -> None:
        house.comes_up(name)
        if name.startswith(WORKER):
            house.said[name].holds = {"c" * 64}

    house.on_begin = with_other_tickets
    await asyncio.wait_for(house.roll().run(lambda _: None), WAIT_S)
    assert house.names["worker-0"] == "worker-0.1"


async def test_a_gateway_that_knows_fewer_workers_than_the_others_is_not_ready() -> None:
    house = House(2, 1)

    def finds_one_worker(name: str) -> None:
        house.comes_up(name)
        if name.startswith(GATEWAY):
            house.knows(name, ["worker-0.1"])

    house.on_begin = finds_one_worker
    with pytest.raises(RollError, match=r"gateway-0.1 was not ready within 0.5 s; gateway-0 goes on"):
        await house.roll(ready_within_s=0.5).run(lambda _: None)
    assert house.names["gateway-0"] == "gateway-0"
    assert house.events[-1] == "retire gateway-0.1"


async def test_a_process_that_does_not_come_up_ends_the_restart_and_the_old_one_goes_on() -> None:
    house = House(2, 1)
    house.on_begin = lambda name: None
    with pytest.raises(RollError, match="worker-0 goes on"):
        await house.roll(ready_within_s=0.2).run(lambda _: None)
    assert house.names == {name: name for name in ("worker-0", "worker-1", "gateway-0")}
    assert house.events == ["start worker-0.1", "watch worker-0.1", "retire worker-0.1"]


async def test_a_restart_that_is_abandoned_leaves_no_half_started_process() -> None:
    house = House(1, 1)
    house.on_begin = lambda name: None
    rolling = asyncio.create_task(house.roll().run(lambda _: None))
    await asyncio.sleep(2 * roll.POLL_S)
    rolling.cancel()
    await asyncio.wait([rolling], timeout=WAIT_S)
    assert house.events[-1] == "retire worker-0.1"


async def test_one_restart_at_a_time() -> None:
    house = House(1, 1)
    house.on_begin = lambda name: None
    the_roll = house.roll()
    first = asyncio.create_task(the_roll.run(lambda _: None))
    await asyncio.sleep(2 * roll.POLL_S)
    with pytest.raises(RollError, match="under way"):
        await the_roll.run(lambda _: None)
    assert not first.done()
    first.cancel()
    await asyncio.wait([first], timeout=WAIT_S)
