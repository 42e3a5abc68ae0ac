"""What converters share: boxes and what else a source says, ways to the pictures, files that appear whole, reports."""

import json

import numpy as np
import pytest
from converted import save_picture
from hypothesis import given
from hypothesis import strategies as st

from refhcm.data.converters.base import (
    Converter,
    Job,
    Option,
    Options,
    Skip,
    clipped_box,
    keypoints_of,
    need,
    optional,
    person_box,
    run,
)
from refhcm.data.converters.pictures import PictureFolder
from refhcm.data.converters.tables import Line, read_table
from refhcm.data.fields import read_box
from refhcm.data.json_file import read_json
from refhcm.data.person_file import COLUMNS, Person, PersonRow, numbers
from refhcm.data.tsv import TsvFile
from refhcm.errors import RefHCMError

SIZE = (40, 30)
places = st.floats(-100, 100)
sides = st.floats(0.05, 100)


# -- what a source says -----------------------------------------------------------------------------------
@given(places, places, sides, sides)
def test_boxes_are_shifted_by_nothing_and_cut_at_the_edges(x, y, width, height):
    try:
        x1, y1, x2, y2 = person_box([x, y, width, height], SIZE)
    except Skip as skip:
        assert "outside the picture" in str(skip)
        assert min(x + width, 40) - max(x, 0) < 0.01 or min(y + height, 30) - max(y, 0) < 0.01
        return
    assert (x1, y1) == (max(x, 0), max(y, 0)) and (x2, y2) == (min(x + width, 40), min(y + height, 30))
    written = read_box(numbers((x1, y1, x2, y2)), SIZE)
    assert written == pytest.approx((x1, y1, x2, y2), abs=0.00501) and written[0] < written[2]


@pytest.mark.parametrize("xywh, reason", [
    ([1, 2, 3], "the box is not 4 numbers"),
    ([1, 2, 3, "4"], "the box is not 4 numbers"),
    ([1, 2, 3, True], "the box is not 4 numbers"),
    ([1, 2, 3, float("inf")], "the box is not 4 numbers"),
    (None, "the box is not 4 numbers"),
    ([1, 2, 0, 4], "the box has no width or height"),
    ([1, 2, 3, -4], "the box has no width or height"),
    ([40, 2, 3, 4], "the box lies outside the picture"),
    ([39.999, 2, 3, 4], "the box lies outside the picture"),
])  # fmt: skip
def test_boxes_that_are_none_are_reasons_to_skip(xywh, reason):
    with pytest.raises(Skip) as caught:
        person_box(xywh, SIZE)
    assert str(caught.value) == reason


def test_other_values():
    assert clipped_box((-5, -5, 50, 50), SIZE) == (0, 0, 40, 30)
    assert keypoints_of([1, 2, 1] * 17).shape == (17, 3)
    for wrong in ([1] * 50, [1, 2, 3] * 17, "x", [None] * 51):
        with pytest.raises(Skip):
            keypoints_of(wrong)
    entry = {"a": 1, "b": True, "c": None}
    assert need(entry, "a", int) == 1 and need(entry, "b", bool) is True and optional(entry, "c", int) is None
    for name, kind in (("b", int), ("c", int), ("d", str), ("a", str)):
        with pytest.raises(Skip, match=f"{name} is missing or of the wrong type"):
            need(entry, name, kind)
    with pytest.raises(Skip):
        need("no entry", "a", int)


# -- pictures ---------------------------------------------------------------------------------------------
@pytest.fixture
def source(tmp_path):
    """A folder with one picture, and a text that is called one."""
    save_picture(tmp_path / "source" / "a.jpg", SIZE)
    (tmp_path / "source" / "b.jpg").write_text("no picture")
    return tmp_path / "source"


