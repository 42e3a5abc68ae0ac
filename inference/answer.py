"""The typed answer about one person, in the photo's own pixels."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.annotation import KEYPOINT_NAMES, MASK_NAMES, PART_NAMES, Box, Points
from ..data.images import open_image
from ..data.masks import encode_mask
from ..errors import RefHCMError

if TYPE_CHECKING:
    from PIL.Image import Image

    from .attention import AttentionMaps
    from .region_map import RegionMap

COORDINATE_DECIMALS = 2
"""Digits behind the point of pixel coordinates in JSON: finer than any bin of any size of picture we accept."""


@dataclass(frozen=True)
class PictureFile:
    """A picture that stays in its file until it is wanted again: answers to many photos need not hold them all."""

    path: Path
    """Absolute, so that it holds when the working folder changes."""
    stamp: tuple[int, int]
    """Its size in bytes and the time of its last change in nanoseconds, when it was asked about."""

    @classmethod
    def of(cls, path: str | os.PathLike) -> PictureFile:
        """The file as it is now; OSError where there is none."""
        absolute = Path(path).absolute()
        return cls(absolute, cls._stamp(absolute))

    def open(self) -> Image:
        """The picture as the model took it (RGB, after its EXIF turn); RefHCMError where it is gone or another now."""
        picture = open_image(self.path)
        if self._stamp(self.path) != self.stamp:
            raise RefHCMError(f"{self.path} has changed since it was asked about: ask again, or use draw(picture).")
        return picture

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int]:
        status = path.stat()
        return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model says about the person that the words, the region or the points point at.

    Mask and parts of one answer agree: the mask says where the person is, and the parts what is there, so that the
    union of the parts is the mask. Both lie in the box, and so do keypoints, except those of models that look for them
    everywhere (see `refhcm.models.abilities`).

    Fields that were not asked for, and all of them when nobody fits, are None. All coordinates are continuous pixels of
    the picture as it was given (after its EXIF turn): the top-left pixel covers [0, 0, 1, 1].
    """

    size: tuple[int, int]
    """Width and height of the picture in pixels."""
    text: str | None = None
    """The words that were asked with."""
    region: Box | None = None
    """The region that was asked with, x1, y1, x2, y2. The box is the same, or a better one of the model's own finding
    (`Abilities.loose_regions`)."""
    present: bool = True
    """Whether the model found somebody who fits; of a point, a scribble or a loosely drawn region also whether they are
    there, and not elsewhere (within a quarter of the box's sides)."""
    score: float = 0.0
    """A ranking score, 0 to 1: comparable between answers of one model, not a probability of being right.

    The geometric mean of the probabilities of the chosen tokens: of the four bins of the box; where the box was given
    by a region, of what follows it, or of the caption or region map where nothing does (1 where nothing was decoded). A
    bin's probability is that of this single bin, while training spreads half of it over the neighbours
    (`bin_smoothing`): the bundled model's boxes score 0.05 to 0.24.
    """
    box: Box | None = None
    """x1, y1, x2, y2."""
    keypoints: np.ndarray | None = None
    """float32 (17, 3): x, y, score in COCO order; an absent keypoint is 0, 0, 0 and is never drawn."""
    visibility: np.ndarray | None = None
    """Of a model that tells: how well each keypoint is seen, int (17,) as in COCO: 0 absent, 1 hidden, 2 visible."""
    parsing: np.ndarray | None = None
    """uint8 (H, W): CIHP classes 0 to 19 (`refhcm.data.annotation.PART_NAMES`)."""
    mask: np.ndarray | None = None
    """Where the person is, bool (H, W). Without a mask of the model's own, the union of the parts."""
    caption: str | None = None
    """One sentence that describes the person."""
    region_map: RegionMap | None = None
    """What of the region (or of the box that was found) is background, the person, and other people."""
    points: Points | None = None
    """The point that was asked with, or those points of the scribble that were read."""
    presence: float | None = None
    """How likely it is that somebody fits, in [0, 1], of a model that can say "nobody" (calibrated where the model
    folder says how), or that can be pointed at: 0 where whom it found is elsewhere. In a list of several people
    (`everybody`): that the list goes on with this one."""
    source: Image | PictureFile | None = field(default=None, repr=False)
    """The picture that was asked about: its file where it was given as one, otherwise the picture itself."""
    attention_maps: AttentionMaps | None = field(default=None, repr=False)
    """Where the model looked, of a question that was asked with `attention`; see `attention`."""

    def __post_init__(self) -> None:
        width, height = self.size
        if self.keypoints is not None and self.keypoints.shape != (len(KEYPOINT_NAMES), 3):
            raise RefHCMError(f"Keypoints must have the shape (17, 3), not {self.keypoints.shape}.")
        if self.parsing is not None and self.parsing.shape != (height, width):
            raise RefHCMError(f"A part map of shape {self.parsing.shape} does not fit a {width} x {height} picture.")
        if self.mask is None and self.parsing is not None:
            object.__setattr__(self, "mask", self.parsing > 0)
        if self.mask is not None and (self.mask.shape != (height, width) or self.mask.dtype != bool):
            raise RefHCMError(
                f"A mask of {self.mask.dtype} of shape {self.mask.shape} does not fit a {width} x {height} picture."
            )

    @property
    def image(self) -> Image | None:
        """The picture that was asked about, as the model took it (RGB, after its EXIF turn), to draw on.

        One that was given as a file is read again; RefHCMError where that is gone or has changed.
        """
        return self.source.open() if isinstance(self.source, PictureFile) else self.source

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that the part map holds, in the order of their classes; empty without a map."""
        if self.parsing is None:
            return ()
        return tuple(name for part, name in enumerate(PART_NAMES) if part and (self.parsing == part).any())

    @property
    def attention_names(self) -> tuple[str, ...]:
        """What `attention` can be asked about: outputs and keypoints that were answered. Empty without maps."""
        return self.attention_maps.names if self.attention_maps else ()

    def attention(self, name: str, index: int | None = None, *, cells: bool = False) -> np.ndarray:
        """Where in the picture the model looked while it wrote a part of this answer.

        Args:
            name: One of `attention_names`: "box", "keypoints" (all of them), a keypoint like "left_wrist", "parsing",
                "mask", "region_map", "caption".
            index: One of what that consists of, from 0, in place of the mean over all: side of the box (left, top,
                right, bottom), coordinate of a keypoint (x, y), place of the 8 rows of 6 of a map or mask, word of the
                caption (as `caption.split()` counts).
            cells: Give the model's own picture cells, float32 [h, w], in shares of its attention: their sum is the
                share of the whole picture, and what is missing to 1 went to the words of the question.

        Returns float32 [H, W] in the picture's pixels, in [0, 1], where 1 is the strongest cell (bilinear between the
        centres of cells). RefHCMError where the question was asked without attention=True, or about what this answer
        does not hold; of a given region there is no "box", because it is no answer.
        """
        from .attention import spread

        found = self._maps().cells(name, index)
        return found if cells else spread(found, self.size)

    def draw_attention(self, *names: str, image: Any = None) -> Image:
        """The picture under heat maps, one for each name, RGB; without names all of `attention_names`.

        "keypoints" stands for each of them, "caption" for each of its words. `image` as in `draw`. RefHCMError as in
        `attention`, and where there is nothing to draw.
        """
        from .draw_attention import draw_attention

        maps = self._maps()
        return draw_attention(self._picture(image, "draw_attention(image=picture)"), self, maps, names)

    def _maps(self) -> AttentionMaps:
        if self.attention_maps is None:
            raise RefHCMError("This answer holds no attention maps: ask with attention=True.")
        return self.attention_maps

    def _picture(self, image: Any, call: str) -> Any:
        """What to draw on: `image`, or the picture that was asked about."""
        picture = self.image if image is None else image
        if picture is None:
            raise RefHCMError(f"This answer does not hold its picture: give it to {call}.")
        return picture

    def draw(self, image: Any = None, panel: bool = True) -> Image:
        """The picture with this answer drawn on it, RGB.

        `image` is a picture of the same size in any form that the predictor takes, by default the one that was asked
        about (see `image`). With `panel`, a small picture is enlarged and a huge one shrunk, and a strip below it holds
        question, caption and legend; without, the result has the size of the picture and only box, skeleton and parts
        are drawn.
        """
        from .draw import draw_answer

        return draw_answer(self._picture(image, "draw(picture)"), self, panel=panel)

    def to_dict(
        self, parsing_file: str | None = None, mask_file: str | None = None, region_map_file: str | None = None
    ) -> dict[str, Any]:
        """A dictionary of plain numbers, strings and lists, ready for JSON (no NaN). Attention maps are left out.

        `parsing` is None without a part map, `parsing_file` when it is given (where the map was saved), and otherwise
        one COCO run-length mask per part: {"hair": {"size": [H, W], "counts": "..."}, ...}. So are `mask`, which is one
        such mask, and `region_map`, which has one for "person" and one for "other people".
        """
        parsing, found = self.parsing, self.region_map
        return {
            "text": self.text,
            "region": _rounded(self.region),
            "points": None if self.points is None else [_rounded(point) for point in self.points],
            "size": [int(side) for side in self.size],
            "present": bool(self.present),
            "presence": None if self.presence is None else _number(self.presence, 4),
            "score": _number(self.score, 4),
            "box": _rounded(self.box),
            "keypoints": None if self.keypoints is None else [_keypoint(point) for point in self.keypoints],
            "visibility": None if self.visibility is None else self.visibility.tolist(),
            "caption": self.caption,
            "parsing": None if parsing is None else parsing_file or _each(parsing, PART_NAMES),
            "mask": None if self.mask is None else mask_file or _run_lengths(self.mask),
            "region_map": None if found is None else region_map_file or _each(found.paste(), MASK_NAMES),
        }

    def to_json(self, parsing_file: str | None = None, indent: int | None = None) -> str:
        """`to_dict` as JSON text (strict JSON: never NaN or Infinity)."""
        return json.dumps(self.to_dict(parsing_file), allow_nan=False, indent=indent)

    def save(self, folder: str | Path, stem: str, image: Any = None) -> list[Path]:
        """Write `stem.json`, what `save_maps` writes, and with `image` the drawing `stem.png`.

        So are attention maps (`save_attention`). The folder is made when it is missing. Returns the paths that were
        written, the JSON file first.
        """
        folder = Path(folder)
        maps = self.save_maps(folder, stem)
        written = [folder / f"{stem}.json", *maps.values()]
        if image is not None:
            written.append(folder / f"{stem}.png")
            self.draw(image).save(written[-1])
        written += self.save_attention(folder, stem, image)
        values = self.to_dict(**{f"{name}_file": path.name for name, path in maps.items()})
        written[0].write_text(json.dumps(values, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        return written

    def save_maps(self, folder: str | Path, stem: str) -> dict[str, Path]:
        """Write what covers the picture as grey PNG files of its size into a folder, which is made when it is missing.

        By the name of the field: the part map `stem_parts.png`, whose values are the classes; the mask `stem_mask.png`,
        0 and 255; the region map `stem_region_map.png`, whose values are the classes. What there is not is not written.
        """
        maps = {"parsing": ("parts", self.parsing), "mask": ("mask", None), "region_map": ("region_map", None)}
        if self.mask is not None:
            maps["mask"] = "mask", self.mask * np.uint8(255)
        if self.region_map is not None:
            maps["region_map"] = "region_map", self.region_map.paste()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return {
            name: _write_grey(folder / f"{stem}_{suffix}.png", values)
            for name, (suffix, values) in maps.items()
            if values is not None
        }

    def save_attention(self, folder: str | Path, stem: str, image: Any = None) -> list[Path]:
        """Write attention maps, where there are any, into a folder that exists: `stem_attention.npz` (see
        `AttentionMaps.save`), and with `image` their drawing `stem_attention.png`. Returns the paths."""
        folder = Path(folder)
        if self.attention_maps is None or not self.attention_names:
            return []
        written = [self.attention_maps.save(folder / f"{stem}_attention.npz")]
        if image is not None:
            written.append(folder / f"{stem}_attention.png")
            self.draw_attention(image=image).save(written[-1])
        return written

    def save_parsing(self, path: str | Path) -> Path:
        """Write the part map as a grey PNG whose pixel values are the classes; RefHCMError when there is no map."""
        if self.parsing is None:
            raise RefHCMError("This answer has no part map to save: ask for 'parsing'.")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _write_grey(path, self.parsing)


def _write_grey(path: Path, values: np.ndarray) -> Path:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(values, np.uint8)).save(path, format="PNG")
    return path


def _number(value: float, digits: int) -> float:
    """A rounded Python float; what is not finite becomes 0, which JSON can hold and which means "not sure at all"."""
    value = float(value)
    return round(value, digits) if math.isfinite(value) else 0.0


def _rounded(place: Sequence[float] | None) -> list[float] | None:
    """A box or a point."""
    return None if place is None else [_number(value, COORDINATE_DECIMALS) for value in place]


def _keypoint(point: np.ndarray) -> list[float]:
    x, y, score = (float(value) for value in point)
    if not (score > 0 and math.isfinite(x) and math.isfinite(y)):
        return [0.0, 0.0, 0.0]
    return [_number(x, COORDINATE_DECIMALS), _number(y, COORDINATE_DECIMALS), _number(score, 4)]


def _each(labels: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One run-length mask for each class but the first that occurs, by its name."""
    return {
        name: _run_lengths(labels == label) for label, name in enumerate(names) if label and (labels == label).any()
    }


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed run lengths (pycocotools reads them back)."""
    return {"size": [int(side) for side in mask.shape], "counts": encode_mask(mask)}
