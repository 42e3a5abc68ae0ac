"""Captions: CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726) as coco-caption computes it; BLEU and ROUGE-L.

Scores need one tokenisation for hypotheses, references and document frequencies alike; `tokenize` is ours.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import MissingExtraError

NGRAMS = 4
SIGMA = 6.0  # of the length penalty
SCALE = 10.0

Ngram = tuple[str, ...]

_NEGATION = re.compile(r"(?<=\w)n't\b")
_CLITIC = re.compile(r"(?<=\w)('(?:s|re|ve|ll|d|m))\b")
_TOKEN = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|\w+(?:(?:[-/]|(?<=\d)[.,:](?=\d))\w+)*|[^\w\s]")
_DROPPED = frozenset("'`\".?!,:;-()[]{}…–—“”‘’")


def tokenize(text: str) -> str:
    """Lower-cased words separated by single spaces, close to the Java tokeniser that coco-caption runs.

    Contractions are split (`the man's` -> `the man 's`, `doesn't` -> `does n't`), words with hyphens or
    slashes stay whole, punctuation and brackets are dropped, other signs stand alone (`$5` -> `$ 5`).
    """
    text = text.lower().replace("’", "'")
    text = _CLITIC.sub(r" \1", _NEGATION.sub(" n't", text))
    return " ".join(token for token in _TOKEN.findall(text) if token not in _DROPPED)


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
    if frequencies is None:
        frequencies = DocumentFrequencies.of(references)
    scores = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        if not texts:
            raise ValueError("a caption without references cannot be scored; leave the sample out")
        answer = _Weighted(hypothesis, frequencies)
        total = sum(answer.similarity(_Weighted(text, frequencies)) for text in texts)
        scores.append(SCALE * total / len(texts))
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

    def similarity(self, reference: _Weighted) -> float:
        """Mean over the n-gram lengths of the clipped cosine, times the length penalty: 0..1."""
        total = 0.0
        for mine, theirs, a, b in zip(
            self.vectors, reference.vectors, self.norms, reference.norms, strict=True
        ):
            if a > 0 and b > 0:
                shared = ((value, theirs.get(ngram, 0.0)) for ngram, value in mine.items())
                total += sum(min(value, other) * other for value, other in shared) / (a * b)
        penalty = math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))
        return penalty * total / NGRAMS


def _ngrams(text: str) -> Counter[Ngram]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, NGRAMS + 1) for i in range(len(words) - n + 1))


def bleu_and_rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus `bleu1` .. `bleu4` and mean `rouge_l` of tokenised texts, 0..1, by pycocoevalcap (no Java).

    Raises MissingExtraError if pycocoevalcap is not installed.
    """
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise MissingExtraError("pycocoevalcap", "dev") from error
    truth = {i: list(texts) for i, texts in enumerate(references)}
    answers = {i: [text] for i, text in enumerate(hypotheses)}
    bleu, _ = Bleu(NGRAMS).compute_score(truth, answers, verbose=0)
    rouge, _ = Rouge().compute_score(truth, answers)
    return {**{f"bleu{n + 1}": float(value) for n, value in enumerate(bleu)}, "rouge_l": float(rouge)}


class CaptionMeter:
    """Collects captions as written and scores them at the end, because CIDEr-D needs the whole set."""

    def __init__(self, frequencies: DocumentFrequencies | None = None, extended: bool = False) -> None:
        """`frequencies` fixes the table of CIDEr-D; `extended` adds BLEU and ROUGE-L (by pycocoevalcap)."""
        self._frequencies = frequencies
        self._extended = extended
        self._hypotheses: list[str] = []
        self._references: list[list[str]] = []

    def add(self, hypothesis: str | None, references: Sequence[str]) -> None:
        """One caption (None or empty if there was none) and one or more descriptions that are right."""
        if isinstance(references, str) or not references:
            raise ValueError("references must be a list of one or more texts")
        self._hypotheses.append(tokenize(hypothesis or ""))
        self._references.append([tokenize(text) for text in references])

    def merge(self, other: CaptionMeter) -> None:
        """Take in what another process collected."""
        self._hypotheses += other._hypotheses
        self._references += other._references

    def result(self) -> dict[str, float]:
        """`cider_d` (0..10), if extended `bleu1..4` and `rouge_l` (0..1), and `samples`."""
        count = len(self._hypotheses)
        if not count:
            return {"samples": 0.0}
        values = {"cider_d": sum(cider_d(self._hypotheses, self._references, self._frequencies)) / count}
        if self._extended:
            values.update(bleu_and_rouge(self._hypotheses, self._references))
        return {**values, "samples": float(count)}
