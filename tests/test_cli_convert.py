"""`refhcm convert`: a list, help with layout and licence, files and a report; wrong use is one sentence."""

import json

import pytest
from coco_tree import make_tree

from refhcm.data.converters import known


def test_without_a_name_the_converters_are_listed(run):
    code, out, err = run("convert")
    assert code == 0 and err == ""
    names = ["refcoco", "refcoco+", "refcocog", "refpose", "refpose+", "refposeg", "grefcoco", "coco-keypoints"]
    assert names == list(known())[: len(names)] and all(f"\n  {name} " in out for name in known())


@pytest.mark.parametrize("name", known())
def test_help_says_layout_and_licence(run, name):
    code, out, _ = run("convert", name, "--help")
    told = " ".join(out.split())
    assert code == 0 and "--source is" in told and "Licence:" in told


def test_convert_then_validate(run, tmp_path):
    tree = make_tree(tmp_path / "source")
    code, out, err = run("convert", "refpose", "--source", tree, "--out", tmp_path / "out", "--quiet")
    assert code == 0 and err == "" and f"written: {tmp_path / 'out' / 'train.tsv'}\n" in out
    assert "left out: 6" in out and "(OFFICIAL: 42,404)" in out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["dataset"] == "refpose"
    for split in ("train", "val", "testA"):
        assert run("validate", tmp_path / "out" / f"{split}.tsv", "--quiet")[0] == 0
    assert run("leaks", tmp_path / "out" / "train.tsv", "--against", tmp_path / "out" / "val.tsv")[0] == 0


@pytest.mark.parametrize("arguments, code, said", [
    (["convert", "nothing"], 2, "invalid choice: 'nothing'"),
    (["convert", "refcoco", "--out", "x"], 2, "required: --source"),
    (["convert", "refcoco", "--source", "x", "--out", "y", "--split-by", "umd"], 2, "invalid choice: 'umd'"),
    (["convert", "refcoco", "--source", "x", "--out", "y", "--pictures", "move"], 2, "invalid choice: 'move'"),
    (["convert", "refcoco", "--source", "/nowhere", "--out", "y"], 1, "There is nothing at /nowhere"),
    (["convert", "refcoco", "--source", ".", "--out", "file"], 1, "is a file"),
    (["convert", "cihp", "--source", ".", "--out", "y", "--tokenizer", "none"], 1, "label_map.json is missing"),
])  # fmt: skip
def test_wrong_use_is_one_sentence(run, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    found, out, err = run(*arguments)
    assert found == code and said in err and out == "" and err.count("\n") == 1
