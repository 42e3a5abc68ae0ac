"""Ways to train with less: accumulation, mixed precision, recomputation, frozen parts, adapters."""

import json
import math

import pytest
import torch

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

from test_engine_training import TINY, data, train  # noqa: F401

import refhcm
from refhcm.engine.mix import single
from refhcm.engine.parts import freeze, frozen_norms, recompute
from refhcm.engine.weights import described_sizes, load_initial
from refhcm.errors import MissingExtraError, RefHCMError
from refhcm.models import adapters, export
from refhcm.models.adapters import LoraSettings, add_adapters
from refhcm.models.checkpoint import load_folder, save_folder
from refhcm.models.config import ModelConfig
from refhcm.models.refhcm import RefHCM

CALM = ("--dropout", "0", "--freeze-resnet", "--adam-eps", "0.001")
"""Nothing random, nothing that depends on how samples are put together, no noise blown up by Adam."""


def changed(before, after):
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def picture_batch(model, rows=2, words=7):
    torch.manual_seed(0)
    side = model.config.image_size
    tokens = torch.randint(4, 60, (rows, words))
    tokens[1, 5:] = model.config.pad
    return {
        "src_tokens": tokens,
        "patch_images": torch.rand(rows, 3, side, side),
        "patch_masks": torch.ones(rows, dtype=torch.bool),
        "prev_output_tokens": torch.randint(4, 60, (rows, 6)),
    }


def tiny(**changes):
    torch.manual_seed(1)
    return RefHCM(ModelConfig(**{**TINY, "vocab_size": 200, "num_bins": 32, "num_codes": 92, **changes}))


