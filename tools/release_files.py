"""Write the files of a release, which later versions have to read: python tools/release_files.py FOLDER.

It takes the `backprop` that is importable: networks of several kinds in both dtypes, checkpoints, a fleet, a model for
tables; and, in ``expected.json``, what they predict and what training on computes. `tests/test_releases.py` reads every
folder of `tests/corpus/releases/`. What an old version has not got is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import backprop as bp
import numpy as np

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.sin(X @ [1.0, -0.5, 0.25])
CLASSES = np.digitize(X[:, 0], [-0.4, 0.4])
NEW = RNG.normal(size=(5, 3))
COLUMNS = {"size": X[:, 0], "age": X[:, 1], "kind": [f"kind {c}" for c in CLASSES], "price": Y}

Dense = bp.Dense
NETWORKS: dict[str, tuple[Callable[[], list[Any]], dict[str, Any], Any]] = {
    "linear": (lambda: [Dense(1)], {"optimizer": "sgd"}, Y),
    "deep": (lambda: [Dense(8, "relu"), Dense(6, "tanh", l2=0.01), Dense(1)], {"optimizer": "adam"}, Y),
    "classes": (lambda: [Dense(8, "gelu", dropout=0.1), Dense(3, "softmax")], {"optimizer": "adamw"}, CLASSES),
    "yes-or-no": (
        lambda: [Dense(5, "elu", bias=False), Dense(1, "sigmoid")],
        {"optimizer": "rmsprop"},
        (CLASSES > 0).astype(float),
    ),
    "frozen": (lambda: [Dense(5, "silu", trainable=False), Dense(1, max_norm=2.0)], {"optimizer": "adagrad"}, Y),
    "slopes": (lambda: [Dense(6, "prelu"), Dense(1)], {"optimizer": "nadam"}, Y),
    "softmax-inside": (lambda: [Dense(4, "softmax"), Dense(1, "softplus")], {"optimizer": "lion"}, Y**2),
}
"""Layers, settings of the training, targets."""


def main(folder: Path) -> None:
    """Write the files and what is expected of them."""
    folder.mkdir(parents=True)
    expected: dict[str, Any] = {"new": NEW.tolist()}
    for write in (networks, fleet, table):
        expected[write.__name__] = dict(write(folder))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(*sorted(path.name for path in folder.iterdir()), sep="\n")


def networks(folder: Path) -> Iterator[tuple[str, Any]]:
    """Each network as a model, and as a checkpoint that is trained on."""
    for kind, (layers, settings, targets) in NETWORKS.items():
        for dtype in ("float32", "float64"):
            try:
                net = bp.Network(3, layers(), dtype=dtype, seed=1)
                net.fit(X, targets, epochs=20, batch_size=8, **settings)
            except ValueError as error:  # an activation or an optimizer that this version has not got
                print(f"left out: {kind}: {error}")
                continue
            name = f"{kind}-{dtype}"
            net.save(folder / f"{name}.model")
            net.save_checkpoint(folder / f"{name}.checkpoint")
            record = {"predictions": net.predict(NEW).tolist(), "parameters": net.parameters.tolist()}
            loss = net.fit(X, targets, epochs=3, batch_size=8, **settings).loss
            yield (
                name,
                record | {"settings": settings, "targets": targets.tolist(), "loss": list(map(float, loss[-3:]))},
            )


def fleet(folder: Path) -> Iterator[tuple[str, Any]]:
    """A fleet of three, as a model."""
    if hasattr(bp, "Fleet"):
        many = bp.Fleet(3, [Dense(4, "tanh"), Dense(1)], size=3, seed=0)
        many.fit([X, X[:30], X[:20]], [Y, Y[:30], Y[:20]], epochs=10)
        many.save(folder / "fleet.model")
        yield "fleet", {"predictions": many.predict(NEW).tolist()}


def table(folder: Path) -> Iterator[tuple[str, Any]]:
    """A model for tables of numbers and a category."""
    if hasattr(bp, "load_table_model"):
        import pandas

        frame = pandas.DataFrame(COLUMNS)
        model = bp.tables.TableModel(hidden=[6], epochs=30, seed=0).fit(frame, "price", progress=False)
        model.save(folder / "table.model")
        rows = {name: list(values)[:5] for name, values in COLUMNS.items() if name != "price"}
        yield "table", {"rows": rows, "predictions": np.asarray(model.predict(frame[:5])).tolist()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
