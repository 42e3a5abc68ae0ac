"""From official downloads to our own dataset files: `refhcm convert NAME --source DIR --out DIR`.

A converter is a module here with a tuple `CONVERTERS` (see `base`), listed in `MODULES`. What they share:
`base` (the job, its options, checks on what the source says), `report` (what was written and left out), `pictures`
(how rows come to their pictures), `coco` (annotation files in COCO's layout), `..masks` (run lengths, polygons) and
`..json_file` (strict reading).
"""

from __future__ import annotations

from importlib import import_module

from ...errors import RefHCMError
from .base import Converter, Job, Option, Options, Skip, run

__all__ = ["MODULES", "Converter", "Job", "Option", "Options", "Skip", "find", "known", "run"]

MODULES: tuple[str, ...] = ("refcoco", "grefcoco", "coco_keypoints", "cihp", "refhuman", "humar", "own")
"""Modules that hold converters, in the order in which they are listed. They import nothing heavy."""


def known() -> dict[str, Converter]:
    """All converters by name."""
    modules = (import_module(f".{name}", __name__) for name in MODULES)
    return {converter.name: converter for module in modules for converter in module.CONVERTERS}


def find(name: str) -> Converter:
    """The converter called `name`; RefHCMError with the names that there are."""
    converters = known()
    if name not in converters:
        raise RefHCMError(f"There is no converter {name!r}: the converters are {', '.join(converters)}.")
    return converters[name]
