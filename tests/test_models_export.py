"""What is no checkpoint of ours is refused in one sentence of ours, and nothing in it runs."""

import argparse
import pickle

import pytest
import torch

from refhcm.models import export


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_foreign_files_are_refused_and_the_converter_is_named(tmp_path):
    file, mark = tmp_path / "checkpoint.pt", tmp_path / "ran"
    described = {"model": {}, "vocabulary": {}}
    for content, said in (
        ({"model": Trap(mark)}, "was not opened"),
        ({"args": argparse.Namespace(arch="refhcm"), "model": {}}, "was not"),  # opened; with fairseq: written
        ({"model": {}}, "was not written by"),
        ({"task_state": None, "model": {}}, "was not written by"),
        ({"task_state": {"refhcm": described}}, "was not written by"),
        ({"task_state": {"refhcm": described}, "model": {}, "optimizer_history": []}, "was not written by"),
    ):
        torch.save(content, file)
        with pytest.raises(SystemExit) as refusal:
            export.main([str(file), str(tmp_path / "out"), "--vocabulary", str(tmp_path)])
        told = str(refusal.value)
        assert told.startswith("export: ") and said in told and "refhcm convert-checkpoint" in told
        assert "trust" not in told and "\n" not in told
    file.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(SystemExit, match="is no checkpoint, or damaged"):
        export.main([str(file), str(tmp_path / "out"), "--vocabulary", str(tmp_path)])
    assert not mark.exists() and not (tmp_path / "out").exists()
