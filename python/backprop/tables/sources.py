"""Where tables come from: files, patterns, standard input, databases, SQL queries and data frames.

What a file is, its first bytes tell, whatever it is called: CSV, Parquet, JSON (lines, or one array), gzip or zstd of a
text, a database of DuckDB or SQLite. A database is opened for reading only, and a query has to be one SELECT.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from backprop.tables import arrow, engine, frames, texts
from backprop.tables import dialect as dialects
from backprop.tables.dialect import Dialect
from backprop.tables.engine import Limits, literal, quoted
from backprop.tables.table import Stored, Table, shorten
from backprop.tables.texts import Compression, File

LONGEST_LINE = 2_000_000  # bytes, DuckDB's own limit
STDIN = "-"


def open_table(
    source: Any = None, *, sql: str | None = None, table: str | None = None, limits: Limits | None = None,
    name: str | None = None,
) -> Table:  # fmt: skip
    """Return the table that is in a file, a database, a query or a data frame.

    Parameters
    ----------
    source
        A path, a pattern such as ``2025-*.csv`` or a list of paths (CSV, Parquet, JSON, also gzip or zstd), ``"-"`` for
        standard input, a database of DuckDB or SQLite, a data frame that narwhals knows (pandas, polars, pyarrow, ...),
        a relation of DuckDB, a mapping of names to columns. None with a query that names its files itself.
    sql
        A SELECT. In it, a database's tables have their names; any other source is called ``data``.
    table
        The table of a database, where it has several.
    limits
        What reading may take; no limits by default.
    name
        What messages call it, by default its path.

    Raises
    ------
    ValueError
        If it is no such table; the message names the file, and the line where there is one.
    OSError
        If a file cannot be read.
    ImportError
        If DuckDB is not there.

    Examples
    --------
    >>> people = open_table({"age": [31, 45], "name": ["Ann", "Bob"]})
    >>> list(people.columns), len(people)
    (['age', 'name'], 2)
    >>> len(open_table({"age": [31, 45]}, sql="SELECT * FROM data WHERE age > 40"))
    1
    """
    limits = limits or Limits()
    connection = engine.connect(limits)
    called = name or (source if isinstance(source, str) else "table")
    with engine.errors(called):
        folder = os.path.join(tempfile.gettempdir(), f"backprop-{os.urandom(6).hex()}")
        connection.execute(f"SET temp_directory = {literal(folder)}")
        return _table(source, connection, limits, sql, table, name)


def _table(source: Any, connection: Any, limits: Limits, sql: str | None, table: str | None, name: str | None) -> Table:
    if source is None:
        if sql is None:
            raise ValueError("a source: needs a file, a data frame or a query, got none of them")
        opened = Table(name or "query", {}, "", connection, limits)
    elif frames.is_frame(source):
        opened = frames.registered(source, connection, limits, name or "data")
    else:
        opened = _opened(_paths(source), connection, limits, name, table, sql is not None)
    if table is not None and not opened.relation.startswith("source."):
        raise ValueError(f"{opened.name}: a table is chosen in a database only, got {table!r}")
    return opened if sql is None else _queried(opened, sql)


def _paths(source: Any) -> list[str]:
    """Return the files that a source names, with those of a pattern in order."""
    many = isinstance(source, Sequence) and not isinstance(source, (str, bytes))
    found: list[str] = []
    for item in source if many else [source]:
        path = os.fsdecode(os.fspath(item))
        if path != STDIN and not os.path.exists(path) and glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
            if not matches:
                raise FileNotFoundError(2, "no file has a name of this pattern", path)
            found += matches
        else:
            found.append(path)
    if not found:
        raise ValueError("a source: needs at least one file, got an empty list")
    return found


def _opened(
    paths: list[str], connection: Any, limits: Limits, name: str | None, table: str | None, for_query: bool
) -> Table:
    kept: list[Any] = []
    files = [_looked_at(path, name if len(paths) == 1 else None, kept) for path in paths]
    called = name or (paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more")
    if called == STDIN:
        called = "standard input"
    kinds = {file.kind for file in files}
    if len(kinds) > 1:
        raise ValueError(f"{called}: files of one kind are needed, got {', '.join(sorted(kinds))}")
    kind = files[0].kind
    if kind in ("duckdb", "sqlite"):
        if len(files) > 1:
            raise ValueError(f"{called}: needs one database, got {len(files)} files")
        attach = _attached_duckdb if kind == "duckdb" else _attached_sqlite
        return replace(attach(files[0], connection, limits, table, for_query), name=called, kept=tuple(kept))
    read = {"csv": _csv, "json": _json, "parquet": _parquet}[kind]
    return replace(read(files, connection, called, limits, kept), name=called, kept=tuple(kept))


def _looked_at(path: str, name: str | None, kept: list[Any]) -> File:
    """Return what a file is; what cannot be read twice is copied first."""
    if path == STDIN:
        path, name = _spooled(sys.stdin.buffer, kept), name or "standard input"
    elif os.path.isdir(path):
        raise IsADirectoryError(21, "Is a directory; its files are named by a pattern such as folder/*.csv", path)
    else:
        with open(path, "rb") as file:
            if not os.path.isfile(path):
                path, name = _spooled(file, kept), name or path
    name = name or path
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"PAR1"):
        return File(path, name, "parquet")
    if start.startswith(b"SQLite format 3\0"):
        return File(path, name, "sqlite")
    if start[8:12] == b"DUCK":
        return File(path, name, "duckdb")
    if start.startswith(b"PK\3\4"):
        raise ValueError(f"{name}: a ZIP file or an Excel workbook; save the table as CSV or Parquet")
    if start.startswith((b"ARROW1", b"FEA1")):
        raise ValueError(f"{name}: an Arrow (Feather) file; save the table as Parquet")
    compression: Compression = "none"
    if start.startswith(b"\x1f\x8b"):
        compression = "gzip"
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        compression = "zstd"
    file_ = File(path, name, "csv", compression)
    head = texts.head(file_, 4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    return replace(file_, kind="json") if (head[:1] in (b"{", b"[") and b'"' in head) or head[:2] == b"[]" else file_


def _spooled(stream: BinaryIO, kept: list[Any]) -> str:
    """Return the path of a copy, which lives as long as what is in `kept`."""
    path = texts.temporary(kept, "input")
    with open(path, "wb") as file:
        shutil.copyfileobj(stream, file, 2**20)
    return path


# --- CSV -----------------------------------------------------------------------------------------------------------


def _csv(files: Sequence[File], connection: Any, name: str, limits: Limits, kept: list[Any]) -> Table:
    read = [_dialect_of(file, kept) for file in files]
    first = read[0][1]
    for file, dialect in read[1:]:
        if set(dialect.names) != set(first.names):
            differing = set(dialect.names) ^ set(first.names)
            raise ValueError(
                f"{file.name}: needs the columns of {files[0].name}, but these are in one of them only: "
                f"{shorten(sorted(differing))}"
            )
    columns = {column: Stored(f"c{k}", "VARCHAR") for k, column in enumerate(first.names)}
    for (file, dialect), named in zip(read, files, strict=True):
        _insert_csv(file, dialect, columns, connection, named.name, limits, kept)
    count = connection.execute("SELECT count(*) FROM source_rows").fetchone()[0]
    if not count:
        raise ValueError(f"{name}: no rows below the header")
    said = [*first.said]
    if first.separator != ",":
        said.append(f"separated by {dialects.SEPARATOR_NAMES.get(first.separator, repr(first.separator))}")
    decimal = "," if first.separator == ";" else "."
    return Table(name, columns, "source_rows", connection, limits, decimal=decimal, said=tuple(said))


def _dialect_of(file: File, kept: list[Any]) -> tuple[File, Dialect]:
    """Return how a file is written; one that is not UTF-8 is copied into it."""
    head = texts.head(file, dialects.SAMPLED)
    encoding = dialects.encoding_of(head)
    said: tuple[str, ...] = ()
    if not encoding.startswith("utf-8"):
        file = texts.recoded(file, encoding, kept)
        head = texts.head(file, dialects.SAMPLED)
        said = (f"read as {encoding}",)
    text = head.decode("utf-8-sig", errors="replace")
    found = dialects.sniffed(text, file.name, len(head) < dialects.SAMPLED and file.compression != "zstd")
    if found.comment:  # DuckDB, told of it, ends a line wherever the character stands
        without = texts.without_comments(file, found, kept)
        file, found = (without, found) if without else (file, found.without_comments())
    return file, replace(found, said=(*said, *found.said))


def _insert_csv(
    file: File,
    dialect: Dialect,
    columns: Mapping[str, Stored],
    connection: Any,
    name: str,
    limits: Limits,
    kept: list[Any],
) -> None:
    """Read a file into the table; line ends and bytes that DuckDB refuses are put right in a copy first."""
    query = _csv_query(file, dialect, columns)
    exists = bool(connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'source_rows'").fetchall())
    statement = f"INSERT INTO source_rows {query}" if exists else f"CREATE TABLE source_rows AS {query}"
    duckdb = engine.library()
    try:
        engine.run(connection, statement, progress=limits.progress)
    except duckdb.InvalidInputException as error:
        text = str(error).lower()
        # Where line ends are of two kinds, DuckDB takes a quote before one of them for one that is not closed.
        reasons = ("invalid state", "not utf-8", "found: 1\n", "unterminated quote")
        if file.mended or not any(reason in text for reason in reasons):
            place = partial(_place, file, dialect, columns, connection, kept)
            raise ValueError(engine.located(name, engine.explained(error, place))) from error
        encoding = "cp1252" if "not utf-8" in text else "utf-8-sig"
        without_blanks = partial(dialects.not_rows, dialect=dialect, comments=False, blanks=True)
        mended = replace(texts.recoded(file, encoding, kept, without_blanks), mended=True)
        again, dialect = _dialect_of(mended, kept)
        if not set(columns) <= set(dialect.names):
            raise ValueError(
                f"{name}: needs a header in UTF-8, as its rows are, and with line ends of one kind"
            ) from error
        _insert_csv(again, dialect, columns, connection, name, limits, kept)
    except duckdb.Error:
        with engine.errors(name):
            raise


def _place(
    file: File, dialect: Dialect, columns: Mapping[str, Stored], connection: Any, kept: list[Any], record: int
) -> str:
    """Return where in a file a record is that DuckDB refuses: it counts records, which may take several lines."""
    if file.compression == "zstd":
        file = texts.recoded(file, "utf-8", kept, errors="surrogateescape")
    query = f"SELECT count(*) FROM ({_csv_query(file, dialect, columns, 'store_rejects=true, ')})"
    try:
        engine.run(connection, query)
        found = connection.execute(
            "SELECT min(line_byte_position) FROM reject_errors WHERE line = ?", [record]
        ).fetchone()[0]
    except engine.library().Error:
        found = None
    if found is None:
        return f"line {file.line(record)} or below"
    end = 0
    with texts.opened(file, "rt", encoding="latin-1", newline="") as stream:
        for number, line in enumerate(stream, 1):
            begin, end = end, end + len(line)
            # DuckDB's place, counted from 1, may be that of the line end above, or of a blank line.
            if end >= found and line[max(found - 1 - begin, 0) :].strip("\r\n"):
                return f"line {file.line(number)}"
    return f"line {file.line(record)} or below"


def _csv_query(file: File, dialect: Dialect, columns: Mapping[str, Stored], options: str = "") -> str:
    own = {column: f"f{k}" for k, column in enumerate(dialect.names)}
    types = ", ".join(f"{short}: VARCHAR" for short in [*own.values(), *(["dropped"] if dialect.dropped else [])])
    chosen = ", ".join(f"{own[column]} AS {stored.sql}" for column, stored in columns.items())
    return (
        f"SELECT {chosen} FROM read_csv({literal(file.path)}, columns={{{types}}}, auto_detect=false, header=false, "
        f"skip={dialect.skip}, delim={literal(dialect.separator)}, quote={literal(dialect.quote)}, "
        f"escape={literal(dialect.escape)}, nullstr='', strict_mode=true, {options}"
        f"max_line_size={LONGEST_LINE}, compression={literal(file.compression)})"
    )


# --- JSON and Parquet ----------------------------------------------------------------------------------------------


def _json(files: Sequence[File], connection: Any, name: str, limits: Limits, kept: list[Any]) -> Table:
    paths = ", ".join(literal(file.path) for file in files)
    query = f"read_json([{paths}], union_by_name=true, compression={literal(files[0].compression)}, sample_size=-1)"
    return _stored(connection, query, name, limits, materialised=True)


def _parquet(files: Sequence[File], connection: Any, name: str, limits: Limits, kept: list[Any]) -> Table:
    paths = ", ".join(literal(file.path) for file in files)
    query = f"read_parquet([{paths}], union_by_name=true)"
    if changed := ", ".join(f"{quoted(column)} / {unit} AS {quoted(column)}"
                            for column, unit in _durations(files, connection, name).items()):  # fmt: skip
        query = f"(SELECT * REPLACE ({changed}) FROM {query})"
    return _stored(connection, query, name, limits, materialised=False)


def _durations(files: Sequence[File], connection: Any, name: str) -> dict[str, float]:
    """Return which columns are durations, and how many of their units are a second; the same in all files."""
    found: dict[str, float] = {}
    with engine.errors(name):
        for file in files:
            schemas = connection.execute(
                f"SELECT value FROM parquet_kv_metadata({literal(file.path)}) WHERE key = {literal(arrow.KEY)}::BLOB"
            ).fetchall()
            for column, unit in (arrow.durations(schemas[0][0]) if schemas else {}).items():
                if found.setdefault(column, unit) != unit:
                    raise ValueError(f"{name}: column {column!r} has durations of several units; join the files first")
    return found


def _stored(connection: Any, query: str, name: str, limits: Limits, *, materialised: bool) -> Table:
    """Return the table that a query gives; kept by DuckDB where reading it again would be slow, or not the same."""
    with engine.errors(name):
        columns, chosen = _shortened(_described(connection, f"SELECT * FROM {query}"))
        what = "TABLE" if materialised else "VIEW"
        statement = f"CREATE {what} source_rows AS SELECT {chosen} FROM {query}"
        engine.run(connection, statement, progress=limits.progress)
        if not connection.execute("SELECT 1 FROM source_rows LIMIT 1").fetchall():
            raise ValueError(f"{name}: no rows")
    return Table(name, columns, "source_rows", connection, limits)


def _described(connection: Any, query: str) -> dict[str, Stored]:
    """Return the columns of a query; those of type JSON, which are of several types, without quotes around texts."""
    rows = connection.execute(f"DESCRIBE {query}").fetchall()
    return {
        name: Stored(f"({quoted(name)} ->> '$')", "VARCHAR") if kind == "JSON" else Stored(quoted(name), kind)
        for name, kind, *_ in rows
    }


def _shortened(columns: Mapping[str, Stored]) -> tuple[dict[str, Stored], str]:
    """Return columns under short names, and what selects them."""
    short = {name: Stored(f"c{k}", stored.type) for k, (name, stored) in enumerate(columns.items())}
    return short, ", ".join(f"{stored.sql} AS {short[name].sql}" for name, stored in columns.items())


# --- databases and queries -----------------------------------------------------------------------------------------


def _attached_duckdb(file: File, connection: Any, limits: Limits, table: str | None, for_query: bool) -> Table:
    with engine.errors(file.name):
        connection.execute(f"ATTACH {literal(file.path)} AS source (READ_ONLY)")
        found = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'source' UNION ALL "
            "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'source' AND NOT internal "
            "ORDER BY ALL"
        ).fetchall()
    names = [name if schema == "main" else f"{schema}.{name}" for schema, name in found]
    if for_query:
        connection.execute("USE source")
        return Table(file.name, {}, "source.", connection, limits)
    chosen = _chosen(file.name, table, names)
    relation = "source." + ".".join(quoted(part) for part in (["main", chosen] if chosen in {name for schema, name in
                                    found if schema == "main"} else chosen.split(".", 1)))  # fmt: skip
    with engine.errors(file.name):
        columns = _described(connection, f"SELECT * FROM {relation}")
    return Table(file.name, columns, relation, connection, limits)


def _chosen(name: str, table: str | None, names: Sequence[str]) -> str:
    if table is None and len(names) == 1:
        return names[0]
    if table in names:
        return str(table)
    if not names:
        raise ValueError(f"{name}: a database without tables")
    came = "got none" if table is None else f"got {table!r}"
    raise ValueError(f"{name}: --table needs one of its tables {shorten(names)}; {came}")


def _attached_sqlite(file: File, connection: Any, limits: Limits, table: str | None, for_query: bool) -> Table:
    """Copy tables of SQLite into DuckDB, by way of CSV: DuckDB's own way needs an extension from the network."""
    import sqlite3

    folder = engine.Folder()
    try:
        uri = f"{Path(file.path).resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as source:
            found = source.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                                   "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")  # fmt: skip
            names = [name for (name,) in found]
            chosen = names if for_query else [_chosen(file.name, table, names)]
            connection.execute("ATTACH ':memory:' AS source")
            columns: dict[str, Stored] = {}
            for each in chosen:
                columns = _copied(source, each, connection, folder / "rows.csv")
    except sqlite3.Error as error:
        raise ValueError(f"{file.name}: {error}") from error
    if for_query:
        connection.execute("USE source")
        return Table(file.name, {}, "source.", connection, limits)
    return Table(file.name, columns, f"source.{quoted(chosen[0])}", connection, limits)


