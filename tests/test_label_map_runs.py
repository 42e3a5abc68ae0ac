"""The label-map tokenizer's own runs: on several processes, measured on files, and in the published format."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from converted import rows_of
from PIL import Image
from test_converters_cihp import save_tree
from test_models_label_map_training import TINY, _person, rows  # noqa: F401

from refhcm import cli
from refhcm.data.dataset import ReferringDataset
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.errors import RefHCMError
from refhcm.inference import label_map_evaluation
from refhcm.inference.label_map_evaluation import survival
from refhcm.inference.pixels import round_trips
from refhcm.metrics.parsing import ParsingMeter
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_data import classes_only
from refhcm.models.label_map_files import load_label_map, save_label_map
from refhcm.models.label_map_paste import crop_part_map
from refhcm.models.processes import Processes, find_device, join

# -- several processes ---------------------------------------------------------------------------------------
RANK = """
import sys
import numpy, torch
from test_models_label_map_training import TINY, _person
from refhcm.models.label_map_data import draw_many
from refhcm.models.label_map_training import Recipe, round_trip, train
from refhcm.models.processes import join, leave

torch.set_num_threads(1)
processes = join("cpu")
people = [_person(seed) for seed in range(12)]
trained = train(people, TINY, Recipe(steps=50, batch=4, occlude=0.0), processes)
crops = draw_many(people, numpy.random.default_rng(0), (32, 24), 0.0, 12)
scores = round_trip(trained, crops)
torch.save({"model": trained.state_dict(), "miou": scores["miou"], "codes": scores["codes"]},
           f"{sys.argv[1]}/{processes.rank}.pt")
