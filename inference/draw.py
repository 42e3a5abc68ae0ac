"""Draw an answer: part map, box and skeleton on the picture; question, caption and legend on a strip below it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.annotation import PART_COLOURS, PART_NAMES, SKELETON
from ..errors import RefHCMError

if TYPE_CHECKING:
    from .answer import Answer

Colour = tuple[int, int, int]
Point = tuple[float, float]

BOX_COLOUR: Colour = (64, 224, 120)
REGION_COLOUR: Colour = (255, 255, 255)
LEFT_COLOUR: Colour = (255, 150, 50)
RIGHT_COLOUR: Colour = (80, 170, 255)
MIDDLE_COLOUR: Colour = (250, 240, 110)
ABSENT_COLOUR: Colour = (255, 176, 64)
EDGE_COLOUR: Colour = (16, 18, 24)
PANEL_COLOUR: Colour = (24, 26, 32)
TEXT_COLOUR: Colour = (240, 242, 246)
FAINT_COLOUR: Colour = (158, 164, 176)

PART_OPACITY = 0.45
SMALLEST_SIDE, LARGEST_SIDE = 720, 4096
"""With a panel, the longer side of the picture is brought into this range: readable, and not too large to look at."""
MOST_ENLARGED = 6
STRIP_PIXELS = 2_000_000
"""Parts are blended over so many pixels at a time, so that a huge photo needs little more memory than itself."""
PANEL_WIDTH = 480
"""A panel is at least this wide; a narrower picture stands in its middle."""
SMOOTH_PIXELS = 4_000_000
"""Strokes are drawn at twice the size and shrunk (smooth edges) on pictures of up to this many pixels."""
ABSENT = "Nobody in the picture fits these words."
TEXT_LINES = 3
"""The question and the caption take at most this many lines each."""


def draw_answer(image: Any, answer: Answer, panel: bool = True) -> Image.Image:
    """The picture with `answer` drawn on it, as RGB.

    `image` is a path, bytes, PIL picture or uint8 array [H, W, 3] of the size that the answer is for; RefHCMError when
    it is not. A limb is drawn only where both its ends are present. See `Answer.draw` for `panel`.
    """
    picture = open_shown(image, answer.size)
    scale = shown_scale(picture.size) if panel else 1.0
    if scale != 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    if answer.parsing is not None:
        picture = _paint_parts(picture, answer.parsing)
    picture = _paint_strokes(picture, answer, scale)
    return _add_panel(picture, answer) if panel else picture


def open_shown(image: Any, size: tuple[int, int]) -> Image.Image:
    """The picture to draw on; RefHCMError where it has not the size (width, height) that the answer is for."""
    from ..data.images import open_image

    picture = open_image(image)
    if picture.size != tuple(size):
        raise RefHCMError(
            f"This answer is about a picture of {size[0]} x {size[1]} pixels; the one to draw on has "
            f"{picture.width} x {picture.height}."
        )
    return picture


def asked_about(answer: Answer) -> str:
    """The question, for a reader."""
    return f"“{answer.text}”" if answer.text is not None else "The marked region"


def shown_scale(size: tuple[int, int]) -> float:
    """How much a picture is enlarged or shrunk to be shown."""
    side = max(size)
    return min(max(1.0, SMALLEST_SIDE / side), MOST_ENLARGED) if side < LARGEST_SIDE else LARGEST_SIDE / side


def _unit(size: tuple[int, int]) -> float:
    """Length that a stroke's width and a letter's height are multiples of: about 1/700 of the picture's side."""
    return float(np.clip(np.sqrt(size[0] * size[1]) / 700, 0.6, 8.0))


