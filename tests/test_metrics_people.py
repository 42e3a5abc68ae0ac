"""Keypoints by PCK, RefHuman by UniPHD's protocol, part maps of several people: worked by hand or the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.metrics.coco import Detection, GroundTruth, average_precision
from refhcm.metrics.keypoints import KeypointMeter, coco_oks
from refhcm.metrics.masks import MaskMeter
from refhcm.metrics.parsing import (
    ParsingMeter,
    class_iou,
    confusion,
    mean_iou,
    mean_precision,
    zoom_nearest,
)
from refhcm.metrics.parsing_people import THRESHOLDS, PeopleParsingMeter
from refhcm.metrics.pck import LENGTHS, head_box_length, pck
from refhcm.metrics.refhuman import RefHumanMeter
from refhcm.tests.golden_data import golden_arrays

BOX = (0.0, 0.0, 60.0, 100.0)


def _truth(labelled=range(17)):
    """Keypoint i at (10 i, 50); ears 10 apart."""
    points = np.zeros((17, 3))
    points[:, 0] = 10.0 * np.arange(17)
    points[:, 1] = 50.0
    points[list(labelled), 2] = np.where(np.arange(len(labelled)) % 2, 1, 2)  # hidden ones count as well
    return points


def _moved(points, pixels):
    """Every keypoint moved down by its own number of pixels."""
    return points[:, :2] + np.column_stack((np.zeros(17), np.broadcast_to(pixels, 17)))


# -- PCK --------------------------------------------------------------------------------------------------------
def test_lengths_are_those_of_the_variants():
    truth = _truth()
    assert {name: length(truth, BOX) for name, length in LENGTHS.items()} == {"box": 100, "torso": 70, "ears": 10}
    assert LENGTHS["ears"](_truth([3, 5, 12]), BOX) == LENGTHS["torso"](_truth([3, 4, 5]), BOX) == 0
    assert head_box_length((0, 0, 30, 40)) == pytest.approx(30)


def test_keypoints_at_the_limit_count_and_beyond_it_do_not():
    truth = _truth()
    assert pck([_moved(truth, 20)], [truth], [BOX])["pck"] == 1.0
    assert pck([_moved(truth, 20.001)], [truth], [BOX])["pck"] == 0.0
    half = _moved(truth, [5.0] * 8 + [5.1] * 9)
    assert pck([half], [truth], [BOX], "ears", 0.5) == {"pck": 8 / 17, "pck_joints": 8 / 17, "people": 1.0}


def test_a_person_without_both_ears_is_skipped_and_keypoints_count_alike():
    """UniPHD's PCKh: all labelled keypoints of the others together, not the mean of people."""
    first, second, skipped = _truth(), _truth([3, 4, 9]), _truth([3, 9, 10])
    answers = [_moved(first, 0), _moved(second, 6), _moved(skipped, 0)]
    result = pck(answers, [first, second, skipped], [BOX] * 3, "ears", 0.5)
    assert result["people"] == 2
    assert result["pck"] == 17 / 20
    assert result["pck_joints"] == pytest.approx((14 + 3 * 0.5) / 17)


def test_ears_at_one_place_leave_the_person_out():
    truth = _truth()
    truth[4, :2] = truth[3, :2]
    assert math.isnan(pck([truth], [truth], [BOX], "ears", 0.5)["pck"])


def test_no_answer_is_wrong_at_every_labelled_keypoint():
    assert pck([None], [_truth([1, 2, 3])], [(0, 0, 10, 10)])["pck"] == 0.0


# -- the keypoint meter -----------------------------------------------------------------------------------------
def test_keypoint_figures_with_and_without_ranking():
    truth = _truth()
    meter = KeypointMeter()
    right = [True, False, True, False, True, True]
    for index, hit in enumerate(right):
        meter.add(_moved(truth, 0 if hit else 500), truth, BOX, area=5000, score=1.0 if hit else index / 100)
    result = meter.result()
    assert [result["coco_macc"], result["coco_oks"]] == pytest.approx([4 / 6, 4 / 6])
    assert result["ap"] == pytest.approx(4 / 6, abs=0.01)
    assert result["ap_constant_score"] < result["ap"]
    assert result["pck@0.05"] == result["pckh_ears@0.5"] == result["pck_torso@0.2"] == pytest.approx(4 / 6)


