"""Where the model looked while it wrote an answer: attention maps by the names of what was answered.

A map says from which cells of the picture the decoder took what it knew when it decided on a token. That is not a proof
of why it decided so: a cell's state holds what the encoder gathered there from everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..data.annotation import KEYPOINT_NAMES
from ..data.vocabulary import Vocabulary
from ..errors import RefHCMError
from ..models.attention_maps import attention_maps
from .asking import output_of

if TYPE_CHECKING:
    from ..models.decoding import Hypothesis
    from ..models.encoder import Memory
    from ..models.grammar import Grammar
    from ..models.refhcm import RefHCM
    from ..tasks import Reading

Units = tuple[tuple[int, int], ...]
"""Half-open ranges of rows, one for each of the things that something answered consists of."""


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Attention to the picture behind each token of an answer, and which tokens say what."""

    weights: np.ndarray
    """float16 (tokens, h, w): the share of each picture cell in a token's attention, averaged over the decoder's heads
    and layers. What is missing to 1 went to the words of the question."""
    units: dict[str, Units]
    """By name, see `Answer.attention`: the rows of `weights` of each side of the box, each keypoint, each coordinate of
    a keypoint, each place of the part map, each word of the caption."""
    words: tuple[str, ...] = ()
    """The caption's words."""

    @classmethod
    def of(cls, vocabulary: Vocabulary, *said: tuple[Reading, Collection[str]]) -> AttentionMaps:
        """The maps of readings with recorded attention: from each reading, of what is named beside it.

        Names that a reading does not hold are passed over.
        """
        kept, units, count = [np.zeros((0, 1, 1), np.float16)], dict[str, Units](), 0
        words: tuple[str, ...] = ()
        for reading, names in said:
            for name, (start, stop) in reading.stretches.items():
                if reading.attention is None or not {name, output_of(name)} & set(names):
                    continue
                pieces = [(token, token + 1) for token in range(stop - start)]
                if name == "caption":
                    words, pieces = split_words(vocabulary, reading.tokens[start:stop])
                if not pieces:  # a caption without a word
                    continue
                units[name] = tuple((count + first, count + last) for first, last in pieces)
                kept.append(reading.attention[start:stop])
                count += stop - start
        joints = [units[name] for name in KEYPOINT_NAMES if name in units]
        if joints and any("keypoints" in names for _, names in said):
            units["keypoints"] = tuple((joint[0][0], joint[-1][1]) for joint in joints)
        return cls(np.concatenate(kept[1:] or kept), units, words)

    @property
    def names(self) -> tuple[str, ...]:
        """What there are maps of: the box, all keypoints, each of them, then what else was answered."""
        order = ("box", "keypoints", *KEYPOINT_NAMES)
        return tuple(sorted(self.units, key=lambda name: order.index(name) if name in order else len(order)))

    @property
    def keypoints(self) -> tuple[str, ...]:
        """Names of the keypoints that there are maps of, in COCO order."""
        return tuple(name for name in KEYPOINT_NAMES if name in self.units)

    def cells(self, name: str, index: int | None = None) -> np.ndarray:
        """The mean map of what `Answer.attention` describes, float32 (h, w); it sums to the share of the picture."""
        if name not in self.units:
            held = f"it holds {', '.join(self.names)}" if self.units else "it holds none"
            raise RefHCMError(f"This answer holds no attention of {name!r}: {held}.")
        units = self.units[name]
        if index is not None:
            if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < len(units):
                raise RefHCMError(f"The attention of {name!r} has the numbers 0 to {len(units) - 1}, not {index!r}.")
            units = (units[index],)
        rows = [row for first, last in units for row in range(first, last)]
        return self.weights[rows].astype(np.float32).mean(0)

    def save(self, path: Path) -> Path:
        """Write a NumPy archive: under each name float16 (number, h, w), as `cells` of each number, and `words`."""
        arrays: dict[str, Any] = {"words": np.array(self.words, np.str_)}
        for name, units in self.units.items():
            arrays[name] = np.array([self.cells(name, index) for index in range(len(units))], np.float16)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return path


def record_attention(
    model: RefHCM, memory: Memory, grammar: Grammar, found: Sequence[Hypothesis], readings: Sequence[Reading]
) -> None:
    """Fill in `Reading.attention` of decoded answers, of everyone where an answer is about several people."""
    maps = attention_maps(model, memory, grammar, [best.tokens for best in found])
    for reading, weights in zip(readings, maps, strict=True):
        for one in (reading, *(reading.people or ())):
            one.attention = weights.half().cpu().numpy()


def split_words(vocabulary: Vocabulary, tokens: Sequence[int]) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
    """The words of a text, and the half-open range of its tokens that each is spelt by (at least one)."""
    counts = [len(vocabulary.decode_text(tokens[: k + 1]).split()) for k in range(len(tokens))]
    words = tuple(vocabulary.decode_text(tokens).split())
    begins = [next(k for k, count in enumerate(counts) if count > number) for number in range(len(words))]
    return words, [(begin, max(end, begin + 1)) for begin, end in pairwise([*begins, len(tokens)])]


def spread(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map of cells laid over a picture of `size` (width, height): float32 (height, width) in [0, 1].

    Bilinear between the cells' centres; 1 is the strongest cell.
    """
    peak = float(cells.max())
    scaled = Image.fromarray(np.ascontiguousarray(cells / peak if peak > 0 else cells, np.float32))
    return np.asarray(scaled.resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
