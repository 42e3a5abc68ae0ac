"""The arithmetic around a step of the search: ranges of tokens, columns of logits, tokens read as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from ..data.vocabulary import Span
from .grammar import Spans

SOFT_WINDOW = 0.012
"""Half width of the window around the best bin over which its expectation is taken, as a fraction of all bins."""


def merge_spans(spans: Sequence[Span]) -> Spans:
    """The union of ranges as ascending, disjoint ranges."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def span_ids(spans: Spans, device: torch.device) -> Tensor:
    """Token id of each column of logits computed over `spans`."""
    return torch.cat([torch.arange(start, stop, device=device) for start, stop in spans])


def legal_mask(each: Sequence[Spans], union: Spans, device: torch.device) -> Tensor | None:
    """Which columns of logits over `union` each row may not choose: bool [rows, columns]; None: all may choose any."""
    if all(spans == union for spans in each):
        return None
    ids = span_ids(union, device)
    most = max(len(spans) for spans in each)
    bounds = torch.tensor([[*spans, *[(0, 0)] * (most - len(spans))] for spans in each], device=device)
    legal = torch.zeros(len(each), len(ids), dtype=torch.bool, device=device)
    for k in range(most):
        legal |= (ids >= bounds[:, k, :1]) & (ids < bounds[:, k, 1:])
    return ~legal


def without_copies(keep: list[tuple[int, int]], scores: list[float]) -> list[float]:
    """Scores with -inf for candidates that stand twice, only to fill a beam."""
    seen: set[tuple[int, int]] = set()
    kept = []
    for place, score in zip(keep, scores, strict=True):
        kept.append(-inf if place in seen else score)
        seen.add(place)
    return kept


def soft_values(logprobs: Tensor, columns: Tensor, ids: Tensor, soft: Span | None) -> Tensor:
    """The chosen tokens as numbers: the expectation over the neighbouring bins for a bin, else the id.

    logprobs [n, union], columns [n]. The window keeps a second, distant mode from pulling the value between the two.
    """
    values = ids[columns].double()
    if soft is None:
        return values
    half = max(1, round(SOFT_WINDOW * (soft[1] - soft[0])))
    window = columns[:, None] + torch.arange(-half, half + 1, device=ids.device)
    inside = (window >= 0) & (window < len(ids))
    window = window.clamp(0, len(ids) - 1)
    near = ids[window]
    inside &= (near >= soft[0]) & (near < soft[1]) & ((near - ids[columns][:, None]).abs() <= half)
    weights = logprobs.gather(1, window).double().exp() * inside
    mean = (weights * near).sum(1) / weights.sum(1).clamp_min(1e-30)
    is_bin = (ids[columns] >= soft[0]) & (ids[columns] < soft[1])
    return torch.where(is_bin & (weights.sum(1) > 0), mean, values)
