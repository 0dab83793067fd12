"""Models of tables as models of ONNX: from cells to labels in one graph."""

import backprop as bp
import numpy as np
import pytest
from backprop.cli import main
from backprop.tables import TableModel
from backprop.tables.values import MISSING

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("duckdb")

QUICK = {"epochs": 30, "seed": 0}


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    age, town = rng.integers(18, 80, n).astype(float), rng.integers(0, 3, n)
    wealth = np.exp(rng.normal(size=n) * 3)  # far values: softly bounded
    missing = rng.random(n) < 0.1
    return {
        "age": np.where(missing, np.nan, age),
        "wealth": wealth,
        "town, old": np.where(missing, None, np.array(["Rome", "Oslo", "Bern"], object)[town]).tolist(),
        "member": rng.random(n) < 0.5,
        "street": np.array([f"s{k}" for k in rng.integers(0, 30, n) * rng.integers(0, 2, n)]),  # with rare ones
        "spends": age * 2.5 + 10 * town,
        "buys": (age > 40) ^ (town == 1),
        "kind": np.array(["a", "b", "größer"])[(town + (age > 50)) % 3],
        "stars": (town + (age > 30)) + 1,
    }


FEATURES = ("age", "wealth", "town, old", "member", "street")


def given(data):
    """Return the columns as the graph takes them."""
    found = {}
    for name in FEATURES:
        if name in ("town, old", "street"):
            found[name] = np.array([word or "" for word in data[name]], object)[:, None]
        else:
            found[name] = np.asarray(data[name], np.float64)[:, None]
    return found


def run(model, data):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, given(data)), strict=True))


@pytest.mark.parametrize("target", ["spends", "buys", "kind", "stars"])
def test_predictions_and_probabilities_are_the_same(target, dtype):
    data = {name: column for name, column in rows().items() if name in (*FEATURES, target)}
    model = TableModel(dtype=dtype, **QUICK).fit(data, target=target)
    new = rows(100, seed=1)
    new["street"][:3] = "nowhere"
    found, wanted = run(model.to_onnx(), new), model.predict(new)
    assert found[target].shape == wanted.shape
    if target == "spends":
        np.testing.assert_allclose(found[target], wanted, rtol=1e-5 if dtype == "float32" else 1e-12)
        assert found[target].dtype == wanted.dtype
    else:
        assert (found[target] == wanted).all()
        probabilities = model.predict_proba(new)
        assert found[f"{target} probabilities"].dtype == probabilities.dtype
        np.testing.assert_allclose(found[f"{target} probabilities"], probabilities, atol=2e-6)


def test_several_targets_and_a_threshold():
    data = rows()
    model = TableModel(threshold=0.2, **QUICK).fit(data, target=["buys", "spends"], ignore=["kind", "stars"])
    found, wanted = run(model.to_onnx(), data), model.predict(data)
    assert set(found) == {"buys", "buys probabilities", "spends"}
    assert (found["buys"] == wanted["buys"]).all()
    assert wanted["buys"].sum() > (model.predict(data, threshold=0.5)["buys"]).sum()
    np.testing.assert_allclose(found["spends"], wanted["spends"], rtol=1e-5)


def test_names_of_columns_may_be_anything():
    data = {
        "0.5": [0.0, 1.0, 2.0, 3.0] * 5,
        "Concat": ["x", "y"] * 10,
        "X": [1.0, 4.0, 2.0, 3.0] * 5,
        "Gemm": [1, 2] * 10,
    }
    model = TableModel(**QUICK).fit(data, target="Gemm", task="classification")
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    cells = {each.name: np.array(data[each.name], object if each.type == "tensor(string)" else float)[:, None]
             for each in session.get_inputs()}  # fmt: skip
    assert (session.run(["Gemm"], cells)[0] == model.predict(data)).all()


def test_dates_and_numbers_as_categories(dtype):
    rng, n = np.random.default_rng(0), 3000
    minutes = rng.integers(-(10**8), 10**8, n).astype("timedelta64[m]")
    data = {
        "when": np.where(rng.random(n) < 0.1, np.datetime64("NaT", "m"), np.datetime64("1970-01-01T00:00") + minutes),
        "day": np.datetime64("2000-02-28") + rng.integers(0, 1000, n).astype("timedelta64[D]"),
        "floor": np.where(rng.random(n) < 0.1, np.nan, rng.integers(-2, 3, n) / 2),
        "spends": rng.normal(size=n),
    }
    model = TableModel(dtype=dtype, epochs=3, seed=0).fit(data, target="spends", categorical=["floor"])
    when, day, floor = model.preprocessing.inputs
    assert when.parts == ("elapsed", "month", "weekday", "hour", "half day", "third of a day")
    assert day.parts == ("elapsed", "month", "weekday")
    assert floor.categories == ("-0.5", "-1", "0", "0.5", "1")
    data["floor"][:3] = 0.25, np.inf, -0.0
    data["when"][:2] = np.datetime64("0001-01-01"), np.datetime64("9999-12-31T23:59")
    cells = {name: data[name].astype("datetime64[s]").astype(float) for name in ("when", "day")}
    cells["when"][np.isnat(data["when"])] = np.nan
    cells["when"][5:8], data["when"][5:8] = (np.inf, -np.inf, np.nan), np.datetime64("NaT", "m")
    cells = {name: values[:, None] for name, values in {**cells, "floor": data["floor"]}.items()}
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    (found,), wanted = session.run(None, cells), model.predict(data)
    np.testing.assert_allclose(found, wanted, atol=1e-5 if dtype == "float32" else 1e-12)


