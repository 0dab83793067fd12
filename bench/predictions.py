"""Predictions beside onnxruntime and PyTorch: python -m bench.predictions

One row and many, on one thread, in turns: µs per call, the median and in brackets the fastest, the ratios of medians,
and for many rows the share of the multiply-add peak.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import backprop as bp
import numpy as np

from bench import machine

NETWORKS = ([8, 16, 1], [64, 64, 10], [32, 64, 64, 64, 1], [784, 128, 10], [28, 300, 300, 300, 1])
ROWS = (1, 10_000)
SECONDS = 0.1


def with_onnxruntime(net: bp.Network, X: np.ndarray) -> Callable[[], Any]:
    """The same network in onnxruntime: fused Gemm nodes, all optimizations, one thread."""
    import onnx
    import onnxruntime

    nodes, arrays, name = [], [], "X"
    for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        last = k == len(net.weights) - 1
        arrays += [onnx.numpy_helper.from_array(W, f"W{k}"), onnx.numpy_helper.from_array(b, f"b{k}")]
        nodes.append(onnx.helper.make_node("Gemm", [name, f"W{k}", f"b{k}"], ["Y" if last else f"z{k}"]))
        if not last:
            nodes.append(onnx.helper.make_node("Relu", [f"z{k}"], [f"a{k}"]))
        name = f"a{k}"
    real = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "network",
        [onnx.helper.make_tensor_value_info("X", real, [None, net.n_inputs])],
        [onnx.helper.make_tensor_value_info("Y", real, [None, net.n_outputs])],
        arrays,
    )  # fmt: skip
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 17)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"X": X})[0]


def with_torch(net: bp.Network, X: np.ndarray) -> Callable[[], Any]:
    """The same network in PyTorch: eager, in inference mode, one thread."""
    import torch

    torch.set_num_threads(1)
    layers: list[torch.nn.Module] = []
    for W, b in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(*W.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(W.T.copy()), torch.from_numpy(b.copy())
        layers += [linear, torch.nn.ReLU()]
    model, rows = torch.nn.Sequential(*layers[:-1]), torch.from_numpy(X)

    def call() -> Any:
        with torch.inference_mode():
            return model(rows).numpy()

    return call


def rivals_for(net: bp.Network, X: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Those that are installed, each with the same outputs."""
    out = np.empty((len(X), net.n_outputs), X.dtype)
    calls: dict[str, Callable[[], Any]] = {
        "backprop": lambda: net.predict(X),
        "backprop, out=": lambda: net.predict(X, out=out),
    }
    for name, prepare in (("onnxruntime", with_onnxruntime), ("PyTorch", with_torch)):
        try:
            calls[name] = prepare(net, X)
        except ImportError:
            continue
    for name, call in calls.items():
        np.testing.assert_allclose(call(), net.predict(X), rtol=1e-3, atol=1e-4, err_msg=name)
    return calls


def seconds_per_call(call: Callable[[], Any], n_calls: int) -> float:
    start = perf_counter()
    for _ in range(n_calls):
        call()
    return (perf_counter() - start) / n_calls


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds per call of each, in turns."""
    counts = {name: max(1, round(SECONDS / seconds_per_call(call, 3))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds_per_call(call, counts[name]))
    return times


def row_of_table(sizes: Sequence[int], n_rows: int, times: dict[str, list[float]], names: Sequence[str]) -> str:
    ours = median(times["backprop"])
    flops = 2 * n_rows * sum(a * b for a, b in pairwise(sizes))
    peak = machine.peak("float32", 1)
    cells = ["-".join(map(str, sizes)), f"{n_rows:,}"]
    cells += [
        f"{1e6 * median(times[name]):.4g} ({1e6 * min(times[name]):.3g})" if name in times else "–" for name in names
    ]
    cells += [f"{median(times[name]) / ours:.2f}" if name in times else "–" for name in names[2:]]
    cells.append(f"{flops / ours / 1e9 / peak:.0%}" if peak and n_rows > 1 else "–")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.predictions", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    machine.pin(1)
    names = ("backprop", "backprop, out=", "onnxruntime", "PyTorch")
    ratios = [f"{name} / ours" for name in names[2:]]
    print("|", " | ".join(["network, relu, float32", "rows", *names, *ratios, "share of peak"]), "|")
    print("| --- " * (len(names) + 5) + "|")
    for sizes in NETWORKS:
        net = bp.mlp(sizes, hidden="relu", seed=0)
        for n_rows in ROWS:
            X = np.random.default_rng(0).standard_normal((n_rows, sizes[0]), dtype=np.float32)
            print(row_of_table(sizes, n_rows, measure(rivals_for(net, X), rounds), names), flush=True)


if __name__ == "__main__":
    main()
