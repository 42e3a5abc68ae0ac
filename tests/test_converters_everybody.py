"""Rows about everybody in a picture, from every source that knows all of them."""

import json

import numpy as np
import pytest
from coco_tree import ANNOTATIONS, CROWD, coco, make_tree, people, points, ref, save_images, thing
from converted import convert, save_labels, save_picture
from test_converters_cihp import labels
from test_converters_cihp import save_tree as save_cihp
from test_converters_humar import instance
from test_converters_humar import ref as humar_ref
from test_converters_humar import save_tree as save_humar
from test_converters_refhuman import annotation, entry
from test_converters_refhuman import save_tree as save_refhuman

from refhcm.data.dataset import ReferringDataset
from refhcm.data.masks import decode_mask
from refhcm.data.validate import validate

WITHOUT_CROWDS = [one for one in ANNOTATIONS if one["id"] not in (CROWD, 4)]  # 4 has no width
REFS = [ref(1, 1, 110, "man on left"), ref(10, 3, 220, "grey lady", split="testA"), ref(4, 6, 330, "right person")]


def split_rows(rows):
    """Rows about somebody, and those about everybody, by the id of their picture."""
    everybody = {row["image_id"]: row for row in rows if row["text"] == "Everybody"}
    return [row for row in rows if row["text"] != "Everybody"], everybody


def sound(folder):
    """Every file in a folder is, and every row about one person knows who else is there; gives the files' names."""
    for path in folder.glob("*.tsv"):
        assert validate(path).faults == 0, validate(path).first
        data = ReferringDataset(path, "person", masks=True)
        for row in range(len(data)):
            _, answer, _ = data[row]
            for one in (answer,) if answer.people is None else answer.people:
                assert one.others is not None and not (one.others & one.mask).all()
    return sorted(path.stem for path in folder.glob("*.tsv"))


# -- COCO's annotations ---------------------------------------------------------------------------------
def refcoco_tree(root, annotations=WITHOUT_CROWDS, refs=REFS):
    tree = make_tree(root, refs=refs)
    (tree / "refcoco" / "instances.json").write_text(json.dumps(coco(annotations)))
    return tree


def test_everybody_is_all_people_of_the_picture(tmp_path):
    tree = refcoco_tree(tmp_path / "s")
    plain, before = convert("refcoco", tree, tmp_path / "before")
    report, rows = convert("refcoco", tree, tmp_path / "out", everybody=True)
    for split, found in rows.items():
        somebody, everybody = split_rows(found)
        assert somebody == before[split] and set(everybody) == {row["image_id"] for row in somebody}
    _, train = split_rows(rows["train"])
    assert train["110"]["box"] == "5.25,5,25.25,35|30,10,42,22" and train["110"]["area"] == "599.5|143.5"
    assert train["110"]["id"] == "refcoco:everybody:train:110" and train["110"]["mask"].count("|") == 1
    assert train["330"]["box"].count("|") == 0  # a dog is nobody
    counts, fewer = report.counts()["train"], plain.counts()["train"]
    assert counts["everybody"] == 2 and {**counts, "everybody": 0, "rows": counts["rows"] - 2} == fewer
    assert sound(tmp_path / "out") == ["testA", "train"]


def test_a_picture_with_a_crowd_or_somebody_unreadable_is_left_out(tmp_path):
    tree = refcoco_tree(tmp_path / "s", ANNOTATIONS)
    report, rows = convert("refcoco", tree, tmp_path / "out", everybody=True)
    assert set(split_rows(rows["train"])[1]) == {"330"} and not split_rows(rows["testA"])[1]
    unreadable = "not everybody can be listed: the box has no width or height"
    assert report.skipped == {
        "not everybody is listed: some of the people are annotated as a crowd": 1, unreadable: 1
    }  # fmt: skip
    assert report.examples[unreadable] == ["everybody in picture 220"]


