"""What the commands check before they start, so that a wrong option costs a sentence and not an hour."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from ..errors import RefHCMError

MAX_THREADS = 1024
"""The most that --threads takes; torch has no sentence of its own for senseless numbers."""


def in_range(low: float, high: float = math.inf, **options: float | None) -> None:
    """RefHCMError unless each of the `options` (by the name of its switch; None is not given) lies in low..high."""
    for name, value in options.items():
        if value is not None and not low <= value <= high:
            wanted = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise RefHCMError(f"--{name.replace('_', '-')} must be {wanted}, not {value}.")


def writable_folder(folder: str | Path) -> Path:
    """`folder`, made if missing; RefHCMError when it cannot be made or no file can be written there."""
    folder = Path(folder)
    try:
        file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
        if file is not None:
            raise RefHCMError(f"{file} is a file: name a folder to write to.")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RefHCMError(
            f"Nothing can be written to {folder} ({error.strerror}): name a folder that is yours."
        ) from error
    return folder


def is_file(path: Path) -> bool:
    """Whether there is such a file; there is none of a name that no file system takes, as nonsense in a row may be."""
    try:
        return path.is_file()
    except OSError:
        return False


def one_sentence(error: Exception) -> str:
    """What a command prints of an error: its message on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename} cannot be used ({error.strerror}): check the path, its permissions and the disk."
    return " ".join(str(error).split())
