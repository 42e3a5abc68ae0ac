"""Our datasets in the form that fairseq's iterators expect."""

from __future__ import annotations

from typing import Any

import numpy as np
from fairseq.data import FairseqDataset

from ..data.dataset import MultiTaskDataset, SampleDataset
from ..data.samples import Batch, Sample, collate
from ..errors import RefHCMError


class FairseqSamples(FairseqDataset):
    """Batches of a fixed number of items (an item may be several samples of one picture).

    With `shuffle` every epoch puts other items together, in an order that depends on seed and epoch only.
    """

    def __init__(self, items: SampleDataset | MultiTaskDataset, shuffle: bool, seed: int) -> None:
        self.items = items
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 1

    def __getitem__(self, index: int) -> list[Sample]:
        return self.items[int(index)]

    def __len__(self) -> int:
        return len(self.items)

    def collater(self, samples: list[list[Sample]]) -> Batch:
        """See `data.samples.collate`; fairseq pads the last round of a distributed epoch with empty batches."""
        return collate(samples)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """No: workers keep the epoch that they were started in, and the epoch decides what is drawn."""
        return False

    def set_epoch(self, epoch: int) -> None:
        """Start another epoch."""
        self.epoch = epoch
        self.items.set_epoch(epoch)

    def ordered_indices(self) -> np.ndarray:
        """The order that batches are cut from."""
        if not self.shuffle:
            return np.arange(len(self))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self))

    def filter_indices_by_size(self, indices: np.ndarray, max_sizes: Any) -> tuple[np.ndarray, list[int]]:
        """Keep everything: answers are short, and instructions are cut to a number of words."""
        return indices, []

    def batch_by_size(
        self,
        indices: np.ndarray,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[np.ndarray]:
        """Cut the order into batches of `max_sentences` items; fairseq's compiled batching is not needed."""
        if not max_sentences:
            raise RefHCMError("Say how many items make a batch with --batch-size; --max-tokens is not supported.")
        return [indices[i : i + max_sentences] for i in range(0, len(indices), max_sentences)]
