"""Boxes: intersection over union, and the share of answers that hit.

A box is x1, y1, x2, y2 in continuous pixels; arrays are [N, 4], prediction i belonging to truth i.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PUBLISHED_EPS = 1e-6  # the published evaluation adds it to the union
MEAN_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
REPORTED_THRESHOLDS = (0.5, 0.7, 0.75, 0.9)


def box_iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of box i with box i: [N, 4], [N, 4] -> float64 [N] in 0..1.

    A box with x2 <= x1 or y2 <= y1 has no area; a pair without any area gives 0.
    """
    predicted, truth = _rows(predicted, np.float64), _rows(truth, np.float64)
    sides = np.minimum(predicted[:, 2:], truth[:, 2:]) - np.maximum(predicted[:, :2], truth[:, :2])
    inner = sides.clip(min=0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1) for boxes in (predicted, truth)]
    union = areas[0] + areas[1] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def published_box_hits(predicted: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The hit rule of OFA and RefHCM: single precision, 1e-6 added to the union, overlap sides positive."""
    predicted, truth = _rows(predicted, np.float32), _rows(truth, np.float32)
    sides = np.minimum(predicted[:, 2:], truth[:, 2:]) - np.maximum(predicted[:, :2], truth[:, :2])
    inner = sides.prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (predicted, truth)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = inner / (areas[0] + areas[1] - inner + np.float32(PUBLISHED_EPS))
    return (ratio >= threshold) & (sides > 0).all(axis=1)


class BoxMeter:
    """Collects one answer per question; a missing answer counts as wrong."""

    def __init__(self) -> None:
        self._predicted: list[tuple[float, ...]] = []
        self._truth: list[tuple[float, ...]] = []

    def add(self, predicted: Sequence[float] | None, truth: Sequence[float]) -> None:
        """One answer (None if there was none or it could not be read) and the right box, in one frame."""
        if predicted is None or not np.isfinite(np.asarray(predicted, dtype=np.float64)).all():
            predicted = (0.0, 0.0, 0.0, 0.0)  # a point, which overlaps with nothing
        self._predicted.append(tuple(map(float, predicted)))
        self._truth.append(tuple(map(float, truth)))

    def merge(self, other: BoxMeter) -> None:
        """Take in what another process collected."""
        self._predicted += other._predicted
        self._truth += other._truth

    def result(self) -> dict[str, float]:
        """Fractions: `acc@t`, `macc` (mean over .5:.05:.95), `miou`, `published_acc@0.5`; and `samples`."""
        count = len(self._truth)
        if not count:
            return {"samples": 0.0}
        predicted, truth = np.array(self._predicted), np.array(self._truth)
        iou = box_iou(predicted, truth)
        values = {f"acc@{t}": float((iou >= t).mean()) for t in REPORTED_THRESHOLDS}
        values["macc"] = float(np.mean([(iou >= t).mean() for t in MEAN_THRESHOLDS]))
        values["miou"] = float(iou.mean())
        values["published_acc@0.5"] = float(published_box_hits(predicted, truth).mean())
        return {**values, "samples": float(count)}


def _rows(boxes: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    rows = np.asarray(boxes, dtype=dtype)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"boxes must have the shape [N, 4], but have {rows.shape}")
    return rows
