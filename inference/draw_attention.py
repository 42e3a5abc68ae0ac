"""Draw where the model looked: heat maps over the photo, one for each thing that was answered, on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ..data.annotation import KEYPOINT_NAMES, Box
from ..errors import RefHCMError
from .attention import AttentionMaps, spread
from .draw import BOX_COLOUR, MOST_ENLARGED, REGION_COLOUR, asked_about, open_shown, shown_scale
from .draw_panel import FAINT_COLOUR, PANEL_COLOUR, PANEL_WIDTH, TEXT_COLOUR, break_lines
from .draw_strokes import EDGE_COLOUR, Colour, Point, load_font

if TYPE_CHECKING:
    from .answer import Answer

SHEET_WIDTH = 1400
TILE_SIDE = 220
"""The longer side of the photo in each map of a sheet of several."""
TILE_WIDTH = 120
"""The least room for a label."""
GAP = 10
BAR = (160, 12)
"""Width and height of the legend's bar."""
HEAT: tuple[tuple[float, Colour], ...] = (
    (0.0, (36, 22, 92)), (0.3, (122, 34, 140)), (0.6, (228, 72, 88)), (0.85, (252, 168, 50)), (1.0, (255, 246, 170)),
)  # fmt: skip
"""Colours of heat, and at what heat; between them linear, and ever lighter."""
OPACITY = 0.85
"""Of the hottest colour over the photo; colder ones are more transparent."""
LEGEND = (
    "Heat: the picture cells that this part of the answer drew on, each map from none to its own strongest cell. "
    "Percent: how much of the attention went to the picture; the rest went to the words of the question."
)


class _Tile(NamedTuple):
    label: str
    cells: np.ndarray
    point: Point | None = None
    """The answered keypoint, in pixels of the picture."""
    box: Box | None = None
    """The answered box, in pixels of the picture."""


def draw_attention(
    image: Any, answer: Answer, maps: AttentionMaps, names: Sequence[str] = (), width: int = SHEET_WIDTH
) -> Image.Image:
    """A sheet of heat maps over the picture, as RGB, for what `Answer.draw_attention` describes.

    `image` as in `draw.draw_answer`; `width` in pixels is what the sheet may take, where a map does not need more. A
    sheet of one map shows it large. The answered box (or the region that was asked about) and, in its own map, each
    keypoint are marked. RefHCMError where there are no maps, or not of that name.
    """
    return _sheet(image, answer, list(_tiles(answer, maps, names or maps.names)), width)


def draw_attention_to_people(
    image: Any, people: Sequence[tuple[Answer, AttentionMaps]], width: int = SHEET_WIDTH
) -> Image.Image:
    """As `draw_attention`, for an answer about several people: a map for the box of each, in the order given."""
    tiles = [
        _Tile(f"box of person {number}", maps.cells("box"), box=answer.box)
        for number, (answer, maps) in enumerate(people, 1)
        if "box" in maps.names
    ]
    return _sheet(image, people[0][0] if people else None, tiles, width)


