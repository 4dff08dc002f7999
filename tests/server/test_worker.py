"""The worker: every ask gets exactly one reply, through real sockets."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import wire
from server.address import UnixAddress
from server.opening import MIN_BYTES
from server.tensor import Tensor, to_array
from tests.server.conftest import MakeClient, MakeWorker
from tests.server.peers import GENEROUS_S, ask, eventually, output
from tests.server.steps import label, queued, ready, stepped, still_worker
from tests.tiny import tiny_bundle, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import Bundle, pack
from tickets.registry import Registry


async def test_answers_are_right_and_say_how_they_came_about(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    client.send(ask(1, ticket, "rain", "song band", "tax"))
    answer = await client.answer(1)
    assert [label(answer, row) for row in range(2)] == ["weather", "music"]
    assert to_array(output(answer, "in_scope")).tolist() == [True, True, False]
    assert to_array(output(answer, "probabilities")).shape == (3, 3)
    assert answer.batch_texts >= 3
    assert answer.run_ms > 0
    assert answer.queue_ms >= 0


async def test_asks_that_wait_together_run_together_and_their_replies_share_a_frame(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.frames.clear()
    before = await client.scrape()
    client.send(*(ask(i, ticket, "rain") for i in range(10)))
    await queued(worker, 10)
    assert await stepped(worker)
    assert not await stepped(worker)
    answers = [await client.answer(i) for i in range(10)]
    assert {answer.batch_texts for answer in answers} == {10}
    assert client.order[-10:] == list(range(10))
    frame = next(frame for frame in client.frames if any(isinstance(message, wire.Answer) for message in frame))
    assert [type(message) for message in frame] == [wire.Answer] * 10 + [wire.Load]
    after = await client.scrape()
    assert after["tombola_batch_texts_count"] - before["tombola_batch_texts_count"] == 1
    assert after["tombola_batch_texts_sum"] - before["tombola_batch_texts_sum"] == 10


async def test_earlier_deadlines_run_first_across_tickets(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, other_ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, other_ticket, batch_tokens=2)
    client.send(
        ask(1, ticket, "rain", remaining_ms=50_000),
        ask(2, other_ticket, "song", remaining_ms=40_000),
        ask(3, ticket, "lamp", remaining_ms=30_000),
        ask(4, other_ticket, "sun", remaining_ms=35_000),
    )
    await queued(worker, 4)
    for _ in range(4):
        assert await stepped(worker)
    await client.until(lambda: len(client.order) == 4)
    assert client.order == [3, 4, 2, 1]


async def test_a_large_ask_is_run_in_slices_between_which_urgent_ones_get_their_turn(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, batch_tokens=32)
    texts = ["rain", "song", "lamp"] * 20
    client.send(ask(1, ticket, *texts))
    await queued(worker, 60)
    assert await stepped(worker)
    client.send(ask(2, ticket, "sun", remaining_ms=20_000))
    while worker.runner.queue_texts():
        await stepped(worker)
        await asyncio.sleep(0)
    answer = await client.answer(1)
    assert (await client.answer(2)).batch_texts <= 16
    assert client.order == [2, 1]
    assert [label(answer, row) for row in range(60)] == ["weather", "music", "lights"] * 20
    assert to_array(output(answer, "probabilities")).shape == (60, 3)


async def test_expired_work_is_not_run(make_worker: MakeWorker, make_client: MakeClient, ticket: str) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    before = await client.scrape()
    client.send(ask(1, ticket, "rain", remaining_ms=1.0), ask(2, ticket, "rain", remaining_ms=0.0))
    assert (await client.failure(2)).code == "deadline_exceeded"
    await queued(worker, 1)
    await asyncio.sleep(0.01)  # its deadline passes
    assert not await stepped(worker)
    assert (await client.failure(1)).code == "deadline_exceeded"
    after = await client.scrape()
    assert after["tombola_batch_texts_count"] == before["tombola_batch_texts_count"]
    assert after["tombola_dropped_total{deadline_exceeded}"] == 2


@pytest.mark.parametrize("remaining_ms", [float("nan"), float("-inf"), -1.0])
async def test_a_deadline_that_is_none_is_passed(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, remaining_ms: float
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    client.send(ask(1, ticket, "rain", remaining_ms=remaining_ms))
    assert (await client.failure(1)).code == "deadline_exceeded"


async def test_cancelled_work_is_not_run_and_cancelling_too_late_does_nothing(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.send(ask(1, ticket, "rain"), ask(2, ticket, "song"), wire.Cancel(1), wire.Cancel(77))
    assert (await client.failure(1)).code == "cancelled"
    assert await stepped(worker)
    client.send(wire.Cancel(2))
    assert (await client.answer(2)).batch_texts == 1
    assert client.duplicates == 0


async def test_what_a_lost_gateway_asked_for_is_not_run(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.send(*(ask(i, ticket, "rain") for i in range(5)))
    await queued(worker, 5)
    await client.close()
    await eventually(lambda: worker.runner.queue_texts() == 0)
    assert not await stepped(worker)


async def test_a_bad_request_fails_alone(make_worker: MakeWorker, make_client: MakeClient, ticket: str) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    bad = [
        wire.Ask(1, ticket, "acme", 60_000, [Tensor("text", "BYTES", [1], b"\2\0\0\0\xc3\x28")]),
        wire.Ask(2, ticket, "acme", 60_000, [Tensor("text", "FP32", [1], b"\0\0\0\0")]),
        wire.Ask(3, ticket, "acme", 60_000, []),
        ask(4, ticket, "rain", outputs=["nonsense"]),
    ]
    client.send(ask(10, ticket, "rain"), *bad, ask(11, ticket, "song"))
    await queued(worker, 2)
    assert await stepped(worker)
    assert [(await client.failure(i)).code for i in range(1, 5)] == ["bad_request"] * 4
    assert "UTF-8" in (await client.failure(1)).message
    assert (label(await client.answer(10)), label(await client.answer(11))) == ("weather", "music")
    assert (await client.answer(10)).batch_texts == 2


def _vengeful_bundle() -> bytes:
    """A tiny ticket whose tokenizer knows a word, 'poison', that its graph has no row for."""
    tokenizer = tiny_tokenizer().replace(b'"law"', b'"poison"').replace(b'"poison": 11', b'"poison": 4000')
    tokenizer = tokenizer.replace(b'"poison":11', b'"poison":4000')
    assert b"4000" in tokenizer
    return pack(tiny_manifest(), {"model.onnx": tiny_onnx(), "tokenizer.json": tokenizer})


async def test_a_text_the_graph_fails_on_fails_alone(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry
) -> None:
    poisoned = registry.put(_vengeful_bundle())
    worker, client = await still_worker(make_worker, make_client, poisoned)
    client.send(ask(1, poisoned, "rain"), ask(2, poisoned, "poison"), ask(3, poisoned, "song"))
    await queued(worker, 3)
    assert await stepped(worker)
    assert (await client.failure(2)).code == "inference_failed"
    assert (label(await client.answer(1)), label(await client.answer(3))) == ("weather", "music")
    client.send(ask(4, poisoned, "lamp"))
    await queued(worker, 1)
    assert await stepped(worker)
    assert label(await client.answer(4)) == "lights"


async def test_a_failing_slice_ends_the_whole_ask_once(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry
) -> None:
    poisoned = registry.put(_vengeful_bundle())
    worker, client = await still_worker(make_worker, make_client, poisoned, batch_tokens=8)
    client.send(ask(1, poisoned, "rain", "poison", *["rain"] * 10))
    await queued(worker, 12)
    while await stepped(worker):
        pass
    assert (await client.failure(1)).code == "inference_failed"
    assert worker.runner.queue_texts() == 0
    assert client.duplicates == 0


async def test_a_ticket_that_is_not_there_is_unavailable_with_the_reason(
    make_worker: MakeWorker, make_client: MakeClient
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    client.send(ask(1, "0" * 64, "rain"), ask(2, "../../etc/passwd", "rain"), ask(3, "", "rain"))
    for i in (1, 2, 3):
        assert (await client.failure(i)).code == "ticket_unavailable"
    assert "not in the registry" in (await client.failure(1)).message
    client.send(ask(4, "0" * 64, "rain"))
    assert (await client.failure(4)).code == "ticket_unavailable"


async def test_a_damaged_bundle_is_unavailable_and_the_others_go_on(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry, ticket: str, other_ticket: str
) -> None:
    path = registry.path(ticket)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-7])
    _, address = await make_worker()
    client = await make_client(address)
    client.send(ask(1, ticket, "rain"), ask(2, other_ticket, "song"))
    failure = await client.failure(1)
    assert failure.code == "ticket_unavailable"
    assert "needs" in failure.message
    assert label(await client.answer(2)) == "music"


@pytest.fixture
def closed_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Loads wait until the event is set."""
    gate = threading.Event()
    get = Registry.get

    def gated(self: Registry, ticket: str) -> Bundle:
        assert gate.wait(GENEROUS_S)
        return get(self, ticket)

    monkeypatch.setattr(Registry, "get", gated)
    yield gate
    gate.set()


