"""Members of a fleet are trained, bit for bit, as networks alone, whatever happens to the others."""

import copy
import pickle
import signal
import threading
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import backprop as bp
import numpy as np
import pytest
from backends import COMPILED, LOSS_VARIANTS, OPTIMIZER_VARIANTS, hidden_activations, label, make_problem, outputs_of
from backprop.base import fleet_history, random
from backprop.base.fleet import MEMBER
from backprop.learn import fleet_part, fleet_run, pace

SIZE = 5
N_ROWS = (20, 7, 31, 4, 12)


def layers(**settings):
    return [bp.Dense(5, "tanh", **settings), bp.Dense(1)]


@pytest.fixture
def kind(backend, dtype):
    return {"backend": backend, "dtype": dtype}


@pytest.fixture
def unequal(rng):
    X = [rng.normal(size=(n, 3)) for n in N_ROWS]
    return X, [np.sin(rows.sum(axis=1)) for rows in X]


@pytest.fixture
def equal(rng):
    X = rng.normal(size=(SIZE, 14, 3))
    return X, np.sin(X.sum(axis=2))


def both(kind, dense=None, seed=3):
    """A fleet, and its members as networks of their own."""
    dense = layers() if dense is None else dense
    fleet = bp.Fleet(3, dense, size=SIZE, seed=seed, **kind)
    return fleet, [bp.Network(3, dense, seed=seed + k, **kind) for k in range(SIZE)]


def assert_same(fleet, networks):
    """Each member equals its network: parameters, state and history, to the last bit."""
    for k, network in enumerate(networks):
        member = fleet[k]
        np.testing.assert_array_equal(member.parameters, network.parameters)
        assert list(member.history) == list(network.history)
        for name in network.history:
            np.testing.assert_array_equal(member.history[name], network.history[name])
        assert member.history.stop_reason == network.history.stop_reason
        ours, theirs = member._state, network._state
        for name in ("step", "epoch", "cursor", "loss_sum", "weight_sum", "best_loss", "best_epoch", "stale_epochs"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.rate_scale == theirs.rate_scale
        np.testing.assert_array_equal(ours.slots, theirs.slots)
        assert ours.bit_generator.state == theirs.bit_generator.state


# --- making them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["auto", "lecun_normal", "ones", 0.5])
def test_members_begin_as_networks(init, kind):
    dense = [bp.Dense(4, "prelu", weight_init=init), bp.Dense(2, "softmax", weight_init="glorot_normal", bias_init=0.1)]
    fleet, networks = both(kind, dense, seed=2**32 - 2)
    for k, network in enumerate(networks):
        np.testing.assert_array_equal(fleet.parameters[k], network.parameters)
    assert fleet.seeds == tuple(network.seed for network in networks)
    assert fleet.layers == tuple(dense)
    assert len(fleet) == SIZE
    assert fleet.n_parameters == SIZE * networks[0].n_parameters


def test_seeds():
    seeds = [7, 2**63, 0, 2**140, 7]
    fleet = bp.Fleet(2, [bp.Dense(1)], seed=seeds)
    assert fleet.seeds == tuple(seeds)
    for k, seed in enumerate(seeds):
        np.testing.assert_array_equal(fleet.parameters[k], bp.Network(2, [bp.Dense(1)], seed=seed).parameters)
    fresh = bp.Fleet(2, [bp.Dense(1)], size=2)
    np.testing.assert_array_equal(bp.Fleet(2, [bp.Dense(1)], seed=list(fresh.seeds)).parameters, fresh.parameters)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "size: needs the number of members"),
        ({"size": 0}, "size: needs an integer >= 1"),
        ({"size": 3, "seed": [1, 2]}, "seed: needs one for each of the 3 members, got 2"),
        ({"seed": "abc"}, "seed: needs an integer, None or a sequence"),
        ({"seed": [1, -2]}, r"seed\[1\]: needs an integer >= 0"),
        ({"size": 2, "dtype": "int8"}, "dtype: needs"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        bp.Fleet(2, [bp.Dense(1)], **arguments)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 8])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_unequal_rows(batch_size, dropout, kind, unequal):
    fleet, networks = both(kind, layers(dropout=dropout, l2=1e-3))
    settings = {"epochs": 3, "batch_size": batch_size, "optimizer": bp.Adam(learning_rate=0.02)}
    for _ in range(2):  # the second call goes on
        fleet.fit(*unequal, **settings)
        for k, network in enumerate(networks):
            network.fit(unequal[0][k], unequal[1][k], **settings)
        assert_same(fleet, networks)
    assert fleet.history["loss"].shape == (6, SIZE)


@pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
def test_every_optimizer_with_rates_of_each_member(optimizer, backend, equal):
    kind = {"backend": backend, "dtype": "float32"}
    fleet, networks = both(kind)
    rates = np.geomspace(1e-3, 1e-2, SIZE)
    fleet.fit(*equal, optimizer=optimizer, learning_rate=rates, epochs=3, batch_size=5, clip_norm=1.0)
    for k, network in enumerate(networks):
        own = replace(optimizer, learning_rate=rates[k])
        network.fit(equal[0][k], equal[1][k], optimizer=own, epochs=3, batch_size=5, clip_norm=1.0)
        assert fleet[k]._optimizer == own
    assert_same(fleet, networks)


@pytest.mark.parametrize("loss", bp.losses.LOSSES)
def test_every_loss(loss, kind, rng):
    rule = bp.losses.LOSSES[loss]
    dense = [bp.Dense(4, "relu"), bp.Dense(1 if rule.elementwise else 3, rule.scores_of or "identity")]
    X = rng.normal(size=(SIZE, 11, 3))
    y = rng.integers(0, 2 if rule.elementwise else 3, (SIZE, 11))
    if rule.target_values == (-1, 1):
        y = 2 * y - 1
    elif rule.targets_above:
        y = y + 1
    weight = rng.uniform(0.1, 2, (SIZE, 11))
    fleet, networks = both(kind, dense)
    settings = {"loss": loss, "epochs": 3, "batch_size": 4, "validation_split": 0.2}
    fleet.fit(X, y, sample_weight=weight, **settings)
    for k, network in enumerate(networks):
        network.fit(X[k], y[k], sample_weight=weight[k], **settings)
    assert_same(fleet, networks)
    assert fleet.loss(X, y, loss).tolist() == [network.loss(X[k], y[k], loss) for k, network in enumerate(networks)]


@pytest.mark.parametrize("own_targets", [False, True])
def test_shared_rows(own_targets, kind, rng):
    X, y, weight = rng.normal(size=(9, 3)), rng.normal(size=(SIZE, 9, 1)), rng.uniform(size=(SIZE, 9))
    fleet, networks = both(kind)
    settings = {"epochs": 3, "batch_size": 4}
    if own_targets:
        fleet.fit(X, y, sample_weight=weight, validation_data=(X, y[:, :, 0]), **settings)
    else:
        fleet.fit(X, y[0], sample_weight=weight[0], validation_data=(X, y[0, :, 0], weight[1]), **settings)
    for k, network in enumerate(networks):
        own = y[k] if own_targets else y[0]
        validation = (X, own) if own_targets else (X, own, weight[1])
        own_weight = weight[k] if own_targets else weight[0]
        network.fit(X, own, sample_weight=own_weight, validation_data=validation, **settings)
    assert_same(fleet, networks)


