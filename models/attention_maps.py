"""Where in the picture the decoder looked while it wrote an answer.

Answering never forms attention weights. Who wants to see them lets the decoder read the finished answer once more, all
tokens in one pass; the cross-attentions then compute, beside what they always do, their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..data.vocabulary import BOS
from ..errors import RefHCMError
from .attention import Attention
from .decoder import DecoderLayer
from .encoder import Memory
from .grammar import Grammar
from .module_list import items
from .refhcm import RefHCM


class Fed(NamedTuple):
    """An answer as the decoder reads it when all of it is known."""

    inputs: list[int]
    """What is fed, `<s>` first; longer than the answer where it has blocks, whose queries and end marks are fed too."""
    positions: list[int]
    """For each token of the answer, the place among `inputs` at which the decoder decided on it: for a token of a
    block its query's, otherwise that of the token before."""
    blocks: list[tuple[int, int]]
    """First and last place of each span that sees all of itself."""


def replay(grammar: Grammar, tokens: Sequence[int]) -> Fed:
    """What the decoder was fed while it wrote `tokens` (without `<s>` and `</s>`) under `grammar`.

    ValueError where these tokens are no beginning of an answer.
    """
    fed, state, start = Fed([BOS], [], []), grammar.start(), 0
    while start < len(tokens):
        block = grammar.block(state)
        if block is None:
            fed.positions.append(len(fed.inputs) - 1)
            fed.inputs.append(tokens[start])
            state = grammar.advance(state, tokens[start])
            start += 1
            continue
        first, count = len(fed.inputs), len(block.queries)
        fed.positions.extend(range(first, first + count))
        fed.blocks.append((first, first + count - (not block.end_seen)))
        fed.inputs.extend([*block.queries, block.end])
        state = grammar.after_block(state)
        start += count
    return fed


@torch.inference_mode()
def attention_maps(
    model: RefHCM, memory: Memory, grammar: Grammar, answers: Sequence[Sequence[int]],
    layers: Sequence[int] | None = None,
) -> list[Tensor]:  # fmt: skip
    """Attention to the picture behind every token of decoded answers.

    Args:
        memory: What `model.encode` gave for the questions, a row for each.
        grammar: Under which the answers were decoded.
        answers: Token ids of one answer per row, without `<s>` and `</s>`.
        layers: Numbers of the decoder layers to look at, from 0; None: all of them.

    Returns for each answer float32 `[tokens, h, w]`, where (h, w) is `memory.grid`: the share of each picture cell in
    the attention, averaged over heads and layers. A token's cells sum to the share of the picture; what is missing to 1
    went to the words of the question. RefHCMError where there is no picture, or no such layer.
    """
    height, width = memory.grid
    if not height * width:
        raise RefHCMError("There is no picture among what was encoded, so there is no attention to it to show.")
    attentions = [layer.encoder_attn for layer in items(model.decoder.layers, DecoderLayer)]
    numbers = range(len(attentions)) if layers is None else layers
    if not numbers or not all(0 <= number < len(attentions) for number in numbers):
        raise RefHCMError(f"The decoder has layers 0 to {len(attentions) - 1}; {list(numbers)} cannot be looked at.")
    fed = [replay(grammar, answer) for answer in answers]
    device = memory.states.device
    inputs = pad_sequence([torch.tensor(one.inputs) for one in fed], True, model.config.pad).to(device)
    most = max((len(one.blocks) for one in fed), default=0)
    blocks = torch.tensor([[*one.blocks, *[(-1, -1)] * (most - len(one.blocks))] for one in fed], device=device)
    with recorded([attentions[number] for number in numbers], height * width) as total:
        model.decoder(inputs, memory, blocks if most else None)
    maps = (total[0] / len(numbers)).unflatten(-1, (height, width))
    return [one[torch.tensor(f.positions, dtype=torch.long, device=device)] for one, f in zip(maps, fed, strict=True)]


@contextmanager
def recorded(attentions: Sequence[Attention], keys: int) -> Iterator[list[Tensor]]:
    """While this lasts, attentions add up their weights on the first `keys` keys, averaged over heads: `[B, T, keys]`.

    The one tensor is in the list that is handed out, once the first of them has run.
    """
    total: list[Tensor] = []

    def add(attention: Attention, given: tuple[Any, ...], _: Tensor) -> None:
        weights = attention.weights(*given)[..., :keys].mean(1)
        total[:] = [total[0] + weights if total else weights]

    handles = [attention.register_forward_hook(add) for attention in attentions]
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()
