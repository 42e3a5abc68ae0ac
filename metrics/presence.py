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
    """The threshold with the best F1 of finding that somebody fits (where the chance is the threshold or more), and
    that F1.

    It lies midway between two chances that occur, above and below which the answers differ, or below the lowest; of
    equally good ones it is the highest. (nan, nan) where no question is about somebody.
    """
    values, truth = _checked(chances, somebody)
    if not truth.any():
        return float("nan"), float("nan")
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], truth[order].cumsum()
    last = np.append(ranked[1:] < ranked[:-1], True)  # answers may part only behind all that have the same chance
    f1 = np.where(last, 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1]), -1.0)
    place = int(f1.argmax())
    following = ranked[place + 1] if place + 1 < len(ranked) else 0.0
    return float((ranked[place] + following) / 2), float(f1[place])


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
        others that were not; `f1`, of finding that somebody fits. Of the chances, where every answer came with one:
        `auc`, `best_f1` with its `best_threshold`, and `ece` (see the functions above).
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
            values["f1"] = float(2 * (present & somebody).sum() / (present.sum() + somebody.sum()))
        if len(chances) == len(self._answers):
            truth = somebody.tolist()
            if len(set(truth)) == 2:  # of one kind alone every threshold at an end is the best
                values["auc"] = ranking_quality(chances, truth)
                values["best_threshold"], values["best_f1"] = best_threshold(chances, truth)
            values["ece"] = calibration_error(chances, truth)
        return {**values, "samples": float(len(present))}


def _checked(chances: Sequence[float], somebody: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(chances, np.float64), np.asarray(somebody, bool)
    if values.shape != truth.shape or values.ndim != 1:
        raise ValueError(f"{values.shape} chances came with {truth.shape} truths; give one for each")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a chance lies in 0..1")
    return values, truth
