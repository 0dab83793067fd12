"""Losses that other compilers made: pointers to functions of C, numba or Cython."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from backprop.base import checks as check
from backprop.base import pointers
from backprop.base.types import Array
from backprop.reference.losses.loss import Loss, Reduction

__all__ = ["Compiled"]


class Pointers(NamedTuple):
    """What a backend calls: addresses."""

    function: int
    user: int
    batched: bool
    """whether it takes many rows at once"""


@dataclass(frozen=True, slots=True, eq=False)
class Compiled(Loss):
    """A loss that another compiler made, at the speed of the built-in ones: numba, Cython, or any C compiler.

    The function has the value of one row, and puts its derivatives with respect to the outputs, those behind the last
    activation, into ``gradient``::

        double f(const real *outputs, const real *targets, real *gradient, ptrdiff_t n_outputs, void *user)

    or it has those of many rows at once, which spares calls and lets compilers use vectors (see the notes)::

        void f(const real *outputs, const real *targets, real *values, real *gradients,
               ptrdiff_t n_rows, ptrdiff_t n_outputs, void *user)

    Values and gradients are 0 when it is called. ``real`` is float or double, as the network's dtype is; `minimize`
    computes in double, whatever that is. With the value ``f`` of each row, sample weights ``w`` and outputs ``a`` of a
    last layer with the scores ``z``,

        loss = scale * sum of w * f / sum of w          (reduction="sum": scale * sum of w * f)
        gradient with respect to z = scale * w / sum of w * gradient * da/dz

    where the function has nothing to do with but ``f`` and ``gradient``. The penalties of the layers are added.

    Parameters
    ----------
    function
        A ``numba.cfunc``, a ``scipy.LowLevelCallable``, a ctypes function, a PyCapsule as Cython's ``__pyx_capi__`` has
        them, or an integer address. For both dtypes, a mapping from dtypes to such functions. Signatures are checked
        where there are some. It is kept alive as long as this object is.
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
    batched
        Whether the function takes many rows at once. None for what its signature says, and for one row where it has
        none.

    Raises
    ------
    TypeError, ValueError
        If `function` is no pointer or has another signature, if nothing says the dtype, or, when it is used, if it is
        for another dtype than is computed in. Pickling raises a TypeError: a pointer means nothing to another process.

    Notes
    -----
    - Targets are (n, n_outputs), or (n,) for one output. Integer class labels (n,) become rows with a single 1.
    - It is called without the GIL and from several threads at once: it may only read `user`, and has to find the same
      for the same row. Then the bits are the same for any number of threads, in a fleet and alone. Fleets train in the
      lanes as with any loss.
    - *One row*: it is called for one row after the other, and not for rows of weight 0 or with outputs that are not
      finite.
    - *Many rows*: all arrays lie output by output. Output k of row r is ``outputs[k * n_rows + r]``, and so are the
      targets and the gradients; values are (n_rows,). How many rows it is given is the core's choice: so many as its
      vectors hold (16 floats for AVX-512, say), or a few times as many, also where a batch or a member has fewer. So
      there are rows among them that nobody asked for, with any numbers. It has to stand these, and rows of weight 0 and
      outputs that are not finite; what it finds for them is not used. A row has to have the same bits wherever it
      stands: so no ``-ffast-math`` and no ``fastmath=True``.
    - Of outputs that are not finite, the loss is NaN. Where the function finds NaN or an infinity, training diverges as
      it does with any loss. Rows of weight 0 add nothing.
    - It cannot raise. A compiled core calls it with subnormal numbers as 0; the reference calls it by ctypes.
    - `check_gradients` needs ``method="central_difference"``, and a function for float64, too.
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
    batched: bool | None = None
    _pointers: Mapping[str, Pointers] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        Loss.__post_init__(self)
        user = pointers.data("user", self.user)
        if self.batched is not None:
            check.boolean("batched", self.batched)
        if isinstance(self.function, Mapping):
            if self.dtype is not None:
                raise ValueError(f"dtype: needs None beside functions for each dtype, got {check.shown(self.dtype)}")
            given = [(f"function[{key!r}]", value, key) for key, value in self.function.items()]
            if not given:
                raise ValueError("function: needs a function for 'float32' or 'float64', got none")
        else:
            given = [("function", self.function, self.dtype)]
        found = dict(_pointer(*each, user, self.batched) for each in given)
        object.__setattr__(self, "_pointers", found)

    @classmethod
    def by_numba(
        cls,
        function: Callable[[float, float], tuple[float, float]],
        *,
        scale: float = 1.0,
        reduction: Reduction = "mean",
    ) -> Compiled:
        """Return the loss of a function of one output and its target, which numba compiles for both dtypes.

        Parameters
        ----------
        function
            Of two numbers, an output and its target: the value and its derivative with respect to the output. It may
            use what ``numba.njit`` understands, or be made by that already.
        scale, reduction
            As of `Compiled`. With ``"mean"`` the loss of a row is the mean over its outputs, as with the library's
            element-wise losses, with ``"sum"`` the sum.

        Raises
        ------
        ImportError
            Without numba.
        TypeError
            If it is no function, or numba cannot compile it, such as one that returns the loss alone.

        Examples
        --------
        >>> import backprop as bp
        >>> def asymmetric(output, target):  # too little costs three times as much as too much
        ...     error = output - target
        ...     weight = 3 if error < 0 else 1
        ...     return weight * error * error, 2 * weight * error
        >>> net = bp.mlp([1, 16, 1], seed=0)
        >>> loss = bp.losses.Compiled.by_numba(asymmetric)  # doctest: +SKIP
        >>> history = net.fit([[0.0], [1.0]], [1.0, 3.0], loss=loss)  # doctest: +SKIP
        """
        from backprop.reference.losses.by_numba import compiled_by_numba

        return cls(compiled_by_numba(function, reduction == "mean"), scale=scale, reduction=reduction)

    def pointers(self, dtype: DTypeLike) -> Pointers:
        """Return what a backend calls for a network of this dtype."""
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
        """Call the function: values (rows, 1) and gradients (rows, units)."""
        outputs, targets = np.ascontiguousarray(a), np.ascontiguousarray(y, a.dtype)
        values, gradient = np.zeros((len(a), 1), a.dtype), np.zeros_like(outputs)
        finite = np.isfinite(outputs).all(axis=1)
        if self.pointers(a.dtype).batched:
            gradient = self._call_for_all(outputs, targets, values)
        else:
            self._call_by_rows(np.flatnonzero(finite), outputs, targets, values, gradient)
        values[~finite] = gradient[~finite] = np.nan
        return values, gradient

    def _call_by_rows(self, rows: Array, outputs: Array, targets: Array, values: Array, gradient: Array) -> None:
        """Call the function for each of some rows."""
        address, user, _ = self.pointers(outputs.dtype)
        real = ctypes.POINTER(np.ctypeslib.as_ctypes_type(outputs.dtype))
        prototype = ctypes.CFUNCTYPE(ctypes.c_double, real, real, real, ctypes.c_ssize_t, ctypes.c_void_p)
        function = prototype(address)
        for row in rows:
            arrays = (array[row].ctypes.data_as(real) for array in (outputs, targets, gradient))
            values[row] = function(*arrays, outputs.shape[1], user)

    def _call_for_all(self, outputs: Array, targets: Array, values: Array) -> Array:
        """Call the function once; the gradients."""
        address, user, _ = self.pointers(outputs.dtype)
        real = ctypes.POINTER(np.ctypeslib.as_ctypes_type(outputs.dtype))
        size = ctypes.c_ssize_t
        function = ctypes.CFUNCTYPE(None, real, real, real, real, size, size, ctypes.c_void_p)(address)
        columns = [np.ascontiguousarray(array.T) for array in (outputs, targets)]
        gradients = np.zeros_like(columns[0])
        arrays = (array.ctypes.data_as(real) for array in (*columns, values, gradients))
        function(*arrays, *outputs.shape, user)
        return np.ascontiguousarray(gradients.T)

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


def _pointer(name: str, value: Any, dtype: Any, more_user: int, batched: bool | None) -> tuple[str, Pointers]:
    """Return the dtype of one function, and what a backend calls."""
    address, stated, user = pointers.function(name, value)
    if user and more_user:
        raise ValueError("user: needs None beside a LowLevelCallable that has user data of its own")
    wanted = None if dtype is None else check.real_dtype("dtype" if name == "function" else "function", dtype).name
    if wanted is None and stated.dtype is None:
        raise ValueError(f"dtype: needs 'float32' or 'float64', as {name} does not say what `real` is, got None")
    if wanted is not None and stated.dtype is not None and wanted != stated.dtype:
        raise ValueError(f"{name}: needs a function for {wanted}, got one for {stated.dtype}")
    if batched is not None and stated.batched is not None and batched != stated.batched:
        needed = pointers.BATCH_SIGNATURE if batched else pointers.SIGNATURE
        raise ValueError(f"{name}: needs the signature `{needed}` for batched={batched}, got the other one")
    many = stated.batched if batched is None else batched
    return str(wanted or stated.dtype), Pointers(address, user or more_user, bool(many))
