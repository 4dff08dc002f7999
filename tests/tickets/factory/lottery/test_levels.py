"""Levels: masks that nest and hold at every step, rewinding to the bit, controls that are what they say, resuming."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from torch import Tensor

from tests.tickets.factory.lottery.tiny import STEPS, STEPS_PER_EPOCH, OptimizerOf, Watched, digits_network
from tickets.factory.compute import Compute
from tickets.factory.loop import Progress, Watch, run
from tickets.factory.lottery.levels import TICKET, Level, Lottery, LotteryPlan, Method
from tickets.factory.lottery.masks import are_nested, density, survivors
from tickets.factory.lottery.networks import Network
from tickets.factory.lottery.step import Step
from tickets.factory.lottery.trained import Trained
from tickets.factory.runs import Runs

pytestmark = [pytest.mark.torch]

PLAN = LotteryPlan(levels=2, fraction=0.4, seeds=(0,))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def play(
    root: Path, plan: LotteryPlan = PLAN, network: Network | None = None,
    progress: Progress = lambda done, total, loss: None,
) -> list[Level]:  # fmt: skip
    """All levels of seed 0."""
    runs = Runs(root, lambda text: None)
    return Lottery(network or digits_network(), plan, Compute(), runs, progress).play(0)


def trained(level: Level, branch: str = TICKET) -> Trained:
    return Trained(level[branch].path)


def held(weights: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with what is pruned at zero."""
    return {name: value * masks[name] if name in masks else value for name, value in weights.items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def finished(root: Path) -> dict[str, bytes]:
    """The digests of all files of all stages."""
    return {path.parent.name: path.read_bytes() for path in root.glob("*/done.json")}


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> list[Level]:
    """Two levels and all controls, nothing special."""
    torch.set_num_threads(1)
    return play(tmp_path_factory.mktemp("runs"))


def test_tickets_nest_and_each_level_keeps_its_share(levels: list[Level]) -> None:
    """1, 0.6, 0.36 of all weights; no bias is masked."""
    masks = [trained(level).masks() for level in levels]
    assert are_nested(masks[2], masks[1])
    assert are_nested(masks[1], masks[0])
    assert [round(density(mask), 2) for mask in masks] == [1.0, 0.6, 0.36]
    assert list(masks[0]) == ["1.weight", "4.weight"]


def test_controls_have_the_ticket_s_counts_in_every_layer(levels: list[Level]) -> None:
    """Reinit and shuffled have its very masks, random others, which nest as the ticket's do."""
    for level in levels[1:]:
        ticket = trained(level).masks()
        for name in ("random", "reinit", "shuffled"):
            assert survivors(trained(level, name).masks()) == survivors(ticket), name
        assert are_equal(trained(level, "reinit").masks(), ticket)
        assert are_equal(trained(level, "shuffled").masks(), ticket)
        assert not are_equal(trained(level, "random").masks(), ticket)
    assert are_nested(trained(levels[2], "random").masks(), trained(levels[1], "random").masks())


OPTIMIZERS: dict[str, OptimizerOf] = {
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=5e-3),
    "adamw-decay": lambda model: torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1),
    "sgd-momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
}


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [*(("weight", name) for name in OPTIMIZERS), ("learning-rate", "sgd-momentum"), ("finetune", "adamw-decay")],
)
def test_what_is_pruned_is_exactly_zero_at_every_step(method: Method, optimizer: str, tmp_path: Path) -> None:
    """Before every step and at the end, in every branch, whatever the optimizer does; and each training's optimizer
    begins with an empty memory.
    """
    network = Watched(digits_network(), OPTIMIZERS[optimizer])
    played = play(tmp_path, LotteryPlan(2, 0.4, (0,), method=method), network)
    stages = [stage for level in played for stage in level.values()]
    assert len(network.trainings) == len(stages) == 9
    for stage, seen in zip(stages, network.trainings, strict=True):
        masks = Trained(stage.path).masks()
        assert seen.memories == 0
        assert len(seen.states) == STEPS
        for weights in [*seen.states, Trained(stage.path).weights()]:
            for name, mask in masks.items():
                assert not weights[name][~mask].any()


