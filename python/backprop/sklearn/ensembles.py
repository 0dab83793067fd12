"""Ensembles of networks, trained side by side: means and spreads of what they predict."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.base.types import RealArray
from backprop.sklearn.before import Before
from backprop.sklearn.classifier import MLPClassifier
from backprop.sklearn.converting import Convertible
from backprop.sklearn.draws import draw
from backprop.sklearn.fleets import Fit, average_only, fit_together
from backprop.sklearn.folds import keep_left_out, labels_of, predictions_of, split
from backprop.sklearn.outputs import Outputs
from backprop.sklearn.parameters import InvalidParameterError, keep_arguments
from backprop.sklearn.perceptron import Perceptron
from backprop.sklearn.regressor import MLPRegressor
from backprop.sklearn.rows import REALS, checked, features, weights_of
from backprop.sklearn.seeding import random_numbers

__all__ = ["MLPEnsembleClassifier", "MLPEnsembleRegressor"]

_MEMBERS = ("seed", "bootstrap", "fold")
# Parameters of the plain estimators that are for one network.
_LEFT_OUT = ("bagging", "verbose", "warm_start")
E = TypeVar("E", bound="type[Ensemble]")


def of(Member: type[Perceptron]) -> Callable[[E], E]:
    """Give an ensemble its kind of members, and their parameters before its own."""

    def decorate(Ensemble: E) -> E:
        own = list(inspect.signature(Ensemble.__init__).parameters.values())[1:-1]
        theirs = [each for name, each in inspect.signature(Member).parameters.items() if name not in _LEFT_OUT]
        signature = inspect.Signature([*theirs, *own])

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            arguments = signature.bind(*args, **kwargs)
            arguments.apply_defaults()
            keep_arguments(self, arguments.arguments)

        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        __init__.__signature__ = inspect.Signature([this, *theirs, *own])  # type: ignore[attr-defined]
        Ensemble.__init__ = explained(__init__)  # type: ignore[method-assign]
        Ensemble._Member = Member
        Ensemble._shared = tuple(each.name for each in theirs)
        return Ensemble

    return decorate


class Ensemble(BaseEstimator):  # type: ignore[misc]
    """What the two ensembles share."""

    _Member: type[Perceptron]
    _shared: tuple[str, ...]
    """the parameters of the members"""

    @explained
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train all members.

        Parameters
        ----------
        X, y, sample_weight
            As for the plain estimators.

        Returns
        -------
        object
            The ensemble itself.

        Raises
        ------
        InvalidParameterError
            If a parameter of the ensemble is wrong.
        ValueError
            If X, y or the weights are wrong, or if the training of a member ended in numbers that are not finite.

        Notes
        -----
        A fit that fails leaves the ensemble as it was, with what it had learned.
        """
        with Before(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Any:
        self._check_parameters()
        for name, array in (("X", X), ("y", y), ("sample_weight", sample_weight)):
            check.fits(name, array)
        X, y = checked(self, X, y, reset=True)
        weight = weights_of("sample_weight", sample_weight, y, np.dtype(np.float64))
        self._learn_labels(y)
        seed, draws = self.random_state, random_numbers(self.random_state)
        if not isinstance(seed, (int, np.integer)):
            seed = draws.randint(np.iinfo(np.int32).max)
        rows: Sequence[tuple[NDArray[Any] | None, NDArray[Any]]]
        # those that each member learns from, None for all, and those that it does not
        self.estimators_ = [self._member((int(seed) + k) % 2**32) for k in range(self.n_estimators)]
        if self.members == "bootstrap":
            drawn = draw(self.estimators_, X, y, weight, np.random.RandomState(int(seed)))
            rows = [(each, np.setdiff1d(np.arange(y.shape[0]), each)) for each in drawn]
        elif self.members == "fold":
            rows = split(self, "n_estimators", y, int(seed))
        else:
            rows = [(None, np.empty(0, np.int64))] * self.n_estimators
        fit_together(
            [
                Fit.of(each, _some(X, learning), _some(y, learning), _some(weight, learning))
                for each, (learning, _) in zip(self.estimators_, rows, strict=True)
            ]
        )
        self.n_iter_ = max(each.n_iter_ for each in self.estimators_)
        for name in ("oof_prediction_", "oof_score_"):
            self.__dict__.pop(name, None)
        if self.members != "seed":
            classes = getattr(self, "classes_", None)
            left_out = [
                (rest, predictions_of(each, X[rest], classes))
                for each, (_, rest) in zip(self.estimators_, rows, strict=True)
                if len(rest)
            ]
            if not left_out:  # where there are few rows, all may draw all of them: no row has predictions
                left_out = [(np.empty(0, np.int64), predictions_of(self.estimators_[0], X[:1], classes)[:0])]
            keep_left_out(self, left_out, y, weight)
        return self

    def _check_parameters(self) -> None:
        """Raise InvalidParameterError unless every parameter is of the right type and in range."""
        try:
            check.choice("members", self.members, _MEMBERS)
            check.integer("n_estimators", self.n_estimators, at_least=2 if self.members == "fold" else 1)
            if not average_only(self.callbacks):
                raise ValueError(f"callbacks: needs averages of the parameters only, got {check.shown(self.callbacks)}")
            self._member(self.random_state)._check_each_parameter()
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"{type(self).__name__}: {error}") from error

    def _member(self, random_state: Any) -> Perceptron:
        """Return a plain estimator with the ensemble's settings."""
        own = {name: getattr(self, name) for name in self._shared} | {"random_state": random_state}
        if own["callbacks"]:
            own["callbacks"] = [copy(each) for each in own["callbacks"]]
        return self._Member(**own)

    def _learn_labels(self, y: NDArray[Any]) -> None:
        """Learn the classes, if there are any."""

    def _names(self) -> Any:
        """Return what the columns of probabilities are called: the classes; None for the names of y."""
        return None if getattr(self, "_multilabel", True) else self.classes_

    def predict_members(self, X: Any) -> RealArray:
        """Return what each member predicts.

        Returns
        -------
        ndarray
            Predictions (n_estimators, n_samples) or (n_estimators, n_samples, n_outputs); of a classifier the
            probabilities (n_estimators, n_samples, n_classes).
        """
        check_is_fitted(self)
        check.fits("X", X)
        X = features(self, X, REALS)
        classes = getattr(self, "classes_", None)
        predicted: RealArray = np.array([predictions_of(each, X, classes) for each in self.estimators_])
        return predicted

    def predict_std(self, X: Any) -> Any:
        """Return the standard deviation of the members' predictions, or probabilities, for each of them.

        The square root of the mean squared distance from their mean: the same shape as the mean.
        """
        members = self.predict_members(X)
        # Each in units of a power of two: squares of large numbers would be infinite, those of small ones would vanish.
        exponent = np.frexp(np.abs(members).max(axis=0))[1]
        spread = np.ldexp(np.ldexp(members, -exponent).std(axis=0), exponent)
        return self._given(X, spread, self._names())

    def predict_quantiles(self, X: Any, q: ArrayLike) -> Any:
        """Return quantiles of the members' predictions, or probabilities, interpolated linearly between two of them.

        Parameters
        ----------
        X
            Rows.
        q
            One number in [0, 1], such as 0.5 for the median, or several.

        Returns
        -------
        ndarray
            For one number the shape of the mean; for several (len(q), ...).

        Raises
        ------
        TypeError, ValueError
            If q is not in [0, 1].
        """
        levels = check.array("q", q, np.dtype(np.float64))
        if levels.ndim > 1 or not levels.size or not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"q: needs a number in [0, 1] or several, got {check.shown(q)}")
        quantiles: Any = np.quantile(self.predict_members(X), levels, axis=0)
        return quantiles

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _some(array: Any, rows: NDArray[Any] | None) -> Any:
    """Return rows of an array that may be None; all rows are the array itself, which members then share."""
    return array if array is None or rows is None else array[rows]


