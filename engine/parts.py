"""Which parts of the network are trained, and which of their intermediate results are kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import RefHCMError
from ..models.refhcm import RefHCM


def freeze(model: nn.Module, prefixes: str) -> None:
    """Stop training every parameter whose name is, or lies below, one of `prefixes` (joined by commas).

    Names are those of the model's state dict; a weight that stands under several names goes by any of them.
    RefHCMError for a prefix that names nothing.
    """
    named = list(model.named_parameters(remove_duplicate=False))
    for prefix in filter(None, (part.strip() for part in prefixes.split(","))):
        found = [weight for name, weight in named if f"{name}.".startswith(f"{prefix.rstrip('.')}.")]
        if not found:
            first = sorted({".".join(name.split(".")[:2]) for name, _ in named})
            raise RefHCMError(f"--freeze {prefix}: no parameter has that name; there are {', '.join(first)}.")
        for weight in found:
            weight.requires_grad_(False)


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Batch norms none of whose weights is trained: their running statistics have to stay as well."""
    norms = (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [norm for norm in norms if not any(weight.requires_grad for weight in norm.parameters())]


def recompute(model: RefHCM) -> None:
    """Keep only the input of each transformer layer for the backward pass, which runs the layer again.

    The result is the same, dropout included. The picture trunk is left as it is: running it again would count every
    batch twice in its norms' statistics.
    """
    for layer in (*model.encoder.layers, *model.decoder.layers):
        layer.forward = partial(_recomputed, layer, layer.forward)


def _recomputed(layer: nn.Module, forward: Any, *args: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*args)
    return checkpoint(forward, *args, use_reentrant=False)
