"""Many questions from a file: one JSON object per line in, one per line out, in the same order.

    {"image": "a.jpg", "text": "the woman in red"}      or      {"image": "a.jpg", "region": [x1, y1, x2, y2]}

An answer line repeats its request and adds `present`, `score`, `box`, `keypoints`, `caption` and `parsing` (the path of
a PNG of part classes, or null). A line that cannot be answered becomes {..., "error": reason}; the others go on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from ..errors import RefHCMError
from .answer import Answer
from .asking import check_batch_size

ANSWER_FIELDS = ("present", "score", "box", "keypoints", "caption")
MAX_REQUESTS_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20


class Model(Protocol):
    """What answers questions: `RefHCMPredictor`, or anything with its `many`."""

    def many(self, questions: Any, *args: Any, **options: Any) -> list[Answer]:
        """One answer per (image, words or region)."""
        ...


@dataclass(frozen=True)
class Request:
    """One line of the requests file: the fields it holds, and either what to ask or why it cannot be asked."""

    number: int
    """Line number, from 1."""
    fields: dict[str, Any]
    picture: Path | None = None
    question: str | tuple[float, ...] | None = None
    """Words, or a region x1, y1, x2, y2 in pixels of the picture."""
    error: str | None = None


def read_requests(path: str | Path, images: str | Path) -> list[Request]:
    """The requests of a JSON-lines file about pictures in the folder `images`.

    A line that is no valid request, or whose picture lies outside `images`, comes back with its `error` set.
    RefHCMError when the file or the folder is missing or too large. Empty lines at the end are ignored; an empty file
    holds no request.
    """
    path, images = Path(path), Path(images)
    if not path.is_file():
        raise RefHCMError(f"There is no requests file at {path}: give a file with one JSON object per line.")
    if not images.is_dir():
        raise RefHCMError(f"There is no folder of pictures at {images}: give the folder that image names refer to.")
    if path.stat().st_size > MAX_REQUESTS_BYTES:
        raise RefHCMError(f"{path} is larger than {MAX_REQUESTS_BYTES >> 20} MiB: split it into several files.")
    content = path.read_bytes().rstrip()
    lines = content.split(b"\n") if content else []
    return [parse_request(number, line, images) for number, line in enumerate(lines, 1)]


def parse_request(number: int, line: bytes, images: Path) -> Request:
    """The request on one line; its `error` says what is wrong with it."""
    fields: dict[str, Any] = {"image": None, "text": None}
    try:
        if len(line) > MAX_LINE_BYTES:
            raise RefHCMError(f"The line has more than {MAX_LINE_BYTES:,} bytes.")
        value = _parse_json(line)
        if not isinstance(value, dict):
            raise RefHCMError('The line must hold one JSON object like {"image": "a.jpg", "text": "the man in red"}.')
        fields = value if "region" in value else {"image": None, "text": None, **value}
        return Request(number, fields, _picture_path(value.get("image"), images), _question(value))
    except RefHCMError as error:
        return Request(number, fields, error=str(error))


def _parse_json(line: bytes) -> Any:
    if not line.strip():
        raise RefHCMError("The line is empty.")
    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise RefHCMError("The line is not UTF-8 text.") from error
    except RefHCMError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefHCMError(f"The line is not JSON ({error}).") from error


def _finite(number: str) -> float:
    """A number that can be written again as strict JSON: no NaN, no Infinity, nothing that overflows to it."""
    value = float(number)
    if not math.isfinite(value):
        raise RefHCMError(f"The line holds {number[:20]}, which is no finite number.")
    return value


def _picture_path(name: Any, images: Path) -> Path:
    """The file that `name` stands for, which must lie in `images` (links are followed before this is checked)."""
    if not isinstance(name, str) or not name:
        raise RefHCMError('The field "image" must be the name of a picture.')
    root = images.resolve()
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a name too long, a loop of links
        raise RefHCMError(f'The field "image" is no usable file name ({error}).') from error
    if Path(name).is_absolute() or not path.is_relative_to(root):
        raise RefHCMError(f'The picture "{name}" lies outside the folder of pictures: give a name inside it.')
    return path


def _question(value: dict[str, Any]) -> str | tuple[float, ...]:
    text, region = value.get("text"), value.get("region")
    if text is not None and region is not None:
        raise RefHCMError('The line has both "text" and "region": give one of them.')
    if text is None and region is None:
        raise RefHCMError('The line has neither "text" nor "region": give one of them.')
    if region is None:
        if not isinstance(text, str):
            raise RefHCMError('The field "text" must be a string.')
        return text
    numbers = region if isinstance(region, list) and len(region) == 4 else []
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise RefHCMError('The field "region" must be four numbers [x1, y1, x2, y2] in pixels.')
    try:
        return tuple(float(number) for number in numbers)
    except OverflowError as error:
        raise RefHCMError('The field "region" holds a number that is too large.') from error


def run_requests(
    model: Model, requests: Sequence[Request], answers: str | Path, files: str | Path, *, batch_size: int = 8,
    draw: bool = False, progress: bool = True, **options: Any,
) -> int:  # fmt: skip
    """Answer `requests` and write one JSON line each to the file `answers`; returns how many lines failed.

    Part maps go as PNG files into the folder `files` (made when needed), with `draw` annotated pictures too.
    `options` (tasks, beam, attention) are handed to `model.many`; attention maps are drawn into `files`.
    Lines are written as soon as their batch is answered.
    """
    batch_size = check_batch_size(batch_size)
    answers, files = Path(answers), Path(files).resolve()
    answers.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    bar = tqdm(total=len(requests), unit="request", disable=not progress)
    with answers.open("w", encoding="utf-8") as out, bar:
        for start in range(0, len(requests), batch_size):
            chunk = requests[start : start + batch_size]
            for request, outcome in _answer_chunk(model, chunk, options):
                if isinstance(outcome, Answer):
                    line = _answer_line(request, outcome, files, draw)
                else:
                    line = {**request.fields, "error": outcome}
                    failed += 1
                out.write(json.dumps(line, allow_nan=False) + "\n")
                bar.update()
            out.flush()
    return failed


def _answer_chunk(
    model: Model, chunk: Sequence[Request], options: dict[str, Any]
) -> Iterator[tuple[Request, Answer | str]]:
    """Each request with its answer or the reason why there is none, in order."""
    good = [request for request in chunk if request.error is None]
    outcomes = iter(_ask(model, good, options))
    for request in chunk:
        yield request, request.error if request.error is not None else next(outcomes)


def _ask(model: Model, requests: Sequence[Request], options: dict[str, Any]) -> list[Answer | str]:
    """Answer all together; when one of them is refused, each by itself, so that only the bad ones fail."""
    if not requests:
        return []
    try:
        return list(model.many([(request.picture, request.question) for request in requests], **options))
    except (RefHCMError, OSError) as error:
        if len(requests) == 1:
            return [str(error)]
    return [outcome for request in requests for outcome in _ask(model, [request], options)]


def _answer_line(request: Request, answer: Answer, files: Path, draw: bool) -> dict[str, Any]:
    """The request's fields, the answer's, and the path of its part map, which is written here, as are drawings."""
    stem = f"{request.number:06d}"
    parsing = None
    if answer.parsing is not None:
        parsing = str(answer.save_parsing(files / f"{stem}_parts.png"))
    if draw:
        files.mkdir(parents=True, exist_ok=True)
        answer.draw(request.picture).save(files / f"{stem}.png")
    if answer.attention_names:
        files.mkdir(parents=True, exist_ok=True)
        answer.draw_attention(image=request.picture).save(files / f"{stem}_attention.png")
    values = answer.to_dict(parsing)
    fields = {name: value for name, value in request.fields.items() if name != "error"}  # it would say that this failed
    return {**fields, **{name: values[name] for name in ANSWER_FIELDS}, "parsing": parsing}
