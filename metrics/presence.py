"""Whether anybody fits: how well the chance that a model gives it tells questions about somebody from the others.

A question is about somebody (True) or nobody (False); a chance lies in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 10
"""Into how many parts `calibration_error` cuts the chances."""


def ranking_quality(chances: Sequence[float], somebody: Sequence[bool]) -> float:
    """Area under the ROC curve: how often a question about somebody has the higher chance than one about nobody, ties
    counting half; nan without both kinds."""
    values, truth = _checked(chances, somebody)
    yes, no = np.sort(values[truth]), np.sort(values[~truth])
    if not len(yes) or not len(no):
        return float("nan")
    below = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return float(below.sum() / (2 * len(yes) * len(no)))


def best_threshold(chances: Sequence[float], somebody: Sequence[bool]) -> tuple[float, float]:
    """The threshold with the best F1, and that F1; (nan, nan) without both kinds of questions.

    The answer is somebody where the chance is the threshold or more, and F1 the mean of those of finding somebody and
    of finding nobody, so that the rarer kind counts as much. The threshold lies midway between two chances that occur,
    which it parts, or (0 and 1 taken for such) beyond all of them; of equally good ones it is the highest.
    """
    values, truth = _checked(chances, somebody)
    if truth.all() or not truth.any():
        return float("nan"), float("nan")
    order = np.argsort(-values, kind="stable")
    ranked = np.array([1.0, *values[order], 0.0])  # a threshold may lie behind any but the last
    hits, present = np.array([0, *truth[order].cumsum()]), np.arange(len(values) + 1)
    parts = ranked[1:] < ranked[:-1]  # it cannot lie between equal chances
    parts[-1] = True
    f1 = np.where(parts, mean_f1(hits, present, hits[-1], len(values)), -1.0)
    place = int(f1.argmax())
    return float((ranked[place] + ranked[place + 1]) / 2), float(f1[place])


def mean_f1(hits: np.ndarray, present: np.ndarray, somebody: int, count: int) -> np.ndarray:
    """The mean F1 of finding somebody and of finding nobody in `count` questions, `somebody` of which are about
    somebody (some, and not all): of answers `present` of which name somebody, `hits` rightly."""
    nobody = count - present - (somebody - hits)
    return hits / (present + somebody) + nobody / (count - present + count - somebody)


def calibration_error(chances: Sequence[float], somebody: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: over so many equal parts of [0, 1], how far the mean chance is from the share that is
    about somebody, weighted by the questions in each; nan without questions."""
    values, truth = _checked(chances, somebody)
    if not len(values):
        return float("nan")
    part = np.minimum((values * bins).astype(np.int64), bins - 1)
    excess = np.bincount(part, weights=values - truth, minlength=bins)
    return float(np.abs(excess).sum() / len(values))


class PresenceMeter:
    """Collects one answer per question."""

    def __init__(self) -> None:
        self._answers: list[tuple[float | None, bool, bool]] = []

    def add(self, chance: float | None, present: bool, somebody: bool) -> None:
        """The chance that anybody fits (None: the model gave none), whether the answer names anybody, and the truth."""
        self._answers.append((chance, present, somebody))

    def merge(self, other: PresenceMeter) -> None:
        """Take in what another process collected."""
        self._answers += other._answers

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; what no sample determines is left out.

        Of the answers: `n_acc`, the share of questions about nobody that were answered so; `t_acc`, the share of the
        others that were not; `f1`, the mean of those of finding somebody and of finding nobody. Of the chances, where
        every answer came with one: `auc`, `best_f1` with its `best_threshold`, and `ece` (see the functions above).
        """
        if not self._answers:
            return {"samples": 0.0}
        chances = [chance for chance, _, _ in self._answers if chance is not None]
        present, somebody = (np.array([answer[k] for answer in self._answers], bool) for k in (1, 2))
        values = {}
        if not somebody.all():
            values["n_acc"] = float((~present[~somebody]).mean())
        if somebody.any():
            values["t_acc"] = float(present[somebody].mean())
        both, all_told = len(values) == 2, len(chances) == len(self._answers)
        if both:
            hits = (present & somebody).sum()
            values["f1"] = float(mean_f1(hits, present.sum(), int(somebody.sum()), len(somebody)))
        if both and all_told:
            values["auc"] = ranking_quality(chances, somebody.tolist())
            values["best_threshold"], values["best_f1"] = best_threshold(chances, somebody.tolist())
        if all_told:
            values["ece"] = calibration_error(chances, somebody.tolist())
        return {**values, "samples": float(len(present))}


def _checked(chances: Sequence[float], somebody: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(chances, np.float64), np.asarray(somebody, bool)
    if values.shape != truth.shape or values.ndim != 1:
        raise ValueError(f"{values.shape} chances came with {truth.shape} truths; give one for each")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a chance lies in 0..1")
    return values, truth
