"""Masks and boxes of one person, several or nobody: the rules of RES, GRES and GREC, case by case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refhcm.metrics.boxes import box_iou, box_iou_pairs, generalized_iou_pairs
from refhcm.metrics.grec import GrecMeter, matched_pairs
from refhcm.metrics.masks import GresMeter, MaskMeter, RegionMeter, boundary_iou, dice, mask_iou
from refhcm.metrics.parsing import confusion


def _mask(pixels, start=0):
    """A picture of 10 x 10 with so many pixels inside, counted from `start`."""
    mask = np.zeros(100, np.uint8)
    mask[start : start + pixels] = 255
    return mask.reshape(10, 10)


# -- one person -----------------------------------------------------------------------------------------------
def test_mask_figures_worked_by_hand():
    meter = MaskMeter()
    meter.add(_mask(10), _mask(20))  # 10 of 20
    meter.add(_mask(90), _mask(100))  # 90 of 100
    meter.add(None, _mask(40))  # nothing of 40
    meter.add(_mask(30), _mask(30, start=10))  # 20 of 40
    assert meter.result() == pytest.approx({
        "miou": (0.5 + 0.9 + 0 + 0.5) / 4, "median_iou": 0.5, "oiou": 120 / 200,
        "dice": (20 / 30 + 180 / 190 + 0 + 40 / 60) / 4,
        "p@0.5": 0.75, "p@0.6": 0.25, "p@0.7": 0.25, "p@0.8": 0.25, "p@0.9": 0.25,
        "p_above@0.5": 0.25, "p_above@0.6": 0.25, "p_above@0.7": 0.25, "p_above@0.8": 0.25, "p_above@0.9": 0.0,
        "samples": 4.0,
    })  # fmt: skip


def test_conventions_for_two_empty_masks():
    empty = _mask(0)
    assert (mask_iou(empty, empty), mask_iou(empty, empty, empty=1.0), dice(empty, empty)) == (0.0, 1.0, 1.0)
    for value in (0.0, 1.0):
        meter = MaskMeter(empty=value)
        meter.add(None, empty)
        assert meter.result() == {**meter.result(), "miou": value, "p@0.9": value} and "oiou" not in meter.result()


def test_figures_of_regions_worked_by_hand():
    meter, other = RegionMeter(), RegionMeter()
    # rows: true background, person, others; columns: the answer's
    meter.add_counts(np.array([[50, 10, 0], [5, 20, 5], [0, 10, 0]]))  # person 20 of 50, others 0 of 15
    meter.add_counts(np.array([[60, 0, 0], [0, 30, 0], [0, 0, 10]]))  # both 1
    other.add_counts(np.array([[100, 0, 0], [0, 0, 0], [0, 0, 0]]))  # nobody there: no others to be found
    meter.merge(other)
    assert meter.result() == pytest.approx({
        "person_miou": (0.4 + 1 + 1) / 3, "person_oiou": 50 / 80, "person_dice": (40 / 70 + 1 + 1) / 3,
        "person_p_above@0.5": 2 / 3, "person_p_above@0.7": 2 / 3, "others_miou": 0.5,
        "pixel_accuracy": (70 + 100 + 100) / 300, "samples": 3.0,
    })  # fmt: skip
    assert RegionMeter().result() == {"samples": 0.0}


masks = arrays(bool, (6, 7))


@given(masks, masks)
def test_figures_of_one_mask_agree_with_each_other(predicted, truth):
    pairs = list(zip(predicted.ravel(), truth.ravel(), strict=True))
    inner, union = sum(a and b for a, b in pairs), sum(a or b for a, b in pairs)
    meter = MaskMeter(empty=1.0)
    meter.add(predicted, truth)
    result = meter.result()
    assert result["miou"] == mask_iou(predicted, truth, 1.0) == (inner / union if union else 1.0)
    assert result["dice"] == dice(predicted, truth) == pytest.approx(2 * result["miou"] / (1 + result["miou"]))
    assert result.get("oiou", 1.0) == result["median_iou"] == result["miou"]
    counted = MaskMeter(empty=1.0)
    counted.add_counts(confusion(predicted.astype(int), truth.astype(int), 3))
    assert counted.result() == result


def naive_border(mask, reach):
    """Pixel by pixel: inside, with anything outside within so many pixels; beyond the picture is outside."""
    padded = np.pad(mask, reach)
    side = 2 * reach + 1
    height, width = mask.shape
    whole = np.array([[padded[y : y + side, x : x + side].all() for x in range(width)] for y in range(height)])
    return mask & ~whole


@given(arrays(bool, (9, 12)), arrays(bool, (9, 12)), st.sampled_from([0.01, 0.1, 0.2]))
def test_the_borders_of_masks_are_those_of_their_definition(predicted, truth, ratio):
    reach = {0.01: 1, 0.1: 2, 0.2: 3}[ratio]  # the diagonal is 15
    mine, other = naive_border(predicted, reach), naive_border(truth, reach)
    assert boundary_iou(predicted, truth, ratio) == mask_iou(mine, other, empty=1.0)


def test_a_border_is_as_hard_for_large_masks_as_for_small_ones():
    truth = np.zeros((200, 200), bool)
    truth[20:180, 20:180] = True
    shifted = np.roll(truth, 5, axis=1)
    assert boundary_iou(truth, truth) == 1 and boundary_iou(None, truth) == 0
    assert mask_iou(shifted, truth) > 0.93 > 0.5 > boundary_iou(shifted, truth)


def test_masks_of_unlike_sizes_are_refused():
    for meter in (MaskMeter(), GresMeter()):
        with pytest.raises(ValueError, match="differ in size"):
            meter.add(np.zeros((2, 3)), np.zeros((3, 2)))
        with pytest.raises(ValueError, match=r"\[H, W\]"):
            meter.add(None, np.zeros((2, 3, 1)))
    with pytest.raises(ValueError, match="cannot merge"):
        MaskMeter().merge(MaskMeter(empty=1.0))
    with pytest.raises(ValueError, match="cannot merge"):
        GresMeter().merge(GresMeter(min_pixels=50))
    with pytest.raises(ValueError, match="1 or more"):
        GresMeter(min_pixels=0)


# -- one, several or nobody -----------------------------------------------------------------------------------
def _gres(*cases, **options):
    meter = GresMeter(**options)
    for case in cases:
        meter.add(*case)
    return meter.result()


def test_gres_rules_one_by_one():
    nobody = _mask(0)
    right = _gres((None, nobody))
    assert _gres((_mask(30), nobody), (None, nobody)) == _gres((_mask(30), None), (None, None))
    assert right == {"giou": 1.0, "n_acc": 1.0, "samples": 1.0}  # and nothing in the sums, so no cIoU
    false_alarm = _gres((_mask(30), nobody))
    assert false_alarm == {"giou": 0.0, "ciou": 0.0, "n_acc": 0.0, "samples": 1.0}
    missed = _gres((None, _mask(40)))
    assert missed == {
        "giou": 0.0, "ciou": 0.0, "t_acc": 0.0, "pr@0.7": 0.0, "pr@0.8": 0.0, "pr@0.9": 0.0, "samples": 1.0
    }  # fmt: skip
    found = _gres((_mask(80), _mask(100)))
    assert found == {
        "giou": 0.8, "ciou": 0.8, "t_acc": 1.0, "pr@0.7": 1.0, "pr@0.8": 1.0, "pr@0.9": 0.0, "samples": 1.0
    }  # fmt: skip


def test_gres_sums_over_a_set():
    nobody = _mask(0)
    result = _gres((None, nobody), (_mask(30), nobody), (None, _mask(40)), (_mask(80), _mask(100)))
    assert result["giou"] == pytest.approx((1 + 0 + 0 + 0.8) / 4)
    assert result["ciou"] == pytest.approx((0 + 0 + 0 + 80) / (0 + 30 + 40 + 100))
    assert (result["n_acc"], result["t_acc"], result["pr@0.8"]) == (0.5, 0.5, 0.5)


def test_a_model_may_say_nobody_beside_a_mask():
    """The mask still counts in the union where somebody was meant, and not at all where nobody was."""
    said = _gres((_mask(20, start=80), _mask(40), True), (_mask(50), _mask(0), True))
    assert (said["giou"], said["ciou"], said["n_acc"], said["t_acc"]) == (0.5, 0 / 60, 1.0, 0.0)
    unsaid = _gres((_mask(0), _mask(0), False))
    assert (unsaid["giou"], unsaid["n_acc"]) == (0.0, 0.0)


def test_few_pixels_may_count_as_nobody():
    few = (_mask(49), _mask(0))
    assert _gres(few)["n_acc"] == 0.0
    assert _gres(few, min_pixels=50)["n_acc"] == 1.0
    assert _gres((_mask(49), _mask(49)), min_pixels=50)["giou"] == 0.0


# -- boxes of several -----------------------------------------------------------------------------------------
coordinate = st.floats(0, 50)
boxes = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=4)


@given(boxes, boxes)
@settings(max_examples=30, deadline=None)
def test_overlaps_of_all_pairs_are_those_of_single_ones(first, second):
    iou, giou = box_iou_pairs(first, second), generalized_iou_pairs(first, second)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert iou[i, j] == box_iou([a], [b])[0]
            assert -1 <= giou[i, j] <= iou[i, j] <= 1
            hull = max(0.0, max(a[2], b[2]) - min(a[0], b[0])) * max(0.0, max(a[3], b[3]) - min(a[1], b[1]))
            sizes = [max(0.0, x2 - x1) * max(0.0, y2 - y1) for x1, y1, x2, y2 in (a, b)]
            union = sum(sizes) / (1 + iou[i, j])
            if hull > 1e-6:
                assert giou[i, j] == pytest.approx(iou[i, j] - (hull - union) / hull, abs=1e-6)


def test_generalized_iou_of_known_boxes():
    first, second = [(0, 0, 10, 10)], [(0, 0, 10, 10), (5, 5, 15, 15), (20, 0, 30, 10), (3, 3, 3, 3)]
    assert generalized_iou_pairs(first, second)[0] == pytest.approx([1.0, 25 / 175 - 50 / 225, -1 / 3, 0.0])
    assert generalized_iou_pairs([(3, 3, 3, 3)], [(3, 3, 3, 3)])[0, 0] == -1.0


def test_each_box_and_each_person_is_matched_once_the_best_pair_first():
    assert matched_pairs(np.array([[0.9, 0.8], [0.7, 0.1]])) == 1  # taking .9 first leaves only .1
    assert matched_pairs(np.array([[0.6, 0.9], [0.7, 0.1]])) == 2
    assert matched_pairs(np.array([[0.9], [0.9]])) == 1
    assert matched_pairs(np.full((2, 2), 0.5)) == 2
    assert matched_pairs(np.zeros((0, 3))) == matched_pairs(np.zeros((3, 0))) == 0


LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)


@pytest.mark.parametrize(
    "predicted, truth, right",
    [
        ([LEFT, RIGHT], [RIGHT, LEFT], True),
        ([LEFT], [LEFT, RIGHT], False),  # one is missing
        ([LEFT, RIGHT, RIGHT], [LEFT, RIGHT], False),  # one too many, although it lies well
        ([], [], True),
        ([LEFT], [], False),
        ([], [LEFT], False),
        ([(0, 0, 10, float("nan"))], [LEFT], False),
    ],
)
def test_a_question_is_right_only_if_all_are_found_and_nothing_else(predicted, truth, right):
    meter = GrecMeter()
    meter.add(predicted, truth)
    assert meter.result()["f1_score@0.5"] == meter.result()["f1_score_iou@0.5"] == float(right)


def test_the_published_match_is_stricter_than_iou():
    """Side by side the enclosing box has corners that nobody fills: IoU 0.51, generalised IoU below a half."""
    a, b = (0.0, 0.0, 10.0, 10.0), (1.8, 1.8, 11.8, 11.8)
    assert box_iou([a], [b])[0] > 0.5 > generalized_iou_pairs([a], [b])[0, 0]
    meter = GrecMeter()
    meter.add([b], [a])
    assert (meter.result()["f1_score@0.5"], meter.result()["f1_score_iou@0.5"]) == (0.0, 1.0)


def test_scores_keep_boxes_and_answers_about_nobody_are_counted_apart():
    meter = GrecMeter()
    meter.add([LEFT, RIGHT], [LEFT], scores=[0.7, 0.69])  # the second is not kept
    meter.add([LEFT], [], scores=[0.1])
    meter.add([LEFT], [])
    meter.add([], [RIGHT])
    assert meter.result() == {
        "f1_score@0.5": 0.5, "f1_score_iou@0.5": 0.5, "n_acc": 0.5, "t_acc": 0.5, "samples": 4.0,
        "micro_precision@0.5": 0.5, "micro_recall@0.5": 0.5, "micro_f1@0.5": 0.5,
        "macro_precision@0.5": 0.5, "macro_recall@0.5": 0.5, "macro_f1@0.5": 0.5,
    }  # fmt: skip
    only_people = GrecMeter()
    only_people.add([LEFT], [LEFT])
    assert "n_acc" not in only_people.result()
    with pytest.raises(ValueError, match="give one for each"):
        meter.add([LEFT], [LEFT], scores=[])
    with pytest.raises(ValueError, match="cannot merge"):
        meter.merge(GrecMeter(score_threshold=0.5))
