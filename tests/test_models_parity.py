"""The network gives the published numbers, for whatever golden folder REFHCM_GOLDEN names."""

import functools
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refhcm.models.config import ModelConfig
from refhcm.models.refhcm import RefHCM, published_tables
from refhcm.tests.golden_data import (
    golden_arrays,
    golden_batch,
    golden_batches,
    golden_json,
    golden_model,
    golden_state,
    has_golden,
)

CLOSE = 1e-4
MASKS = {"qpg_train": (6, 53), "qpg_infer": (6, 54), "qpg_causal": (-1, -1)}


def present(ending):
    """Prefixes X for which the golden outputs hold `X.ending`; folders may hold other batches than ours."""
    return sorted(
        name[: -len(ending) - 1] for name in golden_arrays("model/outputs") if name.endswith("." + ending)
    )


BATCHES = [name for name in present("encoder_out") if name in golden_batches()]
BLOCKS = [tuple(name.split(".")) for name in present("decoder_features") if "." in name]
CAPTIONS = [name.split(".")[0] for name in present("caption.encoder_out")]


def expected(name):
    return torch.from_numpy(golden_arrays("model/outputs")[name])


def differs(ours, golden, where=None):
    """Largest absolute difference, over the places where `where` is True."""
    difference = (ours - golden).abs()
    return difference[where].max() if where is not None else difference.max()


@functools.cache
def encoded(batch, source="src_tokens"):
    data, model = golden_batch(batch), golden_model()
    with torch.no_grad():
        features = model.image_features(data["patch_images"])
        return model.encode(data[source], features, data["patch_masks"])


def assert_logits(logits, prefix, real):
    """The chosen ids, the normaliser and the best ids of the whole vocabulary, where `real`."""
    arrays = golden_arrays("model/outputs")
    ids = torch.from_numpy(arrays["vocab_ids"]).long()
    assert differs(logits[..., ids], expected(f"{prefix}.logits_sub"), real) < CLOSE
    normaliser = logits.double().logsumexp(-1)
    assert differs(normaliser, expected(f"{prefix}.logits_logsumexp"), real) < CLOSE
    best = logits.gather(-1, expected(f"{prefix}.logits_top_ids").long())
    assert differs(best, expected(f"{prefix}.logits_top_values"), real) < CLOSE
    assert differs(logits.topk(best.shape[-1]).values, expected(f"{prefix}.logits_top_values"), real) < CLOSE


def test_the_published_state_dict_loads_entry_for_entry():
    model, state = golden_model(), golden_state()
    tables = {*published_tables(model.config), "encoder.version", "decoder.version"}
    ours = model.state_dict()
    assert set(ours) == set(state) - tables
    assert all(torch.equal(ours[name], state[name]) for name in ours)


def test_the_index_tables_are_the_published_ones():
    state = golden_state()
    for name, table in published_tables(golden_model().config).items():
        assert torch.equal(table, state[name]), name


@pytest.mark.parametrize("batch", BATCHES)
def test_encoder(batch):
    memory = encoded(batch)
    assert torch.equal(memory.padding, expected(f"{batch}.encoder_padding_mask"))
    real = ~memory.padding
    assert differs(memory.states, expected(f"{batch}.encoder_out"), real) < CLOSE
    assert differs(memory.positions, expected(f"{batch}.position_embeddings"), real) < CLOSE


@pytest.mark.parametrize("batch", BATCHES)
def test_decoder_and_logits(batch):
    tokens, model = golden_batch(batch)["prev_output_tokens"], golden_model()
    with torch.no_grad():
        features = model.decoder(tokens, encoded(batch))
        logits = model.logits(features)
    real = tokens.ne(model.config.pad)
    assert differs(features, expected(f"{batch}.decoder_features"), real) < CLOSE
    assert_logits(logits, batch, real)
    whole = golden_arrays("model/outputs").get(f"{batch}.logits_full_first5")
    if whole is not None:
        assert differs(logits[0, : len(whole)], torch.from_numpy(whole)) < CLOSE


@pytest.mark.parametrize(("batch", "mask"), BLOCKS)
def test_decoder_with_positions_that_see_each_other(batch, mask):
    data, model = golden_batch(batch), golden_model()
    tokens = data["prev_output_tokens_qpg"]
    blocks = torch.tensor(MASKS[mask]).expand(len(tokens), 1, 2)
    with torch.no_grad():
        features = model.decoder(tokens, encoded(batch), blocks)
    assert differs(features, expected(f"{batch}.{mask}.decoder_features")) < CLOSE
    assert_logits(model.logits(features[:, 4:]), f"{batch}.{mask}", tokens[:, 4:].ne(model.config.pad))


