"""Referring expressions in the manner of people, each checked to fit exactly one person of its scene (see
`facts`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .compose import Scene
from .facts import DENIED, SceneFacts, Term
from .recipe import LATEST, RECIPES, Recipe
from .relations import stands
from .seen import POSTURES
from .words import ARTICLE, SIDES, TRIES, Writer, draw_terms, noun_of, sayable, telegraphed

RELATIONS = {"next to": 4, "behind": 12, "in front of": 12, "between": 6, "left of": 1, "right of": 1}
"""How people stand to each other, and how readily that is said where it is so; what is rarer is more telling."""
DENIABLE = ("hat", "top", "bottom", "wears_colour", "pose", "hair_colour")
"""What is said of people that they have not, are not or do not."""
_DENIED_GARMENTS = ("dress", "jacket", "suit jacket", "skirt", "shorts", "jeans", "sweater", "overalls")
_ABOUT = {
    "top_colour": "top", "top_pattern": "top", "wears_colour": "top", "bottom_colour": "bottom", "hair_colour": "hair",
}  # fmt: skip
_SPECIAL_TRIES = 24


@dataclass(frozen=True)
class Relation:
    """How somebody stands to others, each of whom the terms at its place single out: `word` is one of RELATIONS."""

    word: str
    anchors: tuple[int, ...]
    terms: tuple[tuple[Term, ...], ...]

    def record(self) -> tuple[str, object, object]:
        """As plain values: word, number and terms of the other one; of two, both as lists."""
        if len(self.anchors) == 1:
            return self.word, self.anchors[0], self.terms[0]
        return self.word, self.anchors, self.terms


@dataclass(frozen=True)
class Expression:
    """Words for one person, the terms that they claim, and the people they lean on."""

    text: str
    terms: tuple[Term, ...]
    relation: Relation | None = None


def _relational(
    rng: np.random.Generator, facts: SceneFacts, person: int, writer: Writer
) -> Expression | None:
    """ "the man next to the woman in red": the other one is singled out by its own words."""
    others = [other for other in range(len(facts.people)) if other != person]
    anchor = others[int(rng.integers(len(others)))]
    topics = sayable(facts.people[anchor]).get("clothes")
    if not topics:
        return None
    anchor_terms = (("noun", noun_of(rng, facts.people[anchor])), *topics[int(rng.integers(len(topics)))])
    terms = (("noun", noun_of(rng, facts.people[person])),)
    word = ("next to", "left of", "right of")[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
    if not facts.singles_out(anchor, anchor_terms) or not facts.singles_out(person, terms, (word, (anchor,))):
        return None
    text = (
        f"{writer.article(writer.phrase(terms))} {writer.one(SIDES[word])} the {writer.phrase(anchor_terms)}"
    )
    return Expression(text, terms, Relation(word, (anchor,), (anchor_terms,)))


# -- expressions of kinds that a recipe asks for -----------------------------------------------------------------
def own_words(rng: np.random.Generator, facts: SceneFacts, person: int, more: float) -> tuple[Term, ...]:
    """A noun, and with chance `more` something about clothes, hair, hat or age."""
    said = sorted(sayable(facts.people[person]).items())
    topics = [options for name, options in said if name not in ("pose", "view")]
    terms: tuple[Term, ...] = (("noun", noun_of(rng, facts.people[person])),)
    if not topics or rng.random() >= more:
        return terms
    options = topics[int(rng.integers(len(topics)))]
    return (*terms, *options[int(rng.integers(len(options)))])


def _standing(facts: SceneFacts, person: int) -> dict[str, list[tuple[int, ...]]]:
    """The relations in which a person plainly stands, and to whom."""
    others = [other for other in range(len(facts.people)) if other != person]
    found: dict[str, list[tuple[int, ...]]] = {}
    for word in RELATIONS:
        for anchors in combinations(others, 2 if word == "between" else 1):
            if stands(facts.people[person], [facts.people[anchor] for anchor in anchors], word):
                found.setdefault(word, []).append(anchors)
    return found


def related(rng: np.random.Generator, facts: SceneFacts, person: int, writer: Writer) -> Expression | None:
    """ "the man behind the woman in red", "the girl between the old man and the woman with a hat"."""
    standing = _standing(facts, person)
    if not standing:
        return None
    weights = np.array([RELATIONS[word] for word in standing])
    word = list(standing)[int(rng.choice(len(standing), p=weights / weights.sum()))]
    anchors = standing[word][int(rng.integers(len(standing[word])))]
    terms = own_words(rng, facts, person, 0.3)
    if not facts.singles_out(person, terms, (word, anchors)):
        return None
    anchor_terms = tuple(own_words(rng, facts, anchor, 0.75) for anchor in anchors)
    if not all(facts.singles_out(anchor, own) for anchor, own in zip(anchors, anchor_terms, strict=True)):
        return None
    told = " and ".join(f"the {writer.phrase(own)}" for own in anchor_terms)
    link = word if word == "between" else writer.one(SIDES[word])
    text = f"{writer.article(writer.phrase(terms))} {link} {told}"
    return Expression(text, terms, Relation(word, anchors, anchor_terms))


def deniable(facts: SceneFacts, person: int, said: Sequence[Term]) -> list[Term]:
    """What could be said not to be so of others, because it plainly is so of this person; nothing about what the terms
    `said` are about already."""
    seen, terms = facts.people[person], []
    about = {_ABOUT.get(kind, kind) for kind, _ in said}
    for kind in DENIABLE:
        value = seen.attributes.get("top_colour" if kind == "wears_colour" else kind, "")
        named = {"top": _DENIED_GARMENTS, "bottom": _DENIED_GARMENTS, "pose": POSTURES}.get(kind, (value,))
        if not value or value not in named or _ABOUT.get(kind, kind) in about:
            continue
        if facts.judge(person, (DENIED + kind, value)) is False:
            terms.append((DENIED + kind, value))
    return terms


def denied(rng: np.random.Generator, facts: SceneFacts, person: int, writer: Writer) -> Expression | None:
    """ "the man without a hat": whoever else the other words fit, wears one."""
    terms = own_words(rng, facts, person, 0.35)
    others = [other for other in facts.candidates(terms)[1] if other != person]
    if not others:
        return None
    other = others[int(rng.integers(len(others)))]
    options = [term for term in deniable(facts, other, terms) if facts.judge(person, term)]
    if not options:
        return None
    terms = (*terms, options[int(rng.integers(len(options)))])
    return Expression(writer.say(terms), terms) if facts.singles_out(person, terms) else None


_Make = Callable[[np.random.Generator, SceneFacts, int, Writer], Expression | None]


def _special(
    rng: np.random.Generator, facts: SceneFacts, person: int, writer: Writer, wanted: int
) -> dict[str, Expression]:
    """Up to `wanted` expressions of the kinds that the writer's recipe asks for, by their words without an article."""
    found: dict[str, Expression] = {}
    recipe = writer.recipe
    if not recipe.relations + recipe.denials or len(facts.people) < 2:
        return found
    for draw in rng.random(wanted):
        make: _Make = related if draw < recipe.relations else denied
        if draw >= recipe.relations + recipe.denials:
            continue
        for _ in range(_SPECIAL_TRIES):
            expression = make(rng, facts, person, writer)
            if expression is not None:
                found.setdefault(ARTICLE.sub("", expression.text), expression)
                break
    return found


