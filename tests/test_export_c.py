"""Exported C: the bits of the library, every activation, compilers, C++, sanitizers, other processors."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice
from backprop.export import c_text
from backprop.export.c_layers import in_8_bits
from backprop.reference.activations import ACTIVATIONS
from exported_c import (
    COMPILERS,
    FUSED,
    FUSED_BACKENDS,
    STRICTER,
    X86,
    build,
    compile_c,
    exported,
    flushed,
    outputs,
    plain,
    random_networks,
    rows_for,
)

pytestmark = pytest.mark.skipif("gcc" not in COMPILERS, reason="needs gcc")
fused = pytest.mark.skipif(not (X86 and FUSED_BACKENDS), reason="needs a core with fused multiply-adds")


def same_bits(library, networks, n_rows=50):
    """Compare C and `predict`, bit for bit; returns nothing."""
    for k, net in enumerate(networks):
        X = rows_for(net, n_rows, k)
        found, expected = flushed(outputs(library, k, net, X)), flushed(net.predict(X))
        np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), expected.view(f"u{found.itemsize}"), str(net))


def test_the_text_does_not_depend_on_how_numpy_prints(dtype):
    """NumPy's oldest way drops digits."""
    net = bp.mlp([2, 3, 1], dtype=dtype, seed=0)
    net.parameters[:4] = [1 / 3, 1e-30, 1e20, 123456789]
    with np.printoptions(legacy="1.13"):
        text = net.to_c()
    assert text == net.to_c()
    found = re.search(r"model_weights_1\[6\] = \{\s*([^}]*)\}", text)
    numbers = [number.strip().removesuffix("f") for number in found[1].split(",")]
    np.testing.assert_array_equal(np.array(numbers, dtype), net.parameters[:6])


# --- what it computes ----------------------------------------------------------------------------------------------


@fused
@pytest.mark.parametrize("compiler", COMPILERS)
def test_with_fused_multiply_adds_c_has_the_bits_of_predict(compiler, dtype, tmp_path):
    networks = random_networks(20, dtype, backend=FUSED_BACKENDS[0])
    same_bits(build(tmp_path, exported(tmp_path, networks), "-O2", *FUSED, compiler=compiler), networks)


@fused
@pytest.mark.parametrize("options", [["-O0"], ["-O3", "-march=native"], ["-Os"]])
def test_the_bits_do_not_depend_on_how_much_the_compiler_optimizes(options, dtype, tmp_path):
    networks = random_networks(8, dtype, seed=1, backend=FUSED_BACKENDS[0])
    same_bits(build(tmp_path, exported(tmp_path, networks), *FUSED, *options, std="gnu11"), networks)


@pytest.mark.skipif(not X86, reason="other processors fuse multiply-adds")
@fused
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("asked", [True, False])
def test_without_fused_multiply_adds_in_the_target_c_has_the_bits_too(asked, compiler, dtype, tmp_path):
    """Those of the processor, which is asked for them, or those that are put together."""
    networks = random_networks(20, dtype, backend=FUSED_BACKENDS[0])
    source = exported(tmp_path, networks) if asked else plain(exported(tmp_path, networks), 20)
    same_bits(build(tmp_path, source, "-O3" if asked else "-O2", std="gnu11", compiler=compiler), networks)


@fused
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_8_bits_give_the_same_bits_in_either_way(dtype, tmp_path):
    networks = random_networks(8, dtype)
    source = exported(tmp_path, networks, weights="int8")
    libraries = [build(tmp_path, each, "-O2", *more) for each, more in
                 ((source, FUSED), (source, []), (plain(source, 8), []))]  # fmt: skip
    for k, net in enumerate(networks):
        one, *others = (flushed(outputs(library, k, net, rows_for(net, 20, k))) for library in libraries)
        for other in others:
            np.testing.assert_array_equal(one.view(f"u{one.itemsize}"), other.view(f"u{one.itemsize}"), str(net))


