"""`tombola route`, as an operator meets it: what it prints, and how it ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from routing.__main__ import command
from routing.account import Account
from routing.change import Change
from routing.document import dump_json
from routing.event import Event
from routing.keys import key_hash
from routing.lease import Lease
from routing.redis.keys import Keys
from routing.store import Store
from tests.routing.tables import ACCURATE, ACME_KEY, FAST, example_table

pytestmark = pytest.mark.redis
CREATE_ACME = Change(
    event=Event(action="tenant.create", actor="operator/0123456789ab", tenant="acme", subject="acme"),
    accounts=(Account(name="acme"),),
)
T = TypeVar("T")


@pytest.fixture
def url(redis_url: str) -> str:
    """A database of the shared Redis that holds nothing else: the command has no namespace option."""
    url = f"{redis_url}?db=9"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The example table, authored with a key in clear."""
    data = json.loads(dump_json(example_table()))
    data["tenants"]["acme"] = {"keys": [ACME_KEY], "domains": data["tenants"]["acme"]["domains"]}
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    return path


def run(*arguments: str, url: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"TOMBOLA_REDIS_URL": url})


def on_store(url: str, action: Callable[[Store], Awaitable[T]]) -> T:
    async def connected() -> T:
        store = Store.connect(url)
        try:
            return await action(store)
        finally:
            await store.close()

    return asyncio.run(connected())


def announce_worker(url: str) -> None:
    lease = Lease(kind="worker", name="w1", address="unix:/w1.sock", pid=1)
    on_store(url, lambda store: store.announce(lease, ttl_s=3600.0))


