"""Exported models of tables: the C makes of a row what the model makes of it."""

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime

import backprop as bp
import numpy as np
import pytest
from backprop.cli import main
from backprop.tables import TableModel, open_table
from backprop.tables.columns import Column
from backprop.tables.encoders import CategoryInput, phase
from backprop.tables.exported_c import to_c
from backprop.tables.preprocessing import Preprocessing
from backprop.tables.reading import read
from backprop.tables.targets import Quantity
from backprop.tables.values import MISSING
from exported_c import COMPILERS, FUSED, STRICTER, build, compile_c

pytest.importorskip("duckdb")
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

ENCODE = """
#include "m.h"
void encode(const m_row *row, {real} *inputs);
void encode(const m_row *row, {real} *inputs) {{ m_encode(row, inputs); }}
"""
ANSWER = """
{result} {name}(const m_row *row);
{result} {name}(const m_row *row) {{ return m_{name}(row); }}
"""
EPOCH = np.datetime64("1970-01-01T00:00:00")


def table(n=300):
    """Numbers with and without outliers, truth values, words with rare ones, dates, codes; gaps in most of them."""
    rng = np.random.default_rng(0)
    size, income = rng.normal(10, 2, n), np.exp(rng.normal(8, 2, n))
    size[rng.random(n) < 0.1] = np.nan
    words = ['plain "word"', "größe", "a\\b??/", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9"]
    kind = [str(w) if rng.random() > 0.05 else None for w in rng.choice(words, n)]
    kind[:40:4] = ["rare", "rare", "rarer", "rarest", "seldom", "seldom", "once", "just once", "twice", "twice"]
    smoker = [None if rng.random() < 0.1 else bool(rng.random() < 0.4) for _ in range(n)]
    price = np.nan_to_num(size, nan=9.0) * 3 + np.log(income) + rng.normal(0, 0.1, n)
    label = np.where(price > np.median(price), "dear", "cheap")
    minutes = rng.integers(-(10**6), 10**7, n)
    sold = [None if rng.random() < 0.1 else EPOCH + np.timedelta64(int(m), "m") for m in minutes]
    built = [EPOCH + np.timedelta64(int(m) // 1440 * 1440, "m") for m in minutes]
    return {
        "Size (m)": size, "income": income, "kind": kind, "smoker": smoker, "sold": sold, "built": built,
        "floor": [None if rng.random() < 0.1 else float(each) for each in rng.integers(-1, 4, n)],
        "price": price, "label": label,
    }  # fmt: skip


def row_struct(library_text):
    """A class of ctypes for the struct of a row."""
    fields = re.findall(r"^    (double|const char \*) ?(\w+); /\*", library_text, re.MULTILINE)
    kinds = {"double": ctypes.c_double, "const char *": ctypes.c_char_p}
    return type("Row", (ctypes.Structure,), {"_fields_": [(name, kinds[kind]) for kind, name in fields]})


def as_c(value):
    if value is None:
        return np.nan
    if isinstance(value, str):
        return value.encode()
    return (value - EPOCH) / np.timedelta64(1, "s") if isinstance(value, np.datetime64) else float(value)


def rows_of(data, made):
    """Each row of a table as a struct."""
    texts = [kind is ctypes.c_char_p for _, kind in made._fields_]
    for values in zip(*data.values(), strict=True):
        yield made(*(None if value is None and text else as_c(value)
                     for value, text in zip(values, texts, strict=True)))  # fmt: skip


def compiled(folder, model):
    """A model in C: what encodes a row, what answers it for each target, and the struct of a row."""
    model.to_c(folder / "m.h")
    real = "float" if next(iter(model.networks.values())).dtype == np.float32 else "double"
    targets = model.preprocessing.targets
    names = ["answer"] if len(targets) == 1 else [f"{target.name}_answer" for target in targets]
    results = ["double" if isinstance(target, Quantity) else "int" for target in targets]
    source = ENCODE.format(real=real) + "".join(
        ANSWER.format(result=result, name=name) for result, name in zip(results, names, strict=True)
    )
    library = build(folder, source, "-O2")
    answers = [library[name] for name in names]
    for result, answer in zip(results, answers, strict=True):
        answer.restype = ctypes.c_double if result == "double" else ctypes.c_int
    return library, answers, row_struct((folder / "m.h").read_text())


def encoded(library, model, rows):
    """The inputs that the C makes of rows."""
    inputs = np.empty((len(rows), model.preprocessing.n_inputs), next(iter(model.networks.values())).dtype)
    for k, row in enumerate(rows):
        library.encode(ctypes.byref(row), ctypes.c_void_p(inputs[k].ctypes.data))
    return inputs


def of_the_library(model, data):
    return model.preprocessing.encode(open_table(data), next(iter(model.networks.values())).dtype).X


SETTINGS = {"categorical": ["floor"], "date": ["sold", "built"]}


@pytest.mark.parametrize(
    ("target", "settings"),
    [("price", {}), ("label", {}), ("label", {"threshold": 0.2}), (["label", "price"], {})],
)
def test_a_row_is_encoded_and_answered_as_the_model_does(target, settings, dtype, tmp_path):
    data = table()
    targets = [target] if isinstance(target, str) else target
    training = {name: column for name, column in data.items() if name in targets or name not in ("label", "price")}
    model = TableModel(epochs=5, seed=0, dtype=dtype, **settings).fit(training, target=target, **SETTINGS)
    library, answers, made = compiled(tmp_path, model)
    new = {name: list(column[:100]) for name, column in training.items() if name not in targets}
    new["kind"][5], new["kind"][6], new["floor"][7] = "never seen", None, 17.0
    rows = list(rows_of(new, made))
    inputs, eps = encoded(library, model, rows), np.finfo(dtype).eps
    np.testing.assert_allclose(inputs, of_the_library(model, new), rtol=eps, atol=2 * eps)
    parts = [part for each in model.preprocessing.inputs if each.kind == "date" for part in each.parts]
    assert set(parts) == {"elapsed", "month", "weekday", "hour"}
    expected = model.predict(new)
    for name, answer in zip(targets, answers, strict=True):
        found, wanted = [answer(ctypes.byref(row)) for row in rows], expected
        if len(targets) > 1:
            wanted = expected[name]
        if name == "price":
            np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype == "float32" else 1e-12)
        else:
            labels = next(each for each in model.preprocessing.targets if each.name == name).labels
            assert [labels[k] for k in found] == list(wanted)


def test_cells_that_say_nothing_and_blanks_are_read_as_the_library_does(tmp_path):
    data = {name: column for name, column in table().items() if name not in ("label", "sold", "built")}
    model = TableModel(epochs=1, seed=0).fit(data, target="price", categorical=["floor"])
    library, _, made = compiled(tmp_path, model)
    words = [
        "x1",
        " x1 ",
        "\tx1\r\n",
        "\u00a0x1\u2009\ufeff",
        "x 1",
        "X1",
        "größe",
        "\u202fgröße",
        "x1\u00c2",
        "",
        "  ",
    ]
    words += [*MISSING, *(word.upper() for word in MISSING), *(word.title() for word in MISSING), " n/A ", "none"]
    n = len(words)
    new = {
        "Size (m)": [[1.0, np.nan, np.inf, -np.inf][k % 4] for k in range(n)],
        "income": [[5e9, np.inf, -np.inf, np.nan, -5e300, 0.0][k % 6] for k in range(n)],
        "kind": words,
        "smoker": [[0.0, 1.0, np.nan, np.inf][k % 4] for k in range(n)],
        "floor": [[1.0, np.nan, np.inf, 0.5, -0.0][k % 5] for k in range(n)],
    }
    found, wanted = encoded(library, model, list(rows_of(new, made))), of_the_library(model, new)
    for k in range(n):
        np.testing.assert_allclose(found[k], wanted[k], rtol=1e-6, err_msg=repr([column[k] for column in new.values()]))


WAVES = """
#include "m.h"
void parts(const double *seconds, double *found, int n);
void parts(const double *seconds, double *found, int n)
{
    for (; n; n--, seconds++, found += 8) {
        found[0] = m_month(*seconds);
        found[1] = m_weekday(*seconds);
        found[2] = m_hour(*seconds, 1);
        found[3] = m_hour(*seconds, 2);
        found[4] = m_hour(*seconds, 3);
        found[5] = m_wave(found[4], 0);
        found[6] = m_wave(found[4], 1);
        found[7] = m_when(*seconds);
    }
}
double date(const char *text);
double date(const char *text) { return m_date(text); }
double seconds(int year, int month, int day, int hour, int minute, double second);
double seconds(int year, int month, int day, int hour, int minute, double second)
{
    return m_seconds(year, month, day, hour, minute, second);
}
"""


def calendar(folder):
    """The functions for dates that a file has."""
    data = {"sold": [EPOCH + np.timedelta64(1000 * k, "h") for k in range(3000)], "y": np.arange(3000.0) % 7}
    model = TableModel(epochs=1, seed=0).fit(data, target="y", task="regression")
    assert "third of a day" in model.preprocessing.inputs[0].parts
    model.to_c(folder / "m.h")
    library = build(folder, WAVES, "-O2")
    library.date.restype = library.seconds.restype = ctypes.c_double
    library.date.argtypes = [ctypes.c_char_p]
    library.seconds.argtypes = [*[ctypes.c_int] * 5, ctypes.c_double]
    return library


def test_parts_of_dates_are_those_of_the_library(tmp_path):
    rng = np.random.default_rng(0)
    seconds = np.concatenate([
        rng.uniform(-1e12, 1e12, 20_000), rng.uniform(-1e9, 3e9, 20_000), 86400.0 * rng.integers(-20_000, 40_000, 5000),
        [0.0, -1e-9, 86399.999999, -86400.0, 951782400.0, 951868800.0, -1e6 * 86400 - 1, 1e7 * 86400 + 1],
    ])  # fmt: skip
    found = np.empty((len(seconds), 8))
    calendar(tmp_path).parts(*(ctypes.c_void_p(each.ctypes.data) for each in (seconds, found)), len(seconds))
    for column, part in zip(found.T, ("month", "weekday", "hour", "half day", "third of a day"), strict=False):
        np.testing.assert_array_equal(column, phase(seconds, part), part)
    angle = 2 * np.pi * found[:, 4]
    assert np.abs(found[:, 5] - np.sin(angle)).max() < 2.3e-16
    assert np.abs(found[:, 6] - np.cos(angle)).max() < 2.3e-16
    assert found[:, 7].all()


def test_dates_in_c_are_those_of_the_library(tmp_path):
    library = calendar(tmp_path)
    right = ["2024-05-31", "2024-2-29", "1969-12-31 23:59", "0001-01-01", "9999-12-31T23:59:59.999", "1900-03-01 1:05",
             "2024-05-31T13:30:05.25Z", "2024-05-31 13:30:05+02:00", "2024-05-31 13:30:05-03:30",
             "2000-02-29 00:00:00+14"]  # fmt: skip
    # fmt: off
    wrong = ["", "soon", "2023-02-29", "2024-13-01", "2024-00-10", "2024-05-00", "2024-05-31 24:30", "2024-05-31 12:60",
             "31.05.2024", "2024-05", "2024-05-31 13", "2024-05-31 13:30x", "2024-05-31 13:30:05+2", "2024-04-31"]
    # fmt: on
    table = open_table({"when": right})
    wanted = read(table, [Column("when", "date")])["when"].array
    assert [library.date(text.encode()) for text in right] == wanted.tolist()
    assert all(np.isnan(library.date(text.encode())) for text in wrong)
    assert np.isnan(library.date(None))
    for each in np.random.default_rng(0).integers(-(10**11), 10**11, 2000).tolist():
        moment = (EPOCH + np.timedelta64(each, "s")).item()
        if isinstance(moment, datetime):  # beyond its years it is an integer
            parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
            assert library.seconds(*parts) == each


def test_compilers_take_dates_and_several_targets(tmp_path):
    model = TableModel(epochs=1, seed=0).fit(table(), target=["label", "price"], **SETTINGS)
    for settings in ({}, {"weights": "int8"}, {"training": True}):
        model.to_c(tmp_path / "m.h", **settings)
        for compiler in COMPILERS:
            for std, language in (("c99", "c"), ("c++11", "c++")):
                options = ["-c", "-O1", *STRICTER]
                compile_c(tmp_path, '#include "m.h"\n', *options, compiler=compiler, std=std, language=language)


def test_sanitizers_find_nothing_in_odd_cells(tmp_path):
    model = TableModel(epochs=1, seed=0).fit(table(), target="label", ignore=["price"], **SETTINGS)
    model.to_c(tmp_path / "m.h")
    source = """
        #include <math.h>
        #include "m.h"
        int main(void)
        {
            const char *const words[] = {NULL, "", " ", "\\302", "\\342\\200", "\\357\\273\\277", "x1\\240", "NA"};
            const double numbers[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0, 9.9e12, -9.9e12};
            const char *const dates[] = {"", "2", "2024-", "2024-01-01 ", "2024-01-01T1:1:1.", "2024-01-01 11:11+"};
            int k, sum = 0;
            for (k = 0; k < 8; k++) {
                const double x = numbers[k];
                const m_row row = {x, x, words[k], x, x, x, x};
                sum += m_answer(&row);
            }
            for (k = 0; k < 6; k++)
                sum += m_date(dates[k]) > 0;
            return sum < 0;
        }
    """
    options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    subprocess.run([compile_c(tmp_path, source, *options)], check=True)


def test_several_targets_share_the_arithmetic():
    data = {name: column for name, column in table().items() if name in ("income", "smoker", "price", "label", "floor")}
    text = TableModel(epochs=2, seed=0).fit(data, target=["price", "label", "floor"]).to_c(name="m")
    defined = re.findall(r"^(?:static inline|M_FUSED) \S+ (m_\w+)\(", text, re.MULTILINE)
    assert len(set(defined)) == len(defined)
    assert {"m_product", "m_fused_product", "m_price_predict", "m_price_fused_predict"} < set(defined)
    assert not {f"m_{target}_product" for target in ("price", "label", "floor")} & set(defined)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("std", "language"), [("gnu11", "c"), ("c99", "c"), ("gnu++17", "c++")])
def test_columns_may_be_called_as_macros_of_headers_and_compilers(compiler, std, language, tmp_path):
    names = ["errno", "stdin", "stderr", "linux", "unix", "complex", "int", "max", "assert"]
    data = {name: np.arange(40.0) + k for k, name in enumerate([*names, "signgam"])}
    TableModel(epochs=1, seed=0).fit(data, target="signgam", task="regression").to_c(tmp_path / "m.h")
    headers = ("errno", "stdio", "stdlib", "math", *(["complex", "tgmath"] * (language == "c")), "assert")
    source = "".join(f"#include <{name}.h>\n" for name in headers) + '#include "m.h"\n'
    compile_c(tmp_path, source, "-c", compiler=compiler, std=std, language=language)


def test_targets_whose_names_run_into_each_other_are_numbered(tmp_path):
    data = {"x": np.arange(40.0), "a": np.arange(40.0) ** 2, "a_fused": np.arange(40.0) * 3}
    model = TableModel(epochs=1, seed=0).fit(data, target=["a", "a_fused"], task="regression")
    model.to_c(tmp_path / "m.h")
    assert "double m_target_2_answer(const m_row *row)" in (tmp_path / "m.h").read_text()
    compile_c(tmp_path, '#include "m.h"\n', "-c")


def test_rare_words_share_an_input_and_effects_are_numbers(tmp_path):
    words = CategoryInput("kind", ("a", "b"), ("c", "d"), tells_missing=True, effects=(0.5, -1.25, 3.0))
    plain = CategoryInput("kind", ("a", "b"))
    columns = tuple(Column(name, "category") for name in ("kind", "other"))
    fitted = Preprocessing(columns, (words, replace(plain, name="other")), (Quantity("y", 1.5, 2.0),), {})
    net = bp.mlp([fitted.n_inputs, 1], seed=0)
    to_c(tmp_path / "m.h", fitted, {"y": net}, None, None, "exact", False)
    library = build(tmp_path, ENCODE.format(real="float") + ANSWER.format(result="double", name="answer"), *FUSED)
    library.answer.restype, made = ctypes.c_double, row_struct((tmp_path / "m.h").read_text())
    for given, inputs in {
        ("a", "b"): [1, 0, 0, 0, 0.5, 0, 1],
        ("b", "c"): [0, 1, 0, 0, -1.25, 0, 0],
        ("d", "a"): [0, 0, 1, 0, 3, 1, 0],
        ("never seen", "a"): [0, 0, 1, 0, 3, 1, 0],
        (None, None): [0, 0, 0, 1, 0, 0, 0],
    }.items():
        (row,), found = rows_of({"kind": given[:1], "other": given[1:]}, made), np.empty(7, "float32")
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
