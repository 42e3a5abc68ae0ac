"""How likely it is that anybody fits: a model's own chance, and what it is worth once it has been calibrated.

Decoding knows the first (`Reading.presence`): the share of an answer's first token that is not its end. It ranks well,
but as a probability it is too sure of itself. `models.abilities.Presence` holds two numbers that mend that, and the
threshold below which the answer is "nobody"; `inference.calibrate` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RefHCMError
from ..models.abilities import Presence
from ..models.decoding import Settings

_SMALLEST = 1e-7
"""Of a chance that is taken for neither 0 nor 1: what float32 knows of a probability near 1."""


def calibrated(raw: float, presence: Presence) -> float:
    """The calibrated chance that anybody fits, of the model's own; both in [0, 1]."""
    return _chance(presence.scale * log_odds(raw) + presence.offset)


def raw_threshold(presence: Presence) -> float:
    """The model's own chance from which on somebody fits."""
    if not 0 < presence.threshold < 1:
        return presence.threshold
    return _chance((log_odds(presence.threshold) - presence.offset) / presence.scale)


def deciding(presence: Presence) -> Settings:
    """How to search, so that answers are empty where nobody fits."""
    least = raw_threshold(presence)
    return Settings(empty_from=1 - least if least > 0 else math.inf)


def log_odds(chance: float) -> float:
    """The logarithm of `chance / (1 - chance)`, finite."""
    chance = min(max(chance, _SMALLEST), 1 - _SMALLEST)
    return math.log(chance) - math.log1p(-chance)


def read_presence(config: Mapping[str, Any], where: str | Path) -> Presence:
    """The section `presence` of a model's configuration, which stands in the file `where`; RefHCMError for any that
    makes no sense."""
    section = config.get("presence", {})
    known = vars(Presence())
    if not isinstance(section, dict) or not set(section) <= set(known):
        raise RefHCMError(f"{where}: presence must hold {', '.join(known)} and nothing else.")
    for name, value in section.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise RefHCMError(f"{where}: {name} of presence must be a number, not {value!r}.")
    presence = Presence(**{name: float(value) for name, value in section.items()})
    if presence.scale <= 0 or not 0 <= presence.threshold <= 1:
        raise RefHCMError(f"{where}: presence needs a scale above 0 and a threshold in 0..1.")
    return presence


def _chance(odds: float) -> float:
    """The chance with these log-odds."""
    if odds < 0:  # no exponential of a large number
        return math.exp(odds) / (1 + math.exp(odds))
    return 1 / (1 + math.exp(-odds))
