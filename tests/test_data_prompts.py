"""People are asked about in other ways than by words: what is drawn marks the person, and is read as it was drawn."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.data.annotation import Annotation, Question
from refhcm.data.prompts import SCRIBBLE_POINTS, Prompting, points_on, read_of

SIZE = (30, 40)
BOX = (4.0, 6.0, 20.0, 33.0)


def annotation(seed=0):
    """A person of some pixels of the box."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[6:33, 4:20] = np.random.default_rng(seed).random((27, 16)) < 0.3
    return Annotation(SIZE, BOX, mask=mask)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 40)), min_size=1, max_size=50))
def test_a_scribble_is_read_from_top_to_bottom_with_both_ends_and_once_for_all(points):
    read = read_of(points)
    assert len(read) == min(len(points), SCRIBBLE_POINTS) and set(read) <= set(points)
    assert [y for _, y in read] == sorted(y for _, y in read) and read_of(read) == read
    assert points[0] in read and (points[-1] in read or len(points) == 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_what_training_draws_lies_on_the_person_and_is_read_whole(seed):
    person, random = annotation(seed % 7), np.random.default_rng(seed)
    points = points_on(person, BOX, random)
    assert points == read_of(points) and 1 <= len(points) <= SCRIBBLE_POINTS
    assert all(person.mask[int(y), int(x)] for x, y in points)
    question = Question(SIZE, "a man", BOX)
    asked = Prompting(by_region=1.0, by_point=1.0).vary(question, person, random, always=False)
    assert asked.text is asked.region is None and len(asked.points) == 1
