"""Plans: what is wanted is asked with as few instructions as answer it, and never what the model does not know."""

from itertools import combinations

import pytest

from refhcm.errors import RefHCMError
from refhcm.inference.asking import TASKS
from refhcm.inference.plan import able, make_plan
from refhcm.models.abilities import Abilities
from refhcm.tasks import known, names

ALL = Abilities(tuple(names()))
GIVES = {"keypoints": "keypoints", "parsing": "codes", "mask": "mask"}


def plan(tasks, abilities=ALL, parts=True, masks=True):
    return make_plan(tasks, abilities, parts, masks)


@pytest.mark.parametrize(
    ("tasks", "place", "mask"),
    [
        (("box",), "rec", False),
        (("caption", "region_map"), "rec", False),
        (("keypoints",), "rkpt", False),
        (("parsing",), "rpar_full_mask", False),
        (("mask",), "res", False),
        (("box", "mask", "region_map"), "res", False),
        (("keypoints", "parsing"), "s1", False),
        (("keypoints", "parsing", "mask"), "s1_mask", False),
        (("keypoints", "mask"), "rkpt", True),
        (("parsing", "mask"), "rpar_full_mask", True),
    ],
)
def test_one_instruction_gives_as_much_as_it_can(tasks, place, mask):
    assert (plan(tasks).place, plan(tasks).mask) == (place, mask)


def test_every_wish_is_answered_and_nothing_else_is_asked_for():
    without = Abilities(tuple(name for name in names() if name not in ("s1_mask", "roi")))
    for abilities in (ALL, without, Abilities()):
        for masks in (True, False):
            can = able(abilities, True, masks)
            for count in range(1, len(can) + 1):
                for tasks in combinations(can, count):
                    found = plan(tasks, abilities, masks=masks)
                    given = set(known()[found.place].needs) | ({"mask"} if found.mask else set())
                    own = masks and "res" in abilities.tasks
                    wanted = {GIVES[task] for task in tasks if task in GIVES and (task != "mask" or own)}
                    wanted |= {"codes"} if "mask" in tasks and not own else set()
                    assert given - {"box"} == wanted
                    assert (found.caption, found.region_map) == ("caption" in tasks, "region_map" in tasks)


def test_codes_one_by_one_have_no_instruction_that_asks_for_everything():
    assert plan(("keypoints", "parsing", "mask"), Abilities(tuple(names()), block_parsing=False)).place == "s1"
    assert plan(("parsing",), Abilities(block_parsing=False)).place == "rpar"


def test_what_a_model_cannot_do_is_left_out_or_refused():
    assert able(ALL, True, True) == TASKS and plan(None).tasks == TASKS[:-1]
    assert able(Abilities(), False, True) == ("box", "keypoints", "caption")
    assert plan(None, Abilities(), masks=False).tasks == ("box", "keypoints", "parsing", "mask", "caption")
    for tasks, sentence in ((("parsing",), "no label-map"), (("mask",), "neither"), (("region_map",), "not trained")):
        with pytest.raises(RefHCMError, match=f"{sentence}.*: ask only for box, keypoints, caption.$"):
            plan(tasks, Abilities(), parts=False)


def test_what_models_of_old_were_trained_for_is_what_nobody_needs_to_say():
    usual = {name for name, task in known().items() if task.meant == "one" and "mask" not in task.needs}
    assert set(Abilities().tasks) == usual - {"rpar"}
