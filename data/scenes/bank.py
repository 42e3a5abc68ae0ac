"""A bank of rendered people on disk, made once and read by the compositor.

    python -m refhcm.data.scenes.bank OUT --count 9000 --seed 1 --workers 2

A bank is a folder of shards `shard-00000.zip`, ... (zip without compression): per cut-out `000.webp` (RGBA,
lossy colour, exact alpha) and `000.png` (part map), and one `index.jsonl` with the rest. Shards are complete
or absent, so a bank can be read while it grows, and a stopped run continues where it was. Person i depends on
the seed and on i alone.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import zipfile
from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import RefHCMError
from ..commands import in_range, one_sentence, writable_folder
from .cutout import Cutout

if TYPE_CHECKING:
    from .people3d.render import Renderer

FORMAT = "refhcm people bank 2"
PEOPLE_PER_SHARD = 40
VIEWS = (2, 3)
"""Views of people with an even and an odd number; a further view costs a third of a new person."""
CUTOUTS_PER_SHARD = PEOPLE_PER_SHARD * sum(VIEWS) // 2
WEBP_QUALITY = 87
MAX_SIDE = 2048
"""Larger pictures are not from this program and are refused before they are decoded."""
MAX_INDEX_BYTES = 16 * 2**20


class BankError(RefHCMError):
    """A bank that cannot be read or continued."""


def encode(cutout: Cutout) -> tuple[bytes, bytes, dict]:
    """A cut-out as WebP bytes, PNG bytes of the part map, and the values that go into the index."""
    image, parts = io.BytesIO(), io.BytesIO()
    Image.fromarray(cutout.image).save(image, "WEBP", quality=WEBP_QUALITY, alpha_quality=100, method=3)
    Image.fromarray(cutout.parts).save(parts, "PNG", compress_level=6)
    record = {
        "size": [cutout.image.shape[1], cutout.image.shape[0]],
        "attributes": cutout.attributes,
        "height_m": round(cutout.height_m, 4),
        "stature_px": round(cutout.stature_px, 2),
        "elevation": round(cutout.elevation, 1),
        "keypoints": [[round(float(x), 2), round(float(y), 2), int(v)] for x, y, v in cutout.keypoints],
    }
    return image.getvalue(), parts.getvalue(), record


def decode(image: bytes, parts: bytes, record: dict) -> Cutout:
    """The inverse of `encode`; raises BankError for what `encode` cannot have written."""
    try:
        return Cutout(
            _pixels(image, "WEBP", "RGBA", record["size"]), _pixels(parts, "PNG", "L", record["size"]),
            np.array(record["keypoints"], np.float32).reshape(-1, 3), dict(record["attributes"]),
            float(record["height_m"]), float(record["stature_px"]), float(record.get("elevation", 0.0)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BankError(
            f"A cut-out of the bank is damaged ({error}): delete its shard and run the bank again."
        ) from error


def _pixels(data: bytes, kind: str, mode: str, size: list[int]) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        if max(image.size) > MAX_SIDE or list(image.size) != list(size):
            raise BankError(f"picture of {image.size} pixels where the index says {size}")
        return np.array(image.convert(mode))


def write_shard(path: Path, cutouts: Iterable[tuple[Cutout, dict]]) -> int:
    """Write a shard in one move; with each cut-out comes a dict of further values for the index. Returns
    their number.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    lines = []
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as shard:
        for number, (cutout, notes) in enumerate(cutouts):
            image, parts, record = encode(cutout)
            shard.writestr(f"{number:03d}.webp", image)
            shard.writestr(f"{number:03d}.png", parts)
            lines.append(json.dumps(record | notes, separators=(",", ":")))
        shard.writestr("index.jsonl", "\n".join(lines))
    os.replace(part, path)
    return len(lines)


@lru_cache(maxsize=64)
def _open_shard(path: Path, process: int) -> zipfile.ZipFile:
    """An open shard; one per process, because a file position must not be shared over a fork."""
    return zipfile.ZipFile(path)


def _read_index(path: Path) -> list[dict]:
    try:
        shard = _open_shard(path, os.getpid())
        if shard.getinfo("index.jsonl").file_size > MAX_INDEX_BYTES:
            raise BankError(f"The index of {path} is too large to be one of ours: delete the file.")
        return [json.loads(line) for line in shard.read("index.jsonl").decode().splitlines()]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BankError(
            f"{path} is not a shard of a people bank ({error}): delete it and run the bank again."
        ) from error


