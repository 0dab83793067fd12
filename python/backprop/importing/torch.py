"""Modules of PyTorch as networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from backprop.importing.stack import LOG_SOFTMAX, Named, Stack, need
from backprop.network import Network


def from_torch(
    module: Any, *, output: str | None = None, seed: int | None = None, backend: str | None = None
) -> Network:
    """Return a network with the weights of a ``torch.nn.Sequential``, or of a module that is a chain.

    Parameters
    ----------
    module
        A ``Sequential`` (nested ones too) of ``Linear``, activations (``Sigmoid``, ``Tanh``, ``ReLU``, ``LeakyReLU``,
        ``PReLU``, ``ELU``, ``SELU``, ``GELU``, ``SiLU``, ``Mish``, ``Softplus``, ``Softsign``, ``ReLU6``, ``Hardtanh``,
        ``Hardsigmoid``, ``Hardswish``, and ``Softmax`` at the end), ``Dropout`` behind them, or before a relu,
        ``Identity`` and ``Flatten``; or one ``Linear``. Or any module whose ``forward`` is a chain of these and of the
        functions that do the same, such as ``torch.relu``, as far as ``torch.fx`` can follow it.
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
    stack = Stack()
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
            slopes = _torch_array(f"{where}.weight", part.weight)
            stack.activation(where, ("prelu", None), slopes, part.weight.requires_grad)
        elif kind in _TORCH_ACTIVATIONS:
            stack.activation(where, _TORCH_ACTIVATIONS[kind](where, part))
        elif kind not in ("Identity", "Flatten"):  # rows are flat already
            way = "; torch.onnx.export and from_onnx put it into the weights" if kind.startswith("BatchNorm") else ""
            way = LOG_SOFTMAX if kind == "LogSoftmax" else way
            raise TypeError(f"{where}: needs one of Sequential, {', '.join(_KNOWN)}, got {kind}{way}")
    return stack.network(output, seed, backend)


def _torch_parts(where: str, module: Any) -> Iterator[tuple[str, Any]]:
    """Go through a module and the modules in it, each with its place."""
    kind = type(module).__name__
    if kind == "Sequential":
        for k, part in enumerate(module):
            yield from _torch_parts(f"{where}[{k}]", part)
    elif type(module).__module__.startswith("torch.nn.") or not hasattr(module, "named_children"):
        yield where, module  # a module of PyTorch itself, known or not
    else:
        yield from _traced_parts(where, module)


def _traced_parts(where: str, module: Any) -> Iterator[tuple[str, Any]]:
    """Go through what the `forward` of a module calls, as ``torch.fx`` records it: it has to be a chain."""
    from torch import fx

    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:  # of any kind, from the module's own code
        raise TypeError(
            f"{where}: needs a Sequential, or a forward that torch.fx can follow, got {type(module).__name__}: "
            f"{error}; torch.onnx.export and from_onnx are another way"
        ) from error
    before = None
    for node in traced.graph.nodes:
        place = f"{where}.{node.name}"
        if node.op == "placeholder":
            if before is not None:
                raise TypeError(f"{place}: needs a module with one input, got another one")
        elif node.all_input_nodes != [before]:
            raise TypeError(f"{place}: needs a chain, each part of which reads the one before alone")
        elif node.op == "call_module":
            yield from _torch_parts(place, traced.get_submodule(node.target))
        elif node.op in ("call_function", "call_method"):
            yield from _called(place, node)
        before = node


def _called(where: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the module that does what a call of a function or a method does."""
    from types import SimpleNamespace

    name = node.target if isinstance(node.target, str) else node.target.__name__
    if name not in _FUNCTIONS:
        way = LOG_SOFTMAX if name == "log_softmax" else ""
        raise TypeError(f"{where}: needs one of {', '.join(_FUNCTIONS)}, got {name}{way}")
    kind, defaults = _FUNCTIONS[name]
    given = dict(zip(defaults, node.args[1:], strict=False)) | {
        key: value for key, value in node.kwargs.items() if key in defaults
    }
    yield where, type(kind, (SimpleNamespace,), {})(**{**defaults, **given})


def _torch_array(where: str, tensor: Any) -> NDArray[Any]:
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(f"{where}: needs torch.float32 or torch.float64, got {tensor.dtype}; module.float() converts")
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _torch_softplus(where: str, part: Any) -> Named:
    need(where, "beta", part.beta, 1)
    need(where, "threshold", part.threshold, 20)
    return "softplus", None


def _torch_hard_tanh(where: str, part: Any) -> Named:
    """Two of its pairs of bounds have a name here."""
    names = {(-1, 1): "hard_tanh", (0, 6): "relu6"}
    bounds = part.min_val, part.max_val
    if bounds not in names:
        raise ValueError(f"{where}: needs (min_val, max_val)={' or '.join(map(str, names))}, got {bounds}")
    return names[bounds], None


def _torch_softmax(where: str, part: Any) -> Named:
    need(where, "dim", part.dim, 1, -1, None)
    return "softmax", None


_TORCH_ACTIVATIONS: Mapping[str, Callable[[str, Any], Named]] = {
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

_KNOWN = ("Linear", *_TORCH_ACTIVATIONS, "PReLU", "Dropout", "Identity", "Flatten")

_PLAIN = ("Sigmoid", "Tanh", "ReLU", "SiLU", "SELU", "Mish", "Softsign", "ReLU6", "Hardsigmoid", "Hardswish", "Flatten")
# Functions and methods that a forward may call: the module of each, and its settings in the order of the arguments.
_FUNCTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{kind.lower(): (kind, {}) for kind in _PLAIN},
    "relu_": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "elu": ("ELU", {"alpha": 1.0}),
    "gelu": ("GELU", {"approximate": "none"}),
    "hardtanh": ("Hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "softplus": ("Softplus", {"beta": 1.0, "threshold": 20.0}),
    "softmax": ("Softmax", {"dim": None}),
    "dropout": ("Dropout", {"p": 0.5}),
}
