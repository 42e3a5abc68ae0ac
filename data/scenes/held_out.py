"""The held-out scenes that come with the code as people, composed once per machine when somebody scores a model."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from ...errors import RefHCMError
from .write import Plan, write_scenes

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = ROOT / "dataset" / "held_out_people"
SEED = 77
HELD_OUT_RECIPE = 1
"""Of the held-out scenes where nobody asks for another (`recipe.RECIPES`); all published figures are over these, and
figures over scenes of different recipes do not compare."""


def fingerprint(recipe: int = HELD_OUT_RECIPE) -> str:
    """Short digest of what held-out scenes are made from: the people's files, the recipe and the generator's code."""
    digest = hashlib.sha256(f"recipe {recipe}\n".encode())
    for path in sorted(PEOPLE.iterdir()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    for path in sorted((ROOT / "data" / "scenes").glob("*.py")):
        if path.name != Path(__file__).name:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def held_out(count: int, recipe: int = HELD_OUT_RECIPE, workers: int = 2) -> Path:
    """The file of `count` scenes by a recipe, made once per `fingerprint` from the people of the test split."""
    if not PEOPLE.is_dir():
        raise RefHCMError(f"The held-out people are missing ({PEOPLE}): get a whole copy of RefHCM, or give --data.")
    folder = ROOT / ".cache" / f"held-out-{SEED}-{count}-{fingerprint(recipe)}"
    if not (folder / "done").exists():
        print(f"Making {count} held-out scenes in {folder} ...", file=sys.stderr)
        plan = Plan(folder, "test", count, SEED, "mixed", (PEOPLE,), images="files", recipe=recipe)
        write_scenes(plan, workers=workers)
        (folder / "done").touch()
    return folder / "test" / "person.tsv"
