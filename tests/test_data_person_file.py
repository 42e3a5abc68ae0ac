"""Our own rows: what is written is read, in any mixture of what is known; each task gets the rows that serve it."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import Letters
from PIL import Image

from refhcm import tasks
from refhcm.data.annotation import Annotation, Question
from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.masks import decode_mask, encode_mask
from refhcm.data.person_file import BY_REGION, Person, PersonRow, PersonWriter, clean_field
from refhcm.data.rows import LAYOUTS, read_pair
from refhcm.data.rows import Reading as RowReading
from refhcm.data.transforms import crop, flip
from refhcm.data.tsv import BadRow
from refhcm.data.vocabulary import Vocabulary
from refhcm.errors import RefHCMError
from refhcm.tasks import Reading

SIZE = (40, 30)
VOCABULARY = Vocabulary(Letters(), num_codes=96, num_bins=100, mark_start=40)
CODES = tuple(i % 32 for i in range(48))
MASK = np.zeros(SIZE[::-1], bool)
MASK[4:20, 5:15] = True


def points(v=2):
    found = np.zeros((17, 3))
    found[3] = (7.5, 9, v)
    return found


def known(**more):
    return Person((5, 4, 15, 20), points(), encode_mask(MASK), **more)


def row(name, *people, text="the man", **more):
    return PersonRow(name, "1", "images/1.png", people, text, **more)


def write(folder, *rows):
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", SIZE).save(folder / "images" / "1.png")
    with PersonWriter(folder / "p.tsv") as file:
        for line in rows:
            file.add(line)
    return folder / "p.tsv"


# -- what is written is read ----------------------------------------------------------------------------
hundredths = st.integers(0, 3000).map(lambda n: n / 100)
boxes = st.tuples(hundredths, hundredths, hundredths, hundredths).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 0.01, max(b[1], b[3]) + 0.01)
)
keypoints = st.lists(st.tuples(hundredths, hundredths, st.sampled_from([0, 1, 2])), min_size=17, max_size=17)
people = st.builds(
    Person,
    box=boxes,
    keypoints=st.none() | keypoints.map(lambda p: np.array(p, float) * (np.array(p)[:, 2:] > 0)),
    mask=st.none() | st.integers(1, 200).map(lambda n: encode_mask(np.arange(1200).reshape(30, 40) % 201 < n)),
    area=st.none() | st.integers(1, 10**6).map(lambda n: n / 100),
)
texts = st.text(max_size=20).filter(lambda t: clean_field(t) not in ("", BY_REGION) and "&&" not in clean_field(t))
solid = texts.filter(lambda t: t.isprintable() and t.isascii() and "&" not in t and "[" not in t)


@given(st.lists(people, max_size=3), texts, st.lists(solid, max_size=2), st.booleans())
def test_every_row_survives(listed, text, captions, coded):
    codes = CODES if coded and len(listed) == 1 else None
    made = PersonRow("a:1:0", "1", "1.png", tuple(listed), text, tuple(captions), codes)
    values = made.line()[:-1].split("\t")
    fields = {name: values[column] for name, column in LAYOUTS["person"].items()}
    question, answer = read_pair(fields, SIZE, RowReading(True, None, masks=True))
    assert question.text == clean_field(text) and answer.codes == codes
    assert len(answer.captions) == len(captions)
    found = (answer,) if answer.people is None else answer.people
    assert len(found) == len(listed) and (answer.people is None) == (len(listed) == 1)
    for got, wanted in zip(found, listed, strict=True):
        assert got.box == pytest.approx(wanted.box) and (got.keypoints is None) == (wanted.keypoints is None)
        if wanted.keypoints is not None:
            np.testing.assert_allclose(got.keypoints, wanted.keypoints, atol=1e-3)
        mask = None if wanted.mask is None else decode_mask(wanted.mask, SIZE)
        assert (got.mask is None) == (mask is None) and (mask is None or np.array_equal(got.mask, mask))
        assert got.area == (wanted.area or (None if mask is None else mask.sum()))


@pytest.mark.parametrize("made, said", [
    (row("a", text=None), "exactly one person, not 0"),
    (row("a", known(), known(), text=None), "exactly one person, not 2"),
    (row("a", known(), known(), codes=CODES), "of one person, not of 2"),
    (row("a", text="  \n"), "text is empty"),
    (row("", known()), "id is empty"),
    (row("a\t", known()), "tab, a line end or a NUL"),
    (row("a\0", known()), "tab, a line end or a NUL"),
    (row("a", known(), text="\ud800"), "character that is none"),
    (row("a", known(), captions=("a && b",)), "caption"),
    (row("a", known(), captions=("[1, 2]",)), "a caption is empty"),
    (row("a", known(), captions=(" & ",)), "a caption is empty"),
    (row("a", Person((5, 4, 5.001, 20))), "no width or height"),
    (row("a", Person((5, 4, float("nan"), 20))), "no width or height"),
    (row("a", Person((5, 4, float("inf"), 20))), "not all numbers"),
    (row("a", Person((5, 4, 6, 20), np.zeros((17, 2)))), r"shape \(17, 2\)"),
])  # fmt: skip
def test_what_a_row_cannot_say_is_refused(made, said):
    with pytest.raises(RefHCMError, match=said):
        made.line()


def test_the_mark_of_a_region_is_no_word():
    assert row("a", known(), text="None").line().split("\t")[2] == "none"
    assert row("a", known(), text=None).line().split("\t")[2] == BY_REGION


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = write(tmp_path, row("a", known()))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), PersonWriter(path) as file:
        file.add(row("b"))
        1 / 0  # noqa: B018
    assert path.read_bytes() == before and [p.name for p in tmp_path.glob("p.tsv*")] == ["p.tsv"]


# -- reading --------------------------------------------------------------------------------------------
def test_one_several_and_nobody(tmp_path):
    other = Person((20, 1, 30, 29))
    path = write(tmp_path, row("a", known(area=99.5)), row("b", known(), other), row("c"), row("d", known(), text=None))
    data = ReferringDataset(path, "person", masks=True)
    question, answer, _ = data[0]
    assert question.region == answer.box == (5, 4, 15, 20) and answer.area == 99.5 and answer.people is None
    assert np.array_equal(answer.mask, MASK) and answer.keypoints[3].tolist() == [7.5, 9, 2]
    question, answer, _ = data[1]
    assert question.region is None and answer.box is answer.mask is answer.keypoints is None
    assert [person.box for person in answer.people] == [(5, 4, 15, 20), (20, 1, 30, 29)]
    assert answer.people[0].area == MASK.sum() and answer.people[1].area is None
    assert data[2][1].people == () and data[3][0].text is None
    assert ReferringDataset(path, "person")[0][1].mask is None


@pytest.mark.parametrize("column, value, said", [
    ("box", "5,4,15,20|1,2,3,4", "mask has 1 entries for 2 boxes|keypoints has 1 entries for 2 boxes"),
    ("box", "", "keypoints has 1 entries for 0 boxes"),
    ("text", "", "text is empty"),
    ("mask", "92203", "add up to the picture's 40x30"),
    ("area", "0", "not above 0"),
    ("area", "x", "the area is not numbers"),
])  # fmt: skip
def test_wrong_fields_are_named(tmp_path, column, value, said):
    path = write(tmp_path, row("a", known()))
    fields = path.read_text().rstrip("\n").split("\t")
    fields[LAYOUTS["person"][column]] = value
    path.write_text("\t".join(fields) + "\n")
    with pytest.raises(BadRow, match=rf"p\.tsv, line 1: .*({said})"):
        ReferringDataset(path, "person")[0]


def test_an_earlier_layout_is_named(tmp_path):
    (tmp_path / "p.tsv").write_text("1\t1\tx\t1,1,2,2\t\t\t\t\timages/1.png\n")
    with pytest.raises(RefHCMError, match="9 columns of an earlier layout"):
        ReferringDataset(tmp_path / "p.tsv", "person")


@pytest.mark.parametrize("more, area", [({"area": 400.0}, 400), ({}, 160), ({"mask": None}, None)])
def test_oks_is_measured_by_the_segment_area(tmp_path, more, area):
    person = Person(**{**vars(known()), **more})
    _, answer, _ = ReferringDataset(write(tmp_path, row("a", person)), "person")[0]
    assert answer.area == area
    segment = tasks.build("rkpt", VOCABULARY).segments[1]
    meter = segment.meter()
    guess = points()
    guess[3] += (2, 0, 0)
    segment.score(meter, Reading(keypoints=guess, box_score=1.0), answer)
    area = area or 0.53 * 160  # of the box, where nothing better is known
    assert meter.result()["coco_oks"] == pytest.approx(np.exp(-4 / (2 * area * (2 * 0.035) ** 2)))


# -- which rows serve which task ------------------------------------------------------------------------
@pytest.fixture
def mixed(tmp_path):
    boxed = Person((5, 4, 15, 20))
    return ReferringDataset(write(
        tmp_path,
        row("all", known(), codes=CODES, captions=("a man",)),
        row("boxed", boxed),
        row("several", known(), known()),
        row("nobody"),
        row("region", known(), text=None, captions=("a man",)),
    ), "person")  # fmt: skip


def test_rows_that_know_enough(mixed):
    assert mixed.usable(["box"]).tolist() == [0, 1, 4] and mixed.usable([]).tolist() == [0, 1, 4]
    assert mixed.usable(["text", "box"]).tolist() == [0, 1]
    assert mixed.usable(["keypoints"]).tolist() == mixed.usable(["mask"]).tolist() == [0, 4]
    assert mixed.usable(["codes", "captions"]).tolist() == [0] and mixed.usable(["parts"]).tolist() == []
    assert {why: rows.tolist().count(True) for why, rows in mixed.shortfall(["text", "keypoints"]).items()} == {
        "are about several people or nobody": 2, "ask without words": 1, "do not know keypoints": 1
    }  # fmt: skip


def test_each_row_serves_the_tasks_that_it_knows_enough_for(mixed, caplog):
    caplog.set_level("INFO")
    chosen = [tasks.build(name, VOCABULARY) for name in ("rec", "rkpt", "rhrc")]
    data = SampleDataset(mixed, chosen, 8)
    found = [(sample["id"], sample["task"]) for i in range(len(data)) for sample in data[i]]
    assert found == [
        ("all", "rec"), ("all", "rkpt"), ("all", "rhrc"), ("boxed", "rec"), ("region", "rkpt"), ("region", "rhrc")
    ]  # fmt: skip
    assert data.left_out["rec"] == {"are about several people or nobody": 2, "ask without words": 1}
    assert "task rec uses 2 of 5 rows; 2 are about several people or nobody, 1 ask without words" in caplog.text
    assert len(SampleDataset(mixed, chosen, 8, grouped=9)) == 1
    drawn = SampleDataset(mixed, chosen, 8, one_task=True)
    for epoch in range(5):
        drawn.set_epoch(epoch)
        assert [drawn[i][0]["id"] for i in range(3)] == ["all", "boxed", "region"]


def test_a_row_that_cannot_be_split_stays_to_be_met(tmp_path):
    path = write(tmp_path, row("a", known()), row("b", known()))
    with path.open("a") as file:
        file.write("c\t1\tx\n")
    data = ReferringDataset(path, "person")
    assert data.usable(["keypoints"]).tolist() == [0, 1, 2]
    samples = SampleDataset(data, [tasks.build("rkpt", VOCABULARY)], 8, set_aside=True)
    assert isinstance(samples[2][0], BadRow) and samples[2][0].line == 3


# -- mirror and crop ------------------------------------------------------------------------------------
def pair(people=None):
    person = Annotation(SIZE, (5, 4, 15, 20), points(), mask=MASK, area=99.0)
    answer = person if people is None else Annotation(SIZE, people=(person,) * people)
    return Question(SIZE, "left man"), answer


def test_masks_areas_and_people_are_mirrored_and_cut_along():
    _, answer = flip(pair())
    assert np.array_equal(answer.mask, MASK[:, ::-1]) and answer.area == 99 and answer.people is None
    _, answer = flip(pair(2))
    assert answer.box is None and [person.box for person in answer.people] == [(25, 4, 35, 20)] * 2
    _, answer = crop(pair(), SIZE, (10, 0, 20, 30))
    assert np.array_equal(answer.mask, MASK[:, 10:30]) and answer.area == MASK[:, 10:30].sum()
    _, answer = crop(pair(1), SIZE, (10, 0, 20, 30))
    assert answer.people[0].box == (0, 4, 5, 20) and answer.people[0].size == (20, 30)


def test_pictures_in_the_row(tmp_path):
    import base64

    file = io.BytesIO()
    Image.new("CMYK", SIZE).save(file, "JPEG")
    made = PersonRow("a", "1", base64.b64encode(file.getvalue()).decode(), (known(),), "x")
    with PersonWriter(tmp_path / "p.tsv") as out:
        out.add(made)
    _, _, image = ReferringDataset(tmp_path / "p.tsv", "person")[0]
    assert image.mode == "RGB" and image.size == SIZE
