"""Weights of outputs: `sample_weight` (n, n_outputs), and class weights of several yes-or-no outputs."""

import itertools
import re

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice, output_weights
from backprop.learn import metrics

N, INPUTS, OUTPUTS = 23, 3, 2
LOSSES = {
    "squared_error": "identity",
    "huber": "tanh",
    "binary_cross_entropy": "sigmoid",
    "focal": "sigmoid",
    "poisson": "exp",
    "hinge": "identity",
}


@pytest.fixture
def rows(rng):
    return rng.normal(size=(N, INPUTS)), rng.integers(0, 2, (N, OUTPUTS)), rng.uniform(0.1, 2, (N, OUTPUTS))


def network(output="sigmoid", dtype="float64", backend=None, **settings):
    last = bp.Dense(OUTPUTS, output, l2=0.01)
    return bp.Network(INPUTS, [bp.Dense(5, "tanh", l1=0.01, **settings), last], dtype=dtype, seed=1, backend=backend)


def targets_of(loss, y):
    return 2.0 * y - 1 if loss == "hinge" else y.astype(float)


def alike(ours, theirs, **tolerance):
    np.testing.assert_allclose(ours, theirs, **{"rtol": 1e-10, "atol": 1e-13} | tolerance)


# --- what they mean ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_weighted_mean_of_those_of_the_outputs(loss, backend, rows):
    X, y, weight = rows
    net, y = network(LOSSES[loss], backend=backend), targets_of(loss, y)
    penalty = net.loss(X, y, loss, np.ones(N)) - np.mean([plain(net, X, y, loss, k) for k in range(OUTPUTS)])
    each = [plain(net, X, y, loss, k, weight[:, k]) for k in range(OUTPUTS)]
    alike(net.loss(X, y, loss, weight), np.average(each, weights=weight.sum(axis=0)) + penalty)


def plain(net, X, y, loss, k, weight=None):
    """The loss of one output, by a network that has no other."""
    own = bp.Network(INPUTS, [net.layers[0], bp.Dense(1, net.layers[1].activation)], dtype="float64")
    own.weights = [net.weights[0], net.weights[1][:, [k]]]
    own.biases = [net.biases[0], net.biases[1][[k]]]
    bare = bp.Network(INPUTS, [bp.Dense(5, "tanh"), bp.Dense(1, net.layers[1].activation)], dtype="float64")
    bare.parameters = own.parameters
    return bare.loss(X, y[:, k], loss, weight)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equal_weights_of_outputs_are_those_of_rows(loss, reduction, backend, rows):
    X, y, weight = rows
    loss, output, y = bp.losses.LOSSES[loss](reduction=reduction), LOSSES[loss], targets_of(loss, y)
    weight[:, 1] = np.nextafter(weight[:, 0], 3)  # to the last digit, where the core would take them
    nets = [network(output, backend=backend) for _ in range(2)]
    for net, own in zip(nets, (weight, weight[:, 0]), strict=True):
        net.fit(X, y, loss=loss, sample_weight=own, epochs=4, batch_size=7, validation_data=(X, y, own), clip_norm=1.0)
    alike(nets[0].parameters, nets[1].parameters)
    for name in ("loss", "val_loss"):
        alike(nets[0].history[name], nets[1].history[name])
    alike(nets[0].loss(X, y, loss, weight), nets[1].loss(X, y, loss, weight[:, 0]))


def test_what_is_equal_in_every_row_is_for_the_core(backend, rows, monkeypatch):
    X, y, weight = rows
    monkeypatch.setattr(output_weights, "WeightedTraining", None)
    nets = [network(backend=backend) for _ in range(2)]
    both = np.repeat(weight[:, :1], 2, axis=1)
    for net, own in zip(nets, (both, weight[:, 0]), strict=True):
        net.fit(X, y, sample_weight=own, class_weight={0: 2, 1: 2}, epochs=2, validation_data=(X, y, own))
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert nets[0].trace(X, y, sample_weight=both).loss == nets[0].trace(X, y, sample_weight=weight[:, 0]).loss
    with pytest.raises(TypeError):
        nets[0].fit(X, y, sample_weight=weight, epochs=1)


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"hinge", "huber"}))
def test_gradients(loss, backend, rows):
    X, y, weight = rows
    net = network(LOSSES[loss], backend=backend)
    assert bp.check_gradients(net, X, targets_of(loss, y), loss=loss, sample_weight=weight).passed
    assert net.input_gradients(X, targets_of(loss, y), loss, weight).shape == X.shape


