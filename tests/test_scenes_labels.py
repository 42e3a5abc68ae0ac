"""Labels of really composed scenes, of the rendered people that come with the code: limbs, sides, cameras."""

import numpy as np
import pytest

from refhcm.data.annotation import KEYPOINT_NAMES, PART_NAMES
from refhcm.data.scenes.backgrounds import Backgrounds
from refhcm.data.scenes.compose import Scene, ScenePerson, compose
from refhcm.data.scenes.cutout import ANY_ELEVATION, Cutout
from refhcm.data.scenes.held_out import PEOPLE
from refhcm.data.scenes.layout import FROM_ABOVE, arrange, cropped, elevations_beside
from refhcm.data.scenes.recipe import LATEST, RECIPES
from refhcm.data.scenes.sources import BankPeople
from refhcm.data.scenes.splits import scene_rng

LATELY = RECIPES[LATEST]
SIDES = ("left", "right")
LIMBS = {"wrist": ("arm",), "knee": ("leg",), "ankle": ("leg", "shoe")}


@pytest.fixture(scope="module")
def source() -> BankPeople:
    return BankPeople([PEOPLE])


@pytest.fixture(scope="module")
def scenes(source) -> list[Scene]:
    return [compose(scene_rng(21, "test", i), "test", source, Backgrounds()) for i in range(60)]


def everybody(scenes: list[Scene]) -> list[ScenePerson]:
    return [person for scene in scenes for person in scene.people]


def point(person: ScenePerson, name: str) -> np.ndarray:
    return person.keypoints[KEYPOINT_NAMES.index(name)]


def classes_around(person: ScenePerson, x: float, y: float, reach: int) -> set[int]:
    rows, columns = (slice(max(int(c) - reach, 0), int(c) + reach + 1) for c in (y, x))
    return set(np.unique(person.parts[rows, columns]).tolist()) - {0}


def test_seen_joints_lie_on_their_own_limb_and_side(scenes):
    """Where bare skin or shoes are seen at a seen joint, they are those of its own side."""
    checked = 0
    for person in everybody(scenes):
        reach = max(2, round(0.03 * person.scale))
        for side, other in (SIDES, SIDES[::-1]):
            for joint, parts in LIMBS.items():
                x, y, v = point(person, f"{side}_{joint}")
                if v != 2:
                    continue
                around = classes_around(person, x, y, reach)
                own, foreign = ({PART_NAMES.index(f"{s}-{part}") for part in parts} for s in (side, other))
                assert around & own or not around & foreign, (joint, side, around)
                checked += bool(around & own)
    assert checked > 150


def test_head_points_lie_on_the_head_and_trunk_points_do_not_lie_on_feet(scenes):
    head = {PART_NAMES.index(name) for name in ("hat", "hair", "face", "torso-skin")}
    feet = {PART_NAMES.index(name) for name in ("left-shoe", "right-shoe", "socks")}
    for person in everybody(scenes):
        for number, (x, y, v) in enumerate(person.keypoints):
            around = classes_around(person, x, y, 4) if v == 2 else None
            if around and number < 5:
                assert around & head, KEYPOINT_NAMES[number]
            elif around and KEYPOINT_NAMES[number].endswith(("shoulder", "hip")):
                assert around - feet


