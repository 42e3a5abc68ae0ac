"""The word aid wants a person's cells to be near the words that describe that person, and no other cells."""

import numpy as np
import pytest
import torch

from refhcm.criterions.words import WordLoss, person_weights
from refhcm.data.annotation import Annotation, Question
from refhcm.data.vocabulary import Vocabulary

SIZE = (64, 32)


class Letters:
    """One text piece per byte."""

    size = 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


VOCABULARY = Vocabulary(Letters(), num_codes=96, num_bins=10, mark_start=40)


def test_cells_count_by_the_part_map_or_else_by_the_box():
    parts = np.zeros((32, 64), np.uint8)
    parts[:16, 32:] = 5
    people = [
        Annotation(SIZE, (0.0, 0.0, 64.0, 32.0), parts=parts),
        Annotation(SIZE, (0.0, 0.0, 32.0, 16.0)),
        Annotation(SIZE),
    ]
    assert person_weights(people, 2, 2).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_the_words_of_expression_and_caption_are_wanted_in_equal_shares():
    loss = WordLoss(VOCABULARY)
    wanted = loss.wanted([Question(SIZE, "aab"), Question(SIZE, None, (0, 0, 9, 9))],
                         [Annotation(SIZE, captions=("bc",)), Annotation(SIZE)])  # fmt: skip
    assert wanted[0].sum().item() == pytest.approx(1) and wanted[1].sum().item() == 0
    assert (wanted[0] > 0).sum().item() == len({*" aabbc"})


def test_cells_like_their_words_have_the_lowest_loss():
    loss = WordLoss(VOCABULARY)
    torch.manual_seed(0)
    embeddings = torch.randn(VOCABULARY.size, 32)
    (piece,) = VOCABULARY.encode_text("x")
    person = Annotation(SIZE, (32.0, 0.0, 64.0, 16.0), captions=("xxxx",))
    cells = torch.randn(1, 4, 32)
    elsewhere = loss(cells, (2, 2), embeddings, [Question(SIZE, "x")], [person])
    cells[0, 1] = embeddings[piece]
    there = loss(cells, (2, 2), embeddings, [Question(SIZE, "x")], [person])
    assert there < elsewhere
    cells[0, 0] = -embeddings[piece]  # the cell of somebody else
    assert loss(cells, (2, 2), embeddings, [Question(SIZE, "x")], [person]) == there
