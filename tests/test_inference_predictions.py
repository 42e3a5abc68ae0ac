"""Figures come from saved lines alone, and are those that the answers themselves would give."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refhcm.data.annotation import PART_NAMES, Annotation, Question
from refhcm.errors import RefHCMError
from refhcm.inference.predictions import counts_of, drawn_parts, from_line, row_figures, to_line
from refhcm.inference.scoring import Rules, score
from refhcm.metrics.coco import Detection, GroundTruth
from refhcm.metrics.people import PeopleMeter
from refhcm.metrics.refhuman import RefHumanMeter
from refhcm.tasks import Reading
from refhcm.tasks.mask import MaskSegment, RegionSegment
from refhcm.tasks.segments import SEGMENTS
from refhcm.tasks.task import Scorer

SIZE = (40, 30)
NAMES = {"row": 3, "id": "a_1", "image_id": "a", "task": "s1"}
coordinates = st.floats(0, 40, width=32)


def _answer(seed, size=SIZE):
    """A random answer to every question, and the truth; the part maps are partly ignored."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, 15, 2)
    box = (x, y, x + 1 + 20 * random.random(), y + 1 + 10 * random.random())
    points = random.uniform(1, 30, (17, 3)).astype(np.float32)
    points[:, 2] = random.random(17)
    parts = random.integers(0, 6, size[::-1]).astype(np.uint8)
    reading = Reading(
        box, random.random(), points, tuple(random.integers(0, 16, 48).tolist()), parts=parts, caption="a man in red",
        tokens=(5, 6), score=random.random(),
    )  # fmt: skip
    true_points = random.integers(1, 30, (17, 3)).astype(np.float32)
    true_points[:, 2] = random.integers(0, 3, 17)
    true_parts = random.choice([0, 1, 5, 5, 255], size[::-1]).astype(np.uint8)
    truth = Annotation(
        size, (2.0, 3.0, 20.0, 21.5), true_points, parts=true_parts, captions=("a man", "a person in red"), area=120.5
    )
    return reading, truth


def _saved(reading, truth):
    return json.loads(json.dumps(to_line(NAMES, Question(truth.size, "the man"), reading, truth), allow_nan=False))


@settings(max_examples=25)
@given(st.lists(st.tuples(coordinates, coordinates, coordinates), min_size=17, max_size=17),
       st.tuples(*[st.floats(-1e3, 1e4)] * 4), st.floats(0, 1))  # fmt: skip
def test_numbers_come_back_as_they_were(points, box, sure):
    reading = Reading(box=box, box_score=sure, keypoints=np.array(points, np.float32), score=sure)
    truth = Annotation(SIZE, box=box, keypoints=np.array(points, np.float32), area=sure + 1)
    again, said = from_line(_saved(reading, truth))
    assert (again.box, again.box_score, again.score, said.box, said.area) == (box, sure, sure, box, sure + 1)
    for array in (again.keypoints, said.keypoints):
        assert array.dtype == np.float32 and np.array_equal(array, reading.keypoints)


def test_figures_of_lines_are_those_of_the_answers():
    pairs = [_answer(seed) for seed in range(12)]
    scorer = Scorer([SEGMENTS[name] for name in SEGMENTS])
    for reading, truth in pairs:
        scorer.add(reading, truth)
    wanted = scorer.result()
    found = score("s1", list(SEGMENTS), [_saved(*pair) for pair in pairs], java=False)
    assert wanted.items() <= found.scores.items() and found.samples == 12 and found.invalid == 0
    assert {"box/acc@0.9", "keypoints/ap", "parsing/pixel_accuracy", "caption/cider_d"} < set(wanted)


def test_the_area_that_part_maps_give_is_kept():
    reading, truth = _answer(1)
    bare = Annotation(truth.size, truth.box, truth.keypoints, parts=truth.parts)
    assert from_line(_saved(reading, bare))[1].area == (truth.parts > 0).sum()


def test_part_maps_can_be_drawn_again():
    reading, truth = _answer(5)
    line = _saved(reading, truth)
    assert np.array_equal(drawn_parts(line), reading.parts)
    assert counts_of(line, "part_pixels").sum() == (truth.parts < len(PART_NAMES)).sum()
    assert drawn_parts(_saved(Reading(box=truth.box), truth)) is None


