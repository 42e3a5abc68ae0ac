"""A table of one's own, in any of its forms, becomes rows; what is wrong is told line by line."""

import csv
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from converted import NONSENSE, check, convert, numbers, save_labels, save_picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refhcm.data.converters.own import COLUMNS
from refhcm.data.fields import decode_base64
from refhcm.data.images import open_image
from refhcm.data.masks import decode_mask, encode_mask
from refhcm.data.validate import validate
from refhcm.errors import RefHCMError

LINE = {"image": "photos/a.png", "text": "the man in red", "box": [4, 3, 20, 25]}
POINTS = [[5, 6, 2], [7, 8, 1]] + [[0, 0, 0]] * 15


@pytest.fixture
def folder(tmp_path):
    for at, name in enumerate("abcde"):
        save_picture(tmp_path / "source" / "photos" / f"{name}.png", shade=50 * at)
    return tmp_path / "source"


def write_lines(folder, *lines, name="people.jsonl"):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def only(rows):
    (row,) = rows["train"]
    return row


# -- forms ----------------------------------------------------------------------------------------------
def test_the_simplest_line(folder, tmp_path):
    report, rows = convert("own", write_lines(folder, LINE), tmp_path / "out")
    row = only(rows)
    assert (row["id"], row["text"], row["box"]) == ("people:1", "the man in red", "4,3,20,25")
    assert row["image"] == "images/photos/a.png" and row["image_id"].startswith("own:")
    assert (tmp_path / "out" / row["image"]).is_file()
    assert report.skipped.total() == 0 and not (tmp_path / "out" / "problems.txt").exists()


def test_everything_that_a_line_may_say(folder, tmp_path, tiny_vocabulary):
    mask = np.zeros((30, 40), bool)
    mask[3:25, 4:20] = True
    parts = np.where(mask, 13, 0)
    save_labels(folder / "labels" / "m.png", mask * 255)
    np.save(folder / "labels" / "p.npy", np.where(mask, 13, np.where(np.arange(40) > 30, -1, 0)))
    line = {
        **LINE, "id": "first", "image_id": 7, "split": "val", "keypoints": POINTS, "mask": "labels/m.png",
        "parts": "labels/p.npy", "captions": ["a man in a red shirt", "a man, [1, 2] standing"],
    }  # fmt: skip
    _, rows = convert("own", write_lines(folder, line), tmp_path / "out")
    (row,) = rows["val"]
    assert (row["id"], row["image_id"]) == ("first", "7")
    assert numbers(row["keypoints"])[:6] == [5, 6, 2, 7, 8, 1]
    assert np.array_equal(decode_mask(row["mask"], (40, 30)), mask)
    written = np.array(Image.open(tmp_path / "out" / row["parts"]))
    assert np.array_equal(written[:, :30], parts[:, :30]) and (written[:, 31:] == 255).all()
    assert row["captions"] == "a man in a red shirt&&a man, [1, 2] standing"
    for task in ("rec", "rkpt", "rhrc"):
        (sample,) = check(tmp_path / "out" / "val.tsv", task, tiny_vocabulary)
        assert sample["id"] == "first"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_of_a_spreadsheet(folder, tmp_path, separator):
    path = folder / ("people.tsv" if separator == "\t" else "people.csv")
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=separator)
        table.writerow(["File Name", "Expression", "BBox", "keypoints", "Caption", "remark", ""])
        table.writerow(["photos/a.png", 'the "tall", old man', "4, 3, 20, 25", "", "a man&&a tall man", "x", ""])
        table.writerow([])
        table.writerow(["photos/b.png", "", "[4,3,20,25]", json.dumps(POINTS), "", "", ""])
    report, rows = convert("own", path, tmp_path / "out")
    first, second = rows["train"]
    assert first["text"] == 'the "tall", old man' and first["captions"] == "a man&&a tall man"
    assert second["text"] == "None" and second["keypoints"].startswith("5,6,2,7,8,1")
    assert first["id"] == "people:2" and second["id"] == "people:4"
    assert "columns that are not used: remark" in report.notes


