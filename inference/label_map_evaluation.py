"""How much of part maps survives a label-map tokenizer: the most that any answer made of its codes could score.

    python -m refhcm.inference.label_map_evaluation FILE.tsv --tokenizer checkpoints/compact

FILE is of our own layout (as converters and scenes write it; people without a part map are passed over) or a published
RPar file. Every person's map is cut to the true box, encoded, decoded, and put back into the picture; all pixels of the
picture count, as in the scores of RPar. Prints the intersection over union of each class, and their mean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data.annotation import PART_NAMES
from ..data.commands import MAX_THREADS, in_range, one_sentence
from ..data.dataset import ReferringDataset
from ..data.rows import guess_kind
from ..errors import RefHCMError
from ..metrics.parsing import ParsingMeter, class_iou
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_data import classes_only
from ..models.label_map_files import load_label_map
from ..models.label_map_paste import crop_part_map, paste_labels, paste_logits
from ..models.processes import find_device

KINDS = ("rpar", "person")


@dataclass
class Survival:
    """What is left of the part maps of a file."""

    people: int
    """Different part maps; a person whom several rows ask about counts once."""
    codes: int
    """Codebook entries that occur."""
    iou: dict[str, float]
    """Class -> intersection over union, for classes that occur."""
    scores: dict[str, float]
    """See `metrics.parsing.ParsingMeter.result`."""


@torch.inference_mode()
def survival(
    path: str | Path,
    kind: str,
    tokenizer: LabelMapTokenizer,
    limit: int | None = None,
    published_paste: bool = False,
    progress: bool = True,
) -> Survival:
    """Take the part maps of a file (`kind` rpar or person) through their codes and back.

    limit: take so many people, evenly spread. published_paste: stepped outlines, as the published evaluation makes
    them. RefHCMError where the file has no part maps, or names one that cannot be used.
    """
    data = ReferringDataset(path, kind, parts=True)
    fields = ("parts", "box")
    people = {tuple(data.file.head(int(row), fields).values()): int(row) for row in reversed(data.usable(["parts"]))}
    rows = sorted(people.values())
    if not rows:
        raise RefHCMError(f"{path} has no part maps: name a file whose column parts is filled in.")
    if limit is not None and limit < len(rows):
        rows = [rows[number * len(rows) // limit] for number in range(limit)]
    device = tokenizer.quantize.embedding.weight.device
    size = (tokenizer.config.height, tokenizer.config.width)
    meter, used = ParsingMeter(tokenizer.config.classes), set()
    for row in tqdm(rows, desc="part maps", disable=not progress):
        _, truth, _ = data[row]
        if truth.parts is None or truth.box is None:
            raise data.file.bad(row, "there is no part map or no box.")
        crop = torch.from_numpy(crop_part_map(classes_only(truth.parts), truth.box, size))[None].to(device)
        codes = tokenizer.encode(crop)
        used.update(codes.flatten().tolist())
        logits = tokenizer.decode_logits(codes)[0]
        if published_paste:
            found = paste_labels(logits.argmax(0).cpu().numpy(), truth.box, truth.parts.shape)
        else:
            found = paste_logits(logits, truth.box, truth.parts.shape)
        meter.add(found, truth.parts)
    iou = class_iou(meter.matrix)
    named = {PART_NAMES[n]: float(iou[n]) for n in range(len(iou)) if not np.isnan(iou[n])}
    return Survival(len(rows), len(used), named, meter.result())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.inference.label_map_evaluation",
        description="Say how much of part maps survives a label-map tokenizer.",
    )
    parser.add_argument("file", help="a dataset file with part maps")
    parser.add_argument("--kind", choices=KINDS, help="its layout (default: by its columns)")
    parser.add_argument("--tokenizer", required=True, help="folder with label_map.json, or the published model.ckpt")
    parser.add_argument("--limit", type=int, help="take so many people, evenly spread")
    parser.add_argument("--published-paste", action="store_true", help="stepped outlines, as published")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    try:
        in_range(1, MAX_THREADS, threads=given.threads)
        in_range(1, limit=given.limit)
        torch.set_num_threads(given.threads)
        tokenizer = load_label_map(given.tokenizer).to(find_device(given.device))
        kind = given.kind or guess_kind(given.file)
        if kind not in KINDS:
            raise RefHCMError(f"{given.file} is of the kind {kind}, which has no part maps.")
        found = survival(given.file, kind, tokenizer, given.limit, given.published_paste)
        if given.json:
            Path(given.json).write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"label_map_evaluation: {one_sentence(error)}") from error
    for name, value in found.iou.items():
        print(f"{name:<16}{value:.4f}")
    print(f"\n{found.people} people, {found.codes} of {tokenizer.config.codebook} codes in use")
    for name in ("miou", "miou_foreground", "pixel_accuracy", "mean_accuracy"):
        if name in found.scores:
            print(f"{name:<16}{found.scores[name]:.4f}")


if __name__ == "__main__":
    main()
