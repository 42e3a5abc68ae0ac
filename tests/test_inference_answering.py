"""A batch is answered as each of its questions is, all of it or some of its rows."""

import numpy as np
import pytest
import torch
from PIL import Image

from refhcm.data.annotation import Annotation, Question
from refhcm.data.images import to_tensor
from refhcm.data.samples import build_sample, collate
from refhcm.inference.answering import answer_batch, ask, box_bins, look
from refhcm.inference.shapes import part_logits
from refhcm.models.abilities import Presence
from refhcm.tasks import Reading


def _batch(predictor, names):
    """One row for each name of a task, about two pictures in turn."""
    random = np.random.default_rng(1)
    photos = [Image.fromarray(random.integers(0, 256, (40, 30 + 20 * n, 3), dtype=np.uint8)) for n in range(2)]
    samples = []
    for number, name in enumerate(names):
        photo = photos[number % 2]
        question = Question(photo.size, text="the man" if number < 2 else "the woman in the red coat on the left")
        image = to_tensor(photo, predictor.model.config.image_size)
        task, key = predictor.task(name), str(number % 2)
        samples.append(build_sample(task, question, Annotation(photo.size), image, key, str(number), False))
    return collate(samples), samples


def _same(one, other):
    assert one.tokens == other.tokens
    np.testing.assert_allclose(one.box, other.box, atol=1e-3)
    assert (one.parts is None) == (other.parts is None)
    if one.parts is not None:
        np.testing.assert_array_equal(one.parts, other.parts)
    if one.keypoints is not None:
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)


@pytest.mark.parametrize("published_reading", [False, True])
def test_a_batch_is_answered_as_its_questions_are(tiny_predictor, published_reading):
    task, label_map = tiny_predictor.task("s1"), tiny_predictor.label_map
    batch, samples = _batch(tiny_predictor, ["s1"] * 4)
    options = {"label_map": label_map, "published_reading": published_reading}
    together = answer_batch(tiny_predictor.model, task, batch, **options)
    for number, sample in enumerate(samples):
        _same(together[number], answer_batch(tiny_predictor.model, task, collate([sample]), **options)[0])
        assert together[number].parts.shape == sample["annotation"].size[::-1]


def test_the_published_reading_takes_the_likeliest_bins(tiny_predictor):
    """Same tokens; a coordinate is its bin, and otherwise lies near it, within the window of the expectation."""
    task, vocabulary = tiny_predictor.task("rkpt"), tiny_predictor.vocabulary
    batch, samples = _batch(tiny_predictor, ["rkpt"] * 4)
    likeliest = answer_batch(tiny_predictor.model, task, batch, published_reading=True)
    expected = answer_batch(tiny_predictor.model, task, batch)
    moved = 0.0
    for one, other, sample in zip(likeliest, expected, samples, strict=True):
        size = np.array(sample["annotation"].size * 2)
        bins = vocabulary.dequantize(one.tokens[:4]) * size
        assert one.tokens == other.tokens and np.allclose(one.box, bins, atol=1e-3)
        far = np.abs(np.array(one.box) - other.box)
        assert (far <= 1.01 * size / (vocabulary.num_bins - 1)).all()
        moved = max(moved, far.max())
    assert moved > 1e-3


def test_a_part_map_follows_what_the_block_was_unsure_of(tiny_label_map):
    random = torch.Generator().manual_seed(1)
    spreads = torch.rand(2, 48, 16, generator=random)
    spreads[:, :, 3] = 1.5  # the likeliest code is the same everywhere
    spreads /= spreads.sum(-1, keepdim=True)
    readings = [Reading(codes=(3,) * 48, code_spread=spread) for spread in spreads]
    alone = tiny_label_map.decode_logits(torch.full((1, 48), 3))
    unsure, likeliest = part_logits(tiny_label_map, readings), part_logits(tiny_label_map, readings, likeliest=True)
    torch.testing.assert_close(likeliest, alone.expand_as(likeliest))
    assert (unsure[0] - unsure[1]).abs().max() > 1e-3 and (unsure - likeliest).abs().max() > 1e-3
    certain = [Reading(codes=(3,) * 48, code_spread=torch.eye(16)[[3] * 48])]
    torch.testing.assert_close(part_logits(tiny_label_map, certain), alone)


def test_rows_of_a_mixed_batch_are_answered_each_by_its_task(tiny_predictor):
    batch, _ = _batch(tiny_predictor, ["rec", "rpar", "s1", "rpar", "rec"])
    found = {}
    for name in ("rec", "rpar", "s1"):
        rows = [row for row, task in enumerate(batch["tasks"]) if task == name]
        task = tiny_predictor.task(name)
        readings = answer_batch(tiny_predictor.model, task, batch, label_map=tiny_predictor.label_map, rows=rows)
        found.update(zip(rows, readings, strict=True))
    for row, name in enumerate(batch["tasks"]):
        alone, _ = _batch(tiny_predictor, [name] * 5)
        task = tiny_predictor.task(name)
        single = answer_batch(tiny_predictor.model, task, alone, label_map=tiny_predictor.label_map, rows=[row])
        _same(found[row], single[0])
        assert (found[row].parts is None) == (name == "rec")
    assert answer_batch(tiny_predictor.model, tiny_predictor.task("rec"), batch, rows=[]) == []


def test_a_region_s_answer_begins_with_the_region_and_nothing_is_said_of_how_sure_that_is(people_predictor):
    task, size = people_predictor.task("roi"), (50, 40)
    questions = [Question(size, region=(3.25, 4.5, 30, 39)), Question(size, points=(((20, 20),),))]
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    features = people_predictor.model.image_features(pixels)
    asked, free = ask(people_predictor.model, task, features, [0, 0], questions)
    assert list(asked.tokens[:4]) == box_bins(people_predictor.vocabulary, questions[0].region, size)
    assert asked.box == questions[0].region and free.box != asked.box
    assert 0 < asked.score < 1 and asked.presence is None


def test_several_questions_about_a_picture_are_answered_as_each_alone_and_it_is_looked_at_once(
    people_predictor, monkeypatch
):
    model, task = people_predictor.model, people_predictor.task("rkpt")
    batch, _ = _batch(people_predictor, ["rkpt"] * 3)
    looked = []
    trunk = model.image_features
    monkeypatch.setattr(model, "image_features", lambda pictures: looked.append(len(pictures)) or trunk(pictures))
    features, pictures, questions = look(model, batch)
    assert (looked, pictures) == ([2], [0, 1, 0])
    boxes = [(1, 2, 20, 30), (5, 5, 48, 39), None]
    together = ask(model, task, features, pictures, questions, begin=boxes)
    for place, (picture, question, box) in enumerate(zip(pictures, questions, boxes, strict=True)):
        (alone,) = ask(model, task, features, [picture], [question], begin=[box])
        _same(together[place], alone)
    assert [reading.box for reading in together[:2]] == boxes[:2] and looked == [2]


def test_nobody_is_the_answer_below_the_threshold_of_the_calibrated_chance(people_predictor):
    model, task = people_predictor.model, people_predictor.task("rec")
    batch, _ = _batch(people_predictor, ["rec"] * 4)
    chances = [reading.presence for reading in answer_batch(model, task, batch)]
    assert len(set(chances)) > 1 and all(0 < chance < 1 for chance in chances)
    for limit in (0.0, sorted(chances)[1] + 1e-6, 1.0):
        for reading, chance in zip(
            answer_batch(model, task, batch, presence=Presence(threshold=limit)), chances, strict=True
        ):
            assert reading.presence == chance and reading.present == (chance >= limit) == (reading.box is not None)
