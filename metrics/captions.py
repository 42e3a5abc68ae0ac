"""Captions: CIDEr-D and CIDEr (Vedantam et al. 2015, arXiv 1411.5726) as coco-caption computes them.

Scores need one tokenisation for hypotheses, references and document frequencies alike; `tokenize` is ours. BLEU,
ROUGE-L, METEOR, SPICE and the Java tokeniser are in `metrics.caption_tools`.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RefHCMError
from .caption_tools import bleu_and_rouge as bleu_and_rouge
from .caption_tools import import_scorers, java_metrics, meteor, ptb_tokenize, spice

NGRAMS = 4
SIGMA = 6.0  # of the length penalty
SCALE = 10.0
PUBLISHED_RARE = 5
"""Words that occur so often or less are `UNK` in RefHCM's table of document frequencies."""

Ngram = tuple[str, ...]

_NEGATION = re.compile(r"(?<=\w)n't\b")
_CLITIC = re.compile(r"(?<=\w)('(?:s|re|ve|ll|d|m))\b")
_AND = re.compile(r"(?<=[^\W\d])('n')(?=[^\W\d])")
_SPLIT = re.compile(r"\b(?:(can)(not)|(gon|wan)(na)|(got)(ta)|(lem|gim)(me))\b")
_ABBREVIATED = "mr|mrs|ms|dr|st|jr|sr|vs|etc|ave|mt"
_TOKEN = re.compile(
    r"(?:[^\W\d_]\.){2,}"  # u.s., a.m.
    rf"|\b(?:{_ABBREVIATED})\.(?=\s|$)"
    r"|\bnos?\.(?=\s*\d)"  # no. 7
    r"|(?<!\w)'n'(?!\w)|(?<!\w)'(?:n|em|til|cause|\d\ds?(?!\w?'))\b"  # rock 'n' roll, the '90s
    r"|n't|'(?:s|re|ve|ll|d|m)\b|(?<!\w)[#@][^\W\d_]\w*"
    r"|\w+(?:(?:[-/]|(?<=[^\W\d])'(?=[^\W\d])|(?<=\d)[.,:](?=\d))\w+)*|[^\w\s]"
)
_DROPPED = frozenset("'`\".?!,:;-()[]{}…–—“”‘’")
_BRACKETS = dict(zip("()[]{}", ("-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"), strict=True))


