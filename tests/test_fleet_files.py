"""Files of fleets: one file, whose members come back and train on, bit for bit; a damaged one is refused by name."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backends import OPTIMIZER_VARIANTS, each_dtype, label
from backprop import io
from backprop.backends import choice
from backprop.base.fleet import MEMBER
from backprop.base.interrupts import HeldInterrupts
from backprop.callbacks import Callback, Checkpoint, EarlyStopping, LambdaCallback, ReduceLROnPlateau
from backprop.cli import main
from backprop.files import checkpoints, models
from backprop.learn import pace
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

RNG = np.random.default_rng(0)
SIZE = 6
X = RNG.normal(size=(SIZE, 20, 3))
Y = np.sin(X.sum(axis=2))
X_VAL, Y_VAL = RNG.normal(size=(7, 3)), RNG.normal(size=7)


def fleet_of(dtype="float32", **layer):
    return bp.Fleet(3, [bp.Dense(5, "tanh", **layer), bp.Dense(1)], size=SIZE, seed=1, dtype=dtype)


def mixed_fleet():
    """Members of two shapes, whose penalties differ."""
    networks = []
    for k in range(SIZE):
        hidden = bp.Dense(5, "tanh", l2=0.01 * (k + 1)) if k % 3 else bp.Dense(4, "prelu", l1=0.1, dropout=0.2)
        networks.append(bp.Network(3, [hidden, bp.Dense(1, bias=False)], seed=10**30 if k == 2 else 7 * k))
    return bp.Fleet.of(networks)


OF_THE_CALL = ("position", "status")  # which mean nothing to the next one


def numbers(fleet):
    """Every number of a fleet's training, as bytes."""
    found = []
    for group in fleet._groups:
        found += [group.members.tobytes(), group.parameters.tobytes(), list(group.seeds), list(group.layers)]
        found += [group.optimizers, None if group.n_shuffled is None else group.n_shuffled.tobytes()]
        if group.state is not None:
            found += [group.state.slots.tobytes(), group.state.best_parameters.tobytes()]
            found += [group.state.members[name].tobytes() for name in MEMBER.names if name not in OF_THE_CALL]
    history = fleet.history
    found += [(name, history[name].tobytes()) for name in history]
    return [*found, history.epochs.tobytes(), history.stop_reason.tolist()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fleet.safetensors"


# --- what is saved comes back -----------------------------------------------------------------------------------------


@each_dtype
def test_a_fleet_comes_back(dtype, path):
    fleet = fleet_of(dtype, dropout=0.25, weight_init="he_normal")
    fleet.fit(X, Y, epochs=2)
    fleet.save(path)
    again = bp.load(path)
    assert isinstance(again, bp.Fleet)
    assert again.parameters.tobytes() == fleet.parameters.tobytes()
    assert (again.seeds, again.layers, again.dtype) == (fleet.seeds, fleet.layers, fleet.dtype)
    assert again.parameters.ctypes.data % 64 == 0
    assert not again.history.epochs.any()
    np.testing.assert_array_equal(again.predict(X), fleet.predict(X))
    again.fit(X, Y, epochs=1)


def test_members_of_several_shapes(path):
    fleet = mixed_fleet()
    fleet.save(path)
    again = bp.load(path)
    assert numbers(again) == numbers(fleet)
    for k in range(SIZE):
        assert (again[k].layers, again[k].seed) == (fleet[k].layers, fleet[k].seed)
    np.testing.assert_array_equal(again.predict(X[0]), fleet.predict(X[0]))


@pytest.mark.parametrize("seed", [0, 2**63 - 3, 2**63, 2**200, [5, 3, 9], [2**63, 1, 2**70], [4, 5, 6]])
def test_seeds_of_any_size(seed, path):
    fleet = bp.Fleet(2, [bp.Dense(1)], size=3, seed=seed)
    fleet.save(path)
    assert bp.load(path).seeds == fleet.seeds


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(bp.ACTIVATIONS), st.booleans()), min_size=1, max_size=3),
    st.sampled_from(["float32", "float64"]),
    st.lists(st.tuples(st.integers(0, 2**128), st.floats(0, 10), st.floats(0, 0.9)), min_size=1, max_size=4),
)
def test_any_architecture_comes_back(tmp_path_factory, layers, dtype, members):
    layers = [bp.Dense(n, "silu" if a == "softmax" else a, bias=bias) for n, a, bias in layers]
    networks = []
    for seed, l2, dropout in members:
        own = [replace(layer, l2=l2, dropout=dropout) for layer in layers]
        networks.append(bp.Network(2, [*own, bp.Dense(2, l1=l2)], dtype=dtype, seed=seed))
    fleet = bp.Fleet.of(networks)
    path = tmp_path_factory.mktemp("models") / "m"
    fleet.save(path)
    again = bp.load(path)
    assert numbers(again) == numbers(fleet)
    assert [repr(net) for net in again] == [repr(net) for net in networks]


