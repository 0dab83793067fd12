"""What is trained in the benchmarks: the workloads as data, their rows and their initial weights.

Every adapter gets the same rows and the same initial weights, so that final losses can be compared between libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Activation = Literal["tanh", "relu", "sigmoid"]
Head = Literal["half_sse_sigmoid", "mse", "binary_cross_entropy", "cross_entropy"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]

Real = NDArray[Any]
Weights = list[tuple[Real, Real]]
"""Per layer W (n_in, n_out) and b (n_out,); of a fleet W (members, n_in, n_out) and b (members, 1, n_out)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A network, its data and how it is trained."""

    name: str
    sizes: tuple[int, ...]
    activation: Activation
    """of the hidden layers"""
    head: Head
    """the output's activation and the loss: half the summed squared error behind a sigmoid, the mean squared error
    behind nothing, binary cross-entropy behind a sigmoid, cross-entropy behind softmax"""
    data: str
    """a key of `DATA`"""
    rows: int
    batch: int
    optimizer: Optimizer
    learning_rate: float
    momentum: float = 0.0
    """of sgd; everything else an optimizer has is PyTorch's default"""
    dtype: Literal["float32", "float64"] = "float32"
    check_epochs: int
    """epochs of the unshuffled run whose final loss must agree between libraries"""
    members: int | None = None
    """how many networks are trained at once, each on rows of its own; None for one that is no fleet"""

    @property
    def stack(self) -> tuple[int, ...]:
        """The axes that a fleet's arrays have in front of those of a network."""
        return () if self.members is None else (self.members,)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def shuffled(self) -> bool:
        """Whether a timed run shuffles: a full batch has nothing to shuffle."""
        return self.batch < self.rows

    @property
    def flops_per_step(self) -> float:
        """Multiplications and additions of the matrix products alone, in an average step of one network.

        Forward 2 n_in n_out per sample, the weights' gradient as much, the inputs' gradient as much except in the
        first layer.
        """
        products = [a * b for a, b in zip(self.sizes, self.sizes[1:], strict=False)]
        return 2 * (3 * sum(products) - products[0]) * self.rows / self.steps_per_epoch


class Rows(NamedTuple):
    """X (n, n_in); y (n, n_out) real, one-hot for cross-entropy; labels (n,) for cross-entropy, else None.

    Those of a fleet have one more axis in front.
    """

    X: Real
    y: Real
    labels: NDArray[np.int64] | None


def _xor(workload: Workload) -> tuple[Real, Real]:
    return np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])


def _bundled(loader: str) -> Callable[[Workload], tuple[Real, Real]]:
    """One of scikit-learn's data sets, standardised."""

    def load(workload: Workload) -> tuple[Real, Real]:
        from sklearn import datasets

        X, labels = getattr(datasets, loader)(return_X_y=True)
        X = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
        # The classes of iris come sorted, and an unshuffled run should not see them one after the other.
        order = np.random.default_rng(0).permutation(len(X))
        return X[order], labels[order]

    return load


def _random(workload: Workload) -> tuple[Real, Real]:
    """Normal rows; targets from a random linear map, squashed, so that there is something to learn."""
    generator = np.random.default_rng(1)
    n_inputs, n_outputs = workload.sizes[0], workload.sizes[-1]
    X = generator.standard_normal((*workload.stack, workload.rows, n_inputs))
    scores = X @ generator.standard_normal((*workload.stack, n_inputs, n_outputs)) / np.sqrt(n_inputs)
    if workload.head == "cross_entropy":
        return X, scores.argmax(axis=-1)
    if workload.head == "binary_cross_entropy":
        return X, scores > 0
    return X, np.tanh(scores)


DATA: Mapping[str, Callable[[Workload], tuple[Real, Real]]] = {
    "xor": _xor,
    "iris": _bundled("load_iris"),
    "breast cancer": _bundled("load_breast_cancer"),
    "digits": _bundled("load_digits"),
    "random": _random,
}


def make_rows(workload: Workload) -> Rows:
    X, y = DATA[workload.data](workload)
    shape = (*workload.stack, workload.rows, workload.sizes[0])
    if X.shape != shape:
        raise ValueError(f"{workload.name}: needs rows of shape {shape}, but its data is {X.shape}")
    X = np.ascontiguousarray(X, workload.dtype)
    if workload.head == "cross_entropy":
        labels = y.astype(np.int64)
        return Rows(X, np.eye(workload.sizes[-1], dtype=workload.dtype)[labels], labels)
    return Rows(X, np.ascontiguousarray(y.reshape(*shape[:-1], -1), workload.dtype), None)


