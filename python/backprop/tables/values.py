r"""What the cells of a text column say: missing, number, boolean, date; as SQL, so that DuckDB does it for all rows.

The rules:

- **missing** are the empty cell and `MISSING`, in capitals or not, and infinities; among numbers, booleans and dates
  also `MISSING_WORDS`, which among other words are words.
- **numbers** may have a sign, or stand in parentheses for one; a currency sign or code before or behind them; a percent
  or permille sign, which divides; thousands set off by comma or point, blank or apostrophe; an exponent.
- **decimal mark**: point (1,234.56) or comma (1.234,56), for each column the one with which all of its cells are
  numbers. Where both are possible (1,234), the one of most other columns, then that of the training rows, then the
  comma in a file of semicolons, else the point.
- **booleans** are the pairs of `BOOLEANS`, in capitals or not, in any mixture, and 1 and 0.
- **dates** are ISO 8601, or in one of `DATE_FORMATS`, for each column the first one with which all of its cells are
  dates. Of 01/02/2025, the month comes first if no cell is against it, and this is said. Times with a zone are in UTC,
  whatever the rows come from.
- **durations** are seconds; in text, as pandas writes them: 40 days 23:00:00.
- **codes** are whole numbers some of which have leading zeros: 02134.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.tables.engine import literal
from backprop.tables.table import Stored, Table

Decimal: TypeAlias = Literal[".", ","]

BLANKS = " \t\r\n\x0b\x0c\xa0\u2009\u202f\ufeff"
"""what does not count around a text"""
MISSING = ("", "na", "n/a", "#n/a", "#na", "#value!", "#ref!", "#div/0!", "#num!", "#null!", "#name?", "nan", "-nan",
           "null", "nat", "<na>", "<null>", "-", "--", "---", "–", "—", "?", ".", "\\n",
           "inf", "-inf", "+inf", "infinity", "-infinity", "+infinity", "1.#inf", "-1.#inf", "1.#qnan", "-1.#ind",
           "∞", "-∞", "k.a.", "k. a.", "n.a.", "n. a.", "n.d.", "(null)", "(blank)")  # fmt: skip
MISSING_WORDS = ("none", "nil", "missing", "unknown", "not available", "keine angabe", "unbekannt", "inconnu")
BOOLEANS = (("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("on", "off"), ("ja", "nein"), ("j", "n"),
            ("oui", "non"), ("o", "n"), ("si", "no"), ("sí", "no"), ("sì", "no"), ("s", "n"), ("wahr", "falsch"),
            ("vrai", "faux"), ("verdadero", "falso"), ("vero", "falso"), ("sim", "não"), ("tak", "nie"),
            ("da", "ne"), ("1", "0"), ("1.0", "0.0"))  # fmt: skip
TRUE = tuple(dict.fromkeys(yes for yes, _ in BOOLEANS))
FALSE = tuple(dict.fromkeys(no for _, no in BOOLEANS))

_CURRENCY = (r"(?:US\$|R\$|A\$|C\$|HK\$|[$€£¥₹₽₩₺₴₫₪฿₱]|USD|EUR|GBP|CHF|JPY|CNY|SEK|NOK|DKK|PLN|CZK|HUF|AUD|CAD|"
             r"NZD|INR|BRL|MXN|ZAR|TRY|kr\.?|zł|Kč|Ft|Fr\.)")  # fmt: skip
_BLANK = r"[ \x{a0}\x{2009}\x{202f}]"
_NUMBER: Mapping[str, str] = {
    mark: (
        rf"(?:\d+(?:{point}\d*)?|{point}\d+|[1-9]\d{{0,2}}(?:{comma}\d{{2,3}})*{comma}\d{{3}}(?:{point}\d*)?|"
        rf"[1-9]\d{{0,2}}(?:{_BLANK}\d{{3}})+(?:{point}\d*)?|[1-9]\d{{0,2}}(?:['’]\d{{3}})+(?:{point}\d*)?)(?:[eE][+-]?\d+)?"
    )
    for mark, point, comma in ((".", r"\.", ","), (",", ",", r"\."))
}  # fmt: skip
_FULL = {
    mark: (
        rf"^(?:[-+−–]?{_BLANK}?(?:{_CURRENCY}{_BLANK}?)?[-+−–]?{number}(?:{_BLANK}?(?:%|‰|{_CURRENCY}))?|"
        rf"\((?:{_CURRENCY}{_BLANK}?)?{number}(?:{_BLANK}?(?:%|{_CURRENCY}))?\))$"
    )
    for mark, number in _NUMBER.items()
}

_DURATION = r"[+-]?\d+ days?(?:,? [+-]?\d{1,2}:\d\d:\d\d(?:\.\d+)?)?"

# Times behind a date, as strptime has them; the first one is none.
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S", ", %H:%M")
DATE_FORMATS: Mapping[str, tuple[str, ...]] = {
    "ISO 8601": (),
    "year/month/day": tuple(f"%Y/%m/%d{time}" for time in _TIMES),
    "day.month.year": tuple(f"%d.%m.{year}{time}" for year in ("%Y", "%y") for time in _TIMES),
    "month/day/year": tuple(f"%m/%d/{year}{time}" for year in ("%Y", "%y") for time in _TIMES),
    "day/month/year": tuple(f"%d/%m/{year}{time}" for year in ("%Y", "%y") for time in _TIMES),
    "day-month-year": tuple(f"%d-%m-%Y{time}" for time in _TIMES),
    "day month year": tuple(f"{day}{time}" for day in ("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%a, %d %b %Y")
                            for time in _TIMES),
    "month day, year": tuple(f"{day}{time}" for day in ("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y")
                             for time in _TIMES),
    "yearmonthday": ("%Y%m%d",),
    "year-month": ("%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%b %Y", "%B %Y", "%b-%Y"),
}  # fmt: skip
# A zone behind a time: Z, +02:00, Europe/Berlin.
_ZONE = r":\d\d(?:\.\d+)?\s?(?:[+-]\d\d(?::?\d\d)?|[A-Za-z][A-Za-z_/]+|Z)$"
# Not tried unless it is asked for: whole numbers would be dates.
ON_REQUEST = ("yearmonthday",)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How many cells of a column can be what.

    Parameters
    ----------
    rows, missing
        How many there are, and how many of them say nothing.
    numbers
        How many are numbers, for each decimal mark.
    booleans, digits, zeros
        How many are booleans; made of digits alone; of these, begin with a zero that no number needs.
    whole
        Whether all numbers are whole.
    distinct
        About how many different values there are.
    times
        How many are times of day.
    plain
        How many are numbers as programs write them, which need no rule of ours.
    with_digits
        How many have a digit in them.
    longest
        Characters of the longest cell.
    """

    rows: int
    missing: int
    numbers: Mapping[str, int]
    booleans: int = 0
    digits: int = 0
    zeros: int = 0
    whole: bool = False
    distinct: int = 0
    times: int = 0
    longest: int = 0
    plain: int = 0
    with_digits: int = 0

    @property
    def there(self) -> int:
        """How many cells say something."""
        return self.rows - self.missing

    def all(self, count: int) -> bool:
        """Tell whether all cells that say something are of a kind, and there are some."""
        return 0 < count == self.there


