"""fairseq's trainer, which skips what is not finite, stops when a signal asks, and keeps in a checkpoint all that a run
needs to go on as if it had never stopped.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fairseq import metrics
from fairseq.trainer import Trainer
from torch import Tensor, nn

from ..data.tsv import BadRow
from ..errors import RefHCMError
from ..stopping import parent, stop
from .going_on import OWN, check_fits, choose, option
from .nonfinite import NonFinite

_STEP = inspect.unwrap(Trainer.train_step)
"""fairseq's update without its bookkeeping of meters, which an exception that passes through would leave open."""
_Found = TypeVar("_Found")
logger = logging.getLogger(__name__)


class SkipUpdate(Exception):
    """This update is not to be made: `what` is not finite, or the loss scaler says so (`overflow`)."""

    def __init__(self, what: str, overflow: bool = False) -> None:
        super().__init__(what)
        self.what, self.overflow = what, overflow


class StopAsked(Exception):
    """All processes leave the validation that they are in."""


class SafeTrainer(Trainer):
    """See above. What processes must agree upon travels with figures that fairseq adds up over them anyway."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.nonfinite = NonFinite(option(self.cfg, "max_nonfinite"))
        self.resumed = ""
        self.target: dict[str, Any] | None = None
        self.owed: dict[str, Any] | None = None
        """A validation that a signal has cut off: of which epoch, and whether at its end."""
        self.patience: dict[str, Any] = {}
        self.skipped = False
        self.loaded: dict[str, Any] = {}
        self._losses: list[tuple[list[str], Tensor]] = []
        self._validating: list[Any] = []
        self._shared: tuple[float, float] | None = None
        self.get_criterion().register_forward_hook(self._note_loss)

    # -- updates ---------------------------------------------------------------------------------------------
    @metrics.aggregate("train")
    def train_step(self, samples: list[Any], raise_oom: bool = False) -> Any:
        """One update, or none: where loss or gradient is not finite, in any process, nothing changes in all of them.

        Empty batches (all rows set aside) stay out where the update has others: fairseq would take the update for one
        without samples, where the last of its batches is empty.
        """
        parent.check()
        stop.training = True
        self.skipped, self._losses = False, []
        self.nonfinite.steps += 1
        self.model.train()
        norms = _Norms(self.get_model())
        batches = [batch for batch in samples if batch] or samples[:1]
        try:
            return _STEP(self, batches, raise_oom)
        except SkipUpdate as skip:
            self.skipped = True
            self.zero_grad()
            norms.put_back()
            metrics.log_stop_time("train_wall")
            self._report(skip)
            return None

    def _note_loss(self, criterion: nn.Module, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """A look at every loss, without waiting for it."""
        if criterion.training:
            names = inputs[1].get("id", [])
            self._losses.append(([str(name) for name in names], torch.isfinite(output[0].detach()).all()))

    def _report(self, skip: SkipUpdate) -> None:
        if skip.overflow:
            logger.info("NOTE: gradient overflow detected, ignoring gradient, %s", skip.what)
            metrics.log_scalar("loss_scale", self.optimizer.scaler.loss_scale, priority=700, round=4, weight=0)
            return
        told = skip.what == "loss"
        rows = [name for names, finite in self._losses for name in names if not (told and finite)]
        rows = [name for names in self.gather(rows) for name in names]
        metrics.log_scalar("skipped", self.nonfinite.total + 1, priority=710, weight=0)
        self.nonfinite.skip(self.get_num_updates(), skip.what, rows, tell=self.is_data_parallel_master)

    def clip_grad_norm(self, clip_norm: float) -> Any:
        """As fairseq's; where the loss itself is not finite, the loss scaler has no part in it and is not asked."""
        unsound = self._shared[1] if self._shared is not None else sum(not finite for _, finite in self._losses)
        if unsound:
            raise SkipUpdate("loss")
        try:
            return super().clip_grad_norm(clip_norm)
        except OverflowError as error:  # fairseq's own way out of it needs a GPU
            raise SkipUpdate(str(error), overflow=True) from error

    def _check_grad_norms(self, grad_norm: Tensor) -> None:
        """The gradients of all processes together are finite, or none is used (--amp has its own way)."""
        if self.cfg.common.amp:
            return super()._check_grad_norms(grad_norm)
        try:
            super()._check_grad_norms(grad_norm)
        except FloatingPointError as error:
            if not torch.isfinite(self._grad_norm_buf).all():
                raise SkipUpdate("gradient") from error
            raise
        if not torch.isfinite(grad_norm).all():  # summed over processes, so alike in all of them
            raise SkipUpdate("gradient")

    # -- what processes agree upon ---------------------------------------------------------------------------
    def _aggregate_logging_outputs(self, logging_outputs: Any, *extra_stats_to_sum: Any, ignore: bool = False) -> Any:
        """fairseq's sums over processes, with two more: who was told to stop, and losses that are not finite."""
        unsound = sum((~finite).double() for _, finite in self._losses) if self.get_criterion().training else 0.0
        outputs, totals = super()._aggregate_logging_outputs(
            logging_outputs, *extra_stats_to_sum, float(stop.asked), unsound, ignore=ignore
        )
        self._shared = float(totals[-2]), float(totals[-1])
        return outputs, totals[:-2]

    @property
    def stopping(self) -> bool:
        """Whether all processes have agreed, with their latest step, to stop."""
        if self.data_parallel_world_size == 1:
            return stop.asked
        return self._shared is not None and self._shared[0] > 0

    def gather(self, mine: _Found) -> list[_Found]:
        """What each process has, in all of them."""
        if self.data_parallel_world_size == 1:
            return [mine]
        box: list[Any] = [None] * self.data_parallel_world_size
        dist.all_gather_object(box, mine, group=self.data_parallel_process_group)
        return box

    def alike(self, action: Callable[[], _Found | None]) -> _Found | None:
        """What an action gives in the first process in which it gives something; an error that a user can mend ends
        all processes, so that none waits for another.
        """
        found, error = None, None
        try:
            found = action()
        except (RefHCMError, FileNotFoundError) as raised:
            error = str(raised)
        told = self.gather((found, error))
        for _, text in told:
            if text is not None:
                raise RefHCMError(text)
        return next((thing for thing, _ in told if thing is not None), None)

    # -- validation ------------------------------------------------------------------------------------------
    def valid_step(self, sample: Any, raise_oom: bool = False) -> Any:
        """As fairseq's; leaves the validation when a signal asks: it may take longer than the time that is left."""
        logged = super().valid_step(sample, raise_oom)
        if self.stopping:
            raise StopAsked
        return logged

    def get_valid_iterator(self, *args: Any, **kwargs: Any) -> Any:
        """As fairseq's."""
        batches = super().get_valid_iterator(*args, **kwargs)
        self._validating.append(batches)
        return batches

    def close_validation(self) -> None:
        """End the loader processes of a validation."""
        while self._validating:
            batches = self._validating.pop()
            if hasattr(batches, "close"):
                batches.close()

    def share_norms(self) -> None:
        """Give every process the batch norms' statistics of the first, whose model is saved: before a validation, so
        that it measures that model, also after going on from a checkpoint.
        """
        if self.data_parallel_world_size > 1:
            for value in _Norms(self.get_model(), every=True).values:
                dist.broadcast(value, 0, group=self.data_parallel_process_group)

    # -- checkpoints -----------------------------------------------------------------------------------------
    def save_checkpoint(self, filename: str, extra_state: dict[str, Any]) -> None:
        """As fairseq's, with what it forgets."""
        super().save_checkpoint(filename, {**extra_state, OWN: self._own_state()})

    def load_checkpoint(self, filename: str, reset_optimizer: bool = False, *args: Any, **kwargs: Any) -> Any:
        """As fairseq's, from the checkpoint that `going_on.choose` finds where the run's last is meant."""
        path, self.resumed = self.alike(lambda: self._choose(filename)) or (filename, "")
        extra_state = super().load_checkpoint(path, reset_optimizer, *args, **kwargs)
        self.loaded = (extra_state or {}).get(OWN, {})
        if self.loaded:
            self._take_own_state(self.loaded, reset_optimizer)
        return extra_state

    def _choose(self, filename: str) -> tuple[str, str] | None:
        """The first process says which file and, for --resume, its fingerprint; None: what fairseq says."""
        resume, suffix = option(self.cfg, "resume"), self.checkpoint_suffix
        last = Path(self.cfg.checkpoint.save_dir) / f"checkpoint_last{suffix}.pt"
        if Path(filename) != last:
            if resume:
                raise RefHCMError("Give one of --resume, --restore-file, --finetune-from-model and --continue-once.")
            return None
        if suffix:
            if resume:
                raise RefHCMError("--resume cannot be had where every process keeps a file of its own (sharded state).")
            return None
        if not self.is_data_parallel_master:
            return None
        path, mark = choose(last, resume)
        if path.is_file():
            check_fits(path, self.get_model(), self.task.state_dict().get(OWN, {}))
        return str(path), mark

    def _own_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "nonfinite": self.nonfinite.state_dict(),
            "target": self.target,
            "owed": self.owed,
            "patience": self.patience,
            "faults": [(fault.path, fault.line, fault.why) for fault in _faults(self.task)],
        }
        if not self.cfg.checkpoint.no_save_optimizer_state:
            state["scaler"] = _scaler_state(self.optimizer)
            state["fp32_params"] = [value.detach().cpu() for value in _fp32_params(self.optimizer)]
        return state

    def _take_own_state(self, state: dict[str, Any], reset_optimizer: bool) -> None:
        self.nonfinite.load_state_dict(state["nonfinite"])
        self.target, self.patience = state["target"], dict(state["patience"])
        if not reset_optimizer and "scaler" in state:
            _set_scaler(self.optimizer, state["scaler"])
            exact, rounded = state["fp32_params"], _fp32_params(self.optimizer)
            if [value.shape for value in exact] == [value.shape for value in rounded]:
                for value, saved in zip(rounded, exact, strict=True):
                    value.data.copy_(saved)
            del state["fp32_params"]