def make_weights(workload: Workload) -> Weights:
    """Glorot's uniform weights and small biases, drawn in float64 whatever the workload's dtype."""
    generator, stack = np.random.default_rng(2), workload.stack
    weights = []
    for n_in, n_out in zip(workload.sizes, workload.sizes[1:], strict=False):
        limit = np.sqrt(6 / (n_in + n_out))
        W = generator.uniform(-limit, limit, (*stack, n_in, n_out)).astype(workload.dtype)
        b = generator.uniform(-0.1, 0.1, (*stack, 1, n_out) if stack else n_out).astype(workload.dtype)
        weights.append((W, b))
    return weights


def _sigmoid(z: Real) -> Real:
    return 1 / (1 + np.exp(-z))


def _relu(z: Real) -> Real:
    return np.maximum(z, 0)


def loss_of(workload: Workload, rows: Rows, weights: Weights) -> float:
    """The loss over all rows, in float64; the mean of a fleet's."""
    activations: dict[str, Callable[[Real], Real]] = {"tanh": np.tanh, "relu": _relu, "sigmoid": _sigmoid}
    activation = activations[workload.activation]
    a, y = rows.X.astype(float), rows.y.astype(float)
    *hidden, (W, b) = weights
    for V, c in hidden:
        a = activation(a @ V.astype(float) + c)
    z = a @ W.astype(float) + b
    match workload.head:
        case "half_sse_sigmoid":
            return float(0.5 * np.sum((_sigmoid(z) - y) ** 2))
        case "mse":
            return float(np.mean((z - y) ** 2))
        case "binary_cross_entropy":
            return float(np.mean(np.logaddexp(0, z) - y * z))
        case "cross_entropy":
            return float(np.mean(np.logaddexp.reduce(z, axis=-1) - np.sum(y * z, axis=-1)))


# fmt: off
TABLE = (
    Workload(
        name="xor", sizes=(2, 2, 1), activation="sigmoid", head="half_sse_sigmoid", data="xor", rows=4, batch=4,
        optimizer="sgd", learning_rate=0.1, dtype="float64", check_epochs=2000,
    ),
    Workload(
        name="iris", sizes=(4, 16, 3), activation="tanh", head="cross_entropy", data="iris", rows=150, batch=150,
        optimizer="sgd", learning_rate=0.1, check_epochs=500,
    ),
    Workload(
        name="online", sizes=(30, 16, 1), activation="tanh", head="binary_cross_entropy", data="breast cancer",
        rows=569, batch=1, optimizer="sgd", learning_rate=0.01, check_epochs=3,
    ),
    Workload(
        name="digits", sizes=(64, 64, 10), activation="relu", head="cross_entropy", data="digits", rows=1797,
        batch=32, optimizer="adam", learning_rate=1e-3, check_epochs=3,
    ),
    Workload(
        name="deep", sizes=(32, 64, 64, 64, 1), activation="tanh", head="mse", data="random", rows=4096, batch=64,
        optimizer="adam", learning_rate=1e-3, check_epochs=2,
    ),
    Workload(
        name="mnist", sizes=(784, 128, 10), activation="relu", head="cross_entropy", data="random", rows=12_800,
        batch=64, optimizer="adam", learning_rate=1e-3, check_epochs=1,
    ),
    Workload(
        name="wide", sizes=(256, 1024, 1024, 10), activation="relu", head="cross_entropy", data="random", rows=4096,
        batch=256, optimizer="sgd", learning_rate=0.05, check_epochs=1,
    ),
    Workload(
        name="simplechains", sizes=(4, 32, 16, 4), activation="tanh", head="mse", data="random", rows=10_000,
        batch=10_000, optimizer="adam", learning_rate=1e-3, check_epochs=50,
    ),
    Workload(
        name="higgs", sizes=(28, 300, 300, 300, 300, 300, 1), activation="tanh", head="binary_cross_entropy",
        data="random", rows=4000, batch=100, optimizer="adam", learning_rate=1e-3, check_epochs=1,
    ),
)
"""The rows of the table in docs/performance.md."""

