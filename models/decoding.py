"""Search for the best answer under a grammar: greedy, beam and block decoding are one loop.

The arithmetic of the beam is fairseq's (the published weights were measured with it): 2 x beam candidates per step,
a hypothesis ends when its `</s>` ranks among the best `beam` of them, a sentence when `beam` hypotheses have ended, the
score is the sum of log-probabilities divided by length ** length_penalty. Greedy search is a beam of one. A
block (see `grammar.Block`) is one decoder pass whose positions are each decoded greedily.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.vocabulary import BOS, EOS, PAD, UNK
from ..errors import RefHCMError
from .decoding_math import legal_mask, merge_spans, soft_values, span_ids, without_copies
from .grammar import Block, Grammar, Spans, State
from .hypothesis import Hypothesis, Node, finish, unroll

if TYPE_CHECKING:
    from .decoder import Cache
    from .encoder import Memory
    from .refhcm import RefHCM


@dataclass(frozen=True)
class Settings:
    """How to search. The defaults leave everything to the grammar; the rest is what fairseq's generator offers."""

    length_penalty: float = 1.0
    min_length: int = 0
    """`</s>` is impossible before this many tokens."""
    max_length: int | None = None
    """At this many tokens only `</s>` is left."""
    temperature: float = 1.0
    unk_penalty: float = 0.0
    no_repeat_ngram: int = 0
    prefix: Tensor | None = None
    """int64 [B, P]: first tokens of each answer; `<pad>` leaves a place free."""
    end_from: float = 0.5
    """Where an answer may end or go on with a coordinate, it ends if `</s>` is at least as likely as this."""
    empty_from: float = 0.5
    """The same of an answer that has not begun, which is then empty."""


@dataclass
class _Group:
    """Rows that are decoded in lockstep: `beam` rows for each entry of `sentences`.

    Behind a block a sentence has an entry for each of its rows, all with a beam of one.
    """

    cache: Cache
    sentences: list[int]
    beam: int
    nodes: list[Node | None]
    states: list[State | None]
    """None: a dead row, kept only to fill the beam."""
    scores: Tensor  # [rows]
    inputs: Tensor  # [rows, n]: tokens that the decoder has not seen yet
    step: int = 0
    going_on: list[float | None] = field(default_factory=list)
    """Of each row's last step, see `Hypothesis.going_on`."""
    ended: list[int] = field(default_factory=list)
    """How many hypotheses of each entry have ended."""

    def __post_init__(self) -> None:
        self.ended = self.ended or [0] * len(self.sentences)

    def keep(self, entries: list[int]) -> None:
        """Forget the sentences of all other entries; their rows are the caller's to take out."""
        self.sentences = [self.sentences[e] for e in entries]
        self.ended = [self.ended[e] for e in entries]


@torch.inference_mode()
def generate(
    model: RefHCM, memory: Memory, grammar: Grammar, beam: int = 1, settings: Settings | None = None
) -> list[list[Hypothesis]]:
    """Decode one answer per row of `memory`.

    Returns, for each row, up to `beam` hypotheses, best first; at least one. ValueError when beam < 1, RefHCMError when
    no answer is possible: a prefix against the grammar, or logits that are not finite.
    """
    if beam < 1:
        raise ValueError(f"The beam must be at least 1, not {beam}.")
    search = _Search(model, grammar, settings or Settings())
    return search.run(memory, beam)


