"""RES and ROI, the tasks that answer masks: 48 codes of the mask tokenizer, decoded as one block over the answer's box.

`res` is asked by words: the person's box and pixels. `roi` is asked by a region (or by points, with a box of its own
finding): every pixel of it is background, that person, or somebody else. `s1_mask` asks for everything at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from ..data.annotation import MASK_NAMES, Annotation, Question
from ..data.vocabulary import Vocabulary
from ..metrics.masks import MaskMeter, RegionMeter
from ..metrics.parsing import confusion
from ..models.grammar import Block, BlockRule
from ..models.label_map_data import three_way
from ..models.label_map_paste import crop_part_map
from .rec import Rec
from .segments import N_CODES, BoxSegment, PartsSegment, Segment, append_block, pose_segment
from .task import Reading, Target, Task, register

if TYPE_CHECKING:
    from ..models.hypothesis import Hypothesis
    from ..models.label_map import LabelMapTokenizer


class MaskSegment:
    """The mask inside the answer's box, as one block of codes. Training needs the tokenizer that makes them."""

    name = "mask"
    others: ClassVar[bool] = False
    """Whether the codes also say where other people are."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: LabelMapTokenizer | None = None) -> None:
        if not vocabulary.mask_codes:
            raise ValueError("This model's token space has no codes for masks.")
        self.vocabulary = vocabulary
        self.tokenizer = tokenizer

    @torch.inference_mode()
    def extend(self, target: Target, annotation: Annotation) -> None:
        if annotation.box is None:
            raise ValueError("This task needs a box.")
        labels = self.true_labels(annotation)
        if self.tokenizer is None:
            raise ValueError("Training on masks needs a mask tokenizer.")
        config = self.tokenizer.config
        crop = crop_part_map(labels, annotation.box, (config.height, config.width))
        codes = self.tokenizer.encode(torch.from_numpy(crop)[None])[0].tolist()
        start = self.vocabulary.mask_span[0]
        append_block(target, self._block(), [start + code for code in codes])

    def rule(self) -> BlockRule:
        return BlockRule(self._block())

    def _block(self) -> Block:
        v = self.vocabulary
        return Block(v.mask_begin, tuple(v.mask_queries(N_CODES)), v.mask_end, (v.mask_span,))

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        position += 1  # the mark that announces the block
        tokens = hypothesis.tokens[position : position + N_CODES]
        reading.mask_codes = tuple(token - self.vocabulary.mask_span[0] for token in tokens)
        reading.mask_spread = hypothesis.spreads.get(position)
        reading.tells_others = self.others
        reading.stretches[MaskSegment.name] = position, position + N_CODES
        return position + N_CODES

    @classmethod
    def true_labels(cls, annotation: Annotation) -> np.ndarray:
        """The right map, uint8 (H, W) of the classes `MASK_NAMES`; ValueError where it is not known."""
        if annotation.mask is None:
            raise ValueError("This task needs a mask.")
        if cls.others and annotation.others is None:
            raise ValueError("This task needs the masks of everybody in the picture.")
        return three_way(annotation.mask, annotation.others if cls.others else None)

    @classmethod
    def compare(cls, reading: Reading, annotation: Annotation) -> np.ndarray:
        """Pixels of the whole picture by true and answered class, int64 (3, 3); no mask is an empty one."""
        truth = cls.true_labels(annotation)
        mask = np.zeros(truth.shape, bool) if reading.mask is None else reading.mask
        return confusion(three_way(mask, reading.others if cls.others else None), truth, len(MASK_NAMES))

    @staticmethod
    def meter() -> MaskMeter:
        return MaskMeter()

    @classmethod
    def score(cls, meter: MaskMeter, reading: Reading, annotation: Annotation) -> None:
        meter.add_counts(cls.compare(reading, annotation) if reading.mask_counts is None else reading.mask_counts)


class RegionSegment(MaskSegment):
    """The three-way map of a region: which of its pixels are the person, and which other people."""

    name = "region"
    others = True

    @classmethod
    def compare(cls, reading: Reading, annotation: Annotation) -> np.ndarray:
        """As `MaskSegment`, of the pixels whose centres lie in the region that was asked about."""
        if annotation.box is None:
            raise ValueError("Scoring regions needs the region.")
        x1, y1, x2, y2 = np.ceil(np.array(annotation.box) - 0.5).clip(0).astype(int)
        maps = (reading.mask, reading.others, annotation.mask, annotation.others)
        mask, others, *truth = (None if one is None else one[y1:y2, x1:x2] for one in maps)
        inside = Annotation((x2 - x1, y2 - y1), mask=truth[0], others=truth[1])
        return super().compare(Reading(mask=mask, others=others), inside)

    @staticmethod
    def meter() -> RegionMeter:  # type: ignore[override]
        return RegionMeter()


@register
class Res(Task):
    """Referring segmentation. Answer: four bins, then the mask. Scored by IoU of pixels (and the box)."""

    name = "res"
    needs = ("box", "mask")
    prompt = Rec.prompt + " Provide the bounding box and the mask."

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, masks: LabelMapTokenizer | None = None
    ) -> None:
        segments: list[Segment] = [BoxSegment(vocabulary, clamp), MaskSegment(vocabulary, masks)]
        super().__init__(vocabulary, segments, max_words, clamp)


@register
class Roi(Task):
    """Region of interest. Answer: the region itself (asked by points: the person's box), then the three-way map."""

    name = "roi"
    needs = ("box", "mask", "others")
    by_region = repeats_region = True
    prompt = " which pixels of the region {} show the person?"

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, masks: LabelMapTokenizer | None = None
    ) -> None:
        segments: list[Segment] = [BoxSegment(vocabulary, clamp), RegionSegment(vocabulary, masks)]
        super().__init__(vocabulary, segments, max_words, clamp)

    def answered(self, question: Question, annotation: Annotation) -> Annotation:
        """The map is laid over the region that was asked about, which need not be the person's own box."""
        return annotation if question.region is None else replace(annotation, box=question.region)


@register
class S1Mask(Task):
    """All that can be seen of a person by one instruction: four bins, mask, part map, keypoints."""

    name = "s1_mask"
    needs = ("box", "mask", "codes", "keypoints")
    prompt = Rec.prompt + " Provide the mask, the parsing map and the keypoints."

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, masks: LabelMapTokenizer | None = None,
        inside: bool = False,
    ) -> None:  # fmt: skip
        blocks: list[Segment] = [MaskSegment(vocabulary, masks), PartsSegment(vocabulary, block=True)]
        ends = BoxSegment(vocabulary, clamp), pose_segment(vocabulary, clamp, inside)
        super().__init__(vocabulary, [ends[0], *blocks, ends[1]], max_words, clamp)
