"""Terms put into words in the manner of people, and the terms that people would use for somebody (see `facts`)."""

from __future__ import annotations

import re

import numpy as np

from .facts import DENIED, SceneFacts, Term
from .recipe import LATEST, RECIPES, Recipe
from .seen import Seen

_NOUNS = {
    "man": ("man", "man", "man", "guy", "guy", "gentleman"),
    "woman": ("woman", "woman", "woman", "lady", "lady"),
    "boy": ("boy", "boy", "little boy", "kid"),
    "girl": ("girl", "girl", "little girl", "kid"),
    "child": ("kid", "child", "little kid"),
    "person": ("person", "person", "one"),
}
_GARMENTS = {
    "t-shirt": ("t-shirt", "t-shirt", "shirt", "tee"),
    "shirt": ("shirt",),
    "sweater": ("sweater", "sweater", "pullover"),
    "jacket": ("jacket", "jacket", "coat"),
    "suit jacket": ("suit", "suit jacket", "blazer"),
    "top": ("top", "top", "tank top"),
    "trousers": ("trousers", "pants", "pants"),
    "jeans": ("jeans",),
    "shorts": ("shorts",),
}
PAIRED = ("trousers", "pants", "jeans", "shorts", "overalls")
_HAIR = {"tied": "tied back hair", "bob": "chin length hair", "afro": "curly hair"}
_PLACES = {
    "left": ("on the left", "on the left", "at left", "to the left", "on the left side"),
    "right": ("on the right", "on the right", "at right", "to the right", "on the right side"),
    "far left": ("on the far left", "far left", "all the way to the left"),
    "far right": ("on the far right", "far right", "all the way to the right"),
    "middle": ("in the middle", "in the middle", "in the center"),
    "second from left": ("second from the left", "second from left"),
    "second from right": ("second from the right", "second from right"),
    "third from left": ("third from the left", "third from left"),
    "third from right": ("third from the right", "third from right"),
}
_DEPTHS = {
    "front": ("in front", "closest to us", "closest to the camera", "in the foreground"),
    "back": ("in the back", "farthest away", "in the background"),
}
POSES = {
    "standing": ("standing",),
    "walking": ("walking",),
    "running": ("running",),
    "sitting": ("sitting", "seated"),
    "kneeling": ("kneeling", "on one knee"),
    "crouching": ("crouching",),
    "waving": ("waving", "waving a hand"),
    "arms raised": ("with arms up", "with both arms raised", "raising both arms"),
    "arms crossed": ("with arms crossed", "with crossed arms"),
    "hands on hips": ("with hands on hips",),
    "leaning": ("leaning",),
    "pointing": ("pointing",),
}
VIEWS = {
    "back": ("seen from behind", "facing away", "with back to us"),
    "left side": ("facing left", "looking left"),
    "right side": ("facing right", "looking right"),
}
SIDES = {
    "next to": ("next to", "beside"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "behind": ("behind", "behind", "in back of"),
    "in front of": ("in front of",),
}
_DENIALS = {
    "hat": ("without a hat", "without a hat", "not wearing a hat", "with no hat", "who has no hat on"),
    "pose": ("not {}", "who is not {}", "who isn't {}"),
    "wears_colour": ("not in {}", "not wearing {}", "who isn't in {}"),
    "hair_colour": ("without {} hair", "whose hair isn't {}", "who doesn't have {} hair"),
    "top": ("not in {}", "not wearing {}", "who isn't wearing {}", "who is not wearing {}"),
}
_BARE_PLACES = {
    "left": ("left", "left", "left side", "on left"),
    "right": ("right", "right", "right side", "on right"),
    "far left": ("far left", "leftmost", "first from left"),
    "far right": ("far right", "rightmost", "first from right"),
    "middle": ("middle", "center", "centre"),
    "second from left": ("second from left", "2nd from left"),
    "second from right": ("second from right", "2nd from right"),
    "third from left": ("third from left", "3rd from left"),
    "third from right": ("third from right", "3rd from right"),
}
_BARE_KINDS = {
    "age", "top", "top_colour", "top_pattern", "bottom", "bottom_colour", "hair", "hair_colour", "hat", "pose", "place",
    "depth",
}  # fmt: skip
_DEFINITE = ("one", "left", "right", "far", "middle")
"""Phrases that begin so go with "the" or with nothing."""
TRIES = 60
ARTICLE = re.compile(r"^(the|an?) ")


class Writer:
    """Turns terms into words, with small variety drawn from `rng`."""

    def __init__(self, rng: np.random.Generator, recipe: Recipe = RECIPES[LATEST]) -> None:
        self.rng, self.recipe = rng, recipe

    def one(self, options: tuple[str, ...]) -> str:
        """One of the options, evenly."""
        return options[int(self.rng.integers(len(options)))]

    def garment(self, colour: str, garment: str, article: bool, pattern: str = "") -> str:
        """ "a red shirt", "blue jeans"; a pattern stands before the garment."""
        name = self.one(_GARMENTS.get(garment, (garment,)))
        words = " ".join(word for word in (spelt(self.rng, colour), pattern, name) if word)
        if not article or name in PAIRED:
            return words
        determiner = "the" if self.rng.random() < 0.3 else ("an" if words[0] in "aeio" else "a")
        return f"{determiner} {words}"

    def phrase(self, terms: tuple[Term, ...]) -> str:
        """A noun phrase without its first article."""
        said = dict(terms)
        before, after = [], []
        if "age" in said:
            before.append(self.one(("old", "elderly", "older")) if said["age"] == "old" else "young")
        clothes = self._clothes(said)
        if clothes:
            after.append(clothes)
        hair = self._hair(said)
        if hair:
            after.append(hair)
        if "hat" in said:
            after.append(self.one(("with a hat", "wearing a hat", "in a hat", "in the hat")))
        if "pose" in said:
            pose = self.one(POSES.get(said["pose"], (said["pose"],)))
            (before if " " not in pose and self.rng.random() < 0.3 else after).append(pose)
        if "view" in said:
            after.append(self.one(VIEWS[said["view"]]))
        if self.rng.random() < 0.4:
            after = [after[i] for i in self.rng.permutation(len(after))]
        noun = self.one(_NOUNS[said.get("noun", "person")])
        place = said.get("place", "")
        if place in ("left", "right", "middle", "far left", "far right") and self.rng.random() < 0.35:
            before.insert(0, place)
        elif place:
            after.insert(0 if self.rng.random() < 0.3 else len(after), self.one(_PLACES[place]))
        if "depth" in said:
            after.insert(0 if self.rng.random() < 0.3 else len(after), self.one(_DEPTHS[said["depth"]]))
        after += [self._denial(kind.removeprefix(DENIED), value) for kind, value in terms if kind.startswith(DENIED)]
        return " ".join([*before, noun, *after])

    def _denial(self, kind: str, value: str) -> str:
        """ "not wearing a dress"; always said last, so that it is about nothing that follows."""
        if kind in ("top", "bottom"):
            kind, value = "top", self.garment("", value, True).replace("the ", "a ")
        elif kind != "pose":
            value = spelt(self.rng, value)
        return self.one(_DENIALS[kind]).format(value)

    def say(self, terms: tuple[Term, ...], telegram: bool = False) -> str:
        """The terms in one of the manners of people: a telegram, the bare content words, or a noun phrase."""
        if telegram:
            return self.short(terms)
        if self.recipe.bare and _may_be_bare(terms) and self.rng.random() < self.recipe.bare:
            return self.bare(terms)
        return self.article(self.phrase(terms))

    def bare(self, terms: tuple[Term, ...]) -> str:
        """Content words in any order: "lady left red coat"."""
        said = dict(terms)
        age = [self.one(("old", "elderly"))] if "age" in said else []
        pieces = [" ".join([*age, self.one(_NOUNS[said["noun"]])])]
        for kind in ("top", "bottom"):
            if kind in said:
                pattern = said.get("top_pattern", "") if kind == "top" else ""
                pieces.append(self.garment(said.get(f"{kind}_colour", ""), said[kind], False, pattern))
        pieces += [piece.removeprefix("with ") for piece in (self._hair(said),) if piece]
        pieces += [said[kind] for kind in ("hat", "pose") if kind in said]
        if "place" in said:
            pieces.append(self.one(_BARE_PLACES.get(said["place"], (said["place"],))))
        if "depth" in said:
            pieces.append(self.one(("front", "in front") if said["depth"] == "front" else ("back", "in back")))
        return " ".join(pieces[i] for i in self.rng.permutation(len(pieces)))

    def _clothes(self, said: dict[str, str]) -> str:
        verb = self.one(("in", "in", "wearing", "with"))
        if "wears_colour" in said:
            colour = spelt(self.rng, said["wears_colour"])
            return f"in {colour}" if verb != "wearing" else f"wearing {colour}"
        pieces = []
        if "top" in said:
            pieces.append(
                self.garment(said.get("top_colour", ""), said["top"], True, said.get("top_pattern", ""))
            )
        if "bottom" in said:
            pieces.append(self.garment(said.get("bottom_colour", ""), said["bottom"], True))
        return f"{verb} {' and '.join(pieces)}" if pieces else ""

    def _hair(self, said: dict[str, str]) -> str:
        if "hair" not in said and "hair_colour" not in said:
            return ""
        style = _HAIR.get(said.get("hair", ""), f"{said.get('hair', '')} hair".strip())
        colour = spelt(self.rng, said.get("hair_colour", ""))
        if not colour:
            return f"with {style}"
        return f"with {style[:-4].rstrip()} {colour} hair".replace("  ", " ")

    def short(self, terms: tuple[Term, ...]) -> str:
        """Telegram style: "red shirt", "left guy", "blue jeans on the right"."""
        said = dict(terms)
        if "top" in said or "bottom" in said:
            kind = "top" if "top" in said else "bottom"
            words = self.garment(
                said.get(f"{kind}_colour", ""), said[kind], False, said.get("top_pattern", "")
            )
            return f"{words} {self.one(_PLACES[said['place']])}" if "place" in said else words
        if "place" in said:
            noun = self.one(_NOUNS[said.get("noun", "person")])
            place = said["place"]
            return (
                f"{place} {noun}" if " from " not in place or self.rng.random() < 0.5 else f"{noun} {place}"
            )
        return self.phrase(terms)

    def article(self, phrase: str) -> str:
        """ "the ...", mostly; nobody says "a one in red" or "a far left man"."""
        draw = self.rng.random()
        if draw < 0.6:
            return f"the {phrase}"
        if draw < 0.85 or phrase.split()[0] in _DEFINITE:
            return phrase
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _may_be_bare(terms: tuple[Term, ...]) -> bool:
    """Whether the words stay clear without those between: no names of things that only their preposition explains."""
    kinds = {kind for kind, _ in terms} - {"noun"}
    return bool(kinds) and kinds <= _BARE_KINDS and dict(terms).get("noun", "person") != "person"


def spelt(rng: np.random.Generator, colour: str) -> str:
    """The name of a colour, in one of its spellings."""
    if colour == "gray" and rng.random() < 0.3:
        return "grey"
    if colour == "blond":
        return "blonde" if rng.random() < 0.5 else "blond"
    return colour


def noun_of(rng: np.random.Generator, seen: Seen) -> str:
    """What this person is called."""
    if "gender" in seen.hidden or rng.random() < 0.08:
        return "person"
    child = seen.attributes["age"] == "child"
    if child and rng.random() < 0.4:
        return "child"
    return {("man", False): "man", ("woman", False): "woman", ("man", True): "boy", ("woman", True): "girl"}[
        seen.attributes["gender"], child
    ]


def sayable(seen: Seen) -> dict[str, list[tuple[Term, ...]]]:
    """Groups of terms that are plainly visible on this person, by topic."""
    a, hidden = seen.attributes, seen.hidden
    topics: dict[str, list[tuple[Term, ...]]] = {}
    if "top" not in hidden:
        top, colour = ("top", a["top"]), ("top_colour", a["top_colour"])
        topics["clothes"] = [(("wears_colour", a["top_colour"]),), (top, colour), (top, colour)]
        if a["top"] in ("dress", "overalls", "suit jacket"):
            topics["clothes"].append((top,))
        if a.get("top_pattern", "plain") not in ("plain", ""):
            topics["clothes"] += [(top, ("top_pattern", a["top_pattern"]))]
    if a["bottom"] and "bottom" not in hidden:
        bottom = (("bottom", a["bottom"]), ("bottom_colour", a["bottom_colour"]))
        both = [
            (*group, *bottom)
            for group in topics.get("clothes", [])
            if len(group) == 2 and group[1][0] == "top_colour"
        ]
        topics.setdefault("clothes", []).extend([bottom, *both[:1]])
    if "hair" not in hidden:
        style, colour = ("hair", a["hair"]), ("hair_colour", a["hair_colour"])
        tied_behind = a["hair"] == "tied" and a["view"] == "front"  # from there it looks like short hair
        topics["hair"] = [(colour,)] if tied_behind else [(colour,), (style, colour), (style,)]
    if a["hat"] and "hat" not in hidden:
        topics["hat"] = [(("hat", "hat"),)]
    if a["age"] == "old" and "age" not in hidden:
        topics["age"] = [(("age", "old"),)]
    if "pose" not in hidden:
        topics["pose"] = [(("pose", a["pose"]),)]
    if a["view"] in VIEWS and "view" not in hidden:
        topics["view"] = [(("view", a["view"]),)]
    return topics


TOPIC_WEIGHT = {
    "clothes": 4.0,
    "hair": 1.0,
    "hat": 1.3,
    "age": 0.8,
    "pose": 1.8,
    "view": 0.5,
    "place": 3.2,
    "depth": 0.9,
}


def draw_terms(rng: np.random.Generator, facts: SceneFacts, person: int) -> tuple[Term, ...]:
    """A noun and up to three topics that are true of a person, whoever else they fit."""
    seen = facts.people[person]
    topics = sayable(seen)
    if len(facts.people) > 1:
        topics["place"] = [(("place", value),) for value in _PLACES]
        topics["depth"] = [(("depth", "front"),), (("depth", "back"),)]
    names = sorted(topics)
    weights = np.array([TOPIC_WEIGHT[name] for name in names])
    count = min(int(rng.choice((1, 2, 3), p=(0.5, 0.36, 0.14))), len(names))
    chosen: list[int] = []
    if names:
        chosen = rng.choice(len(names), count, replace=False, p=weights / weights.sum()).tolist()
    terms: list[Term] = [("noun", noun_of(rng, seen))]
    for number in chosen:
        options = topics[names[number]]
        if names[number] in (
            "place",
            "depth",
        ):  # only ranks that this person has, so that tries are not wasted
            base = facts.candidates(terms)[1]
            options = [option for option in options if facts.judge(person, option[0], base)]
        if options:
            terms.extend(options[int(rng.integers(len(options)))])
    return tuple(terms)


def telegraphed(rng: np.random.Generator, terms: tuple[Term, ...]) -> tuple[tuple[Term, ...], bool]:
    """Now and then whether to say terms in telegram style, and the terms that are left then."""
    kinds = {kind for kind, _ in terms} - {"noun"}
    telegram = (
        rng.random() < 0.35
        and (
            kinds <= {"place"}
            or kinds <= {"top", "top_colour", "top_pattern", "place"}
            or kinds <= {"bottom", "bottom_colour", "place"}
        )
        and kinds
    )
    if telegram and kinds != {"place"}:
        terms = tuple(term for term in terms if term[0] != "noun")  # "red shirt" does not say who wears it
    return terms, bool(telegram)
