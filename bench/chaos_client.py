"""An open-loop client that keeps account of every request while processes are killed under it.

Each request is sent when it is due, on a kept-alive connection, and ends in exactly one Outcome. What
counts as accepted: as soon as one byte of a request has been given to a connection, a gateway may have
it, and the connection's end without an answer is never overlooked. Where a gateway had just been killed
that is a reset (HTTP/1.1 has no way to hand a connection over), where none had the request is lost. Either
way the client then does what clients do with a request that may be repeated: once more, on a new connection.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

GRACE_MS = 100.0
"""So much beyond its deadline, counted from when the request was due, an answer is late, whatever it says."""
PATIENCE_S = 10.0
"""A request without any answer for so long is lost."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and how to tell its own answer from anybody else's."""

    tenant: str
    key: str
    domain: str
    text: str
    deadline_ms: float


@dataclass(frozen=True, slots=True)
class Family:
    """What a tenant's answers may be: these tickets, these labels."""

    tickets: frozenset[str]
    labels: frozenset[str]


@dataclass(slots=True)
class Outcome:
    """What became of one request. Times in seconds; ``sent_s`` is when it was due."""

    sent_s: float
    done_s: float = 0.0
    kind: str = "lost"
    """``answered``, ``refused`` (429, 503), ``deadline`` (504), ``reset`` (both times), ``not accepted``, ``wrong``,
    or ``lost``."""
    detail: str = ""
    late: bool = False
    not_accepted: int = 0
    """Connections that could not be made, or were found closed before a byte of the request was given to them."""
    resets: list[float] = field(default_factory=list)
    """When connections ended that had the request and gave no answer."""


class _Reset(Exception):
    """The connection ended after it was given bytes of the request."""


class _NotAccepted(Exception):
    """The connection was not there for the request."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and not self.writer.is_closing() and self.reader.exception() is None


class ChaosClient:
    """Sends requests to one address and judges the answers. ``families`` by tenant."""

    def __init__(self, host: str, port: int, families: Mapping[str, Family]) -> None:
        self._host, self._port = host, port
        self._families = families
        self._idle: list[_Connection] = []
        self._numbers = 0
        self.outcomes: list[Outcome] = []

    async def send_all(self, asks: Callable[[int], Ask], rate_per_s: float, seconds: float) -> None:
        """Send at a steady rate, whatever becomes of earlier requests, and wait for all of them."""
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate_per_s * seconds)):
                due = begin + number / rate_per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self.request(asks(number), due))

    async def request(self, ask: Ask, due: float) -> None:
        """Send one request, and again where its connection ended; keep its outcome."""
        outcome = Outcome(due)
        self.outcomes.append(outcome)
        while True:
            remaining_ms = ask.deadline_ms - (time.perf_counter() - due) * 1000
            if remaining_ms < 1.0 and (outcome.resets or outcome.not_accepted):
                break  # nobody can answer it in time any more
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._attempt(ask, max(1.0, remaining_ms), outcome)
                break
            except _NotAccepted:
                outcome.not_accepted += 1
                outcome.kind = "not accepted"
                await asyncio.sleep(0.02)
            except _Reset as error:
                outcome.resets.append(time.perf_counter())
                outcome.kind, outcome.detail = "reset", str(error)
                if len(outcome.resets) > 1:
                    break
            except TimeoutError:
                outcome.kind, outcome.detail = "lost", f"nothing within {PATIENCE_S:g} s"
                break
        outcome.done_s = time.perf_counter()
        outcome.late = (outcome.done_s - due) * 1000 > ask.deadline_ms + GRACE_MS

    async def _attempt(self, ask: Ask, deadline_ms: float, outcome: Outcome) -> None:
        self._numbers += 1
        request_id = f"chaos-{self._numbers}"
        connection = await self._connected(is_new=bool(outcome.resets))
        is_kept = False
        try:
            status, headers, body = await _exchange(connection, _bytes_of(ask, request_id, deadline_ms))
            is_kept = headers.get("connection", "").lower() != "close"
        finally:
            if is_kept:
                self._idle.append(connection)
            else:
                connection.writer.transport.abort()
        outcome.kind, outcome.detail = self._judge(ask, request_id, status, headers, body)

    async def _connected(self, *, is_new: bool) -> _Connection:
        while self._idle and not is_new:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.writer.transport.abort()
        try:
            return _Connection(*await asyncio.open_connection(self._host, self._port))
        except OSError as error:
            raise _NotAccepted from error

    def _judge(
        self, ask: Ask, request_id: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, str]:
        """What an answer is, and what is wrong with it."""
        try:
            answer = json.loads(body)
        except ValueError:
            return "wrong", f"not JSON: {body[:80]!r}"
        if headers.get("x-request-id") != request_id:
            return "wrong", f"the answer to {headers.get('x-request-id')} came for {request_id}"
        if status == 200:
            return _wrong_answer(answer, self._families[ask.tenant], request_id) or ("answered", answer["ticket"])
        code = str(answer.get("code", ""))
        if not code:
            return "wrong", f"{status} without a code"
        kind = {429: "refused", 503: "refused", 504: "deadline"}.get(status, "wrong")
        return kind, code

    def close(self) -> None:
        """Drop the connections."""
        for connection in self._idle:
            connection.writer.transport.abort()
        self._idle.clear()


def _wrong_answer(answer: dict[str, object], family: Family, request_id: str) -> tuple[str, str] | None:
    """What shows that an answer is not for this tenant and this request."""
    results = answer.get("results")
    if answer.get("request_id") != request_id:
        return "wrong", f"it says that it answers {answer.get('request_id')}"
    if answer.get("ticket") not in family.tickets:
        return "wrong", f"a ticket of somebody else: {answer.get('ticket')}"
    if not isinstance(results, list) or len(results) != 1 or results[0].get("label") not in family.labels:
        return "wrong", f"labels of somebody else: {results}"
    return None


async def _exchange(connection: _Connection, request: bytes) -> tuple[int, dict[str, str], bytes]:
    if not connection.is_open:
        raise _NotAccepted
    try:
        connection.writer.write(request)
        head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await connection.reader.readexactly(int(headers["content-length"]))
    except (OSError, asyncio.IncompleteReadError) as error:
        raise _Reset(f"{type(error).__name__}: {error}") from error
    return int(head[0].split()[1]), headers, body


def _bytes_of(ask: Ask, request_id: str, deadline_ms: float) -> bytes:
    body = json.dumps({"domain": ask.domain, "text": ask.text, "deadline_ms": deadline_ms}).encode()
    head = (
        f"POST /v1/classify HTTP/1.1\r\nHost: chaos\r\nAuthorization: Bearer {ask.key}\r\n"
        f"Content-Type: application/json\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def attribute_resets(outcomes: Sequence[Outcome], gateway_kills: Sequence[float], within_s: float = 1.0) -> int:
    """Mark as lost every request whose connection ended with no gateway just killed; return how many there are.

    Kills and resets are instants of the same clock. A request that was answered at its second try
    is lost all the same where nobody had killed the gateway that had it first.
    """
    unexplained = 0
    for outcome in outcomes:
        if not all(any(0 <= reset - kill <= within_s for kill in gateway_kills) for reset in outcome.resets):
            outcome.kind = "lost"
            unexplained += 1
    return unexplained


async def settled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what runs beside a load and wait for its end."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
