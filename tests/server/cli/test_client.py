"""The commands' client: where the key comes from, and what is said when things go wrong."""

import contextlib
import importlib
import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from server.__main__ import COMMANDS, tombola
from server.cli.client import Api, Failure, failure_of, read_key, segment
from server.cli.words import moment, size, visible

KEY = "tk_" + "k" * 43
COMMAND_GROUPS = ("tenants", "register", "tickets", "events")


def run(*arguments: str, url: str, key: str | None = KEY, state: Path | None = None) -> Result:
    environment = {"TOMBOLA_URL": url, "TOMBOLA_KEY": key, "TOMBOLA_STATE": str(state) if state else None}
    return CliRunner().invoke(tombola, arguments, env=environment)


@contextlib.contextmanager
def answering(status: int, body: bytes, content_type: str = "application/json") -> Iterator[tuple[str, list[str]]]:
    """A server that always answers this; gives its URL, and the headers that it was sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


class TestKey:
    def test_a_key_a_file_standard_input_or_the_operators_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "operator.key").write_text(f"{KEY}\n")
        (tmp_path / "my.key").write_text("tk_mine\n")
        monkeypatch.setattr(sys, "stdin", io.StringIO("tk_typed\n"))
        assert read_key(KEY, tmp_path) == KEY
        assert read_key(str(tmp_path / "my.key"), tmp_path) == "tk_mine"
        assert read_key("-", tmp_path) == "tk_typed"
        assert read_key(None, tmp_path) == KEY

    def test_without_a_key_it_says_where_one_would_be(self, tmp_path: Path) -> None:
        result = run("tenants", "list", url="http://127.0.0.1:1", key=None, state=tmp_path)
        assert result.exit_code == 2
        assert "operator.key" in result.output
        assert "TOMBOLA_KEY" in result.output

    def test_what_was_given_is_never_echoed(self, tmp_path: Path) -> None:
        """It may be a key with a typing error."""
        with pytest.raises(click.UsageError) as caught:
            read_key("kt_nearly-a-key", tmp_path)
        assert "kt_nearly" not in caught.value.message
        for wrong in ("tk_with\nline", "tk_ä"):
            with pytest.raises(click.UsageError):
                read_key(wrong, tmp_path)

    def test_the_key_travels_in_its_header_and_nowhere_else(self) -> None:
        with answering(200, b'{"tenants": []}') as (url, seen):
            result = run("tenants", "list", url=url)
        assert result.exit_code == 0, result.output
        assert f"Authorization: Bearer {KEY}" in seen[0]
        assert KEY not in result.output


class TestFailures:
    def test_a_server_that_is_not_there_is_one_sentence(self) -> None:
        result = run("tenants", "list", url="http://127.0.0.1:1")
        assert result.exit_code == 1
        assert "cannot reach http://127.0.0.1:1" in result.output
        assert "Is the server running" in result.output

    @pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://", "http://[::1"])
    def test_what_is_no_url_is_said(self, url: str) -> None:
        with pytest.raises(Failure, match="--url"):
            Api(url, KEY)

    def test_an_error_has_its_words_its_code_its_request_and_advice(self) -> None:
        body = json.dumps({"error": "no such\x1b[2J key", "code": "unauthorized", "request_id": "r-17"}).encode()
        with answering(401, body) as (url, _):
            result = run("tenants", "list", url=url)
        assert result.exit_code == 1
        assert "no such\\x1b[2J key [unauthorized, request r-17]" in result.output
        assert "Is the key right" in result.output

    @pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (502, b"<html>"), (500, b"")])
    def test_a_server_that_is_another_kind_is_noticed(self, status: int, body: bytes) -> None:
        with answering(status, body, "text/html") as (url, _):
            result = run("tenants", "list", url=url)
        assert result.exit_code == 1
        assert "the server answered" in result.output

    def test_a_failure_keeps_what_the_server_said_for_programs(self) -> None:
        document = {"error": "x", "code": "conflict", "report": {"a": 1}}
        assert failure_of(document).document == document


def test_a_name_is_one_segment_of_a_path_whatever_it_holds() -> None:
    assert segment("../a b?c#d/ä") == "..%2Fa%20b%3Fc%23d%2F%C3%A4"


def test_words_for_sizes_and_times() -> None:
    assert [size(n) for n in (0, 999, 1000, 2_101_352, 4e9, None)] == ["0 B", "999 B", "1 kB", "2.1 MB", "4 GB", "-"]
    assert moment(1_790_000_000.0) == "2026-09-21 14:13:20"
    assert moment(0) == moment(None) == "-"
    assert visible("a\x1b[2Jb\nc") == "a\\x1b[2Jb\nc"


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from walk(f"{name} {child.name}", child)
    else:
        yield name, command


@pytest.mark.parametrize("group", COMMAND_GROUPS)
def test_every_help_shows_an_example_and_every_option_says_something(group: str) -> None:
    root = getattr(importlib.import_module(COMMANDS[group].module), COMMANDS[group].attribute)
    for name, command in walk(group, root):
        assert f"{command.epilog} ".startswith(f"Example: tombola {name} "), name
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (name, option.name)


def test_help_needs_no_server_and_no_key() -> None:
    for group in COMMAND_GROUPS:
        assert CliRunner().invoke(tombola, [group, "--help"]).exit_code == 0
