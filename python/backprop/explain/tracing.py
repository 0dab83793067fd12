"""Every number of one training step, computed by a model's backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop import reference
from backprop.base import checks as check
from backprop.base.types import Data, RealArray
from backprop.explain.descent import central_difference
from backprop.explain.trace import Trace
from backprop.model.model import Model
from backprop.model.records import LayerTrace
from backprop.model.rows import as_float64
from backprop.reference.dense import Dense
from backprop.reference.layout import layout, parameter_count
from backprop.reference.losses import Compiled, Loss
from backprop.reference.losses.loss import as_rows, row_factors
from backprop.reference.optimizers import OPTIMIZERS, Optimizer
from backprop.reference.passes import output_layer, penalty
from backprop.reference.step import limit_norms


def trace(
    network: Model,
    X: ArrayLike,
    y: ArrayLike,
    loss: str | Loss = "auto",
    optimizer: str | Optimizer = "adam",
    sample_weight: ArrayLike | None = None,
    finite_differences: bool = True,
) -> Trace:
    """Trace one full-batch training step; `Network.trace` documents the rest."""
    loss, data = network._data(X, y, loss, sample_weight)
    if isinstance(loss, Compiled):
        raise ValueError("loss: needs one of the library for trace, which shows its formula, got a compiled one")
    if data.weighs_outputs:
        raise ValueError("sample_weight: needs one weight per row for trace, got one for each output")
    for k, layer in enumerate(network.layers):
        if layer.dropout:
            raise ValueError(f"layers[{k}]: needs dropout=0 for trace, which draws nothing; got {layer.dropout}")
    optimizer = check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS)
    core, parameters = network._core, network.parameters.copy()

    gradient = np.zeros_like(parameters)
    value = float(core.loss_and_gradient(network._plan, loss, parameters, data, gradient))
    new = parameters.copy()
    slots, step = _optimizer_state(network, optimizer)
    core.update(network._plan, optimizer, new, gradient, slots, step, optimizer.learning_rate)
    plan = reference.Plan(network.n_inputs, network.layers)
    limit_norms(plan, new)
    new_value = float(core.loss_and_gradient(network._plan, loss, new, data, None))
    if check.boolean("finite_differences", finite_differences):
        numerical = _numerical(network, loss, parameters, data)
    else:
        numerical = np.full(parameters.shape, np.nan)

    inputs, scores, outputs = _forward(network, parameters, data.X)
    factors = row_factors(loss, data.sample_weight, len(data.X), network.n_outputs, data.X.dtype)
    targets = as_rows(data.targets, network.n_outputs, data.X.dtype)
    gradients, deltas = _backward(plan, loss, parameters, data, scores, outputs)
    vectors = parameters, new, gradient, numerical
    layers = _layer_traces(network, vectors, (inputs, scores, outputs, gradients, deltas))
    return Trace(
        layers=layers,
        loss=loss,
        optimizer=optimizer,
        X=inputs[0],
        targets=targets.copy(),
        factors=factors[:, 0].astype(np.float64),
        terms=_terms(network.layers[-1], loss, scores[-1], outputs[-1], targets, factors),
        penalty=float(penalty(plan, parameters)),
        value=value,
        new_value=new_value,
        step=step,
        dtype=network.dtype.name,
        backend=network.backend,
        has_finite_differences=bool(finite_differences),
    )


def _layer_traces(
    network: Model,
    vectors: tuple[RealArray, RealArray, RealArray, NDArray[np.float64]],
    arrays: tuple[list[RealArray], ...],
) -> tuple[LayerTrace, ...]:
    """Return a record for each layer.

    `vectors` are laid out like the parameters: the old ones, the new ones, the gradient, the finite differences.
    `arrays` are inputs, scores, outputs, and the gradients with respect to outputs and scores.
    """
    inputs, scores, outputs, gradients, deltas = arrays
    own = _layer_arrays(network, *vectors)
    return tuple(
        LayerTrace(
            layer=layer,
            inputs=inputs[k],
            z=scores[k],
            a=outputs[k],
            gradient=gradients[k],
            delta=deltas[k],
            **own[k],
        )
        for k, layer in enumerate(network.layers)
    )


def _layer_arrays(
    network: Model, parameters: RealArray, new: RealArray, gradient: RealArray, numerical: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return, for each layer, its arrays, their gradients and their new values, as `LayerTrace` names them."""
    names = {"weights": "dW", "biases": "db", "slopes": "dslopes"}
    found: list[dict[str, Any]] = [{} for _ in network.layers]
    for name, derivative in names.items():
        views = (network._arrays(name, vector) for vector in (parameters, gradient, numerical, new))
        for own, old, d, n, changed in zip(found, *views, strict=True):
            n = None if n is None else n.astype(np.float64)
            own |= {name: old, derivative: d, f"numerical_{derivative}": n, f"new_{name}": changed}
    return found


