"""Steps along gradients given by hand: those of `fit`, accumulated ones, and what is refused."""

import backprop as bp
import numpy as np
import pytest
from backends import OPTIMIZER_VARIANTS, label

LAYERS = [bp.Dense(8, "tanh", l2=0.01, max_norm=0.9), bp.Dense(5, "prelu"), bp.Dense(3, "softmax", bias=False)]


def network(backend, dtype="float64", layers=LAYERS):
    return bp.Network(4, layers, dtype=dtype, seed=0, backend=backend)


@pytest.fixture
def rows(rng):
    return rng.normal(size=(30, 4)), np.arange(30) % 3


def joined(gradients):
    """The flat vector of what `loss_and_gradients` returns."""
    return np.concatenate([array.ravel() for arrays in gradients for array in arrays if array is not None])


@pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
def test_steps_have_the_bits_of_fit(optimizer, backend, dtype, rows):
    """All rows in one batch: as many calls as epochs; every other gradient as a flat vector."""
    nets = [network(backend, dtype) for _ in range(2)]
    nets[0].fit(*rows, optimizer=optimizer, epochs=6, batch_size=None)
    for k in range(6):
        _, gradients = nets[1].loss_and_gradients(*rows)
        nets[1].apply_gradients(joined(gradients) if k % 2 else gradients, optimizer=optimizer)
    np.testing.assert_array_equal(nets[1].parameters, nets[0].parameters)
    np.testing.assert_array_equal(nets[1]._state.slots, nets[0]._state.slots)
    assert nets[1].history.epochs == 0
    for net in nets:  # and on from there, with what the optimizer remembers
        net.fit(*rows, optimizer=optimizer, epochs=2, batch_size=None)
    np.testing.assert_array_equal(nets[1].parameters, nets[0].parameters)


@pytest.mark.parametrize("n_rows", [*range(1, 18), 33])
def test_steps_on_few_rows_are_those_of_fit_up_to_rounding(n_rows, backend, dtype, rng):
    """From nine rows on they have the bits, in layers that are wider than a vector, too."""
    X, y = rng.normal(size=(n_rows, 4)), rng.normal(size=(n_rows, 3))
    nets = [network(backend, dtype, [bp.Dense(20, "tanh"), bp.Dense(3)]) for _ in range(2)]
    nets[0].fit(X, y, optimizer="adam", epochs=3, batch_size=None)
    for _ in range(3):
        nets[1].apply_gradients(nets[1].loss_and_gradients(X, y)[1], optimizer="adam")
    tolerance = 0 if n_rows > 8 else 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(nets[1].parameters, nets[0].parameters, rtol=tolerance, atol=tolerance)


def test_a_schedule_counts_the_optimizer_s_steps(backend, dtype, rows):
    schedule = bp.schedules.Warmup(length=3) * bp.schedules.StepDecay(length=2, decay=0.5, every="epoch")
    nets = [network(backend, dtype) for _ in range(2)]
    nets[0].fit(*rows, optimizer="nadam", schedule=schedule, epochs=6, batch_size=None)
    for _ in range(6):
        nets[1].apply_gradients(nets[1].loss_and_gradients(*rows)[1], optimizer="nadam", schedule=schedule)
    np.testing.assert_array_equal(nets[1].parameters, nets[0].parameters)


@pytest.mark.parametrize("frozen", [{"trainable": False}, {"bias_trainable": False}], ids=["a layer", "biases"])
def test_what_is_frozen_stays(frozen, backend, dtype, rng):
    net = network(backend, dtype, [bp.Dense(8, "tanh", **frozen), bp.Dense(3)])
    before = net.parameters.copy()
    decaying = bp.AdamW(learning_rate=0.1, weight_decay=0.5)
    for _ in range(3):
        net.apply_gradients(rng.normal(size=net.n_parameters), optimizer=decaying)
    moved = net.parameters != before
    assert not moved[net._layout[1].part].any()  # the biases
    assert moved[net._layout[0].part].all() == ("bias_trainable" in frozen)
    assert moved[net._layout[2].part].all()


