"""The head start puts neighbours side by side, and places survive a change of picture size."""

import pytest
import torch

from refhcm.errors import RefHCMError
from refhcm.models.config import ModelConfig
from refhcm.models.initial import fourier_features, resize_places, start_codes, start_places
from refhcm.models.refhcm import RefHCM

SMALL = {"d_model": 32, "encoder_heads": 2, "decoder_heads": 2, "encoder_layers": 1, "decoder_layers": 1,
         "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "trunk": "resnet18", "vocab_size": 200, "num_bins": 64,
         "num_codes": 32, "image_size": 64, "image_bucket_size": 16}  # fmt: skip


def model(**changes):
    torch.manual_seed(0)
    return RefHCM(ModelConfig(**{**SMALL, **changes})).eval()


def test_neighbouring_bins_begin_more_alike_than_distant_ones():
    network = model()
    start_places(network, (136, 200))
    bins = network.encoder.embed_tokens.weight[136:200].detach()
    likeness = torch.nn.functional.cosine_similarity(bins[:1], bins)
    assert likeness[1] > 0.9 > likeness[8] and likeness[1] > likeness[30]


def test_codes_that_stand_for_like_things_begin_more_alike():
    network = model(d_model=64)
    codebook = torch.linspace(0, 1, 16)[:, None] * torch.tensor([3.0, 1.0])
    before = network.encoder.embed_tokens.weight.detach().clone()
    start_codes(network, (104, 120), codebook)
    after = network.encoder.embed_tokens.weight.detach()
    likeness = torch.nn.functional.cosine_similarity(after[104:105], after[104:120])
    assert likeness[1] > 0.9 > likeness[6] and likeness[1] > likeness[15]
    assert torch.equal(after[:104], before[:104]) and torch.equal(after[120:], before[120:])
    with pytest.raises(RefHCMError, match="another model"):
        start_codes(network, (104, 121), codebook)


def test_fourier_features_have_unit_variance():
    features = fourier_features(torch.linspace(0, 1, 500), 64, 16)
    assert features.pow(2).mean().item() == pytest.approx(1, abs=0.02)


def test_places_follow_their_spot_when_pictures_grow():
    """Positions that are linear in the coordinate stay linear in it at the new size, away from the rim."""
    network = model(image_size=128)
    side = network.config.image_bucket_size
    with torch.no_grad():
        cells = network.encoder.embed_image_positions.weight[1:].view(side, side, -1)
        spot = (torch.arange(side) + 0.5) / 4  # as learnt at 64 pixels: 4 cells
        cells[:] = (spot[:, None] + 10 * spot[None, :])[..., None]
        steps = torch.arange(2 * side - 1) - (side - 1)
        for table in network.encoder.image_rel_pos_table_list:
            bias = (steps[:, None] + 10 * steps[None, :]).float() / 4
            table.weight[: bias.numel()] = bias.reshape(-1, 1)
    resize_places(network, trained_size=64)
    spot = (torch.arange(8) + 0.5) / 8
    wanted = spot[:, None] + 10 * spot[None, :]
    moved = network.encoder.embed_image_positions.weight.detach()[1:].view(side, side, -1)
    torch.testing.assert_close(moved[1:7, 1:7, 0], wanted[1:7, 1:7])
    near = network.encoder.image_rel_pos_table_list[0].weight.detach()[: len(steps) ** 2, 0].view(len(steps), -1)
    middle = slice(side - 5, side + 4)
    torch.testing.assert_close(near[middle, middle], (steps[:, None] + 10 * steps[None, :])[middle, middle] / 8)


def test_the_same_size_changes_nothing():
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    resize_places(network, trained_size=64)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
