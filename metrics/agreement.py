"""Whether the parts of one answer agree with each other, whatever the truth: keypoints and mask with the box, the mask
with the part map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Counts = dict[str, tuple[int, int]]
"""By name: how much agrees, of how much."""


def agreement(
    box: Sequence[float] | None, keypoints: np.ndarray | None, mask: np.ndarray | None, parts: np.ndarray | None
) -> Counts:
    """What can be compared in one answer.

    Args:
        box: x1, y1, x2, y2 in pixels.
        keypoints: x, y, score [17, 3]; those with a score of 0 are absent.
        mask: bool [H, W].
        parts: The part map, integer [H, W], 0 outside.

    Returns:
        `keypoints_in_box`: of the keypoints that are present, those inside the box or on its edge; `mask_in_box`: of
        the mask's pixels, those whose centres are; `mask_parts_iou`: of the pixels of mask or part map, those of both.
    """
    counts: Counts = {}
    if box is not None and keypoints is not None:
        places = keypoints[keypoints[:, 2] > 0, :2]
        counts["keypoints_in_box"] = int(_inside(places, box).sum()), len(places)
    if box is not None and mask is not None:
        rows, columns = np.nonzero(mask)
        counts["mask_in_box"] = int(_inside(np.stack([columns, rows], 1) + 0.5, box).sum()), len(rows)
    if mask is not None and parts is not None:
        counts["mask_parts_iou"] = int((mask & (parts > 0)).sum()), int((mask | (parts > 0)).sum())
    return counts


class AgreementMeter:
    """Adds up what `agreement` gives."""

    def __init__(self) -> None:
        self._counts: dict[str, list[tuple[int, int]]] = {}
        self._answers = 0

    def add(self, counts: Mapping[str, Sequence[int]]) -> None:
        """One answer."""
        for name, (agreeing, all_of_it) in counts.items():
            self._counts.setdefault(name, []).append((int(agreeing), int(all_of_it)))
        self._answers += 1

    def merge(self, other: AgreementMeter) -> None:
        """Take in what another process collected."""
        for name, counts in other._counts.items():
            self._counts.setdefault(name, []).extend(counts)
        self._answers += other._answers

    def result(self) -> dict[str, float]:
        """`keypoints_in_box` and `mask_in_box`: shares of all answers' keypoints and pixels; `mask_parts_iou`: the mean
        over the answers where there is anything. And `samples`."""
        values = {}
        for name, counts in self._counts.items():
            agreeing, whole = np.array(counts, np.float64).T
            known = whole > 0
            if known.any():
                mean = name.endswith("_iou")
                values[name] = float((agreeing[known] / whole[known]).mean() if mean else agreeing.sum() / whole.sum())
        return {**values, "samples": float(self._answers)}


def _inside(places: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """bool [N] of places [N, 2], x before y; a rounding error of coordinates aside."""
    corners = np.asarray(box, np.float64)
    inside: np.ndarray = (places >= corners[:2] - 1e-3) & (places <= corners[2:] + 1e-3)
    return inside[:, 0] & inside[:, 1]
