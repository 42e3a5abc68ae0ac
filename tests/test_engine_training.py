"""A run through fairseq's own command line: it learns, resumes exactly, and says what is wrong in one sentence."""

import base64
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("hydra")
engine = pytest.importorskip("refhcm.engine")

import refhcm  # noqa: E402
from refhcm.data import faults  # noqa: E402
from refhcm.data.text import train_sentencepiece  # noqa: E402
from refhcm.data.tsv import BadRow  # noqa: E402
from refhcm.data.vocabulary_file import load_vocabulary  # noqa: E402
from refhcm.engine.mix import read_mix, single  # noqa: E402
from refhcm.errors import RefHCMError  # noqa: E402
from refhcm.models import config as model_config  # noqa: E402
from refhcm.models import export  # noqa: E402
from refhcm.models.checkpoint import load_folder  # noqa: E402
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer  # noqa: E402
from refhcm.models.label_map_files import save_label_map  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_heads": 2, "decoder_heads": 2,
    "encoder_layers": 1, "decoder_layers": 1, "trunk": "resnet18", "trunk_blocks": (1, 1, 1), "image_size": 32,
    "image_bucket_size": 2, "decoder_image_tables": False, "max_source_positions": 256, "max_target_positions": 256,
    "token_bucket_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Eight pictures with one person each, in all published layouts, with a mix and a vocabulary."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "vocabulary").mkdir()
    sentences = ["which region does the text describe", "the man in the red coat on the left", "provide the map"]
    train_sentencepiece(sentences * 8, folder / "vocabulary" / "text.model", 360)
    numbers = {"text": "sentencepiece", "num_codes": 92, "num_bins": 32, "label_codes": 8, "mark_start": 40}
    (folder / "vocabulary" / "vocabulary.json").write_text(json.dumps(numbers))
    random = np.random.default_rng(0)
    rows: dict[str, list[str]] = {"rec": [], "rkpt": [], "rpar": [], "rhrc": [], "person": []}
    for i in range(8):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode()
        x, y = random.integers(0, 15, 2)
        box, text = f"{x},{y},{x + 15},{y + 12}", f"man {i} in the red coat"
        points = ",".join(map(str, random.integers(1, 29, 34)))
        codes = ",".join(map(str, random.integers(0, 8, 48)))
        rows["rec"].append(f"{i}\t{i}\t{text}\t{box}\t{picture}\n")
        rows["rkpt"].append(f"{i}\t{i}\t{text}\t{box}\t{points}\t{picture}\n")
        rows["rpar"].append(f"{i}\t{text}\t{box}\t{codes}\tparts.png\t{picture}\n")
        rows["rhrc"].append(f"{i}\tthe man on the left\t{box}\t{picture}\n")
        joints = ",".join(f"{random.integers(1, 29)},{random.integers(1, 29)},2" for _ in range(17))
        rows["person"].append(f"{i}\t{i}\t{text}\t{box}\t{joints}\t{codes}\tparts.png\t{text}\t\t\t{picture}\n")
    for split in ("train", "valid"):
        (folder / split).mkdir()
        Image.fromarray(random.integers(0, 20, (30, 40), dtype=np.uint8)).save(folder / split / "parts.png")
        for kind, lines in rows.items():
            (folder / split / f"{kind}.tsv").write_text("".join(lines))
    tasks = {"rec": "rec", "rkpt": "rkpt", "rpar": "rpar_full_mask", "rhrc": "rhrc"}
    streams = [{"file": f"{{split}}/{kind}.tsv", "kind": kind, "tasks": [task]} for kind, task in tasks.items()]
    (folder / "mix.json").write_text(json.dumps({"streams": streams, "length": 16}))
    own = {"file": "{split}/person.tsv", "kind": "person", "tasks": ["s1", "rhrc"], "one_task": True, "grouped": 2}
    (folder / "own.json").write_text(json.dumps({"streams": [own], "length": 8}))
    return folder