def test_corners_in_columns_of_their_own(folder, tmp_path):
    (folder / "p.csv").write_text("image,text,xmin,ymin,xmax,ymax\nphotos/a.png,man,4,3,20,25\n")
    assert only(convert("own", folder, tmp_path / "out")[1])["box"] == "4,3,20,25"


def test_paths_as_windows_writes_them(folder, tmp_path):
    save_labels(folder / "labels" / "m.png", np.pad(np.full((22, 16), 13), ((3, 5), (4, 20))))
    line = {**LINE, "image": "photos\\a.png", "parts": "labels\\m.png"}
    row = only(convert("own", write_lines(folder, line), tmp_path / "out")[1])
    assert row["image"] == "images/photos/a.png" and row["parts"]


def test_width_and_height(folder, tmp_path):
    path = write_lines(folder, {**LINE, "box": [4, 3, 16, 22]})
    assert only(convert("own", path, tmp_path / "out", box_form="xywh")[1])["box"] == "4,3,20,25"


def test_several_people_nobody_and_several_texts(folder, tmp_path):
    path = write_lines(
        folder,
        {**LINE, "text": "both", "box": [[4, 3, 20, 25], [21, 3, 39, 25]]},
        {**LINE, "text": "the dog", "box": []},
        {**LINE, "text": ["a man", "man in red"], "id": 5},
    )
    _, rows = convert("own", path, tmp_path / "out")
    assert [row["box"] for row in rows["train"]][:2] == ["4,3,20,25|21,3,39,25", ""]
    assert [(row["id"], row["text"]) for row in rows["train"]][2:] == [("5:0", "a man"), ("5:1", "man in red")]


@pytest.mark.parametrize("form", ["png", "bit", "rgb", "counts", "object", "polygons"])
def test_masks_in_every_form_and_boxes_around_them(folder, tmp_path, form):
    mask = np.zeros((30, 40), bool)
    mask[3:25, 4:20] = True
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    kinds = {"png": picture, "bit": picture.convert("1"), "rgb": picture.convert("RGB")}
    if form in kinds:
        kinds[form].save(folder / "m.png")
        value = "m.png"
    elif form == "polygons":
        value = [[4, 3, 20, 3, 20, 25, 4, 25]]
    else:
        value = encode_mask(mask)
        value = {"size": [30, 40], "counts": value} if form == "object" else value
    path = write_lines(folder, {"image": "photos/a.png", "text": "man", "mask": value})
    row = only(convert("own", path, tmp_path / "out")[1])
    assert np.array_equal(decode_mask(row["mask"], (40, 30)), mask) and row["box"] == "4,3,20,25"


def test_scores_in_place_of_visibility(folder, tmp_path):
    points = [[5, 6, 0.9], [7, 8, 0.3]] + [[1, 1, 0]] * 15
    path = write_lines(folder, {**LINE, "keypoints": points})
    row = only(convert("own", path, tmp_path / "out", score_above=0.5)[1])
    assert numbers(row["keypoints"]) == [5, 6, 2] + [0] * 48
    with pytest.raises(RefHCMError, match="third number is not 0"):
        convert("own", path, tmp_path / "again")


def test_a_table_may_be_a_json_list(folder, tmp_path):
    (folder / "people.json").write_text(json.dumps([LINE, {**LINE, "text": None}]))
    _, rows = convert("own", folder, tmp_path / "out")
    assert [row["text"] for row in rows["train"]] == ["the man in red", "None"]


# -- pictures -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["link", "copy", "embed"])
def test_photos_that_are_stored_turned_are_written_upright(folder, tmp_path, policy):
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers turn it by 90 degrees
    save_picture(folder / "photos" / "phone.jpg", (60, 20), exif=exif)
    path = write_lines(folder, {"image": "photos/phone.jpg", "text": "man", "box": [2, 30, 18, 58]})
    report, rows = convert("own", path, tmp_path / "out", pictures=policy)
    value = only(rows)["image"]
    image = open_image(decode_base64(value) if policy == "embed" else tmp_path / "out" / value, orient=False)
    assert image.size == (20, 60) and any("upright" in note for note in report.notes)
    stored = write_lines(folder, {"image": "photos/phone.jpg", "text": "man", "box": [2, 3, 58, 18]})
    row = only(convert("own", stored, tmp_path / "stored", as_stored=True)[1])
    assert row["image"] == "images/photos/phone.jpg"


