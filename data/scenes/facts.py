"""What can be said about the people of a scene: terms, and whether each is true, false or a matter of
opinion.

A term is a pair (kind, value), such as ("top_colour", "red") or ("noun", "man"). `judge` answers True,
False, or None when a reader could see it either way (a half-hidden coat, red against orange, a step against
a stand). An expression singles out a person when all its terms are True for that person and at least one is
False for each other. It means several people when all its terms are True for each of them and at least one is
False for anybody else; it means nobody when at least one is False for everybody.

A kind that begins with DENIED says that something is not so: ("not hat", "hat"). It is True only where a viewer can
be certain of that: what is hidden is not absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .compose import Scene
from .relations import stands
from .seen import POSTURES, Seen, Verdict, limbs_of, same, see

Term = tuple[str, str]
DENIED = "not "
MARGIN = 0.09
"""Share of the width that separates two people who are told apart by left and right."""
SIDE, OTHER_SIDE = 0.42, 0.6
"""People are on the left whose middles lie left of SIDE, as shares of the width; right of OTHER_SIDE nobody is."""
ROW_GAP, ROW_DEPTH = 1.35, 1.2
"""Two rows of people: by so much the nearer are larger at least, and those of one row differ by less."""
FACE_HEIGHT = 0.35
"""Of the picture's height a person must fill so that the face alone tells men from women."""
HALF, LONE_HALF = 0.47, 0.4
"""Who is called left stands left of this share of the width; LONE_HALF if nobody else fits the other
words."""

_OPEN = ("jacket", "suit jacket", "overalls")
"""What shows a piece of another garment, whose colour nobody has noted."""


def _noun(seen: Seen, noun: str) -> Verdict:
    gender, age = seen.attributes["gender"], seen.attributes["age"]
    if noun == "person":
        return True
    unsure: Verdict = None if "gender" in seen.hidden else False
    if noun == "child":
        return (
            True if age == "child" and "gender" not in seen.hidden else (None if age == "child" else unsure)
        )
    wanted_gender, wanted_child = {
        "man": ("man", False),
        "woman": ("woman", False),
        "boy": ("man", True),
        "girl": ("woman", True),
    }[noun]
    if "gender" in seen.hidden:
        return None
    if gender != wanted_gender:
        return None if age == "child" and wanted_child else False  # a child's gender is a guess
    if (age == "child") == wanted_child:
        return True
    return None  # a grown-up boy, a small man


def _attribute(seen: Seen, kind: str, value: str) -> Verdict:
    verdict = same(kind, value, seen.attributes.get(kind, ""))
    if verdict is False and kind == "top" and value in ("dress", "skirt"):
        verdict = same(kind, value, seen.attributes["bottom"])
    return None if verdict and kind in seen.hidden else verdict


def _wears_colour(seen: Seen, colour: str) -> Verdict:
    """Dressed in a colour: the trunk's garment has it; trousers or a pattern's second colour leave doubt."""
    verdict = _attribute(seen, "top_colour", colour)
    trousers = same("bottom_colour", colour, seen.attributes["bottom_colour"])
    if verdict is False and (trousers is not False or seen.attributes.get("top_pattern", "plain") != "plain"):
        return None
    return verdict


def _place(person: int, others: Sequence[int], people: Sequence[Seen], value: str) -> bool:
    """Whether a person is at this place of the row.

    Left and right are meant among `others` (those who fit the rest of the words), in that half of the
    picture. A rank ("far left", "second from right", "middle") must hold among everybody and among
    `others`, because readers count either way.
    """
    me = people[person]
    if value in ("left", "right"):
        inner = (HALF if others else LONE_HALF) if value == "left" else 1 - (HALF if others else LONE_HALF)
        return _rank(me, [people[o] for o in others], value) and (me.x < inner) == (value == "left")
    everybody = [seen for number, seen in enumerate(people) if number != person]
    return _rank(me, everybody, value) and (not others or _rank(me, [people[o] for o in others], value))


def _rank(me: Seen, others: Sequence[Seen], value: str) -> bool:
    before = sum(other.x < me.x - MARGIN for other in others)
    after = sum(other.x > me.x + MARGIN for other in others)
    if value in ("left", "far left"):
        return after == len(others)
    if value in ("right", "far right"):
        return before == len(others)
    if before + after < len(others):  # somebody stands in the same column
        return False
    if value == "middle":
        return before == after > 0 and 0.3 < me.x < 0.7
    place, side = value.split(" from ")
    rank, rest = (before, after) if side == "left" else (after, before)
    return rank == {"second": 1, "third": 2}[place] and rest >= 1


def _depth(person: int, others: Sequence[int], people: Sequence[Seen], value: str) -> bool:
    """Nearest or farthest of `others`, clearly: by distance and by size in the picture."""
    me, ratio = people[person], 1.22
    if value == "front":
        return bool(others) and all(
            me.scale > ratio * people[o].scale and me.height > people[o].height for o in others
        )
    return bool(others) and all(
        ratio * me.scale < people[o].scale and me.height < people[o].height for o in others
    )


def _side(seen: Seen, value: str) -> Verdict:
    """On the left or right of the picture, whoever else is there."""
    x = seen.x if value == "left" else 1 - seen.x
    return True if x < SIDE else (False if x > OTHER_SIDE else None)


