"""Checks of what a user asks, before anything is computed: each refusal is one sentence with cause and cure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.annotation import KEYPOINT_NAMES, Box, Points, Question
from ..data.prompts import read_of
from ..errors import RefHCMError

TASKS = ("box", "keypoints", "parsing", "mask", "caption", "region_map")
"""What can be asked for."""
ON_REQUEST = ("region_map",)
"""Of these, what is answered only where it is named."""
MAX_CHARACTERS = 1000
"""Length of the words; the longest expressions of the public datasets have a third of this."""
MAX_BEAM = 32
MAX_MAP_BYTES = 4 << 30
"""What part maps and masks of many answers about one picture may take, each of which covers it."""


def check_tasks(tasks: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """The wanted tasks in the order of `TASKS`, each once; a string may name several, with commas between. None: what
    the model can do."""
    if tasks is None:
        return None
    if not isinstance(tasks, Iterable):
        raise RefHCMError(f"Tasks are a list of {', '.join(TASKS)}, not {tasks!r}.")
    names = [name.strip() for name in tasks.split(",")] if isinstance(tasks, str) else list(tasks)
    for name in names:
        if name not in TASKS:
            raise RefHCMError(f"Unknown task {name!r}: the tasks are {', '.join(TASKS)}.")
    if not names:
        raise RefHCMError(f"No task was given: ask for one or more of {', '.join(TASKS)}.")
    return tuple(task for task in TASKS if task in names)


def check_attention(attention: bool | Sequence[str], tasks: Sequence[str] | None) -> tuple[str, ...]:
    """Of what attention maps are wanted, as names of outputs and keypoints: none, all outputs that `tasks` (as of
    `check_tasks`) asks for, or those that are named."""
    tasks = tasks or TASKS
    if isinstance(attention, bool):
        return tuple(tasks) if attention else ()
    if isinstance(attention, str) or not isinstance(attention, Iterable):
        raise RefHCMError(f"Attention is True, False or a list of names, not {attention!r}.")
    names = tuple(attention)
    for name in names:
        if name not in TASKS and name not in KEYPOINT_NAMES:
            raise RefHCMError(f"Unknown output {name!r}: there is attention of {', '.join((*TASKS, *KEYPOINT_NAMES))}.")
        if (output := output_of(name)) not in tasks:
            raise RefHCMError(f"Attention of {name!r} needs the task {output!r}, which is not asked for: add it.")
    return tuple(dict.fromkeys(names))


def output_of(name: str) -> str:
    """The output that a name belongs to: a keypoint's to "keypoints", others are outputs themselves."""
    return "keypoints" if name in KEYPOINT_NAMES else name