def train(monkeypatch, data: Path, save: Path, *more: str, task: str = "multitask", source: str = "mix.json") -> dict:
    """Run train.py in this process on a very small network; the last checkpoint."""
    import refhcm.train

    monkeypatch.setitem(model_config.PRESETS, "compact", TINY)
    command = [
        "train.py", ",".join(str(data / part) for part in source.split(",")), "--task", task,
        "--vocabulary", str(data / "vocabulary"), "--arch", "refhcm_compact", "--criterion", "refhcm_loss",
        "--dropout", "0.1", "--optimizer", "adam", "--lr", "0.005", "--lr-scheduler", "polynomial_decay",
        "--total-num-update", "60", "--batch-size", "4", "--cpu", "--save-dir", str(save), "--log-format", "none",
        "--no-progress-bar", "--no-epoch-checkpoints", "--num-workers", "0", *more,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    refhcm.train.main()
    return torch.load(save / "checkpoint_last.pt", weights_only=True)


def loss_of(checkpoint: dict) -> float:
    return checkpoint["extra_state"]["val_loss"]


def test_training_learns_and_keeps_the_published_names(monkeypatch, data, tmp_path):
    options = ("--store-ema", "--bin-sigma", "1")
    first = train(monkeypatch, data, tmp_path / "run", "--max-epoch", "1", *options)
    last = train(monkeypatch, data, tmp_path / "run", "--max-epoch", "5", *options)
    assert loss_of(last) < 0.8 * loss_of(first)
    assert {name.split(".")[0] for name in last["model"]} == {"encoder", "decoder"}
    assert "encoder.layers.0.self_attn.q_proj.weight" in last["model"]
    assert last["task_state"]["refhcm"]["model"]["d_model"] == TINY["d_model"]
    assert last["extra_state"]["ema"].keys() == last["model"].keys()


def test_bfloat16_products_give_nearly_the_same_run(monkeypatch, data, tmp_path):
    """With all training aids on, which must not change what a checkpoint holds."""
    options = ("--max-epoch", "2", "--dropout", "0", "--grounding-weight", "1", "--detail-weight", "1",
               "--word-weight", "1")  # fmt: skip
    exact = train(monkeypatch, data, tmp_path / "exact", *options)
    rough = train(monkeypatch, data, tmp_path / "rough", *options, "--autocast", "bf16")
    assert loss_of(rough) == pytest.approx(loss_of(exact), rel=0.02)
    assert {name.split(".")[0] for name in rough["model"]} == {"encoder", "decoder"}
    assert all(tensor.dtype != torch.bfloat16 for tensor in rough["model"].values())
    assert any((rough["model"][name] != tensor).any() for name, tensor in exact["model"].items())


def test_a_run_becomes_a_model_folder(monkeypatch, data, tmp_path):
    checkpoint = train(monkeypatch, data, tmp_path, "--max-update", "3", "--store-ema", "--ema-decay", "0.5")
    path, folder = tmp_path / "checkpoint_last.pt", tmp_path / "model"
    export.main([str(path), str(folder), "--vocabulary", str(data / "vocabulary"), "--dtype", "float32"])
    model, config = load_folder(folder)
    assert load_vocabulary(config["vocabulary"], folder).size == model.config.vocab_size
    for name, tensor in checkpoint["extra_state"]["ema"].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(checkpoint["model"]["decoder.layers.0.fc1.weight"], model.decoder.layers[0].fc1.weight)

    again = train(  # and such a folder starts another run
        monkeypatch, data, tmp_path / "next", "--max-update", "1", "--lr", "0.0", "--init-from", str(folder)
    )
    name = "encoder.layers.0.fc1.weight"
    torch.testing.assert_close(again["model"][name], model.state_dict()[name], rtol=0, atol=0)


def test_every_switch_of_our_own_recipe_works_together(monkeypatch, data, tmp_path):
    """Our own rows, all aids, head starts, region prompts; then on larger pictures from the exported folder."""
    tokenizer = LabelMapTokenizer(replace(LabelMapConfig.preset("compact"), codebook=8))
    save_label_map(tmp_path / "tokenizer", tokenizer)
    aids = ("--part-maps", "--grounding-weight", "1", "--detail-weight", "1", "--word-weight", "1")
    options = (*aids, "--by-region", "0.5", "--start-places", "--start-codes", str(tmp_path / "tokenizer"),
               "--patch-image-size", "16", "--valid-subset", "valid")  # fmt: skip
    train(monkeypatch, data, tmp_path / "small", "--max-update", "2", *options, source="own.json")
    folder = tmp_path / "model"
    label_map = ["--label-map", str(tmp_path / "tokenizer")]
    checkpoint = str(tmp_path / "small" / "checkpoint_last.pt")
    export.main([checkpoint, str(folder), "--vocabulary", str(data / "vocabulary"), *label_map])
    assert refhcm.load(folder).abilities.region_prompts
    larger = ("--init-from", str(folder), "--resize-places", "--patch-image-size", "32")
    last = train(monkeypatch, data, tmp_path / "large", "--max-update", "2", *aids, *larger, source="own.json")
    assert np.isfinite(loss_of(last))


def test_an_aid_may_be_switched_on_when_a_run_goes_on(monkeypatch, data, tmp_path):
    first = train(monkeypatch, data, tmp_path, "--max-update", "1", "--grounding-weight", "1")
    more = ("--max-update", "2", "--grounding-weight", "1", "--detail-weight", "1", "--part-maps", "--lr", "0")
    with pytest.raises(SystemExit, match="add --reset-optimizer"):
        train(monkeypatch, data, tmp_path, *more)
    last = train(monkeypatch, data, tmp_path, *more, "--reset-optimizer", "--reset-lr-scheduler")
    assert {name.split(".")[0] for name in last["criterion"]} == {"grounding", "details"}
    for name, tensor in first["criterion"].items():
        assert torch.equal(last["criterion"][name], tensor)


def test_what_is_no_run_is_not_exported(data, tmp_path):
    torch.save({"model": {}}, tmp_path / "other.pt")
    (tmp_path / "short.pt").write_bytes((tmp_path / "other.pt").read_bytes()[:200])
    for name, said in (("other.pt", "not written by"), ("short.pt", "cut short")):
        with pytest.raises(RefHCMError, match=said):
            export.export(tmp_path / name, tmp_path / "out", data / "vocabulary")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        export.export(tmp_path / "none.pt", tmp_path / "out", data / "vocabulary")


def test_a_resumed_run_equals_an_uninterrupted_one(monkeypatch, data, tmp_path):
    """Also across an interruption inside an epoch, with augmentation, dropout, averaging and worker processes."""
    options = ("--store-ema", "--ema-decay", "0.9", "--flip", "0.5", "--zoom", "0.8", "--num-workers", "1")
    whole = train(monkeypatch, data, tmp_path / "whole", "--max-update", "6", *options)
    train(monkeypatch, data, tmp_path / "parts", "--max-update", "3", *options)
    parts = train(monkeypatch, data, tmp_path / "parts", "--max-update", "6", *options)
    for name, tensor in whole["model"].items():
        torch.testing.assert_close(tensor, parts["model"][name], rtol=0, atol=0, msg=name)
        torch.testing.assert_close(whole["extra_state"]["ema"][name], parts["extra_state"]["ema"][name])


@pytest.mark.parametrize(
    ("task", "source"),
    [("rec", "train/rec.tsv,valid/rec.tsv"), ("rpar", "train/rpar.tsv,valid/rpar.tsv"), ("rhrc", "mix.json")],
)
def test_single_tasks_train_on_published_files(monkeypatch, data, tmp_path, task, source):
    checkpoint = train(monkeypatch, data, tmp_path, "--max-update", "2", task=task, source=source)
    assert np.isfinite(loss_of(checkpoint))


def test_mixed_precision_trains(monkeypatch, data, tmp_path):
    checkpoint = train(monkeypatch, data, tmp_path, "--max-update", "2", "--autocast", "bf16")
    assert np.isfinite(loss_of(checkpoint))
    assert checkpoint["model"]["encoder.embed_tokens.weight"].dtype == torch.float32


def test_a_missing_tokenizer_is_one_sentence(data):
    command = [sys.executable, str(ROOT / "train.py"), str(data / "mix.json"), "--task", "multitask", "--cpu"]
    command += ["--arch", "refhcm_compact", "--criterion", "refhcm_loss", "--optimizer", "adam", "--batch-size", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("train.py: Say with --vocabulary")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--autocast", "fp8"), "--autocast is one of"),
        (("--label-smoothing", "2"), "label_smoothing must be"),
        (("--flip", "3"), "flip is a chance"),
        (("--init-from", "nowhere.pt"), "nowhere.pt"),
        (("--imagenet",), "efficientnet_lite0 only"),
    ],
)
def test_wrong_options_are_one_sentence(monkeypatch, data, tmp_path, options, said):
    with pytest.raises(SystemExit, match=said):
        train(monkeypatch, data, tmp_path, "--max-update", "1", *options)


