"""Exported networks compiled and called: compilers, processors, random networks."""

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import backprop as bp
import numpy as np
from backprop.backends import choice
from backprop.reference.activations import ACTIVATIONS

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
STRICTER = ["-Wshadow", "-Wconversion", "-Wdouble-promotion", "-Wundef", "-Wcast-qual"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
X86 = platform.machine() == "x86_64"
FUSED = ["-march=x86-64-v3"] if X86 else []
FUSED_BACKENDS = [name for name in choice.available() if name in ("v3", "v4")]


def compile_c(folder, source, *options, compiler="gcc", std="c99", language="c"):
    """Compile a source, with all warnings as errors, and return what was made of it."""
    path, made = Path(folder, "source.c"), Path(folder, f"{len(list(Path(folder).iterdir()))}.out")
    path.write_text(source)
    ran = subprocess.run(
        [compiler, "-x", language, f"-std={std}", *STRICT, path, "-o", made, *options], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return made


def build(folder, source, *options, **settings):
    """Compile a source into a shared library and load it."""
    return ctypes.CDLL(str(compile_c(folder, source, "-fPIC", "-shared", *options, **settings)))


def exported(folder, networks, **settings):
    """Export networks as n0, n1 ... and return a source with an entry point for each, as C has them static."""
    lines = []
    for k, net in enumerate(networks):
        net.to_c(Path(folder, f"n{k}.h"), **settings)
        real = "float" if net.dtype == np.float32 else "double"
        lines += [
            f'#include "n{k}.h"',
            f"void run{k}(const {real} *x, {real} *y, int n);",
            f"void run{k}(const {real} *x, {real} *y, int n)",
            f"{{ for (; n; n--, x += {net.n_inputs}, y += {net.n_outputs}) n{k}_predict(x, y); }}",
        ]
    return "\n".join(lines) + "\n"


def plain(source, n):
    """Return what `exported` gave for n networks, with no processor asked for fused multiply-adds."""
    return "".join(f"#define N{k}_PLAIN\n" for k in range(n)) + source


def outputs(library, k, net, X):
    """What the C of network k says about rows."""
    X, found = np.ascontiguousarray(X, net.dtype), np.empty((len(X), net.n_outputs), net.dtype)
    pointer = ctypes.c_void_p
    library[f"run{k}"](pointer(X.ctypes.data), pointer(found.ctypes.data), len(X))
    return found


def flushed(values):
    """Subnormal numbers as zeros, as the core has them."""
    return np.where(np.abs(values) < np.finfo(values.dtype).tiny, 0, values).astype(values.dtype)


def random_networks(n, dtype, seed=0, backend=None):
    """Networks of 1 to 5 layers, which together have every activation and every setting of a layer."""
    rng, names, found = np.random.default_rng(seed), list(ACTIVATIONS), []
    for k in range(n):
        layers = []
        for number in range(k % 5 + 1):
            name = names[(k + 7 * number) % len(names)] if number == 0 else str(rng.choice(names))
            if name == "exp" and number:  # of sums of many large outputs it overflows
                name = "tanh"
            alpha = float(rng.uniform(0, 2)) if ACTIVATIONS[name].alpha is not None else None
            layers.append(bp.Dense(int(rng.integers(1, 40)), name, alpha=alpha, bias=bool(rng.random() < 0.8)))
        net = bp.Network(int(rng.integers(1, 40)), layers, dtype=dtype, seed=k, backend=backend)
        net.parameters = net.parameters + rng.normal(0, 0.1, net.n_parameters)
        found.append(net)
    return found


def rows_for(net, n, seed=0):
    """Rows of various sizes, among them large ones."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, net.n_inputs)) * rng.choice([0.1, 1, 4, 30], size=(n, 1))).astype(net.dtype)
