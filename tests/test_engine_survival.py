"""A run that is stopped, or meets bad numbers or a damaged file, goes on as if nothing had been, or says why not."""

import errno
import logging
import math
import multiprocessing
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from fairseq.data.iterators import EpochBatchIterator
from hypothesis import given, settings, strategies
from omegaconf import OmegaConf
from test_engine_training import data, train  # noqa: F401
from torch.utils.data import DataLoader

from refhcm.data import faults
from refhcm.data.faults import FaultTally
from refhcm.engine import going_on, saving, trainer
from refhcm.engine.criterion import RefHCMLoss
from refhcm.engine.dataset import CheckedBatches, FairseqSamples
from refhcm.engine.nonfinite import WINDOW, NonFinite
from refhcm.errors import RefHCMError
from refhcm.stopping import Stop, stop

QUICK = ("--disable-validation", "--no-epoch-checkpoints")
EVERYTHING = ("--store-ema", "--ema-decay", "0.9", "--flip", "0.5", "--zoom", "0.8", "--grounding-weight", "1")


def learnt(checkpoint: dict) -> dict:
    """All of a checkpoint that training has made; not its times and averages of log lines."""
    kept = {name: checkpoint[name] for name in ("model", "criterion", "last_optimizer_state")}
    extra = checkpoint["extra_state"]
    own = {name: extra["refhcm"][name] for name in ("nonfinite", "patience", "scaler", "fp32_params")}
    kept["history"] = checkpoint["optimizer_history"][-1]
    return {**kept, **{name: extra.get(name) for name in ("train_iterator", "ema", "val_loss", "best")}, **own}


def assert_same(first, second, where: str = "") -> None:
    """Bit for bit, all the way down."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_same(first[name], second[name], f"{where}.{name}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for place, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{place}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def updates(checkpoint: dict) -> int:
    return checkpoint["optimizer_history"][-1]["num_updates"]


def signalled(monkeypatch, name: str, count: int, number: int) -> None:
    """Let a method of the trainer send this process a signal, twice, in its `count`-th call."""
    original, calls = getattr(trainer.SafeTrainer, name), []

    def method(self, *args, **kwargs):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(trainer.SafeTrainer, name, method)


# -- signals -------------------------------------------------------------------------------------------------
def test_a_signal_saves_after_the_running_update_and_the_same_command_goes_on(monkeypatch, data, tmp_path, caplog):  # noqa: F811
    caplog.set_level(logging.INFO)
    options = ("--max-update", "5", *QUICK, *EVERYTHING)
    whole = train(monkeypatch, data, tmp_path / "whole", *options)
    with monkeypatch.context() as patch:
        signalled(patch, "train_step", 2, signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            train(patch, data, tmp_path / "parts", *options)
    assert stopped.value.code == 0
    assert updates(torch.load(tmp_path / "parts" / "checkpoint_last.pt", weights_only=True)) == 2
    said = [record.getMessage() for record in caplog.records if "the same command" in record.getMessage()]
    assert len(said) == 1 and "after update 2; " in said[0] and "parts/checkpoint_last.pt" in said[0]
    for _ in range(2):  # the second time nothing is left to do
        assert_same(learnt(train(monkeypatch, data, tmp_path / "parts", *options)), learnt(whole))
    assert sorted(path.name for path in (tmp_path / "parts").glob("checkpoint*")) == ["checkpoint_last.pt"]


def test_a_validation_that_a_signal_cuts_off_is_made_up_for(monkeypatch, data, tmp_path):  # noqa: F811
    """Also where training itself is complete: the epoch's checkpoint and the best one follow."""
    options = ("--max-epoch", "1", "--max-valid-steps", "1", "--patience", "3")
    whole = train(monkeypatch, data, tmp_path / "whole", *options)
    with monkeypatch.context() as patch:
        signalled(patch, "valid_step", 2, signal.SIGUSR1)
        with pytest.raises(SystemExit) as stopped:
            train(patch, data, tmp_path / "parts", *options)
    assert stopped.value.code == 0
    assert [path.name for path in (tmp_path / "parts").glob("checkpoint*")] == ["checkpoint_last.pt"]
    parts = train(monkeypatch, data, tmp_path / "parts", *options)
    assert_same(learnt(parts), learnt(whole))
    assert parts["extra_state"]["refhcm"]["owed"] is None and parts["extra_state"]["refhcm"]["patience"]
    names = [sorted(path.name for path in (tmp_path / run).glob("checkpoint*")) for run in ("whole", "parts")]
    assert names[0] == names[1] and "checkpoint_best.pt" in names[0]


