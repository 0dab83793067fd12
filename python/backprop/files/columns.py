"""What each of many members has, as few tensors: files of fleets hold no object for each member."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.reference.initializers import Given

T = TypeVar("T")

INDEX = np.dtype(np.int64)


class Tensors:
    """The tensors of a file, each of which is taken once; what nobody takes does not belong there."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, dtype: np.dtype[Any] | None, shape: tuple[int | None, ...] | None) -> NDArray[Any]:
        """Return a tensor, which must be of this dtype and shape; None stands for any of them, or for any length."""
        if name not in self._left:
            raise ValueError(f"{name}: is missing")
        array = self._left.pop(name)
        fits = shape is None or (
            array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
        )
        if (dtype is not None and array.dtype != dtype) or not fits:
            raise ValueError(f"{name}: needs {dtype or 'a tensor'} {shape or ''}, got {array.dtype} {array.shape}")
        return array

    def check_all_taken(self, but: str | None = None) -> None:
        """Raise ValueError if tensors are left, other than those whose names begin with `but`."""
        left = sorted(name for name in self._left if but is None or not name.startswith(but))
        if left:
            raise ValueError(f"tensors: {check.shown(left)} do not belong there")


def all_finite(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each row of a block, (n, ...), whether all its numbers are finite, in little memory."""
    found = np.empty(len(block), np.bool_)
    step = max(1, (1 << 18) // max(1, block[:1].size))
    for start in range(0, len(block), step):
        some = block[start : start + step]
        found[start : start + step] = np.isfinite(some).reshape(len(some), -1).all(axis=1)
    return found


# --- values --------------------------------------------------------------------------------------------------------


def column(values: Sequence[Any]) -> tuple[list[Any] | None, NDArray[Any]]:
    """Return one value for each member as an array, and where they are more than numbers, what it has places of.

    Numbers and arrays of one shape are the array itself, without such a list.
    """
    kinds = {type(value) for value in values}
    if kinds == {float} or (kinds == {int} and all(-(2**63) <= value < 2**63 for value in values)):
        return None, np.array(values)
    if kinds == {np.ndarray}:
        return None, np.stack(values)
    return counted(values)


def counted(values: Sequence[Any]) -> tuple[list[Any], NDArray[Any]]:
    """Return the different values, and the place of each one in that list."""
    places: dict[tuple[type, Any], int] = {}
    options = []
    index = np.empty(len(values), INDEX)
    for k, value in enumerate(values):
        packed = pack(value)
        key = type(value), packed["float"] if isinstance(value, float) else value
        if key not in places:
            places[key] = len(places)
            options.append(packed)
        index[k] = places[key]
    return options, index


def values_of(name: str, choices: Any, array: NDArray[Any]) -> list[Any]:
    """Return what `column` was given."""
    if choices is None:
        return array.tolist() if array.ndim == 1 else list(array.copy())
    options = [unpack(choice) for choice in choices]
    if array.dtype != INDEX or array.ndim != 1 or (array.size and not 0 <= array.min() <= array.max() < len(options)):
        raise ValueError(f"{name}: needs places in a list of {len(options)}, got {array.dtype} {array.shape}")
    return [options[place] for place in array.tolist()]


def pack(value: Any) -> Any:
    """Return a number, a text or None in a form that JSON keeps to the last bit, infinities included."""
    if isinstance(value, float):
        return {"float": value.hex()}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"callbacks: need states of numbers, texts and arrays, got {check.shown(value)}")


def unpack(value: Any) -> Any:
    """Return what `pack` was given."""
    return real(value["float"]) if isinstance(value, dict) else value


def real(text: Any) -> float:
    """Return the number that `float.hex` wrote."""
    if not isinstance(text, str) or len(text) > 64:
        raise ValueError(f"needs a number in hexadecimal, got {check.shown(text)}")
    try:
        number = float.fromhex(text)
    except OverflowError:
        raise ValueError(f"needs a number in hexadecimal, got {text}") from None
    return math.nan if math.isnan(number) else number


# --- settings ------------------------------------------------------------------------------------------------------


def settings(prefix: str, records: Sequence[Any]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return frozen dataclasses of one class as what they share and what each has of its own, and tensors for that.

    Initial values that were given as arrays are left out: the file has the present ones.
    """
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    tensors: dict[str, NDArray[Any]] = {}
    for field in fields(records[0]):
        values = [getattr(record, field.name) for record in records]
        values = [field.default if isinstance(value, Given) else value for value in values]
        if all(value == values[0] for value in values):
            shared[field.name] = values[0]
        else:
            own[field.name], tensors[prefix + field.name] = column(values)
    return {"shared": shared, "own": own}, tensors


def records(prefix: str, entry: Mapping[str, Any], tensors: Tensors, kind: type[T], size: int) -> tuple[T, ...]:
    """Return what `settings` was given for so many members, or one record where they all have the same."""
    shared, own = dict(entry["shared"]), dict(entry["own"])
    if not own:
        return (kind(**shared),)
    columns = [
        values_of(prefix + name, choices, tensors.take(prefix + name, None, (size,))) for name, choices in own.items()
    ]
    made: dict[tuple[Any, ...], T] = {}
    found = []
    for values in zip(*columns, strict=True):
        record = made.get(values)
        if record is None:
            record = made[values] = kind(**shared, **dict(zip(own, values, strict=True)))
        found.append(record)
    return tuple(found)
