"""Which requests get a line, what is in it, and that neither a text nor a key ever is."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from server import logs
from server.logs import PIPE_BYTES, write_lines
from server.observing import Observing
from server.request_log import MAX_FAILURES_PER_S, MODES, Mode, RequestDone, RequestLog
from tests.server.fake_worker import fail
from tests.server.gateways import ACME_KEY, Installation, installation

ACME = {"Authorization": f"Bearer {ACME_KEY}"}
SECRET = "zebra-of-my-medical-record"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def wants(log: RequestLog, *, is_good: bool = True, is_traced: bool = False, now: float = 0.0) -> bool:
    return log.wants(is_good=is_good, is_traced=is_traced, now=now)


def a_log(mode: Mode, draw: float = 1.0) -> RequestLog:
    return RequestLog(mode, lambda lines, left_out: None, draw=lambda: draw)


def a_line(number: int = 0, because: str = "") -> RequestDone:
    return RequestDone(
        level="info", timestamp=datetime.now(UTC), request_id=f"r-{number}", total_ms=1.0, outcome="ok", status=200,
        because=because,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "good", "drawn", "traced", "failed"),
    [
        ("off", False, False, False, False),
        ("errors", False, False, False, True),
        ("sampled", False, True, True, True),
        ("all", True, True, True, True),
    ],
)
def test_the_mode_says_who_gets_a_line(mode: Mode, good: bool, drawn: bool, traced: bool, failed: bool) -> None:
    assert mode in MODES
    assert wants(a_log(mode)) is good
    assert wants(a_log(mode, draw=0.009)) is drawn
    assert wants(a_log(mode), is_traced=True) is traced
    assert wants(a_log(mode), is_good=False) is failed


async def test_a_surge_of_failures_does_not_become_a_surge_of_lines() -> None:
    said: list[int] = []
    log = RequestLog("errors", lambda lines, left_out: said.append(left_out))
    got = [wants(log, is_good=False, now=5.0) for _ in range(MAX_FAILURES_PER_S + 30)]
    assert sum(got) == MAX_FAILURES_PER_S
    assert wants(log, is_good=False, now=6.0)
    log.flush()
    log.flush()
    assert said == [30]


async def test_lines_are_gathered_and_written_soon() -> None:
    written: asyncio.Queue[list[RequestDone]] = asyncio.Queue()
    log = RequestLog("all", lambda lines, _: written.put_nowait(lines))
    log.add(a_line(1))
    log.add(a_line(2))
    assert written.empty()
    assert [line.request_id for line in await written.get()] == ["r-1", "r-2"]
    log.add(a_line(3))
    log.flush()
    assert [line.request_id for line in await written.get()] == ["r-3"]


def test_lines_go_out_whole_in_pieces_that_do_not_mix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces: list[str] = []
    monkeypatch.setitem(logs._style, "json", True)
    monkeypatch.setattr(sys.stderr, "write", pieces.append)
    write_lines(a_line(number, because="b" * 300) for number in range(100))
    assert len(pieces) > 5
    assert all(len(piece) <= PIPE_BYTES and piece.endswith("\n") for piece in pieces)
    shown = [json.loads(line) for line in "".join(pieces).splitlines()]
    assert [line["request_id"] for line in shown] == [f"r-{number}" for number in range(100)]
    assert shown[0]["event"] == "request_done"
    assert shown[0]["level"] == "info"


def test_for_a_person_the_lines_look_like_all_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(logs._style, "json", False)
    write_lines([a_line(7)])
    said = "".join(capsys.readouterr())
    assert "request_done" in said
    assert "r-7" in said


@pytest.fixture
def house(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setitem(logs._style, "json", True)
    with installation(redis_url, namespace, observing=Observing(request_log="all")) as house:
        yield house


def lines_of(house: Installation, capsys: pytest.CaptureFixture[str], count: int) -> list[dict[str, object]]:
    """The first ``count`` lines of the request log; and everything that was said, in the last one's `all`."""
    said, ends = "", time.monotonic() + 30
    while said.count('"event":"request_done"') < count:
        assert time.monotonic() < ends, said
        time.sleep(0.02)
        said += "".join(capsys.readouterr())
    shown = [json.loads(line) for line in said.splitlines() if '"event":"request_done"' in line]
    return [*shown, {"all": said}]


@pytest.mark.redis
def test_an_answered_request_says_who_what_where_the_time_went_and_why(
    house: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = ACME | {"X-Request-Id": "mine-1", "traceparent": PARENT}
    body = {"domain": "home", "text": [SECRET, "song"]}
    response = httpx.post(f"{house.url}/v1/classify", json=body, headers=headers)
    assert response.status_code == 200, response.text
    line, rest = lines_of(house, capsys, 1)
    shown = response.json()
    assert line["request_id"] == "mine-1"
    assert (line["tenant"], line["domain"], line["tier"], line["rows"]) == ("acme", "home", "fast", 2)
    assert (line["ticket"], line["because"]) == (shown["ticket"], shown["because"])
    assert (line["outcome"], line["status"], line["level"]) == ("ok", 200, "info")
    assert line["trace_id"] == PARENT.split("-")[1]
    assert line["queue_ms"] == shown["timings_ms"]["queue"]
    assert line["run_ms"] == shown["timings_ms"]["run"]
    assert line["total_ms"] == shown["timings_ms"]["total"]
    parts = [line[part] for part in ("admission_ms", "queue_ms", "run_ms")]
    assert 0 < sum(map(float, parts)) <= float(str(line["total_ms"])) + 0.5  # type: ignore[arg-type]
    assert SECRET not in str(rest)
    assert ACME_KEY not in str(rest)


@pytest.mark.redis
def test_every_way_to_fail_has_its_line_and_no_caller_writes_into_it(
    house: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    url, wrong = f"{house.url}/v1/classify", {"Authorization": f"Bearer tk_{SECRET}"}
    house.worker.behave = fail("inference_failed")
    asks: list[tuple[dict[str, object], dict[str, str], str]] = [
        ({"domain": "home", "text": SECRET}, wrong, "unauthorized"),
        ({"domain": SECRET, "text": "song"}, ACME, "unknown_domain"),
        ({"domain": "home", "text": SECRET, "tier": SECRET}, ACME, "unknown_tier"),
        ({"domain": "home", SECRET: 1}, ACME, "bad_request"),
        ({"domain": "home", "text": SECRET}, ACME, "inference_failed"),
    ]
    for body, headers, code in asks:
        assert httpx.post(url, json=body, headers=headers).json()["code"] == code
    *lines, rest = lines_of(house, capsys, len(asks))
    assert [line["outcome"] for line in lines] == [code for _, _, code in asks]
    assert [line.get("tenant", "") for line in lines] == ["", "acme", "acme", "acme", "acme"]
    assert lines[-1]["level"] == "warning"
    assert SECRET not in str(rest)
    assert ACME_KEY not in str(rest)
