"""Muon: its steps are orthogonal, only the layers' matrices take them, and a run with it resumes exactly."""

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")
if not hasattr(torch.optim, "Muon"):
    pytest.skip("torch before 2.9 has no Muon", allow_module_level=True)

from test_engine_training import TINY, data, train  # noqa: F401

from refhcm.engine.muon import MuonAndAdam, mark_matrices
from refhcm.errors import RefHCMError
from refhcm.models.config import ModelConfig
from refhcm.models.refhcm import RefHCM

RESET = ("--reset-optimizer", "--reset-lr-scheduler", "--reset-dataloader", "--reset-meters")


def in_a_layer(name: str) -> bool:
    return ".layers." in name and name.endswith(("proj.weight", "fc1.weight", "fc2.weight"))


def test_the_matrices_of_the_layers_are_marked_and_no_others():
    model = RefHCM(ModelConfig(**{**TINY, "vocab_size": 200, "num_bins": 32, "num_codes": 92}))
    mark_matrices(model)
    marked = {name for name, weight in model.named_parameters() if hasattr(weight, "in_a_layer")}
    assert marked == {name for name, _ in model.named_parameters() if in_a_layer(name)} != set()


def test_a_step_is_orthogonal_where_adams_is_not(monkeypatch, data, tmp_path):  # noqa: F811
    """The larger quarter of its singular values lies close together; the smallest are rounding, from few samples."""
    quiet = ("--weight-decay", "0", "--dropout", "0")
    train(monkeypatch, data, tmp_path / "start", "--max-update", "1", *quiet)
    start = torch.load(tmp_path / "start" / "checkpoint_last.pt", weights_only=True)["model"]
    go_on = ("--restore-file", str(tmp_path / "start" / "checkpoint_last.pt"), *RESET, "--max-update", "1", *quiet)
    spreads = {}
    for name in ("muon", "adam"):
        after = train(monkeypatch, data, tmp_path / name, *go_on, "--optimizer", name)["model"]
        steps = [after[key] - start[key] for key in start if in_a_layer(key) and "k_proj" not in key]
        values = [torch.linalg.svdvals(step) for step in steps]
        spreads[name] = torch.stack([v[0] / v[len(v) // 4] for v in values]).median().item()
    assert spreads["muon"] < 2 < spreads["adam"], spreads


def test_a_resumed_run_equals_an_uninterrupted_one(monkeypatch, data, tmp_path):  # noqa: F811
    options = ("--optimizer", "muon", "--muon-momentum", "0.9")
    whole = train(monkeypatch, data, tmp_path / "whole", "--max-update", "6", *options)
    train(monkeypatch, data, tmp_path / "parts", "--max-update", "3", *options)
    parts = train(monkeypatch, data, tmp_path / "parts", "--max-update", "6", *options)
    assert parts["model"].keys() == whole["model"].keys()
    assert all(torch.equal(tensor, parts["model"][name]) for name, tensor in whole["model"].items())


def test_both_halves_follow_the_schedule():
    matrix, vector = torch.nn.Parameter(torch.eye(4)), torch.nn.Parameter(torch.ones(4))
    both = MuonAndAdam([matrix], [vector], 0.9, lr=1.0, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
    for group in both.param_groups:  # as fairseq sets the rate
        group["lr"] = 0.0
    matrix.grad, vector.grad = torch.ones(4, 4), torch.ones(4)
    both.step()
    assert torch.equal(matrix, torch.eye(4)) and torch.equal(vector, torch.ones(4))
    both.zero_grad()
    assert matrix.grad is None and vector.grad is None


def test_what_hides_the_matrices_and_another_optimizers_state_are_refused(monkeypatch, data, tmp_path):  # noqa: F811
    with pytest.raises((RefHCMError, SystemExit), match="finds no matrix"):
        train(monkeypatch, data, tmp_path / "half", "--optimizer", "muon", "--bf16", "--max-update", "1")
    weights = torch.nn.Parameter(torch.eye(2)), torch.nn.Parameter(torch.ones(2))
    both = MuonAndAdam([weights[0]], [weights[1]], 0.9, lr=1.0, weight_decay=0.0)
    with pytest.raises(RefHCMError, match="--reset-optimizer"):
        both.load_state_dict({"state": {}, "param_groups": []})
