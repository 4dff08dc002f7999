"""Whatever is done to a graph, scanning it ends in `Scanned` or `ScanError`; what passes, the runtime survives."""

import random

import onnxruntime as ort
import pytest

from tests.fuzz.fuzz_scan import check, mutate
from tests.server.gate.bundles import graph
from tests.tiny import tiny_onnx

ROUNDS = 1500


@pytest.mark.parametrize("seed", range(4))
def test_damaged_graphs_are_refused_or_sound(seed: int) -> None:
    rng = random.Random(f"scan-{seed}")
    ends = [check(mutate(tiny_onnx(), rng)) for _ in range(ROUNDS)]
    assert ends.count("refused") > ROUNDS // 4
    assert ends.count("sound") > 0


@pytest.mark.parametrize("seed", range(2))
def test_random_bytes_are_refused(seed: int) -> None:
    rng = random.Random(f"bytes-{seed}")
    for _ in range(ROUNDS):
        assert check(rng.randbytes(rng.randint(1, 200))) == "refused"


def test_what_the_scan_lets_pass_the_runtime_can_at_least_refuse() -> None:
    """Damaged graphs that pass the scan are opened here: none takes the process with it."""
    rng = random.Random("runtime")
    opened = refused = 0
    for _ in range(600):
        data = mutate(tiny_onnx(), rng)
        if check(data) == "sound":
            try:
                ort.InferenceSession(data, providers=["CPUExecutionProvider"])
                opened += 1
            except Exception:
                refused += 1
    assert opened
    assert refused


def test_a_sound_graph_is_sound() -> None:
    assert check(tiny_onnx()) == "sound"
    assert check(graph([])) == "refused"
