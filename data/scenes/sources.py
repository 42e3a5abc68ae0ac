"""Where the people of a scene come from: drawn in 2-D, read from banks of rendered cut-outs, or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import RefHCMError
from .bank import Bank
from .cutout import ANY_ELEVATION, Cutout
from .people2d import DrawnPeople
from .splits import SPLITS, outfit_split

BACKENDS = ("2d", "3d", "mixed")
DRAWN_SHARE = 0.2  # of the scenes, in a mix


class CutoutSource(Protocol):
    """Anything that hands out people."""

    def draw(
        self, rng: np.random.Generator, split: str, elevations: tuple[float, float] = ANY_ELEVATION
    ) -> Cutout:
        """A person whose outfit belongs to `split`, if it can be seen from a camera between these `elevations`
        (degrees, see `Cutout.elevation`); all chance comes from `rng`."""
        ...

    def look(self, rng: np.random.Generator, split: str) -> dict[str, str]:
        """The words (`cutout.ATTRIBUTE_KEYS`) about such a person, without its picture."""
        ...


class BankPeople:
    """Rendered people of one or more banks; the outfit decides the split of each."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._banks = [Bank(folder) for folder in folders]
        self._members: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
        for number, bank in enumerate(self._banks):
            for i in range(len(bank)):
                self._members[outfit_split(bank.attributes(i))].append((number, i))
        self._by_elevation, self._elevations = {}, {}
        for split, members in self._members.items():
            seen_from = np.array([self._banks[number].elevation(i) for number, i in members])
            self._by_elevation[split] = np.argsort(seen_from, kind="stable")
            self._elevations[split] = np.sort(seen_from)

    def draw(
        self, rng: np.random.Generator, split: str, elevations: tuple[float, float] = ANY_ELEVATION
    ) -> Cutout:
        """One of the bank's people of this split; RefHCMError when there is none between these `elevations`."""
        number, i = self._member(rng, split, elevations)
        return self._banks[number][i]

    def look(self, rng: np.random.Generator, split: str) -> dict[str, str]:
        """The words about one of them; RefHCMError as `draw`."""
        number, i = self._member(rng, split)
        return self._banks[number].attributes(i)

    def _member(
        self, rng: np.random.Generator, split: str, elevations: tuple[float, float] = ANY_ELEVATION
    ) -> tuple[int, int]:
        members = self._members[split]
        if elevations != ANY_ELEVATION:
            low, high = np.searchsorted(self._elevations[split], elevations)
            members = [members[at] for at in self._by_elevation[split][low:high]]
        if not members:
            raise RefHCMError(
                f"No cut-out of the bank wears an outfit of the {split} split; make the bank larger."
            )
        return members[int(rng.integers(len(members)))]


def make_sources(backend: str, banks: Sequence[Path]) -> list[tuple[CutoutSource, float]]:
    """Sources with the share of scenes that each fills. ValueError for an unknown back end or a missing
    bank."""
    if backend not in BACKENDS:
        raise ValueError(f"There is no back end {backend!r}; choose one of {', '.join(BACKENDS)}.")
    if backend == "2d":
        return [(DrawnPeople(), 1.0)]
    if not banks:
        raise ValueError(
            f"The back end {backend} needs rendered people: name their folder with --bank, or use 2d."
        )
    rendered = BankPeople(banks)
    return (
        [(rendered, 1.0)] if backend == "3d" else [(DrawnPeople(), DRAWN_SHARE), (rendered, 1 - DRAWN_SHARE)]
    )
