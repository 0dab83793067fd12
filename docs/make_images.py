"""Draw the pictures in docs/images: python docs/make_images.py [folder]."""

import sys
from pathlib import Path

import backprop as bp
import matplotlib
import numpy as np

matplotlib.use("Agg")

from backprop import plotting
from backprop.plotting import _style
from backprop.sklearn import MLPEnsembleRegressor
from matplotlib import pyplot as plt


def worked_example():
    """The step of docs/lessons/worked-example.md."""
    net = bp.Network(
        1,
        [bp.Dense(1, "sigmoid", weight_init=0.5, bias=False), bp.Dense(1, weight_init=0.3, bias=False)],
        dtype="float64",
    )
    half = bp.losses.SquaredError(scale=0.5)
    return net.trace([[2.0]], [0.5], loss=half, optimizer=bp.SGD(learning_rate=0.01)).plot_graph()


def xor():
    """What the network of docs/lessons/xor.md has learned."""
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    draws = np.random.RandomState(42)
    net = bp.Network(2, [bp.Dense(2, "sigmoid"), bp.Dense(1, "sigmoid")], dtype="float64")
    net.weights = [draws.rand(2, 2), draws.rand(2, 1)]
    net.biases = [draws.rand(2), draws.rand(1)]
    half_sum = bp.losses.SquaredError(scale=0.5, reduction="sum")
    net.fit(X, y, loss=half_sum, optimizer=bp.SGD(learning_rate=0.1), epochs=10_000, batch_size=None)
    ax = plotting.plot_decision_boundary(net, X, y)
    ax.get_legend().set_loc("center")
    return ax


def descent():
    """The first descent of docs/lessons/descent.md, with longer steps."""

    def f(x):
        return (x - 3) ** 2 + 1

    return bp.descend(f, 0.0, learning_rate=0.2, steps=200).plot(span=(-0.8, 6.8), tangents=4)


def batch_sizes():
    """Full batch, mini-batches and online, from the same start."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(96, 3))
    y = (X.sum(axis=1) > 0).astype(float)
    net = bp.mlp([3, 8, 1], hidden="tanh", output="sigmoid", dtype="float64", seed=0)
    return plotting.plot_batch_sizes(net, X, y, (None, 16, 1), optimizer=bp.SGD(learning_rate=0.1), epochs=20)


def ensemble():
    """The ensemble of docs/fleets.md: its mean, and a band between two of its quantiles."""
    draws = np.random.default_rng(0)
    x = np.concatenate([draws.uniform(-4, -1, 60), draws.uniform(1, 4, 60)])
    curve = np.sin(x) + draws.normal(scale=0.1, size=120)
    settings = {"activation": "tanh", "learning_rate_init": 0.01, "max_iter": 1000, "random_state": 0}
    model = MLPEnsembleRegressor(hidden_layer_sizes=(16, 16), n_estimators=20, members="bootstrap", **settings)
    model.fit(x.reshape(-1, 1), curve)
    line = np.linspace(-6, 6, 300)
    low, high = model.predict_quantiles(line.reshape(-1, 1), [0.05, 0.95])
    ax = _style.axes_or_new(None)
    ax.fill_between(line, low, high, color=_style.BLUE, alpha=0.3, linewidth=0, label="5 % to 95 % of the members")
    ax.plot(line, model.predict(line.reshape(-1, 1)), color=_style.BLUE, label="mean of the members")
    ax.plot(line, np.sin(line), color=_style.GREY, linestyle="--", label="sine")
    ax.plot(x, curve, ".", color=_style.VERMILION, label="sample")
    ax.set(xlabel="x", ylabel="y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)  # hides nothing
    _style.tidy(ax)
    return ax


PICTURES = {
    "worked-example": worked_example,
    "xor": xor,
    "descent": descent,
    "batch-sizes": batch_sizes,
    "ensemble": ensemble,
}


def main(folder: Path) -> None:
    """Draw them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().figure.savefig(folder / f"{name}.png", dpi=80)
    plt.close("all")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
