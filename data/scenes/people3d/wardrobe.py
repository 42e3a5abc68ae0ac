"""What people wear and look like: which triangle of a garment is which part, what it is called, and random
choices.

Only items of MakeHuman's core set are listed (all are CC0, see `assets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...annotation import PART_NAMES
from .assets import Proxy, read_proxy
from .poses import POSES

PART = {name: number for number, name in enumerate(PART_NAMES)}
HAT, HAIR, UPPER, DRESS, COAT, SOCKS, PANTS, SKIRT, FACE = (
    PART[n] for n in ("hat", "hair", "upper-clothes", "dress", "coat", "socks", "pants", "skirt", "face")
)


@dataclass(frozen=True)
class Suit:
    """A garment of the package that dresses trunk and legs, taken apart into an upper and a lower half."""

    top: str
    bottom: str
    labels: dict[int, int]
    """Part class of numbered pieces of the mesh; all other triangles are `rest`."""
    rest: int
    by_island: bool = False
    """Pieces are islands of the texture chart instead of connected pieces of the mesh."""
    sleeves: bool = False
    """The sleeves are long, so they may be cut."""
    striped: bool = False
    """The texture itself has stripes, which a new colour keeps."""

    def triangle_labels(self, proxy: Proxy) -> np.ndarray:
        """Part class per triangle, int [T]."""
        pieces = proxy.islands if self.by_island else proxy.components
        labels = np.full(len(pieces), self.rest)
        for piece, label in self.labels.items():
            labels[pieces == piece] = label
        return labels


SUITS = {
    "male_casualsuit01": Suit("shirt", "trousers", {2: PANTS, 3: PANTS}, UPPER, by_island=True, sleeves=True),
    "male_casualsuit02": Suit("sweater", "jeans", {0: PANTS}, UPPER, sleeves=True),
    "male_casualsuit03": Suit("shirt", "jeans", {1: PANTS}, UPPER, sleeves=True, striped=True),
    "male_casualsuit04": Suit("t-shirt", "jeans", {1: PANTS}, UPPER),
    "male_casualsuit05": Suit("jacket", "jeans", {2: UPPER, 3: PANTS}, COAT),
    "male_casualsuit06": Suit("t-shirt", "jeans", {1: PANTS}, UPPER),
    "male_elegantsuit01": Suit(
        "suit jacket", "trousers",
        {0: PANTS, 1: PANTS, 3: UPPER, 6: UPPER, 17: UPPER, 18: UPPER, 19: UPPER, 20: UPPER}, COAT,
        by_island=True,
    ),  # islands 3, 6 are the shirt front with tie and collar, 17-20 the cuffs
    "male_worksuit01": Suit("overalls", "", {5: UPPER}, PANTS),
    "female_casualsuit01": Suit("t-shirt", "jeans", {1: PANTS}, UPPER),
    "female_casualsuit02": Suit("t-shirt", "shorts", {2: UPPER}, PANTS),
    "female_elegantsuit01": Suit("shirt", "skirt", {0: SKIRT}, UPPER, sleeves=True, striped=True),
    "female_sportsuit01": Suit("top", "trousers", {1: PANTS}, UPPER),
}  # fmt: skip
"""Garment -> words and labels. Pieces are numbered by their lowest vertex (texture row), so they are stable.
"""

OUTFITS = {
    "man": tuple(name for name in SUITS if name.startswith("male")),
    "woman": (
        *(name for name in SUITS if name.startswith("female") for _ in range(2)),
        "male_casualsuit02", "male_casualsuit03", "male_casualsuit05", "male_elegantsuit01",
        "male_worksuit01",
    ),
}  # fmt: skip
MIXABLE_TOPS = {
    "man": ("male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit06"),
    "woman": ("female_casualsuit01", "female_casualsuit02", "female_sportsuit01"),
}
MIXABLE_BOTTOMS = {
    "man": ("male_casualsuit02", "male_casualsuit04", "male_casualsuit06"),
    "woman": ("female_casualsuit01", "female_casualsuit02", "female_sportsuit01", "female_elegantsuit01"),
}
CHILD_SUITS = {
    "man": ("male_casualsuit02", "male_casualsuit04", "male_casualsuit06"),
    "woman": ("female_casualsuit01", "female_casualsuit02"),
}
HAIR_WORDS = {
    "short01": "short", "short02": "short", "short03": "short", "short04": "short", "afro01": "afro",
    "bob01": "bob", "bob02": "bob", "long01": "long", "Braid01": "tied", "ponytail01": "tied",
}  # fmt: skip
HAIR_OF = {
    "man": ("short01", "short02", "short04", "short01", "short02", "short04", "afro01", "ponytail01"),
    "woman": ("long01", "long01", "ponytail01", "bob01", "bob02", "Braid01", "short03", "afro01"),
}
NO_HAT = ("afro01", "bob01", "bob02", "short03")
"""Hair that a brim would press over the face."""
SHOES = tuple(f"shoes0{i}" for i in range(1, 7))
SOCK_PIECES = {shoes: (0, 6) if shoes == "shoes03" else (2, 3) for shoes in SHOES}
HATS = ("fedora", "fedora_cocked")
BROWS = tuple(f"eyebrow{i:03d}" for i in range(1, 13))

COLOURS = {
    "red": (0.56, 0.015, 0.02), "green": (0.03, 0.27, 0.05), "blue": (0.025, 0.09, 0.52),
    "yellow": (0.80, 0.56, 0.02),
    "purple": (0.20, 0.035, 0.36), "orange": (0.85, 0.23, 0.015), "pink": (0.85, 0.31, 0.46),
    "brown": (0.13, 0.055, 0.02), "black": (0.012, 0.012, 0.013), "white": (0.82, 0.82, 0.82),
    "gray": (0.21, 0.21, 0.215), "navy": (0.010, 0.018, 0.085), "beige": (0.58, 0.45, 0.29),
    "turquoise": (0.02, 0.40, 0.40), "light blue": (0.28, 0.52, 0.80),
}  # fmt: skip
"""Colour name -> reflectance in linear RGB."""
HAIR_COLOURS = {
    "dark": (0.012, 0.010, 0.009), "brown": (0.085, 0.042, 0.018), "blonde": (0.52, 0.36, 0.15),
    "gray": (0.40, 0.40, 0.41), "red": (0.30, 0.075, 0.02),
}  # fmt: skip
PATTERNS = {"plain": 0, "striped": 1, "checked": 2, "dotted": 3}
"""Name -> number in the fragment shader."""
MODEL_AGES = {"child": (0.24, 0.31), "young": (0.62, 0.70), "middle-aged": (0.79, 0.85), "old": (0.94, 1.0)}
"""Anny's age control: 0 newborn, 1/3 child, 2/3 young adult, 1 old."""
SKIN_AGES = {"child": "young", "young": "young", "middle-aged": "middleage", "old": "old"}


