"""Writes scenes as the published tab-separated files, and everything that is known about them as JSON lines.

    python -m refhcm.data.scenes OUT --split train --count 12000 --seed 1 --bank BANK --backend mixed
    --images files

makes OUT/train/ with
    rec.tsv       id, image id, expression, box, picture
    rkpt.tsv      id, image id, expression, box, 34 keypoint numbers, picture
    rpar.tsv      id, expression, box, codes, path of the part map, path of the picture
    rhrc.tsv      id, captions joined by &&, box, picture
    person.tsv    our own columns (data/person_file.py): everything about a person in one row, picture by path;
                  and for each scene a row about everybody, rows that mean several people, rows that mean nobody
    people.jsonl  one line per scene: size, background, the expressions that mean several people or nobody, and
                  per person boxes, keypoints with visibility, attributes, visible share, expressions with their
                  terms, captions
    images/, parts/   JPEG pictures and lossless PNG part maps
Paths are relative to the folder of the tsv. A picture is base64 of the JPEG, or its path with `--images
files`. Scene i depends on (seed, split, i) and the sources only, whatever the number of workers, and its picture
and the words for single people do not depend on how many expressions of the other kinds are wanted.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..commands import in_range, one_sentence, writable_folder
from ..masks import encode_mask
from ..person_file import Person, PersonRow
from ..text import CAPTION_SEPARATOR
from .backgrounds import Backgrounds
from .captions import captions
from .compose import Scene, ScenePerson, compose
from .describe import Expression, describe
from .facts import SceneFacts
from .groups import GroupExpression, several
from .nobody import nobody
from .recipe import LATEST, RECIPES, recipe
from .slips import Slips
from .sources import BACKENDS, CutoutSource, make_sources
from .splits import SPLITS, scene_rng, split_number

JPEG_QUALITY = 88
IMAGES = ("base64", "files")
MOST_EXPRESSIONS = 20
"""For several people, or nobody, of a scene: more are not to be found."""
NO_CODES = ""
"""Codes depend on a label-map tokenizer; `python -m refhcm.models.label_map_codes` fills them in."""
TSV_FILES = ("rec.tsv", "rkpt.tsv", "rpar.tsv", "rhrc.tsv", "person.tsv", "people.jsonl")


@dataclass(frozen=True)
class Plan:
    """What to make: the options of the command line, small enough to be sent to worker processes."""

    out: Path
    split: str
    count: int
    seed: int
    backend: str = "2d"
    banks: tuple[Path, ...] = ()
    photos: Path | None = None
    images: str = "base64"
    several: float = 0.8
    """How many expressions mean several people, on average over scenes of at least two."""
    nobody: float = 1.0
    """How many mean nobody, on average; two thirds of them fit somebody but for one term."""
    recipe: int = LATEST
    """Number of one of `recipe.RECIPES`."""

    @property
    def folder(self) -> Path:
        """Where the files of this split go."""
        return self.out / self.split


@dataclass(frozen=True)
class Words:
    """The expressions for a scene: of each single person, for several people, and for nobody who is there."""

    people: list[list[Expression]]
    several: list[GroupExpression]
    nobody: list[GroupExpression]


class SceneMaker:
    """Scenes of one plan by number, with the words for their people."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._sources = make_sources(plan.backend, plan.banks)
        self._backgrounds = Backgrounds(plan.photos)

    def make(self, index: int) -> tuple[Scene, Words]:
        """Scene `index` and its expressions."""
        plan = self.plan
        rng = scene_rng(plan.seed, plan.split, index)
        source = self._source(rng)
        how = recipe(plan.recipe)
        scene = compose(rng, plan.split, source, self._backgrounds, how)
        people = describe(rng, scene, how)
        more, facts = scene_rng(plan.seed, plan.split, index, 1), SceneFacts.of(scene)
        wanted = [int(more.poisson(mean)) for mean in (plan.several, plan.nobody)]
        said = [expression.text for expressions in people for expression in expressions]
        groups = several(more, facts, wanted[0])
        none = nobody(more, facts, lambda: source.look(more, plan.split), wanted[1], said, how)
        if how.slips:
            slip = Slips(scene_rng(plan.seed, plan.split, index, 2), how.slips)
            people, groups, none = [slip.all(own) for own in people], slip.all(groups), slip.all(none)
        return scene, Words(people, groups, none)

    def _source(self, rng: np.random.Generator) -> CutoutSource:
        shares = [share for _, share in self._sources]
        return self._sources[int(rng.choice(len(shares), p=shares))][0]


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def keypoint_field(keypoints: np.ndarray) -> str:
    """34 numbers of one person's keypoints [17, 3], one decimal; 0,0 is unlabelled, so no labelled point is
    written so."""
    values = np.where(keypoints[:, 2:] > 0, np.maximum(np.round(keypoints[:, :2].astype(float), 1), 0.1), 0.0)
    return _numbers(values.ravel().tolist())