@pytest.mark.parametrize("batch", CAPTIONS)
def test_another_instruction_about_the_same_pictures(batch):
    memory = encoded(batch, "src_tokens_caption")
    assert torch.equal(memory.padding, expected(f"{batch}.caption.encoder_padding_mask"))
    assert differs(memory.states, expected(f"{batch}.caption.encoder_out"), ~memory.padding) < CLOSE


def layer_states(side, batch):
    """Input and outputs of the layers of one side, run over a batch."""
    data, model, states = golden_batch(batch), golden_model(), []
    layers = getattr(model, side).layers
    hooks = [layers[0].register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))]
    hooks += [
        layer.register_forward_hook(lambda _, inputs, output: states.append(output)) for layer in layers
    ]
    with torch.no_grad():
        features = model.image_features(data["patch_images"])
        model.decoder(
            data["prev_output_tokens"], model.encode(data["src_tokens"], features, data["patch_masks"])
        )
    for hook in hooks:
        hook.remove()
    return states


@pytest.mark.parametrize("batch", BATCHES)
def test_single_layers(batch):
    names = [
        re.fullmatch(rf"{batch}\.(en|de)coder_state(\d+)(_sample(\d+))?", n)
        for n in golden_arrays("model/outputs")
    ]
    real = {
        "en": ~encoded(batch).padding,
        "de": golden_batch(batch)["prev_output_tokens"].ne(golden_model().config.pad),
    }
    states = {side: layer_states(f"{side}coder", batch) for side in real} if any(names) else {}
    for name in filter(None, names):
        side, layer, _, row = name.groups()
        rows = slice(None) if row is None else int(row)
        ours = states[side][int(layer)][rows]
        assert differs(ours, expected(name.string), real[side][rows]) < CLOSE, name.string


@pytest.mark.parametrize("batch", BATCHES)
def test_trunk(batch):
    for name in golden_arrays("model/outputs"):
        if found := re.fullmatch(rf"{batch}\.resnet_sample(\d+)_every(\d+)ch", name):
            row, step = map(int, found.groups())
            with torch.no_grad():
                features = golden_model().image_features(golden_batch(batch)["patch_images"])
            assert differs(features[row, ::step], expected(name)) < CLOSE


def smoothed_loss(logits, target, pad, smoothing):
    """Summed over real targets: (1 - e - e/(V-1)) nll + e/(V-1) times the sum of -log p over all tokens."""
    share = smoothing / (logits.shape[-1] - 1)
    log_probability = F.log_softmax(logits.float(), -1)[target.ne(pad)]
    nll = -log_probability.gather(-1, target[target.ne(pad)][:, None]).sum()
    return (1 - smoothing - share) * nll - share * log_probability.sum()


@pytest.mark.skipif(not has_golden("model/training.json"), reason="no golden training numbers")
@pytest.mark.parametrize("case", ["ar", "qpg"])
def test_losses_and_gradients(case):
    arrays, everything = golden_arrays("model/training"), golden_json("model/training")
    numbers, settings = everything[f"{case}_eval"], everything["settings"]
    data = golden_batch(settings["batch"])
    tokens, target = (
        torch.from_numpy(arrays[f"{case}.{n}"]).long() for n in ("prev_output_tokens", "target")
    )
    model = RefHCM(ModelConfig.from_published_args(golden_json("model/config"))).eval()
    model.load_state_dict(golden_state())
    span = settings["qpg_full_mask_position"] if case == "qpg" else (-1, -1)
    logits, _ = model(
        data[settings["source"]],
        None,
        tokens,
        data["patch_images"],
        data["patch_masks"],
        blocks=torch.tensor(span).expand(len(tokens), 1, 2),
    )
    loss = smoothed_loss(logits, target, model.config.pad, settings["label_smoothing"])
    assert loss.item() == pytest.approx(numbers["loss_sum"], rel=1e-5)

    (loss / numbers["sample_size"]).backward()
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    total = np.sqrt(sum(norm**2 for norm in norms.values()))
    assert total == pytest.approx(numbers["grad_norm"], rel=1e-3)
    for name, norm in numbers["param_grad_norms"].items():
        assert norms.get(name, 0.0) == pytest.approx(norm, rel=1e-3, abs=1e-6), name
