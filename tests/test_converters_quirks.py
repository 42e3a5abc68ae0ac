"""What real downloads hold besides the expected, and anything else: a converter refuses it in a sentence or writes
files in which `refhcm validate` finds nothing wrong."""

import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path

import coco_tree
import numpy as np
import pytest
import test_converters_humar as humar
import test_converters_refhuman as refhuman
from coco_tree import ANNOTATIONS, CROWD, REFS, coco, make_tree, people, points, python2_pickle, ref, thing
from converted import NONSENSE, convert, numbers, save_labels, save_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_converters_refcoco import GREFS

from refhcm.data.dataset import ReferringDataset
from refhcm.data.leakage import find_leaks, open_file
from refhcm.data.masks import decode_mask
from refhcm.data.validate import validate
from refhcm.errors import RefHCMError


def refcoco(source, out, name="refcoco", **options):
    return convert(name, source, out, module="refcoco", **options)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# -- whatever may stand in a source ---------------------------------------------------------------------------
ODD = NONSENSE | st.sampled_from([
    "a\tb\nc", "a\0b", "None", "été", "\u2028", "[1, 2]", "a&&b", "|", ";", -1, [1, -1], [[1, 1, 5, 1, 5, 5]],
    [[100, 100, 200, 100, 200, 200]], {"counts": [2400], "size": [40, 60]}, [5, 5, 1e-9, 5], [1000, 1000, 5, 5],
    [70, 70, 2] * 17, [-5, 3, 1] * 17,
])  # fmt: skip


def spots(node, path=()):
    """Ways to every entry of nested lists and dicts."""
    if path:
        yield path
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield from spots(node[key], (*path, key))


def changed(node, data):
    """A copy in which one entry is missing or something else."""
    node = copy.deepcopy(node)
    path = data.draw(st.sampled_from(list(spots(node))))
    at = node
    for key in path[:-1]:
        at = at[key]
    if data.draw(st.integers(0, 5)):
        at[path[-1]] = data.draw(ODD)
    else:
        del at[path[-1]]
    return node


def odd_refcoco(data, source, name):
    make_tree(source)
    files = {
        "refcoco/refs(unc).json": REFS, "refcoco/instances.json": coco(ANNOTATIONS),
        "annotations/person_keypoints_train2014.json": coco(people()),
    }  # fmt: skip
    odd = data.draw(st.sampled_from(sorted(files)))
    (source / "refcoco" / "refs(unc).p").unlink()
    for file, content in files.items():
        put(source / file, changed(content, data) if file == odd else content)
    return convert(name, source, source / "out", module="refcoco")


def odd_grefcoco(data, source, name):
    make_tree(source)
    refs = data.draw(st.booleans())
    put(source / "grefcoco" / "grefs(unc).json", changed(GREFS, data) if refs else GREFS)
    put(source / "grefcoco" / "instances.json", coco(ANNOTATIONS) if refs else changed(coco(ANNOTATIONS), data))
    return convert(name, source, source / "out", all_categories=data.draw(st.booleans()))


def odd_coco(data, source, name):
    coco_tree.save_images(source / "train2014")
    put(source / "annotations" / "person_keypoints_train2014.json", changed(coco(people()), data))
    put(source / "words.json", changed({"1": ["the waiter", "man"], "2": ["a child"]}, data))
    words = {"expressions": str(source / "words.json"), "captions": str(source / "words.json")}
    return convert(name, source, source / "out", module="coco_keypoints", **words)


def odd_humar(data, source, name):
    refs = [humar.ref(1, [1]), humar.ref(2, [1, 2], "val"), humar.ref(3, [-1], no_target=True)]
    instances = [humar.instance(1), humar.instance(2)]
    odd = data.draw(st.booleans())
    humar.save_tree(source, changed(refs, data) if odd else refs, instances if odd else changed(instances, data))
    return convert(name, source, source / "out")


