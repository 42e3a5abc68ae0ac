"""From saved answers to figures, always by this one way: for a run without a folder, one that was cut off and went on,
one of several processes, and answers of long ago."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RefHCMError
from ..metrics.parsing import ParsingMeter
from ..tasks.task import Scorer
from .prediction_files import saved, saved_tasks, unexplained, without_settings
from .predictions import Line, counts_of, from_line
from .protocols import SCORED, FullCaptions

HEADLINES = {"box": "acc@0.5", "keypoints": "oks", "parsing": "miou", "caption": "cider_d"}
"""Segment -> the metric that stands for it where there is room for one number."""


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
    """Questions without words, whose answers hold the box that the question gave: it is not scored."""
    missing: int = 0
    """Questions without a saved answer: the evaluation was cut off before it came to them."""

    def headlines(self) -> dict[str, float]:
        """The figures that stand for the task, in the order of its answer."""
        names = [f"{segment}/{metric}" for segment, metric in HEADLINES.items()]
        return {name: self.scores[name] for name in names if name in self.scores}


def score(
    task: str, segments: Sequence[str], lines: Iterable[Line], protocol: str = "own", java: bool = True
) -> Evaluation:
    """The figures of a task's answers, whose parts are `segments` (names of `protocols.SCORED`).

    `java`: also those caption metrics that run Java programs, where there is a Java.

    RefHCMError for a line that is none of ours, or was answered by another task.
    """
    names = list(segments)
    if protocol == "uniphd":  # part maps stand for masks there
        names = [*(name for name in names if name != "parsing"), "uniphd"]
    unknown = [name for name in names if name not in SCORED]
    if unknown:
        raise RefHCMError(f"Answers of task {task} have a part {unknown[0]!r}; known are {', '.join(SCORED)}.")
    captions = FullCaptions(java)
    result = Evaluation(task)
    scorer = Scorer([captions if name == captions.name else SCORED[name] for name in names])
    counted = {"ceiling_pixels": ParsingMeter(), "published_pixels": ParsingMeter()}
    for line in lines:
        reading, truth = from_line(line, draw="uniphd" in names or "people" in names)
        try:
            scorer.add(reading, truth, given := "region" in line)
        except ValueError as error:
            raise RefHCMError(f"{line.get('id')} is no answer to task {task} ({error})") from error
        for name, meter in counted.items():
            if (counts := counts_of(line, name)) is not None:
                meter.add_counts(counts)
        result.samples += 1
        result.invalid += bool(line.get("invalid"))
        result.by_region += given and "box" in names
    result.scores = scorer.result()
    for name, meter in (("oracle_miou", counted["ceiling_pixels"]), ("published_miou", counted["published_pixels"])):
        if (value := meter.result().get("miou")) is not None:
            result.scores[f"parsing/{name}"] = value
    result.not_measured = captions.gaps() if captions.name in names else []
    return result


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
        result = score(name, list(about["segments"]), lines, note["settings"].get("protocol", "own"), java)
        result.missing = int(about["questions"]) - len(lines)
        result.left_out = {str(why): int(count) for why, count in about["left_out"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RefHCMError(f"{folder} does not say what its answers of task {name} are ({error}).") from error
    return result
