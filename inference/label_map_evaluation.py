"""How much of part maps or masks survives a label-map tokenizer: the most that any answer of its codes could score.

    python -m refhcm.inference.label_map_evaluation FILE.tsv --tokenizer checkpoints/compact
    python -m refhcm.inference.label_map_evaluation FILE.tsv --tokenizer checkpoints/compact --name mask

FILE is of our own layout (as converters and scenes write it; people without a part map, or mask, are passed over) or a
published RPar file. Every person's map is cut to the true box, encoded, decoded, and put back into the picture; all
pixels of the picture count, as in the scores of the tasks. Of part maps it prints the intersection over union of each
class, and their mean. Of masks it prints the scores of the person's mask (with nobody else in it), and those of
three-way masks of regions, a tenth larger than the box on each side (with other people in them where the file knows
everybody). With torchrun in the place of python the processes share the work.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data.annotation import PART_NAMES, PERSON, Box
from ..data.commands import MAX_THREADS, in_range, one_sentence
from ..data.rows import guess_kind
from ..errors import RefHCMError
from ..metrics.parsing import ParsingMeter, class_iou
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_data import LabelledPeople, classes_only, moved, region_only
from ..models.label_map_files import MASK, PARTS, load_label_map
from ..models.label_map_paste import crop_part_map, paste_labels, paste_logits
from ..models.label_map_round_trip import mask_round_trip
from ..models.processes import ALONE, Processes, join, leave

KINDS = ("rpar", "person")
REGION_MARGIN = 0.1
"""How much larger than the person's box a region is, on each side, in shares of it."""


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


@dataclass
class MaskSurvival:
    """What is left of the masks of a file; both as `models.label_map_round_trip.mask_round_trip` scores them."""

    person: dict[str, float]
    """Masks of one person, in the true box."""
    region: dict[str, float]
    """Three-way masks of regions around them."""


@torch.inference_mode()
def survival(
    path: str | Path,
    kind: str,
    tokenizer: LabelMapTokenizer,
    limit: int | None = None,
    published_paste: bool = False,
    progress: bool = True,
    processes: Processes = ALONE,
) -> Survival:
    """Take the part maps of a file (`kind` rpar or person) through their codes and back.

    limit: take so many people, evenly spread. published_paste: stepped outlines, as the published evaluation makes
    them. processes: several share the work; all get the same. RefHCMError where the file has no part maps, or names one
    that cannot be used.
    """
    people = LabelledPeople(path, kind)
    rows = _rows(people, limit)
    device = tokenizer.quantize.embedding.weight.device
    size = (tokenizer.config.height, tokenizer.config.width)
    own, codes_of_own = ParsingMeter(tokenizer.config.classes), set[int]()
    mine = rows[processes.stretch(len(rows))]
    for row in tqdm(mine, desc="part maps", disable=not (progress and processes.leads)):
        truth, box = people[row]
        crop = torch.from_numpy(crop_part_map(classes_only(truth), box, size))[None].to(device)
        codes = tokenizer.encode(crop)
        codes_of_own.update(codes.flatten().tolist())
        logits = tokenizer.decode_logits(codes)[0]
        if published_paste:
            found = paste_labels(logits.argmax(0).cpu().numpy(), box, truth.shape)
        else:
            found = paste_logits(logits, box, truth.shape)
        own.add(found, truth)
    meter, used = ParsingMeter(tokenizer.config.classes), set[int]()
    for theirs, their_codes in processes.collect((own, codes_of_own)):
        meter.merge(theirs)
        used |= their_codes
    iou = class_iou(meter.matrix)
    named = {PART_NAMES[n]: float(iou[n]) for n in range(len(iou)) if not np.isnan(iou[n])}
    return Survival(len(rows), len(used), named, meter.result())


def mask_survival(
    path: str | Path,
    kind: str,
    tokenizer: LabelMapTokenizer,
    limit: int | None = None,
    progress: bool = True,
    processes: Processes = ALONE,
) -> MaskSurvival:
    """Take the masks of a file through their codes and back; arguments and errors as for `survival`."""
    people = LabelledPeople(path, kind, masks=True)
    rows = _rows(people, limit)
    rows = rows[processes.stretch(len(rows))]
    quiet = not (progress and processes.leads)

    def persons() -> Iterator[tuple[np.ndarray, Box]]:
        for row in tqdm(rows, desc="masks", disable=quiet):
            labels, box = people[row]
            yield (labels == PERSON).astype(np.uint8), box

    def regions() -> Iterator[tuple[np.ndarray, Box]]:
        margins = np.array([-REGION_MARGIN, -REGION_MARGIN, REGION_MARGIN, REGION_MARGIN])
        for row in tqdm(rows, desc="regions", disable=quiet):
            labels, box = people[row]
            yield region_only(labels, moved(box, margins))

    return MaskSurvival(
        mask_round_trip(tokenizer, persons(), processes=processes),
        mask_round_trip(tokenizer, regions(), processes=processes),
    )


def _rows(people: LabelledPeople, limit: int | None) -> list[int]:
    rows = people.different(limit)
    if not rows:
        what, column = ("masks", "mask or parts") if people.masks else ("part maps", "parts")
        raise RefHCMError(f"{people.data.file.path} has no {what}: name a file whose column {column} is filled in.")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.inference.label_map_evaluation",
        description="Say how much of part maps or masks survives a label-map tokenizer.",
    )
    parser.add_argument("file", help="a dataset file with part maps or masks")
    parser.add_argument("--kind", choices=KINDS, help="its layout (default: by its columns)")
    parser.add_argument("--tokenizer", required=True, help="folder with its files, or the published model.ckpt")
    parser.add_argument("--name", choices=(PARTS, MASK), default=PARTS, help="which of the folder's tokenizers")
    parser.add_argument("--limit", type=int, help="take so many people, evenly spread")
    parser.add_argument("--published-paste", action="store_true", help="stepped outlines, as published (part maps)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    try:
        in_range(1, MAX_THREADS, threads=given.threads)
        in_range(1, limit=given.limit)
        torch.set_num_threads(given.threads)
        processes = join(given.device)
        tokenizer = load_label_map(given.tokenizer, given.name).to(processes.device)
        kind = given.kind or guess_kind(given.file)
        if kind not in KINDS:
            raise RefHCMError(f"{given.file} is of the kind {kind}, which has no part maps.")
        found: Survival | MaskSurvival
        if tokenizer.config.masks:
            found = mask_survival(given.file, kind, tokenizer, given.limit, processes=processes)
        else:
            found = survival(given.file, kind, tokenizer, given.limit, given.published_paste, processes=processes)
        if given.json and processes.leads:
            Path(given.json).write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"label_map_evaluation: {one_sentence(error)}") from error
    finally:
        leave()
    if not processes.leads:
        return
    _print_masks(found) if isinstance(found, MaskSurvival) else _print_parts(found, tokenizer.config.codebook)


def _print_masks(found: MaskSurvival) -> None:
    print(f"{'':<16}{'person':>8}{'region':>8}")
    for name, value in found.person.items():
        print(f"{name:<16}{value:>8.4g}{found.region[name]:>8.4g}")


def _print_parts(found: Survival, codebook: int) -> None:
    for name, value in found.iou.items():
        print(f"{name:<16}{value:.4f}")
    print(f"\n{found.people} people, {found.codes} of {codebook} codes in use")
    for name in ("miou", "miou_foreground", "pixel_accuracy", "mean_accuracy"):
        if name in found.scores:
            print(f"{name:<16}{found.scores[name]:.4f}")


if __name__ == "__main__":
    main()
