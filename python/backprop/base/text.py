"""Tables of text and of Markdown, for what is printed; values in messages."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def decimals(values: ArrayLike, digits: int = 10, *, like: ArrayLike | None = None) -> list[str]:
    """Write a column of numbers alike: with `digits` decimals, or with an exponent where all are small or one is large.

    ``like`` are the numbers that decide which, by default the column's own.

    Examples
    --------
    >>> from backprop.base.text import decimals
    >>> decimals([0.25, -1.5, -1e-9], 3), decimals([1e-9, 2e-9], 3)
    (['0.250', '-1.500', '0.000'], ['1.000e-09', '2.000e-09'])
    """
    numbers = np.asarray(values, np.float64).reshape(-1)
    sizes = np.abs(numbers if like is None else np.asarray(like, np.float64).reshape(-1))
    sizes = sizes[np.isfinite(sizes)]
    largest = sizes.max() if sizes.size else 0.0
    plain = largest == 0 or min(0.1, 10.0 ** (5 - digits)) <= largest < 1e6
    texts = [f"{number:.{digits}{'f' if plain else 'e'}}" for number in numbers]
    zero = f"{0.0:.{digits}f}"
    return [zero if text == "-" + zero else text for text in texts]


def shortest(number: np.floating[Any]) -> str:
    """Return the text that NumPy has for a number by default, whatever `numpy.set_printoptions` was told.

    It has no more digits than this very number of a float32 or float64 needs.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.base.text import shortest
    >>> shortest(np.float32(0.1)), shortest(np.float64(2)), shortest(np.float32(9.053558e10))
    ('0.1', '2.0', '9.053558e+10')
    """
    most = 1e6 if number.dtype.itemsize == 4 else 1e16
    if number == 0 or 1e-4 <= abs(float(number)) < most:
        return np.format_float_positional(number, trim="0")
    return np.format_float_scientific(number, trim="-", exp_digits=2)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Lay a table out in columns, the first `left` of them flush left, the others flush right.

    Examples
    --------
    >>> from backprop.base.text import aligned
    >>> print(aligned(["name", "value"], [["a", "1.5"], ["bc", "10.5"]]))
    name  value
    a       1.5
    bc     10.5
    """
    table = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Lay a table out as Markdown.

    Examples
    --------
    >>> from backprop.base.text import markdown
    >>> print(markdown(["name", "value"], [["a", "1.5"]]))
    | name | value |
    | :--- | ---: |
    | a | 1.5 |
    """
    ruler = [":---" if k < left else "---:" for k in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ruler, *rows))


def count(n: int, noun: str) -> str:
    """Write how many there are.

    Examples
    --------
    >>> from backprop.base.text import count
    >>> count(1, "row"), count(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(texts: Iterable[str], most: int | None = None) -> str:
    """Return texts in a row; where there are more than `most`, the first ones and how many there are.

    Examples
    --------
    >>> from backprop.base.text import listed
    >>> listed(["a", "b"]), listed("abc", 2)
    ('a, b', 'a, b, ... (3 in all)')
    """
    each = list(texts)
    more = "" if most is None or len(each) <= most else f", ... ({len(each)} in all)"
    return ", ".join(each[:most]) + more


def shown(value: Any) -> str:
    """Return a short form of what came, for a message.

    Examples
    --------
    >>> from backprop.base.text import shown
    >>> shown("abc"), shown(None)
    ("'abc' (str)", 'None (NoneType)')
    """
    return f"{brief(value)} ({type(value).__name__})"


def brief(value: Any) -> str:
    """Return the value alone in a short form; Python refuses to write integers of thousands of digits.

    Examples
    --------
    >>> from backprop.base.text import brief
    >>> brief(0.5), brief(10**5000)
    ('0.5', '<a value of too many digits>')
    """
    try:
        return reprlib.repr(value)
    except ValueError:
        return "<a value of too many digits>"
