"""Pictures in: whatever a user has, checked before it is decoded, as an RGB picture and then as the model's
tensor."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import RefHCMError

if TYPE_CHECKING:  # imported where it is used: what only looks at files starts without it
    import torch

ImageSource = str | os.PathLike | bytes | Image.Image | np.ndarray
"""A file, the bytes of one, a PIL picture, or an array: uint8, uint16, bool, or float in [0, 1]; (H, W), (H,
W, 1), RGB (H, W, 3) or RGBA (H, W, 4)."""

MAX_PIXELS = 178_000_000
"""Width times height above which nothing is decoded. PIL itself refuses 178,956,970 pixels and more."""
MAX_BYTES = 512 * 2**20
"""Size of a picture file above which it is not opened."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is read, as far as the installed Pillow can. EPS, which needs another program, is left out on
purpose."""

_PIL_ERRORS = (OSError, SyntaxError, ValueError, EOFError, RuntimeError)
"""What PIL raises for damaged pictures; RuntimeError comes from its AVIF plugin."""


def open_image(source: ImageSource, *, orient: bool = True, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture in RGB, ready for the model.

    `orient` turns a photo as its EXIF tag says (right for a user's photo; wrong for datasets, whose labels
    refer to the stored pixels). The first frame stands for an animation; transparent places become white.
    Raises RefHCMError with one sentence when there is no such file, when it is no picture, cut off, empty or
    above `max_pixels`.
    """
    return open_sized(source, orient=orient, max_pixels=max_pixels)[0]


def open_sized(
    source: ImageSource, *, orient: bool = True, max_pixels: int = MAX_PIXELS, draft: int = 0
) -> tuple[Image.Image, tuple[int, int]]:
    """As `open_image`, with the full (width, height) beside it.

    With `draft` a JPEG may come at a half, a quarter or an eighth of its size, both sides at least `draft`
    pixels, which saves most of the decoding time; coordinates of labels still refer to the returned full
    size.
    """
    name = _name(source)
    if isinstance(source, Image.Image):
        _check_size(source.size, name, max_pixels)
        picture = source
    elif isinstance(source, np.ndarray):
        picture = _from_array(source, max_pixels)
    else:
        picture = _open_header(source, name)
        _check_size(picture.size, name, max_pixels)
    size = picture.size
    if draft and picture.format == "JPEG":
        picture.draft("RGB", (draft, draft))
    try:
        picture.load()
    except _PIL_ERRORS as error:
        raise RefHCMError(f"{name} is cut off or damaged ({error}): get a whole copy of it.") from error
    rgb = _to_rgb(picture)
    turn = _exif_turn(picture) if orient else None
    if turn is None:
        return rgb, size
    turned = rgb.transpose(turn)
    turned.info.clear()  # the tag would turn it again where it is opened a second time, to be drawn on
    return turned, size[::-1] if turn in _SIDEWAYS else size


def picture_size(source: str | os.PathLike | bytes) -> tuple[int, int]:
    """(width, height) of the pixels as they are stored, from the header alone; RefHCMError as `open_image`."""
    name = _name(source)
    with _open_header(source, name) as picture:
        _check_size(picture.size, name, MAX_PIXELS)
        return picture.size


def picture_format(source: str | os.PathLike | bytes) -> str:
    """One of `FORMATS`, from the header alone; RefHCMError as `open_image`."""
    with _open_header(source, _name(source)) as picture:
        return picture.format or ""


def turned_by_exif(path: str | os.PathLike) -> bool:
    """Whether viewers show a photo otherwise than its pixels are stored, because of its EXIF tag; errors as
    `open_image`."""
    with _open_header(path, os.fspath(path)) as picture:
        return _exif_turn(picture) is not None


