"""Averages of the parameters over the steps: against PyTorch, in every regime, across interruptions and checkpoints."""

import backprop as bp
import numpy as np
import pytest
from backends import INFINITE
from backprop.base.types import TrainingSettings
from backprop.callbacks import Checkpoint, EarlyStopping, LambdaCallback
from backprop.callbacks import ExponentialMovingAverage as EMA
from backprop.callbacks import StochasticWeightAveraging as SWA
from backprop.learn.start import begin

N_ROWS, EPOCHS = 20, 8
LAYERS = [bp.Dense(6, "tanh", dropout=0.2, l2=0.01), bp.Dense(1)]
AVERAGES = {
    "ema": lambda **more: EMA(decay=0.9, **more),
    "ema, later": lambda **more: EMA(decay=0.7, start=3, every_steps=4, **more),
    "ema, once an epoch": lambda **more: EMA(decay=0.5, start=2, every_steps=None, **more),
    "swa": lambda **more: SWA(start=0.25, **more),
    "swa, each step": lambda **more: SWA(start=0, every_steps=1, **more),
    "swa, of every third": lambda **more: SWA(start=1, every_steps=3, **more),
}
each_average = pytest.mark.parametrize("make", AVERAGES.values(), ids=AVERAGES)
each_batch = pytest.mark.parametrize("batch_size", [1, 3, 7, None])
SGD = bp.SGD(learning_rate=0.05, momentum=0.5)
CLOSE = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(N_ROWS, 3))
    return X, np.sin(X.sum(axis=1)) + 0.1 * rng.normal(size=N_ROWS)


def network(backend, dtype="float64", layers=LAYERS):
    return bp.Network(3, layers, dtype=dtype, seed=0, backend=backend)


def fitted(net, rows, **settings):
    return net.fit(*rows, **{"optimizer": SGD, "epochs": EPOCHS, "batch_size": 7} | settings)


def trajectory(net, rows, batch_size):
    """The parameters after each step of the run that `fitted` does."""
    settings, found = TrainingSettings(batch_size=batch_size), []
    loss, data = net._data(*rows, "auto", None)
    state = begin(net, SGD, settings, N_ROWS, None)
    training = net._core.Training(net._plan, loss, SGD, settings, data, state, np.array([SGD.learning_rate]))
    while state.epoch < EPOCHS:
        training.run(EPOCHS, INFINITE, np.empty(EPOCHS), None, state.step + 1)
        found.append(net.parameters.copy())
    return found


def counting(steps, rule):
    """Those of the steps that count."""
    per_epoch = len(steps) // EPOCHS
    return steps[rule.start * per_epoch :][(rule.every or per_epoch) - 1 :: rule.every or per_epoch]


@each_average
@each_batch
def test_the_average_is_pytorch_s(make, batch_size, backend, dtype, rows):
    torch = pytest.importorskip("torch")
    swa_utils = torch.optim.swa_utils
    callback, net = make(), network(backend, dtype)
    fitted(net, rows, batch_size=batch_size, callbacks=[callback])
    steps = trajectory(network(backend, dtype), rows, batch_size)
    rule = callback.average(EPOCHS)
    # get_swa_multi_avg_fn divides in float32, whatever the parameters are.
    kind = swa_utils.get_swa_avg_fn() if rule.decay is None else swa_utils.get_ema_avg_fn(rule.decay)
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(steps[0]))])
    averaged = swa_utils.AveragedModel(model, avg_fn=kind)
    for parameters in counting(steps, rule):
        model[0].data[...] = torch.tensor(parameters)
        averaged.update_parameters(model)
    assert callback.n_averaged == int(averaged.n_averaged)
    np.testing.assert_allclose(net.parameters, averaged.module[0].detach(), rtol=0, atol=CLOSE[dtype])
    callback.swap(net)
    np.testing.assert_array_equal(net.parameters, steps[-1])


@each_average
def test_training_is_not_changed(make, backend, dtype, rows):
    nets = [network(backend, dtype) for _ in range(2)]
    fitted(nets[0], rows)
    fitted(nets[1], rows, callbacks=[make(restore=False)])
    np.testing.assert_array_equal(nets[1].parameters, nets[0].parameters)
    np.testing.assert_array_equal(nets[1].history.loss, nets[0].history.loss)


