"""How a process of training ends: on a signal, or with the process that started it.

SIGTERM (preemption), SIGUSR1 (SLURM's `--signal`) and SIGINT (Ctrl-C) let the running update end, have a checkpoint
written, and end the run in order. Of several processes one may be told alone, so each only remembers; that they stop,
and when, is agreed upon with what they exchange at every update anyway.

Importing this loads nothing heavy, so that a process can listen from its first moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
_IMPATIENT = 3
"""Ctrl-C that often ends the run at once. Not the second time: torchrun passes on what the terminal has sent to all."""
_PR_SET_PDEATHSIG = 1
"""Of Linux's <sys/prctl.h>."""


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
        """0, or 130 as the shell has it after Ctrl-C; torchrun takes all but 0 for a failure, and says 130 itself."""
        return 130 if self.signal == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ else 0

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
    dist = sys.modules.get("torch.distributed")
    if dist is not None and hasattr(dist, "is_initialized") and dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    counts = [os.environ.get(name, "1") for name in ("WORLD_SIZE", "SLURM_NTASKS")]
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in ("--distributed-init-method", "--distributed-port"):
            return True
        if name == "--distributed-world-size":
            counts.append(value or following)
    return any(count not in ("", "1") for count in counts)


def _say(sentence: str) -> None:
    """To stderr, without a buffer: a signal may come in the middle of any print."""
    with contextlib.suppress(OSError):
        os.write(2, f"{os.path.basename(sys.argv[0])}: {sentence}\n".encode())


stop = Stop()
"""Of this process."""


class Parent:
    """The process that has started this one, where that is torchrun: what it leaves behind when it is killed would
    train on, in the folder that its successor trains in."""

    def __init__(self) -> None:
        self._number: int | None = None

    def follow(self) -> None:
        """End at once when it does; where the system cannot do that, `check` does. Nothing without WORLD_SIZE."""
        if "WORLD_SIZE" not in os.environ:
            return
        self._number = os.getppid()
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    def check(self) -> None:
        """To be called now and then: end this process if its parent has ended."""
        if self._number is not None and os.getppid() != self._number:
            _say("the process that started this one has ended, and so does this one")
            os._exit(1)


parent = Parent()
"""Of this process."""
