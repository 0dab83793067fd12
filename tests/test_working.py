"""Working with a network: what its layers give, gradients of anything, evaluation, copies, steps by hand."""

import copy
import pickle

import backprop as bp
import numpy as np
import pytest
from backends import (
    LOSS_VARIANTS,
    distance,
    each_backend,
    each_dtype,
    hidden_activations,
    label,
    make_problem,
    outputs_of,
)
from backprop import reference
from backprop.reference.passes import objective

EPS = {"float32": 1e-6, "float64": 2e-15}


@pytest.fixture
def net(backend, dtype):
    layers = [bp.Dense(5, "tanh"), bp.Dense(4, "relu", bias=False), bp.Dense(3, "softmax", l2=0.1)]
    return bp.Network(4, layers, dtype=dtype, seed=0, backend=backend)


# --- outputs of the layers -----------------------------------------------------------------------------------------


def test_activations(net, rng):
    X = rng.normal(size=(7, 4)).astype(net.dtype)
    outputs = net.activations(X)
    assert [a.shape for a in outputs] == [(7, 5), (7, 4), (7, 3)]
    assert all(a.dtype == net.dtype for a in outputs)
    hidden = np.tanh(X @ net.weights[0] + net.biases[0])
    expected = [hidden, np.maximum(hidden @ net.weights[1], 0)]
    for a, b in zip(outputs, expected, strict=False):
        np.testing.assert_allclose(a, b, rtol=EPS[net.dtype.name], atol=EPS[net.dtype.name])
    np.testing.assert_array_equal(outputs[-1], net.predict(X))


def test_activations_drop_nothing_and_check_X(backend, rng):
    layers = [bp.Dense(5, "tanh", dropout=0.5), bp.Dense(1)]
    net = bp.Network(4, layers, seed=0, backend=backend)
    assert (net.activations(rng.normal(size=(50, 4)))[0] != 0).all()
    with pytest.raises(ValueError, match="X: needs 4 columns"):
        net.activations(np.ones((2, 3)))
    with pytest.raises(ValueError, match="X: needs finite numbers"):
        net.activations(np.full((2, 4), np.nan))


def test_activations_that_overflow(backend, dtype):
    layers = [bp.Dense(2, "exp", weight_init=1e4), bp.Dense(2, "identity", weight_init=[[1.0, 1.0], [1.0, -1.0]])]
    net = bp.Network(1, layers, dtype=dtype, backend=backend)
    first, second = net.activations([[1.0], [-1.0]])
    np.testing.assert_array_equal(first, [[np.inf, np.inf], [0, 0]])
    np.testing.assert_array_equal(second, net.predict([[1.0], [-1.0]]))
    np.testing.assert_array_equal(second, [[np.inf, np.nan], [0, 0]])


# --- gradients -----------------------------------------------------------------------------------------------------


@each_backend
@each_dtype
@pytest.mark.parametrize("loss", LOSS_VARIANTS, ids=label)
def test_input_gradients_against_complex_steps(loss, backend, dtype):
    output = outputs_of(loss)[0]
    dense = [bp.Dense(5, "tanh", l2=0.1), bp.Dense(3, output)]
    problem = make_problem(4, dense, loss, 6)
    X, y, weight = problem.data
    net = bp.Network(4, dense, dtype=dtype, backend=backend)
    net.parameters = problem.parameters
    gradient = net.input_gradients(X, y, loss, weight)
    assert (gradient.shape, gradient.dtype) == (X.shape, dtype)

    plan = reference.Plan(4, dense)
    expected = np.zeros_like(X)
    for index in np.ndindex(*X.shape):
        point = X.astype(complex)
        point[index] += 1e-100j
        expected[index] = sum(objective(plan, loss, problem.parameters, problem.data._replace(X=point), None)).imag
    assert distance(gradient, expected * 1e100) < {"float32": 1e-5, "float64": 1e-13}[np.dtype(dtype).name]


