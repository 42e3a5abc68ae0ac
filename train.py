"""Train through fairseq, with RefHCM's tasks, models and loss registered.

    python train.py TRAIN.tsv,VALID.tsv --task rec --arch refhcm_large --criterion refhcm_loss ...
    torchrun --nproc_per_node 2 train.py ...

All options of fairseq-train work; ready-made recipes are in run_scripts/. `--cpu` trains without a GPU.
"""

import sys
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent / "engine" / "refhcm_plugin"


def main() -> None:
    """Hand the command line to fairseq; errors that a user can mend end as one sentence."""
    from refhcm import engine  # noqa: F401  (mends fairseq, so it comes before any import of it)
    from refhcm.errors import RefHCMError

    if not any(argument.partition("=")[0] == "--user-dir" for argument in sys.argv):
        sys.argv += ["--user-dir", str(PLUGIN)]
    if "--ignore-unused-valid-subsets" not in sys.argv:  # fairseq takes the data for a folder and lists it
        sys.argv.append("--ignore-unused-valid-subsets")
    from fairseq_cli.train import cli_main

    try:
        cli_main()
    except RefHCMError as error:
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    main()
