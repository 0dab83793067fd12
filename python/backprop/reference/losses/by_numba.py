"""Functions of one output and its target, compiled by numba to what `Compiled` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backprop.base import checks as check


def compiled_by_numba(function: Callable[[float, float], tuple[float, float]], mean: bool) -> dict[str, Any]:
    """Return, for each dtype, a numba ``cfunc`` for many rows, with means over the outputs of each or with sums.

    Raises
    ------
    ImportError
        Without numba.
    TypeError
        If it is no function, or numba refuses it.
    """
    if not callable(function):
        raise TypeError(f"function: needs a function of an output and its target, got {check.shown(function)}")
    numba: Any  # whose types are not typed
    try:
        import numba
    except ImportError as error:
        raise ImportError(f"Compiled.by_numba: needs numba, pip install numba ({error})") from error
    of_pair = function if hasattr(function, "py_func") else numba.njit(error_model="numpy")(function)

    compiled = {}
    for dtype in ("float32", "float64"):
        real = getattr(numba.types, dtype)
        reals, size = numba.types.CPointer(real), numba.types.intp
        signature = numba.types.void(reals, reals, reals, reals, size, size, numba.types.voidptr)
        try:
            compiled[dtype] = numba.cfunc(signature, error_model="numpy")(_of_rows(of_pair, real, mean))
        except numba.core.errors.NumbaError as error:
            raise TypeError(
                "function: needs a function of an output and its target that returns the loss and its derivative, in "
                f"what numba compiles; numba says: {error}"
            ) from error
    return compiled


def _of_rows(of_pair: Any, real: Any, mean: bool) -> Callable[..., None]:
    """The function for many rows, before it is compiled."""

    def of_rows(
        outputs: Any, targets: Any, values: Any, gradients: Any, n_rows: int, n_outputs: int, user: Any
    ) -> None:
        share = real(1 / n_outputs if mean else 1.0)
        for first in range(0, n_outputs * n_rows, n_rows):
            for row in range(n_rows):
                value, gradient = of_pair(outputs[first + row], targets[first + row])
                values[row] += share * value
                gradients[first + row] = share * gradient

    return of_rows
