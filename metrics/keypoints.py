"""Keypoints: object keypoint similarity (OKS), COCO's average precision, share of correct keypoints (PCK).

Points are [17, 2 or more] arrays, x and y first, in COCO order and continuous pixels. Only the truth's
third number counts (v > 0 is labelled); what a model says about the visibility of its answer is ignored, as
in COCO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from .boxes import MEAN_THRESHOLDS
from .coco import Detection, GroundTruth, average_precision
from .pck import correct_keypoints as correct_keypoints
from .pck import pck

COCO_SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], dtype=np.float64
) / 1000  # fmt: skip
"""Spread of human annotators per keypoint, relative to the person's scale (COCO keypoint evaluation)."""

BOX_TO_SEGMENT_AREA = 0.53
"""Usual estimate of a person's segment area from the box area, where no segment is known."""


def _similarity(squared: np.ndarray, area: float) -> np.ndarray:
    """exp(-d^2 / (2 area k^2)) with k = 2 sigma, per keypoint."""
    return np.exp(-squared / (2 * (area + np.spacing(1)) * (2 * COCO_SIGMAS) ** 2))


def coco_oks(predicted: np.ndarray, truth: np.ndarray, area: float) -> float:
    """OKS over the keypoints with v > 0.

    Args:
        predicted: Points [17, 2+].
        truth: x, y, v [17, 3].
        area: The person's segment area in square pixels.

    Returns:
        0..1, or nan if nothing is labelled (COCO leaves such a person out).
    """
    labelled = np.asarray(truth)[:, 2] > 0
    if not labelled.any():
        return float("nan")
    offsets = np.asarray(predicted, dtype=np.float64)[:, :2] - np.asarray(truth, dtype=np.float64)[:, :2]
    return float(_similarity((offsets**2).sum(axis=1), area)[labelled].mean())


def published_oks(predicted: np.ndarray, truth: np.ndarray, box: Sequence[float]) -> float:
    """OKS as RefHCM measures it: the scale is the area of the *box*, and (0, 0) means unlabelled.

    Without any labelled keypoint, all 17 are measured by how far they lie outside the box enlarged by its
    own width and height on every side, so that a sensible answer still counts.

    Args:
        predicted: Points [17, 2+]; a missing point is (0, 0), which is far away.
        truth: Points [17, 2+].
        box: x1, y1, x2, y2 of the right box.
    """
    points = np.asarray(predicted, dtype=np.float64)[:, :2]
    target = np.asarray(truth, dtype=np.float64)[:, :2]
    x1, y1, x2, y2 = (float(value) for value in box)
    size = np.array([x2 - x1, y2 - y1])
    labelled = (target != 0).any(axis=1)
    if labelled.any():
        offsets = points - target
    else:
        low, high = np.array([x1, y1]) - size, np.array([x2, y2]) + size
        offsets = (low - points).clip(min=0) + (points - high).clip(min=0)
        labelled[:] = True
    return float(_similarity((offsets**2).sum(axis=1), float(size.prod()))[labelled].mean())


def keypoint_ap(
    predicted: Sequence[np.ndarray | None],
    scores: Sequence[float],
    truth: Sequence[np.ndarray],
    areas: Sequence[float],
    boxes: Sequence[Sequence[float]],
) -> dict[str, float]:
    """COCO keypoint AP and AR (the ten numbers of `coco.KEYPOINT_NAMES`) of one answer per question.

    AP orders the answers by score: with a constant score it is close to the square of the accuracy, with a
    perfect order it is the accuracy (`coco_macc` of the meter). See `coco.average_precision`.

    Args:
        predicted: Points [17, 2+], or None for no answer.
        scores: Confidence of each answer.
        truth: x, y, v [17, 3] each.
        areas: Segment area of each person.
        boxes: Right boxes, x1, y1, x2, y2.

    Returns:
        Fractions; nan where COCO prints -1 (no such person in the set).
    """
    return average_precision("keypoints", [
        ([] if points is None else [Detection(float(score), keypoints=points)], [GroundTruth(box, area, target)])
        for points, score, target, area, box in zip(predicted, scores, truth, areas, boxes, strict=True)
    ])  # fmt: skip


