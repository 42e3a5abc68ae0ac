"""HuMAR-GREF's two lists, in small: several people, nobody, poses of any length with scores."""

import json
import tempfile
from pathlib import Path

import pytest
from converted import NONSENSE, check, convert, numbers, save_picture
from hypothesis import given
from hypothesis import strategies as st

from refhcm.data.dataset import ReferringDataset
from refhcm.errors import RefHCMError

SIZE = (40, 30)
POSE = [[5, 6, 0.9], [7.5, 8, 0.1]] + [[9, 9, 0.05]] * 15


def ref(number, ann_id, split="train", **changes):
    return {
        "ref_id": number, "image_id": 110, "ann_id": ann_id, "split": split, "sent_ids": [number],
        "file_name": "COCO_train2014_000000000110_6.jpg",
        "sentences": [{"raw": "Man, walking", "sent": "man walking", "tokens": ["man", "walking"], "sent_id": number}],
        **changes,
    }  # fmt: skip


def instance(number, **changes):
    return {
        "id": number, "image_id": 110, "category_id": 1, "bbox": [4, 3, 16, 22], "iscrowd": 0, "area": 300,
        "segmentation": [[4, 3, 20, 3, 20, 25, 4, 25]], "keypoints": POSE, **changes,
    }  # fmt: skip


def save_tree(folder, refs, instances):
    annotations = folder / "HuMAR_Annots_With_Keypoints"
    annotations.mkdir(parents=True, exist_ok=True)
    (annotations / "HuMAR_GREF_COCO_With_Keypoints.json").write_text(json.dumps(refs))
    (annotations / "HuMAR_instances_With_Keypoints.json").write_text(json.dumps(instances))
    save_picture(folder / "GREFS_COCO_HuMAR_Images" / "COCO_train2014_000000000110.jpg", SIZE)
    return folder


def test_one_several_and_nobody(tmp_path, tiny_vocabulary):
    instances = [instance(1), instance(2, bbox=[20, 3, 30, 22], segmentation=None, keypoints=None)]
    refs = [ref(1, [1]), ref(2, [1, 2, 1], "val"), ref(3, [-1], no_target=True), ref(4, 1, "testA")]
    report, rows = convert("humar", save_tree(tmp_path / "s", refs, instances), tmp_path / "out")
    one, nobody = rows["train"]
    assert (one["id"], one["image_id"], one["text"]) == ("humar:1:0", "110", "man walking")
    assert numbers(one["keypoints"]) == [5, 6, 2] + [0] * 48 and one["area"] == "300"
    assert (nobody["box"], nobody["keypoints"]) == ("", "")
    (both,) = rows["val"]
    assert both["box"] == "4,3,20,25|20,3,40,25" and both["keypoints"].endswith("|") and both["area"] == "300|300"
    assert len(rows["testA"]) == 1 and report.counts()["train"]["nobody"] == 1
    question, _, image = ReferringDataset(tmp_path / "out" / "train.tsv", "person")[0]
    assert question.text == "man walking" and image.size == SIZE
    assert len(check(tmp_path / "out" / "train.tsv", "rkpt", tiny_vocabulary)) == 1  # nobody is no pose


@pytest.mark.parametrize(
    ("pose", "count"),
    [([n for point in POSE for n in point], 0), (POSE[:3], 1), ([*POSE, [1, 1, 1]], 1), ([5, 6, 0.9, 1], 1)],
)
def test_poses_of_other_forms(tmp_path, pose, count):
    tree = save_tree(tmp_path / "s", [ref(1, [1])], [instance(1, keypoints=pose)])
    report, rows = convert("humar", tree, tmp_path / "out")
    assert numbers(rows["train"][0]["keypoints"]) == [5, 6, 2] + [0] * 48
    assert sum(report.found["keypoints"].values()) == count


def test_points_outside_the_picture_are_no_labels(tmp_path):
    pose = [[5, 6, 0.9], [41, 8, 0.9]] + [[0, 0, 0]] * 15
    tree = save_tree(tmp_path / "s", [ref(1, [1])], [instance(1, keypoints=pose)])
    _, rows = convert("humar", tree, tmp_path / "out", score_above=0.5)
    assert numbers(rows["train"][0]["keypoints"]) == [5, 6, 2] + [0] * 48


def test_what_cannot_be_used_is_counted(tmp_path):
    refs = [
        ref(1, [1]), ref(2, [9]), ref(3, ["a"]), ref(4, [2]), ref(5, [3]), ref(6, [4]), ref(7, [1], image_id=111), 5,
        ref(8, [1], file_name="none.jpg", image_id=110),
        ref(9, [1], sentences=[{"sent": " "}, {"sent": "woman", "raw": "Woman"}, 3]), ref(10, [1], split="test a"),
        ref(11, [1], no_target=True), ref(12, [-1], no_target=False),
    ]  # fmt: skip
    instances = [
        instance(1), instance(2, image_id=7), instance(3, keypoints=["x"] * 51), instance(4, bbox=[1, 2]),
    ]  # fmt: skip
    report, rows = convert("humar", save_tree(tmp_path / "s", refs, instances), tmp_path / "out")
    assert [(row["id"], row["text"]) for row in rows["train"]] == [
        ("humar:1:0", "man walking"), ("humar:8:0", "man walking"), ("humar:9:1", "woman"),
    ]  # fmt: skip
    assert report.skipped == {
        "an annotation is not among the instances": 1,
        "an id is not a whole number": 1,
        "no_target contradicts ann_id": 2,
        "an annotation belongs to another picture": 1,
        "the keypoints cannot be read": 1,
        "the box is not 4 numbers": 1,
        "the image id and the name of the picture disagree": 1,
        "ref_id is missing or of the wrong type": 1,
        "the sentence is empty": 1,
        "the sentence has no sent": 1,
        "the name of the split cannot be the name of a file": 1,
    }


@given(st.data())
def test_damaged_entries_are_counted_or_refused(data):
    one, person = ref(1, [1]), instance(1)
    broken = data.draw(st.sampled_from([one, person]))
    broken[data.draw(st.sampled_from(sorted(set(broken) - {"id"})))] = data.draw(NONSENSE)
    with tempfile.TemporaryDirectory() as folder:
        tree = save_tree(Path(folder) / "s", [one, ref(2, [2])], [person, instance(2)])
        report, rows = convert("humar", tree, Path(folder) / "out")
        assert sum(map(len, rows.values())) + report.skipped.total() >= 1
        assert any(row["id"] == "humar:2:0" for row in rows["train"])


def test_other_files_are_refused(tmp_path):
    tree = save_tree(tmp_path / "s", [], [])
    with pytest.raises(RefHCMError, match="gave no rows"):
        convert("humar", tree, tmp_path / "out")
    save_tree(tree, [], [{"id": "1"}])
    with pytest.raises(RefHCMError, match="Entry 0 of the instances has no whole number"):
        convert("humar", tree, tmp_path / "out")
    with pytest.raises(RefHCMError, match=r"There is no other\.json"):
        convert("humar", tree, tmp_path / "out", refs="other.json")
