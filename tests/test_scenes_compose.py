"""Composed scenes: exact labels after occlusion and cropping, and expressions that fit one person only."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scene_truth import flat_scene, matches, related

from refhcm.data.scenes.backgrounds import Backgrounds, made_background
from refhcm.data.scenes.captions import captions
from refhcm.data.scenes.compose import MIN_HEIGHT, MIN_VISIBLE, Scene, compose
from refhcm.data.scenes.describe import describe
from refhcm.data.scenes.facts import SceneFacts
from refhcm.data.scenes.people2d import DrawnPeople
from refhcm.data.scenes.splits import SPLITS, outfit_split, photo_split, scene_rng
from refhcm.data.scenes.words import Writer


def make(split: str, index: int) -> Scene:
    return compose(scene_rng(11, split, index), split, DrawnPeople(), Backgrounds())


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make("train", i) for i in range(40)]


def test_boxes_are_tight_around_the_visible_pixels(scenes):
    for scene in scenes:
        height, width = scene.image.shape[:2]
        assert scene.people
        for person in scene.people:
            rows, columns = np.where(person.parts > 0)
            assert person.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert person.parts.shape == (height, width)
            x1, y1, x2, y2 = person.amodal_box
            assert x1 <= person.box[0] and y1 <= person.box[1]
            assert x2 >= person.box[2] and y2 >= person.box[3]


def test_people_do_not_share_pixels_and_can_be_seen(scenes):
    for scene in scenes:
        assert np.sum([person.mask for person in scene.people], 0).max() == 1
        for person in scene.people:
            assert person.visible_fraction >= MIN_VISIBLE
            assert person.box[3] - person.box[1] >= MIN_HEIGHT


def test_visibility_after_occlusion_and_cropping(scenes):
    hidden_by_others = 0
    for scene in scenes:
        height, width = scene.image.shape[:2]
        for number, person in enumerate(scene.people):
            for x, y, v in person.keypoints:
                if v == 0:
                    assert x == y == 0
                    continue
                assert 0 <= x < width and 0 <= y < height
                around = (slice(max(int(y) - 4, 0), int(y) + 5), slice(max(int(x) - 4, 0), int(x) + 5))
                if v == 2:
                    assert person.mask[around].any()
                nearer = any(other.mask[int(y), int(x)] for other in scene.people[number + 1 :])
                assert not (nearer and v == 2)
                hidden_by_others += nearer
    assert hidden_by_others > 5  # the scenes do hold occlusion


def test_nearer_people_stand_lower(scenes):
    """One horizon and one camera height: the foot point goes down as the scale grows."""
    for scene in scenes:
        feet = [person.amodal_box[3] for person in scene.people]
        scales = [person.scale for person in scene.people]
        assert scales == sorted(scales)
        assert all(b >= a - 1 for a, b in pairwise(feet))


def test_splits_share_no_background_and_no_outfit(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (40, 3))
    for i, colour in enumerate(colours):
        Image.new("RGB", (64, 48), tuple(colour.tolist())).save(tmp_path / f"photo{i}.png")
    backgrounds, seen = Backgrounds(tmp_path), {}
    for split in SPLITS:
        for i in range(6):
            scene = compose(scene_rng(2, split, i), split, DrawnPeople(), backgrounds)
            if scene.background.isdigit():
                assert SPLITS[int(scene.background) % len(SPLITS)] == split
            else:
                assert photo_split(tmp_path / scene.background) == split
            assert seen.setdefault(scene.background, split) == split
            assert all(outfit_split(person.attributes) == split for person in scene.people)
    assert sum(len(backgrounds.photos(split)) for split in SPLITS) == 40


def test_a_background_depends_on_its_seed_only():
    assert np.array_equal(made_background(12, 90, 60, 30), made_background(12, 90, 60, 30))
    assert not np.array_equal(made_background(12, 90, 60, 30), made_background(15, 90, 60, 30))
    for horizon in (-500, 0, 59, 900):  # close-ups have it far outside the picture
        assert made_background(3, 90, 60, horizon).shape == (60, 90, 3)


def test_wrong_photo_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--photos"):
        Backgrounds(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no picture"):
        Backgrounds(tmp_path)


# -- words ---------------------------------------------------------------------------------------------------
def test_every_expression_fits_its_person_and_nobody_else(scenes):
    count = 0
    for number, scene in enumerate(scenes):
        for person, expressions in enumerate(describe(np.random.default_rng(number), scene)):
            texts = [e.text for e in expressions]
            assert len(set(texts)) == len(texts) <= 3
            for expression in expressions:
                found, count = matches(scene, expression.terms), count + 1
                if expression.relation is None:
                    assert found == [person], expression
                    continue
                leans = expression.relation
                assert [matches(scene, terms) for terms in leans.terms] == [[anchor] for anchor in leans.anchors]
                assert person in found and related(scene, person, leans.word, leans.anchors)
    assert count > 120


def test_words_and_terms_agree(scenes):
    """Colours and garments in the text are those of the terms (or of the person leaned on)."""
    colours = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "white")
    for number, scene in enumerate(scenes):
        for expressions in describe(np.random.default_rng(number), scene):
            for e in expressions:
                groups = (e.terms, *(e.relation.terms if e.relation else ()))
                claimed = {value for terms in groups for _, value in terms}
                for colour in colours:
                    assert (colour in e.text.split()) == (colour in claimed), e


def test_nothing_hidden_is_told(scenes):
    for number, scene in enumerate(scenes):
        facts = SceneFacts.of(scene)
        for person, expressions in enumerate(describe(np.random.default_rng(number), scene)):
            hidden = facts.people[person].hidden
            for expression in expressions:
                assert not hidden & {kind.removeprefix("not ") for kind, _ in expression.terms}
            for caption in captions(scene.people[person]):
                assert ("hat" in caption.split()) <= ("hat" not in hidden)
                if "gender" in hidden:
                    assert not {"man", "woman", "boy", "girl", "He", "She"} & set(caption.split())
                if "bottom" in hidden:
                    assert not {"trousers", "jeans", "shorts", "skirt"} & set(caption.rstrip(".").split())


def test_left_and_right_need_a_margin():
    facts = SceneFacts.of(flat_scene((100, {}), (120, {}), (330, {})))
    assert not facts.singles_out(0, [("noun", "man"), ("place", "left")])  # 20 of 400 pixels apart
    assert facts.singles_out(2, [("noun", "man"), ("place", "right")])


def test_alike_colours_and_hidden_clothes_are_no_ground_to_tell_people_apart():
    facts = SceneFacts.of(flat_scene((50, {}), (300, {"top_colour": "orange"})))
    assert not facts.singles_out(0, [("wears_colour", "red")])
    facts = SceneFacts.of(flat_scene((50, {}), (300, {"top_colour": "green", "bottom_colour": "red"})))
    assert not facts.singles_out(0, [("wears_colour", "red")])
    assert facts.singles_out(0, [("top", "shirt"), ("top_colour", "red")])


def test_ranks_must_hold_however_a_reader_counts():
    scene = flat_scene((20, {}), (140, {"gender": "woman"}), (250, {}), (350, {}))
    facts = SceneFacts.of(scene)
    assert facts.singles_out(1, [("noun", "woman"), ("place", "second from left")])
    # Second among the men, third among all: two readers would point at two people.
    assert not facts.singles_out(2, [("noun", "man"), ("place", "second from left")])
    assert facts.singles_out(0, [("noun", "man"), ("place", "far left")])


def test_ranks_and_one_take_no_indefinite_article():
    writer = Writer(np.random.default_rng(0))
    for phrase in ("one in red", "left man", "far right one", "middle woman"):
        assert {writer.article(phrase) for _ in range(60)} == {phrase, f"the {phrase}"}
    assert "an older man" in {writer.article("older man") for _ in range(60)}


def test_a_plain_caption():
    person = flat_scene((50, {"gender": "woman", "hair": "long", "top": "t-shirt"})).people[0]
    first, *others = captions(person)
    assert first == "A young woman with long brown hair wearing a red t-shirt and blue jeans, standing."
    assert len(others) == 2 and len({first, *others}) == 3