def test_cells_that_say_nothing(dtype):
    data = {name: column for name, column in rows().items() if name in (*FEATURES, "spends")}
    model = TableModel(dtype=dtype, **QUICK).fit(data, target="spends")
    words = [word for word in MISSING if word]
    words += [*(word.upper() for word in words), *(word.title() for word in words), "NaN", "n/A", "none", "Rome", ""]
    n = len(words)
    odd = {
        "age": [[30.0, np.nan, np.inf, -np.inf][k % 4] for k in range(n)],
        "wealth": [[1e9, np.inf, np.nan, -1e300, 1e300][k % 5] for k in range(n)],
        "town, old": words,
        "member": [[0.0, 1.0, np.nan, np.inf][k % 4] for k in range(n)],
        "street": words[::-1],
    }
    found, wanted = run(model.to_onnx(), odd)["spends"], model.predict(odd)
    np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_a_column_with_the_name_of_an_output_is_refused():
    data = {"a": [1.0, 2.0] * 20, "y probabilities": [0.5, 0.1, 0.3, 0.7] * 10, "y": ["u", "v"] * 20}
    model = TableModel(**QUICK).fit(data, target="y")
    with pytest.raises(ValueError, match="column 'y probabilities' has the name of an output"):
        model.to_onnx()


def test_all_constants_are_read():
    for target in ("kind", "spends"):
        graph = TableModel(**QUICK).fit(rows(), target=target).to_onnx().graph
        read = {name for node in graph.node for name in node.input}
        assert {each.name for each in graph.initializer} <= read


def test_a_mean_far_from_zero_takes_no_digits():
    a = np.linspace(-1, 1, 300)
    data = {"a": a.tolist(), "y": (1e9 + 50 * a).tolist()}
    model = TableModel(**QUICK).fit(data, target="y")
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"a": a[:, None]})
    assert found.dtype == np.float64
    assert np.abs(found - model.predict(data)).max() < 1e-3


def test_the_command_line_exports(tmp_path, capsys):
    bp.mlp([2, 3, 1], seed=0).save(tmp_path / "net.safetensors")
    data = {name: column for name, column in rows().items() if name in (*FEATURES, "kind")}
    TableModel(**QUICK).fit(data, target="kind").save(tmp_path / "table.safetensors")
    for name, first in (("net", "X"), ("table", "age")):
        assert main(["export", str(tmp_path / f"{name}.safetensors"), "--onnx", str(tmp_path / f"{name}.onnx")]) == 0
        assert onnx.load(tmp_path / f"{name}.onnx").graph.input[0].name == first
    assert main(["export", str(tmp_path / "net.safetensors")]) != 0
    assert "needs --c HEADER, --onnx FILE or both" in capsys.readouterr().err


def words(n=400, seed=0):
    rng = np.random.default_rng(seed)
    towns = np.array(
        ["New York", "New  York", "a|b", "(c)", "größer", "\\d", "'q' \"r\"", "x.y", "東京", "x\ty"], object
    )
    town = rng.integers(0, len(towns), n)
    return {"town": towns[town].tolist(), "size": rng.normal(size=n), "spends": town * 2.0 + rng.normal(size=n) / 9}


def padded(data, seed=0):
    """Return the words with blanks around them, and some unknown or missing ones."""
    rng = np.random.default_rng(seed)
    blanks = ["", " ", "  ", "\t", "\r\n", "\xa0", "\u2009\u202f", "\ufeff", "\x0b \x0c"]
    cells = [rng.choice(blanks) + word + rng.choice(blanks) for word in data["town"]]
    cells[:12] = (
        "NEW YORK",
        "New York.",
        "",
        "  ",
        "nA",
        " UNBEKANNT ",
        "\u2003x.y",
        "xzy",
        "iNfInItY",
        "K.A.",
        "ac",
        "\\D",
    )
    return {**data, "town": cells}


@pytest.mark.parametrize("categories", [10, 300])
def test_blanks_around_texts_do_not_count(categories, dtype):
    data = words()
    if categories > 10:  # as many words as fill several patterns
        rng = np.random.default_rng(0)
        many = ["".join(rng.choice(list("abcdefgh"), 40)) for _ in range(categories)]
        data["town"] = [many[k % categories] for k in range(len(data["size"]))]
        data["spends"] = [float(k % categories) for k in range(len(data["size"]))]
    model = TableModel(dtype=dtype, **QUICK).fit(data, target="spends", categorical=["town"])
    new = padded(data)
    cells = {"town": np.array(new["town"], object)[:, None], "size": np.asarray(new["size"])[:, None]}
    exported = model.to_onnx()
    assert exported.opset_import[0].version == 20
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,), wanted = session.run(None, cells), model.predict(new)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_older_operators_take_texts_without_blanks():
    data = words()
    model = TableModel(**QUICK).fit(data, target="spends")
    exported = model.to_onnx(opset=17)
    assert ([each.version for each in exported.opset_import], exported.ir_version) == ([17, 3], 8)
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    cells = {"town": np.array(data["town"], object)[:, None], "size": np.asarray(data["size"])[:, None]}
    np.testing.assert_allclose(session.run(None, cells)[0], model.predict(data), rtol=1e-5, atol=1e-5)
    numbers = TableModel(**QUICK).fit({name: data[name] for name in ("size", "spends")}, target="spends")
    assert numbers.to_onnx().opset_import[0].version == 17
    with pytest.raises(ValueError, match="opset: needs 17 or 20, got 18"):
        model.to_onnx(opset=18)
    with pytest.raises(TypeError, match="opset: needs an integer"):
        model.to_onnx(opset="17")
