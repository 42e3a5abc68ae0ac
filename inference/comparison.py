"""Several checkpoints scored one after the other, and which of them is the best."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..data.commands import one_sentence
from ..data.json_file import read_json
from ..errors import RefHCMError
from .answering import ModelError
from .load import load, load_run
from .prediction_files import SETTINGS
from .predictor import RefHCMPredictor
from .ranks import Ranks
from .report import table
from .scoring import Evaluation
from .survey import fingerprint

FIGURES = "figures.json"
"""Beside saved answers: the figures that were computed of them."""
_FIGURES_LIMIT = 64 << 20


@dataclass
class Entry:
    """What became of one checkpoint."""

    name: str
    """Short and unlike the others': the path below the folder that all have in common."""
    path: str
    updates: int | None = None
    """How many it was trained for; None where that is not known, as of a model folder."""
    results: list[Evaluation] = field(default_factory=list)
    same_as: str | None = None
    """An earlier one of the very same weights, whose figures these are."""
    error: str | None = None
    """Why it could not be scored."""

    def figures(self) -> dict[str, float]:
        """`task/segment/metric` -> figure."""
        return {f"{one.task}/{name}": value for one in self.results for name, value in one.scores.items()}


@dataclass
class Comparison:
    """All of them, and the best by one figure."""

    entries: list[Entry]
    best_by: str | None = None
    best: str | None = None
    """Its name; None where none could be scored."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        entries = [{**vars(entry), "results": [vars(result) for result in entry.results]} for entry in self.entries]
        return {"best": self.best, "best_by": self.best_by, "checkpoints": entries}

    def text(self, markdown: bool = False) -> str:
        """A table of what stands for each task, the best checkpoint marked with a star, and the broken ones named."""
        columns = list(dict.fromkeys(name for entry in self.entries for name in _headlines(entry)))
        if self.best_by is not None and self.best_by not in columns:
            columns.append(self.best_by)
        scored = [entry for entry in self.entries if entry.error is None]
        rows = []
        for entry in scored:
            figures = entry.figures()
            mark = " *" if entry.name == self.best else ""
            updates = "" if entry.updates is None else f"{entry.updates}"
            values = [f"{figures[name]:.4f}" if name in figures else "" for name in columns]
            rows.append([entry.name + mark, updates, *values])
        lines = ["", table(["checkpoint", "updates", *columns], rows, markdown)] if rows else []
        lines += [f"{entry.name} has the weights of {entry.same_as}" for entry in scored if entry.same_as]
        lines += [f"{entry.name} could not be scored: {entry.error}" for entry in self.entries if entry.error]
        if self.best is not None:
            lines.append(f"* best by {self.best_by}: {next(e.path for e in scored if e.name == self.best)}")
        return "\n".join(lines)


def find_checkpoints(patterns: Sequence[str]) -> list[Path]:
    """The files and model folders that paths or patterns (`*`, `**`, `?`) name, each once, numbers in order.

    RefHCMError for one that names nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        there = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
        if not there:
            raise RefHCMError(f"No checkpoint is named by {pattern!r}: check the path.")
        found.update(dict.fromkeys(map(Path, sorted(there, key=_by_number))))
    return list(found)


def compare(
    paths: Sequence[Path],
    score: Callable[[RefHCMPredictor, str], list[Evaluation]],
    *,
    vocabulary: str | None = None,
    label_map: str | None = None,
    averaged: bool = True,
    device: Any = None,
    dtype: str | None = None,
    best_by: str | None = None,
    ranks: Ranks | None = None,
    tell: Callable[[str], None] = print,
) -> Comparison:
    """Score checkpoints of training runs, and model folders, and name the best.

    score: gives the figures of a loaded model, which is of this name. vocabulary, label_map: folders of the tokenizers,
    which only checkpoints need. best_by: `task/segment/metric`, or the end of it that says enough; by default what
    stands for the first task. A checkpoint that is damaged, or answers with numbers that are not finite, is told and
    noted; RefHCMError for what would go wrong with every one.
    """
    ranks = ranks or Ranks()
    comparison = Comparison([Entry(name, str(path)) for name, path in zip(_names(paths), paths, strict=True)])
    seen: dict[str, Entry] = {}
    for entry in comparison.entries:
        loading = partial(_load, entry.path, vocabulary, label_map, averaged, device, dtype)
        try:
            _score_one(entry, loading, score, seen, ranks)
        except ModelError as error:
            entry.error = one_sentence(error)
            tell(f"{entry.name} could not be scored: {entry.error}")
            continue
        if not entry.same_as:
            choose_figure(entry, best_by)  # complains now rather than at the end
        told = ", ".join(f"{name} {value:.4f}" for name, value in _headlines(entry).items())
        tell(f"{entry.name}: {told}")
    return choose_best(comparison, best_by)


def _score_one(
    entry: Entry, loading: Callable[[], tuple[RefHCMPredictor, int | None]],
    score: Callable[[RefHCMPredictor, str], list[Evaluation]], seen: dict[str, Entry], ranks: Ranks,
) -> None:  # fmt: skip
    """Fill in an entry; ModelError where its model cannot be had or cannot answer. `seen` knows models by digest."""
    try:
        model, entry.updates = ranks.together(loading)
    except (RefHCMError, OSError) as error:
        raise ModelError(one_sentence(error)) from error
    digest = ranks.first(partial(fingerprint, model))
    if (earlier := seen.get(digest)) is not None:
        entry.same_as, entry.results = earlier.name, earlier.results
        return
    entry.results = score(model, entry.name)
    seen[digest] = entry


