"""Score a model on held-out rendered scenes or on your own file.

    python evaluate.py                                       # the bundled model, 500 held-out scenes
    python evaluate.py --data testA.tsv --kind rkpt --tasks rkpt --model FOLDER

Prints one table per task and, with --json, writes all figures.
"""

import argparse
import json
import sys
from pathlib import Path

from launcher import RefHCMError

ROOT = Path(__file__).resolve().parent
HELD_OUT_SEED = 77
TASKS = ("rec", "rkpt", "rpar_full_mask", "rhrc", "s1")


def held_out(count: int) -> Path:
    """Make (once) the held-out scenes from the people of the test split that come with the code."""
    from refhcm.data.scenes.write import Plan, write_scenes

    folder = ROOT / ".cache" / f"held-out-{HELD_OUT_SEED}-{count}"
    plan = Plan(folder, "test", count, HELD_OUT_SEED, "mixed", (ROOT / "dataset" / "held_out_people",), images="files")
    if not (folder / "done").exists():
        print(f"Making {count} held-out scenes in {folder} ...", file=sys.stderr)
        write_scenes(plan, workers=2)
        (folder / "done").touch()
    return folder / "test" / "person.tsv"


def show(result: object) -> None:
    """Print the figures of one task."""
    print(f"\n{result.task}: {result.samples} questions, {result.invalid} invalid answers")
    for name, value in result.scores.items():
        if not name.endswith("/samples"):
            print(f"  {name:<28}{value:.4f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compact", help="'compact' or a model folder")
    parser.add_argument("--data", help="a TSV file (default: held-out scenes, made once)")
    parser.add_argument("--kind", default="person", help="its layout: rec, rkpt, rpar, rhrc or person")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help=f"any of {', '.join(TASKS)}, rpar")
    parser.add_argument("--scenes", type=int, default=500, help="how many held-out scenes")
    parser.add_argument(
        "--limit", type=int, help="score so many rows, evenly spread (default: 2000 of held-out scenes, else all)"
    )
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    given = parser.parse_args()
    from refhcm import load
    from refhcm.inference.evaluation import evaluate

    try:
        model = load(given.model, given.device)
        data = Path(given.data) if given.data else held_out(given.scenes)
        results = []
        for task in given.tasks:
            limit = given.limit or (None if given.data else 2000)
            options = {"beam": given.beam, "batch_size": given.batch_size, "limit": limit}
            results.append(evaluate(model, data, given.kind, task, **options))
            show(results[-1])
    except (RefHCMError, OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    if given.json:
        Path(given.json).write_text(json.dumps([vars(result) for result in results], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
