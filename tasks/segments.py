"""The stretches that answers are made of: a box, keypoints, a part map, a caption.

Each states, in one place, how it is written as tokens for training, which rule decoding follows, and how its
tokens are read back. A task is a chain of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..data.annotation import CODE_GRID, KEYPOINT_NAMES, Annotation, Box
from ..data.vocabulary import PAD, POSE_QUERIES, VISIBILITIES, Vocabulary
from ..metrics.boxes import BoxMeter
from ..metrics.captions import CaptionMeter
from ..metrics.keypoints import KeypointMeter
from ..metrics.parsing import ParsingMeter
from ..models.grammar import Block, BlockRule, BoxRule, KeypointsRule, RepeatRule, Rule
from .task import Reading, Target, box_tokens

if TYPE_CHECKING:
    from ..models.hypothesis import Hypothesis

N_CODES = CODE_GRID[0] * CODE_GRID[1]


class Scored(Protocol):
    """How a stretch of answers is scored; this takes no vocabulary, so a class of `SEGMENTS` will do as well."""

    name: str
    """Leads the names of its metrics."""

    def meter(self) -> Any:
        """A running score, empty: it has `merge` and `result`."""
        ...

    def score(self, meter: Any, reading: Reading, annotation: Annotation) -> None:
        """Add one answer to such a score."""
        ...


class Segment(Scored, Protocol):
    """One stretch of an answer."""

    def extend(self, target: Target, annotation: Annotation) -> None:
        """Append this stretch of the right answer to a training sequence."""
        ...

    def rule(self) -> Rule[Any] | BlockRule:
        """What decoding may produce here."""
        ...

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        """Read the stretch that begins at token `position` into `reading`; give the position behind it."""
        ...


def append(target: Target, tokens: list[int]) -> None:
    """Tokens that are predicted one after the other: each is wanted where its predecessor is fed."""
    target.outputs.extend(tokens)
    target.inputs.extend(tokens)


def append_block(target: Target, block: Block, tokens: list[int]) -> None:
    """The tokens of a block: each is wanted where its query is fed."""
    append(target, [block.begin])
    target.outputs.append(PAD)
    first = len(target.inputs)
    target.blocks.append((first, first + len(tokens) - 1))
    target.inputs.extend([*block.queries, block.end])
    target.outputs.extend(tokens)


def read_box(
    vocabulary: Vocabulary, hypothesis: Hypothesis, position: int, size: tuple[int, int]
) -> tuple[Box, float]:
    """The box that begins at token `position`, in a picture of `size` (width, height), and its confidence."""
    chosen = slice(position, position + 4)
    x1, y1, x2, y2 = vocabulary.dequantize(hypothesis.values[chosen])
    if x2 <= x1 or y2 <= y1:  # expectations of a very small box may cross; its tokens, by the grammar, do not
        x1, y1, x2, y2 = vocabulary.dequantize(hypothesis.tokens[chosen])
    width, height = size
    box = (float(x1 * width), float(y1 * height), float(x2 * width), float(y2 * height))
    return box, hypothesis.confidence(position, position + 4)


def keep_inside(keypoints: np.ndarray, box: Box) -> None:
    """Move keypoints float32 (17, 3) that are present, and lie outside a box, to its edge, in place."""
    present = keypoints[:, 2] > 0
    sides = np.array(box, np.float32)  # which may round them outwards
    low, high = np.nextafter(sides[:2], np.float32(np.inf)), np.nextafter(sides[2:], np.float32(-np.inf))
    keypoints[present, :2] = keypoints[present, :2].clip(low, high)


def segment_area(annotation: Annotation) -> float | None:
    """Square pixels that a person covers, for OKS: as stated, or else counted in the part map; None: not known."""
    if annotation.area is None and annotation.parts is not None:
        return float((annotation.parts > 0).sum())
    return annotation.area


def keypoints_score(reading: Reading) -> float:
    """How sure an answer is of its pose, by which AP ranks: of the box, times the mean over all 17 keypoints."""
    found = 0.0 if reading.keypoints is None else float(reading.keypoints[:, 2].sum())
    return (reading.box_score or 0.0) * found / len(KEYPOINT_NAMES)


class BoxSegment:
    """Four bins: left, top, right, bottom."""

    name = "box"

    def __init__(self, vocabulary: Vocabulary, clamp: bool = True) -> None:
        self.vocabulary = vocabulary
        self.clamp = clamp

    def extend(self, target: Target, annotation: Annotation) -> None:
        if annotation.box is None:
            raise ValueError("This task needs a box.")
        append(target, box_tokens(self.vocabulary, annotation.box, annotation.size, self.clamp))

    def rule(self) -> BoxRule:
        return BoxRule(self.vocabulary.bin_span)

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        reading.box, reading.box_score = read_box(self.vocabulary, hypothesis, position, size)
        reading.stretches[self.name] = position, position + 4
        return position + 4

    @staticmethod
    def meter() -> BoxMeter:
        return BoxMeter()

    @staticmethod
    def score(meter: BoxMeter, reading: Reading, annotation: Annotation) -> None:
        if annotation.box is None:
            raise ValueError("Scoring boxes needs the true box.")
        score = 0.0 if reading.box is None else reading.box_score
        meter.add(reading.box, annotation.box, score, segment_area(annotation))


class KeypointsSegment:
    """The labelled keypoints in COCO order, each as its name and two bins (x, y); the others are left out.

    With `inside` those of an answer lie in its own box. Of a person behind another, people know joints that may lie
    outside, so training teaches them where they are.
    """

    name = "keypoints"

    def __init__(self, vocabulary: Vocabulary, clamp: bool = True, inside: bool = False) -> None:
        self.vocabulary = vocabulary
        self.clamp = clamp
        self.inside = inside
        self.names = tuple(tuple(vocabulary.encode_text(" " + name)) for name in KEYPOINT_NAMES)

    def extend(self, target: Target, annotation: Annotation) -> None:
        if annotation.keypoints is None:
            raise ValueError("This task needs keypoints.")
        width, height = annotation.size
        for name, (x, y, v) in zip(self.names, annotation.keypoints, strict=True):
            if v > 0:
                append(target, [*name, *self.vocabulary.quantize([x / width, y / height], self.clamp)])

    def rule(self) -> KeypointsRule:
        return KeypointsRule(self.names, self.vocabulary.bin_span, self.inside)

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        points = np.zeros((len(self.names), 3), np.float32)
        for index, name in enumerate(self.names):
            at = position + len(name)
            if tuple(hypothesis.tokens[position:at]) != name or at + 2 > len(hypothesis.tokens):
                continue
            place = self.vocabulary.dequantize(hypothesis.values[at : at + 2]) * size
            points[index] = (*place, hypothesis.confidence(at, at + 2))
            reading.stretches[KEYPOINT_NAMES[index]] = at, at + 2
            position = at + 2
        if self.inside and reading.box is not None:  # the grammar sees to it up to the size of a bin
            keep_inside(points, reading.box)
        reading.keypoints = points
        return position

    @staticmethod
    def meter() -> KeypointMeter:
        return KeypointMeter()

    @staticmethod
    def score(meter: KeypointMeter, reading: Reading, annotation: Annotation) -> None:
        if annotation.keypoints is None or annotation.box is None:
            raise ValueError("Scoring keypoints needs the true keypoints and the true box.")
        sure = keypoints_score(reading)
        meter.add(reading.keypoints, annotation.keypoints, annotation.box, segment_area(annotation), sure)


class PoseSegment(KeypointsSegment):
    """All 17 keypoints as one block, for models whose token space has codes for it: x, y, and how well each is seen.

    Training wants no place of a keypoint that is not labelled. Its queries begin with what the encoder saw in the box
    (`models.located`, whose grid of spots they fill in order), so each can look among the others for its own place.
    """

    def extend(self, target: Target, annotation: Annotation) -> None:
        if annotation.keypoints is None:
            raise ValueError("This task needs keypoints.")
        v, (width, height) = self.vocabulary, annotation.size
        tokens: list[int] = []
        for x, y, seen in annotation.keypoints:
            place = v.quantize([x / width, y / height], self.clamp) if seen > 0 else [PAD, PAD]
            tokens += [*place, v.visibility_span[0] + int(seen)]
        append_block(target, self._block(), tokens)

    def rule(self) -> BlockRule:  # type: ignore[override]
        return BlockRule(self._block())

    def _block(self) -> Block:
        v, count = self.vocabulary, len(KEYPOINT_NAMES)
        spans = v.visibility_span, v.bin_span
        sides = (0, 1, -1) * count if self.inside else ()
        queries = tuple(v.pose_queries(count))
        return Block(v.pose_begin, queries, v.pose_end, spans, kinds=(1, 1, 0) * count, sides=sides)

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        v, count = self.vocabulary, len(KEYPOINT_NAMES)
        start = position + 1  # behind the mark that announces the block
        position = start + POSE_QUERIES * count
        seen = hypothesis.spreads[start][2::POSE_QUERIES, : len(VISIBILITIES)].numpy()
        values = np.array(hypothesis.values[start:position]).reshape(count, POSE_QUERIES)
        points = np.zeros((count, 3), np.float32)
        points[:, :2] = v.dequantize(values[:, :2]) * size
        for index, name in enumerate(KEYPOINT_NAMES):
            at = start + POSE_QUERIES * index
            points[index, 2] = (1 - seen[index, 0]) * hypothesis.confidence(at, at + 2)
            reading.stretches[name] = at, at + 2
        points[seen[:, 0] >= 0.5] = 0
        if self.inside and reading.box is not None:
            keep_inside(points, reading.box)
        reading.keypoints, reading.visibility = points, np.where(points[:, 2] > 0, seen[:, 1:].argmax(1) + 1, 0)
        return position


def pose_segment(vocabulary: Vocabulary, clamp: bool = True, inside: bool = False) -> KeypointsSegment:
    """How this token space writes keypoints."""
    kind = PoseSegment if vocabulary.pose_start else KeypointsSegment
    return kind(vocabulary, clamp, inside)


class PartsSegment:
    """The part map: 48 codes, one after the other or (`block`) all in one pass over query tokens.

    The block layout is the published one: `<code_40>` announces it, the queries `<code_42>` .. `<code_89>` stand
    where their own codes are wanted, and `<code_41>` closes. `end_seen` makes the queries see that last mark while
    decoding, which the published decoder does although its training does not.
    """

    name = "parsing"

    def __init__(self, vocabulary: Vocabulary, block: bool, end_seen: bool = False) -> None:
        self.vocabulary = vocabulary
        self.block = block
        self.end_seen = end_seen

    def extend(self, target: Target, annotation: Annotation) -> None:
        codes = annotation.codes
        if codes is None:
            raise ValueError("This task needs the codes of a part map.")
        if len(codes) != N_CODES or max(codes) >= self.vocabulary.label_codes:
            raise ValueError(f"A part map is {N_CODES} codes below {self.vocabulary.label_codes}.")
        tokens = [self.vocabulary.code(code) for code in codes]
        if self.block:
            append_block(target, self._block(), tokens)
        else:
            append(target, tokens)

    def rule(self) -> RepeatRule | BlockRule:
        return BlockRule(self._block()) if self.block else RepeatRule((self.vocabulary.label_span,), N_CODES, N_CODES)

    def _block(self) -> Block:
        v = self.vocabulary
        queries = tuple(v.parts_queries(N_CODES))
        return Block(v.parts_begin, queries, v.parts_end, (v.label_span,), self.end_seen)

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        position += self.block  # the mark that announces the block
        tokens = hypothesis.tokens[position : position + N_CODES]
        reading.codes = tuple(token - self.vocabulary.code_start for token in tokens)
        reading.code_spread = hypothesis.spreads.get(position)
        reading.stretches[self.name] = position, position + N_CODES
        return position + N_CODES

    @staticmethod
    def meter() -> ParsingMeter:
        return ParsingMeter()

    @staticmethod
    def score(meter: ParsingMeter, reading: Reading, annotation: Annotation) -> None:
        if reading.part_counts is not None:
            meter.add_counts(reading.part_counts)
            return
        if annotation.parts is None:
            raise ValueError("Scoring part maps needs the true part map.")
        meter.add(reading.parts, annotation.parts)


class CaptionSegment:
    """A description in words; a leading space is part of the published format."""

    name = "caption"

    def __init__(self, vocabulary: Vocabulary, max_words: int, max_tokens: int) -> None:
        self.vocabulary = vocabulary
        self.max_words = max_words
        self.max_tokens = max_tokens

    def extend(self, target: Target, annotation: Annotation) -> None:
        if not annotation.captions:
            raise ValueError("This task needs a caption.")
        words = annotation.captions[0].split()[: self.max_words]
        append(target, self.vocabulary.encode_text(" " + " ".join(words)))

    def rule(self) -> RepeatRule:
        return RepeatRule((self.vocabulary.text_span,), 1, self.max_tokens)

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        start, stop = self.vocabulary.text_span
        words = [token for token in hypothesis.tokens[position:] if start <= token < stop]
        reading.caption = self.vocabulary.decode_text(words).strip()
        reading.stretches[self.name] = position, position + len(words)
        return position + len(words)

    @staticmethod
    def meter() -> CaptionMeter:
        return CaptionMeter()

    @staticmethod
    def score(meter: CaptionMeter, reading: Reading, annotation: Annotation) -> None:
        meter.add(reading.caption, annotation.captions)


SEGMENTS: dict[str, Scored] = {kind.name: kind for kind in (BoxSegment, KeypointsSegment, PartsSegment, CaptionSegment)}
"""The stretches by name, to score answers that were read back earlier."""
