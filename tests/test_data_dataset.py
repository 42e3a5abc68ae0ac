"""Published rows become questions with answers; mixes depend on seed and epoch only; bad rows are named."""

import base64
import io

import numpy as np
import pytest
from letters import Letters
from PIL import Image

from refhcm import tasks
from refhcm.data.annotation import PART_NAMES
from refhcm.data.dataset import MultiTaskDataset, ReferringDataset, SampleDataset
from refhcm.data.faults import FaultTally
from refhcm.data.prompts import Prompting
from refhcm.data.samples import collate
from refhcm.data.transforms import Augmentation
from refhcm.data.tsv import BadRow
from refhcm.data.vocabulary import Vocabulary
from refhcm.errors import RefHCMError

SIZE = (40, 30)
BOX = "2.5,3,20,25"
POINTS = ",".join(["5,6"] + ["0,0"] * 15 + ["39,29"])
CODES = ",".join(str(i % 32) for i in range(48))


VOCABULARY = Vocabulary(Letters(), num_codes=96, num_bins=100, mark_start=40)


def picture(shade, kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", SIZE, (shade, 0, 0)).save(stream, kind)
    return stream.getvalue()


def base64_of(data, url_safe=False):
    return (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()


def write(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def rkpt_rows(count, per_picture=1):
    return [
        (f"{i}_0", i // per_picture, f"man {i}", BOX, POINTS, base64_of(picture(i // per_picture)))
        for i in range(count)
    ]


@pytest.fixture
def rkpt(tmp_path):
    return ReferringDataset(write(tmp_path / "rkpt.tsv", rkpt_rows(6, per_picture=2)), "rkpt")


def task(name):
    return tasks.build(name, VOCABULARY)


# -- published layouts ----------------------------------------------------------------------------------
@pytest.mark.parametrize("url_safe", [False, True])
def test_rec_row(tmp_path, url_safe):
    data = picture(250, "JPEG") + b"\xff\xef\xbe"  # bytes that the two alphabets write differently
    path = write(tmp_path / "rec.tsv", [("7_0", 123, "Man in red", BOX, base64_of(data, url_safe))])
    dataset = ReferringDataset(path, "rec")
    question, answer, image = dataset[0]
    assert (question.text, question.region, question.size) == ("Man in red", None, SIZE)
    assert answer.box == (2.5, 3, 20, 25) and answer.keypoints is None and answer.captions == ()
    assert image.mode == "RGB" and image.size == SIZE
    assert (len(dataset), dataset.name(0)) == (1, "7_0")


def test_rkpt_row_and_rec_from_it(rkpt):
    _, answer, _ = rkpt[0]
    assert answer.keypoints[0].tolist() == [5, 6, 2] and answer.keypoints[16].tolist() == [39, 29, 2]
    assert not answer.keypoints[1:16].any()
    rec = ReferringDataset(rkpt.file.path, "rec", columns={"id": 0, "image": 5, "text": 2, "box": 3})
    assert rec[0][1].keypoints is None and rec[0][0].text == "man 0"


def test_keypoints_may_carry_visibility(tmp_path):
    row = list(rkpt_rows(1)[0])
    row[4] = ",".join(["5,6,1"] + ["0,0,0"] * 16)
    assert ReferringDataset(write(tmp_path / "t.tsv", [row]), "rkpt")[0][1].keypoints[0].tolist() == [5, 6, 1]


@pytest.mark.parametrize("base", ["", "annos"])
@pytest.mark.parametrize("sub", [False, True])
def test_rpar_rows(tmp_path, base, sub):
    imgs, gts = ((tmp_path / base / (name if sub else "") / "train") for name in ("imgs", "gts"))
    imgs.mkdir(parents=True)
    gts.mkdir(parents=True, exist_ok=True)
    (imgs / "1.jpg").write_bytes(picture(200, "JPEG"))
    parts = np.zeros(SIZE[::-1], np.int64)
    parts[10:20, 4:10] = PART_NAMES.index("face")
    np.save(gts / "1_0.npy", parts)
    small = Image.fromarray(parts.astype(np.uint8)[::2, ::2])
    small.putpalette([1, 2, 3] * 256)
    small.save(gts / "1_1.png")
    rows = [
        ("1_0", "woman", BOX, CODES, "train/1_0.npy", "train/1.jpg"),
        ("1_1", "None", BOX, CODES, "train/1_1.png", "train/1.jpg"),
    ]
    dataset = ReferringDataset(write(tmp_path / "rpar.tsv", rows), "rpar", parts=True)
    (question, answer, image), (unnamed, halved, _) = dataset[0], dataset[1]
    assert image.size == SIZE and question.text == "woman" and answer.codes[:3] == (0, 1, 2)
    assert answer.parts.dtype == np.uint8 and np.array_equal(answer.parts, parts)
    assert unnamed.text is None and unnamed.region == (2.5, 3, 20, 25)
    assert np.array_equal(halved.parts, parts)  # the nearest of every second pixel
    assert ReferringDataset(tmp_path / "rpar.tsv", "rpar")[0][1].parts is None
    assert dataset.groups(9) == [[0, 1]]


@pytest.mark.parametrize("box", ["5,10,17,25", "5.4,9.8,16.9,25.2", "-3,20,9,35", "30,-5,42,10"])
def test_a_part_map_of_the_size_of_its_box_lies_in_the_box(tmp_path, box):
    (tmp_path / "1.jpg").write_bytes(picture(200, "JPEG"))
    crop = np.random.default_rng(0).integers(1, 20, (15, 12))
    np.save(tmp_path / "m.npy", crop)
    row = ("1_0", "woman", box, CODES, "m.npy", "1.jpg")
    _, answer, _ = ReferringDataset(write(tmp_path / "rpar.tsv", [row]), "rpar", parts=True)[0]
    wanted = np.zeros((60, 80), int)  # with room around the picture
    left, top = (round(float(value)) for value in box.split(",")[:2])
    wanted[15 + top : 30 + top, 20 + left : 32 + left] = crop
    assert np.array_equal(answer.parts, wanted[15:45, 20:60])


def test_rhrc_row(tmp_path):
    row = ("1_0", "A man, [1, 2] smiling.&&a guy", BOX, base64_of(picture(1)))
    path = write(tmp_path / "rhrc.tsv", [row])
    question, answer, _ = ReferringDataset(path, "rhrc")[0]
    assert question.text is None and question.region == answer.box
    assert answer.captions == ("A man, smiling.", "a guy")
    assert ReferringDataset(path, "rhrc", scoring=True)[0][1].captions == ("A man smiling", "a guy")


def test_draft_keeps_labels_in_the_full_picture(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (400, 300)).save(stream, "JPEG")
    path = write(tmp_path / "t.tsv", [("1", 1, "x", "0,0,400,300", base64_of(stream.getvalue()))])
    question, answer, image = ReferringDataset(path, "rec", draft=100)[0]
    assert image.size == (200, 150) and question.size == answer.size == (400, 300)
    assert answer.box == (0, 0, 400, 300)


# -- bad rows -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({3: "1,2,3"}, "the box needs 4"),
        ({3: "a,b,c,d"}, "the box is not numbers"),
        ({3: "nan,1,2,3"}, "the box needs 4 finite"),
        ({3: "20,3,2,25"}, "turned around"),
        ({3: "900,3,950,25"}, "outside its picture of 40x30"),
        ({4: "1,2"}, "keypoints"),
        ({5: "AAAA"}, "not a picture"),
        ({5: "/etc/passwd.jpg"}, "leaves the dataset's folder"),
        ({5: "../other/1.jpg"}, "leaves the dataset's folder"),
        ({5: "none/1.jpg"}, "no file none/1.jpg"),
    ],
)
def test_bad_row_names_file_line_and_cause(tmp_path, change, said):
    rows = [list(row) for row in rkpt_rows(2)]
    for column, value in change.items():
        rows[1][column] = value
    dataset = ReferringDataset(write(tmp_path / "t.tsv", rows), "rkpt")
    dataset[0]
    with pytest.raises(BadRow, match=r"t\.tsv, line 2: ") as caught:
        dataset[1]
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_part_maps_are_checked(tmp_path):
    row = ("1", "x", BOX, CODES, "m.npy", "1.png")
    (tmp_path / "1.png").write_bytes(picture(1))
    dataset = ReferringDataset(write(tmp_path / "t.tsv", [row]), "rpar", parts=True)
    for wrong in (np.full((2, 2), 20), np.zeros((2, 2, 2), int), np.zeros((2, 2))):
        np.save(tmp_path / "m.npy", wrong)
        with pytest.raises(BadRow):
            dataset[0]
    np.save(tmp_path / "m.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(BadRow, match="not an array of numbers"):
        dataset[0]


@pytest.fixture
def faulty(tmp_path):
    """Twenty rows, two of one picture each; rows 4 (line 5) and 9 (line 10) cannot be used."""
    rows = rkpt_rows(20, per_picture=2)
    rows[4] = (*rows[4][:3], "bad", *rows[4][4:])
    rows[9] = (*rows[9][:5], "AAAA")
    return ReferringDataset(write(tmp_path / "t.tsv", rows), "rkpt")


def test_a_bad_row_is_an_error_unless_it_is_set_aside(faulty):
    dataset = SampleDataset(faulty, [task("rec")], 8)
    assert dataset[3][0]["id"] == "3_0"
    with pytest.raises(BadRow, match="line 5: the box"):
        dataset[4]


def test_nothing_takes_the_place_of_a_bad_row(faulty):
    dataset = SampleDataset(faulty, [task("rec")], 8, set_aside=True)
    assert [str(fault.line) for fault in dataset[4]] == ["5"] and [s["id"] for s in dataset[5]] == ["5_0"]
    batch = collate([dataset[3], dataset[4], dataset[5]])
    assert batch["id"] == ["3_0", "5_0"] and [fault.line for fault in batch["faults"]] == [5]
    assert list(collate([dataset[4]])) == ["faults"]
    assert "faults" not in collate([dataset[3]])


def test_of_a_picture_only_the_bad_rows_are_set_aside(faulty):
    dataset = SampleDataset(faulty, [task("rec"), task("rkpt")], 8, grouped=2, set_aside=True)
    found = dataset[2]
    assert [s["id"] for s in found if isinstance(s, dict)] == ["5_0", "5_0"]
    assert [fault.line for fault in found if isinstance(fault, BadRow)] == [5]
    assert [s["id"] for s in dataset[4]] == ["8_0", "8_0"]  # row 9 has another picture, whatever its picture id says
    assert [fault.line for fault in dataset[5]] == [10]


def test_rows_that_cannot_be_split_are_set_aside_too(tmp_path):
    rows = [list(row) for row in rkpt_rows(4, per_picture=2)]
    rows[2] = rows[2][:3]
    dataset = ReferringDataset(write(tmp_path / "t.tsv", rows), "rkpt")
    grouped = SampleDataset(dataset, [task("rec")], 8, grouped=4, set_aside=True)
    items = [item for i in range(len(grouped)) for item in grouped[i]]
    assert [s["id"] for s in items if isinstance(s, dict)] == ["0_0", "1_0", "3_0"]
    assert [fault.line for fault in items if isinstance(fault, BadRow)] == [3]


@pytest.mark.parametrize("workers", [0, 2])
def test_faults_arrive_alike_with_any_number_of_loader_processes(faulty, workers):
    from torch.utils.data import DataLoader

    dataset = SampleDataset(faulty, [task("rec")], 8, set_aside=True)
    batches = list(DataLoader(dataset, batch_size=5, num_workers=workers, collate_fn=collate))
    assert [len(batch["id"]) for batch in batches] == [4, 4, 5, 5]
    assert [[str(fault) for fault in batch.get("faults", [])] for batch in batches] == [
        [f"{faulty.file.path}, line 5: the box is not numbers between commas: 'bad'."],
        [f"{faulty.file.path}, line 10: The picture is not a picture of a known kind (JPEG, PNG, WEBP, GIF, BMP, TIFF, "
         "PPM, AVIF)."],
        [], [],
    ]  # fmt: skip


def test_a_file_may_have_few_bad_rows_and_not_many(faulty, caplog):
    path = str(faulty.file.path)
    tally = FaultTally({path: 2000})
    tally.add([BadRow(path, 5, "bad box"), BadRow(path, 5, "bad box"), BadRow(path, 10, "no picture")])
    assert len(tally) == 2 and [record.message for record in caplog.records] == [
        f"set aside: {path}, line 5: bad box", f"set aside: {path}, line 10: no picture"
    ]  # fmt: skip
    other = FaultTally({path: 2000})
    other.add([BadRow(path, 7, "also bad"), BadRow(path, 10, "no picture")])
    report = r"(?s)3 of 2,000 rows of .*more than the 2 .*\nline 5: .*\nline 7: .*line 10: "
    with pytest.raises(RefHCMError, match=report):
        other.add(tally.rows())


def test_a_task_that_lacks_its_labels_is_refused(rkpt):
    with pytest.raises(RefHCMError, match=r"No row of .*rkpt\.tsv can serve task rpar: 6 do not know codes\. Leave"):
        SampleDataset(rkpt, [task("rec"), task("rpar")], 8)


def test_validation_leaves_out_a_task_that_no_row_serves_and_refuses_to_be_without_any(rkpt, caplog):
    plain = SampleDataset(rkpt, [task("rec"), task("rkpt")], 8)
    samples = SampleDataset(rkpt, [task("rpar"), task("rec"), task("rhrc"), task("rkpt")], 8, drop_idle=True)
    assert [asked.name for asked in samples.tasks] == ["rec", "rkpt"] and len(samples) == len(plain)
    for one, other in zip(samples[4], plain[4], strict=True):
        assert (one["id"], one["task"]) == (other["id"], other["task"])
        assert np.array_equal(one["target"], other["target"])
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "task rpar: 6 do not know codes" in warnings[0] and "task rhrc" in warnings[0]
    with pytest.raises(RefHCMError, match=r"task rpar: 6 do not know codes\. Validate on .*--disable-validation"):
        SampleDataset(rkpt, [task("rpar")], 8, drop_idle=True)


def test_unknown_kind_and_empty_file_are_refused(tmp_path, rkpt):
    with pytest.raises(RefHCMError, match="rec, rkpt, rpar, rhrc"):
        ReferringDataset(rkpt.file.path, "pose")
    (tmp_path / "e.tsv").touch()
    with pytest.raises(RefHCMError, match="no rows"):
        SampleDataset(ReferringDataset(tmp_path / "e.tsv", "rec"), [task("rec")], 8)


# -- samples --------------------------------------------------------------------------------------------
def test_rows_of_one_picture_share_it_in_the_batch(rkpt):
    dataset = SampleDataset(rkpt, [task("rec"), task("rkpt")], 16, grouped=8)
    assert len(dataset) == 3
    items = [dataset[i] for i in range(3)]
    assert [s["id"] for s in items[1]] == ["2_0", "2_0", "3_0", "3_0"]
    net = collate(items)["net_input"]
    assert net["patch_images"].shape == (3, 3, 16, 16)
    assert net["image_index"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_groups_are_limited_and_found_without_image_ids(tmp_path):
    rows = [(f"x{i}", "a man", BOX, base64_of(picture(i % 2))) for i in range(6)]
    dataset = ReferringDataset(write(tmp_path / "rhrc.tsv", rows), "rhrc")
    assert dataset.groups(2) == [[0, 2], [1, 3], [4], [5]]


def snapshot(dataset, indices):
    return [
        (s["id"], s["task"], s["source"].tolist(), float(s["image"].sum()))
        for i in indices
        for s in dataset[i]
    ]


def test_randomness_depends_on_seed_epoch_and_index_only(rkpt):
    def make(seed=1):
        augment = Augmentation(flip=0.5, zoom=0.5, colour=0.3)
        return SampleDataset(rkpt, [task("rec"), task("rkpt")], 16, one_task=True, augment=augment, seed=seed)

    a, b = make(), make()
    forward = snapshot(a, range(6))
    assert snapshot(b, range(5, -1, -1)) == forward[::-1]
    a.set_epoch(1)
    assert snapshot(a, range(6)) != forward
    a.set_epoch(0)
    assert snapshot(a, range(6)) == forward
    assert snapshot(make(seed=2), range(6)) != forward


def test_draws_of_a_row_do_not_depend_on_the_other_rows(rkpt):
    def make(**options):
        augment = Augmentation(flip=0.5, zoom=0.5, colour=0.3)
        return SampleDataset(rkpt, [task("rec")], 16, augment=augment, **options)

    assert snapshot(make(chosen=[1, 4]), range(2)) == snapshot(make(), [1, 4])


def test_augmented_pictures_are_not_shared_between_draws(rkpt):
    augment = Augmentation(zoom=0.5)
    streams = [SampleDataset(rkpt, [task(name)], 16, augment=augment) for name in ("rec", "rkpt")]
    keys = {sample["image_key"] for stream in streams for sample in stream[0]}
    assert len(keys) == 2


def test_some_are_asked_for_by_their_region_alone(tmp_path):
    row = [(i, i, "man", BOX, POINTS, CODES, "", "a man", "", "", base64_of(picture(i))) for i in range(40)]
    rows = ReferringDataset(write(tmp_path / "person.tsv", row), "person")

    def shares(by_region):
        dataset = SampleDataset(rows, [task("rec")], 16, prompting=Prompting(by_region))
        return np.mean([dataset[i][0]["question"].text is None for i in range(40)])

    assert shares(0) == 0 and shares(1) == 1 and 0.2 < shares(0.5) < 0.8


# -- mixes ----------------------------------------------------------------------------------------------
class Stream:
    """Stands for a SampleDataset: items say which they are."""

    def __init__(self, name, size):
        self.name, self.size, self.epoch = name, size, None

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        assert 0 <= index < self.size
        return [{"id": f"{self.name}{index}"}]

    def set_epoch(self, epoch):
        self.epoch = epoch


def ids(mix):
    return [sample["id"] for i in range(len(mix)) for sample in mix[i]]


def test_streams_are_taken_as_their_weights_say():
    mix = MultiTaskDataset([(Stream("a", 5), 3), (Stream("b", 50), 1)], length=40)
    names = ids(mix)
    assert [sum(n[0] == s for n in names) for s in "ab"] == [30, 10]
    assert names[:30] != sorted(names[:30])
    assert all(names.count(f"a{i}") == 6 for i in range(5))


def test_every_item_comes_before_one_comes_again_across_epochs():
    mix = MultiTaskDataset([(Stream("a", 7), 1)], length=3)
    seen = []
    for epoch in range(7):
        mix.set_epoch(epoch)
        seen += ids(mix)
    for begin in range(0, len(seen), 7):
        assert sorted(seen[begin : begin + 7]) == [f"a{i}" for i in range(7)]


def test_a_mix_repeats_with_its_seed_and_changes_with_the_epoch():
    def make(seed):
        return MultiTaskDataset([(Stream("a", 9), 1), (Stream("b", 4), 1)], seed=seed)

    a = make(1)
    first = ids(a)
    assert len(a) == 13 and ids(make(1)) == first and ids(make(2)) != first
    a.set_epoch(3)
    assert ids(a) != first and a.streams[0].epoch == 3


def test_joint_items_hold_one_of_every_stream():
    mix = MultiTaskDataset([(Stream("a", 2), 1), (Stream("b", 5), 9)], joint=True)
    assert len(mix) == 5
    assert all([s["id"][0] for s in mix[i]] == ["a", "b"] for i in range(5))


def test_wrong_mixes_are_refused():
    for streams in ([], [(Stream("a", 2), 0)]):
        with pytest.raises(RefHCMError, match="above zero"):
            MultiTaskDataset(streams)


def test_loader_processes_see_the_same_samples(rkpt):
    from torch.utils.data import DataLoader

    dataset = SampleDataset(rkpt, [task("rec")], 8, augment=Augmentation(zoom=0.5))
    alone, helped = (
        list(DataLoader(dataset, batch_size=2, num_workers=n, collate_fn=collate)) for n in (0, 2)
    )
    for a, b in zip(alone, helped, strict=True):
        assert a["id"] == b["id"] and a["target"].equal(b["target"])
        assert a["net_input"]["patch_images"].equal(b["net_input"]["patch_images"])


# -- columns -------------------------------------------------------------------------------------------------
def person_rows(count, columns=11):
    row = ["p", "1", "the man", BOX, "", "", "", "", "", "", base64_of(picture(0))]
    return [[f"p{number}", *row[1:], *[""] * (columns - 11)] for number in range(count)]


@pytest.mark.parametrize(("kind", "rows"), [
    ("rec", [row[:4] + row[5:] for row in rkpt_rows(3)]),
    ("rkpt", rkpt_rows(3)),
    ("rpar", [(name, "man", BOX, CODES, "a.png", image) for name, *_, image in rkpt_rows(3)]),
    ("rhrc", [(name, "a man", BOX, image) for name, *_, image in rkpt_rows(3)]),
    ("person", person_rows(3)),
    ("person", person_rows(3, 12)),
])  # fmt: skip
@pytest.mark.parametrize("more", [1, -1])
def test_a_row_with_another_number_of_columns_is_bad_in_every_kind(tmp_path, kind, rows, more):
    """A tab in the words, say: every field behind it would be read from the wrong column."""
    wide = len(rows[1])
    changed = [*rows[1], "more"] if more > 0 else rows[1][:-1]
    data = ReferringDataset(write(tmp_path / "a.tsv", [rows[0], changed, rows[2]]), kind)
    bad = []
    data.load([0, 1], bad)
    assert [error.why for error in bad] == [f"{wide + more} columns where {wide} are expected."]
    assert data[2][1].box is not None
    name = "rec" if "text" in data.file.columns else "rhrc"
    with pytest.raises(BadRow, match="line 2"):
        SampleDataset(data, [task(name)], 16, targets=False)[1]


def test_a_name_that_no_file_can_have_is_a_bad_row(tmp_path):
    data = ReferringDataset(write(tmp_path / "a.tsv", [["1_0", "1", "man", BOX, "a" * 5000 + ".png"]]), "rec")
    with pytest.raises(BadRow, match="line 1: there is no file aaa"):
        data[0]