@pytest.mark.skipif(not X86, reason="other processors are not asked")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_only_a_hosted_program_that_may_asks_the_processor(compiler, tmp_path):
    source = exported(tmp_path, [bp.mlp([3, 2], seed=0)])
    for text, options, expected in (
        (source, [], True),
        (source, ["-ffreestanding"], False),
        (plain(source, 1), [], False),
        (f"#define N0_FAST\n{source}", [], False),
        (source, FUSED, False),
    ):
        made = compile_c(tmp_path, text, "-O2", "-S", *options, compiler=compiler).read_text()
        assert ("__cpu_model" in made) == expected, options
        assert ("vfmadd" in made) == (expected or options == FUSED), options


@pytest.mark.skipif(not (X86 and shutil.which("qemu-x86_64")), reason="needs qemu")
@fused
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_a_processor_of_either_kind_gives_the_bits(processor, tmp_path):
    net, expected = small_network(backend=FUSED_BACKENDS[0])
    net.to_c(tmp_path / "n0.h")
    source = """
        #include <stdio.h>
        #include "n0.h"
        int main(void)
        {
            int row, i;
            for (row = 0; row < 3; row++) {
                float x[30], y;
                uint32_t seen;
                for (i = 0; i < 30; i++)
                    x[i] = (float)((i * 7 + row * 3) % 11 - 5) / 4;
                n0_predict(x, &y);
                memcpy(&seen, &y, sizeof seen);
                printf("%08x ", (unsigned)seen);
            }
            return 0;
        }
    """
    program = compile_c(tmp_path, source, "-O2", "-static")
    ran = subprocess.run(["qemu-x86_64", "-cpu", processor, program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == expected


@pytest.mark.skipif(not X86, reason="the baseline of other processors fuses multiply-adds")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_fast_c_has_the_bits_of_the_baseline(compiler, dtype, tmp_path):
    if "baseline" not in choice.available():
        pytest.skip("needs the baseline core")
    networks = random_networks(8, dtype, backend="baseline")
    macros = "".join(f"#define N{k}_FAST\n" for k in range(8))
    same_bits(build(tmp_path, macros + exported(tmp_path, networks), "-O2", compiler=compiler), networks)


FMA = """
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#define R(x) x
{emulated}
int differs(const {real} *x, int n, {real} *found);
int differs(const {real} *x, int n, {real} *found)
{{
    int i, wrong = 0;
    for (i = 0; i < n; i++, x += 3) {{
        const {real} ours = bp_fma(x[0], x[1], x[2]), theirs = fma{f}(x[0], x[1], x[2]);
        if (memcmp(&ours, &theirs, sizeof ours) && !(ours != ours && theirs != theirs)) {{
            wrong++;
            memcpy(found, x, 3 * sizeof *x);
        }}
    }}
    return wrong;
}}
"""


@pytest.mark.skipif(not X86, reason="other processors fuse multiply-adds")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_multiply_add_put_together_is_that_of_math_h(compiler, dtype, tmp_path):
    """Random numbers, sums that nearly cancel, ties but for something tiny, and the ends of the range but for subnormal
    results."""
    rng, real = np.random.default_rng(0), np.dtype(dtype).type
    n, digits = 200_000, 24 if dtype == "float32" else 53
    a, b = (rng.normal(size=(2, n)) * 2.0 ** rng.integers(-30, 30, (2, n))).astype(dtype)
    near = -(a * b) * (1 + rng.integers(-3, 4, n) * real(2) ** (2 - digits))
    far = (a * b) * (2.0 ** rng.integers(-2 * digits, 2 * digits, n)).astype(dtype)
    few_bits = rng.integers(-9, 10, n).astype(dtype)
    ties = (
        few_bits * (2.0 ** (digits - 1) + rng.integers(0, 9, n)),
        np.full(n, 1 + 2.0 ** (1 - digits)),
        rng.integers(-3, 4, n) / 4,
    )
    rows = [
        np.stack(row, axis=1).astype(dtype)
        for row in (
            (a, b, near),
            (a, b, far),
            (a, b, rng.normal(size=n)),
            ties,
            (*ties[:2], 1e-30 * rng.normal(size=n)),
        )
    ]
    largest = np.finfo(dtype).max if dtype == "float32" else 2.0**996  # above, parts of the factors are too large
    ends = [0.0, -0.0, 1.0, -1.5, largest, -largest, largest / 3, np.inf, -np.inf, np.nan, 1e-3]
    every = np.array([(x, y, z) for x in ends for y in ends for z in ends], dtype)
    with np.errstate(all="ignore"):
        # a product that is too large is an infinity
        rows.append(every[~(np.isinf(every[:, 0] * every[:, 1]) & np.isinf(every[:, 2]))])
    x = np.ascontiguousarray(np.concatenate(rows))
    writer = c_text.Writer("bp", np.dtype(dtype))
    source = FMA.format(emulated=writer.functions(["fma"]), real=writer.real, f="f" if dtype == "float32" else "")
    library, found = build(tmp_path, source, "-O2", "-lm", compiler=compiler), np.zeros(3, dtype)
    wrong = library.differs(ctypes.c_void_p(x.ctypes.data), len(x), ctypes.c_void_p(found.ctypes.data))
    assert wrong == 0, f"{wrong} of {len(x)}, such as {[value.hex() for value in found.astype(float)]}"


@fused
def test_the_fma_of_math_h_gives_the_bits_on_any_processor(dtype, tmp_path):
    networks = random_networks(8, dtype, backend=FUSED_BACKENDS[0])
    function = "fmaf" if dtype == "float32" else "fma"
    macros = "".join(f"#define N{k}_FMA {function}\n" for k in range(8))
    source = f"#include <math.h>\n{macros}{exported(tmp_path, networks)}"
    same_bits(build(tmp_path, source, "-O2", "-lm"), networks)


@fused
@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_two_hundred_networks_have_the_bits(compiler, dtype, tmp_path):
    networks = random_networks(200, dtype, seed=5, backend=FUSED_BACKENDS[0])
    same_bits(build(tmp_path, exported(tmp_path, networks), "-O2", *FUSED, compiler=compiler), networks, 200)
    if X86:
        same_bits(build(tmp_path, exported(tmp_path, networks), "-O2", compiler=compiler), networks, 200)
    if compiler == "gcc":
        library = build(tmp_path, plain(exported(tmp_path, networks), 200), "-O2")
        worst = np.array([distance(library, k, net) for k, net in enumerate(networks)])
        print(f"{dtype}: without, ulp of the largest activation: {np.sort(worst)[-5:]}, above 4: {(worst > 4).sum()}")
        assert worst.max() <= 4


def distance(library, k, net):
    """The largest difference between C and `predict`, in units in the last place of a row's largest activation."""
    X = np.random.default_rng(k).normal(size=(200, net.n_inputs)).astype(net.dtype)
    top = np.abs(np.hstack([X, *net.activations(X)])).max(axis=1)
    difference = np.abs(outputs(library, k, net, X).astype("f8") - net.predict(X)).max(axis=1)
    return (difference / np.spacing(top)).max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_its_value_and_its_derivative_in_c(activation):
    """Whoever adds an activation adds both to `functions.h`."""
    for name in (activation, f"{activation}_slope"):
        assert c_text.has_function(name), f"export/functions.h: needs a function {name!r}"
    assert c_text.argument_of_slope(activation) in ("value", "score")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_takes_zeros_infinities_and_nan_as_the_reference_does(activation, dtype, tmp_path):
    net = bp.Network(1, [bp.Dense(1, activation, weight_init=1.0)], dtype=dtype, backend="reference")
    X = np.array([0.0, -0.0, 1e-30, -1e-30, 1, -1, 1e4, -1e4], dtype)[:, None]
    library = build(tmp_path, exported(tmp_path, [net]))
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(outputs(library, 0, net, X), net.predict(X), rtol=1e-6, atol=1e-30)
    assert np.isnan(outputs(library, 0, net, [[np.nan]])).all()


# --- 8 bits --------------------------------------------------------------------------------------------------------


def test_weights_of_8_bits_are_rounded_by_column_and_nothing_else_changes(dtype, tmp_path):
    net = bp.mlp([8, 16, 3], hidden="tanh", output="softmax", dtype=dtype, seed=0)
    rounded = net.copy()
    rounded.weights = [whole.astype(dtype) * scales for whole, scales in map(in_8_bits, net.weights)]
    library = build(tmp_path, exported(tmp_path, [net], weights="int8"), *FUSED)
    X = rows_for(net, 20)
    np.testing.assert_allclose(outputs(library, 0, net, X), rounded.predict(X), rtol=1e-4, atol=1e-6)
    text = (tmp_path / "n0.h").read_text()
    assert "static const int8_t n0_weights_1[128]" in text
    assert "n0_scales_1[16]" in text


def test_weights_of_8_bits_cost_less_than_a_point_on_digits(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    X = (X / 16).astype("float32")
    net = bp.mlp([64, 64, 10], output="softmax", seed=0)
    net.fit(X[:1200], y[:1200], epochs=20)
    library = build(tmp_path, exported(tmp_path, [net], weights="int8"), *FUSED)
    exact = (net.predict(X[1200:]).argmax(axis=1) == y[1200:]).mean()
    rounded = (outputs(library, 0, net, X[1200:]).argmax(axis=1) == y[1200:]).mean()
    print(f"accuracy {exact:.4f}, with 8 bits {rounded:.4f}")
    assert exact > 0.9
    assert abs(exact - rounded) < 0.01


# --- training ------------------------------------------------------------------------------------------------------


def trained(folder, net, X, Y, rate):
    """The outputs for X of the exported network after a step on each row, in turn."""
    real = "float" if net.dtype == np.float32 else "double"
    source = exported(folder, [net], training=True) + (
        f"void train(const {real} *x, const {real} *y, int n);\n"
        f"void train(const {real} *x, const {real} *y, int n)\n"
        f"{{ for (; n; n--, x += {net.n_inputs}, y += {net.n_outputs}) n0_train_one(x, y, ({real}){rate}); }}\n"
    )
    library = build(folder, source, *FUSED, "-O2")
    pointer = [ctypes.c_void_p(array.ctypes.data) for array in (X, Y)]
    library.train(*pointer, len(X))
    return outputs(library, 0, net, X)


@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_train_one_takes_the_steps_of_fit(hidden, dtype, tmp_path):
    last = {"tanh": "sigmoid", "gelu": "softmax", "prelu": "prelu", "silu": "exp", "mish": "tanh"}.get(
        hidden, "identity"
    )
    layers = [bp.Dense(5, hidden), bp.Dense(4, "tanh", bias=False), bp.Dense(3, last)]
    net, rng = bp.Network(4, layers, dtype=dtype, seed=1), np.random.default_rng(0)
    X, Y = rng.normal(size=(6, 4)).astype(dtype), rng.random((6, 3)).astype(dtype)
    Y /= Y.sum(axis=1, keepdims=True)
    found = trained(tmp_path, net, X, Y, 0.1)
    net.fit(X, Y, optimizer=bp.SGD(learning_rate=0.1), batch_size=1, shuffle=False, epochs=1)
    np.testing.assert_allclose(found, net.predict(X), rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-6)


@pytest.mark.parametrize("penalties", [{"l2": 0.1}, {"l1": 0.05}, {"l1": 0.02, "l2": 0.3}])
def test_train_one_has_the_penalties_of_fit(penalties, dtype, tmp_path):
    layers = [bp.Dense(5, "tanh", **penalties), bp.Dense(4, "relu"), bp.Dense(3, "softmax", **penalties)]
    net, rng = bp.Network(4, layers, dtype=dtype, seed=1), np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 4)).astype(dtype), np.eye(3, dtype=dtype)[rng.integers(0, 3, 20)]
    found = trained(tmp_path, net, X, Y, 0.1)
    net.fit(X, Y, optimizer=bp.SGD(learning_rate=0.1), batch_size=1, shuffle=False, epochs=1)
    np.testing.assert_allclose(found, net.predict(X), rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-6)


def test_what_is_frozen_stays_constant_in_c(tmp_path):
    layers = [bp.Dense(3, "relu", trainable=False), bp.Dense(2, bias_trainable=False)]
    net = bp.Network(2, layers, seed=0)
    X, Y = np.ones((4, 2), "float32"), np.zeros((4, 2), "float32")
    found = trained(tmp_path, net, X, Y, 0.1)
    text = (tmp_path / "n0.h").read_text()
    assert re.findall(r"static float (\w+)\[", text) == ["n0_weights_2"]
    net.fit(X, Y, optimizer=bp.SGD(learning_rate=0.1), batch_size=1, shuffle=False, epochs=1)
    np.testing.assert_allclose(found, net.predict(X), rtol=1e-5)


# --- compilers and processors --------------------------------------------------------------------------------------


def small_network(**settings):
    """30-16-1, and what `data/cortex_m4.c` prints of it."""
    net = bp.mlp([30, 16, 1], hidden="tanh", output="sigmoid", seed=3, **settings)
    X = np.array([[(i * 7 + row * 3) % 11 - 5 for i in range(30)] for row in range(3)], "float32") / 4
    return net, [f"{bits:08x}" for bits in net.predict(X).view("u4").ravel()]


@pytest.mark.parametrize(
    ("compiler", "std", "language"),
    [
        (c, std, lang)
        for c in COMPILERS
        for std, lang in [("c99", "c"), ("c17", "c"), ("c++11", "c++"), ("c++17", "c++")]
    ],
)
def test_c_and_cpp_compile_it_without_a_warning(compiler, std, language, tmp_path):
    for dtype, settings in (("float32", {}), ("float64", {"training": True}), ("float32", {"weights": "int8"})):
        source = exported(tmp_path, random_networks(20, dtype), **settings)
        compile_c(tmp_path, source, "-c", *STRICTER, compiler=compiler, std=std, language=language)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("sanitizer", ["address,undefined", "float-divide-by-zero"])
def test_the_sanitizers_find_nothing(sanitizer, asked, tmp_path):
    networks = [net for net in random_networks(20, "float32") if net.n_inputs <= 40]
    calls = "".join(f"    n{k}_predict(x, y);\n    n{k}_train_one(x, y, 0.01f);\n" for k in range(len(networks)))
    source = exported(tmp_path, networks, training=True)
    source = source if asked else plain(source, 20)
    source += f"int main(void)\n{{\n    float x[40] = {{0.5f, -3.0f}}, y[40];\n{calls}    return 0;\n}}\n"
    options = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g", "-O1"]
    program = compile_c(tmp_path, source, *options)
    ran = subprocess.run([program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs a compiler for aarch64")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs qemu")
@fused
def test_an_arm_of_64_bits_gives_the_bits(dtype, tmp_path):
    networks = random_networks(20, dtype, backend=FUSED_BACKENDS[0])
    rows = [rows_for(net, 20, k) for k, net in enumerate(networks)]
    real = "float" if dtype == "float32" else "double"
    calls = "".join(
        f"    fread(x, sizeof *x, {X.size}, stdin);\n    run{k}(x, y, 20);\n"
        f"    fwrite(y, sizeof *y, {20 * net.n_outputs}, stdout);\n"
        for k, (net, X) in enumerate(zip(networks, rows, strict=True))
    )
    source = f"#include <stdio.h>\n{exported(tmp_path, networks)}static {real} x[800], y[800];\n"
    source += f"int main(void)\n{{\n{calls}    return 0;\n}}\n"
    program = compile_c(tmp_path, source, "-O2", "-static", "-Wno-unused-result", compiler="aarch64-linux-gnu-gcc")
    given = b"".join(X.tobytes() for X in rows)
    ran = subprocess.run(["qemu-aarch64", program], input=given, capture_output=True, check=True)
    expected = np.concatenate([net.predict(X).ravel() for net, X in zip(networks, rows, strict=True)])
    found = flushed(np.frombuffer(ran.stdout, dtype))
    np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), flushed(expected).view(f"u{found.itemsize}"))


