"""One answer beside the truth as one line of JSON: all that figures are computed from, without model or data.

    row, id, image_id   which row of the dataset file (from 0), its id, its picture's id where the file has one
    task, size, text | region      what was asked about a picture of size (width, height)
    tokens, score       the answer as decoded, and a ranking score of it
    box, box_score, keypoints (17 times x, y, score), codes, caption      what it says, in pixels of the picture
    parts               the part map: number of the class -> COCO's compressed run lengths (background left out)
    part_pixels, published_pixels, ceiling_pixels    [true class, answered class, pixels]: of the answer; of the answer
                        counted as published; of the true part map encoded and decoded, the best that could be answered
    people              box and box_score of everyone, from a task that answers about any number of people
    invalid             whether the answer is malformed
    figures             the row's own: iou (not where the region asked), oks (published rule), coco_oks, part_miou
    truth               box, keypoints (x, y, v), area, mask, captions, as far as they are known; people: box and mask
                        of everyone, where that is not exactly one

A number comes back from a line exactly as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import Any

import numpy as np

from ..data.annotation import PART_NAMES, Annotation, Question
from ..data.masks import decode_mask, encode_mask
from ..errors import RefHCMError
from ..metrics.boxes import box_iou
from ..metrics.keypoints import coco_oks, published_oks
from ..metrics.parsing import confusion, mean_iou
from ..tasks import Reading
from ..tasks.segments import N_CODES, segment_area

Line = dict[str, Any]
"""What a line holds, as JSON has it."""


def to_line(
    names: Mapping[str, Any],
    question: Question,
    reading: Reading,
    truth: Annotation,
    pixels: Mapping[str, np.ndarray | None] = MappingProxyType({}),
) -> Line:
    """The line of one answer.

    names: `row`, `id`, `image_id` and `task`, as they are to stand in the line. reading: with the part map where the
    task answers one; it is compared with the true one here. pixels: further counts of the kind of `metrics.parsing`'s
    `confusion`, by their name in the line.
    """
    if reading.parts is not None and truth.parts is not None:
        reading.part_counts = confusion(reading.parts, truth.parts)
    line: Line = {**names, "size": list(question.size)}
    if question.text is not None:
        line["text"] = question.text
    if question.region is not None:
        line["region"] = _numbers(question.region)
    line |= {"tokens": list(reading.tokens), "score": reading.score}
    line |= {"box": _numbers(reading.box), "box_score": reading.box_score, "keypoints": _points(reading.keypoints)}
    line |= {"codes": reading.codes and list(reading.codes), "caption": reading.caption}
    if reading.parts is not None:
        line["parts"] = {str(k): encode_mask(reading.parts == k) for k in np.unique(reading.parts).tolist() if k}
    for name, counts in {"part_pixels": reading.part_counts, **pixels}.items():
        line[name] = None if counts is None else _triples(counts)
    figures = row_figures(reading, truth)
    if question.region is not None:  # the box was given
        figures.pop("iou", None)
    line |= {"invalid": any(_faults(reading, question.size)), "figures": figures}
    if reading.people is not None:
        line["people"] = [_known(box=_numbers(one.box), box_score=one.box_score) for one in reading.people]
    line["truth"] = _known(
        box=_numbers(truth.box), keypoints=_points(truth.keypoints), area=segment_area(truth),
        mask=_mask_text(truth), captions=list(truth.captions) or None,
    )  # fmt: skip
    if truth.people is not None:
        people = [_known(box=_numbers(one.box), mask=_mask_text(one)) for one in truth.people]
        line["truth"]["people"] = people
    return _known(**line)


def from_line(line: Line, draw: bool = False) -> tuple[Reading, Annotation]:
    """Answer and truth of a line, as far as figures need them; RefHCMError where it is no line of ours.

    Part map and masks are drawn again only with `draw`; the part map's pixels are counted already.
    """
    try:
        width, height = (int(side) for side in line["size"])
        said = line["truth"]
        people = line.get("people")
        reading = Reading(
            box=_box(line.get("box")),
            box_score=line.get("box_score"),
            keypoints=_array(line.get("keypoints")),
            codes=None if line.get("codes") is None else tuple(map(int, line["codes"])),
            parts=drawn_parts(line) if draw else None,
            part_counts=_matrix(line.get("part_pixels")),
            caption=line.get("caption"),
            people=None if people is None else tuple(Reading(_box(p.get("box")), p.get("box_score")) for p in people),
            tokens=tuple(map(int, line["tokens"])),
            score=float(line["score"]),
        )
        others = said.get("people")
        truth = Annotation(
            (width, height),
            box=_box(said.get("box")),
            keypoints=_array(said.get("keypoints")),
            captions=tuple(map(str, said.get("captions", ()))),
            mask=_drawn_mask(said, (width, height), draw),
            area=said.get("area"),
            people=None if others is None else tuple(
                Annotation((width, height), _box(person.get("box")), mask=_drawn_mask(person, (width, height), draw))
                for person in others
            ),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RefHCMError(f"{line.get('id', 'a line')} is no answer as evaluation saves it ({error}).") from error
    return reading, truth


def counts_of(line: Line, name: str) -> np.ndarray | None:
    """int64 (20, 20), rows true: one of a line's `..._pixels`, where it has them."""
    try:
        return _matrix(line.get(name))
    except (TypeError, ValueError, IndexError) as error:
        raise RefHCMError(f"{line.get('id', 'a line')} is no answer as evaluation saves it ({error}).") from error


