"""Whom words fit in a scene, by its people's attributes and places alone: no margins, no doubts."""

import numpy as np

from refhcm.data.annotation import KEYPOINT_NAMES
from refhcm.data.scenes.compose import Scene, ScenePerson


def centre(person: ScenePerson) -> float:
    return (person.box[0] + person.box[2]) / 2 / person.parts.shape[1]


def fits(person: ScenePerson, term: tuple[str, str]) -> bool:
    """Whether plain attributes satisfy a term; ranks are checked apart."""
    kind, value = term
    if kind.startswith("not "):
        return not fits(person, (kind.removeprefix("not "), value))
    a = person.attributes
    child = a["age"] == "child"
    if kind == "noun":
        return {
            "person": True,
            "child": child,
            "man": a["gender"] == "man" and not child,
            "woman": a["gender"] == "woman" and not child,
            "boy": a["gender"] == "man" and child,
            "girl": a["gender"] == "woman" and child,
        }[value]
    if kind == "wears_colour":
        return a["top_colour"] == value
    if kind == "side":
        return (centre(person) < 0.5) == (value == "left")
    return a[kind] == value


def matches(scene: Scene, terms) -> list[int]:
    """Everybody who fits all terms, found by trying each person: no margins, no doubts."""
    plain = [t for t in terms if t[0] not in ("place", "depth", "row")]
    group = [i for i, person in enumerate(scene.people) if all(fits(person, t) for t in plain)]
    kept = list(group)
    for kind, value in terms:
        if kind == "row":
            middle = np.exp(np.mean(np.log([f(p.scale for p in scene.people) for f in (min, max)])))
            kept = [i for i in kept if (scene.people[i].scale > middle) == (value == "front")]
        elif kind == "depth":
            key = max if value == "front" else min
            kept = [i for i in kept if i == key(group, key=lambda j: scene.people[j].scale)]
        elif kind == "place":
            kept = [i for i in kept if at_place(scene, i, group, value)]
    return kept


def related(scene: Scene, i: int, word: str, anchors: tuple[int, ...]) -> bool:
    """Whether somebody stands so to others."""
    me, others = scene.people[i], [scene.people[anchor] for anchor in anchors]
    if i in anchors:
        return False
    if word == "between":
        return min(map(centre, others)) < centre(me) < max(map(centre, others))
    (other,) = others
    overlap = min(me.box[2], other.box[2]) - max(me.box[0], other.box[0])
    return {
        "left of": centre(me) < centre(other),
        "right of": centre(me) > centre(other),
        "next to": -overlap < 0.15 * me.parts.shape[1],
        "behind": me.scale < other.scale and overlap > 0,
        "in front of": me.scale > other.scale and overlap > 0,
    }[word]


def at_place(scene: Scene, i: int, group: list[int], value: str) -> bool:
    row = sorted(group, key=lambda j: centre(scene.people[j]))
    everybody = sorted(range(len(scene.people)), key=lambda j: centre(scene.people[j]))
    if value in ("left", "right"):
        return i == row[0 if value == "left" else -1] and (centre(scene.people[i]) < 0.5) == (value == "left")
    if value in ("far left", "far right"):
        return i == everybody[0 if value == "far left" else -1]
    if value == "middle":
        return len(everybody) % 2 == 1 and i == everybody[len(everybody) // 2]
    place, side = value.split(" from ")
    return i == (everybody if side == "left" else everybody[::-1])[{"second": 1, "third": 2}[place]]


def flat_scene(*people: tuple[int, dict[str, str]]) -> Scene:
    """Blocky people at given columns of a 400 x 200 picture: head, shirt, trousers, everything visible."""
    made = []
    base = {"gender": "man", "age": "young", "top": "shirt", "top_colour": "red", "bottom": "jeans",
            "bottom_colour": "blue", "hair": "short", "hair_colour": "brown", "hat": "", "pose": "standing",
            "view": "front"}  # fmt: skip
    for x, changes in people:
        parts = np.zeros((200, 400), np.uint8)
        for rows, part in (((40, 50), 2), ((50, 60), 13), ((60, 110), 5), ((110, 170), 9)):
            parts[slice(*rows), x : x + 30] = part
        keypoints = np.full((len(KEYPOINT_NAMES), 3), 2, np.float32)
        keypoints[:, :2] = (x + 15, 100)
        box = (x, 40, x + 30, 170)
        made.append(ScenePerson(box, box, keypoints, parts, base | changes, 1.0, 1.0, 70.0))
    return Scene(np.zeros((200, 400, 3), np.uint8), tuple(made), "0")
