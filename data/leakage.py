"""Which pictures two dataset files share: a model must not be scored on pictures that it was trained on."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})(?:_\d+)*", re.ASCII)


def coco_id(name: str) -> int | None:
    """The COCO image id in the name of a picture, such as `train2014/COCO_train2014_000000000110.jpg`,
    `000000000110.jpg`, or the `COCO_train2014_000000000110_6.jpg` of referring sets, which is no file; None in others.
    """
    match = _COCO_NAME.fullmatch(PurePosixPath(name.replace("\\", "/")).stem)
    return int(match[1]) if match else None
