"""How long a newcomer waits: from `make serve` in a fresh clone to the first answer, and again.

Clones the repository's HEAD into an empty folder, so only what is committed counts. The
package cache is the machine's own: say in a report whether it was warm.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

PORT, OPS_PORT = 18090, 18091
LIMIT_S = 600


def measure_startup(announce: Callable[[str], None]) -> dict[str, Any]:
    """Seconds to the first answer: everything new, then with everything installed."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "tombola"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        announce("startup: make serve in a fresh clone")
        fresh = _first_answer(clone)
        announce("startup: make serve again")
        again = [_first_answer(clone) for _ in range(3)]
    return {"fresh_clone_s": fresh, "installed_s": sorted(again)}


def _first_answer(clone: Path) -> float:
    start = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")}
    process = subprocess.Popen(
        ["make", "serve", f"UP=--port {PORT} --ops-port {OPS_PORT}"],
        cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            key = re.search(r"tk_[A-Za-z0-9_-]+", line)
            if key:
                _ask(key[0])
                return round(time.perf_counter() - start, 2)
            if time.perf_counter() - start > LIMIT_S:
                break
        raise RuntimeError("make serve ended without printing a key")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def _ask(key: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/classify",
        json.dumps({"domain": "banking", "text": "how much money do i have"}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our own http address
        assert json.load(response)["results"]