def jpeg(image: np.ndarray) -> bytes:
    """A picture uint8 [H, W, 3] as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def part_map_png(parts: np.ndarray) -> bytes:
    """A part map uint8 [H, W] as a grey PNG file whose values are the classes."""
    file = io.BytesIO()
    Image.fromarray(parts).save(file, "PNG", compress_level=6)
    return file.getvalue()


def scene_rows(plan: Plan, index: int, scene: Scene, words: Words) -> tuple[str, ...]:
    """The lines of one scene for each of TSV_FILES; writes its pictures below the plan's folder."""
    name, encoded = f"{index:07d}", jpeg(scene.image)
    image_path, image_id = f"images/{name}.jpg", f"{plan.split}_{name}"
    (plan.folder / image_path).write_bytes(encoded)
    picture = image_path if plan.images == "files" else base64.b64encode(encoded).decode("ascii")
    rec, rkpt, rpar, rhrc, everything, people, everybody = [], [], [], [], [], [], []
    for number, (person, expressions) in enumerate(zip(scene.people, words.people, strict=True)):
        who, box, told = f"{name}_{number}", _numbers(person.box), captions(person)
        parts_path = f"parts/{who}.png"
        (plan.folder / parts_path).write_bytes(part_map_png(person.parts))
        keypoints = keypoint_field(person.keypoints)
        known = Person(person.box, person.keypoints, encode_mask(person.mask), parts_path)
        # One sentence to learn; the further ways to say it are references for scoring.
        references = tuple(told[:1] if plan.split == "train" else told)
        for k, expression in enumerate(expressions):
            row = f"{who}_{k}"
            rec.append((row, image_id, expression.text, box, picture))
            rkpt.append((row, image_id, expression.text, box, keypoints, picture))
            rpar.append((row, expression.text, box, NO_CODES, parts_path, image_path))
            everything.append(PersonRow(row, image_id, image_path, (known,), expression.text, references))
        rhrc.append((who, CAPTION_SEPARATOR.join(references), box, picture))
        people.append(_person_record(who, person, expressions, told, parts_path))
        everybody.append(known)
    everything += _group_rows(name, image_id, image_path, everybody, words)
    height, width = scene.image.shape[:2]
    record = {
        "image_id": image_id,
        "image": image_path,
        "width": width,
        "height": height,
        "background": scene.background,
        "people": people,
        "several": [_group_record(expression) for expression in words.several],
        "nobody": [_group_record(expression) for expression in words.nobody],
    }
    tables = tuple("".join("\t".join(row) + "\n" for row in rows) for rows in (rec, rkpt, rpar, rhrc))
    return (*tables, "".join(row.line() for row in everything), json.dumps(record, separators=(",", ":")) + "\n")


def _group_rows(
    name: str, image_id: str, image: str, people: Sequence[Person], words: Words
) -> Iterator[PersonRow]:
    """The rows about everybody, about several of the `people` (from left to right), and about nobody."""
    yield PersonRow(f"{name}_everybody", image_id, image, tuple(people), everybody=True)
    for kind, expressions in (("several", words.several), ("nobody", words.nobody)):
        for k, expression in enumerate(expressions):
            meant = sorted((people[number] for number in expression.people), key=lambda person: person.box)
            yield PersonRow(f"{name}_{kind}_{k}", image_id, image, tuple(meant), expression.text)


def _group_record(expression: GroupExpression) -> dict[str, object]:
    return {
        "text": expression.text,
        "people": expression.people,
        "form": expression.form,
        "terms": expression.terms,
    }


