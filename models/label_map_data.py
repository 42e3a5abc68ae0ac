"""Part maps of single people, to train the label-map tokenizer on.

They come from rpar.tsv files or from a bank of cut-out people, and are mirrored and partly hidden as in real
pictures.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.annotation import PART_NAMES, Box
from ..data.dataset import LAYOUTS, ReferringDataset
from ..data.transforms import FLIPPED_PARTS
from ..errors import RefHCMError
from .label_map_paste import crop_part_map

KEPT_SIDE = 192
"""People are kept at this height or width at most: three times what the compact tokenizer sees."""
_JITTER = 0.03  # of the box's sides
_KEPT_SHARE = 0.15  # of a person's pixels must stay visible


def read_rows(paths: Sequence[str | Path], limit: int | None = None, kind: str = "rpar") -> list[np.ndarray]:
    """The person of every row of dataset files (the codes may be missing): uint8 [h, w], cut to the box.

    `kind` is a layout of `data.dataset.LAYOUTS` with part maps; rows of our own kind without one are passed over. At
    most `limit` rows per file, drawn at random. Raises RefHCMError naming file and line for a row without a usable part
    map or box.
    """
    columns = {name: column for name, column in LAYOUTS[kind].items() if name != "codes"}
    people = []
    for path in paths:
        data = ReferringDataset(path, kind, columns=columns, parts=True, draft=KEPT_SIDE)
        rows = data.usable(["parts"])
        for number in _some(len(rows), limit):
            row = int(rows[number])
            parts, box = labelled(data, row)
            x1, y1, x2, y2 = box
            if x2 - x1 < 1 or y2 - y1 < 1:
                raise data.file.bad(row, "the box is less than a pixel wide or high.")
            people.append(_shrunk(parts, box))
    return people


def labelled(data: ReferringDataset, row: int) -> tuple[np.ndarray, Box]:
    """The part map of a row, as `classes_only` leaves it, and its box; BadRow where there is none."""
    _, answer, _ = data[row]
    if answer.parts is None or answer.box is None:
        raise data.file.bad(row, "there is no part map or no box.")
    return classes_only(answer.parts), answer.box


def read_bank(folder: str | Path, limit: int | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The people of a bank of cut-outs, as `read_rows`: those to train on, and those of held-out outfits."""
    from ..data.scenes.bank import Bank
    from ..data.scenes.splits import outfit_split

    bank = Bank(folder)
    train: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for index in _some(len(bank), limit):
        cutout = bank[index]
        parts = classes_only(cutout.parts)
        if parts.any():
            kept = train if outfit_split(cutout.attributes) == "train" else held_out
            kept.append(_shrunk(parts, _extent(parts)))
    return train, held_out


def draw(
    people: Sequence[np.ndarray], rng: np.random.Generator, size: tuple[int, int], occlude: float = 0.0
) -> np.ndarray:
    """One training crop, uint8 [height, width]: a random person, mirrored half of the time.

    With probability `occlude` part of the person is hidden: beyond the frame, behind an object or behind
    someone else. The box follows what is left and is off by a few per cent.
    """
    person = people[int(rng.integers(len(people)))]
    if rng.random() < 0.5:
        person = FLIPPED_PARTS[person[:, ::-1]]
    if rng.random() < occlude:
        hidden = _hide(person, people[int(rng.integers(len(people)))], rng)
        if (hidden > 0).sum() > _KEPT_SHARE * (person > 0).sum():
            person = hidden
    x1, y1, x2, y2 = _extent(person)
    shift = rng.uniform(-_JITTER, _JITTER, 4)
    wide, high = x2 - x1, y2 - y1
    box = (x1 + shift[0] * wide, y1 + shift[1] * high, x2 + shift[2] * wide, y2 + shift[3] * high)
    return crop_part_map(person, box, size)


def draw_many(
    people: Sequence[np.ndarray],
    rng: np.random.Generator,
    size: tuple[int, int],
    occlude: float,
    count: int,
) -> np.ndarray:
    """`count` crops of `draw`: uint8 [count, height, width]."""
    return np.stack([draw(people, rng, size, occlude) for _ in range(count)])


def classes_only(parts: np.ndarray) -> np.ndarray:
    """A part map whose pixels to be ignored (255) are background: a crop has to say something everywhere."""
    return np.where(parts < len(PART_NAMES), parts, 0).astype(np.uint8)


def _hide(person: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of the person of which one side, a rectangle or another person's outline is background."""
    hidden = person.copy()
    height, width = person.shape
    kind = rng.random()
    if kind < 0.4:  # the frame; mostly from below
        side = rng.choice(4, p=(0.55, 0.05, 0.2, 0.2))
        share = rng.uniform(0.1, 0.6)
        rows, columns = int(share * height), int(share * width)
        cut = (np.s_[height - rows :], np.s_[:rows], np.s_[:, :columns], np.s_[:, width - columns :])[side]
        hidden[cut] = 0
    elif kind < 0.6:  # an object
        top, left = rng.integers(height), rng.integers(width)
        high, wide = int(rng.uniform(0.1, 0.5) * height), int(rng.uniform(0.2, 0.8) * width)
        hidden[top : top + high, left : left + wide] = 0
    else:  # someone in front: the window of `other` that lies over this person
        scale = other.shape[0] / (height * rng.uniform(0.7, 1.4))
        left, top = rng.uniform(-0.8, 0.8) * width, rng.uniform(-0.2, 0.5) * height
        window = (-left * scale, -top * scale, (width - left) * scale, (height - top) * scale)
        hidden[crop_part_map(other, window, (height, width)) > 0] = 0
    return hidden


def _extent(parts: np.ndarray) -> tuple[float, float, float, float]:
    """The box around everything that is not background; the whole map if there is nothing."""
    rows, columns = np.flatnonzero(parts.any(axis=1)), np.flatnonzero(parts.any(axis=0))
    if not len(rows):
        return 0.0, 0.0, float(parts.shape[1]), float(parts.shape[0])
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _shrunk(parts: np.ndarray, box: Sequence[float]) -> np.ndarray:
    wide, high = box[2] - box[0], box[3] - box[1]
    scale = min(1.0, KEPT_SIDE / max(wide, high))
    return crop_part_map(parts, box, (max(1, round(high * scale)), max(1, round(wide * scale))))


def _some(count: int, limit: int | None) -> Sequence[int]:
    if count == 0:
        raise RefHCMError("there are no people to train on: the file or bank is empty")
    if limit is None or limit >= count:
        return range(count)
    return sorted(random.Random(0).sample(range(count), limit))