def test_initial_values_that_were_given_are_in_the_file_as_parameters(path):
    networks = [bp.Network(1, [bp.Dense(1, weight_init=[[w]])], seed=0) for w in (1.0, 2.0)]
    fleet = bp.Fleet.of([*networks, bp.Network(1, [bp.Dense(1, weight_init="ones")], seed=0)])
    fleet.save(path)
    again = bp.load(path)
    np.testing.assert_array_equal(again.parameters[:, 0], [1, 2, 1])
    assert [net.layers[0].weight_init for net in again] == ["auto", "auto", "ones"]


def test_extra(path):
    fleet_of().save(path, extra={"sensors": ["a", "b"]})
    again, extra = io.load_with_extra(path)
    assert extra == {"sensors": ["a", "b"]}
    assert len(again) == SIZE
    with pytest.raises(TypeError, match="extra: needs a mapping"):
        fleet_of().save(path, extra=[1])


def test_equal_fleets_give_equal_files(tmp_path):
    for name in "ab":
        fleet_of().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_safetensors_reader_can_read_it(path):
    fleet = fleet_of()
    fleet.save(path)
    with safe_open(path, framework="numpy") as file:
        assert file.get_tensor("groups.0.layers.0.weights").shape == (SIZE, 3, 5)
        np.testing.assert_array_equal(file.get_tensor("groups.0.layers.0.weights")[2], fleet[2].weights[0])
        assert json.loads(file.metadata()["backprop"])["format"] == "backprop.fleet"


def test_the_metadata_do_not_grow_with_the_members(tmp_path):
    def metadata(size):
        networks = [bp.Network(3, [bp.Dense(5, "tanh", l2=0.1 + 0.01 * k), bp.Dense(1)], seed=k) for k in range(size)]
        fleet = bp.Fleet.of(networks)
        stopping = EarlyStopping("mean_squared_error", restore_best=True)
        optimizers = [bp.Adam(learning_rate=0.01 * (k + 1)) for k in range(size)]
        fleet.fit(X[0], Y[0], epochs=2, optimizer=optimizers, metrics="mean_squared_error", callbacks=[stopping])
        fleet.save_checkpoint(tmp_path / "run")
        return len(json.dumps(models.read(tmp_path / "run")[1]))

    assert metadata(40) - metadata(2) < 20


def test_from_one_backend_into_any_other(path):
    fleet_of().save(path)
    for name in choice.available():
        assert bp.load(path, backend=name).backend == name


def test_the_command_line_says_that_it_takes_networks(path, capsys):
    fleet_of().save(path)
    assert main(["info", str(path)]) != 0
    assert "a fleet; needs a network" in capsys.readouterr().err


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_leaves_the_old_file(step, path, monkeypatch):
    fleet = fleet_of()
    fleet.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        for save in (fleet.save, fleet.save_checkpoint):
            with pytest.raises(OSError, match="the disk is full"):
                save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_fleet_that_is_not_finite_is_not_saved(path):
    fleet = fleet_of()
    fleet.save(path)
    before = path.read_bytes()
    fleet[4].parameters[2] = np.inf
    for save in (fleet.save, fleet.save_checkpoint):
        with pytest.raises(ValueError, match="parameters: need finite numbers, those of member 4 are not"):
            save(path)
    assert path.read_bytes() == before


