"""Two processes that share what each would hold alike: the same training as with ordinary copies, exactly resumed."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from test_engine_training import data  # noqa: F401

from refhcm.engine.sharding import ShardedOptimizer, spread, whole
from refhcm.models import export
from refhcm.models.checkpoint import load_folder

RANK = """
import os
import sys
from pathlib import Path

import pytest
import torch
from test_engine_training import train

torch.set_num_threads(1)
data, out = map(Path, sys.argv[1:])
SHARED = ("--distributed-backend", "gloo", "--find-unused-parameters", "--adam-eps", "0.001", "--clip-norm", "0.5",
          "--batch-size", "2", "--update-freq", "2", "--grounding-weight", "1")


def run(name, updates, *options):
    train(pytest.MonkeyPatch(), data, out / name, "--max-update", str(updates), *SHARED, *options)


run("copies", 3)
for name, option in (("zero", ("--zero-sharding", "os")), ("full", ("--fully-shard", "--checkpoint-activations"))):
    run(name, 3, *option)
    run(f"{name}-parts", 2, *option)
    run(f"{name}-parts", 3, *option)
for options, said in (
    (("--fully-shard", "--bf16"), "--autocast bf16"),
    (("--fully-shard", "--store-ema"), "--store-ema needs whole weights"),
):
    with pytest.raises(SystemExit, match=said):
        run("refused", 1, *options)
torch.distributed.destroy_process_group()
os._exit(0)  # threads of the runs that were refused may still wait, which would end this one with an abort
"""


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):  # noqa: F811
    """Folder of checkpoints by name of the run, all on two processes."""
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "rank.py").write_text(RANK)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(folder / "rank.py"), str(data), str(folder)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def read(folder, name):
    return torch.load(folder / name / "checkpoint_last.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero", "full"])
def test_sharing_changes_nothing_but_where_things_are(runs, name):
    copies, shared = read(runs, "copies"), read(runs, name)
    assert copies["model"].keys() == shared["model"].keys()
    for key, tensor in copies["model"].items():
        torch.testing.assert_close(shared["model"][key], tensor, rtol=1e-4, atol=1e-5, msg=key)
    states = [checkpoint["last_optimizer_state"]["state"] for checkpoint in (copies, shared)]
    assert states[0].keys() == states[1].keys()
    for number, state in states[0].items():
        torch.testing.assert_close(states[1][number]["exp_avg"], state["exp_avg"], rtol=1e-3, atol=1e-6)
    assert shared["extra_state"]["val_loss"] == pytest.approx(copies["extra_state"]["val_loss"], abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero", "full"])
def test_a_resumed_run_equals_an_uninterrupted_one(runs, name):
    straight, parts = read(runs, name), read(runs, f"{name}-parts")
    for key, tensor in straight["model"].items():
        torch.testing.assert_close(parts["model"][key], tensor, rtol=0, atol=0, msg=key)


@pytest.mark.slow
def test_a_spread_run_is_exported_like_any_other(runs, data, tmp_path):  # noqa: F811
    last = runs / "full" / "checkpoint_last.pt"
    export.main([str(last), str(tmp_path), "--vocabulary", str(data / "vocabulary"), "--dtype", "float32"])
    weights = load_folder(tmp_path)[0].state_dict()
    for name, tensor in read(runs, "full")["model"].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)


def test_what_is_not_spread_stays_as_it_is():
    tensor = torch.ones(2)
    assert spread(tensor, torch.zeros(2)) is tensor
    nest = {"a": [tensor, (1, "b")], "c": None}
    assert whole(nest) == nest and whole(nest)["a"][0] is tensor
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        ShardedOptimizer.__new__(ShardedOptimizer).other  # noqa: B018