def _row(seen: Seen, people: Sequence[Seen], value: str) -> Verdict:
    """In the front or back row, where the people clearly stand in two."""
    scales = sorted(other.scale for other in people)
    steps = [after / before for before, after in pairwise(scales)]
    if not steps or max(steps) < ROW_GAP:
        return None
    split = steps.index(max(steps))
    back, front = scales[: split + 1], scales[split + 1 :]
    lowest = min(other.height for other in people if other.scale in front)
    highest = max(other.height for other in people if other.scale in back)
    if back[-1] > ROW_DEPTH * back[0] or front[-1] > ROW_DEPTH * front[0] or highest > lowest:
        return None
    return (seen.scale in front) == (value == "front")


def _lacks(seen: Seen, kind: str, value: str) -> bool:
    """Whether a viewer can be certain that this person has not what it has not: nothing that is hidden is absent."""
    a, hidden = seen.attributes, seen.hidden
    if kind == "hat":
        return not hidden & {"hat", "crown"}
    if kind == "hair_colour":
        return not hidden & {"hair", "hair_colour"}
    if kind == "pose":
        return value in POSTURES and not hidden & {"pose", "legs", *limbs_of(value)}
    if kind == "bottom":
        if not a["bottom"] and (a["top"] != "dress" or value == "skirt"):
            return False  # overalls look like jeans, and dresses like skirts
        return not hidden & ({"bottom"} if a["bottom"] else {"top", "legs"})
    if kind == "wears_colour" and a["top"] in _OPEN:
        return False
    return kind in ("top", "wears_colour") and "top" not in hidden and _evident(seen, (kind, value))


def _evident(seen: Seen, term: Term) -> bool:
    """Whether a viewer can be certain that a term is wrong, if it is."""
    kind, value = term
    a, from_behind = seen.attributes, seen.attributes["view"] == "back"
    if ("top_colour" if kind == "wears_colour" else kind) in seen.hidden:
        return False
    if kind == "noun" and value in ("man", "woman") and a["age"] != "child":
        return a["top"] in ("dress", "top") or a["bottom"] == "skirt" or (not from_behind and seen.height > FACE_HEIGHT)
    if kind == "top" and from_behind:
        return bool({"dress", "overalls"} & {a["top"], value})
    return True


class SceneFacts:
    """Terms judged over all people of one scene."""

    def __init__(self, people: Sequence[Seen]) -> None:
        self.people = tuple(people)

    @classmethod
    def of(cls, scene: Scene) -> SceneFacts:
        """What can be seen in a scene."""
        return cls([see(person) for person in scene.people])

    def judge(self, person: int, term: Term, among: Sequence[int] = ()) -> Verdict:
        """Whether `term` holds for a person; places rank it among the people `among` (itself left out)."""
        kind, value = term
        if kind.startswith(DENIED):
            return self._deny(person, kind.removeprefix(DENIED), value)
        seen = self.people[person]
        others = [other for other in among if other != person]
        if kind == "noun":
            return _noun(seen, value)
        if kind == "wears_colour":
            return _wears_colour(seen, value)
        if kind == "place":
            return _place(person, others, self.people, value)
        if kind == "depth":
            return _depth(person, others, self.people, value)
        if kind == "side":
            return _side(seen, value)
        if kind == "row":
            return _row(seen, self.people, value)
        return _attribute(seen, kind, value)

    def _deny(self, person: int, kind: str, value: str) -> Verdict:
        verdict = self.judge(person, (kind, value))
        if verdict is False:
            return True if _lacks(self.people[person], kind, value) else None
        return False if verdict else None

    def candidates(self, terms: Sequence[Term]) -> tuple[list[int], list[int]]:
        """People for whom every term is True, and those for whom none is False; ranks are taken among the
        latter."""
        plain = [term for term in terms if term[0] not in ("place", "depth")]
        ranks = [term for term in terms if term[0] in ("place", "depth")]
        verdicts = [[self.judge(person, term) for term in plain] for person in range(len(self.people))]
        possible = [person for person, row in enumerate(verdicts) if False not in row]
        sure = [person for person in possible if None not in verdicts[person]]
        if not ranks:
            return sure, possible
        ranked = [person for person in possible if all(self.judge(person, term, possible) for term in ranks)]
        return [person for person in ranked if person in sure], ranked

    def singles_out(
        self, person: int, terms: Sequence[Term], relation: tuple[str, Sequence[int]] | None = None
    ) -> bool:
        """Whether the words fit this person and could not mean anybody else; `relation` is ("next to",
        anchor people), of whom "between" has two."""
        sure, possible = self.candidates(terms)
        if relation is not None:
            word, anchors = relation
            near = [self.people[anchor] for anchor in anchors]
            judged = {p: stands(self.people[p], near, word) for p in possible if p not in anchors}
            possible = [p for p, verdict in judged.items() if verdict is not False]
            sure = [p for p in sure if judged.get(p)]
        return sure == [person] and possible == [person]

    def means_nobody(self, terms: Sequence[Term]) -> bool:
        """Whether the words are plainly wrong about everybody, however a reader takes them: left and right as sides of
        the picture, other ranks as if they held for anybody, and what is hard to see as if it were true.
        """
        plain = [term for term in terms if term[0] not in ("place", "depth")]
        plain += [("side", value) for kind, value in terms if kind == "place" and value in ("left", "right")]
        return all(
            any(_evident(seen, term) and self.judge(person, term) is False for term in plain)
            for person, seen in enumerate(self.people)
        )
