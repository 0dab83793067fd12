"""Fleets by minimizers: each member as if it were alone, members that fail or stop alone."""

import pickle
import signal
import threading
import time
from types import SimpleNamespace

import backprop as bp
import numpy as np
import pytest
from backprop.callbacks import CSVLogger, EarlyStopping, LambdaCallback, ReduceLROnPlateau
from backprop.learn import fleet_minimize
from backprop.solvers import SOLVERS

each_method = pytest.mark.parametrize("method", SOLVERS)


@pytest.fixture
def rows(rng):
    X = rng.uniform(-1, 1, (5, 40, 2))
    return X, np.sin(3 * X[:, :, :1]) * X[:, :, 1:] + 0.1 * rng.normal(size=(5, 40, 1))


def fleet_of(size=5, dtype="float64", **settings):
    return bp.Fleet(2, [bp.Dense(6, "tanh", **settings), bp.Dense(1, **settings)], size=size, seed=3, dtype=dtype)


def same(fleet, networks):
    for k, network in enumerate(networks):
        member = fleet[k]
        np.testing.assert_array_equal(member.parameters, network.parameters)
        assert (member.history.epochs, member.history.stop_reason) == (
            network.history.epochs,
            network.history.stop_reason,
        )
        for name in network.history:
            np.testing.assert_array_equal(member.history[name], network.history[name])


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_method
def test_every_member_is_as_if_it_were_alone(method, dtype, n_threads, rows):
    X, y = rows
    fleet, networks = fleet_of(dtype=dtype), [net.copy() for net in fleet_of(dtype=dtype)]
    settings = {"method": method, "max_iter": 12, "validation_split": 0.25, "metrics": "r2", "tolerance": 0}
    results = fleet.minimize(X, y, n_threads=n_threads, **settings)
    expected = [net.minimize(X[k], y[k], **settings) for k, net in enumerate(networks)]
    same(fleet, networks)
    for result, alone in zip(results, expected, strict=True):
        assert (result.fun, result.nit, result.nfev, result.beta) == (alone.fun, alone.nit, alone.nfev, alone.beta)


@each_method
def test_forms_of_rows(method, rows):
    """Shared X, targets and weights of each member; a list with rows for each."""
    X, y = rows
    weight = np.random.default_rng(0).uniform(0.5, 2, (5, 40))
    fleet, networks = fleet_of(), [net.copy() for net in fleet_of()]
    fleet.minimize(X[0], y, method=method, sample_weight=weight, max_iter=5)
    for k, net in enumerate(networks):
        net.minimize(X[0], y[k], method=method, sample_weight=weight[k], max_iter=5)
    same(fleet, networks)
    fleet.minimize([X[k, : 20 + k] for k in range(5)], [y[k, : 20 + k] for k in range(5)], method=method, max_iter=3,
                   validation_data=(X[0], y[0]))  # fmt: skip
    for k, net in enumerate(networks):
        net.minimize(X[k, : 20 + k], y[k, : 20 + k], method=method, max_iter=3, validation_data=(X[0], y[0]))
    same(fleet, networks)


def test_members_of_several_shapes_and_penalties(rows):
    X, y = rows
    networks = [bp.Network(2, [bp.Dense(units, "tanh", l2=0.01 * units), bp.Dense(1)], dtype="float64", seed=units)
                for units in (3, 5, 3, 4)]  # fmt: skip
    fleet = bp.Fleet.of(networks)
    fleet.minimize(X[:4], y[:4], method="lm", max_iter=6, penalty_per_row=True)
    for k, net in enumerate(networks):
        net.minimize(X[k], y[k], method="lm", max_iter=6, penalty_per_row=True)
    same(fleet, networks)


@each_method
def test_a_member_that_fails_ends_alone(method, rows):
    X, y = rows
    fleet, networks = fleet_of(), [net.copy() for net in fleet_of()]
    fleet.parameters[2] = 1e200
    y = y.copy()
    y[2] = 1e200
    results = fleet.minimize(X, y, method=method, max_iter=4)
    assert results[2].reason == "not finite"
    assert not results[2].success
    assert "not finite" in results[2].message
    assert fleet.history.stop_reason[2] == "diverged"
    assert fleet.history.epochs.tolist() == [4, 4, 0, 4, 4]
    assert (fleet.parameters[2] == 1e200).all()
    for k in (0, 1, 3, 4):
        networks[k].minimize(X[k], y[k], method=method, max_iter=4)
        np.testing.assert_array_equal(fleet.parameters[k], networks[k].parameters)


