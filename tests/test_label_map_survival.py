"""A label-map tokenizer's training that is stopped or killed goes on as if nothing had been."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_models_label_map_training import rows  # noqa: F401

from refhcm.errors import RefHCMError
from refhcm.models import label_map_training
from refhcm.models.label_map_files import load_label_map, save_label_map
from refhcm.models.label_map_training import main

ROOT = Path(__file__).resolve().parent.parent
STEPS = 12
"""Two of them are the warm-up, which is a share of 0.15."""


def run(rows, out, *more) -> int:  # noqa: F811
    """The exit code of the command."""
    try:
        main([str(rows), "--out", str(out), "--steps", str(STEPS), "--batch", "2", "--codebook", "8", "--threads", "1",
              "--save-every", "5", "--device", "cpu", *map(str, more)])  # fmt: skip
    except SystemExit as ended:
        return ended.code
    return 0


def meet(monkeypatch, step: int, what) -> None:
    """Let something happen while the crops of a step are drawn."""
    draw, calls = label_map_training.draw_many, []

    def draw_many(people, rng, size, occlude, count, *masks):
        if count == 2:  # not the sample that classes are counted in
            calls.append(count)
            if len(calls) == step:
                what()
        return draw(people, rng, size, occlude, count, *masks)

    monkeypatch.setattr(label_map_training, "draw_many", draw_many)


def files(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".json", ".safetensors")}


def state(out) -> dict:
    return torch.load(out / "label_map.training.pt", weights_only=True)


def same(first, second) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


MOMENTS = [  # in the warm-up, after it, near the end
    (1, "SIGTERM", False), (4, "SIGTERM", False), (STEPS - 1, "SIGUSR1", False), (4, "SIGINT", True),
]  # fmt: skip


@pytest.mark.parametrize(("step", "number", "refine"), MOMENTS)
def test_a_signal_keeps_the_training_and_resume_goes_on_bit_for_bit(monkeypatch, rows, tmp_path, step, number, refine):  # noqa: F811
    options = ["--refine", tmp_path / "first"] if refine else []
    if refine:
        torch.manual_seed(0)
        config = label_map_training.LabelMapConfig.preset("compact")
        save_label_map(tmp_path / "first", label_map_training.LabelMapTokenizer(config))
        options += ["--codebook", config.codebook]
    assert run(rows, tmp_path / "whole", *options) == 0
    with monkeypatch.context() as patch:
        meet(patch, step, lambda: os.kill(os.getpid(), getattr(signal, number)))
        assert run(rows, tmp_path / "parts", *options) == (130 if number == "SIGINT" else 0)
    assert state(tmp_path / "parts")["step"] == step
    assert bool(files(tmp_path / "parts")) == (refine or step > 2)  # a tokenizer without codes is none
    assert run(rows, tmp_path / "parts", "--resume", *options) == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole") and len(files(tmp_path / "whole")) == 2
    assert same(state(tmp_path / "parts"), state(tmp_path / "whole"))


def test_what_was_killed_goes_on_from_the_last_saving(monkeypatch, rows, tmp_path):  # noqa: F811
    class Killed(Exception):
        pass

    def kill():
        raise Killed

    assert run(rows, tmp_path / "whole") == 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        meet(patch, 8, kill)
        run(rows, tmp_path / "parts")
    assert state(tmp_path / "parts")["step"] == 5 and load_label_map(tmp_path / "parts").config.codebook == 8
    for _ in range(2):  # the second time nothing is left to do
        assert run(rows, tmp_path / "parts", "--resume") == 0
        assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert not [path.name for path in (tmp_path / "parts").iterdir() if path.name.endswith(".part")]


def test_resume_where_nothing_is_begins_and_without_it_one_begins_anew_and_says_so(rows, tmp_path, capsys):  # noqa: F811
    assert run(rows, tmp_path / "out", "--resume") == 0
    assert "going on" not in capsys.readouterr().out
    assert run(rows, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "beginning anew; --resume would go on from" in said and "step      0" in said


def test_another_training_is_not_gone_on_from(rows, tmp_path):  # noqa: F811
    assert run(rows, tmp_path) == 0
    for options, said in (
        (["--batch", "3"], "batch 2 there, 3 here"), (["--codebook", "16"], "codebook 8 there, 16 here"),
        (["--limit", "2"], "people 4 of checksum"), (["--seed", "1"], "seed 0 there, 1 here"),
    ):  # fmt: skip
        ended = run(rows, tmp_path, "--resume", *options)
        assert str(ended).startswith("label_map_training: ") and said in ended and "--resume out" in ended
    path = tmp_path / "label_map.training.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert "label_map.training.pt cannot be gone on from, it is damaged" in run(rows, tmp_path, "--resume")


def test_a_disk_that_is_full_is_one_sentence_and_leaves_what_was_there(monkeypatch, rows, tmp_path):  # noqa: F811
    assert run(rows, tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device", "label_map.training.pt")

    monkeypatch.setattr(torch, "save", full)
    assert "No space left on device" in run(rows, tmp_path, "--seed", "4")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != ".lock"} == {
        name: content for name, content in before.items() if name != ".lock"
    }


def test_two_trainings_do_not_share_a_folder(monkeypatch, rows, tmp_path):  # noqa: F811
    def taken(*_):
        raise RefHCMError("out is in use by process 7 on here: end that training.")

    monkeypatch.setattr("refhcm.data.commands.sole_user", taken)
    assert run(rows, tmp_path / "out") == "label_map_training: out is in use by process 7 on here: end that training."


RANK = """
import os, signal, sys
import torch
from refhcm.models import label_map_training
from refhcm.stopping import stop

