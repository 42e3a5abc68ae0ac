"""From a name or a folder to a model that answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..data.annotation import CODE_GRID, PART_NAMES
from ..data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from ..data.vocabulary_file import load_vocabulary
from ..errors import RefHCMError
from ..models.abilities import Abilities
from ..models.checkpoint import DTYPES, fill, load_folder, norm_entries
from ..models.config import ModelConfig
from ..models.export import read_run
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_files import CONFIG_NAME, MASK, file_names, load_label_map
from ..models.refhcm import TIED, RefHCM
from ..tasks import known
from .predictor import RefHCMPredictor
from .presence import read_presence

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"
"""Where models lie that have a name; `compact` is bundled with the code."""
BUNDLED = "compact"


def load(
    name_or_path: str | Path = BUNDLED,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> RefHCMPredictor:
    """Load a model for prediction.

    Args:
        name_or_path: "compact" (the bundled model, whatever the current directory holds; "./compact" is a folder
            there) or a folder that holds config.json and model.safetensors.
        device: "cpu", "cuda", "cuda:1", ...; by default a CUDA device when there is one.
        dtype: "float32" (default), "float16" or "bfloat16" (or the torch dtype) to compute in.

    Raises RefHCMError or FileNotFoundError, one sentence with cause and cure, when the folder cannot be used. Nothing
    in its files is executed.
    """
    folder = find_folder(name_or_path)
    where, number = choose_device(device), choose_dtype(dtype)
    model, config = load_folder(folder, where, number)
    described = folder if (folder / CONFIG_NAME).is_file() else None
    return _predictor(model, config, folder, folder, described)


def load_run(
    checkpoint: str | Path,
    vocabulary: str | Path,
    label_map: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    averaged: bool = True,
) -> tuple[RefHCMPredictor, int]:
    """Load a training run's checkpoint as it is, without a model folder; gives the number of its updates too.

    `vocabulary` and `label_map` are the folders that the run took its tokenizers from, one of which holds that of masks
    too, if the model writes any; the rest is as for `load` and
    `models.export.read_run`. The weights are those that were trained; an exported folder rounds them to float16.
    """
    where, number = choose_device(device), choose_dtype(dtype)
    run = read_run(checkpoint, averaged)
    norms = norm_entries(run.model)
    state = {
        name: value.to(number) if value.is_floating_point() and name not in norms else value
        for name, value in run.model.state_dict().items()
        if name not in TIED
    }
    fill(run.model, state)
    if label_map is not None and not (Path(label_map) / CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{Path(label_map) / CONFIG_NAME} is missing: name a label-map tokenizer's folder.")
    places = (Path(checkpoint), Path(vocabulary), None if label_map is None else Path(label_map))
    return _predictor(run.model.to(where), run.sections, *places), run.updates


def _predictor(
    model: RefHCM, config: Mapping[str, Any], folder: Path, text: Path, label_maps: Path | None
) -> RefHCMPredictor:
    """Network and configuration (said to be of `folder`), with the tokenizers whose files lie in `text` and
    `label_maps` (that of masks in either)."""
    where = model.encoder.embed_tokens.weight.device
    section = config.get("vocabulary")
    if not isinstance(section, dict):
        raise RefHCMError(f"{folder / 'config.json'} has no section 'vocabulary': save the model again.")
    vocabulary = load_vocabulary(section, text)
    if vocabulary.size != model.config.vocab_size:
        raise RefHCMError(
            f"{folder}: the vocabulary has {vocabulary.size} tokens, the model {model.config.vocab_size}; "
            "the files are of different models."
        )
    _check_config(model.config, vocabulary, folder)
    label_map = None if label_maps is None else load_fitting_label_map(label_maps, vocabulary).to(where)
    masks = None
    for place in (label_maps, text):
        if masks is None and vocabulary.mask_codes and place is not None and (place / file_names(MASK)[0]).is_file():
            masks = load_fitting_masks(place, vocabulary).to(where)
    # The published weights were never trained to answer part maps as a block, and their keypoints may lie anywhere.
    ours = section.get("text") != "gpt2"
    usual = {"block_parsing": ours, "keypoints_inside": ours}
    switches = [each.name for each in fields(Abilities) if each.name != "tasks"]
    abilities = Abilities(
        tasks=_tasks(config, vocabulary, _switch(config, "block_parsing", ours, folder), folder),
        **{name: _switch(config, name, usual.get(name, False), folder) for name in switches},
    )
    threshold, presence = _threshold(config, folder), read_presence(config, folder / "config.json")
    return RefHCMPredictor(
        model, vocabulary, label_map, masks=masks, threshold=threshold, abilities=abilities, presence=presence
    )


def load_fitting_label_map(folder: str | Path, vocabulary: Vocabulary) -> LabelMapTokenizer:
    """The label-map tokenizer of a folder, on the CPU; RefHCMError where it cannot read this vocabulary's codes."""
    label_map = load_label_map(folder)
    if (label_map.config.grid, label_map.config.classes) != (CODE_GRID, len(PART_NAMES)):
        raise RefHCMError(
            f"{folder}: the label-map tokenizer writes {label_map.config.classes} classes in a grid of "
            f"{label_map.config.grid} codes; {len(PART_NAMES)} classes in {CODE_GRID} are wanted."
        )
    if label_map.config.codebook < vocabulary.label_codes:
        raise RefHCMError(
            f"{folder}: the vocabulary has {vocabulary.label_codes} part codes, the label-map tokenizer "
            f"{label_map.config.codebook}; the files are of different models."
        )
    return label_map