CORTEX_M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]


@pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="needs a compiler for controllers")
@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="needs qemu")
@fused
def test_a_cortex_m4_gives_the_bits(tmp_path):
    net, expected = small_network(backend=FUSED_BACKENDS[0])
    net.to_c(tmp_path / "n0.h")
    source = (Path(__file__).parent / "data" / "cortex_m4.c").read_text()
    linked = ["-nostdlib", "-Wl,--section-start=.vectors=0", "-Wl,-Ttext=0x100", "-Wl,-e,start", "-lgcc"]
    program = compile_c(tmp_path, source, "-O2", *CORTEX_M4, *linked, compiler="arm-none-eabi-gcc", std="gnu11")
    machine = ["-M", "mps2-an386", "-nographic", "-semihosting-config", "enable=on,target=native", "-kernel"]
    ran = subprocess.run(["qemu-system-arm", *machine, program], capture_output=True, text=True, timeout=60)
    assert ran.stderr.split() == expected  # where the console of semihosting is


@pytest.mark.skipif(not shutil.which("arm-none-eabi-size"), reason="needs a compiler for controllers")
def test_a_controller_needs_no_heap_and_as_much_memory_as_the_file_says(tmp_path):
    net, _ = small_network()
    net.to_c(tmp_path / "n0.h")
    source = '#include "n0.h"\nvoid run(const float *x, float *y);\n'
    source += "void run(const float *x, float *y) { n0_predict(x, y); }\n"
    made = compile_c(tmp_path, source, "-Os", "-c", "-fstack-usage", *CORTEX_M4, compiler="arm-none-eabi-gcc")
    ran = subprocess.run(["arm-none-eabi-size", made], capture_output=True, text=True, check=True)
    text, data, bss = map(int, ran.stdout.splitlines()[1].split()[:3])
    (usage,) = tmp_path.glob("*.su")
    stack = sum(int(line.split("\t")[1]) for line in usage.read_text().splitlines())
    print(f"flash {text} bytes, static RAM {data + bss}, stack {stack}")
    assert data + bss == 0
    assert 4 * net.n_parameters < text < 4 * net.n_parameters + 1024
    assert stack < 200
    assert "malloc" not in subprocess.run(["arm-none-eabi-nm", made], capture_output=True, text=True).stdout
    about = (tmp_path / "n0.h").read_text()
    assert "Weights: 2,052 bytes of flash" in about
    assert "Stack of predict: 68 bytes" in about
    assert "Heap: 0 bytes" in about


