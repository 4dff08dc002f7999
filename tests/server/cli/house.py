"""The real command line against a real gateway: what the tests of the commands call."""

import json
import re
from typing import Any

import httpx
from click.testing import CliRunner, Result

from server.__main__ import tombola
from tests.server.gateways import Installation, wait_until

_LOGGED = re.compile(r"^(\x1b\[\w+)?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\x1b\[\w+)* \[.*\n", re.MULTILINE)
"""A line of the gateway's log: it is a thread of this process, and what it prints ends up among a command's output."""


def without_logs(output: str) -> str:
    """What a command itself has said."""
    return _LOGGED.sub("", output)


class House:
    """A running installation, and its operator's key."""

    def __init__(self, running: Installation, operator_key: str) -> None:
        self.running = running
        self.url = running.url
        self.operator_key = operator_key

    def run(self, *arguments: object, key: str | None = None, typed: str | None = None) -> Result:
        """A command's end, whatever it is; without ``key``, the operator asks."""
        environment = {"TOMBOLA_URL": self.url, "TOMBOLA_KEY": key or self.operator_key, "TOMBOLA_STATE": None}
        words = [str(argument) for argument in arguments]
        return CliRunner().invoke(tombola, words, env=environment, input=typed)

    def ok(self, *arguments: object, key: str | None = None) -> str:
        """The output of a command that must succeed."""
        result = self.run(*arguments, key=key)
        assert result.exit_code == 0, result.output
        return without_logs(result.output)

    def json(self, *arguments: object, key: str | None = None) -> Any:
        """What a command with ``--json`` says."""
        return json.loads(self.ok(*arguments, "--json", key=key))

    def fails(self, *arguments: object, key: str | None = None, code: int = 1) -> str:
        """What a command says that must fail, in sentences and not in a traceback."""
        result = self.run(*arguments, key=key)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return without_logs(result.output)

    def make_key(self, tenant: str, role: str) -> str:
        """A key of a tenant, once the gateway knows it."""
        key = str(self.json("tenants", "key", "new", tenant, "--role", role)["key"])
        wait_until(lambda: self.status(key) != 401)
        return key

    def status(self, key: str) -> int:
        """What the gateway answers to this key."""
        return httpx.get(f"{self.url}/v1/tenants", headers={"Authorization": f"Bearer {key}"}).status_code
