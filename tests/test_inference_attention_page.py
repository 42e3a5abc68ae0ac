"""An evaluation's page of attention maps: as many questions as were wanted, and the figures stay what they were."""

import json

import numpy as np

from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.inference import evaluate_job
from refhcm.inference.evaluation import evaluate


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