def test_ways_to_the_pictures(source, tmp_path):
    out = tmp_path / "out"
    for policy in ("link", "link", "copy"):  # again, and another way
        picture = PictureFolder(source, out, policy).get("a.jpg", SIZE)
        assert (picture.value, picture.size) == ("images/a.jpg", SIZE) and (out / picture.value).is_file()
        assert (out / "images").is_symlink() == (policy == "link")
    assert sorted(path.name for path in source.iterdir()) == ["a.jpg", "b.jpg"]  # no copy among the originals
    with pytest.raises(RefHCMError, match="is in the way of a link"):
        PictureFolder(source, out, "link")
    embedded = PictureFolder(source, tmp_path / "other", "embed").get("a.jpg")
    assert embedded.value.startswith("/9j/") and not (tmp_path / "other").exists()


def test_several_folders_lie_beside_each_other(source, tmp_path):
    out = tmp_path / "out"
    PictureFolder(source, out)
    for under in ("train", "val"):
        picture = PictureFolder(source, out, under=under).get("a.jpg")
        assert picture.value == f"images/{under}/a.jpg" and (out / picture.value).is_file()
    assert not (source / "train").exists() and not (out / "images").is_symlink()


def test_pictures_that_lie_in_place_are_left_there(source):
    (source / "images").mkdir()
    (source / "a.jpg").rename(source / "images" / "a.jpg")
    for policy in ("link", "copy"):
        assert PictureFolder(source / "images", source, policy).get("a.jpg").value == "images/a.jpg"
    assert (source / "images" / "a.jpg").stat().st_size and not (source / "images").is_symlink()


@pytest.mark.parametrize("name, stated, reason", [
    ("none.jpg", None, "the picture is missing"),
    ("b.jpg", None, "the picture cannot be opened"),
    ("a.jpg", (30, 40), "the picture has another size than its annotations say"),
    ("../source/a.jpg", None, "the name of the picture leaves its folder"),
    ("/etc/passwd", None, "the name of the picture leaves its folder"),
])  # fmt: skip
def test_pictures_that_cannot_be_named_are_reasons_to_skip(source, tmp_path, name, stated, reason):
    with pytest.raises(Skip, match=reason):
        PictureFolder(source, tmp_path / "out").get(name, stated)


# -- jobs -------------------------------------------------------------------------------------------------
def converter(function, **more):
    return Converter("mine", "for a test", function, layout="a folder.", licence="none", **more)


def row(name, **more):
    return PersonRow(name, "1", "a.jpg", (Person((1, 1, 2, 2)),), **{"text": "x", **more})


def test_files_and_report_appear_together(source, tmp_path):
    def convert(job):
        job.report.read("train", "refs", 2)
        job.report.expect({"train": {"refs": 3, "pictures": 1}})
        for name, changes in (("a", {}), ("a", {}), ("b", {"text": " "}), ("c", {"captions": ("&&",)}), ("d", {})):
            with job.guard(f"entry {name}"):
                job.add("train", row(name, **changes))
        with job.guard("entry e"):
            job.add("a/b", row("e"))
        assert job.part_map("x/y", np.ones((3, 4))) == "parts/x/y.png"
        assert not list(job.out.glob("*.tsv"))

    report, files = run(converter(convert), Options(source, tmp_path / "out"))
    assert [path.name for path in files] == ["train.tsv"] and len(files[0].read_text().splitlines()) == 2
    assert report.skipped == {
        "the id was written before": 1, "the field text is empty": 1, "a caption is empty or holds &&": 1,
        "the name of the split cannot be the name of a file": 1,
    }  # fmt: skip
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["written"]["train"] == {
        "rows": 2, "people": 1, "pictures": 1, "regions": 0, "nobody": 0, "several": 0, "everybody": 0
    }  # fmt: skip
    table = report.table()
    assert "2 refs (OFFICIAL: 3), 0 pictures (OFFICIAL: 1)" in table and "1  the field text is empty: entry b" in table


def test_an_error_leaves_older_files_as_they_were(source, tmp_path):
    def good(job):
        job.add("train", row("a"))

    def bad(job):
        job.add("train", row("b"))
        raise RefHCMError("damaged")

    run(converter(good), Options(source, tmp_path / "out"))
    with pytest.raises(RefHCMError, match="damaged"):
        run(converter(bad), Options(source, tmp_path / "out"))
    assert (tmp_path / "out" / "train.tsv").read_text().startswith("a\t")
    assert not list((tmp_path / "out").glob("*.part"))
    with pytest.raises(RefHCMError, match=r"gave no rows \(it lists nothing\)"):
        run(converter(lambda job: None), Options(source, tmp_path / "out"))


