"""The raw file: what is written is what is read, and what is not a raw file is refused by line."""

from pathlib import Path

import pytest

from loadtest.record import RawFileError, read_raw, write_raw
from loadtest.schedule import Step
from tests.loadtest.test_report import a_record, a_run

RUN = a_run(Step(rate_per_s=5, duration_s=2, warmup_s=1))


def test_a_raw_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    records = [a_record(warmup=True), a_record(1.5, ticket="aa", queue_ms=0.5), a_record(sent_s=None, code="timeout")]
    write_raw(tmp_path / "raw.jsonl", RUN, records)
    assert read_raw(tmp_path / "raw.jsonl") == (RUN, records)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "empty"),
        (["{"], "line 1"),
        (["RECORD"], "line 1: the run stands on the first line"),
        (["RUN", "RUN"], "line 2"),
        (["RUN", "RECORD", '{"type": "record", "step": "x"}'], "line 3"),
        (["RUN", "FAR"], "line 2: step 7"),
    ],
)
def test_what_is_not_a_raw_file_is_refused_by_line(tmp_path: Path, lines: list[str], says: str) -> None:
    write_raw(tmp_path / "good", RUN, [a_record(), a_record(step=7)])
    run, record, far = (tmp_path / "good").read_text().splitlines()
    path = tmp_path / "raw.jsonl"
    path.write_text("".join({"RUN": run, "RECORD": record, "FAR": far}.get(line, line) + "\n" for line in lines))
    with pytest.raises(RawFileError, match=says):
        read_raw(path)
