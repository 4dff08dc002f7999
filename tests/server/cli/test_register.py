"""`tombola register` through a real gateway and a real gate: a ticket, its signature, what is said meanwhile."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from routing.event import Event
from routing.store import Store
from server.cli.register import load
from tests import models
from tests.server.cli.house import House, without_logs
from tests.tiny import tiny_bundle
from tickets.bundle import parse
from tickets.signing import Signature, new_private, public_text, sign, signature_bytes, verify, write_signature

pytestmark = pytest.mark.redis


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.ticket"
    path.write_bytes(tiny_bundle())
    return path


def signed(file: Path, ticket: str) -> str:
    """Write FILE.sig by the signer `release`; its public key."""
    private = new_private()
    made = base64.b64encode(sign(private, ticket)).decode()
    write_signature(file.with_name(f"{file.name}.sig"), Signature(signer="release", ticket=ticket, signature=made))
    return public_text(private)


class TestAccepted:
    def test_the_steps_are_said_as_they_come_and_then_what_to_do_next(
        self, house: House, tenant: str, admin_key: str, file: Path
    ) -> None:
        said = house.ok("register", file, key=admin_key)
        ticket = parse(file.read_bytes()).id
        steps = [line.split()[1] for line in said.splitlines() if line.startswith(("ok ", "skipped"))]
        assert steps == [
            "size", "integrity", "signature", "manifest", "graph", "samples", "profile", "evidence", "policy", "commit",
        ]  # fmt: skip
        assert f"is registered for {tenant} in domain home, tier fast" in said
        assert f"tombola tickets promote {ticket[:12]} --tenant {tenant} --domain home" in said
        assert f'"version":"{ticket[:12]}"' in said

    def test_the_same_file_again_changes_nothing_and_sends_nothing(
        self, house: House, tenant: str, admin_key: str, file: Path
    ) -> None:
        first = house.json("register", file, key=admin_key)
        assert (first["is_new"], first["report"]["accepted"]) == (True, True)
        events = house.json("tickets", "list", key=admin_key)["version"]
        again = house.json("register", file, key=admin_key)
        assert (again["is_new"], again["ticket"], again["state"]) == (False, first["ticket"], "registered")
        assert again["report"] == first["report"]
        assert house.json("tickets", "list", key=admin_key)["version"] == events
        assert "was registered already" in house.ok("register", file, key=admin_key)

    def test_an_operator_registers_for_the_tenant_that_is_named_elsewhere_than_the_ticket_says(
        self, house: House, tenant: str, file: Path
    ) -> None:
        assert "name the tenant" in house.fails("register", file, code=2)
        made = house.json("register", file, "--tenant", tenant, "--domain", "lounge", "--tier", "quick")
        assert (made["domain"], made["tier"]) == ("lounge", "quick")

    def test_it_can_be_promoted_at_once(self, house: House, tenant: str, admin_key: str, file: Path) -> None:
        said = house.ok("register", file, "--promote", key=admin_key)
        assert "it is promoted" in said
        (row,) = house.json("tickets", "list", key=admin_key)["tickets"]
        assert row["state"] == "promoted"

    def test_a_signature_beside_the_file_is_found_and_counts(
        self, house: House, tenant: str, admin_key: str, file: Path
    ) -> None:
        public = signed(file, parse(file.read_bytes()).id)
        house.ok("tenants", "policy", tenant, "--require-signature", "--signer", f"release={public}")
        said = house.ok("register", file, key=admin_key)
        (line,) = [line for line in said.splitlines() if " signature " in line]
        assert line.startswith("ok")
        assert "release" in line


class TestOwnModels:
    def test_an_onnx_with_a_toml_beside_it_is_packed_examined_and_registered(
        self, house: House, tenant: str, admin_key: str, tmp_path: Path
    ) -> None:
        (tmp_path / "own.toml").write_text('name = "own"\ndomain = "numbers"\nlicence = "MIT"\nquality = 0.8\n')
        (tmp_path / "own.onnx").write_bytes(models.mlp())
        made = house.json("register", tmp_path / "own.onnx", "--tier", "fast", key=admin_key)
        assert (made["domain"], made["tier"], made["state"]) == ("numbers", "fast", "registered")
        assert house.json("register", tmp_path / "own.toml", "--tier", "fast", key=admin_key)["is_new"] is False
        said = house.ok("register", tmp_path / "own.onnx", "--tier", "fast", key=admin_key)
        assert "curl" not in said, "it does not classify texts"

    def test_what_is_wrong_with_the_toml_is_said_with_its_field(
        self, house: House, admin_key: str, tmp_path: Path
    ) -> None:
        (tmp_path / "own.toml").write_text('name = "own"\ndomain = "numbers"\nquality = 0.8\n')
        (tmp_path / "own.onnx").write_bytes(models.mlp())
        assert "licence" in house.fails("register", tmp_path / "own.onnx", key=admin_key)


class TestRefused:
    def test_the_gates_refusal_is_said_with_its_step_and_leaves_nothing(
        self, house: House, tenant: str, admin_key: str, file: Path
    ) -> None:
        house.ok("tenants", "policy", tenant, "--min-quality", "0.99")
        said = house.fails("register", file, key=admin_key)
        (line,) = [line for line in said.splitlines() if line.startswith("REFUSED")]
        assert line.split()[1] == "policy"
        assert "[refused, request " in said
        assert house.json("tickets", "list", key=admin_key)["tickets"] == []

    def test_a_missing_signature_is_refused_by_the_gate(
        self, house: House, tenant: str, admin_key: str, file: Path
    ) -> None:
        house.ok(
            "tenants", "policy", tenant, "--require-signature", "--signer", f"release={public_text(new_private())}"
        )
        said = house.fails("register", file, key=admin_key)
        assert "REFUSED  signature" in said

    def test_a_refusal_as_json_is_the_servers_document(
        self, house: House, tenant: str, admin_key: str, file: Path
    ) -> None:
        house.ok("tenants", "policy", tenant, "--min-quality", "0.99")
        result = house.run("register", file, "--json", key=admin_key)
        assert result.exit_code == 1
        document = json.loads(without_logs(result.stdout))
        assert (document["code"], document["refusal"], document["step"]) == ("refused", "gate_failed", "policy")
        assert document["report"]["accepted"] is False

    def test_what_is_no_ticket_is_refused_here_before_anything_is_sent(
        self, house: House, tmp_path: Path, admin_key: str
    ) -> None:
        path = tmp_path / "a.ticket"
        path.write_bytes(tiny_bundle()[:-1])
        assert "is no sound ticket (truncated)" in house.fails("register", path, key=admin_key)

    def test_a_signature_of_another_ticket_is_noticed_here(
        self, house: House, tmp_path: Path, file: Path, admin_key: str
    ) -> None:
        signed(file, "ab" * 32)
        assert "of another ticket" in house.fails("register", file, key=admin_key)

    def test_a_call_key_may_not_register(self, house: House, tenant: str, file: Path) -> None:
        key = house.make_key(tenant, "call")
        said = house.fails("register", file, key=key)
        assert "forbidden" in said
        assert "tombola tenants key new --role" in said

    def test_canary_and_promote_exclude_one_another(self, house: House, file: Path, admin_key: str) -> None:
        assert "say one of them" in house.fails("register", file, "--promote", "--canary", "5%", key=admin_key, code=2)

    def test_a_model_without_its_description_says_what_is_missing(
        self, house: House, tmp_path: Path, admin_key: str
    ) -> None:
        (tmp_path / "model.onnx").write_bytes(b"")
        assert "needs a model.toml beside it" in house.fails("register", tmp_path / "model.onnx", key=admin_key)


def test_a_found_signature_is_the_one_that_travels(file: Path) -> None:
    ticket = parse(file.read_bytes()).id
    public = signed(file, ticket)
    package = load(file, None)
    assert package.signature is not None
    signer, _, text = package.signature.partition(":")
    assert signer == "release"
    assert verify(public, ticket, signature_bytes(text))


def test_the_table_names_what_was_registered_with_the_actors_key(
    house: House, tenant: str, admin_key: str, file: Path
) -> None:
    house.ok("register", file, key=admin_key)
    (event,) = [event for event in asyncio.run(_events(house, tenant)) if event.action == "ticket.register"]
    assert event.actor.startswith(f"tenant/{tenant}/")
    assert event.subject == parse(file.read_bytes()).id


async def _events(house: House, tenant: str) -> list[Event]:
    gateway = house.running.gateway
    store = Store.connect(gateway.redis_url, gateway.namespace)
    try:
        return await store.events(tenant)
    finally:
        await store.close()