def test_a_member_that_is_refused_is_named(rows):
    X, y = rows
    fleet, weight = fleet_of(), np.ones((5, 40))
    weight[3] = 0.02
    with pytest.raises(ValueError, match=r"X: needs more than one sample .* got 0.8 \(member 3\)$"):
        fleet.minimize(X, y, method="bayesian", sample_weight=weight, max_iter=2)
    fleet.minimize(X, y, max_iter=2)
    fleet.parameters[2][0] += 1
    with pytest.raises(ValueError, match=r"resume: needs the parameters .* changed since \(member 2\)$"):
        fleet.minimize(X, y, max_iter=4, resume=True)


@pytest.mark.parametrize("what", ["rows", "state", "shape"])
def test_a_refused_member_leaves_the_others_as_they_were(what, rows):
    X, y = rows
    fleet, arguments = fleet_of(), {"max_iter": 2}
    before = pickle.dumps(fleet)
    if what == "rows":
        X, y = [*X[:4], X[4, :1]], [*y[:4], y[4, :1]]
        arguments["method"] = "bayesian"
    elif what == "state":
        fleet.minimize(X, y, **arguments)
        fleet.parameters[4][0] += 1
        before, arguments = pickle.dumps(fleet), {"max_iter": 9, "resume": True}
    else:
        layers = [bp.Dense(3, "tanh", dropout=0.5), bp.Dense(1)]
        fleet = bp.Fleet.of([*fleet[:4], bp.Network(2, layers, dtype="float64")])
        before = pickle.dumps(fleet)
    with pytest.raises(ValueError, match=r"\(member 4\)$"):
        fleet.minimize(X, y, **arguments)
    assert pickle.dumps(fleet) == before


def test_callbacks_of_each_member(rows, tmp_path):
    X, y = rows
    fleet, networks, seen = fleet_of(), [net.copy() for net in fleet_of()], set()
    stop = EarlyStopping("val_loss", patience=3, restore_best=True)
    settings = {"method": "lm", "validation_split": 0.5, "max_iter": 100, "tolerance": 0}
    fleet.minimize(X, y, callbacks=[stop, CSVLogger(tmp_path / "{member}.csv")], n_threads=2,
                   log=lambda member, iteration, logs: seen.add((member, iteration)), **settings)  # fmt: skip
    stops = [EarlyStopping("val_loss", patience=3, restore_best=True) for _ in networks]
    for k, net in enumerate(networks):
        net.minimize(X[k], y[k], callbacks=[stops[k]], **settings)
    same(fleet, networks)
    assert stop.best.tolist() == [each.best for each in stops]
    assert stop.best_epoch.tolist() == [each.best_epoch for each in stops]
    assert seen == {(k, i + 1) for k in range(5) for i in range(fleet.history.epochs[k])}
    lines = [(tmp_path / f"{k}.csv").read_text().count("\n") - 1 for k in range(5)]
    assert lines == fleet.history.epochs.tolist()


@each_method
def test_it_goes_on_bit_for_bit(method, rows):
    X, y = rows
    whole, fleet = fleet_of(), fleet_of()
    whole.minimize(X, y, method=method, max_iter=20, tolerance=0)
    halt = LambdaCallback(on_epoch_end=lambda net, epoch, logs: net.stop() if epoch == 2 * (net.seed - 1) else None)
    fleet.minimize(X, y, method=method, max_iter=20, tolerance=0, callbacks=[halt])
    assert fleet.history.epochs.tolist() == [4, 6, 8, 10, 12]
    for again in (fleet, pickle.loads(pickle.dumps(fleet))):
        again.minimize(X, y, method=method, max_iter=20, tolerance=0, resume=True)
        np.testing.assert_array_equal(again.parameters, whole.parameters)
        np.testing.assert_array_equal(again.history["loss"], whole.history["loss"])


