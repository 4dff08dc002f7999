"""What a worker tells unasked and is told: costs, load, shares, probes; and what follows from it."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from routing.cost import Cost
from server import wire
from server.quarantine import Marker, read_marker
from server.task import Columns
from server.tensor import to_array
from server.text_classification import TextClassification
from server.wire import Share
from tests.server.conftest import MakeClient, MakeWorker
from tests.server.peers import ask, eventually, output
from tests.server.steps import queued, ready, stepped, still_worker
from tests.tiny import tiny_bundle
from tickets.registry import Registry

SLOW = Cost(2000.0, 0.0, 0.0, 0.1)


async def test_a_gateway_is_told_everything_on_connection_and_then_what_changes(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, other_ticket: str
) -> None:
    _, address = await make_worker()
    early = await make_client(address)
    await early.until(lambda: len(early.loads) >= 1)
    assert early.statuses == [wire.Status("w0", [], 0.0, False)]
    assert early.costs == {}
    for i, one in enumerate((ticket, other_ticket)):
        early.send(ask(i, one, "rain"))
        await early.answer(i)
    late = await make_client(address)
    await late.until(lambda: len(late.loads) >= 2)  # the second is a heartbeat
    assert late.statuses[0].holds == sorted([ticket, other_ticket])
    assert late.costs == early.costs
    assert set(late.costs) == {ticket, other_ticket}
    assert min(cost.of(1, 40) for cost in late.costs.values()) > 0
    assert len(early.statuses) == 1
    assert [list(message.costs) for message in early.told if isinstance(message, wire.Costs)][:3] == [
        [], [ticket], [other_ticket],
    ]  # fmt: skip


async def test_heartbeats_stay_small_however_many_tickets_are_held(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    for i in range(20):
        client.send(ask(i, registry.put(tiny_bundle(scale=1.0 + i)), "rain"))
        await client.answer(i)
    client.frames.clear()
    loads = len(client.loads)
    await client.until(lambda: len(client.loads) >= loads + 2)
    beats = [frame for frame in client.frames if not any(isinstance(message, wire.Costs) for message in frame)]
    assert beats
    assert max(len(wire.encode_frame(frame)) for frame in beats) < 200


async def test_costs_that_turn_out_otherwise_are_told_again(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    await ready(client, ticket)
    before = client.costs[ticket].of(1, 4)
    run = TextClassification.run

    def slowly(self: TextClassification, rows: Sequence[str]) -> Columns:
        time.sleep(20 * before / 1000)
        return run(self, rows)

    monkeypatch.setattr(TextClassification, "run", slowly)
    for i in range(40):
        client.send(ask(i, ticket, "rain"))
        await client.answer(i)
    await client.until(lambda: client.costs[ticket].of(1, 4) > 2 * before)
    samples = await client.scrape()
    assert samples["tombola_batch_prediction_ratio_count"] == 41
    assert samples["tombola_batch_prediction_ratio_sum"] > 41
    assert samples["tombola_ticket_cost_spread"] >= 0.1
    assert samples["tombola_worker_busy_seconds_total"] >= 40 * 20 * before / 1000 / 1000


async def test_load_says_what_waits_for_whom_and_what_of_it_the_gateway_sent(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    worker.runner.know(ticket, Cost(1.0, 1.5, 0.0, 0.1))
    other = await make_client(str(worker._address))
    client.send(*(ask(i, ticket, "rain", tenant="x") for i in range(4)), ask(7, ticket, "rain", tenant="y"))
    await queued(worker, 5)
    client.loads.clear()
    await client.until(lambda: bool(client.loads) and client.loads[-1].queued_ms > 0)
    load = client.loads[-1]
    assert load.queued_ms == pytest.approx(1 + 5 * 1.5)
    assert load.tenants == {"x": pytest.approx(1 + 4 * 1.5), "y": pytest.approx(1 + 1.5)}
    assert load.active_weight == 2.0
    assert load.seen == 999_999
    await other.until(lambda: bool(other.loads) and other.loads[-1].queued_ms > 0)
    assert other.loads[-1].seen == 0
    assert await stepped(worker)
    await client.answer(7)
    assert client.loads[-1].queued_ms == 0.0  # in the same frame


async def test_a_run_that_hangs_looks_busier_and_busier_while_the_loop_lives(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    await ready(client, ticket)
    go = threading.Event()
    monkeypatch.setattr(TextClassification, "run", lambda self, rows: go.wait(30))
    try:
        client.send(ask(1, ticket, "rain"))
        await client.until(lambda: client.loads[-1].running_ms > 300)
        early = client.loads[-1].running_ms
        await client.until(lambda: client.loads[-1].running_ms > early + 200)
    finally:
        go.set()


async def test_weights_are_the_newest_tables_whoever_tells_them(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    reserved: list[Mapping[str, int]] = []
    monkeypatch.setattr(worker._sessions, "reserve", reserved.append)
    client.send(
        wire.Shares(7, {"acme": Share(3.0, 4096)}),
        wire.Shares(6, {"acme": Share(99.0)}),
        ask(1, ticket, "rain"),
    )
    await queued(worker, 1)
    assert worker.runner.load().active_weight == 3.0
    assert reserved == [{"acme": 4096}]
    client.send(wire.Shares(8, {}))
    await eventually(lambda: worker.runner.load().active_weight == 1.0)


async def test_a_flood_neither_runs_first_for_long_nor_fills_the_queue(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row takes a millisecond at least. The flood's deadlines are all earlier: it gets its lead of 10 ms, then
    turns; when it has filled the queue its newest asks make place."""
    worker, client = await still_worker(make_worker, make_client, ticket, queue_texts=50, batch_tokens=1)
    worker.runner.know(ticket, Cost(0.0, 1.0, 0.0, 0.1))
    run = TextClassification.run

    def slowly(self: TextClassification, rows: Sequence[str]) -> Columns:
        time.sleep(0.001)
        return run(self, rows)

    monkeypatch.setattr(TextClassification, "run", slowly)
    client.send(*(ask(i, ticket, "rain", tenant="flood", remaining_ms=30_000) for i in range(50)))
    client.send(*(ask(100 + i, ticket, "sun", tenant="quiet") for i in range(3)))
    for i in (47, 48, 49):
        assert (await client.failure(i)).code == "overloaded"
    while await stepped(worker):
        pass
    await client.until(lambda: len(client.order) == 53)
    answered = client.order[3:]
    assert answered[0] == 0
    assert max(answered.index(i) for i in (100, 101, 102)) < 20


