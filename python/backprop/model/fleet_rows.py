"""What a fleet is given, in the form that backends take: rows that all members share, or rows of each member."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base import class_weights, frames
from backprop.base.fleet import FleetData
from backprop.base.frames import Names as ColumnNames
from backprop.base.types import Data, RealArray
from backprop.model import rows
from backprop.reference.dense import Dense
from backprop.reference.losses import Loss

Form: TypeAlias = Literal["shared", "each", "list"]
"""X as (n, d) for all members, as (size, n, d), or as one array (n_k, d) for each"""
Names: TypeAlias = tuple[str, str, str]
Columns: TypeAlias = ColumnNames | list[ColumnNames | None] | None
"""the names of the columns of X: those of a table for all members, or of one for each"""


class GroupEnds(NamedTuple):
    """What rows have to fit: `rows.Ends` of the members of a group."""

    n_inputs: int
    n_outputs: int
    layers: tuple[Dense, ...]
    dtype: np.dtype[Any]
    feature_names: ColumnNames | None


def opened(name: str, X: Any) -> tuple[Any, Columns]:
    """Return X with arrays in the place of tables and tensors, and the names of its columns."""
    check.unmasked(name, X)
    if not _holds_tables(X):
        return frames.opened(name, X)
    pairs = [frames.opened(f"{name}[{k}]", own) for k, own in enumerate(X)]
    columns = [names for _, names in pairs]
    return [own for own, _ in pairs], columns if any(columns) else None


def opened_targets(name: str, arrays: Any) -> Any:
    """Return targets or weights with arrays in the place of tables and tensors."""
    check.unmasked(name, arrays)
    if not _holds_tables(arrays):
        return frames.values(name, arrays)
    return [frames.values(f"{name}[{k}]", own) for k, own in enumerate(arrays)]


def _holds_tables(arrays: Any) -> bool:
    """Whether this is a list of what may be tables or tensors."""
    plain = (np.ndarray, list, tuple, int, float, np.number)
    return isinstance(arrays, (list, tuple)) and not all(isinstance(own, plain) for own in arrays)


def columns_of(
    name: str, columns: Columns, members: NDArray[np.int64], known: ColumnNames | None
) -> ColumnNames | None:
    """Return the names of the columns of some members' X, or else those known; ValueError where they differ."""
    if columns is None:
        return known
    if isinstance(columns, tuple):
        frames.compare(name, columns, known)
        return columns
    for k in members.tolist():
        frames.compare(f"{name}[{k}]", columns[k], known)
        known = known or columns[k]
    return known


def form(name: str, X: Any, size: int) -> Form:
    """Return in which form X is; TypeError or ValueError where it is in none for so many members."""
    if isinstance(X, Mapping):
        raise TypeError(
            f"{name}: needs an array or a list of arrays, got {check.shown(X)}; list({name}.values()) is one"
        )
    is_list = isinstance(X, (list, tuple)) and len(X) > 0 and check.n_axes(X[0]) == 2
    n_axes = -1 if is_list else check.n_axes(X)
    if is_list or (n_axes < 0 and isinstance(X, (list, tuple)) and any(check.n_axes(own) == 2 for own in X)):
        if len(X) != size:
            raise ValueError(f"{name}: needs an array for each of the {size} members, got {len(X)}")
        return "list"
    if n_axes == 1 and not isinstance(X, (list, tuple)) and len(X) and check.n_axes(next(iter(X))) == 2:
        raise TypeError(f"{name}: needs a list of arrays, got an array of objects; list({name}) is one")
    if n_axes == 3 and len(X) != size:
        raise ValueError(f"{name}: needs rows for each of the {size} members, got shape {np.shape(X)}")
    return "each" if n_axes == 3 else "shared"