def test_a_keypoint_that_is_no_number_is_an_absent_one():
    truth, meters = _truth(), (KeypointMeter(), KeypointMeter())
    for meter, absent in zip(meters, (np.nan, 0.0), strict=True):
        points = _moved(truth, 1)
        points[3] = absent
        meter.add(points, truth, BOX, score=0.5)
    assert meters[0].result() == meters[1].result()
    with pytest.raises(ValueError, match="finite"):
        meters[0].add(points, truth, BOX, score=float("inf"))


@given(st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_average_precision_counts_by_our_own_similarity(seed):
    """With scores that put the most similar answers first, AP50 is the share of answers with OKS of a half."""
    rng = np.random.default_rng(seed)
    truths = [_truth() for _ in range(8)]
    answers = [_moved(truth, rng.uniform(0, 40)) for truth in truths]
    oks = [coco_oks(answer, truth, 2000) for answer, truth in zip(answers, truths, strict=True)]
    meter = KeypointMeter()
    for answer, truth, score in zip(answers, truths, oks, strict=True):
        meter.add(answer, truth, BOX, area=2000, score=score)
    share = np.mean(np.array(oks) >= 0.5)
    # COCO reads precision at 101 places of recall, the first of them 0
    expected = np.mean(np.linspace(0, 1, 101) <= share + 1e-9) if share else 0.0
    assert meter.result()["ap50"] == pytest.approx(expected)


# -- RefHuman ---------------------------------------------------------------------------------------------------
def _picture(box):
    mask = np.zeros((100, 100), bool)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
    return mask


def _person(box=BOX, mask=True):
    return GroundTruth(box, 6000.0, _truth(), _picture(box) if mask else None)


def _candidate(score, down=0.0, box=BOX):
    return Detection(score, box, _moved(_truth(), down), _picture(box))


def test_refhuman_takes_ap_of_all_answers_and_the_rest_of_the_best():
    meter = RefHumanMeter()
    half = (0.0, 0.0, 30.0, 100.0)
    samples = [
        ([_candidate(0.2, 0), _candidate(0.9, 5.5, half)], [_person()]),
        ([_candidate(0.8, 4.5), _candidate(0.1, 80, half)], [_person()]),
    ]
    for answers, (truth,) in samples:
        meter.add(answers, truth)
    result, masks = meter.result(), MaskMeter()
    for box in (half, BOX):
        masks.add(_picture(box), _picture(BOX))
    for kind, prefix in (("bbox", "box_"), ("segm", "mask_"), ("keypoints", "")):
        ap = average_precision(kind, samples)
        assert result[f"{prefix}ap"] == pytest.approx(ap["ap"]) and 0 < ap["ap"] < 1
    assert result["pckh_ears@0.5"] == 0.5
    assert result["mask_oiou"] == result["mask_miou"] == 0.75
    assert {t: result[f"mask_p_above@{t}"] for t in (0.5, 0.9)} == {0.5: 0.5, 0.9: 0.5}  # exactly 0.5 is not above
    assert result["mask_oiou"] == masks.result()["oiou"]


def test_refhuman_without_masks_or_answers():
    meter = RefHumanMeter()
    meter.add([], _person(mask=False))
    result = meter.result()
    assert (result["ap"], result["box_ap"], result["pckh_ears@0.5"]) == (0.0, 0.0, 0.0)
    assert not [name for name in result if name.startswith("mask")]
    assert RefHumanMeter().result() == {"samples": 0.0}


def test_refhuman_keeps_twenty_answers():
    meter, right = RefHumanMeter(), _candidate(0.05)
    meter.add([right, *(_candidate(0.1 + i / 100, 500, (80, 80, 90, 90)) for i in range(20))], _person())
    assert meter.result()["box_ap"] == 0.0
    meter = RefHumanMeter()
    meter.add([right, *(_candidate(0.1 + i / 100, 500, (80, 80, 90, 90)) for i in range(19))], _person())
    assert meter.result()["box_ap"] == pytest.approx(1 / 20)


# -- part maps --------------------------------------------------------------------------------------------------
TRUTH = np.array([[0, 0, 1], [0, 2, 1], [2, 2, 255]])
PREDICTED = np.array([[0, 1, 1], [0, 2, 0], [2, 0, 1]])


def test_absent_classes_in_three_ways():
    matrix = confusion(PREDICTED, TRUTH, classes=4)
    assert mean_iou(matrix) == pytest.approx(0.4667, abs=1e-4)
    assert mean_iou(matrix, absent="zero") == pytest.approx(0.3500, abs=1e-4)
    matrix[0, 3] = 1  # a class that only the prediction has
    assert mean_iou(matrix, absent="truth") > mean_iou(matrix) == mean_iou(matrix, absent="zero")
    assert mean_iou(matrix, background=False, absent="zero") == pytest.approx(sum(class_iou(matrix)[1:3]) / 3)
    assert all(math.isnan(mean_iou(np.zeros((4, 4)), absent=name)) for name in ("skip", "zero", "truth"))
    with pytest.raises(ValueError, match="one of skip, zero, truth"):
        mean_iou(matrix, absent="nan")


label_maps = st.lists(st.integers(0, 5), min_size=12, max_size=12).map(lambda row: np.reshape(row, (3, 4)))


@given(label_maps, label_maps)
def test_the_published_rule_is_the_mean_over_classes_that_occur(predicted, truth):
    """Published: IoU summed over the predicted classes, divided by the number of classes that either side has."""
    matrix = confusion(predicted, truth, 6)
    hits, rows, columns = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    total = sum(h / (r + c - h) for h, r, c in zip(hits, rows, columns, strict=True) if c)
    assert mean_iou(matrix) == pytest.approx(total / ((rows + columns) > 0).sum())
    meter = ParsingMeter(6)
    meter.add(predicted, truth)
    result = meter.result()
    assert result["miou"] == result["miou_person"] >= result["miou_absent_zero"]
    assert result["miou_truth_classes"] >= result["miou"]
    assert result["mean_precision"] == mean_precision(matrix)


def test_the_canvas_is_the_published_one():
    arrays = golden_arrays("preprocess/preprocess")
    arrays = arrays if "parsing_gt3" in arrays else golden_arrays("preprocess/canvas")
    for number in (3, 6):
        ours = zoom_nearest(arrays[f"parsing_gt{number}"], (512, 512))
        assert (ours == arrays[f"parsing_gt{number}_512"]).all()


def test_scoring_at_a_canvas_is_scoring_what_was_zoomed():
    rng = np.random.default_rng(2)
    truth, predicted = rng.integers(0, 4, (2, 9, 5))
    at_canvas, direct, plain = ParsingMeter(4, canvas=16), ParsingMeter(4, canvas=16), ParsingMeter(4)
    at_canvas.add(predicted, truth)
    direct.add(zoom_nearest(predicted, (16, 16)), truth)
    plain.add(zoom_nearest(predicted, (16, 16)), zoom_nearest(truth, (16, 16)))
    assert at_canvas.result() == direct.result() == plain.result()
    with pytest.raises(ValueError, match="canvas"):
        at_canvas.add(np.zeros((4, 4)), truth)
    with pytest.raises(ValueError, match="cannot merge"):
        at_canvas.merge(plain)
    with pytest.raises(ValueError, match="1 or more"):
        ParsingMeter(canvas=0)


@given(label_maps, st.integers(1, 9), st.integers(1, 9))
def test_zooming_keeps_the_corners_and_to_the_same_size_everything(parts, height, width):
    assert (zoom_nearest(parts, parts.shape) == parts).all()
    zoomed = zoom_nearest(parts, (height, width))
    assert zoomed.shape == (height, width) and zoomed[0, 0] == parts[0, 0]
    assert height == 1 or width == 1 or zoomed[-1, -1] == parts[-1, -1]


# -- part maps of several people --------------------------------------------------------------------------------
def _strip(*labels):
    """A picture of one row."""
    return np.array([labels], np.uint8)


A, B = _strip(1, 1, 2, 2, 0, 0, 0, 0), _strip(0, 0, 0, 0, 1, 1, 3, 3)


def test_everybody_found_is_full_marks():
    meter = PeopleParsingMeter(4)
    meter.add([A, B], [0.9, 0.8], [B, A])
    assert meter.result() == pytest.approx({
        "ap_p50": 1.0, "ap_p_vol": 1.0, "pcp50": 1.0, "ap_r50": 1.0, "ap_r_vol": 1.0,
        "ap_r_strict50": 1.0, "ap_r_strict_vol": 1.0, "people": 2.0, "samples": 1.0,
    })  # fmt: skip


def test_one_of_two_people_with_half_of_the_parts():
    partly = _strip(1, 1, 3, 3, 0, 0, 0, 0)  # background and class 1 right, 2 and 3 wrong: mean IoU (1 + 1 + 0 + 0) / 4
    meter = PeopleParsingMeter(4)
    meter.add([partly], [0.9], [A, B])
    result = meter.result()
    assert result["ap_p50"] == 0.0  # exactly a half does not exceed it
    assert result["ap_p_vol"] == pytest.approx(4 / 9 * 0.5)
    assert result["pcp50"] == 0.0
    better = _strip(1, 1, 2, 0, 0, 0, 0, 0)  # class 1 right, class 2 half: mean IoU (4/5 + 1 + 1/2) / 3
    meter = PeopleParsingMeter(4)
    meter.add([better], [0.9], [A, B])
    assert meter.result()["ap_p50"] == 0.5
    assert meter.result()["pcp50"] == pytest.approx((1 / 2 + 0) / 2)  # of two parts one exceeds a half; B has none


def test_a_person_claimed_twice_is_one_hit_but_its_parts_count_as_the_script_counts_them():
    meter = PeopleParsingMeter(4)
    meter.add([A, A], [0.9, 0.8], [A, B])
    result = meter.result()
    assert result["ap_p50"] == result["pcp50"] == 0.5
    # classes 1 (of two people), 2 (of A) and 3 (of B)
    assert result["ap_r50"] == pytest.approx((1.0 + 1.0 + 0.0) / 3)
    assert result["ap_r_strict50"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)


def test_pictures_without_people_or_answers():
    meter = PeopleParsingMeter(4)
    meter.add([A], [0.99], [])  # nobody is there: a false positive before everything else
    meter.add([A], [0.5], [A])
    meter.add([], [], [B])
    result = meter.result()
    assert result["ap_p50"] == 0.25
    assert result["ap_r50"] == pytest.approx((0.25 + 0.5 + 0.0) / 3)
    assert (result["people"], result["samples"]) == (2.0, 3.0)
    empty = PeopleParsingMeter(4)
    empty.add([A], [0.5], [])
    assert empty.result() == {"samples": 1.0}
    with pytest.raises(ValueError, match="give one for each"):
        empty.add([A], [], [A])
    with pytest.raises(ValueError, match="cannot merge"):
        empty.merge(PeopleParsingMeter(5))


def _slow_ap_p(pictures, threshold):
    """AP^p as the text of its rule says it, detection by detection."""
    ranked = sorted(
        ((score, i, d) for i, (_, scores, _) in enumerate(pictures) for d, score in enumerate(scores)), reverse=True
    )
    used, precision, recall, hits = set(), [], [], 0
    people = sum(len(truth) for _, _, truth in pictures)
    for rank, (_, i, d) in enumerate(ranked, start=1):
        predicted, _, truth = pictures[i]
        overlaps = [mean_iou(confusion(predicted[d], each, 4)) for each in truth]
        best = int(np.argmax(overlaps)) if overlaps else None
        if best is not None and overlaps[best] > threshold and (i, best) not in used:
            used.add((i, best))
            hits += 1
        precision.append(hits / rank)
        recall.append(hits / people)
    area, last = 0.0, 0.0
    for index, now in enumerate(recall):
        area += (now - last) * max(precision[index:])
        last = now
    return area


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_average_precision_of_people_is_that_of_the_rule(seed):
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(3):
        truth = [rng.integers(0, 4, (2, 6)) for _ in range(rng.integers(1, 3))]
        found = [truth[rng.integers(len(truth))].copy() for _ in range(rng.integers(0, 4))]
        for each in found:
            each[rng.random(each.shape) < 0.3] = 0
        pictures.append((found, rng.random(len(found)).tolist(), truth))
    meter = PeopleParsingMeter(4)
    for picture in pictures:
        meter.add(*picture)
    result = meter.result()
    assert result["ap_p50"] == pytest.approx(_slow_ap_p(pictures, 0.5))
    assert result["ap_p_vol"] == pytest.approx(np.mean([_slow_ap_p(pictures, t) for t in THRESHOLDS]))
    assert result["ap_r_strict_vol"] <= result["ap_r_vol"] + 1e-12
