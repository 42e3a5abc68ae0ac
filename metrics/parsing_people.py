"""Part maps of several people in one picture, each with a score: AP^p, PCP (Parsing R-CNN) and AP^r (PGN, CIHP).

Nothing public computes all of these; the formulas are those of the two evaluation scripts, with all-point
interpolation of precision as in Pascal VOC 2010. Class 0 is background, a truth of 255 is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .parsing import NUM_CLASSES, class_iou, confusion

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
REPORTED = 0.5


@dataclass
class _Picture:
    """What is kept of a picture; nothing of it grows with the pixels."""

    scores: np.ndarray  # [D] of the detections
    best: np.ndarray  # [D] int64, the person that each resembles most
    overlap: np.ndarray  # [D] mean class IoU with that person
    found: np.ndarray  # [D, thresholds] classes but background whose IoU with that person exceeds the threshold
    parts: np.ndarray  # [people] classes but background that each person has
    part_iou: np.ndarray  # [D, people, classes] IoU of a part of a detection with the same part of a person
    has: np.ndarray  # [D, classes] bool, parts that each detection has
    part_of: np.ndarray  # [people, classes] bool, parts that each person has


@dataclass
class PeopleParsingMeter:
    """Collects pictures with any number of people."""

    classes: int = NUM_CLASSES
    _pictures: list[_Picture] = field(default_factory=list)

    def add(self, predicted: Sequence[np.ndarray], scores: Sequence[float], truth: Sequence[np.ndarray]) -> None:
        """One picture.

        Args:
            predicted: A part map of the whole picture [H, W] for each person found, background around the person.
            scores: Confidence of each.
            truth: A part map [H, W] for each person who is there.
        """
        if len(scores) != len(predicted):
            raise ValueError(f"{len(predicted)} part maps came with {len(scores)} scores; give one for each")
        iou = np.full((len(predicted), len(truth), self.classes), np.nan)
        for i, mine in enumerate(predicted):
            for j, theirs in enumerate(truth):
                iou[i, j] = class_iou(confusion(mine, theirs, self.classes))
        overlap = np.zeros(iou.shape[:2])
        if iou.size:
            overlap = np.nan_to_num(iou).sum(axis=2) / np.maximum(1, (~np.isnan(iou)).sum(axis=2))
        best = overlap.argmax(axis=1) if len(truth) else np.zeros(len(predicted), dtype=np.int64)
        rows = np.arange(len(predicted))
        closest = iou[rows, best, 1:] if len(truth) else np.zeros((len(predicted), self.classes - 1))
        part_of = np.array([self._present(each) for each in truth], dtype=bool).reshape(-1, self.classes)
        self._pictures.append(_Picture(
            scores=np.asarray(scores, dtype=np.float64),
            best=best,
            overlap=overlap[rows, best] if len(truth) else np.zeros(len(predicted)),
            found=np.stack([(np.nan_to_num(closest) > t).sum(axis=1) for t in THRESHOLDS], axis=1),
            parts=part_of[:, 1:].sum(axis=1),
            part_iou=np.nan_to_num(iou),
            has=np.array([self._present(each) for each in predicted], dtype=bool).reshape(-1, self.classes),
            part_of=part_of,
        ))  # fmt: skip

    def merge(self, other: PeopleParsingMeter) -> None:
        """Take in what another process collected."""
        if other.classes != self.classes:
            raise ValueError(f"cannot merge part maps of {other.classes} classes into {self.classes}")
        self._pictures += other._pictures

    def result(self) -> dict[str, float]:
        """Fractions, `people` and `samples` (pictures); a value that no sample determines is left out.

        `ap_p50` and `ap_p_vol` (mean over thresholds .1 to .9): average precision of people, by the mean class IoU
        of their part maps, background included, which is kind to small people. `pcp50`: of each person's parts,
        the share that the matching detection has with IoU > .5; nobody found counts 0. `ap_r50`, `ap_r_vol`:
        average precision of single parts, each with its person's score, mean over the classes but background,
        where several detections may claim the same part, as the published script lets them; `ap_r_strict50`,
        `ap_r_strict_vol`: where each part is claimed once. IoU must exceed the threshold in all of them.
        """
        count = len(self._pictures)
        people = sum(len(picture.parts) for picture in self._pictures)
        if not people:
            return {"samples": float(count)}
        whole = [self._people(index) for index in range(len(THRESHOLDS))]
        at = THRESHOLDS.index(REPORTED)
        values = {"ap_p50": whole[at][0], "ap_p_vol": float(np.mean([ap for ap, _ in whole])), "pcp50": whole[at][1]}
        for name, once in (("ap_r", False), ("ap_r_strict", True)):
            by_class = np.array([self._parts(part, once) for part in range(1, self.classes)])
            if not np.isnan(by_class).all():
                mean = np.nanmean(by_class, axis=0)  # [thresholds]
                values.update({f"{name}50": float(mean[at]), f"{name}_vol": float(mean.mean())})
        return {**values, "people": float(people), "samples": float(count)}

    def _present(self, parts: np.ndarray) -> np.ndarray:
        """bool [classes]: which of them a map has."""
        labels = np.unique(parts)
        present = np.zeros(self.classes, dtype=bool)
        present[labels[(labels >= 0) & (labels < self.classes)].astype(np.int64)] = True
        return present

    def _people(self, index: int) -> tuple[float, float]:
        """AP^p and PCP at one threshold."""
        ranked = [(score, p, d) for p, each in enumerate(self._pictures) for d, score in enumerate(each.scores)]
        taken = [np.zeros(len(each.parts), dtype=bool) for each in self._pictures]
        hits, shares = [], 0.0
        for _, p, d in sorted(ranked, key=lambda entry: -entry[0]):
            picture, person = self._pictures[p], self._pictures[p].best[d]
            hit = bool(picture.overlap[d] > THRESHOLDS[index] and not taken[p][person])
            hits.append(hit)
            if hit:
                taken[p][person] = True
                shares += picture.found[d, index] / picture.parts[person] if picture.parts[person] else 0.0
        people = sum(len(each) for each in taken)
        return _all_point(hits, people), float(shares / people)

    def _parts(self, part: int, once: bool) -> list[float]:
        """AP of one part class at every threshold; nan if nobody has the part."""
        ranked = []
        for p, picture in enumerate(self._pictures):
            ranked += [(picture.scores[d], p, d) for d in np.flatnonzero(picture.has[:, part])]
        ranked.sort(key=lambda entry: -entry[0])
        total = sum(int(picture.part_of[:, part].sum()) for picture in self._pictures)
        results = []
        for threshold in THRESHOLDS:
            taken: set[tuple[int, int]] = set()
            hits = []
            for _, p, d in ranked:
                overlaps = np.where(self._pictures[p].part_of[:, part], self._pictures[p].part_iou[d, :, part], -1.0)
                person = int(overlaps.argmax()) if len(overlaps) else -1
                hit = person >= 0 and overlaps[person] > threshold and not (once and (p, person) in taken)
                hits.append(bool(hit))
                if hit:
                    taken.add((p, person))
            results.append(_all_point(hits, total))
        return results


def _all_point(hits: Sequence[bool], positives: int) -> float:
    """Area under precision over recall, precision made falling from the right; nan without positives.

    Recall is held at 1 where hits outnumber the positives, which the published AP^r allows.
    """
    if not positives:
        return math.nan
    found = np.cumsum(np.asarray(hits, dtype=np.float64))
    if not len(found):
        return 0.0
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    recall = np.minimum(1.0, found / positives)
    return float((np.diff(recall, prepend=0.0) * precision).sum())
