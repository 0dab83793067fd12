"""Training on outputs and on their derivatives: the loss, its gradient, the twins, and all that `fit` does with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import backprop as bp
import numpy as np
import pytest
from backends import BACKENDS, COMPILED, distance, each_backend, each_compiled, each_dtype
from backprop import reference
from backprop.backends import choice
from backprop.base.types import Data
from backprop.layers import Dense
from backprop.losses import LOSSES, SquaredError, WithDerivatives
from backprop.reference.activations import ACTIVATIONS
from backprop.reference.passes import objective

H = 1e-100
SMOOTH = [name for name, activation in ACTIVATIONS.items() if activation.smooth]
FUSED = [name for name in choice.FUSED if name in choice.available()]
# losses of outputs that are computed from outputs and from scores, with outputs that suit them
PAIRS = [
    ("squared_error", "identity"), ("log_cosh", "softmax"), ("poisson", "exp"), ("binary_cross_entropy", "sigmoid"),
    ("huber", "prelu"), ("gamma", "softplus"),
]  # fmt: skip
each_pair = pytest.mark.parametrize(("loss", "output"), PAIRS)


def network(output="identity", activation="tanh", dtype="float64", backend=None, **first):
    layers = [Dense(5, activation, **first), Dense(9, activation), Dense(2, output)]
    net = bp.Network(3, layers, dtype=dtype, seed=0, backend=backend)
    if activation == "exp":  # three of them on top of each other
        net.parameters *= 0.3
    return net


def rows(rng, n=40):
    """X, y that suits every loss, and derivatives."""
    return rng.normal(size=(n, 3)), rng.uniform(0.1, 0.9, size=(n, 2)), rng.normal(size=(n, 2, 3))


def flat(gradients):
    return np.concatenate([array.ravel() for arrays in gradients for array in arrays if array is not None])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@each_backend
@each_pair
def test_the_loss(loss, output, backend, reduction, rng):
    """That of the outputs, and weight times the squared error of `jacobian`; weighted by the rows' weights."""
    net = network(output, backend=backend, l2=0.1)
    X, y, dy = rows(rng)
    w = rng.uniform(0.1, 2, size=40)
    inner = LOSSES[loss](scale=1.7, reduction=reduction)
    squares = (net.jacobian(X) - dy) ** 2
    expected = net.loss(X, y, inner, w) + 0.6 * (
        w @ squares.mean(axis=(1, 2)) / w.sum() if reduction == "mean" else w @ squares.sum(axis=(1, 2))
    )
    assert np.isclose(net.loss(X, (y, dy), WithDerivatives(inner, weight=0.6), w), expected, rtol=1e-12)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("output", ["identity", "softmax", "sigmoid", "exp"])
def test_the_gradient(activation, output, rng):
    """Of the reference: with complex steps of the loss."""
    net = network(output, activation, backend="reference", l2=0.1)
    net.parameters *= 0.5
    X, y, dy = rows(rng, 11)
    loss = WithDerivatives({"sigmoid": "binary_cross_entropy", "exp": "poisson"}.get(output, "squared_error"))
    _, gradients = net.loss_and_gradients(X, (y, dy), loss)
    plan = reference.Plan(3, net.layers)
    data = Data(X, np.concatenate([y, dy.reshape(11, -1)], axis=1), None)
    expected = np.empty(net.n_parameters)
    for k in range(net.n_parameters):
        moved = net.parameters.astype(complex)
        moved[k] += 1j * H
        expected[k] = sum(objective(plan, loss, moved, data, None)).imag / H
    assert distance(flat(gradients), expected) < 1e-12


@each_compiled
@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
@each_pair
def test_the_twins(loss, output, activation, dtype, backend, rng):
    X, y, dy = rows(rng, 300)  # more than one chunk
    w = rng.integers(3, size=300)
    found = [
        network(output, activation, dtype, name, l1=0.01).loss_and_gradients(X, (y, dy), WithDerivatives(loss), w)
        for name in (backend, "reference")
    ]
    tolerance = 1e-12 if dtype == np.float64 else 3e-4
    assert np.isclose(found[0][0], found[1][0], rtol=tolerance)
    assert distance(flat(found[0][1]), flat(found[1][1])) < tolerance


