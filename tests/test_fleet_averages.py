"""Averages of the parameters in fleets and estimators: each member's is that of the network alone, to the last bit."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backprop.callbacks import Checkpoint, EarlyStopping, ReduceLROnPlateau
from backprop.callbacks import ExponentialMovingAverage as EMA
from backprop.callbacks import StochasticWeightAveraging as SWA
from backprop.learn import pace

SIZE, EPOCHS = 21, 9
LAYERS = [bp.Dense(6, "tanh", dropout=0.2, l2=0.01), bp.Dense(1)]
PLAIN = [bp.Dense(5, "tanh"), bp.Dense(1, l1=0.001)]
AVERAGES = {
    "ema": lambda **more: EMA(decay=0.9, **more),
    "ema, later": lambda **more: EMA(decay=0.7, start=3, every_steps=4, **more),
    "swa": lambda **more: SWA(start=0.25, **more),
    "swa, of every third": lambda **more: SWA(start=1, every_steps=3, **more),
}
each_average = pytest.mark.parametrize("make", AVERAGES.values(), ids=AVERAGES)
ADAM = bp.Adam(learning_rate=0.01)


def rows_of(k, n=None):
    """Rows of one member, as many as its number says."""
    rng = np.random.default_rng(k)
    X = rng.normal(size=(n or 8 + 5 * (k % 4), 3))
    return X, np.sin(X.sum(axis=1)) + 0.1 * rng.normal(size=len(X))


def network(k, backend, dtype="float64", layers=LAYERS):
    return bp.Network(3, layers, dtype=dtype, seed=k, backend=backend)


def fleet_of(backend, dtype="float64", layers=LAYERS, size=SIZE):
    return bp.Fleet(3, layers, size=size, seed=0, dtype=dtype, backend=backend)


def fitted(model, rows, **settings):
    X, y = rows
    if settings.pop("validates", True):
        settings["validation_data"] = settings.get("validation_data", (X, y))
    return model.fit(X, y, **{"optimizer": ADAM, "epochs": EPOCHS, "batch_size": 5} | settings)


def all_rows(size=SIZE):
    X, y = zip(*map(rows_of, range(size)), strict=True)
    return list(X), list(y)


def state_of(net):
    state = net._state
    return {
        "parameters": net.parameters,
        "slots": state.slots,
        "average": state.average,
        "swapped": state.swapped,
        "counters": (state.step, state.epoch, state.cursor, state.best_loss, state.best_epoch, state.stale_epochs),
        "history": [net.history[name] for name in net.history],
    }


def assert_same(member, alone):
    found, wanted = state_of(member), state_of(alone)
    for name in wanted:
        np.testing.assert_equal(found[name], wanted[name], err_msg=name)
    assert member.history.stop_reason == alone.history.stop_reason


def assert_as_alone(fleet, callback, each, **settings):
    """Compare with networks trained alone; `each` makes their callbacks, the first of which averages."""
    for k in range(len(fleet)):
        net, callbacks = network(k, fleet.backend, fleet.dtype, fleet[k].layers), each()
        fitted(net, rows_of(k), callbacks=callbacks, **settings)
        assert_same(fleet[k], net)
        assert (callback.n_averaged[k], callback.swapped[k]) == (callbacks[0].n_averaged, callbacks[0].swapped)


# --- the same bits as alone ----------------------------------------------------------------------------------------


@each_average
@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_members_are_averaged_as_networks(make, batch_size, backend, dtype):
    """Of unequal rows, with shuffling, dropout and penalties."""
    fleet, callback = fleet_of(backend, dtype), make()
    fitted(fleet, all_rows(), batch_size=batch_size, callbacks=[callback], metrics="mean_absolute_error")
    assert_as_alone(fleet, callback, lambda: [make()], batch_size=batch_size, metrics="mean_absolute_error")


@pytest.mark.parametrize("in_lanes", [True, False])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_in_lanes_or_one_by_one_with_any_number_of_threads(in_lanes, n_threads, backend, dtype, monkeypatch):
    fleet, callback = fleet_of(backend, dtype, PLAIN), EMA(decay=0.9, start=1)
    core = fleet._core

    def training(*arguments):
        return core.FleetTraining(*arguments, in_lanes=in_lanes)

    class Forced:
        FleetTraining = staticmethod(training)

        def __getattr__(self, name):
            return getattr(core, name)

    fleet._core = Forced()
    monkeypatch.setattr(pace, "SLICE_SECONDS", 1e-4)
    fitted(fleet, all_rows(), callbacks=[callback], n_threads=n_threads)
    fleet._core = core
    assert_as_alone(fleet, callback, lambda: [EMA(decay=0.9, start=1)])


@pytest.mark.parametrize("evaluate", [True, False])
@pytest.mark.parametrize("restore_best", [True, False])
@pytest.mark.parametrize("monitor", ["val_loss", "loss", "val_mean_absolute_error"])
def test_early_stopping(monitor, restore_best, evaluate, backend, dtype):
    """By the core's rule and by each member's own: members end in different epochs."""

    def each():
        stopping = EarlyStopping(monitor, patience=2, min_delta=0.01, restore_best=restore_best)
        return [EMA(decay=0.8, evaluate=evaluate), stopping]

    settings = {"epochs": 60, "batch_size": None, "metrics": "mean_absolute_error"}
    fleet, callbacks = fleet_of(backend, dtype, PLAIN), each()
    fitted(fleet, all_rows(), callbacks=callbacks, **settings)
    assert len(set(fleet.history.epochs.tolist())) > 3
    assert_as_alone(fleet, callbacks[0], each, **settings)


def test_rates_that_fall(backend, dtype):
    def each():
        return [SWA(start=0.5), ReduceLROnPlateau("val_loss", patience=1, min_delta=0.05)]

    settings = {"schedule": bp.schedules.Cosine(length=30), "epochs": 20}
    fleet, callbacks = fleet_of(backend, dtype), each()
    fitted(fleet, all_rows(), callbacks=callbacks, **settings)
    assert_as_alone(fleet, callbacks[0], each, **settings)


def test_members_that_diverge(backend, dtype):
    """They keep their last finite parameters; the others have their averages."""
    rates = np.full(SIZE, 0.01)
    rates[[3, 8]] = {"float32": 1e10, "float64": 1e80}[dtype]
    settings = {"optimizer": bp.SGD(learning_rate=0.01), "epochs": 40, "on_divergence": "stop"}
    fleet, callback = fleet_of(backend, dtype), EMA(decay=0.9)
    with np.errstate(all="ignore"):
        fitted(fleet, all_rows(), learning_rate=rates, callbacks=[callback], **settings)
        for k in range(SIZE):
            net, own = network(k, backend, dtype), EMA(decay=0.9)
            fitted(net, rows_of(k), callbacks=[own], **settings | {"optimizer": bp.SGD(learning_rate=rates[k])})
            np.testing.assert_array_equal(fleet[k].parameters, net.parameters)
            np.testing.assert_equal(fleet[k].history["val_loss"], net.history["val_loss"])
            assert (callback.n_averaged[k], callback.swapped[k]) == (own.n_averaged, own.swapped)
    assert np.flatnonzero(~callback.swapped).tolist() == [3, 8]


def test_members_of_several_kinds(backend):
    """Shapes, optimizers and penalties: several calls of the core."""
    fleet = bp.Fleet.of([network(k, backend, layers=(LAYERS, PLAIN)[k % 2]) for k in range(8)])
    callback, rows = EMA(decay=0.9), all_rows(8)
    l2 = [0.0, 0.0, 0.1, 0.0] * 2
    fitted(fleet, rows, callbacks=[callback], l2=l2)
    for k in range(8):
        layers = [replace(layer, l2=l2[k]) for layer in (LAYERS, PLAIN)[k % 2]]
        net, own = network(k, backend, layers=layers), EMA(decay=0.9)
        fitted(net, rows_of(k), callbacks=[own])
        np.testing.assert_array_equal(fleet[k].parameters, net.parameters)
        assert callback.n_averaged[k] == own.n_averaged


def test_a_loss_of_one_s_own(backend):
    def own(outputs, targets):
        return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size

    fleet, callback = fleet_of(backend, size=4), EMA(decay=0.9)
    fitted(fleet, all_rows(4), callbacks=[callback], loss=own)
    assert_as_alone(fleet, callback, lambda: [EMA(decay=0.9)], loss=own)


# --- across the end of calls ---------------------------------------------------------------------------------------


class Interrupt(bp.callbacks.Callback):
    """Ctrl-C after so many epochs of some member."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, network, epoch, logs):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@each_average
