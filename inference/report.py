"""Figures as text: a table for the terminal or in Markdown, of one model's tasks or of several checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.prompts import WAYS
from .scoring import Evaluation


def told(result: Evaluation, markdown: bool = False) -> str:
    """The figures of one task, with what is to be known about them."""
    head = f"{result.task}: {result.samples} questions, {result.invalid} invalid answers"
    notes = [f"not asked: {count} rows that {reason}" for reason, count in result.left_out.items()]
    if result.asked_by:
        notes.append(f"asked by {WAYS[result.asked_by]}")
    if result.by_region:
        why = "" if result.asked_by else ", which have no words"
        notes.append(f"asked by region: {result.by_region} questions{why}; their boxes are not scored")
    if result.by_points and not result.asked_by:
        notes.append(f"asked by points: {result.by_points} questions")
    notes += [f"not measured: {what}" for what in result.not_measured]
    if result.missing:
        notes.append(f"not answered yet: {result.missing} questions, so these are the figures of a part")
    rows = [[name, f"{value:.4f}"] for name, value in result.scores.items() if not name.endswith("/samples")]
    width = max([28, *(len(name) + 2 for name, _ in rows)])
    if markdown:
        lines = [f"\n**{head}**", *(f"({note})" for note in notes), "", table(["metric", "value"], rows, True)]
    else:
        lines = [f"\n{head}", *(f"  {note}" for note in notes), *(f"  {name:<{width}}{value}" for name, value in rows)]
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Columns under their names; the first stands to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(row: Sequence[str], cells: str, ends: str) -> str:
        texts = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return ends + cells.join([row[0].ljust(widths[0]), *texts[1:]]) + ends[::-1]

    if not markdown:
        return "\n".join(line(row, "  ", "").rstrip() for row in [head, *rows])
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(head, " | ", "| "), rule, *(line(row, " | ", "| ") for row in rows)])
