"""A table's model as a model of ONNX: preprocessing, networks and labels in one graph."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.export import nodes
from backprop.export.graph import ML, Graph
from backprop.export.onnx import Port, check_parameters, finished, package
from backprop.network import Network
from backprop.tables import encoders
from backprop.tables.columns import Column
from backprop.tables.encoders import BooleanInput, CategoryInput, DateInput, Input, NumberInput
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.reading import MISSING, UNKNOWN, Values
from backprop.tables.targets import Labels, Target

_DOUBLE = np.dtype(np.float64)


def to_onnx(
    path: str | os.PathLike[str] | None,
    fitted: Preprocessing,
    networks: Mapping[str, Network],
    threshold: float | None,
) -> Any:
    """Return the model of ONNX; see `TableModel.to_onnx`."""
    package()
    for name in {each.name for each in fitted.inputs}.intersection(_names(fitted)):
        raise ValueError(f"to_onnx: column {name!r} has the name of an output; call it something else, and fit again")
    dtype = next(iter(networks.values())).dtype
    graph = Graph(dtype, taken=(*(column.name for column in fitted.columns), *_names(fitted)))
    encoded = [_encoded(graph, each) for each in fitted.inputs]
    X = encoded[0] if len(encoded) == 1 else graph.add("Concat", *encoded, axis=1)
    ports = []
    for target in fitted.targets:
        network = networks[target.name]
        check_parameters(network)
        with graph.within(target.name):
            outputs = nodes.layers(graph, network.n_inputs, network.layers, network.parameters, X)
            ports += _answers(graph, target, outputs, threshold)
    given = [
        Port(each.name, object if isinstance(each, CategoryInput) else _DOUBLE, (None, 1)) for each in fitted.inputs
    ]
    return finished(graph, given, ports, path, {})


def _names(fitted: Preprocessing) -> Iterator[str]:
    """Yield the names of the outputs."""
    for target in fitted.targets:
        yield target.name
        if isinstance(target, Labels):
            yield _probabilities(target)


def _probabilities(target: Labels) -> str:
    return f"{target.name} probabilities"


# --- columns -------------------------------------------------------------------------------------------------------


def _encoded(graph: Graph, how: Input) -> str:
    """Add what encodes a column, (n, 1), and return the name of its inputs of the network, (n, len(inputs))."""
    if isinstance(how, DateInput):
        raise ValueError(
            f"to_onnx: column {how.name!r} holds dates, and ONNX has no calendar; leave it out, with ignore="
            f"[{how.name!r}], or give numbers made of it (a year, an hour) in its place, and fit again"
        )
    with graph.within(how.name):
        if isinstance(how, CategoryInput):
            return _category(graph, how)
        return _number(graph, how) if isinstance(how, NumberInput) else _boolean(graph, how)


def _double(graph: Graph, value: float) -> str:
    """Return a constant of float64: columns are computed in it, as they are here."""
    return graph.array("number", value, _DOUBLE)


def _number(graph: Graph, how: NumberInput) -> str:
    """``(value - center) / scale``, NaN as `fill`; what `NumberInput.write` computes."""
    gone = graph.add("IsNaN", how.name)
    value = graph.add("Where", gone, _double(graph, how.fill), how.name)
    z = graph.add("Div", graph.add("Sub", value, _double(graph, how.center)), _double(graph, how.scale))
    if how.bounded:
        z = graph.add("Clip", z, _double(graph, -encoders.LARGEST), _double(graph, encoders.LARGEST))
        part = graph.add("Div", z, _double(graph, encoders.SOFT))
        root = graph.add("Sqrt", graph.add("Add", _double(graph, 1), graph.add("Mul", part, part)))
        z = graph.add("Div", z, root)
    found = graph.cast(z)
    return graph.add("Concat", found, graph.cast(gone), axis=1) if how.tells_missing else found


def _boolean(graph: Graph, how: BooleanInput) -> str:
    """1 for 1, -1 for 0, 0 for NaN."""
    sides = graph.add("Sub", graph.add("Mul", how.name, _double(graph, 2)), _double(graph, 1))
    return graph.cast(graph.add("Where", graph.add("IsNaN", how.name), _double(graph, 0), sides))


def _category(graph: Graph, how: CategoryInput) -> str:
    """Look up the row of each word in a table of what the encoder gives for all of them; an empty text is missing."""
    codes = np.array([*range(len(how.words)), UNKNOWN, MISSING], np.int32)
    table = encoders.encoded(how, Values(Column(how.name, "category"), codes, how.words), graph.dtype)
    place = graph.add(
        "LabelEncoder",
        how.name,
        domain=ML,
        keys_strings=[*how.words, ""],
        values_int64s=[*range(len(how.words)), len(codes) - 1],
        default_int64=len(codes) - 2,
    )
    flat = graph.add("Reshape", place, graph.array("shape", [-1], np.int64))
    return graph.add("Gather", graph.array("table", table), flat, axis=0)


# --- targets -------------------------------------------------------------------------------------------------------


def _answers(graph: Graph, target: Target, outputs: str, threshold: float | None) -> list[Port]:
    """Add what a target's outputs mean: labels and their probabilities, or quantities."""
    if not isinstance(target, Labels):
        real = graph.add("Cast", outputs, to=graph.code(_DOUBLE))
        scaled = graph.add("Mul", real, _double(graph, target.scale))
        number = graph.add("Add", scaled, _double(graph, target.center))
        if (dtype := target.dtype(graph.dtype)) != _DOUBLE:
            number = graph.cast(number)
        graph.rename(graph.add("Reshape", number, graph.array("shape", [-1], np.int64)), target.name)
        return [Port(target.name, dtype, (None,))]
    graph.rename(graph.add("Identity", outputs), _probabilities(target))
    labels: NDArray[Any] = target.decoded(np.arange(target.n_outputs))
    if labels.dtype.kind == "U":
        labels = labels.astype(object)
    if threshold is None or target.n_outputs != 2:
        decided = graph.add("ArgMax", outputs, axis=1, keepdims=0)
    else:
        chances = graph.add("Gather", outputs, graph.array("positive", target.positive, np.int64), axis=1)
        below = graph.add("Less", chances, graph.number(threshold))
        sides = [graph.array("side", k, np.int64) for k in (1 - target.positive, target.positive)]
        decided = graph.add("Where", below, *sides)
    graph.rename(graph.add("Gather", graph.array("labels", labels, labels.dtype), decided), target.name)
    return [
        Port(target.name, labels.dtype, (None,)),
        Port(_probabilities(target), graph.dtype, (None, target.n_outputs)),
    ]
