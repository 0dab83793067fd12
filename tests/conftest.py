import os
import signal
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from backprop.backends import choice

# Where no compiled core was built, the reference is what the tests are about and its warning says nothing new.
if choice.available() == (choice.REFERENCE,):
    os.environ.setdefault(choice.ENVIRONMENT_VARIABLE, choice.REFERENCE)

os.environ.setdefault("MPLBACKEND", "Agg")  # pictures without windows
if find_spec("tensorflow") is None:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras takes TensorFlow without a word


@pytest.fixture(autouse=True)
def _close_figures():
    """Leave no figure open for the next test."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


@pytest.fixture(params=choice.available())
def backend(request):
    """Every backend of this machine in turn."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pytest_configure():
    """Let Ctrl-C interrupt the tests of it: what is started in the background of a shell ignores it otherwise."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
