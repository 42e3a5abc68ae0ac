"""The label-map tokenizer: what a crop of the picture shows, class by class <-> 48 codes.

One of them is for part maps (the 20 CIHP classes of one person, cropped to the box), another for masks (background, the
person, other people). Classes, crop, grid and codebook are settings (`LabelMapConfig`).

A VQGAN-shaped autoencoder with a codebook between encoder and decoder. The main model only ever sees the codes; this
network is trained beforehand (`models.label_map_training`) and then frozen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..data.annotation import MASK_NAMES
from ..errors import RefHCMError
from .label_map_blocks import Decoder, Encoder, fold_pixels, unfold_pixels

_LIMITS = {
    "classes": 256, "height": 2048, "width": 2048, "channels": 1024, "blocks": 8, "latent": 1024,
    "embedding": 1024, "codebook": 8192, "groups": 64, "fold": 8,
}  # fmt: skip


@dataclass(frozen=True)
class LabelMapConfig:
    """Sizes of a label-map tokenizer; the defaults are those of the published checkpoint.

    Attributes:
        classes: Labels of a map, background (0) included.
        height, width: The crop that is encoded, in pixels.
        channels: Channels after the first convolution; each level has `channels * multipliers[i]`.
        multipliers: One per resolution, finest first; each further level halves height and width.
        blocks: Residual blocks per level of the encoder (the decoder has one more).
        attention_levels: Levels whose blocks are followed by self-attention, 0 being the finest.
        latent: Channels between encoder or decoder and the 1x1 convolutions around the codebook.
        embedding: Width of a codebook entry.
        codebook: Number of codebook entries.
        groups: Groups of every group normalisation; must divide the channels of every level.
        fold: Side of the pixel squares that are stacked into channels before the first convolution (1 =
            published); 2 runs the network at half the resolution, four times faster, with the same crop.
    """

    classes: int = 20
    height: int = 128
    width: int = 96
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (3,)
    latent: int = 256
    embedding: int = 256
    codebook: int = 32
    groups: int = 32
    fold: int = 1

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
                raise RefHCMError(f"label-map tokenizer: {name} must be 1..{limit}, but is {value!r}")
        object.__setattr__(self, "multipliers", _small_ints("multipliers", self.multipliers, 1, 16))
        object.__setattr__(
            self, "attention_levels", _small_ints("attention_levels", self.attention_levels, 0, 7)
        )
        if not self.multipliers:
            raise RefHCMError("label-map tokenizer: multipliers must list at least one level")
        if self.height % self.stride or self.width % self.stride:
            raise RefHCMError(
                f"label-map tokenizer: height and width must be multiples of {self.stride}, "
                f"but are {self.height} and {self.width}"
            )
        if any(width % self.groups for width in (self.channels, *self.widths)):
            raise RefHCMError(
                f"label-map tokenizer: {self.groups} groups do not divide the channels {self.widths}"
            )

    @property
    def stride(self) -> int:
        """Crop pixels per code, each way."""
        return self.fold * 2 ** (len(self.multipliers) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the codes; the sequence is row by row."""
        return self.height // self.stride, self.width // self.stride

    @property
    def masks(self) -> bool:
        """Whether the labels are those of `data.annotation.MASK_NAMES` (by their number), and not parts of the body."""
        return self.classes == len(MASK_NAMES)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @classmethod
    def preset(cls, name: str) -> LabelMapConfig:
        """Of part maps `"published"` (the checkpoint's shape, 68 M parameters) or `"compact"` (ours, below 1 M); of
        three-way masks `"mask"` (ours, below 1 M)."""
        presets: dict[str, Callable[[], LabelMapConfig]] = {"published": cls, "compact": _compact, "mask": _mask}
        if name not in presets:
            raise RefHCMError(f"unknown label-map tokenizer {name!r}; choose one of: {', '.join(presets)}")
        return presets[name]()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LabelMapConfig:
        """The inverse of `to_dict`; refuses unknown names and impossible sizes."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise RefHCMError(
                f"label-map tokenizer: unknown settings {', '.join(unknown)}; known: {', '.join(known)}"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


def _compact() -> LabelMapConfig:
    return LabelMapConfig(
        height=64, width=48, channels=32, multipliers=(1, 2), blocks=1, attention_levels=(), latent=64,
        embedding=16, codebook=512, groups=8, fold=4,
    )  # fmt: skip


def _mask() -> LabelMapConfig:
    return LabelMapConfig(
        classes=len(MASK_NAMES), height=128, width=96, channels=32, multipliers=(1, 1, 2), blocks=1,
        attention_levels=(), latent=64, embedding=16, codebook=512, groups=8, fold=4,
    )  # fmt: skip


def _small_ints(name: str, values: Any, low: int, high: int) -> tuple[int, ...]:
    if not isinstance(values, (list, tuple)) or len(values) > 8:
        raise RefHCMError(
            f"label-map tokenizer: {name} must be a list of at most 8 integers, but is {values!r}"
        )
    if not all(isinstance(value, int) and low <= value <= high for value in values):
        raise RefHCMError(f"label-map tokenizer: {name} must be integers of {low}..{high}, but is {values!r}")
    return tuple(values)


class Codebook(nn.Module):
    """The table of code vectors."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        nn.init.uniform_(self.embedding.weight, -1.0 / size, 1.0 / size)

    def nearest(self, vectors: Tensor) -> Tensor:
        """[..., width] -> [...] int64: the entry of least squared distance."""
        table = self.embedding.weight
        # |v - e|^2 without the term |v|^2, which is the same for every entry
        return (table.pow(2).sum(dim=1) - 2.0 * vectors @ table.t()).argmin(dim=-1)


