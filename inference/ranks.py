"""The processes of one evaluation: one, or those that torchrun started, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..errors import RefHCMError
from ..stopping import parent

Value = TypeVar("Value")
EXPECTED = (RefHCMError, OSError)
_PATIENCE = timedelta(days=2)
"""How long a process waits for another, which may have far more to do. torchrun ends all of them when one fails."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; the first of them, rank 0, writes, scores and prints."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Which of this machine's processes."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def first(self, make: Callable[[], Value]) -> Value:
        """What `make` gives in rank 0, in every process; its RefHCMError or OSError is raised in every process."""
        if self.world == 1:
            return make()
        box: list[Any] = [None, None]
        if self.leads:
            try:
                box[0] = make()
            except EXPECTED as error:
                box[1] = error
        dist.broadcast_object_list(box)  # the sender is our own process
        if box[1] is not None:
            raise self._shared(box[1])
        return box[0]

    def together(self, make: Callable[[], Value], errors: tuple[type[Exception], ...] = EXPECTED) -> Value:
        """What `make` gives, in each process its own; one of these errors in any of them is raised in all."""
        if self.world == 1:
            return make()
        kept: list[Value] = []
        problem: Exception | None = None
        try:
            kept.append(make())
        except errors as error:
            problem = error
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, problem)
        problem = next((error for error in found if error is not None), None)
        if problem is not None:
            raise self._shared(problem)
        return kept[0]

    def _shared(self, error: Exception) -> Exception:
        """An error that every process raises, for rank 0 to tell."""
        error.told = not self.leads  # type: ignore[attr-defined]
        return error

    def lead(self, make: Callable[[], Value]) -> Value | None:
        """As `first`, for what is too large to pass on: only rank 0 gets it, the others None."""
        kept: list[Value] = []
        self.first(lambda: kept.append(make()))
        return kept[0] if kept else None

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes in rank 0, in order of ranks; an empty list in the others. All wait for it."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world if self.leads else []
        dist.gather_object(value, found if self.leads else None)
        return found

    def device(self, device: str | torch.device | None) -> str | torch.device | None:
        """The device of this process, where none or no particular GPU is asked for and each process has its own."""
        shared = device in (None, "cuda") and self.world > 1 and torch.cuda.is_available()
        return f"cuda:{self.local % torch.cuda.device_count()}" if shared else device


def join() -> Ranks:
    """This process among those that torchrun started with it, and with which it ends; alone where it was started by
    itself."""
    parent.follow()
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)  # only a few words pass between them
    return Ranks(_number("RANK", 0), world, _number("LOCAL_RANK", 0))


def leave() -> None:
    """End what `join` began."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _number(name: str, missing: int) -> int:
    try:
        return int(os.environ.get(name, missing))
    except ValueError as error:
        raise RefHCMError(f"The environment variable {name} is no number: start with torchrun, or unset it.") from error
