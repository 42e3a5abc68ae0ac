"""Step by step equals all at once; a batch equals its rows; shared pictures and kept biases change
nothing.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.errors import RefHCMError
from refhcm.models.config import ModelConfig
from refhcm.models.positions import causal_mask
from refhcm.models.refhcm import RefHCM

PAD = 1
SIZES = {
    "d_model": 32,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "encoder_heads": 4,
    "decoder_heads": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "trunk": "resnet18",
    "trunk_blocks": (1, 1, 1),
    "vocab_size": 70,
    "num_bins": 20,
    "num_codes": 20,
    "image_size": 64,
    "token_bucket_size": 8,
    "image_bucket_size": 6,
    "max_source_positions": 64,
    "max_target_positions": 40,
    "decoder_image_tables": False,
    "dropout": 0.0,
}


def build(**changes):
    """A network whose every weight matters."""
    torch.manual_seed(1)
    model = RefHCM(ModelConfig.from_dict({**SIZES, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="module", params=[False, True], ids=["published", "entangled"])
def model(request):
    return build(entangle_encoder_positions=request.param, entangle_decoder_positions=request.param)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(4, 70, (3, 9), generator=generator)
    words[1, 6:] = PAD
    return {
        "src_tokens": words,
        "patch_images": torch.randn(3, 3, 64, 48, generator=generator),
        "patch_masks": torch.tensor([True, True, False]),
        "prev_output_tokens": torch.randint(4, 70, (3, 12), generator=generator),
    }


def encode(model, batch):
    with torch.no_grad():
        features = model.image_features(batch["patch_images"])
        return model.encode(batch["src_tokens"], features, batch["patch_masks"])


def close(first, second):
    return torch.allclose(first, second, atol=2e-5)


def whole(model, memory, tokens, blocks=None):
    with torch.no_grad():
        return model.decoder(tokens, memory, blocks)


# -- step by step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [[1] * 12, [5, 1, 1, 5], [12], [3, 4, 5]])
def test_fed_in_pieces_equals_fed_at_once(model, batch, steps):
    memory = encode(model, batch)
    cache = model.decoder.start(memory, max_length=12)
    pieces = [model.decoder.extend(tokens, cache) for tokens in batch["prev_output_tokens"].split(steps, 1)]
    assert cache.length == 12
    assert close(torch.cat(pieces, 1), whole(model, memory, batch["prev_output_tokens"]))


@pytest.mark.parametrize("max_length", [12, 13, 40, None])
def test_the_room_left_in_the_cache_changes_nothing(model, batch, max_length):
    memory = encode(model, batch)
    cache = model.decoder.start(memory, max_length=max_length)
    assert close(
        model.decoder.extend(batch["prev_output_tokens"], cache),
        whole(model, memory, batch["prev_output_tokens"]),
    )


def test_a_mutual_piece_equals_a_block(model, batch):
    memory, tokens = encode(model, batch), batch["prev_output_tokens"]
    blocks = torch.tensor([[[4, 9]]] * 3)
    cache = model.decoder.start(memory, max_length=20)
    pieces = [
        model.decoder.extend(tokens[:, :4], cache),
        model.decoder.extend(tokens[:, 4:10], cache, mutual=6),
    ]
    pieces += [model.decoder.extend(tokens[:, 10:11], cache), model.decoder.extend(tokens[:, 11:], cache)]
    assert close(torch.cat(pieces, 1), whole(model, memory, tokens, blocks))


def test_blocks_may_differ_from_row_to_row(model, batch):
    memory, tokens = encode(model, batch), batch["prev_output_tokens"]
    blocks = torch.tensor([[[4, 9], [-1, -1]], [[-1, -1], [-1, -1]], [[0, 2], [6, 11]]])
    mixed = whole(model, memory, tokens, blocks)
    for row in range(3):
        alone = whole(model, memory.select(torch.tensor([row])), tokens[row : row + 1], blocks[row : row + 1])
        assert close(mixed[row], alone[0])
    assert close(mixed[1], whole(model, memory, tokens)[1])
    assert not close(mixed[0], whole(model, memory, tokens)[0])


@pytest.mark.parametrize("beam", [1, 3])
def test_beams_that_swap_places_keep_their_past(model, batch, beam):
    memory = encode(model, batch)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 70, (3 * beam, 8), generator=generator)
    first = torch.arange(3).repeat_interleave(beam) * beam
    swap = first + torch.randint(beam, (3 * beam,), generator=generator)
    cache = model.decoder.start(memory, beam=beam, max_length=8)
    model.decoder.extend(tokens[:, :5], cache)
    cache.reorder(swap)
    out = model.decoder.extend(tokens[:, 5:], cache)
    told = torch.cat([tokens[swap, :5], tokens[:, 5:]], 1)
    sentences = torch.arange(3).repeat_interleave(beam)
    assert close(out, whole(model, memory.select(sentences), told)[:, 5:])


def test_finished_sentences_leave_the_rest_alone(model, batch):
    memory, beam = encode(model, batch), 2
    tokens = torch.randint(4, 70, (6, 8), generator=torch.Generator().manual_seed(4))
    cache = model.decoder.start(memory, beam=beam, max_length=8)
    model.decoder.extend(tokens[:, :5], cache)
    kept = torch.tensor([1, 0, 4, 5])  # sentence 0, its beams swapped, and sentence 2
    cache.select(kept)
    out = model.decoder.extend(tokens[kept, 5:], cache)
    assert close(out, whole(model, memory.select(kept // beam), tokens[kept])[:, 5:])


def test_torn_beams_and_full_caches_are_refused(model, batch):
    cache = model.decoder.start(encode(model, batch), beam=2, max_length=3)
    with pytest.raises(RefHCMError, match="whole sentences"):
        cache.select(torch.tensor([0, 2]))
    with pytest.raises(RefHCMError, match="do not fit"):
        model.decoder.extend(torch.zeros(6, 4, dtype=torch.long), cache)
    with pytest.raises(RefHCMError, match="do not fit"):
        model.decoder.extend(torch.zeros(3, 1, dtype=torch.long), cache)
    with pytest.raises(RefHCMError, match="positions"):
        model.decoder.start(encode(model, batch), max_length=41)


def test_two_answers_from_one_memory_do_not_meet(model, batch):
    memory, tokens = encode(model, batch), batch["prev_output_tokens"]
    first, second = model.decoder.start(memory, max_length=12), model.decoder.start(memory, max_length=12)
    model.decoder.extend(tokens.flip(1), first)
    assert close(model.decoder.extend(tokens, second), whole(model, memory, tokens))


# -- batches -------------------------------------------------------------------------------------------------
def test_a_batch_equals_its_rows(model, batch):
    with torch.no_grad():
        together, _ = model(**batch)
        for row, words in enumerate((9, 6, 9)):
            alone = {key: value[row : row + 1] for key, value in batch.items()}
            alone["src_tokens"] = alone["src_tokens"][:, :words]
            assert close(model(**alone)[0][0], together[row])


def test_a_row_without_a_picture_does_not_see_one(model, batch):
    other = {**batch, "patch_images": batch["patch_images"].clone()}
    other["patch_images"][2] = 9.0
    with torch.no_grad():
        assert torch.equal(model(**other)[0], model(**batch)[0])


def test_rows_that_share_a_picture_run_the_trunk_once(model, batch):
    index = torch.tensor([1, 0, 1])
    seen = []
    hook = model.encoder.embed_images.register_forward_hook(
        lambda _, inputs, output: seen.append(len(output))
    )
    with torch.no_grad():
        shared, _ = model(**{**batch, "patch_images": batch["patch_images"][:2]}, image_index=index)
        copied, _ = model(**{**batch, "patch_images": batch["patch_images"][index]})
    hook.remove()
    assert seen == [2, 3] and close(shared, copied)


def test_words_alone_are_an_instruction_too(model, batch):
    with torch.no_grad():
        memory = model.encode(batch["src_tokens"])
    assert memory.states.shape == (3, 9, 32)


def test_pictures_and_instructions_must_pair(model, batch):
    with pytest.raises(RefHCMError, match="2 pictures for 3 instructions"):
        model(**{**batch, "patch_images": batch["patch_images"][:2]})


def test_too_large_a_picture_or_too_long_a_text_is_refused(model, batch):
    with pytest.raises(RefHCMError, match="96 pixels"):
        model(**{**batch, "patch_images": torch.zeros(3, 3, 64, 128)})
    with pytest.raises(RefHCMError, match="shorten"):
        model(**{**batch, "src_tokens": torch.full((3, 65), 5)})
    with pytest.raises(RefHCMError, match="positions"):
        model(**{**batch, "prev_output_tokens": torch.full((3, 41), 5)})


# -- biases that are kept ------------------------------------------------------------------------------------
def test_kept_biases_equal_fresh_ones(model, batch):
    with torch.no_grad():
        kept = [model(**batch)[0] for _ in range(2)]
    fresh = model(**batch)[0]  # with gradients, nothing is kept
    assert torch.equal(kept[0], kept[1]) and close(kept[0], fresh.detach())


@pytest.mark.parametrize("way", ["in place", "behind autograd", "loaded", "half"])
def test_kept_biases_follow_the_weights(batch, way):
    model, other = build(), build()
    with torch.no_grad():
        model(**batch)  # fills the cache
        for changed in (model, other):
            weight = changed.encoder.image_rel_pos_table_list[0].weight
            if way == "in place":
                weight.add_(1)
            elif (
                way == "behind autograd"
            ):  # as an optimizer that works on `.data` does, between train() and eval()
                changed.train()
                weight.data.add_(torch.linspace(-1, 1, len(weight))[:, None])
                changed.eval()
            elif way == "loaded":
                state = {name: value + 0.01 for name, value in changed.state_dict().items()}
                changed.load_state_dict(state)
            else:
                changed.to(torch.float64)
        inputs = {**batch, "patch_images": batch["patch_images"].to(weight.dtype)}
        assert torch.equal(model(**inputs)[0], other(**inputs)[0])


# -- the rest ------------------------------------------------------------------------------------------------
def test_logits_of_some_tokens_are_a_part_of_all(model):
    features = torch.randn(2, 3, 32)
    everything = model.logits(features)
    assert everything.shape == (2, 3, 70)
    assert close(model.logits(features, ((50, 70),)), everything[..., 50:])
    assert close(model.logits(features, ((0, 4), (50, 60))), everything[..., [*range(4), *range(50, 60)]])


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(-1, 10), st.integers(-1, 10)), max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_mask_shows_the_past_and_the_own_block(length, spans):
    blocks = torch.tensor(spans, dtype=torch.long).reshape(1, -1, 2)
    mask = causal_mask(length, blocks, torch.device("cpu"))[0, 0]
    for query in range(length):
        for key in range(length):
            together = any(first <= query <= last and first <= key <= last for first, last in spans)
            assert mask[query, key] == (key <= query or together)


def test_frozen_norms_do_not_move_in_training(batch):
    for frozen in (False, True):
        model = build(freeze_trunk_norm=frozen).train()
        before = model.encoder.embed_images.bn1.running_mean.clone()
        model(**batch)[0].sum().backward()
        assert torch.equal(before, model.encoder.embed_images.bn1.running_mean) == frozen
        assert model.encoder.embed_images.bn1.weight.grad.abs().sum() > 0


def test_training_reaches_every_weight(batch):
    model = build(entangle_encoder_positions=True, entangle_decoder_positions=True, dropout=0.1,
                  encoder_drop_path=0.2, decoder_drop_path=0.2, trunk_drop_path=0.2).train()  # fmt: skip
    model(**batch)[0].square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_drop_path_rises_to_its_rate_and_rests_in_evaluation(batch):
    model = build(encoder_drop_path=0.4, decoder_layers=3, decoder_drop_path=0.2)
    assert [layer.drop_path.rate for layer in model.encoder.layers] == [0.0, 0.4]
    assert [layer.drop_path.rate for layer in model.decoder.layers] == [0.0, 0.1, 0.2]
    with torch.no_grad():
        assert torch.equal(model(**batch)[0], model(**batch)[0])


def test_a_new_network_starts_small_and_tied():
    model = RefHCM(ModelConfig.from_dict(SIZES))
    tokens = model.encoder.embed_tokens.weight
    assert model.decoder.output_projection.weight is tokens
    assert tokens[PAD].eq(0).all() and 0.015 < tokens[PAD + 1 :].std() < 0.025
    assert model.encoder.pos_q_linear.bias.eq(0).all()
    assert model.encoder.layers[0].self_attn.c_attn.eq(1).all()
