"""RefCOCO and its relatives, from the official layout to training samples; pickles are read and never run."""

import copyreg
import json
import pickle

import coco_tree
import numpy as np
import pytest
from coco_tree import CROWD, REFS, coco, make_tree, people, points, python2_pickle, ref, save_images, thing
from converted import convert, numbers
from letters import Letters

from refhcm import tasks
from refhcm.data.converters.refs import read_plain_pickle, read_refs
from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.masks import mask_area
from refhcm.data.samples import collate
from refhcm.data.validate import validate
from refhcm.data.vocabulary import Vocabulary
from refhcm.errors import RefHCMError


def refcoco(source, out, **options):
    return convert(options.pop("name", "refcoco"), source, out, module="refcoco", **options)


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "source")


# -- rows -----------------------------------------------------------------------------------------------
def test_expressions_for_people_become_rows(tree, tmp_path):
    report, rows = refcoco(tree, tmp_path / "out")
    assert {split: [row["id"] for row in found] for split, found in rows.items()} == {
        "train": ["refcoco:1:0", "refcoco:1:1", "refcoco:2:0", "refcoco:8:0"],
        "testA": ["refcoco:4:0", "refcoco:10:0"],
        "val": ["refcoco:7:0"],
    }
    first = rows["train"][0]
    assert (first["image_id"], first["text"]) == ("110", "man on left")
    assert first["box"] == "5.25,5,25.25,35" and first["area"] == "599.5" and first["keypoints"] == ""
    assert rows["train"][1]["text"] == "café waiter"
    assert mask_area(rows["train"][2]["mask"], (60, 40)) == 64 + 64 - 16  # the union, not the sum
    assert mask_area(rows["train"][3]["mask"], (60, 40)) == 300
    assert numbers(rows["testA"][0]["box"]) == [40, 0, 64, 38.5]  # cut at the edges
    assert rows["val"][0]["image"] == "images/000000000440.jpg"
    assert report.skipped == {
        "the sentence is empty": 1, "it is not about a person": 1, "the box has no width or height": 1,
        "the picture is missing": 1, "its annotation is of another picture": 1,
    }  # fmt: skip
    assert report.examples["the sentence is empty"] == ["ref 1:2"]


@pytest.mark.parametrize("segmentation", [
    [[1, 1, 2, 2]], [coco_tree.rectangle(900, 900, 5, 5)], ["a"], {"size": [40, 60], "counts": "zz"}, 7,
    {"size": [40, 60], "counts": [2400]}, {"size": [60, 40], "counts": [100, 300, 2000]},
])  # fmt: skip
def test_a_mask_that_cannot_be_used_leaves_the_row_and_is_counted(tmp_path, monkeypatch, segmentation):
    """Outlines and run lengths alike; people who are left out for another reason are not counted."""
    changed = [
        {**entry, "segmentation": segmentation} if entry["id"] in (1, 4) else entry for entry in coco_tree.ANNOTATIONS
    ]
    monkeypatch.setattr(coco_tree, "ANNOTATIONS", changed)
    report, rows = refcoco(make_tree(tmp_path / "source"), tmp_path / "out")
    assert [row["mask"] for row in rows["train"][:2]] == ["", ""] and rows["train"][2]["mask"]
    assert report.skipped.total() == 5
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["written_without"] == {"mask": {"count": 1, "first": ["annotation 1"]}}
    assert "masks that cannot be used, without which rows are written: 1 (annotation 1)" in report.table()
    assert validate(tmp_path / "out" / "train.tsv").faults == 0


def test_a_person_without_an_outline_has_lost_none(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_tree, "ANNOTATIONS", [{**entry, "segmentation": []} for entry in coco_tree.ANNOTATIONS])
    report, rows = refcoco(make_tree(tmp_path / "source"), tmp_path / "out")
    assert not report.lost and not any(row["mask"] for row in rows["train"])


