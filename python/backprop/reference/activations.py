"""Activations by name: what the functions of each are, and what else networks and initializers have to know of it."""

# NumPy's ufuncs are typed as returning Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from backprop.base.types import Array
from backprop.reference import activation_functions as functions


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An activation function and its derivative."""

    formula: str
    value: Callable[[Array, float], Array]
    """``value(z, alpha)``"""
    derivative: Callable[[Array, Array, float], Array]
    """``derivative(z, a, alpha)`` with ``a = value(z, alpha)``; softmax: the Jacobians"""
    second_derivative: Callable[[Array, Array, float], Array] = functions.no_second_derivative
    """``second_derivative(z, a, alpha)``; softmax: one for each pair of scores. 0 for what is made of straight lines"""
    alpha: float | None = None
    """default of its parameter; None where it has none"""
    kinks: tuple[float, ...] = ()
    """the scores at which two formulas meet; the derivative there is stated where the function is defined"""
    weight_init: str = "glorot_uniform"
    """the initializer that ``"auto"`` stands for in a layer with this activation"""
    elementwise: bool = True
    """whether an output depends on one score only: all but softmax"""
    slopes: bool = False
    """whether its parameter is an array of the layer, one number for each unit, which is trained; `alpha` is then what
    it starts at, and ``value`` and ``derivative`` take the array"""

    @property
    def smooth(self) -> bool:
        """Whether one smooth formula holds everywhere."""
        return not self.kinks

    def kink_distance(self, z: Array) -> Array:
        """How far each score is from the nearest kink: negative on one side of a kink, positive on the other."""
        left = np.stack([z - kink for kink in self.kinks])
        nearest = np.abs(left).argmin(axis=0)
        sides = np.where(np.arange(len(self.kinks)) % 2 == 0, 1.0, -1.0)
        return np.take_along_axis(left, nearest[None], axis=0)[0] * sides[nearest]

    def backward(self, z: Array, a: Array, gradient: Array, alpha: float) -> Array:
        """Apply the chain rule: from the gradient with respect to the outputs ``a`` to that with respect to ``z``."""
        if self.elementwise:
            return gradient * self.derivative(z, a, alpha)
        # softmax: sum_i g_i a_i (1[i = j] - a_j), without writing the Jacobian down
        return a * (gradient - (gradient * a).sum(axis=1, keepdims=True))

    def backward_tangent(self, z: Array, a: Array, dz: Array, gradient: Array, alpha: float) -> Array:
        """Return how `backward` moves where the scores move by ``dz`` and ``gradient`` stays."""
        if self.elementwise:
            return self.second_derivative(z, a, alpha) * dz * gradient
        da = self.backward(z, a, dz, alpha)
        return da * (gradient - (gradient * a).sum(axis=1, keepdims=True)) - a * (gradient * da).sum(
            axis=1, keepdims=True
        )


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "identity": Activation(formula="z", value=functions.identity, derivative=functions.identity_derivative),
        "sigmoid": Activation(
            formula="1 / (1 + exp(-z))",
            value=functions.sigmoid,
            derivative=functions.sigmoid_derivative,
            second_derivative=functions.sigmoid_second_derivative,
        ),
        "tanh": Activation(
            formula="tanh(z)",
            value=functions.tanh,
            derivative=functions.tanh_derivative,
            second_derivative=functions.tanh_second_derivative,
        ),
        "relu": Activation(
            formula="max(z, 0)",
            value=functions.relu,
            derivative=functions.relu_derivative,
            kinks=(0.0,),
            weight_init="he_uniform",
        ),
        "leaky_relu": Activation(
            formula="z if z > 0 else alpha * z",
            value=functions.leaky_relu,
            derivative=functions.leaky_relu_derivative,
            alpha=0.01,
            kinks=(0.0,),
            weight_init="he_uniform",
        ),
        "elu": Activation(
            formula="z if z > 0 else alpha * (exp(z) - 1)",
            value=functions.elu,
            derivative=functions.elu_derivative,
            second_derivative=functions.elu_second_derivative,
            alpha=1.0,
            kinks=(0.0,),
            weight_init="he_uniform",
        ),
        "gelu": Activation(
            formula="z / 2 * (1 + erf(z / sqrt(2)))",
            value=functions.gelu,
            derivative=functions.gelu_derivative,
            second_derivative=functions.gelu_second_derivative,
            weight_init="he_uniform",
        ),
        "gelu_tanh": Activation(
            formula="z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z**3)))",
            value=functions.gelu_tanh,
            derivative=functions.gelu_tanh_derivative,
            second_derivative=functions.gelu_tanh_second_derivative,
            weight_init="he_uniform",
        ),
        "silu": Activation(
            formula="z / (1 + exp(-z))",
            value=functions.silu,
            derivative=functions.silu_derivative,
            second_derivative=functions.silu_second_derivative,
            weight_init="he_uniform",
        ),
        "softplus": Activation(
            formula="log(1 + exp(z))",
            value=functions.softplus,
            derivative=functions.softplus_derivative,
            second_derivative=functions.softplus_second_derivative,
        ),
        "exp": Activation(
            formula="exp(z)",
            value=functions.exp,
            derivative=functions.exp_derivative,
            second_derivative=functions.exp_derivative,
        ),
        "selu": Activation(
            formula="1.0507 * z if z > 0 else 1.7581 * (exp(z) - 1)",
            value=functions.selu,
            derivative=functions.selu_derivative,
            second_derivative=functions.selu_second_derivative,
            kinks=(0.0,),
            weight_init="lecun_normal",
        ),
        "mish": Activation(
            formula="z * tanh(log(1 + exp(z)))",
            value=functions.mish,
            derivative=functions.mish_derivative,
            second_derivative=functions.mish_second_derivative,
            weight_init="he_uniform",
        ),
        "softsign": Activation(
            formula="z / (1 + abs(z))",
            value=functions.softsign,
            derivative=functions.softsign_derivative,
            second_derivative=functions.softsign_second_derivative,
            kinks=(0.0,),
        ),
        "relu6": Activation(
            formula="min(max(z, 0), 6)",
            value=functions.relu6,
            derivative=functions.relu6_derivative,
            kinks=(0.0, 6.0),
            weight_init="he_uniform",
        ),
        "hard_tanh": Activation(
            formula="min(max(z, -1), 1)",
            value=functions.hard_tanh,
            derivative=functions.hard_tanh_derivative,
            kinks=(-1.0, 1.0),
        ),
        "hard_sigmoid": Activation(
            formula="min(max(z + 3, 0), 6) / 6",
            value=functions.hard_sigmoid,
            derivative=functions.hard_sigmoid_derivative,
            kinks=(-3.0, 3.0),
        ),
        "hard_swish": Activation(
            formula="z * min(max(z + 3, 0), 6) / 6",
            value=functions.hard_swish,
            derivative=functions.hard_swish_derivative,
            second_derivative=functions.hard_swish_second_derivative,
            kinks=(-3.0, 3.0),
            weight_init="he_uniform",
        ),
        "prelu": Activation(
            formula="z if z > 0 else alpha * z",
            value=functions.prelu,
            derivative=functions.prelu_derivative,
            alpha=0.25,
            kinks=(0.0,),
            weight_init="he_uniform",
            slopes=True,
        ),
        "softmax": Activation(
            formula="exp(z_i) / sum_j exp(z_j)",
            value=functions.softmax,
            derivative=functions.softmax_derivative,
            second_derivative=functions.softmax_second_derivative,
            elementwise=False,
        ),
    }
)
