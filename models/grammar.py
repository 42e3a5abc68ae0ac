"""Which tokens may come next: one small automaton per answer, for greedy, beam and block decoding alike.

An answer is a chain of rules (box, keypoints, codes, text), each over classes of tokens. The decoder masks its logits
with what the chain allows, so a malformed answer cannot be produced, and the output projection is computed only
for tokens that are legal. RefHCM calls the idea location-context restriction; its published code applies it in two
places only, here every task has it.

States are plain tuples: hashable, comparable, cheap to keep per hypothesis.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..data.vocabulary import EOS, Span

Spans = tuple[Span, ...]
"""Legal token ids as ascending, disjoint, half-open ranges."""


def single(token: int) -> Span:
    """The range that holds one token."""
    return token, token + 1


@dataclass(frozen=True)
class Block:
    """A stretch of the answer whose tokens are decoded in one pass over query tokens that see each other.

    The token `begin` comes before it, as an ordinary token; `end` is fed behind it where the answer goes on. With
    `end_seen` the queries see `end` too: the published decoder does so, its training does not; such a block comes last.

    Where the queries differ in what they may say, `kinds` gives for each an index into `spans`. `sides` gives for each
    the side of the box that the answer begins with, 0 for x and 1 for y, between whose edges its token must lie; -1
    where that is no question.
    """

    begin: int
    queries: tuple[int, ...]
    end: int
    spans: Spans
    end_seen: bool = False
    kinds: tuple[int, ...] = ()
    sides: tuple[int, ...] = ()

    def legal(self, box: tuple[int, ...] = ()) -> list[Spans]:
        """What each query may say in an answer that begins with this box (four bins)."""
        every: list[Spans] = [(self.spans[kind],) for kind in self.kinds] or [self.spans] * len(self.queries)
        if not box or not self.sides:
            return every
        bounds = ((box[0], box[2] + 1), (box[1], box[3] + 1))
        return [(bounds[side],) if side >= 0 else spans for side, spans in zip(self.sides, every, strict=True)]


RuleState = TypeVar("RuleState")

KeypointsState = tuple[int, tuple[int, ...] | int, tuple[Span, Span]]
"""See `KeypointsRule`."""


class Rule(Protocol[RuleState]):
    """One stretch of an answer. Each rule has its own kind of state, hashable, which only it reads."""

    def start(self) -> RuleState:
        """The state before its first token."""
        ...

    def legal(self, state: RuleState) -> Spans:
        """Tokens that continue this rule; empty when it is full."""
        ...

    def advance(self, state: RuleState, token: int) -> RuleState:
        """The state after a legal token."""
        ...

    def may_end(self, state: RuleState) -> bool:
        """Whether the rule's stretch may be over here."""
        ...

    @property
    def longest(self) -> int:
        """The most tokens this stretch can have."""
        ...


@dataclass(frozen=True)
class BoxRule:
    """Four bins x1, y1, x2, y2 with x2 > x1 and y2 > y1."""

    bins: Span

    def start(self) -> tuple[int, ...]:
        return ()

    def legal(self, state: tuple[int, ...]) -> Spans:
        if len(state) == 4:
            return ()
        if len(state) < 2:  # leave room for the other corner
            return ((self.bins[0], self.bins[1] - 1),)
        return ((state[len(state) - 2] + 1, self.bins[1]),)

    def advance(self, state: tuple[int, ...], token: int) -> tuple[int, ...]:
        return (*state, token)

    def may_end(self, state: tuple[int, ...]) -> bool:
        return len(state) == 4

    @property
    def longest(self) -> int:
        return 4


@dataclass(frozen=True)
class BoxesRule:
    """Up to `most` boxes, from left to right: no left edge lies before that of the box before.

    A state is the number of boxes so far, the left edge from which on the next may begin, and the bins of the current.
    """

    bins: Span
    most: int

    def start(self) -> tuple[int, int, tuple[int, ...]]:
        return 0, self.bins[0], ()

    def legal(self, state: tuple[int, int, tuple[int, ...]]) -> Spans:
        count, first, said = state
        if count == self.most or (not said and first >= self.bins[1] - 1):
            return ()
        return BoxRule(self.bins).legal(said) if said else ((first, self.bins[1] - 1),)

    def advance(self, state: tuple[int, int, tuple[int, ...]], token: int) -> tuple[int, int, tuple[int, ...]]:
        count, first, said = state
        if len(said) == 3:
            return count + 1, said[0], ()
        return count, first, (*said, token)

    def may_end(self, state: tuple[int, int, tuple[int, ...]]) -> bool:
        return not state[2]

    @property
    def longest(self) -> int:
        return 4 * self.most


@dataclass(frozen=True)
class KeypointsRule:
    """Any of the named keypoints, in order, each as its name's tokens and two bins; what is not visible is left out.

    With `inside` they lie in the box that the answer begins with. A state is (index of the first name still possible,
    what was said of the current point, the bins that x and y may have): the second is a tuple of the name tokens so
    far, or the number of bins that are still owed.
    """

    names: tuple[tuple[int, ...], ...]
    bins: Span
    inside: bool = False

    def __post_init__(self) -> None:
        for i, a in enumerate(self.names):
            if not a or any(b[: len(a)] == a for j, b in enumerate(self.names) if i != j):
                raise ValueError("Keypoint names must be distinct token sequences, none the beginning of another.")

    def start(self, box: tuple[int, ...] = ()) -> KeypointsState:
        """The state before the first token, of an answer that begins with this box (four bins)."""
        bounds = ((box[0], box[2] + 1), (box[1], box[3] + 1)) if self.inside and box else (self.bins, self.bins)
        return 0, (), bounds

    def legal(self, state: KeypointsState) -> Spans:
        following, said, bounds = state
        if isinstance(said, int):
            return (bounds[2 - said],)
        depth = len(said)
        tokens = {name[depth] for name in self.names[following:] if name[:depth] == said}
        return tuple(single(t) for t in sorted(tokens))

    def advance(self, state: KeypointsState, token: int) -> KeypointsState:
        following, said, bounds = state
        if isinstance(said, int):
            return following, (said - 1 or ()), bounds
        said = (*said, token)
        for index in range(following, len(self.names)):
            if self.names[index] == said:
                return index + 1, 2, bounds
        return following, said, bounds

    def may_end(self, state: KeypointsState) -> bool:
        return state[1] == ()

    @property
    def longest(self) -> int:
        return sum(len(name) + 2 for name in self.names)