def test_options_are_checked_before_anything_is_read(source, tmp_path):
    def convert(job):
        assert job.option("depth") == 3
        job.source("x.json", "y.json")

    mine = converter(convert, options=(Option("depth", "how deep", int, 3),))
    with pytest.raises(RefHCMError, match=r"There is no x\.json or y\.json in .*: --source is a folder\."):
        run(mine, Options(source, tmp_path / "out"))
    for options, said in (
        (Options(source, tmp_path / "out", pictures="move"), "--pictures is one of"),
        (Options(source / "none", tmp_path / "out"), "There is nothing at"),
        (Options(source, tmp_path / "out", special={"width": 1}), "mine has no option --width"),
        (Options(source, source / "a.jpg"), "is a file"),
    ):
        with pytest.raises(RefHCMError, match=said):
            Job(mine, options)


# -- JSON -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content, said", [
    (b"{", "is not JSON"), (b"[1]", "holds list where an object"), (b'{"a": NaN}', "NaN is no JSON number"),
    (b'{"a": "\xff"}', "not UTF-8"), (b"x" * 200, "at most 100 are read"),
])  # fmt: skip
def test_json_of_others_is_read_strictly(tmp_path, content, said):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RefHCMError, match=said):
        read_json(tmp_path / "a.json", dict, limit=100)


def test_json_lines_are_numbered_as_an_editor_shows_them(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"b": 2}\n[3]\n')
    first, second, third = read_table(tmp_path / "a.jsonl")
    assert (first, second) == (Line("line 1", {"a": 1}), Line("line 3", {"b": 2}))
    assert third.where == "line 4" and "not a JSON object" in third.error


# -- converting again -------------------------------------------------------------------------------------
def splits(*names):
    """A converter that writes one row to each of these splits."""

    def convert(job):
        picture = job.pictures(job.images_folder(".")).get("a.jpg")
        for name in names:
            job.add(name, PersonRow(name, "1", picture.value, (Person((1, 2, 3, 4)),), "man"))

    return converter(convert)


def test_old_splits_go_when_a_source_is_converted_again(source, tmp_path):
    out = tmp_path / "out"
    run(splits("train", "val", "testA"), Options(source, out))
    TsvFile(out / "val.tsv", COLUMNS)  # leaves its index
    (out / "mine.tsv").write_text("somebody's own")
    report, files = run(splits("train", "testA"), Options(source, out))
    assert sorted(path.name for path in out.glob("*.tsv*")) == ["mine.tsv", "testA.tsv", "train.tsv"]
    assert any(note.startswith("val.tsv of the earlier conversion is removed") for note in report.notes)
    assert report.table().count("note: val.tsv") == 1 and len(files) == 2


def test_a_conversion_that_fails_leaves_the_old_files(source, tmp_path):
    out = tmp_path / "out"
    run(splits("train", "val"), Options(source, out))
    before = {path.name: path.read_bytes() for path in out.glob("*.*")}
    with pytest.raises(RefHCMError, match="gave no rows"):
        run(splits(), Options(source, out))
    assert {path.name: path.read_bytes() for path in out.glob("*.*")} == before


def test_files_of_others_are_never_replaced(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train.tsv").write_text("somebody's own")
    with pytest.raises(RefHCMError, match=r"train\.tsv is there and no earlier conversion wrote it"):
        run(splits("val", "train"), Options(source, out))
    assert [path.name for path in out.glob("*.tsv*")] == ["train.tsv"]
    (out / "report.json").write_text('{"accuracy": 1}')
    with pytest.raises(RefHCMError, match="is the report of no conversion"):
        run(splits("val"), Options(source, out))
    (out / "report.json").write_text('{"dataset": "refcoco", "written": {"train": {}}}')
    with pytest.raises(RefHCMError, match="holds what was converted of refcoco: name another --out for mine"):
        run(splits("train"), Options(source, out))
    assert (out / "train.tsv").read_text() == "somebody's own"
