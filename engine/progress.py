"""What a run tells while it trains: fairseq's progress bar with a few figures, and all of them in a file.

fairseq makes a bar for every epoch and every validation by calling `progress_bar.progress_bar`; `follow` puts ours in
its place, which hands a readable choice of the figures to fairseq's own bar (`--log-format`), and everything to
TensorBoard and the like (fairseq's own wrappers) and to the metrics file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from fairseq.logging import progress_bar

from ..errors import MissingExtraError
from ..inference.scoring import HEADLINES

Figures = dict[str, float]
GIGABYTE = 1024**3
_SHOWN = (*HEADLINES.items(), ("keypoints", "pck@0.2"), ("codes", "acc"))
"""Of the many metrics of a segment, those that the line of a validation shows."""


class Listener(Protocol):
    """Who wants to know of a run, see `engine.watch.Watch`."""

    def opened(self, folder: str | None) -> None:
        """The folder of the run, before an epoch or a validation."""
        ...

    def configured(self, config: Mapping[str, Any]) -> None:
        """All options of the run, before every epoch of training."""
        ...

    def told(self, kind: str, subset: str | None, update: int, epoch: int, figures: Figures) -> None:
        """Figures of a stretch of training, an epoch, or a validation."""
        ...


class Clock:
    """Time left and peak memory."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._memory = 0.0

    def tick(self, update: int) -> None:
        """An update begins, after `update` others."""
        if self._first is None or update < self._first[1]:
            self._first = time.monotonic(), update

    def seconds_left(self, update: int, updates_left: float) -> float | None:
        """By the mean pace of this process so far, with its validations and checkpoints; None where none is known."""
        if self._first is None or update <= self._first[1] or updates_left == float("inf"):
            return None
        since, first = self._first
        return max(0.0, updates_left) * (time.monotonic() - since) / (update - first)

    def note_memory(self) -> None:
        """To be called after each update: fairseq forgets the peak between updates. Does not wait for the device."""
        if torch.cuda.is_available():
            self._memory = max(self._memory, torch.cuda.max_memory_allocated() / GIGABYTE)

    def memory(self) -> float | None:
        """GiB: the peak of what tensors took of the GPU since the last call; without a GPU the process's peak of
        resident memory, where the system tells it.
        """
        self.note_memory()
        if self._memory:
            memory, self._memory = self._memory, 0.0
            return memory
        try:
            import resource
        except ImportError:  # Windows
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIGABYTE


_plain: Callable[..., Any] = progress_bar.progress_bar
_listener: Listener | None = None
clock = Clock()


def follow(listener: Listener) -> None:
    """From now on, tell `listener` what this process's training tells."""
    global _listener, clock
    _listener, clock = listener, Clock()
    progress_bar.progress_bar = _make_bar


def _make_bar(
    iterator: Any, log_format: str | None = None, tensorboard_logdir: str | None = None, **options: Any
) -> Any:
    """As fairseq's `progress_bar`, which see."""
    if tensorboard_logdir and progress_bar.SummaryWriter is None:
        raise MissingExtraError("--tensorboard-logdir is given, but tensorboard", "watch")
    if _listener is not None:
        _listener.opened(options.get("aim_param_checkpoint_dir"))  # fairseq's --save-dir, whether aim is used or not
    shown = {name: options.get(name) for name in ("log_interval", "log_file", "epoch", "prefix", "default_log_format")}
    bar = _plain(iterator, log_format, **{name: value for name, value in shown.items() if value is not None})
    rest = {name: value for name, value in options.items() if name != "log_file"}
    loggers = _plain(iterator, "none", tensorboard_logdir=tensorboard_logdir, **rest)
    return WatchedBar(bar, loggers, iterator, options.get("epoch") or 0, training=options.get("prefix") is None)


