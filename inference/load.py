"""From a name or a folder to a model that answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..data.annotation import CODE_GRID, PART_NAMES
from ..data.vocabulary_file import load_vocabulary
from ..errors import RefHCMError
from ..models.checkpoint import DTYPES, load_folder
from ..models.label_map_files import CONFIG_NAME, load_label_map
from .predictor import RefHCMPredictor

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
        name_or_path: "compact" (bundled) or a folder that holds config.json and model.safetensors.
        device: "cpu", "cuda", "cuda:1", ...; by default a CUDA device when there is one.
        dtype: "float32" (default), "float16" or "bfloat16" (or the torch dtype) to compute in.

    Raises RefHCMError or FileNotFoundError, one sentence with cause and cure, when the folder cannot be used. Nothing
    in its files is executed.
    """
    folder = find_folder(name_or_path)
    where, number = choose_device(device), choose_dtype(dtype)
    model, config = load_folder(folder, where, number)
    section = config.get("vocabulary")
    if not isinstance(section, dict):
        raise RefHCMError(f"{folder / 'config.json'} has no section 'vocabulary': save the model again.")
    vocabulary = load_vocabulary(section, folder)
    if vocabulary.size != model.config.vocab_size:
        raise RefHCMError(
            f"{folder}: the vocabulary has {vocabulary.size} tokens, the model {model.config.vocab_size}; "
            "the files are of different models."
        )
    label_map = load_label_map(folder).to(where) if (folder / CONFIG_NAME).is_file() else None
    if label_map is not None and (label_map.config.grid, label_map.config.classes) != (CODE_GRID, len(PART_NAMES)):
        raise RefHCMError(
            f"{folder}: the label-map tokenizer writes {label_map.config.classes} classes in a grid of "
            f"{label_map.config.grid} codes; {len(PART_NAMES)} classes in {CODE_GRID} are wanted."
        )
    if label_map is not None and label_map.config.codebook < vocabulary.label_codes:
        raise RefHCMError(
            f"{folder}: the vocabulary has {vocabulary.label_codes} part codes, the label-map tokenizer "
            f"{label_map.config.codebook}; the files are of different models."
        )
    # The published weights were never trained to answer part maps as a block; models of ours are.
    block = config.get("block_parsing", section.get("text") != "gpt2") is True
    options = {"block_parsing": block, "region_prompts": config.get("region_prompts") is True}
    return RefHCMPredictor(model, vocabulary, label_map, threshold=_threshold(config, folder), **options)


def find_folder(name_or_path: str | Path) -> Path:
    """The model folder that a name or a path stands for."""
    if not isinstance(name_or_path, str | Path):
        raise RefHCMError(f"A model is a name or the path of a folder, not {name_or_path!r}.")
    path = Path(name_or_path)
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
    if str(path) == BUNDLED:
        raise RefHCMError(f"The bundled model is missing ({named}): get a whole copy of RefHCM.")
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


def _threshold(config: dict[str, Any], folder: Path) -> float:
    """The score below which nobody counts as fitting, as measured for this model; 0 when it says nothing."""
    value = config.get("present_threshold", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise RefHCMError(f"{folder / 'config.json'}: present_threshold must lie in 0..1, not {value!r}.")
    return float(value)
