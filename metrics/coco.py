"""Average precision and recall by COCO's rules, for boxes, masks and keypoints: the one door to pycocotools.

A sample is one question, and a picture of its own to COCO: another expression's person on the same picture
would otherwise count as a false positive. What its files and its loader ask for is kept here and nowhere else:
identifiers that begin at 1 (it takes 0 for "no match"), no box beside the keypoints of an answer (it would be
read as a box), `info`, and an answer where there is none (it refuses an empty list).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("bbox", "segm", "keypoints")
KEYPOINT_NAMES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
REGION_NAMES = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip
"""What COCO prints for boxes and for masks; `KEYPOINT_NAMES` is what it prints for keypoints."""

NUM_KEYPOINTS = 17
_FAR = -1e9  # pixels: an answer there meets nothing


@dataclass(frozen=True)
class Detection:
    """One answer: what it says of the kind that is scored, and how sure it is."""

    score: float
    box: Sequence[float] | None = None
    """x1, y1, x2, y2 in pixels."""
    keypoints: np.ndarray | None = None
    """[17, 2+] in pixels; a third number is ignored."""
    mask: Any = None
    """[H, W], everything but 0 inside; or COCO's run lengths {"size": [H, W], "counts": ...}."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"a score must be a finite number, but is {self.score}")


@dataclass(frozen=True)
class GroundTruth:
    """One person that is really there."""

    box: Sequence[float]
    """x1, y1, x2, y2 in pixels."""
    area: float | None = None
    """Segment area in square pixels. If not known, that of the mask, or else that of the box; keypoints need it."""
    keypoints: np.ndarray | None = None
    """x, y, v [17, 3]; without any v > 0 the person neither rewards nor punishes."""
    mask: Any = None
    """As in `Detection`."""
    crowd: bool = False
    """A group: answers within it neither reward nor punish."""


Sample = tuple[Sequence[Detection], Sequence[GroundTruth]]


def average_precision(kind: str, samples: Sequence[Sample]) -> dict[str, float]:
    """COCO's AP and AR over all samples, by pycocotools.

    Args:
        kind: "bbox", "segm" or "keypoints".
        samples: Answers and truth of each question. Answers that lack the kind, or hold a number that is not
            finite, are left out, which is as if they had not been given.

    Returns:
        Fractions, named by `REGION_NAMES` or `KEYPOINT_NAMES`; nan where COCO prints -1 (nobody of that size).

    Answers are ranked by score over the whole set. Where scores are equal the order of the samples decides, so a
    set without scores has no AP worth printing: with one answer each it is near the square of the accuracy.
    Raises ValueError for an unknown kind, a truth that lacks the kind, and masks of different sizes.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: it is one of {', '.join(KINDS)}")
    names = KEYPOINT_NAMES if kind == "keypoints" else REGION_NAMES
    if not samples:
        return dict.fromkeys(names, math.nan)
    images: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for number, (detections, people) in enumerate(samples, start=1):
        masks: list[Any] = []
        if kind == "segm":
            masks = [answer.mask for answer in detections] + [person.mask for person in people]
        height, width = _common_size(masks)
        images.append({"id": number, "height": height, "width": width})
        common = {"image_id": number, "category_id": 1}
        for person in people:
            truths.append({"id": len(truths) + 1, **common, **_truth_entry(kind, person)})
        for detection in detections:
            if (entry := _answer_entry(kind, detection)) is not None:
                answers.append({**common, **entry, "score": float(detection.score)})
    ground = {"info": {}, "images": images, "categories": [{"id": 1, "name": "person"}], "annotations": truths}
    if not answers:
        answers = [{"image_id": 1, "category_id": 1, "score": 0.0, **_nothing(kind, images[0])}]
    stats = _evaluate(kind, ground, answers)
    return {name: float(value) if value >= 0 else math.nan for name, value in zip(names, stats, strict=True)}


def run_lengths(mask: Any) -> dict[str, Any]:
    """COCO's run lengths of a mask [H, W] (everything but 0 is inside): {"size": [H, W], "counts": bytes}."""
    from pycocotools import mask as coco_mask

    if isinstance(mask, dict):
        return mask
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask must have the shape [H, W], but has {mask.shape}")
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))


def packed(mask: Any) -> dict[str, Any] | None:
    """A mask, if there is one, as run lengths, which are small enough to keep."""
    return None if mask is None else run_lengths(mask)


def mask_area(mask: Any) -> float:
    """Pixels inside a mask, given as an array or as run lengths."""
    from pycocotools import mask as coco_mask

    return float(coco_mask.area(mask) if isinstance(mask, dict) else np.count_nonzero(mask))


def _evaluate(kind: str, ground: dict[str, Any], answers: list[dict[str, Any]]) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = ground
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def _truth_entry(kind: str, person: GroundTruth) -> dict[str, Any]:
    entry: dict[str, Any] = {"iscrowd": int(person.crowd), "bbox": _corner_and_size(person.box)}
    area = person.area
    if kind == "segm":
        if person.mask is None:
            raise ValueError("scoring masks needs the true mask of every person")
        entry["segmentation"] = run_lengths(person.mask)
    if kind == "keypoints":
        if person.keypoints is None or area is None:
            raise ValueError("scoring keypoints needs the true keypoints and the segment area of every person")
        points = np.asarray(person.keypoints, dtype=np.float64)[:, :3]
        entry.update(keypoints=points.ravel().tolist(), num_keypoints=int((points[:, 2] > 0).sum()))
    if area is None:
        area = entry["bbox"][2] * entry["bbox"][3] if person.mask is None else mask_area(person.mask)
    return {**entry, "area": float(area)}


def _answer_entry(kind: str, detection: Detection) -> dict[str, Any] | None:
    if kind == "segm":
        return None if detection.mask is None else {"segmentation": run_lengths(detection.mask)}
    if kind == "bbox":
        if detection.box is None or not np.isfinite(np.asarray(detection.box, dtype=np.float64)).all():
            return None
        return {"bbox": _corner_and_size(detection.box)}
    if detection.keypoints is None:
        return None
    points = np.ones((NUM_KEYPOINTS, 3))
    points[:, :2] = np.asarray(detection.keypoints, dtype=np.float64)[:, :2]
    return {"keypoints": points.ravel().tolist()} if np.isfinite(points).all() else None


def _nothing(kind: str, image: dict[str, Any]) -> dict[str, Any]:
    """An answer that meets nobody, because the loader refuses to load no answers; it changes no figure."""
    if kind == "segm":
        return {"segmentation": run_lengths(np.zeros((image["height"], image["width"])))}
    if kind == "bbox":
        return {"bbox": [_FAR, _FAR, 1.0, 1.0]}
    return {"keypoints": [_FAR, _FAR, 1.0] * NUM_KEYPOINTS}


def _corner_and_size(box: Sequence[float]) -> list[float]:
    """x, y, width, height; crossed corners enclose nothing."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1)]


def _common_size(masks: Sequence[Any]) -> tuple[int, int]:
    """(height, width) of the masks of one picture. pycocotools would give -1 for the overlap of unlike sizes."""
    shapes = {tuple(mask["size"]) if isinstance(mask, dict) else np.shape(mask) for mask in masks if mask is not None}
    if len(shapes) > 1:
        raise ValueError(f"masks of one picture differ in size: {sorted(shapes)}; resize one")
    height, width = shapes.pop() if shapes else (1, 1)
    return int(height), int(width)
