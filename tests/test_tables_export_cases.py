"""Models of files of all kinds, as C and as ONNX, predict what they predict here."""

import ctypes
import shutil
from pathlib import Path

import numpy as np
import pytest
from backprop.tables import TableModel, open_table
from backprop.tables.preprocessing import matched
from backprop.tables.reading import MISSING, read
from backprop.tables.targets import Quantity
from exported_c import build
from test_tables_export_c import ANSWER, row_struct

pytest.importorskip("duckdb")
HERE = Path(__file__).parent
FILES = [*sorted((HERE / "cases").glob("*[!w].csv")), HERE.parent / "python/backprop/data/iris.csv"]
TARGETS = {"two_targets": ["lift", "drag"], "iris": "species", "unseen_label": "kind"}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def case(request):
    """A model, and for each of its columns, by its name, the cells of the file that it learned from."""
    path = request.param
    model = TableModel(epochs=20, seed=0).fit(path, target=TARGETS.get(path.stem, "y"))
    table, fitted = open_table(path), model.preprocessing
    cells = {}
    for name, found in read(table, matched(table, fitted.columns)).items():
        if found.column.is_words:
            words = [None if code == MISSING else found.words[code] for code in found.array]
            cells[name] = [float(word) for word in words] if found.column.numbers else words
        else:
            cells[name] = found.array.tolist()
    predicted = model.predict(path)
    return model, cells, predicted if isinstance(predicted, dict) else {fitted.targets[0].name: predicted}


def compared(target, found, wanted):
    if isinstance(target, Quantity):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * target.scale)
    else:
        assert list(found) == list(wanted)


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_c(case, tmp_path):
    model, cells, predicted = case
    model.to_c(tmp_path / "m.h")
    made, targets = row_struct((tmp_path / "m.h").read_text()), model.preprocessing.targets
    rows = [made(*(each.encode() if isinstance(each, str) else each for each in row))
            for row in zip(*cells.values(), strict=True)]  # fmt: skip
    names = {target.name: "answer" if len(targets) == 1 else f"{target.name}_answer" for target in targets}
    results = {target.name: "double" if isinstance(target, Quantity) else "int" for target in targets}
    source = "".join(ANSWER.format(result=results[target.name], name=names[target.name]) for target in targets)
    library = build(tmp_path, '#include "m.h"\n' + source, "-O1")
    for target in targets:
        answer = library[names[target.name]]
        answer.restype = ctypes.c_double if results[target.name] == "double" else ctypes.c_int
        found = [answer(ctypes.byref(row)) for row in rows]
        compared(target, found if results[target.name] == "double" else target.decoded(np.array(found)),
                 predicted[target.name])  # fmt: skip


def test_onnx(case):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, cells, predicted = case
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    given = {}
    for each in session.get_inputs():
        text = each.type == "tensor(string)"
        column = [cell or "" for cell in cells[each.name]] if text else cells[each.name]
        given[each.name] = np.array(column, object if text else float)[:, None]
    for target in model.preprocessing.targets:
        compared(target, session.run([target.name], given)[0], predicted[target.name])