OTHERS = (
    Workload(
        name="odd", sizes=(7, 17, 33, 3), activation="tanh", head="cross_entropy", data="random", rows=1001, batch=37,
        optimizer="rmsprop", learning_rate=1e-3, check_epochs=3,
    ),
    Workload(
        name="odd64", sizes=(7, 17, 33, 3), activation="tanh", head="cross_entropy", data="random", rows=1001,
        batch=37, optimizer="rmsprop", learning_rate=1e-3, dtype="float64", check_epochs=3,
    ),
    Workload(
        name="digits64", sizes=(64, 64, 10), activation="relu", head="cross_entropy", data="digits", rows=1797,
        batch=32, optimizer="adam", learning_rate=1e-3, dtype="float64", check_epochs=3,
    ),
    Workload(
        name="deep64", sizes=(32, 64, 64, 64, 1), activation="tanh", head="mse", data="random", rows=4096, batch=64,
        optimizer="adam", learning_rate=1e-3, dtype="float64", check_epochs=2,
    ),
    Workload(
        name="wide64", sizes=(200, 500, 500, 10), activation="relu", head="cross_entropy", data="random", rows=2000,
        batch=200, optimizer="sgd", learning_rate=0.05, momentum=0.9, dtype="float64", check_epochs=1,
    ),
    Workload(
        name="xor32", sizes=(2, 3, 1), activation="tanh", head="half_sse_sigmoid", data="xor", rows=4, batch=4,
        optimizer="adam", learning_rate=0.01, check_epochs=500,
    ),
    Workload(
        name="rows to three", sizes=(30, 16, 3), activation="tanh", head="mse", data="random", rows=569, batch=1,
        optimizer="sgd", learning_rate=0.01, check_epochs=2,
    ),
    Workload(
        name="rows through narrow", sizes=(10, 8, 8, 1), activation="tanh", head="mse", data="random", rows=569,
        batch=1, optimizer="sgd", learning_rate=0.01, check_epochs=2,
    ),
    Workload(
        name="rows through wide", sizes=(6, 64, 5), activation="tanh", head="mse", data="random", rows=569, batch=1,
        optimizer="sgd", learning_rate=0.01, check_epochs=2,
    ),
    Workload(
        name="rows to classes", sizes=(4, 16, 3), activation="tanh", head="cross_entropy", data="iris", rows=150,
        batch=1, optimizer="sgd", learning_rate=0.01, check_epochs=5,
    ),
    Workload(
        name="many inputs", sizes=(2000, 64, 10), activation="relu", head="mse", data="random", rows=2560, batch=64,
        optimizer="adam", learning_rate=1e-3, check_epochs=2,
    ),
    Workload(
        name="one large layer", sizes=(500, 1000, 10), activation="relu", head="mse", data="random", rows=2560,
        batch=64, optimizer="adam", learning_rate=1e-3, check_epochs=2,
    ),
    Workload(
        name="two layers of 256", sizes=(100, 256, 256, 1), activation="relu", head="mse", data="random", rows=2560,
        batch=128, optimizer="adam", learning_rate=1e-4, check_epochs=2,
    ),
    Workload(
        name="pairs", sizes=(30, 16, 1), activation="sigmoid", head="binary_cross_entropy", data="breast cancer",
        rows=569, batch=2, optimizer="adam", learning_rate=1e-3, check_epochs=2,
    ),
    Workload(
        name="fives", sizes=(30, 15, 1), activation="relu", head="binary_cross_entropy", data="breast cancer",
        rows=569, batch=5, optimizer="adagrad", learning_rate=0.01, check_epochs=3,
    ),
    Workload(
        name="fours", sizes=(9, 400, 1), activation="tanh", head="mse", data="random", rows=1000, batch=4,
        optimizer="adam", learning_rate=1e-3, check_epochs=1,
    ),
    Workload(
        name="eights", sizes=(64, 128, 128, 10), activation="relu", head="cross_entropy", data="digits", rows=1797,
        batch=8, optimizer="sgd", learning_rate=0.05, check_epochs=2,
    ),
    Workload(
        name="broad", sizes=(784, 512, 10), activation="relu", head="cross_entropy", data="random", rows=3200,
        batch=64, optimizer="adam", learning_rate=1e-3, check_epochs=1,
    ),
    Workload(
        name="surrogate", sizes=(13, 50, 50, 5), activation="tanh", head="mse", data="random", rows=3000, batch=100,
        optimizer="adamw", learning_rate=1e-3, check_epochs=2,
    ),
    Workload(
        name="momentum", sizes=(64, 100, 10), activation="sigmoid", head="cross_entropy", data="digits", rows=1797,
        batch=200, optimizer="sgd", learning_rate=0.1, momentum=0.9, check_epochs=5,
    ),
)
"""Other shapes, dtypes, batches and optimizers: what is fast must not be the table alone."""

