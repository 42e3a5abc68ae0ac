"""Caption figures are those of pycocoevalcap; the tokeniser is near Java's; without Java a reason is given."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.errors import RefHCMError
from refhcm.metrics import caption_tools
from refhcm.metrics.caption_tools import bleu_and_rouge, java_metrics, meteor, ptb_tokenize, spice
from refhcm.metrics.captions import (
    CaptionMeter,
    DocumentFrequencies,
    cider,
    cider_d,
    published_cider_d,
    published_frequencies,
    strip_punctuation,
    tokenize,
)
from refhcm.tests.golden_data import golden_json

HYPOTHESES = ["a man in a red shirt", "a woman holding an umbrella", "a dog runs in the park"]
REFERENCES = [
    ["a man in a red shirt is riding a bike", "the man with the red shirt"],
    ["a woman holding an umbrella"],
    ["two kids playing in the park with a dog"],
]

# -- CIDEr, BLEU, ROUGE-L ---------------------------------------------------------------------------------------
sentences = st.lists(st.sampled_from(["a", "man", "woman", "red", "hat", "the", "with", "left"]), max_size=9).map(
    " ".join
)
samples = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=2, max_size=5)


@given(samples)
@settings(max_examples=40, deadline=None)
def test_cider_d_is_that_of_pycocoevalcap(pairs):
    library = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    pairs = [*pairs, ("a man", ["a man"])]  # the library asserts that some reference has words
    truth = {i: texts for i, (_, texts) in enumerate(pairs)}
    mean, each = library.compute_score(truth, {i: [text] for i, (text, _) in enumerate(pairs)})
    ours = cider_d([text for text, _ in pairs], [texts for _, texts in pairs])
    np.testing.assert_allclose(ours, each, atol=1e-9)
    assert np.mean(ours) == pytest.approx(mean)


def _dense_cider(hypothesis, texts, references):
    """Plain CIDEr with whole vectors instead of dictionaries."""

    def grams(text, n):
        words = text.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    total = 0.0
    for n in (1, 2, 3, 4):
        sets = [{gram for text in each for gram in grams(text, n)} for each in references]
        known = sorted({*grams(hypothesis, n), *(gram for each in sets for gram in each)})
        idf = np.array([math.log(len(references) / max(1, sum(gram in each for each in sets))) for gram in known])
        vector = lambda text, n=n, known=known, idf=idf: idf * [grams(text, n).count(gram) for gram in known]  # noqa: E731
        for text in texts:
            a, b = vector(hypothesis), vector(text)
            lengths = np.linalg.norm(a) * np.linalg.norm(b) if known else 0.0
            total += a @ b / lengths if lengths else 0.0
    return 10 * total / 4 / len(texts)


@given(samples)
@settings(max_examples=25, deadline=None)
def test_plain_cider_is_the_mean_cosine(pairs):
    hypotheses, references = [text for text, _ in pairs], [texts for _, texts in pairs]
    expected = [_dense_cider(text, texts, references) for text, texts in pairs]
    np.testing.assert_allclose(cider(hypotheses, references), expected, atol=1e-9)


def test_repeating_words_pays_in_plain_cider_only():
    hypotheses, references = ["a man a man a man", "a dog"], [["a man"], ["a dog"]]
    np.testing.assert_allclose(cider_d(hypotheses, references), [1.222493, 5.0], atol=1e-6)
    assert cider(hypotheses, references)[0] > 4


def test_a_perfect_caption_with_a_hyphen_scores_as_a_perfect_plain_one():
    hyphen, plain = CaptionMeter(), CaptionMeter()
    for meter, shirt in ((hyphen, "t-shirt"), (plain, "shirt")):
        meter.add(f"A man in a {shirt}.", [f"a man in a {shirt}"])
        meter.add("the tall woman on the left", ["the tall woman on the left"])
    assert hyphen.result() == pytest.approx(plain.result())
    assert hyphen.result()["cider_d"] == pytest.approx(10)


def test_one_sample_scores_zero_and_others_depend_on_the_set():
    assert cider_d(["a man"], [["a man"]]) == cider(["a man"], [["a man"]]) == [0.0]


@given(samples)
@settings(max_examples=20, deadline=None)
def test_bleu_and_rouge_by_their_formulas(pairs):
    """Corpus BLEU with the closest reference length; ROUGE-L with the best precision and recall apart."""
    pytest.importorskip("pycocoevalcap")
    hypotheses, references = [text for text, _ in pairs], [texts for _, texts in pairs]
    values = bleu_and_rouge(hypotheses, references)
    assert values["bleu1"] == pytest.approx(_bleu1(hypotheses, references), abs=1e-6)
    assert values["rouge_l"] == pytest.approx(np.mean([_rouge(h, t) for h, t in pairs]))


def _bleu1(hypotheses, references):
    right = length = closest = 0
    for text, texts in zip(hypotheses, references, strict=True):
        words = text.split()
        right += sum(min(words.count(w), max(t.split().count(w) for t in texts)) for w in set(words))
        length += len(words)
        closest += min((abs(len(t.split()) - len(words)), len(t.split())) for t in texts)[1]
    ratio = (length + 1e-15) / (closest + 1e-9)
    return (right + 1e-15) / (length + 1e-9) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1)


def _rouge(hypothesis, texts):
    def common(a, b):
        row = [0] * (len(b) + 1)
        for x in a:
            row = [0, *(_step(row, x, b))]
        return row[-1]

    def _step(row, x, b):
        left = 0
        for j, y in enumerate(b):
            left = row[j] + 1 if x == y else max(left, row[j + 1])
            yield left

    words = hypothesis.split(" ")
    shared = [common(words, text.split(" ")) for text in texts]
    precision = max(s / len(words) for s in shared)
    recall = max(s / len(t.split(" ")) for s, t in zip(shared, texts, strict=True))
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if precision and recall else 0.0


def test_a_cache_of_document_frequencies_may_hold_a_logarithm():
    counts = {("a",): 60.0, ("a", "man"): 12.0}
    plain = DocumentFrequencies.of_cache({"document_frequency": counts, "ref_len": 120})
    logged = DocumentFrequencies.of_cache({"document_frequency": counts, "ref_len": math.log(120)})
    assert (plain.documents, dict(plain.counts)) == (120, counts) and logged.documents == pytest.approx(120)
    for wrong in ({}, {"document_frequency": [1], "ref_len": 3}, {"document_frequency": {}, "ref_len": None}):
        with pytest.raises(ValueError, match="document_frequency"):
            DocumentFrequencies.of_cache(wrong)


# -- RefHCM's variant -------------------------------------------------------------------------------------------
def test_the_published_variant_equals_the_published_run():
    run = golden_json("metrics/metrics")["rhrc_eval"]
    table = DocumentFrequencies.of(run["references"])  # as that run counted them
    scores = published_cider_d(run["hypotheses"], run["references"], table)
    np.testing.assert_allclose(scores, run["cider_d_per_item"], atol=1e-9)


def test_punctuation_is_deleted_not_replaced():
    assert strip_punctuation("Two-tone jacket: red/white , she's  smiling.") == "Twotone jacket redwhite shes smiling"


def test_the_published_table_is_of_captions_as_written():
    captions = [["A man, left.", "a man"]] * 6 + [["a rare man"]]
    table = published_frequencies(captions)
    assert table.documents == 7
    assert table.counts[("man,",)] == table.counts[("left.", "<eos>")] == 6
    assert table.counts[("a", "UNK", "man", "<eos>")] == table.counts[("UNK",)] == 1
    assert ("rare",) not in table.counts and ("man", "left") not in table.counts


def test_the_published_variant_is_no_other_cider():
    """Words in every caption weigh nothing, but the table has them as `UNK`, so that they weigh the most."""
    references = [[f"The man, {word}, stands."] for word in ("left", "right", "tall")]
    hypotheses = [f"The man {word} stands" for word in ("right", "tall", "left")]
    stripped = [[strip_punctuation(text) for text in texts] for texts in references]
    assert cider_d(hypotheses, stripped) == [0.0] * 3
    # three of four words, one of three pairs of words
    assert published_cider_d(hypotheses, references) == pytest.approx([10 * (3 / 4 + 1 / 3) / 4] * 3)


# -- tokens -----------------------------------------------------------------------------------------------------
JAVA_TOKENS = {
    "The man's T-shirt, well-dressed!": "the man 's t-shirt well-dressed",
    "She doesn't; they're red/blue.": "she does n't they 're red/blue",
    "can't wait...": "ca n't wait",
    "A man in his 20's, holding a 20% sign.": "a man in his 20 's holding a 20 % sign",
    "the kids' toys are on the dogs' bed": "the kids toys are on the dogs bed",
    'He said "hello" to the woman.': "he said hello to the woman",
    "it's 10:30 a.m. in the U.S. today": "it 's 10:30 a.m. in the u.s. today",
    "Mr. Smith and Mrs. Jones vs. Dr. Who": "mr. smith and mrs. jones vs. dr. who",
    "A man & a woman #1 at 5th ave.": "a man & a woman # 1 at 5th ave.",
    "and/or he/she 1/2 of w/ glasses": "and/or he/she 1/2 of w / glasses",
    "black-and-white photo -- of a man": "black-and-white photo of a man",
    "black - and - white": "black and white",
    "cannot gonna wanna gotta lemme": "can not gon na wan na got ta lem me",
    "at 5 o'clock, ma'am": "at 5 o'clock ma'am",
    "1,000 people in 3,5 lines": "1,000 people in 3,5 lines",
    "A man... with hat….": "a man with hat",
    "“smart quotes” and ‘single ones’ don’t": "smart quotes and single ones do n't",
    "costs $5 or 2.50": "costs $ 5 or 2.50",
    "50% off; 3:1 ratio": "50 % off 3:1 ratio",
    "a man—dashing–about": "a man dashing about",
    "café naïve Zürich": "café naïve zürich",
    '5\'11" tall man in size 12"': "5 11 tall man in size 12",
    "#hashtag": "#hashtag",
    "left;right:up,down": "left right up down",
    "~ about * star ^ caret = equals + plus": "~ about * star ^ caret = equals + plus",
    "person's-hat": "person 's hat",
    "ain't isn't won't shan't DOESN'T": "ai n't is n't wo n't sha n't does n't",
    "s/he  multiple   spaces\ttab": "s/he multiple spaces tab",
    "half-\\slash": "half \\ slash",
    "non- -ish mid-air, mid- air": "non ish mid-air mid air",
    "A.J. wears it, i.e. the hat": "a.j. wears it i.e. the hat",
    "a line\nbreak": "a line break",
    "(standing) by [the] {door}": "-lrb- standing -rrb- by -lsb- the -rsb- -lcb- door -rcb-",
    "man(left)": "man -lrb- left -rrb-",
    "a rock 'n' roll band, rock'n'roll and fish 'n chips": "a rock 'n' roll band rock 'n' roll and fish 'n chips",
    "pick 'em up in the '90s, size '12'": "pick 'em up in the '90s size 12",
    "No. 7, nos. 5 and no.9. He said no.": "no. 7 nos. 5 and no. 9 he said no",
    "": "",
}
"""Texts, and what Stanford's PTBTokenizer of CoreNLP 3.4.1 makes of them as coco-caption runs it (Java 17)."""


