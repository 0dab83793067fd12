"""What the two estimators of `backprop.sklearn` share: fitting, the network's outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from backprop.backends import choice
from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.frames import eager
from backprop.base.keywords import explained
from backprop.base.solving import SolverState
from backprop.base.types import Data, RealArray, new_parameters
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.layout import end
from backprop.reference.losses import CrossEntropy, SquaredError
from backprop.sklearn.before import Before
from backprop.sklearn.descent import Descent
from backprop.sklearn.folds import fit_with_folds
from backprop.sklearn.packing import arrays, layers_of, pack, plan_of, sizes_of, unpack
from backprop.sklearn.parameters import OUR_NAMES, THEIR_NAMES, Parameters
from backprop.sklearn.rows import (
    UnluckyRowsError,
    checked,
    checked_features,
    checked_targets,
    counts,
    dense_rows,
    features,
    fits_dense,
    weights_of,
)
from backprop.sklearn.seeding import random_numbers
from backprop.sklearn.solvers import LossAndOutput, Problem, minimize
from backprop.sklearn.sparse import DENSE_NUMBERS

_DATA = ("X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val")


class Perceptron(Parameters):
    """What the two estimators share beside their parameters."""

    # --- fitting ---------------------------------------------------------------------------------------------------

    @explained
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Train on X and y.

        Parameters
        ----------
        X
            Real numbers (n_samples, n_features), dense or sparse. A sparse matrix is made dense, if it is large a few
            batches at a time (with L-BFGS always as a whole).
        y
            Targets: (n_samples,) or (n_samples, n_outputs).
        sample_weight
            Weights >= 0 of the samples, (n_samples,).
        X_val, y_val, sample_weight_val
            Samples to validate with. Their loss after each epoch goes into ``validation_loss_curve_``; with
            ``early_stopping`` they take the place of the part of X that would be held out. In a `Pipeline`, its
            ``transform_input=["X_val"]`` sends `X_val` through the steps before.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        InvalidParameterError
            If a parameter of the estimator is wrong.
        TypeError
            If a column of a table holds dates, text or the like; the message names it.
        ValueError
            If X, y or the weights are wrong, or if training ended in numbers that are not finite.

        Notes
        -----
        A fit that is refused leaves the estimator as it was, with what it had learned.
        """
        validation = X_val, y_val, sample_weight_val
        if self.bagging is None or y is None:  # the second is refused there
            return self._fit(X, y, sample_weight, validation, incremental=False)
        X, y, sample_weight = (
            eager(*each) for each in (("X", X), ("y", y), ("sample_weight", sample_weight))
        )  # rows are taken from them
        with Before(self):
            fit_with_folds(self, X, y, sample_weight, validation)
        return self

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        *,
        incremental: bool,
        classes: Any = None,
    ) -> Any:
        train = self._minimize if self._is_full_batch() else self._descend
        self._check_learned(train(X, y, sample_weight, validation, incremental, classes))
        return self

    def _prepared(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        incremental: bool,
        classes: Any = None,
    ) -> tuple[Problem, Callable[[], np.random.RandomState]]:
        """Return what a solver needs, and the generator for the rest of what is random.

        The attributes change on the way; who calls this sees to it that they are as before where it is refused.
        """
        self._check_parameters()
        stochastic = not self._is_full_batch()
        if incremental:
            self._begin_classes(classes)
            if self.early_stopping:
                raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        for name, array in zip(_DATA, (X, y, sample_weight, *validation), strict=True):
            check.fits(name, array)
        X, y = checked(self, X, y, first)
        dtype = self._working_dtype(X.dtype)
        targets = self._learned(y, incremental)
        weight = self._weights("sample_weight", sample_weight, y, dtype)
        if first:
            self._learn_scale(targets, weight, dtype)
        targets = self._scaled("y", targets)

        n_outputs = self._count_outputs(targets)
        objective = self._objective(n_outputs)
        sizes = (X.shape[1], *self._hidden_units(), n_outputs)
        # Made when it is needed: that takes longer than an epoch of a small network. All draws are from the same one.
        random_state = cache(lambda: random_numbers(self.random_state))
        if first:
            parameters = self._begin(sizes, objective, random_state(), dtype, stochastic)
        else:
            parameters = self._resumed(sizes, dtype)
        self.n_outputs_ = n_outputs
        for name in ("posterior_", "oof_prediction_", "oof_score_"):  # of what was learned before
            self.__dict__.pop(name, None)

        X = dense_rows(X, dtype) if not stochastic or fits_dense(X) else X.tocsr().astype(dtype, copy=False)
        data = Data(X, self._targets("y", objective, targets, dtype), weight)
        held_out = self._validation_data(objective, dtype, *validation)
        if stochastic and self.early_stopping and held_out is None:
            training, rest = self._split(len(data.targets), targets, random_state())
            data, left = _some(data, training), _some(data, rest)
            self._check_counting("validated with", left.sample_weight, "sample_weight", sample_weight)
            held_out = left._replace(X=dense_rows(left.X, dtype)), targets[rest]
        if not incremental:
            self._check_counting("learned from", data.sample_weight, "sample_weight", sample_weight)
        return self._problem(objective, parameters, sizes, data, held_out), random_state

    def _check_learned(self, flat: RealArray) -> None:
        """Raise ValueError unless everything that was learned is finite."""
        if not np.isfinite(flat).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )

    def _working_dtype(self, given: np.dtype[Any]) -> np.dtype[Any]:
        """Return what is computed in: float64 unless X or `dtype` says float32; always float64 with minimizers."""
        if self._is_full_batch():
            return check.real_dtype("dtype", np.float64)
        return check.real_dtype("dtype", given if self.dtype is None else self.dtype)

    def _weights(self, name: str, sample_weight: Any, y: NDArray[Any], dtype: np.dtype[Any]) -> RealArray | None:
        """Return the weights of the samples, those of their classes included."""
        return weights_of(name, sample_weight, y, dtype)

    def _check_counting(self, what: str, weight: RealArray | None, name: str, sample_weight: Any) -> None:
        """Raise where all samples that are learned from, or validated with, have weights of zero.

        sample_weight: what was given under that name, which with those of the classes made the weights
        """
        if not counts(weight):
            given = ((name, sample_weight), ("class_weight", getattr(self, "class_weight", None)))
            names = [each for each, value in given if value is not None]
            need = "need" if len(names) > 1 else "needs"
            raise UnluckyRowsError(
                f"{', '.join(names)}: {need} at least one weight > 0 among the samples that are {what}, got only zeros"
            )

    def _validation_data(
        self, objective: LossAndOutput, dtype: np.dtype[Any], X: Any, y: Any, sample_weight: Any
    ) -> tuple[Data, NDArray[Any]] | None:
        """Return the samples to validate with that were given, checked, and their targets in our own form."""
        if X is None and y is None and sample_weight is None:
            return None
        for name, given in (("X_val", X), ("y_val", y)):
            if given is None:
                came = "X_val" if X is not None else "y_val" if y is not None else "sample_weight_val"
                raise ValueError(f"{name}: needs to be given where {came} is, got None")
        if self._is_full_batch():
            raise ValueError(f"X_val: needs a stochastic solver, got solver={self.solver!r}")
        rows = checked_features(self, "X_val", X, dtype)
        y = checked_targets(self, "y_val", y, len(rows), "X_val")
        targets = self._encode(y, "y_val")
        if targets.ndim == 2 and targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val: needs {self.n_outputs_} columns, as y has, got shape {y.shape}")
        targets = self._scaled("y_val", targets)
        weight = self._weights("sample_weight_val", sample_weight, y, dtype)
        self._check_counting("validated with", weight, "sample_weight_val", sample_weight)
        return Data(rows, self._targets("y_val", objective, targets, dtype), weight), targets

    def _begin_classes(self, classes: Any) -> None:
        """Take the labels that `partial_fit` was given, if there are any."""

    def _learn_uncertainty(self, problem: Problem, state: SolverState) -> bool:
        """Keep what a minimizer has found out beside the parameters; return whether that means anything."""
        return True

    def _learn_scale(self, targets: NDArray[Any], weight: RealArray | None, dtype: np.dtype[Any]) -> None:
        """Learn how the targets are scaled, if they are."""

    def _scaled(self, name: str, targets: NDArray[Any]) -> NDArray[Any]:
        """Return targets as the network is to learn them."""
        return targets

    def _split(
        self, n_rows: int, targets: NDArray[Any], random_state: np.random.RandomState
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the rows to learn from and those to validate with, the same as in scikit-learn."""
        training, held_out = train_test_split(
            np.arange(n_rows),
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=self._strata(targets),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return training, held_out

    def _begin(
        self,
        sizes: tuple[int, ...],
        objective: LossAndOutput,
        random_state: np.random.RandomState,
        dtype: np.dtype[Any],
        stochastic: bool,
    ) -> RealArray:
        """Forget what was learned before; return the initial parameters, the same as in scikit-learn."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = THEIR_NAMES.get(objective.output, objective.output)
        self.__dict__.pop("_slots", None)
        if stochastic:
            self.loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_: float | None = -math.inf if self.early_stopping else None
            self.best_loss_: float | None = None if self.early_stopping else math.inf
            self.validation_loss_curve_: list[float] | None = None
            self._no_improvement_count = 0
        activations = self._hidden_activations(len(sizes) - 2)
        activations += activations[-1:] or (self.activation,)
        table = arrays(sizes, self._activations(len(sizes) - 2))
        parameters = new_parameters(end(table), dtype)
        for array in table:
            first, n_in, n_out = array.start, sizes[array.layer], sizes[array.layer + 1]
            if array.name == "slopes":
                parameters[array.part] = ACTIVATIONS["prelu"].alpha
            elif array.name == "weights":  # and the biases behind them, which have the same bound
                factor = 2.0 if activations[array.layer] in ("logistic", "sigmoid") else 6.0
                bound, n = math.sqrt(factor / (n_in + n_out)), (n_in + 1) * n_out
                parameters[first : first + n] = random_state.uniform(-bound, bound, n)
        return parameters

    def _resumed(self, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> RealArray:
        """Return a copy of the parameters that there are, to go on from."""
        if (found := sizes_of(self.coefs_)) != sizes:
            raise ValueError(
                f"hidden_layer_sizes: needs layers of {list(found)} units, inputs and outputs included, to go on with "
                f"what was learned, got {list(sizes)}"
            )
        return self._packed(sizes, dtype)

    def _packed(self, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> RealArray:
        """Return ``coefs_``, ``intercepts_`` and ``slopes_`` as one vector."""
        table = arrays(sizes, self._activations(len(sizes) - 2))
        parts = {"weights": self.coefs_, "biases": self.intercepts_, "slopes": getattr(self, "slopes_", ())}
        return pack(table, [parts[array.name][array.layer] for array in table], dtype)

    def _problem(
        self,
        objective: LossAndOutput,
        parameters: RealArray,
        sizes: tuple[int, ...],
        data: Data,
        held_out: tuple[Data, NDArray[Any]] | None,
    ) -> Problem:
        """Put together what a solver needs; with the rows that are held out come their targets in our own form."""
        dtype = parameters.dtype
        alpha = float(self.alpha)
        if self._is_full_batch():
            alpha /= data.X.shape[0] if data.sample_weight is None else float(data.sample_weight.sum())
        if self._is_bayesian():  # which finds it itself
            alpha = 0.0
        backend = choice.default()
        n_hidden = len(sizes) - 2
        layers = layers_of(sizes[1:], self._activations(n_hidden), alpha, self._dropout_rates(n_hidden))
        validation = score = None
        if held_out is not None:
            validation, targets = held_out
            score = self._score_of(targets, validation.sample_weight) if self.early_stopping else None
        return Problem(
            backend.module(dtype),
            layers,
            plan_of(backend, dtype, sizes[0], layers),
            objective,
            parameters,
            data,
            validation,
            score,
        )

    def _targets(
        self, name: str, objective: LossAndOutput, targets: NDArray[Any], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Return targets in the form that the core takes."""
        n_outputs, loss = self.n_outputs_, objective.loss
        if isinstance(loss, Custom):  # it gets what the library's losses would get
            loss = CrossEntropy() if targets.ndim == 1 and n_outputs > 1 else SquaredError()
        if loss.elementwise and targets.ndim == 1:
            targets = targets[:, np.newaxis] == np.arange(n_outputs) if n_outputs > 1 else targets[:, np.newaxis]
        is_label = targets.ndim == 1 and n_outputs > 1  # a number that was found here
        return targets if is_label else check.targets(name, targets, loss, dtype, targets.shape[0], n_outputs)

    def _activations(self, n_hidden: int) -> tuple[str, ...]:
        """Return the activation of each layer by our name."""
        names = (*self._hidden_activations(n_hidden), self.out_activation_)
        return tuple(OUR_NAMES.get(name, name) for name in names)

    # --- solvers ---------------------------------------------------------------------------------------------------

    def _minimize(self, *arguments: Any) -> RealArray:
        """Train with a minimizer; returns the parameters, as all of these do. arguments: those of `_prepared`."""
        with Before(self):
            problem, _ = self._prepared(*arguments)
            limits = {"max_iter": self.max_iter, "max_fun": self.max_fun, "tol": self.tol}
            state, reason = minimize(problem, self.solver, n_threads=self.n_threads, **limits)
            if not self._learn_uncertainty(problem, state):
                reason = "no noise"
        self.n_iter_ = state.iteration
        self.loss_ = state.loss * problem.objective.unit
        learned: RealArray = state.point if self.dtype is None else state.point.astype(self.dtype)
        self._store(learned, problem.sizes)
        if reason not in ("gradient", "loss"):
            help = (
                "More samples may help, or fewer units"
                if reason == "no noise"
                else "More iterations (max_iter), more calls of the loss (max_fun) or scaled columns of X may help"
            )
            warnings.warn(
                f"{self.solver} failed to converge after {self.n_iter_} iteration(s): it ended by {reason!r}. {help}",
                ConvergenceWarning,
                stacklevel=choice._caller_level(),
            )
        return learned

    def _descend(self, *arguments: Any) -> RealArray:
        """Train with an optimizer. arguments: those of `_prepared`."""
        with Before(self) as before:
            descent = self._ready(*arguments)
            descent.start()
        try:
            descent.train()
            descent.close()
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=choice._caller_level())
        except BaseException:
            if descent.has_begun():
                self._keep(descent)
            else:  # a callback has refused
                before.restore()
            raise
        return self._keep(descent)

    def _ready(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        incremental: bool,
        classes: Any = None,
    ) -> Descent:
        """Return a training with an optimizer that is about to begin."""
        problem, random_state = self._prepared(X, y, sample_weight, validation, incremental, classes)
        return Descent(self, problem, random_state, incremental)

    def _keep(self, descent: Descent, *, goes_on: bool = False) -> RealArray:
        """Keep what an optimizer has come to, or has come to so far."""
        descent.note_average()
        self._slots, self._step = descent.state.slots, descent.state.step
        self.learning_rate_ = descent.next_rate()
        learned = descent.result(goes_on=goes_on)
        self._store(learned, descent.problem.sizes)
        return learned

    def _store(self, flat: RealArray, sizes: tuple[int, ...]) -> None:
        """Keep what was learned as arrays."""
        table = arrays(sizes, self._activations(len(sizes) - 2))
        self.coefs_ = list(unpack(table, flat, "weights").values())
        self.intercepts_ = list(unpack(table, flat, "biases").values())
        self.__dict__.pop("slopes_", None)
        if slopes := unpack(table, flat, "slopes"):
            self.slopes_ = [slopes.get(k) for k in range(len(self.coefs_))]

    # --- using -----------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> RealArray:
        """Return the outputs of the network for X."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
        check.fits("X", X)
        X = features(self, X)
        sizes = sizes_of(self.coefs_)
        n_hidden = len(sizes) - 2
        dtype = check.real_dtype("dtype", self.dtype or _common_dtype(X.dtype, self.coefs_[0].dtype))
        backend = choice.default()
        core = backend.module(dtype)
        layers = layers_of(sizes[1:], self._activations(n_hidden), 0.0, (0.0,) * n_hidden)
        plan = plan_of(backend, dtype, sizes[0], layers)
        parameters = self._packed(sizes, dtype)
        n_rows = X.shape[0]
        out: RealArray = np.empty((n_rows, sizes[-1]), dtype)
        at_once = n_rows
        if hasattr(X, "toarray"):
            X, at_once = X.tocsr(), max(1, DENSE_NUMBERS // sizes[0])
        for start in range(0, n_rows, at_once):
            rows = dense_rows(X[start : start + at_once], dtype)
            if not core.forward(plan, parameters, rows, out[start : start + at_once]):
                validate_data(self, X, reset=False)  # what is wrong, in the words of scikit-learn
        return out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _some(data: Data, rows: NDArray[Any]) -> Data:
    """Return some rows."""
    weight = data.sample_weight
    return Data(data.X[rows], data.targets[rows], None if weight is None else weight[rows])


def _common_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 where it holds them all, else float64."""
    return np.dtype(np.float32 if np.result_type(*dtypes) == np.float32 else np.float64)
