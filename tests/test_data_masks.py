"""Run lengths as COCO writes them, polygons as COCO draws them, and damaged texts that are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from refhcm.data.masks import (
    decode_mask,
    encode_mask,
    extent,
    mask_area,
    run_lengths,
    segmentation_mask,
    unite_masks,
)
from refhcm.errors import RefHCMError

MASKS = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays(bool, shape))


@given(MASKS)
def test_masks_survive_and_are_those_of_pycocotools(mask):
    size = mask.shape[::-1]
    counts = encode_mask(mask)
    assert np.array_equal(decode_mask(counts, size), mask)
    assert mask_area(counts, size) == mask.sum()
    theirs = coco.decode({"counts": counts.encode(), "size": list(mask.shape)})
    assert np.array_equal(theirs.astype(bool), mask)
    if mask.any():
        x, y, width, height = coco.toBbox({"counts": counts.encode(), "size": list(mask.shape)})
        assert extent(mask) == (x, y, x + width, y + height)
    else:
        assert extent(mask) is None


@given(MASKS, st.data())
def test_union_is_or_and_never_a_sum(mask, data):
    other = data.draw(arrays(bool, mask.shape))
    size = mask.shape[::-1]
    united = unite_masks([encode_mask(mask), encode_mask(other)], size)
    assert np.array_equal(decode_mask(united, size), mask | other)


@given(st.text(max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_no_text_is_read_as_a_mask_of_another_size(text, width, height):
    try:
        runs = run_lengths(text, (width, height))
    except RefHCMError:
        return
    assert runs.min() >= 0 and runs.sum() == width * height


@given(st.lists(st.lists(st.floats(-5, 25), min_size=6, max_size=16).map(lambda p: p[: len(p) // 2 * 2]), max_size=3))
def test_polygons_are_united_whatever_their_form(polygons):
    counts = segmentation_mask(polygons, (20, 15))
    drawn = [coco.decode(coco.frPyObjects([polygon], 15, 20)[0]) for polygon in polygons]
    wanted = np.any(drawn, axis=0) if drawn else np.zeros((15, 20), bool)
    assert np.array_equal(np.zeros((15, 20), bool) if counts is None else decode_mask(counts, (20, 15)), wanted)
    if counts is not None:  # and the same numbers as uncompressed run lengths
        runs = run_lengths(counts, (20, 15)).tolist()
        assert segmentation_mask({"counts": runs, "size": [15, 20]}, (20, 15)) == counts


def test_known_answers():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:4] = True
    assert encode_mask(mask) == "92203" and run_lengths("92203", (5, 4)).tolist() == [9, 2, 2, 2, 5]
    assert segmentation_mask({"counts": [9, 2, 2, 2, 5], "size": [4, 5]}, (5, 4)) == "92203"
    assert encode_mask(np.ones((2, 2))) == "04" and encode_mask(np.zeros((2, 2))) == "4"
    large = np.zeros((100, 80), np.uint8)
    large[10:60, 20:50] = 7
    counts = encode_mask(large)
    assert counts.startswith("jn1b1b1") and counts.endswith("^m2") and mask_area(counts, (80, 100)) == 1500


@pytest.mark.parametrize("polygons, pixels", [
    ([[1, 1, 5, 1, 5, 4, 1, 4]], 12),
    ([[0, 0, 3, 0, 3, 3, 0, 3]], 9),
    ([[1.5, 1.5, 5.5, 1.5, 5.5, 4.5, 1.5, 4.5]], 12),
    ([[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]], 28),
    ([[0, 0, 4, 0, 4, 4, 0, 4], [1, 1, 2, 2]], 16),
])  # fmt: skip
def test_polygons_are_drawn_as_coco_draws_them(polygons, pixels):
    assert mask_area(segmentation_mask(polygons, (8, 8)), (8, 8)) == pixels


@pytest.mark.parametrize("nothing", [[], [[1, 1, 1, 1, 1, 1]], [[1, 2, 3, 4]], {"counts": "P2", "size": [8, 8]}])
def test_nothing_inside_is_no_mask(nothing):
    assert segmentation_mask(nothing, (8, 8)) is None


@pytest.mark.parametrize("segmentation, said", [
    ("92203", "neither polygons"),
    ({"counts": [9, 2, 2, 2, 5], "size": [5, 4]}, r"\[5, 4\] \(height, width\)"),
    ({"counts": [9, 2], "size": [4, 5]}, "add up"),
    ({"counts": [-1, 21], "size": [4, 5]}, "whole numbers"),
    ({"counts": [True, 19], "size": [4, 5]}, "whole numbers"),
    ({"counts": "9220", "size": [4, 5]}, "add up"),
    ({"counts": "9220é", "size": [4, 5]}, "none of theirs"),
    ({"counts": "oooooooooooo0", "size": [4, 5]}, "no picture has"),
    ({"counts": "o", "size": [4, 5]}, "cut short"),
    ([[1, 2, 3, 4, 5, 6, 7]], "without a y"),
    ([[1, 2, 3, 4, 5, "6"]], "list of numbers"),
    ([[1, 2, 3, 4, 5, 1e9]], "far outside"),
    ([[1, 2, 3, 4, 5, float("inf")]], "far outside"),
])  # fmt: skip
def test_what_is_no_mask_is_refused(segmentation, said):
    with pytest.raises(RefHCMError, match=said):
        segmentation_mask(segmentation, (5, 4))
