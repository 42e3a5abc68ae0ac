"""Masks, everybody, nobody, regions, points: answers agree with themselves, and many equal one by one."""

import numpy as np
import pytest

from refhcm.data.annotation import Question
from refhcm.data.prompts import SCRIBBLE_POINTS
from refhcm.errors import RefHCMError
from refhcm.inference import interview
from refhcm.inference.asking import TASKS, check_held
from refhcm.models.abilities import Abilities, Presence

WORDS = "the woman in the red coat"
REGION = (10, 5, 40, 55)
DETAILS = ("box", "keypoints", "parsing", "mask", "caption")


@pytest.fixture
def trunk_runs(people_predictor, monkeypatch):
    """One entry for each time that the vision trunk runs."""
    runs, run = [], people_predictor.model.image_features
    monkeypatch.setattr(people_predictor.model, "image_features", lambda pixels: runs.append(1) or run(pixels))
    return runs


@pytest.fixture
def anywhere(monkeypatch):
    """Random weights find people elsewhere than they are pointed at, which is taken for an answer here."""
    monkeypatch.setattr(interview, "REACH", 1e6)


def change(predictor, monkeypatch, **abilities):
    monkeypatch.setattr(predictor, "abilities", Abilities(**{**vars(predictor.abilities), **abilities}))


def assert_equal(one, other):
    """The same answer, but for what the order of sums in a batch may change."""
    assert one.present == other.present and one.caption == other.caption
    assert one.box == pytest.approx(other.box, abs=0.1)
    assert one.score == pytest.approx(other.score, rel=0.02)
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.1)
    for name in ("mask", "parsing"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or (a != b).mean() < 0.01)


@pytest.mark.parametrize("question", [{"text": WORDS}, {"region": REGION}, {"point": (50, 30)}], ids=str)
@pytest.mark.parametrize(
    "tasks", [DETAILS, ("box", "parsing", "mask"), ("keypoints", "mask", "box"), ("box", "parsing", "keypoints")]
)
def test_what_one_answer_says_agrees(people_predictor, photo, question, tasks):
    answer = people_predictor(photo, **question, tasks=tasks)
    x1, y1, x2, y2 = answer.box
    rows, columns = np.nonzero(answer.mask)
    assert len(rows) or "text" in question  # random weights may find nothing, but not everywhere
    assert (x1 <= columns + 0.5).all() and (columns + 0.5 <= x2).all()
    assert (y1 <= rows + 0.5).all() and (rows + 0.5 <= y2).all()
    if answer.parsing is not None:
        assert ((answer.parsing > 0) == answer.mask).all()
    if answer.keypoints is not None:
        present = answer.keypoints[answer.keypoints[:, 2] > 0]
        assert len(present) and (present[:, 0] >= x1).all() and (present[:, 0] <= x2).all()
        assert (present[:, 1] >= y1).all() and (present[:, 1] <= y2).all()


def test_the_mask_says_where_and_the_parts_say_what(people_predictor, photo):
    both = people_predictor(photo, region=REGION, tasks=("parsing", "mask"))
    parts = people_predictor(photo, region=REGION, tasks=("parsing",))
    assert (parts.mask == (parts.parsing > 0)).all()
    common = both.mask & parts.mask
    assert common.any() and (both.parsing[common] == parts.parsing[common]).mean() > 0.9
    assert (both.mask != parts.mask).any()  # the model's own mask, not the union of its parts


def test_a_model_without_masks_answers_the_union_of_its_parts(tiny_predictor, photo):
    mask, parts = (tiny_predictor(photo, WORDS, tasks=(task,)) for task in ("mask", "parsing"))
    assert mask.parsing is None and (mask.mask == (parts.parsing > 0)).all() and mask.mask.any()