def test_a_broken_checkpoint_is_not_resumed_and_says_so(monkeypatch, data, tmp_path, caplog):
    """Another one of the run stands in for it, if there is one."""
    train(monkeypatch, data, tmp_path, "--max-update", "1")
    last, best = tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint_best.pt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    again = train(monkeypatch, data, tmp_path, "--max-update", "2")
    assert again["optimizer_history"][-1]["num_updates"] == 2
    assert f"going on from {best}, the newest whole checkpoint, after 1 updates" in caplog.text
    for path in (last, best):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SystemExit, match="cut short"):
        train(monkeypatch, data, tmp_path, "--max-update", "3")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_too_many_bad_rows_stop_the_run_with_a_report(monkeypatch, data, tmp_path, workers):
    rows = (data / "train" / "rec.tsv").read_text().splitlines()
    (tmp_path / "bad.tsv").write_text("\n".join([rows[0].replace(",", ";"), *rows[1:]]) + "\n")
    source = f"{tmp_path / 'bad.tsv'},train/rec.tsv"
    options = ("--max-update", "4", "--num-workers", workers)
    with pytest.raises(SystemExit) as stopped:
        train(monkeypatch, data, tmp_path / "run", *options, task="rec", source=source)
    said = str(stopped.value)
    assert "1 of 8 rows" in said and "bad.tsv" in said and "line 1: the box" in said and "Traceback" not in said


