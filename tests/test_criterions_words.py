"""The word aid wants a person's cells to be near the words that describe that person, and no other cells."""

import numpy as np
import pytest
import torch
from letters import Letters

from refhcm.criterions.details import part_shares
from refhcm.criterions.words import WordLoss, person_weights
from refhcm.data.annotation import Annotation, Question
from refhcm.data.vocabulary import Vocabulary

SIZE = (64, 32)


VOCABULARY = Vocabulary(Letters(), num_codes=96, num_bins=10, mark_start=40)


def test_cells_count_by_the_part_map_or_else_by_the_box():
    parts = np.zeros((32, 64), np.uint8)
    parts[:16, 32:] = 5
    people = [
        Annotation(SIZE, (0.0, 0.0, 64.0, 32.0), parts=parts),
        Annotation(SIZE, (0.0, 0.0, 32.0, 16.0)),
        Annotation(SIZE),
    ]
    weights = person_weights(people, part_shares(people, 2, 2), 2, 2)
    assert weights.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_rare_words_are_wanted_and_those_of_everybody_are_not():
    loss = WordLoss(VOCABULARY)
    said = [("a", "b"), ("b", "c"), (None, "bx"), (None, "")]
    questions = [Question(SIZE, text, (0, 0, 9, 9)) for text, _ in said]
    wanted = loss.wanted(questions, [Annotation(SIZE, captions=(caption,) if caption else ()) for _, caption in said])
    ids = {letter: VOCABULARY.encode_text(letter)[0] - VOCABULARY.text_span[0] for letter in "abcx"}
    assert wanted.sum(1).tolist() == pytest.approx([1, 1, 1, 0])
    assert 0 < wanted[0, ids["b"]] < wanted[0, ids["a"]] and (wanted[1] > 0).sum() == 3  # b, c and the space
    everybody = loss.wanted(questions[:1], [Annotation(SIZE)])
    assert everybody.abs().sum() == 0


def test_cells_like_their_words_have_the_lowest_loss():
    loss = WordLoss(VOCABULARY)
    torch.manual_seed(0)
    embeddings = torch.randn(VOCABULARY.size, 32)
    x, y = VOCABULARY.encode_text("xy")
    people = [Annotation(SIZE, (32.0, 0.0, 64.0, 16.0)), Annotation(SIZE, (0.0, 16.0, 32.0, 32.0))]
    asked = [Question(SIZE, "x"), Question(SIZE, "y")]

    def score(cells):
        return loss(cells.expand(2, -1, -1), (2, 2), embeddings, asked, people, part_shares(people, 2, 2)).item()

    cells = torch.randn(1, 4, 32)
    elsewhere = score(cells)
    cells[0, 1], cells[0, 2] = embeddings[x], embeddings[y]
    there = score(cells)
    assert there < elsewhere
    cells[0, 0] = 9.0  # nobody's cell
    assert score(cells) == there
