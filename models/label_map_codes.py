"""Fill the codes column of a dataset file with what a label-map tokenizer makes of its part maps:

python -m refhcm.models.label_map_codes FILE.tsv --kind person --tokenizer checkpoints/compact
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..data.commands import MAX_THREADS, in_range, one_sentence, writable_folder
from ..data.rows import open_rows
from ..data.shards import is_shards
from ..errors import RefHCMError
from .label_map import LabelMapTokenizer
from .label_map_data import LabelledPeople, classes_only
from .label_map_files import load_label_map
from .label_map_paste import crop_part_map


def fill_codes(
    source: str | Path, target: str | Path, tokenizer: LabelMapTokenizer, kind: str = "rpar", batch: int = 64
) -> int:
    """Copy `source` to `target` (may be the same) with the codes filled in; other columns stay as they are.

    `kind` is a layout of `data.dataset.LAYOUTS` with codes and part maps. Part maps are looked for beside
    `source`. Rows of our own kind that know no part map of exactly one person stay as they are. The target appears only
    when it is complete. Returns the number of rows whose codes were written; raises RefHCMError naming file and line
    for a row whose part map or box cannot be used.
    """
    source, target = Path(source), Path(target)
    if target.is_dir():
        raise RefHCMError(f"{target} is a folder: name a file to write to.")
    if is_shards(source):
        raise RefHCMError(f"{source} is a file of shards: fill in the codes of the TSV file, and make shards of that.")
    people = LabelledPeople(source, kind)
    mapped = np.zeros(len(people.data), bool)
    mapped[people.rows] = True
    lines = open_rows(source, kind)
    writable_folder(target.parent)
    part = target.with_name(target.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for start in range(0, len(mapped), batch):
                rows = range(start, min(start + batch, len(mapped)))
                codes = _codes(people, [row for row in rows if mapped[row]], tokenizer)
                for row in rows:
                    fields = {**lines[row], **({"codes": codes[row]} if row in codes else {})}
                    file.write("\t".join(fields[name] for name in lines.columns) + "\n")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return int(mapped.sum())


@torch.inference_mode()
def _codes(people: LabelledPeople, rows: Sequence[int], tokenizer: LabelMapTokenizer) -> dict[int, str]:
    """Row -> the codes of its part map, as a field."""
    if not rows:
        return {}
    size = tokenizer.config.height, tokenizer.config.width
    crops: dict[tuple[str, str], np.ndarray] = {}  # a person's rows share one map: it is read once
    keys: dict[int, tuple[str, str]] = {}
    for row in rows:
        fields = people.data.file.head(row, ("parts", "box"))
        keys[row] = fields["parts"], fields["box"]
        if keys[row] not in crops:
            parts, box = people[row]
            try:
                crops[keys[row]] = crop_part_map(classes_only(parts), box, size)
            except RefHCMError as error:
                raise people.data.file.bad(row, str(error)) from error
    codes = tokenizer.encode(torch.from_numpy(np.stack(list(crops.values()))))
    written = {key: ",".join(map(str, numbers)) for key, numbers in zip(crops, codes.tolist(), strict=True)}
    return {row: written[key] for row, key in keys.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.models.label_map_codes", description="Fill the codes column of a dataset file."
    )
    parser.add_argument("source", help="file whose codes column is empty or out of date")
    parser.add_argument("target", nargs="?", help="file to write (default: the same)")
    parser.add_argument("--kind", default="rpar", choices=["rpar", "person"], help="its layout")
    parser.add_argument("--tokenizer", required=True, help="folder with label_map.json and .safetensors")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        in_range(1, MAX_THREADS, threads=options.threads)
        torch.set_num_threads(options.threads)
        target = options.target or options.source
        count = fill_codes(options.source, target, load_label_map(options.tokenizer), options.kind)
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"label_map_codes: {one_sentence(error)}") from error
    print(f"{target}: {count} rows have codes")


if __name__ == "__main__":
    main()
