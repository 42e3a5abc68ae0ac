"""Expressions for several people and for nobody: whom they mean, checked by the plain truth about each scene."""

import re

import numpy as np
import pytest
from scene_truth import fits, flat_scene, matches

from refhcm.data.scenes.backgrounds import Backgrounds
from refhcm.data.scenes.compose import Scene, compose
from refhcm.data.scenes.facts import SceneFacts
from refhcm.data.scenes.groups import GroupExpression, GroupWriter, in_common, several
from refhcm.data.scenes.nobody import nobody
from refhcm.data.scenes.people2d import DrawnPeople
from refhcm.data.scenes.splits import scene_rng

NUMBERS = {"both": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


@pytest.fixture(scope="module")
def said() -> list[tuple[Scene, list[GroupExpression], list[GroupExpression]]]:
    """Scenes with two expressions of each kind wanted."""
    source, made = DrawnPeople(), []
    for index in range(60):
        scene = compose(scene_rng(13, "train", index), "train", source, Backgrounds())
        rng, facts = np.random.default_rng(index), SceneFacts.of(scene)
        groups = several(rng, facts, 2)
        made.append((scene, groups, nobody(rng, facts, lambda rng=rng: source.look(rng, "train"), 2, ["the man"])))
    return made


def pairs(said, kind):
    return [(scene, expression) for scene, *both in said for expression in both[kind]]


def test_several_are_those_who_fit_and_no_others(said):
    forms = {"alike": 0, "each": 0, "except": 0}
    for scene, expression in pairs(said, 0):
        forms[expression.form] += 1
        assert len(set(expression.people)) == len(expression.people) >= 2
        fitting = [matches(scene, terms) for terms in expression.terms]
        if expression.form == "alike":
            assert fitting == [sorted(expression.people)], expression
        elif expression.form == "each":
            assert fitting == [[person] for person in expression.people], expression
        else:
            (left_out,) = fitting[0]
            assert {*expression.people, left_out} == set(range(len(scene.people))), expression
    assert forms["alike"] > 40 and forms["each"] > 15 and forms["except"]


def test_numbers_are_those_of_the_people_meant(said):
    counted = 0
    for _, expression in pairs(said, 0):
        words = expression.text.split()
        stated = [NUMBERS[word] for word in words[:2] if word in NUMBERS]
        if expression.form == "alike" and stated:
            assert stated == [len(expression.people)], expression
            counted += 1
    assert counted > 15


def test_nobody_is_nobody(said):
    """A group of terms fits nobody, even without the ranks that a reader might forgive."""
    found = pairs(said, 1)
    for scene, expression in found:
        assert expression.people == () and expression.form in ("changed", "foreign")
        sides = {("place", "left"): ("side", "left"), ("place", "right"): ("side", "right")}
        groups = [[sides.get(term, term) for term in terms] for terms in expression.terms]
        plain = [[term for term in terms if term[0] not in ("place", "depth", "row")] for terms in groups]
        assert [] in [matches(scene, terms) for terms in plain], expression
    plural = [one for _, one in found if re.match(r"(both|all|two|the (two|three)|every)", one.text)]
    assert len(found) > 110 and 0.08 < len(plural) / len(found) < 0.35
    changed = sum(expression.form == "changed" for _, expression in found)
    assert 0.5 < changed / len(found) < 0.8


def test_one_changed_term_makes_the_difference(said):
    for scene, expression in pairs(said, 1):
        if expression.form == "foreign":
            continue
        near = False
        for terms in expression.terms:
            plain = [term for term in terms if term[0] not in ("place", "depth", "row", "side")]
            near |= any(sum(not fits(person, term) for term in plain) <= 1 for person in scene.people)
        assert near, expression


def test_nothing_is_said_twice_in_a_scene(said):
    for _, *both in said:
        for expressions in both:
            texts = [re.sub("^(the|an?) ", "", expression.text) for expression in expressions]
            assert len(set(texts)) == len(texts) and "man" not in texts
            assert len({(e.form, e.terms) for e in expressions}) == len(expressions)


def test_a_single_person_is_not_several():
    rng, facts = np.random.default_rng(0), SceneFacts.of(flat_scene((50, {})))
    assert several(rng, facts, 5) == []
    assert len(nobody(rng, facts, lambda: DrawnPeople().look(rng, "val"), 3, ())) == 3


def test_nobody_is_in_doubt():
    """An orange shirt might be called red, so nobody is asked for by red shirts beside one."""
    for third, said_so in (("orange", False), ("green", True)):
        facts = SceneFacts.of(flat_scene((20, {}), (180, {}), (330, {"top_colour": third})))
        drawn = [in_common(np.random.default_rng(seed), facts) for seed in range(300)]
        groups = {(term, tuple(people)) for found in drawn if found for terms, people in [found] for term in terms}
        assert ((("top_colour", "red"), (0, 1)) in groups) == said_so
        assert (("bottom", "jeans"), (0, 1, 2)) in groups


def test_sides_are_clear_of_the_middle():
    facts = SceneFacts.of(flat_scene((20, {}), (100, {}), (330, {})))
    assert facts.candidates([("noun", "man"), ("side", "left")]) == ([0, 1], [0, 1])
    facts = SceneFacts.of(flat_scene((20, {}), (100, {}), (180, {})))  # the last one stands in the middle
    assert facts.candidates([("noun", "man"), ("side", "left")]) == ([0, 1], [0, 1, 2])


def test_what_is_hard_to_see_does_not_rule_anybody_out():
    behind = SceneFacts.of(flat_scene((50, {"view": "back"})))
    front = SceneFacts.of(flat_scene((50, {})))
    for terms in ([("noun", "woman")], [("top", "jacket"), ("top_colour", "red")], [("top", "t-shirt")]):
        assert not behind.means_nobody(terms)
    assert front.means_nobody([("noun", "woman")])
    for facts in (behind, front):  # somebody on the left, whichever rank a reader has in mind
        assert facts.means_nobody([("noun", "man"), ("place", "right")])
        assert not facts.means_nobody([("noun", "man"), ("place", "second from right")])


def test_plural_words():
    writer = GroupWriter(np.random.default_rng(0))
    texts = {writer.alike((("noun", "woman"), ("top", "dress"), ("top_colour", "red")), 2) for _ in range(200)}
    assert {"both women in red dresses", "all women wearing red dresses", "the ladies with red dresses"} <= texts
    texts = {writer.alike((("noun", "person"), ("hat", "hat")), 3) for _ in range(200)}
    assert {"everyone wearing a hat", "the three people with hats", "all of the people in hats"} <= texts
    assert not any("both" in text for text in texts)
    texts = {writer.alike((("noun", "man"), ("bottom", "jeans"), ("pose", "arms crossed")), 2) for _ in range(300)}
    assert "the two men in jeans with their arms crossed" in texts and not any("jeanses" in text for text in texts)
