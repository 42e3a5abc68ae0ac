"""One answer beside the truth as one line of JSON: all that figures are computed from, without model or data.

    row, id, image_id   which row of the dataset file (from 0), its id, its picture's id where the file has one
    task, size, text | region | points     what was asked about a picture of size (width, height)
    tokens, score       the answer as decoded, and a ranking score of it
    box, box_score, keypoints (17 times x, y, score), codes, caption      what it says, in pixels of the picture
    presence, present   the model's own chance that anybody fits, not calibrated; false where the answer is nobody
    parts               the part map: number of the class -> COCO's compressed run lengths (background left out)
    mask, mask_codes    the mask, and of a region's map others, as run lengths; and the codes it was made of
    part_pixels, published_pixels, ceiling_pixels    [true class, answered class, pixels]: of the answer; of the answer
                        counted as published; of the true part map encoded and decoded, the best that could be answered
    mask_pixels, mask_ceiling_pixels     the same of masks: of the answer, and the best
    agreement           how the parts of the answer agree: name -> [agreeing, all] (see `metrics.agreement`)
    people              box, box_score, score, presence, keypoints and mask of everyone, from a task that answers about
                        any number of people; presence: the chance that the answer does not end before them
    invalid             whether the answer is malformed
    figures             the row's own: iou (not of a box that was asked with), oks (published rule), coco_oks,
                        part_miou, mask_iou
    truth               box, keypoints (x, y, v), area, mask, captions, as far as they are known; people: the same of
                        everyone, where that is not exactly one

A number comes back from a line exactly as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from types import MappingProxyType
from typing import Any

import numpy as np

from ..data.annotation import MASK_NAMES, PART_NAMES, PERSON, Annotation, Question
from ..data.masks import decode_mask, encode_mask
from ..errors import RefHCMError
from ..metrics.agreement import agreement
from ..metrics.boxes import box_iou
from ..metrics.keypoints import coco_oks, published_oks
from ..metrics.parsing import class_iou, confusion, mean_iou
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
    task answers one; it is compared with the true one here. A mask has been compared already (`mask_counts`). pixels:
    further counts of the kind of `metrics.parsing`'s `confusion`, by their name in the line.
    """
    if reading.parts is not None and truth.parts is not None:
        reading.part_counts = confusion(reading.parts, truth.parts)
    line: Line = {**names, "size": list(question.size)}
    if question.text is not None:
        line["text"] = question.text
    if question.region is not None:
        line["region"] = _numbers(question.region)
    if question.points:
        line["points"] = [list(point) for point in question.points[0]]
    line |= {"tokens": list(reading.tokens), "score": reading.score}
    line |= {"presence": reading.presence, "present": None if reading.present else False}
    line |= {"box": _numbers(reading.box), "box_score": reading.box_score, "keypoints": _points(reading.keypoints)}
    line |= {"codes": reading.codes and list(reading.codes), "caption": reading.caption}
    line |= {"mask_codes": reading.mask_codes and list(reading.mask_codes)}
    line |= {"mask": _mask_text(reading.mask), "others": _mask_text(reading.others)}
    if reading.parts is not None:
        line["parts"] = {str(k): encode_mask(reading.parts == k) for k in np.unique(reading.parts).tolist() if k}
    for name, counts in {"part_pixels": reading.part_counts, "mask_pixels": reading.mask_counts, **pixels}.items():
        line[name] = None if counts is None else _triples(counts)
    agreeing = agreement(reading.box, reading.keypoints, reading.mask, reading.parts)
    line["agreement"] = {name: list(counts) for name, counts in agreeing.items()} or None
    figures = row_figures(reading, truth)
    line |= {"invalid": any(_faults(reading, question.size)), "figures": figures}
    if reading.people is not None:
        line["people"] = [_person_entry(one) for one in reading.people]
    line["truth"] = _truth_entry(truth)
    if truth.people is not None:
        line["truth"]["people"] = list(map(_truth_entry, truth.people))
    if box_given(line):
        figures.pop("iou", None)
    return _known(**line)


def box_given(line: Line) -> bool:
    """Whether the question gave the very box that was to be found; a loosely drawn one leaves it to be found."""
    return "region" in line and line["region"] == line["truth"].get("box")


