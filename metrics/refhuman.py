"""RefHuman by UniPHD's protocol (Miao et al. 2024, arXiv 2410.20508): rank and localise the right person.

Every question may have several answers (UniPHD keeps 20 with their scores) and is a picture of its own to COCO's
evaluation. A model with one answer per question has nothing to rank, so its AP is not the same experiment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .coco import KINDS, Detection, GroundTruth, Sample, average_precision, packed
from .masks import MaskMeter
from .pck import pck

MAX_ANSWERS = 20
HEAD_FRACTION = 0.5
_PREFIXES = dict(zip(KINDS, ("box_", "mask_", ""), strict=True))


class RefHumanMeter:
    """Collects the answers to one question after the other; what the truth of any question lacks is not scored."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._masks = MaskMeter()
        self._lacking: set[str] = set()

    def add(self, answers: Sequence[Detection], truth: GroundTruth) -> None:
        """The answers to one question (none at all is a miss) and the person who is meant.

        Of more than `MAX_ANSWERS` those with the lowest scores are left out. Masks are [H, W] arrays.
        """
        ranked = sorted(answers, key=lambda answer: -answer.score)[:MAX_ANSWERS]
        if truth.mask is None:
            self._lacking.add("segm")
        else:
            self._masks.add(ranked[0].mask if ranked else None, truth.mask)
        if truth.keypoints is None or truth.area is None:
            self._lacking.add("keypoints")
        kept = [replace(answer, mask=packed(answer.mask)) for answer in ranked]
        self._samples.append((kept, [replace(truth, mask=packed(truth.mask))]))

    def merge(self, other: RefHumanMeter) -> None:
        """Take in what another process collected."""
        self._samples += other._samples
        self._masks.merge(other._masks)
        self._lacking |= other._lacking

    def result(self) -> dict[str, float]:
        """Fractions, and `samples`; a value that no sample determines is left out.

        `ap*`, `ar*` of keypoints, `box_ap*`, `mask_ap*`: COCO's, over all answers. Of the best answer alone:
        `pckh_ears@0.5` (half the distance from ear to ear; people without both ears are left out; every labelled
        keypoint counts alike), `mask_oiou`, `mask_miou` and `mask_p_above@t` (IoU > t).
        """
        count = len(self._samples)
        if not count:
            return {"samples": 0.0}
        values: dict[str, float] = {}
        for kind, prefix in _PREFIXES.items():
            if kind not in self._lacking:
                values.update({prefix + name: v for name, v in average_precision(kind, self._samples).items()})
        if "keypoints" not in self._lacking:
            best = [answers[0].keypoints if answers else None for answers, _ in self._samples]
            people = [truth[0] for _, truth in self._samples]
            points = [np.asarray(person.keypoints) for person in people]
            head = pck(best, points, [person.box for person in people], "ears", HEAD_FRACTION)
            values[f"pckh_ears@{HEAD_FRACTION}"] = head["pck"]
        if "segm" not in self._lacking:
            masks = self._masks.result()
            values.update(
                {f"mask_{name}": v for name, v in masks.items() if name in ("oiou", "miou") or "above" in name}
            )
        return {**{name: v for name, v in values.items() if not math.isnan(v)}, "samples": float(count)}
