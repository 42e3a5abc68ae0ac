"""What a list of modules holds, said to the type checker: `nn.ModuleList` promises no more than modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def items(modules: nn.ModuleList, kind: type[M]) -> Sequence[M]:
    """The same list, as one of modules of this `kind`; nothing is checked or copied."""
    return cast("Sequence[M]", modules)