@of(MLPClassifier)
class MLPEnsembleClassifier(Convertible, Outputs, ClassifierMixin, Ensemble):  # type: ignore[misc]
    """Ensemble of `MLPClassifier` that are trained side by side.

    Its probabilities are the means of its members'. How far these are apart says how sure it is.

    Parameters
    ----------
    **network
        All parameters of `MLPClassifier`, for each member, but `verbose`, `warm_start` and `bagging`; of `callbacks`
        only averages. Member k has the `random_state` of the ensemble plus k, if that is an integer.
    n_estimators
        How many members there are.
    members
        In what they differ besides their seeds: ``"seed"`` in nothing, ``"bootstrap"`` in their rows, of which each
        draws as many as there are with replacement, or ``"fold"``: the rows are cut into `n_estimators` parts at
        random, each with the same share of each class, and each member learns from all but one of them. Rows none of
        which has weight (`sample_weight`, `class_weight`; with `early_stopping` in one of the two parts) are drawn
        again by the same generator, up to 1,000 times.

    Attributes
    ----------
    estimators_ : list of MLPClassifier
        The members.
    classes_ : ndarray of shape (n_classes,)
        The labels of the classes.
    n_iter_ : int
        The most epochs that a member has trained.
    oof_prediction_, oof_score_ : ndarray of shape (n_samples, n_classes), float
        With ``"bootstrap"`` and ``"fold"``: for each row the mean of the probabilities by the members that have not
        learned from it, NaN where there are none; and the share of the other rows for which the class is right.
    n_features_in_, feature_names_in_ : int, ndarray
        Columns of X, and their names where they have some.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from backprop.sklearn import MLPEnsembleClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> settings = {"learning_rate_init": 0.02, "max_iter": 1000, "random_state": 0}
    >>> model = MLPEnsembleClassifier(8, members="fold", n_estimators=5, **settings).fit(X, y)
    >>> model.predict(X[:2]), model.oof_score_ > 0.9, model.predict_std(X[:2]).shape
    (array([0, 0]), True, (2, 3))
    """

    def __init__(self, *, n_estimators: int = 10, members: str = "seed", **network: Any) -> None: ...

    def _learn_labels(self, y: NDArray[Any]) -> None:
        member = MLPClassifier()
        member._learned(y, incremental=False)
        self.classes_, self._multilabel = member.classes_, member._multilabel
        self._sparse_labels = member._sparse_labels

    def predict(self, X: Any) -> Any:
        """Return the class of each sample, or its labels: zeros and ones, (n_samples, n_labels)."""
        labels = labels_of(self.predict_members(X).mean(axis=0), self.classes_, self._multilabel)
        if self._sparse_labels:
            from scipy.sparse import csr_matrix

            return csr_matrix(labels)
        return self._given(X, labels)

    def predict_proba(self, X: Any) -> Any:
        """Return the mean probability of each class, (n_samples, n_classes), in the order of `classes_`."""
        return self._given(X, self.predict_members(X).mean(axis=0), self._names())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@of(MLPRegressor)