def refuse_member_by_member(name: str, given: Any, size: int, parts: str, belong: Callable[[Any, Any], bool]) -> None:
    """Raise TypeError for the parts of one member after the other, where those of all are wanted one after the other.

    `belong` tells whether two arrays can be the first two parts of one member. A list that can be read in both ways is
    refused, too; a tuple is what it is to be.
    """
    if not isinstance(given, (list, tuple)) or len(given) != size:
        return
    if not all(isinstance(own, (list, tuple)) and len(own) in (2, 3) and belong(*own[:2]) for own in given):
        return
    as_wanted = size in (2, 3) and len(given[0]) == len(given[1]) == size and all(map(belong, *given[:2]))
    if not as_wanted or isinstance(given, list):
        doubt = f"; if these are the parts of all members already, tuple({name})" if as_wanted else ""
        raise TypeError(
            f"{name}: needs {parts}, each of all {size} members, got a list of the parts of each member: write "
            f"tuple(zip(*{name})){doubt}"
        )


def refuse_pairs(validation_data: Any, size: int, n_inputs: set[int]) -> None:
    """Raise TypeError for a list of the validation rows of each member, with their targets."""

    def belong(X: Any, y: Any) -> bool:
        if check.n_axes(X) != 2 or check.n_axes(y) < 1:
            return False
        n_rows, n_columns = np.shape(X)
        return n_columns in n_inputs and np.shape(y)[0] == n_rows

    refuse_member_by_member("validation_data", validation_data, size, "(X, y) or (X, y, sample_weight)", belong)


def some(name: str, arrays: Any, form: Form, members: NDArray[np.int64]) -> Any:
    """Return what belongs to some members, without copying where they are all or neighbours."""
    if arrays is None or form == "shared":
        return arrays
    if form == "list" or isinstance(arrays, (list, tuple)):
        if not isinstance(arrays, (list, tuple, np.ndarray)):
            arrays = list(arrays)  # a Series of pandas looks for labels, not for places
        return [arrays[k] for k in members.tolist()]
    array = np.asarray(arrays)
    first, last = int(members[0]), int(members[-1]) + 1
    return array[first:last] if last - first == len(members) else array[members]


def features(n_inputs: int, dtype: np.dtype[Any], X: Any, form: Form, name: str = "X") -> Any:
    """Return X of some members as the backends take it, in its form."""
    if form == "shared":
        return check.features(name, X, dtype, n_inputs)
    if form == "list":
        return [check.features(f"{name}[{k}]", own, dtype, n_inputs) for k, own in enumerate(X)]
    try:
        together = np.asarray(X)
        flat = check.features(name, together.reshape(-1, together.shape[-1]), dtype, n_inputs)
    except (TypeError, ValueError):
        for k, own in enumerate(X):  # says where
            check.features(f"{name}[{k}]", own, dtype, n_inputs)
        raise
    return flat.reshape(together.shape)


