"""`TableModel`: learning, predicting, scoring, files; and the options of the command line that are about rows."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop.cli import main
from backprop.io import load_with_extra
from backprop.tables import TableModel, open_table, writing
from backprop.tables.engine import Limits

duckdb = pytest.importorskip("duckdb")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def people(n=300, seed=0):
    rng = np.random.default_rng(seed)
    age, town = rng.integers(18, 80, n), rng.integers(0, 3, n)
    buys = (age > 40) ^ (town == 1)
    return {
        "id": [f"p{k:04d}" for k in range(n)],
        "age": age,
        "town": np.array(["Rome", "Oslo", "Bern"])[town],
        "since": np.datetime64("2020-01-01") + rng.integers(0, 1000, n),
        "spends": np.round(age * 2.5 + 10 * town + rng.normal(size=n), 2),
        "buys": buys,
        "household": rng.integers(0, 60, n),
        "weight": rng.random(n) + 0.5,
    }


def write(name, data):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(data)
        writer.writerows(zip(*data.values(), strict=True))
    return name


QUICK = {"epochs": 60, "seed": 0}
INPUTS = {"ignore": ("household", "weight")}


# --- learning ------------------------------------------------------------------------------------------------------


def test_a_file_and_a_frame_give_the_same_model():
    pandas = pytest.importorskip("pandas")
    data = people()
    write("people.csv", data)
    one = TableModel(**QUICK).fit("people.csv", target="buys", **INPUTS)
    other = TableModel(**QUICK).fit(pandas.DataFrame(data), target="buys", **INPUTS)
    np.testing.assert_array_equal(one.networks["buys"].parameters, other.networks["buys"].parameters)
    assert one.preprocessing.inputs == other.preprocessing.inputs
    assert one.scores == other.scores
    assert one.predict("people.csv").tolist() == list(map(str, other.predict(data)))


def test_classes_and_probabilities():
    model = TableModel(**QUICK).fit(people(), target="town", ignore=("weight",))
    assert model.classes.tolist() == ["Bern", "Oslo", "Rome"]
    chances = model.predict_proba(people(50, seed=1))
    assert chances.shape == (50, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.classes[chances.argmax(axis=1)], model.predict(people(50, seed=1)))
    with pytest.raises(ValueError, match="predict_proba: needs a classification; the model predicts the number 'age'"):
        TableModel(epochs=1).fit(people(), target="age").predict_proba(people(5))


def test_labels_that_are_numbers_come_back_as_numbers():
    data = {"x": np.linspace(0, 1, 90), "y": np.repeat([1, 2, 3], 30)}
    assert TableModel(**QUICK).fit(data, target="y").predict({"x": [0.0, 1.0]}).tolist() == [1, 3]


def test_large_tables_stop_on_validation_rows():
    model = TableModel(seed=0).fit(people(4000), target="buys", **INPUTS)
    split = model.plan.split
    assert (len(split.fit), len(split.validation), len(split.held_out)) == (2625, 375, 1000)
    assert sorted(np.concatenate([split.fit, split.validation, split.held_out])) == list(range(4000))
    assert "val_loss" in list(model.history["buys"])
    assert model.scores["buys"]["roc_auc"] > 0.99
    assert model.training["rows for validation"] == 375
    soon = TableModel(seed=0, patience=1, epochs=200, learning_rate=0.05).fit(people(4000), target="buys", **INPUTS)
    assert soon.history["buys"].epochs < 100
    assert soon.history["buys"].stop_reason == "tolerance"
    own = TableModel(validation_size=0.2, **QUICK).fit(people(), target="buys", **INPUTS)
    assert len(own.plan.split.validation) == 45


def test_groups_stay_on_one_side():
    data = people()
    split = TableModel(epochs=1, validation_size=0.2).fit(data, target="buys", group="household").plan.split
    parts = [set(data["household"][rows].tolist()) for rows in (split.fit, split.validation, split.held_out)]
    assert all(parts)
    assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts))


def test_the_last_ones_in_time():
    data = people()
    model = TableModel(epochs=1, validation_size=0.2).fit(data, target="buys", time="since")
    split = model.plan.split
    assert data["since"][split.fit].max() < data["since"][split.validation].min()
    assert data["since"][split.validation].max() < data["since"][split.held_out].min()
    assert "since" in [column.name for column in model.preprocessing.columns]


def test_weights_count():
    data = {"x": [1.0, 2.0] * 50, "y": [0.0, 0.0, 10.0, 10.0] * 25, "w": [1.0, 1.0, 9.0, 9.0] * 25}
    settings = {"test_size": 0, "l2": 0.0, "epochs": 300, "seed": 0}
    np.testing.assert_allclose(
        TableModel(**settings).fit(data, "y", task="regression", weight="w").predict({"x": [1.0]}), [9], atol=0.3
    )
    model = TableModel(**settings).fit(data, "y", task="regression", ignore="w")
    np.testing.assert_allclose(model.predict({"x": [1.0]}), [5], atol=0.3)
    with pytest.raises(ValueError, match="row 1: weight 'w' needs a number >= 0, got -1"):
        TableModel().fit({**data, "w": [-1.0] * 100}, "y", weight="w")
    with pytest.raises(ValueError, match="row 3: weight 'w' needs a number >= 0, got none"):
        TableModel().fit({**data, "w": [1.0, 1.0, None, 1.0] * 25}, "y", weight="w")


def test_folds():
    model = TableModel(folds=4, **QUICK).fit(people(), target=["buys", "spends"], **INPUTS)
    assert [len(found) for found in model.fold_scores.values()] == [4, 4]
    assert np.mean([found["r2"] for found in model.fold_scores["spends"]]) > 0.9
    assert len(model.plan.split.fit) == 300
    assert not len(model.plan.split.held_out)
    assert {found["r2"] for found in model.fold_scores["spends"]} != {model.scores["spends"]["r2"]}
    for options in ({"group": "household"}, {"time": "since"}):
        TableModel(folds=3, epochs=1).fit(people(), target="buys", **options)


def test_rows_without_a_target_are_left_out():
    data = people(100)
    data["spends"] = [None if k % 10 == 3 else value for k, value in enumerate(data["spends"])]
    plan = TableModel(epochs=1).fit(data, "spends").plan
    assert (len(plan), plan.n_dropped) == (90, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hiden": (3,)}, "TableModel: has no setting 'hiden'; it has hidden, activation"),
        ({"hidden": (0,)}, "hidden: needs an integer >= 1"),
        ({"activation": "softmax"}, "activation: needs one of"),
        ({"threshold": 1}, "threshold: needs a number > 0 and < 1"),
        ({"folds": 1}, "folds: needs an integer >= 2"),
        ({"class_weight": 3}, "class_weight: needs 'balanced' or a mapping"),
        ({"batch_size": 0}, "batch_size: needs an integer >= 1"),
        ({"optimizer": "magic"}, "optimizer: needs one of"),
        ({"test_size": 1.0}, "test_size: needs a number >= 0 and < 1"),
        ({"n_threads": 0}, "n_threads: needs an integer >= 1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        TableModel(**settings)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"loss": "huber"}, {"target": "buys"}, "loss: a classification needs one of cross_entropy"),
        ({"class_weight": "balanced"}, {"target": "age"}, "class_weight: needs a classification; 'age' is a number"),
        ({"class_weight": {"Paris": 2}}, {"target": "town"}, "class_weight: 'town' has no label 'Paris'; it has Bern"),
        ({"test_size": 0.001}, {"target": "buys"}, "test_size: 0.001 of 300 rows is not a row"),
        ({}, {"target": "buys", "task": "sorting"}, "task: needs one of 'classification', 'regression'"),
        ({}, {"target": 3}, "data: no target column '3'"),
        ({}, {"target": [3.5]}, "target: needs names of columns, got 3.5"),
        ({}, {"target": "buys", "memory": "lots"}, "memory: needs a size"),
    ],
)
def test_arguments_are_checked(settings, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        TableModel(epochs=1, **settings).fit(people(), **options)


# --- scoring -------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    model = TableModel(epochs=100, seed=0).fit(people(), target=["buys", "spends"], **INPUTS)
    new = people(200, seed=5)
    found, chances = model.evaluate(new), model.predictions(new).outputs["buys"][:, 1]
    said = model.predict(new)
    truth, predicted = new["buys"], said["buys"]
    expected = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "precision": metrics.precision_score(truth, predicted),
        "recall": metrics.recall_score(truth, predicted),
        "f1": metrics.f1_score(truth, predicted),
        "roc_auc": metrics.roc_auc_score(truth, chances),
        "average_precision": metrics.average_precision_score(truth, chances),
    }
    assert found["buys"] == pytest.approx(expected)
    # predictions have the seven digits of float32
    assert found["spends"]["r2"] == pytest.approx(metrics.r2_score(new["spends"], said["spends"]), rel=1e-5)
    error = metrics.mean_absolute_error(new["spends"], said["spends"])
    assert found["spends"]["mean_absolute_error"] == pytest.approx(error, rel=1e-5)


def test_thresholds():
    model = TableModel(epochs=3, threshold=0.2, seed=0).fit(people(), target="buys", **INPUTS)
    chances = model.predict_proba(people(100))[:, 1]
    np.testing.assert_array_equal(model.predict(people(100)), chances >= 0.2)
    np.testing.assert_array_equal(model.with_settings(threshold=0.7).predict(people(100)), chances >= 0.7)
    model.save("m")
    assert bp.load_table_model("m").settings.threshold == 0.2


# --- new tables ----------------------------------------------------------------------------------------------------


def test_the_order_of_columns_does_not_matter_and_their_names_do():
    model = TableModel(**QUICK).fit(people(), target="buys", ignore=("household", "weight", "spends"))
    new = people(20, seed=1)
    expected = model.predict_proba(new)
    shuffled = {name: new[name] for name in ["town", "since", "weight", "age"]} | {"more": [1] * 20}
    np.testing.assert_array_equal(model.predict_proba(shuffled), expected)
    with pytest.raises(ValueError, match="data: no column 'age'"):
        model.predict({"town": ["Rome"], "since": ["2020-01-01"], "Age": [3]})
    with pytest.raises(ValueError, match="the model needs columns that are not there: 'age', 'town', 'since'"):
        model.predict({"x": [3]})


def test_what_had_to_be_made_up():
    model = TableModel(**QUICK).fit(people(), target="buys", ignore=("household", "weight", "spends"))
    found = model.predictions({"age": [30, None], "town": ["Paris", ""], "since": ["NA", "2020-05-05"]})
    assert found.missing == {"age": 1, "town": 1, "since": 1}
    assert found.unknown == {"town": {"Paris": 1}}
    with pytest.raises(ValueError, match="row 2: column 'age' needs finite numbers, got 'old'"):
        model.predict({"age": ["30", "old"], "town": ["Rome"] * 2, "since": ["2020-01-01"] * 2})
    with pytest.raises(ValueError, match=r"row 1: column 'since' needs dates \(ISO 8601\), got 'soon'"):
        model.predict({"age": [30], "town": ["Rome"], "since": ["soon"]})


def test_evaluate_needs_the_weights():
    model = TableModel(epochs=1).fit(people(), target="town", ignore=("weight",))
    with pytest.raises(ValueError, match="data: no weight column 'wieght'"):
        model.evaluate(people(10), weight="wieght")


@pytest.mark.parametrize("labels", [(False, True), (0, 1), (2, 7)], ids=str)
@pytest.mark.parametrize("kind", [lambda label: label, float, np.float64], ids=["own", "float", "NumPy"])
def test_weights_of_classes_by_the_labels_that_the_model_tells(labels, kind):
    table = {"x": np.linspace(0, 1, 60), "y": np.array(labels)[np.arange(60) % 2]}
    by_text = TableModel(epochs=2, class_weight={str(labels[1]).lower(): 3}).fit(table, "y")
    model = TableModel(epochs=2, class_weight={kind(labels[1]): 3}).fit(table, "y")
    assert model.classes.tolist() == list(labels)
    np.testing.assert_array_equal(model.predict_proba(table), by_text.predict_proba(table))


def test_two_weights_of_one_class():
    table = {"x": np.linspace(0, 1, 60), "y": np.arange(60) % 2 == 0}
    with pytest.raises(ValueError, match="class_weight: needs one weight for each label, got two for 'true'"):
        TableModel(epochs=1, class_weight={True: 1, "true": 2}).fit(table, "y")


def test_evaluate_needs_the_target():
    model = TableModel(epochs=1).fit(people(), target="town", ignore=("weight",))
    new = people(10)
    new["town"] = ["Paris"] * 10
    with pytest.raises(ValueError, match=r"^town: 10 rows with a label that no training row had: 'Paris'"):
        model.evaluate(new)
    del new["town"]
    with pytest.raises(ValueError, match="no target column 'town'"):
        model.evaluate(new)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["buys", "spends", ["buys", "spends", "town"]])
def test_a_model_comes_back_from_its_file(target):
    model = TableModel(epochs=5, seed=0, dtype="float64").fit(people(), target=target, **INPUTS)
    model.save("m.safetensors")
    again = bp.load_table_model("m.safetensors")
    new = people(50, seed=3)
    np.testing.assert_equal(again.predict(new), model.predict(new))
    assert again.evaluate(new) == model.evaluate(new)
    assert again.scores == model.scores
    assert again.preprocessing == model.preprocessing
    assert repr(again) == repr(model)
    again.save("again.safetensors")
    assert load_with_extra("again.safetensors")[1]["preprocessing"] == model.preprocessing.to_json()


def test_a_model_of_a_wide_table_comes_back_from_its_file():
    """What it knows about 2,500 columns is more JSON than a model file may have."""
    rng = np.random.default_rng(0)
    data = {**{f"c{k}": rng.normal(size=30) for k in range(2500)}, "y": rng.normal(size=30)}
    model = TableModel(epochs=1, hidden=(2,)).fit(data, "y")
    model.save("m")
    assert isinstance(load_with_extra("m")[1]["preprocessing"], str)
    assert bp.load_table_model("m").preprocessing == model.preprocessing
    np.testing.assert_array_equal(bp.load_table_model("m").predict(data), model.predict(data))


def test_a_model_of_the_command_line_is_used_in_python(capsys):
    write("people.csv", people())
    assert main(["train", "people.csv", "--target", "buys", "--ignore", "weight,household"]) == 0
    assert main(["predict", "people.safetensors", "people.csv"]) == 0
    out, _ = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()[out.splitlines().index("id,prediction") :]))
    assert [row["prediction"] for row in rows] == bp.load_table_model("people.safetensors").predict(people()).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_are_written_with_all_digits(dtype):
    """Whatever NumPy was told about printing."""
    model = TableModel(**QUICK, dtype=dtype).fit(people(), target="spends", **INPUTS)
    found = model.predictions(people())
    with np.printoptions(legacy="1.13"):
        lines = writing.written(model, found).decode().splitlines()
    assert lines[0] == "prediction"
    np.testing.assert_array_equal(np.array(lines[1:], dtype), found.values["spends"])


def test_a_threshold_of_numpy_is_saved():
    model = TableModel(**QUICK, threshold=np.float32(0.25)).fit(people(), target="buys", **INPUTS)
    model.save("model.safetensors")
    assert bp.load_table_model("model.safetensors").settings.threshold == 0.25


def test_ctrl_c_while_it_is_scored_leaves_the_model_as_it_was(monkeypatch):
    model = TableModel(**QUICK).fit(people(), target="buys", **INPUTS)
    before = dict(vars(model))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("backprop.tables.scores.measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(people(), target="spends", **INPUTS)
    assert all(value is before[name] for name, value in vars(model).items())


@pytest.mark.parametrize("path", [None, 3])
def test_a_path_that_is_none(path):
    with pytest.raises(TypeError, match=r"path: needs text, bytes or a path object, got"):
        bp.load_table_model(path)


def test_a_file_that_is_no_table_model():
    bp.mlp([2, 1], seed=0).save("bare")
    with pytest.raises(ValueError, match="bare: a network without preprocessing"):
        bp.load_table_model("bare")
    bp.Fleet(2, [bp.Dense(1)], size=3, seed=0).save("fleet")
    with pytest.raises(ValueError, match="fleet: a fleet; needs a network that"):
        bp.load_table_model("fleet")


def test_importing_backprop_imports_no_tables():
    code = "import sys, backprop; print([m for m in ('duckdb', 'narwhals', 'backprop.tables') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# --- the command line ----------------------------------------------------------------------------------------------


def command(capsys, *arguments, status=0):
    assert main([str(each) for each in arguments]) == status
    return capsys.readouterr()


def test_identifiers_and_columns_to_keep(capsys):
    write("people.csv", people(60))
    command(capsys, "train", "people.csv", "--target", "buys", "--epochs", 1)
    out, _ = command(capsys, "predict", "people.safetensors", "people.csv", "--keep", "town,age", "--proba")
    rows = list(csv.DictReader(out.splitlines()))
    assert list(rows[0]) == ["id", "town", "age", "prediction", "probability_False", "probability_True"]
    assert [row["id"] for row in rows] == people(60)["id"]
    assert [row["town"] for row in rows] == people(60)["town"].tolist()
    _, err = command(capsys, "predict", "people.safetensors", "people.csv", "--keep", "twon", status=2)
    assert "no column to keep 'twon' (did you mean 'town'?)" in err
    data = people(60)
    del data["id"]
    write("without.csv", data)
    out, _ = command(capsys, "predict", "people.safetensors", "without.csv")
    assert out.splitlines()[0] == "prediction"


def test_predictions_in_parquet(capsys):
    write("people.csv", people(60))
    command(capsys, "train", "people.csv", "--target", "spends", "--epochs", 1)
    out, _ = command(capsys, "predict", "people.safetensors", "people.csv", "--keep", "age", "--out", "p.parquet")
    assert out == ""
    found = duckdb.sql("SELECT * FROM 'p.parquet'")
    assert found.columns == ["id", "age", "prediction"]
    assert found.types[2] == "FLOAT" or found.types[2] == "DOUBLE"
    np.testing.assert_allclose(
        found.fetchnumpy()["prediction"], bp.load_table_model("people.safetensors").predict("people.csv")
    )


def test_rows_from_elsewhere(capsys, monkeypatch):
    import io

    data = people(200)
    write("a1.csv", {name: values[:120] for name, values in data.items()})
    write("a2.csv", {name: values[120:] for name, values in data.items()})
    with duckdb.connect("people.db") as connection:
        connection.execute("CREATE TABLE people AS SELECT * FROM read_csv('a*.csv')")
        connection.execute("CREATE TABLE other AS SELECT 1 AS x")
    options = ("--target", "buys", "--epochs", "1", "--out", "m")
    for source in (["a*.csv"], ["a1.csv", "a2.csv"], ["people.db", "--table", "people"],
                   ["--sql", "SELECT * FROM 'a*.csv'"], ["people.db", "--sql", "FROM people"]):  # fmt: skip
        out, _ = command(capsys, "train", *source, *options)
        assert ": 200 rows, 8 columns" in out
        assert "model      m\n" in out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("a1.csv").read_bytes())))
    out, _ = command(capsys, "train", "-", "--target", "buys", "--epochs", "1")
    assert "standard input: 120 rows" in out
    assert "model      model.safetensors\n" in out


def test_options_about_rows(capsys):
    write("people.csv", people())
    base = ("train", "people.csv", "--target", "buys", "--epochs", 2, "--out", "m")
    out, _ = command(capsys, *base, "--group", "household", "--weight", "weight")
    assert "held out (whole groups, seed 0)" in out
    assert "left out   weight: the weights of the rows\nleft out   household: the groups of the rows\n" in out
    out, _ = command(capsys, *base, "--time", "since")
    assert "held out (the last ones in time, seed 0)" in out
    out, _ = command(capsys, *base, "--folds", 3)
    assert "300 to train on, each held out in one of 3 folds (the same share of each class, seed 0)" in out
    assert re.search(r"score      3 folds: accuracy 0\.\d{4} ± 0\.\d{4}", out)
    out, _ = command(capsys, *base, "--validation-size", 0.2, "--threads", 1)
    assert "to tell when to stop" in out
    assert "the best one on 45 validation rows" in " ".join(out.split())
    _, err = command(capsys, *base[:-2], "--out", "n", "--class-weight", "perhaps=3", status=2)
    assert err == "backprop: error: --class-weight: 'buys' has no label 'perhaps'; it has False, True\n"
    assert not Path("n").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train people.csv", "--target: needs the column to predict; people.csv has 'id', 'age'"),
        ("train people.csv --target buys --sql SELEC", "people.csv: --sql: syntax error"),
        ("train people.csv --target buys --table people", "people.csv: a table is chosen in a database only"),
        ("train --target buys --sql nonsense", "--sql: "),
        ("train people.csv --target buys --memory much", "--memory: needs a size such as 500MB or 2GB, got 'much'"),
        ("train people.csv --target buys --folds 1", "--folds: needs a whole number of at least 2"),
        ("train people.csv --target buys --weight wieght", "no weight column 'wieght' (did you mean 'weight'?)"),
        ("train people.csv --target buys --class-weight x", "--class-weight: needs 'balanced' or label=weight"),
        ("train people.csv --target buys --threshold 1", "--threshold: needs a number above 0 and below 1"),
        ("train truncated.parquet --target buys", "truncated.parquet: not a whole Parquet file"),
        ("train b*.csv --target buys", "b*.csv: no file has a name of this pattern"),
        ("predict m people.csv --keep prediction", "no column to keep 'prediction'"),
    ],
)
def test_bad_input(arguments, message, capsys):
    write("people.csv", people(60))
    duckdb.sql("COPY (SELECT range AS buys FROM range(100000)) TO 'truncated.parquet'")
    Path("truncated.parquet").write_bytes(Path("truncated.parquet").read_bytes()[:20_000])
    command(capsys, "train", "people.csv", "--target", "buys", "--epochs", 1, "--out", "m")
    before = sorted(os.listdir())
    try:
        status = main(arguments.split())
    except SystemExit as exit:
        status = exit.code
    _, err = capsys.readouterr()
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert sorted(os.listdir()) == before


# --- memory, full disks, interrupts --------------------------------------------------------------------------------


def test_rows_that_do_not_fit_are_refused_before_training(capsys):
    duckdb.sql(
        "COPY (SELECT range AS a, range % 7 AS b, random() AS c, random() AS y FROM range(3_000_000)) TO 't.parquet'"
    )
    _, err = command(capsys, "train", "t.parquet", "--target", "y", "--memory", "150MB", status=2)
    assert "t.parquet: 3,000,000 rows of 4 columns" in err
    assert "and --memory allows 150 MB" in err
    most = re.search(r"USING SAMPLE (\d+) ROWS", err)[1]
    out, _ = command(capsys, "train", "t.parquet", "--target", "y", "--memory", "150MB", "--epochs", 1, "--quiet",
                     "--sql", f"SELECT * FROM data USING SAMPLE {int(most) // 4} ROWS")  # fmt: skip
    assert out.startswith("R²")
    table = open_table("t.parquet", limits=Limits(memory=150_000_000))
    assert len(table) == 3_000_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk(capsys, monkeypatch):
    write("people.csv", people(60))
    command(capsys, "train", "people.csv", "--target", "buys", "--epochs", 1, "--out", "m")
    for name in ("p.csv", "p.parquet"):
        Path(name).write_text("what was there before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(os.listdir())
    for name in ("p.csv", "p.parquet"):
        _, err = command(capsys, "predict", "m", "people.csv", "--out", name, status=2)
        assert err == f"backprop: error: {name}: No space left on device\n"
        assert Path(name).read_text() == "what was there before"
    _, err = command(capsys, "train", "people.csv", "--target", "buys", "--epochs", 1, "--out", "m", status=2)
    assert err.splitlines()[-1] == "backprop: error: m: No space left on device"
    assert sorted(os.listdir()) == before


def test_ctrl_c_while_reading():
    """A query that would take hours."""
    query = "SELECT sum(a.range * b.range) AS x, 1 AS y FROM range(10000000) a, range(10000000) b"
    process = subprocess.Popen(
        [sys.executable, "-m", "backprop", "train", "--sql", query, "--target", "y"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "backprop: interrupted\n")


def test_a_penalty_that_suits_the_table():
    """A law of nature and noise need different ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    columns = {f"x{k}": x[:, k] for k in range(5)}
    law = TableModel(seed=0).fit({**columns, "y": np.sin(2 * x[:, 0]) * x[:, 1]}, "y")
    noise = TableModel(seed=0).fit({**columns, "y": x[:, 0] + 5 * rng.normal(size=300)}, "y")
    assert law.scores["y"]["r2"] > 0.8
    assert noise.scores["y"]["r2"] > -0.2
    assert law.networks["y"].layers[0].l2 < noise.networks["y"].layers[0].l2
    given = TableModel(seed=0, l2=0.02).fit({**columns, "y": x[:, 0]}, "y")
    assert given.networks["y"].layers[0] == bp.Dense(32, "relu", l2=0.02)


def test_a_mean_far_from_zero_takes_no_digits_from_predictions():
    a = np.linspace(-1, 1, 300)
    table = {"a": a.tolist(), "y": (1e9 + 50 * a).tolist()}
    model = TableModel(epochs=50, seed=0).fit(table, target="y")
    predicted = model.predict(table)
    assert predicted.dtype == np.float64
    error = model.evaluate(table)["mean_absolute_error"]
    assert np.abs(predicted - table["y"]).mean() == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-100, 1e-40, 1e40, 1e100])
def test_units_that_do_not_fit_into_float32(unit, rng):
    rows = {"a": rng.normal(size=40), "b": rng.normal(size=40)}
    model, plain = (TableModel(epochs=3, seed=0).fit({**rows, "y": rows["a"] * by}, target="y") for by in (unit, 1.0))
    np.testing.assert_allclose(model.predict(rows) / unit, plain.predict(rows), rtol=1e-5)
    row = {name: values[0] for name, values in rows.items()}
    found, wanted = (each.explain(row).contributions for each in (model, plain))
    np.testing.assert_allclose([found[name] / unit for name in "ab"], [wanted[name] for name in "ab"], rtol=1e-4)
