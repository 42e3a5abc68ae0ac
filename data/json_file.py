"""JSON that others wrote, read strictly: of a known shape, of a bearable size, and wrong in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..errors import RefHCMError

MAX_JSON_BYTES = 2 << 30
"""The largest public annotation file (COCO's instances_train2017.json) has 0.45 GB."""
MAX_LINE_BYTES = 16 << 20


def read_json(path: str | Path, kind: type[dict] | type[list], limit: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file that must be an object (`dict`) or a list; otherwise RefHCMError."""
    path = Path(path)
    content = _parsed(read_bytes(path, limit), str(path))
    if not isinstance(content, kind):
        wanted = "an object" if kind is dict else "a list"
        raise RefHCMError(f"{path} holds {type(content).__name__} where {wanted} is expected: is it the right file?")
    return content


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line that is not empty; RefHCMError for a line that is none."""
    path = Path(path)
    if not path.is_file():
        raise RefHCMError(f"There is no file at {path}: check the path.")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise RefHCMError(f"{path}, line {number} has more than {MAX_LINE_BYTES:,} bytes.")
            if not line.strip():
                continue
            content = _parsed(line, f"{path}, line {number}")
            if not isinstance(content, dict):
                raise RefHCMError(f"{path}, line {number} is not a JSON object like {{...}}.")
            yield number, content


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file; RefHCMError when there is none, or more than `limit` bytes of it."""
    if not path.is_file():
        raise RefHCMError(f"There is no file at {path}: check the path.")
    size = path.stat().st_size
    if size > limit:
        raise RefHCMError(f"{path} has {size:,} bytes; at most {limit:,} are read: is it the right file?")
    return path.read_bytes()


def _parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refused)
    except UnicodeDecodeError as error:
        raise RefHCMError(f"{where} is not UTF-8 text: get a whole copy of it.") from error
    except RecursionError as error:
        raise RefHCMError(f"{where} is nested too deeply to be a dataset.") from error
    except ValueError as error:
        raise RefHCMError(f"{where} is not JSON ({error}): get a whole copy of it.") from error


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
