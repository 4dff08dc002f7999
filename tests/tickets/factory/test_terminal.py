"""What goes wrong is told in one sentence that says what to do."""

import errno

import pytest
import torch

from tickets.factory.rows import DataError
from tickets.factory.terminal import Refused, refusing

pytestmark = pytest.mark.torch
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError("only one label"), "only one label"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x"),
            "No space left on device: runs/x. Nothing is lost: ",
        ),
        (torch.OutOfMemoryError(OUT_OF_MEMORY), "--device cpu or cuda:N. PyTorch says: CUDA out of memory"),
        (torch.OutOfMemoryError(), "the GPU's memory is full. Nothing is lost: "),
    ],
)
def test_a_failure_is_told_in_a_sentence(error: Exception, told: str) -> None:
    with pytest.raises(Refused) as refused, refusing():
        raise error
    assert told in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.exit_code == 2


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError), refusing():
        raise KeyError("x")
