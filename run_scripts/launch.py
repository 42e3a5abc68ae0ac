"""torchrun, whose processes may be told to stop: it takes torchrun's own options.

torchrun gives its processes 30 s after a signal and calls a run that has saved and ended in order a failure. Here they
get the signal (SIGTERM, SIGUSR1, Ctrl-C) and their time, and the exit code is 0 where theirs all are, 130 after Ctrl-C.
"""

import signal
import subprocess
import sys

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
told: list[int] = []
"""Signals that have come."""


class Process(subprocess.Popen):
    """torchrun's processes, which signals are passed on to."""

    ours: list["Process"] = []  # noqa: RUF012

    def __init__(self, *given, **options) -> None:
        rank = "LOCAL_RANK" in (options.get("env") or {})
        if rank:
            listen()  # torchrun has just put its own handlers in place
        super().__init__(*given, **options)
        if rank:
            Process.ours.append(self)


def listen() -> None:
    """Take the signals, but for those that are to be ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)


def pass_on(number, frame) -> None:
    """What a signal does."""
    told.append(number)
    if not Process.ours:
        sys.exit(ending(0))
    for process in Process.ours:
        process.send_signal(number)


def ending(code: int) -> int:
    """The exit code, where that of the processes is `code`."""
    if code:
        return 128 + told[0] if told else code
    return 130 if told and told[0] == signal.SIGINT else 0


def main() -> None:
    """The command."""
    listen()
    subprocess.Popen = Process
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f"launch.py: process {rank} ended with code {failure.exitcode}; what it said is above", file=sys.stderr)
        sys.exit(ending(1))
    sys.exit(ending(0))


if __name__ == "__main__":
    main()
