"""A page of heat maps: questions of an evaluation with answer, truth, and where the model looked."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..data.annotation import Question
from ..data.dataset import ReferringDataset, SampleDataset
from ..data.prompts import MARKED
from ..data.rows import OWN
from ..data.samples import collate
from ..tasks import Reading
from .answer import Answer
from .answering import answer_batch
from .asking import TASKS
from .attention import AttentionMaps
from .choosing import choose, choose_rows
from .draw_attention import draw_attention, draw_attention_to_people
from .page import GAP, SIDE, Entry, as_jpeg, draw_pair, page, resize
from .predictor import RefHCMPredictor
from .scoring import Evaluation

ABOUT = (
    "Above, left: the answer; right: the truth. Below: where the decoder looked, for each part of the answer; of "
    "several people for the box of each, from left to right, and for nobody nowhere. "
    "The questions are spread evenly over those that were scored, and answered again one by one for this page."
)


def attention_page(
    predictor: RefHCMPredictor, path: str | Path, kind: str, result: Evaluation, count: int, *,
    limit: int | None = None, protocol: str = "own", beam: int = 1, way: str | None = None,
) -> str:  # fmt: skip
    """HTML about `count` of the questions of an evaluation: arguments as `evaluation.evaluate` had them."""
    task, config = predictor.task(result.task), predictor.model.config
    codes, masks = "codes" in task.needs, "mask" in task.needs
    rows = ReferringDataset(path, kind, parts=codes or kind == OWN, masks=masks or way in MARKED)
    able = predictor.abilities.point_prompts
    chosen = choose_rows(rows, count, choose(rows, task.name, limit, protocol, able, way).rows)[0]
    data = SampleDataset(
        rows, [task], config.image_size, mean=config.image_mean, std=config.image_std, targets=False, chosen=chosen,
        way=way,
    )
    entries, drawn = [], []
    for number, row in enumerate(chosen):
        batch = collate([data[number]])
        (found,) = answer_batch(
            predictor.model, task, batch, beam, label_map=predictor.label_map if codes else None,
            masks=predictor.masks if masks else None, presence=predictor.presence, attention=True,
        )  # fmt: skip
        (question,), (truth,), picture = batch["questions"], batch["annotations"], rows[row][2]
        entries.append(Entry(task.name, resize(picture), question, found, truth))
        sheet = draw_pair(entries[-1])
        answered = [
            (_to_answer(task.asked(question), one), AttentionMaps.of(predictor.vocabulary, (one, TASKS)))
            for one in ((found,) if found.people is None else found.people)
        ]
        if found.people:
            sheet = _stack(sheet, draw_attention_to_people(picture, answered, width=2 * SIDE + GAP))
        elif answered and answered[0][1].names:
            sheet = _stack(sheet, draw_attention(picture, *answered[0], width=2 * SIDE + GAP))
        drawn.append(as_jpeg(sheet))
    return page(f"{task.name}: where the model looked", result.scores, entries, drawn, ABOUT)


def _to_answer(asked: Question, found: Reading) -> Answer:
    points = asked.points[0] if asked.points else None
    return Answer(asked.size, asked.text, asked.region, box=found.box, keypoints=found.keypoints, points=points)


def _stack(above: Image.Image, below: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (max(above.width, below.width), above.height + GAP + below.height), "white")
    sheet.paste(above)
    sheet.paste(below, (0, above.height + GAP))
    return sheet
