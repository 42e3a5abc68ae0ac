"""From saved answers to figures, always by this one way: for a run without a folder, one that was cut off and went on,
one of several processes, and answers of long ago."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RefHCMError
from ..metrics.parsing import ParsingMeter
from ..tasks.segments import SEGMENTS
from ..tasks.task import Scorer
from .prediction_files import saved, saved_tasks
from .predictions import Line, counts_of, from_line

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
    missing: int = 0
    """Questions without a saved answer: the evaluation was cut off before it came to them."""

    def headlines(self) -> dict[str, float]:
        """The figures that stand for the task, in the order of its answer."""
        names = [f"{segment}/{metric}" for segment, metric in HEADLINES.items()]
        return {name: self.scores[name] for name in names if name in self.scores}


def score(task: str, segments: Sequence[str], lines: Iterable[Line], protocol: str = "own") -> Evaluation:
    """The figures of a task's answers, whose parts are `segments` (names of `tasks.segments.SEGMENTS`).

    RefHCMError for a line that is none of ours, or was answered by another task.
    """
    unknown = [name for name in segments if name not in SEGMENTS]
    if unknown:
        raise RefHCMError(f"Answers of task {task} have a part {unknown[0]!r}; known are {', '.join(SEGMENTS)}.")
    result = Evaluation(task)
    scorer = Scorer([SEGMENTS[name] for name in segments])
    others = {"ceiling_pixels": ParsingMeter(), "published_pixels": ParsingMeter()}
    for line in lines:
        reading, truth = from_line(line)
        try:
            scorer.add(reading, truth)
        except ValueError as error:
            raise RefHCMError(f"{line.get('id')} is no answer to task {task} ({error})") from error
        for name, meter in others.items():
            if (counts := counts_of(line, name)) is not None:
                meter.add_counts(counts)
        result.samples += 1
        result.invalid += bool(line.get("invalid"))
    result.scores = scorer.result()
    for name, meter in (("oracle_miou", others["ceiling_pixels"]), ("published_miou", others["published_pixels"])):
        if (value := meter.result().get("miou")) is not None:
            result.scores[f"parsing/{name}"] = value
    return result


def score_saved(folder: str | Path, names: Sequence[str] = ()) -> list[Evaluation]:
    """The figures of the answers in a folder, of all tasks or of those named; neither model nor data are needed."""
    there = saved_tasks(folder)
    for name in names:
        if name not in there:
            raise RefHCMError(f"{folder} holds no answers of task {name}, but of {', '.join(there)}.")
    return [_score_saved(folder, name) for name in names or there]


def _score_saved(folder: str | Path, name: str) -> Evaluation:
    note, lines = saved(folder, name)
    about: dict[str, Any] = note["about"]
    try:
        result = score(name, list(about["segments"]), lines, note["settings"].get("protocol", "own"))
        result.missing = int(about["questions"]) - len(lines)
        result.left_out = {str(why): int(count) for why, count in about["left_out"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RefHCMError(f"{folder} does not say what its answers of task {name} are ({error}).") from error
    return result
