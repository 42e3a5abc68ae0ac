"""The decoder: answers as tokens, all at once while training, step by step (or block by block) while
answering.
"""

from __future__ import annotations

from collections.abc import Callable
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
from .config import ModelConfig
from .encoder import Memory
from .located import BOX, LocatedQueries
from .module_list import items
from .positions import causal_mask, image_bucket_count


class DecoderLayer(FeedForward):
    """Self-attention, cross-attention and feed-forward, each pre-normed and normed again before it is
    added.
    """

    def __init__(self, config: ModelConfig, drop_path: float) -> None:
        super().__init__(config.d_model, config.decoder_ffn_dim, config.dropout, drop_path)
        width, heads, factor = config.d_model, config.decoder_heads, config.attn_scale_factor
        self.self_attn = Attention(width, heads, factor)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn_ln = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads, factor)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.cross_attn_ln = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        self_bias: Tensor,
        cross: KeyValues | Tensor,
        cross_bias: Tensor,
        remember: Callable[[KeyValues], KeyValues] | None = None,
    ) -> Tensor:
        """One layer over `[R, n, C]`.

        self_bias `[R or 1, heads, n, K]`; cross_bias `[B or 1, heads, R / B * n, S]`, with the R / B beams of
        a sentence side by side, because they share its `cross` keys and values `[B, heads, S, D]`. remember:
        takes the new keys and values and gives back those of all K positions so far. cross may also be the encoder's
        states `[B, S, C]`.
        """
        if isinstance(cross, Tensor):
            cross = self.encoder_attn.keys_values(cross)
        normed = self.self_attn_layer_norm(x)
        source = self.self_attn.keys_values(normed)
        if remember is not None:
            source = remember(source)
        x = x + self.residual(self.self_attn_ln(self.self_attn(normed, source, self_bias)))

        query = self.encoder_attn_layer_norm(x).view(
            len(cross.keys), -1, x.shape[-1]
        )  # beams of one sentence joined
        attended = self.encoder_attn(query, cross, cross_bias).view_as(x)
        x = x + self.residual(self.cross_attn_ln(attended))
        return self.feed_forward(x)


