"""Measure what a model's chance that anybody fits is worth, and write it into the model's folder:

    python -m refhcm.inference.calibrate MODEL --data val.tsv

The model is asked about rows of a file of our own kind whose words mean one person or nobody. Fitted to its answers are
a scale and an offset of the log-odds (Platt 1999), and then the threshold with the best F1 (see `metrics.presence`).
They become the section `presence` of MODEL/config.json, by which predictions and evaluations then decide. The rows are
best those of a validation set, with as large a share about nobody as there will be.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..data.commands import in_range, one_sentence
from ..data.json_file import read_json
from ..data.rows import guess_kind
from ..errors import RefHCMError
from ..metrics.presence import PresenceMeter, best_threshold
from ..models.abilities import Presence
from ..models.checkpoint import CONFIG_NAME
from .choosing import TASKS
from .evaluation import evaluate
from .load import find_folder, load
from .prediction_files import saved
from .predictions import from_line
from .presence import calibrated, log_odds

LEAST = 10
"""Questions of either kind; from fewer nothing can be said."""
_STEPS = 100


def fit(chances: Sequence[float], somebody: Sequence[bool]) -> Presence:
    """The calibration that fits a model's own chances (in [0, 1]) best to whether somebody was meant.

    RefHCMError where there are too few questions of either kind, or the chance is no higher where somebody is meant.
    """
    truth = np.asarray(somebody, bool)
    yes, no = int(truth.sum()), int((~truth).sum())
    if min(yes, no) < LEAST:
        raise RefHCMError(
            f"{yes} questions about somebody and {no} about nobody were answered: calibrating takes {LEAST} of each."
        )
    odds = np.array([log_odds(chance) for chance in chances])
    # Platt's targets: without them the scale of a model that is always right would have no end.
    wanted = np.where(truth, (yes + 1) / (yes + 2), 1 / (no + 2))
    scale, offset = _logistic(odds, wanted)
    if scale <= 0:
        raise RefHCMError(
            "The model's chance that anybody fits is no higher where somebody is meant: it was not trained for this "
            "(--nobody), or the rows are wrong."
        )
    presence = Presence(scale, offset)
    threshold, _ = best_threshold([calibrated(chance, presence) for chance in chances], truth.tolist())
    return replace(presence, threshold=threshold)


def _logistic(values: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Scale and offset for which the logistic function of `values` fits the `wanted` chances best (by cross entropy):
    Newton's method, each step halved until it is one forward."""
    spread = float(values.std()) or 1.0
    design = np.stack([(values - values.mean()) / spread, np.ones_like(values)], axis=1)
    weights = np.zeros(2)

    def cost(some: np.ndarray) -> float:
        scores = design @ some
        return float((np.logaddexp(0, scores) - wanted * scores).sum())

    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (chance - wanted)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        while cost(weights - step) > cost(weights) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    scale = float(weights[0]) / spread
    return scale, float(weights[1]) - scale * float(values.mean())


def figures(chances: Sequence[float], somebody: Sequence[bool], presence: Presence) -> dict[str, float]:
    """What these chances score under a calibration; see `PresenceMeter`."""
    meter = PresenceMeter()
    for chance, meant in zip(chances, somebody, strict=True):
        worth = calibrated(chance, presence)
        meter.add(worth, worth >= presence.threshold, meant)
    return meter.result()


def calibrate(
    model: str | Path, data: str | Path, task: str = "rec", *, limit: int | None = None, batch_size: int = 16,
    workers: int = 0, device: str | None = None, dtype: str | None = None, out: str | Path | None = None,
) -> tuple[Presence, dict[str, float], dict[str, float]]:  # fmt: skip
    """Ask, fit, and write the folder's config.json; gives the calibration, and the figures before and after.

    out: folder that keeps the answers, as `evaluate` does. Other arguments as the command has them. RefHCMError where
    model or file will not do.
    """
    folder, predictor = find_folder(model), load(model, device, dtype)
    protocol = "presence" if TASKS[task].meant == "one" else "own"
    with tempfile.TemporaryDirectory() as temporary:
        kept = temporary if out is None else out
        evaluate(
            predictor, data, guess_kind(data), task, protocol=protocol, limit=limit, batch_size=batch_size,
            workers=workers, java=False, out=kept,
        )  # fmt: skip
        answers = [from_line(line) for line in saved(kept, task)[1]]
    chances = [reading.presence for reading, _ in answers if reading.presence is not None]
    somebody = [truth.people != () for reading, truth in answers if reading.presence is not None]
    presence = fit(chances, somebody)
    write_presence(folder, presence)
    return presence, figures(chances, somebody, predictor.presence), figures(chances, somebody, presence)


def write_presence(folder: str | Path, presence: Presence) -> None:
    """Put a calibration into a model folder's config.json, whole or not at all; all else there stays as it is."""
    path = Path(folder) / CONFIG_NAME
    content = read_json(path, dict) | {"presence": asdict(presence)}
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.inference.calibrate",
        description="Measure what a model's chance that anybody fits is worth, and write it into its config.json.",
    )
    parser.add_argument("model", help="'compact' or a model folder, which is changed")
    parser.add_argument("--data", required=True, help="a file of our own kind with rows about one person and nobody")
    parser.add_argument("--task", default="rec", choices=("rec", "grec"), help="by which task is asked")
    parser.add_argument("--limit", type=int, help="ask about so many rows, evenly spread")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures")
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--dtype", help="float32 (default), bfloat16 or float16")
    parser.add_argument("--out", metavar="FOLDER", help="keep the answers, to go on where the command was cut off")
    given = parser.parse_args(arguments)
    try:
        in_range(1, limit=given.limit, batch_size=given.batch_size)
        in_range(0, workers=given.workers)
        presence, before, after = calibrate(**vars(given))
    except (RefHCMError, OSError) as error:
        sys.exit(f"calibrate: {one_sentence(error)}")
    print(f"{int(after['samples'])} questions; {' '.join(f'{k} {v:.4g}' for k, v in asdict(presence).items())}")
    for name in after:
        if name != "samples":
            print(f"  {name:<16}{before.get(name, float('nan')):.4f} -> {after[name]:.4f}")


if __name__ == "__main__":
    main()
