"""One row through exported C, beside `predict`, a hand-written loop and emlearn: python -m bench.exported_c

64-64-10 with relu and softmax, float32, the same weights for all. ns per row: the median of rounds in turns and in
brackets the fastest. emlearn (`pip install emlearn`, with scikit-learn) is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from statistics import median
from time import perf_counter

import backprop as bp
import numpy as np

from bench import machine

SIZES = [64, 64, 10]
ROUNDS, CALLS = 300, 400  # short rounds, so that on a busy machine some are left in peace
# The second asks no processor for fused multiply-adds, the third rounds products where nothing is fused.
OPTIONS = (["-O2"], ["-O2", "-DOURS_PLAIN"], ["-O2", "-DOURS_FAST"], ["-O2", "-march=native"], ["-O3", "-march=native"])

LOOP = """
void run_{name}(float *x, float *y, int n);
void run_{name}(float *x, float *y, int n)
{{
    for (; n; n--) {{
        {call};
        x[0] = y[0]; /* one call waits for the one before it */
    }}
}}
"""

BY_HAND = """
#include <math.h>
static const float W1[64 * 64] = {{{w1}}}, B1[64] = {{{b1}}}, W2[10 * 64] = {{{w2}}}, B2[10] = {{{b2}}};
static void layer(int n_in, int n_out, const float *w, const float *b, const float *x, float *z)
{{
    for (int o = 0; o < n_out; o++) {{
        float sum = b[o];
        for (int i = 0; i < n_in; i++)
            sum += w[o * n_in + i] * x[i];
        z[o] = sum;
    }}
}}
static void by_hand(const float *x, float *y)
{{
    float a[64], top, total = 0;
    layer(64, 64, W1, B1, x, a);
    for (int o = 0; o < 64; o++)
        a[o] = a[o] > 0 ? a[o] : 0;
    layer(64, 10, W2, B2, a, y);
    top = y[0];
    for (int o = 1; o < 10; o++)
        top = y[o] > top ? y[o] : top;
    for (int o = 0; o < 10; o++)
        total += y[o] = expf(y[o] - top);
    for (int o = 0; o < 10; o++)
        y[o] /= total;
}}
"""


def sources(net: bp.Network, folder: Path) -> dict[str, str]:
    """A source for each way, with a function run_NAME."""
    net.to_c(folder / "ours.h")
    found = {"ours": '#include "ours.h"\n' + LOOP.format(name="ours", call="ours_predict(x, y)")}
    arrays = [net.weights[0].T, net.biases[0], net.weights[1].T, net.biases[1]]
    texts = [", ".join(f"{x:.9g}f" if x % 1 else f"{x:.1f}f" for x in a.ravel().tolist()) for a in arrays]
    w1, b1, w2, b2 = texts
    hand = BY_HAND.format(w1=w1, b1=b1, w2=w2, b2=b2)
    found["by hand"] = hand + LOOP.format(name="hand", call="by_hand(x, y)")
    try:
        found["emlearn"] = with_emlearn(net, folder)
    except ImportError as error:
        print(f"left out: {error}")
    return found


def with_emlearn(net: bp.Network, folder: Path) -> str:
    """What emlearn makes of scikit-learn's network with these weights."""
    import emlearn
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    model = MLPClassifier((64,), max_iter=1).partial_fit(rng.random((20, 64)), np.arange(20) % 10, classes=range(10))
    model.coefs_, model.intercepts_ = list(net.weights), list(net.biases)
    with chdir(folder):  # where it leaves what it compiles
        code = emlearn.convert(model, method="loadable").save(name="theirs")
    return code + LOOP.format(name="emlearn", call="eml_net_predict_proba(&theirs, x, 64, y, 10)")


def library(source: str, options: list[str], folder: Path, name: str) -> Callable[..., None]:
    """The function run_NAME, compiled."""
    include = []
    if name == "emlearn":
        import emlearn

        include = [f"-I{emlearn.includedir}"]
    made = folder / f"{name}{len(list(folder.iterdir()))}.so"
    (folder / "source.c").write_text(source)
    command = ["cc", "-std=gnu99", *options, *include, "-shared", "-fPIC", folder / "source.c", "-o", made, "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(made))[f"run_{'hand' if name == 'by hand' else name}"]


def timed(runs: dict[str, Callable[[int], object]], calls: int) -> dict[str, list[float]]:
    """ns per row, each way in turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = perf_counter()
            run(calls)
            found[name].append((perf_counter() - start) / calls * 1e9)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    machine.pin(1)
    net = bp.mlp(SIZES, output="softmax", seed=0)
    row = np.random.default_rng(0).random((1, 64)).astype("float32")
    expected, out = net.predict(row), np.empty((1, 10), "float32")

    def predict(n: int) -> None:
        for _ in range(n):
            net.predict(row, out=out)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = sources(net, folder)
        for options in OPTIONS:
            runs: dict[str, Callable[[int], object]] = {"predict": predict}
            for way, source in texts.items():
                function, x, y = library(source, options, folder, way), row.copy(), out.copy()
                pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y)]
                function(*pointers, 1)
                np.testing.assert_allclose(y, expected, rtol=1e-4, err_msg=way)
                runs[way] = lambda n, function=function, pointers=pointers, kept=(x, y): function(*pointers, n)
            times = timed(runs, CALLS)
            shown = (f"{way} {median(ns):,.0f} ({min(ns):,.0f})" for way, ns in times.items())
            print(f"{' '.join(options):20}", ", ".join(shown))


if __name__ == "__main__":
    main()
