"""The processes of a run: they hear signals from their first moment, end with whoever started them, and keep others out
of their folder.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from test_engine_survival import assert_same, learnt, updates
from test_engine_training import data, train  # noqa: F401

from refhcm.data.commands import LOCK, sole_user
from refhcm.errors import RefHCMError
from refhcm.stopping import Parent, Stop

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [sys.executable, str(ROOT / "run_scripts" / "launch.py"), "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
GUARD = 240
"""Seconds after which a test that would wait for ever has failed."""

RANK = """
import os, signal, sys
from pathlib import Path
from refhcm.stopping import parent, stop

parent.follow()
with stop.listening():
    what, here, first = sys.argv[1], Path(sys.argv[0]), os.environ["RANK"] == "0"
    os.write(1, b"pid %d\\n" % os.getpid())
    here.with_suffix("." + os.environ["RANK"]).touch()
    while not all(here.with_suffix(rank).exists() for rank in ".0 .1".split()):
        os.sched_yield()
    if what == "fails" and first:
        sys.exit(3)
    if first:
        os.kill(os.getppid(), getattr(signal, sys.argv[2]))
    while not stop.asked:
        os.sched_yield()
    sys.exit(3 if what == "fails after it" and first else stop.exit_code)
"""


def ended(command: list[str], **options) -> subprocess.CompletedProcess:
    """Run a command until all that hold its output have ended, its children's children too."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options
    )
    try:
        out, err = process.communicate(timeout=GUARD)
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode()
        for line in [line.split() for line in said.splitlines() if line.startswith("pid ")]:
            os.kill(int(line[1]), signal.SIGKILL)
        process.kill()
        raise AssertionError(f"still running after {GUARD} s: {said}") from late
    return subprocess.CompletedProcess(command, process.returncode, out, err)


# -- several processes ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("what", "number", "code"),
    [("ends", "SIGTERM", 0), ("ends", "SIGUSR1", 0), ("ends", "SIGINT", 130), ("fails after it", "SIGTERM", 143)],
)
def test_what_a_signal_has_ended_in_order_ends_with_0(tmp_path, what, number, code):
    """torchrun itself shows a traceback and ends with 1."""
    (tmp_path / "rank.py").write_text(RANK)
    done = ended([*LAUNCH, str(tmp_path / "rank.py"), what, number])
    assert done.returncode == code, done.stderr
    assert done.stdout.count("pid ") == 2 and done.stderr.count(f"{number}: stopping after this update") == 2
    assert "Traceback" not in done.stderr


