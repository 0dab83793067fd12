"""Every check and conversion of user data, once, at the edge.

What comes out of here is what the rest of the library and the backends rely on: plain numbers in range, and arrays that
are C-contiguous, native, aligned, finite and of the network's dtype. Inputs are never changed; an array that is
already in that form is passed on as it is, any other is copied. A wrong type or dtype is a ``TypeError``, a wrong
value or shape a ``ValueError``; every message says which argument, what it needs and what it got. `frames` opens the
tables and tensors of other libraries.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backprop.base import frames
from backprop.base.keywords import meant
from backprop.base.text import brief, listed
from backprop.base.text import shown as shown  # everybody takes it from here
from backprop.base.types import Data, RealArray, TargetRules

T = TypeVar("T")

_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))
# Rows of class probabilities may be off by rounding, in float16 too; anything more is a mistake.
_PROBABILITY_TOLERANCE = 1e-3
# Of an integer, such as a seed: Python, and with it files and messages, refuses to write larger ones.
_MOST_BITS = 14_000


# --- numbers and names ---------------------------------------------------------------------------------------------


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return a finite real number within its bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: needs a number, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{name}: needs a finite number, got {shown(value)}")
    _bounds(name, "a number", result, above, at_least, below, at_most)
    return result


def integer(
    name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None, clipped: bool = False
) -> int:
    """Return an integer within its bounds, NumPy's too; `clipped` to `sys.maxsize` where no count comes to more."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: needs an integer, got {shown(value)}")
    result = int(value)
    _bounds(name, "an integer", result, None, at_least, None, at_most)
    if clipped:
        return min(result, sys.maxsize)
    if result.bit_length() > _MOST_BITS:
        raise ValueError(f"{name}: needs an integer of at most {_MOST_BITS:,} bits, got {shown(value)}")
    return result


