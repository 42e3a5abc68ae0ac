"""Read published checkpoints: `ofa_*.pt`, `refhcm.pt`, `refhcm_tuned.pt` (fairseq) and the parsing VQGAN's
`.ckpt`.

These are pickles. They are read with torch's restricted unpickler and the shortest list of further names that
the files need: plain argument bags, and for the VQGAN one class name that is replaced by an empty class.
Anything else in a file makes it refused before it runs.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import RefHCMError
from .config import RESNET_BLOCKS, ModelConfig
from .refhcm import TIED, VERSIONS, drop_tables

TOKENS = "encoder.embed_tokens.weight"


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What of a published file is needed to answer or to train on.

    state: the weights in published names, without index tables, classification heads and repeated token
    matrices; `RefHCM.load_state_dict` takes it. args: the run's arguments as saved, as far as they are plain
    values. config: the network that fits both.
    """

    state: dict[str, Tensor]
    args: dict[str, Any]
    config: ModelConfig


_LIGHTNING_KEY = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
"""Stands for the Lightning class that a VQGAN checkpoint uses as a dictionary key; it does nothing."""


def read_published(path: str | Path, ema: bool = False) -> PublishedCheckpoint:
    """Read an OFA or RefHCM checkpoint as fairseq wrote it.

    ema: take the averaged weights, if the run kept any. Optimizer state is not read into memory where the
    file's format allows that. Raises FileNotFoundError, or RefHCMError if the file is cut short, carries
    anything but tensors and plain values, or does not hold this network.
    """
    content = unpickle(Path(path), [Namespace])
    model = content.get("model")
    if not isinstance(model, Mapping):
        raise RefHCMError(f"{path} has no entry 'model'; it is not a checkpoint of OFA or RefHCM.")
    entries = dict(model)
    if ema:
        averaged = averaged_weights(content)
        if averaged is None:
            raise RefHCMError(f"{path} holds no averaged weights (EMA); read it without ema.")
        entries.update(averaged)
    state = _tensors(entries, path)
    state = {name: value for name, value in state.items() if not _is_unused(name)}
    _untie(state, path)
    args = _arguments(content)
    config = config_of(state, args, str(path))
    _drop_tables(state, config, path)
    return PublishedCheckpoint(state, args, config)


def read_published_vqgan(path: str | Path) -> dict[str, Tensor]:
    """The state dict of the published parsing tokenizer (a Lightning `.ckpt`), for
    `label_map_files.from_published`.
    """
    content = unpickle(Path(path), [_LIGHTNING_KEY])
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise RefHCMError(f"{path} has no entry 'state_dict'; it is not a Lightning checkpoint.")
    return _tensors(state, path)


def config_of(state: Mapping[str, Tensor], args: Mapping[str, Any], where: str) -> ModelConfig:
    """The config that the shapes of a state dict call for, checked against the saved arguments.

    Shapes rule; an argument that contradicts them raises RefHCMError, because then the file was put together
    wrongly.
    """
    try:
        sizes = _sizes(state)
    except (KeyError, IndexError) as error:
        raise RefHCMError(
            f"{where} lacks {error.args[0]}; it is not a checkpoint of OFA or RefHCM."
        ) from error
    for ours, theirs in _CHECKED.items():
        if args.get(theirs) not in (None, sizes[ours]):
            raise RefHCMError(
                f"{where}: its weights say {ours}={sizes[ours]}, its arguments {theirs}={args[theirs]!r}."
            )
    blocks = args.get("resnet_blocks") or RESNET_BLOCKS.get(str(args.get("resnet_type")))
    shown = sizes["trunk_blocks"] or RESNET_BLOCKS[sizes["trunk"]]
    if blocks is not None and (not isinstance(blocks, list | tuple) or tuple(blocks) != shown):
        raise RefHCMError(f"{where}: its weights hold {shown} bottlenecks, its arguments call for {blocks!r}.")
    return ModelConfig.from_published_args(args, **sizes)


# -- reading without executing -------------------------------------------------------------------------------
def unpickle(
    path: Path,
    allowed: Sequence[type] = (),
    kind: str = "published checkpoint",
    cure: str = "fetch it again from its publisher",
) -> Mapping[str, Any]:
    """Load with torch's restricted unpickler; `allowed` names what it may meet beside tensors and plain
    values.

    kind, cure: what the file should be, and what to do if it is not, for the errors: RefHCMError, or FileNotFoundError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint at {path}; pass the path of a {kind}.")
    try:
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's advice on pickle protocols: it is refused or read
            # Only the zip format can be mapped, so that an optimizer's gigabytes are never read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name:
            raise RefHCMError(
                f"{path} asks for {name.group(1)}, which no {kind} does, so it was not opened; {cure}."
            ) from error
        raise RefHCMError(f"{path} is no checkpoint, or damaged; {cure}.") from error
    except Exception as error:
        # What torch raises for a damaged file depends on where the damage lies.
        raise RefHCMError(
            f"{path} is cut short or damaged ({type(error).__name__} while reading it); {cure}."
        ) from error
    if not isinstance(content, Mapping):
        raise RefHCMError(f"{path} holds no dictionary; it is not a checkpoint.")
    return content


def _tensors(entries: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise RefHCMError(f"{path}: the entry {name!r} is no tensor.")
        # An expanded view could claim any amount of memory.
        if value.is_sparse or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise RefHCMError(f"{path}: the tensor {name} claims more numbers than the file holds.")
    return dict(entries)


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """The model's arguments: `cfg["model"]` in newer files, `args` in older ones; empty if there are none."""
    cfg = content.get("cfg")
    bag = cfg.get("model") if isinstance(cfg, Mapping) else content.get("args")
    values = vars(bag) if isinstance(bag, Namespace) else bag if isinstance(bag, Mapping) else {}
    return {name: value for name, value in values.items() if isinstance(name, str) and _is_plain(value)}