def test_the_report_compares_with_the_official_numbers(tree, tmp_path):
    report, _ = refcoco(tree, tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["found_in_source"]["train"] == {"refs": 7, "expressions": 9, "pictures": 4}
    assert saved["official"]["train"] == {"refs": 42404, "pictures": 16994, "expressions": 120624}
    assert saved["written"]["train"]["rows"] == 4 and saved["skipped"]["total"] == 5
    assert "7 refs (OFFICIAL: 42,404)" in report.table() and "left out: 5" in report.table()


def test_other_things_and_raw_words_on_request(tree, tmp_path):
    _, rows = refcoco(tree, tmp_path / "out", all_categories=True, text="raw")
    assert [row["text"] for row in rows["train"]] == [
        "MAN ON LEFT", "CAFÉ WAITER", "THE KID W/ CAP", "A DOG", "THE CROWD"
    ]  # fmt: skip


@pytest.mark.parametrize("name, dataset, by", [
    ("refcoco+", "refcoco+", "unc"), ("refcocog", "refcocog", "umd"), ("refcocog", "refcocog", "google"),
])  # fmt: skip
def test_every_set_and_partition(tmp_path, name, dataset, by):
    tree = make_tree(tmp_path / "source", dataset, by)
    report, rows = refcoco(tree, tmp_path / "out", name=name, split_by=by)
    assert rows["testA"][0]["id"] == f"{name}:4:0"
    assert report.official["train"]["refs"] == {"unc": 42278, "umd": 42226, "google": 44822}[by]


@pytest.mark.parametrize("pictures", ["link", "copy", "embed"])
def test_converted_sets_are_sound_and_train(tree, tmp_path, pictures):
    out = tmp_path / "out"
    _, rows = refcoco(tree, out, name="refpose", pictures=pictures)
    assert (out / "images").is_symlink() == (pictures == "link") and (out / "images").exists() == (pictures != "embed")
    vocabulary = Vocabulary(Letters(), num_codes=96, num_bins=100, mark_start=40)
    for split, found in rows.items():
        path = out / f"{split}.tsv"
        checked = validate(path)
        assert (checked.kind, checked.rows, checked.faults) == ("person", len(found), 0), checked.first
        data = ReferringDataset(path, "person", masks=True)
        for row in range(len(data)):
            _, answer, image = data[row]
            assert image.mode == "RGB" and answer.mask.shape == image.size[::-1]
        samples = SampleDataset(data, [tasks.build(name, vocabulary) for name in ("rec", "rkpt")], 16, grouped=4)
        batch = collate(samples[i] for i in range(len(samples)))
        assert batch["nsentences"] == 2 * len(found)


# -- keypoints ------------------------------------------------------------------------------------------
def test_keypoints_are_joined_by_annotation_and_keep_their_visibility(tree, tmp_path):
    report, rows = refcoco(tree, tmp_path / "out", name="refpose")
    assert [row["id"] for row in rows["train"]] == ["refpose:1:0", "refpose:1:1", "refpose:2:0"]
    found = np.array(numbers(rows["train"][0]["keypoints"])).reshape(17, 3)
    assert found[0].tolist() == [10, 8, 2] and found[5].tolist() == [9, 20, 1] and not found[6:].any()
    assert set(rows["train"][2]["keypoints"].split(",")) == {"0"}  # nobody labelled any
    assert rows["testA"][0]["keypoints"].endswith("20,45,1,0,0,0")  # outside the box, and kept
    assert report.examples["the annotation is not in person_keypoints_train2014.json"] == ["ref 5", "ref 8"]
    report, rows = refcoco(tree, tmp_path / "more", name="refpose", labelled_only=True)
    assert [row["id"] for row in rows["train"]] == ["refpose:1:0", "refpose:1:1"]
    assert report.skipped["no keypoint is labelled"] == 1


# -- gRefCOCO -------------------------------------------------------------------------------------------
GREFS = [
    ref(1, [1, 2], 110, "both", category=[1, 1], no_target=False),
    ref(2, [-1], 110, "nobody", category=[-1], no_target=True),
    ref(3, 1, 110, "one, as a number"),
    ref(4, -1, 110, "nobody, as a number", category=-1),
    ref(5, [2, CROWD, 2], 110, "one and a crowd", category=[1, 1, 1], no_target=False),
    ref(6, [CROWD], 110, "crowd only", category=[1]),
    ref(7, [5, 6], 330, "dog and man", category=[18, 1]),
    ref(8, [1], 110, "contradiction", category=[1], no_target=True),
    ref(9, ["1"], 110, "text", category=[1]),
    ref(10, [1, 3], 110, "of two photos", category=[1, 1]),
]


def test_expressions_may_mean_several_or_nobody(tree, tmp_path):
    (tree / "grefcoco").mkdir()
    (tree / "grefcoco" / "grefs(unc).json").write_text(json.dumps(GREFS))
    (tree / "refcoco" / "instances.json").rename(tree / "grefcoco" / "instances.json")
    report, rows = convert("grefcoco", tree, tmp_path / "out")
    assert {row["text"]: row["box"].count("|") + 1 if row["box"] else 0 for row in rows["train"]} == {
        "both": 2, "nobody": 0, "one, as a number": 1, "nobody, as a number": 0, "one and a crowd": 1,
    }  # fmt: skip
    assert rows["train"][0]["area"] == "599.5|143.5" and rows["train"][0]["mask"].count("|") == 1
    assert report.skipped == {
        "it means crowds only": 1, "it means other things than people": 1, "no_target contradicts ann_id": 1,
        "an id is not a whole number": 1, "one of its annotations is of another picture": 1,
    }  # fmt: skip
    assert report.counts()["train"]["nobody"] == 2 and report.counts()["train"]["several"] == 1
    assert validate(tmp_path / "out" / "train.tsv").faults == 0
    data = ReferringDataset(tmp_path / "out" / "train.tsv", "person", masks=True)
    assert data.usable(["text", "box"]).tolist() == [2, 4]
    assert [len(data[i][1].people) for i in (0, 1)] == [2, 0] and data[0][1].people[1].mask.sum() == 112
    _, rows = convert("grefcoco", tree, tmp_path / "all", all_categories=True)
    assert "dog and man" in [row["text"] for row in rows["train"]]


# -- COCO's people --------------------------------------------------------------------------------------
def test_plain_coco_with_expressions_of_ones_own(tmp_path):
    source = tmp_path / "coco"
    save_images(source / "train2014")
    (source / "annotations").mkdir()
    dog = thing(9, 330, [1, 1, 9, 9], keypoints=points((0, 2, 2, 2)), num_keypoints=1, category=18)
    crowd = thing(CROWD, 110, [0, 0, 60, 40], [], iscrowd=1, keypoints=points(), num_keypoints=0)
    content = coco([*people(), dog, crowd])
    (source / "annotations" / "person_keypoints_train2014.json").write_text(json.dumps(content))
    (tmp_path / "words.csv").write_text('id,text\n1,"the waiter, left"\n1,man\n2,the child\n99,nobody\n')
    (tmp_path / "captions.json").write_text(json.dumps({"3": ["a grey lady"]}))
    words = {"expressions": str(tmp_path / "words.csv"), "captions": str(tmp_path / "captions.json")}
    report, rows = convert("coco-keypoints", source, tmp_path / "out", module="coco_keypoints", **words)
    assert [(row["id"], row["text"], bool(row["keypoints"]), row["captions"]) for row in rows["train"]] == [
        ("coco:1:0", "the waiter, left", True, ""), ("coco:1:1", "man", True, ""),
        ("coco:2:0", "the child", False, ""), ("coco:3:region", "None", True, "a grey lady"),
        ("coco:6:region", "None", True, ""), ("coco:7:region", "None", True, ""),
    ]  # fmt: skip
    assert report.skipped == {
        "it is not a person": 1, "it is a crowd, not a person": 1, "no annotation has the id of this expression": 1
    }  # fmt: skip
    assert validate(tmp_path / "out" / "train.tsv").faults == 0
    report, rows = convert("coco-keypoints", source, tmp_path / "bare", module="coco_keypoints")
    assert [row["id"] for row in rows["train"]] == [f"coco:{n}:region" for n in (1, 3, 6, 7)]
    assert report.skipped["there is nothing to ask: no keypoint is labelled, and there are no words"] == 1


# -- what goes wrong ------------------------------------------------------------------------------------
def test_a_source_of_another_layout_is_named(tree, tmp_path):
    with pytest.raises(RefHCMError, match=r"There is no refcoco\+/refs\(unc\)\.p or .*--source is the folder refco"):
        refcoco(tree, tmp_path / "out", name="refcoco+")
    with pytest.raises(RefHCMError, match="There is nothing at"):
        refcoco(tree / "none", tmp_path / "out")
    with pytest.raises(RefHCMError, match=r"gave no rows \(.*1 times it is not about a person.*\): check --source"):
        refcoco(tree, tmp_path / "out", images=tree / "refcoco")
    assert not list((tmp_path / "out").glob("*.tsv*"))


@pytest.mark.parametrize("content, said", [
    ("[]", "holds list where an object is expected"),
    ('{"images": []}', "no list of annotations"),
    ('{"images": [{"id": "1"}], "annotations": []}', "entry 0 of images has no whole number"),
    ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "the id 1 twice"),
    ('{"images": [NaN], "annotations": []}', "NaN is no JSON number"),
    ("[" * 100000, "nested too deeply"),
    ('{"images"', "is not JSON"),
])  # fmt: skip
def test_damaged_annotations_are_one_sentence(tree, tmp_path, content, said):
    (tree / "refcoco" / "instances.json").write_text(content)
    with pytest.raises(RefHCMError, match=said):
        refcoco(tree, tmp_path / "out")


