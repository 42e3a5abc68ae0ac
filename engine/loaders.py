"""Stopping on a signal: SIGTERM (preemption), SIGUSR1 (SLURM's `--signal`) and SIGINT (Ctrl-C) let the running update
end, have a checkpoint written, and end the run in order.

Of several processes one may be told alone, so each only remembers; that they stop, and when, is agreed upon with the
figures that they add up at every update anyway (`engine.trainer`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import torch.distributed as dist
from torch.utils.data import get_worker_info

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
_IMPATIENT = 3
"""Ctrl-C that often ends the run at once. Not the second time: torchrun passes on what the terminal has sent to all."""
_loader = False
"""Whether this is a loader process that knows how to behave."""


class Stop:
    """What signals ask of this process."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.signal: int | None = None
        self.training = self.done = False
        self.interrupts = 0

    @property
    def asked(self) -> bool:
        """Whether this process was told to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """0, or 130 as the shell has it after Ctrl-C."""
        return 130 if self.signal == signal.SIGINT else 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals until the end of the block; those that this process is to ignore stay ignored."""
        self._begin()
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._told)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told(self, number: int, frame: FrameType | None) -> None:
        self.interrupts += number == signal.SIGINT
        name = signal.Signals(number).name
        if self.signal is None:
            self.signal = number
            if not self.training and not _one_of_several():
                _say(f"{name} before the first update: nothing is to be saved")
                raise SystemExit(self.exit_code)
            _say(f"{name}: stopping after this update, with a checkpoint")
        elif self.interrupts >= _IMPATIENT:
            _say("stopping at once; what came after the last checkpoint is lost")
            raise KeyboardInterrupt


def _one_of_several() -> bool:
    """Whether other processes would wait for this one, also while it has not met them yet."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    counts = (os.environ.get(name, "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    meeting = ("--distributed-world-size", "--distributed-init-method", "--distributed-port")
    return any(count not in ("", "1") for count in counts) or any(word.startswith(meeting) for word in sys.argv)


def _say(sentence: str) -> None:
    """To stderr, without a buffer: a signal may come in the middle of any print."""
    with contextlib.suppress(OSError):
        os.write(2, f"train.py: {sentence}\n".encode())


stop = Stop()
"""Of this process."""


def shelter_loader() -> None:
    """In a loader process: leave signals to the process that trains, which still needs batches, or time to save.

    SLURM and terminals signal all processes. torch lets a loader die of SIGTERM, and the training process then fails
    where it stands; only what its parent sends may end it.
    """
    global _loader
    if _loader or get_worker_info() is None:
        return
    _loader = True
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "sigwaitinfo"):
        return
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
