"""The commands on a real terminal: colours and spinners come and go, and what is said stays readable."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.cli.house import House
from tests.tiny import tiny_bundle
from tickets.bundle import pack, parse

pytestmark = pytest.mark.redis
ROOT = Path(__file__).parents[3]
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_ERASE = "\x1b[2K"


def shown(screen: str) -> list[str]:
    """The lines that remain on the screen: what was erased in the line before them is gone."""
    return [_CONTROL.sub("", line.rpartition(_ERASE)[2]).strip() for line in screen.split("\n")]


def on_terminal(house: House, *arguments: object, typed: bytes = b"") -> tuple[int, str]:
    """Exit status and screen of a command whose standard streams are a terminal."""
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOMBOLA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *map(str, arguments)],
        cwd=ROOT, stdin=follower, stdout=follower, stderr=follower,
        env={**environment, "TOMBOLA_URL": house.url, "TOMBOLA_KEY": house.operator_key, "TERM": "xterm",
             "COLUMNS": "100"},
    )  # fmt: skip
    os.close(follower)
    os.write(leader, typed)
    screen = b""
    try:
        while chunk := os.read(leader, 65536):
            screen += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(leader)
    return process.wait(30), screen.decode()


def test_the_gates_steps_are_lines_of_their_own_beside_a_spinner(house: House, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.ticket"
    path.write_bytes(tiny_bundle())
    status, screen = on_terminal(house, "register", path, "--tenant", tenant)
    assert status == 0, screen
    assert "\x1b[32m" in screen, "what passed is green"
    lines = shown(screen)
    steps = [line for line in lines if re.match(r"(ok|skipped) +\w+ +\d+ ms", line)]
    assert len(steps) == 10, screen
    assert any("tombola tickets promote" in line for line in lines)
    assert "the gate is at work" in screen


def test_who_is_asked_may_say_no(house: House, tenant: str) -> None:
    status, screen = on_terminal(house, "tenants", "delete", tenant, typed=b"n\n")
    assert status == 1
    assert "This cannot be undone" in screen
    house.ok("tenants", "show", tenant)
    status, _ = on_terminal(house, "tenants", "delete", tenant, typed=b"y\n")
    assert status == 0
    assert "unknown_tenant" in house.fails("tenants", "show", tenant)


def test_a_large_upload_has_a_bar_and_its_steps_are_lines_too(house: House, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "large.ticket"
    bundle = parse(tiny_bundle())
    members = {name: bytes(data) for name, data in bundle.members.items()}
    path.write_bytes(pack(bundle.manifest, {**members, "notes.txt": b"." * (5 << 20)}))
    status, screen = on_terminal(house, "register", path, "--tenant", tenant)
    assert status == 0, screen
    assert "sending" in screen
    assert sum(1 for line in shown(screen) if re.match(r"(ok|skipped) +\w+ +\d+ ms", line)) == 10, screen