class Bank:
    """The cut-outs of a folder, in order of shard and number. Shards that appear later are not seen."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.shards = sorted(Path(folder).glob("shard-*.zip"))
        if not self.shards:
            raise BankError(
                f"No people bank in {folder}: make one with "
                f"python -m refhcm.data.scenes.bank {folder} --count 1000."
            )
        indices = [_read_index(path) for path in self.shards]
        self.starts = np.cumsum([0] + [len(index) for index in indices]).tolist()
        self.records = [record for index in indices for record in index]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int) -> Cutout:
        """Read and decode one cut-out."""
        if not 0 <= i < len(self):
            raise IndexError(f"Cut-out {i} of a bank of {len(self)}.")
        shard = bisect_right(self.starts, i) - 1
        file, number = _open_shard(self.shards[shard], os.getpid()), i - self.starts[shard]
        image, parts = (self._member(file, f"{number:03d}.{kind}") for kind in ("webp", "png"))
        return decode(image, parts, self.records[i])

    @staticmethod
    def _member(file: zipfile.ZipFile, name: str) -> bytes:
        try:
            if file.getinfo(name).file_size > 4 * MAX_SIDE**2:
                raise BankError(
                    f"{name} of {file.filename} is too large to be one of ours: delete the shard."
                )
            return file.read(name)
        except (KeyError, zipfile.BadZipFile) as error:
            raise BankError(
                f"{file.filename} is damaged ({error}): delete it and run the bank again."
            ) from error

    def attributes(self, i: int) -> dict[str, str]:
        """The words about a cut-out (`cutout.ATTRIBUTE_KEYS`), without decoding it."""
        return dict(self.records[i]["attributes"])

    def elevation(self, i: int) -> float:
        """Of a cut-out's camera (`Cutout.elevation`), without decoding it; 0 where the bank does not say."""
        return float(self.records[i].get("elevation", 0.0))

    def notes(self, i: int) -> dict:
        """The index entry: `person` (the same for all views of one), keypoints, camera and light angles."""
        return dict(self.records[i])


def render_shard(path: Path, seed: int, shard: int, count: int) -> int:
    """Render the first `count` cut-outs of a shard and write it. Runs in a worker process."""
    from .people3d.body import build_person
    from .people3d.portrait import portraits
    from .people3d.wardrobe import sample_look

    def cutouts() -> Iterable[tuple[Cutout, dict]]:
        left, person = count, shard * PEOPLE_PER_SHARD
        while left > 0:
            rng = np.random.default_rng([seed, person])
            built = build_person(sample_look(rng), rng)
            for cutout, notes in portraits(_renderer(), built, VIEWS[person % 2], rng)[:left]:
                yield cutout, {"person": person} | notes
                left -= 1
            person += 1

    return write_shard(path, cutouts())


@lru_cache(maxsize=1)
def _renderer() -> Renderer:
    from .people3d.render import Renderer

    return Renderer()


def _start_worker() -> None:
    """One thread per worker: several workers share the cores better than several threads do."""
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's software renderer
    import torch

    torch.set_num_threads(1)


def _prepare(folder: Path, count: int, seed: int) -> list[tuple[Path, int, int, int]]:
    """Check that the folder is new or of the same seed, and list the shards that are still to be made."""
    about = writable_folder(folder) / "bank.json"
    card = {"format": FORMAT, "seed": seed, "cutouts_per_shard": CUTOUTS_PER_SHARD}
    if about.exists() and (found := _read_card(about)) != card:
        raise BankError(
            f"{folder} holds another bank ({json.dumps(found)}): choose another folder or delete it."
        )
    about.write_text(json.dumps(card) + "\n")
    jobs = []
    for shard in range(-(-count // CUTOUTS_PER_SHARD)):
        wanted = min(CUTOUTS_PER_SHARD, count - shard * CUTOUTS_PER_SHARD)
        path = folder / f"shard-{shard:05d}.zip"
        if not path.exists() or len(_read_index(path)) < wanted:
            jobs.append((path, seed, shard, wanted))
    return jobs


def _read_card(path: Path) -> object:
    """What bank.json says about its bank."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BankError(f"{path} is damaged ({error}): choose another folder or delete this bank.") from error


def build(folder: str | os.PathLike, count: int, seed: int, workers: int = 1) -> None:
    """Render what is missing of a bank of `count` cut-outs. Needs the extra `scenes3d` and the MakeHuman
    garments.
    """
    from tqdm import tqdm

    from .people3d.assets import data_root

    in_range(1, count=count, workers=workers)
    in_range(0, seed=seed)
    data_root()  # says what is missing before any worker starts
    jobs = _prepare(Path(folder), count, seed)
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool,
        tqdm(total=sum(job[-1] for job in jobs), unit="cut-out") as bar,
    ):
        for done in as_completed([pool.submit(render_shard, *job) for job in jobs]):
            bar.update(done.result())


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.data.scenes.bank", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", metavar="OUT")
    parser.add_argument("--count", type=int, default=9000, help="number of cut-outs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    try:
        build(options.folder, options.count, options.seed, options.workers)
    except (RefHCMError, OSError) as error:
        print(f"bank: {one_sentence(error)}", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("bank: a worker was ended from outside, perhaps for want of memory: ask for fewer --workers.",
              file=sys.stderr)  # fmt: skip
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
