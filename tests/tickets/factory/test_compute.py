"""What int8 products are made for: never for a machine that would overflow them while it measures."""

import platform

import pytest

from tickets.factory import compute
from tickets.factory.compute import choose_isa

pytestmark = pytest.mark.torch

XEON, ZEN3 = "fma avx2 avx512f avx512_vnni amx_int8", "fma avx2 sha_ni"


@pytest.mark.parametrize(
    ("machine", "flags", "asked", "made"),
    [
        ("x86_64", XEON, "auto", "vnni"),
        ("x86_64", XEON, "avx2", "avx2"),
        ("x86_64", ZEN3, "auto", "avx2"),
        ("AMD64", "fma avx2 avx_vnni", "vnni", "vnni"),
        ("aarch64", "asimddp i8mm", "auto", "vnni"),  # its products are exact
        ("aarch64", "asimddp i8mm", "avx2", "avx2"),
    ],
)
def test_auto_is_this_machine_s(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, asked: str, made: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(compute, "_cpu_flags", lambda: flags)
    assert choose_isa(asked) == made


def test_what_this_cpu_would_overflow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(compute, "_cpu_flags", lambda: ZEN3)
    with pytest.raises(ValueError, match=r"no VNNI.*Use --isa avx2"):
        choose_isa("vnni")
