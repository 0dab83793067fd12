"""Tables and tensors of other libraries as arrays of NumPy, and records as tables.

pandas, polars, pyarrow, DuckDB and all others that narwhals or Arrow's interface knows; tensors of PyTorch, JAX and
whatever speaks DLPack. What is an array or a list already passes at the price of a look at its type; narwhals is
imported when the first table comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from importlib.util import find_spec
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base.text import listed, shown

Names: TypeAlias = tuple[str, ...]
Table: TypeAlias = Any
"""a DataFrame of narwhals, which is not imported for its name's sake"""
Series: TypeAlias = Any
"""a Series of narwhals"""

LIBRARIES = ("pandas", "polars", "pyarrow")
_SHOWN = 8
"""How many names a message lists, at most"""
_MARKS = ("columns", "to_numpy", "to_native", "__arrow_c_stream__")
"""A table or a series has at least one of these attributes."""


# --- what users give -----------------------------------------------------------------------------------------------


def opened(name: str, value: Any) -> tuple[Any, Names | None]:
    """Return what NumPy makes an array of, and the names of its columns where it is a table that has names.

    Of a table that is an array of numbers (n, n_columns), with true and false as 1 and 0.

    Raises
    ------
    TypeError
        If a column holds dates, text or other things than numbers; the message names it.
    ValueError
        If a value is missing; the message names the column, and how many there are.
    """
    if isinstance(value, (np.ndarray, list, tuple)):
        return plain(name, value), None
    if (array := _at_once(value)) is not None:
        return array, names(name, value)
    found = table(name, value)
    if found is None:
        return plain(name, value), None
    if _is_series(found):
        return _of_series(name, found), None
    return numbers(name, found), names(name, found)


def values(name: str, value: Any) -> Any:
    """Return what NumPy makes an array of; a table of one column, whatever its name, is that column."""
    found = table(name, value)
    if found is None:
        return plain(name, value)
    if _is_series(found):
        return _of_series(name, found)
    array, _ = opened(name, found.to_native())
    return array[:, 0] if array.shape[1] == 1 else array


def raw(name: str, value: Any) -> Any:
    """Return what NumPy makes an array of, whatever a table holds."""
    found = table(name, value)
    return plain(name, value) if found is None else found.to_numpy()


def eager(name: str, value: Any) -> Any:
    """Return a table in memory as its library has it, where it is not in memory yet; anything else as it is."""
    found = table(name, value)
    return value if found is None else found.to_native()


def table(name: str, value: Any) -> Table | Series | None:
    """Return a table or a series of any library, in memory, as narwhals wraps it; None for anything else."""
    if value is None or isinstance(value, (np.ndarray, list, tuple, int, float, str)):
        return None
    if not any(hasattr(type(value), mark) for mark in _MARKS):
        return None
    import narwhals.stable.v2 as nw
    from narwhals.exceptions import DuplicateError

    native = value.to_native() if hasattr(value, "to_native") else value
    try:
        found: Any = nw.from_native(native, allow_series=True, pass_through=True)
        if isinstance(found, nw.LazyFrame):
            return found.collect(None if found.implementation.is_polars() else _library(name, value))
    except DuplicateError as error:
        raise ValueError(f"{name}: needs columns with different names; {' '.join(str(error).split())}") from error
    if isinstance(found, (nw.DataFrame, nw.Series)):
        return found
    if hasattr(native, "__arrow_c_stream__"):
        return nw.DataFrame.from_arrow(native, backend=_library(name, value))
    return None


def plain(name: str, value: Any) -> Any:
    """Return tensors as arrays: what one holds, whether its gradient is wanted or not, and wherever it is."""
    if isinstance(value, (list, tuple)):
        return [plain(name, each) for each in value] if value and hasattr(value[0], "requires_grad") else value
    if isinstance(value, np.ndarray):
        return value
    try:
        if hasattr(value, "requires_grad"):  # PyTorch
            value = value.float() if "bfloat16" in str(value.dtype) else value  # which NumPy does not have
            return value.numpy(force=True)
        return np.from_dlpack(value) if hasattr(value, "__dlpack__") and not hasattr(value, "__array__") else value
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(f"{name}: needs a dense array of numbers in memory, got {shown(value)} ({error})") from error


def _library(name: str, value: Any) -> Any:
    """Return the library that is to hold what is not in memory yet."""
    for library in reversed(LIBRARIES):
        if find_spec(library) is not None:
            return library
    raise ImportError(f"{name}: a {type(value).__name__} needs one of {', '.join(LIBRARIES)} to become an array")


def _is_series(found: Any) -> bool:
    return not hasattr(found, "columns")


def _at_once(value: Any) -> NDArray[Any] | None:
    """Return a table of pandas whose columns are all arrays of numbers as one; None for any other, or lacking some.

    Column by column, a single row would take many times as long.
    """
    if type(value).__module__.partition(".")[0] != "pandas" or getattr(value, "ndim", 1) != 2 or not len(value.columns):
        return None
    dtypes = set(value.dtypes)
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in dtypes) or not value.columns.is_unique:
        return None
    array: NDArray[Any] = value.to_numpy(np.result_type(*dtypes))
    return None if array.dtype.kind == "f" and array.size and np.isnan(np.min(array)) else array


# --- columns -------------------------------------------------------------------------------------------------------


