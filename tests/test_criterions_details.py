"""The detail aid wants the part map and the joints where they are, and only where they are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refhcm.criterions.details import FINE, DetailLoss, joint_shares, part_shares
from refhcm.data.annotation import Annotation

WIDTH, HEIGHT = 64, 48


def person(parts=None, points=(), box=(0.0, 0.0, WIDTH, HEIGHT)):
    keypoints = np.zeros((17, 3), np.float32)
    for joint, (x, y, v) in enumerate(points):
        keypoints[joint] = x, y, v
    return Annotation((WIDTH, HEIGHT), box, keypoints=keypoints, parts=parts)


def read(loss, wanted):
    """The loss with cell states that its read-out passes on: `wanted` [1, h, FINE, w, FINE, 37] are the logits."""
    cells = wanted.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
    loss.read_out = torch.nn.Linear(cells.shape[-1], cells.shape[-1], bias=False)
    torch.nn.init.eye_(loss.read_out.weight)
    return cells


@settings(max_examples=30, deadline=None)
@given(parts=arrays(np.uint8, (HEIGHT, WIDTH), elements=st.sampled_from([0, 1, 5, 19, 255])), side=st.integers(1, 6))
def test_shares_of_a_cell_add_up_to_one(parts, side):
    shares, known = part_shares([person(parts)], side, side)
    assert known.tolist() == [True]
    assert torch.allclose(shares.sum(-1), torch.ones(1, side * side), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(parts=arrays(np.uint8, (HEIGHT, WIDTH), elements=st.sampled_from([0, 1, 5, 19, 255])))
def test_coarser_shares_are_means_of_the_finer_ones(parts):
    fine = part_shares([person(parts), person()], 4, 6)
    coarse = fine.coarser(2, 3, 2)
    means = torch.nn.functional.avg_pool2d(fine.shares.transpose(1, 2).unflatten(2, (4, 6)), 2)
    assert torch.allclose(coarse.shares.transpose(1, 2), means.flatten(2), atol=1e-6)
    assert coarse.known.tolist() == [True, False]


@settings(max_examples=50, deadline=None)
@given(x=st.floats(0, WIDTH), y=st.floats(0, HEIGHT), v=st.sampled_from([0, 1, 2]), side=st.integers(2, 9))
def test_a_joint_is_where_its_shares_average_out(x, y, v, side):
    shares = joint_shares([person(points=[(x, y, v)])], side, side)[0]
    assert shares[1:].sum() == 0 and shares[0].sum().item() == pytest.approx(float(v > 0), abs=1e-5)
    if v:
        centres = (torch.arange(side) + 0.5) / side
        found_y, found_x = shares[0].view(side, side).sum(1) @ centres, shares[0].view(side, side).sum(0) @ centres
        half = 0.5 / side  # nearer to the edge than that, the outermost cells' centres are as far as shares reach
        assert found_x.item() == pytest.approx(min(max(x / WIDTH, half), 1 - half), abs=1e-4)
        assert found_y.item() == pytest.approx(min(max(y / HEIGHT, half), 1 - half), abs=1e-4)


def test_the_right_read_out_has_the_lowest_loss():
    parts = np.zeros((HEIGHT, WIDTH), np.uint8)
    parts[: HEIGHT // 4, WIDTH // 2 :] = 13  # a face in the top row of finer cells, right half
    someone = person(parts, [(56, 6, 2)])  # the nose in the middle of the last cell of that row
    grid = (2, 2)
    logits = torch.zeros(1, 2, FINE, 2, FINE, 37)
    logits[..., 0] = 30
    logits[0, 0, 0, 1, :, 0], logits[0, 0, 0, 1, :, 13] = 0, 30
    logits[0, 0, 0, 1, 1, 20] = 30  # joint 0
    loss = DetailLoss(4)
    cells = read(loss, logits)
    seen = part_shares([someone], 2 * FINE, 2 * FINE)
    right = [value.item() for value in loss(cells, grid, [someone], seen)]
    assert right == pytest.approx([0, 0], abs=1e-5)
    wrong = [value.item() for value in loss(cells.flip(1), grid, [someone], seen)]
    assert wrong[0] > 5 and wrong[1] > 1


def test_what_is_not_known_costs_nothing():
    loss = DetailLoss(8)
    someone = [Annotation((WIDTH, HEIGHT), (1.0, 1.0, 9.0, 9.0))]
    parts, joints = loss(torch.randn(1, 6, 8), (2, 2), someone, part_shares(someone, 2 * FINE, 2 * FINE))
    assert parts.item() == 0 and joints.item() == 0
