"""Every referring task as a fairseq task: `--task rec`, `rkpt`, `rpar`, `rpar_full_mask`, `rhrc`, `s1`, `multitask`.

They differ only in what their data may be: the single tasks take `TRAIN.tsv,VALID.tsv` or a mix, `multitask` a mix
(see `engine.mix`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist
from fairseq.tasks import register_task
from omegaconf import II

from ..data.dataset import MultiTaskDataset, ReferringDataset, SampleDataset
from ..data.faults import FaultTally
from ..data.leakage import open_file, refuse_leaks
from ..data.prompts import Prompting
from ..data.transforms import Augmentation
from ..data.vocabulary import Vocabulary
from ..data.vocabulary_file import describe_vocabulary
from ..errors import RefHCMError
from ..models.label_map_files import MASK, load_label_map
from ..tasks import Task, build, known, names
from .dataset import CheckedBatches, FairseqSamples
from .going_on import GoingOnOptions
from .mix import Mix, Stream, read_mix, single
from .watch import WatchedTask, WatchOptions
from .weights import find_vocabulary

MULTITASK = "multitask"


@dataclass
class TaskOptions(WatchOptions, GoingOnOptions):
    """Command-line options."""

    data: str = field(default="", metadata={"help": "TRAIN.tsv,VALID.tsv or a .json mix of datasets"})
    data_root: str = field(default="", metadata={"help": "folder of the files that a mix names; default: its own"})
    image_root: str = field(default="", metadata={"help": "folder of the pictures that rows name by path"})
    vocabulary: str = field(
        default="", metadata={"help": "folder with the tokenizer: a model folder, or one with dict.txt"}
    )
    max_src_length: int = field(default=80, metadata={"help": "words of a reference that are kept"})
    max_tgt_length: int = field(default=100, metadata={"help": "words of a caption that are learnt"})
    flip: float = field(default=0.0, metadata={"help": "chance of mirroring picture, words and labels"})
    zoom: float = field(default=1.0, metadata={"help": "below 1: crop to a random share of each side"})
    shrink: float = field(default=1.0, metadata={"help": "below 1: show at a random share of a grey canvas's sides"})
    colour: float = field(default=0.0, metadata={"help": "greatest change of brightness, contrast, saturation"})
    draft: int = field(default=0, metadata={"help": "decode JPEGs at no more than needed for this side; 0: full"})
    part_maps: bool = field(default=False, metadata={"help": "read part maps in training, for --detail-weight"})
    by_region: float = field(
        default=0.0, metadata={"help": "chance of asking by the box alone where words and box are known"}
    )
    by_point: float = field(
        default=0.0,
        metadata={
            "help": "share of the questions without words that are asked by a point or scribble; above 0, rows of a "
            "file that ask by points are learnt too"
        },
    )
    loose_regions: float = field(
        default=0.0, metadata={"help": "boxes that are asked with are off by up to this share of their sides"}
    )
    nobody: bool = field(default=False, metadata={"help": "learn to answer words that fit nobody by nothing"})
    masks: str = field(default="", metadata={"help": "folder of the mask tokenizer, for tasks that answer masks"})
    epoch_items: int = field(default=0, metadata={"help": "items of an epoch of a mix; 0: as the mix says"})
    held_out: str = field(
        default="", metadata={"help": "FILE,FILE: dataset files of which no picture may be trained on"}
    )
    seed: int = II("common.seed")


class ReferringTask(WatchedTask):
    """The token space and the datasets of a run; what a task asks and answers is in `refhcm.tasks`."""

    referring: str

    def __init__(self, cfg: TaskOptions, **kwargs: Any) -> None:
        super().__init__(cfg, **kwargs)
        self.vocabulary: Vocabulary = find_vocabulary(cfg.vocabulary)
        self.network: Any = None
        self.faults = FaultTally({})
        self.mask_tokenizer = load_label_map(cfg.masks, MASK) if cfg.masks else None

    @property
    def source_dictionary(self) -> None:
        """None: the token space is `refhcm.data.vocabulary`."""
        return None

    @property
    def target_dictionary(self) -> None:
        """None, as above."""
        return None

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the network, and keep its description: datasets need its picture size, checkpoints all of it."""
        model = super().build_model(cfg, from_checkpoint)
        self.network = model.config
        described = {"model": self.network.to_dict(), "vocabulary": describe_vocabulary(self.vocabulary)}
        described["tasks"] = sorted({name for stream in self._mix("train", 1).streams for name in stream.tasks})
        described["region_prompts"] = self.cfg.by_region > 0
        described["point_prompts"] = self.cfg.by_point > 0
        described["loose_regions"] = self.cfg.loose_regions > 0
        described["nobody"] = self.cfg.nobody
        if model.adapters:
            described["lora"] = model.adapters.to_dict()
        self.state.merge_state_dict({"refhcm": described})
        return model

    def load_dataset(self, split: str, combine: bool = False, epoch: int = 1, **kwargs: Any) -> None:
        """Open the files of a split. Only training is shuffled and augmented."""
        training = split.startswith("train")
        mix = self._mix(split, epoch)
        streams = [(self._stream(stream, split, training), stream.weight) for stream in mix.streams]
        if training and self.cfg.held_out:
            held_out = [open_file(path) for path in self.cfg.held_out.split(",") if path]
            refuse_leaks([stream.rows.file for stream, _ in streams], held_out)
        items: SampleDataset | MultiTaskDataset = streams[0][0]
        length = (self.cfg.epoch_items or mix.length) if training else None
        if len(streams) > 1 or length:
            items = MultiTaskDataset(streams, length=length, joint=mix.joint, seed=self.cfg.seed)
        self.datasets[split] = FairseqSamples(items, shuffle=training, seed=self.cfg.seed)
        self.faults.sizes.update(self.datasets[split].sizes)

    def get_batch_iterator(self, *args: Any, **kwargs: Any) -> CheckedBatches:
        """fairseq's, which counts the rows that cannot be used."""
        return CheckedBatches(super().get_batch_iterator(*args, **kwargs), self.faults)

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """fairseq's hook."""
        self.share_faults()

    def share_faults(self) -> None:
        """Tell the other processes which rows were set aside: together they may be too many."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, self.faults.rows())
            for rows in gathered:
                self.faults.add(rows)

    def has_sharded_data(self, split: str) -> bool:
        """Whether another epoch reads another file."""
        return not self.cfg.data.endswith(".json") and self.cfg.data.count(",") > 1

    def _mix(self, split: str, epoch: int) -> Mix:
        if self.cfg.data.endswith(".json"):
            return read_mix(self.cfg.data)
        return single(self.referring, self.cfg.data, split, epoch)

    def _stream(self, stream: Stream, split: str, training: bool) -> SampleDataset:
        root = Path(self.cfg.data_root or (Path(self.cfg.data).parent if self.cfg.data.endswith(".json") else ""))
        rows = ReferringDataset(
            root / stream.file.replace("{split}", split),
            stream.kind,
            columns=stream.columns,
            root=self.cfg.image_root or None,
            parts=self.cfg.part_maps and training,
            masks=any("mask" in known()[name].needs for name in stream.tasks),
            draft=self.cfg.draft,
        )
        one_task = stream.one_task and training
        cfg = self.cfg
        prompting = Prompting(cfg.by_region, cfg.by_point, cfg.loose_regions) if training else None
        asked = stream.tasks if one_task else dict.fromkeys(stream.tasks)  # a name said twice is drawn twice as often
        return SampleDataset(
            rows,
            [self._task(name) for name in asked],
            self.network.image_size,
            grouped=stream.grouped,
            one_task=one_task,
            augment=Augmentation(self.cfg.flip, self.cfg.zoom, self.cfg.colour, self.cfg.shrink) if training else None,
            seed=self.cfg.seed,
            mean=self.network.image_mean,
            std=self.network.image_std,
            prompting=prompting,
            set_aside=True,
            drop_idle=not training,
            points=cfg.by_point > 0,
        )

    def _task(self, name: str) -> Task:
        options: dict[str, Any] = {"max_target_words": self.cfg.max_tgt_length} if name == "rhrc" else {}
        if "mask" in known()[name].needs:
            if not self.vocabulary.mask_codes or self.mask_tokenizer is None:
                raise RefHCMError(
                    f"Task {name} answers masks: it needs --masks FOLDER (a mask tokenizer) and a model with mask "
                    "codes (python -m refhcm.models.add_codes)."
                )
            options["masks"] = self.mask_tokenizer
        return build(name, self.vocabulary, self.cfg.nobody, max_words=self.cfg.max_src_length, **options)


for _name in (*names(), MULTITASK):
    _made = type(f"{_name.title().replace('_', '')}FairseqTask", (ReferringTask,), {"referring": _name})
    register_task(_name, dataclass=TaskOptions)(_made)