def test_few_bad_rows_are_left_out_and_named(monkeypatch, data, tmp_path, caplog):
    """Even where nothing else is in a batch, and in the batch that fairseq keeps for idle moments."""
    monkeypatch.setattr(faults, "BAD_SHARE", 0.5)
    rows = (data / "train" / "rec.tsv").read_text().splitlines()
    bad = [row.replace(",", ";") for row in rows[:2]]
    (tmp_path / "bad.tsv").write_text("\n".join([*bad, *rows[2:]]) + "\n")
    source = f"{tmp_path / 'bad.tsv'},train/rec.tsv"
    runs = [
        train(monkeypatch, data, tmp_path / n, "--max-epoch", "2", "--batch-size", "1", "--num-workers", n, task="rec",
              source=source)
        for n in ("0", "1")
    ]  # fmt: skip
    named = [record.getMessage() for record in caplog.records if "set aside" in record.getMessage()]
    assert sum("line 1: the box" in message for message in named) == 2 == sum("line 2: " in m for m in named)
    for name, tensor in runs[0]["model"].items():
        torch.testing.assert_close(tensor, runs[1]["model"][name], rtol=0, atol=0, msg=name)


def test_photos_that_are_held_out_are_not_trained_on(monkeypatch, data, tmp_path):
    own = f"{data / 'train' / 'rec.tsv'},{data / 'valid' / 'person.tsv'}"
    with pytest.raises(SystemExit, match=r"rec\.tsv shares 8 pictures \(8 rows\) with the evaluation, .*COCO 0 in"):
        train(monkeypatch, data, tmp_path, "--max-update", "1", "--held-out", own)
    other = tmp_path / "other.tsv"
    other.write_text("1\t900\tx\t1,1,2,2\tpicture.jpg\n")
    only = "train/rec.tsv,valid/rec.tsv"
    train(monkeypatch, data, tmp_path, "--max-update", "1", "--held-out", str(other), task="rec", source=only)


