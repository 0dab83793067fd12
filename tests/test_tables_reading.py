"""Reading tables: files of every kind, patterns, standard input, databases, queries and data frames."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import os
import re
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from backprop.tables import TableModel, engine, open_table, sources
from backprop.tables.columns import Asked, Column, decided
from backprop.tables.dialect import encoding_of, sniffed
from backprop.tables.engine import Limits, memory_size
from backprop.tables.reading import read
from backprop.tables.sources import _csv_query
from backprop.tables.targets import Labels
from backprop.tables.values import MISSING

duckdb = pytest.importorskip("duckdb")

ROWS = "size,colour,when\n1.5,red,2024-01-01\n,blue,2024-02-01\n2.5,red,2024-03-01\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, content):
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def cells(table):
    """The rows as DuckDB has them."""
    return table.rows(f"SELECT {', '.join(stored.sql for stored in table.columns.values())} FROM {table.relation}")


def values(table, *names, **asked):
    columns = decided(table, list(names or table.columns), Asked((), **asked))
    found = read(table, list(columns.values()))
    return {
        name: [each.words[k] if k >= 0 else None for k in each.array] if each.column.is_words else each.array.tolist()
        for name, each in found.items()
    }


def assert_is_the_table(table):
    assert list(table.columns) == ["size", "colour", "when"]
    found = values(table)
    np.testing.assert_array_equal(found["size"], [1.5, np.nan, 2.5])
    assert found["colour"] == ["red", "blue", "red"]
    assert (np.array(found["when"]) / 86400 - 19723).tolist() == [0, 31, 60]


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_separators_line_ends_and_byte_order_mark(newline, separator, mark):
    write("t.csv", mark + ROWS.replace(",", separator).replace("\n", newline).encode())
    assert_is_the_table(open_table("t.csv"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings(encoding, pack):
    write("t.csv", pack("größe,ort\n1,Köln\n2,Zürich\n".encode(encoding)))
    table = open_table("t.csv")
    assert list(table.columns) == ["größe", "ort"]
    assert cells(table) == [("1", "Köln"), ("2", "Zürich")]


def test_bytes_that_are_no_utf_8_far_down():
    write("t.csv", b"a,b\n" + b"1,2\n" * 100_000 + "3,é\n".encode("cp1252"))
    assert cells(open_table("t.csv"))[-1] == ("3", "é")


def test_encoding_of_a_cut_character():
    assert encoding_of(b"a" + "é".encode() * 2**17) == "utf-8"
    assert encoding_of((b"a" + "é".encode() * 2**17)[: 2**18]) == "utf-8"
    assert encoding_of(b"a,b\n") == "utf-8"


@pytest.mark.parametrize("name", ["t.csv.gz", "t.gz", "table", "t.csv"])
def test_gzip_by_its_bytes(name):
    write(name, gzip.compress(ROWS.encode()))
    assert_is_the_table(open_table(name))


def test_zstd():
    write("plain.csv", ROWS)
    duckdb.sql("COPY (SELECT * FROM read_csv('plain.csv', all_varchar=true)) TO 't.csv.zst' (COMPRESSION zstd)")
    os.rename("t.csv.zst", "t")
    assert_is_the_table(open_table("t"))


def test_parquet_and_json():
    query = "SELECT size::DOUBLE AS size, colour, \"when\"::DATE AS \"when\" FROM read_csv('plain.csv', nullstr='')"
    write("plain.csv", ROWS)
    duckdb.sql(f"COPY ({query}) TO 't.parquet'")
    duckdb.sql(f"COPY ({query}) TO 't.jsonl' (FORMAT json)")
    duckdb.sql(f"COPY ({query}) TO 't.json' (FORMAT json, ARRAY true)")
    write("t.jsonl.gz", gzip.compress(Path("t.jsonl").read_bytes()))
    for name in ("t.parquet", "t.jsonl", "t.json", "t.jsonl.gz"):
        assert_is_the_table(open_table(name))
    os.rename("t.parquet", "t.csv")
    assert_is_the_table(open_table(Path("t.csv")))


def test_several_files_by_a_pattern():
    write("a1.csv", "x,y\n1,2\n")
    write("a2.csv", "y;x\n4;3\n")
    assert cells(open_table("a*.csv")) == [("1", "2"), ("3", "4")]
    assert cells(open_table(["a2.csv", "a1.csv"])) == [("4", "3"), ("2", "1")]
    write("a3.csv", "x,z\n1,2\n")
    with pytest.raises(ValueError, match=r"a3.csv: needs the columns of a1.csv, but .* in one of them only: 'y', 'z'"):
        open_table("a*.csv")
    with pytest.raises(FileNotFoundError):
        open_table("b*.csv")


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ROWS.encode())))
    table = open_table("-")
    assert table.name == "standard input"
    assert_is_the_table(table)


def test_pipes_are_read():
    reading, writing = os.pipe()
    os.write(writing, ROWS.encode())
    os.close(writing)
    assert_is_the_table(open_table(f"/dev/fd/{reading}"))
    os.close(reading)


def test_zstd_names_lines():
    write("plain.csv", 'a\tb\n1\t"x\n\ny"\n3\t4\t5\n')
    lines = "read_csv('plain.csv', columns={line: VARCHAR}, auto_detect=false, delim='\1', quote='', escape='')"
    duckdb.sql(f"COPY (SELECT * FROM {lines}) TO 't.zst' (COMPRESSION zstd, HEADER false, QUOTE '', DELIMITER '\1')")
    with pytest.raises(ValueError, match=r"t\.zst, line 5: 3 values"):
        open_table("t.zst")


# --- the dialect ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("# made by a machine\n# on Monday\na,b\n1,2\n# half\n3,4\n", [("1", "2"), ("3", "4")]),
        ("#a,b\n1,2\n3,4\n", [("1", "2"), ("3", "4")]),
        ("#a,b\n1,2\n#3,4\n", [("1", "2")]),
        ("## a,b\n1,2\n", [("1", "2")]),
        ("a,b\n1,2\n#3,4\n5,6\n", [("1", "2"), ("5", "6")]),
        ("a,b\n#1,2\n#3,4\n", [("#1", "2"), ("#3", "4")]),
        ("a,b\nx,2\n#3,4\n", [("x", "2"), ("#3", "4")]),
        ('a,b\n"#x",2\n# note\n3,4\n', [("#x", "2"), ("3", "4")]),
        ('a,b\n"x\n#y",2\n# note\n3,4\n', [("x\n#y", "2"), ("3", "4")]),
        ('size,y\n5" pipe,1\n# note\n6" pipe,2\n', [('5" pipe', "1"), ('6" pipe', "2")]),
        ('a,b\n1,5" or "6\n# it is 7", or so\n3,4\n', [("1", '5" or "6'), ("3", "4")]),
        ('a,b\n1, "x\n#y"\n# note\n3,4\n', [("1", "x\n#y"), ("3", "4")]),
        ("a,b\n'x\n#y','z'\n# note\n'3','4'\n", [("x\n#y", "z"), ("3", "4")]),
        ('path,y\n"C:\\",1\n"F ""x""",1\n# note\n"D",3\n', [("C:\\", "1"), ('F "x"', "1"), ("D", "3")]),
        ('a,b\n"say \\"hi",2\n# 1\n3,"x\\\\"\n# 2\n4,5\n', [('say "hi', "2"), ("3", "x\\"), ("4", "5")]),
        ('a,b\n# one\n"x\n\ny",2\n# two\n\n3,4\n', [("x\n\ny", "2"), ("3", "4")]),
        ("a,b\n1,2\n#x,3\n4,5\n", [("1", "2"), ("#x", "3"), ("4", "5")]),
        ("# colors\na,b\n#ff0000,1\n#00ff00,2\n", [("#ff0000", "1"), ("#00ff00", "2")]),
        ('a,b\n1,2\n#x,"3\n4"\n5,6\n', [("1", "2"), ("#x", "3\n4"), ("5", "6")]),
        ('a,b\n1,"2\n# 3"\n4,x #5\n', [("1", "2\n# 3"), ("4", "x #5")]),
        ("a,b\n1,x #2\n# half, done\n3,4\n", [("1", "x #2"), ("3", "4")]),
        ("sep=|\na|b\n1|2\n", [("1", "2")]),
        ('"sep=,"\na,b\n1,2\n', [("1", "2")]),
        ("\n\na,b\n\n1,2\n\n", [("1", "2")]),
        ("a,b\n1,2\n   \n3,4\n", [("1", "2"), ("3", "4")]),
        ("a,b\r\n1,2\n3,4\r\n", [("1", "2"), ("3", "4")]),
        ('a,b\n"x\ny", "u, v"\n', [("x\ny", "u, v")]),
        ('a,b\n"say ""hi""",2\n', [('say "hi"', "2")]),
        ('a,b\n"say \\"hi\\"",2\n', [('say "hi"', "2")]),
        ("a,b\n'x, y','2'\n'z','3'\n", [("x, y", "2"), ("z", "3")]),
        ('a,b\n5" pipe,2\n', [('5" pipe', "2")]),
        ("a,b,\n1,2,\n3,4,\n", [("1", "2"), ("3", "4")]),
        ("Orders of 2024\n\na;b\n1;2\n3;4\n5;6\n", [("1", "2"), ("3", "4"), ("5", "6")]),
        ("a;b\n1,5;2,5\n3,5;4,5\n", [("1,5", "2,5"), ("3,5", "4,5")]),
        ("a\n7,5\n2,5\n", [("7,5",), ("2,5",)]),
        ("a,x;b\n1,5;2\n2,5;3\n", [("1,5", "2"), ("2,5", "3")]),
        ("last, first;age\nDoe, John;12\nRoe, Jane;13\n", [("Doe, John", "12"), ("Roe, Jane", "13")]),
        ('"a\n1",b\n1,2\n', [("1", "2")]),
    ],
)
def test_dialects(text, rows):
    write("t.csv", text)
    assert [row[: len(rows[0])] for row in cells(open_table("t.csv"))] == rows


