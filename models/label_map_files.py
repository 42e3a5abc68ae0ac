"""Save and load label-map tokenizers: sizes (JSON) and weights (safetensors), two files in a folder.

`label_map.*` are those of part maps, `mask.*` those of three-way masks; a model folder may hold both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.json_file import read_json
from ..errors import RefHCMError
from .label_map import LabelMapConfig, LabelMapTokenizer
from .published import read_published_vqgan

PARTS, MASK = "label_map", "mask"
"""What the files of a tokenizer of part maps are called, and those of a tokenizer of three-way masks."""
CONFIG_NAME, WEIGHTS_NAME = f"{PARTS}.json", f"{PARTS}.safetensors"
_MAX_CONFIG_BYTES = 64 * 1024
_MAX_PARAMETERS = 200_000_000
_PREFIXES = ("encoder.", "decoder.", "quantize.embedding.", "quant_conv.", "post_quant_conv.")


def file_names(name: str) -> tuple[str, str]:
    """Names of the two files of a tokenizer that is called `name`: sizes, weights."""
    return f"{name}.json", f"{name}.safetensors"


def name_of(config: LabelMapConfig) -> str:
    """What the files of such a tokenizer are called: `PARTS` or `MASK`."""
    return MASK if config.masks else PARTS


def save_label_map(folder: str | Path, tokenizer: LabelMapTokenizer, dtype: torch.dtype = torch.float16) -> None:
    """Write the tokenizer into `folder` (made if missing), into the files of `name_of` it; floating-point weights are
    stored as `dtype`. Each file takes its name only when it is whole."""
    folder = Path(folder)
    sizes, weights = file_names(name_of(tokenizer.config))
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous() for key, value in tokenizer.state_dict().items()
    }
    parts = {name: folder / f".{name}.part" for name in (weights, sizes)}
    save_file(tensors, parts[weights], metadata={"format": "pt"})
    parts[sizes].write_text(json.dumps(tokenizer.config.to_dict(), indent=2) + "\n", encoding="utf-8")
    for name, part in parts.items():
        os.replace(part, folder / name)


def load_label_map(folder: str | Path, name: str = PARTS) -> LabelMapTokenizer:
    """Read what `save_label_map` wrote, as float32 on the CPU, in evaluation mode; or the published VQGAN's `.ckpt`.

    `name` says which of a folder's tokenizers: that of part maps (`PARTS`) or of three-way masks (`MASK`). The names
    and shapes in the file's header are compared with those that the settings call for before any tensor is read. Raises
    FileNotFoundError or RefHCMError with the cause.
    """
    folder = Path(folder)
    if folder.is_file():
        return from_published(read_published_vqgan(folder))
    names = file_names(name)
    for file_name in names:
        if not (folder / file_name).is_file():
            needed = " and ".join(names)
            raise FileNotFoundError(f"{folder / file_name} is missing; a tokenizer's folder holds {needed}")
    config = read_config(folder / names[0])
    if name_of(config) != name:
        raise RefHCMError(
            f"{folder / names[0]} is of a tokenizer with {config.classes} classes, whose files are called "
            f"{name_of(config)}.*: give them their names back."
        )
    tokenizer = _empty(config)
    wanted = {key: tuple(value.shape) for key, value in tokenizer.state_dict().items()}
    path = folder / names[1]
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            _compare(wanted, found, str(path))
            tensors = {key: file.get_tensor(key).float() for key in wanted}
    except SafetensorError as error:
        raise RefHCMError(f"{path} is damaged or cut short: fetch or save it again.") from error
    tokenizer.load_state_dict(tensors, strict=True, assign=True)
    return tokenizer.eval()


def from_published(state: Mapping[str, Tensor]) -> LabelMapTokenizer:
    """A tokenizer from the state dict of the published VQGAN checkpoint; its sizes are read off the tensors.

    Loss, colour and optimiser entries are ignored. The crop follows from the number of levels and 8x6 codes.
    """
    kept = {key: value for key, value in state.items() if key.startswith(_PREFIXES)}
    config = _sizes_of(kept)
    tokenizer = _empty(config)
    wanted = {key: tuple(value.shape) for key, value in tokenizer.state_dict().items()}
    _compare(wanted, {key: tuple(value.shape) for key, value in kept.items()}, "the VQGAN checkpoint")
    tokenizer.load_state_dict({key: value.float() for key, value in kept.items()}, strict=True, assign=True)
    return tokenizer.eval()


def _sizes_of(state: Mapping[str, Tensor], grid: tuple[int, int] = (8, 6)) -> LabelMapConfig:
    """The settings of a published-layout state dict."""
    try:
        channels, classes = state["encoder.conv_in.weight"].shape[:2]
        levels = _count(state, "encoder.down.{}.block.0.norm1.weight")
        widths = [state[f"encoder.down.{i}.block.0.conv2.weight"].shape[0] for i in range(levels)]
        codebook, embedding = state["quantize.embedding.weight"].shape
        latent = state["quant_conv.weight"].shape[1]
        multipliers = tuple(width // channels for width in widths)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise RefHCMError(
            f"not a VQGAN checkpoint of part maps: an entry is missing or has another shape ({error})"
        ) from error
    stride = 2 ** (levels - 1)
    return LabelMapConfig(
        classes=classes,
        height=grid[0] * stride,
        width=grid[1] * stride,
        channels=channels,
        multipliers=multipliers,
        blocks=_count(state, "encoder.down.0.block.{}.norm1.weight"),
        attention_levels=tuple(i for i in range(levels) if f"encoder.down.{i}.attn.0.norm.weight" in state),
        latent=latent,
        embedding=embedding,
        codebook=codebook,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _empty(config: LabelMapConfig) -> LabelMapTokenizer:
    """A tokenizer without storage, to be filled by assignment."""
    with torch.device("meta"):
        tokenizer = LabelMapTokenizer(config)
    total = sum(parameter.numel() for parameter in tokenizer.parameters())
    if total > _MAX_PARAMETERS:
        raise RefHCMError(
            f"label-map tokenizer of {total} parameters refused; at most {_MAX_PARAMETERS} are allowed"
        )
    return tokenizer


def read_config(path: str | Path) -> LabelMapConfig:
    """The sizes of a tokenizer, of a JSON file such as `save_label_map` writes; RefHCMError where they are none."""
    return LabelMapConfig.from_dict(read_json(path, dict, _MAX_CONFIG_BYTES))


def _compare(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], where: str) -> None:
    for key, shape in wanted.items():
        if key not in found:
            raise RefHCMError(
                f"{where} lacks the tensor {key}; its settings and weights do not belong together"
            )
        if found[key] != shape:
            raise RefHCMError(f"{where}: {key} has the shape {found[key]}, but the settings call for {shape}")
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise RefHCMError(f"{where} holds tensors that the settings do not call for, such as {extra[0]}")
