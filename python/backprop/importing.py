"""Networks of other libraries: their weights in a `Network` of this one.

Nothing is imported from these libraries. What is read is what their objects offer to anyone: names of classes, arrays,
settings. The outputs are those of the original, up to rounding; what a dense network cannot represent is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.network import Network
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.dense import Dense, checked_layers

__all__ = ["from_keras", "from_sklearn", "from_torch"]

# An activation here: its name and its alpha.
_Activation = tuple[str, float | None]

_SKLEARN_NAMES = {"logistic": "sigmoid"}
_KERAS_NAMES = {"linear": "identity", "exponential": "exp", "swish": "silu", "hard_silu": "hard_swish"}


def from_sklearn(estimator: Any, *, seed: int | None = None, backend: str | None = None) -> Network:
    """Return a network with the weights of a fitted scikit-learn ``MLPClassifier`` or ``MLPRegressor``.

    Parameters
    ----------
    estimator
        Anything fitted that has ``coefs_``, ``intercepts_``, ``activation`` and ``out_activation_``.
    seed, backend
        See `Network`. The seed decides the order of the rows in further training.

    Returns
    -------
    Network
        It predicts what the estimator's ``predict_proba`` or ``predict`` gives, one column per output; a binary
        classifier has one, the probability of its second class. The dtype is that of the coefficients. It knows the
        names of the columns that the estimator knows. How that was trained (``alpha``, ``solver``) is not taken over.

    Raises
    ------
    TypeError
        If it is not such an estimator, or not fitted.

    Examples
    --------
    >>> import backprop as bp
    >>> from sklearn.neural_network import MLPClassifier
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> estimator = MLPClassifier((3,), "tanh", solver="lbfgs", random_state=0).fit(X, y)
    >>> net = bp.from_sklearn(estimator, seed=0)
    >>> net
    Network(1, [Dense(3, 'tanh'), Dense(1, 'sigmoid')], dtype='float64', seed=0)
    >>> bool(abs(net.predict(X)[:, 0] - estimator.predict_proba(X)[:, 1]).max() < 1e-14)
    True
    """
    missing = [
        name for name in ("coefs_", "intercepts_", "activation", "out_activation_") if not hasattr(estimator, name)
    ]
    if missing:
        raise TypeError(
            f"estimator: needs a fitted MLPClassifier or MLPRegressor, got {check.shown(estimator)} "
            f"without {', '.join(missing)}"
        )
    hidden = estimator.activation
    names = [hidden] * (len(estimator.coefs_) - 1) if isinstance(hidden, str) else list(hidden)
    stack = _Stack()
    for k, (name, W, b) in enumerate(
        zip([*names, estimator.out_activation_], estimator.coefs_, estimator.intercepts_, strict=True)
    ):
        stack.dense(f"coefs_[{k}]", W, b)
        slopes = estimator.slopes_[k] if hasattr(estimator, "slopes_") else None
        stack.activation(f"layer {k}", _named(f"layer {k}", name, _SKLEARN_NAMES, None), slopes)
    network = stack.network(None, seed, backend)
    network.feature_names = getattr(estimator, "feature_names_in_", None)
    return network


def from_torch(
    module: Any, *, output: str | None = None, seed: int | None = None, backend: str | None = None
) -> Network:
    """Return a network with the weights of a ``torch.nn.Sequential``.

    Parameters
    ----------
    module
        A ``Sequential`` (nested ones too) of ``Linear``, activations (``Sigmoid``, ``Tanh``, ``ReLU``, ``LeakyReLU``,
        ``PReLU``, ``ELU``, ``SELU``, ``GELU``, ``SiLU``, ``Mish``, ``Softplus``, ``Softsign``, ``ReLU6``, ``Hardtanh``,
        ``Hardsigmoid``, ``Hardswish``, and ``Softmax`` at the end), ``Dropout`` behind them, ``Identity`` and
        ``Flatten``; or one ``Linear``.
    output
        An activation for the scores of the last layer, where the module leaves it to its loss: ``"softmax"`` for
        ``CrossEntropyLoss``, ``"sigmoid"`` for ``BCEWithLogitsLoss``. None keeps what the module has.
    seed, backend
        See `Network`. The seed decides the order of the rows in further training.

    Returns
    -------
    Network
        It predicts what the module in evaluation mode gives for the same rows. Parameters without ``requires_grad`` are
        not trainable. PyTorch's ``Softplus`` is off by up to 2e-9 above its threshold of 20.

    Raises
    ------
    TypeError, ValueError
        If the module has a part that a dense network cannot represent; the message says which.

    Examples
    --------
    >>> import backprop as bp
    >>> from torch import nn  # doctest: +SKIP
    >>> module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))  # doctest: +SKIP
    >>> bp.from_torch(module, output="softmax", seed=0)  # doctest: +SKIP
    Network(4, [Dense(16, 'relu', dropout=0.2), Dense(3, 'softmax')], dtype='float32', seed=0)
    """
    stack = _Stack()
    for where, part in _torch_parts("module", module):
        kind = type(part).__name__
        if kind == "Linear":
            stack.dense(
                where,
                _torch_array(f"{where}.weight", part.weight).T,
                None if part.bias is None else _torch_array(f"{where}.bias", part.bias),
                trainable=part.weight.requires_grad,
                bias_trainable=part.bias is None or part.bias.requires_grad,
            )
        elif kind == "Dropout":
            stack.dropout(where, part.p)
        elif kind == "PReLU":
            stack.activation(where, ("prelu", None), _torch_array(f"{where}.weight", part.weight))
        elif kind in _TORCH_ACTIVATIONS:
            stack.activation(where, _TORCH_ACTIVATIONS[kind](where, part))
        elif kind not in ("Identity", "Flatten"):  # rows are flat already
            known = ["Sequential", "Linear", *_TORCH_ACTIVATIONS, "PReLU", "Dropout", "Identity", "Flatten"]
            raise TypeError(f"{where}: needs one of {', '.join(known)}, got {kind}")
    return stack.network(output, seed, backend)


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
    stack = _Stack()
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
            stack.activation(where, ("prelu", None), slopes)
        elif kind in _KERAS_ACTIVATIONS:
            stack.activation(where, _KERAS_ACTIVATIONS[kind](where, config))
        elif kind not in ("InputLayer", "Flatten"):  # rows are flat already
            known = ["Dense", "Activation", *_KERAS_ACTIVATIONS, "PReLU", "Dropout", "InputLayer", "Flatten"]
            raise TypeError(f"{where}: needs one of {', '.join(known)}, got {kind}")
    return stack.network(output, seed, backend)


# --- what all of them share ----------------------------------------------------------------------------------------


class _Stack:
    """Dense layers and their arrays, put together from input to output."""

    def __init__(self) -> None:
        self.layers: list[Dense] = []
        self.arrays: list[NDArray[Any]] = []
        self.n_inputs: list[int] = []

    def dense(
        self,
        where: str,
        weights: Any,
        biases: Any,
        *,
        trainable: bool = True,
        bias_trainable: bool = True,
        **settings: Any,
    ) -> None:
        """Add a layer; what follows may change its activation and its dropout."""
        weights = _real(where, weights, 2)
        self.n_inputs.append(weights.shape[0])
        self.arrays.append(weights)
        if biases is not None:
            biases = _real(where, biases, 1)
            if biases.shape != weights.shape[1:]:
                raise ValueError(f"{where}: needs biases of shape {weights.shape[1:]}, got shape {biases.shape}")
            self.arrays.append(biases)
            if bias_trainable and not trainable:
                raise ValueError(f"{where}: needs biases that are frozen as the weights are, got weights frozen alone")
        settings |= {"trainable": trainable, "bias_trainable": bias_trainable}
        self.layers.append(Dense(weights.shape[1], bias=biases is not None, **settings))

    def activation(self, where: str, activation: _Activation, slopes: Any = None) -> None:
        """Let the last layer have an activation; `slopes` are those of prelu, one for each unit or one for all."""
        name, alpha = activation
        if name == "identity":
            return
        last = self._last(where, name)
        if last.activation != "identity":
            raise ValueError(f"{where}: needs a dense layer between two activations, got {last.activation} and {name}")
        if last.dropout:
            raise ValueError(f"{where}: needs dropout behind the activation, got {name} behind dropout")
        self.layers[-1] = replace(last, activation=name, alpha=alpha)
        if self.layers[-1].function.slopes:
            slopes = _real(where, slopes, 1)
            if slopes.size not in (1, last.units):
                raise ValueError(f"{where}: needs 1 slope or {last.units}, got {slopes.size}")
            self.arrays.append(np.broadcast_to(slopes, last.units))

    def dropout(self, where: str, rate: float) -> None:
        """Let the last layer drop outputs."""
        last = self._last(where, "dropout")
        if last.dropout:
            raise ValueError(f"{where}: needs a dense layer between two dropouts, got dropout twice")
        self.layers[-1] = replace(last, dropout=rate)

    def _last(self, where: str, what: str) -> Dense:
        if not self.layers:
            raise ValueError(f"{where}: needs a dense layer before it, got {what} on the inputs")
        return self.layers[-1]

    def network(self, output: str | None, seed: int | None, backend: str | None) -> Network:
        """Return the network; `output` is the activation that the last layer still needs."""
        if output is not None:
            known = [name for name, function in ACTIVATIONS.items() if not function.slopes]
            self.activation("output", (check.choice("output", output, known), None))
        if seed is not None:
            seed = check.integer("seed", seed, at_least=0)
        layers = checked_layers(self.layers)
        for k, (below, n_inputs) in enumerate(zip(layers, self.n_inputs[1:], strict=False)):
            if below.units != n_inputs:
                raise ValueError(f"layers[{k + 1}]: needs {below.units} inputs, got weights for {n_inputs}")
        dtype = check.real_dtype("dtype", np.result_type(*self.arrays))
        entropy = np.random.SeedSequence(seed).entropy
        network = Network._assembled(self.n_inputs[0], layers, dtype, entropy, backend)
        network.parameters = np.concatenate([array.ravel() for array in self.arrays])
        return network


def _real(where: str, values: Any, ndim: int) -> NDArray[Any]:
    """Return weights or biases as an array of float32 or float64."""
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{where}: needs weights in float32 or float64, got {array.dtype}; convert the model first")
    if array.ndim != ndim:
        raise ValueError(f"{where}: needs an array of {ndim} dimensions, got shape {array.shape}")
    return array


def _named(where: str, name: Any, other_names: Mapping[str, str], alpha: float | None) -> _Activation:
    """Return the activation that another library calls `name`."""
    if not isinstance(name, str) or (own := other_names.get(name, name)) not in ACTIVATIONS:
        known = sorted({*other_names, *ACTIVATIONS} - set(other_names.values()))
        raise ValueError(f"{where}: needs an activation among {', '.join(known)}, got {check.shown(name)}")
    return own, alpha if ACTIVATIONS[own].alpha is not None else None


def _need(where: str, setting: str, value: Any, *allowed: Any) -> None:
    """Raise unless a setting has one of the values that can be represented."""
    if value not in allowed:
        raise ValueError(f"{where}: needs {setting}={' or '.join(map(repr, allowed))}, got {value!r}")


# --- PyTorch -------------------------------------------------------------------------------------------------------


def _torch_parts(where: str, module: Any) -> Iterator[tuple[str, Any]]:
    """Go through a module and the modules in it, each with its place."""
    if type(module).__name__ != "Sequential":
        yield where, module
        return
    for k, part in enumerate(module):
        yield from _torch_parts(f"{where}[{k}]", part)


def _torch_array(where: str, tensor: Any) -> NDArray[Any]:
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(f"{where}: needs torch.float32 or torch.float64, got {tensor.dtype}; module.float() converts")
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _torch_softplus(where: str, part: Any) -> _Activation:
    _need(where, "beta", part.beta, 1)
    _need(where, "threshold", part.threshold, 20)
    return "softplus", None


def _torch_hard_tanh(where: str, part: Any) -> _Activation:
    """Two of its pairs of bounds have a name here."""
    names = {(-1, 1): "hard_tanh", (0, 6): "relu6"}
    bounds = part.min_val, part.max_val
    if bounds not in names:
        raise ValueError(f"{where}: needs (min_val, max_val)={' or '.join(map(str, names))}, got {bounds}")
    return names[bounds], None


def _torch_softmax(where: str, part: Any) -> _Activation:
    _need(where, "dim", part.dim, 1, -1, None)
    return "softmax", None


_TORCH_ACTIVATIONS: Mapping[str, Callable[[str, Any], _Activation]] = {
    "Sigmoid": lambda where, part: ("sigmoid", None),
    "Tanh": lambda where, part: ("tanh", None),
    "ReLU": lambda where, part: ("relu", None),
    "LeakyReLU": lambda where, part: ("leaky_relu", part.negative_slope),
    "ELU": lambda where, part: ("elu", part.alpha),
    "GELU": lambda where, part: ("gelu_tanh" if part.approximate == "tanh" else "gelu", None),
    "SiLU": lambda where, part: ("silu", None),
    "SELU": lambda where, part: ("selu", None),
    "Mish": lambda where, part: ("mish", None),
    "Softsign": lambda where, part: ("softsign", None),
    "ReLU6": lambda where, part: ("relu6", None),
    "Hardtanh": _torch_hard_tanh,
    "Hardsigmoid": lambda where, part: ("hard_sigmoid", None),
    "Hardswish": lambda where, part: ("hard_swish", None),
    "Softplus": _torch_softplus,
    "Softmax": _torch_softmax,
}


# --- Keras ---------------------------------------------------------------------------------------------------------


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


def _keras_activation(where: str, described: Any) -> _Activation:
    """Return what an ``activation=`` means: a name, or a layer as Keras writes it into a configuration."""
    if isinstance(described, Mapping) and described.get("class_name") in _KERAS_ACTIVATIONS:
        return _KERAS_ACTIVATIONS[described["class_name"]](where, described.get("config", {}))
    return _named(where, described, _KERAS_NAMES, {"leaky_relu": 0.2, "elu": 1.0}.get(str(described)))


def _keras_slope(config: Mapping[str, Any], default: float) -> float:
    return float(config.get("negative_slope", config.get("alpha", default)))


def _keras_relu(where: str, config: Mapping[str, Any]) -> _Activation:
    _need(where, "max_value", config.get("max_value"), None, 6)
    _need(where, "threshold", config.get("threshold", 0.0), 0.0)
    slope = _keras_slope(config, 0.0)
    if config.get("max_value") is not None:
        _need(where, "negative_slope", slope, 0.0)
        return "relu6", None
    return ("leaky_relu", slope) if slope else ("relu", None)


def _keras_softmax(where: str, config: Mapping[str, Any]) -> _Activation:
    _need(where, "axis", config.get("axis", -1), -1, 1)
    return "softmax", None


_KERAS_ACTIVATIONS: Mapping[str, Callable[[str, Mapping[str, Any]], _Activation]] = {
    "ReLU": _keras_relu,
    "LeakyReLU": lambda where, config: ("leaky_relu", _keras_slope(config, 0.3)),
    "ELU": lambda where, config: ("elu", float(config.get("alpha", 1.0))),
    "Softmax": _keras_softmax,
}


def _keras_settings(where: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a Dense layer of Keras is told beside its shape and activation."""
    for name in ("bias_regularizer", "activity_regularizer", "bias_constraint"):
        _need(where, name, config.get(name), None)
    settings: dict[str, Any] = {}
    if (penalty := config.get("kernel_regularizer")) is not None:
        _need(where, "kernel_regularizer", penalty["class_name"], "L1", "L2", "L1L2")
        settings["l1"] = float(penalty["config"].get("l1", 0.0))
        settings["l2"] = 2 * float(penalty["config"].get("l2", 0.0))
    if (bound := config.get("kernel_constraint")) is not None:
        _need(where, "kernel_constraint", bound["class_name"], "MaxNorm")
        _need(where, "axis", bound["config"].get("axis", 0), 0)
        settings["max_norm"] = float(bound["config"]["max_value"])
    trainable = bool(config.get("trainable", True))
    return {**settings, "trainable": trainable, "bias_trainable": trainable}
