"""Photo and words in, typed answer out: the user's frame (pictures, pixels) over the model's (tensors, tokens).

One call costs one pass of the vision trunk per picture, one encode and one decode for box, keypoints and parts together
(the S1 form), and one more encode and decode for the caption, on the same trunk features.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL.Image import Image
from torch import Tensor

from ..data.annotation import Question
from ..data.images import ImageSource, open_image, to_tensor
from ..data.vocabulary import Vocabulary
from ..errors import RefHCMError
from ..models.abilities import Abilities, Presence
from ..models.label_map import LabelMapTokenizer
from ..models.refhcm import RefHCM
from ..tasks import Reading, Task, build
from .answer import Answer, PictureFile
from .answering import Beginning, ask
from .asking import TASKS, check_attention, check_batch_size, check_beam, check_pair, check_question, check_tasks
from .attention import AttentionMaps
from .shapes import fill_shapes

Region = Sequence[float]
"""x1, y1, x2, y2 in pixels of the picture."""
DESCRIPTION_TOKENS = 64
"""How much of its own description the model is asked with about a region."""


@dataclass
class _Row:
    """One question on its way: which of the pictures it is about, and what has been found."""

    picture: int
    question: Question
    place: Reading
    caption: Reading | None = None
    attention: tuple[str, ...] = ()
    """Of what attention maps are kept."""


def _kept(source: ImageSource, picture: Image) -> Image | PictureFile:
    """What an answer keeps to draw on: the file where there is one, and else the opened picture."""
    if isinstance(source, str | os.PathLike):
        try:
            return PictureFile.of(source)
        except OSError:  # gone since it was opened
            pass
    return picture


class ImageView:
    """A picture whose trunk features are kept, to ask many things about it; made by `RefHCMPredictor.image`."""

    def __init__(
        self, predictor: RefHCMPredictor, features: Tensor, size: tuple[int, int], source: Image | PictureFile
    ) -> None:  # fmt: skip
        self.size = size
        """Width and height in pixels."""
        self._source = source
        self._predictor = predictor
        self._features: Tensor | None = features

    def __call__(
        self,
        text: str | None = None,
        *,
        region: Region | None = None,
        tasks: Sequence[str] = TASKS,
        beam: int = 1,
        attention: bool | Sequence[str] = False,
    ) -> Answer:
        """As `RefHCMPredictor.__call__`, without running the vision trunk again."""
        if self._features is None:
            raise RefHCMError("This view of a picture is closed: open another with model.image(photo).")
        question = check_question(text, region, self.size)
        tasks, beam, kept = check_tasks(tasks), check_beam(beam), check_attention(attention, check_tasks(tasks))
        found = self._predictor.answer(self._features, [(0, question)], tasks, beam, kept)[0]
        return replace(found, source=self._source)

    def __enter__(self) -> ImageView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the features."""
        self._features = None


