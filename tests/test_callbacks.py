"""Callbacks: when they are called, what they can do, and what stays as it was when they fail."""

import csv
import math
import os
import re
import threading

import backprop as bp
import numpy as np
import pytest
from backprop.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    Plateau,
    Progress,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

N = 40


@pytest.fixture
def data(rng):
    X = rng.normal(size=(N, 3))
    return X, np.sin(X.sum(axis=1))


@pytest.fixture
def overfitting(rng):
    """Rows whose validation loss soon rises: noise."""
    X, y = rng.normal(size=(N, 3)), rng.normal(size=N)
    return {"X": X[:10], "y": y[:10], "validation_data": (X[10:], y[10:])}


def make(backend, dtype="float64"):
    return bp.Network(3, [bp.Dense(8, "tanh"), bp.Dense(1)], dtype=dtype, seed=0, backend=backend)


class Diary(Callback):
    """Remembers every call."""

    def __init__(self, every=1):
        self.every, self.calls = every, []

    def on_train_begin(self, network, logs):
        self.calls.append(("train begins", dict(logs)))

    def on_train_end(self, network, logs):
        self.calls.append(("train ends", network.history.stop_reason))

    def on_epoch_begin(self, network, epoch, logs):
        self.calls.append(("begin", epoch))

    def on_epoch_end(self, network, epoch, logs):
        self.calls.append(("end", epoch))
        for name in network.history:
            assert network.history[name][-1] == logs[name]
        assert network.history.epochs == epoch


# --- when -------------------------------------------------------------------------------------------------------------


def test_order(backend, data):
    diary = Diary()
    make(backend).fit(*data, epochs=2, validation_split=0.2, callbacks=[diary])
    assert diary.calls == [
        ("train begins", {}),
        ("begin", 1),
        ("end", 1),
        ("begin", 2),
        ("end", 2),
        ("train ends", "epochs"),
    ]


def test_epochs_count_over_calls_or_from_an_initial_one(backend, data):
    net, diary = make(backend), Diary(every=2)
    net.fit(*data, epochs=3)
    history = net.fit(*data, epochs=4, callbacks=[LambdaCallback(on_epoch_end=lambda *_: None), diary])
    assert [call for call in diary.calls if call[0] in ("begin", "end")] == [
        ("end", 4), ("begin", 5), ("end", 6), ("begin", 7),
    ]  # fmt: skip
    assert history.epochs == 7
    seen = []
    remember = LambdaCallback(on_epoch_begin=lambda network, epoch, logs: seen.append(epoch), every=10)
    net.fit(*data, epochs=21, initial_epoch=100, callbacks=[remember])
    assert seen == [101, 111, 121]


def test_several_periods(backend, data):
    seen = []
    each = [
        LambdaCallback(on_epoch_end=lambda network, epoch, logs, k=k: seen.append((epoch, k)), every=k) for k in (2, 3)
    ]
    make(backend).fit(*data, epochs=7, callbacks=each)
    assert seen == [(2, 2), (3, 3), (4, 2), (6, 2), (6, 3)]


def test_logs_are_what_the_history_has(backend, data):
    logged = []
    history = make(backend).fit(
        *data,
        epochs=3,
        batch_size=8,
        validation_split=0.25,
        metrics=["r2"],
        schedule=bp.schedules.Exponential(decay=0.9),
        log=lambda step, metrics: logged.append((step, metrics)),
    )
    assert [step for step, _ in logged] == [4, 8, 12]
    assert list(history) == ["loss", "val_loss", "r2", "val_r2", "learning_rate"]
    for name in history:
        np.testing.assert_array_equal(history[name], [metrics[name] for _, metrics in logged])
        assert all(type(metrics[name]) is float for _, metrics in logged)


def test_callbacks_change_no_bit(backend, data):
    plain, watched = make(backend), make(backend)
    plain.fit(*data, epochs=7, batch_size=16)
    watched.fit(*data, epochs=7, batch_size=16, callbacks=[Diary(), Callback(), EarlyStopping("loss"), Progress(9.0)])
    np.testing.assert_array_equal(plain.parameters, watched.parameters)
    np.testing.assert_array_equal(plain.history.loss, watched.history.loss)