@pytest.mark.parametrize(
    ("compiler", "options"),
    [("avr-g++", ["-mmcu=atmega328p"]), ("arm-none-eabi-g++", ["-mcpu=cortex-m0plus", "-mthumb"])],
)
def test_the_compilers_of_arduino_take_it(compiler, options, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    options = [*options, "-Os", "-c", "-fno-exceptions"]
    settings = {"compiler": compiler, "std": "gnu++11", "language": "c++"}
    networks = random_networks(20, "float32")
    for more in ({}, {"training": True}, {"weights": "int8"}):
        compile_c(tmp_path, exported(tmp_path, networks, **more), *options, **settings)


@pytest.mark.skipif(not shutil.which("avr-gcc"), reason="needs avr-gcc")
def test_doubles_of_32_bits_are_an_error_of_the_compiler(tmp_path):
    source = exported(tmp_path, [bp.mlp([2, 1], seed=0, dtype="float64")])
    with pytest.raises(AssertionError, match="n0_needs_doubles_of_64_bits"):
        compile_c(tmp_path, source, "-mmcu=atmega328p", "-c", compiler="avr-gcc")


# --- files and names -----------------------------------------------------------------------------------------------


def test_two_networks_fit_into_one_program(tmp_path):
    one, other = bp.mlp([2, 3, 1], seed=0), bp.mlp([2, 3, 1], seed=1, dtype="float64")
    library = build(tmp_path, exported(tmp_path, [one, other]), *FUSED)
    for k, net in enumerate((one, other)):
        np.testing.assert_allclose(outputs(library, k, net, [[1, 2]]), net.predict([[1, 2]]), rtol=1e-6)


def test_outputs_may_be_where_the_inputs_are(tmp_path):
    net = bp.mlp([3, 8, 3], seed=0)
    library, row = build(tmp_path, exported(tmp_path, [net]), *FUSED), np.array([[1, 2, 3]], "float32")
    expected, pointer = net.predict(row), ctypes.c_void_p(row.ctypes.data)
    library.run0(pointer, pointer, 1)
    np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_names_in_the_file_begin_with_its_name(tmp_path):
    net = bp.mlp([2, 2, 1], output="softmax", seed=0)
    net.to_c(tmp_path / "my net.v2.h")
    assert "void my_net_v2_predict(const float *inputs, float *outputs)" in (tmp_path / "my net.v2.h").read_text()
    net.to_c(tmp_path / "2.h", name="second")
    defined = re.findall(r"^static [^(\n]*?(\w+)[(\[]", (tmp_path / "2.h").read_text(), re.MULTILINE)
    assert "second_predict" in defined
    assert all(name.startswith("second_") for name in defined)


def test_names_of_columns_cannot_leave_the_comment(tmp_path):
    net = bp.mlp([2, 1], seed=0)
    net.feature_names = ["a*/b", "größe\\"]
    library = build(tmp_path, exported(tmp_path, [net]))
    assert "(a* /b, gr??e" in (tmp_path / "n0.h").read_text()
    assert library is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "int"}, "name: needs letters"),
        ({"name": "a b"}, "name: needs letters"),
        ({"name": 3}, "name: needs text or None, got 3"),
        ({"weights": "int4"}, "weights: needs one of 'exact', 'int8'"),
        ({"training": "yes"}, "training: needs"),
        ({"weights": "int8", "training": True}, "training: needs weights='exact'"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_the_file(settings, message, tmp_path):
    path = tmp_path / "model.h"
    path.write_text("as it was")
    with pytest.raises((TypeError, ValueError), match=message):
        bp.mlp([2, 1], seed=0).to_c(path, **settings)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_c_cannot_use_asks_for_another(tmp_path):
    with pytest.raises(ValueError, match="path: needs a name that C can use, or name="):
        bp.mlp([2, 1], seed=0).to_c(tmp_path / "2nd.h")


@pytest.mark.parametrize("setting", [{"dropout": 0.5}, {"max_norm": 1.0}])
def test_training_without_what_fit_does_is_refused(setting, tmp_path):
    net = bp.Network(2, [bp.Dense(2, **setting), bp.Dense(1)])
    with pytest.raises(ValueError, match=f"training: needs layers without {next(iter(setting))}"):
        net.to_c(tmp_path / "model.h", training=True)
    net.to_c(tmp_path / "model.h")


def test_a_network_that_is_frozen_is_not_trained():
    net = bp.Network(2, [bp.Dense(3, "tanh", trainable=False), bp.Dense(1, trainable=False)])
    with pytest.raises(ValueError, match="training: needs a layer that is not frozen, got none; or training=False"):
        net.to_c(training=True)
    assert "n_train_one" not in net.to_c(name="n")


def test_parameters_that_are_no_numbers_are_refused(tmp_path):
    net = bp.mlp([2, 1], seed=0)
    net.weights[0][0] = np.nan
    with pytest.raises(ValueError, match="needs parameters that are finite"):
        net.to_c(tmp_path / "model.h")


def test_the_program_of_the_documents_compiles_and_runs(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "export.md").read_text()
    (program,) = [block for block in re.findall(r"```c\n(.*?)```", text, re.DOTALL) if "int main" in block]
    net = bp.mlp([4, 16, 3], hidden="tanh", output="softmax", seed=0)
    net.to_c(tmp_path / "iris_net.h")
    ran = subprocess.run([compile_c(tmp_path, program, *FUSED)], capture_output=True, text=True, check=True)
    assert ran.stdout == f"setosa: {net.predict([[5.1, 3.5, 1.4, 0.2]])[0, 0]:.2f}\n"
