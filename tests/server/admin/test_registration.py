"""Registering tickets over real HTTP, through the real gate, into a real Redis."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio

from routing.account import Account, Limits, Policy
from routing.change import Change
from routing.event import Event
from routing.store import Store
from server.admin.places import Places
from server.gate.report import Report, Step, Wanted
from server.gate.runner import Gate
from tests.models import MLP_MANIFEST, mlp
from tests.server.admin.registrar import Registrar, registrar
from tests.tiny import tiny_bundle
from tickets.bundle import pack

FAST = tiny_bundle("fast", 0.9, scale=0.5)
FAST_ID = hashlib.sha256(FAST).hexdigest()


class HeldGate(Gate):
    """The gate, which waits at its door until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun: list[str] = []
        self.has_begun = asyncio.Event()

    async def examine(self, path: Path, wanted: Wanted) -> AsyncGenerator[Step | Report, None]:
        self.begun.append(wanted.tenant)
        self.has_begun.set()
        await self.go_on.wait()
        async with contextlib.aclosing(super().examine(path, wanted)) as steps:
            async for step in steps:
                yield step


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Registrar]:
    async with registrar(store, tmp_path) as house:
        yield house


async def test_a_ticket_is_registered_with_its_report_and_nothing_else_is_left(house: Registrar) -> None:
    response = await house.upload(FAST, key="acme.register")
    assert response.status_code == 201, response.text
    body = response.json()
    assert (body["ticket"], body["state"], body["domain"], body["tier"]) == (FAST_ID, "registered", "home", "fast")
    assert [step["name"] for step in body["report"]["steps"]][:2] == ["size", "integrity"]
    assert body["report"]["accepted"] is True
    table = await house.table()
    family = table.families[table.tenants["acme"].domains["home"].family]
    rows = {row.id: row for row in family}
    assert rows[FAST_ID].state == "registered"
    assert rows[FAST_ID].bytes == len(FAST)
    assert rows[house.ticket].state == "promoted"
    assert house.registry.get(FAST_ID).id == FAST_ID
    assert house.left() == []
    event = (await house.store.events("acme"))[0]
    assert (event.action, event.subject) == ("ticket.register", FAST_ID)
    assert event.actor.startswith("tenant/acme/")


async def test_its_report_is_kept_and_shown(house: Registrar) -> None:
    made = (await house.upload(FAST)).json()
    shown = (await house.get(f"/tickets/{FAST_ID[:8]}")).json()
    assert shown["report"] == made["report"]
    assert shown["state"] == "registered"


async def test_the_same_upload_again_changes_nothing_and_gives_the_same_report(house: Registrar) -> None:
    first = await house.upload(FAST)
    before = await house.table()
    again = await house.upload(FAST)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert (await house.table()).version == before.version
    assert house.left() == []


async def test_a_ticket_that_is_named_and_registered_is_answered_before_its_body_is_read(house: Registrar) -> None:
    await house.upload(FAST)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1 << 16)
            await asyncio.sleep(0)

    reader, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
    writer.write(
        f"POST /v1/tenants/acme/tickets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.keys['acme']}\r\n"
        f"x-tombola-ticket: {FAST_ID}\r\nexpect: 100-continue\r\ncontent-length: {len(FAST)}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200")  # and no 100 Continue came before it


async def test_two_at_once_make_one_registration(house: Registrar) -> None:
    responses = await asyncio.gather(*(house.upload(FAST) for _ in range(3)))
    assert sorted(response.status_code for response in responses) == [200, 200, 201]
    assert len({response.text for response in responses}) == 1
    assert len([event for event in await house.store.events("acme") if event.action == "ticket.register"]) == 1
    assert house.left() == []


async def test_the_same_bundle_at_two_tenants_goes_the_whole_way_twice(house: Registrar) -> None:
    mine, theirs = await asyncio.gather(house.upload(FAST), house.upload(FAST, "rival", "rival"))
    assert (mine.status_code, theirs.status_code) == (201, 201)
    passed = [[step["name"] for step in response.json()["report"]["steps"]] for response in (mine, theirs)]
    assert passed[0] == passed[1]
    assert set(mine.headers) == set(theirs.headers)
    assert (await house.get(f"/tickets/{FAST_ID}", "rival", "rival")).json()["domain"] == "home"