def test_a_callback_may_predict(backend, data):
    net, seen = make(backend), []
    net.fit(
        *data,
        epochs=3,
        callbacks=[LambdaCallback(on_epoch_end=lambda network, *_: seen.append(network.predict(data[0])))],
    )
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[-1], net.predict(data[0]))


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_a_callback_that_raises(hook, backend, data):
    net, twin, diary = make(backend), make(backend), Diary()
    calls = []

    def fail(network, *rest):
        calls.append(rest)
        if hook.startswith("on_train") or rest[0] == 3:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        net.fit(*data, epochs=5, batch_size=8, callbacks=[diary, LambdaCallback(**{hook: fail})])
    done = {"on_train_begin": 0, "on_epoch_begin": 2, "on_epoch_end": 3, "on_train_end": 5}[hook]
    assert net.history.epochs == done
    assert diary.calls[-1] == ("train ends", "epochs" if hook == "on_train_end" else "interrupted")
    for each in (net, twin):  # whatever is done next is as if nothing had happened
        each.fit(*data, epochs=6 - (done if each is net else 0), batch_size=8)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    np.testing.assert_array_equal(net.history.loss, twin.history.loss)


def test_a_metric_that_raises(backend, data):
    net, values = make(backend), iter([0.5, 0.25])

    def fragile(outputs, targets):
        return next(values)

    with pytest.raises(StopIteration):
        net.fit(*data, epochs=5, metrics=[fragile])
    assert net.history.epochs == 3
    assert net._state.epoch == 3
    np.testing.assert_array_equal(net.history["fragile"], [0.5, 0.25, math.nan])


# --- stopping ---------------------------------------------------------------------------------------------------------


def rule_by_hand(values, patience, min_delta):
    """At which epoch the documented rule stops; None if never."""
    stale, best = 0, math.inf
    for epoch, value in enumerate(values, 1):
        stale = 0 if value <= best - min_delta else stale + 1
        best = min(best, value)
        if stale >= patience:
            return epoch
    return None


class InPython(EarlyStopping):
    """The same, but the core does not know."""

    def on_epoch_end(self, network, epoch, logs):
        EarlyStopping.on_epoch_end(self, network, epoch, logs)


@pytest.mark.parametrize("kind", [EarlyStopping, InPython])
@pytest.mark.parametrize("restore_best", [False, True])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_early_stopping(kind, restore_best, batch_size, backend, overfitting):
    stopping = kind("val_loss", patience=7, min_delta=1e-5, restore_best=restore_best)
    assert stopping.suits_core() == (kind is EarlyStopping)
    net, twin = make(backend), make(backend)
    settings = {**overfitting, "optimizer": bp.Adam(learning_rate=0.05), "batch_size": batch_size}
    history = net.fit(**settings, epochs=2000, callbacks=[stopping])
    assert history.stop_reason == "tolerance"
    values = history["val_loss"]
    assert rule_by_hand(values, 7, 1e-5) == history.epochs
    assert stopping.best == values.min()
    assert stopping.best_epoch == values.argmin() + 1 < history.epochs
    twin.fit(**settings, epochs=stopping.best_epoch if restore_best else history.epochs)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    assert net.loss(*overfitting["validation_data"]) == pytest.approx(
        values.min() if restore_best else values[-1], rel=1e-12
    )


def test_the_best_is_restored_even_if_all_epochs_are_done(backend, overfitting):
    net, stopping = make(backend), EarlyStopping("val_loss", patience=10**20, restore_best=True)
    history = net.fit(**overfitting, optimizer=bp.Adam(learning_rate=0.05), epochs=400, callbacks=[stopping])
    assert history.stop_reason == "epochs"
    assert net.loss(*overfitting["validation_data"]) == pytest.approx(history["val_loss"].min(), rel=1e-12)


