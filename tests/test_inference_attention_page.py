"""An evaluation's page of attention maps: as many questions as were wanted, and the figures stay what they were."""

import json

import numpy as np
import pytest
from crowd import write_crowd

from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.errors import RefHCMError
from refhcm.inference import attention_page, evaluate_job
from refhcm.inference.evaluation import evaluate
from refhcm.inference.prediction_files import read_lines


def test_an_evaluation_draws_a_page_of_maps(tiny_predictor, photo, tmp_path, command, capsys, monkeypatch):
    points = np.column_stack([np.full((17, 2), 20.0), np.full(17, 2)])
    with PersonWriter(tmp_path / "p.tsv") as file:
        for number in range(3):
            photo.save(tmp_path / f"{number}.png")
            person = Person((5, 5, 40, 50), points)
            file.add(PersonRow(f"r{number}", str(number), f"{number}.png", (person,), f"man {number}", ("a man",)))
    monkeypatch.setattr(evaluate_job, "load", lambda *options: tiny_predictor)
    asked = ["--data", str(tmp_path / "p.tsv"), "--tasks", "rkpt", "rhrc", "--no-java"]
    assert command.main([*asked, "--attention", "2", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    for task, said in (("rkpt", ["“man 0”", "“man 1”"]), ("rhrc", ["the marked person"])):
        content = (tmp_path / "out" / f"{task}.attention.html").read_text()
        assert content.count("<img ") == 2 and f"{task}: where the model looked" in content
        assert all(words in content for words in said) and "“man 2”" not in content
        assert f"where the model looked: {tmp_path / 'out' / task}.attention.html" in out
    plain = evaluate(tiny_predictor, tmp_path / "p.tsv", "person", "rkpt", java=False, progress=False)
    assert json.loads((tmp_path / "out" / "figures.json").read_text())[0]["scores"] == plain.scores


def test_everyone_in_an_answer_has_a_map_of_the_own_box(people_predictor, tmp_path, monkeypatch):
    crowd, drawn = write_crowd(tmp_path), []
    draw = attention_page.draw_attention_to_people

    def listening(picture, people, width):
        sheet = draw(picture, people, width)
        alone = [draw(picture, people[:count], width) for count in range(1, len(people))]
        drawn.append((people, [*alone, sheet]))
        return sheet

    monkeypatch.setattr(attention_page, "draw_attention_to_people", listening)
    answers = []
    for task in ("people", "grec"):
        options = {"batch_size": 1, "java": False, "progress": False, "out": tmp_path}
        result = evaluate(people_predictor, crowd, "person", task, **options)
        content = attention_page.attention_page(people_predictor, crowd, "person", result, 2)
        assert content.count("<img ") == 2 and "for nobody nowhere" in content
        answers += [line["people"] for line in read_lines(tmp_path / f"{task}.jsonl")]
    assert drawn
    for people, sheets in drawn:
        assert [list(answer.box) for answer, _ in people] in [[one["box"] for one in found] for found in answers]
        assert all(maps.names == ("box",) for _, maps in people)
        assert len({sheet.tobytes() for sheet in sheets}) == len(people)  # each adds something to see
    with pytest.raises(RefHCMError, match="no attention map to draw"):
        draw(None, [], 100)