@each_average
@each_batch
@pytest.mark.parametrize("n_validation", [3, 500])
def test_validation_measures_the_average(make, batch_size, n_validation, backend, dtype, rows, rng):
    """With its penalties, once there is one; the metrics of both sets too, and not where that is not asked for."""
    others = rng.normal(size=(n_validation, 3)), rng.normal(size=n_validation)
    net, own, callback = network(backend, dtype), {}, make()

    def look(network, epoch, logs):
        network._run.note_average()
        swaps = callback.n_averaged > 0
        if swaps:
            callback.swap(network)
        own[epoch] = (
            network.loss(*others),
            network.evaluate(*rows, metrics="mean_absolute_error")["mean_absolute_error"],
        )
        if swaps:
            callback.swap(network)

    settings = {"validation_data": others, "batch_size": batch_size, "metrics": "mean_absolute_error"}
    history = fitted(net, rows, callbacks=[callback, LambdaCallback(on_epoch_end=look)], **settings)
    losses, errors = zip(*own.values(), strict=True)
    np.testing.assert_allclose(history["val_loss"], losses, rtol=10 * CLOSE[dtype])
    np.testing.assert_array_equal(history["mean_absolute_error"], errors)
    plain, beside = (
        fitted(network(backend, dtype), rows, callbacks=more, **settings) for more in ([], [make(evaluate=False)])
    )
    for name in plain:
        np.testing.assert_array_equal(beside[name], plain[name])


@each_average
def test_a_tiny_batch_leaves_no_lanes_to_what_measures_the_average(make, backend, dtype, rng):
    """Without an average, validation rows go through the network beside those of the next step."""
    layers = [bp.Dense(2, "tanh"), bp.Dense(1)]
    rows, others = ((rng.normal(size=(n, 3)), rng.normal(size=n)) for n in (1, 1))
    settings = {"validation_data": others, "batch_size": None}
    histories = [
        fitted(network(name, dtype, layers), rows, callbacks=[make()], **settings) for name in (backend, "reference")
    ]
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=10 * CLOSE[dtype])


@pytest.mark.parametrize("monitor", ["val_loss", "val_mean_absolute_error"])
def test_early_stopping_keeps_the_best_average(monitor, backend, dtype, rows, rng):
    """By the core's rule and by the callback's own; after it, the parameters of the last step are still there."""
    others = rng.normal(size=(9, 3)), rng.normal(size=9)
    seen, callback = {}, EMA(decay=0.8)
    stopping = EarlyStopping(monitor, patience=3, restore_best=True)
    keep = LambdaCallback(
        on_epoch_end=lambda network, epoch, logs: seen.update({epoch: network._run.evaluated().copy()})
    )
    net = network(backend, dtype)
    for callbacks in ([callback, stopping, keep], [stopping, keep, callback]):
        net = network(backend, dtype)
        fitted(net, rows, epochs=300, validation_data=others, metrics="mean_absolute_error", callbacks=callbacks)
        assert net.history.stop_reason == "tolerance"
        np.testing.assert_array_equal(net.parameters, seen[stopping.best_epoch])
        measured = net.evaluate(*others, metrics="mean_absolute_error")
        name = "loss" if monitor == "val_loss" else "mean_absolute_error"
        assert measured[name] == pytest.approx(stopping.best, rel=CLOSE[dtype] * 10)


# --- across the end of calls ---------------------------------------------------------------------------------------


