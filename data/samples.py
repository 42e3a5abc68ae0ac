"""From a question and its right answer to one training sample, and from samples to a batch (docs/design.md,
Batches)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .annotation import Annotation, Question
from .row_file import BadRow
from .vocabulary import BOS, EOS, PAD

if TYPE_CHECKING:
    from ..tasks.task import Task

Sample = dict[str, Any]
"""What `build_sample` gives."""
Item = list[Sample | BadRow]
"""The samples of a row or of several rows of one picture, and what is wrong with the rows that could not be used."""
Batch = dict[str, Any]
"""What `collate` gives."""

@dataclass(frozen=True)
class Target:
    """A training sequence: `inputs[i]` is fed at position i, where `outputs[i]` is wanted (`<pad>`: nothing is).

    `blocks` are spans (first, last), inclusive, of positions that see each other.
    """

    inputs: list[int]
    outputs: list[int]
    blocks: list[tuple[int, int]]


NO_BLOCK = (-1, -1)
"""Fills the places of `blocks` where a row has fewer spans than another."""


def build_sample(
    task: Task,
    question: Question,
    annotation: Annotation,
    image: torch.Tensor,
    image_key: str,
    sample_id: str,
    with_target: bool = True,
) -> Sample:
    """One sample of a task.

    `image` is float32 (3, S, S). Samples with the same `image_key` share one picture in a batch, so the key
    must also tell apart two different augmentations of a picture. The sample holds int64 vectors `source`
    (`<s>`, instruction, `</s>`), `prev_output_tokens` and `target` of one length (`<pad>` in `target`: no
    loss), `blocks` (K, 2) inclusive spans of decoder positions, and `id`, `task`, `image`, `image_key`,
    `question`, `annotation` as given. Without the target its sequences are those of an empty answer. ValueError when
    the annotation lacks what the task needs.
    """
    target = task.target(task.answered(question, annotation)) if with_target else Target([BOS], [EOS], [])
    if len(target.inputs) != len(target.outputs):
        raise RuntimeError(
            f"Task {task.name} gave {len(target.inputs)} inputs for {len(target.outputs)} outputs."
        )
    return {
        "id": sample_id,
        "task": task.name,
        "image": image,
        "image_key": image_key,
        "source": torch.tensor([BOS, *task.instruction(question), EOS]),
        "prev_output_tokens": torch.tensor(target.inputs),
        "target": torch.tensor(target.outputs),
        "blocks": torch.tensor(target.blocks, dtype=torch.int64).reshape(-1, 2),
        "question": question,
        "annotation": annotation,
    }


def collate(items: Iterable[Sample | Sequence[Sample | BadRow]], pad: int = PAD) -> Batch:
    """A batch of samples, or of lists of samples (which are laid end to end); nothing in, an empty dict out.

    Rows that could not be used come as BadRow among the samples and stand in the batch under `faults`, which is missing
    where there are none; a batch of nothing else has no other entry.

    Sequences are padded on the right with `pad`; samples of one picture share one entry of `patch_images`, in
    the order in which pictures first appear. docs/design.md lists what a batch holds. `ntokens` counts the targets
    that are not `pad`.
    """
    found = [sample for item in items for sample in ([item] if isinstance(item, dict) else item)]
    samples = [sample for sample in found if isinstance(sample, dict)]
    bad = [fault for fault in found if isinstance(fault, BadRow)]
    faults = {"faults": bad} if bad else {}
    if not samples:
        return faults
    images: dict[str, torch.Tensor] = {}
    for sample in samples:
        images.setdefault(sample["image_key"], sample["image"])
    place = {key: index for index, key in enumerate(images)}
    target = pad_right([sample["target"] for sample in samples], pad)
    return {
        "id": [sample["id"] for sample in samples],
        "nsentences": len(samples),
        "ntokens": int(target.ne(pad).sum()),
        "net_input": {
            "src_tokens": pad_right([sample["source"] for sample in samples], pad),
            "src_lengths": torch.tensor([len(sample["source"]) for sample in samples]),
            "patch_images": torch.stack(list(images.values())),
            "patch_masks": torch.ones(len(samples), dtype=torch.bool),
            "image_index": torch.tensor([place[sample["image_key"]] for sample in samples]),
            "prev_output_tokens": pad_right([sample["prev_output_tokens"] for sample in samples], pad),
            "blocks": pad_right([sample["blocks"] for sample in samples], NO_BLOCK[0]),
        },
        "target": target,
        "annotations": [sample["annotation"] for sample in samples],
        "questions": [sample["question"] for sample in samples],
        "tasks": [sample["task"] for sample in samples],
        **faults,
    }


def pad_right(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    """Stack tensors (n_i, ...) to (len(rows), max n_i, ...), filling up with `value`."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
