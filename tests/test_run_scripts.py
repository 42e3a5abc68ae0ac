"""The run scripts: what each would start, from any directory, on one process, several, or several machines.

A stub stands for Python and writes down how it is called; one slow test runs `--tiny` for real.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "run_scripts"
LAUNCH = str(SCRIPTS / "launch.py")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the run scripts need bash")

TRAIN = {
    "rec/train_refcoco.sh": "rec", "rkpt/train_rkpt.sh": "rkpt", "rpar/train_rpar.sh": "rpar",
    "rpar/train_rpar_full_mask.sh": "rpar_full_mask", "rhrc/train_rhrc.sh": "rhrc",
    "multitask/train_multitask.sh": "multitask",
}  # fmt: skip
OURS = {"res/train_res.sh": "res", "grec/train_grec.sh": "grec", "humar_gref/train_humar_gref.sh": "multitask"}
ALL = {**TRAIN, **OURS}
EVALUATE = {
    "rec/evaluate_refcoco.sh": ("rec", "rkpt/refcoco_pose_testA.tsv", "rkpt"),
    "rkpt/evaluate_rkpt.sh": ("rkpt", "rkpt/refcoco_pose_testA.tsv", "rkpt"),
    "rpar/evaluate_rpar.sh": ("rpar", "rpar/refcihp_val.tsv", "rpar"),
    "rpar/evaluate_rpar_full_mask.sh": ("rpar_full_mask", "rpar/refcihp_val.tsv", "rpar"),
    "rhrc/evaluate_rhrc.sh": ("rhrc", "rhrc/capcihp_val.tsv", "rhrc"),
}
PUBLISHED = {  # epochs, samples per process and batch, batches per update, rate, warm-up share, drop path, clip norm
    "rec": (10, 8, 8, 3e-5, 0.06, 0.2, 1.0),
    "rkpt": (8, 8, 8, 3e-5, 0.06, 0.2, 1.0),
    "rpar": (15, 8, 8, 3e-5, 0.06, 0.2, 1.0),
    "rpar_full_mask": (10, 6, 8, 3e-5, 0.06, 0.2, 1.0),
    "rhrc": (5, 8, 4, 1e-5, 0.06, 0.1, 1.0),
    "multitask": (50, 2, 4, 4e-5, 0.01, 0.2, 5.0),
}
ROWS = 9600


@dataclass
class Call:
    """One start of Python: where, and with which arguments."""

    folder: str
    arguments: list[str]

    def __getitem__(self, option):
        """What follows the last occurrence of an option."""
        at = len(self.arguments) - 1 - self.arguments[::-1].index(option)
        return self.arguments[at + 1]

    def __contains__(self, argument):
        return argument in self.arguments

    @property
    def program(self):
        """The script or module that runs, and everything behind it."""
        if self.arguments[0] != LAUNCH:
            return self.arguments
        at = next(n for n, argument in enumerate(self.arguments[1:], 1) if argument.endswith(".py"))
        return self.arguments[at:]


@pytest.fixture
def start(tmp_path):
    """start(script, *arguments, **environment) -> calls of Python; `fails` wants a sentence instead."""
    stub, calls = tmp_path / "stub", tmp_path / "calls"
    stub.write_text('#!/bin/bash\n{ printf "%s\\x1f" "$PWD" "$@"; printf "\\x1e"; } >>"$CALLS"\n')
    stub.chmod(0o755)
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    for name in ("train.tsv", "val.tsv"):
        (here / "data" / name).write_text("row\n" * ROWS)

    def run(script, *arguments, fails=None, tools=(), **environment):
        calls.unlink(missing_ok=True)
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ}
        path = ":".join([*map(str, tools), os.environ["PATH"]])
        given = {"PATH": path, "PYTHON": str(stub), "CALLS": str(calls), "DEVICE": "cpu", **kept, **environment}
        given = {name: value for name, value in given.items() if value is not None}
        done = subprocess.run([str(SCRIPTS / script), *arguments], cwd=here, env=given, capture_output=True, text=True)
        if fails:
            assert done.returncode and fails in done.stderr, done
            return done.stderr
        assert done.returncode == 0, done.stderr
        records = [record.split("\x1f")[:-1] for record in calls.read_text().split("\x1e")[:-1]]
        return [Call(folder, arguments) for folder, *arguments in records]

    run.here = here
    return run


def own(task):
    """Variables that name files by where one stands."""
    single = {"TRAIN": "data/train.tsv", "VALID": "data/val.tsv"}
    several = {"DATA": "mix.json", "ROWS": str(ROWS), "DATA_ROOT": "data"}
    return several if task == "multitask" else single


def test_every_script_is_short_and_starts_like_the_others():
    scripts = [path for path in SCRIPTS.rglob("*") if path.suffix in (".sh", ".sbatch")]
    assert len(scripts) > 15
    for path in scripts:
        lines = path.read_text().splitlines()
        assert len(lines) < 40 and max(map(len, lines)) <= 150, path
        assert lines[0] == "#!/usr/bin/env bash" and lines[1].startswith("#") and "set -euo pipefail" in lines, path
        assert os.access(path, os.X_OK) or path.suffix == ".sbatch", path
    names = {str(path.relative_to(SCRIPTS)) for path in scripts}
    assert names >= {*ALL, *EVALUATE, "multitask/evaluate_multitask.sh"}


# -- training ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("script", TRAIN)
def test_recipes_have_the_published_settings(start, script):
    task = TRAIN[script]
    epochs, batch, together, rate, warm_up, drop_path, clip = PUBLISHED[task]
    (call,) = start(script, **own(task), GPUS="1")
    updates = epochs * -(-ROWS // (batch * together))
    assert call.arguments[0] == str(ROOT / "train.py") and call["--task"] == task
    wanted = {
        "--max-epoch": epochs, "--batch-size": batch, "--update-freq": together, "--lr": rate, "--clip-norm": clip,
        "--warmup-updates": int(warm_up * updates), "--total-num-update": updates, "--label-smoothing": 0.1,
        "--encoder-drop-path-rate": drop_path, "--decoder-drop-path-rate": drop_path, "--weight-decay": 0.01,
        "--dropout": 0.1,
    }  # fmt: skip
    assert {name: float(call[name]) for name in wanted} == wanted
    assert (call["--adam-betas"], call["--lr-scheduler"]) == ("(0.9, 0.999)", "polynomial_decay")
    assert call["--arch"] == "refhcm_large" and call["--init-from"] == str(ROOT / "checkpoints" / "ofa_large.pt")
    assert ("--freeze-encoder-embedding" in call) == (task == "rhrc") == ("--drop-worst-ratio" in call)


@pytest.mark.parametrize("script", ALL)
def test_paths_that_are_given_count_from_where_one_stands_and_others_lie_in_the_repository(start, script):
    task = ALL[script]
    (call,) = start(script, **own(task), SAVE="my/run", INIT="my/model", VOCABULARY="my/words")
    assert call.folder == str(start.here)
    given = ["mix.json"] if task == "multitask" else ["data/train.tsv,data/val.tsv"]
    assert call.program[1:2] == given
    assert (call["--save-dir"], call["--init-from"], call["--vocabulary"]) == ("my/run", "my/model", "my/words")
    (call,) = start(script, **own(task))
    named = [call[option] for option in ("--save-dir", "--init-from", "--vocabulary")]
    assert all(Path(path).is_relative_to(ROOT) for path in named)
    if task != "multitask":
        said = start(script, fails="There is no dataset file", TRAIN=None)
        assert str(ROOT / "dataset") in said and "train.tsv" in said


@pytest.mark.parametrize("script", ALL)
def test_everything_can_be_overridden(start, script):
    own_settings = {"EPOCHS": "3", "BATCH": "5", "ACCUMULATE": "1", "LR": "0.5", "CLIP": "9", "ARCH": "refhcm_tiny"}
    (call,) = start(script, "--lr", "0.25", "--max-update", "7", **own(ALL[script]), **own_settings, GPUS="1")
    names = ("--max-epoch", "--batch-size", "--update-freq", "--lr", "--clip-norm", "--arch", "--max-update")
    assert [call[name] for name in names] == ["3", "5", "1", "0.25", "9", "refhcm_tiny", "7"]
    assert call["--total-num-update"] == str(3 * ROWS // 5)


def test_a_model_folder_brings_its_own_words(start):
    (start.here / "model").mkdir()
    (call,) = start("rec/train_refcoco.sh", **own("rec"), INIT="model")
    assert call["--vocabulary"] == "model"


def test_several_training_files_take_turns_and_validation_may_be_left_out(start):
    (start.here / "data" / "more.tsv").write_text("row\n" * 3 * ROWS)
    (call,) = start("rec/train_refcoco.sh", TRAIN="data/train.tsv,data/more.tsv", VALID="none")
    assert call.arguments[1] == "data/train.tsv,data/more.tsv,data/train.tsv" and "--disable-validation" in call
    assert call["--total-num-update"] == str(10 * 2 * ROWS // 64)


def test_both_stages_of_multitask_training(start):
    for folder in ("rec", "reasonref/reasondec"):
        (start.here / "all" / folder).mkdir(parents=True)
    (start.here / "all/rec/refcoco_train.tsv").write_text("row\n" * 960)
    (start.here / "all/reasonref/reasondec/total_reasondec_train.tsv").write_text("row\n" * 480)
    (general,) = start("multitask/train_multitask.sh", DATA_ROOT="all")
    (tuned,) = start("multitask/train_multitask.sh", DATA_ROOT="all", STAGE="tuned")
    assert (general["--epoch-items"], tuned["--epoch-items"]) == ("960", "480")
    assert (general["--max-epoch"], tuned["--max-epoch"]) == ("50", "5")
    assert [Path(call["--init-from"]).name for call in (general, tuned)] == ["ofa_large.pt", "refhcm.pt"]
    assert [Path(call.program[1]).name for call in (general, tuned)] == ["general.json", "tuned.json"]
    assert general["--save-dir"] != tuned["--save-dir"] and general["--data-root"] == "all"
    assert general["--nproc_per_node"] == "2" and "--disable-validation" in general
    assert general["--total-num-update"] == str(50 * 960 // (2 * 4 * 2))  # 48 samples of 16 items per update
    start("multitask/train_multitask.sh", STAGE="last", fails="STAGE is general or tuned")
    start("multitask/train_multitask.sh", DATA_ROOT="data", fails="set ROWS")


@pytest.mark.parametrize(
    ("device", "precision", "wanted"),
    [
        ("cuda", None, ["--fp16", "--fp16-init-scale", "128", "--fp16-scale-window", "512"]),
        ("cuda", "amp", ["--amp", "--fp16-init-scale", "128", "--fp16-scale-window", "512"]),
        ("cuda", "bf16", ["--bf16"]),
        ("cuda", "autocast", ["--autocast", "bf16"]),
        ("cuda", "fp32", []),
        ("cpu", None, ["--cpu", "--distributed-backend", "gloo"]),
        ("cpu", "bf16", ["--bf16", "--cpu", "--distributed-backend", "gloo"]),
    ],
)
def test_precision_and_device(start, device, precision, wanted):
    (call,) = start("rec/train_refcoco.sh", **own("rec"), DEVICE=device, PRECISION=precision)
    at = call.arguments.index("--log-interval") + 2
    assert call.arguments[at : at + len(wanted)] == wanted
    other = {"--fp16", "--amp", "--bf16", "--autocast", "--cpu"} - set(wanted)
    assert not other & set(call.arguments)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ["data/val.tsv"]), ({"HELD_OUT": "a.tsv,b.tsv"}, ["a.tsv,b.tsv"]), ({"HELD_OUT": "none"}, []),
        ({"VALID": "none"}, []),
    ],
)
def test_a_recipe_does_not_train_on_what_it_is_validated_on(start, given, wanted):
    (call,) = start("rec/train_refcoco.sh", **{**own("rec"), **given})
    assert [b for a, b in zip(call.arguments, call.arguments[1:], strict=False) if a == "--held-out"] == wanted


def test_shards_need_the_number_of_rows(start):
    shards = {"TRAIN": "data/train-{000000..000003}.tar", "VALID": "none"}
    start("rec/train_refcoco.sh", **shards, fails="for shards ROWS too")
    (call,) = start("rec/train_refcoco.sh", **shards, ROWS="640")
    assert "data/train-{000000..000003}.tar,data/train-{000000..000003}.tar" in call.arguments


def test_precisions_and_devices_that_do_not_go_together_are_one_sentence(start):
    for given, said in (
        ({"PRECISION": "int8"}, "PRECISION is fp16, bf16, amp, autocast or fp32, not int8"),
        ({"PRECISION": "fp16"}, "PRECISION=fp16 needs a GPU; on the CPU take fp32, autocast or bf16"),
        ({"PRECISION": "amp"}, "PRECISION=amp needs a GPU"),
        ({"DEVICE": "gpu"}, "DEVICE is cpu or cuda, not gpu"),
    ):
        for script, variables in (("rec/train_refcoco.sh", own("rec")), ("own/train_own.sh", {"DATA": "data"})):
            assert start(script, **{**variables, "DEVICE": "cpu", **given}, fails=said).count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("EPOCHS", "0"), ("EPOCHS", "-1"), ("GPUS", "0"), ("GPUS", "-1"), ("GPUS", "two"), ("ACCUMULATE", "0"),
     ("BATCH", "0"), ("BATCH", "1.5"), ("BATCH", "08"), ("ROWS", "9" * 30), ("WARMUP", "-1"), ("NODES", "x"),
     ("MASTER_PORT", "0")],
)  # fmt: skip
def test_numbers_that_are_none_are_one_sentence(start, name, value):
    scripts = {"rec/train_refcoco.sh": own("rec")}
    if name in ("EPOCHS", "BATCH", "GPUS"):
        scripts["own/train_own.sh"] = {"DATA": "data"}
    if name in ("GPUS", "NODES", "MASTER_PORT"):
        scripts["rec/evaluate_refcoco.sh"] = {}
    for script, variables in scripts.items():
        said = start(script, **{**variables, name: value}, fails=f"{name} must be a whole number, ")
        assert said.count("\n") == 1 and f"not '{value}'" in said


def test_numbers_may_be_left_out_or_empty_and_warm_up_none_at_all(start):
    (call,) = start("rec/train_refcoco.sh", **own("rec"), EPOCHS="", GPUS="", WARMUP="0", NODE_RANK="0")
    assert (call["--max-epoch"], call["--warmup-updates"]) == ("10", "0")


# -- several processes ---------------------------------------------------------------------------------------
def test_several_gpus_and_several_machines(start):
    one, (four,) = start("rec/train_refcoco.sh", **own("rec"))[0], start("rec/train_refcoco.sh", **own("rec"), GPUS="4")
    assert four.arguments[:4] == [LAUNCH, "--standalone", "--nproc_per_node", "4"]
    assert int(one["--total-num-update"]) == 4 * int(four["--total-num-update"]) - 20  # an epoch is rounded up
    machines = {"NODES": "2", "GPUS": "4", "MASTER_ADDR": "alpha", "NODE_RANK": "1"}
    (call,) = start("rec/train_refcoco.sh", **own("rec"), **machines)
    assert call.arguments[: call.arguments.index(str(ROOT / "train.py"))] == [
        LAUNCH, "--nnodes", "2", "--node_rank", "1", "--nproc_per_node", "4", "--master_addr",
        "alpha", "--master_port", "29500",
    ]  # fmt: skip
    for name in ("MASTER_ADDR", "NODE_RANK"):
        start("rec/train_refcoco.sh", **own("rec"), **{**machines, name: None}, fails=f"set {name}")


def test_the_slurm_script_starts_one_torchrun_per_machine(start, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in (
        ("scontrol", '[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"'),
        ("srun", '[ "$SRUN_CPUS_PER_TASK" = 32 ] && shift && for n in 0 1; do SLURM_NODEID=$n "$@"; done'),
    ):
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7",
           "SLURM_CPUS_PER_TASK": "32"}  # fmt: skip  # which srun itself does not read
    spooled = tmp_path / "slurm_script"  # SLURM runs a copy, elsewhere
    shutil.copy(SCRIPTS / "slurm" / "train.sbatch", spooled)
    spooled.chmod(0o755)
    calls = start(spooled, str(SCRIPTS / "rec/train_refcoco.sh"), "--seed", "3", **own("rec"), **job, tools=[tools])
    assert [call["--node_rank"] for call in calls] == ["0", "1"]
    for call in calls:
        assert (call["--nnodes"], call["--nproc_per_node"], call["--master_addr"]) == ("2", "8", "n1")
        assert call["--master_port"] == "10007" and call["--seed"] == "3"
    for number in ("7", "19999", "20000", "40012345"):  # a port that the system gives to nobody by itself
        job["SLURM_JOB_ID"] = number
        (call, _) = start(spooled, str(SCRIPTS / "rec/train_refcoco.sh"), **own("rec"), **job, tools=[tools])
        assert 10000 <= int(call["--master_port"]) < 30000
    start(spooled, **job, tools=[tools], fails="name the script to run")


# -- evaluation ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("script", EVALUATE)
def test_evaluate_scripts_ask_as_published(start, script):
    task, file, kind = EVALUATE[script]
    (call,) = start(script)
    assert call.arguments[0] == str(ROOT / "evaluate.py") and call.folder == str(start.here)
    assert [call[name] for name in ("--model", "--data", "--kind", "--tasks")] == [
        str(ROOT / "checkpoints" / "refhcm"), str(ROOT / "dataset" / file), kind, task]  # fmt: skip
    assert ("--beam" in call) == (task != "rpar_full_mask") and ("--published-reading" in call) == (task != "rhrc")
    assert "--kind" not in start(script, DATA="data/val.tsv")[0]
    mine = {"MODEL": "my/model", "DATA": "data/val.tsv", "KIND": "person"}
    (call,) = start(script, "--beam", "2", "--out", "scores", **mine, GPUS="2")
    assert [call[name] for name in ("--model", "--data", "--kind", "--beam", "--out", "--nproc_per_node")] == [
        "my/model", "data/val.tsv", "person", "2", "scores", "2"]  # fmt: skip


def test_all_tasks_are_evaluated_each_on_its_file_or_all_on_one(start):
    where = {"MODEL": "my/model", "DATA_ROOT": "all", "OUT": "answers"}
    calls = start("multitask/evaluate_multitask.sh", "--limit", "9", **where)
    asked = [[call[name] for name in ("--tasks", "--data", "--kind", "--out")] for call in calls]
    assert asked == [
        ["rec", "all/rkpt/refcoco_pose_testA.tsv", "rkpt", "answers/rec"],
        ["rkpt", "all/rkpt/refcoco_pose_testA.tsv", "rkpt", "answers/rkpt"],
        ["rpar", "all/rpar/refcihp_val.tsv", "rpar", "answers/rpar"],
        ["rhrc", "all/rhrc/capcihp_val.tsv", "rhrc", "answers/rhrc"],
    ]
    assert all(call["--limit"] == "9" and call["--model"] == "my/model" for call in calls)
    (call,) = start("multitask/evaluate_multitask.sh", DATA="data/val.tsv", OUT="answers")
    at = call.arguments.index("--tasks")
    assert call.arguments[at + 1 : at + 5] == ["rec", "rkpt", "rpar", "rhrc"] and call["--out"] == "answers"
    assert "--kind" not in call  # our own, or by its columns


# -- the short try -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("script", ALL)
def test_a_short_try_goes_the_whole_road_with_the_recipes_own_task(start, script):
    task = ALL[script]
    for split in ("train", "val"):
        (start.here / "try" / "scenes" / split).mkdir(parents=True)
        (start.here / "try" / "scenes" / split / "person.tsv").write_text("id\tpicture\tthe man\t1,2,3,4\n" * 40)
    calls = start(script, "--tiny", "--seed", "5", SAVE="try", SCENES="10", GPUS="2")
    grown = [call for call in calls if "refhcm.models.add_codes" in call]  # where the bundled model writes no masks
    calls = [call for call in calls if call not in grown]
    modules = ["refhcm.data.scenes", "refhcm.models.label_map_codes"] * 2
    assert [call.arguments[1] for call in calls[:4]] == modules
    train, export, evaluate, predict = calls[4:]
    assert train.arguments[0] == LAUNCH and train["--task"] == task and train["--seed"] == "5"
    assert train["--arch"] == "refhcm_compact" and "--tiny" not in train and "--cpu" in train
    data = "try/scenes/train/person.tsv,try/scenes/val/person.tsv"
    folder = script.partition("/")[0]
    assert train.program[1] == (str(SCRIPTS / folder / "tiny.json") if task == "multitask" else data)
    bundled, masked = str(ROOT / "checkpoints" / "compact"), folder in ("res", "humar_gref")
    assert ("--masks" in train) == ("--masks" in export) == masked and (not masked or train["--masks"] == bundled)
    assert train["--init-from"] == train["--vocabulary"] == (grown[0].arguments[3] if grown else bundled)
    assert export.arguments[1:4] == ["refhcm.models.export", "try/checkpoints/checkpoint_last.pt", "try/model"]
    assert evaluate.arguments[0] == str(ROOT / "evaluate.py") and evaluate["--data"] == "try/scenes/val/person.tsv"
    first = {"multitask": "rec", "humar_gref": "grec"}.get(folder, task)
    assert evaluate["--tasks"] == first and evaluate["--beam"] == "1"
    assert ("--everybody" in predict) == (task == "grec")
    asked = {
        "rec": "box", "res": "mask", "rkpt": "keypoints", "rpar": "parsing", "rpar_full_mask": "parsing",
        "rhrc": "caption",
    }  # fmt: skip
    assert predict.arguments[1:3] == ["refhcm.cli", "predict"] and predict["--model"] == "try/model"
    assert predict["--tasks"] == asked[task] if task in asked else "--tasks" not in predict
    at = predict.arguments.index("--region") if task == "rhrc" else 0
    assert predict.arguments[at + 1 : at + 5] == ["1", "2", "3", "4"] if at else predict["--text"] == "the man"


# -- recipes of ours -----------------------------------------------------------------------------------------
def test_recipes_of_ours_are_of_the_size_that_they_state(start):
    for script, task in OURS.items():
        (call,) = start(script, **own(task), GPUS="1")
        joint = task == "multitask"
        updates = (20 if joint else 10) * ROWS // (32 if joint else 64)
        assert (call["--total-num-update"], call["--warmup-updates"]) == (str(updates), str(updates * 6 // 100))
        assert (float(call["--lr"]), call["--validate-answers"]) == (3e-5, "200")
        start_from = "ofa_large.pt" if task == "grec" else "refhcm_masks"
        assert call["--init-from"] == str(ROOT / "checkpoints" / start_from)
        assert ("--masks" in call) == (task != "grec") and ("--by-region" in call) == (task != "grec")
        (call,) = start(script, **own(task), INIT="my/model", MASKS="my/masks")
        assert task == "grec" or call["--masks"] == "my/masks"
    with_files = start.here / "humar"
    with_files.mkdir()
    (with_files / "train.tsv").write_text("row\n" * 320)
    (call,) = start("humar_gref/train_humar_gref.sh", DATA_ROOT="humar", GPUS="1")
    assert call.program[1] == str(SCRIPTS / "humar_gref" / "joint.json") and call["--total-num-update"] == "200"
    assert (call["--data-root"], call["--valid-subset"], call["--held-out"]) == ("humar", "val", "humar/val.tsv")


def test_recipes_of_ours_are_scored_by_their_twins(start):
    for script, data, tasks in (
        ("res/evaluate_res.sh", "refcoco/testA.tsv", ["res"]),
        ("grec/evaluate_grec.sh", "grefcoco/val.tsv", ["grec"]),
        ("humar_gref/evaluate_humar_gref.sh", "humar/val.tsv", ["grec", "people", "res", "rkpt"]),
    ):
        (call,) = start(script)
        wanted = [str(ROOT / "dataset" / data), str(ROOT / "checkpoints" / "compact")]
        assert [call["--data"], call["--model"]] == wanted
        at = call.arguments.index("--tasks")
        assert call.arguments[at + 1 : at + 1 + len(tasks)] == tasks
        (call,) = start(script, "--limit", "3", MODEL="my/model", DATA="data/val.tsv", GPUS="2", EACH="mask")
        assert [call[name] for name in ("--model", "--data", "--limit", "--nproc_per_node")] == [
            "my/model", "data/val.tsv", "3", "2"]  # fmt: skip
        assert ("--each" in call) == (tasks != ["res"])


# -- other scripts -------------------------------------------------------------------------------------------
def test_the_bundled_models_scripts_run_from_anywhere(start):
    calls = start("multitask/prepare_scenes.sh", SCENES="scenes", BANK="people", COUNT="7")
    assert [call.arguments[1] for call in calls] == [
        "refhcm.data.scenes.bank", *["refhcm.data.scenes", "refhcm.models.label_map_codes"] * 2, "refhcm.tasks",
        "refhcm.data.make_vocabulary"]  # fmt: skip
    assert calls[1]["--count"] == "7" and calls[1]["--bank"] == "people"
    assert calls[-1].arguments[2] == "scenes/vocabulary"
    assert calls[-1]["--label-codes"] == "512"  # of the bundled tokenizer
    (call,) = start("multitask/train_compact.sh", "--seed", "4", SCENES="scenes", SAVE="run", UPDATES="100")
    assert call.folder == str(start.here) and call.arguments[1] == str(SCRIPTS / "multitask" / "scenes.json")
    named = [call[name] for name in ("--data-root", "--vocabulary", "--save-dir", "--start-codes", "--warmup-updates")]
    assert named == ["scenes", "scenes/vocabulary", "run", str(ROOT / "checkpoints" / "compact"), "5"]


def test_variants_start_alike_train_alike_and_are_scored_together(start):
    kept = start.here / "runs" / "old"
    kept.mkdir(parents=True)
    (kept / "checkpoint_last.pt").write_text("trained before")
    variants = ("ours=", "adam=--optimizer adam --seed 3", "old=")
    ours, adam, scores = start("multitask/ablate.sh", *variants, START="model", SAVE="runs", UPDATES="7", LIMIT="9")
    assert ours["--optimizer"] == "muon" and adam["--optimizer"] == "adam" and adam["--seed"] == "3"
    same = ("--init-from", "--vocabulary", "--masks", "--max-update", "--lr")
    assert [ours[name] for name in same] == [adam[name] for name in same] == ["model", "model", "model", "7", "4e-4"]
    files = [f"runs/{name}/checkpoint_last.pt" for name in ("ours", "adam", "old")]
    assert scores.program[1:5] == ["--checkpoint", *files] and scores["--limit"] == "9"
    assert [ours["--save-dir"], adam["--save-dir"]] == ["runs/ours", "runs/adam"]


def test_own_pictures_are_trained_on_from_anywhere(start):
    (call,) = start("own/train_own.sh", DATA="data", SAVE="runs/own", TASKS="rec rhrc", EPOCHS="2", GPUS="2")
    mix = json.loads((start.here / "runs/own/mix.json").read_text())
    assert mix["streams"][0]["tasks"] == ["rec", "rhrc"] and call.program[1] == "runs/own/mix.json"
    assert (call["--data-root"], call["--held-out"]) == ("data", "data/val.tsv")
    assert call["--total-num-update"] == str(2 * ROWS // 8) and call["--init-from"] == str(ROOT / "checkpoints/compact")
    start("own/train_own.sh", fails="set DATA to the folder")
    for given, said in (
        ({"MODEL": "/nope"}, "MODEL must be a model folder; there is no /nope/config.json"),
        ({"SAVE": "data/val.tsv/run"}, "nothing can be written to SAVE=data/val.tsv/run"),
    ):
        assert start("own/train_own.sh", **{"DATA": "data", **given}, fails=said).count("\n") == 1
    (call,) = start("own/train_own.sh", DATA="data", SAVE="runs/own", DEVICE="cuda", PRECISION="bf16")
    assert "--bf16" in call and "--cpu" not in call
    (call,) = start("own/train_own.sh", DATA="data", SAVE="runs/own", DEVICE="cuda")
    assert not {"--fp16", "--bf16", "--amp", "--cpu"} & set(call.arguments)


def test_the_label_map_tokenizer_is_trained_and_measured_from_anywhere(start):
    files = {"TRAIN": "data/train.tsv", "VALID": "data/val.tsv"}
    (call,) = start("label_map/train_label_map.sh", "--batch", "8", **files, SAVE="map", GPUS="3", PRESET="published")
    assert call["--nproc_per_node"] == "3" and call["-m"] == "refhcm.models.label_map_training"
    assert [call[name] for name in ("--valid", "--out", "--preset", "--batch", "--kind")] == [
        "data/val.tsv", "map", "published", "8", "person"]  # fmt: skip
    (call,) = start("label_map/evaluate_label_map.sh", DATA="data/val.tsv", TOKENIZER="map", GPUS="3")
    assert call["--nproc_per_node"] == "3" and call["-m"] == "refhcm.inference.label_map_evaluation"
    (call,) = start("label_map/evaluate_label_map.sh", "--limit", "5", DATA="data/val.tsv", TOKENIZER="map")
    evaluation = ["-m", "refhcm.inference.label_map_evaluation"]
    assert call.arguments == [*evaluation, "data/val.tsv", "--tokenizer", "map", "--limit", "5"]
    (call,) = start("label_map/evaluate_label_map.sh", DATA="data/val.tsv", TOKENIZER="map", PRESET="mask")
    assert call.arguments == [*evaluation, "data/val.tsv", "--tokenizer", "map", "--name", "mask"]
    train, evaluate = start("label_map/train_label_map.sh", "--tiny", SAVE="try", PRESET="mask")[2:]
    assert train["--preset"] == evaluate["--name"] == "mask"
    calls = start("label_map/train_label_map.sh", "--tiny", SAVE="try")
    assert [call.arguments[1] for call in calls] == ["refhcm.data.scenes"] * 2 + [
        "refhcm.models.label_map_training", "refhcm.inference.label_map_evaluation"]  # fmt: skip
    assert calls[2].arguments[2] == "try/scenes/train/person.tsv" and calls[2]["--steps"] == "60"
    assert calls[3].arguments[2:] == ["try/scenes/val/person.tsv", "--tokenizer", "try"]


@pytest.mark.parametrize("script", ALL)
def test_fairseq_understands_the_recipe(start, script):
    """Its real parser takes every option, and our own twins say what they were told."""
    pytest.importorskip("hydra")
    pytest.importorskip("refhcm.engine")
    from fairseq import options

    (call,) = start(script, "--valid-subset", "val", **own(ALL[script]), DEVICE="cuda", PRECISION="amp", GPUS="1")
    plugin = ["--user-dir", str(ROOT / "engine" / "refhcm_plugin")]
    given = options.parse_args_and_arch(options.get_training_parser(), [*call.program[1:], *plugin])
    assert given.size == "large" and given.task == ALL[script] and given.amp and given.label_smoothing == 0.1
    assert given.max_src_length == (100 if script == "multitask/train_multitask.sh" else 80)
    assert given.nobody == (script.partition("/")[0] in ("grec", "humar_gref"))


@pytest.mark.slow
def test_a_short_try_runs(tmp_path):
    pytest.importorskip("hydra")
    pytest.importorskip("refhcm.engine")
    tried = subprocess.run(
        [str(SCRIPTS / "rpar" / "train_rpar_full_mask.sh"), "--tiny"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable, "SAVE": "try", "SCENES": "4", "UPDATES": "2"},
    )  # fmt: skip
    assert tried.returncode == 0, tried.stdout[-2000:] + tried.stderr[-3000:]
    assert re.search(r"rpar_full_mask: [1-9]\d* questions", tried.stdout) and "parsing/miou" in tried.stdout
    assert (tmp_path / "try" / "model" / "model.safetensors").is_file()
    assert list((tmp_path / "try" / "answers").glob("*.png"))
