"""Part maps: all from one confusion matrix (rows truth, columns prediction), added up over the whole set.

Part maps of several people in one picture, each with a score, are scored in `metrics.parsing_people`.
"""

from __future__ import annotations

import numpy as np

NUM_CLASSES = 20
PUBLISHED_CANVAS = 512
"""Side of the square at which RefHCM's published evaluation compares part maps."""
ABSENT = ("skip", "zero", "truth")
"""What `mean_iou` can do about classes that do not occur."""


def confusion(predicted: np.ndarray, truth: np.ndarray, classes: int = NUM_CLASSES) -> np.ndarray:
    """Count pixels per (true class, predicted class): int64 [classes, classes].

    Pixels whose truth lies outside 0..classes-1 (-1 or 255: ignored) are left out. A prediction outside
    that range counts as background; it would otherwise slip into a neighbouring row of the matrix.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"part maps differ in size: {predicted.shape} and, true, {truth.shape}; resize one")
    counted = (truth >= 0) & (truth < classes)
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    columns[(columns < 0) | (columns >= classes)] = 0
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union per class: float64 [classes], nan for a class that neither side has."""
    matrix = np.asarray(matrix, dtype=np.float64)
    hits = matrix.diagonal()
    return _ratio(hits, matrix.sum(axis=0) + matrix.sum(axis=1) - hits)


def mean_iou(matrix: np.ndarray, background: bool = True, absent: str = "skip") -> float:
    """Mean intersection over union of the classes; nan if none counts.

    Args:
        matrix: Counts [classes, classes], rows truth.
        background: Whether class 0 counts.
        absent: Which classes count. "skip": those that the truth or the prediction has (Parsing R-CNN; RefHCM and
            UniHCP add up the classes they find and divide by the number that occur, which is the same).
            "zero": all, one that does not occur as 0 (SCHP). "truth": those that the truth has. The three agree
            where every class occurs in the truth, as on all of CIHP val; on a part of it they do not.
    """
    if absent not in ABSENT:
        raise ValueError(f"unknown treatment of absent classes {absent!r}: it is one of {', '.join(ABSENT)}")
    matrix = np.asarray(matrix, dtype=np.float64)
    iou = class_iou(matrix)
    if absent == "zero":
        iou = np.nan_to_num(iou, nan=0.0) if matrix.any() else iou
    if absent == "truth":
        iou = np.where(matrix.sum(axis=1) > 0, iou, np.nan)
    return _mean(iou[0 if background else 1 :])


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Share of the counted pixels whose class is right."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return float(matrix.trace() / matrix.sum()) if matrix.sum() else float("nan")


def mean_accuracy(matrix: np.ndarray, background: bool = True) -> float:
    """Mean over the classes of the truth of the share of their pixels that was found (recall)."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return _mean(_ratio(matrix.diagonal(), matrix.sum(axis=1))[0 if background else 1 :])


def mean_precision(matrix: np.ndarray, background: bool = True) -> float:
    """Mean over the predicted classes of the share of their pixels that is right.

    The published evaluation prints this number under the name of mean accuracy.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    return _mean(_ratio(matrix.diagonal(), matrix.sum(axis=0))[0 if background else 1 :])


def zoom_nearest(parts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part map [H, W] at `size` (height, width), every pixel the label of its nearest, first and last on each other.

    This is how the published evaluation brings the truth to its canvas (scipy's zoom of order 0); other programs put
    the pixels' centres on each other, which gives another map at outlines.
    """
    rows, columns = (
        np.floor(np.arange(new) * ((old - 1) / max(1, new - 1)) + 0.5).astype(np.int64)
        for old, new in zip(np.shape(parts), size, strict=True)
    )
    return np.asarray(parts)[np.ix_(rows, columns)]


class ParsingMeter:
    """Adds up the confusion of any number of part maps."""

    def __init__(self, classes: int = NUM_CLASSES, canvas: int | None = None) -> None:
        """With `canvas`, maps are compared on a square of so many pixels: `PUBLISHED_CANVAS` is the published
        protocol. The truth is zoomed to it (`zoom_nearest`), and so is a prediction that has not that size already;
        the published code pastes its codes into the box on the canvas itself.
        """
        if canvas is not None and canvas < 1:
            raise ValueError(f"a canvas of {canvas} pixels holds no part map; give 1 or more")
        self.classes = classes
        self.canvas = canvas
        self.matrix = np.zeros((classes, classes), dtype=np.int64)
        self._person_iou: list[float] = []

    def add(self, predicted: np.ndarray | None, truth: np.ndarray) -> None:
        """One map and its truth, integer [H, W] of equal size (the canvas's size serves too, if there is one);
        None for no answer (all background).
        """
        truth = np.asarray(truth)
        if self.canvas is not None:
            square = (self.canvas, self.canvas)
            if predicted is not None and np.shape(predicted) != square:
                if np.shape(predicted) != truth.shape:
                    raise ValueError(
                        f"a part map of {np.shape(predicted)} is neither the size of the truth, "
                        f"{truth.shape}, nor that of the canvas, {square}; resize it"
                    )
                predicted = zoom_nearest(predicted, square)
            truth = zoom_nearest(truth, square)
        matrix = confusion(np.zeros_like(truth) if predicted is None else predicted, truth, self.classes)
        self.matrix += matrix
        self._person_iou.append(mean_iou(matrix))

    def merge(self, other: ParsingMeter) -> None:
        """Take in what another process collected."""
        if other.classes != self.classes:
            raise ValueError(f"cannot merge part maps of {other.classes} classes into {self.classes}")
        if other.canvas != self.canvas:
            raise ValueError(f"cannot merge part maps at a canvas of {other.canvas} into those at {self.canvas}")
        self.matrix += other.matrix
        self._person_iou += other._person_iou

    def result(self) -> dict[str, float]:
        """Fractions: `miou` over the whole set (the published rule), `miou_foreground` without background,
        `miou_absent_zero` and `miou_truth_classes` (the other treatments of absent classes, see `mean_iou`),
        `miou_person` (mean over maps), `pixel_accuracy`, `mean_accuracy`, `mean_precision` (printed as "mean
        accuracy" by the published code); `classes` that occur and `samples`.
        """
        count = len(self._person_iou)
        if not self.matrix.any():
            return {"samples": float(count)}
        values = {
            "miou": mean_iou(self.matrix),
            "miou_foreground": mean_iou(self.matrix, background=False),
            "miou_absent_zero": mean_iou(self.matrix, absent="zero"),
            "miou_truth_classes": mean_iou(self.matrix, absent="truth"),
            "miou_person": _mean(np.array(self._person_iou)),
            "pixel_accuracy": pixel_accuracy(self.matrix),
            "mean_accuracy": mean_accuracy(self.matrix),
            "mean_precision": mean_precision(self.matrix),
            "classes": float((~np.isnan(class_iou(self.matrix))).sum()),
        }
        return {
            **{name: value for name, value in values.items() if not np.isnan(value)},
            "samples": float(count),
        }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else float("nan")
