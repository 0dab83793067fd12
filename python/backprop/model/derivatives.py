"""Derivatives of outputs and losses; the methods of `Network` document them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from backprop.base import checks as check
from backprop.base.types import Data, RealArray
from backprop.model.views import flattened

if TYPE_CHECKING:
    from backprop.model.model import Model
    from backprop.model.views import LayerArrays
    from backprop.reference.losses import Loss


# --- of the outputs ------------------------------------------------------------------------------------------------


def jacobian(network: Model, X: ArrayLike) -> RealArray:
    """Return the derivatives of the outputs with respect to the inputs, (n, n_outputs, n_inputs)."""
    return _of_outputs(network, X, "jacobian", (network.n_outputs, network.n_inputs))


def parameter_jacobian(network: Model, X: ArrayLike) -> RealArray:
    """Return the derivatives of the outputs with respect to the parameters, (n, n_outputs, n_parameters)."""
    return _of_outputs(network, X, "parameter_jacobian", (network.n_outputs, network.n_parameters))


def hessian(network: Model, X: ArrayLike) -> RealArray:
    """Return the second derivatives of the outputs with respect to the inputs, (n, n_outputs, n_inputs, n_inputs)."""
    return _of_outputs(network, X, "hessian", (network.n_outputs, network.n_inputs, network.n_inputs))


def laplacian(network: Model, X: ArrayLike) -> RealArray:
    """Return the sums of the second derivatives of each output with respect to each input, (n, n_outputs)."""
    return _of_outputs(network, X, "laplacian", (network.n_outputs,))


def _of_outputs(network: Model, X: ArrayLike, what: str, shape: tuple[int, ...]) -> RealArray:
    """Let the backend fill an array of this shape for each row."""
    X = network._features(X)
    out = _empty((len(X), *shape), network.dtype)
    getattr(network._core, what)(network._plan, network._parameters, X, out)
    return out


def backward(network: Model, X: Any, head: Any) -> tuple[list[LayerArrays], RealArray]:
    """Return the gradients of a function of the outputs with respect to parameters and inputs."""
    X = network._features(X)
    shape = (len(X), network.n_outputs)

    def checked_head(outputs: RealArray) -> RealArray:
        return check.array("head", head(outputs) if callable(head) else head, network.dtype, shape)

    gradient: RealArray = np.zeros_like(network._parameters)
    input_gradient: RealArray = np.empty_like(X)
    network._core.backward(network._plan, network._parameters, X, checked_head, gradient, input_gradient)
    return network._views(gradient), input_gradient


# --- of the loss ---------------------------------------------------------------------------------------------------


def input_gradients(network: Model, X: ArrayLike, y: ArrayLike, loss: Any, sample_weight: Any) -> RealArray:
    """Return the gradient of the loss with respect to X, (n, n_inputs)."""
    objective = network._objective(X, y, loss, sample_weight)
    gradient: RealArray = np.empty_like(objective.data.X)
    objective(network._parameters, None, gradient)
    return gradient


def gradients_per_row(network: Model, X: ArrayLike, y: ArrayLike, loss: Any, sample_weight: Any) -> RealArray:
    """Return each row's part of the gradient of the loss, (n, n_parameters)."""
    checked, data = _of_loss(network, X, y, loss, sample_weight)
    out = _empty((len(data.X), network.n_parameters), network.dtype)
    network._core.gradients_per_row(network._plan, checked, network._parameters, data, out)
    return out


def curvature_product(
    network: Model,
    X: ArrayLike,
    y: ArrayLike,
    v: Any,
    loss: Any,
    sample_weight: Any,
    gauss_newton: bool,
) -> RealArray:
    """Return the Hessian of the loss, or its Gauss-Newton matrix, times v, (n_parameters,)."""
    from backprop.reference.losses import Compiled

    checked, data = _of_loss(network, X, y, loss, sample_weight)
    if isinstance(checked, Compiled):
        raise ValueError("loss: needs one of the library, whose second derivatives are known, got a compiled one")
    vector = flattened("v", network._arrays_of_layers, network.dtype, v).copy()
    for array in network._layout:
        if not array.trainable:
            vector[array.part] = 0
    out: RealArray = np.empty_like(vector)
    network._core.curvature_product(
        network._plan, checked, network._parameters, data, vector, out, gauss_newton=gauss_newton
    )
    return out


def _of_loss(network: Model, X: Any, y: Any, loss: Any, sample_weight: Any) -> tuple[Loss, Data]:
    """Return a loss of the library and its rows, with one weight for each."""
    checked, data = network._data(X, y, loss, sample_weight)
    if data.weighs_outputs:
        raise ValueError(f"sample_weight: needs one weight per row, shape ({len(data.X)},), got one for each output")
    return checked, data


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> RealArray:
    try:
        out: RealArray = np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise MemoryError(f"X: needs so few rows that the result, shape {shape}, fits into memory") from error
    return out