@pytest.mark.parametrize("text", JAVA_TOKENS)
def test_tokens_are_those_of_the_java_tokeniser(text):
    assert tokenize(text, brackets=True) == JAVA_TOKENS[text]


def test_brackets_are_dropped_unless_asked_for():
    assert tokenize("(standing) [x]") == "standing x"


@given(st.text(alphabet="ab'n.t-/1,:$(# \nsdo", max_size=25))
@settings(max_examples=200)
def test_tokenising_twice_changes_nothing(text):
    assert tokenize(tokenize(text)) == tokenize(text)


# -- Java -------------------------------------------------------------------------------------------------------
@pytest.fixture
def java(tmp_path, monkeypatch):
    """Puts a program called `java` on the PATH that does what the given Python lines say."""
    pytest.importorskip("pycocoevalcap")

    def install(*lines):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "java"
        begin = ["import sys", "if sys.argv[1:] == ['-version']: sys.exit(0)"]
        program.write_text("\n".join([f"#!{sys.executable}", *begin, *lines]))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return install


METEOR = (
    "statistics = 0",
    "for line in sys.stdin:",
    "    parts = line.rstrip('\\n').split(' ||| ')",
    "    if parts[0] == 'SCORE': print(len(parts), len(parts[-1].split()), flush=True)",
    "    else:",
    "        values = [int(p.split()[1]) / 10 for p in parts[1:]]",
    "        print('\\n'.join(map(str, [*values, max(values)])), flush=True)",
)
"""Scores a caption by its words, and a set by its best."""


