"""Backpropagation and gradient descent for small and medium dense networks on a CPU.

>>> import backprop as bp
>>> net = bp.Network(2, [bp.Dense(8, "relu"), bp.Dense(3, "softmax")], seed=0)
>>> history = net.fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 2], epochs=20)
>>> net.predict([[1.0, 0.0]]).shape
(1, 3)
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from backprop.backends.choice import show_config
from backprop.base.history import History
from backprop.mlp import mlp
from backprop.network import Network
from backprop.reference import ACTIVATIONS
from backprop.reference import optimizers as _optimizers
from backprop.reference.dense import Dense
from backprop.reference.optimizers import *

if _TYPE_CHECKING:
    from backprop import callbacks, initializers, io, losses, metrics, optimizers, plotting, schedules, solvers, tables
    from backprop.base.fleet_history import FleetHistory
    from backprop.checkpoints import resume
    from backprop.descent import descend
    from backprop.fleet import Fleet
    from backprop.gradcheck import check_gradients
    from backprop.importing import from_keras, from_onnx, from_sklearn, from_torch
    from backprop.io import load
    from backprop.laplace import Laplace
    from backprop.range_test import find_learning_rate
    from backprop.tables.loading import load_table_model
    from backprop.training import DivergedError, FleetDivergedError

__all__ = [
    "ACTIVATIONS",
    "Dense",
    "DivergedError",
    "Fleet",
    "FleetDivergedError",
    "FleetHistory",
    "History",
    "Laplace",
    "Network",
    "__version__",
    "callbacks",
    "check_gradients",
    "descend",
    "find_learning_rate",
    "from_keras",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "initializers",
    "io",
    "load",
    "load_table_model",
    "losses",
    "metrics",
    "mlp",
    "optimizers",
    "plotting",
    "resume",
    "schedules",
    "show_config",
    "solvers",
    "tables",
]
__all__ += (cls.__name__ for cls in _optimizers.OPTIMIZERS.values())

# What predicting does not need is imported when it is asked for.
_LAZY = {
    "DivergedError": "training",
    "Fleet": "fleet",
    "FleetDivergedError": "training",
    "FleetHistory": "history",
    "Laplace": "laplace",
    "check_gradients": "gradcheck",
    "descend": "descent",
    "find_learning_rate": "range_test",
    "from_keras": "importing",
    "from_onnx": "importing",
    "from_sklearn": "importing",
    "from_torch": "importing",
    "load": "io",
    "load_table_model": "tables",
    "resume": "checkpoints",
}
_LAZY_MODULES = (
    "callbacks",
    "history",
    "initializers",
    "io",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "plotting",
    "schedules",
    "solvers",
    "tables",
)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(f"backprop.{_LAZY[name]}"), name)
    if name in _LAZY_MODULES:
        return import_module(f"backprop.{name}")
    if name == "__version__":
        from backprop.base.version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
