"""The command that makes a token space: two files that fit together, and one sentence for senseless numbers."""

import json
from dataclasses import replace

import pytest

from refhcm.data.make_vocabulary import main, words_of
from refhcm.data.person_file import Person, PersonRow, PersonWriter
from refhcm.data.vocabulary_file import VOCABULARY_FILE, describe_vocabulary, load_vocabulary


@pytest.fixture
def words(tmp_path):
    """An rhrc.tsv with one caption."""
    path = tmp_path / "rhrc.tsv"
    path.write_text("0\ta woman in a red coat walks\t0,0,1,1\tpicture.jpg\n")
    return path


def test_the_files_are_a_token_space(words, tmp_path):
    main([str(tmp_path / "out"), str(words), "--kind", "rhrc", "--size", "400", "--bins", "64", "--prompt", "Who {x}?"])
    section = json.loads((tmp_path / "out" / VOCABULARY_FILE).read_text())
    made = load_vocabulary(section, tmp_path / "out")
    assert made.num_bins == 64 and not made.mask_codes and "mask_codes" not in section
    assert not made.pose_start and "pose_start" not in section


def test_codes_for_masks_and_poses_stand_behind_those_of_part_maps(words, tmp_path):
    options = ["--kind", "rhrc", "--size", "400", "--label-codes", "32", "--mask-codes", "20", "--pose"]
    main([str(tmp_path), str(words), *options])
    made = load_vocabulary(json.loads((tmp_path / VOCABULARY_FILE).read_text()), tmp_path)
    tokens = [*range(*made.label_span), made.parts_begin, made.parts_end, *made.parts_queries(48)]
    tokens += [*range(*made.mask_span), made.mask_begin, made.mask_end, *made.mask_queries(48)]
    tokens += [*range(*made.visibility_span), made.pose_begin, made.pose_end, *made.pose_queries(17)]
    assert len(set(tokens)) == 32 + 20 + 2 * 50 + 3 + 2 + 51 and max(tokens) < made.bin_start
    again = load_vocabulary(describe_vocabulary(made), tmp_path)
    assert replace(again, text=made.text) == made


def test_what_rows_do_not_know_is_no_word(tmp_path):
    with PersonWriter(tmp_path / "p.tsv") as file:
        file.add(PersonRow("a", "1", "1.png", (Person((1, 1, 2, 2)),), None, ("a caption",)))
        file.add(PersonRow("b", "1", "1.png", (), "some words"))
    assert list(words_of(tmp_path / "p.tsv", "person")) == [" a caption", " some words"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--bins", "1"), ("--bins", "99999999"), ("--size", "0"), ("--label-codes", "0"), ("--label-codes", "-80"),
     ("--mask-codes", "-1")],
)
def test_senseless_numbers_are_one_sentence(words, tmp_path, option, value):
    with pytest.raises(SystemExit, match=f"make_vocabulary: {option} must be .* not {value}"):
        main([str(tmp_path / "out"), str(words), "--kind", "rhrc", option, value])
    with pytest.raises(SystemExit, match="is a file: name a folder"):
        main([str(words), str(words), "--kind", "rhrc"])