def _optimizer_state(network: Model, optimizer: Optimizer) -> tuple[RealArray, int]:
    """Return a copy of the slots that the next `fit` would use, and the number of its first step."""
    state, last = network._state, network._optimizer
    if state is not None and type(optimizer) is type(last) and optimizer.hyperparameters == last.hyperparameters:
        return state.slots.copy(), state.step + 1
    return optimizer.new_slots(network.n_parameters, network.dtype), 1


def _numerical(network: Model, loss: Loss, parameters: RealArray, data: Data) -> NDArray[np.float64]:
    """Return the gradient by central differences of the loss, on the network's backend in float64; 0 where frozen."""
    core = network._backend.module(np.float64)
    plan, wide = core.Plan(network.n_inputs, network.layers), as_float64(data)
    start = parameters.astype(np.float64)
    gradient = np.zeros_like(start)

    def along(index: int) -> Callable[[NDArray[np.float64]], float]:
        def f(value: NDArray[np.float64]) -> float:
            point = start.copy()
            point[index] = value[0]
            return float(core.loss_and_gradient(plan, loss, point, wide, None))

        return f

    for array in layout(network.n_inputs, network.layers):
        for index in range(array.part.start, array.part.stop) if array.trainable else ():
            gradient[index] = central_difference(along(index), start[index : index + 1])[0]
    return gradient


def _forward(
    network: Model, parameters: RealArray, X: RealArray
) -> tuple[list[RealArray], list[RealArray], list[RealArray]]:
    """Return inputs, scores and outputs of each layer, from the network's backend.

    A backend returns the outputs of the last layer only, so it is asked for the network up to each layer; and, for the
    scores, for one whose last layer does without its activation.
    """
    core = network._core
    inputs: list[RealArray] = [X.copy()]
    scores: list[RealArray] = []
    outputs: list[RealArray] = []
    for k, layer in enumerate(network.layers):
        for last, results in ((Dense(layer.units, bias=layer.bias), scores), (layer, outputs)):
            part = (*network.layers[:k], last)
            end = parameter_count(network.n_inputs, part)  # without slopes, which are a layer's last array
            out = np.empty((len(X), layer.units), network.dtype)
            core.forward(core.Plan(network.n_inputs, part), parameters[:end], X, out)
            results.append(out)
        inputs.append(outputs[-1])
    return inputs[:-1], scores, outputs


def _backward(
    plan: reference.Plan,
    loss: Loss,
    parameters: RealArray,
    data: Data,
    scores: list[RealArray],
    outputs: list[RealArray],
) -> tuple[list[RealArray], list[RealArray]]:
    """Return dL/da and dL/dz of each layer, by the formulas of the NumPy reference."""
    with np.errstate(all="ignore"):
        _, gradient, delta = output_layer(plan, loss, parameters, scores[-1], outputs[-1], data)
        gradients, deltas = [np.full_like(delta, np.nan) if gradient is None else gradient], [delta]
        for k in reversed(range(1, len(plan.layers))):
            layer, below = plan.layers[k], plan.layers[k - 1]
            G = layer.settings.input_gradient(layer.views(parameters), deltas[-1])
            gradients.append(G)
            deltas.append(below.settings.score_gradient(below.views(parameters), scores[k - 1], outputs[k - 1], G))
    return gradients[::-1], deltas[::-1]


def _terms(
    last: Dense, loss: Loss, scores: RealArray, outputs: RealArray, targets: RealArray, factors: RealArray
) -> NDArray[np.float64]:
    """Return what each output of each row adds to the loss."""
    with np.errstate(all="ignore"):
        if loss.from_scores(last.activation):
            values = loss.value_from_scores(scores, targets)
        else:
            values = loss.value(outputs, targets)
        terms: NDArray[np.float64] = (factors * values).astype(np.float64)
    return terms
