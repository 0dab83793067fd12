"""The parameters of the estimators: their checks, what they say, and which were checked and have not changed since."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from operator import is_
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.learn import schedules
from backprop.reference import MAX_THREADS
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.losses import LOSSES, Compiled, Loss
from backprop.reference.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from backprop.sklearn.fleets import average_only

# scikit-learn's names for activations that have another name here.
OUR_NAMES = {"logistic": "sigmoid"}
THEIR_NAMES = {ours: theirs for theirs, ours in OUR_NAMES.items()}
_HIDDEN = tuple(name for name in (*OUR_NAMES, *ACTIVATIONS) if name != "softmax")
_SCHEDULES = ("constant", "invscaling", "adaptive")
_CONSTANTS = frozenset((int, float, str, bool, type(None)))
_OURS = "backprop.sklearn"
_passed: dict[type, tuple[Any, ...]] = {}
"""Of each class the values that were checked last, where none of them can change."""


class InvalidParameterError(ValueError, TypeError):
    """A parameter of an estimator is of the wrong type or out of range."""


class Parameters(BaseEstimator):  # type: ignore[misc]
    """The parameters of an estimator: their checks, and what they say."""

    _minimizers: ClassVar[tuple[str, ...]] = ("lbfgs",)

    def _check_parameters(self) -> None:
        """Raise InvalidParameterError unless every parameter is of the right type and in range."""
        values = _values_of(self)
        if _have_passed(type(self), values):
            return
        try:
            self._check_each_parameter()
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"{type(self).__name__}: {error}") from error
        _note_passed(self, values)

    def _check_each_parameter(self) -> None:
        hidden = self._hidden_units()
        _per_layer("activation", self.activation, str, len(hidden))
        for name in self._hidden_activations(len(hidden)):
            check.choice("activation", name, _HIDDEN)
        _per_layer("dropout", self.dropout, (int, float, np.number), len(hidden))
        for rate in self._dropout_rates(len(hidden)):
            check.number("dropout", rate, at_least=0, below=1)
        if isinstance(self.solver, type):  # whose message says how an object is made
            check.setting("solver", self.solver, Optimizer, OPTIMIZERS)
        if not isinstance(self.solver, Optimizer):
            check.choice("solver", self.solver, (*self._minimizers, *OPTIMIZERS))
        check.number("alpha", self.alpha, at_least=0)
        if not check.is_auto("batch_size", self.batch_size, "an integer >= 1"):
            check.integer("batch_size", self.batch_size, at_least=1, clipped=True)
        if isinstance(self.learning_rate, str):
            check.choice("learning_rate", self.learning_rate, _SCHEDULES)
        else:
            schedules.as_schedule("learning_rate", self.learning_rate)
        check.number("learning_rate_init", self.learning_rate_init, above=0)
        check.number("power_t", self.power_t, at_least=0)
        check.integer("max_iter", self.max_iter, at_least=1, clipped=True)
        check.number("tol", self.tol, at_least=0)
        check.number("momentum", self.momentum, at_least=0, at_most=1)
        check.number("validation_fraction", self.validation_fraction, at_least=0, below=1)
        check.number("beta_1", self.beta_1, at_least=0, below=1)
        check.number("beta_2", self.beta_2, at_least=0, below=1)
        check.number("epsilon", self.epsilon, above=0)
        if not (isinstance(self.n_iter_no_change, float) and self.n_iter_no_change == math.inf):
            check.integer("n_iter_no_change", self.n_iter_no_change, at_least=1, clipped=True)
        check.integer("max_fun", self.max_fun, at_least=1, clipped=True)
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
            check.boolean(name, getattr(self, name))
        if isinstance(self.verbose, str):
            if self.verbose != "progress":
                raise ValueError(f"verbose: needs True, False, an integer >= 0 or 'progress', got {self.verbose!r}")
        elif not isinstance(self.verbose, (bool, np.bool_)):
            check.integer("verbose", self.verbose, at_least=0, clipped=True)
        if not check.is_auto("n_threads", self.n_threads, "an integer >= 1"):
            check.integer("n_threads", self.n_threads, at_least=1, at_most=MAX_THREADS)
        if self.dtype is not None:
            check.real_dtype("dtype", self.dtype)
        if self.bagging is not None:
            check.integer("bagging", self.bagging, at_least=2)
            if not average_only(self.callbacks) or self.warm_start:
                raise ValueError("bagging: needs callbacks=None, or averages, and warm_start=False: for one network")
        if self._is_full_batch():
            if any(self._dropout_rates(len(hidden))):
                raise ValueError(f"dropout: needs a stochastic solver, got solver={self.solver!r}")
            if not isinstance(self.loss, (str, Loss)):
                got = check.shown(self.loss)
                raise ValueError(f"loss: needs a loss of the library for solver={self.solver!r}, got {got}")
            if self.callbacks:
                raise ValueError(f"callbacks: need a stochastic solver, got solver={self.solver!r}")

    def _hidden_units(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        if not isinstance(sizes, Iterable) or isinstance(sizes, str):
            return (check.integer("hidden_layer_sizes", sizes, at_least=1),)
        return tuple(check.integer(f"hidden_layer_sizes[{k}]", n, at_least=1) for k, n in enumerate(sizes))

    def _hidden_activations(self, n_hidden: int) -> tuple[str, ...]:
        """Return the activation of each hidden layer by scikit-learn's name or ours."""
        if isinstance(self.activation, str):
            return (self.activation,) * n_hidden
        return tuple(self.activation)

    def _dropout_rates(self, n_hidden: int) -> tuple[float, ...]:
        return tuple(self.dropout) if isinstance(self.dropout, Iterable) else (self.dropout,) * n_hidden

    def _rate(self) -> float:
        """Return the initial learning rate."""
        return float(self.solver.learning_rate if isinstance(self.solver, Optimizer) else self.learning_rate_init)

    def _is_full_batch(self) -> bool:
        return isinstance(self.solver, str) and self.solver in self._minimizers

    def _is_bayesian(self) -> bool:
        return isinstance(self.solver, str) and self.solver == "bayesian"

    def _schedule(self) -> str | schedules.Schedule:
        """Return what changes the learning rate; as in scikit-learn, its own rules do not with "adam"."""
        if not isinstance(self.learning_rate, str):
            return schedules.as_schedule("learning_rate", self.learning_rate)
        return "constant" if isinstance(self.solver, str) and self.solver == "adam" else self.learning_rate

    def _optimizer(self) -> Optimizer:
        """Return the solver as an optimizer, scikit-learn's own in the form that scikit-learn gives it."""
        if isinstance(self.solver, Optimizer):
            return self.solver
        rate = float(self.learning_rate_init)
        if self.solver == "sgd":
            # A momentum of 1 is legal in scikit-learn; the next smaller number differs from it by rounding only.
            momentum = min(float(self.momentum), math.nextafter(1, 0))
            nesterov = bool(self.nesterovs_momentum) and momentum > 0
            return SGD(learning_rate=rate, momentum=momentum, nesterov=nesterov, velocity_of_steps=True)
        kind = OPTIMIZERS[self.solver]
        if issubclass(kind, Adam):
            beta_1, beta_2, epsilon = float(self.beta_1), float(self.beta_2), float(self.epsilon)
            return kind(learning_rate=rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, epsilon_hat=True)
        return kind(learning_rate=rate)


