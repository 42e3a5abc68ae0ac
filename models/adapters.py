"""Light fine-tuning: low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) beside frozen weights, by the library
peft (extra `lora`). `models.export` merges them, so that a model folder never holds any.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from ..errors import MissingExtraError, RefHCMError
from .config import ModelConfig
from .refhcm import RefHCM
from .vision_compat import mend_torchvision

ADAPTER = "default"
"""peft's name of the only adapter."""


@dataclass(frozen=True)
class LoraSettings:
    """Settings under peft's own names. A targeted layer adds `lora_alpha / r * B A x` to `W x`; B begins as zero.

    target_modules are last parts of names, such as `q_proj`, of every linear layer that gets an adapter.
    """

    r: int
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_modules", tuple(self.target_modules))
        if self.r < 1 or not self.lora_alpha > 0 or not 0 <= self.lora_dropout < 1 or not self.target_modules:
            raise RefHCMError(
                "LoRA needs a rank of at least 1, an alpha above 0, a dropout from 0 to below 1 and target modules, "
                f"not {self.r}, {self.lora_alpha}, {self.lora_dropout}, {', '.join(self.target_modules) or 'none'}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoraSettings:
        """The inverse of `to_dict`; RefHCMError for anything else."""
        try:
            return cls(**values)
        except TypeError as error:
            raise RefHCMError(f"These are no settings of LoRA adapters: {values!r}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "target_modules": list(self.target_modules)}


def add_adapters(model: RefHCM, settings: LoraSettings) -> None:
    """Put adapters beside the targeted layers, in place; from now on they alone are trained.

    Parameters then have peft's names: `....q_proj.base_layer.weight`, `....q_proj.lora_A.default.weight`. RefHCMError
    where no layer has a targeted name, MissingExtraError without peft.
    """
    _inject(model, settings)


def merged(config: ModelConfig, settings: LoraSettings, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a plain model that answers as the adapted model with this `state` does (float32, on the CPU).

    RefHCMError where the state is not that of this model with these adapters.
    """
    tuner = _inject(RefHCM(config), settings)
    try:
        tuner.model.load_state_dict(state)
    except RuntimeError as error:
        raise RefHCMError("The checkpoint's weights are not those of a model with its LoRA adapters.") from error
    return tuner.merge_and_unload(safe_merge=True).state_dict()


def _inject(model: RefHCM, settings: LoraSettings) -> Any:
    peft = import_peft()
    config = peft.LoraConfig(**settings.to_dict())
    try:
        return peft.LoraModel(model, config, ADAPTER)
    except ValueError as error:
        raise RefHCMError(
            f"LoRA found no layer to adapt: none is called {' or '.join(settings.target_modules)}, "
            "or it is no linear layer (q_proj, k_proj, v_proj, out_proj, fc1, fc2 are)."
        ) from error


def import_peft() -> ModuleType:
    """The library, imported on first use (it imports torchvision on the way)."""
    mend_torchvision()
    try:
        return importlib.import_module("peft")
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise MissingExtraError("peft", "lora") from error
