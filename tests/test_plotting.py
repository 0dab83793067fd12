"""Every picture, drawn on light and on dark: nothing cut off, labels there, the Axes given used and returned.

BACKPROP_PICTURES=folder keeps them there, to be looked at.
"""

import builtins
import os
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import backprop as bp  # noqa: E402
from backprop import plotting  # noqa: E402
from backprop.plotting import _style  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402

XOR_X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
XOR_Y = np.array([0, 1, 1, 0])


def moons(n=120, classes=2):
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    angle = rng.uniform(0, np.pi, n) + np.pi * (y % 2) + 2 * np.pi * (y // 2) / 3
    X = np.c_[np.cos(angle) + (y % 2), np.sin(angle) + 0.5 * (y % 2) + 1.3 * (y // 2)] + rng.normal(0, 0.12, (n, 2))
    return X, y


def xor_net(epochs=0, **settings):
    net = bp.Network(2, [bp.Dense(2, "sigmoid"), bp.Dense(1, "sigmoid")], dtype="float64", seed=3)
    if epochs:
        net.fit(XOR_X, XOR_Y, loss="squared_error", optimizer=bp.SGD(learning_rate=2.0), epochs=epochs, batch_size=None)
    return net


def history(ax):
    rng = np.random.default_rng(0)
    epochs = np.arange(1, 201)
    return plotting.plot_history(
        {
            "loss": np.exp(-epochs / 40) + 0.01,
            "val_loss": np.exp(-epochs / 50) + 0.03 + 0.002 * rng.normal(size=200),
            "learning_rate": 0.1 * 0.5 ** (epochs // 50),
        },
        ax,
    )


def history_of_fit(ax):
    net = xor_net(3000)
    return plotting.plot_history(net.history, ax)


def network(ax):
    return plotting.plot_network(bp.mlp([4, 8, 5, 3], hidden="tanh", output="softmax", seed=0), ax)


def large_network(ax):
    return plotting.plot_network(bp.mlp([64, 100, 30, 10], output="softmax", seed=0), ax)


def activation(name, **settings):
    return lambda ax: plotting.plot_activation(name, ax, **settings)


def boundary_of_two(ax):
    X, y = moons()
    net = bp.mlp([2, 16, 1], hidden="tanh", output="sigmoid", seed=0)
    net.fit(X, y, epochs=150, optimizer=bp.Adam(learning_rate=0.03))
    return plotting.plot_decision_boundary(net, X, y, ax)


def boundary_of_two_classes(ax):
    X, y = moons()
    net = bp.mlp([2, 16, 2], hidden="tanh", output="softmax", seed=0)
    net.fit(X, y, epochs=150, optimizer=bp.Adam(learning_rate=0.03))
    return plotting.plot_decision_boundary(net, X, y, ax)


def boundary_of_four(ax):
    X, y = moons(240, 4)
    net = bp.mlp([2, 24, 4], hidden="tanh", output="softmax", seed=0)
    net.fit(X, y, epochs=150, optimizer=bp.Adam(learning_rate=0.03))
    return plotting.plot_decision_boundary(net, X, y, ax)


def loss_surface(ax):
    net = xor_net()
    path = [net.parameters.copy()]
    for _ in range(60):
        net.fit(XOR_X, XOR_Y, loss="squared_error", optimizer=bp.SGD(learning_rate=2.0), epochs=50, batch_size=None)
        path.append(net.parameters.copy())
    return plotting.plot_loss_surface(net, XOR_X, XOR_Y, ax, loss="squared_error", path=path)


def random_surface(ax):
    return plotting.plot_loss_surface(xor_net(4000), XOR_X, XOR_Y, ax, loss="squared_error", resolution=21)


def two_weights(ax):
    net = xor_net(4000)
    return plotting.plot_loss_surface(net, XOR_X, XOR_Y, ax, loss="squared_error", directions=(0, 3), span=6)


def weights(ax):
    return plotting.plot_weights(bp.mlp([64, 100, 30, 10], output="softmax", seed=0), ax)


def gradients(ax):
    X = np.random.default_rng(0).normal(size=(50, 64))
    return plotting.plot_gradients(bp.mlp([64, 100, 30, 10], output="softmax", seed=0), X, np.arange(50) % 10, ax)


def batch_sizes(ax):
    X, y = moons(200)
    net = bp.mlp([2, 16, 1], hidden="tanh", output="sigmoid", seed=0)
    return plotting.plot_batch_sizes(net, X, y, (None, 32, 1), ax, optimizer=bp.SGD(learning_rate=0.1), epochs=30)


def range_test(ax):
    X, y = moons(200)
    net = bp.mlp([2, 16, 1], hidden="tanh", output="sigmoid", seed=0)
    return bp.find_learning_rate(net, X, y).plot(ax)


def descent_of_one(ax):
    return bp.descend(lambda x: x**4 / 4 - x**2 + 0.3 * x, 2.0, learning_rate=0.06, steps=30).plot(ax)


def descent_of_two(ax):
    return bp.descend(lambda p: p[0] ** 2 + 8 * p[1] ** 2, [4.0, 1.5], learning_rate=0.11, steps=40).plot(ax)


def descent_with_momentum(ax):
    def rosenbrock(p):
        return (1 - p[0]) ** 2 + 20 * (p[1] - p[0] ** 2) ** 2

    return bp.descend(rosenbrock, [-1.2, 1.0], learning_rate=2e-3, momentum=0.9, steps=300).plot(ax)


def descent_of_many(ax):
    return bp.descend(lambda p: (p**2 * np.arange(1, 6)).sum(), np.ones(5), learning_rate=0.05, steps=60).plot(ax)


def divergence(ax):
    return bp.descend(lambda x: x**2, 1.0, learning_rate=1.1, steps=30).plot(ax)


def trace_of_one(ax):
    dense = [bp.Dense(1, "sigmoid", weight_init=0.5, bias=False), bp.Dense(1, weight_init=0.3, bias=False)]
    net = bp.Network(1, dense, dtype="float64")
    step = net.trace([[2.0]], [0.5], loss=bp.losses.SquaredError(scale=0.5), optimizer=bp.SGD(learning_rate=0.01))
    return step.plot_graph(ax)


def trace_of_two(ax):
    frozen = {"bias_trainable": False}
    net = bp.Network(
        2,
        [
            bp.Dense(2, "sigmoid", weight_init=[[0.15, 0.25], [0.20, 0.30]], bias_init=0.35, **frozen),
            bp.Dense(2, "sigmoid", weight_init=[[0.40, 0.50], [0.45, 0.55]], bias_init=0.60, **frozen),
        ],
        dtype="float64",
    )
    half_sum = bp.losses.SquaredError(scale=0.5, reduction="sum")
    step = net.trace([[0.05, 0.10]], [[0.01, 0.99]], loss=half_sum, optimizer=bp.SGD(learning_rate=0.5))
    return step.plot_graph(ax)


def trace_of_many(ax):
    net = bp.mlp([9, 12, 7, 3], hidden="tanh", output="softmax", seed=0)
    return net.trace(np.random.default_rng(0).normal(size=(5, 9)), np.arange(5) % 3).plot_graph(ax, row=2)


PICTURES = {
    f.__name__: f
    for f in (
        history,
        history_of_fit,
        network,
        large_network,
        boundary_of_two,
        boundary_of_two_classes,
        boundary_of_four,
        loss_surface,
        random_surface,
        two_weights,
        weights,
        gradients,
        batch_sizes,
        range_test,
        descent_of_one,
        descent_of_two,
        descent_with_momentum,
        descent_of_many,
        divergence,
        trace_of_one,
        trace_of_two,
        trace_of_many,
    )
}
PICTURES["sigmoid"] = activation("sigmoid")
PICTURES["relu"] = activation("relu", span=(-2, 2))
PICTURES["leaky_relu"] = activation("leaky_relu", alpha=0.2)
NEEDS_SKLEARN = ("boundary_of_two", "boundary_of_two_classes", "boundary_of_four")


def test_importing_does_not_load_it():
    """Neither matplotlib nor what only looks at networks is paid for by those who train them."""
    code = (
        "import sys, backprop; print(*(m for m in sys.modules if m.partition('.')[0] in ('matplotlib', 'sklearn') "
        "or m in ('backprop.explain', 'backprop.plotting')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
    for name in ("descend", "check_gradients", "plotting"):
        assert name in dir(bp)


def luminance(colour):
    """The relative luminance of WCAG 2."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return float(np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def visible_texts(figure):
    """All texts but the labels of ticks, which matplotlib also keeps outside of the limits and does not draw."""
    ticks = {
        label for ax in figure.axes for label in (*ax.get_xticklabels(which="both"), *ax.get_yticklabels(which="both"))
    }
    return [
        text
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text().strip() and text not in ticks
    ]


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name, style, tmp_path):
    if name in NEEDS_SKLEARN:
        pytest.importorskip("sklearn")
    with plt.style.context(style):
        ax = PICTURES[name](None)
        figure = ax.figure
        assert plt.get_fignums() == [figure.number]
        folder = Path(os.environ.get("BACKPROP_PICTURES", tmp_path))
        figure.savefig(folder / f"{name}-{style}.png", dpi=100)
        assert (folder / f"{name}-{style}.png").stat().st_size > 5000

        frame = figure.bbox.padded(1)
        renderer = figure.canvas.get_renderer()
        texts = visible_texts(figure)
        assert texts
        for text in texts:
            box = text.get_window_extent(renderer)
            assert frame.x0 <= box.x0 <= box.x1 <= frame.x1, text
            assert frame.y0 <= box.y0 <= box.y1 <= frame.y1, text
            assert text.get_fontsize() >= 6
        if ax.axison:
            assert ax.get_xlabel()
            assert ax.get_ylabel() or name in ("sigmoid", "relu", "leaky_relu")


def test_pictures_of_the_documents(tmp_path):
    """`docs/make_images.py` draws the files that are there, in their size."""
    pytest.importorskip("sklearn")
    docs = Path(__file__).parents[1] / "docs"
    runpy.run_path(str(docs / "make_images.py"))["main"](tmp_path)
    kept = {path.name: plt.imread(path).shape for path in (docs / "images").glob("*.png")}
    assert {path.name: plt.imread(path).shape for path in tmp_path.glob("*.png")} == kept
    assert len(kept) == 5


@pytest.mark.parametrize("background", ["white", "black"])
def test_colours_stand_out(background):
    """3:1 is what WCAG 2.1 asks of graphics; the light ones of the palette come last and only after dashes."""
    for colour in (_style.BLUE, _style.VERMILION, _style.GREEN, _style.GREY):
        assert contrast(colour, background) >= 3
    for colour in _style.COLOURS:
        assert contrast(colour, background) >= 2


@pytest.mark.parametrize("name", PICTURES)
def test_the_axes_given_are_used(name):
    if name in NEEDS_SKLEARN:
        pytest.importorskip("sklearn")
    figure, (left, right) = plt.subplots(1, 2)
    assert PICTURES[name](right) is right
    assert [*left.lines, *left.patches, *left.texts, *left.collections] == []
    assert plt.get_fignums() == [figure.number]


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba()).copy()


def drawn_again(draw, times, clears=True):
    figure, ax = plt.subplots(layout="constrained")
    for _ in range(times):
        if clears:
            ax.clear()
        draw(ax)
    return figure


AGAIN = {
    "decision boundary": lambda ax: plotting.plot_decision_boundary(xor_net(), XOR_X, XOR_Y, ax, resolution=20),
    "loss surface": lambda ax: plotting.plot_loss_surface(xor_net(), XOR_X, XOR_Y, ax=ax, resolution=8),
    "network": lambda ax: plotting.plot_network(xor_net(), ax),
    "descent": lambda ax: plotting.plot_descent(bp.descend(lambda x: (x * x).sum(), [1.0, 2.0], steps=9), ax),
    "history": history,
}


@pytest.mark.parametrize("name", AGAIN)
def test_drawing_again_adds_no_axes(name):
    once, often = drawn_again(AGAIN[name], 1), drawn_again(AGAIN[name], 12)
    assert len(often.axes) == len(once.axes) == 2
    assert np.array_equal(pixels(often), pixels(once))
    assert len(drawn_again(AGAIN[name], 3, clears=False).axes) == 2


def test_several_histories_share_the_right_axis():
    right = drawn_again(history, 3, clears=False).axes[1]
    assert len(right.get_lines()) == 3


def test_what_is_drawn_next_needs_nothing_beside_it():
    figure, ax = plt.subplots()
    history(ax)
    ax.clear()
    plotting.plot_history([3.0, 2.0, 1.0], ax)
    assert figure.axes == [ax]
    AGAIN["decision boundary"](ax)
    bar = figure.axes[1]
    ax.clear()
    X, y = moons(classes=3)
    plotting.plot_decision_boundary(bp.mlp([2, 3], output="softmax", seed=0), X, y, ax, resolution=20)
    assert figure.axes == [ax, bar]
    assert not bar.get_visible()
    ax.clear()
    AGAIN["loss surface"](ax)
    assert figure.axes == [ax, bar]
    assert bar.get_visible()
    figure.delaxes(bar)
    AGAIN["loss surface"](ax)
    assert len(figure.axes) == 2


def test_columns_of_a_table_name_the_axes():
    pd = pytest.importorskip("pandas")
    ax = plotting.plot_decision_boundary(xor_net(), pd.DataFrame(XOR_X, columns=["left", "right"]), resolution=20)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("left", "right")


def test_a_network_is_not_changed():
    net = xor_net(10)
    before, epochs = net.parameters.copy(), net.history.epochs
    plotting.plot_batch_sizes(net, XOR_X, XOR_Y, (None, 2), epochs=3)
    plotting.plot_loss_surface(net, XOR_X, XOR_Y, resolution=5)
    plotting.plot_gradients(net, XOR_X, XOR_Y)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.history.epochs == epochs


def test_the_loss_surface_is_the_loss():
    net = xor_net(100)
    ax = plotting.plot_loss_surface(net, XOR_X, XOR_Y, loss="squared_error", directions=(1, 4), resolution=3, span=0.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("parameters[1]", "parameters[4]")
    low, high = ax.get_xlim()
    np.testing.assert_allclose([low, high], net.parameters[1] + np.array([-0.5, 0.5]))


def test_the_path_lies_in_the_picture():
    ax = loss_surface(None)
    for line in ax.get_lines():
        x, y = line.get_data()
        assert ax.get_xlim()[0] <= np.min(x) <= np.max(x) <= ax.get_xlim()[1]
        assert ax.get_ylim()[0] <= np.min(y) <= np.max(y) <= ax.get_ylim()[1]


def test_a_function_of_one_number_in_an_array():
    ax = bp.descend(lambda p: p[0] ** 2, [2.0], steps=10).plot()
    x, y = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(y, x**2)


def test_a_descent_out_of_the_numbers_is_drawn_as_far_as_it_goes():
    for start in (1.0, [1.0, 2.0], [1.0, 2.0, 3.0]):
        result = bp.descend(lambda x: np.sum(x**4), start, learning_rate=10.0, steps=50)
        assert result.reason == "not finite"
        assert "diverged" in result.plot().get_title()


def test_a_descent_that_stays_where_it_is():
    for start in (0.0, [0.0, 0.0], [0.0, 0.0, 0.0]):
        assert "0 steps" in bp.descend(lambda x: np.sum(x**2), start).plot().get_title()


def test_history_takes_losses_alone():
    ax = plotting.plot_history([3.0, 2.0, 1.5])
    assert ax.get_yscale() == "linear"
    assert ax.get_legend() is None
    assert plotting.plot_history([3.0, 2.0, 0.5], log=True).get_yscale() == "log"
    assert plotting.plot_history([3.0, 2.0, 0.001]).get_yscale() == "log"
    assert plotting.plot_history([3.0, np.nan, 0.001]).get_yscale() == "log"


@pytest.mark.parametrize(
    ("given", "way"),
    [
        (lambda: bp.mlp([1, 1]), ".history"),
        (lambda: bp.Fleet(1, [bp.Dense(1)], size=2), ".history"),
        (lambda: bp.Fleet(1, [bp.Dense(1)], size=2).history, ".of(k)"),
        (lambda: types.SimpleNamespace(loss_curve_=[1.0]), ".loss_curve_"),
    ],
    ids=["network", "fleet", "history of a fleet", "estimator"],
)
def test_what_has_a_history_is_told_which(given, way):
    with pytest.raises(TypeError, match=re.escape(f"; give its {way}")):
        plotting.plot_history(given())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plotting.plot_history([]), ValueError, "history: needs at least one epoch"),
        (lambda: plotting.plot_history([1.0], 3), TypeError, "ax: needs a matplotlib Axes or None"),
        (lambda: plotting.plot_activation("softmax"), ValueError, "name: needs one of"),
        (lambda: plotting.plot_activation("tanh", span=(1, 0)), ValueError, "span: needs from < to"),
        (lambda: plotting.plot_activation("tanh", span=3), TypeError, "span: needs a pair"),
        (lambda: plotting.plot_network(xor_net(), max_units=1), ValueError, "max_units: "),
        (lambda: plotting.plot_weights(xor_net(), bins=0), ValueError, "bins: "),
        (
            lambda: plotting.plot_decision_boundary(bp.mlp([3, 1]), [[1, 2, 3]]),
            ValueError,
            "net: needs a network with 2",
        ),
        (lambda: plotting.plot_batch_sizes(xor_net(), XOR_X, XOR_Y, 3), TypeError, "batch_sizes: needs a sequence"),
        (
            lambda: plotting.plot_loss_surface(xor_net(), XOR_X, XOR_Y, directions=(1, 1)),
            ValueError,
            "directions: needs two that are not on one line",
        ),
        (
            lambda: plotting.plot_loss_surface(xor_net(), XOR_X, XOR_Y, directions=3),
            TypeError,
            "directions: needs two vectors or two indices, got 3",
        ),
        (
            lambda: plotting.plot_decision_boundary(xor_net(), XOR_X, [0, 1]),
            ValueError,
            "y: needs one class for each of the 4 rows of X",
        ),
        (
            lambda: plotting.plot_loss_surface(xor_net(), XOR_X, XOR_Y, directions=(1, 99)),
            ValueError,
            r"directions\[1\]: needs an integer >= 0 and <= 8, got 99",
        ),
        (
            lambda: plotting.plot_loss_surface(xor_net(), XOR_X, XOR_Y, path=[[1.0]]),
            ValueError,
            "path: needs at least two rows of 9 parameters",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("blocked", "call", "message"),
    [
        ("matplotlib", lambda: plotting.plot_activation("tanh"), r"plot: needs matplotlib; .*bpcore\[plot\]"),
        (
            "sklearn",
            lambda: plotting.plot_decision_boundary(xor_net(), XOR_X),
            r"plot: needs scikit-learn; .*bpcore\[sklearn\]",
        ),
    ],
)
def test_what_is_missing_is_named(blocked, call, message, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.partition(".")[0] == blocked:
            raise ImportError(f"No module named {blocked!r}")
        return real(name, *rest, **named)

    for name in [name for name in sys.modules if name.partition(".")[0] == blocked]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=message):
        call()
