"""Many questions from a file: one JSON object per line in, one per line out, in the same order.

    {"image": "a.jpg", "text": "the woman in red"}      or      {"image": "a.jpg", "region": [x1, y1, x2, y2]}
    {"image": "a.jpg", "point": [x, y]}                 or      {"image": "a.jpg", "scribble": [[x, y], [x, y], ...]}
    {"image": "a.jpg", "everybody": true}               or      {"image": "a.jpg", "everybody": true, "text": "..."}

An answer line repeats its request and adds `present`, `presence`, `score`, `box`, `keypoints`, `caption`, and for
`parsing`, `mask` and `region_map` the paths of grey PNG files (see `Answer.save_maps`), or null. A line about everybody
adds `people`, a list of such values, in their place. A line that cannot be answered becomes {..., "error": reason}; the
others go on.
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
from .draw import draw_answers

ANSWER_FIELDS = (
    "present", "presence", "score", "box", "keypoints", "visibility", "caption", "parsing", "mask",
    "region_map",
)  # fmt: skip
NUMBERS = {"region": 4, "point": 2}
"""How many numbers a field holds."""
MAX_REQUESTS_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20


class Model(Protocol):
    """What answers questions: `RefHCMPredictor`, or anything with these of its methods."""

    def many(self, questions: Any, *args: Any, **options: Any) -> list[Answer]:
        """One answer per (image, what is asked)."""
        ...

    def everybody(self, image: Any, *args: Any, **options: Any) -> list[Answer]:
        """One answer per person of the picture, or whom the words mean."""
        ...


@dataclass(frozen=True)
class Request:
    """One line of the requests file: the fields it holds, and either what to ask or why it cannot be asked."""

    number: int
    """Line number, from 1."""
    fields: dict[str, Any]
    picture: Path | None = None
    question: dict[str, Any] | None = None
    """The field that it is asked with, by its name, as `many` takes it; nothing, or the words, for `everybody`."""
    everybody: bool = False
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
        by_words = not any(name in value for name in (*NUMBERS, "scribble", "everybody"))
        fields = {"image": None, "text": None, **value} if by_words else value
        picture, everybody = _picture_path(value.get("image"), images), _is_everybody(value)
        return Request(number, fields, picture, _question(value, everybody), everybody)
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


def _is_everybody(value: dict[str, Any]) -> bool:
    everybody = value.get("everybody", False)
    if not isinstance(everybody, bool):
        raise RefHCMError('The field "everybody" must be true or false.')
    return everybody


def _question(value: dict[str, Any], everybody: bool) -> dict[str, Any]:
    """The one field of the line that says who is meant."""
    given = {name: value[name] for name in ("text", *NUMBERS, "scribble") if value.get(name) is not None}
    names = list(given)
    if len(names) > 1:
        raise RefHCMError(f'The line has both "{names[0]}" and "{names[1]}": give one of them.')
    if everybody and names not in ([], ["text"]):
        raise RefHCMError(f'The line has both "everybody" and "{names[0]}": everybody may be narrowed by "text" only.')
    if not names and not everybody:
        raise RefHCMError('The line has neither "text" nor "region", "point" or "scribble": give one of them.')
    if not isinstance(given.get("text", ""), str):
        raise RefHCMError('The field "text" must be a string.')
    for name, count in NUMBERS.items():
        if name in given and not _are_numbers(given[name], count):
            form = "four numbers [x1, y1, x2, y2]" if count == 4 else "two numbers [x, y]"
            raise RefHCMError(f'The field "{name}" must be {form} in pixels.')
    line = given.get("scribble", [])
    if not isinstance(line, list) or not all(_are_numbers(point, 2) for point in line):
        raise RefHCMError('The field "scribble" must be a list of points [x, y] in pixels.')
    return given


def _are_numbers(value: Any, count: int) -> bool:
    """Whether it is a list of so many numbers; RefHCMError for one that no float can hold."""
    if not isinstance(value, list) or len(value) != count:
        return False
    try:
        return all(not isinstance(n, bool) and isinstance(n, int | float) and math.isfinite(n) for n in value)
    except OverflowError as error:
        raise RefHCMError("The line holds a number that is too large.") from error


def run_requests(
    model: Model, requests: Sequence[Request], answers: str | Path, files: str | Path, *, batch_size: int = 8,
    draw: bool = False, progress: bool = True, **options: Any,
) -> int:  # fmt: skip
    """Answer `requests` and write one JSON line each to the file `answers`; returns how many lines failed.

    Part maps and masks go as PNG files into the folder `files` (made when needed), with `draw` annotated pictures too.
    `options` (tasks, beam, attention) are handed to `model.many`; attention maps are drawn into `files`. Without tasks,
    of everybody the boxes are wanted. Lines are written as soon as their batch is answered.
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
                if isinstance(outcome, str):
                    line = {**request.fields, "error": outcome}
                    failed += 1
                else:
                    line = _answer_line(request, outcome, files, draw)
                out.write(json.dumps(line, allow_nan=False) + "\n")
                bar.update()
            out.flush()
    return failed


def _answer_chunk(
    model: Model, chunk: Sequence[Request], options: dict[str, Any]
) -> Iterator[tuple[Request, Answer | list[Answer] | str]]:
    """Each request with its answer (everybody's: answers) or the reason why there is none, in order."""
    outcomes = iter(_ask(model, [r for r in chunk if r.error is None and not r.everybody], options))
    for request in chunk:
        if request.error is not None:
            yield request, request.error
        elif request.everybody:
            yield request, _ask_everybody(model, request, options)
        else:
            yield request, next(outcomes)


def _ask_everybody(model: Model, request: Request, options: dict[str, Any]) -> list[Answer] | str:
    given = {name: value for name, value in options.items() if name != "tasks" or value is not None}
    try:
        return model.everybody(request.picture, **(request.question or {}), **given)
    except (RefHCMError, OSError) as error:
        return str(error)


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


def _answer_line(request: Request, outcome: Answer | list[Answer], files: Path, draw: bool) -> dict[str, Any]:
    """The request's fields, the answer's, and the paths of its maps, which are written here, as are drawings."""
    stem = f"{request.number:06d}"
    fields = {name: value for name, value in request.fields.items() if name != "error"}  # it would say that this failed
    if draw:
        files.mkdir(parents=True, exist_ok=True)
        if isinstance(outcome, Answer):
            outcome.draw(request.picture).save(files / f"{stem}.png")
        else:
            draw_answers(request.picture, outcome, text=fields.get("text")).save(files / f"{stem}.png")
    if isinstance(outcome, Answer):
        return {**fields, **_values(outcome, files, stem, request.picture)}
    people = [
        _values(answer, files, f"{stem}_{number}", request.picture) for number, answer in enumerate(outcome, 1)
    ]
    return {**fields, "people": people}


def _values(answer: Answer, files: Path, stem: str, picture: Path | None) -> dict[str, Any]:
    """`ANSWER_FIELDS` of one answer."""
    covers = any(value is not None for value in (answer.parsing, answer.mask, answer.region_map))
    maps = answer.save_maps(files, stem) if covers else {}
    if answer.attention_names:
        files.mkdir(parents=True, exist_ok=True)
        answer.draw_attention(image=picture).save(files / f"{stem}_attention.png")
    values = answer.to_dict(**{f"{name}_file": str(path) for name, path in maps.items()})
    return {name: values[name] for name in ANSWER_FIELDS}
