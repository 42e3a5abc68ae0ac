"""kill -9 at any moment, and the same command again: the same parameters, bit for bit, as if it had never stopped."""

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from test_engine_survival import assert_same, learnt, updates
from test_engine_training import data  # noqa: F401
from train_server import TrainServer

KILL = "SIGKILL"
MOMENTS = [
    {"at": "update", "number": 1, "signal": KILL},  # before the first checkpoint
    {"at": "write", "number": 1, "byte": 20_000, "signal": KILL},  # while it is written
    {"at": "copy", "number": 1, "signal": KILL},  # written, but not yet under all its names
    {"at": "update", "number": 3, "signal": KILL},  # in the middle of an epoch
    {"at": "valid", "number": 1, "signal": KILL},  # during the validation after it
]


@pytest.fixture(scope="module")
def server():
    server = TrainServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def start(server, data, tmp_path_factory):  # noqa: F811
    """Start runs that write to a folder, one process or several, and give their exit codes."""

    def start(save, *more: str, hooks=(None,)) -> list[int]:
        common = [
            str(data / "own.json"), "--task", "multitask", "--vocabulary", str(data / "vocabulary"), "--arch",
            "refhcm_compact", "--criterion", "refhcm_loss", "--dropout", "0.1", "--optimizer", "adam", "--lr", "0.005",
            "--lr-scheduler", "polynomial_decay", "--total-num-update", "60", "--batch-size", "2", "--cpu",
            "--save-dir", str(save), "--log-format", "none", "--no-progress-bar", "--max-valid-steps", "0",
            "--store-ema", "--ema-decay", "0.9", "--flip", "0.5", "--zoom", "0.8", "--grounding-weight", "1",
            "--by-region", "0.5", "--keep-interval-updates", "1", "--patience", "9", *more,
        ]  # fmt: skip
        if len(hooks) > 1:
            meeting = tmp_path_factory.mktemp("meeting") / "file"
            common += ["--distributed-world-size", str(len(hooks)), "--distributed-no-spawn", "--distributed-backend",
                       "gloo", "--ddp-backend", "pytorch_ddp", "--find-unused-parameters",
                       "--distributed-init-method", f"file://{meeting}"]  # fmt: skip
        runs = [
            {"options": [*common, "--distributed-rank", str(rank)], "log": f"{save}.{rank}.log", "hook": hook}
            for rank, hook in enumerate(hooks)
        ]
        return server.run(*runs)

    return start


def said(save, rank: int = 0) -> str:
    """The end of what a run has printed."""
    return save.with_name(f"{save.name}.{rank}.log").read_text()[-3000:]


def last(save) -> dict:
    return torch.load(save / "checkpoint_last.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The run that was never stopped, of one process."""
    save = tmp_path_factory.mktemp("runs") / "whole"
    assert start(save, "--max-update", "5", "--save-interval-updates", "2", "--num-workers", "0") == [0]
    return save


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_one_process_is_killed_again_and_again(start, whole, tmp_path, workers):
    save = tmp_path / "run"
    options = ("--max-update", "5", "--save-interval-updates", "2", "--num-workers", workers)
    for moment in MOMENTS if workers == "0" else MOMENTS[1::2]:
        assert start(save, *options, hooks=[moment]) == [-9], said(save)
    assert start(save, *options) == [0], said(save)
    assert_same(learnt(last(save)), learnt(last(whole)))
    assert sorted(path.name for path in save.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.slow
def test_two_processes_are_killed_told_to_stop_and_given_bad_numbers(start, tmp_path):
    """What happens to one of them happens to the run: the parameters stay those of the run that was left alone."""
    options = ("--max-update", "4", "--save-interval-updates", "2", "--num-workers", "0")
    poison = {"at": "poison", "rows": ["3", "4"]}  # of the second process alone, alike in both runs
    assert start(tmp_path / "whole", *options, hooks=[None, poison]) == [0, 0], said(tmp_path / "whole")
    whole = last(tmp_path / "whole")
    assert updates(whole) == 4 and whole["extra_state"]["refhcm"]["nonfinite"]["total"] > 0
    named = [line for line in (tmp_path / "whole.0.log").read_text().splitlines() if "skipped update" in line]
    assert len(named) == whole["extra_state"]["refhcm"]["nonfinite"]["total"]
    run = tmp_path / "run"
    codes = start(run, *options, hooks=[MOMENTS[1], poison])
    assert codes[0] == -9 and codes[1] != 0 and not list(run.glob("*.pt"))
    codes = start(run, *options, hooks=[None, poison | {"and": {"at": "update", "number": 3, "signal": KILL}}])
    assert codes[1] == -9 and codes[0] != 0
    assert updates(last(run)) == 2
    codes = start(run, *options, hooks=[None, poison | {"and": {"at": "update", "number": 2, "signal": "SIGTERM"}}])
    assert codes == [0, 0], said(run, 1)
    assert updates(last(run)) == 3
    assert start(run, *options, hooks=[None, poison]) == [0, 0], said(run)
    assert_same(learnt(last(run)), learnt(whole))
