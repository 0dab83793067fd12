"""Functions that other compilers made, as addresses: what their owners say about them, and what they are given."""

from __future__ import annotations

import ctypes
import re
from typing import Any, NamedTuple

import numpy as np

from backprop.base.text import shown

SIGNATURE = "double f(const real *outputs, const real *targets, real *gradient, ptrdiff_t n_outputs, void *user)"
BATCH_SIGNATURE = (
    "void f(const real *outputs, const real *targets, real *values, real *gradients, ptrdiff_t n_rows, "
    "ptrdiff_t n_outputs, void *user)"
)
_REALS = {"float": "float32", "double": "float64"}
_OTHERS = {"int", "char", "short", "bool"}
_LENGTHS = {"long", "longlong", "ptrdiff_t", "ssize_t", "Py_ssize_t", "intptr_t", "int64_t", "npy_intp", "size_t"}


class Signature(NamedTuple):
    """What the signature of a function says; None for what it does not."""

    dtype: str | None = None
    """what its numbers are"""
    batched: bool | None = None
    """whether it takes many rows: `BATCH_SIGNATURE` rather than `SIGNATURE`"""


class Function(NamedTuple):
    """A function of others, as the core is given it."""

    address: int
    signature: Signature = Signature()
    user: int = 0
    """the address of the user data that come with it; 0 for none"""


def function(name: str, value: Any) -> Function:
    """Return the address of a function, and what it says about itself.

    Raises
    ------
    TypeError
        Unless it is a ctypes pointer, a `scipy.LowLevelCallable`, a numba ``cfunc``, a PyCapsule or an integer, with
        the signature `SIGNATURE` or `BATCH_SIGNATURE` where it carries one.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return Function(_not_null(name, int(value)))
    if _is_ctypes(value, "_CFuncPtr"):
        return Function(_of_ctypes(name, value), _signature(name, _ctypes_signature(value)))
    if isinstance(value, ctypes.c_void_p):
        return Function(_not_null(name, value.value))
    if type(value).__name__ == "PyCapsule":
        return _of_capsule(name, value)
    if type(value).__name__ == "LowLevelCallable" and isinstance(value, tuple):
        return _of_capsule(name, tuple.__getitem__(value, 0))  # SciPy's own way to its capsule
    if type(value).__name__ == "CFunc" and hasattr(value, "ctypes"):  # of numba, compiled for one signature
        return function(name, value.ctypes)
    raise TypeError(
        f"{name}: needs a function pointer: a numba.cfunc, a scipy.LowLevelCallable, a ctypes function, a PyCapsule of "
        f"Cython or an integer address, got {shown(value)}{_hint(value)}"
    )


def data(name: str, value: Any) -> int:
    """Return the address of what a function is given as `user`: an address, a ctypes object or an array."""
    if value is None:
        return 0
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return _not_null(name, int(value))
    if isinstance(value, ctypes.c_void_p) or _is_ctypes(value, "_Pointer"):
        return ctypes.cast(value, ctypes.c_void_p).value or 0
    if _is_ctypes(value, "_SimpleCData", "Structure", "Union", "Array"):
        return ctypes.addressof(value)
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError(f"{name}: needs a C-contiguous array, got one that is not")
        return int(value.ctypes.data)
    raise TypeError(f"{name}: needs an address, a ctypes object, an array or None, got {shown(value)}")


def _hint(value: Any) -> str:
    """What to do with what is no pointer yet."""
    if hasattr(value, "py_func"):
        return "; of numba, cfunc(signature) makes one, njit does not"
    if type(value).__name__ == "_CDataBase" or type(value).__module__ == "_cffi_backend":
        return "; scipy.LowLevelCallable takes what cffi has"
    return "; a function of Python is a loss by itself, see losses.Custom" if callable(value) else ""


def _not_null(name: str, address: int | None) -> int:
    if address is None or address <= 0:
        raise ValueError(f"{name}: needs an address other than 0, got {address}")
    return address


def _is_ctypes(value: Any, *bases: str) -> bool:
    return isinstance(value, tuple(vars(ctypes)[base] for base in bases))


def _of_ctypes(name: str, value: Any) -> int:
    return _not_null(name, ctypes.cast(value, ctypes.c_void_p).value)


def _capsule(function: str, capsule: Any, result: Any, *more: bytes | None) -> Any:
    """Call a function of Python's C interface that takes a capsule; ours alone, so that nobody else's is changed."""
    if more:
        return ctypes.PYFUNCTYPE(result, ctypes.py_object, ctypes.c_char_p)((function, ctypes.pythonapi))(
            capsule, *more
        )
    return ctypes.PYFUNCTYPE(result, ctypes.py_object)((function, ctypes.pythonapi))(capsule)


def _of_capsule(name: str, capsule: Any) -> Function:
    """A capsule of Cython or SciPy is named for the function's signature; its context are SciPy's user data."""
    signature = _capsule("PyCapsule_GetName", capsule, ctypes.c_char_p)
    address = _not_null(name, _capsule("PyCapsule_GetPointer", capsule, ctypes.c_void_p, signature))
    user = _capsule("PyCapsule_GetContext", capsule, ctypes.c_void_p) or 0
    return Function(address, _signature(name, None if signature is None else signature.decode()), user)


def _ctypes_signature(value: Any) -> str | None:
    """The signature as C writes it; None where nobody has stated one."""
    if value.argtypes is None:
        return None
    return f"{_ctypes_name(value.restype)} ({', '.join(map(_ctypes_name, value.argtypes))})"


def _ctypes_name(kind: Any) -> str:
    if kind is None:
        return "void"
    if kind is ctypes.c_void_p:
        return "void *"
    if issubclass(kind, ctypes._Pointer):
        return f"{_ctypes_name(kind._type_)} *"
    return str(kind.__name__).removeprefix("c_")


def _signature(name: str, signature: str | None) -> Signature:
    """What a signature says, such as ``double (float *, float *, float *, Py_ssize_t, void *)``."""
    if signature is None:
        return Signature()
    parts = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", signature)
    arguments = [_plain(argument) for argument in parts[2].split(",")] if parts else []
    for result, n_arrays, n_lengths in (("double", 3, 1), ("void", 4, 2)):
        if parts and parts[1] == result and len(arguments) == n_arrays + n_lengths + 1:
            real = arguments[0].removesuffix("*")
            same = set(arguments[:n_arrays]) == {f"{real}*"} and real not in _LENGTHS | _OTHERS
            if same and _LENGTHS.issuperset(arguments[n_arrays:-1]) and arguments[-1].endswith("*"):
                return Signature(_REALS.get(real), result == "void")
    raise TypeError(
        f"{name}: needs the signature `{SIGNATURE}` or `{BATCH_SIGNATURE}` with float or double as real, "
        f"got `{signature}`"
    )


def _plain(argument: str) -> str:
    """A type without what does not matter to a call."""
    return re.sub(r"\b(const|unsigned|signed|struct)\b|\s", "", argument)
