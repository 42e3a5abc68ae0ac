"""Setting up: a Python that was asked for is never ignored without a word."""

import sys
from pathlib import Path

import pytest

from refhcm import setup_env


def test_another_python_is_refused_where_chosen_and_noted_otherwise(monkeypatch, capsys):
    other = (3, sys.version_info[1] + 1)
    monkeypatch.setattr(setup_env, "venv_version", lambda: other)
    with pytest.raises(SystemExit, match=rf"holds Python 3\.{other[1]}, not .* `make clean`"):
        setup_env.check_python(chosen=True)
    setup_env.check_python(chosen=False)
    assert capsys.readouterr().out.startswith(f"note: .venv holds Python 3.{other[1]}")
    for same in (sys.version_info[:2], None):
        monkeypatch.setattr(setup_env, "venv_version", lambda same=same: same)
        setup_env.check_python(chosen=True)
    assert capsys.readouterr().out == ""


def test_the_version_of_an_environment_is_that_of_its_python(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, "PYTHON", Path(sys.executable))
    assert setup_env.venv_version() == sys.version_info[:2]
    monkeypatch.setattr(setup_env, "PYTHON", tmp_path / "none")
    assert setup_env.venv_version() is None
