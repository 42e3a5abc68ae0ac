"""Every kind of fault is named with its line; published files may have their quirks; leaks are found by photo."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from refhcm import cli
from refhcm.data.leakage import coco_id, find_leaks, open_file, refuse_leaks
from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.data.rows import LAYOUTS, guess_kind, open_rows
from refhcm.data.tsv import index_path
from refhcm.data.validate import validate
from refhcm.errors import RefHCMError

SIZE = (40, 30)
CODES = ",".join(["3"] * 48)
POINTS = ",".join(["5,6"] + ["0,0"] * 16)
BOX = "2.5,3,20,25"
MASK = np.zeros(SIZE[::-1], bool)
MASK[5:20, 4:18] = True


@pytest.fixture(autouse=True)
def files(tmp_path):
    """Two pictures and a part map."""
    (tmp_path / "train").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "train" / "0000006.jpg")
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    Image.fromarray(MASK.astype(np.uint8)).save(tmp_path / "parts.png")
    np.save(tmp_path / "train" / "0000006_0.npy", MASK.astype(np.int64))


def inline():
    stream = io.BytesIO()
    Image.new("RGB", SIZE).save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()


PUBLISHED = {
    "rec": ("7_0", "123", "man", BOX, "@"),
    "rkpt": ("7_0", "123", "man", BOX, POINTS, "@"),
    "rpar": ("0000006_0", "None", "3,3,20,25", CODES, "train/0000006_0.npy", "train/0000006.jpg"),
    "rhrc": ("0000006_0", "A man&&a guy", "3,3,20,25", "@"),
}


def write(path, *rows):
    path.write_text("".join("\t".join(row).replace("@", inline()) + "\n" for row in rows))
    return path


def own(path, *changes, count=1):
    """Rows of our own kind, of which some have fields changed: (number, field, value)."""
    points = np.zeros((17, 3))
    points[0] = (7, 8, 2)
    person = Person((2.5, 3, 20, 25), points, encode_mask(MASK), "parts.png")
    with PersonWriter(path) as file:
        for row in range(count):
            file.add(PersonRow(f"r{row}", str(row), "a.png", (person,), "man", ("a man",), (3,) * 48))
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    for row, name, value in changes:
        lines[row][LAYOUTS["person"][name]] = value
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    return path


# -- published files --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_files_are_sound_as_they_are(tmp_path, kind):
    path = write(tmp_path / "f.tsv", PUBLISHED[kind])
    assert guess_kind(path) == kind
    found = validate(path)
    assert (found.kind, found.rows, found.faults, found.pictures) == (kind, 1, 0, 1), found.first
    assert found.known["know box"] == 1 and found.known["know keypoints"] == (kind == "rkpt")


@pytest.mark.parametrize("kind", ["rec", "rkpt"])
def test_published_files_may_name_pictures_by_path(tmp_path, kind):
    assert validate(write(tmp_path / "f.tsv", (*PUBLISHED[kind][:-1], "a.png"))).faults == 0


def test_quirks_of_published_files_are_remarked_upon(tmp_path):
    points = ",".join(["5,60"] + ["0,0"] * 16)
    path = write(tmp_path / "f.tsv", *[("7_0", "123", "", "2,3,50,25", points, "@")] * 2)
    found = validate(path)
    assert found.faults == 0 and dict(found.remarks) == {
        "the text is empty.": 2, "the box reaches over the edge of its picture.": 2,
        "a labelled keypoint lies outside the picture.": 2, "the id stands in another row already.": 1,
    }  # fmt: skip


@pytest.mark.parametrize("kind, column, value, said", [
    ("rec", 0, "", "the id is empty"),
    ("rec", 3, "1,2,3", "the box needs 4"),
    ("rec", 3, "5,5,5,9", "no width or height"),
    ("rec", 3, "50,5,60,9", "outside its picture"),
    ("rec", 4, "AAAA", "not a picture"),
    ("rec", 4, "b.png", "no file b.png"),
    ("rkpt", 4, "1,2,3", "keypoints"),
    ("rpar", 3, "1,2", "48"),
    ("rpar", 4, "none.npy", "no file none.npy"),
    ("rhrc", 1, "a man&&", "a caption is empty"),
])  # fmt: skip
def test_faults_of_published_rows(tmp_path, kind, column, value, said):
    row = list(PUBLISHED[kind])
    row[column] = value
    found = validate(write(tmp_path / "f.tsv", PUBLISHED[kind], row), kind)
    assert found.faults == 1 and found.first[0].line == 2 and said in found.first[0].why


def test_cut_off_lines_and_pictures(tmp_path):
    path = write(tmp_path / "f.tsv", PUBLISHED["rec"], PUBLISHED["rec"][:3], (*PUBLISHED["rec"], "more"),
                 ("8", "1", "man", BOX, inline()[:400]), ("7_0", "1", "man", BOX, "a.png"))  # fmt: skip
    with path.open("ab") as file:
        file.write(b"9\t1\tm\xff\t1,1,2,2\ta.png\n")
    assert [(fault.line, fault.why[:24]) for fault in validate(path).first] == [
        (2, "3 columns where 5 are ex"), (3, "6 columns where 5 are ex"), (4, "The picture cannot be re"),
        (6, "the text is not UTF-8."),
    ]  # fmt: skip


# -- our own ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, value, said", [
    ("id", "r0", "stands in line 1 already"),
    ("text", "", "the text is empty"),
    ("box", "-3,3,20,25", "reaches over the edge"),
    ("box", "21,21,30,29", "the mask lies outside the box"),
    ("keypoints", ",".join(["5,6,3"] + ["0,0,0"] * 16), "visibility is not 0, 1 or 2"),
    ("keypoints", ",".join(["5,60,2"] + ["0,0,0"] * 16), "keypoint lies outside the picture"),
    ("codes", "1,2", "48"),
    ("parts", "empty.png", "the part map is empty"),
    ("parts", "small.png", "another size than its picture"),
    ("parts", "../parts.png", "leaves the dataset's folder"),
    ("captions", "a man&&", "a caption is empty"),
    ("mask", encode_mask(np.zeros((30, 40))), "the mask is empty"),
    ("mask", "92203", "do not add up"),
    ("area", "-1", "not above 0"),
    ("image", "none.png", "no file none.png"),
])  # fmt: skip
def test_faults_of_our_own_rows(tmp_path, name, value, said):
    Image.new("L", SIZE).save(tmp_path / "empty.png")
    Image.new("L", (20, 15), 1).save(tmp_path / "small.png")
    found = validate(own(tmp_path / "p.tsv", (1, name, value), count=3))
    assert [fault.line for fault in found.first] == [2] and said in found.first[0].why


def test_the_command_prints_lines_counts_and_what_is_known(tmp_path, capsys):
    path = own(tmp_path / "p.tsv", *((row, "text", "") for row in range(3)), (4, "box", "x"), count=6)
    assert cli.main(["validate", str(path), "--quiet", "--show", "2"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        f"{path}, line 1: the text is empty.", f"{path}, line 2: the text is empty.",
        "... and 2 more (--show N prints more of them)",
    ]  # fmt: skip
    assert "6 rows of the kind person, 1 pictures" in out[3] and out[-1] == "4 rows are wrong"
    assert any(line.split() == ["2", "rows", "know", "keypoints"] for line in out)
    assert cli.main(["validate", str(path), "--quiet", "--json", "--show", "1"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["faults"] == 4 and told["first"] == [{"line": 1, "what": "the text is empty."}]
    assert cli.main(["validate", str(own(path)), "--quiet"]) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")


@pytest.mark.parametrize("arguments, code, said", [
    (["none.tsv"], 1, "no dataset file"),
    (["p.tsv", "--kind", "pose"], 2, "--kind is one of rec"),
    (["p.tsv", "--show", "-1"], 2, "--show must be"),
    (["odd.tsv"], 1, "has 3 columns in its first line"),
    (["empty.tsv"], 1, "has no rows"),
])  # fmt: skip
def test_wrong_use_is_one_sentence(tmp_path, capsys, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    own(tmp_path / "p.tsv")
    (tmp_path / "odd.tsv").write_text("a\tb\tc\n")
    (tmp_path / "empty.tsv").touch()
    assert cli.main(["validate", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("refhcm: ") and said in err and err.count("\n") == 1


# -- leaks --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, number", [
    ("COCO_train2014_000000000110.jpg", 110), ("train2014/COCO_val2014_000000000110_6.jpg", 110),
    ("000000581929.jpg", 581929), ("COCO_train2014_000000000110_6_1.jpg", 110), ("a\\000000000110.jpg", 110),
    ("0000006.jpg", None), ("train/0000006_0.npy", None), ("IMG_000000000110.jpg", None), ("", None),
])  # fmt: skip
def test_the_number_in_a_name(name, number):
    assert coco_id(name) == number


@pytest.fixture
def sets(tmp_path):
    """A file to train on, of five photos, and two to evaluate on."""
    train = write(
        tmp_path / "train.tsv", ("1", "110", "x", BOX, "a.png"), ("2", "220", "x", BOX, "a.png"),
        ("3", "COCO_train2014_000000000330.jpg", "x", BOX, "a.png"), ("4", "330", "y", BOX, "a.png"),
        ("5", "", "x", BOX, "images/000000000440.jpg"),
    )  # fmt: skip
    rows = [(name, name, "x", BOX, POINTS, "@") for name in ("000000000330.jpg", "5")]
    evaluation = write(tmp_path / "val.tsv", *rows)
    other = own(tmp_path / "test.tsv", (0, "image_id", "440"))
    return train, evaluation, other


def test_photos_in_both_are_found_however_they_are_named(sets):
    train, *evaluation = map(open_file, sets)
    (found,) = find_leaks([train], evaluation)
    assert found.rows == [2, 3, 4] and found.pictures == {
        "COCO 330": "line 3 and line 1 of val.tsv", "COCO 440": "line 5 and line 1 of test.tsv"
    }  # fmt: skip
    with pytest.raises(RefHCMError, match=r"train\.tsv shares 2 pictures \(3 rows\) .*COCO 330 in line 3.* --drop OUT"):
        refuse_leaks([train], evaluation)
    refuse_leaks([train], [])


def test_cihp_people_are_told_apart_by_their_ids(tmp_path):
    first = write(tmp_path / "rpar.tsv", PUBLISHED["rpar"])
    second = own(tmp_path / "own.tsv", (0, "image_id", "cihp:0000006"))
    (found,) = find_leaks([open_file(first)], [open_file(second)])
    assert list(found.pictures) == ["cihp:0000006"] and found.unnamed == 0


def test_rows_without_an_id_are_compared_by_their_picture(tmp_path):
    rows = [("x", "a man", BOX, "@"), ("y", "a man", BOX, "other/b.jpg")]
    first, second = write(tmp_path / "a.tsv", *rows), write(tmp_path / "b.tsv", rows[0])
    (found,) = find_leaks([open_file(first)], [open_file(second)])
    assert found.rows == [0] and found.unnamed == 2
    (found,) = find_leaks([open_file(second)], [open_file(write(tmp_path / "c.tsv", rows[1]))])
    assert "1 rows have no picture id" in found.sentence()


def test_the_command_finds_and_drops(sets, capsys, tmp_path):
    train, *evaluation = map(str, sets)
    assert cli.main(["leaks", train, "--against", *evaluation, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["rows"] == [2, 3, 4]
    clean = str(tmp_path / "clean.tsv")
    assert cli.main(["leaks", train, "--against", *evaluation, "--drop", clean]) == 0
    assert "clean.tsv: 2 rows, without the 3" in capsys.readouterr().err
    assert cli.main(["leaks", clean, "--against", *evaluation]) == 0
    assert "no picture in common" in capsys.readouterr().out
    (tmp_path / "sub").mkdir()
    for out, said in ((train, "name another"), (str(tmp_path / "sub" / "x.tsv"), "write x.tsv there too")):
        assert cli.main(["leaks", train, "--against", *evaluation, "--drop", out]) == 1
        assert said in capsys.readouterr().err
    assert cli.main(["leaks", train, clean, "--against", *evaluation, "--drop", clean]) == 2


def test_a_training_row_that_cannot_be_read_is_left_to_training(tmp_path):
    good = "{0}_0\t{0}\tthe man\t1,1,6,7\t{0}.png\n"
    (tmp_path / "train.tsv").write_bytes((good.format(5) + "7\0\t7\0\tx\t1,1,6,7\ta.png\n" + good.format(6)).encode())
    (tmp_path / "val.tsv").write_text(good.format(6))
    (leaks,) = find_leaks([open_file(tmp_path / "train.tsv")], [open_file(tmp_path / "val.tsv")])
    assert leaks.rows == [2]
    with pytest.raises(RefHCMError, match="NUL"):
        find_leaks([], [open_file(tmp_path / "train.tsv")])


def test_a_file_that_is_no_dataset_gets_no_index_beside_it(tmp_path, run):
    """A wrong path leaves nothing behind; a dataset whose first row is bad is still one."""
    page = tmp_path / "docs" / "README.md"
    page.parent.mkdir()
    page.write_text("# Title\n\nSome words,\tand a tab.\n")
    assert run("validate", page)[0] == 1
    assert run("validate", page, "--kind", "rec")[0] == 1
    with pytest.raises(RefHCMError, match="as no kind of dataset has"):
        guess_kind(page)
    assert [path.name for path in page.parent.iterdir()] == ["README.md"]
    rows = tmp_path / "rows.tsv"
    rows.write_text("1\tcut off\n" + "2\t7\tthe man\t1,1,6,7\ta.png\n" * 2)
    assert len(open_rows(rows, "rec")) == 3
    assert index_path(rows).is_file()
