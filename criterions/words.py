"""A third training aid: let what the trunk sees of a person point at the words that describe them.

Words find a person only when a cell's vector and a word's vector already have something in common. Both live in the
model's own width, so a person's cells, as they enter the encoder, are averaged and compared with the embeddings of all
words, as CLIP compares pictures with sentences; those of the person's description should fit best. Ours; the published
model starts from OFA, which has seen millions of captions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.annotation import Annotation, Question
from ..data.vocabulary import Vocabulary
from .details import PartShares
from .grounding import box_coverage

START_SCALE = 4.0
"""Sharpness of the comparison at the start; learnt from there."""


def person_weights(annotations: Sequence[Annotation], seen: PartShares, height: int, width: int) -> Tensor:
    """How much each cell of a grid counts for its person: float32 [rows, height * width], each row summing to 1 or 0.

    By the part map where one is known (`seen`, on this grid), otherwise by the box.
    """
    coverage, _ = box_coverage(annotations, height, width)
    weight = torch.where(seen.known[:, None], 1 - seen.shares[..., 0], coverage)
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-6)


class WordLoss(nn.Module):
    """Cross-entropy of the words that fit a person's cells against those of the expression and the captions."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.scale = nn.Parameter(torch.tensor(START_SCALE))

    def wanted(self, questions: Sequence[Question], annotations: Sequence[Annotation]) -> Tensor:
        """Which text pieces describe each person: float32 [rows, text pieces] in [0, 1], each row summing to 1 or 0.

        A piece counts by how rare it is among these rows (-log of its share, as in TF-IDF): "with" tells nobody apart.
        """
        start, stop = self.vocabulary.text_span
        said = torch.zeros(len(annotations), stop - start)
        for row, (question, annotation) in enumerate(zip(questions, annotations, strict=True)):
            for text in (*annotation.captions, *([question.text] if question.text else ())):
                pieces = torch.tensor(self.vocabulary.encode_text(" " + text), dtype=torch.long) - start
                said[row, pieces[(pieces >= 0) & (pieces < stop - start)]] = 1
        said = said * -said.mean(0).clamp(min=1e-6).log()
        return said / said.sum(1, keepdim=True).clamp(min=1e-6)

    def forward(
        self, cells: Tensor, grid: tuple[int, int], embeddings: Tensor, questions: Sequence[Question],
        annotations: Sequence[Annotation], seen: PartShares,
    ) -> Tensor:  # fmt: skip
        """Sum over rows. `cells` float32 [B, h * w, C]: each row's picture at the encoder's door, without positions;
        `embeddings` [V, C]: the token matrix; `seen` is on the grid."""
        weight = person_weights(annotations, seen, *grid).to(cells)
        person = F.layer_norm((weight[:, None] @ cells).squeeze(1), cells.shape[-1:])
        logits = self.scale.float() * F.linear(person, embeddings[slice(*self.vocabulary.text_span)].float())
        wanted = self.wanted(questions, annotations).to(cells) * weight.sum(1, keepdim=True)  # nobody there, no words
        return -(wanted * logits.log_softmax(-1)).sum()
