"""From saved answers to figures, always by this one way: for a run without a folder, one that was cut off and went on,
one of several processes, and answers of long ago."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data.annotation import MASK_NAMES
from ..data.prompts import WAYS
from ..errors import RefHCMError
from ..metrics.agreement import AgreementMeter
from ..metrics.masks import MaskMeter, RegionMeter
from ..metrics.parsing import ParsingMeter
from ..models.abilities import Presence
from ..tasks.segments import CaptionSegment
from ..tasks.task import Scorer
from .prediction_files import saved, saved_tasks, unexplained, without_settings
from .predictions import Line, box_given, counts_of, from_line
from .presence import calibrated, read_presence
from .protocols import FullCaptions, PresenceScorer, scored

HEADLINES = {
    "box": "acc@0.5", "keypoints": "oks", "parsing": "miou", "caption": "cider_d", "mask": "miou",
    "region": "person_miou", "people": "micro_f1@0.5", "presence": "auc",
}  # fmt: skip
"""Segment -> the metric that stands for it where there is room for one number."""


ORACLES = ("miou", "oiou", "dice", "p@0.9", "person_miou", "person_oiou", "others_miou", "pixel_accuracy")
"""What is told of masks that went through the tokenizer, beside the same figure of answers."""


@dataclass
class Evaluation:
    """Figures of one task on one file."""

    task: str
    samples: int = 0
    """Questions that were answered."""
    invalid: int = 0
    """Answers that are not well-formed; the grammar should leave none."""
    scores: dict[str, float] = field(default_factory=dict)
    """`segment/metric` -> figure, as fractions; only `samples` and `classes` count something."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why rows of the file were not asked about, and how many."""
    not_measured: list[str] = field(default_factory=list)
    """What cannot be computed on this machine, and why."""
    by_region: int = 0
    """Questions that gave the very box that answers hold: it is not scored."""
    missing: int = 0
    """Questions without a saved answer: the evaluation was cut off before it came to them."""
    by_points: int = 0
    """Questions that were asked by points."""
    asked_by: str | None = None
    """How every question was put, of `prompts.WAYS`; None: as its row asks."""

    def headlines(self) -> dict[str, float]:
        """The figures that stand for the task, in the order of its answer."""
        names = [f"{segment}/{metric}" for segment, metric in HEADLINES.items()]
        return {name: self.scores[name] for name in names if name in self.scores}


@dataclass(frozen=True)
class Rules:
    """How answers are measured, of what they were asked with."""

    protocol: str = "own"
    each: tuple[str, ...] = ()
    """What was asked about everyone who was found."""
    presence: Presence = field(default_factory=Presence)
    """What the model's chance that anybody fits is worth."""
    way: str | None = None
    """How every question was put, of `prompts.WAYS`; None: as its row asks."""

    def to_settings(self) -> dict[str, Any]:
        """As JSON has it, beside the other settings that answers depend on; what is usual is not mentioned."""
        each = {"each": list(self.each)} if self.each else {}
        presence = {"presence": asdict(self.presence)} if self.presence != Presence() else {}
        way = {"ask": self.way} if self.way else {}
        return {"protocol": self.protocol, **each, **presence, **way}

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any], where: str | Path) -> Rules:
        """Those that stand in the file `where`."""
        protocol, each = settings.get("protocol", "own"), settings.get("each", [])
        way = settings.get("ask")
        if way is not None and way not in WAYS:
            raise RefHCMError(f"{where}: questions are asked by {', '.join(WAYS)}, not by {way!r}.")
        return cls(str(protocol), tuple(map(str, each)), read_presence(settings, where), way)


