"""What the columns of a table mean, by rules that are written down here and printed with their outcome.

The first rule that fits decides:

1. What the user says: `Asked.numeric`, `categorical`, `date`, `ignore`, `id`.
2. A column without a value, or with one value in every row, is left out; so are nested and binary values, which no role
   but ``ignore`` and ``id`` can have.
3. Two values that stand for yes and no, in whatever spelling (`values.BOOLEANS`): *boolean*. Also 0 and 1.
4. Digits some of which have leading zeros (02134): *code*, which is a category.
5. Numbers: *numeric*. But whole numbers that differ in every row under a name such as ``order_id``: *identifier*; and
   that repeat under a name such as ``shop_id`` or ``zip``: *code*.
6. Dates, times of day: *date*.
   Where at least 95 % of the cells, and 20, are numbers, and the others a few words without a digit: *numeric*. These
   words are missing values.
7. Text in which values repeat (at most half as many as rows, or ten): *category*.
8. Other text: *identifier* where no value repeats and none has a blank, else *text*. Both are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, Literal, TypeAlias

from backprop.base import checks as check
from backprop.tables import values
from backprop.tables.table import Table, shorten
from backprop.tables.values import Evidence

Names: TypeAlias = str | Sequence[str] | None
"""one column, several or none"""

Meaning: TypeAlias = Literal["numeric", "boolean", "category", "code", "date", "identifier", "text", "nothing"]
MEANINGS: tuple[Meaning, ...] = ("numeric", "boolean", "category", "code", "date", "identifier", "text", "nothing")

EITHER_WAY = "day and month could be the other way round"
FEW_WORDS = 10
MOST_STRAYS, LEAST_NUMBERS, SHARE_OF_NUMBERS = 20, 20, 0.95
_ID_WORDS = {"id", "uuid", "guid", "pk", "index", "idx", "nr", "rowid", "key"}
_CODE_WORDS = {"id", "code", "zip", "zipcode", "plz", "postcode", "postal", "sku"}
_LAST_ID_WORDS = {"no", "number", "num"}


_SINGLE = {"weight", "group", "time"}
# What a role needs, of those that read the cells.
_NEEDS = {"numeric": "numbers", "categorical": "texts or numbers", "date": "dates or times", "weight": "numbers",
          "group": "texts or numbers", "time": "dates or numbers"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says about the columns; everything else is decided by the rules.

    Parameters
    ----------
    targets
        The columns to predict.
    numeric, categorical, date
        Columns that are to be taken so, whatever they look like.
    ignore
        Columns that are not to be used.
    id
        Columns that name the rows: not used, and kept beside the predictions.
    weight
        A column with the weight of each row.
    group
        A column whose equal values are not to stand on both sides of a split.
    time
        A column in whose order the last rows are held out.

    Examples
    --------
    >>> Asked(("price",), ignore=("note",)).roles()
    {'price': 'target', 'note': 'ignored on request'}
    """

    targets: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    weight: str | None = None
    group: str | None = None
    time: str | None = None

    @classmethod
    def of(cls, **given: Names) -> Asked:
        """Return what the user says, with one name for a single one of several, and numbers for names that are text."""
        names = {key: as_names("target" if key == "targets" else key, value) for key, value in given.items()}
        for key in _SINGLE & names.keys():
            if len(names[key]) != 1 and given[key] is not None:
                raise ValueError(f"{key}: needs one column, got {shorten(names[key]) or 'an empty list'}")
        found: dict[str, Any] = {key: (*each, None)[0] if key in _SINGLE else each for key, each in names.items()}
        return cls(**found)

    def roles(self) -> dict[str, str]:
        """Return the columns that are no inputs, and why."""
        found = dict.fromkeys(self.targets, "target")
        found |= {name: "ignored on request" for name in self.ignore if name not in found}
        found |= {name: "an identifier, as was said" for name in self.id if name not in found}
        for name, what in ((self.weight, "the weights of the rows"), (self.group, "the groups of the rows")):
            if name is not None:
                found.setdefault(name, what)
        return found

    def check(self, table: Table) -> None:
        """Raise unless all names are those of columns, and none has two roles that contradict each other."""
        if not self.targets:
            raise ValueError(f"target: needs the column to predict; {table.name} has {shorten(table.columns)}")
        for what, names in self._named().items():
            said = {"targets": "target column", "ignore": "column to ignore", "id": "id column"}.get(what)
            for name in names:
                other = table.column(name, said or f"{what} column").other
                if other and what in _NEEDS:
                    raise ValueError(f"{table.name}: {what} column {name!r} holds {other}; it needs {_NEEDS[what]}")
                if what != "targets" and name in self.targets:
                    role = "target" if len(self.targets) == 1 else "a target"
                    if what not in ("numeric", "categorical"):
                        raise ValueError(f"{what}: {name!r} is {'the ' if role == 'target' else ''}{role}")
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: needs names that differ, got {shorten(names)}")
        kinds = [*self.numeric, *self.categorical, *self.date]
        for name in kinds:
            if kinds.count(name) > 1:
                raise ValueError(
                    f"{name!r}: is to be taken in two ways; numeric, categorical and date exclude each other"
                )

    def _named(self) -> dict[str, tuple[str, ...]]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {what: (names,) if isinstance(names, str) else tuple(names or ()) for what, names in given.items()}


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what it means.

    Parameters
    ----------
    name
        As the table has it.
    meaning
        One of `MEANINGS`.
    why
        The rule that decided, in words.
    decimal
        The decimal mark of its numbers.
    written
        How it writes dates: a key of `values.DATE_FORMATS`, ``"time of day"`` or ``"seconds"``.
    numbers
        Whether the words of a category are numbers, of which 3 and 3.0 are one.
    plain
        Whether all of its numbers are written as programs do, so that reading them is fast.
    strays
        Words among its numbers that are missing values, in small letters.
    """

    name: str
    meaning: Meaning
    why: str = ""
    decimal: str = "."
    written: str = "ISO 8601"
    numbers: bool = False
    plain: bool = False
    strays: tuple[str, ...] = ()

    @property
    def is_words(self) -> bool:
        """Whether its values are words rather than numbers."""
        return self.meaning in ("category", "code", "identifier", "text")


def decided(
    table: Table,
    names: Sequence[str],
    asked: Asked | None = None,
    preferred: str | None = None,
    *,
    seen: Mapping[str, Evidence] | None = None,
) -> dict[str, Column]:
    """Return what columns mean.

    Parameters
    ----------
    table
        The table.
    names
        Which of its columns to look at.
    asked
        What the user says; nothing by default.
    preferred
        The decimal mark to assume where no column tells; by default `Table.decimal`.
    seen
        What `values.evidence` gave for the columns, if it has been asked already.

    Examples
    --------
    >>> from backprop.tables.sources import open_table
    >>> table = open_table({"zip": ["02134", "07030"], "open": ["yes", "No"], "price": ["$ 1,200", "12 %"]})
    >>> [column.meaning for column in decided(table, list(table.columns)).values()]
    ['code', 'boolean', 'numeric']
    """
    asked = asked or Asked(())
    seen = seen or values.evidence(table, names)
    marks, unsure = values.decimal_marks(seen, preferred or table.decimal)
    found = {name: _decided(table, name, seen[name], marks[name], asked) for name in names}
    return {name: with_doubt(table, column) if name in unsure else column for name, column in found.items()}


def with_doubt(table: Table, column: Column) -> Column:
    """Return a column whose decimal mark nothing tells; where it is one of numbers, the reason says so."""
    if column.meaning != "numeric" or column.plain:  # programs write points, and no thousands
        return column
    doubt = values.open_mark(table, table.columns[column.name], column.decimal)
    return replace(column, why=f"{column.why or 'numbers'}; {doubt}") if doubt else column


def of_dates(column: Column, written: str, either: bool) -> Column:
    """Return a column of dates of a form; the reason says if day and month could be `either` way round."""
    why = (column.why or f"dates, {written}") + (f"; {EITHER_WAY}" if either else "")
    return replace(column, meaning="date", why=why, written=written)


def notes(columns: Iterable[Column]) -> tuple[str, ...]:
    """Return the reasons that say what may be wrong, which stands behind a semicolon."""
    return tuple(f"{column.name}: {column.why}" for column in columns if "; " in column.why)


def _decided(table: Table, name: str, seen: Evidence, mark: str, asked: Asked) -> Column:
    stored = table.columns[name]
    column = Column(name, "nothing", decimal=mark, plain=mark == "." and seen.all(seen.plain))
    all_numbers = seen.all(seen.numbers[mark])
    if stored.other:
        return replace(column, why=stored.other)
    if not seen.there:
        return replace(column, why="empty")
    if name in asked.numeric:
        return replace(column, meaning="numeric", why="as was said")
    if name in asked.categorical:
        return replace(column, meaning="category", why="as was said", numbers=all_numbers and not seen.zeros)
    if name in asked.date:
        return of_dates(replace(column, why="as was said"), *_date_as_asked(table, name, seen))
    if seen.distinct == 1 and not seen.missing:
        return replace(column, why="constant")
    if _is_boolean(table, name, seen, all_numbers):
        return replace(column, meaning="boolean", why="yes and no")
    if seen.zeros and seen.all(seen.digits):
        return replace(column, meaning="code", why="digits with leading zeros")
    if all_numbers:
        return _number(replace(column, meaning="numeric", why="numbers"), seen)
    if stored.kind in ("date", "time") or seen.all(seen.times):
        written = "ISO 8601" if stored.kind == "date" else "time of day"
        dates = "dates in UTC" if stored.type.endswith("TIME ZONE") else "dates"
        return replace(column, meaning="date", why=dates if stored.kind == "date" else "times of day", written=written)
    could_be = 6 <= seen.longest <= 40 and seen.all(seen.with_digits)
    if could_be and (found := values.date_format(table, stored, seen.there)):
        return of_dates(column, *found)
    if name not in asked.targets and (mended := _with_strays(table, column, seen)):
        return mended
    return _words(table, column, seen)


def _number(column: Column, seen: Evidence) -> Column:
    """Return what a column of numbers means: perhaps its name says that it is none."""
    tokens = _tokens(column.name)
    if not seen.whole:
        return column
    if seen.distinct >= seen.rows and tokens & (_ID_WORDS | _LAST_ID_WORDS):
        return replace(column, meaning="identifier", why="whole numbers that differ in every row, and its name")
    if seen.distinct <= seen.there / 2 and tokens & _CODE_WORDS:
        return replace(column, meaning="code", why="whole numbers, and its name", numbers=True)
    return column


def _with_strays(table: Table, column: Column, seen: Evidence) -> Column | None:
    """Return a column of numbers with a few words among them, None where it is another one."""
    numbers = seen.numbers[column.decimal]
    few = max(LEAST_NUMBERS, SHARE_OF_NUMBERS * seen.there) > numbers
    if few or numbers == seen.there or seen.zeros or seen.distinct <= FEW_WORDS:
        return None
    stored = table.columns[column.name]
    found = table.rows(
        f"SELECT DISTINCT lower({values.trimmed(stored.sql)}) AS word FROM {table.relation} "
        f"WHERE {_no_number(table, column)} ORDER BY word LIMIT {MOST_STRAYS + 1}"
    )
    strays = tuple(word for (word,) in found)
    # What has a digit in it says how much: 5+, 12 kg.
    if len(strays) > MOST_STRAYS or any(character.isdigit() for word in strays for character in word):
        return None
    why = f"numbers; {_said_stray(table, column, seen)}, which counts as missing"
    return _number(replace(column, meaning="numeric", why=why, strays=strays), seen)


def _tokens(name: str) -> set[str]:
    """Return the first and the last word of a name; of those that only end a name, the last.

    Examples
    --------
    >>> sorted(_tokens("OrderId")), sorted(_tokens("number_of_rooms"))
    (['id', 'order'], ['rooms'])
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    return {words[-1], *({words[0]} - _LAST_ID_WORDS)} if words else set()


