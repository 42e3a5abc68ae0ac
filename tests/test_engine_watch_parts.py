"""The parts of watching by themselves: figures by task, answers over several processes, time left, lines."""

import math
import multiprocessing
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from fairseq import metrics

from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.faults import FaultTally
from refhcm.engine import watch
from refhcm.engine.criterion import LossConfig, RefHCMLoss
from refhcm.engine.progress import Clock, duration, headlines, short
from refhcm.engine.validation import Answerer, choose_questions
from refhcm.engine.watch import Watch, WatchOptions
from refhcm.errors import RefHCMError
from refhcm.metrics.records import read_records
from refhcm.tasks import build
from refhcm.tests.test_engine_training import data  # noqa: F401

KINDS = {"rec": "rec", "rkpt": "rkpt", "rpar_full_mask": "rpar", "rhrc": "rhrc"}


# -- figures by task -------------------------------------------------------------------------------------------------
class Guesses(torch.nn.Module):
    """A network whose logits are given."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.given = logits

    def forward(self, rows, features_only):
        return self.given[rows], {}

    def logits(self, features):
        return features


def told_by(criterion: RefHCMLoss, outputs: list[dict]) -> dict[str, float]:
    with metrics.aggregate() as told:
        criterion.reduce_metrics(outputs)
    return dict(told.get_smoothed_values())


def test_figures_by_task_are_those_of_its_own_tokens(tiny_vocabulary):
    """Also where they are added up over batches and processes."""
    task = SimpleNamespace(vocabulary=tiny_vocabulary, network=SimpleNamespace(d_model=8))
    criterion = RefHCMLoss(vars(LossConfig()), task)
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 5, tiny_vocabulary.size, generator=random)
    target = torch.randint(4, tiny_vocabulary.size, (6, 5), generator=random)
    target[:, 1] = logits.argmax(-1)[:, 1]  # one token of each row is right
    target[::2, 4] = 1  # <pad>: nothing is wanted
    names = ["rec", "rhrc", "rec", "s1", "s1", "rec"]
    model = Guesses(logits)

    def outputs(rows: range) -> dict:
        sample = {"net_input": {"rows": list(rows)}, "target": target[list(rows)]}
        sample |= {"ntokens": 0, "nsentences": len(rows), "tasks": [names[row] for row in rows]}
        return criterion(model, sample)[2]

    whole = told_by(criterion, [outputs(range(6))])
    halves = told_by(criterion, [outputs(range(2)), outputs(range(2, 6))])
    assert halves == pytest.approx(whole, abs=2e-3)
    likely = torch.log_softmax(logits, -1).gather(-1, target[..., None]).squeeze(-1)
    for name in set(names):
        rows = torch.tensor([row for row, other in enumerate(names) if other == name])
        wanted = target[rows] != 1
        bits = -likely[rows][wanted].mean() / math.log(2)
        right = (logits[rows].argmax(-1) == target[rows])[wanted].float().mean()
        assert whole[f"{name}/nll"] == pytest.approx(float(bits), abs=1e-3)
        assert whole[f"{name}/acc"] == pytest.approx(float(right), abs=1e-4)
    assert {name for name in whole if "/" in name} == {f"{name}/{kind}" for name in names for kind in ("nll", "acc")}


# -- answers ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def answerer(data, tiny_model, tiny_vocabulary, tiny_label_map):  # noqa: F811
    """Makes answerers of the rows of all four published files."""

    def make(count: int = 8, label_map=tiny_label_map) -> Answerer:
        streams = [
            SampleDataset(ReferringDataset(data / "valid" / f"{kind}.tsv", kind), [build(task, tiny_vocabulary)], 64)
            for task, kind in KINDS.items()
        ]
        chosen = choose_questions(streams, count, label_map is not None)
        return Answerer(chosen, tiny_model.config, label_map, FaultTally({}))

    return make


def in_process(rank: int, store: Path, answerer: Answerer, model, found) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found.put((rank, [answerer.score(model, size) for size in (3, 8)]))
    dist.destroy_process_group()


def test_two_processes_score_as_one(answerer, tiny_model, tmp_path):
    """Three batches of each task, one process with one and the other with two; and one batch, so that one has none."""
    alone = [answerer().score(tiny_model, size) for size in (3, 8)]
    assert alone[0]["rec/answers"] == alone[0]["rhrc/answers"] == 8 and 0 < alone[0]["rec/box_miou"] < 1
    fork = multiprocessing.get_context("fork")
    found = fork.Queue()
    arguments = (tmp_path / "store", answerer(), tiny_model, found)
    processes = [fork.Process(target=in_process, args=(rank, *arguments)) for rank in (0, 1)]
    for process in processes:
        process.start()
    scores = dict(found.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    assert scores[0] == scores[1] == alone


def test_answers_are_left_when_the_run_is_to_end(answerer, tiny_model):
    asked = iter([False, False, True])
    assert answerer().score(tiny_model, 4, leave=lambda: next(asked, True)) is None
    assert answerer().score(tiny_model, 4, leave=lambda: False) is not None


def test_a_validation_that_precedes_all_training_is_written_down(tmp_path):
    """As when a run goes on that was cut off while it validated."""
    told = Watch(vars(WatchOptions()), None)
    told.opened(str(tmp_path))
    told.told("valid", "valid", 7, 1, {"loss": 1.5})
    records = read_records(tmp_path / "metrics.jsonl")
    assert [(record["kind"], record["update"]) for record in records] == [("run", 7), ("valid", 7)]
    assert told.begun


def test_weights_that_are_spread_over_processes_do_not_answer(monkeypatch):
    monkeypatch.setattr(watch, "_distributed", lambda: True)
    task = watch.WatchedTask.__new__(watch.WatchedTask)
    task.cfg = WatchOptions(validate_answers=1)
    with pytest.raises(RefHCMError, match="--fully-shard"):
        task.build_model(SimpleNamespace(fully_shard=True))


def test_part_maps_without_the_tokenizer_are_scored_by_their_codes(answerer, tiny_model):
    with_map, without = (answerer(4, *given).score(tiny_model) for given in ((), (None,)))
    assert with_map["rpar_full_mask/codes_acc"] == without["rpar_full_mask/codes_acc"]
    assert {name for name in with_map if name not in without} >= {"rpar_full_mask/parsing_miou"}
    assert not any("parsing" in name for name in without)


def test_the_names_of_all_figures_are_known_before_any_answer(answerer, tiny_model):
    made = answerer()
    told = set(made.score(tiny_model))
    assert told <= set(made.names())
    assert set(made.names("rec")) == {name for name in told if name.startswith("rec/")}


def test_rows_that_are_shown_stay_the_same(answerer, tiny_model):
    made = answerer(3)
    first, second = ([(entry.task, entry.question) for entry in made.show(tiny_model, 6)] for _ in range(2))
    assert first == second and len(first) == 6
    assert {task for task, _ in first} == set(KINDS)


def test_rows_are_spread_evenly_over_files(data, tiny_vocabulary):  # noqa: F811
    rec = build("rec", tiny_vocabulary)
    streams = [SampleDataset(ReferringDataset(data / "valid" / "rec.tsv", "rec"), [rec], 64) for _ in range(2)]
    (questions,) = choose_questions(streams, 5, parts=False)
    assert [rows for _, rows in questions.files] == [(0, 2, 5), (0, 4)]
    (questions,) = choose_questions(streams[:1], 100, parts=False)
    assert [rows for _, rows in questions.files] == [tuple(range(8))]


def test_a_task_that_cannot_be_scored_is_left_out_and_named(data, tiny_vocabulary, caplog):  # noqa: F811
    caplog.set_level("INFO")
    task = build("rpar", tiny_vocabulary)
    columns = {"id": 0, "text": 1, "box": 2, "codes": 3, "image": 5}  # no part maps
    streams = [SampleDataset(ReferringDataset(data / "valid" / "rpar.tsv", "", columns=columns), [task], 64)]
    assert choose_questions(streams, 4, parts=True) == []
    assert "task rpar is not scored" in caplog.text
    assert len(choose_questions(streams, 4, parts=False)) == 1


def test_people_without_words_are_asked_by_region_and_their_boxes_are_not_scored(
    data, tiny_model, tiny_vocabulary, tiny_label_map, tmp_path, caplog  # noqa: F811
):  # fmt: skip
    """As the rows of converted CIHP."""
    caplog.set_level("INFO")
    rows = [line.split("\t") for line in (data / "valid" / "rpar.tsv").read_text().splitlines()]
    (tmp_path / "rpar.tsv").write_text("".join("\t".join([row[0], "None", *row[2:]]) + "\n" for row in rows))
    task = build("rpar", tiny_vocabulary)
    rows = ReferringDataset(tmp_path / "rpar.tsv", "rpar", root=data / "valid")
    chosen = choose_questions([SampleDataset(rows, [task], 64)], 4, parts=True)
    assert "task rpar is asked by region" in caplog.text
    made = Answerer(chosen, tiny_model.config, tiny_label_map, FaultTally({}))
    told = made.score(tiny_model)
    assert told["rpar/answers"] == 4 and "rpar/parsing_miou" in told and not any("box" in name for name in told)
    assert set(told) <= set(made.names())
    assert choose_questions([SampleDataset(rows, [build("rec", tiny_vocabulary)], 64, targets=False)], 4, True) == []


# -- the line --------------------------------------------------------------------------------------------------------
def test_time_left_is_by_the_mean_pace_of_this_process(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock()
    clock.tick(100)  # resumed after 100 updates
    assert clock.seconds_left(100, 10) is None
    now[0] += 8
    clock.tick(103)
    assert clock.seconds_left(104, 6) == 12
    assert clock.seconds_left(104, math.inf) is None
    assert clock.seconds_left(104, -1) == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0m00s"), (59.6, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (93600, "1d02h")]
)
def test_durations_are_readable(seconds, said):
    assert duration(seconds) == said


def test_a_line_shows_little_and_the_most_telling():
    figures = {"loss": 2.25, "nll_loss": 1.5, "nll_text": 1.0, "rec/nll": 1.125, "rec/acc": 0.5, "rkpt/nll": 2.0,
               "lr": 3e-5, "gnorm": 0.25, "samples_per_second": 12.34, "memory_gb": 4.56, "eta_seconds": 3725,
               "ups": 3.0, "wpb": 9.0}  # fmt: skip
    assert short(figures, training=True) == {
        "loss": "2.250", "left": "1h02m", "rec": "1.12b 50%", "rkpt": "2.00b", "samples/s": "12.3", "lr": "3e-05",
        "memory": "4.6G",
    }  # fmt: skip
    answered = {"loss": 2.0, "rec/answers": 8, "rec/box_acc@0.5": 0.5, "rec/box_acc@0.9": 0.1, "best_loss": 1.5}
    assert short(answered, training=False) == {"loss": "2.000", "rec/box_acc@0.5": "0.500", "best_loss": "1.5"}
    assert headlines(answered) == ["rec/box_acc@0.5"]