@each_average
@pytest.mark.parametrize("batch_size", [3, None])
@pytest.mark.parametrize("evaluate", [True, False])
def test_a_checkpoint_goes_on_bit_for_bit(make, batch_size, evaluate, backend, dtype, rows, tmp_path):
    """After an interruption, and after the end, when the network has the average."""
    settings = {"batch_size": batch_size, "validation_data": rows}
    callback, whole = make(evaluate=evaluate), network(backend, dtype)
    fitted(whole, rows, callbacks=[callback], **settings)

    def stop(network, epoch, logs):
        if epoch == 4:
            raise KeyboardInterrupt

    class Stop(bp.callbacks.Callback):
        def on_epoch_end(self, network, epoch, logs):
            stop(network, epoch, logs)

    net, path = network(backend, dtype), tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fitted(net, rows, callbacks=[make(evaluate=evaluate), Checkpoint(path), Stop()], **settings)
    for reread in (False, True):
        twin, again = bp.resume(path, backend=backend) if reread else net.copy(), make(evaluate=evaluate)
        fitted(twin, rows, callbacks=[again], resume=True, **settings)
        np.testing.assert_array_equal(twin.parameters, whole.parameters)
        np.testing.assert_array_equal(twin.history["val_loss"], whole.history["val_loss"])
        assert (again.n_averaged, again.swapped) == (callback.n_averaged, callback.swapped)


def test_more_epochs_than_before(backend, dtype, rows, tmp_path):
    """A run that is over, with the average in its network, goes on from the parameters of its last step."""
    whole, net, path = network(backend, dtype), network(backend, dtype), tmp_path / "run.safetensors"
    fitted(whole, rows, callbacks=[SWA(start=2)])
    fitted(net, rows, callbacks=[SWA(start=2), Checkpoint(path)], epochs=5)
    for twin in (net, bp.resume(path, backend=backend)):
        fitted(twin, rows, callbacks=[SWA(start=2), Checkpoint(path)], resume=True)
        np.testing.assert_array_equal(twin.parameters, whole.parameters)


def test_each_call_begins_a_new_average(backend, rows):
    net, callback = network(backend), EMA(decay=0.9)
    fitted(net, rows, callbacks=[callback])
    assert callback.n_averaged == 3 * EPOCHS
    fitted(net, rows, callbacks=[callback], epochs=1)
    assert callback.n_averaged == 3
    fitted(net, rows, epochs=1)
    with pytest.raises(ValueError, match="swap: needs the network, or the fleet, whose training"):
        callback.swap(net)


def test_an_interruption_keeps_the_last_parameters(backend, rows):
    """And so does a start that never comes."""
    net, twin = network(backend), network(backend)

    class Stop(bp.callbacks.Callback):
        def on_epoch_end(self, network, epoch, logs):
            if epoch == 3:
                raise ZeroDivisionError

    callback = EMA(decay=0.9)
    with pytest.raises(ZeroDivisionError):
        fitted(net, rows, callbacks=[callback, Stop()])
    fitted(twin, rows, epochs=3)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    callback.swap(net)
    assert (net.parameters != twin.parameters).any()
    net, callback = network(backend), SWA(start=EPOCHS)
    fitted(net, rows, callbacks=[callback])
    assert (callback.n_averaged, callback.swapped) == (0, False)
    with pytest.raises(ValueError, match="swap: needs an average"):
        callback.swap(net)


def test_divergence_keeps_the_last_finite_parameters(backend, dtype, rows):
    wild = bp.SGD(learning_rate={"float32": 1e10, "float64": 1e80}[dtype])
    nets = [network(backend, dtype) for _ in range(2)]
    for net, callbacks in zip(nets, ([], [EMA(decay=0.9)]), strict=True):
        with np.errstate(all="ignore"):
            fitted(net, rows, optimizer=wild, on_divergence="stop", epochs=50, callbacks=callbacks)
        assert net.history.stop_reason == "diverged"
    np.testing.assert_array_equal(nets[1].parameters, nets[0].parameters)


