"""Which split a seed, an outfit or a picture belongs to: nothing is ever shared between train, val and
test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SPLITS = ("train", "val", "test")
OUTFIT_KEYS = ("top", "top_colour", "bottom", "bottom_colour")
_TRAIN_SHARE, _VAL_SHARE = 0.8, 0.1


def split_number(split: str) -> int:
    """Position of `split` in SPLITS; ValueError that names the valid splits otherwise."""
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    return SPLITS.index(split)


def scene_rng(seed: int, split: str, index: int, *stream: int) -> np.random.Generator:
    """The random stream of scene `index`: it depends on these three only, never on workers or order. `stream` names a
    further one of the same scene, from which drawing changes nothing about the first."""
    if seed < 0 or index < 0:
        raise ValueError(f"Seed and scene number must not be negative (got {seed} and {index}).")
    return np.random.default_rng(np.random.SeedSequence([split_number(split), seed, index], spawn_key=stream))


def background_seed(rng: np.random.Generator, split: str) -> int:
    """A seed for a made background, out of the third of all integers that belongs to `split`."""
    return int(rng.integers(2**48)) * len(SPLITS) + split_number(split)


def _bucket(content: bytes) -> str:
    """80 % train, 10 % val, 10 % test by the content's hash; stable over machines, versions and runs."""
    share = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") / 2**64
    if share < _TRAIN_SHARE:
        return "train"
    return "val" if share < _TRAIN_SHARE + _VAL_SHARE else "test"


def outfit_split(attributes: Mapping[str, str]) -> str:
    """The one split that may show this combination of clothes and colours."""
    return _bucket("|".join(attributes.get(key, "") for key in OUTFIT_KEYS).encode())


def photo_split(path: Path) -> str:
    """The one split that may show this photo, by its content (a copy under another name stays in its
    split)."""
    return _bucket(path.read_bytes())
