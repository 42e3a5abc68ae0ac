"""How the rows of a converted set come to their pictures: a link to the folder, copies, or base64 in the row.

A row may only name files below its own folder (the reader refuses any other path), so pictures that lie elsewhere are
reached through `OUT/images`, which is a link to their folder or a folder of copies.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import RefHCMError
from ..commands import is_file
from .skip import Skip

POLICIES = ("link", "copy", "embed")
IMAGES = "images"
_KEPT = 64
"""Base64 pictures that are kept for the next rows."""


@dataclass(frozen=True)
class Picture:
    """A picture that exists: what a row says of it, its (width, height) in stored pixels, and where it is."""

    value: str
    size: tuple[int, int]
    path: Path


class PictureFolder:
    """Pictures of one source folder, under `OUT/images` or `OUT/images/<under>`."""

    def __init__(self, folder: Path, out: Path, policy: str = "link", under: str = "") -> None:
        if policy not in POLICIES:
            raise RefHCMError(f"--pictures is one of {', '.join(POLICIES)}, not {policy!r}.")
        if not folder.is_dir():
            raise RefHCMError(f"There is no folder of pictures at {folder}: name it with --images.")
        self.folder, self.policy = folder, policy
        self.prefix = PurePosixPath(IMAGES, under)
        self.target = out / IMAGES / under
        self._known: dict[str, Picture] = {}
        self._encoded: OrderedDict[str, str] = OrderedDict()
        if policy == "link":
            self._link()
        elif policy == "copy":
            self._own_folder()

    def get(self, name: str, stated: tuple[int, int] | None = None) -> Picture:
        """The picture called `name` (a relative path). Skip when there is none, when it cannot be opened, or when it
        has not the (width, height) that its annotations state.
        """
        if name not in self._known:
            self._known[name] = self._open(name)
        picture = self._known[name]
        if stated is not None and picture.size != tuple(stated):
            raise Skip("the picture has another size than its annotations say")
        if self.policy != "embed":
            return picture
        return Picture(self._base64(name, picture.path), picture.size, picture.path)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name (a relative path)."""
        return name in self._known or (_stays_inside(name) and is_file(self.folder / name))

    def _open(self, name: str) -> Picture:
        from ..images import picture_size

        if not _stays_inside(name):
            raise Skip("the name of the picture leaves its folder")
        relative = PurePosixPath(name)
        path = self.folder / relative
        if not is_file(path):
            raise Skip("the picture is missing")
        try:
            size = picture_size(path)
        except RefHCMError as error:
            raise Skip("the picture cannot be opened") from error
        if self.policy == "copy":
            _copy(path, self.target / relative)
        return Picture(str(self.prefix / relative), size, path)

    def _base64(self, name: str, path: Path) -> str:
        if name not in self._encoded:
            self._encoded[name] = base64.b64encode(path.read_bytes()).decode("ascii")
            if len(self._encoded) > _KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(name)
        return self._encoded[name]

    def _link(self) -> None:
        wanted, link = self.folder.resolve(), self.target
        _no_link_above(link)
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            if link.resolve() == wanted:
                return
            link.unlink()
        elif link.exists():
            if link.samefile(wanted):  # converted in place: the pictures lie where rows look for them
                return
            raise RefHCMError(f"{link} is in the way of a link to the pictures: remove it, or name another --out.")
        try:
            os.symlink(wanted, link, target_is_directory=True)
        except OSError as error:
            raise RefHCMError(f"No link can be made at {link} ({error}): choose --pictures copy or embed.") from error

    def _own_folder(self) -> None:
        """A folder for copies: never through a link, which would write among the originals."""
        _no_link_above(self.target)
        if self.target.is_symlink():
            self.target.unlink()
        self.target.mkdir(parents=True, exist_ok=True)


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def _no_link_above(target: Path) -> None:
    """Where `OUT/images` was a link and is to become a folder with subfolders, the link goes."""
    if target.name != IMAGES and target.parent.is_symlink():
        target.parent.unlink()


def _copy(path: Path, target: Path) -> None:
    if target.is_file() and target.stat().st_size == path.stat().st_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(path, part)
    os.replace(part, target)
