"""Numbers for all parameters, in whatever form they are given, as one flat vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from backprop.base import checks as check
from backprop.base.types import RealArray
from backprop.model.model import Model


def flat(name: str, model: Model, values: Any) -> RealArray:
    """Return a flat vector, or what `Network.loss_and_gradients` returns, as the flat vector that backends take."""
    dtype, n = model.dtype, model.n_parameters
    if not isinstance(values, (list, tuple)) or all(np.isscalar(value) for value in values):
        return check.array(name, values, dtype, (n,))
    vector: RealArray = np.zeros(n, dtype)
    layers = model._views(vector)
    if len(values) != len(layers):
        raise ValueError(f"{name}: needs an entry for each of {len(layers)} layers, got {len(values)} entries")
    for k, (views, given) in enumerate(zip(layers, values, strict=True)):
        if not isinstance(given, (list, tuple)):
            raise TypeError(f"{name}[{k}]: needs a tuple of {len(views)} arrays, got {check.shown(given)}")
        if len(given) != len(views):
            raise ValueError(f"{name}[{k}]: needs {len(views)} arrays, got {len(given)}")
        for j, (view, array) in enumerate(zip(views, given, strict=True)):
            place = f"{name}[{k}][{j}]"
            if view is not None:
                view[...] = check.array(place, array, dtype, view.shape)
            elif array is not None:
                raise ValueError(f"{place}: needs None, for the layer has no such parameters; got {check.shown(array)}")
    return vector
