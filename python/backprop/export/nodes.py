"""Layers and activations as nodes of ONNX: each beside its formula.

An activation is the operator that the standard has for it, where onnxruntime computes that well, and else the formula
in operators that do: in float64 it has no `Elu`, `Erf` or `PRelu`, and the slope of `LeakyRelu` is a float32 always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.export.graph import Graph
from backprop.reference.dense import Dense
from backprop.reference.layout import by_layer, layout

Nodes: TypeAlias = "Callable[[Graph, str, Any], str]"
"""adds an activation of the scores of that name, with its parameter, and returns the name of the outputs"""


def layers(graph: Graph, n_inputs: int, stack: Sequence[Dense], parameters: NDArray[Any], inputs: str) -> str:
    """Add layers, whose parameters are one flat vector, and return the name of the outputs."""
    outputs = inputs
    for k, own in enumerate(by_layer(layout(n_inputs, stack), len(stack))):
        with graph.within(f"layers[{k}]"):
            outputs = dense(graph, stack[k], {array.name: array.of(parameters) for array in own}, outputs)
    return outputs


def dense(graph: Graph, layer: Dense, arrays: Mapping[str, NDArray[Any]], inputs: str) -> str:
    """``activation(inputs @ weights + biases)``."""
    weights = graph.array("weights", arrays["weights"])
    if layer.bias:
        scores = graph.add("Gemm", inputs, weights, graph.array("biases", arrays["biases"]))
    else:
        scores = graph.add("MatMul", inputs, weights)
    return ACTIVATION_NODES[layer.activation](graph, scores, layer.slopes(arrays))


# --- what formulas share -------------------------------------------------------------------------------------------


def _below(graph: Graph, z: str, bound: float) -> str:
    """``min(z, bound)``."""
    return graph.add("Min", z, graph.number(bound))


def _one_plus(graph: Graph, x: str) -> str:
    return graph.add("Add", graph.number(1), x)


def _expm1(graph: Graph, z: str) -> str:
    """``exp(z) - 1``, near 0 as ``tanh(z / 2) * (exp(z) + 1)``, which keeps the digits of small z."""
    e = graph.add("Exp", z)
    near = graph.add("Mul", graph.add("Tanh", graph.add("Mul", z, graph.number(0.5))), _one_plus(graph, e))
    far = graph.add("Sub", e, graph.number(1))
    return graph.add("Where", graph.add("Less", z, graph.number(-0.5)), far, near)


def _log1p(graph: Graph, e: str) -> str:
    """``log(1 + e) = log(u) * e / (u - 1)`` with ``u = 1 + e`` as rounded, and ``e`` where that is 1: W. Kahan."""
    u = _one_plus(graph, e)
    ratio = graph.add("Div", graph.add("Mul", graph.add("Log", u), e), graph.add("Sub", u, graph.number(1)))
    return graph.add("Where", graph.add("Equal", u, graph.number(1)), e, ratio)


def _exponential_line(graph: Graph, z: str, slope: float, scale: float) -> str:
    """``scale * z`` where positive, else ``slope * (exp(z) - 1)``."""
    positive, negative = graph.add("Relu", z), _expm1(graph, _below(graph, z, 0))
    if scale != 1:
        positive = graph.add("Mul", positive, graph.number(scale))
    return graph.add("Add", positive, graph.add("Mul", negative, graph.number(slope)))


def _times_sigmoid(graph: Graph, z: str, x: str) -> str:
    """``z / (1 + exp(-x))``; an exponential that overflows gives 0."""
    return graph.add("Div", z, _one_plus(graph, graph.add("Exp", graph.add("Neg", x))))


def _clip(graph: Graph, z: str, low: float, high: float) -> str:
    return graph.add("Clip", z, graph.number(low), graph.number(high))


def _two_lines(graph: Graph, z: str, slope: str) -> str:
    """``max(z, 0) + slope * min(z, 0)``."""
    return graph.add("Add", graph.add("Relu", z), graph.add("Mul", _below(graph, z, 0), slope))


# --- the activations -----------------------------------------------------------------------------------------------


def _operator(op: str, **attributes: Any) -> Nodes:
    """Return the activation that is one operator."""

    def add(graph: Graph, z: str, alpha: Any) -> str:
        return graph.add(op, z, **attributes)

    return add


def _identity(graph: Graph, z: str, alpha: Any) -> str:
    """``z``."""
    return z


def _leaky_relu(graph: Graph, z: str, alpha: Any) -> str:
    """``z`` where positive, else ``alpha z``."""
    if graph.dtype == np.float32:
        return graph.add("LeakyRelu", z, alpha=alpha)
    return _two_lines(graph, z, graph.number(alpha))


def _prelu(graph: Graph, z: str, alpha: Any) -> str:
    """``z`` where positive, else ``alpha z``."""
    slopes = graph.array("slopes", alpha)
    return graph.add("PRelu", z, slopes) if graph.dtype == np.float32 else _two_lines(graph, z, slopes)


def _elu(graph: Graph, z: str, alpha: Any) -> str:
    """``z`` where positive, else ``alpha (exp(z) - 1)``."""
    return _exponential_line(graph, z, alpha, 1.0)


def _selu(graph: Graph, z: str, alpha: Any) -> str:
    """``scale z`` where positive, else ``scale alpha (exp(z) - 1)``."""
    return _exponential_line(graph, z, 1.7580993408473768599, 1.0507009873554804934)


def _gelu(graph: Graph, z: str, alpha: Any) -> str:
    """``z / 2 * (1 + erf(z / sqrt(2)))``; in float64 ``z / 2 * erfc(-z / sqrt(2))``, spelt out."""
    half, x = graph.add("Mul", z, graph.number(0.5)), graph.add("Mul", z, graph.number(math.sqrt(0.5)))
    if graph.dtype == np.float32:
        return graph.add("Mul", half, _one_plus(graph, graph.add("Erf", x)))
    tail = _erfc_of_size(graph, graph.add("Abs", x))
    upper = graph.add("Sub", graph.number(2), tail)
    return graph.add("Mul", half, graph.add("Where", graph.add("Less", x, graph.number(0)), tail, upper))


def _erfc_of_size(graph: Graph, x: str) -> str:
    """``erfc(x) = t * exp(p(2 t - 1) - x**2)`` with ``t = 2 / (2 + x)`` for x >= 0, and a Chebyshev series p."""
    t = graph.add("Div", graph.number(2), graph.add("Add", x, graph.number(2)))
    argument = graph.add("Sub", graph.add("Mul", t, graph.number(2)), graph.number(1))
    twice = graph.add("Mul", argument, graph.number(2))
    first, *rest = _erfc_series()
    b, below = graph.number(rest[-1]), graph.number(0)
    for coefficient in rest[-2::-1]:  # Clenshaw's sum
        term = graph.add("Sub", graph.add("Mul", twice, b), below)
        b, below = graph.add("Add", term, graph.number(coefficient)), b
    series = graph.add("Add", graph.add("Sub", graph.add("Mul", argument, b), below), graph.number(first))
    return graph.add("Mul", t, graph.add("Exp", graph.add("Sub", series, graph.add("Mul", x, x))))


@cache
def _erfc_series() -> tuple[float, ...]:
    """Return the coefficients of the Chebyshev series of ``log(erfc(x) exp(x**2) / t)`` in ``2 t - 1``."""

    def scaled(x: float) -> float:
        """``erfc(x) exp(x**2)``, for larger x as a continued fraction."""
        if x < 2:
            return math.erfc(x) * math.exp(x * x)
        fraction = x
        for n in range(100, 0, -1):
            fraction = x + n / 2 / fraction
        return 1 / (math.sqrt(math.pi) * fraction)

    def series(s: NDArray[Any]) -> Any:
        return np.array([math.log(scaled(2 / t - 2) / t) for t in (s + 1) / 2])

    return tuple(np.polynomial.chebyshev.chebinterpolate(series, 30).tolist())


def _gelu_tanh(graph: Graph, z: str, alpha: Any) -> str:
    """``z sigmoid(2u)`` with ``u = sqrt(2/pi) (z + 0.044715 z**3)``."""
    cube = graph.add("Mul", graph.add("Mul", z, z), z)
    inner = graph.add("Add", z, graph.add("Mul", cube, graph.number(0.044715)))
    return _times_sigmoid(graph, z, graph.add("Mul", inner, graph.number(2 * math.sqrt(2 / math.pi))))


def _silu(graph: Graph, z: str, alpha: Any) -> str:
    """``z sigmoid(z)``."""
    return _times_sigmoid(graph, z, z)


def _softplus(graph: Graph, z: str, alpha: Any) -> str:
    """``log(1 + exp(z)) = max(z, 0) + log(1 + exp(-abs(z)))``."""
    tail = _log1p(graph, graph.add("Exp", graph.add("Neg", graph.add("Abs", z))))
    return graph.add("Add", graph.add("Relu", z), tail)


def _mish(graph: Graph, z: str, alpha: Any) -> str:
    """``z tanh(log(1 + exp(z))) = z n / (n + 2)`` with ``n = e (e + 2)``, ``e = exp(z)``; beyond 20 it is z."""
    e = graph.add("Exp", _below(graph, z, 20))
    n = graph.add("Mul", e, graph.add("Add", e, graph.number(2)))
    return graph.add("Mul", z, graph.add("Div", n, graph.add("Add", n, graph.number(2))))


def _softsign(graph: Graph, z: str, alpha: Any) -> str:
    """``z / (1 + abs(z))``."""
    return graph.add("Div", z, _one_plus(graph, graph.add("Abs", z)))


def _relu6(graph: Graph, z: str, alpha: Any) -> str:
    """``min(max(z, 0), 6)``."""
    return _clip(graph, z, 0, 6)


def _hard_tanh(graph: Graph, z: str, alpha: Any) -> str:
    """``min(max(z, -1), 1)``."""
    return _clip(graph, z, -1, 1)


def _hard_sigmoid(graph: Graph, z: str, alpha: Any) -> str:
    """``min(max(z + 3, 0), 6) / 6``."""
    return graph.add("Div", _clip(graph, graph.add("Add", z, graph.number(3)), 0, 6), graph.number(6))


def _hard_swish(graph: Graph, z: str, alpha: Any) -> str:
    """``z * min(max(z + 3, 0), 6) / 6``."""
    return graph.add("Mul", z, _hard_sigmoid(graph, z, alpha))


ACTIVATION_NODES: Mapping[str, Nodes] = MappingProxyType(
    {
        "identity": _identity,
        "sigmoid": _operator("Sigmoid"),
        "tanh": _operator("Tanh"),
        "relu": _operator("Relu"),
        "leaky_relu": _leaky_relu,
        "elu": _elu,
        "gelu": _gelu,
        "gelu_tanh": _gelu_tanh,
        "silu": _silu,
        "softplus": _softplus,
        "exp": _operator("Exp"),
        "selu": _selu,
        "mish": _mish,
        "softsign": _softsign,
        "relu6": _relu6,
        "hard_tanh": _hard_tanh,
        "hard_sigmoid": _hard_sigmoid,
        "hard_swish": _hard_swish,
        "prelu": _prelu,
        "softmax": _operator("Softmax", axis=1),
    }
)
