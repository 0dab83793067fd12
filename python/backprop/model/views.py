"""Arrays of each layer, as views of the flat parameter vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from backprop.base import checks as check
from backprop.base.types import RealArray


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
