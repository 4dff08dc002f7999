"""``tombola worker``: one worker process, from its options to its exit code. The composition root.

Owns the command line, the order of starting and stopping, and the lease that lets gateways
find this process. Redis is needed for being found, not for serving: while it is away the
worker goes on, and it announces itself again when Redis is back.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import click
import msgspec
import structlog
from prometheus_client import CollectorRegistry

from routing.lease import Lease
from routing.store import Store, StoreUnavailable
from server.address import AddressError, of_process, parse
from server.blame import hold_last_life
from server.control_metrics import RedisMetrics
from server.garbage import settle_garbage
from server.preload import preload
from server.quarantine import Marker, Quarantine, marker_file, quarantine_file, record_crashes
from server.runtime import choose_providers
from server.sessions import Sessions
from server.telemetry import configure_logging
from server.worker import Worker
from server.worker_metrics import WorkerMetrics
from tickets.registry import Registry

LEASE_TTL_S = 3.0
LEASE_EVERY_S = 1.0

log = structlog.get_logger()


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of ``tombola worker`` say; each is described there."""

    name: str
    redis_url: str
    registry: Path
    run_dir: Path
    listen: str
    memory_bytes: int
    batch_tokens: int
    queue_texts: int
    providers: tuple[str, ...]
    drain_s: float
    preload: bool


