"""COCO's people with keypoints, and words of your own for them.

--expressions and --captions name files of words by annotation id (see `words.read_words`). A person without an
expression becomes a row that asks by region, where keypoints are labelled or there is a caption.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..person_file import PersonRow
from .base import Converter, Job, Option, need
from .coco import LICENCE, CocoFile, coco_picture, is_person, person_with_keypoints
from .everybody import EVERYBODY, CocoPeople, Everybody
from .pictures import PictureFolder
from .skip import Skip
from .words import read_captions, read_words

NAMES = tuple(f"person_keypoints_{split}{year}.json" for year in (2017, 2014) for split in ("train", "val"))
OFFICIAL = {
    "person_keypoints_train2017.json": {"people": 262465, "pictures": 64115, "people with keypoints": 149813},
    "person_keypoints_val2017.json": {"people": 11004, "pictures": 2693, "people with keypoints": 6352},
}


def convert(job: Job) -> None:
    """People as rows `coco:{annotation}:{number}`, or `coco:{annotation}:region`."""
    files = _files(job)
    given = job.option("expressions"), job.option("captions")
    texts = read_words(Path(given[0])) if given[0] else {}
    captions = read_captions(Path(given[1])) if given[1] else {}
    left = {"expression": set(texts), "caption": set(captions)}
    official = {_split(path): OFFICIAL[path.name] for path in files if path.name in OFFICIAL}
    job.report.expect(official)
    for path in files:
        split = _split(path)
        kind = path.stem.removeprefix("person_keypoints_")
        pictures = job.pictures(job.images_folder(f"images/{kind}", kind, "images"), kind)
        coco = CocoFile(path)
        _count(job, split, coco)
        everybody = Everybody(job, "coco")
        for number, annotation in job.progress(coco.annotations.items(), path.stem, len(coco.annotations)):
            key = str(number)
            left["expression"].discard(key)
            left["caption"].discard(key)
            with job.guard(f"annotation {number}"):
                said = texts.get(key, []), job.captions(captions.get(key, []), key)
                _add(job, split, coco, annotation, *said, pictures, everybody)
        everybody.write(CocoPeople(coco.annotations.values(), partial(person_with_keypoints, job)).of)
    for what, unknown in left.items():
        for key in sorted(unknown):
            job.report.skip(f"no annotation has the id of this {what}", key)


def _add(
    job: Job, split: str, coco: CocoFile, annotation: Mapping[str, Any], texts: list[str], captions: tuple[str, ...],
    pictures: PictureFolder, everybody: Everybody,
) -> None:  # fmt: skip
    if not is_person(annotation):
        raise Skip("it is not a person")
    image_id, number = need(annotation, "image_id", int), annotation["id"]
    entry = coco.image(image_id)
    picture = coco_picture(pictures, entry)
    everybody.note(split, str(image_id), partial(coco_picture, pictures, entry))
    person = person_with_keypoints(job, annotation, picture.size)
    if not texts and not captions and person.keypoints is None:
        raise Skip("there is nothing to ask: no keypoint is labelled, and there are no words")
    if not texts:
        row = PersonRow(f"coco:{number}:region", str(image_id), picture.value, (person,), None, captions)
        job.add(split, row)
    for k, text in enumerate(texts):
        with job.guard(f"annotation {number}:{k}"):
            job.add(split, PersonRow(f"coco:{number}:{k}", str(image_id), picture.value, (person,), text, captions))


def _count(job: Job, split: str, coco: CocoFile) -> None:
    people = [entry for entry in coco.annotations.values() if is_person(entry)]
    job.report.read(split, "people", len(people))
    job.report.read(split, "pictures", len({str(entry.get("image_id")) for entry in people}))
    job.report.read(split, "people with keypoints", sum(bool(entry.get("num_keypoints")) for entry in people))


def _files(job: Job) -> list[Path]:
    """The annotation files of one release: that of 2017 where both are there, because they hold the same people."""
    if given := job.option("annotations"):
        return [Path(given)]
    if job.options.source.is_file():
        return [job.options.source]
    for year in ("2017", "2014"):
        found = [job.find(name, f"annotations/{name}") for name in NAMES if name.endswith(f"{year}.json")]
        if any(found):
            return [path for path in found if path is not None]
    return [job.source(*NAMES)]


def _split(path: Path) -> str:
    return "val" if "val" in path.stem else "test" if "test" in path.stem else "train"


CONVERTERS = (
    Converter(
        "coco-keypoints",
        "COCO's people with keypoints, and expressions of your own",
        convert,
        layout="COCO's folder with annotations/person_keypoints_*.json and its pictures, or one such file.",
        licence=LICENCE,
        options=(
            Option("annotations", "one annotation file (default: all person_keypoints files of the newest release)"),
            Option("expressions", "a file of expressions by annotation id: JSON, JSON lines, or CSV with id and text"),
            Option("captions", "a file of captions by annotation id, in the same form"),
            EVERYBODY,
        ),
    ),
)
