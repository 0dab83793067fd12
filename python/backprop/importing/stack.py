"""What all importers share: dense layers and their arrays, put together from input to output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.network import Network
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.dense import Dense, checked_layers

LOG_SOFTMAX = "; give the model without it, and output='softmax' for the probabilities"
"""the way for a last layer whose outputs are logarithms"""
_HOMOGENEOUS = "relu, leaky_relu, prelu"
Named: TypeAlias = "tuple[str, float | None]"
"""an activation here: its name and its alpha"""


class Stack:
    """Dense layers and their arrays, put together from input to output."""

    def __init__(self) -> None:
        self.layers: list[Dense] = []
        self.arrays: list[NDArray[Any]] = []
        self.n_inputs: list[int] = []

    def dense(
        self,
        where: str,
        weights: Any,
        biases: Any,
        *,
        trainable: bool = True,
        bias_trainable: bool = True,
        **settings: Any,
    ) -> None:
        """Add a layer; what follows may change its activation and its dropout."""
        weights = real(where, weights, 2)
        self.n_inputs.append(weights.shape[0])
        self.arrays.append(weights)
        if biases is not None:
            biases = real(where, biases, 1)
            if biases.shape != weights.shape[1:]:
                raise ValueError(f"{where}: needs biases of shape {weights.shape[1:]}, got shape {biases.shape}")
            self.arrays.append(biases)
            if bias_trainable and not trainable:
                raise ValueError(f"{where}: needs biases that are frozen as the weights are, got weights frozen alone")
        settings |= {"trainable": trainable, "bias_trainable": bias_trainable or not trainable}
        self.layers.append(Dense(weights.shape[1], bias=biases is not None, **settings))

    def activation(self, where: str, activation: Named, slopes: Any = None, trainable: bool | None = None) -> None:
        """Let the last layer have an activation.

        `slopes` are those of prelu, one for each unit or one for all; `trainable` says whether they are trained, None
        as the weights are.
        """
        name, alpha = activation
        if name == "identity":
            return
        last = self._last(where, name)
        if last.activation != "identity":
            raise ValueError(f"{where}: needs a dense layer between two activations, got {last.activation} and {name}")
        if last.dropout and name not in _HOMOGENEOUS.split(", "):
            raise ValueError(
                f"{where}: needs dropout behind the activation, got {name} behind dropout, whose zeros and factors "
                f"only {_HOMOGENEOUS} leave as they are"
            )
        self.layers[-1] = replace(last, activation=name, alpha=alpha)
        if self.layers[-1].function.slopes:
            slopes = real(where, slopes, 1)
            if slopes.size not in (1, last.units):
                raise ValueError(f"{where}: needs 1 slope or {last.units}, got {slopes.size}")
            if trainable not in (None, last.trainable):
                raise ValueError(
                    f"{where}: needs slopes that are frozen as the weights are, got one of them frozen alone"
                )
            self.arrays.append(np.broadcast_to(slopes, last.units))

    def dropout(self, where: str, rate: float) -> None:
        """Let the last layer drop outputs."""
        last = self._last(where, "dropout")
        if last.dropout:
            raise ValueError(f"{where}: needs a dense layer between two dropouts, got dropout twice")
        self.layers[-1] = replace(last, dropout=rate)

    def _last(self, where: str, what: str) -> Dense:
        if not self.layers:
            raise ValueError(f"{where}: needs a dense layer before it, got {what} on the inputs")
        return self.layers[-1]

    def network(self, output: str | None, seed: int | None, backend: str | None) -> Network:
        """Return the network; `output` is the activation that the last layer still needs."""
        if output is not None:
            known = [name for name, function in ACTIVATIONS.items() if not function.slopes]
            self.activation("output", (check.choice("output", output, known), None))
        if seed is not None:
            seed = check.integer("seed", seed, at_least=0)
        layers = checked_layers(self.layers)
        for k, (below, n_inputs) in enumerate(zip(layers, self.n_inputs[1:], strict=False)):
            if below.units != n_inputs:
                raise ValueError(f"layers[{k + 1}]: needs {below.units} inputs, got weights for {n_inputs}")
        dtype = check.real_dtype("dtype", np.result_type(*self.arrays))
        entropy = np.random.SeedSequence(seed).entropy
        network = Network._assembled(self.n_inputs[0], layers, dtype, entropy, backend)
        network.parameters = np.concatenate([array.ravel() for array in self.arrays])
        return network


def real(where: str, values: Any, ndim: int) -> NDArray[Any]:
    """Return weights or biases as an array of float32 or float64."""
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{where}: needs weights in float32 or float64, got {array.dtype}; convert the model first")
    if array.ndim != ndim:
        raise ValueError(f"{where}: needs an array of {ndim} dimensions, got shape {array.shape}")
    return array


def named(where: str, name: Any, other_names: Mapping[str, str], alpha: float | None) -> Named:
    """Return the activation that another library calls `name`."""
    if not isinstance(name, str) or (own := other_names.get(name, name)) not in ACTIVATIONS:
        known = sorted({*other_names, *ACTIVATIONS} - set(other_names.values()))
        raise ValueError(f"{where}: needs an activation among {', '.join(known)}, got {check.shown(name)}")
    return own, alpha if ACTIVATIONS[own].alpha is not None else None


def need(where: str, setting: str, value: Any, *allowed: Any) -> None:
    """Raise unless a setting has one of the values that can be represented."""
    if value not in allowed:
        raise ValueError(f"{where}: needs {setting}={' or '.join(map(repr, allowed))}, got {value!r}")
