"""The history: increases of counters through restarts, gaps and late arrivals, and the windows made from them."""

import msgspec
import numpy as np
import pytest

from server.dashboard.history import STEP_S, History, of_process
from server.dashboard.series import BUSY, REQUESTS, STARTED, Key, Reading

AT = 1_790_000_000.0
OK = (REQUESTS, "acme", "home", "fast", "ok")
LATE = (REQUESTS, "acme", "home", "fast", "deadline_exceeded")


def gateway(count: float, name: str = "g", began: float = AT - 100, key: Key = OK) -> Reading:
    return Reading(kind="gateway", name=name, is_up=True, counters={key: count}, gauges={(STARTED,): began})


def down(name: str = "g") -> Reading:
    return Reading(kind="gateway", name=name, is_up=False)


def fed(*samples: list[Reading]) -> History:
    """A history of samples STEP_S apart."""
    history = History()
    for number, readings in enumerate(samples):
        history.add(AT + number * STEP_S, readings)
    return history


def steps(history: History, key: Key = OK) -> list[float]:
    return [float(value) for value in history.window(900).steps([key])[:, 0]]


def test_a_step_is_what_was_counted_since_the_sample_before() -> None:
    """What was counted before the first sample is nobody's: who knows over what time."""
    history = fed([gateway(1000)], [gateway(1010)], [gateway(1010)], [gateway(1040)])
    assert steps(history) == [10, 0, 30]
    window = history.window(900)
    assert window.covered_s == 3 * STEP_S
    assert window.total(OK) == 40
    assert window.total(LATE) == 0


def test_a_restart_is_never_a_fall() -> None:
    """A new process under the old name begins at zero: all it has counted is new, also where that is more."""
    history = fed([gateway(100)], [gateway(110)], [gateway(4, began=AT + 6)], [gateway(9, began=AT + 6)])
    assert steps(history) == [10, 4, 5]
    assert steps(fed([gateway(5)], [gateway(7, began=AT + 1)])) == [7]


def test_a_restart_is_remembered_for_as_long_as_the_history() -> None:
    history = fed([gateway(1)], [gateway(1, began=AT + 1)], [gateway(1, began=AT + 6)])
    assert history.window(900).processes["g"].restarts == (AT + STEP_S, AT + 2 * STEP_S)
    history.add(AT + 907, [gateway(1, began=AT + 6)])
    assert history.window(900).processes["g"].restarts == (AT + 2 * STEP_S,)


def test_processes_are_added_up() -> None:
    history = fed([gateway(1), gateway(50, "h")], [gateway(2), gateway(60, "h")])
    window = history.window(900)
    assert window.total(OK) == 11
    assert window.total(of_process(REQUESTS, "g")) == 1
    assert window.total(of_process(REQUESTS, "h")) == 10


def test_a_process_that_did_not_answer_is_caught_up_with() -> None:
    assert steps(fed([gateway(1)], [down()], [gateway(7)])) == [0, 6]
    assert steps(fed([gateway(1)], [], [gateway(7)])) == [0, 6]


def test_a_process_that_starts_counts_from_its_start_one_that_was_there_unheard_does_not() -> None:
    history = fed([], [gateway(3, began=AT + 2), gateway(5000, "old", began=AT - 1)], [gateway(4, began=AT + 2)])
    assert steps(history) == [3, 1]


def test_a_clock_that_goes_back_begins_anew() -> None:
    history = fed([gateway(1)], [gateway(2)])
    history.add(AT - 3600, [gateway(3)])
    assert history.window(900).covered_s == 0
    history.add(AT - 3600 + STEP_S, [gateway(8)])
    assert steps(history) == [5]


def test_a_window_holds_its_seconds_and_no_more() -> None:
    history = fed(*([gateway(n * n)] for n in range(41)))
    assert history.window(60).covered_s == 60
    assert history.window(60).total(OK) == 40 * 40 - 28 * 28
    assert history.window(900).covered_s == 200


def test_late_samples_make_longer_steps() -> None:
    """Rates are of the time that passed, not of the time that should have."""
    history = History()
    for at, count in ((0.0, 0), (5.2, 10), (12.0, 30)):
        history.add(AT + at, [gateway(count)])
    assert [round(float(s), 3) for s in history.window(60).seconds] == [5.2, 6.8]