def test_a_process_that_fails_is_named(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    done = ended([*LAUNCH, str(tmp_path / "rank.py"), "fails"])
    assert done.returncode == 1 and "launch.py: process 0 ended with code 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_kill_9_of_the_parent_ends_its_processes(tmp_path):
    """Those of torchrun alone would go on."""
    (tmp_path / "rank.py").write_text(RANK)
    done = ended([*LAUNCH, str(tmp_path / "rank.py"), "ends", "SIGKILL"])
    assert done.returncode == -signal.SIGKILL and done.stdout.count("pid ") == 2


def test_where_the_system_cannot_end_it_a_process_looks_after_its_parent(monkeypatch):
    ways = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "_exit", ways.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone, one = Parent(), Parent()
    alone.follow()
    monkeypatch.setenv("WORLD_SIZE", "2")
    one.follow()
    one.check()
    assert ways == []
    monkeypatch.setattr(os, "getppid", lambda: 1)
    alone.check()
    assert ways == []
    one.check()
    assert ways == [1]


TRAIN = """
import os, signal, sys
from pathlib import Path

import pytest
import torch
from test_engine_training import train

from refhcm.engine import trainer
from refhcm.stopping import stop

torch.set_num_threads(1)
data, save, moment, number = sys.argv[1:]
original = trainer.SafeTrainer.train_step


def step(self, *given, **options):
    if self.get_num_updates() == int(moment):
        if os.environ["RANK"] == "0":
            os.kill(os.getppid(), getattr(signal, number))
        while not stop.asked:  # until the signal has gone through the parent, or this process has ended with it
            os.sched_yield()
    return original(self, *given, **options)


trainer.SafeTrainer.train_step = step
os.write(1, b"pid %d\\n" % os.getpid())
train(pytest.MonkeyPatch(), Path(data), Path(save), "--max-update", "4", "--save-interval-updates", "1",
      "--disable-validation", "--distributed-backend", "gloo", "--find-unused-parameters", "--batch-size", "2")
"""


@pytest.mark.slow
def test_two_processes_are_really_killed_and_told_and_go_on_as_if_they_had_not_been(data, tmp_path):  # noqa: F811
    (tmp_path / "rank.py").write_text(TRAIN)
    whole, run = tmp_path / "whole", tmp_path / "run"

    def start(save: Path, moment: int, number: str = "SIGKILL") -> int:
        done = ended([*LAUNCH, str(tmp_path / "rank.py"), str(data), str(save), str(moment), number])
        assert done.stdout.count("pid ") == 2, done.stderr
        return done.returncode

    def last(save: Path) -> dict:
        return torch.load(save / "checkpoint_last.pt", weights_only=True)

    assert start(whole, -1) == 0
    assert start(run, 2) == -signal.SIGKILL and updates(last(run)) == 2
    assert start(run, 2, "SIGTERM") == 0 and updates(last(run)) == 3
    assert start(run, -1) == 0
    assert_same(learnt(last(run)), learnt(last(whole)))


# -- the first seconds ---------------------------------------------------------------------------------------
EARLY = "import os, signal\nos.kill(os.getpid(), signal.{})\n"


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 0), ("SIGUSR1", 0), ("SIGINT", 130)])
@pytest.mark.parametrize("script", ["train.py", "run_scripts/launch.py"])
def test_a_signal_while_everything_is_imported_ends_a_run_in_order(tmp_path, script, number, code):
    (tmp_path / "torch.py").write_text(EARLY.format(number))  # torch takes seconds, and is what a signal would meet
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "a.tsv,b.tsv", "--task", "rec"], capture_output=True, text=True,
        env={**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "") and "Traceback" not in done.stderr, done.stderr
    assert script != "train.py" or f"train.py: {number} before the first update: nothing is to be saved" in done.stderr


def test_torchrun_takes_130_for_a_failure_so_its_processes_do_not_say_it(monkeypatch):
    own = Stop()
    for name, code in (("TORCHELASTIC_RUN_ID", 0), ("OTHER", 130)):
        with monkeypatch.context() as patch, own.listening():
            patch.delenv("TORCHELASTIC_RUN_ID", raising=False)
            patch.setenv(name, "none")
            own.training = True
            os.kill(os.getpid(), signal.SIGINT)
            assert own.exit_code == code


# -- one run in one folder -----------------------------------------------------------------------------------
HOLDER = """
import sys
from refhcm.data.commands import sole_user
with sole_user(sys.argv[1], "x"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has a folder to itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_has_ended(monkeypatch, data, tmp_path, holder):  # noqa: F811
    options = ("--max-update", "1", "--disable-validation")
    with pytest.raises(SystemExit) as refused:
        train(monkeypatch, data, tmp_path / "run", *options)
    assert f"run is in use by process {holder.pid} on " in str(refused.value)
    assert str(refused.value).endswith("end that run, or name another folder with --save-dir (SAVE).")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    holder.kill()  # -9
    holder.wait()
    train(monkeypatch, data, tmp_path / "run", *options)


def test_a_process_that_was_started_by_the_holder_does_not_hold(tmp_path):
    """Loader processes outlive a killed run for seconds."""
    with sole_user(tmp_path, "x"):
        ready, hold = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(hold[1])
            os.write(ready[1], b"r")
            os.read(hold[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        env=ENVIRONMENT,
    ) as other:  # fmt: skip
        assert other.stdout.read() == "mine\n"
    os.close(hold[1])
    os.waitpid(child, 0)


def test_a_folder_that_cannot_be_written_is_one_sentence(monkeypatch, data, tmp_path):  # noqa: F811
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"train\.py: .*file is a file: name a folder to write to\."):
        train(monkeypatch, data, tmp_path / "file", "--max-update", "1")
    (tmp_path / LOCK).mkdir()
    with pytest.raises(RefHCMError, match="cannot be written"), sole_user(tmp_path, "x"):
        pass
