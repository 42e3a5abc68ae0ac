"""Queries that know where they look: sampling follows the box, and decoding agrees with teacher forcing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_models_network import SIZES, build, close, encode

from refhcm.models.located import LocatedQueries, sampling_weights

FIRST_BIN = SIZES["vocab_size"] - SIZES["num_bins"]
BOX = [FIRST_BIN + 2, FIRST_BIN + 3, FIRST_BIN + 12, FIRST_BIN + 17]
MARK, QUERIES = 5, list(range(6, 14))
ANSWER = [0, *BOX, MARK, *QUERIES, 14, 15]
BLOCK = (6, 13)


@pytest.fixture(scope="module")
def model():
    return build(block_columns=2)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(3)
    return {
        "src_tokens": torch.randint(4, 50, (2, 5), generator=generator),
        "patch_images": torch.randn(2, 3, 64, 48, generator=generator),
        "patch_masks": None,
    }


@given(
    low=st.floats(0, 0.9), span=st.floats(0.01, 1), count=st.integers(1, 9), cells=st.integers(1, 12),
)  # fmt: skip
def test_weights_sum_to_one_and_find_the_place(low, span, count, cells):
    high = min(low + span, 1.0)
    weights = sampling_weights(torch.tensor([low]), torch.tensor([high]), count, cells)[0]
    assert weights.shape == (count, cells)
    assert torch.allclose(weights.sum(1), torch.ones(count), atol=1e-5)
    centres = (torch.arange(cells) + 0.5) / cells
    wanted = low + (high - low) * (torch.arange(count) + 0.5) / count
    inside = (low >= centres[0]) & (high <= centres[-1])  # beyond the outer centres the outer cell counts
    if bool(inside):
        assert torch.allclose(weights @ centres, wanted, atol=1e-4)


def test_a_query_reads_the_cell_under_it():
    located = LocatedQueries(1, columns=2, bins=(100, 105))
    with torch.no_grad():
        located.proj.weight.copy_(torch.tensor([[1.0, 0.0]]))
    cells = torch.arange(16.0).view(1, 4, 4, 1).repeat(1, 1, 1, 2)
    whole = located.at(torch.tensor([[100, 100, 104, 104]]), cells, 4)[0, :, 0]
    assert torch.allclose(whole, torch.tensor([2.5, 4.5, 10.5, 12.5]))  # the mean of each quarter
    corner = located.at(torch.tensor([[102, 102, 104, 104]]), cells, 5)[0, :, 0]
    assert torch.allclose(corner, torch.tensor([10.0, 11.0, 14.0, 15.0, 0.0]), atol=0.7)
    assert corner[4] == 0  # no full row


def test_block_by_block_equals_teacher_forcing(model, batch):
    memory = encode(model, batch)
    tokens = torch.tensor([ANSWER, ANSWER])
    tokens[1, 1:5] = torch.tensor([FIRST_BIN, FIRST_BIN + 9, FIRST_BIN + 19, FIRST_BIN + 19])
    first, last = BLOCK
    with torch.no_grad():
        whole = model.decoder(tokens, memory, torch.tensor([[BLOCK], [BLOCK]]))
        plain = model.decoder(tokens, memory)
        cache = model.decoder.start(memory, max_length=20)
        pieces = [
            model.decoder.extend(tokens[:, :first], cache),
            model.decoder.extend(tokens[:, first : last + 1], cache, mutual=last + 1 - first),
            model.decoder.extend(tokens[:, last + 1 :], cache),
        ]
    assert close(torch.cat(pieces, 1), whole)
    assert not close(whole[:, first], plain[:, first])


def test_rows_that_fork_keep_their_own_box(model, batch):
    memory = encode(model, batch)
    with torch.no_grad():
        cache = model.decoder.start(memory, beam=2, max_length=20)
        boxes = torch.tensor([[0, *BOX, MARK]] * 4)
        boxes[1::2, 1] += 5
        model.decoder.extend(boxes, cache)
        cache.reorder(torch.tensor([1, 0, 3, 2]))
        branch = cache.fork(torch.tensor([0, 3]))
        queries = torch.tensor([QUERIES, QUERIES])
        out = model.decoder.extend(queries, branch, mutual=queries.shape[1])
        for row, source in ((0, 1), (1, 2)):  # row 0 continues what row 1 had, row 3 what row 2 had
            tokens = torch.cat([boxes[source], queries[0]])[None]
            alone = model.decoder(tokens, memory.select(torch.tensor([row])), torch.tensor([[BLOCK]]))
            assert close(out[row], alone[0, BLOCK[0] :])


def test_a_new_model_adds_nothing():
    from refhcm.models.config import ModelConfig
    from refhcm.models.refhcm import RefHCM

    model = RefHCM(ModelConfig.from_dict({**SIZES, "block_columns": 2}))
    assert not any(parameter.any() for parameter in model.decoder.located.parameters())
