"""int8 forms of one ticket side by side: what they cost, whether an answer depends on its neighbours, where time goes.

Forms: what is served (`tickets.factory.graph`), the same with tokens first, ONNX Runtime's own static (QDQ) and
dynamic quantization of our fp32 graph, and that graph itself; with ONNX Runtime's optimization levels and with
SkipLayerNormFusion. All forms run in turns, round after round. Times are *CPU time of the one thread that runs*, so
that other processes on a shared machine do not count; their noise in caches and clock does, hence ratios with ranges.
"""

import json
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.run import commit, machine
from tickets.factory.compute import host_isa
from tickets.factory.data import DomainData, Examples, build
from tickets.factory.formats import load_rows
from tickets.factory.graph import build_fp32, build_int8
from tickets.factory.graph_forms import dynamic, named, static_qdq, tokens_first
from tickets.factory.models import load_model
from tickets.factory.quality import auroc, correct, fit, in_scope_scores, softmax, with_last_column
from tickets.factory.quantize import calibrate
from tickets.factory.tokens import pad
from tickets.files import write_whole

TOKENS = 16
BATCHES = (1, 8, 16)
COMPANY = (7, 31)
ROUNDS, RUNS = 15, 20
PROFILED_RUNS = 300
CALIBRATION_TEXTS = 1024
FILE = click.Path(dir_okay=False, path_type=Path)

Session = Any  # onnxruntime has no types
Ids = Sequence[NDArray[np.int64]]


@click.command(
    epilog="Example: python -m bench.int8_forms --data clinc150_full.json "
    "--model banking=.runs/tier-3x3x384-f82f6dcfb2c899ca"
)
@click.option("--data", type=FILE, required=True, help="CLINC150's own JSON, the full version.")
@click.option("--model", "models", multiple=True, required=True, help="DOMAIN=FOLDER of a distilled stage; repeatable.")
@click.option("--texts", type=int, default=1000, show_default=True, help="Test texts for the neighbours' influence.")
@click.option("--out", type=FILE, default=Path("bench/results/int8-forms.json"), show_default=True)
def main(data: Path, models: tuple[str, ...], texts: int, out: Path) -> None:
    """Measure all int8 forms of the models, print the tables, keep the raw numbers."""
    logging.getLogger().setLevel(logging.ERROR)  # onnxruntime's quantization tools advise through the root logger
    console, rows = Console(), load_rows(data)
    results: dict[str, Any] = {
        "machine": machine(), "commit": commit(), "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "onnxruntime": onnxruntime.__version__, "time": "CPU time of one thread, medians of runs, in microseconds",
        "command": " ".join([
            f"python -m bench.int8_forms --data {data.name}", *(f"--model {m}" for m in models), f"--texts {texts}"
        ]),
        "models": {},
    }  # fmt: skip
    for spec in models:
        domain, _, folder = spec.partition("=")
        if not (Path(folder) / "model.safetensors").is_file():
            raise click.BadParameter(f"{spec!r}: write DOMAIN=FOLDER, a folder with model.safetensors in it")
        console.rule(Path(folder).name)
        result = measure_model(Path(folder), build(rows, domain, 0), texts, console)
        results["models"][Path(folder).name] = {"domain": domain, **result}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, (json.dumps(results, indent=1) + "\n").encode())  # after each: they take minutes
    console.print(f"raw numbers: {out}")


