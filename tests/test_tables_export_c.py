"""Exported models of tables: the C makes of a row what the model makes of it."""

import ctypes
import re
import shutil

import numpy as np
import pytest
from backprop.tables import TableModel
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
    kind[:2] = ["once", "just once"]
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
