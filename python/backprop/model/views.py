"""Arrays of each layer, as views of the flat parameter vector; and a vector of such arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.base.types import RealArray
from backprop.reference.layout import ArrayLayout, end

LayerArrays: TypeAlias = tuple[RealArray, RealArray | None, *tuple[RealArray, ...]]
"""weights and biases of a layer, or arrays shaped like them, and the slopes where it has any"""


def arrays_of(name: str, layers: Iterable[Sequence[ArrayLayout]], flat: RealArray) -> list[RealArray | None]:
    """Return each layer's array of that name as a view of a vector that is laid out like the parameters, or of rows."""
    return [next((array.of(flat) for array in own if array.name == name), None) for own in layers]


def layer_arrays(layers: Sequence[Sequence[ArrayLayout]], flat: RealArray) -> list[LayerArrays]:
    """Return (W, b) of each layer, or (W, b, slopes), as `arrays_of` does."""
    arrays: Any = zip(*(arrays_of(name, layers, flat) for name in ("weights", "biases", "slopes")), strict=True)
    return [(W, b) if slopes is None else (W, b, slopes) for W, b, slopes in arrays]


def flattened(name: str, layers: Sequence[Sequence[ArrayLayout]], dtype: np.dtype[Any], values: Any) -> RealArray:
    """Return a flat vector, or what `Network.loss_and_gradients` returns, as the flat vector that backends take."""
    n = end(layers[-1])
    if not isinstance(values, (list, tuple)) or all(np.isscalar(value) for value in values):
        return check.array(name, values, dtype, (n,))
    vector: RealArray = np.zeros(n, dtype)
    if len(values) != len(layers):
        raise ValueError(f"{name}: needs an entry for each of {len(layers)} layers, got {len(values)} entries")
    for k, (views, given) in enumerate(zip(layer_arrays(layers, vector), values, strict=True)):
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


class Views(Sequence[Any]):
    """The weights or the biases of each layer; ``views[k] = values`` writes into the k-th array."""

    __slots__ = ("_arrays", "_name")

    def __init__(self, name: str, arrays: Sequence[RealArray | None]) -> None:
        self._name = name
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, k: Any) -> Any:
        return self._arrays[k]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._arrays)

    def __setitem__(self, k: int, values: ArrayLike | None) -> None:
        k = check.integer(f"index of {self._name}", k)
        target = self._arrays[k]
        checked = self._checked(k, values)
        if target is not None:
            target[...] = checked

    def assign(self, values: Iterable[ArrayLike | None]) -> None:
        """Write into all arrays, or into none when one of the values is wrong."""
        values = list(values)
        if len(values) != len(self._arrays):
            raise ValueError(f"{self._name}: needs one array for each of the {len(self)} layers, got {len(values)}")
        checked = [self._checked(k, value) for k, value in enumerate(values)]
        for target, value in zip(self._arrays, checked, strict=True):
            if target is not None:
                target[...] = value

    def _checked(self, k: int, values: Any) -> NDArray[Any] | None:
        """Return the values for the k-th array."""
        target, name = self._arrays[k], f"{self._name}[{k}]"
        if target is not None:
            return check.array(name, values, target.dtype, target.shape)
        if values is not None:
            raise ValueError(f"{name}: needs None, the layer has none")
        return None

    def __repr__(self) -> str:
        return repr(list(self._arrays))