ALL_WHOLE = 2**53
"""from which on floats lack some of the whole numbers"""

# --- SQL -----------------------------------------------------------------------------------------------------------


_TRIMMED = "t"  # a column of queries of this module, without blanks around its texts


def one_of(expression: str, words: Iterable[str]) -> str:
    """Return the condition that a text is one of some words."""
    return f"{expression} IN ({', '.join(literal(word) for word in words)})"


def trimmed(text: str) -> str:
    """Return the expression of a text without blanks around it, as text whatever its type."""
    if text == _TRIMMED:
        return text
    return f"trim(CAST({text} AS VARCHAR), '{BLANKS}')"


def is_missing(column: Stored, *, among_words: bool = False) -> str:
    """Return the condition that a cell says nothing."""
    if column.kind == "number":
        value = f"CAST({number(column, '.')} AS DOUBLE)"
        return f"({value} IS NULL)"
    if column.kind == "text":
        marks = MISSING if among_words else MISSING + MISSING_WORDS
        return f"({column.sql} IS NULL OR {one_of(f'lower({trimmed(column.sql)})', marks)})"
    return f"({column.sql} IS NULL)"


def plain_number(column: Stored) -> str:
    """Return the expression of a text as a finite DOUBLE, by the rules of programs alone."""
    fast = f"TRY_CAST({trimmed(column.sql)} AS DOUBLE)"
    # DuckDB also takes 1_000 and the names of infinities.
    return f"CASE WHEN isfinite({fast}) AND NOT contains({column.sql}, '_') THEN {fast} END"


