"""Cascades: which rows go to the large ticket, how answers are put together, and that none is late for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from routing.cost import Cost
from server import wire
from server.call import Call, part_of, payload_of
from server.cascade import merge, unsure_rows
from server.tensor import TensorError, decode_bytes, from_array, from_texts, row_pieces, row_size, take_rows
from tests.server.fake_worker import Behaviour, answer, fail, hang, tiny_outputs, until
from tests.server.gateways import tiny_table
from tests.server.house import ACCURATE, FAST, House, two_workers

SURE, UNSURE = "song band", "song what did you say that for"
WHO = {"tenant": "acme", "domain": "home"}


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        ([0.95, 0.95], []),
        ([0.9, 0.8999], [1]),
        ([0.1, 0.2], [0, 1]),
        ([float("nan"), 1.0], [0]),
        ([], [0, 1]),
        ([1.0], [0, 1]),
    ],
)
def test_a_row_stands_only_where_the_ticket_said_that_it_is_sure_enough(
    confidence: list[float], expected: list[int]
) -> None:
    assert unsure_rows(confidence, 0.9, 2) == expected


@given(st.data())
def test_rows_that_are_cut_out_and_put_back_are_where_they_were(data: st.DataObject) -> None:
    """Of every datatype, texts of any length among them."""
    rows = data.draw(st.integers(1, 6))
    texts = data.draw(st.lists(st.text(max_size=9), min_size=rows, max_size=rows))
    outputs = [
        from_texts("label", texts),
        from_array("probability", "FP32", np.arange(rows)),
        from_array("in_scope", "BOOL", np.arange(rows) % 2),
        from_array("probabilities", "FP64", np.arange(rows * 3).reshape(rows, 3)),
    ]
    some = data.draw(st.lists(st.integers(0, rows - 1), unique=True).map(sorted))
    assert merge(outputs, [take_rows(tensor, some) for tensor in outputs], some) == outputs


def test_merged_answers_are_the_large_tickets_in_the_rows_that_it_was_asked() -> None:
    small, large = tiny_outputs(["song", "rain", "lamp"]), tiny_outputs(["sun rain"])
    merged = {tensor.name: tensor for tensor in merge(small, large, [2])}
    assert decode_bytes(merged["label"].data, 3) == [b"music", b"weather", b"weather"]
    assert row_pieces(merged["probabilities"])[2] == large[4].data
    assert row_pieces(merged["probabilities"])[:2] == row_pieces(small[4])[:2]


def test_outputs_that_do_not_fit_together_are_refused() -> None:
    small, large = tiny_outputs(["song", "rain"]), tiny_outputs(["sun"])
    with pytest.raises(TensorError, match="one row for each"):
        merge(small, large, [0, 1])
    with pytest.raises(TensorError, match="differ in their output 'label'"):
        merge(small, large[1:], [0])
    with pytest.raises(TensorError, match="probabilities"):
        merge(small, [*large[:4], from_array("probabilities", "FP32", np.ones((1, 7)))], [0])


def test_a_part_of_a_payload_has_its_own_size() -> None:
    call = Call(tenant="acme", domain="home", inputs=[from_texts("text", ["a" * 50, "b", "ccc"])])
    part = part_of(payload_of(call, {}), [1, 2])
    assert (part.rows, part.row_bytes, decode_bytes(part.inputs[0].data, 2)) == (2, 3, [b"b", b"ccc"])
    with pytest.raises(TensorError):
        part_of(payload_of(call, {}), [3])


def test_the_size_of_a_row_is_that_of_the_largest_without_its_frame() -> None:
    assert row_size([from_texts("text", ["four"])], 1) == 4
    assert row_size([from_texts("text", ["a", "four", "bb"])], 3) == 4
    assert row_size([from_array("x", "FP32", np.ones((4, 8)))], 4) == 32
    assert row_size([], 1) == 0


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    """Policy cascade: fast answers where it is sure to 0.9, else accurate, which says `lights` to everything."""
    async with two_workers() as house:
        for worker in house.workers:
            worker.behave = by(large=lights)
        house.use(tiny_table(ACCURATE, FAST, deadline_ms=5000.0, policy="cascade"))
        yield house


def by(*, large: Behaviour, small: Behaviour = answer) -> Behaviour:
    return lambda ask: (large if ask.ticket == ACCURATE else small)(ask)


def lights(ask: wire.Ask) -> wire.Answer:
    rows = ask.inputs[0].shape[0]
    return wire.Answer(ask.id, tiny_outputs(["lamp"] * rows), 1.0, 2.0, rows, 0.0)


def labels(reply: Any) -> list[str]:
    return [e.decode() for e in decode_bytes(reply.outputs[0].data, reply.outputs[0].shape[0])]


def rows_by(house: House, by: str) -> float:
    return house.value("tombola_cascade_rows_total", **WHO, by=by)


async def test_where_the_small_ticket_is_sure_of_every_row_the_large_one_is_not_asked(house: House) -> None:
    reply = await house.ask(inputs=[from_texts("text", [SURE, SURE])])
    assert labels(reply) == ["music", "music"]
    assert (reply.ticket, list(reply.row_tickets)) == (FAST, [FAST, FAST])
    assert "sure of every row" in reply.because
    assert {ask.ticket for worker in house.workers for ask in worker.asks} == {FAST}
    assert (rows_by(house, "small"), rows_by(house, "large")) == (2, 0)


async def test_the_large_ticket_answers_the_rows_that_the_small_one_is_not_sure_of(house: House) -> None:
    reply = await house.ask(inputs=[from_texts("text", [UNSURE, SURE, UNSURE])])
    assert labels(reply) == ["lights", "music", "lights"]
    assert (reply.ticket, list(reply.row_tickets)) == (ACCURATE, [ACCURATE, FAST, ACCURATE])
    assert "2 of 3 rows below confidence 0.9 were answered by the larger ticket" in reply.because
    assert [reply.queue_ms, reply.run_ms] == pytest.approx([1.1, 2.2])
    small, large = sorted((ask for worker in house.workers for ask in worker.asks), key=lambda ask: ask.ticket != FAST)
    assert (small.wants_confidence, large.wants_confidence) == (True, False)
    assert decode_bytes(large.inputs[0].data, 2) == [UNSURE.encode()] * 2
    assert (rows_by(house, "small"), rows_by(house, "large"), rows_by(house, "small_unsure")) == (1, 2, 0)
    assert house.count("ok") == 1


async def test_a_worker_that_does_not_say_how_sure_it_is_is_believed_nothing(house: House) -> None:
    def silent(ask: wire.Ask) -> wire.Answer:
        return wire.Answer(ask.id, tiny_outputs([SURE]), 0.1, 0.2, 1, 0.0)

    for worker in house.workers:
        worker.behave = by(large=lights, small=silent)
    assert labels(await house.ask(inputs=[from_texts("text", [SURE])])) == ["lights"]


@pytest.mark.parametrize("code", ["inference_failed", "ticket_unavailable", "overloaded"])
async def test_a_large_ticket_that_fails_leaves_the_small_ones_answers(house: House, code: str) -> None:
    for worker in house.workers:
        worker.behave = by(large=fail(code))
    reply = await house.ask(inputs=[from_texts("text", [UNSURE, SURE])])
    assert labels(reply) == ["music", "music"]
    assert (reply.ticket, list(reply.row_tickets)) == (FAST, [FAST, FAST])
    assert f"stand, because the larger ticket cannot answer in time: made to fail: {code}" in reply.because
    assert (rows_by(house, "small"), rows_by(house, "small_unsure")) == (1, 1)


async def test_a_large_ticket_that_is_late_does_not_make_the_answer_late(house: House) -> None:
    for worker in house.workers:
        worker.behave = by(large=hang)
    reply = await house.ask(inputs=[from_texts("text", [UNSURE])], deadline_ms=200.0)
    assert (labels(reply), reply.ticket) == (["music"], FAST)
    asked = next(worker for worker in house.workers if any(ask.ticket == ACCURATE for ask in worker.asks))
    await asked.told.wait()
    assert house.count("ok") == 1


async def test_a_large_ticket_that_could_not_make_it_is_not_asked(house: House) -> None:
    """Its prediction is made for the rows that are left and the time that is left."""
    for worker in house.workers:
        worker.say(wire.Costs({ACCURATE: Cost(0.0, 30.0, 0.0), FAST: Cost(0.0, 1.0, 0.0)}))
    await until(lambda: all(view.costs[ACCURATE].row_ms == 30.0 for view in house.fleet.snapshot().workers))

    def busy(ask: wire.Ask) -> wire.Answer:  # by the time that the small ticket has answered, the others have come
        for worker in house.workers:
            worker.say(wire.Load(1e6, 0.0))
        return answer(ask)

    for worker in house.workers:
        worker.behave = by(large=lights, small=busy)
    reply = await house.ask(inputs=[from_texts("text", [UNSURE])], deadline_ms=100.0)
    assert labels(reply) == ["music"]
    assert "stand, because the larger ticket cannot answer in time: no ticket is predicted" in reply.because
    assert not any(ask.ticket == ACCURATE for worker in house.workers for ask in worker.asks)


async def test_a_worker_that_dies_between_the_two_is_replaced_too(house: House) -> None:
    """The second ask has the retry that the first one has."""
    doomed = {worker.name: worker for worker in house.workers}
    dying: list[str] = []

    def die_once(ask: wire.Ask) -> wire.Answer | None:
        name = next(name for name, worker in doomed.items() if ask in worker.asks)
        if not dying:
            dying.append(name)
            for connection in doomed[name].connections:
                asyncio.get_running_loop().call_soon(connection.transport.abort)
            return None
        return lights(ask)

    for worker in house.workers:
        worker.behave = by(large=die_once)
    assert labels(await house.ask(inputs=[from_texts("text", [UNSURE, SURE])])) == ["lights", "music"]
    assert len(dying) == 1


async def test_who_pins_a_version_gets_no_cascade(house: House) -> None:
    reply = await house.ask(inputs=[from_texts("text", [UNSURE])], version=FAST)
    assert (labels(reply), list(reply.row_tickets)) == (["music"], [])