def _copied(source: Any, table: str, connection: Any, path: str) -> dict[str, Stored]:
    """Copy a table; a column has the type that all of its values have, else it is text."""
    import csv

    rows = source.execute(f"SELECT * FROM {quoted(table)}")
    names = [description[0] for description in rows.description]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        while some := rows.fetchmany(10_000):
            writer.writerows(some)
    kinds = source.execute(
        "SELECT " + ", ".join(f"group_concat(DISTINCT typeof({quoted(name)}))" for name in names)
        + f" FROM {quoted(table)}"
    ).fetchone()  # fmt: skip
    types = []
    for kind in kinds:
        there = set((kind or "text").split(",")) - {"null"}
        types.append("BIGINT" if there == {"integer"} else "DOUBLE" if there <= {"integer", "real"} else "VARCHAR")
    shape = ", ".join(f"f{k}: VARCHAR" for k in range(len(names)))
    chosen = ", ".join(
        f"CAST(f{k} AS {type_}) AS {quoted(name)}" for k, (name, type_) in enumerate(zip(names, types, strict=True))
    )
    connection.execute(
        f"CREATE TABLE source.{quoted(table)} AS SELECT {chosen} FROM read_csv({literal(path)}, columns={{{shape}}}, "
        "auto_detect=false, header=false, delim=',', quote='\"', escape='\"', nullstr='')"
    )
    return {name: Stored(quoted(name), type_) for name, type_ in zip(names, types, strict=True)}


def _queried(opened: Table, sql: str) -> Table:
    """Return the table that a query gives."""
    duckdb = engine.library()
    name, connection = opened.name, opened.connection
    with engine.errors(f"{name}: --sql" if name != "query" else "--sql"):
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError(f"--sql: needs one SELECT, got {sql!r:.80}")
        if opened.columns:
            chosen = ", ".join(f"{stored.sql} AS {quoted(column)}" for column, stored in opened.columns.items())
            connection.execute(f"CREATE VIEW data AS SELECT {chosen} FROM {opened.relation}")
        query = f"({sql.strip().rstrip(';')}\n)"
        columns, chosen = _shortened(_described(connection, f"SELECT * FROM {query}"))
        statement = f"CREATE TABLE memory.main.query_rows AS SELECT {chosen} FROM {query} AS q"
        engine.run(connection, statement, progress=opened.limits.progress)
    if not connection.execute("SELECT 1 FROM memory.main.query_rows LIMIT 1").fetchall():
        raise ValueError(f"{name}: the query gives no rows")
    return replace(opened, columns=columns, relation="memory.main.query_rows")