async def test_asks_wait_for_their_ticket_to_load_no_longer_than_their_deadline(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, closed_gate: threading.Event
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    bad = wire.Ask(4, ticket, "acme", 60_000, [Tensor("text", "BYTES", [1], b"")])
    client.send(ask(1, ticket, "rain", remaining_ms=50.0), ask(2, ticket, "song"), ask(3, ticket, "lamp"), bad)
    client.send(wire.Cancel(3))
    assert (await client.failure(1)).code == "deadline_exceeded"
    assert (await client.failure(3)).code == "cancelled"
    assert set(client.replies) == {1, 3}
    closed_gate.set()
    assert label(await client.answer(2)) == "music"
    assert (await client.failure(4)).code == "bad_request"
    assert client.duplicates == 0


async def test_only_so_much_waits_for_tickets_to_load(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, closed_gate: threading.Event
) -> None:
    _, address = await make_worker(queue_texts=3)
    client = await make_client(address)
    client.send(*(ask(i, ticket, "rain") for i in range(5)))
    assert [(await client.failure(i)).code for i in (3, 4)] == ["overloaded"] * 2
    closed_gate.set()
    for i in range(3):
        await client.answer(i)


async def test_a_fault_of_the_worker_itself_is_answered_and_survived(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.send(ask(1, ticket, "rain"))
    await queued(worker, 1)
    with monkeypatch.context() as broken:
        broken.setattr("server.runner.tensors", lambda *_: 1 / 0)
        assert await stepped(worker)
    assert (await client.failure(1)).code == "internal"
    client.send(ask(2, ticket, "rain"))
    await queued(worker, 1)
    assert await stepped(worker)
    await client.answer(2)


async def test_a_full_queue_refuses_at_once(make_worker: MakeWorker, make_client: MakeClient, ticket: str) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, queue_texts=3)
    client.send(*(ask(i, ticket, "rain") for i in range(5)))
    assert [(await client.failure(i)).code for i in (3, 4)] == ["overloaded"] * 2
    assert (await client.failure(3)).wait_ms > 0
    assert await stepped(worker)
    for i in range(3):
        await client.answer(i)


async def test_garbage_closes_only_its_own_connection(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    _, address = await make_worker()
    good = await make_client(address)
    for garbage in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\4\0\0\0\xc1\xc1\xc1\xc1",
        wire.encode_frame([wire.Status("x", [], 0.0)]),
    ):
        bad = await make_client(address)
        bad.transport.write(garbage)
        await bad.until(lambda bad=bad: bad.is_lost)  # type: ignore[misc]
    good.send(ask(1, ticket, "rain"))
    assert label(await good.answer(1)) == "weather"


async def test_an_id_used_twice_at_once_closes_the_connection(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    _, client = await still_worker(make_worker, make_client, ticket)
    client.send(ask(1, ticket, "rain"), ask(1, ticket, "song"))
    await client.until(lambda: client.is_lost)


async def test_a_peer_that_does_not_read_is_cut_off_and_the_others_go_on(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.peer.MAX_UNSENT_BYTES", 1 << 16)
    worker, address = await make_worker(queue_texts=1 << 20)
    deaf, good = await make_client(address), await make_client(address)
    await ready(good, ticket)
    deaf.transport.pause_reading()
    texts = ["rain"] * 1000
    for i in range(30):
        deaf.send(ask(i, ticket, *texts))
        good.send(ask(i, ticket, "song"))
        await good.answer(i)
    await eventually(lambda: worker.runner.queue_texts() == 0)
    deaf.transport.resume_reading()
    await deaf.until(lambda: deaf.is_lost)
    assert not good.is_lost


async def test_an_answer_too_large_for_a_frame_fails_alone(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.send(ask(1, ticket, *["rain"] * 100), ask(2, ticket, "song"))
    await queued(worker, 101)
    monkeypatch.setattr("server.wire.MAX_FRAME_BYTES", 1000)
    while await stepped(worker):
        pass
    failure = await client.failure(1)
    assert (failure.code, "too large" in failure.message) == ("bad_request", True)
    assert label(await client.answer(2)) == "music"


async def test_a_ticket_that_was_unloaded_comes_back_on_demand_and_gateways_are_told(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry
) -> None:
    tickets = [registry.put(tiny_bundle(scale=scale)) for scale in (1.0, 2.0, 3.0)]
    _, address = await make_worker(memory_bytes=2 * MIN_BYTES, heap=lambda: 0)
    client = await make_client(address)
    for i in range(9):
        client.send(ask(i, tickets[i % 3], "rain"))
        assert label(await client.answer(i)) == "weather"
        assert tickets[i % 3] in client.costs
        assert len(client.costs) <= 2
    samples = await client.scrape()
    assert samples["tombola_tickets_loaded"] == 2
    unloaded = [ticket for message in client.told if isinstance(message, wire.Unloaded) for ticket in message.tickets]
    assert samples["tombola_ticket_unloads_total"] == len(unloaded) >= 5
    assert len(client.statuses) == 1


async def test_draining_answers_what_is_queued_tells_gateways_and_stops_listening(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, run_dir: Path
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.send(*(ask(i, ticket, "rain") for i in range(3)))
    await queued(worker, 3)
    draining = asyncio.create_task(worker.drain(GENEROUS_S))
    await client.until(lambda: client.statuses[-1].draining)
    assert not (run_dir / "w0.sock").exists()
    client.send(ask(3, ticket, "song"))
    await queued(worker, 4)
    await stepped(worker)
    await draining
    for i in range(4):
        await client.answer(i)


async def test_what_a_drain_has_no_time_for_is_handed_back_to_be_retried(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    client.send(ask(1, ticket, "rain"))
    await queued(worker, 1)
    await worker.drain(0.05)
    assert (await client.failure(1)).code == "worker_lost"


async def test_a_worker_whose_socket_is_removed_listens_again(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, run_dir: Path
) -> None:
    """Else no gateway that starts later could ever reach it."""
    _, address = await make_worker()
    early = await make_client(address)
    (run_dir / "w0.sock").unlink()
    await early.until((run_dir / "w0.sock").exists)
    late = await make_client(address)
    for i, client in enumerate((early, late)):
        client.send(ask(i, ticket, "rain"))
        await client.answer(i)


async def test_a_second_worker_cannot_take_a_live_ones_address(make_worker: MakeWorker, run_dir: Path) -> None:
    worker, _ = await make_worker()
    with pytest.raises(OSError, match="another process listens"):
        await worker.start(UnixAddress(path=str(run_dir / "w0.sock")))
