"""What each member of a fleet is trained with: its optimizer, its learning rate, its layers' penalties and dropout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from backprop.base import checks as check
from backprop.model.fleet import Group
from backprop.reference.dense import Dense
from backprop.reference.optimizers import OPTIMIZERS, Optimizer

PENALTIES = ("l1", "l2", "dropout")


class Varied(Sequence[tuple[Dense, ...]]):
    """Layers of each member, made when they are asked for: thousands of them would take more memory than parameters.

    base: one for all members, or one for each; values: what l1, l2 or dropout are in its place, (size,) each.
    """

    def __init__(self, base: Sequence[tuple[Dense, ...]], values: Mapping[str, NDArray[np.float64]]) -> None:
        self.base, self.values = base, values
        self.size = len(next(iter(values.values())))

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, k: int) -> tuple[Dense, ...]: ...
    @overload
    def __getitem__(self, k: slice) -> list[tuple[Dense, ...]]: ...
    def __getitem__(self, k: int | slice) -> Any:
        if isinstance(k, slice):
            return [self[j] for j in range(*k.indices(self.size))]
        layers = self.base[k % len(self.base)]
        own: dict[str, Any] = {name: float(values[k]) for name, values in self.values.items()}
        hidden = [replace(layer, **own) for layer in layers[:-1]]
        own.pop("dropout", None)
        return (*hidden, replace(layers[-1], **own))

    def __iter__(self) -> Iterator[tuple[Dense, ...]]:
        return (self[k] for k in range(self.size))


class MemberSettings:
    """The optimizers of a fleet's members, and what replaces numbers of theirs and of their layers."""

    def __init__(self, size: int, optimizer: Any, learning_rate: Any, penalties: Mapping[str, Any]) -> None:
        self.size = size
        self.optimizers = _optimizers(optimizer, size)
        self.learning_rates = None if learning_rate is None else _numbers("learning_rate", learning_rate, size, above=0)
        if self.learning_rates is not None and any(map(_depends_on_rate, self.optimizers)):
            own = self.optimizers if len(self.optimizers) > 1 else self.optimizers * size
            rates = self.learning_rates.tolist()
            self.optimizers = tuple(replace(each, learning_rate=rate) for each, rate in zip(own, rates, strict=True))
        bounds: dict[str, dict[str, float]] = {"l1": {}, "l2": {}, "dropout": {"below": 1}}
        self.penalties = {
            name: _numbers(name, value, size, at_least=0, **bounds[name])
            for name, value in penalties.items()
            if value is not None
        }

    def optimizers_of(self, members: NDArray[np.int64]) -> tuple[Optimizer, ...]:
        """Return the one of all members, or one for each of some."""
        if len(self.optimizers) == 1:
            return self.optimizers
        return tuple(self.optimizers[k] for k in members.tolist())

    def rates_of(self, members: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the learning rates of some members."""
        if self.learning_rates is not None:
            return self.learning_rates[members]
        rates = [optimizer.learning_rate for optimizer in self.optimizers_of(members)]
        return np.full(len(members), rates[0]) if len(rates) == 1 else np.array(rates)

    def layers_of(self, group: Group, rows: NDArray[np.int64]) -> Sequence[tuple[Dense, ...]]:
        """Return the layers of some members of a group: one for all of them, or one for each."""
        base = group.layers if len(group.layers) == 1 else [group.layers[row] for row in rows.tolist()]
        if not self.penalties:
            return base
        members = group.members[rows]
        return Varied(base, {name: values[members] for name, values in self.penalties.items()})

    def kinds(self, group: Group) -> list[NDArray[np.int64]]:
        """Return the rows of a group that one call of the core can train together.

        They are equal in what is no number, and in which numbers are 0.
        """
        codes = [(values[group.members] != 0).astype(np.int64) for values in self.penalties.values()]
        if len(self.optimizers) > 1:
            known: dict[Any, int] = {}
            kinds = (known.setdefault(_kind(each), len(known)) for each in self.optimizers_of(group.members))
            codes.append(np.fromiter(kinds, np.int64, len(group)))
        if not codes:
            return [np.arange(len(group))]
        _, which = np.unique(np.stack(codes), axis=1, return_inverse=True)
        which = which.reshape(-1)
        return [np.flatnonzero(which == kind) for kind in range(which.max() + 1)]


def _optimizers(optimizer: Any, size: int) -> tuple[Optimizer, ...]:
    """Return one optimizer, or one for each member."""
    if isinstance(optimizer, (str, Optimizer, type)) or not isinstance(optimizer, Sequence):
        return (check.setting("optimizer", optimizer, Optimizer, OPTIMIZERS),)
    if len(optimizer) != size:
        raise ValueError(f"optimizer: needs one, or one for each of the {size} members, got {len(optimizer)}")
    found = tuple(check.setting(f"optimizer[{k}]", each, Optimizer, OPTIMIZERS) for k, each in enumerate(optimizer))
    for k, each in enumerate(found):
        if type(each) is not type(found[0]):
            raise ValueError(f"optimizer[{k}]: needs the class of the first one, got {check.shown(each)}")
    return found


def _depends_on_rate(optimizer: Optimizer) -> bool:
    """Whether its other hyperparameters are relative to the learning rate, so that one object is not enough."""
    other = replace(optimizer, learning_rate=2 * optimizer.learning_rate)
    return other.hyperparameters != optimizer.hyperparameters


def _kind(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return what members that train together have in common."""
    values = [getattr(optimizer, field.name) for field in fields(optimizer) if field.name != "learning_rate"]
    return tuple(value != 0 if isinstance(value, float) else (type(value).__name__, value) for value in values)


def _numbers(name: str, value: Any, size: int, **bounds: float) -> NDArray[np.float64]:
    """Return a number for each member, (size,)."""
    if check.n_axes(value) == 0:
        return np.full(size, check.number(name, value.item() if isinstance(value, np.ndarray) else value, **bounds))
    numbers = check.array(name, value, np.dtype(np.float64), (size,))
    for k in (int(numbers.argmin()), int(numbers.argmax())):
        check.number(f"{name}[{k}]", float(numbers[k]), **bounds)
    return np.asarray(numbers, np.float64)
