"""Where a token stands, as numbers: buckets of relative positions, and the order in which cells of a grid are
read.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import RefHCMError


@lru_cache(maxsize=32)
def text_distance_buckets(bucket_size: int, max_positions: int) -> Tensor:
    """Bucket of every distance `query - key` in -(max_positions - 1) .. max_positions - 1, in that order.

    Distances up to half of `bucket_size` have a bucket each, longer ones share logarithmically growing
    buckets (OFA's `make_token_bucket_position`). Returns int64 `[2 * max_positions - 1]` with values in 0 ..
    2 * bucket_size - 2.
    """
    middle = bucket_size // 2
    distance = torch.arange(
        -(max_positions - 1), max_positions, device="cpu"
    )  # kept, so never on a meta device
    size = distance.abs()
    reach = math.log((max_positions - 1) / middle)
    # float32 logarithms, as in the published buffers: a value that lands on an integer must round the same
    # way.
    far = torch.ceil(torch.log(size.clamp(min=1) / middle) / reach * (middle - 1)) + middle
    bucket = torch.where(size <= middle, distance, far.long() * distance.sign())
    return bucket + bucket_size - 1


def text_buckets(bucket_size: int, max_positions: int) -> Tensor:
    """The published buffer `token_rp_bucket`: bucket of (query, key), int64 `[max_positions,
    max_positions]`.
    """
    place = torch.arange(max_positions)
    distance = place[:, None] - place[None, :]
    return text_distance_buckets(bucket_size, max_positions)[distance + max_positions - 1]


def image_ids(height: int, width: int, bucket_size: int) -> Tensor:
    """Position ids of a grid of cells read row by row: `row * bucket_size + column + 1`; int64 `[height *
    width]`.
    """
    if max(height, width) > bucket_size:
        raise RefHCMError(
            f"The picture gives {width} x {height} cells, but this model knows positions for at most "
            f"{bucket_size} x {bucket_size}; make it at most {16 * bucket_size} pixels wide and high."
        )
    rows, columns = torch.arange(height), torch.arange(width)
    return (rows[:, None] * bucket_size + columns[None, :] + 1).flatten()


def image_buckets(height: int, width: int, bucket_size: int) -> Tensor:
    """Bucket of (query cell, key cell) of a grid read row by row; int64 `[height * width, height * width]`.

    The bucket numbers the difference (dy, dx), query minus key, row by row (OFA's
    `make_image_bucket_position`).
    """
    span = 2 * bucket_size - 1
    dy = torch.arange(height)[:, None] - torch.arange(height)[None, :] + bucket_size - 1
    dx = torch.arange(width)[:, None] - torch.arange(width)[None, :] + bucket_size - 1
    bucket = dy[:, None, :, None] * span + dx[None, :, None, :]
    return bucket.reshape(height * width, height * width)


def image_bucket_count(bucket_size: int) -> int:
    """Rows of an image table: every (dy, dx), and three for the special id 0."""
    return (2 * bucket_size - 1) ** 2 + 3


def published_image_buckets(bucket_size: int) -> Tensor:
    """The published buffer `image_rp_bucket`, int64 `[bucket_size**2 + 1] * 2`: id 0 is special, the rest are
    cells.
    """
    cells = image_buckets(bucket_size, bucket_size, bucket_size)
    special = (2 * bucket_size - 1) ** 2
    table = torch.full((len(cells) + 1, len(cells) + 1), special, dtype=torch.long)
    table[1:, 1:] = cells
    table[:, 0] = special + 1
    table[0, 0] = special + 2
    return table


def code_window_ids(code_image_size: int, bucket_size: int, length: int) -> Tensor:
    """The published buffer `image_position_idx`, int64 `[length]`: id 0, a window of code cells, then filler
    1024.

    OFA's image generation reads it (codes cover 8 pixels); referring tasks treat codes as text and never do.
    """
    side = code_image_size // 8
    window = torch.arange(side)[:, None] * bucket_size + torch.arange(side)[None, :] + 1
    filler = torch.full((length,), 1024, dtype=torch.long)
    return torch.cat([torch.zeros(1, dtype=torch.long), window.flatten(), filler])[:length]


def span_visibility(blocks: Tensor, length: int) -> Tensor:
    """Which positions see each other because one span holds both.

    blocks: int64 `[B, K, 2]`, first and last position of each span, both inclusive; (-1, -1) is no span.
    Returns bool `[B, length, length]`, made anew at every call: a mask that is kept and edited leaks from one
    call into the next (the published decoder did that with its causal mask).
    """
    place = torch.arange(length, device=blocks.device)
    inside = (place >= blocks[..., :1]) & (place <= blocks[..., 1:])  # [B, K, L]
    return (inside[:, :, :, None] & inside[:, :, None, :]).any(1)


def causal_mask(length: int, blocks: Tensor | None, device: torch.device) -> Tensor:
    """True where a query (row) sees a key (column): bool `[B or 1, 1, length, length]`."""
    visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None]
    if blocks is not None and blocks.numel():
        visible = visible | span_visibility(blocks, length)
    return visible[:, None]
