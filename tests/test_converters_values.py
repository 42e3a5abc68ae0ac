"""Whatever form a box, a pose or a person's pixels are written in, the row says the same."""

import json

import numpy as np
import pytest
from converted import save_labels, save_picture
from hypothesis import given
from hypothesis import strategies as st

from refhcm.data.converters.values import BadValue, read_boxes, read_mask, read_points
from refhcm.data.converters.words import read_captions, read_words
from refhcm.data.masks import decode_mask, encode_mask, extent
from refhcm.errors import RefHCMError

SIZE = (640, 480)
coordinate = st.integers(0, 470)
side = st.integers(1, 900)
points = st.lists(
    st.tuples(st.integers(0, 640), st.integers(0, 480), st.sampled_from([0, 1, 2])), min_size=17, max_size=17
)


@given(coordinate, coordinate, side, side)
def test_boxes_in_every_form_are_one_box(x, y, width, height):
    corners, measured = [x, y, x + width, y + height], [x, y, width, height]
    if max(corners) <= 1 or max(measured) <= 1:  # taken for fractions
        return
    wanted = ((x, y, min(x + width, 640), min(y + height, 480)),)
    for form, box in (("xyxy", corners), ("xywh", measured)):
        text = ",".join(map(str, box))
        for value in (box, [box], text, f"[{text}]", text.replace(",", " "), text.replace(",", "; ")):
            assert read_boxes(value, SIZE, form) == wanted


@given(points)
def test_keypoints_in_every_form_are_one_pose(listed):
    wanted = np.array([[x, y, v] if v else [0, 0, 0] for x, y, v in listed], float)
    flat = [number for point in listed for number in point]
    with_gaps = [list(point) if point[2] else None for point in listed]
    for value in (flat, [list(point) for point in listed], ",".join(map(str, flat))):
        assert np.array_equal(read_points(value), wanted)
    if wanted.any():
        assert np.array_equal(read_points(with_gaps), wanted)


@given(points)
def test_pairs_count_as_seen_unless_zero(listed):
    pairs = [[x, y] if v else [0, 0] for x, y, v in listed]
    found = read_points(pairs)
    assert np.array_equal(found[:, :2], pairs) and np.array_equal(found[:, 2], 2 * np.any(pairs, axis=1))
    assert np.array_equal(read_points([number for pair in pairs for number in pair]), found)


@given(points, st.floats(0.01, 0.99))
def test_scores_become_seen_or_unlabelled(listed, limit):
    scored = [[x, y, v / 2] for x, y, v in listed]
    found = read_points(scored, limit)
    assert np.array_equal(found[:, 2], [2 * (score > limit) for *_, score in scored])


@given(points, st.integers(0, 25), st.booleans())
def test_poses_of_any_length_are_padded_or_cut(listed, length, flat):
    value = (listed * 2)[:length]
    if not value:
        return
    wanted = np.zeros((17, 3))
    wanted[: min(length, 17)] = [[x, y, v] if v else [0, 0, 0] for x, y, v in value[:17]]
    written = [number for point in value for number in point] if flat else [list(point) for point in value]
    if not flat or len(written) != 34:
        assert np.array_equal(read_points(written, pad=True), wanted)
    if length != 17:
        with pytest.raises(BadValue):
            read_points(written)


@given(st.data())
def test_the_box_of_a_person_holds_exactly_the_pixels(data):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    cells = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    own = np.array(cells).reshape(height, width)
    box = extent(own)
    if not own.any():
        assert box is None
        return
    x1, y1, x2, y2 = map(int, box)
    assert own[y1:y2, x1:x2].sum() == own.sum()
    for edge in (own[y1, x1:x2], own[y2 - 1, x1:x2], own[y1:y2, x1], own[y1:y2, x2 - 1]):
        assert edge.any()
    assert np.array_equal(decode_mask(encode_mask(own), (width, height)), own)


nonsense = st.one_of(st.none(), st.text(max_size=20), st.integers(), st.floats())


@given(st.one_of(nonsense, st.lists(st.one_of(nonsense, st.lists(nonsense)))))
def test_nonsense_is_refused_in_one_way(value):
    for read in (lambda v: read_boxes(v, SIZE), read_points, lambda v: read_points(v, 0.5, pad=True)):
        try:
            read(value)
        except BadValue as error:
            assert len(error.found) < 70 and "\n" not in str(error)