def load_fitting_masks(folder: str | Path, vocabulary: Vocabulary) -> LabelMapTokenizer:
    """The mask tokenizer of a folder, on the CPU; RefHCMError where it cannot read this vocabulary's codes."""
    masks = load_label_map(folder, MASK)
    if masks.config.grid != CODE_GRID or masks.config.codebook < vocabulary.mask_codes:
        raise RefHCMError(
            f"{folder}: the mask tokenizer has {masks.config.codebook} codes in a grid of {masks.config.grid}; "
            f"{vocabulary.mask_codes} in {CODE_GRID} are wanted. The files are of different models."
        )
    return masks


def find_folder(name_or_path: str | Path) -> Path:
    """The model folder that a name or a path stands for."""
    if not isinstance(name_or_path, str | Path):
        raise RefHCMError(f"A model is a name or the path of a folder, not {name_or_path!r}.")
    if not str(name_or_path):
        raise RefHCMError(f"The model's name is empty: give a folder, or '{BUNDLED}' for the bundled model.")
    path = Path(name_or_path)
    if name_or_path == BUNDLED:  # not a folder of that name which happens to lie in the current directory
        if (CHECKPOINTS / BUNDLED).is_dir():
            return CHECKPOINTS / BUNDLED
        raise RefHCMError(f"The bundled model is missing ({CHECKPOINTS / BUNDLED}): get a whole copy of RefHCM.")
    try:
        if path.is_dir():
            return path
        if path.is_file():
            raise RefHCMError(
                f"{path} is a file, not a model folder: if it is a published .pt checkpoint, convert it with "
                f"`refhcm convert-checkpoint {path} FOLDER` and load FOLDER."
            )
    except (OSError, ValueError) as error:  # a name too long, a null byte
        if isinstance(error, RefHCMError):
            raise
        raise RefHCMError(f"The model's path cannot be used ({error}).") from error
    named = CHECKPOINTS / path
    if len(path.parts) == 1 and str(path) != ".." and named.is_dir():
        return named
    raise RefHCMError(
        f"There is no model at {str(path)!r}: give a folder with config.json and model.safetensors, or "
        f"'{BUNDLED}' for the bundled model."
    )


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to compute on; RefHCMError when it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise RefHCMError(f"There is no device {str(device)!r}: use 'cpu', 'cuda' or 'cuda:0'.") from error
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise RefHCMError(f"Device {device} was asked for, but torch sees no such device here: use 'cpu'.")
    if chosen.type == "cpu" and chosen.index:
        raise RefHCMError(f"There is no device {str(device)!r}: the processor has no numbers, use 'cpu'.")
    try:
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # a kind that this torch was not built for
        raise RefHCMError(f"torch cannot compute on device {str(device)!r} here: use 'cpu'.") from error
    return chosen


def choose_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The number format to compute in; float32 by default."""
    chosen = DTYPES.get(dtype or "float32") if dtype is None or isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise RefHCMError(f"Unknown dtype {str(dtype)!r}: it is one of {', '.join(DTYPES)}.")
    return chosen


def _check_config(model: ModelConfig, vocabulary: Vocabulary, folder: Path) -> None:
    """Raise RefHCMError unless the network's numbers are those of the token space."""
    wanted = {
        "num_bins": vocabulary.num_bins, "num_codes": vocabulary.num_codes, "bos": BOS, "pad": PAD, "eos": EOS,
        "unk": UNK,
    }  # fmt: skip
    for name, value in wanted.items():
        if getattr(model, name) != value:
            raise RefHCMError(
                f"{folder}: the model config's {name} is {getattr(model, name)}, the vocabulary's {value}; "
                "the files are of different models."
            )
    if model.block_columns not in (0, CODE_GRID[1]):
        raise RefHCMError(
            f"{folder}: the model config's block_columns must be 0 or {CODE_GRID[1]}, the columns of a part map's "
            f"codes, not {model.block_columns}."
        )


def _switch(config: Mapping[str, Any], name: str, usual: bool, folder: Path) -> bool:
    """A true-or-false entry of config.json; `usual` where it says nothing."""
    value = config.get(name, usual)
    if not isinstance(value, bool):
        raise RefHCMError(f"{folder / 'config.json'}: {name} must be true or false, not {value!r}.")
    return value


def _tasks(config: Mapping[str, Any], vocabulary: Vocabulary, block: bool, folder: Path) -> tuple[str, ...]:
    """What config.json says the model was trained for; where it says nothing, all tasks that its tokens allow and, of a
    model without masks, that are asked about one person, with part maps as a `block` or not."""
    value = config.get("tasks")
    if value is None:
        unlike = "rpar" if block else "rpar_full_mask"
        fitting = {name: task for name, task in known().items() if name != unlike}
        alone = [name for name, task in fitting.items() if task.meant == "one" and "mask" not in task.needs]
        return tuple(fitting if vocabulary.mask_codes else alone)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RefHCMError(f"{folder / 'config.json'}: tasks must be a list of names, not {value!r}.")
    return tuple(value)


def _threshold(config: Mapping[str, Any], folder: Path) -> float:
    """The score below which nobody counts as fitting, as measured for this model; 0 when it says nothing."""
    value = config.get("present_threshold", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise RefHCMError(f"{folder / 'config.json'}: present_threshold must lie in 0..1, not {value!r}.")
    return float(value)
