"""Small slips of spelling and punctuation in expressions, that leave every word to be known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from .describe import Expression
from .groups import GroupExpression

KNOWN = frozenset((
    "red", "orange", "yellow", "green", "blue", "navy", "purple", "pink", "brown", "black", "white", "gray", "grey",
    "beige", "turquoise", "light", "dark", "blond", "blonde", "striped", "checked", "dotted", "plain", "shirt",
    "shirts", "tee", "sweater", "sweaters", "pullover", "pullovers", "jacket", "jackets", "coat", "coats", "suit",
    "suits", "blazer", "blazers", "dress", "dresses", "skirt", "skirts", "top", "tops", "tank", "trousers", "pants",
    "jeans", "shorts", "overalls", "hat", "hats", "hair", "long", "short", "tied", "curly", "chin", "length", "man",
    "men", "guy", "guys", "gentleman", "woman", "women", "lady", "ladies", "boy", "boys", "girl", "girls", "kid",
    "kids", "child", "children", "person", "people", "everyone", "everybody", "old", "elderly", "older", "young",
    "little", "standing", "walking", "running", "sitting", "seated", "kneeling", "knee", "crouching", "waving",
    "raised", "raising", "arms", "crossed", "hands", "hips", "leaning", "pointing", "behind", "away", "back",
    "facing", "looking", "left", "right", "middle", "center", "centre", "second", "third", "first", "far", "front",
    "closest", "farthest", "foreground", "background", "camera", "next", "beside", "between", "without", "with",
    "not", "wearing", "isn't", "one", "two", "three", "four", "five", "six", "seven", "eight", "both", "all",
    "except", "but", "photo", "picture", "side",
))  # fmt: skip
"""Words that tell people apart, and others that a slip must not turn into one of them or leave in doubt."""
_OTHER_WORDS = frozenset((
    "waking", "keeling", "brow", "ants", "shit", "seater", "eater", "lack", "lacks", "hit", "sort", "bother", "hate",
    "hats", "bot", "wit",
))  # fmt: skip
"""Words of another meaning, or none to be said, that a letter left out would give."""
_ALWAYS_WHOLE = frozenset((
    "left", "right", "front", "back", "without", "between", "behind", "second", "third",
))  # fmt: skip
"""Words on which who is meant hangs by themselves."""
_SPELLINGS = {
    "t-shirt": ("tshirt", "tee shirt", "t shirt"), "gray": ("grey",), "grey": ("gray",), "center": ("centre",),
    "photo": ("foto", "pic"), "isn't": ("isnt",), "doesn't": ("doesnt",), "light blue": ("light-blue", "lightblue"),
    "everyone": ("every one",), "second": ("2nd",), "third": ("3rd",),
}  # fmt: skip
_LONG = 5
_One = TypeVar("_One", Expression, GroupExpression)


def one_letter_slips(word: str) -> list[str]:
    """The ways to write a word with one letter left out or doubled (never its first or, left out, its last) in which
    nobody takes it for another known word; none of words on which all hangs, and of short ones."""
    if word not in KNOWN or word in _ALWAYS_WHOLE or len(word) < _LONG or not word.isalpha():
        return []
    slips = {word[:i] + word[i + 1 :] for i in range(1, len(word) - 1)}
    slips |= {word[:i] + word[i] + word[i:] for i in range(1, len(word))}
    others = KNOWN - {word}
    return sorted(
        slip for slip in slips - KNOWN - _OTHER_WORDS if not any(within_one(slip, other) for other in others)
    )


def within_one(a: str, b: str) -> bool:
    """Whether one letter put in, left out or replaced makes `b` of `a`, or none at all does."""
    if abs(len(a) - len(b)) > 1:
        return False
    short, long = sorted((a, b), key=len)
    same = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    return short[same + (len(a) == len(b)) :] == long[same + 1 :]


class Slips:
    """Puts a slip into a `share` of expressions; all chance comes from `rng`."""

    def __init__(self, rng: np.random.Generator, share: float) -> None:
        self._rng, self._share = rng, share

    def all(self, expressions: Sequence[_One]) -> list[_One]:
        """The expressions, still all different."""
        told: list[_One] = []
        texts = {expression.text for expression in expressions}
        for expression in expressions:
            text = self.text(expression.text) if self._rng.random() < self._share else expression.text
            if text in texts:
                text = expression.text
            texts.add(text)
            told.append(replace(expression, text=text))
        return told

    def text(self, text: str) -> str:
        """Words with one slip, or as they are where the kind that was drawn does not fit them."""
        kind = ("letter", "letter", "letter", "spelling", "articles", "capital", "stop")[int(self._rng.integers(7))]
        if kind == "letter":
            return self._letter(text)
        if kind == "spelling":
            found = [name for name in _SPELLINGS if re.search(rf"\b{name}\b", text)]
            if not found:
                return self._letter(text)
            name = self._one(found)
            return re.sub(rf"\b{name}\b", self._one(_SPELLINGS[name]), text, count=1)
        if kind == "articles":
            return re.sub(r"\b(the|an?) ", "", text)
        if kind == "capital":
            return text[0].upper() + text[1:]
        return f"{text}."

    def _letter(self, text: str) -> str:
        words = text.split(" ")
        places = [(at, slips) for at, word in enumerate(words) if (slips := one_letter_slips(word))]
        if not places:
            return text
        at, slips = places[int(self._rng.integers(len(places)))]
        words[at] = self._one(slips)
        return " ".join(words)

    def _one(self, options: Sequence[str]) -> str:
        return options[int(self._rng.integers(len(options)))]
