"""Expressions that mean nobody in a scene, in the manner of those that mean somebody, and checked to be wrong about
everyone (see `facts.SceneFacts.means_nobody`)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from .describe import deniable, own_words
from .facts import SceneFacts, Term
from .groups import GroupExpression, GroupWriter, add_new, in_common
from .recipe import LATEST, RECIPES, Recipe
from .seen import Seen
from .words import SIDES, TRIES, VIEWS, draw_terms, noun_of, sayable, telegraphed

Look = Callable[[], dict[str, str]]
"""Gives the words about a person who might have been there (`cutout.ATTRIBUTE_KEYS`)."""
CHANGED_SHARE = 2 / 3
"""How many are true of somebody there but for one term; the others are about somebody else altogether."""
PLURAL_SHARE, _RELATION_SHARE = 0.25, 0.05
"""How many of either are to be for several people, and for one next to another."""
_GUESTS = 4
_GENDERS = {"man": "man", "boy": "man", "woman": "woman", "girl": "woman"}
_SAID_OF_FEW = {"hat": "hat", "age": "old"}
"""Terms that are said of those who have them only, and can be added where they are wrong."""
_ADDED_SHARE = 0.03
_DRAWS = 8


def nobody(
    rng: np.random.Generator, facts: SceneFacts, look: Look, wanted: int, taken: Collection[str],
    recipe: Recipe = RECIPES[LATEST],
) -> list[GroupExpression]:
    """Up to `wanted` different expressions that fit nobody; never one of the texts `taken`."""
    maker = _Maker(rng, facts, look, recipe)
    found: list[GroupExpression] = []
    for _ in range(wanted):
        changed, plural = rng.random() < CHANGED_SHARE, rng.random() < PLURAL_SHARE
        single = maker.changed if changed else maker.foreign
        if changed and recipe.denials and not plural and rng.random() < recipe.denials:
            single = maker.denied
        group = maker.changed_group if changed else maker.foreign_group
        for make in (group, single) if plural else (single,):
            if add_new(found, (make() for _ in range(TRIES)), taken):
                break
        else:
            if single == maker.denied:  # nobody has what could be denied
                add_new(found, (maker.changed() for _ in range(TRIES)), taken)
    return found


class _Maker:
    """Tries to make expressions that mean nobody in a scene."""

    def __init__(self, rng: np.random.Generator, facts: SceneFacts, look: Look, recipe: Recipe) -> None:
        self.rng, self.facts, self.look, self.writer = rng, facts, look, GroupWriter(rng, recipe)

    def changed(self) -> GroupExpression | None:
        """Words that mean somebody who is there, with one term changed."""
        facts = self.facts
        person = int(self.rng.integers(len(facts.people)))
        if self.rng.random() < _RELATION_SHARE and len(facts.people) > 1:
            return self._next_to(person)
        terms, telegram = telegraphed(self.rng, draw_terms(self.rng, facts, person))
        if not self._points_out(facts, person, terms):
            return None
        return self._single("changed", self._change(terms, adding=not telegram), telegram)

    def denied(self) -> GroupExpression | None:
        """Words that would mean somebody who is there, but for denying what that person plainly has."""
        person = int(self.rng.integers(len(self.facts.people)))
        terms = own_words(self.rng, self.facts, person, 0.35)
        options = deniable(self.facts, person, terms)
        if not options:
            return None
        return self._single("changed", (*terms, options[int(self.rng.integers(len(options)))]), telegram=False)

    def changed_group(self) -> GroupExpression | None:
        """As `changed`, of words that mean several people."""
        group = in_common(self.rng, self.facts)
        return None if group is None else self._plural("changed", self._change(group[0]), len(group[1]))

    def foreign(self) -> GroupExpression | None:
        """Words that would mean somebody else, who is not there."""
        there = len(self.facts.people)
        facts = SceneFacts([*self.facts.people, self._guest()])
        terms, telegram = telegraphed(self.rng, draw_terms(self.rng, facts, there))
        return self._single("foreign", terms, telegram) if self._points_out(facts, there, terms) else None

    def foreign_group(self) -> GroupExpression | None:
        """As `foreign`, of several others."""
        there = len(self.facts.people)
        group = in_common(self.rng, SceneFacts([*self.facts.people, *(self._guest() for _ in range(_GUESTS))]))
        if group is None or min(group[1]) < there:
            return None
        return self._plural("foreign", group[0], len(group[1]))

    def _points_out(self, facts: SceneFacts, person: int, terms: tuple[Term, ...]) -> bool:
        """Whether these are words that somebody would use for this person."""
        return facts.singles_out(person, terms) and (len(terms) > 1 or self.rng.random() < 0.5)

    def _guest(self) -> Seen:
        """Somebody else at some place of the picture, as large as one of those who are there."""
        like = self.facts.people[int(self.rng.integers(len(self.facts.people)))]
        x, half = float(self.rng.uniform(0.1, 0.9)), (like.right - like.left) / 2
        return replace(like, attributes=self.look(), hidden=frozenset(), x=x, left=x - half, right=x + half)

    def _single(self, form: str, terms: tuple[Term, ...] | None, telegram: bool) -> GroupExpression | None:
        if terms is None or not self.facts.means_nobody(terms):
            return None
        return GroupExpression(self.writer.say(terms, telegram), (), form, (terms,))

    def _plural(self, form: str, terms: tuple[Term, ...] | None, count: int) -> GroupExpression | None:
        if terms is None or not self.facts.means_nobody(terms):
            return None
        return GroupExpression(self.writer.alike(terms, count), (), form, (terms,))

    def _next_to(self, person: int) -> GroupExpression | None:
        """ "the man next to the woman in green", of whom one is not there."""
        others = [other for other in range(len(self.facts.people)) if other != person]
        anchor = self.facts.people[others[int(self.rng.integers(len(others)))]]
        clothes = sayable(anchor).get("clothes")
        if not clothes:
            return None
        beside = (("noun", noun_of(self.rng, anchor)), *clothes[int(self.rng.integers(len(clothes)))])
        terms: tuple[Term, ...] = (("noun", noun_of(self.rng, self.facts.people[person])),)
        groups = [terms, beside]
        wrong = int(self.rng.random() < 0.7)
        changed = self._change(groups[wrong])
        if changed is None or not self.facts.means_nobody(changed):
            return None
        groups[wrong] = changed
        first, second = (self.writer.phrase(group) for group in groups)
        word = self.writer.one(SIDES[("next to", "left of", "right of")[int(self.rng.choice(3, p=(0.6, 0.2, 0.2)))]])
        return GroupExpression(f"{self.writer.article(first)} {word} the {second}", (), "changed", tuple(groups))

    # -- one term changed ------------------------------------------------------------------------------------
    def _change(self, terms: tuple[Term, ...], adding: bool = True) -> tuple[Term, ...] | None:
        """The same terms but for one, or (`adding`) with one more; None where no other value was found."""
        said = dict(terms)
        if adding and self.rng.random() < _ADDED_SHARE:
            few = [kind for kind in _SAID_OF_FEW if kind not in said]
            if not few or (few[0] == "age" and said.get("noun") in ("boy", "girl", "child")):
                return None
            return (*terms, (few[0], _SAID_OF_FEW[few[0]]))
        at = int(self.rng.integers(len(terms)))
        value = self._other(*terms[at], said.get("noun", "person"))
        return None if value is None else (*terms[:at], (terms[at][0], value), *terms[at + 1 :])

    def _other(self, kind: str, value: str, noun: str) -> str | None:
        """Another value of a term, as often as people have it; clothes and hair of those whom the noun may mean."""
        if kind == "noun":
            return None if value == "person" else noun_of(self.rng, self._guest())
        if kind in ("place", "side"):
            return {"left": "right", "right": "left"}.get(value)
        for _ in range(_DRAWS):
            look = self.look()
            other = look.get("top_colour" if kind == "wears_colour" else kind, "")
            suits = kind not in ("top", "bottom", "hair") or look["gender"] == _GENDERS.get(noun, look["gender"])
            if suits and other != value and _sayable(kind, other):
                return other
        return None


def _sayable(kind: str, value: str) -> bool:
    """Whether people say this of somebody."""
    if kind == "top_pattern":
        return value not in ("", "plain")
    if kind == "view":
        return value in VIEWS
    return bool(value) and kind not in ("hat", "age", "depth", "row")