def test_mixed_settings(kind, equal):
    optimizers = [bp.SGD(learning_rate=0.1, momentum=m, nesterov=m == 0.9) for m in (0.0, 0.5, 0.9, 0.0, 0.8)]
    l2, dropout = [0.0, 0.1, 0.2, 0.0, 0.3], [0.1, 0.0, 0.2, 0.3, 0.1]
    fleet, networks = both(kind)
    for _ in range(2):
        fleet.fit(*equal, optimizer=optimizers, l2=l2, dropout=dropout, l1=1e-3, epochs=2, batch_size=5)
    for k, network in enumerate(networks):
        dense = [
            bp.Dense(5, "tanh", l1=1e-3, l2=l2[k], dropout=dropout[k]), bp.Dense(1, l1=1e-3, l2=l2[k])
        ]  # fmt: skip
        network = bp.Network(3, dense, seed=3 + k, **kind)
        network.fit(equal[0][k], equal[1][k], optimizer=optimizers[k], epochs=4, batch_size=5)
        np.testing.assert_array_equal(fleet.parameters[k], network.parameters)
        np.testing.assert_array_equal(fleet[k]._state.slots, network._state.slots)
        np.testing.assert_array_equal(fleet.history["loss"][:, k], network.history.loss)
    assert fleet.layers == tuple(layers())  # what `fit` was told holds for that call


def test_class_weights_metrics_schedule(kind, rng):
    dense = [bp.Dense(4, "tanh"), bp.Dense(3, "softmax")]
    X = [rng.normal(size=(n, 3)) for n in N_ROWS]
    y = [np.arange(n) % 3 for n in N_ROWS]
    settings = {
        "class_weight": "balanced",
        "metrics": ["accuracy", "f1"],
        "schedule": bp.schedules.Warmup(length=7) * bp.schedules.Cosine(length=5, every="epoch"),
        "validation_split": 0.3,
        "batch_size": 4,
    }
    fleet, networks = both(kind, dense)
    for epochs in (2, 3):
        fleet.fit(X, y, epochs=epochs, **settings)
        for k, network in enumerate(networks):
            network.fit(X[k], y[k], epochs=epochs, **settings)
        assert_same(fleet, networks)
    found = fleet.evaluate(X, y, metrics="accuracy")
    for k, network in enumerate(networks):
        assert {name: values[k] for name, values in found.items()} == network.evaluate(X[k], y[k], metrics="accuracy")


def test_windows_change_nothing(monkeypatch, kind, unequal):
    monkeypatch.setattr(fleet_run, "WINDOW_BYTES", 2 * 8 * SIZE)
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)
    stopping = bp.callbacks.EarlyStopping("loss", patience=1, min_delta=0.05)
    settings = {"epochs": 9, "batch_size": 4, "schedule": bp.schedules.Exponential(decay=0.9)}
    fleet, networks = both(kind)
    fleet.fit(*unequal, callbacks=[stopping], **settings)
    for k, network in enumerate(networks):
        network.fit(unequal[0][k], unequal[1][k], callbacks=[stopping], **settings)
    assert_same(fleet, networks)


def test_a_loss_of_ones_own(kind, unequal):
    def half_squared_error(outputs, targets):
        error = outputs - targets
        return 0.5 * np.mean(error**2), error / error.size

    settings = {"loss": half_squared_error, "epochs": 3, "batch_size": 8, "validation_split": 0.25}
    fleet, networks = both(kind)
    fleet.fit(*unequal, **settings)
    for k, network in enumerate(networks):
        network.fit(unequal[0][k], unequal[1][k], **settings)
    assert_same(fleet, networks)


def test_threads_change_nothing(backend, unequal):
    if backend == "reference":
        pytest.skip("it has one thread")
    found = []
    for n_threads in (1, 2, 3):
        fleet = bp.Fleet(3, layers(), size=SIZE, seed=0, backend=backend)
        fleet.fit(*unequal, epochs=5, batch_size=8, n_threads=n_threads)
        found.append(fleet.parameters)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_settings(seed, kind):
    rng = np.random.default_rng(seed)
    optimizer = OPTIMIZER_VARIANTS[rng.integers(len(OPTIMIZER_VARIANTS))]
    loss = LOSS_VARIANTS[rng.integers(len(LOSS_VARIANTS))]
    n_inputs, n_outputs, n_rows = rng.integers(1, 6), rng.integers(2, 4), int(rng.integers(5, 40))
    sizes = rng.integers(1, 12, rng.integers(3))
    dense = [
        bp.Dense(
            int(units), str(rng.choice(hidden_activations())), dropout=rng.choice([0, 0.2]), l2=rng.choice([0, 0.1])
        )
        for units in sizes
    ]
    dense.append(bp.Dense(int(n_outputs), str(rng.choice(outputs_of(loss)))))
    problems = [make_problem(int(n_inputs), dense, loss, n_rows - k % 2, seed=k) for k in range(SIZE)]
    rows = [[problem.data[part] for problem in problems] for part in range(3)]
    settings = {
        "loss": loss, "epochs": int(rng.integers(1, 5)), "batch_size": [None, 1, 4, 16][rng.integers(4)],
        "validation_split": [0.0, 0.3][rng.integers(2)], "clip_value": [None, 0.5][rng.integers(2)],
        "on_divergence": "stop", "shuffle": bool(rng.integers(2)),
    }  # fmt: skip
    rates = 10 ** rng.uniform(-4, 0, SIZE)
    fleet = bp.Fleet(int(n_inputs), dense, size=SIZE, seed=seed, **kind)
    fleet.fit(rows[0], rows[1], sample_weight=rows[2], optimizer=optimizer, learning_rate=rates, **settings)
    networks = [bp.Network(int(n_inputs), dense, seed=seed + k, **kind) for k in range(SIZE)]
    for k, network in enumerate(networks):
        own = replace(optimizer, learning_rate=rates[k])
        network.fit(rows[0][k], rows[1][k], sample_weight=rows[2][k], optimizer=own, **settings)
    assert_same(fleet, networks)


