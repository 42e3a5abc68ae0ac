"""What is read from tar shards equals what is read from the table and files that they were made of."""

import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from converted import save_labels, save_picture
from letters import Letters
from test_data_dataset import BOX, CODES, POINTS, base64_of, picture, write

from refhcm import cli, tasks
from refhcm.data.dataset import ReferringDataset, SampleDataset
from refhcm.data.leakage import drop_rows, find_leaks, open_file
from refhcm.data.rows import guess_kind
from refhcm.data.samples import collate
from refhcm.data.shard_writer import read_size, write_shards
from refhcm.data.shards import shard_paths
from refhcm.data.transforms import Augmentation
from refhcm.data.tsv import index_path
from refhcm.data.validate import validate
from refhcm.data.vocabulary import Vocabulary
from refhcm.errors import RefHCMError

webdataset = pytest.importorskip("webdataset")
SIZE = 10_000
"""The smallest size of a shard: a few of the noisy pictures here."""


def noise(path, seed, size=(48, 36)):
    """A picture that does not compress."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def person_file(folder):
    """Twelve rows of our own, of seven pictures in changing order; part maps of one, two and no people."""
    rows = []
    for n in range(12):
        image = f"images/{n * 5 % 7}.png"
        noise(folder / image, n * 5 % 7)
        parts = ["", f"parts/{n}.png", f"parts/{n}.png|parts/0.png", "|parts/0.png"][n % 4]
        for name in filter(None, parts.split("|")):
            save_labels(folder / name, np.full((36, 48), n + 1))
        box = "|".join(["4,3,20,25"] * (1 + parts.count("|")))
        rows.append((f"r{n}", f"own:{n * 5 % 7}", f"män {n}", box, "", "", parts, "a man", "", "", image))
    path = write(folder / "train.tsv", rows)
    path.write_bytes(path.read_bytes().replace(b"r5\t", b"\nr5\t"))  # an empty line before the sixth row
    return path


def rpar_file(folder):
    save_picture(folder / "imgs" / "train" / "1.jpg", (40, 30))
    (folder / "gts" / "train").mkdir(parents=True)
    for n in range(3):
        np.save(folder / "gts" / "train" / f"1_{n}.npy", np.full((30, 40), n + 1, np.int64))
    rows = [(f"000000{n}_0", "man", BOX, CODES, f"train/1_{n}.npy", "train/1.jpg") for n in range(3)]
    return write(folder / "val.tsv", rows)


def base64_file(folder):
    rows = [(f"{i}_0", i // 3, f"man {i}", BOX, POINTS, base64_of(picture(i // 3))) for i in range(8)]
    return write(folder / "testA.tsv", rows)


@pytest.fixture(params=[person_file, rpar_file, base64_file])
def source(request, tmp_path):
    return request.param(tmp_path / "source" if (tmp_path / "source").mkdir() is None else None)


def everything(path, kind, **options):
    """All that a file says, row by row."""
    data = ReferringDataset(path, kind, parts=True, masks=True, **options)
    told = []
    for row in range(len(data)):
        question, answer, image = data[row]
        people = [answer] if answer.people is None else answer.people
        parts = [None if person.parts is None else person.parts.tolist() for person in people]
        boxes = [person.box for person in people]
        points = None if answer.keypoints is None else answer.keypoints.tolist()
        told.append((data.name(row), data.file.line(row), question, boxes, parts, points, answer.codes,
                     answer.captions, image.tobytes()))  # fmt: skip
    return told, data.groups(2)


def test_rows_of_shards_equal_those_of_the_table(source, tmp_path):
    kind = guess_kind(source)
    made = write_shards(source, tmp_path / "shards", SIZE)
    wanted = everything(source, kind)
    shutil.rmtree(source.parent)  # shards stand alone
    assert guess_kind(made.name) == kind and everything(made.name, kind) == wanted
    assert (made.rows, made.left_out) == (len(wanted[0]), [])
    found = validate(made.name)
    assert (found.rows, found.faults) == (len(wanted[0]), 0), found.first


def test_large_files_are_cut_and_any_order_of_writing_gives_the_same_tars(tmp_path):
    source = person_file(tmp_path)
    made = write_shards(source, tmp_path / "a", SIZE)
    assert len(made.files) == 4 and made.name.endswith("train-{000000..000003}.tar") and made.pictures == 7
    again = write_shards(source, tmp_path / "b", SIZE)
    assert [path.read_bytes() for path in made.files] == [path.read_bytes() for path in again.files]
    whole = write_shards(source, tmp_path / "c", read_size("1GB"))
    assert whole.name == str(tmp_path / "c" / "train-000000.tar")
    assert everything(whole.name, "person") == everything(made.name, "person")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_training_equal_those_of_the_table(tmp_path, workers):
    """Augmented, mixed and grouped: the draws depend on rows, and shards keep their numbers."""
    from torch.utils.data import DataLoader

    source = person_file(tmp_path)
    vocabulary = Vocabulary(Letters(), num_codes=96, num_bins=100, mark_start=40)

    def batches(path):
        augment = Augmentation(flip=0.5, zoom=0.5, colour=0.3)
        tasks_ = [tasks.build(name, vocabulary) for name in ("rec", "rhrc")]
        data = SampleDataset(ReferringDataset(path, "person"), tasks_, 16, grouped=2, one_task=True, augment=augment)
        data.set_epoch(3)
        return list(DataLoader(data, batch_size=3, num_workers=workers, collate_fn=collate))

    shards = write_shards(source, tmp_path / "shards", SIZE).name
    for one, other in zip(batches(source), batches(shards), strict=True):
        assert one["id"] == other["id"] and one["tasks"] == other["tasks"]
        assert one["target"].equal(other["target"])
        assert all(one["net_input"][name].equal(value) for name, value in other["net_input"].items())


def test_the_webdataset_library_reads_them_too(tmp_path):
    made = write_shards(person_file(tmp_path), tmp_path / "shards", SIZE)
    samples = list(webdataset.WebDataset([str(path) for path in made.files], shardshuffle=False))
    assert len(samples) == 7 and all({"png", "tsv"} <= set(sample) for sample in samples)
    assert samples[0]["png"] == (tmp_path / "images" / "0.png").read_bytes()
    assert samples[0]["tsv"].decode().splitlines()[0].split("\t")[:2] == ["1", "r0"]


def test_rows_that_cannot_be_used_are_named_and_left_out(tmp_path, capsys):
    source = person_file(tmp_path)
    (tmp_path / "images" / "3.png").unlink()  # rows 2 and 9
    (tmp_path / "parts" / "5.png").unlink()  # row 5
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join([*lines[:1], b"too\tshort\n", *lines[1:]]))
    out = tmp_path / "shards"
    assert cli.main(["shard", str(source), "--out", str(out), "--kind", "person", "--quiet"]) == 1
    told = capsys.readouterr()
    assert f"{source}, line 2: 2 columns where 11 are expected." in told.out and "no file parts/5.png" in told.out
    assert f"written: {out / 'train-000000.tar'}: 9 rows, 5 pictures" in told.out and "4 rows are left out" in told.out
    data = ReferringDataset(out / "train-000000.tar", "person", parts=True)
    assert [data.name(row) for row in range(9)] == [f"r{n}" for n in (0, 1, 3, 4, 6, 7, 8, 10, 11)]
    assert data[1][1].parts is not None


def test_an_index_is_kept_and_follows_the_shard(tmp_path):
    made = write_shards(person_file(tmp_path), tmp_path / "shards", SIZE)
    wanted = everything(made.name, "person")
    indices = [index_path(path) for path in made.files]
    assert all(path.is_file() for path in indices)
    for path in indices:
        path.write_bytes(pickle.dumps([1, 2]))
    assert everything(made.name, "person") == wanted
    shutil.copy(made.files[1], made.files[0])  # another shard under its name
    with pytest.raises(RefHCMError, match=r"train-000000\.tar and train-000001\.tar both hold line \d+"):
        open_file(made.name)


def test_damaged_and_foreign_tars_are_one_sentence(tmp_path):
    made = write_shards(person_file(tmp_path), tmp_path / "shards", SIZE)
    whole = made.files[0].read_bytes()
    with tarfile.open(made.files[0]) as tar:
        boundary = tar.getmembers()[-1].offset
    for cut in (100, 700, boundary, boundary + 300, len(whole) - 512 * 19):
        made.files[0].write_bytes(whole[:cut])
        with pytest.raises(RefHCMError, match=r"train-000000\.tar is no tar file, or a damaged one \(.*\)"):
            open_file(made.name)
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(tmp_path / "train.tsv", "train.tsv")
    with pytest.raises(RefHCMError, match=r"holds something else than samples of refhcm shard \('?train\.tsv"):
        open_file(other)


def test_missing_shards_and_wrong_names_are_one_sentence(tmp_path):
    made = write_shards(person_file(tmp_path), tmp_path / "shards", SIZE)
    assert shard_paths(made.name) == made.files
    made.files[2].unlink()
    with pytest.raises(RefHCMError, match=r"There is no shard at .*train-000002\.tar: check the path"):
        open_file(made.name)
    with pytest.raises(RefHCMError, match="ends before it begins"):
        shard_paths(tmp_path / "train-{000003..000001}.tar")
    with pytest.raises(RefHCMError, match=r"holds shards of that name already \(train-000000\.tar\)"):
        write_shards(tmp_path / "train.tsv", tmp_path / "shards", SIZE)
    with pytest.raises(RefHCMError, match="is a shard already"):
        write_shards(made.files[0], tmp_path / "more", SIZE)


def test_leaks_are_found_in_shards(tmp_path):
    source = base64_file(tmp_path)
    rhrc = write(tmp_path / "rhrc.tsv", [(f"x{i}", "a man", BOX, base64_of(picture(i), i > 0)) for i in range(2)])
    shards = [open_file(write_shards(path, tmp_path / "shards", SIZE).name) for path in (source, rhrc)]
    assert find_leaks([shards[0]], [open_file(source)])[0].rows == list(range(8))
    assert find_leaks([shards[1]], [open_file(rhrc)])[0].rows == [0, 1]
    with pytest.raises(RefHCMError, match="leave the rows out of the TSV file"):
        drop_rows(shards[0], [1], tmp_path / "shards" / "less.tar")


@pytest.mark.parametrize(
    ("text", "size"), [("1GB", 10**9), ("500 mb", 5 * 10**8), ("20000", 20000), ("1.5G", 15 * 10**8)]
)
def test_sizes(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1GB", "1", "1PB", "nan"])
def test_senseless_sizes_are_refused(text):
    with pytest.raises(RefHCMError, match="a number of bytes like 1GB"):
        read_size(text)


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "webdataset", None)
    with pytest.raises(RefHCMError, match=r"pip install -e '\.\[shards\]'"):
        write_shards(person_file(tmp_path), tmp_path / "shards", SIZE)
    assert not list(Path(tmp_path / "shards").glob("*"))


def test_scores_on_shards_equal_those_on_the_table(tmp_path, tiny_predictor):
    from refhcm.inference.evaluation import evaluate

    source = base64_file(tmp_path)
    shards = write_shards(source, tmp_path / "shards", SIZE).name
    table, tars = (evaluate(tiny_predictor, path, "rkpt", "rkpt", progress=False) for path in (source, shards))
    assert tars.scores == table.scores and tars.samples == table.samples == 8