def tokenize(text: str, brackets: bool = False) -> str:
    """Lower-cased words separated by single spaces, close to the Java tokeniser that coco-caption runs.

    Contractions are split (`the man's` -> `the man 's`, `doesn't` -> `does n't`), words with hyphens or
    slashes and abbreviations with full stops (`a.m.`) stay whole, punctuation and brackets are dropped, other signs
    stand alone (`$5` -> `$ 5`). With `brackets` those survive as `-lrb-` and so on, which coco-caption means to drop
    and does not, because it looks for them in capitals.
    """
    text = text.lower().replace("’", "'")
    text = _CLITIC.sub(r" \1", _NEGATION.sub(" n't", _AND.sub(r" \1 ", text)))
    text = _SPLIT.sub(lambda match: " ".join(part for part in match.groups() if part), text)
    tokens = _TOKEN.findall(text)
    if brackets:
        tokens = [_BRACKETS.get(token, token) for token in tokens]
    return " ".join(token for token in tokens if token not in _DROPPED)


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many of `documents` samples each n-gram occurs among the references."""

    counts: Mapping[Ngram, float]
    documents: float

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> DocumentFrequencies:
        """Count over the reference sets themselves, one sequence of tokenised texts per sample."""
        counts: Counter[Ngram] = Counter()
        documents = 0
        for texts in references:
            documents += 1
            counts.update({ngram for text in texts for ngram in _ngrams(text)})
        return cls(counts, documents)

    @classmethod
    def of_cache(cls, content: Mapping[str, Any]) -> DocumentFrequencies:
        """What CIDEr's cache files hold: `document_frequency` (n-gram -> count) and `ref_len`.

        Some caches store the logarithm of `ref_len`: it is one where it is smaller than a count. ValueError for
        anything else. Reading the file is left to the caller, because such files are pickles.
        """
        try:
            counts = {tuple(ngram): float(count) for ngram, count in content["document_frequency"].items()}
            documents = float(content["ref_len"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError("a table of document frequencies holds `document_frequency` and `ref_len`") from error
        return cls(counts, math.exp(documents) if documents < max(counts.values(), default=0.0) else documents)

    def weight(self, ngram: Ngram) -> float:
        """ln(documents / max(1, count)): 0 for what every sample says."""
        return math.log(max(1.0, self.documents)) - math.log(max(1.0, self.counts.get(ngram, 0.0)))


def cider_d(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
) -> list[float]:
    """CIDEr-D of each sample, 0..10; the score of a set is their mean.

    Args:
        hypotheses: One tokenised text per sample.
        references: One or more tokenised texts per sample.
        frequencies: A fixed table; None counts them over `references` (a set of one sample then scores 0).
    """
    return [score for score, _ in _both(hypotheses, references, frequencies)]


def cider(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
) -> list[float]:
    """Plain CIDEr of each sample, 0..10: as `cider_d` without clipped counts and length penalty.

    The paper also reduces words to their stems; as in the public code, that is not done.
    """
    return [score for _, score in _both(hypotheses, references, frequencies)]


def _both(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], frequencies: DocumentFrequencies | None
) -> list[tuple[float, float]]:
    """CIDEr-D and CIDEr of each sample."""
    table = DocumentFrequencies.of(references) if frequencies is None else frequencies
    scores = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        if not texts:
            raise ValueError("a caption without references cannot be scored; leave the sample out")
        answer = _Weighted(hypothesis, table)
        pairs = [answer.similarity(_Weighted(text, table)) for text in texts]
        clipped, plain = (SCALE * sum(values) / len(texts) for values in zip(*pairs, strict=True))
        scores.append((clipped, plain))
    return scores


class _Weighted:
    """The tf-idf vector of a text, one per n-gram length."""

    def __init__(self, text: str, frequencies: DocumentFrequencies) -> None:
        self.vectors: list[dict[Ngram, float]] = [{} for _ in range(NGRAMS)]
        self.length = 0  # counted in bigrams, as upstream does
        for ngram, count in _ngrams(text).items():
            self.vectors[len(ngram) - 1][ngram] = count * frequencies.weight(ngram)
            self.length += count if len(ngram) == 2 else 0
        self.norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in self.vectors]

    def similarity(self, reference: _Weighted) -> tuple[float, float]:
        """Means over the n-gram lengths: of the clipped cosine times the length penalty, and of the plain cosine."""
        clipped = plain = 0.0
        for mine, theirs, a, b in zip(self.vectors, reference.vectors, self.norms, reference.norms, strict=True):
            if a > 0 and b > 0:
                shared = [(value, theirs.get(ngram, 0.0)) for ngram, value in mine.items()]
                clipped += sum(min(value, other) * other for value, other in shared) / (a * b)
                plain += sum(value * other for value, other in shared) / (a * b)
        penalty = math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))
        return penalty * clipped / NGRAMS, plain / NGRAMS


def _ngrams(text: str) -> Counter[Ngram]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, NGRAMS + 1) for i in range(len(words) - n + 1))


# -- RefHCM's own variant --------------------------------------------------------------------------------------
def strip_punctuation(text: str) -> str:
    """A text as RefHCM's caption evaluation scores it: ASCII punctuation deleted, capitals kept."""
    return " ".join(text.translate(str.maketrans("", "", string.punctuation)).split())


def published_frequencies(captions: Sequence[Sequence[str]]) -> DocumentFrequencies:
    """A table made as RefHCM made its own: of captions as written, punctuation attached to the words and capitals
    kept, words that occur `PUBLISHED_RARE` times or less as `UNK`, and `<eos>` behind each.

    What is scored has neither punctuation nor `UNK` nor `<eos>`, so that many of its n-grams are not in the table
    and weigh the most: a fault of the original, kept so that its figure can be reproduced.
    """
    words = Counter(word for texts in captions for text in texts for word in text.split())
    marked = [
        [" ".join([*(w if words[w] > PUBLISHED_RARE else "UNK" for w in text.split()), "<eos>"]) for text in texts]
        for texts in captions
    ]
    return DocumentFrequencies.of(marked)


