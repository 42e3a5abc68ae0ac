"""Spread over the processes what every one would hold alike, for models that leave no room, with torch's own means.

`--zero-sharding os` spreads the optimizer's state; fairseq takes fairscale for it, whose optimizer torch took over.
`--fully-shard` spreads weights, gradients and the optimizer's state, layer by layer, in the place of fairseq's
`--ddp-backend fully_sharded`, which is fairscale too and no longer kept up. Checkpoints hold whole tensors either way
and are used like any others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, distribute_tensor, init_device_mesh

from ..errors import RefHCMError


def install() -> None:
    """Make fairseq's trainer know both; nothing changes where neither is asked for."""
    _module("fairseq.optim").shard_ = shard_optimizer
    _module("fairseq.distributed").fsdp_enable_wrap = _refuse_fairscale
    _wrap_sharded_models()
    _measure_sharded_gradients()
    _save_whole_tensors()
    _load_whole_optimizers()


# -- the optimizer's state alone -----------------------------------------------------------------------------
class ShardedOptimizer(ZeroRedundancyOptimizer):
    """torch's, with what fairseq asks its own for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("supports") and "optim" in vars(self):
            return getattr(self.optim, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def broadcast_global_state_dict(self, state: Any) -> Any:
        """The whole state of the optimizer, which rank 0 has read, for every rank to take its part of."""
        box = [state]
        dist.broadcast_object_list(box, src=0, group=self.process_group)
        return box[0]


def shard_optimizer(optimizer: Any, group: Any) -> None:
    """Replace the optimizer inside a fairseq optimizer by one that keeps the state of its share of the parameters."""
    inner = optimizer.optimizer
    if len(inner.param_groups) != 1:
        raise RefHCMError("--zero-sharding takes an optimizer with one group of parameters.")
    parameters = inner.param_groups[0]["params"]
    optimizer.optimizer = ShardedOptimizer(parameters, type(inner), process_group=group, **optimizer.optimizer_config)


# -- everything ----------------------------------------------------------------------------------------------
def shard_model(model: Any, device: torch.device) -> None:
    """Spread each layer, the trunk, and the rest as one piece; a piece is whole only while it is computed."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in (*model.encoder.layers, *model.decoder.layers, model.encoder.embed_images):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def spread(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` holds it: its own shard where that is spread."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole(value: Any) -> Any:
    """The same nest of containers with whole tensors, on the CPU, where there were spread ones. All ranks call it."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {name: whole(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(whole, value))
    return value


# -- fairseq's trainer ---------------------------------------------------------------------------------------
def _module(name: str) -> Any:
    return importlib.import_module(name)


def _refuse_fairscale(_: Any) -> None:
    raise RefHCMError("--ddp-backend fully_sharded is fairscale's, which is no longer kept up: take --fully-shard.")


def _wrap_sharded_models() -> None:
    models = _module("fairseq.models")
    wrap: Callable[..., Any] = models.DistributedFairseqModel

    def distributed(args: Any, model: nn.Module, process_group: Any, device: torch.device) -> Any:
        if not getattr(model, "fully_shard", False):
            return wrap(args, model, process_group=process_group, device=device)
        shard_model(model.to(device), torch.device(device))
        return model

    models.DistributedFairseqModel = distributed


def _measure_sharded_gradients() -> None:
    """The norm of all gradients, of which each process has a part."""
    utils = _module("fairseq.utils")
    clip: Callable[..., Tensor] = utils.clip_grad_norm_

    def clip_grad_norm_(params: Any, max_norm: float, aggregate_norm_fn: Any = None) -> Tensor:
        params = [params] if isinstance(params, Tensor) else list(params)
        grads = [weight.grad for weight in params if weight.grad is not None]
        if not any(isinstance(grad, DTensor) for grad in grads):
            return clip(params, max_norm, aggregate_norm_fn)
        spread_out = [grad.to_local() for grad in grads if isinstance(grad, DTensor)]
        alike = [grad for grad in grads if not isinstance(grad, DTensor)]  # of the loss's own weights
        square = _square(spread_out)
        dist.all_reduce(square)
        norm = (square + _square(alike).to(square.device)).sqrt()
        if max_norm > 0:
            factor = (max_norm / (norm + 1e-6)).clamp(max=1)
            for grad in (*spread_out, *alike):
                grad.mul_(factor)
        return norm

    utils.clip_grad_norm_ = clip_grad_norm_


def _square(grads: list[Tensor]) -> Tensor:
    """Sum of squares, float32 []."""
    return torch.stack([grad.float().pow(2).sum() for grad in grads]).sum() if grads else torch.zeros(())


def _save_whole_tensors() -> None:
    trainer = _module("fairseq.trainer").Trainer
    collect: Callable[..., dict[str, Any]] = trainer.state_dict
    always: property = trainer.always_call_state_dict_during_save_checkpoint

    def is_sharded(self: Any) -> bool:
        return self.use_distributed_wrapper and getattr(self._model, "fully_shard", False)

    def state_dict(self: Any) -> dict[str, Any]:
        state = collect(self)
        return whole(state) if is_sharded(self) else state

    trainer.state_dict = state_dict
    trainer.always_call_state_dict_during_save_checkpoint = property(
        lambda self: is_sharded(self) or always.__get__(self)  # making tensors whole takes all processes
    )


def _load_whole_optimizers() -> None:
    optimizer = _module("fairseq.optim.fairseq_optimizer").FairseqOptimizer
    load: Callable[..., Any] = optimizer.load_state_dict

    def load_state_dict(self: Any, *args: Any, **kwargs: Any) -> None:
        load(self, *args, **kwargs)
        for weight, kept in self.optimizer.state.items():
            if isinstance(weight, DTensor):
                kept.update({name: spread(value, weight) for name, value in kept.items() if isinstance(value, Tensor)})

    optimizer.load_state_dict = load_state_dict