def test_processes_tell_each_other_what_was_set_aside(monkeypatch):
    """Each alone is below the limit, together they are not."""
    from refhcm.engine import tasks

    task = tasks.ReferringTask.__new__(tasks.ReferringTask)
    task.faults, others = (faults.FaultTally({"a.tsv": 2000}) for _ in range(2))
    task.faults.add([BadRow("a.tsv", 1, "bad"), BadRow("a.tsv", 2, "bad")])
    others.add([BadRow("a.tsv", 2, "bad")])

    def gather(boxes, mine):
        boxes[:] = [mine, others.rows()]

    for name, value in (("is_initialized", lambda: True), ("get_world_size", lambda: 2), ("all_gather_object", gather)):
        monkeypatch.setattr(tasks.dist, name, value)
    task.begin_epoch(1, None)
    assert len(task.faults) == 2
    others.add([BadRow("a.tsv", 3, "bad")])
    with pytest.raises(RefHCMError, match=r"3 of 2,000 rows of a\.tsv"):
        task.begin_epoch(2, None)


def test_batches_need_a_size(monkeypatch, data, tmp_path):
    with pytest.raises(SystemExit, match="--batch-size"):
        train(monkeypatch, data, tmp_path, "--max-tokens", "100", "--max-update", "1", "--batch-size", "0")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "holds list where an object is expected"),
        ("[" * 60_000, "nested too deeply"),
        ('{"streams": []}', "no streams"),
        ('{"streams": [{"file": "a.tsv"}]}', "lacks 'tasks'"),
        ('{"streams": [{"file": "a.tsv", "tasks": ["draw"], "kind": "rec"}]}', "tasks must be some of"),
        ('{"streams": [{"file": "a.tsv", "tasks": ["rec"]}]}', "needs columns, or a kind"),
        ('{"streams": [{"file": "a.tsv", "tasks": ["rec"], "kind": "rec", "weight": 0}]}', "above 0"),
        ('{"streams": [{"file": 3, "tasks": ["rec"], "kind": "rec"}]}', "wrong type"),
        ('{"streams": [{"file": "a.tsv", "tasks": ["rec"], "kind": "rec", "run": "rm"}]}', "unknown entry 'run'"),
    ],
)
def test_a_wrong_mix_is_refused(tmp_path, content, said):
    path = tmp_path / "mix.json"
    path.write_text(content)
    with pytest.raises(RefHCMError, match=said):
        read_mix(path)


def test_epochs_go_through_the_training_files():
    files = [single("rec", "a.tsv,b.tsv,v.tsv", "train", epoch).streams[0].file for epoch in (1, 2, 3)]
    assert files == ["a.tsv", "b.tsv", "a.tsv"]
    assert single("rec", "a.tsv,b.tsv,v.tsv", "valid", 2).streams[0].file == "v.tsv"
    with pytest.raises(RefHCMError, match=r"must be a \.json file"):
        single("multitask", "a.tsv,v.tsv", "train", 1)