@each_compiled
@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, None])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_twins_train_alike(optimizer, batch_size, backend, rng):
    """In batches of every size, with networks that have passes of their own for small ones, too."""
    X, y, dy = rows(rng, 20)
    for units in (3, 9):
        nets = [
            bp.Network(3, [Dense(units, "tanh"), Dense(2)], dtype="float64", seed=0, backend=name)
            for name in (backend, "reference")
        ]
        for net in nets:
            net.fit(
                X, (y, dy), loss=WithDerivatives(weight=0.3), optimizer=optimizer, batch_size=batch_size, epochs=5,
                validation_data=(X[:7], (y[:7], dy[:7])), metrics=["r2"],
            )  # fmt: skip
        np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-9, atol=1e-12)
        for name in ("loss", "val_loss", "r2", "val_r2"):
            np.testing.assert_allclose(nets[0].history[name], nets[1].history[name], rtol=1e-9)


@pytest.mark.skipif(not FUSED, reason="needs a core whose rounding is known")
@each_dtype
def test_the_bits_are_the_same_on_every_core_and_for_any_number_of_threads(dtype, rng):
    X, y, dy = rows(rng, 1000)
    found = set()
    for backend in FUSED:
        for n_threads in (1, 2):
            net = network("softmax", "gelu", dtype, backend)
            net.fit(X, (y, dy), loss=WithDerivatives("squared_error"), batch_size=300, epochs=3, n_threads=n_threads)
            found.add(net.parameters.tobytes())
    assert len(found) == 1


@each_backend
def test_early_stopping_validation_and_callbacks(backend, rng):
    X, y, dy = rows(rng)
    net = network(backend=backend)
    rule = bp.callbacks.EarlyStopping("val_loss", patience=3, restore_best=True)
    history = net.fit(
        X, (y, dy), loss=WithDerivatives(), validation_split=0.25, epochs=300, callbacks=[rule],
        optimizer=bp.Adam(learning_rate=0.05),
    )  # fmt: skip
    assert history.epochs < 300
    best = net.loss(X[30:], (y[30:], dy[30:]), WithDerivatives())
    assert np.isclose(best, history["val_loss"].min(), rtol=1e-6)


@each_backend
def test_a_run_goes_on_where_it_was_left(backend, rng, tmp_path):
    X, y, dy = rows(rng)
    settings = {"loss": WithDerivatives(), "batch_size": 8}
    whole, parts = network(backend=backend), network(backend=backend)
    whole.fit(X, (y, dy), epochs=6, **settings)
    parts.fit(X, (y, dy), epochs=4, **settings)
    parts.save_checkpoint(tmp_path / "run.safetensors")
    parts = bp.resume(tmp_path / "run.safetensors", backend=backend)
    parts.fit(X, (y, dy), epochs=6, resume=True, **settings)
    assert (parts.parameters == whole.parameters).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_replace_rows(backend):
    """A wave from seven rows, between which the outputs alone say little."""
    X, between = np.linspace(-2, 2, 7).reshape(-1, 1), np.linspace(-2, 2, 101).reshape(-1, 1)
    errors = []
    for loss, targets in ((WithDerivatives(), (np.sin(3 * X), 3 * np.cos(3 * X))), (SquaredError(), np.sin(3 * X))):
        net = bp.mlp([1, 20, 1], hidden="tanh", dtype="float64", seed=0, backend=backend)
        net.minimize(X, targets, loss=loss, max_iter=300, tolerance=1e-8)
        errors.append(np.abs(net.predict(between) - np.sin(3 * between)).max())
    assert errors[0] < 0.1 * errors[1]


def test_one_output_needs_no_axis_of_outputs(rng):
    net = bp.mlp([3, 4, 1], hidden="tanh", dtype="float64", seed=0)
    X, y, dy = rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=(5, 3))
    assert net.loss(X, (y, dy), WithDerivatives()) == net.loss(X, [y[:, None], dy[:, None]], WithDerivatives())


def test_one_step(rng):
    net, X, y = bp.Network(1, [Dense(1, weight_init=1.0)], dtype="float64"), [[2.0]], ([[4.0]], [[3.0]])
    # the output is 2 and its derivative 1, where 4 and 3 are wanted
    assert net.train_on_batch(X, y, loss=WithDerivatives(), optimizer=bp.SGD(learning_rate=0.1)) == 8.0
    np.testing.assert_allclose(net.weights[0], [[1 + 0.1 * (2 * 2 * 2 + 2 * 2)]])


