"""What the estimators of `backprop.sklearn` are given: arrays, checked and in the form that the core takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_X_y, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from backprop.base import checks as check
from backprop.base import frames
from backprop.base.types import RealArray
from backprop.sklearn.outputs import names_of

REALS = (np.float64, np.float32)
_SPARSE = ("csr", "csc")
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
    y = frames.raw("y", y)
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


def opened(X: Any) -> tuple[Any, Any]:
    """Return X with an array in the place of a table or a tensor, and the table, or None."""
    if hasattr(X, "sparse"):  # columns of pandas that are all sparse; scikit-learn keeps them so
        return X, None
    table = frames.eager("X", X)
    array, names = frames.opened("X", table)
    return array, None if names is None else table


def weights_of(name: str, sample_weight: Any, y: NDArray[Any], dtype: np.dtype[Any]) -> RealArray | None:
    """Return the weights of the samples."""
    if sample_weight is None:
        return None
    sample_weight = frames.values(name, sample_weight)
    if isinstance(sample_weight, Number):  # of a complex one, scikit-learn would take the real part
        sample_weight = np.full(y.shape[0], sample_weight)
    try:
        sample_weight = _check_sample_weight(sample_weight, y, ensure_non_negative=True)
    except OverflowError as error:  # from an integer without bounds
        raise ValueError(f"{name}: needs numbers that float64 can hold: {error}") from None
    return check.weights(name, sample_weight, dtype, len(sample_weight))


def times_classes(weight: RealArray | None, class_weight: Any, y: NDArray[Any], dtype: np.dtype[Any]) -> RealArray:
    """Return the weights of the samples times those of their classes.

    class_weight: a dictionary, or a list with one for each label, or "balanced"
    """
    is_list = isinstance(class_weight, Sequence) and not isinstance(class_weight, str) and y.ndim == 2
    for k, of_label in enumerate(class_weight if is_list else [class_weight]):
        name = f"class_weight[{k}]" if is_list else "class_weight"
        if isinstance(of_label, Mapping):
            for label, value in of_label.items():
                check.number(f"{name}[{label!r}]", value, at_least=0)
        elif not isinstance(of_label, str) or of_label != "balanced":
            wanted = "a dictionary or 'balanced'" if is_list else "a dictionary, 'balanced' or None"
            raise TypeError(f"{name}: needs {wanted}, got {check.shown(of_label)}")
    of_rows: RealArray = check.array("class_weight", compute_sample_weight(class_weight, y), dtype)
    if weight is None:
        return of_rows
    with np.errstate(over="ignore"):
        return check.array("class_weight times sample_weight", of_rows * weight, dtype)


def check_counting(weight: RealArray | None, held_out: RealArray | None) -> None:
    """Raise where all samples that are learned from, or all that are to validate with, have weights of zero."""
    for name, of_rows in (("learned from", weight), ("validated with", held_out)):
        if of_rows is not None and not of_rows.max(initial=0) >= np.finfo(of_rows.dtype).tiny:  # as in `check.weights`
            raise ValueError(
                f"sample_weight, class_weight: need at least one weight > 0 among the samples that are {name}, got "
                "only zeros"
            )


@contextmanager
def about(name: str) -> Iterator[None]:
    """Have errors say which samples they are about."""
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


def is_multilabel(y: Any) -> bool:
    """Return whether y has columns of zeros and ones, and not one class for each sample; ValueError for others."""
    if y.ndim == 1 and y.dtype.kind in "biuU":  # the usual case; the general one takes scikit-learn long to decide
        return False
    check_classification_targets(y)
    kind = type_of_target(y, input_name="y")
    if "multioutput" in kind:
        raise ValueError("y: needs one column of classes, or columns of zeros and ones, got several columns of classes")
    return bool(kind.startswith("multilabel"))


def booleans(y: Any) -> NDArray[np.bool_]:
    """Return labels (n, n_labels) as booleans."""
    labels: NDArray[np.bool_] = (y.toarray() if hasattr(y, "toarray") else y) != 0
    return labels


def places(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each sample's class is among the sorted ones."""
    return classes.searchsorted(y).astype(np.int64, copy=False)
