"""What stands behind the people: made-up streets, parks, rooms and textures, or crops of people-free photos.

A made background depends on its seed, size and horizon only; seeds of different splits never meet
(`splits.background_seed`), and a photo belongs to one split by its content (`splits.photo_split`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ...errors import RefHCMError
from .splits import SPLITS, background_seed, photo_split

PHOTO_SHARE = 0.7  # of the backgrounds, where photos are given
MAX_PHOTO_PIXELS = 40_000_000
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
RGB = tuple[int, int, int]


def _tone(rng: np.random.Generator, low: float = 40, high: float = 225, spread: float = 28) -> np.ndarray:
    """A muted colour [3]: a grey of this range, each channel moved by about `spread`."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, spread, 3), 5, 250)


def _fill(colour: np.ndarray) -> RGB:
    r, g, b = np.clip(colour, 0, 255).astype(int).tolist()
    return r, g, b


def noise(
    rng: np.random.Generator, width: int, height: int, cell: float, low: float, high: float
) -> np.ndarray:
    """Smooth noise float32 [height, width] between about `low` and `high` that changes over `cell` pixels."""
    grid = (max(int(height / cell), 1) + 1, max(int(width / cell), 1) + 1)
    small = Image.fromarray(rng.uniform(low, high, grid).astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _gradient(width: int, height: int, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, max(height, 1), dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - t) + bottom * t, (max(height, 1), width, 3)).astype(np.float32)


def texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A wall or floor float32 [height, width, 3]: bricks, tiles, boards, stripes, plaster or blotches."""
    base = _tone(rng)
    kind = rng.choice(("bricks", "tiles", "boards", "stripes", "plaster", "blotches"))
    y, x = np.ogrid[:height, :width]
    if kind in ("bricks", "tiles"):
        tall = rng.uniform(10, 26) if kind == "bricks" else rng.uniform(24, 80)
        wide = tall * (rng.uniform(2, 2.8) if kind == "bricks" else rng.uniform(0.9, 1.2))
        row = (y // tall).astype(int)
        shifted = x + (row % 2) * wide / 2 * (kind == "bricks")
        column = (shifted // wide).astype(int)
        table = rng.uniform(0.84, 1.14, 997)
        level = table[(row * 31 + column * 17) % 997]
        joint = (y % tall < max(tall * 0.07, 1)) | (shifted % wide < max(tall * 0.07, 1))
        level = np.where(joint, rng.uniform(0.6, 1.3), level)
    elif kind in ("boards", "stripes"):
        wide = rng.uniform(10, 60)
        along, across = (y, x) if rng.random() < 0.6 else (x, y)
        plank = rng.uniform(0.82, 1.16, 211)[(across // wide).astype(int) % 211]
        grain = 1 + 0.05 * np.sin(
            along * rng.uniform(0.01, 0.05) + plank * 40 + across * rng.uniform(0.4, 1.4)
        )
        level = plank * grain if kind == "boards" else np.broadcast_to(plank, (height, width))
        level = np.where(across % wide < 1.5, level * 0.7, level) if kind == "boards" else level
    else:
        level = noise(rng, width, height, rng.uniform(8, 40), 0.85, 1.15)
        if kind == "blotches":
            level = level * noise(rng, width, height, rng.uniform(60, 140), 0.6, 1.35)
    level = np.asarray(level, np.float32) * noise(rng, width, height, 90, 0.9, 1.1)
    return base.astype(np.float32) * level[..., None]


def _into(picture: Image.Image, pixels: np.ndarray, corner: tuple[int, int]) -> None:
    picture.paste(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), corner)


def _ground(rng: np.random.Generator, picture: Image.Image, horizon: int) -> None:
    """A floor from the horizon down, with lines that run to a vanishing point on some."""
    width, height = picture.size
    depth = height - horizon
    if depth < 2:
        return
    far, near = _tone(rng), _tone(rng, spread=15)
    floor = _gradient(width, depth, far * 0.6 + near * 0.4, near)
    floor *= noise(rng, width, depth, rng.uniform(5, 30), 0.88, 1.12)[..., None]
    _into(picture, floor, (0, horizon))
    if rng.random() < 0.55:
        pen, line = ImageDraw.Draw(picture), _fill(near * rng.choice((0.75, 1.25)))
        vanish = rng.uniform(0.1, 0.9) * width
        for x in np.arange(-width * 2, width * 3, rng.uniform(40, 140)):
            pen.line((vanish, horizon, x, height), fill=line, width=int(rng.integers(1, 3)))
        y, step = float(height), rng.uniform(20, 60)
        while y > horizon + 3 and step > 1:
            pen.line((0, y, width, y), fill=line)
            step *= 0.78
            y -= step


def _tree(rng: np.random.Generator, pen: ImageDraw.ImageDraw, x: float, foot: float, tall: float) -> None:
    trunk, leaf = (
        np.array([90, 66, 44]) * rng.uniform(0.6, 1.3),
        np.array([60, 105, 45]) * rng.uniform(0.5, 1.4),
    )
    pen.rectangle((x - tall * 0.035, foot - tall * 0.5, x + tall * 0.035, foot), fill=_fill(trunk))
    for _ in range(int(rng.integers(6, 14))):
        cx, cy = x + rng.normal(0, 0.16) * tall, foot - tall * rng.uniform(0.45, 0.95)
        r = tall * rng.uniform(0.08, 0.2)
        pen.ellipse(
            (cx - r, cy - r, cx + r, cy + r * 0.9),
            fill=_fill(leaf * rng.uniform(0.75, 1.25) + rng.normal(0, 6, 3)),
        )


def _building(rng: np.random.Generator, picture: Image.Image, x0: int, x1: int, top: int, foot: int) -> None:
    if x1 - x0 < 8 or foot - top < 8:
        return
    _into(picture, texture(rng, x1 - x0, foot - top), (x0, top))
    pen, glass = ImageDraw.Draw(picture), _fill(_tone(rng, 30, 200))
    wide, tall = rng.uniform(10, 26), rng.uniform(14, 34)
    for x in np.arange(x0 + wide * 0.6, x1 - wide, wide * rng.uniform(1.6, 2.4)):
        for y in np.arange(top + tall * 0.5, foot - tall * 1.1, tall * rng.uniform(1.5, 2)):
            pen.rectangle((x, y, x + wide, y + tall), fill=glass, outline=_fill(np.array(glass) * 0.6))


def _clutter(rng: np.random.Generator, picture: Image.Image, horizon: int, count: int) -> None:
    """Boxes that stand on the floor, with a lit top and side: furniture, bins, cars from afar."""
    width, height = picture.size
    pen = ImageDraw.Draw(picture)
    for foot in np.sort(rng.uniform(horizon + 2, horizon + (height - horizon) * 0.75 + 3, count)):
        scale = (foot - horizon) / max(height - horizon, 1) + 0.12
        w, h = rng.uniform(30, 210) * scale, rng.uniform(25, 200) * scale
        x = rng.uniform(-0.1, 1) * width
        colour = _tone(rng, spread=35)
        pen.rectangle((x, foot - h, x + w, foot), fill=_fill(colour))
        lid = rng.uniform(0.05, 0.25) * h
        slant = rng.uniform(-0.2, 0.2) * w
        pen.polygon(
            [(x, foot - h), (x + slant, foot - h - lid), (x + w + slant, foot - h - lid), (x + w, foot - h)],
            fill=_fill(colour * 1.18),
        )
        for shelf in range(int(rng.integers(0, 4))):
            y = foot - h * (shelf + 1) / 4.5
            pen.line(
                (x + w * 0.08, y, x + w * 0.92, y), fill=_fill(colour * 0.7), width=max(int(3 * scale), 1)
            )


def _outdoors(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image.Image:
    sky = np.array(
        [[150, 185, 225], [190, 195, 200], [235, 190, 150], [90, 130, 190]][rng.integers(4)], float
    )
    pixels = _gradient(width, height, sky * rng.uniform(0.7, 1), np.minimum(sky * 1.15, 245))
    if rng.random() < 0.6:
        cloud = np.clip(noise(rng, width, height, rng.uniform(40, 120), -0.6, 1), 0, 1)[..., None]
        pixels = pixels * (1 - cloud * 0.6) + 240 * cloud * 0.6
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.5:  # hills
        xs = np.linspace(0, width, 24)
        ridge = horizon - height * 0.12 * (
            1 + np.sin(xs / width * rng.uniform(4, 9) + rng.uniform(0, 6))
        ) * rng.uniform(0.2, 1)
        pen.polygon(
            [(0, height), *zip(xs, ridge, strict=True), (width, height)], fill=_fill(_tone(rng, 70, 150))
        )
    if rng.random() < 0.6:
        x = int(rng.uniform(-60, 60))
        while x < width:
            wide = int(rng.uniform(50, 190))
            if rng.random() < 0.75:
                _building(
                    rng,
                    picture,
                    x,
                    min(x + wide, width),
                    int(horizon - rng.uniform(0.15, 0.8) * max(horizon, 60)),
                    horizon,
                )
            x += wide
    _ground(rng, picture, horizon)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 6))):
        foot = horizon + rng.uniform(0, 0.3) * (height - horizon)
        _tree(rng, pen, rng.uniform(0, width), foot, rng.uniform(0.25, 0.7) * height)
    _clutter(rng, picture, horizon, int(rng.integers(0, 5)))
    return picture


def _room(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image.Image:
    picture = Image.new("RGB", (width, height))
    floor = int(min(horizon + (height - horizon) * rng.uniform(0.1, 0.4), height))
    _into(picture, texture(rng, width, max(floor, 1)), (0, 0))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 5))):  # windows, pictures, doors, shelves
        w, h = rng.uniform(0.08, 0.3) * width, rng.uniform(0.1, 0.4) * height
        x, y = rng.uniform(0, 1) * width, rng.uniform(0, 0.5) * max(floor, 40)
        frame, inside = _fill(_tone(rng)), _tone(rng, 60, 240, 35)
        pen.rectangle((x - 4, y - 4, x + w + 4, y + h + 4), fill=frame)
        pen.rectangle((x, y, x + w, y + h), fill=_fill(inside))
        if rng.random() < 0.6:
            pen.line((x + w / 2, y, x + w / 2, y + h), fill=frame, width=4)
            pen.line((x, y + h / 2, x + w, y + h / 2), fill=frame, width=3)
        else:
            r = min(w, h) * 0.35
            pen.ellipse(
                (x + w / 2 - r, y + h / 2 - r, x + w / 2 + r, y + h / 2 + r),
                fill=_fill(_tone(rng, spread=45)),
            )
    _ground(rng, picture, floor)
    ImageDraw.Draw(picture).rectangle((0, floor - rng.uniform(2, 9), width, floor), fill=_fill(_tone(rng)))
    _clutter(rng, picture, floor, int(rng.integers(1, 7)))
    return picture


def _abstract(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image.Image:
    """Shapes out of focus, as behind a portrait."""
    picture = Image.fromarray(np.clip(texture(rng, width, height), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(8, 40))):
        w, h = rng.uniform(0.04, 0.45) * width, rng.uniform(0.04, 0.45) * height
        x, y = rng.uniform(-0.2, 1) * width, rng.uniform(-0.2, 1) * height
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw((x, y, x + w, y + h), fill=_fill(_tone(rng, spread=45)))
    _ground(rng, picture, max(horizon, int(height * 0.5)) if rng.random() < 0.5 else height)
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 9)))


def _floor(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image.Image:
    """Nothing but ground, as a camera sees it that looks down: paving, lawn or boards, with things lying on it."""
    picture = Image.fromarray(np.clip(texture(rng, width, height), 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        _ground(rng, picture, horizon)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 5))):  # rugs, marks on a road, manholes, flower beds
        w, h = rng.uniform(0.05, 0.5) * width, rng.uniform(0.05, 0.35) * height
        x, y, slant = rng.uniform(-0.2, 1) * width, rng.uniform(-0.1, 1) * height, rng.uniform(-0.3, 0.3) * w
        fill = _fill(_tone(rng, spread=30))
        if rng.random() < 0.3:
            pen.ellipse((x, y, x + w, y + h), fill=fill)
        else:
            pen.polygon([(x, y), (x + w, y), (x + w + slant, y + h), (x + slant, y + h)], fill=fill)
    return picture


def made_background(seed: int, width: int, height: int, horizon: float, above: bool = False) -> np.ndarray:
    """Background uint8 [height, width, 3] of this seed; the floor starts near row `horizon` (clipped into
    the picture), or (`above`) is all there is, and the horizon may lie outside."""
    rng = np.random.default_rng(seed)
    if above:
        down = _floor(rng, width, height, int(np.clip(horizon, -3 * height, -1)))
        return _lit(rng, down)
    line = int(np.clip(horizon, 0.12 * height, 0.85 * height))
    scene = (_outdoors, _room, _abstract)[int(rng.choice(3, p=(0.42, 0.38, 0.2)))]
    picture = scene(rng, width, height, line)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.5)))
    return _lit(rng, picture)


def _lit(rng: np.random.Generator, picture: Image.Image) -> np.ndarray:
    width, height = picture.size
    light = noise(rng, width, height, max(width, height) / 2, 0.82, 1.14)
    return np.clip(np.asarray(picture) * light[..., None], 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Background:
    """Pixels uint8 [height, width, 3] and where they are from: the seed as text, or the photo's file name."""

    image: np.ndarray
    name: str


