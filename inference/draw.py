"""Draw answers on their picture: parts or masks, boxes, skeletons and points; question, captions and legend below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..data.annotation import OTHERS, PART_COLOURS, PART_NAMES, PERSON
from ..errors import RefHCMError
from .draw_fills import paint_mask, paint_parts
from .draw_panel import FAINT_COLOUR, add_panel
from .draw_strokes import (
    LEFT_COLOUR,
    RIGHT_COLOUR,
    Colour,
    Pen,
    paint_dots,
    paint_frame,
    paint_skeleton,
    paint_strokes,
    paint_tag,
    stroke_unit,
)

if TYPE_CHECKING:
    from .answer import Answer

BOX_COLOUR: Colour = (64, 224, 120)
MASK_COLOUR: Colour = (40, 200, 220)
OTHERS_COLOUR: Colour = (240, 110, 90)
REGION_COLOUR: Colour = (255, 255, 255)
ABSENT_COLOUR: Colour = (255, 176, 64)
PEOPLE_COLOURS: tuple[Colour, ...] = (
    (64, 224, 120), (255, 150, 50), (80, 170, 255), (250, 220, 80), (240, 110, 200), (60, 220, 220), (180, 130, 255),
    (240, 110, 90), (170, 220, 60), (150, 180, 200),
)  # fmt: skip
"""Of several people, from left to right; after the last the first again."""

SMALLEST_SIDE, LARGEST_SIDE = 720, 4096
"""With a panel, the longer side of the picture is brought into this range: readable, and not too large to look at."""
MOST_ENLARGED = 6


def draw_answer(image: Any, answer: Answer, panel: bool = True) -> Image.Image:
    """The picture with `answer` drawn on it, as RGB.

    `image` is a path, bytes, PIL picture or uint8 array [H, W, 3] of the size that the answer is for; RefHCMError when
    it is not. A limb is drawn only where both its ends are present; of a mask and a part map that fills it, the part
    map; a region map only where there is neither. See `Answer.draw` for `panel`.
    """
    picture, scale = _open_scaled(image, answer.size, panel)
    for mask, (_, colour) in zip(_masks(answer), _mask_legend(answer), strict=True):
        picture = paint_mask(picture, mask, colour, stroke_unit(picture.size))
    if answer.parsing is not None:
        picture = paint_parts(picture, answer.parsing, stroke_unit(picture.size))
    picture = paint_strokes(picture, scale, lambda pen: _paint_answer(pen, answer))
    if answer.box is not None:
        corner = (answer.box[0] * scale, answer.box[1] * scale)
        paint_tag(picture, f"{answer.score:.2f}", corner, BOX_COLOUR)
    if not panel:
        return picture
    texts = [] if answer.present else [(_absent(answer), ABSENT_COLOUR)]
    return add_panel(picture, asked_about(answer), [*texts, (answer.caption or "", FAINT_COLOUR)], _legend(answer))


def draw_answers(image: Any, answers: Sequence[Answer], panel: bool = True, text: str | None = None) -> Image.Image:
    """The picture with several people drawn on it, each in a colour of their own and with a number, as RGB.

    `image` and `panel` as for `draw_answer`; `answers` are about one picture, for example `everybody`'s. Of each, mask
    (or the union of the parts), box and skeleton are drawn. The panel holds what was asked (which an empty list does
    not tell: the words `text`, or else everybody), captions, and scores by number.
    """
    if not isinstance(answers, Sequence):
        raise RefHCMError("Several people are drawn from a list of answers; one answer draws itself: answer.draw().")
    size = answers[0].size if answers else None
    if any(answer.size != size for answer in answers):
        raise RefHCMError("The answers are about pictures of different sizes: draw those of one picture.")
    picture, scale = _open_scaled(image, size, panel)
    people = [(number, answer, _colour(number)) for number, answer in enumerate(answers) if answer.present]
    for _, answer, colour in people:
        if answer.mask is not None:
            picture = paint_mask(picture, answer.mask, colour, stroke_unit(picture.size))

    def paint(pen: Pen) -> None:
        for _, answer, colour in people:
            if answer.box is not None:
                paint_frame(pen, answer.box, colour, 2.2 * stroke_unit(pen.size))
        for _, answer, colour in people:
            if answer.keypoints is not None:
                paint_skeleton(pen, answer.keypoints, colour)

    picture = paint_strokes(picture, scale, paint)
    for number, answer, colour in people:
        place = answer.box or answer.region or (0, 0)
        paint_tag(picture, str(number + 1), (place[0] * scale, place[1] * scale), colour, letters=16)
    if not panel:
        return picture
    asked = asked_about(answers[0]) if answers else "Everybody" if text is None else f"“{text}”"
    texts = [(f"{number + 1}: {answer.caption}", FAINT_COLOUR) for number, answer, _ in people if answer.caption]
    if not people:
        texts = [("There is nobody.", ABSENT_COLOUR)]
    return add_panel(picture, asked, texts, [(f"{n + 1}: {answer.score:.2f}", colour) for n, answer, colour in people])


def open_shown(image: Any, size: tuple[int, int] | None) -> Image.Image:
    """The picture to draw on; RefHCMError where it has not the size (width, height) that the answer is for."""
    from ..data.images import open_image

    picture = open_image(image)
    if size is not None and picture.size != tuple(size):
        raise RefHCMError(
            f"This answer is about a picture of {size[0]} x {size[1]} pixels; the one to draw on has "
            f"{picture.width} x {picture.height}."
        )
    return picture


def asked_about(answer: Answer) -> str:
    """The question, for a reader."""
    if answer.text is not None:
        return f"“{answer.text}”"
    if answer.points is not None:
        return "The marked point" if len(answer.points) == 1 else "The marked points"
    return "The marked region" if answer.region is not None else "Everybody"


def shown_scale(size: tuple[int, int]) -> float:
    """How much a picture is enlarged or shrunk to be shown."""
    side = max(size)
    return min(max(1.0, SMALLEST_SIDE / side), MOST_ENLARGED) if side < LARGEST_SIDE else LARGEST_SIDE / side


def _open_scaled(image: Any, size: tuple[int, int] | None, panel: bool) -> tuple[Image.Image, float]:
    """The picture at the size in which it is shown, and how much that is enlarged."""
    picture = open_shown(image, size)
    scale = shown_scale(picture.size) if panel else 1.0
    if scale != 1:
        shown = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(shown, Image.Resampling.BICUBIC)
    return picture, scale


def _paint_answer(pen: Pen, answer: Answer) -> None:
    """Region, box, skeleton and points."""
    unit = stroke_unit(pen.size)
    if answer.region is not None:
        paint_frame(pen, answer.region, REGION_COLOUR, 1.4 * unit)
    if answer.box is not None:
        paint_frame(pen, answer.box, BOX_COLOUR, 2.2 * unit)
    if answer.keypoints is not None:
        paint_skeleton(pen, answer.keypoints)
    paint_dots(pen, answer.points or (), REGION_COLOUR)


def _masks(answer: Answer) -> list[Any]:
    """What is tinted of an answer without parts: the mask, or else person and other people of the region map."""
    if answer.parsing is not None:
        return []
    if answer.mask is not None:
        return [answer.mask]
    if answer.region_map is None:
        return []
    labels = answer.region_map.paste()
    return [labels == PERSON, labels == OTHERS]


def _mask_legend(answer: Answer) -> list[tuple[str, Colour]]:
    """Names and colours of `_masks`."""
    if answer.parsing is not None:
        return []
    if answer.mask is not None:
        return [("mask", MASK_COLOUR)]
    return [("person", MASK_COLOUR), ("other people", OTHERS_COLOUR)] if answer.region_map is not None else []


def _legend(answer: Answer) -> list[tuple[str, Colour]]:
    """Names and colours of what is drawn: parts that occur, masks, and the sides of the skeleton."""
    entries = [(name, PART_COLOURS[PART_NAMES.index(name)]) for name in answer.parts]
    entries += _mask_legend(answer)
    if answer.keypoints is not None and (answer.keypoints[:, 2] > 0).any():
        entries += [("left limbs", LEFT_COLOUR), ("right limbs", RIGHT_COLOUR)]
    return entries


def _absent(answer: Answer) -> str:
    return "Nobody in the picture fits these words." if answer.text is not None else "Nobody was found there."


def _colour(number: int) -> Colour:
    return PEOPLE_COLOURS[number % len(PEOPLE_COLOURS)]
