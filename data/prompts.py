"""In training, a person is asked about in other ways than the row says: by the box, a loosely drawn one, or points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .annotation import Annotation, Box, Points, Question

SCRIBBLE_POINTS = 6
"""The most points of a scribble that an instruction holds, in training and afterwards."""


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
        return replace(question, text=None, region=self._loosened(region, question.size, random))

    def _loosened(self, region: Box, size: tuple[int, int], random: np.random.Generator) -> Box:
        if not self.loose:
            return region
        x1, y1, x2, y2 = region
        width, height = size
        shift = random.uniform(-self.loose, self.loose, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
        left, top, right, bottom = np.array(region) + shift
        moved = max(float(left), 0.0), max(float(top), 0.0), min(float(right), width), min(float(bottom), height)
        return moved if moved[2] - moved[0] >= 1 and moved[3] - moved[1] >= 1 else region


def points_on(annotation: Annotation, region: Box, random: np.random.Generator) -> Points:
    """One point on the person, or as often a scribble from top to bottom, in pixels of the picture.

    Pixels of the mask where it is known, visible keypoints otherwise; nothing where neither is.
    """
    if annotation.mask is not None and annotation.mask.any():
        x1, y1, x2, y2 = (int(side) for side in (*np.floor(region[:2]), *np.ceil(region[2:])))
        rows, columns = np.nonzero(annotation.mask[y1:y2, x1:x2])
        places = np.stack([columns + x1, rows + y1], 1) + 0.5
    elif annotation.keypoints is not None:
        places = annotation.keypoints[annotation.keypoints[:, 2] == 2, :2]
    else:
        return ()
    if not len(places):
        return ()
    count = 1 if random.random() < 0.5 else int(random.integers(2, SCRIBBLE_POINTS + 1))
    chosen = places[random.integers(len(places), size=count)]
    return read_of([(float(x), float(y)) for x, y in chosen])


def read_of(points: Sequence[tuple[float, float]]) -> Points:
    """What is read of a point or scribble: at most `SCRIBBLE_POINTS`, evenly chosen along it, from top to bottom."""
    count = min(len(points), SCRIBBLE_POINTS)
    chosen = [points[round(place)] for place in np.linspace(0, len(points) - 1, count)]
    return tuple(sorted(chosen, key=lambda point: point[1]))
