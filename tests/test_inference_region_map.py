"""Region maps: every size shows the same map, and many regions become one by the rule that was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.data.annotation import OTHERS, PERSON
from refhcm.errors import RefHCMError
from refhcm.inference.answer import Answer
from refhcm.inference.region_map import RegionMap, combine

SIZE = (400, 300)
sides = st.floats(-3, 3, width=32)


def some_map(box, seed=0, size=SIZE):
    return RegionMap(box, size, np.random.default_rng(seed).normal(size=(3, 8, 6)).astype(np.float32) * 3)


def flat(box, chance, score=0.5):
    """An answer by whose map every pixel of the box is its person with this chance."""
    rest = (1 - chance) / 2
    logits = np.log(np.array([rest, chance, rest], np.float32))[:, None, None] * np.ones((1, 4, 3), np.float32)
    return Answer(SIZE, region=box, score=score, region_map=RegionMap(box, SIZE, logits))


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), left=st.integers(0, 200), top=st.integers(0, 100))
def test_the_small_map_is_the_full_one_at_the_centres_of_its_cells(seed, left, top):
    found = some_map((left, top, left + 3 * 56, top + 3 * 56), seed)
    small, full = found.labels(), found.labels(None)
    assert small.shape == (56, 56) and full.shape == (168, 168)
    assert (small == full[1::3, 1::3]).all()
    np.testing.assert_allclose(found.probability(), found.probability(None)[1::3, 1::3], atol=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), box=st.tuples(sides, sides, sides, sides))
def test_the_full_map_is_what_the_picture_shows_in_the_region(seed, box):
    found = some_map(tuple(float(a + b) for a, b in zip((30, 20, 90.5, 120.25), box, strict=True)), seed)
    labels, pasted = found.labels(None), found.paste()
    assert pasted.shape == (300, 400) and (pasted[found.window] == labels).all()
    pasted[found.window] = 0
    assert not pasted.any()
    x1, y1, x2, y2 = found.box
    assert abs(labels.shape[1] - (x2 - x1)) <= 1 and abs(labels.shape[0] - (y2 - y1)) <= 1


def test_labels_and_chances_agree():
    found = some_map((10, 20, 110, 220))
    for size in ((56, 56), (20, 31), None):
        chances = np.stack([found.probability(size, label) for label in range(3)])
        np.testing.assert_allclose(chances.sum(0), 1, atol=1e-5)
        labels = found.labels(size)
        assert ((labels == PERSON) >= (chances[PERSON] > 0.5)).all() and (labels == OTHERS).any()
    assert (found.paste_probability() == 0).sum() == 300 * 400 - 100 * 200


def test_a_region_thinner_than_a_pixel_has_a_small_map_all_the_same():
    found = some_map((10.6, 20, 11.2, 21.5))
    assert found.labels(None).shape == (1, 0) and found.labels().shape == (56, 56)


def test_the_greatest_chance_owns_a_pixel():
    found = combine([flat((0, 0, 100, 100), 0.6), flat((50, 0, 150, 100), 0.8), flat((0, 50, 150, 100), 0.4)])
    assert found.probability.shape == found.owner.shape == (300, 400)
    assert (found.owner[:50, :50] == 0).all() and (found.owner[:100, 50:150] == 1).all()
    np.testing.assert_allclose(found.probability[0, [0, 49, 50, 149, 150]], [0.6, 0.6, 0.8, 0.8, 0], atol=1e-5)
    np.testing.assert_allclose(found.probability[99, [0, 50]], [0.6, 0.8], atol=1e-5)
    assert (found.owner[:, 150:] == -1).all() and (found.owner[100:] == -1).all()


def test_the_average_is_over_the_regions_that_a_pixel_lies_in():
    found = combine([flat((0, 0, 100, 100), 0.9), flat((50, 0, 150, 100), 0.3)], how="average")
    np.testing.assert_allclose(found.probability[0, [0, 50, 149, 150]], [0.9, 0.6, 0.3, 0], atol=1e-5)
    assert found.owner[0, [0, 50, 149, 150]].tolist() == [0, 0, -1, -1]


def test_the_best_score_claims_a_pixel_first():
    answers = [flat((0, 0, 100, 100), 0.9, score=0.2), flat((50, 0, 150, 100), 0.6, score=0.7),
               flat((90, 0, 150, 100), 0.4, score=0.9)]  # fmt: skip
    found = combine(answers, how="score")
    assert found.owner[0, [0, 50, 95, 120, 149, 150]].tolist() == [0, 1, 1, 1, 1, -1]
    np.testing.assert_allclose(found.probability[0, [0, 50, 95, 120, 150]], [0.9, 0.6, 0.6, 0.6, 0], atol=1e-5)
    np.testing.assert_allclose(combine(answers[2:], how="score").probability[0, 95], 0.4, atol=1e-5)


@pytest.mark.parametrize("how", ["maximum", "average", "score"])
def test_equal_answers_count_in_their_order_and_absent_ones_not_at_all(how):
    answers = [Answer(SIZE, "him", present=False), flat((0, 0, 9, 9), 0.8), flat((0, 0, 9, 9), 0.8)]
    found = combine(answers, how)
    assert set(found.owner[:9, :9].ravel().tolist()) == {1}
    assert combine(answers[:1], how).probability.max() == 0
    assert found.probability.dtype == np.float32 and found.owner.dtype == np.int32


def test_what_cannot_be_combined_is_refused_in_one_sentence():
    one = flat((0, 0, 9, 9), 0.8)
    for answers, how, sentence in (
        ([], "maximum", "no answers"),
        (one, "maximum", "from a list of answers"),
        ([one], "sum", "maximum, average, score, not by 'sum'"),
        ([one, Answer((9, 9), region_map=some_map((0, 0, 5, 5), size=(9, 9)))], "maximum", "different sizes"),
        ([one, Answer(SIZE)], "maximum", "Answer 1 has no region map: ask with the task 'region_map'"),
    ):
        with pytest.raises(RefHCMError, match=sentence):
            combine(answers, how)


@pytest.mark.parametrize("size", [56, (56,), (0, 5), (5.5, 5), "5x5", (10**6, 10**6), (float("nan"), 5)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(RefHCMError, match="size of a region map is"):
        some_map((0, 0, 9, 9)).labels(size)


@pytest.mark.parametrize("label", [3, -1, True, 1.0, "person"])
def test_unknown_classes_are_refused(label):
    found = some_map((0, 0, 9, 9))
    for size in ((5, 5), None):
        with pytest.raises(RefHCMError, match="classes of a region map"):
            found.probability(size, label)
        assert (found.probability(size, np.int64(2)) == found.probability(size, 2)).all()
