"""Written files: the published columns, the same bytes for any number of workers, readable by our reader."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from refhcm.data.dataset import ReferringDataset
from refhcm.data.scenes import shares
from refhcm.data.scenes.write import TSV_FILES, Plan, keypoint_field, main, write_scenes
from refhcm.data.validate import validate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(Plan(tmp_path_factory.mktemp("scenes"), "val", 6, 3), workers=1)


def rows(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_two_workers_write_the_same_files(folder, tmp_path):
    again = write_scenes(Plan(tmp_path, "val", 6, 3), workers=2)
    for name in TSV_FILES:
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    for sub in ("images", "parts"):
        names = sorted(path.name for path in (folder / sub).iterdir())
        assert names == sorted(path.name for path in (again / sub).iterdir())
        assert all((again / sub / name).read_bytes() == (folder / sub / name).read_bytes() for name in names)


def test_a_longer_run_begins_with_the_same_scenes(folder, tmp_path):
    shorter = write_scenes(Plan(tmp_path, "val", 2, 3))
    whole = (folder / "rkpt.tsv").read_bytes()
    assert whole.startswith((shorter / "rkpt.tsv").read_bytes())


def test_columns_are_the_published_ones(folder):
    keypoint_rows = rows(folder / "rkpt.tsv")
    assert rows(folder / "rec.tsv") == [[*fields[:4], fields[5]] for fields in keypoint_rows]
    for fields in keypoint_rows:
        assert len(fields) == 6 and len(fields[3].split(",")) == 4 and len(fields[4].split(",")) == 34
        Image.open(io.BytesIO(base64.b64decode(fields[5], validate=True))).verify()
    for fields in rows(folder / "rpar.tsv"):
        assert len(fields) == 6 and fields[3] == ""
        parts = np.asarray(Image.open(folder / fields[4]))
        x1, y1, x2, y2 = map(int, fields[2].split(","))
        covered = np.argwhere(parts)
        assert [*covered.min(0), *(covered.max(0) + 1)] == [y1, x1, y2, x2]
        assert Image.open(folder / fields[5]).size == parts.shape[::-1]
    for fields in rows(folder / "rhrc.tsv"):
        assert len(fields) == 4 and len(fields[1].split("&&")) == 3
    ids = [fields[0] for fields in keypoint_rows]
    assert len(set(ids)) == len(ids)


def test_json_lines_hold_what_the_tables_leave_out(folder):
    records = [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]
    assert len(records) == 6
    people = {person["id"]: person for record in records for person in record["people"]}
    for fields in rows(folder / "rkpt.tsv"):
        person = people[fields[0].rsplit("_", 1)[0]]
        assert fields[2] in [e["text"] for e in person["expressions"]]
        numbers = np.array([float(v) for v in fields[4].split(",")]).reshape(17, 2)
        visible = np.array([v for _, _, v in person["keypoints"]])
        assert np.array_equal(numbers.any(1), visible > 0)


def test_our_own_rows_know_everything_about_a_person(folder):
    """Visibility, the mask (every visible part) and its area among it, as the tables with published columns cannot."""
    data = ReferringDataset(folder / "person.tsv", "person", parts=True, masks=True)
    records = [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]
    people = {person["id"]: person for record in records for person in record["people"]}
    single = data.usable(["text", "box", "keypoints", "parts", "captions", "mask", "others"])
    assert len(single) == len(data.usable([])) == len(rows(folder / "rec.tsv")) > 0
    hidden = 0
    for row in map(int, single):
        _, answer, _ = data[row]
        person = people[data.name(row).rsplit("_", 1)[0]]
        assert np.array_equal(answer.mask, answer.parts > 0) and answer.area == answer.mask.sum()
        np.testing.assert_allclose(answer.keypoints, person["keypoints"], atol=0.06)
        assert list(answer.box) == person["box"] and len(answer.captions) == len(person["captions"])
        hidden += (answer.keypoints[:, 2] == 1).sum()
    assert hidden


def test_rows_about_everybody_several_and_nobody(folder):
    data = ReferringDataset(folder / "person.tsv", "person", parts=True, masks=True)
    records = {r["image_id"]: r for r in map(json.loads, (folder / "people.jsonl").read_text().splitlines())}
    everybody = data.usable(["keypoints", "parts", "mask", "others"], "everybody")
    assert len(everybody) == len(records)
    several = data.usable(["text", "keypoints", "parts", "mask", "others"], "people")
    groups = [int(row) for row in np.setdiff1d(several, data.usable([])) if data[int(row)][1].people is not None]
    written = {kind: sum(len(record[kind]) for record in records.values()) for kind in ("several", "nobody")}
    assert len(groups) == sum(written.values()) and min(written.values()) > 0
    for row in map(int, (*everybody, *groups)):
        question, answer, _ = data[row]
        record = records[data.file[row]["image_id"]]
        meant = range(len(record["people"]))
        if not question.everybody:
            (meant,) = (e["people"] for kind in written for e in record[kind] if e["text"] == question.text)
        assert [list(one.box) for one in answer.people] == sorted(record["people"][number]["box"] for number in meant)
        for one in answer.people:
            assert np.array_equal(one.mask, one.parts > 0) and not (one.others & one.mask).any()
    assert validate(folder / "person.tsv").faults == 0


def test_shares_are_counted(folder, tmp_path, capsys):
    records = [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]
    told = [e for record in records for person in record["people"] for e in person["expressions"]]
    found = shares.shares(folder)
    assert found["expressions noun"] == sum(any(k == "noun" for k, _ in e["terms"]) for e in told) / len(told)
    assert sum(share for name, share in found.items() if name.startswith("scenes of")) == pytest.approx(1)
    shares.main([str(folder)])
    assert len(capsys.readouterr().out.splitlines()) == len(found)
    with pytest.raises(SystemExit, match=r"^shares: There is no .*people\.jsonl"):
        shares.main([str(tmp_path)])


def test_words_for_groups_change_nothing_else(folder, tmp_path):
    plain = write_scenes(Plan(tmp_path, "val", 6, 3, several=0, nobody=0))
    for name in TSV_FILES[:4]:
        assert (plain / name).read_bytes() == (folder / name).read_bytes()
    lines = (folder / "person.tsv").read_text().splitlines()
    kept = [line for line in lines if line.split("_")[1] not in ("several", "nobody")]
    assert kept == (plain / "person.tsv").read_text().splitlines() and len(kept) < len(lines)


@pytest.mark.parametrize("images", ["base64", "files"])
def test_our_reader_takes_the_files(folder, tmp_path, images):
    where = folder if images == "base64" else write_scenes(Plan(tmp_path, "val", 3, 3, images=images))
    assert ReferringDataset(where / "rec.tsv", "rec")[0][0].text
    question, answer, image = ReferringDataset(where / "rkpt.tsv", "rkpt")[0]
    assert image.size == question.size and answer.keypoints.shape[0] == 17
    _, answer, image = ReferringDataset(where / "rhrc.tsv", "rhrc")[0]
    assert answer.captions


def test_a_labelled_joint_in_the_corner_is_not_written_as_unlabelled():
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[3] = (0.01, 0.02, 2)
    numbers = keypoint_field(keypoints).split(",")
    assert numbers[6:8] == ["0.1", "0.1"] and set(numbers[:6] + numbers[8:]) == {"0"}


def test_the_command_tells_what_is_wrong(tmp_path, capsys):
    file, photos = tmp_path / "file", tmp_path / "photos"
    file.write_text("")
    photos.mkdir()
    for number in range(40):  # enough for each split
        (photos / f"{number}.jpg").write_text(f"no picture {number}")
    for out, options, said in (
        (tmp_path, ("--backend", "3d"), "--bank"),
        (tmp_path, ("--count", "0"), "--count must be at least 1"),
        (tmp_path, ("--workers", "0"), "--workers must be at least 1"),
        (tmp_path, ("--seed", "-1"), "--seed must be at least 0"),
        (tmp_path, ("--several", "-1"), "--several must be 0 to 20"),
        (tmp_path, ("--nobody", "nan"), "--nobody must be 0 to 20"),
        (tmp_path, ("--photos", str(tmp_path / "none")), "no folder of photos"),
        (tmp_path, ("--count", "20", "--photos", str(photos)), "is no picture"),
        (file, (), f"{file} is a file"),
    ):
        assert main([str(out), *options]) == 1
        told = capsys.readouterr().err
        assert told.startswith("scenes: ") and said in told and told.count("\n") == 1
    assert main([str(tmp_path), "--count", "1", "--split", "test"]) == 0
    assert (tmp_path / "test" / "people.jsonl").exists()
