"""Queries of a block that know where they look: each begins with what the encoder saw at its own spot of the box.

A block answers a box, in a grid laid over it. Left alone, its queries must learn to work out from four bins and their
own number which picture cells to attend to. Here the encoder's states are sampled at every spot, as RoIAlign does
(He et al. 2017, section 3), and enter the query's embedding, so that only the reading is left to learn. Ours; published
models have no such layer. A pose's queries are no grid; they too carry the box's contents between them, spot by spot,
and since the queries of a block see each other, each can look for its own joint there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BOX = slice(1, 5)
"""Where the box of an answer's blocks stands in it: right behind `<s>`."""
SAMPLES = 2
"""Points along each side of a spot whose values are averaged, as in RoIAlign."""


def sampling_weights(low: Tensor, high: Tensor, count: int, cells: int) -> Tensor:
    """Weights that read `count` equal stretches of `low` .. `high` off a line of `cells` values, bilinearly.

    low, high: `[R]`, as fractions of the line. Returns `[R, count, cells]`, each row summing to 1; beyond the outer
    cells' centres the outer cell counts.
    """
    step = (torch.arange(count * SAMPLES, device=low.device) + 0.5) / (count * SAMPLES)
    points = low[:, None] + (high - low)[:, None] * step
    centres = torch.arange(cells, device=low.device)
    distance = ((points * cells - 0.5).clamp(0, cells - 1)[..., None] - centres).abs()
    return (1 - distance).clamp(min=0).unflatten(1, (count, SAMPLES)).mean(2)


class LocatedQueries(nn.Module):
    """What is added to the embeddings of a block's queries. It begins as nothing, so a trained model may gain it."""

    def __init__(self, width: int, columns: int, bins: tuple[int, int]) -> None:
        """columns: of the grid that a block's queries form, row by row; bins: the half-open range of bin tokens."""
        super().__init__()
        self.columns = columns
        self.bins = bins
        self.proj = nn.Linear(2 * width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Add nothing."""
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def at(self, box: Tensor, cells: Tensor, count: int) -> Tensor:
        """Additions for one block of `count` queries per row: `[R, count, C]`.

        box: int64 `[R, 4]`, tokens x1, y1, x2, y2; cells: `[R, h, w, 2 C]`, states and positions of the picture's
        cells. Queries behind the last full row of the grid get nothing.
        """
        height, width = cells.shape[1:3]
        start, stop = self.bins
        x1, y1, x2, y2 = ((box - start).clamp(0, stop - start - 1).float() / max(stop - start - 1, 1)).unbind(1)
        rows = count // self.columns
        down = sampling_weights(y1, y2, rows, height).to(cells)
        across = sampling_weights(x1, x2, self.columns, width).to(cells)
        seen = torch.einsum("rih,rjw,rhwc->rijc", down, across, cells).flatten(1, 2)
        return nn.functional.pad(self.proj(seen), (0, 0, 0, count - seen.shape[1]))

    def everywhere(self, tokens: Tensor, cells: Tensor, blocks: Tensor) -> Tensor:
        """Additions for whole answers `[B, L]` whose `blocks` are int64 `[B, K, 2]`, as in `Decoder.forward`."""
        rows, which = ((blocks[..., 0] >= BOX.stop) & (blocks[..., 1] < tokens.shape[1])).nonzero(as_tuple=True)
        first = blocks[rows, which, 0]
        counts = blocks[rows, which, 1] - first + 1
        added = cells.new_zeros(*tokens.shape, self.proj.out_features)
        for count in counts.unique().tolist():
            same = counts == count
            row, start = rows[same], first[same]
            place = start[:, None] + torch.arange(count, device=tokens.device)
            added = added.index_put((row[:, None], place), self.at(tokens[row, BOX], cells[row], count).to(added))
        return added
