"""Which backend computes: a compiled core for one of this CPU's instruction sets, or the NumPy reference.

The environment variable ``BACKPROP_BACKEND`` (``v4``, ``v3``, ``neon``, ``baseline`` or ``reference``) overrides the
choice.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from backprop.backends.contract import Core

REFERENCE = "reference"
ENVIRONMENT_VARIABLE = "BACKPROP_BACKEND"
_INSTRUCTION_SETS = {
    "v4": "AVX-512 (x86-64-v4)",
    "v3": "AVX2 and FMA (x86-64-v3)",
    "neon": "NEON (AArch64)",
    "baseline": "the compiler's default",
}
FUSED = ("v4", "v3", "neon")  # with a fused multiply-add: they compute the same bits
_AVX2_BYTES = 32
_DTYPES: dict[np.dtype[Any], str] = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend by name; `module` gives what `backprop.backends.contract` promises, for one dtype."""

    name: str

    def module(self, dtype: DTypeLike) -> Core[Any]:
        """The module that computes in `dtype`."""
        return _module(self.name, np.dtype(dtype))

    def for_batches(self, n_rows: int, n_validation: int, widths: Sequence[int], dtype: np.dtype[Any]) -> Backend:
        """The backend that trains networks of these widths on batches of n_rows fastest, with the same bits.

        n_validation: the validation rows that may go along in lanes that a full batch leaves free; 0 for other batches.

        Where a tiny network's batch fills half of AVX-512's vectors at most, AVX2's shorter ones are over sooner: by a
        sixth for a 2-2-1 network and four rows in float64.
        """
        if n_rows + n_validation <= 2 * _AVX2_BYTES // dtype.itemsize:
            n_rows += n_validation
        if self.name != "v4" or not 1 < n_rows <= _AVX2_BYTES // dtype.itemsize or "v3" not in _compiled():
            return self
        shorter = Backend("v3")
        return shorter if max(widths) < shorter.module(dtype).FEW_OUTPUTS else self

    @property
    def instruction_set(self) -> str:
        """What it is compiled for, in words."""
        return _INSTRUCTION_SETS.get(self.name, "NumPy's own")


@cache
def _module(name: str, dtype: np.dtype[Any]) -> Core[Any]:
    if name == REFERENCE:
        return cast("Core[Any]", importlib.import_module("backprop.reference"))
    core = _import_core(f"backprop._core_{name}_{_DTYPES[dtype]}")
    _check_names(core)
    return cast("Core[Any]", core)


def _check_names(core: ModuleType) -> None:
    """Raise ImportError unless a core knows the names that the reference knows: in one of them something is missing."""
    from backprop import reference

    for registry in ("ACTIVATIONS", "LOSSES", "OPTIMIZERS"):
        ours, theirs = set(getattr(reference, registry)), set(getattr(core, registry))
        for names, where in ((ours - theirs, core.__name__), (theirs - ours, reference.__name__)):
            if names:
                raise ImportError(f"{where}: needs {', '.join(sorted(names))} in its {registry}", name=core.__name__)


def _import_core(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"backprop's compiled core cannot be loaded: {error}. Reinstall backprop; until then, the environment "
            f"variable {ENVIRONMENT_VARIABLE}={REFERENCE} lets NumPy compute instead",
            name=name,
            path=error.path,
        ) from error


@cache
def _compiled() -> tuple[str, ...]:
    """The instruction sets that were compiled and that this CPU has, the best one first.

    A core that was built but cannot be loaded is an error: it must never turn into a silently slow run.
    """
    if importlib.util.find_spec("backprop._cpu") is None:
        return ()
    supported: tuple[str, ...] = _import_core("backprop._cpu").instruction_sets()
    return tuple(isa for isa in supported if importlib.util.find_spec(f"backprop._core_{isa}_f32") is not None)


def available() -> tuple[str, ...]:
    """The names that `load` takes here, the default first."""
    return (*_compiled(), REFERENCE)


def load(name: str) -> Backend:
    """The backend of that name; ValueError for one that is unknown, not built, or not for this CPU."""
    if name != REFERENCE and name not in available():  # the reference needs no core that can be loaded
        known = name in (*_INSTRUCTION_SETS, REFERENCE)
        why = "is not built here or not supported by this CPU" if known else "is not a backend"
        raise ValueError(f"backend: {name!r} {why}; available: {', '.join(available())}")
    return Backend(name)


@cache
def default() -> Backend:
    """The backend that the environment asks for, else the best compiled one, else the reference with a warning."""
    name = os.environ.get(ENVIRONMENT_VARIABLE)
    if name:
        try:
            return load(name)
        except ValueError as error:
            raise ValueError(f"environment variable {ENVIRONMENT_VARIABLE}: {error}") from None
    if not _compiled():
        warnings.warn(
            "backprop was installed without its compiled core: the NumPy reference computes instead, 10 to 300 "
            "times slower on small networks. Reinstall it where there is a C compiler, without BPCORE_BUILD=OFF",
            RuntimeWarning,
            stacklevel=_caller_level(),
        )
    return Backend(available()[0])


def _caller_level() -> int:
    """The `stacklevel` of a warning from the calling function for it to point at the user's line, not into here."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "backprop":
        level, frame = level + 1, frame.f_back
    return level


def select(name: str | None) -> Backend:
    """The backend of that name, or the default one for None."""
    return default() if name is None else load(name)


def compiled_modules() -> dict[tuple[str, str], Core[Any]]:
    """Every compiled core that runs on this CPU, by instruction set and dtype name."""
    return {(isa, dtype.name): _module(isa, dtype) for isa in _compiled() for dtype in _DTYPES}


def show_config() -> None:
    """Print the version, the backend, its instruction set, threads, and NumPy: what a bug report needs.

    Examples
    --------
    >>> import backprop as bp
    >>> bp.show_config()  # doctest: +ELLIPSIS
    backprop ...
    """
    import platform

    from backprop.base.threads import allowed, usable_cpus
    from backprop.base.version import version

    backend = default()
    cpus = usable_cpus()
    most = 1 if backend.name == REFERENCE else min(allowed(), backend.module(np.float32).MAX_THREADS)
    rows = {
        "backprop": version(),
        "backend": backend.name,
        "instruction set": backend.instruction_set,
        "available": ", ".join(available()),
        "threads": f"{most} at most ({cpus} usable CPUs)",
        "NumPy": np.__version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
    for name, value in rows.items():
        print(f"{name:<16} {value}")
