"""Where people stand in a picture: one camera height and one horizon, so that size and foot point agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..transforms import FLIPPED_KEYPOINTS, FLIPPED_PARTS
from .cutout import ANY_ELEVATION, Cutout
from .recipe import Recipe

SIZES = (
    (480, 360),
    (360, 480),
    (512, 512),
    (512, 342),
    (342, 512),
    (448, 336),
    (400, 400),
    (512, 384),
    (384, 512),
)
CLOSE_UP_SHARE = 0.28
HEADS_IN_FRAME = 0.9
"""Share of the scenes whose camera keeps all heads (not raised hands) in the picture."""
MANY, CROWDED = 6, 0.75
"""More people than these are shown smaller by that factor, so that they find room."""
FROM_ABOVE = 14.0
"""Degrees: a camera that looks down more steeply than this stands above people's heads."""
DEPTHS = (0.5, 1.3)
"""How many times nearer than the first of a scene the others may stand, where elevations say so."""
_MIRROR_VIEW = {"left side": "right side", "right side": "left side"}


def mirrored(cutout: Cutout) -> Cutout:
    """The person as seen in a mirror: left and right change places in keypoints, part classes and view."""
    keypoints = cutout.keypoints[list(FLIPPED_KEYPOINTS)].copy()
    present = keypoints[:, 2] > 0
    keypoints[present, 0] = cutout.image.shape[1] - keypoints[present, 0]
    view = cutout.attributes.get("view", "")
    return replace(
        cutout,
        image=np.ascontiguousarray(cutout.image[:, ::-1]),
        parts=FLIPPED_PARTS[cutout.parts[:, ::-1]],
        keypoints=keypoints,
        attributes={**cutout.attributes, "view": _MIRROR_VIEW.get(view, view)},
    )


@dataclass(frozen=True)
class Place:
    """A person at a place: `scale` is pixels of the scene per metre; `x0, y0, x1, y1` is where the whole
    cut-out goes.

    Corners are integer pixels and may lie outside the picture; `parts` is the part map resized to that size.
    """

    cutout: Cutout
    scale: float
    x0: int
    y0: int
    x1: int
    y1: int
    parts: np.ndarray

    @property
    def foot(self) -> float:
        """The row that the person stands on."""
        return float(self.y1)

    def keypoints(self) -> np.ndarray:
        """[17, 3] in pixels of the scene, visibility as in the cut-out."""
        points = self.cutout.keypoints.astype(np.float32).copy()
        height, width = self.cutout.parts.shape
        points[:, 0] = self.x0 + points[:, 0] * (self.x1 - self.x0) / width
        points[:, 1] = self.y0 + points[:, 1] * (self.y1 - self.y0) / height
        return points

    def window(self, width: int, height: int) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of the scene that the cut-out covers, then the same of the cut-out (may be
        empty)."""
        top, bottom = max(self.y0, 0), max(min(self.y1, height), 0)
        left, right = max(self.x0, 0), max(min(self.x1, width), 0)
        return (
            slice(top, bottom),
            slice(left, right),
            slice(top - self.y0, max(bottom - self.y0, 0)),
            slice(left - self.x0, max(right - self.x0, 0)),
        )


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 (exclusive) of the true pixels; all zero when there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cropped(cutout: Cutout) -> Cutout:
    """The cut-out without empty margins, so that its last row is the foot."""
    x1, y1, x2, y2 = tight_box(cutout.parts > 0)
    keypoints = cutout.keypoints.copy()
    keypoints[keypoints[:, 2] > 0, :2] -= (x1, y1)
    return replace(
        cutout, image=cutout.image[y1:y2, x1:x2], parts=cutout.parts[y1:y2, x1:x2], keypoints=keypoints
    )


def _place(cutout: Cutout, scale: float, x: float, foot: float) -> Place:
    factor = scale * cutout.height_m / cutout.stature_px
    height, width = cutout.parts.shape
    w, h = max(round(width * factor), 1), max(round(height * factor), 1)
    x0, y1 = round(x - w / 2), round(foot)
    parts = np.asarray(Image.fromarray(cutout.parts).resize((w, h), Image.Resampling.NEAREST))
    return Place(cutout, scale, x0, y1 - h, x0 + w, y1, parts)


def _spots(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Middle columns of `count` people: side by side in random order, sometimes at the edge."""
    if count == 1:
        return rng.uniform(0.2, 0.8, 1) * width
    slots = (rng.permutation(count) + 0.5) / count * 0.92 + 0.04
    spots = slots + rng.normal(0, 0.22 / count, count)
    if rng.random() < 0.15:
        spots[rng.integers(count)] = rng.choice((rng.uniform(-0.03, 0.05), rng.uniform(0.95, 1.03)))
    return spots * width


