"""Multi-head attention with an additive position bias, and the small layers around it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .positions import text_distance_buckets


class KeyValues(NamedTuple):
    """Keys and values of one attention, each `[B, heads, S, head_dim]`."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Attention whose logits are `scale * q . k + bias`, with one learned gain per head on its output
    (NormFormer).

    `scale = (head_dim * scale_factor) ** -0.5`: with a factor of 2 the content and the position bias, which
    is scaled alike, share the logit's variance (OFA, TUPE).
    """

    def __init__(self, width: int, heads: int, scale_factor: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width / heads * scale_factor) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.c_attn = nn.Parameter(torch.ones(heads))

    def keys_values(self, source: Tensor) -> KeyValues:
        """Project `[B, S, C]` once; the result serves any number of queries."""
        return KeyValues(
            split_heads(self.k_proj(source), self.heads), split_heads(self.v_proj(source), self.heads)
        )

    def forward(self, x: Tensor, source: KeyValues, bias: Tensor | None) -> Tensor:
        """Queries `[B, T, C]` against `source`; `bias` broadcasts to `[B, heads, T, S]`, -inf hides a key."""
        query = split_heads(self.q_proj(x), self.heads)
        if bias is not None:
            bias = bias.to(query.dtype)
        out = F.scaled_dot_product_attention(
            query, source.keys, source.values, attn_mask=bias, scale=self.scale
        )
        out = out * self.c_attn[:, None, None]
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, source: KeyValues, bias: Tensor | None) -> Tensor:
        """How `forward`, given the same, weighs the values: float32 `[B, heads, T, S]`, each row summing to 1.

        `forward` never forms them; this is for those who want to look at them.
        """
        logits = split_heads(self.q_proj(x), self.heads) @ source.keys.transpose(2, 3) * self.scale
        return (logits if bias is None else logits + bias).float().softmax(-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`[B, T, C]` -> `[B, heads, T, C / heads]`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def position_logits(query: Tensor, key: Tensor, heads: int, scale_factor: float) -> Tensor:
    """Absolute position bias from projected positions `[T, C]` and `[S, C]`: `[heads, T, S]` (TUPE, as in
    OFA).
    """
    scale = (query.shape[-1] / heads * scale_factor) ** -0.5
    queries = (query * scale).unflatten(-1, (heads, -1)).transpose(0, 1)  # [H, T, D]
    keys = key.unflatten(-1, (heads, -1)).transpose(0, 1)
    return queries @ keys.transpose(1, 2)


def distance_bias(table: nn.Embedding, length: int, bucket_size: int, max_positions: int) -> Tensor:
    """Bias of every distance that occurs among `length` positions: `[heads, 2 * length - 1]`.

    Entry `length - 1 - (query - key)` belongs to that distance, so the row of one query is a slice of it.
    """
    buckets = text_distance_buckets(bucket_size, max_positions)
    near = buckets[max_positions - length : max_positions + length - 1].flip(0)
    return table(near.to(table.weight.device)).t()


def distance_rows(bias: Tensor, first: int, count: int, keys: int) -> Tensor:
    """Rows of queries `first .. first + count - 1` against keys `0 .. keys - 1` from `distance_bias`.

    `[heads, 2 * length - 1]` -> `[heads, count, keys]`.
    """
    length = (bias.shape[1] + 1) // 2
    last = first + count - 1
    rows = bias[:, length - 1 - last : length - 1 - first + keys].unfold(1, keys, 1)
    return rows.flip(1)


class DropPath(nn.Module):
    """Leave a residual branch out for a random part of the batch's rows while training (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.empty(x.shape[0], *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device)
        return x * keep.bernoulli_(1 - self.rate).div_(1 - self.rate)


class FeedForward(nn.Module):
    """Base of a transformer layer: its feed-forward half, under the published names."""

    def __init__(self, width: int, hidden: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.ffn_layernorm = nn.LayerNorm(hidden)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def feed_forward(self, x: Tensor) -> Tensor:
        """x + branch, `[B, T, C]` -> `[B, T, C]`."""
        hidden = self.ffn_layernorm(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.residual(self.fc2(hidden))

    def residual(self, branch: Tensor) -> Tensor:
        """What of a branch is added while training: dropout, then stochastic depth."""
        return self.drop_path(self.dropout(branch))


def drop_path_rates(last: float, layers: int) -> list[float]:
    """Rates rising linearly from 0 at the first layer to `last` at the last one."""
    return [last * index / max(layers - 1, 1) for index in range(layers)]
