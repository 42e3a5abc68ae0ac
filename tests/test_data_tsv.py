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
        st.tuples(*[st.text(st.characters(blacklist_characters="\t\r\n\0\ufeff", codec="utf-8"), max_size=8)] * 2)
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


def test_the_index_is_mapped_and_readable_by_whoever_may_read_the_file(table):
    table.chmod(0o644)
    TsvFile(table, ("id", "text"))
    assert index_path(table).stat().st_mode & 0o777 == 0o644
    stored = TsvFile(table, ("id", "text"))._rows
    while isinstance(stored.base, np.ndarray):
        stored = stored.base
    assert isinstance(stored, np.memmap) and not stored.flags.writeable


def _read_all(path, turn):
    turn.wait()
    return rows_of(path)


def test_many_processes_may_open_a_new_file_at_once(tmp_path):
    """As the ranks and workers of a run do; each gets every row, and one whole index is left."""
    import multiprocessing

    path = tmp_path / "t.tsv"
    wanted = [(str(n), "x" * (n % 50)) for n in range(3000)]
    path.write_text("".join(f"{a}\t{b}\n" for a, b in wanted))
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager, context.Pool(6) as pool:
        turn = manager.Barrier(6)
        found = pool.starmap(_read_all, [(path, turn)] * 6, chunksize=1)
    assert all(rows == wanted for rows in found)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["t.tsv", "t.tsv.index.npy"]


def test_an_index_that_was_cut_off_is_made_anew(table):
    rows_of(table)
    place = index_path(table)
    whole = place.read_bytes()
    for length in (len(whole) - 8, len(whole) - 24, 130, 0):
        place.write_bytes(whole[:length])
        assert rows_of(table) == ROWS
        assert place.read_bytes() == whole


def test_a_file_of_the_same_size_and_another_time_is_read_anew(table):
    rows_of(table)
    content = table.read_bytes()
    table.write_bytes(content.replace(b"a\tfirst\n", b"ab\tfirs\n"))
    os.utime(table, ns=(1, table.stat().st_mtime_ns + 1))
    assert rows_of(table)[0] == ("ab", "firs")


@pytest.mark.skipif(os.name != "posix", reason="permissions of a folder")
@pytest.mark.parametrize("content", ["a\tb\nlonger\tlong\n", "longer\tlong\na\tb\n", "\ufeffa\tb\nlong\tlo\n"])
def test_another_file_of_the_same_size_and_time_is_read_as_it_is(tmp_path, content):
    """A copy that keeps times may put one in the place of another."""
    path = tmp_path / "t.tsv"
    path.write_text("id\ttext\nrow\tword\n")
    assert rows_of(path) == [("id", "text"), ("row", "word")]
    time = path.stat().st_mtime_ns
    path.write_text(content.rstrip("\n").ljust(len("id\ttext\nrow\tword\n") - len(content.encode()) + len(content) - 1)
                    + "\n", encoding="utf-8")  # fmt: skip
    assert path.stat().st_size == len("id\ttext\nrow\tword\n")
    os.utime(path, ns=(time, time))
    wanted = [tuple(line.split("\t")) for line in path.read_text("utf-8-sig").splitlines()]
    assert rows_of(path) == wanted and rows_of(path) == wanted


def test_an_index_that_fits_is_kept_whatever_ends_the_lines(tmp_path, monkeypatch):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tb\r\n\n\nc\td\r\ne\tf")
    assert rows_of(path) == [("a", "b"), ("c", "d"), ("e", "f")]
    monkeypatch.setattr(tsv, "_scan", lambda content: pytest.fail("the index is there"))
    assert rows_of(path) == [("a", "b"), ("c", "d"), ("e", "f")]


def test_a_read_only_folder_is_left_as_it_is(table):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere; test_folder_that_cannot_be_written_is_no_obstacle stands for it")
    table.parent.chmod(0o555)
    try:
        assert rows_of(table) == ROWS and [path.name for path in table.parent.iterdir()] == [table.name]
    finally:
        table.parent.chmod(0o755)


def test_a_mark_of_utf8_at_the_beginning_is_no_letter(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes("\ufeffa\t1\nb\t2\n".encode())
    assert rows_of(path) == [("a", "1"), ("b", "2")]


DAMAGED = {
    "zeros": (b"1\tone\n\0\0\0\0\n3\tx\n", {2: "NUL bytes"}),
    "zeros in a field": (b"1\tone\n2\tt\0o\n", {2: "NUL bytes"}),
    "zeros over a line end": (b"1\tone\0\0\0two\n3\tx\n", {1: "NUL bytes"}),
    "half a letter": (b"1\tone\n2\t\xc3\n", {2: "not UTF-8"}),
    "no tab": (b"1\tone\n2 two\n", {2: "1 columns where 2"}),
    "tab too many": (b"1\tone\n2\ttwo\tthree\n", {2: "3 columns where 2"}),
    "Windows": (b"1\tone\r\n2\ttwo\r\n", {}),
    "UTF-16": ("1\tone\n2\ttwo\n".encode("utf-16-le"), {1: "NUL bytes", 2: "NUL bytes", 3: "NUL bytes"}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_every_damaged_row_is_named_and_the_others_are_read(tmp_path, name):
    content, wrong = DAMAGED[name]
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    file = TsvFile(path, ("id", "text"))
    found = {}
    for row in range(len(file)):
        try:
            fields = file[row]
            assert file.head(row, ["id", "text"]) == fields and "\r" not in fields["text"]
        except BadRow as error:
            found[error.line] = error.why
    assert found.keys() == wrong.keys()
    assert all(said in found[line] for line, said in wrong.items()), found
