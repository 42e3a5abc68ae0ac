"""Share of correct keypoints (PCK): a labelled keypoint is right within a fraction of some length of the person.

The length is what the published variants differ in, so every figure names it. Points are as in
`metrics.keypoints`; a keypoint is labelled where v > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

LEFT_EAR, RIGHT_EAR, LEFT_SHOULDER, RIGHT_HIP = 3, 4, 5, 12


def box_length(truth: np.ndarray, box: Sequence[float]) -> float:
    """The box's longer side (Penn Action, JHMDB)."""
    return max(0.0, box[2] - box[0], box[3] - box[1])


def torso_length(truth: np.ndarray, box: Sequence[float]) -> float:
    """From the left shoulder to the right hip (FLIC, LSP); 0 where either is not labelled."""
    return _between(truth, LEFT_SHOULDER, RIGHT_HIP)


def ear_length(truth: np.ndarray, box: Sequence[float]) -> float:
    """From ear to ear, which UniPHD takes for the size of the head; 0 where either is not labelled.

    In profile it is near 0 although the head is not, which makes the figure very strict there.
    """
    return _between(truth, LEFT_EAR, RIGHT_EAR)


def head_box_length(head_box: Sequence[float]) -> float:
    """MPII's head size, 0.6 times the diagonal of the head's box (x1, y1, x2, y2). COCO has no such boxes."""
    return 0.6 * math.hypot(head_box[2] - head_box[0], head_box[3] - head_box[1])


LENGTHS: dict[str, Callable[[np.ndarray, Sequence[float]], float]] = {
    "box": box_length,
    "torso": torso_length,
    "ears": ear_length,
}
"""By name: from x, y, v [17, 3] and the box to pixels; 0 leaves the person out."""


def correct_keypoints(predicted: np.ndarray, truth: np.ndarray, length: float, threshold: float) -> tuple[int, int]:
    """How many labelled keypoints are within `threshold * length` pixels of the truth, and their number.

    PCK over a set is the sum of the first divided by the sum of the second. A person with `length` <= 0
    gives (0, 0).
    """
    near, labelled = _right_and_labelled(predicted, truth, length, threshold)
    return int(near.sum()), int(labelled.sum())


def pck(
    predicted: Sequence[np.ndarray | None],
    truth: Sequence[np.ndarray],
    boxes: Sequence[Sequence[float]],
    length: str = "box",
    threshold: float = 0.2,
) -> dict[str, float]:
    """PCK of a set of people.

    Args:
        predicted: Points [17, 2+]; missing ones at (0, 0), None for no answer.
        truth: x, y, v [17, 3].
        boxes: The right boxes.
        length: One of `LENGTHS`. ("ears", 0.5) is what UniPHD calls PCKh on RefHuman; it is not MPII's.
        threshold: The fraction of that length.

    Returns:
        `pck`, the share of all labelled keypoints (UniPHD); `pck_joints`, the mean over the keypoints of the share
        of each (MPII's way); both nan if nobody counts; `people`, how many count: those with a length.
    """
    near, labelled = np.zeros((2, 17), dtype=np.int64)
    people = 0
    for points, target, box in zip(predicted, truth, boxes, strict=True):
        size = LENGTHS[length](target, box)
        hits, known = _right_and_labelled(np.zeros((17, 2)) if points is None else points, target, size, threshold)
        near, labelled, people = near + hits, labelled + known, people + bool(size > 0 and known.any())
    seen = labelled > 0
    return {
        "pck": float(near.sum() / labelled.sum()) if seen.any() else math.nan,
        "pck_joints": float((near[seen] / labelled[seen]).mean()) if seen.any() else math.nan,
        "people": float(people),
    }


def _right_and_labelled(
    predicted: np.ndarray, truth: np.ndarray, length: float, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """bool [17] each; a person without a length has no labelled keypoints."""
    labelled = np.asarray(truth)[:, 2] > 0
    if not length > 0:
        return np.zeros_like(labelled), np.zeros_like(labelled)
    offsets = np.asarray(predicted, dtype=np.float64)[:, :2] - np.asarray(truth, dtype=np.float64)[:, :2]
    return (np.hypot(offsets[:, 0], offsets[:, 1]) <= threshold * length) & labelled, labelled


def _between(truth: np.ndarray, first: int, second: int) -> float:
    points = np.asarray(truth, dtype=np.float64)[[first, second]]
    return float(np.hypot(*(points[0, :2] - points[1, :2]))) if (points[:, 2] > 0).all() else 0.0