class _Norms:
    """The running statistics of the batch norms that are in training (or all), and their values before an update:
    they change in the forward pass already.
    """

    def __init__(self, model: nn.Module, every: bool = False) -> None:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self.values = [value for norm in norms if norm.training or every for value in norm.buffers()]
        self.before = [] if every else [value.clone() for value in self.values]

    def put_back(self) -> None:
        for value, before in zip(self.values, self.before, strict=True):
            value.copy_(before)


def _faults(task: Any) -> list[BadRow]:
    return task.faults.rows() if hasattr(task, "faults") else []


def _scaler_state(optimizer: Any) -> dict[str, Any]:
    """The loss scaler's counters; fairseq keeps its scale alone."""
    scaler = getattr(optimizer, "scaler", None)
    if scaler is None:
        return {}
    return dict(scaler.state_dict() if hasattr(scaler, "state_dict") else vars(scaler))


def _set_scaler(optimizer: Any, state: Mapping[str, Any]) -> None:
    scaler = getattr(optimizer, "scaler", None)
    if scaler is None or not state:
        return
    if hasattr(scaler, "load_state_dict"):
        scaler.load_state_dict(state)
        return
    for name in ("loss_scale", "_iter", "_last_overflow_iter", "_last_rescale_iter", "_overflows_since_rescale"):
        setattr(scaler, name, state[name])


def _fp32_params(optimizer: Any) -> list[Tensor]:
    """The weights that --fp16 and --bf16 train: a checkpoint's model holds them rounded."""
    found = getattr(optimizer, "fp32_params", None)
    if found is None:
        return []
    if isinstance(found, Mapping):
        return [found[device] for device in sorted(found)]
    return [found] if isinstance(found, Tensor) else list(found)
