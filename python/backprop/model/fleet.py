"""Fleets: networks side by side, and what can be computed with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from backprop.backends import choice
from backprop.base import checks as check
from backprop.base import random
from backprop.base.fleet import FleetData, FleetState
from backprop.base.fleet_history import FleetHistory
from backprop.base.frames import Names, checked_names
from backprop.base.guard import Guard
from backprop.base.keywords import explained
from backprop.base.pickles import attributes
from backprop.base.state import TrainingState
from backprop.base.types import RealArray, new_block
from backprop.model import fleet_rows, rows
from backprop.model.model import Model
from backprop.model.views import Views, arrays_of
from backprop.reference.dense import Dense, checked_layers
from backprop.reference.layout import ArrayLayout, by_layer, draw, end, layout

if TYPE_CHECKING:
    from backprop.base.solving import SolverRun
    from backprop.reference.optimizers import Optimizer

CallbackStates: TypeAlias = list[tuple[str, list[dict[str, Any]]]]
"""the class of each callback of the last `fit`, and what its copies know, one for each member; [] where none does"""


class Run(Protocol):
    """A `fit` at work."""

    def stop(self, members: Any, reason: str) -> None:
        """End the training of some members soon."""

    def note_state(self) -> None:
        """Put the states of members and callbacks where a checkpoint finds them."""


@dataclass(slots=True, eq=False)
class Group:
    """Members of one shape, each array with a row for each of them."""

    members: NDArray[np.int64]
    """their places in the fleet, ascending, (size,)"""
    n_inputs: int
    layers: Sequence[tuple[Dense, ...]]
    """those of all members, or one for each, which differ in l1, l2, dropout and initial values only, and not in which
    of the first three are 0"""
    seeds: Sequence[int]
    """(size,): a range, an array or a tuple"""
    parameters: RealArray
    """(size, n_parameters)"""
    state: FleetState | None = None
    """None before the first training; its slots are as many as the optimizer with the most has"""
    optimizers: tuple[Optimizer | None, ...] = (None,)
    """the last one of all members, or one for each; None where there was none"""
    learning_rates: NDArray[np.float64] | None = None
    """(size,) where they are other ones than the optimizers'"""
    n_shuffled: NDArray[np.int64] | None = None
    """how many rows the last training took in random order, (size,)"""
    feature_names: Names | None = None
    """as `Model.feature_names`, of all members"""

    def __len__(self) -> int:
        return len(self.members)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.layers[0][-1].units

    @property
    def arrays_of_layers(self) -> Sequence[Sequence[ArrayLayout]]:
        """Where the arrays of each layer stand in a row of the parameters."""
        return by_layer(layout(self.n_inputs, self.layers[0]), len(self.layers[0]))

    def layers_of(self, row: int) -> tuple[Dense, ...]:
        """Return the layers of one member."""
        return self.layers[row % len(self.layers)]

    def optimizer_of(self, row: int) -> Optimizer | None:
        """Return the last optimizer of one member."""
        optimizer = self.optimizers[row % len(self.optimizers)]
        if optimizer is None or self.learning_rates is None:
            return optimizer
        return replace(optimizer, learning_rate=float(self.learning_rates[row]))

    def state_of(self, row: int) -> TrainingState | None:
        """Return the training state of one member, its arrays being views; None where it has none."""
        optimizer = self.optimizers[row % len(self.optimizers)]
        if self.state is None or optimizer is None:
            return None
        n_shuffled = 0 if self.n_shuffled is None else int(self.n_shuffled[row])
        state = self.state.of(row, n_shuffled)
        state.slots = state.slots[: optimizer.n_slots]
        return state

    def part(self, index: Any, members: NDArray[np.int64]) -> Group:
        """Return some of the members, by a slice or an array of rows, with these places in another fleet.

        The parameters are shared where the index is a slice; all else is copied.
        """

        def one_or_some(values: Sequence[Any]) -> Any:
            return values if len(values) == 1 else some(values, index)

        def copied(array: Any) -> Any:
            return None if array is None else array[index].copy()

        parameters = self.parameters[index]
        state: FleetState | None = None
        if self.state is not None:
            state = self.state.part(index)
            state.parameters = parameters
        return Group(
            members, self.n_inputs, one_or_some(self.layers), some(self.seeds, index), parameters, state,
            tuple(one_or_some(self.optimizers)),
            copied(self.learning_rates), copied(self.n_shuffled), self.feature_names,
        )  # fmt: skip


