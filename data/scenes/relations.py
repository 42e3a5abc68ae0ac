"""Where people stand to each other in a picture, judged with a margin."""

from __future__ import annotations

from collections.abc import Sequence

from .seen import Seen, Verdict

BEHIND = 1.2
"""So many times larger must the nearer of two people be (pixels per metre) to stand before the other."""
_LEVEL = 1.08
"""Differences in size that nobody sees."""
_OVERLAP, _APART = 0.25, 0.15
"""Share of the narrower of two people that the other must cover sideways, to stand before or behind it; and the gap, as
a share of the picture's width, from which on nobody would say so."""
_BETWEEN_MARGIN, _BETWEEN_RATIO, _DOUBT = 0.07, 1.5, 0.02


def stands(seen: Seen, anchors: Sequence[Seen], word: str) -> Verdict:
    """Whether a person is "next to", "left of", "right of", "behind" or "in front of" one other, or "between" two."""
    if word == "between":
        return _between(seen, anchors[0], anchors[1])
    (anchor,) = anchors
    if word == "behind":
        return _behind(seen, anchor)
    return _behind(anchor, seen) if word == "in front of" else _beside(seen, anchor, word)


def _gap(a: Seen, b: Seen) -> float:
    """Columns between two boxes as a share of the width; negative where they overlap."""
    return max(b.left - a.right, a.left - b.right)


def _beside(seen: Seen, anchor: Seen, word: str) -> Verdict:
    if word in ("left of", "right of"):
        shift = (anchor.x - seen.x) * (1 if word == "left of" else -1)
        return True if shift > 0.1 else (None if shift > -0.05 else False)
    ratio = max(seen.scale, anchor.scale) / min(seen.scale, anchor.scale)
    if _gap(seen, anchor) < 0.12 and ratio < 1.5:
        return True
    return None if _gap(seen, anchor) < 0.3 else False


def _behind(seen: Seen, anchor: Seen) -> Verdict:
    """Farther away, and in the same columns."""
    if seen.scale > _LEVEL * anchor.scale or _gap(seen, anchor) > _APART:
        return False
    narrower = min(seen.right - seen.left, anchor.right - anchor.left)
    covered = -_gap(seen, anchor) > _OVERLAP * narrower
    return True if covered and anchor.scale > BEHIND * seen.scale else None


def _between(seen: Seen, one: Seen, other: Seen) -> Verdict:
    """In the columns between two others, and about as far away."""
    low, high = sorted((one.x, other.x))
    if not low - _DOUBT < seen.x < high + _DOUBT:
        return False
    scales = [seen.scale, one.scale, other.scale]
    level = max(scales) < _BETWEEN_RATIO * min(scales)
    return True if level and low + _BETWEEN_MARGIN < seen.x < high - _BETWEEN_MARGIN else None
