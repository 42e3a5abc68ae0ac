"""RefCOCO, RefCOCO+ and RefCOCOg as `refer` packs them, and with COCO's keypoints: Refpose, Refpose+ and Refposeg.

Pictures are found by COCO image id through instances.json: the `file_name` of a reference ends in a serial number and
is no file. Refpose joins the references of people with person_keypoints_train2014.json by `ann_id`, visibility kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..person_file import Person, PersonRow
from .base import Converter, Job, Option, need
from .coco import LICENCE, PERSON, CocoFile, coco_person, coco_picture, labelled
from .everybody import EVERYBODY, CocoPeople, Everybody
from .pictures import PictureFolder
from .refs import read_refs, sentences_of
from .skip import Skip

IMAGE_FOLDERS = ("images/train2014", "train2014", "images/mscoco/images/train2014", "images")
KEYPOINT_FILES = tuple(
    f"{folder}person_keypoints_train{year}.json" for year in (2014, 2017) for folder in ("", "annotations/")
)


def _official(*rows: tuple[str, int, int, int]) -> dict[str, dict[str, int]]:
    return {split: {"refs": refs, "pictures": pictures, "expressions": texts} for split, refs, pictures, texts in rows}


OFFICIAL: dict[tuple[str, str], dict[str, dict[str, int]]] = {
    ("refcoco", "unc"): _official(
        ("train", 42404, 16994, 120624), ("val", 3811, 1500, 10834), ("testA", 1975, 750, 5657),
        ("testB", 1810, 750, 5095)),
    ("refcoco+", "unc"): _official(
        ("train", 42278, 16992, 120191), ("val", 3805, 1500, 10758), ("testA", 1975, 750, 5726),
        ("testB", 1798, 750, 4889)),
    ("refcocog", "umd"): _official(
        ("train", 42226, 21899, 80512), ("val", 2573, 1300, 4896), ("test", 5023, 2600, 9602)),
    ("refcocog", "google"): {
        "train": {"refs": 44822, "pictures": 24698}, "val": {"refs": 5000, "pictures": 4650}},
    ("refcoco", "google"): {
        "train": {"refs": 40000, "pictures": 19213}, "val": {"refs": 5000, "pictures": 4559},
        "test": {"refs": 5000, "pictures": 4527}},
}  # fmt: skip
"""References, pictures and expressions of the official files, before anything is left out."""
PEOPLE = {
    "refcoco": {"people's pictures": 9209, "people": 22819, "people's expressions": 65550},
    "refcoco+": {"people's pictures": 9209, "people": 22804, "people's expressions": 66463},
    "refcocog": {"people's pictures": 9141, "people": 16435, "people's expressions": 32299},
}
"""Of these the ones about people, over all splits."""


def convert(job: Job, dataset: str, name: str, poses: bool) -> None:
    """References of `dataset` as rows `{name}:{ref}:{sentence}`; with `poses` those of people, with keypoints."""
    by = job.option("split-by")
    names = [f"{place}refs({by}).{end}" for end in ("p", "json") for place in (f"{dataset}/", "")]
    refs = read_refs(job.source(*names))
    instances = CocoFile(job.source(f"{dataset}/instances.json", "instances.json"))
    keypoints = CocoFile(_keypoint_file(job)) if poses else None
    pictures = job.pictures(job.images_folder(*IMAGE_FOLDERS))
    official = OFFICIAL.get((dataset, by), {})
    standard = by == ("umd" if dataset == "refcocog" else "unc")
    job.report.expect({**official, **({"all": PEOPLE[dataset]} if standard else {})})
    people_only = poses or not job.option("all-categories")
    if people_only:
        job.report.note("references of other things than people are left out")
    if (dataset, by) == ("refcocog", "google"):
        job.report.note("this split has no test part, and its train and val share pictures: prefer umd")
    _count(job, refs)
    everybody = Everybody(job, name)
    for ref in job.progress(refs, name):
        where = f"ref {ref.get('ref_id')}"
        with job.guard(where):
            if people_only and need(ref, "category_id", int) != PERSON:
                raise Skip("it is not about a person")
            _add(job, name, ref, instances, keypoints, pictures, everybody)

    def read(annotation: Mapping[str, Any], size: tuple[int, int]) -> Person:
        joined = None if keypoints is None else keypoints.annotations.get(annotation["id"])
        return coco_person(job, annotation, size, joined)

    everybody.write(CocoPeople(instances.annotations.values(), read).of)


def _keypoint_file(job: Job) -> Path:
    given = job.option("keypoints")
    return Path(given) if given else job.source(*KEYPOINT_FILES)


def _add(
    job: Job, name: str, ref: dict[str, Any], instances: CocoFile, keypoints: CocoFile | None,
    pictures: PictureFolder, everybody: Everybody,
) -> None:  # fmt: skip
    """The rows of one reference."""
    number, split = need(ref, "ref_id", int), need(ref, "split", str)
    image_id, annotation_id = need(ref, "image_id", int), need(ref, "ann_id", int)
    annotation = instances.annotation(annotation_id)
    if annotation.get("image_id") != image_id:
        raise Skip("its annotation is of another picture")
    entry = instances.image(image_id)
    picture = coco_picture(pictures, entry)
    everybody.note(split, str(image_id), partial(coco_picture, pictures, entry))
    joined = None if keypoints is None else keypoints.annotation(annotation_id)
    person = coco_person(job, annotation, picture.size, joined, crowds=True)
    if joined is not None and not labelled(person.keypoints):
        job.report.read(split, "people without a labelled keypoint")
        if job.option("labelled-only"):
            raise Skip("no keypoint is labelled")
    for k, text in sentences_of(ref, job.option("text"), lambda why, at: job.report.skip(why, f"ref {number}:{at}")):
        with job.guard(f"ref {number}:{k}"):
            job.add(split, PersonRow(f"{name}:{number}:{k}", str(image_id), picture.value, (person,), text))


def _count(job: Job, refs: list[dict[str, Any]]) -> None:
    """What the file holds before anything is left out."""
    pictures: dict[str, set[Any]] = defaultdict(set)
    people: dict[str, set[Any]] = defaultdict(set)
    for ref in refs:
        split, texts = str(ref.get("split")), ref.get("sentences")
        count = len(texts) if isinstance(texts, list) else 0
        pictures[split].add(str(ref.get("image_id")))
        job.report.read(split, "refs")
        job.report.read(split, "expressions", count)
        if ref.get("category_id") == PERSON:
            people["people's pictures"].add(str(ref.get("image_id")))
            people["people"].add(str(ref.get("ann_id")))
            job.report.read("all", "people's expressions", count)
    for split, found in pictures.items():
        job.report.read(split, "pictures", len(found))
    for what, found in people.items():
        job.report.read("all", what, len(found))


# -- options -------------------------------------------------------------------------------------------------
TEXT = Option("text", "sent: the cleaned sentence, as most evaluations take it (default); raw: as typed",
              default="sent", choices=("sent", "raw"))  # fmt: skip
ALL_CATEGORIES = Option("all-categories", "rows about other things than people as well", bool, False)
_SPLITS = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
_LICENCES = {
    "refcoco": f"RefCOCO: Apache-2.0 as quoted by later papers; {LICENCE}",
    "refcoco+": f"RefCOCO+: Apache-2.0 as quoted by later papers; {LICENCE}",
    "refcocog": f"RefCOCOg: CC BY 4.0; {LICENCE}",
}


def _converter(dataset: str, poses: bool) -> Converter:
    name = dataset.replace("refcoco", "refpose") if poses else dataset
    by = Option("split-by", f"which refs(...).p (default: {_SPLITS[dataset][0]})", default=_SPLITS[dataset][0],
                choices=_SPLITS[dataset])  # fmt: skip
    labels = (
        Option("keypoints", "person_keypoints_train2014.json (default: below the source)"),
        Option("labelled-only", "leave out people without a labelled keypoint (published sets keep them)", bool, False),
    )
    layout = f"the folder {dataset} with instances.json and refs({_SPLITS[dataset][0]}).p, or the one above it"
    return Converter(
        name,
        f"{dataset}'s expressions for people, with COCO keypoints" if poses else f"{dataset}: words for COCO photos",
        partial(convert, dataset=dataset, name=name, poses=poses),
        layout=layout + ("; person_keypoints_train2014.json beside it or below annotations/." if poses else "."),
        licence=_LICENCES[dataset],
        options=(by, TEXT, *labels, EVERYBODY) if poses else (by, TEXT, ALL_CATEGORIES, EVERYBODY),
    )


CONVERTERS = tuple(_converter(dataset, poses) for poses in (False, True) for dataset in _SPLITS)
