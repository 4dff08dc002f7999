"""Cascades: the small ticket's answer stands where it is sure, the large one answers the other rows.

Owns which rows those are, how their answers take their place, and the second ask, which is made
only where it is predicted to make what is left of the deadline. Whatever becomes of it, the
small ticket's answers are at hand and go out in time. The threshold comes from the routing table
(`tombola cascade` finds it on validation data), the confidence from the worker.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import msgspec

from routing.table import Ask, Cascade, Refusal, Route
from server.call import Call, Payload, Reply, part_of
from server.errors import BY_CODE, ApiError
from server.retry import Courier
from server.telemetry import GatewayMetrics
from server.tensor import Tensor, TensorError, row_pieces

SPARE = 0.05
"""Of what is left of a deadline, the part that the large ticket does not get: where it is late, the small one's
answers must still go out in time."""


class Choose(Protocol):
    """How a route is found, from the table and the fleet of the moment."""

    def __call__(
        self, ask: Ask, deadline_ms: float, *, not_workers: frozenset[str] = frozenset(),
        not_tickets: frozenset[str] = frozenset(),
    ) -> Route | Refusal:  # fmt: skip
        """A route for ``ask`` that goes to none of these, or why there is none."""


def unsure_rows(confidence: Sequence[float], threshold: float, rows: int) -> list[int]:
    """The rows whose answer must not stand. A worker that did not say how sure it is was sure of none."""
    if len(confidence) != rows:
        return list(range(rows))
    return [row for row in range(rows) if not confidence[row] >= threshold]


def merge(small: Sequence[Tensor], large: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
    """The small ticket's outputs with those of ``large`` in the place of ``rows``, output by output.

    Raises TensorError where the two do not answer with the same outputs.
    """
    named = {tensor.name: tensor for tensor in large}
    return [_merged(tensor, named.get(tensor.name), rows) for tensor in small]


class SecondAsk:
    """Asks a cascade's large ticket for the rows that the small one is not sure of."""

    def __init__(self, courier: Courier, metrics: GatewayMetrics, choose: Choose) -> None:
        self._courier = courier
        self._metrics = metrics
        self._choose = choose

    async def improve(
        self, call: Call, payload: Payload, ask: Ask, rule: Cascade, small: Reply, confidence: Sequence[float]
    ) -> Reply:
        """The cascade's answer. ``payload`` and ``ask`` are those that brought ``small``."""
        unsure = unsure_rows(confidence, rule.threshold, payload.rows)
        reply, because = small, f"{small.because}; sure of every row"
        if unsure:
            because = f"{small.because}; {len(unsure)} of {payload.rows} rows below confidence {rule.threshold:g}"
            part = msgspec.structs.replace(payload, wants_confidence=False)
            large_ask = msgspec.structs.replace(ask, tier=small.tier, version=rule.large, skip=0)
            try:
                reply = await self._ask_large(call, part, large_ask, small, unsure)
                because += " were answered by the larger ticket"
            except (ApiError, TensorError, TimeoutError) as error:
                because += f" stand, because the larger ticket cannot answer in time: {error}".rstrip(": ")
        by_large = len(unsure) if reply is not small else 0
        self._metrics.cascaded(
            tenant=call.tenant, domain=call.domain, small=payload.rows - len(unsure), large=by_large,
            unsure=len(unsure) - by_large,
        )  # fmt: skip
        return msgspec.structs.replace(
            reply, because=because, row_tickets=reply.row_tickets or [small.ticket] * payload.rows,
            total_ms=call.elapsed_ms(),
        )  # fmt: skip

    async def _ask_large(self, call: Call, payload: Payload, ask: Ask, small: Reply, rows: list[int]) -> Reply:
        part = part_of(payload, rows) if len(rows) < payload.rows else payload
        began_ms = call.elapsed_ms()
        left_ms = (small.deadline_ms - began_ms) * (1.0 - SPARE)
        ask = msgspec.structs.replace(ask, rows=part.rows, row_bytes=part.row_bytes)
        route = self._choose(ask, left_ms)
        if isinstance(route, Refusal):
            raise BY_CODE[route.code](route.message)
        ends = time.perf_counter() + left_ms / 1000
        async with asyncio.timeout(left_ms / 1000):
            route, answer = await self._courier.fetch(part, route, ends, partial(self._choose, ask))
        went = frozenset(rows)
        return msgspec.structs.replace(
            small,
            outputs=merge(small.outputs, answer.outputs, rows),
            ticket=route.ticket,
            queue_ms=small.queue_ms + answer.queue_ms,
            run_ms=small.run_ms + answer.run_ms,
            tokenize_ms=small.tokenize_ms + answer.tokenize_ms,
            predicted_ms=began_ms + route.predicted_ms,
            row_tickets=[route.ticket if row in went else small.ticket for row in range(payload.rows)],
        )


def _merged(small: Tensor, large: Tensor | None, rows: Sequence[int]) -> Tensor:
    if large is None or (large.datatype, large.shape[1:]) != (small.datatype, small.shape[1:]):
        raise TensorError(f"the tickets of the cascade differ in their output {small.name!r}")
    if not small.shape or large.shape[:1] != [len(rows)]:
        raise TensorError(f"output {small.name!r} does not have one row for each that was asked")
    pieces = row_pieces(small)
    for row, piece in zip(rows, row_pieces(large), strict=True):
        pieces[row] = piece
    return Tensor(small.name, small.datatype, small.shape, b"".join(pieces))
