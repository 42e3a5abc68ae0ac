"""Train through fairseq, with RefHCM's tasks, models and loss registered.

    python train.py TRAIN.tsv,VALID.tsv --task rec --arch refhcm_large --criterion refhcm_loss ...
    torchrun --nproc_per_node 2 train.py ...

All options of fairseq-train work; ready-made recipes are in run_scripts/. `--cpu` trains without a GPU. SIGTERM,
SIGUSR1 and Ctrl-C save a checkpoint and end the run; the same command goes on (run_scripts/README.md).
"""

import os
import signal
import sys
from pathlib import Path

try:
    from refhcm.errors import RefHCMError
    from refhcm.stopping import SIGNALS, parent, stop
except ModuleNotFoundError:
    from launcher import RefHCMError  # says how to install the package

OWN = {"--distributed-backend"}
"""Of fairseq's options about processes, those that start none."""
PLUGIN = Path(__file__).resolve().parent / "engine" / "refhcm_plugin"


def main() -> None:
    """Hand the command line to fairseq; errors that a user can mend end as one sentence."""
    sys.argv += added(sys.argv)
    parent.follow()
    try:
        with stop.listening():  # before the imports, which take seconds
            from refhcm.engine import survival  # mends fairseq, so it comes before fairseq

            survival.install()
            from fairseq_cli.train import cli_main  # isort: skip

            cli_main()
            if stop.done:
                sys.exit(stop.exit_code)
    except (RefHCMError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"train.py: {sentence(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def added(arguments: list[str]) -> list[str]:
    """Options that every run needs and that were not given."""
    given = {argument.partition("=")[0] for argument in arguments}
    more = [] if "--user-dir" in given else ["--user-dir", str(PLUGIN)]
    if "--ignore-unused-valid-subsets" not in given:  # fairseq takes the data for a folder and lists it
        more.append("--ignore-unused-valid-subsets")
    # fairseq would start a process for each GPU it sees, and they would know nothing of what this one has mended.
    if "WORLD_SIZE" not in os.environ and not any(argument.startswith("--distributed-") for argument in given - OWN):
        more += ["--distributed-world-size", "1"]
    return more


def sentence(error: Exception) -> str:
    """What an error says; a loader process wraps that in its traceback, whose last line it is."""
    text = str(error).strip()
    if "Original Traceback" not in text:
        return text
    kind, _, said = text.splitlines()[-1].partition(": ")
    return said or kind


if __name__ == "__main__":
    try:
        main()
    finally:
        if stop.asked:  # twice is not more: what is left to do is to end, with the code that says so
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
