"""Score a model on held-out rendered scenes or on your own file.

    python evaluate.py                                       # the bundled model, 500 held-out scenes
    python evaluate.py --data testA.tsv --kind rkpt --tasks rkpt --model FOLDER

Prints one table per task and, with --json, writes all figures.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher import RefHCMError

ROOT = Path(__file__).resolve().parent
PEOPLE = ROOT / "dataset" / "held_out_people"
HELD_OUT_SEED = 77
HELD_OUT_LIMIT = 2000
TASKS = ("rec", "rkpt", "rpar_full_mask", "rhrc", "s1")


def fingerprint() -> str:
    """Short digest of what held-out scenes are made from: the people's files and the generator's code."""
    digest = hashlib.sha256()
    for path in sorted(PEOPLE.iterdir()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    for path in sorted((ROOT / "data" / "scenes").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def held_out(count: int) -> Path:
    """Make (once per `fingerprint`) the held-out scenes from the people of the test split that come with the code."""
    from refhcm.data.scenes.write import Plan, write_scenes

    folder = ROOT / ".cache" / f"held-out-{HELD_OUT_SEED}-{count}-{fingerprint()}"
    plan = Plan(folder, "test", count, HELD_OUT_SEED, "mixed", (PEOPLE,), images="files")
    if not (folder / "done").exists():
        print(f"Making {count} held-out scenes in {folder} ...", file=sys.stderr)
        write_scenes(plan, workers=2)
        (folder / "done").touch()
    return folder / "test" / "person.tsv"


def show(result: object) -> None:
    """Print the figures of one task."""
    print(f"\n{result.task}: {result.samples} questions, {result.invalid} invalid answers")
    for reason, count in result.left_out.items():
        print(f"  not asked: {count} rows that {reason}")
    for name, value in result.scores.items():
        if not name.endswith("/samples"):
            print(f"  {name:<28}{value:.4f}")


def check(given: argparse.Namespace) -> None:
    """Refuse, before anything costs time, what could only fail later; choose the tasks where none are given."""
    from refhcm.data.shards import is_shards
    from refhcm.inference.evaluation import check_tasks, fitting_tasks

    given.tasks = given.tasks or [name for name in TASKS if name in fitting_tasks(given.kind)]
    check_tasks(given.kind, given.tasks)
    for name in ("scenes", "limit", "beam", "batch_size"):
        number = getattr(given, name)
        if number is not None and number < 1:
            raise RefHCMError(f"--{name.replace('_', '-')} is {number}: it must be 1 or more.")
    if given.data and not is_shards(given.data) and not Path(given.data).is_file():
        raise RefHCMError(f"There is no dataset file at {given.data}: check the path.")
    if not given.data and given.kind != "person":
        raise RefHCMError(f"Held-out scenes are of the kind person, not {given.kind}: name a file with --data as well.")
    if given.json and (Path(given.json).is_dir() or not Path(given.json).parent.is_dir()):
        raise RefHCMError(f"--json {given.json} cannot be written: name a file in a folder that exists.")


def run(given: argparse.Namespace) -> None:
    """Score the tasks one after the other."""
    from refhcm import load
    from refhcm.data.dataset import ReferringDataset
    from refhcm.inference.evaluation import check_model, choose_rows, evaluate, task_rows

    data = Path(given.data) if given.data else held_out(given.scenes)
    limit = given.limit or (None if given.data else HELD_OUT_LIMIT)
    rows = ReferringDataset(data, given.kind)
    counts = {task: choose_rows(rows, limit, task_rows(rows, task)[0]) for task in given.tasks}
    model = load(given.model, given.device)
    check_model(model, given.tasks)
    told = {task: f"{len(chosen)} questions about {pictures}" for task, (chosen, pictures) in counts.items()}
    what = "pictures" if given.data else "scenes"
    if len(set(told.values())) == 1:
        print(f"{told[given.tasks[0]]} {what} per task")
    else:
        print("; ".join(f"{task}: {count} {what}" for task, count in told.items()))
    results = []
    for task in given.tasks:
        options = {"beam": given.beam, "batch_size": given.batch_size, "limit": limit}
        options["published_paste"] = given.published_paste
        results.append(evaluate(model, data, given.kind, task, **options))
        show(results[-1])
    if given.json:
        Path(given.json).write_text(json.dumps([vars(result) for result in results], indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compact", help="'compact' or a model folder")
    parser.add_argument("--data", help="a TSV file (default: held-out scenes, made once)")
    parser.add_argument("--kind", default="person", help="its layout: rec, rkpt, rpar, rhrc or person")
    parser.add_argument("--tasks", nargs="+", help=f"any of {', '.join(TASKS)} (all that the kind serves), or rpar")
    parser.add_argument("--scenes", type=int, default=500, help="how many held-out scenes")
    spread = f"score so many rows, evenly spread (default: {HELD_OUT_LIMIT} of held-out scenes, else all)"
    parser.add_argument("--limit", type=int, help=spread)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    stepped = "put part maps back with stepped outlines, as the published evaluation does (default: smooth ones)"
    parser.add_argument("--published-paste", action="store_true", help=stepped)
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    given = parser.parse_args(arguments)
    try:
        check(given)
        run(given)
    except (RefHCMError, OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