FLEETS = (
    Workload(
        name="sensors", members=1000, sizes=(8, 16, 1), activation="tanh", head="mse", data="random", rows=320,
        batch=32, optimizer="adam", learning_rate=1e-3, check_epochs=3,
    ),
    Workload(
        name="single rows", members=1000, sizes=(8, 16, 1), activation="tanh", head="mse", data="random", rows=200,
        batch=1, optimizer="sgd", learning_rate=0.01, check_epochs=1,
    ),
    Workload(
        name="tiny", members=2000, sizes=(2, 4, 1), activation="tanh", head="mse", data="random", rows=4, batch=4,
        optimizer="sgd", learning_rate=0.1, check_epochs=50,
    ),
    Workload(
        name="full batch", members=1000, sizes=(4, 16, 1), activation="tanh", head="mse", data="random", rows=100,
        batch=100, optimizer="adam", learning_rate=1e-3, check_epochs=20,
    ),
    Workload(
        name="two layers", members=200, sizes=(16, 64, 64, 1), activation="relu", head="mse", data="random", rows=640,
        batch=64, optimizer="adam", learning_rate=1e-3, check_epochs=2,
    ),
)
"""Many networks in one call."""
# fmt: on

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in TABLE + OTHERS + FLEETS}


RANDOM = "random"
"""what random fleets are called, before their seed"""


def random_fleet(seed: int) -> Workload:
    """A fleet of any shape, activation, loss, batch and optimizer, of about a million parameters and as many rows at
    most: where are the weak places?"""
    generator = np.random.default_rng([3, seed])

    def between(low: int, high: int) -> int:
        """Uniform in the logarithm."""
        return round(np.exp(generator.uniform(np.log(low), np.log(high))))

    head = generator.choice(["mse", "binary_cross_entropy", "cross_entropy"])
    n_outputs = {"mse": between(1, 4), "binary_cross_entropy": 1, "cross_entropy": between(2, 10)}[head]
    hidden = [between(2, 64) for _ in range(generator.integers(1, 4))]
    sizes = (between(1, 64), *hidden, n_outputs)
    batch = between(1, 128)
    steps = between(1, 16)
    # A full batch, whole batches, or a last one that is shorter.
    rows = max(batch, batch * steps - (generator.integers(batch) if generator.random() < 0.5 else 0))
    n_parameters = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    most = min(4000, 1_000_000 // n_parameters, 4_000_000 // (rows * sizes[0]))
    return Workload(
        name=f"{RANDOM} {seed}",
        members=between(min(16, most), most),
        sizes=sizes,
        activation=str(generator.choice(get_args(Activation))),  # type: ignore[arg-type]
        head=str(head),  # type: ignore[arg-type]
        data="random",
        rows=int(rows),
        batch=batch,
        optimizer=str(generator.choice(["sgd", "adam", "adamw", "rmsprop", "adagrad"])),  # type: ignore[arg-type]
        learning_rate=1e-3,
        dtype=str(generator.choice(["float32", "float32", "float64"])),  # type: ignore[arg-type]
        check_epochs=2,
    )


def random_network(seed: int) -> Workload:
    """A member of that fleet, alone, on some 2,000 rows unless it has few that are all of a batch."""
    fleet = random_fleet(seed)
    rows = fleet.rows * max(1, 2000 // fleet.rows) if fleet.batch < fleet.rows else fleet.rows
    return replace(fleet, name=f"{RANDOM} network {seed}", members=None, rows=rows)


def named(name: str) -> Workload:
    """That workload, those of random shapes included."""
    kind, _, seed = name.rpartition(" ")
    if kind == f"{RANDOM} network":
        return random_network(int(seed))
    return random_fleet(int(seed)) if kind == RANDOM else WORKLOADS[name]
