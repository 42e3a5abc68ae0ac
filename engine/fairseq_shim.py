"""Run the released fairseq 0.12.2, unchanged, on Python 3.10 to 3.13 with today's torch, numpy, hydra and omegaconf.

`load_fairseq()` imports fairseq and mends, in this process only, what time has broken. It must run before anything else
imports fairseq. Each repair names what fails without it; all are harmless where the original would work.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.util
import logging
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..errors import RefHCMError

_MARK = "_refhcm_shim"


class FairseqMissingError(RefHCMError, ImportError):
    """fairseq is not installed, or was imported before it could be mended."""


def load_fairseq() -> ModuleType:
    """The mended fairseq; FairseqMissingError when it is not installed or came in by another door. Idempotent."""
    loaded = sys.modules.get("fairseq")
    if loaded is not None and hasattr(loaded, _MARK):
        return loaded
    if loaded is not None:
        raise FairseqMissingError("fairseq was imported before refhcm.engine; import refhcm.engine first.")
    if importlib.util.find_spec("fairseq") is None:
        raise FairseqMissingError(
            "Training needs fairseq, which is not installed. Run `make test` once, or: pip install -r requirements.txt "
            "&& READTHEDOCS=1 pip install --no-deps fairseq==0.12.2"
        )
    _restore_numpy_names()
    with _hashable_configs(), _silence():
        fairseq = importlib.import_module("fairseq")
        importlib.import_module("fairseq.options")
    _allow_own_checkpoints()
    _refuse_broken_checkpoints()
    _broadcast_without_pickle_file()
    _keep_bf16_off_tpu()
    _distribute_on_cpu()
    _average_weights_once()
    _hush()
    setattr(fairseq, _MARK, True)
    return fairseq


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No deprecation warnings and no advice to install this or that while fairseq imports all of its modules."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _restore_numpy_names() -> None:
    """numpy 1.24 removed `np.int` and `np.float`, which fairseq's data_utils and dynamic_crf_layer still say."""
    for name, kind in (("int", int), ("float", float)):
        if name not in vars(np):
            setattr(np, name, kind)


@contextlib.contextmanager
def _hashable_configs() -> Iterator[None]:
    """Python 3.11 refuses an unhashable dataclass default: `ValueError: mutable default ... CommonConfig`.

    fairseq's configurations nest as instances of one another (`common: CommonConfig = CommonConfig()`), and its
    hydra_init reads `field.default`, so a factory would not do. While fairseq is imported, its dataclasses get the
    hash that ordinary objects have.
    """
    original = dataclasses.dataclass

    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(target: type) -> type:
            made: Any = original(target, **options)
            if made.__hash__ is None and made.__module__.split(".")[0] == "fairseq":
                made.__hash__ = object.__hash__
            return made

        return decorate if cls is None else decorate(cls)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _allow_own_checkpoints() -> None:
    """torch 2.6 loads weights only: on resume `Unsupported global: argparse.Namespace`.

    The trainer's checkpoints hold a Namespace and, in their meters, numpy scalars; these few types are data, so
    they join torch's allow-list and loading stays weights-only.
    """
    scalar = np.float64(0).__reduce__()[0]  # numpy's rebuilder; numpy 2 keeps it in another module
    kinds = {type(np.dtype(name)) for name in ("bool", "int32", "int64", "float16", "float32", "float64")}
    torch.serialization.add_safe_globals([argparse.Namespace, np.dtype, scalar, *kinds])


