"""Pixels by true and answered class, counted while the model is at hand: of answers, and of the truth after its
tokenizer, which is the best that any answer made of codes could score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..data.annotation import OTHERS, PERSON, Annotation, Box
from ..metrics.parsing import PUBLISHED_CANVAS, confusion, zoom_nearest
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_data import classes_only
from ..models.label_map_paste import crop_part_map, paste_labels, paste_logits, paste_mask, paste_three_way
from ..tasks import Reading
from ..tasks.mask import MaskSegment
from .shapes import Paste, part_logits

Pixels = dict[str, np.ndarray]
"""Counts as `metrics.parsing.confusion` gives them, by their names in a line of `predictions`."""


def part_pixels(
    label_map: LabelMapTokenizer, readings: Sequence[Reading], truth: Sequence[Annotation], paste: Paste
) -> list[Pixels]:
    """Of each answer, as far as the true part map is known: as the published evaluation counts it, and the best.

    Answers that name nobody get the empty part map that they stand for.
    """
    for reading, one in zip(readings, truth, strict=True):
        if not reading.present:
            reading.parts = np.zeros(one.size[::-1], np.uint8)
    known = [(n, one.parts, one.box) for n, one in enumerate(truth) if one.parts is not None and one.box is not None]
    maps, boxes = [parts for _, parts, _ in known], [box for *_, box in known]
    published = _published_pixels(label_map, [readings[number] for number, *_ in known], maps)
    found = round_trips(label_map, list(map(classes_only, maps)), boxes, paste)
    pixels: list[Pixels] = [{} for _ in truth]
    for (number, parts, _), counts, best in zip(known, published, found, strict=True):
        pixels[number] = {"published_pixels": counts, "ceiling_pixels": confusion(best, parts)}
    return pixels


def mask_pixels(
    masks: LabelMapTokenizer, segment: MaskSegment, readings: Sequence[Reading], truth: Sequence[Annotation]
) -> list[Pixels]:
    """Of each answer the best, as far as the true mask is known; the answers themselves get `Reading.mask_counts`."""
    scored = [number for number, one in enumerate(truth) if one.mask is not None]
    for number in scored:
        readings[number].mask_counts = segment.compare(readings[number], truth[number])
    boxes = [box for number in scored if (box := truth[number].box) is not None]
    paste = paste_three_way if segment.others else paste_mask
    found = round_trips(masks, [segment.true_labels(truth[number]) for number in scored], boxes, paste)
    pixels: list[Pixels] = [{} for _ in truth]
    for number, labels in zip(scored, found, strict=True):
        best = Reading(mask=labels == PERSON, others=labels == OTHERS)
        pixels[number] = {"mask_ceiling_pixels": segment.compare(best, truth[number])}
    return pixels


@torch.inference_mode()
def round_trips(
    tokenizer: LabelMapTokenizer, maps: Sequence[np.ndarray], boxes: Sequence[Box], paste: Paste = paste_logits
) -> list[np.ndarray]:
    """Label maps [H, W] of pictures after encoding and decoding what lies in a box of each, put back by `paste`."""
    if not maps:
        return []
    size = tokenizer.config.height, tokenizer.config.width
    crops = np.stack([crop_part_map(labels, box, size) for labels, box in zip(maps, boxes, strict=True)])
    device = next(tokenizer.parameters()).device
    logits = tokenizer.decode_logits(tokenizer.encode(torch.from_numpy(crops).to(device)))
    rows = zip(logits, maps, boxes, strict=True)
    return [paste(crop, box, (labels.shape[0], labels.shape[1])) for crop, labels, box in rows]


@torch.inference_mode()
def _published_pixels(
    label_map: LabelMapTokenizer, readings: Sequence[Reading], truth: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Pixels by true and answered class as the published evaluation counts them, whatever paste was asked for: the
    likeliest codes, put into the answered box on a square of `PUBLISHED_CANVAS` pixels."""
    answered = [reading for reading in readings if reading.codes is not None]
    crops = iter(part_logits(label_map, answered, likeliest=True).argmax(1).cpu().numpy() if answered else ())
    square = (PUBLISHED_CANVAS, PUBLISHED_CANVAS)
    counts = []
    for reading, parts in zip(readings, truth, strict=True):
        canvas = np.zeros(square, np.uint8)
        if reading.codes is not None and reading.box is not None:
            height, width = parts.shape
            scale = (square[1] / width, square[0] / height) * 2
            box = [side * factor for side, factor in zip(reading.box, scale, strict=True)]
            canvas = paste_labels(next(crops), box, square)
        counts.append(confusion(canvas, zoom_nearest(parts, square)))
    return counts
