"""Masks: referring segmentation of one person (RES), and of several or nobody (GRES).

Masks are [H, W], everything but 0 inside, prediction and truth of one size. The benchmarks differ in that size:
RefCOCO's printed figures are often taken at 480 x 480 (LAVT, ReLA), here they are at whatever is handed in, which
for a fair comparison with anything else is the picture's own size. IoU below is intersection over union.
"""

from __future__ import annotations

import numpy as np

from .parsing import confusion

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
GRES_THRESHOLDS = (0.7, 0.8, 0.9)


def mask_counts(predicted: np.ndarray | None, truth: np.ndarray | None) -> tuple[int, int, int]:
    """Pixels in both, in the prediction, and in the truth. None is an empty mask."""
    if truth is None:
        return 0, 0 if predicted is None else int(np.count_nonzero(predicted)), 0
    truth = np.asarray(truth) != 0
    if truth.ndim != 2:
        raise ValueError(f"a mask must have the shape [H, W], but has {truth.shape}")
    if predicted is None:
        return 0, 0, int(truth.sum())
    predicted = np.asarray(predicted) != 0
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in size: {predicted.shape} and, true, {truth.shape}; resize one")
    return int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())


def mask_iou(predicted: np.ndarray | None, truth: np.ndarray, empty: float = 0.0) -> float:
    """IoU of two masks, 0..1; `empty` where both are empty (0 in LAVT and ReLA, 1 by PINTO's convention)."""
    inner, given, meant = mask_counts(predicted, truth)
    return inner / (given + meant - inner) if given + meant else empty


def dice(predicted: np.ndarray | None, truth: np.ndarray) -> float:
    """Twice the intersection over the sum of both areas, 0..1; 1 where both are empty."""
    inner, given, meant = mask_counts(predicted, truth)
    return 2 * inner / (given + meant) if given + meant else 1.0


def boundary_iou(predicted: np.ndarray | None, truth: np.ndarray, ratio: float = 0.02) -> float:
    """IoU of the inner borders of two masks [H, W] (Cheng et al. 2021, arXiv 2103.16562), which is not easier for large
    people; 1 where both masks are empty.

    A border is what lies in the mask within `ratio` of the picture's diagonal (a pixel at least) of its outline, in
    squares; beyond the picture is outside.
    """
    truth = np.asarray(truth) != 0
    reach = max(1, round(ratio * float(np.hypot(*truth.shape))))
    mine = np.zeros_like(truth) if predicted is None else np.asarray(predicted) != 0
    return mask_iou(_border(mine, reach), _border(truth, reach), empty=1.0)