async def test_a_priority_goes_before_its_tenants_other_asks_only(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, batch_tokens=1)
    client.send(
        ask(1, ticket, "rain", remaining_ms=20_000, priority=3),
        ask(2, ticket, "rain", remaining_ms=30_000),
        ask(3, ticket, "rain", remaining_ms=50_000, priority=1),
        ask(4, ticket, "rain", remaining_ms=40_000, tenant="other", priority=3),
        ask(5, ticket, "rain", remaining_ms=45_000, priority=-9),
    )
    await queued(worker, 5)
    while await stepped(worker):
        pass
    await client.until(lambda: len(client.order) == 5)
    assert [i for i in client.order if i != 4] == [5, 3, 2, 1]
    assert client.order[0] == 4


async def test_work_that_cannot_finish_in_time_is_answered_before_its_deadline(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    worker.runner.know(ticket, Cost(100_000.0, 0.0, 0.0, 0.1))
    client.send(ask(1, ticket, "rain", remaining_ms=60_000))
    await queued(worker, 1)
    assert not await stepped(worker)
    assert (await client.failure(1)).code == "deadline_exceeded"


async def test_how_sure_the_ticket_is_comes_where_asked_for_in_the_order_of_the_rows(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, batch_tokens=8)
    texts = ["rain", "tax song", "rain song", "lamp lamp", "band", "tax", "sun"]
    client.send(ask(1, ticket, *texts, wants_confidence=True), ask(2, ticket, *texts))
    await queued(worker, 14)
    while await stepped(worker):
        pass
    answer = await client.answer(1)
    probabilities = to_array(output(answer, "probabilities"))
    out_of_scope = 1 - probabilities.sum(axis=1)
    expected = [max(row.max(), rest) for row, rest in zip(probabilities, out_of_scope, strict=True)]
    assert answer.confidence == pytest.approx(expected, abs=1e-5)
    assert (await client.answer(2)).confidence == []


# Probes.


async def test_a_probe_goes_through_the_run_thread_with_the_ticket_asked_for_last(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, other_ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, other_ticket, ticket)
    client.send(wire.Probe(5))
    await client.scrape(6)
    assert 5 not in client.replies
    await stepped(worker)
    probed = await client.reply(5)
    assert isinstance(probed, wire.Probed)
    assert (probed.process, probed.ticket) == ("w0", ticket)
    assert probed.took_ms > 0


async def test_a_probe_of_a_worker_without_tickets_is_answered_by_its_run_thread_alone(
    make_worker: MakeWorker, make_client: MakeClient
) -> None:
    worker, client = await still_worker(make_worker, make_client)
    client.send(wire.Probe(1))
    await client.scrape(2)
    assert 1 not in client.replies
    await stepped(worker)
    probed = await client.reply(1)
    assert isinstance(probed, wire.Probed)
    assert probed.ticket == ""


async def test_a_runtime_that_fails_answers_no_probe_and_one_that_works_again_does(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    with monkeypatch.context() as broken:
        broken.setattr(TextClassification, "run", lambda self, rows: 1 / 0)
        client.send(wire.Probe(1))
        await client.scrape(2)
        await stepped(worker)
    client.send(wire.Probe(3))
    await client.scrape(4)
    await stepped(worker)
    await client.reply(3)
    assert 1 not in client.replies


async def test_a_probe_overtakes_what_waits(make_worker: MakeWorker, make_client: MakeClient, ticket: str) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, batch_tokens=1)
    client.send(*(ask(i, ticket, "rain") for i in range(5)), wire.Probe(77))
    await queued(worker, 5)
    await stepped(worker)
    await client.reply(77)
    assert client.order[0] == 77
    assert worker.runner.queue_texts() == 4


async def test_the_marker_says_what_runs_and_nothing_afterwards(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w0.marker"
    worker, client = await still_worker(make_worker, make_client, ticket, marker=Marker(path))
    seen: list[str] = []
    run = TextClassification.run

    def watched(self: TextClassification, rows: Sequence[Any]) -> Columns:
        seen.append(read_marker(path).running)
        return run(self, rows)

    monkeypatch.setattr(TextClassification, "run", watched)
    client.send(ask(1, ticket, "rain"), wire.Probe(2))
    await queued(worker, 1)
    await stepped(worker)
    await asyncio.gather(client.answer(1), client.reply(2))
    assert seen == [ticket, ticket]
    assert read_marker(path).running == ""
