"""What is in a file is what is read, to the last digit and in order; what is not readable is named with its place."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ssl_mi.information.apps.columns import SideSpec
from ssl_mi.information.apps.files import open_columns, read_sides

X, Y = SideSpec("x"), SideSpec("y")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", np.arange(3.0))
    return tmp_path


def write(name, text):
    Path(name).write_bytes(text.encode())
    return name


def first(name, columns=None, key=None, text=False, header=None):
    """The x side of a file beside y.npy."""
    return read_sides(name, "y.npy", SideSpec("x", key, columns, text), Y, header)[0]


def both(name, x=None, y=None, header=None):
    a, b = read_sides(name, None, SideSpec("x", columns=x), SideSpec("y", columns=y), header)
    return a.values.tolist(), b.values.tolist()


# Arrays


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "bool"])
def test_arrays_come_as_they_were_saved(dtype):
    saved = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    np.save("a.npy", saved)
    np.savez("a.npz", zx=saved, zy=saved[:, :1])
    for name in ("a.npy", "a.npz:zx"):
        values, source = first(name)
        assert values.dtype == dtype
        assert (values == saved).all()
        assert source == name


def test_columns_of_an_array_are_taken_by_number_and_range_in_the_order_asked_for():
    np.save("a.npy", np.arange(12).reshape(3, 4))
    assert first("a.npy", "3,0:2").values.tolist() == [[3, 0, 1], [7, 4, 5], [11, 8, 9]]
    assert first("a.npy", "3,0:2").source == "a.npy, columns 3, 0, 1"
    x, y = both("a.npy", y="0")
    assert x == [[1, 2, 3], [5, 6, 7], [9, 10, 11]]
    assert y == [[0], [4], [8]]


def test_an_npz_gives_the_array_that_is_named_or_its_only_one_or_the_one_called_like_the_side():
    np.savez("one.npz", whatever=np.ones(3))
    np.savez("sides.npz", y=np.full(3, 2.0), x=np.full(3, 1.0))
    assert first("one.npz").source == "one.npz:whatever"
    assert first("sides.npz").values.tolist() == [1, 1, 1]
    assert first("sides.npz", key="y").values.tolist() == [2, 2, 2]
    assert both("sides.npz") == ([1, 1, 1], [2, 2, 2])


def test_a_file_whose_name_looks_like_file_and_key_is_itself():
    np.savez("a.npz:b.npz", z=np.ones(3))
    assert first("a.npz:b.npz").values.tolist() == [1, 1, 1]


class Trap:
    """Unpickling this would leave a trace."""

    def __reduce__(self):
        return open, ("trace", "w")


def test_objects_are_refused_and_never_unpickled(folder):
    trap = np.array([Trap()] * 3, dtype=object)
    np.save("trap.npy", trap)
    np.savez("trap.npz", t=trap)
    for name in ("trap.npy", "trap.npz:t"):
        with pytest.raises(ValueError, match=rf"{name} holds Python objects, which are never unpickled"):
            first(name)
    assert not (folder / "trace").exists()


def damaged(how):
    np.savez("good.npz", z=np.arange(500.0))
    np.save("good.npy", np.arange(500.0))
    data = Path("good.npz").read_bytes()
    if how == "flipped.npz":
        data = data[:900] + bytes([data[900] ^ 255]) + data[901:]
    elif how == "cut.npz":
        data = data[:1000]
    elif how == "cut.npy":
        data = Path("good.npy").read_bytes()[:1000]
    elif how == "text.npy":
        data = b"hello"
    elif how == "empty.npy":
        data = b""
    Path(how).write_bytes(data)
    return how


@pytest.mark.parametrize("how", ["flipped.npz", "cut.npz", "cut.npy", "text.npy", "empty.npy"])
def test_a_damaged_file_is_called_damaged(how):
    with pytest.raises(ValueError, match=rf"{how}.* is damaged, or not an? "):
        first(damaged(how))


def test_other_mistakes_with_arrays_are_named():
    np.save("cube.npy", np.zeros((3, 2, 2)))
    np.save("hole.npy", np.array([[0, 1], [2, np.nan], [np.inf, 5]]))
    np.save("when.npy", np.zeros(3, "datetime64[s]"))
    np.savez("views.npz", zx=np.ones(3), zy=np.ones(3))
    Path("npz.npy").write_bytes(Path("views.npz").read_bytes())
    for name, said in {
        "cube.npy": r"cube.npy has shape \(3, 2, 2\): one row a sample is needed",
        "hole.npy": r"hole.npy holds 2 rows with NaN or infinity, first nan at row 1, column 1 \(both from 0\)",
        "when.npy": r"when.npy holds datetime64\[s\] values",
        "npz.npy": r"npz.npy is an .npz under another name",
        "views.npz": r"views.npz holds 2 arrays \(zx, zy\): say which is meant",
        "views.npz:zz": r"none of them 'zz'",
        "views.npz:zxx": r"none of them 'zxx' \(nearest: zx",
        ".": "is a folder",
        "z.h5": r"'.h5' are not supported; use .npy, .npz, .csv, .tsv, .parquet",
    }.items():
        with pytest.raises(ValueError, match=said):
            first(name)
    with pytest.raises(FileNotFoundError, match=r"no file cub.npy \(nearest: cube.npy"):
        first("cub.npy")
    with pytest.raises(ValueError, match="already names an array: leave out --x-key zx"):
        first("views.npz:zy", key="zx")
    with pytest.raises(ValueError, match="'a' names an array"):
        first("cube.npy", key="a")
    with pytest.raises(ValueError, match="name the array of each"):
        read_sides("views.npz", None, SideSpec("x", key="zx"), Y)


# Text


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n5,6\n",
        "\ufeffa,b\r\n1,2\r\n3,4\r\n5,6",
        "a;b\n1;2\n3;4\n5;6\n",
        "a\tb\n1\t2\n3\t4\n5\t6\n",
        '"a", "b"\n"1", 2\n\n3, 4\n5, 6\n\n',
        "1,2\n3,4\n5,6\n",
    ],
)
def test_tables_of_numbers_are_read_with_and_without_a_header_and_with_any_separator(text):
    side = first(write("t.csv", text))
    assert side.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert side.values.dtype == np.float64


def test_a_header_is_a_line_without_numbers_or_with_a_word_above_a_number():
    assert len(first(write("words.csv", "red,big\nblue,small\nred,small\n"), text=True).values) == 2
    assert len(first("words.csv", text=True, header=False).values) == 3
    assert first(write("odd.csv", "a,2020\n1,2\n3,4\n"), "2020").values.tolist() == [[2], [4]]
    assert first(write("label.csv", "cat,1\ndog,2\ncat,3\n"), "1").values.tolist() == [[1], [2], [3]]
    write("count.csv", "0,1,2\n5,6,7\n8,9,10\n")
    with pytest.raises(ValueError, match=r"counts 0, 1, 2.*--header.*--no-header"):
        first("count.csv")
    assert first("count.csv", header=True).values.tolist() == [[5, 6, 7], [8, 9, 10]]
    assert len(first("count.csv", header=False).values) == 3


def test_columns_are_found_by_name_pattern_and_number():
    write("t.csv", "z_0,z_1,label,a*b\n1,2,cat,7\n3,4,dog,8\n5,6,cat,9\n")
    assert both("t.csv", "z_*", "label") == ([[1, 2], [3, 4], [5, 6]], [["cat"], ["dog"], ["cat"]])
    assert both("t.csv", "a*b", "0:2")[0] == [[7], [8], [9]]
    with pytest.raises(ValueError, match=r"no column 'labels' \(nearest: label\), asked for by --y-columns; it has 4"):
        both("t.csv", "z_0", "labels")
    with pytest.raises(ValueError, match="column 'z_1' is on both sides"):
        both("t.csv", "z_0,z_1", "z_1")
    with pytest.raises(ValueError, match="say which are x and which are y"):
        both("t.csv")
    with pytest.raises(ValueError, match=r"mixes text \(column 'label'\) and numbers \(column 'z_0'\)"):
        both("t.csv", "z_0,label", "z_1")
    write("twice.csv", "a,a,b\n1,2,3\n")
    with pytest.raises(ValueError, match="2 columns called 'a': name it by number"):
        both("twice.csv", "a", "b")
    assert both("twice.csv", "1", "b") == ([[2]], [[3]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n3,oops\n", "line 3, column 'b' is 'oops', no number"),
        ("a,b\n1,2\n3,\n", "line 3, column 'b' is empty: drop the row, or fill it"),
        ("a,b\n1,2\n\n3,NA\n", "line 4, column 'b' is 'NA': drop the row"),
        ("a,b\n1,2\n3,nan\n", "line 3, column 'b' is nan: drop the row"),
        ("a,b\n1,2\n3,inf\n", "line 3, column 'b' is inf"),
        ("a,b\n1,2\n3,4,5\n", "line 3, has 3 cells, the first line has 2"),
        ("a;b\n1,5;2\n3,5;4\n", "line 2, column 'a' is '1,5', no number; decimals need a point"),
        ("a\n1\n\n3\n", "line 3, column 'a' is empty"),
        ("label\nx\ny\n3\nx\n", r"line 4, column 'label' is a number \(3\) among text; to treat all as symbols"),
        ("name\n" + "".join(f"n{i}\n" for i in range(20)), "20 different values in 20 rows, and symbols repeat"),
        (",a\n0,5\n1,6\n", "column 0 has no name, as the index that pandas writes"),
        ("a,b\n", "has no rows under its header"),
        ("\n\n", "is empty"),
        ("\0\0\1", "is no text"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_by_line_and_column(text, said):
    with pytest.raises(ValueError, match=rf"t.csv.*{said}"):
        first(write("t.csv", text))


def test_symbols_may_be_words_or_be_declared():
    assert first(write("t.csv", "kind\nb\na\nb\n")).values.tolist() == [["b"], ["a"], ["b"]]
    assert first(write("n.csv", "code\n1\n2a\n1\n"), text=True).values.tolist() == [["1"], ["2a"], ["1"]]
    np.save("codes.npy", np.array([3, 1, 3]))
    assert first("codes.npy", text=True).values.tolist() == ["3", "1", "3"]


def test_a_text_that_is_not_utf_8_is_refused():
    Path("t.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        first("t.csv")


def test_a_long_table_is_read_whole_and_its_mistakes_found_late():
    rows = [f"{i},{i / 7!r}" for i in range(5000)]
    assert first(write("t.csv", "\n".join(rows))).values.tolist() == [[i, i / 7] for i in range(5000)]
    rows[4999] = "4999,x"
    with pytest.raises(ValueError, match="line 5000, column '1' is 'x'"):
        first(write("t.csv", "\n".join(rows)))


# Parquet


def parquet(**columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), "t.parquet")
    return pyarrow


def test_parquet_columns_keep_their_precision_and_lists_become_columns():
    half = np.array([0.1, 0.2, 0.3], np.float16)
    parquet(
        half=half, n=[1, 2, 3], yes=[True, False, True], h=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], kind=["a", "b", "a"]
    )
    assert first("t.parquet", "half").values.dtype == np.float16
    assert first("t.parquet", "h,n").values.tolist() == [[1, 2, 1], [3, 4, 2], [5, 6, 3]]
    assert both("t.parquet", "h", "kind") == ([[1, 2], [3, 4], [5, 6]], [["a"], ["b"], ["a"]])
    assert first("t.parquet", "yes").values.tolist() == [[True], [False], [True]]


def test_parquet_categories_are_symbols():
    pyarrow = pytest.importorskip("pyarrow")
    parquet(kind=pyarrow.array(["b", "a", "b"]).dictionary_encode())
    assert first("t.parquet").values.tolist() == [["b"], ["a"], ["b"]]


def test_mistakes_in_parquet_are_named_by_column():
    parquet(
        hole=[1.0, None, 3.0],
        nan=[1.0, 2.0, float("nan")],
        ragged=[[1.0], [1.0, 2.0], [3.0]],
        when=np.zeros(3, "datetime64[s]"),
        __index_level_0__=[0, 1, 2],
    )
    for column, said in {
        "hole": r"column 'hole': 1 cells are empty, first row 1 \(from 0\)",
        "nan": "column 'nan' holds 1 rows with NaN or infinity, first nan at row 2",
        "ragged": "column 'ragged' holds lists of 1 to 2 entries",
        "when": "column 'when' is of type timestamp",
        "__index_level_0__": "is an index of pandas",
        "hol": r"no column 'hol' \(nearest: hole",
    }.items():
        with pytest.raises(ValueError, match=said):
            first("t.parquet", column)
    Path("bad.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(ValueError, match=r"bad.parquet is damaged, or not a .parquet file"):
        first("bad.parquet")


def test_without_pyarrow_a_parquet_file_says_what_to_install(monkeypatch):
    import sys

    Path("t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow; pip install 'ssl_mi\[parquet\]'"):
        first("t.parquet")


# --- files that are broken, or made to break -------------------------------------------------------------------------


def npy(path, header, body=b"\0" * 800):
    """A .npy file with this text as its header."""
    text = header.encode("latin1").ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)
    return str(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", "claims 1,000,000,000,000 values"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (100, ", "is damaged, or not a .npy file"),
        ("{'descr': 'zz', 'fortran_order': False, 'shape': (100,), }", "is damaged, or not a .npy file"),
        ("{'descr': '<f8', 'shape': (100,), }", "is damaged, or not a .npy file"),
        ("((((((((", "is damaged, or not a .npy file"),
        ("\xff\xfe = 3", "is damaged, or not a .npy file"),
    ],
)
def test_a_header_that_lies_or_is_broken_is_one_error(tmp_path, header, message):
    with pytest.raises(ValueError, match=message):
        open_columns(npy(tmp_path / "x.npy", header), None)


def test_an_array_packed_to_fill_the_memory_is_refused_without_unpacking_it(tmp_path):
    path = tmp_path / "x.npz"
    size = 2**31
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("x.npy", "w") as to:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)})
        to.write(header.getvalue())
    # Only the directory's word is needed: what it claims is what would be unpacked.
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"would unpack from [\d,]+ bytes to 2,147,483,648"):
        open_columns(str(path), None)


@pytest.mark.parametrize("text", ["a,b\n1,2\n3,4\0\n5,6\n", "a\n\0\nx\n", "a,b\nx,\0\ny,z\n"])
def test_a_zero_byte_in_a_table_is_named_with_its_line(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())

    def read():
        columns = open_columns(str(path), None)
        columns.take(range(len(columns.names)))

    with pytest.raises(ValueError, match=r"x\.csv is no text: line \d holds a zero byte"):
        read()