def number(column: Stored, decimal: str, *, plain: bool = False) -> str:
    """Return the expression of a cell as a finite DOUBLE, NULL where it is none; `plain`: by `plain_number`."""
    if column.kind in ("number", "boolean"):
        value = f"epoch({column.sql})" if column.type == "INTERVAL" else column.sql
        value = f"CAST({value} AS DOUBLE)"
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    if column.kind != "text":
        return "CAST(NULL AS DOUBLE)"
    text = trimmed(column.sql)
    fast = f"TRY_CAST({text} AS DOUBLE)"
    if plain:
        return plain_number(column)
    other = "," if decimal == "." else "."
    digits = f"regexp_extract({text}, '[0-9.,][0-9.,''’ \xa0\u2009\u202f]*(?:[eE][+-]?[0-9]+)?')"
    digits = f"translate({digits}, '{other}''’ \xa0\u2009\u202f', '')"
    if decimal == ",":
        digits = f"replace({digits}, ',', '.')"
    sign = f"CASE WHEN regexp_matches({text}, '^[^0-9]*[-−–(]') THEN -1 ELSE 1 END"
    unit = f"CASE WHEN contains({text}, '%') THEN 100 WHEN contains({text}, '‰') THEN 1000 ELSE 1 END"
    careful = (
        f"CASE WHEN regexp_full_match({text}, {literal(_FULL[decimal])}) "
        f"THEN nullif(TRY_CAST({digits} AS DOUBLE), 'inf'::DOUBLE) * {sign} / {unit} "
        f"WHEN regexp_full_match({text}, {literal(_DURATION)}) THEN {_seconds(text)} END"
    )
    if decimal == ".":  # what DuckDB's own cast takes is right, but for 1_000 and the names of infinities
        return (
            f"CASE WHEN isfinite({fast}) AND NOT contains({text}, '_') THEN {fast} "
            f"WHEN {fast} IS NULL THEN {careful} END"
        )
    plainly = f"isfinite({fast}) AND regexp_full_match({text}, '[-+]?[0-9]+')"
    return f"CASE WHEN {plainly} THEN {fast} ELSE {careful} END"


def _seconds(duration: str) -> str:
    days = f"TRY_CAST(regexp_extract({duration}, '^[+-]?[0-9]+') AS DOUBLE)"
    rest = f"TRY_CAST(regexp_extract({duration}, '[0-9]+:[0-9:.]+$') AS INTERVAL)"
    return f"({days} * 86400 + coalesce(epoch({rest}), 0))"


def boolean(column: Stored) -> str:
    """Return the expression of a cell as BOOLEAN, NULL where it is none."""
    if column.kind == "boolean":
        return column.sql
    if column.kind == "number":
        return f"CASE WHEN {column.sql} = 1 THEN true WHEN {column.sql} = 0 THEN false END"
    if column.kind != "text":
        return "CAST(NULL AS BOOLEAN)"
    text = f"lower({trimmed(column.sql)})"
    return f"CASE WHEN {one_of(text, TRUE)} THEN true WHEN {one_of(text, FALSE)} THEN false END"


def instant(column: Stored, written: str) -> str:
    """Return the expression of a cell as TIMESTAMP, NULL where it is none; `written` is a key of `DATE_FORMATS`."""
    if column.kind == "date":
        # Not the time of the place where the program runs:
        local = f"timezone('UTC', {column.sql})" if column.type.endswith("TIME ZONE") else column.sql
        return f"TRY_CAST({local} AS TIMESTAMP)"
    if column.kind == "time":
        return f"TRY_CAST('1970-01-01 ' || CAST({column.sql} AS VARCHAR)[:15] AS TIMESTAMP)"
    if column.kind not in ("text", "number"):
        return "CAST(NULL AS TIMESTAMP)"
    text = trimmed(column.sql) if column.kind == "text" else text_of_number(column)
    if written == "time of day":
        return f"TRY_CAST('1970-01-01 ' || {text} AS TIMESTAMP)"
    if written == "seconds":
        return f"TRY_CAST(to_timestamp({number(column, '.')}) AS TIMESTAMP)"
    formats = DATE_FORMATS[written]
    if not formats:  # a bare year is a number
        in_utc = f"timezone('UTC', TRY_CAST({text} AS TIMESTAMP WITH TIME ZONE))"
        return (
            f"CASE WHEN regexp_matches({text}, {literal(_ZONE)}) THEN {in_utc} "
            f"WHEN length({text}) >= 8 THEN TRY_CAST({text} AS TIMESTAMP) END"
        )
    return f"try_strptime({text}, [{', '.join(literal(each) for each in formats)}])"


