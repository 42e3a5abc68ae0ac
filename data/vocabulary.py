"""The token space, stated once.

    0 <s>   1 <pad>   2 </s>   3 <unk>
    4 ..                          text pieces, in the order of the text tokenizer
    mask                          <mask>
    code_start .. + num_codes     <code_0> ..   codes of part maps and masks, marks and queries of block decoding
    bin_start  .. + num_bins      <bin_0> ..    coordinates: round(fraction of the side * (num_bins - 1))

No other file knows these numbers. The published model has 50,260 text entries, 8,192 codes and 1,000 bins
(59,457 in all; OFA's dictionary). Ids of text pieces come from a `TextTokenizer`; see `data/text.py` for GPT-2 BPE in
the published order and for SentencePiece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

BOS, PAD, EOS, UNK = 0, 1, 2, 3
TEXT_START = 4

FREE_CODES = 128
"""The first code that published part maps leave free, rounded up."""

VISIBILITIES = ("absent", "hidden", "visible")
"""How well a keypoint is seen, by COCO's number for it: outside the picture, behind something, in view."""
POSE_QUERIES = 3
"""Queries of one keypoint: x, y, and how well it is seen."""

Span = tuple[int, int]
"""A half-open range of token ids, (start, stop)."""


class TextTokenizer(Protocol):
    """Words to ids and back. Ids are counted from 0 here; the vocabulary shifts them behind the special tokens."""

    size: int
    """How many ids exist: every id is in range(size)."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; ids outside range(size) are not produced, unknown input gives -1 entries."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text that these ids spell."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """Every conversion between a token id and its meaning.

    `label_codes` is how many codes the label-map tokenizer uses (the published one 32): codes `0 .. label_codes - 1`
    carry part maps. The published block decoding uses three further kinds of codes as marks: 40 begins a part map,
    41 ends it, 42 .. 89 are its 48 queries (RefHCM section on Query Parallel Generation); they may not overlap with
    label codes, so `mark_start` says where the marks begin.

    Ours: masks of people are written with `mask_codes` codes from code `mask_start` on, and right behind them stand
    the begin, end and query marks of their blocks. 0 mask codes: this model writes no masks. From code `pose_start` on
    stand those that a pose is written with when it is one block: three for how well a keypoint is seen, begin, end,
    queries. 0: this model writes keypoints one after the other, as published.
    """

    text: TextTokenizer
    num_codes: int = 8192
    num_bins: int = 1000
    label_codes: int = 32
    mark_start: int = 40
    mask_codes: int = 0
    mask_start: int = FREE_CODES
    pose_start: int = 0

    def __post_init__(self) -> None:
        if self.num_bins < 2 or self.num_codes < 1 or self.text.size < 1:
            raise ValueError("A vocabulary needs text pieces, at least one code and at least two bins.")
        if not 1 <= self.label_codes <= self.num_codes:
            raise ValueError(f"{self.label_codes} label codes do not fit into {self.num_codes} codes.")
        if self.mark_start < self.label_codes:
            raise ValueError(f"The marks begin at code {self.mark_start}, among the {self.label_codes} label codes.")
        if self.mask_codes and self.mask_start < self.mark_start + 2:
            raise ValueError(f"The mask codes begin at code {self.mask_start}, among what part maps are written with.")
        if self.mask_codes and self.mask_start + self.mask_codes > self.num_codes:
            raise ValueError(f"{self.mask_codes} mask codes from {self.mask_start} on exceed {self.num_codes} codes.")
        if self.pose_start and self.pose_start < self._masks_end:
            raise ValueError(f"The pose's codes begin at code {self.pose_start}, among those of part maps and masks.")

    @property
    def _masks_end(self) -> int:
        """The first code behind those of part maps and masks, their queries left out of account."""
        return self.mask_start + self.mask_codes + 2 if self.mask_codes else self.mark_start + 2

    def with_masks(self, codes: int, queries: int) -> Vocabulary:
        """The same with `codes` codes for masks behind what part maps of `queries` codes are written with, and as many
        codes more as that takes. Published models, of whose 8,192 codes those from 128 on are free, need none."""
        start = max(FREE_CODES, self.mark_start + 2 + queries)
        needed = start + codes + 2 + queries
        return replace(self, num_codes=max(self.num_codes, needed), mask_codes=codes, mask_start=start)

    def with_pose(self, keypoints: int, queries: int) -> Vocabulary:
        """The same with codes for a pose of so many keypoints as one block, behind those of part maps and masks, whose
        blocks have `queries` codes each; see `with_masks`."""
        start = max(FREE_CODES, self._masks_end + queries)
        needed = start + len(VISIBILITIES) + 2 + POSE_QUERIES * keypoints
        return replace(self, num_codes=max(self.num_codes, needed), pose_start=start)

    # -- ranges ------------------------------------------------------------------------------------------------------
    @property
    def mask(self) -> int:
        """Id of `<mask>`."""
        return TEXT_START + self.text.size

    @property
    def code_start(self) -> int:
        """Id of `<code_0>`."""
        return self.mask + 1

    @property
    def bin_start(self) -> int:
        """Id of `<bin_0>`."""
        return self.code_start + self.num_codes

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.bin_start + self.num_bins

    @property
    def text_span(self) -> Span:
        """Ids of text pieces."""
        return TEXT_START, self.mask

    @property
    def code_span(self) -> Span:
        """Ids of all codes, marks included."""
        return self.code_start, self.bin_start

    @property
    def label_span(self) -> Span:
        """Ids of the codes that a label map is written with."""
        return self.code_start, self.code_start + self.label_codes

    @property
    def mask_span(self) -> Span:
        """Ids of the codes that masks are written with; empty where the model writes none."""
        start = self.code_start + self.mask_start
        return start, start + self.mask_codes

    @property
    def visibility_span(self) -> Span:
        """Ids of the codes that say how well a keypoint is seen (`VISIBILITIES`); empty where poses are no block."""
        start = self.code_start + self.pose_start
        return start, start + (len(VISIBILITIES) if self.pose_start else 0)

    @property
    def bin_span(self) -> Span:
        """Ids of the coordinate bins."""
        return self.bin_start, self.size

    # -- marks of block decoding -------------------------------------------------------------------------------------
    @property
    def parts_begin(self) -> int:
        """The token that announces a part map decoded as one block (published: `<code_40>`)."""
        return self.code(self.mark_start)

    @property
    def parts_end(self) -> int:
        """The token that closes such a block (published: `<code_41>`)."""
        return self.code(self.mark_start + 1)

    def parts_queries(self, count: int) -> list[int]:
        """Query tokens of a part-map block (published: `<code_42>` .. `<code_89>`)."""
        return [self.code(self.mark_start + 2 + i) for i in range(count)]

    @property
    def mask_begin(self) -> int:
        """The token that announces a mask."""
        return self.code(self.mask_start + self.mask_codes)

    @property
    def mask_end(self) -> int:
        """The token that closes a mask."""
        return self.code(self.mask_start + self.mask_codes + 1)

    def mask_queries(self, count: int) -> list[int]:
        """Query tokens of a mask's block."""
        return [self.code(self.mask_start + self.mask_codes + 2 + i) for i in range(count)]

    @property
    def pose_begin(self) -> int:
        """The token that announces a pose."""
        return self.code(self.pose_start + len(VISIBILITIES))

    @property
    def pose_end(self) -> int:
        """The token that closes a pose."""
        return self.code(self.pose_start + len(VISIBILITIES) + 1)

    def pose_queries(self, keypoints: int) -> list[int]:
        """Query tokens of a pose's block: for each keypoint x, y and how well it is seen."""
        first = self.pose_start + len(VISIBILITIES) + 2
        return [self.code(first + i) for i in range(POSE_QUERIES * keypoints)]

    # -- single tokens -----------------------------------------------------------------------------------------------
    def code(self, index: int) -> int:
        """Id of `<code_index>`; ValueError when it does not exist."""
        if not 0 <= index < self.num_codes:
            raise ValueError(f"<code_{index}> does not exist: this vocabulary has {self.num_codes} codes.")
        return self.code_start + index

    def bin(self, index: int) -> int:
        """Id of `<bin_index>`, or `<unk>` when it does not exist (as published for places outside the picture)."""
        return self.bin_start + index if 0 <= index < self.num_bins else UNK

    def is_bin(self, token: int) -> bool:
        """Whether this id is a coordinate bin."""
        return self.bin_start <= token < self.size

    def name(self, token: int) -> str:
        """A readable name of a token, for logs and tests."""
        special = {BOS: "<s>", PAD: "<pad>", EOS: "</s>", UNK: "<unk>", self.mask: "<mask>"}
        if token in special:
            return special[token]
        if self.is_bin(token):
            return f"<bin_{token - self.bin_start}>"
        if self.code_start <= token < self.bin_start:
            return f"<code_{token - self.code_start}>"
        return self.decode_text([token])

    # -- text --------------------------------------------------------------------------------------------------------
    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text (no `<s>`, no `</s>`); what the tokenizer does not know becomes `<unk>`."""
        return [TEXT_START + i if i >= 0 else UNK for i in self.text.encode(text)]

    def decode_text(self, tokens: Sequence[int]) -> str:
        """The text spelt by these tokens; tokens that are not text are left out."""
        return self.text.decode([t - TEXT_START for t in tokens if TEXT_START <= t < self.mask])

    # -- coordinates -------------------------------------------------------------------------------------------------
    def quantize(self, fractions: Sequence[float] | np.ndarray, clamp: bool = True) -> list[int]:
        """Token ids of coordinates given as fractions of the picture's side (0 = left or top edge, 1 = the other).

        Rounds half to even, as the published code does. With `clamp` a place outside the picture takes the nearest
        bin; without it, it becomes `<unk>` (what the published datasets do).
        """
        bins = np.rint(np.asarray(fractions, dtype=np.float64) * (self.num_bins - 1))
        if not np.isfinite(bins).all():
            raise ValueError("A coordinate is not a finite number.")
        if clamp:
            bins = bins.clip(0, self.num_bins - 1)
        return [self.bin(int(b)) for b in bins.ravel()]

    def dequantize(self, tokens: Sequence[float] | np.ndarray) -> np.ndarray:
        """Fractions of the side for bin ids, or for fractional bin ids (an expectation over bins); float64."""
        return (np.asarray(tokens, dtype=np.float64) - self.bin_start) / (self.num_bins - 1)
