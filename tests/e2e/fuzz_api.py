"""Schemathesis over a running installation: what `make fuzz-api` runs for long, and the test suite for a minute.

    python -m tests.e2e.fuzz_api --seconds 1800

Four rounds ask everything that the OpenAPI document describes, with a key that calls, a tenant's admin key, and
operators' keys. What is wrong with an answer is printed with a curl line that shows it again.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.installation import ROOT, Installation, make_starter

HERE = Path(__file__).parent
START_S = 60.0


@dataclass(frozen=True)
class Round:
    """One caller's round."""

    name: str
    key: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a round."""

    name: str
    cases: int
    is_good: bool
    output: str


def rounds(installation: Installation) -> list[Round]:
    """The rounds, in the order that lets each find something: an operator may delete what the others need."""
    operator = (installation.state / "operator.key").read_text().strip()

    def made(path: str, **body: str) -> str:
        response = httpx.post(f"{installation.api}{path}", json=body, headers={"X-API-Key": operator})
        assert response.status_code == 201, response.text
        return str(response.json()["key"])

    return [
        Round("call", installation.key, ("--include-path-regex", "^/v2|^/v1/(classify|models)")),
        Round("admin", made("/v1/tenants/demo/keys", role="admin"), ("--include-path-regex", "^/v1/(tenants|events)")),
        # These may delete the key that they are asked with: it is one of their own.
        Round("operators", made("/v1/operators/keys"), ("--include-path-regex", "^/v1/operators/keys/")),
        Round("operator", operator, ("--exclude-path-regex", "^/v1/operators/keys/|^/v2|^/v1/(classify|models)")),
    ]


def fuzz(installation: Installation, one: Round, seconds: int, *, seed: int | None = None) -> Outcome:
    """Ask for about ``seconds``."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run",
        f"{installation.api}/openapi.json", "-H", f"X-API-Key: {one.key}",
        "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds), "--max-examples", "20", "--no-color",
        "--continue-on-failure", "--generation-database", "none", "--warnings", "off",
        *(("--seed", str(seed)) if seed is not None else ()), *one.options,
    ]  # fmt: skip
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environ, cwd=installation.state.parent, capture_output=True, text=True, check=False,
        timeout=START_S + 4 * seconds,
    )  # fmt: skip
    output = done.stdout + done.stderr
    found = re.search(r"(\d+) generated", output)
    return Outcome(one.name, int(found[1]) if found else 0, done.returncode == 0, output)


def main() -> int:
    """The command; the exit status is 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=1800, help="For all rounds together.")
    parser.add_argument("--seed", type=int, help="Of an earlier run, to repeat it.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tombola-fuzz-", ignore_cleanup_errors=True) as name:
        starter = make_starter(Path(name) / "starter")
        installation = Installation(Path(name) / "one", "--starter", str(starter), "--workers", "1", "--gateways", "1")
        try:
            installation.wait_until_up()
            outcomes = [
                fuzz(installation, one, max(1, given.seconds // 4), seed=given.seed) for one in rounds(installation)
            ]
        finally:
            installation.close()
    for outcome in outcomes:
        if not outcome.is_good:
            print(outcome.output)
        print(f"{outcome.name}: {outcome.cases} cases, {'nothing wrong' if outcome.is_good else 'FAILED'}")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