def open_indices(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 (H, W): the classes of a label map stored as a grey or palette picture; RefHCMError for any
    other."""
    name = _name(source)
    picture = _open_header(source, name)
    _check_size(picture.size, name, max_pixels)
    if picture.mode not in ("L", "P") or picture.format == "JPEG":
        raise RefHCMError(
            f"{name} is no label map: it is {picture.mode} {picture.format}, not a grey or palette PNG."
        )
    try:
        return np.array(picture, np.uint8)
    except _PIL_ERRORS as error:
        raise RefHCMError(f"{name} is cut off or damaged ({error}): get a whole copy of it.") from error


def to_tensor(image: Image.Image, size: int, mean: Any = 0.5, std: Any = 0.5) -> torch.Tensor:
    """The picture as the model sees it: float32 (3, size, size), squashed to a square with PIL's bicubic
    filter.

    The aspect ratio is not kept and values are (value / 255 - mean) / std, as published for OFA and RefHCM;
    `mean` and `std` are numbers or three of them.
    """
    return normalise(squash(image, size), mean, std)


def squash(image: Image.Image, size: int, fast: bool = False) -> Image.Image:
    """An RGB picture resampled to size x size with an antialiased bicubic filter.

    `fast` uses torch's kernel, several times quicker than PIL's. On photos its values differ by up to 4 of
    255 (on noise by more), so it is for training only.
    """
    if image.mode != "RGB":
        raise ValueError(f"The picture is in mode {image.mode}: pass it through open_image first.")
    if image.size == (size, size):
        return image
    if not fast:
        return image.resize((size, size), Image.Resampling.BICUBIC)
    import torch

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    return Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy())


def normalise(image: Image.Image, mean: Any = 0.5, std: Any = 0.5) -> torch.Tensor:
    """float32 (3, H, W) of an RGB picture: (value / 255 - mean) / std."""
    import torch

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float()
    scale = 1 / (255 * torch.as_tensor(std, dtype=torch.float32).reshape(-1, 1, 1))
    shift = torch.as_tensor(mean, dtype=torch.float32).reshape(-1, 1, 1) * 255
    return pixels.sub_(shift).mul_(scale)


# -- reading -------------------------------------------------------------------------------------------------
def _name(source: ImageSource) -> str:
    return f"{os.fspath(source)}" if isinstance(source, str | os.PathLike) else "The picture"


def _open_header(source: str | os.PathLike | bytes, name: str) -> Image.Image:
    """Open without decoding: PIL reads only the header here."""
    stream: io.BytesIO | Path
    if isinstance(source, bytes | bytearray | memoryview):
        stream, length = io.BytesIO(source), len(source)
    elif isinstance(source, str | os.PathLike):
        stream, length = _find(Path(source), name)
    else:
        raise RefHCMError(
            f"A {type(source).__name__} is not a picture: give a file, its bytes, a PIL image or an array."
        )
    if length == 0:
        raise RefHCMError(f"{name} is empty (0 bytes): get a whole copy of it.")
    if length > MAX_BYTES:
        raise RefHCMError(f"{name} has {length:,} bytes; at most {MAX_BYTES:,} are read: make it smaller.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked next
            warnings.simplefilter("ignore", UserWarning)  # Pillow's word on damaged EXIF tags
            Image.init()  # makes Pillow register what it can open
            return Image.open(stream, formats=[kind for kind in FORMATS if kind in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise RefHCMError(f"{name} has too many pixels ({MAX_PIXELS:,} at most): make it smaller.") from error
    except UnidentifiedImageError as error:
        raise RefHCMError(f"{name} is not a picture of a known kind ({', '.join(FORMATS)}).") from error
    except _PIL_ERRORS as error:
        raise RefHCMError(f"{name} cannot be read as a picture ({error}).") from error


def _find(path: Path, name: str) -> tuple[Path, int]:
    """The file itself and its size in bytes."""
    if not name:
        raise RefHCMError("The path of the picture is empty: name a file.")
    try:
        if path.is_dir():
            raise RefHCMError(f"{name} is a folder: name one picture in it.")
        if path.exists():
            return path, path.stat().st_size
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise RefHCMError(f"The path {name[:80]} cannot be used ({error.strerror}): check it.") from error
    raise RefHCMError(f"There is no picture at {name}: check the path.")


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise RefHCMError(f"{name} is {width}x{height} pixels: there is nothing to see.")
    if width * height > max_pixels:
        raise RefHCMError(f"{name} is {width}x{height} pixels, more than {max_pixels:,}: make it smaller.")


def _from_array(array: np.ndarray, max_pixels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise RefHCMError(
            f"An array of shape {array.shape} is not a picture: give (H, W), (H, W, 3) or (H, W, 4)."
        )
    _check_size((array.shape[1], array.shape[0]), "The picture", max_pixels)
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise RefHCMError(
                "An array of floats must hold values from 0 to 1: divide by 255, or give uint8."
            )
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise RefHCMError(
            f"An array of {array.dtype} is not a picture: give uint8, uint16, bool or float in [0, 1]."
        )
    return Image.fromarray(np.ascontiguousarray(array))


# -- modes ---------------------------------------------------------------------------------------------------
def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit greys keep their upper byte, transparent places become white."""
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode == "La":  # PIL converts its premultiplied grey to nothing but LA
        picture = picture.convert("LA")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_wide_grey(np.asarray(picture)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _wide_grey(values: np.ndarray) -> np.ndarray:
    """uint8 of greys deeper than eight bits: integers are 16-bit (PNG, TIFF), floats reach from 0 to 1 or to
    255."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        values = values * (255 if values.max(initial=0) <= 1 else 1)
    else:
        values = values.astype(np.int64) >> 8
    return values.clip(0, 255).astype(np.uint8)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each value of the EXIF orientation tag (EXIF 2.3, tag 0x0112)."""
_SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def _exif_turn(picture: Image.Image) -> Image.Transpose | None:
    """How the EXIF tag asks to turn the picture; a damaged tag is no reason to refuse the photo."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return _TURNS.get(picture.getexif().get(0x0112, 1))  # 1: it stands upright
    except Exception:  # PIL raises many kinds here, SyntaxError and struct.error among them
        return None
