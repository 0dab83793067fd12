"""Networks as models of ONNX."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backprop.base.atomic import write_atomically
from backprop.export import nodes
from backprop.export.graph import IR_VERSIONS, ML, ML_VERSION, Graph

if TYPE_CHECKING:
    from backprop.model.model import Model

_MOST_BYTES = 2**31 - 2**20
"""what a file of protocol buffers holds, less some room for names"""


class Port(NamedTuple):
    """An input or an output of a graph: the size of each dimension, None for the number of rows."""

    name: str
    dtype: Any
    shape: tuple[int | None, ...]


def to_onnx(model: Model, path: str | os.PathLike[str] | None) -> Any:
    """Write the model of ONNX that computes what `predict` does, or return it; see `Network.to_onnx`."""
    graph = Graph(model.dtype)
    check_parameters(model)
    with_names = {} if model.feature_names is None else {"feature_names": json.dumps(model.feature_names)}
    outputs = nodes.layers(graph, model.n_inputs, model.layers, model.parameters, "X")
    graph.rename(outputs, "outputs")
    given = [Port("X", model.dtype, (None, model.n_inputs))]
    found = [Port("outputs", model.dtype, (None, model.n_outputs))]
    return finished(graph, given, found, path, with_names)


def check_parameters(model: Model) -> None:
    """Raise ValueError unless the parameters are finite and fit into a file."""
    if not np.isfinite(model.parameters).all():
        raise ValueError(
            "to_onnx: needs parameters that are finite, got NaN or infinity; `fit` restores the last finite ones"
        )
    if model.parameters.nbytes > _MOST_BYTES:
        raise ValueError(
            f"to_onnx: needs less than 2 GB of parameters, as a file of ONNX holds, got {model.parameters.nbytes:,} "
            "bytes; Network.save has no such bound"
        )


def finished(
    graph: Graph,
    given: Sequence[Port],
    found: Sequence[Port],
    path: str | os.PathLike[str] | None,
    metadata: Mapping[str, str],
) -> Any:
    """Return a graph as a checked ``onnx.ModelProto``; with a path, write it there and return nothing."""
    onnx = package()
    versions = {"": graph.opset} | ({ML: ML_VERSION} if any(node.domain == ML for node in graph.nodes) else {})
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node(
                    node.op, node.inputs, [node.output], name=node.output, domain=node.domain, **node.attributes
                )
                for node in graph.nodes
            ],
            "backprop",
            [_value(onnx, port) for port in given],
            [_value(onnx, port) for port in found],
            [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()],
        ir_version=IR_VERSIONS[graph.opset],
        producer_name="backprop",
    )
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    if path is None:
        return model
    write_atomically(path, model.SerializeToString())
    return None


def package(caller: str = "to_onnx") -> Any:
    """Return the package `onnx`; ImportError says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"{caller}: needs the package onnx, pip install 'bpcore[onnx]' ({error})") from error
    return onnx


def _value(onnx: Any, port: Port) -> Any:
    text = np.dtype(port.dtype).kind in "OU"
    kind = onnx.TensorProto.STRING if text else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return onnx.helper.make_tensor_value_info(port.name, kind, ["n" if n is None else n for n in port.shape])
