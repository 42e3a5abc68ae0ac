"""Looks at the options of a run before anything is started, for what would fail late or go on otherwise than asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import RefHCMError


def check_options(cfg: Any) -> None:
    """RefHCMError for options of fairseq's, or ours, that make no sense, here or together."""
    if cfg.checkpoint.write_checkpoints_asynchronously:
        raise RefHCMError(
            "--write-checkpoints-asynchronously cannot be had: such files are not checked before older ones are "
            "deleted, and checkpoint_last.pt would not be written."
        )
    _check_numbers(cfg)
    _check_device(cfg.common)
    if getattr(cfg.model, "fully_shard", False):
        _check_sharding(cfg)
    metric = cfg.checkpoint.best_checkpoint_metric
    if cfg.dataset.disable_validation and metric != "loss":
        raise RefHCMError(
            f"--best-checkpoint-metric {metric} cannot be had without validation: leave it out, or validate (VALID, "
            "and no --disable-validation)."
        )
    source = getattr(cfg.model, "init_from", "")
    if source and not Path(source).exists():
        raise RefHCMError(
            f"There is no {source} to start from (--init-from, INIT): name a model folder, a published .pt file or a "
            "run's checkpoint; empty: begin from nothing."
        )


def _check_numbers(cfg: Any) -> None:
    numbers = {
        "--num-workers": (cfg.dataset.num_workers, 0),
        "--max-epoch": (cfg.optimization.max_epoch, 0),
        "--max-update": (cfg.optimization.max_update, 0),
        "--update-freq": (min(cfg.optimization.update_freq, default=0), 1),
    }
    for name, (number, least) in numbers.items():
        if number < least:
            raise RefHCMError(f"{name} must be {least} or more, not {number}.")


def _check_device(common: Any) -> None:
    if common.tpu:
        return
    if not common.cpu and not torch.cuda.is_available():
        raise RefHCMError("There is no CUDA device here: train on the CPU with --cpu (DEVICE=cpu), or mend the driver.")
    # The flat copy of the gradients that fairseq makes under --fp16 is for GPUs.
    for name, asked in (("--fp16", common.fp16 and not common.fp16_no_flatten_grads), ("--amp", common.amp)):
        if common.cpu and asked:
            raise RefHCMError(
                f"{name} needs a GPU: on the CPU leave it out (PRECISION=fp32), or take --autocast bf16 "
                "(PRECISION=autocast) or --bf16."
            )


def _check_sharding(cfg: Any) -> None:
    if cfg.common.fp16 or cfg.common.bf16:
        raise RefHCMError(
            "--fully-shard keeps weights in float32, so it does not go with --fp16 or --bf16: take --autocast bf16."
        )
    if cfg.ema.store_ema:
        raise RefHCMError("--store-ema needs whole weights: leave it or --fully-shard out.")
