"""Estimators for skl2onnx, which asks a model that it does not know for these three methods.

So nothing has to be registered, and skl2onnx is not imported, before it converts the first of them, whichever of the
two libraries is imported first. Its options are known by class: these are registered then, or by `register_skl2onnx`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from backprop.base import checks as check
from backprop.export import nodes
from backprop.export.graph import Graph
from backprop.sklearn.packing import layers_of, sizes_of

_OPTIONS = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
_classes: list[type] = []


class Convertible:
    """What skl2onnx asks of an estimator."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        _classes.append(cls)

    def onnx_parser(self) -> Callable[..., Any]:
        """Return what tells skl2onnx the outputs."""
        register_skl2onnx()
        return lambda scope=None, inputs=None: _outputs(self, scope, inputs)

    def onnx_shape_calculator(self) -> Callable[..., Any]:
        """Return what tells skl2onnx the types and shapes of the outputs."""
        return _set_shapes

    def onnx_converter(self) -> Callable[..., Any]:
        """Return what adds the nodes to skl2onnx's model."""
        return _convert


def register_skl2onnx() -> None:
    """Register the converters of all estimators of this library with skl2onnx.

    This happens by itself when `backprop.sklearn` is imported after skl2onnx, and when skl2onnx converts the first of
    these estimators, in a pipeline too. Call it if skl2onnx is imported later and the first one is part of an ensemble
    such as scikit-learn's ``VotingClassifier``.

    Raises
    ------
    ImportError
        Without skl2onnx.

    Examples
    --------
    >>> from backprop.sklearn import register_skl2onnx
    >>> register_skl2onnx()  # doctest: +SKIP
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError(f"register_skl2onnx: needs skl2onnx, pip install skl2onnx ({error})") from error
    from sklearn.base import ClassifierMixin

    for cls in _classes:
        options = _OPTIONS if issubclass(cls, ClassifierMixin) or cls.__name__ == "FleetSearchCV" else None
        update_registered_converter(
            cls, f"Backprop{cls.__name__}", _set_shapes, _convert, parser=_parse, options=options
        )


def register_if_imported() -> None:
    """Register the converters where skl2onnx is imported already."""
    if "skl2onnx" in sys.modules:
        register_skl2onnx()


# --- what skl2onnx calls -------------------------------------------------------------------------------------------


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Add an estimator to what is to be converted: skl2onnx's own parser for the option zipmap would add to it."""
    from skl2onnx._parse import _parse_sklearn_simple_model

    return _parse_sklearn_simple_model(scope, model, inputs, custom_parsers)


def _outputs(model: Any, scope: Any, inputs: Any) -> list[Any]:
    """Declare the outputs: predictions; or labels and what the option zipmap says of the probabilities."""
    from skl2onnx.common import data_types as types

    real = types.guess_tensor_type(inputs[0].type)
    if not hasattr(_fitted(model), "classes_"):
        return [scope.declare_local_variable("variable", real)]
    zipmap = scope.get_options(model, {"zipmap": True})["zipmap"]
    if zipmap is False or _fitted(model)._multilabel:
        names = [("label", types.Int64TensorType()), ("probabilities", real)]
    elif zipmap == "columns":
        labels = _labels(model, scope)
        columns = [f"{'i' if labels.dtype.kind == 'i' else 's'}{each}" for each in labels]
        names = [("output_label", types.Int64TensorType()), *((name, real) for name in columns)]
    else:
        kind = types.StringTensorType if _labels(model, scope).dtype.kind == "O" else types.Int64TensorType
        maps = types.SequenceType(types.DictionaryType(kind([1]), types.FloatTensorType([])))
        names = [("output_label", kind()), ("output_probability", maps)]
    return [scope.declare_local_variable(*each) for each in names]


def _set_shapes(operator: Any) -> None:
    """Set the types and shapes of the outputs."""
    from skl2onnx.common import data_types as types

    model = _fitted(operator.raw_operator)
    n = operator.inputs[0].get_first_dimension()
    if not hasattr(model, "classes_"):
        operator.outputs[0].set_type(types.guess_tensor_type(operator.inputs[0].type).__class__([n, _width(model)]))
        return
    label, *rest = operator.outputs
    if model._multilabel:
        label.set_type(types.Int64TensorType([n, len(model.classes_)]))
    else:
        text = _labels(operator.raw_operator, operator.scope_inst).dtype.kind == "O"
        label.set_type((types.StringTensorType if text else types.Int64TensorType)([n]))
    if len(rest) > 1:
        for column in rest:
            column.type.shape = [n]
    elif not isinstance(rest[0].type, types.SequenceType):
        rest[0].type.shape = [n, len(model.classes_)]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an estimator to the model that skl2onnx makes."""
    from onnx.helper import np_dtype_to_tensor_dtype
    from skl2onnx.common import data_types as types

    model = _fitted(operator.raw_operator)
    double = isinstance(operator.inputs[0].type, types.DoubleTensorType)
    graph = Graph(np.float64 if double else np.float32)
    rows = graph.add("Cast", operator.inputs[0].full_name, to=np_dtype_to_tensor_dtype(graph.dtype))
    if hasattr(model, "classes_"):
        labels = None if model._multilabel else _labels(operator.raw_operator, scope)
        found = _labels_and_probabilities(graph, model, labels, rows, operator.outputs)
    else:
        found = [_mean(graph, [_network(graph, member, rows) for member in _members(model)])]
    _write(graph, found, scope, operator, container)


def _write(graph: Graph, found: list[str], scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of a graph, under names that are free; the outputs of the operator are those `found`."""
    from onnx.helper import np_dtype_to_tensor_dtype
    from onnx.onnx_pb import TensorProto

    free = {each.full_name: each.full_name for each in operator.inputs}
    free |= {name: output.full_name for name, output in zip(found, operator.outputs, strict=True)}
    for name, array in graph.constants.items():
        free[name] = scope.get_unique_variable_name(name)
        text = array.dtype.kind == "O"
        kind = TensorProto.STRING if text else np_dtype_to_tensor_dtype(array.dtype)
        values = [each.encode() for each in array] if text else array.ravel()
        container.add_initializer(free[name], kind, array.shape, values)
    for node in graph.nodes:
        free.setdefault(node.output, scope.get_unique_variable_name(node.output))
        container.add_node(
            node.op,
            [free[name] for name in node.inputs],
            [free[node.output]],
            op_domain=node.domain,
            op_version=1 if node.domain else None,  # ZipMap is the only one
            name=scope.get_unique_operator_name(node.op),
            **node.attributes,
        )


