"""Load and convert: what was saved answers the same, damaged or foreign files are refused, nothing in them runs."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import refhcm
from refhcm import cli
from refhcm.errors import RefHCMError
from refhcm.inference.load import CHECKPOINTS, _check_config, choose_device, find_folder, load_fitting_label_map
from refhcm.models.abilities import Abilities, Presence

WORDS = "the woman in the red coat"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model folder that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return config


def test_a_saved_model_answers_as_before(tiny_folder, tiny_predictor, photo):
    loaded = refhcm.load(tiny_folder, device="cpu")
    assert isinstance(loaded, refhcm.RefHCMPredictor)
    answer = loaded(photo, WORDS)
    assert isinstance(answer, refhcm.Answer) and answer.to_dict() == tiny_predictor(photo, WORDS).to_dict()


def test_half_precision_answers_too(tiny_folder, photo):
    answer = refhcm.load(tiny_folder, device="cpu", dtype="bfloat16")(photo, WORDS)
    assert answer.box is not None and answer.parsing is not None


def test_settings_of_the_folder_reach_the_predictor(folder, photo):
    edit_config(folder, present_threshold=1.0, block_parsing=False, presence={"scale": 2, "threshold": 0.25})
    model = refhcm.load(folder, device="cpu")
    assert model.presence == Presence(2.0, 0.0, 0.25)
    assert model.threshold == 1.0 and not model(photo, WORDS).present
    model.threshold = 0.0
    assert set(model.abilities.tasks) == {"rec", "rkpt", "rpar", "rhrc", "s1"}
    assert not model.abilities.block_parsing and model(photo, WORDS).parsing is not None
    assert model(photo, WORDS, tasks=("parsing",)).parsing is not None


def test_a_folder_from_before_there_were_masks_does_what_it_did(folder, photo):
    model = refhcm.load(folder, device="cpu")
    assert model.able == ("box", "keypoints", "parsing", "mask", "caption") and model.abilities.keypoints_inside
    assert set(model.abilities.tasks) == set(Abilities().tasks)
    answer = model(photo, WORDS)
    assert answer.presence is None and answer.present and (answer.mask == (answer.parsing > 0)).all()
    for ask in (model.everybody, lambda photo: model(photo, point=(1, 2)), lambda photo: model.everybody(photo, WORDS)):
        with pytest.raises(RefHCMError, match=r"^This model was not trained [^.]*\.$"):
            ask(photo)


def test_without_a_label_map_the_rest_is_answered(folder, photo):
    (folder / "label_map.json").unlink()
    model = refhcm.load(folder, device="cpu")
    assert model(photo, WORDS).keypoints is not None
    with pytest.raises(RefHCMError, match="label-map tokenizer"):
        model(photo, WORDS, tasks=("parsing",))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "text.model", "label_map.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
def test_damaged_folders_are_refused_in_one_sentence(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        kept = {"empty": b"", "cut": content[: len(content) // 2], "noise": bytes(reversed(content))}
        path.write_bytes(kept[damage])
    with pytest.raises((RefHCMError, FileNotFoundError), match=name) as refusal:
        refhcm.load(folder, device="cpu")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vocabulary": None}, "no section 'vocabulary'"),
        ({"vocabulary": {"text": "klingon"}}, "vocabulary"),
        ({"present_threshold": 7}, "present_threshold"),
        ({"presence": {"threshold": 7}}, "a threshold in 0..1"),
        ({"presence": {"scale": 0}}, "a scale above 0"),
        ({"presence": {"scale": "1"}}, "scale of presence must be a number"),
        ({"presence": {"scales": 1}}, "presence must hold scale, offset, threshold"),
        ({"presence": 1}, "presence must hold scale, offset, threshold"),
        ({"block_parsing": "false"}, "block_parsing must be true or false, not 'false'"),
        ({"region_prompts": 1}, "region_prompts must be true or false, not 1"),
        ({"tasks": "rec"}, "tasks must be a list of names, not 'rec'"),
        ({"format": 99}, "format"),
        ({"model": {"d_model": 10**9}}, "d_model"),
    ],
)
def test_wrong_settings_are_refused(folder, changes, sentence):
    edit_config(folder, **changes)
    with pytest.raises(RefHCMError, match=sentence):
        refhcm.load(folder, device="cpu")


def test_files_of_different_models_are_refused(folder):
    vocabulary = edit_config(folder)["vocabulary"]
    edit_config(folder, vocabulary={**vocabulary, "num_bins": 65})
    with pytest.raises(RefHCMError, match="different models"):
        refhcm.load(folder, device="cpu")


def test_a_label_map_tokenizer_with_too_few_codes_is_refused(folder, tiny_vocabulary):
    vocabulary = replace(tiny_vocabulary, num_codes=67, label_codes=17, mark_start=17)
    with pytest.raises(RefHCMError, match="different models"):
        load_fitting_label_map(folder, vocabulary)


@pytest.mark.parametrize(
    ("name", "value"), [("bos", 1), ("pad", 2), ("eos", 1), ("unk", 2), ("num_bins", 63), ("num_codes", 65)]
)
def test_a_network_of_another_token_space_is_refused(folder, name, value):
    model = edit_config(folder)["model"]
    edit_config(folder, model={**model, name: value})
    with pytest.raises(RefHCMError, match=f"the model config's {name} is {value}, the vocabulary's"):
        refhcm.load(folder, device="cpu")


def test_a_block_has_the_columns_of_a_part_map(tiny_model, tiny_vocabulary, tmp_path):
    for columns in (0, 6):
        _check_config(replace(tiny_model.config, block_columns=columns), tiny_vocabulary, tmp_path)
    with pytest.raises(RefHCMError, match="block_columns must be 0 or 6"):
        _check_config(replace(tiny_model.config, block_columns=5), tiny_vocabulary, tmp_path)


def test_a_folder_of_its_name_does_not_hide_the_bundled_model(folder, monkeypatch):
    folder.rename(folder.with_name("compact"))
    monkeypatch.chdir(folder.parent)
    assert find_folder("compact") == CHECKPOINTS / "compact"
    assert find_folder(Path("compact")).resolve() == folder.with_name("compact")
    assert find_folder("./compact").resolve() == folder.with_name("compact")


@pytest.mark.parametrize(
    "change", [{"mark_start": 17}, {"mark_start": 15}, {"label_codes": 0}, {"label_codes": 67}, {"num_bins": 1}]
)
def test_a_token_space_that_does_not_fit_together_is_refused(folder, change):
    vocabulary = edit_config(folder)["vocabulary"]
    edit_config(folder, vocabulary={**vocabulary, **change})
    with pytest.raises(RefHCMError, match="does not fit together"):
        refhcm.load(folder, device="cpu")


def test_a_label_map_tokenizer_of_another_grid_is_refused(folder):
    settings = json.loads((folder / "label_map.json").read_text())
    (folder / "label_map.json").write_text(json.dumps({**settings, "height": 32}))
    with pytest.raises(RefHCMError, match=r"grid of \(16, 6\) codes"):
        refhcm.load(folder, device="cpu")


@pytest.mark.parametrize("name", ["absent", "/absent/folder", "", "..", "x" * 5000, "a\0b", None, 7])
def test_names_that_stand_for_no_model_are_refused(name):
    with pytest.raises((RefHCMError, FileNotFoundError), match="name is empty" if name == "" else None):
        refhcm.load(name)


def test_unknown_devices_and_dtypes_are_refused(tiny_folder):
    with pytest.raises(RefHCMError, match="no device 'toaster'"):
        refhcm.load(tiny_folder, device="toaster")
    with pytest.raises(RefHCMError, match="sees no such device"):
        refhcm.load(tiny_folder, device="cuda:99")
    with pytest.raises(RefHCMError, match="no device 'cpu:3'"):
        refhcm.load(tiny_folder, device="cpu:3")
    for device in ("meta", "mps", "xpu"):
        with pytest.raises(RefHCMError, match=f"cannot compute on device '{device}'"):
            choose_device(device)
    with pytest.raises(RefHCMError, match="Unknown dtype 'int8'"):
        refhcm.load(tiny_folder, dtype="int8")
    with pytest.raises(RefHCMError, match="Unknown dtype"):
        refhcm.load(tiny_folder, dtype=torch.int64)


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_published_file_is_not_a_folder_and_its_code_never_runs(tmp_path, capsys):
    mark, file = tmp_path / "ran", tmp_path / "model.pt"
    for content in ({"model": Trap(mark)}, Trap(mark)):
        torch.save(content, file)
        with pytest.raises(RefHCMError, match="convert-checkpoint"):
            refhcm.load(file)
        assert cli.main(["convert-checkpoint", str(file), str(tmp_path / "out")]) == 1
        file.write_bytes(pickle.dumps(content))
        assert cli.main(["convert-checkpoint", str(file), str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 4 and "Traceback" not in err
    assert not mark.exists() and not (tmp_path / "out").exists()


def test_conversion_looks_at_the_small_files_first(tmp_path):
    from refhcm.inference.convert import convert

    with pytest.raises(FileNotFoundError, match="published at"):
        convert("absent.pt", tmp_path / "out", dictionary=tmp_path / "dict.txt")
    (tmp_path / "dict.txt").write_text("the 1\n")
    with pytest.raises(RefHCMError, match="not the published dict"):
        convert("absent.pt", tmp_path / "out", dictionary=tmp_path / "dict.txt")
    with pytest.raises(RefHCMError, match="is a file"):
        convert("absent.pt", tmp_path / "dict.txt")
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        convert("absent.pt", tmp_path / "out")