@pytest.mark.parametrize("batch_size", [5, None])
def test_a_checkpoint_goes_on_bit_for_bit(make, batch_size, backend, dtype, tmp_path):
    settings = {"batch_size": batch_size}
    whole, callback = fleet_of(backend, dtype), make()
    fitted(whole, all_rows(), callbacks=[callback, EarlyStopping(patience=3, restore_best=True)], **settings)
    fleet, path = fleet_of(backend, dtype), tmp_path / "fleet.safetensors"
    callbacks = [make(), EarlyStopping(patience=3, restore_best=True), Interrupt(4)]
    with pytest.raises(KeyboardInterrupt):
        fitted(fleet, all_rows(), callbacks=callbacks, **settings)
    fleet.save_checkpoint(path)
    for twin in (copy.deepcopy(fleet), bp.resume(path, backend=backend), fleet):
        again = make()
        callbacks = [again, EarlyStopping(patience=3, restore_best=True)]
        fitted(twin, all_rows(), callbacks=callbacks, resume=True, **settings)
        for k in range(SIZE):
            assert_same(twin[k], whole[k])
        np.testing.assert_array_equal(again.n_averaged, callback.n_averaged)
        np.testing.assert_array_equal(again.swapped, callback.swapped)


def test_slices_of_no_time(backend, dtype, monkeypatch):
    """The average of a member that is left in the middle of an epoch."""
    whole, fleet, callback = fleet_of(backend, dtype), fleet_of(backend, dtype), SWA(start=2, every_steps=2)
    fitted(whole, all_rows(), callbacks=[SWA(start=2, every_steps=2)])
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    fitted(fleet, all_rows(), callbacks=[callback])
    for k in range(SIZE):
        assert_same(fleet[k], whole[k])