def _words(table: Table, column: Column, seen: Evidence) -> Column:
    if seen.distinct <= max(FEW_WORDS, seen.there / 2):
        return replace(column, meaning="category", why=f"text with {seen.distinct:,} different values")
    stored = table.columns[column.name]
    why = f"text with {seen.distinct:,} different values in {seen.there:,} rows"
    if (note := almost_numeric(table, column, seen)) and not _tokens(column.name) & _ID_WORDS:
        return replace(column, meaning="text", why=f"{why}; {note}")
    blanks = table.row(f"SELECT count(*) FILTER (contains({values.text(stored)}, ' ')) FROM {table.relation}")[0]
    if seen.distinct == seen.there and not blanks:
        return replace(column, meaning="identifier", why="text that differs in every row")
    return replace(column, meaning="text", why=why)


def almost_numeric(table: Table, column: Column, seen: Evidence) -> str | None:
    """Tell which cell makes words of a column most of whose cells are numbers."""
    if 2 * seen.numbers[column.decimal] <= seen.there or seen.all(seen.numbers[column.decimal]):
        return None
    return f"not numeric: {_said_stray(table, column, seen)}"


def _said_stray(table: Table, column: Column, seen: Evidence) -> str:
    """Return how many cells are numbers, and which is the first that is none."""
    row, cell = table.where(_no_number(table, column), values.text(table.columns[column.name])) or (0, "")
    return f"{seen.numbers[column.decimal]:,} of {seen.there:,} cells are numbers, but row {row:,} is {cell!r:.80}"