class WatchedBar:
    """fairseq's bar for the eye, its loggers for everything, and the listener."""

    def __init__(self, bar: Any, loggers: Any, iterator: Any, epoch: int, training: bool) -> None:
        self.bar, self.loggers, self.iterator, self.epoch, self.training = bar, loggers, iterator, epoch, training
        self._limits: Mapping[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self.bar)

    def __len__(self) -> int:
        return len(self.bar)

    def update_config(self, config: Mapping[str, Any]) -> None:
        """All options, at the beginning of an epoch."""
        self._limits = config["optimization"]
        if _listener is not None:
            _listener.configured(config)
        self.loggers.update_config(config)

    def log(self, stats: Mapping[str, Any], tag: str | None = None, step: int | None = None) -> None:
        """Figures of the last stretch of training."""
        self._tell("train", "log", stats, tag, step)

    def print(self, stats: Mapping[str, Any], tag: str | None = None, step: int | None = None) -> None:
        """Figures of an epoch or of a validation."""
        self._tell("epoch" if self.training else "valid", "print", stats, tag, step)

    def _tell(self, kind: str, method: str, stats: Mapping[str, Any], tag: str | None, step: int | None) -> None:
        figures = numbers(stats)
        done = figures.pop("num_updates", 0)
        update = int(done) if step is None else step
        if self.training:
            pace = figures.get("bsz", 0.0) * figures.get("ups", 0.0)
            left = clock.seconds_left(update, self._updates_left(update))
            figures |= numbers({"samples_per_second": pace, "memory_gb": clock.memory(), "eta_seconds": left})
        named = {name.replace("@", "_at_"): value for name, value in figures.items()}  # tags of TensorBoard
        getattr(self.loggers, method)(named, tag=tag, step=update)
        if _listener is not None:
            _listener.told(kind, None if self.training else tag, update, self.epoch, figures)
        as_data = isinstance(self.bar, progress_bar.JsonProgressBar)
        getattr(self.bar, method)(figures if as_data else short(figures, self.training), tag=tag, step=update)

    def _updates_left(self, update: int) -> float:
        limits, length = self._limits, len(self.iterator)
        most, epochs = limits.get("max_update") or 0, limits.get("max_epoch") or 0
        by_update = most - update if most > 0 else float("inf")
        passed = getattr(self.iterator, "n", 0)
        by_epoch = (epochs - self.epoch + 1) * length - passed if epochs > 0 else float("inf")
        return min(by_update, by_epoch)


def numbers(stats: Mapping[str, Any]) -> Figures:
    """The figures as numbers; those without a value (nothing of the kind in this stretch) are left out."""
    return {name: float(value) for name, value in stats.items() if value is not None}


def short(figures: Figures, training: bool) -> dict[str, str]:
    """What a line shows: the loss, and for every task bits per token, the share of right tokens, and in a validation a
    metric or two for each part of its answer; in training the time left, the pace and memory.
    """
    shown = {"loss": f"{figures['loss']:.3f}"} if "loss" in figures else {}
    if "eta_seconds" in figures:
        shown["left"] = duration(figures["eta_seconds"])
    for task in tasks_in(figures):
        right = f" {figures[f'{task}/acc']:.0%}" if f"{task}/acc" in figures else ""
        shown[task] = f"{figures[f'{task}/nll']:.2f}b{right}"
    if not training:
        for name in headlines(figures):
            shown[name] = f"{figures[name]:.3f}"
        return shown | {name: f"{value:.4g}" for name, value in figures.items() if name.startswith("best_")}
    for name, label, form in (
        ("samples_per_second", "samples/s", "{:.3g}"), ("lr", "lr", "{:.3g}"), ("memory_gb", "memory", "{:.1f}G")
    ):  # fmt: skip
        if figures.get(name):
            shown[label] = form.format(figures[name])
    return shown


def tasks_in(figures: Figures) -> list[str]:
    """The tasks that losses are told of."""
    return sorted(name.removesuffix("/nll") for name in figures if name.endswith("/nll"))


def headlines(figures: Figures) -> list[str]:
    """Names of a metric or two for every segment of every task that was answered (see `_SHOWN`)."""
    answered = [name.removesuffix("/answers") for name in figures if name.endswith("/answers")]
    names = (f"{task}/{segment}_{metric}" for task in answered for segment, metric in _SHOWN)
    return [name for name in names if name in figures]


def duration(seconds: float) -> str:
    """`3h12m`, `4m05s`, `2d07h`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