def _bounds(
    name: str,
    kind: str,
    value: float,
    above: float | None,
    at_least: float | None,
    below: float | None,
    at_most: float | None,
) -> None:
    """Raise unless the value is within the bounds that are given."""
    if (
        (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    ):
        return
    pairs = ((">", above), (">=", at_least), ("<", below), ("<=", at_most))
    wanted = " and ".join(f"{sign} {bound}" for sign, bound in pairs if bound is not None)
    raise ValueError(f"{name}: needs {kind} {wanted}, got {brief(value)}")


def boolean(name: str, value: Any) -> bool:
    """Return True or False; nothing else will do."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: needs True or False, got {shown(value)}")
    return bool(value)


def make_plain(settings: Any) -> None:
    """Turn NumPy's scalars in a dataclass into Python's, which the core and files take, and whose sums are exact."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(settings, field.name, value.item())


def text(name: str, value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: needs a text, got {shown(value)}")
    if not value:
        raise ValueError(f"{name}: needs a text that is not empty, got {value!r}")
    return value


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """Return one of the names in `options`."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: needs one of {listed(map(repr, options))}, got {shown(value)}")
    if value not in options:
        raise ValueError(f"{name}: needs one of {listed(map(repr, options))}, got {value!r}{meant(value, options)}")
    return value


def is_auto(name: str, value: Any, others: str) -> bool:
    """Return whether the value is "auto", the only text that is allowed here; `others` says what else is."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"{name}: needs {others} or 'auto', got {value!r}")
    return isinstance(value, str)


def setting(name: str, value: Any, base: type[T], registry: Mapping[str, type[T]]) -> T:
    """Return an object of a class in the registry: the one given, or the one with that name in its default form."""
    if isinstance(value, base):
        if not isinstance(value, tuple(registry.values())):  # a new class is not enough: its formula is in the backends
            raise TypeError(f"{name}: needs one of the kinds {listed(map(repr, registry))}, got {shown(value)}")
        return value
    if isinstance(value, type) and issubclass(value, base):
        raise TypeError(f"{name}: needs an object, got the class {value.__name__}; write {value.__name__}()")
    if isinstance(value, str):
        return registry[choice(name, value, registry)]()
    raise TypeError(
        f"{name}: needs an object of class {base.__name__} or one of {listed(map(repr, registry))}, got {shown(value)}"
    )


def real_dtype(name: str, value: Any) -> np.dtype[Any]:
    """Return NumPy's own object for float32 or float64, so that ``is`` tells them apart."""
    try:
        for dtype in _DTYPES if value is not None else ():  # NumPy takes None for float64
            if np.dtype(value) == dtype:
                return dtype
    except (TypeError, ValueError, SyntaxError):  # the last for some texts with brackets
        pass
    raise ValueError(f"{name}: needs 'float32' or 'float64', got {shown(value)}")


# --- arrays --------------------------------------------------------------------------------------------------------


def features(name: str, X: Any, dtype: np.dtype[Any], n_columns: int) -> RealArray:
    """Return X as the backends take it: (n, n_columns), finite, with at least one row."""
    array = _numeric(name, X)
    if array.ndim != 2:
        hint = ""
        if array.ndim == 1 and array.size:
            hint = f"; {name}.reshape(1, -1) is one row, {name}.reshape(-1, 1) is one column"
        raise ValueError(f"{name}: needs a 2-D array of shape (n, {n_columns}), got shape {array.shape}{hint}")
    if array.shape[1] != n_columns:
        raise ValueError(f"{name}: needs {n_columns} columns, got {array.shape[1]} (shape {array.shape})")
    if array.shape[0] == 0:
        raise ValueError(f"{name}: needs at least one row, got shape {array.shape}")
    return _converted(name, array, dtype)


def destination(name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...], apart: RealArray) -> None:
    """Check an array that results are written to; it may not share memory with `apart`, from which they follow."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: needs an array, got {shown(array)}")
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name}: needs {dtype.name} of shape {shape}, got {array.dtype.name} of shape {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
        raise ValueError(f"{name}: needs a writable C-contiguous array, got one that is not")
    if np.may_share_memory(array, apart):
        raise ValueError(f"{name}: needs an array apart from the inputs, got one that shares their memory")


def targets(name: str, y: Any, loss: TargetRules, dtype: np.dtype[Any], n_rows: int, n_outputs: int) -> NDArray[Any]:
    """Return the targets as the backends take them.

    Element-wise losses take (n, n_outputs), or (n,) where there is one output, and give (n, n_outputs) real numbers in
    the loss's range. Cross-entropy takes integer labels (n,) and gives them as int64, or rows of class probabilities
    (n, n_outputs) and gives those. A loss of `any_targets` takes the one or the other.
    """
    _no_pair(name, y, loss.name, n_rows)
    y = frames.values(name, y)
    if loss.elementwise or loss.any_targets:
        array = _numeric(name, y)
    else:
        array = _numeric(name, y, "integer class labels", f"; numpy.unique({name}, return_inverse=True)[1] makes some")
    if not loss.elementwise and array.ndim == 1 and not (loss.any_targets and n_outputs == 1):
        return _labels(name, array, n_rows, n_outputs)
    if n_outputs == 1 and array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.shape[1] != n_outputs:
        wanted = f"shape (n, {n_outputs})" + (" or (n,)" if n_outputs == 1 else "")
        if loss.any_targets:
            wanted = f"shape (n, {n_outputs}) or integer class labels of shape (n,)"
        elif not loss.elementwise:
            wanted = f"class labels of shape (n,) or class probabilities of shape (n, {n_outputs})"
        raise ValueError(f"{name}: needs {wanted} for {loss.name}, got shape {np.shape(y)}")
    _rows(name, array, n_rows)
    result = _converted(name, array, dtype)
    _target_range(name, result, loss)
    if not (loss.elementwise or loss.any_targets):
        sums = result.sum(axis=1)
        wrong = np.abs(sums - 1) > _PROBABILITY_TOLERANCE
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{name}: needs rows of class probabilities that sum to 1 for {loss.name}, "
                f"got a sum of {sums[row]:g} in row {row}"
            )
    return result


def _no_pair(name: str, y: Any, loss: str, n_rows: int) -> None:
    """Raise where there are targets and their derivatives, and not just two rows."""
    if isinstance(y, tuple) and len(y) == 2 and all(n_axes(part) > 0 for part in y) and n_rows != 2:
        raise TypeError(f"{name}: needs one array for {loss}, got a pair; losses.WithDerivatives() takes (y, dy)")


def _target_range(name: str, targets: NDArray[Any], loss: TargetRules) -> None:
    """Raise unless all targets are numbers that the loss accepts."""
    low, high = loss.target_range
    if loss.target_values is not None:
        allowed = " or ".join(f"{value:g}" for value in loss.target_values)
        outside = ~np.isin(targets, loss.target_values)
    else:
        lowest = _smallest(targets)
        if (lowest > low if loss.targets_above else lowest >= low) and _largest(targets) <= high:
            return
        sign = ">" if loss.targets_above else ">="
        allowed = f"in [{low:g}, {high:g}]" if high < math.inf else f"{sign} {low:g}"
        outside = ((targets <= low) if loss.targets_above else (targets < low)) | (targets > high)
    if outside.any():
        raise ValueError(f"{name}: needs values {allowed} for {loss.name}, got {_first(name, outside, targets)}")


def _labels(name: str, array: NDArray[Any], n_rows: int, n_classes: int) -> NDArray[np.int64]:
    """Return class labels 0 .. n_classes - 1 as int64 (n,)."""
    if array.dtype.kind == "f":
        raise TypeError(
            f"{name}: needs integer class labels, got dtype {array.dtype}; {name}.astype(int) if they are whole numbers"
        )
    _rows(name, array, n_rows)
    # Before the conversion: a large unsigned label would wrap round to a negative one.
    if array.min() < 0 or array.max() >= n_classes:
        wrong = _first(name, (array < 0) | (array >= n_classes), array)
        raise ValueError(f"{name}: needs class labels in 0 .. {n_classes - 1} ({n_classes} outputs), got {wrong}")
    return _plain(name, array, np.dtype(np.int64))


def weights(name: str, sample_weight: Any, dtype: np.dtype[Any], n_rows: int, n_outputs: int = 1) -> RealArray | None:
    """Return sample weights (n,), none negative and not all zero; None stays None.

    With several outputs they may be (n, n_outputs): a weight for each output of each row. They are (n,) as well where
    those of each row are equal, for the core takes only such.
    """
    if sample_weight is None:
        return None
    array = _numeric(name, frames.values(name, sample_weight))
    if array.ndim != 1 and (n_outputs == 1 or array.ndim != 2 or array.shape[1] != n_outputs):
        wanted = f"shape ({n_rows},)" + (f", or per output, shape {(n_rows, n_outputs)}" if n_outputs > 1 else "")
        raise ValueError(f"{name}: needs one weight per row, {wanted}, got shape {array.shape}")
    _rows(name, array, n_rows)
    result = _converted(name, array, dtype)
    if result.min() < 0:
        raise ValueError(f"{name}: needs weights >= 0, got {_first(name, result < 0, result)}")
    if result.max() < np.finfo(dtype).tiny:  # a compiled core takes what is smaller for zero
        raise ValueError(f"{name}: needs at least one weight > 0 ({dtype}), got at most {result.max():g}")
    if result.ndim == 2 and (result == result[:, :1]).all():
        result = result[:, 0].copy()
    return result


def split(name: str, data: Data, share: float) -> tuple[Data, Data]:
    """Return the first rows and the last ones, which are this share of all."""
    n_rows = len(data.X)
    first = math.floor(n_rows * (1 - share))
    if not 0 < first < n_rows:
        raise ValueError(f"{name}: needs at least one row on either side, got {first} and {n_rows - first}")
    parts = []
    for what, rows in (("training", slice(first)), ("validation", slice(first, None))):
        weights = None if data.sample_weight is None else data.sample_weight[rows]
        if weights is not None and not weights.any():
            raise ValueError(f"{name}: needs a weight > 0 among the {what} rows")
        parts.append(Data(data.X[rows], data.targets[rows], weights))
    return parts[0], parts[1]


def rows_of_targets(name: str, y: Any, n_rows: int, n_outputs: int) -> NDArray[Any]:
    """Return the targets of a custom loss: any array with a row for each row of X."""
    _no_pair(name, y, "a custom loss", n_rows)
    array = np.asarray(frames.raw(name, y))
    if array.ndim == 0:
        raise ValueError(f"{name}: needs one row for each of the {n_rows} rows of X, got {shown(y)}")
    _rows(name, array, n_rows)
    # Outputs (n, 1) minus targets (n,) would be (n, n).
    return array.reshape(-1, 1) if array.ndim == 1 and n_outputs == 1 else array


def n_axes(value: Any) -> int:
    """Return the number of axes of an array; -1 of what is none, such as a list of rows of unequal length."""
    try:
        return np.ndim(value)
    except (TypeError, ValueError):
        return -1


def array(name: str, value: Any, dtype: np.dtype[Any], shape: tuple[int, ...] | None = None) -> RealArray:
    """Return finite real numbers, of exactly this shape where one is given."""
    result = _numeric(name, value)
    if shape is not None and result.shape != shape:
        raise ValueError(f"{name}: needs shape {shape}, got shape {result.shape}")
    return _converted(name, result, dtype)


def value_and_gradient(name: str, result: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[float, RealArray]:
    """Return what a custom loss returned: a number, and an array of this shape that is finite if the number is."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(f"{name}: needs to return a pair (value, gradient), got {shown(result)}")
    value = _numeric(f"{name}'s value", result[0], "a real number")
    if value.ndim != 0:
        raise ValueError(f"{name}'s value: needs a single number, got shape {value.shape}")
    gradient = _numeric(f"{name}'s gradient", result[1])
    if gradient.shape != shape:
        raise ValueError(f"{name}'s gradient: needs the shape of the outputs, {shape}, got shape {gradient.shape}")
    if math.isfinite(value):
        return float(value), _converted(f"{name}'s gradient", gradient, dtype)
    return float(value), np.full(shape, math.nan, dtype)


def curve(name: str, value: Any) -> NDArray[np.float64]:
    """Return real numbers (n,), finite or not, as float64."""
    array = _numeric(name, value)
    if array.ndim != 1:
        raise ValueError(f"{name}: needs a 1-D array, got shape {array.shape}")
    return _plain(name, array, np.dtype(np.float64))


def unmasked(name: str, value: Any) -> None:
    """Raise TypeError for what a mask hides, where NumPy would take what lies behind it."""
    if isinstance(value, (list, tuple)):
        if any(issubclass(kind, np.ma.MaskedArray) for kind in set(map(type, value))):
            for k, each in enumerate(value):
                unmasked(f"{name}[{k}]", each)
    elif isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{name}: needs an array without masked values; fill them first ({name}.filled(...))")


def _numeric(name: str, value: Any, needed: str = "real numbers", text_hint: str = "") -> NDArray[Any]:
    """Return the value as an array of booleans, integers or floats."""
    if type(value) is not np.ndarray:
        unmasked(name, value)
        if hasattr(value, "toarray"):
            raise TypeError(f"{name}: needs a dense array, got {type(value).__name__}; use {name}.toarray()")
        array = _array(name, value if isinstance(value, (list, tuple)) else frames.opened(name, value)[0])
    else:
        array = value
    kind = array.dtype.kind
    if kind not in "fiub":
        if kind == "O" and array.ndim == 0:  # None, a generator: no array at all
            raise TypeError(f"{name}: needs an array of {needed}, got {shown(value)}")
        hint = text_hint if kind in "US" else ""
        raise TypeError(f"{name}: needs {needed}, got dtype {array.dtype}{hint}")
    return array


def _array(name: str, value: Any) -> NDArray[Any]:
    """Return what NumPy makes an array of."""
    try:
        return np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # ragged rows, or an object that cannot become an array
        tensors = frames.plain(name, value)  # or a list of tensors whose gradients are wanted
        if tensors is not value:
            return _array(name, tensors)
        raise ValueError(f"{name}: needs a rectangular array of numbers, got {shown(value)} ({error})") from error


def _rows(name: str, array: NDArray[Any], n_rows: int) -> None:
    if array.shape[0] != n_rows:
        raise ValueError(f"{name}: needs one row for each of the {n_rows} rows of X, got {array.shape[0]}")


def _converted(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> RealArray:
    """Return the array in the form that backends take; raise if a number is not finite, or not any more."""
    if array.dtype == dtype:
        result = _plain(name, array, dtype)
    else:
        with np.errstate(all="ignore"):  # float64 -> float32 may overflow: seen below
            result = _plain(name, array, dtype)
    if result.size and not (math.isfinite(_smallest(result)) and math.isfinite(_largest(result))):
        bad = _first(name, ~np.isfinite(result), array)
        if np.isfinite(array).all():
            raise ValueError(
                f"{name}: needs numbers that fit into {dtype}, got {bad}; scale them or use dtype='float64'"
            )
        raise ValueError(f"{name}: needs finite numbers, got {_first(name, ~np.isfinite(array), array)}")
    return result


def _smallest(array: NDArray[Any]) -> Any:
    """Return the smallest number, or NaN; the methods of arrays take a microsecond more."""
    return np.minimum.reduce(array, axis=None)


def _largest(array: NDArray[Any]) -> Any:
    """Return the largest number, or NaN."""
    return np.maximum.reduce(array, axis=None)


def _plain(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array C-contiguous, native and aligned; itself where it is that already."""
    try:
        result = np.asarray(array, dtype=dtype, order="C")
        return result if result.flags.aligned else result.copy()
    except (MemoryError, ValueError) as error:
        raise _too_large(name, array) from error


def fits(name: str, array: Any) -> None:
    """Raise unless there can be a copy in memory, without touching what an array with strides of zero seems to have."""
    if isinstance(array, np.ndarray) and not array.flags.forc:
        try:
            np.empty(array.shape)
        except (MemoryError, ValueError) as error:
            raise _too_large(name, array) from error


def _too_large(name: str, array: NDArray[Any]) -> ValueError:
    """Return the error for an array with strides of zero that is larger than memory."""
    return ValueError(f"{name}: needs an array of which there can be a copy in memory, got shape {array.shape}")


def _first(name: str, where: NDArray[np.bool_], array: NDArray[Any]) -> str:
    """Name the first element of `array` for which `where` holds."""
    index = tuple(int(i) for i in np.unravel_index(int(where.argmax()), where.shape))
    at = f" at {name}[{', '.join(map(str, index))}]" if index else ""
    return f"{array[index]}{at}"


def span(name: str, value: Any) -> tuple[float, float]:
    """Return a pair (from, to)."""
    if isinstance(value, str) or not isinstance(value, Iterable) or len(ends := list(value)) != 2:
        raise TypeError(f"{name}: needs a pair of numbers (from, to), got {shown(value)}")
    low, high = (number(f"{name}[{k}]", end) for k, end in enumerate(ends))
    if low >= high:
        raise ValueError(f"{name}: needs from < to, got {low:g} and {high:g}")
    return low, high
