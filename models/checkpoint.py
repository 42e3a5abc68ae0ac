"""A model as a folder: `config.json` (sizes, token space) and `model.safetensors` (weights), read without
executing.

    config.json        {"format": 1, "model": {... ModelConfig ...}, "vocabulary": {...}, ...}
    model.safetensors  one entry per parameter in published names; the token matrix, which serves three ends,
    once

Published `.pt` files are read by `models.published`, whose functions can be had from here too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..data.json_file import read_json
from ..data.vocabulary_file import PUBLISHED
from ..errors import RefHCMError
from .config import ModelConfig
from .published import PublishedCheckpoint, read_published, read_published_vqgan
from .refhcm import TIED, RefHCM

__all__ = [
    "DTYPES",
    "PublishedCheckpoint",
    "check_folder",
    "convert_published",
    "load_folder",
    "read_published",
    "read_published_vqgan",
    "save_folder",
]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FORMAT = 1
_MAX_CONFIG_BYTES = 1 << 20
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Names that users give the formats that weights are stored and computed in."""
_STORED_DTYPES = {"F64", "F32", "F16", "BF16"}


def save_folder(
    folder: str | Path,
    model: RefHCM,
    sections: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
    files: Iterable[str | Path] = (),
) -> None:
    """Write a model into `folder` (made if missing), over what an earlier call wrote there.

    sections: further entries of config.json, above all "vocabulary"
    (`data.vocabulary_file.describe_vocabulary`). dtype: how weights are stored; batch norms stay float32,
    because their variances may not fit into float16. files: files to copy beside the weights, such as the
    text tokenizer's. Raises RefHCMError when weights are not finite or do not fit into `dtype`.
    """
    folder = Path(folder)
    config = {"format": FORMAT, "model": model.config.to_dict(), **(sections or {})}
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    norms = norm_entries(model)
    tensors = {}
    for name, value in model.state_dict().items():
        if name in TIED or name.endswith("num_batches_tracked"):
            continue
        stored = value.detach().to("cpu", torch.float32 if name in norms else dtype).contiguous()
        if not torch.isfinite(stored).all():
            raise RefHCMError(
                f"{name} is not finite as {dtype}; save as torch.float32, or look into the training."
            )
        tensors[name] = stored
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{WEIGHTS_NAME}.part"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    for file in map(Path, files):
        if file.resolve() != (folder / file.name).resolve():
            shutil.copyfile(file, folder / file.name)


def load_folder(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[RefHCM, dict[str, Any]]:
    """Read what `save_folder` wrote: the model in evaluation mode, and the whole content of config.json.

    The names and shapes in the weight file's header are compared with those that the config calls for before
    any memory is taken. dtype: what to compute in; batch norms stay float32. Raises FileNotFoundError or
    RefHCMError.
    """
    model, config = check_folder(folder)
    norms = norm_entries(model)
    with _weights(Path(folder), str(torch.device(device))) as file:
        state = {
            name: file.get_tensor(name).to(torch.float32 if name in norms else dtype) for name in sorted(file.keys())
        }
    fill(model, state)
    return model.to(device).eval(), config


def check_folder(folder: str | Path) -> tuple[RefHCM, dict[str, Any]]:
    """What `load_folder` refuses, before any weight is read; gives a `skeleton` and the content of config.json."""
    folder = Path(folder)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: a model folder holds {CONFIG_NAME} and {WEIGHTS_NAME}."
            )
    config = _read_config(folder / CONFIG_NAME)
    model = skeleton(ModelConfig.from_dict(config["model"]))
    path = folder / WEIGHTS_NAME
    with _weights(folder, "cpu") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        compare_shapes(model, {name: tuple(part.get_shape()) for name, part in slices.items()}, str(path))
        strange = {name for name, part in slices.items() if part.get_dtype() not in _STORED_DTYPES}
    if strange:
        raise RefHCMError(f"{path}: {min(strange)} holds no floating-point numbers; save the model again.")
    return model, config


@contextmanager
def _weights(folder: Path, device: str) -> Iterator[Any]:
    """The weight file of a folder, open."""
    path = folder / WEIGHTS_NAME
    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except SafetensorError as error:
        raise RefHCMError(f"{path} is damaged or cut short: fetch or save it again.") from error


def convert_published(
    path: str | Path,
    folder: str | Path,
    vocabulary: Mapping[str, Any] = PUBLISHED,
    dtype: torch.dtype = torch.float16,
    ema: bool = False,
) -> None:
    """Make a model folder of a published `.pt` file. The published dict.txt is still to be put beside the
    weights.
    """
    checkpoint = read_published(path, ema=ema)
    model = skeleton(checkpoint.config)
    compare_shapes(model, {name: tuple(value.shape) for name, value in checkpoint.state.items()}, str(path))
    fill(model, checkpoint.state)
    save_folder(folder, model, {"vocabulary": dict(vocabulary)}, dtype)


# -- parts ---------------------------------------------------------------------------------------------------
def skeleton(config: ModelConfig) -> RefHCM:
    """The network with names and shapes but no memory behind its weights; `fill` gives it some."""
    with torch.device("meta"):
        return RefHCM(config)


def compare_shapes(model: RefHCM, found: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise RefHCMError unless `found` has exactly the model's entries; those that `fill` supplies may be
    absent.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    optional = {name for name in wanted if name in TIED or name.endswith("num_batches_tracked")}
    missing, unknown = sorted(set(wanted) - set(found) - optional), sorted(set(found) - set(wanted))
    for names, what in ((missing, "lacks"), (unknown, "has the unknown entry")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise RefHCMError(f"{where} {what} {names[0]}{more}; it does not belong to this model config.")
    for name, shape in sorted(found.items()):
        if shape != wanted[name]:
            raise RefHCMError(f"{where}: {name} is {shape}, but the model config calls for {wanted[name]}.")


def fill(model: RefHCM, state: Mapping[str, Tensor]) -> None:
    """Make these tensors (not copies of them) the weights of a `skeleton`."""
    entries = dict(state)
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            entries.setdefault(name, torch.zeros(value.shape, dtype=value.dtype))
    model.load_state_dict(entries, strict=True, assign=True)
    model.tie()


def norm_entries(model: nn.Module) -> set[str]:
    """Names of the batch norms' entries, which stay float32 whatever the model is stored or computed in."""
    return {
        f"{name}.{entry}"
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for entry in ("weight", "bias", "running_mean", "running_var")
    }


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(path, dict, _MAX_CONFIG_BYTES)
    if not isinstance(config.get("model"), dict):
        raise RefHCMError(
            f"{path} has no section 'model' with the network's sizes; it is no model folder of RefHCM."
        )
    if config.get("format") != FORMAT:
        raise RefHCMError(
            f"{path} is of format {config.get('format')!r}, but this version reads {FORMAT}; upgrade refhcm."
        )
    return config
