"""Models of ONNX as networks, where they are a chain of dense layers and activations.

An activation is recognised by the nodes that `export.nodes` writes for it, or by those of `FOREIGN`, which other
libraries write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.base.atomic import path_name
from backprop.export.graph import ML, Graph
from backprop.export.nodes import ACTIVATION_NODES, Nodes
from backprop.export.onnx import package
from backprop.importing.stack import Named, Stack
from backprop.network import Network
from backprop.reference.activations import ACTIVATIONS

_ALPHA = 0.3701171875
"""stands for any parameter in a pattern: a float32 that no formula has"""
_PASSED_ON = ("Identity", "Dropout", "Flatten")
_SWAPPED = ("Add", "Mul")
_OF_CLASSIFIERS = ("ArgMax", "ArrayFeatureExtractor", "Binarizer", "Cast", "Gather", "Greater", "Identity", "Reshape",
                   "Slice", "ZipMap")  # fmt: skip
"""what makes labels and tables of probabilities of a network's outputs"""


def from_onnx(model: Any, *, output: str | None = None, seed: int | None = None, backend: str | None = None) -> Network:
    """Return a network with the weights of a model of ONNX that is a chain of dense layers.

    Parameters
    ----------
    model
        A file, the bytes of one, or an ``onnx.ModelProto``. Its nodes are ``Gemm`` or ``MatMul`` and ``Add`` with
        constant weights, and the activations as `Network.to_onnx`, PyTorch, skl2onnx and others write them;
        ``Identity``, ``Dropout``, ``Flatten`` and the like are passed over. It has one input, rows of numbers, and one
        output, or several that are labels and probabilities of one network, as skl2onnx writes a classifier.
    output
        An activation for the scores of the last layer, where the model leaves it to its loss: ``"softmax"`` or
        ``"sigmoid"``. None keeps what the model has.
    seed, backend
        See `Network`. The seed decides the order of the rows in further training.

    Returns
    -------
    Network
        It predicts what the model gives; of a classifier the probabilities, for two classes that of the second one, as
        `backprop.from_sklearn`. After `Network.to_onnx` it has the same parameters, bit for bit; settings that
        only training needs are not in such a file.

    Raises
    ------
    ImportError
        Without the package `onnx` (the extra ``onnx``).
    OSError
        If the file cannot be read.
    TypeError, ValueError
        If it is no model of ONNX, or has a node that a dense network cannot represent; the message names it.

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([4, 16, 3], output="softmax", seed=0)
    >>> bp.from_onnx(net.to_onnx(), seed=0)  # doctest: +SKIP
    Network(4, [Dense(16, 'relu'), Dense(3, 'softmax')], dtype='float32', seed=0)
    """
    read = _read(model)
    chain, stack = _Chain.of(read.graph), Stack()
    current = chain.start
    while current != chain.end:
        node = chain.reader(current)
        if node.op in _PASSED_ON or _keeps_rows(chain, node):
            current = node.outputs[0]
        elif node.op in ("Gemm", "MatMul"):
            current = _dense(stack, chain, node, current)
        else:
            current = _activation(stack, chain, node, current)
    network = stack.network(output, seed, backend)
    names = {entry.key: entry.value for entry in read.metadata_props}.get("feature_names")
    network.feature_names = None if names is None else json.loads(names)
    return network


def _read(model: Any) -> Any:
    """Return an ``onnx.ModelProto`` from a file or from bytes, or as it is."""
    onnx = package("from_onnx")
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _checked(onnx, "model", bytes(model))
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model: needs a path, the bytes of a file or an onnx.ModelProto, got {check.shown(model)}")
    path = path_name(model)
    with open(path, "rb") as file:
        found = _checked(onnx, path, file.read())
    onnx.load_external_data_for_model(found, os.path.dirname(os.path.abspath(path)))
    return found


def _checked(onnx: Any, name: str, data: bytes) -> Any:
    """Return the model that these bytes are; messages begin with the name."""
    try:
        found = onnx.load_model_from_string(data)
        onnx.checker.check_model(found)
    except Exception as error:  # protobuf's and onnx's have no class in common
        raise ValueError(f"{name}: not a valid model of ONNX: {str(error).splitlines()[0]}") from error
    return found


# --- a chain of nodes ----------------------------------------------------------------------------------------------