def test_meteor_speaks_with_the_program(java):
    java(*METEOR)
    assert java_metrics()["meteor"] == ""
    assert meteor(HYPOTHESES, REFERENCES) == (0.6, [0.6, 0.5, 0.6])
    assert meteor(["", "a ||| b"], [["a"], ["b"]]) == (0.2, [0.0, 0.2])


@pytest.mark.parametrize("lines", [
    ["sys.exit('out of memory')"],
    ["sys.stdin.readline(); sys.exit('out of memory')"],
    ["print(sys.stdin.readline(), flush=True); sys.exit('out of memory')"],
])  # fmt: skip
def test_a_program_that_dies_is_an_error_and_not_a_wait(java, lines):
    java(*lines)
    with pytest.raises(RefHCMError, match="out of memory"):
        meteor(HYPOTHESES, REFERENCES)


def test_an_answer_that_is_no_number_is_an_error(java):
    java("for line in sys.stdin: print('hello', flush=True); print('x', flush=True)", "sys.stdin.read()")
    with pytest.raises(RefHCMError, match="numbers were expected"):
        meteor(["a"], [["a"]])


def test_without_java_the_reason_is_said(monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all("no `java` is on the PATH" in reason for reason in java_metrics().values())
    for call in (lambda: meteor(["a"], [["a"]]), lambda: spice(["a"], [["a"]]), lambda: ptb_tokenize(["a"])):
        with pytest.raises(RefHCMError, match="PATH"):
            call()
    meter = CaptionMeter(java=True)
    meter.add("a man", ["a man"])
    assert not {"meteor", "spice"} & set(meter.result())
    with pytest.raises(RefHCMError, match="PATH"):
        CaptionMeter(ptb=True)


def test_a_java_that_does_not_start_is_none(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    program = tmp_path / "java"
    program.write_text(f"#!{sys.executable}\nimport sys; sys.exit('Unable to locate a Java Runtime.')")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Unable to locate a Java Runtime." in java_metrics()["meteor"]


SPICE = (
    "import json",
    "at = sys.argv.index('-out') + 1",
    "entries = json.load(open(sys.argv[at - 4]))",
    "result = [{'image_id': e['image_id'], 'scores': {'All': {'f': len(e['refs']) / 10}}} for e in reversed(entries)]",
    "open(sys.argv[at], 'w').write(json.dumps(result))",
)


def test_spice_needs_its_models_and_says_where(java, monkeypatch):
    java(*SPICE)
    if all((caption_tools._folder() / path).is_file() for path in caption_tools._SPICE_MODELS):
        pytest.skip("Stanford CoreNLP 3.6.0 is here")
    assert "get_stanford_models" in java_metrics()["spice"]
    with pytest.raises(RefHCMError, match=r"stanford-corenlp-3\.6\.0"):
        spice(HYPOTHESES, REFERENCES)
    monkeypatch.setattr(caption_tools, "_SPICE_MODELS", ())
    mean, scores = spice(HYPOTHESES, REFERENCES)
    assert scores == [0.2, 0.1, 0.1] and mean == pytest.approx(0.4 / 3)


def test_spice_that_writes_nothing_is_an_error(java, monkeypatch):
    java("sys.exit(0)")
    monkeypatch.setattr(caption_tools, "_SPICE_MODELS", ())
    with pytest.raises(RefHCMError, match="no scores"):
        spice(["a"], [["a"]])


def test_the_meter_adds_what_is_asked_for(java):
    java(*METEOR)
    meter = CaptionMeter(extended=True, java=True)
    for text, texts in zip(HYPOTHESES, REFERENCES, strict=True):
        meter.add(text.capitalize() + ".", texts)
    result = meter.result()
    assert result["cider_d"] == pytest.approx(5.611150, abs=1e-6) and result["cider"] > result["cider_d"]
    assert (result["meteor"], result["bleu4"]) == (0.6, pytest.approx(0.652282, abs=1e-6))
    assert "spice" in result or java_metrics()["spice"]


needs_java = pytest.mark.skipif(
    not any((Path(folder) / "java").exists() for folder in os.environ.get("PATH", "").split(os.pathsep)),
    reason="no Java here",
)


@needs_java
@pytest.mark.slow
def test_the_real_tokeniser_gives_what_is_written_here():
    if java_metrics()["ptb"]:
        pytest.skip(java_metrics()["ptb"])
    assert ptb_tokenize(list(JAVA_TOKENS)) == list(JAVA_TOKENS.values())
    assert ptb_tokenize(["", ""]) == ["", ""]
    meter = CaptionMeter(ptb=True)
    meter.add("(a man)", ["(a man)", "a dog"])
    meter.add("a dog", ["a dog"])
    tokens = [["-lrb- a man -rrb-", "a dog"], ["a dog"]]
    assert meter.result()["cider_d"] == pytest.approx(np.mean(cider_d(["-lrb- a man -rrb-", "a dog"], tokens)))


@needs_java
@pytest.mark.slow
def test_the_real_meteor_gives_its_known_answers():
    if java_metrics()["meteor"]:
        pytest.skip(java_metrics()["meteor"])
    whole, each = meteor([*HYPOTHESES], REFERENCES)
    assert each == pytest.approx([0.370662, 1.0, 0.363646], abs=1e-6)
    assert whole == pytest.approx(0.430193, abs=1e-6)
