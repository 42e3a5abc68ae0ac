"""Changes that picture, words and labels take part in together: mirror, crop, colour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..errors import RefHCMError
from .annotation import KEYPOINT_NAMES, PART_NAMES, Annotation, Box, Question

Pair = tuple[Question, Annotation]
"""A question and its right answer."""


def _other_side(name: str) -> str:
    return name.replace("left", "\0").replace("right", "left").replace("\0", "right")


FLIPPED_KEYPOINTS = tuple(KEYPOINT_NAMES.index(_other_side(name)) for name in KEYPOINT_NAMES)
"""Where each keypoint of a mirrored person comes from: 0 2 1 4 3 6 5 ..."""
FLIPPED_PARTS = np.arange(256, dtype=np.uint8)
"""Class of a part map -> its class in the mirror; 255 (ignore) stays."""
FLIPPED_PARTS[: len(PART_NAMES)] = [PART_NAMES.index(_other_side(name)) for name in PART_NAMES]

_SIDE = re.compile(r"(?<![a-z])(left|right)(?=$|[^a-z]|most|ward|side|hand|er\b|est\b|ish\b|y\b|ie\b)", re.IGNORECASE)
_SHORT_SIDE = re.compile(r"(?<![a-z0-9'])(lft|rt|rght|l|r)(?![a-z0-9'])", re.IGNORECASE)
_SHORT = {"lft": "rt", "rt": "lft", "rght": "lft", "l": "r", "r": "l"}
_EXACTLY = re.compile(
    r"(?<![a-z])(?:(?P<before>[a-z]+)\s+)?(?P<right>right)\s+"
    r"(?:behind|next|in\s+(?:front|the\s+(?:middle|cent(?:er|re)|front))|above|below|beneath|under|underneath|beside|by"
    r"|before|after|between|there|here|now|away|against|beyond|opposite|up|down|on\s+top)\b",
    re.IGNORECASE,
)
"""Here "right" means exactly, not a side, unless one of `_SIDED` stands before it."""
_SIDED = frozenset({
    "on", "to", "at", "of", "from", "in", "the", "a", "far", "very", "top", "bottom", "upper", "lower", "back", "front",
    "middle", "center", "centre", "most", "extreme",
})  # fmt: skip
"""Words before which a following "right" is a side, as in "on right behind the bench" or "the right by the tree"."""


def swap_sides(text: str) -> str:
    """Words with left and right exchanged, capitals kept, also inside "leftmost" or "left_eye", and for
    "lft", "rt".

    "bright", "upright" and "right behind" are left alone; "right-handed" becomes "left-handed", as it looks in the
    mirror. Words are all that is known here: whoever "left" comes out as having "right".
    """
    exact = [
        match.start("right") for match in _EXACTLY.finditer(text) if (match["before"] or "").lower() not in _SIDED
    ]

    def swapped(match: re.Match) -> str:
        if match.start() in exact:
            return match[0]
        return _with_case(match[0], "right" if match[0].lower() == "left" else "left")

    text = _SIDE.sub(swapped, text)
    return _SHORT_SIDE.sub(lambda match: _with_case(match[0], _SHORT[match[0].lower()]), text)


def _with_case(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def flip(pair: Pair) -> Pair:
    """A question and its answer for the mirrored picture.

    Boxes go to (W - x2, W - x1). Keypoints and points are pixel indices, as COCO's, so x goes to W - 1 - x (0 at
    least), and left and right joints and part classes change places. Codes become None: a part map must be written
    anew to have codes again, so whoever trains on codes must not mirror (`SampleDataset` does not).
    """
    question, answer = pair
    width = question.size[0]
    text = None if question.text is None else swap_sides(question.text)
    points = tuple(tuple((max(width - 1 - x, 0.0), y) for x, y in mark) for mark in question.points)
    flipped = replace(question, text=text, region=_flip_box(question.region, width), points=points)
    return flipped, _flip_answer(answer, width)


def _flip_answer(answer: Annotation, width: int) -> Annotation:
    keypoints = parts = None
    if answer.keypoints is not None:
        keypoints = answer.keypoints[list(FLIPPED_KEYPOINTS)].copy()
        keypoints[:, 0] = np.where(keypoints[:, 2] > 0, np.maximum(width - 1 - keypoints[:, 0], 0), 0)
    if answer.parts is not None:
        parts = FLIPPED_PARTS[answer.parts[:, ::-1]]
    return replace(
        answer,
        box=_flip_box(answer.box, width),
        keypoints=keypoints,
        codes=None,
        parts=parts,
        captions=tuple(swap_sides(caption) for caption in answer.captions),
        mask=None if answer.mask is None else answer.mask[:, ::-1],
        others=None if answer.others is None else answer.others[:, ::-1],
        people=None if answer.people is None else tuple(_flip_answer(person, width) for person in answer.people),
    )


def _flip_box(box: Box | None, width: int) -> Box | None:
    return None if box is None else (width - box[2], box[1], width - box[0], box[3])


def crop(pair: Pair, frame: tuple[int, int], window: tuple[int, int, int, int]) -> Pair:
    """A question and its answer for a window of the picture.

    `frame` is the (width, height) at which the picture was decoded (labels may be in a larger one), `window`
    is left, top, width, height in pixels of the frame, which become the pixels of the new picture; it may reach beyond
    the frame, where nothing is. Boxes are cut at its edges; keypoints outside become unlabelled, and points move to the
    edge. Codes, which describe the person's own box, and the segment area stay known while the box is whole; with a
    mask the area is counted anew.
    """
    question, answer = pair
    scale = (frame[0] / question.size[0], frame[1] / question.size[1])
    region = _crop_box(question.region, scale, window)
    left, top, width, height = window
    points = tuple(
        tuple((min(max(x * scale[0] - left, 0), width), min(max(y * scale[1] - top, 0), height)) for x, y in mark)
        for mark in question.points
    )
    moved = replace(question, size=(width, height), region=region, points=points)
    return moved, _crop_answer(answer, scale, window)


def _crop_box(box: Box | None, scale: tuple[float, float], window: tuple[int, int, int, int]) -> Box | None:
    if box is None:
        return None
    left, top, width, height = window
    places = (np.array(box).reshape(2, 2) * scale - (left, top)).clip(0, [width, height])
    return tuple(places.ravel().tolist())


def _crop_answer(answer: Annotation, scale: tuple[float, float], window: tuple[int, int, int, int]) -> Annotation:
    left, top, width, height = window
    keypoints = None
    if answer.keypoints is not None:
        keypoints = answer.keypoints.copy()
        keypoints[:, :2] = keypoints[:, :2] * scale - (left, top)
        outside = np.any((keypoints[:, :2] < 0) | (keypoints[:, :2] > [width, height]), axis=1)
        keypoints[outside | (keypoints[:, 2] == 0)] = 0
    mask = None if answer.mask is None else _crop_map(answer.mask, scale, window)
    area = None if answer.area is None else answer.area * scale[0] * scale[1]
    people, whole = answer.people, _is_whole(answer, scale, window)
    return replace(
        answer,
        size=(width, height),
        box=_crop_box(answer.box, scale, window),
        keypoints=keypoints,
        codes=answer.codes if whole else None,
        parts=None if answer.parts is None else _crop_map(answer.parts, scale, window),
        mask=mask,
        area=float(mask.sum()) if mask is not None else area if whole else None,
        others=None if answer.others is None else _crop_map(answer.others, scale, window),
        people=None if people is None else tuple(_crop_answer(person, scale, window) for person in people),
    )


def _crop_map(labels: np.ndarray, scale: tuple[float, float], window: tuple[int, int, int, int]) -> np.ndarray:
    """Labels (H, W) of the window, nearest neighbour; 0 beyond the picture."""
    left, top, width, height = window
    rows = np.floor((np.arange(height) + top + 0.5) / scale[1]).astype(int)
    columns = np.floor((np.arange(width) + left + 0.5) / scale[0]).astype(int)
    inside = ((rows >= 0) & (rows < labels.shape[0]))[:, None] & (columns >= 0) & (columns < labels.shape[1])
    return np.where(inside, labels.take(rows, 0, mode="clip").take(columns, 1, mode="clip"), labels.dtype.type(0))


def _is_whole(answer: Annotation, scale: tuple[float, float], window: tuple[int, int, int, int]) -> bool:
    """Whether what a person's box holds of the picture lies in the window, to a hundredth of a pixel."""
    if answer.box is None:
        return True
    edges = np.array(answer.box).reshape(2, 2).clip(0, answer.size) * scale - window[:2]
    return bool((edges >= -0.01).all() and (edges <= np.array(window[2:]) + 0.01).all())


