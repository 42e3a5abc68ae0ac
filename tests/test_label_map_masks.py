"""The mask tokenizer: three-way masks through codes and back, the crops it learns from, and its commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_models_label_map_training import _person

from refhcm.data.annotation import CODE_GRID, OTHERS, PERSON
from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.errors import RefHCMError
from refhcm.inference import label_map_evaluation
from refhcm.inference.label_map_evaluation import mask_survival
from refhcm.metrics.masks import mask_iou
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_data import (
    LabelledPeople,
    draw_many,
    only_person,
    read_bank,
    read_rows,
    region_only,
    surround,
    three_way,
)
from refhcm.models.label_map_files import MASK, PARTS, load_label_map, save_label_map
from refhcm.models.label_map_paste import (
    crop_part_map,
    paste_mask,
    paste_probability,
    paste_three_way,
    region_map,
)
from refhcm.models.label_map_round_trip import mask_round_trip
from refhcm.models.label_map_statistics import main as statistics_main
from refhcm.models.label_map_statistics import read_weights
from refhcm.models.label_map_training import Recipe, train
from refhcm.models.label_map_training import main as training_main

ROOT = Path(__file__).resolve().parent.parent
TINY = LabelMapConfig(
    classes=3, height=32, width=24, channels=16, multipliers=(1,), blocks=1, attention_levels=(), latent=16,
    embedding=8, codebook=32, groups=4, fold=4,
)  # fmt: skip
BOX = (20, 10, 68, 106)


def silhouette(seed):
    return three_way(_person(seed))


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(5)
    return LabelMapTokenizer(TINY).eval()


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    return train([silhouette(seed) for seed in range(20)], TINY, Recipe(steps=120, batch=8, occlude=0.3))


@pytest.fixture
def rows(tmp_path):
    """A file of three people, two of one picture: one with run lengths alone, two with a part map alone."""
    Image.new("RGB", (80, 120)).save(tmp_path / "0.jpg")
    with PersonWriter(tmp_path / "person.tsv") as file:
        for number in range(3):
            parts = np.zeros((120, 80), np.uint8)
            parts[10:106, 20:68] = _person(number)
            parts[0, 0] = 255
            Image.fromarray(parts).save(tmp_path / f"{number}.png")
            mask = encode_mask(three_way(parts)) if number == 0 else None
            known = Person(BOX, mask=mask, parts=None if mask else f"{number}.png")
            for words in ("the man", "the woman"):
                file.add(PersonRow(f"{number} {words}", "0", "0.jpg", (known,), words))
        file.add(PersonRow("x", "0", "0.jpg", (Person(BOX),), "who is not known"))
    return tmp_path / "person.tsv"


def one_hot(labels, sure=50.0):
    """Class scores of a decoder that is never wrong."""
    return sure * torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 3).permute(2, 0, 1).float()


# -- back into the picture -----------------------------------------------------------------------------------
def test_an_ideal_mask_comes_back_as_it_was():
    labels = np.zeros((90, 70), np.uint8)
    labels[5:53, 10:46] = np.random.default_rng(0).integers(0, 3, (48, 36))
    box = (10, 5, 46, 53)
    logits = one_hot(crop_part_map(labels, box, (48, 36)))
    assert np.array_equal(paste_three_way(logits, box, labels.shape), labels)
    assert np.array_equal(paste_mask(logits, box, labels.shape), labels == PERSON)


def test_outlines_are_smooth_where_the_picture_is_finer_than_the_crop():
    y, x = np.mgrid[:320, :240] + 0.5
    disc = ((x - 120) ** 2 + (y - 160) ** 2 < 100**2).astype(np.uint8)
    box = (0, 0, 240, 320)
    crop = crop_part_map(disc, box, (32, 24))
    smooth = paste_mask(one_hot(crop), box, disc.shape)
    stepped = np.kron(crop, np.ones((10, 10)))
    assert mask_iou(smooth, disc) > 0.965 > mask_iou(stepped, disc)


boxes = st.tuples(*[st.floats(-50, 150), st.floats(-50, 150), st.floats(0.6, 200), st.floats(0.6, 200)]).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(boxes, st.integers(1, 90), st.integers(1, 90), st.integers(0, 99))
@settings(max_examples=60)
def test_probabilities_are_zero_outside_the_box_and_add_up_inside(box, height, width, seed):
    logits = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(seed))
    maps = np.stack([paste_probability(logits, box, (height, width), label) for label in range(3)])
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None]
    np.testing.assert_allclose(maps.sum(0), inside, atol=1e-6)
    assert maps.dtype == np.float32 and not maps[:, ~inside].any()
    assert np.array_equal(paste_mask(logits, box, (height, width)), maps[PERSON] > 0.5)
    assert (paste_three_way(logits, box, (height, width))[maps[PERSON] > 0.5] == PERSON).all()


@given(st.integers(0, 99), st.integers(0, 20), st.sampled_from([1, 3, 5]))
@settings(max_examples=20)
def test_a_region_at_56_by_56_agrees_with_the_whole_picture(seed, left, finer):
    logits = 3 * torch.randn(3, 12, 9, generator=torch.Generator().manual_seed(seed))
    side = 56 * finer  # an odd number of the picture's pixels per cell, so that centres lie on each other
    box = (left, 7, left + side, 7 + side)
    whole = paste_three_way(logits, box, (side + 20, side + 30))
    chances = np.stack([paste_probability(logits, box, whole.shape, label) for label in range(3)])
    clear = np.diff(np.sort(chances, axis=0)[-2:], axis=0)[0] > 1e-4
    small, expected, counted = (
        region_map(logits, (56, 56)), crop_part_map(whole, box, (56, 56)), crop_part_map(clear, box, (56, 56)) > 0
    )  # fmt: skip
    assert small.shape == (56, 56) and counted.mean() > 0.95
    assert np.array_equal(small[counted], expected[counted])


# -- codes -----------------------------------------------------------------------------------------------------
def test_the_preset_has_the_grid_of_part_maps_and_is_small():
    config = LabelMapConfig.preset("mask")
    assert config.masks and config.grid == CODE_GRID and config.codebook <= 512
    assert sum(parameter.numel() for parameter in LabelMapTokenizer(config).parameters()) < 1_000_000
    assert not LabelMapConfig.preset("compact").masks


@torch.inference_mode()
def test_a_batch_of_masks_equals_one_at_a_time(tokenizer):
    crops = torch.from_numpy(draw_many([silhouette(0)], np.random.default_rng(0), (32, 24), 0.5, 5, masks=True))
    codes = tokenizer.encode(crops)
    assert torch.equal(codes, torch.cat([tokenizer.encode(crop[None]) for crop in crops]))
    logits = torch.cat([tokenizer.decode_logits(row[None]) for row in codes])
    torch.testing.assert_close(tokenizer.decode_logits(codes), logits, atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_the_batch(trained):
    rng = np.random.default_rng(1)
    regions = [surround([silhouette(1), silhouette(2)], rng, 0.5) for _ in range(7)]
    assert mask_round_trip(trained, regions, batch=1) == mask_round_trip(trained, regions, batch=4)
    assert mask_round_trip(trained, [])["samples"] == 0


def test_training_learns_to_bring_masks_through_the_codes(trained, tokenizer):
    unseen = [silhouette(seed) for seed in range(20, 30)]
    alone = mask_round_trip(trained, map(only_person, unseen))
    rng = np.random.default_rng(0)
    regions = [region_only(*surround(unseen, rng, 0.3)) for _ in range(20)]
    among = mask_round_trip(trained, regions)
    assert alone["miou"] > 0.8 > 0.6 > mask_round_trip(tokenizer, map(only_person, unseen))["miou"]
    assert among["three_way_miou"] > 0.5 > mask_round_trip(tokenizer, regions)["three_way_miou"]
    assert among["codes"] > 4 and 0 < alone["boundary_iou"] < alone["miou"] < alone["dice"]


# -- files -----------------------------------------------------------------------------------------------------
def test_both_tokenizers_live_in_one_folder(tokenizer, tmp_path):
    parts = LabelMapTokenizer(replace(TINY, classes=20)).eval()
    for saved in (tokenizer, parts):
        save_label_map(tmp_path, saved, torch.float32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "label_map.json", "label_map.safetensors", "mask.json", "mask.safetensors"]  # fmt: skip
    for name, saved in ((MASK, tokenizer), (PARTS, parts)):
        again = load_label_map(tmp_path, name)
        labels = torch.randint(0, saved.config.classes, (2, 32, 24))
        assert again.config == saved.config and torch.equal(again.encode(labels), saved.encode(labels))
    assert load_label_map(tmp_path).config.classes == 20


def test_files_of_the_other_tokenizer_are_refused(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mask\.json is missing; .* mask\.json and mask\.safetensors"):
        load_label_map(tmp_path, MASK)
    save_label_map(tmp_path, tokenizer)
    for kind in ("json", "safetensors"):
        (tmp_path / f"mask.{kind}").rename(tmp_path / f"label_map.{kind}")
    with pytest.raises(RefHCMError, match=r"label_map\.json is of a tokenizer with 3 classes, .* called mask\.\*"):
        load_label_map(tmp_path)


def test_the_bundled_mask_tokenizer_keeps_nine_tenths_of_people_it_never_saw():
    bundled = load_label_map(ROOT / "checkpoints" / "compact", MASK)
    people = read_bank(ROOT / "dataset" / "held_out_people", masks=True)[1][::9]
    scores = mask_round_trip(bundled, map(only_person, people))
    assert bundled.config == LabelMapConfig.preset("mask")
    assert len(people) == 50 and scores["miou"] > 0.9 and scores["p@0.8"] > 0.95


# -- crops -----------------------------------------------------------------------------------------------------
def test_the_person_stands_before_others_and_what_is_ignored_is_neither():
    person, others = np.array([[0, 7, 255, 1]]), np.array([[1, 1, 0, 0]], bool)
    assert three_way(person, others).tolist() == [[OTHERS, PERSON, 0, PERSON]]
    assert three_way(person > 0).tolist() == [[0, PERSON, PERSON, PERSON]]


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_others_are_put_around_a_person_who_stays_in_sight(seed):
    people = [silhouette(seed), silhouette(seed + 1)]
    rng = np.random.default_rng(seed)
    labels, region = surround(people, rng, occlude=0.5)
    assert set(np.unique(labels)) <= {0, PERSON, OTHERS}
    seen = (labels == PERSON).sum()
    assert 0.15**5 * min(map(np.sum, people)) < seen <= max(map(np.sum, people))
    assert (crop_part_map(labels, region, (64, 48)) == PERSON).any()
    mask, box = only_person(labels)
    assert set(np.unique(mask)) == {0, PERSON} and mask.sum() == seen == (crop_part_map(
        mask, box, (int(box[3] - box[1]), int(box[2] - box[0])))).sum()  # fmt: skip
    alone, _ = surround([silhouette(seed)], np.random.default_rng(seed), occlude=0.0)
    assert (alone == PERSON).sum() == silhouette(seed).sum()  # without hiding, all of the person is there


def test_crops_show_others_in_front_and_behind_and_regions_of_many_kinds():
    people = [silhouette(seed) for seed in range(9)]
    rng = np.random.default_rng(0)
    drawn = [surround(people, rng, 0.5) for _ in range(200)]
    crowded = np.mean([(labels == OTHERS).any() for labels, _ in drawn])
    assert 0.25 < crowded < 0.6
    boxes = [only_person(labels)[1] for labels, _ in drawn]
    sides = np.array([
        np.subtract(region, box) / ([box[2] - box[0], box[3] - box[1]] * 2)
        for (_, region), box in zip(drawn, boxes, strict=True)
    ])  # fmt: skip
    tight = np.abs(sides).max(1) <= 0.03
    assert 0.4 < tight.mean() < 0.6 and 0.1 < (np.abs(sides).max(1) > 0.2).mean() < 0.25
    assert sides[:, :2].min() < -0.15 and sides[:, 2:].max() > 0.15


# -- files of people -------------------------------------------------------------------------------------------
def test_people_come_from_run_lengths_or_part_maps(rows):
    people = LabelledPeople(rows, "person", masks=True)
    assert people.rows.tolist() == [0, 1, 2, 3, 4, 5] and people.different() == [0, 2, 4]
    for row, number in ((0, 0), (2, 1)):
        labels, box = people[row]
        assert box == BOX and np.array_equal(crop_part_map(labels, box, (96, 48)), silhouette(number))
        assert labels.sum() == silhouette(number).sum()
    read = read_rows([rows], kind="person", masks=True)
    assert len(read) == 6 and np.array_equal(crop_part_map(read[0], (12, 24, 60, 120), (96, 48)), silhouette(0))


def test_survival_of_masks_is_the_round_trip_of_each_person(rows, trained):
    found = mask_survival(rows, "person", trained, progress=False)
    people = LabelledPeople(rows, "person", masks=True)
    assert found.person == mask_round_trip(trained, [people[row] for row in (0, 2, 4)])
    assert found.person["samples"] == found.region["samples"] == 3 and found.region["miou"] > 0.5
    assert mask_survival(rows, "person", trained, limit=2, progress=False).person["samples"] == 2


def test_the_evaluation_of_masks_prints_and_writes_its_figures(rows, trained, tmp_path, capsys):
    save_label_map(tmp_path / "tokenizer", trained, torch.float32)
    figures = tmp_path / "figures.json"
    label_map_evaluation.main([
        str(rows), "--tokenizer", str(tmp_path / "tokenizer"), "--name", "mask", "--json", str(figures),
        "--threads", "1", "--device", "cpu",
    ])  # fmt: skip
    said, written = capsys.readouterr().out, json.loads(figures.read_text())
    for name in ("miou", "dice", "boundary_iou", "three_way_miou"):
        assert f"{name:<16}{written['person'][name]:>8.4g}{written['region'][name]:>8.4g}" in said
    with PersonWriter(tmp_path / "none.tsv") as file:
        file.add(PersonRow("0", "0", "0.jpg", (Person(BOX),), "words"))
    with pytest.raises(SystemExit, match="has no masks: name a file whose column mask or parts is filled in"):
        label_map_evaluation.main([
            str(tmp_path / "none.tsv"), "--tokenizer", str(tmp_path / "tokenizer"), "--name", "mask"])  # fmt: skip


# -- commands --------------------------------------------------------------------------------------------------
def test_statistics_weigh_rare_classes_more_and_training_takes_them(rows, tmp_path, capsys):
    sizes, weights = tmp_path / "tiny.json", tmp_path / "weights.json"
    statistics_main([str(rows), "--preset", "mask", "--power", "0.5", "--crops", "60", "--out", str(weights)])
    written, said = json.loads(weights.read_text()), capsys.readouterr().out
    assert sum(written["shares"]) == pytest.approx(1)
    assert np.dot(written["shares"], written["weights"]) == pytest.approx(1)
    assert np.argmin(written["shares"]) == np.argmax(written["weights"]) == OTHERS
    assert f"other people    {written['shares'][2]:>8.4f}{written['weights'][2]:>9.4f}" in said
    sizes.write_text(json.dumps(TINY.to_dict()))
    arguments = [str(rows), "--kind", "person", "--preset", str(sizes), "--steps", "6", "--batch", "2"]
    for out, more in (("own", []), ("weighed", ["--class-weights", str(weights)])):
        training_main([*arguments, "--threads", "1", "--valid", str(rows), "--out", str(tmp_path / out), *more])
    assert "regions with others" in capsys.readouterr().out
    own, weighed = (load_label_map(tmp_path / out, MASK) for out in ("own", "weighed"))
    assert not torch.equal(own.decoder.conv_out.weight, weighed.decoder.conv_out.weight)
    training_main([*arguments, "--refine", str(tmp_path / "own"), "--out", str(tmp_path / "more")])
    assert torch.equal(load_label_map(tmp_path / "more", MASK).quantize.embedding.weight, own.quantize.embedding.weight)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"weights": [1, 2]}, "needs a list 'weights' of 3 numbers"),
        ({"weights": [1, 2, "3"]}, "needs a list"),
        ({"weights": [1, 2, True]}, "needs a list"),
        ({"weights": {"0": 1}}, "needs a list"),
        ({}, "needs a list"),
        ({"weights": [1, -1, 1]}, "numbers from 0"),
        ({"weights": [0, 0, 0]}, "not all of them 0"),
        ({"weights": [1, 1, 1e30]}, "numbers from 0"),
        ([1, 1, 1], "holds list where an object is expected"),
        ('{"weights": [1, 1, NaN]}', "is not JSON"),
        ("nothing", "is not JSON"),
    ],
)
def test_malformed_weights_are_refused(said, reason, tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    with pytest.raises(RefHCMError, match=reason):
        read_weights(path, 3)


def test_the_commands_of_masks_end_with_one_sentence(rows, tmp_path):
    with pytest.raises(SystemExit, match=r"label_map_statistics: .*nowhere"):
        statistics_main([str(tmp_path / "nowhere.tsv")])
    with pytest.raises(SystemExit, match="label_map_statistics: --power must be"):
        statistics_main([str(rows), "--power", "-1"])
    with pytest.raises(SystemExit, match=r"label_map_training: There is no file at .*weights\.json"):
        training_main([
            str(rows), "--out", str(tmp_path), "--preset", "mask", "--class-weights", str(tmp_path / "weights.json")
        ])  # fmt: skip
    with pytest.raises(SystemExit, match="'other'; choose one of: published, compact, mask"):
        training_main([str(rows), "--out", str(tmp_path), "--preset", "other"])
