"""The fields of a dataset row as text, and what they say; RefHCMError with the cause for what they may not
say."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path

import numpy as np

from ..errors import RefHCMError
from .annotation import CODE_GRID, KEYPOINT_NAMES, PART_NAMES, Box, Points
from .images import MAX_PIXELS, open_indices, picture_size

IGNORED_PART = 255
"""Marks pixels of a part map that are not scored."""
LONGEST_SCRIBBLE = 1000
"""Points of a scribble in a file, beyond which it counts as damaged; RefHuman's have twelve. Models read fewer, see
`prompts.SCRIBBLE_POINTS`."""

_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def is_path(value: str) -> bool:
    """Neither base64 alphabet has a dot, and every picture file has one before its ending."""
    return "." in value[-8:]


def decode_base64(value: str) -> bytes:
    """The bytes of base64 in either alphabet, with or without padding; RefHCMError when it is none."""
    try:
        return base64.b64decode(value.encode("ascii").translate(_URL_SAFE) + b"==")
    except (binascii.Error, UnicodeEncodeError) as error:
        raise RefHCMError(f"the picture is not base64 ({error}).") from error


def read_numbers(value: str, what: str, counts: tuple[int, ...]) -> np.ndarray:
    """float64 vector of numbers between commas; there must be one of `counts`, all finite."""
    try:
        numbers = np.array(value.split(","), np.float64)
    except ValueError as error:
        raise RefHCMError(f"{what} is not numbers between commas: {value[:60]!r}.") from error
    if len(numbers) not in counts or not np.isfinite(numbers).all():
        wanted = " or ".join(map(str, counts)) if len(counts) < 4 else "an even count of"
        raise RefHCMError(f"{what} needs {wanted} finite numbers, not {value[:60]!r}.")
    return numbers


def read_box(value: str, size: tuple[int, int]) -> Box:
    """A box in pixels; it may reach over the edges of a picture of `size` (published ones do), but not lie
    outside."""
    x1, y1, x2, y2 = read_numbers(value, "the box", (4,)).tolist()
    width, height = size
    if x2 < x1 or y2 < y1 or x2 < 0 or y2 < 0 or x1 > width or y1 > height:
        raise RefHCMError(
            f"the box {value} is turned around or outside its picture of {width}x{height} pixels."
        )
    return x1, y1, x2, y2


def read_keypoints(value: str) -> np.ndarray:
    """float32 (17, 3) from x,y pairs or x,y,v triples.

    The published rows have pairs: 0,0 stands for an unlabelled point, every other point counts as seen (v =
    2).
    """
    count = len(KEYPOINT_NAMES)
    points = read_numbers(value, "the keypoints", (2 * count, 3 * count)).reshape(count, -1)
    if points.shape[1] == 2:
        points = np.concatenate([points, 2 * np.any(points != 0, axis=1, keepdims=True)], axis=1)
    return points.astype(np.float32)


def read_points(value: str, size: tuple[int, int]) -> tuple[Points, ...]:
    """The points that may mark the person in a picture of `size` (width, height): alternatives between semicolons, each
    x,y once or several times. A point outside the picture is an error."""
    found = []
    for entry in value.split(";"):
        places = read_numbers(entry, "the points", tuple(range(2, 2 * LONGEST_SCRIBBLE + 1, 2))).reshape(-1, 2)
        if (places < 0).any() or (places > np.array(size)).any():
            raise RefHCMError(f"a point lies outside its picture of {size[0]}x{size[1]} pixels: {entry[:60]}.")
        found.append(tuple((float(x), float(y)) for x, y in places))
    return tuple(found)


def read_codes(value: str) -> tuple[int, ...]:
    """The codes of a part map, row by row; how many codes there are is the vocabulary's affair."""
    codes = read_numbers(value, "the part codes", (CODE_GRID[0] * CODE_GRID[1],))
    if np.any(codes != np.rint(codes)) or codes.min() < 0:
        raise RefHCMError("the part codes are not whole numbers from 0.")
    return tuple(int(code) for code in codes)


def load_part_map(source: Path | bytes, size: tuple[int, int], box: Box | None = None) -> np.ndarray:
    """uint8 (height, width) of a `.npy` of integers, or of a grey or palette `.png`: a file, or the bytes of one.

    A map of the size of the person's `box`, to a pixel, is taken for what the box holds and put there; of any other
    shape, it is resampled to `size` (width, height), nearest neighbour. -1 and 255 mean: not scored.
    """
    name = "The part map" if isinstance(source, bytes) else str(source)
    parts = _load_array(source, name) if _is_array(source) else open_indices(source)
    if parts.ndim != 2 or parts.dtype.kind not in "iub":
        raise RefHCMError(f"{name} is no part map: it has shape {parts.shape} and type {parts.dtype}.")
    width, height = size
    if parts.shape != (height, width) and box is not None and _is_crop(parts.shape, box):
        parts = _pasted(parts, size, box)
    elif parts.shape != (height, width):
        rows = (np.arange(height) * 2 + 1) * parts.shape[0] // (2 * height)
        parts = parts[rows][:, (np.arange(width) * 2 + 1) * parts.shape[1] // (2 * width)]
    parts = np.where(parts == -1, IGNORED_PART, parts)
    if np.any((parts < 0) | ((parts >= len(PART_NAMES)) & (parts != IGNORED_PART))):
        raise RefHCMError(f"{name} has classes outside 0 to {len(PART_NAMES) - 1}.")
    return parts.astype(np.uint8)


def _is_crop(shape: tuple[int, ...], box: Box) -> bool:
    return abs(shape[1] - (box[2] - box[0])) <= 1 and abs(shape[0] - (box[3] - box[1])) <= 1


def _pasted(crop: np.ndarray, size: tuple[int, int], box: Box) -> np.ndarray:
    """(height, width) with a crop at its box, and background around it."""
    whole = np.zeros(size[::-1], crop.dtype)
    left, top = round(box[0]), round(box[1])
    inside = crop[max(0, -top) : max(0, size[1] - top), max(0, -left) : max(0, size[0] - left)]
    top, left = max(0, top), max(0, left)
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return whole


def part_map_size(source: Path | bytes) -> tuple[int, int]:
    """(width, height) of the file of a part map, as it is stored; RefHCMError as `load_part_map`."""
    if not _is_array(source):
        return picture_size(source)
    name = "The part map" if isinstance(source, bytes) else str(source)
    shape = _load_array(source, name).shape
    if len(shape) != 2:
        raise RefHCMError(f"{name} has the shape {shape}, not (height, width).")
    return shape[1], shape[0]


def _is_array(source: Path | bytes) -> bool:
    return source.startswith(b"\x93NUMPY") if isinstance(source, bytes) else source.suffix == ".npy"


def _load_array(source: Path | bytes, name: str) -> np.ndarray:
    try:
        if isinstance(source, bytes):
            array = np.load(io.BytesIO(source), allow_pickle=False)
        else:
            array = np.load(source, mmap_mode="r", allow_pickle=False)  # mapped: nothing is read before the check
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise RefHCMError(f"{name} is not an array of numbers ({error}).") from error
    if not 0 < array.size <= MAX_PIXELS:
        raise RefHCMError(f"{name} has {array.size:,} entries, not 1 to {MAX_PIXELS:,}.")
    return array