# -- gradient accumulation -----------------------------------------------------------------------------------
def test_accumulated_gradients_equal_those_of_the_large_batch(monkeypatch, data, tmp_path):  # noqa: F811
    """An epoch is one update either way; batches hold answers of different lengths, which must weigh alike."""

    def run(name, batch, together):
        options = ("--batch-size", batch, "--update-freq", together, "--max-epoch", "2", *CALM)
        return train(monkeypatch, data, tmp_path / name, *options)["model"]

    large, accumulated, other = run("large", "16", "1"), run("accumulated", "4", "4"), run("other", "4", "2")
    assert not all(torch.allclose(other[name], tensor, atol=1e-4) for name, tensor in large.items())
    for name, tensor in large.items():
        torch.testing.assert_close(accumulated[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


# -- mixed precision -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("precision", [("--bf16",), ("--fp16", "--fp16-init-scale", "8", "--fp16-no-flatten-grads")])
def test_half_precision_gives_nearly_the_same_run(monkeypatch, data, tmp_path, precision):  # noqa: F811
    """Weights in half precision, a copy in full for the optimizer; checkpoints hold full precision."""
    exact = train(monkeypatch, data, tmp_path / "exact", "--max-update", "4", *CALM)
    rough = train(monkeypatch, data, tmp_path / "rough", "--max-update", "4", *CALM, *precision)
    loss = [checkpoint["extra_state"]["val_loss"] for checkpoint in (exact, rough)]
    assert loss[1] == pytest.approx(loss[0], rel=0.03)
    assert changed(exact["model"], rough["model"])
    assert {t.dtype for t in rough["model"].values() if t.is_floating_point()} == {torch.float32}
    assert rough["last_optimizer_state"]["state"][0]["exp_avg"].dtype == torch.float32


# -- activation checkpointing --------------------------------------------------------------------------------
def test_recomputed_layers_give_the_same_gradients_from_less_memory():
    def run(model):
        kept, weights = {}, {weight.untyped_storage().data_ptr() for weight in model.parameters()}

        def pack(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model.train()
        torch.manual_seed(5)  # dropout and drop path
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out, _ = model(**batch)
            loss = out.logsumexp(-1).sum()
        memory = sum(size for place, size in kept.items() if place not in weights)
        loss.backward()
        return loss.item(), {name: weight.grad for name, weight in model.named_parameters()}, memory

    layers = {"encoder_layers": 4, "decoder_layers": 4, "dropout": 0.2, "encoder_drop_path": 0.2}
    plain, saving = tiny(**layers), tiny(**layers)
    for model in (plain, saving):
        model.encoder.embed_images.requires_grad_(False)  # what the trunk keeps is not the question
    recompute(saving)
    batch = picture_batch(plain, rows=8, words=60)
    (loss, grads, memory), (same, again, less) = run(plain), run(saving)
    assert loss == same
    assert {name for name, grad in grads.items() if grad is not None} == {n for n, g in again.items() if g is not None}
    for name, grad in grads.items():
        torch.testing.assert_close(again[name], grad, rtol=0, atol=0, msg=name)
    assert less < 0.5 * memory, (less, memory)
    with torch.no_grad():  # and answering goes on as before
        assert torch.equal(plain.eval()(**batch)[0], saving.eval()(**batch)[0])


def test_activation_checkpointing_leaves_a_run_as_it_was(monkeypatch, data, tmp_path):  # noqa: F811
    options = ("--max-update", "2", "--dropout", "0.2", "--store-ema")
    plain = train(monkeypatch, data, tmp_path / "plain", *options)
    saving = train(monkeypatch, data, tmp_path / "saving", *options, "--checkpoint-activations")
    assert plain["model"].keys() == saving["model"].keys()
    for part in (lambda c: c["model"], lambda c: c["extra_state"]["ema"]):
        assert not changed(part(plain), part(saving))


# -- freezing ------------------------------------------------------------------------------------------------
def test_frozen_parts_stay_as_they_are_with_their_statistics(monkeypatch, data, tmp_path):  # noqa: F811
    start = train(monkeypatch, data, tmp_path / "start", "--max-update", "1")["model"]
    monkeypatch.setattr("sys.argv", [])
    frozen = ("--freeze", "encoder.embed_images,decoder.embed_tokens,encoder.layers.0.fc1")
    after = train(monkeypatch, data, tmp_path / "run", "--max-update", "1", *frozen, "--restore-file",
                  str(tmp_path / "start" / "checkpoint_last.pt"), "--reset-optimizer", "--reset-lr-scheduler",
                  "--reset-dataloader", "--reset-meters")["model"]  # fmt: skip
    moved = changed(start, after)
    assert moved and not [n for n in moved if n.startswith(("encoder.embed_images", "encoder.layers.0.fc1"))]
    assert not moved & {"encoder.embed_tokens.weight", "decoder.output_projection.weight"}  # one matrix, three names
    assert "encoder.layers.0.fc2.weight" in moved


def test_freezing_goes_by_whole_names_and_refuses_unknown_ones():
    model = tiny(encoder_layers=11)
    freeze(model, "encoder.layers.1, encoder.embed_images.bn1.")
    held = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in held if "bn1" in name} == {"encoder.embed_images.bn1"}
    assert "encoder.layers.1.fc1.weight" in held and "encoder.layers.10.fc1.weight" not in held
    assert frozen_norms(model) == [model.encoder.embed_images.bn1]
    with pytest.raises(RefHCMError, match=r"--freeze encoder\.layer: no parameter .*encoder\.layers"):
        freeze(model, "encoder.layer")


def test_a_picture_size_comes_with_the_model_that_training_starts_from(monkeypatch, data, tmp_path):  # noqa: F811
    first = train(monkeypatch, data, tmp_path / "first", "--max-update", "1", "--patch-image-size", "16")
    assert first["task_state"]["refhcm"]["model"]["image_size"] == 16
    export.main([str(tmp_path / "first" / "checkpoint_last.pt"), str(tmp_path / "model"), "--vocabulary",
                 str(data / "vocabulary")])  # fmt: skip
    start = ("--max-update", "1", "--init-from", str(tmp_path / "model"))
    next_ = train(monkeypatch, data, tmp_path / "next", *start)
    assert next_["task_state"]["refhcm"]["model"]["image_size"] == 16


def test_a_model_that_gains_finer_features_begins_as_it_was(tmp_path):
    """Its cells know more, and nothing is read of it yet."""
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    small = {**sizes, "vocab_size": 300, "num_bins": 32, "num_codes": 92, "image_size": 32}
    old, new = (RefHCM(ModelConfig.preset("compact", **small, trunk_levels=levels)).eval() for levels in (1, 2))
    save_folder(tmp_path, old, {}, torch.float32, [])
    assert described_sizes(str(tmp_path)) == {"image_size": 32, "trunk_levels": 1}
    load_initial(new, str(tmp_path))
    batch = picture_batch(old)
    with torch.no_grad():
        torch.testing.assert_close(new(**batch)[0], old(**batch)[0])
    new.encoder.image_proj.weight.data[:, 112:] = 1
    with torch.no_grad():
        assert not torch.allclose(new(**batch)[0], old(**batch)[0])


# -- LoRA ----------------------------------------------------------------------------------------------------
@pytest.fixture
def peft():
    try:
        return adapters.import_peft()
    except MissingExtraError as error:
        pytest.skip(str(error))


LORA = ("--lora-r", "4", "--lora-alpha", "8", "--lora-dropout", "0.1", "--lora-target-modules", "q_proj,v_proj,fc1")


def test_adapters_are_trained_alone_and_merged_at_export(monkeypatch, data, tmp_path, peft):  # noqa: F811
    train(monkeypatch, data, tmp_path / "start", "--max-update", "1")
    folder, adapted_folder = tmp_path / "model", tmp_path / "adapted"
    words = ["--vocabulary", str(data / "vocabulary"), "--dtype", "float32"]
    export.main([str(tmp_path / "start" / "checkpoint_last.pt"), str(folder), *words])
    start = ("--init-from", str(folder), *LORA, "--lr", "0.05", "--store-ema", "--ema-decay", "0.5")
    train(monkeypatch, data, tmp_path / "run", "--max-update", "2", *start)
    last = train(monkeypatch, data, tmp_path / "run", "--max-update", "4", *start)  # goes on from its checkpoint
    base = load_folder(folder)[0].state_dict()
    state = last["model"]
    for name, tensor in state.items():
        plain = name.replace(".base_layer", "")
        if "lora_" not in name and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, base[plain], rtol=0, atol=0, msg=name)  # norms' statistics too
    updated = {name for name in state if ".lora_B." in name and state[name].abs().max() > 0}
    assert updated == {name for name in state if ".lora_B." in name} and len(updated) == 8
    moments = last["last_optimizer_state"]["state"]
    assert sum(s["exp_avg"].numel() for s in moments.values()) == sum(
        state[n].numel() for n in state if "lora_" in n)  # fmt: skip

    for raw, kept in (["--raw"], state), ([], last["extra_state"]["ema"]):
        export.main([str(tmp_path / "run" / "checkpoint_last.pt"), str(adapted_folder), *words, *raw])
        merged, config = load_folder(adapted_folder)
        assert merged.state_dict().keys() == base.keys() and "lora" not in config
        adapted = RefHCM(merged.config)
        add_adapters(adapted, LoraSettings.from_dict(last["task_state"]["refhcm"]["lora"]))
        adapted.load_state_dict(kept)
        batch = picture_batch(merged)
        with torch.no_grad():
            answers = [model.eval()(**batch)[0] for model in (adapted, merged, load_folder(folder)[0])]
        torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-5)
        assert (answers[0] - answers[2]).abs().max() > 0.01
    assert refhcm.load(adapted_folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lora-r", "4", "--lora-target-modules", "query"), "none is called query"),
        (("--lora-r", "4", "--lora-target-modules", ""), "target modules"),
        (("--lora-r", "-1"), "rank of at least 1"),
        (("--lora-r", "2", "--lora-alpha", "0"), "alpha above 0"),
        (("--freeze", "trunk"), "--freeze trunk: no parameter"),
        (("--ddp-backend", "fully_sharded"), "take --fully-shard"),
    ],
)
def test_wrong_settings_are_one_sentence(monkeypatch, data, tmp_path, peft, options, said):  # noqa: F811
    with pytest.raises(SystemExit, match=said):
        train(monkeypatch, data, tmp_path, "--max-update", "1", *options)


