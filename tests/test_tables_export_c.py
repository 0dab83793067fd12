"""Exported models of tables: the C makes of a row what the model makes of it."""

import ctypes
import re
import shutil
from dataclasses import replace

import backprop as bp
import numpy as np
import pytest
from backprop.cli import main
from backprop.tables import TableModel
from backprop.tables.columns import Column
from backprop.tables.encoders import CategoryInput
from backprop.tables.exported_c import to_c
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.targets import Quantity
from exported_c import FUSED, build

pytest.importorskip("duckdb")
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

ENTRIES = """
#include "m.h"
void encode(const m_row *row, float *inputs);
void encode(const m_row *row, float *inputs) {{ m_encode(row, inputs); }}
{result} answer(const m_row *row);
{result} answer(const m_row *row) {{ return m_answer(row); }}
"""


def table(n=300):
    """Numbers with and without outliers, truth values, words with rare ones, gaps in all of them."""
    rng = np.random.default_rng(0)
    size, income = rng.normal(10, 2, n), np.exp(rng.normal(8, 2, n))
    size[rng.random(n) < 0.1] = np.nan
    words = ['plain "word"', "größe", "a\\b??/", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9"]
    kind = [str(w) if rng.random() > 0.05 else None for w in rng.choice(words, n)]
    kind[:40:4] = ["rare", "rare", "rarer", "rarest", "seldom", "seldom", "once", "just once", "twice", "twice"]
    smoker = [None if rng.random() < 0.1 else bool(rng.random() < 0.4) for _ in range(n)]
    price = np.nan_to_num(size, nan=9.0) * 3 + np.log(income) + rng.normal(0, 0.1, n)
    label = np.where(price > np.median(price), "dear", "cheap")
    return {"Size (m)": size, "income": income, "kind": kind, "smoker": smoker, "price": price, "label": label}


def row_struct(library_text):
    """A class of ctypes for the struct of a row."""
    fields = re.findall(r"^    (double|const char \*) ?(\w+); /\*", library_text, re.MULTILINE)
    kinds = {"double": ctypes.c_double, "const char *": ctypes.c_char_p}
    return type("Row", (ctypes.Structure,), {"_fields_": [(name, kinds[kind]) for kind, name in fields]})


def as_c(value):
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    return float(value)


def rows_of(data, model):
    """Each row of a table as the members of the struct."""
    names = [each.name for each in model.preprocessing.inputs]
    for values in zip(*(data[name] for name in names), strict=True):
        yield [
            np.nan if value is None and each.kind != "category" else as_c(value)
            for value, each in zip(values, model.preprocessing.inputs, strict=True)
        ]


@pytest.mark.parametrize(("target", "settings"), [("price", {}), ("label", {}), ("label", {"threshold": 0.2})])
def test_a_row_is_encoded_and_answered_as_the_model_does(target, settings, tmp_path):
    data = table()
    other = "label" if target == "price" else "price"
    training = {name: column for name, column in data.items() if name != other}
    model = TableModel(epochs=5, seed=0, **settings).fit(training, target=target)
    model.to_c(tmp_path / "m.h")
    text = (tmp_path / "m.h").read_text()
    result = "double" if target == "price" else "int"
    library = build(tmp_path, ENTRIES.format(result=result), "-O2", *FUSED)
    library.answer.restype = ctypes.c_double if target == "price" else ctypes.c_int
    new = {name: list(column[:100]) for name, column in training.items() if name != target}
    new["kind"][5], new["kind"][6] = "never seen", None
    made = row_struct(text)
    n_inputs = model.preprocessing.n_inputs
    inputs, answers = np.empty((100, n_inputs), "float32"), []
    for k, values in enumerate(rows_of(new, model)):
        row = made(*values)
        library.encode(ctypes.byref(row), ctypes.c_void_p(inputs[k].ctypes.data))
        answers.append(library.answer(ctypes.byref(row)))
    expected = model.predict(new)
    if target == "price":
        np.testing.assert_allclose(answers, expected, rtol=1e-6)
    else:
        labels = model.preprocessing.targets[0].labels
        assert [labels[k] for k in answers] == list(expected)
    outputs = model.networks[target].predict(inputs)
    if target == "label":
        np.testing.assert_allclose(outputs, np.asarray(model.predict_proba(new)), rtol=1e-6)


def test_dates_and_several_targets_are_refused_with_a_way(tmp_path):
    data = table(60)
    dates = {**data, "when": [f"2024-{k % 12 + 1:02}-{k % 28 + 1:02}" for k in range(60)]}
    model = TableModel(epochs=1, seed=0).fit(dates, target="label")
    with pytest.raises(ValueError, match="column 'when' holds dates, which need a calendar; train without it"):
        model.to_c(tmp_path / "m.h")
    model = TableModel(epochs=1, seed=0).fit(data, target=["label", "price"])
    with pytest.raises(ValueError, match=r"needs a model of one target, got 2; model.networks\[target\]"):
        model.to_c(tmp_path / "m.h")
    assert not list(tmp_path.iterdir())


def test_rare_words_share_an_input_and_effects_are_numbers(tmp_path):
    words = CategoryInput("kind", ("a", "b"), ("c", "d"), tells_missing=True, effects=(0.5, -1.25, 3.0))
    plain = CategoryInput("kind", ("a", "b"))
    columns = tuple(Column(name, "category") for name in ("kind", "other"))
    fitted = Preprocessing(columns, (words, replace(plain, name="other")), (Quantity("y", 1.5, 2.0),), {})
    net = bp.mlp([fitted.n_inputs, 1], seed=0)
    to_c(tmp_path / "m.h", fitted, {"y": net}, None, None, "exact", False)
    library = build(tmp_path, ENTRIES.format(result="double"), *FUSED)
    library.answer.restype, made = ctypes.c_double, row_struct((tmp_path / "m.h").read_text())
    for given, inputs in {
        ("a", "b"): [1, 0, 0, 0, 0.5, 0, 1],
        ("b", "c"): [0, 1, 0, 0, -1.25, 0, 0],
        ("d", "a"): [0, 0, 1, 0, 3, 1, 0],
        ("never seen", "a"): [0, 0, 1, 0, 3, 1, 0],
        (None, None): [0, 0, 0, 1, 0, 0, 0],
    }.items():
        row, found = made(*map(as_c, given)), np.empty(7, "float32")
        library.encode(ctypes.byref(row), ctypes.c_void_p(found.ctypes.data))
        assert found.tolist() == inputs, given
        np.testing.assert_allclose(library.answer(ctypes.byref(row)), net.predict([inputs])[0, 0] * 2 + 1.5, rtol=1e-6)


def test_the_command_writes_models_and_networks(tmp_path, capsys):
    model, header = tmp_path / "m.safetensors", tmp_path / "m.h"
    TableModel(epochs=1, seed=0).fit(table(60), target="label").save(model)
    assert main(["export", str(model), "--c", str(header)]) == 0
    assert "m_answer(const m_row *row)" in header.read_text()
    bp.mlp([2, 1], seed=0).save(model)
    assert main(["export", str(model), "--c", str(header), "--name", "net", "--int8"]) == 0
    text = header.read_text()
    assert "net_predict" in text
    assert "int8_t net_weights_1" in text
    assert main(["export", str(model), "--c", str(model)]) == 2
    assert main(["export", str(model)]) == 2
    assert main(["export", str(model), "--c", str(header), "--int8", "--training"]) == 2
    assert "training: needs weights='exact'" in capsys.readouterr().err
    assert header.read_text() == text