@each_backend
@each_dtype
@pytest.mark.parametrize("activation", hidden_activations())
def test_backward_against_torch(activation, backend, dtype, rng):
    """The derivative of ``sum of sin(outputs)``; PyTorch differentiates the network that the weights came from."""
    torch = pytest.importorskip("torch")
    functions = {
        "identity": lambda z: z,
        "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.01),
        "gelu_tanh": lambda z: torch.nn.functional.gelu(z, approximate="tanh"),
        "exp": torch.exp,
        "prelu": lambda z: torch.nn.functional.prelu(z, slopes),
        "hard_sigmoid": lambda z: torch.nn.functional.relu6(z + 3) / 6,  # hardsigmoid has 1/6 in float32 only
        "sigmoid": torch.sigmoid,
        "softmax": lambda z: torch.softmax(z, dim=1),
        "tanh": torch.tanh,
    }
    function = functions.get(activation) or getattr(torch.nn.functional, activation.replace("hard_", "hard"))
    net = bp.Network(3, [bp.Dense(5, activation), bp.Dense(2, l2=1.0)], dtype=dtype, seed=0, backend=backend)
    X = rng.normal(size=(6, 3)).astype(dtype)
    gradients, dX = net.backward(X, np.cos)

    slopes = torch.full((5,), 0.25, dtype=torch.float64, requires_grad=True)
    inputs = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    arrays = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (*net.weights, *net.biases)]
    W0, W1, b0, b1 = arrays
    torch.sin(function(inputs @ W0 + b0) @ W1 + b1).sum().backward()
    bound = {"float32": 1e-5, "float64": 1e-13}[np.dtype(dtype).name]
    assert distance(dX, inputs.grad) < bound
    for (dW, db, *others), W, b in zip(gradients, (W0, W1), (b0, b1), strict=True):
        assert len(others) == (activation == "prelu" and W is W0)
        assert all(distance(dslopes, slopes.grad) < bound for dslopes in others)
        assert distance(dW, W.grad) < bound
        assert distance(db, b.grad) < bound
    assert dX.dtype == gradients[0][0].dtype == dtype


def test_backward_takes_arrays(net, rng):
    """The rows of the Jacobian, one for each output; those of probabilities add up to zero."""
    X = rng.normal(size=(6, 4))
    rows = [net.backward(X, np.eye(3)[np.full(6, k)])[1] for k in range(3)]
    np.testing.assert_allclose(sum(rows), 0, atol=EPS[net.dtype.name])
    step = {"float32": 1e-2, "float64": 1e-5}[net.dtype.name]
    for i in range(4):
        up, down = (net.predict(X + sign * step * np.eye(4)[i]) for sign in (1, -1))
        # What is left out of the difference is step**2, what is lost in it a rounding over step.
        np.testing.assert_allclose(
            np.stack([row[:, i] for row in rows], axis=1), (up - down) / (2 * step), atol=1e-3 if step > 1e-3 else 1e-8
        )


def test_gradients_leave_the_network_alone_and_frozen_ones_are_zero(backend, rng):
    layers = [bp.Dense(5, "tanh", trainable=False), bp.Dense(2, bias_trainable=False)]
    net = bp.Network(4, layers, seed=0, backend=backend)
    X, before = rng.normal(size=(6, 4)), net.parameters.copy()
    (dW0, db0), (dW1, db1) = net.backward(X, np.ones((6, 2)))[0]
    assert not dW0.any()
    assert not db0.any()
    assert dW1.any()
    assert not db1.any()
    assert net.input_gradients(X, np.ones((6, 2))).any()
    np.testing.assert_array_equal(net.parameters, before)


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        (lambda outputs: outputs[:, 0], ValueError, r"head: needs shape \(2, 3\), got shape \(2,\)"),
        (np.ones((3, 2)), ValueError, r"head: needs shape \(2, 3\), got shape \(3, 2\)"),
        (lambda outputs: outputs * np.nan, ValueError, "head: needs finite numbers, got nan"),
        (lambda outputs: None, TypeError, "head: needs an array of real numbers, got None"),
        (lambda outputs: 1 / 0, ZeroDivisionError, "division by zero"),
    ],
)
def test_wrong_heads(head, error, message, net):
    with pytest.raises(error, match=message):
        net.backward(np.ones((2, 4)), head)


