"""Masks as COCO's compressed run lengths (RLE), and out of what public datasets write in their place.

Runs go down the columns, column after column, and begin with a run of background (which may be 0 long). As text, a
number is cut into groups of five bits, lowest first, each a character from `0` to `o`; from the fourth run on the
difference to the run before last is written. Reading needs no compiled code, so a damaged text cannot do harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import RefHCMError
from .annotation import Box

_OFFSET, _MORE, _SIGN = 48, 0x20, 0x10
_LONGEST = 7
"""Groups of five bits per number; a picture's pixels need six at most, one more holds the sign."""


def encode_mask(mask: np.ndarray) -> str:
    """The run lengths of a mask (H, W), bool or numbers (every number but 0 is inside), as text."""
    from pycocotools import mask as coco

    if mask.ndim != 2:
        raise RefHCMError(f"A mask has the shape (height, width), not {mask.shape}.")
    # Laid out by columns, because pycocotools reads the memory as it lies.
    return coco.encode(np.asfortranarray(mask != 0, np.uint8))["counts"].decode("ascii")


def decode_mask(counts: str, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W) of run lengths for a picture of `size` (width, height); RefHCMError when they do not fit it."""
    width, height = size
    runs = run_lengths(counts, size)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def mask_area(counts: str, size: tuple[int, int]) -> int:
    """Number of pixels inside, without decoding; RefHCMError as `decode_mask`."""
    return int(run_lengths(counts, size)[1::2].sum())


def run_lengths(counts: str, size: tuple[int, int]) -> np.ndarray:
    """int64 run lengths, background first, that add up to the pixels of `size`; RefHCMError for any other text."""
    try:
        groups = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _OFFSET
    except UnicodeEncodeError as error:
        raise RefHCMError("the mask's run lengths hold characters that are none of theirs.") from error
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & _MORE:
        raise RefHCMError("the mask's run lengths are cut short or hold characters that are none of theirs.")
    ends = np.flatnonzero((groups & _MORE) == 0)
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins + 1
    if lengths.max() > _LONGEST:
        raise RefHCMError("the mask's run lengths hold a number that no picture has.")
    place = np.arange(len(groups)) - np.repeat(begins, lengths)
    values = np.add.reduceat((groups & 0x1F) << (5 * place), begins)
    values -= np.where(groups[ends] & _SIGN, np.int64(1) << (5 * lengths), 0)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    width, height = size
    if values.min() < 0 or values.sum() != width * height:
        raise RefHCMError(f"the mask's run lengths do not add up to the picture's {width}x{height} pixels.")
    return values


def segmentation_mask(segmentation: Any, size: tuple[int, int]) -> str | None:
    """Run lengths of what a COCO annotation holds under `segmentation`, in a picture of `size` (width, height).

    A list of polygons is drawn as COCO draws them and united, never summed; a dict holds run lengths, as numbers or
    compressed. None where nothing is inside. RefHCMError for anything else, and for run lengths of another size.
    """
    counts: str | None
    if isinstance(segmentation, dict):
        counts = _counts_text(segmentation, size)
    elif isinstance(segmentation, list):
        counts = _drawn(segmentation, size)
    else:
        raise RefHCMError("the segmentation is neither polygons nor run lengths.")
    return counts if counts and mask_area(counts, size) else None


def unite_masks(masks: Sequence[str], size: tuple[int, int]) -> str:
    """Run lengths of the pixels that are inside any of the masks."""
    united = np.zeros(size[::-1], bool)
    for counts in masks:
        united |= decode_mask(counts, size)
    return encode_mask(united)


def extent(mask: np.ndarray) -> Box | None:
    """The box around everything that is not 0 in an array (H, W); None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def mask_extent(counts: str, size: tuple[int, int]) -> Box | None:
    """As `extent`, of run lengths for a picture of `size` (width, height), without decoding them."""
    from pycocotools import mask as coco

    run_lengths(counts, size)  # compiled code reads them next, and believes everything
    x, y, width, height = coco.toBbox({"counts": counts.encode("ascii"), "size": size[::-1]}).tolist()
    return (x, y, x + width, y + height) if width and height else None


def apart(one: Box, other: Box) -> bool:
    """Whether two boxes do not even touch."""
    return one[0] > other[2] or one[1] > other[3] or one[2] < other[0] or one[3] < other[1]


def _counts_text(rle: dict[str, Any], size: tuple[int, int]) -> str:
    counts, stated = rle.get("counts"), rle.get("size")
    if stated != [size[1], size[0]]:
        raise RefHCMError(f"the mask is of {stated} (height, width), its picture of {[size[1], size[0]]}.")
    if isinstance(counts, str):
        run_lengths(counts, size)
        return counts
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise RefHCMError("the mask's run lengths are neither a text nor whole numbers.")
    if sum(counts) != size[0] * size[1]:
        raise RefHCMError(f"the mask's run lengths do not add up to the picture's {size[0]}x{size[1]} pixels.")
    from pycocotools import mask as coco

    return coco.frPyObjects({"counts": counts, "size": stated}, size[1], size[0])["counts"].decode("ascii")


def _drawn(polygons: list[Any], size: tuple[int, int]) -> str | None:
    from pycocotools import mask as coco

    width, height = size
    kept = []
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
            raise RefHCMError("a polygon of the segmentation is not a list of numbers.")
        if len(polygon) % 2:
            raise RefHCMError("a polygon of the segmentation has an x without a y.")
        # Drawing takes time and memory with the length of the outline, and nothing real lies so far away.
        if not all(abs(value) <= 4 * (width + height) for value in polygon):
            raise RefHCMError("a polygon of the segmentation reaches far outside its picture.")
        if len(polygon) >= 6:  # two points enclose nothing, and four numbers would be taken for a box
            kept.append([float(value) for value in polygon])
    if not kept:
        return None
    return coco.merge(coco.frPyObjects(kept, height, width), intersect=False)["counts"].decode("ascii")
