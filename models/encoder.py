"""The encoder: picture cells and instruction tokens in, one sequence of states out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import RefHCMError
from .attention import (
    Attention,
    FeedForward,
    KeyValues,
    distance_bias,
    distance_rows,
    drop_path_rates,
    position_logits,
)
from .backbone import build_trunk
from .config import ModelConfig
from .module_list import items
from .positions import image_bucket_count, image_buckets, image_ids

TEXT, IMAGE = 0, 1
"""Rows of the type embedding."""


@dataclass
class Memory:
    """What the encoder hands to the decoder; reusable for any number of answers about the same picture and
    words.

    states: `[B, T, C]`, picture cells (row by row) then words. padding: bool `[B, T]`, True where nothing
    stands. place: `[T, C]`, the position vectors, equal for all rows. grid: rows and columns of the picture cells,
    (0, 0) without a picture. cross: the decoder's cross-attention keys and values per layer, filled in when the first
    answer is started.
    """

    states: Tensor
    padding: Tensor
    place: Tensor
    grid: tuple[int, int] = (0, 0)
    cross: list[KeyValues] | None = None

    @property
    def positions(self) -> Tensor:
        """The position vectors of every row, `[B, T, C]` (a view)."""
        return self.place.expand(len(self.states), -1, -1)

    @property
    def located(self) -> Tensor:
        """States and position vectors of the picture cells side by side, `[B, h, w, 2 C]`."""
        count = self.grid[0] * self.grid[1]
        place = self.positions[:, :count].to(self.states.dtype)
        return torch.cat([self.states[:, :count], place], -1).unflatten(1, self.grid)

    def select(self, rows: Tensor) -> Memory:
        """The memory of these rows, int64 `[R]`, in this order; a row may occur more than once."""
        cross = self.cross and [
            KeyValues(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.cross
        ]
        states, padding = self.states.index_select(0, rows), self.padding.index_select(0, rows)
        return replace(self, states=states, padding=padding, cross=cross)


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward, each pre-normed, each normed again before it is added (NormFormer)."""

    def __init__(self, config: ModelConfig, drop_path: float) -> None:
        super().__init__(config.d_model, config.encoder_ffn_dim, config.dropout, drop_path)
        self.self_attn = Attention(config.d_model, config.encoder_heads, config.attn_scale_factor)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.attn_ln = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, bias: Tensor, hidden: Tensor | None = None) -> Tensor:
        """x `[B, T, C]`, bias `[heads, T, T]`, hidden bool `[B, 1, 1, T]`: keys that no query sees (None: all seen)."""
        bias = bias[None] if hidden is None else bias[None].masked_fill(hidden, float("-inf"))
        normed = self.self_attn_layer_norm(x)
        attended = self.self_attn(normed, self.self_attn.keys_values(normed), bias)
        return self.feed_forward(x + self.residual(self.attn_ln(attended)))


@dataclass
class _Layout:
    """What depends only on the shape of the input and on the weights: kept between calls while not
    training.
    """

    key: tuple[object, ...]
    place: Tensor
    biases: list[Tensor]


