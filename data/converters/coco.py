"""Annotation files in COCO's layout (instances, person_keypoints and what was modelled on them), read by id."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefHCMError
from ..json_file import read_json
from ..masks import segmentation_mask
from ..person_file import Person
from .base import Job, check_places, keypoints_of, need, optional, person_box
from .pictures import Picture, PictureFolder
from .skip import Skip

PERSON = 1
"""COCO's category of people."""
LICENCE = "COCO: annotations CC BY 4.0, each photo under its own Flickr licence"


class CocoFile:
    """`images`, `annotations` and `categories` of a file, by their ids (whole numbers of any length)."""

    def __init__(self, path: Path) -> None:
        content = read_json(path, dict)
        self.path = path
        self.images = _by_id(content, "images", path)
        self.annotations = _by_id(content, "annotations", path)

    def image(self, image_id: int) -> Mapping[str, Any]:
        """The entry of a picture; Skip where the file has none."""
        if image_id not in self.images:
            raise Skip(f"the picture is not in {self.path.name}")
        return self.images[image_id]

    def annotation(self, annotation_id: int) -> Mapping[str, Any]:
        """The entry of an object; Skip where the file has none."""
        if annotation_id not in self.annotations:
            raise Skip(f"the annotation is not in {self.path.name}")
        return self.annotations[annotation_id]


def _by_id(content: Mapping[str, Any], name: str, path: Path) -> dict[int, Mapping[str, Any]]:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise RefHCMError(f"{path} has no list of {name}: it is no annotation file in COCO's layout.")
    found: dict[int, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        if type(key) is not int:
            raise RefHCMError(f"{path}: entry {number} of {name} has no whole number as its id.")
        if key in found:
            raise RefHCMError(f"{path}: {name} has the id {key} twice.")
        found[key] = entry
    return found


def coco_picture(pictures: PictureFolder, entry: Mapping[str, Any]) -> Picture:
    """The picture of an entry of `images`: under its own name, or under the names that the same photo has in COCO's
    other releases (its id never changes). Skip as `PictureFolder.get`.
    """
    name, number = need(entry, "file_name", str), need(entry, "id", int)
    width, height = optional(entry, "width", int), optional(entry, "height", int)
    folders = ("", "train2014/", "val2014/", "train2017/", "val2017/")
    plain = f"{number:012d}.jpg"
    names = [folder + name for folder in folders]
    names += [folder + plain for folder in folders]
    names += [f"{folder}COCO_{split}_{plain}" for split in ("train2014", "val2014") for folder in ("", f"{split}/")]
    stated = None if width is None or height is None else (width, height)
    return pictures.get(next(filter(pictures.has, names), name), stated)


def coco_person(
    job: Job,
    annotation: Mapping[str, Any],
    size: tuple[int, int],
    keypoints: Mapping[str, Any] | None = None,
    crowds: bool = False,
) -> Person:
    """The person of an annotation in a picture of `size` (width, height): box, mask and segment area, and keypoints
    from `keypoints` (an annotation of a person_keypoints file; None: they are not known). Skip for a crowd (unless
    `crowds`), for a box that is none, and for a mask or keypoints that lie elsewhere or keypoints that cannot be read.
    Where an outline or run lengths cannot be used, or enclose nothing, `job` counts that, and the person has no mask.
    """
    if annotation.get("iscrowd") and not crowds:
        raise Skip("it is a crowd, not a person")
    area = optional(annotation, "area", int, float)
    mask = None
    if segmentation := annotation.get("segmentation"):
        with suppress(RefHCMError):
            mask = segmentation_mask(segmentation, size)
    points: np.ndarray | None = None
    if keypoints is not None:
        points = keypoints_of(keypoints.get("keypoints"))
    box = person_box(annotation.get("bbox"), size)
    check_places(box, points, mask, size)
    if segmentation and mask is None:
        job.report.without("mask", f"annotation {annotation.get('id')}")
    possible = area is not None and 0 < area <= size[0] * size[1]
    return Person(box, points, mask, area=float(area) if area is not None and possible else None)


def person_with_keypoints(job: Job, annotation: Mapping[str, Any], size: tuple[int, int]) -> Person:
    """As `coco_person` of an annotation that holds keypoints too. Where none is labelled, as of small people, they are
    not known, rather than known to be hidden.
    """
    person = coco_person(job, annotation, size, annotation)
    return person if labelled(person.keypoints) else replace(person, keypoints=None)


def is_person(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is of a person, as those of files about people alone are that name no category."""
    return annotation.get("category_id", PERSON) == PERSON


def labelled(points: np.ndarray | None) -> bool:
    """Whether any of these keypoints is labelled: COCO gives small people 17 times 0, 0, 0."""
    return points is not None and bool((points[:, 2] > 0).any())
