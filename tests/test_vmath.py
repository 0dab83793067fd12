"""The compiled vector functions against mpmath and, over every float32, against NumPy in double precision."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from backprop.backends import choice

CORES = choice.compiled_modules()
NAMES = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf")
ODD = ("tanh", "erf")
INF, NAN = np.inf, np.nan

each_name = pytest.mark.parametrize("name", NAMES)
each_core = pytest.mark.parametrize(
    "core",
    CORES or [pytest.param(None, marks=pytest.mark.skip(reason="no compiled core is installed"))],
    ids=lambda key: key and "-".join(key),
)


def computed(core: tuple[str, str], name: str, x: np.ndarray) -> np.ndarray:
    out = np.full_like(x, 123)
    CORES[core].vector_math(name, x, out)
    return out


def limit(core: tuple[str, str]) -> float:
    """The largest error allowed, in ulp; without a fused multiply-add a little more."""
    return 2.0 if core[0] in choice.FUSED else 2.25


@cache
def sample(name: str, dtype: str) -> np.ndarray:
    """Numbers of every size in the function's domain, many where it is neither flat nor straight."""
    rng = np.random.default_rng(0)
    integer, bits = (np.uint32, 32) if dtype == "float32" else (np.uint64, 64)
    reach = {"tanh": 10, "erf": 4, "log": 4, "log1p": 4}.get(name, 100) * (1 if bits == 32 else 2 if name in ODD else 7)
    any_bits = rng.integers(0, 2**bits, 300, dtype=integer, endpoint=False).view(dtype)
    parts = [
        any_bits[np.isfinite(any_bits)],
        rng.uniform(-1, 1, 700),
        rng.uniform(-reach, reach, 700),
        rng.choice([-1, 1], 300) * np.exp2(rng.uniform(-40, 8, 300)),
    ]
    x = np.concatenate(parts, dtype=dtype, casting="same_kind")
    if name == "log":
        x = np.abs(x)
    elif name == "log1p":
        x = np.where(x <= -1, -x, x)
    return x