def from_line(line: Line, draw: bool = False) -> tuple[Reading, Annotation]:
    """Answer and truth of a line, as far as figures need them; RefHCMError where it is no line of ours.

    Part map and masks are drawn again only with `draw`; their pixels are counted already.
    """
    try:
        width, height = (int(side) for side in line["size"])
        size = width, height
        said = line["truth"]
        people, others = line.get("people"), said.get("people")
        reading = Reading(
            box=_box(line.get("box")),
            box_score=line.get("box_score"),
            keypoints=_array(line.get("keypoints")),
            codes=None if line.get("codes") is None else tuple(map(int, line["codes"])),
            mask=_drawn_mask(line, size, draw),
            parts=drawn_parts(line) if draw else None,
            part_counts=_matrix(line.get("part_pixels"), len(PART_NAMES)),
            mask_counts=_matrix(line.get("mask_pixels"), len(MASK_NAMES)),
            caption=line.get("caption"),
            people=None if people is None else tuple(_person(entry, size, draw) for entry in people),
            tokens=tuple(map(int, line["tokens"])),
            score=float(line["score"]),
            presence=_chance(line.get("presence")),
            present=bool(line.get("present", True)),
        )
        truth = _truth(said, size, draw)
        if others is not None:
            truth = replace(truth, people=tuple(_truth(entry, size, draw) for entry in others))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RefHCMError(f"{line.get('id', 'a line')} is no answer as evaluation saves it ({error}).") from error
    return reading, truth


def counts_of(line: Line, name: str, classes: int = len(PART_NAMES)) -> np.ndarray | None:
    """int64 (classes, classes), rows true: one of a line's `..._pixels`, where it has them."""
    try:
        return _matrix(line.get(name), classes)
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
    if not reading.present and truth.box is not None:
        figures["iou"] = 0.0
    if reading.box is not None and truth.box is not None:
        figures["iou"] = float(box_iou(np.array([reading.box]), np.array([truth.box]))[0])
    if reading.keypoints is not None and truth.keypoints is not None and truth.box is not None:
        figures["oks"] = published_oks(reading.keypoints, truth.keypoints, truth.box)
        if (area := segment_area(truth)) is not None:
            figures["coco_oks"] = coco_oks(reading.keypoints, truth.keypoints, area)
    if reading.part_counts is not None:
        figures["part_miou"] = mean_iou(reading.part_counts)
    if reading.mask_counts is not None:
        figures["mask_iou"] = float(class_iou(reading.mask_counts)[PERSON])
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
    for codes in (reading.codes, reading.mask_codes):
        if codes is not None:
            yield len(codes) != N_CODES
    if reading.parts is not None:
        yield reading.parts.shape != (height, width) or int(reading.parts.max()) >= len(PART_NAMES)
    if reading.caption is not None:
        yield not reading.caption
    for one in reading.people or ():
        yield any(_faults(one, size))


# -- people ----------------------------------------------------------------------------------------------------------
def _person_entry(one: Reading) -> Line:
    """What an answer says of one of several people."""
    return _known(
        box=_numbers(one.box), box_score=one.box_score, score=one.score, presence=one.presence,
        keypoints=_points(one.keypoints), mask=_mask_text(one.mask),
    )  # fmt: skip


def _person(entry: Mapping[str, Any], size: tuple[int, int], draw: bool) -> Reading:
    return Reading(
        _box(entry.get("box")), entry.get("box_score"), _array(entry.get("keypoints")),
        mask=_drawn_mask(entry, size, draw), score=float(entry["score"]), presence=_chance(entry.get("presence")),
    )  # fmt: skip


def _truth_entry(one: Annotation) -> Line:
    """What is known of one person."""
    return _known(
        box=_numbers(one.box), keypoints=_points(one.keypoints), area=segment_area(one), mask=_mask_text(one.mask),
        captions=list(one.captions) or None,
    )  # fmt: skip


def _truth(entry: Mapping[str, Any], size: tuple[int, int], draw: bool) -> Annotation:
    captions = tuple(map(str, entry.get("captions", ())))
    mask, area = _drawn_mask(entry, size, draw), entry.get("area")
    points = _array(entry.get("keypoints"))
    return Annotation(size, _box(entry.get("box")), points, captions=captions, mask=mask, area=area)


def _mask_text(mask: np.ndarray | None) -> str | None:
    return None if mask is None else encode_mask(mask)


def _drawn_mask(entry: Mapping[str, Any], size: tuple[int, int], draw: bool) -> np.ndarray | None:
    return decode_mask(entry["mask"], size) if draw and "mask" in entry else None


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


def _chance(value: Any) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"a chance of {value}")
    return value


def _triples(counts: np.ndarray) -> list[list[int]]:
    rows, columns = np.nonzero(counts)
    return np.stack([rows, columns, counts[rows, columns]], axis=1).tolist()


def _matrix(triples: Any, classes: int) -> np.ndarray | None:
    if triples is None:
        return None
    counts = np.zeros((classes, classes), np.int64)
    for true, answered, pixels in triples:
        if min(true, answered, pixels) < 0:
            raise ValueError("pixels below zero")
        counts[true, answered] = pixels
    return counts
