"""Which backend computes: the choice, the environment variable, what a missing and what a broken core gets."""

import os
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import backprop as bp
import numpy as np
import pytest
from backprop.backends import choice

PACKAGE = Path(bp.__file__).parent
# What a user would write, with a second network to see whether the warning comes again.
SCRIPT = """
import backprop as bp
net = bp.mlp([2, 3, 1], seed=0)
other = bp.mlp([2, 3, 1], dtype="float64", seed=0)
history = net.fit([[0, 1], [1, 0]], [1, 2], epochs=3)
print(net.backend, history.epochs)
"""


def run(folder, *, package=None, backend=""):
    """Run the script in a process of its own, on the copy of the package in a folder if one is given."""
    script = folder / "script.py"
    # An editable install finds the package before any path does; its finder is an object, Python's own are classes.
    path = (
        f"import sys; sys.meta_path = [f for f in sys.meta_path if isinstance(f, type)]; sys.path[0] = {str(package)!r}"
    )
    script.write_text((path if package else "") + SCRIPT)
    return subprocess.run(
        [sys.executable, script],
        env={**os.environ, choice.ENVIRONMENT_VARIABLE: backend, "PYTHONWARNINGS": "default"},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def pure(tmp_path):
    """A folder with a copy of the package that has no compiled core, as an install without one has none."""
    binaries = [f"*{suffix}" for suffix in EXTENSION_SUFFIXES]
    shutil.copytree(PACKAGE, tmp_path / "pure" / "backprop", ignore=shutil.ignore_patterns(*binaries, "__pycache__"))
    return tmp_path / "pure"


def test_the_reference_is_always_there_and_comes_last():
    assert choice.available()[-1] == choice.REFERENCE
    assert choice.available().count(choice.REFERENCE) == 1


def test_the_default_is_the_best(monkeypatch):
    monkeypatch.delenv(choice.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(choice, "_compiled", lambda: ("v3", "baseline"))
    assert choice.default.__wrapped__().name == "v3"  # past the cache


def test_by_name(backend, dtype):
    assert choice.load(backend).name == backend
    net = bp.mlp([2, 1], dtype=dtype, backend=backend)
    assert net.backend == backend


def test_names_that_are_none(monkeypatch):
    listed = re.escape(", ".join(choice.available()))
    with pytest.raises(ValueError, match=f"backend: 'v5' is not a backend; available: {listed}"):
        choice.load("v5")
    monkeypatch.setattr(choice, "_compiled", lambda: ("baseline",))
    with pytest.raises(ValueError, match="'v4' is not built here or not supported by this CPU; available: baseline, "):
        choice.load("v4")


def test_the_environment_variable(backend, tmp_path):
    result = run(tmp_path, backend=backend)
    assert (result.stdout, result.stderr) == (f"{backend} 3\n", "")


def test_an_unknown_name_in_the_environment_variable(tmp_path):
    result = run(tmp_path, backend="gpu")
    assert result.returncode != 0
    listed = ", ".join(choice.available())
    assert (
        f"ValueError: environment variable BACKPROP_BACKEND: backend: 'gpu' is not a backend; available: {listed}\n"
        in result.stderr
    )


def test_without_a_core_the_reference_computes_and_one_warning_says_so(pure, tmp_path):
    result = run(tmp_path, package=pure)
    assert result.stdout == "reference 3\n"
    assert result.stderr.count("RuntimeWarning: backprop was installed without its compiled core") == 1
    # It points at the first line that needed a backend.
    assert f"{tmp_path / 'script.py'}:3: RuntimeWarning" in result.stderr
    assert "net = bp.mlp([2, 3, 1], seed=0)" in result.stderr


def test_a_reference_that_was_asked_for_is_nothing_to_warn_of(pure, tmp_path):
    result = run(tmp_path, package=pure, backend="reference")
    assert (result.stdout, result.stderr) == ("reference 3\n", "")


def broken(result, path):
    """Whether a run ended with an error that says which file it is, and what can be done."""
    assert result.returncode != 0
    assert f"ImportError: backprop's compiled core cannot be loaded: {path}" in result.stderr
    assert "Reinstall backprop; until then, the environment variable BACKPROP_BACKEND=reference" in result.stderr
    return True


def test_a_core_that_cannot_be_loaded_is_an_error(pure, tmp_path):
    path = pure / "backprop" / f"_cpu{EXTENSION_SUFFIXES[0]}"
    path.write_bytes(b"garbage")
    assert broken(run(tmp_path, package=pure), path)
    result = run(tmp_path, package=pure, backend="reference")
    assert (result.stdout, result.stderr) == ("reference 3\n", "")


@pytest.mark.skipif(len(choice.available()) == 1, reason="no compiled core is installed")
def test_the_core_of_one_instruction_set_that_cannot_be_loaded_is_an_error(pure, tmp_path):
    best, *others = choice.available()
    for name in ["_cpu", *(f"_core_{isa}_f{bits}" for isa in (best, *others[:-1]) for bits in (32, 64))]:
        shutil.copy(find_spec(f"backprop.{name}").origin, pure / "backprop")
    path = pure / "backprop" / Path(find_spec(f"backprop._core_{best}_f32").origin).name
    path.write_bytes(b"garbage")
    assert broken(run(tmp_path, package=pure), path)
    result = run(tmp_path, package=pure, backend=others[0])
    assert (result.stdout, result.stderr) == (f"{others[0]} 3\n", "")


def test_show_config(capsys):
    bp.show_config()
    rows = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.replace("instruction set", "isa").splitlines()
    )
    assert rows["backprop"] == bp.__version__
    assert rows["backend"] == choice.default().name
    assert rows["available"] == ", ".join(choice.available())
    assert rows.keys() == {"backprop", "backend", "isa", "available", "threads", "NumPy", "Python"}


@pytest.mark.parametrize(
    ("n_rows", "n_validation", "widths", "dtype", "expected"),
    [
        (4, 0, [2, 1], "float64", "v3"),
        (8, 0, [7, 7], "float32", "v3"),
        (5, 0, [2, 1], "float64", "v4"),  # more than AVX2's vectors hold
        (4, 4, [2, 1], "float64", "v4"),  # there is room for validation rows
        (2, 2, [2, 1], "float64", "v3"),  # here too
        (4, 5, [2, 1], "float64", "v3"),  # these fit into neither
        (1, 0, [2, 1], "float64", "v4"),  # one row at a time has its lanes along the features
        (4, 0, [8, 1], "float64", "v4"),  # not tiny
    ],
)
def test_tiny_batches_take_the_shorter_vectors(monkeypatch, n_rows, n_validation, widths, dtype, expected):
    monkeypatch.setattr(choice, "_compiled", lambda: ("v4", "v3", "baseline"))
    assert choice.Backend("v4").for_batches(n_rows, n_validation, widths, np.dtype(dtype)).name == expected
    assert choice.Backend("v3").for_batches(n_rows, n_validation, widths, np.dtype(dtype)).name == "v3"
    monkeypatch.setattr(choice, "_compiled", lambda: ("v4", "baseline"))
    assert choice.Backend("v4").for_batches(n_rows, n_validation, widths, np.dtype(dtype)).name == "v4"


def test_only_public_names_are_listed():
    """Whatever the package has imported for itself, completion offers what its users are to have."""
    assert dir(bp) == sorted(bp.__all__)
    assert all(not name.startswith("_") or name == "__version__" for name in dir(bp))
    assert all(hasattr(bp, name) for name in dir(bp))