def _attempt(rng: np.random.Generator, facts: SceneFacts, person: int, writer: Writer) -> Expression | None:
    if len(facts.people) > 1 and rng.random() < 0.12:
        return _relational(rng, facts, person, writer)
    terms = draw_terms(rng, facts, person)
    if len(terms) == 1 and rng.random() < 0.5:
        return None
    terms, telegram = telegraphed(rng, terms)
    if not facts.singles_out(person, terms):
        return None
    return Expression(writer.say(terms, telegram), terms)


def describe(
    rng: np.random.Generator, scene: Scene, recipe: Recipe = RECIPES[LATEST], least: int = 2, most: int = 3
) -> list[list[Expression]]:
    """For each person of the scene up to `least`..`most` different expressions; none where no words single
    it out."""
    facts, writer = SceneFacts.of(scene), Writer(rng, recipe)
    everybody = []
    for person in range(len(scene.people)):
        wanted = int(rng.integers(least, most + 1))
        found = _special(rng, facts, person, writer, wanted)
        for _ in range(TRIES):
            if len(found) >= wanted:
                break
            expression = _attempt(rng, facts, person, writer)
            if expression is not None:
                found.setdefault(ARTICLE.sub("", expression.text), expression)
        everybody.append(list(found.values()))
    return everybody
