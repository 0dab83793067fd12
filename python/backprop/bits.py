"""``python -m backprop.bits``: whether this machine computes the bits that backprop promises.

It trains a fixed list of small networks and fleets, which takes about a second, prints the SHA-256 of what each of them
has learned, and compares with the table that the package brings along. `docs/bits.json` is that table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backprop.backends import choice
from backprop.base.version import version
from backprop.fleet import Fleet
from backprop.network import Network
from backprop.reference import losses as loss
from backprop.reference import optimizers as opt
from backprop.reference.dense import Dense

__all__ = ["TRAININGS", "Training", "digests", "expected", "main"]

_DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Training:
    """A training of the list: a network, or a fleet of `size` networks, on numbers that follow from its shapes.

    Attributes
    ----------
    sizes, hidden, output
        Inputs and units, and the activations, as `mlp` takes them.
    loss, optimizer, rows, batch_size, epochs
        As `Network.fit` takes them.
    dropout, max_norm, l2
        Of the hidden layers; see `Dense`.
    size
        Networks in the fleet; 0 for a network alone.

    Examples
    --------
    >>> from backprop import losses, optimizers
    >>> from backprop.bits import Training
    >>> training = Training((2, 4, 1), "tanh", "identity", losses.SquaredError(), optimizers.Adam(), rows=8)
    >>> len(training.digest("float32", n_threads=1))
    64
    """

    sizes: tuple[int, ...]
    hidden: str
    output: str
    loss: loss.Loss
    optimizer: opt.Optimizer
    rows: int
    batch_size: int | None = None
    epochs: int = 5
    dropout: float = 0.0
    max_norm: float | None = None
    l2: float = 0.0
    size: int = 0

    def digest(self, dtype: str, n_threads: int | Literal["auto"] = "auto") -> str:
        """Train in `dtype` and return the SHA-256 of parameters, losses and predictions, as hexadecimal digits.

        The numbers are hashed one after the other with their lowest byte first, losses as float64.
        """
        layers = [
            Dense(units, self.hidden, dropout=self.dropout, max_norm=self.max_norm, l2=self.l2)
            for units in self.sizes[1:-1]
        ]
        layers.append(Dense(self.sizes[-1], self.output))
        X, y = self._rows()
        options: Any = {"loss": self.loss, "optimizer": self.optimizer, "epochs": self.epochs, "n_threads": n_threads}
        options |= {"batch_size": self.batch_size, "progress": False}
        net: Any
        if self.size:
            net = Fleet(self.sizes[0], layers, size=self.size, dtype=dtype, seed=0)
        else:
            net = Network(self.sizes[0], layers, dtype=dtype, seed=0)
        history = net.fit(X, y, **options)
        arrays = [net.parameters, np.asarray(history.loss, np.float64), net.predict(X)]
        return hashlib.sha256(b"".join(_little_endian(array).tobytes() for array in arrays)).hexdigest()

    def _rows(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs and targets from raw random numbers: no function of a library that may round otherwise elsewhere."""
        raw = np.random.PCG64(len(self.sizes)).random_raw(self.rows * (self.sizes[0] + self.sizes[-1]))
        numbers = (raw >> np.uint64(41)).astype(np.float64) / 2.0**23  # exact in float32, too
        X, y = np.split(numbers, [self.rows * self.sizes[0]])
        X = (2 * X - 1).reshape(self.rows, -1)
        if not self.loss.elementwise:
            return X, (y[: self.rows] * self.sizes[-1]).astype(np.int64)
        y = y.reshape(self.rows, -1)
        if self.loss.target_values is not None:
            return X, np.where(y < 0.5, *self.loss.target_values)
        return X, y + 2.0**-8


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


