"""Small inputs that tools for tables get wrong, one of each kind, through the command line and through `TableModel`."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from backprop.cli import main
from backprop.tables import TableModel, open_table
from backprop.tables.columns import decided

pytest.importorskip("duckdb")
CASES = Path(__file__).parent / "cases"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(capsys, name, *options):
    assert main(["train", str(CASES / f"{name}.csv"), "--target", "y", *options]) == 0
    return capsys.readouterr().out


def score(text, what):
    return float(re.search(rf"{what} (-?[\d.]+)", text)[1])


def predict(capsys, model, table, *options):
    assert main(["predict", model, str(table), *options]) == 0
    out, err = capsys.readouterr()
    return list(csv.DictReader(out.splitlines())), err


def test_decimal_commas(capsys):
    out = train(capsys, "decimal_comma")
    assert "y: regression" in out
    assert score(out, "R²") > 0.99
    rows, _ = predict(capsys, "decimal_comma.safetensors", CASES / "decimal_comma_new.csv")
    assert [float(row["prediction"]) for row in rows] == pytest.approx([14.25, 4.25], abs=0.3)


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("x;y\n1.234,5;7\n2.345,25;8\n", "semicolon"),
        ("x\ty\n1.234,5\t7\n2.345,25\t8\n", "tab"),
        ('x,y\n"1.234,5",7\n"2.345,25",8\n', None),
        ("x;y\n1 234,5;7\n2 345,25;8\n", "semicolon"),
        ("x;y\n1\u202f234,5;7\n2\u202f345,25;8\n", "semicolon"),
        ("x;y\n1'234,5;7\n2'345,25;8\n", "semicolon"),
        ("x;y\n1234,5 €;7\n2345,25 €;8\n", "semicolon"),
        ("x,y\n1234.5,7\n2345.25,8\n", None),
        ('x,y\n"1,234.5",7\n"2,345.25",8\n', None),
        ('x,y\n"$1,234.50",7\n"$2,345.25",8\n', None),
        ("sep=;\nx;y\n1234,5;7\n2345,25;8\n", "semicolon"),
        ("# exported\nx|y\n1234.5|7\n2345.25|8\n", "|"),
    ],
)
def test_numbers_of_every_country(text, separator):
    Path("t.csv").write_text(text)
    table = open_table("t.csv")
    assert list(table.columns) == ["x", "y"]
    assert [said for said in table.said if said.startswith("separated")] == (
        [f"separated by {separator}"] if separator else []
    )
    from backprop.tables.reading import read

    assert read(table, [decided(table, ["x", "y"])["x"]])["x"].array.tolist() == [1234.5, 2345.25]


def test_booleans_in_any_spelling(capsys):
    out = train(capsys, "booleans")
    assert "f: boolean" in out
    assert score(out, "accuracy") == 1
    rows, err = predict(capsys, "booleans.safetensors", CASES / "booleans_new.csv")
    assert [row["prediction"] for row in rows] == ["yes", "no", "yes"]
    assert "score: accuracy 1.0000 on 3 rows" in err


@pytest.mark.parametrize(
    "words", [("TRUE", "False"), ("ja", "Nein"), ("oui", "non"), ("1", "0"), ("Y", "n"), ("on", "off")]
)
def test_pairs_of_booleans(words):
    yes, no = words
    model = TableModel(epochs=100, seed=0).fit({"f": [yes, no] * 40, "y": [1.5, 2.5] * 40}, target="y")
    assert model.preprocessing.columns[0].meaning == "boolean"
    for form in ({"f": [True, False]}, {"f": ["true", "NO"]}, {"f": [1, 0]}, {"f": ["1", "0"]}):
        np.testing.assert_allclose(model.predict(form), [1.5, 2.5], atol=0.1)


def test_a_label_that_no_training_row_had(capsys):
    assert main(["train", str(CASES / "unseen_label.csv"), "--target", "kind"]) == 0
    capsys.readouterr()
    rows, err = predict(capsys, "unseen_label.safetensors", CASES / "unseen_label_new.csv")
    assert len(rows) == 3
    assert "score: accuracy 1.0000 on 2 rows" in err
    assert "kind: 1 row with a label that no training row had: 'qux' (first in row 3); not in the score" in err


def test_an_odd_boolean_label(capsys):
    train(capsys, "booleans")
    Path("new.csv").write_text("f,y\n1,yes\n0,maybe\n0,\n")
    _, err = predict(capsys, "booleans.safetensors", "new.csv")
    assert "score: accuracy 1.0000 on 1 row with 'y'" in err
    assert "'maybe' (first in row 2)" in err


def test_codes_with_leading_zeros(capsys):
    out = train(capsys, "leading_zeros", "--task", "regression")
    assert "zip: code (digits with leading zeros)" in out
    assert score(out, "R²") > 0.99
    out = train(capsys, "leading_zeros", "--task", "regression", "--numeric", "zip")
    assert "zip: numeric (as was said)" in out
    out = train(capsys, "leading_zeros", "--task", "regression", "--categorical", "zip")
    assert "zip: category (as was said)" in out
    assert main(["train", str(CASES / "leading_zeros.csv"), "--target", "y", "--ignore", "zip"]) == 2
    assert "'zip': ignored on request" in capsys.readouterr().err
    assert main(["train", str(CASES / "leading_zeros.csv"), "--target", "y", "--date", "zip"]) == 0
    assert "zip: date (as was said)" in capsys.readouterr().out


def test_two_targets(capsys):
    assert main(["train", str(CASES / "two_targets.csv"), "--target", "lift", "--target", "drag"]) == 0
    out, _ = capsys.readouterr()
    assert re.search(r"lift: held out: R² (0\.99\d\d|1\.0000)", out)
    assert re.search(r"drag: held out: R² (0\.99\d\d|1\.0000)", out)
    assert "1 input of the network" in out
    rows, err = predict(capsys, "two_targets.safetensors", CASES / "two_targets.csv")
    assert list(rows[0]) == ["prediction_lift", "prediction_drag"]
    assert float(rows[29]["prediction_drag"]) == pytest.approx(60, abs=1)
    assert "score: lift: R²" in err
    assert "score: drag: R²" in err


def test_a_class_and_a_number_together(tmp_path):
    x = np.linspace(-1, 1, 200)
    data = {"x": x, "sign": np.where(x > 0, "plus", "minus"), "twice": 2 * x + 5}
    model = TableModel(epochs=60, seed=0).fit(data, target=["sign", "twice"])
    assert model.scores["sign"]["accuracy"] > 0.95
    assert model.scores["twice"]["r2"] > 0.99
    found = model.predict({"x": [0.5]})
    assert found["sign"].tolist() == ["plus"]
    np.testing.assert_allclose(found["twice"], [6], atol=0.2)


def test_dates(capsys):
    out = train(capsys, "dates")
    assert "when: date (dates, ISO 8601); elapsed time, month, weekday, hour" in out
    assert score(out, "accuracy") > 0.95


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%Y-%m-%dT%H:%M:%S", "%d %b %Y %H:%M", "%Y/%m/%d %H:%M:%S"]
)
def test_dates_in_other_forms(form):
    import datetime

    rows = list(csv.DictReader((CASES / "dates.csv").read_text().splitlines()))
    when = [datetime.datetime.fromisoformat(row["when"]).strftime(form) for row in rows]
    model = TableModel(seed=0).fit({"when": when, "y": [row["y"] for row in rows]}, target="y")
    assert model.preprocessing.columns[0].meaning == "date"
    assert model.scores["y"]["accuracy"] > 0.95
    assert model.predict({"when": [rows[4]["when"]]}).tolist() == [rows[4]["y"]]  # another form than in training


def test_numbers_as_people_write_them(capsys):
    out = train(capsys, "people_numbers")
    assert "left out" not in out
    assert score(out, "R²") > 0.99


def test_many_categories(capsys):
    out = train(capsys, "many_categories")
    assert score(out, "R²") > 0.9


def test_rare_categories_share_one():
    rng = np.random.default_rng(0)
    shop = [f"big {k % 20}" for k in range(800)] + [f"small {k}" for k in range(200)]
    value = [float(k % 20) for k in range(800)] + [30.0] * 200
    order = rng.permutation(1000)
    model = TableModel(seed=0).fit({"shop": [shop[k] for k in order], "y": [value[k] for k in order]}, target="y")
    (how,) = model.preprocessing.inputs
    assert len(how.categories) == 20
    assert len(how.rare) > 100
    found = model.predictions({"shop": ["small 1", "never seen", "big 3"]})
    np.testing.assert_allclose(found.values["y"], [30, 30, 3], atol=1)
    assert "never seen" in found.unknown["shop"]


def test_imbalance(capsys):
    out = train(capsys, "imbalance")
    for name in ("balanced accuracy", "precision", "recall", "F1", "ROC AUC", "average precision"):
        assert 0 < score(out, name) <= 1
    assert "(of 'yes')" in out
    plain = score(out, "recall")
    assert score(train(capsys, "imbalance", "--class-weight", "balanced"), "recall") > plain
    assert score(train(capsys, "imbalance", "--class-weight", "yes=20,no=1"), "recall") > plain
    assert score(train(capsys, "imbalance", "--threshold", "0.05"), "recall") > plain
    many, _ = predict(capsys, "imbalance.safetensors", CASES / "imbalance.csv")
    few, _ = predict(capsys, "imbalance.safetensors", CASES / "imbalance.csv", "--threshold", "0.9")
    assert sum(row["prediction"] == "yes" for row in many) > sum(row["prediction"] == "yes" for row in few)