@pytest.mark.parametrize("loss", LOSSES)
def test_every_backend_does_the_same(loss, dtype, rows):
    X, y, weight = rows
    weight[3] = 0
    weight[:, 1] *= np.arange(N) % 2
    fits = []
    for backend in choice.available():
        net = network(LOSSES[loss], dtype, backend, dropout=0.2)
        net.fit(X, targets_of(loss, y), loss=loss, sample_weight=weight, epochs=5, batch_size=6)
        fits.append(net.parameters)
    for other in fits[1:]:
        alike(other, fits[0], rtol=1e-9 if dtype == "float64" else 1e-3, atol=1e-12 if dtype == "float64" else 1e-5)


def test_a_weight_of_0_takes_a_target_out(backend, rows):
    X, y, weight = rows
    weight[4, 1] = 0
    other = y.copy()
    other[4, 1] = 1 - other[4, 1]
    nets = [network(backend=backend) for _ in range(2)]
    for net, targets in zip(nets, (y, other), strict=True):
        net.fit(X, targets, sample_weight=weight, epochs=3, batch_size=5)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


def test_scores_far_out_are_no_trouble(backend):
    net = bp.Network(1, [bp.Dense(2, "sigmoid", weight_init=1.0)], backend=backend)
    net.fit([[200.0], [-200.0]], [[0, 0], [1, 1]], sample_weight=[[1, 2], [1, 2]], epochs=1, optimizer="sgd")
    assert net.history["loss"][0] == pytest.approx(200)
    assert np.isfinite(net.parameters).all()
    assert not np.array_equal(net.weights[0], [[1, 1]])


@pytest.mark.parametrize("train", ["train_on_batch", "partial_fit", "minimize"])
def test_whatever_trains_takes_them(train, backend, rows):
    X, y, weight = rows
    net = network(backend=backend)
    getattr(net, train)(X, y, sample_weight=weight)
    assert net.loss(X, y, sample_weight=weight) < network(backend=backend).loss(X, y, sample_weight=weight)


def test_early_stopping_resuming_and_divergence(backend, rows, tmp_path):
    X, y, weight = rows
    settings = {"sample_weight": weight, "batch_size": 6, "validation_split": 0.3}
    whole, net = network(backend=backend), network(backend=backend)
    whole.fit(X, y, epochs=6, **settings)
    net.fit(X, y, epochs=2, **settings)
    net.save_checkpoint(tmp_path / "run")
    again = bp.resume(tmp_path / "run", backend=backend)
    again.fit(X, y, epochs=6, resume=True, **settings)
    assert np.array_equal(again.parameters, whole.parameters)
    stopping = bp.callbacks.EarlyStopping("loss", patience=2, restore_best=True)
    net.fit(
        X,
        y,
        sample_weight=weight,
        batch_size=None,
        epochs=50,
        optimizer=bp.Adam(learning_rate=1.0),
        callbacks=[stopping],
    )
    alike(net.loss(X, y, sample_weight=weight), stopping.best)
    net = network("identity", backend=backend)
    with pytest.raises(bp.DivergedError, match="in batch"):
        net.fit(X, y, sample_weight=weight, epochs=500, optimizer=bp.SGD(learning_rate=100.0))


# --- class weights ----------------------------------------------------------------------------------------------------


def test_the_weights_of_the_issue(backend):
    net = bp.mlp([1, 2], output="sigmoid", seed=0, backend=backend)
    net.fit([[0.0], [1.0]], [[0, 1], [1, 0]], class_weight={0: 1, 1: 9}, epochs=1)
    other = bp.mlp([1, 2], output="sigmoid", seed=0, backend=backend)
    other.fit([[0.0], [1.0]], [[0, 1], [1, 0]], sample_weight=[[1, 9], [9, 1]], epochs=1)
    assert np.array_equal(net.parameters, other.parameters)