def text(column: Stored) -> str:
    """Return the expression of a cell as text, NULL where it says nothing."""
    if column.kind == "text":
        return f"CASE WHEN NOT {is_missing(column, among_words=True)} THEN {trimmed(column.sql)} END"
    if column.kind == "number":
        return text_of_number(column)
    return f"CAST({column.sql} AS VARCHAR)"


def text_of_number(column: Stored) -> str:
    """Return the expression of a number as text: 3.0 and 3 are one category, whatever the file's type."""
    value = f"epoch({column.sql})" if column.type == "INTERVAL" else column.sql
    return _numeral(number(column, "."), f"TRY_CAST({value} AS HUGEINT)", f"CAST({value} AS DOUBLE)")


def text_of(column: Stored, *, numeric: bool, decimal: str = ".") -> str:
    """Return the expression of a cell as a label; equal numbers are equal labels where they are `numeric`."""
    if not numeric or column.kind != "text":
        return text(column)
    value, cell = number(column, decimal), trimmed(column.sql)
    digits = f"CASE WHEN regexp_full_match({cell}, '[-+]?[0-9]+') THEN TRY_CAST({cell} AS HUGEINT) END"
    return f"coalesce({_numeral(value, digits, value)}, {text(column)})"


def _numeral(value: str, exact: str, rounded: str) -> str:
    """Return the expression of a number as text; `value` is a DOUBLE.

    Where DOUBLE has not all whole numbers, it is the text of `exact`, a HUGEINT, or of `rounded` where that is NULL.
    """
    whole = f"abs({value}) < 1e15 AND {value} = trunc({value})"
    integer = f"coalesce({exact}, TRY_CAST({rounded} AS HUGEINT))"
    return (f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) WHEN abs({value}) >= {ALL_WHOLE} "
            f"AND {integer} IS NOT NULL THEN CAST({integer} AS VARCHAR) ELSE CAST({value} AS VARCHAR) END")  # fmt: skip


# --- evidence ------------------------------------------------------------------------------------------------------

EXACT_ROWS = 1_000_000  # up to which different values are counted exactly


def evidence(table: Table, names: Sequence[str]) -> dict[str, Evidence]:
    """Return what the cells of columns can be, from one pass over all rows for each kind of them.

    Columns of a kind become one long column of (name, value), so that a table of many columns is one short query.
    """
    rows = len(table)
    found: dict[str, Evidence] = {}
    for kinds, query in ((("text",), _TEXT_EVIDENCE), (("number", "boolean"), _NUMBER_EVIDENCE),
                         (("date", "time"), _OTHER_EVIDENCE)):  # fmt: skip
        some = [name for name in names if table.columns[name].kind in kinds]
        answers = _asked(table, some, query, rows)
        found |= {name: _evidence_of(rows, answers.get(name)) for name in some}
    texts = [name for name in names if table.columns[name].kind == "text"]
    # Most columns need no closer look, which takes ten times as long.
    closer = [name for name in texts if found[name].with_digits and found[name].plain < found[name].there]
    for name, (point, whole) in _asked(table, closer, _POINT_EVIDENCE, rows).items():
        found[name] = replace(found[name], numbers={".": int(point), ",": 0}, whole=bool(whole))
    commas = bool(closer) or table.decimal == ","
    with_points = [name for name in texts if commas and found[name].with_digits]
    for name, (comma,) in _asked(table, with_points, _COMMA_EVIDENCE, rows).items():
        found[name] = replace(found[name], numbers={**found[name].numbers, ",": int(comma)})
    for name in _large_integers(table, names):  # as floats, some that differ are one
        exact = table.row(f"SELECT count(DISTINCT {table.columns[name].sql}) FROM {table.relation}")
        found[name] = replace(found[name], distinct=int(exact[0]))
    nothing = Evidence(rows, rows, {".": 0, ",": 0})
    return {name: found.get(name, nothing) for name in names}


