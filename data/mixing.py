"""Several datasets as one stream, in a fixed order that depends on seed and epoch only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from ..errors import RefHCMError
from .samples import Item

if TYPE_CHECKING:
    from .dataset import SampleDataset


class MultiTaskDataset(Dataset):
    """Streams of samples as one dataset, each taken as often as its weight says.

    `streams` are (dataset, weight) pairs. An epoch has `length` items (default: as many as the datasets have
    together); which item comes from which stream, and which of its items it is, depends on seed and epoch
    only. Every stream runs through all of its items in a shuffled order before one comes again, across
    epochs. With `joint` an item holds one item of every stream (the published multi-task training), and
    weights are not used.
    """

    def __init__(
        self,
        streams: Sequence[tuple[SampleDataset, float]],
        *,
        length: int | None = None,
        joint: bool = False,
        seed: int = 1,
    ) -> None:
        weights = np.array([weight for _, weight in streams], np.float64)
        if not len(weights) or weights.min() <= 0 or not np.isfinite(weights).all():
            raise RefHCMError("A mix of tasks needs at least one dataset, and weights above zero.")
        self.streams = [stream for stream, _ in streams]
        self.joint, self.seed = joint, seed
        sizes = [len(stream) for stream in self.streams]
        self.length = length or (max(sizes) if joint else sum(sizes))
        self.counts = [self.length] * len(sizes) if joint else _shares(weights, self.length)
        self.set_epoch(0)

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Lay out another epoch."""
        self.epoch = epoch
        owners = np.repeat(np.arange(len(self.streams)), self.counts)
        np.random.default_rng((self.seed, epoch)).shuffle(owners)
        self._owner = owners
        self._places = [self._order(stream, epoch) for stream in range(len(self.streams))]
        nth = np.empty(len(owners), np.int64)
        for stream in range(len(self.streams)):
            mine = owners == stream
            nth[mine] = np.arange(mine.sum())
        self._nth = nth
        for dataset in self.streams:
            dataset.set_epoch(epoch)

    def __getitem__(self, index: int) -> Item:
        if self.joint:
            chosen = [(stream, index) for stream in range(len(self.streams))]
        else:
            chosen = [(int(self._owner[index]), int(self._nth[index]))]
        return [
            sample for stream, n in chosen for sample in self.streams[stream][int(self._places[stream][n])]
        ]

    def _order(self, stream: int, epoch: int) -> np.ndarray:
        """Which items a stream gives in an epoch: a stretch of its endless row of shuffled passes."""
        count, size = self.counts[stream], len(self.streams[stream])
        first = epoch * count
        passes = range(first // size, (first + count - 1) // size + 1) if count else range(0)
        row = [np.random.default_rng((self.seed, stream, number)).permutation(size) for number in passes]
        begin = first % size
        return np.concatenate(row)[begin : begin + count] if row else np.empty(0, np.int64)


def _shares(weights: np.ndarray, length: int) -> list[int]:
    """Split `length` in proportion to `weights`: largest remainders."""
    exact = weights / weights.sum() * length
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: length - counts.sum()]] += 1
    return counts.tolist()