class _Node(NamedTuple):
    """A node of a graph, its attributes as Python values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    domain: str = ""

    def __str__(self) -> str:
        return f"node {self.name or self.outputs[0]!r} ({self.op})"


@dataclass(frozen=True, slots=True)
class _Chain:
    """A graph with one input and one output, its nodes by what they read, and its constants."""

    start: str
    end: str
    readers: dict[str, list[_Node]]
    constants: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, graph: Any) -> _Chain:
        """Return the graph of a model; ValueError where it has several inputs or outputs."""
        from onnx import helper, numpy_helper

        constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        readers: dict[str, list[_Node]] = {}
        for proto in graph.node:
            attributes = {each.name: _shortest(helper.get_attribute_value(each)) for each in proto.attribute}
            if proto.op_type == "Constant" and "value" in attributes:
                constants[proto.output[0]] = numpy_helper.to_array(attributes["value"])
                continue
            given, found = tuple(proto.input), tuple(proto.output)
            node = _Node(proto.op_type, proto.name, given, found, attributes, proto.domain)
            for name in set(node.inputs) - {""}:
                readers.setdefault(name, []).append(node)
        inputs = [each.name for each in graph.input if each.name not in constants]
        outputs = [each.name for each in graph.output]
        ends = outputs
        if len(outputs) > 1:
            writers = {name: node for nodes in readers.values() for node in nodes for name in node.outputs}
            ends = list(dict.fromkeys(_before_a_classifier(name, writers, constants) for name in outputs))
        for what, names, all_names in (("input", inputs, inputs), ("output", ends, outputs)):
            if len(names) != 1:
                raise ValueError(
                    f"from_onnx: needs a model with one {what}, got {len(all_names)}: {', '.join(all_names)}"
                )
        return cls(inputs[0], ends[0], readers, constants)

    def reader(self, name: str) -> _Node:
        """Return the node that reads a result; of several the first one."""
        if name not in self.readers:
            raise ValueError(f"from_onnx: needs a node that reads {name!r} on the way to {self.end!r}, got none")
        return self.readers[name][0]

    def constant(self, node: _Node, place: int) -> NDArray[Any]:
        """Return a constant that a node reads; ValueError where it is none."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        if name not in self.constants:
            raise ValueError(f"from_onnx: {node}: needs constant weights as input {place}, got {name!r}")
        return self.constants[name]


def _before_a_classifier(output: str, writers: dict[str, _Node], constants: Mapping[str, Any]) -> str:
    """Return of what labels, probabilities or a map of them are made; of two classes, the probability of the second."""
    while (node := writers.get(output)) is not None:
        read = [name for name in node.inputs if name and name not in constants]
        if node.op == "Concat" and len(read) == 2:
            first = writers.get(read[0])
            if first is None or first.op != "Sub" or first.inputs[1] != read[1]:
                break
            output = read[1]
        elif node.op in _OF_CLASSIFIERS and read:
            output = read[0]
        else:
            break
    return output


