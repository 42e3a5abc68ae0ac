"""RefHuman: people of COCO 2017 with words, a point and scribbles.

`RefHuman_train.json` and `RefHuman_val.json` have COCO's layout, but each pair of a person and an expression is a
picture entry of its own, with an invented id, one annotation, and the expression as its `caption`. So the same photo
occurs many times; what tells photos apart for leakage is the COCO id in `file_name`, which becomes the row's image id.

An annotation's `scribble` is 120 numbers: five scribbles of twelve points x, y, in pixels of the photo. The published
evaluation asks with scribble 0 (`--prompt scribble`) or with the point of index 5 of scribble 0 (`--prompt point`); in
training the published code draws one of the five, and one of the points 4 to 7 of it. With these options a row has no
words; its `points` are all that may be drawn, first what the evaluation asks with, and its box is the answer. Such rows
are left alone by tasks whose instructions know no points.

RefHuman lists those of a photo's people whom somebody described. With COCO's own annotation files (--instances) each
photo gets a row about everybody as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefHCMError
from ..json_file import read_json
from ..leakage import coco_id
from ..person_file import Person, PersonRow
from .base import Converter, Job, Option, need
from .coco import CocoFile, coco_person, person_with_keypoints
from .everybody import CocoPeople, Everybody
from .pictures import Picture, PictureFolder
from .skip import Skip

PROMPTS = ("text", "point", "scribble")
SCRIBBLES = (5, 12, 2)
"""Scribbles, points of each, x and y."""
ASKED_POINT = 5
"""Which point of scribble 0 the evaluation asks with."""
DRAWN_POINTS = (4, 5, 6, 7)
"""Points of any scribble that training asks with."""
_FILES = {"train": "RefHuman_train.json", "val": "RefHuman_val.json"}


def convert(job: Job) -> None:
    """Both files, or the one that is there."""
    found = {split: path for split, name in _FILES.items() if (path := job.find(name, f"annotations/{name}"))}
    if not found:
        job.source(*_FILES.values())
    folder = job.images_folder("images", "train2017", "coco/train2017")
    pictures = job.pictures(folder)
    instances = job.option("instances")
    everybody = Everybody(job, "refhuman", wanted=bool(instances))
    for split, path in found.items():
        _split(job, split, path, pictures, everybody)
    if instances:
        annotations: dict[int, Mapping[str, Any]] = {}
        for name in instances.split(","):
            annotations |= CocoFile(Path(name)).annotations
        everybody.write(CocoPeople(annotations.values(), partial(_listed, job)).of)
    if job.option("prompt") != "text":
        job.report.note("rows ask by points, which only models can answer that were taught them")


def _listed(job: Job, annotation: Mapping[str, Any], size: tuple[int, int]) -> Person:
    """A person of COCO's own files, with keypoints or without."""
    return (person_with_keypoints if "keypoints" in annotation else coco_person)(job, annotation, size)


def _split(job: Job, split: str, path: Path, pictures: PictureFolder, everybody: Everybody) -> None:
    """The rows of one file."""
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
            row = _row(job, f"refhuman_{split}:{number}:0", entry, listed[0], pictures)
            job.add(split, row)
            everybody.note(split, row.image_id, partial(_picture, entry, pictures))


def _list(content: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise RefHCMError(f"{path} has no list of {name}: it is no annotation file in COCO's layout.")
    return entries


def _row(
    job: Job, name: str, entry: Mapping[str, Any], annotation: Mapping[str, Any], pictures: PictureFolder
) -> PersonRow:
    """The row of a person and an expression or scribbles; Skip where it cannot be asked."""
    picture = _picture(entry, pictures)
    people = (coco_person(job, annotation, picture.size, annotation),)
    image_id = coco_id(need(entry, "file_name", str))
    if image_id is None:
        raise Skip("the name of the picture holds no COCO id")
    prompt: str = job.option("prompt")
    if prompt == "text":
        text = entry.get("caption")
        if not isinstance(text, str) or not text.strip():
            raise Skip("the expression is empty")
        return PersonRow(name, str(image_id), picture.value, people, text)
    scribbles = read_scribbles(annotation.get("scribble"), picture.size)
    points = drawn_points(scribbles) if prompt == "point" else scribbles
    marks = tuple(tuple((float(x), float(y)) for x, y in mark) for mark in points)
    return PersonRow(name, str(image_id), picture.value, people, points=marks)


def drawn_points(scribbles: np.ndarray) -> np.ndarray:
    """int (20, 1, 2): the points of (5, 12, 2) scribbles that may be asked with, first the one of the evaluation."""
    order = [ASKED_POINT, *(at for at in DRAWN_POINTS if at != ASKED_POINT)]
    return scribbles[:, order].reshape(-1, 1, 2)


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


CONVERTERS = (
    Converter(
        "refhuman",
        "RefHuman: people of COCO 2017 by words, point or scribble",
        convert,
        layout="the folder with RefHuman_train.json, RefHuman_val.json (or one of them) and images/.",
        licence="RefHuman: annotations CC BY 4.0; photos of COCO under their own Flickr licences",
        options=(
            Option("prompt", "what rows are asked with (default text)",
                   default="text", choices=PROMPTS),
            Option("instances", "COCO's person_keypoints or instances file of the photos, several between commas: for "
                   "each photo also a row that lists everybody in it, where all are known"),
        ),
    ),
)  # fmt: skip
