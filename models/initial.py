"""A head start for models trained from nothing: ordered places, and weights that fit the width.

OFA draws every embedding at random, so the order of 1,000 bins and of the picture's cells must be learnt. A small
model on little data learns it sooner when bins and cells begin as Fourier features of the coordinate they stand for (as
in Vaswani et al. 2017, section 3.5, with wavelengths fit to the picture). Training may change all of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.annotation import KEYPOINT_NAMES
from ..data.vocabulary import POSE_QUERIES, Span, Vocabulary
from ..errors import RefHCMError
from .module_list import items
from .refhcm import RefHCM

BIN_STD = 0.02
"""Spread of token embeddings at the start, as in OFA."""
CELL_STD = 0.2
"""Spread of cell positions: that of the projected trunk features to which they are added (0.02 * sqrt(112))."""


def fourier_features(fractions: Tensor, width: int, waves: float) -> Tensor:
    """Sines and cosines of coordinates in [0, 1]: `[n]` -> `[n, width]`, unit variance, from half a wave to `waves`."""
    count = width // 2
    frequency = 0.5 * (waves / 0.5) ** (torch.arange(count) / max(count - 1, 1))
    angle = 2 * math.pi * fractions[:, None] * frequency
    return math.sqrt(2) * torch.cat([angle.sin(), angle.cos()], 1)


@torch.no_grad()
def start_codes(model: RefHCM, codes: Span, codebook: Tensor) -> None:
    """Let codes whose vectors in the label-map tokenizer's `codebook` [n, width] are alike begin with embeddings alike.

    Random Fourier features of the vectors (Rahimi, Recht 2007) at several scales, in place: codes are then regions of a
    space that the decoder can point into, and not so many unrelated names.
    """
    count, width = codes[1] - codes[0], model.config.d_model
    if len(codebook) < count:
        raise RefHCMError(f"The codebook has {len(codebook)} vectors for {count} codes; they belong to another model.")
    vectors = codebook[:count].float().cpu()
    vectors = vectors - vectors.mean(0)
    vectors = vectors / vectors.pow(2).mean(0).max().sqrt().clamp(min=1e-6)
    random = torch.Generator().manual_seed(0)
    scale = 0.5 * 6 ** torch.rand(width, generator=random)  # 0.5 to 3 per spread of the widest direction
    angle = vectors @ (torch.randn(vectors.shape[1], width, generator=random) * scale)
    angle = angle + 2 * math.pi * torch.rand(width, generator=random)
    model.encoder.embed_tokens.weight[slice(*codes)] = BIN_STD * math.sqrt(2) * angle.cos()


@torch.no_grad()
def start_pose(model: RefHCM, vocabulary: Vocabulary) -> None:
    """Let the queries of a pose's block begin as the names of their keypoints, in place."""
    table = model.encoder.embed_tokens.weight
    queries = vocabulary.pose_queries(len(KEYPOINT_NAMES))
    for index, name in enumerate(KEYPOINT_NAMES):
        meaning = table[vocabulary.encode_text(" " + name)].mean(0)
        for query in queries[POSE_QUERIES * index : POSE_QUERIES * (index + 1)]:
            table[query] = meaning


@torch.no_grad()
def start_weights(model: RefHCM) -> None:
    """Draw the linear weights of all layers with the variance that keeps signals at their size (Glorot, Bengio 2010).

    OFA draws them N(0, 0.02) at every width, which at a width of 256 leaves attention nearly uniform for a long time.
    """
    for side in (model.encoder.layers, model.decoder.layers):
        for module in side.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)


@torch.no_grad()
def start_places(model: RefHCM, bins: Span) -> None:
    """Give the bins' embeddings and the picture cells' positions their head start, in place."""
    config = model.config
    count, width = bins[1] - bins[0], config.d_model
    places = fourier_features(torch.linspace(0, 1, count), width, count / 8)
    model.encoder.embed_tokens.weight[slice(*bins)] = BIN_STD * places
    side, grid = config.image_bucket_size, config.image_size / 16
    line = fourier_features(((torch.arange(side) + 0.5) / grid), width // 2, grid / 2)
    cells = torch.cat([line[None, :].expand(side, -1, -1), line[:, None].expand(-1, side, -1)], 2)
    model.encoder.embed_image_positions.weight[1:] = CELL_STD * cells.flatten(0, 1)


@torch.no_grad()
def resize_places(model: RefHCM, trained_size: int) -> None:
    """Carry what was learnt about places at `trained_size` pixels over to the model's `image_size`, in place.

    A cell of the new grid takes the position of the spot it covers in the old one, and the bias of a step between cells
    is that of the same step across the picture: both are interpolated. Lets a model learn on small pictures first.
    """
    config = model.config
    side, old, new = config.image_bucket_size, -(-trained_size // 16), -(-config.image_size // 16)
    if old == new:
        return
    table = model.encoder.embed_image_positions.weight
    cells = table[1:].view(side, side, -1)[:old, :old].permute(2, 0, 1)[None]
    resized = F.interpolate(cells, size=(new, new), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    table[1:].view(side, side, -1)[:new, :new] = resized
    steps = 2 * side - 1
    scaled = (torch.arange(steps) - (side - 1)) * (old / new) / (side - 1)  # -1 .. 1 spans the table of steps
    grid = torch.stack(torch.meshgrid(scaled, scaled, indexing="ij")[::-1], -1)[None].to(table)
    for embedding in items(model.encoder.image_rel_pos_table_list, nn.Embedding):
        bias = embedding.weight[: steps * steps].view(steps, steps, -1).permute(2, 0, 1)[None]
        moved = F.grid_sample(bias, grid, mode="bilinear", padding_mode="border", align_corners=True)
        embedding.weight[: steps * steps] = moved[0].permute(1, 2, 0).reshape(steps * steps, -1)
