"""Make the token space of a small model from the words of a dataset:

python -m refhcm.data.make_vocabulary OUT dataset/scenes/train/person.tsv --size 1500 --bins 256 --label-codes 64

writes OUT/text.model (SentencePiece) and OUT/vocabulary.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import RefHCMError
from .annotation import CODE_GRID, KEYPOINT_NAMES
from .commands import in_range, one_sentence, writable_folder
from .dataset import LAYOUTS
from .person_file import BY_REGION, EVERYBODY
from .text import normalise_reference, train_sentencepiece, training_captions
from .tsv import TsvFile
from .vocabulary import Vocabulary
from .vocabulary_file import TEXT_MODEL, VOCABULARY_FILE, describe_vocabulary

SPARE_CODES = 64
"""Codes beyond label codes, marks and queries, for blocks that later tasks will want (masks take them)."""


def words_of(path: str | Path, kind: str) -> Iterator[str]:
    """Every different expression and caption of a dataset file, with the leading space they are written with."""
    columns = {name: at for name, at in LAYOUTS[kind].items() if name in ("text", "captions")}
    rows = TsvFile(path, columns)
    seen = set()
    for row in range(len(rows)):
        fields = rows[row]
        text = fields.get("text", BY_REGION)
        texts = [normalise_reference(text)] if text not in (BY_REGION, EVERYBODY) else []
        texts += training_captions(fields["captions"]) if "captions" in fields else ()
        for words in texts:
            if words and words not in seen:
                seen.add(words)
                yield " " + words


def make_vocabulary(
    out: str | Path, texts: Iterator[str], size: int, bins: int, label_codes: int, prompts: Sequence[str] = (),
    mask_codes: int = 0, pose: bool = False,
) -> Vocabulary:  # fmt: skip
    """Train the text pieces on `texts` and `prompts` and write both files of the token space into the folder `out`.

    pose: poses are one block (`Vocabulary.pose_start`).
    """
    in_range(1, 1 << 16, size=size, label_codes=label_codes)
    in_range(0, 1 << 16, mask_codes=mask_codes)
    in_range(2, 1 << 16, bins=bins)
    out = writable_folder(out)
    # Instructions recur in every question: said often enough, their words become single pieces.
    text = train_sentencepiece([*texts, *(prompt.replace("{}", "") for prompt in prompts for _ in range(50))],
                               out / TEXT_MODEL, size)  # fmt: skip
    queries = CODE_GRID[0] * CODE_GRID[1]
    codes = label_codes + 2 + queries + SPARE_CODES
    vocabulary = Vocabulary(text, num_codes=codes, num_bins=bins, label_codes=label_codes, mark_start=label_codes)
    if mask_codes:
        vocabulary = vocabulary.with_masks(mask_codes, queries)
    if pose:
        vocabulary = vocabulary.with_pose(len(KEYPOINT_NAMES), queries)
    (out / VOCABULARY_FILE).write_text(json.dumps(describe_vocabulary(vocabulary), indent=2) + "\n")
    return vocabulary


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m refhcm.data.make_vocabulary", description="Make a token space.")
    parser.add_argument("out", help="folder to write to")
    parser.add_argument("files", nargs="+", help="dataset files whose words are to be spelt")
    parser.add_argument("--kind", default="person", choices=sorted(LAYOUTS), help="their layout")
    parser.add_argument("--size", type=int, default=1500, help="text pieces, at most")
    parser.add_argument("--bins", type=int, default=256, help="coordinate bins")
    parser.add_argument("--label-codes", type=int, default=64, help="codebook size of the label-map tokenizer")
    parser.add_argument("--mask-codes", type=int, default=0, help="that of the mask tokenizer; 0: no masks")
    parser.add_argument("--pose", action="store_true", help="codes to write all keypoints as one block")
    parser.add_argument("--prompt", action="append", default=[], help="an instruction to spell well; may be repeated")
    given = parser.parse_args(arguments)
    try:
        texts = (text for path in given.files for text in words_of(path, given.kind))
        made = make_vocabulary(given.out, texts, given.size, given.bins, given.label_codes, given.prompt,
                               given.mask_codes, given.pose)  # fmt: skip
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"make_vocabulary: {one_sentence(error)}") from error
    print(f"{made.text.size} text pieces, {made.num_codes} codes, {made.num_bins} bins: {made.size} tokens")


if __name__ == "__main__":
    main()
