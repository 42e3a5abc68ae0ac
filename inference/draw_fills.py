"""Tint what covers an area of a picture: the parts of a body, or a mask."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from ..data.annotation import PART_COLOURS

PART_OPACITY = 0.45
MASK_OPACITY = 0.42
OUTLINE_OPACITY = 0.9
STRIP_PIXELS = 2_000_000
"""Parts are blended over so many pixels at a time, so that a huge photo needs little more memory than itself."""


def paint_parts(picture: Image.Image, parsing: np.ndarray, unit: float) -> Image.Image:
    """Tint every part with its colour and trace the borders between parts.

    The picture may be larger or smaller than the part map; lines are multiples of `unit` pixels wide.
    """
    rows_used, columns_used = (np.flatnonzero(parsing.any(axis=axis)) for axis in (1, 0))
    if not len(rows_used):
        return picture
    height, width = parsing.shape
    across, down = picture.width / width, picture.height / height
    y1, x1, y2, x2 = rows_used[0], columns_used[0], rows_used[-1] + 1, columns_used[-1] + 1
    left, top = int(x1 * across), int(y1 * down)
    size = (max(1, round(x2 * across) - left), max(1, round(y2 * down) - top))
    crop = Image.fromarray(np.ascontiguousarray(parsing[y1:y2, x1:x2]))
    labels = np.asarray(crop.resize(size, Image.Resampling.NEAREST))
    border = _borders(labels, max(1, round(0.8 * unit)))
    palette = np.zeros((256, 3), np.float32)
    palette[: len(PART_COLOURS)] = PART_COLOURS
    result = picture.copy()
    rows = max(1, STRIP_PIXELS // size[0])
    for start in range(0, size[1], rows):
        strip = slice(start, start + rows)
        part, edge = labels[strip], border[strip]
        place = (left, top + start, left + size[0], top + start + len(part))
        pixels = np.asarray(picture.crop(place), dtype=np.float32)
        opacity = np.where(part > 0, np.float32(PART_OPACITY), np.float32(0))[..., None]
        tinted = pixels * (1 - opacity) + palette[part] * opacity
        tinted[edge] = 0.35 * tinted[edge] + 0.65 * 255
        result.paste(Image.fromarray(tinted.round().astype(np.uint8)), place[:2])
    return result


def _borders(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Bool, shaped as `labels`: pixels of a part that have another label within `thickness` pixels."""
    padded = np.pad(labels, thickness)
    height, width = labels.shape
    border = np.zeros(labels.shape, bool)
    for step in range(1, thickness + 1):
        for dy, dx in ((step, 0), (-step, 0), (0, step), (0, -step)):
            top, left = thickness + dy, thickness + dx
            border |= padded[top : top + height, left : left + width] != labels
    return border & (labels > 0)


def paint_mask(picture: Image.Image, mask: np.ndarray, colour: tuple[int, int, int], unit: float) -> Image.Image:
    """Tint a mask (bool, of any size) and trace its outline, both with smooth edges; `unit` as in `paint_parts`."""
    rows_used, columns_used = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows_used):
        return picture
    height, width = mask.shape
    across, down = picture.width / width, picture.height / height
    blur = max(1.2 * unit, 0.6 * max(across, down))  # wide enough to hide the steps of enlarged pixels
    rim = [int(np.ceil(3 * blur / scale)) + 1 for scale in (across, down)]  # around the mask, for the outline
    x1, x2 = max(0, columns_used[0] - rim[0]), min(width, columns_used[-1] + 1 + rim[0])
    y1, y2 = max(0, rows_used[0] - rim[1]), min(height, rows_used[-1] + 1 + rim[1])
    left, top = int(x1 * across), int(y1 * down)
    size = (max(1, round(x2 * across) - left), max(1, round(y2 * down) - top))
    crop = Image.fromarray(mask[y1:y2, x1:x2] * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    cover = crop.filter(ImageFilter.GaussianBlur(blur))
    inside = cover.point([round(255 * MASK_OPACITY * min(1.0, max(0.0, (v - 96) / 64))) for v in range(256)])
    line = cover.point([round(255 * OUTLINE_OPACITY * max(0.0, 1 - abs(v - 128) / 80)) for v in range(256)])
    result = picture.copy()
    result.paste(colour, (left, top), inside)
    light = tuple(round(0.4 * value + 0.6 * 255) for value in colour)
    result.paste(light, (left, top), line)
    return result
