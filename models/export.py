"""From a training run's checkpoint to a model folder that predicts:

python -m refhcm.models.export runs/compact/checkpoint_last.pt MODEL_FOLDER --vocabulary dataset/scenes/vocabulary
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..data.commands import one_sentence, writable_folder
from ..data.text import PUBLISHED_FILES
from ..data.vocabulary_file import TEXT_MODEL
from ..errors import RefHCMError
from .abilities import Abilities
from .adapters import LoraSettings, merged
from .checkpoint import DTYPES, compare_shapes, fill, save_folder, skeleton
from .config import ModelConfig
from .label_map_files import CONFIG_NAME, MASK, WEIGHTS_NAME, file_names
from .published import averaged_weights, unpickle
from .refhcm import RefHCM

_KIND = "checkpoint of RefHCM's train.py"
_CURE = "name one of your runs, or convert a published file with `refhcm convert-checkpoint`"


@dataclass(frozen=True)
class Trained:
    """What a checkpoint of a run holds of the model."""

    model: RefHCM
    """float32, on the CPU, in evaluation mode."""
    sections: dict[str, Any]
    """What `config.json` says beside the network's sizes."""
    updates: int
    """How many it was trained for."""


def read_run(checkpoint: str | Path, averaged: bool = True) -> Trained:
    """Read the network of a fairseq checkpoint of ours; nothing in it is executed.

    `averaged` prefers the averaged weights (`--store-ema`) where there are some; adapters (`--lora-r`) are merged into
    the weights. RefHCMError when it is not one of ours, FileNotFoundError when it is missing.
    """
    content = unpickle(Path(checkpoint), (), _KIND, _CURE)
    try:
        described = content["task_state"]["refhcm"]
        section, sizes = dict(described["vocabulary"]), dict(described["model"])
        state = {
            name: value.float() if value.is_floating_point() else value
            for name, value in ((averaged_weights(content) if averaged else None) or content["model"]).items()
        }
        updates = int(content["optimizer_history"][-1]["num_updates"])
        abilities = {each.name: described[each.name] for each in fields(Abilities) if each.name in described}
        lora = described.get("lora")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RefHCMError(f"{checkpoint} was not written by RefHCM's train.py; {_CURE}.") from error
    config = ModelConfig.from_dict(sizes)
    if lora:
        state = merged(config, LoraSettings.from_dict(lora), state)
    model = skeleton(config)
    compare_shapes(model, {name: tuple(value.shape) for name, value in state.items()}, str(checkpoint))
    fill(model, state)
    return Trained(model.eval(), {"vocabulary": section, **abilities}, updates)


def export(
    checkpoint: str | Path,
    folder: str | Path,
    vocabulary: str | Path,
    label_map: str | Path | None = None,
    dtype: torch.dtype = torch.float16,
    averaged: bool = True,
    masks: str | Path | None = None,
) -> int:
    """Write the network of a fairseq checkpoint of ours as a model folder; gives the number of updates it had.

    `vocabulary` is the folder that the run took its tokenizer from, `label_map` and `masks` the folders of the
    tokenizers of part maps and masks: their files are copied. `averaged` and errors: as `read_run`; FileNotFoundError
    when a file is missing.
    """
    run = read_run(checkpoint, averaged)
    files = [Path(vocabulary) / name for name in tokenizer_files(run.sections["vocabulary"], Path(vocabulary))]
    if label_map is not None:
        files += [Path(label_map) / name for name in (CONFIG_NAME, WEIGHTS_NAME)]
    if masks is not None:
        files += [Path(masks) / name for name in file_names(MASK)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing: the model folder needs a copy of it.")
    save_folder(writable_folder(folder), run.model, run.sections, dtype, files)
    return run.updates


def tokenizer_files(section: dict[str, Any], folder: Path) -> list[str]:
    """Names of the files that the tokenizer consists of; GPT-2's own two may also come from a package."""
    if section.get("text") == "sentencepiece":
        return [TEXT_MODEL]
    return [file.name for file in PUBLISHED_FILES if file.name == "dict.txt" or (folder / file.name).is_file()]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m refhcm.models.export", description=(__doc__ or "").split(":")[0])
    parser.add_argument("checkpoint", help="checkpoint_last.pt or checkpoint_best.pt of a run")
    parser.add_argument("folder", help="model folder to write")
    parser.add_argument("--vocabulary", required=True, help="folder the run took its tokenizer from")
    parser.add_argument("--label-map", help="folder of the label-map tokenizer, to copy beside the model")
    parser.add_argument("--masks", help="folder of the mask tokenizer, to copy beside the model")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float16")
    parser.add_argument("--raw", action="store_true", help="take the last weights, not the averaged ones")
    options = parser.parse_args(arguments)
    try:
        updates = export(
            options.checkpoint, options.folder, options.vocabulary, options.label_map, DTYPES[options.dtype],
            not options.raw, options.masks,
        )  # fmt: skip
    except (RefHCMError, OSError) as error:
        sys.exit(f"export: {one_sentence(error)}")
    print(f"wrote {options.folder}, after {updates} updates")


if __name__ == "__main__":
    main()