def test_accumulation_over_batches(backend, rng):
    """Gradients of parts with as many rows each, added up, are those of the whole."""
    X, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    nets = [bp.mlp([4, 6, 2], dtype="float64", seed=0, backend=backend) for _ in range(2)]
    for _ in range(5):
        nets[0].train_on_batch(X, y, optimizer="adam")
        parts = [nets[1].loss_and_gradients(X[k : k + 10], y[k : k + 10])[1] for k in range(0, 40, 10)]
        total = sum(joined(part) for part in parts) / 4
        nets[1].apply_gradients(total, optimizer="adam")
    np.testing.assert_allclose(nets[1].parameters, nets[0].parameters, rtol=1e-9)


def test_a_checkpoint_keeps_what_the_optimizer_remembers(backend, rows, tmp_path):
    net = network(backend)
    for _ in range(3):
        net.apply_gradients(net.loss_and_gradients(*rows)[1])
    net.save_checkpoint(tmp_path / "run.safetensors")
    twin = bp.resume(tmp_path / "run.safetensors", backend=backend)
    for each in (net, twin):
        each.apply_gradients(each.loss_and_gradients(*rows)[1])
    np.testing.assert_array_equal(twin.parameters, net.parameters)


def refused(net, gradients, error, match, **settings):
    net.apply_gradients(np.ones(net.n_parameters), optimizer=settings.get("optimizer", "adam"))
    before, state = net.parameters.copy(), net._state.slots.copy()
    with pytest.raises(error, match=match):
        net.apply_gradients(gradients, **settings)
    np.testing.assert_array_equal(net.parameters, before)
    np.testing.assert_array_equal(net._state.slots, state)
    assert net._state.step == 1


HIDDEN, LAST = (np.ones((4, 2)), None), (np.ones((2, 1)), np.ones(1))
WRONG = {
    "short": (np.ones(3), ValueError, r"gradients: needs shape \(11,\), got shape \(3,\)"),
    "text": ("adam", TypeError, "gradients: needs real numbers"),
    "nan": (np.r_[np.ones(10), np.nan], ValueError, "gradients: .*finite"),
    "a layer too few": ([HIDDEN], ValueError, "needs an entry for each of 2 layers, got 1"),
    "no tuple": ([HIDDEN, np.ones((2, 1))], TypeError, r"gradients\[1\]: needs a tuple of 2 arrays"),
    "no biases": ([HIDDEN, LAST[:1]], ValueError, r"gradients\[1\]: needs 2 arrays, got 1"),
    "a shape": ([(np.ones((2, 4)), None), LAST], ValueError, r"gradients\[0\]\[0\]: needs shape \(4, 2\)"),
    "biases that are not": ([(HIDDEN[0], np.ones(2)), LAST], ValueError, r"gradients\[0\]\[1\]: needs None"),
    "an infinity": ([(np.full((4, 2), np.inf), None), LAST], ValueError, r"gradients\[0\]\[0\]: .*finite"),
}


@pytest.mark.parametrize(("gradients", "error", "match"), WRONG.values(), ids=WRONG)
def test_what_is_refused_changes_nothing(gradients, error, match, backend):
    net = bp.Network(4, [bp.Dense(2, bias=False), bp.Dense(1)], seed=0, backend=backend)
    refused(net, gradients, error, match)


def test_a_step_that_overflows_is_undone(backend, dtype):
    net = network(backend, dtype)
    largest = np.finfo(dtype).max
    refused(
        net, np.full(net.n_parameters, largest), FloatingPointError, "not finite", optimizer=bp.SGD(learning_rate=1e10)
    )


def test_of_fit_s_arguments_those_are_checked(backend):
    net = network(backend)
    for settings in ({"optimizer": "newton"}, {"schedule": 3}, {"schedule": lambda step: -1.0}):
        with pytest.raises((TypeError, ValueError), match=r"optimizer|schedule"):
            net.apply_gradients(np.zeros(net.n_parameters), **settings)


def test_a_list_of_numbers_is_a_flat_vector(backend):
    nets = network(backend), network(backend)
    values = np.linspace(-1, 1, nets[0].n_parameters)
    nets[0].apply_gradients(values)
    nets[1].apply_gradients(values.tolist())
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
