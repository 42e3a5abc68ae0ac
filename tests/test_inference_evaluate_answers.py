"""An evaluation from file to figures: true answers score full, wrong ones little, and malformed ones are counted."""

import numpy as np
import pytest
import torch
from PIL import Image

from refhcm.data.annotation import PART_NAMES
from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.inference import evaluation
from refhcm.inference.evaluation import evaluate
from refhcm.inference.shapes import fill_shapes
from refhcm.models.label_map_paste import crop_part_map
from refhcm.tasks import Reading

CAPTIONS = ("a tall man in a red coat", "the woman with short hair", "somebody who sits on the left")


@pytest.fixture
def people(tmp_path):
    """Three people of whom everything is known, each in a picture of 40 x 30."""
    random = np.random.default_rng(2)
    with PersonWriter(tmp_path / "people.tsv") as file:
        for number, caption in enumerate(CAPTIONS):
            parts = np.zeros((30, 40), np.uint8)
            parts[4:26, 5 + number : 21] = random.integers(1, len(PART_NAMES), (22, 16 - number))
            points = np.column_stack([random.uniform(6, 20, 17), random.uniform(5, 25, 17), np.full(17, 2)])
            Image.fromarray(parts).save(tmp_path / f"parts{number}.png")
            Image.fromarray(np.full((30, 40, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
            person = Person((5 + number, 4, 21, 26), points, encode_mask(parts > 0), f"parts{number}.png")
            file.add(PersonRow(f"r{number}", str(number), f"{number}.png", (person,), "the man", (caption,)))
    return tmp_path / "people.tsv"


@pytest.fixture
def scored(tiny_predictor, people, monkeypatch):
    """Evaluate answers that `change` makes of the true ones, all together, with the tokenizer's codes."""

    def scored(task, change=lambda readings, truth: None):
        label_map = tiny_predictor.label_map

        def answer(model, task, batch, **options):
            truth, readings = batch["annotations"], []
            for one in truth:
                crop = crop_part_map(one.parts, one.box, (label_map.config.height, label_map.config.width))
                codes = tuple(label_map.encode(torch.from_numpy(crop)[None])[0].tolist())
                readings.append(Reading(one.box, 0.9, codes=codes, score=0.9, tokens=(5,)))
                readings[-1].keypoints, readings[-1].caption = one.keypoints.astype(np.float32), one.captions[0]
            fill_shapes(readings, [one.size for one in truth], label_map)
            change(readings, truth)
            return readings

        monkeypatch.setattr(evaluation, "answer_batch", answer)
        return evaluate(tiny_predictor, people, "person", task, java=False, progress=False)

    return scored


def test_true_answers_score_full_and_true_codes_what_the_tokenizer_can_do(scored):
    result = scored("s1")
    assert (result.samples, result.invalid) == (3, 0)
    for name in ("box/acc@0.5", "box/acc@0.9", "box/miou", "keypoints/oks"):
        assert result.scores[name] == pytest.approx(1), name
    assert result.scores["parsing/miou"] == pytest.approx(result.scores["parsing/oracle_miou"])

    def drawn(readings, truth):
        for reading, one in zip(readings, truth, strict=True):
            reading.parts = one.parts

    exact = scored("s1", drawn)
    assert exact.scores["parsing/miou"] == pytest.approx(1)
    assert exact.scores["parsing/oracle_miou"] == result.scores["parsing/oracle_miou"] < 1


def test_answers_about_somebody_else_score_less(scored):
    def beside(readings, truth):
        for reading in readings:
            x1, y1, x2, y2 = reading.box
            reading.box = (x1 + 18, y1, x2 + 18, y2)
            reading.keypoints = reading.keypoints + np.array([18, 0, 0], np.float32)
            reading.parts = np.roll(reading.parts, 18, 1)

    true, wrong = scored("s1"), scored("s1", beside)
    assert wrong.invalid == 0 and wrong.scores["box/acc@0.5"] == 0 and wrong.scores["keypoints/oks"] < 0.2
    assert wrong.scores["parsing/miou"] < true.scores["parsing/miou"]
    assert wrong.scores["parsing/oracle_miou"] == true.scores["parsing/oracle_miou"]


def test_a_caption_of_somebody_else_scores_less(scored):
    def swapped(readings, truth):
        readings[0].caption, readings[1].caption = readings[1].caption, readings[0].caption

    right, wrong = scored("rhrc").scores, scored("rhrc", swapped).scores
    assert right["caption/cider_d"] == pytest.approx(10)
    assert wrong["caption/cider_d"] == pytest.approx(10 / 3, abs=0.5)


@pytest.mark.parametrize("change", [
    {"box": (9.0, 4.0, 5.0, 26.0)}, {"box": (5.0, 4.0, 41.0, 26.0)}, {"keypoints": np.full((17, 3), 99, np.float32)},
])  # fmt: skip
def test_malformed_answers_are_counted(scored, change):
    assert scored("s1", lambda readings, truth: vars(readings[1]).update(change)).invalid == 1