def test_stopping_on_a_metric(backend, rng):
    X = rng.normal(size=(N, 2))
    y = (X.sum(axis=1) > 0).astype(int)
    net = bp.mlp([2, 4, 2], output="softmax", dtype="float64", seed=0, backend=backend)
    stopping = EarlyStopping("val_accuracy", patience=5, restore_best=True)
    history = net.fit(
        X, y, validation_split=0.5, metrics="accuracy", optimizer=bp.Adam(learning_rate=0.05), epochs=10_000,
        callbacks=[stopping],
    )  # fmt: skip
    assert history.stop_reason == "tolerance"
    assert stopping.best == history["val_accuracy"].max()
    assert stopping.best_epoch == history["val_accuracy"].argmax() + 1
    assert (net.predict(X[20:]).argmax(axis=1) == y[20:]).mean() == stopping.best


def test_two_rules_at_once(backend, overfitting):
    """One runs in the core, the other here; the first to fire counts."""
    first, second = EarlyStopping("val_loss", patience=3), EarlyStopping("val_loss", patience=8)
    for rules in ([first, second], [second, first]):
        net = make(backend)
        history = net.fit(**overfitting, optimizer=bp.Adam(learning_rate=0.05), epochs=2000, callbacks=rules)
        assert rule_by_hand(history["val_loss"], 3, 0) == history.epochs
        assert first.best == second.best


def test_tolerance_beside_a_callback(backend, overfitting):
    net = make(backend)
    history = net.fit(
        **overfitting, epochs=2000, tolerance=1e-9, patience=2, callbacks=[EarlyStopping("val_loss", patience=500)]
    )
    assert history.stop_reason == "tolerance"
    stop = rule_by_hand(history.loss, 2, 1e-9), rule_by_hand(history["val_loss"], 500, 0)
    assert history.epochs == min(epoch for epoch in stop if epoch)


@pytest.mark.parametrize("reason", ["stopped", "enough"])
def test_stop_from_a_callback(reason, backend, data):
    net = make(backend)
    assert not net.stop()
    with pytest.raises(TypeError, match=r"^reason: needs a text, got 3"):
        net.stop(3)
    with pytest.raises(ValueError, match=r"^reason: needs a text that is not empty"):
        net.stop("")
    history = net.fit(*data, callbacks=[LambdaCallback(on_epoch_end=lambda network, *_: network.stop(reason), every=4)])
    assert (history.epochs, history.stop_reason) == (4, reason)
    history = net.fit(*data, epochs=2)
    assert (history.epochs, history.stop_reason) == (6, "epochs")


def test_stop_before_the_first_epoch(backend, data):
    net, before = make(backend), make(backend).parameters
    history = net.fit(*data, callbacks=[LambdaCallback(on_train_begin=lambda network, _: network.stop())])
    assert (history.epochs, history.stop_reason) == (0, "stopped")
    np.testing.assert_array_equal(net.parameters, before)


