"""The page: what it says first, that nothing is missing silently, that hostile text stays text, that it is one file."""

import copy
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tickets.factory.pages import examples
from tests.tickets.factory.pages.test_markup import read
from tickets.factory.pages.page import render
from tickets.factory.pages.report import content_of, write_report
from tickets.factory.record import RunRecord

pytestmark = [pytest.mark.torch]

RESULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "find": examples.found,
    "lottery": examples.lottery,
    "transfer": examples.transferred,
    "patterns": examples.patterns,
}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $\\frac{1}{0}$ {x} \u202e日本語 🎟"


def page(record: RunRecord) -> str:
    return render(record, content_of(record))


def words(html: str) -> str:
    return " ".join(read(html).text.split())


@pytest.mark.usefixtures("unrasterized")
def test_the_verdicts_come_first_in_plain_words() -> None:
    text = words(page(examples.record("find", examples.found())))
    assert "3 of 4 tickets win: accurate, balanced and fast." in text
    assert "fast, is 16.2× as fast as the dense parent and loses" in text
    assert text.index("Failed gate accuracy_loss: measured 3.2, allowed at most 1") < text.rindex("All models")


@pytest.mark.usefixtures("unrasterized")
def test_where_nothing_wins_it_says_so() -> None:
    result = examples.found()
    for tier in result["tiers"]:
        tier["verdict"] = examples.verdict(False)
    assert "None of the 4 tickets wins: all are sold as pruned." in words(page(examples.record("find", result)))


@pytest.mark.usefixtures("unrasterized")
@pytest.mark.parametrize("kind", list(RESULTS))
def test_every_section_is_in_the_contents_and_has_something_in_it(kind: str) -> None:
    html = page(examples.record(kind, RESULTS[kind]()))
    links = re.findall(r'<a href="#([\w-]+)">', html)
    assert links == re.findall(r'<section id="([\w-]+)"', html)
    assert 'class="missing"' not in html


@pytest.mark.usefixtures("unrasterized")
@pytest.mark.parametrize("kind", [*RESULTS, "find"])
def test_an_empty_result_leaves_notes(kind: str) -> None:
    html = page(examples.record(kind, {}, stages=[], description={}))
    assert html.count('class="missing"') >= 2


@pytest.mark.usefixtures("unrasterized")
@pytest.mark.parametrize(
    ("status", "said"),
    [("running", "still going on"), ("failed", "This run failed"), ("interrupted", "goes on where it stopped")],
)
def test_a_run_that_is_not_done_says_so_first(status: Any, said: str) -> None:
    text = words(page(examples.record("find", status=status, error="no space left" if status == "failed" else "")))
    assert said in text
    assert "There are no results yet." in text
    assert "Not in this record" not in text
    assert ("no space left" in text) is (status == "failed")
    again = words(page(examples.record("find", examples.found(), status=status)))
    assert "of an earlier run of the same description" in again


def hostile(value: Any, dice: random.Random) -> Any:
    """The same document with every name and text replaced."""
    if isinstance(value, dict):
        return {k: hostile(v, dice) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v, dice) for v in value]
    return HOSTILE + str(dice.random()) if isinstance(value, str) else value


