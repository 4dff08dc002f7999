"""What a domain's callers send and get does not change with the ticket that answers them."""

import msgspec
import pytest

from server.gate.report import Shape
from tests.tiny import tiny_bundle
from tickets.bundle import parse
from tickets.manifest import Datatype, Manifest, Tensor

TEXT = parse(tiny_bundle()).manifest


def numbers(datatype: Datatype = "FP32", name: str = "x", rank: int = 2) -> Manifest:
    tensor = Tensor(name=name, datatype=datatype, shape=[-1] * rank)
    return msgspec.structs.replace(TEXT, task="tensors", inputs=[tensor], outputs=[tensor], tokenizer=None, labels=[])


@pytest.mark.parametrize(
    ("domain", "ticket", "says"),
    [
        (TEXT, numbers(), "its task is tensors, the domain's tickets do text-classification"),
        (numbers(), numbers("FP64"), "its inputs are x FP64 of rank 2, those of the domain's tickets x FP32 of rank 2"),
        (numbers(), numbers(name="y"), "its inputs are y FP32"),
        (numbers(), numbers(rank=3), "of rank 3"),
    ],
)
def test_what_does_not_fit_is_said(domain: Manifest, ticket: Manifest, says: str) -> None:
    assert says in (Shape.of(domain).difference(ticket) or "")


def test_another_number_of_labels_and_more_outputs_fit() -> None:
    wide = [msgspec.structs.replace(tensor, shape=[-1, 99][: len(tensor.shape)]) for tensor in TEXT.outputs]
    assert Shape.of(TEXT).difference(msgspec.structs.replace(TEXT, outputs=wide)) is None
    fewer = msgspec.structs.replace(TEXT, outputs=TEXT.outputs[:1])
    assert Shape.of(fewer).difference(TEXT) is None
    assert "its outputs are" in (Shape.of(TEXT).difference(fewer) or "")
