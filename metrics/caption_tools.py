"""BLEU and ROUGE-L by pycocoevalcap; METEOR, SPICE and coco-caption's tokeniser by the Java programs that lie in it.

The Java programs are run here rather than through pycocoevalcap's classes, which wait for ever when Java fails,
write into the installed package, and fetch 300 MB without being asked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, RefHCMError

_PTB_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR_FILES = ("meteor/meteor-1.5.jar", "meteor/data/paraphrase-en.gz")
_SPICE_JAR = "spice/spice-1.0.jar"
_SPICE_MODELS = ("spice/lib/stanford-corenlp-3.6.0.jar", "spice/lib/stanford-corenlp-3.6.0-models.jar")
_PTB_DROPPED = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
"""coco-caption's list; its brackets are in capitals although the tokens are not, so that brackets survive."""


def import_scorers() -> tuple[Any, Any]:
    """pycocoevalcap's classes Bleu and Rouge; MissingExtraError if it is not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise MissingExtraError("pycocoevalcap", "captions") from error
    return Bleu, Rouge


def bleu_and_rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus `bleu1` .. `bleu4` and mean `rouge_l` of tokenised texts, 0..1, by pycocoevalcap (no Java).

    Raises MissingExtraError if pycocoevalcap is not installed.
    """
    bleu_class, rouge_class = import_scorers()
    truth = {i: list(texts) for i, texts in enumerate(references)}
    answers = {i: [text] for i, text in enumerate(hypotheses)}
    bleu, _ = bleu_class(4).compute_score(truth, answers, verbose=0)
    rouge, _ = rouge_class().compute_score(truth, answers)
    return {**{f"bleu{n + 1}": float(value) for n, value in enumerate(bleu)}, "rouge_l": float(rouge)}


def java_metrics() -> dict[str, str]:
    """Whether `meteor` and `spice`, and the tokeniser `ptb`, can be computed here: name -> why not, in one sentence;
    empty where nothing stands in the way.
    """
    names = ("meteor", "spice", "ptb")
    if importlib.util.find_spec("pycocoevalcap") is None:
        return dict.fromkeys(names, str(MissingExtraError("pycocoevalcap", "captions")))
    if reason := _java_lacks():
        return dict.fromkeys(names, reason)
    needed = {"meteor": _METEOR_FILES, "spice": (_SPICE_JAR,), "ptb": (_PTB_JAR,)}
    reasons = {name: _files_lack(files) for name, files in needed.items()}
    missing = [path for path in _SPICE_MODELS if not (_folder() / path).is_file()]
    if missing and not reasons["spice"]:
        reasons["spice"] = (
            f"SPICE needs Stanford CoreNLP 3.6.0 (300 MB), and {_folder() / missing[0]} is missing: fetch it with "
            "python -m pycocoevalcap.spice.get_stanford_models"
        )
    return reasons


def ptb_tokenize(texts: Sequence[str]) -> list[str]:
    """Texts as coco-caption tokenises them: Stanford's PTBTokenizer in Java, lower case, its list of tokens dropped.

    Quirks are kept: brackets survive as `-lrb-`. Line breaks become spaces. RefHCMError where Java cannot do it.
    """
    _need("ptb")
    lines = [" ".join(text.split()) for text in texts]
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(_folder() / _PTB_JAR)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    if not any(lines):
        return lines
    done = _run(command, _folder(), input="".join(f"{line}\n" for line in lines))
    tokenised = done.split("\n")[: len(lines)]
    if len(tokenised) != len(lines):
        raise RefHCMError(f"the Java tokeniser gave {len(tokenised)} lines for {len(lines)}; score without it")
    return [" ".join(token for token in line.split() if token not in _PTB_DROPPED) for line in tokenised]


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """METEOR 1.5 of tokenised texts, 0..1: that of the set (from summed statistics, not a mean) and of each sample.

    Needs Java and 2 GB of memory; RefHCMError, with the reason, where it cannot run.
    """
    _need("meteor")
    if not hypotheses:
        raise ValueError("there are no captions to score")
    command = ["java", "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", Path(_METEOR_FILES[0]).name]
    command += ["-", "-", "-stdio", "-l", "en", "-norm"]
    with _conversation(command, _folder() / "meteor") as (say, hear):
        statistics = []
        for hypothesis, texts in zip(hypotheses, references, strict=True):
            say(" ||| ".join(["SCORE", *map(_one_line, texts), _one_line(hypothesis)]))
            statistics.append(hear())
        say(" ||| ".join(["EVAL", *statistics]))
        answers = [hear() for _ in range(len(hypotheses) + 1)]
    try:
        scores = [float(answer) for answer in answers]
    except ValueError as error:
        raise RefHCMError(f"METEOR answered {answers[:3]} where numbers were expected; score without it") from error
    return scores[-1], scores[:-1]


