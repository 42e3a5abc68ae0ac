"""JSON that others wrote, read strictly: of a known shape, of a bearable size, and wrong in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from ..errors import RefHCMError

MAX_JSON_BYTES = 2 << 30
"""The largest public annotation file (COCO's instances_train2017.json) has 0.45 GB."""


def read_json(path: str | Path, kind: type[dict] | type[list], limit: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file that must be an object (`dict`) or a list; otherwise RefHCMError."""
    path = Path(path)
    content = _parsed(read_bytes(path, limit), str(path))
    if not isinstance(content, kind):
        wanted = "an object" if kind is dict else "a list"
        raise RefHCMError(f"{path} holds {type(content).__name__} where {wanted} is expected: is it the right file?")
    return content


def loads(text: str) -> Any:
    """What a JSON text says; ValueError for none, and for NaN and Infinity, which are no JSON."""
    return json.loads(text, parse_constant=_refused)


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
        return loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RefHCMError(f"{where} is not UTF-8 text: get a whole copy of it.") from error
    except RecursionError as error:
        raise RefHCMError(f"{where} is nested too deeply: is it the right file?") from error
    except ValueError as error:
        raise RefHCMError(f"{where} is not JSON ({error}): get a whole copy of it.") from error


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