@pytest.mark.parametrize("text", ["a,b\n#ff0000,1\n#00ff00,2\n", "a,b\n1,2\n#x,3\n"])
def test_rows_that_begin_like_comments_are_said(text):
    assert open_table(write("t.csv", text)).said == ("lines that begin with # are rows",)


@pytest.mark.parametrize("row", ["#x,3", '"#x",3'])
def test_rows_that_begin_like_comments_may_be_far_below(row):
    lines = ["# made on Monday", "a,b", *["1,2"] * 300, "#3,4", row]
    write("t.csv", "\n".join(lines))
    assert cells(open_table("t.csv"))[-1] == ("#x", "3")
    write("t.csv", "\n".join([*lines[:100], "#1,2", *lines[100:]]))
    table = open_table("t.csv")
    assert cells(table)[-1] == ("#x", "3")
    assert table.said == (("lines that begin with # are rows",) if row.startswith("#") else ())


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_blank_lines_in_quotes_are_kept(encoding):
    write("t.csv", 'ö,b\n"x\n\ny",1\n   \n"\n \n",2\n'.encode(encoding))
    assert cells(open_table("t.csv")) == [("x\n\ny", "1"), ("\n \n", "2")]


@pytest.mark.parametrize("ends", [("\r\n", "\n"), ("\n", "\r\n")], ids=["then LF", "then CRLF"])
def test_quotes_before_line_ends_of_two_kinds(ends):
    first, second = ends
    write("t.csv", f'a,b{first}1,"x{second}y"{first}3,"p{first}q"{second}5,"z"{first}')
    assert cells(open_table("t.csv")) == [("1", "x\ny"), ("3", "p\nq"), ("5", "z")]
    write("t.csv", f'a,b{first}1,"x"{second}3,"y{first}5,6{first}')
    with pytest.raises(ValueError, match=r"t\.csv, line 3: a quote that is opened and not closed"):
        open_table("t.csv")


