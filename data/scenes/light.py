"""What light and the camera do to a scene: shadows, exposure, blur, noise, compression."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .layout import Place

FAULTS = ("shaken", "small", "dark", "grainy", "compressed")


@dataclass(frozen=True)
class Sun:
    """One lamp behind the camera: how a shadow of height 1 leans sideways, how far it reaches up the picture, and
    which share of the light it takes."""

    lean: float
    reach: float
    strength: float

    @classmethod
    def somewhere(cls, rng: np.random.Generator) -> Sun:
        """At one side, high or low."""
        return cls(rng.uniform(-0.9, 0.9), rng.uniform(0.08, 0.32), rng.uniform(0.2, 0.5))


def cast_shadow(canvas: np.ndarray, place: Place, sun: Sun) -> None:
    """Darkens the ground where somebody's outline falls on it, in place."""
    height, width = canvas.shape[:2]
    tall = place.y1 - place.y0
    high, margin = max(round(tall * sun.reach), 1), int(abs(sun.lean) * tall * sun.reach) + 6
    wide = place.x1 - place.x0 + 2 * margin
    outline = Image.fromarray(np.where(place.parts > 0, 255, 0).astype(np.uint8))
    # Row y of the shadow shows row y / reach of the outline, moved aside by its height over the ground.
    move = -sun.lean
    shape = (1, move, -margin - move * (high + 3), 0, tall / high, -3 * tall / high)
    shadow = outline.transform((wide, high + 6), Image.Transform.AFFINE, shape, Image.Resampling.BILINEAR)
    shadow = shadow.filter(ImageFilter.GaussianBlur(1 + 0.006 * tall))
    x0, y0 = place.x0 - margin, place.y1 - high - 3
    rows = slice(max(y0, 0), max(min(y0 + high + 6, height), 0))
    columns = slice(max(x0, 0), max(min(x0 + wide, width), 0))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    seen = np.asarray(shadow, np.float32)[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
    canvas[rows, columns] *= (1 - sun.strength / 255 * seen)[..., None]


def contact_shadow(canvas: np.ndarray, place: Place, strength: float, above: bool) -> None:
    """Darkens the ground softly around the feet, in place; seen from above a spot on the ground is round."""
    height, width = canvas.shape[:2]
    deep = 0.3 * np.sin(np.radians(place.cutout.elevation)) if above else 0.0
    half_w, half_h = (place.x1 - place.x0) * 0.55 + 2, (0.07 + deep) * place.scale + 1
    x, y = (place.x0 + place.x1) / 2, place.foot - half_h * 0.4
    rows = slice(int(max(y - 2 * half_h, 0)), int(max(min(y + 2 * half_h, height), 0)))
    columns = slice(int(max(x - 1.6 * half_w, 0)), int(max(min(x + 1.6 * half_w, width), 0)))
    ys, xs = np.ogrid[rows, columns]
    if not ys.size or not xs.size:
        return
    distance = ((ys - y) / half_h) ** 2 + ((xs - x) / half_w) ** 2
    canvas[rows, columns] *= (1 - strength * np.exp(-1.6 * distance))[..., None]


def develop(rng: np.random.Generator, canvas: np.ndarray, rough: float) -> np.ndarray:
    """The camera's part: light, colour, blur, noise and JPEG damage, uint8 [H, W, 3]; a share `rough` of the pictures
    has one fault that is plain to see."""
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if rng.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    gamma, gain = rng.uniform(0.85, 1.2), rng.uniform(0.85, 1.12) * rng.normal(1, 0.03, 3)
    ramp = np.linspace(0, 1, 256) ** gamma * 255
    picture = picture.point(np.clip(gain[:, None] * ramp, 0, 255).astype(int).ravel().tolist())
    pixels = np.asarray(picture)
    if rng.random() < 0.5:
        height, width = pixels.shape[:2]
        tile = rng.normal(0, rng.uniform(1, 7), (128, 131, 3)).astype(np.int16)
        grain = np.tile(tile, (height // 128 + 1, width // 131 + 1, 1))[:height, :width]
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        pixels = _compressed(pixels, int(rng.integers(40, 85)))
    return _spoilt(rng, pixels) if rough and rng.random() < rough else pixels


def _compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _spoilt(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """One of FAULTS, as in pictures taken in haste or sent too often."""
    picture, size = Image.fromarray(pixels), (pixels.shape[1], pixels.shape[0])
    fault = FAULTS[int(rng.integers(len(FAULTS)))]
    if fault == "shaken":
        steps, way = int(rng.integers(3, 8)), rng.normal(0, 1, 2)
        way /= np.abs(way).max()
        offsets = [np.round(way * (step - steps // 2)).astype(int) for step in range(steps)]
        padded = np.pad(pixels.astype(np.float32), ((4, 4), (4, 4), (0, 0)), mode="edge")
        moved = [padded[4 + y : 4 + y + size[1], 4 + x : 4 + x + size[0]] for x, y in offsets]
        return np.mean(moved, 0).astype(np.uint8)
    if fault == "small":
        factor = rng.uniform(0.35, 0.6)
        less = picture.resize([max(round(side * factor), 1) for side in size], Image.Resampling.BILINEAR)
        return np.asarray(less.resize(size, Image.Resampling.BICUBIC))
    if fault == "dark":
        return (255 * (pixels / 255) ** rng.uniform(1.3, 1.9) * rng.uniform(0.6, 0.9)).astype(np.uint8)
    if fault == "grainy":
        return np.clip(pixels + rng.normal(0, rng.uniform(9, 18), pixels.shape), 0, 255).astype(np.uint8)
    return _compressed(pixels, int(rng.integers(12, 35)))
