"""Between the label map of a whole picture (a part map, or a three-way mask) and the crop that a label-map tokenizer
reads and writes.

A box is x1, y1, x2, y2 in continuous pixels of the picture (pixel i covers [i, i + 1]); the crop is the box
squeezed to the tokenizer's height and width, aspect ratio not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.annotation import PERSON
from ..errors import RefHCMError

_STRIP_VALUES = 16_000_000  # logits enlarged at a time: 64 MB
_MAX_PIXELS = 200_000_000


def crop_part_map(part_map: np.ndarray, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Cut one person, or a region, out of a label map.

    Args:
        part_map: Integer labels [H, W] of the picture.
        box: The person's box, or the region; what reaches beyond the picture becomes background.
        size: Height and width of the crop.

    Returns:
        uint8 labels [height, width], each taken from the pixel under the centre of the crop's cell.
    """
    if part_map.ndim != 2:
        raise RefHCMError(
            f"a label map must have two axes (height, width), but has the shape {part_map.shape}"
        )
    x1, y1, x2, y2 = _checked(box)
    rows = np.floor(y1 + (np.arange(size[0]) + 0.5) * ((y2 - y1) / size[0])).astype(np.int64)
    columns = np.floor(x1 + (np.arange(size[1]) + 0.5) * ((x2 - x1) / size[1])).astype(np.int64)
    height, width = part_map.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    crop = part_map[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    return np.where(inside, crop, 0).astype(np.uint8)


def paste_logits(logits: Tensor, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Put class logits back into a picture with smooth outlines: enlarge bilinearly, take the best class.

    Args:
        logits: Class scores [classes, h, w] of the crop.
        box: Box in pixels of the picture; it may reach beyond it.
        size: Height and width of the picture.

    Returns:
        uint8 labels [H, W], background wherever the pixel's centre lies outside the box.
    """
    canvas = np.zeros(_checked_size(size), dtype=np.uint8)
    for place, scores in _enlarged(logits, box, canvas.shape):
        canvas[place] = scores.argmax(dim=0).to(torch.uint8).numpy()
    return canvas


def paste_probability(logits: Tensor, box: Sequence[float], size: tuple[int, int], label: int = PERSON) -> np.ndarray:
    """How likely each pixel of a picture is of one class.

    Args:
        logits: Class scores [classes, h, w] of the crop.
        box: Box in pixels of the picture; it may reach beyond it.
        size: Height and width of the picture.
        label: The class; of three-way masks the person.

    Returns:
        float32 probabilities [H, W], 0 wherever the pixel's centre lies outside the box.
    """
    canvas = np.zeros(_checked_size(size), dtype=np.float32)
    for place, chances in _enlarged(_chances(logits), box, canvas.shape):
        canvas[place] = chances[label].numpy()
    return canvas


def paste_mask(logits: Tensor, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: where the person of a three-way mask is likelier than not; arguments as for `paste_probability`."""
    return paste_probability(logits, box, size) > 0.5


def paste_three_way(logits: Tensor, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The likeliest class of each pixel, uint8 [H, W], background outside the box; arguments as for
    `paste_probability`, with which it agrees: where the person is likelier than not, it says so."""
    return paste_logits(_chances(logits), box, size)


def region_map(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The three-way mask of the region alone, uint8 [height, width], at any `size` (height, width), such as 56 x 56.

    logits: class scores [classes, h, w] of the crop. Each cell has the class that `paste_three_way` gives the place of
    its centre in the picture.
    """
    return paste_three_way(logits, (0, 0, size[1], size[0]), size)


def paste_labels(labels: np.ndarray, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Put a label crop back into a picture with stepped outlines, as the published evaluation does it.

    The box is cut to integers, clamped to the picture and kept at least one pixel wide and high; each of its pixels
    takes the label `labels[floor(i * h / box height), floor(j * w / box width)]`.

    Args:
        labels: Integer labels [h, w] of the crop.
        box: Box in pixels of the picture; it may reach beyond it.
        size: Height and width of the picture.

    Returns:
        uint8 labels [H, W], background outside the box.
    """
    canvas = np.zeros(_checked_size(size), dtype=np.uint8)
    height, width = canvas.shape
    corners = _finite(box)  # published answers may have crossed corners
    x2, y2 = (max(1, min(int(value), side)) for value, side in zip(corners[2:], (width, height), strict=True))
    x1, y1 = (max(0, min(int(value), end - 1)) for value, end in zip(corners[:2], (x2, y2), strict=True))
    rows = np.arange(y2 - y1) * labels.shape[0] // (y2 - y1)
    columns = np.arange(x2 - x1) * labels.shape[1] // (x2 - x1)
    canvas[y1:y2, x1:x2] = labels[np.ix_(rows, columns)]
    return canvas


def _chances(logits: Tensor) -> Tensor:
    """Probabilities: interpolated, they came a little closer to the truth of masks than logits (IoU of round trips)."""
    return logits.float().softmax(dim=0)


def _enlarged(
    logits: Tensor, box: Sequence[float], size: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Strips of a picture of `size` (height, width) that the box covers, from the top: their rows and columns, and the
    scores [classes, rows, columns] interpolated at the centres of the pixels."""
    x1, y1, x2, y2 = _checked(box)
    rows, columns = _centres_inside(y1, y2, size[0]), _centres_inside(x1, x2, size[1])
    if not len(rows) or not len(columns):
        return
    scores = logits.detach().float().cpu()[None]
    # grid_sample counts from -1 (the crop's left or upper edge) to 1 (its right or lower edge)
    across = torch.from_numpy((columns + 0.5 - x1) / (x2 - x1) * 2 - 1).float()
    down = torch.from_numpy((rows + 0.5 - y1) / (y2 - y1) * 2 - 1).float()
    strip = max(1, _STRIP_VALUES // (len(columns) * scores.shape[1]))
    for start in range(0, len(rows), strip):
        part = down[start : start + strip]
        grid = torch.stack((across.expand(len(part), -1), part[:, None].expand(-1, len(across))), dim=-1)
        enlarged = F.grid_sample(scores, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
        top = int(rows[start])
        yield np.s_[top : top + len(part), columns[0] : columns[-1] + 1], enlarged[0]


def _centres_inside(low: float, high: float, side: int) -> np.ndarray:
    """Indices of the pixels of 0..side-1 whose centre lies within [low, high)."""
    return np.arange(max(0, int(np.ceil(low - 0.5))), min(side, int(np.ceil(high - 0.5))))


def _finite(box: Sequence[float]) -> tuple[float, float, float, float]:
    values = [float(value) for value in box]
    if len(values) != 4 or not np.isfinite(values).all() or np.abs(values).max() > 1e6:
        raise RefHCMError(f"a box must be four finite numbers x1, y1, x2, y2, but is {values}")
    return values[0], values[1], values[2], values[3]


def _checked(box: Sequence[float]) -> tuple[float, float, float, float]:
    values = _finite(box)
    if values[2] <= values[0] or values[3] <= values[1]:
        raise RefHCMError(f"box {values} has no area; x2 must exceed x1 and y2 must exceed y1")
    return values


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1 or height * width > _MAX_PIXELS:
        raise RefHCMError(
            f"a picture of {width}x{height} pixels cannot hold a label map (1 to {_MAX_PIXELS} pixels)"
        )
    return height, width
