"""Fill the codes column of a dataset file with what a label-map tokenizer makes of its part maps:

python -m refhcm.models.label_map_codes FILE.tsv --kind person --tokenizer checkpoints/compact
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ..data.commands import MAX_THREADS, in_range, one_sentence, writable_folder
from ..data.dataset import LAYOUTS, ReferringDataset
from ..errors import RefHCMError
from .label_map import LabelMapTokenizer
from .label_map_data import labelled
from .label_map_files import load_label_map
from .label_map_paste import crop_part_map


def fill_codes(
    source: str | Path, target: str | Path, tokenizer: LabelMapTokenizer, kind: str = "rpar", batch: int = 64
) -> int:
    """Copy `source` to `target` (may be the same) with the codes filled in; other columns stay as they are.

    `kind` is a layout of `data.dataset.LAYOUTS` with codes and part maps. Part maps are looked for beside
    `source`. The target appears only when it is complete. Returns the number of rows; raises RefHCMError
    naming file and line for a row without a usable part map or box.
    """
    source, target = Path(source), Path(target)
    if target.is_dir():
        raise RefHCMError(f"{target} is a folder: name a file to write to.")
    columns = {name: at for name, at in LAYOUTS[kind].items() if name != "codes"}
    data = ReferringDataset(source, kind, columns=columns, parts=True, draft=64)
    writable_folder(target.parent)
    part = target.with_name(target.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for start in range(0, len(data), batch):
                rows = range(start, min(start + batch, len(data)))
                file.writelines("\t".join(fields) + "\n" for fields in _filled(data, rows, tokenizer, kind))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return len(data)


@torch.inference_mode()
def _filled(
    data: ReferringDataset, rows: Sequence[int], tokenizer: LabelMapTokenizer, kind: str
) -> Iterator[list[str]]:
    """The fields of some rows, in file order, codes included."""
    size = tokenizer.config.height, tokenizer.config.width
    lines = [data.file[row] for row in rows]
    crops: dict[tuple[str, str], np.ndarray] = {}  # a person's rows share one map: it is read once
    for row, fields in zip(rows, lines, strict=True):
        key = fields["parts"], fields["box"]
        if key not in crops:
            parts, box = labelled(data, row)
            try:
                crops[key] = crop_part_map(parts, box, size)
            except RefHCMError as error:
                raise data.file.bad(row, str(error)) from error
    codes = tokenizer.encode(torch.from_numpy(np.stack(list(crops.values()))))
    written = {key: ",".join(map(str, numbers)) for key, numbers in zip(crops, codes.tolist(), strict=True)}
    for fields in lines:
        yield [{**fields, "codes": written[fields["parts"], fields["box"]]}[name] for name in LAYOUTS[kind]]


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
    print(f"{count} rows written to {target}")


if __name__ == "__main__":
    main()