def test_a_head_may_change_what_it_gets(net):
    def head(outputs):
        outputs[:] = 1
        return outputs

    _, dX = net.backward(np.ones((2, 4)), head)
    np.testing.assert_array_equal(dX, net.backward(np.ones((2, 4)), np.ones((2, 3)))[1])


# --- evaluation ----------------------------------------------------------------------------------------------------


def test_evaluate(net, rng):
    X, y, weight = rng.normal(size=(20, 4)), np.arange(20) % 3, rng.uniform(size=20)

    def sure(outputs, targets):
        return outputs.max()

    assert net.evaluate(X, y) == {"loss": net.loss(X, y)}
    values = net.evaluate(X, y, metrics=["accuracy", sure], sample_weight=weight)
    predicted = net.predict(X)
    assert list(values) == ["loss", "accuracy", "sure"]
    assert values["loss"] == net.loss(X, y, sample_weight=weight)
    assert values["accuracy"] == pytest.approx(np.average(predicted.argmax(axis=1) == y, weights=weight))
    assert values["sure"] == predicted.max()
    with pytest.raises(ValueError, match=r"metrics\[0\]: needs one of 'accuracy', .*, got 'nothing'"):
        net.evaluate(X, y, metrics=["nothing"])
    with pytest.raises(ValueError, match="metrics: r2 needs real targets"):
        net.evaluate(X, y, metrics="r2")


# --- steps and epochs one by one --------------------------------------------------------------------------------


OPTIMIZERS = [bp.SGD(learning_rate=0.05, momentum=0.9), bp.Adam(learning_rate=0.01), bp.RMSprop(centered=True)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=label)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_steps_one_by_one_are_those_of_fit(optimizer, dropout, backend, dtype, rng):
    layers = [bp.Dense(8, "tanh", dropout=dropout, max_norm=1.0), bp.Dense(3, "softmax", l2=0.1)]
    X, y, weight = rng.normal(size=(50, 4)), np.arange(50) % 3, rng.uniform(0.5, 1, 50)
    nets = [bp.Network(4, layers, dtype=dtype, seed=0, backend=backend) for _ in range(2)]
    settings = {"optimizer": optimizer, "clip_norm": 0.5, "clip_value": 0.2}
    nets[0].fit(X, y, sample_weight=weight, epochs=2, batch_size=16, shuffle=False, **settings)
    losses = []
    for _ in range(2):
        for rows in (slice(start, start + 16) for start in range(0, 50, 16)):
            before = nets[1].copy()
            losses.append(nets[1].train_on_batch(X[rows], y[rows], sample_weight=weight[rows], **settings))
            if not dropout:
                assert losses[-1] == pytest.approx(before.loss(X[rows], y[rows], sample_weight=weight[rows]), rel=1e-6)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert nets[0]._state.step == nets[1]._state.step == 8
    sums = np.add.reduceat(weight, range(0, 50, 16))
    assert nets[0].history.loss[0] == pytest.approx(np.average(losses[:4], weights=sums), rel=1e-6)
    assert nets[1].history.epochs == nets[1]._state.epoch == 0
    for net in nets:  # and on from there, with what the optimizer remembers
        net._state.epoch = 2
        net.fit(X, y, epochs=1, batch_size=16, **settings)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_weights_of_classes_in_a_step(backend, rng):
    """They are weights of the rows, times those that rows have."""
    X, y, weight = rng.normal(size=(20, 4)), np.arange(20) % 3, rng.uniform(0.5, 1, 20)
    classes = {0: 2.0, 1: 0.5, 2: 1.0}
    nets = [bp.mlp([4, 5, 3], output="softmax", dtype="float64", seed=0, backend=backend) for _ in range(2)]
    loss = nets[0].train_on_batch(X, y, sample_weight=weight, class_weight=classes)
    by_hand = weight * [classes[label] for label in y]
    assert nets[1].train_on_batch(X, y, sample_weight=by_hand) == loss
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_another_learning_rate_keeps_what_the_optimizer_remembers(backend, rng):
    X, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    net = bp.mlp([4, 5, 1], dtype="float64", seed=0, backend=backend)
    for k in range(3):
        net.train_on_batch(X, y, optimizer=bp.Adam(learning_rate=0.01 / (k + 1)))
    twin = bp.mlp([4, 5, 1], dtype="float64", seed=0, backend=backend)
    twin.fit(
        X, y, optimizer=bp.Adam(learning_rate=0.01), schedule=lambda step: 1 / (step + 1), epochs=3, batch_size=None
    )
    np.testing.assert_allclose(net.parameters, twin.parameters, rtol=1e-15)


