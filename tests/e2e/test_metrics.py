"""docs/metrics.md beside what real processes expose: every metric, its type and its labels, and no other."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, WAIT_S, Start, patient

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]

ROW = re.compile(r"^\| `(tombola_\w+)` \| (\w+) \| ([\w, ]*?) *\| \S.* \|$", re.MULTILINE)
TYPE = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE)
SAMPLE = re.compile(r"^(tombola_\w+?)(?:_bucket|_sum|_count)?\{(.*)\} \S+$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="')


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric that the page names; a metric named twice fails."""
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    found = {name: (kind, frozenset(filter(None, labels.split(", ")))) for name, kind, labels in rows}
    assert len(found) == len(rows)
    return found


def test_no_metric_is_in_a_row_that_does_not_read() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(tombola_\w+)`", text, re.MULTILINE)) == set(documented())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_every_query_of_the_page_is_one(tmp_path: Path) -> None:
    blocks = re.findall(r"^```promql\n(.*?)^```$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE | re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines() if not line.startswith("#")]
    assert len(queries) > 20
    rules = [{"record": f"query{i}", "expr": query} for i, query in enumerate(queries)]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"tombola_\w+?(?=_bucket|_sum|_count|[^\w])", "\n".join(queries))) <= {
        name for known in documented() for name in (known, re.sub("_(sum|count|bucket)$", "", known))
    }


async def test_every_metric_of_real_processes_is_documented_and_no_other(start: Start) -> None:
    up = start().wait_until_up()
    await up.uses(await up.publish(patient))
    async with up.client() as client:
        for _ in range(5):
            assert (await up.ask(client)).status == 200
        assert (await up.ask(client, tier="unheard-of")).status == 404
        page = (await client.get(f"{up.ops}/metrics")).text
    pages = documented()
    assert dict(TYPE.findall(page)) == {name: kind for name, (kind, _) in pages.items()}
    seen: set[str] = set()
    for name, text in SAMPLE.findall(page):
        family = name if name in pages else name.removesuffix("_total")
        labels = frozenset(LABEL.findall(text)) - {"process", "le"}
        assert labels == pages[family][1], name
        seen.add(family)
    assert {"tombola_request_part_seconds_total", "tombola_answers_total", "tombola_ticket_confidence"} <= seen
