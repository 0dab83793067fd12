"""Reading CSV files and turning columns into numbers."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os

import numpy as np
import pytest
from backprop.tables import DELIMITERS, MISSING, Cells, LineNumbers, Table, parse_csv, read_csv, shorten
from backprop.tabular import (
    CategoricalColumn,
    Labels,
    NumericColumn,
    Preprocessing,
    Quantity,
    class_labels,
    fit_preprocessing,
    infer_task,
    split_rows,
)
from hypothesis import given
from hypothesis import strategies as st


def table(text: str) -> Table:
    return parse_csv(text.encode(), "t.csv")


MIXED = table("size,colour,const,id,y\n1,red,5,a,0\n3,,5,b,1\n,blue,5,c,0\nNaN,red,5,d,1\n5,red,5,e,0\n9,green,5,f,1\n")


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_delimiters_line_ends_and_byte_order_mark(delimiter, newline, bom):
    text = newline.join(["a,b,c", "1,x,2", "", '3,"y, z",4', ""]).replace(",", delimiter)
    result = parse_csv(bom + text.encode(), "t.csv")
    assert result.columns == {"a": ("1", "3"), "b": ("x", f"y{delimiter} z"), "c": ("2", "4")}
    assert result.lines == [2, 4]
    assert len(result) == 2


@pytest.mark.parametrize("cell", ["", " ", "NA", "na", "NaN", "nan", "?", "N/A", "null"])
def test_missing_cells(cell):
    assert table(f"a,b\n1,{cell}\n").columns["b"] == ("",)


def test_blanks_around_cells_and_quoted_line_breaks():
    result = table('a , b\n 1 , "x\ny"\n   \n2, z \n')
    assert result.columns == {"a": ("1", "2"), "b": ("x\ny", "z")}
    assert result.lines == [2, 5]


def test_decimal_commas_do_not_mislead_the_delimiter():
    assert list(table("a;b\n1,5;2,5\n3,5;4,5\n").columns) == ["a", "b"]


def test_a_single_column():
    assert table("a\n1\n2\n").columns == {"a": ("1", "2")}


def test_read_csv_takes_paths(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    assert read_csv(path).name == str(path)
    assert read_csv(str(path), "other").name == "other"
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"t\.csv: empty file; a header row"),
        (b"\xef\xbb\xbf\n\n", r"t\.csv: empty file"),
        (b"a,b\n", r"t\.csv: no rows below the header"),
        (b"a,b\n1,2\n3\n", r"t\.csv, line 3: 1 value, but the header has 2 columns"),
        (b"a,b\n\n1,2\n3,4,5\n", r"t\.csv, line 4: 3 values, but the header has 2 columns"),
        (b'a,b\n"1\n\n",2\n3\n', r"t\.csv, line 5: 1 value"),
        (b"a,b,a\n1,2,3\n", r"t\.csv, line 1: column name 'a' stands in the header 2 times"),
        (b"a,,b\n1,2,3\n", r"t\.csv, line 1: column 2 of the header has no name$"),
        (b",a,b\n1,2,3\n", r"t\.csv, line 1: column 1 of the header has no name \(pandas .*index=False"),
        (b"a,b\n1,\xe92\n", r"t\.csv, line 2: not UTF-8 text \(byte 0xe9\)"),
        ("a,b\n1,2\n".encode("utf-16"), r"t\.csv, line 1: not UTF-8 text"),
        (b"a,b\n1,2\n3,\0\n", r"t\.csv, line 3: NUL character"),
        (b'a,b\n1,2\n3,"4\n5,6\n', r"t\.csv, line 3: unexpected end of data"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", r"t\.csv, line 2: field larger than field limit"),
        (b'a,b\n1,"\n' + b"x\n" * 300_000, r"t\.csv, line 2: (field larger than|a row needs at most 524,288 char)"),
        (b"a,b\n1," + b"x" * 600_000 + b"\n", r"t\.csv, line 2: a row needs at most 524,288 characters"),
        (b"a,b\n1,2\n" + b"1," * 40_000 + b"\n", r"t\.csv, line 3: a row needs at most 32,768 values"),
        (b"a\rb\rc\xff\r", r"t\.csv, line 3: not UTF-8 text \(byte 0xff\)"),
        (b"a,b\n" + b"1,2\n" * 100_000 + b"\xed\xa0\x80,2", r"t\.csv, line 100002: not UTF-8 text \(byte 0xed\)"),
        (b"\n" * 200_000 + b"a,b\n1\n", r"t\.csv, line 200002: 1 value, but the header has 2 columns"),
    ],
)
def test_what_is_not_a_table(raw, message):
    with pytest.raises(ValueError, match=message):
        parse_csv(raw, "t.csv")


def test_absent_column():
    with pytest.raises(
        ValueError, match=r"t.csv: no target column 'COLOR' \(did you mean 'colour'\?\); its columns are 'size'"
    ):
        MIXED.column("COLOR", "target column")
    with pytest.raises(ValueError, match=r"no column 'zzz'; its columns are 'size', 'colour', 'const', 'id', 'y'$"):
        MIXED.column("zzz")
    with pytest.raises(ValueError, match="a header row with the names"):
        table("5.1,3.5\n4.9,3.0\n").column("species")


def test_long_lists_are_shortened():
    assert shorten(range(25)).endswith("18, 19, ... (25 in all)")


def test_take():
    part = MIXED.take([4, 0])
    assert part.columns["size"] == ["5", "1"]
    assert part.lines == [6, 2]


# Without line breaks, blanks at the ends and NUL, which the reader does not keep or accept.
cells = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]) | st.sampled_from(",;|\"' "), max_size=8).map(
    str.strip
)
tables = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(cells.filter(bool), min_size=width, max_size=width, unique=True),
        st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=5),
    )
)


@given(tables, st.sampled_from(DELIMITERS), st.booleans())
def test_reads_what_csv_writes(content, delimiter, bom):
    header, rows = content
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    header[0] = header[0].removeprefix("\ufeff")
    result = parse_csv(file.getvalue().encode("utf-8-sig" if bom else "utf-8"), "t.csv")
    expected = [["" if cell.casefold() in MISSING else cell for cell in row] for row in rows]
    if len(header) == 1:  # then an empty row is a missing cell all the same, because it is quoted
        assert len(result) == len(rows)
    assert list(result.columns) == header
    assert [list(row) for row in zip(*result.columns.values(), strict=True)] == expected


def test_pipes_are_read():
    """They cannot be read twice, and their size is not known."""
    reading, writing = os.pipe()
    os.write(writing, b"a;b\n1;2\n")
    os.close(writing)
    assert read_csv(f"/dev/fd/{reading}").columns == {"a": ("1",), "b": ("2",)}
    os.close(reading)


@given(st.lists(cells, max_size=6), st.integers(0, 2), st.slices(6))
def test_cells_are_a_sequence(texts, times, part):
    texts *= 1000**times // 1000 or 1  # more than are unpacked at once
    packed = Cells(texts)
    assert list(packed) == texts
    assert (len(packed), packed[part], packed) == (len(texts), texts[part], texts)
    assert packed != [*texts, "a"]
    assert repr(Cells(texts[:6])) == f"Cells({texts[:6]})"
    if texts:
        assert packed[-1] == texts[-1]


@given(st.lists(st.integers(1, 2**70)), st.slices(6))
def test_line_numbers_are_a_sequence(numbers, part):
    packed = LineNumbers(numbers)
    assert list(packed) == numbers
    assert (len(packed), packed[part], packed) == (len(numbers), numbers[part], numbers)


@given(st.binary(max_size=60) | st.text('ab1,;"\n\t |', max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_a_value_error(raw):
    with contextlib.suppress(ValueError):
        result = parse_csv(raw, "t.csv")
        assert all(len(column) == len(result) > 0 for column in result.columns.values())


# --- numbers -------------------------------------------------------------------------------------------------------


def test_numbers():
    values = table("a,b\n1,x\n,x\n-2e3,x\n").numbers("a")
    np.testing.assert_array_equal(values, [1, np.nan, -2000])


@pytest.mark.parametrize("cell", ["x", "inf", "-Infinity", "1e999", "1_000", "1.2.3", "0x10", "12 %"])
def test_what_is_not_a_number(cell):
    with pytest.raises(ValueError, match=r"t\.csv, line 3: column 'a' needs finite numbers, got"):
        table(f"a,b\n1,x\n{cell},x\n").numbers("a")


# --- the task ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", "a"], "classification"),
        (["0", "1"] * 5, "classification"),
        (["0.0", "1.0"] * 5, "classification"),
        (list(map(str, range(10))) * 4, "classification"),
        (list(map(str, range(21))) * 4, "regression"),
        (["0.5", "1"] * 5, "regression"),
        (list(map(str, range(8))), "regression"),
        (["1", "2", "3", ""], "regression"),
        (["1", "inf"] * 5, "classification"),
    ],
)
def test_infer_task(values, task):
    assert infer_task(table("a,y\n" + "".join(f"1,{value}\n" for value in values)), "y") == task


# --- holding rows out ----------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.floats(0, 0.99), st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
def test_split_shares_out_every_row(n, test_size, seed, stratified, random):
    groups = [random.choice("abc") for _ in range(n)] if stratified else None
    train, held_out = split_rows(n, test_size, seed, groups)
    assert sorted([*train, *held_out]) == list(range(n))
    again = split_rows(n, test_size, seed, groups)
    np.testing.assert_array_equal(train, again[0])
    if groups is None:
        assert len(held_out) == min(round(n * test_size), n - 1)
    else:
        for group in set(groups):
            size = groups.count(group)
            assert sum(groups[row] == group for row in held_out) == min(round(size * test_size), size - 1)


def test_split_depends_on_the_seed():
    assert not np.array_equal(split_rows(100, 0.25, 0)[1], split_rows(100, 0.25, 1)[1])


# --- encoding ------------------------------------------------------------------------------------------------------


def test_columns_and_their_encoding():
    fitted = fit_preprocessing(MIXED, "y", "classification", ignore=["id"])
    numeric, categorical = fitted.columns
    assert numeric == NumericColumn("size", 4.0, pytest.approx(26 / 6), pytest.approx(np.std([1, 3, 4, 4, 5, 9])))
    assert categorical == CategoricalColumn("colour", ("", "blue", "green", "red"))
    assert fitted.target == Labels("y", ("0", "1"))
    assert fitted.left_out == {"const": "constant in the training rows", "id": "ignored on request"}
    assert fitted.n_inputs == 5

    X, missing, unknown = fitted.inputs(MIXED)
    np.testing.assert_allclose(X[:, 0].mean(), 0, atol=1e-15)
    np.testing.assert_allclose(X[:, 0].std(), 1)
    np.testing.assert_array_equal(X[1, 1:], [1, 0, 0, 0])
    np.testing.assert_array_equal(X[2, 1:], [0, 1, 0, 0])
    np.testing.assert_array_equal(X[:, 1:].sum(axis=1), 1)
    assert missing == {"size": 2, "colour": 1}
    assert unknown == {}
    np.testing.assert_array_equal(fitted.target.encode(MIXED), [0, 1, 0, 1, 0, 1])


def test_only_training_rows_are_learned_from():
    rows = np.array([0, 2, 4])
    changed = table("size,colour,y\n1,red,0\n3,green,1\n,blue,0\nNaN,red,1\n5,red,0\n9,green,1\n")
    changed_elsewhere = table("size,colour,y\n1,red,0\n77,pink,1\n,blue,0\n1e9,,1\n5,red,0\n-4,,1\n")
    assert fit_preprocessing(changed, "y", "classification", rows) == fit_preprocessing(
        changed_elsewhere, "y", "classification", rows
    )


def test_new_rows():
    fitted = fit_preprocessing(table("x,c,y\n1,a,1\n2,b,2.5\n3,a,3\n"), "y", "regression")
    X, missing, unknown = fitted.inputs(table("c,more,x\na,0,2\npink,0,\n,0,3\npink,0,1\n"))
    np.testing.assert_allclose(X, [[0, 1, 0], [0, 0, 0], [np.sqrt(1.5), 0, 0], [-np.sqrt(1.5), 0, 0]], atol=1e-15)
    assert missing == {"x": 1, "c": 1}
    assert unknown == {"c": {"pink": 2}}
    with pytest.raises(ValueError, match=r"t.csv: no column 'c'.*its columns are 'x'"):
        fitted.inputs(table("x\n1\n"))
    with pytest.raises(ValueError, match=r"needs columns that are not there: 'x', 'c'; the columns there are 'z'"):
        fitted.inputs(table("z\n1\n"))
    with pytest.raises(ValueError, match=r"line 2: column 'x' needs numbers in the range .*\(mean 2, .*got '-1e300'"):
        fitted.inputs(table("x,c\n-1e300,a\n"))
    with pytest.raises(ValueError, match=r"line 2: column 'x' needs finite numbers, got 'abc'"):
        fitted.inputs(table("x,c\nabc,a\n"))


def test_equal_numbers_are_one_class():
    numbers = table("a,y\n1,1\n2,1.0\n3,10\n4,2\n5,02\n6,\n")
    assert class_labels(numbers, "y") == ["1", "1", "10", "2", "2", ""]
    fitted = fit_preprocessing(numbers.take(range(5)), "y", "classification")
    assert fitted.target == Labels("y", ("1", "2", "10"))
    np.testing.assert_array_equal(fitted.target.encode(table("y\n2.0\n7\nx\n10\n?\n")), [1, -1, -1, 2, -1])
    assert class_labels(table("y\n01\n1\nx\n"), "y") == ["01", "1", "x"]


def test_quantity():
    source = table("a,y\n1,10\n2,20\n3,60\n")
    fitted = fit_preprocessing(source, "y", "regression").target
    encoded = fitted.encode(source)
    assert encoded.shape == (3, 1)
    np.testing.assert_allclose([encoded.mean(), encoded.std()], [0, 1], atol=1e-15)
    np.testing.assert_allclose(fitted.decode(encoded.astype(np.float32)), [10, 20, 60], rtol=1e-6)
    assert np.isnan(fitted.encode(table("y\n\n?\n1\n"))[0, 0])


def test_columns_that_say_nothing():
    rows = "".join(f"{k},name {k},,7,red,{k if k != 9 else 'oops'},{'ab'[k % 2]}\n" for k in range(30))
    fitted = fit_preprocessing(table("k,name,void,const,colour,almost,y\n" + rows), "y", "classification")
    assert [column.name for column in fitted.columns] == ["k"]
    assert fitted.left_out == {
        "name": "text with 30 different values in 30 rows",
        "void": "empty in the training rows",
        "const": "constant in the training rows",
        "colour": "constant in the training rows",
        "almost": "text with 30 different values in 30 rows; not numeric because of 'oops' on line 11",
    }


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("y\n0\n1\n", "classification", "no column to learn from beside the target 'y'$"),
        ("a,y\n5,0\n5,1\n", "classification", r"no column to learn from .*'a': constant in the training rows\)"),
        ("a,y\n1,k\n2,k\n", "classification", "target 'y' is 'k' in every row; it needs at least two classes"),
        ("a,y\n1,3\n2,3\n", "regression", "target 'y' is 3 in every training row; it needs to vary"),
        ("a,y\n1,3\n2,x\n", "regression", "line 3: column 'y' needs finite numbers, got 'x'"),
        ("a,y\n" + "".join(f"{k},t{k}\n" for k in range(30)), "classification", "30 classes in 30 rows, too many"),
        ("a,y\n1,0\n-1e151,1\n", "classification", r"column 'a': needs numbers up to 1e\+150, got -1e\+151"),
    ],
)
def test_tables_that_cannot_be_learned(text, task, message):
    with pytest.raises(ValueError, match=message):
        fit_preprocessing(table(text), "y", task)


def test_ignoring():
    with pytest.raises(ValueError, match="no column to ignore 'w'"):
        fit_preprocessing(MIXED, "y", "classification", ignore=["w"])
    with pytest.raises(ValueError, match="ignore: 'y' is the target"):
        fit_preprocessing(MIXED, "y", "classification", ignore=["y"])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_any_numbers_are_standardised(values):
    source = Table("t.csv", {"a": [repr(v) for v in values], "y": ["0", "1"] * 10}, range(len(values)))
    with contextlib.suppress(ValueError):  # constant, or too large
        X = fit_preprocessing(source, "y", "classification").inputs(source).X
        assert np.isfinite(X).all()
        assert np.abs(X).max() < 10


# --- to and from JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fitted",
    [fit_preprocessing(MIXED, "y", "classification"), fit_preprocessing(MIXED, "y", "regression", ignore=["colour"])],
)
def test_json_round_trip(fitted):
    assert Preprocessing.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False))) == fitted


GOOD_COLUMN = {"kind": "numeric", "name": "a", "median": 1.0, "mean": 1, "scale": 2.0}
GOOD_TARGET = {"task": "regression", "name": "y", "center": 0.0, "scale": 1.0}


@pytest.mark.parametrize(
    ("columns", "target", "message"),
    [
        ([], GOOD_TARGET, "'columns' needs a list that is not empty"),
        ("a", GOOD_TARGET, "'columns' needs a list"),
        ([3], GOOD_TARGET, "column: needs a dict with exactly kind, name"),
        ([{**GOOD_COLUMN, "kind": "magic"}], GOOD_TARGET, "kind needs to be 'numeric' or 'categorical', got 'magic'"),
        ([{**GOOD_COLUMN, "more": 1}], GOOD_TARGET, "needs a dict with exactly"),
        ([{**GOOD_COLUMN, "mean": float("nan")}], GOOD_TARGET, "mean of column 'a': needs a finite number"),
        ([{**GOOD_COLUMN, "mean": True}], GOOD_TARGET, "mean of column 'a': needs a number"),
        ([{**GOOD_COLUMN, "median": 10**400}], GOOD_TARGET, "median of column 'a': needs a finite number"),
        ([{**GOOD_COLUMN, "median": "1"}], GOOD_TARGET, "median of column 'a': needs a number"),
        ([{**GOOD_COLUMN, "scale": 0}], GOOD_TARGET, "scale of column 'a': needs a number > 0"),
        ([{**GOOD_COLUMN, "name": 1}], GOOD_TARGET, "name: needs a text"),
        ([GOOD_COLUMN, GOOD_COLUMN], GOOD_TARGET, "names of columns: need to differ"),
        ([GOOD_COLUMN], {**GOOD_TARGET, "name": "a"}, "names of columns: need to differ"),
        (
            [GOOD_COLUMN],
            {**GOOD_TARGET, "task": "poetry"},
            "needs to be one of classification, regression; got 'poetry'",
        ),
        ([GOOD_COLUMN], None, "target: needs a dict"),
        (
            [GOOD_COLUMN],
            {"task": "classification", "name": "y", "labels": ["a"]},
            "labels: needs a list of at least two",
        ),
        ([GOOD_COLUMN], {"task": "classification", "name": "y", "labels": ["a", "a"]}, "labels: need to differ"),
        (
            [{"kind": "categorical", "name": "c", "categories": ["a", 1]}],
            GOOD_TARGET,
            "column 'c': needs a text, got 1",
        ),
    ],
)
def test_json_is_checked(columns, target, message):
    Preprocessing.from_json({"columns": [GOOD_COLUMN], "target": GOOD_TARGET, "left_out": {}})
    with pytest.raises((ValueError, TypeError), match=message):
        Preprocessing.from_json({"columns": columns, "target": target, "left_out": {}})


@pytest.mark.parametrize(
    "data", [None, [], {}, {"columns": [GOOD_COLUMN], "target": GOOD_TARGET, "left_out": []}, "text"]
)
def test_json_of_another_kind(data):
    with pytest.raises(ValueError, match="preprocessing: "):
        Preprocessing.from_json(data)


def test_quantity_and_labels_say_what_they_need():
    assert (Quantity("y", 0.0, 1.0).task, Quantity("y", 0.0, 1.0).n_outputs) == ("regression", 1)
    assert (Labels("y", ("a", "b", "c")).task, Labels("y", ("a", "b", "c")).n_outputs) == ("classification", 3)
