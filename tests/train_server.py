"""Training runs in processes of their own, which may be killed: one process imports everything and forks for each run.

As a script it reads lines of JSON, each a list of runs to start together: `{"options": [...], "log": path,
"hook": {...}}`, and answers with the list of their exit codes. `hook` does `signal` to the run itself at some moment:

    {"at": "update", "number": n}        before update n+1       {"at": "valid", "number": n}   in the n-th valid step
    {"at": "write", "number": n, "byte": b}   after b bytes of the n-th file     {"at": "copy", "number": n}  before it
    {"at": "poison", "rows": [...]}      no signal: losses of batches with these rows are not finite

and `{..., "and": hook}` does both.
"""

import json
import os
import signal
import subprocess
import sys
from functools import wraps
from pathlib import Path
from typing import Any


class TrainServer:
    """The other end of the script."""

    def __init__(self) -> None:
        folders = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": folders},
        )  # fmt: skip

    def run(self, *runs: dict[str, Any]) -> list[int]:
        """Exit codes; -9 is a process that was killed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(runs) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def serve() -> None:
    """Until stdin ends."""
    import torch
    import torch._dynamo  # these two processes would import at each of their runs
    import torch.distributed.tensor
    from test_engine_training import TINY

    import refhcm.train
    from refhcm.engine import register, survival  # noqa: F401
    from refhcm.models import config

    torch.set_num_threads(1)
    config.PRESETS["compact"] = TINY
    survival.install()
    warm_up()
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        children = []
        for run in json.loads(line):
            child = os.fork()
            if not child:
                log = os.open(run["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(log, 1)
                os.dup2(log, 2)
                set_hook(run.get("hook"))
                sys.argv = ["train.py", *run["options"]]
                refhcm.train.main()
                return
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), file=answers, flush=True)


def warm_up() -> None:
    """What every run does with its options is quicker the second time in a process, and in its children."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    given = ["mix.json", "--task", "multitask", "--arch", "refhcm_compact", "--criterion", "refhcm_loss"]
    given += ["--optimizer", "adam", "--lr-scheduler", "polynomial_decay", "--total-num-update", "1"]
    convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), given))


def set_hook(hook: dict[str, Any] | None) -> None:
    """See the head of this file."""
    from refhcm.engine import criterion, saving, trainer

    if hook is None:
        return
    set_hook(hook.get("and"))
    if hook["at"] == "poison":
        before(criterion.RefHCMLoss, "forward", lambda *_: None, after=lambda given, out: poison(hook, given, out))
        return
    calls = {"update": (trainer.SafeTrainer, "train_step"), "valid": (trainer.SafeTrainer, "valid_step"),
             "copy": (saving, "copy_checkpoint"), "write": (saving._Recording, "write")}  # fmt: skip
    before(*calls[hook["at"]], Moment(hook))


def poison(hook: dict[str, Any], given: tuple[Any, ...], out: tuple[Any, ...]) -> tuple[Any, ...]:
    criterion, _, sample, *_ = given
    wrong = criterion.training and set(sample["id"]) & set(hook["rows"])
    return (out[0] * float("nan"), *out[1:]) if wrong else out


class Moment:
    """Counts calls until the moment has come."""

    def __init__(self, hook: dict[str, Any]) -> None:
        self.hook, self.calls, self.files, self.written = hook, 0, [], 0

    def __call__(self, thing: Any, *arguments: Any) -> None:
        self.calls += 1
        if self.hook["at"] == "update":
            come = thing.get_num_updates() == self.hook["number"]
        elif self.hook["at"] == "write":
            if thing not in self.files:
                self.files.append(thing)
                self.written = 0
            self.written += len(bytes(arguments[0]))
            come = len(self.files) == self.hook["number"] and self.written > self.hook["byte"]
            if come:
                thing.file.write(bytes(arguments[0])[:100])
                thing.file.flush()
        else:
            come = self.calls == self.hook["number"]
        if come:
            os.kill(os.getpid(), getattr(signal, self.hook["signal"]))


def before(place: Any, name: str, action: Any, after: Any = None) -> None:
    original = getattr(place, name)

    @wraps(original)
    def wrapper(*given: Any, **options: Any) -> Any:
        action(*given)
        out = original(*given, **options)
        return out if after is None else after(given, out)

    setattr(place, name, wrapper)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    serve()