def test_a_malformed_answer_is_told_and_scores_nothing():
    reading, truth = _answer(2)
    good = _saved(reading, truth)
    assert not good["invalid"]
    for change in (
        {"box": (5.0, 5.0, 4.0, 9.0)}, {"box": (5.0, 5.0, float("nan"), 9.0)}, {"caption": ""}, {"codes": (1, 2)},
        {"keypoints": np.full((17, 3), 99, np.float32)}, {"parts": np.full(SIZE[::-1], 77, np.uint8)},
        {"mask_codes": (1, 2)}, {"people": (Reading((5.0, 5.0, 4.0, 9.0)),)},
    ):  # fmt: skip
        changed = Reading(**{**vars(reading), "part_counts": None, **change})
        assert _saved(changed, truth)["invalid"], change
    lost = _saved(Reading(box=(5.0, 5.0, float("nan"), 9.0)), truth)
    assert score("rec", ["box"], [lost]).scores["box/miou"] == 0


def test_a_row_scores_what_the_set_of_it_alone_scores():
    reading, truth = _answer(4)
    line = _saved(reading, truth)
    alone = score("s1", ["box", "keypoints", "parsing"], [line]).scores
    wanted = {"iou": "box/miou", "oks": "keypoints/oks", "coco_oks": "keypoints/coco_oks", "part_miou": "parsing/miou"}
    assert line["figures"] == pytest.approx({name: alone[full] for name, full in wanted.items()}, rel=1e-12)
    assert row_figures(Reading(), truth) == {}


@pytest.mark.parametrize("change", [
    {"size": [3]}, {"truth": None}, {"keypoints": [[1, 2, 3]]}, {"box": [1, 2, 3]}, {"tokens": None}, {"score": "x"},
    {"part_pixels": [[0, 99, 1]]}, {"part_pixels": [[0, -1, 1]]}, {"codes": ["a"]}, {"parts": {"3": "?"}},
    {"truth": {"mask": "not run lengths", "box": [0, 0, 1, 1]}}, {"mask": "not run lengths"}, {"presence": 2},
    {"mask_pixels": [[3, 0, 1]]}, {"people": [{"box": [1, 2, 3, 4]}]}, {"agreement": {"mask_in_box": [1]}},
])  # fmt: skip
def test_a_line_of_something_else_is_refused(change):
    line = {**_saved(*_answer(3)), **change}
    with pytest.raises(RefHCMError, match="a_1 is no answer"):
        score("s1", ["box"], [line], Rules("uniphd"))


def test_answers_of_another_task_are_refused():
    reading, truth = _answer(3)
    line = _saved(reading, Annotation(truth.size, truth.box))
    with pytest.raises(RefHCMError, match="a_1 is no answer to task rkpt"):
        score("rkpt", ["box", "keypoints"], [line])
    with pytest.raises(RefHCMError, match="part 'boxes'"):
        score("rec", ["boxes"], [line])


def test_uniphd_scores_pose_and_mask_as_its_meter_does():
    meter, lines = RefHumanMeter(), []
    for seed in range(6):
        reading, truth = _answer(seed)
        truth = replace(truth, parts=None, mask=np.random.default_rng(seed).random(SIZE[::-1]) > 0.4)
        lines.append(_saved(reading, truth))
        sure = reading.box_score * float(reading.keypoints[:, 2].sum()) / 17
        meter.add(
            [Detection(sure, reading.box, reading.keypoints, reading.parts > 0)],
            GroundTruth(truth.box, truth.area, truth.keypoints, truth.mask),
        )
    wanted = {f"uniphd/{name}": value for name, value in meter.result().items()}
    scores = score("s1", ["box", "parsing", "keypoints"], lines, Rules("uniphd")).scores
    assert {name: value for name, value in scores.items() if name.startswith("uniphd/")} == wanted
    assert {"uniphd/ap", "uniphd/mask_ap", "uniphd/mask_oiou", "uniphd/pckh_ears@0.5"} < set(wanted)
    assert not any(name.startswith("parsing/") for name in scores)
    for line in lines:  # a task without part maps has no masks to score
        del line["parts"]
    assert "uniphd/mask_ap" not in score("rkpt", ["box", "keypoints"], lines, Rules("uniphd")).scores


