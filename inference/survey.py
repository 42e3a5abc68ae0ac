"""A look at everything that an evaluation will ask about, before hours are spent; and digests that tell models and data
apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.dataset import ReferringDataset
from ..data.faults import too_many
from ..data.images import open_sized, picture_size
from ..data.person_file import BETWEEN_PEOPLE
from ..data.row_file import BadRow
from ..data.rows import OWN, Reading, read_pair
from ..data.vocabulary_file import describe_vocabulary
from .predictor import RefHCMPredictor

_DIGITS = 16


def survey(rows: ReferringDataset, chosen: Sequence[int], *, thorough: bool = False, progress: bool = True) -> str:
    """Look at rows without decoding their pictures, and give a digest of what they say.

    `thorough` decodes pictures, part maps and masks too. RefHCMError, with a report that names the rows, where some
    cannot be used. The digest covers the rows as they stand in the file, and the sizes of the pictures' files.
    """
    digest, faults = hashlib.sha256(), list[BadRow]()
    reading = Reading(rows.kind == OWN, rows.parts_source, parts=thorough, masks=thorough)
    pictures: dict[str, tuple[tuple[int, int], int]] = {}
    for row in tqdm(chosen, desc="looking at rows", disable=not progress, leave=False, delay=2):
        try:
            fields = rows.file[row]
            key = rows.file.picture_name(row)
            if key not in pictures:
                source = rows.picture_source(row, fields["image"])
                size = open_sized(source, orient=False)[1] if thorough else picture_size(source)
                pictures[key] = size, _length(source)
            size, length = pictures[key]
            read_pair(fields, size, reading)
            maps = [path for path in fields.get("parts", "").split(BETWEEN_PEOPLE) if path]
            length += sum(_length(rows.parts_source(path)) for path in maps)
            digest.update(rows.file.raw(row) + b"\n%d\n" % length)
        except BadRow as error:
            faults.append(error)
        except (ValueError, OSError) as error:
            faults.append(rows.file.bad(row, str(error)))
    if faults:
        raise too_many(str(rows.file.path), len(rows), {fault.line: fault.why for fault in faults}, 0.0)
    return digest.hexdigest()[:_DIGITS]


def _length(source: Path | bytes) -> int:
    """Bytes of a picture's or part map's file."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def fingerprint(predictor: RefHCMPredictor) -> str:
    """A digest of everything in a model that its answers depend on."""
    digest = hashlib.sha256()
    words, numbers = predictor.vocabulary, predictor.model.config.to_dict()
    described: list[Any] = [numbers, describe_vocabulary(words), vars(predictor.abilities)]
    described.append(words.encode_text(" which region does the text describe?"))
    networks = [network for network in (predictor.model, predictor.label_map, predictor.masks) if network is not None]
    digest.update(json.dumps(described, sort_keys=True).encode())
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            if not name.endswith("num_batches_tracked"):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_DIGITS]
