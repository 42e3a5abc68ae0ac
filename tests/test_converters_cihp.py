"""The official trees of CIHP and LIP, in small, with their quirks: one row per person, everybody else background."""

import json

import numpy as np
import pytest
from converted import check, convert, rows_of, save_labels, save_picture
from PIL import Image

from refhcm import cli
from refhcm.data.dataset import ReferringDataset
from refhcm.data.masks import decode_mask
from refhcm.errors import RefHCMError

SIZE = (40, 30)


def labels():
    """Two people beside one another; the second is cut off at the right edge and has a pixel without a class."""
    humans = np.zeros(SIZE[::-1], np.uint8)
    humans[5:28, 4:15] = 1
    humans[2:30, 20:40] = 2
    categories = np.where(humans == 1, 13, np.where(humans == 2, 5, 0)).astype(np.uint8)
    categories[10:28, 4:15] = 9
    categories[2, 20] = 0
    return categories, humans


def save_tree(folder, splits=(("Training", ("0000006", "0000007")), ("Validation", ("0000008",)))):
    categories, humans = labels()
    for split, names in splits:
        for name in names:
            save_picture(folder / split / "Images" / f"{name}.jpg", SIZE)
            save_labels(folder / split / "Category_ids" / f"{name}.png", categories)
            save_labels(folder / split / "Human_ids" / f"{name}.png", humans)
            save_picture(folder / split / "Categories" / f"{name}.png", SIZE)  # coloured: not to be read
        short = "train" if split == "Training" else "val"
        (folder / split / f"{short}_id.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


@pytest.fixture
def tree(tmp_path):
    return save_tree(tmp_path / "instance-level_human_parsing")


def test_a_row_per_person(tree, tmp_path):
    report, rows = convert("cihp", tmp_path, tmp_path / "out")
    assert [row["id"] for row in rows["train"]] == [f"cihp:{name}:0" for name in (
        "0000006_0", "0000006_1", "0000007_0", "0000007_1")]  # fmt: skip
    first, second = rows["val"]
    assert first["text"] == "None" and first["image_id"] == "cihp:0000008"
    assert (first["box"], second["box"]) == ("4,5,15,28", "20,2,40,30")
    categories, humans = labels()
    for number, row in enumerate((first, second), 1):
        assert np.array_equal(decode_mask(row["mask"], SIZE), humans == number)
        parts = Image.open(tmp_path / "out" / row["parts"])
        assert parts.mode == "L" and np.array_equal(parts, np.where(humans == number, categories, 0))
    assert report.to_dict()["found_in_source"]["train"] == {"pictures": 2, "people": 4}
    assert "OFFICIAL: 17,520" in report.table()


def test_rows_are_read_back(tree, tmp_path):
    convert("cihp", tree, tmp_path / "out")
    dataset = ReferringDataset(tmp_path / "out" / "train.tsv", "person", parts=True)
    question, answer, image = dataset[1]
    assert image.size == SIZE and question.text is None and question.region == (20, 2, 40, 30)
    assert set(np.unique(answer.parts)) == {0, 5}


def test_palette_labels_are_numbers_not_colours(tree, tmp_path):
    picture = Image.fromarray(labels()[0])
    picture.putpalette([7, 7, 7] * 256)
    picture.save(tree / "Validation" / "Category_ids" / "0000008.png")
    _, rows = convert("cihp", tree, tmp_path / "out")
    assert set(np.unique(Image.open(tmp_path / "out" / rows["val"][0]["parts"]))) == {0, 9, 13}


def test_words_by_person(tree, tmp_path):
    words = {"0000006_0": ["man, left", "a man"], "0000008_1": ["woman in red"], "0009999_0": ["nobody"]}
    (tmp_path / "w.json").write_text(json.dumps(words))
    (tmp_path / "c.csv").write_text('id,caption\n0000006_1,"A woman, [1, 2] smiling."\n')
    options = {"texts": str(tmp_path / "w.json"), "captions": str(tmp_path / "c.csv")}
    report, rows = convert("cihp", tree, tmp_path / "out", **options)
    told = [(row["id"], row["text"], row["captions"]) for row in rows["train"]]
    assert told[:3] == [
        ("cihp:0000006_0:0", "man, left", ""),
        ("cihp:0000006_0:1", "a man", ""),
        ("cihp:0000006_1:0", "None", "A woman, [1, 2] smiling."),
    ]
    assert any(note.startswith("3 people have no words") for note in report.notes)
    assert any("such as those of 0009999_0" in note for note in report.notes)


def test_codes_of_a_named_tokenizer(tree, tmp_path, tiny_folder, tiny_vocabulary, capsys):
    arguments = ["convert", "cihp", "--source", str(tree), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main([*arguments, "--tokenizer", str(tiny_folder)]) == 0
    assert "codes in 4 rows" in capsys.readouterr().out
    samples = check(tmp_path / "out" / "train.tsv", "rpar", tiny_vocabulary)
    assert len(samples) == 4 and all(len(row["codes"].split(",")) == 48 for row in rows_of(tmp_path / "out/val.tsv"))


def test_rhrc_keeps_people_with_captions_only(tree, tmp_path, tiny_vocabulary):
    captions = [{"id": "0000008_0", "captions": ["a man", "a tall [1.5, 2] man"]}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in captions))
    report, rows = convert("rhrc", tree, tmp_path / "out", module="cihp", captions=str(tmp_path / "c.jsonl"))
    (row,) = rows["val"]
    assert set(rows) == {"val"} and row["id"] == "rhrc:0000008_0:0" and row["image_id"] == "cihp:0000008"
    assert row["captions"] == "a man&&a tall [1.5, 2] man"
    assert report.skipped["the person has no captions"] == 5
    _, answer, _ = ReferringDataset(tmp_path / "out" / "val.tsv", "person")[0]
    assert answer.captions == ("a man", "a tall man")
    assert len(check(tmp_path / "out" / "val.tsv", "rhrc", tiny_vocabulary)) == 1


def test_the_published_files_give_words_to_the_people_of_the_official_tree(tree, tmp_path):
    texts, captions = tmp_path / "refcihp_val.tsv", tmp_path / "capcihp_val.tsv"
    texts.write_text("0000008_0\ta man\t4,5,15,28\t3,3\tval/0000008_0.npy\tval/0000008.jpg\n")
    captions.write_text("0000008_1\ta woman&&a girl\t20,2,40,30\tAAAA\n")
    _, rows = convert("cihp", tree, tmp_path / "out", texts=str(texts), captions=str(captions))
    assert [(row["text"], row["captions"]) for row in rows["val"]] == [("a man", ""), ("None", "a woman&&a girl")]


def test_a_bad_caption_is_left_out_alone(tree, tmp_path):
    captions = {"0000008_0": ["&", "a man && a boy", "half \ud800"], "0000008_1": ["&"]}
    (tmp_path / "c.json").write_text(json.dumps(captions))
    report, rows = convert("rhrc", tree, tmp_path / "out", module="cihp", captions=str(tmp_path / "c.json"))
    assert [(row["id"], row["captions"]) for row in rows["val"]] == [("rhrc:0000008_0:0", "a man&&a boy")]
    assert report.skipped["a caption is empty or holds &&"] == 2
    assert report.examples["a caption holds a character that is none"] == ["caption 3 of 0000008_0"]
    assert report.skipped["the person has no captions"] == 5


def test_what_cannot_be_used_is_counted(tree, tmp_path):
    categories, humans = labels()
    folder = tree / "Training"
    save_picture(folder / "Images" / "0000006.jpg", (41, 30))
    save_labels(folder / "Human_ids" / "0000007.png", humans[:, :-1])
    extra = {
        "0000010": (np.where(categories == 9, 20, categories), humans),
        "0000011": (np.where(humans == 2, 0, categories), humans),
        "0000012": (categories, humans),
    }
    for name, (classes, people) in extra.items():
        save_picture(folder / "Images" / f"{name}.jpg", SIZE)
        save_labels(folder / "Category_ids" / f"{name}.png", classes)
        save_labels(folder / "Human_ids" / f"{name}.png", people)
    save_picture(folder / "Category_ids" / "0000012.png", SIZE)
    (folder / "train_id.txt").write_text("0000006\n0000007.jpg\n\n0000010\n0000011\n0000012\n0000099\n0000011\n")
    report, rows = convert("cihp", tree, tmp_path / "out")
    assert [row["id"] for row in rows["train"]] == ["cihp:0000011_0:0"]
    assert report.skipped == {
        "the picture has another size than its annotations say": 1,
        "the labels of classes and of people have different sizes": 1,
        "the labels hold classes that CIHP has not": 1,
        "the person has no parts": 1,
        "a label picture in Category_ids cannot be read as numbers": 1,
        "there is no label picture in Category_ids": 1,
    }


def test_the_flat_layout(tmp_path):
    categories, humans = labels()
    for name in ("0000001", "0000002"):
        save_picture(tmp_path / "s" / "images" / f"{name}.jpg", SIZE)
        save_labels(tmp_path / "s" / "labels" / f"{name}.png", categories)
        save_labels(tmp_path / "s" / "human_ids" / f"{name}.png", humans)
    assert len(convert("cihp", tmp_path / "s", tmp_path / "out")[1]["train"]) == 4
    (tmp_path / "s" / "val_id.txt").write_text("0000002\n")
    assert list(convert("cihp", tmp_path / "s", tmp_path / "out2")[1]) == ["val"]


@pytest.mark.parametrize(
    ("names", "said"), [("a b\n", "line 1 is no id"), (b"\xff\xfe", "it is not text"), ("../x", "line 1 is no id")]
)
def test_wrong_lists_are_refused(tree, tmp_path, names, said):
    path = tree / "Training" / "train_id.txt"
    path.write_bytes(names if isinstance(names, bytes) else names.encode())
    with pytest.raises(RefHCMError, match=said):
        convert("cihp", tree, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tsv"))


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(RefHCMError, match=r"There is no Training or Validation with .* --source is"):
        convert("cihp", tmp_path / "s", tmp_path / "out")
    with pytest.raises(RefHCMError, match="TrainVal_parsing_annotations"):
        convert("lip", tmp_path / "s", tmp_path / "out", module="cihp")


def test_lip_has_one_person_per_picture_and_jumpsuits_are_not_scored(tmp_path):
    parts = np.zeros(SIZE[::-1], np.uint8)
    parts[5:20, 10:30], parts[20:28, 10:30] = 10, 16
    for split in ("train", "val"):
        save_picture(tmp_path / "LIP" / "TrainVal_images" / f"{split}_images" / "77_1.jpg", SIZE)
        annotations = tmp_path / "LIP" / "TrainVal_parsing_annotations"
        save_labels(annotations / f"{split}_segmentations" / "77_1.png", parts)
    (tmp_path / "LIP" / "TrainVal_images" / "train_id.txt").write_text("77_1\n")
    report, rows = convert("lip", tmp_path / "LIP", tmp_path / "out", module="cihp")
    (row,) = rows["train"]
    assert (row["id"], row["image_id"], row["box"]) == ("lip:77_1_0:0", "lip:77_1", "10,5,30,28")
    written = np.array(Image.open(tmp_path / "out" / row["parts"]))
    assert np.array_equal(written, np.where(parts == 10, 255, parts))
    assert any("jumpsuits" in note for note in report.notes)