leave()
"""


@pytest.mark.slow
def test_two_processes_train_the_same_tokenizer_and_it_learns(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(tmp_path / "rank.py"), str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, tensor in first["model"].items():
        torch.testing.assert_close(second["model"][name], tensor, rtol=0, atol=0, msg=name)
    losses = [float(line.split()[3]) for line in done.stdout.splitlines() if line.startswith("step")]
    assert len(losses) > 10 and losses[-1] < 0.7 * losses[0]  # told once, by the first process
    assert first["miou"] == second["miou"] > 0.4 and first["codes"] > 2


def test_a_process_alone_needs_nobody(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    alone, numbers, layer = join("cpu"), torch.arange(6).view(3, 2), torch.nn.Linear(2, 2)
    assert alone == Processes() and alone.leads
    assert alone.gather(numbers) is numbers and alone.share(layer) is layer
    alone.follow(numbers)
    assert torch.equal(numbers, torch.arange(6).view(3, 2))
    with pytest.raises(RefHCMError, match="'gpu7' is no device"):
        find_device("gpu7")
    if not torch.cuda.is_available():
        with pytest.raises(RefHCMError, match="no CUDA device here"):
            find_device("cuda")


# -- what survives the codes ---------------------------------------------------------------------------------
@pytest.fixture
def tokenizer():
    torch.manual_seed(2)
    return LabelMapTokenizer(TINY).eval()


def test_survival_is_the_ceiling_that_evaluation_tells(rows, tokenizer):  # noqa: F811
    found = survival(rows, "rpar", tokenizer, progress=False)
    data, meter = ReferringDataset(rows, "rpar", parts=True), ParsingMeter()
    for row in range(len(data)):
        annotation = data[row][1]
        meter.add(round_trips(tokenizer, [annotation.parts], [annotation.box])[0], annotation.parts)
    assert found.scores == meter.result() and found.people == 4
    assert set(found.iou) >= {"background", "hair", "face", "left-leg"}
    assert np.mean(list(found.iou.values())) == pytest.approx(found.scores["miou"])


def test_a_person_counts_once_whatever_is_asked(rows, tokenizer, tmp_path):  # noqa: F811
    box = (20, 10, 68, 106)
    with PersonWriter(tmp_path / "own.tsv") as file:
        for n, name in enumerate(("0.png", "0.png", "1.png", "2.png")):
            file.add(PersonRow(str(n), "0", "0.jpg", (Person(box, parts=name),), f"words {n}"))
        file.add(PersonRow("x", "0", "0.jpg", (Person(box),), "no part map"))
    found = survival(tmp_path / "own.tsv", "person", tokenizer, progress=False)
    assert found.people == 3
    assert survival(tmp_path / "own.tsv", "person", tokenizer, limit=2, progress=False).people == 2


def test_the_command_prints_every_class_and_writes_figures(rows, tokenizer, tmp_path, capsys):  # noqa: F811
    save_label_map(tmp_path / "tokenizer", tokenizer, torch.float32)
    figures = tmp_path / "figures.json"
    label_map_evaluation.main([
        str(rows), "--tokenizer", str(tmp_path / "tokenizer"), "--json", str(figures), "--threads", "1",
        "--device", "cpu",
    ])  # fmt: skip
    said, written = capsys.readouterr().out, json.loads(figures.read_text())
    assert f"miou            {written['scores']['miou']:.4f}" in said and "4 people" in said
    assert all(f"{name:<16}{value:.4f}" in said for name, value in written["iou"].items())


def test_the_command_ends_with_one_sentence(rows, tokenizer, tmp_path):  # noqa: F811
    save_label_map(tmp_path / "tokenizer", tokenizer)
    (tmp_path / "rec.tsv").write_text("1\t2\tx\t1,1,2,2\tp.jpg\n")
    with PersonWriter(tmp_path / "none.tsv") as file:
        file.add(PersonRow("0", "0", "0.jpg", (Person((1, 1, 9, 9)),), "words"))
    for arguments, said in (
        ([tmp_path / "rec.tsv"], "of the kind rec, which has no part maps"),
        ([tmp_path / "none.tsv"], "has no part maps"),
        ([tmp_path / "nowhere.tsv"], "nowhere.tsv"),
        ([rows, "--limit", "0"], "--limit must be"),
    ):
        command = [*map(str, arguments), "--tokenizer", str(tmp_path / "tokenizer")]
        with pytest.raises(SystemExit, match=f"label_map_evaluation: .*{said}"):
            label_map_evaluation.main(command)


# -- the published format ------------------------------------------------------------------------------------
def test_cihp_gets_codes_of_a_published_vqgan_as_it_is(tmp_path, capsys):
    """A Lightning checkpoint of random weights in the published layout, with entries that are to be ignored."""
    torch.manual_seed(1)
    shape = LabelMapConfig(
        channels=32, multipliers=(1, 1, 1, 1, 1), blocks=1, attention_levels=(3,), latent=8, embedding=8
    )
    ignored = {"loss.logvar": torch.zeros(()), "colorize": torch.ones(3, 20, 1, 1)}
    state = LabelMapTokenizer(shape).state_dict() | ignored
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "model.ckpt")
    tree, out = save_tree(tmp_path / "cihp"), tmp_path / "out"
    arguments = ["convert", "cihp", "--source", str(tree), "--out", str(out), "--quiet"]
    assert cli.main([*arguments, "--tokenizer", str(tmp_path / "model.ckpt")]) == 0
    tokenizer = load_label_map(tmp_path / "model.ckpt")
    assert tokenizer.config == shape
    written = rows_of(out / "train.tsv")
    assert len(written) == 4
    for row in written:
        crop = crop_part_map(
            classes_only(np.array(Image.open(out / row["parts"]))), [float(v) for v in row["box"].split(",")], (128, 96)
        )
        with torch.no_grad():
            codes = tokenizer.encode(torch.from_numpy(crop)[None])[0].tolist()
        assert row["codes"] == ",".join(map(str, codes)) and len(codes) == 48 and max(codes) < 32
    save_label_map(tmp_path / "folder", tokenizer, torch.float32)  # and as `convert-checkpoint --vqgan` writes it
    assert cli.main([*arguments[:5], str(tmp_path / "again"), "--quiet", "--tokenizer", str(tmp_path / "folder")]) == 0
    assert [row["codes"] for row in rows_of(tmp_path / "again" / "train.tsv")] == [row["codes"] for row in written]
