"""A second training aid: let picture cells say which joint and which body part of the meant person they show.

A caption-sized answer teaches pose and parts through a hundred tokens that wait for each other; the encoder's cells
can be taught all places at once. Each cell is read as `FINE` x `FINE` finer ones: a class of the part map for each, and
for every joint a distribution over all of them. The linear layer belongs to the loss, so exported models do not
hold it. Ours, like `criterions.grounding`; the published training has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.annotation import KEYPOINT_NAMES, PART_NAMES, Annotation
from .grounding import box_coverage

FINE = 2
"""Finer cells along each side of a cell."""
SAMPLES = 3
"""Pixels of the part map that are looked at along each side of a finer cell."""


class PartShares(NamedTuple):
    """What share of each cell of a grid over the picture each part class has.

    shares: float32 [rows, height * width, 20], each cell summing to 1 (what a map ignores counts as background).
    known: bool [rows], False where there is no part map (shares 0).
    """

    shares: Tensor
    known: Tensor

    def coarser(self, height: int, width: int, factor: int) -> PartShares:
        """The shares on a grid of `height` x `width` cells, each made of `factor` x `factor` of these."""
        cells = self.shares.unflatten(1, (height, factor, width, factor)).mean((2, 4))
        return PartShares(cells.flatten(1, 2), self.known)


def part_shares(annotations: Sequence[Annotation], height: int, width: int) -> PartShares:
    """Look at `SAMPLES` x `SAMPLES` pixels of each person's part map in each cell of a grid over the picture."""
    shares = torch.zeros(len(annotations), height * width, len(PART_NAMES))
    known = torch.zeros(len(annotations), dtype=torch.bool)
    for row, annotation in enumerate(annotations):
        if annotation.parts is None:
            continue
        rows, columns = (
            ((np.arange(count * SAMPLES) + 0.5) / (count * SAMPLES) * side).astype(np.intp)
            for count, side in zip((height, width), annotation.parts.shape, strict=True)
        )
        seen = torch.from_numpy(annotation.parts[rows[:, None], columns[None]]).long()
        seen[seen >= len(PART_NAMES)] = 0
        cells = F.one_hot(seen, len(PART_NAMES)).float().view(height, SAMPLES, width, SAMPLES, -1)
        shares[row] = cells.mean((1, 3)).flatten(0, 1)
        known[row] = True
    return PartShares(shares, known)


def joint_shares(annotations: Sequence[Annotation], height: int, width: int) -> Tensor:
    """Where each labelled joint lies, as shares of the four cells whose centres surround it (bilinear).

    Returns float32 [rows, 17, height * width]: joints sum to 1, those that are not labelled to 0.
    """
    shares = torch.zeros(len(annotations), len(KEYPOINT_NAMES), height, width)
    for row, annotation in enumerate(annotations):
        if annotation.keypoints is None:
            continue
        points = torch.as_tensor(annotation.keypoints, dtype=torch.float32)
        size = points.new_tensor(annotation.size)
        place = points[:, :2] / size * points.new_tensor([width, height]) - 0.5
        ys, xs = (
            (1 - (torch.arange(count)[None] - place[:, axis, None].clamp(0, count - 1)).abs()).clamp(min=0)
            for count, axis in ((height, 1), (width, 0))
        )
        shares[row] = ys[:, :, None] * xs[:, None, :] * (points[:, 2] > 0)[:, None, None]
    return shares.flatten(2)


class DetailLoss(nn.Module):
    """Cross-entropies of a linear read-out of the encoder's picture cells: part classes, and places of joints."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read_out = nn.Linear(width, FINE * FINE * (len(PART_NAMES) + len(KEYPOINT_NAMES)))

    def forward(
        self, states: Tensor, grid: tuple[int, int], annotations: Sequence[Annotation], seen: PartShares
    ) -> tuple[Tensor, Tensor]:
        """(parts, joints), each a sum over rows; `states` [B, T, C] begin with the `grid` (h, w) of picture cells.
        `seen` is on the finer grid.

        parts: mean over the finer cells, by how much of each lies in the person's box. joints: mean over the 17 joints,
        0 for those without a label.
        """
        height, width = grid
        fine = (height * FINE, width * FINE)
        cells = states[:, : height * width].to(self.read_out.weight.dtype)
        logits = self.read_out(cells).float().unflatten(1, grid).unflatten(-1, (FINE, FINE, -1))
        logits = logits.transpose(2, 3).flatten(3, 4).flatten(1, 2).flatten(1, 2)  # [B, fine cells, classes]
        part_logits, joint_logits = logits.split((len(PART_NAMES), len(KEYPOINT_NAMES)), -1)

        wanted, known = (value.to(states.device) for value in seen)
        weight = box_coverage(annotations, *fine)[0].to(states.device) * known[:, None]
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
        parts = -(weight[:, :, None] * wanted * part_logits.log_softmax(-1)).sum()

        places = joint_shares(annotations, *fine).to(states.device)
        joints = -(places * joint_logits.log_softmax(1).transpose(1, 2)).sum() / len(KEYPOINT_NAMES)
        return parts, joints
