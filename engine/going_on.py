"""Going on from a checkpoint: which one, and for how much longer (run_scripts/README.md, "Stopping and going on")."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq.dataclass import FairseqDataclass
from fairseq.optim.lr_scheduler import build_lr_scheduler
from omegaconf import OmegaConf

from ..errors import RefHCMError
from . import saving

OWN = "refhcm"
"""Under this name a checkpoint's `extra_state` keeps what fairseq does not."""
logger = logging.getLogger(__name__)


@dataclass
class GoingOnOptions(FairseqDataclass):
    """Command-line options."""

    resume: str = field(
        default="",
        metadata={
            "help": "begin from this checkpoint of any run (or the last of this folder): weights, optimizer, schedule "
            "and place in the data; started again, the run goes on from its own last checkpoint"
        },
    )
    more_epochs: int = field(
        default=0,
        metadata={
            "help": "train for N epochs from the checkpoint that is gone on from (one that it has begun comes first), "
            "in place of --max-epoch and --max-update; the schedule ends there"
        },
    )
    more_updates: int = field(default=0, metadata={"help": "the same for N updates"})
    max_nonfinite: int = field(
        default=10,
        metadata={
            "help": "updates among the latest 1,000 that may be skipped because loss or gradient is not finite; "
            "one more stops the run"
        },
    )


def option(cfg: Any, name: str) -> Any:
    """An option above, of a run of any task: others do not have them and get the default."""
    return getattr(cfg.task, name, GoingOnOptions.__dataclass_fields__[name].default)


# -- from where ----------------------------------------------------------------------------------------------
def choose(last: Path, resume: str) -> tuple[Path, str]:
    """The checkpoint to go on from, and the fingerprint of that of `--resume` ("": there is none).

    `last` is the run's own last checkpoint, which need not exist; if it is damaged, the newest whole one beside it
    stands in. It precedes `resume`, if it comes from there. RefHCMError where none can be read.
    """
    saving.remove_unfinished(last.parent)
    source, mark = None, ""
    if resume:
        source = Path(resume) / last.name if Path(resume).is_dir() else Path(resume)
        if not source.is_file():
            raise FileNotFoundError(f"There is no checkpoint at {source} (--resume).")
        if last.exists() and source.samefile(last):
            source = None
        else:
            saving.check(source)
            saving.check_run(source)
            mark = saving.fingerprint(source)
    if not last.exists():
        others = [] if resume else sorted(last.parent.glob("checkpoint*.pt"))
        if others:
            logger.warning("%s is missing: beginning anew; --resume %s would go on from there", last, others[0])
        return source or last, mark
    own = _own_last(last, can_do_without=source is not None)
    if source is None:
        assert own is not None
        return own, mark
    if own is not None and began_from(own) == mark:
        logger.info("%s began from %s: going on from the former", own, source)
        return own, mark
    return source, mark


def _own_last(last: Path, can_do_without: bool) -> Path | None:
    try:
        saving.check(last)
        return last
    except (RefHCMError, OSError):
        newest = saving.newest_whole(last.parent)
        if newest is None and not can_do_without:
            raise
    if newest is not None:
        logger.warning(
            "%s is cut short or damaged: going on from %s, the newest whole checkpoint, after %d updates", last, *newest
        )
        return newest[0]
    return None


def began_from(path: Path) -> str:
    """The fingerprint of the checkpoint that a run was begun from with --resume."""
    state = saving.peek(path)
    target = (state or {"extra_state": {}})["extra_state"].get(OWN, {}).get("target")
    return str(target["resumed"]) if target else ""


