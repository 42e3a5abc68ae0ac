"""How often the classes of label maps occur, and how much each should weigh in the loss:

    python -m refhcm.models.label_map_statistics FILE_OR_BANK ... --preset mask --out weights.json

Counts the pixels of crops as training draws them, of dataset files with part maps or masks and of banks of cut-out
people (folders), and prints the share of each class and its weight: the inverse of the share to a power, scaled so that
the mean over the pixels is 1. `python -m refhcm.models.label_map_training --class-weights weights.json` takes what
--out writes; without that option it counts for itself, in the same way.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.annotation import MASK_NAMES, PART_NAMES
from ..data.commands import in_range, one_sentence
from ..data.json_file import read_json
from ..errors import RefHCMError
from .label_map import LabelMapConfig
from .label_map_data import draw_many, read_people

RARITY_POWER = 0.1
"""Class weights are the inverse frequency to this power; 0.5 makes rare classes spill over their outlines."""
_RAREST = 1e-5  # share of a class that does not occur
_MAX_BYTES = 1 << 20


def pixel_shares(crops: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class in the pixels of crops [N, height, width]: float [classes], adding up to 1."""
    return np.bincount(crops.ravel(), minlength=classes) / crops.size


def class_weights(crops: np.ndarray, classes: int, power: float = RARITY_POWER) -> Tensor:
    """Weights that grow slowly with the rarity of a class; their mean over the pixels of the crops is 1."""
    share = pixel_shares(crops, classes)
    weights = np.maximum(share, _RAREST) ** -power
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)


def read_weights(path: str | Path, classes: int) -> Tensor:
    """The class weights [classes] of a file that this command wrote; RefHCMError where it holds no such."""
    said = read_json(path, dict, _MAX_BYTES).get("weights")
    numbers = said if isinstance(said, list) else []
    if len(numbers) != classes or not all(type(value) in (int, float) for value in numbers):
        raise RefHCMError(
            f"{path} needs a list 'weights' of {classes} numbers, one per class: "
            "make it with label_map_statistics for the same kind of tokenizer."
        )
    if not all(0 <= value <= 1e6 and math.isfinite(value) for value in numbers) or not sum(numbers):
        raise RefHCMError(f"{path}: class weights are numbers from 0 to 1,000,000, not all of them 0.")
    return torch.tensor(numbers, dtype=torch.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.models.label_map_statistics", description="Say how often classes occur, and weigh them."
    )
    parser.add_argument("sources", nargs="+", metavar="FILE_OR_BANK")
    parser.add_argument("--preset", default="compact", help="compact or published (part maps), mask")
    parser.add_argument("--kind", default="person", choices=["rpar", "person"], help="layout of the files")
    parser.add_argument("--power", type=float, default=RARITY_POWER, help="weights: inverse share to this power")
    parser.add_argument("--occlude", type=float, default=0.5, help="share of people partly hidden")
    parser.add_argument("--crops", type=int, default=2000, help="how many to count in")
    parser.add_argument("--limit", type=int, help="use at most so many people per file or bank")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", metavar="JSON", help="write shares and weights here")
    given = parser.parse_args(arguments)
    try:
        in_range(1, crops=given.crops, limit=given.limit)
        in_range(0, 1, occlude=given.occlude, power=given.power)
        in_range(0, 2**32 - 1, seed=given.seed)
        config = LabelMapConfig.preset(given.preset)
        people, _ = read_people(given.sources, given.kind, config.masks, given.limit)
        rng, size = np.random.default_rng(given.seed), (config.height, config.width)
        crops = draw_many(people, rng, size, given.occlude, given.crops, config.masks)
        shares = pixel_shares(crops, config.classes).tolist()
        weights = class_weights(crops, config.classes, given.power).tolist()
        names = MASK_NAMES if config.masks else PART_NAMES
        found = {"classes": names, "power": given.power, "shares": shares, "weights": weights}
        if given.out:
            Path(given.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"label_map_statistics: {one_sentence(error)}") from error
    print(f"{len(people)} people, {len(crops)} crops\n{'class':<16}{'share':>8}{'weight':>9}")
    for name, share, weight in zip(names, shares, weights, strict=True):
        print(f"{name:<16}{share:>8.4f}{weight:>9.4f}")


if __name__ == "__main__":
    main()
