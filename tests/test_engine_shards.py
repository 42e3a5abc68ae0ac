"""A run on tar shards is the run on the table that they were made of, to the last bit, also when it is resumed."""

import pytest

pytest.importorskip("hydra")
pytest.importorskip("webdataset")
pytest.importorskip("refhcm.engine")

import torch
from test_engine_training import data, train  # noqa: F401

from refhcm.data.shard_writer import write_shards


def test_training_on_shards_equals_training_on_the_table(monkeypatch, data, tmp_path):  # noqa: F811
    valid = "valid/rkpt.tsv"
    shards = write_shards(data / "train" / "rkpt.tsv", tmp_path / "shards", 10_000)
    assert len(shards.files) > 1
    options = ("--flip", "0.5", "--zoom", "0.7", "--colour", "0.2", "--batch-size", "2")
    table = train(monkeypatch, data, tmp_path / "table", "--max-update", "6", *options, task="rkpt",
                  source=f"train/rkpt.tsv,{valid}")  # fmt: skip
    train(monkeypatch, data, tmp_path / "run", "--max-update", "3", *options, task="rkpt",
          source=f"{shards.name},{valid}")  # fmt: skip
    resumed = train(monkeypatch, data, tmp_path / "run", "--max-update", "6", *options, "--num-workers", "1",
                    task="rkpt", source=f"{shards.name},{valid}")  # fmt: skip
    for name, tensor in table["model"].items():
        torch.testing.assert_close(tensor, resumed["model"][name], rtol=0, atol=0, msg=name)
