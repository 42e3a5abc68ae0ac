"""Whatever tokens a decoder picks, a grammar lets only well-formed answers through."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm import tasks
from refhcm.data.annotation import Annotation, Question
from refhcm.data.samples import Target
from refhcm.data.vocabulary import BOS, EOS, PAD, Vocabulary
from refhcm.models.grammar import Block, BlockRule, BoxRule, Grammar, KeypointsRule, RepeatRule
from refhcm.models.hypothesis import Hypothesis
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_paste import crop_part_map


class Letters:
    """One text piece per character; enough to spell keypoint names."""

    size = 256

    def encode(self, text):
        return [ord(c) if ord(c) < 256 else -1 for c in text]

    def decode(self, ids):
        return "".join(chr(i) for i in ids)


VOCABULARY = Vocabulary(
    Letters(), num_codes=192, num_bins=50, label_codes=32, mark_start=40, mask_codes=24, mask_start=100
)

MASKS = LabelMapTokenizer(
    LabelMapConfig(
        classes=3, height=64, width=48, channels=8, multipliers=(1, 2), blocks=1, attention_levels=(), latent=8,
        embedding=4, codebook=24, groups=4, fold=4,
    )
)  # fmt: skip


def build(name, **options):
    """A task as training has it."""
    if "mask" in tasks.known()[name].needs:
        options["masks"] = MASKS
    return tasks.build(name, VOCABULARY, **options)


def walk(grammar, rng):
    """A random answer: what a decoder with random weights would say."""
    state, tokens, steps = grammar.start(), [], 0
    while not grammar.done(state):
        block = grammar.block(state)
        if block:
            tokens += [rng.choice([t for a, b in block.spans for t in range(a, b)]) for _ in block.queries]
            state = grammar.after_block(state)
            steps += len(block.queries) + 1
            continue
        spans = grammar.legal(state)
        assert spans and list(spans) == sorted(spans)
        token = rng.choice([rng.randrange(*span) for span in spans])
        state = grammar.advance(state, token)
        tokens.append(token)
        steps += 1
    assert steps + 1 <= grammar.longest
    return tokens[:-1] if tokens[-1] == EOS else tokens


@pytest.mark.parametrize("name", tasks.names())
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**9), width=st.integers(1, 5000), height=st.integers(1, 5000), nobody=st.booleans()
)  # fmt: skip
def test_every_answer_the_grammar_allows_can_be_read(name, seed, width, height, nobody):
    task = build(name, nobody=nobody)
    tokens = walk(task.grammar(), random.Random(seed))
    hypothesis = Hypothesis(tokens, [float(t) for t in tokens], [-0.1] * len(tokens), -1.0)
    reading = task.read(hypothesis, (width, height))
    assert 0 <= reading.score <= 1
    assert reading.present == bool(tokens)
    if reading.people is not None:
        boxes = [person.box for person in reading.people]
        assert bool(tokens) <= len(boxes) * 4 <= len(tokens) and all(0 <= x1 < x2 <= width for x1, _, x2, _ in boxes)
        assert all(0 <= y1 < y2 <= height for _, y1, _, y2 in boxes)
        assert sorted(box[0] for box in boxes) == [box[0] for box in boxes]
    if not tokens:
        assert task.nobody or reading.people == ()
        return
    if "mask" in task.needs:
        assert len(reading.mask_codes) == 48 and all(0 <= c < 24 for c in reading.mask_codes)
        assert reading.tells_others == ("others" in task.needs)
    if "box" in task.needs:
        x1, y1, x2, y2 = reading.box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    if "keypoints" in task.needs:
        assert reading.keypoints.shape == (17, 3)
        absent = reading.keypoints[:, 2] == 0
        assert (reading.keypoints[absent] == 0).all()
        assert (reading.keypoints[:, 0] <= width).all() and (reading.keypoints[:, 1] <= height).all()
    if "codes" in task.needs:
        assert len(reading.codes) == 48 and all(0 <= c < 32 for c in reading.codes)
    if "captions" in task.needs:
        assert isinstance(reading.caption, str)


@pytest.mark.parametrize("name", ["rkpt", "s1", "s1_mask"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), width=st.integers(1, 5000), height=st.integers(1, 5000), off=st.floats(-0.4, 0.4))
def test_keypoints_can_be_kept_inside_the_answers_own_box(name, seed, width, height, off):
    task = build(name, inside=True)
    tokens = walk(task.grammar(), random.Random(seed))
    said = Hypothesis(tokens, [token + off for token in tokens], [-0.1] * len(tokens), -1.0)
    reading = task.read(said, (width, height))
    present = reading.keypoints[reading.keypoints[:, 2] > 0].astype(float)
    x1, y1, x2, y2 = reading.box
    assert (present[:, 0] >= x1).all() and (present[:, 0] <= x2).all()
    assert (present[:, 1] >= y1).all() and (present[:, 1] <= y2).all()
    boxes = [t - VOCABULARY.bin_start for t in tokens if VOCABULARY.is_bin(t)]
    assert all(boxes[0] <= x <= boxes[2] for x in boxes[4::2]) and all(boxes[1] <= y <= boxes[3] for y in boxes[5::2])


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("hidden", [(), (0, 5), tuple(range(17))])
def test_training_teaches_what_the_grammar_allows(name, hidden):
    points = np.column_stack([np.linspace(12, 38, 17), np.linspace(70, 12, 17), np.full(17, 2)])
    points[list(hidden)] = 0
    mask, others = np.zeros((2, 80, 50), bool)
    mask[20:60, 15:30] = others[40:70, 5:20] = True
    codes = tuple(i % 32 for i in range(48))
    truth = Annotation((50, 80), (10, 10, 40, 75), points, codes, captions=("a man",), mask=mask, others=others)
    if tasks.known()[name].meant != "one":
        boxes = [(10, 10, 40, 75), (2, 30, 9, 50), (10, 5, 20, 30)][: len(hidden) // 2]
        truth = Annotation((50, 80), people=tuple(Annotation((50, 80), box) for box in boxes))
    task = build(name)
    target, grammar = task.target(truth), task.grammar()
    state, blocks, position = grammar.start(), [], 0
    while not grammar.done(state):
        block = grammar.block(state)
        if block:
            position += 1  # where the mark is fed nothing is wanted
            last = position + len(block.queries) - 1
            blocks.append((position, last))
            assert target.inputs[position : last + 2] == [*block.queries, block.end]
            assert all(any(a <= t < b for a, b in block.spans) for t in target.outputs[position : last + 1])
            state, position = grammar.after_block(state), last + 1
            continue
        token = target.outputs[position]
        state = grammar.advance(state, token)  # raises where a token is not legal
        if not grammar.done(state):
            assert target.inputs[position + 1] == token
            position += 1
    assert target.blocks == blocks and target.outputs[-1] == EOS
    said = [t for t in target.outputs[:-1] if t != PAD]
    reading = task.read(Hypothesis(said, [float(t) for t in said], [-0.1] * len(said), -1.0), truth.size)
    if "keypoints" in task.needs:
        assert np.abs(reading.keypoints[:, :2] - points[:, :2]).max() < 1.1
        assert ((reading.keypoints[:, 2] == 0) == (points[:, 2] == 0)).all()
    if "codes" in task.needs:
        assert reading.codes == truth.codes
    if "mask" in task.needs:
        labels = np.where(mask, 1, 2 * others if name == "roi" else 0)
        crop = torch.from_numpy(crop_part_map(labels, truth.box, (64, 48)))[None]
        assert reading.mask_codes == tuple(MASKS.encode(crop)[0].tolist())
    if task.meant != "one":
        found = np.array([person.box for person in reading.people]).reshape(-1, 4)
        assert np.abs(found - np.array(sorted(p.box for p in truth.people)).reshape(-1, 4)).max(initial=0) < 1.1


def test_a_person_who_is_said_twice_counts_once():
    """The grammar lets a box come again; the surer of the two is the person's."""
    grid = VOCABULARY.num_bins - 1
    for sure, kept in ((0, [0, 2]), (1, [1, 2])):
        boxes = [(4, 4, 24, 26), (5, 4, 24, 26), (5, 4, 14, 26)]  # IoU 0.95 of the first two
        tokens = [VOCABULARY.bin_start + side for box in boxes for side in box]
        task = build("people")
        state = task.grammar().start()
        for token in tokens:
            state = task.grammar().advance(state, token)
        chances = [-0.1 if place // 4 == sure else -0.2 for place in range(12)]
        reading = task.read(Hypothesis(tokens, [float(t) for t in tokens], chances, -1.0), (grid, grid))
        assert [one.box for one in reading.people] == [pytest.approx(boxes[place]) for place in kept]
        assert [one.stretches["box"][0] for one in reading.people] == [4 * place for place in kept]


def test_words_that_fit_nobody_are_answered_by_nothing():
    nobody = Annotation((50, 80), people=())
    for name in ("rec", "rkpt", "res", "s1"):
        task = build(name, nobody=True)
        assert task.about == "one or nobody"
        assert task.target(nobody) == Target([BOS], [EOS], [])
        with pytest.raises(ValueError, match="needs a box"):
            build(name).target(nobody)
    assert build("grec").target(nobody) == build("people").target(nobody) == Target([BOS], [EOS], [])
    for name in ("rhrc", "roi", "grec"):
        assert not build(name, nobody=True).nobody


def test_a_map_lies_over_the_region_that_was_asked_about():
    person = Annotation((50, 80), (10, 10, 40, 75))
    region = Question((50, 80), text="her", region=(5, 5, 45, 80))
    task = build("roi")
    assert task.answered(region, person).box == region.region
    assert task.answered(Question((50, 80), points=(((20, 30),),)), person).box == person.box
    assert build("res").answered(region, person).box == person.box



def test_expectations_that_cross_do_not_turn_a_box_around():
    first = VOCABULARY.bin_start
    tokens = [first + b for b in (10, 20, 11, 30)]
    values = [first + 12.5, first + 20.25, first + 8.5, first + 30.0]
    x1, y1, x2, y2 = tasks.build("rec", VOCABULARY).read(Hypothesis(tokens, values, [-0.1] * 4, -1.0), (49, 49)).box
    assert (x1, y1, x2, y2) == pytest.approx((10, 20, 11, 30))


def test_a_block_that_sees_its_end_comes_last():
    block = BlockRule(Block(0, (1, 2), 3, ((4, 9),), end_seen=True))
    with pytest.raises(ValueError, match="come last"):
        Grammar([block, RepeatRule(((4, 9),), 1, 1)])
    assert Grammar([RepeatRule(((4, 9),), 1, 1), block]).longest == 7


@pytest.mark.parametrize("name", tasks.names())
def test_illegal_tokens_are_refused(name):
    grammar = build(name).grammar()
    with pytest.raises(ValueError, match="not allowed"):
        grammar.advance(grammar.start(), VOCABULARY.mask)


def test_a_box_has_an_inside():
    rule = BoxRule((10, 20))
    state = rule.start()
    for token in (18, 12):
        state = rule.advance(state, token)
    assert rule.legal(state) == ((19, 20),)
    assert rule.legal(rule.advance(state, 19)) == ((13, 20),)


def test_keypoint_names_cannot_come_twice_or_out_of_order():
    rule = KeypointsRule(((5,), (6, 7), (6, 8)), (100, 200))
    state = rule.start()
    for token in (6, 7, 150, 160):
        state = rule.advance(state, token)
    assert rule.legal(state) == ((6, 7),) and rule.may_end(state)
    state = rule.advance(state, 6)
    assert rule.legal(state) == ((8, 9),) and not rule.may_end(state)


def test_ambiguous_keypoint_names_are_refused():
    with pytest.raises(ValueError, match="distinct"):
        KeypointsRule(((5,), (5, 7)), (100, 200))


def test_unknown_task_names_the_known_ones():
    with pytest.raises(ValueError, match=r"rec.*rkpt"):
        tasks.build("nonsense", VOCABULARY)


def test_repeat_rule_has_its_bounds():
    rule = RepeatRule(((4, 9),), 2, 3)
    state = rule.advance(rule.advance(rule.start(), 4), 5)
    assert rule.may_end(state) and not rule.may_end(1)
    assert rule.legal(rule.advance(state, 4)) == ()