@dataclass
class Cache:
    """What the decoder remembers of the answers begun so far.

    There are R = B * beam rows, the beams of one sentence next to each other. Keys and values of earlier
    positions lie in `store`, made once for `max_length` positions; what depends on the picture is stored per
    sentence, and position biases, which depend on nothing but places, once.
    """

    beam: int
    max_length: int
    length: int
    """Positions decoded so far."""
    store: Tensor
    """`[layers, 2, R, heads, max_length, head_dim]`"""
    cross: list[KeyValues]
    padding: Tensor | None
    """bool `[B, S]`, or None when no row is padded."""
    self_bias: Tensor
    """`[heads, max_length, max_length]`"""
    distances: list[Tensor]
    """Per layer `[heads, 2 * max_length - 1]`, see `attention.distance_bias`."""
    cross_bias: Tensor
    """`[heads, max_length, S]`"""
    tokens: Tensor
    """int64 `[R, max_length]`, what has been fed."""
    located: Tensor | None
    """`[B, h, w, 2 C]`, see `Memory.located`; None where queries are not located."""

    @property
    def rows(self) -> int:
        """R, the number of answers under way."""
        return self.store.shape[2]

    def reorder(self, rows: Tensor) -> None:
        """Let row i continue what row `rows[i]` has decoded; int64 `[R]`, each taken from the same
        sentence.
        """
        past = self.store[..., : self.length, :]
        past.copy_(past.index_select(2, rows))
        self.tokens = self.tokens.index_select(0, rows)

    def select(self, rows: Tensor) -> None:
        """Keep these rows only, int64 `[R']`: whole sentences, all beams of each next to each other.

        Row numbers are those of `extend`, sentence * beam + rank. Raises RefHCMError if beams are torn apart.
        """
        sentences = rows[:: self.beam] // self.beam
        if len(rows) % self.beam or not torch.equal(
            rows // self.beam, sentences.repeat_interleave(self.beam)
        ):
            raise RefHCMError(f"Rows to keep must come as whole sentences of {self.beam} beams.")
        self._keep(rows, sentences)

    def take(self, rows: Tensor) -> None:
        """Row i goes on with what row `rows[i]` has decoded; int64 `[R']`, whole sentences, beams side by side.

        Sentences may be left out. Both `reorder` and `select` in one copy.
        """
        if len(rows) == self.rows and torch.equal(rows // self.beam, torch.arange(len(rows)).to(rows) // self.beam):
            self.reorder(rows)
        else:
            self._keep(rows, rows[:: self.beam] // self.beam)

    def fork(self, rows: Tensor) -> Cache:
        """A cache of its own, with a beam of one, for answers that go on from these rows (int64 `[R']`)."""
        branch = replace(self)
        branch._keep(rows, rows // self.beam)
        branch.beam = 1
        return branch

    def _keep(self, rows: Tensor, sentences: Tensor) -> None:
        self.store = self.store.index_select(2, rows)
        self.tokens = self.tokens.index_select(0, rows)
        self.cross = [KeyValues(k.index_select(0, sentences), v.index_select(0, sentences)) for k, v in self.cross]
        if self.padding is not None:
            self.padding = self.padding.index_select(0, sentences)
        if self.located is not None:
            self.located = self.located.index_select(0, sentences)

    def _remember(self, layer: int, new: KeyValues) -> KeyValues:
        stop = self.length + new.keys.shape[2]
        self.store[layer, 0, :, :, self.length : stop] = new.keys
        self.store[layer, 1, :, :, self.length : stop] = new.values
        return KeyValues(self.store[layer, 0, :, :, :stop], self.store[layer, 1, :, :, :stop])


class Decoder(nn.Module):
    """OFA's decoder. Parameter names are the published ones.

    With `config.decoder_image_tables` it carries tables that OFA's image generation reads and referring never
    does, so that published files load entry for entry.
    """

    def __init__(self, config: ModelConfig, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        width, layers, heads = config.d_model, config.decoder_layers, config.decoder_heads
        self.config = config
        self.embed_tokens = embed_tokens
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(config.max_target_positions + 2, width)
        self.pos_ln = nn.LayerNorm(width)
        self.self_pos_q_linear = nn.Linear(width, width)
        self.self_pos_k_linear = nn.Linear(width, width)
        self.cross_pos_q_linear = nn.Linear(width, width)
        self.cross_pos_k_linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        rates = drop_path_rates(config.decoder_drop_path, layers)
        self.layers = nn.ModuleList(DecoderLayer(config, rate) for rate in rates)
        self.layer_norm = nn.LayerNorm(width)
        self.output_projection = nn.Linear(width, config.vocab_size, bias=False)
        if config.block_columns:
            bins = (config.vocab_size - config.num_bins, config.vocab_size)
            self.located = LocatedQueries(width, config.block_columns, bins)
        words = 2 * config.token_bucket_size - 1
        self.token_rel_pos_table_list = nn.ModuleList(nn.Embedding(words, heads) for _ in range(layers))
        if config.decoder_image_tables:
            cells = image_bucket_count(config.image_bucket_size)
            self.embed_image_positions = nn.Embedding(config.image_bucket_size**2 + 1, width)
            self.image_pos_ln = nn.LayerNorm(width)
            self.code_layernorm_embedding = nn.LayerNorm(width)
            self.image_rel_pos_table_list = nn.ModuleList(nn.Embedding(cells, heads) for _ in range(layers))

    def forward(self, tokens: Tensor, memory: Memory, blocks: Tensor | None = None) -> Tensor:
        """Features of every position of given answers (teacher forcing): `[B, L, C]`.

        tokens: int64 `[B, L]`, padded on the right; what stands at padding positions is seen by no real one.
        blocks: int64 `[B, K, 2]`, spans (both ends inclusive) whose positions see each other, (-1, -1) for
        none; they must not reach into padding.
        """
        length = tokens.shape[1]
        self._check_length(length)
        place = self.pos_ln(self.embed_positions.weight[:length])
        absolute = self._self_logits(place)
        cross_bias = self._cross_logits(place, memory.place)[None]
        if bool(memory.padding.any()):
            cross_bias = cross_bias.masked_fill(memory.padding[:, None, None, :], float("-inf"))
        unseen = ~causal_mask(length, blocks, tokens.device)
        located = None
        if blocks is not None and self._locates(memory):
            located = self.located.everywhere(tokens, memory.located, blocks)
        x = self._embed(tokens, 0, located)
        for index, layer in enumerate(items(self.layers, DecoderLayer)):
            relative = distance_rows(self._distances(index, length), 0, length, length)
            self_bias = (absolute + relative)[None].masked_fill(unseen, float("-inf"))
            x = layer(x, self_bias, memory.states, cross_bias)
        return self.layer_norm(x)

    # -- step by step ----------------------------------------------------------------------------------------
    @torch.no_grad()
    def start(self, memory: Memory, beam: int = 1, max_length: int | None = None) -> Cache:
        """Begin `beam` answers to each of the memory's B rows, of at most `max_length` positions (bos
        counted).
        """
        length = self.config.max_target_positions if max_length is None else max_length
        self._check_length(length)
        if memory.cross is None:
            layers = items(self.layers, DecoderLayer)
            memory.cross = [layer.encoder_attn.keys_values(memory.states) for layer in layers]
        keys = memory.cross[0].keys
        place = self.pos_ln(self.embed_positions.weight[:length])
        rows, heads, width = len(keys) * beam, keys.shape[1], keys.shape[3]
        return Cache(
            beam=beam,
            max_length=length,
            length=0,
            store=keys.new_empty(len(self.layers), 2, rows, heads, length, width),
            cross=memory.cross,
            padding=memory.padding if bool(memory.padding.any()) else None,
            self_bias=self._self_logits(place),
            distances=[self._distances(index, length) for index in range(len(self.layers))],
            cross_bias=self._cross_logits(place, memory.place),
            tokens=torch.full((rows, length), self.config.pad, device=keys.device),
            located=memory.located if self._locates(memory) else None,
        )

    @torch.no_grad()
    def extend(self, tokens: Tensor, cache: Cache, mutual: int = 0) -> Tensor:
        """Append n tokens to every answer and give their features `[R, n, C]`.

        tokens: int64 `[R, n]`. Each new position sees all earlier ones; among each other the new ones see
        only what stands before them, but the last `mutual` of them all of each other (the queries of a block). Raises
        RefHCMError when the answer would outgrow the cache.
        """
        first, count = cache.length, tokens.shape[1]
        stop = first + count
        if stop > cache.max_length or len(tokens) != cache.rows:
            raise RefHCMError(
                f"The cache holds {cache.rows} answers of {cache.max_length} positions; "
                f"{len(tokens)} answers of {stop} do not fit."
            )
        absolute = cache.self_bias[:, first:stop, :stop]
        unseen = None
        if count > max(mutual, 1):
            unseen = torch.ones(count, stop, dtype=torch.bool, device=tokens.device).triu(first + 1)
            unseen[count - mutual :] = False
        cross_bias = cache.cross_bias[:, None, first:stop].expand(-1, cache.beam, -1, -1).flatten(1, 2)[None]
        if cache.padding is not None:
            cross_bias = cross_bias.masked_fill(cache.padding[:, None, None, :], float("-inf"))
        located = None
        cache.tokens[:, first:stop] = tokens
        if mutual and cache.located is not None and stop - mutual >= BOX.stop:
            located = self.located.at(cache.tokens[:, BOX], cache.located.repeat_interleave(cache.beam, 0), mutual)
            located = F.pad(located, (0, 0, count - mutual, 0))
        x = self._embed(tokens, first, located)
        for index, layer in enumerate(self.layers):
            bias = absolute + distance_rows(cache.distances[index], first, count, stop)
            if unseen is not None:
                bias = bias.masked_fill(unseen, float("-inf"))
            x = layer(
                x, bias[None], cache.cross[index], cross_bias, lambda new, i=index: cache._remember(i, new)
            )
        cache.length = stop
        return self.layer_norm(x)

    # -- parts -----------------------------------------------------------------------------------------------
    def _locates(self, memory: Memory) -> bool:
        return self.config.block_columns > 0 and min(memory.grid) > 0

    def _embed(self, tokens: Tensor, first: int, located: Tensor | None) -> Tensor:
        x = self.embed_tokens(tokens)
        if located is not None:
            x = x + located.to(x.dtype)
        if self.config.entangle_decoder_positions:
            x = x + self.embed_positions.weight[first : first + tokens.shape[1]]
        return self.dropout(self.layernorm_embedding(x))

    def _self_logits(self, place: Tensor) -> Tensor:
        config = self.config
        query, key = self.self_pos_q_linear(place), self.self_pos_k_linear(place)
        return position_logits(query, key, config.decoder_heads, config.attn_scale_factor)

    def _cross_logits(self, place: Tensor, source: Tensor) -> Tensor:
        config = self.config
        query, key = self.cross_pos_q_linear(place), self.cross_pos_k_linear(source)
        return position_logits(query, key, config.decoder_heads, config.attn_scale_factor)

    def _distances(self, layer: int, length: int) -> Tensor:
        config = self.config
        table = items(self.token_rel_pos_table_list, nn.Embedding)[layer]
        return distance_bias(table, length, config.token_bucket_size, config.max_target_positions)

    def _check_length(self, length: int) -> None:
        if not 1 <= length <= self.config.max_target_positions:
            raise RefHCMError(
                f"An answer of {length} positions is outside of 1..{self.config.max_target_positions}, "
                "the lengths that this model has positions for."
            )
