"""Score a model on held-out rendered scenes or on your own file.

    python evaluate.py                                       # the bundled model, 500 held-out scenes
    python evaluate.py --data testA.tsv --tasks rkpt --model FOLDER --out answers/testA
    python evaluate.py --checkpoint 'runs/*/checkpoint*.pt' --vocabulary FOLDER --data val.tsv --best-by acc@0.5
    python evaluate.py --score answers/testA                 # the figures again, without model and data
    torchrun --nproc_per_node 4 evaluate.py ...              # the same figures, from four processes

docs/evaluation.md says what the figures are and what is saved.
"""

import argparse
import sys
from collections.abc import Sequence

from launcher import RefHCMError


def options() -> argparse.ArgumentParser:
    """What can be given; the names are those of `inference.evaluate_job.Job`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what is scored")
    what.add_argument("--model", default="compact", help="'compact' or a model folder")
    several = "checkpoints of training runs, or model folders: each is scored, and the best named; quote patterns"
    what.add_argument("--checkpoint", nargs="+", default=[], metavar="PATH", help=several)
    what.add_argument("--vocabulary", metavar="FOLDER", help="with --checkpoint: where the runs' text tokenizer lies")
    what.add_argument("--label-map", metavar="FOLDER", help="with --checkpoint: the label-map tokenizer, for part maps")
    what.add_argument("--raw", action="store_true", help="with --checkpoint: the last weights, not the averaged ones")
    what.add_argument("--best-by", metavar="FIGURE", help="with --checkpoint: for example rec/box/acc@0.5")
    what.add_argument("--score", metavar="FOLDER", help="compute figures from answers that --out saved, and no more")

    asked = parser.add_argument_group("what is asked")
    asked.add_argument("--data", help="a TSV file (default: held-out scenes, made once)")
    asked.add_argument("--kind", help="its layout: rec, rkpt, rpar, rhrc or person (default: by its columns)")
    tasks = "any of rec, rkpt, rpar_full_mask, rpar, rhrc, s1, res, s1_mask, roi, grec, people (default: all that file "
    tasks += "and model can serve)"
    asked.add_argument("--tasks", nargs="+", default=[], help=tasks)
    asked.add_argument("--scenes", type=int, default=500, help="how many held-out scenes")
    mixed = "recipe of the held-out scenes, 1 (default) or 2; figures over different ones do not compare"
    asked.add_argument("--recipe", type=int, default=1, help=mixed)
    spread = "ask about so many rows, evenly spread (default: 2000 of held-out scenes, else all)"
    asked.add_argument("--limit", type=int, help=spread)
    how_scored = "own; uniphd: pose and mask as UniPHD scores RefHuman; presence: also whether anybody fits"
    asked.add_argument("--protocol", default="own", help=how_scored)
    each = "with grec and people: ask everyone who was found, by the box, for mask, keypoints, or both"
    asked.add_argument("--each", nargs="+", default=[], metavar="WHAT", help=each)
    ask = "how every question about one person is put: words, region (the box), loose (a loosely drawn box), point or "
    ask += "scribble (drawn on the person's mask); default: as each row asks"
    asked.add_argument("--ask", metavar="WAY", help=ask)
    asked.add_argument("--check", action="store_true", help="decode all pictures before the first question")

    how = parser.add_argument_group("how")
    how.add_argument("--beam", type=int, default=1)
    how.add_argument("--batch-size", type=int, default=16)
    how.add_argument("--workers", type=int, help="processes that read pictures (default: up to 4 with a GPU, else 0)")
    likeliest = "as the published evaluation: the likeliest bins and codes, part maps with stepped outlines (default: "
    likeliest += "the expectation around the likeliest bin, smooth outlines)"
    how.add_argument("--published-reading", action="store_true", help=likeliest)
    how.add_argument("--device", help="cpu, cuda, ...")
    how.add_argument("--dtype", help="float32 (default), bfloat16 or float16")

    java = "leave out METEOR and SPICE, which are computed where a Java is found (2 and 8 GB of memory)"
    how.add_argument("--no-java", action="store_true", help=java)

    result = parser.add_argument_group("what comes out")
    keep = "keep every answer here, one JSONL file per task; the same command goes on where it was cut off"
    result.add_argument("--out", metavar="FOLDER", help=keep)
    looked = "with --out: draw where the model looked in N of the questions, a page TASK.attention.html per task"
    result.add_argument("--attention", type=int, metavar="N", help=looked)
    result.add_argument("--json", metavar="FILE", help="write the figures here; --out puts them in figures.json too")
    result.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    given = options().parse_args(arguments)
    try:
        from refhcm.inference import evaluate_job as jobs
        from refhcm.inference.ranks import join, leave

        job = jobs.Job(**vars(given))
        jobs.check(job)
        try:
            with jobs.stoppable():
                return jobs.run(job, join())
        finally:
            leave()
    except (RefHCMError, OSError, ValueError) as error:
        if not getattr(error, "told", False):
            print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"evaluate: {stop or 'stopped before anything was asked.'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
