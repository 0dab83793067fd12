"""Losses that other compilers made: pointers to functions of C, numba or Cython."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from backprop.base import checks as check
from backprop.base import pointers
from backprop.reference.activations import Array
from backprop.reference.losses.loss import Loss

__all__ = ["Compiled"]


@dataclass(frozen=True, slots=True, eq=False)
class Compiled(Loss):
    """A loss that another compiler made, at the speed of the built-in ones: numba, Cython, or any C compiler.

    The function has the value of one sample, and puts its derivatives with respect to the outputs, those behind the
    last activation, into ``gradient``, which is 0 when it is called::

        double f(const real *outputs, const real *targets, real *gradient, ptrdiff_t n_outputs, void *user)

    ``real`` is float or double, as the network's dtype is. With the value ``f`` of each row, sample weights ``w`` and
    outputs ``a`` of a last layer with the scores ``z``,

        loss = scale * sum of w * f / sum of w          (reduction="sum": scale * sum of w * f)
        gradient with respect to z = scale * w / sum of w * gradient * da/dz

    where the function has nothing to do with but ``f`` and ``gradient``. The penalties of the layers are added.

    Parameters
    ----------
    function
        A ``numba.cfunc``, a ``scipy.LowLevelCallable``, a ctypes function, a PyCapsule as Cython's ``__pyx_capi__`` has
        them, or an integer address. For networks of both dtypes, a mapping from dtypes to such functions. Signatures
        are checked where there are some. It is kept alive as long as this object is.
    dtype
        ``"float32"`` or ``"float64"``: what ``real`` is. Needed where the function does not say it: for addresses, for
        ctypes functions without ``argtypes`` and for names of types such as ``real``. None for what it says.
    user
        What the function gets as ``user``: None for NULL, or for what a LowLevelCallable has; an address, a ctypes
        object, or an array. It is kept alive, too.
    scale
        Factor on the loss (not on the penalties), > 0.
    reduction
        ``"mean"`` over rows, weighted by the sample weights, or ``"sum"``.

    Raises
    ------
    TypeError, ValueError
        If `function` is no pointer or has another signature, if nothing says the dtype, or, when it is used, if it is
        for another dtype than the network's. Pickling raises a TypeError: a pointer means nothing to another process.

    Notes
    -----
    - Targets are (n, n_outputs), or (n,) for one output. Integer class labels (n,) become rows with a single 1.
    - It is called for one row after the other, without the GIL and from several threads at once: it may only read
      `user`, and has to return the same for the same row. Then the bits are the same for any number of threads, in a
      fleet and alone. Fleets train in the lanes as with any loss; the function sees each member's rows one by one.
    - It sees finite outputs only; of others, the loss is NaN. Where it returns NaN or an infinity, training diverges as
      it does with any loss. Rows of weight 0 add nothing, and the core does not call it for them.
    - It cannot raise. A compiled core calls it with subnormal numbers as 0; the reference calls it by ctypes.
    - `check_gradients` needs ``method="central_difference"``, and a function for float64.
    - Models are saved without their losses, checkpoints too: give it to `resume`'s ``fit`` again.

    Examples
    --------
    >>> import backprop as bp
    >>> import ctypes
    >>> real = ctypes.POINTER(ctypes.c_double)
    >>> @ctypes.CFUNCTYPE(ctypes.c_double, real, real, real, ctypes.c_ssize_t, ctypes.c_void_p)
    ... def half_squared_error(outputs, targets, gradient, n, user):  # numba.cfunc or C in its place is fast
    ...     gradient[0] = outputs[0] - targets[0]
    ...     return 0.5 * gradient[0] ** 2
    >>> net = bp.mlp([1, 1], dtype="float64", seed=0)
    >>> history = net.fit(
    ...     [[0.0], [1.0]], [1.0, 3.0], loss=bp.losses.Compiled(half_squared_error), optimizer="sgd",
    ...     epochs=2000, progress=False,
    ... )
    >>> net.predict([[2.0]]).round(1)
    array([[5.]])
    """

    name: ClassVar[str] = "compiled"
    formula: ClassVar[str] = "f(a, y)"
    elementwise: ClassVar[bool] = False
    any_targets: ClassVar[bool] = True

    function: Any
    dtype: str | None = None
    user: Any = None
    _pointers: Mapping[str, tuple[int, int]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        user = pointers.data("user", self.user)
        if isinstance(self.function, Mapping):
            if self.dtype is not None:
                raise ValueError(f"dtype: needs None beside functions for each dtype, got {check.shown(self.dtype)}")
            given = [(f"function[{key!r}]", value, key) for key, value in self.function.items()]
            if not given:
                raise ValueError("function: needs a function for 'float32' or 'float64', got none")
        else:
            given = [("function", self.function, self.dtype)]
        found = dict(_pointer(*each, user) for each in given)
        object.__setattr__(self, "_pointers", found)

    def pointers(self, dtype: DTypeLike) -> tuple[int, int]:
        """Return the addresses of the function for a network of this dtype and of its user data."""
        wanted = np.dtype(dtype).name
        if wanted not in self._pointers:
            raise ValueError(
                f"loss: needs a function for {wanted}, got one for {next(iter(self._pointers))}; "
                "Compiled({'float32': f, 'float64': g}) has both"
            )
        return self._pointers[wanted]

    def value(self, a: Array, y: Array) -> Array:
        """What the function returns for each row, (rows, 1)."""
        return self._called(a, y)[0]

    def gradient(self, a: Array, y: Array) -> Array:
        """What the function puts into its ``gradient``, for each row."""
        return self._called(a, y)[1]

    def _called(self, a: Array, y: Array) -> tuple[Array, Array]:
        """Call the function for each row: values (rows, 1) and gradients (rows, units)."""
        address, user = self.pointers(a.dtype)
        real = ctypes.POINTER(np.ctypeslib.as_ctypes_type(a.dtype))
        prototype = ctypes.CFUNCTYPE(ctypes.c_double, real, real, real, ctypes.c_ssize_t, ctypes.c_void_p)
        function = prototype(address)
        outputs, targets = np.ascontiguousarray(a), np.ascontiguousarray(y, a.dtype)
        values, gradient = np.full((len(a), 1), np.nan, a.dtype), np.zeros_like(outputs)
        finite = np.isfinite(outputs).all(axis=1)
        gradient[~finite] = np.nan
        for row in np.flatnonzero(finite):
            rows = (array[row].ctypes.data_as(real) for array in (outputs, targets, gradient))
            values[row] = function(*rows, outputs.shape[1], user)
        return values, gradient

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __copy__(self) -> Compiled:
        """Itself: nothing in it changes, and the function is where it is."""
        return self

    def __deepcopy__(self, memo: Any) -> Compiled:
        """Itself, as `copy.copy`."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError(
            "losses.Compiled: cannot be pickled or sent to another process, where the address of its function means "
            "nothing; make it there, from its source"
        )


def _pointer(name: str, value: Any, dtype: Any, more_user: int) -> tuple[str, tuple[int, int]]:
    """Return the dtype and the addresses of one function."""
    address, stated, user = pointers.function(name, value)
    if user and more_user:
        raise ValueError("user: needs None beside a LowLevelCallable that has user data of its own")
    wanted = None if dtype is None else check.real_dtype("dtype" if name == "function" else "function", dtype).name
    if wanted is None and stated is None:
        raise ValueError(f"dtype: needs 'float32' or 'float64', as {name} does not say what `real` is, got None")
    if wanted is not None and stated is not None and wanted != stated:
        raise ValueError(f"{name}: needs a function for {wanted}, got one for {stated}")
    return str(wanted or stated), (address, user or more_user)