class TestPublish:
    def test_it_says_what_it_published(self, file: Path, url: str) -> None:
        result = run("publish", str(file), url=url)
        assert result.exit_code == 0, result.output
        assert result.output == "published version 1: 2 tenants, 2 families, 4 tickets\n"
        table = on_store(url, lambda store: store.load_table())
        assert table is not None
        assert table.tenants["acme"].key_hashes == [key_hash(ACME_KEY)]

    def test_a_bad_document_is_refused_with_the_path_of_every_problem(self, file: Path, url: str) -> None:
        spoiled = (
            file.read_text().replace('"deadline_ms": 10.0', '"deadline_ms": 0').replace('"accurate"', '"ACCURATE"')
        )
        file.write_text(spoiled)
        result = run("publish", str(file), url=url)
        assert result.exit_code == 2
        assert "tenants.acme.domains.banking.tiers.fast.deadline_ms: expected `float` > 0.0" in result.output
        assert "families.banking[0].tier:" in result.output
        assert on_store(url, lambda store: store.load_table()) is None

    def test_an_unexpected_version_is_a_conflict(self, file: Path, url: str) -> None:
        assert run("publish", str(file), "--expect-version", "0", url=url).exit_code == 0
        result = run("publish", str(file), "--expect-version", "0", url=url)
        assert result.exit_code == 2
        assert "the table is at version 1, not 0" in result.output

    def test_what_it_changes_is_shown_first(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        file.write_text(file.read_text().replace('"deadline_ms": 10.0', '"deadline_ms": 12.5'))
        lines = run("publish", str(file), url=url).output.splitlines()
        assert lines[0].split() == ["tenants.acme.domains.banking.tiers.fast.deadline_ms:", "10", "->", "12.5"]
        assert lines[1].startswith("published version 2")

    def test_a_tenant_that_has_an_account_is_not_dropped_unless_one_says_so(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        on_store(url, lambda store: store.commit(CREATE_ACME))
        data = json.loads(file.read_text())
        del data["tenants"]["acme"]
        file.write_text(json.dumps(data))
        result = run("publish", str(file), url=url)
        assert result.exit_code == 2
        assert "lacks acme" in result.output
        assert run("publish", str(file), "--drop-tenants", url=url).exit_code == 0
        table = on_store(url, lambda store: store.load_table())
        assert table is not None
        assert set(table.tenants) == {"globex"}

    def test_a_table_that_does_not_read_is_replaced_and_that_is_said(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        with redis.Redis.from_url(url) as client:
            client.hset(Keys("tombola").table, "document", b"not a table")
        result = run("publish", str(file), url=url)
        assert result.exit_code == 0, result.output
        assert "it is replaced" in result.output
        assert on_store(url, lambda store: store.load_table()) is not None


class TestRestore:
    def test_routes_come_back_and_keys_do_not(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        data = json.loads(file.read_text())
        fresh = "tk_" + "n" * 43
        data["tenants"]["acme"]["keys"] = [fresh]
        data["tenants"]["acme"]["domains"]["banking"]["tiers"]["fast"]["deadline_ms"] = 99.0
        file.write_text(json.dumps(data))
        run("publish", str(file), url=url)
        result = run("restore", "1", "--reason", "too slow", url=url)
        assert result.exit_code == 0, result.output
        assert "tenants.acme.domains.banking.tiers.fast.deadline_ms: 99 -> 10" in result.output
        assert result.output.splitlines()[-1].startswith("published version 3: 2 tenants")
        table = on_store(url, lambda store: store.load_table())
        assert table is not None
        assert table.tenants["acme"].key_hashes == [key_hash(fresh)], "a key taken away since stays away"
        (event,) = on_store(url, lambda store: store.events(count=1))
        assert (event.action, event.reason, event.table_version) == ("table.restore", "too slow", 3)
        assert event.after["restored"] == 1

    def test_a_version_that_is_not_kept_is_answered_with_those_that_are(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        result = run("restore", "7", url=url)
        assert result.exit_code == 2
        assert "version 7 is not kept; kept versions: 1" in result.output


class TestDiffAndValidate:
    def test_validate_needs_no_redis_and_names_every_problem(self, file: Path) -> None:
        no_redis = {"TOMBOLA_REDIS_URL": None}
        good = CliRunner().invoke(command, ["validate", str(file)], env=no_redis)
        assert good.output == f"{file} can be published: 2 tenants, 2 families, 4 tickets\n"
        file.write_text(file.read_text().replace('"deadline_ms": 10.0', '"deadline_ms": 0'))
        bad = CliRunner().invoke(command, ["validate", str(file)], env=no_redis)
        assert bad.exit_code == 2
        assert "tenants.acme.domains.banking.tiers.fast.deadline_ms:" in bad.output

    def test_a_file_is_compared_with_what_stands(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        assert run("diff", str(file), url=url).output == "no difference\n"
        file.write_text(file.read_text().replace('"quality": 0.97', '"quality": 0.5'))
        assert run("diff", str(file), url=url).output == "families.banking.aaaaaaaaaaaa.quality: 0.97 -> 0.5\n"

    def test_versions_are_compared_with_one_another_and_with_what_stands(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        file.write_text(file.read_text().replace('"quality": 0.97', '"quality": 0.5'))
        run("publish", str(file), url=url)
        there = run("diff", "--from", "1", url=url).output
        assert there == run("diff", "--from", "1", "--to", "2", url=url).output
        assert there.endswith("quality: 0.97 -> 0.5\n")
        assert run("diff", "--from", "2", "--to", "1", url=url).output.endswith("quality: 0.5 -> 0.97\n")

    @pytest.mark.parametrize("arguments", [(), ("FILE", "--to", "1")])
    def test_what_cannot_be_compared_is_a_usage_error(self, arguments: tuple[str, ...], file: Path, url: str) -> None:
        given = [str(file) if argument == "FILE" else argument for argument in arguments]
        assert run("diff", *given, url=url).exit_code == 2


class TestHistory:
    def test_it_says_who_changed_what_and_why_and_which_versions_are_kept(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        file.write_text(file.read_text().replace('"quality": 0.97', '"quality": 0.5'))
        run("publish", str(file), "--reason", "measured\x1b[2J again", url=url)
        lines = run("history", url=url).output.splitlines()
        assert lines[0].startswith("*    2  ")
        assert " shell/" in lines[0]
        assert lines[0].endswith("table.publish table: measured\\x1b[2J again"), "a terminal is not steered by a reason"
        assert lines[1].strip() == "families.banking.aaaaaaaaaaaa.quality: 0.97 -> 0.5"
        assert lines[2].startswith("*    1  ")

    def test_other_changes_are_not_the_tables(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        on_store(url, lambda store: store.commit(CREATE_ACME))
        lines = run("history", "--json", url=url).output.splitlines()
        assert [json.loads(line)["table_version"] for line in lines] == [1]

    def test_an_empty_history_is_said(self, url: str) -> None:
        assert run("history", url=url).output == "no change of the table has been recorded yet\n"


class TestRecover:
    @pytest.fixture
    def kept(self, file: Path, url: str, tmp_path: Path) -> Path:
        """A directory with the files of two gateways, and a Redis that has just lost everything."""
        folder = tmp_path / "state"
        folder.mkdir()
        run("publish", str(file), url=url)
        on_store(url, lambda store: store.commit(CREATE_ACME))
        for gateway in ("g1", "g2"):
            table = on_store(url, lambda store: store.load_table())
            assert table is not None
            (folder / f"table-{gateway}.json").write_bytes(dump_json(table))
            accounts = on_store(url, lambda store: store.load_accounts())
            (folder / f"table-{gateway}.json.accounts").write_bytes(msgspec.json.encode(accounts))
            run("publish", str(file), url=url)
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return folder

    def test_the_newest_table_and_its_accounts_come_back_above_every_version_that_was_seen(
        self, kept: Path, url: str
    ) -> None:
        result = run("recover", str(kept), url=url)
        assert result.exit_code == 0, result.output
        assert (
            f"{kept / 'table-g2.json'}: table version 2 (2 tenants, 2 families, 4 tickets), 1 accounts" in result.output
        )
        assert result.output.splitlines()[-1] == "recovered as version 3, with 1 accounts"
        assert set(on_store(url, lambda store: store.load_accounts())) == {"acme"}

    def test_a_damaged_file_is_passed_over_and_said(self, kept: Path, url: str) -> None:
        (kept / "table-g2.json.accounts").write_bytes(b'{"acme": ')
        result = run("recover", str(kept), url=url)
        assert "passed over:" in result.output
        assert "table-g1.json: table version 1" in result.output

    def test_a_redis_that_is_not_empty_is_left_alone_unless_forced(self, kept: Path, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        refused = run("recover", str(kept), url=url)
        assert refused.exit_code == 2
        assert "Redis is not empty" in refused.output
        assert run("recover", str(kept / "table-g1.json"), "--force", url=url).exit_code == 0

    def test_a_directory_without_tables_is_said(self, tmp_path: Path, url: str) -> None:
        result = run("recover", str(tmp_path), url=url)
        assert result.exit_code == 2
        assert "is it the state directory of `tombola up`?" in result.output


class TestShow:
    def test_the_outline_names_everything_and_shortens_key_hashes(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        result = run("show", url=url)
        assert result.exit_code == 0
        for expected in (
            "version 1 (kept: 1)",
            "family banking",
            "domain banking: family banking, policy best",
            ACCURATE[:12],
            "tenant acme, keys",
            "fast",
            "(default)",
        ):
            assert expected in result.output
        assert key_hash(ACME_KEY)[:12] + "..." in result.output
        assert key_hash(ACME_KEY) not in result.output

    def test_json_is_json_of_the_version_asked_for(self, file: Path, url: str) -> None:
        run("publish", str(file), url=url)
        run("publish", str(file), url=url)
        shown = json.loads(run("show", "--json", "--version", "1", url=url).output)
        assert shown["version"] == 1
        assert shown["tenants"]["acme"]["key_hashes"] == [key_hash(ACME_KEY)[:12] + "..."]

    def test_without_a_table_it_says_what_to_do(self, url: str) -> None:
        result = run("show", url=url)
        assert result.exit_code == 2
        assert "tombola route publish FILE" in result.output


class TestExplain:
    ASK = ("explain", "--tenant", "acme", "--domain", "banking")

    def lines(self, *arguments: str, file: Path, url: str) -> list[str]:
        run("publish", str(file), url=url)
        result = run(*self.ASK, *arguments, url=url)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    def test_a_route_and_why_each_other_ticket_was_passed_over(self, file: Path, url: str) -> None:
        announce_worker(url)
        lines = self.lines(file=file, url=url)
        assert lines[0] == "table version 1, 1 live workers, supposed to hold every ticket with 0 ms of queue"
        assert lines[1] == "tier balanced: within 25 ms, quality >= 0, policy best"
        assert lines[2].startswith("* accurate")
        assert "predicted 10 ms on w1 (wait 0 ms) would do, but a better ticket does too" in lines[3]
        assert "predicted 2 ms on w1 (wait 0 ms) would do, but a better ticket does too" in lines[4]
        best = "best ticket for tier balanced within 25 ms: the one found for accurate"
        assert lines[5] == f"routed to {ACCURATE} on w1: {best}"

    def test_a_supposed_queue_shows_the_step_down(self, file: Path, url: str) -> None:
        announce_worker(url)
        lines = self.lines("--busy-ms", "20", file=file, url=url)
        assert "predicted 40 ms on w1 (wait 20 ms) > 25 ms" in lines[2]
        assert lines[4].startswith("* fast")
        assert lines[5].startswith(f"routed to {FAST} on w1: stepped down from accurate")

    def test_a_queue_of_others_is_waited_for_no_longer_than_fairness_lets_it(self, file: Path, url: str) -> None:
        announce_worker(url)
        lines = self.lines("--busy-ms", "2000", "--own-ms", "0", file=file, url=url)
        assert "predicted 30 ms on w1 (wait 10 ms: the tenant's share of 2000 ms of queue) > 25 ms" in lines[2]
        assert lines[3].startswith("* balanced")

    def test_rows_and_the_ladders_step_can_be_supposed(self, file: Path, url: str) -> None:
        announce_worker(url)
        lines = self.lines("--rows", "3", "--skip", "1", file=file, url=url)
        assert lines[2].endswith("passed over: the ladder stands at step 1, under load")
        assert "chosen, on worker w1: stepped down from accurate" in lines[3]

    def test_the_floor_and_the_pinned_version_are_reasons(self, file: Path, url: str) -> None:
        announce_worker(url)
        lines = self.lines("--tier", "strict", file=file, url=url)
        assert "quality 0.95 is below the floor 0.96" in lines[3]
        lines = self.lines("--version", FAST[:8], file=file, url=url)
        assert "not the version asked for" in lines[2]
        assert "not the version asked for" in lines[3]

    def test_a_refusal_is_named_with_its_code(self, file: Path, url: str) -> None:
        lines = self.lines(file=file, url=url)
        assert "no worker can be reached" in lines[3]
        assert lines[-1] == "refused, no_worker: no worker can be reached (try again after 1 s)"
        announce_worker(url)
        assert self.lines("--cold", file=file, url=url)[-1].endswith("loading it first")
        assert self.lines("--tier", "gold", file=file, url=url)[1].startswith("refused, unknown_tier")
        assert self.lines("--deadline-ms", "1", file=file, url=url)[-1].startswith("refused, overloaded")


class TestStates:
    """What is on trial, or waits for its promotion, is said wherever a ticket is."""

    @pytest.fixture
    def trial(self, file: Path, url: str) -> None:
        """The fast ticket waits; one of the accurate tier is a canary beside the accurate one."""
        data = json.loads(file.read_text())
        *rest, fast = data["families"]["banking"]
        new = {**rest[0], "id": "ee" * 32, "state": "canary", "service_ms": 19.0}
        data["families"]["banking"] = [*rest, new, {**fast, "state": "registered"}]
        data["tenants"]["acme"]["domains"]["banking"]["canary"] = {
            "ticket": "ee" * 32, "current": ACCURATE, "share": 0.25, "is_automatic": True,
        }  # fmt: skip
        file.write_text(json.dumps(data))
        assert run("publish", str(file), url=url).exit_code == 0

    def test_show(self, trial: None, url: str) -> None:
        lines = run("show", url=url).output.splitlines()
        assert [line.split()[-1] for line in lines[2:6]] == ["ms", "canary", "ms", "registered"]
        words = "canary eeeeeeeeeeee answers 25% of the asks of aaaaaaaaaaaa; promoted by itself when it has shown"
        assert any(words in line for line in lines)

    def test_explain(self, trial: None, url: str) -> None:
        announce_worker(url)
        lines = run(*TestExplain.ASK, url=url).output.splitlines()
        assert f"routed to {ACCURATE}" in lines[-2]
        assert lines[-1].startswith("canary: eeeeeeeeeeee answers 25% of the asks of aaaaaaaaaaaa")
        (waiting,) = [line for line in lines if line.startswith("  fast ")]
        assert "registered" in waiting
        assert "promoted" in waiting, "it says why it does not answer"


class TestErrors:
    def test_a_redis_that_cannot_be_reached_is_named(self, tmp_path: Path) -> None:
        result = run("show", url=f"unix://{tmp_path}/none.sock")
        assert result.exit_code == 2
        assert "Redis cannot be reached" in result.output
        assert "Is --redis-url right" in result.output

    def test_a_url_that_cannot_be_and_a_missing_one_are_usage_errors(self) -> None:
        assert run("show", url="localhost").exit_code == 2
        missing = CliRunner().invoke(command, ["show"], env={"TOMBOLA_REDIS_URL": None})
        assert missing.exit_code == 2
        assert "--redis-url" in missing.output

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path, url: str) -> None:
        result = run("publish", str(tmp_path / "none.toml"), url=url)
        assert result.exit_code == 2
        assert "does not exist" in result.output

    @pytest.mark.parametrize("name", sorted(command.commands))
    def test_every_help_shows_an_example(self, name: str) -> None:
        result = CliRunner().invoke(command, [name, "--help"])
        assert result.exit_code == 0
        assert "Example: tombola route" in result.output


def test_a_made_key_and_its_hash_belong_together() -> None:
    lines = CliRunner().invoke(command, ["key"]).output.splitlines()
    key, digest = (line.split()[-1] for line in lines)
    assert key_hash(key) == digest
