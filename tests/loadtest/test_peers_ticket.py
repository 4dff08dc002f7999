"""The benchmark's small reader of bundles, against the real one; and the model code that every peer runs."""

import json
from pathlib import Path

import pytest

from loadtest.peers.ticket import Unpacked, qualities, starter_of_one, unpack
from loadtest.sentences import BANKING, TRAVEL
from tickets import bundle as bundles

STARTER = Path(__file__).parents[2] / "tickets" / "starter"
TICKET = STARTER / "banking-accurate.ticket"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    return unpack(TICKET, tmp_path_factory.mktemp("tickets"))


def test_what_is_unpacked_is_what_the_bundle_holds(unpacked: Unpacked) -> None:
    bundle = bundles.read(TICKET)
    assert unpacked.id == bundle.id
    assert (unpacked.domain, unpacked.tier) == (bundle.manifest.domain, bundle.manifest.tier)
    for name in ("model.onnx", "tokenizer.json"):
        assert (unpacked.folder / name).read_bytes() == bytes(bundle.members[name])
    facts = json.loads((unpacked.folder / "ticket.json").read_text())
    assert facts["labels"] == bundle.manifest.labels
    assert facts["threshold"] == bundle.manifest.calibration.threshold


def test_a_damaged_ticket_is_refused(tmp_path: Path) -> None:
    data = bytearray(TICKET.read_bytes())
    data[-100] ^= 1
    damaged = tmp_path / "damaged.ticket"
    damaged.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(damaged, tmp_path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.ticket"
    other.write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match="not a ticket"):
        unpack(other, tmp_path)


def test_a_starter_of_one_holds_that_ticket_alone(tmp_path: Path) -> None:
    folder = starter_of_one(TICKET, "banking", "accurate", tmp_path / "starter")
    index = json.loads((folder / "family.json").read_text())
    assert index == {"families": {"banking": [{"file": TICKET.name, "tier": "accurate"}]}}
    assert bundles.read(folder / TICKET.name).id == bundles.read(TICKET).id


def test_qualities_are_what_the_manifests_state() -> None:
    found = qualities(STARTER)
    assert len(found) == len(list(STARTER.glob("*.ticket")))
    bundle = bundles.read(TICKET)
    assert found[bundle.id] == bundle.manifest.evidence.quality


@pytest.mark.parametrize("is_grouped", [True, False])
def test_peers_answer_as_the_reference_does(unpacked: Unpacked, is_grouped: bool) -> None:
    """Label and scope are the reference's, the probability within 1e-5, whatever the batch: short and long together."""
    pytest.importorskip("onnxruntime")
    from loadtest.peers.model import Ticket
    from tickets.reference import Reference

    texts = ["", *BANKING, *TRAVEL, "how much money " * 40]
    expected = Reference(bundles.read(TICKET)).classify(texts)
    answers = Ticket(unpacked.folder, is_grouped=is_grouped).classify(texts)
    assert [answer["label"] for answer in answers] == expected.labels
    assert [answer["in_scope"] for answer in answers] == expected.in_scope.tolist()
    probabilities = [answer["probability"] for answer in answers]
    assert probabilities == pytest.approx(expected.probability.tolist(), abs=1e-5)