def test_a_mask_that_covers_everything_is_a_mistake(tmp_path):
    save_labels(tmp_path / "m.png", np.full((480, 640), 255))
    with pytest.raises(BadValue, match="covers the whole picture"):
        read_mask("m.png", SIZE, tmp_path)
    save_picture(tmp_path / "small.png", (4, 4))
    with pytest.raises(BadValue, match="another size"):
        read_mask("small.png", SIZE, tmp_path)


# -- words by person ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.json", json.dumps({"1_0": ["a man", "a boy"], "1_1": "a girl"})),
        ("w.json", json.dumps([{"id": "1_0", "captions": ["a man", "a boy"]}, {"id": "1_1", "caption": "a girl"}])),
        ("w.jsonl", '{"1_0": ["a man", "a boy"]}\n\n{"id": "1_1", "text": "a girl"}\n'),
        ("w.csv", 'ID,Caption\n1_0,a man\n1_0,a boy\n1_1,"a girl"\n'),
        ("w.tsv", "anno_id\ttext\n1_0\ta man\n1_0\ta boy\n1_1\ta girl\n"),
    ],
)
def test_words_by_person_in_every_form(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_words(tmp_path / name) == {"1_0": ["a man", "a boy"], "1_1": ["a girl"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [('{"id": "a"}', "line 1: the words of a are missing"), ('{"a": 5}', "line 1: the words of a"), ("{", "line 1: ")],
)
def test_wrong_words_are_named(tmp_path, content, said):
    (tmp_path / "w.jsonl").write_text(content)
    with pytest.raises(RefHCMError, match=said):
        read_words(tmp_path / "w.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.csv", "1_0,a man\n1_1,a girl\n1_2,a boy\n"),
        ("w.csv", "1_0,a man\n"),
        ("w.tsv", "1_0\ta man\n1_1\ta girl\n"),
        ("w.tsv", "text\na man\n"),
        ("w.csv", "id,box\n1_0,5\n"),
    ],
)
def test_a_table_without_names_of_columns_is_refused(tmp_path, name, content):
    """Its first person would be taken for a column, and the others' ids for words."""
    (tmp_path / name).write_text(content)
    with pytest.raises(RefHCMError, match="needs the columns id and text"):
        read_words(tmp_path / name)


@pytest.mark.parametrize(("content", "said"), [
    ('{"text": "a man"}\n', "line 1: it has words but no id"),
    ('{"id": "1_0", "text": "a man", "caption": "a man"}\n', "both give the text"),
])  # fmt: skip
def test_words_of_nobody_are_refused(tmp_path, content, said):
    (tmp_path / "w.jsonl").write_text(content)
    with pytest.raises(RefHCMError, match=said):
        read_words(tmp_path / "w.jsonl")


PUBLISHED = {
    "refcihp_val.tsv": "".join(f"1_{k}\t{text}\t1,1,6,7\t3,3\tval/1_{k}.npy\tval/1.jpg\n" for k, text in
                               enumerate(("a man", "None"))),
    "capcihp_val.tsv": "1_0\ta man [1, 2]&&a tall man\t1,1,6,7\tAAAA\n1_1\t[3, 4]\t1,1,6,7\tAAAA\n",
}


def test_published_files_are_sources_of_words(tmp_path):
    for name, content in PUBLISHED.items():
        (tmp_path / name).write_text(content)
    assert read_words(tmp_path / "refcihp_val.tsv") == {"1_0": ["a man"]}
    assert read_captions(tmp_path / "capcihp_val.tsv") == {"1_0": ["a man [1, 2]", "a tall man"], "1_1": []}
    with pytest.raises(RefHCMError, match="of the kind rhrc: it holds captions, not text"):
        read_words(tmp_path / "capcihp_val.tsv")
    with pytest.raises(RefHCMError, match="of the kind rpar: it holds text, not captions"):
        read_captions(tmp_path / "refcihp_val.tsv")
    (tmp_path / "own.tsv").write_text("1_0\ta man\tblue\tAAAA\n")
    with pytest.raises(RefHCMError, match=r"own\.tsv, line 1: the box is not numbers"):
        read_captions(tmp_path / "own.tsv")
