"""A calibration is found where there is one, is the best of its kind, and is written where predictions read it."""

import json

import numpy as np
import pytest
import torch
from crowd import write_crowd
from hypothesis import given, settings
from hypothesis import strategies as st

import refhcm
from refhcm.data.vocabulary_file import describe_vocabulary
from refhcm.errors import RefHCMError
from refhcm.inference import calibrate, evaluation
from refhcm.inference.answering import answer_batch
from refhcm.inference.calibrate import figures, fit
from refhcm.inference.presence import calibrated, log_odds
from refhcm.models.abilities import Presence
from refhcm.models.checkpoint import save_folder
from refhcm.models.label_map_files import save_label_map


def told(scale, offset, count=4000, seed=1):
    """Chances of a model whose log-odds are off by these two numbers, and what is true."""
    random = np.random.default_rng(seed)
    right = random.normal(0.5, 2, count)
    somebody = random.random(count) < 1 / (1 + np.exp(-right))
    return (1 / (1 + np.exp(-(right - offset) / scale))).tolist(), somebody.tolist()


def cross_entropy(chances, somebody, scale, offset):
    yes, no = sum(somebody), len(somebody) - sum(somebody)
    wanted = np.where(somebody, (yes + 1) / (yes + 2), 1 / (no + 2))
    chance = np.array([calibrated(chance, Presence(scale, offset)) for chance in chances])
    return -(wanted * np.log(chance) + (1 - wanted) * np.log(1 - chance)).mean()


@settings(max_examples=10)
@given(st.floats(0.3, 3), st.floats(-2, 2))
def test_the_scale_and_offset_by_which_chances_are_off_are_found(scale, offset):
    chances, somebody = told(scale, offset)
    found = fit(chances, somebody)
    assert found.scale == pytest.approx(scale, rel=0.12)
    assert found.offset == pytest.approx(offset, abs=0.15 + 0.1 * scale)
    assert figures(chances, somebody, found)["ece"] < 0.03
    best = cross_entropy(chances, somebody, found.scale, found.offset)
    for near in ((1.02, 0), (0.98, 0), (1, 0.02), (1, -0.02)):
        assert best < cross_entropy(chances, somebody, found.scale * near[0], found.offset + near[1])


def test_the_threshold_has_the_best_f1_and_changes_no_ranking():
    chances, somebody = told(0.4, 1.5, 300)
    found = fit(chances, somebody)
    after, before = figures(chances, somebody, found), figures(chances, somebody, Presence())
    assert after["f1"] == after["best_f1"] == pytest.approx(before["best_f1"]) and after["auc"] == before["auc"]
    assert after["f1"] > before["f1"] and after["ece"] < before["ece"]


def test_a_model_that_is_always_right_stays_finite():
    chances, somebody = [0.9] * 20 + [0.1] * 20, [True] * 20 + [False] * 20
    found = fit(chances, somebody)
    assert np.isfinite([found.scale, found.offset]).all() and 0.1 < found.threshold < 0.9
    assert calibrated(0.9, found) == pytest.approx(21 / 22, abs=1e-6)  # Platt's target
    assert fit([1.0] * 20 + [0.0] * 20, somebody).scale < log_odds(1.0)


@pytest.mark.parametrize("chances, somebody, said", [
    ([0.9] * 30, [True] * 30, "30 questions about somebody and 0 about nobody"),
    ([0.1] * 20 + [0.9] * 20, [True] * 20 + [False] * 20, "no higher where somebody is meant"),
    ([0.5] * 40, [True] * 20 + [False] * 20, "no higher where somebody is meant"),
])  # fmt: skip
def test_what_says_nothing_is_refused(chances, somebody, said):
    with pytest.raises(RefHCMError, match=said):
        fit(chances, somebody)


# -- the command --------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path, people_model, tiny_text_model, tiny_label_map, tiny_masks):
    model, vocabulary = people_model
    sections = {"vocabulary": describe_vocabulary(vocabulary), "nobody": True, "region_prompts": True}
    save_folder(tmp_path / "model", model, sections, torch.float32, files=[tiny_text_model])
    save_label_map(tmp_path / "model", tiny_label_map, torch.float32)
    save_label_map(tmp_path / "model", tiny_masks, torch.float32)
    return tmp_path / "model"


def test_the_command_writes_what_predictions_then_decide_by(folder, tmp_path, monkeypatch, capsys):
    crowd, before = write_crowd(tmp_path), json.loads((folder / "config.json").read_text())

    def answer(model, task, batch, **options):  # random weights know nothing
        readings = answer_batch(model, task, batch, **options)
        for number, (reading, truth) in enumerate(zip(readings, batch["annotations"], strict=True)):
            reading.presence = (0.3 if truth.people == () else 0.6) + 0.05 * (number % 3)
        return readings

    monkeypatch.setattr(evaluation, "answer_batch", answer)
    with pytest.raises(SystemExit, match="6 questions about somebody and 2 about nobody"):
        calibrate.main([str(folder), "--data", str(crowd)])
    assert json.loads((folder / "config.json").read_text()) == before
    monkeypatch.setattr(calibrate, "LEAST", 2)
    calibrate.main([str(folder), "--data", str(crowd), "--out", str(tmp_path / "kept")])
    after = json.loads((folder / "config.json").read_text())
    presence = Presence(**after.pop("presence"))
    assert after == before and refhcm.load(folder).presence == presence != Presence()
    assert capsys.readouterr().out.startswith("8 questions; scale ")
    assert not list(folder.glob(".*"))


def test_a_model_that_cannot_say_nobody_is_refused(tiny_folder, tmp_path):
    with pytest.raises(SystemExit, match="calibrate: The model was not trained with --nobody"):
        calibrate.main([str(tiny_folder), "--data", str(write_crowd(tmp_path))])