@dataclass(frozen=True)
class Look:
    """All that is chosen about a person before geometry: words, items of the package, and numbers."""

    gender: str
    age: str
    ancestry: str
    pose: str
    top: str
    bottom: str
    """Names of suits; the same one twice, or a mix of two."""
    top_word: str
    bottom_word: str
    top_colour: str
    bottom_colour: str
    pattern: str
    second_colour: str
    dress: bool
    hem: float | None
    """Trousers are cut at this share of the height (shorts); None keeps them."""
    sleeve: float | None
    """Long sleeves are cut at this share of the arm; None keeps them."""
    shoes: str
    shoe_colour: str
    hair: str
    hair_colour: str
    hat: str
    hat_colour: str
    brows: str

    def attributes(self) -> dict[str, str]:
        """The words about this person, all but `view`."""
        woven = "striped" if SUITS[self.top].striped else "plain"
        return {
            "gender": self.gender, "age": self.age, "top": self.top_word, "top_colour": self.top_colour,
            "top_pattern": woven if self.pattern == "plain" else self.pattern, "bottom": self.bottom_word,
            "bottom_colour": self.bottom_colour if self.bottom_word else "", "hair": HAIR_WORDS[self.hair],
            "hair_colour": self.hair_colour, "hat": "hat" if self.hat else "", "pose": self.pose,
        }  # fmt: skip


def _choice(rng: np.random.Generator, options: Iterable[str], p: Sequence[float] | np.ndarray | None = None) -> str:
    return str(rng.choice(list(options), p=p))