class RefHCMPredictor:
    """A loaded model that answers questions about pictures; `refhcm.load` makes one.

    Not for use from several threads at once. `threshold` is the score below which nobody counts as fitting;
    `abilities` is what the model was trained for, `presence` what its own chance that anybody fits is worth.
    """

    def __init__(
        self, model: RefHCM, vocabulary: Vocabulary, label_map: LabelMapTokenizer | None = None, *,
        masks: LabelMapTokenizer | None = None, threshold: float = 0.0, abilities: Abilities | None = None,
        presence: Presence | None = None,
    ) -> None:  # fmt: skip
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.label_map = label_map
        self.masks = masks
        self.threshold = threshold
        self.abilities = abilities or Abilities()
        self.presence = presence or Presence()
        weight = model.encoder.embed_tokens.weight
        self.device, self.dtype = weight.device, weight.dtype
        self._tasks: dict[str, Task] = {}

    # -- asking ----------------------------------------------------------------------------------------------
    def __call__(
        self, image: ImageSource, text: str | None = None, *, region: Region | None = None,
        tasks: Sequence[str] = TASKS, beam: int = 1, attention: bool | Sequence[str] = False,
    ) -> Answer:  # fmt: skip
        """Find one person and say what was asked for about them.

        Args:
            image: A file, the bytes of one, a PIL picture or an array [H, W, 3]; see `refhcm.data.images.open_image`.
            text: Words that point at one person, at most 1,000 characters, of which 80 words are read; or
            region: a box x1, y1, x2, y2 in pixels of the picture, in place of words.
            tasks: What is wanted: any of "box", "keypoints", "parsing", "caption".
            beam: How many answers are followed side by side; 1 is greedy.
            attention: Keep where in the picture the model looked, for `Answer.attention`: of all that is answered, or
                of outputs and keypoints by their names.

        Raises RefHCMError, one sentence with cause and cure, when the picture or the question cannot be used.
        """
        with self.image(image) as view:
            return view(text, region=region, tasks=tasks, beam=beam, attention=attention)

    def many(
        self, questions: Iterable[tuple[ImageSource, str | Region]], *, tasks: Sequence[str] = TASKS, beam: int = 1,
        batch_size: int = 8, attention: bool | Sequence[str] = False,
    ) -> list[Answer]:  # fmt: skip
        """Answer questions (image, words or region) in batches; a picture that recurs in a batch is read once.

        Returns one answer per question, in order. RefHCMError as soon as one of them cannot be used.
        """
        tasks, beam, kept = check_tasks(tasks), check_beam(beam), check_attention(attention, check_tasks(tasks))
        batch_size = check_batch_size(batch_size)
        if isinstance(questions, str | bytes) or not isinstance(questions, Iterable):
            raise RefHCMError(f"Questions are a list of pairs (picture, words or region), not {questions!r}.")
        questions = list(questions)
        answers: list[Answer] = []
        for start in range(0, len(questions), batch_size):
            answers += self._answer_batch(questions[start : start + batch_size], tasks, beam, kept)
        return answers

    def image(self, image: ImageSource) -> ImageView:
        """A picture to ask many things about: `with model.image(photo) as view: view("the man in red")`."""
        picture = open_image(image)
        return ImageView(self, self._features([self._pixels(picture)]), picture.size, _kept(image, picture))

    def _answer_batch(
        self, questions: Sequence[tuple[ImageSource, str | Region]], tasks: tuple[str, ...], beam: int,
        attention: tuple[str, ...],
    ) -> list[Answer]:  # fmt: skip
        pixels: list[Tensor] = []
        sources: list[Image | PictureFile] = []
        known: dict[object, tuple[int, tuple[int, int]]] = {}
        rows: list[tuple[int, Question]] = []
        for source, asked in map(check_pair, questions):
            key = os.fspath(source) if isinstance(source, str | os.PathLike) else id(source)
            if key not in known:
                picture = open_image(source)
                known[key] = len(pixels), picture.size
                pixels.append(self._pixels(picture))
                sources.append(_kept(source, picture))
            index, size = known[key]
            text, region = (asked, None) if asked is None or isinstance(asked, str) else (None, asked)
            rows.append((index, check_question(text, region, size)))
        found = self.answer(self._features(pixels), rows, tasks, beam, attention)
        return [replace(answer, source=sources[index]) for answer, (index, _) in zip(found, rows, strict=True)]

    # -- answering -------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def answer(
        self, features: Tensor, questions: Sequence[tuple[int, Question]], tasks: tuple[str, ...], beam: int,
        attention: tuple[str, ...] = (),
    ) -> list[Answer]:  # fmt: skip
        """The model's frame: answer checked questions about pictures given by their trunk features.

        features [N, C, h, w]; each question names its picture, 0 to N - 1; tasks, beam and attention as `check_tasks`,
        `check_beam` and `check_attention` give them.
        """
        if "parsing" in tasks and self.label_map is None:
            others = ", ".join(task for task in TASKS if task != "parsing")
            raise RefHCMError(f"This model has no label-map tokenizer for 'parsing': ask only for {others}.")
        name = self._place_task("keypoints" in tasks, "parsing" in tasks)
        rows = [
            _Row(picture, question, Reading(box=question.region), attention=attention)
            for picture, question in questions
        ]
        by_region = [row for row in rows if row.question.region is not None]
        by_words = [row for row in rows if row.question.region is None]
        if "caption" in tasks or (name != "rec" and not self.abilities.region_prompts):
            self._describe(features, by_region, beam)
        if name != "rec":
            self._complete(name, features, by_region, beam)
        self._find(name, features, by_words, beam)
        if "caption" in tasks:
            self._describe(features, [row for row in by_words if self._is_present(row)], beam)
        if "parsing" in tasks:
            self._paste_parts([row for row in rows if self._is_present(row)])
        return [self._to_answer(row, tasks) for row in rows]

    def _find(self, name: str, features: Tensor, rows: list[_Row], beam: int) -> None:
        """From words to box, keypoints and parts: one encode, one decode."""
        readings = self._decode(name, features, rows, [row.question for row in rows], beam)
        for row, reading in zip(rows, readings, strict=True):
            row.place = reading

    def _describe(self, features: Tensor, rows: list[_Row], beam: int) -> None:
        """From the box, given or found, to a caption."""
        questions = [Question(row.question.size, region=row.place.box) for row in rows]
        for row, reading in zip(rows, self._decode("rhrc", features, rows, questions, beam), strict=True):
            row.caption = reading

    def _complete(self, name: str, features: Tensor, rows: list[_Row], beam: int) -> None:
        """From a given box to keypoints and parts; the box with which the answer begins is the given one.

        The published instructions ask for these by words only, so a model that was not trained for `region_prompts` is
        asked with its own description of the region.
        """
        questions = [
            row.question if self.abilities.region_prompts else Question(row.question.size, text=self._description(row))
            for row in rows
        ]
        begin = [row.question.region for row in rows]
        for row, reading in zip(rows, self._decode(name, features, rows, questions, beam, begin), strict=True):
            row.place = reading

    def _description(self, row: _Row) -> str:
        """The caption of a row, cut to a length that the encoder takes with the instruction around it."""
        tokens = self.vocabulary.encode_text(row.caption.caption or "") if row.caption else []
        return self.vocabulary.decode_text(tokens[:DESCRIPTION_TOKENS]).strip() or "person"

    def _decode(
        self, name: str, features: Tensor, rows: list[_Row], questions: list[Question], beam: int,
        begin: list[Beginning] | None = None,
    ) -> list[Reading]:  # fmt: skip
        """Put one question per row to the model and read the best answers; `begin`: see `ask`."""
        if not rows:
            return []
        pictures, task = [row.picture for row in rows], self.task(name)
        return ask(
            self.model, task, features, pictures, questions, beam, begin=begin, presence=self.presence,
            attention=any(row.attention for row in rows),
        )  # fmt: skip

    def _is_present(self, row: _Row) -> bool:
        return row.question.region is not None or (row.place.box_score or 0.0) >= self.threshold

    def _to_answer(self, row: _Row, tasks: tuple[str, ...]) -> Answer:
        """What was found, reduced to what was asked for."""
        question, place, caption = row.question, row.place, row.caption
        if question.region is None:
            score = place.box_score or 0.0
        else:
            score = place.score or (caption.score if caption else 1.0)
        present = self._is_present(row)
        answer = Answer(question.size, question.text, question.region, present, min(max(score, 0.0), 1.0))
        if not present:
            return replace(answer, attention_maps=AttentionMaps.of(self.vocabulary)) if row.attention else answer
        return replace(
            answer,
            attention_maps=self._attention_maps(row) if row.attention else None,
            box=place.box if "box" in tasks else None,
            keypoints=place.keypoints if "keypoints" in tasks else None,
            parsing=place.parts,
            caption=caption.caption if caption and "caption" in tasks else None,
        )

    def _attention_maps(self, row: _Row) -> AttentionMaps:
        """What is wanted of them; a box that was given is no answer."""
        said = [(row.place, [name for name in row.attention if name != "box" or row.question.region is None])]
        if row.caption is not None:
            said.append((row.caption, [name for name in row.attention if name == "caption"]))
        return AttentionMaps.of(self.vocabulary, *said)

    # -- pieces ----------------------------------------------------------------------------------------------
    def _pixels(self, picture: Image) -> Tensor:
        config = self.model.config
        return to_tensor(picture, config.image_size, config.image_mean, config.image_std)

    @torch.inference_mode()
    def _features(self, pixels: list[Tensor]) -> Tensor:
        return self.model.image_features(torch.stack(pixels).to(self.device, self.dtype))

    def task(self, name: str) -> Task:
        """A referring task (see `refhcm.tasks`) in this model's tokens, made once; ValueError for an unknown name."""
        if name not in self._tasks:
            options = {"block": self.abilities.block_parsing} if name == "s1" else {}
            self._tasks[name] = build(name, self.vocabulary, self.abilities.nobody, **options)
        return self._tasks[name]

    def _place_task(self, keypoints: bool, parsing: bool) -> str:
        """The task whose answer is the box and just what is wanted."""
        if keypoints:
            return "s1" if parsing else "rkpt"
        if parsing:
            return "rpar_full_mask" if self.abilities.block_parsing else "rpar"
        return "rec"

    def _paste_parts(self, rows: list[_Row]) -> None:
        """Decode the codes of all rows at once and put each map into its picture."""
        fill_shapes([row.place for row in rows], [row.question.size for row in rows], self.label_map)
