"""The page: its fields give the same answers as Python does; without gradio one sentence says how to get it."""

import sys

import pytest

from refhcm.errors import MissingExtraError, RefHCMError
from refhcm.inference.web import answer_page, import_gradio, parse_region


def test_the_fields_of_the_page_are_answered(tiny_predictor, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    drawing, value = answer_page(tiny_predictor, path, "the man", "", ["box"])
    assert value == tiny_predictor(path, "the man", tasks=["box"]).to_dict() and drawing.width >= 90
    _, value = answer_page(tiny_predictor, path, "words that are not looked at", "1, 2, 30 40", ["caption"])
    assert value["region"] == [1, 2, 30, 40] and value["text"] is None
    with pytest.raises(RefHCMError, match="No picture"):
        answer_page(tiny_predictor, None, "the man", "", ["box"])
    with pytest.raises(RefHCMError, match="No task"):
        answer_page(tiny_predictor, path, "the man", "", [])


def test_the_page_asks_about_everybody_and_by_points(people_predictor, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    drawing, values = answer_page(people_predictor, path, " ", "", ["mask"], everybody=True)
    assert len(values) > 2 and values[0]["text"] is None and values[0]["mask"] and drawing.width >= 90
    _, values = answer_page(people_predictor, path, "the man", "", ["box"], everybody=True)
    assert values[0]["text"] == "the man"
    _, value = answer_page(people_predictor, path, "", "40, 30", ["box"])
    assert value["points"] == [[40, 30]]


def test_the_page_can_be_built(people_predictor, tiny_predictor):
    pytest.importorskip("gradio")
    from refhcm.inference.web import build_page

    for model in (people_predictor, tiny_predictor):
        boxes = [part for part in build_page(model).blocks.values() if type(part).__name__ == "CheckboxGroup"]
        assert tuple(value for _, value in boxes[0].choices) == model.able


@pytest.mark.parametrize(("text", "region"), [("", None), (" \n", None), ("1 2,3; 4", (1, 2, 3, 4)), ("7", (7,))])
def test_regions_are_read_from_words(text, region):
    assert parse_region(text) == region


def test_a_region_of_letters_is_refused():
    with pytest.raises(RefHCMError, match="four numbers"):
        parse_region("1 2 three 4")


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"-e '\.\[web\]'"):
        import_gradio()
