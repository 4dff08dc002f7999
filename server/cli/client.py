"""The admin API as the commands use it: one HTTP client with a key, and errors that a person can act on.

Owns where the key comes from, how an answer or the lack of one becomes a value or a `Failure`, and that a key is
never shown. What is asked, and how it is shown, belongs to the commands.
"""

import ipaddress
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import click
import httpx

from server.cli.words import visible

TIMEOUT_S = 30.0
GATE_TIMEOUT_S = 300.0
"""The longest silence of a gateway that examines a ticket: its own limit for one step is well below."""
KEY_FILE = "operator.key"
CHUNK_BYTES = 256 << 10

_ADVICE = {
    "unauthorized": "Is the key right, complete, and not expired?",
    "forbidden": "Use a key with that role (`tombola tenants key new --role`), or an operator's.",
    "suspended": "An operator can resume it: tombola tenants resume TENANT.",
    "unknown_tenant": "`tombola tenants list` shows those that this key may know of.",
    "unknown_ticket": "`tombola tickets list` shows those that are registered.",
    "ticket_quota_exceeded": "Retire tickets, or raise the quota: tombola tenants limits TENANT --ticket-bytes.",
    "precondition_failed": "Somebody has changed it meanwhile: look at it again, then decide.",
    "control_plane_unavailable": "Redis is away. Answers to callers go on; changes have to wait.",
    "not_found": "Is --url the address of the admin API? With an admin port of its own it is that one.",
}


class Failure(click.ClickException):
    """The server refused, or was not there; the message says what happened and what to do."""

    exit_code = 1

    def __init__(self, message: str, *, code: str = "", document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.document = document or {}
        """The error as the server sent it; empty where it said nothing."""


class Api:
    """A gateway's admin API. Close it, or use it as a context."""

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises Failure for a URL that cannot be one."""
        self.url = url.rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise Failure(f"--url {url} is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise Failure(f"--url {url}: expected something like http://127.0.0.1:8080")
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            trust_env=not _is_here(parsed.host),  # a proxy has no business between two processes of one machine
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: str | int | None) -> Any:  # noqa: ANN401 - JSON
        """The document at ``path``. Raises Failure."""
        return self.send("GET", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        query: Mapping[str, str | int | None] | None = None,
        version: int | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """What the server answers to a request; None where it has nothing to say.

        ``version``: the change is made only over this version of what it changes. Raises Failure.
        """
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        headers = {"If-Match": f'"{version}"'} if version is not None else {}
        with self._explained():
            response = self._client.request(method, path, json=document, params=asked, headers=headers)
        return _checked(response)

    @contextmanager
    def upload(
        self, path: str, file: IO[bytes], size_bytes: int, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Send a file's bytes from where it stands; gives the JSON lines of the answer as they come. Raises Failure."""

        def content() -> Iterator[bytes]:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

        with self._explained():
            request = self._client.build_request(
                "POST", path, content=content(), params=dict(query), timeout=GATE_TIMEOUT_S,
                headers={"Accept": "application/x-ndjson", "Content-Length": str(size_bytes), **headers},
            )  # fmt: skip
            response = self._client.send(request, stream=True)
        try:
            yield self._lines(response)
        finally:
            response.close()

    def tenant_of_key(self) -> str | None:
        """The tenant whose key this is; None for an operator's. Raises Failure."""
        try:
            self.get("/v1/events", count=1)
        except Failure as error:
            if error.code != "forbidden":
                raise
        else:
            return None
        return str(self.get("/v1/tenants")["tenants"][0]["tenant"])

    def own_tenant(self, given: str | None) -> str:
        """The tenant that was named, else the one whose key this is. Raises Failure, UsageError."""
        tenant = given or self.tenant_of_key()
        if tenant is None:
            raise click.UsageError("this is an operator's key, which is nobody's: name the tenant with --tenant")
        return tenant

    def _lines(self, response: httpx.Response) -> Iterator[dict[str, Any]]:
        with self._explained():
            if response.status_code >= 400 or "ndjson" not in response.headers.get("content-type", ""):
                response.read()
                yield _checked(response)
                return
            for line in response.iter_lines():
                if line.strip():
                    yield json.loads(line)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what httpx raises into a Failure."""
        try:
            yield
        except httpx.ConnectError as error:
            raise Failure(f"cannot reach {self.url}: {error}. Is the server running, and --url right?") from error
        except httpx.TimeoutException as error:
            raise Failure(f"{self.url} does not answer in time ({type(error).__name__}); see how things stand first, "
                          "then try again") from error  # fmt: skip
        except httpx.HTTPError as error:
            raise Failure(f"the connection to {self.url} was lost: {error or type(error).__name__}") from error
        except json.JSONDecodeError as error:
            raise Failure(f"{self.url} does not speak as a gateway of Tombola does: {error}") from error


def segment(name: str) -> str:
    """A name as one segment of a path, whatever it holds."""
    return quote(name, safe="")


def read_key(given: str | None, state: Path) -> str:
    """The API key: as given, from standard input (``-``) or from a file; else the operator's that `up` wrote.

    Raises UsageError where there is none.
    """
    try:
        if given == "-":
            key = sys.stdin.readline()
        elif given and given.startswith("tk_"):
            key = given
        else:
            key = (Path(given) if given else state / KEY_FILE).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError as error:
        if given:
            raise click.UsageError("--key is neither a key (tk_...) nor a file that is there") from error
        raise click.UsageError(
            f"no key: there is no {state / KEY_FILE}, which `tombola up` writes. Give one with --key (a key, a file, "
            "or - for standard input) or in TOMBOLA_KEY"
        ) from error
    except OSError as error:
        raise click.UsageError(f"the key cannot be read: {error.strerror}") from error
    key = key.strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise click.UsageError("what was given as a key is none: it is empty, or holds characters that no key has")
    return key


def failure_of(document: Mapping[str, Any], status: int = 0) -> Failure:
    """An error document of the server's as an exception with advice."""
    code = str(document.get("code", ""))
    message = visible(str(document.get("error") or f"the server answered {status} and said nothing more"))
    advice = f"\n{_ADVICE[code]}" if code in _ADVICE else ""
    request_id = document.get("request_id")
    where = f" [{code}{f', request {visible(str(request_id))}' if request_id else ''}]" if code else ""
    return Failure(f"{message}{where}{advice}", code=code, document=document)


def _checked(response: httpx.Response) -> Any:  # noqa: ANN401 - JSON
    """The document of a good answer. Raises Failure."""
    try:
        document = json.loads(response.content) if response.content else None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Failure(f"the server answered {response.status_code} with something that is not JSON: is --url a gateway "
                      "of Tombola?") from error  # fmt: skip
    if response.status_code < 400:
        return document
    raise failure_of(document if isinstance(document, dict) else {}, response.status_code)


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
