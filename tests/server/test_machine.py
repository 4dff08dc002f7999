"""server.machine: quotas, cores and flags, from the texts that Linux gives."""

import subprocess
import sys

import pytest

from server.machine import (
    available_cores,
    cores,
    default_gateways,
    default_workers,
    quota_of_cpu_max,
    share_out,
    useful_flags,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2.0),
        ("150000 100000", 1.5),
        ("50000", 0.5),  # the period has a default
        ("-1 100000", None),  # version 1's word for no limit
        ("100 0", None),
        ("", None),
        ("nonsense here", None),
    ],
)
def test_cpu_max(text: str, expected: float | None) -> None:
    assert quota_of_cpu_max(text) == expected


@pytest.mark.parametrize(
    ("affinity", "quotas", "expected"),
    [(8, [], 8), (8, [2.0], 2), (8, [1.5], 2), (8, [0.1], 1), (2, [16.0], 2), (8, [4.0, 3.0], 3)],
)
def test_cores_are_bounded_by_the_tightest_limit(affinity: int, quotas: list[float], expected: int) -> None:
    assert cores(affinity, quotas) == expected


@pytest.mark.parametrize(
    ("core_count", "gateways", "expected"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (8, 2, 6), (2, 4, 1)]
)
def test_workers_get_the_cores_that_gateways_leave(core_count: int, gateways: int, expected: int) -> None:
    assert default_workers(core_count, gateways) == expected


@pytest.mark.parametrize(("core_count", "expected"), [(1, 1), (2, 1), (7, 1), (8, 2), (64, 16)])
def test_a_quarter_of_the_cores_are_gateways(core_count: int, expected: int) -> None:
    assert default_gateways(core_count) == expected
    assert default_gateways(core_count) + default_workers(core_count, default_gateways(core_count)) >= core_count


@pytest.mark.parametrize(
    ("core_count", "texts_per_s", "gateways", "workers", "requests_per_s"),
    [
        (1, 10_000, 1, 1, 5_000),  # they take turns
        (2, 5_000, 1, 1, 5_000),
        (4, 10_000, 2, 2, 20_000),  # as much work on either side
        (4, 3_000, 1, 3, 9_000),
        (8, 3_000, 2, 6, 18_000),
        (8, 200, 1, 7, 1_400),  # a slow ticket needs every core that it can get
        (8, 40_000, 6, 2, 60_000),  # a very fast one is limited by HTTP
    ],
)
def test_cores_are_shared_out_so_that_neither_side_waits(
    core_count: int, texts_per_s: float, gateways: int, workers: int, requests_per_s: float
) -> None:
    best = share_out(core_count, texts_per_s, gateway_ms=0.1)
    assert (best.gateways, best.workers) == (gateways, workers)
    assert best.requests_per_s == pytest.approx(requests_per_s)


def test_the_default_is_what_the_rule_says_of_a_ticket_of_middling_speed() -> None:
    for core_count in (4, 8, 16, 64):
        assert share_out(core_count, 3_300.0).gateways == default_gateways(core_count)


def test_flags_are_reported_in_a_fixed_order_and_only_where_present() -> None:
    assert useful_flags("processor\t: 0\nflags\t\t: fpu amx_int8 avx2 sse2\n") == ["avx2", "amx_int8"]
    assert useful_flags("Features\t: fp asimd asimddp i8mm\n") == ["asimddp", "i8mm"]
    assert useful_flags("") == []


def test_this_machine_has_at_least_one_core() -> None:
    assert available_cores() >= 1


def test_the_file_limit_is_raised_to_what_the_system_grants() -> None:
    code = (
        "import resource\n"
        "from server.machine import raise_file_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))\n"
        "print(raise_file_limit(), raise_file_limit(100), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["200", "200", "200"]
