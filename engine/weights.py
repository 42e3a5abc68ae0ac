"""What a run starts from: the token space, and weights of another model."""

from __future__ import annotations

import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..data.json_file import read_json
from ..data.vocabulary import Vocabulary
from ..data.vocabulary_file import PUBLISHED, VOCABULARY_FILE, load_vocabulary
from ..errors import RefHCMError
from ..models.checkpoint import compare_shapes, load_folder, read_published
from ..models.export import read_run
from ..models.initial import resize_places
from ..models.published import unpickle
from ..models.refhcm import RefHCM

_LIMIT = 1 << 20
"""Bytes; a description of a model or of a token space has a few lines."""


def find_vocabulary(folder: str) -> Vocabulary:
    """The token space that a folder holds.

    It is described by `vocabulary.json`, or by the section "vocabulary" of a model folder's `config.json`; a folder
    with nothing but the published `dict.txt` stands for the published token space. RefHCMError where there is none.
    """
    if not folder:
        raise RefHCMError("Say with --vocabulary which folder holds the tokenizer (dict.txt, or a model folder).")
    path = Path(folder)
    section = None
    for name, inner in ((VOCABULARY_FILE, False), ("config.json", True)):
        if section is None and (path / name).is_file():
            content = read_json(path / name, dict, _LIMIT)
            section = content.get("vocabulary") if inner else content
    if section is None and (path / "dict.txt").is_file():
        section = dict(PUBLISHED)
    if not isinstance(section, dict):
        raise RefHCMError(f"{path} holds no tokenizer: neither {VOCABULARY_FILE}, config.json nor dict.txt.")
    return load_vocabulary(section, path)


def described_sizes(source: str) -> dict[str, int]:
    """The picture size and the trunk's levels of the model in a folder or in a run's checkpoint, as far as it tells."""
    path = Path(source)
    described: Any = None
    if source and (path / "config.json").is_file():
        described = read_json(path / "config.json", dict, _LIMIT)
    elif source:
        described = _run(path)
    model = described.get("model") if isinstance(described, Mapping) else None
    sizes = model if isinstance(model, Mapping) else {}
    return {name: sizes[name] for name in ("image_size", "trunk_levels") if isinstance(sizes.get(name), int)}


def load_initial(model: RefHCM, source: str, resize: bool = False) -> None:
    """Fill `model` with the weights of a model folder, of a checkpoint of ours (the averaged ones, where there are
    some), or of a published `.pt` file; names and shapes must fit.

    With `resize` the places of the first two are carried over to the picture size of `model`; published models keep
    theirs, as their own training does at every size.
    """
    path = Path(source)
    initial = load_folder(path)[0] if path.is_dir() else read_run(path).model if _run(path) is not None else None
    state = read_published(path).state if initial is None else initial.state_dict()
    # A layer that begins as nothing may be new to the model that starts from these weights.
    state = {name: value for name, value in model.state_dict().items() if name.startswith("decoder.located.")} | state
    _widen(state, model)
    compare_shapes(model, {name: tuple(value.shape) for name, value in state.items()}, str(path))
    model.load_state_dict(state, strict=False)  # what may be absent repeats other entries
    if resize and initial is not None:
        resize_places(model, initial.config.image_size)


def _widen(state: dict[str, Any], model: RefHCM) -> None:
    """Let a model whose cells know fewer levels of the trunk begin as one that reads nothing from the others."""
    name = "encoder.image_proj.weight"
    known, wanted = state.get(name), model.encoder.image_proj.weight
    if known is not None and model.config.trunk_levels > 1 and known.shape[1] < wanted.shape[1]:
        state[name] = torch.nn.functional.pad(known, (0, wanted.shape[1] - known.shape[1]))


def _run(path: Path) -> Any:
    """What a checkpoint of ours says of its model; None for other files, whose faults are told when they are read."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    try:
        state = unpickle(path, [Namespace]).get("task_state")
    except RefHCMError:
        return None
    return state.get("refhcm") if isinstance(state, Mapping) else None
