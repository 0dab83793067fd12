"""Data frames as tables: pandas, polars, pyarrow and others through narwhals, relations of DuckDB, mappings.

Numbers, booleans, dates and times keep their types; durations are seconds, and times with a zone are in UTC. Everything
else becomes text, which the rules for the values of files then read.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.tables.engine import Limits
from backprop.tables.table import Stored, Table
from backprop.tables.values import ALL_WHOLE

_NESTED = (list, tuple, dict, set, frozenset, np.ndarray)
_BINARY = (bytes, bytearray, memoryview)


def is_frame(source: Any) -> bool:
    """Tell whether a source is a frame, and not the name of a file or a list of names.

    Examples
    --------
    >>> is_frame({"a": [1]}), is_frame("a.csv"), is_frame(["a.csv", "b.csv"])
    (True, False, False)
    """
    if isinstance(source, (str, bytes, os.PathLike)):
        return False
    return not (
        isinstance(source, (list, tuple)) and all(isinstance(item, (str, bytes, os.PathLike)) for item in source)
    )


def registered(frame: Any, connection: Any, limits: Limits, name: str) -> Table:
    """Return a frame as a table; its columns are arrays that DuckDB reads where they are."""
    arrays = arrays_of(frame, name)
    lengths = {column: len(values) for column, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: needs columns of one length, got {lengths!r:.200}")
    if not arrays or not next(iter(lengths.values())):
        raise ValueError(f"{name}: needs at least one column and one row, got {check.shown(frame)}")
    nested = {column: kind for column, values in arrays.items() if (kind := _nested_kind(values))}
    plain = [_texts(values) if column in nested else values for column, values in arrays.items()]
    short = {f"c{k}": values for k, values in enumerate(plain)}
    connection.register("source_rows", short)
    rows = connection.execute("DESCRIBE source_rows").fetchall()
    columns = {column: Stored(row[0], nested.get(column, row[1])) for column, row in zip(arrays, rows, strict=True)}
    said = tuple(f"times of {column!r} are in UTC" for column in _zoned(frame))
    return Table(name, columns, "source_rows", connection, limits, said=said, kept=(short,))


def _zoned(frame: Any) -> list[str]:
    """Return the columns of times with a zone, as far as the types tell."""
    if isinstance(frame, Mapping):
        return []
    if hasattr(frame, "fetchnumpy"):
        types = zip(frame.columns, frame.types, strict=True)
        return [column for column, dtype in types if str(dtype).endswith("WITH TIME ZONE")]
    import narwhals as nw

    known: Any = nw.from_native(frame)
    schema = known.collect_schema().items()
    return [_text_name(column) for column, dtype in schema if isinstance(dtype, nw.Datetime) and dtype.time_zone]


def arrays_of(frame: Any, name: str = "data") -> dict[str, NDArray[Any]]:
    """Return the columns of a frame as arrays: numbers, booleans, datetime64, or objects: texts, None, nested values.

    Examples
    --------
    >>> arrays_of({"a": [1, None], "b": ["x", "y"]})["a"].tolist()
    [1.0, nan]
    """
    if isinstance(frame, Mapping):
        return _by_text(frame.items(), _of_values, name)
    if hasattr(frame, "fetchnumpy"):  # a relation of DuckDB
        return _by_text(frame.fetchnumpy().items(), _of_values, name)
    import narwhals as nw

    try:
        known: Any = nw.from_native(frame)
        if isinstance(known, nw.LazyFrame):
            known = known.collect()
        return _by_text(((series.name, series) for series in known.iter_columns()), _of_series, name)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"{name}: needs columns whose names differ ({' '.join(str(error).split())})") from error
    except TypeError as error:
        raise TypeError(
            f"{name}: needs a path, a data frame (pandas, polars, pyarrow, DuckDB) or a mapping of columns, "
            f"got {check.shown(frame)}"
        ) from error


def _by_text(
    columns: Iterable[tuple[Any, Any]], as_array: Callable[[Any], NDArray[Any]], name: str
) -> dict[str, NDArray[Any]]:
    """Return columns as arrays by their names as text, which have to differ: 1 and "1" do not."""
    found: dict[str, NDArray[Any]] = {}
    for column, values in columns:
        if (text := _text_name(column)) in found:
            raise ValueError(f"{name}: needs columns whose names differ as text, got {text!r} twice")
        try:
            found[text] = as_array(values)
        except UnicodeEncodeError as error:  # half of a character that takes two in UTF-16
            raise ValueError(
                f"{name}: column {text!r} needs text that UTF-8 can hold, got {error.object!r:.40}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{name}: column {text!r}: {error}") from error
    return found


def _text_name(column: Any) -> str:
    return column if isinstance(column, str) else str(column)


def _of_series(series: Any) -> NDArray[Any]:
    """Return a column of narwhals as an array."""
    import narwhals as nw

    dtype = series.dtype
    missing = np.asarray(series.is_null().to_numpy(), bool)
    if isinstance(dtype, nw.Decimal):
        return _floats(series.cast(nw.Float64()), missing)
    if dtype.is_numeric():
        if dtype.is_integer():
            return _of_integers(series, missing)
        return _floats(series.cast(nw.Float64()), missing)
    if isinstance(dtype, nw.Boolean):
        return _of_values(series.to_list())
    if isinstance(dtype, nw.Datetime):
        in_utc = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else series
        return _instants(in_utc.to_list(), missing)
    if isinstance(dtype, nw.Date):
        return _instants(series.to_list(), missing)
    if isinstance(dtype, nw.Duration):
        seconds = [np.nan if gone else value.total_seconds()
                   for value, gone in zip(series.to_list(), missing, strict=True)]  # fmt: skip
        return np.array(seconds, float)
    if isinstance(dtype, (nw.String, nw.Categorical, nw.Enum)):
        return _texts(series.cast(nw.String()).to_list())
    return _of_values([None if gone else value for value, gone in zip(series.to_list(), missing, strict=True)])


def _of_integers(series: Any, missing: NDArray[np.bool_]) -> NDArray[Any]:
    """Return a column of narwhals that holds integers as an array."""
    import narwhals as nw

    if not missing.any() and not isinstance(series.dtype, (nw.Int128, nw.UInt128)):
        return np.ascontiguousarray(series.to_numpy())
    if missing.all() or max(-int(series.min()), int(series.max())) < ALL_WHOLE:
        return _floats(series.cast(nw.Float64()), missing)
    return _integers(series.to_list(), missing)


def _integers(items: Sequence[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """Return whole numbers as integers or, where some are missing, as floats; as texts where these do not have all."""
    found = [None if gone else int(item) for item, gone in zip(items, missing, strict=True)]
    if not missing.any():
        for dtype in (np.int64, np.uint64):
            with suppress(OverflowError):
                return np.array(found, dtype)
    if all(abs(item) < ALL_WHOLE for item in found if item is not None):
        return np.array([np.nan if item is None else item for item in found], np.float64)
    return _texts(found)


def _floats(series: Any, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = np.array(series.fill_null(0.0).to_numpy() if missing.any() else series.to_numpy(), np.float64)
    values[missing] = np.nan
    return values


def _instants(values: Iterable[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    nothing = np.datetime64("NaT", "us")
    return np.array(
        [nothing if gone else np.datetime64(value, "us") for value, gone in zip(values, missing, strict=True)],
        "datetime64[us]",
    )


def _texts(values: Iterable[Any]) -> NDArray[Any]:
    """Return what is not None as text."""
    found = [None if value is None else str(value) for value in values]
    for text in found:
        if text is not None and not text.isascii():
            text.encode()  # which DuckDB does too, without saying where it failed
    result = np.empty(len(found), object)
    result[:] = found
    return result


def _nested(values: Sequence[Any]) -> NDArray[Any]:
    """Return values some of which are nested as they are."""
    result = np.empty(len(values), object)
    for k, value in enumerate(values):
        result[k] = value
    return result


def _is_nested(cell: Any) -> bool:
    return isinstance(cell, _BINARY) or (isinstance(cell, _NESTED) and getattr(cell, "ndim", 1) > 0)


def _nested_kind(values: NDArray[Any]) -> str:
    """Return the type of the first nested or binary value, nothing where there is none."""
    cells = values if values.dtype == object else ()
    return next((type(cell).__name__ for cell in cells if _is_nested(cell)), "")


def _of_values(values: Any) -> NDArray[Any]:
    """Return an array, a list or another sequence of plain values as an array."""
    if isinstance(values, np.ma.MaskedArray):
        mask, data = np.ma.getmaskarray(values), values.data
        if data.dtype.kind == "f" or (data.dtype.kind in "iu" and _are_exact(data[~mask])):
            return np.where(mask, np.nan, data.astype(np.float64))
        if data.dtype.kind == "M":
            return np.where(mask, np.datetime64("NaT"), data).astype("datetime64[us]")
        if data.dtype.kind == "m":
            return np.where(mask, np.nan, data / np.timedelta64(1, "s"))
        values = [None if gone else value for value, gone in zip(data.tolist(), mask, strict=True)]
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"needs one axis, got shape {values.shape}")
        if values.dtype.kind in "iufb":
            wide = values.astype(np.float64) if values.dtype.kind == "f" else values
            return np.ascontiguousarray(wide)
        if values.dtype.kind == "M":
            return values.astype("datetime64[us]")
        if values.dtype.kind == "m":
            return np.asarray(values / np.timedelta64(1, "s"), np.float64)
    items = list(values)
    there = [item for item in items if not _is_missing(item)]
    missing = np.array([_is_missing(item) for item in items], bool)
    if there and all(isinstance(item, (bool, np.bool_)) for item in there):
        if len(there) == len(items):
            return np.array(items, bool)
        return _texts(None if _is_missing(item) else str(bool(item)).lower() for item in items)
    if there and all(isinstance(item, (int, float, np.integer, np.floating)) for item in there):
        if all(isinstance(item, (int, np.integer)) for item in there):
            return _integers(items, missing)
        return np.array([np.nan if _is_missing(item) else float(item) for item in items], np.float64)
    if there and all(isinstance(item, (datetime.date, np.datetime64)) for item in there):
        return _instants([_in_utc(item) for item in items], missing)
    if there and all(isinstance(item, (datetime.timedelta, np.timedelta64)) for item in there):
        second = np.timedelta64(1, "s")
        return np.array([np.nan if _is_missing(item) else np.timedelta64(item) / second for item in items], np.float64)
    known = [None if gone else item for item, gone in zip(items, missing, strict=True)]
    return _nested(known) if any(map(_is_nested, there)) else _texts(known)


def _are_exact(integers: NDArray[Any]) -> bool:
    """Tell whether floats have all of these integers, and their neighbours."""
    return not len(integers) or max(-int(integers.min()), int(integers.max())) < ALL_WHOLE


def _in_utc(item: Any) -> Any:
    """Return a time in UTC, without its zone; what has none as it is."""
    if isinstance(item, datetime.datetime) and item.tzinfo is not None and not _is_missing(item):
        return item.astimezone(datetime.UTC).replace(tzinfo=None)
    return item


def _is_missing(item: Any) -> bool:
    """Tell whether a value stands for nothing: None, NaN, NaT and pandas's NA differ from themselves or say so."""
    if item is None or _is_nested(item):
        return item is None
    try:
        return bool(item != item)
    except (TypeError, ValueError):  # pandas's NA has no truth value
        return True
