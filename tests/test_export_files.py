"""Files of exports are whole or not there; what cannot leave is refused with a way that works."""

import os
import subprocess
import sys

import backprop as bp
import numpy as np
import pytest
from backprop.reference.activations import ACTIVATIONS

WAYS = ["network c", "network onnx", "table c", "table onnx"]


def exporter(way):
    """A function from a path, or nothing, to what an export returns."""
    what, kind = way.split()
    if kind == "onnx":
        pytest.importorskip("onnx")
    if what == "table":
        pytest.importorskip("duckdb")
        from backprop.tables import TableModel

        model = TableModel(epochs=1, seed=0).fit({"a": [1.0, 2, 3, 4], "b": ["x", "y", "x", "y"]}, target="b")
    else:
        model = bp.mlp([2, 200, 1], seed=0)
    return model.to_c if kind == "c" else model.to_onnx


@pytest.mark.parametrize("way", WAYS)
def test_with_a_path_it_is_written_and_without_one_returned(way, tmp_path):
    export, path = exporter(way), tmp_path / "model.x"
    assert export(path) is None
    found = export()
    assert path.read_bytes() == (found.encode() if isinstance(found, str) else found.SerializeToString())
    assert list(tmp_path.iterdir()) == [path]


def test_the_text_of_c_begins_with_a_name():
    net = bp.mlp([2, 1], seed=0)
    assert "void model_predict(" in net.to_c()
    assert "void valve_predict(" in net.to_c(name="valve")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_write_leaves_the_old_file(way, step, error, tmp_path, monkeypatch):
    export, path = exporter(way), tmp_path / "model.x"
    path.write_text("as it was")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(error if isinstance(error, type) else OSError):
        export(path)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", WAYS)
def test_where_nothing_can_be_written_it_is_said(way, tmp_path):
    export = exporter(way)
    with pytest.raises(FileNotFoundError, match=r"nowhere.model\.x"):
        export(tmp_path / "nowhere" / "model.x")
    (tmp_path / "folder.x").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.x"):
        export(tmp_path / "folder.x")
    with pytest.raises(TypeError, match="path: needs text, bytes or a path object, got 3"):
        export(3)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.x"]


FULL = """
import resource, sys
import backprop as bp
net = bp.mlp([2, 200, 1], seed=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for export in (net.to_c, net.to_onnx)[: int(sys.argv[2])]:
    try:
        export(sys.argv[1])
    except OSError as error:
        assert error.filename == sys.argv[1], error
    else:
        raise AssertionError("it fitted")
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a limit of the size of files")
def test_a_disk_that_is_full_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.x"
    path.write_text("as it was")
    n = 2 if _there("onnx") else 1
    subprocess.run([sys.executable, "-c", FULL, path, str(n)], check=True)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys
import backprop as bp
os.fsync = lambda descriptor: os._exit(9)
bp.mlp([2, 200, 1], seed=0).to_c(sys.argv[1])
"""


def test_a_process_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.h"
    path.write_text("as it was")
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == 9
    assert path.read_text() == "as it was"


def _there(package):
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", ["to_torch", "to_keras", "to_sklearn", "to_jax", "to_onnx", "to_c"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
def test_an_activation_leaves_or_is_refused_with_a_way(method, activation):
    """Whoever is refused is told of another function of this library that takes the network."""
    if method != "to_c":
        package = {"to_sklearn": "sklearn"}.get(method, method.removeprefix("to_"))
        pytest.importorskip(package)
    for layers in ([bp.Dense(3, activation), bp.Dense(3)], [bp.Dense(3), bp.Dense(3, activation)]):
        net = bp.Network(2, layers, seed=0)
        said = None
        try:
            assert getattr(net, method)() is not None
        except ValueError as error:
            said = str(error)
        if said is not None:
            assert method in ("to_torch", "to_keras", "to_sklearn")
            assert activation in said
            assert "to_onnx" in said
            assert net.to_onnx() if _there("onnx") else net.to_c()


@pytest.mark.parametrize("method", ["to_c", "to_onnx"])
def test_parameters_that_are_not_finite_are_refused_with_a_way(method):
    net = bp.mlp([2, 1], seed=0)
    net.weights[0][0] = np.inf
    if method == "to_onnx":
        pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=f"{method}: needs .*finite, got NaN or infinity; `fit` restores the last"):
        getattr(net, method)()
