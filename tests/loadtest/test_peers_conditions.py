"""What makes a result incomparable: other sources, other pins, other settings."""

from pathlib import Path

import pytest

from loadtest.peers.catalogue import PEERS, Setting, tombolas
from loadtest.peers.conditions import commit, cores, digest, digests, runtime

OURS = tombolas("banking", "accurate", 25.0)[0]


@pytest.fixture
def tombola(tmp_path: Path) -> Path:
    for name in ("server", "routing", "tickets/factory"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "some.py").write_text("one = 1\n")
    return tmp_path


def test_tombola_is_another_system_when_its_source_changes(tombola: Path) -> None:
    before = digest(OURS, tombola)
    assert digest(OURS, tombola) == before
    (tombola / "tickets" / "factory" / "some.py").write_text("two = 2\n")
    assert digest(OURS, tombola) == before, "the factory does not serve"
    (tombola / "server" / "some.py").write_text("two = 2\n")
    assert digest(OURS, tombola) != before


def test_a_peer_is_another_system_when_its_pins_or_settings_change(tombola: Path) -> None:
    peer = PEERS[0]
    others = [
        peer,
        peer._replace(requirements=("fastapi==1",)),
        peer._replace(settings=(Setting("other"),)),
        peer._replace(command=(*peer.command, "--more")),
    ]
    assert len({digest(other, tombola) for other in others}) == 4


def test_every_peer_has_a_digest_of_its_own(tombola: Path) -> None:
    found = digests(PEERS, tombola)
    assert len(set(found.values())) == len(PEERS)


def test_the_machine_is_described(tmp_path: Path) -> None:
    assert cores()
    assert "ONNX Runtime" in runtime()
    assert commit(tmp_path) == "unknown"
