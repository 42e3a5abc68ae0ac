"""A training aid: let the encoder itself say which picture cells belong to the person that is meant.

Answer tokens teach grounding slowly: four of them per question, and their gradients reach the picture through the
decoder alone. This loss asks every picture cell, after the encoder has read picture and words together, how much of it
lies in the person's box. Its one linear layer belongs to the loss, not to the model, so exported models do not hold it.
Ours; the published training has nothing like it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.annotation import Annotation


def box_coverage(annotations: Sequence[Annotation], height: int, width: int) -> tuple[Tensor, Tensor]:
    """How much of each cell of a grid over the picture lies in each person's box.

    Where several people are meant, a cell counts as it does for the one who covers most of it; where nobody is, no cell
    counts. Returns coverage float32 [rows, height * width] in [0, 1], row by row of the grid, and bool [rows], False
    where a box is not known (coverage 0).
    """
    people = [(annotation,) if annotation.people is None else annotation.people for annotation in annotations]
    known = torch.tensor([all(person.box is not None for person in some) for some in people], dtype=torch.bool)
    meant = [(row, person) for row, some in enumerate(people) if known[row] for person in some]
    coverage = torch.zeros(len(annotations), height * width)
    if meant:
        size = torch.tensor([person.size for _, person in meant], dtype=torch.float32).repeat(1, 2)
        boxes = torch.tensor([person.box for _, person in meant], dtype=torch.float32) / size
        rows, columns = _overlap(boxes[:, 1], boxes[:, 3], height), _overlap(boxes[:, 0], boxes[:, 2], width)
        covered = (rows[:, :, None] * columns[:, None, :]).flatten(1)
        places = torch.tensor([row for row, _ in meant])[:, None].expand_as(covered)
        coverage.scatter_reduce_(0, places, covered, "amax")
    return coverage, known


def _overlap(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Share of each of `count` equal stretches of [0, 1] that lies between `low` and `high`: [rows, count]."""
    edges = torch.arange(count + 1) / count
    inside = torch.minimum(edges[1:], high[:, None]) - torch.maximum(edges[:-1], low[:, None])
    return (inside * count).clamp(0, 1)


class GroundingLoss(nn.Module):
    """Binary cross-entropy of a linear read-out of the encoder's picture cells against `box_coverage`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read_out = nn.Linear(width, 1)

    def forward(self, states: Tensor, grid: tuple[int, int], annotations: Sequence[Annotation]) -> Tensor:
        """Sum over rows of the mean over cells; `states` [B, T, C] begin with the `grid` (h, w) of picture cells."""
        height, width = grid
        wanted, known = box_coverage(annotations, height, width)
        cells = states[:, : height * width].to(self.read_out.weight.dtype)
        logits = self.read_out(cells).squeeze(-1).float()
        loss = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.device), reduction="none").mean(1)
        return loss[known.to(loss.device)].sum()
