"""Trackers: a finished run's numbers sent elsewhere too. Optional; the record on disk stays the truth.

MLflow, because teams have it already; why it and no other stands in docs/runs.md. Only this file knows it.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tickets.factory.numbers import flat, numbers_of
from tickets.factory.pages.report import write_report
from tickets.factory.record import FILE, RunRecord, load_record

EXPERIMENT = "tombola"
TAG = "tombola.run"
MAX_PARAM_CHARS = 500
"""What every MLflow server takes; newer ones take more."""
MAX_BATCH = 100
"""Parameters in one request to MLflow; of metrics it takes a thousand."""

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own, where the user has not set them: a server that is not there is told within seconds, not after seven
tries of two minutes; standard output stays ours."""


class TrackerError(ValueError):
    """A tracker that is not known, not installed or does not answer. The run's record is not touched by it."""


class Sink(Protocol):
    """Where finished runs are sent."""

    def log(self, folder: Path) -> str:
        """Send the record in this folder; where it went. Raises TrackerError, RecordError."""


def sink(name: str) -> Sink:
    """A tracker by its name, ``mlflow:URI``. Asks it once, so that a wrong address is known before a long run.

    Raises TrackerError.
    """
    kind, _, uri = name.partition(":")
    if kind != "mlflow" or not uri:
        raise TrackerError(f"unknown tracker {name!r}; there is mlflow:URI, e.g. mlflow:http://127.0.0.1:5000")
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    try:
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise TrackerError(
            "the tracker mlflow is not installed here. Install it with: pip install 'tombola[tracking]'"
        ) from error
    with _telling(f"MLflow at {uri} cannot be used", "Start it, or leave --tracker out and send the run later"):
        return MlflowSink(MlflowClient(tracking_uri=uri), uri)


class MlflowSink:
    """Runs as MLflow knows them: one run per record, in the experiment ``tombola``.

    Parameters are the description, metrics the result's numbers with the level of pruning as their step, artefacts
    `run.json` and the report page. A record that is sent again becomes a new run with the same tag `tombola.run`.
    ``client``: an MlflowClient.
    """

    def __init__(self, client: Any, uri: str) -> None:  # noqa: ANN401 - the library is optional
        self._client, self._uri = client, uri
        found = client.get_experiment_by_name(EXPERIMENT)
        self._experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)

    def log(self, folder: Path) -> str:
        """Send the record in this folder; the id of MLflow's run. Raises TrackerError, RecordError."""
        record = load_record(folder)
        after = "The record is on disk; when the tracker answers: tombola runs send RUN --tracker mlflow:URI"
        with _telling(f"MLflow at {self._uri} did not take {record.id}", after):
            return self._log(record, folder)

    def _log(self, record: RunRecord, folder: Path) -> str:
        started_ms = int(datetime.fromisoformat(record.started_at).timestamp() * 1000)
        ended_ms = started_ms + int(record.seconds * 1000)
        tags = {TAG: record.id, "tombola.kind": record.kind, "tombola.command": record.command[:MAX_PARAM_CHARS]}
        run = self._client.create_run(self._experiment, start_time=started_ms, tags=tags, run_name=record.id)
        run_id = str(run.info.run_id)
        try:
            self._numbers(run_id, record, ended_ms)
            self._client.log_artifact(run_id, str(folder / FILE))
            with tempfile.TemporaryDirectory(prefix="tombola-report-") as pages:
                write_report(record, Path(pages))
                self._client.log_artifacts(run_id, pages, "report")
        except BaseException:
            self._client.set_terminated(run_id, "FAILED")
            raise
        self._client.set_terminated(run_id, "FINISHED" if record.status == "done" else "FAILED", ended_ms)
        return run_id

    def _numbers(self, run_id: str, record: RunRecord, at_ms: int) -> None:
        from mlflow.entities import Metric, Param

        asked = {"kind": record.kind} | flat(record.description)
        params = [Param(_name(key), value[:MAX_PARAM_CHARS]) for key, value in asked.items()]
        metrics = [Metric(_name(n.name), n.value, at_ms, n.step) for n in numbers_of(record)]
        metrics.append(Metric("seconds", record.seconds, at_ms, 0))
        for first in range(0, max(len(params), len(metrics)), MAX_BATCH):
            part = slice(first, first + MAX_BATCH)
            self._client.log_batch(run_id, metrics=metrics[part], params=params[part])


def _name(name: str) -> str:
    """As MLflow lets parameters and metrics be called: letters, digits, ``_-. /``; never a path that leads upwards."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)
    return "/".join(part.strip(". ") or "_" for part in kept.split("/"))[:250]


@contextmanager
def _telling(what: str, then: str) -> Iterator[None]:
    """Tell what MLflow says is wrong in one sentence; it has exceptions of many libraries."""
    try:
        yield
    except Exception as error:
        ours = isinstance(error, OSError | ValueError | RuntimeError)
        if not ours and type(error).__module__.partition(".")[0] not in ("mlflow", "requests", "urllib3"):
            raise
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TrackerError(f"{what}: {first if len(first) <= 200 else first[:199] + '…'}. {then}") from error
