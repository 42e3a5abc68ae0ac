"""What answers are scored by beside each task's own metrics: benchmarks' protocols, and the slower caption metrics."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from ..data.annotation import Annotation
from ..metrics.captions import CaptionMeter
from ..metrics.coco import Detection, GroundTruth
from ..metrics.people import PeopleMeter
from ..metrics.presence import PresenceMeter
from ..metrics.refhuman import RefHumanMeter
from ..tasks import Reading
from ..tasks.mask import MaskSegment, RegionSegment
from ..tasks.people import BoxesSegment
from ..tasks.segments import SEGMENTS, CaptionSegment, Scored, keypoints_score, segment_area
from ..tasks.task import Scorer


class FullCaptions(CaptionSegment):
    """Captions by everything that can be computed here; `gaps` names the rest. CIDEr-D and CIDEr always, with
    pycocoevalcap BLEU and ROUGE-L, with Java METEOR and SPICE."""

    def __init__(self, java: bool = True) -> None:
        self._extended = importlib.util.find_spec("pycocoevalcap") is not None
        self._meter = CaptionMeter(extended=self._extended, java=java and self._extended)

    def meter(self) -> CaptionMeter:  # type: ignore[override]
        """The one that `gaps` tells about."""
        return self._meter

    def gaps(self) -> list[str]:
        """What the meter's last result lacks, and why."""
        if not self._extended:
            return ["BLEU, ROUGE-L, METEOR and SPICE: they need pip install -e '.[captions]'"]
        return [f"{name.upper()}: {why}" for name, why in self._meter.gaps.items()]


class UniPHD:
    """Pose and mask as UniPHD scores RefHuman. Without a mask, that of an answer is what its part map covers."""

    name = "uniphd"

    @staticmethod
    def meter() -> RefHumanMeter:
        """See `metrics.refhuman`."""
        return RefHumanMeter()

    @staticmethod
    def score(meter: RefHumanMeter, reading: Reading, annotation: Annotation) -> None:
        """One answer; a mask is scored where both sides have one."""
        if annotation.box is None:
            raise ValueError("Scoring by UniPHD's protocol needs the true box.")
        answers = []
        if reading.box is not None:
            sure = keypoints_score(reading) if reading.keypoints is not None else reading.box_score or 0.0
            answers.append(Detection(sure, reading.box, reading.keypoints, _mask(reading)))
        masked = annotation.mask is not None and (_mask(reading) is not None or reading.box is None)
        points = annotation.keypoints if reading.keypoints is not None or reading.box is None else None
        mask = annotation.mask if masked else None
        meter.add(answers, GroundTruth(annotation.box, segment_area(annotation), points, mask))


class Presence:
    """Whether anybody fits, of questions about one person or nobody."""

    name = "presence"

    @staticmethod
    def meter() -> PresenceMeter:
        """Empty."""
        return PresenceMeter()

    @staticmethod
    def score(meter: PresenceMeter, reading: Reading, annotation: Annotation) -> None:
        """One answer; its chance is to be calibrated already."""
        meter.add(reading.presence, reading.present, annotation.people != ())


class EachPerson(BoxesSegment):
    """Any number of people, with what was asked about each of them."""

    def __init__(self, each: Sequence[str] = ()) -> None:
        """each: "mask" or "keypoints"."""
        self._each = each

    def meter(self) -> PeopleMeter:
        """Empty."""
        return PeopleMeter(self._each)


class PresenceScorer(Scorer):
    """Of questions about one person or nobody: presence of all, and the rest of those about somebody."""

    def __init__(self, segments: Sequence[Scored]) -> None:
        super().__init__([Presence, *segments])

    def add(self, reading: Reading, annotation: Annotation, given: bool = False) -> None:
        """One answer beside the truth; these questions are asked by words, so no box is `given`."""
        about = self._meters if annotation.people != () else self._meters[:1]
        for segment, meter in about:
            segment.score(meter, reading, annotation)


def scored(java: bool = True, each: Sequence[str] = ()) -> dict[str, Scored]:
    """Everything that saved answers can be scored by. java: see `FullCaptions`; each: see `EachPerson`."""
    kinds: list[Scored] = [*SEGMENTS.values(), MaskSegment, RegionSegment, UniPHD]
    return {kind.name: kind for kind in (*kinds, FullCaptions(java), EachPerson(each))}


def _mask(reading: Reading) -> np.ndarray | None:
    if reading.mask is not None or reading.parts is None:
        return reading.mask
    return reading.parts > 0