def test_any_number_of_people_is_scored_as_grefcoco_does():
    random = np.random.default_rng(2)
    meter, lines = PeopleMeter(("mask", "keypoints")), []
    for meant, found in ((2, 2), (0, 0), (1, 0), (0, 1), (3, 2)):
        shapes = random.random((meant + found, *SIZE[::-1])) > 0.5
        points = random.uniform(1, 30, (meant + found, 17, 3)).astype(np.float32)
        points[:, :, 2] /= 40
        people = [
            Annotation(SIZE, (i, i, i + 9.0, i + 9.5), points[i], mask=shapes[i], area=50.0 + i) for i in range(meant)
        ]
        answers = tuple(
            Reading((i, i, i + 9.5, i + 9.0), 0.1, points[meant + i], mask=shapes[meant + i], score=random.random())
            for i in range(found)
        )
        chance = random.random()
        truth = people[0] if meant == 1 else Annotation(SIZE, people=tuple(people))
        lines.append(_saved(Reading(people=answers, present=bool(found), presence=chance), truth))
        meter.add(
            [Detection(one.score, one.box, one.keypoints, one.mask) for one in answers],
            [GroundTruth(one.box, one.area, one.keypoints, one.mask) for one in people], chance,
        )  # fmt: skip
    wanted = {f"people/{name}": value for name, value in meter.result().items()}
    assert score("grec", ["people"], lines, Rules(each=("mask", "keypoints"))).scores == wanted
    assert {"people/n_acc", "people/gres_giou", "people/mask_ap", "people/keypoint_ap", "people/ap"} < set(wanted)
    assert "people/gres_giou" not in score("grec", ["people"], lines).scores
    with pytest.raises(RefHCMError, match="answer about any number of people"):
        score("s1", ["people"], [_saved(*_answer(1))])


masks = arrays(bool, SIZE[::-1])


@settings(max_examples=30)
@given(masks, masks, masks, st.floats(0, 1), st.booleans())
def test_masks_and_chances_come_back_as_they_were(mask, others, true_mask, chance, present):
    person = Reading((1.0, 2.0, 9.0, 8.0), 0.5, mask=others, score=chance, presence=chance)
    reading = Reading(mask=mask, others=others, people=(person,), presence=chance, present=present)
    truth = Annotation(SIZE, (0.0, 0.0, 5.0, 5.0), mask=true_mask, people=(Annotation(SIZE, mask=true_mask),))
    again, said = from_line(_saved(reading, truth), draw=True)
    assert np.array_equal(again.mask, mask) and np.array_equal(again.people[0].mask, others)
    assert np.array_equal(said.mask, true_mask) and np.array_equal(said.people[0].mask, true_mask)
    assert (again.presence, again.present, again.people[0].presence, again.people[0].score) == (
        chance, present, chance, chance,
    )  # fmt: skip
    without, _ = from_line(_saved(reading, truth))
    assert without.mask is None and without.people[0].mask is None


@settings(max_examples=20)
@given(masks, masks, masks, masks)
def test_masks_of_saved_answers_score_as_the_answers_do(mask, others, true_mask, true_others):
    truth = Annotation(SIZE, (3.4, 2.0, 31.5, 24.6), mask=true_mask, others=true_others)
    for segment in (MaskSegment, RegionSegment):
        reading, meter = Reading(truth.box, mask=mask, others=others), segment.meter()
        segment.score(meter, reading, truth)
        reading.mask_counts = segment.compare(reading, truth)
        scores = score("roi", [segment.name], [_saved(reading, truth)]).scores
        wanted = {f"{segment.name}/{name}": value for name, value in meter.result().items()}
        assert wanted.items() <= scores.items()


@settings(max_examples=20)
@given(st.floats(0, 15), st.floats(0, 10), st.floats(1, 20), st.floats(1, 20))
def test_a_region_is_scored_on_the_pixels_whose_centres_lie_in_it(x, y, width, height):
    nobody = np.zeros((30, 40), bool)
    truth = Annotation((40, 30), (x, y, x + width, y + height), mask=~nobody, others=nobody)
    inside = sum(
        x <= column + 0.5 < x + width and y <= row + 0.5 < y + height for row in range(30) for column in range(40)
    )
    assert RegionSegment.compare(Reading(truth.box, mask=nobody, others=nobody), truth)[1, 0] == inside
