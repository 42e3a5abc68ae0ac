"""Training a label-map tokenizer: it learns, its data are right, and its commands read and write rpar.tsv."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refhcm.data.dataset import ReferringDataset
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.errors import RefHCMError
from refhcm.models.label_map import Codebook, LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_codes import fill_codes
from refhcm.models.label_map_codes import main as codes_main
from refhcm.models.label_map_data import classes_only, draw, draw_many, read_rows
from refhcm.models.label_map_files import load_label_map, save_label_map
from refhcm.models.label_map_paste import crop_part_map
from refhcm.models.label_map_training import (
    CodebookAverage,
    Recipe,
    class_weights,
    reconstruction_loss,
    refine,
    round_trip,
    train,
)
from refhcm.models.label_map_training import main as training_main

TINY = LabelMapConfig(
    height=32, width=24, channels=16, multipliers=(1,), blocks=1, attention_levels=(), latent=16, embedding=8,
    codebook=16, groups=4, fold=4,
)  # fmt: skip


def _person(seed):
    """Hair over a face over clothes over two legs, of varying proportions."""
    rng = np.random.default_rng(seed)
    parts = np.zeros((96, 48), np.uint8)
    neck, waist = rng.integers(15, 30), rng.integers(45, 65)
    parts[:neck, 14:34] = 13
    parts[: neck // 2, 14:34] = 2
    parts[neck:waist, 4:44] = 5
    parts[waist:, 6:24] = 17
    parts[waist:, 24:42] = 16
    return parts


@pytest.fixture
def rows(tmp_path):
    """An rpar.tsv of four people in pictures of 80 x 120 pixels, without codes."""
    lines = []
    for i in range(4):
        parts = np.zeros((120, 80), np.uint8)
        parts[10:106, 20:68] = _person(i)
        parts[0, 0] = 255
        Image.fromarray(parts).save(tmp_path / f"{i}.png")
        Image.new("RGB", (80, 120)).save(tmp_path / f"{i}.jpg")
        lines.append(f"{i}\tthe person\t20,10,68,106\t\t{i}.png\t{i}.jpg\n")
    path = tmp_path / "rpar.tsv"
    path.write_text("".join(lines))
    return path


def test_training_learns_to_bring_part_maps_through_the_codes():
    torch.set_num_threads(1)
    people = [_person(seed) for seed in range(30)]
    recipe = Recipe(steps=120, batch=8, occlude=0.0)
    untrained = LabelMapTokenizer(TINY).eval()
    trained = train(people[:20], TINY, recipe)
    crops = draw_many(people[20:], np.random.default_rng(0), (32, 24), 0.0, 20)
    before, after = (round_trip(tokenizer, crops) for tokenizer in (untrained, trained))
    assert after["miou"] > 0.7 > 0.3 > before["miou"]
    assert after["codes"] > 4


def test_refining_changes_the_decoder_and_no_code():
    people = [_person(seed) for seed in range(10)]
    tokenizer = LabelMapTokenizer(TINY).eval()
    labels = torch.from_numpy(draw_many(people, np.random.default_rng(0), (32, 24), 0.0, 10))
    codes, logits = tokenizer.encode(labels), tokenizer(labels)
    refine(tokenizer, people, Recipe(steps=3, batch=2))
    assert torch.equal(tokenizer.encode(labels), codes)
    assert not torch.allclose(tokenizer(labels), logits)


def test_unused_entries_of_a_codebook_find_work():
    torch.manual_seed(0)
    codebook = Codebook(8, 2)
    average = CodebookAverage(codebook, decay=0.8)
    corners = torch.tensor([[0.0, 0], [0, 9], [9, 0], [9, 9], [20, 20], [0, 30], [30, 0], [50, 50]])
    average.start(corners[:1].repeat(50, 1) + 0.01 * torch.randn(50, 2))
    for _ in range(100):
        average.update(corners.repeat(8, 1) + 0.01 * torch.randn(64, 2))
    assert len(codebook.nearest(corners).unique()) >= 6  # of 8; all of them began at one corner


def test_gradients_pass_the_codebook_unchanged():
    codebook = Codebook(4, 3)
    codebook.requires_grad_(False)
    latents = torch.randn(2, 3, 4, 5, requires_grad=True)
    replaced, distance = CodebookAverage(codebook).replace(latents)
    (gradient,) = torch.autograd.grad((replaced * 3).sum(), latents, retain_graph=True)
    assert torch.equal(gradient, torch.full_like(latents, 3))
    assert distance.requires_grad and distance > 0


def test_a_perfect_reconstruction_costs_nothing_and_rare_classes_count_more():
    labels = torch.tensor([[[0, 0, 0], [0, 0, 1]]])
    weights = class_weights(labels.numpy(), 3)
    assert weights[1] > weights[0]
    perfect = 40.0 * torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    assert reconstruction_loss(perfect, labels, weights, 1.0) == pytest.approx(0, abs=1e-6)
    assert reconstruction_loss(-perfect, labels, weights, 1.0) > 1


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_mirrored_person_keeps_the_sides_of_the_body(seed):
    # Seen from the front, the right leg is on the left of the picture; so it is in the mirror.
    crop = draw([_person(seed)], np.random.default_rng(seed), (32, 24))
    columns = [np.nonzero(crop == label)[1].mean() for label in (17, 16)]
    assert columns[0] < columns[1]


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_hiding_removes_parts_and_never_invents_them(seed):
    people = [_person(seed), _person(seed + 1)]
    crop = draw(people, np.random.default_rng(seed), (32, 24), occlude=1.0)
    assert set(np.unique(crop)) <= {0, 2, 5, 13, 16, 17}
    assert (crop > 0).mean() > 0.05


def test_ignored_pixels_become_background():
    assert classes_only(np.array([[255, 19, 20]])).tolist() == [[0, 19, 0]]


def test_codes_are_filled_into_the_published_layout(rows, tmp_path):
    torch.manual_seed(0)
    tokenizer = LabelMapTokenizer(LabelMapConfig.preset("compact")).eval()
    save_label_map(tmp_path / "tokenizer", tokenizer, torch.float32)
    filled = tmp_path / "filled.tsv"
    codes_main([str(rows), str(filled), "--tokenizer", str(tmp_path / "tokenizer")])
    before = [line.split("\t") for line in rows.read_text().splitlines()]
    after = [line.split("\t") for line in filled.read_text().splitlines()]
    assert [row[:3] + row[4:] for row in after] == [row[:3] + row[4:] for row in before]
    for row in after:
        part_map = np.array(Image.open(tmp_path / row[4]))
        crop = crop_part_map(classes_only(part_map), [float(v) for v in row[2].split(",")], (64, 48))
        codes = tokenizer.encode(torch.from_numpy(crop)[None])[0].tolist()
        assert row[3] == ",".join(map(str, codes)) and len(codes) == 48
    assert not list(tmp_path.glob("*.part"))


def test_codes_can_be_filled_in_place(rows, tmp_path):
    torch.manual_seed(0)
    tokenizer = LabelMapTokenizer(LabelMapConfig.preset("compact")).eval()
    assert fill_codes(rows, tmp_path / "other.tsv", tokenizer, batch=3) == 4
    assert fill_codes(rows, rows, tokenizer, batch=4) == 4
    assert rows.read_text() == (tmp_path / "other.tsv").read_text()


def test_codes_are_not_computed_for_a_target_that_cannot_be_written(rows, tmp_path):
    for target, said in ((tmp_path, "is a folder"), (rows / "out.tsv", "is a file")):
        with pytest.raises(RefHCMError, match=said):
            fill_codes(rows, target, LabelMapTokenizer(TINY).eval())


def test_a_row_without_its_part_map_is_named_and_nothing_is_written(rows, tmp_path):
    (tmp_path / "2.png").unlink()
    with pytest.raises(RefHCMError, match=r"rpar\.tsv, line 3: .*2\.png"):
        fill_codes(rows, tmp_path / "other.tsv", LabelMapTokenizer(TINY).eval())
    assert not (tmp_path / "other.tsv").exists() and not list(tmp_path.glob("*.part"))


def test_our_own_rows_without_a_part_map_stay_as_they_are(rows, tmp_path):
    boxes = (20, 10, 68, 106)
    known = Person(boxes, parts="0.png")
    with PersonWriter(tmp_path / "own.tsv") as file:
        file.add(PersonRow("a", "0", "0.jpg", (known,), "x"))
        file.add(PersonRow("b", "0", "0.jpg", (Person(boxes),), "x", codes=(3,) * 48))
        file.add(PersonRow("c", "0", "0.jpg", (known, known), "x"))
        file.add(PersonRow("d", "0", "0.jpg", (), "x"))
    before = (tmp_path / "own.tsv").read_text().splitlines()
    assert len(read_rows([tmp_path / "own.tsv"], kind="person")) == 1
    torch.manual_seed(0)
    tokenizer = LabelMapTokenizer(LabelMapConfig.preset("compact")).eval()
    assert fill_codes(tmp_path / "own.tsv", tmp_path / "own.tsv", tokenizer, "person") == 1
    after = (tmp_path / "own.tsv").read_text().splitlines()
    assert after[1:] == before[1:] and after[0] != before[0]
    assert len(ReferringDataset(tmp_path / "own.tsv", "person")[0][1].codes) == 48


def test_people_are_read_as_they_fill_their_boxes(rows):
    people = read_rows([rows])
    assert len(people) == 4
    assert np.array_equal(people[0], _person(0))
    assert len(read_rows([rows], limit=2)) == 2


def test_the_training_command_writes_a_tokenizer(rows, tmp_path, capsys):
    training_main([
        str(rows), "--valid", str(rows), "--out", str(tmp_path / "out"), "--steps", "4", "--batch", "2",
        "--codebook", "8", "--threads", "1",
    ])  # fmt: skip
    assert "miou" in capsys.readouterr().out
    assert load_label_map(tmp_path / "out").config.codebook == 8


def test_the_commands_end_with_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit, match="name at least one"):
        training_main(["--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no dataset file at .*nowhere"):
        training_main([str(tmp_path / "nowhere.tsv"), "--out", str(tmp_path)])
    for option in ("--threads", "--steps", "--batch", "--codebook", "--limit"):
        with pytest.raises(SystemExit, match=f"label_map_training: {option} must be"):
            training_main(["a.tsv", "--out", str(tmp_path), option, "0"])
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="is a file: name a folder"):  # before the data are looked for
        training_main([str(tmp_path / "nowhere.tsv"), "--out", str(tmp_path / "file")])
    with pytest.raises(SystemExit, match="label_map_codes: --threads must be"):
        codes_main(["a.tsv", "b.tsv", "--tokenizer", str(tmp_path), "--threads", "0"])
    with pytest.raises(SystemExit, match=r"label_map\.json is missing"):
        codes_main(["a.tsv", "b.tsv", "--tokenizer", str(tmp_path)])