# --- the same bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [2, 3])
def test_any_number_of_threads(n_threads, backend, dtype, rng, monkeypatch):
    monkeypatch.setenv("BACKPROP_THREADS", "fixed")
    X, y = rng.normal(size=(600, 40)), rng.normal(size=(600, 2))
    found = []
    for n in (1, n_threads):
        net = bp.mlp([40, 96, 64, 2], dtype=dtype, seed=0, backend=backend)
        history = net.fit(
            X, y, epochs=2, batch_size=200, n_threads=n, callbacks=[EMA(decay=0.9)], validation_data=(X[:300], y[:300])
        )
        found.append((net.parameters.copy(), history["val_loss"]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# --- losses of one's own, weights of outputs, arguments ------------------------------------------------------------


def test_a_loss_of_one_s_own(backend, rows):
    def own(outputs, targets):
        return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size

    nets = [network(backend) for _ in range(2)]
    for net, loss in zip(nets, (own, "squared_error"), strict=True):
        fitted(net, rows, loss=loss, callbacks=[EMA(decay=0.9)], validation_data=rows)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-9)
    np.testing.assert_allclose(nets[0].history["val_loss"], nets[1].history["val_loss"], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: EMA(decay=1.0), "decay: needs"),
        (lambda: EMA(decay="0.9"), "decay: needs"),
        (lambda: SWA(start=1.5), "start: needs a number of epochs, an integer >= 0, or a share of them"),
        (lambda: SWA(start="half"), "start: needs a number of epochs, an integer >= 0, or a share of them"),
        (lambda: SWA(start=-1), "start: needs"),
        (lambda: EMA(every_steps=0), "every_steps: needs"),
        (lambda: EMA(evaluate=1), "evaluate: needs"),
        (lambda: SWA(restore="yes"), "restore: needs"),
    ],
)
def test_arguments_are_checked(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_one_average_in_a_run(backend, rows):
    with pytest.raises(ValueError, match="callbacks: needs at most one that averages the parameters, got 2"):
        fitted(network(backend), rows, callbacks=[EMA(), SWA()])


def test_what_is_resumed_must_have_averaged_as_well(backend, rows):
    net = network(backend)
    fitted(net, rows, epochs=2)
    with pytest.raises(ValueError, match="which did not average the parameters"):
        fitted(net, rows, resume=True, callbacks=[EMA()])
    net = network(backend)
    fitted(net, rows, epochs=2, callbacks=[EMA()])
    with pytest.raises(ValueError, match="which averaged the parameters"):
        fitted(net, rows, resume=True)


@pytest.mark.parametrize("epochs", [EPOCHS, 2], ids=["stopped early", "all epochs"])
def test_a_run_that_is_over_tells_what_was_averaged(epochs, backend, rows, tmp_path):
    def callbacks():
        return [EMA(decay=0.9), EarlyStopping("loss", patience=2, min_delta=1e6)]

    net, (given, stopping) = network(backend), callbacks()
    fitted(net, rows, epochs=epochs, callbacks=[given, stopping])
    net.save_checkpoint(tmp_path / "run.safetensors")
    net, (average, rule) = bp.resume(tmp_path / "run.safetensors", backend=backend), callbacks()
    fitted(net, rows, epochs=epochs, callbacks=[average, rule], resume=True)
    assert (average.n_averaged, average.swapped, rule.best) == (given.n_averaged, True, stopping.best)
    parameters = net.parameters.copy()
    average.swap(net)
    assert not average.swapped
    assert (net.parameters != parameters).any()


@pytest.mark.parametrize("method", ["lbfgs", "lm", "CG"])
def test_no_swap_after_minimize(method, rows, tmp_path):
    """The average is that of steps which the parameters no longer come from."""
    if method == "CG":
        pytest.importorskip("scipy")
    net, average = network(None, layers=[bp.Dense(1)]), EMA(decay=0.9)
    fitted(net, rows, callbacks=[average])
    with pytest.raises(ValueError, match=r"^parameters: needs a start"), np.errstate(all="ignore"):
        net.minimize(rows[0], 1e200 * rows[1], loss="squared_error", method=method)
    average.swap(net)  # what was refused has changed nothing
    net.minimize(*rows, method=method)
    net.save_checkpoint(tmp_path / "run.safetensors")
    for each in (net, bp.resume(tmp_path / "run.safetensors"), net.copy()):
        before = each.parameters.copy()
        with pytest.raises(ValueError, match=r"^swap: needs the parameters .* but minimize has changed them since$"):
            average.swap(each)
        np.testing.assert_array_equal(each.parameters, before)
    fitted(net, rows, callbacks=[average])
    average.swap(net)
