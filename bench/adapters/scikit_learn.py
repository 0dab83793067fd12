"""scikit-learn's MLPClassifier and MLPRegressor, stop rules off, the whole of `fit` timed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from bench.adapters import Run, Unsupported
from bench.workloads import Rows, Weights, Workload

ACTIVATIONS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


class _Given:
    """Takes its initial weights from `initial`: the estimators draw theirs layer by layer and have no other way."""

    initial: Iterator[tuple[Any, Any]]

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Any, Any]:
        return next(self.initial)


class Classifier(_Given, MLPClassifier):
    pass


class Regressor(_Given, MLPRegressor):
    pass


class ScikitLearn:
    def __init__(self, workload: Workload, rows: Rows, weights: Weights) -> None:
        self.workload, self.initial = workload, weights
        if workload.head == "half_sse_sigmoid":
            raise Unsupported("no squared error behind a sigmoid")
        if workload.optimizer not in ("sgd", "adam"):
            raise Unsupported(f"no {workload.optimizer}")
        if workload.head == "cross_entropy" and not 2 < workload.sizes[-1] == len(np.unique(rows.labels)):
            raise Unsupported("it has as many classes as its rows, and one output for two")
        self.estimator = Regressor if workload.head == "mse" else Classifier
        self.X = rows.X
        if workload.head == "mse":
            self.y = rows.y if rows.y.shape[1] > 1 else rows.y.ravel()
        else:
            self.y = rows.y.ravel().astype(int) if rows.labels is None else rows.labels
        self.learning_rate = workload.learning_rate
        if workload.head == "mse" and workload.optimizer == "sgd":
            # Its squared error is halved and summed over the outputs; Adam does not see a factor.
            self.learning_rate *= 2 / workload.sizes[-1]

    def run(self, epochs: int, *, shuffle: bool) -> Run:
        workload = self.workload
        model = self.estimator(
            hidden_layer_sizes=workload.sizes[1:-1],
            activation=ACTIVATIONS[workload.activation],
            solver=workload.optimizer,
            alpha=0.0,
            batch_size=workload.batch,
            learning_rate_init=self.learning_rate,
            momentum=workload.momentum,
            nesterovs_momentum=False,
            shuffle=shuffle,
            max_iter=epochs,
            n_iter_no_change=epochs + 1,
            random_state=0,
        )
        model.initial = iter([(W.copy(), b.copy()) for W, b in self.initial])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = perf_counter()
            model.fit(self.X, self.y)
            seconds = perf_counter() - start
        return Run(seconds, list(zip(model.coefs_, model.intercepts_, strict=True)))


def prepare(workload: Workload, rows: Rows, weights: Weights, n_threads: int) -> ScikitLearn:
    # Threads: those of NumPy's BLAS, by the environment.
    return ScikitLearn(workload, rows, weights)
