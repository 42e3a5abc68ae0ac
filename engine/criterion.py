"""The label-smoothed loss as a fairseq criterion: `--criterion refhcm_loss`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq import metrics, utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from torch import Tensor

from ..criterions.details import FINE, DetailLoss, part_shares
from ..criterions.grounding import GroundingLoss
from ..criterions.label_smoothed import BOX_PLACES, CLASSES, LabelSmoothedLoss, LossSettings, TokenLosses
from ..criterions.words import WordLoss


@dataclass
class LossConfig(FairseqDataclass):
    """Command-line options; see `criterions.label_smoothed.LossSettings` for what they mean."""

    label_smoothing: float = field(default=0.1, metadata={"help": "probability given to other tokens"})
    bin_sigma: float = field(
        default=0.0,
        metadata={"help": "above 0: wanted bins are smoothed to their neighbours, Gaussian width in bins"},
    )
    bin_smoothing: float = field(
        default=-1.0, metadata={"help": "probability given to a bin's neighbours; -1: as --label-smoothing"}
    )
    text_weight: float = field(default=1.0, metadata={"help": "weight of words and </s> in the loss"})
    code_weight: float = field(default=1.0, metadata={"help": "weight of part-map codes in the loss"})
    bin_weight: float = field(default=1.0, metadata={"help": "weight of coordinates in the loss"})
    box_weight: float = field(default=1.0, metadata={"help": "weight of the box that answers begin with"})
    grounding_weight: float = field(
        default=0.0, metadata={"help": "weight of criterions.grounding, a training aid; 0: off, as published"}
    )
    detail_weight: float = field(
        default=0.0, metadata={"help": "weight of criterions.details, a training aid (see --part-maps); 0: off"}
    )
    word_weight: float = field(
        default=0.0, metadata={"help": "weight of criterions.words, a training aid (see --part-maps); 0: off"}
    )
    drop_worst_ratio: float = field(default=0.0, metadata={"help": "share of the worst tokens to leave out"})
    drop_worst_after: int = field(default=0, metadata={"help": "updates before any token is left out"})


@register_criterion("refhcm_loss", dataclass=LossConfig)
class RefHCMLoss(FairseqCriterion):
    """Teacher-forced loss over the positions that want a token; gradients are normalised by their number.

    Block decoding needs nothing special here: a batch's `target` and `blocks` say what each position wants and sees.
    """

    def __init__(self, cfg: LossConfig, task: Any) -> None:
        super().__init__(task)
        settings = LossSettings(**{name: cfg[name] for name in LossSettings.__dataclass_fields__})
        self.loss = LabelSmoothedLoss.for_vocabulary(settings, task.vocabulary)
        self.grounding = GroundingLoss(task.network.d_model) if cfg["grounding_weight"] else None
        self.details = DetailLoss(task.network.d_model) if cfg["detail_weight"] else None
        self.words = WordLoss(task.vocabulary) if cfg["word_weight"] else None
        self.aid_weights = {
            "grounding": cfg["grounding_weight"], "parts": cfg["detail_weight"], "joints": cfg["detail_weight"],
            "words": cfg["word_weight"],
        }  # fmt: skip

    def forward(
        self, model: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Loss sum, sample size (sum of token weights), and what to log. `reduce` is fairseq's and has no effect."""
        keep = self.loss.wanted(sample["target"])
        target = sample["target"][keep]
        features, extra = model(**sample["net_input"], features_only=True)
        logits = model.logits(features[keep]).float()
        place = torch.arange(keep.shape[1], device=keep.device).expand_as(keep)[keep]
        losses = self.loss.tokens(logits, target, place)
        loss, size = self.loss.total(losses, getattr(model, "num_updates", 0))
        log = {"loss": loss.detach()}  # of the answer alone, so that it compares with runs without aids
        aids = self._aids(model, extra, sample)
        for name, weight in self.aid_weights.items():
            if name in aids:  # a row's cells weigh like its box's tokens
                loss = loss + weight * BOX_PLACES * aids[name]
        log |= {
            "sample_size": size,
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            **self._by_class(losses),
            **{f"aid_{name}": value.detach() for name, value in aids.items()},
        }
        if not model.training:
            log.update(self._hits(logits, target, losses.kind))
        return loss, size, log

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Resume: aids that the checkpoint knows go on; one that was switched on since begins anew (the optimizer's
        state fits no longer then, see --reset-optimizer).
        """
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def _aids(self, model: Any, extra: dict[str, Any], sample: dict[str, Any]) -> dict[str, Tensor]:
        """Losses, summed over rows, that are read off the encoder's picture cells and not off the answer."""
        if self.grounding is self.details is self.words is None:
            return {}
        height, width = grid = tuple(extra["features"].shape[2:])
        states, people = extra["memory"].states, sample["annotations"]
        seen = part_shares(people, height * FINE, width * FINE)
        aids = {}
        if self.grounding is not None:
            aids["grounding"] = self.grounding(states, grid, people)
        if self.details is not None:
            aids["parts"], aids["joints"] = self.details(states, grid, people, seen)
        if self.words is not None:
            encoder = model.encoder
            features = extra["features"].to(encoder.image_proj.weight.dtype)
            cells = encoder.image_proj(features.flatten(2).transpose(1, 2)).float()
            cells = cells.index_select(0, sample["net_input"]["image_index"])
            aids["words"] = self.words(
                cells, grid, encoder.embed_tokens.weight, sample["questions"], people, seen.coarser(height, width, FINE)
            )
        return aids

    def _by_class(self, losses: TokenLosses) -> dict[str, Tensor]:
        """Per class of token: sum of negative log-likelihoods, and how many."""
        members = torch.nn.functional.one_hot(losses.kind, len(CLASSES)).to(losses.nll.dtype)
        sums, counts = losses.nll.detach() @ members, members.sum(0)
        named = {f"nll_{name}": sums[i] for i, name in enumerate(CLASSES)}
        return named | {f"n_{name}": counts[i] for i, name in enumerate(CLASSES)}

    def _hits(self, logits: Tensor, target: Tensor, kind: Tensor) -> dict[str, Tensor]:
        """Per class: how often the likeliest token is right; for coordinates the sum of distances in bins."""
        right = logits.argmax(-1).eq(target)
        hits = {f"hit_{name}": right[kind == i].sum() for i, name in enumerate(CLASSES)}
        rows = kind >= CLASSES.index("bin")
        start, stop = self.loss.bins
        hits["off_bin"] = (logits[rows, start:stop].argmax(-1) + start - target[rows]).abs().sum()
        return hits

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Averages over processes and batches; losses in bits, as everywhere in fairseq."""

        def total(name: str) -> float:
            return float(utils.item(sum(log.get(name, 0) for log in logging_outputs)))

        size = total("sample_size")
        metrics.log_scalar("loss", total("loss") / max(size, 1) / math.log(2), size, round=3)
        for name in ("aid_grounding", "aid_parts", "aid_joints", "aid_words"):
            if any(name in log for log in logging_outputs):
                rows = total("nsentences")
                metrics.log_scalar(name, total(name) / max(rows, 1), rows, round=4)
        counts = {name: total(f"n_{name}") for name in CLASSES}
        tokens = max(sum(counts.values()), 1)
        nll = sum(total(f"nll_{name}") for name in CLASSES)
        metrics.log_scalar("nll_loss", nll / tokens / math.log(2), tokens, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        scored = any("off_bin" in log for log in logging_outputs)
        for name, count in counts.items():
            if count:
                metrics.log_scalar(
                    f"nll_{name}", total(f"nll_{name}") / count / math.log(2), count, round=3
                )
                if scored:
                    metrics.log_scalar(f"acc_{name}", total(f"hit_{name}") / count, count, round=4)
        places = counts["bin"] + counts["box"]
        if scored and places:
            metrics.log_scalar("bin_distance", total("off_bin") / places, places, round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Yes: everything logged is a sum or a count."""
        return True
