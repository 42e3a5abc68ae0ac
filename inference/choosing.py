"""Which tasks a dataset file can be scored on, and which of its rows are asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..data.dataset import LAYOUTS, ReferringDataset
from ..data.known import About
from ..data.prompts import LOOSELY, MARKED, REGION, WAYS, WORDS
from ..data.rows import OWN
from ..errors import RefHCMError
from ..models.abilities import Presence
from ..tasks import known
from .predictor import RefHCMPredictor

TASKS = known()
"""What can be scored."""
PROTOCOLS = ("own", "uniphd", "presence")
"""How answers are measured: by each task's own metrics; as UniPHD does on RefHuman (pose and mask of the person); or
also by whether anybody fits, on rows about one person or nobody."""
EACH = {"mask": "res", "keypoints": "rkpt"}
"""What may be asked about everyone whom an answer names, by the box: -> the task that asks it."""


@dataclass(frozen=True)
class Chosen:
    """The rows that a task is asked about."""

    rows: list[int]
    """Their numbers (from 0), ascending."""
    pictures: int
    left_out: dict[str, int] = field(default_factory=dict)
    """Why others of the file are not asked about, and how many."""


def fitting_tasks(kind: str, protocol: str = "own", way: str | None = None) -> list[str]:
    """Names of the tasks that files in the layout `kind` know enough to ask, in this way, and to score."""
    asked = [name for name, task in TASKS.items() if protocol != "presence" or task.may_be_nobody()]
    return [name for name in asked if not unaskable(name, way) and not lacking(kind, name, protocol, way)]


def unaskable(name: str, way: str | None) -> str | None:
    """Why the questions of a task cannot be put in one of `prompts.WAYS`; None where they can, and for None, which
    leaves them as rows ask."""
    task = TASKS[name]
    if way == WORDS:
        return "is asked without words" if task.by_region or task.meant == "everybody" else None
    if way is not None and task.meant != "one":
        return "is not about one person"
    return "would be asked with its whole answer" if way == REGION and task.by_words else None


def check_tasks(
    kind: str, names: Sequence[str], protocol: str = "own", each: Sequence[str] = (), way: str | None = None
) -> None:
    """Raise RefHCMError for an unknown layout, task, protocol, way to ask, or thing to ask about each person, and for a
    task that cannot be asked in that way, or about which the layout does not know enough."""
    if way is not None and way not in WAYS:
        raise RefHCMError(f"Nothing can be asked by {way!r}: --ask takes {', '.join(WAYS)}.")
    if way not in (None, WORDS) and protocol == "presence":
        raise RefHCMError("--protocol presence is about words that may fit nobody: leave --ask out.")
    for wanted in each:
        if wanted not in EACH:
            raise RefHCMError(f"Nobody can be asked for {wanted!r}: --each takes {' and '.join(EACH)}.")
    if protocol not in PROTOCOLS:
        raise RefHCMError(f"Unknown protocol {protocol!r}: it is one of {', '.join(PROTOCOLS)}.")
    for name in names:
        missing = lacking(kind, name, protocol, way)
        if why := unaskable(name, way):
            raise RefHCMError(f"Task {name} {why}, so --ask {way} does not go with it: leave one of them out.")
        if missing:
            raise RefHCMError(
                f"Task {name} needs {' and '.join(missing)}, which files of the kind {kind} do not hold: "
                f"ask for {', '.join(fitting_tasks(kind, protocol, way))}, or give a file of another kind."
            )


def lacking(kind: str, name: str, protocol: str = "own", way: str | None = None) -> list[str]:
    """What a task needs and a layout does not hold; RefHCMError where one of them is unknown."""
    if kind not in LAYOUTS:
        raise RefHCMError(f"Unknown kind of dataset {kind!r}: it is one of {', '.join(LAYOUTS)}.")
    if name not in TASKS:
        raise RefHCMError(f"Unknown task {name!r}: the tasks are {', '.join(TASKS)}.")
    everybody = ["rows about everybody"] if _about(name, protocol) == "everybody" else []
    if kind == OWN:  # whose rows know everything there is, and of rows about everybody who else is there
        return []
    return [field for field in _needs(name, protocol, way) if field not in LAYOUTS[kind]] + everybody


def _needs(name: str, protocol: str, way: str | None) -> list[str]:
    """The columns that a layout must have: what answers are scored by, and what is asked with."""
    # Codes are scored as the part map that they stand for, and by UniPHD's rules as the mask that this covers.
    needs = TASKS[name].scored_by("mask" if protocol == "uniphd" else "parts")
    if way not in (None, WORDS):
        needs = ["box", *(["mask"] if way in MARKED else []), *(need for need in needs if need != "text")]
    return list(dict.fromkeys(needs))


def _about(name: str, protocol: str) -> About:
    task = TASKS[name]
    if protocol != "presence":
        return task.meant
    if not task.may_be_nobody():
        raise RefHCMError(
            f"Task {name} is not asked whether anybody fits: with --protocol presence ask for tasks by words about one "
            "person, such as rec."
        )
    return "one or nobody"


def task_rows(
    rows: ReferringDataset, name: str, protocol: str = "own", points: bool = False, way: str | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows (int64) a task is asked about, and why the others are left out: reason -> number of rows.

    Rows of our own files are asked about when they know what is scored, about as many people as the task answers about;
    those of published files always are. Where there are no words the region asks, but for words that are the whole of a
    question, and by the other protocols. Rows that ask by points are asked about only where the model takes `points`.
    By another `way` than words, it does not matter how rows ask.
    """
    needs = _needs(name, protocol, way) if rows.kind == OWN else ["text"] if way in (None, WORDS) else []
    if not (TASKS[name].by_words or protocol != "own" or way == WORDS):
        needs = [need for need in needs if need != "text"]
    # `presence` tells words that fit from words that do not.
    points = way not in (None, WORDS) or (points and way is None and protocol != "presence")
    short = rows.shortfall(needs, _about(name, protocol), points) if needs or rows.kind == OWN else {}
    left = np.ones(len(rows), bool)
    for missing in short.values():
        left &= ~missing
    return np.flatnonzero(left), {reason: int(missing.sum()) for reason, missing in short.items()}


