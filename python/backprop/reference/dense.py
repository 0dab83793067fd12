"""The fully connected layer: its settings, arrays and initial values, and its formulas forward and backward.

The numbers themselves lie in the network's flat parameter vector; `layout` says where. In the formulas a layer is given
its arrays by name, views of that vector. With inputs ``A_in`` (rows, n_in), scores ``Z`` and outputs ``A`` (rows,
units), and the gradients ``G`` and ``D`` of the loss with respect to ``A`` and ``Z``::

    Z = A_in W + b               A = activation(Z)                D = G * activation'(Z)
    dLoss/dW = A_in^T D          dLoss/db = sum of D over the rows                dLoss/dA_in = D W^T

Another kind of layer has the same methods: `arrays`, `initial`, `forward`, `score_gradient`, `parameter_gradient` and
`input_gradient`, and for second derivatives the directions of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from backprop.base import checks as check
from backprop.base.keywords import explain
from backprop.base.types import Array
from backprop.reference import initializers
from backprop.reference.activation_functions import prelu_slope_derivative
from backprop.reference.activations import ACTIVATIONS, Activation
from backprop.reference.initializers import Initializer


class LayerArray(NamedTuple):
    """An array of parameters that a layer has."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    penalised: bool
    """whether l1 and l2 count it"""


