"""The parameters of an estimator: one value for each layer, and which were checked and have not changed since."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from operator import is_
from typing import Any

from backprop.base import checks as check

_CONSTANTS = frozenset((int, float, str, bool, type(None)))
_OURS = "backprop.sklearn"
_passed: dict[type, tuple[Any, ...]] = {}
"""Of each class the values that were checked last, where none of them can change."""


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(cls._get_param_names())


def values_of(estimator: Any) -> tuple[Any, ...]:
    """Return the values of the parameters; none of a class that is not ours, whose checks may be its own."""
    cls: Any = type(estimator)
    return tuple(map(estimator.__dict__.get, _names(cls))) if cls.__module__ == _OURS else ()


def have_passed(cls: type, values: tuple[Any, ...]) -> bool:
    """Return whether these very objects were checked last: equal ones may be of another type."""
    return (known := _passed.get(cls)) is not None and all(map(is_, values, known))


def note_passed(estimator: Any, values: tuple[Any, ...]) -> None:
    """Remember values that were checked, unless one of them could change, or another thread has set one meanwhile."""
    if values and all(map(_is_constant, values)) and all(map(is_, values, values_of(estimator))):
        _passed[type(estimator)] = values


def _is_constant(value: Any) -> bool:
    kind = type(value)
    return kind in _CONSTANTS or (kind is tuple and all(type(each) in _CONSTANTS for each in value))


def per_layer(name: str, value: Any, kind: Any, n_hidden: int) -> None:
    """Raise unless the value is of that kind, or a sequence with one for each hidden layer."""
    if isinstance(value, kind):
        return
    if not isinstance(value, Iterable):
        raise TypeError(f"{name}: needs one value, or a sequence with one per hidden layer, got {check.shown(value)}")
    if len(found := list(value)) != n_hidden:
        raise ValueError(f"{name}: needs one value for each of the {n_hidden} hidden layers, got {len(found)}: {found}")
