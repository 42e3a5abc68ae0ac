"""What is left of label maps after encoding and decoding: the most that any model can reach through the codes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch

from ..data.annotation import MASK_NAMES, PERSON, Box
from ..metrics.masks import MaskMeter, boundary_iou
from ..metrics.parsing import ParsingMeter
from .label_map import LabelMapTokenizer
from .label_map_paste import crop_part_map, paste_mask, paste_three_way
from .processes import ALONE, Processes


@torch.inference_mode()
def round_trip(tokenizer: LabelMapTokenizer, crops: np.ndarray, batch: int = 64) -> dict[str, float]:
    """Scores of crops [N, height, width] after encoding and decoding (see `metrics.parsing`), and `codes`,
    the number of codebook entries in use."""
    meter, used = ParsingMeter(tokenizer.config.classes), set()
    for start in range(0, len(crops), batch):
        labels = torch.from_numpy(crops[start : start + batch]).long()
        codes = tokenizer.encode(labels.to(tokenizer.quantize.embedding.weight.device))
        used.update(codes.flatten().tolist())
        for predicted, truth in zip(tokenizer.decode(codes).cpu().numpy(), labels.numpy(), strict=True):
            meter.add(predicted, truth)
    return {**meter.result(), "codes": float(len(used))}


@torch.inference_mode()
def mask_round_trip(
    tokenizer: LabelMapTokenizer, regions: Iterable[tuple[np.ndarray, Box]], batch: int = 32,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """Scores of three-way masks that went through the codes of a region and back into the picture, at its own size.

    Args:
        regions: Three-way masks [H, W] of whole pictures, and the region of each that is encoded. What of the person
            lies outside the region is lost, and counts.
        processes: Of several, each is given regions of its own; the scores are those of all of them.

    Returns:
        Those of `metrics.masks.MaskMeter` and `boundary_iou` for the person, `three_way_miou` (the mean over the
        classes of the truth, of all pictures together), and `codes`, the number of codebook entries in use.
    """
    config, waiting = tokenizer.config, iter(regions)
    people, pixels = MaskMeter(empty=1.0), ParsingMeter(len(MASK_NAMES))
    borders, used = list[float](), set[int]()
    while some := list(islice(waiting, batch)):
        crops = np.stack([crop_part_map(labels, box, (config.height, config.width)) for labels, box in some])
        codes = tokenizer.encode(torch.from_numpy(crops).to(tokenizer.quantize.embedding.weight.device))
        used.update(codes.flatten().tolist())
        for logits, (labels, box) in zip(tokenizer.decode_logits(codes).cpu(), some, strict=True):
            found, truth = paste_mask(logits, box, labels.shape), labels == PERSON
            people.add(found, truth)
            borders.append(boundary_iou(found, truth))
            pixels.add(paste_three_way(logits, box, labels.shape), labels)
    found_by_all = processes.collect((people, pixels, borders, used))
    people, pixels, borders = MaskMeter(empty=1.0), ParsingMeter(len(MASK_NAMES)), []
    for their_people, their_pixels, their_borders, their_codes in found_by_all:
        people.merge(their_people)
        pixels.merge(their_pixels)
        borders += their_borders
        used |= their_codes
    if not borders:
        return people.result()
    further = {"boundary_iou": float(np.mean(borders)), "three_way_miou": pixels.result()["miou_truth_classes"]}
    return {**people.result(), **further, "codes": float(len(used))}