# --- checkpoints ------------------------------------------------------------------------------------------------------

SETTINGS = {
    "full": {"batch_size": None},
    "mini": {"batch_size": 7},
    "in order": {"batch_size": 7, "shuffle": False},
    "online": {"batch_size": 1},
    "validated": {"batch_size": 8, "validation_data": (X_VAL, Y_VAL), "metrics": ["r2"]},
    "schedule": {"batch_size": 8, "schedule": bp.schedules.Cosine(length=20)},
    "rates": {"batch_size": 8, "learning_rate": np.linspace(0.001, 0.1, SIZE), "l2": np.linspace(0, 0.1, SIZE)},
    "optimizers": {"batch_size": 8, "optimizer": [bp.SGD(momentum=0.1 * k) for k in range(SIZE)]},
}
CALLBACKS = {
    "stopping": lambda: [EarlyStopping("val_loss", patience=3, min_delta=0.02, restore_best=True)],
    "in Python": lambda: [EarlyStopping("val_r2", patience=3, min_delta=0.1, restore_best=True)],
    "rate": lambda: [ReduceLROnPlateau("loss", patience=2, min_delta=0.05, factor=0.5, cooldown=1)],
    "both": lambda: [
        ReduceLROnPlateau("val_loss", patience=2, min_delta=0.05, factor=0.5),
        EarlyStopping("loss", patience=5, min_delta=0.01, restore_best=True),
    ],
}


def cut_and_resumed(monkeypatch, path, fleet, looks, fit):
    """Train until the run has looked for Ctrl-C so many times, save, read the file, and train the rest."""
    count = itertools.count(1)

    def deliver(self):
        if next(count) == looks:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pace, "SLICE_SECONDS", 0.0)
        patch.setattr(HeldInterrupts, "deliver", deliver)
        with pytest.raises(KeyboardInterrupt):
            fit(fleet)
    fleet.save_checkpoint(path)
    resumed = bp.resume(path)
    assert numbers(resumed) == numbers(fleet)
    fit(resumed)
    return resumed


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("make", [fleet_of, mixed_fleet])
def test_cut_anywhere(monkeypatch, path, settings, make):
    def fit(fleet):
        fleet.fit(X, Y, epochs=6, resume=True, **settings)

    whole = make()
    fit(whole)
    for looks in (1, 3):
        resumed = cut_and_resumed(monkeypatch, path, make(), looks, fit)
        assert numbers(resumed) == numbers(whole)
        assert set(resumed.history.stop_reason) == {"epochs"}


@pytest.mark.parametrize("kind", CALLBACKS)
def test_cut_with_callbacks_and_dropout(monkeypatch, path, kind):
    def fit(fleet):
        fleet.fit(
            X, Y, epochs=30, batch_size=10, validation_data=(X_VAL, Y_VAL), metrics=["r2"],
            optimizer=bp.Adam(learning_rate=0.05), callbacks=CALLBACKS[kind](), resume=True,
        )  # fmt: skip

    whole = fleet_of(dropout=0.3, max_norm=2.0)
    fit(whole)
    for looks in (2, 7):
        resumed = cut_and_resumed(monkeypatch, path, fleet_of(dropout=0.3, max_norm=2.0), looks, fit)
        assert numbers(resumed) == numbers(whole)


@pytest.mark.parametrize("optimizer", OPTIMIZER_VARIANTS, ids=label)
def test_every_optimizer(path, optimizer):
    fleet = fleet_of()
    fleet.fit(X, Y, epochs=2, optimizer=optimizer)
    fleet.save_checkpoint(path)
    resumed = bp.resume(path)
    assert numbers(resumed) == numbers(fleet)
    for each in (fleet, resumed):
        each.fit(X, Y, epochs=4, optimizer=optimizer, resume=True)
    assert numbers(resumed) == numbers(fleet)


