"""CIHP's people with their body parts, the same people with captions (RHrc), and LIP's people.

`cihp` reads the official tree (`Training/` and `Validation/` with `Images/`, `Category_ids/`, `Human_ids/`), or one
folder with `images/`, `labels/` and `human_ids/`. Each person becomes a row: the box around the person's pixels (x2 =
last column + 1), the mask, and a part map in which everybody else is background. Labels are the stored numbers of grey
or palette PNGs; the coloured pictures beside them are never read. CIHP has no words: a row asks by region, unless
--texts or --captions gives words by `{7-digit id}_{person}`, where person 0 is number 1 in Human_ids; the published
files of RPar and RHrc are such words. `rhrc` leaves people without captions out, but they stand in the rows that
--everybody adds. LIP knows one person of each picture; its class 10 is jumpsuits, which CIHP's classes lack: `lip`
marks those pixels as not scored (255).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import RefHCMError
from ..annotation import PART_NAMES
from ..fields import IGNORED_PART
from ..images import open_indices
from ..masks import encode_mask, extent
from ..person_file import Person, PersonRow
from .base import Converter, Job, Option
from .everybody import EVERYBODY, add_everybody
from .pictures import Picture, PictureFolder
from .skip import Skip
from .words import read_captions, read_words

LICENCE = "CIHP and LIP: non-commercial research only"
OFFICIAL = {"train": {"pictures": 28_280}, "val": {"pictures": 5_000, "people": 17_520}}
"""Pictures as published; people as counted in all label texts of the validation split."""
JUMPSUITS = 10
"""LIP's class that CIHP has not: there 10 is torso skin."""
_LIST_LIMIT = 16 << 20
_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Labelled:
    """Folders of one split: pictures, their classes per pixel, and (None: one person per picture) whose pixel it is."""

    split: str
    images: Path
    categories: Path
    humans: Path | None
    names: Path | None = None
    """A file with the ids of the split, one per line; None: all pictures of the folder."""


@dataclass
class Words:
    """Expressions and captions by person, and which of them were used."""

    texts: Mapping[str, list[str]] = field(default_factory=dict)
    captions: Mapping[str, list[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, job: Job) -> Words:
        """What --texts and --captions name."""
        texts, captions = (job.option(name) for name in ("texts", "captions"))
        return cls(read_words(Path(texts)) if texts else {}, read_captions(Path(captions)) if captions else {})

    def take(self, person: str) -> tuple[list[str], list[str]]:
        """Expressions and captions of a person."""
        self.used.add(person)
        return self.texts.get(person, []), self.captions.get(person, [])


def convert(job: Job) -> None:
    """CIHP's people, described or not."""
    job.report.expect(OFFICIAL)
    People(job).convert(cihp_folders(job))


def convert_captions(job: Job) -> None:
    """CIHP's people that have captions."""
    People(job, needed=True).convert(cihp_folders(job))


def convert_lip(job: Job) -> None:
    """LIP's people, one per picture."""
    labels = job.source("TrainVal_parsing_annotations", "TrainVal_parsing_annotations/TrainVal_parsing_annotations")
    if (labels / labels.name).is_dir():  # the archive holds a folder of its own name
        labels /= labels.name
    images = job.images_folder("TrainVal_images")
    folders = [
        Labelled(split, images / f"{split}_images", labels / f"{split}_segmentations", None, _list(images, split))
        for split in ("train", "val")
        if (images / f"{split}_images").is_dir()
    ]
    if not folders:
        raise RefHCMError(f"There is neither train_images nor val_images in {images}: --source is {_LIP_LAYOUT}")
    job.report.note("jumpsuits, which CIHP's classes lack, are marked as not scored (255) in part maps")
    People(job).convert(folders)


def cihp_folders(job: Job) -> list[Labelled]:
    """The splits of a CIHP tree that are there; RefHCMError when none is."""
    root = job.find("instance-level_human_parsing") or job.options.source
    found = []
    for split, name in (("train", "Training"), ("val", "Validation")):
        folder = root / name
        if (folder / "Category_ids").is_dir() and (folder / "Human_ids").is_dir():
            images = (job.options.images / name if job.options.images else folder) / "Images"
            labels = folder / "Category_ids", folder / "Human_ids"
            found.append(Labelled(split, images, *labels, _list(folder, split) or _list(root, split)))
    humans = next((root / name for name in ("human_ids", "Human_ids") if (root / name).is_dir()), None)
    if not found and humans is not None and (root / "labels").is_dir():
        images = job.options.images or root / "images"
        lists = [(split, _list(root, split)) for split in ("train", "val")]
        whole = [Labelled(split, images, root / "labels", humans, names) for split, names in lists if names]
        found = whole or [Labelled("train", images, root / "labels", humans)]
    if not found:
        raise RefHCMError(f"There is no Training or Validation with Category_ids and Human_ids in {root}: --source is "
                          f"{_CIHP_LAYOUT}")  # fmt: skip
    return found


def _list(folder: Path, split: str) -> Path | None:
    path = folder / f"{split}_id.txt"
    return path if path.is_file() else None


# -- one split, one picture, one person ----------------------------------------------------------------------
class People:
    """The people of labelled pictures as rows of a job. With `needed`, people without captions are left out."""

    def __init__(self, job: Job, *, needed: bool = False) -> None:
        self.job, self.needed = job, needed
        self.words = Words.of(job)
        self.silent = 0
        self._source = "lip" if job.converter.name == "lip" else "cihp"
        self._everybody = self._source == "cihp" and job.option(EVERYBODY.name)

    def convert(self, folders: list[Labelled]) -> None:
        """Every person of the splits."""
        for folder in folders:
            names = _names(folder)
            pictures = self.job.pictures(folder.images, folder.split)
            self.job.report.read(folder.split, "pictures", len(names))
            for name in self.job.progress(names, folder.split):
                with self.job.guard(f"picture {name}"):
                    self._picture(folder, name, pictures)
        words, note = self.words, self.job.report.note
        if self.silent and (words.texts or words.captions):
            note(f"{self.silent:,} people have no words of their own and are asked about by region")
        unused = (set(words.texts) | set(words.captions)) - words.used
        if unused:
            note(f"the words of {len(unused):,} people are not used, such as those of {min(unused)}")

    def _picture(self, folder: Labelled, name: str, pictures: PictureFolder) -> None:
        """All people of a picture; Skip where its labels cannot be used."""
        categories = _labels(folder.categories, name)
        if folder.humans is None:
            humans = (categories > 0).astype(np.uint8)
            categories = np.where(categories == JUMPSUITS, IGNORED_PART, categories).astype(np.uint8)
        else:
            humans = _labels(folder.humans, name)
        if categories.shape != humans.shape:
            raise Skip("the labels of classes and of people have different sizes")
        if ((categories >= len(PART_NAMES)) & (categories != IGNORED_PART)).any():
            raise Skip("the labels hold classes that CIHP has not")
        picture = _find_picture(pictures, name, (categories.shape[1], categories.shape[0]))
        numbers = [int(number) for number in np.unique(humans) if number]
        self.job.report.read(folder.split, "people", len(numbers))
        people: dict[int, Person] = {}
        for number in numbers:
            own = humans == number
            people[number] = _outline(own)
            with self.job.guard(f"person {number} of picture {name}"):
                parts = np.where(own, categories, 0)
                people[number] = self._person(folder.split, picture, (name, number - 1), parts, people[number])
        image_id = f"{self._source}:{name}"
        if self._everybody and self.job.report.has(folder.split, image_id):
            add_everybody(self.job, self.job.converter.name, folder.split, image_id, picture.value, people.values())

    def _person(
        self, split: str, picture: Picture, who: tuple[str, int], parts: np.ndarray, outline: Person
    ) -> Person:
        """Write the rows of one person, whose pixels have the classes `parts` (H, W); gives what is known of it."""
        name, person = who[0], f"{who[0]}_{who[1]}"
        texts, described = self.words.take(person)
        captions = self.job.captions(described, person)
        if self.needed and not captions:
            raise Skip("the person has no captions")
        if not parts.any():
            raise Skip("the person has no parts")
        self.silent += not texts and not captions
        known = replace(outline, parts=self.job.part_map(f"{split}/{person}", parts))
        for k, text in enumerate(texts or [None]):
            row = f"{self.job.converter.name}:{person}:{k}"
            self.job.add(split, PersonRow(row, f"{self._source}:{name}", picture.value, (known,), text, captions))
        return known


def _outline(own: np.ndarray) -> Person:
    """Box and mask of somebody's pixels, bool (H, W)."""
    box = extent(own)
    assert box is not None  # the number was found in the picture
    return Person(box, mask=encode_mask(own))


def _names(folder: Labelled) -> list[str]:
    """The ids of a split's pictures."""
    if not folder.images.is_dir():
        raise RefHCMError(f"There is no folder of pictures at {folder.images}: unpack them there, or name --images.")
    if folder.names is None:
        return sorted(path.stem for path in folder.images.iterdir() if path.suffix.lower() in _ENDINGS)
    if folder.names.stat().st_size > _LIST_LIMIT:
        raise RefHCMError(f"{folder.names} is too large to be a list of ids: is it the right file?")
    return list(dict.fromkeys(_ids(folder.names)))


def _ids(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise RefHCMError(f"{path} is no list of ids: it is not text.") from error
    for number, line in enumerate(lines, 1):
        name = re.sub(r"\.(jpe?g|png)$", "", line.strip())
        if name and not re.fullmatch(r"[\w-]+", name):
            raise RefHCMError(f"{path}, line {number} is no id like 0000006: {name[:40]!r}.")
        if name:
            yield name


def _labels(folder: Path, name: str) -> np.ndarray:
    """uint8 (H, W): the numbers in a label picture; Skip where there is none that can be read."""
    path = folder / f"{name}.png"
    if not path.is_file():
        raise Skip(f"there is no label picture in {folder.name}")
    try:
        return open_indices(path)
    except RefHCMError as error:
        raise Skip(f"a label picture in {folder.name} cannot be read as numbers") from error


def _find_picture(pictures: PictureFolder, name: str, size: tuple[int, int]) -> Picture:
    names = [name + ending for ending in _ENDINGS]
    return pictures.get(next(filter(pictures.has, names), names[0]), size)


# -- options -------------------------------------------------------------------------------------------------
_CIHP_LAYOUT = (
    "the folder instance-level_human_parsing with Training/ and Validation/, each with Images/, Category_ids/ and "
    "Human_ids/ (or images/, labels/ and human_ids/)."
)
_LIP_LAYOUT = "LIP's folder with TrainVal_images/ and TrainVal_parsing_annotations/."
_BY_PERSON = "by person, {picture id}_{number from 0}: JSON, JSON lines, CSV with the columns id and text, or"
_TEXTS = Option("texts", f"a file of expressions {_BY_PERSON} the published refcihp_*.tsv")
_CAPTIONS = Option("captions", f"a file of captions {_BY_PERSON} the published capcihp_*.tsv")
_TOKENIZER = Option("tokenizer", "folder with label_map.json (the published VQGAN's or ours): fill in part codes")

CONVERTERS = (
    Converter(
        "cihp", "CIHP: people with body parts (RPar)", convert, layout=_CIHP_LAYOUT, licence=LICENCE,
        options=(_TEXTS, _CAPTIONS, _TOKENIZER, EVERYBODY),
    ),
    Converter(
        "rhrc", "CIHP's people with captions of your own (RHrc)", convert_captions, layout=_CIHP_LAYOUT,
        licence=LICENCE, options=(_TEXTS, Option("captions", _CAPTIONS.help, required=True), _TOKENIZER, EVERYBODY),
    ),
    Converter(
        "lip", "LIP: single people with body parts; jumpsuits are not scored", convert_lip, layout=_LIP_LAYOUT,
        licence=LICENCE, options=(_TEXTS, _CAPTIONS, _TOKENIZER),
    ),
)  # fmt: skip
