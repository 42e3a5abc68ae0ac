"""The bundled model does on the sample scene what README shows."""

from pathlib import Path

import numpy as np
import pytest

import refhcm

SCENE = Path(refhcm.__file__).parent / "dataset" / "samples" / "scene.jpg"
PEOPLE = ((29, 236, 102, 448), (298, 212, 382, 450))
"""The two people of the scene, by eye."""


@pytest.fixture(scope="module")
def model():
    return refhcm.load(device="cpu")


def overlap(one, other):
    x1, y1, x2, y2 = np.maximum(one[:2], other[:2]).tolist() + np.minimum(one[2:], other[2:]).tolist()
    return max(x2 - x1, 0) * max(y2 - y1, 0) / ((one[2] - one[0]) * (one[3] - one[1]))


def test_everybody_is_found_with_a_mask_each(model):
    found = model.everybody(SCENE, tasks=("box", "mask"))
    assert len(found) == 2
    for answer, place in zip(found, PEOPLE, strict=True):
        assert overlap(answer.box, place) > 0.5 and answer.present
        rows, columns = np.nonzero(answer.mask)
        inside = (columns + 0.5 > answer.box[0]) & (columns + 0.5 < answer.box[2])
        inside &= (rows + 0.5 > answer.box[1]) & (rows + 0.5 < answer.box[3])
        assert len(rows) > 2000 and inside.all()


def test_parts_mask_and_keypoints_of_one_answer_agree(model):
    answer = model(SCENE, "the woman on the left")
    assert overlap(answer.box, PEOPLE[0]) > 0.8 and 0 < answer.presence <= 1
    assert (answer.mask == (answer.parsing > 0)).all()
    x, y = answer.keypoints[answer.keypoints[:, 2] > 0, :2].T
    assert (x >= answer.box[0]).all() and (x <= answer.box[2]).all()
    assert (y >= answer.box[1]).all() and (y <= answer.box[3]).all()


def test_a_point_and_a_region_mean_the_person_there(model):
    with model.image(SCENE) as view:
        by_point, by_region = view(point=(65, 330), tasks=("box",)), view(region=PEOPLE[1], tasks=("region_map",))
    assert overlap(by_point.box, PEOPLE[0]) > 0.5
    small = by_region.region_map.labels()
    assert small.shape == (56, 56) and 0.2 < (small == 1).mean() < 0.9


def test_nobody_is_where_the_picture_shows_nobody(model):
    with model.image(SCENE) as view:
        pointed = view.many([{"point": (20, 20)}, (2, 2, 40, 40)], tasks=("box", "mask"))
    for answer in pointed:
        assert not answer.present and answer.presence == 0 and answer.box is None and answer.mask is None
