"""Keypoints: object keypoint similarity (OKS), COCO average precision, share of correct keypoints (PCK).

Points are [17, 2 or more] arrays, x and y first, in COCO order and continuous pixels. Only the truth's
third number counts (v > 0 is labelled); what a model says about the visibility of its answer is ignored, as
in COCO.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np

COCO_SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], dtype=np.float64
) / 1000  # fmt: skip
"""Spread of human annotators per keypoint, relative to the person's scale (COCO keypoint evaluation)."""

BOX_TO_SEGMENT_AREA = 0.53
"""Usual estimate of a person's segment area from the box area, where no segment is known."""

AP_NAMES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")


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


def correct_keypoints(
    predicted: np.ndarray, truth: np.ndarray, length: float, threshold: float
) -> tuple[int, int]:
    """How many labelled keypoints are within `threshold * length` pixels of the truth, and their number.

    PCK over a set is the sum of the first divided by the sum of the second. A person with `length` <= 0
    gives (0, 0).
    """
    labelled = np.asarray(truth)[:, 2] > 0
    if length <= 0:
        return 0, 0
    offsets = np.asarray(predicted, dtype=np.float64)[:, :2] - np.asarray(truth, dtype=np.float64)[:, :2]
    near = np.hypot(offsets[:, 0], offsets[:, 1]) <= threshold * length
    return int((near & labelled).sum()), int(labelled.sum())


def keypoint_ap(
    predicted: Sequence[np.ndarray | None],
    scores: Sequence[float],
    truth: Sequence[np.ndarray],
    areas: Sequence[float],
    boxes: Sequence[Sequence[float]],
) -> dict[str, float]:
    """COCO keypoint AP and AR (the ten numbers of `AP_NAMES`) of one answer per question, by pycocotools.

    Every question is an image of its own, because another expression's person on the same picture would
    otherwise count as a false positive. AP orders the answers by score: with a constant score it is close
    to the square of the accuracy.

    Args:
        predicted: Points [17, 2+], or None for no answer.
        scores: Confidence of each answer.
        truth: x, y, v [17, 3] each.
        areas: Segment area of each person.
        boxes: Right boxes, x1, y1, x2, y2.

    Returns:
        Fractions; nan where COCO prints -1 (no such person in the set).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground = {
        "info": {},
        "images": [{"id": i + 1} for i in range(len(truth))],  # pycocotools takes id 0 for "no match"
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "area": float(area),
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "keypoints": np.asarray(points, dtype=np.float64)[:, :3].ravel().tolist(),
                "num_keypoints": int((np.asarray(points)[:, 2] > 0).sum()),
            }
            for i, (points, area, box) in enumerate(zip(truth, areas, boxes, strict=True))
        ],
    }  # fmt: skip
    answers = [
        {"image_id": i + 1, "category_id": 1, "score": float(score), "keypoints": _coco_points(points)}
        for i, (points, score) in enumerate(zip(predicted, scores, strict=True))
        if points is not None
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = ground
        coco.createIndex()
        if not answers:  # pycocotools refuses an empty list; an answer far away scores the same
            answers = [{"image_id": 1, "category_id": 1, "score": 0.0, "keypoints": [-1e9, -1e9, 1.0] * 17}]
        evaluation = COCOeval(coco, coco.loadRes(answers), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        name: float(value) if value >= 0 else float("nan")
        for name, value in zip(AP_NAMES, evaluation.stats, strict=True)
    }


def _coco_points(points: np.ndarray) -> list[float]:
    full = np.ones((len(COCO_SIGMAS), 3))
    full[:, :2] = np.asarray(points, dtype=np.float64)[:, :2]
    return full.ravel().tolist()


class KeypointMeter:
    """Collects one answer per question.

    `oks` and `published_oks@t` follow RefHCM (box area, coordinates other than zero); `coco_oks`, `ap*` and
    `ar*` follow COCO (segment area, v > 0); `pck@0.2` counts labelled keypoints within a fifth of the box's
    longer side.
    """

    PCK_THRESHOLD = 0.2

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
            predicted: Points [17, 2+] in pixels, absent ones at (0, 0); None for no answer at all.
            truth: x, y, v [17, 3].
            box: The right box, x1, y1, x2, y2.
            area: Segment area; `BOX_TO_SEGMENT_AREA` times the box area if not known.
            score: Confidence, for AP.
        """
        truth = np.array(truth, dtype=np.float64)
        if truth.shape != (len(COCO_SIGMAS), 3):
            raise ValueError(f"keypoint labels must have the shape (17, 3), but have {truth.shape}")
        x1, y1, x2, y2 = (float(value) for value in box)
        if area is None:
            area = BOX_TO_SEGMENT_AREA * max(0.0, x2 - x1) * max(0.0, y2 - y1)
        self._predicted.append(None if predicted is None else np.array(predicted, dtype=np.float64)[:, :2])
        self._scores.append(float(score))
        self._truth.append(truth)
        self._areas.append(float(area))
        self._boxes.append((x1, y1, x2, y2))

    def merge(self, other: KeypointMeter) -> None:
        """Take in what another process collected."""
        for name in ("_predicted", "_scores", "_truth", "_areas", "_boxes"):
            getattr(self, name).extend(getattr(other, name))

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; a value that no sample determines is left out."""
        count = len(self._truth)
        if not count:
            return {"samples": 0.0}
        missing = np.zeros((len(COCO_SIGMAS), 2))
        points = [missing if predicted is None else predicted for predicted in self._predicted]
        published = np.array(
            [published_oks(*row) for row in zip(points, self._truth, self._boxes, strict=True)]
        )
        coco = np.array([coco_oks(*row) for row in zip(points, self._truth, self._areas, strict=True)])
        near, labelled = np.sum([
            correct_keypoints(p, t, max(b[2] - b[0], b[3] - b[1]), self.PCK_THRESHOLD)
            for p, t, b in zip(points, self._truth, self._boxes, strict=True)
        ], axis=0)  # fmt: skip
        values = {
            "oks": float(published.mean()),
            "published_oks@0.5": float((published >= 0.5).mean()),
            "published_oks@0.75": float((published >= 0.75).mean()),
            "coco_oks": float(np.nanmean(coco)) if not np.isnan(coco).all() else float("nan"),
            f"pck@{self.PCK_THRESHOLD}": float(near / labelled) if labelled else float("nan"),
            **keypoint_ap(self._predicted, self._scores, self._truth, self._areas, self._boxes),
        }
        known = {name: value for name, value in values.items() if not np.isnan(value)}
        return {**known, "samples": float(count)}