def test_the_same_photo_has_one_id_and_coco_photos_have_theirs(folder, tmp_path):
    save_picture(folder / "photos" / "copy.png", shade=0)
    save_picture(folder / "COCO_train2014_000000000110.jpg")
    path = write_lines(
        folder,
        LINE, {**LINE, "image": "photos/copy.png"}, {**LINE, "image": str(folder.resolve() / "photos/b.png")},
        {**LINE, "image": "COCO_train2014_000000000110.jpg"},
    )  # fmt: skip
    ids = [row["image_id"] for row in convert("own", path, tmp_path / "out")[1]["train"]]
    assert ids[0] == ids[1] != ids[2] and ids[3] == "110"


def test_whole_pictures_are_held_back(folder, tmp_path):
    lines = [{**LINE, "image": f"photos/{name}.png", "text": f"{name} {k}"} for k in range(2) for name in "abcde"]
    _, rows = convert("own", write_lines(folder, *lines), tmp_path / "out", val_share=0.2)
    assert [row["image"] for row in rows["val"]] == ["images/photos/e.png"] * 2 and len(rows["train"]) == 8
    with pytest.raises(RefHCMError, match=r"from 0 to 0\.5"):
        convert("own", folder, tmp_path / "out", val_share=0.9)


def test_tables_called_after_their_splits(folder, tmp_path):
    for name in ("train", "validation"):
        write_lines(folder, LINE, name=f"{name}.jsonl")
    assert sorted(convert("own", folder, tmp_path / "out")[1]) == ["train", "val"]
    write_lines(folder, LINE, name="more.jsonl")
    assert sorted(convert("own", folder, tmp_path / "out2")[1]) == ["train", "val"]


# -- what is wrong --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "it is not JSON"),
        ("[1]", "it is not a JSON object"),
        ('{"image": NaN}', "it is not JSON"),
        ({"text": "man", "box": [1, 2, 3, 4]}, "it has no image: name that column one of image, file_name"),
        ({**LINE, "image": "photos/none.png"}, "a file is missing: "),
        ({**LINE, "image": "../a.png"}, "leaves the folder"),
        ({**LINE, "image": "people.jsonl"}, "the picture cannot be opened: people.jsonl"),
        ({**LINE, "image": "a" * 5000}, "a file is missing: "),
        ({**LINE, "image": 1.5}, "the image is no name: 1.5"),
        ({"image": "photos/a.png", "text": "man"}, "it has no box"),
        ({**LINE, "box": [1, 2, 3]}, "the box is not 4 numbers: [1, 2, 3]"),
        ({**LINE, "box": "a,b,c,d"}, "the box is not 4 numbers"),
        ({**LINE, "box": [True, 0, 5, 5]}, "the box is not 4 numbers"),
        ({**LINE, "box": [20, 3, 16, 22]}, "is --box-form xywh meant?"),
        ({**LINE, "box": [0.1, 0.1, 0.5, 0.5]}, "fractions of the picture"),
        ({**LINE, "box": [100, 100, 120, 120]}, "the box lies outside the picture"),
        ({**LINE, "bbox": [1, 2, 3, 4]}, "box and bbox both give the box"),
        ({**LINE, "text": 5}, "the text is no text: 5"),
        ({**LINE, "text": "", "box": []}, "nothing is asked"),
        ({**LINE, "keypoints": [1, 2, 3]}, "the keypoints are not 17 times"),
        ({**LINE, "keypoints": [[50, 6, 2]] + [[0, 0, 0]] * 16}, "nose at 50, 6 of 40x30"),
        ({**LINE, "keypoints": POINTS, "box": [[4, 3, 20, 25]] * 2}, "but not exactly one box"),
        ({**LINE, "mask": "04"}, "the mask cannot be used"),
        ({**LINE, "mask": "photos/none.png"}, "a file is missing"),
        ({**LINE, "mask": [[1, 1, 1, 1]]}, "the mask is empty"),
        ({**LINE, "parts": "photos/a.png"}, "is no label map"),
        ({**LINE, "parts": "small.png"}, "the part map has another size than its picture: small.png has 4x4"),
        ({**LINE, "captions": [5]}, "a caption is no text"),
        ({**LINE, "split": "my split"}, "the split is no simple name"),
        ({**LINE, "id": "same"}, "the id was written before"),
    ],
)
def test_a_wrong_line_is_named_and_the_others_go_on(folder, tmp_path, line, said):
    save_labels(folder / "small.png", np.ones((4, 4)))
    path = write_lines(folder, {**LINE, "id": "same"}, line, {**LINE, "image": "photos/b.png"})
    report, rows = convert("own", path, tmp_path / "out")
    assert len(rows["train"]) == 2 and report.skipped.total() == 1
    (problem,) = (tmp_path / "out" / "problems.txt").read_text().splitlines()
    assert problem.startswith("people.jsonl, line 2: ") and said in problem
    assert any("1 of 3 lines" in note for note in report.notes)