def measure_model(folder: Path, data: DomainData, texts: int, console: Console) -> dict[str, Any]:
    """All measurements of one model."""
    model, vocabulary = load_model(folder)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    calibration = vocabulary.encode([data.train.texts[i] for i in data.train.half_inside(CALIBRATION_TEXTS, 0)])
    ranges = calibrate(model, calibration, 0)
    fp32 = named(build_fp32(model.shape, weights))
    graphs = {
        "fp32": fp32, "ours": build_int8(model.shape, weights, ranges, host_isa()),
        "ours, tokens first": tokens_first(model.shape, weights, ranges, host_isa()), "dynamic": dynamic(fp32),
        "QDQ": static_qdq(fp32, calibration),
    }  # fmt: skip
    test = vocabulary.encode(data.test.texts)
    chosen = np.random.default_rng(0).permutation(len(test))[:texts]
    result = {
        "shape": {"heads": list(model.shape.heads), "neurons": list(model.shape.neurons)},
        "speed": {f"{batch}x{TOKENS}": timed(graphs, batch, model.shape.vocabulary) for batch in BATCHES},
        "company": {name: company(graphs[name], [test[i] for i in chosen]) for name in graphs},
        "operators": {
            name: shares(graphs[name], 8, model.shape.vocabulary) for name in ("ours", "ours, tokens first")
        },
        "quality": {
            form: {
                split: quality(graphs[form], vocabulary.encode(examples.texts), examples, len(data.labels))
                for split, examples in (("validation", data.validation), ("test", data.test))
            }
            for form in graphs
        },
        "bytes": {name: len(graph) for name, graph in graphs.items()},
    }  # fmt: skip
    _show(console, result)
    return result


def sessions(graphs: Mapping[str, bytes]) -> dict[str, Session]:
    """Every form as served (all optimizations but SkipLayerNormFusion); ours and fp32 in other settings too."""
    levels = onnxruntime.GraphOptimizationLevel
    out = {name: opened(graph) for name, graph in graphs.items()}
    for name in ("fp32", "dynamic", "ours"):
        out[f"{name}, SkipLayerNormFusion"] = opened(graphs[name], without=())
    for name in ("ours", "ours, tokens first"):
        for setting, level in (
            ("no optimization", levels.ORT_DISABLE_ALL), ("basic", levels.ORT_ENABLE_BASIC),
            ("extended", levels.ORT_ENABLE_EXTENDED),
        ):  # fmt: skip
            out[f"{name}, {setting}"] = opened(graphs[name], level=level)
    return out


