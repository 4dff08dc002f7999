"""From a system of the catalogue to a running one that has proven to give the right answers.

Owns the placeholders of commands, the scratch folder, and where Tombola's key comes from. Processes are
`loadtest.peers.processes`', environments `loadtest.peers.environments`'.
"""

import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtest.peers.catalogue import PATIENT_MS, WHOLE_FAMILY, Setting, System
from loadtest.peers.dialects import Answer, PeerWorkload
from loadtest.peers.environments import PeerFailed
from loadtest.peers.measure import READY_WITHIN_S, Running, wait_until_right
from loadtest.peers.patience import lengthen_deadlines
from loadtest.peers.processes import Launch, ProcessTree, environment_for, free_ports

HERE = Path(__file__).parents[2]
_REDIS = re.compile(r"^ *Redis +(\S+)$", re.MULTILINE)
_KEY = re.compile(r"tk_[A-Za-z0-9_-]+")


class Context(NamedTuple):
    """What is the same for all systems of a run."""

    ticket: Path
    """The unpacked ticket."""
    alone: Path
    """A starter folder with this ticket alone."""
    family: Path
    """The starter folder with its family."""
    tombola: Path
    """Where Tombola's packages lie."""
    answers: Mapping[str, Answer]
    """What the bare loop says of each text."""
    qualities: Mapping[str, float]


@contextmanager
def started(
    system: System, setting: Setting, python: Path, context: Context, limit: int | None = None
) -> Iterator[tuple[Running, float]]:
    """The running system, and the seconds from its start to the first right answer.

    ``limit``: bound its queue to so many requests, in the system's own way. Raises PeerFailed.
    """
    with tempfile.TemporaryDirectory(prefix="p", ignore_cleanup_errors=True) as name:
        scratch, ports = Path(name), free_ports(3)
        values = {
            "python": python, "bin": python.parent, "ticket": context.ticket, "scratch": scratch,
            "starter": context.family if system.name == WHOLE_FAMILY else context.alone,
            "port": ports[0], "port2": ports[1], "port3": ports[2], "limit": limit,
        }  # fmt: skip
        began = time.perf_counter()
        launch = _launch(system, setting, limit, values, context, scratch)
        with ProcessTree(launch) as tree:
            url = f"http://127.0.0.1:{ports[0]}"
            workload, patient = _workloads(system, tree, launch, context, f"127.0.0.1:{ports[0]}")
            wait_until_right(url, system.patient or system.dialect, patient, context.answers, tree)
            running = Running(url, workload, patient, tree, scratch, context.qualities)
            yield running, time.perf_counter() - began


def _launch(
    system: System, setting: Setting, limit: int | None, values: Mapping[str, object], context: Context, scratch: Path
) -> Launch:
    bound = system.limit if limit is not None else None
    arguments = [*system.command, *setting.arguments, *(bound.arguments if bound else ())]
    extra = {**system.environment, **setting.environment, **(bound.environment if bound else {})}
    return Launch(
        command=[argument.format(**values) for argument in arguments],
        environment=environment_for(
            scratch,
            Path(str(values["python"])),
            context.tombola if system.is_ours else HERE,
            {name: value.format(**values) for name, value in extra.items()},
        ),
        folder=scratch,
        log=scratch / "log",
    )


def _workloads(
    system: System, tree: ProcessTree, launch: Launch, context: Context, host: str
) -> tuple[PeerWorkload, PeerWorkload]:
    key = ""
    if system.is_ours:
        redis_url, key = _wait_for_key(tree)
        lengthen_deadlines(
            Path(launch.command[0]), redis_url, key,
            deadline_ms=PATIENT_MS, environment=launch.environment, scratch=launch.folder,
        )  # fmt: skip
    is_checked = system.name != WHOLE_FAMILY
    workload, patient = (
        PeerWorkload(dialect, context.answers, host=host, key=key, is_checked=is_checked)
        for dialect in (system.dialect, system.patient or system.dialect)
    )
    return workload, patient


def _wait_for_key(tree: ProcessTree) -> tuple[str, str]:
    """The URL of Redis and the key, which `tombola up` prints when it is ready."""
    give_up = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up:
        redis_url, key = _REDIS.search(tree.log), _KEY.search(tree.log)
        if redis_url and key:
            return redis_url[1], key[0]
        tree.check()
        time.sleep(0.05)
    raise PeerFailed(f"tombola up printed no key within {READY_WITHIN_S:g} s: {tree.log[-400:]}")