def published_cider_d(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
) -> list[float]:
    """CIDEr-D of each sample in RefHCM's variant, 0..10, of texts as written. The paper prints 100 times the mean.

    `frequencies` is the published table (its `capcihp-words` file through `DocumentFrequencies.of_cache`); without
    it, one is made of the references in the same manner (`published_frequencies`). Not comparable with any
    other CIDEr.
    """
    table = published_frequencies(references) if frequencies is None else frequencies
    stripped = [[strip_punctuation(text) for text in texts] for texts in references]
    return cider_d([strip_punctuation(text) for text in hypotheses], stripped, table)


class CaptionMeter:
    """Collects captions as written and scores them at the end, because CIDEr-D needs the whole set."""

    def __init__(
        self,
        frequencies: DocumentFrequencies | None = None,
        extended: bool = False,
        java: bool = False,
        ptb: bool = False,
        published: DocumentFrequencies | None = None,
    ) -> None:
        """
        Args:
            frequencies: A fixed table for CIDEr-D and CIDEr.
            extended: Also BLEU and ROUGE-L (MissingExtraError without the extra `captions`).
            java: Also METEOR and SPICE, where Java can run them; `gaps` says why not.
            ptb: Take coco-caption's Java tokeniser instead of ours (RefHCMError where it cannot run).
            published: The table of the published variant; None makes one of the references.
        """
        if extended:
            import_scorers()
        if ptb:
            ptb_tokenize([])
        self._frequencies = frequencies
        self._extended = extended
        self._java = java
        self._ptb = ptb
        self._published = published
        self.gaps: dict[str, str] = {}
        """What was asked for and could not be computed by the last `result`, and why."""
        self._hypotheses: list[str] = []
        self._references: list[list[str]] = []

    def add(self, hypothesis: str | None, references: Sequence[str]) -> None:
        """One caption (None or empty if there was none) and one or more descriptions that are right."""
        if isinstance(references, str) or not references:
            raise ValueError("references must be a list of one or more texts")
        self._hypotheses.append(hypothesis or "")
        self._references.append(list(references))

    def merge(self, other: CaptionMeter) -> None:
        """Take in what another process collected."""
        self._hypotheses += other._hypotheses
        self._references += other._references

    def result(self) -> dict[str, float]:
        """`cider_d`, `cider` and `published_cider_d` (0..10), if asked for `bleu1..4`, `rouge_l`, `meteor`, `spice`
        (0..1), and `samples`.
        """
        count = len(self._hypotheses)
        if not count:
            return {"samples": 0.0}
        hypotheses, references = self._tokenised()
        scores = _both(hypotheses, references, self._frequencies)
        published = published_cider_d(self._hypotheses, self._references, self._published)
        values = {
            "cider_d": sum(score for score, _ in scores) / count,
            "cider": sum(score for _, score in scores) / count,
            "published_cider_d": sum(published) / count,
        }
        if self._extended:
            values.update(bleu_and_rouge(hypotheses, references))
        if self._java:
            self.gaps = {name: why for name, why in java_metrics().items() if why and name != "ptb"}
            for name, scorer in (("meteor", meteor), ("spice", spice)):
                try:
                    if name not in self.gaps:
                        values[name] = scorer(hypotheses, references)[0]
                except RefHCMError as error:  # too little memory, for one
                    self.gaps[name] = str(error)
        return {**values, "samples": float(count)}

    def _tokenised(self) -> tuple[list[str], list[list[str]]]:
        if not self._ptb:
            return [tokenize(t) for t in self._hypotheses], [[tokenize(t) for t in texts] for texts in self._references]
        flat = iter(ptb_tokenize([*self._hypotheses, *(text for texts in self._references for text in texts)]))
        hypotheses = [next(flat) for _ in self._hypotheses]
        return hypotheses, [[next(flat) for _ in texts] for texts in self._references]
