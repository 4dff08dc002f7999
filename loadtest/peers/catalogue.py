"""The systems that are compared: what each needs, how it is started and asked, and the settings worth trying.

Pure data. Every peer gets the settings that its documentation recommends for small, fast models, among them
batching where it has any, and two processes, because Tombola too has two busy ones; the benchmark tries all of
them and keeps the best. What was tried is reported. Pins: newest at the time of writing (November 2026).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loadtest.peers import dialects
from loadtest.peers.dialects import Dialect

PATIENT_MS = 5000.0
WAY_MS = 3.0
"""Of the limit, what is left for the way there and back: a gateway counts from the request's arrival."""
PROGRAM = "loadtest.peers.programs"
WHOLE_FAMILY = "tombola-family"


class Setting(NamedTuple):
    """One way to run a system."""

    name: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = {}


class System(NamedTuple):
    """One server. ``command`` may use {python}, {bin}, {ticket}, {port}, {port2}, {port3}, {scratch}, {starter}."""

    name: str
    title: str
    command: Sequence[str]
    dialect: Dialect
    settings: Sequence[Setting]
    requirements: Sequence[str] = ()
    """Beside onnxruntime and tokenizers; none: it runs in this environment."""
    environment: Mapping[str, str] = {}
    limit: Setting | None = None
    """How the system bounds its queue, with {limit} for the number of requests; used under overload."""
    note: str = ""
    patient: Dialect | None = None
    """How it is asked where every answer counts, however late (saturation); None: no different."""

    @property
    def is_ours(self) -> bool:
        """Whether this is Tombola."""
        return self.name.startswith("tombola")


def program(name: str, *more: str) -> tuple[str, ...]:
    """The command of one of `loadtest.peers.programs`."""
    return ("{python}", "-m", f"{PROGRAM}.{name}", "--ticket", "{ticket}", "--port", "{port}", *more)


def tombolas(domain: str, tier: str, deadline_ms: float) -> list[System]:
    """Tombola with the one ticket alone, and with its whole family."""
    command = (
        "{python}", "-m", "server", "up", "--gateways", "1", "--port", "{port}", "--ops-port", "{port2}",
        "--state", "{scratch}/state", "--starter", "{starter}",
    )  # fmt: skip
    dialect = dialects.tombola(domain, tier, deadline_ms)
    patient = dialects.tombola(domain, tier, PATIENT_MS)
    settings = (
        Setting("1 gateway, 1 worker", ("--workers", "1")),
        Setting("1 gateway, 2 workers", ("--workers", "2")),
    )
    limit = Setting("deadlines, always")
    return [
        System("tombola", "Tombola", command, dialect, settings, limit=limit, patient=patient),
        System(
            WHOLE_FAMILY, "Tombola, whole family", command, dialect, settings, limit=limit, patient=patient,
            note="may answer with a cheaper ticket of the family where the asked one would be late",
        ),
    ]  # fmt: skip


FASTAPI = ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")

PEERS = (
    System(
        "fastapi", "FastAPI + ONNX Runtime", program("fastapi_app"), dialects.plain("/classify"),
        (
            Setting("async route", ("--mode", "inline")),
            Setting("thread pool", ("--mode", "threads")),
            Setting("async route, 2 processes", ("--mode", "inline", "--workers", "2")),
        ),
        FASTAPI,
        limit=Setting("a counter in the application", ("--limit", "{limit}")),
    ),
    System(
        "fastapi-batching", "FastAPI, micro-batching by hand", program("fastapi_app", "--mode", "batch"),
        dialects.plain("/classify"),
        (Setting("batches of 32"), Setting("batches of 32, 2 processes", ("--workers", "2"))),
        FASTAPI,
        limit=Setting("a counter in the application", ("--limit", "{limit}")),
        note="a queue and a thread of its own around the model: 30 lines that the other peers have inside",
    ),
    System(
        "mlserver", "MLServer", program("mlserver_model", "--other-ports", "{port2}", "{port3}"), dialects.OIP,
        (
            Setting("batches of 16, 1 ms"),
            Setting("batches of 16, 1 ms, 1 parallel worker", ("--workers", "1")),
            Setting(
                "batches of 32, 5 ms, model in a thread",
                ("--batch", "32", "--batch-time-s", "0.005", "--threads", "1"),
            ),
            Setting("no batching, 2 parallel workers", ("--batch", "0", "--batch-time-s", "0", "--workers", "2")),
        ),
        ("mlserver==1.7.1", "uvloop<0.22"),
        note="no bound on its queue",
    ),
    System(
        "litserve", "LitServe", program("litserve_api"), dialects.plain("/predict"),
        (
            Setting("batches of 16"),
            Setting("batches of 32, 2 ms", ("--batch", "32", "--batch-timeout-s", "0.002")),
            Setting("batches of 16, fast queue", ("--fast-queue",)),
            Setting("batches of 16, 2 workers", ("--workers", "2")),
        ),
        ("litserve==0.2.19", "uvloop==0.23.0"),
        note="no bound on its queue",
    ),
    System(
        "bentoml", "BentoML",
        ("{bin}/bentoml", "serve", f"{PROGRAM}.bentoml_service:TicketService", "--port", "{port}"),
        dialects.listed("/classify"),
        (
            Setting("batches of 32"),
            Setting("batches of 32, metrics off", (), {"PEER_METRICS": "0"}),
            Setting("batches of 32, metrics off, 2 workers", (), {"PEER_METRICS": "0", "PEER_WORKERS": "2"}),
        ),
        ("bentoml==1.4.39", "uvloop==0.23.0", "httptools==0.9.0"),
        {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{scratch}/bentoml", "PEER_TICKET": "{ticket}"},
        limit=Setting("max_concurrency", (), {"PEER_LIMIT": "{limit}"}),
    ),
    System(
        "ray", "Ray Serve", program("ray_app"), dialects.plain("/"),
        (
            Setting("batches of 16, 1 ms"),
            Setting(
                "batches of 16, 1 ms, throughput-optimized, HAProxy", (),
                {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
            ),
            Setting(
                "batches of 16, 1 ms, throughput-optimized, HAProxy, 2 replicas", ("--replicas", "2"),
                {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
            ),
        ),
        ("ray[serve]==2.60.0",),
        {"RAY_USAGE_STATS_ENABLED": "0"},
        limit=Setting("max_queued_requests", ("--limit", "{limit}")),
    ),
    System(
        "kserve", "KServe Python server", program("kserve_model"), dialects.OIP,
        (
            Setting("on the event loop"),
            Setting("model in a thread", ("--threads", "1")),
            Setting("on the event loop, 2 workers", ("--workers", "2")),
        ),
        ("kserve==0.21.0",),
        {"KSERVE_LOGLEVEL": "WARNING"},
        note="no batching in its Python server; no bound on its queue",
    ),
)  # fmt: skip
