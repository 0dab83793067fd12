"""Optimizers: settings, and the update beside them.

They are defined exactly as PyTorch 2.13 defines them, where it has them. In the formulas all operations are element by
element, ``p`` are the parameters, ``g`` is the gradient of the loss (after clipping, where that is asked for), and
``t`` counts the steps from 1. What an optimizer remembers, its slots, starts at 0 where nothing else is said.

An update changes ``p`` and the slots, one array like ``p`` for each, in place, and leaves ``g`` alone. It is called for
one array of the network at a time, in the shape that this has. Hidden weights, those of all layers but the last, go to
``update_hidden_weights``, which does the same unless an optimizer defines it.

A class in one of the modules below, with its name in the module's ``__all__``, is all that an optimizer needs here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backprop.base.keywords import explain
from backprop.reference.optimizers import adam, adaptive, muon, optimizer, sgd, signs
from backprop.reference.optimizers.adam import *
from backprop.reference.optimizers.adaptive import *
from backprop.reference.optimizers.muon import *
from backprop.reference.optimizers.optimizer import *
from backprop.reference.optimizers.optimizer import Optimizer
from backprop.reference.optimizers.sgd import *
from backprop.reference.optimizers.signs import *
from backprop.reference.registry import registry

OPTIMIZERS: Mapping[str, type[Optimizer]] = registry(
    Optimizer, (sgd, adam, adaptive, signs, muon), ("hyperparameters", "n_slots", "update")
)
explain(*OPTIMIZERS.values())

if not TYPE_CHECKING:  # type checkers read the imports
    __all__ = ["OPTIMIZERS", *optimizer.__all__, *(cls.__name__ for cls in OPTIMIZERS.values())]
