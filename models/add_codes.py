"""Give a model codes to write more with; it must then be trained to use them:

    python -m refhcm.models.add_codes MODEL OUT --masks TOKENIZER --pose
    ... train.py --init-from OUT --vocabulary OUT --masks TOKENIZER

`--masks` lets it write masks, `--pose` all keypoints as one block. OUT is MODEL with a larger token space (published
models have room already), and the mask tokenizer beside it. Every other token keeps its embedding, so the model answers
as before, but for keypoints, which it must learn anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.annotation import CODE_GRID, KEYPOINT_NAMES
from ..data.commands import one_sentence, writable_folder
from ..data.vocabulary import Vocabulary
from ..data.vocabulary_file import describe_vocabulary, load_vocabulary
from ..errors import RefHCMError
from .checkpoint import fill, load_folder, save_folder, skeleton
from .export import tokenizer_files
from .initial import start_codes, start_pose
from .label_map_files import MASK, PARTS, file_names, load_label_map
from .refhcm import RefHCM


@torch.no_grad()
def grow(model: RefHCM, old: Vocabulary, new: Vocabulary) -> RefHCM:
    """The model over a token space with more codes: new ones begin as the mean of the old, others stay as they are."""
    config = replace(model.config, vocab_size=new.size, num_codes=new.num_codes)
    state = model.state_dict()
    for name, table in state.items():
        if len(table.shape) == 2 and len(table) == old.size:
            added = table[slice(*old.code_span)].mean(0).expand(new.num_codes - old.num_codes, -1)
            state[name] = torch.cat([table[: old.bin_start], added, table[old.bin_start :]])
    grown = skeleton(config)
    fill(grown, state)
    return grown.eval()


def add_codes(source: str | Path, target: str | Path, masks: str | Path | None = None, pose: bool = False) -> None:
    """Write the model folder `source` with more codes as the folder `target`; see the command."""
    model, content = load_folder(source, dtype=torch.float32)
    section: Mapping[str, Any] = content.get("vocabulary") or {}
    old = new = load_vocabulary(section, source)
    if masks is None and not pose:
        raise RefHCMError("Say which codes to add: --masks, --pose or both.")
    if masks is not None and old.mask_codes:
        raise RefHCMError(f"{source} has codes for masks already.")
    if pose and old.pose_start:
        raise RefHCMError(f"{source} has codes for poses already.")
    tokenizer = None if masks is None else load_label_map(masks, MASK)
    queries = CODE_GRID[0] * CODE_GRID[1]
    if tokenizer is not None:
        new = new.with_masks(tokenizer.config.codebook, queries)
    if pose:
        new = new.with_pose(len(KEYPOINT_NAMES), queries)
    model = grow(model, old, new)
    if tokenizer is not None:
        start_codes(model, new.mask_span, tokenizer.quantize.embedding.weight)
    if pose:
        start_pose(model, new)
    sections = {name: value for name, value in content.items() if name not in ("format", "model")}
    files = [Path(source) / name for name in tokenizer_files(dict(section), Path(source))]
    files += [file for name in (*file_names(PARTS), *file_names(MASK)) if (file := Path(source) / name).is_file()]
    files += [] if masks is None else [Path(masks) / name for name in file_names(MASK)]
    save_folder(
        writable_folder(target), model, {**sections, "vocabulary": describe_vocabulary(new)}, torch.float16, files
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.models.add_codes", description="Give a model folder codes to write more with."
    )
    parser.add_argument("model", help="model folder to start from")
    parser.add_argument("out", help="model folder to write")
    parser.add_argument("--masks", help="folder of a mask tokenizer: codes to write masks with")
    parser.add_argument("--pose", action="store_true", help="codes to write all keypoints as one block")
    options = parser.parse_args(arguments)
    try:
        add_codes(options.model, options.out, options.masks, options.pose)
    except (RefHCMError, OSError) as error:
        sys.exit(f"add_codes: {one_sentence(error)}")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