step, arguments = int(sys.argv[1]), sys.argv[2:]
draw, calls = label_map_training.draw_many, []


def draw_many(people, rng, size, occlude, count, *masks):
    calls.extend([count] if count == 2 else [])
    if len(calls) == step and os.environ["RANK"] == "1" and not stop.asked:
        os.kill(os.getpid(), signal.SIGTERM)  # of two processes one is told
    return draw(people, rng, size, occlude, count, *masks)


label_map_training.draw_many = draw_many
label_map_training.main(arguments)
"""


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_bit_for_bit(rows, tmp_path):  # noqa: F811
    (tmp_path / "rank.py").write_text(RANK)

    def start(out, step, *more):
        done = subprocess.run(
            [sys.executable, str(ROOT / "run_scripts" / "launch.py"), "--standalone", "--nproc_per_node", "2",
             str(tmp_path / "rank.py"), str(step), str(rows), "--out", str(out), "--steps", str(STEPS), "--batch", "2",
             "--codebook", "8", "--threads", "1", "--device", "cpu", "--save-every", "5", *more],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    start(tmp_path / "whole", -1)
    for step in (1, 6):
        out = tmp_path / f"parts{step}"
        assert f"stopped after {step} steps" in start(out, step)
        start(out, -1, "--resume")
        assert files(out) == files(tmp_path / "whole")
        assert same(state(out), state(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["label_map", "mask"])
def test_two_processes_measure_what_one_does(rows, tmp_path, name):  # noqa: F811
    torch.manual_seed(0)
    config = label_map_training.LabelMapConfig.preset({"label_map": "compact", "mask": "mask"}[name])
    save_label_map(tmp_path, label_map_training.LabelMapTokenizer(config))
    command = ["-m", "refhcm.inference.label_map_evaluation", str(rows), "--tokenizer", str(tmp_path), "--name", name,
               "--device", "cpu", "--threads", "1", "--json"]  # fmt: skip
    launch = [str(ROOT / "run_scripts" / "launch.py"), "--standalone", "--nproc_per_node", "2"]
    said = []
    for before, figures in ((launch, "two.json"), ([], "one.json")):
        done = subprocess.run(
            [sys.executable, *before, *command, str(tmp_path / figures)], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout)
    assert said[0] == said[1] and said[0]
    assert (tmp_path / "two.json").read_text() == (tmp_path / "one.json").read_text()
