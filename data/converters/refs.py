"""Lists of referring expressions: `refs(unc).p` and its like, and `grefs(unc).json`.

The `.p` files are pickles, which can call any function while they are read. Here they are read by an interpreter that
knows the few instructions which build lists, dicts, numbers and texts; a file with any other is refused at that point.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...errors import RefHCMError
from ..json_file import read_bytes, read_json
from .base import need
from .skip import Skip

MAX_PICKLE_BYTES = 1 << 30
"""The largest of the official files has about 60 MB."""

NOBODY = -1
"""Stands for the annotation where nothing in the picture fits the words."""

_PLAIN = (
    "MARK", "STOP", "POP", "POP_MARK", "DUP", "FLOAT", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "APPEND", "APPENDS", "LIST", "EMPTY_LIST", "DICT", "EMPTY_DICT", "SETITEM",
    "SETITEMS", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "PROTO", "FRAME",
)  # fmt: skip
"""Instructions that only build data. Not among them: what imports, calls, or restores objects."""
# The interpreter in Python, not the one in C: its instructions are a table that can be cut down, and its memo is a
# dict, so that a short file cannot ask for a huge one.
_Interpreter: Any = pickle._Unpickler


class _PlainUnpickler(_Interpreter):
    """Reads pickles of plain data only. Texts of Python 2 are UTF-8, or else Latin-1."""

    dispatch: ClassVar[dict[int, Any]] = {
        code: _Interpreter.dispatch[code] for code in (getattr(pickle, name)[0] for name in _PLAIN)
    }

    def find_class(self, module: str, name: str) -> Any:
        """Nothing is ever looked up (no instruction in the table does)."""
        raise pickle.UnpicklingError(f"{module}.{name}")

    def _decode_string(self, value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")


def read_plain_pickle(path: Path, limit: int = MAX_PICKLE_BYTES) -> Any:
    """What a pickle of lists, dicts, numbers and texts holds. RefHCMError, before anything else happens, for a pickle
    that asks for more, and for a file that is none.
    """
    content = read_bytes(path, limit)
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except KeyError as error:
        code = error.args[0] if error.args else None
        if isinstance(code, int) and bytes([code]) in _NAMES:
            raise RefHCMError(
                f"{path} holds more than data (the pickle instruction {_NAMES[bytes([code])]}) and is not read "
                "further: get the official file."
            ) from error
        raise RefHCMError(f"{path} is no pickle, or a damaged one: get a whole copy of it.") from error
    except Exception as error:  # damaged files raise many kinds; none of them has executed anything
        raise RefHCMError(f"{path} is no pickle, or a damaged one ({error}): get a whole copy of it.") from error


_CODES = {name: value for name, value in vars(pickle).items() if name.isupper() and isinstance(value, bytes)}
_NAMES = {value: name for name, value in _CODES.items() if len(value) == 1}


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The references in a `.p` or `.json` file; RefHCMError for a file that holds anything else."""
    content = read_json(path, list) if path.suffix == ".json" else read_plain_pickle(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise RefHCMError(f"{path} is no list of references: name the folder of the official download.")
    return content


def sentences_of(
    ref: dict[str, Any], field: str, left_out: Callable[[str, int], None]
) -> Iterator[tuple[int, str]]:
    """Number and text of each sentence of a reference; `field` is `sent` (cleaned) or `raw` (as typed).

    Where there is no text, `left_out` is told the reason and the number.
    """
    for number, sentence in enumerate(need(ref, "sentences", list)):
        text = sentence.get(field) if isinstance(sentence, dict) else None
        if isinstance(text, str) and text.strip():
            yield number, text
        else:
            left_out("the sentence is empty" if isinstance(text, str) else f"the sentence has no {field}", number)


def targets(ref: Mapping[str, Any]) -> list[int]:
    """The annotations that a reference means, each once; none where it means nobody. Skip where it contradicts itself.

    `ann_id` is a list, or one number; gRefCOCO and what was modelled on it write -1 for nobody, and most say so again
    as `no_target`.
    """
    annotations = [target for target in dict.fromkeys(listed(ref.get("ann_id"))) if target != NOBODY]
    stated = ref.get("no_target")
    if isinstance(stated, bool) and stated == bool(annotations):
        raise Skip("no_target contradicts ann_id")
    return annotations


def listed(value: Any) -> list[int]:
    """One number, or a list of numbers, as a list; Skip for anything else."""
    values = value if isinstance(value, list) else [value]
    if not all(type(entry) is int for entry in values):
        raise Skip("an id is not a whole number")
    return values