def test_the_ring_forgets_the_oldest() -> None:
    history = History(slots=3)
    for number in range(6):
        history.add(AT + number * STEP_S, [gateway(number * number)])
    assert steps(history) == [5, 7, 9]


def test_a_window_stays_as_it_was() -> None:
    history = History(slots=2)
    for number in range(3):
        history.add(AT + number * STEP_S, [gateway(number)])
    window = history.window(900)
    history.add(AT + 3 * STEP_S, [gateway(100)])
    assert window.total(OK) == 2
    assert float(window.steps([OK]).sum()) == 2


def test_series_that_nothing_counts_any_more_make_room() -> None:
    """Many short-lived series, a few at a time: the ring does not grow with all that ever were."""
    history = History(slots=4, max_series=64)
    for number in range(200):
        keys: dict[Key, float] = {(REQUESTS, f"t{number - back}", "d", "t", "ok"): back + 1.0 for back in range(8)}
        history.add(
            AT + number * STEP_S,
            [Reading(kind="gateway", name="g", is_up=True, counters=keys, gauges={(STARTED,): AT - 100})],
        )
    window = history.window(900)
    assert len(window.keys(REQUESTS)) == 11
    assert window.total((REQUESTS, "t199", "d", "t", "ok")) == 1
    assert window.total((REQUESTS, "t196", "d", "t", "ok")) == 4


def test_over_the_bound_series_are_left_out_and_the_others_stay_right() -> None:
    history = History(max_series=16)
    for count in (0.0, 1.0, 3.0):
        counters: dict[Key, float] = {(REQUESTS, f"t{n}", "d", "t", "ok"): count for n in range(100)}
        reading = Reading(kind="gateway", name="g", is_up=True, counters=counters, gauges={(STARTED,): AT - 100})
        history.add(AT + count * STEP_S, [reading])
    window = history.window(900)
    kept = [key for key in window.keys(REQUESTS) if key[0] == REQUESTS]
    assert 0 < len(kept) <= 16
    assert {window.total(key) for key in kept} == {3.0}


def test_a_process_that_goes_is_known_for_a_while_then_forgotten() -> None:
    history = fed([gateway(1)], [down()], [])
    gone = history.window(60).processes["g"]
    assert (gone.is_up, gone.is_known, gone.seen_at) == (False, False, AT)
    history.add(AT + 2000, [])
    assert history.window(60).processes == {}


def test_what_a_process_says_is_its_last_answer() -> None:
    busy = msgspec.structs.replace(gateway(1), gauges={(STARTED,): AT, (BUSY,): 3.0})
    history = fed([busy], [down()])
    process = history.window(60).processes["g"]
    assert not process.is_up
    assert process.is_known
    assert process.gauges[BUSY,] == 3.0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_increases_are_what_was_counted(seed: int) -> None:
    """Random processes that count, restart and fall silent: nothing is negative, nothing is counted twice, and what is
    missing was lost with a process that died before it was asked again."""
    rng = np.random.default_rng(seed)
    history = History()
    counts, born, lost = [0.0] * 3, [AT - 10.0] * 3, 0.0
    heard, total = [0.0] * 3, 0.0
    history.add(AT, [gateway(0, f"g{n}", born[n]) for n in range(3)])
    for number in range(1, 60):
        at = AT + number * STEP_S
        readings = []
        for n in range(3):
            counted = float(rng.integers(0, 20))
            if rng.random() < 0.1:
                lost += counts[n] - heard[n]
                counts[n] = heard[n] = 0.0
                born[n] = at - float(rng.random())
            counts[n] += counted
            total += counted
            if rng.random() < 0.8:
                readings.append(gateway(counts[n], f"g{n}", born[n]))
                heard[n] = counts[n]
            else:
                readings.append(down(f"g{n}"))
        history.add(at, readings)
    unheard = sum(count - last for count, last in zip(counts, heard, strict=True))
    assert min(steps(history)) >= 0
    assert sum(steps(history)) == total - lost - unheard