def test_members_that_diverged_and_that_were_trained_with_other_optimizers(path):
    networks = [bp.mlp([3, 5, 1], seed=k) for k in range(3)]
    for net, optimizer in zip(networks, ["adam", bp.SGD(momentum=0.5, nesterov=True), None], strict=True):
        if optimizer is not None:
            net.fit(X[0], Y[0], epochs=2, optimizer=optimizer)
    fleet = bp.Fleet.of(networks)
    fleet.save_checkpoint(path)
    resumed = bp.resume(path)
    assert numbers(resumed) == numbers(fleet)
    rates = [1e-3, 1e30, 1e-3]
    for each in (fleet, resumed):
        each.fit(X[0], Y[0], epochs=2, optimizer="sgd", learning_rate=rates, on_divergence="stop")
    fleet.save_checkpoint(path)
    assert numbers(bp.resume(path)) == numbers(fleet) == numbers(resumed)
    assert fleet.history.stop_reason.tolist() == ["epochs", "diverged", "epochs"]


def test_states_of_users_callbacks(path):
    class Counts(bp.callbacks.Callback):
        def on_train_begin(self, network, logs):
            self.count, self.text, self.array, self.some = 0, "a", np.zeros(2), None

        def on_epoch_end(self, network, epoch, logs):
            self.count, self.array[1] = self.count + 1, network.seed
            self.some = network.seed / 3 if network.seed % 2 else True
            self.text = "b" * (network.seed % 3)

        def state(self):
            return vars(self) if self.count > 1 else {"count": self.count}

        def resume(self, state):
            vars(self).update(state)

    fleet = fleet_of()
    fleet.fit(X, Y, epochs=2, callbacks=[Counts()])
    fleet.save_checkpoint(path)
    got, had = bp.resume(path)._callbacks, fleet._callbacks
    assert [kind for kind, _ in got] == [kind for kind, _ in had] == ["Counts"]
    for one, other in zip(got[0][1], had[0][1], strict=True):
        assert one.keys() == other.keys()
        assert all(type(one[key]) is type(other[key]) and np.all(one[key] == other[key]) for key in one)


def test_states_that_a_file_cannot_hold(path):
    class Odd(bp.callbacks.Callback):
        def on_epoch_end(self, network, epoch, logs):
            pass

        def state(self):
            return {"odd": object()}

    fleet = fleet_of()
    fleet.fit(X, Y, epochs=1, callbacks=[Odd()])
    with pytest.raises(TypeError, match="callbacks: need states of numbers, texts and arrays, got <object"):
        fleet.save_checkpoint(path)
    assert not path.exists()


def test_while_it_is_trained(path):
    """A callback that saves the fleet itself."""
    fleet, whole = mixed_fleet(), mixed_fleet()
    optimizers = [bp.SGD(momentum=0.5 * (k % 2)) for k in range(SIZE)]  # two calls of the core for each shape
    arguments = {"epochs": 6, "batch_size": 7, "optimizer": optimizers}
    saving = LambdaCallback(on_epoch_end=lambda network, epoch, logs: fleet.save_checkpoint(path), every=3)
    fleet.fit(X, Y, callbacks=[saving], **arguments)
    whole.fit(X, Y, **arguments)
    resumed = bp.resume(path)
    resumed.fit(X, Y, resume=True, **arguments)
    assert numbers(resumed) == numbers(whole)


