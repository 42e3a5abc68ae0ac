"""What is where in a region: background, the person it is about, other people; and many such regions put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..data.annotation import MASK_NAMES, PERSON, Box
from ..errors import RefHCMError
from ..models.label_map_paste import paste_probability, paste_three_way

if TYPE_CHECKING:
    from .answer import Answer

SMALL = (56, 56)
"""Height and width that a map has unless another size is asked for."""
MOST_CELLS = 100_000_000
WAYS = ("maximum", "average", "score")
LIKELY = 0.5
"""A pixel that is more likely a person's than this is that person's."""


@dataclass(frozen=True, eq=False)
class RegionMap:
    """The three-way map of one region of a picture."""

    box: Box
    """The region, x1, y1, x2, y2 in pixels of the picture: as it was asked with, or else the answer's box."""
    size: tuple[int, int]
    """Width and height of the picture."""
    logits: np.ndarray
    """float32 (3, h, w): the model's scores of `refhcm.data.annotation.MASK_NAMES` over the region, h and w being those
    of its mask tokenizer."""

    def labels(self, size: tuple[int, int] | None = SMALL) -> np.ndarray:
        """uint8 (height, width): 0 background, 1 the person, 2 other people.

        size: (height, width) of a grid laid over the region, each of whose cells has the class of the place under its
        centre; None: the region's own pixels, those of `window`.
        """
        if size is None:
            return self._cut(self.paste())
        box, size = _grid(size)
        return paste_three_way(torch.from_numpy(self.logits), box, size)

    def probability(self, size: tuple[int, int] | None = SMALL, label: int = PERSON) -> np.ndarray:
        """float32 (height, width): how likely each place is of the class `label`; `size` as for `labels`.

        The person is where this is above 0.5, as in `labels`.
        """
        if size is None:
            return self._cut(self.paste_probability(label))
        box, size = _grid(size)
        return paste_probability(torch.from_numpy(self.logits), box, size, _class(label))

    def paste(self) -> np.ndarray:
        """The labels in the picture, uint8 (H, W): background outside the region."""
        return paste_three_way(torch.from_numpy(self.logits), self.box, self.size[::-1])

    def paste_probability(self, label: int = PERSON) -> np.ndarray:
        """The probability of a class in the picture, float32 (H, W): 0 outside the region."""
        return paste_probability(torch.from_numpy(self.logits), self.box, self.size[::-1], _class(label))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the picture whose centres lie in the region; of one thinner than a pixel maybe none."""
        x1, y1, x2, y2 = (max(0, int(np.ceil(side - 0.5))) for side in self.box)
        return slice(y1, y2), slice(x1, x2)

    def _cut(self, pasted: np.ndarray) -> np.ndarray:
        return pasted[self.window].copy()


class Combined(NamedTuple):
    """Many regions of one picture as one; see `combine`."""

    probability: np.ndarray
    """float32 (H, W): how likely each pixel is a person who was asked about."""
    owner: np.ndarray
    """int32 (H, W): which answer, by its place in the list, each pixel belongs to; -1 where none."""


def combine(answers: Sequence[Answer], how: str = "maximum") -> Combined:
    """Put the region maps of many answers about one picture together, overlapping or not.

    p(i) is how likely answer i says a pixel is its person, in the pixels whose centres lie in its region.

    Args:
        answers: Of one picture, each asked with "region_map"; those that found nobody are passed over.
        how: "maximum": the probability is the greatest p(i), and its answer the owner.
            "average": it is the mean of the p(i) of all regions that the pixel lies in; the greatest is the owner.
            "score": the answers claim pixels one after the other, the greatest `Answer.score` first: the first whose
            p(i) is above 0.5 is the owner, and p(i) the probability; where nobody's is, it is the greatest.

    Of equal answers the earlier counts first. Where the probability is not above 0.5 nobody is the owner, and where no
    region lies, it is 0. RefHCMError for answers without region maps or of different pictures.
    """
    if how not in WAYS:
        raise RefHCMError(f"Region maps are combined by {', '.join(WAYS)}, not by {how!r}.")
    size = _common_size(answers)
    best, owner = np.zeros(size, np.float32), np.full(size, -1, np.int32)
    total, count = (np.zeros(size, np.float32), np.zeros(size, np.int32)) if how == "average" else (None, None)
    order = list(range(len(answers)))
    if how == "score":
        order.sort(key=lambda index: -answers[index].score)
    for index in order:
        found = answers[index].region_map
        if found is None:
            continue
        place = found.window
        chance = found.probability(None)
        taken = chance > best[place]
        if how == "score":
            taken &= best[place] <= LIKELY
        best[place][taken] = chance[taken]
        owner[place][taken] = index
        if total is not None and count is not None:
            total[place] += chance
            count[place] += 1
    probability = best if total is None or count is None else total / np.maximum(count, 1, dtype=np.float32)
    owner[probability <= LIKELY] = -1
    return Combined(probability, owner)


def _common_size(answers: Sequence[Answer]) -> tuple[int, int]:
    """Height and width of the picture that all answers are about."""
    if not isinstance(answers, Sequence):
        raise RefHCMError("Region maps are combined from a list of answers, such as `many` gives.")
    sizes = {tuple(answer.size) for answer in answers}
    if not sizes:
        raise RefHCMError("There are no answers to combine: give at least one.")
    if len(sizes) > 1:
        raise RefHCMError("The answers are about pictures of different sizes: combine those of one picture.")
    for number, answer in enumerate(answers):
        if answer.present and answer.region_map is None:
            raise RefHCMError(f"Answer {number} has no region map: ask with the task 'region_map'.")
    width, height = answers[0].size
    return height, width


def _grid(size: tuple[int, int]) -> tuple[Box, tuple[int, int]]:
    """A box of that size whose pixels are the cells of the grid."""
    try:
        height, width = (int(side) for side in size)
        good = (height, width) == tuple(size) and min(height, width) >= 1 and height * width <= MOST_CELLS
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise RefHCMError(f"The size of a region map is (height, width) in cells, at least 1 each, not {size!r}.")
    return (0.0, 0.0, float(width), float(height)), (height, width)


def _class(label: int) -> int:
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < len(MASK_NAMES):
        raise RefHCMError(f"The classes of a region map are 0 to {len(MASK_NAMES) - 1}, not {label!r}.")
    return int(label)