def test_patience_goes_on_counting(monkeypatch, data, tmp_path):  # noqa: F811
    """Nothing is learnt, so that the second validation without progress, the third of all, ends the run."""
    options = ("--patience", "2", "--lr", "0", "--max-valid-steps", "0")
    for epochs, done in (("2", 4), ("9", 6), ("9", 6)):
        last = train(monkeypatch, data, tmp_path, "--max-epoch", epochs, *options, source="own.json")
        assert updates(last) == done


def test_signals_and_exit_codes(monkeypatch):
    own = Stop()
    for number, code in ((signal.SIGTERM, 0), (signal.SIGUSR1, 0), (signal.SIGINT, 130)):
        with own.listening():
            own.training = True
            os.kill(os.getpid(), number)
            assert own.asked and own.exit_code == code
            os.kill(os.getpid(), signal.SIGTERM)
            assert own.exit_code == code
    with own.listening(), pytest.raises(SystemExit) as left:  # nothing to save yet
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    with own.listening():  # the others would wait for this process
        os.kill(os.getpid(), signal.SIGTERM)
        assert own.asked
    with own.listening():
        own.training = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # torchrun sends one, the terminal another
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Readers(torch.utils.data.Dataset):
    """Items that say which process has read them."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[str, int]:
        return "reader", os.getpid()

    def set_epoch(self, epoch: int) -> None:
        pass


def test_a_loader_leaves_signals_to_the_process_that_trains():
    """torch alone: SIGTERM to all processes, as SLURM sends it, ends the loader and with it the training."""
    with stop.listening():
        batches = iter(
            DataLoader(FairseqSamples(Readers(), False, 1), num_workers=1, collate_fn=dict, prefetch_factor=2)
        )
        loader = next(batches)["reader"]
        for name in ("TERM", "INT", "USR1"):
            subprocess.run(["kill", f"-{name}", str(loader)], check=True)
        assert [next(batches)["reader"] for _ in range(7)] == [loader] * 7
        process = batches._workers[0]
        os.kill(loader, signal.SIGTERM)  # its parent may
        process.join(60)
        assert process.exitcode == 0
        batches._shutdown_workers()


@pytest.mark.parametrize("buffer", [0, 2])
@pytest.mark.parametrize("read", [1, 4])
def test_loader_processes_end_with_their_epoch(buffer, read):
    """At once, and in order: not when the garbage collector comes, which breaks their queues and waits 5 s for each."""
    samples = FairseqSamples(Readers(), False, 1)
    inner = EpochBatchIterator(samples, dict, [[0], [1], [2], [3]], num_workers=2, buffer_size=buffer)
    batches = CheckedBatches(inner, FaultTally({}))
    epoch = batches.next_epoch_itr(shuffle=False)
    loaders = {next(epoch)["reader"] for _ in range(read)}
    running = {child.pid: child for child in multiprocessing.active_children()}
    assert loaders <= running.keys()
    batches.close()
    assert not loaders & {child.pid for child in multiprocessing.active_children()}
    assert [running[loader].exitcode for loader in loaders] == [0] * len(loaders)


# -- files ---------------------------------------------------------------------------------------------------
def small_checkpoint(done: int) -> dict:
    history = [{"num_updates": done, "optimizer_name": "x", "criterion_name": "y", "lr_scheduler_state": {}}]
    state = {"optimizer_history": history, "last_optimizer_state": {}, "model": {"a": torch.arange(5000.0)}}
    return {**state, "extra_state": {"train_iterator": {"epoch": 1}}}


@pytest.mark.parametrize("damage", ["cut short", "one bit", "code"])
def test_the_newest_whole_checkpoint_stands_in_for_a_damaged_one(tmp_path, caplog, damage):
    last = tmp_path / "checkpoint_last.pt"
    for name, done in (("checkpoint1.pt", 8), ("checkpoint_2_12.pt", 12), ("checkpoint_best.pt", 8)):
        saving.write_checkpoint(small_checkpoint(done), tmp_path / name)
    saving.copy_checkpoint(tmp_path / "checkpoint_2_12.pt", last)
    (tmp_path / "checkpoint_3_16.pt").write_bytes(last.read_bytes()[:-300])
    (tmp_path / "checkpoint_9.pt.tmp").write_bytes(b"of a killed run")
    content = bytearray(last.read_bytes())
    if damage == "cut short":
        last.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        last.write_bytes(content)
    else:
        torch.save({**small_checkpoint(20), "code": print}, last)
    path, mark = going_on.choose(last, "")
    assert path.name == "checkpoint_2_12.pt" and mark == ""
    assert "checkpoint_2_12.pt, the newest whole checkpoint, after 12 updates" in caplog.text
    assert not list(tmp_path.glob("*.tmp"))
    for other in tmp_path.glob("checkpoint*.pt"):
        if other != last:
            other.unlink()
    with pytest.raises(RefHCMError, match=r"checkpoint_last\.pt cannot be resumed from: it is cut short"):
        going_on.choose(last, "")


@given(data=strategies.data())
@settings(max_examples=60)
def test_no_damage_passes_for_a_whole_checkpoint(tmp_path_factory, data):  # noqa: F811
    """What is read after any bit has changed, or any part of the end is missing, is what was written, or refused."""
    folder = tmp_path_factory.mktemp("damage")
    saving.write_checkpoint(small_checkpoint(1), folder / "whole.pt")
    content = bytearray((folder / "whole.pt").read_bytes())
    place = data.draw(strategies.integers(0, len(content) - 1))
    if data.draw(strategies.booleans()):
        content[place] ^= 1 << data.draw(strategies.integers(0, 7))
    else:
        del content[place:]
    (folder / "damaged.pt").write_bytes(content)
    saving.peek(folder / "damaged.pt")
    try:
        saving.check(folder / "damaged.pt")
    except RefHCMError:
        return
    assert_same(torch.load(folder / "damaged.pt", weights_only=True), small_checkpoint(1))


class FullDisk:
    """A file on a disk that has room for some bytes."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content) -> int:
        self.room -= len(bytes(content))
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