def to_limb(pixels: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of pixels [N, 2] (x, y) to the segment from a to b."""
    way = b - a
    along = np.clip((pixels - a) @ way / max(way @ way, 1e-6), 0, 1)
    return float(np.linalg.norm(pixels - a - along[:, None] * way, axis=1).mean())


@pytest.mark.parametrize(("part", "upper", "lower"), [("arm", "elbow", "wrist"), ("leg", "knee", "ankle")])
def test_the_pixels_of_a_limb_lie_by_the_joints_of_its_own_side(scenes, part, upper, lower):
    """Part map and keypoints name the sides from different sources (skinning, regressor), also in the mirror."""
    checked = 0
    for person in everybody(scenes):
        ends = {side: [point(person, f"{side}_{joint}") for joint in (upper, lower)] for side in SIDES}
        if any(end[2] != 2 for pair in ends.values() for end in pair):  # a hand may lie before the other elbow
            continue
        gap = to_limb(ends["left"][1][None, :2], *(end[:2] for end in ends["right"]))
        for side, other in (SIDES, SIDES[::-1]):
            rows, columns = np.nonzero(person.parts == PART_NAMES.index(f"{side}-{part}"))
            if len(rows) < 25 or gap < 0.25 * person.scale:  # nothing to see, or limbs that cross
                continue
            pixels = np.column_stack([columns, rows]) + 0.5
            mine, foreign = (to_limb(pixels, *(end[:2] for end in ends[s])) for s in (side, other))
            assert mine < foreign, (side, part)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("joint", ["shoulder", "hip"])
def test_left_is_on_the_right_of_the_picture_from_the_front_alone(scenes, joint):
    checked = 0
    for person in everybody(scenes):
        left, right = (point(person, f"{side}_{joint}") for side in SIDES)
        view = person.attributes["view"]
        if view in ("front", "back") and left[2] and right[2]:
            assert (left[0] > right[0]) == (view == "front")
            checked += 1
    assert checked > 60


def test_joints_and_parts_lie_in_the_boxes(scenes):
    for scene in scenes:
        height, width = scene.image.shape[:2]
        for person in scene.people:
            x1, y1, x2, y2 = person.box
            assert person.mask[y1:y2, x1:x2].sum() == person.mask.sum() > 0
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            seen = person.keypoints[person.keypoints[:, 2] == 2]
            assert (seen[:, 0] > x1 - 4).all() and (seen[:, 0] < x2 + 4).all()
            assert (seen[:, 1] > y1 - 4).all() and (seen[:, 1] < y2 + 4).all()


# -- cameras -------------------------------------------------------------------------------------------------
def test_people_of_one_scene_were_photographed_from_heights_that_agree(source, monkeypatch):
    drawn: list[float] = []
    draw = source.draw

    def note(rng, split, elevations=ANY_ELEVATION) -> Cutout:
        cutout = draw(rng, split, elevations)
        assert elevations[0] <= cutout.elevation <= elevations[1]
        drawn.append(cutout.elevation)
        return cutout

    monkeypatch.setattr(source, "draw", note)
    above = 0
    for index in range(30):
        drawn.clear()
        compose(scene_rng(22, "test", index), "test", source, Backgrounds())
        low, high = elevations_beside(drawn[0])
        assert all(low <= elevation <= high for elevation in drawn)
        assert len({elevation >= FROM_ABOVE for elevation in drawn}) == 1
        above += drawn[0] >= FROM_ABOVE
    assert above > 3


def test_whoever_is_seen_more_steeply_is_nearer_and_lower(source):
    """One camera above one ground: the sine of the elevation and the size shrink alike with the distance."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = source.draw(rng, "test", (FROM_ABOVE, 90.0))
        others = [source.draw(rng, "test", elevations_beside(first.elevation)) for _ in range(3)]
        cutouts = [cropped(one) for one in (first, *others)]
        places, horizon = arrange(rng, cutouts, 400, 400, LATELY)
        sines = np.sin(np.radians([place.cutout.elevation for place in places]))
        assert np.allclose(sines / sines[-1], [place.scale / places[-1].scale for place in places])
        feet = np.array([place.foot for place in places])
        assert np.allclose((feet - horizon) / (feet[-1] - horizon), sines / sines[-1], atol=0.02)


def test_nobody_stands_in_a_scene_twice(scenes):
    """The bank has two or three views of each person; words for twins would not tell them apart."""
    for scene in scenes:
        worn = [{key: value for key, value in one.attributes.items() if key != "view"} for one in scene.people]
        assert len({tuple(sorted(one.items())) for one in worn}) == len(worn)


def test_crowds_reach_eight_and_stay_rare(scenes):
    rng = np.random.default_rng(0)
    counts = rng.choice(len(LATELY.counts), 4000, p=LATELY.counts) + 1
    assert counts.max() == 8 and 0.02 < (counts > 6).mean() < 0.15
    shown = [len(scene.people) for scene in scenes]
    assert max(shown) > 6 and min(shown) == 1
