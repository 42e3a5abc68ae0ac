"""Draw lines: frames of boxes, skeletons, points, and small tags of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.annotation import SKELETON

Colour = tuple[int, int, int]
Point = tuple[float, float]

LEFT_COLOUR: Colour = (255, 150, 50)
RIGHT_COLOUR: Colour = (80, 170, 255)
MIDDLE_COLOUR: Colour = (250, 240, 110)
EDGE_COLOUR: Colour = (16, 18, 24)
SMOOTH_PIXELS = 4_000_000
"""Strokes are drawn at twice the size and shrunk (smooth edges) on pictures of up to this many pixels."""


@lru_cache(maxsize=16)
def load_font(size: int) -> Any:
    """Pillow's own font (Aileron, bundled with it), so that drawings look the same on every machine."""
    return ImageFont.load_default(size)


def stroke_unit(size: tuple[int, int]) -> float:
    """Length that a stroke's width and a letter's height are multiples of: about 1/700 of the picture's side."""
    return float(np.clip(np.sqrt(size[0] * size[1]) / 700, 0.6, 8.0))


@dataclass
class Pen:
    """Draws strokes given in pixels of the shown picture on a layer that may be larger, for smooth edges."""

    layer: ImageDraw.ImageDraw
    zoom: int
    size: tuple[int, int]
    """Of the shown picture."""
    scale: float
    """Pixels of the shown picture per pixel of the picture that places are given in."""

    def line(self, start: Point, end: Point, colour: Colour, width: float) -> None:
        ends = [(x * self.zoom, y * self.zoom) for x, y in (start, end)]
        self.layer.line(ends, fill=colour, width=max(1, round(width * self.zoom)))
        for x, y in (start, end):
            self.dot((x, y), colour, width / 2)

    def dot(self, centre: Point, colour: Colour, radius: float) -> None:
        x, y, r = (value * self.zoom for value in (*centre, radius))
        self.layer.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def frame(self, box: tuple[float, ...], colour: Colour, width: float) -> None:
        corners = [value * self.zoom for value in box]
        self.layer.rectangle(corners, outline=colour, width=max(1, round(width * self.zoom)))


def paint_strokes(picture: Image.Image, scale: float, paint: Callable[[Pen], None]) -> Image.Image:
    """A copy of a picture with what `paint` draws on it; `scale`: see `Pen`."""
    zoom = 2 if picture.width * picture.height <= SMOOTH_PIXELS else 1
    result = picture.copy()
    layer = Image.new("RGBA", (picture.width * 2, picture.height * 2)) if zoom == 2 else result
    paint(Pen(ImageDraw.Draw(layer), zoom, picture.size, scale))
    if zoom == 2:
        strokes = layer.resize(picture.size, Image.Resampling.BOX)
        result.paste(strokes.convert("RGB"), mask=strokes.getchannel("A"))
    return result


def paint_frame(pen: Pen, box: tuple[float, ...], colour: Colour, width: float) -> None:
    """A frame with a dark rim, so that it can be seen on any ground; kept inside the picture."""
    scale, size = pen.scale, pen.size
    low = [np.clip(value * scale, 0, side - 1) for value, side in zip(box[:2], size, strict=True)]
    high = [np.clip(value * scale, start, side - 1) for value, start, side in zip(box[2:], low, size, strict=True)]
    pen.frame((*low, *high), EDGE_COLOUR, width * 1.6)
    inset = min(width * 0.3, (high[0] - low[0]) / 2, (high[1] - low[1]) / 2)
    pen.frame((low[0] + inset, low[1] + inset, high[0] - inset, high[1] - inset), colour, width)


def paint_skeleton(pen: Pen, keypoints: np.ndarray, colour: Colour | None = None) -> None:
    """Limbs between present points, then the points; each first as a wider dark stroke.

    In one colour, or coloured by the person's left and right.
    """
    scale, unit = pen.scale, stroke_unit(pen.size)
    present = keypoints[:, 2] > 0
    if not present.any():
        return
    spread = float(np.ptp(keypoints[present, :2], axis=0).max()) * scale
    width = float(np.clip(spread / 90, max(1.0, 1.2 * unit), max(1.0, 4 * unit)))
    points = [(float(x) * scale, float(y) * scale) for x, y in keypoints[:, :2]]
    limbs = [(a, b) for a, b in SKELETON if present[a] and present[b]]
    for a, b in limbs:
        pen.line(points[a], points[b], EDGE_COLOUR, width * 1.9)
    for a, b in limbs:
        pen.line(points[a], points[b], colour or _side_colour(a, b), width)
    for index in np.flatnonzero(present).tolist():
        pen.dot(points[index], EDGE_COLOUR, width * 1.7)
        pen.dot(points[index], colour or _side_colour(index, index), width * 1.2)


def paint_dots(pen: Pen, points: tuple[Point, ...], colour: Colour) -> None:
    """Places that were pointed at."""
    unit = stroke_unit(pen.size)
    for x, y in points:
        pen.dot((x * pen.scale, y * pen.scale), EDGE_COLOUR, 6 * unit)
        pen.dot((x * pen.scale, y * pen.scale), colour, 4 * unit)


def _side_colour(a: int, b: int) -> Colour:
    """Colour of a limb between two keypoints: COCO counts the left side odd, the right side even, the nose 0."""
    if a == 0 or b == 0 or a % 2 != b % 2:
        return MIDDLE_COLOUR
    return LEFT_COLOUR if a % 2 else RIGHT_COLOUR


def paint_tag(picture: Image.Image, text: str, corner: Point, colour: Colour, letters: int = 13) -> None:
    """A tag at a box's upper left corner (in pixels of the shown picture), above it where there is room.

    A picture that is smaller than the tag gets none.
    """
    unit, size = stroke_unit(picture.size), picture.size
    font = load_font(max(9, round(letters * unit)))
    margin = 3 * unit
    width, height = font.getlength(text) + 2 * margin, font.size + 2 * margin
    if width > size[0] or height > size[1]:
        return
    x = float(np.clip(corner[0], 0, size[0] - width))
    y = float(np.clip(corner[1] - height if corner[1] >= height else corner[1], 0, size[1] - height))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + width / 2, y + height / 2), text, EDGE_COLOUR, font, anchor="mm")
