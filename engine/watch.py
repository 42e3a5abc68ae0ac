"""A run that can be watched: metrics file, answers at each validation, pages of pictures (run_scripts/README.md).

`WatchedTask` is what our fairseq tasks do for it, all in hooks that fairseq calls.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist
from fairseq import metrics
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import progress_bar
from fairseq.tasks import FairseqTask

from ..data.annotation import CODE_GRID
from ..data.dataset import MultiTaskDataset
from ..errors import RefHCMError
from ..inference.page import Entry, as_jpeg, draw_pair, page, write_page
from ..metrics.records import RecordFile
from ..models.label_map import LabelMapTokenizer
from ..models.label_map_files import load_label_map
from ..stopping import stop
from . import progress
from .best import LOSSES, allow_any_metric, begin_best, check_told, no_metric
from .validation import Answerer, choose_questions

logger = logging.getLogger(__name__)

METRICS_FILE, PICTURES = "metrics.jsonl", "pictures"


@dataclass
class WatchOptions(FairseqDataclass):
    """Command-line options."""

    validate_answers: int = field(
        default=0, metadata={"help": "rows of each task to answer and score at each validation; 0: losses only"}
    )
    label_map: str = field(
        default="", metadata={"help": "folder of the label-map tokenizer, by which answered part maps are scored"}
    )
    pictures: int = field(
        default=12, metadata={"help": "answered rows to draw at each validation, into SAVE_DIR/pictures"}
    )
    keep_pictures: int = field(default=20, metadata={"help": "pages of drawn answers to keep"})
    no_metrics_file: bool = field(default=False, metadata={"help": "do not write SAVE_DIR/metrics.jsonl"})


class Watch:
    """Told of everything that a run tells; only the first process writes."""

    def __init__(self, options: Any, task: "WatchedTask") -> None:
        for name, least in (("validate_answers", 0), ("pictures", 0), ("keep_pictures", 1)):
            if options[name] < least:
                raise RefHCMError(f"--{name.replace('_', '-')} is {options[name]}: it must be {least} or more.")
        self.options, self.task = options, task
        self.folder: Path | None = None
        self.records: RecordFile | None = None
        self.begun = self.checked = False
        self.drawn: list[Entry] = []
        self.metric = "loss"
        progress.follow(self)
        allow_any_metric()

    # -- told by the progress bar ----------------------------------------------------------------------------
    def opened(self, folder: str | None) -> None:
        """The folder of the run."""
        self.folder = Path(folder) if folder else None

    def configured(self, config: Mapping[str, Any]) -> None:
        """Look, before training, at what could only fail later."""
        if self.checked:
            return
        self.checked = True
        metric, dataset = config["checkpoint"]["best_checkpoint_metric"], config["dataset"]
        if not dataset["disable_validation"]:
            for subset in dataset["valid_subset"].split(","):
                self.task.answerer(subset)
                self._check_metric(metric, subset)
        begin_best(metric)
        self.metric = metric

    def told(self, kind: str, subset: str | None, update: int, epoch: int, figures: progress.Figures) -> None:
        """Write figures down; with those of a validation, the pictures."""
        if not _first_process() or self.folder is None:
            return
        if not self.begun:  # a validation that an earlier process was cut off in
            self.begin(update)
        try:
            if self.records is not None:
                about = {"epoch": epoch} if subset is None else {"subset": subset, "epoch": epoch}
                told = {name: value for name, value in figures.items() if name != "wall"}  # fairseq's forgets restarts
                self.records.write(kind, update, about | told)
            if self.drawn and subset is not None:
                self._draw(self.folder / PICTURES, subset, update, figures)
        except OSError as error:  # a run is worth more than its figures
            logger.warning("figures or pictures could not be written, training goes on: %s", error)

    def _draw(self, folder: Path, subset: str, update: int, figures: progress.Figures) -> None:
        entries, self.drawn = self.drawn, []
        pictures = [as_jpeg(draw_pair(entry)) for entry in entries]
        shown = {name: figures[name] for name in progress.headlines(figures)}
        content = page(f"{subset}, update {update}", shown, entries, pictures)
        path = write_page(folder, f"{update:08d}-{subset}", content, self.options["keep_pictures"])
        logger.info("drew %d answers: %s", len(entries), path)
        _to_tensorboard(subset, entries, pictures, update)

    # -- told by the task ------------------------------------------------------------------------------------
    def begin(self, update: int) -> None:
        """Training begins, or goes on, after `update` updates."""
        self.begun = True
        if not _first_process() or self.folder is None:
            return
        for old in (self.folder / PICTURES).glob("*-*.html"):
            if old.stem.split("-")[0].isdigit() and int(old.stem.split("-")[0]) > update:
                old.unlink()  # of what this run will do again
        if not self.options["no_metrics_file"]:
            self.records = RecordFile(self.folder / METRICS_FILE)
            world = dist.get_world_size() if _distributed() else 1
            self.records.begin(update, processes=world, command=" ".join(sys.argv))

    def _check_metric(self, metric: str, subset: str) -> None:
        """RefHCMError, before training, where no validation will tell this metric."""
        streams = self.task.streams(subset)
        told = [f"{task.name}/{kind}" for stream in streams for task in stream.tasks for kind in ("nll", "acc")]
        if metric in (*LOSSES, *told):
            return
        answerer = self.task.answerer(subset)
        if answerer is None:
            raise RefHCMError(no_metric(metric, [*LOSSES, *told]) + " Metrics of answers need --validate-answers.")
        if metric not in answerer.names(metric.partition("/")[0]):
            raise RefHCMError(no_metric(metric, [*LOSSES, *told, *answerer.names(count=8)]))


class WatchedTask(FairseqTask):
    """A fairseq task that can be watched; it has `vocabulary`, `network` and `faults`, see `engine.tasks`."""

    mask_tokenizer: LabelMapTokenizer | None = None
    """By which answered masks are scored."""
    uses_ema = True  # so that fairseq hands over the averaged weights, which a run is exported from
    asked_to_stop: Callable[[], bool] = staticmethod(lambda: stop.asked)
    """Whether the run is to end now; a validation then leaves its answers."""

    def __init__(self, cfg: Any, **kwargs: Any) -> None:
        super().__init__(cfg, **kwargs)
        self.watch = Watch(cfg, self)
        self._answerers: dict[str, Answerer | None] = {}
        self._due: str | None = None
        self._loading: dict[str, Any] = {}
        self._network: Any = None

    def streams(self, subset: str) -> list[Any]:
        """The files of a subset, each with its tasks."""
        items = self.datasets[subset].items
        return items.streams if isinstance(items, MultiTaskDataset) else [items]

    def answerer(self, subset: str) -> Answerer | None:
        """Who answers rows of a subset; None without --validate-answers."""
        count = self.cfg.validate_answers
        if subset not in self._answerers:
            made = None
            if count:
                streams = self.streams(subset)
                label_map = None
                if any("codes" in task.needs for stream in streams for task in stream.tasks):
                    if self.cfg.label_map:
                        label_map = self._label_map()
                    else:
                        logger.info("part maps are scored by their codes alone: --label-map FOLDER gives the mIoU too")
                questions = choose_questions(streams, count, label_map is not None)
                made = Answerer(questions, self.network, label_map, self.faults, self.mask_tokenizer)
            self._answerers[subset] = made
        return self._answerers[subset]

    def _label_map(self) -> LabelMapTokenizer:
        label_map = load_label_map(self.cfg.label_map)
        if label_map.config.grid != CODE_GRID or label_map.config.codebook < self.vocabulary.label_codes:
            raise RefHCMError(
                f"--label-map {self.cfg.label_map}: a tokenizer of {label_map.config.codebook} codes in a grid of "
                f"{label_map.config.grid}; this vocabulary has {self.vocabulary.label_codes} in {CODE_GRID}."
            )
        return label_map

    # -- fairseq's hooks -------------------------------------------------------------------------------------
    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """As fairseq's; only whole weights can decode."""
        if self.cfg.validate_answers and _distributed() and getattr(cfg, "fully_shard", False):
            raise RefHCMError(
                "--validate-answers cannot decode where the weights are spread over processes (--fully-shard): leave "
                "it out, and score checkpoints with evaluate.py."
            )
        return super().build_model(cfg, from_checkpoint)

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """A validation asks for the batches of a subset just before it goes through them."""
        subset = next((name for name, other in self.datasets.items() if other is dataset), "train")
        if not subset.startswith("train"):
            self._due = subset
            self._loading = kwargs
        return super().get_batch_iterator(dataset, *args, **kwargs)

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        """The network itself, not the wrapper that adds up its gradients over processes."""
        self._network = model
        super().begin_valid_epoch(epoch, model)

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False,
        ema_model: Any = None,
    ) -> Any:  # fmt: skip
        """As fairseq's."""
        if not self.watch.begun:
            self.watch.begin(update_num)
        progress.clock.tick(update_num)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """As fairseq's."""
        super().optimizer_step(optimizer, model, update_num)
        progress.clock.note_memory()

    def valid_step(self, sample: Any, model: Any, criterion: Any, ema_model: Any = None) -> Any:
        """As fairseq's; with the first batch of a subset, rows of it are answered."""
        answerer = self.answerer(self._due) if self._due is not None else None
        if answerer is not None:
            self._answer(answerer, self._network if ema_model is None else ema_model)
        self._due = None
        return super().valid_step(sample, model, criterion)

    def _answer(self, answerer: Answerer, model: Any) -> None:
        start = time.monotonic()
        model.eval()
        size, workers = self._loading.get("max_sentences"), self._loading.get("num_workers")
        figures = answerer.score(model, size or 16, workers or 0, self.asked_to_stop)
        if figures is None:
            return
        if _first_process() and self.cfg.pictures:
            self.watch.drawn = answerer.show(model, self.cfg.pictures)
        for name, value in figures.items():
            metrics.log_scalar(name, float(value), round=4)
        count = int(sum(value for name, value in figures.items() if name.endswith("/answers")))
        logger.info("answered %d questions in %s", count, progress.duration(time.monotonic() - start))

    def post_validate(self, model: Any, stats: Mapping[str, Any], agg: Any) -> None:
        """Called with the figures of a validation, before the one that the best checkpoint is chosen by is taken."""
        check_told(self.watch.metric, stats)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _first_process() -> bool:
    return not _distributed() or dist.get_rank() == 0


def _to_tensorboard(subset: str, entries: list[Entry], pictures: list[bytes], update: int) -> None:
    """The drawn answers beside the scalars of the subset, as the JPEGs that they are."""
    writer = progress_bar._tensorboard_writers.get(subset) if progress_bar.SummaryWriter is not None else None
    if writer is None:
        return
    try:
        from tensorboard.compat.proto.summary_pb2 import Summary
    except ImportError:  # tensorboardX alone writes the scalars; the page holds the pictures
        return
    for number, (entry, jpeg) in enumerate(zip(entries, pictures, strict=True), 1):
        image = Summary.Image(encoded_image_string=jpeg)
        value = Summary.Value(tag=f"{entry.task}/answer {number:02d}", image=image)
        writer._get_file_writer().add_summary(Summary(value=[value]), update)
