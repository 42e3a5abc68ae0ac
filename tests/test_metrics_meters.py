"""Meters: full marks, missing answers, wrong input (merging: test_metrics_merge.py)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refhcm.metrics.boxes import BoxMeter, box_iou
from refhcm.metrics.captions import CaptionMeter, tokenize
from refhcm.metrics.keypoints import KeypointMeter
from refhcm.metrics.parsing import ParsingMeter, confusion


def _samples(rng, count):
    words = ["a", "man", "woman", "red", "hat", "left", "the", "shirt", "with"]
    for _ in range(count):
        corner = rng.uniform(0, 50, 2)
        box = (*corner, *(corner + rng.uniform(20, 60, 2)))
        points = np.column_stack((rng.uniform(0, 100, (17, 2)), rng.integers(0, 3, 17)))
        parts = rng.integers(0, 20, (6, 5))
        yield box, points, parts, " ".join(rng.choice(words, 6))


def _meters():
    return BoxMeter(), KeypointMeter(), ParsingMeter(), CaptionMeter()


def test_perfect_answers_score_full_marks():
    meters = _meters()
    for box, points, parts, text in _samples(np.random.default_rng(1), 8):
        points[:, 2] = 2
        for meter, args in zip(
            meters, [(box, box), (points, points, box), (parts, parts), (text, [text])], strict=True
        ):
            meter.add(*args)
    boxes, keypoints, parsing, captions = (meter.result() for meter in meters)
    assert boxes["acc@0.9"] == boxes["macc"] == boxes["miou"] == boxes["published_acc@0.5"] == 1.0
    assert keypoints["oks"] == keypoints["coco_oks"] == keypoints["pck@0.2"] == 1.0
    assert keypoints["ap"] == pytest.approx(1.0)
    assert parsing["miou"] == parsing["miou_foreground"] == parsing["miou_person"] == 1.0
    assert parsing["classes"] == 20
    assert captions["cider_d"] == pytest.approx(10.0)


def test_missing_answers_stay_in_the_count():
    boxes, keypoints, parsing, captions = _meters()
    points = np.column_stack((np.full((17, 2), 200.0), np.full(17, 2)))
    boxes.add(None, (0, 0, 5, 5))
    keypoints.add(None, points, (190, 190, 210, 210))
    parsing.add(None, np.array([[0, 5], [5, 5]]))
    captions.add(None, ["a man"])
    captions.add("a dog", ["a dog"])
    assert boxes.result()["acc@0.5"] == 0
    assert keypoints.result()["oks"] == pytest.approx(0)
    assert keypoints.result()["ap"] == 0
    assert parsing.result()["miou"] == 0.125
    assert captions.result()["cider_d"] == pytest.approx(2.5)


def test_a_label_outside_the_classes_becomes_background_and_an_ignored_truth_is_left_out():
    matrix = confusion(np.array([255, -1, 3]), np.array([2, 2, 255]), classes=4)
    assert matrix[2].tolist() == [2, 0, 0, 0]
    assert matrix.sum() == 2


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="differ in size"):
        ParsingMeter().add(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"\[N, 4\]"):
        box_iou(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"\(17, 3\)"):
        KeypointMeter().add(None, np.zeros((17, 2)), (0, 0, 1, 1))
    with pytest.raises(ValueError, match="list of one or more"):
        CaptionMeter().add("a man", "a man")
    with pytest.raises(ValueError, match="cannot merge"):
        ParsingMeter(20).merge(ParsingMeter(7))


coordinates = st.floats(-100, 100, allow_nan=False)
any_box = st.tuples(coordinates, coordinates, coordinates, coordinates)


@given(any_box, any_box)
def test_overlap_is_a_symmetric_fraction(first, second):
    (ours,), (theirs,) = box_iou([first], [second]), box_iou([second], [first])
    assert 0 <= ours <= 1 and ours == theirs


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("The man's T-shirt, well-dressed!", "the man 's t-shirt well-dressed"),
        ("She doesn't; they're red/blue.", "she does n't they 're red/blue"),
        ("(standing) costs $5 or 2.50", "standing costs $ 5 or 2.50"),
        ("can’t \n wait...", "ca n't wait"),
        ("", ""),
    ],
)
def test_tokens_are_those_of_the_treebank(text, tokens):
    assert tokenize(text) == tokens


@given(st.text(max_size=40))
def test_tokenising_twice_changes_nothing(text):
    once = tokenize(text)
    assert tokenize(once) == once
