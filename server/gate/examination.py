"""The examination: the gate's steps, one after the other, from a file's path to a report.

Owns their order, what each hands to the next, and how a failure becomes a refusal in words. Heavy libraries are
imported only when the steps before have passed, so that a bad file costs little; the last confinement comes
after those imports and before the runtime sees the graph. Runs in the gate's own process only.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from server.gate import confine
from server.gate.outcome import RefusedError, Skipped
from server.gate.report import REFUSAL_OF, Report, Step, StepName, Wanted
from server.gate.scan import ScanError, Scanned, scan
from server.gate.signature import SignatureRefused, check_signature
from server.gate.spool import SpoolError, read_spool
from server.gate.tokens import TokenizerError, read_tokenizer
from tickets.bundle import Bundle, BundleError
from tickets.claims import quality
from tickets.onnx_reader import OnnxError, describe

Facts = dict[str, Any]
Result = tuple[str, Facts]
"""A sentence and its facts."""


_EXPECTED = (RefusedError, BundleError, OnnxError, ScanError, SignatureRefused, SpoolError, TokenizerError)
"""What a step raises about the bundle. Anything else is named with its class, but for these, whose modules are not
imported here:"""
_IN_WORDS = ("LoadError", "MatchError", "TrialError")


class Examination:
    """One bundle, once."""

    def __init__(self, path: Path, wanted: Wanted, confinement: list[str]) -> None:
        self._path, self._wanted, self._confinement = path, wanted, confinement
        self._steps: list[Step] = []
        self._bundle: Bundle | None = None
        self._scanned: Scanned | None = None
        self._scan_problem = ""
        self._proving: Any = None  # a server.gate.proving.Proving, which is imported when it is needed

    def run(self) -> Iterator[Step | Report]:
        """Each step as it ends, then the report."""
        takes: dict[StepName, Callable[[], Result]] = {
            "integrity": self._integrity,
            "signature": self._signature,
            "manifest": self._manifest,
            "graph": self._graph,
            "samples": lambda: self._proving.samples(),
            "profile": lambda: self._proving.profile(),
            "evidence": lambda: self._proving.evidence(),
            "policy": lambda: self._proving.policy(),
        }
        for name, take in takes.items():
            step = self._taken(name, take)
            self._steps.append(step)
            yield step
            if step.status == "refused":
                break
        yield self._report()

    def _taken(self, name: StepName, take: Callable[[], Result]) -> Step:
        began = time.perf_counter()
        try:
            detail, facts = take()
            status = "passed"
        except Skipped as reason:
            status, detail, facts = "skipped", str(reason), {}
        except _EXPECTED as refusal:
            status, detail, facts = "refused", str(refusal), {}
        except Exception as error:  # hostile bytes may make anything raise anything: the process is there for that
            status, detail, facts = "refused", self._unexpected(error), {}
        ms = round((time.perf_counter() - began) * 1000, 3)
        return Step(name=name, status=status, ms=ms, detail=detail[:1000], facts=facts)  # type: ignore[arg-type]

    def _unexpected(self, error: Exception) -> str:
        text = str(error).strip().split("\n")[0][:500].removeprefix("ValueError: ")
        if isinstance(error, MemoryError) or any(sign in text for sign in confine.OUT_OF_MEMORY):
            return f"it needs more than the {self._wanted.memory_limit_bytes >> 20} MiB of memory that are allowed"
        return text if type(error).__name__ in _IN_WORDS else f"{type(error).__name__}: {text}"

    def _integrity(self) -> Result:
        self._bundle = read_spool(self._path, self._wanted.max_bytes)
        facts = {"ticket": self._bundle.id, "bytes": self._bundle.size_bytes}
        return "complete, and every member is what its digest says", facts

    def _signature(self) -> Result:
        policy = self._wanted.policy
        signer = check_signature(self._checked.id, self._wanted.signature, policy.signers, policy.requires_signature)
        if signer is None:
            raise Skipped("none is asked for, and none was given that could be checked")
        return f"signed by {signer}", {"signer": signer}

    def _manifest(self) -> Result:
        bundle = self._checked
        if not self._tier:
            raise RefusedError("neither the manifest nor the request names a tier: add ?tier=")
        shape = self._wanted.domains.get(self._domain)
        if shape is not None and (difference := shape.difference(bundle.manifest)) is not None:
            raise RefusedError(f"it does not fit domain {self._domain!r}: {difference}; register it in another domain")
        spec = bundle.manifest.tokenizer
        tokens, described = None, None
        try:
            self._scanned = scan(bundle.members["model.onnx"], allows_loops=self._wanted.allows_loops)
            described = describe(bundle.members["model.onnx"])
            tokens = read_tokenizer(bundle.members[spec.member]) if spec is not None else None
        except (OnnxError, ScanError, TokenizerError) as error:
            self._scan_problem = str(error)
            raise Skipped("there is nothing sound to compare it with") from error
        from server.gate.matching import match  # which needs numpy

        detail = match(bundle, described, self._scanned, tokens)
        return detail, {"domain": self._domain, "tier": self._tier, "task": bundle.manifest.task}

    def _graph(self) -> Result:
        if self._scanned is None or self._scan_problem:
            raise RefusedError(self._scan_problem)
        from server.gate.proving import Proving

        self._proving = Proving(self._checked, self._wanted.policy)
        try:
            detail, facts = self._proving.open()
        finally:
            self._confinement.append(self._proving.confinement)
        scanned = {name: value for name, value in msgspec.structs.asdict(self._scanned).items() if name != "tables"}
        return f"{self._scanned.nodes} nodes, {detail}", scanned | facts

    @property
    def _domain(self) -> str:
        """The caller's choice before the manifest's."""
        return self._wanted.domain or (self._bundle.manifest.domain if self._bundle else "")

    @property
    def _tier(self) -> str:
        return self._wanted.tier or (self._bundle.manifest.tier if self._bundle else "") or ""

    @property
    def _checked(self) -> Bundle:
        assert self._bundle is not None  # no step after the first is reached without it
        return self._bundle

    def _report(self) -> Report:
        bundle, last = self._bundle, self._steps[-1]
        is_refused = last.status == "refused"
        proving = self._proving
        return Report(
            ticket=bundle.id if bundle else "",
            tenant=self._wanted.tenant,
            domain=self._domain,
            tier=self._tier,
            bytes=bundle.size_bytes if bundle else 0,
            steps=list(self._steps),
            accepted=not is_refused,
            refusal=REFUSAL_OF[last.name] if is_refused else None,
            message=last.detail if is_refused else "",
            quality=(proving.quality if proving else 0.0) or (quality(bundle.manifest.evidence) if bundle else 0.0),
            service_ms=proving.service_ms if proving else 0.0,
            resident_bytes=proving.resident_bytes if proving else 0,
            confinement=list(self._confinement),
            at=round(time.time(), 3),
        )