# --- the learning rate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
def test_scaling_the_learning_rate(every, backend, data):
    net, twin = make(backend), make(backend)
    halve = LambdaCallback(on_epoch_end=lambda network, *_: network.scale_learning_rate(0.5), every=every)
    net.fit(*data, optimizer=bp.SGD(learning_rate=0.1), epochs=6, callbacks=[halve])
    for epoch in range(6):
        twin.fit(*data, optimizer=bp.SGD(learning_rate=0.1 * 0.5 ** (epoch // every)), epochs=1)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_scaling_without_a_fit(backend):
    with pytest.raises(RuntimeError, match="scale_learning_rate: needs a fit that is at work"):
        make(backend).scale_learning_rate(0.5)


class Reducing(ReduceLROnPlateau):
    """The same, but the core does not know."""

    def on_epoch_end(self, network, epoch, logs):
        ReduceLROnPlateau.on_epoch_end(self, network, epoch, logs)


@pytest.mark.parametrize("kind", [ReduceLROnPlateau, Reducing])
@pytest.mark.parametrize(
    "settings", [{}, {"cooldown": 4}, {"min_rate": 2e-3, "factor": 0.3}, {"patience": 1}, {"min_delta": 1e-3}], ids=str
)
def test_reduction_beside_pytorch(kind, settings, backend, data):
    torch = pytest.importorskip("torch")
    settings = {"factor": 0.5, "patience": 3, "min_delta": 1e-4, **settings}
    net = make(backend)
    history = net.fit(
        *data, optimizer=bp.SGD(learning_rate=0.9), batch_size=4, epochs=60, callbacks=[kind("loss", **settings)]
    )
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=settings["factor"], patience=settings["patience"] - 1, threshold=settings["min_delta"],
        threshold_mode="abs", cooldown=settings.get("cooldown", 0), min_lr=settings.get("min_rate", 0), eps=0,
    )  # fmt: skip
    rates, best = [], math.inf
    for loss in history.loss:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(loss)
        best = min(best, loss)
        scheduler.best = best  # PyTorch keeps the best one that was better by the threshold
    assert len(set(rates)) > 2
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-12)


def test_reduction_until_it_stops(backend, data):
    lower = ReduceLROnPlateau("loss", factor=0.2, patience=3, min_delta=1e-2, stop_rate=1e-4)
    history = make(backend).fit(*data, optimizer=bp.SGD(learning_rate=0.1), epochs=10_000, callbacks=[lower])
    assert history.stop_reason == "tolerance"
    rates = history["learning_rate"]
    assert rates[-1] <= 1e-4 < 5 * rates[-1] * (1 + 1e-12)


def test_reduction_under_a_schedule(backend, data):
    schedule = bp.schedules.Exponential(decay=0.9, every="epoch")
    lower = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    sgd = bp.SGD(learning_rate=0.1)
    history = make(backend).fit(*data, optimizer=sgd, schedule=schedule, epochs=4, callbacks=[lower])
    np.testing.assert_allclose(history["learning_rate"], 0.1 * 0.9 ** np.arange(4) * [1, 1, 0.5, 0.25])


# --- files and bars ---------------------------------------------------------------------------------------------------


def test_checkpoints(backend, data, tmp_path):
    path, saved = tmp_path / "net.safetensors", []

    class Watched(Checkpoint):
        def save(self, network):
            Checkpoint.save(self, network)
            saved.append(network.history.epochs)

    net = make(backend)
    net.fit(*data, epochs=7, callbacks=[Watched(path, every=3)])
    assert saved == [3, 6, 7]
    np.testing.assert_array_equal(bp.load(path).parameters, net.parameters)


def test_checkpoints_of_the_best(backend, overfitting, tmp_path):
    path, net = tmp_path / "net.safetensors", make(backend)
    checkpoint = Checkpoint(path, monitor="val_loss")
    history = net.fit(**overfitting, optimizer=bp.Adam(learning_rate=0.05), epochs=60, callbacks=[checkpoint])
    best = bp.load(path, backend=backend)
    assert best.loss(*overfitting["validation_data"]) == pytest.approx(history["val_loss"].min(), rel=1e-12)
    assert checkpoint.best == history["val_loss"].min() < history["val_loss"][-1]


def test_csv(backend, data, tmp_path):
    path, net = tmp_path / "log.csv", make(backend)
    net.fit(*data, epochs=4, validation_split=0.5, callbacks=[CSVLogger(path, every=2)])
    net.fit(*data, epochs=2, validation_split=0.5, callbacks=[CSVLogger(path, every=2, append=True)])
    lines = list(csv.reader(path.read_text().splitlines()))
    assert lines[0] == ["epoch", "loss", "val_loss"]
    assert [int(line[0]) for line in lines[1:]] == [2, 4, 6]
    np.testing.assert_array_equal([float(line[2]) for line in lines[1:]], net.history["val_loss"][1::2])
    with pytest.raises(
        ValueError, match=re.escape("log.csv: needs the columns ['epoch', 'loss'], has ['epoch', 'loss', 'v")
    ):
        net.fit(*data, epochs=2, callbacks=[CSVLogger(path, append=True)])
    net.fit(*data, epochs=1, callbacks=[CSVLogger(path)])
    assert path.read_text().splitlines()[0] == "epoch,loss"
    with pytest.raises(FileNotFoundError):
        net.fit(*data, callbacks=[CSVLogger(tmp_path / "missing" / "log.csv")])


@pytest.mark.parametrize("monitor", ["loss", "mean_absolute_error"])
def test_numbers_of_numpy_are_plain_numbers(monitor, backend, data):
    """A cooldown of -5 is 251 in 8 bits, and losses less a float32 lose digits; the core's rule has other types."""
    rates = []
    for integer, real in ((int, float), (np.uint8, np.float32)):
        lower = ReduceLROnPlateau(
            monitor, patience=integer(3), cooldown=integer(5), factor=real(0.5), min_delta=real(2**-10)
        )
        settings = {"metrics": "mean_absolute_error", "optimizer": bp.SGD(learning_rate=0.1)}
        rates.append(make(backend).fit(*data, epochs=60, callbacks=[lower], **settings)["learning_rate"])
    np.testing.assert_array_equal(*rates)
    assert rates[0][-1] < 0.1
    average = bp.callbacks.ExponentialMovingAverage(np.float32(0.5), start=np.float32(0.25))
    assert repr(average) == repr(bp.callbacks.ExponentialMovingAverage(0.5, start=0.25))


def test_a_csv_file_without_its_last_line_end_goes_on_in_a_new_line(backend, data, tmp_path):
    path, net = tmp_path / "log.csv", make(backend)
    path.write_text("epoch,loss\n1,4.0\n2,3.")  # where the disk was full
    net.fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])
    assert path.read_text() == f"epoch,loss\n1,4.0\n2,3.\n1,{net.history.loss[0].item()!r}\n"
    path.write_text("")
    net.fit(*data, epochs=1, callbacks=[CSVLogger(path, append=True)])
    assert path.read_text() == f"epoch,loss\n2,{net.history.loss[1].item()!r}\n"