class Forms:
    """X, y and weights as the user has given them, before they are checked for each group."""

    def __init__(self, X: Any, y: Any, sample_weight: Any, size: int, names: Names) -> None:
        self.size, self.names = size, names
        self.X, self.columns = X, _ = opened(names[0], X)
        self.y = y = opened_targets(names[1], y)
        self.sample_weight = sample_weight = opened_targets(names[2], sample_weight)
        self.form = form(names[0], X, size)
        if self.form != "shared":
            for name, values in ((names[1], y), *([] if sample_weight is None else [(names[2], sample_weight)])):
                if not hasattr(values, "__len__") or len(values) != size:
                    got = f"{len(values)} of them" if hasattr(values, "__len__") else check.shown(values)
                    raise ValueError(f"{name}: needs rows for each of the {size} members, as {names[0]}, got {got}")

    def of(self, ends: rows.Ends, loss: Loss | Custom, members: NDArray[np.int64]) -> FleetData:
        """Return the rows of some members, checked."""
        columns_of(self.names[0], self.columns, members, ends.feature_names)
        if self.form == "shared":
            return self.shared(ends, loss, members)
        X, y, weight = (some("", values, self.form, members) for values in (self.X, self.y, self.sample_weight))
        if self.form == "list" or isinstance(loss, Custom):
            return self.one_by_one(ends, loss, members, X, y, weight)
        try:
            return self.together(ends, loss, len(members), X, y, weight)
        except (TypeError, ValueError):
            self.one_by_one(ends, loss, members, X, y, weight)  # says where
            raise

    def one_by_one(
        self, ends: rows.Ends, loss: Loss | Custom, members: NDArray[np.int64], X: Any, y: Any, weight: Any
    ) -> FleetData:
        """Check the rows of each member."""
        checked: list[Data] = []
        for row, k in enumerate(members.tolist()):
            names = tuple(f"{name}[{k}]" for name in self.names)
            own = None if weight is None else weight[row]
            checked.append(rows.rows(ends, loss, X[row], y[row], own, names, may_weigh_outputs=False))  # type: ignore[arg-type]
        weights = None if weight is None else [data.sample_weight for data in checked]
        return FleetData(len(members), [data.X for data in checked], [data.targets for data in checked], weights)

    def together(self, ends: rows.Ends, loss: Loss, size: int, X: Any, y: Any, weight: Any) -> FleetData:
        """Check the rows of all members, as many for each, as one long table."""
        together = features(ends.n_inputs, ends.dtype, X, "each", self.names[0])
        n_rows = together.shape[1]
        targets = targets_together(self.names[1], np.asarray(y), loss, ends, (size, n_rows))
        return FleetData(size, together, targets, weights_together(self.names[2], weight, ends, (size, n_rows)))

    def shared(self, ends: rows.Ends, loss: Loss | Custom, members: NDArray[np.int64]) -> FleetData:
        """Check rows that all members share; their targets and weights may be each member's own."""
        X = check.features(self.names[0], self.X, ends.dtype, ends.n_inputs)
        targets = self.shared_targets(ends, loss, members, len(X))
        name, weight = self.names[2], self.sample_weight
        if weight is not None and check.n_axes(weight) == 2:
            if np.shape(weight) != (self.size, len(X)):
                wanted = f"shape {(self.size, len(X))}, a weight for each member and row"
                raise ValueError(f"{name}: needs {wanted}, got shape {np.shape(weight)}")
            own = some("", np.asarray(weight), "each", members)
            try:
                weight = weights_together(name, own, ends, (len(members), len(X)))
            except (TypeError, ValueError):
                for row, k in enumerate(members.tolist()):  # says where
                    check.weights(f"{name}[{k}]", own[row], ends.dtype, len(X))
                raise
        else:
            weight = check.weights(name, weight, ends.dtype, len(X))
        return FleetData(len(members), X, targets, weight)

    def shared_targets(self, ends: rows.Ends, loss: Loss | Custom, members: NDArray[np.int64], n_rows: int) -> Any:
        """Check targets for rows that all members share."""
        name, y, n_outputs = self.names[1], self.y, ends.n_outputs
        has_own = self.has_own_targets(y, n_rows, n_outputs, isinstance(loss, Custom))
        if not has_own and not isinstance(loss, Custom):
            try:
                return check.targets(name, y, loss, ends.dtype, n_rows, n_outputs)
            except ValueError as error:
                if check.n_axes(y) != 2 or np.shape(y)[1] == n_outputs:
                    raise
                raise ValueError(f"{error}; of each member's own, shape {(self.size, n_rows)}") from None
        if not has_own:  # what they look like tells nobody whether they are shared
            return [check.rows_of_targets(name, y, n_rows, n_outputs)] * len(members)
        own = some("", np.asarray(y), "each", members)
        names = [f"{name}[{k}]" for k in members.tolist()]
        if isinstance(loss, Custom):
            return [check.rows_of_targets(*each, n_rows, n_outputs) for each in zip(names, own, strict=True)]
        try:
            return targets_together(name, own, loss, ends, (len(members), n_rows))
        except (TypeError, ValueError):
            for each in zip(names, own, strict=True):  # says where
                check.targets(*each, loss, ends.dtype, n_rows, n_outputs)
            raise

    def has_own_targets(self, y: Any, n_rows: int, n_outputs: int, custom: bool) -> bool:
        """Whether targets for shared rows are each member's own: (size, n, outputs), or (size, n)."""
        shape = () if check.n_axes(y) < 0 else np.shape(y)
        if custom:
            return len(shape) > 1 and shape[:2] == (self.size, n_rows) and shape != (n_rows, n_outputs)
        if len(shape) == 3 and len(y) != self.size:
            raise ValueError(f"{self.names[1]}: needs targets for each of the {self.size} members, got shape {shape}")
        return len(shape) == 3 or (len(shape) == 2 and shape != (n_rows, n_outputs) and shape == (self.size, n_rows))


