"""Networks as pure functions for JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from backprop.reference.layout import by_layer, layout

if TYPE_CHECKING:
    from backprop.model.model import Model

Parameters: TypeAlias = "list[dict[str, Any]]"

# Of the namespaces jax.nn and jax.numpy, the scores and the parameter.
FUNCTIONS: Mapping[str, Callable[[Any, Any, Any, Any], Any]] = MappingProxyType(
    {
        "identity": lambda nn, np, z, alpha: z,
        "sigmoid": lambda nn, np, z, alpha: nn.sigmoid(z),
        "tanh": lambda nn, np, z, alpha: np.tanh(z),
        "relu": lambda nn, np, z, alpha: nn.relu(z),
        "leaky_relu": lambda nn, np, z, alpha: nn.leaky_relu(z, alpha),
        "elu": lambda nn, np, z, alpha: nn.elu(z, alpha),
        "gelu": lambda nn, np, z, alpha: nn.gelu(z, approximate=False),
        "gelu_tanh": lambda nn, np, z, alpha: nn.gelu(z, approximate=True),
        "silu": lambda nn, np, z, alpha: nn.silu(z),
        "softplus": lambda nn, np, z, alpha: nn.softplus(z),
        "exp": lambda nn, np, z, alpha: np.exp(z),
        "selu": lambda nn, np, z, alpha: nn.selu(z),
        "mish": lambda nn, np, z, alpha: nn.mish(z),
        "softsign": lambda nn, np, z, alpha: nn.soft_sign(z),
        "relu6": lambda nn, np, z, alpha: nn.relu6(z),
        "hard_tanh": lambda nn, np, z, alpha: nn.hard_tanh(z),
        "hard_sigmoid": lambda nn, np, z, alpha: nn.hard_sigmoid(z),
        "hard_swish": lambda nn, np, z, alpha: nn.hard_swish(z),
        "prelu": lambda nn, np, z, alpha: np.where(z > 0, z, alpha * z),
        "softmax": lambda nn, np, z, alpha: nn.softmax(z, axis=-1),
    }
)


def to_jax(model: Model) -> tuple[Callable[[Parameters, Any], Any], Parameters]:
    """Return a pure function and its parameters; see `Network.to_jax`."""
    try:
        import jax
    except ImportError as error:
        raise ImportError(f"to_jax: needs JAX, pip install jax ({error})") from error
    layers = model.layers
    own = by_layer(layout(model.n_inputs, layers), len(layers))
    parameters = [{each.name: each.of(model.parameters).copy() for each in arrays} for arrays in own]

    def predict(parameters: Parameters, X: Any) -> Any:
        """Return the outputs, (n, n_outputs), for rows (n, n_inputs)."""
        dtype = jax.numpy.asarray(parameters[0]["weights"]).dtype  # that of JAX, which may know no float64
        outputs = jax.numpy.asarray(X, dtype)
        for layer, arrays in zip(layers, parameters, strict=True):
            scores = outputs @ arrays["weights"]
            if layer.bias:
                scores = scores + arrays["biases"]
            outputs = FUNCTIONS[layer.activation](jax.nn, jax.numpy, scores, layer.slopes(arrays))
        return outputs

    return predict, parameters
