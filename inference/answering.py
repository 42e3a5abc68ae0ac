"""Questions of a batch put to a network, and its answers read back: what scoring and training's validation share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..data.samples import Batch
from ..errors import RefHCMError
from ..models.decoding import generate
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_paste import paste_labels, paste_logits
from ..models.refhcm import RefHCM
from ..tasks import Reading, Task
from .attention import record_attention
from .parts import part_logits

Paste = Callable[[torch.Tensor, Sequence[float], tuple[int, int]], np.ndarray]
"""From class logits [classes, h, w] of a crop, its box and the picture's (height, width) to a part map."""


class ModelError(RefHCMError):
    """A network that cannot answer, whatever it is asked: its numbers are not finite."""


@torch.inference_mode()
def answer_batch(
    model: RefHCM,
    task: Task,
    batch: Batch,
    beam: int = 1,
    *,
    label_map: LabelMapTokenizer | None = None,
    published_paste: bool = False,
    rows: Sequence[int] | None = None,
    attention: bool = False,
) -> list[Reading]:
    """The model's best answers to the questions of a batch, in pixels of their pictures.

    Args:
        model: On any device, in evaluation mode (the caller sees to that); the batch is brought to it.
        task: The task that all of the rows ask.
        batch: What `data.samples.collate` gives, with or without targets.
        beam: How many answers are followed side by side; 1 is greedy.
        label_map: Where it is given and the task answers part maps, `Reading.parts` is filled.
        published_paste: Put part maps back as the published evaluation does (see `choose_paste`).
        rows: Only these rows of the batch, for batches of several tasks or to ask fewer; None: all.
        attention: Fill `Reading.attention`.

    Returns one reading per row, in order. ModelError where the network's numbers are not finite.
    """
    weight = model.encoder.embed_tokens.weight
    inputs = {name: batch["net_input"][name] for name in ("src_tokens", "patch_masks", "image_index")}
    questions, pictures = batch["questions"], batch["net_input"]["patch_images"]
    if rows is not None:
        chosen = torch.as_tensor(list(rows), dtype=torch.int64)
        inputs = {name: value[chosen.to(value.device)] for name, value in inputs.items()}
        questions = [questions[row] for row in rows]
        used, inputs["image_index"] = inputs["image_index"].unique(return_inverse=True)
        pictures = pictures[used]
    if not questions:
        return []
    inputs = {name: value.to(weight.device) for name, value in inputs.items()}
    features = model.image_features(pictures.to(weight.device, weight.dtype))
    memory = model.encode(inputs["src_tokens"], features, inputs["patch_masks"], inputs["image_index"])
    try:
        found = generate(model, memory, task.grammar(), beam)
    except RefHCMError as error:
        raise ModelError(str(error)) from error
    readings = [task.read(best[0], question.size) for best, question in zip(found, questions, strict=True)]
    if attention:
        record_attention(model, memory, task.grammar(), [best[0] for best in found], readings)
    if label_map is not None and "codes" in task.needs:
        sizes = [question.size for question in questions]
        fill_parts(label_map, readings, sizes, choose_paste(published_paste), likeliest=published_paste)
    return readings


@torch.inference_mode()
def fill_parts(
    label_map: LabelMapTokenizer, readings: Sequence[Reading], sizes: Sequence[tuple[int, int]],
    paste: Paste = paste_logits, likeliest: bool = False,
) -> None:  # fmt: skip
    """Turn the codes of answers into part maps of their pictures.

    sizes: (width, height) of the pictures. paste: see `choose_paste`. likeliest: see `parts.part_logits`.
    """
    maps = part_logits(label_map, readings, likeliest)
    for reading, logits, (width, height) in zip(readings, maps, sizes, strict=True):
        assert reading.box is not None
        reading.parts = paste(logits, reading.box, (height, width))


def choose_paste(published: bool) -> Paste:
    """How part maps come back into pictures: with smooth outlines, or with stepped ones as published."""
    return _paste_published if published else paste_logits


def _paste_published(logits: torch.Tensor, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    return paste_labels(logits.argmax(0).cpu().numpy(), box, size)
