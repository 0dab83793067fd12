"""Laplace's approximation: a Gaussian about the parameters that were found, and the uncertainty that follows."""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.base.types import Data
from backprop.model import rows
from backprop.model.fleet import FleetModel
from backprop.model.model import Model
from backprop.reference.gauss_newton import jacobian
from backprop.reference.losses import SquaredError
from backprop.reference.passes import Plan, forward_pass
from backprop.reference.solving import Rows

Matrix = NDArray[np.float64]
_CHUNK_NUMBERS = 4_000_000
"""of a part of the Jacobian"""
_LOWEST, _HIGHEST, _HALVINGS = -700.0, 700.0, 80
"""of the logarithm of alpha / beta"""
_ROUNDING = 1e-12
"""what it may leave of the targets"""
_MOST_PARAMETERS = 5000


class Laplace:
    """Laplace's approximation of what the data leave open: a Gaussian about the parameters of a trained network.

    Targets are outputs plus Gaussian noise of the precision beta, the same for all outputs, and the n parameters have a
    Gaussian prior of the precision alpha, but for the f biases of the last layer, which have none. With the Jacobian J
    of the outputs, the weights W of the N / n_outputs rows, S the sum of squared errors and P that of the squares of
    the parameters with a prior,

        A = beta J^T W J + alpha I
        variance of a prediction = j A^-1 j + 1 / beta          j: the derivatives of the output there
        gamma = n - f - alpha trace(A^-1)
        log evidence = ((n - f) log(alpha) + N log(beta / (2 pi)) + f log(2 pi) - log det A - beta S - alpha P) / 2

    The trace and I are those of the parameters with a prior. A is the Gauss-Newton matrix: what the residuals add to
    the Hessian is left out, so A is positive definite. What is not trainable is taken as known. The evidence is that of
    this minimum; others, such as those that come from exchanging hidden units, are not counted.

    Parameters
    ----------
    network
        A network at a minimum of the squared error with penalties, best by ``minimize(method="bayesian")``. Its
        parameters are copied.
    X, y
        The rows that it was trained on.
    sample_weight
        How often each of them counts, (n_rows,), as there.
    alpha, beta
        Precisions > 0. None finds both by the evidence, as ``method="bayesian"`` does: ``alpha = gamma / P`` and
        ``beta = (N - gamma - f) / S``.

    Attributes
    ----------
    alpha, beta : float
        The precisions.
    gamma : float
        The effective number of parameters: how many the data determine, of those with a prior.
    noise : float
        The standard deviation of the noise, ``beta ** -0.5``.
    log_evidence : float
        The logarithm of the density of the targets under the model: the higher, the better a model fits, and the fewer
        parameters it needs for that.
    factor : ndarray
        The lower triangle L with ``L @ L.T = A``, for the trainable parameters, (n, n).

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, the network ends in softmax, there are more than 5,000 trainable parameters or none, A
        is not positive definite, or there are not enough targets to find the noise.

    Notes
    -----
    From D. MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4 (1992).

    Examples
    --------
    >>> import numpy as np
    >>> import backprop as bp
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (200, 1))
    >>> y = np.sin(3 * X) + 0.1 * rng.normal(size=(200, 1))
    >>> net = bp.mlp([1, 8, 1], hidden="tanh", dtype="float64", seed=0)
    >>> result = net.minimize(X, y, method="bayesian")
    >>> posterior = bp.Laplace(net, X, y)
    >>> round(posterior.noise, 1)
    0.1
    >>> mean, std = posterior.predict([[0.0], [3.0]], return_std=True)
    >>> bool(std[1, 0] > 3 * std[0, 0])  # far from all rows
    True
    """

    @explained
    def __init__(
        self,
        network: Model,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        alpha: float | None = None,
        beta: float | None = None,
    ) -> None:
        if (alpha is None) != (beta is None):
            raise ValueError(f"alpha, beta: need to come together, got {alpha} and {beta}")
        if not isinstance(network, Model):
            of_fleet = "; a member of a fleet is one: fleet[k]" if isinstance(network, FleetModel) else ""
            raise TypeError(f"network: needs a Network, got {check.shown(network)}{of_fleet}")
        if network.layers[-1].activation == "softmax":
            raise ValueError("network: needs outputs with normal errors, got probabilities of classes (softmax)")
        if not np.isfinite(network.parameters).all():
            raise ValueError("network: needs finite parameters, got some that are not")
        X, _ = rows.opened(network, "X", X)
        loss, data = network._data(X, y, SquaredError(), sample_weight)
        data = rows.as_float64(data)
        if data.weighs_outputs:
            raise ValueError("sample_weight: needs a weight for each row, not for each output")
        self._network = network.copy()
        self._plan = Plan(network.n_inputs, network.layers)
        self._point: Any = network.parameters.astype(np.float64)
        terms = Rows(self._plan, loss, data).gaussian()
        self._free = terms.trainable == 1
        if not 1 <= self._free.sum() <= _MOST_PARAMETERS:
            raise ValueError(f"network: needs 1 to {_MOST_PARAMETERS} trainable parameters, got {self._free.sum():.0f}")
        self._prior, self._n_targets = terms.prior[self._free], terms.n_targets
        with np.errstate(all="ignore"):
            self._squares = float(self._prior @ self._point[self._free] ** 2)
            self._product, self._errors = self._sums(data)
        if not (math.isfinite(self._squares + self._errors) and np.isfinite(self._product).all()):
            raise ValueError("network: needs parameters, outputs and errors whose squares are finite")
        if alpha is None or beta is None:
            self._find()
        else:
            self._take(check.number("alpha", alpha, above=0), check.number("beta", beta, above=0))

    # --- what it knows ---------------------------------------------------------------------------------------------

    @property
    def noise(self) -> float:
        """The standard deviation of the noise."""
        return float(self.beta**-0.5)

    @property
    def covariance(self) -> Matrix:
        """That of the trainable parameters, the inverse of A, (n, n)."""
        return self._inverse.T @ self._inverse

    @overload
    def predict(self, X: ArrayLike, return_std: Literal[False] = False, *, noise: bool = True) -> Matrix: ...
    @overload
    def predict(self, X: ArrayLike, return_std: Literal[True], *, noise: bool = True) -> tuple[Matrix, Matrix]: ...

    def predict(self, X: ArrayLike, return_std: bool = False, *, noise: bool = True) -> Any:
        """Return the outputs, and how far targets may be from them.

        Parameters
        ----------
        X
            As in `Network.predict`, (n_rows, n_inputs).
        return_std
            Whether the standard deviations are wanted, too.
        noise
            Whether they are those of new targets; without it those of the outputs, which more rows make smaller.

        Returns
        -------
        mean : ndarray
            The outputs, (n_rows, n_outputs), float64.
        std : ndarray
            Of each of them, of the same shape; with `return_std`.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong.

        Examples
        --------
        >>> import backprop as bp
        >>> net = bp.Network(1, [bp.Dense(1)], dtype="float64", seed=0)
        >>> X, y = [[-1.0], [0.0], [1.0], [2.0]], [-1.1, 0.1, 0.9, 2.1]
        >>> result = net.minimize(X, y, method="bayesian")
        >>> mean, std = bp.Laplace(net, X, y).predict([[0.5]], return_std=True)
        >>> mean.shape, std.shape
        ((1, 1), (1, 1))
        """
        return_std, noise = check.boolean("return_std", return_std), check.boolean("noise", noise)
        X, _ = rows.opened(self._network, "X", X)
        self._network._features(X)  # checks it
        X = np.ascontiguousarray(check.array("X", X, np.dtype(np.float64)))
        mean = np.empty((len(X), self._plan.n_outputs))
        std = np.empty_like(mean)
        with np.errstate(all="ignore"):  # outputs may be infinite, as those of `Network.predict`
            for part in self._parts(len(X)):
                run = forward_pass(self._plan, self._point, X[part])
                mean[part] = run.outputs[-1]
                for output in range(self._plan.n_outputs) if return_std else ():
                    J = jacobian(self._plan, self._point, run, output)[:, self._free]
                    variance = ((J @ self._inverse.T) ** 2).sum(axis=1)
                    std[part, output] = np.sqrt(variance + noise / self.beta)
        return (mean, std) if return_std else mean

    def __repr__(self) -> str:
        return (
            f"Laplace(alpha={self.alpha:.6g}, beta={self.beta:.6g}, gamma={self.gamma:.4g}, "
            f"log_evidence={self.log_evidence:.6g})"
        )

    # --- how it is found -------------------------------------------------------------------------------------------

    def _parts(self, n_rows: int) -> list[slice]:
        """Cut rows into parts whose Jacobian fits into memory."""
        size = max(1, _CHUNK_NUMBERS // self._plan.n_parameters)
        return [slice(start, min(n_rows, start + size)) for start in range(0, n_rows, size)]

    def _sums(self, data: Data) -> tuple[Matrix, float]:
        """Return ``J^T W J``, and the weighted sum of the squared errors."""
        n = int(self._free.sum())
        product, errors = np.zeros((n, n)), 0.0
        weight = np.ones(len(data.X)) if data.sample_weight is None else data.sample_weight
        for part in self._parts(len(data.X)):
            run = forward_pass(self._plan, self._point, data.X[part])
            errors += float(weight[part] @ ((run.outputs[-1] - data.targets[part]) ** 2).sum(axis=1))
            for output in range(self._plan.n_outputs):
                J = jacobian(self._plan, self._point, run, output)[:, self._free]
                product += J.T @ (weight[part, np.newaxis] * J)
        return product, errors

    def _find(self) -> None:
        """Take the precisions that the evidence asks for.

        The ratio of what it asks for to what is there falls with ``alpha / beta``, from above 1 to below it, so there
        is one pair, found by halving. Taking what it asks for again and again may go to and fro where few rows are left
        by the parameters that they determine.
        """
        n_flat = float((self._prior == 0).sum())
        curvatures = self._curvatures()
        low, high, squares, errors = _LOWEST, _HIGHEST, self._squares, self._errors
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            ratio = math.exp(middle)
            gamma, rest = _shares(curvatures, ratio, self._n_targets - n_flat)
            if rest <= 0 or gamma * errors > ratio * rest * squares:
                low = middle
            else:
                high = middle
        if not (rest > _ROUNDING * self._n_targets and errors > 0 and squares > 0 and gamma > 0):
            raise ValueError(
                f"y: needs more targets than they determine parameters, and errors, to find the noise; got "
                f"{self._n_targets:g} targets for {gamma + n_flat:.3g}: give alpha and beta"
            )
        self._take(gamma / squares, rest / errors)

    def _curvatures(self) -> Matrix:
        """Return the eigenvalues of ``J^T W J`` for the parameters with a prior, the others following them.

        With them gamma is a sum for any precisions. `_take`, which needs one gamma, has it from the factor: eigenvalues
        take several times as long.
        """
        product, prior = self._product, self._prior == 1
        flat, across = product[np.ix_(~prior, ~prior)], product[np.ix_(~prior, prior)]
        try:
            own = product[np.ix_(prior, prior)] - across.T @ np.linalg.solve(flat, across)
        except np.linalg.LinAlgError as error:
            raise _flat_error() from error
        curvatures = np.linalg.eigvalsh(own)
        rounding = len(curvatures) * float(np.finfo(np.float64).eps) * curvatures.max(initial=0.0)
        found: Matrix = np.where(curvatures > rounding, curvatures, 0)
        return found

    def _take(self, alpha: float, beta: float) -> None:
        """Compute what follows from the precisions."""
        n = len(self._prior)
        try:
            with np.errstate(all="ignore"):  # of precisions near the limits
                self.factor = np.linalg.cholesky(beta * self._product + alpha * np.diag(self._prior))
                self._inverse = np.linalg.solve(self.factor, np.eye(n))
                variances = (self._inverse**2).sum(axis=0)
        except np.linalg.LinAlgError as error:
            raise _flat_error(alpha, beta) from error
        if not (np.isfinite(self.factor).all() and np.isfinite(variances).all()):
            raise _flat_error(alpha, beta)
        self.alpha, self.beta = float(alpha), float(beta)
        n_prior = float(self._prior.sum())
        gamma = n_prior - alpha * float(self._prior @ variances)
        self.gamma = max(gamma, 0.0)  # below is rounding
        self.log_evidence = 0.5 * (
            n_prior * math.log(alpha)
            + self._n_targets * math.log(beta / (2 * math.pi))
            + (n - n_prior) * math.log(2 * math.pi)
            - beta * self._errors
            - alpha * self._squares
        ) - float(np.log(np.diag(self.factor)).sum())


class FlatError(ValueError):
    """The matrix is not positive definite, to rounding."""


def _flat_error(*precisions: float) -> FlatError:
    given = " with alpha={:g} and beta={:g}".format(*precisions) if precisions else " for the biases of the outputs"
    return FlatError(
        f"network: needs parameters about which the loss is curved, but the Gauss-Newton matrix{given} is not positive "
        "definite"
    )


def _shares(curvatures: Matrix, ratio: float, n_targets: float) -> tuple[float, float]:
    """Return gamma where alpha is so many times beta, and how many targets it leaves to the noise."""
    gamma = float((curvatures / (curvatures + ratio)).sum())
    return gamma, n_targets - len(curvatures) + float((ratio / (curvatures + ratio)).sum())