class KeypointMeter:
    """Collects one answer per question.

    `oks` and `published_oks@t` follow RefHCM (box area, coordinates other than zero); `coco_oks`, `coco_macc`,
    `ap*` and `ar*` follow COCO (segment area, v > 0); `pck*` counts labelled keypoints.
    """

    PCK: ClassVar[dict[str, tuple[str, float]]] = {
        "pck@0.05": ("box", 0.05),
        "pck@0.1": ("box", 0.1),
        "pck@0.2": ("box", 0.2),
        "pck_torso@0.2": ("torso", 0.2),
        "pckh_ears@0.5": ("ears", 0.5),
    }
    """The printed variants: length (`pck.LENGTHS`) and fraction. The last is UniPHD's PCKh."""

    def __init__(self) -> None:
        self._predicted: list[np.ndarray | None] = []
        self._scores: list[float] = []
        self._truth: list[np.ndarray] = []
        self._areas: list[float] = []
        self._boxes: list[tuple[float, ...]] = []

    def add(
        self,
        predicted: np.ndarray | None,
        truth: np.ndarray,
        box: Sequence[float],
        area: float | None = None,
        score: float = 1.0,
    ) -> None:
        """One answer.

        Args:
            predicted: Points [17, 2+] in pixels, absent ones at (0, 0); None for no answer at all. A point that is
                not finite counts as absent.
            truth: x, y, v [17, 3].
            box: The right box, x1, y1, x2, y2.
            area: Segment area; `BOX_TO_SEGMENT_AREA` times the box area if not known.
            score: Confidence, for AP.
        """
        truth = np.array(truth, dtype=np.float64)
        if truth.shape != (len(COCO_SIGMAS), 3):
            raise ValueError(f"keypoint labels must have the shape (17, 3), but have {truth.shape}")
        if not math.isfinite(score):
            raise ValueError(f"a score must be a finite number, but is {score}")
        if predicted is not None:
            predicted = np.array(predicted, dtype=np.float64)[:, :2]
            predicted[~np.isfinite(predicted).all(axis=1)] = 0.0
        x1, y1, x2, y2 = (float(value) for value in box)
        if area is None:
            area = BOX_TO_SEGMENT_AREA * max(0.0, x2 - x1) * max(0.0, y2 - y1)
        self._predicted.append(predicted)
        self._scores.append(float(score))
        self._truth.append(truth)
        self._areas.append(float(area))
        self._boxes.append((x1, y1, x2, y2))

    def merge(self, other: KeypointMeter) -> None:
        """Take in what another process collected."""
        for name in ("_predicted", "_scores", "_truth", "_areas", "_boxes"):
            getattr(self, name).extend(getattr(other, name))

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; a value that no sample determines is left out.

        `coco_macc` is the mean over .5:.05:.95 of the share of people with COCO's OKS at or above it, which needs
        no scores; `ap_constant_score` is the AP of the same answers in the order they came, for comparison with
        models that give no score.
        """
        count = len(self._truth)
        if not count:
            return {"samples": 0.0}
        missing = np.zeros((len(COCO_SIGMAS), 2))
        points = [missing if predicted is None else predicted for predicted in self._predicted]
        published = np.array([published_oks(*row) for row in zip(points, self._truth, self._boxes, strict=True)])
        coco = np.array([coco_oks(*row) for row in zip(points, self._truth, self._areas, strict=True)])
        coco = coco[~np.isnan(coco)]
        labels = (self._truth, self._areas, self._boxes)
        values = {
            "oks": float(published.mean()),
            "published_oks@0.5": float((published >= 0.5).mean()),
            "published_oks@0.75": float((published >= 0.75).mean()),
            **{name: pck(points, self._truth, self._boxes, *variant)["pck"] for name, variant in self.PCK.items()},
            **keypoint_ap(self._predicted, self._scores, *labels),
            "ap_constant_score": keypoint_ap(self._predicted, [1.0] * count, *labels)["ap"],
        }
        if len(coco):
            values["coco_oks"] = float(coco.mean())
            values["coco_macc"] = float(np.mean([(coco >= t).mean() for t in MEAN_THRESHOLDS]))
        known = {name: value for name, value in values.items() if not np.isnan(value)}
        return {**known, "samples": float(count)}
