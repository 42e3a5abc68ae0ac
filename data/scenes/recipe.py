"""How much of what scenes hold. A recipe, once used, stays as it is, so that scenes made by it can be made again."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import RefHCMError


@dataclass(frozen=True)
class Recipe:
    """Shares of scenes, or of expressions. What has the share 0 is not even drawn for: chance runs as without it."""

    counts: tuple[float, ...]
    """Of scenes of 1, 2, ... people."""
    cameras: bool = False
    """People of one scene were photographed from heights that agree, and the ground lies as that camera sees it."""
    redraws: int = 0
    """How often somebody is drawn anew who is in the scene already."""
    far: float = 0.0
    """Scenes whose people are all far away."""
    shadows: float = 0.0
    """Scenes with a sun that throws people's shadows on the ground."""
    rough: float = 0.0
    """Pictures with one plain fault of the camera (`light.FAULTS`)."""
    overlaps: float = 0.0
    """Scenes of two or more in which somebody stands behind somebody else."""
    attempts: int = 6
    """How often a layout is tried before somebody who cannot be seen is left out."""
    relations: float = 0.0
    """Expressions that lean on somebody else, beside the few that any recipe gives."""
    denials: float = 0.0
    """Expressions that say what somebody has not or does not."""
    bare: float = 0.0
    """Expressions of content words only, in any order, of those that could be said so."""
    slips: float = 0.0
    """Expressions with one slip of spelling or punctuation."""


RECIPES = {
    1: Recipe(counts=(0.15, 0.28, 0.25, 0.17, 0.1, 0.05)),
    2: Recipe(
        counts=(0.13, 0.25, 0.23, 0.15, 0.09, 0.06, 0.05, 0.04),
        cameras=True, redraws=6, far=0.08, shadows=0.35, rough=0.12, overlaps=0.25, attempts=15,
        relations=0.075, denials=0.09, bare=0.1, slips=0.1,
    ),
}  # fmt: skip
LATEST = max(RECIPES)


def recipe(number: int) -> Recipe:
    """The recipe of this number; RefHCMError that names those there are."""
    if number not in RECIPES:
        raise RefHCMError(f"There is no recipe {number}; choose one of {', '.join(map(str, RECIPES))}.")
    return RECIPES[number]