def odd_refhuman(data, source, name):
    images, annotations = [refhuman.entry(1), refhuman.entry(2)], [refhuman.annotation(1), refhuman.annotation(2)]
    odd = data.draw(st.booleans())
    images, annotations = (changed(images, data), annotations) if odd else (images, changed(annotations, data))
    refhuman.save_tree(source, images, annotations)
    return convert(name, source, source / "out", prompt=data.draw(st.sampled_from(["text", "point", "scribble"])))


MAKERS = {
    "refcoco": odd_refcoco, "refpose": odd_refcoco, "grefcoco": odd_grefcoco, "coco-keypoints": odd_coco,
    "humar": odd_humar, "refhuman": odd_refhuman,
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
@given(st.data())
@settings(max_examples=12)
def test_odd_sources_are_refused_or_give_files_without_fault(name, data):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        with contextlib.suppress(RefHCMError):  # a sentence is an answer as well; any other error is none
            _, rows = MAKERS[name](data, source, name)
            for split in rows:
                found = validate(source / "out" / f"{split}.tsv")
                assert found.faults == 0, found.first


# -- RefCOCO --------------------------------------------------------------------------------------------------
def test_masks_boxes_and_areas_are_those_of_the_official_library(tmp_path):
    from pycocotools.coco import COCO

    tree = make_tree(tmp_path / "source")
    _, rows = refcoco(tree, tmp_path / "out", all_categories=True)
    with contextlib.redirect_stdout(io.StringIO()):
        library = COCO(str(tree / "refcoco" / "instances.json"))
    by_ref = {entry["ref_id"]: entry["ann_id"] for entry in REFS}
    seen = set()
    for row in (row for found in rows.values() for row in found):
        annotation = library.anns[by_ref[int(row["id"].split(":")[1])]]
        image = library.imgs[annotation["image_id"]]
        size = image["width"], image["height"]
        assert np.array_equal(decode_mask(row["mask"], size), library.annToMask(annotation) > 0)
        x, y, width, height = annotation["bbox"]
        corners = np.clip([x, y, x + width, y + height], 0, [*size, *size])
        assert numbers(row["box"]) == corners.tolist() and float(row["area"]) == annotation["area"]
        seen.add(annotation["id"])
    assert CROWD in seen and len(seen) == 7


def test_a_photo_that_viewers_turn_keeps_its_stored_pixels(tmp_path):
    tree = make_tree(tmp_path / "source")
    exif = Image.Exif()
    exif[0x0112] = 6
    save_picture(tree / coco_tree.TRAIN / coco_tree.name(110), (60, 40), exif=exif)
    _, rows = refcoco(tree, tmp_path / "out", pictures="copy")
    assert rows["train"][0]["box"] == "5.25,5,25.25,35"
    question, _, image = ReferringDataset(tmp_path / "out" / "train.tsv", "person")[0]
    assert question.size == image.size == (60, 40)


TEXTS = {
    "the\tman\nin  red\r\n": "the man in red", "a\0b": "a b", "None": "none", "naïve 日本 – “x”": "naïve 日本 – “x”",
    "lt guy w/ grn shirt": "lt guy w/ grn shirt", "\u2028left\u00a0man ": "left man", '"quoted"': '"quoted"',
}  # fmt: skip


@pytest.mark.parametrize("form", ["python2", "json"])
def test_words_come_through_whole_on_one_line(tmp_path, form):
    tree = make_tree(tmp_path / "source")
    refs = [ref(1, 1, 110, *TEXTS)]
    (tree / "refcoco" / "refs(unc).p").unlink()
    content = python2_pickle(refs) if form == "python2" else json.dumps(refs).encode()
    (tree / "refcoco" / f"refs(unc).{'p' if form == 'python2' else 'json'}").write_bytes(content)
    _, rows = refcoco(tree, tmp_path / "out")
    assert [row["text"] for row in rows["train"]] == list(TEXTS.values())
    data = ReferringDataset(tmp_path / "out" / "train.tsv", "person")
    assert [data[row][0].text for row in range(len(data))] == list(TEXTS.values())


def test_files_with_the_least_that_is_needed_convert(tmp_path):
    """Some tools drop info, licences, categories, and fields that nobody uses."""
    tree = make_tree(tmp_path / "source")
    kept = ("id", "image_id", "bbox", "category_id")
    content = {
        "images": [{key: entry[key] for key in ("id", "file_name")} for entry in coco([])["images"]],
        "annotations": [{key: entry[key] for key in kept} for entry in ANNOTATIONS],
    }
    put(tree / "refcoco" / "instances.json", content)
    _, rows = refcoco(tree, tmp_path / "out")
    assert rows["train"][0]["mask"] == "" and rows["train"][0]["area"] == "" and len(rows["train"]) == 4


@pytest.mark.parametrize(
    "place", ["COCO_val2014_{}.jpg", "val2014/COCO_val2014_{}.jpg", "train2017/{}.jpg", "val2017/{}.jpg"]
)
def test_a_photo_is_found_by_its_id_in_whatever_release_it_lies(tmp_path, place):
    tree = make_tree(tmp_path / "source")
    photos = tmp_path / "photos"
    save_picture(photos / place.format(f"{110:012d}"), (60, 40))
    _, rows = refcoco(tree, tmp_path / "out", images=photos)
    assert {row["image_id"] for row in rows["train"]} == {"110"} and len(rows["train"]) == 4
    assert rows["train"][0]["image"] == f"images/{place.format(f'{110:012d}')}"


@pytest.mark.parametrize("dataset, by, splits", [
    ("refcoco", "google", ("train", "val", "test")), ("refcocog", "google", ("train", "val")),
    ("refcocog", "umd", ("train", "val", "test")), ("refcoco+", "unc", ("train", "val", "testA", "testB")),
])  # fmt: skip
def test_splits_keep_their_names(tmp_path, dataset, by, splits):
    refs = [ref(number, 1, 110, f"man {split}", split=split) for number, split in enumerate(splits, 1)]
    tree = make_tree(tmp_path / "source", dataset, by, refs)
    _, rows = refcoco(tree, tmp_path / "out", name=dataset, split_by=by)
    assert list(rows) == list(splits)
    shared = find_leaks([open_file(tmp_path / "out" / "train.tsv")], [open_file(tmp_path / "out" / "val.tsv")])
    assert shared[0].rows == [0]  # one photo in train and val, as google's partition of RefCOCOg has them


def test_labels_in_other_places_than_the_picture_or_the_box_are_counted(tmp_path):
    tree = make_tree(tmp_path / "source")
    annotations = copy.deepcopy(ANNOTATIONS)
    annotations[1] = thing(2, 110, [30, 10, 12, 12], [coco_tree.rectangle(0, 30, 9, 9)])
    put(tree / "refcoco" / "instances.json", coco(annotations))
    entries = people()
    entries[0]["keypoints"] = points((0, 10, 8, 2), (5, 90, 20, 1))
    put(tree / "annotations" / "person_keypoints_train2014.json", coco(entries))
    report, _ = refcoco(tree, tmp_path / "out", name="refpose")
    assert report.examples["a labelled keypoint lies outside the picture"] == ["ref 1"]
    assert report.examples["the mask lies outside the box"] == ["ref 2"]


# -- gRefCOCO -------------------------------------------------------------------------------------------------
def test_grefs_may_be_a_pickle(tmp_path):
    tree = make_tree(tmp_path / "source")
    (tree / "refcoco").rename(tree / "grefcoco")
    (tree / "grefcoco" / "grefs(unc).p").write_bytes(python2_pickle(GREFS[:2]))
    _, rows = convert("grefcoco", tree, tmp_path / "out")
    assert [row["text"] for row in rows["train"]] == ["both", "nobody"]


def test_a_category_that_is_none_is_no_person(tmp_path):
    tree = make_tree(tmp_path / "source")
    put(tree / "grefcoco" / "grefs(unc).json", GREFS[:2])
    annotations = copy.deepcopy(ANNOTATIONS)
    annotations[0]["category_id"] = [1]
    put(tree / "grefcoco" / "instances.json", coco(annotations))
    report, rows = convert("grefcoco", tree, tmp_path / "out")
    assert len(rows["train"]) == 1 and report.skipped == {"it means other things than people": 1}


# -- CIHP -----------------------------------------------------------------------------------------------------
def test_numbers_of_people_need_not_follow_each_other(tmp_path):
    categories, humans = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    categories[5:20, 4:12], humans[5:20, 4:12] = 5, 2
    categories[5:20, 20:30], humans[5:20, 20:30] = 13, 12
    categories[6, 5] = 255  # not scored, as padding is
    folder = tmp_path / "source" / "Validation"
    save_picture(folder / "Images" / "0000008.jpg", (40, 30))
    save_labels(folder / "Category_ids" / "0000008.png", categories)
    save_labels(folder / "Human_ids" / "0000008.png", humans)
    _, rows = convert("cihp", tmp_path / "source", tmp_path / "out")
    assert [row["id"] for row in rows["val"]] == ["cihp:0000008_1:0", "cihp:0000008_11:0"]
    parts = np.array(Image.open(tmp_path / "out" / rows["val"][0]["parts"]))
    assert parts[6, 5] == 255 and (parts[5:20, 20:30] == 0).all() and rows["val"][1]["box"] == "20,5,30,20"
    assert validate(tmp_path / "out" / "val.tsv").faults == 0


def test_machine_made_captions_that_are_nothing_but_places_say_nothing(tmp_path):
    mask = np.ones((30, 40), np.uint8)
    folder = tmp_path / "source" / "Validation"
    save_picture(folder / "Images" / "0000008.jpg", (40, 30))
    for name in ("Category_ids", "Human_ids"):
        save_labels(folder / name / "0000008.png", mask)
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"0000008_0": ["[12, 34, 56, 78]", "a man [1, 2] in\na hat", ""]}))
    _, rows = convert("rhrc", tmp_path / "source", tmp_path / "out", module="cihp", captions=str(captions))
    assert rows["val"][0]["captions"] == "a man [1, 2] in a hat"
    assert validate(tmp_path / "out" / "val.tsv").faults == 0


