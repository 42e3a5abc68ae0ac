"""Encoder and decoder of the label-map tokenizer: the VQGAN layout (Esser et al. 2021, arXiv 2012.09841).

Parameter names are those of the published checkpoint, so that its state dict loads key for key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .module_list import items

NORM_EPS = 1e-6


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=NORM_EPS)


def _conv3(inputs: int, outputs: int, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=padding)


class ResidualBlock(nn.Module):
    """Twice (norm, swish, 3x3 convolution) beside a shortcut: [B, inputs, H, W] -> [B, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(groups, inputs)
        self.conv1 = _conv3(inputs, outputs)
        self.norm2 = _norm(groups, outputs)
        self.conv2 = _conv3(outputs, outputs)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class PixelAttention(nn.Module):
    """Single-head self-attention over all pixels beside a shortcut: [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(groups, channels)
        self.q = nn.Conv2d(channels, channels, kernel_size=1)
        self.k = nn.Conv2d(channels, channels, kernel_size=1)
        self.v = nn.Conv2d(channels, channels, kernel_size=1)
        self.proj_out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        query, key, value = (part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(query, key, value)  # [B, H*W, C], scale C^-0.5
        return x + self.proj_out(mixed.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Halve height and width; padded on the right and at the bottom only, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv3(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width by repeating pixels, then smooth with a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """Residual block, attention, residual block at the coarsest grid."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = PixelAttention(channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """The blocks of one resolution; also holds the `downsample` or `upsample` that leaves it."""

    downsample: Downsample
    upsample: Upsample

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(inputs if i == 0 else outputs, outputs, groups) for i in range(blocks)
        )
        self.attn = nn.ModuleList(PixelAttention(outputs, groups) for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        return x


class Encoder(nn.Module):
    """[B, inputs, H, W] -> [B, latent, H/s, W/s] with s = 2^(levels - 1).

    `widths` lists the channels of each level, finest first; `attention_levels` are indices into it.
    """

    def __init__(
        self, inputs: int, base: int, widths: tuple[int, ...], blocks: int, attention_levels: tuple[int, ...],
        latent: int, groups: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv_in = _conv3(inputs, base)
        self.down = nn.ModuleList()
        previous = base
        for i, width in enumerate(widths):
            level = Level(previous, width, blocks, i in attention_levels, groups)
            if i < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
            previous = width
        self.mid = Middle(previous, groups)
        self.norm_out = _norm(groups, previous)
        self.conv_out = _conv3(previous, latent)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in items(self.down, Level):
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """[B, latent, h, w] -> [B, outputs, h*s, w*s]: the levels backwards, with one block more each."""

    def __init__(
        self, outputs: int, widths: tuple[int, ...], blocks: int, attention_levels: tuple[int, ...],
        latent: int, groups: int,
    ) -> None:  # fmt: skip
        super().__init__()
        previous = widths[-1]
        self.conv_in = _conv3(latent, previous)
        self.mid = Middle(previous, groups)
        levels: list[Level] = []
        for i in reversed(range(len(widths))):
            level = Level(previous, widths[i], blocks + 1, i in attention_levels, groups)
            if i > 0:
                level.upsample = Upsample(widths[i])
            levels.insert(0, level)  # index 0 is the finest level, as in the published names
            previous = widths[i]
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(groups, previous)
        self.conv_out = _conv3(previous, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(items(self.up, Level)):
            x = level(x)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


def fold_pixels(x: Tensor, factor: int) -> Tensor:
    """[B, C, H, W] -> [B, C * factor^2, H / factor, W / factor]: trade resolution for channels."""
    return x if factor == 1 else F.pixel_unshuffle(x, factor)


def unfold_pixels(x: Tensor, factor: int) -> Tensor:
    """The inverse of `fold_pixels`."""
    return x if factor == 1 else torch.pixel_shuffle(x, factor)
