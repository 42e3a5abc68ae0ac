"""REFHCM_GOLDEN may name a folder that holds some groups of golden values only."""

import pytest

from refhcm.tests.golden_data import OURS, golden_path, has_golden


@pytest.fixture
def one_group(tmp_path, monkeypatch):
    """A named folder that holds `model/`, and there nothing but sizes."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setenv("REFHCM_GOLDEN", str(tmp_path))
    return tmp_path


def test_a_group_comes_from_the_named_folder_and_the_others_from_ours(one_group):
    assert golden_path("model/config.json") == one_group / "model" / "config.json"
    assert golden_path("preprocess/preprocess.json") == OURS / "preprocess" / "preprocess.json"


def test_groups_are_not_mixed(one_group):
    assert not has_golden("model/training.json") and (OURS / "model" / "training.json").is_file()
    with pytest.raises(pytest.skip.Exception, match=r"model/training\.json"):
        golden_path("model/training.json")


def test_an_empty_variable_names_no_folder(monkeypatch):
    monkeypatch.setenv("REFHCM_GOLDEN", "")
    assert golden_path("model/config.json") == OURS / "model" / "config.json"


def test_a_folder_without_golden_values_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("REFHCM_GOLDEN", str(tmp_path))
    with pytest.raises(pytest.exit.Exception, match="REFHCM_GOLDEN names"):
        golden_path("model/config.json")
