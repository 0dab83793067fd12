"""The metrics that a run measures after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backprop.backends.custom import Custom
from backprop.base.types import Data, RealArray
from backprop.learn import metrics as metric_functions
from backprop.model.model import Model
from backprop.model.rows import of_outputs
from backprop.reference.losses import Loss


class Measures:
    """The metrics of the training rows and of the validation rows."""

    def __init__(self, network: Model, loss: Loss | Custom, metrics: Any, data: Data, validation: Data | None) -> None:
        self.network, self.validated = network, validation is not None
        self.sets: list[tuple[RealArray, dict[str, Callable[[RealArray], float]]]] = []
        if functions := metric_functions.resolved(metrics):
            for prefix, rows in (("", data), ("val_", validation)):
                if rows is not None:
                    bound = metric_functions.bound(
                        functions, loss, of_outputs(network, loss, rows.targets), rows.sample_weight
                    )
                    self.sets.append((rows.X, {prefix + name: function for name, function in bound.items()}))
        self.names = [name for _, functions in self.sets for name in functions]

    def __call__(self, parameters: RealArray) -> dict[str, float]:
        """Measure all of them with these parameters."""
        network, values = self.network, {}
        for X, functions in self.sets:
            outputs: RealArray = np.empty((len(X), network.n_outputs), network.dtype)
            network._forward(network._plan, parameters, X, outputs)
            values.update({name: function(outputs) for name, function in functions.items()})
        return values