def opened(
    graph: bytes, *, without: Sequence[str] = ("SkipLayerNormFusion",), level: Session = None, profile: str = ""
) -> Session:  # fmt: skip
    """A session on one thread. ``level``: the graph optimization level, default all."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    if level is not None:
        options.graph_optimization_level = level
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
    )


def timed(graphs: Mapping[str, bytes], batch: int, vocabulary: int) -> dict[str, Any]:
    """Microseconds of a batch by form, and how many times as fast as fp32: median, lowest, highest round."""
    ids = np.random.default_rng(0).integers(4, vocabulary, (batch, TOKENS)).astype(np.int32)
    running = sessions(graphs)
    took: dict[str, list[float]] = defaultdict(list)
    for session in running.values():
        _median_us(session, ids)
    for _ in track(range(ROUNDS), f"{batch} x {TOKENS} tokens", transient=True):
        for name, session in running.items():
            took[name].append(_median_us(session, ids))
    return {
        name: {
            "microseconds": [round(value, 1) for value in values],
            "times_fp32": _spread(np.asarray(took["fp32"]) / np.asarray(values)),
            "times_ours": _spread(np.asarray(took["ours"]) / np.asarray(values)),
        }
        for name, values in took.items()
    }


def _median_us(session: Session, ids: NDArray[np.int32]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.thread_time_ns()
        session.run(None, {"input_ids": ids})
        times.append(time.thread_time_ns() - start)
    return float(np.median(times)) / 1000


def _spread(ratios: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in (np.median(ratios), ratios.min(), ratios.max())]


def company(graph: bytes, ids: Ids) -> dict[str, Any]:
    """How far answers move from those alone: beside 7 or 31 others, and padded by 16 more columns."""
    session = opened(graph)
    alone = np.concatenate([_probabilities(session, [one]) for one in ids])
    out: dict[str, Any] = {"texts": len(ids)}
    for name, answers in [
        *((f"with {n} others", _concatenated(session, ids, n + 1, 0)) for n in COMPANY),
        ("padded", _concatenated(session, ids, 1, TOKENS)),
    ]:
        out[name] = {
            "largest_change": float(np.abs(answers - alone).max()),
            "labels_changed": int((answers.argmax(axis=1) != alone.argmax(axis=1)).sum()),
        }
    return out


def _concatenated(session: Session, ids: Ids, batch: int, columns: int) -> NDArray[np.float32]:
    parts = [_probabilities(session, ids[i : i + batch], columns) for i in range(0, len(ids), batch)]
    return np.concatenate(parts)


def _probabilities(session: Session, ids: Ids, columns: int = 0) -> NDArray[np.float32]:
    batch = np.pad(pad(ids), ((0, 0), (0, columns)))[:, :64].astype(np.int32)
    (logits,) = session.run(None, {"input_ids": batch})
    return softmax(logits)


def shares(graph: bytes, batch: int, vocabulary: int) -> dict[str, Any]:
    """Time by operator, from ONNX Runtime's profiler: the sum over nodes of each node's median."""
    ids = np.random.default_rng(0).integers(4, vocabulary, (batch, TOKENS)).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        session = opened(graph, profile=str(Path(folder, "profile")))
        for _ in range(PROFILED_RUNS):
            session.run(None, {"input_ids": ids})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    took, kind = defaultdict(list), {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("kernel_time"):
            index = event["args"]["node_index"]
            took[index].append(event["dur"])
            kind[index] = event["args"]["op_name"]
    spent: defaultdict[str, float] = defaultdict(float)
    for index, durations in took.items():
        spent[kind[index]] += float(np.median(durations))
    nodes, total = Counter(kind.values()), sum(spent.values())
    return {
        name: {"nodes": nodes[name], "microseconds": round(value, 1), "share": round(value / total, 4)}
        for name, value in sorted(spent.items(), key=lambda item: -item[1])
    }


def quality(graph: bytes, ids: Ids, examples: Examples, labels: int) -> dict[str, float]:
    """In-scope accuracy and AUROC of in scope against the rest, in batches of 32 as they come."""
    session, kinds = opened(graph), np.asarray(examples.kinds)
    parts = [session.run(None, {"input_ids": batch})[0] for batch in _in_batches(ids, 32)]
    logits = with_last_column(np.concatenate(parts), labels)
    scores, inside = in_scope_scores(logits, fit(logits, examples.targets, kinds)), kinds == "in"
    return {
        "accuracy": round(float(correct(logits, examples.targets, kinds).mean()), 5),
        "auroc": round(auroc(scores[inside], scores[~inside]), 5),
    }


def _in_batches(ids: Ids, batch: int) -> Iterator[NDArray[np.int32]]:
    for start in range(0, len(ids), batch):
        yield pad(ids[start : start + batch]).astype(np.int32)


def _show(console: Console, result: Mapping[str, Any]) -> None:
    speed = Table("form", *(f"{batch} x {TOKENS} tokens: us, times fp32 [range]" for batch in BATCHES))
    for name in result["speed"][f"1x{TOKENS}"]:
        entries = [result["speed"][f"{batch}x{TOKENS}"][name] for batch in BATCHES]
        speed.add_row(name, *(_cell(entry) for entry in entries))
    company_table = Table("form", *(f"with {n} others: change, labels" for n in COMPANY), "padded", "accuracy, AUROC")
    for name, entry in result["company"].items():
        moved = [entry[k] for k in (*(f"with {n} others" for n in COMPANY), "padded")]
        test = result["quality"][name]["test"]
        cells = [f"{m['largest_change']:.1e}, {m['labels_changed']}" for m in moved]
        company_table.add_row(name, *cells, f"{100 * test['accuracy']:.2f} %, {test['auroc']:.4f}")
    operators = Table("operator", "nodes", "us", "share", title="ours, 8 texts")
    for name, entry in result["operators"]["ours"].items():
        operators.add_row(name, str(entry["nodes"]), f"{entry['microseconds']:.0f}", f"{100 * entry['share']:.1f} %")
    for table in (speed, company_table, operators):
        console.print(table)


def _cell(entry: Mapping[str, Any]) -> str:
    median, low, high = entry["times_fp32"]
    return f"{np.median(entry['microseconds']):,.0f}, {median:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
