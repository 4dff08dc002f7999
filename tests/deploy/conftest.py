"""The installations of tests/e2e, for a real Prometheus to look at."""

from tests.e2e.conftest import folder, start

__all__ = ["folder", "start"]
