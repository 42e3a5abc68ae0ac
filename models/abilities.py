"""What a model was trained for, which its weights do not tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Abilities:
    """What a model was trained for, as entries of its `config.json`."""

    tasks: tuple[str, ...] = ("rec", "rkpt", "rpar_full_mask", "rhrc", "s1")
    """Names of tasks (`refhcm.tasks`) that it was trained for: what evaluation asks where none are named, and of masks
    and several people all that it can be asked. A model that says nothing was trained for no more than these."""
    block_parsing: bool = True
    """Part maps are decoded in one pass."""
    region_prompts: bool = False
    """A region may stand in place of the words in every instruction."""
    point_prompts: bool = False
    """So may a point, or the points of a scribble."""
    loose_regions: bool = False
    """A region need not be the person's box: the answer begins with a better one."""
    nobody: bool = False
    """Words that fit nobody are answered by nothing."""
    keypoints_inside: bool = True
    """Keypoints are looked for in the box only."""


@dataclass(frozen=True)
class Presence:
    """How a model's own chance that anybody fits becomes a calibrated one: section `presence` of its `config.json`,
    which `python -m refhcm.inference.calibrate` writes. The defaults leave it as it is."""

    scale: float = 1.0
    offset: float = 0.0
    """The calibrated log-odds are `scale` (above 0) times the model's own, plus `offset`."""
    threshold: float = 0.5
    """Somebody fits where the calibrated chance is this or more."""
