"""Search gives the published token ids and scores; batched equals single; block equals the published block."""

import functools

import pytest
import torch

from refhcm.data.vocabulary import EOS, PAD
from refhcm.errors import RefHCMError
from refhcm.models.decoding import Settings, generate
from refhcm.models.decoding_math import soft_values
from refhcm.models.grammar import Block, BlockRule, BoxesRule, BoxRule, Grammar, KeypointsRule, RepeatRule
from refhcm.tests.golden_data import golden_batch, golden_batches, golden_json, golden_model, has_golden

SOME, OTHER = (golden_batches() * 2)[:2]  # "a" and "b" in the folder that comes with the code
DECODES = golden_json("model/decodes")["cases"] if has_golden("model/decodes.json") else []
CASES = {case["name"]: case for case in DECODES}


class OpenGrammar(Grammar):
    """No order at all: any token of `spans`, until `</s>`, as the published code generates."""

    def __init__(self, spans, longest):
        super().__init__([RepeatRule(spans, 0, longest)])
        self._spans = spans

    def legal(self, state):
        return () if self.done(state) else self._spans

    def advance(self, state, token):
        return (1, None) if token == EOS else state


@functools.cache
def memory(batch, source="src_tokens"):
    data, model = golden_batch(batch), golden_model()
    with torch.inference_mode():
        features = model.image_features(data["patch_images"])
        return model.encode(data[source], features, data["patch_masks"])


def spans(case):
    """What the published constraint leaves: everything, or the special tokens and one range."""
    size = golden_json("model/config")["vocab_size"]
    limits = case["settings"]["constraint_range"]
    if limits is None:
        return ((0, size),)
    start, stop = (int(number) for number in limits.split(","))
    return ((0, 4), (start, stop))


@pytest.mark.parametrize("name", CASES)
def test_search_gives_the_published_answers(name):
    case = CASES[name]
    wanted, s = case["hypotheses"], case["settings"]
    state = memory(case["batch"], case["source"])
    words = golden_batch(case["batch"])[case["source"]].shape[1]
    longest = int(s["max_len_a"] * words + s["max_len_b"])
    prefix = case["prefix_tokens"]
    settings = Settings(
        length_penalty=s["lenpen"] if s["normalize_scores"] else 0.0,
        min_length=s["min_len"],
        max_length=longest,
        temperature=s["temperature"],
        unk_penalty=s["unkpen"],
        no_repeat_ngram=s["no_repeat_ngram_size"],
        prefix=None if prefix is None else torch.tensor(prefix),
    )
    found = generate(golden_model(), state, OpenGrammar(spans(case), longest + 2), s["beam"], settings)
    for row, stable in enumerate(case["stable"]):
        assert len(found[row]) == len(wanted[row])
        for ours, theirs in zip(found[row], wanted[row], strict=True):
            if stable:
                assert [*ours.tokens, EOS] == theirs["tokens"]
                torch.testing.assert_close(
                    torch.tensor(ours.logprobs), torch.tensor(theirs["positional_scores"]), atol=1e-3, rtol=0
                )
            assert ours.score == pytest.approx(theirs["score"], abs=1e-3)


def test_block_gives_the_published_codes():
    case, config = golden_json("model/decodes")["qpg"], golden_json("model/config")
    code, bins = config["code_0"], (config["bin_0"], config["vocab_size"])
    queries = tuple(range(code + 42, code + 90))
    block = Block(code + 40, queries, code + 41, ((code, config["bin_0"]),), end_seen=True)
    grammar = Grammar([RepeatRule((bins,), 4, 4), BlockRule(block)])
    found = generate(golden_model(), memory(case["batch"], case["source"]), grammar)
    for (best,), wanted, stable in zip(found, case["results"], case["stable"], strict=True):
        if stable:
            assert [t - bins[0] for t in best.tokens[:4]] == wanted["bins"]
            assert [t - code for t in best.tokens[5:]] == wanted["codes"]


def test_a_block_says_how_likely_each_token_was():
    for name in ("block", "block then keypoints", "keypoints then block", "box"):
        for (best,) in generate(golden_model(), memory(OTHER), GRAMMARS[name]):
            if name == "box":
                assert best.spreads == {}
                continue
            start = best.tokens.index(BLOCK_MARK) + 1
            assert list(best.spreads) == [start] and best.spreads[start].shape == (48, 32)
            torch.testing.assert_close(best.spreads[start].sum(1), torch.ones(48), atol=1e-4, rtol=0)
            assert (best.spreads[start].argmax(1) + BLOCK_MARK - 40).tolist() == best.tokens[start : start + 48]