async def serve(config: WorkerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises ValueError or OSError when it cannot start."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    measured = CollectorRegistry()
    metrics = WorkerMetrics(measured)
    providers = choose_providers(config.providers)
    marker, quarantine = _blackbox(config)
    metrics.quarantined.set_function(lambda: len(quarantine.tickets()))
    sessions = Sessions(
        Registry(config.registry), metrics, memory_bytes=config.memory_bytes, providers=providers, marker=marker,
        quarantine=quarantine,
    )  # fmt: skip
    worker = Worker(
        config.name, sessions, measured, metrics, batch_tokens=config.batch_tokens, queue_texts=config.queue_texts,
        marker=marker,
    )  # fmt: skip
    store = Store.connect(config.redis_url)
    try:
        address = await worker.start(parse(config.listen))
        lease = Lease(kind="worker", name=config.name, address=str(address), pid=os.getpid())
        tasks = [asyncio.create_task(keep_lease(store, lease, metrics.redis), name="lease")]
        if config.preload:
            find = partial(fellows, store, config.name)
            loading = preload(sessions, Registry(config.registry), config.name, config.memory_bytes, find)
            tasks.append(asyncio.create_task(loading, name="preload"))
        settle_garbage()
        log.info("ready", process=config.name, address=lease.address, pid=lease.pid, providers=providers)
        await stop.wait()
        log.info("draining", process=config.name)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(worker.drain(config.drain_s), _withdraw(store, lease))
    finally:
        await worker.close()
        await store.close()
    log.info("stopped", process=config.name)


async def keep_lease(store: Store, lease: Lease, redis: RedisMetrics | None = None) -> None:
    """Announce the lease again and again, until cancelled; an absent Redis is logged once and waited out."""
    is_known = True
    while True:
        try:
            with redis.trip() if redis is not None else contextlib.nullcontext():
                await store.announce(lease, LEASE_TTL_S)
            if not is_known:
                log.info("lease_announced_again")
            is_known = True
        except StoreUnavailable as error:
            if is_known:
                log.warning("lease_not_announced", reason=str(error))
            is_known = False
        except Exception:  # a worker that stops announcing itself is lost to everybody
            log.exception("lease_failed")
            is_known = False
        await asyncio.sleep(LEASE_EVERY_S)


async def fellows(store: Store, name: str) -> list[str]:
    """The live workers by name, this one among them; it alone where Redis does not say.

    Those that start together can see one another's leases after a moment, which this takes.
    """
    await asyncio.sleep(LEASE_EVERY_S)
    try:
        return sorted({lease.name for lease in await store.leases("worker")} | {name})
    except StoreUnavailable:
        return [name]


def _blackbox(config: WorkerConfig) -> tuple[Marker, Quarantine]:
    """What the supervisor reads after a crash, and where it keeps what it concludes."""
    config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = marker_file(config.run_dir, config.name)
    hold_last_life(config.run_dir, config.name)
    record_crashes(path)
    return Marker(path), Quarantine(quarantine_file(config.run_dir))


async def _withdraw(store: Store, lease: Lease) -> None:
    try:
        await store.withdraw(lease)
    except StoreUnavailable:
        log.info("lease_left_to_expire")


def _die(crash: threading.ExceptHookArgs) -> None:
    """A worker without its run thread or its loader would keep its asks for ever: end, and be restarted."""
    log.error("thread_crashed", thread=crash.thread and crash.thread.name, exc_info=crash.exc_value)
    os._exit(70)


def _run(config: WorkerConfig) -> None:
    # One thread per worker: many small models share few cores, and the tokenizer's pool would fight for them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    threading.excepthook = _die
    if sys.platform == "win32":
        asyncio.run(serve(config))
    else:
        import uvloop

        uvloop.run(serve(config))


@click.command("worker", context_settings={"show_default": True})
@click.option("--name", envvar="TOMBOLA_NAME", help="Unique among workers; shown in metrics. [default: worker-PID]")
@click.option(
    "--redis-url", envvar="TOMBOLA_REDIS_URL", default="redis://127.0.0.1:6379/0",
    help="Where to announce this worker: redis://, rediss:// or unix:///path.",
)  # fmt: skip
@click.option(
    "--registry", envvar="TOMBOLA_REGISTRY", default=".tombola/registry", type=click.Path(path_type=Path),
    help="Folder of ticket bundles. All workers and gateways of a machine share one.",
)  # fmt: skip
@click.option(
    "--run-dir", envvar="TOMBOLA_RUN_DIR", default=".tombola/run", type=click.Path(path_type=Path),
    help="Folder for Unix sockets; only its owner may enter it. Keep its path short.",
)  # fmt: skip
@click.option(
    "--listen", envvar="TOMBOLA_LISTEN", metavar="ADDRESS",
    help="Where gateways connect: unix:/path or tcp://127.0.0.1:port. [default: unix:<run-dir>/<name>.sock]",
)  # fmt: skip
@click.option(
    "--memory-bytes", envvar="TOMBOLA_MEMORY_BYTES", default=1 << 30, type=click.IntRange(min=1),
    help="Budget for tickets in memory; the least valuable leave first. Leave a third of the machine's free.",
)  # fmt: skip
@click.option(
    "--batch-tokens", envvar="TOMBOLA_BATCH_TOKENS", default=512, type=click.IntRange(min=1),
    help="Padded tokens per batch. More helps throughput on GPUs; on a CPU core little is gained beyond 16 short "
    "texts, and urgent work waits for the batch before it.",
)  # fmt: skip
@click.option(
    "--queue-texts", envvar="TOMBOLA_QUEUE_TEXTS", default=4096, type=click.IntRange(min=1),
    help="Texts that may wait; beyond, asks are refused at once. Choose what runs within the longest deadline.",
)  # fmt: skip
@click.option(
    "--provider", "providers", envvar="TOMBOLA_PROVIDERS", multiple=True, metavar="NAME",
    help="Execution provider, most wanted first; repeat it. [default: CUDA where the runtime has it, then CPU]",
)  # fmt: skip
@click.option(
    "--drain-s", envvar="TOMBOLA_DRAIN_S", default=10.0, type=click.FloatRange(min=0.0),
    help="After SIGTERM, how long to go on answering what is queued. Longer than the longest deadline in use.",
)  # fmt: skip
@click.option(
    "--preload/--no-preload", envvar="TOMBOLA_PRELOAD", default=True,
    help="Load the registry's tickets at the start while they fit, instead of on their first ask.",
)  # fmt: skip
def command(name: str | None, run_dir: Path, listen: str | None, **options: object) -> None:
    """Run a worker: it loads tickets on demand and answers gateways.

    Example: tombola worker --name w1 --redis-url redis://127.0.0.1:6379/0 --registry .tombola/registry
    """
    configure_logging()
    name = name or f"worker-{os.getpid()}"
    try:
        own = of_process(run_dir, name)
        if listen is None:
            run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            listen = str(own)
        _run(msgspec.convert({**options, "name": name, "run_dir": run_dir, "listen": listen}, WorkerConfig))
    except (AddressError, ValueError, OSError) as error:
        raise click.ClickException(f"worker {name} cannot run: {error}") from error
