"""A web page of questions with the answer and the truth drawn side by side: one file, pictures included.

Training writes one at each validation (`pages` in one folder, with an index), always of the same questions, so that
progress can be seen.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from PIL import Image

from ..data.annotation import Annotation, Box, Question
from ..tasks import Reading
from .answer import Answer
from .draw import MOST_ENLARGED, draw_answer, draw_answers

SIDE = 480
"""The longer side of a drawn picture, in pixels."""
GAP = 8
MOST_LETTERS = 300
"""Longer captions are cut."""
QUALITY = 82
INDEX = "index.html"
NEAREST = Image.Resampling.NEAREST
PAIRS = f'Left: the answer. Right: the truth. <a href="{INDEX}">All pages</a>'

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1010px;margin:24px auto;padding:0 12px;color:#1c1e24}
h1{font-size:20px}section{margin:28px 0;border-top:1px solid #ccc;padding-top:10px}img{max-width:100%}
.asked{margin:0 0 6px}.task{background:#1c1e24;color:#fff;border-radius:4px;padding:1px 7px;margin-right:8px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:8px;max-width:968px;color:#555}td{padding:0 14px 0 0}"""


@dataclass(frozen=True)
class Entry:
    """A question with the answer that a model gave and the right one."""

    task: str
    picture: Image.Image
    """The photo, see `resize`; places are in the pixels of the original, whose size the question holds."""
    question: Question
    found: Reading
    truth: Annotation


def resize(picture: Image.Image) -> Image.Image:
    """A copy whose longer side has `SIDE` pixels (a very small one less), all that a page needs to keep."""
    scale = min(MOST_ENLARGED, SIDE / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def draw_pair(entry: Entry) -> Image.Image:
    """The answer on the left, the truth on the right. The truth shows only what the task asks for."""
    found, truth = entry.found, entry.truth
    if found.people is not None:
        meant = (truth,) if truth.people is None else truth.people
        several = [[_shown(entry, one.box) for one in some if one.box is not None] for some in (found.people, meant)]
        sides = [draw_answers(entry.picture, some, panel=False) for some in several]
    else:
        sides = [draw_answer(entry.picture, one, panel=False) for one in _one_person(entry)]
    width, height = sides[0].size
    sheet = Image.new("RGB", (2 * width + GAP, height), "white")
    for place, side in enumerate(sides):
        sheet.paste(side, (place * (width + GAP), 0))
    return sheet


def as_jpeg(picture: Image.Image) -> bytes:
    """A picture as it stands in a page."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _one_person(entry: Entry) -> tuple[Answer, Answer]:
    """The answer and the truth about one person."""
    found, truth = entry.found, entry.truth
    keypoints = None
    if found.keypoints is not None and truth.keypoints is not None:
        keypoints = np.array(truth.keypoints, np.float32)
        keypoints[:, 2] = keypoints[:, 2] > 0
    score = found.score if found.box_score is None else found.box_score
    return (
        _shown(entry, found.box, found.keypoints, found.parts, found.mask, score),
        _shown(
            entry,
            truth.box if found.box is not None or not found.present else None,
            keypoints,
            truth.parts if found.parts is not None else None,
            truth.mask if found.mask is not None else None,
        ),
    )


def _shown(
    entry: Entry, box: Box | None, keypoints: np.ndarray | None = None, parts: np.ndarray | None = None,
    mask: np.ndarray | None = None, score: float = 1.0,
) -> Answer:  # fmt: skip
    """One person in the pixels of the page's picture."""
    picture, (width, height) = entry.picture, entry.question.size
    across, down = picture.width / width, picture.height / height

    def place(given: Box | None) -> Box | None:
        return given and (given[0] * across, given[1] * down, given[2] * across, given[3] * down)

    def cover(labels: np.ndarray | None) -> np.ndarray | None:
        return labels if labels is None else np.asarray(Image.fromarray(labels).resize(picture.size, NEAREST))

    region = entry.question.region if entry.found.box is None else None
    marked = tuple((x * across, y * down) for some in entry.question.points[:1] for x, y in some) or None
    joints = None if keypoints is None else (keypoints * [across, down, 1]).astype(np.float32)
    return Answer(
        picture.size, region=place(region), score=score, box=place(box), keypoints=joints, parsing=cover(parts),
        mask=cover(mask), points=marked,
    )  # fmt: skip


def page(
    title: str, scores: Mapping[str, float], entries: Sequence[Entry], drawn: Sequence[bytes], about: str = PAIRS
) -> str:
    """The page as HTML; `drawn` are the pictures of the entries, as JPEG, and `about` (HTML) explains them."""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td></tr>" for name, value in scores.items())
    sections = "".join(_section(entry, jpeg) for entry, jpeg in zip(entries, drawn, strict=True))
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{about}</p><table>{rows}</table>{sections}"
    )


def _section(entry: Entry, jpeg: bytes) -> str:
    asked = "everybody" if entry.question.everybody else "the marked person"
    if entry.found.caption is None and entry.question.text is not None:
        asked = f"“{entry.question.text}”"
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    texts = ""
    if entry.found.caption is not None:
        said = (entry.found.caption or "(nothing)", " / ".join(entry.truth.captions))
        texts = "".join(f"<div>{html.escape(shorten(text, MOST_LETTERS))}</div>" for text in said)
        texts = f'<div class="two">{texts}</div>'
    return (
        f'<section><p class="asked"><span class="task">{html.escape(entry.task)}</span>{html.escape(asked)}</p>'
        f'<img src="{source}" alt="answer and truth">{texts}</section>'
    )


def write_page(folder: Path, name: str, content: str, keep: int) -> Path:
    """Write `folder/NAME.html`, delete the oldest pages beyond the last `keep`, and list the rest in `index.html`.

    Names must sort by age. A page stands complete under its name or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.html"
    _replace(path, content)
    pages = sorted(other for other in folder.glob("*.html") if other.name != INDEX)
    for old in pages[: max(0, len(pages) - keep)]:
        old.unlink(missing_ok=True)
    links = "".join(f'<p><a href="{old.name}">{html.escape(old.stem)}</a></p>' for old in reversed(pages[-keep:]))
    style = f"<style>{_STYLE}</style>"
    head = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Answers</title>{style}'
    _replace(folder / INDEX, f"{head}<h1>Answers at each validation, the newest first</h1>{links}")
    return path


def _replace(path: Path, content: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(content, encoding="utf-8")
    draft.replace(path)
