"""A run that is watched: its file, its answers, its pictures and its best checkpoint say what is true, and change
nothing.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

import refhcm
from refhcm.data.commands import LOCK
from refhcm.engine import progress
from refhcm.inference.evaluation import evaluate
from refhcm.metrics.records import read_records
from refhcm.models import export
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_files import save_label_map
from refhcm.tests.test_engine_training import data, train  # noqa: F401

METRIC = "rec/box_miou"
BEST = ("--best-checkpoint-metric", METRIC, "--maximize-best-checkpoint-metric")
OPTIONS = ("--log-interval", "1", "--store-ema", "--ema-decay", "0.5", "--save-interval-updates", "2")
TASKS = {"rec": "rec", "rkpt": "rkpt", "rpar_full_mask": "rpar", "rhrc": "rhrc"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A label-map tokenizer of eight codes, random."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("tokenizer")
    save_label_map(folder, LabelMapTokenizer(replace(LabelMapConfig.preset("compact"), codebook=8)))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, tokenizer) -> Path:  # noqa: F811
    """Six updates with everything switched on: validations after 2, 4 (an epoch's end) and 6."""
    pytest.importorskip("tensorboard")
    folder = tmp_path_factory.mktemp("runs") / "watched"
    options = ("--validate-answers", "8", "--label-map", str(tokenizer), "--pictures", "5", "--keep-pictures", "2",
               "--tensorboard-logdir", str(folder / "log"), "--keep-best-checkpoints", "9",
               "--keep-interval-updates", "1")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.progress_bar, "_tensorboard_writers", {})
        train(patch, data, folder, "--max-update", "6", *OPTIONS, *BEST, *options)
        progress.progress_bar._close_writers()
    return folder


def test_the_file_holds_every_interval_and_validation(run):
    records = read_records(run / "metrics.jsonl")
    assert [(record["kind"], record["update"]) for record in records] == [
        ("run", 0), ("train", 1), ("train", 2), ("valid", 2), ("train", 3), ("train", 4), ("valid", 4), ("epoch", 4),
        ("train", 5), ("train", 6), ("valid", 6), ("epoch", 6),
    ]  # fmt: skip
    for record in (record for record in records if record["kind"] == "train"):
        assert {"epoch", "wall", "loss", "lr", "gnorm", "memory_gb", "eta_seconds", "samples_per_second"} <= set(record)
    told = {name for record in records if record["kind"] == "valid" for name in record}
    assert {f"{task}/{kind}" for task in TASKS for kind in ("nll", "acc")} <= told


def test_answers_are_scored_as_evaluate_scores_the_exported_run(run, data, tokenizer, tmp_path):  # noqa: F811
    """With averaged weights, which an export takes."""
    paths = str(run / "checkpoint_last.pt"), str(tmp_path)
    export.main([*paths, "--vocabulary", str(data / "vocabulary"), "--label-map", str(tokenizer), "--dtype", "float32"])
    model, last = refhcm.load(tmp_path), read_records(run / "metrics.jsonl", "valid")[-1]
    for task, kind in TASKS.items():
        scores = evaluate(model, data / "valid" / f"{kind}.tsv", kind, task, progress=False).scores
        named = {f"{task}/{name.replace('/', '_')}": value for name, value in scores.items()}
        told = {name: value for name, value in last.items() if name in named}
        assert len(told) >= 1 and last[f"{task}/answers"] == 8
        assert told == pytest.approx({name: named[name] for name in told}, abs=1e-4)
    assert {"rec/box_acc@0.5", "rkpt/keypoints_oks", "rpar_full_mask/parsing_miou", "rhrc/caption_cider_d"} <= set(last)


def test_watching_changes_nothing(run, data, monkeypatch, tmp_path):  # noqa: F811
    """Not the weights, and where nothing is asked for, nothing is written but the run's lock."""
    plain = train(monkeypatch, data, tmp_path, "--max-update", "6", *OPTIONS, "--no-metrics-file")
    watched = torch.load(run / "checkpoint_last.pt", weights_only=True)
    for name, tensor in plain["model"].items():
        assert torch.equal(tensor, watched["model"][name]), name
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".pt"] == [LOCK]


def test_tensorboard_shows_the_same(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for folder, kind in (("train_inner", "train"), ("valid", "valid")):
        events = EventAccumulator(str(run / "log" / folder))
        events.Reload()
        scalars = set(events.Tags()["scalars"])
        for name in ("loss", "rec/nll", *(("lr",) if kind == "train" else ("rec/box_acc@0.5", "rkpt/keypoints_oks"))):
            tag = name.replace("@", "_at_")
            assert tag in scalars
            records = read_records(run / "metrics.jsonl", kind)
            told = {record["update"]: record[name] for record in records if name in record}
            assert {event.step: event.value for event in events.Scalars(tag)} == pytest.approx(told, rel=1e-5)
        if kind == "valid":
            assert len(events.Tags()["images"]) == 5


def test_pages_show_the_same_questions(run):
    folder = run / "pictures"
    names = ["00000004-valid.html", "00000006-valid.html"]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "index.html"]
    pages = [(folder / name).read_text() for name in names]
    asked = [re.findall(r'<p class="asked">(.*?)</p>', content) for content in pages]
    assert len(asked[0]) == 5 and asked[0] == asked[1]
    assert all(any(task in question for question in asked[0]) for task in TASKS)