def test_a_picture_in_two_splits_has_a_row_in_each(tmp_path):
    refs = [ref(1, 1, 110, "man"), ref(2, 2, 110, "kid", split="val")]
    _, rows = convert("refcoco", refcoco_tree(tmp_path / "s", refs=refs), tmp_path / "out", everybody=True)
    assert {split: [row["id"] for row in found][-1] for split, found in rows.items()} == {
        split: f"refcoco:everybody:{split}:110" for split in ("train", "val")
    }  # fmt: skip
    assert sound(tmp_path / "out") == ["train", "val"]


def test_keypoints_of_everybody(tmp_path):
    tree = refcoco_tree(tmp_path / "s")
    _, rows = convert("refpose", tree, tmp_path / "out", module="refcoco", everybody=True)
    somebody, everybody = split_rows(rows["train"])
    one, other = everybody["110"]["keypoints"].split("|")
    assert one == somebody[0]["keypoints"] and set(other.split(",")) == {"0"}


@pytest.mark.parametrize("pictures", ["link", "embed"])
def test_expressions_for_nobody_have_everybody_beside_them(tmp_path, pictures):
    tree = refcoco_tree(tmp_path / "s")
    (tree / "grefcoco").mkdir()
    (tree / "refcoco" / "instances.json").rename(tree / "grefcoco" / "instances.json")
    grefs = [ref(1, [-1], 110, "nobody", category=[-1]), ref(2, [1, 2], 110, "both", category=[1, 1])]
    (tree / "grefcoco" / "grefs(unc).json").write_text(json.dumps(grefs))
    report, rows = convert("grefcoco", tree, tmp_path / "out", pictures=pictures, everybody=True)
    (nobody, both), everybody = split_rows(rows["train"])
    assert nobody["box"] == "" and everybody["110"]["box"] == both["box"] and everybody["110"]["image"] == both["image"]
    counts = report.counts()["train"]
    assert (counts["nobody"], counts["several"], counts["regions"], counts["everybody"]) == (1, 1, 0, 1)
    assert sound(tmp_path / "out") == ["train"]


def test_people_without_labelled_joints_are_somebody(tmp_path):
    source = tmp_path / "coco"
    save_images(source / "train2014")
    (source / "annotations").mkdir()
    crowd = thing(CROWD, 330, [0, 0, 60, 40], [], iscrowd=1, keypoints=points(), num_keypoints=0)
    content = json.dumps(coco([*people(), crowd]))
    (source / "annotations" / "person_keypoints_train2014.json").write_text(content)
    report, rows = convert("coco-keypoints", source, tmp_path / "out", module="coco_keypoints", everybody=True)
    somebody, everybody = split_rows(rows["train"])
    assert set(everybody) == {"110", "220", "440"}
    assert everybody["110"]["keypoints"] == somebody[0]["keypoints"] + "|"  # the second one's are not known
    assert report.skipped["not everybody is listed: some of the people are annotated as a crowd"] == 1


def test_humar_may_take_its_instances_for_everybody(tmp_path):
    other = instance(2, bbox=[20, 3, 30, 22], segmentation=[[20, 3, 40, 3, 40, 25]])
    refs = [humar_ref(1, [1]), humar_ref(2, [-1], "val")]
    tree = save_humar(tmp_path / "s", refs, [instance(1), other, instance(3, image_id=7)])
    _, rows = convert("humar", tree, tmp_path / "out", everybody=True)
    (everybody,) = split_rows(rows["val"])[1].values()
    assert everybody["box"] == "4,3,20,25|20,3,40,25" and everybody["keypoints"].count("5,6,2") == 2
    assert sound(tmp_path / "out") == ["train", "val"]