def test_a_ticket_is_rewound_to_its_initial_weights(tmp_path: Path) -> None:
    """Step 0: the network as built, under the mask that its parent's end weights gave."""
    network = Watched(digits_network())
    played = play(tmp_path, PLAN, network)
    first = network.build(0).state_dict()
    for number, training in ((1, 1), (2, 5)):
        begun = network.trainings[training].states[0]
        assert are_equal(begun, held(first, trained(played[number]).masks()))
    parent, mask = trained(played[0]).weights(), trained(played[1]).masks()
    kept = torch.cat([parent[name].abs()[mask[name]] for name in mask])
    gone = torch.cat([parent[name].abs()[~mask[name]] for name in mask])
    assert gone.max() <= kept.min()


@pytest.mark.parametrize("step", [Step(0, 3), Step(1), Step(1, 2)], ids=str)
def test_rewinding_to_step_k_gives_the_weights_of_an_uninterrupted_run_at_k(step: Step, tmp_path: Path) -> None:
    """To the bit, within an epoch too; the ticket then sees the batches and rates that were left from k on."""
    network = Watched(digits_network())
    played = play(tmp_path, LotteryPlan(1, 0.4, (0,), rewind=step, controls=()), network)
    k = step.resolve(STEPS_PER_EPOCH)
    uninterrupted = digits_network()
    model = uninterrupted.build(0)
    (tmp_path / "whole").mkdir()
    run(model, uninterrupted.course(0), Compute(), Watch(tmp_path / "whole", keep=frozenset({k})))
    at_k = torch.load(tmp_path / "whole" / f"step-{k}.pt", weights_only=True)
    ticket = network.trainings[-1]
    assert are_equal(ticket.states[0], held(at_k, trained(played[1]).masks()))
    assert len(ticket.states) == STEPS - k
    assert ticket.rates == network.trainings[0].rates[k:]
    assert trained(played[1]).log()["first_step"] == k


def test_learning_rate_rewinding_keeps_the_end_weights(tmp_path: Path) -> None:
    """Its weights are the parent's, pruned; its rates are the schedule's from k on."""
    network = Watched(digits_network())
    plan = LotteryPlan(1, 0.4, (0,), rewind=Step(1), method="learning-rate", controls=())
    played = play(tmp_path, plan, network)
    dense, ticket = network.trainings
    assert are_equal(ticket.states[0], held(trained(played[0]).weights(), trained(played[1]).masks()))
    assert ticket.rates == dense.rates[STEPS_PER_EPOCH:]


def test_fine_tuning_goes_on_at_the_last_rate(tmp_path: Path) -> None:
    """From the end weights, for as many steps as the rewinding methods."""
    network = Watched(digits_network())
    played = play(tmp_path, LotteryPlan(1, 0.4, (0,), rewind=Step(1), method="finetune", controls=()), network)
    dense, ticket = network.trainings
    assert are_equal(ticket.states[0], held(trained(played[0]).weights(), trained(played[1]).masks()))
    assert ticket.rates == [dense.rates[-1]] * (STEPS - STEPS_PER_EPOCH)


def test_the_reinit_control_gets_the_whole_course_whatever_the_ticket_is_rewound_to(tmp_path: Path) -> None:
    """New values of everything, from step 0 on."""
    network = Watched(digits_network())
    played = play(tmp_path, LotteryPlan(1, 0.4, (0,), rewind=Step(1), controls=("reinit",)), network)
    begun, first = network.trainings[-1].states[0], network.build(0).state_dict()
    for name, mask in trained(played[1]).masks().items():
        assert not (begun[name] == first[name])[mask].any()
    assert trained(played[1], "reinit").log()["first_step"] == 0


def test_the_shuffled_control_has_the_ticket_s_values_in_other_places(tmp_path: Path) -> None:
    """In each layer the same survivors, sorted alike, most of them elsewhere; biases untouched."""
    network = Watched(digits_network())
    play(tmp_path, LotteryPlan(1, 0.4, (0,), controls=("shuffled",)), network)
    ticket, shuffled = (training.states[0] for training in network.trainings[-2:])
    for name in network.prunable():
        assert torch.equal(ticket[name].flatten().sort().values, shuffled[name].flatten().sort().values)
        assert (ticket[name] != shuffled[name]).sum() > 0.5 * (ticket[name] != 0).sum()
        assert torch.equal(ticket[name] == 0, shuffled[name] == 0)
    assert torch.equal(ticket["1.bias"], shuffled["1.bias"])