def _large_integers(table: Table, names: Sequence[str]) -> list[str]:
    """Return the columns of integers some of which are so large that floats do not have all of their neighbours."""
    some = [name for name in names if table.columns[name].type.partition("(")[0] in _LARGE]
    if not some:
        return []
    sizes = ", ".join(f"max(abs(CAST({table.columns[name].sql} AS DOUBLE))) >= {ALL_WHOLE}" for name in some)
    found = table.row(f"SELECT {sizes} FROM {table.relation}")
    return [name for name, is_large in zip(some, found, strict=True) if is_large]


def _asked(table: Table, names: Sequence[str], query: str, rows: int) -> dict[str, tuple[Any, ...]]:
    """Return what a query on the long column says about each of some columns."""
    if not names:
        return {}
    long = ", ".join(f"{_plain_value(table.columns[name])} AS n{k}" for k, name in enumerate(names))
    distinct = "count(DISTINCT t)" if rows <= EXACT_ROWS else "approx_count_distinct(t)"
    answers = table.rows(
        f"WITH long AS (UNPIVOT (SELECT {long} FROM {table.relation}) ON COLUMNS(*) INTO NAME k VALUE t) "
        + query.replace("{distinct}", distinct)
    )
    return {names[int(row[0][1:])]: row[1:] for row in answers}


def _plain_value(column: Stored) -> str:
    if column.kind == "text":
        return trimmed(column.sql)
    return number(column, ".") if column.kind in ("number", "boolean") else f"CAST({column.sql} AS VARCHAR)"


_LARGE = ("BIGINT", "HUGEINT", "UBIGINT", "UHUGEINT", "BIGNUM", "DECIMAL")

# What has a date in front is as long as nanoseconds, which Polars writes; DuckDB takes it for a time, too.
_LOOKS_LIKE_TIME = (
    "contains(t, ':') AND (length(t) <= 15 OR regexp_full_match(t, '[0-9]{1,2}:[0-9]{2}:[0-9]{2}[.][0-9]{7,9}'))"
)
# Without blanks, which the long column does not have any more.
_TEXT = Stored(_TRIMMED, "VARCHAR")
_TEXT_EVIDENCE = (
    f"SELECT k, count(*), count(x), 0, count({boolean(_TEXT)}), count(*) FILTER (regexp_full_match(t, '[0-9]+')), "
    "count(*) FILTER (regexp_full_match(t, '0[0-9]+')), bool_and(x = trunc(x)), {distinct}, "
    f"count(*) FILTER ({_LOOKS_LIKE_TIME} AND TRY_CAST(t AS TIME) IS NOT NULL), max(length(t)), "
    "count(x), count(*) FILTER (regexp_matches(t, '[0-9]')) "
    f"FROM (SELECT k, t, {plain_number(_TEXT)} AS x FROM long WHERE NOT {is_missing(_TEXT)}) GROUP BY k"
)
_POINT_EVIDENCE = (
    f"SELECT k, count(x), bool_and(x = trunc(x)) FROM (SELECT k, {number(_TEXT, '.')} AS x FROM long "
    f"WHERE NOT {is_missing(_TEXT)}) GROUP BY k"
)
_COMMA_EVIDENCE = f"SELECT k, count({number(_TEXT, ',')}) FROM long WHERE NOT {is_missing(_TEXT)} GROUP BY k"
_NUMBER_EVIDENCE = (
    "SELECT k, count(*), count(*), count(*), count(*) FILTER (t IN (0, 1)), 0, 0, bool_and(t = trunc(t)), {distinct}, "
    "0, 0, count(*), count(*) FROM long GROUP BY k"
)
_OTHER_EVIDENCE = "SELECT k, count(*), 0, 0, 0, 0, 0, false, {distinct}, 0, 0, 0, 0 FROM long GROUP BY k"


