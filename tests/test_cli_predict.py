"""The command: exit codes 0, 1 and 2, one sentence on stderr and never a traceback, files where they were asked for."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from refhcm import cli
from refhcm.inference.batch import ANSWER_FIELDS

WORDS = ["--text", "the man in the red coat"]


@pytest.fixture
def run(run, tiny_predictor, monkeypatch):
    """Run the command with the tiny model."""
    monkeypatch.setattr(cli, "_load", lambda arguments: tiny_predictor)
    return run


@pytest.fixture
def picture(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_one_question_as_text_as_json_and_as_files(run, picture, tmp_path):
    code, out, err = run("predict", picture, *WORDS)
    assert code == 0 and "caption" in out and err == ""
    code, out, _ = run("predict", picture, *WORDS, "--tasks", "box", "keypoints", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["parsing"] is None and len(answer["keypoints"]) == 17
    before = picture.read_bytes()
    code, out, _ = run("predict", picture, "--region", 5, 5, 40.5, 50, "--out", tmp_path)
    assert code == 0 and picture.read_bytes() == before
    assert json.loads((tmp_path / "a_answer.json").read_text())["region"] == [5, 5, 40.5, 50]
    assert Image.open(tmp_path / "a_answer.png").width >= 90
    assert np.asarray(Image.open(tmp_path / "a_answer_parts.png")).shape == (60, 90)


def test_where_the_model_looked_is_drawn_where_it_was_asked_for(run, picture, tmp_path):
    asked = ["predict", picture, *WORDS, "--tasks", "box", "caption", "--out"]
    code, out, _ = run(*asked, tmp_path / "plain")
    assert code == 0 and "attention" not in out
    code, out, _ = run(*asked, tmp_path / "all", "--attention")
    assert code == 0 and "a_answer_attention.png" in out
    with np.load(tmp_path / "all" / "a_answer_attention.npz") as maps:
        assert set(maps) == {"words", "box", "caption"}
    code, _, _ = run(*asked, tmp_path / "box", "--attention", "box")
    with np.load(tmp_path / "box" / "a_answer_attention.npz") as maps:
        assert set(maps) == {"words", "box"}
    files = {folder: sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("plain", "all", "box")}
    assert files["plain"] == ["a_answer.json", "a_answer.png"]
    assert files["all"] == files["box"] == [
        "a_answer.json", "a_answer.png", "a_answer_attention.npz", "a_answer_attention.png",
    ]  # fmt: skip
    code, out, _ = run("predict", picture, "--region", 5, 5, 40, 50, "--out", tmp_path / "given", "--attention", "box")
    assert code == 0 and "nothing to draw" in out and not list((tmp_path / "given").glob("*attention*"))


def test_without_names_or_tasks_attention_is_of_all_that_is_answered(
    run, picture, tiny_predictor, people_predictor, tmp_path, monkeypatch
):
    for number, predictor in enumerate((tiny_predictor, people_predictor)):
        monkeypatch.setattr(cli, "_load", lambda arguments, predictor=predictor: predictor)
        code, _, err = run("predict", picture, *WORDS, "--out", tmp_path / str(number), "--attention")
        assert (code, err) == (0, "")
        with np.load(tmp_path / str(number) / "a_answer_attention.npz") as maps:
            assert {"box", "keypoints", "parsing", "caption"} <= set(maps) and "region_map" not in maps
    monkeypatch.setattr("refhcm.tasks.people.MOST", 2)
    code, out, _ = run("predict", picture, "--everybody", "--out", tmp_path / "people", "--attention")
    assert code == 0 and "a_answer_2_attention.png" in out
    with np.load(tmp_path / "people" / "a_answer_2_attention.npz") as maps:
        assert set(maps) == {"words", "box"}


def test_a_terminal_without_unicode_is_enough(tiny_predictor, photo, tmp_path, monkeypatch):
    photo.save(tmp_path / "straße.png")
    monkeypatch.setattr(cli, "_load", lambda arguments: tiny_predictor)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert cli.main(["predict", str(tmp_path / "straße.png"), *WORDS, "--tasks", "box"]) == 0


def test_many_questions_go_on_after_a_bad_one(run, picture, tmp_path):
    requests = tmp_path / "in.jsonl"
    requests.write_text('{"image": "a.png", "text": "the man"}\n{"image": "b.png", "text": "the man"}\n')
    many = ["predict", "--requests", requests, "--images", tmp_path, "--answers", tmp_path / "out.jsonl"]
    code, _, err = run(*many)
    good, bad = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert code == 1 and "1 of 2 requests failed" in err
    assert bad["image"] == "b.png" and bad["text"] == "the man" and "no picture at" in bad["error"]
    assert set(good) == {"image", "text", *ANSWER_FIELDS} and good["region_map"] is None
    assert np.asarray(Image.open(good["parsing"])).shape == (60, 90)
    requests.write_text('{"image": "a.png", "text": "the man"}\n')
    assert run(*many, "--out", tmp_path / "drawn", "--tasks", "box")[0] == 0
    assert (tmp_path / "drawn" / "000001.png").is_file()


def test_everybody_points_and_maps_have_their_switches(run, picture, people_predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_load", lambda arguments: people_predictor)
    monkeypatch.setattr("refhcm.inference.interview.REACH", 1e6)  # random weights find people anywhere
    code, out, _ = run("predict", picture, "--everybody", "--json")
    people = json.loads(out)
    assert code == 0 and len(people) > 2 and all(person["box"] and person["keypoints"] is None for person in people)
    code, out, _ = run("predict", picture, "--everybody", *WORDS, "--tasks", "mask", "--out", tmp_path / "o")
    assert code == 0 and f"{WORDS[1]}: " in out and "mask" in out and (tmp_path / "o" / "a_answer_1_mask.png").is_file()
    assert (tmp_path / "o" / "a_answer.png").is_file()
    assert json.loads(run("predict", picture, "--point", 40, 30, "--json")[1])["points"] == [[40, 30]]
    scribble = ["--scribble", 40, 30, 41, 20, "--tasks", "box", "region_map", "--out", tmp_path]
    code, out, _ = run("predict", picture, *scribble)
    assert code == 0 and "points 41 20, 40 30" in out and "other people" in out
    assert np.asarray(Image.open(tmp_path / "a_answer_region_map.png")).shape == (60, 90)
    requests = tmp_path / "in.jsonl"
    requests.write_text('{"image": "a.png", "everybody": true}\n{"image": "a.png", "point": [4, 5]}\n')
    many = ["--requests", requests, "--images", tmp_path, "--answers", tmp_path / "out.jsonl"]
    assert run("predict", *many)[0] == 0
    everybody, point = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(everybody["people"]) == len(people) and point["box"]


def test_the_demo_draws_one_picture(run, picture, tmp_path):
    code, _, _ = run("demo", picture, *WORDS, "--out", tmp_path / "o")
    assert code == 0 and sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "a_answer.json", "a_answer.png", "a_answer_mask.png", "a_answer_parts.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "required"),
        (["fly"], 2, "invalid choice"),
        (["predict"], 2, "No picture"),
        (["predict", "a.png", "--region", "1", "2", "3"], 2, "expected 4 arguments"),
        (["predict", "a.png", "--text", "x", "--tasks", "pose"], 2, "Unknown task 'pose'"),
        (["predict", "a.png", "--text", "x", "--beam", "0"], 2, "beam"),
        (["predict", "a.png", "--text", "x", "--attention"], 2, "name the folder for them with --out"),
        (["predict", "a.png", "--text", "x", "--attention", "pose"], 2, "Unknown output 'pose'"),
        (["predict", "a.png", "--text", "x", "--tasks", "box", "--attention", "nose"], 2, "needs the task 'keypoints'"),
        (["predict", "--requests", "x.jsonl"], 2, "--images and --answers missing"),
        (["predict", "a.png", "--requests", "x", "--images", "x", "--answers", "y"], 2, "one question"),
        (["predict", "--requests", "x", "--images", "x", "--answers", "x"], 2, "overwrite"),
        (["predict", "--requests", "absent", "--images", "x", "--answers", "y"], 2, "no requests file"),
        (["predict", "--requests", "x", "--images", "x", "--answers", "y", "--batch-size", "0"], 2, "at least 1"),
        (["predict", "absent.png", "--text", "x"], 1, "no picture at absent.png"),
        (["predict", "a.png"], 2, "Neither words nor a region"),
        (["predict", "a.png", "--point", "900", "5"], 1, "outside the 90 x 60 picture"),
        (["predict", "a.png", "--point", "5", "5"], 1, "not trained to be asked by points"),
        (["predict", "a.png", "--scribble", "5", "5", "7"], 2, "pairs of numbers"),
        (["predict", "a.png", "--everybody"], 1, "not trained to find everybody"),
        (["predict", "a.png", "--everybody", "--point", "1", "2"], 2, "Both --everybody and --point"),
        (["predict", "a.png", "--point", "1", "2", "--scribble", "1", "2"], 2, "Both a point and a scribble"),
        (["predict", "--everybody", "--requests", "x", "--images", "x", "--answers", "y"], 2, "one question"),
        (["demo", "a.png"], 2, "Neither words nor a region"),
        (["predict", "a.png", "--text", ""], 1, "words are empty"),
        (["predict", "a.png", "--text", "man " * 2500], 1, "10,000 characters"),
        (["predict", "a.png", "--text", "man", "--region", "1", "2", "3", "4"], 2, "Both words and a region"),
        (["predict", "a.png", "--region", "nan", "0", "5", "5"], 1, "finite"),
        (["predict", "notes.jpg", "--text", "man"], 1, "not a picture"),
        (["predict", "a.png", "--text", "man", "--out", "notes.jpg"], 1, "--out: notes.jpg is a file: name a folder"),
        (["demo", "--text", "man"], 2, "No picture"),
    ],
)
def test_wrong_use_gives_one_line(run, picture, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(picture.parent)
    (picture.parent / "notes.jpg").write_text("no picture")
    got, out, err = run(*arguments)
    assert got == code and sentence in err and out == ""
    assert err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["a.png"], 2, "Neither words nor a region"),
        (["a.png", *WORDS, "--region", "1", "2", "3", "4"], 2, "Both words and a region"),
        (["a.png", *WORDS, "--out", "file"], 1, "--out: file is a file"),
        (["a.png", *WORDS, "--out", "file/below"], 1, "--out: file is a file"),
        (["a.png", *WORDS, "--out", "/proc/nothing"], 1, "--out: Nothing can be written to /proc/nothing"),
        (["--answers", "."], 2, "--answers . is a folder: name a file"),
        (["--answers", "file/out.jsonl"], 1, "--answers: file is a file"),
        (["--answers", "out.jsonl", "--out", "file"], 1, "--out: file is a file"),
        (["--answers", "file.jsonl"], 1, "--out: file_files is a file"),
    ],
)
def test_what_cannot_be_written_or_asked_is_said_before_a_model_is_loaded(
    run, picture, monkeypatch, arguments, code, sentence
):
    monkeypatch.chdir(picture.parent)
    monkeypatch.setattr(cli, "_load", lambda arguments: pytest.fail("loaded"))
    for name in ("file", "file_files"):
        (picture.parent / name).touch()
    (picture.parent / "in.jsonl").write_text('{"image": "a.png", "text": "the man"}\n')
    many = ["--requests", "in.jsonl", "--images", "."] if "--answers" in arguments else []
    got, out, err = run("predict", *many, *arguments)
    assert got == code and sentence in err and err.count("\n") == 1 and out == ""


def test_help_and_version(run):
    assert run("--version")[1].startswith("refhcm ")
    assert run("version")[0] == 0
    code, out, _ = run("predict", "--help")
    assert code == 0 and "--requests" in out


def test_importing_the_package_loads_no_torch():
    heavy = "{'torch', 'PIL', 'fairseq'}"
    check = f"import sys, refhcm; assert refhcm.__version__; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_predicting_needs_no_fairseq(tiny_folder, picture):
    absent = "import sys; sys.modules.update({'fairseq': None, 'hydra': None, 'omegaconf': None})"
    check = f"{absent}; import refhcm; print(refhcm.load(sys.argv[1], 'cpu')(sys.argv[2], 'the man').box is not None)"
    done = subprocess.run(
        [sys.executable, "-c", check, str(tiny_folder), str(picture)], capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import refhcm

    with pytest.raises(AttributeError, match="nothing"):
        refhcm.nothing  # noqa: B018
    assert {"load", "Answer"} <= set(dir(refhcm))