async def test_progress_comes_as_lines_and_the_last_one_is_the_answer(house: Registrar) -> None:
    response = await house.upload(FAST, accept="application/x-ndjson")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.text.splitlines()]
    names = [line["name"] for line in lines[:-1]]
    assert names[0] == "size"
    assert names[-1] == "commit"
    assert {line["status"] for line in lines[:-1]} <= {"passed", "skipped"}
    assert (lines[-1]["ticket"], lines[-1]["state"]) == (FAST_ID, "registered")
    assert [step["name"] for step in lines[-1]["report"]["steps"]] == names[:-1]


@pytest.mark.parametrize("form", ["application/json", "application/x-ndjson"])
async def test_a_refused_ticket_leaves_nothing_and_says_why(house: Registrar, form: str) -> None:
    before = await house.table()
    response = await house.upload(b"no bundle at all", accept=form)
    said = json.loads(response.text.splitlines()[-1])
    assert response.status_code == (422 if form == "application/json" else 200)
    assert (said["code"], said["step"], said["refusal"]) == ("refused", "integrity", "bad_bundle")
    assert said["error"]
    assert said["request_id"]
    assert [step["status"] for step in said["report"]["steps"]] == ["passed", "refused"]
    assert await house.table() == before
    assert house.registry.ids() == [house.ticket]
    assert house.left() == []
    assert await house.store.load_report("acme", hashlib.sha256(b"no bundle at all").hexdigest()) is None


async def test_the_policy_that_stands_is_the_one_that_gates(house: Registrar) -> None:
    await house.change("acme", policy=Policy(min_quality=0.99))
    response = await house.upload(FAST)
    assert (response.status_code, response.json()["refusal"]) == (422, "gate_failed")


async def test_a_policy_that_changes_during_the_examination_is_not_passed_by(store: Store, tmp_path: Path) -> None:
    gate = HeldGate()
    async with registrar(store, tmp_path, gate) as house:
        upload = asyncio.create_task(house.upload(FAST))
        await gate.has_begun.wait()
        await house.change("acme", policy=Policy(requires_signature=True))
        gate.go_on.set()
        response = await upload
        assert (response.status_code, response.json()["code"]) == (409, "conflict")
        assert house.registry.ids() == [house.ticket]
        assert house.left() == []


async def test_another_file_than_was_announced_is_refused(house: Registrar) -> None:
    response = await house.upload(FAST, **{"x-tombola-ticket": "0" * 64})
    assert (response.status_code, response.json()["refusal"]) == (422, "bad_bundle")
    assert house.left() == []


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(ticket_bytes=len(FAST) - 1), "ticket_quota_exceeded"),
        (Limits(tickets=0), "ticket_quota_exceeded"),
    ],
)
@pytest.mark.parametrize("is_declared", [True, False])
async def test_what_does_not_fit_the_quota_is_refused(
    store: Store, tmp_path: Path, limits: Limits, code: str, is_declared: bool
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(FAST), 512):
            yield FAST[at : at + 512]

    async with registrar(store, tmp_path, limits=limits) as house:
        response = await house.upload(FAST if is_declared else parts())
        assert (response.status_code, response.json()["code"]) == (403, code)
        assert house.left() == []


async def test_two_that_fit_only_one_by_one_do_not_both_get_in(store: Store, tmp_path: Path) -> None:
    """The quota holds at the commit, whatever was free when the uploads began."""
    other = tiny_bundle("other", 0.9, scale=0.7)
    limits = Limits(ticket_bytes=len(FAST) + len(other) - 1)
    async with registrar(store, tmp_path, limits=limits, places=Places(gates_each=2)) as house:
        responses = await asyncio.gather(house.upload(FAST), house.upload(other))
        assert sorted(response.status_code for response in responses) == [201, 403]
        assert len(house.registry.ids()) == 2
        assert house.left() == []