def _shortest(value: Any) -> Any:
    """Return a float of an attribute, which is a float32 in the file, as the decimal that was meant: 0.01."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _keeps_rows(chain: _Chain, node: _Node) -> bool:
    """Whether a node converts to float32 or float64, or reshapes to rows, as those of skl2onnx do."""
    if node.op == "Cast":
        return node.attributes.get("to") in (1, 11)
    return node.op == "Reshape" and chain.constant(node, 1).size == 2 and int(chain.constant(node, 1)[0]) == -1


def _dense(stack: Stack, chain: _Chain, node: _Node, current: str) -> str:
    """Add a layer and return the name of its scores."""
    settings = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0} | node.attributes
    if node.inputs[0] != current or settings["transA"]:
        raise ValueError(f"from_onnx: {node}: needs rows times weights, got another product")
    weights, biases = chain.constant(node, 1), None
    if settings["transB"]:
        weights = weights.T
    if settings["alpha"] != 1:
        weights = weights * weights.dtype.type(settings["alpha"])
    scores = node.outputs[0]
    if node.op == "Gemm" and len(node.inputs) > 2 and node.inputs[2]:
        biases = chain.constant(node, 2)
        biases = biases if settings["beta"] == 1 else biases * biases.dtype.type(settings["beta"])
    elif node.op == "MatMul" and scores != chain.end and (added := chain.reader(scores)).op == "Add":
        place = 1 - added.inputs.index(scores)
        if added.inputs[place] in chain.constants:
            biases, scores = chain.constant(added, place), added.outputs[0]
    if biases is not None:
        biases = np.broadcast_to(biases.ravel(), weights.shape[1:]) if biases.size == 1 else biases.ravel()
    stack.dense(f"from_onnx: {node}", weights, biases)
    return scores


# --- activations ---------------------------------------------------------------------------------------------------


def _one(op: str, **attributes: Any) -> Nodes:
    return lambda graph, z, alpha: graph.add(op, z, **attributes)


def _gelu_with_erf(graph: Graph, z: str, alpha: Any) -> str:
    """As PyTorch writes it."""
    ratio = graph.add("Erf", graph.add("Div", z, graph.number(np.sqrt(2))))
    return graph.add("Mul", graph.add("Mul", z, graph.add("Add", ratio, graph.number(1))), graph.number(0.5))


def _mish_with_softplus(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Mul", z, graph.add("Tanh", graph.add("Softplus", z)))


def _silu_with_sigmoid(graph: Graph, z: str, alpha: Any) -> str:
    return graph.add("Mul", z, graph.add("Sigmoid", z))


FOREIGN: tuple[tuple[str, Nodes], ...] = (
    ("leaky_relu", lambda graph, z, alpha: graph.add("LeakyRelu", z, alpha=alpha)),
    ("elu", lambda graph, z, alpha: graph.add("Elu", z, alpha=alpha)),
    ("prelu", lambda graph, z, alpha: graph.add("PRelu", z, graph.array("slopes", alpha))),
    ("gelu", _one("Gelu", approximate="none")),
    ("gelu", _gelu_with_erf),
    ("gelu_tanh", _one("Gelu", approximate="tanh")),
    ("selu", _one("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805)),
    ("silu", _silu_with_sigmoid),
    ("softplus", _one("Softplus")),
    ("softsign", _one("Softsign")),
    ("mish", _one("Mish")),
    ("mish", _mish_with_softplus),
    ("hard_sigmoid", _one("HardSigmoid", alpha=1 / 6, beta=0.5)),
    ("hard_swish", _one("HardSwish")),
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
    return tuple(sorted(found, key=lambda pattern: -len(pattern.graph.nodes)))


def _activation(stack: Stack, chain: _Chain, node: _Node, current: str) -> str:
    """Give the last layer the activation whose nodes come next, and return the name of what they give."""
    for pattern in _patterns():
        if pattern.graph.nodes and (match := _matched(pattern, chain, current)) is not None:
            names, parameters = match
            slopes = None
            named: Named = (pattern.activation, None)
            if ACTIVATIONS[pattern.activation].slopes:
                slopes = np.ravel(parameters[0])
            elif parameters:
                named = (pattern.activation, float(np.ravel(parameters[0])[0]))
            stack.activation(f"from_onnx: {node}", named, slopes)
            return names[pattern.end]
    way = "; export the network alone, without the steps of a pipeline before it" if node.domain == ML else ""
    raise ValueError(
        f"from_onnx: {node}: needs Gemm, MatMul and Add with constants, or one of the activations "
        f"{', '.join(ACTIVATIONS)}; got nodes that are none of them{way}"
    )


def _matched(pattern: _Pattern, chain: _Chain, current: str) -> tuple[dict[str, str], list[Any]] | None:
    """Return what the results of a pattern are called in the model, and its parameters; None where it is not there.

    All inputs of each node are compared, so it does not matter what else reads the results on the way.
    """
    names: dict[str, str] = {"z": current}
    parameters: list[Any] = []
    for wanted in pattern.graph.nodes:
        read = next(name for name in wanted.inputs if name in names)
        for node in chain.readers.get(names[read], ()):
            found = _same(wanted, node, pattern.graph, chain, names)
            if found is not None and node.outputs[0] not in names.values():
                names[wanted.output] = node.outputs[0]
                parameters += found
                break
        else:
            return None
    return names, parameters


def _same(wanted: Any, node: _Node, graph: Graph, chain: _Chain, names: dict[str, str]) -> list[Any] | None:
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
        inputs = list(_inputs(wanted, order, graph, chain, names))
        if len(order) == len(wanted.inputs) and None not in [each if each is None else 0 for each in inputs]:
            return parameters + [value for each in inputs if each for value in each]
    return None


def _inputs(
    wanted: Any, given: Sequence[str], graph: Graph, chain: _Chain, names: dict[str, str]
) -> Iterator[list[Any] | None]:
    """Yield for each input the parameters in it, or None where it is not what the pattern has."""
    for name, found in zip(wanted.inputs, given, strict=False):
        if name in names:
            yield [] if names[name] == found else None
        elif found not in chain.constants:
            yield None
        else:
            value, constant = graph.constants[name], chain.constants[found]
            if (value == _ALPHA).all():  # one number, or one for each unit
                yield [constant] if (value.ndim == 0) == (constant.ndim == 0) else None
            else:
                yield [] if constant.size == 1 and np.isclose(constant.ravel()[0], value, rtol=1e-6) else None
