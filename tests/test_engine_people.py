"""Masks, several people, nobody and everybody are learnt together, from a model that knew none of it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

import refhcm
from refhcm.data.annotation import Question
from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.data.prompts import Prompting
from refhcm.data.samples import collate
from refhcm.inference.answering import answer_batch
from refhcm.models import add_codes, export
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_files import save_label_map
from refhcm.tests.test_engine_training import data, loss_of, train  # noqa: F401

MASKS = LabelMapConfig(
    classes=3, height=64, width=48, channels=8, multipliers=(1, 2), blocks=1, attention_levels=(), latent=8,
    embedding=4, codebook=12, groups=4, fold=4,
)  # fmt: skip
TASKS = ["rec", "res", "roi", "s1_mask", "grec", "people", "rkpt"]


def person(left, keypoints=True):
    mask = np.zeros((30, 40), bool)
    mask[6:24, left + 1 : left + 9] = True
    points = np.stack([np.linspace(left + 2, left + 8, 17), np.linspace(7, 22, 17), np.full(17, 2)], 1)
    return Person((left, 5, left + 10, 25), points if keypoints else None, encode_mask(mask))


@pytest.fixture(scope="module")
def folder(data):  # noqa: F811
    """Pictures of two people, with rows about one, both, nobody and everybody."""
    random = np.random.default_rng(0)
    for split in ("train", "valid"):
        with PersonWriter(data / split / "people.tsv") as out:
            for i in range(4):
                Image.fromarray(random.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(data / split / f"{i}.png")
                left, right = person(2 + i), person(25 - i)
                codes = tuple(int(code) for code in random.integers(0, 8, 48))
                for name, people, text in (
                    ("a", (left,), "man on the left"), ("b", (right,), "the red coat"), ("c", (left, right), "coats"),
                    ("d", (), "the left coat of the man"),
                ):  # fmt: skip
                    known = codes if len(people) == 1 else None
                    out.add(PersonRow(f"{i}{name}", str(i), f"{i}.png", people, text, codes=known))
                out.add(PersonRow(f"{i}e", str(i), f"{i}.png", (right, left), everybody=True))
    stream = {"file": "{split}/people.tsv", "kind": "person", "tasks": TASKS, "one_task": True, "grouped": 5}
    (data / "people.json").write_text(json.dumps({"streams": [stream], "length": 16}))
    torch.manual_seed(0)
    save_label_map(data / "masks", LabelMapTokenizer(MASKS))
    return data


@pytest.fixture(scope="module")
def grown(folder, tmp_path_factory):
    """A trained model folder, and the same with codes for masks."""
    place = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        train(patch, folder, place / "run", "--max-update", "2")
    checkpoint, vocabulary = str(place / "run" / "checkpoint_last.pt"), str(folder / "vocabulary")
    export.main([checkpoint, str(place / "old"), "--vocabulary", vocabulary, "--dtype", "float32"])
    add_codes.main([str(place / "old"), str(place / "new"), "--masks", str(folder / "masks")])
    return place


def batch(folder, predictor, task, **options):
    rows = ReferringDataset(folder / "valid" / "people.tsv", "person", masks=True)
    known = {"rec": "one", "grec": "people", "people": "everybody", "roi": "one", "res": "one"}[task]
    chosen = rows.usable([], about=known)
    dataset = SampleDataset(rows, [predictor.task(task)], 32, targets=False, chosen=chosen, **options)
    return collate([dataset[i] for i in range(len(dataset))])


def test_a_model_that_gains_mask_codes_answers_as_before(folder, grown):
    old, new = refhcm.load(grown / "old"), refhcm.load(grown / "new")
    assert new.vocabulary.mask_codes == 12 and new.vocabulary.num_codes >= 128 + 12 + 2 + 48 and new.masks is not None
    before, after = (answer_batch(model.model, model.task("rec"), batch(folder, model, "rec")) for model in (old, new))
    shift = new.vocabulary.bin_start - old.vocabulary.bin_start
    for one, other in zip(before, after, strict=True):
        assert [token + shift for token in one.tokens] == list(other.tokens)
        assert other.box == pytest.approx(one.box, abs=0.01) and other.score == pytest.approx(one.score, rel=0.02)
    with pytest.raises(SystemExit, match="has codes for masks already"):
        add_codes.main([str(grown / "new"), str(grown / "twice"), "--masks", str(folder / "masks")])


def test_everything_is_learnt_in_one_run_and_answered(monkeypatch, folder, grown, tmp_path):
    options = (
        "--init-from", str(grown / "new"), "--vocabulary", str(grown / "new"), "--masks", str(folder / "masks"),
        "--nobody", "--by-region", "0.3", "--by-point", "0.5", "--loose-regions", "0.1", "--grounding-weight", "1",
        "--word-weight", "1",
    )  # fmt: skip
    first = train(monkeypatch, folder, tmp_path / "run", "--max-epoch", "1", *options, source="people.json")
    last = train(monkeypatch, folder, tmp_path / "run", "--max-epoch", "6", *options, source="people.json")
    assert loss_of(last) < 0.9 * loss_of(first)
    checkpoint = str(tmp_path / "run" / "checkpoint_last.pt")
    masks = ["--masks", str(folder / "masks")]
    export.main([checkpoint, str(tmp_path / "model"), "--vocabulary", str(grown / "new"), *masks])
    model = refhcm.load(tmp_path / "model")
    assert set(model.abilities.tasks) == set(TASKS)
    assert model.abilities.nobody and model.abilities.point_prompts and model.abilities.loose_regions
    for reading in answer_batch(model.model, model.task("res"), batch(folder, model, "res"), masks=model.masks):
        assert 0 <= reading.presence <= 1 and reading.present == (reading.box is not None)
        assert not reading.present or (reading.mask.shape == (30, 40) and len(reading.mask_codes) == 48)
    for task in ("grec", "people"):
        for reading in answer_batch(model.model, model.task(task), batch(folder, model, task)):
            lefts = reading.tokens[::4]
            assert list(lefts) == sorted(lefts) and reading.present == bool(lefts) == bool(reading.people)


def test_masks_need_their_tokenizer(monkeypatch, folder, grown, tmp_path):
    for vocabulary, more in ((grown / "new", ()), (folder / "vocabulary", ("--masks", str(folder / "masks")))):
        with pytest.raises(SystemExit, match="answers masks: it needs --masks FOLDER"):
            train(monkeypatch, folder, tmp_path, "--vocabulary", str(vocabulary), *more, source="people.json")


def test_people_are_asked_about_by_loose_boxes_and_by_points_on_them(folder, grown):
    model = refhcm.load(grown / "new")
    asked = batch(folder, model, "roi", prompting=Prompting(by_point=0.5, loose=0.2))["questions"]
    points = [question.points[0] for question in asked if question.points]
    regions = [question.region for question in asked if question.region]
    assert points and regions and len(points) + len(regions) == len(asked)
    rows = ReferringDataset(folder / "valid" / "people.tsv", "person", masks=True)
    boxes = [rows[row][1].box for row in rows.usable([], about="one")]
    assert not set(regions) & set(boxes)
    union = np.logical_or.reduce([rows[row][1].mask for row in rows.usable([], about="one")])
    assert all(union[int(y), int(x)] for some in points for x, y in some)
    exact = batch(folder, model, "roi", prompting=Prompting())["questions"]
    assert {question.region for question in exact} == set(boxes)
    words = batch(folder, model, "res", prompting=Prompting(by_point=1, loose=0.5))["questions"]
    assert all(question.text for question in words)
    several = batch(folder, model, "grec", prompting=Prompting(by_region=1, by_point=0.5))["questions"]
    assert all(question.text for question in several)  # one box says nothing about who else is meant
    assert all(isinstance(question, Question) for question in words)
