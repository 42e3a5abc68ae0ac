"""Chances that anybody fits: ranking, threshold and calibration are what their definitions say, computed otherwise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refhcm.metrics.presence import PresenceMeter, best_threshold, calibration_error, ranking_quality

answers = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]), st.booleans()), min_size=1)


def f1(chances, truth, threshold):
    """The mean over both kinds, from precision and recall of each."""
    present = [chance >= threshold for chance in chances]
    found = []
    for kind in (True, False):
        hits = sum(p == t == kind for p, t in zip(present, truth, strict=True))
        precision, recall = hits / max(1, present.count(kind)), hits / truth.count(kind)
        found.append(2 * precision * recall / (precision + recall) if hits else 0)
    return sum(found) / 2


@given(answers)
def test_the_area_is_how_often_somebody_ranks_before_nobody(pairs):
    chances, truth = zip(*pairs, strict=True)
    duels = [(a > b) + (a == b) / 2 for a, t in pairs if t for b, f in pairs if not f]
    found = ranking_quality(chances, truth)
    assert found == pytest.approx(sum(duels) / len(duels)) if duels else np.isnan(found)


@given(answers)
def test_no_threshold_has_a_better_f1_and_the_one_that_is_told_has_it(pairs):
    chances, truth = zip(*pairs, strict=True)
    threshold, best = best_threshold(chances, truth)
    if len(set(truth)) == 1:
        assert np.isnan(threshold) and np.isnan(best)
        return
    tried = [f1(chances, truth, other) for other in (0.0, 0.05, 0.2, 0.3, 0.6, 0.8, 0.95, 1.0)]
    assert best == pytest.approx(max(tried)) == pytest.approx(f1(chances, truth, threshold))
    assert 0 <= threshold <= 1


def test_the_threshold_lies_midway_between_the_answers_that_it_parts():
    assert best_threshold([0.9, 0.8, 0.2], [True, True, False]) == (pytest.approx(0.5), 1.0)
    # All somebody: (4/5 + 0) / 2; all but the surest wrong one: (1/2 + 0) / 2, worse than the lowest threshold.
    assert best_threshold([0.9, 0.2, 0.2], [False, True, True]) == (pytest.approx(0.1), pytest.approx(0.4))


def test_a_rare_kind_counts_as_much():
    """To find one of ten that are about nobody is worth a wrong answer about somebody."""
    chances, truth = [0.9] * 8 + [0.3, 0.3], [True] * 9 + [False]
    assert best_threshold(chances, truth)[0] == pytest.approx(0.6)


def test_calibration_worked_by_hand():
    chances, truth = [0.05, 0.05, 0.95, 0.85, 1.0], [False, True, True, False, True]
    # Parts of a tenth: two answers of 0.05 with one half true; 0.85 with none; 0.95 and 1.0, both true.
    wanted = (2 * abs(0.05 - 0.5) + abs(0.85 - 0) + 2 * abs(0.975 - 1)) / 5
    assert calibration_error(chances, truth) == pytest.approx(wanted)
    assert calibration_error([0.5] * 4, [True, True, False, False]) == 0
    assert calibration_error(chances, truth, bins=1) == pytest.approx(abs(np.mean(chances) - 0.6))


def test_figures_of_answers_worked_by_hand():
    meter = PresenceMeter()
    for chance, present, somebody in ((0.9, True, True), (0.6, True, False), (0.7, False, True), (0.1, False, False)):
        meter.add(chance, present, somebody)
    assert meter.result() == pytest.approx({
        "n_acc": 0.5, "t_acc": 0.5, "f1": 0.5, "auc": 1.0, "best_f1": 1.0, "best_threshold": 0.65, "samples": 4.0,
        "ece": (0.1 + 0.6 + 0.3 + 0.1) / 4,
    })  # fmt: skip
    meter.add(None, True, True)  # an answer that came without a chance
    assert set(meter.result()) == {"n_acc", "t_acc", "f1", "samples"}


def test_what_no_question_determines_is_left_out():
    meter = PresenceMeter()
    meter.add(0.3, True, False)
    assert meter.result() == pytest.approx({"n_acc": 0.0, "ece": 0.3, "samples": 1.0})
    with pytest.raises(ValueError, match=r"lies in 0\.\.1"):
        ranking_quality([1.5], [True])
    with pytest.raises(ValueError, match="one for each"):
        ranking_quality([0.5], [True, False])
