"""Scoring refuses what it cannot score before it begins, and looks at every picture that the limit has room for."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from refhcm.data.dataset import ReferringDataset
from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.data.scenes import held_out
from refhcm.errors import RefHCMError
from refhcm.inference import evaluate_job, evaluation
from refhcm.inference.choosing import check_model, check_tasks, choose_rows, fitting_tasks
from refhcm.inference.evaluation import evaluate
from refhcm.inference.scoring import score_saved
from refhcm.tasks import names


@pytest.fixture
def rows(tmp_path):
    """A file in the layout `rec` whose pictures have 9, 1, 9, 1, ... rows."""
    counts = [9, 1] * 4
    for name in [*range(len(counts)), "a"]:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{name}.png")
    lines = [f"{p}_{k}\t{p}\tthe man\t1,1,6,7\t{p}.png\n" for p, count in enumerate(counts) for k in range(count)]
    (tmp_path / "rec.tsv").write_text("".join(lines))
    return ReferringDataset(tmp_path / "rec.tsv", "rec")


@pytest.mark.parametrize("kind, fitting", [
    ("rec", ["rec", "grec"]),
    ("rkpt", ["rec", "rkpt", "grec"]),
    ("rpar", ["rec", "rpar_full_mask", "rpar", "grec"]),
    ("rhrc", ["rhrc"]),
    ("person", names()),
])  # fmt: skip
def test_a_layout_serves_the_tasks_that_it_knows_enough_for(kind, fitting):
    assert sorted(fitting_tasks(kind)) == sorted(fitting)
    check_tasks(kind, fitting)


def test_a_model_without_a_tokenizer_is_not_scored_on_part_maps(tiny_predictor, monkeypatch):
    check_model(tiny_predictor, ["rec", "s1"])
    monkeypatch.setattr(tiny_predictor, "label_map", None)
    check_model(tiny_predictor, ["rec", "rkpt"])
    with pytest.raises(RefHCMError, match="no mask tokenizer, so it cannot answer task res"):
        check_model(tiny_predictor, ["res"])
    with pytest.raises(RefHCMError, match="part maps of task s1"):
        check_model(tiny_predictor, ["rec", "s1"])


def test_a_task_by_words_is_not_asked_by_the_box_itself(tiny_predictor, rows):
    with pytest.raises(RefHCMError, match=r"rec needs text, .* kind rhrc .* ask for rhrc"):
        evaluate(tiny_predictor, rows.file.path, "rhrc", "rec")


@pytest.mark.parametrize("limit", [8, 12, 39])
def test_every_picture_is_looked_at_where_there_is_room(rows, limit):
    chosen, pictures = choose_rows(rows, limit)
    assert chosen == sorted(set(chosen)) and len(chosen) == limit
    assert pictures == 8 == len({rows.picture_key(row) for row in chosen})


def test_fewer_rows_than_pictures_are_spread_evenly(rows):
    assert choose_rows(rows, 4) == ([0, 10, 20, 30], 4)
    assert choose_rows(rows, None) == (list(range(40)), 8)
    with pytest.raises(RefHCMError, match="limit of -5"):
        choose_rows(rows, -5)


@pytest.mark.parametrize("arguments, sentence", [
    (["--kind", "rkpt", "--tasks", "rkpt", "s1"], "Task s1 needs parts"),
    (["--kind", "rhrc", "--tasks", "rec"], "Task rec needs text"),
    (["--tasks", "rec", "reck"], "Unknown task 'reck'"),
    (["--kind", "reck"], "Unknown kind"),
    (["--kind", "rkpt"], "kind person"),
    (["--protocol", "uniped"], "Unknown protocol 'uniped'"),
    (["--protocol", "presence", "--tasks", "roi"], "Task roi is not asked whether anybody fits"),
    (["--each", "hats"], "Nobody can be asked for 'hats': --each takes mask and keypoints"),
    (["--each", "mask", "--tasks", "rec"], "--each asks about everyone whom an answer names: ask for grec or people"),
    (["--kind", "rec", "--tasks", "people"], "Task people needs rows about everybody"),
    (["--limit", "-5"], "--limit must be at least 1, not -5"),
    (["--limit", "0"], "--limit must be"),
    (["--scenes", "0"], "--scenes must be"),
    (["--batch-size", "0"], "--batch-size must be"),
    (["--workers", "-1"], "--workers must be"),
    (["--json", "/nowhere/x"], "--json /nowhere/x"),
    (["--data", "/nowhere/x.tsv"], "no dataset file"),
    (["--model", "nope"], "no model at 'nope'"),
    (["--device", "toaster"], "no device 'toaster'"),
    (["--dtype", "int8"], "Unknown dtype 'int8'"),
    (["--checkpoint", "/nowhere/*.pt"], "No checkpoint is named by '/nowhere/*.pt'"),
    (["--best-by", "acc@0.5"], "belong to --checkpoint"),
    (["--score", "x", "--data", "y", "--limit", "5"], "leave --data and --limit out"),
    (["--score", "x", "--model", "y"], "leave --model out"),
    (["--score", "x", "--check", "--published-reading"], "leave --published-reading and --check out"),
    (["--score", "x", "--attention", "2"], "leave --attention out"),
    (["--recipe", "9"], "no recipe 9; choose one of 1, 2"),
    (["--attention", "2"], "name the folder for them with --out"),
    (["--attention", "0", "--out", "x"], "attention"),
    (["--score", "/nowhere"], "no saved answers in /nowhere"),
    (["--out", __file__], "is a file: name a folder"),
])  # fmt: skip
def test_the_command_refuses_before_it_makes_or_loads_anything(command, monkeypatch, capsys, arguments, sentence):
    for name in ("load", "compare", "held_out"):
        monkeypatch.setattr(evaluate_job, name, lambda *_, **__: pytest.fail("began"))
    assert command.main(arguments) == 1
    out, err = capsys.readouterr()
    assert err.startswith("evaluate: ") and sentence in err and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("keep", [None, 0.0, 0.5])
def test_a_damaged_model_is_found_before_scenes_are_made(
    command, monkeypatch, capsys, tmp_path, tiny_folder, name, keep
):
    monkeypatch.setattr(evaluate_job, "held_out", lambda *_: pytest.fail("began"))
    for path in tiny_folder.iterdir():
        shutil.copy(path, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if keep is not None:
        (tmp_path / name).write_bytes(content[: int(keep * len(content))])
    assert command.main(["--model", str(tmp_path), "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    assert name in err and err.count("\n") == 1


@pytest.fixture
def tiny(monkeypatch, tiny_predictor):
    """The command scores this model, whichever is named."""
    monkeypatch.setattr(evaluate_job, "load", lambda name, device, dtype: tiny_predictor)


def test_the_command_scores_what_the_file_can_serve(command, capsys, tiny, rows, tmp_path):
    figures = tmp_path / "figures.json"
    options = ["--data", str(rows.file.path), "--limit", "10", "--json", str(figures)]
    assert command.main(options) == 0
    out = capsys.readouterr().out
    told = "left out: rkpt (needs keypoints), rpar_full_mask (needs parts), rhrc (needs captions), "
    told += "s1 (needs keypoints and parts); files of the kind rec do not hold that.\n"
    told += "10 questions about 8 pictures per task\n"
    assert out.startswith(told) and "\nrec: 10 questions" in out
    (found,) = json.loads(figures.read_text())
    assert found["task"] == "rec" and found["samples"] == 10 and "box/acc@0.9" in found["scores"]
    assert command.main([*options, "--tasks", "rec", "--markdown"]) == 0
    assert re.search(r"\n\| metric +\| +value \|\n\|-+\|-+:\|\n\| box/acc@0.5 +\| 0", out := capsys.readouterr().out)
    assert "left out" not in out  # what was asked for is all there


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_command_with_one_sentence(command, capsys, tiny, rows, tmp_path, monkeypatch, number):
    answer, before = evaluation.answer_batch, signal.getsignal(signal.SIGTERM)

    def signalled(*arguments, **options):
        readings = answer(*arguments, **options)
        if (tmp_path / "out" / "rec.jsonl").exists():
            os.kill(os.getpid(), number)
        return readings

    monkeypatch.setattr(evaluation, "answer_batch", signalled)
    options = ["--data", str(rows.file.path), "--limit", "10", "--batch-size", "3", "--out", str(tmp_path / "out")]
    assert command.main(options) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("evaluate: stopped: 3 of 10 rec answers are in ")
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(evaluation, "answer_batch", answer)
    assert command.main(options) == 0
    assert "\nrec: 10 questions" in capsys.readouterr().out
    assert command.main(["--score", str(tmp_path / "out"), "--tasks", "rhrc"]) == 1
    assert "holds no answers of task rhrc, but of rec" in capsys.readouterr().err


@pytest.fixture
def mixed(tmp_path):
    """Rows of our own: one knows everything, the others too little for one task or another."""
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[5:25, 5:20] = 5
    Image.fromarray(mask).save(tmp_path / "parts.png")
    points = np.zeros((17, 3))
    points[:5] = (10, 10, 2)
    known = Person((5, 5, 20, 25), points, encode_mask(mask), "parts.png")
    with PersonWriter(tmp_path / "mixed.tsv") as file:
        file.add(PersonRow("all", "1", "a.png", (known,), "a man", ("a man in red",)))
        file.add(PersonRow("box", "1", "a.png", (Person((5, 5, 20, 25)),), "a man"))
        file.add(PersonRow("region", "1", "a.png", (known,), None, ("a man in red",)))
        file.add(PersonRow("two", "1", "a.png", (known, known), "men"))
        file.add(PersonRow("none", "1", "a.png", (), "a dog"))
    return tmp_path / "mixed.tsv"


def test_each_task_is_asked_about_the_rows_that_know_enough(tiny_predictor, mixed):
    others = {"are about several people or nobody": 2}
    words = {**others, "ask without words": 1}
    for name, asked, left_out in (
        ("rec", 2, words),
        ("rkpt", 2, {**others, "do not know keypoints": 1}),
        ("s1", 2, {**others, "do not know keypoints": 1}),
        ("rhrc", 2, {**others, "do not know captions": 1}),
    ):
        result = evaluate(tiny_predictor, mixed, "person", name, java=False, progress=False)
        assert (result.samples, result.left_out) == (asked, left_out), name


def test_rows_without_words_are_asked_by_region_and_their_boxes_are_not_scored(command, capsys, tiny, mixed, tmp_path):
    """As CIHP's people are, of which there are no words, whether their file is ours or a published one."""
    lines = mixed.read_text().splitlines(keepends=True)
    both = [line for line in lines if line.startswith(("all", "region"))]
    codes = ",".join(["0"] * 48)
    published = f"region\tNone\t5,5,20,25\t{codes}\tparts.png\ta.png\n"
    for content, asked, by_region in ((both[1], 1, 1), (published, 1, 1), ("".join(both), 2, 1), (both[0], 1, 0)):
        mixed.write_text(content)
        folder = tmp_path / f"out{len(content)}"
        assert command.main(["--data", str(mixed), "--tasks", "rpar_full_mask", "--out", str(folder)]) == 0
        out = capsys.readouterr().out
        assert f"rpar_full_mask: {asked} questions" in out and "parsing/miou" in out
        assert ("asked by region: 1 questions" in out) == bool(by_region)
        assert ("box/acc@0.5" in out) == (asked > by_region)
        (again,) = score_saved(folder)
        assert (again.by_region, again.scores["box/samples"]) == (by_region, asked - by_region)
        figures = [json.loads(line)["figures"] for line in (folder / "rpar_full_mask.jsonl").read_text().splitlines()]
        assert sum("iou" in each for each in figures) == asked - by_region


