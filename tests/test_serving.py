"""The page on serving: its program in C and its page for the browser give the predictions of the network."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from browsing import headless, needs_browser, served

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
NPM = shutil.which("npm")
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
NAMES = ("setosa", "versicolor", "virginica")
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.9, 3.1, 5.4, 2.1]]


def block(language):
    """The first block of the page in a language."""
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.fixture(scope="module")
def network():
    sklearn = pytest.importorskip("sklearn.datasets")
    X, y = sklearn.load_iris(return_X_y=True)
    net = bp.mlp([4, 16, 3], output="softmax", seed=0)
    net.fit(X.astype("float32"), y, epochs=200, progress=False)
    return net


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_program_in_c(network, tmp_path):
    network.to_c(tmp_path / "iris_net.h")
    (tmp_path / "serve.c").write_text(block("c"))
    subprocess.run(["gcc", "-std=c99", "-Wall", "-Werror", "-O2", "serve.c", "-o", "serve"], cwd=tmp_path, check=True)
    text = "\n".join(" ".join(map(str, row)) for row in ROWS)
    done = subprocess.run([tmp_path / "serve"], input=text, capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], "float32")
    np.testing.assert_allclose(found, network.predict(np.array(ROWS, "float32")), rtol=2e-6)


@pytest.fixture
def folder(tmp_path):
    """A folder with what the page needs from onnxruntime-web."""
    if NPM is None:
        pytest.skip("needs npm")
    done = subprocess.run([NPM, "pack", "--silent", "onnxruntime-web"], cwd=tmp_path, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs npm's registry")
    site = tmp_path / "site"
    site.mkdir()
    with tarfile.open(tmp_path / done.stdout.strip().splitlines()[-1]) as package:
        for name in FILES:
            (site / name).write_bytes(package.extractfile(f"package/dist/{name}").read())
    return site


@needs_browser
def test_the_page_in_a_browser(network, folder, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    from selenium.webdriver.support.ui import WebDriverWait

    network.to_onnx(folder / "iris.onnx")
    (folder / "index.html").write_text(block("html"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with served(folder) as address, headless(tmp_path / "profile") as browser:

        def shows(text, seconds=60):
            WebDriverWait(browser, seconds).until(lambda _: browser.find_element("id", "answer").text == text)

        browser.get(address)
        field = browser.find_element("id", "flower")
        for row, expected in zip(ROWS, network.predict(np.array(ROWS, "float32")), strict=True):
            field.clear()
            field.send_keys(" ".join(map(str, row)))
            shows(f"{NAMES[expected.argmax()]}: {expected.max():.4f}")
        field.send_keys(" 1")
        shows("four numbers are needed")
        assert not [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