def grammars():
    config = golden_json("model/config")
    code, bins = config["code_0"], (config["bin_0"], config["vocab_size"])
    names = tuple((300 + i, 400, 500 + i) for i in range(5))
    block = BlockRule(Block(code + 40, tuple(range(code + 42, code + 90)), code + 41, ((code, code + 32),)))
    box, points = BoxRule(bins), KeypointsRule(names, bins)
    yield "box", Grammar([box], bins)
    yield "keypoints", Grammar([box, points], bins)
    yield "block", Grammar([box, block], bins)
    yield "block then keypoints", Grammar([box, block, points], bins)
    yield "keypoints then block", Grammar([box, points, block], bins)
    second = BlockRule(Block(code + 100, tuple(range(code + 102, code + 150)), code + 101, ((code + 150, code + 200),)))
    yield "two blocks then keypoints", Grammar([box, second, block, points], bins)
    yield "text", Grammar([RepeatRule(((4, 5000),), 1, 12)])


GRAMMARS = dict(grammars())
BLOCK_MARK = golden_json("model/config")["code_0"] + 40


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_beam_ranks_by_the_mean_log_probability_of_all_tokens_those_of_a_block_too(name):
    for hypotheses in generate(golden_model(), memory(OTHER), GRAMMARS[name], beam=3):
        for found in hypotheses:
            assert found.score == pytest.approx(sum(found.logprobs) / len(found.logprobs), abs=1e-4)


def test_a_bin_is_read_as_the_mean_of_its_neighbours_among_the_bins_alone():
    ids = torch.tensor([7, 8, 20, 21, 22, 23])  # two words, then four bins: one of them to each side is near
    chances = torch.tensor([[0.1, 0.4, 0.3, 0.1, 0.04, 0.06]]).expand(3, -1)
    first, last, word = soft_values(chances.log(), torch.tensor([2, 5, 1]), ids, (20, 24)).tolist()
    assert first == pytest.approx((20 * 0.3 + 21 * 0.1) / 0.4)
    assert last == pytest.approx((22 * 0.04 + 23 * 0.06) / 0.1)  # nothing stands behind it, and it counts once
    assert word == 8


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", GRAMMARS)
def test_batched_equals_single(name, beam):
    state, grammar, model = memory(OTHER), GRAMMARS[name], golden_model()
    together = generate(model, state, grammar, beam)
    for row, hypotheses in enumerate(together):
        alone = generate(model, state.select(torch.tensor([row])), grammar, beam)[0]
        assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]
        torch.testing.assert_close(
            torch.tensor([h.score for h in hypotheses]), torch.tensor([h.score for h in alone]), atol=1e-4, rtol=0
        )


def test_each_of_two_blocks_says_how_likely_its_tokens_were():
    for (best,) in generate(golden_model(), memory(OTHER), GRAMMARS["two blocks then keypoints"]):
        (one, first), (two, second) = best.spreads.items()
        assert (one, two) == (5, 5 + 48 + 1) and first.shape == (48, 50) and second.shape == (48, 32)
        assert (second.argmax(1) + BLOCK_MARK - 40).tolist() == best.tokens[two : two + 48]


def first_step():
    """The probability of `</s>` against all bins at the first step of each row, computed without a search."""
    model, state, bins = golden_model(), memory(OTHER), GRAMMARS["box"].soft
    with torch.inference_mode():
        features = model.decoder(torch.zeros(len(state.states), 1, dtype=torch.int64), state)[:, 0]
        logits = model.logits(features, ((EOS, EOS + 1), (bins[0], bins[1] - 1)))
    return logits.softmax(-1)[:, 0].tolist()


@pytest.mark.parametrize("beam", [1, 3])
def test_nobody_is_answered_where_that_is_likelier_than_all_places_together(beam):
    bins, chances = GRAMMARS["box"].soft, first_step()
    boxes = generate(golden_model(), memory(OTHER), GRAMMARS["box"], beam)
    grammar = Grammar([BoxRule(bins)], bins, may_be_empty=True)
    for threshold in (0.0, sum(chances) / len(chances), 1.0):
        found = generate(golden_model(), memory(OTHER), grammar, beam, Settings(empty_from=threshold))
        for chance, some, box in zip(chances, found, boxes, strict=True):
            assert some[0].going_on == {0: pytest.approx(1 - chance, abs=1e-5)}
            assert some[0].tokens == ([] if chance >= threshold else box[0].tokens)


