"""Scenes: people from cut-outs on a background, with exact labels after occlusion and cropping.

The scene is laid out in a map of owners first (cheap, repeated until everybody can be seen), then painted
back to front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .backgrounds import Backgrounds, texture
from .cutout import ANY_ELEVATION, Cutout
from .layout import FROM_ABOVE, SIZES, Place, arrange, cropped, elevations_beside, mirrored, tight_box
from .light import Sun, cast_shadow, contact_shadow, develop
from .recipe import LATEST, RECIPES, Recipe
from .sources import CutoutSource

MIN_VISIBLE = 0.35
"""Least share of a person's pixels in the picture that must not be covered by others."""
MIN_IN_FRAME = 0.2
MIN_HEIGHT = 32
THING = 255
"""Owner of pixels that furniture in front of somebody covers."""
_NOBODY = 0


@dataclass(frozen=True)
class ScenePerson:
    """One person of a scene; all positions in pixels of the scene.

    box: tight box of the visible pixels, x1, y1, x2, y2 (integers, exclusive). amodal_box: of the whole
    person, may leave the picture. keypoints: float32 [17, 3], v = 2 seen, 1 hidden, 0 outside the picture
    (then x = y = 0). parts: uint8 [H, W], CIHP classes of the visible pixels, 0 elsewhere.
    visible_fraction: visible pixels / pixels that lie in the picture; frame_fraction: pixels in the picture
    / all pixels. scale: pixels per metre (larger is nearer).
    """

    box: tuple[int, int, int, int]
    amodal_box: tuple[float, float, float, float]
    keypoints: np.ndarray
    parts: np.ndarray
    attributes: dict[str, str]
    visible_fraction: float
    frame_fraction: float
    scale: float

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]: the visible pixels."""
        return self.parts > 0


@dataclass(frozen=True)
class Scene:
    """A picture uint8 [H, W, 3], its people (farthest first), and the name of its background."""

    image: np.ndarray
    people: tuple[ScenePerson, ...]
    background: str


@dataclass(frozen=True)
class _Thing:
    """A box that covers what is behind it: a seat under the next person, or something in the foreground."""

    x0: int
    y0: int
    x1: int
    y1: int
    before: int  # painted just before person number `before`


def _seats(places: Sequence[Place]) -> list[_Thing]:
    """A stool below everybody who sits."""
    things = []
    for number, place in enumerate(places):
        if place.cutout.attributes.get("pose") != "sitting":
            continue
        hips = place.keypoints()[11:13, :2].mean(0)
        half = 0.19 * place.scale
        top, foot = int(hips[1] + 0.09 * place.scale), int(place.y1 - 0.03 * place.scale)
        if foot - top > 0.12 * place.scale:  # else the person sits on the ground
            things.append(_Thing(int(hips[0] - half), top, int(hips[0] + half), foot, number))
    return things


def _foreground(rng: np.random.Generator, count: int, width: int, height: int) -> list[_Thing]:
    if rng.random() > 0.13:
        return []
    if rng.random() < 0.5:  # a post
        x, w = rng.uniform(0, 1) * width, rng.uniform(0.02, 0.05) * width
        return [_Thing(int(x), 0, int(x + w) + 1, height, count)]
    x, w, top = (
        rng.uniform(-0.1, 0.9) * width,
        rng.uniform(0.12, 0.4) * width,
        rng.uniform(0.76, 0.93) * height,
    )
    return [_Thing(int(x), int(top), int(x + w), height, count)]


def _owners(places: Sequence[Place], things: Sequence[_Thing], width: int, height: int) -> np.ndarray:
    """uint8 [H, W]: number + 1 of the person seen in each pixel, THING, or 0."""
    owners = np.zeros((height, width), np.uint8)
    for number in range(len(places) + 1):
        for thing in things:
            if thing.before == number:
                owners[max(thing.y0, 0) : max(thing.y1, 0), max(thing.x0, 0) : max(thing.x1, 0)] = THING
        if number < len(places):
            rows, columns, own_rows, own_columns = places[number].window(width, height)
            owners[rows, columns][places[number].parts[own_rows, own_columns] > 0] = number + 1
    return owners


def _person(number: int, place: Place, owners: np.ndarray) -> ScenePerson | None:
    """The labels of one placed person, or None when too little of it is seen."""
    height, width = owners.shape
    rows, columns, own_rows, own_columns = place.window(width, height)
    inside = place.parts[own_rows, own_columns]
    mine = np.where(owners[rows, columns] == number + 1, inside, 0)
    seen, framed, whole = np.count_nonzero(mine), np.count_nonzero(inside), np.count_nonzero(place.parts)
    if framed < MIN_IN_FRAME * whole or seen < MIN_VISIBLE * framed or not seen:
        return None
    parts = np.zeros((height, width), np.uint8)
    parts[rows, columns] = mine
    box = tight_box(parts > 0)
    if box[3] - box[1] < MIN_HEIGHT:
        return None
    keypoints = place.keypoints()
    for point in keypoints:
        x, y = int(np.floor(point[0])), int(np.floor(point[1]))
        if point[2] == 0 or not (0 <= x < width and 0 <= y < height):
            point[:] = 0
        elif owners[y, x] not in (_NOBODY, number + 1) and owners[y, x] > number + 1:
            point[2] = 1  # somebody or something nearer
    _hide_off_mask(keypoints, parts > 0)
    amodal = (float(place.x0), float(place.y0), float(place.x1), float(place.y1))
    return ScenePerson(
        box, amodal, keypoints, parts, place.cutout.attributes, seen / framed, framed / whole, place.scale
    )


def _hide_off_mask(keypoints: np.ndarray, mask: np.ndarray, reach: int = 3) -> None:
    """A joint without any visible pixel of its person within `reach` pixels is not seen."""
    for point in keypoints[keypoints[:, 2] == 2]:
        x, y = int(point[0]), int(point[1])
        if not mask[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].any():
            keypoints[(keypoints == point).all(1), 2] = 1


def _paint_thing(rng: np.random.Generator, canvas: np.ndarray, thing: _Thing) -> None:
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = max(thing.x0, 0), max(thing.y0, 0), min(thing.x1, width), min(thing.y1, height)
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    canvas[y0:y1, x0:x1] = texture(rng, x1 - x0, y1 - y0) * rng.uniform(0.6, 1)
    canvas[y0 : min(y0 + 3, y1), x0:x1] *= 1.25


def _paint_person(rng: np.random.Generator, canvas: np.ndarray, place: Place) -> None:
    height, width = canvas.shape[:2]
    rows, columns, own_rows, own_columns = place.window(width, height)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    source = Image.fromarray(place.cutout.image).convert("RGBa")
    fx, fy = source.width / (place.x1 - place.x0), source.height / (place.y1 - place.y0)
    corners = (own_columns.start * fx, own_rows.start * fy, own_columns.stop * fx, own_rows.stop * fy)
    part = source.resize(
        (columns.stop - columns.start, rows.stop - rows.start), Image.Resampling.BILINEAR, corners
    )
    pixels = np.asarray(part, np.float32)
    around = float(canvas[rows, columns].mean())
    gain = np.clip((around / 125) ** 0.25, 0.8, 1.12) * rng.uniform(
        0.93, 1.07
    )  # people are lit as the place is
    window = canvas[rows, columns]
    window *= 1 - pixels[..., 3:] * (1 / 255)
    window += pixels[..., :3] * gain


def _lay_out(
    rng: np.random.Generator, cutouts: list[Cutout], width: int, height: int, recipe: Recipe
) -> tuple[list[Place], list[_Thing], float, list[ScenePerson]]:
    """Places in which everybody can be seen: some tries with all, then without those who cannot."""
    for attempt in range(100):
        places, horizon = arrange(rng, cutouts, width, height, recipe)
        things = _seats(places) + _foreground(rng, len(places), width, height)
        owners = _owners(places, things, width, height)
        people = [_person(number, place, owners) for number, place in enumerate(places)]
        if None not in people:
            return places, things, horizon, [person for person in people if person is not None]
        if attempt >= recipe.attempts and len(cutouts) > 1:
            lost = places[people.index(None)].cutout
            cutouts = [cutout for cutout in cutouts if cutout is not lost]
    raise RuntimeError("No layout shows a single person; the cut-out must be empty.")


def _same_person(one: Cutout, other: Cutout) -> bool:
    """Whether two cut-outs are views of one person, as far as words and height tell."""
    alike = all(one.attributes[key] == other.attributes[key] for key in one.attributes if key != "view")
    return alike and one.height_m == other.height_m


def _cast(rng: np.random.Generator, split: str, source: CutoutSource, recipe: Recipe) -> list[Cutout]:
    """The people of a scene."""
    cutouts: list[Cutout] = []
    elevations = ANY_ELEVATION
    for _ in range(int(rng.choice(len(recipe.counts), p=recipe.counts)) + 1):
        cutout = cropped(source.draw(rng, split, elevations))
        for _ in range(recipe.redraws):
            if not any(_same_person(cutout, other) for other in cutouts):
                break
            cutout = cropped(source.draw(rng, split, elevations))
        cutouts.append(mirrored(cutout) if rng.random() < 0.5 else cutout)
        if recipe.cameras:
            elevations = elevations_beside(cutouts[0].elevation)
    return cutouts


def compose(
    rng: np.random.Generator, split: str, source: CutoutSource, backgrounds: Backgrounds,
    recipe: Recipe = RECIPES[LATEST],
) -> Scene:  # fmt: skip
    """A scene of one or more people of `split`; everything depends on `rng`, the recipe and what the sources hold."""
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    cutouts = _cast(rng, split, source, recipe)
    places, things, horizon, people = _lay_out(rng, cutouts, width, height, recipe)
    above = recipe.cameras and cutouts[0].elevation >= FROM_ABOVE
    background = backgrounds.draw(rng, split, width, height, horizon, above and horizon < 0.05 * height)
    canvas = background.image.astype(np.float32)
    strength = rng.uniform(0.15, 0.55)
    if recipe.shadows and rng.random() < recipe.shadows:
        sun = Sun.somewhere(rng)
        for place in places:
            cast_shadow(canvas, place, sun)
    for number in range(len(places) + 1):
        for thing in (thing for thing in things if thing.before == number):
            _paint_thing(rng, canvas, thing)
        if number < len(places):
            contact_shadow(canvas, places[number], strength, above)
            _paint_person(rng, canvas, places[number])
    return Scene(develop(rng, canvas, recipe.rough), tuple(people), background.name)