@pytest.mark.parametrize("room", [0, 5_000, 21_000])
def test_a_full_disk_is_one_sentence_and_leaves_the_checkpoint_of_before(monkeypatch, tmp_path, room):
    path = tmp_path / "checkpoint_last.pt"
    saving.write_checkpoint(small_checkpoint(1), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(saving, "open", lambda *a: FullDisk(Path(a[0]).open(a[1]), room), raising=False)  # noqa: SIM115
        with pytest.raises(RefHCMError, match=r"checkpoint_last\.pt cannot be written: No space left .*untouched"):
            saving.write_checkpoint(small_checkpoint(2), path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_was_not_written_as_meant_does_not_take_the_place_of_a_whole_checkpoint(monkeypatch, tmp_path):
    path = tmp_path / "checkpoint_last.pt"
    saving.write_checkpoint(small_checkpoint(1), path)
    before = path.read_bytes()
    monkeypatch.setattr(saving._Recording, "write", lambda self, content: self.file.write(bytes(content)[:-1]))
    with pytest.raises(RefHCMError, match="cut short or damaged"):
        saving.write_checkpoint(small_checkpoint(2), path)
    assert path.read_bytes() == before


def test_old_checkpoints_are_kept_as_asked(monkeypatch, data, tmp_path):  # noqa: F811
    keep = ("--keep-interval-updates", "1", "--keep-best-checkpoints", "1")
    options = ("--max-update", "11", "--save-interval-updates", "3", "--max-valid-steps", "0")
    train(monkeypatch, data, tmp_path, *options, *keep)
    names = {path.name for path in tmp_path.glob("checkpoint*")}
    best = {name for name in names if name.startswith("checkpoint.best_loss_")}
    assert len(best) == 1
    assert names - best == {"checkpoint_best.pt", "checkpoint_last.pt", "checkpoint_3_9.pt"}


def test_asynchronous_writing_is_refused(monkeypatch, data, tmp_path):  # noqa: F811
    with pytest.raises(SystemExit, match="--write-checkpoints-asynchronously cannot be had"):
        train(monkeypatch, data, tmp_path, "--max-update", "1", "--write-checkpoints-asynchronously")


# -- numbers that are not finite -----------------------------------------------------------------------------
def snapshots(monkeypatch) -> list[tuple[dict, dict]]:
    """The state before and after each update that was skipped."""
    taken, original = [], trainer.SafeTrainer.train_step

    def state(self):
        kept = {name: value.clone() for name, value in self.get_model().state_dict().items()}
        inner = self.optimizer.optimizer.state_dict()["state"]
        moments = {f"{n}.{name}": value.clone() if isinstance(value, torch.Tensor) else value
                   for n, values in inner.items() for name, value in values.items()}  # fmt: skip
        rounded = [value.detach().clone() for value in trainer._fp32_params(self.optimizer)]
        return {"model": kept, "optimizer": moments, "fp32": rounded, "update": self.get_num_updates()}

    def step(self, samples, *args, **kwargs):
        before = state(self)
        out = original(self, samples, *args, **kwargs)
        if self.skipped:
            taken.append((before, state(self)))
        return out

    monkeypatch.setattr(trainer.SafeTrainer, "train_step", step)
    return taken


def poisoned(monkeypatch, what: str, calls: set[int]) -> None:
    """Make the loss, or only its gradient, not finite in some training batches, counted from 0."""
    original, seen = RefHCMLoss.forward, []

    def forward(self, model, sample, reduce=True):
        loss, size, log = original(self, model, sample, reduce)
        if model.training:
            seen.append(sample["id"])
            if len(seen) - 1 in calls and what == "loss":
                loss = loss * float("nan")
            elif len(seen) - 1 in calls:
                loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss, size, log

    monkeypatch.setattr(RefHCMLoss, "forward", forward)


BAD = [("loss", ()), ("gradient", ()), ("gradient", ("--autocast", "bf16")), ("loss", ("--bf16",))]


@pytest.mark.parametrize(("what", "precision"), BAD)
def test_a_bad_update_changes_nothing_and_names_its_rows(monkeypatch, data, tmp_path, caplog, what, precision):  # noqa: F811
    poisoned(monkeypatch, what, {1, 2})
    taken = snapshots(monkeypatch)
    options = ("--max-epoch", "1", "--batch-size", "2", "--max-nonfinite", "2", *QUICK, *precision)
    last = train(monkeypatch, data, tmp_path, *options, source="own.json")
    assert len(taken) == 2
    for before, after in taken:
        assert_same(before, after)
    counted = last["extra_state"]["refhcm"]["nonfinite"]
    assert (updates(last), counted["steps"], counted["total"]) == (2, 4, 2)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("skipped update")]
    assert len(said) == 2 and all(f"the {what} is not finite; rows " in sentence for sentence in said)


def test_too_many_such_updates_stop_the_run_with_a_report(monkeypatch, data, tmp_path):  # noqa: F811
    poisoned(monkeypatch, "loss", set(range(1, 100)))
    with pytest.raises(SystemExit) as stopped:
        train(monkeypatch, data, tmp_path, "--max-update", "9", "--max-nonfinite", "2", *QUICK)
    said = str(stopped.value).splitlines()
    assert "3 of the latest 4 updates were skipped" in said[0] and "--max-nonfinite" in said[0]
    assert len(said) == 4 and all(line.startswith("update 2: the loss is not finite; rows ") for line in said[1:])


def test_the_cap_is_on_a_window_of_updates():
    counted = NonFinite(2)
    for step in range(1, 3 * WINDOW + 1):
        counted.steps = step
        if step % (WINDOW // 2) == 1:  # two in every window
            counted.skip(step, "loss", ["a"])
    assert counted.total == 6
    again = NonFinite(2)
    again.load_state_dict(counted.state_dict())
    again.steps += 2
    again.skip(1, "loss", [])
    with pytest.raises(RefHCMError, match=f"3 of the latest {WINDOW:,} updates"):
        again.skip(1, "gradient", [])
    with pytest.raises(RefHCMError, match="--max-nonfinite is -1"):
        NonFinite(-1)


def test_the_loss_scaler_keeps_its_own_way_with_overflow(monkeypatch, data, tmp_path, caplog):  # noqa: F811
    """Overflow halves the scale as ever and is not counted; a loss that is not finite leaves the scale alone."""
    caplog.set_level(logging.INFO)
    half = ("--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", str(2**60), "--fp16-scale-window", "4")
    poisoned(monkeypatch, "loss", {2})
    last = train(monkeypatch, data, tmp_path, "--max-epoch", "1", "--batch-size", "4", *half, *QUICK)
    own = last["extra_state"]["refhcm"]
    assert own["nonfinite"]["total"] == 1 and own["nonfinite"]["steps"] == 4 and updates(last) == 0
    assert own["scaler"]["loss_scale"] == 2**57
    assert sum("gradient overflow detected" in record.getMessage() for record in caplog.records) == 3


@pytest.mark.parametrize("precision", ["--fp16", "--bf16"])
def test_sixteen_bits_go_on_exactly_too(monkeypatch, data, tmp_path, precision):  # noqa: F811
    """The weights that are trained have 32 bits, and the loss scaler counts updates: fairseq forgets both."""
    options = (precision, "--fp16-no-flatten-grads", "--fp16-init-scale", "4", "--fp16-scale-window", "2", *QUICK)
    whole = train(monkeypatch, data, tmp_path / "whole", "--max-update", "3", *options, source="own.json")
    for last in ("1", "3"):
        parts = train(monkeypatch, data, tmp_path / "parts", "--max-update", last, *options, source="own.json")
    assert_same(learnt(parts), learnt(whole))


def test_empty_batches_do_not_change_how_an_update_is_normalised(monkeypatch, data, tmp_path):  # noqa: F811
    """fairseq takes an update whose last batch is empty for one without samples, and divides by nothing."""
    once = train(monkeypatch, data, tmp_path / "once", "--max-update", "1", *QUICK)
    step = trainer.SafeTrainer.train_step
    monkeypatch.setattr(trainer.SafeTrainer, "train_step", lambda self, samples: step(self, [{}, *samples, {}]))
    padded = train(monkeypatch, data, tmp_path / "padded", "--max-update", "1", *QUICK)
    assert_same(padded["model"], once["model"])


def test_rows_that_were_set_aside_stay_counted(monkeypatch, data, tmp_path):  # noqa: F811
    monkeypatch.setattr(faults, "BAD_SHARE", 0.5)
    rows = (data / "train" / "rec.tsv").read_text().splitlines()
    (tmp_path / "bad.tsv").write_text("\n".join([rows[0].replace(",", ";"), *rows[1:]]) + "\n")
    options = ("--batch-size", "1", "--valid-subset", "valid", *QUICK)
    found = []
    for last in ("8", "9"):  # the first epoch, then one row more
        checkpoint = train(monkeypatch, data, tmp_path / "run", "--max-update", last, *options, task="rec",
                           source=f"{tmp_path / 'bad.tsv'},train/rec.tsv")  # fmt: skip
        found.append([(path, line) for path, line, why in checkpoint["extra_state"]["refhcm"]["faults"]])
    assert found[0] == found[1] == [(str(tmp_path / "bad.tsv"), 1)]


def test_a_validation_of_several_processes_is_of_the_model_that_is_saved(monkeypatch):
    """Each has batch norms of its own, and the first one's are saved."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    first = torch.nn.BatchNorm1d(2)
    first(torch.randn(4, 2))
    saved = iter(first.buffers())
    monkeypatch.setattr(trainer.dist, "broadcast", lambda value, source, group: value.copy_(next(saved)))
    several = SimpleNamespace(data_parallel_world_size=2, data_parallel_process_group=None, get_model=lambda: model)
    trainer.SafeTrainer.share_norms(several)
    assert_same(dict(model[1].named_buffers()), dict(first.named_buffers()))


# -- going on ------------------------------------------------------------------------------------------------
def test_another_runs_checkpoint_is_gone_on_from_for_some_updates_more(monkeypatch, data, tmp_path):  # noqa: F811
    """Optimizer, schedule and place in the data come along; a stop and the same command do not begin it again."""
    base = tmp_path / "base" / "checkpoint_last.pt"
    train(monkeypatch, data, base.parent, "--max-update", "3", *QUICK)
    options = ("--resume", str(base), "--more-updates", "3", *QUICK)
    whole = train(monkeypatch, data, tmp_path / "whole", *options)
    assert updates(whole) == 6
    assert whole["last_optimizer_state"]["param_groups"][0]["lr"] == 0  # the schedule ends with the run
    with monkeypatch.context() as patch:
        signalled(patch, "train_step", 2, signal.SIGTERM)
        with pytest.raises(SystemExit):
            train(patch, data, tmp_path / "parts", *options)
    parts = train(monkeypatch, data, tmp_path / "parts", *options)
    assert_same(learnt(parts), learnt(whole))
    again = train(monkeypatch, data, tmp_path / "parts", "--more-epochs", "1", *QUICK)
    assert again["extra_state"]["train_iterator"]["epoch"] == 4  # the second epoch's rest, and the third


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--resume", "nowhere.pt"), "There is no checkpoint at nowhere.pt"),
        (("--resume", "a.pt", "--restore-file", "b.pt"), "Give one of --resume, --restore-file"),
        (("--more-epochs", "1", "--more-updates", "1"), "Give one of --more-epochs and --more-updates"),
        (("--max-nonfinite", "-1"), "--max-nonfinite is -1"),
    ],
)
def test_wrong_ways_of_going_on_are_one_sentence(monkeypatch, data, tmp_path, options, said):  # noqa: F811
    with pytest.raises(SystemExit, match=said):
        train(monkeypatch, data, tmp_path, "--max-update", "1", *options)


class Batches:
    """Where fairseq's iterator over epochs stands."""

    def __init__(self, epoch: int, begun: int, length: int = 10) -> None:
        self.next_epoch_idx, self.iterations_in_epoch, self.length = epoch, begun, length

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize(
    ("epoch", "begun", "more", "last", "left"),
    [(1, 0, 2, 2, 5 + 4), (2, 0, 2, 3, 4 + 4), (1, 4, 1, 2, 3 + 4), (3, 3, 2, 5, 3 + 4 + 4)],
)
def test_epochs_more_are_counted_from_the_checkpoint(epoch, begun, more, last, left):
    """Two batches per update in the first epoch, three from the second; a begun epoch comes first."""
    cfg = OmegaConf.create({"optimization": {"update_freq": [2, 3], "skip_remainder_batch": False}})
    assert going_on._left(cfg, Batches(epoch, begun), more) == (last, left)


def test_a_validation_that_gives_no_number_is_not_the_best(monkeypatch, data, tmp_path):  # noqa: F811
    train(monkeypatch, data, tmp_path, "--max-update", "1", "--max-valid-steps", "0")
    original = RefHCMLoss.forward

    def forward(self, model, sample, reduce=True):
        loss, size, log = original(self, model, sample, reduce)
        return loss, size, log if model.training else {**log, "loss": log["loss"] * float("nan")}

    monkeypatch.setattr(RefHCMLoss, "forward", forward)
    last = train(monkeypatch, data, tmp_path, "--max-update", "2", "--max-valid-steps", "0")
    assert math.isfinite(last["extra_state"]["best"])
    best = torch.load(tmp_path / "checkpoint_best.pt", weights_only=True)
    assert updates(best) == 1 and updates(last) == 2