def names(name: str, found: Any) -> Names | None:
    """Return the names of the columns; None where they are no texts, such as the numbers that pandas gives."""
    columns: Sequence[Any] = found.columns
    are_text = [isinstance(column, str) for column in columns]
    if all(are_text):
        return tuple(map(str, columns))
    if any(are_text):
        wrong = next(column for column, is_text in zip(columns, are_text, strict=True) if not is_text)
        raise TypeError(f"{name}: needs names that are all texts, or none of them, got {shown(wrong)} too")
    return None


def numbers(name: str, found: Table) -> NDArray[Any]:
    """Return the columns as one array of numbers (n, n_columns); `opened` says what is raised."""
    arrays, foreign, missing = [], [], []
    for label, column in zip(found.columns, found.iter_columns(), strict=True):
        array = _numbers(column)
        if array is None:
            foreign.append(f"{label!r} ({_kind(column)})")
        elif n_missing := _n_missing(column, array):
            missing.append(f"{n_missing} in column {label!r}")
        else:
            arrays.append(array)
    if foreign:
        raise TypeError(
            f"{name}: needs columns of numbers, got {listed(foreign, _SHOWN)}; make numbers of them first, as "
            "backprop.tables does, or leave them out"
        )
    if missing:
        raise ValueError(f"{name}: needs a number in every place, got missing values: {listed(missing, _SHOWN)}")
    dtype = np.result_type(*{array.dtype for array in arrays}) if arrays else np.dtype(np.float64)
    together = np.empty((len(found), len(arrays)), dtype)
    for k, array in enumerate(arrays):
        together[:, k] = array
    return together


def _of_series(name: str, series: Series) -> NDArray[Any]:
    """Return a series as an array; of what holds no numbers the values as they are, for somebody else to refuse."""
    array = _numbers(series)
    if array is None:
        found: NDArray[Any] = series.to_numpy()
        return found.astype(str) if found.dtype == object and _is_text(series) else found
    if n_missing := _n_missing(series, array):
        raise ValueError(f"{name}: needs a number in every place, got {n_missing} missing values")
    return array


def _is_text(series: Series) -> bool:
    import narwhals.stable.v2 as nw

    return series.dtype in (nw.String, nw.Categorical, nw.Enum)


def _numbers(column: Series) -> NDArray[Any] | None:
    """Return what is there of a column that holds numbers, missing ones as NaN or left out; None for others."""
    import narwhals.stable.v2 as nw

    values: NDArray[Any] = column.to_numpy()
    if values.dtype == object:  # categories, Python's own numbers, or nullable ones of which some are missing
        there = column.drop_nulls()
        values = (there.cast(nw.Float64) if there.dtype.is_decimal() else there).to_numpy()
    if values.dtype == object and all(isinstance(each, (Real, np.bool_, Decimal)) for each in values):
        values = np.array(values.tolist(), float if any(isinstance(each, Decimal) for each in values) else None)
    return values if values.dtype.kind in "fiub" else None


def _kind(column: Series) -> str:
    """Return what a column holds, in the words of its library where narwhals has none."""
    native = column.to_native()
    if any(isinstance(each, bytes) for each in column.drop_nulls().head(1).to_list()):
        return "bytes, to be decoded first"
    return str(column.dtype if str(column.dtype) != "Unknown" else getattr(native, "dtype", None) or native.type)


def _n_missing(column: Series, values: NDArray[Any]) -> int:
    """Return how many numbers a column lacks: NaN, and those that were left out."""
    return len(column) - len(values) + (int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0)


# --- names ---------------------------------------------------------------------------------------------------------


def compare(name: str, given: Names | None, expected: Names | None, hint: str = "") -> None:
    """Raise ValueError where a table has other columns than those that were learned from, or another order.

    `hint` says how to come by the right order.
    """
    if given is None or expected is None or given == expected:
        return
    wanted = f"{name}: needs the columns {listed(map(repr, expected), _SHOWN)}, got {listed(map(repr, given), _SHOWN)}"
    lacking = [column for column in expected if column not in given]
    unknown = [column for column in given if column not in expected]
    if lacking or unknown:
        raise ValueError(
            wanted
            + (f"; missing: {listed(map(repr, lacking), _SHOWN)}" if lacking else "")
            + (f"; unknown: {listed(map(repr, unknown), _SHOWN)}" if unknown else "")
        )
    raise ValueError(f"{wanted}: the same in another order" + (f"; {hint}" if hint else ""))


def checked_names(name: str, value: Any, n_columns: int) -> Names | None:
    """Return names for so many columns, or None for none."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: needs a sequence of {n_columns} names or None, got {shown(value)}")
    found = list(value)
    for k, each in enumerate(found):
        if not isinstance(each, str):
            raise TypeError(f"{name}[{k}]: needs a name that is text, got {shown(each)}")
    if len(found) != n_columns or len(set(found)) != len(found):
        raise ValueError(f"{name}: needs {n_columns} different names, got {listed(map(repr, found), _SHOWN)}")
    return tuple(map(str, found))


# --- tables that are given -----------------------------------------------------------------------------------------


def frame(columns: Mapping[str, NDArray[Any]], backend: Any) -> Any:
    """Return columns as a table of a library, which is named as `narwhals` names it: "pandas", "polars", "pyarrow".

    Raises
    ------
    ValueError
        If it is none of these.
    ImportError
        If it is not installed.
    """
    if backend not in LIBRARIES:
        raise ValueError(f"backend: needs one of {', '.join(map(repr, LIBRARIES))}, got {shown(backend)}")
    if find_spec(backend) is None:
        raise ImportError(f"backend: needs {backend}, which is not installed")
    import narwhals.stable.v2 as nw

    return nw.from_dict(dict(columns), backend=backend).to_native()
