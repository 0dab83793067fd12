r"""How a text file writes a table: encoding, separator, quotes, comments, header.

DuckDB splits the lines; this module tells it how. Its own sniffer takes a file of ``;`` and decimal commas for a file
of commas, so the candidates are compared here, on the first lines: the header and the lines below it have to agree in
their number of values, then as many cells as possible should be numbers, then there should be many columns.

The rules:

- **encoding**: a byte order mark decides; else UTF-8 if the first bytes are; else UTF-16 if every other byte is 0; else
  Windows-1252, in which every text of Western Europe can be read.
- **separator**: comma, semicolon, tab or ``|``; a first line ``sep=;`` is believed and skipped.
- **comments**: lines that begin with ``#`` are skipped. At the top, where the line below is all numbers, the last of
  them is the header. Further down all are rows, and this is said, where one of them, in the first lines or behind them,
  has as many values as the header, and no blank behind ``#``; unless it is a row of a number among rows of numbers,
  which was commented out.
- **title lines** above the header, with one value where the table has more, are skipped and said.
- **quotes**: ``"``, doubled or after a backslash inside; ``'`` where cells stand in them and no ``"`` is in sight.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

SEPARATORS: tuple[str, ...] = (",", ";", "\t", "|")
SAMPLED = 2**18  # bytes in which the dialect is looked for
SAMPLED_LINES = 200
MAX_TITLE_LINES = 20
SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}

_NUMBER = re.compile(
    r"[-+−(]?[^\W\d_]{0,3}\W{0,2}\d[\d.,'’\s]*(?:e[-+]?\d+)?\s?[^\w\s]?[^\W\d_]{0,3}\)?", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written.

    Parameters
    ----------
    names
        The names of the columns, as the header has them, without surrounding blanks.
    separator, quote, escape
        One character each; `quote` and `escape` may be empty.
    skip
        Records above the first row, the header among them.
    comment
        ``"#"`` where lines below the header begin with it and are no rows, else empty.
    dropped
        Whether the header ends with a separator, behind which no row has a value.
    numbered
        Whether rows begin with a number, all in the first lines that begin with anything.
    said
        What is worth telling.
    """

    names: tuple[str, ...]
    separator: str = ","
    quote: str = '"'
    escape: str = '"'
    skip: int = 1
    comment: str = ""
    dropped: bool = False
    numbered: bool = False
    said: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many values a row has."""
        return len(self.names) + self.dropped

    def without_comments(self) -> Dialect:
        """Return this dialect where lines that begin with ``#`` are rows."""
        return replace(self, comment="", said=(*self.said, "lines that begin with # are rows"))


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text that begins with these bytes, as Python calls it.

    Examples
    --------
    >>> encoding_of("größe;gewicht".encode()), encoding_of("größe;gewicht".encode("cp1252"))
    ('utf-8', 'cp1252')
    """
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = head[:2000:2].count(0), head[1:2000:2].count(0)
    if max(even, odd) > len(head[:2000]) / 5:
        return "utf-16-be" if even > odd else "utf-16-le"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # the last character of the sample may be cut
        return "utf-8" if error.start >= len(head) - 3 and len(head) >= SAMPLED else "cp1252"
    return "utf-8"


def sniffed(text: str, name: str, whole: bool) -> Dialect:
    r"""Return the dialect of a file from its first lines.

    Parameters
    ----------
    text
        The beginning of the file.
    name
        What messages call it.
    whole
        Whether the text is all of it; otherwise its last line may be cut.

    Raises
    ------
    ValueError
        If there is no header, or the text is none.

    Examples
    --------
    >>> sniffed("a;b\n1,5;2\n", "t.csv", True).separator
    ';'
    """
    if match := _CONTROL.search(text):
        raise ValueError(f"{name}: needs a text file, got the character {match[0]!r} in its first lines")
    lines = list(io.StringIO(text, newline=""))
    if not whole and len(lines) > 1:
        lines.pop()
    lines = lines[:SAMPLED_LINES]
    skipped, separators = 0, SEPARATORS
    if lines and (match := re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE)):
        skipped, separators = 1, (match[1],)
    while skipped < len(lines) and not lines[skipped].strip():
        skipped += 1
    top = skipped
    while skipped < len(lines) and lines[skipped].startswith("#"):
        skipped += 1
    below = [(k, line) for k, line in enumerate(lines) if k >= skipped and line.strip()]
    plain = [line for _, line in below if not line.startswith("#")]
    if not plain:
        raise ValueError(f"{name}: empty file; a header row with the names of the columns is needed")
    if skipped > top and _commented_header(lines[skipped - 1], plain[0], separators):
        plain.insert(0, lines[skipped - 1].lstrip("# "))
        below.insert(0, (skipped - 1, plain[0]))
    quote, escape = _quotes(plain)
    tried = [_tried(below, Dialect((), separator, quote, escape, 0)) for separator in separators]
    found = max(tried, key=lambda each: each.fitness)
    above, rows = found.records[: found.titles + 1], found.records[found.titles + 1 :]
    first = [row[0].strip() for row in rows if row and row[0].strip()]
    numbered = bool(first) and all(map(_NUMBER.fullmatch, first))
    dialect = replace(found.dialect, skip=found.header + 1, numbered=numbered)
    marked = [line for k, line in found.comments if k > found.header]
    if any(is_row(line, dialect, len(above[-1])) for line in marked):
        dialect = dialect.without_comments()
        found = replace(found, records=[*above, *_records([line for k, line in below if k > found.header], dialect)])
    elif marked:
        dialect = replace(dialect, comment="#")
    return _named(dialect, found, name)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What the first lines are with one separator."""

    dialect: Dialect
    records: list[list[str]]
    """what is in the lines that are no comments"""
    comments: list[tuple[int, str]]
    """numbers and lines"""
    titles: int
    """records above the header"""
    header: int
    """number of its line"""
    fitness: tuple[bool, bool, float, int]