class SavesAll(bp.callbacks.Callback):
    """Saves the whole fleet when one of its members comes to an epoch, or to its end."""

    def __init__(self, fleet, path, member, epoch):
        self.fleet, self.path, self.member, self.epoch = fleet, path, member, epoch

    def of_member(self, member):
        return type(self)(self.fleet, self.path, self.member, self.epoch) if member == self.member else Callback()

    def on_epoch_begin(self, network, epoch, logs):
        if epoch == self.epoch:
            self.fleet.save_checkpoint(self.path)

    def on_epoch_end(self, network, epoch, logs):
        if epoch == -self.epoch:
            self.fleet.save_checkpoint(self.path)

    def on_train_end(self, network, logs):
        if self.epoch == 0:
            self.fleet.save_checkpoint(self.path)


def stop_some(network, epoch, logs):
    if epoch == 2 + network.seed % 2:
        network.stop()


ENDS = {
    "best": lambda: [EarlyStopping("loss", patience=1, min_delta=0.1, restore_best=True)],
    "average": lambda: [bp.callbacks.ExponentialMovingAverage(decay=0.9)],
    "both": lambda: [bp.callbacks.StochasticWeightAveraging(start=1), EarlyStopping("loss", patience=1, min_delta=0.1)],
    "rate": lambda: [ReduceLROnPlateau("loss", patience=1, min_delta=0.1, stop_rate=0.005)],
    "stopped": lambda: [LambdaCallback(on_epoch_end=stop_some), bp.callbacks.ExponentialMovingAverage(decay=0.5)],
}


@pytest.mark.parametrize("make", [fleet_of, mixed_fleet])
@pytest.mark.parametrize("kind", ENDS)
def test_the_whole_fleet_saved_in_a_callback_of_a_member(kind, make, path):
    """Members that have ended by then, or in that epoch, come to the same end in the run that goes on."""
    arguments = {"epochs": 6, "batch_size": 7, "learning_rate": 0.02}
    whole = make()
    whole.fit(X, Y, callbacks=[Callback(), *ENDS[kind]()], **arguments)
    assert len(set(whole.history.epochs.tolist())) > 1 or kind == "average"
    for member, epoch in itertools.product((0, 1, SIZE - 1), (1, 3, 0, -1, -2, -3, -6)):
        fleet = make()
        fleet.fit(X, Y, callbacks=[SavesAll(fleet, path, member, epoch), *ENDS[kind]()], **arguments)
        assert numbers(fleet) == numbers(whole)
        if path.exists():
            resumed = bp.resume(path)
            resumed.fit(X, Y, resume=True, callbacks=[Callback(), *ENDS[kind]()], **arguments)
            if kind != "stopped" or epoch >= 0:  # later members have not heard of the end of that epoch
                assert numbers(resumed) == numbers(whole), (member, epoch)
            path.unlink()


def test_saved_at_the_end_of_its_epochs_it_goes_on_with_more(path):
    """As a network that is saved in `on_train_end`."""
    fleet = fleet_of()
    fleet.fit(X, Y, epochs=3, callbacks=[SavesAll(fleet, path, 1, 0)])
    resumed = bp.resume(path)
    resumed.fit(X, Y, epochs=5, resume=True)
    fleet.fit(X, Y, epochs=2)
    assert resumed.history.epochs.tolist() == [5] * SIZE
    np.testing.assert_array_equal(resumed.parameters, fleet.parameters)


def test_checkpoints_of_members_are_those_of_networks(tmp_path):
    fleet = fleet_of()
    fleet.fit(X, Y, epochs=3, batch_size=7, callbacks=[Checkpoint(tmp_path / "run-{member}")])
    for k in range(SIZE):
        assert bp.resume(tmp_path / f"run-{k}").parameters.tobytes() == fleet[k].parameters.tobytes()


def test_load_takes_the_fleet_alone(path):
    fleet = fleet_of()
    fleet.fit(X, Y, epochs=2)
    fleet.save_checkpoint(path)
    loaded = bp.load(path)
    assert loaded.parameters.tobytes() == fleet.parameters.tobytes()
    assert loaded._groups[0].state is None
    fleet.save(path)
    with pytest.raises(ValueError, match="it holds no training, only a model"):
        bp.resume(path)


