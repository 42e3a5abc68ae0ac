"""Sizes are the published ones; a config survives JSON; what cannot be built is refused with its name."""

import argparse
import json

import pytest
import torch

from refhcm.errors import RefHCMError
from refhcm.models.config import PRESETS, ModelConfig
from refhcm.models.refhcm import RefHCM, published_tables

PUBLISHED = {
    "tiny": (33_488_336, 543),
    "medium": (92_892_000, 849),
    "base": (182_238_536, 967),
    "large": (472_977_152, 1_627),
    "huge": (929_486_848, 1_903),
}
"""Distinct parameters and state-dict entries of the published networks, as counted there."""


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_the_published_parameters(size):
    with torch.device("meta"):
        model = RefHCM(ModelConfig.preset(size))
    versions_and_tables = 2 + len(published_tables(model.config))
    entries = len(model.state_dict()) + versions_and_tables
    assert (sum(p.numel() for p in model.parameters()), entries) == PUBLISHED[size]


@pytest.mark.parametrize("size", PRESETS)
def test_a_config_survives_json(size):
    config = ModelConfig.preset(size)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_saved_arguments_of_a_run_name_the_size():
    args = argparse.Namespace(
        arch="ofa_large", encoder_embed_dim=1024, encoder_ffn_embed_dim=4096, encoder_attention_heads=16,
        decoder_attention_heads=16, encoder_layers=12, decoder_layers=12, resnet_type="resnet152",
        scale_attn=True, disable_entangle=True, entangle_position_embedding=False, patch_image_size=512,
        attn_scale_factor=2,
    )  # fmt: skip
    assert ModelConfig.from_published_args(args) == ModelConfig.preset("large", attn_scale_factor=2)
    args.disable_entangle = False
    assert ModelConfig.from_published_args(args).entangle_decoder_positions
    args.sync_bn = True
    assert ModelConfig.from_published_args(args).trunk_norm_eps == 1e-3


def test_another_arithmetic_is_refused():
    with pytest.raises(RefHCMError, match="scale_heads=False"):
        ModelConfig.from_published_args({"scale_heads": False})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 0),
        ("d_model", "256"),
        ("d_model", True),
        ("d_model", 10**9),
        ("encoder_heads", 3),
        ("trunk", "vit"),
        ("trunk_blocks", (1, 2)),
        ("trunk_blocks", 3),
        ("image_mean", 0.5),
        ("image_std", "half"),
        ("attn_scale_factor", float("nan")),
        ("trunk_norm_eps", float("inf")),
        ("trunk_norm_eps", 10**400),
        ("dropout", 1.0),
        ("vocab_size", 100),
        ("pad", 60_000),
        ("image_mean", (0.5, 0.5)),
        ("image_std", (0.5, 0.5, 0.0)),
        ("image_size", 1024),
        ("trunk_norm_eps", 0.0),
        ("encoder_layers", 1000),
        ("no_such_field", 1),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(RefHCMError, match=field.split("_")[0]):
        ModelConfig.preset("large", **{field: value})


def test_an_unknown_size_is_answered_with_the_sizes():
    with pytest.raises(RefHCMError, match=r"tiny, medium, base, large, huge, compact"):
        ModelConfig.preset("gigantic")
