"""Every bundle of the hostile corpus is refused, by the code that says why, and nothing is left behind."""

from pathlib import Path

import psutil
import pytest

from server.gate.report import REFUSAL_OF
from tests.server.gate.bundles import examine
from tests.server.gate.hostile import CASES


def test_the_corpus_is_large_and_reaches_every_refusal() -> None:
    assert len(CASES) >= 80
    assert {refusal for refusal, _, _ in CASES.values()} == set(REFUSAL_OF.values())


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@pytest.mark.parametrize("name", CASES)
async def test_a_hostile_bundle_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    refusal, make, wanted = CASES[name]
    path = make(tmp_path)
    before = _names(tmp_path)
    children = {process.pid for process in psutil.Process().children(recursive=True)}

    steps, report = await examine(path, **wanted)

    assert not report.accepted
    assert report.refusal == refusal, report.message
    assert REFUSAL_OF[steps[-1].name] == refusal
    assert report.message == steps[-1].detail != ""
    assert _names(tmp_path) == before
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= children