def some(values: Sequence[Any], index: Any) -> Any:
    """Return some of the values, by a slice or an array of places."""
    if isinstance(index, slice) or isinstance(values, np.ndarray):
        return values[index]
    if isinstance(values, range):
        return random.kept([values[k] for k in index.tolist()])
    return tuple(values[k] for k in index.tolist())


class FleetModel:
    """What a fleet is without its training: `backprop.Fleet` documents the arguments."""

    __slots__ = (
        "__weakref__", "_backend", "_callbacks", "_core", "_dtype", "_groups", "_guard", "_numbers", "_run", "_size",
        "_solved", "history",
    )  # fmt: skip
    # A wrong name is no new attribute: fleet.seed = 1 would change nothing.

    _member_class: ClassVar[type[Model]] = Model

    @explained
    def __init__(
        self,
        n_inputs: int,
        layers: Sequence[Dense],
        *,
        size: int | None = None,
        seed: int | Sequence[int] | None = None,
        dtype: DTypeLike = "float32",
        backend: str | None = None,
    ) -> None:
        n_inputs = check.integer("n_inputs", n_inputs, at_least=1)
        one = checked_layers(layers)
        seeds = random.seeds(size, seed)
        real = check.real_dtype("dtype", dtype)
        arrays = layout(n_inputs, one)
        parameters = new_block("size", (len(seeds), end(arrays)), real)
        draw(parameters, arrays, one, seeds)
        members = np.arange(len(seeds), dtype=np.int64)
        self._assemble((Group(members, n_inputs, (one,), seeds, parameters),), real, backend)

    def _assemble(
        self,
        groups: tuple[Group, ...],
        dtype: np.dtype[Any],
        backend: str | None,
        history: FleetHistory | None = None,
    ) -> None:
        """Set every attribute; the arguments have been checked."""
        self._groups, self._dtype = groups, dtype
        self._backend = choice.select(backend)
        self._core = self._backend.module(dtype)
        self._size = sum(map(len, groups))
        self._guard = Guard()
        self._run: Run | None = None
        self._callbacks: CallbackStates = []
        self._solved: dict[int, SolverRun] = {}
        """the last minimisation of each member that had one after its last training"""
        self._numbers: NDArray[np.int64] | None = None
        """what callbacks call the members, (size,), where the fleet is a piece of another one"""
        self.history = FleetHistory(self._size) if history is None else history

    @classmethod
    def _assembled(
        cls, groups: tuple[Group, ...], dtype: np.dtype[Any], backend: str | None, history: FleetHistory | None = None
    ) -> Self:
        """Return a fleet of these groups."""
        fleet = cls.__new__(cls)
        fleet._assemble(groups, dtype, backend, history)
        return fleet

    # --- what it is made of ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._size

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._dtype

    @property
    def backend(self) -> str:
        """The name of the backend that computes."""
        return self._backend.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each member, as `Network.seed`."""
        found = {k: seed for group in self._groups for k, seed in zip(group.members.tolist(), group.seeds, strict=True)}
        return tuple(int(found[k]) for k in range(self._size))

    @property
    def layers(self) -> tuple[Dense, ...]:
        """The layers of the members; of the first one, where they differ in l1, l2 and dropout.

        Raises
        ------
        ValueError
            If the members have several shapes.
        """
        return self._one_group("layers").layers[0]

    @property
    def feature_names(self) -> Names | None:
        """The names of the columns of X, as `Network.feature_names`.

        Raises
        ------
        ValueError
            If the members have several shapes.
        """
        return self._one_group("feature_names").feature_names

    @feature_names.setter
    def feature_names(self, names: Iterable[str] | None) -> None:
        group = self._one_group("feature_names")
        group.feature_names = checked_names("feature_names", names, group.n_inputs)

    @property
    def n_parameters(self) -> int:
        """Number of weights, biases and slopes of all members together."""
        return sum(group.parameters.size for group in self._groups)

    @property
    def parameters(self) -> RealArray:
        """Those of all members, (size, n_parameters of one): writable; assignment copies.

        Raises
        ------
        ValueError
            If the members have several shapes.
        """
        return self._one_group("parameters").parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        own = self._one_group("parameters").parameters
        own[...] = check.array("parameters", values, self._dtype, own.shape)

    @property
    def weights(self) -> Views:
        """The weights of each layer, (size, n_in, n_out): writable views of `parameters`.

        Raises
        ------
        ValueError
            If the members have several shapes.

        Examples
        --------
        >>> import backprop as bp
        >>> fleet = bp.Fleet(2, [bp.Dense(3, "tanh"), bp.Dense(1)], size=100)
        >>> fleet.weights[0].shape, fleet.biases[0].shape
        ((100, 2, 3), (100, 3))
        """
        return self._arrays_of("weights")

    @weights.setter
    def weights(self, values: Iterable[ArrayLike | None]) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> Views:
        """The biases of each layer, (size, n_out), or None where a layer has none; as `weights`."""
        return self._arrays_of("biases")

    @biases.setter
    def biases(self, values: Iterable[ArrayLike | None]) -> None:
        self.biases.assign(values)

    @property
    def slopes(self) -> Views:
        """The slopes of each ``prelu`` layer, (size, n_out), None for other layers; as `weights`."""
        return self._arrays_of("slopes")

    @slopes.setter
    def slopes(self, values: Iterable[ArrayLike | None]) -> None:
        self.slopes.assign(values)

    def _arrays_of(self, name: str) -> Views:
        group = self._one_group(name)
        return Views(name, arrays_of(name, group.arrays_of_layers, group.parameters))

    def _one_group(self, name: str) -> Group:
        if len(self._groups) != 1:
            raise ValueError(f"{name}: needs members of one shape, the fleet has {len(self._groups)}; see its members")
        return self._groups[0]

    def _place(self, k: int) -> tuple[Group, int]:
        """Return the group of a member and its row there."""
        for group in self._groups:
            row = int(np.searchsorted(group.members, k))
            if row < len(group) and group.members[row] == k:
                return group, row
        raise AssertionError(k)

    # --- members and parts -----------------------------------------------------------------------------------------

    def _member(self, k: int, layers: tuple[Dense, ...] | None = None) -> Model:
        """Return a network that shares the parameters of a member, without training state and history."""
        group, row = self._place(k)
        layers = group.layers_of(row) if layers is None else layers
        seed, backend = int(group.seeds[row]), self._backend.name
        network = self._member_class._assembled(group.n_inputs, layers, self._dtype, seed, backend)
        network._parameters, network._guard = group.parameters[row], self._guard
        network._feature_names, network._is_member = group.feature_names, True
        return network

    def _trained_member(self, k: int) -> Model:
        """Return `_member` with copies of training state and history."""
        network = self._member(k)
        group, row = self._place(k)
        state = group.state_of(row)
        if state is not None:
            state.callbacks = [(kind, states[k] if states else {}) for kind, states in self._callbacks]
            network._state, network._optimizer = deepcopy(state), group.optimizer_of(row)
            network._state.parameters = network._parameters
        network.history, network._solved = self.history.of(k), deepcopy(self._solved.get(k))
        return network

    def __iter__(self) -> Iterator[Any]:
        return (self._trained_member(k) for k in range(self._size))

    # --- what it computes ------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """Return the outputs of every member.

        Parameters
        ----------
        X
            Real numbers: (n, n_inputs) for all members, (size, n, n_inputs) with rows for each, or a list of arrays
            (n_k, n_inputs).

        Returns
        -------
        ndarray or list of ndarray
            (size, n, n_outputs), of the fleet's dtype; for a list, an array (n_k, n_outputs) for each member.

        Raises
        ------
        TypeError, ValueError
            If X is none of this, or the members' numbers of outputs differ and X is no list.
        RuntimeError
            If another thread trains the fleet at the same time.

        Examples
        --------
        >>> import backprop as bp
        >>> bp.Fleet(2, [bp.Dense(1, weight_init=1.0)], size=2).predict([[1.0, 2.0]])
        array([[[3.]],
        <BLANKLINE>
               [[3.]]], dtype=float32)
        """
        X, columns = fleet_rows.opened("X", X)
        form = fleet_rows.form("X", X, self._size)
        if len({group.n_outputs for group in self._groups}) > 1 and form != "list":
            raise ValueError("X: needs a list with rows for each member, whose numbers of outputs differ")
        count = self._guard.count
        found: list[Any] = [None] * self._size
        together: RealArray | None = None
        for group in self._groups:
            fleet_rows.columns_of("X", columns, group.members, group.feature_names)
            own = fleet_rows.features(group.n_inputs, self._dtype, fleet_rows.some("X", X, form, group.members), form)
            plan = self._core.Plan(group.n_inputs, group.layers[0])
            if form != "list" and together is None:
                together = np.empty((self._size, own.shape[-2], group.n_outputs), self._dtype)
            for row, k in enumerate(group.members.tolist()):
                rows_of_member = own if form == "shared" else own[row]
                out = np.empty((len(rows_of_member), group.n_outputs), self._dtype) if together is None else together[k]
                self._core.forward(plan, group.parameters[row], rows_of_member, out)
                found[k] = out
        self._guard.check_reader(count)
        return found if together is None else together

    def _data(
        self,
        X: Any,
        y: Any,
        loss: Any,
        sample_weight: Any,
        names: tuple[str, str, str] = ("X", "y", "sample_weight"),
        dtype: Any = None,
    ) -> list[tuple[Group, Any, FleetData]]:
        """Return for each group the loss as an object and the rows of its members in the form that backends take.

        `dtype` is what the loss is computed in, where that is not the fleet's.
        """
        found = []
        forms = fleet_rows.forms_of(X, y, sample_weight, self._size, names, loss)
        for group in self._groups:
            layers, columns = group.layers[0], group.feature_names
            ends = fleet_rows.GroupEnds(group.n_inputs, group.n_outputs, layers, self._dtype, columns)
            checked = rows.loss(ends, loss, custom=True, dtype=dtype)
            if checked.sees_derivatives:
                for own in group.layers:
                    rows.check_no_dropout(own, checked)
            found.append((group, checked, forms.of(ends, checked, group.members)))
        return found

    # --- copies and pickles ----------------------------------------------------------------------------------------

    def copy(self) -> Self:
        """Return a fleet like this one that shares nothing with it: parameters, training state and history."""
        return deepcopy(self)

    __copy__ = copy  # a copy that shares what is trained would leave both half trained

    def __getstate__(self) -> dict[str, Any]:
        return {
            "groups": self._groups, "dtype": self._dtype.name, "backend": self.backend, "history": self.history,
            "callbacks": self._callbacks, "solved": self._solved, "own": attributes(self, FleetModel.__slots__),
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = state["backend"] if state["backend"] in choice.available() else None
        groups: tuple[Group, ...] = state["groups"]
        dtype = check.real_dtype("dtype", state["dtype"])
        for group in groups:
            parameters = new_block("size", group.parameters.shape, dtype)
            parameters[...] = group.parameters
            group.parameters = parameters
            if group.state is not None:
                group.state.parameters = parameters
        self._assemble(groups, dtype, backend, state["history"])
        self._callbacks, self._solved = state["callbacks"], state.get("solved", {})
        for name, value in state.get("own", {}).items():
            setattr(self, name, value)
