"""The learning-rate range test: what it suggests trains, it changes nothing, and it gives the same numbers again."""

from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice
from backprop.optimizers import OPTIMIZERS

OPTIMIZER_KINDS = [bp.Adam(), bp.SGD(), bp.SGD(momentum=0.9), bp.RMSprop()]
FASTEST = choice.available()[0]


def scaled(X):
    return (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)


def classes(name):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return bp.mlp([X.shape[1], 32, len(set(y))], output="softmax", seed=0), scaled(X), y


def diabetes():
    X, y = pytest.importorskip("sklearn.datasets").load_diabetes(return_X_y=True)
    return bp.mlp([10, 32, 1], seed=0), scaled(X), scaled(y)


def friedman():
    X = np.random.default_rng(0).uniform(0, 1, (1000, 5))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    return bp.mlp([5, 20, 1], hidden="tanh", seed=0), X, scaled(y)


PROBLEMS = {
    "iris": lambda: classes("iris"),
    "wine": lambda: classes("wine"),
    "breast cancer": lambda: classes("breast_cancer"),
    "digits": lambda: classes("digits"),
    "diabetes": diabetes,
    "friedman": friedman,
}


@pytest.mark.parametrize("optimizer", OPTIMIZER_KINDS, ids=str)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_suggestion_trains(problem, optimizer):
    """After 20 epochs the loss is within a factor of 4 of the best of 13 rates, above a hundredth of the first loss."""
    net, X, y = PROBLEMS[problem]()

    def after_training(rate):
        own = net.copy()
        own.fit(X, y, optimizer=replace(optimizer, learning_rate=float(rate)), epochs=20, on_divergence="stop")
        return own.loss(X, y) if own.history.stop_reason == "epochs" else np.inf

    with np.errstate(all="ignore"):
        best = min(after_training(rate) for rate in np.geomspace(1e-5, 10, 13))
        found = bp.find_learning_rate(net, X, y, optimizer=optimizer)
    assert after_training(found.suggestion) <= 4 * best + 0.03 * net.loss(X, y)


def small(backend, dtype="float64"):
    X = np.linspace(-1, 1, 60)[:, None]
    return bp.mlp([1, 8, 1], hidden="tanh", dtype=dtype, seed=0, backend=backend), X, np.sin(3 * X)


def test_nothing_is_changed_and_the_numbers_come_again(backend, dtype):
    net, X, y = small(backend, dtype)
    net.fit(X, y, epochs=3)
    before = net.copy()
    one, other = (bp.find_learning_rate(each, X, y, optimizer="rmsprop") for each in (net, net.copy()))
    for name in ("rates", "losses", "smoothed", "suggestion", "diverged"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(net.parameters, before.parameters)
    assert net.history.epochs == 3
    for each in (net, before):
        each.fit(X, y, epochs=2)
    np.testing.assert_array_equal(net.parameters, before.parameters)


def test_what_it_records(backend, dtype):
    """Losses are those of steps of `train_on_batch` on the batches of an epoch."""
    net, X, y = small(backend, dtype)
    found = bp.find_learning_rate(net, X, y, batch_size=None, lowest=1e-3, highest=0.1, steps=20, optimizer="sgd")
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 20
    assert not found.diverged
    np.testing.assert_allclose(found.rates[[0, 1, -1]], [1e-3, 1e-3 * 100 ** (1 / 19), 0.1])
    own = net.copy()
    losses = [own.train_on_batch(X, y, optimizer=bp.SGD(learning_rate=rate)) for rate in found.rates]
    np.testing.assert_allclose(found.losses, losses, rtol={"float32": 1e-5, "float64": 1e-12}[dtype])
    mean, first = 0.0, losses[0]
    for k, loss in enumerate(losses):
        mean = 0.98 * mean + 0.02 * (loss - first)
        assert found.smoothed[k] == pytest.approx(first + mean / (1 - 0.98 ** (k + 1)), rel=1e-5)
    assert found.suggestion == pytest.approx(found.rates[found.smoothed.argmin()] / 10)
    assert repr(found).startswith("RangeTest(suggestion=")
    assert "did not diverge" in repr(found)


def test_it_ends_where_the_loss_explodes(backend, dtype):
    net, X, y = small(backend, dtype)
    found = bp.find_learning_rate(net, X, y, optimizer=bp.SGD(momentum=0.9), highest=1e12)
    assert found.diverged
    assert len(found.rates) < 100
    assert np.isfinite(found.losses).all()
    assert found.suggestion < found.rates[-1] / 10


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "rprop"])
def test_every_optimizer(name, backend):
    net, X, y = small(backend)
    assert 1e-6 < bp.find_learning_rate(net, X, y, optimizer=name, batch_size=16).suggestion < 10


def test_losses_of_one_s_own_dropout_and_weights(backend):
    _, X, y = small(backend)
    net = bp.Network(1, [bp.Dense(8, "tanh", dropout=0.2, l2=0.01), bp.Dense(1)], seed=0, backend=backend)

    def own(outputs, targets, sample_weight=None):
        return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size

    for loss in (own, "huber"):
        found = bp.find_learning_rate(net, X, y, loss=loss, sample_weight=np.linspace(0.5, 1, 60))
        assert found.suggestion > 1e-5


WRONG = {
    "network": ({"network": None}, "network: needs a Network"),
    "optimizer": ({"optimizer": "newton"}, "optimizer: needs"),
    "rprop": ({"optimizer": "rprop"}, "optimizer: needs one whose steps depend on the learning rate, got Rprop"),
    "lowest": ({"lowest": 0.0}, "lowest: needs"),
    "highest": ({"highest": 1e-9}, "highest: needs"),
    "steps": ({"steps": 3}, "steps: needs"),
    "batch_size": ({"batch_size": 0}, "batch_size: needs"),
}


@pytest.mark.parametrize(("given", "match"), WRONG.values(), ids=WRONG)
def test_arguments_are_checked(given, match):
    net, X, y = small(FASTEST)
    arguments = {"network": net, "X": X, "y": y} | given
    with pytest.raises((TypeError, ValueError), match=match):
        bp.find_learning_rate(**arguments)


def test_a_start_that_is_not_finite():
    net, X, y = small(FASTEST)
    net.weights[0][...] = np.nan
    with pytest.raises(ValueError, match="find_learning_rate: needs a start where the loss is finite"):
        bp.find_learning_rate(net, X, y)


@pytest.mark.parametrize(
    ("layers", "settings"),
    [
        ([bp.Dense(1, weight_init=0.0)], {}),  # at the minimum
        ([bp.Dense(2, "relu", bias_init=-9.0), bp.Dense(1, bias=False)], {}),  # dead units
        ([bp.Dense(1)], {"lowest": 1e30, "highest": 1e35}),
    ],
    ids=["minimum", "dead", "rates"],
)
def test_rates_that_gain_nothing_are_refused(layers, settings):
    net = bp.Network(1, layers, dtype="float64", seed=0)
    message = r"^find_learning_rate: needs a rate at which the loss falls, there is none from "
    with pytest.raises(ValueError, match=message):
        bp.find_learning_rate(net, [[0.0], [1.0]], [0.0, 0.0], **settings)


def test_a_network_that_cannot_learn_is_refused():
    frozen = bp.Network(1, [bp.Dense(1, trainable=False)], seed=0)
    with pytest.raises(ValueError, match=r"^network: needs at least one layer that is trainable, got none$"):
        bp.find_learning_rate(frozen, [[0.0], [1.0]], [0.0, 1.0])