class MLPEnsembleRegressor(Convertible, Outputs, RegressorMixin, Ensemble):  # type: ignore[misc]
    """Ensemble of `MLPRegressor` that are trained side by side.

    Its predictions are the means of its members'. How far these are apart says how sure it is.

    Parameters
    ----------
    **network
        All parameters of `MLPRegressor`, for each member, but `verbose`, `warm_start` and `bagging`; of `callbacks`
        only averages. Member k has the `random_state` of the ensemble plus k, if that is an integer.
    n_estimators, members
        As of `MLPEnsembleClassifier`; the parts of ``"fold"`` are random.

    Attributes
    ----------
    estimators_ : list of MLPRegressor
        The members.
    n_iter_ : int
        The most epochs that a member has trained.
    oof_prediction_, oof_score_ : ndarray of shape (n_samples,) or (n_samples, n_outputs), float
        With ``"bootstrap"`` and ``"fold"``: for each row the mean of the predictions by the members that have not
        learned from it, NaN where there are none; and R² of the other rows.
    n_features_in_, feature_names_in_ : int, ndarray
        Columns of X, and their names where they have some.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.sklearn import MLPEnsembleRegressor
    >>> X = np.linspace(-3, 3, 100).reshape(-1, 1)
    >>> settings = {"activation": "tanh", "learning_rate_init": 0.02, "max_iter": 2000, "random_state": 0}
    >>> model = MLPEnsembleRegressor(hidden_layer_sizes=10, members="bootstrap", **settings).fit(X, np.sin(X[:, 0]))
    >>> far, near = model.predict_std([[9.0], [0.0]])
    >>> bool(far > near), model.predict_quantiles(X, [0.05, 0.95]).shape
    (True, (2, 100))
    """

    def __init__(self, *, n_estimators: int = 10, members: str = "seed", **network: Any) -> None: ...

    def predict(self, X: Any) -> Any:
        """Return the mean predictions, (n_samples,) or (n_samples, n_outputs)."""
        return self._given(X, self.predict_members(X).mean(axis=0))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
