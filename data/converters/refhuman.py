"""RefHuman: people of COCO 2017 with words, a point and scribbles.

`RefHuman_train.json` and `RefHuman_val.json` have COCO's layout, but each pair of a person and an expression is a
picture entry of its own, with an invented id, one annotation, and the expression as its `caption`. So the same photo
occurs many times; what tells photos apart for leakage is the COCO id in `file_name`, which becomes the row's image id.

An annotation's `scribble` is 120 numbers: five scribbles of twelve points x, y, in pixels of the photo. The published
evaluation asks with scribble 0 (`--prompt scribble`) or with the point of index 5 of scribble 0 (`--prompt point`); in
training the published code draws one of the five, and one of the points 4 to 7 of it.

Our rows hold boxes and words only. With `--prompt point` or `scribble` a row has no words, and what it is asked with
stands in OUT/prompts.jsonl, one line per row:

    {"id": "refhuman_val:17:0", "kind": "point", "points": [[212, 148]], "scribbles": [[[...], ...], ...]}

`points` is the prompt by the evaluation's rule, `scribbles` (5, 12, 2) all that training may draw from. The row's box
is the answer. A reader that does not know prompts.jsonl asks such a row with that very box, which is another and
easier question: scores of it are no scores of RefHuman's point or scribble prompts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefHCMError
from ..json_file import read_json
from ..leakage import coco_id
from ..person_file import Person, PersonRow
from .base import Converter, Job, Option, need
from .coco import coco_person
from .pictures import Picture, PictureFolder
from .skip import Skip

PROMPTS = ("text", "point", "scribble")
PROMPTS_FILE = "prompts.jsonl"
SCRIBBLES = (5, 12, 2)
"""Scribbles, points of each, x and y."""
ASKED_POINT = 5
"""Which point of scribble 0 the evaluation asks with."""
_FILES = {"train": "RefHuman_train.json", "val": "RefHuman_val.json"}


def convert(job: Job) -> None:
    """Both files, or the one that is there."""
    found = {split: path for split, name in _FILES.items() if (path := job.find(name, f"annotations/{name}"))}
    if not found:
        job.source(*_FILES.values())
    folder = job.images_folder("images", "train2017", "coco/train2017")
    pictures = job.pictures(folder)
    prompt: str = job.option("prompt")
    prompts: list[dict[str, Any]] = []
    for split, path in found.items():
        _split(job, split, path, pictures, prompts)
    target = job.out / PROMPTS_FILE
    target.unlink(missing_ok=True)
    if prompt != "text":
        _save(target, prompts)
        job.report.note(f"rows are asked with the {prompt} in {PROMPTS_FILE}; asked with their box they are easier")


def _split(job: Job, split: str, path: Path, pictures: PictureFolder, prompts: list[dict[str, Any]]) -> None:
    """The rows of one file; adds what they are asked with to `prompts`."""
    content = read_json(path, dict)
    entries = _list(content, "images", path)
    # By picture, not by their own ids: one person's entries may all carry the id that COCO gave the person.
    annotations: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in _list(content, "annotations", path):
        if isinstance(annotation, dict) and type(annotation.get("image_id")) is int:
            annotations.setdefault(annotation["image_id"], []).append(annotation)
    job.report.read(split, "expressions", len(entries))
    for place, entry in enumerate(job.progress(entries, split)):
        with job.guard(f"picture entry {place} of {path.name}"):
            number = need(entry, "id", int)
            listed = annotations.get(number, [])
            if len(listed) != 1:
                raise Skip("the entry has not exactly one annotation")
            row, asked = _row(job, f"refhuman_{split}:{number}:0", entry, listed[0], pictures)
            job.add(split, row)
            if asked is not None:
                prompts.append(asked)


def _list(content: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise RefHCMError(f"{path} has no list of {name}: it is no annotation file in COCO's layout.")
    return entries


def _row(
    job: Job, name: str, entry: Mapping[str, Any], annotation: Mapping[str, Any], pictures: PictureFolder
) -> tuple[PersonRow, dict[str, Any] | None]:
    """The row of a person and an expression, and its line of prompts.jsonl; Skip where it cannot be asked."""
    picture = _picture(entry, pictures)
    person = coco_person(annotation, picture.size, annotation)
    image_id = coco_id(need(entry, "file_name", str))
    if image_id is None:
        raise Skip("the name of the picture holds no COCO id")
    prompt: str = job.option("prompt")
    if prompt == "text":
        text = entry.get("caption")
        if not isinstance(text, str) or not text.strip():
            raise Skip("the expression is empty")
        return _person_row(name, image_id, picture, person, text), None
    scribbles = read_scribbles(annotation.get("scribble"), picture.size)
    points = scribbles[0] if prompt == "scribble" else scribbles[0, ASKED_POINT : ASKED_POINT + 1]
    asked = {"id": name, "kind": prompt, "points": points.tolist(), "scribbles": scribbles.tolist()}
    return _person_row(name, image_id, picture, person, None), asked


def _person_row(name: str, image_id: int, picture: Picture, person: Person, text: str | None) -> PersonRow:
    return PersonRow(name, str(image_id), picture.value, (person,), text)


def _picture(entry: Mapping[str, Any], pictures: PictureFolder) -> Picture:
    """The photo of an entry. Its invented id is not asked: only the name says which photo it is."""
    name = need(entry, "file_name", str)
    stated = need(entry, "width", int), need(entry, "height", int)
    names = [folder + end for end in (name, Path(name).name) for folder in ("", "train2017/", "val2017/")]
    return pictures.get(next(filter(pictures.has, names), name), stated)


def read_scribbles(value: Any, size: tuple[int, int]) -> np.ndarray:
    """int (5, 12, 2): five scribbles of twelve points x, y in pixels of a picture of `size` (width, height), from 120
    numbers, flat or nested. Skip for anything else, and for points outside the picture.
    """
    try:
        points = np.array(value)
        whole = points.dtype.kind in "iuf" and points.size == np.prod(SCRIBBLES) and bool(np.isfinite(points).all())
    except (ValueError, TypeError, OverflowError):
        whole = False
    if not isinstance(value, list) or not whole:
        raise Skip("the scribble is not 120 numbers")
    points = points.reshape(SCRIBBLES)
    if (points < 0).any() or (points > np.array(size)).any():
        raise Skip("a scribble leaves the picture")
    return np.rint(points).astype(np.int64)


def _save(path: Path, prompts: list[dict[str, Any]]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(prompt, separators=(",", ":")) + "\n" for prompt in prompts)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RefHCMError(f"{path} cannot be written ({error.strerror}): check the disk.") from error


CONVERTERS = (
    Converter(
        "refhuman",
        "RefHuman: people of COCO 2017 by words, point or scribble",
        convert,
        layout="the folder with RefHuman_train.json, RefHuman_val.json (or one of them) and images/.",
        licence="RefHuman: annotations CC BY 4.0; photos of COCO under their own Flickr licences",
        options=(
            Option("prompt", "what rows are asked with (default text); points and scribbles go to prompts.jsonl",
                   default="text", choices=PROMPTS),
        ),
    ),
)  # fmt: skip
