"""Questions put to a network, and its answers read back: what scoring, training's validation and prediction share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..data.annotation import Box, Question
from ..data.samples import Batch, pad_right
from ..data.vocabulary import BOS, EOS, PAD, Vocabulary
from ..errors import RefHCMError
from ..models.abilities import Presence
from ..models.decoding import generate
from ..models.encoder import Memory
from ..models.label_map import LabelMapTokenizer
from ..models.refhcm import RefHCM
from ..tasks import Reading, Task
from ..tasks.segments import KeypointsSegment, keep_inside
from .attention import record_attention
from .presence import deciding
from .shapes import choose_paste, fill_shapes

Beginning = Box | None
"""The box that an answer must begin with, in pixels of its picture; None leaves it free."""


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
    published_reading: bool = False,
    rows: Sequence[int] | None = None,
    presence: Presence | None = None,
    attention: bool = False,
    each: Sequence[Task] = (),
) -> list[Reading]:
    """The model's best answers to the questions of a batch, in pixels of their pictures.

    Args:
        model: On any device, in evaluation mode (the caller sees to that); the batch is brought to it.
        task: The task that all of the rows ask.
        batch: What `data.samples.collate` gives, with or without targets.
        beam: How many answers are followed side by side; 1 is greedy.
        label_map, masks: Where they are given, `Reading.parts` and `Reading.mask` are filled.
        published_reading: Take the likeliest bin and code at each place, and put part maps back as the published
            evaluation does (see `choose_paste`); otherwise bins and codes are weighed by how likely they are.
        rows: Only these rows of the batch, for batches of several tasks or to ask fewer; None: all.
        presence: From where on somebody fits, where the answer may be nobody.
        attention: Fill `Reading.attention`.
        each: Tasks that are asked about everyone whom an answer names, by the box, without another look at the
            pictures. What they answer stands in `Reading.people`.

    Returns one reading per row, in order. ModelError where the network's numbers are not finite.
    """
    features, pictures, questions = look(model, batch, rows)
    if not questions:
        return []
    readings = ask(model, task, features, pictures, questions, beam, presence=presence, attention=attention,
                   likeliest=published_reading)  # fmt: skip
    if each:
        everyone = [
            (picture, question.size, person)
            for picture, question, reading in zip(pictures, questions, readings, strict=True)
            for person in reading.people or ()
        ]
        for start in range(0, len(everyone), len(questions)):  # as many at a time as there were questions
            _ask_each(model, each, features, everyone[start : start + len(questions)], beam, label_map, masks)
    sizes = [question.size for question in questions]
    fill_shapes(readings, sizes, label_map, masks, choose_paste(published_reading), likeliest=published_reading)
    return readings


@torch.inference_mode()
def look(model: RefHCM, batch: Batch, rows: Sequence[int] | None = None) -> tuple[Tensor, list[int], list[Question]]:
    """What the vision trunk makes of a batch's pictures [N, C, h, w], which of these each row is about, and the rows'
    questions; of all rows, or of those that are given and their pictures alone."""
    weight = model.encoder.embed_tokens.weight
    questions, pictures = batch["questions"], batch["net_input"]["patch_images"]
    index = batch["net_input"]["image_index"].cpu()
    if rows is not None:
        chosen = torch.as_tensor(list(rows), dtype=torch.int64)
        questions = [questions[row] for row in rows]
        used, index = index[chosen].unique(return_inverse=True)
        pictures = pictures[used.to(pictures.device)]
    features = model.image_features(pictures.to(weight.device, weight.dtype)) if questions else pictures
    return features, index.tolist(), list(questions)


@torch.inference_mode()
def ask(
    model: RefHCM, task: Task, features: Tensor, pictures: Sequence[int], questions: Sequence[Question], beam: int = 1,
    *, begin: Sequence[Beginning] | None = None, presence: Presence | None = None, attention: bool = False,
    likeliest: bool = False,
) -> list[Reading]:  # fmt: skip
    """The best answers to questions about pictures that have been looked at: part maps and masks as codes only.

    Args:
        features: Of N pictures, as the vision trunk gives them; it runs once, whatever is asked.
        pictures: Which of them each question is about, 0 to N - 1.
        begin: The box that each answer begins with. None: it is free, but where the task's answer is a region's, that
            region.
        presence: From where on somebody fits, where the answer may be nobody.
        attention: Fill `Reading.attention`.
        likeliest: Read a coordinate as its likeliest bin, and not as the expectation around it.

    ModelError where the network's numbers are not finite.
    """
    device = features.device
    if begin is None:
        begin = [question.region if task.repeats_region else None for question in questions]
    sources = [torch.tensor([BOS, *task.instruction(question), EOS]) for question in questions]
    index = torch.tensor(list(pictures), device=device)
    memory: Memory = model.encode(pad_right(sources, PAD).to(device), features, image_index=index)
    settings = replace(deciding(presence or Presence()), prefix=_prefix(task.vocabulary, questions, begin, device))
    try:
        found = generate(model, memory, task.grammar(), beam, settings)
    except RefHCMError as error:
        raise ModelError(str(error)) from error
    inside = any(isinstance(segment, KeypointsSegment) and segment.inside for segment in task.segments)
    readings = []
    for (best, *_), question, box in zip(found, questions, begin, strict=True):
        if likeliest:
            best = replace(best, values=[float(token) for token in best.tokens])
        reading = task.read(best, question.size)
        if box is not None:  # what was given is no part of how sure the model is
            reading.box, reading.score = box, best.confidence(4)
            if reading.keypoints is not None and inside:  # of the box itself, which is finer than its bins
                keep_inside(reading.keypoints, box)
        readings.append(reading)
    if attention:
        record_attention(model, memory, task.grammar(), [best for best, *_ in found], readings)
    return readings


def _ask_each(
    model: RefHCM, tasks: Sequence[Task], features: Tensor, people: Sequence[tuple[int, tuple[int, int], Reading]],
    beam: int, label_map: LabelMapTokenizer | None, masks: LabelMapTokenizer | None,
) -> None:  # fmt: skip
    """Fill in what tasks answer about people, each given with the picture's number and size, by their boxes."""
    pictures, sizes, persons = zip(*people, strict=True)
    begin = [person.box for person in persons]
    questions = [Question(size, region=box) for size, box in zip(sizes, begin, strict=True)]
    for task in tasks:
        answers = ask(model, task, features, pictures, questions, beam, begin=begin)
        fill_shapes(answers, sizes, label_map, masks)
        for person, answer in zip(persons, answers, strict=True):
            for name in ("keypoints", "visibility", "mask", "parts"):
                if (found := getattr(answer, name)) is not None:
                    setattr(person, name, found)


def box_bins(vocabulary: Vocabulary, box: Box, size: tuple[int, int]) -> list[int]:
    """A box as four bins, at least one bin wide and high, as the grammar wants it."""
    width, height = size
    left, top, right, bottom = vocabulary.quantize([box[0] / width, box[1] / height, box[2] / width, box[3] / height])
    last = vocabulary.bin_span[1] - 1
    left, top = min(left, last - 1), min(top, last - 1)
    return [left, top, max(right, left + 1), max(bottom, top + 1)]


def _prefix(
    vocabulary: Vocabulary, questions: Sequence[Question], begin: Sequence[Beginning], device: torch.device
) -> Tensor | None:
    """The bins that answers begin with, int64 [questions, 4], `<pad>` where they are free; None where all are."""
    if all(box is None for box in begin):
        return None
    rows = [
        [PAD] * 4 if box is None else box_bins(vocabulary, box, question.size)
        for box, question in zip(begin, questions, strict=True)
    ]
    return torch.tensor(rows, device=device)
