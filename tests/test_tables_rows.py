"""Rows held out and the scores on them: what is undefined, what contradicts itself, what did not learn."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from backprop.cli import main
from backprop.tables import TableModel

duckdb = pytest.importorskip("duckdb")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, data):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(data)
        writer.writerows(zip(*data.values(), strict=True))
    return name


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    x, kind = rng.normal(size=n), rng.integers(0, 3, n)
    return {
        "x": x,
        "day": np.arange(n),
        "house": np.arange(n) % 10,
        "kind": np.array(["a", "b", "c"])[kind],
        "late": np.where(x > 0, "yes", "no"),
        "price": 3 * x + kind,
    }


# --- scores --------------------------------------------------------------------------------------------------------


def test_no_score_of_a_class_that_no_row_has(capsys):
    data = {"x": np.arange(200), "y": ["fraud"] * 5 + ["ok"] * 195}
    model = TableModel(epochs=1).fit(data, "y", time="x")
    assert list(model.scores["y"]) == ["accuracy", "balanced_accuracy"]
    assert main(["train", write("t.csv", data), "--target", "y", "--time", "x", "--epochs", "1"]) == 0
    assert "held out: no row of 'fraud': its precision, recall and F1 are undefined" in " ".join(
        capsys.readouterr().out.split()
    )
    assert "recall" in TableModel(epochs=1).fit(data, "y").scores["y"]
