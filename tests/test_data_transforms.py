"""Mirroring and cropping move picture, words and labels together."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refhcm.data.annotation import KEYPOINT_NAMES, PART_NAMES, Annotation, Question
from refhcm.data.transforms import FLIPPED_KEYPOINTS, Augmentation, crop, flip, jitter, swap_sides

SIZE = (64, 48)


def person(text="the man on the left", seed=0):
    random = np.random.default_rng(seed)
    x1, y1 = random.integers(0, 40), random.integers(0, 30)
    box = (float(x1), float(y1), float(x1 + random.integers(4, 24)), float(y1 + random.integers(4, 18)))
    keypoints = np.stack(
        [random.integers(x1, box[2], 17), random.integers(y1, box[3], 17), random.integers(0, 3, 17)], axis=1
    ).astype(np.float32)
    keypoints[keypoints[:, 2] == 0] = 0
    parts = random.integers(0, 20, SIZE[::-1]).astype(np.uint8)
    parts[0, 0] = 255
    answer = Annotation(SIZE, box, keypoints, codes=(1,) * 48, parts=parts, captions=("A left glove.",))
    return Question(SIZE, text, box), answer


# -- words ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("Left man", "Right man"),
        ("person on RIGHT", "person on LEFT"),
        ("leftmost kid, right-hand side", "rightmost kid, left-hand side"),
        ("third from the left", "third from the right"),
        ("left_eye of lefty", "right_eye of righty"),
        ("rt guy", "lft guy"),
        ("the bright upright piano", "the bright upright piano"),
        ("man right behind the right girl", "man right behind the left girl"),
        ("the left's coat", "the right's coat"),
        ("you're leftover rightful", "you're leftover rightful"),
        ("guy on right behind the fence", "guy on left behind the fence"),
        ("the one on the right by the door", "the one on the left by the door"),
        ("man right in the middle", "man right in the middle"),
        ("second from right, in the middle", "second from left, in the middle"),
        ("a right-handed batter", "a left-handed batter"),
        ("leftest lady", "rightest lady"),
        ("Top right above the sign", "Top left above the sign"),
    ],
)
def test_sides_are_swapped(text, mirrored):
    assert swap_sides(text) == mirrored


@given(
    st.lists(
        st.sampled_from(["left", "Right", "RIGHT", "leftmost", "man", "l", "r", "lft", "rt", "bright"]),
        max_size=8,
    )
)
def test_swapping_twice_gives_the_words_back(words):
    assert swap_sides(swap_sides(" ".join(words))) == " ".join(words)


# -- mirror ---------------------------------------------------------------------------------------------
def test_keypoint_order_of_a_mirrored_person():
    # COCO's published flip permutation
    assert FLIPPED_KEYPOINTS == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


@given(st.integers(0, 1000))
@settings(deadline=None)
def test_mirroring_twice_gives_everything_back_but_codes(seed):
    question, answer = person(seed=seed)
    again_question, again = flip(flip((question, answer)))
    assert again_question == question and again.box == answer.box and again.captions == answer.captions
    assert np.array_equal(again.keypoints, answer.keypoints) and np.array_equal(again.parts, answer.parts)
    assert again.codes is None


def test_labels_stay_on_the_pixels_they_name():
    question, answer = person()
    picture = np.zeros((*SIZE[::-1], 3), np.uint8)
    x, y = 10, 20
    picture[y, x] = 255
    answer.keypoints[KEYPOINT_NAMES.index("left_wrist")] = x, y, 2
    answer.parts[y, x] = PART_NAMES.index("left-arm")
    pairs, image = Augmentation(flip=1)(
        [(question, answer)], Image.fromarray(picture), np.random.default_rng(0)
    )
    (asked, mirrored), seen = pairs[0], np.asarray(image)
    px, py, v = mirrored.keypoints[KEYPOINT_NAMES.index("right_wrist")].astype(int)
    assert seen[py, px, 0] == 255 and v == 2
    assert PART_NAMES[mirrored.parts[py, px]] == "right-arm"
    assert asked.text == "the man on the right" and mirrored.captions == ("A right glove.",)


def test_codes_forbid_mirroring_when_they_are_needed():
    pairs, _ = Augmentation(flip=1)(
        [person()], Image.new("RGB", SIZE), np.random.default_rng(0), flippable=False
    )
    assert pairs[0][1].codes is not None


# -- crop -----------------------------------------------------------------------------------------------
@given(st.integers(0, 10_000), st.sampled_from([(64, 48), (32, 24), (16, 12)]))
@settings(max_examples=100, deadline=None)
def test_cropping_keeps_the_person_whole(seed, frame):
    question, answer = person(seed=seed)
    pairs, image = Augmentation(zoom=0.3)(
        [(question, answer)], Image.new("RGB", frame), np.random.default_rng(seed)
    )
    asked, kept = pairs[0]
    assert asked.size == kept.size == image.size and image.size <= frame
    scale = frame[0] / SIZE[0]
    assert kept.box[2] - kept.box[0] == pytest.approx(scale * (answer.box[2] - answer.box[0]))
    assert kept.box[3] - kept.box[1] == pytest.approx(scale * (answer.box[3] - answer.box[1]))
    assert np.array_equal(kept.keypoints[:, 2], answer.keypoints[:, 2])
    assert kept.parts.shape == image.size[::-1] and kept.codes == answer.codes


def test_cropping_moves_labels_with_the_pixels():
    question, answer = person()
    answer.keypoints[0] = 30, 20, 2
    picture = np.zeros((*SIZE[::-1], 3), np.uint8)
    picture[20, 30] = 255
    _, kept = crop((question, answer), SIZE, (10, 5, 40, 30))
    x, y, _ = kept.keypoints[0].astype(int)
    assert picture[5:35, 10:50][y, x, 0] == 255
    assert np.array_equal(kept.parts, answer.parts[5:35, 10:50])


def test_points_outside_the_window_become_unlabelled():
    question, answer = person()
    answer.keypoints[0] = 60, 40, 2
    _, kept = crop((question, answer), SIZE, (0, 0, 20, 20))
    assert kept.keypoints[0].tolist() == [0, 0, 0]


def many(random, text="the man on the left"):
    """A picture of several people with a square of its own colour at every joint, and what is known about them."""
    pixels = np.zeros((*SIZE[::-1], 3), np.uint8)
    colours, people = {}, []
    for number in range(2):
        x1, y1 = 2 + 30 * number, 4 + 10 * number
        joints = np.zeros((17, 3), np.float32)
        places = random.permutation(24 * 30)[:17]
        for joint, place in enumerate(places[: random.integers(1, 18)]):
            x, y = x1 + place % 24, y1 + place // 24
            colour = (10 + 7 * joint, 100 + 50 * number, 200)
            pixels[y, x], colours[number, joint] = colour, colour
            joints[joint] = x, y, 1 + joint % 2
        mask = np.zeros(SIZE[::-1], bool)
        mask[y1 : y1 + 30, x1 : x1 + 24] = True
        box = (float(x1), float(y1), float(x1 + 24), float(y1 + 30))
        parts = np.where(mask, 14, 0).astype(np.uint8)
        people.append(Annotation(SIZE, box, joints, None, parts, (), mask, 720.0))
    marks = (((60.0, 3.0),), ((20.0, 30.0), (21.0, 31.0)))
    pixels[3, 60] = 255
    return Question(SIZE, None, None, marks), Annotation(SIZE, people=tuple(people)), Image.fromarray(pixels), colours


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_every_joint_is_found_where_the_label_says_after_all_changes(seed):
    """Mirrored, cut and shrunk, of several people: the square of left_wrist lies at right_wrist, and so on."""
    random = np.random.default_rng(seed)
    question, answer, image, colours = many(random)
    ((asked, kept),), seen = Augmentation(flip=0.5, zoom=0.6, shrink=0.7)([(question, answer)], image, random)
    pixels = np.asarray(seen)
    mirrored = kept.people[0].parts.max() == PART_NAMES.index("right-arm")
    assert mirrored or kept.people[0].parts.max() == PART_NAMES.index("left-arm")
    assert asked.size == kept.size == seen.size
    for number, person in enumerate(kept.people):
        labelled = {joint for joint in range(17) if person.keypoints[joint, 2]}
        assert {FLIPPED_KEYPOINTS[j] if mirrored else j for j in labelled} == {j for n, j in colours if n == number}
        for joint in labelled:
            x, y, v = person.keypoints[joint].astype(int)
            source = FLIPPED_KEYPOINTS[joint] if mirrored else joint
            assert tuple(pixels[y, x]) == colours[number, source] and v == 1 + source % 2
        left, top, right, bottom = map(round, person.box)
        inside = np.zeros(seen.size[::-1], bool)
        inside[top:bottom, left:right] = True
        assert np.array_equal(person.mask, inside) and np.array_equal(person.parts > 0, inside)
        assert person.area == 720 and person.size == seen.size and (right - left, bottom - top) == (24, 30)
    (((x, y),), _) = asked.points
    assert tuple(pixels[int(y), int(x)]) == (255, 255, 255)


def test_what_lies_beyond_the_picture_is_grey_and_nobody():
    question, answer, image, _ = many(np.random.default_rng(0))
    found = set()
    for seed in range(30):
        random = np.random.default_rng(seed)
        ((_, kept),), seen = Augmentation(shrink=0.5)([(question, answer)], image, random)
        found.add(seen.size)
        assert SIZE[0] <= seen.size[0] <= 2 * SIZE[0] and SIZE[1] <= seen.size[1] <= 2 * SIZE[1]
        beyond = (np.asarray(seen) == 127).all(axis=2)
        assert beyond.sum() == seen.size[0] * seen.size[1] - SIZE[0] * SIZE[1]
        assert not any((person.parts[beyond] | person.mask[beyond]).any() for person in kept.people)
    assert len(found) > 20


def test_codes_and_area_are_known_while_the_box_is_whole():
    question, answer = person()
    answer = replace(answer, box=(10, 10, 30, 30), area=300.0)
    _, whole = crop((question, answer), SIZE, (10, 5, 40, 30))
    assert whole.codes == answer.codes and whole.area == 300
    _, cut = crop((question, answer), SIZE, (11, 5, 40, 30))
    assert cut.codes is None and cut.area is None
    _, half = crop((question, answer), (32, 24), (0, 0, 32, 24))
    assert half.area == 75 and half.codes == answer.codes


# -- colour ---------------------------------------------------------------------------------------------
def test_colour_changes_stay_within_their_strength():
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    for seed in range(20):
        changed = np.asarray(jitter(grey, np.random.default_rng(seed), 0.2)).astype(int)
        assert np.ptp(changed) <= 1  # grey stays grey
        assert abs(changed.mean() - 100) <= 100 * 0.2 * 1.2 + 0.2 * 27.5 + 1
    assert jitter(grey, np.random.default_rng(0), 0) is grey


def test_wrong_strengths_are_refused():
    for options in ({"flip": 2}, {"zoom": 0}, {"colour": -0.1}, {"shrink": 0}, {"shrink": 1.5}):
        with pytest.raises(ValueError):
            Augmentation(**options)