def _border(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels of a bool mask [H, W] around which a square of `reach` pixels each way is not all inside."""
    full = mask
    for axis in (0, 1):
        beyond = [(reach + 1, reach) if axis == along else (0, 0) for along in (0, 1)]
        inside = np.pad(full, beyond).cumsum(axis=axis, dtype=np.int32)
        span = inside.shape[axis] - 2 * reach - 1
        full = np.take(inside, range(2 * reach + 1, 2 * reach + 1 + span), axis) - np.take(inside, range(span), axis)
        full = full == 2 * reach + 1
    return mask & ~full


class MaskMeter:
    """Referring segmentation: collects one mask per question; a missing one counts as empty."""

    def __init__(self, empty: float = 0.0) -> None:
        """`empty` is the IoU of an empty prediction of an empty truth (see `mask_iou`)."""
        self.empty = empty
        self._counts: list[tuple[int, int, int]] = []

    def add(self, predicted: np.ndarray | None, truth: np.ndarray) -> None:
        """One mask and its truth, of equal size; None for no answer."""
        self._counts.append(mask_counts(predicted, truth))

    def add_counts(self, pixels: np.ndarray) -> None:
        """One that has been compared already: pixels by true and answered class, of which 1 is the mask."""
        self._counts.append((int(pixels[1, 1]), int(pixels[:, 1].sum()), int(pixels[1].sum())))

    def merge(self, other: MaskMeter) -> None:
        """Take in what another process collected."""
        if other.empty != self.empty:
            raise ValueError(
                f"cannot merge masks that score {other.empty} when empty with ones that score {self.empty}"
            )
        self._counts += other._counts

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; a value that no sample determines is left out.

        `miou` and `median_iou` of the samples; `oiou`, all intersections over all unions (also called cIoU, overall
        IoU, and in older tables just IoU), in which large people weigh more; `dice`, the mean; `p@t`, the share
        with IoU >= t (LAVT, SeqTR, ReLA), and `p_above@t`, that with IoU > t (CRIS, RefHuman).
        """
        if not self._counts:
            return {"samples": 0.0}
        inner, given, meant = np.array(self._counts, dtype=np.float64).T
        union, both = given + meant - inner, given + meant
        iou = np.divide(inner, union, out=np.full_like(inner, self.empty), where=union > 0)
        values = {"miou": float(iou.mean()), "median_iou": float(np.median(iou))}
        if union.any():
            values["oiou"] = float(inner.sum() / union.sum())
        values["dice"] = float(np.divide(2 * inner, both, out=np.ones_like(inner), where=both > 0).mean())
        values.update({f"p@{t}": float((iou >= t).mean()) for t in PRECISION_THRESHOLDS})
        values.update({f"p_above@{t}": float((iou > t).mean()) for t in PRECISION_THRESHOLDS})
        return {**values, "samples": float(len(self._counts))}


class RegionMeter:
    """Three-way maps of regions: background 0, the person 1, other people 2."""

    def __init__(self) -> None:
        self._person, self._others = MaskMeter(empty=1.0), MaskMeter()
        self._right = self._pixels = self._regions = 0

    def add(self, predicted: np.ndarray | None, truth: np.ndarray) -> None:
        """The map of one region and its truth, classes [H, W] of equal size; None for no answer (all background)."""
        self.add_counts(confusion(np.zeros_like(truth) if predicted is None else predicted, truth, 3))

    def add_counts(self, pixels: np.ndarray) -> None:
        """One region that has been compared already: its pixels by true and answered class, int [3, 3]."""
        self._person.add_counts(pixels)
        order = [0, 2, 1]
        if pixels[2].any() or pixels[:, 2].any():
            self._others.add_counts(pixels[np.ix_(order, order)])
        self._right, self._pixels = self._right + int(pixels.trace()), self._pixels + int(pixels.sum())
        self._regions += 1

    def merge(self, other: RegionMeter) -> None:
        """Take in what another process collected."""
        self._person.merge(other._person)
        self._others.merge(other._others)
        self._right, self._pixels = self._right + other._right, self._pixels + other._pixels
        self._regions += other._regions

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; a value that no region determines is left out.

        `person_miou`, the mean IoU of the person (1 where neither side has a pixel: PINTO's convention), with
        `person_oiou`, `person_dice`, and `person_p_above@t`, the share above an IoU of t (PINTO's detection rates);
        `others_miou`, that of other people, over the regions where truth or answer has any; `pixel_accuracy`, the
        share of all regions' pixels whose class is right.
        """
        names = ("miou", "oiou", "dice", "p_above@0.5", "p_above@0.7")
        person, others = self._person.result(), self._others.result()
        values = {f"person_{name}": person[name] for name in names if name in person}
        if "miou" in others:
            values["others_miou"] = others["miou"]
        if self._pixels:
            values["pixel_accuracy"] = self._right / self._pixels
        return {**values, "samples": float(self._regions)}


class GresMeter:
    """Generalised referring segmentation (Liu et al. 2023, arXiv 2306.00968): one person, several, or nobody."""

    def __init__(self, min_pixels: int = 1) -> None:
        """A mask of fewer than `min_pixels` pixels says that nobody is meant; 1 is the rule "empty mask".

        The rule changes every figure, so print it beside them: ReLA decides by a head of its own (`add`'s `nobody`).
        """
        if min_pixels < 1:
            raise ValueError(f"min_pixels is {min_pixels}: it is 1 or more, because an empty mask shows nobody")
        self.min_pixels = min_pixels
        self._counts: list[tuple[int, int, int, bool]] = []

    def add(self, predicted: np.ndarray | None, truth: np.ndarray | None, nobody: bool | None = None) -> None:
        """One question.

        Args:
            predicted: The mask of all who are found; None for an empty one.
            truth: The united mask of all who are meant; empty or None where nobody is.
            nobody: Whether the model says that nobody is meant; None reads it off the mask (`min_pixels`).
        """
        inner, given, meant = mask_counts(predicted, truth)
        self._counts.append((inner, given, meant, given < self.min_pixels if nobody is None else bool(nobody)))

    def merge(self, other: GresMeter) -> None:
        """Take in what another process collected."""
        if other.min_pixels != self.min_pixels:
            raise ValueError(f"cannot merge masks of {other.min_pixels} pixels or more into those of {self.min_pixels}")
        self._counts += other._counts

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; a value that no sample determines is left out.

        `giou`, the mean IoU of the samples; `ciou`, all intersections over all unions; `n_acc` and `t_acc`, the
        shares of questions about nobody and about somebody that were taken for such; `pr@t`, the share of
        questions about somebody with IoU >= t. Rightly saying "nobody" has IoU 1 and adds nothing to the
        sums; wrongly saying so has IoU 0, intersection 0, and the union of the truth with whatever mask was given;
        a mask where nobody is meant has IoU 0 and adds its pixels to the union.
        """
        if not self._counts:
            return {"samples": 0.0}
        inner, given, meant, said = np.array(self._counts, dtype=np.float64).T
        said_nobody, nobody = said > 0, meant == 0
        right = nobody & said_nobody
        union = np.where(right, 0.0, given + meant - inner)
        inner = np.where(said_nobody, 0.0, inner)
        iou = np.divide(inner, union, out=right.astype(np.float64), where=union > 0)
        values = {"giou": float(iou.mean())}
        if union.any():
            values["ciou"] = float(inner.sum() / union.sum())
        if nobody.any():
            values["n_acc"] = float(said_nobody[nobody].mean())
        if not nobody.all():
            values["t_acc"] = float((~said_nobody[~nobody]).mean())
            values.update({f"pr@{t}": float((iou[~nobody] >= t).mean()) for t in GRES_THRESHOLDS})
        return {**values, "samples": float(len(self._counts))}
