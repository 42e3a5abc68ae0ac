"""What `train.py` changes about fairseq's training loop, so that a run survives signals, kills and bad numbers.

`install()` puts our trainer, our way of writing files and the few functions below in the places of fairseq's own; each
calls the one that it replaces.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch.distributed as dist

from ..data.commands import folder_of_run
from ..data.tsv import BadRow
from ..stopping import stop
from . import saving
from .going_on import set_target
from .options import check_options
from .trainer import SafeTrainer, StopAsked

_MARK = "_refhcm_survival"
_PATIENCE = ("best", "num_runs")
"""What fairseq remembers of validations at its functions."""
logger = logging.getLogger(__name__)


def install() -> None:
    """Make fairseq's training loop a surviving one. Idempotent."""
    cli: Any = importlib.import_module("fairseq_cli.train")
    if hasattr(cli, _MARK):
        return
    setattr(cli, _MARK, True)
    saving.install()
    cli.Trainer = SafeTrainer
    for place, name, make in (
        (cli, "main", _sole_main),
        (cli.distributed_utils, "call_main", _checked_call),
        (cli, "train", _ending_its_loaders),
        (cli, "validate", _left_when_asked),
        (cli, "validate_and_save", _stopped_when_asked),
        (cli.checkpoint_utils, "save_checkpoint", _saved_together),
        (cli.checkpoint_utils, "load_checkpoint", _gone_on),
    ):
        original = getattr(place, name)
        setattr(place, name, wraps(original)(make(cli, original)))


