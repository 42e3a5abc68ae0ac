"""Bad rows over several processes: together they may be too many, though each process alone has met few."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from converted import save_picture

pytest.importorskip("hydra")
pytest.importorskip("refhcm.engine")

ROOT = Path(__file__).resolve().parent.parent
ROWS, EPOCHS, SEED = 8, 3, 1
SMALL = {
    "d_model": 32, "encoder_heads": 2, "decoder_heads": 2, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "trunk": "resnet18", "trunk_blocks": (1, 1, 1), "image_size": 32,
    "image_bucket_size": 2, "max_source_positions": 256, "max_target_positions": 256, "token_bucket_size": 16,
}  # fmt: skip
START = f"""\
from refhcm import engine
from refhcm.data import faults
from refhcm.models import config
import refhcm.train

faults.BAD_SHARE = 1 / {ROWS}  # one row, but not two
config.PRESETS["compact"] = {SMALL}
refhcm.train.main()
"""


def never_together():
    """Two rows that different ones of two processes meet in every epoch: batches, here of one row, go out in turns."""
    turns = []
    for epoch in range(1, EPOCHS + 1):
        batches = np.random.default_rng((SEED, epoch)).permutation(ROWS).tolist()
        first = batches[0]  # both look at this one
        np.random.RandomState(SEED + epoch).shuffle(batches)  # fairseq's own
        turns.append({row: None if row == first else batches.index(row) % 2 for row in range(ROWS)})
    pairs = combinations(range(ROWS), 2)
    return next((one, other) for one, other in pairs if all({turn[one], turn[other]} == {0, 1} for turn in turns))


@pytest.fixture
def command(tmp_path, tiny_folder):
    """How two processes on this machine train on eight rows, of which the given ones are bad."""

    def make(*bad):
        save_picture(tmp_path / "a.png", (40, 30))
        lines = [f"{n}\t{n}\tman {n}\t{'bad' if n in bad else '1,2,20,25'}\ta.png\n" for n in range(ROWS)]
        (tmp_path / "train.tsv").write_text("".join(lines))
        (tmp_path / "start.py").write_text(START)
        data = f"{tmp_path / 'train.tsv'},{tmp_path / 'train.tsv'}"
        return [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
            str(tmp_path / "start.py"), data, "--task", "rec", "--vocabulary", str(tiny_folder), "--arch",
            "refhcm_compact", "--criterion", "refhcm_loss", "--optimizer", "adam", "--lr", "0.001", "--batch-size", "1",
            "--cpu", "--distributed-backend", "gloo", "--ddp-backend", "pytorch_ddp", "--find-unused-parameters",
            "--no-save", "--disable-validation", "--max-epoch", str(EPOCHS), "--seed", str(SEED), "--num-workers", "0",
            "--log-format", "simple",
        ]  # fmt: skip

    return make


@pytest.mark.slow
def test_two_processes_stop_together_with_one_report(command):
    one, other = never_together()
    done = subprocess.run(command(one, other), cwd=ROOT, capture_output=True, text=True, timeout=600)
    said = done.stdout + done.stderr
    assert done.returncode, said[-3000:]
    assert "2 of 8 rows of" in said and f"\nline {one + 1}: the box" in said and f"\nline {other + 1}: the box" in said
    assert "Connection closed by peer" not in said  # neither stopped while the other waited for its gradients
    assert said.count("train.py: 2 of 8 rows of") == 2 and "end of epoch 2 " not in said  # but both, when one was over