async def test_a_bundle_larger_than_any_may_be_is_refused_by_its_head(house: Registrar) -> None:
    headers = {"expect": "100-continue", "content-length": str((1 << 30) + 1)}
    reader, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(
        f"POST /v1/tenants/acme/tickets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.keys['acme']}\r\n"
        f"{head}\r\n".encode()
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert house.left() == []


async def test_a_client_that_leaves_during_the_upload_leaves_nothing(house: Registrar) -> None:
    _, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
    writer.write(
        f"POST /v1/tenants/acme/tickets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.keys['acme']}\r\n"
        f"content-length: {len(FAST)}\r\n\r\n".encode()
        + FAST[:1000]
    )
    await writer.drain()
    async with asyncio.timeout(30):
        while not house.left():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
    writer.transport.abort()
    assert await house.is_clean()


async def test_a_client_that_leaves_during_the_examination_ends_it(store: Store, tmp_path: Path) -> None:
    gate = HeldGate()
    async with registrar(store, tmp_path, gate) as house:
        upload = asyncio.create_task(house.upload(FAST))
        await gate.has_begun.wait()
        upload.cancel()
        assert await house.is_clean()
        assert house.registry.ids() == [house.ticket]


async def test_a_tenant_does_not_keep_the_others_from_the_gate(store: Store, tmp_path: Path) -> None:
    gate = HeldGate()
    async with registrar(store, tmp_path, gate, places=Places(gates=2, gates_each=1)) as house:
        others = [tiny_bundle(f"t{i}", 0.9, scale=0.5 + i) for i in range(3)]
        mine = [asyncio.create_task(house.upload(data)) for data in others]
        await gate.has_begun.wait()
        theirs = asyncio.create_task(house.upload(FAST, "rival", "rival"))
        async with asyncio.timeout(30):
            while len(gate.begun) < 2:  # noqa: ASYNC110 - the gate's own list
                await asyncio.sleep(0.01)
        assert sorted(gate.begun) == ["acme", "rival"]
        gate.go_on.set()
        assert {(await task).status_code for task in [*mine, theirs]} == {201}


async def test_more_uploads_than_there_are_seats_are_told_to_come_again(store: Store, tmp_path: Path) -> None:
    gate = HeldGate()
    async with registrar(store, tmp_path, gate, places=Places(seats_each=1)) as house:
        first = asyncio.create_task(house.upload(FAST))
        await gate.has_begun.wait()
        second = await house.upload(tiny_bundle("other"))
        assert (second.status_code, second.json()["code"]) == (503, "overloaded")
        assert "retry-after" in second.headers
        gate.go_on.set()
        assert (await first).status_code == 201


async def test_a_retired_ticket_may_be_registered_again(house: Registrar) -> None:
    await house.upload(FAST)
    retired = await house.post(f"/tickets/{FAST_ID}/retire", {"reason": "a test"})
    assert (retired.status_code, retired.json()["state"]) == (200, "retired")
    assert (await house.get(f"/tickets/{FAST_ID}")).status_code == 404
    assert await house.store.load_report("acme", FAST_ID) is None
    assert (await house.upload(FAST)).status_code == 201


async def test_a_key_that_is_revoked_during_the_examination_registers_nothing(store: Store, tmp_path: Path) -> None:
    gate = HeldGate()
    async with registrar(store, tmp_path, gate) as house:
        upload = asyncio.create_task(house.upload(FAST))
        await gate.has_begun.wait()
        await house.change("acme", keys=[])
        gate.go_on.set()
        assert (await upload).status_code == 401
        assert house.registry.ids() == [house.ticket]
        assert house.left() == []


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?domain=No%20Name", {}, 400),
        ("?tier=..", {}, 400),
        ("", {"x-tombola-ticket": "abc"}, 400),
        ("", {"x-tombola-signature": "x" * 300}, 400),
        ("", {"content-encoding": "gzip"}, 400),
    ],
)
async def test_a_head_that_cannot_be_is_refused_before_the_body(
    house: Registrar, query: str, headers: dict[str, str], status: int
) -> None:
    response = await house.upload(FAST, query=query, **headers)
    assert (response.status_code, response.json()["code"]) == (status, "bad_request")