def _checked_call(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def call_main(cfg: Any, *args: Any, **kwargs: Any) -> None:
        check_options(cfg)  # before processes meet, which fails without a GPU
        original(cfg, *args, **kwargs)

    return call_main


def _sole_main(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def main(cfg: Any, *args: Any, **kwargs: Any) -> None:
        for function in (cli.checkpoint_utils.save_checkpoint, cli.should_stop_early):
            for name in _PATIENCE:  # of another run in this process
                vars(function).pop(name, None)
        leads = not _several() or dist.get_rank() == 0
        cure = "end that run, or name another folder with --save-dir (SAVE)"
        with contextlib.suppress(Finished), folder_of_run(cfg.checkpoint.save_dir, cure, leads, _told):
            original(cfg, *args, **kwargs)

    return main


def _told(sentence: str | None) -> str | None:
    """That of the first process."""
    if not _several():
        return sentence
    box = [sentence]
    dist.broadcast_object_list(box, 0)
    return box[0]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


# -- checkpoints ---------------------------------------------------------------------------------------------
def _saved_together(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def save_checkpoint(cfg: Any, trainer: Any, epoch_itr: Any, val_loss: float | None) -> None:
        if hasattr(trainer.task, "share_faults"):
            trainer.task.share_faults()
        if val_loss is not None and not math.isfinite(val_loss):
            logger.warning("the validation gave %s, which is not compared with the best so far", val_loss)
            val_loss = None
        patience = vars(cli.should_stop_early)
        trainer.patience = {name: patience[name] for name in _PATIENCE if name in patience}
        trainer.alike(lambda: original(cfg, trainer, epoch_itr, val_loss))
        trainer.saved_at = _place(trainer, epoch_itr)

    return save_checkpoint


def _gone_on(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def load_checkpoint(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        extra_state, epoch_itr = original(cfg, trainer, **kwargs)
        if not (cfg.reset_optimizer or cfg.reset_meters):
            vars(cli.should_stop_early).update(trainer.patience)
        known = getattr(getattr(trainer.task, "faults", None), "sizes", {})
        trainer.alike(lambda: _recall_faults(trainer, known))
        if set_target(trainer, epoch_itr) and hasattr(cli.should_stop_early, "num_runs"):
            cli.should_stop_early.num_runs = 0  # who wants more has patience anew
        _finish_epoch(cfg, trainer, extra_state)
        owed = trainer.loaded.get("owed")
        if owed is not None and not cfg.reset_dataloader:
            logger.info("first the validation that was cut off, of epoch %d", owed["epoch"])
            standing = _Standing(owed, extra_state["train_iterator"])
            subsets = trainer.cfg.dataset.valid_subset.split(",")
            losses, should_stop = cli.validate_and_save(
                trainer.cfg, trainer, trainer.task, standing, subsets, owed["end_of_epoch"]
            )
            if should_stop:
                raise Finished
            if owed["end_of_epoch"]:
                trainer.lr_step(owed["epoch"], losses[0])
        _leave_if_complete(cli, trainer)
        return extra_state, epoch_itr

    return load_checkpoint


def _leave_if_complete(cli: Any, trainer: Any) -> None:
    """A run that was at its end, and is started again, has nothing to do; fairseq looks after one more update."""
    updates, last = trainer.get_num_updates(), trainer.cfg.optimization.max_update
    patience = trainer.cfg.checkpoint.patience
    if (last and updates >= last) or 0 < patience <= getattr(cli.should_stop_early, "num_runs", 0):
        logger.info("nothing left to do after update %d: see --more-epochs and --more-updates", updates)
        raise Finished


def _finish_epoch(cfg: Any, trainer: Any, extra_state: Mapping[str, Any] | None) -> None:
    """Tell the scheduler how the epoch has ended, which fairseq does only after it has saved."""
    if extra_state is None or cfg.reset_optimizer or cfg.reset_lr_scheduler:
        return
    state, loss = extra_state["train_iterator"], extra_state.get("val_loss")
    if not state["iterations_in_epoch"] and loss is not None:
        trainer.lr_step(state["epoch"] - 1, loss)


def _recall_faults(trainer: Any, known: Mapping[str, int]) -> None:
    found = [BadRow(*fault) for fault in trainer.loaded.get("faults", [])]
    if known:
        trainer.task.faults.add(fault for fault in found if fault.path in known)


class Finished(Exception):
    """The run is at its end."""


class _Standing:
    """Where a checkpoint stands, in the words of fairseq's iterator over epochs."""

    def __init__(self, owed: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        self.epoch, self._end, self._state = owed["epoch"], owed["end_of_epoch"], dict(state)
        self.iterations_in_epoch = state["iterations_in_epoch"]

    def end_of_epoch(self) -> bool:
        return self._end

    def state_dict(self) -> dict[str, Any]:
        return self._state


def _place(trainer: Any, epoch_itr: Any) -> tuple[int, int, int]:
    return trainer.get_num_updates(), epoch_itr.epoch, epoch_itr.iterations_in_epoch


# -- stopping ------------------------------------------------------------------------------------------------
def _left_when_asked(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def validate(cfg: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.stopping:
            raise StopAsked
        trainer.share_norms()
        try:
            return original(cfg, trainer, *args, **kwargs)
        finally:
            trainer.close_validation()

    return validate


def _ending_its_loaders(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def train(cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> Any:
        try:
            return original(cfg, trainer, task, epoch_itr)
        finally:
            if hasattr(epoch_itr, "close"):
                epoch_itr.close()

    return train


def _stopped_when_asked(cli: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def validate_and_save(
        cfg: Any, trainer: Any, task: Any, epoch_itr: Any, valid_subsets: list[str], end_of_epoch: bool
    ) -> Any:
        trainer.owed = None
        losses: list[float | None] = [None]
        should_stop = False
        try:
            if end_of_epoch or not trainer.skipped:  # a skipped update owes nothing that the one before did not
                losses, should_stop = original(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
        except StopAsked:
            trainer.owed = {"epoch": epoch_itr.epoch, "end_of_epoch": end_of_epoch}
        if not trainer.stopping:
            return losses, should_stop
        if getattr(trainer, "saved_at", None) != _place(trainer, epoch_itr):
            cli.checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
        _say_how_to_go_on(cfg.checkpoint, trainer)
        stop.done = True
        return losses, True

    return validate_and_save


def _say_how_to_go_on(cfg: Any, trainer: Any) -> None:
    if cfg.no_save or cfg.no_last_checkpoints:
        option = "--no-save" if cfg.no_save else "--no-last-checkpoints"
        logger.info("stopped after update %d, by %s without a checkpoint", trainer.get_num_updates(), option)
        return
    logger.info(
        "stopped after update %d; %s/checkpoint_last%s.pt is written, and the same command goes on from there",
        trainer.get_num_updates(),
        cfg.save_dir,
        trainer.checkpoint_suffix,
    )
