"""Answer: JSON is strict and complete, what is saved reads back, drawing shows what is there and nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from refhcm.data.annotation import PART_NAMES
from refhcm.errors import RefHCMError
from refhcm.inference.answer import Answer
from refhcm.inference.draw import BOX_COLOUR
from refhcm.inference.draw_strokes import LEFT_COLOUR, MIDDLE_COLOUR, RIGHT_COLOUR

SIZE = (80, 60)


def some_answer(**changes):
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[[5, 6, 7]] = (20, 20, 0.9), (50, 20, 0.8), (15, 45, 0.7)
    parsing = np.zeros((60, 80), np.uint8)
    parsing[10:20, 25:45], parsing[20:50, 15:55] = 2, 5
    fields = {
        "size": SIZE, "text": "the man", "score": 0.5, "box": (10.0, 5.0, 60.0, 55.0), "keypoints": keypoints,
        "parsing": parsing, "caption": "a man in a shirt",
    }  # fmt: skip
    return Answer(**{**fields, **changes})


def has_colour(picture, colour):
    return (np.abs(np.asarray(picture, int) - colour).max(axis=-1) < 6).any()


def test_json_is_strict_and_holds_plain_values():
    value = json.loads(some_answer().to_json(), parse_constant=pytest.fail)
    assert value["box"] == [10.0, 5.0, 60.0, 55.0] and value["present"] is True and value["size"] == [80, 60]
    assert value["keypoints"][5] == [20.0, 20.0, 0.9] and value["keypoints"][0] == [0.0, 0.0, 0.0]
    assert len(value["keypoints"]) == 17


@given(st.floats(width=32), st.floats(width=32), st.floats(width=32))
def test_json_has_no_nan_whatever_the_model_says(x, y, score):
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[3] = x, y, score
    answer = Answer(SIZE, "man", score=float("nan"), box=(x, y, x, y), keypoints=keypoints)
    json.loads(answer.to_json(), parse_constant=pytest.fail)


def test_run_lengths_read_back_with_pycocotools():
    answer = some_answer()
    parts = answer.to_dict()["parsing"]
    assert set(parts) == {"hair", "upper-clothes"} == set(answer.parts)
    for name, code in parts.items():
        assert (coco.decode(code).astype(bool) == (answer.parsing == PART_NAMES.index(name))).all()


def test_the_mask_is_every_part():
    answer = some_answer()
    assert answer.mask.dtype == bool and answer.mask.sum() == 10 * 20 + 30 * 40
    assert some_answer(parsing=None).mask is None and some_answer(parsing=None).to_dict()["parsing"] is None


def test_what_is_saved_reads_back(tmp_path):
    picture = Image.new("RGB", SIZE, "gray")
    answer = some_answer()
    paths = answer.save(tmp_path / "new" / "folder", "one", picture)
    assert [path.name for path in paths] == ["one.json", "one_parts.png", "one_mask.png", "one.png"]
    value = json.loads(paths[0].read_text())
    assert (np.asarray(Image.open(paths[0].parent / value["parsing"])) == answer.parsing).all()
    assert (np.asarray(Image.open(paths[0].parent / value["mask"])) == 255 * answer.mask).all()
    assert some_answer(parsing=None).save(tmp_path, "two") == [tmp_path / "two.json"]
    with pytest.raises(ValueError, match="ask for 'parsing'"):
        some_answer(parsing=None).save_parsing(tmp_path / "three.png")


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not fit a 80 x 60"):
        some_answer(parsing=np.zeros((80, 60), np.uint8))
    with pytest.raises(ValueError, match="17, 3"):
        some_answer(keypoints=np.zeros((17, 2), np.float32))


def test_without_panel_the_drawing_has_the_size_of_the_picture():
    picture = Image.new("RGB", SIZE, "gray")
    assert some_answer().draw(picture, panel=False).size == SIZE
    with pytest.raises(ValueError, match=r"80 x 60.*81 x 60"):
        some_answer().draw(Image.new("RGB", (81, 60)))


def test_a_limb_is_drawn_only_between_present_points():
    picture = Image.new("RGB", SIZE, "gray")
    bare = {"box": None, "parsing": None, "caption": None}
    with pytest.raises(RefHCMError, match="does not hold its picture"):
        some_answer(**bare).draw()
    drawn = some_answer(**bare).draw(picture)
    assert has_colour(drawn, LEFT_COLOUR) and has_colour(drawn, RIGHT_COLOUR) and has_colour(drawn, MIDDLE_COLOUR)
    one = np.zeros((17, 3), np.float32)
    one[5] = 40, 30, 0.9
    drawn = some_answer(**bare, keypoints=one).draw(picture, panel=False)
    assert has_colour(drawn, LEFT_COLOUR) and not has_colour(drawn, MIDDLE_COLOUR)
    corner = np.asarray(drawn)[:8, :8]
    assert (corner == np.asarray(picture)[:8, :8]).all()  # absent points lie at 0, 0 and are not drawn


def test_when_nobody_fits_the_picture_stays_as_it_was():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    absent = Answer(SIZE, "the giant", present=False, score=0.1)
    assert (np.asarray(absent.draw(picture, panel=False)) == np.asarray(picture)).all()
    assert not has_colour(absent.draw(Image.new("RGB", SIZE)), BOX_COLOUR)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2), (33, 2000), (2500, 1800)])
def test_any_size_can_be_drawn(size):
    parsing = np.ones(size[::-1], np.uint8)
    keypoints = np.full((17, 3), 0.5, np.float32)
    answer = Answer(size, "man " * 200, box=(0, 0, *size), keypoints=keypoints, parsing=parsing, caption="W" * 900)
    drawn = answer.draw(Image.new("RGB", size))
    assert drawn.width >= size[0] and drawn.height > size[1]
    assert answer.draw(Image.new("RGB", size), panel=False).size == size
