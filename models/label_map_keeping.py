"""How the training of a label-map tokenizer survives: beside the tokenizer it keeps all that it needs to go on as if it
had never stopped, in one file of plain numbers (`label_map.training.pt`, `mask.training.pt`). Files take their names
only when they are whole.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import RefHCMError
from ..stopping import parent, stop
from .label_map import LabelMapConfig, LabelMapTokenizer
from .label_map_codebook import CodebookAverage
from .label_map_files import name_of, save_label_map
from .processes import Processes

EVERY = 200
"""Steps between two savings."""


def state_path(folder: str | Path, config: LabelMapConfig) -> Path:
    """Where the state of a training is kept."""
    return Path(folder) / f"{name_of(config)}.training.pt"


def checksum(people: Sequence[np.ndarray]) -> str:
    """What other label maps do not have."""
    total = 0
    for labels in people:
        total = zlib.crc32(labels.tobytes(), zlib.crc32(repr(labels.shape).encode(), total))
    return f"{len(people)} of checksum {total:08x}"


class Moving:
    """All that changes from step to step."""

    def __init__(
        self,
        tokenizer: LabelMapTokenizer,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        rng: np.random.Generator,
        average: CodebookAverage | None,
        processes: Processes,
    ) -> None:
        """`rng` draws the crops of this process; everything else is alike in all of them."""
        self.tokenizer, self.rng, self.average, self.processes = tokenizer, rng, average, processes
        self.parts: dict[str, Any] = {"tokenizer": tokenizer, "optimizer": optimizer, "schedule": schedule}

    def state(self) -> dict[str, Any]:
        """Of all processes; all call it."""
        own: dict[str, Any] = {"crops": self.rng.bit_generator.state, "torch": torch.get_rng_state()}
        if self.processes.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.processes.device)
        if self.average is not None:
            own["recent"] = [vectors.cpu() for vectors in self.average.recent]
        state = {name: part.state_dict() for name, part in self.parts.items()}
        if self.average is not None:
            state["codebook"] = {name: getattr(self.average, name) for name in ("counts", "sums", "started")}
        return {**state, "each": self.processes.collect(own)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put everything where it was."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        own = state["each"][self.processes.rank]
        self.rng.bit_generator.state = own["crops"]
        torch.set_rng_state(own["torch"])
        if "cuda" in own and self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.processes.device)
        if self.average is not None:
            self.average.counts.copy_(state["codebook"]["counts"])
            self.average.sums.copy_(state["codebook"]["sums"])
            self.average.started = state["codebook"]["started"]
            self.average.recent = [vectors.to(self.processes.device) for vectors in own["recent"]]


class Keeper:
    """Saves a training now and then, and when a signal asks it to stop; without a path it keeps nothing."""

    def __init__(self, path: Path | None = None, every: int = EVERY, resume: bool = False) -> None:
        """`resume`: go on from what is there, if anything is."""
        self.path, self.every, self.resume = path, every, resume
        self.facts: dict[str, Any] = {}

    def begin(self, moving: Moving, facts: Mapping[str, Any]) -> int:
        """The step to begin with. `facts` are plain values that a training keeps from its first step to its last;
        RefHCMError where what is gone on from has others, or cannot be read.
        """
        self.facts = dict(facts)
        if self.path is None or not self.path.is_file():
            return 0
        leads = moving.processes.leads
        if not self.resume:
            if leads:
                print(f"beginning anew; --resume would go on from {self.path}", flush=True)
            return 0
        state = self._read(self.path)
        moving.load(state)
        if leads:
            print(f"going on after {state['step']} steps", flush=True)
        return int(state["step"])

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            facts = state["facts"]
        except Exception as error:  # what torch raises depends on where the damage lies
            raise RefHCMError(
                f"{path} cannot be gone on from, it is damaged: leave --resume out to begin anew."
            ) from error
        ours = self.facts.items()
        other = [f"{name} {facts.get(name)} there, {value} here" for name, value in ours if facts.get(name) != value]
        if other:
            raise RefHCMError(
                f"{path} was begun otherwise ({'; '.join(other)}): go on with the same options and data, or leave "
                "--resume out to begin anew."
            )
        return state

    def after(self, done: int, steps: int, moving: Moving) -> None:
        """After each step, in all processes: save where it is time, at the end, and where a signal has come to any of
        them; that ends all (SystemExit)."""
        parent.check()
        asked = moving.processes.any(stop.asked)
        if asked or done == steps or done % self.every == 0:
            self.save(done, moving)
        if asked and done < steps:
            if moving.processes.leads and self.path is not None:
                print(f"stopped after {done} steps; the same command with --resume goes on from there", flush=True)
            raise SystemExit(stop.exit_code)

    def save(self, done: int, moving: Moving) -> None:
        """After `done` steps; all processes call it, the first writes: the tokenizer too, once it has codes."""
        if self.path is None:
            return
        state = {"step": done, "facts": self.facts, **moving.state()}
        if not moving.processes.leads:
            return
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)
        if moving.average is None or moving.average.started:
            save_label_map(self.path.parent, moving.tokenizer)