class _Search:
    def __init__(self, model: RefHCM, grammar: Grammar, settings: Settings) -> None:
        self.model = model
        self.grammar = grammar
        self.settings = settings
        self.results: dict[int, list[Hypothesis]] = {}
        self.queue: list[_Group] = []

    def run(self, memory: Memory, beam: int) -> list[list[Hypothesis]]:
        count, device = memory.states.shape[0], memory.states.device
        longest = self.grammar.longest if self.settings.max_length is None else self.settings.max_length + 2
        self.results = {sentence: [] for sentence in range(count)}
        scores = torch.full((count, beam), -inf, device=device)
        scores[:, 0] = 0.0
        states: list[State | None] = [None] * (count * beam)
        states[::beam] = [self.grammar.start()] * count
        self.queue = [
            _Group(
                cache=self.model.decoder.start(memory, beam=beam, max_length=longest),
                sentences=list(range(count)),
                beam=beam,
                nodes=[None] * (count * beam),
                states=states,
                scores=scores.view(-1),
                inputs=torch.full((count * beam, 1), BOS, device=device),
            )
        ]
        while self.queue:
            group = self.queue.pop()
            while group.sentences:
                if not self._forced(group):
                    self._step(group)
        if not all(self.results.values()):
            raise RefHCMError(
                "No answer has a probability: a forced beginning breaks the grammar, or the model computes numbers "
                "that are not finite; load it with dtype='float32', and if that does not help its weights are damaged."
            )
        return [sorted(self.results[s], key=lambda h: -h.score)[:beam] for s in range(count)]

    # -- one step ----------------------------------------------------------------------------------------------------
    def _forced(self, group: _Group) -> bool:
        """Take, without the decoder, a token that every live row is bound to; it is fed with the next one."""
        if self.settings.max_length is not None or self.settings.prefix is not None:
            return False
        spans = [self.grammar.legal(state) if state is not None else () for state in group.states]
        bound = [s[0][0] if len(s) == 1 and s[0][1] - s[0][0] == 1 else None for s in spans]
        for token, state in zip(bound, group.states, strict=True):
            if state is not None and (token is None or self.grammar.done(self.grammar.advance(state, token))):
                return False
        tokens = [PAD if token is None else token for token in bound]
        parents = list(range(len(tokens)))
        self._take(group, parents, tokens, [float(t) for t in tokens], [0.0] * len(tokens), group.scores)
        return True

    def _step(self, group: _Group) -> None:
        """Feed what is pending, rank the candidates, close the answers that end, keep the rest."""
        features = self.model.decoder.extend(group.inputs, group.cache)[:, -1]
        group.inputs = group.inputs[:, :0]
        spans, mask = self._legal(group.states, features.device)
        ids = span_ids(spans, features.device)
        logprobs = self._logprobs(self.model.logits(features, spans), mask, ids, group)
        group.going_on = self._decide_ends(logprobs, ids, group)
        total = (logprobs + group.scores[:, None]).view(len(group.sentences), -1)
        width = logprobs.shape[1]
        count = min(2 * group.beam if group.beam > 1 else 1, total.shape[1])
        best, index = total.topk(count, dim=1)
        rows = index // width + group.beam * torch.arange(len(group.sentences), device=index.device)[:, None]
        columns = index % width
        values = soft_values(logprobs[rows.view(-1)], columns.view(-1), ids, self.grammar.soft).view_as(best)
        chosen = logprobs[rows, columns]
        self._select(group, best, rows, ids[columns], values, chosen)

    def _legal(self, states: list[State | None], device: torch.device) -> tuple[Spans, Tensor | None]:
        """The union of what the rows may say, and a mask [rows, union] of what each may not (None: no difference)."""
        each = [self.grammar.legal(state) if state is not None else () for state in states]
        union = merge_spans([span for spans in set(each) for span in spans])
        return union, legal_mask(each, union, device)

    def _logprobs(self, logits: Tensor, mask: Tensor | None, ids: Tensor, group: _Group) -> Tensor:
        """Log-probabilities [rows, union] in fp32, with what the settings forbid set to -inf."""
        settings, step = self.settings, group.step
        logits = logits.float()
        if settings.temperature != 1.0:
            logits = logits / settings.temperature
        if mask is not None:
            logits = logits.masked_fill(mask, -inf)
        logprobs = logits.log_softmax(-1).nan_to_num(nan=-inf, neginf=-inf)
        logprobs = logprobs.masked_fill(ids == PAD, -inf)
        if settings.unk_penalty:
            logprobs = logprobs - settings.unk_penalty * (ids == UNK)
        if settings.max_length is not None and step >= settings.max_length:
            logprobs = logprobs.masked_fill(ids != EOS, -inf)
        elif settings.prefix is not None and step < settings.prefix.shape[1]:
            wanted = settings.prefix[group.sentences, step].repeat_interleave(group.beam)[:, None]
            logprobs = logprobs.masked_fill((wanted != PAD) & (ids != wanted), -inf)
        elif step < settings.min_length:
            logprobs = logprobs.masked_fill(ids == EOS, -inf)
        if settings.no_repeat_ngram:
            self._block_repeats(logprobs, ids, group.nodes)
        return logprobs

    def _decide_ends(self, logprobs: Tensor, ids: Tensor, group: _Group) -> list[float | None]:
        """Where `</s>` competes with all coordinates together: leave, in place, only the side that is chosen.

        Returns how likely each row is to go on; None where that is no such question.
        """
        asked = [state is not None and self.grammar.ends_by_chance(state) for state in group.states]
        if self._is_given(group.step) or not any(asked):
            return [None] * len(asked)
        ending = logprobs[:, (ids == EOS).nonzero()[0, 0]].exp()
        enough = self.settings.end_from if group.step else self.settings.empty_from
        over = torch.tensor(asked, device=ids.device) & (ending >= enough)
        stays = torch.tensor(asked, device=ids.device) & ~over
        logprobs.masked_fill_((over[:, None] & (ids != EOS)) | (stays[:, None] & (ids == EOS)), -inf)
        return [1 - chance if ask else None for chance, ask in zip(ending.tolist(), asked, strict=True)]

    def _is_given(self, step: int) -> bool:
        """Whether the settings say more about this step than the grammar does."""
        settings = self.settings
        forced = settings.prefix is not None and step < settings.prefix.shape[1]
        last = settings.max_length is not None and step >= settings.max_length
        return forced or last or step < settings.min_length

    def _block_repeats(self, logprobs: Tensor, ids: Tensor, nodes: list[Node | None]) -> None:
        """Forbid, in place, every token that would repeat an n-gram of its own row."""
        n = self.settings.no_repeat_ngram
        for row, node in enumerate(nodes):
            tokens = [BOS, *(x.token for x in unroll(node))]
            tail = tokens[len(tokens) - n + 1 :]
            repeats = [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == tail]
            if repeats:
                logprobs[row, torch.isin(ids, torch.tensor(repeats, device=ids.device))] = -inf

    def _select(
        self, group: _Group, best: Tensor, rows: Tensor, tokens: Tensor, values: Tensor, chosen: Tensor
    ) -> None:
        """Close what ends among the best `beam` candidates of each sentence; the next `beam` others go on."""
        beam = group.beam
        keep: list[tuple[int, int]] = []  # (entry of the group, candidate) of the rows that go on
        lists = [t.tolist() for t in (best, rows, tokens, values, chosen)]
        going = []
        for entry, sentence in enumerate(group.sentences):
            score, row, token, value, logprob = (column[entry] for column in lists)
            ends = [self._ends(group.states[r], t, s) for r, t, s in zip(row, token, score, strict=True)]
            for k in range(min(beam, len(token))):
                if ends[k] and score[k] > -inf and group.ended[entry] < beam:
                    node = Node(group.nodes[row[k]], token[k], value[k], logprob[k], None, group.going_on[row[k]])
                    self._close(sentence, node, score[k], group.step + 1)
                    group.ended[entry] += 1
            alive = [k for k in range(len(token)) if not ends[k]][:beam]
            over = self.settings.max_length is not None and group.step >= self.settings.max_length
            if group.ended[entry] >= beam or over or all(score[k] == -inf for k in alive):
                continue
            going.append(entry)
            alive += [alive[-1]] * (beam - len(alive)) if len(alive) < beam else []
            keep += [(entry, k) for k in alive]
        group.keep(going)
        if not keep:
            return
        picked = [[column[entry][k] for entry, k in keep] for column in lists]
        scores = torch.tensor(without_copies(keep, picked[0]), device=best.device)
        self._take(group, picked[1], picked[2], picked[3], picked[4], scores)

    def _ends(self, state: State | None, token: int, score: float) -> bool:
        """Whether this candidate completes its answer."""
        return state is not None and score > -inf and self.grammar.done(self.grammar.advance(state, token))

    def _take(
        self,
        group: _Group,
        parents: list[int],
        tokens: list[int],
        values: list[float],
        logprobs: list[float],
        scores: Tensor,
    ) -> None:
        """Let row i of the group become row parents[i] followed by tokens[i]; rows at a block leave the group."""
        device = scores.device
        before = len(group.nodes)
        nodes: list[Node | None] = []
        states: list[State | None] = []
        for parent, token, value, logprob, score in zip(
            parents, tokens, values, logprobs, scores.tolist(), strict=True
        ):
            state = group.states[parent]
            if state is None or score == -inf:
                nodes.append(group.nodes[parent])
                states.append(None)
            else:
                going_on = group.going_on[parent] if group.going_on else None
                nodes.append(Node(group.nodes[parent], token, value, logprob, None, going_on))
                states.append(self.grammar.advance(state, token))
        group.nodes, group.states, group.scores, group.going_on = nodes, states, scores, []
        index = torch.tensor(parents, device=device)
        if parents != list(range(before)):
            group.cache.take(index)
            group.inputs = group.inputs[index]
        group.inputs = torch.cat([group.inputs, torch.tensor(tokens, device=device)[:, None]], dim=1)
        group.step += 1
        self._leave_for_blocks(group)

    # -- blocks ------------------------------------------------------------------------------------------------------
    def _leave_for_blocks(self, group: _Group) -> None:
        """Decode the block of every row that has come to one, and let it go on in a group of its own."""
        due = [r for r, s in enumerate(group.states) if s is not None and self.grammar.block(s) is not None]
        if not due:
            return
        everybody = len(due) == sum(state is not None for state in group.states)
        rows = torch.tensor(due, device=group.scores.device)
        branch = _Group(
            cache=group.cache.fork(rows),
            sentences=[group.sentences[r // group.beam] for r in due],
            beam=1,
            nodes=[group.nodes[r] for r in due],
            states=[group.states[r] for r in due],
            scores=group.scores[rows],
            inputs=group.inputs[rows],
            step=group.step,
        )
        if everybody:
            group.keep([])
        else:
            for row in due:
                group.states[row] = None
            group.scores = group.scores.index_fill(0, rows, -inf)
            self._drop_finished(group)
        self._decode_block(branch)

    def _drop_finished(self, group: _Group) -> None:
        """Take sentences out of the group whose rows are all dead."""
        beam = group.beam
        live = [e for e in range(len(group.sentences)) if any(group.states[e * beam : (e + 1) * beam])]
        rows = [e * beam + b for e in live for b in range(beam)]
        index = torch.tensor(rows, device=group.scores.device)
        group.keep(live)
        group.nodes = [group.nodes[r] for r in rows]
        group.states = [group.states[r] for r in rows]
        group.cache.take(index)
        group.scores, group.inputs = group.scores[index], group.inputs[index]

    def _decode_block(self, group: _Group) -> None:
        """One pass over the queries of a block; the rows of `group` have all come to the same one."""
        states = [state for state in group.states if state is not None]  # all: a dead row comes to no block
        block = self.grammar.block(states[0])
        assert block is not None
        queries = [*block.queries, block.end] if block.end_seen else list(block.queries)
        tokens = torch.tensor(queries, device=group.scores.device).expand(len(group.sentences), -1)
        pending = group.inputs.shape[1]
        features = self.model.decoder.extend(torch.cat([group.inputs, tokens], 1), group.cache, mutual=len(queries))
        logits = self.model.logits(features[:, pending : pending + len(block.queries)], block.spans).float()
        if block.kinds or block.sides:
            each = [spans for state in states for spans in block.legal(self.grammar.box(state))]
            if (mask := legal_mask(each, block.spans, logits.device)) is not None:
                logits = logits.masked_fill(mask.view(logits.shape), -inf)
        self._read_block(group, block, logits)
        states = [self.grammar.after_block(state) for state in states]
        group.states = [*states]
        group.inputs = torch.full((len(group.sentences), 1), block.end, device=group.scores.device)
        group.step += len(block.queries)
        if self.grammar.done(states[0]):
            for row, sentence in enumerate(group.sentences):
                self._close(sentence, group.nodes[row], float(group.scores[row]), group.step)
            return
        self.queue.append(group)

    def _read_block(self, group: _Group, block: Block, logits: Tensor) -> None:
        """Append the best token of each position (float32 logits [rows, positions, union]) to the rows of the group."""
        logprobs = logits.log_softmax(-1)
        ids = span_ids(block.spans, logits.device)
        best, columns = logprobs.max(-1)
        soft = soft_values(logprobs.flatten(0, 1), columns.flatten(), ids, self.grammar.soft).view_as(best)
        lists = zip(ids[columns].tolist(), soft.tolist(), best.tolist(), strict=True)
        spread: list[Tensor | None] = list(logprobs.exp().cpu())
        for row, (tokens, values, scores) in enumerate(lists):
            for token, value, logprob in zip(tokens, values, scores, strict=True):
                group.nodes[row] = Node(group.nodes[row], token, value, logprob, spread[row])
                spread[row] = None
        group.scores = group.scores + best.sum(-1)

    def _close(self, sentence: int, node: Node | None, score: float, length: int) -> None:
        """File a finished hypothesis."""
        normalised = score / length**self.settings.length_penalty
        self.results[sentence].append(finish(node, normalised))