TRAININGS = {
    "xor": Training((2, 2, 1), "sigmoid", "sigmoid", loss.SquaredError(), opt.SGD(), 4, epochs=50),
    "one row at a time": Training((9, 16, 7, 1), "tanh", "sigmoid", loss.BinaryCrossEntropy(), opt.SGD(), 60, 1),
    "pairs": Training((5, 60, 40, 2), "elu", "softplus", loss.Huber(), opt.SGD(momentum=0.9), 41, 2),
    "small batches": Training((30, 24, 10), "relu", "softmax", loss.CrossEntropy(), opt.Adam(), 200, 32),
    "full batch": Training((4, 32, 16, 4), "tanh", "identity", loss.SquaredError(), opt.AdamW(), 1000, epochs=8),
    "dropout": Training((12, 40, 30, 3), "gelu", "softmax", loss.CrossEntropy(), opt.RMSprop(), 150, 50, dropout=0.3),
    "dropout, norms": Training(
        (28, 50, 1), "silu", "exp", loss.Poisson(), opt.Adamax(), 200, 70, dropout=0.1, max_norm=0.8
    ),
    "wide": Training((40, 300, 260, 3), "softmax", "softmax", loss.CrossEntropy(), opt.Adam(), 80, 33, epochs=2),
    "prelu": Training((7, 33, 3), "prelu", "prelu", loss.AbsoluteError(), opt.NAdam(), 90, 40, l2=1e-3),
    "mish": Training((20, 30, 3), "mish", "identity", loss.LogCosh(), opt.RAdam(), 100, 33),
    "selu": Training((20, 30, 2), "selu", "exp", loss.Gamma(), opt.Adagrad(), 100, 16),
    "softsign": Training((9, 40, 33, 2), "softsign", "exp", loss.Tweedie(), opt.Adadelta(), 60, 8),
    "hard swish": Training((12, 30, 30, 1), "hard_swish", "sigmoid", loss.Focal(), opt.Rprop(), 64),
    "hinge": Training((12, 30, 1), "relu6", "identity", loss.Hinge(), opt.Lion(), 64, 16),
    "muon": Training((30, 40, 20, 2), "leaky_relu", "identity", loss.Quantile(quantile=0.8), opt.Muon(), 100, 50),
    "fleet of tiny networks": Training(
        (2, 4, 1), "tanh", "sigmoid", loss.BinaryCrossEntropy(), opt.SGD(), 8, 4, size=37, epochs=20
    ),
    "fleet": Training((6, 16, 3), "tanh", "softmax", loss.CrossEntropy(), opt.Adam(), 50, 16, size=19, dropout=0.2),
}
"""The list, by name: each of them is trained in float32 and in float64."""


@cache
def expected() -> dict[str, str]:
    """Return the table that the package brings along: the SHA-256 of each training in each dtype.

    Examples
    --------
    >>> from backprop.bits import expected
    >>> len(expected()["xor, float32"])
    64
    """
    table: dict[str, str] = json.loads(resources.files("backprop").joinpath("data/bits.json").read_text("utf-8"))
    return table


def digests(n_threads: int | Literal["auto"] = "auto") -> dict[str, str]:
    """Train the whole list on the default backend and return the SHA-256 of each training in each dtype.

    Examples
    --------
    >>> from backprop.bits import digests
    >>> len(digests(n_threads=1)["xor, float64"])
    64
    """
    return {
        f"{name}, {dtype}": training.digest(dtype, n_threads)
        for name, training in TRAININGS.items()
        for dtype in _DTYPES
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the list and whether it agrees; return 1 where bits are promised and others were computed, else 0.

    Examples
    --------
    >>> from backprop.bits import main
    >>> main(["--json"])  # doctest: +ELLIPSIS
    {
      "xor, float32": "...",
    ...
    }
    0
    """
    parser = argparse.ArgumentParser(prog="python -m backprop.bits", description=__doc__.split("\n")[2])
    parser.add_argument("--threads", type=int, default=0, help="threads of a training (default: chosen)")
    parser.add_argument("--json", action="store_true", help="print the table only, as docs/bits.json has it")
    args = parser.parse_args(argv)
    found = digests(args.threads or "auto")
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    table, backend = expected(), choice.default()
    differing = [name for name, digest in found.items() if table.get(name) != digest]
    for name, digest in found.items():
        print(f"{digest}  {name}{'  DIFFERS' if name in differing else ''}")
    print(f"\nbackprop {version()}, backend {backend.name}: {backend.instruction_set}")
    print(f"{len(found) - len(differing)} of {len(found)} trainings have the bits of the table")
    if backend.name not in choice.FUSED:
        print("This backend has no fused multiply-add, so the same bits are not promised for it.")
        return 0
    if differing:
        print("They should all: please report this, with what backprop.show_config() prints.")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