async def test_the_query_says_where_it_goes(house: Registrar) -> None:
    response = await house.upload(FAST, query="?domain=cellar&tier=slow")
    assert response.status_code == 201, response.text
    assert (response.json()["domain"], response.json()["tier"]) == ("cellar", "slow")
    table = await house.table()
    assert table.tenants["acme"].domains["cellar"].family == "acme/cellar"


@pytest.mark.parametrize(("key", "status", "code"), [("acme.call", 403, "forbidden"), ("rival", 404, "unknown_tenant")])
async def test_who_may_not_register_does_not(house: Registrar, key: str, status: int, code: str) -> None:
    response = await house.upload(FAST, key)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_an_operator_registers_for_any_tenant_that_exists(house: Registrar) -> None:
    assert (await house.upload(FAST, "operator", "rival")).status_code == 201
    nobody = await house.upload(FAST, "operator", "nobody")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_tenant")


async def test_a_full_disk_has_a_name_and_leaves_nothing(house: Registrar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writes go to /dev/full, whose every write fails as a full disk's does."""
    import os

    real = os.open

    def to_full(path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
        handle = real(path, flags, mode, **named)
        if str(path).endswith(".part"):
            full = real("/dev/full", os.O_WRONLY)
            os.dup2(full, handle)
            os.close(full)
        return handle

    monkeypatch.setattr(os, "open", to_full)
    response = await house.upload(FAST)
    assert (response.status_code, response.json()["code"]) == (507, "storage_full")
    assert house.left() == []


async def test_httpx_streams_a_large_upload_in_bounded_memory(house: Registrar) -> None:
    """64 MiB that are no bundle: they come in, are looked at, and are gone."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    response: httpx.Response = await house.upload(parts())
    assert (response.status_code, response.json()["refusal"]) == (422, "bad_bundle")
    assert response.json()["report"]["bytes"] == 64 << 20
    assert house.left() == []


async def test_a_ticket_that_takes_something_else_than_its_domain_is_refused(house: Registrar) -> None:
    other = pack(msgspec.structs.replace(MLP_MANIFEST, domain="home"), {"model.onnx": mlp()})
    refused = await house.upload(other)
    assert (refused.status_code, refused.json()["refusal"]) == (422, "manifest_mismatch")
    assert "does not fit domain 'home': its task is tensors" in refused.json()["error"]


async def test_an_empty_upload_is_refused_as_a_bad_bundle(house: Registrar) -> None:
    """It is the sender's fault, not the gate's: nobody is told to send it again."""
    response = await house.upload(b"")
    assert (response.status_code, response.json()["refusal"]) == (422, "bad_bundle")
    assert house.left() == []


async def test_one_ticket_in_many_domains_counts_once_for_each(store: Store, tmp_path: Path) -> None:
    """Each is a row of the table, which all tenants share: one bundle must not fill it."""
    async with registrar(store, tmp_path, limits=Limits(tickets=2, ticket_bytes=2 * len(FAST))) as house:
        responses = [await house.upload(FAST, query=f"?domain=d{number}") for number in range(3)]
        assert [response.status_code for response in responses] == [201, 201, 403]
        assert responses[-1].json()["code"] == "ticket_quota_exceeded"
        async with house.client() as client:
            shown = (await client.get("/v1/tenants/acme/tickets")).json()["tickets"]
        assert sum(row["ticket"] == FAST_ID for row in shown) == 2


async def test_a_tenant_that_was_made_anew_meanwhile_gets_nothing_of_the_old_one(store: Store, tmp_path: Path) -> None:
    gate = HeldGate()
    async with registrar(store, tmp_path, gate=gate) as house:
        upload = asyncio.create_task(house.upload(FAST, key="operator"))
        await gate.has_begun.wait()
        old = (await store.load_accounts())["acme"]
        event = Event(action="tenant.delete", actor="test", tenant="acme", subject="acme")
        await store.commit(Change(event=event, gone=(old,)))
        new = Account(name="acme", created_at=old.created_at + 1)
        await store.commit(Change(event=msgspec.structs.replace(event, action="tenant.create"), accounts=(new,)))
        gate.go_on.set()
        response = await upload
        assert (response.status_code, response.json()["code"]) == (409, "conflict")
        assert "another made" in response.json()["error"]
        assert FAST_ID not in house.registry.ids()