# -- RefHuman -------------------------------------------------------------------------------------------------
def test_its_photos_are_told_by_the_id_in_their_names(tmp_path):
    names = ["000000000139.jpg", "val2017/000000000139.jpg", "COCO_val2014_000000000139.jpg"]
    tree = refhuman.save_tree(
        tmp_path / "s", [refhuman.entry(k, f"man\n{k}", name) for k, name in enumerate(names, 1)],
        [refhuman.annotation(k) for k in (1, 2, 3)],
    )  # fmt: skip
    save_picture(tree / "images" / names[2], refhuman.SIZE)
    _, rows = convert("refhuman", tree, tmp_path / "out")
    assert [(row["image_id"], row["text"]) for row in rows["val"]] == [("139", f"man {k}") for k in (1, 2, 3)]
    other = make_tree(tmp_path / "refcoco")
    content = coco(copy.deepcopy(ANNOTATIONS))
    content["images"][0]["id"] = 139
    for entry in content["annotations"]:
        entry["image_id"] = 139 if entry["image_id"] == 110 else entry["image_id"]
    put(other / "refcoco" / "instances.json", content)
    (other / "refcoco" / "refs(unc).p").write_bytes(python2_pickle([ref(1, 1, 139, "man")]))
    refcoco(other, tmp_path / "train")
    (found,) = find_leaks([open_file(tmp_path / "train" / "train.tsv")], [open_file(tmp_path / "out" / "val.tsv")])
    assert found.rows == [0]  # COCO's number is the same in 2014 and 2017
