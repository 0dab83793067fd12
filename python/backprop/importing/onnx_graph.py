"""The graph of a model of ONNX: its nodes by what they read and write, its constants, and a node run by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_FOLDED = (
    "Add", "Cast", "Concat", "Constant", "DequantizeLinear", "Div", "Gather", "Identity", "Mul", "Neg", "Reciprocal",
    "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
"""of constants they make constants, no larger than those together"""


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
    """A graph whose nodes are in the order in which they can run, without those that change nothing."""

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
        for proto in model.graph.node:
            node = _node(proto, passed)
            if node.op in _FOLDED and all(name in constants for name in node.inputs if name):
                constants |= zip(node.outputs, run(node, constants, opsets), strict=True)
            elif node.op == "Clip" and {"min", "max"} & set(node.attributes):  # as up to version 10 of the operators
                nodes.append(_with_bounds(node, constants))
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

    read = {given: values[name] for given, name in zip(node.proto.input, node.inputs, strict=True) if name}
    graph = helper.make_graph([node.proto], "node", _named(ValueInfoProto, read), _named(ValueInfoProto, node.outputs))
    try:
        found: Any = ReferenceEvaluator(graph, opsets=dict(opsets)).run(None, read)
    except Exception as error:  # of any kind: NumPy's, and the evaluator's own
        raise ValueError(f"{node}: cannot be run: {error}") from error
    return [np.asarray(each) for each in found]


def _named(kind: Any, names: Iterable[str]) -> list[Any]:
    return [kind(name=name) for name in names if name]


def _with_bounds(node: Node, constants: dict[str, NDArray[Any]]) -> Node:
    """Return a Clip that reads its bounds, which are attributes, as constants."""
    names = {name: f"{node.outputs[0]}/{name}" for name in ("min", "max") if name in node.attributes}
    constants |= {given: np.array(node.attributes[name], np.float32) for name, given in names.items()}
    return node._replace(inputs=(node.inputs[0], names.get("min", ""), names.get("max", "")), attributes={})


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
    return float(str(np.float32(value))) if isinstance(value, float) else value
