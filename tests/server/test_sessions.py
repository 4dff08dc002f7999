"""Sessions: loads are shared, bounded in memory, tried again after a while, and never in the way."""

import queue
import threading
from pathlib import Path

import msgspec
import pytest

from server.quarantine import Marker, Quarantine, read_marker
from server.runtime import choose_providers
from server.sessions import FAILURE_REMEMBERED_S, Change
from tests.server.conftest import MakeSessions
from tests.server.loads import GENEROUS_S, TINY_BYTES, Clock, load
from tests.tiny import tiny_bundle, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import pack
from tickets.registry import Registry

CPU = ["CPUExecutionProvider"]


def test_a_loaded_ticket_is_held_and_runs(make_sessions: MakeSessions, ticket: str) -> None:
    sessions = make_sessions()
    assert sessions.get(ticket) is None
    assert load(sessions, ticket) is None
    assert sessions.holds() == [ticket]
    task = sessions.get(ticket)
    assert task is not None
    assert task.run(["rain"])["label"].rows(0, 1) == b"\7\0\0\0weather"


def test_a_second_load_while_the_first_runs_shares_it(
    make_sessions: MakeSessions, ticket: str, other_ticket: str, monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    sessions = make_sessions()
    gate, reads, results = threading.Event(), [], queue.Queue[str | None]()
    get = Registry.get

    def slow_get(self: Registry, id_: str) -> object:
        reads.append(id_)
        assert gate.wait(GENEROUS_S)
        return get(self, id_)

    monkeypatch.setattr(Registry, "get", slow_get)
    for _ in range(3):
        sessions.load(ticket, results.put)
    gate.set()
    assert [results.get(timeout=GENEROUS_S) for _ in range(3)] == [None] * 3
    assert load(sessions, other_ticket) is None  # comes after whatever the extra calls may have left behind
    assert reads == [ticket, other_ticket]


def test_loading_a_held_ticket_again_does_not_read_it_again(
    make_sessions: MakeSessions, ticket: str, registry: Registry
) -> None:
    sessions = make_sessions()
    load(sessions, ticket)
    registry.remove(ticket)
    assert load(sessions, ticket) is None


def test_the_least_recently_used_ticket_leaves_when_the_budget_is_full(
    make_sessions: MakeSessions, registry: Registry
) -> None:
    a, b, c = (registry.put(tiny_bundle(scale=scale)) for scale in (1.0, 2.0, 3.0))
    sessions = make_sessions(2 * TINY_BYTES)
    load(sessions, a)
    load(sessions, b)
    sessions.get(a)
    assert not sessions.fits(c)
    assert load(sessions, c) is None
    assert sessions.holds() == sorted([a, c])


def test_a_task_in_use_goes_on_working_after_its_ticket_was_unloaded(
    make_sessions: MakeSessions, ticket: str, other_ticket: str
) -> None:
    sessions = make_sessions(TINY_BYTES)
    load(sessions, ticket)
    task = sessions.get(ticket)
    load(sessions, other_ticket)
    assert sessions.get(ticket) is None
    assert task is not None
    assert task.run(["song"])["label"].rows(0, 1) == b"\5\0\0\0music"


def test_a_ticket_larger_than_the_budget_is_refused_and_costs_nobody_their_place(
    make_sessions: MakeSessions, ticket: str, registry: Registry
) -> None:
    sessions = make_sessions(TINY_BYTES)
    load(sessions, ticket)
    large = registry.put(pack(tiny_manifest(), {**_members(), "padding.bin": bytes(1 << 20)}))
    assert "budget" in (load(sessions, large) or "")
    assert sessions.holds() == [ticket]


def _members() -> dict[str, bytes]:
    return {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}


def _renamed_graph() -> bytes:
    return tiny_onnx().replace(b"input_ids", b"input_idz")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"model.onnx": b"not a graph"}, "cannot open the graph"),
        ({"model.onnx": b""}, "cannot open the graph"),
        ({"model.onnx": tiny_onnx()[:-50]}, "cannot open the graph"),
        ({"model.onnx": _renamed_graph()}, "must take input_ids"),
        ({"tokenizer.json": b"{}"}, "Tokenizer"),
    ],
)
def test_a_ticket_that_cannot_run_is_refused_with_the_reason(
    make_sessions: MakeSessions, registry: Registry, members: dict[str, bytes], says: str
) -> None:
    sessions = make_sessions()
    bad = registry.put(pack(tiny_manifest(), {**_members(), **members}))
    assert says in (load(sessions, bad) or "")
    assert sessions.holds() == []


def test_a_ticket_whose_labels_do_not_fit_its_graph_fails_its_warm_up(
    make_sessions: MakeSessions, registry: Registry
) -> None:
    manifest = tiny_manifest()
    outputs = [msgspec.structs.replace(t, shape=[-1, 2]) if len(t.shape) == 2 else t for t in manifest.outputs]
    manifest = msgspec.structs.replace(manifest, labels=["a", "b"], outputs=outputs)
    bad = registry.put(pack(manifest, _members()))
    assert "logits of shape" in (load(make_sessions(), bad) or "")


