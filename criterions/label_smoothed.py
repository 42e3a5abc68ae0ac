"""Label-smoothed cross-entropy over a mixed answer of words, codes and coordinate bins.

Plain torch: `refhcm.engine.criterion` hands it to fairseq. As published (RefHCM's and OFA's training), with three
choices of ours that are off by default: coordinates can be smoothed towards their neighbours instead of towards the
whole vocabulary, words, codes and bins can weigh differently, and the worst tokens can be left out (published, used by
one recipe).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..data.vocabulary import EOS, PAD, Span, Vocabulary
from ..errors import RefHCMError

CLASSES = ("text", "code", "bin", "box")
"""Kinds of tokens that losses are weighted and logged by: `box` are the bins that an answer begins with, `bin` all
others; `</s>` and other special tokens count as text."""
BOX_PLACES = 4
"""Answers that hold a box begin with its four bins."""


@dataclass(frozen=True)
class LossSettings:
    """How tokens are scored. The defaults are the published recipe's."""

    label_smoothing: float = 0.1
    """Share of the wanted probability that goes to other tokens: evenly, or see `bin_sigma`."""
    bin_sigma: float = 0.0
    """Above 0: where a bin is wanted, that share goes to its neighbours, as a Gaussian of this width in bins."""
    bin_smoothing: float = -1.0
    """The share for bins when `bin_sigma` is above 0; below 0 it is `label_smoothing`."""
    text_weight: float = 1.0
    code_weight: float = 1.0
    bin_weight: float = 1.0
    box_weight: float = 1.0
    """The box says which person is meant, in four tokens of up to a hundred: a small model gains by a higher weight."""
    presence_weight: float = 0.0
    """Of deciding at an answer's start whether anybody fits, on top of the token's own loss: binary cross-entropy of
    `</s>` against all bins together, as decoding decides it (`models.hypothesis`)."""
    drop_worst_ratio: float = 0.0
    """Share of tokens, those with the highest loss, that is left out."""
    drop_worst_after: int = 0
    """Nothing is left out up to this many updates."""

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "drop_worst_ratio", "bin_smoothing"):
            if getattr(self, name) >= 1 or (getattr(self, name) < 0 and name != "bin_smoothing"):
                raise RefHCMError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}.")
        weights = (self.text_weight, self.code_weight, self.bin_weight, self.box_weight, self.presence_weight)
        if min(self.bin_sigma, *weights) < 0:
            raise RefHCMError("Loss weights and the width of the bin smoothing cannot be negative.")
        if 0 < self.bin_sigma < 0.25:  # the nearest neighbour's weight would vanish in float32
            raise RefHCMError(f"bin_sigma is 0 (off) or at least 0.25 bins, not {self.bin_sigma}.")

    @property
    def bin_share(self) -> float:
        """The smoothing share for bins under `bin_sigma`."""
        return self.label_smoothing if self.bin_smoothing < 0 else self.bin_smoothing


@dataclass(frozen=True)
class TokenLosses:
    """Losses of n tokens, all float32 [n], natural logarithm, and the class of each (int64 index into `CLASSES`)."""

    loss: Tensor
    nll: Tensor
    kind: Tensor
    presence: Tensor
    """Of the decision that `LossSettings.presence_weight` weighs; 0 where there is none."""