def test_a_row_of_missing_cells_is_no_blank_line():
    write("t.csv", "a\tb\n1\t2\n\n\t\n3\t4\n")
    assert cells(open_table("t.csv")) == [("1", "2"), (None, None), ("3", "4")]


def test_characters_that_end_lines_of_python_alone():
    write("t.csv", "a,b\nx\x85y,\u2028\n\x0cz,1\n")
    assert cells(open_table("t.csv")) == [("x\x85y", "\u2028"), ("\x0cz", "1")]


def test_lines_of_a_record_whose_place_is_not_known(monkeypatch):
    monkeypatch.setattr(sources, "_csv_query", lambda *given: _csv_query(*given[:3]))
    write("t.csv", 'a,b\n1,"x\ny"\n3\n')
    with pytest.raises(ValueError, match=r"t\.csv, line 3 or below: 1 value"):
        open_table("t.csv")


def test_columns_without_a_name():
    write("t.csv", ",a\n0,5\n1,6\n")
    table = open_table("t.csv")
    assert list(table.columns) == ["column 1", "a"]
    assert table.said == ("column 1 has no name in the header; it is called 'column 1'",)


def test_names_that_sql_would_trip_over():
    write("t.csv", 'a,A,"b""c",select,\'d\'\n1,2,3,4,5\n')
    table = open_table("t.csv")
    assert list(table.columns) == ["a", "A", 'b"c', "select", "'d'"]
    assert cells(table) == [("1", "2", "3", "4", "5")]
    assert values(table)["'d'"] == [5]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"t\.csv: empty file; a header row"),
        (b"\xef\xbb\xbf\n\n", r"t\.csv: empty file"),
        (b"a,b\n", r"t\.csv: no rows below the header"),
        (b"a,b\n1,2\n3\n", r"t\.csv, line 3: 1 value, but the header has 2 columns"),
        (b"a,b\n\n1,2\n3,4,5\n", r"t\.csv, line 4: 3 values, but the header has 2 columns"),
        (b"a,b\n\n1,2\n3\n", r"t\.csv, line 4: 1 value, but the header has 2 columns"),
        ("a,b\n\n1,2\n\n3,4,5\n".encode("utf-16"), r"t\.csv, line 5: 3 values"),
        (b"a,b\n# one\n# two\n1,2\n3\n", r"t\.csv, line 5: 1 value, but the header has 2 columns"),
        (b"# one\na,b\n# two\n\n1,2\n\n# three\n3,4,5\n", r"t\.csv, line 8: 3 values"),
        (gzip.compress("a,b\n\n# ö\n1,2\n   \n3,4,5\n# two\n".encode("cp1252"), mtime=0), r"t\.csv, line 6: 3 values"),
        (b'a,b\n# one\n1,2\n3,"4\n', r"t\.csv, line 4: a quote that is opened and not closed"),
        (b"a,b\n" + b"1,2\n" * 5000 + b"# note\n", r"line 5002: 1 value, but .* 2 columns; it begins with #"),
        (b"a,b\n" + b"1,2\n" * 5000 + b"1,2,3\n", r"t\.csv, line 5002: 3 values"),
        (b'a,b\n1,"x\ny"\n3\n', r"t\.csv, line 4: 1 value, but the header has 2 columns"),
        (b'a,b\n1,"x\n\ny"\n2,"p\nq"\n3,4,5\n', r"t\.csv, line 7: 3 values"),
        (b'a,b\n\n1,"x\ny"\n\n3\n', r"t\.csv, line 6: 1 value"),
        (b'"a\nc",b\n1,"x\ny"\n3\n', r"t\.csv, line 5: 1 value"),
        (b'a,b\r\n1,"x\r\ny"\r\n3,4,5\r\n', r"t\.csv, line 4: 3 values"),
        (b'a,b\r1,"x\ry"\r3,4,5\r', r"t\.csv, line 4: 3 values"),
        (b'a,b\n# one\n1,"x\n# y"\n# two\n3\n', r"t\.csv, line 6: 1 value"),
        (b'sep=;\n\na;b\n1;"x\n\ny"\n3;4;5\n', r"t\.csv, line 7: 3 values"),
        ('a,b\n1,"ö\ny"\n\n3\n'.encode("cp1252"), r"t\.csv, line 5: 1 value"),
        (gzip.compress(b'a,b\n1,"x\ny"\n3,4,5\n', mtime=0), r"t\.csv, line 4: 3 values"),
        (b'a,b\n1,"x\ny"\n3,"4\n5,6\n', r"t\.csv, line 4: a quote that is opened and not closed"),
        (b'a,b\n1,"x\ny"\n3,"' + b"x" * 2_100_000 + b'"\n', r"t\.csv, line 4: a line that is longer than 2,000,000"),
        (b"a,b\n1,2\n# note\n" + b"1,2\n" * 500 + b"#x,3\n", r"t\.csv, line 3: 1 value, .*; it begins with #"),
        (b"a,b,a\n1,2,3\n", r"t\.csv: column name 'a' stands in the header 2 times; names must differ"),
        (b"a,b\n1,2\n3,\0\n", r"t\.csv: needs a text file, got the character '\\x00'"),
        (b'a,b\n1,2\n3,"4\n5,6\n', r"t\.csv, line 3: a quote that is opened and not closed"),
        (b"\x1f\x8b\x08damaged", r"t\.csv: a damaged gzip file"),
        (b"PK\3\4 a workbook", r"t\.csv: a ZIP file or an Excel workbook"),
        (b"ARROW1\0\0 as Feather is", r"t\.csv: an Arrow \(Feather\) file; save the table as Parquet"),
        (b"PAR1 but no more", r"t\.csv: not a whole Parquet file"),
        (b'{"a": 1}\n{"a": \n', r"t\.csv: Malformed JSON .*line"),
        (b"\x89PNG\r\n\x1a\n", r"t\.csv: needs a text file"),
    ],
)
def test_what_is_not_a_table(raw, message):
    write("t.csv", raw)
    with pytest.raises(ValueError, match=message):
        open_table("t.csv")


