"""Train through fairseq, with RefHCM's tasks, models and loss registered.

    python train.py TRAIN.tsv,VALID.tsv --task rec --arch refhcm_large --criterion refhcm_loss ...
    torchrun --nproc_per_node 2 train.py ...

All options of fairseq-train work; ready-made recipes are in run_scripts/. `--cpu` trains without a GPU. SIGTERM,
SIGUSR1 and Ctrl-C save a checkpoint and end the run; the same command goes on (run_scripts/README.md).
"""

import sys
from pathlib import Path

try:
    from refhcm.errors import RefHCMError
except ModuleNotFoundError:
    from launcher import RefHCMError  # says how to install the package

PLUGIN = Path(__file__).resolve().parent / "engine" / "refhcm_plugin"


def main() -> None:
    """Hand the command line to fairseq; errors that a user can mend end as one sentence."""
    if not any(argument.partition("=")[0] == "--user-dir" for argument in sys.argv):
        sys.argv += ["--user-dir", str(PLUGIN)]
    if "--ignore-unused-valid-subsets" not in sys.argv:  # fairseq takes the data for a folder and lists it
        sys.argv.append("--ignore-unused-valid-subsets")
    try:
        from refhcm.engine.stopping import stop  # importing the engine mends fairseq, so it comes before fairseq

        with stop.listening():
            from refhcm.engine import survival  # isort: skip

            survival.install()
            from fairseq_cli.train import cli_main  # isort: skip

            cli_main()
            if stop.done:
                sys.exit(stop.exit_code)
    except (RefHCMError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"train.py: {sentence(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def sentence(error: Exception) -> str:
    """What an error says; a loader process wraps that in its traceback, whose last line it is."""
    text = str(error).strip()
    if "Original Traceback" not in text:
        return text
    kind, _, said = text.splitlines()[-1].partition(": ")
    return said or kind


if __name__ == "__main__":
    main()