class SlopeForms:
    """The same for a loss that sees derivatives, whose targets are a pair (y, dy)."""

    def __init__(self, X: Any, y: Any, sample_weight: Any, size: int, names: Names, loss: Loss) -> None:
        refuse_member_by_member(names[1], y, size, "(y, dy)", _are_outputs_and_slopes)
        rows.check_pair(names[1], loss, y)
        self.size, self.name = size, f"{names[1]}[1]"
        self.outputs = Forms(X, y[0], sample_weight, size, (names[0], f"{names[1]}[0]", names[2]))
        self.slopes = opened_targets(self.name, y[1])

    def of(self, ends: rows.Ends, loss: Any, members: NDArray[np.int64]) -> FleetData:
        """Return the rows of some members, checked; derivatives stand behind the outputs in each row of the targets."""
        data = self.outputs.of(ends, loss.loss, members)
        if data.is_shared and self.are_shared(ends, len(data.X)):
            found = [rows.slopes(ends, self.name, self.slopes, len(data.X))] * len(members)
            if data.shares_targets:
                targets = np.concatenate([data.targets, found[0]], axis=1)
                return FleetData(len(members), data.X, targets, data.sample_weight)
        else:
            found = [self.of_member(ends, k, int(n)) for k, n in zip(members.tolist(), data.n_rows, strict=True)]
        each = [np.concatenate([data.targets_of(row), own], axis=1) for row, own in enumerate(found)]
        return FleetData(
            len(members), data.X, np.stack(each) if isinstance(data.X, np.ndarray) else each, data.sample_weight
        )

    def are_shared(self, ends: rows.Ends, n_rows: int) -> bool:
        """Whether derivatives for shared rows are those of all members."""
        shape = () if check.n_axes(self.slopes) < 0 else np.shape(self.slopes)
        return shape in ((n_rows, ends.n_outputs, ends.n_inputs), *[(n_rows, ends.n_inputs)] * (ends.n_outputs == 1))

    def of_member(self, ends: rows.Ends, k: int, n_rows: int) -> RealArray:
        """Return the derivatives of a member."""
        if not hasattr(self.slopes, "__len__") or len(self.slopes) != self.size:
            is_array = check.n_axes(self.slopes) > 0
            raise ValueError(
                f"{self.name}: needs shape {(n_rows, ends.n_outputs, ends.n_inputs)}, or such an array for each of the "
                f"{self.size} members, got {f'shape {np.shape(self.slopes)}' if is_array else check.shown(self.slopes)}"
            )
        return rows.slopes(ends, f"{self.name}[{k}]", self.slopes[k], n_rows)


def _are_outputs_and_slopes(y: Any, dy: Any) -> bool:
    """Whether the shapes are those of a member's targets and their derivatives."""
    if check.n_axes(y) not in (1, 2) or check.n_axes(dy) not in (2, 3) or len(dy) != len(y):
        return False
    return check.n_axes(dy) == 3 or np.size(y) == len(y)


def forms_of(X: Any, y: Any, sample_weight: Any, size: int, names: Names, loss: Any) -> Forms | SlopeForms:
    """Return what a user has given, for this loss."""
    if isinstance(loss, Loss) and loss.sees_derivatives:
        return SlopeForms(X, y, sample_weight, size, names, loss)
    return Forms(X, y, sample_weight, size, names)