def test_partial_fit_is_an_epoch(backend, rng):
    X, y = rng.normal(size=(50, 4)), np.arange(50) % 3
    nets = [bp.mlp([4, 5, 3], output="softmax", seed=0, backend=backend) for _ in range(2)]
    settings = {"optimizer": "rmsprop", "batch_size": 16, "class_weight": "balanced", "clip_norm": 1.0}
    history = nets[0].fit(X, y, epochs=3, **settings)
    for _ in range(3):
        assert nets[1].partial_fit(X, y, **settings) is nets[1].history
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    np.testing.assert_array_equal(nets[1].history.loss, history.loss)


def test_a_step_that_diverges_is_undone(backend, dtype, rng):
    X, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    net = bp.Network(4, [bp.Dense(3, dropout=0.5), bp.Dense(1)], dtype=dtype, seed=0, backend=backend)
    net.train_on_batch(X, y)
    before = net.copy()
    with pytest.raises(bp.DivergedError, match="not finite") as caught:
        net.train_on_batch(X, y, optimizer=bp.SGD(learning_rate=np.finfo(dtype).max))
    assert caught.value.layer is not None
    np.testing.assert_array_equal(net.parameters, before.parameters)
    assert net._state.bit_generator.state == before._state.bit_generator.state


def test_losses_of_one_s_own(backend, dtype, rng):
    """Mean squared error once more: everything that takes a loss takes it."""

    def own(outputs, targets, sample_weight=None):
        weights = np.ones(len(outputs)) if sample_weight is None else sample_weight
        weights = (weights / weights.sum())[:, None] / outputs.shape[1]
        error = outputs - targets
        return (weights * error**2).sum(), 2 * weights * error

    X, y, weight = rng.normal(size=(20, 4)), rng.normal(size=(20, 2)), rng.uniform(0.5, 1, 20)
    net = bp.mlp([4, 5, 2], hidden="tanh", l1=0.01, l2=0.1, dtype=dtype, seed=0, backend=backend)
    twin = net.copy()
    bound = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert net.loss(X, y, own, weight) == pytest.approx(net.loss(X, y, "squared_error", weight), rel=bound)
    (value, gradients), (expected, others) = (net.loss_and_gradients(X, y, f, weight) for f in (own, "squared_error"))
    assert value == pytest.approx(expected, rel=bound)
    for pair, other in zip(gradients, others, strict=True):
        assert max(distance(a, b) for a, b in zip(pair, other, strict=True)) < bound
    dX = [net.input_gradients(X, y, f, weight) for f in (own, "squared_error")]
    assert distance(*dX) < bound
    values = net.evaluate(X, y, loss=own, metrics="r2", sample_weight=weight)
    assert values == pytest.approx(net.evaluate(X, y, metrics="r2", sample_weight=weight), rel=bound)
    for each, loss in ((net, own), (twin, "squared_error")):
        each.train_on_batch(X, y, loss=loss, sample_weight=weight, optimizer="sgd")
        each.partial_fit(X, y, loss=loss, sample_weight=weight, optimizer="sgd")
        each.minimize(X, y, loss=loss, sample_weight=weight, max_iter=3, penalty_per_row=True)
    assert distance(net.parameters, twin.parameters) < 10 * bound


