"""The order of measuring, over real processes: settings, turns, going on after a stop, and failures by name."""

import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.peers import turns
from loadtest.peers.catalogue import PEERS, Setting, System, tombolas
from loadtest.peers.dialects import Answer, plain
from loadtest.peers.results import BareTurn, Result, Results
from loadtest.peers.start import Context
from loadtest.peers.turns import Bench, Scale

ANSWERS = {text: Answer(label=text[:3], probability=0.5, in_scope=True) for text in ("one text", "another text")}
SCALE = Scale(
    turns=1, connections=(2, 4), rates=(20, 1_000_000), warmup_s=0.1, try_s=0.2, closed_s=0.2, rate_s=0.3, trial_s=0.0,
    overload_s=0.2,
)  # fmt: skip
SERVER = ("{python}", "-m", "tests.loadtest.peer_server", "{port}", "{ticket}")
GOOD = System("good", "Good", SERVER, plain("/"), (Setting("only"),))
CHOOSY = System(
    "choosy",
    "Choosy",
    SERVER[:3],
    plain("/"),
    (Setting("broken", ("nowhere",)), Setting("fine", ("{port}", "{ticket}"))),
)
FAILS = ("{python}", "-c", "raise SystemExit('no such model')")
BROKEN = System("broken", "Broken", FAILS, plain("/"), (Setting("only"),))


@pytest.fixture(autouse=True)
def _own_client_and_no_bare_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter than wrk's whole seconds; and the bare loop has its own test."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    a_bare_turn = BareTurn(plain_per_s=1.0, grouped_per_s=2.0, grouped_cpu_s_per_1000=0.5)
    monkeypatch.setattr(turns, "bare_turn", lambda *_: a_bare_turn)


def bench(folder: Path, *systems: System, scale: Scale = SCALE) -> dict[str, Result]:
    """Run what is not done yet; the answers' file stands in the ticket's place."""
    answers = folder / "answers.json"
    answers.write_bytes(msgspec.json.encode(ANSWERS))
    context = Context(answers, folder, folder, folder, ANSWERS, {})
    found = Bench(systems, scale, Results(folder / "out", "here"), folder / "peers", lambda _: None)
    found.run(context, "banking")
    return found.found


def test_a_turn_measures_everything_once(tmp_path: Path) -> None:
    result = bench(tmp_path, GOOD, scale=SCALE._replace(trial_s=0.2))["good"]
    (turn,) = result.turns
    assert [one.closed.connections for one in turn.saturated] == [2, 4]
    assert all(one.closed.per_s > 0 and one.cost.pss_bytes > 0 for one in turn.saturated)
    assert [point.rate_per_s for point in turn.points] == [20]
    assert turn.points[0].errors == {}
    assert turn.trials
    assert turn.overloaded is not None
    assert turn.overloaded.point.rate_per_s == pytest.approx(3 * turn.saturated[-1].closed.per_s)
    assert result.failure == ""


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    before = bench(tmp_path, GOOD)["good"].turns
    again = bench(tmp_path, GOOD._replace(command=("{python}", "-c", "raise SystemExit('started again')")))["good"]
    assert again.failure == ""
    assert again.turns == before


def test_a_later_run_adds_the_turns_that_are_missing(tmp_path: Path) -> None:
    before = bench(tmp_path, GOOD)["good"].turns
    after = bench(tmp_path, GOOD, scale=SCALE._replace(turns=2))["good"].turns
    assert len(after) == 2
    assert after[:1] == before


def test_the_setting_that_works_best_is_kept_and_all_are_remembered(tmp_path: Path) -> None:
    result = bench(tmp_path, CHOOSY, scale=SCALE._replace(turns=0))["choosy"]
    assert result.setting == "fine"
    assert [bool(tried.failure) for tried in result.tried] == [True, False]
    assert [one.connections for one in result.tried[1].closed] == [2, 4]


def test_a_system_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    found = bench(tmp_path, BROKEN, GOOD)
    assert "no such model" in found["broken"].failure
    assert found["broken"].turns == []
    assert len(found["good"].turns) == 1
    kept = Results(tmp_path / "out", "here").load("broken", "Broken")
    assert "no such model" in kept.failure


@pytest.mark.parametrize("system", [*tombolas("banking", "accurate", 25.0), *PEERS], ids=lambda system: system.name)
def test_every_entry_of_the_catalogue_can_be_started(system: System, tmp_path: Path) -> None:
    """Placeholders are known, programs exist, pins are exact where the peer itself is concerned."""
    values = dict.fromkeys(("python", "bin", "ticket", "port", "port2", "port3", "scratch", "starter", "limit"), "7")
    bound = [system.limit] if system.limit else []
    for setting in (*system.settings, *bound):
        arguments = [*system.command, *setting.arguments, *system.environment.values(), *setting.environment.values()]
        assert not [argument for argument in arguments if "{" in argument.format(**values)]
    assert len({setting.name for setting in system.settings}) == len(system.settings)
    for argument in system.command:
        if argument.startswith("loadtest.peers.programs."):
            path = Path(turns.__file__).parent / "programs" / f"{argument.partition(':')[0].rpartition('.')[2]}.py"
            assert path.is_file()
    assert system.is_ours or any("==" in requirement for requirement in system.requirements)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_the_bare_loop_answers_and_measures(tmp_path: Path) -> None:
    from loadtest.peers.ticket import unpack
    from loadtest.peers.turns import bare_loop
    from loadtest.sentences import BANKING

    ticket = Path(__file__).parents[2] / "tickets" / "starter" / "banking-fast.ticket"
    folder = unpack(ticket, tmp_path).folder
    answers = msgspec.convert(bare_loop(folder, "banking", "--answers"), dict[str, Answer])
    assert list(answers) == list(BANKING)
    rates = bare_loop(folder, "banking", "--seconds", "0.1")
    assert rates["plain"]["texts_per_s"] > 0
    assert rates["grouped"]["cpu_s_per_1000"] > 0


def test_this_interpreter_is_used_where_nothing_is_required(tmp_path: Path) -> None:
    program = f"import sys; assert sys.executable == {sys.executable!r}; raise SystemExit('the same')"
    result = bench(tmp_path, BROKEN._replace(command=("{python}", "-c", program)))["broken"]
    assert "the same" in result.failure
