"""AP and AR are those of two libraries, whatever the answers, and COCO's traps are not stepped into."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from refhcm.metrics.boxes import BoxMeter, box_ap
from refhcm.metrics.coco import (
    KEYPOINT_NAMES,
    REGION_NAMES,
    Detection,
    GroundTruth,
    average_precision,
    mask_area,
    run_lengths,
)
from refhcm.metrics.keypoints import keypoint_ap

SIDE = 160


def _box(rng):
    corner = rng.uniform(0, 60, 2)
    return (*corner, *(corner + rng.uniform(10, 100, 2)))


def _inside(box):
    mask = np.zeros((SIDE, SIDE), bool)
    x1, y1, x2, y2 = (int(value) for value in box)
    mask[y1:y2, x1:x2] = True
    return mask


def _shaken(rng, box):
    spread = rng.choice([1, 6, 40])
    moved = np.array(box) + rng.normal(0, spread, 4)
    return (*moved[:2], *np.maximum(moved[2:], moved[:2] + 1))


def _sample(rng):
    """One picture with several answers about up to three people, some of them a crowd or without labels."""
    people, answers = [], []
    for _ in range(rng.integers(0, 4)):
        box = _box(rng)
        points = np.column_stack((rng.uniform(box[:2], box[2:], (17, 2)), rng.integers(0, 3, 17)))
        points[:, 2] *= rng.random() < 0.8
        mask = _inside(box)
        people.append(GroundTruth(box, float(mask.sum()), points, mask, crowd=bool(rng.random() < 0.1)))
        for _ in range(rng.integers(0, 4)):
            moved = _shaken(rng, box)
            near = points[:, :2] + rng.normal(0, rng.choice([1, 5, 30]), (17, 2))
            answers.append(Detection(float(rng.random()), moved, near, _inside(np.clip(moved, 0, SIDE))))
    return answers, people


def _by_library(kind, samples, coco_class, evaluation_class):
    """The library used as its own pages say: one file of truth, one list of results."""
    truths, results = [], []
    for image, (answers, people) in enumerate(samples, start=1):
        for person in people:
            x1, y1, x2, y2 = person.box
            truths.append({
                "id": len(truths) + 1, "image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": person.area, "iscrowd": int(person.crowd), "keypoints": person.keypoints.ravel().tolist(),
                "num_keypoints": int((person.keypoints[:, 2] > 0).sum()), "segmentation": run_lengths(person.mask),
            })  # fmt: skip
        for answer in answers:
            x1, y1, x2, y2 = answer.box
            content = {
                "bbox": {"bbox": [x1, y1, x2 - x1, y2 - y1]},
                "segm": {"segmentation": run_lengths(answer.mask)},
                "keypoints": {"keypoints": np.column_stack((answer.keypoints, np.ones(17))).ravel().tolist()},
            }[kind]
            results.append({"image_id": image, "category_id": 1, "score": answer.score, **content})
    images = [{"id": i + 1, "height": SIDE, "width": SIDE} for i in range(len(samples))]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = {
            "info": {}, "licenses": [], "images": images, "annotations": truths, "categories": [{"id": 1, "name": "p"}]
        }  # fmt: skip
        coco.createIndex()
        evaluation = evaluation_class(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[: 10 if kind == "keypoints" else 12]


def _libraries():
    found = [(COCO, COCOeval)]
    with contextlib.suppress(ImportError):
        import faster_coco_eval

        found.append((faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster))
    return found


@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
@given(st.integers(0, 10_000))
@settings(max_examples=4, deadline=None)
def test_ap_is_that_of_the_libraries(kind, seed):
    rng = np.random.default_rng(seed)
    box = (1, 1, 9, 9)  # of a pair that is there whatever was drawn
    sure = (
        [Detection(0.5, box, np.ones((17, 2)), _inside(box))],
        [GroundTruth(box, 64.0, np.full((17, 3), 2.0), _inside(box))],
    )
    samples = [*(_sample(rng) for _ in range(8)), sure]
    ours = average_precision(kind, samples)
    assert tuple(ours) == (KEYPOINT_NAMES if kind == "keypoints" else REGION_NAMES)
    for library in _libraries():
        theirs = _by_library(kind, samples, *library)
        np.testing.assert_allclose(np.nan_to_num(list(ours.values()), nan=-1.0), theirs, atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_with_scores_that_differ_the_order_of_samples_is_nothing(seed):
    rng = np.random.default_rng(seed)
    samples = [_sample(rng) for _ in range(6)]
    order = rng.permutation(len(samples))
    assert average_precision("bbox", samples) == pytest.approx(
        average_precision("bbox", [samples[i] for i in order]), nan_ok=True
    )


def _one(points=2.0, **options):
    truth = np.full((17, 3), 50.0)
    truth[:, 2] = points
    return GroundTruth((10, 10, 90, 90), 3200.0, truth, **options)


RIGHT = Detection(0.9, (10, 10, 90, 90), np.full((17, 2), 50.0))


def test_the_first_person_can_be_found():
    """An annotation with the number 0 would count as missed."""
    for kind in ("bbox", "keypoints"):
        assert average_precision(kind, [([RIGHT], [_one()])])["ap"] == pytest.approx(1.0)


def test_a_box_beside_the_keypoints_changes_nothing():
    """With a `bbox` in the results the area of unmatched answers, and with it AP by size, would be another."""
    far = np.full((17, 2), 50.0) + np.linspace(0, 300, 17)[:, None]
    samples = [([Detection(0.9, box, far), RIGHT], [_one()]) for box in (None, (0, 0, 12, 12))]
    first, second = ([average_precision("keypoints", [sample])[name] for name in KEYPOINT_NAMES] for sample in samples)
    assert first == pytest.approx(second, nan_ok=True)


@pytest.mark.parametrize("kind", ["bbox", "segm", "keypoints"])
def test_no_answer_at_all_is_zero_and_no_sample_is_nothing(kind):
    truth = _one(mask=_inside((10, 10, 90, 90)))
    assert average_precision(kind, [([], [truth])])["ap"] == 0.0
    assert np.isnan(list(average_precision(kind, []).values())).all()


def test_an_answer_about_a_crowd_neither_rewards_nor_punishes():
    small = Detection(0.99, (60, 60, 80, 80))  # within the crowd: by the answer's own area its overlap is 1
    crowd = GroundTruth((40, 40, 100, 100), crowd=True)
    person = GroundTruth((0, 0, 30, 30))
    both = [Detection(0.5, (0, 0, 30, 30)), small]
    assert average_precision("bbox", [(both, [person, crowd])])["ap"] == pytest.approx(1.0)
    assert average_precision("bbox", [(both, [person])])["ap"] == pytest.approx(0.5)


def test_a_person_without_labels_is_left_out():
    assert average_precision("keypoints", [([RIGHT], [_one()]), ([], [_one(points=0)])])["ap"] == pytest.approx(1.0)


def test_answers_that_are_not_numbers_are_as_if_not_given():
    broken = [Detection(1.0, (np.nan, 0, 1, 1), np.full((17, 2), np.inf)), RIGHT]
    for kind in ("bbox", "keypoints"):
        assert average_precision(kind, [(broken, [_one()])])["ap"] == pytest.approx(1.0)
    crossed = [Detection(1.0, (90, 90, 10, 10)), RIGHT]
    assert average_precision("bbox", [(crossed, [_one()])])["ap"] == pytest.approx(0.5)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="one of bbox, segm, keypoints"):
        average_precision("boxes", [])
    with pytest.raises(ValueError, match="differ in size"):
        average_precision("segm", [([Detection(1.0, mask=np.ones((2, 3)))], [_one(mask=np.ones((3, 2)))])])
    with pytest.raises(ValueError, match="needs the true mask"):
        average_precision("segm", [([], [_one()])])
    with pytest.raises(ValueError, match="segment area"):
        average_precision("keypoints", [([], [GroundTruth((0, 0, 1, 1), keypoints=np.ones((17, 3)))])])
    with pytest.raises(ValueError, match="finite"):
        Detection(float("nan"))


def test_run_lengths_are_masks():
    mask = np.zeros((4, 5))
    mask[1:3, 2:4] = 7
    packed = run_lengths(mask)
    assert (packed["counts"], packed["size"], mask_area(packed), mask_area(mask)) == (b"92203", [4, 5], 4.0, 4.0)
    person = GroundTruth((2, 1, 4, 3), mask=mask)
    for answer in (mask, packed):
        assert average_precision("segm", [([Detection(1.0, mask=answer)], [person])])["ap"] == pytest.approx(1.0)


# -- one answer per question ----------------------------------------------------------------------------------
@pytest.mark.parametrize("accuracy, ap", [(0.5, 0.259), (0.75, 0.570), (0.9, 0.815)])
def test_without_scores_ap_is_about_the_square_of_the_accuracy(accuracy, ap):
    right = np.random.default_rng(1).permutation(1000) < 1000 * accuracy
    truth = [(0, 0, 40, 40)] * len(right)
    boxes = [(0, 0, 40, 40) if hit else (80, 80, 120, 120) for hit in right]
    assert box_ap(boxes, [1.0] * len(right), truth)["ap"] == pytest.approx(ap, abs=0.04)
    assert box_ap(boxes, right.astype(float), truth)["ap"] == pytest.approx(accuracy, abs=0.01)


def test_boxes_have_ap_where_all_answers_have_scores():
    meter, unranked = BoxMeter(), BoxMeter()
    boxes = [(0, 0, 40, 40), None, (0, 0, 39, 40), (90, 90, 99, 99)]
    for index, box in enumerate(boxes):
        meter.add(box, (0, 0, 40, 40), score=1 - index / 10, area=500)
        unranked.add(box, (0, 0, 40, 40), score=None if index else 1.0)
    result, whole = meter.result(), box_ap(boxes, [1.0, 0.9, 0.8, 0.7], [(0, 0, 40, 40)] * 4, [500] * 4)
    assert {name: result[name] for name in ("ap", "ap50", "ap75", "ap_small", "ar1")} == pytest.approx(
        {name: whole[name] for name in ("ap", "ap50", "ap75", "ap_small", "ar1")}
    )
    assert result["ar1"] == 0.5 and "ap_large" not in result
    assert "ap" not in unranked.result()
    with pytest.raises(ValueError, match="finite"):
        meter.add((0, 0, 1, 1), (0, 0, 1, 1), score=float("nan"))


def test_one_answer_each_is_the_case_of_one_detection():
    rng = np.random.default_rng(5)
    people = [_one() for _ in range(6)]
    points = [None if i == 2 else np.full((17, 2), 50.0) + rng.normal(0, 4, (17, 2)) for i in range(6)]
    scores = rng.random(6).tolist()
    expected = average_precision("keypoints", [
        ([] if p is None else [Detection(s, keypoints=p)], [person])
        for p, s, person in zip(points, scores, people, strict=True)
    ])  # fmt: skip
    ours = keypoint_ap(points, scores, [p.keypoints for p in people], [3200.0] * 6, [p.box for p in people])
    assert ours == pytest.approx(expected, nan_ok=True)