@pytest.mark.skipif(not COMPILED, reason="it takes too long")
def test_no_objects_for_each_member():
    size, epochs = 10_000, 2
    X, y = np.zeros((size, 3, 2), np.float32), np.zeros((size, 3), np.float32)
    fleet = bp.Fleet(2, [bp.Dense(4, "relu"), bp.Dense(1)], size=size, seed=0, backend=COMPILED[0])
    fleet[:2].fit(X[:2], y[:2], epochs=1)  # imports what it needs
    tracemalloc.start()
    fleet.fit(X, y, epochs=epochs, learning_rate=np.full(size, 0.1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    moments, records, history = 2 * fleet.parameters.nbytes, MEMBER.itemsize * size, 8 * epochs * size
    assert peak < moments + records + history + 300 * size + (1 << 20)


# --- members that end before the others ------------------------------------------------------------------------------


@pytest.mark.parametrize("restore_best", [False, True])
def test_early_stopping(restore_best, kind, unequal):
    fleet, networks = both(kind)
    settings = {"epochs": 60, "batch_size": 4, "validation_split": 0.25, "optimizer": bp.Adam(learning_rate=0.05)}
    stopping = bp.callbacks.EarlyStopping("val_loss", patience=3, restore_best=restore_best)
    history = fleet.fit(*unequal, callbacks=[stopping], **settings)
    for k, network in enumerate(networks):
        own = bp.callbacks.EarlyStopping("val_loss", patience=3, restore_best=restore_best)
        network.fit(unequal[0][k], unequal[1][k], callbacks=[own], **settings)
        assert (stopping.best[k], stopping.best_epoch[k]) == (own.best, own.best_epoch)
    assert_same(fleet, networks)
    assert len(set(history.epochs.tolist())) > 1
    for k in range(SIZE):  # NaN after the end
        np.testing.assert_array_equal(
            np.isnan(history["loss"][:, k]), np.arange(len(history.loss)) >= history.epochs[k]
        )
    fleet.fit(*unequal, epochs=2)  # each goes on where it was
    for k, network in enumerate(networks):
        network.fit(unequal[0][k], unequal[1][k], epochs=2)
    assert_same(fleet, networks)


@pytest.mark.parametrize("schedule", [None, bp.schedules.Exponential(decay=0.99)])
def test_reduced_rates(schedule, kind, unequal):
    def lower():
        return bp.callbacks.ReduceLROnPlateau("loss", patience=2, factor=0.5, cooldown=1, min_rate=0.01, stop_rate=0.03)

    rates = [0.1, 0.2, 0.3, 0.05, 0.02]
    fleet, networks = both(kind)
    fleet.fit(*unequal, learning_rate=rates, epochs=40, batch_size=8, callbacks=[lower()], schedule=schedule)
    for k, network in enumerate(networks):
        adam = bp.Adam(learning_rate=rates[k])
        settings = {"optimizer": adam, "epochs": 40, "batch_size": 8, "callbacks": [lower()], "schedule": schedule}
        network.fit(unequal[0][k], unequal[1][k], **settings)
    assert_same(fleet, networks)
    assert "tolerance" in fleet.history.stop_reason


class Halve(bp.callbacks.Plateau):
    """A rule of one's own: the core finds where it fires, Python does what it wants."""

    scales_learning_rate = True

    def on_plateau(self, network, epoch, logs):
        if epoch > 15:
            network.stop("enough")
        network.scale_learning_rate(0.5)


@pytest.mark.parametrize("monitor", ["loss", "mean_absolute_error"])
def test_plateaus_of_ones_own(monitor, kind, unequal):
    settings = {
        "epochs": 30,
        "batch_size": 8,
        "metrics": "mean_absolute_error",
        "optimizer": bp.Adam(learning_rate=0.2),
    }
    fleet, networks = both(kind)
    rule = Halve(monitor, patience=2)
    fleet.fit(*unequal, callbacks=[rule], **settings)
    for k, network in enumerate(networks):
        own = Halve(monitor, patience=2)
        network.fit(unequal[0][k], unequal[1][k], callbacks=[own], **settings)
        assert (rule.best[k], rule.best_epoch[k]) == (own.best, own.best_epoch)
    assert_same(fleet, networks)


RATES = {"at once": (0.1, 1e200, 0.05, 1e8, 0.1), "later": (0.01, 50.0, 0.3, 1e9, 3.0)}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # in metrics of what diverges
@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
@pytest.mark.parametrize("watched", [False, True])
def test_divergence(rates, watched, kind, equal):
    settings = {"epochs": 20, "batch_size": 5, "metrics": "r2" if watched else ()}
    if watched:
        settings["callbacks"] = [bp.callbacks.EarlyStopping("loss", patience=50, restore_best=True)]
    fleet, networks = both(kind)
    errors = {}
    for k, network in enumerate(networks):
        try:
            network.fit(equal[0][k], equal[1][k], optimizer=bp.SGD(learning_rate=rates[k]), **settings)
        except bp.DivergedError as error:
            errors[k] = error
    assert errors
    with pytest.raises(bp.FleetDivergedError) as caught:
        fleet.fit(*equal, optimizer="sgd", learning_rate=rates, **settings)
    assert caught.value.members == tuple(errors)
    assert {k: repr(each) for k, each in caught.value.errors.items()} == {k: repr(each) for k, each in errors.items()}
    assert str(next(iter(errors.values()))) in str(caught.value)
    counted = "1 member diverged (" if len(errors) == 1 else f"{len(errors)} members diverged ("
    assert str(caught.value).startswith(counted)
    assert_same(fleet, networks)


@pytest.mark.parametrize("rate", [1e100, 1e30, 1e160])
def test_a_member_that_diverges_among_few_is_as_if_it_were_alone(rate):
    """In the middle of its epoch the others have ended, so that it goes on by itself."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(n, 3)) for n in [16] * 7 + [64]]
    y = [rows.sum(axis=1) for rows in X]
    layers = [bp.Dense(4, "relu"), bp.Dense(1)]
    settings = {"epochs": 2, "batch_size": 4, "optimizer": bp.SGD(learning_rate=rate), "on_divergence": "stop"}
    fleet = bp.Fleet(3, layers, size=8, seed=0, dtype="float64")
    fleet.fit(X, y, **settings)
    for k in range(8):
        network = bp.Network(3, layers, seed=k, dtype="float64")
        network.fit(X[k], y[k], **settings)
        assert np.isfinite(network.parameters).all()
        assert fleet[k].parameters.tobytes() == network.parameters.tobytes()
        np.testing.assert_array_equal(fleet.history.of(k)["loss"], network.history["loss"])


def test_divergence_need_not_raise(kind, equal):
    fleet, _ = both(kind)
    settings = {"optimizer": "sgd", "learning_rate": [0.1, 1e200, 0.1, 0.1, 0.1], "epochs": 3}
    fleet.fit(*equal, on_divergence="stop", **settings)
    assert fleet.history.stop_reason.tolist() == ["epochs", "diverged", "epochs", "epochs", "epochs"]
    assert np.isfinite(fleet.parameters).all()
    fleet, _ = both(kind)
    fleet.fit(*equal, callbacks=[bp.callbacks.TerminateOnNaN()], **settings)
    assert fleet.history.stop_reason[1] == "diverged"


def test_stopping_members(kind, equal):
    fleet, _ = both(kind)

    def stop(network, epoch, logs):
        if network.seed == 4 and epoch == 2:
            network.stop("enough")
        if epoch == 3:
            fleet.stop([0, 2], "more than enough")

    fleet.fit(*equal, epochs=5, callbacks=[bp.callbacks.LambdaCallback(on_epoch_end=stop)])
    assert fleet.history.epochs.tolist() == [3, 2, 3, 5, 5]
    reasons = ["more than enough", "enough", "more than enough", "epochs", "epochs"]
    assert fleet.history.stop_reason.tolist() == reasons
    assert not fleet.stop()
    with pytest.raises(IndexError, match=r"^members: needs a number, a slice, a list of numbers or a mask for"):
        fleet.stop([99])
    with pytest.raises(TypeError, match=r"^reason: needs a text, got None"):
        fleet.stop(reason=None)


def test_auto_counts_all_epochs_up_to_a_stop_of_all_members(equal, monkeypatch):
    seen = []
    monkeypatch.setattr("backprop.base.threads.choose", lambda n, flops, most: seen.append(flops) or 1)
    for epochs, settings in (
        (1, {}), (50, {}), (50, {"tolerance": 1e-9}), (50, {"metrics": ["r2"]}), (50, {"log": lambda *_: None}),
    ):  # fmt: skip
        bp.Fleet(3, layers(), size=SIZE).fit(*equal, epochs=epochs, **settings)
    assert seen == [times * seen[0] for times in (1, 50, 50, 1, 1)]


def test_stop_from_another_thread(equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    thread = threading.Timer(0.2, fleet.stop)
    thread.start()
    history = fleet.fit(*equal, epochs=10**9, progress=False)
    thread.join()
    assert set(history.stop_reason) == {"stopped"}


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_callbacks_see_each_member_as_a_network(kind, unequal):
    def recorder(seen):
        def note(name):
            def method(network, *rest):
                logs = dict(rest[-1])
                state = network._state
                row = (name, network.seed, rest[:-1], logs, network.history.epochs, network.history.stop_reason)
                seen.append((*row, network.parameters.tobytes(), state.step, state.epoch))

            return method

        names = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end")
        return bp.callbacks.LambdaCallback(**{name: note(name) for name in names}, every=2)

    settings = {"epochs": 5, "batch_size": 8, "validation_split": 0.25}
    fleet, networks = both(kind)
    together, alone = [], []
    for _ in range(2):  # the second time, epochs count on from 5
        fleet.fit(*unequal, callbacks=[recorder(together)], **settings)
        for k, network in enumerate(networks):
            network.fit(unequal[0][k], unequal[1][k], callbacks=[recorder(alone)], **settings)
    for network in networks:
        ours, theirs = ([row for row in rows if row[1] == network.seed] for rows in (together, alone))
        assert ours == theirs


def test_files_of_each_member(tmp_path, kind, unequal):
    settings = {"epochs": 4, "batch_size": 8}
    fleet, networks = both(kind)
    saved, logged = tmp_path / "{member}.safetensors", tmp_path / "{member}.csv"
    callbacks = [bp.callbacks.Checkpoint(saved, every=3), bp.callbacks.CSVLogger(logged)]
    fleet.fit(*unequal, callbacks=callbacks, **settings)
    for k, network in enumerate(networks):
        files = tmp_path / "alone.safetensors", tmp_path / "alone.csv"
        own = [bp.callbacks.Checkpoint(files[0], every=3), bp.callbacks.CSVLogger(files[1])]
        network.fit(unequal[0][k], unequal[1][k], callbacks=own, **settings)
        assert (tmp_path / f"{k}.csv").read_text() == files[1].read_text()
        again = bp.resume(tmp_path / f"{k}.safetensors", backend=kind["backend"])
        again.fit(unequal[0][k], unequal[1][k], epochs=2, batch_size=8)
        network.fit(unequal[0][k], unequal[1][k], epochs=2, batch_size=8)
        np.testing.assert_array_equal(again.parameters, network.parameters)


def test_paths_need_a_field(unequal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    with pytest.raises(ValueError, match=r"callbacks: CSVLogger needs a path with the field \{member\}"):
        fleet.fit(*unequal, callbacks=[bp.callbacks.CSVLogger("log.csv")])


def test_log(equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    seen = []
    fleet.fit(*equal, epochs=2, batch_size=7, log=lambda *row: seen.append(row))
    assert [row[:2] for row in seen if row[0] == 3] == [(3, 2), (3, 4)]
    assert seen[-1][2] == {"loss": fleet.history["loss"][-1, seen[-1][0]]}


def test_progress(capsys, equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    fleet.fit(*equal, epochs=4, progress=True)
    assert "20/20" in capsys.readouterr().err
    fleet.minimize(*equal, max_iter=3, progress=True)
    assert f"loss={fleet.history['loss'][-1].mean():.4g}" in capsys.readouterr().err


# --- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 7, 12])
def test_resumed_after_an_exception(at, kind, unequal):
    def stop(network, epoch, logs):
        nonlocal calls
        calls += 1
        if calls == at:
            raise RuntimeError("that is all")

    def all_callbacks():
        return [
            bp.callbacks.EarlyStopping("loss", patience=2, min_delta=0.01, restore_best=True),
            bp.callbacks.ReduceLROnPlateau("mean_absolute_error", patience=1),
        ]

    calls = 0
    settings = {"epochs": 8, "batch_size": 8, "metrics": "mean_absolute_error", "optimizer": bp.Adam(learning_rate=0.1)}
    fleet, networks = both(kind)
    watch = bp.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(RuntimeError, match="that is all"):
        fleet.fit(*unequal, callbacks=[*all_callbacks(), watch], **settings)
    assert "interrupted" in fleet.history.stop_reason
    fleet = pickle.loads(pickle.dumps(fleet))
    fleet.fit(*unequal, callbacks=all_callbacks(), resume=True, **settings)
    for k, network in enumerate(networks):
        network.fit(unequal[0][k], unequal[1][k], callbacks=all_callbacks(), **settings)
    assert_same(fleet, networks)
    fleet.fit(*unequal, callbacks=all_callbacks(), resume=True, **settings)  # it is over
    assert_same(fleet, networks)


def test_ctrl_c_before_the_first_step(monkeypatch, kind, equal):
    def training(self, core, rates):
        signal.raise_signal(signal.SIGINT)

    fleet, networks = both(kind)
    with monkeypatch.context() as patch:
        patch.setattr(fleet_part.Part, "training", training)
        with pytest.raises(KeyboardInterrupt):
            fleet.fit(*equal, epochs=3)
    assert set(fleet.history.stop_reason) == {"interrupted"}
    fleet.fit(*equal, epochs=3, resume=True)
    for k, network in enumerate(networks):
        network.fit(equal[0][k], equal[1][k], epochs=3)
    assert_same(fleet, networks)


def test_ctrl_c_leaves_whole_steps(monkeypatch, kind, unequal):
    settings = {"epochs": 40, "batch_size": 2, "optimizer": bp.Adam(learning_rate=0.01)}
    fleet, networks = both(kind, layers(dropout=0.2))
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0.0)  # every call of the core is one in the middle of epochs
    run, calls = fleet_run.FleetRun.show, 0

    def show(self, now):
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            signal.raise_signal(signal.SIGINT)
        return run(self, now)

    monkeypatch.setattr(fleet_run.FleetRun, "show", show)
    interrupted = 0
    while True:
        try:
            fleet.fit(*unequal, resume=True, **settings)
            break
        except KeyboardInterrupt:
            interrupted += 1
            done = fleet.history.epochs
            assert done.tolist() == fleet._groups[0].state.members["epoch"].tolist()
            assert np.isfinite(fleet.history["loss"]).sum() == done.sum()
        if interrupted == 6:
            fleet = bp.Fleet.of([fleet[k] for k in range(SIZE)])  # in the middle of their epochs
        if interrupted == 9:
            fleet = fleet.copy()
        if interrupted == 12:
            calls = -(10**9)
    assert interrupted > 3
    for k, network in enumerate(networks):
        network.fit(unequal[0][k], unequal[1][k], **settings)
    assert_same(fleet, networks)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer: needs that of the run to be resumed"),
        ({"batch_size": None}, "resume: needs the data and the batch_size of the run to be resumed"),
        ({"callbacks": [bp.callbacks.EarlyStopping("loss", restore_best=True)]}, "resume: needs the callbacks"),
    ],
)
def test_resume_needs_the_same_again(changed, message, equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    fleet.fit(*equal, epochs=2, batch_size=4)
    before = fleet.copy()
    with pytest.raises(ValueError, match=message):
        fleet.fit(*equal, **{"epochs": 4, "batch_size": 4, "resume": True, **changed})
    np.testing.assert_array_equal(fleet.parameters, before.parameters)


# --- what they are given ---------------------------------------------------------------------------------------------


def test_wrong_rows(equal):
    X, y = equal
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    bad = X.copy()
    bad[2, 4, 1] = np.nan
    wrong = [
        ((bad, y), {}, r"X\[2\]: needs finite numbers, got nan at X\[2\]\[4, 1\]"),
        ((list(bad), y), {}, r"X\[2\]: needs finite numbers"),
        ((X[:3], y), {}, r"X: needs rows for each of the 5 members, got shape \(3, 14, 3\)"),
        ((list(X[:3]), y), {}, "X: needs an array for each of the 5 members, got 3"),
        ((X[:, :, :2], y), {}, r"X\[0\]: needs 3 columns, got 2"),
        ((X, y[:, :5]), {}, r"y\[0\]: needs one row for each of the 14 rows"),
        ((X, y[:3]), {}, "y: needs rows for each of the 5 members, as X, got 3"),
        ((X, None), {}, "y: needs rows for each of the 5 members"),
        ((X, y), {"sample_weight": np.ones(14)}, "sample_weight: needs rows for each of the 5 members"),
        ((X, y), {"sample_weight": -np.ones((5, 14))}, r"sample_weight\[0\]: needs weights >= 0"),
        ((X, y), {"sample_weight": np.eye(5, 14)[[0, 1, 2, 3, 3]] * [[1], [1], [0], [1], [1]]}, r"sample_weight\[2\]"),
        (([X[0, :, 0], *X[1:]], y), {}, r"X\[0\]: needs a 2-D array"),
        (([None, *X[1:]], y), {}, r"X\[0\]: needs an array of real numbers"),
        (([[1, 2, 3], [1]], y), {}, "X: needs a rectangular array"),
        ((X, [*y[:4].tolist(), [1.0]]), {}, r"y\[4\]: needs one row for each of the 14 rows"),
        ((X[0], [1.0, [2.0]]), {}, "y: needs a rectangular array"),
        (
            (X[0], np.where(np.arange(5)[:, None] == 3, np.nan, y)),
            {},
            r"y\[3\]: needs finite numbers, .* y\[3\]\[0, 0\]",
        ),
        ((X[0], y.T), {}, r"y: needs shape .*, got shape \(14, 5\); of each member's own, shape \(5, 14\)"),
        (
            (np.array([*X[:4], X[4, :3]], object), y),
            {},
            r"X: needs a list of arrays, got an array of objects; list\(X\)",
        ),
        ((X[0], y[:3, :, None]), {}, r"y: needs targets for each of the 5 members, got shape \(3, 14, 1\)"),
        ((X[0], y), {"sample_weight": np.ones((3, 14))}, r"sample_weight: needs shape \(5, 14\)"),
        ((X[0], y), {"sample_weight": 1 - 2 * np.eye(5, 14, -1)}, r"sample_weight\[1\]: needs weights >= 0"),
        ((X, y), {"validation_data": (X[0], y[0, :3])}, r"validation_data\[1\]"),
        ((X, y), {"validation_split": 0.99}, r"validation_split: needs at least one row .* \(member 0\)"),
        (([*X[:4], X[4, :1]], [*y[:4], y[4, :1]]), {"validation_split": 0.2}, r"got 0 and 1 \(member 4\)"),
        ((X, y), {"learning_rate": [0.1, 0.2]}, r"learning_rate: needs shape \(5,\)"),
        ((X, y), {"learning_rate": [0.1, [0.2]]}, "learning_rate: needs a rectangular array"),
        ((X, y), {"learning_rate": [0.1, 0.2, 0, 1, 1]}, r"learning_rate\[2\]: needs a number > 0"),
        ((X, y), {"dropout": 1.0}, "dropout: needs a number >= 0 and < 1"),
        ((X, y), {"optimizer": [bp.SGD()] * 4}, "optimizer: needs one, or one for each of the 5 members, got 4"),
        ((X, y), {"optimizer": [bp.SGD()] * 4 + [bp.Adam()]}, r"optimizer\[4\]: needs the class of the first one"),
        ((X, y), {"epochs": 0}, "epochs: needs an integer >= 1"),
        ((X, y), {"n_threads": 0}, "n_threads: needs an integer >= 1"),
        ((X, y), {"callbacks": [bp.callbacks.EarlyStopping("r2")]}, "needs a monitor that is recorded"),
        ((X, y), {"metrics": "accuracy"}, "metrics: accuracy needs"),
    ]
    before = fleet.parameters.copy()
    for rows, settings, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            fleet.fit(*rows, **settings)
    np.testing.assert_array_equal(fleet.parameters, before)
    assert fleet[0]._state is None


@pytest.mark.parametrize("given", [np.asanyarray, list], ids=["array", "list"])
@pytest.mark.parametrize("place", ["X", "y", "own y", "sample_weight", "own weights", "validation_data", "predict"])
def test_masked_rows_are_refused(place, given, equal):
    """What a mask hides is no number to learn from."""
    fleet, (X, y) = bp.Fleet(3, layers(), size=SIZE, seed=0), equal
    masked, masked_y = (given(np.ma.masked_equal(each, each[0].max())) for each in equal)
    rows, settings = (X[0] if "own" in place else X, y), {}
    if place in ("X", "predict"):
        rows = masked, y
    elif place in ("y", "own y"):
        rows = rows[0], masked_y
    elif place == "validation_data":
        settings = {place: (X, masked_y)}
    else:
        settings = {"sample_weight": masked_y}
    with pytest.raises(TypeError, match=r"needs an array without masked values"):
        fleet.predict(masked) if place == "predict" else fleet.fit(*rows, epochs=1, **settings)


def test_what_is_wrong_in_a_fleet_of_several_shapes(equal):
    X, y = equal
    fleet = bp.Fleet.of([bp.mlp([3, *sizes], seed=0) for sizes in ([1], [2, 1], [1], [2, 1], [1])])
    bad = np.where(np.arange(5)[:, None] == 3, np.nan, y)
    weight = np.where(np.arange(5)[:, None] == 3, 0, np.ones((5, 14)))
    wrong = [
        ((X[0], bad), {}, r"y\[3\]: needs finite numbers"),
        ((X[0], y[:3, :, None]), {}, "y: needs targets for each of the 5 members"),
        ((X[0], y), {"sample_weight": np.ones((3, 14))}, r"sample_weight: needs shape \(5, 14\)"),
        ((X[0], y), {"sample_weight": weight}, r"sample_weight\[3\]: needs at least one weight > 0"),
        (([*X[:3], X[3, :1], X[4]], [*y[:3], y[3, :1], y[4]]), {"validation_split": 0.2}, r"\(member 3\)"),
    ]
    for rows, settings, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            fleet.fit(*rows, **settings)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (5, "index: needs a number from -5 to 4, got 5"),
        (-6, "index: needs a number from -5 to 4, got -6"),
        ("a", "index: needs a number, a slice, a list of numbers or a mask for 5 members, got 'a'"),
        (1.0, "index: needs a number, a slice"),
        ([0, 9], "index: needs a number, a slice"),
        (np.ones(2, bool), "index: needs a number, a slice"),
        (slice(2, 2), "index: needs at least one member"),
    ],
)
def test_wrong_index(index, message):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    with pytest.raises(IndexError, match=message):
        fleet[index]
    assert (fleet[-1].seed, fleet[np.int64(0)].seed) == (4, 0)


def test_rows_are_not_changed(kind, equal):
    X, y = (np.asfortranarray(array) for array in equal)
    before = X.copy(), y.copy()
    fleet, _ = both(kind)
    fleet.fit(X, y, epochs=1, validation_split=0.2)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


# --- what they compute -----------------------------------------------------------------------------------------------


def test_predict_evaluate_gradients(kind, equal, unequal):
    dense = [bp.Dense(4, "prelu", l2=0.1), bp.Dense(1, bias=False)]
    fleet, networks = both(kind, dense)
    X, y = equal
    for rows, own in ((X[0], [X[0]] * SIZE), (X, X), (unequal[0], unequal[0])):
        outputs = fleet.predict(rows)
        assert isinstance(outputs, list) == isinstance(rows, list)
        for k, network in enumerate(networks):
            np.testing.assert_array_equal(outputs[k], network.predict(own[k]))
    losses, gradients = fleet.loss_and_gradients(X, y)
    for k, network in enumerate(networks):
        loss, expected = network.loss_and_gradients(X[k], y[k])
        assert loss == losses[k] == fleet.loss(X, y)[k]
        for ours, theirs in zip(gradients, expected, strict=True):
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                assert (a is None and b is None) or (a[k] == b).all()


def test_best(equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    with pytest.raises(ValueError, match="monitor: needs a number of some member's last epoch"):
        fleet.best()
    fleet.fit(*equal, learning_rate=[1e-3, 1e-3, 0.05, 1e-3, 1e-3], epochs=30, metrics="r2")
    assert fleet.best().seed == fleet.best("r2").seed == 2
    with pytest.raises(ValueError, match="monitor: needs one of 'loss', 'r2', got 'val_loss'"):
        fleet.best("val_loss")


# --- members and parts -----------------------------------------------------------------------------------------------


def test_members_share_their_parameters(kind, equal):
    X, y = equal
    fleet, networks = both(kind)
    fleet.fit(X, y, epochs=2, batch_size=5)
    fleet[1].fit(X[1], y[1], epochs=2, batch_size=5)
    networks[1].fit(X[1], y[1], epochs=4, batch_size=5)
    np.testing.assert_array_equal(fleet.parameters[1], networks[1].parameters)
    fleet[-1].parameters = 0.0 * fleet[-1].parameters
    assert not fleet.parameters[-1].any()
    with pytest.raises(IndexError):
        fleet[SIZE]


@pytest.mark.parametrize(
    "index",
    [slice(1, 4), slice(0, 5, 2), slice(None, None, -1), slice(3, 0, -2), [3, 0], np.array([1, 0, 1, 1, 0], bool)],
    ids=str,
)
def test_parts_are_fleets(index, kind, equal):
    X, y = equal
    fleet, networks = both(kind)
    fleet.fit(X, y, epochs=2, batch_size=5)
    part = fleet[index]
    chosen = np.arange(SIZE)[index].tolist()
    assert np.shares_memory(part.parameters, fleet.parameters) == isinstance(index, slice)
    part.fit(X[index], y[index], epochs=2, batch_size=5)
    for k in chosen:
        networks[k].fit(X[k], y[k], epochs=4, batch_size=5)
    assert_same(part, [networks[k] for k in chosen])
    assert part.seeds == tuple(networks[k].seed for k in chosen)


def test_of_networks_goes_on_as_they_would(kind, rng):
    def networks():
        shapes = ([4, 1], [4, 1], [6, 2], [4, 1], [6, 2])
        made = [bp.mlp([3, *sizes], "tanh", seed=k, l2=k * 0.1, **kind) for k, sizes in enumerate(shapes)]
        for k, network in enumerate(made):
            if k:
                network.fit(X[k], y[k], epochs=k, batch_size=4, optimizer=bp.Adam(learning_rate=0.01 * k))
        return made

    X = [rng.normal(size=(n, 3)) for n in N_ROWS]
    y = [rng.normal(size=(n, units)) for n, units in zip(N_ROWS, (1, 1, 2, 1, 2), strict=True)]
    alone = networks()
    fleet = bp.Fleet.of(networks())
    assert len(fleet._groups) == 3  # two shapes, and one network without penalties
    assert_same(fleet[[1, 2, 3, 4]], alone[1:])
    settings = {"epochs": 3, "batch_size": 4, "optimizer": bp.Adam(learning_rate=0.05)}
    fleet.fit(X, y, **settings)
    for k, network in enumerate(alone):
        network.fit(X[k], y[k], **settings)
    assert_same(fleet, alone)
    with pytest.raises(ValueError, match="X: needs a list"):
        fleet.predict(X[0])
    with pytest.raises(ValueError, match="parameters: needs members of one shape"):
        _ = fleet.parameters
    assert [outputs.shape[1] for outputs in fleet.predict(X)] == [1, 1, 2, 1, 2]


def test_append(kind, equal):
    X, y = equal
    fleet, networks = both(kind)
    fleet.fit(X, y, epochs=2, batch_size=5)
    for k in range(SIZE):
        networks[k].fit(X[k], y[k], epochs=2, batch_size=5)
    more = bp.Fleet(3, layers(), size=2, seed=50, **kind)
    fleet.append(bp.Network(3, [bp.Dense(1)], seed=9, **kind))
    fleet.append(more)
    networks += [
        bp.Network(3, [bp.Dense(1)], seed=9, **kind),
        *(bp.Network(3, layers(), seed=50 + k, **kind) for k in (0, 1)),
    ]
    assert fleet.seeds == tuple(network.seed for network in networks)
    X, y = [*X, *X[:3]], [*y, *y[:3]]
    fleet.fit(X, y, epochs=2, batch_size=5)
    for k, network in enumerate(networks):
        network.fit(X[k], y[k], epochs=2, batch_size=5)
    assert_same(fleet, networks)


def test_append_to_members_with_any_seeds():
    fleet = bp.Fleet(3, layers(), seed=[5, 3, 9])[[2, 0]]
    fleet.append(bp.Network(3, layers(), seed=1))
    assert fleet.seeds == (9, 5, 1)
    np.testing.assert_array_equal(fleet[2].parameters, bp.Network(3, layers(), seed=1).parameters)


def test_frozen_layers_are_of_one_shape_whatever_their_biases_would_do(rng, tmp_path):
    """Files of older versions say that biases of a frozen layer are frozen, too."""
    frozen = [bp.Dense(4, "tanh", trainable=False, bias_trainable=trains) for trains in (True, False)]
    networks = [bp.Network(3, [layer, bp.Dense(1)], dtype="float64", seed=k) for k, layer in enumerate(frozen)]
    fleet, (X, y) = bp.Fleet.of(networks), (rng.normal(size=(20, 3)), rng.normal(size=20))
    fleet.append(networks[0])
    fleet.save(tmp_path / "fleet")
    for each in (fleet, bp.load(tmp_path / "fleet")):
        each.fit(X, y, epochs=2)
        assert [member.layers[0] for member in each] == [*frozen, frozen[0]]
        assert each.parameters.shape == (3, 21)
    networks[1].fit(X, y, epochs=2)
    np.testing.assert_array_equal(fleet[1].parameters, networks[1].parameters)


def test_wrong_networks():
    net = bp.Network(2, [bp.Dense(1)])
    for networks, message in (
        ([], "networks: needs at least one"),
        (net, "networks: needs a sequence of networks"),
        ([net, 3], r"networks\[1\]: needs a Network"),
        ([net, bp.Network(2, [bp.Dense(1)], dtype="float64")], r"networks\[1\]: needs float32 .* as the first"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            bp.Fleet.of(networks)


@pytest.mark.parametrize(
    "duplicate",
    [bp.Fleet.copy, copy.copy, lambda fleet: pickle.loads(pickle.dumps(fleet))],
    ids=["method", "copy", "pickle"],
)
def test_copies(duplicate, kind, equal):
    fleet, networks = both(kind)
    stopping = bp.callbacks.EarlyStopping("loss", restore_best=True)
    fleet.fit(*equal, epochs=2, batch_size=5, callbacks=[stopping])
    twin = duplicate(fleet)
    assert not np.shares_memory(twin.parameters, fleet.parameters)
    assert fleet._groups[0].state.parameters is fleet.parameters
    twin.fit(*equal, epochs=2, batch_size=5)
    for k, network in enumerate(networks):
        network.fit(equal[0][k], equal[1][k], epochs=4, batch_size=5)
    assert_same(twin, networks)
    assert (fleet.history.epochs == 2).all()


def test_arrays_of_each_layer(kind):
    fleet, networks = both(kind, [bp.Dense(4, "prelu"), bp.Dense(1, bias=False)])
    for name in ("weights", "biases", "slopes"):
        for layer, together in enumerate(getattr(fleet, name)):
            for k, network in enumerate(networks):
                alone = getattr(network, name)[layer]
                assert (together is None) == (alone is None)
                if alone is not None:
                    np.testing.assert_array_equal(together[k], alone)
    fleet.weights[0][2] = 7.0
    assert (fleet[2].weights[0] == 7.0).all()
    fleet.weights, fleet.slopes = [np.ones((SIZE, 3, 4)), np.zeros((SIZE, 4, 1))], [np.ones((SIZE, 4)), None]
    assert fleet[1].weights[0].min() == fleet[1].slopes[0].min() == 1.0
    with pytest.raises(ValueError, match=r"weights\[0\]: needs shape \(5, 3, 4\), got shape \(3, 4\)"):
        fleet.weights[0] = np.ones((3, 4))
    with pytest.raises(ValueError, match="biases: needs members of one shape"):
        print(bp.Fleet.of([bp.mlp([3, 2, 1]), bp.mlp([3, 4, 1])]).biases)


def test_frames_and_series_are_taken_by_place(kind, unequal):
    pandas = pytest.importorskip("pandas")
    X, y = unequal
    fleet, twin = (both(kind)[0] for _ in range(2))
    labels = [3, 1, 2, 0, 4]  # which are no places
    fleet.fit([pandas.DataFrame(rows) for rows in X], pandas.Series(y, index=labels), epochs=2)
    twin.fit(X, y, epochs=2)
    np.testing.assert_array_equal(fleet.parameters, twin.parameters)
    with pytest.raises(TypeError, match=r"X: needs an array or a list of arrays, got .*; list\(X.values\(\)\) is one"):
        fleet.fit(dict(zip(labels, X, strict=True)), y)


def test_what_a_fleet_lacks():
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    with pytest.raises(AttributeError, match=r"no attribute 'trace'; its members have: fleet\[k\].trace"):
        print(fleet.trace)
    for name in ("seed", "weight"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            setattr(fleet, name, 1)
    assert not hasattr(fleet, "weight")


def test_pickles_are_small(equal):
    fleet = bp.Fleet(3, layers(), size=1000, seed=0)
    fleet.fit(equal[0][0], equal[1][0], epochs=3)
    numbers = fleet.parameters.nbytes + fleet._groups[0].state.slots.nbytes
    assert len(pickle.dumps(fleet)) < numbers + 1000 * (8 * 3 + 200) + 5000


def test_seeds_begin_as_those_of_numpy():
    seeds = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**127 + 12345, 2**128 - 1, 2**128, 2**200]
    for stream in (random.INITIAL_VALUES, random.TRAINING):
        alone = [random.words(np.random.PCG64(np.random.SeedSequence(seed).spawn(2)[stream])) for seed in seeds]
        for some in (slice(6), slice(9), slice(None)):  # by 64 bits, by 128, and those that are longer
            assert random.words_of_seeds(seeds[some], stream).tolist() == alone[some]


def test_iteration_and_text(equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=3)
    assert [network.seed for network in fleet] == [3, 4, 5, 6, 7]
    assert repr(fleet.history) == "FleetHistory(size=5, epochs=0)"
    fleet.fit(*equal, epochs=2)
    assert "size=5, epochs=2, stop_reason={epochs: 5}" in repr(fleet.history)


def test_one_thread_at_a_time(equal):
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)

    def nested(network, epoch, logs):
        assert len(network.predict(equal[0][0])) == 14
        network.fit(equal[0][0], equal[1][0], epochs=1)

    with pytest.raises(RuntimeError, match="is being trained"):
        fleet.fit(*equal, epochs=1, callbacks=[bp.callbacks.LambdaCallback(on_epoch_end=nested)])


def test_a_penalty_may_be_an_array_without_axes():
    fleets = [bp.Fleet(1, [bp.Dense(1)], size=2, seed=0) for _ in range(2)]
    for fleet, l2 in zip(fleets, (0.5, np.array(0.5)), strict=True):
        fleet.fit([[0.0], [1.0]], [1.0, 3.0], l2=l2, epochs=3)
    np.testing.assert_array_equal(fleets[0].parameters, fleets[1].parameters)


# --- the history while it grows --------------------------------------------------------------------------------------


@pytest.fixture
def marked(monkeypatch):
    """Memory of a history that nobody has written to is full of a number that no loss is."""
    with_marks = vars(np) | {"empty": lambda shape: np.full(shape, 777.0)}
    monkeypatch.setattr(fleet_history, "np", SimpleNamespace(**with_marks))


def assert_nan_behind(history):
    """What was recorded is there, and nothing else is."""
    for name in history:
        behind = np.arange(len(history[name]))[:, None] >= history.epochs
        assert not (history[name] == 777).any(), name
        assert np.isnan(history[name][behind]).all(), name
        assert name != "loss" or not np.isnan(history[name][~behind]).any()


@pytest.mark.parametrize("rate", [0.1, 1e30])  # with the second a member diverges
def test_callbacks_read_the_history_while_it_grows(rate, marked, kind, unequal):
    fleet, seen = both(kind)[0], []

    def read(network, epoch, logs):
        loss = fleet.history["loss"]
        assert loss[network.history.epochs - 1, network.seed - 3] == logs["loss"]
        assert_nan_behind(fleet.history)
        seen.append((loss, loss.copy()))

    reader = bp.callbacks.LambdaCallback(on_epoch_end=read, every=4)
    stopping = bp.callbacks.EarlyStopping("loss", patience=2, min_delta=0.01)
    settings = {"epochs": 9, "batch_size": 8, "optimizer": bp.SGD(), "callbacks": [reader]}
    fleet.fit(*unequal, **settings)
    fleet.fit(*unequal, validation_split=0.25, **settings)
    fleet.fit(*unequal, **settings | {"callbacks": [reader, stopping]})
    with nullcontext() if rate < 1 else pytest.raises(bp.FleetDivergedError):
        fleet.fit(*unequal, learning_rate=[0.01, rate, 0.03, 0.02, 0.01], validation_split=0.25, **settings)
    for loss, then in seen:  # a view keeps what it showed
        np.testing.assert_array_equal(loss[~np.isnan(then)], then[~np.isnan(then)])
    assert_nan_behind(fleet.history)


def test_to_read_the_history_takes_no_epoch_away(marked, equal, monkeypatch):
    """Another thread may read after the core has written losses and before they are entered."""
    fleet = bp.Fleet(3, layers(), size=SIZE, seed=0)
    run = fleet_run.PartRun.settle

    def settle(self, last):
        history = fleet.history
        for same in (history, history.part([0, 1]), pickle.loads(pickle.dumps(history))):
            assert len(same["loss"]) == 0
        run(self, last)

    monkeypatch.setattr(fleet_run.PartRun, "settle", settle)
    fleet.fit(*equal, epochs=40, validation_split=0.25)
    assert_nan_behind(fleet.history)
    assert not np.isnan(fleet.history["val_loss"]).any()


# --- validation rows and derivatives of one member after the other ---------------------------------------------------


def refused(size, given, n_inputs=3, n_outputs=1, fit="fit"):
    """What is said about validation data."""
    fleet = bp.Fleet(n_inputs, [bp.Dense(n_outputs)], size=size, seed=0)
    settings = {"epochs": 1} if fit == "fit" else {"max_iter": 1}
    try:
        getattr(fleet, fit)(np.ones((4, n_inputs)), np.ones((4, n_outputs)), validation_data=given, **settings)
    except TypeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("fit", ["fit", "minimize"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("parts", [2, 3])
def test_the_validation_rows_of_one_member_after_the_other_are_refused(parts, n_outputs, size, fit, rng):
    """Of two members and as many outputs as inputs, they have the shapes of X and y of all members."""
    each = [(rng.normal(size=(6, 3)), rng.normal(size=(6, n_outputs)), np.ones(6))[:parts] for _ in range(size)]
    for given in (each, [tuple(part.tolist() for part in own) for own in each]):
        message = refused(size, given, n_outputs=n_outputs, fit=fit)
        assert message.startswith(f"validation_data: needs (X, y) or (X, y, sample_weight), each of all {size} members")
        assert "write tuple(zip(*validation_data))" in message
        either_way = (size, n_outputs, parts) == (2, 3, 2)
        assert ("if these are the parts of all members already, tuple(validation_data)" in message) == either_way
        assert not refused(size, tuple(zip(*given, strict=True)), n_outputs=n_outputs, fit=fit)
        if (size, parts) not in ((2, 2), (3, 3)):  # then a tuple is what it is to be
            assert refused(size, tuple(given), n_outputs=n_outputs, fit=fit)


def test_parts_of_all_members_may_be_lists(rng):
    X, y = list(rng.normal(size=(2, 6, 3))), list(rng.normal(size=(2, 6, 1)))
    for given in ([X, y], (X, y), [X[0], y[0]], (X[0].tolist(), y[0].tolist()), [tuple(X), tuple(y)]):
        assert not refused(2, given)


def test_derivatives_of_one_member_after_the_other_are_refused(rng):
    X, pairs = rng.normal(size=(6, 3)), [(rng.normal(size=6), rng.normal(size=(6, 3))) for _ in range(2)]
    fleet = bp.Fleet(3, [bp.Dense(1)], size=2, seed=0)
    with pytest.raises(TypeError, match=r"y: needs \(y, dy\), each of all 2 members, .* write tuple\(zip\(\*y\)\)"):
        fleet.fit([X, X], pairs, loss=bp.losses.WithDerivatives(), epochs=1)
    fleet.fit([X, X], tuple(zip(*pairs, strict=True)), loss=bp.losses.WithDerivatives(), epochs=1)
