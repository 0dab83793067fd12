"""What derivatives cost, in gradients: ``python -m bench.derivatives``, on one core, beside torch.func.

A gradient is `loss_and_gradients` over all rows. Bounds: 3 gradients for a product with the Hessian, n_outputs + 1 for
the Jacobian of the outputs with respect to the inputs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import backprop as bp
import numpy as np

# (sizes, hidden, rows)
CASES = (
    ((1, 12, 1), "tanh", 200),
    ((5, 20, 1), "tanh", 1000),
    ((6, 40, 2), "tanh", 2000),
    ((8, 64, 64, 3), "gelu", 1000),
    ((16, 128, 128, 8), "silu", 1000),
    ((64, 256, 256, 10), "tanh", 500),
)
REPEATS, SECONDS = 7, 0.05


def seconds(work: Callable[[], Any]) -> float:
    """CPU time: the best of some means, each over a twentieth of a second."""
    work()
    start = time.process_time()
    work()
    times = max(1, int(SECONDS / max(time.process_time() - start, 1e-7)))
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - start) / times)
    return best


def ours(sizes: tuple[int, ...], hidden: str, n_rows: int, dtype: str) -> dict[str, float]:
    """Seconds of each derivative."""
    rng = np.random.default_rng(0)
    net = bp.mlp(list(sizes), hidden=hidden, dtype=dtype, seed=0)
    X = rng.normal(size=(n_rows, sizes[0])).astype(dtype)
    y = rng.normal(size=(n_rows, sizes[-1])).astype(dtype)
    v = rng.normal(size=net.n_parameters).astype(dtype)
    work = {
        "gradient": lambda: net.loss_and_gradients(X, y),
        "hessian_vector_product": lambda: net.hessian_vector_product(X, y, v),
        "gauss_newton_vector_product": lambda: net.gauss_newton_vector_product(X, y, v),
        "gradients_per_row": lambda: net.gradients_per_row(X, y),
        "jacobian": lambda: net.jacobian(X),
        "laplacian": lambda: net.laplacian(X),
        "hessian": lambda: net.hessian(X),
    }
    large = n_rows * net.n_parameters > 20_000_000
    return {name: seconds(each) for name, each in work.items() if not (large and name == "gradients_per_row")}


def torchs(sizes: tuple[int, ...], hidden: str, n_rows: int, dtype: str) -> dict[str, float]:
    """The same by torch.func, eagerly, where it is installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    func, module = torch.func, bp.mlp(list(sizes), hidden=hidden, dtype=dtype, seed=0).to_torch()
    p = {name: each.detach() for name, each in module.named_parameters()}
    X = torch.randn(n_rows, sizes[0], dtype=getattr(torch, dtype))
    y = torch.randn(n_rows, sizes[-1], dtype=getattr(torch, dtype))
    v = {name: torch.randn_like(each) for name, each in p.items()}

    def outputs(p: Any, x: Any) -> Any:
        return func.functional_call(module, p, (x,))

    def loss(p: Any, x: Any = X, y: Any = y) -> Any:
        return ((outputs(p, x) - y) ** 2).mean()

    def of_rows(function: Any) -> Callable[[], Any]:
        return lambda: func.vmap(function, in_dims=(None, 0))(p, X)

    work = {
        "gradient": lambda: func.grad(loss)(p),
        "hessian_vector_product": lambda: func.jvp(func.grad(loss), (p,), (v,)),
        "gradients_per_row": lambda: func.vmap(func.grad(loss), in_dims=(None, 0, 0))(p, X, y),
        "jacobian": of_rows(func.jacrev(outputs, argnums=1)),
        "hessian": of_rows(func.hessian(outputs, argnums=1)),
    }
    large = n_rows * sum(each.numel() for each in p.values()) > 20_000_000
    return {name: seconds(each) for name, each in work.items() if not (large and name == "gradients_per_row")}


def main(arguments: list[str] | None = None) -> int:
    """Print a table for each network; 1 if a bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"))
    parser.add_argument("--torch", action="store_true", help="also time torch.func")
    options = parser.parse_args(arguments)
    exceeded = 0
    for sizes, hidden, n_rows in CASES:
        found = ours(sizes, hidden, n_rows, options.dtype)
        other = torchs(sizes, hidden, n_rows, options.dtype) if options.torch else {}
        bounds = {"hessian_vector_product": 3.0, "jacobian": sizes[-1] + 1.0}
        print(f"{'-'.join(map(str, sizes))} {hidden}, {n_rows} rows, {options.dtype}")
        for name, each in found.items():
            ratio = each / found["gradient"]
            bound = f" of {bounds[name]:g}" if name in bounds else ""
            beside = f"   torch.func {1e6 * other[name]:10.1f} µs" if name in other else ""
            print(f"  {name:<28}{1e6 * each:10.1f} µs {ratio:8.2f} gradients{bound:<6}{beside}")
            exceeded += ratio > bounds.get(name, np.inf)
    print(f"{exceeded} bounds exceeded")
    return int(exceeded > 0)


if __name__ == "__main__":
    sys.exit(main())
