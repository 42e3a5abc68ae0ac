"""What answers are scored by beside each task's own metrics: benchmarks' protocols, and the slower caption metrics."""

from __future__ import annotations

import importlib.util

import numpy as np

from ..data.annotation import Annotation
from ..metrics.captions import CaptionMeter
from ..metrics.coco import Detection, GroundTruth
from ..metrics.grec import GrecMeter
from ..metrics.masks import GresMeter
from ..metrics.refhuman import RefHumanMeter
from ..tasks import Reading
from ..tasks.segments import SEGMENTS, CaptionSegment, Scored, keypoints_score, segment_area


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
    """Pose and mask as UniPHD scores RefHuman. The mask of an answer is what its part map covers."""

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
        masked = annotation.mask is not None and (reading.parts is not None or reading.box is None)
        points = annotation.keypoints if reading.keypoints is not None or reading.box is None else None
        mask = annotation.mask if masked else None
        meter.add(answers, GroundTruth(annotation.box, segment_area(annotation), points, mask))


class People:
    """Questions about one person, several or nobody, as gRefCOCO scores them: boxes (GREC), and the mask of what the
    part map covers (GRES), which is everyone's in one.

    It waits for a task that answers `Reading.people`: one that always names one person has no such answer.
    """

    name = "people"

    class Meter:
        """Both benchmarks' meters."""

        def __init__(self) -> None:
            self.boxes, self.masks = GrecMeter(), GresMeter()

        def merge(self, other: People.Meter) -> None:
            """Take in what another process collected."""
            self.boxes.merge(other.boxes)
            self.masks.merge(other.masks)

        def result(self) -> dict[str, float]:
            """GREC's figures with `grec_` before their names, and GRES's with `gres_`."""
            both = {"grec": self.boxes.result(), "gres": self.masks.result()}
            return {f"{kind}_{name}": value for kind, values in both.items() for name, value in values.items()}

    @staticmethod
    def meter() -> Meter:
        """Empty."""
        return People.Meter()

    @staticmethod
    def score(meter: Meter, reading: Reading, annotation: Annotation) -> None:
        """One answer; the mask is scored where everyone on both sides has one."""
        if reading.people is None:
            raise ValueError("Scoring any number of people needs an answer about any number of people.")
        truth = (annotation,) if annotation.people is None else annotation.people
        boxes, wanted = (
            [person.box for person in people if person.box is not None] for people in (reading.people, truth)
        )
        meter.boxes.add(boxes, wanted)
        masks = [person.mask for person in truth if person.mask is not None]
        if (found := _mask(reading)) is not None and len(masks) == len(truth):
            meter.masks.add(found, np.any([np.zeros_like(found), *masks], axis=0))


SCORED: dict[str, Scored] = {**SEGMENTS, UniPHD.name: UniPHD, People.name: People}
"""Everything that saved answers can be scored by."""


def _mask(reading: Reading) -> np.ndarray | None:
    return None if reading.parts is None else reading.parts > 0