def test_a_truncated_parquet_file():
    duckdb.sql("COPY (SELECT range AS a FROM range(100000)) TO 't.parquet'")
    write("t.parquet", Path("t.parquet").read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"t\.parquet: not a whole Parquet file"):
        open_table("t.parquet")


def test_a_truncated_gzip_file():
    rng = np.random.default_rng(0)
    raw = gzip.compress(("a\n" + "\n".join(map(str, rng.random(200_000)))).encode())
    write("t.gz", raw[: len(raw) // 2])
    with pytest.raises(ValueError, match=r"t\.gz"):
        open_table("t.gz")


def test_sniffed_leaves_out_a_line_that_is_cut():
    assert sniffed("a,b\n1,2\n3", "t.csv", whole=False).names == ("a", "b")


# --- databases and queries -----------------------------------------------------------------------------------------


def test_duckdb():
    write("plain.csv", ROWS)
    with duckdb.connect("t.db") as connection:
        connection.execute("CREATE TABLE orders AS SELECT * FROM 'plain.csv'")
    assert_is_the_table(open_table("t.db"))
    with duckdb.connect("t.db") as connection:
        connection.execute('CREATE TABLE "other one" AS SELECT 1 AS a')
    assert_is_the_table(open_table("t.db", table="orders"))
    assert cells(open_table("t.db", table="other one")) == [(1,)]
    assert cells(open_table("t.db", sql="SELECT count(*) AS n FROM orders")) == [(3,)]
    with pytest.raises(ValueError, match=r"t\.db: --table needs one of its tables 'orders', 'other one'; got none"):
        open_table("t.db")
    with pytest.raises(ValueError, match=r"got 'order'"):
        open_table("t.db", table="order")


def test_sqlite():
    connection = sqlite3.connect("t.sqlite")
    with connection:
        connection.execute('CREATE TABLE orders (size REAL, colour TEXT, "when" TEXT)')
        rows = [(1.5, "red", "2024-01-01"), (None, "blue", "2024-02-01"), (2.5, "red", "2024-03-01")]
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        connection.execute("CREATE TABLE n (k INTEGER)")
        connection.executemany("INSERT INTO n VALUES (?)", [(k,) for k in range(20_000)])
    connection.close()
    assert_is_the_table(open_table("t.sqlite", table="orders"))
    assert cells(open_table("t.sqlite", sql="SELECT sum(k)::BIGINT AS s, min(colour) FROM n, orders")) == [
        (3 * 199_990_000, "blue")
    ]
    with pytest.raises(ValueError, match=r"t\.sqlite: --table needs one of its tables 'n', 'orders'; got none"):
        open_table("t.sqlite")


def test_queries():
    write("t.csv", ROWS)
    assert cells(open_table("t.csv", sql="SELECT colour, count(*) AS n FROM data GROUP BY ALL ORDER BY ALL;")) == [
        ("blue", 1),
        ("red", 2),
    ]
    assert cells(open_table(sql="SELECT max(size) AS m FROM 't.csv'")) == [(2.5,)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", "--sql: syntax error at or near"),
        ("SELECT nothing FROM 't.csv'", r'--sql: Referenced column "nothing" not found'),
        ("SELECT * FROM absent", "--sql: Table with name absent does not exist"),
        ("SELECT * FROM 'absent.csv'", "--sql: No files found"),
        ("DROP TABLE x", "--sql: needs one SELECT, got 'DROP TABLE x'"),
        ("SELECT 1; SELECT 2", "--sql: needs one SELECT"),
        ("SELECT * FROM 't.csv' WHERE size > 99", "query: the query gives no rows"),
    ],
)
def test_bad_queries(query, message):
    write("t.csv", ROWS)
    with pytest.raises(ValueError, match=message):
        open_table(sql=query)


def test_a_query_changes_nothing():
    with duckdb.connect("t.db") as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS a")
    before = Path("t.db").read_bytes()
    with pytest.raises(ValueError, match="needs one SELECT"):
        open_table("t.db", sql="DELETE FROM orders")
    assert cells(open_table("t.db", sql="SELECT a + 1 AS b FROM orders")) == [(2,)]
    assert Path("t.db").read_bytes() == before


# --- frames --------------------------------------------------------------------------------------------------------


COLUMNS = {
    "size": [1.5, None, 2.5],
    "colour": ["red", "blue", "red"],
    "when": [datetime.date(2024, month, 1) for month in (1, 2, 3)],
}


def frames():
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    plain = pandas.DataFrame(COLUMNS)
    arrow = pyarrow.table(COLUMNS)
    yield "mapping", COLUMNS
    yield "pandas", plain
    yield "pandas, an index of its own", plain.set_index(pandas.Index([7, 7, 9]))
    yield "pandas, nullable", plain.astype({"size": "Float64", "colour": "string"})
    yield "pandas, category", plain.astype({"colour": "category", "when": "datetime64[s]"})
    yield (
        "pandas, time zone",
        plain.assign(when=pandas.to_datetime(plain["when"], utc=True).dt.tz_convert("Asia/Tokyo")),
    )
    yield "pandas, Arrow", arrow.to_pandas(types_mapper=pandas.ArrowDtype)
    yield "polars", polars.DataFrame(COLUMNS)
    yield "polars, lazy", polars.LazyFrame(COLUMNS)
    yield "polars, categories", polars.DataFrame(COLUMNS).with_columns(polars.col("colour").cast(polars.Categorical))
    yield "polars, decimals", polars.DataFrame(COLUMNS).with_columns(polars.col("size").cast(polars.Decimal(10, 2)))
    yield "pyarrow", arrow
    yield "duckdb", duckdb.connect().from_arrow(arrow)


def test_frames_of_every_kind():
    for name, frame in frames():
        try:
            assert_is_the_table(open_table(frame))
        except Exception as error:
            raise AssertionError(name) from error


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([True, False, None], [1, 0, None]),
        (np.array([True, False, True]), [1, 0, 1]),
        ([1, 2, None], [1, 2, None]),
        ([2**70, 1, 0], [2.0**70, 1, 0]),
        ([decimal.Decimal("1.5"), None, decimal.Decimal("2")], [1.5, None, 2]),
        (np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False]), [1, None, 3]),
        (np.array([1, 2, 3], np.float16), [1, 2, 3]),
        ([datetime.datetime(1970, 1, 1, 1), None, datetime.datetime(1970, 1, 2)], [3600, None, 86400]),
        (np.array(["1970-01-01", "NaT", "1970-01-02"], "datetime64[D]"), [0, None, 86400]),
        ([np.inf, 1.0, 2.0], [None, 1, 2]),
    ],
)
def test_columns_of_plain_values(given, expected):
    found = np.array(values(open_table({"a": given}))["a"], float)
    np.testing.assert_array_equal(found, np.array(expected, float))