def test_a_task_nobody_knows_is_refused_by_name(make_sessions: MakeSessions, registry: Registry) -> None:
    manifest = msgspec.structs.replace(tiny_manifest(), task="text-juggling")
    bad = registry.put(pack(manifest, _members()))
    assert "text-juggling" in (load(make_sessions(), bad) or "")


def test_a_failure_is_remembered_for_a_while_and_then_tried_again(
    make_sessions: MakeSessions, registry: Registry
) -> None:
    clock = Clock()
    sessions = make_sessions(clock=clock)
    ticket = registry.put(tiny_bundle())
    registry.remove(ticket)
    assert "not in the registry" in (load(sessions, ticket) or "")
    remembered = sessions.failure(ticket) or ""
    assert "not in the registry" in remembered
    assert str(registry.root) not in remembered
    registry.put(tiny_bundle())
    clock.now += FAILURE_REMEMBERED_S
    assert sessions.failure(ticket) is None
    assert load(sessions, ticket) is None


def test_a_damaged_bundle_is_refused(make_sessions: MakeSessions, registry: Registry, ticket: str) -> None:
    path = registry.path(ticket)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    reason = load(make_sessions(), ticket) or ""
    assert "damaged" in reason
    assert str(registry.root) not in reason


def test_a_listener_that_fails_does_not_end_the_loader(
    make_sessions: MakeSessions, ticket: str, other_ticket: str
) -> None:
    def fail(_: str | None) -> None:
        raise RuntimeError("the loop is closed")

    sessions = make_sessions()
    sessions.load(ticket, fail)
    assert load(sessions, other_ticket) is None


def test_urgent_loads_overtake_the_others(
    make_sessions: MakeSessions, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, slow, urgent = (registry.put(tiny_bundle(scale=scale)) for scale in (1.0, 2.0, 3.0))
    gate, started, order = threading.Event(), threading.Event(), queue.Queue[str]()
    get = Registry.get

    def gated(self: Registry, id_: str) -> object:
        started.set()
        assert gate.wait(GENEROUS_S)
        return get(self, id_)

    monkeypatch.setattr(Registry, "get", gated)
    sessions = make_sessions()
    sessions.load(first, lambda _: order.put("first"), urgent=False)
    assert started.wait(GENEROUS_S)
    sessions.load(slow, lambda _: order.put("slow"), urgent=False)
    sessions.load(urgent, lambda _: order.put("urgent"))
    gate.set()
    assert [order.get(timeout=GENEROUS_S) for _ in range(3)] == ["first", "urgent", "slow"]


def test_changes_are_told_with_what_a_ticket_costs(make_sessions: MakeSessions, ticket: str, other_ticket: str) -> None:
    changes: list[Change] = []
    sessions = make_sessions(TINY_BYTES, changed=changes.append)
    load(sessions, ticket)
    load(sessions, other_ticket)
    cost = sessions.cost(other_ticket)
    assert cost is not None
    assert cost.of(1, 8) > 0
    assert sessions.cost(ticket) is None
    assert [sorted(change.loaded) for change in changes] == [[ticket], [], [other_ticket]]
    assert [change.unloaded for change in changes] == [[], [ticket], []]
    assert changes[-1].loaded[other_ticket] == cost


def test_what_a_ticket_costs_is_measured_once(
    make_sessions: MakeSessions, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = make_sessions()
    load(sessions, ticket)
    cost = sessions.cost(ticket)
    sessions.unload([ticket])
    monkeypatch.setattr("server.opening.measure", lambda *_, **__: 1 // 0)
    assert load(sessions, ticket) is None
    assert sessions.cost(ticket) == cost


def test_a_ticket_in_quarantine_is_neither_run_nor_loaded_and_says_so(
    make_sessions: MakeSessions, ticket: str, tmp_path: Path
) -> None:
    clock = Clock()
    quarantine = Quarantine(tmp_path / "quarantine.json", clock=clock)
    sessions = make_sessions(quarantine=quarantine)
    assert load(sessions, ticket) is None
    for _ in range(2):
        quarantine.count(ticket, "SIGSEGV")
    assert sessions.get(ticket) is None
    assert "quarantine" in (sessions.failure(ticket) or "")
    assert sessions.holds() == []
    assert "quarantine" in (load(sessions, ticket) or "")
    quarantine.clear(ticket)
    assert load(sessions, ticket) is None


def test_the_marker_names_what_is_being_loaded(
    make_sessions: MakeSessions, ticket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "marker"
    seen = []
    get = Registry.get

    def look(self: Registry, id_: str) -> object:
        seen.append(read_marker(path).loading)
        return get(self, id_)

    monkeypatch.setattr(Registry, "get", look)
    assert load(make_sessions(marker=Marker(path)), ticket) is None
    assert seen == [ticket]
    assert read_marker(path).loading == ""


def test_providers_are_those_wanted_that_the_runtime_has() -> None:
    assert choose_providers(["NoSuchExecutionProvider", "CPUExecutionProvider"]) == CPU
    assert choose_providers()[-1] == "CPUExecutionProvider"
    with pytest.raises(ValueError, match="NoSuchExecutionProvider"):
        choose_providers(["NoSuchExecutionProvider"])
