"""Checkpoints are scored as the folders that are exported of them, the best is named, and broken ones stop nobody."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from refhcm.data.vocabulary_file import describe_vocabulary
from refhcm.errors import RefHCMError
from refhcm.inference.comparison import Comparison, Entry, choose_best, choose_figure, find_checkpoints
from refhcm.inference.load import load, load_run
from refhcm.inference.report import table, told
from refhcm.inference.scoring import Evaluation, score_saved
from refhcm.inference.survey import fingerprint
from refhcm.models.export import export
from refhcm.models.label_map_files import save_label_map


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory, tiny_text_model, tiny_label_map):
    """Folder of both tokenizers, as a run names it."""
    folder = tmp_path_factory.mktemp("tokenizers")
    shutil.copy(tiny_text_model, folder / tiny_text_model.name)
    save_label_map(folder, tiny_label_map, torch.float32)
    return folder


@pytest.fixture
def runs(tmp_path, tiny_model, tiny_vocabulary):
    """Two runs: one with three checkpoints, of which two are the same, one with a damaged one and one that diverged."""
    state = tiny_model.state_dict()
    described = {"model": tiny_model.config.to_dict(), "vocabulary": describe_vocabulary(tiny_vocabulary)}

    def save(name, updates, change=0.0):
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        changed = {**state, "decoder.layer_norm.bias": state["decoder.layer_norm.bias"] + change}
        content = {"model": changed, "optimizer_history": [{"num_updates": updates}]}
        torch.save({**content, "task_state": {"refhcm": described}}, path)

    save("a/checkpoint9.pt", 90)
    save("a/checkpoint10.pt", 100, 0.5)
    save("a/checkpoint_last.pt", 100, 0.5)
    save("b/checkpoint1.pt", 10, float("nan"))
    (tmp_path / "runs" / "b" / "checkpoint2.pt").write_bytes(
        (tmp_path / "runs" / "a" / "checkpoint9.pt").read_bytes()[:5000]
    )
    return tmp_path / "runs"


@pytest.fixture
def data(tmp_path):
    """Three questions about two pictures, in the layout `rec`."""
    random = np.random.default_rng(3)
    for name in ("p.png", "q.png"):
        Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / name)
    rows = [("1", "p", "the man", "p.png"), ("2", "p", "the woman", "p.png"), ("3", "q", "a tall man", "q.png")]
    path = tmp_path / "rec.tsv"
    path.write_text("".join(f"{i}\t{key}\t{text}\t1,1,39,29\t{file}\n" for i, key, text, file in rows))
    return path


def test_several_checkpoints_are_compared_and_the_best_is_named(command, runs, tokenizers, data, tmp_path, capsys):
    options = ["--checkpoint", f"{runs}/*/checkpoint*.pt", "--vocabulary", str(tokenizers), "--data", str(data)]
    options += ["--best-by", "miou", "--device", "cpu"]
    options += ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "all.json")]
    assert command.main(options) == 1  # because of the broken ones
    out = capsys.readouterr().out
    assert "b/checkpoint2 could not be scored" in out and "damaged" in out
    assert "b/checkpoint1 could not be scored" in out and "finite" in out
    assert "a/checkpoint_last has the weights of a/checkpoint10" in out
    found = json.loads((tmp_path / "all.json").read_text())
    assert found == json.loads((tmp_path / "out" / "figures.json").read_text())
    names = [entry["name"] for entry in found["checkpoints"]]
    assert names == ["a/checkpoint9", "a/checkpoint10", "a/checkpoint_last", "b/checkpoint1", "b/checkpoint2"]
    assert [entry["updates"] for entry in found["checkpoints"]] == [90, 100, 100, 10, None]
    scores = {entry["name"]: entry["results"][0]["scores"]["box/miou"] for entry in found["checkpoints"][:3]}
    assert len(set(scores.values())) == 2
    best = max(scores, key=scores.get)
    assert (found["best"], found["best_by"]) == (best, "rec/box/miou")
    assert f"* best by rec/box/miou: {runs}/{best}.pt" in out
    assert sum(line.startswith(f"{best} * ") for line in out.splitlines()) == 1

    assert command.main(["--score", str(tmp_path / "out"), "--json", str(tmp_path / "again.json")]) == 1
    assert capsys.readouterr().out.strip() == out[out.index("checkpoint ") :].strip()  # the table again, word for word
    assert json.loads((tmp_path / "again.json").read_text()) == found
    (saved,) = score_saved(tmp_path / "out" / best)
    assert saved.scores["box/miou"] == scores[best]


def _saved(folder, questions, ious):
    """Answers of a checkpoint to the first of its questions, as evaluation saves them; what the last is worth."""
    folder.mkdir(parents=True)
    settings, about = {"format": 1}, {"segments": ["box"], "questions": questions, "left_out": {}}
    (folder / "rec.settings.json").write_text(json.dumps({"task": "rec", "settings": settings, "about": about}))
    lines = [
        {"row": row, "id": f"{row}", "size": [40, 30], "text": "a man", "tokens": [5], "score": 0.5, "box_score": 0.5,
         "box": [0, 0, 20 * iou, 20], "truth": {"box": [0, 0, 20, 20]}} for row, iou in enumerate(ious)
    ]  # fmt: skip
    (folder / "rec.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_comparison_that_was_cut_off_names_the_best_of_those_that_answered_everything(command, tmp_path, capsys):
    """The one that was cut off has met the easy question only, the next has met none."""
    _saved(tmp_path / "out" / "checkpoint2", 2, [0.9, 0.3])
    _saved(tmp_path / "out" / "checkpoint10", 2, [0.9, 0.6])
    _saved(tmp_path / "out" / "checkpoint11", 2, [0.9])
    _saved(tmp_path / "out" / "checkpoint1", 2, [])
    assert command.main(["--score", str(tmp_path / "out"), "--best-by", "miou"]) == 1
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["checkpoint2", "checkpoint10"]
    assert lines[3:] == [
        "checkpoint1 could not be scored: 2 questions are not answered.",
        "checkpoint11 could not be scored: 1 questions are not answered.",
        f"* best by rec/box/miou: {tmp_path / 'out' / 'checkpoint10'}",
    ]


@pytest.mark.parametrize("content", [
    "[]", "{}", '{"checkpoints": [5]}', '{"checkpoints": [{"name": "a", "path": 5}]}', "[" * 100_000,
    '{"checkpoints": [{"name": "a", "path": "a", "updates": "many"}]}', '{"checkpoints": [], "best_by": 5}',
])  # fmt: skip
def test_figures_that_are_not_of_a_comparison_are_refused(command, tmp_path, capsys, content):
    _saved(tmp_path / "out" / "a", 1, [0.9])
    (tmp_path / "out" / "figures.json").write_text(content)
    assert command.main(["--score", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "figures.json" in err and err.count("\n") == 1


def test_a_checkpoint_whose_answers_are_gone_is_named(command, tmp_path, capsys):
    _saved(tmp_path / "out" / "a", 1, [0.9])
    told = [{"name": name, "path": f"runs/{name}.pt", "updates": 7} for name in ("a", "../b")]
    told.append({"name": "c", "path": "runs/c.pt", "updates": 9, "same_as": "a"})
    (tmp_path / "out" / "figures.json").write_text(json.dumps({"checkpoints": told, "best_by": "rkpt/keypoints/ap"}))
    assert command.main(["--score", str(tmp_path / "out")]) == 1
    out = capsys.readouterr().out
    assert "../b could not be scored: its answers are no longer in" in out and "c has the weights of a" in out
    assert "* best by rec/box/acc@0.5: runs/a.pt" in out  # that other figure was not computed


def test_answers_that_nothing_explains_are_named(command, tmp_path, capsys):
    folder = tmp_path / "out"
    _saved(folder, 1, [0.9])
    (folder / "rkpt.jsonl").write_bytes((folder / "rec.jsonl").read_bytes())
    assert command.main(["--score", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"left out: rkpt. {folder}/rkpt.jsonl stands there without rkpt.settings.json" in out and "\nrec: 1 " in out
    assert command.main(["--score", str(folder), "--tasks", "rkpt"]) == 1
    assert "rkpt.jsonl stands there without rkpt.settings.json" in capsys.readouterr().err
    assert command.main(["--score", str(folder), "--best-by", "miou"]) == 1
    assert "holds the answers of one model" in capsys.readouterr().err
    (folder / "rec.settings.json").unlink()
    assert command.main(["--score", str(folder)]) == 1
    assert "rec.jsonl stands there without rec.settings.json" in capsys.readouterr().err


def test_a_checkpoint_answers_as_the_folder_exported_from_it(runs, tokenizers, tmp_path):
    export(runs / "a" / "checkpoint10.pt", tmp_path / "m", tokenizers, tokenizers, torch.float32)
    direct, updates = load_run(runs / "a" / "checkpoint10.pt", tokenizers, tokenizers, "cpu")
    assert updates == 100 and fingerprint(direct) == fingerprint(load(tmp_path / "m", "cpu"))
    other, _ = load_run(runs / "a" / "checkpoint9.pt", tokenizers, tokenizers, "cpu")
    without, _ = load_run(runs / "a" / "checkpoint10.pt", tokenizers, None, "cpu")
    half, _ = load_run(runs / "a" / "checkpoint10.pt", tokenizers, tokenizers, "cpu", "bfloat16")
    assert len({fingerprint(model) for model in (direct, other, without, half)}) == 4
    assert half.model.encoder.embed_images.bn1.running_var.dtype == torch.float32
    assert half.dtype == torch.bfloat16 and without.label_map is None


def test_a_fault_of_the_data_is_no_fault_of_a_checkpoint(command, runs, tokenizers, data, capsys):
    data.write_text(data.read_text().replace("q.png", "r.png"))
    options = ["--checkpoint", f"{runs}/a/*.pt", "--vocabulary", str(tokenizers), "--data", str(data)]
    assert command.main([*options, "--tasks", "rec"]) == 1
    captured = capsys.readouterr()
    assert "there is no file r.png" in captured.err and captured.out == ""


def test_checkpoints_need_their_tokenizer(command, runs, data, tokenizers, capsys):
    options = ["--checkpoint", f"{runs}/a/*.pt", "--data", str(data)]
    assert command.main(options) == 1
    assert "name the folder of its tokenizer by --vocabulary" in capsys.readouterr().err
    assert command.main([*options, "--vocabulary", str(tokenizers), "--label-map", "/nowhere"]) == 1
    assert "--label-map names that of a tokenizer" in capsys.readouterr().err


def test_patterns_and_paths_name_each_checkpoint_once(tmp_path):
    for name in ("c1.pt", "c10.pt", "c9.pt", "c[1].pt"):
        (tmp_path / name).touch()
    found = find_checkpoints([f"{tmp_path}/c*.pt", str(tmp_path / "c9.pt"), str(tmp_path)])
    assert [path.name for path in found] == ["c1.pt", "c9.pt", "c10.pt", "c[1].pt", tmp_path.name]
    assert [path.name for path in find_checkpoints([str(tmp_path / "c[1].pt")])] == ["c[1].pt"]
    with pytest.raises(RefHCMError, match="named by"):
        find_checkpoints([f"{tmp_path}/*.pth"])


def _entry(name, **scores):
    return Entry(name, f"runs/{name}", results=[Evaluation(task, scores=each) for task, each in scores.items()])


def test_the_best_is_chosen_by_a_figure_that_is_named_well_enough():
    one = _entry("one", rec={"box/acc@0.5": 0.5, "box/miou": 0.4}, rkpt={"box/miou": 0.2, "keypoints/oks": 0.1})
    two = _entry("two", rec={"box/acc@0.5": 0.4, "box/miou": 0.6}, rkpt={"box/miou": 0.1, "keypoints/oks": 0.1})
    for wanted, name, best in (
        (None, "rec/box/acc@0.5", "one"),
        ("rec/box/miou", "rec/box/miou", "two"),
        ("keypoints/oks", "rkpt/keypoints/oks", "one"),  # equal: the first
        ("rec/box_miou", "rec/box/miou", "two"),  # as training names it
    ):
        found = choose_best(Comparison([one, two]), wanted)
        assert (found.best_by, found.best) == (name, best)
    with pytest.raises(RefHCMError, match="could be rec/box/miou or rkpt/box/miou"):
        choose_figure(one, "miou")
    with pytest.raises(RefHCMError, match="no figure 'accuracy'"):
        choose_figure(one, "accuracy")
    broken = Entry("three", "runs/three", error="it is damaged")
    assert choose_best(Comparison([broken]), None).best is None
    text = choose_best(Comparison([broken, one, two]), None).text()
    assert "one *" in text and "three could not be scored: it is damaged" in text


@pytest.mark.parametrize("name", ["box/ap", "keypoints/published_oks@0.75", "uniphd/" + "mask_p_above" * 3])
def test_a_name_stands_apart_from_its_value(name):
    lines = told(Evaluation("rkpt", 1, scores={name: 0.25, "box/miou": 0.5})).splitlines()[2:]
    assert [line.split() for line in lines] == [[name, "0.2500"], ["box/miou", "0.5000"]]
    assert len({line.index("0.") for line in (each.replace("@0.", "@__") for each in lines)}) == 1


def test_tables_line_up():
    rows = [["a", "1.0"], ["bcd", "22.0"]]
    assert table(["name", "n"], rows) == "name     n\na      1.0\nbcd   22.0"
    assert table(["name", "n"], rows, True).splitlines()[:2] == ["| name |    n |", "|------|-----:|"]
