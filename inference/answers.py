"""Several answers about one picture, such as `everybody` gives: their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .answer import Answer
from .draw import draw_answers


def save_answers(
    answers: Sequence[Answer], folder: str | Path, stem: str, image: Any = None, text: str | None = None
) -> list[Path]:
    """Write `stem.json`, a list with one entry per answer, and with `image` the drawing `stem.png` of all of them (see
    `draw_answers`, for `text` too).

    Maps of the n-th answer, counted from 1, are written as `Answer.save_maps` does, under `stem_n`, and attention maps
    as `Answer.save_attention` does. The folder is made when it is missing. Returns the paths that were written, the
    JSON file first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written, values = [folder / f"{stem}.json"], []
    for number, answer in enumerate(answers, 1):
        maps = answer.save_maps(folder, f"{stem}_{number}")
        written += [*maps.values(), *answer.save_attention(folder, f"{stem}_{number}", image)]
        values.append(answer.to_dict(**{f"{name}_file": path.name for name, path in maps.items()}))
    if image is not None:
        written.append(folder / f"{stem}.png")
        draw_answers(image, answers, text=text).save(written[-1])
    written[0].write_text(json.dumps(values, allow_nan=False, indent=1) + "\n", encoding="utf-8")
    return written
