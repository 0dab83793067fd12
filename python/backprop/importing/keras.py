"""Models of Keras as networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from backprop.base import checks as check
from backprop.importing.stack import Named, Stack, named, need
from backprop.network import Network

_SCALING = ("BatchNormalization", "Normalization", "Rescaling")
_KERAS_NAMES = {"linear": "identity", "exponential": "exp", "swish": "silu", "hard_silu": "hard_swish"}


def from_keras(
    model: Any, *, output: str | None = None, seed: int | None = None, backend: str | None = None
) -> Network:
    """Return a network with the weights of a Keras ``Sequential`` model, or of a functional one that is a chain.

    Parameters
    ----------
    model
        Its layers are ``Dense``, ``Activation``, ``ReLU``, ``LeakyReLU``, ``ELU``, ``Softmax`` (at the end),
        ``Dropout`` behind them, ``InputLayer`` and ``Flatten``; built, so that there are weights.
    output
        An activation for the scores of the last layer, where the model leaves it to its loss (``from_logits=True``):
        ``"softmax"`` or ``"sigmoid"``. None keeps what the model has.
    seed, backend
        See `Network`. The seed decides the order of the rows in further training.

    Returns
    -------
    Network
        It predicts what ``model.predict`` gives for the same rows. Kernel regularizers (L1, L2), ``MaxNorm``, dropout
        and ``trainable`` are taken over; Keras's ``L2(c)`` is ``l2=2 * c`` here.

    Raises
    ------
    TypeError, ValueError
        If the model has a part that a dense network cannot represent; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> import keras  # doctest: +SKIP
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.2),
    ...                           keras.layers.Dense(3, "softmax")])  # doctest: +SKIP
    >>> bp.from_keras(model, seed=0)  # doctest: +SKIP
    Network(4, [Dense(16, 'relu', dropout=0.2), Dense(3, 'softmax')], dtype='float32', seed=0)
    """
    is_sequential = type(model).__name__ == "Sequential" and hasattr(model, "layers")
    if isinstance(model, type) or not (is_sequential or hasattr(model, "get_config")):
        raise TypeError(
            f"model: needs a model of Keras, got {check.shown(model)}; keras.models.load_model reads a file"
        )
    stack = Stack()
    for where, layer in _keras_parts("model", model):
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "Dense":
            arrays = layer.get_weights()
            if len(arrays) != 1 + config["use_bias"]:
                wanted = "a kernel and a bias" if config["use_bias"] else "a kernel"
                raise ValueError(
                    f"{where}: needs {wanted}, got {len(arrays)} arrays; a model that is not built yet has none"
                )
            stack.dense(where, arrays[0], arrays[1] if config["use_bias"] else None, **_keras_settings(where, config))
            stack.activation(where, _keras_activation(where, config["activation"]))
        elif kind == "Dropout":
            if config.get("noise_shape") is not None:
                raise ValueError(f"{where}: needs noise_shape=None, got {config['noise_shape']}")
            stack.dropout(where, config["rate"])
        elif kind == "Activation":
            stack.activation(where, _keras_activation(where, config["activation"]))
        elif kind == "PReLU":
            (slopes,) = layer.get_weights()
            stack.activation(where, ("prelu", None), slopes, bool(config.get("trainable", True)))
        elif kind in _KERAS_ACTIVATIONS:
            stack.activation(where, _KERAS_ACTIVATIONS[kind](where, config))
        elif kind not in ("InputLayer", "Flatten"):  # rows are flat already
            known = ["Dense", "Activation", *_KERAS_ACTIVATIONS, "PReLU", "Dropout", "InputLayer", "Flatten"]
            way = "; model.export(format='onnx') and from_onnx put it into the weights" if kind in _SCALING else ""
            raise TypeError(f"{where}: needs one of {', '.join(known)}, got {kind}{way}")
    return stack.network(output, seed, backend)


def _keras_parts(where: str, model: Any) -> Iterator[tuple[str, Any]]:
    """Go through a model and the models in it, each layer with its place."""
    if not isinstance(layers := getattr(model, "layers", None), Iterable):
        yield where, model
        return
    if type(model).__name__ != "Sequential" and not _is_chain(model):
        raise TypeError(f"{where}: needs a Sequential model or a chain of layers, got {type(model).__name__}")
    for k, layer in enumerate(layers):
        yield from _keras_parts(f"{where}.layers[{k}]", layer)


def _is_chain(model: Any) -> bool:
    """Say whether each layer of a functional model is called once, on the outputs of the one before it."""
    described = model.get_config().get("layers", [])
    sources = [_keras_sources(layer.get("inbound_nodes")) for layer in described]
    return bool(described) and sources == [[], *([layer["name"]] for layer in described[:-1])]


def _keras_sources(node: Any) -> list[str]:
    """Return the names of the layers whose outputs are arguments in these nodes."""
    if isinstance(node, Mapping):
        if "keras_history" in node:
            return [str(node["keras_history"][0])]
        return [name for value in node.values() for name in _keras_sources(value)]
    if isinstance(node, (list, tuple)):
        return [name for value in node for name in _keras_sources(value)]
    return []


def _keras_activation(where: str, described: Any) -> Named:
    """Return what an ``activation=`` means: a name, or a layer as Keras writes it into a configuration."""
    if isinstance(described, Mapping) and described.get("class_name") in _KERAS_ACTIVATIONS:
        return _KERAS_ACTIVATIONS[described["class_name"]](where, described.get("config", {}))
    return named(where, described, _KERAS_NAMES, {"leaky_relu": 0.2, "elu": 1.0}.get(str(described)))


def _keras_slope(config: Mapping[str, Any], default: float) -> float:
    return float(config.get("negative_slope", config.get("alpha", default)))


def _keras_relu(where: str, config: Mapping[str, Any]) -> Named:
    need(where, "max_value", config.get("max_value"), None, 6)
    need(where, "threshold", config.get("threshold", 0.0), 0.0)
    slope = _keras_slope(config, 0.0)
    if config.get("max_value") is not None:
        need(where, "negative_slope", slope, 0.0)
        return "relu6", None
    return ("leaky_relu", slope) if slope else ("relu", None)


def _keras_softmax(where: str, config: Mapping[str, Any]) -> Named:
    need(where, "axis", config.get("axis", -1), -1, 1)
    return "softmax", None


_KERAS_ACTIVATIONS: Mapping[str, Callable[[str, Mapping[str, Any]], Named]] = {
    "ReLU": _keras_relu,
    "LeakyReLU": lambda where, config: ("leaky_relu", _keras_slope(config, 0.3)),
    "ELU": lambda where, config: ("elu", float(config.get("alpha", 1.0))),
    "Softmax": _keras_softmax,
}


def _keras_settings(where: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a Dense layer of Keras is told beside its shape and activation."""
    for name in ("bias_regularizer", "activity_regularizer", "bias_constraint"):
        need(where, name, config.get(name), None)
    settings: dict[str, Any] = {}
    if (penalty := config.get("kernel_regularizer")) is not None:
        need(where, "kernel_regularizer", penalty["class_name"], "L1", "L2", "L1L2")
        settings["l1"] = float(penalty["config"].get("l1", 0.0))
        settings["l2"] = 2 * float(penalty["config"].get("l2", 0.0))
    if (bound := config.get("kernel_constraint")) is not None:
        need(where, "kernel_constraint", bound["class_name"], "MaxNorm")
        need(where, "axis", bound["config"].get("axis", 0), 0)
        settings["max_norm"] = float(bound["config"]["max_value"])
    trainable = bool(config.get("trainable", True))
    return {**settings, "trainable": trainable, "bias_trainable": trainable}