def test_more_epochs_than_before(backend, tmp_path):
    """A run that is over goes on from the parameters of its last step, in the fleet and in a member taken out."""
    whole, fleet, path = fleet_of(backend, size=6), fleet_of(backend, size=6), tmp_path / "fleet.safetensors"
    fitted(whole, all_rows(6), callbacks=[SWA(start=2)])
    fitted(fleet, all_rows(6), callbacks=[SWA(start=2)], epochs=5)
    fleet.save_checkpoint(path)
    for twin in (copy.deepcopy(fleet), bp.resume(path, backend=backend)):
        fitted(twin, all_rows(6), callbacks=[SWA(start=2)], resume=True)
        np.testing.assert_array_equal(twin.parameters, whole.parameters)
    member = fleet[2].copy()
    fitted(member, rows_of(2), callbacks=[SWA(start=2)], resume=True)
    np.testing.assert_array_equal(member.parameters, whole.parameters[2])


def test_networks_become_members_and_members_networks(backend):
    """Half-way, with their averages; one of them has none."""
    nets = [network(k, backend) for k in range(4)]
    whole = [net.copy() for net in nets]
    for k in range(4):
        fitted(whole[k], rows_of(k), callbacks=[EMA(decay=0.9)])
        fitted(nets[k], rows_of(k), callbacks=[EMA(decay=0.9)] if k < 3 else [], epochs=5)
    fleet = bp.Fleet.of(nets)
    with pytest.raises(ValueError, match=r"resume: .* which did not average the parameters \(member 3\)"):
        fitted(fleet, all_rows(4), callbacks=[EMA(decay=0.9)], resume=True)
    with pytest.raises(ValueError, match=r"resume: .* which averaged the parameters \(member 0\)"):
        fitted(fleet, all_rows(4), resume=True)
    part = fleet[[0, 1, 2]]
    fitted(part, all_rows(3), callbacks=[EMA(decay=0.9)], resume=True)
    for k in range(3):
        np.testing.assert_array_equal(part.parameters[k], whole[k].parameters)
        np.testing.assert_array_equal(part[k]._state.average, whole[k]._state.average)