MIN_SHRINK = 0.1
_CANVAS = (127, 127, 127)
"""Middle grey, which the model sees as next to nothing."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes for training; all off by default.

    `flip` is the chance of mirroring. With `zoom` below 1 each side of the picture is cut to a random share
    of at least `zoom`, never through the box or the keypoints of a person that is asked for. With `shrink` below 1 it
    then takes up a random share of at least `shrink` of each side of a grey canvas, anywhere on it. `colour` is the
    greatest relative change of brightness, contrast and saturation.

    Words that count or compare ("third from the left") may cease to be true where `zoom` cuts other people off.
    """

    flip: float = 0.0
    zoom: float = 1.0
    colour: float = 0.0
    shrink: float = 1.0

    def __post_init__(self) -> None:
        shares = 0 < self.zoom <= 1 and MIN_SHRINK <= self.shrink <= 1
        if not (0 <= self.flip <= 1 and shares and 0 <= self.colour < 1):
            raise RefHCMError(
                "Augmentation: flip is a chance (0 to 1), zoom a share (above 0 to 1), shrink a share "
                f"({MIN_SHRINK:g} to 1), colour 0 to below 1."
            )

    @property
    def active(self) -> bool:
        """Whether anything can change."""
        return self.flip > 0 or self.zoom < 1 or self.shrink < 1 or self.colour > 0

    def __call__(
        self, pairs: Sequence[Pair], image: Image.Image, random: np.random.Generator, flippable: bool = True
    ) -> tuple[list[Pair], Image.Image]:
        """Mirror, crop and shrink (colour comes after resampling: `jitter`). `flippable` forbids mirroring when
        False."""
        pairs = list(pairs)
        if self.flip and flippable and random.random() < self.flip:
            pairs, image = [flip(pair) for pair in pairs], image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.zoom < 1:
            window = self._window(pairs, image.size, random)
            pairs = [crop(pair, image.size, window) for pair in pairs]
            left, top, width, height = window
            image = image.crop((left, top, left + width, top + height))
        if self.shrink < 1:
            window = self._canvas(image.size, random)
            pairs = [crop(pair, image.size, window) for pair in pairs]
            canvas = Image.new("RGB", window[2:], _CANVAS)
            canvas.paste(image, (-window[0], -window[1]))
            image = canvas
        return pairs, image

    def _canvas(self, frame: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
        """Left, top (0 or less), width, height of a canvas around the frame, in its pixels."""
        (left, width), (top, height) = (
            (-int(random.integers(0, side - full + 1)), side)
            for full in frame
            for side in [round(full / random.uniform(self.shrink, 1))]
        )
        return left, top, width, height

    def _window(
        self, pairs: Sequence[Pair], frame: tuple[int, int], random: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Left, top, width, height in pixels of the frame."""
        spans = []
        for axis, full in enumerate(frame):
            low, high = _extent(pairs, axis)
            low, high = max(0, int(np.floor(low * full))), min(full, int(np.ceil(high * full)))
            length = max(round(full * random.uniform(self.zoom, 1)), high - low, 1)
            begin = int(random.integers(max(0, high - length), min(low, full - length) + 1))
            spans.append((begin, length))
        (left, width), (top, height) = spans
        return left, top, width, height


def _extent(pairs: Sequence[Pair], axis: int) -> tuple[float, float]:
    """From where to where the persons reach along an axis, as fractions of the side, within 0 .. 1."""
    places: list[float] = []
    for question, answer in pairs:
        side = question.size[axis]
        people = (answer,) if answer.people is None else answer.people
        for box in (question.region, *(person.box for person in people)):
            places += [] if box is None else [box[axis] / side, box[axis + 2] / side]
        marks = [point[axis] for mark in question.points for point in mark]
        for person in people:
            if person.keypoints is not None:
                marks += person.keypoints[person.keypoints[:, 2] > 0, axis].tolist()
        places += [(mark + pixel) / side for mark in marks for pixel in (0, 1)]  # they are whole pixels
    return (min(max(min(places, default=0.5), 0), 1), max(min(max(places, default=0.5), 1), 0))


_GREY = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601 luma."""


def jitter(image: Image.Image, random: np.random.Generator, strength: float) -> Image.Image:
    """An RGB picture with brightness, contrast (about middle grey) and saturation each changed by up to
    `strength`."""
    if not strength:
        return image
    brightness, contrast, saturation = 1 + random.uniform(-strength, strength, 3)
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY  # rows give the new red, green, blue
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * mix
    matrix[:, 3] = 127.5 * (1 - contrast)
    return image.convert("RGB", tuple(matrix.ravel()))
