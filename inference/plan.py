"""Which tasks of `refhcm.tasks` serve what a user wants: as few instructions as answer all of it.

    box            rec                      keypoints + parsing            s1
    keypoints      rkpt                     keypoints + parsing + mask     s1_mask
    parsing        rpar_full_mask, rpar     any other of these with mask   the same without, then res behind its box
    mask           res                      region_map                     roi, behind any of these
    caption        rhrc, behind any of these

A mask is the person's own answer where the model writes masks, and otherwise the union of the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RefHCMError
from ..models.abilities import Abilities
from .asking import ON_REQUEST, TASKS


@dataclass(frozen=True)
class Plan:
    """What is asked about each person, and what of it is wanted."""

    tasks: tuple[str, ...]
    """What is wanted, of `asking.TASKS`."""
    place: str
    """The task whose answer is the box, with as much else as one instruction gives."""
    mask: bool
    """Whether the mask is a question of its own, asked behind that box."""

    @property
    def caption(self) -> bool:
        """Whether a caption is wanted."""
        return "caption" in self.tasks

    @property
    def region_map(self) -> bool:
        """Whether a region map is wanted."""
        return "region_map" in self.tasks


def able(abilities: Abilities, parts: bool, masks: bool) -> tuple[str, ...]:
    """What a model can be asked for, of `asking.TASKS`; `parts` and `masks`: which tokenizers are there."""
    missing = {
        "parsing": not parts,
        "mask": not (parts or _writes_masks(abilities, masks)),
        "region_map": not (masks and "roi" in abilities.tasks),
    }
    return tuple(task for task in TASKS if not missing.get(task))


def make_plan(tasks: tuple[str, ...] | None, abilities: Abilities, parts: bool, masks: bool) -> Plan:
    """The plan for what is wanted (None: all that the model can do, but for `asking.ON_REQUEST`).

    RefHCMError for what the model cannot do.
    """
    can = able(abilities, parts, masks)
    if tasks is None:
        tasks = tuple(task for task in can if task not in ON_REQUEST)
    lacking = {
        "parsing": "has no label-map tokenizer for 'parsing'",
        "mask": "writes neither masks nor part maps, so it has no 'mask'",
        "region_map": "was not trained for 'region_map'",
    }
    for task in tasks:
        if task not in can:
            raise RefHCMError(f"This model {lacking[task]}: ask only for {', '.join(can)}.")
    mask = "mask" in tasks and _writes_masks(abilities, masks)
    keypoints, parsing = "keypoints" in tasks, "parsing" in tasks or ("mask" in tasks and not mask)
    if mask and not (keypoints or parsing):
        return Plan(tasks, "res", False)
    if mask and keypoints and parsing and abilities.block_parsing and "s1_mask" in abilities.tasks:
        return Plan(tasks, "s1_mask", False)
    return Plan(tasks, _without_mask(keypoints, parsing, abilities), mask)


def _without_mask(keypoints: bool, parsing: bool, abilities: Abilities) -> str:
    """The task whose answer is the box and just what is wanted."""
    if keypoints:
        return "s1" if parsing else "rkpt"
    if parsing:
        return "rpar_full_mask" if abilities.block_parsing else "rpar"
    return "rec"


def _writes_masks(abilities: Abilities, masks: bool) -> bool:
    return masks and "res" in abilities.tasks