FORMS = {
    "for all": ({0: 2, 1: 9}, lambda y, w: [{0: 2, 1: 9}] * 2),
    "for each": ([{0: 2, 1: 9}, {1: 0.5}], lambda y, w: [{0: 2, 1: 9}, {0: 1, 1: 0.5}]),
    "balanced": ("balanced", lambda y, w: [balanced(y[:, k], w[:, k]) for k in range(2)]),
    "mixed": (["balanced", {0: 3}], lambda y, w: [balanced(y[:, 0], w[:, 0]), {0: 3, 1: 1}]),
}


def balanced(y, weight):
    return {k: weight.sum() / (2 * weight[y == k].sum()) for k in (0, 1)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [None, "rows", "outputs"])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "focal"])
def test_class_weights_of_several_outputs(form, given, loss, rows):
    X, y, weight = rows
    own = {None: None, "rows": weight[:, 0], "outputs": weight}[given]
    base = np.ones(y.shape) if own is None else np.broadcast_to(own.reshape(N, -1), y.shape)
    value, expected = FORMS[form]
    of_class = expected(y, base)
    whole = base * np.array([[of_class[k][label] for k, label in enumerate(row)] for row in y])
    nets = [network() for _ in range(2)]
    nets[0].fit(X, y, loss=loss, class_weight=value, sample_weight=own, epochs=2, batch_size=6)
    nets[1].fit(X, y, loss=loss, sample_weight=whole, epochs=2, batch_size=6)
    alike(nets[0].parameters, nets[1].parameters)


# --- metrics ----------------------------------------------------------------------------------------------------------


OF_OUTPUTS = metrics.METRICS.keys() - {"balanced_accuracy"}


@pytest.mark.parametrize("name", sorted(OF_OUTPUTS))
@pytest.mark.parametrize("some_are_missing", [False, True])
def test_metrics(name, some_are_missing, rng):
    outputs, y, weight = rng.uniform(size=(N, 2)), rng.integers(0, 2, (N, 2)).astype(float), rng.uniform(size=(N, 2))
    if some_are_missing:
        weight *= rng.integers(0, 2, (N, 2))
    metric = metrics.METRICS[name]
    if name == "accuracy":
        expected = accuracy_of_rows(outputs, y, weight)
    else:
        expected = np.mean([metric(outputs[:, [k]], y[:, [k]], weight[:, k]) for k in range(2)])
    assert metric(outputs, y, weight) == pytest.approx(expected, rel=1e-12)
    alike_rows = np.repeat(weight[:, :1], 2, axis=1)
    assert metric(outputs, y, alike_rows) == pytest.approx(metric(outputs, y, weight[:, 0]), rel=1e-12)


def accuracy_of_rows(outputs, y, weight):
    """What each row that has weight says: whether all that counts is right, and how much that counts."""
    right, each = [], []
    for row in np.flatnonzero(weight.any(axis=1)):
        there = weight[row] > 0
        right.append(((outputs[row] >= 0.5) == y[row])[there].all())
        each.append(weight[row][there].mean())
    return np.average(right, weights=each)


def test_the_accuracy_of_a_row_is_that_of_what_has_weight():
    assert metrics.accuracy(np.array([[0.9, 0.9]]), np.array([[1, 0]]), np.array([[1.0, 0.0]])) == 1
    assert metrics.accuracy(np.array([[0.9, 0.9]]), np.array([[1, 0]]), np.array([[0.0, 1.0]])) == 0


@pytest.mark.parametrize("name", sorted(OF_OUTPUTS))
def test_metrics_leave_out_outputs_without_weight(name, rng):
    outputs, y, weight = rng.uniform(size=(N, 3)), rng.integers(0, 2, (N, 3)).astype(float), rng.uniform(size=(N, 3))
    metric, weight[:, 1:] = metrics.METRICS[name], 0
    assert metric(outputs, y, weight) == pytest.approx(metric(outputs[:, :1], y[:, :1], weight[:, 0]), rel=1e-12)
    assert np.isnan(metric(outputs, y, np.zeros((N, 3))))
    assert np.isnan(metric(outputs[:, :1], y[:, :1], np.zeros(N)))


