"""Looking into a model of a table: explanations, importances, the report as text and as a page in a browser."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop.cli import main
from backprop.tables import TableModel, charts
from sklearn import metrics

pytest.importorskip("duckdb")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trees(n=400, seed=0):
    """Height decides nearly all, the kind of soil a little, noise nothing."""
    rng = np.random.default_rng(seed)
    height, soil = rng.normal(10, 3, n), rng.integers(0, 3, n)
    old = height + 2 * (soil == 1) + rng.normal(0, 1, n) > 11
    return {
        "tree": [f"t{k:04d}" for k in range(n)],
        "height": height,
        "soil": np.array(["clay", "sand & <gravel>", "peat"])[soil],
        "noise": rng.normal(size=n),
        "old": np.where(old, "yes", "no"),
        "rings": np.round(4 * height + 5 * (soil == 1) + rng.normal(0, 1, n), 1),
    }


@pytest.fixture(scope="module")
def model():
    return TableModel(seed=0).fit(trees(), target=["old", "rings"])


# --- explanations --------------------------------------------------------------------------------------------------


def test_contributions_add_up(model):
    for row in ({"height": 20.0, "soil": "peat", "noise": 0.0}, {"height": 4.0, "soil": "clay", "noise": 2.0}):
        for name, found in model.explain(row).items():
            assert set(found.contributions) == {"height", "soil", "noise"}
            # the sum over the path is a midpoint rule with 64 points, of a function with kinks
            assert found.base + sum(found.contributions.values()) == pytest.approx(found.value, rel=0.02, abs=0.05)
            assert next(iter(found.contributions)) == "height"
            assert [found.prediction] == model.predict({key: [value] for key, value in row.items()})[name].tolist()


def test_contributions_to_a_linear_model_are_its_terms():
    x = np.linspace(-1, 1, 100)
    rng = np.random.default_rng(0)
    data = {"a": x, "b": rng.permutation(x), "y": 3 * x}
    model = TableModel(hidden=(), l2=0.0, test_size=0, dtype="float64", epochs=300).fit(data, "y")
    found = model.explain({"a": 0.5, "b": 0.7})
    assert found.contributions == pytest.approx({"a": 1.5, "b": 0.0}, abs=1e-3)
    assert "units of y" in str(found)
    assert str(found).splitlines()[1].startswith("the average row")


def test_explain_takes_one_row(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(trees(3))
    assert model.explain(frame.iloc[:1])["old"].unit in ("log odds of 'yes'", "log odds of 'no'")
    with pytest.raises(ValueError, match="row: needs one row, got 3"):
        model.explain(frame)


# --- the report ----------------------------------------------------------------------------------------------------


def test_a_report_is_right(model):
    new = trees(300, seed=3)
    found = {each.target.name: each for each in model.report(new).findings.targets}
    chances = model.predictions(new).outputs["old"][:, 1]
    truth, said = new["old"] == "yes", model.predict(new)["old"] == "yes"
    old = found["old"]
    np.testing.assert_array_equal(old.confusion, metrics.confusion_matrix(truth, said))
    assert old.scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, chances))
    x, y = old.roc["yes"]
    area = sum((right - left) * (low + high) / 2 for left, right, low, high in zip(x, x[1:], y, y[1:], strict=False))
    assert area == pytest.approx(old.scores["roc_auc"], abs=0.005)  # of at most 300 points
    assert next(iter(old.importance)) == "height"
    assert old.importance["height"] > 0.2 > 0.05 > abs(old.importance["noise"])
    assert old.importance_of == "roc_auc"
    rings = found["rings"]
    assert (rings.confusion, rings.roc, len(rings.actual)) == (None, {}, 300)
    assert rings.scores["r2"] == pytest.approx(metrics.r2_score(rings.actual, rings.predicted), rel=1e-5)
    assert rings.importance_of == "r2"


def test_without_rows_it_is_about_those_held_out(model):
    found = model.report().findings
    assert found.data == "data, 100 rows held out"
    assert found.targets[0].scores == pytest.approx(model.scores["old"])
    model.save("m")
    with pytest.raises(ValueError, match="needs the rows that it was fitted on; a model from a file has none"):
        bp.load_table_model("m").report()


def test_labels_that_are_not_known():
    model = TableModel(epochs=5).fit(trees(), target="old", ignore="rings")
    new = trees(10)
    new["old"] = ["yes"] * 8 + ["perhaps", ""]
    found = model.report(new).findings
    assert found.targets[0].n_rows == 8
    assert found.notes == [
        "old: 1 row with a label that no training row had: 'perhaps' (first in row 9)",
        "old: no row of 'no': the scores do not tell how well it is found",
    ]
    new["old"] = [""] * 10
    with pytest.raises(ValueError, match="data: no row has a known value of 'old'"):
        model.report(new)


def test_text(model):
    text = str(model.report())
    assert "old, 100 rows" in text
    assert re.search(r"balanced accuracy +0\.\d{4}   \(always '(yes|no)': 0\.5000\)", text)
    assert re.search(r"R² without the column:\n    height +-\d\.\d{4}\n", text)


# --- the page ------------------------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Which tags are open, and every attribute."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.seen = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_whole_and_needs_nothing_else(model):
    page = model.report().html()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {name for name, _ in tags.attributes} & {"src", "href", "srcset", "data", "action"}
    assert not tags.seen & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|url\(|@import", page)
    assert "sand &amp; &lt;gravel&gt;" in page
    assert page.count("<svg") == page.count("</svg>") == 4 + 1 + 3 + 1
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", page.lower())


@pytest.mark.parametrize("n_classes", [2, 3, 30])
def test_pages_of_any_number_of_classes(n_classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=60 * n_classes)
    data = {"x": x, "kind": [f"k{k:02d}" for k in np.argsort(np.argsort(x)) // 60]}
    page = TableModel(epochs=3).fit(data, "kind").report().html()
    assert ("Confusion matrix" in page) == (n_classes < 20)
    Tags().feed(page)


def test_the_command_line_writes_it(model, capsys):
    model.save("m")
    Path("new.csv").write_text("height,soil,noise,old,rings\n12,peat,0,yes,50\n5,clay,0,no,20\n3,clay,1,no,11\n")
    assert main(["report", "m", "new.csv", "--html", "r.html"]) == 0
    out, _ = capsys.readouterr()
    assert "old, 3 rows" in out
    assert out.endswith("page       r.html\n")
    assert Path("r.html").read_text().startswith("<!doctype html>")
    Path("blind.csv").write_text("height,soil,noise\n12,peat,0\n")
    assert main(["report", "m", "blind.csv", "--html", "n.html"]) == 2
    assert "blind.csv: no target column 'old'" in capsys.readouterr().err
    assert main(["report", "m", "new.csv", "--html", "no/r.html"]) == 2
    assert "--html: needs a folder that exists; no does not" in capsys.readouterr().err
    assert not Path("n.html").exists()


def test_a_report_of_the_rows_it_was_trained_on_says_so(capsys):
    assert main(["train", "--epochs", "3", "--quiet"]) == 0
    assert main(["report", "iris.safetensors"]) == 0
    assert "iris.csv (bundled), 150 rows" in (out := capsys.readouterr().out)
    assert "note: The model was trained on some of these rows" in out


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_in_a_browser(model):
    """Everything is laid out: no chart is empty, nothing hangs over, nothing is asked of the network."""
    model.report().save("r.html")
    common = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,3000"]
    probe = """<script>window.onload = () => {
      const wide = [...document.querySelectorAll('svg text')].filter(text => {
        const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
        return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1 });
      const empty = [...document.querySelectorAll('svg')].filter(svg => svg.getBBox().width < 100);
      document.title = ['wide', wide.length, wide.map(text => text.textContent), 'empty', empty.length,
        'across', document.documentElement.scrollWidth <= window.innerWidth,
        'asked', performance.getEntriesByType('resource').length, 'charts',
        document.querySelectorAll('svg').length].join(' ') }</script>"""
    page = re.sub(r"<meta http-equiv[^>]*>", "", Path("r.html").read_text())  # which forbids the script
    Path("probed.html").write_text(page.replace("</body>", f"{probe}</body>"))
    done = subprocess.run([*common, "--dump-dom", "file://" + str(Path("probed.html").absolute())],
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert re.search(r"<title>(.*?)</title>", done.stdout)[1] == "wide 0  empty 0 across true asked 0 charts 9"
    subprocess.run([*common, "--screenshot=r.png", "file://" + str(Path("r.html").absolute())],
                   capture_output=True, timeout=120, check=True)  # fmt: skip
    assert Path("r.png").read_bytes().startswith(b"\x89PNG")


def test_ticks_are_round():
    assert charts.ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.ticks(5, 5) == [5]
    for low, high in ((0, 1e-9), (-1, 1), (3, 1e12), (-0.37, 0.41), (1e-14, 9e-14), (0, 3e-290), (3e6, 3e6 + 0.1)):
        found = charts.ticks(low, high)
        assert 2 <= len(set(found)) == len(found) <= 8
        slack = 1e-8 * (high - low)
        assert low - slack <= found[0]
        assert found[-1] <= high + slack


@pytest.mark.parametrize(
    "numbers", [[1e-14, 9e-14], [2460000.1, 2460000.9], [1e10, 1e10 + 10], [0, 5e-324], [-1.7e308, 1.7e308]]
)
def test_numbers_of_any_size_have_ticks_that_differ(numbers):
    chart = charts.scatter([1, 2], numbers, "x", "y")
    texts = re.findall(r'text-anchor="end">([^<]*)<', chart)
    assert len(set(texts)) == len(texts) >= 1
