"""Cut-outs: drawn people carry exact labels, mirrors swap sides, and outfits never cross splits."""

import numpy as np
import pytest

from refhcm.data.annotation import KEYPOINT_NAMES, PART_NAMES
from refhcm.data.scenes.cutout import Cutout
from refhcm.data.scenes.layout import cropped, mirrored, tight_box
from refhcm.data.scenes.people2d import DrawnPeople
from refhcm.data.scenes.splits import (
    SPLITS,
    background_seed,
    outfit_split,
    photo_split,
    scene_rng,
)


@pytest.fixture(scope="module")
def people() -> list[Cutout]:
    source, rng = DrawnPeople(), np.random.default_rng(5)
    return [source.draw(rng, SPLITS[i % 3]) for i in range(60)]


def dilated(mask: np.ndarray, reach: int) -> np.ndarray:
    """`mask` grown by `reach` pixels in each direction, by plain shifting."""
    padded, out = np.pad(mask, reach), np.zeros_like(mask)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            out |= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    return out


def test_parts_and_alpha_show_the_same_person(people):
    for person in people:
        solid = person.image[..., 3] > 127
        inside = person.parts > 0
        assert not (solid & ~dilated(inside, 1)).any() and not (inside & ~dilated(solid, 1)).any()
        assert set(np.unique(person.parts)) <= set(range(len(PART_NAMES)))


def test_seen_joints_lie_on_the_person(people):
    for person in people:
        near = dilated(person.parts > 0, 3)
        for x, y, v in person.keypoints:
            assert v in (1, 2)  # a whole person has every joint
            if v == 2:
                assert near[int(y), int(x)]


def test_seen_limb_joints_lie_on_their_own_side(people):
    """A seen wrist lies on its own arm, sleeve or hand, never on the other arm."""
    for person in people:
        for side, other in (("left", "right"), ("right", "left")):
            x, y, v = person.keypoints[KEYPOINT_NAMES.index(f"{side}_wrist")]
            if v == 2:
                assert PART_NAMES[person.parts[int(y), int(x)]] != f"{other}-arm"


def test_somebody_seen_from_the_front_has_the_left_shoulder_on_the_right(people):
    left, right = (KEYPOINT_NAMES.index(f"{side}_shoulder") for side in ("left", "right"))
    for person in people:
        gap = person.keypoints[left, 0] - person.keypoints[right, 0]
        if person.attributes["view"] in ("front", "back"):
            assert (gap > 0) == (person.attributes["view"] == "front")


def test_a_left_side_view_faces_left(people):
    for person in people:
        ears = person.keypoints[3:5, 0].mean()
        if "side" in person.attributes["view"]:
            assert (person.keypoints[0, 0] < ears) == (person.attributes["view"] == "left side")


def test_a_mirror_swaps_sides_and_twice_is_the_same(people):
    left_arm, right_arm = PART_NAMES.index("left-arm"), PART_NAMES.index("right-arm")
    for person in people[:12]:
        other = mirrored(person)
        assert np.array_equal(other.parts == left_arm, (person.parts == right_arm)[:, ::-1])
        wrist = person.keypoints[KEYPOINT_NAMES.index("left_wrist")]
        moved = other.keypoints[KEYPOINT_NAMES.index("right_wrist")]
        assert moved[0] == pytest.approx(person.image.shape[1] - wrist[0])
        assert moved[1:].tolist() == wrist[1:].tolist()
        swapped = {"left side": "right side", "right side": "left side"}
        view = person.attributes["view"]
        assert other.attributes["view"] == swapped.get(view, view)
        again = mirrored(other)
        assert np.array_equal(again.image, person.image) and np.array_equal(again.parts, person.parts)
        assert np.allclose(again.keypoints, person.keypoints, atol=1e-3)


def test_an_absent_joint_stays_absent_in_the_mirror_and_after_cropping():
    parts = np.zeros((20, 30), np.uint8)
    parts[5:15, 10:20] = 5
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[5] = (12, 7, 2)
    image = np.zeros((20, 30, 4), np.uint8)
    cutout = Cutout(image, parts, keypoints, {"view": "front"}, 1.7, 20.0)
    assert mirrored(cutout).keypoints[6].tolist() == [18, 7, 2]
    small = cropped(cutout)
    assert small.parts.shape == (10, 10) and small.keypoints[5].tolist() == [2, 2, 2]
    for changed in (mirrored(cutout), small):
        assert np.count_nonzero(changed.keypoints.any(1)) == 1


def test_tight_box_by_hand():
    mask = np.zeros((6, 8), bool)
    mask[2, 3] = mask[4, 5] = True
    assert tight_box(mask) == (3, 2, 6, 5)
    assert tight_box(np.zeros((3, 3), bool)) == (0, 0, 0, 0)


def test_outfits_belong_to_one_split_each(people):
    for i, person in enumerate(people):
        assert outfit_split(person.attributes) == SPLITS[i % 3]
    # Only the clothes count, not who wears them.
    worn = dict(people[0].attributes, hair="long", pose="sitting", gender="woman")
    assert outfit_split(worn) == outfit_split(people[0].attributes)


def test_outfit_shares_are_near_80_10_10():
    outfits = [{"top": "shirt", "top_colour": f"colour {i}"} for i in range(4000)]
    splits = [outfit_split(outfit) for outfit in outfits]
    assert [splits.count(split) / 4000 for split in SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_background_seeds_of_different_splits_never_meet():
    rng = np.random.default_rng(0)
    seeds = {split: {background_seed(rng, split) for _ in range(500)} for split in SPLITS}
    for number, split in enumerate(SPLITS):  # each split owns one remainder, so that no draw can meet another's
        assert {seed % len(SPLITS) for seed in seeds[split]} == {number}


def test_a_photo_keeps_its_split_under_another_name(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.jpg").write_bytes(bytes([i]) * 50)
        (tmp_path / f"copy{i}.jpg").write_bytes(bytes([i]) * 50)
        assert photo_split(tmp_path / f"{i}.jpg") == photo_split(tmp_path / f"copy{i}.jpg")


def test_the_same_seed_gives_other_scenes_in_each_split():
    draws = {split: scene_rng(7, split, 3).integers(2**60) for split in SPLITS}
    assert len(set(draws.values())) == 3
    with pytest.raises(ValueError, match="train, val, test"):
        scene_rng(7, "dev", 0)