@dataclass(frozen=True, slots=True, repr=False)
class Dense:
    """A fully connected layer: ``a = activation(x @ W + b)``.

    For a batch of n rows, x is (n, n_in), W (n_in, units), b (units,) and a (n, units).

    Parameters
    ----------
    units
        Number of outputs.
    activation
        Name of the activation; see `backprop.ACTIVATIONS`.
    alpha
        Slope of ``leaky_relu`` for negative inputs (default 0.01), saturation of ``elu`` (default 1.0), or what the
        slopes of ``prelu`` start at (default 0.25). Those are an array of the layer, (units,), and are trained.
    bias
        Whether the layer has biases.
    trainable, bias_trainable
        What is not trainable keeps its value: the optimizer does not touch it. ``trainable=False`` freezes the weights
        and the biases, ``bias_trainable=False`` the biases alone.
    weight_init, bias_init
        A name (see `backprop.initializers`), a number, or an array of shape (n_in, units) or (units,). ``"auto"``
        is ``he_uniform`` for the relu family and ``glorot_uniform`` otherwise, and zeros for biases. An array is
        copied and kept as `backprop.initializers.Given`.
    l1, l2
        Penalties on the weights (not the biases): ``l1 * sum(abs(W)) + l2 / 2 * sum(W**2)`` is added to the loss.
    dropout
        Share of the layer's outputs that each training step sets to 0, at random, in [0, 1); the others are multiplied
        with ``1 / (1 - dropout)``. Not for the last layer. From N. Srivastava et al., "Dropout: a simple way to prevent
        neural networks from overfitting", JMLR 2014.
    max_norm
        After each step the weights into a unit (a column of W) are scaled down to this Euclidean norm where they exceed
        it, > 0; None for no bound. As Keras's ``MaxNorm``.

    Raises
    ------
    TypeError, ValueError
        If a setting is of the wrong type or out of range; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.Dense(8, "relu")
    Dense(8, 'relu')
    >>> bp.Dense(8, "elu", l2=1e-4)
    Dense(8, 'elu', alpha=1.0, l2=0.0001)
    """

    units: int
    activation: str = "identity"
    _: KW_ONLY
    alpha: float | None = None
    bias: bool = True
    trainable: bool = True
    bias_trainable: bool = True
    weight_init: Initializer = "auto"
    bias_init: Initializer = "auto"
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        check.choice("activation", self.activation, ACTIVATIONS)
        default = ACTIVATIONS[self.activation].alpha
        if default is None and self.alpha is not None:
            raise ValueError(f"alpha: needs to be left out, {self.activation!r} has none; got {self.alpha!r}")
        checked = {
            "units": check.integer("units", self.units, at_least=1),
            "alpha": default if self.alpha is None else check.number("alpha", self.alpha, at_least=0),
            "bias": check.boolean("bias", self.bias),
            "trainable": check.boolean("trainable", self.trainable),
            "bias_trainable": check.boolean("bias_trainable", self.bias_trainable),
            "weight_init": initializers.checked("weight_init", self.weight_init, initializers.INITIALIZERS),
            "bias_init": initializers.checked("bias_init", self.bias_init, initializers.BIAS_INITIALIZERS),
            "l1": check.number("l1", self.l1, at_least=0),
            "l2": check.number("l2", self.l2, at_least=0),
            "dropout": check.number("dropout", self.dropout, at_least=0, below=1),
            "max_norm": None if self.max_norm is None else check.number("max_norm", self.max_norm, above=0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        named = [f for f in fields(self)[2:] if getattr(self, f.name) != f.default]
        settings = "".join(f", {f.name}={getattr(self, f.name)!r}" for f in named)
        return f"Dense({self.units}, {self.activation!r}{settings})"

    @property
    def trains_biases(self) -> bool:
        """Whether training changes biases of this layer."""
        return self.trainable and self.bias_trainable

    @property
    def function(self) -> Activation:
        """The activation and its derivative."""
        return ACTIVATIONS[self.activation]

    @property
    def slope(self) -> float:
        """`alpha`, and 0 where the activation has none."""
        return 0.0 if self.alpha is None else float(self.alpha)

    def arrays(self, n_inputs: int) -> tuple[LayerArray, ...]:
        """Return the layer's arrays, in their order in the parameter vector."""
        return _arrays(
            n_inputs, self.units, self.bias, self.function.slopes, self.trainable, self.bias and self.trains_biases
        )

    def initial(
        self, array: str, where: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Array:
        """Return the initial values of one of the arrays; messages call the layer `where`."""
        if array == "weights":
            return initializers.initial_weights(
                f"{where}.weight_init", self.weight_init, self.activation, rng, shape, dtype
            )
        if array == "slopes":
            return np.full(shape, self.alpha, dtype)
        return initializers.initial_biases(f"{where}.bias_init", self.bias_init, rng, shape, dtype)

    def forward(self, arrays: Mapping[str, Array], inputs: Array) -> tuple[Array, Array]:
        """Return the scores Z and the outputs A, (rows, units) each, for inputs (rows, n_in)."""
        Z = inputs @ arrays["weights"]
        if self.bias:
            Z = Z + arrays["biases"]
        return Z, self.function.value(Z, self.slopes(arrays))

    def slopes(self, arrays: Mapping[str, Array]) -> Any:
        """Return the parameter of the activation: a number, or (units,) where it is an array of the layer."""
        return arrays["slopes"] if self.function.slopes else self.slope

    def score_gradient(self, arrays: Mapping[str, Array], Z: Array, A: Array, G: Array) -> Array:
        """Return D, the gradient with respect to the scores, from G, that with respect to the outputs."""
        return self.function.backward(Z, A, G, self.slopes(arrays))

    def parameter_gradient(self, array: str, inputs: Array, Z: Array, D: Array, G: Array | None) -> Array:
        """Return the gradient with respect to one of the arrays; G is None where D comes from the scores alone."""
        gradient: Array
        if array == "weights":
            gradient = inputs.T @ D
        elif array == "slopes":
            assert G is not None  # no loss is computed from the scores of prelu
            gradient = (G * prelu_slope_derivative(Z)).sum(axis=0)
        else:
            gradient = D.sum(axis=0)
        return gradient

    def input_gradient(self, arrays: Mapping[str, Array], D: Array) -> Array:
        """Return the gradient with respect to the inputs."""
        return D @ arrays["weights"].T

    # How all of this moves where inputs and arrays do: `moves` are the directions of the arrays, by their names, and
    # `dA_in` is that of the inputs. `derivatives` puts the parts together.

    def score_tangent(
        self, arrays: Mapping[str, Array], moves: Mapping[str, Array], A_in: Array, dA_in: Array
    ) -> Array:
        """Return dZ, the direction of the scores."""
        dZ: Array = dA_in @ arrays["weights"] + A_in @ moves["weights"]
        return dZ + moves["biases"] if self.bias else dZ

    def output_tangent(
        self, arrays: Mapping[str, Array], moves: Mapping[str, Array], Z: Array, A: Array, dZ: Array
    ) -> Array:
        """Return dA, the direction of the outputs."""
        dA = self.function.backward(Z, A, dZ, self.slopes(arrays))  # all Jacobians are symmetric, softmax's too
        return dA + moves["slopes"] * prelu_slope_derivative(Z) if self.function.slopes else dA

    def score_gradient_tangent(
        self,
        arrays: Mapping[str, Array],
        moves: Mapping[str, Array],
        Z: Array,
        A: Array,
        dZ: Array,
        G: Array,
        dG: Array,
    ) -> Array:
        """Return dD, the direction of `score_gradient`."""
        slopes = self.slopes(arrays)
        dD = self.function.backward(Z, A, dG, slopes) + self.function.backward_tangent(Z, A, dZ, G, slopes)
        return np.asarray(dD + moves["slopes"] * G * (Z <= 0)) if self.function.slopes else dD

    def parameter_gradient_tangent(
        self, array: str, A_in: Array, dA_in: Array, Z: Array, dZ: Array, D: Array, dD: Array, G: Any, dG: Any
    ) -> Array:
        """Return the direction of `parameter_gradient`."""
        direction: Array
        if array == "weights":
            direction = A_in.T @ dD + dA_in.T @ D
        elif array == "slopes":
            direction = (dG * prelu_slope_derivative(Z) + G * dZ * (Z <= 0)).sum(axis=0)
        else:
            direction = dD.sum(axis=0)
        return direction

    def input_gradient_tangent(
        self, arrays: Mapping[str, Array], moves: Mapping[str, Array], D: Array, dD: Array
    ) -> Array:
        """Return the direction of `input_gradient`."""
        direction: Array = dD @ arrays["weights"].T + D @ moves["weights"].T
        return direction


explain(Dense)


@lru_cache(maxsize=1024)  # making a network and training it ask some times for the same
def _arrays(
    n_inputs: int, units: int, bias: bool, slopes: bool, trainable: bool, bias_trainable: bool
) -> tuple[LayerArray, ...]:
    """Return the arrays of a dense layer."""
    arrays = [LayerArray("weights", (n_inputs, units), trainable, penalised=True)]
    if bias:
        arrays.append(LayerArray("biases", (units,), bias_trainable, penalised=False))
    if slopes:
        arrays.append(LayerArray("slopes", (units,), trainable, penalised=False))
    return tuple(arrays)


def checked_layers(layers: Any) -> tuple[Dense, ...]:
    """Return the layers as a tuple."""
    if isinstance(layers, Dense) or not isinstance(layers, Iterable):
        raise TypeError(f"layers: needs a sequence of Dense, got {check.shown(layers)}")
    checked = tuple(layers)
    if not checked:
        raise ValueError("layers: needs at least one Dense, got none")
    for k, layer in enumerate(checked):
        if not isinstance(layer, Dense):
            raise TypeError(f"layers[{k}]: needs a Dense, got {check.shown(layer)}")
    if checked[-1].dropout:
        raise ValueError(f"layers[{len(checked) - 1}]: needs dropout=0, its outputs are the network's")
    return checked