@dataclass(frozen=True)
class RepeatRule:
    """Between `least` and `most` tokens out of `spans`: codes of a label map, words of a caption."""

    spans: Spans
    least: int
    most: int

    def start(self) -> int:
        return 0

    def legal(self, state: int) -> Spans:
        return self.spans if state < self.most else ()

    def advance(self, state: int, token: int) -> int:
        return state + 1

    def may_end(self, state: int) -> bool:
        return state >= self.least

    @property
    def longest(self) -> int:
        return self.most


@dataclass(frozen=True)
class BlockRule:
    """A stretch that comes out of one pass; see `Block`."""

    block: Block

    @property
    def longest(self) -> int:
        return len(self.block.queries) + 2


State = tuple[int, Hashable, tuple[int, ...]]
"""(index of the rule, its state, the bins of the box that the answer begins with, once it is there); an index equal to
the number of rules is the end of the answer."""


class Grammar:
    """A chain of rules. `</s>` is asked for only where the last rule leaves open whether the answer is over.

    `soft` is the range of tokens that are read as numbers (bins): the decoder hands out, beside the best token, the
    expected value around it. With `may_be_empty` an answer may end before it begins.
    """

    def __init__(
        self, rules: Sequence[Rule[Any] | BlockRule], soft: Span | None = None, may_be_empty: bool = False
    ) -> None:
        if not rules:
            raise ValueError("A grammar needs at least one rule.")
        if any(isinstance(rule, BlockRule) and rule.block.end_seen for rule in rules[:-1]):
            raise ValueError("A block that sees its end mark must come last: the mark would be fed twice.")
        self.rules = tuple(rules)
        self.soft = soft
        self.may_be_empty = may_be_empty

    @property
    def longest(self) -> int:
        """The most positions an answer can take in the decoder, `<s>` and `</s>` included."""
        return 2 + sum(rule.longest for rule in self.rules)

    def start(self) -> State:
        """The state before the first token."""
        return self._enter(0, ())

    def _enter(self, index: int, box: tuple[int, ...]) -> State:
        if index == len(self.rules):
            return index, None, box
        rule = self.rules[index]
        if isinstance(rule, BlockRule):
            return index, False, box  # `begin` is still owed
        return index, rule.start(box) if isinstance(rule, KeypointsRule) else rule.start(), box

    def done(self, state: State) -> bool:
        """Whether the answer is complete."""
        return state[0] == len(self.rules)

    def block(self, state: State) -> Block | None:
        """The block that must be decoded here, if any."""
        rule = None if self.done(state) else self.rules[state[0]]
        return rule.block if isinstance(rule, BlockRule) and state[1] else None

    def box(self, state: State) -> tuple[int, ...]:
        """The bins of the box that the answer begins with, once it is there."""
        return state[2]

    def legal(self, state: State) -> Spans:
        """Tokens that may come next; empty when the answer is complete or a block is due."""
        if self.done(state):
            return ()
        index, inner, box = state
        rule = self.rules[index]
        if isinstance(rule, BlockRule):
            return () if inner else (single(rule.block.begin),)
        spans = rule.legal(inner)
        if rule.may_end(inner):
            following = self._enter(index + 1, box)
            spans += (single(EOS),) if self.done(following) else self.legal(following)
        elif self._is_empty(state):
            spans += (single(EOS),)
        return tuple(sorted(spans))

    def ends_by_chance(self, state: State) -> bool:
        """Whether the answer may end here or go on with a coordinate.

        The probability of going on is then spread over many bins, so `</s>` competes with all of them together, and not
        with the likeliest.
        """
        spans = self.legal(state)
        return len(spans) > 1 and spans[0] == single(EOS) and self.soft is not None and spans[1][0] >= self.soft[0]

    def _is_empty(self, state: State) -> bool:
        return self.may_be_empty and state == self.start()

    def advance(self, state: State, token: int) -> State:
        """The state after a token; ValueError when the token is not legal."""
        if not _holds(self.legal(state), token):
            raise ValueError(f"Token {token} is not allowed here.")
        index, inner, box = state
        if token == EOS and self._is_empty(state):
            return self._enter(len(self.rules), box)
        rule = self.rules[index]
        if isinstance(rule, BlockRule):
            return index, True, box
        if not _holds(rule.legal(inner), token):  # it closes the answer, or opens the stretch behind
            following = self._enter(index + 1, box)
            return following if self.done(following) else self.advance(following, token)
        inner = rule.advance(inner, token)
        if rule.may_end(inner) and not rule.legal(inner):
            return self._enter(index + 1, inner if index == 0 and isinstance(rule, BoxRule) else box)
        return index, inner, box

    def after_block(self, state: State) -> State:
        """The state behind the block that was due."""
        return self._enter(state[0] + 1, state[2])


def _holds(spans: Spans, token: int) -> bool:
    return any(start <= token < stop for start, stop in spans)
