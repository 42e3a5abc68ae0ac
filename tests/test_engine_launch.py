"""What train.py adds to the options of a run."""

import pytest

pytest.importorskip("hydra")

from refhcm import train


def test_a_run_is_one_process_unless_several_are_asked_for(monkeypatch):
    """fairseq starts one for each GPU that it sees, by means that know nothing of our trainer."""
    alone = ["--distributed-world-size", "1"]
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert train.added(["train.py", "a.tsv,b.tsv"])[-2:] == alone
    assert train.added(["train.py", "--cpu", "--distributed-backend", "gloo"])[-2:] == alone
    assert not set(alone) & set(train.added(["train.py", "--distributed-world-size=4"]))
    assert not set(alone) & set(train.added(["train.py", "--distributed-port", "12345"]))
    monkeypatch.setenv("WORLD_SIZE", "2")  # torchrun
    assert not set(alone) & set(train.added(["train.py"]))


def test_what_was_given_is_not_added_again():
    assert "--user-dir" in train.added(["train.py"])
    given = ["--user-dir=here", "--ignore-unused-valid-subsets"]
    assert not {"--user-dir", *given} & set(train.added(given))
