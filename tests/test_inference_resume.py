"""Answers are kept as they come: an evaluation that was cut off goes on, and ends as if it never had been."""

import json
import multiprocessing
import os
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.errors import RefHCMError
from refhcm.inference import evaluation
from refhcm.inference.evaluation import Stopped, evaluate
from refhcm.inference.prediction_files import read_lines, saved
from refhcm.inference.predictions import drawn_parts
from refhcm.inference.ranks import Ranks, join, leave
from refhcm.inference.scoring import score_saved

QUESTIONS = 7


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A file of our own about seven people in four pictures of two sizes, everything known about each."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(8)
    with PersonWriter(folder / "people.tsv") as file:
        for number in range(QUESTIONS):
            width, height = (40, 30) if number % 4 else (24, 36)
            picture = f"{number % 4}.png"
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / picture)
            parts = np.zeros((height, width), np.uint8)
            parts[5:25, 5:20] = random.integers(0, 20, (20, 15))
            Image.fromarray(parts).save(folder / f"parts{number}.png")
            points = np.concatenate([random.integers(5, 20, (17, 2)), random.integers(0, 3, (17, 1))], axis=1)
            person = Person((5, 5, 20, 25), points, encode_mask(parts), f"parts{number}.png")
            words, captions = f"the man number {number} on the left", ("a man in red", f"man {number}")
            file.add(PersonRow(str(number), picture, picture, (person,), words, captions))
    return folder / "people.tsv"


def _evaluate(predictor, people, out=None, task="s1", **options):
    options = {"batch_size": 2, "progress": False, "out": out, **options}
    return evaluate(predictor, people, "person", task, **options)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_model, tiny_vocabulary, tiny_label_map, people):
    """Folder and figures of an evaluation that was never stopped."""
    from refhcm.inference.predictor import RefHCMPredictor

    out = tmp_path_factory.mktemp("whole")
    return out, _evaluate(RefHCMPredictor(tiny_model, tiny_vocabulary, tiny_label_map), people, out)


def test_a_folder_changes_no_figure(tiny_predictor, people, whole):
    folder, result = whole
    assert _evaluate(tiny_predictor, people) == result == score_saved(folder)[0]
    assert {"box/acc@0.75", "keypoints/ap", "parsing/miou", "parsing/oracle_miou", "parsing/published_miou"} < set(
        result.scores
    )


def test_lines_hold_what_was_asked_and_answered(whole, tiny_predictor):
    lines = read_lines(whole[0] / "s1.jsonl")
    assert [line["row"] for line in lines] == list(range(QUESTIONS))
    for number, line in enumerate(lines):
        assert (line["id"], line["image_id"], line["task"]) == (str(number), f"{number % 4}.png", "s1")
        assert line["text"] == f"the man number {number} on the left" and "region" not in line
        assert line["truth"]["box"] == [5, 5, 20, 25]
        assert len(line["codes"]) == 48 and len(line["keypoints"]) == 17 and 0 < line["box_score"] <= 1
        assert drawn_parts(line).shape == tuple(line["size"][::-1])
        assert {"iou", "oks", "part_miou"} <= set(line["figures"]) and not line["invalid"]


def test_uniphd_scores_masks_where_part_maps_are_not_known(tiny_predictor, people, tmp_path):
    for path in people.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = [line.split("\t") for line in (tmp_path / people.name).read_text().splitlines()]
    (tmp_path / people.name).write_text("".join("\t".join([*r[:6], "", *r[7:]]) + "\n" for r in rows))
    with pytest.raises(RefHCMError, match="7 do not know parts"):
        _evaluate(tiny_predictor, tmp_path / people.name)
    result = _evaluate(tiny_predictor, tmp_path / people.name, tmp_path / "out", protocol="uniphd")
    assert {"uniphd/ap", "uniphd/mask_ap", "uniphd/mask_oiou", "keypoints/pckh_ears@0.5"} <= set(result.scores)
    assert score_saved(tmp_path / "out") == [result] and result.samples == QUESTIONS
    found = _evaluate(tiny_predictor, people, protocol="uniphd", task="rkpt").scores
    assert "uniphd/ap" in found and "uniphd/mask_ap" not in found


