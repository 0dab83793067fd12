"""What the estimators of `backprop.sklearn` are given: arrays, checked and in the form that the core takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_X_y, column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from backprop.base import checks as check
from backprop.base import frames
from backprop.base.types import RealArray
from backprop.sklearn.outputs import names_of

REALS = (np.float64, np.float32)
_SPARSE = ("csr", "csc")
_NO_NUMBERS = (bytes, np.bytes_, np.datetime64, np.timedelta64)  # of which ``float`` makes some
# A sparse matrix with more numbers than this is not made dense as a whole: half a GiB in float64.
_MOST_DENSE_NUMBERS = 1 << 26


def is_plain(array: Any, n_dimensions: int = 2) -> bool:
    """Return whether this is an array of numbers in which scikit-learn's long look would find nothing to convert."""
    return (
        type(array) is np.ndarray
        and array.ndim == n_dimensions
        and array.size > 0
        and array.dtype.isnative
        and (array.dtype.char in "fd" if n_dimensions == 2 else array.dtype.kind in "biuf")
    )


def is_finite(array: NDArray[Any]) -> bool:
    """Return whether all numbers are finite, in two passes without a temporary."""
    return array.dtype.kind in "biu" or (math.isfinite(array.min()) and math.isfinite(array.max()))


def checked(estimator: Any, X: Any, y: Any, reset: bool) -> tuple[Any, NDArray[Any]]:
    """Return X and y as arrays, X perhaps sparse; the estimator notes the names of the columns."""
    if is_plain(X) and is_plain(y, 1) and len(X) == len(y) and is_finite(X) and is_finite(y):
        if reset:  # what validate_data does with an array, without the look for the names that only tables have
            estimator.n_features_in_ = X.shape[1]
            estimator.__dict__.pop("feature_names_in_", None)
            estimator._target_names = None
        else:
            validate_data(estimator, X, skip_check_array=True, reset=False)
        return X, y
    X, table = opened(X)
    settings = {
        "accept_sparse": _SPARSE,
        "dtype": REALS,
        "multi_output": True,
        "y_numeric": isinstance(estimator, RegressorMixin),
        "order": "C",
    }
    if reset:
        estimator._target_names = names_of(y)
    y = _targets(estimator, "y", y)
    if table is None:
        X, y = validate_data(estimator, X, y, reset=reset, **settings)
    else:
        X, y = check_X_y(X, y, estimator=estimator, **settings)
        validate_data(estimator, table, skip_check_array=True, reset=reset)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return X, y


def features(estimator: Any, X: Any, dtype: Any = "numeric") -> Any:
    """Return X of a prediction as an array, perhaps sparse; the names of the columns are compared."""
    if is_plain(X):  # what is not finite is seen in the outputs
        return validate_data(estimator, X, skip_check_array=True, reset=False)
    X, table = opened(X)
    if table is None:
        return validate_data(estimator, X, accept_sparse=_SPARSE, dtype=dtype, reset=False)
    validate_data(estimator, table, skip_check_array=True, reset=False)
    return check_array(X, input_name="X", estimator=estimator, dtype=dtype)


def checked_features(estimator: Any, name: str, X: Any, dtype: np.dtype[Any]) -> RealArray:
    """Return the features of samples beside those that are learned from: dense, as the core takes them.

    Their names and their number are those that the estimator has noted.
    """
    if is_plain(X):
        rows = check.features(name, X, dtype, estimator.n_features_in_)
    else:
        given, table = opened(X, name)
        if table is not None:
            with about(name):
                validate_data(estimator, table, skip_check_array=True, reset=False)
        array = _reals(name, given, accept_sparse=_SPARSE)
        rows = check.features(
            name, array.toarray() if hasattr(array, "toarray") else array, dtype, estimator.n_features_in_
        )
        if table is not None:
            return rows
    with about(name):
        validate_data(estimator, X, skip_check_array=True, reset=False)
    return rows