def _clothes(rng: np.random.Generator, gender: str, age: str, ancestry: str, pose: str) -> dict:
    """Garments, their words, colours, pattern and cuts."""
    own = (CHILD_SUITS if age == "child" else OUTFITS)[gender]
    top = bottom = _choice(rng, own)
    if rng.random() < 0.5 and top in MIXABLE_TOPS[gender]:
        bottom = _choice(rng, own if age == "child" else MIXABLE_BOTTOMS[gender])
    if SUITS[bottom].bottom == "skirt" and pose in ("sitting", "kneeling", "crouching", "running"):
        top = bottom = "female_casualsuit01"  # the skirt mesh breaks between raised knees
    upper, lower = SUITS[top], SUITS[bottom]
    bare = "brown" if ancestry == "african" else "beige"  # cloth of this colour would read as bare skin
    colours = [_choice(rng, [name for name in COLOURS if name != bare]) for _ in range(2)]
    dress = top == "female_elegantsuit01" and bool(rng.random() < 0.55)
    top_word, bottom_word, hem, sleeve = upper.top, lower.bottom, None, None
    if dress:
        top_word, bottom_word, colours[1] = "dress", "", colours[0]
    if upper.sleeves and rng.random() < 0.35:
        sleeve = float(rng.uniform(0.14, 0.30))
        top_word = "t-shirt" if top_word == "sweater" else top_word
    if bottom_word == "jeans":
        if age != "old" and rng.random() < 0.25:
            hem, bottom_word = float(rng.uniform(0.27, 0.36)), "shorts"
        elif colours[1] not in ("blue", "navy", "light blue", "black", "gray"):
            bottom_word = "trousers"
    pattern = "plain"
    if top_word in ("t-shirt", "shirt", "sweater", "dress", "top") and rng.random() < 0.3:
        pattern = _choice(rng, ("striped", "striped", "checked", "dotted"))
    light = sum(COLOURS[colours[0]]) > 0.9
    second = _choice(
        rng, ("black", "navy", "brown", "red") if light else ("white", "white", "beige", "yellow")
    )
    return {
        "top": top, "bottom": bottom, "top_word": top_word, "bottom_word": bottom_word,
        "top_colour": colours[0], "bottom_colour": colours[1], "pattern": pattern,
        "second_colour": second, "dress": dress, "hem": hem, "sleeve": sleeve,
    }  # fmt: skip


def sample_look(rng: np.random.Generator) -> Look:
    """A random person."""
    gender, ancestry = _choice(rng, ("man", "woman")), _choice(rng, ("african", "asian", "caucasian"))
    age = _choice(rng, MODEL_AGES, p=[0.12, 0.38, 0.30, 0.20])
    shares = np.array(list(POSES.values()))
    pose = _choice(rng, POSES, p=shares / shares.sum())
    hair = _choice(rng, HAIR_OF[gender])
    if age == "old" and rng.random() < 0.7:
        hair_colour = "gray"
    elif ancestry == "caucasian":
        hair_colour = _choice(rng, ("dark", "brown", "blonde", "red"), p=[0.3, 0.3, 0.27, 0.13])
    else:
        hair_colour = _choice(rng, ("dark", "brown"), p=[0.85, 0.15])
    hat = _choice(rng, HATS) if rng.random() < 0.16 and hair not in NO_HAT else ""
    return Look(
        gender=gender, age=age, ancestry=ancestry, pose=pose, **_clothes(rng, gender, age, ancestry, pose),
        shoes=_choice(rng, SHOES), shoe_colour=_choice(rng, COLOURS) if rng.random() < 0.5 else "", hair=hair,
        hair_colour=hair_colour, hat=hat, hat_colour=_choice(rng, COLOURS) if hat else "",
        brows=_choice(rng, BROWS),
    )  # fmt: skip


def lower_half(labels: np.ndarray) -> np.ndarray:
    """Which triangles of a suit belong to the legs' half: bool like `labels`."""
    return (labels == PANTS) | (labels == SKIRT)


@cache
def suit_labels(name: str) -> np.ndarray:
    """Part class per triangle of a suit, int [T]."""
    return SUITS[name].triangle_labels(read_proxy(name))
