"""A web page for one model: photo, words or a place, what is wanted; the annotated picture and JSON come back."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ..errors import MissingExtraError, RefHCMError
from .asking import ON_REQUEST
from .draw import draw_answers
from .predictor import RefHCMPredictor

MAX_UPLOAD = "64mb"


def import_gradio() -> Any:
    """The gradio library; MissingExtraError says how to install it."""
    try:
        return importlib.import_module("gradio")
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise MissingExtraError("gradio", "web") from error


def parse_region(text: str) -> tuple[float, ...] | None:
    """Numbers between spaces or commas, None for an empty field; RefHCMError when something else stands there."""
    words = re.split(r"[\s,;]+", text.strip())
    if words == [""]:
        return None
    try:
        return tuple(float(word) for word in words)
    except ValueError as error:
        raise RefHCMError(f"A region is four numbers x1 y1 x2 y2 in pixels, not {text[:80]!r}.") from error


def answer_page(
    model: RefHCMPredictor, image: str | None, text: str, region: str, tasks: list[str], everybody: bool = False
) -> tuple[Any, Any]:
    """What the page shows for its fields: the annotated picture (PIL) and the answer as a dictionary, or with
    `everybody` a list of those: of all people, or where there are words of all whom they mean.

    Words are not looked at when there is a region; two numbers in its place are a point. RefHCMError when the fields
    cannot be used.
    """
    if image is None:
        raise RefHCMError("No picture was given: choose one first.")
    if everybody:
        words = text if text.strip() else None
        answers = model.everybody(image, words, tasks=tasks)
        return draw_answers(image, answers, text=words), [answer.to_dict() for answer in answers]
    place = parse_region(region or "")
    if place is None:
        answer = model(image, text, tasks=tasks)
    elif len(place) == 2:
        answer = model(image, point=place, tasks=tasks)
    else:
        answer = model(image, region=place, tasks=tasks)
    return answer.draw(image), answer.to_dict()


def build_page(model: RefHCMPredictor) -> Any:
    """The page as `gradio.Blocks`, not yet served."""
    gr = import_gradio()

    def ask(image: str | None, text: str, region: str, tasks: list[str], everybody: bool) -> tuple[Any, Any]:
        try:
            return answer_page(model, image, text, region, tasks, everybody)
        except RefHCMError as error:
            raise gr.Error(str(error), print_exception=False) from error

    with gr.Blocks(title="RefHCM", analytics_enabled=False) as page:
        gr.Markdown("# RefHCM\nA photo and words in; box, keypoints, body parts, mask and caption of people out.")
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="filepath", sources=["upload", "clipboard"], label="Photo")
                text = gr.Textbox(label="Who?", placeholder="the woman in the red coat on the left", max_lines=3)
                region = gr.Textbox(
                    label="or a box in pixels (or a point), in place of words", placeholder="x1 y1 x2 y2 (or x y)"
                )
                trained = "people" in model.abilities.tasks
                everybody = gr.Checkbox(label="Everybody (with words: all whom they mean)", visible=trained)
                usual = [task for task in model.able if task not in ON_REQUEST]
                tasks = gr.CheckboxGroup(list(model.able), value=usual, label="What?")
                button = gr.Button("Ask", variant="primary")
            with gr.Column():
                drawing = gr.Image(type="pil", format="png", interactive=False, label="Answer")
                details = gr.JSON(label="JSON")
        inputs, outputs = [image, text, region, tasks, everybody], [drawing, details]
        button.click(ask, inputs, outputs, api_name="ask")
        text.submit(ask, inputs, outputs, api_name=False)
    return page


def serve(model: RefHCMPredictor, port: int | None = None) -> None:
    """Serve the page on this machine only (127.0.0.1, no public link) until interrupted."""
    build_page(model).launch(server_name="127.0.0.1", server_port=port, share=False, max_file_size=MAX_UPLOAD)