def test_a_mask_behind_other_answers_is_that_of_the_box_alone(people_predictor, photo, monkeypatch):
    asked, ask = [], interview.ask

    def listening(model, task, *more, **options):
        asked.append(task.name)
        return ask(model, task, *more, **options)

    monkeypatch.setattr(interview, "ask", listening)
    with people_predictor.image(photo) as view:
        alone = view(region=REGION, tasks=("mask",))
        after = view(region=REGION, tasks=("keypoints", "mask"))
        together = view(region=REGION, tasks=("keypoints", "mask", "parsing"))
    assert asked == ["res", "rkpt", "res", "s1_mask"]
    assert (alone.mask == after.mask).all() and together.mask.any()


def test_nobody_is_said_where_the_chance_is_below_the_threshold(people_predictor, photo, monkeypatch):
    somebody = people_predictor(photo, WORDS)
    assert somebody.present and 0.5 < somebody.presence < 1
    doubtful = Presence(scale=0.5, offset=-1.0, threshold=0.999)
    monkeypatch.setattr(people_predictor, "presence", doubtful)
    for question in ({"text": WORDS}, {"point": (5, 5)}):
        answer = people_predictor(photo, **question, tasks=TASKS, attention=True)
        assert not answer.present and 0 <= answer.presence < somebody.presence
        assert all(getattr(answer, task) is None for task in TASKS) and answer.attention_names == ()
        assert answer.to_dict()["mask"] is None and answer.draw(photo).size[0] >= photo.width
    assert people_predictor.everybody(photo) == people_predictor.everybody(photo, WORDS) == []
    assert people_predictor(photo, region=REGION).present


def test_without_a_task_all_is_answered_that_the_model_can_do(people_predictor, tiny_predictor, photo):
    for predictor in (people_predictor, tiny_predictor):
        answer = predictor(photo, WORDS)
        assert all(getattr(answer, task) is not None for task in DETAILS) and answer.region_map is None
    assert people_predictor.able == TASKS and tiny_predictor.able == DETAILS


def test_everybody_comes_from_left_to_right_with_what_asking_by_region_gives(people_predictor, photo, trunk_runs):
    with people_predictor.image(photo) as view:
        for text in (None, WORDS):
            boxes = view.everybody(text)
            people = view.everybody(text, tasks=(*DETAILS, "region_map"), batch_size=3)[:5]
            assert len(boxes) > 3 and [one.box for one in people] == [one.box for one in boxes[:5]]
            assert [one.box[0] for one in boxes] == sorted(one.box[0] for one in boxes)
            assert all(one.text == text and one.region is None and one.keypoints is None for one in boxes)
            assert all(0 < one.presence <= 1 and 0 <= one.score <= 1 for one in boxes)
            for one in people:
                alone = view(region=one.box, tasks=(*DETAILS, "region_map"))
                assert alone.score != one.score  # the list's own
                np.testing.assert_allclose(one.keypoints, alone.keypoints, atol=0.1)
                assert (one.mask != alone.mask).mean() < 0.01 and one.caption == alone.caption
                assert (one.region_map.labels() != alone.region_map.labels()).mean() < 0.05
    assert trunk_runs == [1]


def test_boxes_of_everybody_stay_those_of_the_list(people_predictor, photo, monkeypatch):
    change(people_predictor, monkeypatch, loose_regions=True)
    with people_predictor.image(photo) as view:
        boxes, detailed = view.everybody(), view.everybody(tasks=("keypoints",))
        assert [one.box for one in boxes] == [one.box for one in detailed]
        assert view(region=boxes[0].box).box != boxes[0].box


def test_many_questions_about_one_picture_equal_one_by_one(people_predictor, photo, trunk_runs, anywhere):
    asked = [WORDS, REGION, {"point": (20, 30)}, {"text": "the man"}, {"scribble": [(5, 5), (30, 20), (50, 40)]}]
    with people_predictor.image(photo) as view:
        together = view.many(iter(asked), batch_size=4)
        alone = [view(WORDS), view(region=REGION), view(point=(20, 30)), view("the man"), view(**asked[4])]
    assert trunk_runs == [1]
    elsewhere = people_predictor.many([(photo, one) for one in asked])
    for one, other, third in zip(together, alone, elsewhere, strict=True):
        assert_equal(one, other)
        assert_equal(one, third)
        assert one.image is not None and (one.text, one.region, one.points) == (other.text, other.region, other.points)