def test_before_and_after_fit(rows):
    X, y = rows
    fleet, networks = fleet_of(), [net.copy() for net in fleet_of()]
    for train in (fleet, *networks):
        k = None if train is fleet else networks.index(train)
        own = (X, y) if k is None else (X[k], y[k])
        train.fit(*own, epochs=2, batch_size=10)
        train.minimize(*own, max_iter=3)
        train.fit(*own, epochs=2, batch_size=10)
    same(fleet, networks)


def test_an_exception_and_ctrl_c_end_all(rows):
    X, y = rows
    fleet = fleet_of()

    def fail(network, epoch, logs):
        if network.seed == 4 and epoch == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fleet.minimize(X, y, max_iter=10, callbacks=[LambdaCallback(on_epoch_end=fail)], n_threads=1)
    assert fleet.history.epochs[1] == 3
    fleet.minimize(X, y, max_iter=1)  # the guard is open
    big = bp.Fleet(2, [bp.Dense(300, "tanh"), bp.Dense(1)], size=40, seed=0, dtype="float64")
    X, y = np.repeat(X[:1], 40, axis=0), np.repeat(y[:1], 40, axis=0)
    main = threading.get_ident()

    def interrupt():
        while big._run is None:
            time.sleep(0.001)
        time.sleep(0.3)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        big.minimize(X, y, method="lm", max_iter=10_000, tolerance=0, n_threads=2)
    thread.join()
    assert "interrupted" in big.history.stop_reason


def test_a_browser_has_no_threads(rows, monkeypatch):
    X, y = rows
    fleet, networks = fleet_of(), [net.copy() for net in fleet_of()]

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("backprop.learn.fleet_minimize.sys", SimpleNamespace(platform="emscripten"))
    monkeypatch.setattr(threading.Thread, "start", start)
    fleet.minimize(X, y, max_iter=5)
    for k, net in enumerate(networks):
        net.minimize(X[k], y[k], max_iter=5)
    same(fleet, networks)

    def fail(network, epoch, logs):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fleet.minimize(X, y, callbacks=[LambdaCallback(on_epoch_end=fail)])


def test_stop(rows):
    X, y = rows
    fleet = fleet_of()
    halt = LambdaCallback(on_epoch_end=lambda net, epoch, logs: fleet.stop([1, 3]) if epoch == 2 else None)
    results = fleet.minimize(X, y, method="lm", max_iter=6, tolerance=0, callbacks=[halt], n_threads=1)
    assert fleet.history.epochs.tolist() == [6, 0, 6, 0, 6]
    assert [result.reason for result in results] == ["iterations", "stopped"] * 2 + ["iterations"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "BFGS"}, "method: needs one of 'lbfgs', 'lm', 'bayesian', got 'BFGS'"),
        ({"max_iter": 0}, "max_iter: needs an integer >= 1"),
        ({"options": {"history": 0}}, "history: needs an integer"),
        ({"callbacks": [ReduceLROnPlateau("loss")]}, "callbacks: needs such as scale no learning rate"),
        ({"callbacks": [CSVLogger("x.csv")]}, "callbacks: CSVLogger needs a path with the field"),
        ({"method": "lm", "loss": "absolute_error"}, "loss: needs one of 'squared_error', 'huber', 'log_cosh'"),
        ({"n_threads": 0}, "n_threads: needs an integer >= 1"),
        ({"validation_split": 2}, "validation_split: needs"),
    ],
)
def test_wrong_arguments(settings, message, rows):
    fleet = fleet_of()
    before = fleet.parameters.copy()
    with pytest.raises(ValueError, match=message):
        fleet.minimize(*rows, **settings)
    np.testing.assert_array_equal(fleet.parameters, before)
    assert not fleet.history.epochs.any()


