"""Attention maps: the weights are those that the answer was made with, each at its own token and its own cell."""

import dataclasses

import pytest
import torch

from refhcm.data.annotation import KEYPOINT_NAMES, Question
from refhcm.data.samples import pad_right
from refhcm.data.vocabulary import BOS, EOS, PAD
from refhcm.errors import RefHCMError
from refhcm.models.attention import Attention, split_heads
from refhcm.models.attention_maps import attention_maps, recorded, replay
from refhcm.models.decoding import generate
from refhcm.models.grammar import BlockRule, BoxRule, Grammar
from refhcm.models.refhcm import RefHCM
from refhcm.tasks import build
from refhcm.tasks.rpar import RParFullMask

GRID = (4, 3)
WORDS = ("the man", "the woman in the red coat on the left", "the tall person")


@pytest.fixture(scope="module", params=[0, 6], ids=["plain", "located"])
def model(request, tiny_model):
    """Two decoder layers, random weights large enough to tell cells apart."""
    torch.manual_seed(7)
    model = RefHCM(dataclasses.replace(tiny_model.config, decoder_layers=2, block_columns=request.param)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


@torch.inference_mode()
def remember(model, task, words=WORDS):
    """The encoded questions `words`, each about a picture of its own, of 4 x 3 cells."""
    pixels = torch.randn(len(WORDS), 3, 64, 48, generator=torch.Generator().manual_seed(1))
    rows = [WORDS.index(text) for text in words]
    sources = [torch.tensor([BOS, *task.instruction(Question((48, 64), text)), EOS]) for text in words]
    return model.encode(pad_right(sources, PAD), model.image_features(pixels[rows]))


def tasks(vocabulary):
    """Box, codes one by one, a block in the middle, a block at the end, one that sees its end mark, and words."""
    named = [build(name, vocabulary) for name in ("rkpt", "rpar", "s1", "rpar_full_mask", "rhrc")]
    return [*named, RParFullMask(vocabulary, end_seen=True)]


def close(first, second):
    return torch.allclose(first, second, atol=1e-5)


def test_weights_times_values_are_what_the_layer_gives():
    torch.manual_seed(2)
    layer = Attention(32, 4, 2.0).eval()
    layer.c_attn.data.uniform_(0.5, 2)
    x, source, bias = torch.randn(3, 5, 32), layer.keys_values(torch.randn(3, 7, 32)), torch.randn(3, 4, 5, 7)
    bias[1, :, :, 4:] = -torch.inf
    for given in (bias, None):
        weights = layer.weights(x, source, given)
        assert weights.shape == (3, 4, 5, 7) and close(weights.sum(-1), torch.ones(3, 4, 5))
        heads = weights @ source.values * layer.c_attn[:, None, None]
        assert close(layer.out_proj(heads.transpose(1, 2).flatten(2)), layer(x, source, given))
    assert not layer.weights(x, source, bias)[1, :, :, 4:].any()
    assert split_heads(x, 4).shape == (3, 4, 5, 8)


def test_maps_are_those_of_the_decoding_itself(model, tiny_vocabulary):
    """Each token's map is what the cross-attentions did, step by step, where the token was decided on."""
    attentions = [layer.encoder_attn for layer in model.decoder.layers]
    for task in tasks(tiny_vocabulary):
        memory, fed, seen = remember(model, task, WORDS[:1]), [], {attention: [] for attention in attentions}
        hooks = [a.register_forward_hook(lambda a, given, _: seen[a].append(a.weights(*given))) for a in attentions]  # noqa: B023
        extend = model.decoder.extend
        model.decoder.extend = lambda tokens, *more, **named: fed.append(tokens) or extend(tokens, *more, **named)  # noqa: B023
        try:
            tokens = generate(model, memory, task.grammar())[0][0].tokens
        finally:
            del model.decoder.extend
            for hook in hooks:
                hook.remove()
        steps = torch.stack([torch.cat(seen[a], 2).mean(1)[0] for a in attentions]).mean(0)
        replayed = replay(task.grammar(), tokens)
        stepped = torch.cat(fed, 1)[0].tolist()
        assert replayed.inputs[: len(stepped)] == stepped and len(replayed.positions) == len(tokens)
        (maps,) = attention_maps(model, memory, task.grammar(), [tokens])
        assert maps.shape == (len(tokens), *GRID)
        assert close(maps.flatten(1), steps[replayed.positions][:, : GRID[0] * GRID[1]])


def test_a_token_belongs_to_the_place_that_decided_on_it(tiny_vocabulary):
    task, v = build("s1", tiny_vocabulary), tiny_vocabulary
    nose = task.segments[2].names[0]
    box, codes = [v.bin(k) for k in (1, 2, 30, 40)], [v.code(k % 16) for k in range(48)]
    fed = replay(task.grammar(), [*box, v.parts_begin, *codes, *nose, v.bin(5), v.bin(6)])
    assert fed.inputs == [BOS, *box, v.parts_begin, *v.parts_queries(48), v.parts_end, *nose, v.bin(5), v.bin(6)]
    assert fed.blocks == [(6, 53)]
    assert fed.positions == [*range(5), *range(6, 54), *range(54, 56 + len(nose))]
    with pytest.raises(ValueError, match="not allowed"):
        replay(task.grammar(), [v.code(3)])
    assert replay(task.grammar(), []) == ([BOS], [], [])


def test_blocks_that_follow_each_other_are_told_apart(tiny_vocabulary):
    v = tiny_vocabulary
    block = build("s1", v).segments[1].rule()
    grammar = Grammar([BoxRule(v.bin_span), block, BlockRule(dataclasses.replace(block.block, end_seen=True))])
    codes = [v.code(0)] * 48
    fed = replay(grammar, [*[v.bin(k) for k in (1, 2, 3, 4)], v.parts_begin, *codes, v.parts_begin, *codes])
    assert fed.blocks == [(6, 53), (56, 104)]
    assert fed.positions == [*range(5), *range(6, 55), *range(56, 104)]
    assert [fed.inputs[k] for k in (5, 54, 55, 104)] == [v.parts_begin, v.parts_end, v.parts_begin, v.parts_end]


def test_a_batch_equals_its_rows(model, tiny_vocabulary):
    for task in tasks(tiny_vocabulary):
        together = remember(model, task)
        assert together.padding.any()
        answers = [best[0].tokens for best in generate(model, together, task.grammar(), beam=2)]
        if task.name in ("rkpt", "rhrc"):
            answers[1] = answers[1][: len(answers[1]) // 2]  # answers of different lengths share a batch
        maps = attention_maps(model, together, task.grammar(), answers)
        for words, answer, found in zip(WORDS, answers, maps, strict=True):
            (alone,) = attention_maps(model, remember(model, task, (words,)), task.grammar(), [answer])
            assert alone.shape == found.shape and close(alone, found)


def test_a_row_without_a_block_beside_one_with_a_block(model, tiny_vocabulary):
    task = build("s1", tiny_vocabulary)
    memory = remember(model, task)
    answers = [best[0].tokens for best in generate(model, memory, task.grammar())]
    answers[0] = answers[0][:3]
    maps = attention_maps(model, memory, task.grammar(), answers)
    (alone,) = attention_maps(model, remember(model, task, WORDS[:1]), task.grammar(), answers[:1])
    assert close(maps[0], alone) and len(maps[1]) == len(answers[1])


def test_a_map_is_laid_out_as_the_picture_and_holds_the_share_of_the_picture(model, tiny_vocabulary):
    task = build("rkpt", tiny_vocabulary)
    memory = remember(model, task, WORDS[:1])
    tokens = generate(model, memory, task.grammar())[0][0].tokens
    cells, length = GRID[0] * GRID[1], memory.states.shape[1]
    (maps,) = attention_maps(model, memory, task.grammar(), [tokens])
    with recorded([layer.encoder_attn for layer in model.decoder.layers], length) as total, torch.inference_mode():
        model.decoder(torch.tensor([[BOS, *tokens]]), memory)
    every = total[0][0, :-1] / 2
    assert close(every.sum(-1), torch.ones(len(tokens)))
    assert close(maps.sum((1, 2)), 1 - every[:, cells:].sum(-1)) and (maps.sum((1, 2)) < 1).all()

    only = dataclasses.replace(memory, padding=memory.padding.clone(), cross=None)
    only.padding[:, :cells] = True
    only.padding[:, 2 * GRID[1] + 1] = False  # row 2, column 1
    (maps,) = attention_maps(model, only, task.grammar(), [tokens])
    assert (maps[:, 2, 1] > 0).all() and close(maps.sum((1, 2)), maps[:, 2, 1])


def test_layers_are_averaged_and_can_be_chosen(model, tiny_vocabulary):
    task = build("rec", tiny_vocabulary)
    memory = remember(model, task)
    answers = [best[0].tokens for best in generate(model, memory, task.grammar())]
    both, first, second = (attention_maps(model, memory, task.grammar(), answers, k)[0] for k in (None, (0,), (1,)))
    assert not close(first, second) and close(both, (first + second) / 2)
    for layers in ((2,), (-1,), ()):
        with pytest.raises(RefHCMError, match="layers 0 to 1"):
            attention_maps(model, memory, task.grammar(), answers, layers)


def test_looking_leaves_nothing_behind(model, tiny_vocabulary):
    task = build("rkpt", tiny_vocabulary)
    memory = remember(model, task)
    before = generate(model, memory, task.grammar())
    attention_maps(model, memory, task.grammar(), [best[0].tokens for best in before])
    assert [best[0].logprobs for best in generate(model, memory, task.grammar())] == [b[0].logprobs for b in before]
    with pytest.raises(ZeroDivisionError), recorded([model.decoder.layers[0].encoder_attn], 3):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in model.modules())


def test_without_a_picture_there_is_nothing_to_show(model, tiny_vocabulary):
    memory = model.encode(torch.tensor([[BOS, 5, EOS]]))
    with pytest.raises(RefHCMError, match="no picture"):
        attention_maps(model, memory, build("rec", tiny_vocabulary).grammar(), [[]])


def test_every_stretch_of_an_answer_is_found_again(model, tiny_vocabulary):
    """What `Reading.stretches` names is what the reading read there."""
    v = tiny_vocabulary
    for task in tasks(v):
        hypothesis = generate(model, remember(model, task, WORDS[:1]), task.grammar())[0][0]
        hypothesis.values = [float(token) for token in hypothesis.tokens]  # bins, not expectations around them
        reading = task.read(hypothesis, (1, 1))
        said = {name: reading.tokens[slice(*place)] for name, place in reading.stretches.items()}
        if reading.box is not None:
            assert v.dequantize(said["box"]).tolist() == pytest.approx(reading.box)
        if reading.keypoints is not None:
            present = {name for name, point in zip(KEYPOINT_NAMES, reading.keypoints, strict=True) if point[2] > 0}
            assert present and present == set(said) & set(KEYPOINT_NAMES)
            for name in present:
                place = reading.keypoints[KEYPOINT_NAMES.index(name), :2]
                assert v.dequantize(said[name]).tolist() == pytest.approx(place.tolist(), abs=1e-6)
        if reading.codes is not None:
            assert tuple(token - v.code_start for token in said["parsing"]) == reading.codes
        if reading.caption is not None:
            assert v.decode_text(said["caption"]).strip() == reading.caption