def test_500_regions_go_through_together(people_predictor, photo, trunk_runs):
    regions = [(i % 60, i % 40, i % 60 + 20, i % 40 + 15) for i in range(500)]
    with people_predictor.image(photo) as view:
        answers = view.many(regions, tasks=("region_map",), batch_size=64)
    assert len(answers) == 500 and trunk_runs == [1]
    assert [answer.region for answer in answers] == [tuple(map(float, region)) for region in regions]
    assert all(answer.region_map.box == answer.region for answer in answers)


def test_more_maps_than_memory_holds_are_refused_before_anything_is_computed(people_predictor, trunk_runs):
    regions = [REGION] * 500
    with people_predictor.image(np.zeros((3000, 4000, 3), np.uint8)) as view:
        for tasks in (None, ("mask",), ("parsing",)):
            with pytest.raises(RefHCMError, match="500 answers about a 4000 x 3000 picture take"):
                view.many(regions, tasks=tasks)
        assert view.many(regions[:1], tasks=("mask",))[0].mask.shape == (3000, 4000)
    check_held(500, (4000, 3000), ("box", "keypoints", "caption", "region_map"))
    check_held(300, (4000, 3000), ("mask",))
    with pytest.raises(RefHCMError, match="more than 4: ask fewer at a time"):
        check_held(300, (4000, 3000), ("parsing",))


def test_a_loose_region_is_answered_with_a_better_box(people_predictor, photo, monkeypatch, anywhere):
    exact = people_predictor(photo, region=REGION, tasks=("box", "keypoints", "region_map"))
    assert exact.box == exact.region == REGION and exact.presence is None
    change(people_predictor, monkeypatch, loose_regions=True)
    for tasks in (("box",), ("box", "keypoints", "mask", "region_map")):
        loose = people_predictor(photo, region=REGION, tasks=tasks)
        assert loose.region == REGION != loose.box and loose.presence is not None
    assert loose.region_map.box == REGION  # the map is the region's


def test_who_is_found_elsewhere_than_it_was_pointed_at_is_nobody(people_predictor, photo, monkeypatch):
    change(people_predictor, monkeypatch, loose_regions=True)
    there = people_predictor(photo, point=(40, 30), tasks=("box",))
    x1, y1, x2, y2 = there.box
    width, height = x2 - x1, y2 - y1
    assert there.present and there.presence > 0.5 and min(x1, y1) > 0.3 * max(width, height)
    for share, present in ((0.2, True), (0.3, False)):
        left, over = x1 - share * width, y1 - share * height
        questions = [
            {"point": (left, y1 + 1)}, {"point": (x1 + 1, over)}, {"region": (0, y1, left, y2)},
            {"region": (x1, 0, x2, over)},
        ]  # fmt: skip
        for answer in people_predictor.many([(photo, question) for question in questions], tasks=("box",)):
            assert answer.present == present == (answer.box is not None) == (answer.presence > 0)
    exact = Abilities(**{**vars(people_predictor.abilities), "loose_regions": False})
    monkeypatch.setattr(people_predictor, "abilities", exact)
    assert people_predictor(photo, region=(0, 0, 1, 1), tasks=("box",)).present  # the region is the box


@pytest.mark.parametrize(("points", "there"), [(((0, 0), (16, 50)), True), (((0, 0), (14, 50)), False)])
def test_of_a_scribble_one_point_on_the_person_is_enough(points, there):
    assert interview._is_there((20.0, 20.0, 40.0, 60.0), Question((90, 80), points=(points,))) == there


def test_a_map_of_words_is_that_of_the_box_that_was_found(people_predictor, photo):
    for question in ({"text": WORDS}, {"point": (40, 30)}):
        answer = people_predictor(photo, **question, tasks=("box", "region_map"))
        assert answer.region_map.box == answer.box and answer.region is None