def test_what_is_wrong(rng):
    net = network()
    X, y, dy = rows(rng, 5)
    loss = WithDerivatives()
    for wrong in (y, (y,), (y, dy, dy), None):
        with pytest.raises(TypeError, match=r"^y: needs a pair \(y, dy\)"):
            net.fit(X, wrong, loss=loss)
    with pytest.raises(ValueError, match=r"^y\[0\]: needs"):
        net.fit(X, (y[:, :1], dy), loss=loss)
    for wrong in (dy[:3], dy[:, :1], dy[:, 0], np.full_like(dy, np.nan)):
        with pytest.raises(ValueError, match=r"^y\[1\]: needs"):
            net.fit(X, (y, wrong), loss=loss)
    with pytest.raises(ValueError, match=r"^validation_data\[1\]\[1\]: needs"):
        net.fit(X, (y, dy), loss=loss, validation_data=(X, (y, dy[:2])))
    with pytest.raises(ValueError, match=r"^sample_weight: needs one weight per row"):
        net.fit(X, (y, dy), loss=loss, sample_weight=y)
    with pytest.raises(ValueError, match=r"^layers\[0\]: needs dropout=0"):
        network(dropout=0.5).fit(X, (y, dy), loss=loss)
    with pytest.raises(ValueError, match=r"^loss: needs one of the outputs alone"):
        net.gradients_per_row(X, (y, dy), loss=loss)
    with pytest.raises(ValueError, match=r"^loss: needs one of the outputs alone"):
        net.input_gradients(X, (y, dy), loss)
    with pytest.raises(ValueError, match=r"^loss: needs one of 'squared_error'"):
        net.minimize(X, (y, dy), loss=loss, method="lm")
    for inner in ("cross_entropy", WithDerivatives("huber")):
        with pytest.raises((TypeError, ValueError), match=r"^loss: needs"):
            WithDerivatives(inner)
    with pytest.raises(ValueError, match=r"^weight: needs"):
        WithDerivatives(weight=0)
    with pytest.raises(ValueError, match=r"^loss: binary_cross_entropy needs a last layer"):
        net.fit(X, (y, dy), loss=WithDerivatives("binary_cross_entropy"))


@pytest.mark.skipif(not COMPILED, reason="needs a compiled core")
def test_nan_among_targets_and_divergence(rng):
    net = network()
    X, y, dy = rows(rng)
    with pytest.raises(bp.DivergedError):
        net.fit(X, (y, 1e300 * dy), loss=WithDerivatives(), optimizer=bp.SGD(learning_rate=1e10), epochs=5)
    assert np.isfinite(net.parameters).all()


# --- fleets -----------------------------------------------------------------------------------------------------------

SIZE = 4
FORMS = ["each", "list", "shared", "own outputs", "own derivatives"]


def fleet(backend=None, dtype="float64"):
    return bp.Fleet(3, [Dense(6, "tanh"), Dense(2)], size=SIZE, seed=3, dtype=dtype, backend=backend)


def rows_of_members(form, rng):
    """X, y and dy in a form, and functions that pick those of a member."""
    X, y, dy = (np.stack(arrays) for arrays in zip(*(rows(rng, 50) for _ in range(SIZE)), strict=True))
    if form == "list":
        return [[array[k][: 30 + 5 * k] for k in range(SIZE)] for array in (X, y, dy)], [True] * 3
    own = [form == "each", form in ("each", "own outputs"), form in ("each", "own derivatives")]
    return [array if is_own else array[0] for array, is_own in zip((X, y, dy), own, strict=True)], own