def _sheet(image: Any, answer: Answer | None, tiles: Sequence[_Tile], width: int) -> Image.Image:
    """A sheet of maps behind an answer's question."""
    if answer is None or not tiles:
        raise RefHCMError("There is no attention map to draw: nothing that it was kept of was answered.")
    picture = open_shown(image, answer.size)
    scale = min(MOST_ENLARGED, TILE_SIDE / max(picture.size)) if len(tiles) > 1 else shown_scale(picture.size)
    small = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    ground = np.asarray(Image.blend(small, small.convert("L").convert("RGB"), 0.7), np.float32) * 0.8
    step = max(small.width, TILE_WIDTH) + GAP
    columns = max(1, min(len(tiles), (width - GAP) // step))
    font = load_font(14)
    head = _head(answer, max(columns * step - GAP, PANEL_WIDTH - 2 * GAP))
    line = round(font.size * 1.6)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (head.width, head.height + rows * (small.height + line + GAP)), PANEL_COLOUR)
    sheet.paste(head)
    draw = ImageDraw.Draw(sheet)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        x, y = GAP + column * step, head.height + row * (small.height + line + GAP)
        sheet.paste(_paint(ground, tile, answer, small.size), (x, y))
        share = f"{100 * float(tile.cells.sum()):.0f} %"
        room = step - GAP - font.getlength(share) - GAP
        label = break_lines(tile.label, font, round(room))[0]
        draw.text((x, y + small.height + line / 2), label, TEXT_COLOUR, font, anchor="lm")
        draw.text((x + step - GAP, y + small.height + line / 2), share, FAINT_COLOUR, font, anchor="rm")
    return sheet


def _tiles(answer: Answer, maps: AttentionMaps, names: Sequence[str]) -> Iterator[_Tile]:
    """What each name stands for, once."""
    single = [part for name in names for part in (maps.keypoints if name == "keypoints" else (name,))]
    for name in dict.fromkeys(single):
        if name == "caption":
            yield from (_Tile(word, maps.cells(name, number), box=answer.box) for number, word in enumerate(maps.words))
            continue
        cells, point = maps.cells(name), None
        if name in KEYPOINT_NAMES and answer.keypoints is not None:
            x, y, _ = answer.keypoints[KEYPOINT_NAMES.index(name)].tolist()
            point = x, y
        yield _Tile(name, cells, point, answer.box)


def _paint(ground: np.ndarray, tile: _Tile, answer: Answer, size: tuple[int, int]) -> Image.Image:
    """The heat over the pale photo, and what was answered."""
    heat = spread(tile.cells, size)[..., None]
    opacity = OPACITY * heat**0.6
    pixels = ground * (1 - opacity) + _colours(heat[..., 0]) * opacity
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    scale = size[0] / answer.size[0], size[1] / answer.size[1]
    for box, colour in ((answer.region, REGION_COLOUR), (tile.box, BOX_COLOUR)):
        if box is not None:
            draw.rectangle(_corners(box, scale, size), outline=colour)
    if tile.point is not None:
        x, y = tile.point[0] * scale[0], tile.point[1] * scale[1]
        for radius, colour in ((5, EDGE_COLOUR), (4, REGION_COLOUR), (2, EDGE_COLOUR)):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour)
    return drawn


def _corners(box: Box, scale: Point, size: tuple[int, int]) -> list[float]:
    """A box as pixels of a tile, inside it and with its corners in order."""
    x1, y1, x2, y2 = (box[k] * scale[k % 2] for k in range(4))
    left, top = min(max(x1, 0), size[0] - 1), min(max(y1, 0), size[1] - 1)
    return [left, top, max(left, min(x2, size[0] - 1)), max(top, min(y2, size[1] - 1))]


def _colours(heat: np.ndarray) -> np.ndarray:
    """Colours (..., 3) of heat in [0, 1]."""
    places, colours = zip(*HEAT, strict=True)
    return np.stack([np.interp(heat, places, channel) for channel in zip(*colours, strict=True)], -1)


def _head(answer: Answer, room: int) -> Image.Image:
    """The question, and what the colours mean."""
    large, font = load_font(16), load_font(13)
    lines = [(text, large, TEXT_COLOUR) for text in break_lines(asked_about(answer), large, room)]
    lines += [(text, font, FAINT_COLOUR) for text in break_lines(LEGEND, font, room)]
    step = round(large.size * 1.35)
    head = Image.new("RGB", (room + 2 * GAP, 3 * GAP + step * len(lines) + BAR[1] + GAP), PANEL_COLOUR)
    draw = ImageDraw.Draw(head)
    y = GAP
    for text, face, colour in lines:
        draw.text((GAP, y + step / 2), text, colour, face, anchor="lm")
        y += step
    x = GAP + font.getlength("none") + GAP
    y += GAP
    draw.text((GAP, y + BAR[1] / 2), "none", FAINT_COLOUR, font, anchor="lm")
    bar = _colours(np.broadcast_to(np.linspace(0, 1, BAR[0]), BAR[::-1]))
    head.paste(Image.fromarray(bar.round().astype(np.uint8)), (round(x), y))
    draw.text((x + BAR[0] + GAP, y + BAR[1] / 2), "strongest cell", FAINT_COLOUR, font, anchor="lm")
    return head