def _evidence_of(rows: int, counts: tuple[Any, ...] | None) -> Evidence:
    if counts is None:
        return Evidence(rows, rows, {".": 0, ",": 0})
    there, point, comma, booleans, digits, zeros, whole, distinct, times, longest, plain, with_digits = counts
    return Evidence(rows, rows - int(there), {".": int(point), ",": int(comma)}, int(booleans), int(digits), int(zeros),
                    bool(whole), int(distinct), int(times), int(longest), int(plain), int(with_digits))  # fmt: skip


def decimal_marks(evidences: Mapping[str, Evidence], preferred: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the decimal mark of each column, and the columns for which neither their cells nor others tell it."""
    sure = {name: mark for name, seen in evidences.items() for mark in ".,"
            if seen.all(seen.numbers[mark]) and not seen.all(seen.numbers["," if mark == "." else "."])}  # fmt: skip
    marks = list(sure.values())
    points, commas = marks.count("."), marks.count(",")
    table_mark = preferred if points == commas else "." if points > commas else ","
    chosen = {}
    for name, seen in evidences.items():
        other = "," if table_mark == "." else "."
        chosen[name] = other if seen.numbers[other] > seen.numbers[table_mark] else table_mark
    return chosen, () if points != commas else tuple(name for name in evidences if name not in sure)


def open_mark(table: Table, column: Stored, decimal: str) -> str | None:
    """Tell how a number is read whose only mark could be the decimal one, or set off thousands, None without one."""
    if column.kind != "text":
        return None
    text = trimmed(column.sql)
    marked = f"NOT contains({text}, ':') AND regexp_matches({text}, '[0-9][.,][0-9]')"
    both = " AND ".join(f"{number(column, mark)} IS NOT NULL" for mark in ".,")
    found = table.row(
        f"SELECT {text}, {number(column, decimal)} FROM {table.relation} WHERE {marked} AND {both} LIMIT 1"
    )
    if not found:
        return None
    cell, value = found
    mark = "comma" if "," in cell else "point"
    other = "set off thousands" if mark == {".": "point", ",": "comma"}[decimal] else "be the decimal mark"
    return f"{cell!r:.40} is read as {value:.15g}, but the {mark} could {other}"


def date_format(table: Table, column: Stored, there: int, *, on_request: bool = False) -> tuple[str, bool] | None:
    """Return how all cells of a column write dates, and whether day and month could be the other way round."""
    if column.kind == "date":
        return "ISO 8601", False
    gone = is_missing(column)
    tried = [written for written in DATE_FORMATS if on_request or written not in ON_REQUEST]
    first = table.row(f"SELECT {text(column)} FROM {table.relation} WHERE NOT {gone} LIMIT 1")
    if not first:
        return None
    sample = literal(str(first[0]))
    one = Stored(sample, "VARCHAR")
    fits = table.row("SELECT " + ", ".join(f"{instant(one, written)} IS NOT NULL" for written in tried))
    tried = [written for written, fit in zip(tried, fits, strict=True) if fit]
    if not tried:
        return None
    counts = table.row(
        "SELECT " + ", ".join(f"count(*) FILTER (NOT {gone} AND {instant(column, written)} IS NOT NULL)"
                              for written in tried) + f" FROM {table.relation}"
    )  # fmt: skip
    whole = [written for written, count in zip(tried, counts, strict=True) if count == there]
    return (whole[0], {"month/day/year", "day/month/year"} <= set(whole)) if whole else None


def as_floats(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return DuckDB's numbers as floats, NaN where missing."""
    plain, missing = parts_of(values)
    floats = plain.astype(np.float64)
    return np.where(missing, np.nan, floats) if missing.any() else floats


def parts_of(cells: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the values of an array of DuckDB, and which of them are missing."""
    if type(cells) is np.ndarray:  # without a look at numpy.ma, which takes a while to import
        return cells, np.zeros(len(cells), bool)
    data: Any = cells.data
    return data, np.ma.getmaskarray(cells)


def is_written(table: Table, column: Stored, written: str) -> bool:
    """Tell whether all cells of a column are dates of a form."""
    expression = instant(column, written)
    found = table.row(f"SELECT count(*) FROM {table.relation} WHERE NOT {is_missing(column)} AND {expression} IS NULL")
    return int(found[0]) == 0