def _person_record(
    who: str, person: ScenePerson, expressions: Sequence[Expression], told: Sequence[str], parts: str
) -> dict[str, object]:
    return {
        "id": who,
        "box": list(person.box),
        "amodal_box": list(person.amodal_box),
        "keypoints": [[round(float(x), 1), round(float(y), 1), int(v)] for x, y, v in person.keypoints],
        "attributes": person.attributes,
        "visible_fraction": round(person.visible_fraction, 3),
        "frame_fraction": round(person.frame_fraction, 3),
        "pixels_per_metre": round(person.scale, 2),
        "parts": parts,
        "captions": list(told),
        "expressions": [
            {"text": e.text, "terms": e.terms, "relation": e.relation and e.relation.record()} for e in expressions
        ],
    }


_maker: SceneMaker | None = None


def _start_worker(plan: Plan) -> None:
    """Opens banks and photo folders once per process."""
    global _maker
    _maker = SceneMaker(plan)


def _work(plan: Plan, index: int) -> tuple[str, ...]:
    assert _maker is not None
    return scene_rows(plan, index, *_maker.make(index))


def _all_rows(plan: Plan, workers: int) -> Iterator[tuple[str, ...]]:
    if workers <= 1:
        _start_worker(plan)
        yield from map(partial(_work, plan), range(plan.count))
        return
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker, (plan,)) as pool:
        yield from pool.imap(partial(_work, plan), range(plan.count), chunksize=4)


def write_scenes(plan: Plan, workers: int = 1) -> Path:
    """Makes all scenes of the plan and returns their folder. ValueError / FileNotFoundError for what cannot
    be made."""
    split_number(plan.split)
    recipe(plan.recipe)
    in_range(1, count=plan.count, workers=workers)
    in_range(0, seed=plan.seed)
    in_range(0, MOST_EXPRESSIONS, several=plan.several, nobody=plan.nobody)
    if plan.images not in IMAGES:
        raise ValueError(f"Ask for images as one of {', '.join(IMAGES)}.")
    if workers > 1:
        SceneMaker(plan)  # a wrong choice is told here, once, not by every worker
    for folder in ("images", "parts"):
        writable_folder(plan.folder / folder)
    with ExitStack() as stack:
        files = [
            stack.enter_context(open(plan.folder / name, "w", encoding="utf-8", newline="\n"))
            for name in TSV_FILES
        ]
        for blocks in _all_rows(plan, workers):
            for file, block in zip(files, blocks, strict=True):
                file.write(block)
    return plan.folder


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m refhcm.data.scenes`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.data.scenes", description="Make scenes of people with labels."
    )
    parser.add_argument(
        "out", type=Path, help="folder to write to; a subfolder named after the split is made"
    )
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--count", type=int, default=100, help="number of scenes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--backend", choices=BACKENDS, default=None, help="default: mixed with a bank, else 2d"
    )
    parser.add_argument(
        "--bank", type=Path, action="append", default=[], help="folder of rendered people; may be repeated"
    )
    parser.add_argument(
        "--photos", type=Path, default=None, help="folder of pictures without people, as backgrounds"
    )
    parser.add_argument(
        "--images", choices=IMAGES, default="base64", help="how rkpt and rhrc hold their pictures"
    )
    parser.add_argument(
        "--several", type=float, default=Plan.several,
        help="expressions for several people, on average per scene of two or more (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--nobody", type=float, default=Plan.nobody,
        help="expressions for nobody who is there, on average per scene (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", type=int, choices=sorted(RECIPES), default=Plan.recipe,
        help="which mix of crowds, cameras and manners of speaking (default: %(default)s, the newest)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    backend = given.backend or ("mixed" if given.bank else "2d")
    plan = Plan(
        given.out,
        given.split,
        given.count,
        given.seed,
        backend,
        tuple(given.bank),
        given.photos,
        given.images,
        given.several,
        given.nobody,
        given.recipe,
    )
    try:
        folder = write_scenes(plan, given.workers)
    except (ValueError, OSError) as error:
        print(f"scenes: {one_sentence(error)}", file=sys.stderr)
        return 1
    print(f"{given.count} scenes in {folder}")
    return 0
