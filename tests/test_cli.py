"""The command line, in this process and as one of its own."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop import cli
from backprop.cli import main
from backprop.io import load_with_extra
from backprop.optimizers import OPTIMIZERS
from backprop.tables import Preprocessing, open_table
from sklearn import datasets


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backprop", *map(str, arguments)], capture_output=True, text=True, timeout=60, **options
    )


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def write_dataset(name: str) -> str:
    data = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    names = getattr(data, "target_names", None)
    with open(f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*data.feature_names, "target"])
        for x, y in zip(data.data, data.target, strict=True):
            writer.writerow([*x, y if names is None else names[y]])
    return f"{name}.csv"


def mixed(n: int = 60) -> str:
    """Text and numbers, some of them missing; ``kind`` follows from ``colour`` and the sign of ``x``."""
    rng = np.random.default_rng(0)
    lines = ["x;colour;const;kind"]
    for k in range(n):
        x, colour = rng.normal(), ["red", "green", ""][k % 3]
        kind = "warm" if (colour == "red") == (x > 0) else "cold"
        lines.append(f"{'?' if k == 5 else x};{colour};1;{'' if k == 7 else kind}")
    return write("mixed.csv", "\n".join(lines))


# --- train ---------------------------------------------------------------------------------------------------------


def test_train_without_arguments(capsys):
    assert main(["train"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "iris.csv (bundled): 150 rows, 5 columns" in out
    assert "species: classification, 3 classes (setosa 50, versicolor 50, virginica 50)" in out
    assert "114 to train on, 36 held out" in out
    assert float(re.search(r"held out: accuracy ([\d.]+)", out)[1]) >= 0.95
    assert "always 'setosa': 0.3333" in out
    assert re.search(r"setosa +12 +0 +0\n", out)
    assert out.endswith("backprop predict iris.safetensors\n")

    assert main(["predict", "iris.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == ["prediction", "setosa"]
    assert re.fullmatch(r"backprop: score: accuracy 0\.9[5-9]\d\d on 150 rows with 'species'\n", err)


@pytest.mark.parametrize(
    ("name", "metric", "at_least"),
    [
        ("iris", "accuracy", 0.95),
        ("wine", "accuracy", 0.95),
        ("breast_cancer", "accuracy", 0.95),
        ("digits", "accuracy", 0.96),
        ("diabetes", "R²", 0.40),
    ],
)
def test_defaults_do_well(name, metric, at_least, capsys):
    path = write_dataset(name)
    scores = []
    for seed in range(3):
        assert main(["train", path, "--target", "target", "--quiet", "--seed", str(seed)]) == 0
        scores.append(float(re.match(rf"{metric} (-?[\d.]+)", capsys.readouterr().out)[1]))
    assert np.mean(scores) >= at_least


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_has_a_good_learning_rate(optimizer, capsys):
    assert main(["train", "--optimizer", optimizer, "--quiet"]) == 0
    assert float(capsys.readouterr().out.split()[1]) >= 0.9


def test_mixed_columns(capsys):
    assert main(["train", mixed(), "--target", "kind", "--out", "m.safetensors"]) == 0
    out, _ = capsys.readouterr()
    assert "mixed.csv: 59 rows, 4 columns; 1 more without a target left out" in out
    assert "           5 inputs of the network\n" in out
    assert "missing    x 1: taken as the median of the training rows\n" in out
    assert "missing    colour 20: a category\n" in out
    assert "left out   const: constant\n" in out
    assert float(re.search(r"accuracy ([\d.]+)", out)[1]) >= 0.85

    write("new.csv", "colour,x,kind\nred,1,warm\npink,1,\n,-1,warm\npink,NA,odd\n")
    assert main(["predict", "m.safetensors", "new.csv"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == ["prediction", "warm"]
    assert len(out.splitlines()) == 5
    assert err.splitlines()[:3] == [
        "backprop: note: x: 1 missing",
        "backprop: note: colour: 1 missing",
        "backprop: note: colour: 2 with a category that no training row had: 'pink'",
    ]
    assert re.fullmatch(r"backprop: score: accuracy \d\.\d+ on 2 rows with 'kind'", err.splitlines()[3])
    assert err.splitlines()[4] == (
        "backprop: note: kind: 1 row with a label that no training row had: 'odd' (first in row 4); not in the score"
    )


def test_regression(capsys):
    x = np.linspace(-1, 1, 200)
    path = write("line.csv", "x,y\n" + "".join(f"{a},{3 * a + 100}\n" for a in x))
    assert main(["train", path, "--target", "y", "--hidden", "none", "--l2", "0", "--dtype", "float64"]) == 0
    out, _ = capsys.readouterr()
    assert "y: regression (mean 99.89, standard deviation 1.77)" in out
    assert "network    1 -> 1 identity; 2 parameters, float64" in out
    assert "R² 1.0000" in out
    assert "always the mean: -0.0" in out

    assert main(["predict", "line.safetensors", write("new.csv", "x\n0\n0.5\n")]) == 0
    out, err = capsys.readouterr()
    np.testing.assert_allclose([float(line) for line in out.splitlines()[1:]], [100, 101.5], rtol=1e-4)
    assert err == ""
    assert main(["predict", "line.safetensors", "new.csv", "--proba"]) == 2
    assert (
        "--proba: needs a model for a classification; line.safetensors predicts the number 'y'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("loss", cli.LOSSES_OF_TASK["regression"])
def test_losses_of_regression(loss, capsys):
    assert main(["train", "--target", "petal_width", "--loss", loss, "--quiet"]) == 0
    assert float(capsys.readouterr().out.split()[1].strip(",")) > 0.85


def test_too_few_rows_to_hold_out(capsys):
    path = write("xor.csv", "a,b,out\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n")
    assert main(["train", path, "--target", "out"]) == 0
    out, _ = capsys.readouterr()
    assert "4 to train on, none held out" in out
    assert "trained on: accuracy 1.0000" in out


def test_all_options(capsys):
    command = (
        "train --target petal_length --task regression --ignore sepal_width,species --test-size 0.5 --hidden 8 "
        "--activation tanh --dtype float64 --epochs 400 --batch-size full --optimizer sgd --learning-rate 0.1 "
        "--loss huber --l2 0.001 --tolerance 1e-3 --patience 5 --seed 3 --out o.safetensors"
    )
    assert main(command.split()) == 0
    out, _ = capsys.readouterr()
    assert "left out   sepal_width, species: ignored on request" in out
    assert "75 to train on, 75 held out (drawn at random, seed 3)" in out
    assert "2 -> 8 tanh -> 1 identity; 33 parameters, float64" in out
    assert "huber + l2 0.001, sgd, learning rate 0.1, batches of 75, up to 400 epochs" in out
    assert "(it stopped falling)" in out
    network, extra = load_with_extra("o.safetensors")
    assert network.layers[0] == bp.Dense(8, "tanh", l2=0.001)
    assert (network.dtype, network.seed) == (np.float64, 3)
    assert extra["training"]["loss"] == "huber"
    assert [column["name"] for column in extra["preprocessing"]["columns"]] == ["sepal_length", "petal_width"]


def test_the_same_command_gives_the_same_file(capsys):
    for out in ("a.safetensors", "b.safetensors"):
        assert main(["train", "--epochs", "5", "--out", out, "--quiet"]) == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    assert main(["train", "--epochs", "5", "--out", "b.safetensors", "--quiet", "--seed", "1"]) == 0
    assert Path("a.safetensors").read_bytes() != Path("b.safetensors").read_bytes()
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err == ""


def test_a_name_that_steers_the_terminal_does_not(capsys):
    path = write("evil.csv", "\x1b[31mx,y\n" + "".join(f"{k},{'ab'[k % 2]}\n" for k in range(8)))
    assert main(["train", path, "--target", "y", "--epochs", "1"]) == 0
    assert main(["info", "evil.safetensors"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr("backprop.learn.pace.PROGRESS_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("backprop.learn.pace.SLICE_SECONDS", 0.0)
    assert main(["train", "--epochs", "20"]) == 0
    assert "20/20" in capsys.readouterr().err
    assert main(["train", "--epochs", "20", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


# --- plot ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss.png", "loss.PNG", "loss.svg", "loss.pdf"])
def test_plot(name, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    assert main(["train", "--plot", name]) == 0
    assert f"plot       {name}\n" in capsys.readouterr().out
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[name[-3:].lower()]
    assert Path(name).read_bytes().startswith(start), matplotlib.__version__


@pytest.mark.parametrize("loss", [[0.5], [0.0, 0.0], [3.0, 1e-12], [1.0, 0.9], [-1.0, 2.0]])
def test_any_loss_can_be_drawn(loss):
    pytest.importorskip("matplotlib")
    from backprop.plotting import plot_loss

    plot_loss(loss, "loss.png", "100 $ for $\\nothing$")
    assert Path("loss.png").stat().st_size > 1000


def test_plot_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", "--plot", "loss.png"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("backprop: error: plot: needs matplotlib; install it with: pip install 'bpcore[plot]'")
    assert not os.listdir()


# --- predict -------------------------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_network_in_memory(capsys, monkeypatch):
    trained = []
    save = bp.Network.save

    def saving(network, *arguments, **options):
        trained.append(network)
        save(network, *arguments, **options)

    monkeypatch.setattr(bp.Network, "save", saving)
    assert main(["train", mixed(), "--target", "kind"]) == 0
    capsys.readouterr()
    assert main(["predict", "mixed.safetensors", "mixed.csv", "--proba", "--out", "p.csv"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "on 59 rows with 'kind'" in err

    fitted = Preprocessing.from_json(load_with_extra("mixed.safetensors")[1]["preprocessing"])
    expected = trained[0].predict(fitted.encode(open_table("mixed.csv")).X)
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["prediction", "probability_cold", "probability_warm"]
    found = np.array([[row["probability_cold"], row["probability_warm"]] for row in rows], np.float32)
    np.testing.assert_array_equal(found, expected)
    assert [row["prediction"] for row in rows] == [fitted.targets[0].labels[k] for k in expected.argmax(axis=1)]


def test_labels_come_back_as_the_file_had_them(capsys):
    rows = "".join(f'{k},"{["a, b", "c"][k // 10]}"\n' for k in range(20))
    assert main(["train", write("t.csv", "x,y\n" + rows), "--target", "y"]) == 0
    capsys.readouterr()
    assert main(["predict", "t.safetensors", "t.csv"]) == 0
    predictions = [row[0] for row in csv.reader(io.StringIO(capsys.readouterr().out))]
    assert set(predictions[1:]) == {"a, b", "c"}


def test_a_target_that_cannot_be_scored(capsys):
    assert main(["train", "--target", "petal_width", "--ignore", "species", "--epochs", "1", "--quiet"]) == 0
    capsys.readouterr()
    for target, reason in [
        ("x", "row 1: column 'petal_width' needs finite numbers"),
        ("NA", "is empty"),
        ("1", "error"),
    ]:
        path = write("t.csv", f"sepal_length,sepal_width,petal_length,petal_width\n5,3,1,{target}\n")
        assert main(["predict", "iris.safetensors", path]) == 0
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 2
        assert reason in err
        assert "nan" not in err


@pytest.mark.parametrize("command", ["--version", "info"])
def test_the_version_is_that_of_the_distribution(capsys, command):
    with contextlib.suppress(SystemExit):
        main([command])
    assert bp.__version__ in capsys.readouterr().out


# --- info ----------------------------------------------------------------------------------------------------------


def test_info(capsys):
    assert main(["info"]) == 0
    out, err = capsys.readouterr()
    assert np.__version__ in out
    assert err == ""


def test_info_on_a_model(capsys):
    assert main(["train", mixed(), "--target", "kind"]) == 0
    accuracy = re.search(r"accuracy ([\d.]+)", capsys.readouterr().out)[1]
    assert main(["info", "mixed.safetensors"]) == 0
    out, _ = capsys.readouterr()
    assert "kind: classification, 2 classes (cold, warm)" in out
    assert "x: numeric; mean" in out
    assert "colour: category (text with 2 different values); 3 categories: 'green', 'red', '(missing)'" in out
    assert "const: constant" in out
    assert "5 -> 32 relu -> 32 relu -> 2 softmax" in out
    assert f"accuracy, held out: {float(accuracy):.4g}" in out


# --- errors --------------------------------------------------------------------------------------------------------


def fails(capsys, *arguments: str) -> str:
    """Run a command that must end with status 2, one line on stderr and nothing new in the folder; return the line."""
    before = set(os.listdir())
    try:
        status = main(list(arguments))
    except SystemExit as exit:  # argparse's way
        status = exit.code
    _, err = capsys.readouterr()
    assert status == 2
    assert err.startswith("backprop: error: ")
    assert err.count("\n") == 1
    assert set(os.listdir()) == before
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "arguments are required: COMMAND"),
        ("tarin", "invalid choice: 'tarin' (choose from"),
        ("train --hidden 16,x", "--hidden: needs layer sizes such as 16,16, or 'none' for a linear model; got '16,x'"),
        ("train --hidden 0", "--hidden: needs layer sizes"),
        ("train --activation rely", "--activation: invalid choice: 'rely' (choose from"),
        ("train --activation softmax", "--activation: invalid choice: 'softmax'"),
        ("train --optimizer lbfgs", "--optimizer: invalid choice: 'lbfgs' (choose from"),
        ("train --loss hinge", "--loss: invalid choice: 'hinge'"),
        ("train --loss huber", "--loss: a classification needs one of cross_entropy, kullback_leibler; got 'huber'"),
        ("train --task sorting", "--task: invalid choice: 'sorting'"),
        ("train --task regression", "row 1: column 'species' needs finite numbers, got 'setosa'"),
        ("train --epochs 0", "--epochs: needs a whole number of at least 1, got '0'"),
        ("train --epochs 1.5", "--epochs: needs a whole number"),
        ("train --batch-size 0", "--batch-size: needs a whole number of at least 1, or 'full'; got '0'"),
        ("train --learning-rate 0", "--learning-rate: needs a number above 0, got '0'"),
        ("train --learning-rate -1", "--learning-rate: needs a number above 0, got '-1'"),
        ("train --learning-rate nan", "--learning-rate: needs a number above 0, got 'nan'"),
        ("train --learning-rate inf", "--learning-rate: needs a number above 0, got 'inf'"),
        ("train --optimizer sgd --learning-rate 1e30", "training needs a --learning-rate below 1e+30"),
        ("train --l2 -1", "--l2: needs a number of at least 0, got '-1'"),
        ("train --seed -1", "--seed: needs a whole number of at least 0"),
        ("train --dtype float16", "--dtype: invalid choice: 'float16'"),
        ("train --test-size 1", "--test-size: needs a number of at least 0 and below 1, got '1'"),
        ("train --test-size 0.001", "--test-size: 0.001 of 150 rows is not a row; give more, or 0 for none"),
        (
            "train --target specie",
            "no target column 'specie' (did you mean 'species'?); its columns are 'sepal_length'",
        ),
        ("train --ignore specs", "no column to ignore 'specs' (did you mean 'species'?)"),
        ("train --ignore species", "ignore: 'species' is the target"),
        ("train --hidden 99999999999", "layers: needs parameters that fit into memory, got"),
        ("train --out no/model", "--out: needs a folder that exists; no does not"),
        ("train --out .", "--out: needs the name of a file; . is none"),
        ("train --plot loss.txt", "plot: needs a file name that ends in .png, .svg, .pdf; got 'loss.txt'"),
        ("train --plot iris.safetensors", "--plot: needs another name than iris.safetensors"),
        ("train good.csv", "--target: needs the column to predict; good.csv has 'x', 'y'"),
        ("train good.csv --target y --out good.csv", "--out: needs another name than good.csv, which it would replace"),
        ("train absent.csv --target y", "absent.csv: No such file or directory"),
        ("train . --target y", ".: Is a directory"),
        ("train empty.csv --target y", "empty.csv: empty file"),
        ("train ragged.csv --target y", "ragged.csv, line 3: 3 values, but the header has 2 columns"),
        ("train constant.csv --target y", "constant.csv: target 'y' is '1' in every row"),
        ("train void.csv --target y", "void.csv: target 'y' has no value in any row"),
        ("train binary.csv --target y", "binary.csv: needs a text file, got the character '\\x1a'"),
        ("predict good.csv", "good.csv: not a safetensors file, or a damaged one"),
        ("predict absent good.csv", "absent: No such file or directory"),
        ("predict model.safetensors absent.csv", "absent.csv: No such file or directory"),
        ("predict model.safetensors", "iris.csv (bundled): no column 'x'"),
        ("predict model.safetensors text.csv", "text.csv, row 2: column 'x' needs finite numbers, got 'abc'"),
        (
            "predict model.safetensors good.csv --out model.safetensors",
            "--out: needs another name than model.safetensors",
        ),
        ("predict model.safetensors good.csv --out good.csv", "--out: needs another name than good.csv"),
        ("predict truncated.safetensors good.csv", "truncated.safetensors: not a safetensors file, or a damaged one"),
        ("predict empty.csv good.csv", "empty.csv: not a safetensors file, or a damaged one"),
        ("predict foreign.safetensors good.csv", "foreign.safetensors: not a file that backprop wrote"),
        ("predict bare.safetensors good.csv", "bare.safetensors: a network without preprocessing"),
        ("info bare.safetensors", "bare.safetensors: a network without preprocessing"),
        ("info bent.safetensors", "bent.safetensors: not a valid model file: scale of column 'x'"),
        (
            "info odd.safetensors",
            "odd.safetensors: not a valid model file: preprocessing for (1, 2), network of (2, 1)",
        ),
        (
            "info strange.safetensors",
            "strange.safetensors: not a valid model file: training: needs a dict, got 'long'",
        ),
        ("info absent", "absent: No such file or directory"),
    ],
)
def test_bad_input(arguments, message, capsys):
    from safetensors.numpy import save_file

    write("empty.csv", "")
    write("good.csv", "x,y\n1,a\n2,b\n3,a\n")
    write("ragged.csv", "x,y\n1,a\n2,b,c\n")
    write("constant.csv", "x,y\n1,1\n2,1\n")
    write("void.csv", "x,y\n1,NA\n2,\n")
    write("text.csv", "x\n1\nabc\n")
    Path("binary.csv").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["train", "good.csv", "--target", "y", "--out", "model.safetensors", "--epochs", "1"]) == 0
    Path("truncated.safetensors").write_bytes(Path("model.safetensors").read_bytes()[:-10])
    save_file({"a": np.zeros(3)}, "foreign.safetensors")
    bare = bp.Network(2, [bp.Dense(1)], seed=0)
    bare.save("bare.safetensors")
    extra = load_with_extra("model.safetensors")[1]
    bare.save("odd.safetensors", extra)
    bare.save("strange.safetensors", {**extra, "training": "long"})
    extra = json.loads(json.dumps(extra).replace('"scale": ', '"scale": -'))
    bare.save("bent.safetensors", extra)
    capsys.readouterr()
    assert message in fails(capsys, *arguments.split())


def test_nothing_is_written_when_training_is_interrupted(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(bp.Network, "fit", interrupted)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "backprop: interrupted\n"
    assert not os.listdir()


def test_warnings_are_one_line(capsys, monkeypatch):
    import warnings

    def warns(args):
        warnings.warn("careful", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(cli, "_info", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["info"]) == 0
    assert capsys.readouterr().err == "backprop: warning: careful\n"


# --- as a process of its own ---------------------------------------------------------------------------------------


def test_process():
    done = run("train", "--epochs", "50", "--out", "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert "held out: accuracy" in done.stdout
    done = run("predict", "m.safetensors", "absent.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "backprop: error: absent.csv: No such file or directory\n"
    done = run("train", "--help")
    assert done.returncode == 0
    assert "--hidden SIZES" in done.stdout


def test_an_ascii_terminal():
    done = run("train", "--target", "petal_width", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert r"R\xb2 0." in done.stdout


def test_ctrl_c():
    process = subprocess.Popen(
        [sys.executable, "-m", "backprop", "train", "--epochs", "50000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            while not (line := process.stdout.readline()).startswith("training"):
                assert line, "it ended by itself"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.endswith("backprop: interrupted\n")
    assert "Traceback" not in err
    assert not os.listdir()


def test_a_reader_that_goes_away():
    assert main(["train", "--epochs", "1", "--quiet"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "backprop", "predict", "iris.safetensors"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdout.close()
        err = process.stderr.read().decode()
    assert process.returncode == 141
    assert "Traceback" not in err
    assert "Exception" not in err
