"""Networks as modules of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backprop.reference.dense import Dense
from backprop.reference.layout import by_layer, layout

if TYPE_CHECKING:
    from backprop.model.model import Model

MODULES: Mapping[str, Callable[[Any, Dense], Any] | None] = MappingProxyType(
    {
        "identity": None,
        "sigmoid": lambda nn, layer: nn.Sigmoid(),
        "tanh": lambda nn, layer: nn.Tanh(),
        "relu": lambda nn, layer: nn.ReLU(),
        "leaky_relu": lambda nn, layer: nn.LeakyReLU(layer.slope),
        "elu": lambda nn, layer: nn.ELU(layer.slope),
        "gelu": lambda nn, layer: nn.GELU(),
        "gelu_tanh": lambda nn, layer: nn.GELU(approximate="tanh"),
        "silu": lambda nn, layer: nn.SiLU(),
        "softplus": lambda nn, layer: nn.Softplus(),
        "selu": lambda nn, layer: nn.SELU(),
        "mish": lambda nn, layer: nn.Mish(),
        "softsign": lambda nn, layer: nn.Softsign(),
        "relu6": lambda nn, layer: nn.ReLU6(),
        "hard_tanh": lambda nn, layer: nn.Hardtanh(),
        "hard_sigmoid": lambda nn, layer: nn.Hardsigmoid(),
        "hard_swish": lambda nn, layer: nn.Hardswish(),
        "prelu": lambda nn, layer: nn.PReLU(layer.units),
        "softmax": lambda nn, layer: nn.Softmax(dim=1),
    }
)
REFUSED = {"exp": "torch.nn has no module of it; leave the last layer's scores as they are and use torch.exp on them"}


def to_torch(model: Model) -> Any:
    """Return an ``nn.Sequential`` that computes what `predict` does; see `Network.to_torch`."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"to_torch: needs PyTorch, pip install torch ({error})") from error
    parts: list[Any] = []
    for k, own in enumerate(by_layer(layout(model.n_inputs, model.layers), len(model.layers))):
        layer, arrays = model.layers[k], {each.name: each.of(model.parameters) for each in own}
        if layer.activation in REFUSED:
            raise ValueError(f"to_torch: layers[{k}]: {layer.activation}: {REFUSED[layer.activation]}; or use to_onnx")
        n_in, n_out = arrays["weights"].shape
        linear = torch.nn.Linear(n_in, n_out, bias=layer.bias, dtype=getattr(torch, model.dtype.name))
        linear.weight = _parameter(torch, arrays["weights"].T, layer.trainable)
        if layer.bias:
            linear.bias = _parameter(torch, arrays["biases"], layer.trains_biases)
        parts.append(linear)
        if (activation := MODULES[layer.activation]) is not None:
            parts.append(activation(torch.nn, layer))
        if layer.function.slopes:
            parts[-1].weight = _parameter(torch, arrays["slopes"], layer.trainable)
        if layer.dropout:
            parts.append(torch.nn.Dropout(layer.dropout))
    return torch.nn.Sequential(*parts).eval()


def _parameter(torch: Any, values: Any, trainable: bool) -> Any:
    """Return a parameter with numbers of its own."""
    return torch.nn.Parameter(torch.from_numpy(values.copy(order="C")), requires_grad=trainable)
