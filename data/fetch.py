"""Download the published vocabulary beside the published weights: `python -m refhcm.data.fetch FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import RefHCMError
from .text import PUBLISHED_FILES, PublishedFile, check_published

_TIMEOUT = 60  # seconds without an answer


def download(file: PublishedFile) -> bytes:
    """The bytes at the pinned address, never more than one beyond the pinned size."""
    try:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT) as answer:
            return answer.read(file.size + 1)
    except (urllib.error.URLError, OSError) as error:
        raise RefHCMError(
            f"{file.url} cannot be reached ({error}): download it elsewhere and put it beside the weights."
        ) from error


def fetch(folder: str | Path, get: Callable[[PublishedFile], bytes] = download) -> list[Path]:
    """Put every published vocabulary file that is not yet there into `folder`; returns what was written.

    Size and SHA-256 are checked before a file gets its name, so a broken download leaves nothing behind.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file in PUBLISHED_FILES:
        path = folder / file.name
        if path.is_file():
            check_published(file, path.read_bytes() if path.stat().st_size == file.size else b"", str(path))
            continue
        content = check_published(file, get(file), file.url)
        part = path.with_suffix(".part")
        part.write_bytes(content)
        os.replace(part, path)
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m refhcm.data.fetch", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the published weights lie")
    try:
        for path in fetch(parser.parse_args(arguments).folder):
            print(f"downloaded {path}")
    except (RefHCMError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
