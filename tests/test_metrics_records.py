"""The metrics file: what is read back is the course of the run as it counts, whatever happened in between."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refhcm.errors import RefHCMError
from refhcm.metrics.records import RecordFile, read_records

PROCESSES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=5)
"""For each process of a run: how many of the updates so far it goes back by, and how many it does then."""


@given(PROCESSES)
def test_what_a_restart_undid_is_not_read(tmp_path_factory, processes):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    update, course = 0, {}
    for number, (back, done) in enumerate(processes):
        update = max(0, update - back)
        course = {past: by for past, by in course.items() if past <= update}
        file = RecordFile(path)
        file.begin(update)
        for update in range(update + 1, update + done + 1):  # noqa: B020
            file.write("train", update, {"process": number})
            course[update] = number
    assert {record["update"]: record["process"] for record in read_records(path, "train")} == course
    assert [record["update"] for record in read_records(path, "train")] == sorted(course)
    assert all(record["update"] <= 2 for record in read_records(path, up_to=2))


def test_a_line_that_a_crash_cut_short_is_taken_away(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = RecordFile(path)
    file.begin(0)
    file.write("train", 1, {"loss": 2.0})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "train", "upd' + b"x" * 5000)
    assert [record["update"] for record in read_records(path)] == [0, 1]
    RecordFile(path).begin(1)
    assert path.read_bytes().startswith(whole + b'{"kind": "run"')
    path.write_bytes(b'{"kind"')
    RecordFile(path).begin(0)
    assert [record["kind"] for record in read_records(path)] == ["run"]


def test_seconds_go_on_where_the_last_process_ended(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file = RecordFile(tmp_path / "metrics.jsonl")
    file.begin(0)
    for update in (1, 2, 3):
        clock[0] += 10
        file.write("train", update, {})
    clock[0] = 7.0  # another process, which goes back to update 2
    file = RecordFile(tmp_path / "metrics.jsonl")
    file.begin(2)
    clock[0] += 5
    file.write("train", 3, {})
    assert [record["wall"] for record in read_records(tmp_path / "metrics.jsonl", "train")] == [10, 20, 25]


def test_figures_are_strict_json(tmp_path):
    file = RecordFile(tmp_path / "metrics.jsonl")
    file.write("train", 1, {"loss": float("nan"), "gnorm": float("inf"), "lr": 3.123456789e-05, "subset": "valid"})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse)["loss"] is None
    (record,) = read_records(tmp_path / "metrics.jsonl")
    assert (record["gnorm"], record["lr"], record["subset"]) == (None, 3.12346e-05, "valid")


def test_what_is_no_metrics_file_is_refused(tmp_path):
    with pytest.raises(RefHCMError, match="no metrics file"):
        read_records(tmp_path / "none.jsonl")
    for content, said in (("{]\n", "line 1 is not JSON"), ("3\n", "no kind and update"), ("{}\n", "line 1 has")):
        (tmp_path / "other.jsonl").write_text(content)
        with pytest.raises(RefHCMError, match=said):
            read_records(tmp_path / "other.jsonl")
