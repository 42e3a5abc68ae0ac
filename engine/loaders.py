"""Signals in the loader processes of a run."""

from __future__ import annotations

import os
import signal
import threading

from torch.utils.data import get_worker_info

from ..stopping import SIGNALS

_loader = False
"""Whether this is a loader process that knows how to behave."""


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
