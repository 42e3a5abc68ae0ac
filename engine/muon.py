"""`--optimizer muon`: Muon for the matrices inside the layers, Adam for everything else.

Muon (Jordan 2024) makes every matrix's step orthogonal, so that rare directions learn as fast as common ones; scaled as
by Liu et al. 2025 (section 2.2) it takes Adam's learning rate and weight decay. Both halves are torch's own.
"""

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer, register_optimizer
from fairseq.optim.adam import FairseqAdamConfig
from torch import Tensor, nn

from ..errors import RefHCMError
from ..models.decoder import DecoderLayer
from ..models.encoder import EncoderLayer

_MARK = "in_a_layer"


def mark_matrices(model: nn.Module) -> None:
    """Let `--optimizer muon`, which is told of weights without their names, know the matrices of the layers."""
    layers = (layer for layer in model.modules() if isinstance(layer, EncoderLayer | DecoderLayer))
    for part in (part for layer in layers for part in layer.modules() if isinstance(part, nn.Linear)):
        setattr(part.weight, _MARK, True)


@dataclass
class MuonConfig(FairseqAdamConfig):
    """Adam's options, for its half, and one of Muon's."""

    muon_momentum: float = field(default=0.95, metadata={"help": "how much of the last updates' direction is kept"})


class MuonAndAdam(torch.optim.Optimizer):
    """Both optimizers as one: their groups of parameters stand side by side, Muon's first."""

    def __init__(self, matrices: list[Tensor], others: list[Tensor], momentum: float, **adam: Any) -> None:
        """adam: `lr`, `betas`, `eps`, `weight_decay`; the first and the last are Muon's too."""
        self.halves: list[torch.optim.Optimizer] = []
        super().__init__([*matrices, *others], {})  # while there are no halves yet: it refuses what it knows already
        shared = {"lr": adam["lr"], "weight_decay": adam["weight_decay"]}
        muon = torch.optim.Muon(matrices, momentum=momentum, adjust_lr_fn="match_rms_adamw", **shared)
        self.halves = [muon, torch.optim.AdamW(others, **adam)]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of both halves, to read and to change."""
        return [group for half in self.halves for group in half.param_groups]

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        """torch's constructor makes groups that nobody needs."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for half in self.halves:
            half.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of both halves, in order."""
        return {"halves": [half.state_dict() for half in self.halves]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """RefHCMError where it is another optimizer's."""
        if "halves" not in state_dict:
            raise RefHCMError("The checkpoint was made by another optimizer than muon: add --reset-optimizer.")
        for half, state in zip(self.halves, state_dict["halves"], strict=True):
            half.load_state_dict(state)


@register_optimizer("muon", dataclass=MuonConfig)
class FairseqMuon(FairseqOptimizer):
    """`MuonAndAdam` as fairseq wants it."""

    def __init__(self, cfg: MuonConfig, params: Iterable[Tensor]) -> None:
        super().__init__(cfg)
        if not hasattr(torch.optim, "Muon"):
            raise RefHCMError(f"--optimizer muon needs torch 2.9 or later, and this is {torch.__version__}.")
        every = list(params)
        matrices = [weight for weight in every if hasattr(weight, _MARK) and weight.dim() == 2]
        if not matrices:
            raise RefHCMError("--optimizer muon finds no matrix; it works without --fp16, --bf16 and --fully-shard.")
        others = [weight for weight in every if not hasattr(weight, _MARK)]
        self._optimizer = MuonAndAdam(matrices, others, cfg.muon_momentum, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """What a run that goes on takes from its command line and not from the checkpoint."""
        cfg = self.cfg
        betas = ast.literal_eval(cfg.adam_betas) if isinstance(cfg.adam_betas, str) else cfg.adam_betas
        return {"lr": cfg.lr[0], "betas": tuple(betas), "eps": cfg.adam_eps, "weight_decay": cfg.weight_decay}

    def load_state_dict(self, state_dict: dict[str, Any], optimizer_overrides: dict[str, Any] | None = None) -> None:
        """As in fairseq; options that only Adam has go to its half alone."""
        self.optimizer.load_state_dict(state_dict)
        for group in self.param_groups:
            group.update({name: value for name, value in (optimizer_overrides or {}).items() if name in group})