def check_fits(path: Path, model: Any, described: Mapping[str, Any]) -> None:
    """RefHCMError unless a checkpoint holds the weights of such a model; `described`: what its own would say of it."""
    state = saving.peek(path)
    if state is None:  # it says itself what is wrong with it
        return
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state["model"].items()}
    if found == shapes:
        return
    theirs = (state.get("task_state") or {}).get(OWN) or {}
    differences = [
        f"{name} {told.get(name, 'none')} there, {value} here"
        for told, ours in ((theirs.get("model") or {}, described["model"]), (_adapters(theirs), _adapters(described)))
        for name, value in ours.items()
        if told.get(name) != value and "drop" not in name
    ]
    if not differences:
        name = min({*found.items()} ^ {*shapes.items()})[0]
        differences = [f"{name} is {found.get(name, 'not')} there, {shapes.get(name, 'not')} here"]
    raise RefHCMError(
        f"{path} is of another model than this run's: {', '.join(differences[:5])}. Go on with the options it was "
        "begun with (--arch, --lora-r, ...), or name another --save-dir and take its weights alone with --init-from."
    )


def _adapters(described: Mapping[str, Any]) -> dict[str, Any]:
    return {"--lora-r": (described.get("lora") or {}).get("r", 0)}


# -- how much longer -----------------------------------------------------------------------------------------
def set_target(trainer: Any, batches: Any) -> bool:
    """Put the end of the run where --more-epochs or --more-updates want it; whether it has been moved by that.

    They count from the checkpoint that trainer and `batches` (fairseq's iterator over epochs) have just been filled
    from. A run that already goes on by the same command keeps its end, so that it may be killed and started again.
    """
    epochs, updates = option(trainer.cfg, "more_epochs"), option(trainer.cfg, "more_updates")
    if min(epochs, updates) < 0 or (epochs and updates):
        raise RefHCMError("Give one of --more-epochs and --more-updates, above 0.")
    asked = {"resumed": trainer.resumed, "more_epochs": epochs, "more_updates": updates}
    before = trainer.target or {}
    done = trainer.get_num_updates()
    kept = (
        all(before.get(name) == value for name, value in asked.items())
        and done < before["last_update"]
        and (not epochs or batches.next_epoch_idx <= before["last_epoch"])
    )
    trainer.target = before if kept else asked | {"last_epoch": 0, "last_update": 0}
    if not epochs and not updates:
        return False
    if not kept:
        last_epoch, left = _left(trainer.cfg, batches, epochs) if epochs else (0, updates)
        trainer.target |= {"last_epoch": last_epoch, "last_update": done + left}
    last_epoch, last_update = trainer.target["last_epoch"], trainer.target["last_update"]
    trainer.cfg.optimization.max_epoch = last_epoch
    trainer.cfg.optimization.max_update = 0 if epochs else last_update
    stretched = _end_schedule(trainer, last_update)
    trainer.lr_step(batches.next_epoch_idx)
    logger.info(
        "going on after %d updates, to %s update %d; the learning rate's schedule %s",
        done,
        f"the end of epoch {last_epoch}, about" if epochs else "the end of",
        last_update,
        "ends there too" if stretched else "has no end to move",
    )
    return not kept


def _left(cfg: Any, batches: Any, epochs: int) -> tuple[int, int]:
    """The last epoch, and the updates until its end."""
    current, begun = batches.next_epoch_idx, batches.iterations_in_epoch
    frequencies = cfg.optimization.update_freq
    whole = math.floor if cfg.optimization.skip_remainder_batch else math.ceil

    def updates(epoch: int, skipped: int = 0) -> int:
        return whole((len(batches) - skipped) / frequencies[min(epoch, len(frequencies)) - 1])

    last = current + epochs - (0 if begun else 1)
    return last, updates(current, begun) + sum(updates(epoch) for epoch in range(current + 1, last + 1))


def _end_schedule(trainer: Any, last_update: int) -> bool:
    """Let the scheduler end at an update; whether it has an end."""
    settings = OmegaConf.to_container(trainer.cfg.lr_scheduler, resolve=True)
    assert isinstance(settings, dict)
    name = settings["_name"]
    if name == "polynomial_decay":
        settings["total_num_update"] = last_update
    elif (name == "cosine" and settings["lr_period_updates"] <= 0) or (name == "tri_stage" and settings["phase_ratio"]):
        settings["max_update"] = last_update
    else:
        return False
    state = trainer.lr_scheduler.state_dict()
    trainer._lr_scheduler = build_lr_scheduler(OmegaConf.create(settings), trainer.optimizer)
    trainer.lr_scheduler.load_state_dict(state)
    return True
