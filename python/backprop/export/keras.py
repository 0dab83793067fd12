"""Networks as models of Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backprop.reference.dense import Dense
from backprop.reference.layout import by_layer, layout

if TYPE_CHECKING:
    from backprop.model.model import Model

NAMES = MappingProxyType(
    {
        "identity": "linear",
        "sigmoid": "sigmoid",
        "tanh": "tanh",
        "relu": "relu",
        "gelu": "gelu",
        "silu": "silu",
        "softplus": "softplus",
        "exp": "exponential",
        "selu": "selu",
        "mish": "mish",
        "softsign": "softsign",
        "relu6": "relu6",
        "hard_tanh": "hard_tanh",
        "hard_sigmoid": "hard_sigmoid",
        "hard_swish": "hard_silu",
        "softmax": "softmax",
    }
)
"""Keras's names of the activations that have one."""
LAYERS: Mapping[str, Callable[[Any, Dense, dict[str, Any]], Any]] = MappingProxyType(
    {
        "leaky_relu": lambda keras, layer, settings: keras.layers.LeakyReLU(negative_slope=layer.slope, **settings),
        "elu": lambda keras, layer, settings: keras.layers.ELU(alpha=layer.slope, **settings),
        "prelu": lambda keras, layer, settings: keras.layers.PReLU(**settings),
    }
)
"""Activations that are layers of their own there."""
REFUSED = {"gelu_tanh": "Keras has no name for it, only an argument of a function; train with gelu, or use to_onnx"}


def to_keras(model: Model) -> Any:
    """Return a ``keras.Sequential`` that computes what `predict` does; see `Network.to_keras`."""
    try:
        import keras
    except ImportError as error:
        raise ImportError(f"to_keras: needs Keras 3 and its backend, pip install keras ({error})") from error
    parts, weights = [keras.Input((model.n_inputs,), dtype=model.dtype.name)], []
    for k, own in enumerate(by_layer(layout(model.n_inputs, model.layers), len(model.layers))):
        layer, arrays = model.layers[k], {each.name: each.of(model.parameters) for each in own}
        if layer.activation in REFUSED:
            raise ValueError(f"to_keras: layers[{k}]: {layer.activation}: {REFUSED[layer.activation]}")
        if layer.trainable and layer.bias and not layer.bias_trainable:
            raise ValueError(
                f"to_keras: layers[{k}]: needs biases that are trained as the weights are, got bias_trainable=False; "
                "to_torch keeps it"
            )
        parts.append(keras.layers.Dense(layer.units, **_settings(keras, layer, model.dtype.name)))
        weights.append([arrays[name] for name in ("weights", "biases") if name in arrays])
        if layer.activation in LAYERS:
            settings = {"dtype": model.dtype.name, "trainable": layer.trainable}
            parts.append(LAYERS[layer.activation](keras, layer, settings))
            weights.append([arrays["slopes"]] if "slopes" in arrays else [])
        if layer.dropout:
            parts.append(keras.layers.Dropout(layer.dropout, dtype=model.dtype.name))
            weights.append([])
    found = keras.Sequential(parts)
    for part, values in zip(found.layers, weights, strict=True):
        if values:
            part.set_weights(values)
    return found


def _settings(keras: Any, layer: Dense, dtype: str) -> dict[str, Any]:
    """Return what a Dense layer of Keras is told beside its units."""
    penalised = layer.l1 or layer.l2
    return {
        "activation": NAMES.get(layer.activation, "linear"),
        "use_bias": layer.bias,
        "dtype": dtype,
        "trainable": layer.trainable,
        "kernel_regularizer": keras.regularizers.L1L2(layer.l1, layer.l2 / 2) if penalised else None,
        "kernel_constraint": None if layer.max_norm is None else keras.constraints.MaxNorm(layer.max_norm),
    }
