"""Questions of a batch put to a network, and its answers read back: what scoring and training's validation share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.samples import Batch
from ..errors import RefHCMError
from ..models.decoding import generate
from ..models.label_map import LabelMapTokenizer
from ..models.refhcm import RefHCM
from ..tasks import Reading, Task
from .attention import record_attention
from .shapes import choose_paste, fill_shapes


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
    masks: LabelMapTokenizer | None = None,
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
        label_map, masks: Where they are given, `Reading.parts` and `Reading.mask` are filled.
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
    sizes = [question.size for question in questions]
    fill_shapes(readings, sizes, label_map, masks, choose_paste(published_paste), likeliest=published_paste)
    return readings
