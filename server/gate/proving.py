"""Proving: the steps that need the ticket opened, and everything they import.

Owns the opening (as a worker does it, so that its bytes are what a worker will count) and what the samples, the
profile and the evidence set show. `server.gate.examination` imports this module only when the steps before have
passed; nothing can be imported after the confinement that stands in the middle of `Proving.open`.
"""

from typing import Any

import msgspec

from routing.account import Policy
from server.gate import confine
from server.gate.judgement import not_passed, overclaims, too_dear, worth
from server.gate.outcome import RefusedError, Skipped
from server.gate.trial import Trial
from server.memory import return_promptly
from server.opening import Opened, open_ticket
from server.runtime import CPU, prime
from server.sharing import Shared
from tickets.bundle import Bundle
from tickets.claims import claims
from tickets.evidence import Measured, measure, read_evidence

Result = tuple[str, dict[str, Any]]
"""A sentence and its facts."""


class Proving:
    """One bundle whose members have been found sound as far as can be seen from outside."""

    def __init__(self, bundle: Bundle, policy: Policy) -> None:
        self._bundle, self._policy = bundle, policy
        self._trial: Trial | None = None
        self._opened: Opened | None = None
        self._measured: Measured | None = None
        self.confinement = ""
        self.quality = self.service_ms = 0.0
        self.resident_bytes = 0

    def open(self) -> Result:
        """Confine this process for good, then open the graph. Raises LoadError, and what libraries raise."""
        return_promptly()
        prime()
        self.confinement = confine.filter_calls(may_load=False)
        self._opened = open_ticket(self._bundle, [CPU], Shared())
        self.resident_bytes = self._opened.added_bytes
        return f"opened in {self.resident_bytes} bytes of memory", {"resident_bytes": self.resident_bytes}

    def samples(self) -> Result:
        """Raises TrialError, BundleError."""
        assert self._opened is not None
        self._trial = Trial(self._bundle, self._opened.task)
        return self._trial.reproduce(), {}

    def profile(self) -> Result:
        """Raises RefusedError."""
        profile = self._asked.profile()
        self.service_ms = max(profile.p50_ms, 0.001)
        _refuse(list(too_dear(self._policy, self.service_ms, self.resident_bytes)))
        facts = {**msgspec.structs.asdict(profile), "resident_bytes": self.resident_bytes}
        return f"one row alone takes {self.service_ms:.3g} ms", facts

    def evidence(self) -> Result:
        """Raises RefusedError, BundleError, Skipped."""
        manifest = self._bundle.manifest
        evidence = read_evidence(self._bundle)
        if evidence is None:
            raise Skipped("the bundle carries no evidence set: its claims are believed")
        if manifest.task != "text-classification":
            raise RefusedError(f"an evidence set of texts says nothing of task {manifest.task!r}")
        self._measured = measure(evidence, self._asked.answers(evidence.texts))
        _refuse(list(overclaims(claims(manifest.evidence), self._measured)))
        return f"{self._measured.texts} texts bear out what is claimed", msgspec.structs.asdict(self._measured)

    def policy(self) -> Result:
        """Raises RefusedError."""
        evidence = self._bundle.manifest.evidence
        found = worth(evidence, claims(evidence), self._measured)
        self.quality = found.quality
        _refuse(list(not_passed(self._policy, found)))
        return "all gates are passed", msgspec.structs.asdict(found)

    @property
    def _asked(self) -> Trial:
        assert self._trial is not None  # the samples come first
        return self._trial


def _refuse(problems: list[str]) -> None:
    if problems:
        raise RefusedError("; ".join(problems))