def test_a_fleet_that_was_never_trained(path):
    fleet = fleet_of()
    fleet.save_checkpoint(path)
    resumed = bp.resume(path)
    assert resumed._groups[0].state is None
    assert set(resumed.fit(X, Y, epochs=3, resume=True).epochs) == {3}


# --- files that are none ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A path, a model file and a checkpoint."""
    path = tmp_path_factory.mktemp("fleets") / "fleet.safetensors"
    fleet = mixed_fleet()
    fleet.save(path)
    model = path.read_bytes()
    arguments = {"validation_data": (X_VAL, Y_VAL), "callbacks": CALLBACKS["both"](), "metrics": "r2"}
    fleet.fit(X, Y, epochs=3, batch_size=7, **arguments)
    fleet.save_checkpoint(path)
    return path, model, path.read_bytes()


def test_a_damaged_checkpoint_is_seen(whole):
    path, _, data = whole
    rng = np.random.default_rng(0)
    for at in rng.integers(len(data), size=300):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.integers(8))]) + data[at + 1 :])
        with pytest.raises(ValueError, match=r"fleet\.safetensors"):
            bp.resume(path)
    for end in rng.integers(len(data), size=50):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"fleet\.safetensors"):
            bp.resume(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_value_error_or_still_a_fleet(whole, data):
    path, content, _ = whole
    damaged = bytearray(content)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        damaged[position] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        fleet = bp.load(path)
    except ValueError as error:
        message = str(error)
    else:
        message = f"{path} holds {fleet.predict(X[0]).shape}"
    assert str(path) in message


HUGE = 10**15


def change(*keys, **values):
    def apply(metadata, tensors):
        for key in keys:
            metadata = metadata[key]
        metadata.update(values)

    return apply


def tensor(name, value):
    def apply(metadata, tensors):
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value(tensors[name]) if callable(value) else value

    return apply


def altered(part):
    """A tensor with one element changed."""

    def apply(array):
        array = array.copy()
        part(array)
        return array

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(version=2), "version: this backprop reads up to 1, got 2; update backprop"),
        (change(format="keras"), "format: needs"),
        (change(size=5), "members: need each of the 5 places once"),
        (change(size=HUGE), "members: need each of the 1000000000000000 places once"),
        (change(dtype="float64"), "needs float64"),
        (change(groups=[]), "members: need each"),
        (change(groups=None), "NoneType"),
        (change(groups=[1]), "int"),
        (change("groups", 0, n_inputs=4), "groups.0.layers.0.weights: needs float32 (2, 4, 4)"),
        (change("groups", 0, n_inputs=HUGE), "groups.0.layers.0.weights: needs float32 (2, 1000000000000000, 4)"),
        (change("groups", 0, layers=[]), "layers: needs at least one"),
        (change("groups", 0, "layers", 0, "shared", units=HUGE), "groups.0.layers.0.weights: needs float32"),
        (change("groups", 0, "layers", 0, "shared", activation="exec"), "activation: needs one of"),
        (change("groups", 0, "layers", 0, "shared", code="print()"), "code"),
        (change("groups", 0, "layers", 1, "shared", dropout=0.5), "needs dropout=0"),
        (change("groups", 0, "layers", 0, own={"units": None}), "members may differ in"),
        (change("groups", 1, "layers", 0, own={"l2": [1]}), "groups.1.layers.0.l2: needs places in a list of 1"),
        (change("groups", 1, "layers", 0, own={"l2": 3}), "int"),
        (change("groups", 1, "layers", 0, own={"l1": None}), "groups.1.layers.0.l1: is missing"),
        (tensor("groups.1.layers.0.l2", np.array([-1.0, 1, 1, 1])), "l2: needs a number >= 0"),
        (tensor("groups.1.layers.0.l2", np.array([0.0, 1, 1, 1])), "members need l2 = 0 in the same layers"),
        (tensor("groups.1.layers.0.l2", np.ones(3)), "groups.1.layers.0.l2: needs a tensor (4,), got float64 (3,)"),
        (tensor("groups.0.members", np.array([0, 1])), "members: need each of the 6 places once"),
        (tensor("groups.0.members", np.array([3, 0])), "groups.0.members: need to be one at least, and ascending"),
        (tensor("groups.0.members", np.array([0.0, 3.0])), "groups.0.members: needs int64"),
        (tensor("groups.0.members", None), "groups.0.members: is missing"),
        (tensor("groups.0.seeds", np.zeros((2, 0), np.uint64)), "seeds: need a number each"),
        (tensor("groups.0.seeds", np.zeros((3, 1), np.uint64)), "groups.0.seeds: needs uint64"),
        (tensor("groups.0.layers.0.slopes", None), "groups.0.layers.0.slopes: is missing"),
        (tensor("groups.2.more", np.zeros(2)), "['groups.2.more'] (list) do not belong there"),
        (
            tensor("groups.1.layers.0.weights", altered(lambda array: array.__setitem__((1, 0, 0), np.nan))),
            "parameters: need finite numbers, those of member 2 are not",
        ),
    ],
)
def test_what_does_not_fit(damage, message, whole, tmp_path):
    path, content, _ = whole
    path.write_bytes(content)
    tensors, metadata = models.read(path)
    tensors = dict(tensors)
    damage(metadata, tensors)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(models.serialized(tensors, metadata))
    with pytest.raises(ValueError, match=re.escape(f"{damaged}: not a valid model file: ") + ".*" + re.escape(message)):
        bp.load(damaged)


