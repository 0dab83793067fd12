"""The core in plain NumPy: every formula once, written to be read.

It offers the same functions as the compiled cores, with the same arguments and the same side effects, and is what they
are tested against. Where to start reading: `backprop.reference.layers`, then `training`.
"""

from backprop.reference import activations, losses, optimizers
from backprop.reference.layers import Plan, backward, forward, loss_and_gradient
from backprop.reference.optimizers import update
from backprop.reference.training import Training

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "Plan",
    "Training",
    "backward",
    "forward",
    "loss_and_gradient",
    "update",
]

ACTIVATIONS: tuple[str, ...] = tuple(activations.ACTIVATIONS)
LOSSES: tuple[str, ...] = tuple(losses.LOSSES)
OPTIMIZERS: tuple[str, ...] = tuple(optimizers.UPDATES)
