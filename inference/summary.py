"""Answers in a few lines for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.annotation import OTHERS, PERSON

if TYPE_CHECKING:
    from .answer import Answer


def summarise(answer: Answer, image: str | Path, written: Sequence[Path]) -> str:
    """The answer to a question about a picture, and the files that were written."""
    asked = answer.text
    if answer.region is not None:
        asked = f"region {' '.join(f'{value:g}' for value in answer.region)}"
    if answer.points is not None:
        asked = f"points {', '.join(f'{x:g} {y:g}' for x, y in answer.points)}"
    return "\n".join([f"{image}: {asked}", *_lines(answer), *_written(written)])


def summarise_all(answers: Sequence[Answer], image: str | Path, text: str | None, written: Sequence[Path]) -> str:
    """The same of everybody, or of all whom words mean."""
    lines = [f"{image}: {'everybody' if text is None else text}: {len(answers)} found"]
    for number, answer in enumerate(answers, 1):
        lines += [str(number), *_lines(answer)]
    return "\n".join([*lines, *_written(written)])


def _written(paths: Sequence[Path]) -> list[str]:
    return [f"  written    {path}" for path in paths]


def _lines(answer: Answer) -> list[str]:
    lines = [f"  score      {answer.score:.2f}{'' if answer.present else ': nobody fits'}"]
    if answer.presence is not None:
        lines.append(f"  presence   {answer.presence:.2f}")
    if answer.box is not None:
        lines.append(f"  box        {' '.join(f'{value:.1f}' for value in answer.box)}")
    if answer.keypoints is not None:
        lines.append(f"  keypoints  {int((answer.keypoints[:, 2] > 0).sum())} of {len(answer.keypoints)} visible")
    if answer.parsing is not None:
        lines.append(f"  parts      {', '.join(answer.parts) or 'none'}")
    if answer.mask is not None:
        lines.append(f"  mask       {int(answer.mask.sum()):,} pixels")
    if answer.region_map is not None:
        person, others = ((answer.region_map.labels() == label).mean() for label in (PERSON, OTHERS))
        lines.append(f"  region     {person:.0%} the person, {others:.0%} other people")
    if answer.caption is not None:
        lines.append(f"  caption    {answer.caption}")
    if answer.attention_maps is not None and not answer.attention_names:
        lines.append("  attention  nothing to draw: what it was wanted of was not answered")
    return lines