class Encoder(nn.Module):
    """OFA's encoder. Parameter names are the published ones."""

    BIAS_BYTES = 1 << 30
    """Position biases of all layers are kept between calls only while they need no more memory than this."""
    WORDS_STEP = 32
    """Kept biases are made for a multiple of this many words, so that instructions of similar length share
    them.
    """

    def __init__(self, config: ModelConfig, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        width, layers, heads = config.d_model, config.encoder_layers, config.encoder_heads
        self.config = config
        self.embed_tokens = embed_tokens
        self.layernorm_embedding = nn.LayerNorm(width)
        self.type_embedding = nn.Embedding(2, width)
        self.embed_images = build_trunk(config)
        self.image_proj = nn.Linear(config.trunk_channels, width)
        self.patch_layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(config.max_source_positions + 2, width)
        self.embed_image_positions = nn.Embedding(config.image_bucket_size**2 + 1, width)
        self.pos_ln = nn.LayerNorm(width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.pos_q_linear = nn.Linear(width, width)
        self.pos_k_linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        rates = drop_path_rates(config.encoder_drop_path, layers)
        self.layers = nn.ModuleList(EncoderLayer(config, rate) for rate in rates)
        self.layer_norm = nn.LayerNorm(width)
        words = 2 * config.token_bucket_size - 1
        cells = image_bucket_count(config.image_bucket_size)
        self.token_rel_pos_table_list = nn.ModuleList(nn.Embedding(words, heads) for _ in range(layers))
        self.image_rel_pos_table_list = nn.ModuleList(nn.Embedding(cells, heads) for _ in range(layers))
        self._kept: _Layout | None = None

    def train(self, mode: bool = True) -> Encoder:
        """As in torch; a frozen trunk norm stays on its running statistics, and kept biases are forgotten."""
        super().train(mode)
        self._kept = None
        if self.config.freeze_trunk_norm:
            for module in self.embed_images.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(
        self,
        src_tokens: Tensor,
        features: Tensor | None = None,
        patch_masks: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Memory:
        """Encode instructions about pictures.

        src_tokens: int64 `[B, S]`, padded on the right. features: the trunk's output `[N, C', h, w]`, or None
        for words alone. patch_masks: bool `[B]`, False where a row has no picture. image_index: int64 `[B]`,
        the picture of each row; None means row i has picture i.
        """
        words = src_tokens.shape[1]
        if words > self.config.max_source_positions:
            raise RefHCMError(
                f"The instruction has {words} tokens, the model takes {self.config.max_source_positions}; "
                "shorten it."
            )
        padding = src_tokens.eq(self.config.pad)
        x = self._embed_words(src_tokens)
        height = cells = 0
        if features is not None:
            cells, height = features.shape[2] * features.shape[3], features.shape[2]
            image = self._embed_image(features)
            if image_index is not None:
                image = image.index_select(0, image_index)
            if len(image) != len(x):
                raise RefHCMError(
                    f"{len(image)} pictures for {len(x)} instructions; pass image_index to pair them."
                )
            x = torch.cat([self.dropout(image), x], 1)
            absent = padding.new_zeros(len(x)) if patch_masks is None else ~patch_masks
            padding = torch.cat([absent[:, None].expand(-1, cells), padding], 1)
        place, biases = self._place_and_biases(height, cells // max(height, 1), words)

        any_padding = bool(padding.any())
        if any_padding:
            x = x.masked_fill(padding[:, :, None], 0)
        hidden = padding[:, None, None, :] if any_padding else None
        for layer, bias in zip(self.layers, biases, strict=True):
            x = layer(x, bias, hidden)
        return Memory(self.layer_norm(x), padding, place, (height, cells // max(height, 1)))

    # -- inputs ----------------------------------------------------------------------------------------------
    def _embed_words(self, tokens: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        if self.config.entangle_encoder_positions:
            x = x + self.embed_positions.weight[: tokens.shape[1]]
        return self.dropout(self.layernorm_embedding(x + self.type_embedding.weight[TEXT]))

    def _embed_image(self, features: Tensor) -> Tensor:
        """`[N, C', h, w]` -> `[N, h * w, C]`, before dropout."""
        x = self.image_proj(features.flatten(2).transpose(1, 2))
        if self.config.entangle_encoder_positions:
            x = x + self.embed_image_positions(self._cell_ids(*features.shape[2:]))
        return self.patch_layernorm_embedding(x + self.type_embedding.weight[IMAGE])

    def _cell_ids(self, height: int, width: int) -> Tensor:
        ids = image_ids(height, width, self.config.image_bucket_size)
        return ids.to(self.embed_image_positions.weight.device)

    # -- positions -------------------------------------------------------------------------------------------
    def _place_and_biases(self, height: int, width: int, words: int) -> tuple[Tensor, Iterable[Tensor]]:
        """Position vectors `[T, C]` and the bias `[heads, T, T]` of each layer.

        They depend on the input's shape alone, so outside of training they are kept for the next call (the
        published code made them again for every sample and layer). While gradients are wanted they are part
        of the graph.
        """
        if self.training or torch.is_grad_enabled():
            place = self._place(height, width, words)
            return place, self._biases(place, height, width)
        padded = min(-(-words // self.WORDS_STEP) * self.WORDS_STEP, self.config.max_source_positions)
        length, total = height * width + padded, height * width + words
        weight = self.pos_q_linear.weight
        size = len(self.layers) * self.config.encoder_heads * length**2 * weight.element_size()
        if size > self.BIAS_BYTES:
            place = self._place(height, width, words)
            return place, self._biases(place, height, width)
        key = (height, width, padded, torch.is_autocast_enabled(weight.device.type), *self._weights_state())
        kept = self._kept
        if kept is None or kept.key != key:
            self._kept = None  # frees the old one before the new one is made
            place = self._place(height, width, padded)
            kept = self._kept = _Layout(key, place, list(self._biases(place, height, width)))
        return kept.place[:total], [bias[:, :total, :total] for bias in kept.biases]

    def _weights_state(self) -> Iterator[object]:
        """Changes whenever a weight that the biases depend on is moved, replaced or updated."""
        modules = [self.pos_ln, self.image_pos_ln, self.pos_q_linear, self.pos_k_linear, self.embed_positions]
        modules += [self.embed_image_positions, self.token_rel_pos_table_list, self.image_rel_pos_table_list]
        for module in modules:
            for weight in module.parameters():
                yield weight.device, weight.dtype, weight.data_ptr()
                yield 0 if weight.is_inference() else weight._version

    def _place(self, height: int, width: int, words: int) -> Tensor:
        place = self.pos_ln(self.embed_positions.weight[:words])
        if height:
            cells = self.image_pos_ln(self.embed_image_positions(self._cell_ids(height, width)))
            place = torch.cat([cells, place])
        return place

    def _biases(self, place: Tensor, height: int, width: int) -> Iterator[Tensor]:
        config = self.config
        cells, words = height * width, len(place) - height * width
        query, key = self.pos_q_linear(place), self.pos_k_linear(place)
        absolute = position_logits(query, key, config.encoder_heads, config.attn_scale_factor)
        buckets = image_buckets(height, width, config.image_bucket_size).flatten().to(place.device)
        token_tables = items(self.token_rel_pos_table_list, nn.Embedding)
        image_tables = items(self.image_rel_pos_table_list, nn.Embedding)
        for token_table, image_table in zip(token_tables, image_tables, strict=True):
            near = distance_bias(token_table, words, config.token_bucket_size, config.max_source_positions)
            relative = F.pad(distance_rows(near, 0, words, words), (cells, 0, cells, 0))
            bias = absolute + relative
            bias[:, :cells, :cells] += image_table.weight.t()[:, buckets].unflatten(1, (cells, cells))
            yield bias