def test_names_of_columns_that_are_numbers():
    pandas = pytest.importorskip("pandas")
    assert list(open_table(pandas.DataFrame([[1, 2], [3, 4]])).columns) == ["0", "1"]
    with pytest.raises(ValueError, match="data: needs columns whose names differ"):
        open_table(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_frames_that_are_none():
    with pytest.raises(TypeError, match="data: needs a path, a data frame"):
        open_table(3)
    with pytest.raises(ValueError, match="needs columns of one length"):
        open_table({"a": [1], "b": [1, 2]})
    with pytest.raises(ValueError, match="needs at least one column and one row"):
        open_table({"a": []})
    with pytest.raises(ValueError, match=r"data: column 'a': needs one axis, got shape \(2, 2\)"):
        open_table({"a": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="needs a file, a data frame or a query"):
        open_table()


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [*MISSING, "NA", "NaN", "#N/A", "NULL", " ", "None", "-Inf"])
def test_marks_of_missing_values(mark):
    write("t.csv", f'a,b\n1,x\n"{mark}",y\n3,z\n')
    np.testing.assert_array_equal(values(open_table("t.csv"), "a")["a"], [1, np.nan, 3])


def test_words_for_missing_values_are_words_among_words():
    write("t.csv", "a,b,c\n1,none,yes\nunknown,mild,Unknown\n3,severe,no\n")
    found = values(open_table("t.csv"))
    np.testing.assert_array_equal(found["a"], [1, np.nan, 3])
    assert found["b"] == ["none", "mild", "severe"]
    np.testing.assert_array_equal(found["c"], [1, np.nan, 0])


@pytest.mark.parametrize(
    ("cells_of_a_column", "expected"),
    [
        (["1,234", "12", "999,999,999"], [1234, 12, 999_999_999]),
        (["1.234", "12", "1.5"], [1.234, 12, 1.5]),
        (["1.234.567", "12", "1.500"], [1_234_567, 12, 1500]),
        (["1.234,5", "12", "1,500"], [1234.5, 12, 1.5]),
        (["0,123", "12", "1,500"], [0.123, 12, 1.5]),
        (["1 234", "12", "1 234 567"], [1234, 12, 1_234_567]),
        (["1,23,456", "12", "5"], [123_456, 12, 5]),
        (["12%", "0.5 %", "-3%"], [0.12, 0.005, -0.03]),
        (["5‰", "1", "2"], [0.005, 1, 2]),
        (["$5", "$ 1,000.50", "-$3"], [5, 1000.5, -3]),
        (["5 €", "1.000,50 €", "-3 €"], [5, 1000.5, -3]),
        (["EUR 5", "6 USD", "£7"], [5, 6, 7]),
        (["CHF 1'000.50", "5", "6"], [1000.5, 5, 6]),
        (["(1,000)", "5", "$(6)"[0:1] + "6"], [-1000, 5, 6]),
        (["−5", "+5", "5."], [-5, 5, 5]),
        (["1e3", "1.5E-2", ".5"], [1000, 0.015, 0.5]),
        (["1,5e3", "2", ",5"], [1500, 2, 0.5]),
    ],
)
def test_numbers(cells_of_a_column, expected):
    found = values(open_table({"a": cells_of_a_column}))["a"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("cell", ["x", "1_000", "1.2.3", "0x10", "1,2,3", "12 kg", "1-2", "1e999", "12:30"])
def test_what_is_not_a_number(cell):
    write("t.csv", f'a,b\n1.5,x\n"{cell}",x\n2.5,y\n')
    with pytest.raises(ValueError, match=r"t\.csv, row 2: column 'a' needs finite numbers, got"):
        values(open_table("t.csv"), "a", numeric=("a",))


def test_one_decimal_mark_for_what_could_be_either():
    write("t.csv", "a;b\n1.234;1,5\n5.678;2,5\n")
    assert values(open_table("t.csv")) == {"a": [1234, 5678], "b": [1.5, 2.5]}
    write("t.csv", 'a,b\n"1,234",1.5\n"5,678",2.5\n')
    assert values(open_table("t.csv")) == {"a": [1234, 5678], "b": [1.5, 2.5]}


# --- limits --------------------------------------------------------------------------------------------------------


def test_memory_sizes():
    assert memory_size("memory", "1.5GB") == 1_500_000_000
    assert memory_size("memory", "512MiB") == 2**29
    assert memory_size("memory", 10**9) == 10**9
    for wrong in ("much", "1 PB", "-1GB", "10KB"):
        with pytest.raises(ValueError, match="memory: needs"):
            memory_size("memory", wrong)


def test_a_limit_is_duckdb_s_too():
    table = open_table({"a": [1]}, limits=Limits(memory=10**9, threads=1))
    assert table.row("SELECT current_setting('threads'), current_setting('memory_limit')") == (1, "476.8 MiB")


def test_without_duckdb(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"tables: needs duckdb; install it with: pip install 'bpcore\[tables\]'"):
        open_table({"a": [1]})


class Slow:
    """A connection whose query takes a while and tells how far it is."""

    def __init__(self):
        self.started = time.monotonic()

    def execute(self, query, parameters):
        while time.monotonic() < self.started + 0.3:
            time.sleep(0.01)
        return self

    def fetchall(self):
        return [(1,)]

    def query_progress(self):
        return min(100.0, 300 * (time.monotonic() - self.started))


def test_progress(capsys, monkeypatch):
    monkeypatch.setattr(engine, "PROGRESS_AFTER_SECONDS", 0.05)
    assert engine.run(Slow(), "SELECT 1", progress=True) == [(1,)]
    assert re.search(r"reading: +\d+%", capsys.readouterr().err)
    assert engine.run(Slow(), "SELECT 1") == [(1,)]
    assert capsys.readouterr().err == ""


def test_a_connection_that_was_begun_is_the_next_one():
    engine.begin()
    begun = engine.connect(Limits(memory=10**9, threads=1))
    assert not engine._connections
    setting = "SELECT current_setting('threads'), current_setting('memory_limit')"
    assert begun.execute(setting).fetchone() == engine.connect(Limits(10**9, 1)).execute(setting).fetchone()


def test_a_connection_that_cannot_be_begun_is_tried_again(monkeypatch):
    def missing():
        raise ImportError("no engine here")

    monkeypatch.setattr(engine, "library", missing)
    engine.begin()
    with pytest.raises(ImportError, match="no engine here"):
        engine.connect(Limits())


# --- integers that floats do not tell apart ------------------------------------------------------------------------

LARGE = [2**60 + k % 3 for k in range(60)]
KINDS = ["mapping", "with gaps", "masked", "pandas", "polars", "pyarrow", "relation", "csv", "parquet"]


def large_integers(kind, folder):
    """A table of them, for each way in which integers come."""
    values = [None, *LARGE[1:]] if kind in ("with gaps", "pandas", "polars", "pyarrow") else LARGE
    data = {"x": np.arange(60) % 7, "user id": values}
    if kind == "masked":
        return {**data, "user id": np.ma.masked_array(LARGE, [False] * 59 + [True])}
    if kind in ("csv", "parquet", "relation"):
        cells = ", ".join(f"({k % 7}, {value})" for k, value in enumerate(LARGE))
        query = f'SELECT * FROM (VALUES {cells}) AS rows(x, "user id")'
        if kind == "relation":
            return duckdb.sql(query)
        duckdb.sql(f"COPY ({query}) TO '{folder}/large.{kind}'")
        return f"{folder}/large.{kind}"
    if kind in ("mapping", "with gaps"):
        return data
    frames = pytest.importorskip(kind)
    if kind == "pandas":
        return frames.DataFrame({**data, "user id": frames.array(values, dtype="Int64")})
    return frames.DataFrame(data) if kind == "polars" else frames.table(data)


@pytest.mark.parametrize("kind", KINDS)
def test_large_integers_that_are_categories_stay_apart(kind, tmp_path):
    """As floats, 2**60 and its neighbours are one."""
    table = open_table(large_integers(kind, tmp_path))
    meant = decided(table, ["user id"])["user id"]
    assert meant.meaning == "code"
    found = read(table, [meant])["user id"]
    assert sorted(found.words) == [str(2**60 + k) for k in range(3)]
    assert [found.words[code] for code in found.array[1:-1]] == [str(value) for value in LARGE[1:-1]]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(LARGE, "i"), (np.array(LARGE, np.uint64) * 8 + 1, "u"), ([10**25 + k % 3 for k in LARGE], "U")],
)
def test_large_integers_that_are_labels_stay_apart(labels, dtype):
    """Predictions are integers where there is a type for them, else text."""
    data = {"x": np.arange(60) % 3, "y": labels}
    model = TableModel(epochs=100, seed=0).fit(data, "y")
    assert model.classes.dtype.kind == dtype
    assert [int(label) for label in model.classes] == sorted({int(label) for label in labels})
    assert [int(label) for label in model.predict(data)] == [int(label) for label in labels]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (("5", "1e400"), "U"),
        ((str(11 * 10**24 + 1), str(10**25)), "U"),
        ((str(-(2**63) - 1), str(2**63)), "U"),
        ((str(-(2**63)), str(2**63 - 1)), "i"),
        ((str(2**64), str(2**70)), "f"),
        (("0.5", str(2**53 + 1)), "U"),
        (("0.5", "9007199254740993.5"), "f"),
        (("0.1", "3"), "f"),
    ],
)
def test_labels_that_are_numbers_are_themselves_or_texts(labels, dtype):
    """A float for a whole number that it is not would be no label of the table."""
    found = Labels("y", labels, "number").decoded(np.arange(2))
    assert found.dtype.kind == dtype
    if dtype == "U":
        assert tuple(found) == labels
    else:
        assert found.tolist() == [float(label) if dtype == "f" else int(label) for label in labels]