def test_checkpoints_of_members(backend, tmp_path):
    """What a member's own Checkpoint writes is what the network alone writes."""
    fleet = fleet_of(backend, size=3)
    fitted(fleet, all_rows(3), callbacks=[EMA(decay=0.9), Checkpoint(tmp_path / "fleet-{member}")])
    for k in range(3):
        net = network(k, backend)
        fitted(net, rows_of(k), callbacks=[EMA(decay=0.9), Checkpoint(tmp_path / "alone")])
        assert_same(bp.resume(tmp_path / f"fleet-{k}"), bp.resume(tmp_path / "alone"))


def test_swap(backend):
    fleet, last, callback = fleet_of(backend, size=5), fleet_of(backend, size=5), EMA(decay=0.9)
    fitted(last, all_rows(5))
    fitted(fleet, all_rows(5), callbacks=[callback])
    averages = fleet.parameters.copy()
    assert callback.swapped.all()
    callback.swap(fleet)
    assert not callback.swapped.any()
    np.testing.assert_array_equal(fleet.parameters, last.parameters)
    callback.swap(fleet)
    np.testing.assert_array_equal(fleet.parameters, averages)
    for other in (last, fleet[0], fleet[:2]):
        with pytest.raises(ValueError, match="swap: needs the network, or the fleet, whose training"):
            callback.swap(other)
    never = SWA(start=EPOCHS)
    fitted(fleet, all_rows(5), callbacks=[never])
    assert not never.n_averaged.any()
    with pytest.raises(ValueError, match="swap: needs an average"):
        never.swap(fleet)


def test_no_swap_after_minimize():
    fleet, callback = bp.Fleet(3, [bp.Dense(1)], size=5, seed=0), EMA(decay=0.9)
    fitted(fleet, all_rows(5), callbacks=[callback])
    fleet.minimize(*all_rows(5), max_iter=2)
    with pytest.raises(ValueError, match=r"^swap: needs the parameters .* but minimize has changed them since$"):
        callback.swap(fleet)


def test_an_executor_does_the_same(backend):
    callbacks = [EMA(decay=0.9, start=2), EarlyStopping(patience=3)]
    whole = fleet_of(backend)
    fitted(whole, all_rows(), callbacks=callbacks)
    with ThreadPoolExecutor(2) as executor:
        fleet, own = fleet_of(backend), EMA(decay=0.9, start=2)
        fitted(fleet, all_rows(), callbacks=[own, EarlyStopping(patience=3)], executor=executor)
    for k in range(SIZE):
        assert_same(fleet[k], whole[k])
    np.testing.assert_array_equal(own.n_averaged, callbacks[0].n_averaged)
    np.testing.assert_array_equal(own.swapped, callbacks[0].swapped)


@pytest.mark.parametrize("epochs", [EPOCHS, 2], ids=["stopped early", "all epochs"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_over_tells_what_was_found(workers, epochs, backend, tmp_path):
    """And keeps what the callbacks that are not the core's had kept, for a run with more epochs."""

    def callbacks():
        return [EMA(decay=0.9), EarlyStopping(patience=2, min_delta=1e6), EarlyStopping("loss", patience=2)]

    fleet, given = fleet_of(backend, size=5), callbacks()
    fitted(fleet, all_rows(5), epochs=epochs, callbacks=given)
    fleet.save_checkpoint(tmp_path / "run.safetensors")
    fleet, own = bp.resume(tmp_path / "run.safetensors", backend=backend), callbacks()
    kept, parameters = fleet._callbacks, fleet.parameters.copy()
    with ThreadPoolExecutor(workers or 1) as executor:
        executors = {"executor": executor} if workers else {}
        fitted(fleet, all_rows(5), epochs=epochs, callbacks=own, resume=True, **executors)
    for one, other in zip(own, given, strict=True):
        for name in ("n_averaged", "swapped", "best", "best_epoch"):
            np.testing.assert_array_equal(getattr(one, name, None), getattr(other, name, None))
    assert fleet._callbacks == kept
    np.testing.assert_array_equal(fleet.parameters, parameters)
    own[0].swap(fleet)
    assert not own[0].swapped.any()


def test_a_damaged_average_is_seen(backend, tmp_path):
    fleet, path = fleet_of(backend, size=2), tmp_path / "fleet.safetensors"
    fitted(fleet, all_rows(2), callbacks=[EMA()])
    fleet._groups[0].state.averaged[1] = 7
    fleet.save_checkpoint(path)
    with pytest.raises(ValueError, match="averaged: needs numbers from 0 to 2"):
        bp.resume(path)
