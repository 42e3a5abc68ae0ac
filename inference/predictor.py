"""Photo and words in, typed answer out: the user's frame, pictures and pixels.

One call costs one pass of the vision trunk per picture. `plan` says which questions are put to the model for what is
wanted, and `interview` puts them, all on the same trunk features: one encode and one decode for all that one
instruction asks for, such as box, keypoints and parts, and one more for a caption.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

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
from ..tasks import Task, build, known
from .answer import Answer, PictureFile
from .asking import (
    check_asked,
    check_attention,
    check_batch_size,
    check_beam,
    check_held,
    check_list,
    check_pair,
    check_question,
    check_tasks,
    check_text,
)
from .interview import Interview
from .plan import able, make_plan

Region = Sequence[float]
"""x1, y1, x2, y2 in pixels of the picture."""
Point = Sequence[float]
"""x, y in pixels of the picture."""
Asked = str | Region | Mapping[str, Any]
"""Words, a region, or one of {"text": ...}, {"region": ...}, {"point": ...}, {"scribble": [...]}."""
Tasks = Sequence[str] | None
"""Any of "box", "keypoints", "parsing", "mask", "caption", "region_map"; None: all that the model can do but for region
maps, which are answered on request."""
Attention = bool | Sequence[str]
BATCH = 8
"""Questions that are put to the model at a time."""


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
        self, text: str | None = None, *, region: Region | None = None, point: Point | None = None,
        scribble: Iterable[Point] | None = None, tasks: Tasks = None, beam: int = 1, attention: Attention = False,
    ) -> Answer:  # fmt: skip
        """As `RefHCMPredictor.__call__`, without running the vision trunk again."""
        question = check_question(self.size, text, region, point, scribble)
        return self._ask([question], tasks, beam, attention, 1)[0]

    def many(
        self, questions: Iterable[Asked], *, tasks: Tasks = None, beam: int = 1, batch_size: int = BATCH,
        attention: Attention = False,
    ) -> list[Answer]:  # fmt: skip
        """Answer many questions about this picture, `batch_size` at a time: one answer per question, in order.

        RefHCMError, before anything is computed, where one of them cannot be used, or where so many part maps and masks
        would not fit into memory (`asking.MAX_MAP_BYTES`).
        """
        asked = [check_asked(one, self.size) for one in check_list(questions, "words and regions")]
        return self._ask(asked, tasks, beam, attention, check_batch_size(batch_size))

    def everybody(
        self, text: str | None = None, *, tasks: Tasks = ("box",), beam: int = 1, batch_size: int = BATCH,
        attention: Attention = False,
    ) -> list[Answer]:  # fmt: skip
        """As `RefHCMPredictor.everybody`, without running the vision trunk again."""
        if text is None:
            question = Question(self.size, everybody=True)
        else:
            question = Question(self.size, text=check_text(text))
        wanted = check_tasks(tasks)
        interview = self._interview(None if wanted is None else ("box", *wanted), beam, attention)
        found = interview.everybody(question, check_batch_size(batch_size))
        return [replace(answer, source=self._source) for answer in found]

    def _ask(
        self, questions: Sequence[Question], tasks: Tasks, beam: int, attention: Attention, batch_size: int
    ) -> list[Answer]:
        interview = self._interview(check_tasks(tasks), beam, attention)
        check_held(len(questions), self.size, interview.plan.tasks)
        answers: list[Answer] = []
        for start in range(0, len(questions), batch_size):
            answers += interview.answer([(0, question) for question in questions[start : start + batch_size]])
        return [replace(answer, source=self._source) for answer in answers]

    def _interview(self, tasks: tuple[str, ...] | None, beam: int, attention: Attention) -> Interview:
        if self._features is None:
            raise RefHCMError("This view of a picture is closed: open another with model.image(photo).")
        return self._predictor.interview(self._features, tasks, beam, attention)

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
        self, image: ImageSource, text: str | None = None, *, region: Region | None = None, point: Point | None = None,
        scribble: Iterable[Point] | None = None, tasks: Tasks = None, beam: int = 1, attention: Attention = False,
    ) -> Answer:  # fmt: skip
        """Find one person and say what was asked for about them.

        Args:
            image: A file, the bytes of one, a PIL picture or an array [H, W, 3]; see `refhcm.data.images.open_image`.
            text: Words that point at one person, at most 1,000 characters, of which 80 words are read; or
            region: a box x1, y1, x2, y2 in pixels of the picture; or
            point: a place x, y on the person, in pixels; or
            scribble: a line over the person as such places, of which 6 are read, evenly chosen. Points and scribbles
                are for models that were trained for them (`Abilities.point_prompts`).
            tasks: What is wanted; see `Tasks`.
            beam: How many answers are followed side by side; 1 is greedy.
            attention: Keep where in the picture the model looked, for `Answer.attention`: of all that is answered, or
                of outputs and keypoints by their names.

        Raises RefHCMError, one sentence with cause and cure, when the picture or the question cannot be used.
        """
        with self.image(image) as view:
            return view(
                text, region=region, point=point, scribble=scribble, tasks=tasks, beam=beam, attention=attention
            )

    def many(
        self, questions: Iterable[tuple[ImageSource, Asked]], *, tasks: Tasks = None, beam: int = 1,
        batch_size: int = BATCH, attention: Attention = False,
    ) -> list[Answer]:  # fmt: skip
        """Answer questions about pictures in batches; a picture that recurs in a batch is read once.

        Many questions about one picture cost its trunk only once as `with model.image(photo) as view: view.many(...)`.
        Returns one answer per question, in order. RefHCMError as soon as one of them cannot be used.
        """
        tasks, batch_size = check_tasks(tasks), check_batch_size(batch_size)
        check_beam(beam), check_attention(attention, tasks)
        pairs = check_list(questions, "pairs (picture, words or region)")
        answers: list[Answer] = []
        for start in range(0, len(pairs), batch_size):
            answers += self._answer_batch(pairs[start : start + batch_size], tasks, beam, attention)
        return answers

    def everybody(
        self, image: ImageSource, text: str | None = None, *, tasks: Tasks = ("box",), beam: int = 1,
        batch_size: int = BATCH, attention: Attention = False,
    ) -> list[Answer]:  # fmt: skip
        """Find all people of a picture, or all whom words mean: at most 20, from left to right by their left edge.

        An empty list means that there is nobody. `score` and `presence` of each answer are those of its place in the
        list. What else `tasks` wants is asked about each by the box, `batch_size` people at a time, with the vision
        trunk run once; the boxes stay those of the list. For models that were trained for it.
        """
        with self.image(image) as view:
            return view.everybody(text, tasks=tasks, beam=beam, batch_size=batch_size, attention=attention)

    def image(self, image: ImageSource) -> ImageView:
        """A picture to ask many things about: `with model.image(photo) as view: view("the man in red")`."""
        picture = open_image(image)
        return ImageView(self, self._features([self._pixels(picture)]), picture.size, _kept(image, picture))

    @property
    def able(self) -> tuple[str, ...]:
        """What can be asked for as `tasks`."""
        return able(self.abilities, self.label_map is not None, self.masks is not None)

    def interview(self, features: Tensor, tasks: Tasks, beam: int, attention: Attention) -> Interview:
        """The model's frame: what asks for these tasks about pictures given by their trunk features [N, C, h, w]."""
        plan = make_plan(check_tasks(tasks), self.abilities, self.label_map is not None, self.masks is not None)
        return Interview(self, features, plan, check_beam(beam), check_attention(attention, plan.tasks))

    def _answer_batch(
        self, pairs: Sequence[tuple[ImageSource, Asked]], tasks: Tasks, beam: int, attention: Attention
    ) -> list[Answer]:  # fmt: skip
        pixels: list[Tensor] = []
        sources: list[Image | PictureFile] = []
        read: dict[object, tuple[int, tuple[int, int]]] = {}
        rows: list[tuple[int, Question]] = []
        for source, asked in map(check_pair, pairs):
            key = os.fspath(source) if isinstance(source, str | os.PathLike) else id(source)
            if key not in read:
                picture = open_image(source)
                read[key] = len(pixels), picture.size
                pixels.append(self._pixels(picture))
                sources.append(_kept(source, picture))
            index, size = read[key]
            rows.append((index, check_asked(asked, size)))
        found = self.interview(self._features(pixels), tasks, beam, attention).answer(rows)
        return [replace(answer, source=sources[index]) for answer, (index, _) in zip(found, rows, strict=True)]

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
            if name in known() and "keypoints" in known()[name].needs:
                options["inside"] = self.abilities.keypoints_inside
            self._tasks[name] = build(name, self.vocabulary, self.abilities.nobody, **options)
        return self._tasks[name]
