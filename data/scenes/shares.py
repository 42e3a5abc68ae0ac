"""Count what written scenes hold: crowds, people who are covered, cut or far away, and each manner of speaking.

python -m refhcm.data.scenes.shares dataset/scenes/train
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...errors import RefHCMError
from ..commands import one_sentence
from .facts import DENIED

COVERED, CUT, FAR = 0.97, 0.97, 0.25
"""Less of a person's pixels is seen, or lies in the picture; the box is lower, as a share of the picture's height."""


def shares(folder: str | Path) -> dict[str, float]:
    """Shares of scenes by the number of their people, of people, and of expressions for one person, by name."""
    path = Path(folder) / "people.jsonl"
    if not path.is_file():
        raise RefHCMError(f"There is no {path}: name the folder of a split that refhcm.data.scenes has written.")
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("scenes", "people", "expressions", "nobody")}
    totals: Counter[str] = Counter()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            scene = json.loads(line)
            people = scene["people"]
            totals.update(scenes=1, people=len(people), nobody=len(scene["nobody"]))
            counts["scenes"][f"of {len(people)}"] += 1
            for person in people:
                totals["expressions"] += len(person["expressions"])
                height = (person["box"][3] - person["box"][1]) / scene["height"]
                tests = {"covered": person["visible_fraction"] < COVERED, "cut": person["frame_fraction"] < CUT,
                         "far": height < FAR}  # fmt: skip
                counts["people"].update(name for name, true in tests.items() if true)
                for said in person["expressions"]:
                    counts["expressions"].update(_manners(said))
            counts["nobody"].update("denying" for one in scene["nobody"] if any(map(_denies, one["terms"])))
    found = [(kind, name, count) for kind, names in counts.items() for name, count in sorted(names.items())]
    return {f"{kind} {name}": count / totals[kind] for kind, name, count in found}


def _denies(terms: Sequence[Sequence[str]]) -> bool:
    return any(kind.startswith(DENIED) for kind, _ in terms)


def _manners(said: dict) -> set[str]:
    """What an expression (an entry of people.jsonl) is made of: kinds of terms, and how it is said."""
    names = {kind for kind, _ in said["terms"]}
    if _denies(said["terms"]):
        names.add("denying")
    if said["relation"]:
        names |= {"leaning on others", said["relation"][0]}
    if not {"the", "a", "an"} & set(said["text"].lower().split()):
        names.add("without an article")
    return names


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m refhcm.data.scenes.shares", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="of one split, with people.jsonl")
    given = parser.parse_args(arguments)
    try:
        found = shares(given.folder)
    except (RefHCMError, OSError, ValueError) as error:
        raise SystemExit(f"shares: {one_sentence(error)}") from error
    for name, share in found.items():
        print(f"{name:40} {share:.3f}")


if __name__ == "__main__":
    main()
