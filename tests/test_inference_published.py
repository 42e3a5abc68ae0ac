"""Files in the published layout become, with one command, a folder that answers every question."""

import argparse

import pytest
import torch
from published_vocabulary import published_folder

import refhcm
from refhcm import cli
from refhcm.models.config import ModelConfig
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.refhcm import RefHCM, published_tables

SIZES = {
    "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 16, "decoder_ffn_embed_dim": 16, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1, "resnet_type": "resnet18",
    "token_bucket_size": 16, "image_bucket_size": 4, "max_source_positions": 256, "max_target_positions": 512,
    "code_image_size": 16, "patch_image_size": 64, "disable_entangle": True, "entangle_position_embedding": False,
    "num_bins": 1000, "code_dict_size": 8192,
}  # fmt: skip


@pytest.fixture
def published(tmp_path):
    """A checkpoint and a parsing tokenizer of random weights, written as the published ones are."""
    torch.manual_seed(1)
    model = RefHCM(ModelConfig.from_published_args(SIZES, vocab_size=59457))
    state = {**model.state_dict(), **published_tables(model.config)}
    torch.save({"args": argparse.Namespace(**SIZES), "model": state}, tmp_path / "refhcm.pt")
    shape = LabelMapConfig(
        channels=32, multipliers=(1, 1, 1, 1, 1), blocks=1, attention_levels=(), latent=8, embedding=8
    )
    torch.save({"state_dict": LabelMapTokenizer(shape).state_dict()}, tmp_path / "vqgan.ckpt")
    return tmp_path


def test_published_files_become_a_folder_that_answers(published, photo, capsys):
    words = published_folder() / "dict.txt"
    arguments = ["convert-checkpoint", published / "refhcm.pt", published / "m", "--dict", words]
    assert cli.main([str(value) for value in [*arguments, "--vqgan", published / "vqgan.ckpt"]]) == 0
    assert "Still needed" not in capsys.readouterr().out
    model = refhcm.load(published / "m", device="cpu")
    assert not model.abilities.block_parsing  # the published weights were not trained for it
    assert not model.abilities.keypoints_inside  # and were measured so
    answer = model(photo, "the woman in the red coat")
    assert answer.box is not None and answer.parsing is not None and isinstance(answer.caption, str)
    again = model(photo, region=answer.box)
    assert again.box == pytest.approx(answer.box)


def test_what_is_still_missing_is_said(published, photo, capsys):
    assert cli.main(["convert-checkpoint", str(published / "refhcm.pt"), str(published / "m")]) == 0
    out = capsys.readouterr().out
    assert "dict.txt" in out and "--vqgan" in out
    with pytest.raises(refhcm.RefHCMError, match=r"dict\.txt is missing"):
        refhcm.load(published / "m", device="cpu")
