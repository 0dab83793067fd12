"""A check of gradients against derivatives that know nothing of backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backprop import reference
from backprop.backends.custom import Custom
from backprop.base import checks as check
from backprop.base.keywords import explained
from backprop.base.text import aligned, markdown
from backprop.base.types import Data, RealArray
from backprop.explain.descent import central_difference
from backprop.model.objective import Objective
from backprop.model.rows import as_float64
from backprop.reference.layout import layout
from backprop.reference.losses import Compiled
from backprop.reference.losses.loss import as_rows
from backprop.reference.passes import forward_pass, objective

if TYPE_CHECKING:
    from backprop.backends.custom import LossLike
    from backprop.model.model import Model
    from backprop.reference.losses import Loss

Method = Literal["complex_step", "central_difference"]
METHODS: tuple[Method, ...] = ("complex_step", "central_difference")
_COMPLEX_STEP = 1e-100

# A gradient is a sum of products, each with a relative error of a few roundings for every layer: 450 roundings in
# float64, 84 in float32, where sums are not as long. What cancels in the sum comes on top: see _CONDITION.
_BOUNDS = {"float32": 1e-5, "float64": 1e-13}
# How near a kink rounding can mistake the side, in roundings.
_KINK_ROUNDINGS = 32.0
# A central difference has about ten digits.
_CENTRAL_BOUND = 1e-7
# The gradient may miss by this many times what it moves by when the parameters and X change in their last digit,
_CONDITION = 30.0
# and by this many times the error that the reference makes in the same dtype.
_REFERENCE_ERROR = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayCheck:
    """How the gradient of one array of parameters compares.

    Attributes
    ----------
    name : str
        ``"weights[k]"`` or ``"biases[k]"``.
    shape : tuple of int
        Its shape.
    checked : int
        How many of its numbers were compared.
    error : float
        ``norm(gradient - expected) / norm(expected)``, Euclidean; 0 for two zeros.
    bound : float
        What the error may be.
    worst : tuple of int or None
        The index of the largest difference; None where nothing was compared.
    gradient, expected : float
        The two numbers there.
    passed : bool
        Whether the error is within the bound.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    error: float
    bound: float
    worst: tuple[int, ...] | None
    gradient: float
    expected: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound."""
        return self.error <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientCheck:
    """The verdict of `check_gradients`; as a truth value, `passed`.

    Attributes
    ----------
    arrays : tuple of ArrayCheck
        One for each array of parameters, in the order of `Network.parameters`.
    method : {"complex_step", "central_difference"}
        How the expected gradient was found.
    dtype : str
        What the network computes in.
    backend : str
        The backend whose gradient was checked.
    kinks : tuple of int
        The rows of X that were left out, because a score or an error of theirs sits where two formulas meet.
    rows : int
        How many rows there were.
    """

    arrays: tuple[ArrayCheck, ...]
    method: Method
    dtype: str
    backend: str
    kinks: tuple[int, ...]
    rows: int

    @property
    def passed(self) -> bool:
        """Whether every array passed."""
        return all(array.passed for array in self.arrays)

    @property
    def error(self) -> float:
        """The largest error of all arrays."""
        return max((array.error for array in self.arrays), default=0.0)

    def __bool__(self) -> bool:
        return self.passed

    def _verdict(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        text = (
            f"gradients {verdict}: {self.dtype} on backend {self.backend} against {self.method.replace('_', ' ')}s, "
            f"largest error {self.error:.1e}"
        )
        if self.kinks:
            shown = ", ".join(map(str, self.kinks[:8])) + (", ..." if len(self.kinks) > 8 else "")
            text += f"\n{len(self.kinks)} of {self.rows} rows left out because they sit on a kink: {shown}"
        return text

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        header = ["array", "shape", "checked", "error", "bound", "worst at", "gradient", "expected", "verdict"]
        rows = [
            [
                array.name,
                " x ".join(map(str, array.shape)),
                str(array.checked),
                f"{array.error:.1e}",
                f"{array.bound:.1e}",
                "-" if array.worst is None else str(list(array.worst)),
                f"{array.gradient:.8g}",
                f"{array.expected:.8g}",
                "passed" if array.passed else "FAILED",
            ]
            for array in self.arrays
        ]
        return header, rows

    def __str__(self) -> str:
        return self._verdict() + "\n" + aligned(*self._rows(), left=2)

    def _repr_markdown_(self) -> str:
        return self._verdict().replace("\n", "  \n") + "\n\n" + markdown(*self._rows(), left=2)


@explained
def check_gradients(
    net: Model,
    X: ArrayLike,
    y: ArrayLike,
    loss: LossLike = "auto",
    sample_weight: ArrayLike | None = None,
    *,
    method: Method = "complex_step",
    bound: float | None = None,
    entries: int | None = None,
) -> GradientCheck:
    """Compare the gradients that a network computes with ones that owe nothing to backpropagation.

    The network's own backend computes the gradient, in the network's dtype. What it is compared with comes from values
    of the loss alone, computed in float64 by the NumPy reference, from the same numbers. For each array of parameters
    ``error = norm(gradient - expected) / norm(expected)`` in the Euclidean norm.

    Parameters
    ----------
    net
        The network; it is not changed.
    X, y, loss, sample_weight
        As in `Network.fit`: X (n, n_inputs), y (n, n_outputs) or (n,).
    method
        ``"complex_step"``: ``Im L(w + ih) / h`` with ``h = 1e-100``, right to the last digits.
        ``"central_difference"``: ``(L(w + h) - L(w - h)) / 2h``, right to about ten, which does not even rely on the
        loss's formula for complex numbers.
    bound
        The largest error that passes, > 0. None takes 1e-13 in float64 and 1e-5 in float32, with central differences
        1e-7 at least, and more where the gradient is so near 0 that a change in the last digit of the parameters and
        of X moves it by more.
    entries
        Compare at most this many numbers of each array, drawn at random but the same ones each time; None compares all.
        Each costs one forward pass over all rows, or two.

    Returns
    -------
    GradientCheck
        The verdict, with a table when printed.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or every row sits on a kink.

    Notes
    -----
    Where two formulas meet (``relu`` at 0, ``absolute_error`` at its target, an l1 penalty at a weight of 0) there is
    no derivative to compare with. Rows that come as near to such a place as rounding, or as a central difference, can
    reach are left out and listed; weights that are 0 under an l1 penalty are not compared. The gradient of what is not
    trainable has to be 0. Dropout and max_norm belong to training steps and do not enter. A loss of your own has no
    formula for complex numbers, so it needs central differences; where its kinks are is not known.

    After J. N. Lyness and C. B. Moler, "Numerical differentiation of analytic functions" (1967).

    Examples
    --------
    >>> import backprop as bp
    >>> net = bp.mlp([2, 3, 1], hidden="tanh", dtype="float64", seed=0)
    >>> verdict = bp.check_gradients(net, [[0.0, 1.0], [1.0, 0.5]], [1.0, 2.0], loss="squared_error")
    >>> verdict.passed, [array.name for array in verdict.arrays]
    (True, ['weights[0]', 'biases[0]', 'weights[1]', 'biases[1]'])
    """
    checked, data = net._data(X, y, loss, sample_weight, custom=True)
    if isinstance(checked, Compiled):
        checked.pointers(np.float64)  # differences of float32 would show nothing
    if check.choice("method", method, METHODS) == "complex_step" and isinstance(checked, (Custom, Compiled)):
        raise ValueError("method: needs 'central_difference' for a loss of your own, got 'complex_step'")
    if bound is not None:
        bound = check.number("bound", bound, above=0)
    if entries is not None:
        entries = check.integer("entries", entries, at_least=1, clipped=True)

    plan = reference.Plan(net.n_inputs, net.layers)
    eps = float(np.finfo(net.dtype).eps)
    parameters = net.parameters.astype(np.float64)
    wide = as_float64(data)
    chosen = _chosen(net, entries)

    smooth = ~_near_kinks(plan, checked, parameters, wide, _KINK_ROUNDINGS * eps)
    if method == "central_difference":
        smooth &= ~_crossed_kinks(plan, checked, parameters, wide, chosen)
    kinks = tuple(np.flatnonzero(~smooth).tolist())
    if not smooth.any():
        raise ValueError(
            f"X: needs a row away from the kinks of activations and of {checked.name}, got {len(smooth)} rows on them"
        )
    data, wide = _rows_of(data, smooth), _rows_of(wide, smooth)

    gradient = np.zeros_like(net.parameters)
    Objective(net._core, net._plan, net.layers, checked, data)(net.parameters, gradient)
    trainable = np.zeros(parameters.size, bool)
    for array in plan.arrays:
        trainable[array.part] = array.trainable
    smallest_step = 0.0 if method == "complex_step" else 1e-4
    chosen &= ~_l1_kinks(plan, parameters, smallest_step)
    expected = np.zeros_like(parameters)
    for i in np.flatnonzero(chosen & trainable):
        if method == "complex_step" and not isinstance(checked, (Custom, Compiled)):
            expected[i] = _complex_step(plan, checked, parameters, wide, int(i))
        else:
            along = _along(Objective(reference, plan, net.layers, checked, wide), parameters, int(i))
            expected[i] = central_difference(along, parameters[i : i + 1])[0]
    floor = _floor(net, plan, checked, data, wide)
    least = max(_BOUNDS[net.dtype.name], 0.0 if method == "complex_step" else _CENTRAL_BOUND)

    arrays = []
    for name, part, shape in _parts(net):
        compared = chosen[part]
        arrays.append(_compared(name, shape, compared, gradient[part], expected[part], floor[part], least, bound))
    return GradientCheck(
        arrays=tuple(arrays),
        method=method,
        dtype=net.dtype.name,
        backend=net.backend,
        kinks=kinks,
        rows=len(smooth),
    )


def _floor(net: Model, plan: reference.Plan, loss: Loss | Custom, data: Data, wide: Data) -> NDArray[np.float64]:
    """Return how exact each element of the gradient can be at all; `wide` are the data in float64."""
    parameters = net.parameters.astype(np.float64)

    def gradient(point: RealArray, rows: Data) -> RealArray:
        result = np.zeros_like(point)
        Objective(reference, plan, net.layers, loss, rows)(point, result)
        return result

    floor = _CONDITION * _sensitivity(gradient, parameters, wide, float(np.finfo(net.dtype).eps))
    if net.dtype == np.float32:
        # How far the reference's gradient in the network's dtype is from its gradient in float64.
        own, exact = gradient(net.parameters, data), gradient(parameters, wide)
        floor = np.maximum(floor, _REFERENCE_ERROR * np.abs(own.astype(np.float64) - exact))
    return floor


def _complex_step(plan: reference.Plan, loss: Loss, parameters: NDArray[np.float64], data: Data, index: int) -> float:
    """Return the derivative of the loss with respect to one parameter, from one value at a complex point."""
    point = parameters.astype(np.complex128)
    point[index] += 1j * _COMPLEX_STEP
    with np.errstate(all="ignore"):
        return float(sum(objective(plan, loss, point, data, None)).imag / _COMPLEX_STEP)


def _rows_of(data: Data, keep: NDArray[np.bool_]) -> Data:
    """Return some of the rows."""
    X, targets, weight = data
    return Data(X[keep], targets[keep], None if weight is None else weight[keep])


def _parts(net: Model) -> list[tuple[str, slice, tuple[int, ...]]]:
    """Return name, place and shape of every array of parameters."""
    return [(f"{array.name}[{array.layer}]", array.part, array.shape) for array in layout(net.n_inputs, net.layers)]


def _chosen(net: Model, entries: int | None) -> NDArray[np.bool_]:
    """Mark the parameters to compare."""
    chosen = np.ones(net.n_parameters, bool)
    rng = np.random.default_rng(0)
    for _, part, _ in _parts(net):
        size = part.stop - part.start
        if entries is not None and entries < size:
            chosen[part] = False
            chosen[part.start + rng.choice(size, entries, replace=False)] = True
    return chosen


def _switches(
    plan: reference.Plan, loss: Loss | Custom, parameters: NDArray[np.float64], data: Data
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return, for each place where two formulas meet, the signed distance from it and the size of what makes it up.

    Both are (rows, units): a formula changes where the distance changes its sign, and rounding can change it where it
    is small beside the size.
    """
    with np.errstate(all="ignore"):
        run = forward_pass(plan, parameters, data.X)
        found = []
        sizes = np.abs(data.X)
        for bound_layer, Z, A in zip(plan.layers, run.scores, run.outputs, strict=True):
            views, layer = bound_layer.views(parameters), bound_layer.settings
            bound = sizes @ np.abs(views["weights"])
            bound = bound + np.abs(views["biases"]) if layer.bias else bound
            if not layer.function.smooth:
                found.append((layer.function.kink_distance(Z), bound))
            # What was added up to make Z may be larger than Z: that carries over to the outputs.
            sizes = np.abs(A) + (bound if layer.function.elementwise and not layer.function.smooth else 0)
        if not isinstance(loss, Custom) and not loss.smooth:
            A = run.outputs[-1]
            Y = as_rows(data.targets, plan.n_outputs, data.X.dtype)
            distance = loss.kink_distance(A, Y)
            if layer.function.elementwise:
                # An output that stays where it is, such as 1 of hard_tanh, can sit on a kink of hinge to no effect.
                flat = layer.score_gradient(views, Z, A, np.ones_like(A)) == 0
                distance = np.where(flat, np.inf, distance)
            found.append((distance, bound + np.abs(Y)))
        return found


