"""Backpropagation and gradient descent for small and medium dense networks on a CPU.

>>> import backprop as bp
>>> net = bp.Network(2, [bp.Dense(8, "relu"), bp.Dense(3, "softmax")], seed=0)
>>> history = net.fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 2], epochs=20)
>>> net.predict([[1.0, 0.0]]).shape
(1, 3)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from backprop import initializers, io, losses, optimizers
from backprop.backends.choice import show_config
from backprop.history import History
from backprop.io import load
from backprop.layers import Dense
from backprop.mlp import mlp
from backprop.network import Network
from backprop.optimizers import *
from backprop.reference import ACTIVATIONS

if TYPE_CHECKING:
    from backprop import callbacks, metrics, plotting, schedules
    from backprop.checkpoints import resume
    from backprop.descent import descend
    from backprop.gradcheck import check_gradients
    from backprop.importing import from_keras, from_sklearn, from_torch
    from backprop.training import DivergedError

__all__ = [
    "ACTIVATIONS",
    "Dense",
    "DivergedError",
    "History",
    "Network",
    "__version__",
    "callbacks",
    "check_gradients",
    "descend",
    "from_keras",
    "from_sklearn",
    "from_torch",
    "initializers",
    "io",
    "load",
    "losses",
    "metrics",
    "mlp",
    "optimizers",
    "plotting",
    "resume",
    "schedules",
    "show_config",
]
__all__ += (cls.__name__ for cls in optimizers.OPTIMIZERS.values())


# What predicting does not need is imported when it is asked for.
_LAZY = {
    "DivergedError": "backprop.training",
    "check_gradients": "backprop.gradcheck",
    "descend": "backprop.descent",
    "from_keras": "backprop.importing",
    "from_sklearn": "backprop.importing",
    "from_torch": "backprop.importing",
    "resume": "backprop.checkpoints",
}
_LAZY_MODULES = ("callbacks", "metrics", "plotting", "schedules")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _LAZY_MODULES:
        return import_module(f"backprop.{name}")
    if name == "__version__":  # asked for rarely, and importlib.metadata takes long to import
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("bpcore")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
