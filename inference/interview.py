"""Questions about people put to a model one after the other, as a plan says, until all that is wanted of each is known.

The model's frame: pictures come as trunk features, answers leave in pixels. Whatever is asked, the trunk has run once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.annotation import Box, Question
from ..errors import RefHCMError
from ..tasks import Reading
from .answer import Answer
from .answering import ask
from .attention import AttentionMaps
from .presence import calibrated
from .region_map import RegionMap
from .shapes import fill_shapes, mask_logits

if TYPE_CHECKING:
    from .plan import Plan
    from .predictor import RefHCMPredictor

DESCRIPTION_TOKENS = 64
"""How much of its own description a model is asked with about a region."""
REACH = 0.25
"""How far beyond the box of the person who is meant a region or points may lie, in shares of the box's sides: boxes are
not exact, and neither are hands."""


@dataclass
class _Row:
    """One person on the way: which of the pictures it is about, what is asked, and what has been found."""

    picture: int
    question: Question
    given: Box | None
    """The box that the answer begins with; None: the model has to find it."""
    place: Reading
    """The box, and what was answered with it; the mask's codes, too, where they were asked for behind it."""
    listed: Reading | None = None
    """The entry of a list of people that the box comes from."""
    caption: Reading | None = None
    mask: Reading | None = None
    region: Reading | None = None
    region_map: RegionMap | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.question.size

    @property
    def box(self) -> Box:
        assert self.place.box is not None
        return self.place.box


