"""What the drawn people wear: clothes, colours and hair, drawn by chance and named in the words that people
use."""

from __future__ import annotations

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (32, 32, 36),
    "white": (234, 234, 230),
    "gray": (128, 130, 133),
    "red": (194, 34, 38),
    "blue": (42, 82, 176),
    "green": (44, 128, 66),
    "yellow": (232, 198, 48),
    "orange": (232, 124, 34),
    "purple": (112, 58, 148),
    "pink": (236, 146, 178),
    "brown": (112, 72, 44),
}
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (28, 24, 24),
    "brown": (88, 56, 34),
    "blond": (208, 172, 104),
    "red": (152, 70, 32),
    "gray": (172, 172, 172),
}
SKINS = ((247, 214, 188), (232, 190, 158), (206, 156, 118), (160, 108, 74), (112, 74, 50), (82, 54, 40))
_TOPS = {
    "man": ("t-shirt", "shirt", "sweater", "jacket", "suit jacket", "overalls"),
    "woman": ("t-shirt", "shirt", "sweater", "jacket", "dress", "top"),
}
_TOP_SHARE = {"man": (0.3, 0.22, 0.16, 0.16, 0.1, 0.06), "woman": (0.26, 0.16, 0.14, 0.14, 0.2, 0.1)}
_HAIR = {"man": ("short", "long", "afro"), "woman": ("long", "tied", "bob", "short", "afro")}
_HAIR_SHARE = {"man": (0.88, 0.05, 0.07), "woman": (0.4, 0.26, 0.2, 0.08, 0.06)}


def _pick(
    rng: np.random.Generator, options: tuple[str, ...] | list[str], share: tuple[float, ...] | None = None
) -> str:
    return options[int(rng.choice(len(options), p=share))]


def sample_clothes(rng: np.random.Generator) -> dict[str, str]:
    """Gender, age, clothes, hair and hat (the attribute keys of a Cutout, without pose and view)."""
    gender = _pick(rng, ("man", "woman"))
    age = _pick(rng, ("child", "young", "middle-aged", "old"), (0.15, 0.42, 0.25, 0.18))
    top = _pick(rng, _TOPS[gender], _TOP_SHARE[gender])
    if age == "child" and top == "suit jacket":
        top = "t-shirt"
    colours = list(COLOURS)
    top_colour = (
        _pick(rng, ("black", "gray", "blue", "brown")) if top == "suit jacket" else _pick(rng, colours)
    )
    if top == "overalls":
        top_colour = _pick(rng, ("blue", "blue", "gray", "green", "brown", "red"))
    bottom, bottom_colour = "", ""
    if top not in ("dress", "overalls"):
        kinds = (
            ("trousers", "jeans", "shorts") if gender == "man" else ("trousers", "jeans", "shorts", "skirt")
        )
        bottom = "trousers" if top == "suit jacket" else _pick(rng, kinds)
        bottom_colour = (
            _pick(rng, ("blue", "blue", "blue", "black", "gray"))
            if bottom == "jeans"
            else _pick(rng, colours)
        )
        if top == "suit jacket":
            bottom_colour = top_colour
    hair = _pick(rng, _HAIR[gender], _HAIR_SHARE[gender])
    natural = ("black", "brown", "blond", "red")
    hair_colour = "gray" if age == "old" else _pick(rng, natural, (0.38, 0.34, 0.2, 0.08))
    hat = "hat" if hair != "afro" and rng.random() < 0.15 else ""
    return {
        "gender": gender,
        "age": age,
        "top": top,
        "top_colour": top_colour,
        "top_pattern": "striped"
        if top not in ("suit jacket", "overalls") and rng.random() < 0.2
        else "plain",
        "bottom": bottom,
        "bottom_colour": bottom_colour,
        "hair": hair,
        "hair_colour": hair_colour,
        "hat": hat,
    }


def shade(rng: np.random.Generator, rgb: tuple[int, int, int], spread: float = 9.0) -> tuple[int, int, int]:
    """A nearby colour of the same name: every channel moves by a few counts."""
    moved = np.clip(np.asarray(rgb) + rng.normal(0, spread / 2, 3) + rng.normal(0, spread), 4, 251)
    red, green, blue = (int(v) for v in moved)
    return red, green, blue