def test_a_scribble_is_read_at_evenly_chosen_points_from_top_to_bottom(people_predictor, photo):
    line = [(80 - 70 * i / 9999, 55 - 50 * i / 9999) for i in range(10_000)]
    answer = people_predictor(photo, scribble=np.array(line), tasks=("box",))
    assert len(answer.points) == SCRIBBLE_POINTS and answer.points[0] == line[-1] and answer.points[-1] == line[0]
    assert np.ptp(np.diff([y for _, y in answer.points])) < 0.02
    assert answer.to_dict()["points"][0] == [10.0, 5.0]
    same = people_predictor(photo, scribble=answer.points[::-1], tasks=("box",))
    assert same.box == answer.box and people_predictor(photo, point=(3, 4), tasks=("box",)).points == ((3, 4),)


def test_attention_can_be_kept_of_everything(people_predictor, photo):
    answer = people_predictor(photo, WORDS, tasks=("box", "keypoints", "mask", "region_map"), attention=True)
    assert {"box", "mask", "region_map", "keypoints"} <= set(answer.attention_names)
    assert answer.attention("mask").shape == answer.attention("region_map", 47).shape == (60, 90)
    (one, *_) = people_predictor.everybody(photo, tasks=("mask",), attention=True)
    assert set(one.attention_names) == {"box", "mask"} and one.draw_attention(image=photo).width > 90


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"point": (900, 5)}, "point 900 5 lies outside the 90 x 60 picture"),
        ({"point": (5, -1)}, "point 5 -1 lies outside"),
        ({"point": (float("nan"), 5)}, "two finite numbers"),
        ({"point": (5, float("inf"))}, "two finite numbers"),
        ({"point": (5,)}, "two numbers x y"),
        ({"point": "12"}, "two numbers x y"),
        ({"point": 7}, "two numbers x y"),
        ({"scribble": []}, "no points"),
        ({"scribble": [1, 2]}, "a list of points"),
        ({"scribble": [(1, 2), (3,)]}, "a list of points"),
        ({"scribble": [(1, 2), (3, 400)]}, "point 3 400 lies outside"),
        ({"scribble": "here"}, "a list of points"),
        ({"point": (1, 2), "region": REGION}, "Both a region and a point"),
        ({"text": "man", "scribble": [(1, 2)]}, "Both words and a scribble"),
        ({"region": (91, 0, 95, 5)}, "outside the 90 x 60 picture"),
        ({"region": (5, 5, 5, 9)}, "no area"),
        ({"region": (float("nan"), 0, 5, 5)}, "four finite numbers"),
    ],
)
def test_wrong_places_are_refused_in_one_sentence(people_predictor, photo, question, sentence):
    with pytest.raises(RefHCMError, match=sentence) as refusal:
        people_predictor(photo, **question)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ([{"place": (1, 2)}], "has no 'place'"),
        ([{"point": (1, 2), "text": "man"}], "Both words and a point"),
        ([{}], "Neither words nor a region"),
        ([WORDS, (1, 2)], "four numbers"),
        (WORDS, "list of words and regions"),
        ({"text": WORDS}, "list of words and regions"),
        (7, "list of words and regions"),
    ],
)
def test_wrong_lists_of_questions_are_refused_before_anything_is_computed(people_predictor, photo, asked, sentence):
    with people_predictor.image(photo) as view, pytest.raises(RefHCMError, match=sentence):
        view.many(asked)


def test_models_that_were_not_trained_for_it_say_so(tiny_predictor, photo):
    with tiny_predictor.image(photo) as view:
        for ask, sentence in (
            (lambda: view(point=(1, 2)), "not trained to be asked by points"),
            (view.everybody, "not trained to find everybody"),
            (lambda: view.everybody(WORDS), "not trained for words that mean several"),
            (lambda: view(WORDS, tasks=("region_map",)), "not trained for 'region_map'"),
        ):
            with pytest.raises(RefHCMError, match=sentence):
                ask()
        with pytest.raises(RefHCMError, match="words are empty"):
            view.everybody(" ")
        with pytest.raises(RefHCMError, match="Unknown task 'pose'"):
            view.everybody(tasks=("pose",))
    with pytest.raises(RefHCMError, match="closed"):
        view.everybody()
