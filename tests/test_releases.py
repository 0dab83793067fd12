"""Files of earlier releases are read, predict what they predicted, and are trained on as if nothing had happened."""

import json
from pathlib import Path

import backprop as bp
import numpy as np
import pytest

RELEASES = sorted(path for path in (Path(__file__).parent / "corpus" / "releases").iterdir() if path.is_dir())
EXPECTED = {path.name: json.loads((path / "expected.json").read_text()) for path in RELEASES}
NETWORKS = [(path, name) for path in RELEASES for name in EXPECTED[path.name]["networks"]]

each_network = pytest.mark.parametrize(
    ("folder", "name"), NETWORKS, ids=[f"{path.name}-{name}" for path, name in NETWORKS]
)
each_release = pytest.mark.parametrize("folder", RELEASES, ids=lambda path: path.name)


def close(values, recorded, dtype):
    """Equal but for the rounding of another backend."""
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(values, recorded, rtol=tolerance, atol=tolerance)


def test_there_are_files_of_0_1_0():
    assert "0.1.0" in EXPECTED
    assert len(EXPECTED["0.1.0"]["networks"]) >= 10


@each_network
def test_a_model_predicts_what_it_did(folder, name):
    recorded = EXPECTED[folder.name]["networks"][name]
    net = bp.load(folder / f"{name}.model")
    np.testing.assert_array_equal(net.parameters, np.array(recorded["parameters"], net.dtype))
    close(net.predict(EXPECTED[folder.name]["new"]), recorded["predictions"], net.dtype)


@each_network
def test_a_checkpoint_is_trained_on(folder, name):
    """With the rows of `tools/release_files.py`, the losses that the release had."""
    recorded = EXPECTED[folder.name]["networks"][name]
    X = np.random.default_rng(0).normal(size=(40, 3))
    net = bp.resume(folder / f"{name}.checkpoint")
    history = net.fit(X, np.array(recorded["targets"]), epochs=3, batch_size=8, **recorded["settings"])
    close(history.loss[-3:], recorded["loss"], net.dtype)


@each_release
def test_a_fleet_predicts_what_it_did(folder):
    expected = EXPECTED[folder.name]
    for name, recorded in expected["fleet"].items():
        fleet = bp.load(folder / f"{name}.model")
        close(fleet.predict(expected["new"]), recorded["predictions"], fleet.dtype)


@each_release
def test_a_model_for_tables_predicts_what_it_did(folder):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    for name, recorded in EXPECTED[folder.name]["table"].items():
        model = bp.load_table_model(folder / f"{name}.model")
        predictions = model.predict(pandas.DataFrame(recorded["rows"]))
        close(np.asarray(predictions), recorded["predictions"], "float32")