def test_words_that_are_the_whole_question_are_needed(tiny_predictor, mixed):
    mixed.write_text("".join(line for line in mixed.read_text().splitlines(True) if line.startswith("region")))
    for name, protocol in (("rec", "own"), ("rkpt", "uniphd")):
        with pytest.raises(RefHCMError, match="1 ask without words"):
            evaluate(tiny_predictor, mixed, "person", name, protocol=protocol, progress=False)


def test_the_command_says_what_is_not_asked(command, capsys, tiny, mixed):
    assert command.main(["--data", str(mixed), "--tasks", "rec", "rkpt"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 questions about 1 pictures per task\n")
    assert "  not asked: 1 rows that ask without words\n" in out
    assert "  not asked: 1 rows that do not know keypoints\n" in out


def test_tasks_that_no_row_serves_are_left_out_and_told(command, capsys, tiny, mixed, monkeypatch, tiny_predictor):
    lines = [line for line in mixed.read_text().splitlines(keepends=True) if line.startswith(("box", "two"))]
    mixed.write_text("".join(lines))
    monkeypatch.setattr(tiny_predictor, "label_map", None)
    assert command.main(["--data", str(mixed)]) == 0
    out = capsys.readouterr().out
    for name, why in (
        ("rkpt", "1 are about several people or nobody, 1 do not know keypoints."),
        ("rhrc", "1 are about several people or nobody, 1 do not know captions."),
        ("rpar_full_mask", "The model has no label-map tokenizer"),
        ("s1", "The model has no label-map tokenizer"),
    ):
        assert re.search(rf"(?m)^left out: {name}\. .*{why}", out), name
    assert "\nrec: 1 questions" in out and "rpar:" not in out
    assert command.main(["--data", str(mixed), "--tasks", "rec", "rkpt"]) == 1
    assert "No row of" in capsys.readouterr().err
    mixed.write_text(lines[1])
    assert command.main(["--data", str(mixed)]) == 1
    assert "can serve none of rec, rkpt" in capsys.readouterr().err


def test_every_bad_row_is_named_before_the_first_question(tiny_predictor, rows, monkeypatch):
    path = rows.file.path
    path.write_text(path.read_text() + "9_8\t9\tx\t1,1,6\ta.png\n9_9\t9\tx\t1,1,6,7\tb.png\n")
    monkeypatch.setattr(evaluation, "answer_batch", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(RefHCMError, match=r"(?s)2 of 42 rows of .*line 41: the box.*line 42: there is no file b\.png"):
        evaluate(tiny_predictor, path, "rec", "rec", progress=False)


def _half_a_photo(path):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_found_damaged_later_ends_the_scoring(tiny_predictor, rows, workers):
    path = rows.file.path
    _half_a_photo(path.parent / "b.png")
    path.write_text(path.read_text() + "9_9\t9\tx\t1,1,6,7\tb.png\n")
    options = {"workers": workers, "progress": False}
    with pytest.raises(RefHCMError, match=r"(?s)1 of 41 rows of .*rec\.tsv.*line 41: .*b\.png is cut off") as error:
        evaluate(tiny_predictor, path, "rec", "rec", **options)
    assert "Traceback" not in str(error.value)


def test_all_pictures_are_decoded_first_where_that_is_asked_for(tiny_predictor, rows, monkeypatch):
    for picture in rows.file.path.parent.glob("*.png"):
        _half_a_photo(picture)
    monkeypatch.setattr(evaluation, "answer_batch", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(RefHCMError, match=r"(?s)40 of 40 rows .*cut off"):
        evaluate(tiny_predictor, rows.file.path, "rec", "rec", thorough=True, progress=False)


def test_other_people_or_code_make_other_scenes(monkeypatch, tmp_path):
    (tmp_path / "shard.zip").write_bytes(b"1")
    monkeypatch.setattr(held_out, "PEOPLE", tmp_path)
    before = held_out.fingerprint()
    assert held_out.fingerprint() == before
    (tmp_path / "shard.zip").write_bytes(b"12")
    changed = held_out.fingerprint()
    assert held_out.fingerprint(2) != changed == held_out.fingerprint(1)
    monkeypatch.setattr(held_out, "ROOT", tmp_path)
    assert len({before, changed, held_out.fingerprint()}) == 3
