"""Copy the people of one split out of a bank, small enough to ship (the held-out people that come with the code):

python -m refhcm.data.scenes.bank_subset BANK OUT --split test --count 450
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..commands import in_range, one_sentence, writable_folder
from .bank import Bank, BankError, write_shard
from .splits import SPLITS, outfit_split

BANK_FILE = "bank.json"


def copy_split(source: str | Path, out: str | Path, split: str, count: int) -> int:
    """Write the first `count` cut-outs whose outfit belongs to `split` as a bank of one shard; returns their number."""
    in_range(1, count=count)
    bank = Bank(Path(source))
    members = [i for i in range(len(bank)) if outfit_split(bank.attributes(i)) == split][:count]
    if not members:
        raise BankError(f"{source} holds nobody of the {split} split: name a larger bank or another --split.")
    out = writable_folder(out)
    shutil.copyfile(Path(source) / BANK_FILE, out / BANK_FILE)
    return write_shard(out / "shard-00000.zip", ((bank[i], bank.notes(i)) for i in members))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m refhcm.data.scenes.bank_subset", description="Copy a split.")
    parser.add_argument("bank")
    parser.add_argument("out")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--count", type=int, default=450)
    given = parser.parse_args(arguments)
    try:
        copied = copy_split(given.bank, given.out, given.split, given.count)
    except (ValueError, OSError) as error:
        raise SystemExit(f"bank_subset: {one_sentence(error)}") from error
    print(f"{copied} people of the {given.split} split in {given.out}")


if __name__ == "__main__":
    main()
