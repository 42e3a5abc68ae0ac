"""Expressions that mean several people of a scene, each checked to fit exactly those (see `facts`): "everyone wearing a
hat", "both kids", "the man in red and the woman on the left"."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np

from .facts import SceneFacts, Term
from .words import ARTICLE, PAIRED, POSES, TRIES, VIEWS, Writer, draw_terms, noun_of, sayable

_NOUNS = {
    "man": ("men", "men", "men", "guys"),
    "woman": ("women", "women", "women", "ladies"),
    "boy": ("boys", "boys", "little boys"),
    "girl": ("girls", "girls", "little girls"),
    "child": ("kids", "kids", "children"),
    "person": ("people",),
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_POSES = {
    "waving": ("waving",),
    "kneeling": ("kneeling",),
    "arms raised": ("with their arms up", "with both arms raised"),
    "arms crossed": ("with their arms crossed", "with crossed arms"),
    "hands on hips": ("with hands on hips",),
}
_BACK_VIEW = ("seen from behind", "facing away")
_HAT = {
    ("hat", True): ("with hats", "wearing hats", "in hats"),
    ("hat", False): ("with a hat", "wearing a hat", "wearing a hat", "in a hat"),
    ("", True): ("without hats",),
    ("", False): ("without a hat", "not wearing a hat"),
}
_SIDES = ("on the {}", "on the {}", "on the {} side", "at {}")
_ROWS = {"front": ("in front", "in front", "in the foreground"), "back": ("in the back", "in the background")}
_ALL = ("everyone", "everybody", "everyone in the photo", "all people", "all the people", "everybody in the picture")
_ANYBODY: tuple[Term, ...] = (("noun", "person"),)
EACH_SHARE, EXCEPT_SHARE, ALL_SHARE = 0.22, 0.08, 0.06
"""How many are meant to name each person, all but one, or simply all; the others say what people have in common."""
_TOPIC_WEIGHT = {
    "clothes": 4.0, "hair": 1.0, "hat": 1.8, "bare": 0.3, "age": 0.8, "pose": 1.5, "view": 0.6, "side": 2.5, "row": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class GroupExpression:
    """Words for any number of people, and how they mean those.

    `form` says how `terms` are to be taken. "alike": the people are all who fit `terms[0]`; "each": `terms[i]` single
    out `people[i]`; "except": the people are all but the one that `terms[0]` single out. Where nobody is meant it says
    where the terms come from: "changed", true of somebody there but for one of them; "foreign", about somebody who is
    not there; a second group of terms is then about whom the first are said to stand next to.
    """

    text: str
    people: tuple[int, ...]
    form: str
    terms: tuple[tuple[Term, ...], ...]


class GroupWriter(Writer):
    """Turns terms into words for several people."""

    def alike(self, terms: tuple[Term, ...], count: int) -> str:
        """Words for `count` people who have these terms in common."""
        said = dict(terms)
        draw = self.rng.random()
        if said["noun"] == "person" and len(said) > 1 and "age" not in said and draw < 0.45:
            return " ".join([self.one(("everyone", "everyone", "everybody")), *self._after(said, plural=False)])
        words = self._plural(said)
        if draw < 0.68:
            return f"{self._number(count)} {words}"
        if draw < 0.86:
            return f"{self.one(('all', 'all the', 'all of the'))} {words}"
        return f"{self.one(('the ', ''))}{words}"

    def _number(self, count: int) -> str:
        name = _NUMBERS[count]
        if count == 2:
            return self.one(("both", "both", "both of the", "the two", "the two", "two"))
        return self.one((f"the {name}", f"the {name}", f"all {name}", name))

    def _plural(self, said: dict[str, str]) -> str:
        """A noun phrase without what stands before it."""
        before = [self.one(("old", "older", "elderly"))] if "age" in said else []
        after = self._after(said, plural=True)
        pose = said.get("pose", "")
        if pose in ("standing", "sitting", "walking", "running", "kneeling") and self.rng.random() < 0.25:
            before, after = [*before, pose], self._after({**said, "pose": ""}, plural=True)
        return " ".join([*before, self.one(_NOUNS[said["noun"]]), *after])

    def _after(self, said: dict[str, str], plural: bool) -> list[str]:
        """What is said behind the noun, in random order; `plural` where it is about them, and not about everyone."""
        after = [self._worn(said, plural), self._hair(said)]
        if "hat" in said:
            after.append(self.one(_HAT[said["hat"], plural]))
        if said.get("pose"):
            poses = _POSES if plural else {}
            after.append(self.one(poses.get(said["pose"], POSES.get(said["pose"], (said["pose"],)))))
        if "view" in said:
            after.append(self.one(_BACK_VIEW if said["view"] == "back" else VIEWS[said["view"]]))
        if "row" in said:
            after.append(self.one(_ROWS[said["row"]]))
        after = [words for words in after if words]
        after = [after[i] for i in self.rng.permutation(len(after))]
        return [*after, self.one(_SIDES).format(said["side"])] if "side" in said else after

    def _worn(self, said: dict[str, str], plural: bool) -> str:
        if "wears_colour" in said:
            return self._clothes(said)
        pieces = []
        for kind in ("top", "bottom"):
            if kind in said:
                pattern = said.get("top_pattern", "") if kind == "top" else ""
                pieces.append(self._piece(said.get(f"{kind}_colour", ""), said[kind], plural, pattern))
        return f"{self.one(('in', 'in', 'wearing', 'with'))} {' and '.join(pieces)}" if pieces else ""

    def _piece(self, colour: str, garment: str, plural: bool, pattern: str) -> str:
        words = self.garment(colour, garment, False, pattern)
        if words.split()[-1] in PAIRED:
            return words
        if plural:
            return f"{words}es" if words.endswith("s") else f"{words}s"
        return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


# -- terms that people have in common ------------------------------------------------------------------------
def in_common(rng: np.random.Generator, facts: SceneFacts) -> tuple[tuple[Term, ...], list[int]] | None:
    """Terms, and the people who fit them: at least two, while nobody else might. None where the draw gives no such."""
    terms = _draw_shared(rng, facts, int(rng.integers(len(facts.people))))
    sure, possible = facts.candidates(terms)
    everyone = len(sure) == len(facts.people)
    divides = any(kind in ("side", "row") for kind, _ in terms)
    if sure != possible or len(sure) < 2 or (everyone and (divides or terms == _ANYBODY)):
        return None
    return terms, sure


def _draw_shared(rng: np.random.Generator, facts: SceneFacts, person: int) -> tuple[Term, ...]:
    """A noun and up to two topics that are true of a person, such as several people have in common."""
    topics = _shared(facts, person)
    general = rng.random() < 0.45
    noun = "person" if general else noun_of(rng, facts.people[person])
    names = sorted(topics)
    count = min(int(rng.choice(3, p=(0, 0.8, 0.2) if general else (0.3, 0.6, 0.1))), len(names))
    weights = np.array([_TOPIC_WEIGHT[name] for name in names])
    chosen = rng.choice(len(names), count, replace=False, p=weights / weights.sum()).tolist() if count else []
    terms: list[Term] = [("noun", noun)]
    for number in chosen:
        options = topics[names[number]]
        terms.extend(options[int(rng.integers(len(options)))])
    return tuple(terms)


def _shared(facts: SceneFacts, person: int) -> dict[str, list[tuple[Term, ...]]]:
    """Groups of terms, by topic, that are true of a person and that others may have in common with it."""
    seen = facts.people[person]
    topics = sayable(seen)
    for kind in ("top", "bottom"):
        if seen.attributes[kind] and kind not in seen.hidden:
            topics["clothes"].append(((kind, seen.attributes[kind]),))
    others_wear_hats = any(other.attributes["hat"] for other in facts.people)
    if others_wear_hats and not seen.attributes["hat"] and "hat" not in seen.hidden:
        topics["bare"] = [(("hat", ""),)]
    for kind, values in (("side", ("left", "right")), ("row", ("front", "back"))):
        found: list[tuple[Term, ...]] = [((kind, value),) for value in values if facts.judge(person, (kind, value))]
        if found:
            topics[kind] = found
    return topics


# -- expressions ---------------------------------------------------------------------------------------------
def several(rng: np.random.Generator, facts: SceneFacts, wanted: int) -> list[GroupExpression]:
    """Up to `wanted` different expressions that mean at least two people; none where a single one is there."""
    if len(facts.people) < 2:
        return []
    writer = GroupWriter(rng)
    found: list[GroupExpression] = []
    for _ in range(wanted):
        # Where people have little in common they are named one by one.
        for make in (_form(rng, facts), _each):
            if add_new(found, (make(rng, facts, writer) for _ in range(TRIES))):
                break
    return found


def add_new(
    found: list[GroupExpression], made: Iterable[GroupExpression | None], taken: Collection[str] = ()
) -> bool:
    """Add the first that was `made` and says neither what one of those before says nor a text of those `taken`."""
    said, texts = {(one.form, one.terms) for one in found}, {plain(text) for text in (*taken, *(o.text for o in found))}
    for one in made:
        if one is not None and (one.form, one.terms) not in said and plain(one.text) not in texts:
            found.append(one)
            return True
    return False


def plain(text: str) -> str:
    """Words without their first article."""
    return ARTICLE.sub("", text)


_Make = Callable[[np.random.Generator, SceneFacts, GroupWriter], GroupExpression | None]


def _form(rng: np.random.Generator, facts: SceneFacts) -> _Make:
    """The form of the next expression; "except" needs three people."""
    draw = rng.random()
    if draw < EACH_SHARE:
        return _each
    if draw < EACH_SHARE + ALL_SHARE:
        return _all
    return _except if draw > 1 - EXCEPT_SHARE and len(facts.people) > 2 else _alike


def _alike(rng: np.random.Generator, facts: SceneFacts, writer: GroupWriter) -> GroupExpression | None:
    """ "the two women in red"."""
    found = in_common(rng, facts)
    if found is None:
        return None
    terms, people = found
    return GroupExpression(writer.alike(terms, len(people)), tuple(people), "alike", (terms,))


def _each(rng: np.random.Generator, facts: SceneFacts, writer: GroupWriter) -> GroupExpression | None:
    """ "the man in red and the woman on the left"."""
    people = tuple(int(person) for person in rng.choice(len(facts.people), 2, replace=False))
    terms = tuple(draw_terms(rng, facts, person) for person in people)
    for person, own in zip(people, terms, strict=True):
        # Two garments would be taken for a third person's.
        if not facts.singles_out(person, own) or {"top", "bottom"} <= {kind for kind, _ in own}:
            return None
    article = "the " if len(terms[0]) == 1 or rng.random() < 0.7 else ""
    text = " and ".join(f"{article}{writer.phrase(own)}" for own in terms)
    return GroupExpression(text, people, "each", terms)


def _except(rng: np.random.Generator, facts: SceneFacts, writer: GroupWriter) -> GroupExpression | None:
    """ "everyone but the man in red"."""
    person = int(rng.integers(len(facts.people)))
    terms = draw_terms(rng, facts, person)
    if not facts.singles_out(person, terms):
        return None
    head, word = writer.one(("everyone", "everybody", "all people")), writer.one(("except", "but", "but"))
    others = tuple(other for other in range(len(facts.people)) if other != person)
    return GroupExpression(f"{head} {word} the {writer.phrase(terms)}", others, "except", (terms,))


def _all(rng: np.random.Generator, facts: SceneFacts, writer: GroupWriter) -> GroupExpression:
    """ "everyone"."""
    count = len(facts.people)
    text = writer.one((*_ALL, writer.alike(_ANYBODY, count)))
    return GroupExpression(text, tuple(range(count)), "alike", (_ANYBODY,))
