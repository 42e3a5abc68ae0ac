"""Other ways to ask about a person than the row's: by the box, a loosely drawn one, or points. In training by chance,
in evaluation as one chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .annotation import Annotation, Box, Points, Question

SCRIBBLE_POINTS = 6
"""The most points of a scribble that an instruction holds, in training and afterwards."""

LOOSE = 0.12
"""By which share of its width or height each side of a box may be off that evaluation asks with, where a loose one is
wanted: as the bundled model was trained."""
WORDS, REGION, LOOSELY, POINT, SCRIBBLE = "words", "region", "loose", "point", "scribble"
WAYS = {
    WORDS: "words",
    REGION: "the person's box",
    LOOSELY: f"a loosely drawn box, each side off by up to {100 * LOOSE:.0f} % (drawn from the row's id)",
    POINT: "a point on the person (drawn from the row's id)",
    SCRIBBLE: f"{SCRIBBLE_POINTS} points on the person (drawn from the row's id)",
}
"""How every question of an evaluation may be put, and what that is in words."""
MARKED = (POINT, SCRIBBLE)
"""Those of them for which the person's mask must be known."""


@dataclass(frozen=True)
class Prompting:
    """How often what is asked with; the words of a row stay where nothing is drawn."""

    by_region: float = 0.0
    """Chance of asking by the box where words and box are known."""
    by_point: float = 0.0
    """Share of the questions without words that are asked by a point or a scribble on the person."""
    loose: float = 0.0
    """Each side of a box that is asked with is off by up to this share of the box's width or height."""

    def vary(self, question: Question, annotation: Annotation, random: np.random.Generator, always: bool) -> Question:
        """The question as it is put this time; `always` leaves the words out."""
        if question.points:
            return replace(question, points=(question.points[random.integers(len(question.points))],))
        region = question.region
        if region is None or (question.text is not None and not always and random.random() >= self.by_region):
            return question
        if self.by_point and random.random() < self.by_point and (points := points_on(annotation, region, random)):
            return replace(question, text=None, region=None, points=(points,))
        if self.loose:
            region = loosened(region, question.size, self.loose, random)
        return replace(question, text=None, region=region)


def put(way: str, question: Question, annotation: Annotation, name: str) -> Question:
    """The question about a person put in one of `WAYS`, always the same for a row of this `name` (its id).

    ValueError where box or, for points, mask are not known or empty.
    """
    if way == WORDS:
        return question
    box = annotation.box
    if box is None:
        raise ValueError(f"asking by {WAYS[way]} needs the person's box.")
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    if way not in MARKED:
        region = box if way == REGION else loosened(box, question.size, LOOSE, random)
        return replace(question, text=None, region=region, points=())
    points = _draw(_places(annotation, box), 1 if way == POINT else SCRIBBLE_POINTS, random)
    if annotation.mask is None or not points:
        raise ValueError(f"asking by {WAYS[way]} needs the person's mask.")
    return replace(question, text=None, region=None, points=(points,))


def loosened(region: Box, size: tuple[int, int], share: float, random: np.random.Generator) -> Box:
    """A box with each side moved by up to this share of its width or height, cut to a picture of `size`."""
    x1, y1, x2, y2 = region
    width, height = size
    shift = random.uniform(-share, share, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
    left, top, right, bottom = np.array(region) + shift
    moved = max(float(left), 0.0), max(float(top), 0.0), min(float(right), width), min(float(bottom), height)
    return moved if moved[2] - moved[0] >= 1 and moved[3] - moved[1] >= 1 else region


def points_on(annotation: Annotation, region: Box, random: np.random.Generator) -> Points:
    """One point on the person, or as often a scribble from top to bottom, in pixels of the picture.

    Pixels of the mask where it is known, visible keypoints otherwise; nothing where neither is.
    """
    places = _places(annotation, region)
    if not len(places):
        return ()
    return _draw(places, 1 if random.random() < 0.5 else int(random.integers(2, SCRIBBLE_POINTS + 1)), random)


def _places(annotation: Annotation, region: Box) -> np.ndarray:
    """Where points may lie: float (n, 2)."""
    if annotation.mask is not None and annotation.mask.any():
        x1, y1, x2, y2 = (int(side) for side in (*np.floor(region[:2]), *np.ceil(region[2:])))
        rows, columns = np.nonzero(annotation.mask[y1:y2, x1:x2])
        return np.stack([columns + x1, rows + y1], 1) + 0.5
    if annotation.keypoints is not None:
        return annotation.keypoints[annotation.keypoints[:, 2] == 2, :2]
    return np.zeros((0, 2))


def _draw(places: np.ndarray, count: int, random: np.random.Generator) -> Points:
    """So many of the places (the same may come twice), from top to bottom; nothing of nothing."""
    if not len(places):
        return ()
    chosen = places[random.integers(len(places), size=count)]
    return read_of([(float(x), float(y)) for x, y in chosen])


def read_of(points: Sequence[tuple[float, float]]) -> Points:
    """What is read of a point or scribble: at most `SCRIBBLE_POINTS`, evenly chosen along it, from top to bottom."""
    count = min(len(points), SCRIBBLE_POINTS)
    chosen = [points[round(place)] for place in np.linspace(0, len(points) - 1, count)]
    return tuple(sorted(chosen, key=lambda point: point[1]))