# --- estimators as graphs ------------------------------------------------------------------------------------------


def _fitted(model: Any) -> Any:
    """Return the estimator that predicts: of a search the best one."""
    best = getattr(model, "best_estimator_", model)
    if not isinstance(best, Convertible):
        raise ValueError(
            f"{type(model).__name__}: needs an estimator of backprop.sklearn as the best one for ONNX, got "
            f"{check.shown(best)}; convert search.best_estimator_ itself"
        )
    return best


def _members(model: Any) -> list[Any]:
    return list(getattr(model, "estimators_", (model,)))


def _width(model: Any) -> int:
    return int(_members(model)[0].coefs_[-1].shape[1])


def _labels(model: Any, scope: Any) -> Any:
    """Return the classes as ONNX can hold them: int64, or text as objects."""
    found = _fitted(model).classes_
    if scope.get_options(model, {"nocl": False})["nocl"]:
        return np.arange(len(found))
    if found.dtype.kind in "biu":
        return found.astype(np.int64)
    if found.dtype.kind == "f" and np.array_equal(found, found.astype(np.int64)):
        return found.astype(np.int64)
    if all(isinstance(each, str) for each in found):
        return np.array(found, object)
    raise ValueError(  # a TypeError would be taken for a wrong signature of the parser
        f"{type(model).__name__}: needs classes that are integers or texts for ONNX, got {check.shown(found)}; the "
        "option nocl=True gives their numbers"
    )


def _network(graph: Graph, model: Any, rows: str) -> str:
    """Add the network of an estimator and return its outputs."""
    sizes = sizes_of(model.coefs_)
    n_hidden = len(sizes) - 2
    stack = layers_of(sizes[1:], model._activations(n_hidden), 0.0, (0.0,) * n_hidden)
    return nodes.layers(graph, sizes[0], stack, model._packed(sizes, graph.dtype), rows)


def _mean(graph: Graph, each: list[str]) -> str:
    """Add the mean of arrays."""
    if len(each) == 1:
        return each[0]
    return graph.add("Div", graph.add("Sum", *each), graph.number(len(each)))


def _probabilities(graph: Graph, member: Any, model: Any, rows: str) -> str:
    """Add the probabilities that a member gives to the classes, or labels, of the whole."""
    outputs = _network(graph, member, rows)
    if model._multilabel:
        return outputs
    if len(member.classes_) == 1:
        zeros = graph.add("Mul", outputs, graph.number(0))
        outputs = graph.add("Add", zeros, graph.number(1))
    elif len(member.classes_) == 2:
        outputs = graph.add("Concat", graph.add("Sub", graph.number(1), outputs), outputs, axis=1)
    if len(member.classes_) == len(model.classes_):
        return outputs
    places = np.zeros((len(member.classes_), len(model.classes_)))
    places[np.arange(len(member.classes_)), np.searchsorted(model.classes_, member.classes_)] = 1
    return graph.add("MatMul", outputs, graph.array("places", places))


def _labels_and_probabilities(graph: Graph, model: Any, labels: Any, rows: str, outputs: Any) -> list[str]:
    """Add labels and probabilities, these in the form of the outputs that were declared."""
    from onnx.onnx_pb import TensorProto
    from skl2onnx.common import data_types as types

    mean = _mean(graph, [_probabilities(graph, member, model, rows) for member in _members(model)])
    if model._multilabel:
        return [graph.add("Cast", graph.add("Greater", mean, graph.number(0.5)), to=TensorProto.INT64), mean]
    classes = graph.array("classes", labels, labels.dtype)
    decided = graph.add("Gather", classes, graph.add("ArgMax", mean, axis=1, keepdims=0))
    if len(outputs) > 2:
        numbers = (graph.array("column", k, np.int64) for k in range(len(labels)))
        return [decided, *(graph.add("Gather", mean, number, axis=1) for number in numbers)]
    if isinstance(outputs[1].type, types.SequenceType):
        keys = {"classlabels_strings": list(labels)} if labels.dtype.kind == "O" else {"classlabels_int64s": labels}
        real = graph.add("Cast", mean, to=TensorProto.FLOAT)  # the operator has no other
        return [decided, graph.add("ZipMap", real, domain="ai.onnx.ml", **keys)]
    return [decided, mean]
