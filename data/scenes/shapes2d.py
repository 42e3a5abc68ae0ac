"""Shapes of a figure, sorted by depth and drawn twice: into a picture, and into a map of shape numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], 1)
"""[16, 2]: points of the unit circle."""


def dimmed(colour: RGB, share: float) -> RGB:
    """The colour with this share of its brightness."""
    red, green, blue = (int(v * share) for v in colour)
    return red, green, blue


def hull(points: np.ndarray) -> np.ndarray:
    """Convex hull [k, 2] of points [n, 2] (Andrew's monotone chain)."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))].tolist()

    def chain(sequence: list[list[float]]) -> list[list[float]]:
        out: list[list[float]] = []
        for p in sequence:
            while len(out) > 1 and (
                (out[-1][0] - out[-2][0]) * (p[1] - out[-2][1])
                <= (out[-1][1] - out[-2][1]) * (p[0] - out[-2][0])
            ):
                out.pop()
            out.append(p)
        return out[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))


@dataclass
class Shape:
    """One outline of one part class about an axis."""

    part: int
    colour: RGB
    outline: np.ndarray  # [k, 2] x to the right, y up
    start: np.ndarray  # [3] axis of the shape in the camera frame
    stop: np.ndarray
    radius: float
    over: float  # added to the depth when shapes are sorted
    relief: bool

    @property
    def depth(self) -> float:
        """Distance towards the camera that decides what is drawn over what."""
        return float(self.start[2] + self.stop[2]) / 2 + self.over


@dataclass
class Drawing:
    """Shapes of one figure in the camera frame, in standing heights."""

    shapes: list[Shape] = field(default_factory=list)

    def limb(
        self, part: int, colour: RGB, a: np.ndarray, b: np.ndarray, ra: float, rb: float, over: float = 0.0
    ) -> None:
        """A rounded, tapered limb from a to b [3]."""
        outline = hull(np.concatenate([a[:2] + CIRCLE * ra, b[:2] + CIRCLE * rb]))
        self.shapes.append(Shape(part, colour, outline, a, b, max(ra, rb), over, True))

    def blob(
        self,
        part: int,
        colour: RGB,
        centre: np.ndarray,
        rx: float,
        ry: float,
        over: float = 0.0,
        relief: bool = True,
    ) -> None:
        """An ellipse about centre [3]."""
        self.shapes.append(
            Shape(part, colour, centre[:2] + CIRCLE * (rx, ry), centre, centre, rx, over, relief)
        )

    def cloth(
        self,
        part: int,
        colour: RGB,
        outline: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        radius: float,
        over: float = 0.0,
    ) -> None:
        """Any outline [k, 2] about the axis a to b [3]."""
        self.shapes.append(Shape(part, colour, outline, a, b, radius, over, True))

    def paint(
        self, scale: float, origin: np.ndarray, size: tuple[int, int]
    ) -> tuple[Image.Image, np.ndarray]:
        """Picture (RGB) and map of shape numbers + 1 (uint8), far shapes first; `shapes` is left in that
        order."""
        self.shapes.sort(key=lambda s: s.depth)
        picture, numbers = Image.new("RGB", size), Image.new("L", size)
        pen, counter = ImageDraw.Draw(picture), ImageDraw.Draw(numbers)
        for number, shape in enumerate(self.shapes, 1):
            outline = (shape.outline - origin) * (scale, -scale)
            corners = [tuple(p) for p in outline.tolist()]
            counter.polygon(corners, fill=number)
            if not shape.relief:
                pen.polygon(corners, fill=shape.colour)
                continue
            pen.polygon(corners, fill=dimmed(shape.colour, 0.9))
            middle = outline.mean(0)  # a lighter core, moved to the light, makes the limb look round
            core = middle + (outline - middle) * 0.8 + shape.radius * scale * np.array([-0.12, -0.08])
            pen.polygon([tuple(p) for p in core.tolist()], fill=shape.colour)
        return picture, np.asarray(numbers)
