"""Boxes of several people or nobody (GREC: He et al. 2023, arXiv 2308.16182; gRefCOCO).

A question is right when every person has a box and every box a person. The published code pairs them by
generalised IoU although its paper writes IoU, which is more lenient: both are counted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .boxes import box_iou_pairs, generalized_iou_pairs

MATCH_THRESHOLD = 0.5
SCORE_THRESHOLD = 0.7
"""The published code keeps the boxes whose score reaches this."""


def matched_pairs(similarity: np.ndarray, threshold: float = MATCH_THRESHOLD) -> int:
    """How many pairs of a box and a person reach `threshold`, each used once, the most similar pair first.

    `similarity` is [boxes, people]; of equal pairs the earlier box, then the earlier person, goes first.
    """
    left = np.array(similarity, dtype=np.float64)
    pairs = 0
    while left.size and left.max() >= threshold:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        left[row, :] = left[:, column] = -np.inf
        pairs += 1
    return pairs


class GrecMeter:
    """Collects the boxes of one question after the other.

    Only their numbers are kept: what matched, what was given, what was meant.
    """

    def __init__(self, score_threshold: float = SCORE_THRESHOLD) -> None:
        self.score_threshold = score_threshold
        self._counts: list[tuple[int, int, int, int]] = []

    def add(
        self,
        predicted: Sequence[Sequence[float]],
        truth: Sequence[Sequence[float]],
        scores: Sequence[float] | None = None,
    ) -> None:
        """One question.

        Args:
            predicted: Boxes; none at all says that nobody is meant. A box with a number that is not finite is one
                that meets nobody.
            truth: The boxes of all who are meant; none where nobody is.
            scores: Confidence of each predicted box; without them all are kept.
        """
        boxes, people = _boxes(predicted), _boxes(truth)
        if scores is not None:
            if len(scores) != len(boxes):
                raise ValueError(f"{len(boxes)} boxes came with {len(scores)} scores; give one for each")
            boxes = boxes[np.asarray(scores, dtype=np.float64) >= self.score_threshold]
        boxes = np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0.0)
        strict, lenient = (matched_pairs(measure(boxes, people)) for measure in (generalized_iou_pairs, box_iou_pairs))
        self._counts.append((strict, lenient, len(boxes), len(people)))

    def merge(self, other: GrecMeter) -> None:
        """Take in what another process collected."""
        if other.score_threshold != self.score_threshold:
            raise ValueError(
                f"cannot merge boxes kept from a score of {other.score_threshold} into those kept from "
                f"{self.score_threshold}"
            )
        self._counts += other._counts

    def result(self) -> dict[str, float]:
        """Fractions: `f1_score@0.5` (the published one, by generalised IoU) and `f1_score_iou@0.5` (by IoU), the
        shares of questions with F1 = 1; `n_acc`, the share of questions about nobody that got no box, and
        `t_acc`, the share of the others that got one. And `samples`. What no sample determines is left out.

        With pairs by IoU also precision (pairs per box), recall (pairs per person) and F1 (twice the pairs per box and
        person): `micro_...@0.5` of all questions' numbers together, in which crowds weigh more, and `macro_...@0.5`,
        the mean over questions of each question's own. Of a question, precision without a box and recall without a
        person are 1 where nobody is meant and nobody found, and 0 otherwise.
        """
        if not self._counts:
            return {"samples": 0.0}
        strict, lenient, given, meant = np.array(self._counts).T
        nobody = meant == 0
        values = {
            f"f1_score@{MATCH_THRESHOLD}": float(((strict == given) & (strict == meant)).mean()),
            f"f1_score_iou@{MATCH_THRESHOLD}": float(((lenient == given) & (lenient == meant)).mean()),
        }
        each = [dict(_rates(*counts[1:])) for counts in self._counts]
        for name, value in _rates(int(lenient.sum()), int(given.sum()), int(meant.sum())):
            values[f"micro_{name}@{MATCH_THRESHOLD}"] = value
            values[f"macro_{name}@{MATCH_THRESHOLD}"] = float(np.mean([rates[name] for rates in each]))
        if nobody.any():
            values["n_acc"] = float((given[nobody] == 0).mean())
        if not nobody.all():
            values["t_acc"] = float((given[~nobody] > 0).mean())
        return {**values, "samples": float(len(self._counts))}


def _rates(pairs: int, given: int, meant: int) -> Iterator[tuple[str, float]]:
    """Precision, recall and F1 by their names."""
    nothing = float(given == meant == 0)
    yield "precision", pairs / given if given else nothing
    yield "recall", pairs / meant if meant else nothing
    yield "f1", 2 * pairs / (given + meant) if given + meant else nothing


def _boxes(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) if len(boxes) else np.zeros((0, 4))
