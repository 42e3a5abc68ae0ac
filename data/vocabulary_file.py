"""A vocabulary as a section of a model folder's `config.json`, and back.

    {"text": "sentencepiece" | "gpt2", "num_codes": 256, "num_bins": 256, "label_codes": 128, "mark_start": 128}

and, of a model that writes masks, `mask_codes` and `mask_start`; of one that writes poses as one block, `pose_start`.
`sentencepiece` wants `text.model` beside the
configuration; `gpt2` the published `dict.txt` (see `data/text.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import RefHCMError
from .annotation import CODE_GRID, KEYPOINT_NAMES
from .text import PublishedBpe, SentencePieceText
from .vocabulary import TextTokenizer, Vocabulary

TEXT_MODEL = "text.model"
"""File name of a SentencePiece model in a model folder."""

VOCABULARY_FILE = "vocabulary.json"
"""File name of the section where it stands alone, in a folder without a model."""

_NUMBERS = ("num_codes", "num_bins", "label_codes", "mark_start")
_MASKS = ("mask_codes", "mask_start")
"""Numbers of a model that writes masks; others do not have them."""
_POSE = ("pose_start",)
"""That of a model that writes poses as one block."""

PUBLISHED = {"text": "gpt2", "num_codes": 8192, "num_bins": 1000, "label_codes": 32, "mark_start": 40}
"""The section that describes the published checkpoints."""


def load_vocabulary(section: Mapping[str, object], folder: str | Path) -> Vocabulary:
    """The vocabulary that `section` describes, its text files taken from `folder`; RefHCMError when it cannot be."""
    kind = section.get("text")
    names = (*_NUMBERS, *(_MASKS if set(_MASKS) & set(section) else ()), *(set(_POSE) & set(section)))
    unknown = set(section) - {"text", *names}
    numbers = {name: section.get(name) for name in names}
    if unknown or any(type(number) is not int or not 0 <= number <= 1 << 20 for number in numbers.values()):
        raise RefHCMError(f"The vocabulary section of {folder} must give text and the numbers {', '.join(names)}.")
    text: TextTokenizer
    if kind == "sentencepiece":
        text = SentencePieceText(Path(folder) / TEXT_MODEL)
    elif kind == "gpt2":
        text = PublishedBpe(folder)
    else:
        raise RefHCMError(f"The vocabulary of {folder} is of kind {kind!r}; known kinds: sentencepiece, gpt2.")
    try:
        vocabulary = Vocabulary(text, **numbers)  # type: ignore[arg-type]
        vocabulary.parts_queries(CODE_GRID[0] * CODE_GRID[1])
        if vocabulary.mask_codes:
            vocabulary.mask_queries(CODE_GRID[0] * CODE_GRID[1])
        if vocabulary.pose_start:
            vocabulary.pose_queries(len(KEYPOINT_NAMES))
    except ValueError as error:
        raise RefHCMError(f"The vocabulary section of {folder} does not fit together: {error}") from error
    return vocabulary


def describe_vocabulary(vocabulary: Vocabulary) -> dict[str, object]:
    """The section that `load_vocabulary` reads."""
    kind = "gpt2" if isinstance(vocabulary.text, PublishedBpe) else "sentencepiece"
    names = (*_NUMBERS, *(_MASKS if vocabulary.mask_codes else ()), *(_POSE if vocabulary.pose_start else ()))
    return {"text": kind, **{name: getattr(vocabulary, name) for name in names}}