def _refuse_broken_checkpoints() -> None:
    """A checkpoint that is cut short, or holds more than data, or is of a run with other parameters, ends in torch's
    traceback; here it is one sentence.
    """
    optim: Any = importlib.import_module("fairseq.optim.fairseq_optimizer")
    resume: Callable[..., Any] = optim.FairseqOptimizer.load_state_dict

    def load_state_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return resume(self, *args, **kwargs)
        except ValueError as error:
            raise RefHCMError(
                "The checkpoint's optimizer knows other parameters than this run has, as when a training aid was "
                "switched on or off: add --reset-optimizer to go on with its weights alone."
            ) from error

    optim.FairseqOptimizer.load_state_dict = load_state_dict
    utils: Any = importlib.import_module("fairseq.checkpoint_utils")
    read: Callable[..., Any] = utils.load_checkpoint_to_cpu

    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return read(path, *args, **kwargs)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise RefHCMError(
                f"{path} cannot be resumed from: it is cut short, or holds more than data and is not executed. "
                "Delete it to start anew, or name another with --restore-file."
            ) from error

    utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _broadcast_without_pickle_file() -> None:
    """Resuming on several processes sends the checkpoint through torch.load, which refuses it (weights only).

    The sender is our own process, so torch.distributed may carry the object.
    """
    utils: Any = importlib.import_module("fairseq.distributed.utils")

    def broadcast(obj: Any, src_rank: int, group: Any, dist_device: torch.device) -> Any:
        box = [obj]
        dist.broadcast_object_list(box, src=src_rank, group=group, device=dist_device)
        return box[0]

    utils._broadcast_object_slow = broadcast


def _keep_bf16_off_tpu() -> None:
    """`--bf16` also switches `--tpu` on, which stops at `import torch_xla` on any other machine."""
    options: Any = importlib.import_module("fairseq.options")
    parse: Callable[..., Any] = options.parse_args_and_arch

    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(namespace, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
            namespace.tpu = False
        return parsed

    options.parse_args_and_arch = parse_args_and_arch


def _distribute_on_cpu() -> None:
    """On CPU, DDP refuses `device_ids`, and log lines that cannot be summed travel as CUDA tensors."""
    wrappers: Any = importlib.import_module("fairseq.models.distributed_fairseq_model")
    utils: Any = importlib.import_module("fairseq.distributed.utils")
    parallel: Callable[..., Any] = wrappers.DistributedDataParallel
    gather: Callable[..., Any] = utils.all_gather_list

    def on_any_device(module: torch.nn.Module, **options: Any) -> Any:
        if not any(p.is_cuda for p in module.parameters()):
            options.update(device_ids=None, output_device=None)
        return parallel(module, **options)

    def all_gather_list(data: Any, group: Any = None, max_size: int = 16384) -> list[Any]:
        if torch.cuda.is_available():
            return gather(data, group, max_size)
        group = utils.get_global_group() if group is None else group
        gathered: list[Any] = [None] * utils.get_world_size(group=group)
        dist.all_gather_object(gathered, data, group=group)
        return gathered

    wrappers.DistributedDataParallel = on_any_device
    utils.all_gather_list = all_gather_list


def _average_weights_once() -> None:
    """`--store-ema` stops at integer buffers (batch norm's counters) and averages a tied weight once per name."""
    ema: Any = importlib.import_module("fairseq.models.ema.ema")

    @torch.no_grad()
    def step(self: Any, new_model: torch.nn.Module, updates: int | None = None) -> None:
        own = self.model.state_dict()
        mean = self.fp32_params if self.config.ema_fp32 else own
        done = set()
        for name, value in new_model.state_dict().items():
            if mean[name].data_ptr() in done:
                continue
            done.add(mean[name].data_ptr())
            if value.is_floating_point() and name not in self.skip_keys:
                mean[name].lerp_(value.to(mean[name].dtype), 1 - self.decay)
            else:
                mean[name].copy_(value)
        for name, value in own.items():
            if value is not mean[name]:
                value.copy_(mean[name])

    ema.EMA._step_internal = step


def _hush() -> None:
    """Notices about fairseq's own code, which nobody here can act on."""
    # The trainer takes all biases that are None for one shared parameter, and says so line by line.
    logging.getLogger("fairseq.trainer").addFilter(
        lambda record: not str(record.msg).startswith("detected shared parameter")
    )
    for message in (
        r"`torch\.cuda\.amp\.",
        r".*hydra\.experimental",
        r"\s*The strict flag",
        r"\s*The version_base",
        r"'pin_memory' argument is set",
    ):
        warnings.filterwarnings("ignore", message=message)
