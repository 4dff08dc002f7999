"""The gate's words: what is wanted of an examination, its steps as they come, and the report at its end.

Owns the documents that the gate's process and the gateway exchange, and that are kept with a ticket. How a
step is done is left to `server.gate.examination`, the process to `server.gate.runner`. Light: the gateway
imports it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from routing.account import Policy
from tickets.manifest import Manifest, Tensor

StepName = Literal[
    "size", "integrity", "signature", "manifest", "graph", "samples", "profile", "evidence", "policy", "commit"
]
"""In the order in which they are taken. ``size`` and ``commit`` are the caller's own, all others the gate's."""

Refusal = Literal[
    "too_large",
    "ticket_quota_exceeded",
    "bad_bundle",
    "bad_signature",
    "manifest_mismatch",
    "graph_refused",
    "samples_differ",
    "profile_refused",
    "claims_differ",
    "gate_failed",
]
"""Why a bundle is not taken; one for each step that can refuse (two for ``size``)."""

REFUSAL_OF: dict[StepName, Refusal] = {
    "integrity": "bad_bundle",
    "signature": "bad_signature",
    "manifest": "manifest_mismatch",
    "graph": "graph_refused",
    "samples": "samples_differ",
    "profile": "profile_refused",
    "evidence": "claims_differ",
    "policy": "gate_failed",
}
"""The refusal of each of the gate's own steps, in their order."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step, ended. ``detail`` is a sentence for people, ``facts`` are the same for programs."""

    name: StepName
    status: Literal["passed", "refused", "skipped"]
    ms: float = 0.0
    detail: str = ""
    facts: dict[str, Any] = {}


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What callers of a domain send and get: what every ticket of it must take and give."""

    task: str
    inputs: list[Tensor]
    outputs: list[Tensor]

    @classmethod
    def of(cls, manifest: Manifest) -> "Shape":
        """That of a ticket."""
        return cls(task=manifest.task, inputs=manifest.inputs, outputs=manifest.outputs)

    def difference(self, manifest: Manifest) -> str | None:
        """What a ticket does otherwise, in words; None where it fits. Numbers of labels may differ."""
        if manifest.task != self.task:
            return f"its task is {manifest.task}, the domain's tickets do {self.task}"
        for kind, ours, its in (("inputs", self.inputs, manifest.inputs), ("outputs", self.outputs, manifest.outputs)):
            wanted, found = ({t.name: (t.datatype, len(t.shape)) for t in tensors} for tensors in (ours, its))
            missing = wanted.items() - found.items()
            if missing or (kind == "inputs" and found.keys() - wanted.keys()):
                return f"its {kind} are {_named(its)}, those of the domain's tickets {_named(ours)}"
        return None


def _named(tensors: list[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype} of rank {len(tensor.shape)}" for tensor in tensors)


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle is to be examined for: by whom, for where, under which policy, within which limits."""

    tenant: str
    domain: str | None = None
    """None: the manifest's."""
    tier: str | None = None
    """None: the manifest's; one of the two must name one."""
    domains: dict[str, Shape] = {}
    """What the tickets of the tenant's domains take and give, by the domain's name: a ticket must fit its domain."""
    policy: Policy = Policy()
    signature: str | None = None
    """``<signer>:<base64 of 64 bytes>``, as the upload's header carries it."""
    allows_loops: bool = False
    """Whether graphs may hold Loop and Scan, which may never end: an operator's choice."""
    max_bytes: Annotated[int, Meta(ge=1, le=1 << 40)] = 1 << 30
    """Of the bundle's file."""
    time_limit_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 60.0
    """For the whole examination, from the process's start to its report."""
    memory_limit_bytes: Annotated[int, Meta(ge=64 << 20, le=1 << 40)] = 2 << 30
    """What the process may allocate beyond the bundle itself (see docs/gate.md)."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gate's process is given on its input."""

    path: str
    wanted: Wanted


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How an examination ended: everything that was found out. Kept with the ticket where it was accepted."""

    ticket: str
    """The bundle's id; empty where it could not even be read."""
    tenant: str
    domain: str
    """Where it was to go; empty where neither the caller nor a readable manifest says."""
    tier: str
    bytes: int
    """Of the bundle."""
    steps: list[Step]
    accepted: bool
    refusal: Refusal | None = None
    message: str = ""
    """Why it was refused, and what to do; empty where it was accepted."""
    quality: float = 0.0
    """What routing shall compare: measured on the evidence set where there is one, else claimed."""
    service_ms: float = 0.0
    """One row alone, as measured on this host (the median)."""
    resident_bytes: int = 0
    """What a worker's memory budget is charged for it here."""
    confinement: list[str] = []
    """What the process was kept from, and what the kernel refused to keep it from, in words."""
    at: float = 0.0
    """Seconds since 1970, when it ended."""

    @property
    def refused_step(self) -> str:
        """The step that refused; empty where none did."""
        return next((step.name for step in self.steps if step.status == "refused"), "")
