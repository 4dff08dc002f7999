"""`tombola route edit` with a real editor program: what is published, what is refused, and that no text is lost."""

import asyncio
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from routing.__main__ import command
from routing.store import Store
from routing.table import Table
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

FASTER = 'text.replace("fast = { deadline_ms = 10.0 }", "fast = { deadline_ms = 8.0 }")'


@pytest.fixture
def url(redis_url: str) -> str:
    """A database of the shared Redis that holds the example table and nothing else."""
    url = f"{redis_url}?db=10"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    asyncio.run(publish(url, example_table()))
    return url


async def publish(url: str, table: Table) -> None:
    store = Store.connect(url)
    await store.publish(table)
    await store.close()


def standing(url: str) -> Table:
    async def load() -> Table | None:
        store = Store.connect(url)
        try:
            return await store.load_table()
        finally:
            await store.close()

    table = asyncio.run(load())
    assert table is not None
    return table


def edit(url: str, folder: Path, *turns: str, typed: str = "") -> Result:
    """Run the command with an editor that does one of ``turns`` (a Python expression of ``text``) at each call."""
    program, count = folder / "editor.py", folder / "count"
    program.write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[-1])\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "turn = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(turn + 1))\n"
        f"turns = {list(turns)!r}\n"
        "text = file.read_text()\n"
        f"pathlib.Path({str(folder)!r}, f'seen-{{turn}}').write_text(text)\n"
        "file.write_text(eval(turns[min(turn, len(turns) - 1)]))\n"
    )
    editor = f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}"
    environment = {"TOMBOLA_REDIS_URL": url, "EDITOR": editor, "VISUAL": None}
    return CliRunner().invoke(command, ["edit"], env=environment, input=typed)


def kept(result: Result) -> Path:
    """The file in which the command says that the text is."""
    found = re.search(r"[Yy]our text is in (\S+)", result.output)
    assert found is not None, result.output
    return Path(found[1])


def test_an_edit_is_shown_and_published_over_the_version_it_was_made_from(url: str, tmp_path: Path) -> None:
    result = edit(url, tmp_path, FASTER)
    assert result.exit_code == 0, result.output
    assert "tenants.acme.domains.banking.tiers.fast.deadline_ms: 10 -> 8" in result.output
    table = standing(url)
    assert table.version == 2
    assert table.tenants["acme"].domains["banking"].tiers["fast"].deadline_ms == 8.0
    assert table.tenants["acme"].key_hashes == example_table().tenants["acme"].key_hashes, "keys are as they were"
    assert "version 1 of the routing table" in (tmp_path / "seen-0").read_text()


@pytest.mark.parametrize("turn", ["text", "''", "text + '# a comment of my own'"])
def test_nothing_changed_publishes_nothing(url: str, tmp_path: Path, turn: str) -> None:
    result = edit(url, tmp_path, turn)
    assert result.exit_code == 0, result.output
    assert result.output == "nothing is changed\n"
    assert standing(url).version == 1


def test_problems_are_written_into_the_text_and_mended_in_the_next_turn(url: str, tmp_path: Path) -> None:
    spoil = 'text.replace("deadline_ms = 10.0", "deadline_ms = 0").replace("0.97", "1.97")'
    mend = 'text.replace("deadline_ms = 0 ", "deadline_ms = 8.0 ").replace("1.97", "0.97")'
    result = edit(url, tmp_path, spoil, mend, typed="y\n")
    assert result.exit_code == 0, result.output
    shown = (tmp_path / "seen-1").read_text()
    assert "#:   tenants.acme.domains.banking.tiers.fast.deadline_ms: expected `float` > 0.0" in shown
    assert "#:   families.banking[0].quality: expected `float` <= 1.0" in shown
    assert standing(url).tenants["acme"].domains["banking"].tiers["fast"].deadline_ms == 8.0


def test_who_gives_up_keeps_the_text_and_the_table_stays(url: str, tmp_path: Path) -> None:
    result = edit(url, tmp_path, 'text + "[oops"', typed="n\n")
    assert result.exit_code == 1
    assert kept(result).read_text().rstrip().endswith("[oops")
    assert kept(result).stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert standing(url).version == 1
    kept(result).unlink()


def test_a_text_that_stays_wrong_ends_the_loop_without_asking_for_ever(url: str, tmp_path: Path) -> None:
    result = edit(url, tmp_path, 'text + "[oops"', "text", typed="y\n")
    assert result.exit_code == 2
    assert "This cannot be published" in result.output
    kept(result).unlink()


def test_somebody_elses_publication_meanwhile_is_not_overwritten_and_the_text_is_kept(url: str, tmp_path: Path) -> None:
    """The editor itself publishes: a person who took their time."""
    program = (
        "import asyncio\nfrom routing.store import Store\nfrom tests.routing.tables import example_table\n"
        f"async def publish():\n    store = Store.connect({url!r})\n"
        "    await store.publish(example_table())\n    await store.close()\nasyncio.run(publish())"
    )
    root = Path(__file__).parents[2]
    turn = (
        f"(__import__('sys').path.insert(0, {str(root)!r}), exec({program!r}, {{}}), "
        f"{FASTER})[2]"
    )  # fmt: skip
    result = edit(url, tmp_path, turn)
    assert result.exit_code == 2, result.output
    assert "published version 2 while you edited version 1" in result.output
    assert "tombola route diff --from 1 --to 2" in result.output
    assert "deadline_ms = 8.0" in kept(result).read_text()
    assert standing(url).version == 2
    assert standing(url).tenants["acme"].domains["banking"].tiers["fast"].deadline_ms == 10.0
    kept(result).unlink()


def test_the_event_says_what_was_changed(url: str, tmp_path: Path) -> None:
    edit(url, tmp_path, FASTER)
    events = CliRunner().invoke(command, ["history", "--json"], env={"TOMBOLA_REDIS_URL": url}).output.splitlines()
    last = json.loads(events[0])
    assert last["action"] == "table.edit"
    assert last["actor"].startswith("shell/")
    assert last["after"]["changes"] == ["tenants.acme.domains.banking.tiers.fast.deadline_ms: 10 -> 8"]