def test_a_loss_that_raises_in_a_step_changes_nothing(backend, rng):
    X, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    net = bp.mlp([4, 5, 1], seed=0, backend=backend)
    net.train_on_batch(X, y)
    before = net.copy()
    with pytest.raises(ZeroDivisionError):
        net.train_on_batch(X, y, loss=lambda outputs, targets: 1 / 0)
    np.testing.assert_array_equal(net.parameters, before.parameters)
    for each in (net, before):
        each.train_on_batch(X, y)
    np.testing.assert_array_equal(net.parameters, before.parameters)


# --- copies and tables ---------------------------------------------------------------------------------------------


def test_copy_shares_nothing(net, rng):
    X, y = rng.normal(size=(20, 4)), np.arange(20) % 3
    net.fit(X, y, epochs=3, batch_size=8)
    twin = net.copy()
    assert (twin.layers, twin.seed, twin.backend, twin.dtype) == (net.layers, net.seed, net.backend, net.dtype)
    for each in (net, twin):
        each.fit(X, y, epochs=2, batch_size=8)
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    np.testing.assert_array_equal(twin.history.loss, net.history.loss)
    twin.parameters[:] = 0
    assert net.parameters.any()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_have_the_whole_state(duplicate, net, rng):
    X, y = rng.normal(size=(20, 4)), np.arange(20) % 3
    net.fit(X, y, epochs=3, batch_size=8)
    net._state.cursor = 8  # in the middle of an epoch, whose order of rows still counts
    net._state.best_parameters = net.parameters + 1
    net._state.best_loss, net._state.best_epoch, net._state.stale_epochs = 0.5, 2, 1
    twin = duplicate(net)
    for name in ("step", "epoch", "cursor", "best_loss", "best_epoch", "stale_epochs"):
        assert getattr(twin._state, name) == getattr(net._state, name)
    for name in ("parameters", "slots", "permutation", "best_parameters"):
        one, other = getattr(twin._state, name), getattr(net._state, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert not np.shares_memory(one, other)
    assert twin._state.parameters is twin.parameters
    assert twin._state.bit_generator.state == net._state.bit_generator.state


@pytest.mark.parametrize("n_rows", [20, 5000])
def test_pickles_are_small(n_rows, rng):
    net = bp.mlp([8, 16, 1], seed=0)
    X = rng.normal(size=(n_rows, 8))
    stopping = bp.callbacks.EarlyStopping("loss", restore_best=False)
    net.fit(X, X[:, 0], epochs=9, batch_size=8, optimizer="adam", callbacks=[stopping])
    needed = net.parameters.nbytes + net._state.slots.nbytes + net.history.loss.nbytes
    assert len(pickle.dumps(net)) < needed + 1500
    twin = pickle.loads(pickle.dumps(net))
    for each in (net, twin):
        each.fit(X, X[:, 0], epochs=2, batch_size=8, optimizer="adam")
    np.testing.assert_array_equal(twin.parameters, net.parameters)


def test_states_that_version_0_1_pickled_can_be_read(net, rng):
    net.fit(rng.normal(size=(20, 4)), np.arange(20) % 3, epochs=1, batch_size=8)
    state = net._state
    again = type(state).__new__(type(state))
    again.__setstate__((None, {name: getattr(state, name) for name in type(state).__slots__}))
    assert again.bit_generator.state == state.bit_generator.state
    np.testing.assert_array_equal(again.permutation, state.permutation)


def test_tables():
    net = bp.Network(400, [bp.Dense(30, "relu", trainable=False), bp.Dense(2, "softmax", dropout=0.0)], seed=0)
    lines = net.summary().splitlines()
    assert lines[0].split() == ["layer", "shape", "parameters"]
    assert lines[1].endswith("400 -> 30      12,030")
    assert lines[-2].split() == ["total", "400", "->", "2", "12,092"]
    assert lines[-1].split() == ["trainable", "62"]
    html = net._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")
    assert '400 -&gt; 30</td><td style="text-align: right">12,030</td>' in html
    assert "float32, seed 0" in html
    assert "not trained" in html
    net.fit(np.ones((2, 400)), [0, 1], epochs=1)
    assert "trained for 1 epoch<" in net._repr_html_()