def choose(
    rows: ReferringDataset, name: str, limit: int | None = None, protocol: str = "own", points: bool = False,
    way: str | None = None,
) -> Chosen:  # fmt: skip
    """The rows that a task is asked about under a limit, as `task_rows`; RefHCMError, which says why, where there are
    none."""
    asked, left_out = task_rows(rows, name, protocol, points, way)
    if len(rows) and not len(asked):
        why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise RefHCMError(f"No row of {rows.file.path} can be asked for task {name}: of {len(rows):,} rows {why}.")
    return Chosen(*choose_rows(rows, limit, asked), left_out)


def deciding_by(presence: Presence, name: str, protocol: str) -> Presence:
    """From where on somebody fits. Rows about one person are asked as benchmarks of such rows ask, where nobody is no
    answer; `--protocol presence` and tasks about any number of people leave it to the model."""
    leaves = protocol == "presence" or TASKS[name].meant != "one"
    return presence if leaves else replace(presence, threshold=0.0)


def each_of(name: str, each: Sequence[str]) -> tuple[str, ...]:
    """What is asked about everyone whom a task's answer names: nothing where it is about one person anyway."""
    return () if TASKS[name].meant == "one" else tuple(each)


def check_model(
    predictor: RefHCMPredictor, names: Sequence[str], protocol: str = "own", each: Sequence[str] = (),
    way: str | None = None,
) -> None:  # fmt: skip
    """Raise RefHCMError where the model lacks what one of these tasks, the protocol, the way to ask, or what is asked
    about `each` person needs."""
    for name in [*names, *(EACH[wanted] for wanted in each)]:
        task = TASKS[name]
        if "codes" in task.needs and predictor.label_map is None:
            raise RefHCMError(
                f"The model has no label-map tokenizer, so the part maps of task {name} cannot be scored: "
                "copy label_map.json and label_map.safetensors into its folder, or leave the task out."
            )
        if "mask" in task.needs and predictor.masks is None:
            raise RefHCMError(
                f"The model has no mask tokenizer, so it cannot answer task {name}: ask a model that writes masks "
                "(python -m refhcm.models.add_codes, then training), or leave the task out."
            )
    by_words = [name for name in names if not TASKS[name].by_region]
    if way in (REGION, LOOSELY) and by_words and not predictor.abilities.region_prompts:
        raise RefHCMError(f"The model was not trained to be asked {by_words[0]} by regions: leave --ask {way} out.")
    if way in MARKED and not predictor.abilities.point_prompts:
        raise RefHCMError(f"The model was not trained to be asked by points (--by-point): leave --ask {way} out.")
    if protocol == "presence" and not predictor.abilities.nobody:
        raise RefHCMError("The model was not trained with --nobody, to say that nobody fits: leave the protocol out.")
    if each and not predictor.abilities.region_prompts:
        raise RefHCMError("The model was not trained to be asked by regions (--by-region): leave --each out.")


def choose_rows(
    rows: ReferringDataset, limit: int | None, among: Sequence[int] | np.ndarray | None = None
) -> tuple[list[int], int]:
    """Which rows (of all, or of those `among` which are given) a limit leaves, and how many pictures they are of.

    The rows are spread evenly over the file; where that passes over a picture although the limit has room for all,
    its first row takes the place of one of a picture that has several. RefHCMError without rows or below a limit of 1.
    """
    if limit is not None and limit < 1:
        raise RefHCMError(f"A limit of {limit} rows leaves nothing to score: it is 1 or more.")
    offered = range(len(rows)) if among is None else [int(row) for row in among]
    if not len(offered):
        raise RefHCMError(f"{rows.file.path} has no rows{' that know enough' if len(rows) else ''}.")
    keys = [rows.picture_key(row) for row in offered]
    count = min(len(keys), limit or len(keys))
    chosen = {row * len(keys) // count for row in range(count)}
    taken = Counter(keys[row] for row in chosen)
    missed = {key: row for row, key in reversed(list(enumerate(keys))) if key not in taken}
    if len(taken) + len(missed) <= count:
        for key, row in missed.items():
            ((fullest, _),) = taken.most_common(1)
            chosen.remove(max(other for other in chosen if keys[other] == fullest))
            chosen.add(row)
            taken.update({fullest: -1, key: 1})
    return [offered[place] for place in sorted(chosen)], len(taken)