def member(row, **values):
    def apply(array):
        records = array.copy().view(MEMBER)[:, 0]
        for name, value in values.items():
            records[name][row] = value
        return records.view(np.uint64).reshape(array.shape)

    return tensor("training.groups.0.members", apply)


TRAINING = "training.groups.0."


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (member(0, cursor=21), "needs cursor within the rows"),
        (member(0, cursor=-1), "needs cursor from 0"),
        (member(1, status=3), "needs a status among"),
        (member(1, status=5), "needs a status among"),
        (member(1, epoch=2**63 - 1), "needs epoch from 0"),
        (member(1, stale_epochs=-(2**63)), "needs stale_epochs of at most"),
        (change("training", member=["a"]), "member: needs records of"),
        (change("training", groups=[]), "groups: needs 2, got 0"),
        (change("training", "groups", 0, optimizers=[]), "training.groups.0.optimizer: is missing"),
        (change("training", "groups", 0, "optimizers", 0, name="eval"), "optimizer: needs one of"),
        (change("training", "groups", 0, "optimizers", 0, shared={"code": 1}), "optimizer: adam has"),
        (change("training", "history", names=["val_loss"]), "history: needs a loss"),
        (change("training", "history", names=["loss", "loss"]), "history: needs a loss, and each name once"),
        (change("training", "history", elapsed="0x1p99999"), "needs a number in hexadecimal"),
        (change("training", "history", stop_reasons=[]), "stop_reason: needs places in a list of 0"),
        (change("training", "callbacks", 0, size=3), "needs the states of 6 members"),
        (tensor(TRAINING + "slots", lambda array: array[:, :1].copy()), "slots: needs numbers and no NaN, 2 for each"),
        (tensor(TRAINING + "slots", altered(lambda array: array.fill(np.nan))), "slots: needs numbers and no NaN"),
        (tensor(TRAINING + "slots", lambda array: array[:1].copy()), "slots: needs float32"),
        (tensor(TRAINING + "best_parameters", lambda array: np.zeros_like(array, shape=(1, array.shape[1]))), "got 1"),
        (tensor(TRAINING + "n_shuffled", np.array([-1, 20])), "n_shuffled: needs numbers >= 0"),
        (tensor(TRAINING + "learning_rates", np.array([0.0, 1.0])), "learning_rates: needs finite numbers > 0"),
        (tensor("training.history.epochs", np.full(6, -1)), "epochs: needs numbers >= 0"),
        (tensor("training.history.epochs", np.full(6, HUGE)), "training.history.0: needs float64"),
        (tensor("training.more", np.zeros(1)), "do not belong there"),
    ],
)
def test_training_that_does_not_fit(damage, message, whole, tmp_path):
    path, _, content = whole
    path.write_bytes(content)
    tensors, metadata = models.read(path)
    tensors = dict(tensors)
    damage(metadata, tensors)
    metadata["sha256"] = checkpoints.digest(tensors, metadata)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(models.serialized(tensors, metadata))
    with pytest.raises(ValueError, match=re.escape(f"{damaged}: not a valid checkpoint: ") + ".*" + re.escape(message)):
        bp.resume(damaged)