def test_what_callbacks_found_is_in_the_places_of_the_members(rows, monkeypatch):
    """Also where an error ends all before each of them has begun."""
    monkeypatch.setattr(fleet_minimize, "ThreadPoolExecutor", lambda *_: fleet_minimize.InPlace())
    X, y = rows
    narrow, wide = (bp.mlp([2, n, 1], hidden="tanh", dtype="float64", seed=0) for n in (3, 5))
    fleet = bp.Fleet.of([narrow, wide, narrow, wide, narrow])  # those of one shape are minimised first

    def fail(network, epoch, logs):
        if network.layers[0].units == 5:
            raise ZeroDivisionError

    stop = EarlyStopping("loss", patience=100)
    with pytest.raises(ZeroDivisionError):
        fleet.minimize(X, y, max_iter=3, tolerance=0, callbacks=[stop, LambdaCallback(on_epoch_end=fail)], n_threads=1)
    assert (stop.best.shape, stop.best_epoch.tolist()) == ((5,), [3, 1, 3, 0, 3])
    np.testing.assert_array_equal(stop.best[[0, 2, 4]], fleet.history["loss"][2, [0, 2, 4]])
    assert stop.best[3] == np.inf
    with pytest.raises(ZeroDivisionError):  # nothing of another run stays
        fleet.minimize(X, y, callbacks=[stop, LambdaCallback(on_epoch_end=lambda *_: 1 / 0)], n_threads=1)
    assert stop.best_epoch.tolist() == [4, 0, 0, 0, 0]
    assert np.isinf(stop.best[1:]).all()


# --- files ---------------------------------------------------------------------------------------------------------


