"""Rows of a large file come by number, whatever is beside it, and a bad one is named."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refhcm.data import tsv
from refhcm.data.tsv import BadRow, TsvFile, index_path
from refhcm.errors import RefHCMError

ROWS = [("a", "first"), ("b", "zweite Zeile"), ("c", "третья"), ("d", "")]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def rows_of(path):
    file = TsvFile(path, ("id", "text"))
    return [tuple(file[i].values()) for i in range(len(file))]


def test_rows_in_any_order_and_again_from_the_stored_index(table, monkeypatch):
    file = TsvFile(table, ("id", "text"))
    assert [file[i]["id"] for i in (3, 0, 2, 1, 0)] == list("dacba")
    assert index_path(table).is_file()
    monkeypatch.setattr(tsv, "_scan", lambda content: pytest.fail("the index is there"))
    assert rows_of(table) == ROWS


def test_index_follows_the_file(table):
    assert len(TsvFile(table, ("id", "text"))) == 4
    table.write_text("e\tnew\nf\tnewer\n")
    assert rows_of(table) == [("e", "new"), ("f", "newer")]


@pytest.mark.parametrize("junk", [b"", b"junk", pickle.dumps([1, 2, 3]), b"\x93NUMPY\x01\x00"])
def test_broken_or_foreign_index_is_rebuilt_and_never_unpickled(table, junk):
    table.with_name("table.tsv.index.npy").write_bytes(junk)
    assert rows_of(table) == ROWS


def test_index_with_objects_is_not_loaded(table):
    np.save(table.with_name("table.tsv.index.npy"), np.array([{"a": 1}], object), allow_pickle=True)
    assert rows_of(table) == ROWS


def test_folder_that_cannot_be_written_is_no_obstacle(table, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(tsv.tempfile, "mkstemp", refuse)
    assert rows_of(table) == ROWS
    assert not table.with_name("table.tsv.index.npy").exists()


def test_last_line_without_end_windows_ends_and_empty_lines(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"a\t1\r\n\r\n\nb\t2\r\n  \t\nc\t3")
    assert rows_of(path) == [("a", "1"), ("b", "2"), ("  ", ""), ("c", "3")]
    assert TsvFile(path, ("id", "text")).line(1) == 4


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(blacklist_characters="\t\r\n", codec="utf-8"), max_size=8)] * 2)
    )
)
@settings(max_examples=50, deadline=None)
def test_any_text_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    path.write_bytes("".join(f"{a}\t{b}\n" for a, b in rows).encode())
    assert rows_of(path) == rows


def test_a_bad_row_names_file_and_line(table):
    with table.open("ab") as file:
        file.write(b"only one column\n\xff\xfe\tbroken\n")
    file = TsvFile(table, ("id", "text"))
    with pytest.raises(BadRow, match=r"table\.tsv, line 5: 1 columns where 2"):
        file[4]
    with pytest.raises(BadRow, match=r"table\.tsv, line 6: the text is not UTF-8"):
        file[5]
    error = pickle.loads(pickle.dumps(file.bad(0, "why")))
    assert (str(error), error.line) == (f"{table}, line 1: why", 1)


def test_columns_by_name_leave_others_out(table):
    assert TsvFile(table, {"text": 1})[1] == {"text": "zweite Zeile"}


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(RefHCMError, match="no dataset file at"):
        TsvFile(tmp_path / "none.tsv", ("id",))


def test_empty_file_has_no_rows(tmp_path):
    (tmp_path / "t.tsv").touch()
    assert len(TsvFile(tmp_path / "t.tsv", ("id",))) == 0


def test_workers_read_on_their_own(table):
    file = TsvFile(table, ("id", "text"))
    assert file[0]["id"] == "a"
    assert pickle.loads(pickle.dumps(file))[2]["text"] == "третья"
    if hasattr(os, "fork"):
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(file.__getitem__, range(4)) == [file[i] for i in range(4)]
