"""The regressor: its parameters, losses, the scale of its targets, and its outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.base.solving import SolverState
from backprop.base.types import RealArray
from backprop.learn import metrics
from backprop.learn.callbacks import Callback
from backprop.learn.laplace import FlatError, Laplace
from backprop.model.target_scale import TargetScale
from backprop.reference.losses import Loss, Poisson, SquaredError
from backprop.reference.optimizers import Optimizer
from backprop.sklearn.converting import Convertible
from backprop.sklearn.outputs import Outputs
from backprop.sklearn.packing import arrays, unpack
from backprop.sklearn.parameters import is_stochastic, keep_arguments, loss_of
from backprop.sklearn.perceptron import Perceptron
from backprop.sklearn.rows import dense_rows, features
from backprop.sklearn.solvers import LossAndOutput, Problem, Score, times

__all__ = ["MLPRegressor"]


class MLPRegressor(Convertible, Outputs, RegressorMixin, Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron for regression: scikit-learn's ``MLPRegressor``, faster, with more to set.

    One output (y of shape (n_samples,)) or several (n_samples, n_outputs). The parameters and attributes that are not
    listed here are those of `MLPClassifier`.

    Parameters
    ----------
    loss
        ``"squared_error"`` (half of it, with identity outputs) and ``"poisson"`` (half the deviance, exp outputs) as in
        scikit-learn; or another name or an object from `backprop.losses`, as it is defined there. The outputs are
        sigmoid for binary_cross_entropy, softmax for cross_entropy and the identity for all others.
    solver
        Also ``"bayesian"``: Bayesian regularisation (`backprop.solvers`), in float64, for squared_error and up to 5,000
        parameters. It finds the penalty itself, so `alpha` does not count, and `predict` has ``return_std=True``.
    scale_targets
        Whether each column of y is scaled to mean 0 and standard deviation 1 for training, by the weights of the
        samples, as `sklearn.compose.TransformedTargetRegressor` with a `StandardScaler` does it. Predictions, scores,
        ``coefs_`` and ``intercepts_`` are in the units of y; losses, and the network that `callbacks` get, are those of
        the scaled targets. For losses with the identity as output and targets of any size. `partial_fit` and
        `warm_start` keep the scale of the first call.

    Attributes
    ----------
    target_mean_, target_scale_ : ndarrays of shape (n_outputs,)
        What is taken from y, and what it is then divided by, with `scale_targets`.
    posterior_ : backprop.Laplace or None
        With ``solver="bayesian"`` what the samples leave open: noise, effective number of parameters, evidence; of the
        scaled targets with `scale_targets`. None where they leave no noise to find, and rounding decides.
    validation_scores_, best_validation_score_ : list of floats, float; or None
        R² on the validation samples after each epoch, with `early_stopping`.

    Examples
    --------
    >>> import numpy as np
    >>> from backprop.sklearn import MLPRegressor
    >>> X = np.linspace(-3, 3, 200).reshape(-1, 1)
    >>> model = MLPRegressor(hidden_layer_sizes=20, activation="tanh", solver="lbfgs", max_iter=2000, random_state=0)
    >>> bool(model.fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])) > 0.999)
    True
    """

    _minimizers: ClassVar[tuple[str, ...]] = ("lbfgs", "bayesian")

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        scale_targets: bool = False,
        callbacks: Sequence[Callback] | None = None,
        bagging: int | None = None,
        n_threads: int | str = "auto",
        dtype: Any = None,
    ) -> None:
        keep_arguments(self, locals())

    @explained
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Go over the samples once; what was learned before is kept. Parameters as in `fit`."""
        return self._fit(X, y, sample_weight, (None, None, None), incremental=True)  # type: ignore[no-any-return]

    partial_fit = available_if(is_stochastic)(partial_fit)

    def _learned(self, y: Any, incremental: bool) -> NDArray[Any]:
        return self._encode(y)

    def _encode(self, y: Any, name: str = "y") -> NDArray[Any]:
        """Return y as columns."""
        columns: NDArray[Any] = y.reshape(-1, 1) if y.ndim == 1 else y
        return columns

    def _count_outputs(self, targets: NDArray[Any]) -> int:
        return int(targets.shape[1])

    def _check_each_parameter(self) -> None:
        super()._check_each_parameter()
        if not check.boolean("scale_targets", self.scale_targets):
            return
        loss, output, *_ = self._objective(1)
        takes_any = not isinstance(loss, Loss) or (
            loss.target_range == Loss.target_range and loss.target_values is None
        )
        if output != "identity" or not takes_any:
            raise ValueError(
                f"scale_targets: needs a loss with the identity as output and targets of any size, got {loss.name}"
            )

    def _scale(self) -> TargetScale | None:
        return TargetScale(self.target_mean_, self.target_scale_) if hasattr(self, "target_scale_") else None

    def _learn_scale(self, targets: NDArray[Any], weight: RealArray | None, dtype: np.dtype[Any]) -> None:
        for name in ("target_mean_", "target_scale_"):
            self.__dict__.pop(name, None)
        if self.scale_targets:
            check.array("y", targets, dtype)  # in whose units the weights end
            scale = TargetScale.of(targets, weight)
            self.target_mean_, self.target_scale_ = scale.mean, scale.deviation

    def _scaled(self, name: str, targets: NDArray[Any]) -> NDArray[Any]:
        if (scale := self._scale()) is None:
            return targets
        return scale.scaled(check.array(name, targets, np.dtype(np.float64)))

    def _store(self, flat: RealArray, sizes: tuple[int, ...]) -> None:
        super()._store(flat, sizes)
        if (scale := self._scale()) is not None:
            scale.unscale_layer(self.coefs_[-1], self.intercepts_[-1])

    def _resumed(self, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> RealArray:
        flat = super()._resumed(sizes, dtype)
        if (scale := self._scale()) is not None:
            table = arrays(sizes, self._activations(len(sizes) - 2))
            scale.scale_layer(*(list(unpack(table, flat, name).values())[-1] for name in ("weights", "biases")))
        return flat

    def _objective(self, n_outputs: int) -> LossAndOutput:
        if isinstance(self.loss, str) and self.loss == "squared_error":
            # scikit-learn steps along the gradient of the sum over the outputs and reports their mean
            return LossAndOutput(times(SquaredError, n_outputs / 2), "identity", "r2", 1 / n_outputs)
        if isinstance(self.loss, str) and self.loss == "poisson":
            return LossAndOutput(times(Poisson, n_outputs), "exp", "r2")
        loss = loss_of(self.loss)
        return LossAndOutput(loss, getattr(loss, "scores_of", None) or "identity", "r2")

    def _strata(self, targets: NDArray[Any]) -> NDArray[Any] | None:
        return None

    def _score_of(self, targets: NDArray[Any], weight: RealArray | None) -> Score:
        def score(outputs: RealArray) -> float:
            return metrics.r2(outputs, targets, weight) if np.isfinite(outputs).all() else math.nan

        return score

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the predictions, (n_samples,) or (n_samples, n_outputs).

        With ``solver="bayesian"`` and `return_std` also how far targets may be from them: the standard deviations.
        There are none where `posterior_` is None.
        """
        outputs = self._outputs(X)
        predictions = self._given(X, _columns(outputs))
        if not check.boolean("return_std", return_std):
            return predictions
        if not hasattr(self, "posterior_"):
            raise ValueError(f"return_std: needs to be fitted with solver='bayesian', got solver={self.solver!r}")
        if self.posterior_ is None:
            raise ValueError("return_std: needs to be fitted to samples that leave some noise, got such as do not")
        std = self.posterior_.predict(dense_rows(features(self, X), np.dtype(np.float64)), True)[1]
        std *= 1 if (scale := self._scale()) is None else scale.deviation
        return predictions, _columns(std)

    def _learn_uncertainty(self, problem: Problem, state: SolverState) -> bool:
        if not self._is_bayesian():
            return True
        X, y, weight = problem.data
        problem.parameters[...] = state.point
        found = {"alpha": state.alpha, "beta": state.beta}
        self.posterior_: Laplace | None
        try:
            self.posterior_ = Laplace(problem.network(), X, y, sample_weight=weight, **found)
        except FlatError:  # the precision of the noise is that of rounding: the model is fitted all the same
            self.posterior_ = None
        return self.posterior_ is not None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _columns(outputs: Any) -> Any:
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs
