"""Rows about everybody in a picture, and what they tell the other rows: who else is there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refhcm.data.annotation import Annotation, Question
from refhcm.data.dataset import ReferringDataset
from refhcm.data.make_vocabulary import words_of
from refhcm.data.masks import encode_mask
from refhcm.data.others import Everybody
from refhcm.data.person_file import EVERYBODY, Person, PersonRow, PersonWriter
from refhcm.data.rows import LAYOUTS, Reading, read_pair
from refhcm.data.shard_writer import write_shards
from refhcm.data.transforms import crop, flip
from refhcm.data.tsv import BadRow
from refhcm.data.validate import validate
from refhcm.errors import RefHCMError

SIZE = (40, 30)
NOTHING = np.zeros(SIZE[::-1], bool)


def covering(x1, y1, x2, y2):
    mask = NOTHING.copy()
    mask[y1:y2, x1:x2] = True
    return mask


def person(x1, y1, x2, y2, masked=True):
    mask = covering(x1, y1, x2, y2)
    return Person((x1, y1, x2, y2), mask=encode_mask(mask) if masked else None)


def row(name, *people, picture="1", **more):
    more = more if more.get("everybody") else {"text": "the man", **more}
    return PersonRow(name, picture, f"images/{picture}.png", people, **more)


def write(folder, *rows, points=False):
    (folder / "images").mkdir(exist_ok=True)
    for number in (1, 2):
        Image.new("RGB", SIZE).save(folder / "images" / f"{number}.png")
    with PersonWriter(folder / "p.tsv", points) as file:
        for line in rows:
            file.add(line)
    return folder / "p.tsv"


def opened(folder, *rows, **more):
    return ReferringDataset(write(folder, *rows), "person", masks=True, **more)


LEFT, MIDDLE, RIGHT = person(1, 2, 8, 20), person(12, 1, 20, 25), person(18, 3, 30, 28)

# -- the row itself -------------------------------------------------------------------------------------
corners = st.tuples(*(st.integers(0, 20) for _ in range(4))).map(lambda c: (c[0], c[1], c[0] + c[2] + 1, c[1] + 1))


@given(st.lists(corners, max_size=4, unique=True))
def test_everybody_is_listed_from_left_to_right_however_many_they_are(boxes):
    made = row("a", *(Person(box) for box in boxes), everybody=True)
    values = made.line()[:-1].split("\t")
    fields = {name: values[column] for name, column in LAYOUTS["person"].items()}
    assert fields["text"] == EVERYBODY
    question, answer = read_pair(fields, SIZE, Reading(True, None))
    assert question == Question(SIZE, everybody=True)
    assert [one.box for one in answer.people] == sorted(boxes) and answer.box is None


def test_somebodys_word_is_not_the_mark(tmp_path):
    data = opened(tmp_path, row("a", LEFT, MIDDLE, text=" Everybody\n"), row("b", LEFT, everybody=True))
    assert [data[number][0].text for number in (0, 1)] == ["everybody", None]
    assert [data[number][0].everybody for number in (0, 1)] == [False, True]
    assert list(words_of(data.file.path, "person")) == [" everybody"]


@pytest.mark.parametrize("more", [
    {"text": "the man"}, {"captions": ("a man",)}, {"codes": (1,) * 48}, {"points": (((1.0, 2.0),),)},
])  # fmt: skip
def test_a_row_about_everybody_says_nothing_about_one(more):
    with pytest.raises(RefHCMError, match="no words, points, captions or part codes"):
        row("a", LEFT, everybody=True, **more).line(points=True)


def test_a_question_is_about_everybody_or_somebody():
    for wrong in ({"text": "a man"}, {"region": (1, 1, 2, 2)}, {"points": (((1.0, 1.0),),)}):
        with pytest.raises(ValueError, match="no words, no region and no points"):
            Question(SIZE, everybody=True, **wrong)
    with pytest.raises(ValueError, match="or to be about everybody"):
        Question(SIZE)


# -- which rows a task asks for -------------------------------------------------------------------------
def test_rows_by_how_many_people_they_are_about(tmp_path):
    data = opened(
        tmp_path, row("one", LEFT), row("region", LEFT, text=None), row("nobody"), row("several", LEFT, RIGHT),
        row("half", LEFT, person(1, 1, 3, 3, masked=False)), row("all", LEFT, RIGHT, everybody=True),
    )  # fmt: skip

    def names(*needs, **about):
        return [data.name(number) for number in data.usable(needs, **about)]

    assert names() == names(about="one") == ["one", "region"]
    assert names("text", about="one or nobody") == ["one", "nobody"]
    assert names("text", about="people") == ["one", "nobody", "several", "half"]
    assert names(about="everybody") == names("mask", about="everybody") == ["all"]
    assert names("text", about="everybody") == names("keypoints", about="everybody") == []
    # Nothing is unknown about nobody; of several people, everyone's must be known.
    assert names("text", "mask", about="people") == ["one", "nobody", "several"]
    assert names("others", about="people") == ["one", "region", "nobody", "several"]
    assert {why: int(rows.sum()) for why, rows in data.shortfall(["text"]).items()} == {
        "list everybody": 1, "are about several people or nobody": 3, "ask without words": 1
    }  # fmt: skip
    assert list(data.shortfall([], "everybody")) == ["do not list everybody"]
    with pytest.raises(ValueError, match="'two'"):
        data.usable([], about="two")


def test_published_rows_are_about_one_person_each(tmp_path):
    (tmp_path / "rec.tsv").write_text("1\t1\tEverybody\t1,1,5,5\tx.png\n")
    data = ReferringDataset(tmp_path / "rec.tsv", "rec", masks=True)
    assert [len(data.usable([], about)) for about in ("one", "people", "everybody")] == [1, 1, 0]
    assert len(data.usable(["others"])) == 0


def test_rows_by_points_serve_questions_about_one_person_that_take_them(tmp_path):
    marked = PersonRow("p", "1", "images/1.png", (LEFT,), points=(((3.0, 4.0),),))
    path = write(tmp_path, marked, row("a", LEFT, everybody=True), row("w", LEFT), points=True)
    data = ReferringDataset(path, "person", masks=True)
    assert data.usable(["box"]).tolist() == data.usable(["text", "box"]).tolist() == [2]
    assert data.shortfall(["box"])["ask by points"].tolist() == [True, False, False]
    for about, served in (("one", [0, 2]), ("one or nobody", [0, 2]), ("people", [2]), ("everybody", [1])):
        needs = ["mask"] if about == "everybody" else ["text", "mask"]
        assert data.usable(needs, about, points=True).tolist() == served
    assert data.usable(["captions"], points=True).tolist() == []
    assert not data[0][1].others.any() and data[1][0].everybody


# -- who else is there ----------------------------------------------------------------------------------
def test_others_are_everyone_but_the_person_meant(tmp_path):
    everybody = row("all", RIGHT, LEFT, MIDDLE, everybody=True)
    for order in (1, -1):  # the row about everybody may stand anywhere
        rows = [row("left", LEFT), row("right", RIGHT, text=None), row("two", LEFT, MIDDLE), row("no"), everybody]
        data = opened(tmp_path, *rows[::order], row("elsewhere", LEFT, picture="2"))
        got = {data.name(number): data[number][1] for number in range(len(data))}
        left, middle, right = (covering(*map(int, one.box)) for one in (LEFT, MIDDLE, RIGHT))
        assert np.array_equal(got["left"].others, middle | right)
        assert np.array_equal(got["right"].others, left | middle)
        others = [middle | right, left | right, left | middle]
        for name, wanted in (("two", others[:2]), ("all", others)):
            assert all(np.array_equal(one.others, other) for one, other in zip(got[name].people, wanted, strict=True))
            assert got[name].others is None
        assert got["no"].people == () and got["elsewhere"].others is None
        assert ReferringDataset(data.file.path, "person")[0][1].others is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_others_are_whatever_somebody_else_covers(seed, boxes):
    """Also where people overlap, or several stand in the very same box and none of them can be told from the rest."""
    masks = np.random.default_rng(seed).random((len(boxes), 7, 5)) < 0.5
    people = [Annotation((5, 7), (box, 0, box + 1, 5), mask=mask) for box, mask in zip(boxes, masks, strict=True)]
    everybody = Everybody(people, (5, 7))
    for box, person in zip(boxes, people, strict=True):
        mine = [place for place, other in enumerate(boxes) if other == box]
        wanted = masks.sum(0) > masks[mine].sum(0)
        assert np.array_equal(everybody.complete(person).others, wanted)


people = st.lists(st.tuples(st.sampled_from([LEFT, MIDDLE, RIGHT, person(2, 2, 9, 9)]), st.booleans()), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(people, st.booleans(), st.sampled_from("12")), min_size=1, max_size=5))
def test_rows_that_know_others_are_those_that_get_them(tmp_path_factory, listed):
    rows = [
        row(str(number), *(Person(who.box, mask=who.mask if masked else None) for who, masked in meant),
            picture=picture, **({"everybody": True} if everybody else {}))
        for number, (meant, everybody, picture) in enumerate(listed)
    ]  # fmt: skip
    data = opened(tmp_path_factory.mktemp("rows"), *rows)
    for number in range(len(data)):
        _, answer, _ = data[number]
        found = (answer,) if answer.people is None else answer.people
        if found:
            assert all(one.others is not None for one in found) == data.known.fields["others"][number]


def test_a_row_about_everybody_that_cannot_be_used_is_named(tmp_path):
    path = write(tmp_path, row("a", LEFT), row("all", LEFT, everybody=True), row("b", LEFT, picture="2"))
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace(LEFT.mask, "92203")
    path.write_text("\n".join(lines) + "\n")
    data = ReferringDataset(path, "person", masks=True)
    with pytest.raises(BadRow, match=r"line 1: line 2, about everybody in its picture: the mask's run lengths"):
        data[0]
    bad = []
    assert data.load([0, 1], bad) == ({}, None) and [error.line for error in bad] == [2, 1]
    assert data[2][1].others is None
    assert ReferringDataset(path, "person")[0][1].box == LEFT.box


def test_shards_tell_the_same(tmp_path):
    path = write(tmp_path, row("a", LEFT), row("all", LEFT, RIGHT, everybody=True))
    made = write_shards(path, tmp_path / "out", 10**6)
    data = ReferringDataset(made.name, "person", masks=True)
    assert np.array_equal(data[0][1].others, covering(*map(int, RIGHT.box)))
    assert data.usable(["others"], "everybody").tolist() == [1]


def test_others_move_along_with_their_picture():
    others = covering(12, 1, 20, 25)
    pair = Question(SIZE, "the man"), Annotation(SIZE, LEFT.box, others=others)
    assert np.array_equal(flip(pair)[1].others, others[:, ::-1])
    window = (10, 2, 25, 26)
    assert np.array_equal(crop(pair, SIZE, window)[1].others, others[2:28, 10:35])
    canvas = crop(pair, SIZE, (-5, -4, 60, 50))[1].others
    assert canvas.shape == (50, 60) and np.array_equal(canvas[4:34, 5:45], others) and canvas.sum() == others.sum()
    several = pair[0], Annotation(SIZE, people=(pair[1], pair[1]))
    for moved, wanted in ((flip(several), flip(pair)), (crop(several, SIZE, window), crop(pair, SIZE, window))):
        assert all(np.array_equal(one.others, wanted[1].others) for one in moved[1].people)


# -- validation -----------------------------------------------------------------------------------------
def test_validation_knows_rows_about_everybody(tmp_path):
    everybody, nobody = row("all", LEFT, RIGHT, everybody=True), row("c", picture="2")
    found = validate(write(tmp_path, row("a", LEFT), row("b", person(3, 3, 9, 9)), everybody, nobody))
    assert found.faults == 0 and found.known["list everybody"] == 1 and found.known["ask with words"] == 3
    assert found.known["mean several people"] == 0 and found.known["mean nobody"] == 1
    assert found.known["know who else is there"] == 2  # `b` is not on the list


def test_validation_finds_everybody_twice_or_out_of_order(tmp_path):
    path = write(tmp_path, row("x", LEFT, RIGHT, everybody=True), row("y", LEFT, everybody=True))
    first, second = path.read_text().splitlines()
    boxes = first.split("\t")[LAYOUTS["person"]["box"]]
    path.write_text("\n".join([first.replace(boxes, "|".join(boxes.split("|")[::-1])), second]) + "\n")
    assert [fault.why for fault in validate(path).first] == [
        "everybody is not listed from left to right, by the left edge of the box.; the mask lies outside the box.; "
        "the mask lies outside the box.",
        "everybody in picture 1 is listed in line 1 already.",
    ]