@pytest.mark.parametrize("beam", [1, 3])
def test_several_boxes_come_from_left_to_right_until_ending_is_likelier(beam):
    bins, state = GRAMMARS["box"].soft, memory(OTHER)
    grammar = Grammar([BoxesRule(bins, 5)], bins)
    least = 1.0
    for threshold in (0.0, 0.5, 1.1):
        for some in generate(golden_model(), state, grammar, beam, Settings(empty_from=threshold, end_from=threshold)):
            count, left = divmod(len(some[0].tokens), 4)
            lefts = some[0].tokens[::4]
            assert left == 0 and lefts == sorted(lefts)
            assert set(some[0].going_on) == {4 * n for n in range(min(count + 1, 5))}
            ends = [1 - chance for place, chance in sorted(some[0].going_on.items())]
            assert all(chance < threshold for chance in ends[:count])
            least = min(least, *ends)
            assert count == 0 if threshold == 0 else count == 5 if threshold > 1 else True
    assert 0 < least < 1
    for some in generate(golden_model(), state, grammar, beam, Settings(empty_from=1.1, end_from=0.0)):
        assert len(some[0].tokens) == 4  # somebody there is, and nobody else


def test_what_is_forced_is_no_question():
    """A box that is given stands for somebody, however likely nobody would be."""
    bins, state = GRAMMARS["box"].soft, memory(OTHER)
    grammar = Grammar([BoxRule(bins)], bins, may_be_empty=True)
    given = torch.tensor([bins[0] + b for b in (3, 4, 30, 40)]).expand(len(state.states), -1)
    for (best,) in generate(golden_model(), state, grammar, settings=Settings(prefix=given, empty_from=0.0)):
        assert best.tokens == given[0].tolist() and best.going_on == {}


@pytest.mark.parametrize("name", GRAMMARS)
def test_greedy_equals_teacher_forcing(name):
    """Each token is the best legal one after the tokens before it, computed without any cache."""
    model, grammar, data = golden_model(), GRAMMARS[name], golden_batch(OTHER)
    state = memory(OTHER)
    for row, (best,) in enumerate(generate(model, state, grammar)):
        inputs, wanted, blocks = replay(grammar, best.tokens)
        with torch.inference_mode():
            features = model.decoder(
                torch.tensor([inputs]), state.select(torch.tensor([row])), torch.tensor([blocks or [[-1, -1]]])
            )[0]
            for position, (token, legal) in wanted.items():
                logits = model.logits(features[position], legal)
                ids = torch.cat([torch.arange(a, b) for a, b in legal])
                assert ids[logits.argmax()] == token, (name, position)
    assert data["src_tokens"].shape[0] == len(state.states)


def replay(grammar, tokens):
    """Decoder inputs of an answer, what was chosen where among what, and its blocks."""
    inputs, wanted, blocks, state = [0], {}, [], grammar.start()
    tokens = list(tokens)
    while tokens:
        block = grammar.block(state)
        if block:
            blocks.append([len(inputs), len(inputs) + len(block.queries) - 1])
            for query in block.queries:
                wanted[len(inputs)] = (tokens.pop(0), block.spans)
                inputs.append(query)
            inputs.append(block.end)
            state = grammar.after_block(state)
            continue
        token = tokens.pop(0)
        wanted[len(inputs) - 1] = (token, grammar.legal(state))
        inputs.append(token)
        state = grammar.advance(state, token)
    return inputs, wanted, blocks


def test_values_lie_near_their_bins():
    config = golden_json("model/config")
    half = round(0.012 * config["num_bins"])
    for (best,) in generate(golden_model(), memory(SOME), GRAMMARS["box"]):
        assert all(abs(v - t) <= half for v, t in zip(best.values, best.tokens, strict=True))
        assert best.values != [float(t) for t in best.tokens]
        assert 0 < best.confidence() <= 1


def test_a_beam_below_one_is_refused():
    with pytest.raises(ValueError, match="beam"):
        generate(golden_model(), memory(SOME), GRAMMARS["box"], beam=0)


def test_no_possible_answer_is_said_in_one_sentence():
    bins = GRAMMARS["box"].soft
    turned_round = torch.tensor([[bins[0] + 9, bins[0] + 9, bins[0] + 5]]).expand(len(memory(SOME).states), -1)
    with pytest.raises(RefHCMError, match="forced beginning"):
        generate(golden_model(), memory(SOME), GRAMMARS["box"], settings=Settings(prefix=turned_round))


def test_pad_is_never_said():
    grammar = OpenGrammar(((0, 5000),), 30)
    for hypotheses in generate(golden_model(), memory(SOME), grammar, 2, Settings(max_length=20)):
        assert all(PAD not in h.tokens for h in hypotheses)


def test_every_row_of_a_beam_that_comes_to_a_block_is_followed_to_its_end():
    """A block splits a beam into rows that go on by themselves; one that ends early must not end the others."""
    config = golden_json("model/config")
    words = RepeatRule(((4, 60),), 0, 4)
    grammar = Grammar([*GRAMMARS["block"].rules, words], (config["bin_0"], config["vocab_size"]))
    for hypotheses in generate(golden_model(), memory(OTHER), grammar, beam=3):
        assert len(hypotheses) == 3
        assert len({tuple(h.tokens[:4]) for h in hypotheses}) == 3
