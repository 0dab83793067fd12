"""What each node of a model of ONNX means for a network: scores, scales and shifts, or numbers that move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.export.graph import ML
from backprop.importing.onnx_activations import Activated, activations
from backprop.importing.onnx_graph import MOST_NUMBERS, Input, Node, OnnxGraph, n_numbers
from backprop.importing.onnx_rows import NOTHING_YET, Affine, Layer, picked
from backprop.importing.stack import LOG_SOFTMAX
from backprop.reference.activations import ACTIVATIONS

_Value: TypeAlias = "Affine | NDArray[Any]"
_ANY_ROWS = 7
"""rows that stand for any number of them; a model that picks some means fewer"""
_NUMBERS = ("float", "double", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""the types of inputs"""


class Read(NamedTuple):
    """What a graph is for a network: its inputs in their order, and the last layer, which knows those before it."""

    inputs: tuple[Input, ...]
    layer: Layer


def read_layers(graph: OnnxGraph, end: str) -> Read:
    """Return the layers that give the result `end` of a graph; ValueError names the node that no network has."""
    activated = activations(graph)
    needed, where = _needed(graph, end, activated), end
    inputs = tuple(each for each in graph.inputs if each.name in needed)
    values: dict[str, _Value] = _columns_of(graph, inputs)
    for node in graph.nodes:
        for name in (name for name in node.outputs if name in needed):
            where = str(node)
            if name in activated:
                scores, activation, slopes = activated[name]
                rows = _rows(node, values[scores])
                if activation[0] == "softmax" and len(rows.shape) != 1:
                    raise ValueError(f"{where}: needs flat rows, got rows {rows.shape}")
                values[name] = Affine.of(rows.closed(where, activation, slopes), rows.shape)
            elif name not in values:
                values |= zip(node.outputs, _given(graph, node, values), strict=False)
    found = values.get(end)
    if not isinstance(found, Affine):
        raise ValueError(f"from_onnx: needs an output that depends on the numbers of inputs, got {end!r}")
    return Read(inputs, found.closed(where))


def _columns_of(graph: OnnxGraph, inputs: Sequence[Input]) -> dict[str, _Value]:
    """Return the inputs of the network by their names; of several, the columns follow one another."""
    for each in inputs:
        if each.type not in _NUMBERS:
            raise ValueError(f"from_onnx: needs numbers as inputs, got {each.name!r} of type {each.type}")
    shapes = [each.shape or (_width(graph, each.name),) for each in inputs]
    sizes = [int(np.prod(shape)) for shape in shapes]
    stops, everything = np.cumsum(sizes), Affine.of(Layer(sum(sizes)))
    return {
        each.name: picked([everything], np.arange(stop - size, stop).reshape(shape))
        for each, shape, size, stop in zip(inputs, shapes, sizes, stops, strict=True)
    }


def _width(graph: OnnxGraph, name: str) -> int:
    """Return how many columns an input has of which the file does not say it, from the constants beside it."""
    for node in graph.readers.get(name, ()):
        sizes = [graph.constants[each].shape for each in node.inputs if each in graph.constants]
        if node.op in ("Gemm", "MatMul") and sizes and len(sizes[0]) in (1, 2):
            return int(sizes[0][1 if node.attributes.get("transB") else 0])
        if node.op == "Scaler":
            sizes = [np.shape(node.attributes.get("offset", ())), np.shape(node.attributes.get("scale", ()))]
        if node.op in (*_ELEMENTWISE, "BatchNormalization", "Scaler"):
            largest = max((int(np.prod(size)) for size in sizes), default=1)
            if largest > 1:
                return largest
        if node.op in (*_KEEPING, *_MOVING, *_ELEMENTWISE, "Scaler") and node.op not in ("Gather", "Slice", "Split"):
            return _width(graph, node.outputs[0])
    raise ValueError(f"from_onnx: needs the number of columns of {name!r} in the file, got none")


def _needed(graph: OnnxGraph, end: str, activated: Mapping[str, Activated]) -> set[str]:
    """Return the results that lead to `end`, without those inside of an activation."""
    writers = {name: node for node in graph.nodes for name in node.outputs}
    needed: set[str] = set()
    open_ones = [end]
    while open_ones:
        name = open_ones.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in activated:
            open_ones.append(activated[name].scores)
        elif name in writers:
            open_ones += graph.varying(writers[name])
    return needed