def _is_plain(value: Any, depth: int = 4) -> bool:
    """Whether it can be compared and printed without surprises: a tensor among the arguments could not, nor lists in
    more than `depth` lists."""
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(entry, depth - 1) for entry in value)
    return value is None or isinstance(value, bool | int | float | str)


def averaged_weights(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The averaged weights (EMA) of a fairseq checkpoint, if its run kept any."""
    extra = content.get("extra_state")
    for name in ("ema_fp32_params", "ema"):
        found = extra.get(name) if isinstance(extra, Mapping) else None
        if isinstance(found, Mapping) and found:
            return found
    return None


# -- from their entries to ours ------------------------------------------------------------------------------
def _is_unused(name: str) -> bool:
    return "classification_heads." in name or name in VERSIONS


def _untie(state: dict[str, Tensor], path: str | Path) -> None:
    """Keep one of the three copies of the token matrix: the output projection, should they differ."""
    copies = {name: state.pop(name) for name in (TOKENS, *TIED) if name in state}
    if not copies:
        return
    kept = copies.get(TIED[1], next(iter(copies.values())))
    if any(copy.shape != kept.shape or not torch.equal(copy, kept) for copy in copies.values()):
        warnings.warn(
            f"{path}: the token matrices of encoder, decoder and output differ; the output's is used.",
            stacklevel=3,
        )
    state[TOKENS] = kept


def _drop_tables(state: dict[str, Tensor], config: ModelConfig, path: str | Path) -> None:
    """Take the index tables out, after comparing them with those that the sizes call for."""
    for size, most in _MOST.items():
        if getattr(config, size) > most:  # its tables have the square of this, and would fill the memory
            raise RefHCMError(f"{path} has {size}={getattr(config, size)}, above {most}; no published model has.")
    drop_tables(state, config, "", str(path))


_MOST = {"max_source_positions": 4096, "max_target_positions": 4096, "image_bucket_size": 64}
"""Four times the positions of the published models, and half as many cells again each way."""

_CHECKED = {
    "d_model": "encoder_embed_dim",
    "encoder_ffn_dim": "encoder_ffn_embed_dim",
    "decoder_ffn_dim": "decoder_ffn_embed_dim",
    "encoder_heads": "encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "token_bucket_size": "token_bucket_size",
    "image_bucket_size": "image_bucket_size",
}
"""Our sizes that shapes show -> the saved argument that must agree."""


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Every size that the shapes of a state dict show, as fields of ModelConfig."""

    def rows(name: str) -> int:
        return state[name].shape[0]

    def count(prefix: str) -> int:
        """How many numbered parts follow a prefix."""
        parts = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
        return len({part for part in parts if part.isdigit()})

    blocks = tuple(count(f"encoder.embed_images.layer{stage}.") for stage in (1, 2, 3))
    names = [name for name, listed in RESNET_BLOCKS.items() if listed == blocks]
    cells = rows("encoder.embed_image_positions.weight") - 1
    return {
        "vocab_size": rows(TOKENS),
        "d_model": state[TOKENS].shape[1],
        "encoder_ffn_dim": rows("encoder.layers.0.fc1.weight"),
        "decoder_ffn_dim": rows("decoder.layers.0.fc1.weight"),
        "encoder_heads": rows("encoder.layers.0.self_attn.c_attn"),
        "decoder_heads": rows("decoder.layers.0.self_attn.c_attn"),
        "encoder_layers": count("encoder.layers."),
        "decoder_layers": count("decoder.layers."),
        "trunk": names[-1] if names else "resnet50",
        "trunk_blocks": () if names else blocks,
        "max_source_positions": rows("encoder.embed_positions.weight") - 2,
        "max_target_positions": rows("decoder.embed_positions.weight") - 2,
        "token_bucket_size": (rows("encoder.token_rel_pos_table_list.0.weight") + 1) // 2,
        "image_bucket_size": math.isqrt(max(cells, 0)),
        "decoder_image_tables": "decoder.embed_image_positions.weight" in state,
    }
