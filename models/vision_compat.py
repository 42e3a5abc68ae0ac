"""Import timm beside a CPU-only torch.

timm imports torchvision. The torchvision on PyPI for Linux is built for CUDA: beside a CPU torch its compiled
part does not load, and its import then stops because the operators that it wants to describe do not exist.
Declaring those two operators (without an implementation) lets the import pass; nothing that timm uses here
calls them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from ..errors import RefHCMError

_declared: list[torch.library.Library] = []
"""Keeps the declarations alive: a library that is collected takes its operators with it."""


def import_timm() -> ModuleType:
    """The timm module, imported on first use. Raises RefHCMError if it is not installed."""
    mend_torchvision()
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise RefHCMError("timm is not installed, and every model needs it: pip install timm.") from error


def mend_torchvision() -> None:
    """Make `import torchvision` pass, here and in libraries that import it; nothing happens where it does already."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