class Interview:
    """Asks one model about pictures given by their trunk features [N, C, h, w], for what one plan holds.

    `attention`: of what attention maps are kept, as `asking.check_attention` gives it.
    """

    def __init__(
        self, predictor: RefHCMPredictor, features: Tensor, plan: Plan, beam: int = 1, attention: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        self.predictor, self.abilities = predictor, predictor.abilities
        self.features, self.plan, self.beam, self.attention = features, plan, beam, attention

    def answer(self, questions: Sequence[tuple[int, Question]]) -> list[Answer]:
        """One answer per question; each comes with the number of its picture, 0 to N - 1."""
        loose = self.abilities.region_prompts and self.abilities.loose_regions
        rows = []
        for picture, question in questions:
            if question.points and not self.abilities.point_prompts:
                raise RefHCMError("This model was not trained to be asked by points: ask by words or by a region.")
            given = None if loose else question.region
            rows.append(_Row(picture, question, given, Reading(box=question.region)))
        return self._complete(rows)

    @torch.inference_mode()
    def everybody(self, question: Question, batch_size: int) -> list[Answer]:
        """One answer for each of the people whom a question about the first picture means, from left to right.

        Their boxes are those of the list, whatever else is asked about each; that is asked by the box, `batch_size` of
        them at a time.
        """
        name = "people" if question.everybody else "grec"
        if name not in self.abilities.tasks:
            lacking = "to find everybody" if question.everybody else "for words that mean several people"
            raise RefHCMError(f"This model was not trained {lacking}: ask about one person, by words or by a region.")
        people = self._ask(name, [0], [question])[0].people or ()
        if people and people[0].presence is not None:  # that there is anybody is what was calibrated
            people[0].presence = calibrated(people[0].presence, self.predictor.presence)
        # Sides are read finer than the bins by which the model sorts, so neighbours may have to change places.
        rows = [
            _Row(0, Question(question.size, region=person.box), person.box, Reading(box=person.box), person)
            for person in sorted(people, key=lambda person: person.box or ())
        ]
        answers: list[Answer] = []
        for start in range(0, len(rows), batch_size):
            answers += self._complete(rows[start : start + batch_size])
        listed = [(row.listed.score, row.listed.presence) for row in rows if row.listed is not None]
        return [
            replace(answer, text=question.text, region=None, score=_share(score), presence=presence)
            for answer, (score, presence) in zip(answers, listed, strict=True)
        ]

    # -- the order of questions ------------------------------------------------------------------------------
    @torch.inference_mode()
    def _complete(self, rows: list[_Row]) -> list[Answer]:
        plan = self.plan
        given = [row for row in rows if row.given is not None]
        if plan.caption or (not self.abilities.region_prompts and (plan.place != "rec" or plan.mask)):
            self._describe(given)
        if plan.place != "rec":
            self._find(given)
        self._find([row for row in rows if row.given is None])
        here = [row for row in rows if self._is_present(row)]
        if plan.mask:
            self._mask(here)
        if plan.region_map:
            self._map_regions(here)
        if plan.caption:
            self._describe([row for row in here if row.caption is None])
        sizes = [row.size for row in here]
        fill_shapes([row.place for row in here], sizes, self.predictor.label_map, self.predictor.masks)
        return [self._to_answer(row) for row in rows]

    def _find(self, rows: list[_Row]) -> None:
        """The box, where it is not given, and what comes with it."""
        if not rows:
            return
        begin = None if rows[0].given is None else [row.given for row in rows]
        readings = self._ask(self.plan.place, *self._about(rows), begin=begin)
        for row, reading in zip(rows, readings, strict=True):
            row.place = reading

    def _mask(self, rows: list[_Row]) -> None:
        """The mask inside the box."""
        readings = self._ask("res", *self._about(rows), begin=[row.box for row in rows])
        for row, reading in zip(rows, readings, strict=True):
            row.mask = reading
            row.place.mask_codes, row.place.mask_spread = reading.mask_codes, reading.mask_spread

    def _map_regions(self, rows: list[_Row]) -> None:
        """The map of the region that was asked about, or else of the box."""
        questions = [Question(row.size, region=row.question.region or row.box) for row in rows]
        readings = self._ask("roi", [row.picture for row in rows], questions)
        if not readings or self.predictor.masks is None:
            return
        scores = mask_logits(self.predictor.masks, readings).float().cpu().numpy()
        for row, reading, logits in zip(rows, readings, scores, strict=True):
            reading.stretches["region_map"] = reading.stretches.pop("mask")  # as users call it
            assert reading.box is not None
            row.region, row.region_map = reading, RegionMap(reading.box, row.size, logits)

    def _describe(self, rows: list[_Row]) -> None:
        """A caption of the box, given or found."""
        questions = [Question(row.size, region=row.box) for row in rows]
        for row, reading in zip(rows, self._ask("rhrc", [row.picture for row in rows], questions), strict=True):
            row.caption = reading

    def _about(self, rows: list[_Row]) -> tuple[list[int], list[Question]]:
        """Pictures and questions of rows.

        The published instructions ask by words only, so a model that was not trained for `region_prompts` is asked with
        its own description of the region.
        """
        questions = []
        for row in rows:
            by_itself = row.question.region is None or self.abilities.region_prompts
            questions.append(row.question if by_itself else Question(row.size, text=self._description(row)))
        return [row.picture for row in rows], questions

    def _description(self, row: _Row) -> str:
        """The caption of a row, cut to a length that the encoder takes with the instruction around it."""
        vocabulary = self.predictor.vocabulary
        tokens = vocabulary.encode_text(row.caption.caption or "") if row.caption else []
        return vocabulary.decode_text(tokens[:DESCRIPTION_TOKENS]).strip() or "person"

    def _ask(
        self, name: str, pictures: list[int], questions: list[Question], begin: list[Box | None] | None = None
    ) -> list[Reading]:  # fmt: skip
        if not questions:
            return []
        predictor = self.predictor
        return ask(
            predictor.model, predictor.task(name), self.features, pictures, questions, self.beam, begin=begin,
            presence=predictor.presence, attention=bool(self.attention),
        )  # fmt: skip

    # -- answers ---------------------------------------------------------------------------------------------
    def _is_present(self, row: _Row) -> bool:
        if row.given is not None:
            return True
        place = row.place
        likely = place.present and (place.box_score or 0.0) >= self.predictor.threshold
        return likely and _is_there(place.box, row.question)

    def _to_answer(self, row: _Row) -> Answer:
        """What was found, reduced to what was asked for."""
        question, place, wanted = row.question, row.place, self.plan.tasks
        if row.given is None:
            score = place.box_score or 0.0
        else:
            score = next((one.score for one in (place, row.caption, row.region) if one and one.score), 1.0)
        present = self._is_present(row)
        chance = None if place.presence is None else calibrated(place.presence, self.predictor.presence)
        if row.given is None and not _is_there(place.box, question):
            chance = 0.0  # the model's own is about somebody else
        answer = Answer(
            question.size, question.text, question.region, present, _share(score), presence=chance,
            points=question.points[0] if question.points else None,
            attention_maps=self._attention_maps(row, present) if self.attention else None,
        )  # fmt: skip
        if not present:
            return answer
        mask = place.mask
        if mask is None and place.parts is not None:
            mask = place.parts > 0
        return replace(
            answer,
            box=place.box if "box" in wanted else None,
            keypoints=place.keypoints if "keypoints" in wanted else None,
            visibility=place.visibility if "keypoints" in wanted else None,
            parsing=place.parts if "parsing" in wanted else None,
            mask=mask if "mask" in wanted or "parsing" in wanted else None,
            caption=row.caption.caption if row.caption and self.plan.caption else None,
            region_map=row.region_map,
        )

    def _attention_maps(self, row: _Row, present: bool) -> AttentionMaps:
        """What is wanted of them; a box that was given is no answer."""
        said: list[tuple[Reading, list[str]]] = []
        if present:
            found = [name for name in self.attention if row.given is None or name != "box"]
            said.append((row.place, found))
            for name, reading in {
                "box": row.listed, "mask": row.mask, "caption": row.caption, "region_map": row.region,
            }.items():  # fmt: skip
                if reading is not None and name in self.attention:
                    said.append((reading, [name]))
        return AttentionMaps.of(self.predictor.vocabulary, *said)


def _is_there(box: Box | None, question: Question) -> bool:
    """Whether a box that was found lies where the region or one of the points of the question is, give or take `REACH`.

    Models name the nearest person where they are pointed at nobody.
    """
    places = [(x, y, x, y) for x, y in question.points[0]] if question.points else []
    places += [question.region] if question.region is not None else []
    if box is None or not places:
        return True
    x1, y1, x2, y2 = box
    across, down = REACH * (x2 - x1), REACH * (y2 - y1)
    return any(
        left <= x2 + across and right >= x1 - across and top <= y2 + down and bottom >= y1 - down
        for left, top, right, bottom in places
    )


def _share(score: float) -> float:
    return min(max(score, 0.0), 1.0)
