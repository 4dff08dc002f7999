"""The short form, POST /v1/classify: JSON in, labels out. Pure functions, no I/O.

Owns the request's and the answer's shape. It knows what a text-classification ticket
answers with (label, probability, in_scope, in_scope_score, probabilities) and leaves
who answers to `server.dispatch`.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from server.errors import BadRequest, InferenceFailed
from server.tensor import Tensor, TensorError, decode_bytes, to_array, to_list
from server.text import text_tensor

TASK = "text-classification"
TEXT_INPUT = "text"
OUTPUTS = ["label", "probability", "in_scope", "in_scope_score"]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller sends."""

    domain: Annotated[str, Meta(min_length=1, max_length=64, description="A domain of the calling tenant.")]
    text: Annotated[str | list[str], Meta(description="One text, or up to 128, each at most 16 KiB of UTF-8.")]
    tier: Annotated[str, Meta(max_length=64, description="Which promise to use; absent: the domain's own.")] | None = (
        None
    )
    version: (
        Annotated[str, Meta(max_length=64, description="A ticket: its id or 8 digits of it or more. It alone answers.")]
        | None
    ) = None
    deadline_ms: (
        Annotated[
            float, Meta(ge=0, description="How long the caller will wait; the tier's deadline holds if it is less.")
        ]
        | None
    ) = None
    priority: (
        Annotated[int, Meta(ge=1, le=3, description="Among your own requests, 1 goes before 2 (default) before 3.")]
        | None
    ) = None
    top_k: Annotated[int, Meta(ge=1, le=65536, description="Also list this many labels, best first.")] | None = None


class Label(msgspec.Struct, frozen=True):
    """A label and its calibrated probability."""

    label: str
    probability: float


class Result(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer for one text. ``label`` is the best label of the domain even where ``in_scope`` is false."""

    label: str
    probability: float
    in_scope: bool
    in_scope_score: float
    top: list[Label] | None = None
    ticket: str | None = None
    """The ticket that answered this text, where a cascade asked two."""


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds: waiting in the worker's queue, running, in the gateway altogether, and what ``total`` was
    predicted to be when the ticket was chosen."""

    queue: float
    run: float
    total: float
    predicted: float


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller gets."""

    domain: str
    tier: str
    ticket: str
    parent: str | None
    because: str
    results: list[Result]
    timings_ms: Timings
    request_id: str


_request = msgspec.json.Decoder(Request)


def parse(body: bytes) -> Request:
    """The request in ``body``. Raises BadRequest that names the field."""
    if not body:
        raise BadRequest("the body is empty; send a JSON object with domain and text")
    try:
        request = _request.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not a valid classify request: {error}") from error
    if request.deadline_ms is not None and not math.isfinite(request.deadline_ms):
        raise BadRequest("deadline_ms must be a finite number")
    return request


def inputs(request: Request) -> list[Tensor]:
    """The input tensors of a request. Raises BadRequest for a text that is not acceptable."""
    texts = [request.text] if isinstance(request.text, str) else request.text
    return [text_tensor(TEXT_INPUT, texts, [len(texts)])]


def outputs(request: Request) -> list[str]:
    """Which of the ticket's outputs this request needs."""
    return OUTPUTS if request.top_k is None else [*OUTPUTS, "probabilities"]


def results(
    tensors: Sequence[Tensor], labels: Sequence[str], top_k: int | None, tickets: Sequence[str] = ()
) -> list[Result]:
    """One result per text from a ticket's outputs; ``tickets``: of a cascade, who answered each.

    Raises InferenceFailed when the outputs are not what they should be.
    """
    named = {tensor.name: tensor for tensor in tensors}
    try:
        label = named["label"]
        names = [name.decode() for name in decode_bytes(label.data, label.shape[0])]
        columns = [to_list(named[name]) for name in OUTPUTS[1:]]
        tops: list[list[Label] | None] = [None] * len(names)
        if top_k is not None:
            tops = [_top(row, labels, top_k) for row in to_array(named["probabilities"])]
        by: Sequence[str | None] = tickets or [None] * len(names)
        return [
            Result(label=name, probability=p, in_scope=inside, in_scope_score=score, top=top, ticket=ticket)
            for name, p, inside, score, top, ticket in zip(names, *columns, tops, by, strict=True)
        ]
    except (KeyError, TensorError, ValueError, IndexError) as error:
        raise InferenceFailed(f"the ticket answered with outputs that do not fit its task: {error}") from error


def _top(row: NDArray[Any], labels: Sequence[str], top_k: int) -> list[Label]:
    if len(row) != len(labels):
        raise ValueError(f"{len(row)} probabilities for {len(labels)} labels")
    best = np.argsort(-row, kind="stable")[:top_k]
    return [Label(labels[i], float(row[i])) for i in best]
