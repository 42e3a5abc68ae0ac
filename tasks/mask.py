"""RES and ROI, the tasks that answer masks: 48 codes of the mask tokenizer, decoded as one block over the answer's box.

`res` is asked by words: the person's box and pixels. `roi` is asked by a region (or by points, with a box of its own
finding): every pixel of it is background, that person, or somebody else. `s1_mask` asks for everything at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.annotation import OTHERS, PERSON, Annotation, Question
from ..data.vocabulary import Vocabulary
from ..metrics.masks import MaskMeter
from ..models.grammar import Block, BlockRule
from ..models.label_map_paste import crop_part_map
from .rec import Rec
from .segments import N_CODES, BoxSegment, KeypointsSegment, PartsSegment, append_block
from .task import Reading, Target, Task, register

if TYPE_CHECKING:
    from ..models.hypothesis import Hypothesis
    from ..models.label_map import LabelMapTokenizer


class MaskSegment:
    """The mask inside the answer's box, as one block of codes. Training needs the tokenizer that makes them."""

    name = "mask"

    def __init__(
        self, vocabulary: Vocabulary, tokenizer: LabelMapTokenizer | None = None, others: bool = False
    ) -> None:
        """others: whether the codes also say where other people are."""
        if not vocabulary.mask_codes:
            raise ValueError("This model's token space has no codes for masks.")
        self.vocabulary = vocabulary
        self.tokenizer = tokenizer
        self.others = others

    @torch.inference_mode()
    def extend(self, target: Target, annotation: Annotation) -> None:
        if annotation.mask is None or annotation.box is None:
            raise ValueError("This task needs a mask and a box.")
        if self.others and annotation.others is None:
            raise ValueError("This task needs the masks of everybody in the picture.")
        if self.tokenizer is None:
            raise ValueError("Training on masks needs a mask tokenizer.")
        labels = np.where(annotation.mask, PERSON, 0).astype(np.uint8)
        if self.others and annotation.others is not None:
            labels[annotation.others & ~annotation.mask] = OTHERS
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
        reading.stretches[self.name] = position, position + N_CODES
        return position + N_CODES

    @staticmethod
    def meter() -> MaskMeter:
        return MaskMeter()

    @staticmethod
    def score(meter: MaskMeter, reading: Reading, annotation: Annotation) -> None:
        if annotation.mask is None:
            raise ValueError("Scoring masks needs the true mask.")
        meter.add(reading.mask, annotation.mask)


@register
class Res(Task):
    """Referring segmentation. Answer: four bins, then the mask. Scored by IoU of pixels (and the box)."""

    name = "res"
    needs = ("box", "mask")
    prompt = Rec.prompt + " Provide the bounding box and the mask."

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, masks: LabelMapTokenizer | None = None
    ) -> None:
        segments = [BoxSegment(vocabulary, clamp), MaskSegment(vocabulary, masks)]
        super().__init__(vocabulary, segments, max_words, clamp)


@register
class Roi(Task):
    """Region of interest. Answer: the region itself (asked by points: the person's box), then the three-way map."""

    name = "roi"
    needs = ("box", "mask", "others")
    by_region = True
    prompt = " which pixels of the region {} show the person?"

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, masks: LabelMapTokenizer | None = None
    ) -> None:
        segments = [BoxSegment(vocabulary, clamp), MaskSegment(vocabulary, masks, others=True)]
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
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, masks: LabelMapTokenizer | None = None
    ) -> None:
        blocks = [MaskSegment(vocabulary, masks), PartsSegment(vocabulary, block=True)]
        ends = BoxSegment(vocabulary, clamp), KeypointsSegment(vocabulary, clamp)
        super().__init__(vocabulary, [ends[0], *blocks, ends[1]], max_words, clamp)
