"""GREC and People: any number of people in one answer, as boxes from left to right.

`grec` is asked by words that may mean one person, several or nobody; `people` by nothing: everybody in the picture is
meant. What else is wanted of each (pose, mask, parts) is asked afterwards, by the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..data.annotation import Annotation
from ..data.known import About
from ..data.vocabulary import Vocabulary
from ..metrics.boxes import box_iou_pairs
from ..metrics.coco import Detection, GroundTruth
from ..metrics.people import PeopleMeter
from ..models.grammar import BoxesRule
from .segments import append, read_box, segment_area
from .task import Reading, Target, Task, box_tokens, register

if TYPE_CHECKING:
    from ..models.hypothesis import Hypothesis

MOST = 20
"""People in one answer; a longer one would leave the positions that a decoder of 100 tokens has been trained on."""
SAME = 0.9
"""Boxes of one answer with a higher IoU are one person, said twice: only the surer box counts."""


class BoxesSegment:
    """Four bins for each person, from left to right by the left edge (then by the other sides); none for nobody."""

    name = "people"

    def __init__(self, vocabulary: Vocabulary, clamp: bool = True) -> None:
        self.vocabulary = vocabulary
        self.clamp = clamp

    def extend(self, target: Target, annotation: Annotation) -> None:
        people = (annotation,) if annotation.people is None else annotation.people
        boxes = [person.box for person in people if person.box is not None]
        if len(boxes) != len(people):
            raise ValueError("This task needs the box of everyone who is meant.")
        rows = sorted(box_tokens(self.vocabulary, box, annotation.size, self.clamp) for box in boxes)
        for tokens in rows[:MOST]:
            append(target, tokens)

    def rule(self) -> BoxesRule:
        return BoxesRule(self.vocabulary.bin_span, MOST)

    def read(self, hypothesis: Hypothesis, position: int, size: tuple[int, int], reading: Reading) -> int:
        people = []
        while position < len(hypothesis.tokens):
            box, score = read_box(self.vocabulary, hypothesis, position, size)
            going_on = hypothesis.going_on.get(position)
            one = Reading(box=box, box_score=score, score=score, presence=going_on)
            one.stretches["box"] = position, position + 4
            people.append(one)
            position += 4
        reading.people = _once(people)
        reading.present = bool(people)
        return position

    def meter(self) -> PeopleMeter:
        return PeopleMeter()

    def score(self, meter: PeopleMeter, reading: Reading, annotation: Annotation) -> None:
        if reading.people is None:
            raise ValueError("Scoring any number of people needs an answer about any number of people.")
        people = (annotation,) if annotation.people is None else annotation.people
        found = [Detection(one.score, one.box, one.keypoints, one.mask) for one in reading.people]
        meant = [
            GroundTruth(one.box, segment_area(one), one.keypoints, one.mask) for one in people if one.box is not None
        ]
        meter.add(found, meant, reading.presence)


def _once(people: Sequence[Reading]) -> tuple[Reading, ...]:
    """In their order, those whose box no surer one repeats. From left to right, as the grammar wants it, leaves room
    for the same box twice."""
    boxes = np.array([one.box for one in people], np.float64).reshape(-1, 4)
    same = box_iou_pairs(boxes, boxes) > SAME
    kept: list[int] = []
    for place in sorted(range(len(people)), key=lambda place: -people[place].score):
        if not same[place, kept].any():
            kept.append(place)
    return tuple(people[place] for place in sorted(kept))


@register
class Grec(Task):
    """Generalised referring: words in, the boxes of all whom they mean out. Scored as gRefCOCO does (GREC)."""

    name = "grec"
    needs = ()
    meant: ClassVar[About] = "people"
    by_words = True
    prompt = ' which regions does the text " {} " describe?'

    def __init__(self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True) -> None:
        super().__init__(vocabulary, [BoxesSegment(vocabulary, clamp)], max_words, clamp)


@register
class People(Grec):
    """Everybody: the boxes of all people in the picture. Scored by detection's AP too."""

    name = "people"
    meant = "everybody"
    by_words = False
    prompt = " which regions show people?"
