"""From the codes of answers to part maps, for prediction and scoring alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.label_map import LabelMapTokenizer
from ..tasks import Reading


def part_logits(label_map: LabelMapTokenizer, answers: Sequence[Reading], likeliest: bool = False) -> Tensor:
    """Class logits [answers, classes, height, width] of each answer's crop.

    Answers from a block (all of them, or none) know how likely each code was, and a mean over likely codes
    gives a better map than the likeliest code alone; `likeliest` takes that all the same, as published.
    """
    weight = label_map.quantize.embedding.weight
    spreads = [answer.code_spread for answer in answers if answer.code_spread is not None]
    if len(spreads) == len(answers) and not likeliest:
        return label_map.decode_spread(torch.stack(spreads).to(weight))
    return label_map.decode_logits(torch.tensor([answer.codes for answer in answers], device=weight.device))
