"""Rows held out and the scores on them: what is undefined, what contradicts itself, what did not learn."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path

import backprop as bp
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
    assert "y: no row of 'fraud': its precision" in " ".join(str(model.report()).split())
    assert main(["train", write("t.csv", data), "--target", "y", "--time", "x", "--epochs", "1"]) == 0
    assert "held out: no row of 'fraud': its precision, recall and F1 are undefined" in " ".join(
        capsys.readouterr().out.split()
    )
    assert "recall" in TableModel(epochs=1).fit(data, "y").scores["y"]


# --- what contradicts itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "asked", "message"),
    [
        ({}, {"group": "house", "time": "day"}, "group: needs to be without time, got group 'house' and time 'day'"),
        ({"folds": 20}, {"group": "house"}, "folds: group 'house' has 10 groups, enough for at most 10 folds; got 20"),
        ({"folds": 201}, {}, "folds: the table has 200 rows with a target, enough for at most 200 folds; got 201"),
        ({"folds": 200}, {"time": "day"}, "folds: time 'day' has 200 different times, enough for at most 199 folds"),
        ({"loss": "huber"}, {}, "loss: a classification needs one of cross_entropy"),
        ({}, {"time": "kind"}, "time: needs a column of dates or numbers; .*'kind'"),
    ],
)
def test_what_contradicts_itself(capsys, settings, asked, message):
    with pytest.raises(ValueError, match=message):
        TableModel(epochs=1, **settings).fit(rows(), "late", **asked)
    options = [f"--{name}={value}".replace("_", "-") for name, value in (settings | asked).items()]
    assert main(["train", write("t.csv", rows()), "--target", "late", *options]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert f"error: --{message.split(':')[0]}: " in said.err


@pytest.mark.parametrize(
    ("target", "came"), [("kind", "'kind' has 3"), ("price", "'price' is a number")]
)  # of three classes, and of a regression
def test_a_threshold_needs_two_classes(capsys, target, came):
    message = f"threshold: needs a target of two classes; {came}"
    with pytest.raises(ValueError, match=message):
        TableModel(threshold=0.3).fit(rows(), target)
    train = ["train", write("t.csv", rows()), "--target", target, "--epochs", "3"]
    assert main([*train, "--threshold", "0.3"]) == 2
    assert main(train) == 0
    assert main(["predict", "t.safetensors", "t.csv", "--threshold", "0.3"]) == 2
    assert capsys.readouterr().err.count(f"error: --{message}") == 2
    model = TableModel(epochs=1).fit(rows(), target)
    with pytest.raises(ValueError, match=message):
        model.predict(rows(), threshold=0.3)


# --- arguments -----------------------------------------------------------------------------------------------------


def test_predict_takes_a_threshold_and_one_row():
    model = TableModel(epochs=3).fit(rows(), "late", ignore=("day", "house", "price", "kind"))
    positive = model.preprocessing.targets[0].positive
    chances = model.predict_proba(rows())[:, positive]
    np.testing.assert_array_equal(model.predict(rows(), threshold=0.2) == model.classes[positive], chances >= 0.2)
    for one in (2.0, np.float32(2), np.array(2.0)):
        assert model.predict({"x": one}).tolist() == model.predict({"x": [2.0]}).tolist()


def test_names_of_columns_that_are_integers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).random((100, 2)))
    assert TableModel(epochs=3).fit(frame, target=1).predict(frame[[0]]).shape == (100,)


def test_settings_have_names_and_are_told_from_arguments_of_fit():
    names = list(inspect.signature(TableModel).parameters)
    assert names == list(TableModel().settings.__dataclass_fields__)
    with pytest.raises(TypeError, match=r"test_size is a setting of the model: TableModel\(test_size=\.\.\.\)"):
        TableModel().fit(rows(), "late", test_size=0)
    with pytest.raises(TypeError, match="fit: has no argument 'tset_size'"):
        TableModel().fit(rows(), "late", tset_size=0)
    with pytest.raises(TypeError, match=r"hidden: needs the units of each layer, such as \(32, 32\)"):
        TableModel(hidden=32)


def test_one_input(capsys):
    assert main(["train", write("t.csv", {k: rows()[k] for k in ("x", "late")}), "--target", "late"]) == 0
    assert " 1 input of the network\n" in capsys.readouterr().out


# --- what did not learn --------------------------------------------------------------------------------------------


def test_a_training_that_went_wrong_is_an_error(capsys):
    with pytest.raises(ValueError, match="learning_rate: 1000 is too high to learn 'price': the training loss went fr"):
        TableModel(learning_rate=1000).fit(rows(), "price")
    train = ["train", write("t.csv", rows()), "--target", "price", "--learning-rate", "1000"]
    assert main(train) == 2
    assert "error: --learning-rate: 1000 is too high" in capsys.readouterr().err
    assert not Path("t.safetensors").exists()


def test_a_model_worse_than_none_is_told(capsys):
    rng = np.random.default_rng(0)
    noise = write("t.csv", {"x": rng.normal(size=100), "y": rng.normal(size=100)})
    train = ["train", noise, "--target", "y", "--l2", "0", "--epochs", "300"]
    assert main(train) == 0
    assert "warning: held out: worse than always the mean" in capsys.readouterr().err
    assert main(["train", write("u.csv", rows()), "--target", "price"]) == 0
    assert not capsys.readouterr().err


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_table_is_no_model(capsys):
    write("t.csv", rows())
    assert main(["predict", "t.csv", "t.csv"]) == 2
    assert "error: t.csv: not a safetensors file, or a damaged one; MODEL comes first" in capsys.readouterr().err


def test_load_tells_of_what_it_leaves_out():
    model = TableModel(epochs=1).fit(rows(), "price")
    model.save("m.safetensors")
    with pytest.warns(UserWarning, match="load_table_model returns the model"):
        network = bp.load("m.safetensors")
    assert network.n_inputs == model.networks["price"].n_inputs
    bp.load_table_model("m.safetensors")


def test_memory_of_the_command_line(capsys):
    with pytest.raises(SystemExit):
        main(["train", "t.csv", "--memory", "1KB"])
    assert "got '1KB' (see" in capsys.readouterr().err