@pytest.mark.parametrize("prompt", ["text", "scribble"])
def test_refhuman_needs_coco_to_know_everybody(tmp_path, prompt):
    tree = save_refhuman(tmp_path / "s", [entry(1), entry(2, "man")], [annotation(1), annotation(2)])
    other = annotation(2, image_id=139, bbox=[21, 1, 9, 9], segmentation=[[21, 1, 30, 1, 30, 9]])
    del other["keypoints"]
    for at, one in enumerate([annotation(1, image_id=139), other]):
        (tmp_path / f"{at}.json").write_text(json.dumps({"images": [], "annotations": [one]}))
    instances = ",".join(str(tmp_path / f"{at}.json") for at in (0, 1))
    _, rows = convert("refhuman", tree, tmp_path / "out", prompt=prompt, instances=instances)
    somebody, everybody = split_rows(rows["val"])
    assert len(somebody) == 2 and everybody["139"]["box"] == "4,3,20.5,25|21,1,30,10"
    assert everybody["139"]["keypoints"] == somebody[0]["keypoints"] + "|"
    assert sound(tmp_path / "out") == ["val"]


# -- other sources --------------------------------------------------------------------------------------
def test_cihp_knows_everybody_whether_they_have_rows_or_not(tmp_path):
    tree = save_cihp(tmp_path / "instance-level_human_parsing")
    categories, humans = labels()
    save_labels(tree / "Training" / "Category_ids" / "0000007.png", np.where(humans == 1, 0, categories))
    report, rows = convert("cihp", tree, tmp_path / "out", everybody=True)
    somebody, everybody = split_rows(rows["train"])
    assert everybody["cihp:0000006"]["parts"] == "|".join(row["parts"] for row in somebody[:2])
    assert everybody["cihp:0000007"]["parts"] == "|" + somebody[2]["parts"] and len(somebody) == 3
    for row in everybody.values():
        assert [decode_mask(mask, (40, 30)).tolist() for mask in row["mask"].split("|")] == [
            (humans == number).tolist() for number in (1, 2)
        ]  # fmt: skip
    assert report.counts()["train"]["everybody"] == 2 and sound(tmp_path / "out") == ["train", "val"]
    (tmp_path / "c.json").write_text(json.dumps({"0000008_0": ["a man"]}))
    _, rows = convert("rhrc", tree, tmp_path / "rhrc", module="cihp", captions=str(tmp_path / "c.json"), everybody=True)
    assert [(row["text"], row["box"].count("|")) for row in rows["val"]] == [("None", 0), ("Everybody", 1)]


def test_the_lines_of_a_picture_may_name_everybody_in_it(tmp_path):
    for at, picture in enumerate("abc"):
        save_picture(tmp_path / "s" / f"{picture}.png", shade=60 * at)
    lines = [
        {"image": "a.png", "text": "right man", "box": [22, 3, 38, 25], "keypoints": [[25, 6, 2]] + [[0, 0, 0]] * 16},
        {"image": "a.png", "text": "left man", "mask": [[4, 3, 20, 3, 20, 25, 4, 25]]},
        {"image": "a.png", "text": "right", "box": [22, 3, 38, 25], "mask": [[22, 3, 38, 3, 38, 25, 22, 25]]},
        {"image": "b.png", "text": "somebody", "box": [4, 3, 20, 25]},
        {"image": "b.png", "text": "wrong", "box": [4, 3, 2, 25]},
        {"image": "c.png", "text": "Everybody", "box": []},
    ]
    (tmp_path / "s" / "people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report, rows = convert("own", tmp_path / "s", tmp_path / "out", everybody=True)
    somebody, everybody = split_rows(rows["train"])
    first, empty = everybody.values()
    assert len(somebody) == 5 and first["box"] == "4,3,20,25|22,3,38,25" and empty["box"] == ""
    assert first["mask"].split("|") == [somebody[1]["mask"], somebody[2]["mask"]]
    assert first["keypoints"] == "|" + somebody[0]["keypoints"]
    assert report.skipped["not everybody is listed: other lines about the picture cannot be used"] == 1
    assert validate(tmp_path / "out" / "train.tsv").faults == 0
