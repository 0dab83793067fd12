"""A text in a file: its first bytes, copies that DuckDB can read, and which of its lines stand where in a copy."""

from __future__ import annotations

import gzip
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat, tee
from typing import IO, Any, Literal, TypeAlias

from backprop.tables import dialect as dialects
from backprop.tables import engine
from backprop.tables.dialect import Dialect
from backprop.tables.engine import Limits, literal

FileKind: TypeAlias = Literal["csv", "json", "parquet", "duckdb", "sqlite"]
Compression: TypeAlias = Literal["none", "gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class File:
    """A file, what it is, and what messages call it.

    A copy knows of each line that it is without how many of its own lines are above it; one of a copy those of both.
    """

    path: str
    name: str
    kind: FileKind
    compression: Compression = "none"
    dropped: tuple[array[int], ...] = ()
    mended: bool = False
    """whether it is a copy with one kind of line end and without blank lines"""

    def line(self, number: int) -> int:
        """Return which line of the file that messages name is a line of this one."""
        for dropped in reversed(self.dropped):
            number += bisect_left(dropped, number)
        return number


def temporary(kept: list[Any], name: str) -> str:
    """Return the path of a file that does not exist yet, in a folder that lives as long as what is in `kept`."""
    folder = engine.Folder()
    kept.append(folder)
    return folder / name


def head(file: File, size: int) -> bytes:
    """Return the first bytes of the text that is in a file."""
    if file.compression == "zstd":
        connection = engine.connect(Limits(threads=1))
        with engine.errors(file.name):
            lines = connection.execute(_line_query(file) + f" LIMIT {dialects.SAMPLED_LINES}").fetchall()
        return "".join(f"{line or ''}\n" for (line,) in lines).encode("latin-1")[:size]
    try:
        with opened(file, "rb") as stream:
            found: bytes = stream.read(size)
            return found
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{file.name}: a damaged gzip file ({error})") from error


def _line_query(file: File) -> str:
    """Return a query for the lines of a text, each byte as one character."""
    return (
        f"SELECT line FROM read_csv({literal(file.path)}, columns={{line: VARCHAR}}, auto_detect=false, delim='\x01', "
        f"quote='', escape='', encoding='latin-1', compression={literal(file.compression)})"
    )


def without_comments(file: File, dialect: Dialect, kept: list[Any]) -> File | None:
    """Return a copy of a text in UTF-8 without the comments below its header; None where one of them is a row."""

    def marked(lines: Iterable[str]) -> Iterator[bool]:
        lines, again = tee(lines)
        for line, is_comment in zip(lines, dialects.not_rows(again, dialect), strict=True):
            rows.extend([line] * (is_comment and dialects.is_row(line, dialect, dialect.width)))
            yield is_comment

    rows: list[str] = []
    copy = recoded(file, "utf-8-sig", kept, marked, errors="surrogateescape")
    return None if rows else copy


def recoded(
    file: File, encoding: str, kept: list[Any], drop: Callable[[Iterable[str]], Iterable[bool]] | None = None,
    errors: str | None = None,
) -> File:  # fmt: skip
    """Return a copy in UTF-8 with one kind of line end, without the lines of which `drop` says so."""
    path = temporary(kept, "recoded")
    errors = errors or ("replace" if encoding == "cp1252" else "strict")
    try:
        if file.compression == "zstd":
            raw = temporary(kept, "unpacked")
            connection = engine.connect(Limits(threads=1))
            with engine.errors(file.name), open(raw, "wb") as out:
                lines = connection.execute(_line_query(file))
                while rows := lines.fetchmany(10_000):
                    out.writelines((line or "").encode("latin-1") + b"\n" for (line,) in rows)
            file = replace(file, path=raw, compression="none")
        with opened(file, "rt", encoding=encoding, errors=errors) as source, open(path, "wb") as out:
            lines, again = tee(source)
            n_written, dropped = 0, array("q")
            for line, is_dropped in zip(lines, drop(again) if drop else repeat(False), strict=False):
                if is_dropped:
                    dropped.append(n_written)
                else:
                    n_written += 1
                    out.write(line.encode(errors=errors))
    except UnicodeError as error:
        raise ValueError(f"{file.name}: not {encoding} text ({error})") from error
    except EOFError as error:
        raise ValueError(f"{file.name}: a damaged gzip file ({error})") from error
    return replace(file, path=path, compression="none", dropped=(*file.dropped, dropped))


def opened(file: File, mode: str, **options: Any) -> IO[Any]:
    """Return a file, open and unpacked where it is of gzip."""
    opener: Callable[..., IO[Any]] = gzip.open if file.compression == "gzip" else open
    return opener(file.path, mode, **options)
