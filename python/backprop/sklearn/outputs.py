"""What the estimators give back: arrays, or tables where `set_output` asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base import frames

_CONTAINERS = ("default", "pandas", "polars")


class Outputs:
    """What the estimators share about what they give back."""

    _target_names: tuple[str, ...] | None
    """of the columns of y, where it was a table or a series that has some"""

    def set_output(self, *, transform: str | None = None) -> Self:
        """Let predictions be tables, with the index of X where that is pandas' and the names of y or of the classes.

        scikit-learn has this for transformers. Here it is for `predict`, `predict_proba` and the like, and only where
        it is called: what is set for all estimators, by `sklearn.set_config` or a pipeline, is for transformers, as
        scikit-learn itself counts on arrays from predictors.

        Parameters
        ----------
        transform
            ``"pandas"`` or ``"polars"``; ``"default"`` for arrays; None leaves it as it is.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        ValueError
            If it is none of these.

        Examples
        --------
        >>> import pandas as pd
        >>> from backprop.sklearn import MLPClassifier
        >>> X = pd.DataFrame({"size": [0.0, 1.0, 2.0, 3.0]}, index=["a", "b", "c", "d"])
        >>> model = MLPClassifier(5, solver="lbfgs", random_state=0).set_output(transform="pandas")
        >>> model.fit(X, ["no", "no", "yes", "yes"]).predict_proba(X).round(1).loc["a", "no"].item()
        1.0
        """
        if transform is not None:
            check.choice("transform", transform, _CONTAINERS)
            # where scikit-learn keeps it, so that clones have it too
            self._sklearn_output_config = {"transform": transform}
        return self

    def _given(self, X: Any, values: Any, names: Iterable[Any] | None = None) -> Any:
        """Return predictions for X, (n,) or (n, n_columns), as the user wants them; by default with the names of y."""
        library = getattr(self, "_sklearn_output_config", {}).get("transform", "default")
        if library == "default":
            return values
        columns: NDArray[Any] = values.reshape(len(values), -1)
        known = getattr(self, "_target_names", None) if names is None else tuple(map(str, names))
        labels = known or tuple(f"y{k}" if values.ndim > 1 else "y" for k in range(columns.shape[1]))
        table = frames.frame(dict(zip(labels, columns.T, strict=True)), library)
        if library == "pandas" and (index := _index(X)) is not None:
            table.index = index
        return table if values.ndim > 1 else table[labels[0]]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of a classifier, or R² of a regressor.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        float
            What scikit-learn's `accuracy_score` or `r2_score` finds.
        """
        weight = None if sample_weight is None else frames.values("sample_weight", sample_weight)
        return float(super().score(X, frames.raw("y", y), weight))  # type: ignore[misc]


def _index(X: Any) -> Any:
    """Return the index of a table of pandas, or None."""
    index = getattr(X, "index", None)
    return None if index is None or callable(index) or isinstance(X, np.ndarray) else index


def names_of(y: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of y, or that of a series, where there are some."""
    found = frames.table("y", y)
    if found is None:
        return None
    if hasattr(found, "columns"):
        return frames.names("y", found)
    return (found.name,) if isinstance(found.name, str) and found.name else None
