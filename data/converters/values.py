"""Boxes, keypoints, masks and part maps in the forms in which people write them, into the one form of our rows.

What cannot be read raises `BadValue`: a Skip whose reason is the same for all such values, with what was found beside
it. Frames and units are those of docs/design.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefHCMError
from ..annotation import KEYPOINT_NAMES, Box
from ..commands import is_file
from ..fields import is_path, load_part_map, part_map_size
from ..images import open_image, open_indices, picture_size
from ..masks import encode_mask, run_lengths, segmentation_mask
from .base import clipped_box
from .skip import Skip

BOX_FORMS = ("xyxy", "xywh")
_COUNT = len(KEYPOINT_NAMES)
_SHOWN = 60
"""Characters of a wrong value that are shown."""


class BadValue(Skip):
    """A value that cannot be used. The message is the reason alone; `found` is the value, for the one line."""

    def __init__(self, reason: str, found: object = "") -> None:
        super().__init__(reason)
        shown = " ".join(str(found).split())
        self.found = shown[:_SHOWN] + ("..." if len(shown) > _SHOWN else "")


# -- boxes ---------------------------------------------------------------------------------------------------
def read_boxes(value: Any, size: tuple[int, int], form: str = "xyxy") -> tuple[Box, ...]:
    """The box or boxes of a cell as x1, y1, x2, y2, cut at the edges of a picture of `size` (width, height).

    `value` is four numbers (a list, or text between commas or spaces), a list of such lists where several people are
    meant, or an empty list where nobody is. `form` is xyxy, or xywh for x, y, width, height.
    """
    if isinstance(value, list) and (not value or isinstance(value[0], list)):
        return tuple(read_box_form(entry, size, form) for entry in value)
    return (read_box_form(value, size, form),)


def read_box_form(value: Any, size: tuple[int, int], form: str = "xyxy") -> Box:
    """One box of `read_boxes`."""
    numbers = _numbers(value)
    if numbers is None or len(numbers) != 4:
        raise BadValue("the box is not 4 numbers", value)
    x1, y1, x2, y2 = numbers
    if form == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    if max(map(abs, numbers)) <= 1 < min(size):
        raise BadValue("the box seems to count in fractions of the picture: give pixels", value)
    if x2 <= x1 or y2 <= y1:
        hint = "is --box-form xywh meant?" if form == "xyxy" else "width and height must exceed 0"
        raise BadValue(f"the box ends before it begins ({hint})", value)
    try:
        return clipped_box((x1, y1, x2, y2), size)
    except Skip as skip:
        raise BadValue(str(skip), f"{value} in a picture of {size[0]}x{size[1]}") from skip


# -- keypoints -----------------------------------------------------------------------------------------------
def read_points(value: Any, score_above: float | None = None, *, pad: bool = False) -> np.ndarray:
    """float (17, 3): x, y in pixels and v (0 unlabelled, 1 hidden, 2 seen), in COCO's order.

    `value` is 51 numbers x, y, v, or 34 numbers x, y (0, 0: unlabelled; any other: seen), flat or as 17 lists, of
    which one may be empty or null. With `score_above` the third number is a score, and points above it count as seen.
    `pad` takes any number of points: missing ones are unlabelled, those after the 17th are left out.
    """
    rows = _point_rows(value)
    width = max(map(len, rows), default=0)
    if pad:  # a point that is cut off at the end is no point
        rows = [row if len(row) == width else [] for row in rows]
    if width not in (2, 3) or any(len(row) not in (0, width) for row in rows) or not (pad or len(rows) == _COUNT):
        raise BadValue(f"the keypoints are not {_COUNT} times x, y or x, y, v", value)
    points = np.zeros((_COUNT, 3))
    for point, row in zip(points, rows, strict=False):
        if len(row) == 2:
            point[:2], point[2] = row, 2 * any(row)
        elif row:
            point[:] = row
            if score_above is not None:
                point[2] = 2 * (row[2] > score_above)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        wrong = points[~np.isin(points[:, 2], (0, 1, 2)), 2][0]
        raise BadValue("a keypoint's third number is not 0 (unlabelled), 1 (hidden) or 2 (seen)", f"{wrong:g}")
    points[points[:, 2] == 0] = 0
    return points


def check_points(points: np.ndarray, size: tuple[int, int], margin: float = 1.0) -> None:
    """BadValue when a labelled point lies more than `margin` pixels outside a picture of `size` (width, height)."""
    for name, (x, y, v) in zip(KEYPOINT_NAMES, points, strict=True):
        if v > 0 and not (-margin <= x <= size[0] + margin and -margin <= y <= size[1] + margin):
            raise BadValue("a keypoint lies outside the picture", f"{name} at {x:g}, {y:g} of {size[0]}x{size[1]}")


def _point_rows(value: Any) -> list[list[float]]:
    """A list of numbers per point; an unlabelled point may be an empty list."""
    if isinstance(value, list) and any(isinstance(entry, list) for entry in value):
        rows = [[] if entry is None or entry == [] else _numbers(entry) for entry in value]
        if any(row is None for row in rows):
            raise BadValue(f"the keypoints are not {_COUNT} times x, y or x, y, v", value)
        return [row for row in rows if row is not None]
    numbers = _numbers(value)
    if numbers is None:
        raise BadValue("the keypoints are not numbers", value)
    # 34 numbers are pairs; so is nothing else, since 51 and the odd lengths of other skeletons come as triples.
    width = 2 if len(numbers) == 2 * _COUNT else 3
    return [numbers[at : at + width] for at in range(0, len(numbers), width)]


# -- masks and part maps -------------------------------------------------------------------------------------
def read_mask(value: Any, size: tuple[int, int], folder: Path) -> str:
    """Run lengths of a mask for a picture of `size` (width, height).

    `value` is the path below `folder` of a picture (black outside, anything else inside), COCO's run lengths (an
    object with size and counts, or the compressed counts alone), or a list of polygons.
    """
    try:
        if isinstance(value, str) and not is_path(value):
            run_lengths(value, size)
            counts: str | None = value
        elif isinstance(value, str):
            counts = encode_mask(_mask_picture(inside(folder, value), size))
        else:
            counts = segmentation_mask(value, size)
        covered = int(run_lengths(counts, size)[1::2].sum()) if counts else 0
    except BadValue:
        raise
    except RefHCMError as error:
        raise BadValue(f"the mask cannot be used: {str(error).rstrip('.')}", value) from error
    if not counts or not covered:
        raise BadValue("the mask is empty", value)
    if covered == size[0] * size[1]:
        raise BadValue("the mask covers the whole picture: outside it must be black, not transparent", value)
    return counts


def read_parts(value: Any, size: tuple[int, int], folder: Path) -> np.ndarray:
    """uint8 (H, W): the part map at a path below `folder`, for a picture of `size` (width, height); 255: not scored."""
    if not isinstance(value, str):
        raise BadValue("parts is not the path of a part map", value)
    path = inside(folder, value)
    try:
        found = part_map_size(path)
        if found != size:
            told = f"{value} has {found[0]}x{found[1]} pixels, its picture {size[0]}x{size[1]}"
            raise BadValue("the part map has another size than its picture", told)
        return load_part_map(path, size)
    except BadValue:
        raise
    except RefHCMError as error:
        raise BadValue(f"the part map cannot be used: {str(error).rstrip('.')}", value) from error


def inside(folder: Path, name: str) -> Path:
    """The file called `name` below a folder; BadValue when the name leaves the folder or there is no such file."""
    path = Path(name.replace("\\", "/"))  # as Windows writes paths
    if path.is_absolute() or ".." in path.parts:
        raise BadValue("a path leaves the folder of the files: give it relative to that folder", name)
    if not is_file(folder / path):
        raise BadValue("a file is missing", folder / path)
    return folder / path


def _mask_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W) of a mask saved as a picture."""
    found = picture_size(path)
    if found != size:
        told = f"{path.name} has {found[0]}x{found[1]} pixels, its picture {size[0]}x{size[1]}"
        raise BadValue("the mask has another size than its picture", told)
    try:
        return open_indices(path) > 0
    except RefHCMError:  # one bit per pixel, colours, or a JPEG, whose black is not quite black
        return np.asarray(open_image(path, orient=False)).max(axis=2) > 127


# -- numbers -------------------------------------------------------------------------------------------------
def _numbers(value: Any) -> list[float] | None:
    """Finite numbers of a list, or of text between commas, semicolons or spaces; None for anything else."""
    entries: Sequence[Any] = value if isinstance(value, list) else ()
    if isinstance(value, str):
        try:
            entries = [float(entry) for entry in re.split(r"\s*[,;]\s*|\s+", value.strip().strip("[]()").strip())]
        except ValueError:
            return None
    if not entries or any(isinstance(entry, bool) or not isinstance(entry, int | float) for entry in entries):
        return None
    try:
        numbers = [float(entry) for entry in entries]
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
