"""RefHCM: referring human perception. A photo and words in; box, keypoints, body parts and caption out.

    import refhcm
    model = refhcm.load()                                     # the bundled compact model
    answer = model("photo.jpg", "the woman in the red coat")
    answer.draw().save("answer.png")

Importing this package loads nothing heavy: torch and the model code come with the first use of a name below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError, RefHCMError

if TYPE_CHECKING:
    from .inference.answer import Answer
    from .inference.draw import draw_answers
    from .inference.load import load
    from .inference.predictor import RefHCMPredictor
    from .inference.region_map import combine

__version__ = "0.1.0"

__all__ = [
    "Answer", "MissingExtraError", "RefHCMError", "RefHCMPredictor", "__version__", "combine", "draw_answers", "load",
]  # fmt: skip

_HOMES = {
    "Answer": "inference.answer", "RefHCMPredictor": "inference.predictor", "combine": "inference.region_map",
    "draw_answers": "inference.draw", "load": "inference.load",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'refhcm' has no attribute '{name}'")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
