"""Our datasets in the form that fairseq's iterators expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset

from ..data.dataset import MultiTaskDataset, SampleDataset
from ..data.faults import FaultTally
from ..data.samples import Batch, Item, collate
from ..errors import RefHCMError
from .loaders import shelter_loader


class FairseqSamples(FairseqDataset):
    """Batches of a fixed number of items (an item may be several samples of one picture).

    With `shuffle` every epoch puts other items together, in an order that depends on seed and epoch only.
    """

    def __init__(self, items: SampleDataset | MultiTaskDataset, shuffle: bool, seed: int) -> None:
        self.items = items
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 1

    def __getitem__(self, index: int) -> Item:
        shelter_loader()
        return self.items[int(index)]

    def __len__(self) -> int:
        return len(self.items)

    def collater(self, samples: list[Item]) -> Batch:
        """See `data.samples.collate`; fairseq pads the last round of a distributed epoch with empty batches."""
        return collate(samples)

    @property
    def sizes(self) -> dict[str, int]:
        """Path of each file -> its number of rows."""
        streams = self.items.streams if isinstance(self.items, MultiTaskDataset) else [self.items]
        return {str(stream.rows.file.path): len(stream.rows) for stream in streams}

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


class CheckedBatches:
    """fairseq's iterator over epochs, which it wraps: rows that were set aside are counted as their batches arrive.

    That happens in the training process, batch after batch, so it does not depend on loader processes. A batch of which
    every row was set aside comes as an empty one, which fairseq takes for a step without gradient, as it does where the
    last round of an epoch has no batch for a process.
    """

    def __init__(self, batches: Any, tally: FaultTally) -> None:
        self._batches, self._tally = batches, tally
        self._open: _Checked | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def first_batch(self) -> Batch:
        """The first batch that has samples: fairseq computes on it where it has nothing else to do."""
        batches = self._batches
        for indices in batches.frozen_batches:
            batch = batches.collate_fn([batches.dataset[i] for i in indices])
            self._tally.add(batch.pop("faults", []))
            if batch:
                return batch
        raise RefHCMError("No row of the training data can be used: refhcm validate says what is wrong with them.")

    def next_epoch_itr(self, *args: Any, **kwargs: Any) -> Any:
        """See fairseq; what it gives is told apart from other iterators by its counting, so that is kept."""
        iterator = self._batches.next_epoch_itr(*args, **kwargs)
        if not isinstance(iterator._itr, _Checked):
            iterator._itr = _Checked(iterator._itr, self._tally)
        self._open = iterator._itr
        return iterator

    def close(self) -> None:
        """End the loader processes of the epoch that was begun last.

        fairseq leaves them to the garbage collector, since its iterators hold one another. That comes late, so that
        those of several epochs wait side by side, and it closes their queues first: each is then given up after 5 s.
        """
        if self._open is not None:
            self._open.close()
            self._open = None


class _Checked:
    """Batches without their faults, which go to the tally."""

    def __init__(self, batches: Any, tally: FaultTally) -> None:
        self._batches, self._tally = batches, tally

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._tally.add(batch.pop("faults", []))
        return batch

    def close(self) -> None:
        """End the loader processes, where there are some; fairseq's buffer may lie between."""
        loader = getattr(self._batches, "_iterable", None)
        processes: Any = self._batches if loader is None else getattr(loader, "_iterator", None)
        if hasattr(processes, "_shutdown_workers"):
            processes._shutdown_workers()

    def take(self, count: int) -> None:
        """Stop after `count` batches, where those below can."""
        if hasattr(self._batches, "take"):
            self._batches.take(count)