def checked_targets(estimator: Any, name: str, y: Any, n_rows: int, name_of_rows: str) -> NDArray[Any]:
    """Return the targets of samples beside those that are learned from, whose features have that name."""
    y = _targets(estimator, name, y)
    with about(name):
        y = check_array(
            y, accept_sparse="csr", dtype=None, ensure_all_finite=False, ensure_2d=False, ensure_min_samples=0
        )
        if isinstance(estimator, RegressorMixin) and y.dtype.kind == "O":
            y = y.astype(np.float64)
    _same_rows(name, y, n_rows, name_of_rows)
    if hasattr(y, "toarray"):
        return y  # type: ignore[no-any-return]
    if y.dtype.kind == "f":
        check.array(name, y, np.dtype(np.float64))
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return y  # type: ignore[no-any-return]


def _targets(estimator: Any, name: str, y: Any) -> Any:
    """Return what NumPy makes an array of; ValueError or TypeError where something is missing that no float is."""
    check.unmasked(name, y)
    y = frames.raw(name, y)
    if isinstance(estimator, RegressorMixin):
        return _numbers(name, y)
    _check_labels(name, y)
    return y


def _check_labels(name: str, y: Any) -> None:
    """Raise ValueError where a label is missing: scikit-learn compares None with words, or takes NaN for a word."""
    if y is None or hasattr(y, "toarray") or (isinstance(y, np.ndarray) and y.dtype != object):
        return  # numbers that are NaN are seen later
    try:
        labels = np.asarray(y, object)
    except ValueError:  # rows of different lengths, which are refused later
        return
    with suppress(TypeError, ValueError, ArithmeticError):  # of a label that cannot be compared
        if not np.any((labels != labels) | (labels == None)):  # noqa: E711  # a third of the time of one by one
            return
    for place, label in np.ndenumerate(labels):
        if _is_missing(label) and place:
            at = ", ".join(map(str, place))
            raise ValueError(f"{name}: needs a label for each row, got {label} at {name}[{at}]; leave such rows out")


def _is_missing(label: Any) -> bool:
    """Tell whether a label is None, NaN, NaT or pandas's NA."""
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError, ArithmeticError):  # NA has no truth value; neither has a comparison of arrays
        return not hasattr(label, "__len__")


def _numbers(name: str, value: Any) -> Any:
    """Return what is given, a list as an array.

    TypeError for what scikit-learn makes numbers of without a word: dates, texts, and what a mask hides.
    """
    check.unmasked(name, value)
    if isinstance(value, (list, tuple)):
        with suppress(RuntimeError, TypeError, ValueError):  # ragged rows, tensors: refused or opened later
            value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "mMSU":
            raise TypeError(f"{name}: needs real numbers, got dtype {value.dtype}")
        if value.dtype == object and (foreign := {*map(type, value.flat)}.intersection(_NO_NUMBERS)):
            raise TypeError(f"{name}: needs real numbers, got {foreign.pop().__name__}")
    return value


def _same_rows(name: str, array: NDArray[Any], n_rows: int, name_of_rows: str) -> None:
    found = array.shape[0] if array.ndim else "a single number"
    if found != n_rows:
        raise ValueError(f"{name}: needs one row for each of the {n_rows} rows of {name_of_rows}, got {found}")


def _reals(name: str, value: Any, **settings: Any) -> Any:
    """Return an array of real numbers, finite or not, of any shape, from whatever scikit-learn takes for one."""
    value = _numbers(name, value)
    try:
        return check_array(
            value, dtype=REALS, ensure_all_finite=False, ensure_2d=False, allow_nd=True, ensure_min_samples=0,
            ensure_min_features=0, **settings,
        )  # fmt: skip
    except OverflowError as error:  # from an integer without bounds
        raise ValueError(f"{name}: needs numbers that float64 can hold: {error}") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: needs real numbers, got {check.shown(value)} ({error})") from None


def opened(X: Any, name: str = "X") -> tuple[Any, Any]:
    """Return X with an array in the place of a table or a tensor, and the table, or None."""
    if hasattr(X, "sparse"):  # columns of pandas that are all sparse; scikit-learn keeps them so
        return X, None
    X = _numbers(name, X)
    table = frames.eager(name, X)
    array, names = frames.opened(name, table)
    return array, None if names is None else table


