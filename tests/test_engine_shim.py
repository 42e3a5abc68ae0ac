"""fairseq's own parts, mended, do what the recipes rely on; without fairseq everything but training works."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from refhcm.tests.golden_data import golden_arrays, golden_json, has_golden


@pytest.fixture(scope="module", autouse=True)
def fairseq():
    pytest.importorskip("hydra")
    engine = pytest.importorskip("refhcm.engine")
    return engine.load_fairseq()


RATES = golden_json("model/training")["polynomial_decay"] if has_golden("model/training.json") else []


@pytest.mark.parametrize("case", RATES, ids=lambda case: str(case["total_updates"]))
def test_the_scheduler_equals_the_published_one(case):
    from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRSchedule

    total = case["total_updates"]
    optimizer = optimizer_for(torch.nn.Parameter(torch.zeros(1)), lr=case["lr"])
    cfg = SimpleNamespace(
        lr=[case["lr"]], warmup_updates=int(case["warmup_ratio"] * total), end_learning_rate=0.0, power=1.0,
        total_num_update=total, force_anneal=None,
    )  # fmt: skip
    scheduler = PolynomialDecayLRSchedule(cfg, optimizer)
    for update, rate in case["lr_at_update"].items():
        assert scheduler.step_update(int(update)) == pytest.approx(rate, rel=1e-6, abs=1e-12)


def optimizer_for(*parameters: torch.nn.Parameter, lr: float, weight_decay: float = 0.0):
    from fairseq.optim.adam import FairseqAdam

    cfg = SimpleNamespace(
        lr=[lr], adam_betas="(0.9, 0.999)", adam_eps=1e-8, weight_decay=weight_decay, use_old_adam=False,
        fp16_adam_stats=False, tpu=False,
    )  # fmt: skip
    return FairseqAdam(cfg, list(parameters))


def test_the_optimizer_step_equals_the_published_one():
    """Clip to norm 1, then Adam with decoupled weight decay: compared where the first gradients are given in full."""
    said, arrays = golden_json("model/training")["adam_step"], golden_arrays("model/training")
    weights = golden_arrays("model/weights")
    names = [name.removeprefix("adam_step.") for name in arrays if name.startswith("adam_step.")]
    names = [name for name in names if f"ar_train.grad.{name}" in arrays]
    assert names
    for name in names:
        parameter = torch.nn.Parameter(torch.from_numpy(weights[name].copy()))
        optimizer = optimizer_for(parameter, lr=said["lr"], weight_decay=said["weight_decay"])
        gradient = torch.from_numpy(arrays[f"ar_train.grad.{name}"])
        parameter.grad = gradient * (said["clip_norm"] / (said["grad_norm_before_clip"] + 1e-6))
        optimizer.step()
        np.testing.assert_allclose(
            parameter.detach().numpy(), arrays[f"adam_step.{name}"], rtol=0, atol=2e-7, err_msg=name
        )


def test_averaged_weights_count_each_tensor_once():
    from fairseq.models.ema.ema import EMA

    class Net(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
            torch.nn.init.constant_(self.a.weight, value)
            self.b.weight = self.a.weight
            self.norm = torch.nn.BatchNorm1d(2)

    config = SimpleNamespace(ema_decay=0.9, ema_seed_model=None, ema_fp32=False, ema_start_update=0, ema_update_freq=1)
    average = EMA(Net(0.0), config)
    new = Net(1.0)
    new.norm.num_batches_tracked += 7
    average.step(new, updates=1)
    torch.testing.assert_close(average.get_model().a.weight, torch.full((2, 2), 0.1))
    assert average.get_model().b.weight is average.get_model().a.weight
    assert average.get_model().norm.num_batches_tracked == 7


def test_prediction_does_not_need_fairseq():
    code = (
        "import sys; sys.modules['fairseq'] = None\n"
        "import refhcm, refhcm.tasks, refhcm.models.refhcm, refhcm.data.dataset, refhcm.criterions.label_smoothed\n"
        "print(refhcm.load.__name__)\n"
        "try:\n    import refhcm.engine\n"
        "except ImportError as error: print(str(error))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert result.stdout.startswith("load\n"), result.stderr
    assert "fairseq" in result.stdout.splitlines()[1]


def test_fairseq_by_another_door_is_refused():
    code = "import sys, types; sys.modules['fairseq'] = types.ModuleType('fairseq'); import refhcm.engine"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert "import refhcm.engine first" in result.stderr
