"""What a run cannot do is said in one sentence before anything is started, and names the cause and the cure."""

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from test_engine_training import data, train  # noqa: F401

from refhcm.engine import survival
from refhcm.errors import MissingExtraError
from refhcm.models.adapters import import_peft

ONCE = ("--max-update", "1", "--disable-validation")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):  # noqa: F811
    """The checkpoint of a run of one update, with averaged weights."""
    save = tmp_path_factory.mktemp("run")
    train(pytest.MonkeyPatch(), data, save, *ONCE, "--store-ema", "--ema-decay", "0.5", "--lr", "0.1")
    return save / "checkpoint_last.pt"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num-workers", "-1"], "--num-workers must be 0 or more, not -1"),
        (["--max-epoch", "-1"], "--max-epoch must be 0 or more, not -1"),
        (["--update-freq", "0"], "--update-freq must be 1 or more, not 0"),
        (["--fp16"], "--fp16 needs a GPU: on the CPU leave it out (PRECISION=fp32)"),
        (["--amp"], "--amp needs a GPU"),
        (["--fully-shard", "--bf16"], "take --autocast bf16"),  # in one process as in several
        (["--fully-shard", "--store-ema"], "--store-ema needs whole weights"),
        (["--best-checkpoint-metric", "rec/nll"], "--best-checkpoint-metric rec/nll cannot be had without validation"),
        (["--init-from", "nope.pt", "--vocabulary", "nope"], "There is no nope.pt to start from (--init-from, INIT)"),
    ],
)
def test_senseless_options_are_refused(monkeypatch, data, tmp_path, options, said):  # noqa: F811
    with pytest.raises(SystemExit) as refused:
        train(monkeypatch, data, tmp_path / "run", *ONCE, *options)
    assert str(refused.value).startswith("train.py: ") and said in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch, data, tmp_path):  # noqa: F811
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    original = survival.check_options

    def on_a_gpu(cfg):
        cfg.common.cpu = False
        original(cfg)

    monkeypatch.setattr(survival, "check_options", on_a_gpu)
    with pytest.raises(SystemExit, match=r"no CUDA device here: train on the CPU with --cpu \(DEVICE=cpu\)"):
        train(monkeypatch, data, tmp_path, *ONCE)


# -- --resume ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", [{"a": torch.ones(3)}, [1, 2], {"model": [1]}])
def test_what_is_no_checkpoint_of_a_run_is_not_resumed(monkeypatch, data, tmp_path, content):  # noqa: F811
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(SystemExit, match=r"other\.pt is no checkpoint of a training run: name one with --resume"):
        train(monkeypatch, data, tmp_path / "run", *ONCE, "--resume", str(tmp_path / "other.pt"))


@pytest.mark.parametrize("lost", ["extra_state", "optimizer_history"])
def test_weights_alone_are_not_resumed_as_if_they_were_all(monkeypatch, data, tmp_path, run, lost):  # noqa: F811
    content = torch.load(run, weights_only=True)
    for kept in ({}, None):
        torch.save({**content, lost: kept} if kept is not None else {n: v for n, v in content.items() if n != lost},
                   tmp_path / "weights.pt")  # fmt: skip
        with pytest.raises(SystemExit, match=r"neither schedule nor place in the data.*--init-from .*weights\.pt"):
            train(monkeypatch, data, tmp_path / "run", *ONCE, "--resume", str(tmp_path / "weights.pt"))


def test_a_missing_state_of_the_optimizer_is_said(monkeypatch, data, tmp_path, run, caplog):  # noqa: F811
    content = torch.load(run, weights_only=True)
    del content["last_optimizer_state"]
    torch.save(content, tmp_path / "half.pt")
    train(monkeypatch, data, tmp_path / "run", *ONCE, "--store-ema", "--resume", str(tmp_path / "half.pt"))
    assert "half.pt holds no state of the optimizer, which begins anew" in caplog.text


def test_a_run_of_another_model_is_refused_by_its_difference(monkeypatch, data, tmp_path, run):  # noqa: F811
    again = ("--max-update", "2", "--disable-validation", "--store-ema")
    other = r"checkpoint_last\.pt is of another model than this run's: {}.*--init-from"
    with pytest.raises(SystemExit, match=other.format("d_model 32 there, 256 here")):
        train(monkeypatch, data, tmp_path / "run", *again, "--resume", str(run), "--arch", "refhcm_tiny")
    try:
        import_peft()
    except MissingExtraError as error:
        pytest.skip(str(error))
    with pytest.raises(SystemExit, match=other.format("--lora-r 0 there, 2 here")):
        train(monkeypatch, data, tmp_path / "run", *again, "--resume", str(run), "--lora-r", "2")
    train(monkeypatch, data, tmp_path / "adapted", *ONCE, "--lora-r", "2")
    with pytest.raises(SystemExit, match=other.format("--lora-r 2 there, 0 here")):  # its own last one
        train(monkeypatch, data, tmp_path / "adapted", "--max-update", "2", "--disable-validation")


# -- --init-from ---------------------------------------------------------------------------------------------
def test_a_run_starts_from_the_checkpoint_of_another(monkeypatch, data, tmp_path, run):  # noqa: F811
    """By the weights that an export would take, at the picture size that they were trained at."""
    first = torch.load(run, weights_only=True)
    last = train(monkeypatch, data, tmp_path, *ONCE, "--lr", "0.0", "--init-from", str(run))
    for name, tensor in first["extra_state"]["ema"].items():
        if name.endswith(("fc1.weight", "layer_norm.bias")):
            torch.testing.assert_close(last["model"][name], tensor, rtol=0, atol=0, msg=name)
    assert not torch.equal(first["model"]["decoder.layers.0.fc1.weight"], last["model"]["decoder.layers.0.fc1.weight"])
    assert last["task_state"]["refhcm"]["model"]["image_size"] == first["task_state"]["refhcm"]["model"]["image_size"]
