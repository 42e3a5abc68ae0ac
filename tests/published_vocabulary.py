"""The published vocabulary, from the folder with dict.txt that REFHCM_PUBLISHED_VOCABULARY names."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from refhcm.data.text import PublishedBpe
from refhcm.data.vocabulary import Vocabulary


def published_folder() -> Path:
    """The folder; skips the test with the reason where there is none."""
    folder = os.environ.get("REFHCM_PUBLISHED_VOCABULARY")
    if not folder or not (Path(folder) / "dict.txt").is_file():
        pytest.skip("REFHCM_PUBLISHED_VOCABULARY names no folder with the published dict.txt")
    return Path(folder)


@cache
def _load(folder: Path) -> Vocabulary:
    return Vocabulary(PublishedBpe(folder))


def published_vocabulary() -> Vocabulary:
    """The 59,457 published tokens; skips the test where dict.txt is missing."""
    return _load(published_folder())