def check_batch_size(batch_size: int) -> int:
    """A usable number of questions at a time."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise RefHCMError(f"The batch size must be a whole number of at least 1, not {batch_size!r}.")
    return batch_size


def check_held(count: int, size: tuple[int, int], tasks: Sequence[str]) -> None:
    """Refuse so many answers about a picture of `size` (width, height) at once that their maps would not fit."""
    maps = 2 if "parsing" in tasks else int("mask" in tasks)  # parts come with the mask that they fill
    needed = count * maps * size[0] * size[1]
    if needed > MAX_MAP_BYTES:
        raise RefHCMError(
            f"Masks and part maps of {count:,} answers about a {size[0]} x {size[1]} picture take {needed / 2**30:.1f} "
            f"GiB, more than {MAX_MAP_BYTES / 2**30:.0f}: ask fewer at a time, or for box, keypoints, caption and "
            "region_map, which are small."
        )


def check_pair(entry: Any) -> tuple[Any, Any]:
    """One entry of a list of questions: a picture, and what is asked about it."""
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise RefHCMError(f"A question is a pair (picture, words or region), not {str(entry)[:80]!r}.")
    return entry[0], entry[1]


def check_list(questions: Any, form: str) -> list[Any]:
    """Questions as a list, each of which has this form."""
    if isinstance(questions, str | bytes | Mapping) or not isinstance(questions, Iterable):
        raise RefHCMError(f"Questions are a list of {form}, not {str(questions)[:80]!r}.")
    return list(questions)


def check_beam(beam: int) -> int:
    """A usable width of the beam."""
    if isinstance(beam, bool) or not isinstance(beam, int) or not 1 <= beam <= MAX_BEAM:
        raise RefHCMError(f"The beam must be a whole number from 1 to {MAX_BEAM}, not {beam!r}.")
    return beam


def check_asked(asked: Any, size: tuple[int, int]) -> Question:
    """A question about a picture of `size`: words, a region, or one of them, a point or a scribble by its name, as in
    {"point": (x, y)}."""
    if isinstance(asked, Mapping):
        unknown = [name for name in asked if name not in ("text", "region", "point", "scribble")]
        if unknown:
            raise RefHCMError(f"A question has no {unknown[0]!r}: it is asked by text, region, point or scribble.")
        return check_question(size, **asked)
    if asked is None or isinstance(asked, str):
        return check_question(size, text=asked)
    return check_question(size, region=asked)


def check_question(
    size: tuple[int, int], text: str | None = None, region: Sequence[float] | None = None,
    point: Sequence[float] | None = None, scribble: Iterable[Sequence[float]] | None = None,
) -> Question:  # fmt: skip
    """A question about a picture of `size` (width, height) from words, or from a region, a point or a scribble in its
    pixels."""
    ways = {"words": text, "a region": region, "a point": point, "a scribble": scribble}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise RefHCMError(f"Both {given[0]} and {given[1]} were given: ask with one of them.")
    if region is not None:
        return Question(size, region=check_region(region, size))
    if point is not None:
        return Question(size, points=(check_points([point], size),))
    if scribble is not None:
        return Question(size, points=(check_points(scribble, size),))
    if text is None:
        raise RefHCMError(
            "Neither words nor a region, point or scribble was given: say who is meant, for example 'the man in red'."
        )
    return Question(size, text=check_text(text))


def check_text(text: str) -> str:
    """The words with single spaces; RefHCMError when there are none, too many, or they are no valid text."""
    if not isinstance(text, str):
        raise RefHCMError(f"The words must be a string, not {type(text).__name__}.")
    if len(text) > MAX_CHARACTERS:
        raise RefHCMError(
            f"The words have {len(text):,} characters; at most {MAX_CHARACTERS:,} are read: shorten them."
        )
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RefHCMError("The words are not valid Unicode (half of a surrogate pair): check their encoding.")
    words = " ".join(text.split())
    if not words:
        raise RefHCMError("The words are empty: say who is meant, for example 'the man in red'.")
    if not any(letter.isalnum() for letter in words):
        raise RefHCMError("The words hold no letters: say who is meant, for example 'the man in red'.")
    return words


def check_region(region: Any, size: tuple[int, int]) -> Box:
    """The region cut to the picture; RefHCMError when it is no box or nothing of it lies in the picture."""
    try:
        if isinstance(region, str | bytes | bytearray):  # each of its letters might pass for a number
            raise TypeError
        x1, y1, x2, y2 = (float(value) for value in region)
    except (TypeError, ValueError, OverflowError) as error:
        raise RefHCMError(f"A region is four numbers x1 y1 x2 y2 in pixels, not {str(region)[:80]!r}.") from error
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise RefHCMError("A region is four finite numbers x1 y1 x2 y2 in pixels.")
    if x2 <= x1 or y2 <= y1:
        raise RefHCMError(f"The region {x1:g} {y1:g} {x2:g} {y2:g} has no area: x2 must exceed x1, and y2 y1.")
    width, height = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise RefHCMError(f"The region {x1:g} {y1:g} {x2:g} {y2:g} lies outside the {width} x {height} picture.")
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def check_points(points: Any, size: tuple[int, int]) -> Points:
    """The points that are read (`prompts.read_of`) of a point or scribble in a picture of `size` (width, height).

    RefHCMError when they are no points or one of them lies outside the picture.
    """
    try:
        given = list(points)
        if any(isinstance(point, str | bytes | bytearray) for point in given):  # each letter might pass for a number
            raise TypeError
        places = np.array([tuple(point) for point in given], np.float64)
        if places.size and (places.ndim != 2 or places.shape[1] != 2):
            raise TypeError
    except (TypeError, ValueError, OverflowError) as error:
        form = "A point is two numbers x y in pixels, and a scribble a list of points"
        raise RefHCMError(f"{form}, not {str(points)[:80]!r}.") from error
    if not places.size:
        raise RefHCMError("The scribble has no points: give at least one.")
    if not np.isfinite(places).all():
        raise RefHCMError("A point is two finite numbers x y in pixels.")
    width, height = size
    outside = ((places < 0) | (places > size)).any(axis=1)
    if outside.any():
        x, y = places[outside.argmax()]
        raise RefHCMError(f"The point {x:g} {y:g} lies outside the {width} x {height} picture.")
    return read_of([(float(x), float(y)) for x, y in places])