def test_the_best_checkpoint_is_that_of_the_metric(run):
    told = {record["update"]: record[METRIC] for record in read_records(run / "metrics.jsonl", "valid")}
    assert len(set(told.values())) > 1, "every validation scores alike: this run tests nothing"
    best = updates_of(run / "checkpoint_best.pt")
    assert told[best] == max(told.values())
    kept = {updates_of(path): path.name for path in run.glob("checkpoint.best_*")}
    assert best in kept and all(name.startswith("checkpoint.best_rec-box_miou_0.") for name in kept.values())
    assert [path.name for path in run.glob("checkpoint_*_*.pt")] == ["checkpoint_2_6.pt"]


def updates_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["optimizer_history"][-1]["num_updates"]


def test_a_run_that_goes_back_leaves_no_trace_of_what_it_undid(run, data, monkeypatch, tmp_path):  # noqa: F811
    """Nor of the best value of the metric that it was chosen by before."""
    save = tmp_path / "again"
    shutil.copytree(run, save)
    first = min(save.glob("checkpoint.best_*"), key=updates_of)
    assert updates_of(first) == 2
    train(monkeypatch, data, save, "--max-update", "3", *OPTIONS, "--restore-file", str(first))
    records = read_records(save / "metrics.jsonl")
    assert [(record["kind"], record["update"]) for record in records] == [
        ("run", 0), ("train", 1), ("train", 2), ("valid", 2), ("run", 2), ("train", 3), ("valid", 3), ("epoch", 3),
    ]  # fmt: skip
    assert [path.name for path in (save / "pictures").iterdir()] == ["index.html"]
    last = torch.load(save / "checkpoint_last.pt", weights_only=True)
    assert last["extra_state"]["best"] == last["extra_state"]["val_loss"] == pytest.approx(records[-2]["loss"])
    assert updates_of(save / "checkpoint_best.pt") == 3


@pytest.mark.parametrize(
    ("source", "metric", "options", "said"),
    [
        ("mix.json", "rec/box_acc@0.6", ("--validate-answers", "2"), "no validation tells it.*rec/box_acc@0.5,"),
        ("mix.json", "rec/box_acc@0.5", (), "rec/nll.*need --validate-answers"),
        ("train/rec.tsv,valid/rec.tsv", "acc_code", (), "no validation tells it.*acc_box"),
    ],
)
def test_a_wrong_metric_is_refused(monkeypatch, data, tmp_path, source, metric, options, said):  # noqa: F811
    """Before training, but for what only a validation can show."""
    task = "multitask" if source == "mix.json" else "rec"
    options = ("--max-update", "1", "--log-interval", "1", "--best-checkpoint-metric", metric, *options)
    with pytest.raises(SystemExit, match=said):
        train(monkeypatch, data, tmp_path, *options, source=source, task=task)
    assert (tmp_path / "metrics.jsonl").exists() == (metric == "acc_code")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--validate-answers", "-1"), "--validate-answers is -1: it must be 0 or more"),
        (("--keep-pictures", "0"), "--keep-pictures is 0"),
        (("--validate-answers", "1", "--label-map", "nowhere"), "nowhere"),
        (("--tensorboard-logdir", "log"), r"tensorboard is not installed.*'\.\[watch\]'"),
    ],
)
def test_wrong_options_are_one_sentence(monkeypatch, data, tmp_path, options, said):  # noqa: F811
    monkeypatch.setattr(progress.progress_bar, "SummaryWriter", None)
    with pytest.raises(SystemExit, match=said):
        train(monkeypatch, data, tmp_path, "--max-update", "1", *options)


def test_a_tokenizer_of_other_codes_is_refused(monkeypatch, data, tmp_path):  # noqa: F811
    tokenizer = LabelMapTokenizer(replace(LabelMapConfig.preset("compact"), codebook=4))
    save_label_map(tmp_path / "few", tokenizer)
    options = ("--max-update", "1", "--validate-answers", "1", "--label-map", str(tmp_path / "few"))
    with pytest.raises(SystemExit, match="a tokenizer of 4 codes"):
        train(monkeypatch, data, tmp_path, *options)


def test_weights_in_bfloat16_answer_too(monkeypatch, data, tmp_path):  # noqa: F811
    options = ("--max-update", "1", "--bf16", "--validate-answers", "2", "--pictures", "0")
    train(monkeypatch, data, tmp_path, *options, task="rec", source="train/rec.tsv,valid/rec.tsv")
    (told,) = read_records(tmp_path / "metrics.jsonl", "valid")
    assert told["rec/answers"] == 2 and 0 <= told["rec/box_miou"] <= 1
