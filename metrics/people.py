"""Any number of people in one answer: their boxes, whether there are any, and their masks and poses where asked for.

What is said of a question lies in `coco.Detection`s and `coco.GroundTruth`s, masks as arrays [H, W].
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .coco import Detection, GroundTruth, Sample, average_precision, packed
from .grec import GrecMeter
from .keypoints import BOX_TO_SEGMENT_AREA
from .masks import GresMeter
from .presence import PresenceMeter

_NOWHERE = (math.nan,) * 4


class PeopleMeter:
    """GREC's figures of the boxes, detection's AP, whether anybody is there; with masks GRES's figures and mask AP,
    with keypoints keypoint AP."""

    def __init__(self, each: Collection[str] = ()) -> None:
        """each: what was asked about everyone who was found, "mask" or "keypoints"."""
        self.each = frozenset(each)
        self._boxes, self._masks, self._presence = GrecMeter(), GresMeter(), PresenceMeter()
        self._samples: list[Sample] = []

    def add(self, found: Sequence[Detection], meant: Sequence[GroundTruth], chance: float | None = None) -> None:
        """One question.

        Args:
            found: Everyone who was answered, keypoints with their scores [17, 3]. One without a box meets nobody; one
                without a mask has an empty one.
            meant: Everyone who is meant. Masks are scored where all of them are known; unknown keypoints neither reward
                nor punish.
            chance: How likely the model finds it that there is anybody.
        """
        self._boxes.add([one.box or _NOWHERE for one in found], [one.box for one in meant])
        self._presence.add(chance, bool(found), bool(meant))
        if "mask" in self.each and all(one.mask is not None for one in meant):
            answered = [one.mask for one in found if one.mask is not None]
            self._masks.add(_union(answered), _union([one.mask for one in meant]), nobody=not found)
        kept = [replace(one, mask=packed(one.mask)) for one in found]
        self._samples.append((kept, [replace(one, mask=packed(one.mask)) for one in meant]))

    def merge(self, other: PeopleMeter) -> None:
        """Take in what another process collected."""
        if other.each != self.each:
            raise ValueError(f"cannot merge answers with {sorted(other.each)} into answers with {sorted(self.each)}")
        for name in ("_boxes", "_masks", "_presence"):
            getattr(self, name).merge(getattr(other, name))
        self._samples += other._samples

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; what no sample determines is left out.

        Those of `GrecMeter`; `ap`, ..., COCO's of the boxes (each question is a picture); `presence_auc`, ... as
        `PresenceMeter` has them; with masks those of `GresMeter` as `gres_...` and COCO's as `mask_ap`, ...; with
        keypoints COCO's as `keypoint_ap`, ....
        """
        values = self._boxes.result() | _precision("bbox", "", self._samples)
        told = self._presence.result()
        chances = [name for name in ("auc", "best_f1", "best_threshold", "ece") if name in told]
        values |= {f"presence_{name}": told[name] for name in chances}
        if "mask" in self.each:
            values |= {f"gres_{name}": value for name, value in self._masks.result().items() if name != "samples"}
            known = [sample for sample in self._samples if all(one.mask is not None for one in sample[1])]
            values |= _precision("segm", "mask_", known)
        if "keypoints" in self.each:
            posed = [(list(map(_sure, found)), list(map(_posed, meant))) for found, meant in self._samples]
            values |= _precision("keypoints", "keypoint_", posed)
        samples = values.pop("samples")
        return {**values, "samples": samples}


def _precision(kind: str, prefix: str, samples: Sequence[Sample]) -> dict[str, float]:
    found = average_precision(kind, samples)
    return {f"{prefix}{name}": value for name, value in found.items() if not math.isnan(value)}


def _sure(answer: Detection) -> Detection:
    """With the score by which poses are ranked: that of the person, times the mean of its 17 keypoints'."""
    if answer.keypoints is None:
        return answer
    return replace(answer, score=answer.score * float(answer.keypoints[:, 2].mean()))


def _posed(person: GroundTruth) -> GroundTruth:
    """With keypoints, unlabelled where they are not known, and with an area."""
    x1, y1, x2, y2 = person.box
    points = np.zeros((17, 3)) if person.keypoints is None else person.keypoints
    area = BOX_TO_SEGMENT_AREA * (x2 - x1) * (y2 - y1) if person.area is None else person.area
    return replace(person, keypoints=points, area=area)


def _union(masks: Sequence[Any]) -> np.ndarray | None:
    """bool [H, W] of what any of the masks covers; None without masks."""
    return np.logical_or.reduce([np.asarray(mask) != 0 for mask in masks]) if masks else None