def _no_number(table: Table, column: Column) -> str:
    """Return the condition that a cell says something that is no number."""
    stored = table.columns[column.name]
    return f"NOT {values.is_missing(stored)} AND {values.number(stored, column.decimal)} IS NULL"


def _is_boolean(table: Table, name: str, seen: Evidence, all_numbers: bool) -> bool:
    stored = table.columns[name]
    if stored.kind == "boolean":
        return True
    if not seen.all(seen.booleans) or seen.distinct < 2:
        return False
    if all_numbers:
        return seen.distinct == 2 and not seen.zeros
    found = table.rows(
        f"SELECT DISTINCT lower({values.trimmed(stored.sql)}) FROM {table.relation} "
        f"WHERE NOT {values.is_missing(stored)} LIMIT 20"
    )
    words = {word for (word,) in found}
    plain = {word for pair in values.BOOLEANS[:5] for word in pair} | {"1", "0", "1.0", "0.0"}
    return any(words == set(pair) for pair in values.BOOLEANS) or (
        words <= plain and bool(words & set(values.TRUE)) and bool(words & set(values.FALSE))
    )


def _date_as_asked(table: Table, name: str, seen: Evidence) -> tuple[str, bool]:
    stored = table.columns[name]
    if found := values.date_format(table, stored, seen.there, on_request=True):
        return found
    if seen.all(seen.times) or stored.kind == "time":
        return "time of day", False
    if seen.all(seen.numbers["."]):
        return "seconds", False
    odd = " AND ".join(f"{values.instant(stored, written)} IS NULL" for written in values.DATE_FORMATS)
    row, cell = table.where(f"NOT {values.is_missing(stored)} AND {odd}", values.text(stored)) or (1, "several formats")
    raise ValueError(
        f"{table.name}, row {row:,}: column {name!r} needs dates of one form "
        f"({', '.join(list(values.DATE_FORMATS)[:4])}, ...), got {cell!r}"
    )


def counted(columns: Mapping[str, Column]) -> str:
    """Return how many columns of each meaning there are, as text.

    Examples
    --------
    >>> counted({"a": Column("a", "numeric"), "b": Column("b", "numeric"), "c": Column("c", "date")})
    '2 numeric, 1 date'
    """
    meanings = [column.meaning for column in columns.values()]
    return ", ".join(f"{meanings.count(each):,} {each}" for each in MEANINGS if each in meanings)


def as_names(what: str, given: Names) -> tuple[str, ...]:
    """Return names of columns: one text is one name.

    Examples
    --------
    >>> as_names("target", "price"), as_names("ignore", None)
    (('price',), ())
    """
    one = given is not None and (isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Iterable))
    found: tuple[Any, ...] = () if given is None else (given,) if one else tuple(given)
    # Names that are integers are text in a table.
    names = tuple(str(name) if isinstance(name, Integral) else name for name in found)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{what}: needs names of columns, got {check.shown(name)}")
    return names