@cache
def exact(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The function of the sample to twice the digits of a float64, as the sum of two."""
    functions = {
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        # mpmath takes its time where these are as good as constant
        "tanh": lambda x: mp.tanh(x) if abs(x) < 50 else mp.sign(x),
        "erf": lambda x: mp.erf(x) if abs(x) < 50 else mp.sign(x),
    }
    function = functions.get(name) or getattr(mp, name)
    with mp.workprec(140):
        values = [
            function(mp.mpf(min(max(x, -2000), 2000) if "log" not in name else x))
            for x in sample(name, dtype).astype(float)
        ]
        high = np.array([float(v) for v in values])
        low = np.array([float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(values, high, strict=True)])
    return high, low


def ulps(y: np.ndarray, high: np.ndarray, low: np.ndarray | float = 0.0) -> np.ndarray:
    """The error of y in units in the last place of the exact value; inf counts as one more than the largest float32."""
    top = 2.0**128 if y.dtype == np.float32 else INF
    with np.errstate(over="ignore", invalid="ignore"):
        unit = np.spacing(np.minimum(np.abs(high), np.finfo(y.dtype).max).astype(y.dtype)).astype(float)
        y, high = np.clip(y.astype(float), -top, top), np.clip(high, -top, top)
        return np.where(np.isinf(y) & (y == high), 0.0, np.abs((y - high) - low) / unit)


@each_core
@each_name
def test_error_is_at_most_two_ulp(core, name):
    x = sample(name, core[1])
    error = ulps(computed(core, name, x), *exact(name, core[1]))
    worst = int(np.argmax(error))
    assert error[worst] <= limit(core), f"{name}({x[worst]!r})"


@each_core
def test_tanh_of_float64_is_more_exact_below_a_half(core):
    if core[1] == "float32":
        pytest.skip("float32 has one formula for all")
    x = np.random.default_rng(0).uniform(-0.5493, 0.5493, 2000)
    with mp.workprec(140):
        exact = [mp.tanh(mp.mpf(v)) for v in x]
        high = np.array([float(v) for v in exact])
        low = np.array([float(v - mp.mpf(h)) for v, h in zip(exact, high, strict=True)])
    assert ulps(computed(core, "tanh", x), high, low).max() <= 1.0


@each_core
@each_name
def test_special_values(core, name):
    x = np.array([0.0, -0.0, INF, -INF, NAN], dtype=core[1])
    expected = {
        "exp": [1, 1, INF, 0, NAN],
        "expm1": [0.0, -0.0, INF, -1, NAN],
        "log": [-INF, -INF, INF, NAN, NAN],
        "log1p": [0.0, -0.0, INF, NAN, NAN],
        "tanh": [0.0, -0.0, 1, -1, NAN],
        "sigmoid": [0.5, 0.5, 1, 0, NAN],
        "erf": [0.0, -0.0, 1, -1, NAN],
    }[name]
    y = computed(core, name, x)
    np.testing.assert_array_equal(y, np.array(expected, dtype=core[1]))
    np.testing.assert_array_equal(np.signbit(y[:4]), np.signbit(expected[:4]) | np.isnan(y[:4]) & np.signbit(y[:4]))


@each_core
def test_logarithms_at_the_edge_of_their_domains(core):
    x = np.array([-1.0, -1e-30, -INF], dtype=core[1])
    np.testing.assert_array_equal(computed(core, "log", x), np.array([NAN, NAN, NAN], dtype=core[1]))
    x = np.array([-1.0, -1.5, -INF], dtype=core[1])
    np.testing.assert_array_equal(computed(core, "log1p", x), np.array([-INF, NAN, NAN], dtype=core[1]))


@each_core
def test_roots(core):
    """Within 1.2 and 0.8 ulp; without a fused multiply-add a little more."""
    kind = np.finfo(core[1])
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(1, 4, 100_001), np.exp2(rng.uniform(kind.minexp, kind.maxexp, 10_000))])
    x = np.append(x.astype(core[1]), [kind.tiny, kind.max])
    with mp.workprec(140):
        exact = [mp.sqrt(mp.mpf(float(v))) for v in x[100_001:]]
        high = np.array([float(v) for v in exact])
        low = np.array([float(v - mp.mpf(h)) for v, h in zip(exact, high, strict=True)])
    y = computed(core, "root", x)
    most = (1.2 if core[1] == "float32" else 0.8) + (0.5 if core[0] == "baseline" else 0)
    assert ulps(y[100_001:], high, low).max() <= most
    dense = np.sqrt(x[:100_001].astype(np.longdouble)) - y[:100_001]
    assert np.max(np.abs(dense) / np.spacing(y[:100_001])) <= most
    x = np.array([0.0, -0.0, INF, NAN], dtype=core[1])
    np.testing.assert_array_equal(computed(core, "root", x), x)


@each_core
def test_overflow_and_underflow(core):
    x = np.array([1e4, -1e4, 1e30, -1e30], dtype=core[1])
    np.testing.assert_array_equal(computed(core, "exp", x), [INF, 0, INF, 0])
    np.testing.assert_array_equal(computed(core, "expm1", x), [INF, -1, INF, -1])
    np.testing.assert_array_equal(computed(core, "sigmoid", x), [1, 0, 1, 0])
    np.testing.assert_array_equal(computed(core, "tanh", x), [1, -1, 1, -1])
    np.testing.assert_array_equal(computed(core, "erf", x), [1, -1, 1, -1])


@each_core
@pytest.mark.parametrize("name", ["exp", "sigmoid"])
def test_subnormal_results(core, name):
    lowest = np.log(float(np.finfo(core[1]).tiny))
    x = np.linspace(lowest, lowest - 15, 200, dtype=core[1])
    with mp.workprec(140):
        expected = np.array([float(mp.exp(mp.mpf(float(v)))) for v in x])
    error = np.abs(computed(core, name, x).astype(float) - expected) / float(np.finfo(core[1]).smallest_subnormal)
    assert error.max() <= limit(core)


@each_core
@pytest.mark.parametrize("name", ODD)
def test_odd_functions_are_exactly_odd(core, name):
    x = sample(name, core[1])
    np.testing.assert_array_equal(computed(core, name, -x), -computed(core, name, x))


@each_core
@each_name
def test_a_lane_does_not_depend_on_its_neighbours(core, name):
    x = sample(name, core[1])[:67]
    one_by_one = np.concatenate([computed(core, name, x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(computed(core, name, x), one_by_one)


@each_name
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.skipif(not {("v4", "float32"), ("v3", "float32")} <= set(CORES), reason="needs AVX-512 and AVX2")
def test_instruction_sets_agree_to_the_bit(name, dtype):
    x = sample(name, dtype)
    np.testing.assert_array_equal(computed(("v4", dtype), name, x), computed(("v3", dtype), name, x))


@pytest.mark.slow
@pytest.mark.skipif(not CORES, reason="no compiled core is installed")
@each_name
def test_every_float32(name):
    """All 2^32 of them: error, special values, and the same bits from AVX2 and AVX-512."""
    functions = {"sigmoid": lambda x: 1 / (1 + np.exp(-x))}
    if name == "erf":
        functions[name] = pytest.importorskip("scipy.special").erf
    function = functions.get(name) or getattr(np, name)
    cores = [core for core in CORES if core[1] == "float32"]
    for start in range(0, 2**32, 2**22):
        x = np.arange(start, start + 2**22, dtype=np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            expected = function(x.astype(float))
        results = {core: computed(core, name, x) for core in cores}
        for core, y in results.items():
            np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
            error = ulps(y, expected)
            error[np.isnan(expected) | (y == expected)] = 0
            assert error.max() <= limit(core), f"{core}: {name}({x[np.argmax(error)]!r})"
        if ("v4", "float32") in results:
            np.testing.assert_array_equal(results["v4", "float32"], results["v3", "float32"])


@pytest.mark.slow
def test_coefficients_are_those_that_the_script_derives(capsys):
    root = Path(__file__).parents[1]
    spec = importlib.util.spec_from_file_location("minimax", root / "bench" / "minimax.py")
    minimax = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(minimax)
    minimax.main()
    source = (root / "src" / "bpcore" / "vmath.pxd").read_text()
    numbers = [
        word for line in capsys.readouterr().out.splitlines() if line.startswith("    ") for word in line.split()
    ]
    assert len(numbers) > 50
    assert [number for number in numbers if number.removeprefix("-") not in source] == []
