"""People to train a label-map tokenizer on, and the crops that training draws of them.

They come from dataset files or from a bank of cut-out people, as part maps or as three-way masks (`MASK_NAMES`), and
are mirrored and partly hidden as in real pictures. Around the person of a three-way mask stand other people, and the
region that is cut out need not be the person's box.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.annotation import OTHERS, PART_NAMES, PERSON, Box
from ..data.dataset import LAYOUTS, ReferringDataset
from ..data.masks import extent
from ..data.transforms import FLIPPED_PARTS
from ..errors import RefHCMError
from .label_map_paste import crop_part_map

KEPT_SIDE = 192
"""People to train on are kept at this height or width at most: twice or thrice what our tokenizers see."""
_JITTER = 0.03  # of the box's sides
_LOOSE = 0.2  # the same, where somebody drew a region by hand
_AROUND = 0.25  # of a person's sides: what is kept beyond them, for regions to reach into
_KEPT_SHARE = 0.15  # of a person's pixels must stay visible


class LabelledPeople:
    """The people of a dataset file whose label map is known: `people[row]` is that map and the person's box.

    The map is a part map (uint8 [H, W], the picture's size, 255 where it does not count), or with `masks` a three-way
    mask, of run lengths where the row has them and else of the part map. `rows` (int64) are the numbers of their rows;
    rows of our own kind that know no map of exactly one person are passed over. `kind` is a layout of
    `data.dataset.LAYOUTS`; the codes may be missing. BadRow, naming file and line, for a row whose map or box cannot be
    used.
    """

    def __init__(self, path: str | Path, kind: str, masks: bool = False) -> None:
        columns = {name: column for name, column in LAYOUTS[kind].items() if name != "codes"}
        self.data = ReferringDataset(path, kind, columns=columns, parts=True, masks=masks, draft=KEPT_SIDE)
        self.masks = masks
        self.rows = self.data.usable(["parts"])
        self._masked: set[int] = set()
        if masks:
            masked = self.data.usable(["mask"])
            self.rows, self._masked = np.union1d(self.rows, masked), set(masked.tolist())

    def __getitem__(self, row: int) -> tuple[np.ndarray, Box]:
        _, answer, _ = self.data.with_parts(row not in self._masked)[row]
        person = answer.mask if row in self._masked else answer.parts
        if person is None or answer.box is None:
            raise self.data.file.bad(row, f"there is no {'mask' if self.masks else 'part map'} or no box.")
        return three_way(person, answer.others) if self.masks else person, answer.box

    def different(self, limit: int | None = None) -> list[int]:
        """The first row of each person (several may ask about one), or `limit` of them, evenly spread."""
        fields = [name for name in ("mask", "parts", "box") if name in self.data.file.columns]
        first = {tuple(self.data.file.head(int(row), fields).values()): int(row) for row in reversed(self.rows)}
        rows = sorted(first.values())
        if limit is not None and limit < len(rows):
            rows = [rows[number * len(rows) // limit] for number in range(limit)]
        return rows


def read_rows(
    paths: Sequence[str | Path], limit: int | None = None, kind: str = "rpar", masks: bool = False,
    kept: int | None = KEPT_SIDE,
) -> list[np.ndarray]:
    """The person of every row of dataset files (see `LabelledPeople`): uint8 [h, w], cut to the box, three-way masks
    with something around it.

    At most `limit` rows per file, drawn at random, and `kept` pixels in height or width. Raises RefHCMError naming file
    and line for a row without a usable label map or box.
    """
    people = []
    for path in paths:
        file = LabelledPeople(path, kind, masks)
        for number in _some(len(file.rows), limit):
            row = int(file.rows[number])
            labels, box = file[row]
            x1, y1, x2, y2 = box
            if x2 - x1 < 1 or y2 - y1 < 1:
                raise file.data.file.bad(row, "the box is less than a pixel wide or high.")
            around = moved(box, (-_AROUND, -_AROUND, _AROUND, _AROUND)) if masks else box
            people.append(_shrunk(classes_only(labels), around, kept))
    return people


def read_bank(
    folder: str | Path, limit: int | None = None, masks: bool = False
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The people of a bank of cut-outs, as `read_rows`: those to train on, and those of held-out outfits (at the size
    that they have in the bank, to measure on)."""
    from ..data.scenes.bank import Bank
    from ..data.scenes.splits import outfit_split

    bank = Bank(folder)
    train: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for index in _some(len(bank), limit):
        cutout = bank[index]
        labels = three_way(cutout.parts) if masks else classes_only(cutout.parts)
        box = extent(labels)
        if box is not None and outfit_split(cutout.attributes) == "train":
            train.append(_shrunk(labels, box))
        elif box is not None:
            held_out.append(_shrunk(labels, box, None))
    return train, held_out


def classes_only(parts: np.ndarray) -> np.ndarray:
    """A part map whose pixels to be ignored (255) are background: a crop has to say something everywhere."""
    return np.where(parts < len(PART_NAMES), parts, 0).astype(np.uint8)


def three_way(person: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """uint8 [H, W] of `MASK_NAMES`: the person where `person` (a mask or a part map) is not 0, 255 aside; other people
    where `others` is not 0 and the person is not."""
    labels = ((person != 0) & (person != 255)).astype(np.uint8) * np.uint8(PERSON)
    if others is not None:
        labels[(others != 0) & (labels == 0)] = OTHERS
    return labels


def read_people(
    sources: Sequence[str | Path], kind: str, masks: bool = False, limit: int | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """People of dataset files and of banks (folders), as `read_rows` and `read_bank` give them: those to train on, and
    the banks' held-out ones. RefHCMError where nobody is left to train on."""
    train, held_out = [], []
    for source in sources:
        if Path(source).is_dir():
            more = read_bank(source, limit, masks)
        else:
            more = read_rows([source], limit, kind, masks), []
        train += more[0]
        held_out += more[1]
    if not train:
        raise RefHCMError("nobody is left to train on: give more files or a larger bank.")
    return train, held_out


# -- crops ---------------------------------------------------------------------------------------------------------
def draw_many(
    people: Sequence[np.ndarray],
    rng: np.random.Generator,
    size: tuple[int, int],
    occlude: float,
    count: int,
    masks: bool = False,
) -> np.ndarray:
    """`count` crops of `draw`, or with `masks` of `draw_mask`: uint8 [count, height, width]."""
    one = draw_mask if masks else draw
    return np.stack([one(people, rng, size, occlude) for _ in range(count)])


def draw(
    people: Sequence[np.ndarray], rng: np.random.Generator, size: tuple[int, int], occlude: float = 0.0
) -> np.ndarray:
    """One training crop of a part map, uint8 [height, width]: a random person, mirrored half of the time.

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
    return crop_part_map(person, moved(_extent(person), rng.uniform(-_JITTER, _JITTER, 4)), size)


def draw_mask(
    people: Sequence[np.ndarray], rng: np.random.Generator, size: tuple[int, int], occlude: float = 0.0
) -> np.ndarray:
    """One training crop of a three-way mask, uint8 [height, width]: what `surround` gives, cut out."""
    return crop_part_map(*surround(people, rng, occlude), size)


def only_person(labels: np.ndarray) -> tuple[np.ndarray, Box]:
    """A three-way mask without the other people, as where only the person is asked about, and the person's box."""
    person = (labels == PERSON).astype(np.uint8)
    return person, _extent(person)


def region_only(labels: np.ndarray, region: Box) -> tuple[np.ndarray, Box]:
    """A region of a label map at the size that it has there (in whole pixels), as a map of its own, and all of that."""
    wide, high = max(1, round(region[2] - region[0])), max(1, round(region[3] - region[1]))
    return crop_part_map(labels, region, (high, wide)), (0.0, 0.0, float(wide), float(high))


def surround(
    people: Sequence[np.ndarray], rng: np.random.Generator, occlude: float = 0.0
) -> tuple[np.ndarray, Box]:
    """A three-way mask [H, W] of a random person among others, and the region that is asked about.

    `people` are three-way masks too. Up to three others stand behind the person, or in front of it (with probability
    `occlude` each); with that probability the frame or an object hides a part as well. In two fifths of the masks the
    others are left out, as where only the person is asked about. Half of the regions are boxes around what is seen of
    the person, off by a few per cent; the rest are drawn loosely, or around a part of the person.
    """
    labels = _mirrored(people, rng)
    height, width = labels.shape
    labels = np.pad(labels, [(int(_AROUND * side) + 1,) * 2 for side in (height, width)])
    box = _extent(labels == PERSON)
    for _ in range(rng.choice(4, p=(0.35, 0.35, 0.2, 0.1))):
        there = _someone(_mirrored(people, rng), box, labels.shape, rng) == PERSON
        in_front = rng.random() < occlude
        labels = _if_seen(labels, np.where(there & (in_front | (labels == 0)), OTHERS, labels))
    if rng.random() < occlude:
        cut = labels.copy()
        (_cut_off if rng.random() < 0.7 else _cover)(cut, box, rng)
        labels = _if_seen(labels, cut)
    if rng.random() < 0.4:
        labels = np.where(labels == OTHERS, 0, labels)
    return labels.astype(np.uint8), _region(_extent(labels == PERSON), rng)


def _region(box: Box, rng: np.random.Generator) -> Box:
    """What somebody marks who means the person in the box."""
    kind = rng.random()
    if kind < 0.5:
        return moved(box, rng.uniform(-_JITTER, _JITTER, 4))
    if kind < 0.85:
        return moved(box, rng.uniform(-_LOOSE, _LOOSE, 4))
    inwards = np.array([1, 1, -1, -1])
    shares = rng.uniform(-_JITTER, _JITTER, 4)
    shares[int(rng.integers(4))] = rng.uniform(_LOOSE, 0.6)
    return moved(box, shares * inwards)


def _mirrored(people: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    person = people[int(rng.integers(len(people)))]
    return person[:, ::-1] if rng.random() < 0.5 else person


def _if_seen(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The three-way mask `after`, unless too little is left there of the person."""
    enough = (after == PERSON).sum() > _KEPT_SHARE * (before == PERSON).sum()
    return after if enough else before


def _hide(person: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of the person of which one side, a rectangle or another person's outline is background."""
    hidden = person.copy()
    box = (0.0, 0.0, float(person.shape[1]), float(person.shape[0]))
    kind = rng.random()
    if kind < 0.4:
        _cut_off(hidden, box, rng)
    elif kind < 0.6:
        _cover(hidden, box, rng)
    else:
        hidden[_someone(other, box, person.shape, rng) > 0] = 0
    return hidden


def _cut_off(labels: np.ndarray, box: Box, rng: np.random.Generator) -> None:
    """End the picture inside the box of a person; mostly from below."""
    x1, y1, x2, y2 = map(int, box)
    side = rng.choice(4, p=(0.55, 0.05, 0.2, 0.2))
    share = rng.uniform(0.1, 0.6)
    rows, columns = int(share * (y2 - y1)), int(share * (x2 - x1))
    labels[(np.s_[y2 - rows :], np.s_[: y1 + rows], np.s_[:, : x1 + columns], np.s_[:, x2 - columns :])[side]] = 0


def _cover(labels: np.ndarray, box: Box, rng: np.random.Generator) -> None:
    """Put an object in front of a person."""
    x1, y1, x2, y2 = map(int, box)
    height, width = y2 - y1, x2 - x1
    top, left = y1 + rng.integers(height), x1 + rng.integers(width)
    high, wide = int(rng.uniform(0.1, 0.5) * height), int(rng.uniform(0.2, 0.8) * width)
    labels[top : top + high, left : left + wide] = 0


def _someone(other: np.ndarray, box: Box, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The labels of `other`, about as large as the person in the box and near it, in an array of that shape."""
    x1, y1, x2, y2 = box
    scale = other.shape[0] / ((y2 - y1) * rng.uniform(0.7, 1.4))
    left, top = x1 + rng.uniform(-0.8, 0.8) * (x2 - x1), y1 + rng.uniform(-0.2, 0.5) * (y2 - y1)
    window = (-left * scale, -top * scale, (shape[1] - left) * scale, (shape[0] - top) * scale)
    return crop_part_map(other, window, (shape[0], shape[1]))


def _extent(labels: np.ndarray) -> Box:
    """The box around everything that is not background; the whole map if there is nothing."""
    return extent(labels) or (0.0, 0.0, float(labels.shape[1]), float(labels.shape[0]))


def moved(box: Sequence[float], shares: Sequence[float] | np.ndarray) -> Box:
    """The box with each side moved, by shares of its width or height; to the right and downwards where positive."""
    wide, high = box[2] - box[0], box[3] - box[1]
    x1, y1, x2, y2 = (float(side + share * by) for side, share, by in zip(box, shares, (wide, high) * 2, strict=True))
    return x1, y1, x2, y2


def _shrunk(labels: np.ndarray, box: Sequence[float], kept: int | None = KEPT_SIDE) -> np.ndarray:
    wide, high = box[2] - box[0], box[3] - box[1]
    scale = 1.0 if kept is None else min(1.0, kept / max(wide, high))
    return crop_part_map(labels, box, (max(1, round(high * scale)), max(1, round(wide * scale))))


def _some(count: int, limit: int | None) -> Sequence[int]:
    if count == 0:
        raise RefHCMError("there are no people to train on: the file or bank is empty")
    if limit is None or limit >= count:
        return range(count)
    return sorted(random.Random(0).sample(range(count), limit))
