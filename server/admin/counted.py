"""Registrations that are counted: how each upload ended, and how long its steps took.

Owns nothing but the counting, around `server.admin.registration`: what a registration is, is decided there.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from routing.store import Store
from server.admin.registration import GateRefused, Outcome, Registrations, Submission
from server.control_metrics import KNOWN, REGISTERED, ControlMetrics
from server.errors import ApiError
from server.gate.report import Step
from server.gate.runner import Gate
from tickets.registry import Registry

ABANDONED = "abandoned"
"""The outcome of an upload whose caller went away."""


class CountedRegistrations(Registrations):
    """As `Registrations`, and counted."""

    def __init__(
        self, store: Store, registry: Registry, gate: Gate, metrics: ControlMetrics, **options: Any  # noqa: ANN401
    ) -> None:  # fmt: skip
        """``options``: those of `Registrations`."""
        super().__init__(store, registry, gate, **options)
        self._metrics = metrics

    async def register(self, wanted: Submission, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Step | Outcome, None]:
        """As `Registrations.register`."""
        outcome = ABANDONED
        try:
            async with contextlib.aclosing(super().register(wanted, chunks)) as said:
                async for item in said:
                    if isinstance(item, Outcome):
                        outcome = REGISTERED if item.is_new else KNOWN
                    else:
                        self._metrics.registration_step(item.name, item.ms / 1000)
                    yield item
        except GateRefused as error:
            outcome = error.report.refusal or error.code
            raise
        except ApiError as error:
            outcome = error.code
            raise
        finally:
            self._metrics.registered(wanted.tenant, outcome)
