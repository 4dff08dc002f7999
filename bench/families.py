"""Families of tickets on real data: CLINC150 whole, Banking77, and CLINC150's ten domains one by one.

`run` calls `tombola find` for each (again: to go on where it stopped; several sittings are fine), and keeps what each
run found in bench/results/families/NAME.json. `table` prints what those files say: per tier accuracy, out-of-scope
recall, AUROC, calibration error, bytes and measured speed, and over the ten domains the median and the worst loss.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bench.run import commit, machine
from tickets.factory.record import RunRecord, list_records
from tickets.files import write_whole

RESULTS = Path("bench/results/families")
DOMAINS = (
    "banking", "travel", "credit_cards", "meta", "home", "kitchen_and_dining", "auto_and_commute", "utility", "work",
    "small_talk",
)  # fmt: skip
CLINC150 = ("--copies", "2", "--epochs", "15")
BANKING77 = ("--copies", "2", "--epochs", "20")
ONE_DOMAIN = ("--teachers", "2", "--copies", "3", "--epochs", "16", "--measure-seconds", "30")
MODELS = ("tf-idf-linear-svm", "zero-layer-control", "dense-parent")
NUMBERS = ("in_scope_accuracy", "out_of_scope_recall", "out_of_scope_auroc", "expected_calibration_error")
HEAD = ("", "accuracy, %", "out-of-scope recall, %", "AUROC, %", "ECE, %", "bytes", "speed")


def _results_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--results", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, show_default=True,
        help="Folder of what was found, a JSON file each; another machine's is better kept apart.",
    )(function)  # fmt: skip


@click.group(epilog="Example: python -m bench.families run --data-dir data/ clinc150 banking77 domains")
def main() -> None:
    """Find the families that the README's numbers come from, and print them."""


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder of clinc150_full.json, clinc150_domains.json, banking77_train.csv and banking77_test.csv.",
)  # fmt: skip
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"), show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs/families"),
              show_default=True, help="Where the tickets go.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), help="Default: 3 for clinc150 and banking77, 1 for a domain.")