def test_names_in_the_source_cannot_leave_its_folder(tree, tmp_path):
    content = json.loads((tree / "refcoco" / "instances.json").read_text())
    names = ("../../secret.jpg", "/etc/x.jpg", "a\0b.jpg", "..\\x.jpg", "")
    for entry, wrong in zip(content["images"], names, strict=True):
        entry["file_name"] = wrong
    (tree / "secret.jpg").write_bytes((tree / "images/train2014/000000000440.jpg").read_bytes())
    (tree / "refcoco" / "instances.json").write_text(json.dumps(content))
    _, rows = refcoco(tree, tmp_path / "out", images=tree / "images" / "train2014")
    assert all(row["image"].startswith("images/") and ".." not in row["image"] for row in rows["train"])


# -- pickles --------------------------------------------------------------------------------------------
class Attack:
    """What a pickle can do when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Plain:
    """Something else than data."""

    def __init__(self):
        self.value = 1


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_with_a_call_is_refused_and_not_run(tmp_path, protocol):
    path, mark = tmp_path / "refs(unc).p", tmp_path / "mark"
    for content in ([Attack(mark)], {"a": [1, Attack(mark)]}, [Plain()], Plain, [np.zeros(2)], [{1, 2}], [1 + 2j]):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(RefHCMError, match=r"holds more than data \(the pickle instruction [A-Z_0-9]+\)"):
            read_refs(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [
    b"cos\nsystem\n(S'touch mark'\ntR.",
    b"(S'touch mark'\nios\nsystem\n.",
    b"(cos\nsystem\nS'touch mark'\no.",
    b"\x80\x02c__builtin__\neval\n(U\x041+1 tR.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    b"\x80\x02]q\x00}b.",
    b"\x80\x02\x82\x01.",
    b"Pid\n.",
    b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
])  # fmt: skip
def test_instructions_that_do_more_than_build_data_are_refused(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("os", "system", 1)
    try:
        (tmp_path / "refs.p").write_bytes(content)
        with pytest.raises(RefHCMError, match="holds more than data"):
            read_plain_pickle(tmp_path / "refs.p")
    finally:
        copyreg.remove_extension("os", "system", 1)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [
    b"", b"x", b"(lp0", b"]r\xff\xff\xff\xff", b"\x80\x63.", b"T\xff\xff\xff\x7fabc", b"S'\xff'\n", b"a.", b"h\x05.",
    b"\xff\xfe", b"S'abc\n.", b"Ixyz\n.", b"L" + b"9" * 9999 + b"L\n.",
])  # fmt: skip
def test_damaged_pickles_are_one_sentence(tmp_path, content):
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(RefHCMError, match=r"refs\.p (is no pickle|is no list)"):
        read_refs(tmp_path / "refs.p")


def test_a_large_memo_number_costs_nothing(tmp_path):
    (tmp_path / "refs.p").write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    assert read_refs(tmp_path / "refs.p") == []


@pytest.mark.parametrize("protocol", [None, *range(6)])
def test_plain_data_are_read_in_every_protocol(tmp_path, protocol):
    content = python2_pickle(REFS) if protocol is None else pickle.dumps(REFS, protocol)
    (tmp_path / "refs.p").write_bytes(content)
    assert read_refs(tmp_path / "refs.p") == REFS


def test_texts_of_python_2_are_utf_8_or_else_latin_1(tmp_path):
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "refs.p").write_bytes(python2_pickle([{"sent": "café"}], encoding))
        assert read_refs(tmp_path / "refs.p") == [{"sent": "café"}]
    (tmp_path / "refs.p").write_bytes(b"\x80\x02]U\x05caf\xc3\xa9a.")
    assert read_plain_pickle(tmp_path / "refs.p") == ["café"]


def test_what_is_no_list_of_references_is_refused(tmp_path):
    (tmp_path / "refs.p").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "refs.json").write_text("[1]")
    for name in ("refs.p", "refs.json"):
        with pytest.raises(RefHCMError, match="no list of references"):
            read_refs(tmp_path / name)
