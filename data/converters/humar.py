"""HuMAR-GREF, as far as its public loaders show its form: several people, or nobody, per expression, with keypoints.

The references are a JSON list in gRefCOCO's form (`ref_id`, `image_id`, `ann_id` as a list, `split`, `file_name`,
`sentences`), the instances a bare JSON list of annotations in COCO's form, without any entries of pictures: sizes are
read from the pictures themselves. Keypoints are pseudo-labels: 17 lists x, y, score, or 51 numbers, or another length,
which is padded with unlabelled points or cut, and counted. A score above --score-above (0.1, as its loaders have it)
becomes 2 (seen), any other 0; 1 (hidden) does not occur. The set has no labels of actions. Nothing says whether the
instances are all people of their pictures: --everybody takes it that they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...errors import RefHCMError
from ..annotation import KEYPOINT_NAMES
from ..json_file import read_json
from ..leakage import coco_id
from ..person_file import Person, PersonRow
from .base import Converter, Job, Option, need
from .coco import coco_person
from .everybody import EVERYBODY, CocoPeople, Everybody
from .pictures import Picture, PictureFolder
from .refcoco import TEXT
from .refs import sentences_of, targets
from .skip import Skip
from .values import BadValue, read_points

SCORE_ABOVE = 0.1
_FOLDER = "HuMAR_Annots_With_Keypoints"
_REFS = "HuMAR_GREF_COCO_With_Keypoints.json"
_INSTANCES = "HuMAR_instances_With_Keypoints.json"
_PICTURES = "GREFS_COCO_HuMAR_Images"


def convert(job: Job) -> None:
    """Every sentence of every reference."""
    refs = read_json(_given(job, "refs", _REFS), list)
    instances = _instances(read_json(_given(job, "instances", _INSTANCES), list))
    pictures = job.pictures(job.images_folder(_PICTURES, "images"))
    people: dict[tuple[int, str], Person] = {}
    everybody = Everybody(job, "humar")
    for number, ref in enumerate(job.progress(refs, "refs")):
        name = f"ref {ref.get('ref_id', f'number {number}') if isinstance(ref, dict) else f'number {number}'}"
        with job.guard(name):
            _ref(job, ref, instances, pictures, people, everybody)
    everybody.write(CocoPeople(instances.values(), partial(_person, job)).of)
    job.report.note(f"keypoints are pseudo-labels; scores above {job.option('score-above'):g} count as seen")
    job.report.note("test splits of a dozen pictures are too small for a figure to be reported")


def _given(job: Job, option: str, name: str) -> Any:
    """The file named by an option, or the one of the official name."""
    given = job.option(option)
    return job.source(given) if given else job.source(f"{_FOLDER}/{name}", name)


def _instances(entries: list[Any]) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        if type(key) is not int:
            raise RefHCMError(f"Entry {number} of the instances has no whole number as its id: is it the right file?")
        found[key] = entry
    return found


def _ref(
    job: Job,
    ref: Any,
    instances: Mapping[int, Mapping[str, Any]],
    pictures: PictureFolder,
    people: dict[tuple[int, str], Person],
    everybody: Everybody,
) -> None:
    """The rows of one reference. `people` keeps who was read, by annotation and picture."""
    ref_id, image_id, split = need(ref, "ref_id", int), need(ref, "image_id", int), need(ref, "split", str)
    sentences = need(ref, "sentences", list)
    job.report.read(split, "expressions", len(sentences))
    find = partial(find_picture, pictures, need(ref, "file_name", str), image_id)
    picture = find()
    everybody.note(split, str(image_id), find)
    meant = []
    for annotation_id in targets(ref):
        if annotation_id not in instances:
            raise Skip("an annotation is not among the instances")
        key = annotation_id, picture.value
        if key not in people:
            if instances[annotation_id].get("image_id") != image_id:
                raise Skip("an annotation belongs to another picture")
            people[key] = _person(job, instances[annotation_id], picture.size)
        meant.append(people[key])
    for k, text in sentences_of(ref, job.option("text"), lambda why, at: job.report.skip(why, f"ref {ref_id}:{at}")):
        with job.guard(f"ref {ref_id}:{k}"):
            job.add(split, PersonRow(f"humar:{ref_id}:{k}", str(image_id), picture.value, tuple(meant), text))


def find_picture(pictures: PictureFolder, name: str, image_id: int) -> Picture:
    """The picture of a reference, whose `file_name` may be COCO's with a serial number behind it, which is no file."""
    if (stated := coco_id(name)) is not None and stated != image_id:
        raise Skip("the image id and the name of the picture disagree")
    plain = PurePosixPath(name)
    names = [name, plain.name, f"COCO_train2014_{image_id:012d}.jpg", f"{image_id:012d}.jpg"]
    stem = plain.stem
    while "_" in stem:
        stem = stem.rpartition("_")[0]
        names.append(f"{stem}{plain.suffix}")
    return pictures.get(next(filter(pictures.has, names), name))


def _person(job: Job, annotation: Mapping[str, Any], size: tuple[int, int]) -> Person:
    person = coco_person(job, annotation, size)
    values = annotation.get("keypoints")
    if not values:
        return person
    try:
        points = read_points(values if isinstance(values, list) else None, job.option("score-above"), pad=True)
    except BadValue as error:
        raise Skip("the keypoints cannot be read") from error
    count = len(values) if isinstance(values[0], list) else len(values) / 3
    if count != len(KEYPOINT_NAMES):
        job.report.read("keypoints", "lists that were padded or cut to 17 points")
    points = _inside(points, size)
    return replace(person, keypoints=points)


def _inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pseudo-labels outside the picture are no labels."""
    x, y = points[:, 0], points[:, 1]
    outside = (x < 0) | (y < 0) | (x > size[0]) | (y > size[1])
    return np.where(outside[:, None], 0.0, points)


CONVERTERS = (
    Converter(
        "humar",
        "HuMAR-GREF: expressions for several people or nobody, with keypoints",
        convert,
        layout=f"the folder with {_FOLDER}/ ({_REFS}, {_INSTANCES}) and {_PICTURES}/.",
        licence="HuMAR: code MIT, terms of the annotations not stated; photos of COCO under their own Flickr licences",
        options=(
            TEXT,
            Option("refs", "the file of references, below --source, where it has another name"),
            Option("instances", "the file of instances, below --source, where it has another name"),
            Option("score-above", "keypoints with a score above this count as seen (default 0.1)", float, SCORE_ABOVE),
            EVERYBODY,
        ),
    ),
)
