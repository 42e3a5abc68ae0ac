"""The best checkpoint by any metric (`--best-checkpoint-metric`), where fairseq takes the loss for granted."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from ..criterions.label_smoothed import CLASSES
from ..errors import RefHCMError

logger = logging.getLogger(__name__)

LOSSES = (
    "loss", "nll_loss", "ppl", "bin_distance", *(f"{kind}_{name}" for kind in ("nll", "acc") for name in CLASSES),
    "aid_grounding", "aid_parts", "aid_joints", "aid_words",
)  # fmt: skip
"""What a validation tells without answers, besides `TASK/nll` and `TASK/acc`, as far as the data know of it."""
_resumed = "loss"
"""The metric of the run that a checkpoint is of, as this process read it last."""
_MARK = "_any_metric"


def allow_any_metric() -> None:
    """Mend fairseq, once: a metric's name may hold `/`, and a checkpoint's best value is that of its own metric."""
    if hasattr(checkpoint_utils.save_checkpoint, _MARK):
        return
    save: Callable[..., Any] = checkpoint_utils.save_checkpoint
    read: Callable[..., Any] = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(save)
    def save_checkpoint(cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """The metric is part of the names that --keep-best-checkpoints gives."""
        if "/" in cfg.best_checkpoint_metric:
            cfg = OmegaConf.merge(cfg, {"best_checkpoint_metric": cfg.best_checkpoint_metric.replace("/", "-")})
        return save(cfg, *args, **kwargs)

    @functools.wraps(read)
    def load_checkpoint_to_cpu(*args: Any, **kwargs: Any) -> Any:
        global _resumed
        state = read(*args, **kwargs)
        checkpoint = (state.get("cfg") or {}).get("checkpoint") or {}
        _resumed = checkpoint.get("best_checkpoint_metric", "loss")
        return state

    setattr(save_checkpoint, _MARK, True)
    checkpoint_utils.save_checkpoint = save_checkpoint
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def begin_best(metric: str) -> None:
    """Before training: the best value so far, which fairseq takes from the checkpoint, says nothing about another
    metric.
    """
    global _resumed
    if _resumed != metric and hasattr(checkpoint_utils.save_checkpoint, "best"):
        logger.info("the best checkpoint is chosen by %s from here on, no longer by %s", metric, _resumed)
        del checkpoint_utils.save_checkpoint.best
    _resumed = metric


def check_told(metric: str, figures: Mapping[str, Any]) -> None:
    """RefHCMError where the figures of a validation lack the metric."""
    if figures.get(metric) is None:
        raise RefHCMError(no_metric(metric, [name for name, value in figures.items() if value is not None]))


def no_metric(metric: str, told: Sequence[str]) -> str:
    """The sentence that refuses a name."""
    return f"--best-checkpoint-metric {metric}: no validation tells it. It tells: {', '.join(dict.fromkeys(told))}."
