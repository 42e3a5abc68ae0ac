"""Numbers of the published implementation: from the folder that REFHCM_GOLDEN names, or from tests/golden.

A named folder may hold some groups only (`model/`, `metrics/`, ...); the others come from tests/golden. Within a group
nothing is mixed, because its files belong to each other: a test whose file is missing there is skipped.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

OURS = Path(__file__).parent / "golden"
GROUPS = ("metrics", "model", "preprocess", "tokenize", "vqgan")


def _place(name: str) -> Path:
    named = os.environ.get("REFHCM_GOLDEN")
    if named and not any((Path(named) / group).is_dir() for group in GROUPS):
        # Falling back for everything would pass without having looked at the named numbers.
        pytest.exit(f"REFHCM_GOLDEN names {named}, which holds none of {', '.join(GROUPS)}.", returncode=4)
    group = Path(name).parts[0]
    return (Path(named) if named and (Path(named) / group).is_dir() else OURS) / name


def has_golden(name: str) -> bool:
    """Whether there is a file such as "model/training.json": what is looked up while tests are collected."""
    return _place(name).is_file()


def golden_path(name: str) -> Path:
    """The file called, for example, "model/training.json"; whoever asks for one that is missing is skipped."""
    path = _place(name)
    if not path.is_file():
        pytest.skip(f"the golden values hold no {name}", allow_module_level=True)
    return path


@cache
def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, such as `golden_arrays("model/outputs")`; shared, so do not change them."""
    with np.load(golden_path(f"{name}.npz"), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@cache
def golden_json(name: str) -> Any:
    """The content of a .json file, such as `golden_json("model/decodes")`."""
    return json.loads(golden_path(f"{name}.json").read_text(encoding="utf-8"))


@cache
def golden_state() -> dict[str, Any]:
    """The golden model's state dict in published names, aliases filled in, as torch tensors."""
    import torch

    state = {key: torch.from_numpy(value) for key, value in golden_arrays("model/weights").items()}
    for alias, key in golden_json("model/config")["state_dict_aliases"].items():
        state[alias] = state[key]
    return state


@cache
def golden_model() -> Any:
    """The golden network in evaluation mode; shared by the tests of a session, so do not change it."""
    from refhcm.models.config import ModelConfig
    from refhcm.models.refhcm import RefHCM

    model = RefHCM(ModelConfig.from_published_args(golden_json("model/config")))
    model.load_state_dict(golden_state(), strict=True)
    return model.eval()


@cache
def golden_batch(name: str) -> dict[str, Any]:
    """Batch "a", "b" or "c" as torch tensors: pixels `[B, 3, H, W]` in -1..1 and int64 tokens."""
    import torch

    prefix = name + "."
    batch = {}
    for key, value in golden_arrays("model/inputs").items():
        if key.startswith(prefix):
            tensor = torch.from_numpy(value)
            batch[key[len(prefix) :]] = tensor.long() if value.dtype == np.int32 else tensor
    pixels = batch.pop("images_u8").permute(0, 3, 1, 2).float()
    batch["patch_images"] = ((pixels / 255 - 0.5) / 0.5).contiguous()
    return batch


def golden_batches() -> list[str]:
    """Names of the batches that the inputs hold."""
    return sorted({key.partition(".")[0] for key in golden_arrays("model/inputs") if "." in key})
