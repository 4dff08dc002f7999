"""Compute: on which device and in which precision training runs.

bf16 is automatic mixed precision: weights, optimizer and losses stay fp32, matrix products run in bf16 (Micikevicius
et al. 2018, "Mixed Precision Training"; with bf16's range no loss scaling is needed). It is worth having where the
hardware multiplies bf16: CUDA from Ampere on, and CPUs with AMX (measured here: 2.5 times the fp32 rate for the dense
parent).
"""

import platform
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Compute:
    """Where training runs: ``device`` is torch's name (``cpu``, ``cuda``), ``precision`` that of matrix products."""

    device: str = "cpu"
    precision: Precision = "fp32"

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which losses are computed."""
        context: AbstractContextManager[None] = torch.autocast(
            self.device, torch.bfloat16, enabled=self.precision == "bf16"
        )
        return context

    def described(self) -> dict[str, str]:
        """What a run's result depends on; empty for fp32 on a CPU."""
        full = {"device": self.device, "precision": self.precision}
        return {key: value for key, value in full.items() if value not in ("cpu", "fp32")}


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """The device and precision asked for, or the fastest ones of this machine.

    Raises ValueError where the machine has no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ValueError(f"device {device!r}: use auto, cpu, cuda or cuda:N")
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError("no CUDA device: torch sees no GPU here; use --device cpu, or install torch's CUDA build")
    if int(device.partition(":")[2] or 0) >= max(1, torch.cuda.device_count()):
        raise ValueError(f"no device {device!r}: torch sees {torch.cuda.device_count()} GPUs, counted from 0")
    if precision == "auto":
        return Compute(device, "bf16" if _multiplies_bf16(device) else "fp32")
    return Compute(device, "bf16" if precision == "bf16" else "fp32")


def host_isa() -> Literal["vnni", "avx2"]:
    """What this machine's CPU multiplies int8 with: ``avx2`` on an x86 that has no VNNI, else ``vnni``."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    has_vnni = any(flag in _cpu_flags() for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
    return "avx2" if is_x86 and not has_vnni else "vnni"


def choose_isa(asked: str) -> Literal["vnni", "avx2"]:
    """``auto`` is this machine's. Raises ValueError where this machine could not measure what it makes."""
    if asked == "avx2" or (asked == "auto" and host_isa() == "avx2"):
        return "avx2"
    if host_isa() == "avx2":
        raise ValueError(
            "--isa vnni: this CPU has no VNNI, so int8 products of such a ticket overflow here and nothing that is "
            "measured would hold. Use --isa avx2, which is right on every CPU, or find it on a machine with VNNI"
        )
    return "vnni"


def _multiplies_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