def test_labels_beyond_floats_are_learnt():
    for large in ("1e400", "$ 1e400", "1" * 400):
        data = {"x": list(range(60)), "y": [large, "5"] * 30}
        assert set(TableModel(epochs=2).fit(data, "y").classes) == {large, "5"}


def test_large_numbers_are_one_category_however_they_are_stored(tmp_path):
    """Integers, floats and texts; up to 2**53 as they have always been written into files of models."""
    for number in (3, 10**15 + 1, 2**53 - 1, 2**53 + 2, 2**70, -(2**60)):
        columns = ([number], [float(number)], [str(number)], [f"{number:+d}.0"])
        words = [
            read(open_table({"n": cells}), [Column("n", "category", numbers=True)])["n"].words for cells in columns
        ]
        assert len(set(words)) == 1, words


# --- names, nested values and columns of nothing -------------------------------------------------------------------


def test_names_that_are_one_as_text_are_refused():
    pandas = pytest.importorskip("pandas")
    for data in ({0: [1, 2], "0": [3, 4]}, pandas.DataFrame([[1, 2]], columns=[0, "0"])):
        with pytest.raises(ValueError, match="data: needs columns whose names differ as text, got '0' twice"):
            open_table(data)


def test_names_of_one_column():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).random((60, 3)))
    model = TableModel(epochs=2).fit(frame, np.int64(2), weight=1)
    assert model.preprocessing.left_out == {"1": "the weights of the rows"}
    for arguments, message in (
        ({"target": 2.5}, r"target: needs names of columns, got 2.5 \(float\)"),
        ({"target": 2, "weight": 1.5}, r"weight: needs names of columns, got 1.5 \(float\)"),
        ({"target": 2, "group": [0, 1]}, "group: needs one column, got '0', '1'"),
        ({"target": 2, "weight": []}, "weight: needs one column, got an empty list"),
        ({"target": 2, "time": ()}, "time: needs one column, got an empty list"),
        ({"target": b"ab"}, r"target: needs names of columns, got b'ab' \(bytes\)"),
        ({"target": 2, "ignore": bytearray(b"1")}, "ignore: needs names of columns, got bytearray"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            TableModel().fit(frame, **arguments)


@pytest.mark.parametrize("library", ["mapping", "pandas", "polars", "pyarrow", "relation"])
@pytest.mark.parametrize("cells", [[[1], [2, 3], None], [{"a": 1}, {"a": 2}, None]], ids=["lists", "structs"])
def test_nested_values_are_left_out_whatever_holds_them(library, cells):
    data = {"x": list(range(60)), "nested": cells * 20}
    if library == "relation":
        nested = "[i % 3]" if isinstance(cells[0], list) else "{'a': i % 3}"
        data = duckdb.sql(f"SELECT i AS x, {nested} AS nested FROM range(60) AS rows(i)")
    elif library != "mapping":
        frames = pytest.importorskip(library)
        data = frames.table(data) if library == "pyarrow" else frames.DataFrame(data)
    assert "nested values" in decided(open_table(data), ["nested"])["nested"].why
    with pytest.raises(ValueError, match=r"target 'nested' holds nested values .*; it needs labels or numbers"):
        TableModel().fit(data, "nested")


@pytest.mark.parametrize("library", ["mapping", "array", "pandas", "polars", "pyarrow", "relation"])
def test_binary_values_are_left_out_whatever_holds_them(library):
    """As those of files are: what their bytes are, text or not, nothing tells."""
    cells = [b"a", b"b", b"a"] * 20
    data = {"x": list(range(60)), "odd": np.array(cells) if library == "array" else cells}
    if library == "relation":
        data = duckdb.sql("SELECT i AS x, encode(chr(97 + (i % 3)::INT)) AS odd FROM range(60) AS rows(i)")
    elif library not in ("mapping", "array"):
        frames = pytest.importorskip(library)
        data = frames.table(data) if library == "pyarrow" else frames.DataFrame(data)
    assert re.fullmatch(r"binary values \(\w+\), to be decoded first", decided(open_table(data), ["odd"])["odd"].why)
    with pytest.raises(
        ValueError, match=r"target 'odd' holds binary values \(\w+\), to be decoded first; it needs labels"
    ):
        TableModel().fit(data, "odd")


@pytest.mark.parametrize("library", ["mapping", "pandas"])
def test_half_a_character_is_refused_with_its_column(library):
    data = {"x": [1, 2], "odd": ["a", "\ud800"]}
    if library == "pandas":
        pandas = pytest.importorskip(library)
        data = pandas.DataFrame({name: pandas.Series(cells, dtype=object) for name, cells in data.items()})
    with pytest.raises(ValueError, match=r"data: column 'odd' needs text that UTF-8 can hold, got '\\ud800'"):
        open_table(data)


@pytest.mark.parametrize("cell", [[1], {"a": 1}, b"a"], ids=["list", "struct", "bytes"])
@pytest.mark.parametrize("role", ["numeric", "categorical", "date", "weight", "group", "time"])
def test_nested_values_have_no_role(role, cell):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = np.arange(60.0)
    for name, columns in (("data", {"x": x, "odd": [cell] * 60, "y": x}), ("new", {"x": [cell]})):
        parquet.write_table(pyarrow.table(columns), name)
    held = r"binary values \(\w.*\), to be decoded first" if cell == b"a" else r"nested values \(\w.*\)"
    with pytest.raises(ValueError, match=rf"data: {role} column 'odd' holds {held}; it needs .*\w$"):
        TableModel().fit("data", "y", **{role: "odd"})
    model = TableModel(epochs=1).fit("data", "y", id="odd")
    assert len(model.predict("data")) == 60
    with pytest.raises(ValueError, match=rf"column 'x' holds {held}; it needs numbers"):
        model.predict("new")


@pytest.mark.parametrize("where", ["file", "query", "database"])
def test_texts_beside_numbers_in_json_have_no_quotes(where, tmp_path):
    """They are the words that a frame has."""
    (tmp_path / "mixed.jsonl").write_text('{"a": "x", "b": 1}\n{"a": 2, "b": 3}\n{"a": null, "b": 4}\n')
    if where == "database":
        with duckdb.connect(tmp_path / "mixed.duckdb") as made:
            made.execute(f"CREATE TABLE t AS SELECT * FROM '{tmp_path}/mixed.jsonl'")
        table = open_table(tmp_path / "mixed.duckdb")
    elif where == "query":
        table = open_table(sql=f"SELECT * FROM '{tmp_path}/mixed.jsonl'")
    else:
        table = open_table(tmp_path / "mixed.jsonl")
    assert sorted(read(table, [Column("a", "category")])["a"].words) == ["2", "x"]


def test_a_column_of_nothing_is_empty():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for frame in ({"a": [None, None]}, polars.DataFrame({"a": [None, None]}), pyarrow.table({"a": pyarrow.nulls(2)})):
        assert decided(open_table(frame), ["a"])["a"].why == "empty"
