"""Checkpoint files that are whole or not there.

A checkpoint is written beside its place, flushed to the disk, read back, and only then takes its name, so that the one
of before is lost to nothing that may happen meanwhile: a kill, a full disk, a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import RefHCMError

UNFINISHED = ".tmp"
"""Ends the name of a checkpoint that is being written."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError, LookupError)
_UNREADABLE = (*_DAMAGED, OSError, pickle.UnpicklingError, AttributeError, TypeError)
logger = logging.getLogger(__name__)


def install() -> None:
    """Let fairseq write and copy its checkpoints by the functions below; remote paths stay its own."""
    utils: Any = importlib.import_module("fairseq.checkpoint_utils")
    files: Any = importlib.import_module("fairseq.file_io").PathManager
    save: Callable[..., Any] = utils.torch_persistent_save
    copy: Callable[..., Any] = files.copy

    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        if async_write or files.path_requires_pathmanager(str(filename)):
            save(obj, filename, async_write)
        else:
            write_checkpoint(obj, filename)

    def copy_file(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if files.path_requires_pathmanager(str(dst_path)):
            return copy(src_path, dst_path, overwrite)
        copy_checkpoint(src_path, dst_path)
        return True

    utils.torch_persistent_save = torch_persistent_save
    files.copy = staticmethod(copy_file)


# -- writing -------------------------------------------------------------------------------------------------
def write_checkpoint(state: Any, path: str | Path) -> None:
    """Save with torch; RefHCMError, with all files as they were before, where the disk does not take it."""
    with placed(Path(path), check) as file:
        torch.save(state, file)


def copy_checkpoint(source: str | Path, target: str | Path) -> None:
    """Copy, as carefully as it is written. Not a link: damage to one file then leaves the other."""
    with open(source, "rb") as original, placed(Path(target), check_sums) as file:
        shutil.copyfileobj(original, file, 1 << 24)


class _Recording:
    """A file that remembers why it could not be written: torch says no more than `file write failed`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


@contextlib.contextmanager
def placed(path: Path, check: Callable[[Path], None]) -> Iterator[Any]:
    """A file to write that becomes `path` once it is complete, on the disk, and `check` has read it; otherwise nothing
    is left of it, and RefHCMError says what the disk said.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    recording = None
    try:
        with open(unfinished, "wb") as file:
            recording = _Recording(file)
            yield recording
            file.flush()
            os.fsync(file.fileno())
        check(unfinished)
        os.replace(unfinished, path)
        _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        cause = recording.error if recording is not None and recording.error is not None else error
        if isinstance(cause, OSError):
            raise RefHCMError(_no_room(path, cause)) from error
        raise


def _no_room(path: Path, error: OSError) -> str:
    free = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with contextlib.suppress(OSError):
            free = f" ({shutil.disk_usage(path.parent).free / 2**20:,.0f} MiB free)"
    return (
        f"{path} cannot be written: {error.strerror or error}{free}. The checkpoints of before are untouched: make "
        "room, and the same command goes on from the last of them."
    )


def _flush_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- reading -------------------------------------------------------------------------------------------------
def check(path: Path) -> None:
    """RefHCMError unless every byte is as it was written, and torch can read all of it as data."""
    check_sums(path)
    try:
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except _UNREADABLE as error:
        raise RefHCMError(_unreadable(path)) from error


def check_sums(path: Path) -> None:
    """RefHCMError unless the checksums inside say that every byte is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (FileNotFoundError, PermissionError):
        raise
    except (*_DAMAGED, OSError) as error:
        raise RefHCMError(_unreadable(path)) from error
    if damaged is not None:
        raise RefHCMError(_unreadable(path))


def _unreadable(path: Path) -> str:
    return (
        f"{path} cannot be resumed from: it is cut short or damaged, or holds more than data and is not executed. "
        "Name another with --resume, or leave that out; a broken checkpoint_last.pt may be deleted."
    )


def peek(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint of a run, its tensors unread; None where the file is none."""
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        state["optimizer_history"][-1]["num_updates"], state["extra_state"]["train_iterator"]
    except _UNREADABLE:
        return None
    return state


def check_run(path: Path) -> None:
    """RefHCMError unless a file that torch can read holds what a run needs to go on."""
    state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise RefHCMError(f"{path} is no checkpoint of a training run: name one with --resume, or leave that out.")
    if peek(path) is None:
        raise RefHCMError(
            f"{path} holds weights, but neither schedule nor place in the data, so no run can go on from it: "
            f"--init-from {path} begins a new one from the weights."
        )
    if not state.get("last_optimizer_state"):
        logger.warning("%s holds no state of the optimizer, which begins anew (--no-save-optimizer-state?)", path)


def newest_whole(folder: Path) -> tuple[Path, int] | None:
    """The checkpoint of the most updates in a folder that can be gone on from, and their number."""
    found = []
    for path in folder.glob("checkpoint*.pt"):
        state = peek(path)
        if state is not None and "last_optimizer_state" in state:
            found.append((int(state["optimizer_history"][-1]["num_updates"]), path))
    for updates, path in sorted(found, reverse=True):
        with contextlib.suppress(RefHCMError, OSError):
            check(path)
            return path, updates
    return None


def fingerprint(path: Path) -> str:
    """What two checkpoints of different content do not share, without reading all of them."""
    with zipfile.ZipFile(path) as archive:
        return f"{zlib.crc32(repr([(entry.filename, entry.CRC) for entry in archive.infolist()]).encode()):08x}"


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed run was just writing."""
    for path in folder.glob(f"checkpoint*.pt{UNFINISHED}"):
        with contextlib.suppress(OSError):
            path.unlink()