@pytest.mark.parametrize("lacking", [slice(None), slice(-7, None)], ids=["all", "held out"])
def test_fits_measure_outputs_without_weight(lacking, backend, rows):
    X, y, weight = rows
    weight[lacking, 1] = 0
    measured = sorted(set(metrics.METRICS) - {"balanced_accuracy"})
    history = network(backend=backend).fit(X, y, sample_weight=weight, metrics=measured, epochs=2, validation_split=0.3)
    for name in measured:
        assert np.isfinite([history[name], history[f"val_{name}"]]).all()


def test_metrics_beside_the_loss(backend, rows):
    X, y, weight = rows
    net = network(backend=backend)
    history = net.fit(X, y, sample_weight=weight, metrics=["f1", "roc_auc"], epochs=2)
    found = net.evaluate(X, y, sample_weight=weight, metrics=["f1", "roc_auc"])
    assert (history["f1"][-1], history["roc_auc"][-1]) == (found["f1"], found["roc_auc"])


# --- what is refused --------------------------------------------------------------------------------------------------

X, Y = np.zeros((4, 3)), np.eye(2)[[0, 1, 0, 1]]
BAD = [
    (
        {"sample_weight": np.ones((4, 3))},
        ValueError,
        "per row, shape (4,), or per output, shape (4, 2), got shape (4, 3)",
    ),
    ({"sample_weight": np.ones((3, 2))}, ValueError, "sample_weight: needs one row for each of the 4 rows of X, got 3"),
    (
        {"sample_weight": -np.ones((4, 2))},
        ValueError,
        "needs weights >= 0, got -1.0 at sample_weight[0, 0]",
    ),
    ({"sample_weight": np.zeros((4, 2))}, ValueError, "sample_weight: needs at least one weight > 0"),
    (
        {"class_weight": [{0: 1}] * 3},
        ValueError,
        "needs one for all outputs, or one for each of the 2, got 3",
    ),
    ({"class_weight": [{0: 1}, {2: 1}]}, ValueError, "label in class_weight[1]: needs an integer >= 0 and <= 1, got 2"),
    ({"class_weight": ["balanced", 3]}, TypeError, "class_weight[1]: needs a mapping from class labels to weights or"),
    ({"class_weight": {0: 0, 1: 0}}, ValueError, "class_weight: needs at least one weight > 0"),
    ({"class_weight": 3}, TypeError, "class_weight: needs a mapping from class labels to weights or 'balanced', got 3"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD)
def test_bad_weights(settings, error, message):
    with pytest.raises(error, match=re.escape(message)):
        network().fit(X, Y, **settings)


def test_where_there_are_none():
    net = bp.mlp([3, 2], output="softmax")
    with pytest.raises(ValueError, match=re.escape("needs one weight per row, shape (4,), got shape (4, 2)")):
        net.fit(X, Y, sample_weight=np.ones((4, 2)))
    with pytest.raises(ValueError, match=re.escape("needs one weight per row, shape (4,), got shape (4, 1)")):
        bp.mlp([3, 1]).fit(X, Y[:, 0], sample_weight=np.ones((4, 1)))
    with pytest.raises(ValueError, match="class_weight: needs class labels"):
        network("identity").fit(X, Y, class_weight={0: 1})
    with pytest.raises(ValueError, match="class_weight: needs class labels"):
        network().fit(X, Y / 2, class_weight={0: 1})
    with pytest.raises(ValueError, match="sample_weight: needs one weight per row for trace"):
        network().trace(X, Y, sample_weight=Y)
    for loss, output in itertools.product(["cross_entropy", "kullback_leibler"], ["softmax"]):
        with pytest.raises(ValueError, match="sample_weight: needs one weight per row"):
            network(output).loss(X, Y, loss, np.ones((4, 2)))


@pytest.mark.parametrize("rows", ["shared", "of each"])
def test_fleets_have_none(rows):
    fleet = bp.Fleet.of([network()] * 3)
    X3, Y3 = (X, Y) if rows == "shared" else ([X] * 3, [Y] * 3)
    weight = np.ones((4, 2)) if rows == "shared" else [np.ones((4, 2))] * 3
    with pytest.raises(ValueError, match="sample_weight"):
        fleet.fit(X3, Y3, sample_weight=weight)
    with pytest.raises(ValueError, match="class_weight: needs one output with binary_cross_entropy in a fleet, got 2"):
        fleet.fit(X3, Y3, class_weight="balanced")
