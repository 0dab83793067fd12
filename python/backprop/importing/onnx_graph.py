"""The graph of a model of ONNX: its nodes by what they read and write, its constants, and a node run by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backprop.base.text import shortest

_FOLDED = (
    "Add", "Cast", "Concat", "Constant", "DequantizeLinear", "Div", "Gather", "Identity", "Mul", "Neg", "Reciprocal",
    "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
"""of constants they make constants, of at most `MOST_NUMBERS` numbers or no more than the largest one that they read"""
MOST_NUMBERS = 10_000_000
_BROADCASTING = (
    "Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Where",
)  # fmt: skip
_TOLD = ("ConstantOfShape", "Expand", "Tile")
"""the last array that they read says how large their result is"""


class Node(NamedTuple):
    """A node of a graph, its attributes as Python values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    domain: str
    proto: Any

    @property
    def changes_nothing(self) -> bool:
        """Whether it gives the numbers that it reads, in evaluation mode, as a float32 or a float64."""
        if self.op == "Cast":
            return self.attributes.get("to") in (1, 11)
        if self.op == "Imputer":  # of what is no number, which `Network.predict` refuses
            return bool(np.isnan(self.attributes.get("replaced_value_float", 0.0)))
        return self.op == "Identity" or (self.op == "Dropout" and len(self.inputs) < 3)

    def __str__(self) -> str:
        return f"from_onnx: node {self.name or self.outputs[0]!r} ({self.op})"


class Input(NamedTuple):
    """What a model takes: the type, how many rows if the file says so, the shape of one, None where it does not."""

    name: str
    type: str
    n_rows: int | None
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class OnnxGraph:
    """A graph whose nodes are in the order in which they can run, but for those that change or lead to nothing."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    readers: Mapping[str, Sequence[Node]]
    constants: Mapping[str, NDArray[Any]]
    opsets: Mapping[str, int]

    @classmethod
    def of(cls, model: Any) -> OnnxGraph:
        """Return the graph of an ``onnx.ModelProto``."""
        if model.functions:
            from onnx.inliner import inline_local_functions  # since onnx 1.15

            model = inline_local_functions(model)
        opsets = {each.domain: each.version for each in model.opset_import}
        constants = {each.name: _array(each) for each in model.graph.initializer}
        inputs = tuple(_input(each) for each in model.graph.input if each.name not in constants)
        nodes: list[Node] = []
        passed: dict[str, str] = {}
        for proto in _leading_to_outputs(model.graph):
            node = _node(proto, passed)
            if node.op in _FOLDED and all(name in constants for name in node.inputs if name):
                constants |= zip(node.outputs, run(node, constants, opsets), strict=True)
            elif node.op == "Clip" and {"min", "max"} & set(node.attributes):  # as up to version 10 of the operators
                nodes.append(_with_bounds(node, constants))
            elif node.op == "LinearRegressor":
                nodes.append(_as_gemm(node, constants))
            elif node.changes_nothing:
                passed |= dict.fromkeys(node.outputs, node.inputs[0])
            else:
                nodes.append(node)
        readers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        outputs = tuple(passed.get(each.name, each.name) for each in model.graph.output)
        return cls(inputs, outputs, tuple(nodes), readers, constants, opsets)

    def varying(self, node: Node) -> list[str]:
        """Return what a node reads that is no constant."""
        return [name for name in node.inputs if name and name not in self.constants]

    def run(self, node: Node, values: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return what a node gives for these values and for constants."""
        return run(node, {**self.constants, **values}, self.opsets)


def run(node: Node, values: Mapping[str, NDArray[Any]], opsets: Mapping[str, int]) -> list[NDArray[Any]]:
    """Return what a node gives for values by their names; ValueError where it cannot be run."""
    from onnx import ValueInfoProto, helper
    from onnx.reference import ReferenceEvaluator

    # a Clip whose bounds are attributes reads fewer inputs in the file
    read = {given: values[name] for given, name in zip(node.proto.input, node.inputs, strict=False) if name}
    shapes = {name: values[name].shape for name in node.inputs if name in values}
    n, largest = n_numbers(node, shapes), max(map(math.prod, shapes.values()), default=0)
    if node.op in _TOLD and node.inputs:
        n = _n_told(node.op, shapes[node.inputs[0]], values[node.inputs[-1]])
    if n > max(MOST_NUMBERS, largest):
        raise ValueError(f"{node}: needs a result of at most {MOST_NUMBERS:,} numbers, got one of {n:,}")
    graph = helper.make_graph([node.proto], "node", _named(ValueInfoProto, read), _named(ValueInfoProto, node.outputs))
    try:
        with np.errstate(divide="raise", invalid="raise"):
            found: Any = ReferenceEvaluator(graph, opsets=dict(opsets)).run(None, read)
    except Exception as error:  # of any kind: NumPy's, and the evaluator's own
        raise ValueError(f"{node}: cannot be run: {error}") from error
    return [np.asarray(each) for each in found]