def score(
    task: str, segments: Sequence[str], lines: Iterable[Line], rules: Rules | None = None, java: bool = True
) -> Evaluation:
    """The figures of a task's answers, whose parts are `segments` (names of `protocols.scored`).

    `java`: also those caption metrics that run Java programs, where there is a Java.

    RefHCMError for a line that is none of ours, or was answered by another task.
    """
    rules = rules or Rules()
    names = list(segments)
    if rules.protocol == "uniphd":  # part maps stand for masks there
        names = [*(name for name in names if name != "parsing"), "uniphd"]
    known = scored(java, rules.each)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RefHCMError(f"Answers of task {task} have a part {unknown[0]!r}; known are {', '.join(known)}.")
    result = Evaluation(task, asked_by=rules.way)
    make = PresenceScorer if rules.protocol == "presence" else Scorer
    scorer, further = make([known[name] for name in names]), _Further(names)
    draw = "uniphd" in names or bool(rules.each)
    for line in lines:
        reading, truth = from_line(line, draw)
        if reading.presence is not None:
            reading.presence = calibrated(reading.presence, rules.presence)
        try:
            scorer.add(reading, truth, given := box_given(line))
        except ValueError as error:
            raise RefHCMError(f"{line.get('id')} is no answer to task {task} ({error})") from error
        further.add(line)
        result.samples += 1
        result.invalid += bool(line.get("invalid"))
        result.by_points += "points" in line
        result.by_region += given and "box" in names
    result.scores = scorer.result() | further.result()
    captions = known[CaptionSegment.name]
    if captions.name in names and isinstance(captions, FullCaptions):
        result.not_measured = captions.gaps()
    return result


class _Further:
    """Figures that stand in lines beside the answers: what tokenizers allow, what was counted as published, and how the
    parts of answers agree."""

    def __init__(self, names: Sequence[str]) -> None:
        self._agreement = AgreementMeter()
        self._parts = {"oracle_miou": ("ceiling_pixels", ParsingMeter()),
                       "published_miou": ("published_pixels", ParsingMeter())}  # fmt: skip
        self._masks: dict[str, Any] = {"mask": MaskMeter(), "region": RegionMeter()}
        self._masks = {name: meter for name, meter in self._masks.items() if name in names}

    def add(self, line: Line) -> None:
        """One answer."""
        for field_name, meter in self._parts.values():
            if (counts := counts_of(line, field_name)) is not None:
                meter.add_counts(counts)
        for meter in self._masks.values():
            if (counts := counts_of(line, "mask_ceiling_pixels", len(MASK_NAMES))) is not None:
                meter.add_counts(counts)
        try:
            self._agreement.add(line.get("agreement", {}))
        except (AttributeError, TypeError, ValueError) as error:
            raise RefHCMError(f"{line.get('id')} is no answer as evaluation saves it ({error}).") from error

    def result(self) -> dict[str, float]:
        """By their full names."""
        found = {f"parsing/{name}": meter.result().get("miou") for name, (_, meter) in self._parts.items()}
        for segment, meter in self._masks.items():
            told = meter.result()
            found |= {f"{segment}/oracle_{name}": told.get(name) for name in ORACLES if name in told}
        agreement = self._agreement.result()
        found |= {f"agreement/{name}": value for name, value in agreement.items() if name != "samples"}
        return {name: value for name, value in found.items() if value is not None}


def score_saved(folder: str | Path, names: Sequence[str] = (), java: bool = True) -> list[Evaluation]:
    """The figures of the answers in a folder, of all tasks or of those named; neither model nor data are needed."""
    there = saved_tasks(folder)
    for name in names:
        if name not in there and name in unexplained(folder):
            raise RefHCMError(without_settings(folder, name))
        if name not in there:
            raise RefHCMError(f"{folder} holds no answers of task {name}, but of {', '.join(there)}.")
    return [_score_saved(folder, name, java) for name in names or there]


def _score_saved(folder: str | Path, name: str, java: bool) -> Evaluation:
    note, lines = saved(folder, name)
    about: dict[str, Any] = note["about"]
    try:
        rules = Rules.of_settings(note["settings"], f"{folder}/{name}.settings.json")
        result = score(name, list(about["segments"]), lines, rules, java)
        result.missing = int(about["questions"]) - len(lines)
        result.left_out = {str(why): int(count) for why, count in about["left_out"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RefHCMError(f"{folder} does not say what its answers of task {name} are ({error}).") from error
    return result
