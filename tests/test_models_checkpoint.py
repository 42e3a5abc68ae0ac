"""Folders and published files: what is saved comes back, what is wrong is refused and never run."""

import argparse
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import pytest
import torch

from refhcm.errors import RefHCMError
from refhcm.inference.load import load
from refhcm.models.checkpoint import (
    convert_published,
    load_folder,
    read_published,
    read_published_vqgan,
    save_folder,
)
from refhcm.models.config import ModelConfig
from refhcm.models.refhcm import RefHCM, published_tables

SMALL = {
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48,
    "decoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "resnet_type": "resnet18",
    "token_bucket_size": 16,
    "image_bucket_size": 4,
    "max_source_positions": 64,
    "max_target_positions": 64,
    "code_image_size": 16,
    "patch_image_size": 64,
    "num_bins": 10,
    "code_dict_size": 20,
    "disable_entangle": True,
    "entangle_position_embedding": False,
    "arch": "refhcm",
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = RefHCM(ModelConfig.from_published_args(SMALL, vocab_size=60))
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.fill_(100_000.0)  # beyond float16
    return model.eval()


@pytest.fixture
def published(model):
    """What the published trainer writes: three token matrices, tables, a pickled Namespace."""
    state = OrderedDict((name, value.clone()) for name, value in model.state_dict().items())
    state.update(published_tables(model.config))
    state["encoder.version"] = state["decoder.version"] = torch.tensor([3.0])
    return {
        "args": None,
        "cfg": {"model": argparse.Namespace(**SMALL), "task": {"_name": "refcoco"}},
        "model": state,
        "optimizer_history": [{"num_updates": 5}],
        "extra_state": {"best": torch.tensor(0.5, dtype=torch.float64)},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(1000)}}},
    }


