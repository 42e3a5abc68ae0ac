"""Any number of people in an answer: sets, masks and poses are scored as the definitions say; parts of one answer agree
as far as they are counted to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.metrics.agreement import AgreementMeter, agreement
from refhcm.metrics.coco import Detection, GroundTruth
from refhcm.metrics.grec import GrecMeter
from refhcm.metrics.masks import GresMeter
from refhcm.metrics.people import PeopleMeter

LEFT, MIDDLE, RIGHT = ((x, 0.0, x + 10.0, 20.0) for x in (0.0, 15.0, 30.0))
SIZE = (20, 40)
places = st.sampled_from([LEFT, MIDDLE, RIGHT])
sets = st.lists(places, max_size=3, unique=True)


def inside(box):
    mask = np.zeros(SIZE, bool)
    x1, _, x2, y2 = map(int, box)
    mask[:y2, x1:x2] = True
    return mask


# -- sets ---------------------------------------------------------------------------------------------------------
@given(st.lists(st.tuples(sets, sets), min_size=1, max_size=5))
def test_precision_recall_and_f1_of_sets(questions):
    meter, hits, given, meant, each = GrecMeter(), 0, 0, 0, []
    for found, truth in questions:  # boxes that are no others' neighbours: pairs are equal boxes
        meter.add(found, truth)
        same = len(set(found) & set(truth))
        hits, given, meant = hits + same, given + len(found), meant + len(truth)
        right = float(not found and not truth)
        each.append((
            same / len(found) if found else right, same / len(truth) if truth else right,
            2 * same / (len(found) + len(truth)) if found or truth else right,
        ))  # fmt: skip
    result = meter.result()
    wanted = dict(zip(("precision", "recall", "f1"), np.mean(each, axis=0), strict=True))
    assert {name: result[f"macro_{name}@0.5"] for name in wanted} == pytest.approx(wanted)
    if given and meant:
        together = {"precision": hits / given, "recall": hits / meant, "f1": 2 * hits / (given + meant)}
        assert {name: result[f"micro_{name}@0.5"] for name in together} == pytest.approx(together)


def test_two_boxes_on_one_person_are_one_hit():
    meter = GrecMeter()
    meter.add([LEFT, (0.0, 0.0, 10.0, 19.0)], [LEFT])
    result = meter.result()
    assert (result["micro_precision@0.5"], result["micro_recall@0.5"]) == (0.5, 1.0)


# -- everyone, with masks and poses -------------------------------------------------------------------------------
def person(box, seen=2, shift=0.0):
    points = np.column_stack([np.linspace(box[0], box[2], 17) + shift, np.linspace(1, 19, 17), np.full(17, seen)])
    return GroundTruth(box, 120.0, points, inside(box))


def detected(box, score=0.5, shift=0.0, mask=None):
    points = person(box, shift=shift).keypoints
    points[:, 2] = 0.8
    return Detection(score, box, points, inside(box) if mask is None else mask)


@settings(max_examples=20)
@given(st.lists(st.tuples(sets, sets), min_size=1, max_size=4))
def test_boxes_and_masks_are_scored_as_their_benchmarks_do(questions):
    meter, boxes, masks = PeopleMeter(("mask",)), GrecMeter(), GresMeter()
    for found, truth in questions:
        meter.add([detected(box) for box in found], list(map(person, truth)), 0.5)
        boxes.add(found, truth)
        masks.add(*(np.any([np.zeros(SIZE, bool), *map(inside, some)], axis=0) for some in (found, truth)))
    result = meter.result()
    assert boxes.result().items() <= result.items()
    told = {f"gres_{name}": value for name, value in masks.result().items() if name != "samples"}
    assert told.items() <= result.items()


def test_exact_answers_have_full_precision_and_a_false_one_costs_by_its_rank():
    for score, wanted in ((0.1, 1.0), (0.9, None)):
        meter = PeopleMeter(("mask", "keypoints"))
        meter.add([detected(LEFT), detected(RIGHT)], [person(LEFT), person(RIGHT)], 0.9)
        meter.add([detected(MIDDLE, score)], [], 0.4)
        result = meter.result()
        for name in ("ap", "mask_ap", "keypoint_ap"):
            # Ranked first, the false answer leaves a precision of 1/2 and 2/3, made monotone: 2/3 everywhere.
            assert result[name] == pytest.approx(2 / 3 if wanted is None else wanted), name
        assert result["presence_auc"] == 1.0 and result["samples"] == 2.0


def test_poses_are_ranked_by_their_own_score_too():
    """Two answers with equal boxes; the pose of the false one is surer."""
    meter = PeopleMeter(("keypoints",))
    sure, unsure = detected(LEFT), detected(RIGHT)
    unsure.keypoints[:, 2] = 0.1
    meter.add([unsure], [person(RIGHT)])
    meter.add([sure], [])
    assert meter.result()["keypoint_ap"] == pytest.approx(0.5)


def test_what_is_not_known_of_people_is_not_scored():
    meter = PeopleMeter(("mask", "keypoints"))
    meter.add([detected(LEFT)], [GroundTruth(LEFT)])
    result = meter.result()
    assert result["ap"] == pytest.approx(1)
    assert not any(name.startswith(("gres_", "mask_", "keypoint_")) for name in result)
    meter.add([detected(RIGHT, shift=30)], [person(RIGHT)])
    assert meter.result()["keypoint_ap"] < 0.1
    assert meter.result()["mask_ap"] == pytest.approx(1)
    assert "presence_auc" not in meter.result()  # no chance was told
    with pytest.raises(ValueError, match="cannot merge answers with"):
        meter.merge(PeopleMeter())


def test_a_box_that_is_none_meets_nobody():
    meter = PeopleMeter()
    meter.add([Detection(0.5)], [person(LEFT)])
    assert meter.result()["micro_precision@0.5"] == 0.0 and meter.result()["ap"] == 0.0


# -- agreement ----------------------------------------------------------------------------------------------------
def test_agreement_worked_by_hand():
    points = np.zeros((17, 3))
    points[:4] = [(0, 0, 1), (10, 20, 1), (11, 5, 1), (5, 5, 0)]  # two corners of the box, one outside, one absent
    mask, parts = inside(LEFT), np.zeros(SIZE, np.uint8)
    mask[0, 20:30] = True
    parts[:10, :10] = 5
    counts = agreement(LEFT, points, mask, parts)
    assert counts == {"keypoints_in_box": (2, 3), "mask_in_box": (200, 210), "mask_parts_iou": (100, 210)}
    meter = AgreementMeter()
    meter.add(counts)
    meter.add({"keypoints_in_box": (17, 17), "mask_parts_iou": (3, 3)})
    meter.add(agreement(LEFT, np.zeros((17, 3)), np.zeros(SIZE, bool), None))  # nothing to agree about
    assert meter.result() == pytest.approx({
        "keypoints_in_box": 19 / 20, "mask_in_box": 200 / 210, "mask_parts_iou": (100 / 210 + 1) / 2, "samples": 3,
    })  # fmt: skip
    assert agreement(None, points, None, parts) == {}