def test_a_pipe_is_not_read_for_its_columns(backend, data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        make(backend).fit(*data, epochs=1, callbacks=[CSVLogger(tmp_path / "pipe", append=True)])
        assert os.read(reader, 100).startswith(b"epoch,loss\n1,")
    finally:
        os.close(reader)


def test_progress(backend, data, capfd):
    make(backend).fit(*data, epochs=5, callbacks=[Progress(after=100.0)])
    assert capfd.readouterr() == ("", "")
    make(backend).fit(*data, epochs=5, callbacks=[Progress()])
    assert "5/5" in capfd.readouterr().err


def test_no_progress_where_nothing_is_left_to_do(data, capfd):
    """For a network, a fleet of two shapes, and minimizers of both."""
    fleet = bp.Fleet.of([bp.mlp([3, 1], seed=0), bp.mlp([3, 2, 1], seed=0)])
    for model in (bp.mlp([3, 1], seed=0), fleet):
        for train in (model.fit, model.minimize):
            epochs = "epochs" if train == model.fit else "max_iter"
            train(*data, **{epochs: 2}, progress=False)
            train(*data, **{epochs: 2}, resume=True, progress=True)
            assert capfd.readouterr() == ("", "")
            train(*data, **{epochs: 3}, resume=True, progress=True)
            assert f" {len(fleet) if model is fleet else 1}/" in capfd.readouterr().err or train != fleet.fit


@pytest.mark.parametrize(("make_one", "known"), [(Checkpoint, " but {epoch}"), (CSVLogger, "")])
def test_a_network_is_no_member(make_one, known, data, tmp_path):
    message = re.escape(f"path: needs no field{known}, got {{member:02}}, which is for fleets")
    with pytest.raises(ValueError, match=message):
        bp.mlp([3, 1]).fit(*data, callbacks=[make_one(tmp_path / "net{member:02}")])
    assert not list(tmp_path.iterdir())


def test_the_epoch_in_the_path_of_a_checkpoint(data, tmp_path):
    """Each file is that of its epoch, whatever trains."""
    net = bp.mlp([3, 1], seed=0)
    net.fit(*data, epochs=5, callbacks=[Checkpoint(tmp_path / "fit-{epoch:03}", every=2)])
    net.fit(*data, epochs=2, initial_epoch=10, callbacks=[Checkpoint(tmp_path / "on-{epoch}")])
    net.minimize(*data, max_iter=2, tolerance=0, callbacks=[Checkpoint(tmp_path / "lbfgs-{epoch}", every=9)])
    fleet = bp.Fleet(3, [bp.Dense(1)], size=2, seed=0)
    fleet.fit(*data, epochs=3, callbacks=[Checkpoint(tmp_path / "{member:02}-{epoch}", every=2)])
    names = ["00-2", "00-3", "01-2", "01-3", "fit-002", "fit-004", "fit-005", "lbfgs-9", "on-11", "on-12"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert bp.resume(tmp_path / "fit-004").history.epochs == 4


@pytest.mark.filterwarnings("error")
def test_progress_where_no_thread_can_be_started(data, monkeypatch, capfd):
    tqdm = pytest.importorskip("tqdm").tqdm

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(tqdm, "monitor", None)
    before = tqdm.monitor_interval
    monkeypatch.setattr(threading.Thread, "start", start)
    bp.mlp([3, 1]).fit(*data, epochs=5, n_threads=1, callbacks=[Progress()])
    assert "5/5" in capfd.readouterr().err
    assert tqdm.monitor_interval == before > 0


@pytest.mark.parametrize("settings", [{"callbacks": [TerminateOnNaN()]}, {"on_divergence": "stop"}], ids=str)
def test_divergence_without_an_error(settings, backend, dtype, data):
    net = make(backend, dtype)
    history = net.fit(*data, optimizer=bp.SGD(learning_rate=1e20), **settings)
    assert history.stop_reason == "diverged"
    assert np.isfinite(net.parameters).all()


# --- wrong ones -------------------------------------------------------------------------------------------------------

BAD_CALLBACKS = [
    (lambda: EarlyStopping("val_loss", patience=0), ValueError, "patience: needs an integer >= 1, got 0"),
    (lambda: EarlyStopping("loss", min_delta=-1.0), ValueError, "min_delta: needs a number >= 0, got -1"),
    (lambda: EarlyStopping("loss", mode="least"), ValueError, "mode: needs one of 'auto', 'min', 'max', got 'least'"),
    (
        lambda: EarlyStopping("val_mine"),
        ValueError,
        "mode: needs 'min' or 'max' for 'val_mine', which is no loss and no",
    ),
    (lambda: EarlyStopping(3), TypeError, "monitor: needs a name, got 3"),
    (lambda: EarlyStopping("loss", restore_best=1), TypeError, "restore_best: needs True or False, got 1"),
    (lambda: ReduceLROnPlateau("loss", factor=1.0), ValueError, "factor: needs a number > 0 and < 1, got 1.0"),
    (lambda: ReduceLROnPlateau("loss", cooldown=-1), ValueError, "cooldown: needs an integer >= 0, got -1"),
    (lambda: Checkpoint("net", every=0), ValueError, "every: needs an integer >= 1, got 0"),
    (lambda: CSVLogger("log", append=1), TypeError, "append: needs True or False, got 1"),
    (lambda: CSVLogger(2), TypeError, "path: needs text, bytes or a path object, got 2"),  # which is stderr
    (lambda: Checkpoint(None), TypeError, "path: needs text, bytes or a path object, got None"),
    (lambda: Checkpoint("net", monitor=3), TypeError, "monitor: needs a name, got 3"),
    (lambda: Checkpoint("a-{val_loss:.2f}"), ValueError, "path: needs no field but {member} and {epoch}, got {val_"),
    (lambda: CSVLogger("a-{epoch}.csv"), ValueError, "path: needs no field but {member}, got {epoch}"),
    (lambda: Checkpoint("a-{epoch:zz}"), ValueError, "path: needs formats of integers, got 'a-{epoch:zz}' (Unk"),
    (lambda: Progress(after="1 s"), TypeError, "after: needs a number, got '1 s'"),
    (lambda: Progress(after=-1), ValueError, "after: needs a number >= 0, got -1"),
    (lambda: LambdaCallback(on_epoch_end=3), TypeError, "on_epoch_end: needs a function, got 3"),
]


@pytest.mark.parametrize(("make_one", "error", "message"), BAD_CALLBACKS)
def test_bad_callbacks(make_one, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make_one()


class NeverPlain(Callback):
    every = 0


class Misspelt(Callback):
    def on_epoch_ends(self, network, epoch, logs):
        raise AssertionError


class OfKeras(Misspelt):
    on_train_batch_end = None
    on_epoch_ends = None

    def on_batch_end(self, network, logs):
        raise AssertionError


class Helpers(Callback):
    def on_epoch_end(self, network, epoch, logs):
        self.on_click()

    def on_click(self):
        self.clicked = True


def test_other_methods_of_callbacks_are_the_users_own(backend, data):
    helpers = Helpers()
    make(backend).fit(*data, epochs=1, callbacks=[helpers])
    assert helpers.clicked


class NoPlateau(Callback):
    def on_plateau(self, network, epoch, logs):
        raise AssertionError


HOOKS = "callbacks[0]: needs methods among on_train_begin, on_train_end, on_epoch_begin, on_epoch_end, got "
BAD_ARGUMENTS = [
    ({"callbacks": [Misspelt()]}, TypeError, HOOKS + "on_epoch_ends; write 'on_epoch_end'"),
    ({"callbacks": [OfKeras()]}, TypeError, HOOKS + "on_batch_end"),
    ({"callbacks": [NoPlateau()]}, TypeError, HOOKS + "on_plateau"),
    ({"callbacks": Callback()}, TypeError, "callbacks: needs a sequence of Callback, got <backprop"),
    ({"callbacks": [print]}, TypeError, "callbacks[0]: needs a Callback, got <built-in function print>"),
    ({"callbacks": [EarlyStopping]}, TypeError, "; write EarlyStopping(...)"),
    ({"callbacks": [NeverPlain()]}, ValueError, "callbacks[0].every: needs an integer >= 1, got 0"),
    ({"callbacks": [EarlyStopping("val_loss")]}, ValueError, "needs a monitor that is recorded, 'loss'"),
    (
        {"callbacks": [EarlyStopping("accuracy")], "metrics": ["r2"], "validation_split": 0.5},
        ValueError,
        "needs a monitor that is recorded, 'loss', 'val_loss', 'r2', 'val_r2'",
    ),
    ({"callbacks": [Checkpoint("net", monitor="val_loss")]}, ValueError, "needs a monitor that is recorded, 'loss'"),
    ({"log": 3}, TypeError, "log: needs a function of step and metrics, got 3"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD_ARGUMENTS)
def test_bad_arguments_leave_everything_untouched(settings, error, message, backend, data):
    net, twin = make(backend), make(backend)
    with pytest.raises(error, match=re.escape(message)):
        net.fit(*data, **settings)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    assert net.history.epochs == 0
    assert net.history.stop_reason is None


def test_a_class_of_ones_own_on_a_plateau(backend, data):
    """Also from inside the core."""

    class Count(Plateau):
        def on_plateau(self, network, epoch, logs):
            seen.append((epoch, self.best_epoch))

    seen = []
    count = Count("loss", patience=3, min_delta=1e9)
    assert count.suits_core()
    make(backend).fit(*data, epochs=9, callbacks=[count])
    assert [epoch for epoch, _ in seen] == [4, 7]
