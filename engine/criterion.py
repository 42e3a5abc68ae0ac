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
from ..tasks import names

TASKS = tuple(names())
"""Figures are kept for all tasks alike, so that processes that see different ones can add theirs up."""
AIDS = ("grounding", "parts", "joints", "words")


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
    presence_weight: float = field(
        default=0.0, metadata={"help": "extra weight of deciding whether anybody fits; 0: off, as published"}
    )
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
        row, place = self.loss.wanted(sample["target"]).nonzero(as_tuple=True)
        target = sample["target"][row, place]
        task = torch.tensor([TASKS.index(name) for name in sample["tasks"]]).to(row.device, non_blocking=True)[row]
        features, extra = model(**sample["net_input"], features_only=True)
        logits = model.logits(features[row, place]).float()
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
            **self._sums(losses, logits.detach(), target, task),
            **{f"aid_{name}": value.detach() for name, value in aids.items()},
        }
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

    def _sums(self, losses: TokenLosses, logits: Tensor, target: Tensor, task: Tensor) -> dict[str, Tensor]:
        """Per class of token and per task: negative log-likelihoods, how often the likeliest token is right, and how
        many there are, float32 [classes or tasks, 3]; for coordinates the sum of distances in bins. `task` is an index
        into `TASKS` for each token. Nothing here waits for the device.
        """
        right = logits.argmax(-1).eq(target)
        figures = torch.stack([losses.nll.detach(), right.float(), torch.ones_like(losses.nll)], 1)
        by_class, by_task = (
            torch.nn.functional.one_hot(member, count).to(figures).T @ figures
            for member, count in ((losses.kind, len(CLASSES)), (task, len(TASKS)))
        )
        start, stop = self.loss.bins
        is_bin = losses.kind >= CLASSES.index("bin")
        off = (logits[:, start:stop].argmax(-1) + start - target).abs()
        return {"by_class": by_class, "by_task": by_task, "off_bin": (off * is_bin).sum()}

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Averages over processes and batches; losses in bits, as everywhere in fairseq.

        `nll_CLASS`, `acc_CLASS` are over the tokens of a class, `TASK/nll`, `TASK/acc` over those of a task.
        """
        known = {name for log in logging_outputs for name in log}
        found = _numbers({name: sum(log.get(name, 0) for log in logging_outputs) for name in known})
        size, rows = (found.get(name, [0.0])[0] for name in ("sample_size", "nsentences"))
        metrics.log_scalar("loss", found.get("loss", [0.0])[0] / max(size, 1) / math.log(2), size, round=3)
        for name in (f"aid_{aid}" for aid in AIDS if f"aid_{aid}" in found):
            metrics.log_scalar(name, found[name][0] / max(rows, 1), rows, round=4)
        by_class = _triples(found.get("by_class", []), CLASSES)
        nll, tokens = (sum(figures[i] for figures in by_class.values()) for i in (0, 2))
        metrics.log_scalar("nll_loss", nll / max(tokens, 1) / math.log(2), max(tokens, 1), round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        by_task = _triples(found.get("by_task", []), TASKS)
        named = {(f"nll_{name}", f"acc_{name}"): figures for name, figures in by_class.items()}
        named |= {(f"{name}/nll", f"{name}/acc"): figures for name, figures in by_task.items()}
        for (nll_name, acc_name), (total, hits, count) in named.items():
            metrics.log_scalar(nll_name, total / count / math.log(2), count, round=3)
            metrics.log_scalar(acc_name, hits / count, count, round=4)
        places = sum(by_class[name][2] for name in ("bin", "box") if name in by_class)
        if places:
            metrics.log_scalar("bin_distance", found["off_bin"][0] / places, places, round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Yes: everything logged is a sum or a count."""
        return True


def _numbers(values: dict[str, Any]) -> dict[str, list[float]]:
    """The elements of tensors (and plain numbers) in the process's own memory, after one wait for the device."""
    tensors = {name: value.reshape(-1).double() for name, value in values.items() if torch.is_tensor(value)}
    flat = torch.cat(list(tensors.values())).tolist() if tensors else []
    found = {name: [float(value)] for name, value in values.items() if name not in tensors}
    for name, tensor in tensors.items():
        found[name], flat = flat[: len(tensor)], flat[len(tensor) :]
    return found


def _triples(flat: list[float], members: tuple[str, ...]) -> dict[str, list[float]]:
    """Per member that has tokens: what `_sums` holds, the negative log-likelihood, hits and number of its tokens."""
    rows = {name: flat[3 * i : 3 * i + 3] for i, name in enumerate(members) if flat}
    return {name: figures for name, figures in rows.items() if figures[2]}
