"""Activations in models of ONNX, recognised by their nodes: those of `export.nodes`, or of `FOREIGN`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backprop.export.graph import Graph
from backprop.export.nodes import ACTIVATION_NODES, Nodes
from backprop.importing.onnx_graph import Node, OnnxGraph
from backprop.importing.stack import Named
from backprop.reference.activations import ACTIVATIONS

_ALPHA = 0.3701171875
"""stands for any parameter in a pattern: a float32 that no formula has"""
_SWAPPED = ("Add", "Mul", "Max")


class Activated(NamedTuple):
    """An activation in a graph: of which scores, which one, and the slopes of prelu."""

    scores: str
    activation: Named
    slopes: NDArray[Any] | None


def activations(graph: OnnxGraph) -> dict[str, Activated]:
    """Return the activations in a graph by the names of what they give."""
    found: dict[str, Activated] = {}
    for pattern in _patterns():  # those with many nodes first: a part of one may be another one
        for scores in graph.readers:
            if (match := _matched(pattern, graph, scores)) is not None:
                found.setdefault(match[0], _activated(scores, pattern.activation, match[1]))
    return found


def _activated(scores: str, name: str, parameters: Sequence[Any]) -> Activated:
    if ACTIVATIONS[name].slopes:
        return Activated(scores, (name, None), np.ravel(parameters[0]))
    return Activated(scores, (name, float(np.ravel(parameters[0])[0]) if parameters else None), None)


def _one(op: str, **attributes: Any) -> Nodes:
    return lambda graph, z, alpha: graph.add(op, z, **attributes)


def _gelu_with_erf(graph: Graph, z: str, alpha: Any) -> str:
    """As PyTorch writes it."""
    ratio = graph.add("Erf", graph.add("Div", z, graph.number(np.sqrt(2))))
    return graph.add("Mul", graph.add("Mul", z, graph.add("Add", ratio, graph.number(1))), graph.number(0.5))


def _gelu_tanh_of_pytorch(graph: Graph, z: str, alpha: Any) -> str:
    cube = graph.add("Mul", graph.number(0.044715), graph.add("Mul", z, graph.add("Mul", z, z)))
    tanh = graph.add("Tanh", graph.add("Mul", graph.number(np.sqrt(2 / np.pi)), graph.add("Add", z, cube)))
    return graph.add("Mul", graph.number(0.5), graph.add("Mul", z, graph.add("Add", graph.number(1), tanh)))


def _hard_swish_with_hard_sigmoid(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Mul", z, graph.add("HardSigmoid", z, alpha=1 / 6, beta=0.5))


def _mish_with_softplus(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Mul", z, graph.add("Tanh", graph.add("Softplus", z)))


def _softplus_of_pytorch(graph: Graph, z: str, alpha: Any) -> str:
    """With the threshold above which PyTorch takes it for z."""
    return graph.add("Where", graph.add("Greater", z, graph.number(20)), z, graph.add("Softplus", z))


def _relu_by_clip(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Clip", z, graph.number(0), "")


def _relu_by_max(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Max", z, graph.number(0))


def _silu_with_sigmoid(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Mul", z, graph.add("Sigmoid", z))


FOREIGN: tuple[tuple[str, Nodes], ...] = (
    ("relu", _relu_by_clip),
    ("relu", _relu_by_max),
    ("leaky_relu", lambda graph, z, alpha: graph.add("LeakyRelu", z, alpha=alpha)),
    ("elu", lambda graph, z, alpha: graph.add("Elu", z, alpha=alpha)),
    ("prelu", lambda graph, z, alpha: graph.add("PRelu", z, graph.array("slopes", alpha))),
    ("gelu", _one("Gelu", approximate="none")),
    ("gelu", _gelu_with_erf),
    ("gelu_tanh", _one("Gelu", approximate="tanh")),
    ("gelu_tanh", _gelu_tanh_of_pytorch),
    ("selu", _one("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805)),
    ("silu", _silu_with_sigmoid),
    ("softplus", _one("Softplus")),
    ("softplus", _softplus_of_pytorch),
    ("softsign", _one("Softsign")),
    ("mish", _one("Mish")),
    ("mish", _mish_with_softplus),
    ("hard_sigmoid", _one("HardSigmoid", alpha=1 / 6, beta=0.5)),
    ("hard_swish", _one("HardSwish")),
    ("hard_swish", _hard_swish_with_hard_sigmoid),
    ("softmax", _one("Softmax", axis=-1)),
)
_DEFAULTS: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.01},
    "Elu": {"alpha": 1.0},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Gelu": {"approximate": "none"},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Softmax": {"axis": -1},
}


class _Pattern(NamedTuple):
    """The nodes of an activation."""

    activation: str
    graph: Graph
    end: str


@cache
def _patterns() -> tuple[_Pattern, ...]:
    """Return the patterns of all activations, those with many nodes first."""
    found = []
    for name, add in (*ACTIVATION_NODES.items(), *FOREIGN):
        for dtype in (np.float32, np.float64):
            graph = Graph(dtype)
            end = add(graph, "z", [_ALPHA] if ACTIVATIONS[name].slopes else _ALPHA)
            found.append(_Pattern(name, graph, end))
    return tuple(sorted((each for each in found if each.graph.nodes), key=lambda each: -len(each.graph.nodes)))


def _matched(pattern: _Pattern, graph: OnnxGraph, scores: str) -> tuple[str, list[Any]] | None:
    """Return what the outputs of a pattern are called in a graph, and its parameters; None where it is not there.

    All inputs of each node are compared, so it does not matter what else reads the results on the way.
    """
    names: dict[str, str] = {"z": scores}
    parameters: list[Any] = []
    for wanted in pattern.graph.nodes:
        read = next(name for name in wanted.inputs if name in names)
        for node in graph.readers.get(names[read], ()):
            found = _same(wanted, node, pattern.graph, graph, names)
            if found is not None and node.outputs[0] not in names.values():
                names[wanted.output] = node.outputs[0]
                parameters += found
                break
        else:
            return None
    return names[pattern.end], parameters


def _same(wanted: Any, node: Node, graph: Graph, model: OnnxGraph, names: dict[str, str]) -> list[Any] | None:
    """Return the parameters that a node has where the pattern has `_ALPHA`; None where it is another node."""
    if wanted.op != node.op:
        return None
    parameters: list[Any] = []
    attributes = _DEFAULTS.get(node.op, {}) | node.attributes
    for name, value in wanted.attributes.items():
        given = attributes.get(name)
        given = given.decode() if isinstance(given, bytes) else given
        if value == _ALPHA:
            parameters.append(given)
        elif given != value and not (
            isinstance(value, float) and given is not None and np.isclose(given, value, rtol=1e-6)
        ):
            return None
    orders: Iterator[Sequence[str]] = iter((node.inputs, node.inputs[::-1]) if node.op in _SWAPPED else (node.inputs,))
    for order in orders:
        if len(order) < len(wanted.inputs):  # what is left out at the end
            order = [*order, *[""] * (len(wanted.inputs) - len(order))]
        inputs = list(_inputs(wanted, order, graph, model, names))
        if len(order) == len(wanted.inputs) and None not in [each if each is None else 0 for each in inputs]:
            return parameters + [value for each in inputs if each for value in each]
    return None


def _inputs(
    wanted: Any, given: Sequence[str], graph: Graph, model: OnnxGraph, names: dict[str, str]
) -> Iterator[list[Any] | None]:
    """Yield for each input the parameters in it, or None where it is not what the pattern has."""
    for name, found in zip(wanted.inputs, given, strict=False):
        if name in names:
            yield [] if names[name] == found else None
        elif not name:
            yield None if found else []
        elif found not in model.constants:
            yield None
        else:
            value, constant = graph.constants[name], model.constants[found]
            if (value == _ALPHA).all():  # one number, or one for each unit
                yield [constant] if (value.ndim == 0) == (constant.ndim == 0) else None
            else:
                yield [] if constant.size == 1 and np.isclose(constant.ravel()[0], value, rtol=1e-6) else None
