"""The whole network: trunk, encoder, decoder and the token matrix that all three ends share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import RefHCMError
from .backbone import EfficientNetTrunk
from .config import ModelConfig
from .decoder import Decoder
from .encoder import Encoder, Memory
from .positions import code_window_ids, published_image_buckets, text_buckets

TIED = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
"""State-dict entries that repeat `encoder.embed_tokens.weight`."""


class RefHCM(nn.Module):
    """OFA's unified encoder-decoder, as RefHCM uses it. Parameter names are the published ones.

    Published state dicts load with `load_state_dict(state)`: index tables that such files carry are compared
    with those that this code computes and then left out, so our own files do not hold them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        embed_tokens = nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad)
        self.encoder = Encoder(config, embed_tokens)
        self.decoder = Decoder(config, embed_tokens)
        self.tie()
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_adapt_state)

    # -- training --------------------------------------------------------------------------------------------
    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        prev_output_tokens: Tensor | None = None,
        patch_images: Tensor | None = None,
        patch_masks: Tensor | None = None,
        image_index: Tensor | None = None,
        blocks: Tensor | None = None,
        features_only: bool = False,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Teacher-forced logits `[B, L, V]` (or decoder features `[B, L, C]`), and a dictionary with the `memory` and
        the trunk's `features`.

        src_tokens int64 `[B, S]` and prev_output_tokens int64 `[B, L]`, padded on the right; src_lengths is
        accepted for fairseq's sake and not needed. patch_images float `[N, 3, H, W]`, normalised;
        patch_masks, image_index as in `Encoder.forward`; blocks as in `Decoder.forward`.
        """
        if prev_output_tokens is None:
            raise RefHCMError("forward needs prev_output_tokens, the answers to score.")
        features = None if patch_images is None else self.image_features(patch_images)
        memory = self.encode(src_tokens, features, patch_masks, image_index)
        out = self.decoder(prev_output_tokens, memory, blocks)
        return (out if features_only else self.logits(out)), {"memory": memory, "features": features}

    # -- answering -------------------------------------------------------------------------------------------
    def image_features(self, patch_images: Tensor) -> Tensor:
        """Run the trunk once per picture: `[N, 3, H, W]` -> `[N, C', H / 16, W / 16]`."""
        return self.encoder.embed_images(patch_images)

    def encode(
        self,
        src_tokens: Tensor,
        features: Tensor | None = None,
        patch_masks: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Memory:
        """Encode instructions with the features of their pictures; see `Encoder.forward`."""
        return self.encoder(src_tokens, features, patch_masks, image_index)

    def logits(self, features: Tensor, ids: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Scores of tokens after decoder features `[..., C]`: `[..., V]`, or only the given tokens.

        ids: half-open ranges of token ids; their scores are put side by side in that order, and no others
        computed.
        """
        weight = self.decoder.output_projection.weight
        if ids is None:
            return F.linear(features, weight)
        parts = [F.linear(features, weight[start:stop]) for start, stop in ids]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    # -- weights ---------------------------------------------------------------------------------------------
    def tie(self) -> None:
        """Make the output projection the token embedding again, after weights were replaced rather than
        filled.
        """
        self.decoder.embed_tokens = self.encoder.embed_tokens
        self.decoder.output_projection.weight = self.encoder.embed_tokens.weight

    def reset_parameters(self) -> None:
        """Start from nothing: linear and embedding weights N(0, 0.02), biases and the pad row zero, norms
        one, convolutions Kaiming fan-out (as OFA does).
        """
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        with torch.no_grad():
            self.encoder.embed_tokens.weight[self.config.pad].zero_()
        if self.config.block_columns:
            self.decoder.located.reset_parameters()

    def load_imagenet(self) -> None:
        """Give the compact trunk its ImageNet weights, from a package; other trunks have none to install."""
        if not isinstance(self.encoder.embed_images, EfficientNetTrunk):
            raise RefHCMError(
                f"ImageNet weights can be installed for efficientnet_lite0 only, not {self.config.trunk}."
            )
        self.encoder.embed_images.load_imagenet()


def published_tables(config: ModelConfig) -> dict[str, Tensor]:
    """The index tables that published files carry beside the weights, computed: name -> int64 tensor."""
    source = text_buckets(config.token_bucket_size, config.max_source_positions)
    target = text_buckets(config.token_bucket_size, config.max_target_positions)
    image = published_image_buckets(config.image_bucket_size)
    window = code_window_ids(
        config.code_image_size, config.image_bucket_size, config.max_target_positions + 2
    )
    return {
        "encoder.token_rp_bucket": source,
        "encoder.image_rp_bucket": image,
        "decoder.token_rp_bucket": target,
        "decoder.image_rp_bucket": image,
        "decoder.image_position_idx": window,
    }


VERSIONS = ("encoder.version", "decoder.version")
"""fairseq's format marks in published files; they carry no information."""


def _adapt_state(module: RefHCM, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Make a state dict that is about to be loaded ours: index tables compared and taken out, tied entries
    repeated.
    """
    for name in VERSIONS:
        state.pop(prefix + name, None)
    if (shared := state.get(prefix + "encoder.embed_tokens.weight")) is not None:
        for name in TIED:
            state.setdefault(prefix + name, shared)
    if any(name.endswith(("_rp_bucket", "image_position_idx")) for name in state):
        drop_tables(state, module.config, prefix, "The checkpoint")


def drop_tables(state: dict[str, Tensor], config: ModelConfig, prefix: str, where: str) -> None:
    """Take the index tables out of a state dict, after comparing them with those that the sizes call for."""
    for name, table in published_tables(config).items():
        found = state.pop(prefix + name, None)
        # The published code replaces image_position_idx when it loads, whatever the file holds.
        if found is None or name.endswith("image_position_idx"):
            continue
        if not torch.equal(found.cpu().long(), table):
            raise RefHCMError(f"{where}: {name} is not the table that the model's sizes call for.")