@pytest.mark.parametrize("form", FORMS)
@each_dtype
@each_backend
def test_members_of_a_fleet_are_as_if_they_were_alone(backend, dtype, form, rng):
    members = fleet(backend, dtype)
    networks = [member.copy() for member in members]
    (X, y, dy), own = rows_of_members(form, rng)
    loss = WithDerivatives("huber", weight=0.5)
    settings = {"loss": loss, "batch_size": 16, "validation_split": 0.2, "metrics": "r2", "epochs": 3}
    members.fit(X, (y, dy), **settings)
    members.minimize(X, (y, dy), loss=loss, max_iter=3, n_threads=2)
    losses = members.loss(X, (y, dy), loss=loss)
    for k, network in enumerate(networks):
        X_k, y_k, dy_k = (array[k] if is_own else array for array, is_own in zip((X, y, dy), own, strict=True))
        network.fit(X_k, (y_k, dy_k), **settings)
        network.minimize(X_k, (y_k, dy_k), loss=loss, max_iter=3)
        np.testing.assert_array_equal(members[k].parameters, network.parameters)
        for name in ("loss", "val_loss", "val_r2"):
            np.testing.assert_array_equal(members[k].history[name], network.history[name])
        assert losses[k] == network.loss(X_k, (y_k, dy_k), loss)


@pytest.mark.parametrize("form", FORMS)
def test_a_fleet_by_an_executor_and_in_two_runs(form, rng, tmp_path):
    (X, y, dy), _ = rows_of_members(form, rng)
    settings = {"loss": WithDerivatives(), "batch_size": 16}
    whole, pieces, parts = fleet(), fleet(), fleet()
    whole.fit(X, (y, dy), epochs=5, **settings)
    with ThreadPoolExecutor(2) as executor:
        pieces.fit(X, (y, dy), epochs=5, executor=executor, **settings)
    parts.fit(X, (y, dy), epochs=2, **settings)
    parts.save_checkpoint(tmp_path / "fleet.safetensors")
    parts = bp.resume(tmp_path / "fleet.safetensors")
    parts.fit(X, (y, dy), epochs=5, resume=True, **settings)
    for other in (pieces, parts):
        np.testing.assert_array_equal(other.parameters, whole.parameters)


def test_dropout_of_any_member_is_refused(rng):
    (X, y, dy), _ = rows_of_members("shared", rng)
    settings = {"loss": WithDerivatives()}
    for dropout in (0.5, [0.0, 0.0, 0.5, 0.0]):
        with pytest.raises(ValueError, match=r"^dropout: needs None or 0 for with_derivatives, got "):
            fleet().fit(X, (y, dy), dropout=dropout, **settings)
    fleet().fit(X, (y, dy), dropout=0.0, epochs=1, **settings)
    networks = [bp.Network(3, [Dense(4, "tanh", dropout=share), Dense(2)], seed=0) for share in (0.0, 0.5)]
    joined = bp.Fleet.of(networks)
    for train in (joined.fit, joined.minimize):
        with pytest.raises(ValueError, match=r"^layers\[0\]: needs dropout=0 for with_derivatives, got 0.5"):
            train(X, (y, dy), **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y, dy: (X, y), r"^y: needs a pair \(y, dy\)"),
        (
            lambda X, y, dy: (X, (y, dy[:3])),
            r"^y\[1\]: needs shape .* 4 members, got shape \(3, 50, 2, 3\)",
        ),
        (lambda X, y, dy: (X, (y[:3], dy)), r"^y\[0\]: needs rows for each of the 4 members"),
        (lambda X, y, dy: (X, (y, [dy[0], dy[1][:7], *dy[2:]])), r"^y\[1\]\[1\]: needs shape \(50, 2, 3\)"),
        (lambda X, y, dy: (X, (y, dy * np.nan)), r"^y\[1\]\[0\]: needs finite numbers"),
        (lambda X, y, dy: (X[0], (y[0], 3.0)), r"^y\[1\]: needs shape .* got 3.0"),
        (lambda X, y, dy: (X[0], (y[0], [[1.0], [2.0, 3.0]])), r"^y\[1\]: needs shape .* members, got \[\[1.0\], "),
    ],
)
def test_what_is_wrong_in_a_fleet(change, message, rng):
    (X, y, dy), _ = rows_of_members("each", rng)
    X, targets = change(X, y, dy)
    with pytest.raises((TypeError, ValueError), match=message):
        fleet().fit(X, targets, loss=WithDerivatives())


def test_no_class_weights():
    net = bp.Network(3, [bp.Dense(2)], seed=0)
    with pytest.raises(ValueError, match=r"class_weight: needs class labels.*got with_derivatives$"):
        net.fit(np.ones((4, 3)), (np.ones((4, 2)), np.ones((4, 2, 3))), loss=WithDerivatives(), class_weight="balanced")
