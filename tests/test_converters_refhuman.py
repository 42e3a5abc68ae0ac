"""RefHuman's file, in small: invented picture ids, one annotation each, scribbles beside words."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from converted import NONSENSE, check, convert, save_picture
from hypothesis import given
from hypothesis import strategies as st

from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.prompts import SCRIBBLE_POINTS, Prompting
from refhcm.data.validate import validate
from refhcm.errors import RefHCMError
from refhcm.tasks import build

SIZE = (40, 30)
SCRIBBLE = [[[4 + i, 3 + k] for i in range(12)] for k in range(5)]


def annotation(number, **changes):
    return {
        "id": number, "image_id": number, "category_id": 1, "bbox": [4.0, 3.0, 16.5, 22.0], "area": 200.5,
        "iscrowd": 0, "segmentation": [[4, 3, 20, 3, 20, 25, 4, 25]], "num_keypoints": 2,
        "keypoints": [5, 6, 2, 7, 8, 1] + [0] * 45, "scribble": np.ravel(SCRIBBLE).tolist(), **changes,
    }  # fmt: skip


def entry(number, caption="the man on the left", name="000000000139.jpg", **changes):
    return {"id": number, "file_name": name, "width": 40, "height": 30, "caption": caption, **changes}


def save_tree(folder, images, annotations, name="RefHuman_val.json"):
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": []}
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    save_picture(folder / "images" / "000000000139.jpg", SIZE)
    save_picture(folder / "images" / "000000000285.jpg", SIZE)
    return folder


@pytest.fixture
def tree(tmp_path):
    images = [entry(1), entry(2, "man with a hat"), entry(3, name="000000000285.jpg")]
    return save_tree(tmp_path / "RefHuman", images, [annotation(k) for k in (1, 2, 3)])


def test_words(tree, tmp_path, tiny_vocabulary):
    report, rows = convert("refhuman", tree, tmp_path / "out")
    first, second, third = rows["val"]
    assert (first["id"], first["text"]) == ("refhuman_val:1:0", "the man on the left")
    assert [row["image_id"] for row in (first, second, third)] == ["139", "139", "285"]
    assert (first["box"], first["area"]) == ("4,3,20.5,25", "200.5")
    assert first["keypoints"].startswith("5,6,2,7,8,1,0,0,0") and first["mask"]
    assert report.counts()["val"]["people"] == 2
    question, answer, image = ReferringDataset(tmp_path / "out" / "val.tsv", "person")[1]
    assert question.text == "man with a hat" and image.size == SIZE and answer.keypoints[1].tolist() == [7, 8, 1]
    assert len(check(tmp_path / "out" / "val.tsv", "rkpt", tiny_vocabulary)) == 3


def test_the_two_files_do_not_mix_their_invented_ids(tree, tmp_path):
    save_tree(tree, [entry(1)], [annotation(1)], "RefHuman_train.json")
    _, rows = convert("refhuman", tree, tmp_path / "out")
    assert [row["id"] for row in rows["train"]] == ["refhuman_train:1:0"] and len(rows["val"]) == 3


def test_annotations_may_share_the_id_that_coco_gave_the_person(tree, tmp_path):
    save_tree(tree, [entry(1), entry(2)], [annotation(7, image_id=1), annotation(7, image_id=2)])
    assert len(convert("refhuman", tree, tmp_path / "out")[1]["val"]) == 2


@given(st.data())
def test_damaged_entries_are_counted_or_refused(data):
    image, person = entry(1), annotation(1)
    broken = data.draw(st.sampled_from([image, person]))
    broken[data.draw(st.sampled_from(sorted(broken)))] = data.draw(NONSENSE)
    with tempfile.TemporaryDirectory() as folder:
        tree = save_tree(Path(folder) / "s", [image, entry(2)], [person, annotation(2)])
        for prompt in ("text", "point"):
            report, rows = convert("refhuman", tree, Path(folder) / prompt, prompt=prompt)
            assert validate(Path(folder) / prompt / "val.tsv").faults == 0
            assert len(rows["val"]) + report.skipped.total() == 2


DRAWN = [[scribble[at]] for scribble in SCRIBBLE for at in (5, 4, 6, 7)]


@pytest.mark.parametrize(("prompt", "marks"), [("point", DRAWN), ("scribble", SCRIBBLE)])
def test_points_and_scribbles_are_the_question_of_a_row(tree, tmp_path, tiny_vocabulary, prompt, marks):
    report, rows = convert("refhuman", tree, tmp_path / "out", prompt=prompt)
    assert {row["text"] for row in rows["val"]} == {"None"} and len(rows["val"]) == 3
    checked = validate(tmp_path / "out" / "val.tsv")
    assert (checked.faults, checked.known["ask by points"], report.counts()["val"]["regions"]) == (0, 3, 0)
    data = ReferringDataset(tmp_path / "out" / "val.tsv", "person")
    question, answer, _ = data[0]
    assert [list(map(list, mark)) for mark in question.points] == marks  # the evaluation's comes first
    assert question.text is None and question.region is None and answer.box == (4, 3, 20.5, 25)
    assert data.shortfall(["box"])["ask by points"].all() and not len(data.usable(["box"]))
    with pytest.raises(RefHCMError, match="can serve task rec: 3 ask by points"):
        SampleDataset(data, [build("rec", tiny_vocabulary)], 16)
    learnt = SampleDataset(data, [build("rec", tiny_vocabulary)], 16, points=True, prompting=Prompting())
    drawn = {learnt[0][0]["question"].points[0] for learnt.epoch in range(40)}  # any of them, in training
    assert len(learnt) == 3 and len(drawn) > 1 and drawn <= set(question.points)
    bins = [token for token in build("rhrc", tiny_vocabulary).instruction(question) if tiny_vocabulary.is_bin(token)]
    assert len(bins) == 2 * min(len(marks[0]), SCRIBBLE_POINTS)
    assert any("by points" in note for note in report.notes)


def test_what_cannot_be_used_is_counted(tree, tmp_path):
    images = [entry(k) for k in range(1, 9)]
    images[1]["caption"] = " "
    images[2]["file_name"] = "none.jpg"
    images[3]["width"] = 41
    annotations = [annotation(k) for k in range(1, 9)]
    annotations[4]["image_id"] = 6
    annotations[6]["iscrowd"] = 1
    annotations[7]["bbox"] = [4, 3, 0, 5]
    save_tree(tree, images, annotations)
    report, rows = convert("refhuman", tree, tmp_path / "out")
    assert [row["id"] for row in rows["val"]] == ["refhuman_val:1:0"]
    assert report.skipped == {
        "the expression is empty": 1,
        "the picture is missing": 1,
        "the picture has another size than its annotations say": 1,
        "the entry has not exactly one annotation": 2,
        "it is a crowd, not a person": 1,
        "the box has no width or height": 1,
    }


@pytest.mark.parametrize(
    "scribble", [None, [1, 2], ["a"] * 120, [[1, 2], [3]], [[41, 0]] * 60, [-1] * 120, [1e400] * 120, {}]
)
def test_scribbles_are_checked_only_when_asked_for(tree, tmp_path, scribble):
    text = json.dumps(annotation(1, scribble=scribble)).replace("Infinity", "1e400")
    save_tree(tree, [entry(1), entry(2)], ["ONE", annotation(2)])
    path = tree / "RefHuman_val.json"
    path.write_text(path.read_text().replace('"ONE"', text))
    assert len(convert("refhuman", tree, tmp_path / "out")[1]["val"]) == 2
    report, rows = convert("refhuman", tree, tmp_path / "out", prompt="point")
    assert len(rows["val"]) == 1 and report.skipped.total() == 1


def test_other_folders_and_files_are_refused(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(RefHCMError, match=r"There is no RefHuman_train\.json or RefHuman_val\.json"):
        convert("refhuman", tmp_path / "s", tmp_path / "out")
    (tmp_path / "s" / "images").mkdir()
    (tmp_path / "s" / "RefHuman_val.json").write_text("[]")
    with pytest.raises(RefHCMError, match="where an object is expected"):
        convert("refhuman", tmp_path / "s", tmp_path / "out")