class Backgrounds:
    """Draws backgrounds of one split; `photos` is a folder of pictures without people, searched with its
    subfolders."""

    def __init__(self, photos: Path | None = None) -> None:
        self._photos: dict[str, list[Path]] = {split: [] for split in SPLITS}
        if photos is None:
            return
        if not photos.is_dir():
            raise FileNotFoundError(
                f"There is no folder of photos at {photos}; give the path of one or leave --photos out."
            )
        for path in sorted(p for p in photos.rglob("*") if p.suffix.lower() in _SUFFIXES):
            self._photos[photo_split(path)].append(path)
        if not any(self._photos.values()):
            raise FileNotFoundError(
                f"{photos} holds no picture ({', '.join(_SUFFIXES)}); add some or leave --photos out."
            )

    def photos(self, split: str) -> tuple[Path, ...]:
        """The photos of this split."""
        return tuple(self._photos[split])

    def draw(
        self, rng: np.random.Generator, split: str, width: int, height: int, horizon: float, above: bool = False
    ) -> Background:
        """One background of `split`: a photo's crop in PHOTO_SHARE of the draws where there are photos,
        else a made one. For a camera that looks down (`above`) it is always made: few photos show the ground alone."""
        photos = [] if above else self._photos[split]
        if photos and rng.random() < PHOTO_SHARE:
            path = photos[int(rng.integers(len(photos)))]
            return Background(_crop(rng, path, width, height), path.name)
        seed = background_seed(rng, split)
        return Background(made_background(seed, width, height, horizon, above), str(seed))


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, Image.DecompressionBombError) as error:
        raise RefHCMError(f"{path} is no picture that can be read: take it out of the photos.") from error


def _crop(rng: np.random.Generator, path: Path, width: int, height: int) -> np.ndarray:
    """A random part of a photo, mirrored half of the time, uint8 [height, width, 3]."""
    with _open(path) as photo:
        if photo.width * photo.height > MAX_PHOTO_PIXELS:
            raise ValueError(
                f"{path} has more than {MAX_PHOTO_PIXELS} pixels; shrink it before using it as a background."
            )
        scale = max(width / photo.width, height / photo.height) * rng.uniform(1.0, 1.6)
        photo.draft(
            "RGB", (int(photo.width * scale), int(photo.height * scale))
        )  # JPEG: decode no more than is needed
        try:
            picture = photo.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise RefHCMError(f"{path} is cut off or damaged: take it out of the photos.") from error
    scale = min(picture.width / width, picture.height / height) / rng.uniform(1.0, 1.6)
    w, h = width * scale, height * scale
    x, y = rng.uniform(0, picture.width - w), rng.uniform(0, picture.height - h)
    part = picture.resize((width, height), Image.Resampling.BILINEAR, (x, y, x + w, y + h))
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part)
