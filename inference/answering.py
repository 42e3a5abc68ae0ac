"""Answers of a model to a batch of questions, for evaluation and for validation during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..data.samples import Batch
from ..models.decoding import generate
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_paste import paste_logits
from ..models.refhcm import RefHCM
from ..tasks import Reading, Task
from .parts import part_logits

Paste = Callable[[torch.Tensor, Sequence[float], tuple[int, int]], np.ndarray]
"""From class logits [classes, h, w] of a crop, its box and the picture's (height, width) to a part map."""
_OF_TARGETS = ("prev_output_tokens", "blocks")


@torch.inference_mode()
def answer_batch(model: RefHCM, task: Task, batch: Batch, beam: int = 1) -> list[Reading]:
    """The best answer to each question of a batch (`data.samples.collate`), on the model's device and in its dtype."""
    weight = model.encoder.embed_tokens.weight
    inputs = {name: value.to(weight.device) for name, value in batch["net_input"].items() if name not in _OF_TARGETS}
    features = model.image_features(inputs["patch_images"].to(weight.dtype))
    memory = model.encode(inputs["src_tokens"], features, inputs["patch_masks"], inputs["image_index"])
    found = generate(model, memory, task.grammar(), beam)
    return [task.read(best[0], question.size) for best, question in zip(found, batch["questions"], strict=True)]


@torch.inference_mode()
def fill_parts(
    label_map: LabelMapTokenizer, readings: Sequence[Reading], sizes: Sequence[tuple[int, int]],
    paste: Paste = paste_logits, likeliest: bool = False,
) -> None:  # fmt: skip
    """Turn the codes of answers into part maps of the pictures; `sizes` are (width, height), `likeliest` as in
    `part_logits`."""
    maps = part_logits(label_map, readings, likeliest)
    for reading, logits, (width, height) in zip(readings, maps, sizes, strict=True):
        assert reading.box is not None
        reading.parts = paste(logits, reading.box, (height, width))