def test_captions_are_asked_by_the_region(tiny_predictor, people, tmp_path):
    _evaluate(tiny_predictor, people, tmp_path, task="rhrc", java=False)
    for line in read_lines(tmp_path / "rhrc.jsonl"):
        assert line["region"] == [5, 5, 20, 25] and "text" not in line and line["caption"]
        assert line["truth"]["captions"][0] == "a man in red"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.55, 0.999, 1.0])
def test_cut_off_anywhere_and_resumed_equals_uninterrupted(tiny_predictor, people, whole, tmp_path, share, monkeypatch):
    folder, result = whole
    content = (folder / "s1.jsonl").read_bytes()
    for name in ("s1.settings.json", "s1.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "s1.jsonl").write_bytes(content[: int(share * len(content))])
    asked = []
    answer = evaluation.answer_batch
    monkeypatch.setattr(evaluation, "answer_batch", lambda *a, **k: asked.append(len(a[2]["id"])) or answer(*a, **k))
    assert _evaluate(tiny_predictor, people, tmp_path) == result
    assert (tmp_path / "s1.jsonl").read_bytes() == content
    kept = content[: int(share * len(content))].count(b"\n")
    assert sum(asked) == QUESTIONS - kept // 2 * 2 if kept < QUESTIONS else not asked


def test_an_interrupt_keeps_what_was_answered(tiny_predictor, people, whole, tmp_path, monkeypatch):
    answer, calls = evaluation.answer_batch, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(*arguments, **options)

    monkeypatch.setattr(evaluation, "answer_batch", interrupted)
    with pytest.raises(Stopped, match=r"stopped: 4 of 7 s1 answers are in .*; the same command goes on from there\."):
        _evaluate(tiny_predictor, people, tmp_path)
    assert len(read_lines(tmp_path / "s1.jsonl")) == 4
    (part,) = score_saved(tmp_path)
    assert (part.samples, part.missing) == (4, 3)
    assert _evaluate(tiny_predictor, people, tmp_path) == whole[1]
    calls.clear()
    with pytest.raises(Stopped, match="stopped after 4 of 7 s1 answers, which are lost: --out FOLDER"):
        _evaluate(tiny_predictor, people)


@pytest.mark.parametrize("change, said", [
    ({"beam": 2}, "beam 1, not 2"),
    ({"limit": 3}, "limit None, not 3"),
    ({"published_reading": True}, "published_reading False, not True"),
])  # fmt: skip
def test_other_settings_do_not_mix(tiny_predictor, people, whole, change, said):
    before = {path.name: path.read_bytes() for path in whole[0].iterdir()}
    with pytest.raises(RefHCMError, match=f"other settings .*{said}.*give the same options"):
        _evaluate(tiny_predictor, people, whole[0], **change)
    assert {path.name: path.read_bytes() for path in whole[0].iterdir()} == before


def test_other_models_and_data_do_not_mix(tiny_predictor, people, whole, tmp_path, monkeypatch):
    for path in people.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    copy = tmp_path / people.name
    assert _evaluate(tiny_predictor, copy, whole[0]) == whole[1]  # the same words and pictures elsewhere
    copy.write_text(copy.read_text().replace("number 3 on", "number 33 on"))
    with pytest.raises(RefHCMError, match=r"other settings \(data '\w+', not '\w+'\)"):
        _evaluate(tiny_predictor, copy, whole[0])
    weight = tiny_predictor.model.decoder.layer_norm.bias
    before = weight.data.clone()
    weight.data[0] += 1e-3
    try:
        with pytest.raises(RefHCMError, match=r"other settings \(model '\w+', not '\w+'\)"):
            _evaluate(tiny_predictor, people, whole[0])
    finally:
        weight.data.copy_(before)


def test_batch_size_changes_no_answer_and_may_change_on_the_way(tiny_predictor, people, whole, tmp_path):
    for name in ("s1.settings.json", "s1.jsonl"):
        (tmp_path / name).write_bytes((whole[0] / name).read_bytes())
    lines = (tmp_path / "s1.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "s1.jsonl").write_bytes(b"".join(lines[:3]))
    result = _evaluate(tiny_predictor, people, tmp_path, batch_size=5)
    again = [json.loads(line) for line in (tmp_path / "s1.jsonl").read_bytes().splitlines()]
    assert [line["tokens"] for line in again] == [json.loads(line)["tokens"] for line in lines]
    assert result.scores == pytest.approx(whole[1].scores, rel=1e-3)


@pytest.mark.parametrize("damage, said", [
    (lambda lines: [b"{}\n", *lines], r"line 1 is no answer"),
    (lambda lines: [lines[0], b"not JSON\n", *lines[1:]], r"line 2 is no answer"),
])  # fmt: skip
def test_a_damaged_file_is_named(tiny_predictor, people, whole, tmp_path, damage, said):
    for name in ("s1.settings.json", "s1.jsonl"):
        (tmp_path / name).write_bytes((whole[0] / name).read_bytes())
    path = tmp_path / "s1.jsonl"
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(RefHCMError, match=rf"s1\.jsonl, {said}"):
        _evaluate(tiny_predictor, people, tmp_path)
    (tmp_path / "s1.settings.json").unlink()
    with pytest.raises(RefHCMError, match=r"stands there without s1\.settings\.json"):
        _evaluate(tiny_predictor, people, tmp_path)


def test_two_evaluations_do_not_write_to_one_file(tiny_predictor, people, whole, tmp_path, monkeypatch):
    answer = evaluation.answer_batch

    def second(*arguments, **options):
        monkeypatch.setattr(evaluation, "answer_batch", answer)
        with pytest.raises(RefHCMError, match="Another evaluation is writing"):
            _evaluate(tiny_predictor, people, tmp_path)
        return answer(*arguments, **options)

    monkeypatch.setattr(evaluation, "answer_batch", second)
    assert _evaluate(tiny_predictor, people, tmp_path) == whole[1]
    assert _evaluate(tiny_predictor, people, tmp_path) == whole[1]


def test_what_other_processes_left_is_taken_over(tiny_predictor, people, whole, tmp_path):
    """Two of three processes had written when the run was killed; one process goes on alone."""
    folder, result = whole
    lines = (folder / "s1.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "s1.settings.json").write_bytes((folder / "s1.settings.json").read_bytes())
    (tmp_path / "s1.part0.jsonl").write_bytes(lines[0] + lines[1] + lines[6])
    (tmp_path / "s1.part2.jsonl").write_bytes(lines[4] + lines[5][:50])
    assert [line["row"] for line in saved(tmp_path, "s1")[1]] == [0, 1, 4, 6]
    assert _evaluate(tiny_predictor, people, tmp_path) == result
    assert (tmp_path / "s1.jsonl").read_bytes() == b"".join(lines)
    assert not list(tmp_path.glob("*part*"))


def _one_of_two(rank, port, predictor, people, out, told):
    """A process as torchrun starts it; it tells its figures without and with a folder, and a shared error."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=port)
    ranks = join()
    results = [_evaluate(predictor, people, folder, ranks=ranks) for folder in (None, out)]
    try:
        _evaluate(predictor, people, out, ranks=ranks, beam=2)
    except RefHCMError as error:
        results.append(str(error))
    told.put((rank, results))
    leave()


def test_two_processes_give_the_figures_of_one(tiny_predictor, people, whole, tmp_path):
    """Seven questions in four batches: the processes have four and three questions."""
    assert torch.get_num_threads() == 1  # or the processes would hang, see `one_thread`
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    given = (port, tiny_predictor, people, tmp_path / "out", told)
    both = [context.Process(target=_one_of_two, args=(rank, *given), daemon=True) for rank in range(2)]
    for process in both:
        process.start()
    found = dict(told.get(timeout=240) for _ in both)
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    for rank in range(2):
        assert found[rank][:2] == [whole[1], whole[1]], rank
        assert "beam 1, not 2" in found[rank][2]
    assert (tmp_path / "out" / "s1.jsonl").read_bytes() == (whole[0] / "s1.jsonl").read_bytes()
    left = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".")
    assert left == ["s1.jsonl", "s1.settings.json"]


def test_batches_are_those_of_one_process():
    rows = list(range(10, 21))
    alone = evaluation._batches(rows, 4, Ranks(), {})
    assert alone == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    shared = [evaluation._batches(rows, 4, Ranks(rank, 2), {}) for rank in range(2)]
    assert sorted(shared[0] + shared[1]) == alone
    done = dict.fromkeys([10, 11, 12, 13, 14])
    assert evaluation._batches(rows, 4, Ranks(), done) == alone[1:]