def n_numbers(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many numbers a node gives that reads arrays of these shapes, or more; ValueError if they do not fit.

    Of a node that only moves, drops or changes numbers these are those of the largest array.
    """
    read = [shapes[name] for name in node.inputs if name in shapes]
    sizes = [math.prod(shape) for shape in read]
    if node.op == "Concat":
        return sum(sizes)
    if node.op in ("Gather", "ArrayFeatureExtractor") and len(read) == 2 and sizes[0]:
        axis = node.attributes.get("axis", 0) if node.op == "Gather" else -1
        if -len(read[0]) <= axis < len(read[0]):
            return sizes[0] // read[0][axis] * sizes[1]
    if node.op == "DequantizeLinear" and len(read) > 1:
        axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
        grows = -len(read[0]) <= axis < len(read[0]) and read[0][axis] == 1
        return max(sizes[0], max(sizes[1:]) * (block or (sizes[0] if grows else 1)))
    if node.op in ("MatMul", "Gemm") and len(read) > 1 and read[0] and min(sizes):
        both = read[0][0 if node.attributes.get("transA") else -1]
        return max(sizes[0] * sizes[1] // both**2, *sizes[2:], 0)
    if node.op in _BROADCASTING:
        try:
            return math.prod(np.broadcast_shapes(*read))
        except ValueError:
            raise ValueError(f"{node}: needs arrays whose shapes fit, got {', '.join(map(str, read))}") from None
    return max(sizes, default=0)


def _n_told(op: str, shape: tuple[int, ...], last: NDArray[Any]) -> int:
    told = [int(each) for each in last.ravel()]
    if op != "Expand":
        return math.prod(told) * (math.prod(shape) if op == "Tile" else 1)
    return math.prod(max(pair) for pair in zip_longest(reversed(told), reversed(shape), fillvalue=1))


def _leading_to_outputs(graph: Any) -> list[Any]:
    """Return the nodes of a ``onnx.GraphProto`` whose results lead to its outputs, in their order."""
    leading = {each.name for each in graph.output}
    found = []
    for proto in reversed(graph.node):
        if not leading.isdisjoint(proto.output):
            leading |= set(proto.input)
            found.append(proto)
    return found[::-1]


def _named(kind: Any, names: Iterable[str]) -> list[Any]:
    return [kind(name=name) for name in names if name]


def _with_bounds(node: Node, constants: dict[str, NDArray[Any]]) -> Node:
    """Return a Clip that reads its bounds, which are attributes, as constants."""
    names = {name: f"{node.outputs[0]}/{name}" for name in ("min", "max") if name in node.attributes}
    constants |= {given: np.array(node.attributes[name], np.float32) for name, given in names.items()}
    return node._replace(inputs=(node.inputs[0], names.get("min", ""), names.get("max", "")), attributes={})


def _as_gemm(node: Node, constants: dict[str, NDArray[Any]]) -> Node:
    """Return a linear model of float32 as the product that it is; one that is another or damaged as it stands."""
    given, targets = node.attributes, node.attributes.get("targets", 1)
    arrays = [np.array(given.get(name, ()), np.float32) for name in ("coefficients", "intercepts")]
    wrong = targets < 1 or arrays[0].size % targets or arrays[1].size not in (0, targets)
    if wrong or given.get("post_transform", b"NONE") != b"NONE":
        return node
    names = [f"{node.outputs[0]}/{k}" for k in (0, 1)]
    constants |= zip(names, (arrays[0].reshape(targets, -1), arrays[1]), strict=True)
    names = names[: 1 + (arrays[1].size > 0)]
    return node._replace(op="Gemm", inputs=(node.inputs[0], *names), attributes={"transB": 1}, domain="")


def _array(proto: Any) -> NDArray[Any]:
    from onnx import TensorProto, numpy_helper

    if proto.data_location == TensorProto.EXTERNAL:
        raise ValueError(
            f"from_onnx: {proto.name!r}: needs its numbers in the model, got them in another file; give the path of "
            "the model, so that the file beside it is found"
        )
    try:
        return np.asarray(numpy_helper.to_array(proto))
    except Exception as error:  # KeyError for a type, ValueError for a size, and others
        raise ValueError(f"from_onnx: {proto.name!r}: needs an array that is whole, got a damaged one") from error


def _input(proto: Any) -> Input:
    from onnx import TensorProto

    tensor = proto.type.tensor_type
    sizes = [size.dim_value if size.dim_value > 0 else None for size in tensor.shape.dim] or [None]
    shape = tuple(size for size in sizes[1:] if size is not None)
    known = shape if shape and len(shape) == len(sizes) - 1 else None
    names = {number: name.lower() for name, number in TensorProto.DataType.items()}
    return Input(proto.name, names.get(tensor.elem_type, "unknown"), sizes[0], known)


def _node(proto: Any, passed: Mapping[str, str]) -> Node:
    """Return a node that reads of results that were passed on what they are."""
    from onnx import helper

    attributes = {each.name: _shortest(helper.get_attribute_value(each)) for each in proto.attribute}
    outputs = tuple(name for name in proto.output if name)
    inputs = tuple(passed.get(name, name) for name in proto.input)
    return Node(proto.op_type, proto.name, inputs, outputs, attributes, proto.domain, proto)


def _shortest(value: Any) -> Any:
    """Return a float of an attribute, which is a float32 in the file, as the decimal that was meant: 0.01."""
    return float(shortest(np.float32(value))) if isinstance(value, float) else value