def test_adapters_without_their_library_name_the_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(adapters.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"\.\[lora\]"):
        add_adapters(tiny(), LoraSettings(2))


def test_a_checkpoint_that_lies_about_its_adapters_is_refused(monkeypatch, data, tmp_path, peft):  # noqa: F811
    last = train(monkeypatch, data, tmp_path, "--max-update", "1")
    for lora, said in (({"r": 2}, "not those of a model with"), ({"rank": 2}, "no settings of LoRA")):
        last["task_state"]["refhcm"]["lora"] = lora
        torch.save(last, tmp_path / "other.pt")
        with pytest.raises(RefHCMError, match=said):
            export.export(tmp_path / "other.pt", tmp_path / "out", data / "vocabulary")


def test_a_model_with_adapters_is_never_saved_as_a_folder(tmp_path, peft):
    """Its names would be peft's, which no folder holds."""
    model = tiny()
    add_adapters(model, LoraSettings(2))
    save_folder(tmp_path, model)
    with pytest.raises(RefHCMError, match="does not belong to this model config"):
        load_folder(tmp_path)


# -- files ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("task", "kind"), [("rec", "person"), ("rec", "rkpt"), ("rkpt", "person"), ("rhrc", "person")])
def test_a_single_task_takes_files_of_other_kinds(monkeypatch, data, tmp_path, task, kind):  # noqa: F811
    """REC was published with Refpose's files; converted files are of our own kind."""
    source = f"train/{kind}.tsv,valid/{kind}.tsv"
    train(monkeypatch, data, tmp_path, "--max-update", "1", task=task, source=source)
    published = {"rec": "rec", "rkpt": "rkpt", "rhrc": "rhrc"}[task]
    kinds = [single(task, f"{data}/train/{name}.tsv", "train", 1).streams[0].kind for name in (kind, published)]
    assert kinds == [kind, published]