def test_a_large_file_takes_twice_its_memory(path, tmp_path):
    fleet = bp.Fleet(100, [bp.Dense(100, "tanh"), bp.Dense(1)], size=1500, seed=0)
    fleet.save(path)
    script = """
import sys, tracemalloc, os
import backprop as bp
bp.load(sys.argv[2])
tracemalloc.start()
bp.load(sys.argv[1])
print(tracemalloc.get_traced_memory()[1] / os.path.getsize(sys.argv[1]))
"""
    fleet[:2].save(tmp_path / "small")
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "small")]
    assert float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 2.1


def run_on(network, X, y, **arguments):
    network.fit(X, y, epochs=12, resume=True, **arguments)
    return network


@pytest.mark.parametrize("how", ["of", "members", "slice", "list", "append a network", "append a fleet", "a file"])
def test_what_callbacks_know_goes_with_the_members(path, how):
    """Two rules, of which the core runs one: what the other has counted lies in its copies, one for each member."""

    def arguments():
        rules = EarlyStopping("loss", patience=9), ReduceLROnPlateau("loss", patience=3, min_delta=10.0)
        return {"callbacks": rules, "optimizer": "sgd", "batch_size": 8}

    fleet = fleet_of()
    fleet.fit(X, Y, epochs=12, **arguments())
    wanted = [network.parameters for network in fleet]
    half = fleet_of()
    half.fit(X, Y, epochs=5, **arguments())
    size, places = len(half), list(range(len(half)))
    if how == "members":
        found = [run_on(network, X[k], Y[k], **arguments()) for k, network in enumerate(half)]
    elif how == "a file":
        half[1].save_checkpoint(path)
        places, found = [1], [run_on(bp.resume(path), X[1], Y[1], **arguments())]
    else:
        if how == "of":
            half = bp.Fleet.of(list(half))
        elif how == "slice":
            half, places = half[1:], places[1:]
        elif how == "list":
            half, places = half[[2, 0]], [2, 0]
        else:
            more = half[size - 1] if how == "append a network" else half[size - 1 :]
            half = half[: size - 1]
            half.append(more)
        found = run_on(half, [X[k] for k in places], [Y[k] for k in places], **arguments())
    for k, network in zip(places, found, strict=True):
        np.testing.assert_array_equal(network.parameters, wanted[k])


def test_members_of_an_interrupted_fleet_go_on():
    """Some are epochs ahead of others, so there is room for their losses already."""
    whole, fleet = fleet_of(), fleet_of()

    def fit(fleet, k=slice(None), **arguments):
        fleet.fit(X[k], Y[k], epochs=6, resume=True, batch_size=8, **arguments)

    fit(whole)
    enough = LambdaCallback(on_epoch_end=lambda network, epoch, _: network.stop() if network.seed % 2 else None)
    fit(fleet, callbacks=[enough])
    assert set(fleet.history.epochs) == {1, 6}
    places = [3, 0, 2, 5]
    part = fleet[places]
    fit(part, places)
    np.testing.assert_array_equal(part.parameters, whole.parameters[places])
    np.testing.assert_array_equal(part.history["loss"], whole.history["loss"][:, places])