def drawn_parts(line: Line) -> np.ndarray | None:
    """The answered part map, uint8 (H, W), where a line has one."""
    if "parts" not in line:
        return None
    size = (int(line["size"][0]), int(line["size"][1]))
    canvas = np.zeros(size[::-1], np.uint8)
    for number, counts in line["parts"].items():
        canvas[decode_mask(counts, size)] = int(number)
    return canvas


def row_figures(reading: Reading, truth: Annotation) -> dict[str, float]:
    """What one answer scores by itself; see the module's text for the names."""
    figures = {}
    if reading.box is not None and truth.box is not None:
        figures["iou"] = float(box_iou(np.array([reading.box]), np.array([truth.box]))[0])
    if reading.keypoints is not None and truth.keypoints is not None and truth.box is not None:
        figures["oks"] = published_oks(reading.keypoints, truth.keypoints, truth.box)
        if (area := segment_area(truth)) is not None:
            figures["coco_oks"] = coco_oks(reading.keypoints, truth.keypoints, area)
    if reading.part_counts is not None:
        figures["part_miou"] = mean_iou(reading.part_counts)
    return {name: value for name, value in figures.items() if isfinite(value)}


def _faults(reading: Reading, size: tuple[int, int]) -> Iterator[bool]:
    """What would make an answer unusable, looked for in what was read rather than trusted to the grammar."""
    width, height = size
    if reading.box is not None:
        x1, y1, x2, y2 = reading.box
        yield not all(map(isfinite, reading.box)) or not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height)
    if reading.keypoints is not None:
        places = reading.keypoints[:, :2]
        yield not np.isfinite(reading.keypoints).all()
        yield bool((places < 0).any() or (places > np.array([width, height], np.float32) + 1e-3).any())
    if reading.codes is not None:
        yield len(reading.codes) != N_CODES
    if reading.parts is not None:
        yield reading.parts.shape != (height, width) or int(reading.parts.max()) >= len(PART_NAMES)
    if reading.caption is not None:
        yield not reading.caption


def _mask_text(person: Annotation) -> str | None:
    return None if person.mask is None else encode_mask(person.mask)


def _drawn_mask(person: Mapping[str, Any], size: tuple[int, int], draw: bool) -> np.ndarray | None:
    return decode_mask(person["mask"], size) if draw and "mask" in person else None


# -- numbers ---------------------------------------------------------------------------------------------------------
def _known(**entries: Any) -> Line:
    """The entries that say something."""
    return {name: value for name, value in entries.items() if value is not None}


def _numbers(values: Sequence[float] | None) -> list[float] | None:
    """None as well where one of them is no number, which JSON cannot hold; such an answer counts as none."""
    if values is None or not all(map(isfinite, values)):
        return None
    return [float(value) for value in values]


def _points(points: np.ndarray | None) -> list[list[float]] | None:
    """As few digits as give the same numbers again."""
    if points is None or not np.isfinite(points).all():
        return None
    return [[float(str(value)) for value in row] for row in points]


def _array(points: Any) -> np.ndarray | None:
    if points is None:
        return None
    array = np.array(points, np.float32)
    if array.shape != (17, 3):
        raise ValueError(f"keypoints of the shape {array.shape}")
    return array


def _box(values: Any) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    x1, y1, x2, y2 = map(float, values)
    return x1, y1, x2, y2


def _triples(counts: np.ndarray) -> list[list[int]]:
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).tolist()


def _matrix(triples: Any) -> np.ndarray | None:
    if triples is None:
        return None
    counts = np.zeros((len(PART_NAMES), len(PART_NAMES)), np.int64)
    for true, answered, pixels in triples:
        if min(true, answered, pixels) < 0:
            raise ValueError("pixels below zero")
        counts[true, answered] = pixels
    return counts
