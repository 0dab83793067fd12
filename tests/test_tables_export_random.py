"""Random models of tables with odd names, words and gaps: C and ONNX say what `predict` says."""

import ctypes
import re
import shutil

import numpy as np
import pytest
from backprop.tables import TableModel
from backprop.tables.targets import Quantity
from exported_c import COMPILERS, compile_c

pytest.importorskip("duckdb")

EPOCH = np.datetime64("1970-01-01T00:00:00")
WORDS = ["a", "b c", '"q"', "it's", "größe", "日本", "x\\y", "??/", "%s", "true", "None", "a*/b", "/*", "unknown",
         "0x1F", "tab\tin", "new\nline", "🙂", "$", "A", "aB"]  # fmt: skip
NAMES = ["x", "size (m)", "*/ evil", "int", "größe", "2nd", "row", "inputs", "place", "linux", "errno",
         "outputs", "best", "a b", "a_b", "class", "y\"z", "n\nl", "back\\slash", "??/", "NULL", "min", "I", "fused",
         "table"]  # fmt: skip
WAYS = [("-O2", "c99", "c"), ("-O0", "gnu11", "c"), ("-O1", "c++11", "c++"), ("-O3", "gnu99", "c")]


def column(rng, n):
    """Return cells of any kind."""
    kind = rng.integers(9)
    gaps = rng.random(n) < 0.1
    if kind == 0:
        return np.where(gaps, np.nan, rng.normal(size=n) * 10.0 ** rng.integers(-5, 6))
    if kind == 1:
        return rng.integers(-5, 100_000, n)
    if kind == 2:
        return [None if gap else bool(rng.random() < 0.4) for gap in gaps]
    if kind == 3:
        some = rng.choice(WORDS, rng.integers(2, len(WORDS)), replace=False)
        return [None if gap else str(rng.choice(some)) for gap in gaps]
    if kind == 4:
        return [f"id{k}" for k in rng.integers(0, 2 * n, n)]
    if kind == 5:
        return [
            None if gap else EPOCH + np.timedelta64(int(s), "s")
            for gap, s in zip(gaps, rng.integers(-(10**9), 10**9, n), strict=True)
        ]
    if kind == 6:
        return [f"{k:05d}" for k in rng.integers(0, 40, n)]
    return ["same"] * n if kind == 7 else [3.5] * n


def target(rng, signal):
    """Return numbers or labels that follow a signal."""
    kind = rng.integers(6)
    steps = np.digitize(signal, [-1, -0.3, 0.3, 1])
    if kind == 0:
        return signal * 10.0 ** rng.integers(-6, 7) + rng.choice([0, 1e3])
    if kind == 1:
        return signal > 0
    if kind == 2:
        return np.where(signal > 0, '"yes"', "n\\o é").tolist()
    if kind == 3:
        return [WORDS[k] for k in steps]
    return steps * 3 - 2 if kind == 4 else np.round(signal * 3).astype(int)


def model_and_rows(seed):
    """Return a model of a random table and new rows, some of whose cells are missing, unknown or between blanks."""
    rng = np.random.default_rng(seed)
    n, n_columns, n_targets = int(rng.integers(60, 150)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    names = rng.choice(NAMES, n_columns + n_targets + 1, replace=False).tolist()
    data = {name: column(rng, n) for name in names[:n_columns]}
    data[names[n_columns]] = rng.normal(size=n)
    targets = names[n_columns + 1 :]
    signal = data[names[n_columns]]
    data |= {name: target(rng, signal + rng.normal(size=n) / 5) for name in targets}
    settings = {"epochs": int(rng.integers(1, 8)), "seed": seed, "dtype": str(rng.choice(["float32", "float64"]))}
    model = TableModel(**settings).fit(data, target=targets if n_targets > 1 else targets[0])
    new = {name: list(data[name]) for name in data if name not in targets}
    for cells in new.values():
        for k in range(0, n, 7):
            if isinstance(cells[k], str):
                odd = (None, "never seen", f" {cells[k]}\t", "NA", f"\ufeff{cells[k]} ", "\u2003x")
                cells[k] = odd[rng.integers(len(odd))]
            elif isinstance(cells[k], float):
                cells[k] = (np.nan, np.inf, -np.inf, 0.0)[rng.integers(4)]
    return model, new


def number(cell):
    if cell is None:
        return np.nan
    return (cell - EPOCH) / np.timedelta64(1, "s") if isinstance(cell, np.datetime64) else float(cell)


def agree(target, found, wanted, outputs):
    """Numbers up to rounding; labels, but where two of them are as likely."""
    if isinstance(target, Quantity):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=3e-6 * target.scale)
    else:
        first, second = np.sort(outputs, axis=1)[:, :-3:-1].T
        assert ((np.asarray(found) == wanted) | (first - second < 1e-5)).all()