def spice(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """SPICE of tokenised texts, 0..1: the mean and that of each sample (nan where the truth has no tuples).

    Needs Java, 8 GB of memory and Stanford CoreNLP 3.6.0; RefHCMError, with the reason, where it cannot run.
    """
    _need("spice")
    if not hypotheses:
        raise ValueError("there are no captions to score")
    pairs = zip(hypotheses, references, strict=True)
    entries = [{"image_id": i, "test": text, "refs": list(texts)} for i, (text, texts) in enumerate(pairs)]
    with tempfile.TemporaryDirectory() as folder:
        source, target, cache = (Path(folder) / name for name in ("in.json", "out.json", "cache"))
        source.write_text(json.dumps(entries))
        cache.mkdir()
        command = ["java", "-Xmx8G", "-jar", Path(_SPICE_JAR).name, str(source)]
        _run([*command, "-cache", str(cache), "-out", str(target), "-subset", "-silent"], _folder() / "spice")
        try:
            found = {e["image_id"]: float(e["scores"]["All"]["f"]) for e in json.loads(target.read_text())}
            scores = [found[i] for i in range(len(entries))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RefHCMError("SPICE wrote no scores that can be read; score without it") from error
    return sum(scores) / len(scores), scores


def _folder() -> Path:
    """Where pycocoevalcap is installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("pycocoevalcap", "captions")
    return Path(next(iter(spec.submodule_search_locations)))


def _need(name: str) -> None:
    if reason := java_metrics()[name]:
        raise RefHCMError(reason)


def _files_lack(files: Sequence[str]) -> str:
    missing = [str(_folder() / path) for path in files if not (_folder() / path).is_file()]
    return f"{missing[0]} is missing: install pycocoevalcap again" if missing else ""


def _java_lacks() -> str:
    """Why no Java can be run, or nothing."""
    if shutil.which("java") is None:
        return "METEOR, SPICE and the PTB tokeniser need Java 8 or later, and no `java` is on the PATH: install one"
    try:
        _run(["java", "-version"], Path.cwd())
    except RefHCMError as error:
        return f"`java -version` fails: {error}"
    return ""


def _run(command: list[str], folder: Path, **options: Any) -> str:
    """What a program prints; RefHCMError with the last line of its complaint if it fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", **options)
    except OSError as error:
        raise RefHCMError(f"{command[0]} cannot be started ({error.strerror})") from error
    if done.returncode:
        raise RefHCMError(_complaint(command, done.stderr))
    return done.stdout


@contextlib.contextmanager
def _conversation(command: list[str], folder: Path) -> Iterator[tuple[Callable[[str], None], Callable[[], str]]]:
    """A program that answers line by line; it is ended however the block is left. RefHCMError when it falls silent."""
    with tempfile.TemporaryFile() as complaints:  # a full pipe that nobody reads would stop the program
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise RefHCMError(f"{command[0]} cannot be started ({error.strerror})") from error
        assert process.stdin is not None and process.stdout is not None
        writer, reader = process.stdin, process.stdout

        def broken() -> RefHCMError:
            process.wait()
            complaints.seek(0)
            return RefHCMError(_complaint(command, complaints.read().decode("utf-8", "replace")))

        def say(line: str) -> None:
            try:
                writer.write(line + "\n")
                writer.flush()
            except OSError as error:
                raise broken() from error

        def hear() -> str:
            if not (line := reader.readline()):
                raise broken()
            return line.strip()

        try:
            yield say, hear
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                writer.close()
            reader.close()
            process.wait()


def _complaint(command: Sequence[str], text: str) -> str:
    last = text.strip().splitlines()[-1] if text.strip() else "it said nothing"
    return f"{' '.join(command[:1])} ended early ({last}); score without it"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|||", " ").split())
