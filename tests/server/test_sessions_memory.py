"""Sessions and memory: what is measured holds the budget, reservations hold, and all of it returns."""

import gc
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from server.memory import heap_bytes, is_exact, resident_bytes, trim
from tests.server.conftest import MakeSessions
from tests.server.loads import TINY_BYTES, load
from tests.tiny import tiny_bundle, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import pack, read
from tickets.registry import Registry

STARTER = Path("tickets/starter/banking-fast.ticket")

exact = pytest.mark.skipif(not is_exact(), reason="this C library does not count what is allocated")


def _members() -> dict[str, bytes]:
    return {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}


def _heavy_bundle(seed: int) -> bytes:
    """A tiny ticket with 24 MB of weights that its graph looks up for every token, and multiplies by zero."""
    model = onnx.load_from_string(tiny_onnx())
    ballast = np.random.default_rng(seed).random((1_500_000, 4), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    nodes = [
        onnx.helper.make_node("Gather", ["ballast", "input_ids"], ["heavy"]),
        onnx.helper.make_node("Mul", ["heavy", "nothing"], ["weightless"]),
        onnx.helper.make_node("Add", ["per_token", "weightless"], ["with_ballast"]),
    ]
    for offset, node in enumerate(nodes):
        model.graph.node.insert(1 + offset, node)
    total = next(node for node in model.graph.node if "total" in node.output)
    total.input[0] = "with_ballast"
    return pack(tiny_manifest(), {**_members(), "model.onnx": model.SerializeToString()})


def test_unloading_returns_the_memory(make_sessions: MakeSessions, registry: Registry) -> None:
    """Twelve loads of 24 MB each, one at a time, do not add up."""
    tickets = [registry.put(_heavy_bundle(seed)) for seed in range(2)]
    sessions = make_sessions(40 << 20, heap=heap_bytes)
    for ticket in tickets:
        assert load(sessions, ticket) is None
    gc.collect()
    before = resident_bytes()
    for _ in range(5):
        for ticket in tickets:
            assert load(sessions, ticket) is None
            assert sessions.holds() == [ticket]
    gc.collect()
    assert resident_bytes() - before < 72 << 20


def _starters(registry: Registry, count: int) -> list[str]:
    """Tickets of the starter family's size, each with its own id."""
    original = read(STARTER)
    members = {name: bytes(data) for name, data in original.members.items()}
    tickets: list[str] = []
    for number in range(count):
        calibration = msgspec.structs.replace(original.manifest.calibration, temperature=1.0 + number / 1000)
        tickets.append(registry.put(pack(msgspec.structs.replace(original.manifest, calibration=calibration), members)))
    return tickets


@exact
def test_fifty_tickets_are_accounted_as_they_are_and_leave_nothing(
    make_sessions: MakeSessions, registry: Registry
) -> None:
    """To a few per cent of the allocator's count and of the resident set, with all that they share counted once."""
    tickets = _starters(registry, 51)
    sessions = make_sessions(heap=heap_bytes)
    assert load(sessions, tickets[50]) is None
    sessions.unload(tickets)
    gc.collect()
    trim()
    heap, resident = heap_bytes(), resident_bytes()
    for ticket in tickets[:50]:
        assert load(sessions, ticket) is None
    gc.collect()
    trim()
    grown, used = heap_bytes() - heap, sessions.used_bytes()
    assert abs(grown - used) < 0.05 * used
    assert abs(resident_bytes() - resident - used) < 0.25 * used
    assert used / 50 < 1_300_000  # less than the bundle, whose word table all fifty share
    sessions.unload(tickets)
    gc.collect()
    trim()
    assert sessions.used_bytes() == 0
    assert heap_bytes() - heap < 1 << 20
    assert resident_bytes() - resident < 12 << 20


def test_shared_tables_change_no_answer(make_sessions: MakeSessions, registry: Registry) -> None:
    first, second = _starters(registry, 2)
    sessions = make_sessions()
    answers = []
    for ticket in (first, second):
        assert load(sessions, ticket) is None
    for ticket in (first, second):
        task = sessions.get(ticket)
        assert task is not None
        answers.append(task.run(["freeze my account"])["label"].rows(0, 1))
    sessions.unload([first])
    task = sessions.get(second)
    assert task is not None
    answers.append(task.run(["freeze my account"])["label"].rows(0, 1))
    assert len(set(answers)) == 1


def test_a_tenants_reservation_keeps_its_ticket_from_others(make_sessions: MakeSessions, registry: Registry) -> None:
    own, a, b = (registry.put(tiny_bundle(scale=scale)) for scale in (1.0, 2.0, 3.0))
    sessions = make_sessions(2 * TINY_BYTES)
    sessions.reserve({"patient": TINY_BYTES})
    load(sessions, own, "patient")
    for ticket in (a, b, a, b):
        assert load(sessions, ticket, "busy") is None
    assert own in sessions.holds()
    sessions.reserve({})
    assert load(sessions, a, "busy") is None
    assert own not in sessions.holds()


def test_a_load_that_reservations_leave_no_room_for_is_refused_by_name(
    make_sessions: MakeSessions, ticket: str, other_ticket: str
) -> None:
    sessions = make_sessions(TINY_BYTES)
    sessions.reserve({"patient": TINY_BYTES})
    load(sessions, ticket, "patient")
    assert "reserved for other tenants" in (load(sessions, other_ticket, "busy") or "")
    assert sessions.holds() == [ticket]
    assert load(sessions, other_ticket, "patient") is None


def test_a_ticket_that_turns_out_larger_than_the_budget_does_not_stay(
    make_sessions: MakeSessions, registry: Registry, ticket: str
) -> None:
    """Its file promises little; what is measured counts."""
    allocated = iter(range(0, 1 << 40, 3 << 20))
    sessions = make_sessions(1 << 20, heap=lambda: next(allocated))
    assert "budget" in (load(sessions, ticket) or "")
    assert sessions.holds() == []
    assert sessions.used_bytes() == 0