def _given(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> Sequence[_Value]:
    """Return what a node gives."""
    read = {name: values[name] for name in graph.varying(node)}
    known = {name: each for name, each in read.items() if not isinstance(each, Affine)}
    if len(known) == len(read):
        return graph.run(node, known)
    if node.op == "Shape":
        shape = (_n_rows(graph, 1), *_first(graph, node, read).shape)
        return [np.array(shape[node.attributes.get("start", 0) : node.attributes.get("end")], np.int64)]
    step = _STEPS.get(node.op)
    if step is None or node.domain not in ("", ML):
        early = any(
            each.source.before is None and each.weights is None for each in read.values() if isinstance(each, Affine)
        )
        way = "; export the network alone, without the steps of a pipeline before it" if early else ""
        way = LOG_SOFTMAX if node.op == "LogSoftmax" else way
        raise ValueError(
            f"{node}: needs Gemm, MatMul and Add with constants, one of {', '.join(_NAMED)}, or one of the "
            f"activations {', '.join(ACTIVATIONS)}; got nodes that are none of them{way}"
        )
    return step(graph, node, read)


def _n_rows(graph: OnnxGraph, n_columns: int) -> int:
    """Return how many rows stand for any number of them: those that the file fixes, as a node may count them."""
    fixed = max((each.n_rows for each in graph.inputs if each.n_rows is not None), default=_ANY_ROWS)
    return fixed if fixed * n_columns < MOST_NUMBERS else _ANY_ROWS


def _rows(node: Node, value: _Value) -> Affine:
    if not isinstance(value, Affine):
        raise ValueError(f"{node}: needs what the inputs decide, got a constant")
    return value


# --- the operators -------------------------------------------------------------------------------------------------


def _first(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> Affine:
    """Return the rows that a node reads first; ValueError where they are somewhere else."""
    if node.inputs[0] not in values:
        raise ValueError(f"{node}: needs rows times weights, got another product")
    return _rows(node, values[node.inputs[0]])


def _constant(graph: OnnxGraph, node: Node, values: Mapping[str, _Value], place: int) -> NDArray[Any] | None:
    """Return a constant that a node reads, None where it reads none; ValueError where it is computed."""
    name = node.inputs[place] if place < len(node.inputs) else ""
    if not name:
        return None
    found = graph.constants.get(name, values.get(name))
    if found is None or isinstance(found, Affine):
        what = "weights" if node.op in ("Gemm", "MatMul") else "numbers"
        raise ValueError(f"{node}: needs constant {what} as input {place}, got {name!r}, which depends on inputs")
    return found


def _product(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    """``rows @ weights``, for Gemm with biases."""
    settings = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0} | node.attributes
    rows, weights = _first(graph, node, values), _constant(graph, node, values, 1)
    if settings["transA"] or weights is None:
        raise ValueError(f"{node}: needs rows times weights, got another product")
    weights = weights.T if settings["transB"] else weights
    is_vector = weights.ndim == 1 and node.op == "MatMul"
    if not (is_vector or weights.ndim == 2) or rows.shape != weights.shape[:1]:
        raise ValueError(
            f"{node}: needs weights ({rows.size}, n) for flat rows, got {weights.shape} for rows {rows.shape}"
        )
    if is_vector:  # one number for each row, without an axis of its own
        return [replace(rows.times(str(node), weights[:, None], None), shape=())]
    if settings["alpha"] != 1:
        weights = weights * weights.dtype.type(settings["alpha"])
    biases = _constant(graph, node, values, 2) if node.op == "Gemm" else None
    if biases is not None:
        biases = _columns(node, biases, weights.shape[1:])
        biases = biases if settings["beta"] == 1 else biases * biases.dtype.type(settings["beta"])
    return [rows.times(str(node), weights, biases)]


def _columns(node: Node, constant: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a constant as one number for each column of rows of that shape; ValueError where it is none."""
    try:
        found = np.broadcast_to(constant, (1, *shape))
    except ValueError:
        raise ValueError(
            f"{node}: needs a number for each of {int(np.prod(shape))} columns, or one for all, got an array of shape "
            f"{constant.shape}"
        ) from None
    return found.reshape(-1)


def _elementwise(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    """Add, Sub, Mul and Div of rows and a constant."""
    swapped = node.inputs[0] not in values or not isinstance(values[node.inputs[0]], Affine)
    place = 0 if swapped else 1
    rows = _rows(node, values[node.inputs[1 - place]])
    other = _constant(graph, node, values, place)
    if other is None or (node.op == "Div" and (swapped or not np.issubdtype(other.dtype, np.floating))):
        raise ValueError(f"{node}: needs rows divided by constants that are no whole numbers, got another quotient")
    by, dtype = _columns(node, other, rows.shape).astype(np.float64), _dtype(other)
    if node.op == "Mul":
        return [rows.scaled(by, dtype)]
    if node.op == "Div":
        with np.errstate(divide="ignore", over="ignore"):
            scales = 1 / by
        if not (finite := np.isfinite(scales)).all():
            raise ValueError(f"{node}: needs numbers to divide by whose inverses are finite, got {by[~finite][0]:g}")
        return [rows.scaled(scales, dtype)]
    if node.op == "Sub" and swapped:
        return [rows.scaled(-1, dtype).shifted(by, dtype)]
    return [rows.shifted(-by if node.op == "Sub" else by, dtype)]


def _dtype(constant: NDArray[Any]) -> Any:
    """Return in what a constant lets a network compute; whole numbers do not say it."""
    return constant.dtype if np.issubdtype(constant.dtype, np.floating) else NOTHING_YET


def _negative(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    return [_first(graph, node, values).scaled(-1, NOTHING_YET)]


def _scaler(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    """``(rows - offset) * scale``."""
    rows = _first(graph, node, values)
    given = np.array(node.attributes.get("offset", [0.0])), np.array(node.attributes.get("scale", [1.0]))
    offset, scale = (_columns(node, each, rows.shape) for each in given)
    return [rows.shifted(-offset, np.float32).scaled(scale, np.float32)]


def _batch_normalization(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    """``(rows - mean) / sqrt(variance + epsilon) * scale + shift``, with the mean and variance of training."""
    rows = _first(graph, node, values)
    if node.attributes.get("training_mode"):
        raise ValueError(f"{node}: needs the statistics of training, got training_mode=1; export in evaluation mode")
    own = [array for place in (1, 2, 3, 4) if (array := _constant(graph, node, values, place)) is not None]
    each = rows.size // rows.shape[0]  # a picture has a number for each channel
    scale, shift, mean, variance = (np.repeat(_columns(node, a, rows.shape[:1]).astype(np.float64), each) for a in own)
    epsilon = np.float64(np.float32(node.attributes.get("epsilon", 1e-5)))  # an attribute is a float32
    factor = scale / np.sqrt(variance + epsilon)
    return [rows.scaled(factor, own[0].dtype).shifted(shift - mean * factor, own[0].dtype)]


def _kept(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    """What changes no number in evaluation mode, if it is that."""
    rows = _first(graph, node, values)
    if node.op == "Cast":
        raise ValueError(f"{node}: needs a cast to float32 or float64, got one to another type")
    if node.op == "Dropout" and (mode := _constant(graph, node, values, 2)) is not None and mode.any():
        raise ValueError(f"{node}: needs training_mode=0, got 1; export in evaluation mode")
    return [rows] * len(node.outputs)


def _moved(graph: OnnxGraph, node: Node, values: Mapping[str, _Value]) -> list[_Value]:
    """What moves numbers within each row: it is run on their places."""
    parts = {name: each for name, each in values.items() if isinstance(each, Affine)}
    if len({part.source for part in parts.values()}) > 1:
        raise ValueError(f"{node}: needs columns that one layer gives, got those of several layers")
    moving = node.inputs if node.op == "Concat" else node.inputs[:1]
    for name in node.inputs:
        if name and (name in parts) != (name in moving):
            what = "which depends on inputs" if name in parts else "a constant"
            raise ValueError(f"{node}: needs columns that inputs decide, moved by constants, got {name!r}, {what}")
    total = sum(part.size for part in parts.values())
    n_rows = _n_rows(graph, total)
    shapes = {name: graph.constants[name].shape for name in node.inputs if name in graph.constants}
    shapes |= {name: (1, *each.shape) if isinstance(each, Affine) else each.shape for name, each in values.items()}
    if (n := max(total, n_numbers(node, shapes))) > MOST_NUMBERS // n_rows:
        raise ValueError(f"{node}: needs a result of at most {MOST_NUMBERS // n_rows:,} columns, got {n:,}")
    starts = np.arange(n_rows) * total
    stops = np.cumsum([part.size for part in parts.values()])
    places = {
        name: np.stack([np.arange(start + stop - part.size, start + stop).reshape(part.shape) for start in starts])
        for (name, part), stop in zip(parts.items(), stops, strict=True)
    }
    others = {name: each for name, each in values.items() if not isinstance(each, Affine)}
    found: list[_Value] = []
    for moved in graph.run(node, {**others, **places}):
        apart = moved.ndim > 0 and len(moved) == len(starts)
        if not apart or any((row != moved[0] + start).any() for row, start in zip(moved, starts, strict=True)):
            raise ValueError(f"{node}: needs rows that stay apart, got one that has numbers of another")
        found.append(picked(list(parts.values()), moved[0]))
    return found


_Step: TypeAlias = "Callable[[OnnxGraph, Node, Mapping[str, _Value]], list[_Value]]"
_KEEPING = ("Cast", "Dropout")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
_MOVING = ("ArrayFeatureExtractor", "Concat", "Flatten", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
           "Unsqueeze")  # fmt: skip
_NAMED = ("Sub", "Mul", "Div", "Neg", "Scaler", "BatchNormalization", *_KEEPING, *_MOVING)
"""the operators in messages, beside Gemm, MatMul and Add"""
_STEPS: Mapping[str, _Step] = {
    "Gemm": _product,
    "MatMul": _product,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "Neg": _negative,
    "Scaler": _scaler,
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(_KEEPING, _kept),
    **dict.fromkeys(_MOVING, _moved),
}
