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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..data.annotation import Annotation, Box, Points, Question
from ..data.known import About
from ..data.prompts import read_of
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
    visibility: np.ndarray | None = None
    """Where the model tells: how well each of the keypoints is seen, int (17,), an index into
    `data.vocabulary.VISIBILITIES`."""
    codes: tuple[int, ...] | None = None
    """The part map as codes of the label-map tokenizer."""
    code_spread: torch.Tensor | None = None
    """Where they come from a block: float32 (48, codes), how likely each code is at each place."""
    mask_codes: tuple[int, ...] | None = None
    """The mask as codes of the mask tokenizer."""
    mask_spread: torch.Tensor | None = None
    """How likely each mask code is at each place, as `code_spread`."""
    mask: np.ndarray | None = None
    """The person's pixels, bool (H, W): filled in by whoever has the mask tokenizer."""
    tells_others: bool = False
    """Whether the mask codes also say where other people are."""
    others: np.ndarray | None = None
    """Those people's pixels inside the region that was asked about, bool (H, W): filled in with the mask."""
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
    stretches: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Which of the tokens say what, as (start, stop): of segments by their name, of keypoints the two bins of each."""
    attention: np.ndarray | None = None
    """Where it was recorded: float16 (tokens, h, w), how much attention each picture cell had behind each token; see
    `models.attention_maps`."""
    part_counts: np.ndarray | None = None
    """Where it has been compared with the true one already: int64 (20, 20), pixels by true and answered class."""
    mask_counts: np.ndarray | None = None
    """The same of the mask: int64 (3, 3), pixels by true and answered class of `data.annotation.MASK_NAMES`."""
    people: tuple[Reading, ...] | None = None
    """Everyone that is meant, from left to right, where a task answers about any number of people."""
    presence: float | None = None
    """How likely it is that anybody fits, in [0, 1], where the task may answer "nobody"."""
    present: bool = True
    """Whether anybody fits."""


class Task:
    """A chain of segments behind an instruction. Subclasses give `name`, `needs`, `prompt` and their segments."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Fields of an Annotation that training and scoring need."""
    by_words: ClassVar[bool] = False
    """Whether a question without words makes no sense, because its region would be the whole answer."""
    by_region: ClassVar[bool] = False
    """Whether it is asked by a region (or points), even where words are known too."""
    repeats_region: ClassVar[bool] = False
    """Whether the answer's box is the region itself, where it is asked by one."""
    meant: ClassVar[About] = "one"
    """About whom its questions are, as `ReferringDataset.usable` knows them: "one" person, any number of "people" whom
    words describe, or "everybody" in the picture."""
    prompt: ClassVar[str]
    """The instruction; `{}` stands for the words, the region or the points."""
    nobody: bool = False
    """Whether words may fit nobody: the answer is then empty. For models that were trained for it."""

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

    @property
    def about(self) -> About:
        """`meant`, and "one or nobody" where the answer may be that nobody fits."""
        return "one or nobody" if self.nobody and self.meant == "one" else self.meant

    def asked(self, question: Question) -> Question:
        """What the instruction says of a question: its words where there are some, or else its region or points."""
        if self.by_region and (question.region is not None or question.points):
            return replace(question, text=None)
        return question if question.text is None else replace(question, region=None)

    def answered(self, question: Question, annotation: Annotation) -> Annotation:
        """The right answer to this question, where the question itself decides on a part of it."""
        return annotation

    def target(self, annotation: Annotation) -> Target:
        """The training sequence of a right answer; ValueError when the annotation lacks what the task needs."""
        target = Target([BOS], [], [])
        if not (self.nobody and annotation.people == ()):
            for segment in self.segments:
                segment.extend(target, annotation)
        target.outputs.append(EOS)
        return target

    def grammar(self) -> Grammar:
        """What decoding may produce."""
        rules = [segment.rule() for segment in self.segments]
        return Grammar(rules, soft=self.vocabulary.bin_span, may_be_empty=self.nobody)

    def read(self, hypothesis: Hypothesis, size: tuple[int, int]) -> Reading:
        """Turn decoded tokens into places in a picture of `size` (width, height)."""
        reading = Reading(score=hypothesis.confidence(), tokens=tuple(hypothesis.tokens))
        reading.presence = hypothesis.going_on.get(0)
        if self.nobody and not hypothesis.tokens:
            reading.present = False
            return reading
        position = 0
        for segment in self.segments:
            position = segment.read(hypothesis, position, size, reading)
        return reading

    @classmethod
    def may_be_nobody(cls) -> bool:
        """Whether words may fit nobody where otherwise one person is the answer, in a model that was trained for it."""
        return cls.meant == "one" and not cls.by_region

    @classmethod
    def scored_by(cls, codes: str = "parts") -> list[str]:
        """What a row must know (fields as `ReferringDataset.usable` has them) for the answer to be scored: part codes
        as the map that they stand for, or by another field in place of `codes`. Without words, an instruction that is
        not made for regions would be asked with the box that is to be found."""
        words = [] if cls.by_region or cls.meant == "everybody" else ["text"]
        return words + [codes if need == "codes" else need for need in cls.needs]

    def scored(self) -> list[Segment]:
        """The stretches that are scored; a box that only repeats the question is not."""
        return [segment for segment in self.segments if not (self.repeats_region and segment.name == "box")]

    def scorer(self) -> Scorer:
        """A running score of answers to this task, beside what `answered` gives."""
        return Scorer(self.scored())


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
    is encoded with a leading space (both as the published datasets do, so that token ids agree). Points, of which the
    first alternative counts, stand in a region's place, two bins each.
    """
    from ..data.text import normalise_reference

    if question.text is not None:
        return vocabulary.encode_text(prompt.format(normalise_reference(question.text, max_words)))
    place: list[int] = []
    if question.region is not None:
        place = box_tokens(vocabulary, question.region, question.size, clamp)
    elif question.points:
        place = point_tokens(vocabulary, question.points[0], question.size)
    return [t for word in prompt.split() for t in (place if word == "{}" else vocabulary.encode_text(" " + word))]


def point_tokens(vocabulary: Vocabulary, points: Points, size: tuple[int, int]) -> list[int]:
    """Two bins for each of the points that are read (`read_of`), in a picture of `size` (width, height)."""
    return vocabulary.quantize(np.asarray(read_of(points), np.float64) / size)


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


def build(name: str, vocabulary: Vocabulary, nobody: bool = False, **options: object) -> Task:
    """The task called `name`; ValueError with the valid names when there is none.

    nobody: words may fit nobody (see `Task.nobody`); tasks that are asked by a region, or that answer about any number
    of people anyway, have no use for it.
    """
    if name not in _REGISTRY:
        raise ValueError(f"Unknown task {name!r}; the tasks are: {', '.join(names())}.")
    make: Callable[..., Task] = _REGISTRY[name]  # each takes options of its own
    task = make(vocabulary, **options)
    task.nobody = nobody and task.may_be_nobody()
    return task
