"""The strip below a drawn picture: lines of text and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from .draw_strokes import Colour, load_font, stroke_unit

PANEL_COLOUR: Colour = (24, 26, 32)
TEXT_COLOUR: Colour = (240, 242, 246)
FAINT_COLOUR: Colour = (158, 164, 176)
PANEL_WIDTH = 480
"""A panel is at least this wide; a narrower picture stands in its middle."""
TEXT_LINES = 3
"""Each text takes at most this many lines."""


def add_panel(
    picture: Image.Image, title: str, texts: Sequence[tuple[str, Colour]], legend: Sequence[tuple[str, Colour]]
) -> Image.Image:
    """The picture on a sheet with a strip below it: a title, texts in their colours, names and colours of a legend."""
    width = max(picture.width, PANEL_WIDTH)
    unit = max(1.0, stroke_unit((width, picture.height)))
    margin, size = round(12 * unit), round(15 * unit)
    head, body = load_font(round(size * 1.1)), load_font(size)
    room = width - 2 * margin
    rows = [(line, head, TEXT_COLOUR) for line in break_lines(title, head, room)]
    rows += [(line, body, colour) for text, colour in texts for line in break_lines(text, body, room)]
    chips = _place_chips(legend, body, room)
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


def _place_chips(entries: Sequence[tuple[str, Colour]], font: Any, room: int) -> list[tuple[str, Colour, float, int]]:
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
