"""Plain sentences about one person, made from what can be seen of it; the same person always gets the same
ones."""

from __future__ import annotations

from .compose import ScenePerson
from .seen import Seen, see

_HAIR = {
    "long": "long {} hair",
    "short": "short {} hair",
    "tied": "{} hair tied back",
    "bob": "chin-length {} hair",
    "afro": "curly {} hair",
}
_POSES = {
    "arms raised": "standing with both arms raised",
    "arms crossed": "standing with crossed arms",
    "hands on hips": "standing with hands on hips",
    "waving": "waving",
}
_VIEWS = {"back": "seen from behind", "left side": "facing left", "right side": "facing right"}
_PLURAL = ("trousers", "jeans", "shorts", "overalls")


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _who(seen: Seen) -> str:
    a = seen.attributes
    if "gender" in seen.hidden:
        return "person"
    if a["age"] == "child":
        return "boy" if a["gender"] == "man" else "girl"
    return " ".join(word for word in (a["age"] if a["age"] in ("young", "old") else "", a["gender"]) if word)


def _clothes(seen: Seen) -> str:
    a, pieces = seen.attributes, []
    if "top" not in seen.hidden:
        pattern = a.get("top_pattern", "plain")
        words = " ".join(w for w in (a["top_colour"], "" if pattern == "plain" else pattern, a["top"]) if w)
        pieces.append(words if a["top"] in _PLURAL else _with_article(words))
    if a["bottom"] and "bottom" not in seen.hidden:
        words = f"{a['bottom_colour']} {a['bottom']}"
        pieces.append(words if a["bottom"] in _PLURAL else _with_article(words))
    return " and ".join(pieces)


def _doing(seen: Seen) -> list[str]:
    a = seen.attributes
    doing = [] if "pose" in seen.hidden else [_POSES.get(a["pose"], a["pose"])]
    if a["view"] in _VIEWS and "view" not in seen.hidden:
        doing.append(_VIEWS[a["view"]])
    return doing


def captions(person: ScenePerson) -> tuple[str, str, str]:
    """Three ways to say the same about one person: the first is the sentence to learn, the others are
    further references."""
    seen = see(person)
    who, clothes, doing = _who(seen), _clothes(seen), _doing(seen)
    colour = seen.attributes["hair_colour"]
    hair = "" if "hair" in seen.hidden else _HAIR.get(seen.attributes["hair"], "{} hair").format(colour)
    hat = "a hat" if seen.attributes["hat"] and "hat" not in seen.hidden else ""
    worn = (
        " and ".join(piece for piece in (clothes, hat) if piece)
        if " and " not in clothes
        else (f"{clothes.replace(' and ', ', ', 1)} and {hat}" if hat else clothes)
    )
    act = " and ".join(doing)
    subject = _with_article(who)
    pronoun = {"man": "He", "boy": "He", "woman": "She", "girl": "She"}.get(who.split()[-1], "The person")
    first = (
        subject
        + (f" with {hair}" if hair else "")
        + (f" wearing {worn}" if worn else "")
        + (f", {act}" if act else "")
    )
    second = (
        subject
        + (f" in {worn}" if worn else "")
        + (f" is {act}" if act else " is in the picture")
        + (f". {pronoun} has {hair}" if hair else "")
    )
    details = " and ".join(
        words for words in (f"has {hair}" if hair else "", f"wears {worn}" if worn else "") if words
    )
    third = (f"{subject} {act}" if act else subject) + (f". {pronoun} {details}" if details else "")
    first, second, third = (f"{text[0].upper()}{text[1:]}." for text in (first, second, third))
    return first, second, third
