"""Decoded answers: while they grow, as chains of tokens that share their beginnings, and when they are finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from typing import NamedTuple

from torch import Tensor

from ..data.vocabulary import EOS


@dataclass
class Hypothesis:
    """One decoded answer, without `<s>` and `</s>`."""

    tokens: list[int]
    values: list[float]
    """The tokens read as numbers: for a bin the expectation around it (a fractional id), otherwise the id itself."""
    logprobs: list[float]
    """Log-probability of each token among those that were legal; one more for `</s>` where it was decoded."""
    score: float
    spreads: dict[int, Tensor] = field(default_factory=dict)
    """Of each block, by the place of its first token: float32 [positions, tokens], the probability of every legal
    token."""
    going_on: dict[int, float] = field(default_factory=dict)
    """Where the answer might have ended and could go on with a coordinate: place of the next token -> how likely it
    was to go on. Place 0: that there is an answer at all."""

    def confidence(self, start: int = 0, stop: int | None = None) -> float:
        """Geometric mean of the probabilities of tokens start .. stop, in [0, 1]."""
        logprobs = self.logprobs[start:stop]
        return exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0


class Node(NamedTuple):
    """A token and what came before it."""

    before: Node | None
    token: int
    value: float
    logprob: float
    spread: Tensor | None = None
    """Of the block that begins with this token, see `Hypothesis.spreads`."""
    going_on: float | None = None
    """See `Hypothesis.going_on`."""


def unroll(node: Node | None) -> list[Node]:
    """A chain from its first token to `node`."""
    nodes = []
    while node is not None:
        nodes.append(node)
        node = node.before
    return nodes[::-1]


def finish(node: Node | None, score: float) -> Hypothesis:
    """The answer that ends with `node`."""
    nodes = unroll(node)
    logprobs = [n.logprob for n in nodes]
    going_on = {place: n.going_on for place, n in enumerate(nodes) if n.going_on is not None}
    if nodes and nodes[-1].token == EOS:
        nodes = nodes[:-1]
    spreads = {place: n.spread for place, n in enumerate(nodes) if n.spread is not None}
    return Hypothesis([n.token for n in nodes], [n.value for n in nodes], logprobs, score, spreads, going_on)
