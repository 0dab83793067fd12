"""The core in plain NumPy: every formula once, written to be read.

It offers the same functions as the compiled cores, with the same arguments and the same side effects, and is what they
are tested against. Where to start reading: `backprop.reference.passes`, then `training`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from backprop.reference import activations

if TYPE_CHECKING:
    from backprop.reference.derivatives import (
        curvature_product,
        gradients_per_row,
        hessian,
        jacobian,
        laplacian,
        parameter_jacobian,
    )
    from backprop.reference.fleet import FleetTraining
    from backprop.reference.passes import Plan, backward, forward, loss_and_gradient
    from backprop.reference.solving import Solving
    from backprop.reference.step import limit_norms, update
    from backprop.reference.training import Training

    LOSSES: tuple[str, ...]
    OPTIMIZERS: tuple[str, ...]

__all__ = [
    "ACTIVATIONS",
    "FEW_OUTPUTS",
    "LOSSES",
    "MAX_THREADS",
    "OPTIMIZERS",
    "FleetTraining",
    "Plan",
    "Solving",
    "Training",
    "backward",
    "curvature_product",
    "forward",
    "gradients_per_row",
    "hessian",
    "jacobian",
    "laplacian",
    "limit_norms",
    "loss_and_gradient",
    "parameter_jacobian",
    "update",
]

ACTIVATIONS: tuple[str, ...] = tuple(activations.ACTIVATIONS)
FEW_OUTPUTS = 0  # no network is a tiny one to the reference
MAX_THREADS = 16  # as the cores take them; the reference computes in one
# The rest is imported when it is asked for: a network with a compiled core needs the names of the activations only.
_HOME = {
    "FleetTraining": "fleet",
    "Plan": "passes",
    "Solving": "solving",
    "Training": "training",
    "backward": "passes",
    "curvature_product": "derivatives",
    "forward": "passes",
    "gradients_per_row": "derivatives",
    "hessian": "derivatives",
    "jacobian": "derivatives",
    "laplacian": "derivatives",
    "limit_norms": "step",
    "loss_and_gradient": "passes",
    "parameter_jacobian": "derivatives",
    "update": "step",
}


def __getattr__(name: str) -> Any:
    if name == "LOSSES":
        value: Any = tuple(import_module("backprop.reference.losses").LOSSES)
    elif name == "OPTIMIZERS":
        value = tuple(import_module("backprop.reference.optimizers").OPTIMIZERS)
    elif name in _HOME:
        value = getattr(import_module(f"backprop.reference.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
