"""Masks, regions, several people and nobody are scored right: exact answers full, others what they are worth, and the
same from saved lines, after an interrupt, and asked about one by one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from crowd import PICTURES, SIZE, write_crowd

from refhcm.data.annotation import Question
from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.masks import decode_mask
from refhcm.data.prompts import LOOSELY, POINT, REGION, SCRIBBLE, SCRIBBLE_POINTS, WAYS
from refhcm.data.samples import collate
from refhcm.errors import RefHCMError
from refhcm.inference import evaluate_job, evaluation
from refhcm.inference.answering import answer_batch, ask, look
from refhcm.inference.choosing import choose, task_rows
from refhcm.inference.evaluation import Stopped, evaluate
from refhcm.inference.prediction_files import read_lines
from refhcm.inference.report import told
from refhcm.inference.scoring import score_saved
from refhcm.metrics.agreement import agreement
from refhcm.models.abilities import Abilities, Presence
from refhcm.tasks import Reading

ONE, WORDS = 3 * PICTURES, 5 * PICTURES


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return write_crowd(tmp_path_factory.mktemp("crowd"))


def _evaluate(predictor, crowd, task, out=None, **options):
    return evaluate(predictor, crowd, "person", task, progress=False, java=False, out=out, batch_size=4, **options)


def exact(task, truth):
    """The right answer to a question."""
    if task.meant != "one":
        people = (truth,) if truth.people is None else truth.people
        found = [Reading(one.box, 0.9, one.keypoints, mask=one.mask, score=0.9) for one in people]
        return Reading(people=tuple(found), present=bool(found), presence=0.9 if found else 0.1)
    if truth.people == ():
        return Reading(present=False, presence=0.1)
    needs, points = task.needs, None if truth.keypoints is None else truth.keypoints.astype(np.float32)
    return Reading(
        truth.box, 0.9, points if "keypoints" in needs else None, mask=truth.mask if "mask" in needs else None,
        others=truth.others if "others" in needs else None, parts=truth.parts if "codes" in needs else None,
        codes=(1,) * 48 if "codes" in needs else None, caption="a man" if "captions" in needs else None, score=0.9,
        presence=0.9,
    )  # fmt: skip


@pytest.fixture
def scored(people_predictor, crowd, monkeypatch):
    """Evaluate the answers that `change` makes of exact ones (it gets them and the truth)."""

    def scored(task, change=lambda readings, truth: None, **options):
        def answer(model, task, batch, **options):
            readings = [exact(task, truth) for truth in batch["annotations"]]
            change(readings, batch["annotations"])
            return readings

        monkeypatch.setattr(evaluation, "answer_batch", answer)
        return _evaluate(people_predictor, crowd, task, **options)

    return scored


# -- which rows ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task, protocol, asked", [
    ("rec", "own", ONE), ("res", "own", ONE), ("s1_mask", "own", ONE), ("roi", "own", ONE), ("rhrc", "own", ONE),
    ("grec", "own", WORDS), ("people", "own", PICTURES), ("rec", "presence", ONE + PICTURES),
    ("res", "presence", ONE + PICTURES),
])  # fmt: skip
def test_each_task_is_asked_about_rows_of_its_own(people_predictor, crowd, task, protocol, asked):
    result = _evaluate(people_predictor, crowd, task, protocol=protocol)
    assert result.samples == asked and result.invalid == 0
    assert sum(result.left_out.values()) == 6 * PICTURES - asked


# -- exact answers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task, options, full", [
    ("rec", {"protocol": "presence"}, ["box/acc@0.9", "presence/auc", "presence/n_acc", "presence/t_acc",
                                       "presence/best_f1"]),
    ("res", {}, ["box/miou", "mask/miou", "mask/oiou", "mask/dice", "mask/p@0.9", "agreement/mask_in_box"]),
    ("s1_mask", {}, ["mask/median_iou", "parsing/miou", "keypoints/coco_oks", "agreement/keypoints_in_box",
                     "agreement/mask_in_box", "agreement/mask_parts_iou"]),
    ("roi", {}, ["region/person_miou", "region/pixel_accuracy", "region/person_p_above@0.7"]),
    ("grec", {"each": ["mask"]}, ["people/f1_score@0.5", "people/n_acc", "people/t_acc", "people/macro_f1@0.5",
                                  "people/gres_giou", "people/gres_ciou", "people/gres_n_acc", "people/presence_auc"]),
    ("people", {"each": ["mask", "keypoints"]}, ["people/micro_f1@0.5", "people/ap", "people/mask_ap",
                                                 "people/keypoint_ap"]),
])  # fmt: skip
def test_exact_answers_score_full(scored, task, options, full):
    scores = scored(task, **options).scores
    assert {name: scores[name] for name in full} == pytest.approx(dict.fromkeys(full, 1.0))


def test_masks_are_told_beside_what_the_tokenizer_can_do_whatever_was_answered(scored, people_predictor):
    def nothing(readings, truth):
        for reading in readings:
            reading.mask = reading.others = None

    for task, names in (
        ("res", ["mask/oracle_miou", "mask/oracle_oiou", "mask/oracle_dice"]),
        ("roi", ["region/oracle_person_miou", "region/oracle_pixel_accuracy"]),
    ):
        good, bad = scored(task).scores, scored(task, nothing).scores
        assert [good[name] for name in names] == [bad[name] for name in names] and 0 < good[names[0]] < 1
        assert good[names[0].replace("oracle_", "")] > bad[names[0].replace("oracle_", "")] == 0


def test_half_a_mask_scores_half(scored):
    def halved(readings, truth):
        for reading in readings:
            reading.mask = reading.mask & (np.arange(40)[:, None] < 20)  # 14 of 28 rows

    scores = scored("res", halved).scores
    assert scores["mask/miou"] == scores["mask/oiou"] == 0.5 and scores["mask/dice"] == pytest.approx(2 / 3)
    assert scored("s1_mask", halved).scores["agreement/mask_parts_iou"] == 0.5


def test_a_region_s_map_is_compared_inside_the_region(scored):
    """Neighbours lie outside the boxes of 14 x 30 pixels, and so do their pixels."""
    def swapped(readings, truth):
        for reading in readings:
            reading.mask, reading.others = reading.others, reading.mask

    found = scored("roi").scores
    assert "region/others_miou" not in found  # nobody else is in any region
    wrong = scored("roi", swapped).scores
    assert wrong["region/person_miou"] == wrong["region/others_miou"] == 0
    assert wrong["region/pixel_accuracy"] == pytest.approx(1 - 12 * 28 / (14 * 30))


def test_nobody_counts_as_wrong_where_somebody_is_meant(scored):
    def lost(readings, truth):
        for place, one in enumerate(truth):
            if one.people != ():
                readings[place] = Reading(present=False, presence=0.2)

    for task in ("rec", "rkpt", "res", "s1", "s1_mask"):
        result = scored(task, lost)
        assert result.samples == ONE and result.invalid == 0 and result.scores["box/miou"] == 0
    assert result.scores["mask/miou"] == result.scores["parsing/miou_foreground"] == 0
    assert result.scores["keypoints/published_oks@0.5"] == 0
    assert result.scores["parsing/oracle_miou"] > 0
    scores = scored("rec", lost, protocol="presence").scores
    assert (scores["presence/n_acc"], scores["presence/t_acc"], scores["presence/auc"]) == (1, 0, 1)


def test_one_too_many_and_one_too_few_are_told_apart(scored):
    def more(readings, truth):
        for reading in readings:
            extra = Reading((0.0, 0.0, 3.0, 3.0), 0.1, score=0.1, mask=np.zeros((40, 60), bool))
            reading.people, reading.present = (*reading.people, extra), True

    def fewer(readings, truth):
        for reading in readings:
            reading.people = reading.people[1:]

    above, below = scored("people", more, each=["mask"]).scores, scored("people", fewer, each=["mask"]).scores
    assert (above["people/micro_precision@0.5"], above["people/micro_recall@0.5"]) == (0.75, 1.0)
    assert (below["people/micro_precision@0.5"], below["people/micro_recall@0.5"]) == (1.0, pytest.approx(2 / 3))
    assert above["people/ap"] == pytest.approx(1.0) and below["people/ap"] < 0.7
    assert (above["people/gres_ciou"], below["people/gres_ciou"]) == (1.0, pytest.approx(2 / 3))
    assert scored("grec", more).scores["people/n_acc"] == 0.0


# -- calibration and thresholds -----------------------------------------------------------------------------------
def test_chances_are_calibrated_for_the_figures_and_kept_as_they_were(people_predictor, crowd, tmp_path, monkeypatch):
    plain = _evaluate(people_predictor, crowd, "rec", tmp_path / "plain", protocol="presence")
    monkeypatch.setattr(people_predictor, "presence", Presence(2.0, 0.7, 0.9))
    other = _evaluate(people_predictor, crowd, "rec", tmp_path / "other", protocol="presence")
    before, after = (read_lines(tmp_path / name / "rec.jsonl") for name in ("plain", "other"))
    assert [line["presence"] for line in before] == [line["presence"] for line in after]
    assert plain.scores["presence/auc"] == other.scores["presence/auc"]
    assert plain.scores["presence/ece"] != other.scores["presence/ece"]
    assert score_saved(tmp_path / "other") == [other]
    limit = max(line["presence"] for line in before)
    monkeypatch.setattr(people_predictor, "presence", Presence(threshold=min(limit + 0.01, 1.0)))
    nobody = _evaluate(people_predictor, crowd, "rec", protocol="presence").scores
    assert (nobody["presence/n_acc"], nobody["presence/t_acc"]) == (1.0, 0.0)
    told = _evaluate(people_predictor, crowd, "rec", tmp_path / "told")  # of rows about somebody, nobody is no answer
    assert told.samples == ONE and told.scores["box/miou"] > 0
    assert all(line.get("box") for line in map(json.loads, (tmp_path / "told" / "rec.jsonl").read_text().splitlines()))


# -- asked about each ---------------------------------------------------------------------------------------------
def test_everyone_is_asked_about_on_one_look_at_the_picture_and_answers_as_alone(
    people_predictor, crowd, tmp_path, monkeypatch
):
    model, looks = people_predictor.model, []
    trunk = model.image_features
    monkeypatch.setattr(model, "image_features", lambda pictures: looks.append(len(pictures)) or trunk(pictures))
    result = _evaluate(people_predictor, crowd, "people", tmp_path, each=["mask", "keypoints"])
    assert sum(looks) == PICTURES
    lines = read_lines(tmp_path / "people.jsonl")
    people = [one for line in lines for one in line["people"]]
    assert people and all({"box", "mask", "keypoints", "score", "presence"} <= set(one) for one in people)
    assert score_saved(tmp_path) == [result] and "people/keypoint_ap" in result.scores
    for one in people:
        agreeing, present = agreement(one["box"], np.array(one["keypoints"]), None, None)["keypoints_in_box"]
        assert agreeing == present > 0
    rows = ReferringDataset(crowd, "person")
    row = choose(rows, "people").rows[0]
    task, config = people_predictor.task("rkpt"), model.config
    data = SampleDataset(rows, [people_predictor.task("people")], config.image_size, targets=False, chosen=[row])
    batch = collate([data[0]])
    size = batch["questions"][0].size
    for one in lines[0]["people"][:2]:
        batch["questions"] = [Question(size, region=tuple(one["box"]))]
        features, pictures, questions = look(model, batch)
        (alone,) = ask(model, task, features, pictures, questions, begin=[tuple(one["box"])])
        np.testing.assert_allclose(alone.keypoints, one["keypoints"], atol=1e-3)


# -- saved and resumed --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task, options", [
    ("res", {}), ("roi", {}), ("s1_mask", {}), ("grec", {}), ("people", {"each": ["mask"]}),
    ("rec", {"protocol": "presence"}),
])  # fmt: skip
def test_an_interrupted_evaluation_goes_on_as_if_it_had_not_been(
    people_predictor, crowd, tmp_path, monkeypatch, task, options
):
    whole = _evaluate(people_predictor, crowd, task, tmp_path / "whole", **options)
    calls = []

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer_batch(*arguments, **more)

    monkeypatch.setattr(evaluation, "answer_batch", interrupted)
    try:
        _evaluate(people_predictor, crowd, task, tmp_path / "cut", **options)
    except Stopped:
        assert len(calls) == 2
    monkeypatch.setattr(evaluation, "answer_batch", answer_batch)
    assert _evaluate(people_predictor, crowd, task, tmp_path / "cut", **options) == whole
    one, other = (tmp_path / name / f"{task}.jsonl" for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes() and score_saved(tmp_path / "cut") == [whole]


def test_other_things_asked_about_each_are_other_answers(people_predictor, crowd, tmp_path):
    _evaluate(people_predictor, crowd, "people", tmp_path, each=["mask"])
    with pytest.raises(RefHCMError, match=r"other settings \(each \['mask'\], not None\)"):
        _evaluate(people_predictor, crowd, "people", tmp_path)


# -- the command --------------------------------------------------------------------------------------------------
def test_the_command_asks_all_that_file_and_model_can_serve(
    command, capsys, crowd, tmp_path, people_predictor, monkeypatch
):
    monkeypatch.setattr(evaluate_job, "load", lambda name, device, dtype: people_predictor)
    figures = tmp_path / "figures.json"
    drawn = ["--out", str(tmp_path / "out"), "--attention", "1"]
    assert command.main(["--data", str(crowd), "--each", "mask", "--no-java", "--json", str(figures), *drawn]) == 0
    found = json.loads(figures.read_text())
    tasks = [one["task"] for one in found]
    assert tasks == ["rec", "rkpt", "rpar_full_mask", "rhrc", "s1", "res", "s1_mask", "roi", "grec", "people"]
    assert "people/gres_giou" in found[-1]["scores"] and "left out" not in capsys.readouterr().out
    assert {path.name.partition(".")[0] for path in (tmp_path / "out").glob("*.attention.html")} == set(tasks)
    assert command.main(["--data", str(crowd), "--protocol", "presence"]) == 0
    assert "presence/auc" in capsys.readouterr().out
    monkeypatch.setattr(people_predictor, "abilities", Abilities())
    assert command.main(["--data", str(crowd), "--protocol", "presence", "--tasks", "rec"]) == 1
    assert "not trained with --nobody" in capsys.readouterr().err
    assert command.main(["--data", str(crowd), "--tasks", "people", "--each", "mask"]) == 1
    assert "not trained to be asked by regions" in capsys.readouterr().err


def test_rows_that_do_not_know_enough_say_what(crowd):
    rows = ReferringDataset(crowd, "person")
    assert task_rows(rows, "roi")[1] == {"list everybody": 2, "are about several people or nobody": 4}
    assert task_rows(rows, "people")[1] == {"do not list everybody": 10}


# -- points -------------------------------------------------------------------------------------------------------
def test_rows_that_ask_by_points_are_scored_where_the_model_takes_points(people_predictor, tmp_path, monkeypatch):
    crowd = write_crowd(tmp_path)
    lines = [line.split("\t") for line in crowd.read_text().splitlines()]
    marks = {0: "5,9,7,20;3,4", 1: "30,20"}
    for number, fields in enumerate(lines):
        fields[2] = "None" if number in marks else fields[2]
        fields.append(marks.get(number, ""))
    crowd.write_text("".join("\t".join(fields) + "\n" for fields in lines))
    for task in ("rec", "res", "roi", "rkpt", "rhrc"):
        result = _evaluate(people_predictor, crowd, task, tmp_path / "out")
        assert (result.samples, result.by_points) == (ONE, 2) and "asked by points: 2 questions" in told(result)
        first, second, third, *_ = read_lines(tmp_path / "out" / f"{task}.jsonl")
        assert first["points"] == [[5, 9], [7, 20]] and second["points"] == [[30, 20]] and "points" not in third
        assert not {"text", "region"} & set(first)
    assert {"iou", "mask_iou"} <= set(read_lines(tmp_path / "out" / "res.jsonl")[0]["figures"])
    assert _evaluate(people_predictor, crowd, "grec").samples == WORDS - 2
    assert _evaluate(people_predictor, crowd, "rec", protocol="presence").samples == ONE + PICTURES - 2
    monkeypatch.setattr(people_predictor, "abilities", replace(people_predictor.abilities, point_prompts=False))
    without = _evaluate(people_predictor, crowd, "res")
    assert without.samples == ONE - 2 and without.left_out["ask by points"] == 2


# -- questions put another way -------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("task", ["rec", "rkpt", "rpar_full_mask", "res", "roi", "rhrc"])
def test_all_rows_about_one_person_are_asked_in_the_way_that_is_wanted(scored, crowd, tmp_path, task, way):
    if (task, way) in {("roi", "words"), ("rhrc", "words"), ("rec", REGION)}:
        with pytest.raises(RefHCMError, match=rf"Task {task} .*, so --ask {way} does not go with it"):
            scored(task, way=way)
        return
    result = scored(task, way=way, out=tmp_path)
    assert result.samples == ONE and f"asked by {WAYS[way]}" in told(result)
    lines = read_lines(tmp_path / f"{task}.jsonl")
    for line in lines:
        (asked,) = {"text", "region", "points"} & set(line)
        assert asked == {"words": "text", REGION: "region", LOOSELY: "region"}.get(way, "points")
        if asked == "points":
            mask = decode_mask(line["truth"]["mask"], SIZE)
            assert all(mask[int(y), int(x)] for x, y in line["points"])
            assert len(line["points"]) == (1 if way == POINT else SCRIBBLE_POINTS)
    regions = {row["row"]: row.get("region") for row in lines}
    boxes = {row: line["truth"]["box"] for row, line in zip(regions, lines, strict=True)}
    if task != "roi" and way in (REGION, LOOSELY):
        assert (regions == boxes) == (way == REGION)
    if "box/acc@0.9" in result.scores:
        assert way != REGION and result.scores["box/acc@0.9"] == 1.0
    else:
        assert task in ("roi", "rhrc") or way == REGION
    assert score_saved(tmp_path, java=False) == [result]
    with pytest.raises(RefHCMError, match=r"other settings .*ask"):
        scored(task, out=tmp_path)


def test_what_is_drawn_depends_on_the_rows_id_alone(scored, crowd, tmp_path):
    for way in (LOOSELY, POINT, SCRIBBLE):
        places = []
        for task, limit in (("res", None), ("roi", None), ("res", 2)):
            out = tmp_path / f"{way}{task}{limit}"
            scored(task, way=way, limit=limit, out=out)
            places.append({x["id"]: x.get("region") or x["points"] for x in read_lines(out / f"{task}.jsonl")})
        whole, other, few = places
        assert whole == other and few.items() <= whole.items() and len(few) == 2
        assert len({str(place) for place in whole.values()}) == len(whole) == ONE


def test_a_map_is_measured_over_the_loose_region_that_was_asked_about(scored, tmp_path):
    assert scored("roi", way=LOOSELY, out=tmp_path).scores["region/person_miou"] == 1.0
    for line in read_lines(tmp_path / "roi.jsonl"):
        assert line["truth"]["box"] == line["region"] and line["region"][0] not in (2, 22, 42)


def test_ways_that_cannot_be_are_refused(people_predictor, crowd, tmp_path, monkeypatch, command, capsys):
    def refused(said, task="res", **options):
        with pytest.raises(RefHCMError, match=said):
            _evaluate(people_predictor, crowd, task, **options)

    refused("by 'voice': --ask takes words, region, loose, point, scribble", way="voice")
    refused("Task grec is not about one person", "grec", way=POINT)
    refused("--protocol presence is about words", "rec", way=POINT, protocol="presence")
    published = tmp_path / "rec.tsv"
    published.write_text("1\t1\ta man\t1,1,5,5\tx.png\n")
    with pytest.raises(RefHCMError, match="Task rec needs mask"):
        evaluate(people_predictor, published, "rec", "rec", way=POINT)
    monkeypatch.setattr(people_predictor, "abilities", Abilities(people_predictor.abilities.tasks))
    refused("not trained to be asked by points .*leave --ask scribble out", way=SCRIBBLE)
    refused("not trained to be asked res by regions", way=LOOSELY)
    assert _evaluate(people_predictor, crowd, "roi", way=LOOSELY).samples == ONE  # which is asked by nothing else
    assert command.main(["--score", str(tmp_path), "--ask", "point"]) == 1
    assert "--ask out" in capsys.readouterr().err


def test_the_command_asks_all_tasks_that_can_be(people_predictor, crowd, monkeypatch, command, capsys, tmp_path):
    monkeypatch.setattr(evaluate_job, "load", lambda *options: people_predictor)
    told = tmp_path / "figures.json"
    arguments = ["--data", str(crowd), "--limit", "2", "--no-java", "--json", str(told)]
    tasks = {"rkpt", "s1", "s1_mask", "res", "rpar_full_mask"}
    for way, asked in ((POINT, {*tasks, "rec", "roi", "rhrc"}), (REGION, {*tasks, "roi", "rhrc"}),
                       ("words", {*tasks, "rec", "grec"})):  # fmt: skip
        assert command.main([*arguments, "--ask", way]) == 0
        found = json.loads(told.read_text())
        assert {one["task"] for one in found} == asked and {one["asked_by"] for one in found} == {way}
    capsys.readouterr()


def test_what_a_model_was_not_trained_for_is_asked_where_it_is_named_alone(
    people_predictor, crowd, monkeypatch, command, tmp_path
):
    monkeypatch.setattr(evaluate_job, "load", lambda *options: people_predictor)
    monkeypatch.setattr(people_predictor, "abilities", replace(people_predictor.abilities, tasks=("rkpt", "people")))
    told = tmp_path / "figures.json"
    arguments = ["--data", str(crowd), "--limit", "2", "--no-java", "--json", str(told)]
    for named, asked in (([], ["rkpt", "people"]), (["--tasks", "rec", "rpar"], ["rec", "rpar"])):
        assert command.main([*arguments, *named]) == 0
        assert [one["task"] for one in json.loads(told.read_text())] == asked