def _near_kinks(
    plan: reference.Plan, loss: Loss | Custom, parameters: NDArray[np.float64], data: Data, tolerance: float
) -> NDArray[np.bool_]:
    """Mark the rows that rounding alone could carry over a kink."""
    near = np.zeros(len(data.X), bool)
    for distance, size in _switches(plan, loss, parameters, data):
        near |= (np.abs(distance) <= tolerance * size).any(axis=1)
    return near


def _crossed_kinks(
    plan: reference.Plan,
    loss: Loss | Custom,
    parameters: NDArray[np.float64],
    data: Data,
    chosen: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Mark the rows that a central difference of any chosen parameter carries over a kink."""
    crossed = np.zeros(len(data.X), bool)
    here = [distance > 0 for distance, _ in _switches(plan, loss, parameters, data)]
    if not here:
        return crossed

    def note_crossings(point: NDArray[np.float64]) -> float:
        there = _switches(plan, loss, point, data)
        for side, (distance, _) in zip(here, there, strict=True):
            crossed[:] |= (side != (distance > 0)).any(axis=1)
        return 0.0

    for i in np.flatnonzero(chosen):
        central_difference(_along(note_crossings, parameters, int(i)), parameters[i : i + 1])
    return crossed


def _along(
    f: Callable[[NDArray[np.float64]], float], parameters: NDArray[np.float64], index: int
) -> Callable[[NDArray[np.float64]], float]:
    """Return f as a function of one of the parameters."""

    def along(value: NDArray[np.float64]) -> float:
        point = parameters.copy()
        point[index] = value[0]
        return f(point)

    return along


def _l1_kinks(plan: reference.Plan, parameters: NDArray[np.float64], step: float) -> NDArray[np.bool_]:
    """Mark the weights that are 0, or within a step of it, under an l1 penalty."""
    kinks = np.zeros(parameters.size, bool)
    for array in plan.arrays:
        if array.penalised and plan.layers[array.layer].settings.l1:
            kinks[array.part] = np.abs(parameters[array.part]) <= step
    return kinks


def _sensitivity(
    gradient_at: Callable[[NDArray[np.float64], Data], NDArray[Any]],
    parameters: NDArray[np.float64],
    data: Data,
    eps: float,
) -> NDArray[np.float64]:
    """Return how far the gradient moves when every parameter and every number of X changes by a rounding.

    Near a minimum the gradient is what is left of large terms that cancel; its error is to be measured against that.
    """
    rng = np.random.default_rng(0)

    def rounded(values: NDArray[Any]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = values * (1 + eps * rng.choice([-1.0, 1.0], values.shape))
        return moved

    here = gradient_at(parameters, data)
    one, other = (gradient_at(rounded(parameters), data._replace(X=rounded(data.X))) for _ in range(2))
    result: NDArray[np.float64] = np.maximum(np.abs(one - here), np.abs(other - here))
    return result


def _compared(
    name: str,
    shape: tuple[int, ...],
    compared: NDArray[np.bool_],
    gradient: NDArray[Any],
    expected: NDArray[np.float64],
    floor: NDArray[np.float64],
    least: float,
    bound: float | None,
) -> ArrayCheck:
    """Measure the error of one array."""
    found = gradient.astype(np.float64)
    difference = np.where(compared, found - expected, 0)
    difference[np.isnan(difference)] = np.inf
    size = _norm(expected[compared])
    if bound is None:
        bound = max(least, _norm(floor[compared]) / size if size > 0 else 0.0)
    missed = _norm(difference)
    error = 0.0
    if size > 0:
        error = missed / size
    elif missed > _norm(floor[compared]):  # a gradient of 0, perhaps of terms that cancel
        error = float("inf")
    worst = int(np.abs(difference).argmax()) if compared.any() else None
    return ArrayCheck(
        name=name,
        shape=shape,
        checked=int(compared.sum()),
        error=error,
        bound=bound,
        worst=None if worst is None else tuple(int(i) for i in np.unravel_index(worst, shape)),
        gradient=0.0 if worst is None else float(found[worst]),
        expected=0.0 if worst is None else float(expected[worst]),
    )


def _norm(values: NDArray[np.float64]) -> float:
    """Return the Euclidean norm, also where the squares of the values overflow or vanish."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.linalg.norm(values / largest)) if 0 < largest < math.inf else largest