@pytest.mark.parametrize("kind", list(RESULTS))
def test_hostile_text_stays_text(kind: str) -> None:
    """Drawn whole: a label must not be read as mathematics or break a font either."""
    result = RESULTS[kind]()
    if kind == "find":
        result["models"] = {
            name: model for name, model in result["models"].items() if "fast" in name or "-" not in name
        }
        result["tiers"] = result["tiers"][2:3]
        result["models"][f"{HOSTILE}-{HOSTILE}"] = result["models"].pop("banking-fast")
        result["tiers"][0]["tier"] = result["domain"] = HOSTILE
    dice = random.Random(0)
    kept = {key: result[key] for key in ("domain",) if key in result}
    tiers = copy.deepcopy(result.get("tiers"))
    result = hostile(result, dice) | kept
    if tiers:
        result["tiers"][0]["tier"] = tiers[0]["tier"]
    record = examples.record(
        kind, result, command=HOSTILE, error=HOSTILE, status="failed", description={HOSTILE: HOSTILE}
    )
    html = page(record)
    found = read(html)
    names = {name for name, _ in found.elements}
    assert names <= {
        "html", "head", "meta", "title", "style", "body", "a", "div", "header", "h1", "h2", "h3", "dl", "dt", "dd", "p",
        "nav", "ol", "ul", "li", "main", "section", "figure", "picture", "source", "img", "figcaption", "table",
        "caption", "thead", "tbody", "tr", "th", "td", "small", "span", "strong", "code", "pre", "details", "summary",
    }  # fmt: skip
    attributes = {name for _, held in found.elements for name in held}
    assert not [name for name in attributes if name.startswith("on")]
    assert all(held.get("src", "data:image/png").startswith("data:image/png") for _, held in found.elements)  # type: ignore[union-attr]
    assert "<script>alert(1)</script>" in found.text


@pytest.mark.usefixtures("unrasterized")
@pytest.mark.parametrize("kind", list(RESULTS))
def test_the_page_asks_nobody_for_anything(kind: str) -> None:
    html = page(examples.record(kind, RESULTS[kind]()))
    assert not re.findall(r"""(?:src|href|srcset)=["'](?!#|data:)""", html)
    assert not re.findall(r"@import|url\(", html)
    assert "<script" not in html
    assert "default-src 'none'" in html.replace("&#x27;", "'")


@pytest.mark.usefixtures("unrasterized")
def test_every_picture_has_words_for_those_who_cannot_see_it() -> None:
    for kind, make in RESULTS.items():
        for section in content_of(examples.record(kind, make())).sections:
            for picture in section.pictures:
                assert len(picture.alt) > 40, picture.name
                assert "None" not in picture.alt + picture.caption


def pruned(value: Any, dice: random.Random, chance: float) -> Any:
    """A document with parts left out or of another type, as an older or a broken writer would leave them."""
    roll = dice.random()
    if roll < chance:
        return dice.choice([None, {}, [], "text", -1, 0, float("nan"), True, 1e12])
    if isinstance(value, dict):
        return {k: pruned(v, dice, chance) for k, v in value.items() if dice.random() > chance}
    if isinstance(value, list):
        return [pruned(v, dice, chance) for v in value if dice.random() > chance / 2]
    return value


@pytest.mark.usefixtures("unrasterized")
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(list(RESULTS)), st.integers(0, 2**32), st.sampled_from([0.02, 0.1, 0.3]))
def test_whatever_is_missing_or_wrong_there_is_a_page(kind: str, seed: int, chance: float) -> None:
    dice = random.Random(seed)
    result = pruned(RESULTS[kind](), dice, chance)
    html = page(examples.record(kind, result if isinstance(result, dict) else {}))
    assert html.endswith("</html>")


@pytest.mark.usefixtures("unrasterized")
def test_a_kind_of_run_that_is_not_known_gets_its_numbers(tmp_path: Path) -> None:
    written = write_report(examples.record("cooking", {"salt": 3.5, "deep": {"pepper": 2}}), tmp_path)
    text = words(written[0].read_text())
    assert "salt" in text
    assert "deep/pepper" in text


@pytest.mark.usefixtures("unrasterized")
def test_many_stages_become_one_row_each_name() -> None:
    stages = [
        {"name": f"level-{i % 3}", "key": "", "folder": f"f{i}", "seconds": 1.0, "reused": i == 0} for i in range(300)
    ]
    html = page(examples.record("lottery", examples.lottery(2), stages=stages))
    rows = re.search(r'<section id="stages".*?<details>', html, re.DOTALL)
    assert rows is not None
    assert rows.group().count("<tr>") == 4
    assert "1 reused" in rows.group()


def test_the_plots_lie_beside_the_page(tmp_path: Path) -> None:
    written = write_report(examples.record("transfer", examples.transferred()), tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["report.html", "transfer.png"]
    assert written[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    html = written[0].read_text()
    assert html.count("data:image/png;base64,") == 2
    assert len(html) < 1_000_000
