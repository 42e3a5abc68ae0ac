"""What a referring task is: an instruction, and a chain of segments that the answer is made of.

Read this file first, then any task (`rec.py` is the shortest): each states its wording, its answer's parts and
its metric, and nothing else. The life of a question:

    instruction(question)  -> source tokens          what the encoder reads beside the picture
    target(annotation)     -> decoder inputs/outputs what training teaches
    grammar()              -> automaton              what decoding may produce
    read(hypothesis)       -> Reading                tokens back into pixels
    scorer()               -> running score          how well it went
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..data.annotation import Annotation, Box, Question
from ..data.samples import Target
from ..data.vocabulary import BOS, EOS, Vocabulary
from ..models.grammar import Grammar

if TYPE_CHECKING:
    import torch

    from ..models.decoding import Hypothesis
    from .segments import Scored, Segment


@dataclass
class Reading:
    """An answer read back from tokens, in original pixels. What was not asked for stays None."""

    box: Box | None = None
    box_score: float | None = None
    keypoints: np.ndarray | None = None
    """float32 (17, 3): x, y, score in [0, 1]; an absent point is 0, 0, 0."""
    codes: tuple[int, ...] | None = None
    """The part map as codes of the label-map tokenizer."""
    code_spread: torch.Tensor | None = None
    """Where they come from a block: float32 (48, codes), how likely each code is at each place."""
    parts: np.ndarray | None = None
    """The part map itself, uint8 (H, W): filled in by whoever has the label-map tokenizer."""
    caption: str | None = None
    score: float = 0.0
    """The geometric mean of the probabilities of the answer's tokens, in [0, 1]: a ranking score, comparable between
    answers of one model, not a probability of being right. A bin's probability is that of this single bin, while
    training may spread half of it over the neighbours (`bin_smoothing`): the bundled model's boxes score 0.05 to
    0.24."""
    tokens: tuple[int, ...] = ()
    """The answer as it was decoded."""
    part_counts: np.ndarray | None = None
    """Where it has been compared with the true one already: int64 (20, 20), pixels by true and answered class."""
    people: tuple[Reading, ...] | None = None
    """Everyone that is meant, where a task answers about any number of people (none of today does)."""


class Task:
    """A chain of segments behind an instruction. Subclasses give `name`, `needs`, `prompt` and their segments."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Fields of an Annotation that training and scoring need."""
    by_words: ClassVar[bool] = False
    """Whether a question without words makes no sense, because its region would be the whole answer."""
    prompt: ClassVar[str]
    """The instruction; `{}` stands for the words or the region."""

    def __init__(
        self, vocabulary: Vocabulary, segments: list[Segment], max_words: int = 80, clamp: bool = True
    ) -> None:
        self.vocabulary = vocabulary
        self.segments = segments
        self.max_words = max_words
        self.clamp = clamp

    def instruction(self, question: Question) -> list[int]:
        """Source tokens of a question (see `asked`), without `<s>` and `</s>`."""
        return encode_instruction(self.vocabulary, self.prompt, self.asked(question), self.max_words, self.clamp)

    def asked(self, question: Question) -> Question:
        """What the instruction says of a question: its words where there are some, or else its region."""
        return question if question.text is None else replace(question, region=None)

    def target(self, annotation: Annotation) -> Target:
        """The training sequence of a right answer; ValueError when the annotation lacks what the task needs."""
        target = Target([BOS], [], [])
        for segment in self.segments:
            segment.extend(target, annotation)
        target.outputs.append(EOS)
        return target

    def grammar(self) -> Grammar:
        """What decoding may produce."""
        return Grammar([segment.rule() for segment in self.segments], soft=self.vocabulary.bin_span)

    def read(self, hypothesis: Hypothesis, size: tuple[int, int]) -> Reading:
        """Turn decoded tokens into places in a picture of `size` (width, height)."""
        reading = Reading(score=hypothesis.confidence(), tokens=tuple(hypothesis.tokens))
        position = 0
        for segment in self.segments:
            position = segment.read(hypothesis, position, size, reading)
        return reading

    def scorer(self) -> Scorer:
        """A running score of answers to this task."""
        return Scorer(self.segments)


class Scorer:
    """Collects answers of one task and sums up each segment's metric."""

    def __init__(self, segments: Sequence[Scored]) -> None:
        self._meters = [(segment, segment.meter()) for segment in segments]

    def add(self, reading: Reading, annotation: Annotation, given: bool = False) -> None:
        """One answer beside the truth. Where the question gave the box (`given`), the answer's box is not scored."""
        for segment, meter in self._meters:
            if not (given and segment.name == "box"):
                segment.score(meter, reading, annotation)

    def merge(self, other: Scorer) -> None:
        """Take in what another process collected."""
        for (_, meter), (_, theirs) in zip(self._meters, other._meters, strict=True):
            meter.merge(theirs)

    def __getstate__(self) -> list[object]:
        """To another process only what was collected travels, to be merged there, and not the vocabulary."""
        return [meter for _, meter in self._meters]

    def __setstate__(self, meters: list[object]) -> None:
        vars(self)["_meters"] = [(None, meter) for meter in meters]

    def result(self) -> dict[str, float]:
        """Every metric as `segment/metric`, for example `box/acc@0.5`."""
        return {f"{s.name}/{key}": value for s, meter in self._meters for key, value in meter.result().items()}


def encode_instruction(
    vocabulary: Vocabulary, prompt: str, question: Question, max_words: int, clamp: bool = True
) -> list[int]:
    """Tokens of `prompt` with its `{}` replaced by the normalised words, or by the four bins of the region.

    With words, the sentence is encoded as one string; with a region it is split at the spaces and each word
    is encoded with a leading space (both as the published datasets do, so that token ids agree).
    """
    from ..data.text import normalise_reference

    if question.text is not None:
        return vocabulary.encode_text(prompt.format(normalise_reference(question.text, max_words)))
    if question.region is None:
        raise ValueError("The question is asked by points, which no instruction knows.")
    region = box_tokens(vocabulary, question.region, question.size, clamp)
    return [t for word in prompt.split() for t in (region if word == "{}" else vocabulary.encode_text(" " + word))]


def box_tokens(vocabulary: Vocabulary, box: Box, size: tuple[int, int], clamp: bool = True) -> list[int]:
    """Four bins of a box in a picture of `size` (width, height); see `Vocabulary.quantize` for `clamp`."""
    width, height = size
    return vocabulary.quantize([box[0] / width, box[1] / height, box[2] / width, box[3] / height], clamp)


_REGISTRY: dict[str, type[Task]] = {}


def register(task: type[Task]) -> type[Task]:
    """Class decorator: make a task known under its name."""
    _REGISTRY[task.name] = task
    return task


def prompts() -> list[str]:
    """The instructions of all tasks, each once."""
    return list(dict.fromkeys(task.prompt for task in _REGISTRY.values()))


def known() -> dict[str, type[Task]]:
    """All tasks by name, in the order of `tasks/__init__.py`."""
    return dict(_REGISTRY)


def names() -> list[str]:
    """Names of all tasks."""
    return sorted(_REGISTRY)


def build(name: str, vocabulary: Vocabulary, **options: object) -> Task:
    """The task called `name`; ValueError with the valid names when there is none."""
    if name not in _REGISTRY:
        raise ValueError(f"Unknown task {name!r}; the tasks are: {', '.join(names())}.")
    task: Callable[..., Task] = _REGISTRY[name]  # each takes options of its own
    return task(vocabulary, **options)
