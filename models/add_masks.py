"""Give a model that writes no masks the codes to write them with; it must then be trained to use them:

    python -m refhcm.models.add_masks MODEL OUT --masks TOKENIZER
    ... train.py --init-from OUT --vocabulary OUT --masks TOKENIZER

OUT is MODEL with a larger token space (published models have room for the codes already) and the mask tokenizer beside
it. Every other token keeps its embedding, so the model answers as before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.annotation import CODE_GRID
from ..data.commands import one_sentence, writable_folder
from ..data.vocabulary import Vocabulary
from ..data.vocabulary_file import describe_vocabulary, load_vocabulary
from ..errors import RefHCMError
from .checkpoint import fill, load_folder, save_folder, skeleton
from .export import tokenizer_files
from .initial import start_codes
from .label_map_files import MASK, file_names, load_label_map
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


def add_masks(source: str | Path, target: str | Path, masks: str | Path) -> None:
    """Write the model folder `source` with mask codes as the folder `target`; see the command."""
    tokenizer = load_label_map(masks, MASK)
    model, content = load_folder(source, dtype=torch.float32)
    section: Mapping[str, Any] = content.get("vocabulary") or {}
    old = load_vocabulary(section, source)
    if old.mask_codes:
        raise RefHCMError(f"{source} has codes for masks already.")
    new = old.with_masks(tokenizer.config.codebook, CODE_GRID[0] * CODE_GRID[1])
    model = grow(model, old, new)
    start_codes(model, new.mask_span, tokenizer.quantize.embedding.weight)
    sections = {name: value for name, value in content.items() if name not in ("format", "model")}
    files = [Path(source) / name for name in tokenizer_files(dict(section), Path(source))]
    files += Path(source).glob("label_map.*")
    files += [Path(masks) / name for name in file_names(MASK)]
    save_folder(
        writable_folder(target), model, {**sections, "vocabulary": describe_vocabulary(new)}, torch.float16, files
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.models.add_masks", description="Give a model folder the codes to write masks with."
    )
    parser.add_argument("model", help="model folder to start from")
    parser.add_argument("out", help="model folder to write")
    parser.add_argument("--masks", required=True, help="folder of the mask tokenizer")
    options = parser.parse_args(arguments)
    try:
        add_masks(options.model, options.out, options.masks)
    except (RefHCMError, OSError) as error:
        sys.exit(f"add_masks: {one_sentence(error)}")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
