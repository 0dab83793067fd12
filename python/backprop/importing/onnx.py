"""Models of ONNX as networks, where they are a chain of dense layers and activations."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from backprop.base import checks as check
from backprop.base.atomic import path_name
from backprop.export.onnx import package
from backprop.importing.onnx_graph import Node, OnnxGraph
from backprop.importing.onnx_steps import read_layers
from backprop.importing.stack import Stack
from backprop.network import Network

_OF_CLASSIFIERS = ("ArgMax", "ArrayFeatureExtractor", "Binarizer", "Cast", "Gather", "Greater", "Identity", "Reshape",
                   "Slice", "ZipMap")  # fmt: skip
"""what makes labels and tables of probabilities of a network's outputs"""


def from_onnx(model: Any, *, output: str | None = None, seed: int | None = None, backend: str | None = None) -> Network:
    """Return a network with the weights of a model of ONNX that is a chain of dense layers.

    Parameters
    ----------
    model
        A file, the bytes of one, or an ``onnx.ModelProto``. Its nodes are ``Gemm``, ``LinearRegressor`` or ``MatMul``
        and ``Add`` with constant weights, and the activations as `Network.to_onnx`, PyTorch, skl2onnx and others write
        them. What is linear beside a product goes into the weights: ``Sub``, ``Div``, ``Mul``, ``Scaler`` and
        ``BatchNormalization``, as scalers and norms are written, and what picks or moves columns, such as ``Gather``,
        ``Concat``, ``Flatten`` and ``Transpose``. ``Identity``, ``Cast`` and ``Dropout`` are passed over, and so is
        an ``Imputer`` of NaN, which `Network.predict` refuses. Inputs are rows of numbers; several inputs are columns,
        in their order, and name the features. There is one output, or several that are labels and probabilities of one
        network, as skl2onnx writes a classifier.
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
        only training needs are not in such a file. Outputs that are scaled behind their activation, and two products
        without one between them, get a layer of their own. The dtype is that of the weights; but float64 where a
        scaler moves an input by over 100 times what it divides by, such as a year, for float32 would lose digits.

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
    proto, stack = _read(model), Stack()
    graph = OnnxGraph.of(proto)
    read = read_layers(graph, _end(graph))
    read.layer.put_on(stack)
    network = stack.network(output, seed, backend)
    names = {entry.key: entry.value for entry in proto.metadata_props}.get("feature_names")
    if names is not None:
        network.feature_names = json.loads(names)
    elif len(read.inputs) > 1 and len(read.inputs) == network.n_inputs:
        network.feature_names = [each.name for each in read.inputs]
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
        return _checked(onnx, path, file.read(), os.path.dirname(os.path.abspath(path)))


def _checked(onnx: Any, name: str, data: bytes, folder: str | None = None) -> Any:
    """Return the model that these bytes are, with what lies beside it in a folder; messages begin with the name."""
    try:
        found = onnx.load_model_from_string(data)
        if folder is not None:
            onnx.load_external_data_for_model(found, folder)
        if not any(each.data_location == onnx.TensorProto.EXTERNAL for each in found.graph.initializer):
            onnx.checker.check_model(found)
    except Exception as error:  # protobuf's and onnx's have no class in common
        raise ValueError(f"{name}: not a valid model of ONNX: {str(error).partition(chr(10))[0]}") from error
    return found


def _end(graph: OnnxGraph) -> str:
    """Return the result that the network gives: the output, or of what all outputs of a classifier are made."""
    for node in graph.nodes:
        if node.op.endswith("Classifier"):
            raise ValueError(f"{node}: needs Gemm or MatMul and activations, got a classifier in one node")
    if len(graph.outputs) == 1:
        return graph.outputs[0]
    writers = {name: node for node in graph.nodes for name in node.outputs}
    ends = dict.fromkeys(_before_a_classifier(graph, name, writers) for name in graph.outputs)
    if len(ends) != 1:
        raise ValueError(
            f"from_onnx: needs a model with one output, got {len(graph.outputs)}: {', '.join(graph.outputs)}"
        )
    return next(iter(ends))


def _before_a_classifier(graph: OnnxGraph, output: str, writers: Mapping[str, Node]) -> str:
    """Return of what labels, probabilities or a map of them are made; of two classes, the probability of the second."""
    while (node := writers.get(output)) is not None:
        read = graph.varying(node)
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