@click.option("--controls/--no-controls", default=False, help="Train the structural controls of every tier too.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@_results_option
def run(
    names: Sequence[str], data_dir: Path, runs: Path, out: Path, seeds: int | None, controls: bool, threads: int,
    results: Path,
) -> None:  # fmt: skip
    """Find NAMES: clinc150, banking77, a domain of CLINC150, or `domains` for all ten."""
    results.mkdir(parents=True, exist_ok=True)
    for name in [one for given in names for one in (DOMAINS if given == "domains" else (given,))]:
        options = [*_data(name, data_dir), "--out", str(out / name), "--runs", str(runs), "--threads", str(threads)]
        options += ["--seeds", str(seeds or (3 if name in ("clinc150", "banking77") else 1))]
        options += ["--controls"] if controls else []
        done = subprocess.run(
            [sys.executable, "-m", "tickets", "find", *options], check=False, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise click.ClickException(f"{name}: tombola find ended with status {done.returncode}")
        domain = options[options.index("--domain") + 1]
        found = next(one for one in list_records(runs) if one.kind == "find" and one.result.get("domain") == domain)
        _keep(results / f"{name}.json", options, found)


@main.command()
@_results_option
def table(results: Path) -> None:
    """Print every family that was found, and what the ten domains lose."""
    families = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    for name, family in families.items():
        click.echo(f"\n{name}: seeds {family['result']['seeds']}, {family['seconds'] / 60:.0f} minutes of work\n")
        for line in rows(family["result"]):
            click.echo(line)
        click.echo("\nminutes: " + ", ".join(f"{stage} {spent:.1f}" for stage, spent in minutes(family["stages"])))
    ten = [families[name]["result"] for name in DOMAINS if name in families]
    if ten:
        click.echo(f"\n{len(ten)} domains: loss against the dense parent in points\n")
        for line in losses(ten):
            click.echo(line)


def rows(result: Mapping[str, Any]) -> list[str]:
    """A Markdown line per model: means over the seeds, with the range in brackets; shares in percent."""
    tiers = [f"{result['domain']}-{tier['tier']}" for tier in result["tiers"]]
    out = [_cells(HEAD), _cells(["---"] * len(HEAD))]
    for name in (*MODELS, *tiers):
        entry = result["models"][name]
        seeds = entry.get("by_seed") or [entry]
        cells = [_spread([one[key] for one in seeds if key in one]) for key in NUMBERS]
        speed = entry.get("speed", {}).get("speedup")
        size = f"{entry['bytes'] / 1e6:.2f} MB" if "bytes" in entry else ""
        shown = f"{speed[0]:.1f}x [{speed[1]:.1f}, {speed[2]:.1f}]" if speed else ""
        out.append(_cells([name.removeprefix(f"{result['domain']}-"), *cells, size, shown]))
    return out


def minutes(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """What each kind of stage took altogether, in the order of the run; what an older run left counts as it was."""
    spent: dict[str, float] = {}
    for stage in stages:
        spent[stage["name"]] = spent.get(stage["name"], 0.0) + stage["seconds"] / 60
    return list(spent.items())


def losses(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown: what each domain's tickets lose in accuracy, recall and AUROC, in points; the median, the worst."""
    tiers = [tier["tier"] for tier in results[0]["tiers"]]
    out = [_cells(["", *tiers]), _cells(["---"] * (1 + len(tiers)))]
    lost = [[[_lost(result, tier, key) for key in NUMBERS[:3]] for tier in tiers] for result in results]
    out += [_cells([one["domain"], *map(_points, row)]) for one, row in zip(results, lost, strict=True)]
    for name, taken in (("median", statistics.median), ("worst", max)):
        columns = [[taken(values) for values in zip(*tier, strict=True)] for tier in zip(*lost, strict=True)]
        out.append(_cells([f"**{name}**", *map(_points, columns)]))
    return out


def _data(name: str, folder: Path) -> list[str]:
    if name == "banking77":
        files = ["--data", str(folder / "banking77_train.csv"), "--test", str(folder / "banking77_test.csv")]
        return [*files, "--domain", name, *BANKING77]
    if name == "clinc150":
        return ["--data", str(folder / "clinc150_full.json"), "--domain", "all", *CLINC150]
    if name not in DOMAINS:
        raise click.UsageError(f"no data set {name!r}; there are: clinc150, banking77, domains, {', '.join(DOMAINS)}")
    return ["--data", str(folder / "clinc150_full.json"), "--domain", name, *ONE_DOMAIN]


def _keep(path: Path, options: Sequence[str], record: RunRecord) -> None:
    document = {
        "command": "tombola find " + " ".join(_without_folders(options)), "machine": machine(), "commit": commit(),
        "seconds": sum(stage["seconds"] for stage in record.stages), "stages": record.stages,
        "description": record.description, "result": record.result,
    }  # fmt: skip
    write_whole(path, (json.dumps(document, indent=1) + "\n").encode())


def _without_folders(options: Sequence[str]) -> list[str]:
    return [Path(option).name if "/" in option else option for option in options]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    known = [100 * value for value in values]
    return f"{statistics.mean(known):.2f}" + (f" [{min(known):.2f}, {max(known):.2f}]" if len(known) > 1 else "")


def _lost(result: Mapping[str, Any], tier: str, key: str) -> float:
    """In points, mean over seeds."""
    models = result["models"]
    pairs = zip(models["dense-parent"]["by_seed"], models[f"{result['domain']}-{tier}"]["by_seed"], strict=True)
    return statistics.mean(100 * float(parent[key] - ticket[key]) for parent, ticket in pairs)


def _points(values: Sequence[float]) -> str:
    return " / ".join(f"{value:+.1f}" for value in values)


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