def smoothed_nll(logits: Tensor, target: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Loss and negative log-likelihood, [n] each, of float32 logits [n, V] at int64 targets [n].

    (1 - e - e/(V-1)) nll + e/(V-1) * sum over the vocabulary of -log p, with e = `share`: the wanted token gets 1 - e,
    the others share e evenly (fairseq's label_smoothed_nll_loss). Log-probabilities are never stored as a whole.
    """
    log_total = logits.logsumexp(-1)
    nll = log_total - logits.gather(-1, target[:, None]).squeeze(-1)
    if share == 0:
        return nll, nll
    size = logits.shape[-1]
    each = share / (size - 1)
    everywhere = size * log_total - logits.sum(-1)
    return (1 - share - each) * nll + each * everywhere, nll


def neighbour_nll(logits: Tensor, target: Tensor, bins: Span, sigma: float) -> Tensor:
    """Cross-entropy [n] against a discretised Gaussian around each wanted bin, that bin itself left out.

    `logits` [n, V] float32; `target` [n] ids inside the range `bins`; `sigma` in bins. Bins beyond the ends have no
    weight, so at the picture's edge the mass lies on the inner side.
    """
    ids = torch.arange(*bins, device=logits.device)
    distance = (ids[None] - target[:, None]).float()
    weight = torch.exp(-0.5 * (distance / sigma) ** 2).masked_fill_(distance == 0, 0)
    weight = weight / weight.sum(-1, keepdim=True)
    return logits.logsumexp(-1) - (weight * logits[:, slice(*bins)]).sum(-1)


class LabelSmoothedLoss:
    """Scores the positions that want a token; everything else of a batch costs nothing."""

    def __init__(self, settings: LossSettings, codes: Span, bins: Span) -> None:
        """`codes` and `bins` are the ranges of ids of those two classes; the other ids count as text."""
        self.settings = settings
        self.codes = codes
        self.bins = bins

    @classmethod
    def for_vocabulary(cls, settings: LossSettings, vocabulary: Vocabulary) -> LabelSmoothedLoss:
        """The loss over this token space."""
        return cls(settings, vocabulary.code_span, vocabulary.bin_span)

    @staticmethod
    def wanted(target: Tensor) -> Tensor:
        """Bool mask, shaped like `target`, of the positions that want a token."""
        return target.ne(PAD)

    def kinds(self, target: Tensor, place: Tensor | None = None) -> Tensor:
        """Class of each wanted token, an index into `CLASSES`; `place` [n] is its position in its answer."""
        is_code = (target >= self.codes[0]) & (target < self.codes[1])
        is_bin = (target >= self.bins[0]) & (target < self.bins[1])
        kind = is_code.long() + 2 * is_bin.long()
        return kind if place is None else kind + (is_bin & (place < BOX_PLACES)).long()

    def tokens(self, logits: Tensor, target: Tensor, place: Tensor | None = None) -> TokenLosses:
        """Unweighted loss of each token; `logits` [n, V] of the wanted positions only, `target` [n] without pads.

        Without `place` (see `kinds`) the box counts among the other bins.
        """
        logits = logits.float()
        kind = self.kinds(target, place)
        loss, nll = smoothed_nll(logits, target, self.settings.label_smoothing)
        share = self.settings.bin_share
        if self.settings.bin_sigma > 0 and share > 0:
            rows = (kind >= CLASSES.index("bin")).nonzero().squeeze(-1)
            near = neighbour_nll(logits[rows], target[rows], self.bins, self.settings.bin_sigma)
            loss = loss.index_put((rows,), (1 - share) * nll[rows] + share * near)
        return TokenLosses(loss, nll, kind, self._presence(logits, target, kind, place))

    def _presence(self, logits: Tensor, target: Tensor, kind: Tensor, place: Tensor | None) -> Tensor:
        """See `LossSettings.presence_weight`: [n]."""
        if place is None or self.settings.presence_weight == 0:
            return torch.zeros_like(logits[:, 0])
        nobody = target == EOS
        decides = (place == 0) & (nobody | (kind == CLASSES.index("box")))
        odds = logits[:, EOS] - logits[:, slice(*self.bins)].logsumexp(-1)
        return binary_cross_entropy_with_logits(odds, nobody.float(), reduction="none") * decides

    def total(self, losses: TokenLosses, update: int = 0) -> tuple[Tensor, Tensor]:
        """Weighted sum of the losses, and the sum of the weights (the number of tokens when all weights are 1).

        After `drop_worst_after` updates only the share `1 - drop_worst_ratio` with the lowest loss counts.
        """
        s = self.settings
        weight = losses.loss.new_tensor([s.text_weight, s.code_weight, s.bin_weight, s.box_weight])[losses.kind]
        loss = losses.loss * weight + s.presence_weight * losses.presence
        if s.drop_worst_ratio > 0 and update > s.drop_worst_after:
            kept = int(len(loss) * (1 - s.drop_worst_ratio))
            loss, order = loss.topk(kept, largest=False)
            weight = weight[order]
        return loss.sum(), weight.sum()
