"""The processes of a training that torchrun started: one per GPU, on one machine or several; or one alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import RefHCMError
from ..stopping import parent


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is, and its device. Every method must be called by all of them."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """The rows `[n, ...]` of all processes in order of ranks, `[count * n, ...]`; n is the same everywhere."""
        if self.count == 1:
            return rows
        found = [torch.empty_like(rows) for _ in range(self.count)]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)

    def collect(self, value: Any) -> list[Any]:
        """What each process has, in order of ranks, in all of them."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def stretch(self, count: int) -> slice:
        """The part of so many things that is this process's, about as long as that of the others, in order of ranks."""
        return slice(count * self.rank // self.count, count * (self.rank + 1) // self.count)

    def any(self, flag: bool) -> bool:
        """Whether that is so in any process."""
        if self.count == 1:
            return flag
        number = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(number)
        return bool(number)

    def follow(self, *tensors: Tensor) -> None:
        """Overwrite these tensors with those of rank 0."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def share(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over all processes (torch's DistributedDataParallel)."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, [self.device] if self.device.type == "cuda" else None)


ALONE = Processes()
"""A training in one process, on the CPU."""


def find_device(name: str | None = None) -> torch.device:
    """The device of that name; without one a GPU where there is one. RefHCMError for a device that is not here."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise RefHCMError(f"{name!r} is no device: name cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RefHCMError("There is no CUDA device here: leave --device out, or say --device cpu.")
    return device


def join(device: str | None = None) -> Processes:
    """This process among those that torchrun started with it, each on a GPU of its own unless a device is named.

    It ends with torchrun. RefHCMError for a device that is not here.
    """
    parent.follow()
    rank, count, local = (int(os.environ.get(name, value)) for name, value in _VARIABLES.items())
    where = find_device(device)
    if where.type == "cuda":
        where = torch.device("cuda", local % torch.cuda.device_count()) if count > 1 else where
        torch.cuda.set_device(where)
    if count > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return Processes(rank, count, where)


_VARIABLES = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def leave() -> None:
    """End what `join` began."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