def test_the_dense_network_is_common_to_all_and_a_longer_run_begins_with_a_shorter_one(tmp_path: Path) -> None:
    """Two more methods, the other scope and another level train nothing dense again, nor any earlier level."""
    short = play(tmp_path, PLAN)
    longer = play(tmp_path, LotteryPlan(3, 0.4, (0,), controls=("random",)))
    for before, after in zip(short, longer, strict=False):
        assert all(after[name].key == before[name].key and after[name].reused for name in after)
    for other in (LotteryPlan(1, 0.4, (0,), scope="layer"), LotteryPlan(1, 0.4, (0,), rewind=Step(1))):
        first, second = play(tmp_path, other)
        assert first[TICKET].key == short[0][TICKET].key
        assert second[TICKET].key != short[1][TICKET].key


def test_the_log_names_the_epoch_of_least_validation_loss(levels: list[Level]) -> None:
    """Every epoch has its losses; the early stop is where validation's is least; outcomes are of every example."""
    for level in levels:
        for name in level:
            one = trained(level, name)
            log = one.log()
            assert [epoch["step"] for epoch in log["epochs"]] == [5, 10, 15]
            best = min(log["epochs"], key=lambda epoch: epoch["validation_loss"])
            assert log["early_stop"]["step"] == best["step"]
            assert one.outcome("validation").accuracy == pytest.approx(
                log["epochs"][-1]["validation_accuracy"], abs=1e-6
            )
            assert one.outcome("test").hits.shape == one.outcome("test").losses.shape == (500,)


@pytest.mark.parametrize("at", [1, 5, 16, 44])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    at: int, levels: list[Level], tmp_path: Path
) -> None:  # fmt: skip
    """Stopped after any step, in an epoch or at its end, and started again: all files as of an undisturbed run."""

    def stop(done: int, total: int, loss: float) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, progress=stop)
    play(tmp_path)
    assert finished(tmp_path) == finished(levels[0][TICKET].path.parent)


def test_a_stage_whose_end_was_lost_is_made_again_to_the_same_bits(levels: list[Level], tmp_path: Path) -> None:
    """No end marker, a checkpoint that is gone, a file that is damaged: made again, not trusted."""
    played = play(tmp_path)
    folder = played[1][TICKET].path
    (folder / "done.json").unlink()
    (folder / "masks.npz").write_bytes(b"")
    damaged = played[2]["random"].path / "outcome.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    play(tmp_path)
    assert finished(tmp_path) == finished(levels[0][TICKET].path.parent)
    assert not list(tmp_path.glob("*/step-*"))


def test_progress_counts_the_steps_of_all_trainings(tmp_path: Path) -> None:
    """Up to the total, never back; stages that were there before count at once."""
    for expected in (9 * STEPS, 9):
        counts: list[tuple[int, int]] = []
        play(tmp_path, progress=lambda done, total, loss, counts=counts: counts.append((done, total)))  # type: ignore[misc]
        done = [count for count, _ in counts]
        assert done == sorted(done)
        assert counts[-1] == (9 * STEPS, 9 * STEPS)
        assert len(set(done)) == expected


def test_a_step_after_the_end_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training has 15 steps"):
        play(tmp_path, LotteryPlan(1, 0.4, (0,), rewind=Step(3)))
    assert not list(tmp_path.glob("lottery-*"))


def test_training_that_diverges_is_named(tmp_path: Path) -> None:
    """Weights that are not finite have no order of magnitude."""
    with pytest.raises(ValueError, match="training diverged"):
        play(tmp_path, network=Watched(digits_network(), lambda m: torch.optim.SGD(m.parameters(), lr=1e30)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"levels": 0}, "at least one level"), ({"fraction": 1.0}, "between 0 and 1"), ({"controls": ("luck",)}, "luck")],
)
def test_plans_that_cannot_be_played(changes: dict[str, object], complaint: str) -> None:
    arguments = {"levels": 1, "fraction": 0.2, "seeds": (0,)} | changes
    with pytest.raises(ValueError, match=complaint):
        LotteryPlan(**arguments)  # type: ignore[arg-type]


def test_seeds_differ_in_everything_but_the_split(tmp_path: Path) -> None:
    """Other weights, other batches; the same test examples in the same order, so that hits are paired."""
    runs = Runs(tmp_path, lambda text: None)
    game = Lottery(digits_network(), LotteryPlan(1, 0.4, (0, 1), controls=()), Compute(), runs)
    one, other = (trained(game.play(seed)[0]) for seed in (0, 1))
    assert not are_equal(one.weights(), other.weights())
    first, second = (digits_network().course(seed).batches(0)[0] for seed in (0, 1))
    assert not np.array_equal(first, second)