def is_stochastic(estimator: Parameters) -> bool:
    """Return True; AttributeError where there is no `partial_fit`."""
    if estimator._is_full_batch():
        raise AttributeError(f"partial_fit: needs a stochastic solver, {estimator.solver} is not stochastic")
    return True


def keep_arguments(estimator: Parameters, arguments: dict[str, Any]) -> None:
    """Keep what `__init__` was given, each argument under its own name and as it is: that is scikit-learn's rule."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


def loss_of(value: Any, *more: str) -> Loss | Custom:
    """Return the loss with that name, the object itself, or a function as a loss."""
    if isinstance(value, (Custom, Compiled)):
        return value
    if callable(value) and not isinstance(value, (type, Loss)):
        return Custom(value)
    try:
        return check.setting("loss", value, Loss, LOSSES)
    except (TypeError, ValueError) as error:
        also = f"; or {', '.join(map(repr, more))}" if more else ""
        raise InvalidParameterError(f"{error}{also}") from None


def _per_layer(name: str, value: Any, kind: Any, n_hidden: int) -> None:
    """Raise unless the value is of that kind, or a sequence with one for each hidden layer."""
    if isinstance(value, kind):
        return
    if not isinstance(value, Iterable):
        raise TypeError(f"{name}: needs one value, or a sequence with one per hidden layer, got {check.shown(value)}")
    if len(found := list(value)) != n_hidden:
        raise ValueError(
            f"{name}: needs one value for each of the {n_hidden} hidden layers, got {len(found)}: {check.shown(found)}"
        )


@cache
def _names(cls: Any) -> tuple[str, ...]:
    """Return which parameters are checked here: the seed, of which many differ in nothing else, is not."""
    return tuple(name for name in cls._get_param_names() if name != "random_state")


def _values_of(estimator: Any) -> tuple[Any, ...]:
    """Return the values of the parameters; none of a class that is not ours, whose checks may be its own."""
    cls: Any = type(estimator)
    return tuple(map(estimator.__dict__.get, _names(cls))) if cls.__module__ == _OURS else ()


def _have_passed(cls: type, values: tuple[Any, ...]) -> bool:
    """Return whether these very objects were checked last: equal ones may be of another type."""
    return (known := _passed.get(cls)) is not None and all(map(is_, values, known))


def _note_passed(estimator: Any, values: tuple[Any, ...]) -> None:
    """Remember values that were checked, unless one of them could change, or another thread has set one meanwhile."""
    if values and all(map(_is_constant, values)) and all(map(is_, values, _values_of(estimator))):
        _passed[type(estimator)] = values


def _is_constant(value: Any) -> bool:
    kind = type(value)
    return kind in _CONSTANTS or (kind is tuple and all(type(each) in _CONSTANTS for each in value))
