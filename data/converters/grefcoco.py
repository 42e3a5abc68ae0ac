"""gRefCOCO: expressions that mean one person, several, or nobody in the picture."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..person_file import Person, PersonRow
from .base import Converter, Job, need
from .coco import LICENCE, CocoFile, coco_person, coco_picture, is_person
from .everybody import EVERYBODY, CocoPeople, Everybody
from .pictures import PictureFolder
from .refcoco import ALL_CATEGORIES, IMAGE_FOLDERS, TEXT
from .refs import read_refs, sentences_of, targets
from .skip import Skip

OFFICIAL = {
    "train": {"expressions": 209344}, "val": {"expressions": 16870}, "testA": {"expressions": 18712},
    "testB": {"expressions": 14933},
}  # fmt: skip
"""Of the released file; the paper counts 278,232 in all, more than were released."""


def convert(job: Job) -> None:
    """References as rows `grefcoco:{ref}:{sentence}`."""
    refs = read_refs(job.source(*(f"{place}grefs(unc).{end}" for end in ("json", "p") for place in ("grefcoco/", ""))))
    instances = CocoFile(job.source("grefcoco/instances.json", "instances.json"))
    pictures = job.pictures(job.images_folder(*IMAGE_FOLDERS))
    job.report.expect(OFFICIAL)
    job.report.note("the official numbers are those quoted for the released file; releases differ, as do their ref ids")
    if not job.option("all-categories"):
        job.report.note("references that mean other things than people are left out; those that mean nothing are kept")
    everybody = Everybody(job, "grefcoco")
    for ref in job.progress(refs, "grefcoco"):
        texts = ref.get("sentences")
        job.report.read(str(ref.get("split")), "refs")
        job.report.read(str(ref.get("split")), "expressions", len(texts) if isinstance(texts, list) else 0)
        with job.guard(f"ref {ref.get('ref_id')}"):
            _add(job, ref, instances, pictures, everybody)
    everybody.write(CocoPeople(instances.annotations.values(), partial(coco_person, job)).of)


def _add(
    job: Job, ref: dict[str, Any], instances: CocoFile, pictures: PictureFolder, everybody: Everybody
) -> None:
    number, split = need(ref, "ref_id", int), need(ref, "split", str)
    image_id = need(ref, "image_id", int)
    annotations = targets(ref)
    if not job.option("all-categories") and not all(is_person(instances.annotation(target)) for target in annotations):
        raise Skip("it means other things than people")
    entry = instances.image(image_id)
    picture = coco_picture(pictures, entry)
    everybody.note(split, str(image_id), partial(coco_picture, pictures, entry))
    people = tuple(_people(job, number, image_id, annotations, instances, picture.size))
    kind = "nobody" if not people else "one" if len(people) == 1 else "several"
    for k, text in sentences_of(ref, job.option("text"), lambda why, at: job.report.skip(why, f"ref {number}:{at}")):
        with job.guard(f"ref {number}:{k}"):
            job.add(split, PersonRow(f"grefcoco:{number}:{k}", str(image_id), picture.value, people, text))
            job.report.read(split, f"rows that mean {kind}")


def _people(
    job: Job, number: int, image_id: int, annotations: list[int], instances: CocoFile, size: tuple[int, int]
) -> list[Person]:
    people = []
    for target in annotations:
        annotation = instances.annotation(target)
        if annotation.get("image_id") != image_id:
            raise Skip("one of its annotations is of another picture")
        if annotation.get("iscrowd"):  # as its own evaluation does
            job.report.read("all", "crowds among targets, passed over")
        else:
            people.append(coco_person(job, annotation, size))
    if annotations and not people:
        raise Skip("it means crowds only")
    return people


CONVERTERS = (
    Converter(
        "grefcoco",
        "gRefCOCO: expressions that mean one, several or nobody",
        convert,
        layout="the folder grefcoco with grefs(unc).json and instances.json, or the one above it.",
        licence=f"gRefCOCO states none that could be verified: treat as non-commercial research; {LICENCE}",
        options=(TEXT, ALL_CATEGORIES, EVERYBODY),
    ),
)
