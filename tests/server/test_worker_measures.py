"""What a worker measures of what it is asked, as a scrape tells it."""

from collections.abc import Sequence

import pytest

from server.task import Columns
from server.text_classification import TextClassification
from tests.server.conftest import MakeClient, MakeWorker
from tests.server.peers import ask
from tests.server.steps import queued, stepped, still_worker


async def test_tokenizing_is_told_with_the_answer_and_is_a_part_of_the_run(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket, batch_tokens=8)
    client.send(ask(1, ticket, *["rain sun song band"] * 7))
    await queued(worker, 7)
    before = await client.scrape()
    while await stepped(worker):
        pass
    answer = await client.answer(1)
    assert 0 < answer.tokenize_ms < answer.run_ms
    after = await client.scrape()
    name = "tombola_batch_tokenize_seconds_total"
    assert (after[name] - before[name]) * 1000 == pytest.approx(answer.tokenize_ms)


async def test_answers_are_counted_by_scope_and_lookups_by_whether_the_ticket_was_here(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, other_ticket: str
) -> None:
    _, address = await make_worker()
    client = await make_client(address)
    client.send(ask(1, ticket, "rain", "song", "tax"))
    await client.answer(1)
    client.send(ask(2, ticket, "law"), ask(3, other_ticket, "sun"))
    await client.answer(2)
    await client.answer(3)
    samples = await client.scrape()
    assert samples["tombola_ticket_rows_total{in}"] == 3
    assert samples["tombola_ticket_rows_total{out}"] == 2
    assert samples["tombola_ticket_confidence_count"] == 5
    assert samples["tombola_cache_lookups_total{hit}"] == 1
    assert samples["tombola_cache_lookups_total{miss}"] == 2
    assert samples["tombola_queue_texts_limit"] == 4096
    assert samples["tombola_resident_limit_bytes"] == 1 << 30


async def test_a_batch_that_falls_apart_is_counted_by_what_was_answered(
    make_worker: MakeWorker, make_client: MakeClient, ticket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, client = await still_worker(make_worker, make_client, ticket)
    run = TextClassification.run

    def picky(self: TextClassification, rows: Sequence[str]) -> Columns:
        if "lamp" in rows:
            raise ValueError("no lamps")
        return run(self, rows)

    monkeypatch.setattr(TextClassification, "run", picky)
    before = await client.scrape()
    client.send(ask(1, ticket, "rain"), ask(2, ticket, "lamp"), ask(3, ticket, "tax"))
    await queued(worker, 3)
    assert await stepped(worker)
    assert (await client.failure(2)).code == "inference_failed"
    after = await client.scrape()
    assert after["tombola_ticket_confidence_count"] - before["tombola_ticket_confidence_count"] == 2
    assert after["tombola_dropped_total{inference_failed}"] == 1
