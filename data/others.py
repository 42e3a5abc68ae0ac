"""Who else is in the picture: the visible pixels of everybody but the person meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .annotation import Annotation


class Everybody:
    """All people of a picture of `size` (width, height), with their masks."""

    def __init__(self, people: Sequence[Annotation], size: tuple[int, int]) -> None:
        self._people, self._size = people, size
        self._covering: np.ndarray | None = None
        masks = [person.mask for person in people if person.mask is not None]
        if len(masks) == len(people):  # otherwise nothing can be said about anybody's others
            self._covering = _count(masks, size)

    def complete(self, answer: Annotation) -> Annotation:
        """The same with `others`, of each person where several are meant."""
        if answer.people is not None:
            return replace(answer, people=tuple(map(self.complete, answer.people)))
        return replace(answer, others=self._others(answer))

    def _others(self, person: Annotation) -> np.ndarray | None:
        """bool (H, W); None where it is not known, or the person (by the box) is not among everybody."""
        same = [other.mask for other in self._people if other.box == person.box and other.mask is not None]
        if self._covering is None or not same:
            return None
        return self._covering > (same[0] if len(same) == 1 else _count(same, self._size))


def _count(masks: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """uint16 (H, W): how many of the masks cover each pixel."""
    covering = np.zeros(size, np.uint16).T  # laid out by columns, as decoded masks are, which is faster
    for mask in masks:
        covering += mask
    return covering