def as_given(targets: Any, ends: Any, loss: Any) -> Any:
    """Return targets as users give them: with derivatives, a pair."""
    if not (isinstance(loss, Loss) and loss.sees_derivatives):
        return targets
    if isinstance(targets, np.ndarray):
        n = ends.n_outputs
        return targets[..., :n], targets[..., n:].reshape(*targets.shape[:-1], n, ends.n_inputs)
    pairs = [as_given(own, ends, loss) for own in targets]
    return [y for y, _ in pairs], [dy for _, dy in pairs]


def targets_together(name: str, y: NDArray[Any], loss: Loss, ends: rows.Ends, shape: tuple[int, int]) -> NDArray[Any]:
    """Return the targets of members with as many rows each, (size, n, outputs) or labels (size, n)."""
    y = np.asarray(y)
    if y.shape[:2] != shape:
        raise ValueError(f"{name}: needs {shape[1]} rows for each of the {shape[0]} members, got shape {y.shape}")
    flat = y.reshape(shape[0] * shape[1], *y.shape[2:])
    checked = check.targets(name, flat, loss, ends.dtype, len(flat), ends.n_outputs)
    return checked.reshape(*shape, *checked.shape[1:])


def weights_together(name: str, weight: Any, ends: rows.Ends, shape: tuple[int, int]) -> RealArray | None:
    """Return the weights of members with as many rows each, (size, n)."""
    if weight is None:
        return None
    array = np.asarray(weight)
    if array.shape != shape:
        raise ValueError(f"{name}: needs shape {shape}, a weight for each member and row, got shape {array.shape}")
    checked = check.weights(name, array.reshape(-1), ends.dtype, array.size)
    assert checked is not None
    together: RealArray = checked.reshape(shape)
    for k in np.flatnonzero(together.max(axis=1) < np.finfo(ends.dtype).tiny).tolist():
        check.weights(f"{name}[{k}]", array[k], ends.dtype, shape[1])
    return together


# --- parts of the rows, and weights ---------------------------------------------------------------------------------


def split_rows(data: FleetData, share: float, members: NDArray[np.int64]) -> tuple[FleetData, FleetData]:
    """Return the first rows of each member and its last ones, which are this share of all."""
    for k in range(1 if data.is_shared and data.sample_weight is None else data.size):
        if k == 0 or data.n_rows[k] != data.n_rows[k - 1] or data.sample_weight is not None:
            try:
                check.split("validation_split", data.of(k), share)
            except ValueError as error:
                raise ValueError(f"{error} (member {members[k]})") from None

    def cut(arrays: Any, n_axes: int, last: bool) -> Any:
        if arrays is None:
            return None
        if not isinstance(arrays, np.ndarray):
            return [cut(array, array.ndim, last) for array in arrays]
        axis = arrays.ndim - n_axes
        first = math.floor(arrays.shape[axis] * (1 - share))
        rows = slice(first, None) if last else slice(first)
        return arrays[(slice(None),) * axis + (rows,)]

    parts = []
    for last in (False, True):
        y = cut(data.targets, 1 if data.has_labels else 2, last)
        parts.append(FleetData(data.size, cut(data.X, 2, last), y, cut(data.sample_weight, 1, last)))
    return parts[0], parts[1]


def with_class_weights(
    data: FleetData, class_weight: Any, loss: Loss | Custom, n_outputs: int, dtype: np.dtype[Any]
) -> FleetData:
    """Return the rows with their weights multiplied by those of their classes."""

    def weights(k: int) -> RealArray:
        own = data.of(k)
        of_classes = class_weights.of_rows("class_weight", class_weight, loss, own, n_outputs)
        if of_classes.ndim == 2:
            raise ValueError(f"class_weight: needs one output with {loss.name} in a fleet, got {n_outputs}")
        checked = check.weights("class_weight", of_classes, dtype, len(own.X))
        assert checked is not None
        return checked

    if data.shares_targets and (data.sample_weight is None or data.shares_weight):
        return FleetData(data.size, data.X, data.targets, weights(0))
    found: Sequence[RealArray] = [weights(k) for k in range(data.size)]
    together: Any = np.stack(found) if isinstance(data.X, np.ndarray) else found
    return FleetData(data.size, data.X, data.targets, together)