def interrupted(fleet, rows, method, stops, **settings):
    """Minimise until Ctrl-C, which comes with the third iteration of some member; other members are anywhere."""

    class Stop(bp.callbacks.Callback):
        def on_epoch_end(self, network, epoch, logs):
            if epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet.minimize(*rows, method=method, callbacks=[*stops(), Stop()], **settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_method
def test_a_checkpoint_goes_on_bit_for_bit(method, dtype, rows, tmp_path):
    """With what solvers and callbacks remember, of members that are at different iterations or have none."""

    def stops():
        return [EarlyStopping("val_loss", patience=6, restore_best=True)]

    settings = {"max_iter": 25, "tolerance": 0, "validation_split": 0.25, "n_threads": 2}
    whole, fleet, path = fleet_of(dtype=dtype), fleet_of(dtype=dtype), tmp_path / "fleet.safetensors"
    whole.minimize(*rows, method=method, callbacks=stops(), **settings)
    interrupted(fleet, rows, method, stops, **settings)
    fleet.save_checkpoint(path)
    again = bp.resume(path)
    assert set(again._solved) == set(fleet._solved)
    for twin in (again, bp.resume(path), fleet):
        twin.minimize(*rows, method=method, callbacks=stops(), resume=True, **settings)
        same(twin, list(whole))
        np.testing.assert_array_equal(twin.parameters, whole.parameters)


@each_method
def test_parts_and_joined_fleets_remember(method, rows, tmp_path):
    """Other shapes, other solvers, members of a fleet and networks: each goes on as it would have alone."""
    X, y = rows
    nets = [bp.mlp([2, 4 + k % 2, 1], hidden="tanh", dtype="float64", seed=k) for k in range(4)]
    whole = [net.copy() for net in nets]
    for k in range(3):
        nets[k].minimize(X[k], y[k], method=method, max_iter=4, tolerance=0)
    for k, net in enumerate(whole):
        net.minimize(X[k], y[k], method=method, max_iter=9, tolerance=0)
    fleet = bp.Fleet.of(nets[:2])
    fleet.append(nets[2])
    fleet.append(bp.Fleet.of(nets[3:]))
    fleet.save_checkpoint(tmp_path / "fleet")
    fleet = bp.resume(tmp_path / "fleet")
    part = fleet[[3, 1, 0]]
    part.minimize([X[k] for k in (3, 1, 0)], [y[k] for k in (3, 1, 0)], method=method, max_iter=9, tolerance=0,
                  resume=True)  # fmt: skip
    same(part, [whole[k] for k in (3, 1, 0)])
    member = fleet[2].copy()
    member.minimize(X[2], y[2], method=method, max_iter=9, tolerance=0, resume=True)
    np.testing.assert_array_equal(member.parameters, whole[2].parameters)
    assert fleet._solved[2].state.iteration == 4
    nets[0].minimize(X[0], y[0], method="lbfgs", max_iter=2)
    nets[1].minimize(X[1], y[1], method="lm", max_iter=2)
    bp.Fleet.of(nets).save_checkpoint(tmp_path / "mixed")
    solved = bp.resume(tmp_path / "mixed")._solved
    assert [solved[k].solver.name for k in range(3)] == ["lbfgs", "lm", method]


@pytest.mark.parametrize("older", [False, True])
def test_other_rows_cannot_be_resumed(older, rows, tmp_path, monkeypatch):
    """Unless an older file does not say how many there were."""
    from backprop.files import fleet_solving

    def without(*arguments):
        tensors = arguments[3]
        entry = original(*arguments)
        tensors.pop(arguments[0] + "n_rows")
        return {key: value for key, value in entry.items() if key != "loss_name"}

    original = fleet_solving._kind
    if older:
        monkeypatch.setattr(fleet_solving, "_kind", without)
    X, y = rows
    fleet, settings = fleet_of(), {"tolerance": 0, "resume": True}
    fleet.minimize(X, y, max_iter=3, tolerance=0)
    fleet.save_checkpoint(tmp_path / "fleet")
    again = bp.resume(tmp_path / "fleet")
    fewer = [each[1:] for each in X], [each[1:] for each in y]
    for each in (fleet, *([] if older else [again])):
        with pytest.raises(ValueError, match=r"^resume: needs the data .* rows; got \d+ \(member 0\)$"):
            each.minimize(*fewer, max_iter=6, **settings)
        with pytest.raises(ValueError, match=r"^resume: needs the loss .* got 'huber' \(member 0\)$"):
            each.minimize(X, y, loss="huber", max_iter=6, **settings)
    assert {result.iterations for result in again.minimize(X, y, max_iter=6, **settings)} == {6}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("members", lambda a: a + 5, "members: needs some of 5 members, each once"),
        ("members", lambda a: a * 0, "members: needs some of 5 members, each once"),
        ("point", lambda a: a * np.nan, "need finite numbers"),
        ("point", lambda a: a[:, 1:], "point: needs"),
        ("pairs", lambda a: a[1:], "integers: needs numbers >= 0"),
        ("integers", lambda a: -a, "integers: needs numbers >= 0"),
        ("reals", lambda a: a[:, 1:], "reals: needs"),
        ("reason", lambda a: a + 9, "reason: needs places in a list"),
        ("n_rows", lambda a: -a, "n_rows: needs numbers >= 0"),
    ],
)
def test_a_damaged_minimisation_is_seen(name, change, message, rows, tmp_path, monkeypatch):
    from backprop.files import fleet_checkpoints

    fleet, original = fleet_of(), fleet_checkpoints._training

    def damaged(fleet):
        tensors, metadata = original(fleet)
        name_of_tensor = f"training.groups.0.solving.0.{name}"
        tensors[name_of_tensor] = np.ascontiguousarray(change(tensors[name_of_tensor]))
        return tensors, metadata

    fleet.minimize(*rows, max_iter=3)
    monkeypatch.setattr(fleet_checkpoints, "_training", damaged)
    fleet.save_checkpoint(tmp_path / "fleet")
    with pytest.raises(ValueError, match=message):
        bp.resume(tmp_path / "fleet")


def test_a_member_whose_weights_do_not_fit_ends_as_if_it_were_alone():
    X = np.arange(1, 5.0)[:, np.newaxis] * 1e-30
    y = np.arange(1, 5) * np.array([[1.0], [1e9]])  # the second asks for a weight of 1e39
    fleet = bp.Fleet(1, [bp.Dense(1, bias=False)], size=2, seed=0)
    alone = [fleet[k].copy() for k in range(2)]
    results = fleet.minimize(X, y, method="lm", tolerance=0)
    for k, network in enumerate(alone):
        result = network.minimize(X, y[k], method="lm", tolerance=0)
        assert np.isfinite(fleet[k].parameters).all()
        np.testing.assert_array_equal(network.parameters, fleet[k].parameters)
        assert (result.loss, result.iterations) == (results[k].loss, results[k].iterations)
