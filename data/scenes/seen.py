"""One person as a viewer sees it: which of its attributes show, and which values of an attribute look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..annotation import PART_NAMES
from .compose import ScenePerson

Verdict = bool | None
"""Whether something is so; None where a reader could see it either way."""

_ALIKE = [
    frozenset(pair)
    for pair in (
        ("red", "orange"),
        ("red", "pink"),
        ("red", "brown"),
        ("orange", "yellow"),
        ("orange", "brown"),
        ("pink", "purple"),
        ("purple", "blue"),
        ("blue", "navy"),
        ("blue", "light blue"),
        ("blue", "turquoise"),
        ("light blue", "turquoise"),
        ("green", "turquoise"),
        ("navy", "black"),
        ("navy", "purple"),
        ("gray", "white"),
        ("gray", "black"),
        ("gray", "beige"),
        ("beige", "white"),
        ("beige", "yellow"),
        ("beige", "brown"),
        ("brown", "black"),
        ("light blue", "gray"),
        ("light blue", "white"),
        ("dark", "brown"),
        ("black", "brown"),
        ("dark", "black"),
        ("blond", "brown"),
        ("blond", "gray"),
        ("blonde", "brown"),
        ("blonde", "gray"),
        ("blond", "blonde"),
        ("red", "blonde"),
        ("red", "blond"),
        ("orange", "pink"),
        ("beige", "pink"),
        ("beige", "orange"),
        ("navy", "gray"),
        ("green", "gray"),
        ("beige", "gray"),
        ("navy", "turquoise"),
    )
]
_GARMENTS_ALIKE = [
    frozenset(group)
    for group in (
        ("t-shirt", "shirt", "top", "sweater"),
        ("jacket", "suit jacket", "shirt", "sweater"),
        ("dress", "skirt"),
        ("trousers", "jeans"),
        ("top", "dress"),
    )
]
_POSES_ALIKE = [
    frozenset(group)
    for group in (
        (
            "standing",
            "walking",
            "waving",
            "arms raised",
            "arms crossed",
            "hands on hips",
            "leaning",
            "pointing",
        ),
        ("walking", "running"),
        ("waving", "arms raised", "pointing"),
        ("kneeling", "crouching", "sitting"),
        ("running", "kneeling"),
    )
]
_AGES_ALIKE = [frozenset(("middle-aged", "old")), frozenset(("middle-aged", "young"))]
_HAIR_ALIKE = [
    frozenset(pair)
    for pair in (("short", "tied"), ("short", "bob"), ("short", "afro"), ("bob", "long"), ("bob", "afro"))
]
_PATTERNS_ALIKE = [frozenset(("striped", "checked"))]
_KINDS_ALIKE = {
    "top": _GARMENTS_ALIKE, "bottom": _GARMENTS_ALIKE, "top_pattern": _PATTERNS_ALIKE,
    "pose": _POSES_ALIKE, "age": _AGES_ALIKE, "hair": _HAIR_ALIKE,
}  # fmt: skip
_PART_OF_TOP = {"jacket": (7,), "suit jacket": (7,), "dress": (6,), "overalls": (9,)}
_PARTS_OF_BOTTOM = (9, 12)
POSTURES = ("standing", "walking", "running", "sitting", "kneeling", "crouching")
"""Poses of the legs, of which a person has one; arms may do several things at once."""
_HEAD = (1, 2, 4, 13)


@dataclass(frozen=True)
class Seen:
    """One person as a viewer sees it: attributes, the kinds of these that cannot be seen ("crown" where the frame cuts
    the head off), and where it stands."""

    attributes: dict[str, str]
    hidden: frozenset[str]
    x: float  # middle of the visible box, as a share of the picture's width
    left: float  # edges of the box, the same way
    right: float
    height: float  # of the box, as a share of the picture's height
    scale: float


def same(kind: str, a: str, b: str) -> Verdict:
    """Whether value `b` of an attribute would be called `a`."""
    if a == b:
        return True
    if not a or not b:
        return False
    if kind.endswith("colour"):
        alike = _ALIKE
    else:
        alike = _KINDS_ALIKE.get(kind, [])
    return None if any(a in group and b in group for group in alike) else False


def see(person: ScenePerson) -> Seen:
    """What is visible of one person; small or mostly covered pieces count as hidden."""
    height, width = person.parts.shape
    x1, y1, x2, y2 = person.box
    counts = np.bincount(person.parts[y1:y2, x1:x2].ravel(), minlength=len(PART_NAMES))
    counts[0] = 0  # background
    area = int(counts.sum())

    def shows(parts: Sequence[int], share: float, least: int) -> bool:
        return int(counts[list(parts)].sum()) >= max(least, share * area)

    a, hidden = person.attributes, set()
    if not shows(_PART_OF_TOP.get(a["top"], (5,)), 0.05, 60):
        hidden |= {"top", "top_colour", "top_pattern"}
    if a["bottom"] and not shows(_PARTS_OF_BOTTOM, 0.05, 60):
        hidden |= {"bottom", "bottom_colour"}
    head = shows(_HEAD, 0.02, 40)
    nose_or_eyes = int((person.keypoints[:5, 2] > 0).sum()) >= 3
    if not (head and nose_or_eyes):
        hidden |= {"gender", "age", "hair", "hair_colour", "hat", "view"}
    if not shows((2,), 0.01, 25):
        hidden |= {"hair", "hair_colour"}
    if a["hat"] and not shows((1,), 0.008, 20):
        hidden.add("hat")
    if y1 <= 0:
        hidden.add("crown")
    labelled = person.keypoints[:, 2]
    if not (labelled[[7, 8, 9, 10]] > 0).all() or (labelled[[9, 10]] == 2).sum() < (
        2 if a["view"] == "front" else 1
    ):
        hidden.add("arms")
    if not (labelled[11:15] > 0).all() or (labelled[13:] == 2).sum() < 2:
        hidden.add("legs")
    if limbs_of(a["pose"]) & hidden:
        hidden.add("pose")
    return Seen(
        a, frozenset(hidden), (x1 + x2) / 2 / width, x1 / width, x2 / width, (y2 - y1) / height, person.scale
    )


def limbs_of(pose: str) -> set[str]:
    """The limbs by which one knows a pose."""
    if pose in ("waving", "arms raised", "arms crossed", "hands on hips", "pointing"):
        return {"arms"}
    return {"arms", "legs"} if pose == "running" else {"legs"}
