"""The grounding aid wants what lies in the box, and a read-out that says so has almost no loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.criterions.grounding import GroundingLoss, box_coverage
from refhcm.data.annotation import Annotation

SIDE = st.floats(0, 1)


@settings(max_examples=50, deadline=None)
@given(x1=SIDE, y1=SIDE, x2=SIDE, y2=SIDE, height=st.integers(1, 9), width=st.integers(1, 9))
def test_coverage_adds_up_to_the_area_of_the_box(x1, y1, x2, y2, height, width):
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    person = Annotation((640, 480), (640 * x1, 480 * y1, 640 * x2, 480 * y2))
    coverage, known = box_coverage([person], height, width)
    assert known.tolist() == [True] and coverage.min() >= 0 and coverage.max() <= 1
    assert coverage.mean().item() == pytest.approx((x2 - x1) * (y2 - y1), abs=1e-5)


def test_cells_are_laid_out_row_by_row():
    coverage, _ = box_coverage([Annotation((100, 50), (50.0, 0.0, 100.0, 25.0))], 2, 2)
    assert coverage.tolist() == [[0, 1, 0, 0]]


def test_the_right_cells_have_the_lowest_loss_and_unknown_boxes_none():
    loss = GroundingLoss(1)
    torch.nn.init.constant_(loss.read_out.weight, 20.0)
    torch.nn.init.zeros_(loss.read_out.bias)
    people = [Annotation((100, 50), (50.0, 0.0, 100.0, 25.0)), Annotation((100, 50))]
    right = torch.tensor([[-1.0], [1.0], [-1.0], [-1.0], [0.3]]).expand(2, -1, -1)
    assert loss(right, (2, 2), people).item() < 1e-6
    assert loss(-right, (2, 2), people).item() > 10
    assert loss(-right[1:], (2, 2), people[1:]).item() == 0


def test_several_people_cover_what_each_of_them_covers_and_nobody_covers_nothing():
    one, two = Annotation((40, 40), (0, 0, 20, 20)), Annotation((40, 40), (10, 10, 40, 40))
    both, nobody = (Annotation((40, 40), people=people) for people in ((one, two), ()))
    unknown = Annotation((40, 40), people=(one, Annotation((40, 40))))
    coverage, known = box_coverage([one, two, both, nobody, unknown, Annotation((40, 40))], 4, 4)
    assert known.tolist() == [True, True, True, True, False, False]
    assert torch.equal(coverage[2], torch.maximum(coverage[0], coverage[1])) and not coverage[3:].any()