def answers_of_c(folder, model, rows, seed):
    """Return what the C says of rows, by the names of the targets."""
    model.to_c(folder / "m.h")
    text = (folder / "m.h").read_text()
    members = re.findall(r"^    (double|const char \*) ?(\w+); /\*", text, re.MULTILINE)
    entries = re.findall(r"^static inline (int|double) (\w+)_answer\(", text, re.MULTILINE)
    kinds = {"double": ctypes.c_double, "const char *": ctypes.c_char_p}
    made = type("Row", (ctypes.Structure,), {"_fields_": [(name, kinds[kind]) for kind, name in members]})
    source = "".join(f"#include <{name}.h>\n" for name in ("errno", "stdio", "math")) + '#include "m.h"\n'
    source += "".join(
        f"#ifdef __cplusplus\nextern \"C\"\n#endif\n{kind} e{k}(const m_row *row);\n"
        f"{kind} e{k}(const m_row *row) {{ return {prefix}_answer(row); }}\n"
        for k, (kind, prefix) in enumerate(entries)
    )  # fmt: skip
    option, std, language = WAYS[seed % len(WAYS)]
    compiler = COMPILERS[seed // 2 % len(COMPILERS)]
    library = ctypes.CDLL(
        str(compile_c(folder, source, option, "-fPIC", "-shared", compiler=compiler, std=std, language=language))
    )
    cells = [rows[each.name] for each in model.preprocessing.inputs]
    structs = [
        made(
            *(
                number(cell) if kind == "double" else cell and cell.encode()
                for (kind, _), cell in zip(members, row, strict=True)
            )
        )
        for row in zip(*cells, strict=True)
    ]
    found = {}
    for k, (each, (kind, _)) in enumerate(zip(model.preprocessing.targets, entries, strict=True)):
        answer = library[f"e{k}"]
        answer.restype = ctypes.c_double if kind == "double" else ctypes.c_int
        said = np.array([answer(ctypes.byref(row)) for row in structs])
        found[each.name] = said if kind == "double" else each.decoded(said)
    return found


def answers_of_onnx(model, rows):
    """Return what onnxruntime says of rows, by the names of the targets."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    given = {}
    for each in session.get_inputs():
        text, cells = each.type == "tensor(string)", rows[each.name]
        column = [cell or "" for cell in cells] if text else [number(cell) for cell in cells]
        given[each.name] = np.array(column, object if text else float)[:, None]
    return {each.name: session.run([each.name], given)[0] for each in model.preprocessing.targets}


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(k, marks=pytest.mark.slow) for k in range(12, 200))])
def test_random_tables(seed, tmp_path):
    model, rows = model_and_rows(seed)
    predicted = model.predictions(rows)
    ways = [answers_of_c(tmp_path, model, rows, seed)] if shutil.which("gcc") else []
    if not any(f"{each.name} probabilities" in rows for each in model.preprocessing.targets):
        ways.append(answers_of_onnx(model, rows))
    for found in ways:
        for each in model.preprocessing.targets:
            agree(each, found[each.name], predicted.values[each.name], predicted.outputs[each.name])