def elevations_beside(elevation: float) -> tuple[float, float]:
    """Lowest and highest elevation (degrees) of the people who may stand in a picture with one of this elevation."""
    if elevation < FROM_ABOVE:
        return ANY_ELEVATION[0], FROM_ABOVE
    low, high = (float(np.degrees(np.arcsin(min(ratio * np.sin(np.radians(elevation)), 1)))) for ratio in DEPTHS)
    return max(low, FROM_ABOVE), max(high, elevation + 0.1)


def _from_above(
    rng: np.random.Generator, cutouts: Sequence[Cutout], width: int, height: int
) -> tuple[list[Place], float]:
    """As `arrange`, under a camera that looks down: the steeper it looked at somebody, the nearer that person stands.

    Of a camera at height c over the people's middles, pitched by p, somebody seen at elevation e is c / sin e away;
    feet lie (c + their middle) / cos p metres of their own scale below the horizon.
    """
    pitch, above = np.radians(cutouts[0].elevation), np.radians([cutout.elevation for cutout in cutouts])
    camera = 0.85 / np.cos(pitch) + rng.uniform(3, 8) * np.tan(pitch)
    close = len(cutouts) <= 3 and rng.random() < CLOSE_UP_SHARE
    low, high = (0.8, 1.5) if close else (0.24, 0.8) if len(cutouts) < 4 else (0.2, 0.5)
    stature = rng.uniform(low, high) * height
    scales = stature / cutouts[0].height_m * np.sin(above) / np.sin(pitch)
    tall = np.array([c.parts.shape[0] * c.height_m / c.stature_px for c in cutouts])  # metres of the picture's plane
    feet, heads = camera * scales, (camera - tall) * scales
    shrink = 1.0 if close else min(1.0, 0.97 * height / (feet.max() - heads.min()))
    scales, feet, heads = scales * shrink, feet * shrink, heads * shrink
    horizon = rng.uniform(*sorted((0.01 * height - heads.min(), 0.99 * height - feet.max())))
    if rng.random() > HEADS_IN_FRAME:
        horizon += rng.choice((-0.3, 0.3)) * shrink * stature
    spots = _spots(rng, len(cutouts), width)
    places = [_place(c, s, x, foot + horizon) for c, s, x, foot in zip(cutouts, scales, spots, feet, strict=True)]
    return sorted(places, key=lambda place: place.scale), float(horizon)


def arrange(
    rng: np.random.Generator, cutouts: Sequence[Cutout], width: int, height: int, recipe: Recipe
) -> tuple[list[Place], float]:
    """Places for the cut-outs (without margins), farthest first, and the row of the horizon."""
    if recipe.cameras and cutouts[0].elevation >= FROM_ABOVE:
        return _from_above(rng, cutouts, width, height)
    count = len(cutouts)
    camera = rng.uniform(0.9, 1.9)  # metres above the ground
    first = cutouts[0]
    if count <= 3 and rng.random() < CLOSE_UP_SHARE:
        stature = rng.uniform(0.95, 1.75) * height
        foot = rng.uniform(0.02, 0.2) * height + stature
    else:
        stature = rng.uniform(0.42, 0.94) * height if count < 4 else rng.uniform(0.36, 0.75) * height
        stature = min(stature, 2.4 * width / max(count, 2) ** 0.5) * (CROWDED if count > MANY else 1)
        foot = rng.uniform(max(stature / height + 0.03, 0.74), 0.995) * height
    if recipe.far and rng.random() < recipe.far:
        stature, foot = rng.uniform(0.15, 0.34) * height, rng.uniform(0.5, 0.95) * height
    scale = stature / first.height_m
    horizon = foot - camera * scale
    near = rng.uniform(0.5, 0.9)
    scales = scale * np.concatenate([[1.0], rng.uniform(near, 1.02 if stature > height else 1.12, count - 1)])
    spots = _spots(rng, count, width) if recipe.overlaps else None
    if spots is not None and count > 1 and rng.random() < recipe.overlaps:
        near, far = rng.permutation(count)[:2]
        spots[far] = spots[near] + rng.choice((-1, 1)) * rng.uniform(0.18, 0.45) * scales[near]  # so many metres aside
        scales[far] = rng.uniform(0.55, 0.8) * scales[near]
    feet = horizon + camera * scales
    heads = feet - scales * [cutout.height_m for cutout in cutouts]
    if rng.random() < HEADS_IN_FRAME:  # tilt the camera up until everybody's head is in the picture
        shift = max(0.01 * height - heads.min(), 0)
        feet, horizon = feet + shift, horizon + shift
    spots = _spots(rng, count, width) if spots is None else spots
    places = [
        _place(cutout, s, x, foot) for cutout, s, x, foot in zip(cutouts, scales, spots, feet, strict=True)
    ]
    return sorted(places, key=lambda place: place.scale), float(horizon)