def test_a_file_that_knows_too_little_for_its_task_is_refused(monkeypatch, data, tmp_path):  # noqa: F811
    with pytest.raises(SystemExit, match="keypoints"):
        train(monkeypatch, data, tmp_path, "--max-update", "1", task="rkpt", source="train/rec.tsv,valid/rec.tsv")


def test_validation_goes_without_a_task_that_its_file_does_not_know(monkeypatch, data, tmp_path, caplog):  # noqa: F811
    """As with few pictures of one's own, of which none that is held out has a caption."""
    (tmp_path / "train.tsv").write_text((data / "train" / "person.tsv").read_text())
    lines = [line.split("\t") for line in (data / "valid" / "person.tsv").read_text().splitlines()]
    (tmp_path / "valid.tsv").write_text("".join("\t".join([*row[:7], "", *row[8:]]) + "\n" for row in lines))
    stream = {"file": "{split}.tsv", "kind": "person", "tasks": ["rec", "rhrc"], "one_task": True}
    (tmp_path / "mix.json").write_text(json.dumps({"streams": [stream]}))
    last = train(monkeypatch, tmp_path, tmp_path / "run", "--max-epoch", "1", "--vocabulary", str(data / "vocabulary"))
    assert math.isfinite(last["extra_state"]["val_loss"])
    warnings = [record.getMessage() for record in caplog.records if "Validation goes without" in record.getMessage()]
    assert len(warnings) == 1 and "valid.tsv can serve task rhrc: 8 do not know captions" in warnings[0]


def test_an_epoch_of_a_mix_has_as_many_items_as_asked_for(monkeypatch, data, tmp_path):  # noqa: F811
    last = train(monkeypatch, data, tmp_path, "--max-epoch", "1", "--batch-size", "2", "--epoch-items", "10")
    assert last["optimizer_history"][-1]["num_updates"] == 5