class LabelMapTokenizer(nn.Module):
    """Label map <-> codes; parameter names are those of the published VQGAN.

    Labels are int [B, height, width] with values 0..classes-1, codes int64 [B, rows * columns], row by row.
    """

    def __init__(self, config: LabelMapConfig) -> None:
        super().__init__()
        self.config = config
        stacked = config.classes * config.fold**2
        shape = (config.widths, config.blocks, config.attention_levels, config.latent, config.groups)
        self.encoder = Encoder(stacked, config.channels, *shape)
        self.decoder = Decoder(stacked, *shape)
        self.quantize = Codebook(config.codebook, config.embedding)
        self.quant_conv = nn.Conv2d(config.latent, config.embedding, kernel_size=1)
        self.post_quant_conv = nn.Conv2d(config.embedding, config.latent, kernel_size=1)

    def latents(self, labels: Tensor) -> Tensor:
        """Labels [B, H, W] (or one-hot [B, classes, H, W]) -> [B, embedding, rows, columns]."""
        config = self.config
        if labels.dim() == 3:
            if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < config.classes:
                raise RefHCMError(
                    f"the label map holds labels outside 0..{config.classes - 1}; map them to classes first"
                )
            labels = F.one_hot(labels.long(), config.classes).permute(0, 3, 1, 2)
        if labels.shape[1:] != (config.classes, config.height, config.width):
            raise RefHCMError(
                f"a label map of shape {tuple(labels.shape[-2:])} does not fit {config.height}x{config.width}; "
                "cut it out with crop_part_map first"
            )
        dense = labels.to(self.quant_conv.weight.dtype)
        return self.quant_conv(self.encoder(fold_pixels(dense, config.fold)))

    def encode(self, labels: Tensor) -> Tensor:
        """Labels [B, H, W] (or one-hot [B, classes, H, W]) -> codes [B, rows * columns]."""
        return self.quantize.nearest(self.latents(labels).flatten(2).transpose(1, 2))

    def reconstruct(self, quantized: Tensor) -> Tensor:
        """Code vectors [B, embedding, rows, columns] -> class logits [B, classes, H, W]."""
        return unfold_pixels(self.decoder(self.post_quant_conv(quantized)), self.config.fold)

    def decode_logits(self, codes: Tensor) -> Tensor:
        """Codes [B, rows * columns] -> logits [B, classes, H, W]; raises on a code outside the codebook."""
        rows, columns = self.config.grid
        if codes.dim() != 2 or codes.shape[1] != rows * columns:
            raise RefHCMError(
                f"a label map needs {rows * columns} codes, but got the shape {tuple(codes.shape)}"
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook:
            raise RefHCMError(
                f"label-map codes must be 0..{self.config.codebook - 1}; clamp or reject others first"
            )
        vectors = self.quantize.embedding(codes.long())  # [B, n, embedding]
        return self.reconstruct(vectors.transpose(1, 2).unflatten(2, (rows, columns)))

    def decode_spread(self, spread: Tensor) -> Tensor:
        """Probabilities of the codes [B, rows * columns, n], n at most the codebook -> logits [B, classes, H, W].

        Where a model hesitates between codes, their vectors are averaged, weighted by the squared probabilities: a
        likely code counts more than in the plain average, but one that is likely by a hair does not rule alone.
        """
        weights = spread.square()
        weights = weights / weights.sum(-1, keepdim=True)
        vectors = weights @ self.quantize.embedding.weight[: spread.shape[-1]]
        return self.reconstruct(vectors.transpose(1, 2).unflatten(2, self.config.grid))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, rows * columns] -> the likeliest labels, int64 [B, H, W]."""
        return self.decode_logits(codes).argmax(dim=1)

    def forward(self, labels: Tensor) -> Tensor:
        """Labels -> codes -> class logits [B, classes, H, W]: what survives the round trip."""
        return self.decode_logits(self.encode(labels))