def test_csv_lines_with_too_many_cells_or_broken_quotes(folder, tmp_path):
    good = 'photos/a.png,man,"4,3,20,25"\n'
    (folder / "p.csv").write_text(f'image,text,box\n{good}photos/a.png,man,4,3,20,25\nphotos/a.png,"m"an,1\n{good}')
    _, rows = convert("own", folder, tmp_path / "out")
    assert [row["id"] for row in rows["train"]] == ["p:2", "p:5"]
    first, second = (tmp_path / "out" / "problems.txt").read_text().splitlines()
    assert first.startswith("p.csv, line 3: it has 6 cells where the first line names 3") and "line 4" in second


def test_columns_that_were_meant_for_the_box_are_named(folder, tmp_path):
    (folder / "p.csv").write_text("image,text,x,y,w,h\nphotos/a.png,man,4,3,16,22\n")
    said = r"call its column box, bbox, boxes, region, or its four columns x1 y1 x2 y2 or .*: not used: x, y, w, h\."
    with pytest.raises(RefHCMError, match=said):
        convert("own", folder / "p.csv", tmp_path / "out", box_form="xywh")


def test_nothing_usable_says_why_and_leaves_no_file(folder, tmp_path):
    path = write_lines(folder, {"img": "photos/a.png", "sentence": "man"}, {"foo": 1})
    with pytest.raises(RefHCMError, match=r"None of the 2 lines .* line 1: it has no box.*; .*line 2: .*'foo'") as told:
        convert("own", path, tmp_path / "out")
    assert "\n" not in str(told.value) and not list((tmp_path / "out").glob("*.tsv"))


@given(st.data())
def test_nonsense_in_any_cell_leaves_the_other_lines_alone(data):
    name = data.draw(st.sampled_from(sorted({"text", *COLUMNS})))
    with tempfile.TemporaryDirectory() as folder:
        save_picture(Path(folder) / "s" / "photos" / "a.png")
        path = write_lines(Path(folder) / "s", {**LINE, "id": "kept"}, {**LINE, name: data.draw(NONSENSE)})
        report, rows = convert("own", path, Path(folder) / "out")
        assert not any(validate(Path(folder) / "out" / f"{split}.tsv").faults for split in rows)
        assert rows["train"][0]["id"] == "kept"
        assert sum(map(len, rows.values())) + report.skipped.total() >= 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "There is no table in"),
        ({"a.jsonl": "{}", "b.csv": "image"}, "has several tables"),
        ({"a.csv": "image,Image\n"}, "gave no rows"),
        ({"a.csv": "image,image\n1,2\n"}, "two columns called 'image'"),
        ({"a.csv": "\nimage,text\n"}, "first line .* is empty"),
        ({"a.csv": b"image\n\xff\xfe"}, "not UTF-8"),
        ({"a.json": '{"image": 1}'}, "where a list is expected"),
    ],
)
def test_files_that_are_no_table(tmp_path, files, said):
    (tmp_path / "source").mkdir()
    for name, content in files.items():
        (tmp_path / "source" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RefHCMError, match=said):
        convert("own", tmp_path / "source", tmp_path / "out")


def test_the_source_is_not_written_into(folder):
    write_lines(folder, LINE)
    with pytest.raises(RefHCMError, match="name another folder as --out"):
        convert("own", folder, folder)