def same(first, second):
    """Equal weights, entry for entry."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name].float(), b[name].float()) for name in a)


# -- our folder ----------------------------------------------------------------------------------------------
def test_a_saved_model_comes_back(model, tmp_path):
    text = tmp_path / "text.model"
    text.write_bytes(b"pieces")
    sections = {"vocabulary": {"text": "sentencepiece"}, "present_threshold": 0.25}
    save_folder(tmp_path / "m", model, sections, torch.float32, files=[text])
    loaded, config = load_folder(tmp_path / "m")
    assert same(loaded, model) and not loaded.training
    assert config["vocabulary"] == sections["vocabulary"] and config["present_threshold"] == 0.25
    assert loaded.config == model.config
    assert (tmp_path / "m" / "text.model").read_bytes() == b"pieces"
    assert loaded.decoder.output_projection.weight is loaded.encoder.embed_tokens.weight


def test_half_precision_keeps_batch_norms_in_full(model, tmp_path):
    save_folder(tmp_path, model)
    loaded, _ = load_folder(tmp_path, dtype=torch.bfloat16)
    assert loaded.encoder.image_proj.weight.dtype == torch.bfloat16
    assert loaded.encoder.embed_images.bn1.running_var.dtype == torch.float32
    assert loaded.encoder.embed_images.bn1.running_var.eq(100_000).all()
    with torch.inference_mode():
        images = torch.randn(1, 3, 64, 64, dtype=torch.bfloat16)
        out, _ = loaded(torch.tensor([[0, 5, 2]]), None, torch.tensor([[0, 6]]), images)
    assert out.isfinite().all()


def test_the_token_matrix_is_stored_once_and_no_tables_are(model, tmp_path):
    save_folder(tmp_path, model, dtype=torch.float32)
    names = header(tmp_path)
    assert [name for name in names if "embed_tokens" in name] == ["encoder.embed_tokens.weight"]
    assert not [name for name in names if "output_projection" in name or "bucket" in name]


def header(folder):
    with open(folder / "model.safetensors", "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size))


def test_weights_that_are_not_finite_are_not_saved(model, tmp_path):
    broken = RefHCM(model.config)
    broken.encoder.image_proj.bias.data[0] = float("nan")
    with pytest.raises(RefHCMError, match=r"image_proj\.bias is not finite"):
        save_folder(tmp_path, broken)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_cut_or_foreign_weight_file_is_refused(model, tmp_path):
    save_folder(tmp_path, model)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-100], content[:50], b"", b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(RefHCMError, match="damaged or cut short"):
            load_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 64}, "calls for"),
        ({"encoder_layers": 2}, "lacks encoder"),
        ({"decoder_layers": 1}, "unknown entry decoder"),
        (
            {"d_model": 1 << 19, "vocab_size": 1 << 20},
            "calls for",
        ),  # 2 TiB, were memory taken before the check
        ({"d_model": -1}, "must lie in"),
        ({"trunk": "vit"}, "no trunk"),
        ({"surprise": 1}, "no field"),
        ({"encoder_heads": "2"}, "must be int"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(model, tmp_path, change, message):
    save_folder(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"].update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RefHCMError, match=message):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 1}', '{"format": 99, "model": {}}', "[" * 100_000]
)
def test_a_broken_config_file_is_refused(model, tmp_path, text):
    save_folder(tmp_path, model)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RefHCMError):
        load_folder(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_folder(tmp_path)


# -- published files -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("legacy", [False, True])
def test_a_published_file_gives_its_model(model, published, tmp_path, legacy):
    torch.save(published, tmp_path / "refhcm.pt", _use_new_zipfile_serialization=not legacy)
    checkpoint = read_published(tmp_path / "refhcm.pt")
    assert checkpoint.config == model.config and checkpoint.args["arch"] == "refhcm"
    fresh = RefHCM(checkpoint.config)
    fresh.load_state_dict(checkpoint.state, strict=True)
    assert same(fresh, model)


def test_a_published_file_becomes_a_folder(model, published, tmp_path):
    torch.save(published, tmp_path / "refhcm.pt")
    convert_published(tmp_path / "refhcm.pt", tmp_path / "m", {"text": "gpt2"}, torch.float32)
    loaded, config = load_folder(tmp_path / "m")
    assert same(loaded, model) and config["vocabulary"] == {"text": "gpt2"}


def test_older_and_leaner_files_load_too(model, published, tmp_path):
    state = published["model"]
    for name in list(state):
        if name.endswith(
            ("bucket", "version", "image_position_idx", "num_batches_tracked")
        ) or name.startswith("decoder.embed_tokens"):
            del state[name]
    state["classification_heads.vqa.dense.weight"] = torch.zeros(3, 3)
    old = {"args": argparse.Namespace(**SMALL), "model": state}
    torch.save(old, tmp_path / "ofa.pt")
    fresh = RefHCM(model.config)
    fresh.load_state_dict(read_published(tmp_path / "ofa.pt").state, strict=True)
    assert same(fresh, model)


def test_averaged_weights_are_taken_when_asked(model, published, tmp_path):
    published["extra_state"]["ema"] = {"encoder.image_proj.bias": torch.full((32,), 7.0)}
    torch.save(published, tmp_path / "refhcm.pt")
    assert read_published(tmp_path / "refhcm.pt", ema=True).state["encoder.image_proj.bias"].eq(7).all()
    assert not read_published(tmp_path / "refhcm.pt").state["encoder.image_proj.bias"].eq(7).any()


def test_averaged_weights_that_are_not_there(published, tmp_path):
    torch.save(published, tmp_path / "refhcm.pt")
    with pytest.raises(RefHCMError, match="no averaged weights"):
        read_published(tmp_path / "refhcm.pt", ema=True)


def test_differing_token_matrices_give_a_warning_and_the_output_wins(published, tmp_path):
    published["model"]["decoder.output_projection.weight"] += 1
    torch.save(published, tmp_path / "refhcm.pt")
    with pytest.warns(UserWarning, match="token matrices"):
        checkpoint = read_published(tmp_path / "refhcm.pt")
    expected = published["model"]["decoder.output_projection.weight"]
    assert torch.equal(checkpoint.state["encoder.embed_tokens.weight"], expected)


class Payload:
    """Pickles into a call of os.system."""

    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("reader", [read_published, read_published_vqgan])
def test_code_in_a_file_is_refused_and_not_run(published, tmp_path, legacy, reader):
    published["extra_state"]["payload"] = Payload(tmp_path / "ran")
    torch.save(published, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RefHCMError, match=r"asks for (posix|nt|argparse)\.\w+"):
        reader(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(RefHCMError):
        read_published(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_cut_file_is_refused(published, tmp_path, legacy):
    path = tmp_path / "refhcm.pt"
    torch.save(published, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for size in (len(content) - 2000, len(content) // 2, 300, 10, 0):
        path.write_bytes(content[:size])
        with pytest.raises(RefHCMError, match="fetch it again"):
            read_published(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("model"), "no entry 'model'"),
        (lambda c: c["model"].pop("encoder.layers.0.fc1.weight"), r"lacks encoder\.layers\.0\.fc1"),
        (lambda c: setattr(c["cfg"]["model"], "encoder_layers", 12), "encoder_layers=1"),
        (lambda c: setattr(c["cfg"]["model"], "resnet_type", "resnet152"), "bottlenecks"),
        (lambda c: setattr(c["cfg"]["model"], "resnet_blocks", 3), "bottlenecks"),
        (lambda c: setattr(c["cfg"]["model"], "scale_heads", False), "scale_heads=False"),
        (
            lambda c: c["model"].update({"encoder.embed_positions.weight": torch.zeros(5000, 32)}),
            "max_source_positions=4998",
        ),
        (lambda c: c["model"]["encoder.token_rp_bucket"].add_(1), "token_rp_bucket"),
        (lambda c: c["model"].update({"encoder.fc": [1]}), "no tensor"),
        (
            lambda c: c["model"].update({"encoder.x": torch.zeros(1).expand(1 << 20, 1 << 20)}),
            "claims more numbers",
        ),
    ],
)
def test_a_file_of_another_model_is_refused(published, tmp_path, change, message):
    change(published)
    torch.save(published, tmp_path / "other.pt")
    with pytest.raises(RefHCMError, match=message):
        read_published(tmp_path / "other.pt")


def test_arguments_that_are_no_plain_values_are_left_out(published, tmp_path):
    published["cfg"]["model"].encoder_layers = torch.ones(2)
    published["cfg"]["model"].resnet_blocks = [torch.ones(2)]
    torch.save(published, tmp_path / "odd.pt")
    read = read_published(tmp_path / "odd.pt")
    assert read.config.encoder_layers == 1 and "encoder_layers" not in read.args and "resnet_blocks" not in read.args


def test_unknown_entries_stop_a_conversion(published, tmp_path):
    published["model"]["encoder.adapters.0.weight"] = torch.zeros(2)
    torch.save(published, tmp_path / "other.pt")
    with pytest.raises(RefHCMError, match=r"unknown entry encoder\.adapters"):
        convert_published(tmp_path / "other.pt", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_lightning_file_is_read_without_lightning(tmp_path, monkeypatch):
    package = "pytorch_lightning.callbacks.model_checkpoint"
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", package):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    key = type("ModelCheckpoint", (), {"__module__": package})
    sys.modules[package].ModelCheckpoint = key
    content = {
        "callbacks": {key: {"best_model_score": torch.tensor(1.0)}},
        "state_dict": {"a": torch.ones(2)},
    }
    torch.save(content, tmp_path / "model.ckpt")
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", package):
        monkeypatch.delitem(sys.modules, name)
    assert torch.equal(read_published_vqgan(tmp_path / "model.ckpt")["a"], torch.ones(2))
    assert package not in sys.modules


# -- nested too deeply ---------------------------------------------------------------------------------------
def text_pickle(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


@pytest.mark.parametrize("where", ["model", "state_dict", "cfg", "args"])
@pytest.mark.parametrize("nested", [b"]" * 50_000 + b"a" * 49_999, b")" + b"\x85" * 50_000], ids=["lists", "tuples"])
def test_a_pickle_that_is_nested_deeply_is_one_sentence(tmp_path, where, nested):
    """As the file's own entries, or among the arguments, which are compared one by one."""
    inner = b"}" + text_pickle("x") + nested + b"s"
    inner = b"}" + text_pickle("model") + inner + b"s" if where == "cfg" else inner
    others = b"" if where == "model" else text_pickle("model") + b"}s"
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02}" + others + text_pickle(where) + inner + b"s.")
        file.writestr("x/version", "3\n")
    for reader in (read_published, read_published_vqgan):
        with pytest.raises(RefHCMError) as told:
            reader(tmp_path / "x.pt")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("where", ["model", "vocabulary", "d_model"])
@pytest.mark.parametrize("depth", [970, 100_000])
def test_a_description_that_is_nested_deeply_is_one_sentence(tiny_folder, tmp_path, where, depth):
    """Deeper than Python reads, and so deep that it is read but hardly printed."""
    config = json.loads((tiny_folder / "config.json").read_text())
    (config["model"] if where == "d_model" else config)[where] = "HERE"
    text = json.dumps(config).replace('"HERE"', "[" * depth + "]" * depth)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes((tiny_folder / "model.safetensors").read_bytes())
    with pytest.raises(RefHCMError) as told:
        load(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json"])
@pytest.mark.parametrize("depth", [970, 100_000])
def test_a_run_that_starts_from_such_a_description_is_told_so(tmp_path, name, depth):
    pytest.importorskip("hydra")
    weights = pytest.importorskip("refhcm.engine.weights")
    (tmp_path / name).write_text('{"vocabulary": ' + "[" * depth + "]" * depth + "}")
    for reader in (weights.find_vocabulary, *([weights.described_sizes] if depth > 1000 and "config" in name else [])):
        with pytest.raises(RefHCMError) as told:
            reader(str(tmp_path))
        assert "\n" not in str(told.value)