# -- parts ---------------------------------------------------------------------------------------------------
def _paint_parts(picture: Image.Image, parsing: np.ndarray) -> Image.Image:
    """Tint every part with its colour and trace the borders between parts."""
    rows_used, columns_used = (np.flatnonzero(parsing.any(axis=axis)) for axis in (1, 0))
    if not len(rows_used):
        return picture
    height, width = parsing.shape
    across, down = picture.width / width, picture.height / height
    y1, x1, y2, x2 = rows_used[0], columns_used[0], rows_used[-1] + 1, columns_used[-1] + 1
    left, top = int(x1 * across), int(y1 * down)
    size = (max(1, round(x2 * across) - left), max(1, round(y2 * down) - top))
    crop = Image.fromarray(np.ascontiguousarray(parsing[y1:y2, x1:x2]))
    labels = np.asarray(crop.resize(size, Image.Resampling.NEAREST))
    border = _borders(labels, max(1, round(0.8 * _unit(picture.size))))
    palette = np.zeros((256, 3), np.float32)
    palette[: len(PART_COLOURS)] = PART_COLOURS
    result = picture.copy()
    rows = max(1, STRIP_PIXELS // size[0])
    for start in range(0, size[1], rows):
        strip = slice(start, start + rows)
        part, edge = labels[strip], border[strip]
        place = (left, top + start, left + size[0], top + start + len(part))
        pixels = np.asarray(picture.crop(place), dtype=np.float32)
        opacity = np.where(part > 0, np.float32(PART_OPACITY), np.float32(0))[..., None]
        tinted = pixels * (1 - opacity) + palette[part] * opacity
        tinted[edge] = 0.35 * tinted[edge] + 0.65 * 255
        result.paste(Image.fromarray(tinted.round().astype(np.uint8)), place[:2])
    return result


def _borders(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Bool, shaped as `labels`: pixels of a part that have another label within `thickness` pixels."""
    padded = np.pad(labels, thickness)
    height, width = labels.shape
    border = np.zeros(labels.shape, bool)
    for step in range(1, thickness + 1):
        for dy, dx in ((step, 0), (-step, 0), (0, step), (0, -step)):
            top, left = thickness + dy, thickness + dx
            border |= padded[top : top + height, left : left + width] != labels
    return border & (labels > 0)


# -- box and skeleton ----------------------------------------------------------------------------------------
@dataclass
class _Pen:
    """Draws strokes given in pixels of the shown picture on a layer that may be larger, for smooth edges."""

    layer: ImageDraw.ImageDraw
    zoom: int

    def line(self, start: Point, end: Point, colour: Colour, width: float) -> None:
        ends = [(x * self.zoom, y * self.zoom) for x, y in (start, end)]
        self.layer.line(ends, fill=colour, width=max(1, round(width * self.zoom)))
        for x, y in (start, end):
            self.dot((x, y), colour, width / 2)

    def dot(self, centre: Point, colour: Colour, radius: float) -> None:
        x, y, r = (value * self.zoom for value in (*centre, radius))
        self.layer.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def frame(self, box: tuple[float, ...], colour: Colour, width: float) -> None:
        corners = [value * self.zoom for value in box]
        self.layer.rectangle(corners, outline=colour, width=max(1, round(width * self.zoom)))


def _paint_strokes(picture: Image.Image, answer: Answer, scale: float) -> Image.Image:
    """Draw region, box with its score, and skeleton."""
    zoom = 2 if picture.width * picture.height <= SMOOTH_PIXELS else 1
    unit = _unit(picture.size)
    result = picture.copy()
    layer = Image.new("RGBA", (picture.width * 2, picture.height * 2)) if zoom == 2 else result
    pen = _Pen(ImageDraw.Draw(layer), zoom)
    if answer.region is not None:
        _paint_frame(pen, answer.region, scale, REGION_COLOUR, 1.4 * unit, picture.size)
    if answer.box is not None:
        _paint_frame(pen, answer.box, scale, BOX_COLOUR, 2.2 * unit, picture.size)
    if answer.keypoints is not None:
        _paint_skeleton(pen, answer.keypoints, scale, unit)
    if zoom == 2:
        strokes = layer.resize(picture.size, Image.Resampling.BOX)
        result.paste(strokes.convert("RGB"), mask=strokes.getchannel("A"))
    if answer.box is not None:
        _paint_score(ImageDraw.Draw(result), answer, scale, unit, result.size)
    return result


def _paint_frame(
    pen: _Pen, box: tuple[float, ...], scale: float, colour: Colour, width: float, size: tuple[int, int]
) -> None:
    """A frame with a dark rim, so that it can be seen on any ground; kept inside the picture."""
    low = [np.clip(value * scale, 0, side - 1) for value, side in zip(box[:2], size, strict=True)]
    high = [np.clip(value * scale, start, side - 1) for value, start, side in zip(box[2:], low, size, strict=True)]
    pen.frame((*low, *high), EDGE_COLOUR, width * 1.6)
    inset = min(width * 0.3, (high[0] - low[0]) / 2, (high[1] - low[1]) / 2)
    pen.frame((low[0] + inset, low[1] + inset, high[0] - inset, high[1] - inset), colour, width)


def _paint_skeleton(pen: _Pen, keypoints: np.ndarray, scale: float, unit: float) -> None:
    """Limbs between present points, then the points; each first as a wider dark stroke."""
    present = keypoints[:, 2] > 0
    if not present.any():
        return
    spread = float(np.ptp(keypoints[present, :2], axis=0).max()) * scale
    width = float(np.clip(spread / 90, max(1.0, 1.2 * unit), max(1.0, 4 * unit)))
    points = [(float(x) * scale, float(y) * scale) for x, y in keypoints[:, :2]]
    limbs = [(a, b) for a, b in SKELETON if present[a] and present[b]]
    for a, b in limbs:
        pen.line(points[a], points[b], EDGE_COLOUR, width * 1.9)
    for a, b in limbs:
        pen.line(points[a], points[b], _side_colour(a, b), width)
    for index in np.flatnonzero(present).tolist():
        pen.dot(points[index], EDGE_COLOUR, width * 1.7)
        pen.dot(points[index], _side_colour(index, index), width * 1.2)


def _side_colour(a: int, b: int) -> Colour:
    """Colour of a limb between two keypoints: COCO counts the left side odd, the right side even, the nose 0."""
    if a == 0 or b == 0 or a % 2 != b % 2:
        return MIDDLE_COLOUR
    return LEFT_COLOUR if a % 2 else RIGHT_COLOUR


def _paint_score(draw: ImageDraw.ImageDraw, answer: Answer, scale: float, unit: float, size: tuple[int, int]) -> None:
    """The score as a tag on the box's upper left corner: above it where there is room, inside otherwise."""
    font = load_font(max(9, round(13 * unit)))
    text = f"{answer.score:.2f}"
    margin = 3 * unit
    width, height = font.getlength(text) + 2 * margin, font.size + 2 * margin
    if width > size[0] or height > size[1] or answer.box is None:
        return
    x = float(np.clip(answer.box[0] * scale, 0, size[0] - width))
    y = answer.box[1] * scale
    y = float(np.clip(y - height if y >= height else y, 0, size[1] - height))
    draw.rectangle((x, y, x + width, y + height), fill=BOX_COLOUR)
    draw.text((x + width / 2, y + height / 2), text, EDGE_COLOUR, font, anchor="mm")


# -- panel ---------------------------------------------------------------------------------------------------
def _add_panel(picture: Image.Image, answer: Answer) -> Image.Image:
    """Put the picture on a sheet with a strip below it: the question and its verdict, the caption, the legend."""
    width = max(picture.width, PANEL_WIDTH)
    unit = max(1.0, _unit((width, picture.height)))
    margin, size = round(12 * unit), round(15 * unit)
    head, body = load_font(round(size * 1.1)), load_font(size)
    room = width - 2 * margin
    rows = [(line, head, TEXT_COLOUR) for line in break_lines(asked_about(answer), head, room)]
    if not answer.present:
        rows += [(line, body, ABSENT_COLOUR) for line in break_lines(ABSENT, body, room)]
    rows += [(line, body, FAINT_COLOUR) for line in break_lines(answer.caption or "", body, room)]
    chips = _place_chips(_legend(answer), body, room)
    step = round(size * 1.45)
    chips_height = margin // 2 + step * (1 + chips[-1][3]) if chips else 0
    height = picture.height + 2 * margin + step * len(rows) + chips_height
    sheet = Image.new("RGB", (width, height), PANEL_COLOUR)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    y = picture.height + margin
    for line, font, colour in rows:
        draw.text((margin, y + step / 2), line, colour, font, anchor="lm")
        y += step
    y += margin // 2
    for name, colour, x, row in chips:
        middle, side = y + step * (row + 0.5), 0.38 * size
        spot = (margin + x, middle - side, margin + x + 2 * side, middle + side)
        draw.rounded_rectangle(spot, radius=0.3 * side, fill=colour, outline=FAINT_COLOUR)
        draw.text((margin + x + 2.9 * side, middle), name, TEXT_COLOUR, body, anchor="lm")
    return sheet


def _legend(answer: Answer) -> list[tuple[str, Colour]]:
    """Names and colours of what is drawn: parts that occur, and the sides of the skeleton."""
    entries = [(name, PART_COLOURS[PART_NAMES.index(name)]) for name in answer.parts]
    if answer.keypoints is not None and (answer.keypoints[:, 2] > 0).any():
        entries += [("left limbs", LEFT_COLOUR), ("right limbs", RIGHT_COLOUR)]
    return entries


def _place_chips(entries: list[tuple[str, Colour]], font: Any, room: int) -> list[tuple[str, Colour, float, int]]:
    """Break the legend into rows: (name, colour, x from the margin, row from 0)."""
    placed, x, row = [], 0.0, 0
    for name, colour in entries:
        width = font.getlength(name) + 2.4 * font.size
        if x and x + width > room:
            x, row = 0.0, row + 1
        placed.append((name, colour, x, row))
        x += width
    return placed


def break_lines(text: str, font: Any, room: int) -> list[str]:
    """Break a text into at most `TEXT_LINES` lines of `room` pixels; what is left over becomes an ellipsis."""
    words = [piece for word in text.split() for piece in _pieces(word, font, room)]
    lines: list[str] = []
    while words and len(lines) < TEXT_LINES:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= room:
            line = f"{line} {words.pop(0)}"
        lines.append(line)
    if words:
        last = lines[-1]
        while last and font.getlength(last + " …") > room:
            last = last[:-1]
        lines[-1] = last + " …"
    return lines


def _pieces(word: str, font: Any, room: int) -> list[str]:
    """A word cut into pieces that each fit into `room` pixels."""
    pieces = []
    while len(word) > 1 and (length := font.getlength(word)) > room:
        count = max(1, int(0.9 * len(word) * room / length))
        pieces.append(word[:count])
        word = word[count:]
    return [*pieces, word]


@lru_cache(maxsize=16)
def load_font(size: int) -> Any:
    """Pillow's own font (Aileron, bundled with it), so that drawings look the same on every machine."""
    return ImageFont.load_default(size)
