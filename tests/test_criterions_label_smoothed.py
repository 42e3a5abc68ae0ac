"""The loss equals the published one, and its options do what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.criterions.label_smoothed import LabelSmoothedLoss, LossSettings, neighbour_nll, smoothed_nll
from refhcm.data.vocabulary import PAD
from refhcm.tests.golden_data import golden_arrays, golden_json, has_golden

CODES, BINS = (20, 30), (30, 60)


def published_cases() -> list[dict]:
    cases = golden_json("model/training")["loss_fn"] if has_golden("model/training.json") else []
    ours = {"epsilon", "update_num", "drop_worst_ratio", "drop_worst_after"}
    return [case for case in cases if set(case["settings"]) <= ours]  # the others are options no recipe uses


@pytest.mark.parametrize("case", published_cases(), ids=lambda case: str(case["settings"]))
def test_equals_the_published_loss(case):
    arrays = golden_arrays("model/training")
    log_probabilities, target = (torch.from_numpy(arrays[f"loss_fn.{n}"]) for n in ("lprobs", "target"))
    said = case["settings"]
    loss = LabelSmoothedLoss(
        LossSettings(
            said["epsilon"],
            drop_worst_ratio=said.get("drop_worst_ratio", 0.0),
            drop_worst_after=said.get("drop_worst_after", 0),
        ),
        CODES,
        BINS,
    )
    keep = loss.wanted(target)
    losses = loss.tokens(log_probabilities[keep], target[keep].long())
    total, count = loss.total(losses, said["update_num"])
    assert total.item() == pytest.approx(case["loss"], rel=1e-5)
    assert count.item() == case["ntokens"]
    if "drop_worst_ratio" not in said:
        assert losses.nll.sum().item() == pytest.approx(case["nll_loss"], rel=1e-5)


def explicit(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against a whole distribution, the slow way."""
    return -(wanted * logits.log_softmax(-1)).sum(-1)


@given(st.integers(0, 59), st.floats(0, 0.9), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_smoothing_is_cross_entropy_with_a_smoothed_distribution(token, share, seed):
    logits = torch.randn(1, 60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wanted = torch.full((1, 60), share / 59, dtype=torch.float64)
    wanted[0, token] = 1 - share
    loss, _ = smoothed_nll(logits, torch.tensor([token]), share)
    torch.testing.assert_close(loss, explicit(logits, wanted))


@given(st.integers(*BINS).filter(lambda t: t < BINS[1]), st.floats(0.3, 8))
@settings(max_examples=30, deadline=None)
def test_neighbour_smoothing_is_a_gaussian_without_its_centre(token, sigma):
    logits = torch.randn(1, 60, generator=torch.Generator().manual_seed(token))
    weight = np.exp(-0.5 * ((np.arange(60) - token) / sigma) ** 2)
    weight[: BINS[0]] = weight[token] = 0
    wanted = torch.tensor(weight / weight.sum(), dtype=torch.float32)[None]
    torch.testing.assert_close(neighbour_nll(logits, torch.tensor([token]), BINS, sigma), explicit(logits, wanted))


def test_only_bins_are_smoothed_towards_their_neighbours():
    logits = torch.randn(3, 60, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([5, 25, 45])
    plain = LabelSmoothedLoss(LossSettings(), CODES, BINS).tokens(logits, target)
    near = LabelSmoothedLoss(LossSettings(bin_sigma=2.0, bin_smoothing=0.3), CODES, BINS).tokens(logits, target)
    torch.testing.assert_close(plain.loss[:2], near.loss[:2])
    expected = 0.7 * plain.nll[2] + 0.3 * neighbour_nll(logits[2:], target[2:], BINS, 2.0)[0]
    torch.testing.assert_close(near.loss[2], expected)


def test_weights_scale_classes_and_the_sample_size():
    logits = torch.randn(4, 60, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([2, 5, 25, 45])  # </s> counts as text
    loss = LabelSmoothedLoss(LossSettings(text_weight=0.5, code_weight=2.0, bin_weight=3.0), CODES, BINS)
    losses = loss.tokens(logits, target)
    total, weight = loss.total(losses)
    assert losses.kind.tolist() == [0, 0, 1, 2]
    assert weight.item() == 6.0
    torch.testing.assert_close(total, (losses.loss * torch.tensor([0.5, 0.5, 2.0, 3.0])).sum())


def test_nothing_is_dropped_before_its_time():
    logits = torch.randn(10, 60, generator=torch.Generator().manual_seed(0))
    target = torch.arange(10) + 2
    loss = LabelSmoothedLoss(LossSettings(drop_worst_ratio=0.25, drop_worst_after=100), CODES, BINS)
    losses = loss.tokens(logits, target)
    assert loss.total(losses, update=100)[1].item() == 10
    assert loss.total(losses, update=101)[1].item() == 7


def test_padding_wants_nothing():
    assert LabelSmoothedLoss.wanted(torch.tensor([[5, PAD], [PAD, 2]])).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.0}, {"drop_worst_ratio": -0.1}, {"bin_weight": -1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|cannot be"):
        LossSettings(**wrong)


# -- presence ------------------------------------------------------------------------------------------------
def test_presence_weighs_the_first_decision_alone():
    """`</s>` against all bins together, at the first place of answers that begin with either."""
    logits = torch.randn(5, 60, generator=torch.Generator().manual_seed(3))
    target, place = torch.tensor([2, 33, 2, 40, 7]), torch.tensor([0, 0, 4, 1, 0])  # nobody, a box, ends, bin, word
    plain, weighed = (LabelSmoothedLoss(LossSettings(presence_weight=weight), CODES, BINS) for weight in (0.0, 6.0))
    losses = weighed.tokens(logits, target, place)
    both = torch.cat([logits[:, 2:3], logits[:, slice(*BINS)]], 1).log_softmax(-1)
    nobody = both[:, 0].exp()
    torch.testing.assert_close(losses.presence[:2], -torch.stack([nobody[0], 1 - nobody[1]]).log())
    assert losses.presence[2:].tolist() == [0, 0, 0]
    (less, size), (more, same) = plain.total(plain.tokens(logits, target, place)), weighed.total(losses)
    torch.testing.assert_close(more, less + 6 * losses.presence.sum())
    assert size == same