def _tried(numbered: Sequence[tuple[int, str]], dialect: Dialect) -> _Tried:
    marked = list(not_rows((line for _, line in numbered), dialect))
    lines = [each for each, is_comment in zip(numbered, marked, strict=True) if not is_comment]
    records = _records([line for _, line in lines], dialect)
    titles = _title_lines(records)
    header, rows = records[titles], records[titles + 1 :]
    agreeing = sum(len(row) == len(header) for row in rows)
    # A broken line is to be found by DuckDB, which says where it is: so the separator of the header counts first.
    agree = agreeing >= 0.9 * len(rows)
    cells = [cell.strip() for row in rows for cell in row]
    numbers = sum(1 for cell in cells if _NUMBER.fullmatch(cell)) / max(len(cells), 1)
    comments = [each for each, is_comment in zip(numbered, marked, strict=True) if is_comment]
    fitness = (len(header) > 1, agree, round(numbers, 2), len(header))
    return _Tried(dialect, records, comments, titles, lines[titles][0], fitness)


def _records(lines: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """Return the cells of lines."""
    quote, escape = dialect.quote, dialect.escape
    options: dict[str, Any] = {"escapechar": escape, "doublequote": False} if escape == "\\" else {}
    try:
        return list(csv.reader(
            lines, delimiter=dialect.separator, quotechar=quote or None, skipinitialspace=True,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE, **options,
        ))  # fmt: skip
    except csv.Error:
        return [line.split(dialect.separator) for line in lines]


def not_rows(lines: Iterable[str], dialect: Dialect, *, comments: bool = True, blanks: bool = False) -> Iterator[bool]:
    """Tell of each line of a file whether it is below the header and a comment, or blank.

    A comment begins with ``#``. In the middle of a cell in quotes there is neither. A quote opens at the start of a
    cell only.

    Examples
    --------
    >>> list(not_rows(["a,b", "# one", '5" pipe,"two', "# lines"], Dialect(("a", "b"))))
    [False, True, False, False]
    """
    quote, escape = re.escape(dialect.quote), re.escape(dialect.escape)
    opening = re.compile(rf"(?:^|{re.escape(dialect.separator)}) *{quote}")
    escaped = quote if escape == quote else "."
    closing = re.compile(rf"(?:[^{quote}{escape}]|{escape}{escaped})*+{quote}", re.DOTALL)
    inside = False
    for k, line in enumerate(lines):
        is_comment = comments and line.startswith("#") and not inside
        is_blank = blanks and not inside and not line.strip() and dialect.separator not in line
        yield (is_comment or is_blank) and k >= dialect.skip
        if is_comment or dialect.quote not in line:
            continue
        end = 0
        while found := closing.match(line, end) if inside else opening.search(line, end):
            inside, end = not inside, found.end()


def is_row(line: str, dialect: Dialect, width: int) -> bool:
    """Tell whether a line that begins with ``#`` is a row as those that do not: of `width` values.

    Examples
    --------
    >>> [is_row(line, Dialect(("a", "b"), numbered=True), 2) for line in ("#x,1", "#3,1", "# x,1", "#x")]
    [True, False, False, False]
    """
    if not re.match(r"#\S", line):
        return False
    cells = _records([line], dialect)[0]
    # Among rows of numbers, # and a number is a row that was commented out.
    return len(cells) == width > 1 and not (dialect.numbered and _NUMBER.fullmatch(cells[0][1:]))


def _title_lines(records: Sequence[Sequence[str]]) -> int:
    """Return how many lines stand above the header: of one value, where all below have the same larger number."""
    width, times = Counter(map(len, records)).most_common(1)[0]
    first = next(k for k, record in enumerate(records) if len(record) == width)
    titles, below = records[:first], records[first:]
    if not 0 < first <= MAX_TITLE_LINES or width < 2 or times < 3 or any(len(record) != width for record in below):
        return 0
    lonely = all(sum(1 for cell in title if cell.strip()) <= 1 for title in titles)
    names = [cell.strip() for cell in below[0]]
    return first if lonely and all(names) and not any(_NUMBER.fullmatch(name) for name in names) else 0


def _commented_header(comment: str, first: str, separators: Sequence[str]) -> bool:
    """Tell whether a comment is the header of a first row that is all numbers."""
    for separator in separators:
        names = comment.removeprefix("#").split(separator)
        cells = first.split(separator)
        if len(names) == len(cells) > 1 and all(_NUMBER.fullmatch(cell.strip()) for cell in cells):
            return True
    return False


def _quotes(lines: Sequence[str]) -> tuple[str, str]:
    """Return quote and escape."""
    text = "".join(lines)
    if '"' in text:
        doubled = re.search(r'[^\\,;\t|\r\n]""(?![,;\t|\r\n])', text)
        return '"', "\\" if '\\"' in text and not doubled else '"'
    if re.search(r"(?:^|[,;\t|])'[^'\n]*'(?:[,;\t|]|\r?$)", text, re.MULTILINE):
        return "'", "'"
    return '"', '"'


def _named(dialect: Dialect, found: _Tried, name: str) -> Dialect:
    """Return the dialect with the names that the header has."""
    header = [" ".join(cell.split()) for cell in found.records[found.titles]]
    rows = found.records[found.titles + 1 :]
    said = [*dialect.said]
    if found.titles:
        said.append(f"{found.titles} line{'s' * (found.titles > 1)} above the header skipped")
    dropped = len(header) > 1 and not header[-1] and all(not row[-1].strip() for row in rows if len(row) == len(header))
    if dropped:
        header.pop()
    if not any(header):
        raise ValueError(f"{name}: a header row with the names of the columns is needed, got an empty one")
    for k, column in enumerate(header):
        if not column:
            header[k] = f"column {k + 1}"
            said.append(f"column {k + 1} has no name in the header; it is called {header[k]!r}")
    if len(set(header)) < len(header):
        column, times = Counter(header).most_common(1)[0]
        raise ValueError(f"{name}: column name {column!r} stands in the header {times} times; names must differ")
    return replace(dialect, names=tuple(header), dropped=dropped, said=tuple(said))
