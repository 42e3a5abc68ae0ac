"""What `evaluate.py` does, once its options are read."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from ..data.commands import in_range, writable_folder
from ..data.dataset import ReferringDataset
from ..data.rows import OWN, guess_kind
from ..data.scenes.held_out import HELD_OUT_RECIPE, held_out
from ..data.scenes.recipe import recipe
from ..errors import RefHCMError
from ..models.checkpoint import check_folder
from ..tasks import known
from .attention_page import attention_page
from .choosing import Chosen, check_model, check_tasks, choose, each_of, fitting_tasks, lacking, unaskable
from .comparison import FIGURES, Comparison, compare, compare_saved, find_checkpoints
from .evaluation import evaluate
from .load import choose_device, choose_dtype, find_folder, load
from .prediction_files import SETTINGS, unexplained, without_settings
from .predictor import RefHCMPredictor
from .ranks import Ranks
from .report import told
from .scoring import Evaluation, score_saved

TASKS = {
    "own": ("rec", "rkpt", "rpar_full_mask", "rpar", "rhrc", "s1", "res", "s1_mask", "roi", "grec", "people"),
    "uniphd": ("rkpt", "s1"),
    "presence": ("rec",),
}
"""Protocol -> what is asked where no tasks are named, in this order, as far as the model is made for it."""
HELD_OUT_LIMIT = 2000
_WITH_SCORE = ("score", "best_by", "tasks", "no_java", "json", "markdown")
"""Options that mean something to answers that were saved."""


@dataclass
class Job:
    """The options of the command, by their names."""

    model: str = "compact"
    checkpoint: list[str] = field(default_factory=list)
    vocabulary: str | None = None
    label_map: str | None = None
    raw: bool = False
    best_by: str | None = None
    score: str | None = None
    data: str | None = None
    kind: str | None = None
    tasks: list[str] = field(default_factory=list)
    scenes: int = 500
    recipe: int = HELD_OUT_RECIPE
    limit: int | None = None
    protocol: str = "own"
    each: list[str] = field(default_factory=list)
    ask: str | None = None
    no_java: bool = False
    beam: int = 1
    batch_size: int = 16
    workers: int | None = None
    published_reading: bool = False
    check: bool = False
    device: str | None = None
    dtype: str | None = None
    out: str | None = None
    attention: int | None = None
    json: str | None = None
    markdown: bool = False


def check(job: Job) -> None:
    """Refuse, before anything costs time, what could only fail later; settle the kind of the file."""
    in_range(1, scenes=job.scenes, limit=job.limit, beam=job.beam, batch_size=job.batch_size, attention=job.attention)
    in_range(0, workers=job.workers)
    recipe(job.recipe)
    if job.json and (Path(job.json).is_dir() or not Path(job.json).parent.is_dir()):
        raise RefHCMError(f"--json {job.json} cannot be written: name a file in a folder that exists.")
    if job.score:
        usual = Job()
        given = [name for name in vars(usual) if name not in _WITH_SCORE and getattr(job, name) != getattr(usual, name)]
        if given:
            names = " and ".join("--" + name.replace("_", "-") for name in given)
            raise RefHCMError(f"--score reads saved answers, which {names} cannot change: leave {names} out.")
        return
    if job.attention and not job.out:
        raise RefHCMError("--attention draws pages: name the folder for them with --out.")
    kind = job.kind or OWN
    check_tasks(kind, job.tasks or fitting_tasks(kind, job.protocol, job.ask), job.protocol, job.each, job.ask)
    several = [name for name, task in known().items() if task.meant != "one"]
    if job.each and not set(job.tasks or TASKS[job.protocol]) & set(several):
        raise RefHCMError(f"--each asks about everyone whom an answer names: ask for {' or '.join(several)} as well.")
    if not job.data and job.kind not in (None, OWN):
        raise RefHCMError(f"Held-out scenes are of the kind {OWN}, not {job.kind}: name a file with --data as well.")
    if job.data:
        job.kind = job.kind or guess_kind(job.data)
        check_tasks(job.kind, job.tasks, job.protocol, way=job.ask)
        ReferringDataset(job.data, job.kind)
    if job.checkpoint:
        files = [path for path in find_checkpoints(job.checkpoint) if not path.is_dir()]
        for name, folder in (("vocabulary", job.vocabulary), ("label-map", job.label_map)):
            if folder is not None and not Path(folder).is_dir():
                raise RefHCMError(f"There is no folder {folder}: --{name} names that of a tokenizer.")
        if files and job.vocabulary is None:
            raise RefHCMError(f"{files[0]} is a run's checkpoint: name the folder of its tokenizer by --vocabulary.")
    elif job.best_by or job.vocabulary or job.label_map or job.raw:
        raise RefHCMError("--best-by, --vocabulary, --label-map and --raw belong to --checkpoint: name some with it.")
    else:
        check_folder(find_folder(job.model))
    if job.out:
        writable_folder(job.out)


def run(job: Job, ranks: Ranks) -> int:
    """Score as asked, and print; the exit status is 1 where a checkpoint of several could not be scored."""
    if job.score:
        return _score_again(job)
    device = ranks.device(job.device)
    ranks.together(lambda: (choose_device(device), choose_dtype(job.dtype)))  # scenes take minutes
    data = Path(job.data) if job.data else ranks.first(lambda: held_out(job.scenes, job.recipe))
    scoring = _Scoring(job, ranks, data)
    if not job.checkpoint:
        predictor = ranks.together(lambda: load(job.model, device, job.dtype))
        _write(job, scoring(predictor), ranks)
        return 0
    comparison = compare(
        find_checkpoints(job.checkpoint), scoring, vocabulary=job.vocabulary, label_map=job.label_map,
        averaged=not job.raw, device=device, dtype=job.dtype, best_by=job.best_by, ranks=ranks, tell=scoring.tell,
    )  # fmt: skip
    return _write_comparison(job, comparison, ranks)


class _Scoring:
    """Scores one model after the other on the same questions."""

    def __init__(self, job: Job, ranks: Ranks, data: Path) -> None:
        self.job, self.ranks, self.data = job, ranks, data
        self.kind = job.kind or OWN
        self.limit = job.limit or (None if job.data else HELD_OUT_LIMIT)
        self._told: set[str] = set()

    def __call__(self, predictor: RefHCMPredictor, name: str = "") -> list[Evaluation]:
        """The figures of all tasks; `name` tells checkpoints apart."""
        job, results = self.job, []
        for task in self._tasks(predictor):
            result = evaluate(
                predictor, self.data, self.kind, task, beam=job.beam, batch_size=job.batch_size, limit=self.limit,
                workers=self._workers(predictor), published_reading=job.published_reading, protocol=job.protocol,
                each=job.each, way=job.ask, java=not job.no_java, thorough=job.check, ranks=self.ranks,
                out=Path(job.out) / name if job.out else None,
            )  # fmt: skip
            results.append(result)
            if not job.checkpoint:
                self.tell(told(result, job.markdown))
            self.ranks.first(partial(self._draw_attention, predictor, result, name))
        return results

    def _draw_attention(self, predictor: RefHCMPredictor, result: Evaluation, name: str) -> None:
        """A page of where the model looked, beside the answers, where it is wanted."""
        job = self.job
        if job.attention is None or job.out is None:
            return
        content = attention_page(
            predictor, self.data, self.kind, result, job.attention, limit=self.limit, protocol=job.protocol,
            beam=job.beam, way=job.ask,
        )  # fmt: skip
        path = Path(job.out) / name / f"{result.task}.attention.html"
        path.write_text(content, encoding="utf-8")
        self.tell(f"where the model looked: {path}")

    def tell(self, text: str) -> None:
        """Print, in one of the processes, and once."""
        if self.ranks.leads and text not in self._told:
            print(text, flush=True)
        self._told.add(text)

    def _tasks(self, predictor: RefHCMPredictor) -> list[str]:
        """The tasks that are named; or those that model and file can serve, and a word on the others."""
        job = self.job
        trained = predictor.abilities.tasks
        asked = [name for name in TASKS[job.protocol] if name in trained and not unaskable(name, job.ask)]
        needs = {name: lacking(self.kind, name, job.protocol, job.ask) for name in asked}
        names = job.tasks or [name for name, missing in needs.items() if not missing]
        others = [f"{name} (needs {' and '.join(missing)})" for name, missing in needs.items() if missing]
        if others and not job.tasks:
            self.tell(f"left out: {', '.join(others)}; files of the kind {self.kind} do not hold that.")
        rows, chosen = ReferringDataset(self.data, self.kind), dict[str, Chosen]()
        for name in names:
            try:
                check_model(predictor, [name], job.protocol, each_of(name, job.each), job.ask)
                chosen[name] = choose(
                    rows, name, self.limit, job.protocol, predictor.abilities.point_prompts, job.ask
                )
            except RefHCMError as error:
                if job.tasks or not len(rows):
                    raise
                self.tell(f"left out: {name}. {error}")
        if not chosen:
            raise RefHCMError(f"{self.data} can serve none of {', '.join(names)} with this model, as said above.")
        what = "pictures" if job.data else "scenes"
        said = {name: f"{len(each.rows)} questions about {each.pictures} {what}" for name, each in chosen.items()}
        if job.checkpoint:
            return list(chosen)
        if len(set(said.values())) == 1:
            self.tell(f"{next(iter(said.values()))} per task")
        else:
            self.tell("; ".join(f"{name}: {text}" for name, text in said.items()))
        return list(chosen)

    def _workers(self, predictor: RefHCMPredictor) -> int:
        if self.job.workers is not None:
            return self.job.workers
        return 0 if predictor.device.type == "cpu" else min(4, max(0, (os.cpu_count() or 1) // self.ranks.world - 1))


def _score_again(job: Job) -> int:
    """Figures of saved answers: of one model, or of the checkpoints whose folders lie below."""
    top = Path(str(job.score))
    if any(top.glob(f"*{SETTINGS}")) or not top.is_dir():
        if job.best_by:
            raise RefHCMError(f"{top} holds the answers of one model: leave --best-by out.")
        for task in () if job.tasks else unexplained(top):
            print(f"left out: {task}. {without_settings(top, task)}")
        results = score_saved(top, job.tasks, not job.no_java)
        for result in results:
            print(told(result, job.markdown))
        _write(job, results, Ranks())
        return 0
    if not any(top.rglob(f"*{SETTINGS}")):
        score_saved(top)  # says what is missing
    comparison = compare_saved(top, lambda folder: score_saved(folder, job.tasks, not job.no_java), job.best_by)
    return _write_comparison(job, comparison, Ranks())


def _write(job: Job, results: Sequence[Evaluation], ranks: Ranks) -> None:
    """The figures as JSON, where they are wanted."""
    _write_json(job, [vars(result) for result in results], ranks)


def _write_comparison(job: Job, comparison: Comparison, ranks: Ranks) -> int:
    if ranks.leads:
        print(comparison.text(job.markdown))
    _write_json(job, comparison.to_dict(), ranks)
    return int(any(entry.error for entry in comparison.entries))


def _write_json(job: Job, content: Any, ranks: Ranks) -> None:
    if not ranks.leads:
        return
    text = json.dumps(content, indent=1) + "\n"
    for path in (job.json and Path(job.json), job.out and Path(job.out) / FIGURES):
        if path:
            path.write_text(text)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM, by which clusters end a job, stop an evaluation as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
