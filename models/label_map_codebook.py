"""How the codebook of a label-map tokenizer learns.

Its entries follow running means of what they stand for (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1),
start from k-means after a warm-up without codes, and unused ones are given to vectors that are badly served.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .label_map import Codebook
from .processes import ALONE, Processes

_START_BATCHES = 16  # of the warm-up, for k-means


class CodebookAverage:
    """Moves each codebook entry to the running mean of the vectors that chose it, in whichever process."""

    def __init__(
        self, codebook: Codebook, decay: float = 0.98, idle: float = 0.02, processes: Processes = ALONE
    ) -> None:
        """`idle`: an entry chosen less often than this share of the even share is given a new place."""
        self.codebook, self.decay, self.idle, self.processes = codebook, decay, idle, processes
        size, width = codebook.embedding.weight.shape
        self.counts = torch.ones(size, device=codebook.embedding.weight.device)
        self.sums = torch.zeros(size, width, device=codebook.embedding.weight.device)
        self.recent: list[Tensor] = []
        self.started = False

    def watch(self, latents: Tensor) -> None:
        """Keep the vectors of the last batches [B, width, rows, columns] of the warm-up to start from."""
        self.recent = [*self.recent[1 - _START_BATCHES :], _as_rows(latents)]

    def replace(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Put the nearest entry in the place of each vector, and learn from the vectors.

        Args:
            latents: [B, width, rows, columns].

        Returns:
            The entries, of the same shape, through which gradients pass unchanged to `latents`; and the mean
            squared distance, which pulls the encoder towards the entries.
        """
        if not self.started:
            self.watch(latents)
            self.start(torch.cat(self.recent))
        rows = _as_rows(latents)
        nearest = self.codebook.embedding(self.codebook.nearest(rows))
        nearest = nearest.unflatten(0, (latents.shape[0], *latents.shape[2:])).permute(0, 3, 1, 2)
        self.update(rows)
        return latents + (nearest - latents).detach(), F.mse_loss(latents, nearest)

    @torch.no_grad()
    def start(self, vectors: Tensor, rounds: int = 12) -> None:
        """Place the entries by k-means on the vectors [N, width] of all processes."""
        vectors = self.processes.gather(vectors)
        if self.processes.leads:
            self._place(vectors, rounds)
        self._agree()
        self.started, self.recent = True, []

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Take in the vectors [N, width] of one batch of each process."""
        vectors = self.processes.gather(vectors)
        if self.processes.leads:
            self._move(vectors)
        self._agree()

    def _agree(self) -> None:
        """All processes go on with what the first one has: sums on a GPU may differ in their last digits."""
        self.processes.follow(self.codebook.embedding.weight, self.counts, self.sums)

    def _place(self, vectors: Tensor, rounds: int) -> None:
        table = self.codebook.embedding.weight
        table.copy_(vectors[torch.randint(len(vectors), (len(table),))])
        for _ in range(rounds):
            sums, counts = self._assign(vectors)
            filled = counts > 0
            table[filled] = sums[filled] / counts[filled, None]
            table[~filled] = vectors[torch.randint(len(vectors), (int((~filled).sum()),))]
        self.counts.fill_(len(vectors) / len(table) / len(self.recent or [0]))
        self.sums.copy_(table * self.counts[:, None])

    def _move(self, vectors: Tensor) -> None:
        sums, counts = self._assign(vectors)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        table = self.codebook.embedding.weight
        table.copy_(self.sums / self.counts.clamp(min=1e-5)[:, None])
        even = len(vectors) / len(table)
        # a few at a time: the worst served vectors lie close together
        unused = torch.nonzero(self.counts < self.idle * even).flatten()[: max(1, len(table) // 50)]
        if len(unused):
            error = (vectors - table[self.codebook.nearest(vectors)]).pow(2).sum(dim=1)
            chosen = vectors[torch.multinomial(error + 1e-9, len(unused))]
            self.counts[unused] = even
            self.sums[unused] = chosen * even
            table[unused] = chosen

    def _assign(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.codebook.nearest(vectors)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        return sums, torch.bincount(codes, minlength=len(sums)).to(sums)


def _as_rows(latents: Tensor) -> Tensor:
    """[B, width, rows, columns] -> [B * rows * columns, width], without gradient."""
    return latents.detach().permute(0, 2, 3, 1).flatten(0, 2)
