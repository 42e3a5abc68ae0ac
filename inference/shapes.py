"""From the codes of answers to part maps and masks in their pictures, for prediction and scoring alike.

Where an answer holds both, the mask says where the person is, and the part map what is there: every pixel of the mask
gets the likeliest class other than background, every other pixel none. So the union of the parts is the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.annotation import OTHERS, PERSON
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_paste import paste_labels, paste_logits, paste_mask, paste_three_way
from ..tasks import Reading

Paste = Callable[[Tensor, Sequence[float], tuple[int, int]], np.ndarray]
"""From class logits [classes, h, w] of a crop, its box and the picture's (height, width) to a part map."""


def choose_paste(published: bool) -> Paste:
    """How part maps come back into pictures: with smooth outlines, or with stepped ones as published."""
    return _paste_published if published else paste_logits


def _paste_published(logits: Tensor, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    return paste_labels(logits.argmax(0).cpu().numpy(), box, size)


def part_logits(label_map: LabelMapTokenizer, answers: Sequence[Reading], likeliest: bool = False) -> Tensor:
    """Class logits [answers, classes, height, width] of each answer's part map; see `_logits`."""
    codes, spreads = zip(*((answer.codes, answer.code_spread) for answer in answers), strict=True)
    return _logits(label_map, codes, spreads, likeliest)


def mask_logits(masks: LabelMapTokenizer, answers: Sequence[Reading]) -> Tensor:
    """Logits [answers, 3, height, width] of background, person and others in each answer's box; see `_logits`."""
    codes, spreads = zip(*((answer.mask_codes, answer.mask_spread) for answer in answers), strict=True)
    return _logits(masks, codes, spreads)


def _logits(
    tokenizer: LabelMapTokenizer,
    codes: Sequence[tuple[int, ...] | None],
    spreads: Sequence[Tensor | None],
    likeliest: bool = False,
) -> Tensor:
    """Class logits [answers, classes, height, width] of crops.

    Answers from a block (all of them, or none) know how likely each code was, and a mean over likely codes
    gives a better map than the likeliest code alone; `likeliest` takes that all the same, as published.
    """
    weight = tokenizer.quantize.embedding.weight
    known = [spread for spread in spreads if spread is not None]
    if len(known) == len(spreads) and not likeliest:
        return tokenizer.decode_spread(torch.stack(known).to(weight))
    return tokenizer.decode_logits(torch.tensor(codes, device=weight.device))


@torch.inference_mode()
def fill_shapes(
    readings: Sequence[Reading], sizes: Sequence[tuple[int, int]], label_map: LabelMapTokenizer | None = None,
    masks: LabelMapTokenizer | None = None, paste: Paste = paste_logits, likeliest: bool = False,
) -> None:  # fmt: skip
    """Turn the codes of answers into part maps and masks of their pictures, as far as there are codes and tokenizers.

    sizes: (width, height) of the pictures. paste: see `choose_paste`. likeliest: see `_logits`; of part maps only.
    """
    rows = list(zip(readings, sizes, strict=True))
    masked = [(reading, size) for reading, size in rows if masks is not None and reading.mask_codes is not None]
    if masks is not None and masked:
        found = mask_logits(masks, [reading for reading, _ in masked])
        for (reading, (width, height)), logits in zip(masked, found, strict=True):
            assert reading.box is not None
            if reading.tells_others:
                labels = paste_three_way(logits, reading.box, (height, width))
                reading.mask, reading.others = labels == PERSON, labels == OTHERS
            else:
                reading.mask = paste_mask(logits, reading.box, (height, width))
    mapped = [(reading, size) for reading, size in rows if label_map is not None and reading.codes is not None]
    if label_map is not None and mapped:
        found = part_logits(label_map, [reading for reading, _ in mapped], likeliest)
        for (reading, (width, height)), logits in zip(mapped, found, strict=True):
            assert reading.box is not None
            if reading.mask is None:
                reading.parts = paste(logits, reading.box, (height, width))
            else:
                reading.parts = within(logits, reading.box, reading.mask)


def within(logits: Tensor, box: Sequence[float], mask: np.ndarray) -> np.ndarray:
    """The part map uint8 (H, W) whose parts fill a mask (H, W) inside the box exactly."""
    body = paste_logits(logits[1:], box, (mask.shape[0], mask.shape[1])) + 1
    return np.where(mask, body, 0).astype(np.uint8)
