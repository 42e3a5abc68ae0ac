"""Boxes: intersection over union, the share of answers that hit, and COCO's average precision.

A box is x1, y1, x2, y2 in continuous pixels; arrays are [N, 4], prediction i belonging to truth i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .coco import Detection, GroundTruth, average_precision

PUBLISHED_EPS = 1e-6  # the published evaluation adds it to the union
MEAN_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
REPORTED_THRESHOLDS = (0.5, 0.7, 0.75, 0.9)
ONE_ANSWER_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1")
"""What a set with one answer per question has; more answers per picture would not change COCO's other figures."""


def box_iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of box i with box i: [N, 4], [N, 4] -> float64 [N] in 0..1.

    A box with x2 <= x1 or y2 <= y1 has no area; a pair without any area gives 0.
    """
    inner, union = _overlap(_rows(predicted, np.float64), _rows(truth, np.float64))
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def box_iou_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every box: [N, 4], [M, 4] -> float64 [N, M] in 0..1."""
    inner, union = _overlap(_rows(first, np.float64)[:, None], _rows(second, np.float64)[None])
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def generalized_iou_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Generalised intersection over union (Rezatofighi et al. 2019) of every box with every box.

    IoU minus the share of the smallest enclosing box that neither fills: [N, 4], [M, 4] -> float64 [N, M] in
    -1..1. Two boxes whose enclosing box has no area give -1. Not the gIoU of referring segmentation.
    """
    first, second = _rows(first, np.float64)[:, None], _rows(second, np.float64)[None]
    inner, union = _overlap(first, second)
    sides = np.maximum(first[..., 2:], second[..., 2:]) - np.minimum(first[..., :2], second[..., :2])
    hull = sides.clip(min=0).prod(axis=-1)
    iou = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    empty = (hull - union).clip(min=0)  # rounding may leave less than nothing
    return iou - np.divide(empty, hull, out=np.ones_like(inner), where=hull > 0)


def published_box_hits(predicted: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The hit rule of OFA and RefHCM: single precision, 1e-6 added to the union, overlap sides positive."""
    predicted, truth = _rows(predicted, np.float32), _rows(truth, np.float32)
    sides = np.minimum(predicted[:, 2:], truth[:, 2:]) - np.maximum(predicted[:, :2], truth[:, :2])
    inner = sides.prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (predicted, truth)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = inner / (areas[0] + areas[1] - inner + np.float32(PUBLISHED_EPS))
    return (ratio >= threshold) & (sides > 0).all(axis=1)


def box_ap(
    predicted: Sequence[Sequence[float] | None],
    scores: Sequence[float],
    truth: Sequence[Sequence[float]],
    areas: Sequence[float | None] | None = None,
) -> dict[str, float]:
    """COCO's box AP and AR (`coco.REGION_NAMES`) of one answer per question; see `coco.average_precision`.

    Args:
        predicted: Boxes, or None for no answer.
        scores: Confidence of each answer.
        truth: Right boxes.
        areas: Segment areas, by which COCO tells small from large; None takes the areas of the boxes.
    """
    sizes = [None] * len(truth) if areas is None else areas
    return average_precision("bbox", [
        ([] if box is None else [Detection(float(score), box)], [GroundTruth(right, area)])
        for box, score, right, area in zip(predicted, scores, truth, sizes, strict=True)
    ])  # fmt: skip


class BoxMeter:
    """Collects one answer per question; a missing answer counts as wrong."""

    def __init__(self) -> None:
        self._predicted: list[tuple[float, ...] | None] = []
        self._truth: list[tuple[float, ...]] = []
        self._scores: list[float | None] = []
        self._areas: list[float | None] = []

    def add(
        self,
        predicted: Sequence[float] | None,
        truth: Sequence[float],
        score: float | None = None,
        area: float | None = None,
    ) -> None:
        """One answer.

        Args:
            predicted: The box, in the frame of `truth`; None if there was none or it could not be read.
            truth: The right box.
            score: Confidence. The result has COCO's AP only where all answers came with one.
            area: Segment area of the person, by which AP tells small from large; None takes the box's.
        """
        if predicted is not None and not np.isfinite(np.asarray(predicted, dtype=np.float64)).all():
            predicted = None
        if score is not None and not math.isfinite(score):
            raise ValueError(f"a score must be a finite number, but is {score}")
        self._predicted.append(None if predicted is None else tuple(map(float, predicted)))
        self._truth.append(tuple(map(float, truth)))
        self._scores.append(score)
        self._areas.append(area)

    def merge(self, other: BoxMeter) -> None:
        """Take in what another process collected."""
        for name in ("_predicted", "_truth", "_scores", "_areas"):
            getattr(self, name).extend(getattr(other, name))

    def result(self) -> dict[str, float]:
        """Fractions: `acc@t`, `macc` (mean over .5:.05:.95), `miou`, `published_acc@0.5`, with scores also
        `ONE_ANSWER_NAMES`; and `samples`. A value that no sample determines is left out.
        """
        count = len(self._truth)
        if not count:
            return {"samples": 0.0}
        nothing = (0.0, 0.0, 0.0, 0.0)  # a point, which overlaps with nothing
        predicted, truth = np.array([box or nothing for box in self._predicted]), np.array(self._truth)
        iou = box_iou(predicted, truth)
        values = {f"acc@{t}": float((iou >= t).mean()) for t in REPORTED_THRESHOLDS}
        values["macc"] = float(np.mean([(iou >= t).mean() for t in MEAN_THRESHOLDS]))
        values["miou"] = float(iou.mean())
        values["published_acc@0.5"] = float(published_box_hits(predicted, truth).mean())
        scores = [score for score in self._scores if score is not None]
        if len(scores) == count:
            ap = box_ap(self._predicted, scores, self._truth, self._areas)
            values.update({name: ap[name] for name in ONE_ANSWER_NAMES if not math.isnan(ap[name])})
        return {**values, "samples": float(count)}


def _overlap(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas of intersection and of union of boxes [..., 4], broadcast."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    inner = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(axis=-1) for boxes in (first, second)]
    return inner, areas[0] + areas[1] - inner


def _rows(boxes: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    rows = np.asarray(boxes, dtype=dtype)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"boxes must have the shape [N, 4], but have {rows.shape}")
    return rows