def compare_saved(top: Path, score: Callable[[Path], list[Evaluation]], best_by: str | None) -> Comparison:
    """The comparison whose answers lie in the folders below `top`, scored again by `score`.

    What answers do not tell (paths, updates, equal weights, checkpoints that could not be scored, and by which figure
    the best was chosen) comes from `figures.json`, where the comparison was completed. One that did not answer
    everything is named and not compared, because others may have had the harder questions.
    """
    told, chosen_by = _told_of(top / FIGURES)
    folders = {str(path.parent.relative_to(top)) for path in top.rglob(f"*{SETTINGS}")}
    names = [*told, *sorted(folders - set(told), key=_by_number)]
    comparison = Comparison([told.get(name) or Entry(name, str(top / name)) for name in names])
    by_name = {entry.name: entry for entry in comparison.entries}
    for entry in comparison.entries:
        if entry.same_as in by_name:
            first = by_name[entry.same_as]
            entry.results, entry.error = first.results, first.error
        elif entry.name in folders:
            results = score(top / entry.name)
            if missing := sum(result.missing for result in results):
                entry.error = entry.error or f"{missing:,} questions are not answered."
            else:
                entry.results, entry.error = results, None
        else:
            entry.error = entry.error or f"its answers are no longer in {top / entry.name}."
    known = {name for entry in comparison.entries if entry.error is None for name in entry.figures()}
    return choose_best(comparison, best_by or (chosen_by if chosen_by in known else None))


def _told_of(path: Path) -> tuple[dict[str, Entry], str | None]:
    """Entries by name without figures, and the figure that chose the best, of what `Comparison.to_dict` wrote; nothing
    where there is no such file. RefHCMError for another file of that name."""
    if not path.is_file():
        return {}, None
    content = read_json(path, dict, _FIGURES_LIMIT)
    entries = content.get("checkpoints")
    best_by = content.get("best_by")
    if not isinstance(entries, list) or not isinstance(best_by, str | None):
        raise RefHCMError(f"{path} is not of a comparison: remove it, and the answers alone are scored.")
    found = {}
    for entry in entries:
        said = entry if isinstance(entry, dict) else {}
        texts = [said.get(name) for name in ("name", "path", "same_as", "error")]
        updates = said.get("updates")
        if not all(isinstance(text, str | None) for text in texts) or not isinstance(updates, int | None) or not all(
            texts[:2]
        ):
            raise RefHCMError(f"{path} holds an entry that is no checkpoint's: remove it, and the answers alone are "
                              "scored.")  # fmt: skip
        name = str(texts[0])
        found[name] = Entry(name, str(texts[1]), updates, [], texts[2], texts[3])
    return found, best_by


def choose_best(comparison: Comparison, best_by: str | None) -> Comparison:
    """Name the best of those that were scored, the first of equals, by the figure that is meant."""
    scored = [entry for entry in comparison.entries if entry.error is None and entry.figures()]
    if scored:
        name = comparison.best_by = choose_figure(scored[0], best_by)
        known = [entry for entry in scored if name in entry.figures()]
        comparison.best = max(known, key=lambda entry: entry.figures()[name]).name
    return comparison


def choose_figure(entry: Entry, wanted: str | None) -> str:
    """The full name of the figure that is meant; RefHCMError where it is none, or could be several."""
    figures = entry.figures()
    if wanted is None:  # what the last stretch of the first task's answer is judged by
        return list(_headlines(Entry("", "", results=entry.results[:1])) or figures)[-1]
    fitting = [
        name for name in figures if any(f"/{each}".endswith(f"/{wanted}") for each in (name, _in_training(name)))
    ]
    if len(fitting) == 1 or wanted in fitting:
        return wanted if wanted in fitting else fitting[0]
    if fitting:
        raise RefHCMError(f"--best-by {wanted} could be {' or '.join(fitting)}: give the whole name.")
    raise RefHCMError(f"There is no figure {wanted!r} to choose the best by: there are {', '.join(figures)}.")


def _in_training(name: str) -> str:
    """`rec/box/acc@0.5` as training's validation writes it, rec/box_acc@0.5."""
    task, _, rest = name.partition("/")
    return f"{task}/{rest.replace('/', '_')}"


def _headlines(entry: Entry) -> dict[str, float]:
    return {f"{one.task}/{name}": value for one in entry.results for name, value in one.headlines().items()}


def _load(
    path: str, vocabulary: str | None, label_map: str | None, averaged: bool, device: Any, dtype: str | None
) -> tuple[RefHCMPredictor, int | None]:
    if os.path.isdir(path):
        return load(path, device, dtype), None
    if vocabulary is None:
        raise RefHCMError("A training run's checkpoint needs --vocabulary, the folder of its tokenizer.")
    return load_run(path, vocabulary, label_map, device, dtype, averaged)


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells paths apart: all but the folder that they have in common, without a checkpoint's ending."""
    whole = [os.path.abspath(path) for path in paths]
    common = os.path.dirname(whole[0]) if len(whole) == 1 else os.path.commonpath(whole)
    return [os.path.relpath(path, common).removesuffix(".pt") for path in whole]


def _by_number(path: str) -> list[Any]:
    """Sorts checkpoint10 behind checkpoint9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path)]
