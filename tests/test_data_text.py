"""Token ids equal the published ones, small vocabularies lose nothing, clean-up follows published rules."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.data import fetch
from refhcm.data.annotation import KEYPOINT_NAMES
from refhcm.data.text import (
    PUBLISHED_FILES,
    PublishedBpe,
    PublishedFile,
    SentencePieceText,
    clean_caption,
    normalise_reference,
    scoring_captions,
    train_sentencepiece,
    training_captions,
)
from refhcm.data.vocabulary import Vocabulary
from refhcm.errors import RefHCMError
from refhcm.tests.golden_data import golden_json
from refhcm.tests.published_vocabulary import published_folder, published_vocabulary

CORPUS = [
    "the woman in the red coat on the left",
    "which region does the text describe? Provide the bounding box and keypoints.",
    "The person is a man with short hair, wearing a blue shirt with rolled-up sleeves.",
    "second guy from right, not the one who's sitting",
]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    words = " ".join(CORPUS).split()
    texts = [" ".join(random.Random(i).choices(words, k=8)) for i in range(200)]
    return train_sentencepiece(CORPUS + texts, tmp_path_factory.mktemp("text") / "text.model", 400)


# -- published BPE --------------------------------------------------------------------------------------
def test_ids_of_all_published_strings():
    vocabulary = published_vocabulary()
    for case in golden_json("tokenize/tokenize")["strings"]:
        assert vocabulary.encode_text(case["text"]) == case["ids"], case["text"]
        assert vocabulary.decode_text(case["ids"]) == case["decoded"], case["text"]


def test_names_of_published_tokens():
    vocabulary = published_vocabulary()
    special = golden_json("tokenize/tokenize")["special"]
    assert vocabulary.size == special["size"]
    assert (vocabulary.mask, vocabulary.code(0), vocabulary.bin(0)) == tuple(
        special[name] for name in ("mask", "code_0", "bin_0")
    )
    for case in golden_json("tokenize/tokenize")["lines_without_bpe"]:
        for name, token in zip(case["line"].split(), case["ids"], strict=True):
            if name.startswith("<") and token != special["unk"]:
                assert vocabulary.name(token) == name
    assert vocabulary.bin(1000) == vocabulary.bin(-1) == special["unk"]


def test_fillers_of_the_dictionary_spell_nothing():
    vocabulary = published_vocabulary()
    case = next(c for c in golden_json("tokenize/tokenize")["lines_without_bpe"] if "madeup" in c["line"])
    assert vocabulary.decode_text(case["ids"]) == ""


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_published_bpe_is_lossless(text):
    bpe = published_vocabulary().text
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert all(0 <= i < bpe.size for i in ids)


def test_missing_dictionary_is_one_sentence_with_the_cure(tmp_path):
    with pytest.raises(
        RefHCMError, match=r"dict\.txt is missing.*fairseq/gpt2_bpe/dict\.txt.*refhcm\.data\.fetch"
    ):
        PublishedBpe(tmp_path)


def test_changed_dictionary_is_refused(tmp_path):
    content = bytearray((published_folder() / "dict.txt").read_bytes())
    content[5] ^= 1
    (tmp_path / "dict.txt").write_bytes(content)
    with pytest.raises(RefHCMError, match="not the published"):
        PublishedBpe(tmp_path)


# -- fetching (no network) ------------------------------------------------------------------------------
def test_fetch_writes_only_what_is_missing_and_checked(tmp_path, monkeypatch):
    import hashlib

    content = b"pieces"
    good = PublishedFile("a.txt", "https://host/a.txt", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(fetch, "PUBLISHED_FILES", (good,))
    with pytest.raises(RefHCMError, match="not the published"):
        fetch.fetch(tmp_path, lambda file: b"pirate")
    assert list(tmp_path.iterdir()) == []
    assert fetch.fetch(tmp_path, lambda file: content) == [tmp_path / "a.txt"]
    assert fetch.fetch(tmp_path, lambda file: pytest.fail("it is already there")) == []


def test_fetch_command_says_what_failed(tmp_path, monkeypatch, capsys):
    def unreachable(file):
        raise RefHCMError(f"{file.url} cannot be reached")

    monkeypatch.setattr(fetch.fetch, "__defaults__", (unreachable,))
    assert fetch.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip() == f"{PUBLISHED_FILES[0].url} cannot be reached"


# -- SentencePiece --------------------------------------------------------------------------------------
def test_each_keypoint_name_is_one_piece(pieces):
    for name in KEYPOINT_NAMES:
        assert len(pieces.encode(f" {name}")) == 1
        assert pieces.decode(pieces.encode(f" {name}")) == f" {name}"


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_pieces_spell_the_normalised_text(pieces, text):
    ids = pieces.encode(text)
    assert all(0 <= i < pieces.size for i in ids)
    assert pieces.decode(ids) == pieces.normalise(text)


@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCXYZ 0123456789.,!?'\"-:;()"), max_size=60))
@settings(max_examples=200, deadline=None)
def test_plain_english_survives_unchanged(pieces, text):
    assert pieces.decode(pieces.encode(text)) == text


def test_concatenated_words_spell_the_sentence(pieces):
    words = [" what", " does", " the", " region", " describe?"]
    ids = [i for word in words for i in pieces.encode(word)]
    assert pieces.decode(ids) == " what does the region describe?"


def test_sentencepiece_fits_a_vocabulary(pieces):
    vocabulary = Vocabulary(pieces, num_codes=64, num_bins=32, mark_start=40)
    text = " a man in red"
    assert vocabulary.decode_text(vocabulary.encode_text(text)) == text


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(RefHCMError, match="missing"):
        SentencePieceText(tmp_path / "text.model")
    (tmp_path / "text.model").write_bytes(b"not a model")
    with pytest.raises(RefHCMError, match="not a SentencePiece model"):
        SentencePieceText(tmp_path / "text.model")
    with pytest.raises(RefHCMError, match="too small"):
        train_sentencepiece(CORPUS, tmp_path / "small.model", 100)


# -- clean-up -------------------------------------------------------------------------------------------
def test_references_are_cleaned_as_published():
    for case in golden_json("tokenize/tokenize")["pre_caption"]:
        assert normalise_reference(case["text"], case["max_words"]) == case["pre_caption"], case


@given(st.text(max_size=60), st.integers(1, 20))
def test_cleaning_twice_changes_nothing_for_words(text, limit):
    once = normalise_reference(text, limit)
    assert len(once.split(" ")) <= limit
    assert once == once.lower() or "ẞ" in text


def test_captions_lose_number_lists_and_keep_their_words():
    assert clean_caption("The man [1] wears blue [12, 3.5] .") == "The man wears blue ."
    assert clean_caption("one two three", max_words=2) == "one two"
    assert clean_caption("a [sic] note") == "a [sic] note"
    assert training_captions("A girl, smiling&& a kid [1,2]") == ("A girl, smiling", "a kid")
    assert scoring_captions("It's  a test!&&snow-boarder") == ("Its a test", "snowboarder")
