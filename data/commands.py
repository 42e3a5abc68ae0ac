"""What the commands check before they start, so that a wrong option costs a sentence and not an hour."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from ..errors import RefHCMError

MAX_THREADS = 1024
"""The most that --threads takes; torch has no sentence of its own for senseless numbers."""

LOCK = ".lock"
"""What stands in a folder that a run writes to, and says which process that is."""


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


@contextlib.contextmanager
def sole_user(folder: str | Path, cure: str) -> Iterator[None]:
    """`writable_folder`, which nobody else uses so until the block ends, or the process, however it ends.

    RefHCMError names the process that uses it already, and `cure`. What this process starts does not inherit the lock.
    Systems and disks that know no locks give none.
    """
    path = writable_folder(folder) / LOCK
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RefHCMError(f"{path} cannot be written ({error.strerror}): {cure}.") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                raise RefHCMError(f"{folder} is in use by {file.read(200) or 'another process'}: {cure}.") from error
            except OSError:  # a disk without locks
                pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def folder_of_run(
    folder: str | Path, cure: str, leads: bool, told: Callable[[str | None], str | None]
) -> Iterator[None]:
    """`sole_user` for several processes, of which one `leads` and takes the folder; where it cannot, all raise its
    RefHCMError. `told` gives in all what it was given in that one."""
    refused = None
    with contextlib.ExitStack() as stack:
        if leads:
            try:
                stack.enter_context(sole_user(folder, cure))
            except RefHCMError as error:
                refused = str(error)
        refused = told(refused)
        if refused is not None:
            raise RefHCMError(refused)
        yield


def one_sentence(error: Exception) -> str:
    """What a command prints of an error: its message on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename} cannot be used ({error.strerror}): check the path, its permissions and the disk."
    return " ".join(str(error).split())