def weights_of(name: str, sample_weight: Any, y: NDArray[Any], dtype: np.dtype[Any]) -> RealArray | None:
    """Return the weights of the samples."""
    if sample_weight is None:
        return None
    sample_weight = frames.values(name, sample_weight)
    if isinstance(sample_weight, Number):
        sample_weight = np.full(y.shape[0], sample_weight)
    weight = _reals(name, sample_weight)
    if weight.ndim == 1:
        _same_rows(name, weight, y.shape[0], "X_val" if name == "sample_weight_val" else "X")
        if not weight.any():  # scikit-learn's checks want to read of zeros
            raise ValueError(f"{name}: needs at least one weight > 0, got only zeros")
    return check.weights(name, weight, dtype, y.shape[0])


class UnluckyRowsError(ValueError):
    """These rows cannot be learned from; others of the same samples perhaps can."""


def times_classes(
    name: str,
    weight: RealArray | None,
    class_weight: Any,
    y: NDArray[Any],
    classes: NDArray[Any],
    dtype: np.dtype[Any],
) -> RealArray:
    """Return the weights of the samples, which have that name, times those of their classes.

    class_weight: a dictionary, or a list with one for each label, or "balanced"
    """
    is_list = isinstance(class_weight, Sequence) and not isinstance(class_weight, str) and y.ndim == 2
    for k, of_label in enumerate(class_weight if is_list else [class_weight]):
        argument = f"class_weight[{k}]" if is_list else "class_weight"
        if isinstance(of_label, Mapping):
            for label, value in of_label.items():
                check.number(f"{argument}[{label!r}]", value, at_least=0)
        elif not isinstance(of_label, str) or of_label != "balanced":
            wanted = "a dictionary or 'balanced'" if is_list else "a dictionary, 'balanced' or None"
            raise TypeError(f"{argument}: needs {wanted}, got {check.shown(of_label)}")
    try:
        if isinstance(class_weight, Mapping) and y.ndim == 1:  # of all classes, whether these rows have them or not
            found = compute_class_weight(class_weight, classes=classes, y=classes)[places(y, classes)]
        else:
            found = compute_sample_weight(class_weight, y)
    except ValueError as error:
        raise UnluckyRowsError(f"class_weight: {error}") from None
    of_rows: RealArray = check.array("class_weight", found, dtype)
    if weight is None:
        return of_rows
    with np.errstate(over="ignore"):
        return check.array(f"class_weight times {name}", of_rows * weight, dtype)


def counts(weight: RealArray | None) -> bool:
    """Return whether at least one sample has a weight; a compiled core takes what is smaller for zero."""
    return weight is None or bool(weight.max(initial=0) >= np.finfo(weight.dtype).tiny)


@contextmanager
def about(name: str) -> Iterator[None]:
    """Have errors say which argument they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from None


def fits_dense(X: Any) -> bool:
    """Return whether X is dense, or a sparse matrix that is made dense as a whole."""
    return not hasattr(X, "toarray") or X.shape[0] * X.shape[1] <= _MOST_DENSE_NUMBERS


def dense_rows(X: Any, dtype: np.dtype[Any]) -> RealArray:
    """Return dense rows in the form that the core takes."""
    if hasattr(X, "toarray"):
        X = X.toarray()
    if X.dtype != dtype:
        return check.features("X", X, dtype, X.shape[1])
    rows: RealArray = X if X.flags.c_contiguous and X.flags.aligned else np.require(X, requirements=["C", "A"])
    return rows


def is_multilabel(y: Any, name: str = "y") -> bool:
    """Return whether y has columns of zeros and ones, and not one class for each sample; ValueError for others."""
    if y.ndim == 1 and y.dtype.kind in "biuU":  # the usual case; the general one takes scikit-learn long to decide
        return False
    with about(name):
        kind = type_of_target(y, input_name=name)  # before the other, which calls every argument y
        check_classification_targets(y)
    if "multioutput" in kind:
        raise ValueError(
            f"{name}: needs one column of classes, or columns of zeros and ones, got several columns of classes"
        )
    return bool(kind.startswith("multilabel"))


def booleans(y: Any) -> NDArray[np.bool_]:
    """Return labels (n, n_labels) as booleans."""
    labels: NDArray[np.bool_] = (y.toarray() if hasattr(y, "toarray") else y) != 0
    return labels


def places(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each sample's class is among the sorted ones."""
    return classes.searchsorted(y).astype(np.int64, copy=False)
